"""The cells that follow from a matrix, and which of them are done in a study's folder."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import xqg_pyserini as xqg
from peft_unseen.matrix import UNTUNED, Condition, Matrix, Task

Record = dict[str, Any]
RECORD = "cell.json"
# what a task has that decides no text and no neighbour
_EVALUATION = {"conditions", "training", "all_candidates", "beta", "beta_centered"}


@dataclass(frozen=True)
class Cell:
    """A piece of work: done, it is a folder of its own.

    `settings` are all that decides its result, those of the cells that it needs included; `kind`
    is prepare, backbone, untuned, search or train.
    """

    name: str
    kind: str
    settings: Record
    needs: tuple[str, ...]
    task: Task | None
    condition: Condition | None
    method: str


def plan(matrix: Matrix, checksums: Mapping[str, str] | None = None) -> dict[str, Cell]:
    """Return the cells by name, in the order in which they are done.

    The untuned backbones come first; then one seed after the other, so that every table has
    something once the first seed is through.  A search comes right before its first use.
    `checksums` of the model ("model") and of each task's data become parts of the settings.
    """
    cells: dict[str, Cell] = {}

    def add(name: str, own: Record, needs: Sequence[str], task: Any, condition: Any, method: str = "") -> str:
        settings = own | {"needs": [cells[need].settings for need in needs]}
        kind = settings.pop("kind")
        cells.setdefault(name, Cell(name, kind, settings, tuple(needs), task, condition, method))
        return name

    sums = checksums or {}
    model, spoil = sums.get("model"), {n: p.dump() for n, p in matrix.perturbations.items()}
    bases = {}
    for place, (task, condition) in matrix.places.items():
        own = {"kind": "prepare", "model": model, "data": sums.get(task.name), "spoil": spoil}
        own["task"] = task.dump(exclude=_EVALUATION)
        bases[place] = [add(f"{task.name}/prepare", own, (), task, None)]
        if condition.reinitialise:
            own = {"kind": "backbone", "model": model} | condition.dump(exclude={"name"})
            bases[place].append(add(f"backbones/{condition.name}", own, (), None, condition))
    for place, of in matrix.places.items():
        own = {"kind": "untuned"} | _evaluation(of[0], bool(of[0].all_candidates))
        add(f"{place}/{UNTUNED}", own, bases[place], *of, UNTUNED)
    for seed, place, method in product(matrix.seeds, matrix.places, matrix.methods):
        task, condition = matrix.places[place]
        if any(condition.name not in (p.conditions or (condition.name,)) for p in (task, method)):
            continue
        source = matrix.search.source.get(place, place)
        of = matrix.places[source]
        own = {"kind": "search", "tuning": method.tuning, "seed": matrix.search.seed}
        own |= {"encoding": of[0].encoding}
        own["training"] = of[0].training | {"max_steps": matrix.search.max_steps}
        searches = []
        for rate in matrix.search.learning_rates:
            name = f"{source}/search/{method.name}/{rate:g}"
            rest = (own | {"learning_rate": rate}, bases[source], *of, method.name)
            searches.append(add(name, *rest))
        own = {"kind": "train", "tuning": method.tuning, "seed": seed, "training": task.training}
        own |= _evaluation(task, seed in task.all_candidates)
        needs = [*bases[place], *searches]
        add(f"{place}/{method.name}/seed-{seed}", own, needs, task, condition, method.name)
    return cells


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
        self.cells = plan(matrix, {name: _checksum(paths) for name, paths in files.items()})

    def folder(self, name: str) -> Path:
        """Return the folder of a cell."""
        return self.output / "cells" / name

    def backbone(self, cell: Cell) -> Path:
        """Return the model that a cell tunes or scores."""
        made = [need for need in cell.needs if need.startswith("backbones/")]
        return self.folder(made[0]) / "model" if made else self.model

    def record(self, cell: Cell) -> Record | None:
        """Return what a cell recorded; None where it is not done, or not as the matrix now says."""
        path = self.folder(cell.name) / RECORD
        record: Record = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        rate = self.learning_rate(cell) if cell.kind == "train" else None
        same = record.get("settings") == cell.settings and record.get("learning_rate") == rate
        return record if same else None

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


def _checksum(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
