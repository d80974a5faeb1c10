"""What a matrix file holds: a study's tasks, conditions, methods and seeds, and how to read it.

It is a YAML file that is read strictly: a key that is not known is an error.  This module knows no
cells, no data, no model and no results.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xqg_pyserini.data import check_languages
from xqg_pyserini.errors import UserError

Settings = dict[str, Any]
UNTUNED = "untuned"
_OF_METHOD = ("seeds", "tasks", "conditions")  # beside the method's own settings
_RESERVED = (UNTUNED, "search", "prepare", "backbones")


@dataclass(frozen=True)
class Encoding:
    """How texts become vectors, in training and in evaluation alike."""

    pooling: str = "mean"
    normalize: bool = True
    query_prefix: str = "query: "
    passage_prefix: str = "passage: "
    query_length: int = 32
    passage_length: int = 128


@dataclass(frozen=True)
class Training:
    """What all methods share in training; the learning rate is chosen by `Search`."""

    batch_size: int = 16
    max_steps: int = 200
    temperature: float = 0.02
    warmup: float = 0.1
    precision: str = "fp32"


@dataclass(frozen=True)
class Search:
    """Short runs, one a rate, scored by MRR@10 on validation questions of trained languages.

    `source` (in YAML: from) maps "TASK/CONDITION" to the one whose choice is taken over.
    """

    learning_rates: tuple[float, ...]
    max_steps: int
    seed: int = 0
    source: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Neighbours:
    """How many wrong candidates a question has: near ones by vectors, and by letters."""

    backbone: int = 5
    lexical: int = 5


@dataclass(frozen=True)
class Task:
    """What every task has.  `seen` languages are trained on, `unseen` ones only tested.

    `test` and `validation` are questions a language.  `conditions` are those that are trained, all
    if None; the untuned backbone is scored in each.
    """

    name: str
    kind: Literal["translations", "xquad"]
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    test: int = 200
    validation: int = 50
    seed: int = 0
    conditions: tuple[str, ...] | None = None
    encoding: Encoding = field(default_factory=Encoding)
    training: Training = field(default_factory=Training)

    @property
    def languages(self) -> tuple[str, ...]:
        """Return all languages that are tested."""
        return self.seen + self.unseen


@dataclass(frozen=True)
class Translations(Task):
    """XOR-TyDi: a question has to find its English translation.

    `train` pairs and `unlabelled` questions (for centring) a language; `all_candidates` are the
    seeds whose cells are also scored among all English questions; if there are any, so are the
    untuned backbones.
    """

    train: int = 1000
    unlabelled: int = 200
    neighbours: Neighbours = field(default_factory=Neighbours)
    all_candidates: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Xquad(Task):
    """XQuAD: a question has to find the English passage that it was asked about.

    `validation_share` of the training half's articles is held out for the search.  The weights of
    own-language fusion are fixed, without and with centring.
    """

    validation_share: float = 0.25
    beta: float = 0.3
    beta_centered: float = 0.2


@dataclass(frozen=True)
class Condition:
    """A backbone: as it is (0), or with its last layers initialised anew."""

    name: str
    reinitialise: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """A way of tuning: `tuning` are TuningSettings; None of the others means all."""

    name: str
    tuning: Settings
    seeds: tuple[int, ...] | None = None
    tasks: tuple[str, ...] | None = None
    conditions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Perturbation:
    """A way in which test questions are spoilt; see `xqg_pyserini.train.perturb`."""

    kind: str
    rate: float


@dataclass(frozen=True)
class Tables:
    """How results are summarised: none of it changes a cell.

    All methods are compared with `reference`; `controls` maps a method to one of its own.
    """

    reference: str = "full"
    controls: Mapping[str, str] = field(default_factory=dict)
    bootstrap: int = 2000
    draws: int = 10_000
    level: float = 0.05
    seed: int = 42


@dataclass(frozen=True)
class Matrix:
    """A study, as its file says."""

    name: str
    tasks: tuple[Task, ...]
    conditions: tuple[Condition, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    search: Search
    perturbations: Mapping[str, Perturbation]
    tables: Tables
    keep: bool = False
    device: str = "auto"

    def task(self, name: str) -> Task:
        """Return a task by its name."""
        return next(task for task in self.tasks if task.name == name)

    def condition(self, name: str) -> Condition:
        """Return a condition by its name."""
        return next(condition for condition in self.conditions if condition.name == name)

    def method(self, name: str) -> Method:
        """Return a method by its name."""
        return next(method for method in self.methods if method.name == name)

    def chooser(self, task: str, condition: str) -> tuple[str, str]:
        """Return the task and condition whose search gives this one's learning rates."""
        source = self.search.source.get(f"{task}/{condition}", f"{task}/{condition}")
        first, _, second = source.partition("/")
        return first, second


