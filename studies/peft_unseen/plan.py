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
SCORING = {"beta", "beta_centered", "ridge", "shrink"}  # settings of tasks that change ranks, and no text


@dataclass(frozen=True)
class Cell:
    """A piece of work: done, it is a folder of its own.

    `settings` are all that decides its result, those of the cells that it needs included.
    """

    name: str
    kind: str  # prepare, backbone, untuned, search or train
    settings: Record
    needs: tuple[str, ...]
    task: Task | None
    condition: Condition | None


def plan(matrix: Matrix, checksums: Mapping[str, str] | None = None) -> dict[str, Cell]:
    """Return the cells by name, in the order in which they are done.

    The untuned backbones come first; then one seed after the other, so that every table has something once the first
    seed is through.  Checksums are of the model and each task's data.
    """
    cells: dict[str, Cell] = {}

    def add(name: str, kind: str, own: Record, needs: Sequence[str], *of: Any) -> str:
        settings = own | {"needs": [cells[need].settings for need in needs]}
        cells.setdefault(name, Cell(name, kind, settings, tuple(needs), *of))
        return name

    sums = checksums or {}
    model, spoil = sums.get("model"), {n: p.dump() for n, p in matrix.perturbations.items()}
    bases = {}
    for place, (task, condition) in matrix.places.items():
        own = {"model": model, "data": sums.get(task.name), "perturbations": spoil}
        own["task"] = task.dump(exclude={"conditions", "training", "all_candidates", *SCORING})
        bases[place] = [add(f"{task.name}/prepare", "prepare", own, (), task, None)]
        if condition.reinitialise:
            own = {"model": model} | condition.dump(exclude={"name"})
            bases[place].append(add(f"backbones/{condition.name}", "backbone", own, (), None, condition))
    for place, of in matrix.places.items():
        add(f"{place}/{UNTUNED}", "untuned", _scored(of[0], bool(of[0].all_candidates)), bases[place], *of)
    for seed, place, method in product(matrix.seeds, matrix.places, matrix.methods):
        of, source = matrix.places[place], matrix.search.source.get(place, place)
        if any(of[1].name not in (part.conditions or (of[1].name,)) for part in (of[0], method)):
            continue
        at, under = matrix.places[source]
        own = {"tuning": method.tuning, "encoding": at.encoding, "seed": matrix.search.seed}
        own["training"] = at.training | {"max_steps": matrix.search.max_steps}
        needs = list(bases[place])
        for rate in matrix.search.learning_rates:
            name, tried = f"{source}/search/{method.name}/{rate:g}", own | {"learning_rate": rate}
            needs.append(add(name, "search", tried, bases[source], at, under))
        own = {"tuning": method.tuning, "training": of[0].training, "seed": seed}
        own |= _scored(of[0], seed in of[0].all_candidates)
        add(f"{place}/{method.name}/seed-{seed}", "train", own, needs, *of)
    return cells


def _scored(task: Task, all_candidates: bool) -> Record:
    """Return what decides a cell's ranks, apart from the model and the task's texts."""
    weights = task.dump(include=SCORING)
    return {"encoding": task.encoding, "all_candidates": all_candidates} | weights


class Study:
    """A matrix on its data and model, and what is done of it in its folder `output`.

    `model` is a Hugging Face folder.  Raises `UserError` for inputs that are not there.
    """

    def __init__(self, matrix: Matrix, data: Path, model: Path, output: Path) -> None:
        self.matrix, self.data, self.model, self.output = matrix, data, model, output
        files = {task.name: [data / name for name in task.files] for task in matrix.tasks}
        of_model = [path for path in model.glob("[!.]*") if path.is_file()]
        files["model"] = of_model or [model / "config.json"]
        absent = [path for paths in files.values() for path in paths if not path.is_file()]
        if absent:
            raise xqg.UserError(f"{absent[0]}: no such file; README.md says what the study needs")
        if output.exists() and not (output / "cells").is_dir() and any(output.glob("[!.]*")):
            raise xqg.UserError(f"{output}: holds something, but no study; give another folder")
        self.cells = plan(matrix, {name: _checksum(paths) for name, paths in files.items()})

    def folder(self, name: str) -> Path:
        """Return the folder of a cell."""
        return self.output / "cells" / name

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
    for path in sorted(set(paths)):
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
