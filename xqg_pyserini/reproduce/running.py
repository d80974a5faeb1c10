"""Running a matrix: each command once, what is done not again, and the marks that its scores get.

A command is known by its line, its inputs' checksums, and the commands whose outputs it names: where one of these
changes, it is run again, and so is all that follows from it.  Pyserini's pages mark scores in the same way.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from xqg_pyserini import __version__
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FILLED, file_sha256, write_json
from xqg_pyserini.locks import held
from xqg_pyserini.metadata import read_json
from xqg_pyserini.report.results import SCORES, read_results
from xqg_pyserini.reproduce.marks import AVERAGE, Found, Reproduced, not_run, outcome_of
from xqg_pyserini.reproduce.matrix import COMMANDS, DATA, Command, Condition, Input, Matrix
from xqg_pyserini.reproduce.page import write_matrix_page

MATRIX = "matrix.json"
_TREC_EVAL = re.compile(r"^(\S+)\s+all\s+(-?\d[\d.]*)$", re.MULTILINE)


class _Stamp(Struct, frozen=True):
    """What is recorded of a command that was begun."""

    line: str
    outputs: list[str]
    version: str
    seconds: float | None = None  # None: it did not end, or not well


def data_root(given: str | Path | None = None) -> Path:
    """Return where inputs are looked for: as given, or `data` in the folder that XQG_SHARED names (../shared)."""
    root = Path(os.environ.get("XQG_SHARED", "../shared")) / "data" if given is None else Path(given)
    return Path(os.path.abspath(root))


def check_inputs(conditions: Sequence[Condition], data: Path) -> dict[Input, str]:
    """Return what tells each input of these conditions from another: its checksum, or its size and time (`_told`).

    Raises `UserError` for one that is missing, or that is not the file that was meant.
    """
    told = {}
    for each in dict.fromkeys(i for condition in conditions for command in condition.commands for i in command.inputs):
        path = data / each.path
        if not path.exists():
            raise UserError(f"{path}: no such input; get it from {each.get}, or name the folder that holds it", "data")
        if each.sha256 is None:
            told[each] = _told(path)
            continue
        told[each] = file_sha256(path)
        if told[each] != each.sha256:
            what = f"{path}: its SHA-256 is {told[each][:12]}…, the matrix was made with {each.sha256[:12]}…"
            raise UserError(f"{what}; get it anew from {each.get}", "data")
    return told


def _told(path: Path) -> str:
    """Return size and time of a file, of a folder those of all files in it."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    stats = [(str(file.relative_to(path)), file.stat()) for file in files]
    known = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def reproduce(
    matrix: Matrix,
    output: str | Path,
    *,
    data: str | Path | None = None,
    conditions: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Reproduced:
    """Run a matrix's conditions, compare their scores, and write its page, `NAME.html`.

    Args:
        matrix: as `read_matrix` returns it.
        output: the folder to run in.  Commands that ended well there are not run again, killed ones go on.
        data: the root of all inputs; by default `data` in the folder that XQG_SHARED names, or in ../shared.
        conditions: names; by default all that need nothing.
        say: is told of each command that begins.

    Raises:
        UserError: for an unknown condition, an input that is missing or another, an `output` that holds other things
            or is written by another process.  A command that fails is no error: its figures are marked FAIL.
    """
    chosen, root, folder = matrix.chosen(tuple(conditions)), data_root(data), Path(output)
    told = check_inputs(chosen, root)
    for condition in matrix.conditions:
        with suppress(UserError):  # what is done of the others is shown, if it can be told
            told |= check_inputs([condition], root)
    stamps = folder / COMMANDS
    if folder.exists() and not stamps.is_dir() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: holds other things; give a new folder", "output")
    folder.mkdir(parents=True, exist_ok=True)
    with held(stamps, folder):
        whose = stamps / MATRIX
        if whose.exists() and (other := read_json(whose, str, "give a new folder", "output")) != matrix.name:
            raise UserError(f"{folder}: holds what {other!r} wrote, not {matrix.name!r}; give a new folder", "output")
        write_json(whose, matrix.name)
        runner = _Runner(folder, root, _keys(matrix, told), say)
        outcomes = [
            outcome_of(matrix, each, *runner.run(each)) if each in chosen or runner.done(each) else not_run(each)
            for each in matrix.conditions
        ]
        lines = {str(command): runner.seconds(command) for command in matrix.commands}
        page = write_matrix_page(matrix, outcomes, lines, folder / f"{matrix.name}.html")
    return Reproduced(matrix.name, __version__, outcomes, str(page))


def _keys(matrix: Matrix, told: Mapping[Input, str]) -> dict[Command, str]:
    """Return by what each command is known."""
    keys: dict[Command, str] = {}
    for command in matrix.commands:
        named = {part for word in command.words for part in re.split("[=,]", word)}
        before = [
            key
            for other, key in keys.items()
            if any(_reads(part.rstrip("/"), output) for output in other.outputs for part in named)
        ]
        known = [list(command.words), [[each.path, told.get(each)] for each in command.inputs], before]
        keys[command] = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]
    return keys


