"""Settings as dataclasses whose fields say what they are: the command line makes its flags of them.

A default is stated once, in the dataclass; flags, YAML keys and what is recorded are its fields.
"""

import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, field, fields
from typing import Any, NamedTuple


def option(default: Any = MISSING, help: str = "", *choices: str, **shown: Any) -> Any:
    """Declare a field of a settings dataclass.

    Args:
        default: the field's default; none makes the field required.
        help: what the flag's help says, without the default.
        choices: the values that it takes.
        shown: `metavar`, the placeholder of its value; `flag`, where it is not the field's name.
    """
    if isinstance(default, list | dict | set):
        raise TypeError("give a tuple, or None: a default is shared")
    return field(default=default, metadata={"help": help, "choices": choices, **shown})


class Option(NamedTuple):
    """What can be set: a field of a dataclass as a flag needs it."""

    name: str
    kind: type
    many: bool  # takes several values
    default: Any  # None where there is none
    required: bool
    help: str
    choices: tuple[str, ...]
    metavar: str | None
    flag: str  # without its dashes


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
    kind = kinds[0] if isinstance(kinds[0], type) else str  # Literals are text
    return Option(
        f.name,
        kind,
        bool(tuples),
        None if f.default is MISSING else f.default,
        f.default is MISSING and f.default_factory is MISSING,
        f.metadata["help"],
        tuple(f.metadata.get("choices", ())),
        f.metadata.get("metavar"),
        f.metadata.get("flag", f.name).replace("_", "-"),
    )
