"""Rows and objects of text files, read strictly; which keys hold what; what is said of it.

Whether a file is JSON Lines, a JSON array, TSV or CSV is seen from its first line, never from its name.
"""

import csv
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from xqg_pyserini.data.ids import shown
from xqg_pyserini.data.sources import parts_of
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import FilePath, Line, shown_name
from xqg_pyserini.metadata import RepeatedKey, distinct, refuse_deep

LONGEST_ROW = 1000  # lines that one row may go over


class Notes:
    """What is decided while a source is read; each is said once."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def say(self, message: str, example: str | None = None) -> None:
        """Warn of something; with an example of it, only when all is read, with its number and the first example."""
        self._counts[message] += 1
        if example is not None:
            self._first.setdefault(message, example)
        elif self._counts[message] == 1:
            warn(shown_name(f"{self.source}: {message}"))

    def close(self) -> None:
        """Warn of what was counted."""
        for message, example in self._first.items():
            warn(shown_name(f"{self.source}: {message}: {self._counts[message]:,}, the first {example}"))
        self._first.clear()


# ---------------------------------------------------------------- JSON


def _integer(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)  # which is no id


_DECODER = json.JSONDecoder(object_pairs_hook=distinct, parse_int=_integer)


def parse_json(line: Line, text: str | None = None, kind: type = dict, form: str = "one object a line") -> Any:
    """Parse a line (or `text`, which begins there) that must be JSON of a kind.

    Raises:
        UserError: for JSON that is broken or nested too deep, a key that stands twice in an object, half surrogates.
    """
    text = line.text if text is None else text
    try:
        refuse_deep(text)
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RepeatedKey as error:
        raise line.error(f"{error}; its first value would be lost") from None
    except UnicodeEncodeError:
        raise line.error("holds half a surrogate pair (\\ud800-\\udfff), not text") from None
    except ValueError as error:
        raise line.error(f"broken JSON ({error}); expected {form}") from None
    return expect(line, value, kind)


def expect(line: Line, value: Any, kind: type = dict) -> Any:
    """Return a JSON value that is of a kind, or raise `UserError`."""
    if not isinstance(value, kind):
        raise line.error(f"expected a JSON {'object' if kind is dict else 'array'}, found {type(value).__name__}")
    return value


def text_of(line: Line, record: Mapping[str, Any], key: str) -> str:
    """Return the text under a key, "" where it is null or not there."""
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise line.error(f"{key} is {shown(value)}, not a string")
    return value


def keys_of(record: Mapping[str, Any]) -> str:
    """Return what an error says of the keys that a record has."""
    names = [key if len(key) <= 40 else key[:40] + "…" for key in list(record)[:20]]
    return f"it has the keys {', '.join(names)}" if names else "it has no keys"


# ---------------------------------------------------------------- Belebele

BELEBELE = frozenset(("link", "question_number", "flores_passage", "question"))  # a question, and its passage beside it


def belebele_question(line: Line, record: Mapping[str, Any]) -> str:
    """Return the id of a question of Belebele, which is the same in all languages: its passage's, # and its number."""
    link, number = record["link"], record["question_number"]
    if not isinstance(link, str) or isinstance(number, bool) or not isinstance(number, int | str):
        raise line.error(f"link and question_number are {shown(link)} and {shown(number)}, not text and a number")
    return f"{link}#{number}"


# ---------------------------------------------------------------- TSV and CSV


