"""Runs a study: which cells are done, which are next, in processes of their own.

Each cell has its own process, so that its peak memory is its own, and a kill loses one cell's work
at most.  Whatever stands under OUTPUT/cells is whole; nothing else is read back.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from peft_unseen.matrix import Matrix, read_matrix
from peft_unseen.plan import Cell, choose_cells, key_of, plan
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import describe_sources, write_json

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1  # of cells; a new number makes every study anew
MARKER = "study.json"
Records = Mapping[str, Mapping[str, Any]]


@dataclass
class Study:
    """A matrix on its data and model, and what is done of it.

    `facts` are checksums of the model and of each task's data: parts of every key.  `modeling` is
    the module that has the model's code.
    """

    matrix: Matrix
    data: Path
    model: Path
    output: Path
    facts: dict[str, Any]
    cells: list[Cell]
    modeling: str
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, matrix: str, data: str, model: str, output: str) -> Study:
        """Read a matrix, look at its inputs and at what is done; raises `UserError`."""
        from peft_unseen.cells import Place, read_record
        from xqg_pyserini.models.pretrained import folder_fingerprint, read_config

        read = read_matrix(matrix)
        if not Path(data).is_dir():
            raise UserError(f"--data {data}: no such folder; expected xor-tydi/ and xquad/ in it")
        if not Path(model).is_dir():
            raise UserError(f"--model {model}: no such folder; expected a Hugging Face model")
        config = read_config(model)
        facts: dict[str, Any] = {"format": FORMAT, "model": folder_fingerprint(Path(model))}
        for task in read.tasks:
            facts[task.name] = _checksums(Path(data), task.kind, task.languages)
        _check_marker(Path(output), read.name)
        modeling = type(config).__module__.replace("configuration_", "modeling_")
        paths = Path(data), Path(model), Path(output)
        study = cls(read, *paths, facts, plan(read), modeling)
        place = Place(read, study.data, study.model, study.output)
        for cell in study.cells:
            record = read_record(place.of(cell.name))
            if record is not None:
                study.records[cell.name] = record
        return study

    @cached_property
    def by_name(self) -> dict[str, Cell]:
        """Return the cells by their names."""
        return {cell.name: cell for cell in self.cells}

    def key(self, cell: Cell) -> str | None:
        """Return what tells this cell from another; None while its learning rate is open."""
        parts: dict[str, Any] = {"settings": cell.settings, "model": self.facts["model"]}
        parts["format"] = self.facts["format"]
        if cell.kind == "prepare":
            parts["data"] = self.facts[cell.task]
        needed = [self.by_name[need] for need in cell.needs]
        bases = [base for base in needed if base.kind != "search"]
        parts["bases"] = {base.name: self.key(base) for base in bases}
        if cell.kind == "train":
            chosen = self.learning_rate(cell)
            if chosen is None:
                return None
            parts["learning_rate"] = chosen
        return key_of(parts)

    def state(self, cell: Cell) -> str:
        """Return done, changed (done, but not as the matrix now says), waiting or to do."""
        key, record = self.key(cell), self.records.get(cell.name)
        if key is None:
            return "waiting"
        if record is None:
            return "to do"
        return "done" if record["key"] == key else "changed"

    def searches(self, cell: Cell) -> list[Cell]:
        """Return the search cells that a training takes its learning rate from."""
        needed = [self.by_name[need] for need in cell.needs]
        return [search for search in needed if search.kind == "search"]

    def learning_rate(self, cell: Cell) -> float | None:
        """Return the rate with the best validation score; of equals the lower; None while open."""
        searches = self.searches(cell)
        if any(self.state(search) != "done" for search in searches):
            return None
        scores = {s.learning_rate: self.records[s.name]["result"]["mrr"] for s in searches}
        return min(scores, key=lambda rate: (-scores[rate], rate))

    def failure(self, cell: Cell) -> str | None:
        """Return why no rate of the search trains; None where one does."""
        results = [self.records[s.name]["result"] for s in self.searches(cell)]
        if results and all("failed" in result for result in results):
            return str(results[0]["failed"])
        return None


def _checksums(data: Path, kind: str, languages: tuple[str, ...]) -> list[str]:
    if kind == "translations":
        folder = data / "xor-tydi" / "question-translations"
        paths = [folder / f"{l}-en.{side}.txt" for l in languages for side in (l, "en")]
    else:
        paths = [data / "xquad" / f"xquad.{l}.json" for l in ("en", *languages)]
    for path in paths:
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; --data names a folder with xor-tydi/ and xquad/"
            )
    return [source["sha256"] for path in paths for source in describe_sources(path)]


def _check_marker(output: Path, name: str) -> None:
    import json

    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file; give the name of a folder")
    marker = output / MARKER
    if marker.is_file():
        found = json.loads(marker.read_text("utf-8")).get("matrix")
        if found != name:
            raise UserError(f"{output}: holds the study {found!r}, not {name!r}; give another")
    elif output.is_dir() and any(output.iterdir()):
        raise UserError(f"{output}: holds something, but no study; give another name")


# ---------------------------------------------------------------- running


def run_study(
    matrix: str,
    data: str,
    model: str,
    output: str,
    *,
    workers: int = 1,
    only: list[str] | None = None,
) -> dict[str, Any]:
    """Do what is not done of a study, and write its tables; return what was done.

    Args:
        matrix: The name of a shipped matrix, or a YAML file.
        data: The folder with xor-tydi/ and xquad/.
        model: The backbone, a Hugging Face folder.
        output: Where the cells, tables.md, results.json and outcomes.jsonl.gz go.
        workers: Cells at a time; each has cores / workers threads.
        only: Patterns of cells' names; what these need is done as well.

    Raises:
        UserError: for bad input before anything runs; for cells that fail at the end.
    """
    from peft_unseen.tables import write_tables

    study = Study.open(matrix, data, model, output)
    chosen = choose_cells(study.cells, only)
    study.output.mkdir(parents=True, exist_ok=True)
    with _locked(study.output):
        if not (study.output / MARKER).exists():
            write_json(study.output / MARKER, {"matrix": study.matrix.name})
        for left in (study.output / "cells").glob("**/.*.partial"):
            shutil.rmtree(left, ignore_errors=True)  # of a run that was killed
        failed = _Run(study, chosen, workers).go()
        summary = write_tables(study)
    if failed:
        name, reason = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise UserError(f"cell {name}{more} failed: {reason}; logs are in {output}/logs")
    return summary


@contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Keep another run out of the folder; a killed one lets go of it."""
    with open(output / ".lock", "w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{output}: another xqg reproduce is at work here") from None
            except OSError:  # a file system without locks
                pass
        yield


