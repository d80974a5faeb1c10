"""The two files that hold all that a study's tables need, and how they are made of its cells.

outcomes.jsonl.gz has the ids of each task's questions and, for every cell and view, their ranks: a
digit a question, 0 for 10 and . for more.  training.json has what the searches chose, what the
trainings cost, and which cells are missing.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peft_unseen.matrix import UNTUNED, Matrix
from peft_unseen.plan import Cell, Record, Study
from peft_unseen.ranking import CUT
from peft_unseen.texts import Questions

OUTCOMES, TRAINING = "outcomes.jsonl.gz", "training.json"


def collect(study: Study) -> None:
    """Write both files, of the cells that are as the matrix now says."""
    records = {name: study.record(cell) for name, cell in study.cells.items()}
    with open(study.output / OUTCOMES, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) as file:
        for line in _outcomes(study, records):
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
    trained: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in study.cells.values():
        if cell.kind == "train" and cell.task and cell.condition:
            place = (cell.task.name, cell.condition.name, cell.method)
            trained.setdefault(place, []).append(cell)
    rates, costs = [], []
    for place, cells in trained.items():
        where = dict(zip(("task", "condition", "method"), place, strict=True))
        searches = study.searches(cells[0])
        if searches:
            mrr = {
                f"{rate:g}": "failed" if "failed" in search else round(100 * search["mrr"], 2)
                for rate, search in searches.items()
            }
            source = study.matrix.search.source.get("/".join(place[:2]), "/".join(place[:2]))
            chosen = {"learning_rate": study.learning_rate(cells[0]), "mrr": mrr, "from": source}
            rates.append(where | chosen)
        done = [record for cell in cells if (record := records[cell.name])]
        costs += [where | cost(done)] if done else []
    missing = [name for name, record in records.items() if record is None]
    content = {"missing": missing, "learning_rates": rates, "costs": costs}
    (study.output / TRAINING).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _outcomes(study: Study, records: Mapping[str, Record | None]) -> Iterator[Record]:
    for task in study.matrix.tasks:
        if records[f"{task.name}/prepare"] is None:
            continue
        questions = Questions.read(study.folder(f"{task.name}/prepare") / "test.json")
        yield {"task": task.name, "ids": questions.ids, "languages": questions.languages}
        for name, cell in study.cells.items():
            if cell.task == task and cell.condition:
                where = {"task": task.name, "condition": cell.condition.name}
                where |= {"method": cell.method, "seed": cell.seed}
                for view, ranks in (records[name] or {}).get("ranks", {}).items():
                    digits = "".join(str(r % 10) if r <= CUT else "." for r in ranks)
                    yield {**where, "view": view, "ranks": digits}


def cost(records: Sequence[Record]) -> Record:
    """Return what a method's cells took; of times that with the least: other work only adds."""
    trainings = [record["training"] for record in records]
    keys = ("peak_memory_bytes", "stored_bytes", "seconds_per_step")
    known = {k: [t[k] for t in trainings if t.get(k) is not None] for k in keys}
    megabytes = {k: sum(values) / len(values) / 1e6 for k, values in known.items() if values}
    hosts = {r["host"]["gpu"] or f"CPU, threads: {r['host']['threads']}" for r in records}
    trained, parameters = (trainings[0][k] for k in ("trainable_parameters", "parameters"))
    return {
        "trainable_parameters": trained,
        "share": trained / parameters,
        "peak_memory_mb": megabytes.get("peak_memory_bytes"),
        "seconds_per_step": min(known["seconds_per_step"], default=None),
        "stored_mb": megabytes.get("stored_bytes"),
        "seconds_per_cell": min(record["seconds"] for record in records),
        "ran_on": ", ".join(sorted(hosts)),
    }


def read_outcomes(matrix: Matrix, folder: Path) -> tuple[dict[str, Record], dict[str, Any]]:
    """Return each task's questions, and "TASK/CONDITION" → method → seed → view → ranks."""
    asked: dict[str, Record] = {}
    methods = (UNTUNED, *(method.name for method in matrix.methods))
    ranks: dict[str, Any] = {place: {m: {} for m in methods} for place in matrix.places}
    with gzip.open(folder / OUTCOMES, "rt", encoding="utf-8") as file:
        for line in map(json.loads, file):
            if "ids" in line:
                asked[line["task"]] = line
                continue
            of = [CUT + 1 if digit == "." else int(digit) or CUT for digit in line["ranks"]]
            seeds = ranks[f"{line['task']}/{line['condition']}"][line["method"]]
            seeds.setdefault(line["seed"], {})[line["view"]] = np.array(of)
    return asked, ranks
