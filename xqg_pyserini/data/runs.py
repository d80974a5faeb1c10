"""Runs and qrels: TREC files, read strictly, and the Python values that stand for them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xqg_pyserini.data.records import Qrels, Run
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import Line, read_lines, writing

RunLike = str | Path | Mapping[str, Mapping[str, float]] | Iterable[Any]
QrelsLike = str | Path | Mapping[str, Mapping[str, int]] | Iterable[Any]


def read_run(source: str | Path) -> Run:
    """Read a TREC run: hits by rank for each question, questions in the order they appear.

    Lines may stand in any order and ranks may start anywhere.  Raises `UserError` for a line without six columns, a
    docid or rank that comes twice, a score that is not a finite number or that rises with the rank.
    """
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such run file")
    rows: dict[str, list[tuple[int, str, float, int]]] = {}
    for line in read_lines(path):
        cells = line.text.split()
        if len(cells) != 6:
            raise line.error(f"{len(cells)} columns; expected six: qid Q0 docid rank score tag")
        qid, _, docid, rank, score, _ = cells
        try:
            row = int(rank), docid, float(score), line.number
        except ValueError:
            raise line.error(f"rank {rank!r} or score {score!r} is not a number") from None
        if not abs(row[2]) < float("inf"):
            raise line.error(f"score {score!r} is not a finite number")
        rows.setdefault(qid, []).append(row)
    if not rows:
        raise UserError(f"{path}: no hit in it; expected a TREC run")
    return {qid: _ranked(path, qid, hits) for qid, hits in rows.items()}


def _ranked(path: Path, qid: str, rows: list[tuple[int, str, float, int]]) -> dict[str, float]:
    rows.sort(key=lambda row: row[0])
    hits: dict[str, float] = {}
    for i, (rank, docid, score, number) in enumerate(rows):
        line = Line(path, number, "")
        if i and rank == rows[i - 1][0]:
            raise line.error(f"rank {rank} of question {qid!r} comes twice")
        if i and score > rows[i - 1][2]:
            raise line.error(f"the score of question {qid!r} rises at rank {rank}")
        if docid in hits:
            raise line.error(f"passage {docid!r} comes twice for question {qid!r}")
        hits[docid] = score
    return hits


def as_run(source: RunLike) -> Run:
    """Return a run: a TREC file's, or that of Python values.

    Values are {qid: {docid: score}}, or rows (qid, docid, score), named tuples with query_id,
    doc_id and score (ir_measures), or a pandas DataFrame with these columns.  Hits are ranked by
    their scores; equal ones stay in the order given.

    Raises:
        UserError: as `read_run`; for a score that is no finite number, an id that is no text or holds white space.
    """
    if isinstance(source, str | Path):
        return read_run(source)
    run: Run = {}
    for qid, docid, score in _rows(source, "score"):
        if not isinstance(score, int | float) and not hasattr(score, "__float__"):
            raise UserError(f"run: the score of {docid!r} for question {qid!r} is {score!r}")
        if not abs(float(score)) < float("inf"):
            raise UserError(f"run: the score of {docid!r} for {qid!r} is not a finite number")
        hits = run.setdefault(qid, {})
        if docid in hits:
            raise UserError(f"run: passage {docid!r} comes twice for question {qid!r}")
        hits[docid] = float(score)
    if isinstance(source, Mapping):  # a question without hits is in the run all the same
        run = {qid: run.get(qid, {}) for qid in source}
    return {qid: dict(sorted(hits.items(), key=lambda h: -h[1])) for qid, hits in run.items()}


def as_qrels(source: QrelsLike) -> Qrels:
    """Return qrels: a TREC file's, or those of Python values.

    Values are as for `as_run`, with whole numbers (`relevance`) for scores; below 0 counts as 0.

    Raises:
        UserError: as `read_qrels`; for a relevance that is no whole number.
    """
    if isinstance(source, str | Path):
        return read_qrels(source)
    qrels: Qrels = {}
    for qid, docid, relevance in _rows(source, "relevance"):
        try:
            whole = int(relevance) == relevance
        except (TypeError, ValueError, OverflowError):
            whole = False
        if not whole:
            raise UserError(f"qrels: relevance {relevance!r} of {docid!r} is not a whole number")
        judged = qrels.setdefault(qid, {})
        if docid in judged:
            raise UserError(f"qrels: passage {docid!r} is judged twice for question {qid!r}")
        judged[docid] = max(0, int(relevance))
    if not qrels:
        raise UserError("qrels: no judgement; expected {qid: {docid: relevance}} or such rows")
    return qrels


def _rows(source: Any, value: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (qid, docid, value) of a nested mapping, of rows, or of a DataFrame's."""
    if isinstance(source, Mapping):
        for qid, hits in source.items():
            if not isinstance(hits, Mapping):
                raise UserError(f"{qid!r}: expected {{docid: {value}}}, not {hits!r:.60}")
            for docid, number in hits.items():
                yield _id(qid), _id(docid), number
        return
    if hasattr(source, "itertuples"):
        source = source.itertuples(index=False)
    if not isinstance(source, Iterable):
        raise UserError(f"expected a file, {{qid: {{docid: {value}}}}} or rows, not {source!r:.60}")
    for row in source:
        if hasattr(row, "query_id") and hasattr(row, "doc_id"):
            yield _id(row.query_id), _id(row.doc_id), getattr(row, value, None)
        elif isinstance(row, tuple | list) and len(row) == 3:
            yield _id(row[0]), _id(row[1]), row[2]
        else:
            raise UserError(f"expected rows of question id, docid and {value}, not {row!r:.60}")


def _id(value: Any) -> str:
    if not isinstance(value, str) or value.split() != [value]:
        kind = " without white space, which run files cannot carry" if isinstance(value, str) else ""
        raise UserError(f"id {value!r}: expected text{kind}")
    return value


def write_run(path: str | Path, run: Run, tag: str) -> None:
    """Write a TREC run, in one rename; raises `UserError` where `path` is a folder, or an id holds white space."""
    with writing(path) as file:
        for qid, hits in run.items():
            for rank, (docid, score) in enumerate(hits.items(), 1):
                file.write(f"{_id(qid)} Q0 {_id(docid)} {rank} {score:.6f} {tag}\n")


def read_qrels(source: str | Path) -> Qrels:
    """Read TREC qrels (`qid 0 docid relevance`; below 0 counts as 0); `UserError` for another line, a docid twice."""
    qrels: Qrels = {}
    for line in read_lines(Path(source)):
        cells = line.text.split()
        if len(cells) != 4:
            raise line.error(f"{len(cells)} columns; expected four: qid 0 docid relevance")
        try:
            relevance = int(cells[3])
        except ValueError:
            raise line.error(f"relevance {cells[3]!r} is not a whole number") from None
        if cells[2] in qrels.setdefault(cells[0], {}):
            raise line.error(f"passage {cells[2]!r} is judged twice for question {cells[0]!r}")
        qrels[cells[0]][cells[2]] = max(0, relevance)
    if not qrels:
        raise UserError(f"{source}: no judgement in it; expected TREC qrels")
    return qrels
