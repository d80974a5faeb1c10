"""Rows and objects of text files, read strictly; which keys hold what; what is said of it.

Whether a file is JSON Lines or TSV is seen from its first character, never from its name.
"""

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import Line, expand, is_folder, read_lines, shown_name

LONGEST_CELL = 1000  # lines that one quoted cell may go over
QUOTED = re.compile(r'"((?:[^"]++|"")*+)"(?=\t|\Z)')  # a cell, its quotes doubled
UNCLOSED = re.compile(r'"(?:[^"\t]++|"")*+\Z')  # the start of one that goes on in the next line


class Notes:
    """What is decided while a source is read: each is said once, most of them with a count."""

    def __init__(self, source: Any) -> None:
        self.source = source if isinstance(source, str | Path) else "several files"
        self._said: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def once(self, message: str) -> None:
        """Warn of something now, unless it was said."""
        if message not in self._said:
            self._said.add(message)
            warn(shown_name(f"{self.source}: {message}"))

    def count(self, message: str, example: str) -> None:
        """Count something of which `close` warns: "{message}: {number}, the first {example}"."""
        self._counts[message] += 1
        self._first.setdefault(message, example)

    def close(self) -> None:
        """Warn of what was counted."""
        for message, number in self._counts.items():
            warn(shown_name(f"{self.source}: {message}: {number:,}, the first {self._first[message]}"))
        self._counts.clear()


# ---------------------------------------------------------------- JSON


class _RepeatedKey(ValueError):
    pass


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = Counter(key for key, _ in pairs)
        raise _RepeatedKey(keys.most_common(1)[0][0])
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct_keys)


def parse_json(line: Line, text: str | None = None) -> dict[str, Any]:
    """Parse a line (or `text`, which begins there) that must be a JSON object.

    Raises:
        UserError: for broken JSON, a key that stands twice in an object, half surrogate pairs.
    """
    text = line.text if text is None else text
    try:
        record = _DECODER.decode(text)
    except _RepeatedKey as error:
        raise line.error(
            f"the key {error.args[0]!r} stands twice in one object; its first value would be lost"
        ) from None
    except (ValueError, RecursionError) as error:
        raise line.error(f"broken JSON ({error}); expected one object a line") from None
    if not isinstance(record, dict):
        raise line.error(f"expected a JSON object, found {type(record).__name__}")
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise line.error("holds half a surrogate pair (\\ud800-\\udfff), not text") from None
        except RecursionError:
            raise line.error("broken JSON (nested too deep); expected one object a line") from None
    return record


def text_of(line: Line, record: dict[str, Any], key: str) -> str:
    """Return the text under a key, "" where it is null or not there."""
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise line.error(f"{key} is not a string")
    return value


def keys_of(record: Mapping[str, Any]) -> str:
    """Return what an error says of the keys that a record has."""
    names = [key if len(key) <= 40 else key[:40] + "…" for key in list(record)[:20]]
    return f"it has the keys {', '.join(names)}" if names else "it has no keys"


# ---------------------------------------------------------------- TSV


class Columns(NamedTuple):
    """The columns of TSV files of one kind: what each holds → the names that headers give it."""

    names: dict[str, tuple[str, ...]]
    required: tuple[str, ...]
    plain: str  # what is expected, for messages

    def header(self, line: Line, cells: list[str], fields: Mapping[str, str]) -> list[str] | None:
        """Return what each column holds where a row is a header, else None.

        A header names an id's column and those that are required, in any order, upper or lower
        case, perhaps after `#`.  `fields`: names that the user gave, by what they hold.

        Raises:
            UserError: for a header without a column that is required, or a name given twice.
        """
        names = [cell.strip().lower() for cell in cells]
        names[0] = names[0].removeprefix("#").strip()
        held = {name: what for what, several in self.names.items() for name in several}
        for what, name in fields.items():
            held = {n: w for n, w in held.items() if w != what} | {name.lower(): what}
        columns = [held.get(name, "") for name in names]
        if "id" not in columns or len(cells) < 2:
            return None
        lacking = [what for what in self.required if what not in columns]
        if lacking and columns[0] == "id" and all(re.fullmatch(r"[\w.-]+", n) for n in names):
            raise line.error(f"a header ({', '.join(cells)[:80]}) without {lacking[0]}; expected {self.plain}")
        if lacking:
            return None
        twice = [what for what in columns if what and columns.count(what) > 1]
        if twice:
            raise line.error(f"a header with two columns for {twice[0]}; expected {self.plain}")
        return columns


