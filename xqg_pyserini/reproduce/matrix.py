"""Matrix files: the commands behind a published table, what they read, and the scores that they should give.

YAML, read strictly.  A line is split as a shell does, and its first word is `xqg` or `python`; no shell runs it.  What
it writes follows `--output`; `$DATA/…` is one of the inputs; `{x}` stands for the variable x, and a line with
`{language}` for one line in each language of its condition, where `{name}` is the language's name, if it has one.
"""

import importlib.resources
import re
import shlex
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct, field

from xqg_pyserini.errors import UserError
from xqg_pyserini.metadata import read_yaml

DATA, LANGUAGE, NAME = "$DATA", "language", "name"
COMMANDS = "commands"  # in the folder of outputs: what was run, what it printed, how it ended
Name = Annotated[str, Meta(pattern=r"^[\w+-][\w.+-]*$")]
Amount = Annotated[float, Meta(ge=0)]
_VARIABLE = re.compile(r"\{(\w+)\}")


class Input(Struct, frozen=True, forbid_unknown_fields=True):
    """A file (or folder, without a checksum) that commands read.

    Attributes: `path`, from the root of all data; `get`, where it comes from; `sha256`, None where that is not known.
    """

    path: str
    get: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


class Tolerance(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a score may be from the expected one to be OK, or close, in units of the score."""

    ok: Amount
    close: Amount


class Expected(Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of one run by one measure: language, or `average`, → score as its evaluation writes it.

    `run` is the name that `xqg evaluate` gives it, or the file that trec_eval reads; with `{language}` in it each
    language has a run of its own.  `tolerance` is the matrix's where there is none.
    """

    run: str
    metric: str
    values: Annotated[dict[str, float], Meta(min_length=1)]
    source: str
    tolerance: Tolerance | None = None


class _Condition(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    commands: list[str]
    expected: list[Expected]
    description: str = ""
    needs: list[str] = field(default_factory=list)
    languages: list[Name] | dict[Name, str] = field(default_factory=list)


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    description: str
    tolerance: Tolerance
    conditions: Annotated[list[_Condition], Meta(min_length=1)]
    inputs: list[Input] = field(default_factory=list)
    variables: dict[Name, str] = field(default_factory=dict)


class Command(NamedTuple):
    """A command line, `$DATA` not yet put in; `outputs` are paths from the folder that it runs in."""

    words: tuple[str, ...]
    outputs: tuple[str, ...]
    inputs: tuple[Input, ...]

    def __str__(self) -> str:
        """Return the line as a shell takes it."""
        quoted = (f'"{DATA}"'.join(shlex.quote(part) if part else "" for part in w.split(DATA)) for w in self.words)
        return " ".join(word or "''" for word in quoted)


class Condition(NamedTuple):
    """A row of the table: its commands in order, and its scores.

    Attributes: `needs`, what it takes that not everybody has (a hub, a GPU, so many GB): such a condition is run only
    where it is asked for by name.
    """

    name: str
    description: str
    needs: tuple[str, ...]
    languages: tuple[str, ...]
    commands: tuple[Command, ...]
    expected: tuple[Expected, ...]


class Matrix(NamedTuple):
    """What a matrix file says, checked."""

    name: str
    description: str
    tolerance: Tolerance
    conditions: tuple[Condition, ...]

    @property
    def commands(self) -> list[Command]:
        """Return each command once, in order."""
        return list(dict.fromkeys(command for condition in self.conditions for command in condition.commands))

    def chosen(self, names: tuple[str, ...] = ()) -> list[Condition]:
        """Return the conditions of these names, or all that need nothing; raises `UserError` for an unknown name."""
        known = [condition.name for condition in self.conditions]
        for name in names:
            if name not in known:
                raise UserError(f"{self.name} has no condition {name!r}; it has {', '.join(known)}", "condition")
        return [c for c in self.conditions if (c.name in names if names else not c.needs)]


def shipped_matrices() -> list[str]:
    """Return the names of the matrices that come with the package."""
    return sorted(path.stem for path in _shipped().iterdir() if path.suffix == ".yaml")


def _shipped() -> Path:
    return Path(str(importlib.resources.files("xqg_pyserini.resources") / "matrices"))


def read_matrix(source: str | Path, variables: Mapping[str, str] | None = None) -> Matrix:
    """Read a matrix: a file, or the name of a shipped one.

    Args:
        source: the file or name.
        variables: values that replace those of the file.

    Raises:
        UserError: for a file that is none or cannot be read, with the key; for a line that is no command of ours,
            reads what is no input, or writes where another one does; for a variable that the file does not have.
    """
    path = Path(source)
    if not path.exists() and str(source) in shipped_matrices():
        path = _shipped() / f"{source}.yaml"
    elif not path.exists():
        raise UserError(f"{source}: no such file, and no matrix that is shipped: {', '.join(shipped_matrices())}")
    file = read_yaml(path, _File, "correct it")
    for name in variables or ():
        if name not in file.variables:
            known = ", ".join(file.variables) or "none"
            raise UserError(f"{path}: no variable {name!r}; there are: {known}", "variables")
    reader = _Reader(path, {**file.variables, **(variables or {})}, file.inputs)
    conditions = tuple(reader.condition(i, each) for i, each in enumerate(file.conditions))
    matrix = Matrix(file.name, " ".join(file.description.split()), file.tolerance, conditions)
    _refuse_twice(path, [condition.name for condition in conditions], "the condition")
    _refuse_twice(path, [output for command in matrix.commands for output in command.outputs], "the output")
    return matrix


def _refuse_twice(path: Path, names: list[str], what: str) -> None:
    for i, name in enumerate(names):
        for other in names[:i]:
            if name == other or name.startswith(other + "/") or other.startswith(name + "/"):
                raise UserError(f"{path}: {what} {name!r} stands twice (or holds another); give each its own")


class _Reader(NamedTuple):
    path: Path
    variables: Mapping[str, str]
    inputs: list[Input]

    def condition(self, number: int, said: _Condition) -> Condition:
        where = f"{self.path}: conditions[{number}]"
        commands: list[Command] = []
        for i, line in enumerate(said.commands):
            commands += self._commands(f"{where}.commands[{i}]", line, said.languages)
        for i, expected in enumerate(said.expected):
            loop = f"{{{LANGUAGE}}}" in expected.run
            if unknown := [l for l in expected.values if loop and l not in (*said.languages, "average")]:
                raise UserError(f"{where}.expected[{i}]: {unknown[0]!r} is none of the condition's languages")
        texts = (said.name, " ".join(said.description.split()), tuple(said.needs), tuple(said.languages))
        return Condition(*texts, tuple(dict.fromkeys(commands)), tuple(said.expected))

    def _commands(self, where: str, line: str, languages: list[str] | dict[str, str]) -> Iterator[Command]:
        names = languages if isinstance(languages, dict) else {language: language for language in languages}
        found = set(_VARIABLE.findall(line))
        for language in names if found & {LANGUAGE, NAME} else [None]:
            known = {**self.variables, **({} if language is None else {LANGUAGE: language, NAME: names[language]})}
            if unknown := [name for name in sorted(found) if name not in known]:
                raise UserError(f"{where}: no variable {{{unknown[0]}}}; there are: {', '.join(known) or 'none'}")
            text = "".join(known[part] if i % 2 else part for i, part in enumerate(_VARIABLE.split(line)))
            try:
                words = shlex.split(text)
            except ValueError as error:
                raise UserError(f"{where}: {error}") from None
            if words[:1] not in (["xqg"], ["python"]):
                raise UserError(f"{where}: expected a command that begins with xqg or python")
            read = tuple(each for word in words if DATA in word for each in self._read(where, word))
            yield Command(tuple(words), tuple(_outputs(where, words)), tuple(dict.fromkeys(read)))

    def _read(self, where: str, word: str) -> list[Input]:
        wanted = word.partition(f"{DATA}/")[2].rstrip("/")
        inputs = [
            each
            for each in self.inputs
            if each.path.startswith(f"{wanted}/") or wanted.startswith(f"{each.path}/") or fnmatch(each.path, wanted)
        ]
        if not wanted or not inputs:
            raise UserError(f"{where}: {word} is none of the inputs; name it there")
        return inputs


def _outputs(where: str, words: list[str]) -> Iterator[str]:
    """Yield what stands behind `--output`, up to the next flag."""
    behind = False
    for word in (part for given in words for part in re.split("(?<=^--output)=", given)):
        if behind and not word.startswith("--"):
            parts = Path(word).parts
            if Path(word).is_absolute() or ".." in parts or parts[:1] in ((), (COMMANDS,)):
                raise UserError(f"{where}: the output {word!r} is no path of its own below the folder of outputs")
            yield word.rstrip("/")
        behind = word == "--output" or (behind and not word.startswith("--"))