class Table(NamedTuple):
    """How one kind of input stands in tables."""

    names: Mapping[str, tuple[str, ...]]  # what a column holds → the names that headers give it
    required: str  # beside id
    plain: str  # what is expected, for messages
    columns: Callable[[list[str]], list[str]]  # the first row → what its columns hold, where there is no header
    quoted: bool  # whether cells of TSV are quoted as the csv module does it; those of CSV always are

    def header(self, line: Line, cells: list[str], fields: Mapping[str, str]) -> list[str] | None:
        """Return what each column holds where a row is a header, else None.

        A header names the columns of the id (or of answers, as DPR's questions have no ids) and of what is required,
        in any order, upper or lower case, perhaps after `#`.  `fields`: names that the user gave, by what they hold.

        Raises:
            UserError: for a header without the column that is required, or a name given twice.
        """
        names = [cell.strip().lower() for cell in cells]
        names[0] = names[0].removeprefix("#").strip()
        known = dict(self.names) | {what: (name.lower(),) for what, name in fields.items()}
        held = {name: what for what, several in known.items() for name in several}
        columns = [held.get(name, "") for name in names]
        lacks = next((what for what in (self.required, "id") if what not in columns), None)
        if lacks == "id" and "answers" in columns:
            lacks = None
        if lacks:
            are_names = all(re.fullmatch(r"[^\W\d][\w.-]*", name) for name in names)
            if not are_names or len(names) < 2 or (columns[0] != "id" and self.required not in columns):
                return None
            about = "question_id_field" if lacks == "id" and self.required == "question" else f"{lacks}_field"
            without = f"a header ({', '.join(cells)[:80]}) without {lacks}"
            raise line.error(f"{without}; expected {self.plain}", about)
        twice = [what for what in columns if what and columns.count(what) > 1]
        if twice:
            raise line.error(f"a header with two columns for {twice[0]}; expected {self.plain}")
        return columns


def _read_rows(
    table: Table, fields: Mapping[str, str], lines: Iterator[Line], notes: Notes
) -> Iterator[tuple[Line, dict[str, str]]]:
    """Yield the rows of a file: what each column holds → its cell; columns that nobody knows are under ""."""
    first = next(lines)
    by, titles, header = _find_header(table, fields, first)
    columns = header or table.columns(titles)
    if unused := [title for title, what in zip(titles, columns, strict=False) if header and not what]:
        notes.say(f"columns that are left out: {', '.join(unused)[:200]}")
    needed = [table.required, "id" if "id" in columns else "answers"] if header else columns[:2]
    expected = table.plain if columns == ["id", table.required] else ", ".join(what or "…" for what in columns)
    width = len(columns) if header else 0
    rest = lines if header else chain([first], lines)
    plain = by == "\t" and not table.quoted
    for line, cells, is_open in _plain_rows(rest) if plain else _quoted_rows(rest, by):
        if header and cells == titles:
            notes.say(f"the header again, in line {line.number}: files joined into one?")
            continue
        if is_open and len(cells) < width:
            what = f"a quote that nothing closes, and {len(cells)} of {width} columns"
            raise line.error(f"{what}; close it, or write the row in one line")
        row = dict(zip(columns, cells, strict=False))
        if len(cells) > len(columns) or not all(what in row for what in needed):
            other = "" if header else "; a first line with their names says what others hold"
            if len(cells) < 2:
                other = "; cells stand between tabs (or commas, below a first line with their names)"
            raise line.error(f"{len(cells)} columns; expected {expected}{other}")
        if is_open or len(cells) < width:
            _say_odd(line, is_open, len(cells) < width, notes)
        if not header and len(cells) > 2:
            notes.say(f"three columns without a header, read as {expected}")
        width = max(width, len(cells))
        yield line, row


def _find_header(table: Table, fields: Mapping[str, str], first: Line) -> tuple[str, list[str], list[str] | None]:
    """Return what stands between cells, those of the first line, and what its columns hold if it is a header."""
    for by in ("\t", ","):
        titles = csv_cells(first.text, by) or first.text.split(by)
        if (header := table.header(first, titles, fields)) is not None:
            return by, titles, header
    if fields:
        raise first.error(f"no header with the column {next(iter(fields.values()))!r}")
    return "\t", first.text.split("\t"), None


def _say_odd(line: Line, is_open: bool, is_short: bool, notes: Notes) -> None:
    where = f"line {line.number}"
    if is_open:
        notes.say("rows with a quote that nothing closes, read as a character like any other", where)
    if is_short:
        notes.say("rows with fewer columns than others, of which what they lack is empty", where)


