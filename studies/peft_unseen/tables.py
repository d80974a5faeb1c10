"""A study's tables, made of its matrix and of two files that hold all that they need.

outcomes.jsonl.gz has every question's rank in every cell, training.json what the searches chose and
what the trainings cost.  `collect` makes them of the cells, `write_tables` makes tables.md and
results.json of them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from peft_unseen.figures import METRICS, Record, Section
from peft_unseen.matrix import UNTUNED, Matrix
from peft_unseen.plan import Cell, Study, plan
from peft_unseen.ranking import CUT
from peft_unseen.texts import CLEAN, Questions

OUTCOMES, TRAINING = "outcomes.jsonl.gz", "training.json"
COST_TITLE = "## Cost, measured where it ran"

# ---------------------------------------------------------------- from cells to the two files


def collect(study: Study) -> None:
    """Write the outcomes and the trainings of the cells that are as the matrix now says."""
    records = {name: study.record(cell) for name, cell in study.cells.items()}
    with gzip.GzipFile(study.output / OUTCOMES, "wb", mtime=0) as file:
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
        chosen = study.learning_rate(cells[0])
        if chosen is not None:
            assert cells[0].task and cells[0].condition
            source = study.matrix.chooser(cells[0].task, cells[0].condition)
            searches = study.searches(cells[0])
            mrr = {f"{r:g}": "failed" if "failed" in s else round(100 * s["mrr"], 2)
                   for r, s in searches.items()}  # fmt: skip
            rates.append({**where, "learning_rate": chosen, "mrr": mrr,
                          "from": "/".join(part.name for part in source)})  # fmt: skip
        done = [record for cell in cells if (record := records[cell.name]) is not None]
        if done:
            costs.append({**where, **cost(done)})
    missing = [name for name, record in records.items() if record is None]
    content = {"missing": missing, "learning_rates": rates, "costs": costs}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (study.output / TRAINING).write_text(text + "\n", "utf-8")


def _outcomes(study: Study, records: Mapping[str, Record | None]) -> Iterator[Record]:
    """Yield each task's questions once, then each cell's ranks: a digit, 0 for 10, . for more."""
    for task in study.matrix.tasks:
        if records[f"{task.name}/prepare"] is None:
            continue
        questions = Questions.read(study.folder(f"{task.name}/prepare") / "test.json")
        yield {"task": task.name, "ids": questions.ids, "languages": questions.languages}
        for name, cell in study.cells.items():
            record = records[name]
            if record is None or cell.task != task or not cell.condition or "ranks" not in record:
                continue
            where = {"task": task.name, "condition": cell.condition.name, "method": cell.method}
            for view, ranks in record["ranks"].items():
                digits = "".join(str(r % 10) if r <= CUT else "." for r in ranks)
                yield {**where, "seed": cell.seed, "view": view, "ranks": digits}


def cost(records: Sequence[Record]) -> Record:
    """Return what a method's cells cost; of times that with the least: other work only adds."""
    trained = [record["training"] for record in records]
    known: dict[str, list[float]] = {
        key: [t[key] for t in trained if t.get(key) is not None]
        for key in ("peak_memory_bytes", "stored_bytes", "seconds_per_step")
    }
    hosts = {r["host"]["gpu"] or f"CPU, threads: {r['host']['threads']}" for r in records}
    first = trained[0]
    mega = {key: sum(v) / len(v) / 1e6 if v else None for key, v in known.items()}
    return {
        "trainable_parameters": first["trainable_parameters"],
        "share": 100 * first["trainable_parameters"] / first["parameters"],
        "peak_memory_mb": mega["peak_memory_bytes"],
        "seconds_per_step": min(known["seconds_per_step"], default=None),
        "stored_mb": mega["stored_bytes"],
        "seconds_per_cell": min(record["seconds"] for record in records),
        "ran_on": ", ".join(sorted(hosts)),
    }


# ---------------------------------------------------------------- from the two files to tables


def write_tables(matrix: Matrix, source: Path, output: Path) -> Record:
    """Write tables.md and results.json, and return what training.json says."""
    training: Record = json.loads((source / TRAINING).read_text("utf-8"))
    sections = read_sections(matrix, source / OUTCOMES)
    missing = training["missing"]
    text = f"# {matrix.name}\n\nUnseen means: unseen in our tuning. R@1 and MRR@10, 0 to 100."
    text += " [95% intervals] are over seeds and questions, p-values (Fisher's randomisation test"
    text += " over questions, scores averaged over seeds) are corrected by Holm over the methods;"
    text += f" \\* marks p < {matrix.tables.level:g}."
    if missing:
        text += f"\n\n**Not complete: {len(missing)} of {len(plan(matrix))} cells are missing.**"
        text += " Figures rest on the seeds that are there."
    parts = [text]
    for section in sections:
        parts += Tables(matrix, section).parts()
    parts += _rates(training["learning_rates"]) + _costs(training["costs"])
    (output / "tables.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    scores = [record for section in sections for record in section.records()]
    (output / "results.json").write_text(json.dumps(training | {"scores": scores}), "utf-8")
    return training


def read_sections(matrix: Matrix, path: Path) -> list[Section]:
    """Read the outcomes of each task whose questions are there, under each condition."""
    asked: dict[str, Record] = {}
    ranks: dict[tuple[str, str], Any] = {}
    methods = (UNTUNED, *(method.name for method in matrix.methods))
    for task, condition in product(matrix.tasks, matrix.conditions):
        ranks[task.name, condition.name] = {method: {} for method in methods}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in map(json.loads, file):
            if "ids" in line:
                asked[line["task"]] = line
                continue
            seeds = ranks[line["task"], line["condition"]][line["method"]]
            of = [CUT + 1 if digit == "." else int(digit) or CUT for digit in line["ranks"]]
            seeds.setdefault(line["seed"], {})[line["view"]] = np.array(of)
    return [
        Section(matrix, task, c.name, asked[task.name], ranks[task.name, c.name])
        for task, c in product(matrix.tasks, matrix.conditions)
        if task.name in asked
    ]


def _grid(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return a title and a table; nothing without rows."""
    table = tabulate(rows, header, tablefmt="pipe", disable_numparse=True)
    return [title, table] if rows else []


def _interval(row: Record | None) -> str:
    return f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]" if row else "–"


class Tables:
    """The tables of one task under one condition."""

    def __init__(self, matrix: Matrix, section: Section) -> None:
        self._of, self._settings = section, matrix.tables
        self._methods = [method for method, seeds in section.ranks.items() if seeds]
        wanted = [(c.task, c.condition, c.method) for c in plan(matrix).values()]
        self._names = {}
        for method, seeds in section.ranks.items():
            number = sum(
                t is not None and c is not None
                and (t.name, c.name, m) == (section.task.name, section.condition, method)
                for t, c, m in wanted
            )
            missing = "" if len(seeds) == number else f" ({len(seeds)} of {number} seeds)"
            self._names[method] = method + missing
