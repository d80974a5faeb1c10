"""Runs and qrels: the files that trec_eval and others read, and Python values that stand for them.

What is decided about a file by itself is said in an `XqgWarning`.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ctypes import c_float
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.data.ids import check_id, shown
from xqg_pyserini.data.languages import check_languages
from xqg_pyserini.data.records import AnyRun, Qrels, Run
from xqg_pyserini.data.rows import BELEBELE, Notes, belebele_question, csv_cells, keys_of, parse_json
from xqg_pyserini.data.sources import Part, parts_of
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, Line, check_name, is_named, read_lines, shown_name, writing
from xqg_pyserini.settings import check_values, option

RunLike = FilePath | Mapping[str, Mapping[str, float]] | Iterable[Any]
QrelsLike = FilePath | Mapping[str, Mapping[str, int]] | Iterable[Any]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How runs are read."""

    order: str = option(
        "rank",
        "what orders a run's hits: their ranks, or their scores (equal ones by docid from z to a, as trec_eval has it)",
        "rank",
        "score",
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True)
class RunFile(RunSettings, os.PathLike[str]):
    """A run's file, wherever one is taken, that is read otherwise than usual: RunFile("a.trec", order="score")."""

    path: FilePath

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)


class Form(NamedTuple):
    """What columns mean by their number: where docid, rank and value stand (-1: nowhere), and what is said of it."""

    expected: str
    columns: dict[int, tuple[int, int, int, str]]


RUN_FORM = Form(
    "six: qid Q0 docid rank score tag",
    {
        6: (2, 3, 4, ""),
        5: (2, 3, 4, "5 columns, read as qid Q0 docid rank score"),
        4: (1, 2, 3, "4 columns, read as qid docid rank score"),
        3: (1, -1, 2, ""),  # ranks or scores: see `_are_ranks`
    },
)
QRELS_FORM = Form(
    "four: qid 0 docid relevance", {4: (2, -1, 3, ""), 3: (1, -1, 2, "three columns, read as qid docid relevance")}
)
INFINITE = float("inf")
HEADERS = {
    "qid": ("qid", "query-id", "query_id", "queryid", "query", "topic", "topic_id", "q_id"),
    "docid": (
        "docno",
        "docid",
        "corpus-id",
        "corpus_id",
        "doc_id",  # PyTerrier's docid is a number of its own
        "pid",
        "passage_id",
        "iter_id",
    ),
    "rank": ("rank",),
    "value": ("score", "relevance", "rel", "label", "similarity"),
}
UNUSED = ("q0", "0", "iter", "iteration", "tag")  # columns of TREC's that say nothing


class _Row(NamedTuple):
    """A line of a run; `rank` is None where the file has none."""

    docid: str
    rank: int | None
    score: float | None
    number: int


def read_run(source: FilePath | Mapping[str, FilePath], order: str = "rank") -> Run:
    """Read a run: hits by rank for each question, questions in the order they appear.

    Takes TREC's six columns (a tag may hold spaces, or be left out), `qid docid rank score`,
    `qid docid score` (Tevatron), `qid docid rank` (MS MARCO; the score is 1/rank), these with a
    header, and ranx's JSON ({qid: {docid: score}}).  Lines may stand in any order and ranks may
    start anywhere.  Where all ranks are equal, or there are none, the order is that of scores,
    which a warning says.  Lines that begin with `#` are comments.

    Args:
        source: a file (a `RunFile` has its own order), or language → file: the question ids then begin with the
            language.
        order: "rank", or "score": by score whatever the ranks say, equal scores (in 32 bits) by docid
            from z to a, as trec_eval does.

    Raises:
        UserError: for a line that is none of these, a docid or rank that comes twice, a score that
            is not a finite number or (by rank) rises with the rank.
    """
    if isinstance(source, Mapping):
        RunSettings(order=order)
        return _prefixed(source, lambda path: read_run(path, order))
    return dict(open_run(source, order))


def open_run(source: FilePath, order: str = "rank") -> Mapping[str, dict[str, float]]:
    """Read a run file as `read_run` does, in 8 bytes a hit besides its docid where it is a plain TREC file.

    The hits of a question are then made a dictionary each time that they are asked for.
    """
    order = RunSettings(order=source.order if isinstance(source, RunFile) else order).order
    path = Path(source)
    check_name(path)
    if not os.path.exists(path) or os.path.isdir(path):
        raise UserError(f"{shown_name(path)}: no such run file")
    from xqg_pyserini.data.columns import read_columns  # it takes NumPy

    return read_columns(path, order, _is_plain) or _read_strictly(path, order)