class _Run:
    """One call of the command: starts cells as they become possible."""

    def __init__(self, study: Study, cells: list[Cell], workers: int) -> None:
        self.study, self.workers = study, workers
        self.pending = list(cells)
        self.failed: dict[str, str] = {}
        self.running: dict[str, tuple[Any, Connection, float]] = {}
        self.bar: Any = None

    def go(self) -> dict[str, str]:
        total = len(self.pending)
        self._drop_done()
        self.bar = tqdm(total=total, initial=total - len(self.pending), unit=" cells", disable=None)
        context = _context(self.workers, self.study.modeling)
        try:
            while self.pending or self.running:
                self._start(context)
                if self.running:
                    self._collect()
        finally:
            for process, _, _ in self.running.values():
                process.kill()
            self.bar.close()
        return self.failed

    def _drop_done(self) -> None:
        states = {cell.name: self.study.state(cell) for cell in self.pending}
        self.pending = [cell for cell in self.pending if states[cell.name] != "done"]

    def _start(self, context: Any) -> None:
        for cell in list(self.pending):
            if len(self.running) >= self.workers:
                break
            reason = self._stuck(cell)
            if reason is not None:
                self.failed[cell.name] = reason
                self.pending.remove(cell)
                continue
            waiting = {other.name for other in self.pending} | set(self.running)
            if waiting & set(cell.needs):
                continue
            self.pending.remove(cell)
            state = self.study.state(cell)
            if state == "done":  # its learning rate turned out to be the old one
                self.bar.update()
                continue
            if state == "changed":
                _say(f"{cell.name}: its settings changed; done again")
            self._launch(context, cell)
        self.bar.set_description(", ".join(self.running) or "study", refresh=True)

    def _stuck(self, cell: Cell) -> str | None:
        for need in cell.needs:
            if need in self.failed:
                return f"{need} failed: {self.failed[need]}"
        if cell.kind == "train" and self.study.learning_rate(cell) is not None:
            reason = self.study.failure(cell)
            return None if reason is None else f"no learning rate trains: {reason}"
        return None

    def _launch(self, context: Any, cell: Cell) -> None:
        rate = self.study.learning_rate(cell) if cell.kind == "train" else None
        ours, theirs = context.Pipe(duplex=False)
        log = self.study.output / "logs" / f"{cell.name.replace('/', '.')}.log"
        log.parent.mkdir(exist_ok=True)
        study = self.study
        arguments = (cell, study.key(cell), study.matrix, study.data, study.model, study.output)
        process = context.Process(target=_child, args=(*arguments, rate, log, theirs))
        process.start()
        theirs.close()
        self.running[cell.name] = (process, ours, time.monotonic())

    def _collect(self) -> None:
        from peft_unseen.cells import Place, read_record

        study = self.study
        place = Place(study.matrix, study.data, study.model, study.output)
        wait([process.sentinel for process, _, _ in self.running.values()])
        for name, (process, pipe, start) in list(self.running.items()):
            if process.is_alive():
                continue
            process.join()
            reason = None
            try:
                reason = pipe.recv() if pipe.poll() else f"its process ended ({process.exitcode})"
            except EOFError:
                reason = f"its process ended ({process.exitcode})"
            pipe.close()
            del self.running[name]
            seconds = time.monotonic() - start
            with open(study.output / "progress.log", "a", encoding="utf-8") as file:
                now = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write(f"{now}\t{name}\t{seconds:.1f} s\t{reason or 'done'}\n")
            if reason:
                self.failed[name] = reason
                continue
            record = read_record(place.of(name))
            assert record is not None, name
            study.records[name] = record
            self.bar.update()