def _plain_rows(lines: Iterable[Line]) -> Iterator[tuple[Line, list[str], bool]]:
    for line in lines:
        if line.text.strip():
            yield line, line.text.split("\t"), False


def _quoted_rows(lines: Iterable[Line], by: str) -> Iterator[tuple[Line, list[str], bool]]:
    """Yield the rows of cells that may be quoted, and whether a quote in them is open.

    In TSV a quoted cell may hold tabs or line ends, but not both, and a quote that nothing closes is a character like
    any other: published files have such.
    """
    ahead: deque[Line] = deque()
    source = iter(lines)
    while (line := ahead.popleft() if ahead else next(source, None)) is not None:
        if '"' not in line.text:
            if line.text.strip():
                yield line, line.text.split(by), False
            continue
        text, used = line.text, 0
        cells = csv_cells(text, by)
        while cells is None and used < LONGEST_ROW:
            if used == len(ahead):
                ahead.extend([more] if (more := next(source, None)) else [])
            if used == len(ahead) or (by == "\t" and re.match(r'[^"]*\t', ahead[used].text)):
                break
            text, used = f"{text}\n{ahead[used].text}", used + 1
            cells = csv_cells(text, by)
        is_open = not cells or (by == "\t" and any("\n" in cell and "\t" in cell for cell in cells))
        if is_open:
            is_open, cells = cells != [], [unquoted(cell) for cell in line.text.split(by)]
        else:
            for _ in range(used):
                ahead.popleft()
        yield line, cells or [], is_open


def csv_cells(text: str, by: str) -> list[str] | None:
    """Return the cells of a row; none for quotes that cannot be, None where one is open at the end."""
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        return next(csv.reader([text], delimiter=by, strict=True))
    except csv.Error as error:
        return None if "end of data" in str(error) else []


def unquoted(cell: str) -> str:
    """Undo the quotes of one cell, where it is quoted as a whole."""
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


# ---------------------------------------------------------------- files


class Kind(NamedTuple):
    """How the records of one kind of input are made; no table for one that does not come in tables."""

    what: str
    from_record: Callable[[Line, dict[str, Any]], Any]
    table: Table | None = None
    from_row: Callable[[Line, dict[str, str]], Any] = lambda line, row: None
    fields: Mapping[str, str] = {}  # what a column holds → the name that the user gave


def read_records(source: FilePath, kind: Kind, notes: Notes) -> Iterator[tuple[Line, Any]]:
    """Yield the records of all files of `source`, lazily, each with its line; one that is None is left out.

    A JSON array is read whole before its first record is yielded.

    Raises:
        UserError: for a file of another format, and where there is no record.
    """
    number = 0
    for part in parts_of(source, kind.what, kind.fields):
        before, lines = number, part.lines()
        first = next((line for line in lines if line.text and not line.text.isspace()), None)
        for line, record in () if first is None else _records_of(first, lines, kind, notes):
            if record is not None:
                number += 1
                yield line, record
        if number == before and not part.is_empty:
            notes.say(f"files without a {kind.what}", part.path.name)
    if not number:
        raise UserError(f"{shown_name(source)}: no {kind.what} in it; expected at least one")
    notes.close()


def _records_of(first: Line, lines: Iterator[Line], kind: Kind, notes: Notes) -> Iterator[tuple[Line, Any]]:
    lines, start = chain([first], lines), first.text.lstrip()[0]
    if start == "{":
        for line in lines:
            if line.text and not line.text.isspace():
                yield line, kind.from_record(line, parse_json(line))
    elif start == "[":
        whole = parse_json(first, "\n".join(line.text for line in lines), list, "an array over the whole file")
        for number, record in enumerate(whole, 1):
            entry = Line(first.path, number, json.dumps(record, ensure_ascii=False), "entry")
            yield entry, kind.from_record(entry, expect(entry, record))
    elif kind.table is None:
        raise first.error(f"expected JSON Lines, found {first.text[:40]!r}")
    else:
        for line, row in _read_rows(kind.table, kind.fields, lines, notes):
            yield line, kind.from_row(line, row)
