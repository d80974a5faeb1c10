"""The cells that follow from a matrix, and which of them are done in a study's folder.

This module knows what decides a cell's result and where its result is; it computes none.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import xqg_pyserini as xqg
from peft_unseen.matrix import UNTUNED, Condition, Matrix, Method, Task

Record = dict[str, Any]
RECORD = "cell.json"


@dataclass(frozen=True)
class Cell:
    """A piece of work: done, it is a folder of its own.

    `settings` are all that decides its result, those of the cells that it `needs` included.
    """

    name: str
    kind: Literal["prepare", "backbone", "untuned", "search", "train"]
    settings: Record
    needs: tuple[str, ...] = ()
    task: Task | None = None
    condition: Condition | None = None
    method: str = UNTUNED
    seed: int = 0


def plan(matrix: Matrix, checksums: Mapping[str, str] | None = None) -> dict[str, Cell]:
    """Return the cells by name, in the order in which they are done.

    The untuned backbones come first; then one seed after the other, so that every table has
    something once the first seed is through.  A search comes right before its first use.
    `checksums` of the model ("model") and of each task's data become parts of the settings.
    """
    cells: dict[str, Cell] = {}
    for cell in _cells(matrix, checksums or {}):
        cells.setdefault(cell.name, cell)
    return cells


def _cells(matrix: Matrix, checksums: Mapping[str, str]) -> Iterator[Cell]:
    bases: dict[str, tuple[Record, tuple[str, ...]]] = {}
    perturbations = {name: part.dump() for name, part in matrix.perturbations.items()}
    evaluation = {"conditions", "training", "all_candidates", "beta", "beta_centered"}
    for place, (task, condition) in matrix.places.items():
        prepare, backbone = f"{task.name}/prepare", f"backbones/{condition.name}"
        texts = {"data": checksums.get(task.name), "model": checksums.get("model")}
        texts |= {"task": task.dump(exclude=evaluation), "perturbations": perturbations}
        yield Cell(prepare, "prepare", texts, task=task)
        fresh = {"model": checksums.get("model"), **condition.dump(exclude={"name"})}
        if condition.reinitialise:
            yield Cell(backbone, "backbone", fresh, condition=condition)
        needs = (prepare, backbone) if condition.reinitialise else (prepare,)
        bases[place] = {"texts": texts, "backbone": fresh}, needs
    for place, (task, condition) in matrix.places.items():
        settings = bases[place][0] | _evaluation(task, bool(task.all_candidates))
        yield Cell(f"{place}/{UNTUNED}", "untuned", settings, bases[place][1], task, condition)
    for seed, place, method in product(matrix.seeds, matrix.places, matrix.methods):
        of = (matrix.places[place][0].conditions, method.conditions)
        if all(names is None or matrix.places[place][1].name in names for names in of):
            yield from _training(matrix, bases, place, method, seed)


def _training(matrix: Matrix, bases: Any, place: str, method: Method, seed: int) -> Iterator[Cell]:
    """Yield a training and, before it, the searches that choose its learning rate."""
    source = matrix.search.source.get(place, place)
    task, condition = matrix.places[source]
    base, needs = bases[source]
    training = {**task.training, "max_steps": matrix.search.max_steps}
    base = base | {"tuning": method.tuning, "encoding": task.encoding, "training": training}
    searches = []
    for rate in matrix.search.learning_rates:
        settings = base | {"learning_rate": rate, "seed": matrix.search.seed}
        rest = (settings, needs, task, condition, method.name, matrix.search.seed)
        searches.append(Cell(f"{source}/search/{method.name}/{rate:g}", "search", *rest))
    yield from searches
    task, condition = matrix.places[place]
    settings, needs = bases[place]
    settings = settings | _evaluation(task, seed in task.all_candidates)
    settings |= {"tuning": method.tuning, "training": task.training, "seed": seed}
    settings["searches"] = [search.settings for search in searches]
    needs += tuple(search.name for search in searches)
    name = f"{place}/{method.name}/seed-{seed}"
    yield Cell(name, "train", settings, needs, task, condition, method.name, seed)


def _evaluation(task: Task, all_candidates: bool) -> Record:
    """Return what decides a cell's ranks, apart from the model and the task's texts."""
    weights = task.dump(include={"beta", "beta_centered"})
    return {"encoding": task.encoding, "all_candidates": all_candidates} | weights


class Study:
    """A matrix on its data and model, and what is done of it in its folder `output`.

    `data` has xor-tydi/ and xquad/ in it, `model` is the backbone, a Hugging Face folder.  Raises
    `UserError` for inputs that are not there, and for an output that is something else.
    """

    def __init__(self, matrix: Matrix, data: Path, model: Path, output: Path) -> None:
        self.matrix, self.data, self.model, self.output = matrix, data, model, output
        files = {"model": [model / "config.json"]}
        files |= {task.name: [data / name for name in task.files] for task in matrix.tasks}
        absent = [path for paths in files.values() for path in paths if not path.is_file()]
        if absent:
            raise xqg.UserError(f"{absent[0]}: no such file; see the study's README for its inputs")
        if output.exists() and not (output / "cells").is_dir() and any(output.glob("[!.]*")):
            raise xqg.UserError(f"{output}: holds something, but no study; give another folder")
        files["model"] = [path for path in model.iterdir() if path.is_file()]
        self.cells = plan(matrix, {name: checksum(paths) for name, paths in files.items()})

    def folder(self, name: str) -> Path:
        """Return the folder of a cell."""
        return self.output / "cells" / name

    def record(self, cell: Cell) -> Record | None:
        """Return what a cell recorded; None where it is not done, or not as the matrix now says."""
        path = self.folder(cell.name) / RECORD
        record: Record = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        if record.get("settings") != cell.settings:
            return None
        moved = cell.kind == "train" and record["learning_rate"] != self.learning_rate(cell)
        return None if moved else record

    def searches(self, cell: Cell) -> dict[float, Record]:
        """Return rate → record of a training's searches; {} while one is not done."""
        searches = [self.cells[need] for need in cell.needs if self.cells[need].kind == "search"]
        records = {search.settings["learning_rate"]: self.record(search) for search in searches}
        done = {rate: record for rate, record in records.items() if record is not None}
        return done if len(done) == len(records) else {}

    def learning_rate(self, cell: Cell) -> float | None:
        """Return the rate with the best validation score; of equals the lower; None while open."""
        scores = {rate: record["mrr"] for rate, record in self.searches(cell).items()}
        return min(scores, key=lambda rate: (-scores[rate], rate), default=None)


def checksum(paths: Iterable[Path]) -> str:
    """Return a checksum of files: of their names and what is in them."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