def _say(text: str) -> None:
    tqdm.write(f"xqg reproduce: {text}", file=sys.stderr)


def _context(workers: int, modeling: str) -> Any:
    """Return a way to start processes that have their imports already, but have computed nothing.

    A fork server forks clean children of itself: OpenMP has no threads yet, and their peak memory
    begins with that of the imports.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(max(1, (cores or 1) // workers))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = threads
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["peft_unseen.preload", modeling])
    return context


def _child(
    cell: Cell,
    key: str,
    matrix: Matrix,
    data: Path,
    model: Path,
    output: Path,
    rate: float | None,
    log: Path,
    pipe: Connection,
) -> None:
    """Do a cell in a process of its own, and say through the pipe why it failed, or None."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from peft_unseen.cells import Place, make

    try:
        make(cell, key, Place(matrix, data, model, output), rate)
        pipe.send(None)
    except UserError as error:
        traceback.print_exc()
        pipe.send(str(error))
    except Exception as error:
        traceback.print_exc()
        pipe.send(f"unexpected {type(error).__name__}: {error}")
    sys.stdout.flush()
    sys.stderr.flush()


def _die_with_parent() -> None:
    """End this process when the command's is killed; a cell half done leaves nothing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


# ---------------------------------------------------------------- looking


def list_study(matrix: str, data: str, model: str, output: str, only: list[str] | None) -> Any:
    """Return for each cell its name, its state and the seconds it took."""
    study = Study.open(matrix, data, model, output)
    return [
        {
            "cell": cell.name,
            "state": study.state(cell),
            "seconds": study.records.get(cell.name, {}).get("seconds"),
        }
        for cell in choose_cells(study.cells, only)
    ]


def list_text(cells: list[dict[str, Any]]) -> str:
    """Return the listing as a table, with what it adds up to."""
    from tabulate import tabulate

    rows = [[c["cell"], c["state"], "" if c["seconds"] is None else c["seconds"]] for c in cells]
    done = [c["seconds"] for c in cells if c["state"] == "done"]
    table = tabulate(rows, ["cell", "state", "seconds"], floatfmt=".1f")
    return f"{table}\n\n{len(done)} of {len(cells)} cells are done; they took {sum(done):.0f} s"