# ---------------------------------------------------------------- reading


def read_matrix(name: str) -> Matrix:
    """Read a matrix file, or the shipped one of that name; raises `UserError` for what is wrong."""
    import yaml

    path, where = _find(name)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{where}: broken YAML ({' '.join(str(error).split())})") from None
    matrix = _matrix(content, where)
    _check(matrix, where)
    return matrix


def _find(name: str) -> tuple[Any, str]:
    if Path(name).is_file():
        return Path(name), name
    folder = importlib.resources.files("xqg_pyserini.resources").joinpath("matrix")
    shipped = folder.joinpath(f"{name}.yaml")
    if shipped.is_file():
        return shipped, f"{name}.yaml"
    names = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if ".yaml" in f.name)
    raise UserError(f"{name}: neither a file nor a shipped matrix ({', '.join(names)})")


def _matrix(content: Any, where: str) -> Matrix:
    parts = _mapping(content, where)
    known = {f.name for f in dataclasses.fields(Matrix)}
    _refuse_unknown(parts, known, where)
    for key in ("name", "tasks", "methods", "seeds", "search"):
        if key not in parts:
            raise UserError(f"{where}: {key} is missing")
    kinds = {"translations": Translations, "xquad": Xquad}
    tasks = []
    for name, entry in _mapping(parts["tasks"], f"{where}: tasks").items():
        entry = _mapping(entry, f"{where}: tasks: {name}")
        if entry.get("kind") not in kinds:
            raise UserError(
                f"{where}: tasks: {name}: kind is {entry.get('kind')!r}; expected "
                f"{' or '.join(kinds)}"
            )
        tasks.append(_read(kinds[entry["kind"]], {**entry, "name": name}, f"{where}: {name}"))
    conditions = [
        _read(Condition, {**_mapping(entry or {}, where), "name": name}, f"{where}: {name}")
        for name, entry in _mapping(parts.get("conditions") or {"as-is": {}}, where).items()
    ]
    methods = [
        _method(name, _mapping(entry or {}, f"{where}: methods: {name}"), where)
        for name, entry in _mapping(parts["methods"], f"{where}: methods").items()
    ]
    search = dict(_mapping(parts["search"], f"{where}: search"))
    if "source" in search:
        raise UserError(f"{where}: search: unknown key source; expected from")
    search["source"] = search.pop("from", {})
    spoilt = _mapping(parts.get("perturbations") or {}, f"{where}: perturbations")
    scalars = {k: parts[k] for k in ("name", "seeds", "keep", "device") if k in parts}
    hints = typing.get_type_hints(Matrix)
    return Matrix(
        tasks=tuple(tasks),
        conditions=tuple(conditions),
        methods=tuple(methods),
        search=_read(Search, search, f"{where}: search"),
        perturbations={
            name: _read(Perturbation, entry, f"{where}: perturbations: {name}")
            for name, entry in spoilt.items()
        },
        tables=_read(Tables, parts.get("tables") or {}, f"{where}: tables"),
        **{k: _value(hints[k], v, f"{where}: {k}") for k, v in scalars.items()},
    )


def _method(name: str, entry: Mapping[str, Any], where: str) -> Method:
    from xqg_pyserini.models.tuning import TuningSettings

    own = {k: v for k, v in entry.items() if k in _OF_METHOD}
    tuning = {"method": name, **{k: v for k, v in entry.items() if k not in own}}
    known = {f.name for f in dataclasses.fields(TuningSettings)}
    _refuse_unknown(tuning, known | set(own), f"{where}: methods: {name}")
    try:
        TuningSettings(**tuning)
    except UserError as error:
        raise UserError(f"{where}: methods: {name}: {error}") from None
    return _read(Method, {**own, "name": name, "tuning": tuning}, f"{where}: methods: {name}")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{where}: expected a mapping of names to settings, got {value!r:.60}")
    return value


