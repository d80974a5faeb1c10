"""The two files that hold all that a study's tables need, and how they are made of its cells.

outcomes.jsonl.gz has each task's questions and, for every cell and view, their ranks (a digit each,
0 for 10, . for more); training.json what was chosen, what it cost, and which cells are missing.
"""

import gzip
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from peft_unseen.matrix import UNTUNED, Matrix
from peft_unseen.plan import Record, Study
from peft_unseen.ranking import CUT
from peft_unseen.texts import Questions

OUTCOMES, TRAINING = "outcomes.jsonl.gz", "training.json"


def collect(study: Study) -> None:
    """Write both files, of the cells that are as the matrix now says."""
    study.output.mkdir(parents=True, exist_ok=True)
    records = {name: study.record(cell) for name, cell in study.cells.items()}
    lines, rates, costs = [], [], []
    for place, method in product(study.matrix.places, _methods(study.matrix)):
        task, condition = (part.name for part in study.matrix.places[place])
        where = {"task": task, "condition": condition, "method": method}
        if records[f"{task}/prepare"] and task not in {line["task"] for line in lines}:
            asked = Questions.read(study.folder(f"{task}/prepare") / "test.json")
            lines.append({"task": task, "ids": asked.ids, "languages": asked.languages})
        ends = ("", *(f"/seed-{seed}" for seed in study.matrix.seeds))
        cells = [study.cells[f"{place}/{method}{e}"] for e in ends if f"{place}/{method}{e}" in study.cells]
        done = [(cell, records[cell.name]) for cell in cells if records[cell.name]]
        for cell, record in done:
            of = where | {"seed": cell.settings.get("seed", 0)}
            for view, ranks in record["ranks"].items():
                lines.append({**of, "view": view, "ranks": "".join(str(r % 10) if r <= CUT else "." for r in ranks)})
        if done and method != UNTUNED:
            costs.append(where | cost([record for _, record in done]))
        searches = study.searches(cells[0]) if cells else {}
        if searches:
            mrr = {rate: round(100 * search["mrr"], 2) for rate, search in searches.items()}
            mrr |= {rate: "failed" for rate, search in searches.items() if "failed" in search}
            where |= {"learning_rate": study.learning_rate(cells[0])}
            where |= {"from": study.matrix.search.source.get(place, place)}
            rates.append(where | {"mrr": {f"{rate:g}": value for rate, value in mrr.items()}})
    with open(study.output / OUTCOMES, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) as file:
        for line in lines:
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
    missing = [name for name, record in records.items() if record is None]
    content = {"missing": missing, "learning_rates": rates, "costs": costs}
    (study.output / TRAINING).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _methods(matrix: Matrix) -> list[str]:
    return [UNTUNED, *(method.name for method in matrix.methods)]


def cost(records: Sequence[Record]) -> Record:
    """Return what a method's cells took; of times that with the least: other work only adds."""
    trainings = [record["training"] for record in records]

    def of_all(key: str, summary: Any, unit: float = 1) -> float | None:
        known = [training[key] / unit for training in trainings if training.get(key) is not None]
        return summary(known) if known else None

    hosts = {r["host"]["gpu"] or f"CPU, threads: {r['host']['threads']}" for r in records}
    trained = trainings[0]["trainable_parameters"]
    return {
        "trainable parameters": trained,
        "share": trained / trainings[0]["parameters"],
        "peak memory, MB": of_all("peak_memory_bytes", fmean, 1e6),
        "s/step, least": of_all("seconds_per_step", min),
        "stored, MB": of_all("stored_bytes", fmean, 1e6),
        "s/cell, least": min(record["seconds"] for record in records),
        "ran on": ", ".join(sorted(hosts)),
    }


def read_outcomes(matrix: Matrix, folder: Path) -> tuple[dict[str, Record], dict[str, Any]]:
    """Return each task's questions, and "TASK/CONDITION" → method → seed → view → ranks."""
    asked: dict[str, Record] = {}
    ranks: dict[str, Any] = {place: {m: {} for m in _methods(matrix)} for place in matrix.places}
    with gzip.open(folder / OUTCOMES, "rt", encoding="utf-8") as file:
        for line in map(json.loads, file):
            if "ids" in line:
                asked[line["task"]] = line
                continue
            of = [CUT + 1 if digit == "." else int(digit) or CUT for digit in line["ranks"]]
            seeds = ranks[f"{line['task']}/{line['condition']}"][line["method"]]
            seeds.setdefault(line["seed"], {})[line["view"]] = np.array(of)
    return asked, ranks
