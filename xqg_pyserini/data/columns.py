"""Runs as columns: plain TREC files, read a block at a time, and kept without a Python object a hit.

Everything that is not plain is left to the strict reader of `runs`, which also says what is wrong.  A file is plain if
each line is six cells with one space or tab between two, no other white space or control character, and questions stand
together.  What is read here, the strict reader reads alike, to the last bit.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xqg_pyserini.files import BOM, FilePath, check_lines, unpacked

BLOCK = 1 << 20  # bytes that are looked at together
WIDEST = 200  # bytes of a cell
NEWLINE = 10
_OTHER = re.compile("[^\\S \t\n]|\ufeff")  # white space that is not ASCII's splits cells too; byte-order marks
_NUMERIC = np.isin(np.arange(256), list(b"0123456789+-.eE\0"))
POWERS = np.array([float(10**power) for power in range(16)])
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class ColumnRun(Mapping[str, dict[str, float]]):
    """A run as `read_run` has it, of which a question's hits become a dictionary when they are asked for.

    Args:
        columns: question → docids, best first, a line feed between two; and their scores.
    """

    def __init__(self, columns: Mapping[str, tuple[bytes, Floats]]) -> None:
        self._columns = columns

    def __getitem__(self, qid: str) -> dict[str, float]:
        docids, scores = self._columns[qid]
        return dict(zip(docids.decode().split("\n"), scores.tolist(), strict=True))

    def with_ties(self) -> Iterator[dict[str, float]]:
        """Yield the hits of questions of which two that follow one another have the same score."""
        for qid, (_, scores) in self._columns.items():
            if (scores[1:] == scores[:-1]).any():
                yield self[qid]

    def __contains__(self, qid: object) -> bool:
        return qid in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class _Piece(NamedTuple):
    """Lines of one question that follow one another; each docid ends in a line feed."""

    qid: bytes
    docids: bytes
    ranks: Integers
    scores: Floats


class _NotPlainError(Exception):
    """The strict reader must have a look."""


def read_columns(path: FilePath, order: str, is_plain: Callable[[str], bool]) -> ColumnRun | None:
    """Read a plain run file; None for another, which is to be read in another way.

    Args:
        path: a file, perhaps compressed; what can be read once only, such as a pipe, is not plain.
        order: as for `read_run`.
        is_plain: tells whether the first line leaves the others as they are.
    """
    if not os.path.isfile(path):
        return None
    columns: dict[str, tuple[bytes, Floats]] = {}
    try:
        for piece in _joined(_pieces(Path(path), is_plain)):
            qid = piece.qid.decode()
            if qid in columns:
                raise _NotPlainError
            columns[qid] = _ordered(piece, order)
    except (_NotPlainError, OSError, ValueError):  # UnicodeDecodeError is one
        return None
    return ColumnRun(columns) if columns else None


def _ordered(piece: _Piece, order: str) -> tuple[bytes, Floats]:
    """Return a question's docids and scores, best first."""
    docids = piece.docids[:-1]
    names, scores = docids.split(b"\n"), piece.scores
    if len(set(names)) < len(names):
        raise _NotPlainError
    if order == "rank":
        if (piece.ranks[1:] <= piece.ranks[:-1]).any() or (scores[1:] > scores[:-1]).any():
            raise _NotPlainError
        return docids, scores
    with np.errstate(over="ignore"):
        single = scores.astype(np.float32)
    if (single[1:] >= single[:-1]).any():  # UTF-8 sorts as text does
        places = sorted(range(len(names)), key=list(zip(single.tolist(), names, strict=True)).__getitem__, reverse=True)
        names, scores = [names[place] for place in places], scores[places]
    return b"\n".join(names), scores