def _refuse_unknown(entry: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise UserError(
            f"{where}: unknown key {unknown[0]}; expected some of {', '.join(sorted(known))}"
        )


def _read(cls: type, entry: Any, where: str) -> Any:
    """Make a dataclass of a mapping: no unknown key, no wrong type, none missing."""
    entry = _mapping(entry, where)
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    names = {"from" if cls is Search and f.name == "source" else f.name for f in fields}
    _refuse_unknown(entry, names | {f.name for f in fields}, where)
    for f in fields:
        optional = f.default is not dataclasses.MISSING
        if f.name not in entry and not optional and f.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: {f.name} is missing")
    return cls(**{k: _value(hints[k], v, f"{where}: {k}") for k, v in entry.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _read(typing.cast(type, hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # only `… | None` is used
        return None if value is None else _value(arguments[0], value, where)
    if origin is Literal:
        if value not in arguments:
            raise UserError(f"{where} is {value!r}; expected {' or '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where} is {value!r}; expected a list")
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin in (dict, Mapping):
        return dict(_mapping(value, where))
    return _scalar(hint, value, where)


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)  # YAML takes 2e-5, without a point, for text
        except (TypeError, ValueError):
            pass
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    raise UserError(f"{where} is {value!r}; expected {names.get(hint, hint.__name__)}")


def _check(matrix: Matrix, where: str) -> None:
    """Raise `UserError` where a matrix names what it does not have."""
    names = [task.name for task in matrix.tasks]
    conditions = [condition.name for condition in matrix.conditions]
    methods = [method.name for method in matrix.methods]
    for name in (*names, *conditions, *methods):
        if name in _RESERVED or "/" in name or name.startswith("."):
            raise UserError(f"{where}: {name!r} cannot be a name here; choose another")
    if not (names and methods and matrix.seeds and matrix.search.learning_rates):
        raise UserError(f"{where}: tasks, methods, seeds and learning_rates must not be empty")
    _check_tables(matrix.tables, methods, where)
    restricted: list[Method | Task] = [*matrix.methods, *matrix.tasks]
    for part in restricted:
        for name in part.conditions or ():
            if name not in conditions:
                raise UserError(
                    f"{where}: {part.name}: condition {name!r}; expected {', '.join(conditions)}"
                )
    pairs = [f"{task}/{condition}" for task in names for condition in conditions]
    for pair, source in matrix.search.source.items():
        for end in (pair, source):
            if end not in pairs:
                raise UserError(f"{where}: search: from: {end!r}; expected {', '.join(pairs)}")
        if source in matrix.search.source:
            raise UserError(f"{where}: search: from: {source} takes its own from elsewhere")
    _check_values(matrix, where)


def _check_tables(tables: Tables, methods: list[str], where: str) -> None:
    if tables.reference not in methods:
        raise UserError(
            f"{where}: tables: reference is {tables.reference!r}; "
            f"expected one of the methods: {', '.join(methods)}"
        )
    for name in (name for pair in tables.controls.items() for name in pair):
        if name not in methods:
            raise UserError(
                f"{where}: tables: controls: {name!r} is none of the methods: {', '.join(methods)}"
            )


def _check_values(matrix: Matrix, where: str) -> None:
    from xqg_pyserini.train.perturb import KINDS

    for task in matrix.tasks:
        check_languages(list(task.languages))
        if not task.seen or min(task.test, task.validation) < 1:
            raise UserError(f"{where}: {task.name}: seen, test and validation must not be empty")
    for name, spoilt in matrix.perturbations.items():
        if spoilt.kind not in KINDS or not 0 < spoilt.rate <= 1:
            raise UserError(
                f"{where}: perturbations: {name}: expected kind {', '.join(KINDS)}; "
                "rate above 0, at most 1"
            )
