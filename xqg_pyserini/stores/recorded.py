"""What the `meta.json` of a folder of files records of each: `files`, checksums and counts.

Files are added as they are finished, by several machines too.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import expand, file_sha256, is_named, read_lines, writing
from xqg_pyserini.metadata import read_json
from xqg_pyserini.stores.store import META

_TRIES = 300  # to write meta.json where others do: half a minute
_AGAIN = "make the folder again"


class RecordedFile(Struct):
    """What is recorded of a file."""

    name: str
    bytes: int
    sha256: str
    records: int | None = None


class _Files(Struct):
    files: list[RecordedFile] = []


def recorded_files(folder: Path) -> dict[str, RecordedFile]:
    """Return what a folder records of its files, by their names; nothing where it does not."""
    meta = folder / META
    files = read_json(meta, _Files, _AGAIN).files if meta.is_file() else []
    return {file.name: file for file in files}


def record_files(folder: Path, records: dict[str, int]) -> None:
    """Record files that are whole, by their names, with the number of records in each."""
    new = {
        name: RecordedFile(name, (folder / name).stat().st_size, file_sha256(folder / name), number)
        for name, number in records.items()
    }
    for left in reversed(range(_TRIES if new else 0)):
        try:
            with writing(folder / META) as file:  # others wait, and read what is written here
                meta = read_json(folder / META, dict[str, Any], _AGAIN)
                files = {**recorded_files(folder), **new}
                meta["files"] = [to_builtins(files[name]) for name in sorted(files)]
                file.write(json.dumps(meta, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            return
        except UserError:
            if not left:
                raise
            time.sleep(0.1)


def is_whole(path: Path, records: int, known: RecordedFile | None) -> bool:
    """Tell whether a file is there with `records` records in it, none of them damaged.

    One of which nothing is known is read through.
    """
    if not path.is_file():
        return False
    if known is not None:
        same = (known.records, known.bytes) == (records, path.stat().st_size)
        return same and known.sha256 == file_sha256(path)
    try:
        return sum(1 for _ in read_lines(path)) == records
    except UserError:
        return False


def check_recorded(source: str | Path, described: Iterable[dict[str, Any]]) -> None:
    """Raise `UserError` for a file of an input that is not as its folder records it.

    `described` is what `describe_sources` said of the input.
    """
    known: dict[Path, dict[str, RecordedFile]] = {}
    if is_named(source):  # the folder of a data set records nothing
        return
    for path, now in zip(expand(source), described, strict=True):
        if path.parent not in known:
            known[path.parent] = _known(path.parent)
        file = known[path.parent].get(path.name)
        if file is not None and file.sha256 != now["sha256"]:
            raise UserError(f"{path}: changed since it was written (its checksum differs); make it again")


def _known(folder: Path) -> dict[str, RecordedFile]:
    """Return what a folder records of its files; a `meta.json` of something else says nothing."""
    try:
        return recorded_files(folder)
    except UserError:
        return {}