def _joined(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """Join those of one question that a block's end has parted."""
    last: list[_Piece] = []
    for piece in pieces:
        if last and piece.qid != last[0].qid:
            yield _join(last)
            last = []
        last.append(piece)
    if last:
        yield _join(last)


def _join(pieces: list[_Piece]) -> _Piece:
    if len(pieces) == 1:
        return pieces[0]
    qids, docids, ranks, scores = zip(*pieces, strict=True)
    return _Piece(qids[0], b"".join(docids), np.concatenate(ranks), np.concatenate(scores))


def _pieces(path: Path, is_plain: Callable[[str], bool]) -> Iterator[_Piece]:
    separator = 0
    for block in _blocks(path):
        if not separator:
            first = block[: block.index(b"\n")]
            if first.startswith(BOM):
                raise _NotPlainError
            check_lines(path, first + b"\n")
            if not is_plain(first.decode()):
                raise _NotPlainError
            separator = ord("\t" if b"\t" in first else " ")
        if not block.isascii() and _OTHER.search(block.decode()):
            raise _NotPlainError
        yield from _pieces_of(block, separator)


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield whole lines, each with its end, about `BLOCK` bytes at a time."""
    with unpacked(path) as (file, _):
        while True:
            try:
                block = file.read(BLOCK)
                rest = file.readline()
            except Exception as error:  # of a damaged stream, where each library has its own
                raise _NotPlainError from error
            if not block:
                return
            block += rest
            yield block if block.endswith(b"\n") else block + b"\n"


def _pieces_of(block: bytes, separator: int) -> Iterator[_Piece]:
    data = np.frombuffer(block + bytes(WIDEST), np.uint8)
    ends = np.flatnonzero(data[: len(block)] <= ord(" "))
    if len(ends) % 6:
        raise _NotPlainError
    starts = np.concatenate([[0], ends[:-1] + 1])
    marks, lengths = data[ends].reshape(-1, 6), (ends - starts).reshape(-1, 6)
    starts, widths = starts.reshape(-1, 6), lengths.max(axis=0)
    if (
        (marks[:, :5] != separator).any()
        or (marks[:, 5] != NEWLINE).any()
        or lengths.min() == 0
        or widths[:5].max() >= WIDEST
        or (data[starts[:, 0]] == ord("#")).any()
    ):
        raise _NotPlainError
    rows = np.lib.stride_tricks.sliding_window_view(data, WIDEST)

    def cells(column: int, more: int = 0) -> tuple[Bytes, NDArray[np.bool_]]:
        """Return a column's bytes, a row each, with 0 behind them; and which belong to it."""
        width = int(widths[column]) + more
        found = rows[:, :width][starts[:, column]]
        inside = np.arange(width) < lengths[:, column, None] + more
        return np.where(inside, found, np.uint8(0)), inside

    qids = _texts(cells(0)[0])
    docids, inside = cells(2, more=1)
    joined, stops = docids[inside].tobytes().replace(bytes([separator]), b"\n"), np.cumsum(lengths[:, 2] + 1)
    ranks, scores = _ranks(cells(3)[0]), _scores(cells(4)[0])
    first = np.flatnonzero(np.concatenate([[True], qids[1:] != qids[:-1]]))
    for start, end in zip(first.tolist(), [*first[1:].tolist(), len(qids)], strict=True):
        docids_of = joined[stops[start - 1] if start else 0 : stops[end - 1]]
        yield _Piece(bytes(qids[start]), docids_of, ranks[start:end], scores[start:end])


def _texts(cells: Bytes) -> NDArray[np.bytes_]:
    return np.ascontiguousarray(cells).view(f"S{cells.shape[1]}").ravel()


class _Decimals(NamedTuple):
    """Numbers such as -12.50: ±1250, of which two digits stand behind the point."""

    digits: Integers
    behind: Integers
    negative: NDArray[np.bool_]
    known: NDArray[np.bool_]  # which are such numbers, of at most 15 digits


def _decimals(cells: Bytes) -> _Decimals:
    digits, count, behind = np.zeros((3, len(cells)), np.int64)
    negative, known = cells[:, 0] == ord("-"), np.ones(len(cells), bool)
    pointed = np.zeros(len(cells), bool)
    for place, column in enumerate(np.ascontiguousarray(cells.T)):
        digit = column - np.uint8(ord("0"))
        found, point = digit <= 9, column == ord(".")
        known &= found | (column == 0) | (point & ~pointed) | (negative & (place == 0))
        pointed |= point
        digits = np.where(found, 10 * digits + digit, digits)
        count += found
        behind += found & pointed
    return _Decimals(digits, behind, negative, known & (count > 0) & (count <= 15))


def _ranks(cells: Bytes) -> Integers:
    ranks = _decimals(cells)
    if (~ranks.known | ranks.negative | (ranks.behind > 0)).any():
        raise _NotPlainError
    return ranks.digits


def _scores(cells: Bytes) -> Floats:
    found = _decimals(cells)
    # both sides are exact in 64 bits, so that their quotient is the number nearest to what is written
    scores = found.digits / POWERS[np.minimum(found.behind, 15)]
    scores = np.where(found.negative, -scores, scores)
    if not found.known.all():
        others = cells[~found.known]
        if not _NUMERIC[others].all():
            raise _NotPlainError
        scores[~found.known] = _texts(others).astype(np.float64)  # as Python has it; ValueError for what is no number
    if not np.isfinite(scores).all():
        raise _NotPlainError
    return scores
