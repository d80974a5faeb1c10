"""The study with doit: a task for each cell, done again where what decides it has changed.

doit -f studies/peft_unseen/dodo.py data=DATA model=E5 output=OUT    (see README.md)
"""

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doit import get_initial_workdir, get_var
from doit.exceptions import InvalidDodoFile, TaskFailed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import xqg_pyserini as xqg
from peft_unseen.cells import work
from peft_unseen.matrix import read_matrix
from peft_unseen.outcomes import collect
from peft_unseen.plan import RECORD, Cell, Study
from peft_unseen.tables import write_tables

HERE = Path(__file__).resolve().parent
# Each cell's process is forked off a server that has these imports, but has computed nothing:
# OpenMP has no threads there yet, and peak memory begins with that of the imports
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["peft", "transformers.trainer", "torch.utils.tensorboard"])


def _path(name: str, default: Any = None) -> Path:
    if get_var(name, default) is None:
        raise InvalidDodoFile(f"{name} is missing: give {name}=FOLDER")
    return Path(get_initial_workdir(), get_var(name, default))


try:
    OUTPUT, MATRIX = _path("output"), read_matrix(_path("matrix", HERE / "peft-unseen.yaml"))
    STUDY = Study(MATRIX, _path("data"), _path("model"), OUTPUT) if get_var("data") else None
except xqg.UserError as error:
    raise InvalidDodoFile(str(error)) from None
CELLS = STUDY.cells if STUDY else {}
PUBLISHED = HERE.parents[1] / "docs" / "studies" / MATRIX.name
# one worker takes the cells in this order, several run ahead where one waits; cells know by
# themselves whether they are done, so that doit's own memory need not survive a kill
DOIT_CONFIG = {"default_tasks": [*CELLS, "study"] if CELLS else ["published"], "continue": True}
DOIT_CONFIG |= {"backend": "sqlite3", "dep_file": ":memory:", "par_type": "thread"}


def task_cells() -> Iterator[dict[str, Any]]:
    """One cell, by its name."""
    for cell in CELLS.values():
        yield {
            "basename": cell.name,
            "actions": [(_run, [cell])],
            "task_dep": list(cell.needs),
            "targets": [STUDY.folder(cell.name) / RECORD],
            "uptodate": [(lambda cell: STUDY.record(cell) is not None, [cell])],
        }


def _run(cell: Cell) -> TaskFailed | None:
    log = OUTPUT / "logs" / f"{cell.name.replace('/', '.')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    process = PROCESSES.Process(target=work, args=(STUDY, cell, log))
    process.start()
    process.join()
    if process.exitcode == 0:
        return None
    lines = log.read_text("utf-8").splitlines() or [f"its process ended ({process.exitcode})"]
    return TaskFailed(f"{lines[-1]} (all of it: {log})")


def task_study() -> dict[str, Any]:
    """All cells, and then the tables."""
    return task_tables() | {"task_dep": list(CELLS)}


def task_tables() -> dict[str, Any]:
    """The tables of what is done."""
    return {"actions": [(collect, [STUDY]), (write_tables, [MATRIX, OUTPUT, OUTPUT])]}


def task_published() -> dict[str, Any]:
    """The published tables, of the published outcomes; needs no data and no model."""
    return {"actions": [(write_tables, [MATRIX, PUBLISHED, OUTPUT])]}
