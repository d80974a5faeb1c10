"""Settings files and matrices, read and validated in one place.

Whatever such a file holds, what comes back is of the type asked for, or a `UserError` names the file, the key and what
to do.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xqg_pyserini.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Kind = TypeVar("Kind")


DEEPEST = 200  # arrays and objects within each other; no file of ours or of others comes near
_NESTING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)  # texts (their brackets do not count), brackets


class RepeatedKey(ValueError):
    """A JSON object has a key twice."""


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's pairs as a dict; raises `RepeatedKey` where one would be lost."""
    record = dict(pairs)
    if len(record) != len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RepeatedKey(f"the key {key!r} stands twice in one object")
    return record


def refuse_deep(text: str) -> None:
    """Raise `ValueError` for JSON that is nested deeper than `DEEPEST`.

    From Python 3.12 the parser's own limit lies so high that it can end a process in which Java runs.
    """
    if text.count("[") + text.count("{") <= DEEPEST:
        return
    depth = 0
    for found in _NESTING.finditer(text):
        depth += 1 if found[0] in "[{" else -1 if found[0] in "]}" else 0
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")


def read_json(path: Path, kind: type[Kind], remedy: str, about: str | Sequence[str] = ()) -> Kind:
    """Read a JSON file as a value of a type that msgspec knows, such as a `Struct`.

    `remedy` ends the message of each error ("make the store again"), and `about` names the settings it speaks of.
    Raises `UserError` where the file cannot be read, is no JSON, has a key twice, or holds another type.
    """
    text = _text(path, remedy)
    try:
        refuse_deep(text)
        value = json.loads(text, object_pairs_hook=distinct, parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except ValueError as error:
        raise UserError(f"{path}: broken JSON ({error}); {remedy}", about) from None
    return checked(value, kind, path, remedy, about)


def read_yaml(path: Path, kind: type[Kind], remedy: str) -> Kind:
    """Read a YAML file like `read_json`."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes no key twice, and no number that other readers could not."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = set()
            for key in (key for key, _ in node.value if isinstance(key.value, str)):
                if key.value in keys:
                    raise ValueError(
                        f"line {key.start_mark.line + 1}: the key {key.value!r} stands twice in one object"
                    )
                keys.add(key.value)
            return super().construct_mapping(node, deep)

        def construct_yaml_int(self, node: Any) -> int:
            value = super().construct_yaml_int(node)
            if not -(1 << 63) <= value < 1 << 64:
                raise ValueError(f"line {node.start_mark.line + 1}: a number of too many digits")
            return value

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    text = _text(path, remedy)
    try:
        value = yaml.load(text, Loader)
    except Exception as error:  # bad dates, tags and numbers raise what their parsers raise
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: broken YAML ({what}); {remedy}") from None
    return checked(value, kind, path, remedy)


def checked(value: Any, kind: type[Kind], where: str | Path, remedy: str, about: str | Sequence[str] = ()) -> Kind:
    """Return a value that was read as one of a type, or raise `UserError` naming the key."""
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        text, _, place = str(error).partition(" - at `$")  # as msgspec says it: "… - at `$.key[0]`"
        key = place.rstrip("`").lstrip(".")
        raise UserError(f"{where}: damaged ({key + ': ' if key else ''}{text}); {remedy}", about) from None
    except UserError as error:  # a type's own
        raise UserError(f"{where}: {error}; {remedy}", about or error.about) from None


def open_matrix(path: Path, remedy: str) -> "np.memmap":
    """Memory-map a `.npy` file for reading; raises `UserError` where it is none, or not whole."""
    from numpy.lib import format as npy

    try:
        return npy.open_memmap(path, mode="r")
    except Exception as error:  # headers are parsed as Python, and raise whatever that raises
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: {error.strerror}") from None
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: truncated or no NumPy matrix ({what}); {remedy}") from None


def difference(key: str, before: Any, now: Any) -> str:
    """Name what differs between two values that a settings file records, down to the field."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*now, *before]:
            if before.get(name) != now.get(name):
                return difference(f"{key}.{name}", before.get(name), now.get(name))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (one, other) in enumerate(zip(before, now, strict=True)):
            if one != other and isinstance(one, dict):
                return difference(f"{key}[{i}]", one, other)
    return f"{key} is {_shown(before)} there and {_shown(now)} here"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _text(path: Path, remedy: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start + 1}); {remedy}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")