def _is_plain(first: str) -> bool:
    """Tell whether a file's first line is one of six columns that says nothing about the others."""
    return first[:1] not in ("", "{", "[", "#") and "," not in first and _header(first.split()) is None


def _read_strictly(path: Path, order: str) -> Run:
    notes = Notes(path)
    rows: dict[str, list[_Row]] = {}
    for line, qid, docid, rank, value in _table(read_lines(path), RUN_FORM, notes):
        row = _row(line, docid, rank, value)
        if row.score is not None and not abs(row.score) < INFINITE:
            raise line.error(f"score {str(value)[:60]!r} is not a finite number")
        rows.setdefault(qid, []).append(row)
    if not rows:
        raise UserError(f"{shown_name(path)}: no hit in it; expected a TREC run")
    if all(row.score is None for hits in rows.values() for row in hits) and order == "score":
        raise UserError(f"{shown_name(path)}: has ranks alone, no scores", "order")
    several = [hits for hits in rows.values() if len({row.docid for row in hits}) > 1]
    if order == "rank" and all(row.rank is None for hits in rows.values() for row in hits):
        order = "score"
    elif order == "rank" and several and all(len({r.rank for r in hits}) == 1 for hits in several):
        notes.say("all ranks are equal; ordered by score, equal scores by docid from z to a")
        order = "score"
    run = {qid: _ordered(path, qid, hits, order, notes) for qid, hits in rows.items()}
    notes.close()
    return run


def _prefixed(sources: Mapping[str, FilePath], read: Callable[[FilePath], Any]) -> Any:
    check_languages(sources)
    return {f"{code}-{qid}": value for code, path in sources.items() for qid, value in read(path).items()}


def _ordered(path: Path, qid: str, rows: list[_Row], order: str, notes: Notes) -> dict[str, float]:
    """Return the hits of a question, best first."""
    if order == "score":
        rows.sort(key=lambda row: (c_float(row.score).value, row.docid), reverse=True)  # type: ignore[arg-type]
    else:
        rows.sort(key=lambda row: row.rank)  # type: ignore[arg-type, return-value]
    hits: dict[str, float] = {}
    last: _Row | None = None
    for row in rows:
        line = Line(path, row.number, "")
        if last is not None and row[:3] == last[:3]:
            notes.say("lines that come twice, of which one is read", f"line {row.number}")
            continue
        if row.docid in hits:
            raise line.error(f"passage {row.docid!r} comes twice for question {qid!r}")
        if last is not None and order == "rank":
            if row.rank == last.rank:
                raise line.error(f"rank {row.rank} of question {qid!r} comes twice", "order")
            if row.score is not None and row.score > last.score:  # type: ignore[operator]
                rises = f"the score of question {qid!r} rises at rank {row.rank}"
                raise line.error(f"{rises}; to go by scores, order by 'score' (negate distances first)", "order")
        hits[row.docid] = 1 / (len(hits) + 1) if row.score is None else row.score
        last = row
    return hits


# ---------------------------------------------------------------- tables of either


def _table(read: Iterator[Line], form: Form, notes: Notes) -> Iterator[tuple[Line, str, str, str | None, Any]]:
    """Yield line, qid, docid, rank and value (score or relevance; None where there is none)."""
    lines = _without_comments((line for line in read if line.text and not line.text.isspace()), notes)
    first = next(lines, None)
    if first is None:
        return
    if first.text.lstrip()[0] in "{[":
        by_score = "; a run is ordered by its scores" if form is RUN_FORM else ""
        notes.say(f"read as ranx's JSON, {{qid: {{docid: value}}}}{by_score}")
        yield from _nested(first, lines)
        return
    by_comma = first.text.count(",") >= 2 and all(cell.endswith(",") for cell in first.text.split()[:-1])
    cells = _cells(first.text, by_comma)
    header, width, unsure, tag = _header(cells), len(cells), False, []
    layout = header or ()
    if header is None:
        tag = cells[5:] if form is RUN_FORM and width > 6 else []
        number = 6 if tag else width
        if number not in form.columns or (width == 3 and cells[1] in ("0", "Q0")):
            raise first.error(f"{width} columns; expected {form.expected}")
        *where, said = form.columns[number]
        layout, unsure, lines = (0, *where), form is RUN_FORM and width == 3, chain([first], lines)
        if said:
            notes.say(said)
    elif unused := [c for i, c in enumerate(cells) if i not in header and c.lower() not in UNUSED]:
        notes.say(f"columns that are left out: {', '.join(unused)[:200]}")
    pick: Callable[[list[Any]], Any] = itemgetter(*layout)
    waiting: list[tuple[Line, str, str, Any, Any]] = []
    for line in lines:
        cells = _cells(line.text, by_comma)
        if len(cells) != width or (tag and cells[5:] != tag):  # else a docid holds white space
            raise line.error(f"{len(cells)} columns; expected {form.expected}")
        qid, docid, rank, value = pick([*cells, None])  # -1: what nothing holds
        row = (line, qid, docid, rank, value)
        if unsure:
            waiting.append(row)
        else:
            yield row
    if waiting and _are_ranks(waiting):
        notes.say("three columns; the third is read as the rank (MS MARCO's), the score is 1/rank")
        yield from ((line, qid, docid, number, None) for line, qid, docid, _, number in waiting)
    elif waiting:
        by_score = "ordered by it, equal scores by docid from z to a"
        notes.say(f"no ranks; the third column is read as the score (Tevatron's), {by_score}")
        yield from waiting


