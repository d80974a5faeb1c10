"""Settings as dataclasses whose fields say what they are: the command line makes its flags of them.

A default is stated once, in the dataclass; flags, YAML keys and what is recorded are its fields.
"""

import contextlib
import math
import operator
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini import metadata
from xqg_pyserini.errors import UserError

BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {  # name → its test, and how errors say it
    "least": (operator.ge, "{} or more"),
    "above": (operator.gt, "above {}"),
    "most": (operator.le, "at most {}"),
    "below": (operator.lt, "below {}"),
}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def option(default: Any = MISSING, help: str = "", *choices: str, **shown: Any) -> Any:
    """Declare a field of a settings dataclass.

    Args:
        default: the field's default; none makes the field required.
        help: what the flag's help says, without the default.
        choices: the values that it takes.
        shown: `metavar`, the placeholder of its value; `flag`, where it is not the field's name;
            `least`, `above`, `most`, `below`, the bounds of a number.
    """
    if isinstance(default, list | dict | set):
        raise TypeError("give a tuple, or None: a default is shared")
    return field(default=default, metadata={"help": help, "choices": choices, **shown})


class Option(NamedTuple):
    """What can be set: a field of a dataclass as a flag needs it."""

    name: str
    kind: type
    kinds: tuple[type, ...]  # `kind`, and what else Python may give
    many: bool  # takes several values
    default: Any  # None where there is none
    required: bool
    help: str
    choices: tuple[str, ...]
    metavar: str | None
    flag: str  # without its dashes
    bounds: Mapping[str, float]

    def takes(self, value: Any) -> bool:
        """Tell whether it can be set to a value (one of them, where it takes several)."""
        if self.choices:
            return value in self.choices
        kinds = (*self.kinds, int) if self.kind is float else self.kinds
        if not isinstance(value, kinds) or (isinstance(value, bool) and self.kind is not bool):
            return False
        finite = not isinstance(value, float) or math.isfinite(value)
        return finite and all(BOUNDS[name][0](value, bound) for name, bound in self.bounds.items())

    @property
    def expected(self) -> str:
        """Say which values it takes, for errors."""
        if self.choices:
            return ", ".join(self.choices)
        bounds = [BOUNDS[name][1].format(bound) for name, bound in self.bounds.items()]
        return ", ".join([_KINDS.get(self.kind, "text"), *bounds])

    def read(self, value: Any, where: str | Path) -> Any:
        """Return a value of a YAML file as the field has it; raises `UserError`, naming `where`."""
        if self.many:
            items = value if isinstance(value, list) else [value]
            return tuple(self._replace(many=False).read(item, where) for item in items)
        if self.kind is float and type(value) in (int, str):  # YAML takes 1e-5 for text
            with contextlib.suppress(ValueError):
                value = float(value)
        if value is not None and not self.takes(value):
            raise UserError(f"{where}: {self.name} is {value!r}; expected {self.expected}", self.name)
        return value


def options(cls: type) -> Iterator[Option]:
    """Yield what can be set in a settings dataclass, in the order of its fields."""
    hints = typing.get_type_hints(cls)
    for f in fields(cls):
        if f.init and "help" in f.metadata:
            yield _option(f, hints[f.name])


def _option(f: Field[Any], hint: Any) -> Option:
    several = [hint, *typing.get_args(hint)]
    tuples = [kind for kind in several if typing.get_origin(kind) is tuple]
    inner = typing.get_args(tuples[0]) if tuples else several[1:] or [hint]
    kinds = [kind for kind in inner if kind not in (type(None), Ellipsis)]
    kinds = [kind if isinstance(kind, type) else str for kind in kinds]  # Literals are text
    default = None if f.default is MISSING else f.default
    required = f.default is MISSING and f.default_factory is MISSING
    said, flag = f.metadata, f.metadata.get("flag", f.name).replace("_", "-")
    bounds = {name: said[name] for name in BOUNDS if name in said}
    shown = (said["help"], said["choices"], said.get("metavar"), flag)
    return Option(f.name, kinds[0], tuple(kinds), bool(tuples), default, required, *shown, bounds)


def check_values(settings: Any) -> None:
    """Raise `UserError` for a value that its field does not take; for `__post_init__`.

    Paths become text, and what holds several values becomes a tuple.
    """
    for each in options(type(settings)):
        value = getattr(settings, each.name)
        if value is None and each.default is None:
            continue
        if each.many:
            value = [value] if isinstance(value, str | Path) else value
            value = tuple(str(item) if isinstance(item, Path) else item for item in value)
        elif isinstance(value, Path):
            value = str(value)
        object.__setattr__(settings, each.name, value)
        for item in value if each.many else (value,):
            if not each.takes(item):
                raise UserError(f"{each.name} is {item!r}; expected {each.expected}", each.name)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping of settings to values, whose keys may have - for _, or raise `UserError`."""
    record: Any = metadata.read_yaml(path, object, "correct it")
    if not isinstance(record, dict):
        raise UserError(f"{path}: expected a mapping of settings to values")
    return {str(key).replace("-", "_"): value for key, value in record.items()}