def plain_rows(lines: Iterable[Line]) -> Iterator[tuple[Line, list[str]]]:
    """Yield the rows of TSV in which quotes are characters like any other."""
    for line in lines:
        if line.text.strip():
            yield line, line.text.split("\t")


def quoted_rows(lines: Iterable[Line]) -> Iterator[tuple[Line, list[str]]]:
    """Yield the rows of TSV whose cells may be quoted as the csv module does it.

    A quoted cell may hold tabs, or line ends, but not both.  A quote that nothing closes is a
    character like any other; where its row lacks a column for it, it is an error.
    """
    ahead: deque[Line] = deque()
    source = iter(lines)

    def peek(number: int) -> Line | None:
        while len(ahead) <= number and (line := next(source, None)) is not None:
            ahead.append(line)
        return ahead[number] if number < len(ahead) else None

    width = 2
    while peek(0) is not None:
        line = ahead.popleft()
        if '"' in line.text:
            cells, used, unclosed = _cells(line.text, peek)
            if unclosed and len(cells) < width:
                raise line.error(
                    f"a quote that nothing closes, and {len(cells)} of {width} columns; close it, "
                    "or write the row in one line"
                )
            for _ in range(used):
                ahead.popleft()
        elif line.text.strip():
            cells = line.text.split("\t")
        else:
            continue
        width = max(width, min(len(cells), 3))
        yield line, cells


def _cells(text: str, peek: Callable[[int], Line | None]) -> tuple[list[str], int, bool]:
    """Return a row's cells, how many lines after the first it took, whether a quote is open."""
    cells, position, used, unclosed = [], 0, 0, False
    while True:
        cell = None
        if text.startswith('"', position):
            whole, taken = text, used
            cell = QUOTED.match(whole, position)
            while cell is None and taken < LONGEST_CELL and UNCLOSED.match(whole, position):
                if (more := peek(taken)) is None:
                    break
                whole, taken = f"{whole}\n{more.text}", taken + 1
                cell = QUOTED.match(whole, position)
            if cell is not None and "\n" in cell[0] and "\t" in cell[0]:
                cell = None
            if cell is not None:
                text, used = whole, taken
                cells.append(cell[1].replace('""', '"'))
                position = cell.end()
            elif UNCLOSED.match(text, position):
                unclosed = True
        if cell is None:
            end = text.find("\t", position)
            end = len(text) if end < 0 else end
            cells.append(text[position:end])
            position = end
        if position >= len(text):
            return cells, used, unclosed
        position += 1  # the tab


# ---------------------------------------------------------------- files


class Kind(NamedTuple):
    """How the records of one kind of input are made; None for a format that it does not come in."""

    what: str
    from_json: Callable[[Line], Any]
    rows: Callable[[Iterable[Line]], Iterator[tuple[Line, list[str]]]] | None = None
    from_row: Callable[[Line, list[str], bool], Any] | None = None  # the first of its file?


def read_records(source: str | Path, kind: Kind, notes: Notes) -> Iterator[tuple[Line, Any]]:
    """Yield the records of all files of `source`, lazily, each with its line.

    A record that is None is none (a header).

    Raises:
        UserError: for a file of another format, and where there is no record.
    """
    number = 0
    for path in expand(source, say_left_out=True):
        lines = read_lines(path, blank=True)
        first = next((line for line in lines if line.text and not line.text.isspace()), None)
        before = number
        if first is None:
            pass
        elif first.text.lstrip()[0] in "{[":
            for line in chain([first], lines):
                if line.text and not line.text.isspace():
                    record = kind.from_json(line)
                    if record is not None:
                        number += 1
                        yield line, record
        elif kind.rows is None or kind.from_row is None:
            raise first.error(f"expected JSON Lines, found {first.text[:40]!r}")
        else:
            for line, cells in kind.rows(chain([first], lines)):
                record = kind.from_row(line, cells, line is first)
                if record is not None:
                    number += 1
                    yield line, record
        if number == before and (path.stat().st_size or not is_folder(source)):
            notes.count(f"files without a {kind.what}", path.name)
    if not number:
        raise UserError(f"{shown_name(source)}: no {kind.what} in it; expected at least one")
    notes.close()