def _cells(text: str, by_comma: bool) -> list[str]:
    return [cell.strip() for cell in csv_cells(text, ",") or text.split(",")] if by_comma else text.split()


def _without_comments(lines: Iterator[Line], notes: Notes) -> Iterator[Line]:
    """Leave out lines that begin with `#`, but a header that does."""
    for line in lines:
        if not line.text.startswith("#"):
            yield line
            continue
        bare = line.text.lstrip("# ")
        if line.number == 1 and _header(re.split(r"[\s,]+", bare)) is not None:
            yield line._replace(text=bare)
        else:
            notes.say("lines that begin with #, left out as comments", f"line {line.number}")


def _header(cells: list[str]) -> tuple[int, ...] | None:
    """Return where qid, docid, rank and value stand where a line is a header, else None."""
    names = [cell.strip("\"'").lower() for cell in cells]
    where = {
        what: next((names.index(name) for name in several if name in names), -1) for what, several in HEADERS.items()
    }
    if where["qid"] < 0 or where["docid"] < 0 or max(where["rank"], where["value"]) < 0:
        return None
    return where["qid"], where["docid"], where["rank"], where["value"]


def _are_ranks(rows: Sequence[tuple[Line, str, str, Any, Any]]) -> bool:
    """Tell whether a third column holds ranks (whole, from 1 up) or scores.

    Raises:
        UserError: where it may be either: 3, 2, 1.
    """
    if not all(value.isdecimal() and len(value) < 10 for *_, value in rows):
        return False
    by_question: dict[str, list[int]] = {}
    for _, qid, _, _, value in rows:
        by_question.setdefault(qid, []).append(int(value))
    if any(sorted(values) != list(range(1, len(values) + 1)) for values in by_question.values()):
        return False
    if any(len(v) > 1 and v == sorted(v, reverse=True) for v in by_question.values()):
        raise rows[0][0].error("three columns, and the third may be ranks or scores; write qid Q0 docid rank score tag")
    return True


def _judgements(read: Iterator[Line], notes: Notes) -> Iterator[tuple[Line, str, str, str | None, Any]]:
    """Yield the lines of qrels as `_table` does, also of JSON Lines."""
    first = next((line for line in read if line.text and not line.text.isspace()), None)
    lines = chain([first] if first else [], read)
    keys = _keys(first) if first and first.text[0] == "{" else None
    yield from _table(lines, QRELS_FORM, notes) if keys is None else _records(lines, *keys)


def _keys(first: Line) -> tuple[str, str, str | None] | None:
    """Return the keys of question, passage and relevance, where an object is one judgement; else None."""
    with suppress(UserError):
        names = list(parse_json(first))
        if set(names) >= BELEBELE:
            return "link", "link", None
        if (where := _header(names)) is not None and where[3] >= 0:
            return names[where[0]], names[where[1]], names[where[3]]
    return None


def _records(
    lines: Iterable[Line], question: str, passage: str, relevance: str | None
) -> Iterator[tuple[Line, str, str, None, Any]]:
    """Yield judgements that stand in JSON Lines, as MTEB's do; Belebele's questions have the passage beside them."""
    for line in lines:
        if not line.text or line.text.isspace():
            continue
        record = parse_json(line)
        qid = record.get(question) if relevance else belebele_question(line, record)
        value = record.get(relevance) if relevance else 1
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise line.error(f"{relevance} is {shown(value)}, not a number; {keys_of(record)}")
        yield line, check_id(line, qid, question), check_id(line, record.get(passage), passage), None, value


