"""Settings files and matrices, read and validated in one place.

Whatever such a file holds, what comes back is of the type asked for, or a `UserError` names the
file, the key and what to do.
"""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from xqg_pyserini.errors import UserError

Kind = TypeVar("Kind")


def read_json(path: Path, kind: type[Kind], remedy: str) -> Kind:
    """Read a JSON file as a value of a type that msgspec knows, such as a `Struct`.

    `remedy` ends the message of each error ("make the store again").
    Raises `UserError` where the file cannot be read, is no JSON, or holds another type.
    """
    data = _bytes(path).removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _wrong(path, error, remedy) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: broken JSON ({error}); {remedy}") from None


def read_yaml(path: Path, kind: type[Kind], remedy: str, where: str | None = None) -> Kind:
    """Read a YAML file like `read_json`; `where` names it in errors."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes no number that other readers could not."""

    def number(loader: yaml.SafeLoader, node: Any) -> int:
        value = loader.construct_yaml_int(node)
        if not -(1 << 63) <= value < 1 << 64:
            raise ValueError(f"line {node.start_mark.line + 1}: a number of too many digits")
        return value

    Loader.add_constructor("tag:yaml.org,2002:int", number)
    where = where or str(path)
    data = _bytes(path, where)
    try:
        value = yaml.load(data.decode("utf-8-sig"), Loader)
    except UnicodeDecodeError:
        raise UserError(f"{where}: not UTF-8; {remedy}") from None
    except Exception as error:  # bad dates, tags and numbers raise what their parsers raise
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{where}: broken YAML ({what}); {remedy}") from None
    return checked(value, kind, where, remedy)


def checked(value: Any, kind: type[Kind], where: str | Path, remedy: str) -> Kind:
    """Return a value that was read as one of a type, or raise `UserError` naming the key."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _wrong(where, error, remedy) from None
    except RecursionError as error:
        raise UserError(f"{where}: damaged ({error}); {remedy}") from None


def open_matrix(path: Path, remedy: str) -> np.memmap:
    """Memory-map a `.npy` file for reading; raises `UserError` where it is none, or not whole."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        if error.strerror is None:  # NumPy's own: fewer bytes than the header says
            raise UserError(f"{path}: truncated ({error}); {remedy}") from None
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # headers are parsed as Python, and raise whatever that raises
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: truncated or no NumPy matrix ({what}); {remedy}") from None


def _bytes(path: Path, where: str | None = None) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{where or path}: {error.strerror or error}") from None


def _wrong(where: str | Path, error: Exception, remedy: str) -> UserError:
    """Return the error for a value of another type: msgspec says `… - at `$.key[0]``."""
    text, _, place = str(error).partition(" - at `$")
    key = place.rstrip("`").lstrip(".")
    return UserError(f"{where}: damaged ({key + ': ' if key else ''}{text}); {remedy}")
