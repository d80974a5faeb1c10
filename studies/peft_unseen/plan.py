"""The cells that follow from a matrix, in the order in which they are done, and their keys.

This module knows what decides a cell's result; it knows no data, no model and no results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from peft_unseen.matrix import (
    UNTUNED,
    Condition,
    Matrix,
    Method,
    Settings,
    Task,
    Translations,
    Xquad,
)
from xqg_pyserini.errors import UserError


@dataclass(frozen=True)
class Cell:
    """A piece of work: done, it is a folder of its own.

    `settings` are all that decides its result, apart from those of the cells that it `needs`.
    """

    name: str
    kind: Literal["prepare", "backbone", "untuned", "search", "train"]
    settings: Settings
    needs: tuple[str, ...] = ()
    task: str = ""
    condition: str = ""
    method: str = UNTUNED
    seed: int = 0
    learning_rate: float | None = None  # of a search; a training's is chosen by the search
    all_candidates: bool = False


def plan(matrix: Matrix) -> list[Cell]:
    """Return the cells in the order in which they are done.

    The untuned backbones come first; then one seed after the other, so that every table has
    something once the first seed is through.  A search comes right before its first use.
    """
    cells: dict[str, Cell] = {}
    for cell in _cells(matrix):
        cells.setdefault(cell.name, cell)
    return list(cells.values())


def _cells(matrix: Matrix) -> Iterator[Cell]:
    settings: Settings
    for task in matrix.tasks:
        spoilt = {n: dataclasses.asdict(p) for n, p in matrix.perturbations.items()}
        settings = {"task": _task_data(task), "perturbations": spoilt}
        yield Cell(f"{task.name}/prepare", "prepare", settings, task=task.name)
    for condition in matrix.conditions:
        if condition.reinitialise:
            settings = {"layers": condition.reinitialise, "seed": condition.seed}
            name = f"backbones/{condition.name}"
            yield Cell(name, "backbone", settings, condition=condition.name)
    for task in matrix.tasks:
        for condition in matrix.conditions:
            every = isinstance(task, Translations) and bool(task.all_candidates)
            yield Cell(
                f"{task.name}/{condition.name}/{UNTUNED}",
                "untuned",
                {"evaluation": _evaluation(task), "all_candidates": every},
                _bases(task, condition),
                task.name,
                condition.name,
                all_candidates=every,
            )
    seeds = dict.fromkeys((*matrix.seeds, *(s for m in matrix.methods for s in m.seeds or ())))
    for seed in seeds:
        for task in matrix.tasks:
            for condition in matrix.conditions:
                for method in matrix.methods:
                    yield from _trainings(matrix, task, condition, method, seed)


def _trainings(
    matrix: Matrix, task: Task, condition: Condition, method: Method, seed: int
) -> Iterator[Cell]:
    seeds = matrix.seeds if method.seeds is None else method.seeds
    wanted = (
        seed in seeds,
        task.name in (method.tasks or (task.name,)),
        condition.name in (method.conditions or (condition.name,)),
        condition.name in (task.conditions or (condition.name,)),
    )
    if not all(wanted):
        return
    first, second = matrix.chooser(task.name, condition.name)
    searches = list(_searches(matrix, matrix.task(first), matrix.condition(second), method))
    yield from searches
    every = isinstance(task, Translations) and seed in task.all_candidates
    yield Cell(
        f"{task.name}/{condition.name}/{method.name}/seed-{seed}",
        "train",
        {
            "tuning": method.tuning,
            "training": dataclasses.asdict(task.training),
            "evaluation": _evaluation(task),
            "seed": seed,
            "all_candidates": every,
        },
        (*_bases(task, condition), *(search.name for search in searches)),
        task.name,
        condition.name,
        method.name,
        seed,
        all_candidates=every,
    )


def _searches(matrix: Matrix, task: Task, condition: Condition, method: Method) -> Iterator[Cell]:
    for rate in matrix.search.learning_rates:
        training = dataclasses.replace(task.training, max_steps=matrix.search.max_steps)
        yield Cell(
            f"{task.name}/{condition.name}/search/{method.name}/{rate:g}",
            "search",
            {
                "tuning": method.tuning,
                "training": dataclasses.asdict(training),
                "encoding": dataclasses.asdict(task.encoding),
                "learning_rate": rate,
                "seed": matrix.search.seed,
            },
            _bases(task, condition),
            task.name,
            condition.name,
            method.name,
            matrix.search.seed,
            rate,
        )


def _bases(task: Task, condition: Condition) -> tuple[str, ...]:
    made = (f"backbones/{condition.name}",) if condition.reinitialise else ()
    return (f"{task.name}/prepare", *made)


def _task_data(task: Task) -> Settings:
    """Return what decides a task's texts and neighbours."""
    settings = dataclasses.asdict(task)
    for key in ("name", "conditions", "training", "all_candidates", "beta", "beta_centered"):
        settings.pop(key, None)
    return settings


def _evaluation(task: Task) -> Settings:
    """Return what decides a cell's ranks, apart from the model and the task's texts."""
    settings: Settings = {"encoding": dataclasses.asdict(task.encoding)}
    if isinstance(task, Xquad):
        settings |= {"beta": task.beta, "beta_centered": task.beta_centered}
    return settings


def key_of(settings: Any) -> str:
    """Return what tells settings from others."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def choose_cells(cells: list[Cell], patterns: list[str] | None) -> list[Cell]:
    """Return the cells whose names match a pattern (fnmatch), and those that they need."""
    if not patterns:
        return cells
    known = {cell.name: cell for cell in cells}
    wanted: set[str] = set()
    for pattern in patterns:
        found = [name for name in known if fnmatchcase(name, pattern)]
        if not found:
            raise UserError(f"--only {pattern}: no cell has such a name; see --list")
        wanted.update(found)
    for cell in reversed(cells):  # a cell stands after those that it needs
        if cell.name in wanted:
            wanted.update(cell.needs)
    return [cell for cell in cells if cell.name in wanted]