def _nested(first: Line, lines: Iterator[Line]) -> Iterator[tuple[Line, str, str, None, Any]]:
    """Yield what ranx's JSON holds: {qid: {docid: value}}."""
    text = "\n".join(line.text for line in chain([first], lines))
    record = parse_json(first, text, form="one object over the whole file, {qid: {docid: value}}")
    for qid, hits in record.items():
        if not isinstance(hits, dict):
            raise first.error(f"{shown(qid)}: expected {{docid: value}}, not {shown(hits)}")
        for docid, value in hits.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise first.error(f"{shown(qid)}, {shown(docid)}: {shown(value)} is not a number")
            yield first, check_id(first, qid, "qid"), check_id(first, docid, "docid"), None, value


def _whole(value: Any) -> int | None:
    """Return a whole number, which 1.0 is; None for what is none."""
    if isinstance(value, str) and "_" in value:  # a number in Python alone
        return None
    try:
        return int(value) if isinstance(value, str | int) else _whole(str(value))
    except ValueError:
        pass
    try:
        return int(value) if (value := float(value)) == int(value) else None
    except (ValueError, OverflowError):
        return None


def _row(line: Line, docid: str, rank: Any, value: Any) -> _Row:
    """Return the row of a line of a run."""
    try:
        if "_" not in rank + value:
            return _Row(docid, int(rank), float(value), line.number)
        whole = _whole(rank)
    except (TypeError, ValueError, OverflowError):  # not written plainly, or not there
        whole = None if rank is None else _whole(rank)
    try:
        score = None if value is None or "_" in str(value) else float(value)
    except OverflowError:
        score = INFINITE
    except ValueError:
        score = None
    if (whole is None) != (rank is None) or (score is None) != (value is None):
        named = "" if rank is None else f"rank {rank[:40]!r} or "
        raise line.error(f"{named}score {str(value)[:40]!r} is not a number")
    return _Row(docid, whole, score, line.number)


# ---------------------------------------------------------------- values


def as_run(source: RunLike) -> Run:
    """Return a run: a TREC file's, or that of Python values.

    Values are {qid: {docid: score}}, or rows (qid, docid, score), named tuples with query_id,
    doc_id and score (ir_measures), or a pandas DataFrame with these columns.  Hits are ranked by
    their scores; equal ones stay in the order given.

    Raises:
        UserError: as `read_run`; for a score that is no finite number, an id that is no text or holds white space.
    """
    if isinstance(source, str | os.PathLike):
        return read_run(source)
    run: Run = {}
    for qid, docid, score in _rows(source, "score"):
        try:
            number = score.__float__()
        except OverflowError:
            number = float("inf")
        except (AttributeError, TypeError):
            raise UserError(f"run: the score of {docid!r} for question {qid!r} is {shown(score)}") from None
        if not abs(number) < float("inf"):
            raise UserError(f"run: the score of {docid!r} for {qid!r} is not a finite number")
        hits = run.setdefault(qid, {})
        if docid in hits:
            raise UserError(f"run: passage {docid!r} comes twice for question {qid!r}")
        hits[docid] = number
    if isinstance(source, Mapping):  # a question without hits is in the run all the same
        run = {qid: run.get(qid, {}) for qid in source}
    return {qid: dict(sorted(hits.items(), key=lambda h: -h[1])) for qid, hits in run.items()}


def opened_run(source: RunLike) -> AnyRun:
    """Return a run as `as_run` does, a file's in the memory of `open_run`."""
    return open_run(source) if isinstance(source, str | os.PathLike) else as_run(source)


def as_qrels(source: QrelsLike, negative: bool = False) -> Qrels:
    """Return qrels: a TREC file's, or those of Python values.

    Values are as for `as_run`, with whole numbers (`relevance`) for scores; `negative` is as for
    `read_qrels`.

    Raises:
        UserError: as `read_qrels`; for a relevance that is no whole number.
    """
    if isinstance(source, str | os.PathLike):
        return read_qrels(source, negative)
    qrels: Qrels = {}
    for qid, docid, relevance in _rows(source, "relevance"):
        try:
            whole = int(relevance) == relevance
        except (TypeError, ValueError, OverflowError):
            whole = False
        if not whole:
            raise UserError(f"qrels: relevance {shown(relevance)} of {docid!r} is not a whole number")
        judged = qrels.setdefault(qid, {})
        if docid in judged:
            raise UserError(f"qrels: passage {docid!r} is judged twice for question {qid!r}")
        judged[docid] = int(relevance)
    if not qrels:
        raise UserError("qrels: no judgement; expected {qid: {docid: relevance}} or such rows")
    return qrels if negative else _not_below_0(qrels)