def _reads(name: str, output: str) -> bool:
    """Tell whether a name stands for an output, for something in it, for a folder of it, or for it among others."""
    return name == output or name.startswith(f"{output}/") or output.startswith(f"{name}/") or fnmatch(output, name)


class _Runner:
    """Runs commands in a folder; one that failed is not tried again."""

    def __init__(self, folder: Path, data: Path, keys: Mapping[Command, str], say: Callable[[str], None]) -> None:
        self.folder, self.data, self.keys, self.say = folder, data, keys, say
        self.failed: dict[Command, str] = {}

    def run(self, condition: Condition) -> tuple[Found, str]:
        """Run what is not done of a condition; return the scores that were written, and why it ended early, if so."""
        found: dict[tuple[str, str], Mapping[str, float]] = {}
        for command in condition.commands:
            if command not in self.failed and self.seconds(command) is None:
                self.say(f"{condition.name}: {command}")
                if why := self._run(command):
                    self.failed[command] = why
            if command in self.failed:
                return found, self.failed[command]
            found |= self._scores(command)
        return found, ""

    def done(self, condition: Condition) -> bool:
        """Tell whether a condition has been run, all of it."""
        return bool(condition.commands) and all(self.seconds(each) is not None for each in condition.commands)

    def seconds(self, command: Command) -> float | None:
        """Return how long a command took; None where it is not done, or what it wrote is gone."""
        path = self._path(command, "json")
        there = path.exists() and all((self.folder / output).exists() for output in command.outputs)
        return read_json(path, _Stamp, "remove it").seconds if there else None

    def _path(self, command: Command, ending: str) -> Path:
        return self.folder / COMMANDS / f"{self.keys[command]}.{ending}"

    def _run(self, command: Command) -> str:
        """Run a command; return the last line that it wrote where it fails."""
        begun = self._path(command, "json").exists()
        if not begun:
            self._forget(command)
        stamp = _Stamp(str(command), list(command.outputs), __version__)
        self._record(command, stamp)
        start = time.monotonic()
        code = self._start(command)
        if code == 2 and begun and FILLED in self._path(command, "err").read_text("utf-8", "replace"):
            self._clear(command.outputs)  # it had ended before that was recorded
            code = self._start(command)
        if code == 0:
            self._record(command, replace(stamp, seconds=round(time.monotonic() - start, 1)))
            return ""
        written = [self._path(command, ending).read_text("utf-8", "replace") for ending in ("out", "err")]
        lines = [line.strip() for text in written for line in text.splitlines() if line.strip()]
        return f"{lines[-1] if lines else f'{command.words[0]} ended with {code}'} ({self._path(command, 'err')})"

    def _record(self, command: Command, stamp: _Stamp) -> None:
        write_json(self._path(command, "json"), to_builtins(stamp))

    def _start(self, command: Command) -> int:
        words = [word.replace(DATA, str(self.data)) for word in command.words[1:]]
        program = [sys.executable, *(["-m", "xqg_pyserini"] if command.words[0] == "xqg" else [])]
        with open(self._path(command, "out"), "wb") as out, open(self._path(command, "err"), "wb") as err:
            return subprocess.run([*program, *words], cwd=self.folder, stdout=out, stderr=err).returncode

    def _forget(self, command: Command) -> None:
        """Take away what another line, or this one with other inputs, wrote to the same places."""
        for path in (self.folder / COMMANDS).glob("*.json"):
            if path.stem in self.keys.values() or path.name == MATRIX:
                continue
            if not set(command.outputs).isdisjoint(read_json(path, _Stamp, "remove it").outputs):
                path.unlink()
        self._clear(command.outputs)

    def _clear(self, outputs: Sequence[str]) -> None:
        for path in (self.folder / output for output in outputs):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _scores(self, command: Command) -> Found:
        """Return the scores that a command wrote: of `xqg evaluate --output`, or as trec_eval prints them."""
        if any(word.endswith("eval.trec_eval") for word in command.words[:3]):
            text = self._path(command, "out").read_text("utf-8", "replace")
            return {(command.words[-1], metric): {AVERAGE: float(value)} for metric, value in _TREC_EVAL.findall(text)}
        found: dict[tuple[str, str], Mapping[str, float]] = {}
        for output in command.outputs:
            if (self.folder / output / SCORES).is_file():
                scores = read_results(self.folder / output).scores
                for run, of in scores.items():
                    for metric, score in of.items():
                        by_language = {language: one.score for language, one in score.by_language.items()}
                        found[run, metric] = {**by_language, AVERAGE: score.macro}
        return found