def _rows(source: Any, value: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (qid, docid, value) of a nested mapping, of rows, or of a DataFrame's."""
    if isinstance(source, Mapping):
        for qid, hits in source.items():
            if not isinstance(hits, Mapping):
                raise UserError(f"{qid!r}: expected {{docid: {value}}}, not {shown(hits)}")
            for docid, number in hits.items():
                yield _id(qid), _id(docid), number
        return
    if hasattr(source, "itertuples"):
        source = source.itertuples(index=False)
    if not isinstance(source, Iterable):
        raise UserError(f"expected a file, {{qid: {{docid: {value}}}}} or rows, not {shown(source)}")
    for row in source:
        if hasattr(row, "query_id") and hasattr(row, "doc_id"):
            yield _id(row.query_id), _id(row.doc_id), getattr(row, value, None)
        elif isinstance(row, tuple | list) and len(row) == 3:
            yield _id(row[0]), _id(row[1]), row[2]
        else:
            raise UserError(f"expected rows of question id, docid and {value}, not {shown(row)}")


def _id(value: Any) -> str:
    if not isinstance(value, str) or value.split() != [value]:
        kind = " without white space, which run files cannot carry" if isinstance(value, str) else ""
        raise UserError(f"id {shown(value)}: expected text{kind}")
    return value


def write_run(
    path: str | Path, run: Run | Iterable[tuple[str, Mapping[str, float]]], tag: str, *, exact: bool = False
) -> None:
    """Write a TREC run, in one rename: questions and their hits, best first.

    Scores have six decimals; with `exact`, all that it takes to read the same numbers again.  Raises `UserError` where
    `path` is a folder, or an id holds white space.
    """
    with writing(path) as file:
        for qid, hits in run.items() if isinstance(run, Mapping) else run:
            for rank, (docid, score) in enumerate(hits.items(), 1):
                text = f"{score:.6f}"
                if exact and float(text) != score:
                    text = repr(float(score))
                file.write(f"{_id(qid)} Q0 {_id(docid)} {rank} {text} {tag}\n")


def read_qrels(source: FilePath | Mapping[str, FilePath], negative: bool = False) -> Qrels:
    """Read qrels: TREC's (`qid 0 docid relevance`), BEIR's, or ranx's JSON.

    Three columns are `qid docid relevance`; a header names its columns in any order; cells stand
    between white space or commas.  Lines that begin with `#` are comments.

    Args:
        source: a file, or language → file: the question ids then begin with the language.
        negative: keep relevance below 0 as it is: trec_eval counts such a passage as not
            relevant, and for bpref as not judged.  Otherwise it is 0, judged and not relevant,
            which is what all other measures make of it.

    Raises:
        UserError: for any other line, a relevance that is not whole, a passage that is judged
            twice for a question, and not alike.
    """
    if isinstance(source, Mapping):
        return _prefixed(source, lambda path: read_qrels(path, negative))
    path = Path(source)
    notes = Notes(path)
    qrels: Qrels = {}
    named = parts_of(source, "judgement") if is_named(source) else [Part(path, partial(read_lines, path))]
    for line, qid, docid, _, value in chain.from_iterable(_judgements(part.lines(), notes) for part in named):
        if value is None:
            raise line.error("a header without a column for the relevance")
        relevance = _whole(value)
        if relevance is None:
            raise line.error(f"relevance {shown(value)} is not a whole number")
        judged = qrels.setdefault(qid, {})
        if docid in judged:
            if judged[docid] != relevance:
                twice = f"passage {docid!r} is judged twice for question {qid!r}"
                raise line.error(f"{twice}: {judged[docid]}, then {relevance}")
            notes.say("judgements that come twice, alike", f"line {line.number}")
        judged[docid] = relevance
    if not qrels:
        raise UserError(f"{shown_name(path)}: no judgement in it; expected TREC qrels")
    notes.close()
    return qrels if negative else _not_below_0(qrels)


def _not_below_0(qrels: Qrels) -> Qrels:
    return {qid: {d: max(0, rel) for d, rel in judged.items()} for qid, judged in qrels.items()}
