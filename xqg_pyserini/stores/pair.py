"""A passage store and a query store side by side, aligned by id."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import chunks
from xqg_pyserini.stores.ids import IdIndex, iterate_ids
from xqg_pyserini.stores.placing import alike
from xqg_pyserini.stores.store import VECTORS, QueryStore, VectorStore, block_rows, sum_file

Rows = range | np.ndarray  # of passages: from start to stop, or ascending int64 numbers


class Block(NamedTuple):
    """Some passages with the sums and counts of their queries, aligned."""

    start: int
    passages: np.ndarray  # (b, d) float32
    sums: dict[str, np.ndarray]  # language → (b, d) float32
    counts: dict[str, np.ndarray]  # language → (b,) int32

    def queries(self, languages: Iterable[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the sums and the counts of some of its languages."""
        chosen = tuple(languages)
        return {l: self.sums[l] for l in chosen}, {l: self.counts[l] for l in chosen}

    def pieces(self, size: int) -> Iterator["Block"]:
        """Yield the same passages, `size` at a time; nothing is copied."""
        for start in range(0, len(self.passages), size):
            rows = slice(start, start + size)
            sums, counts = ({l: part[rows] for l, part in parts.items()} for parts in (self.sums, self.counts))
            yield Block(self.start + start, self.passages[rows], sums, counts)


class StorePair:
    """A passage store and a query store read side by side, aligned by id and never by position.

    A passage that the query store does not know has no queries.  A query store that has queries
    for a passage that is not in the passage store is an error that names it, unless
    `skip_unknown`: then `skipped` counts such passages.  `queries=None` reads passages alone.
    """

    def __init__(self, passages: VectorStore, queries: QueryStore | None, skip_unknown: bool = False) -> None:
        self.passages, self.queries, self.skipped = passages, queries, 0
        self._rows: np.ndarray | None = None  # row of the query store for each passage, or -1
        if queries is None:
            return
        passages.refuse_parts()
        if queries.d != passages.d:
            what = f"{queries.path} has {queries.d} dimensions, {passages.path} has {passages.d}"
            raise UserError(f"{what}; encode both with one encoder")
        if queries.meta["ids_sha256"] != passages.meta["ids_sha256"]:
            self._align(passages, queries, skip_unknown)

    def _align(self, passages: VectorStore, queries: QueryStore, skip_unknown: bool) -> None:
        index = IdIndex(passages.ids_path)
        self._rows = np.full(passages.n, -1, dtype=np.int64)
        start = 0
        for ids in chunks(queries.ids(), 65536):
            rows = index.rows(ids)
            counted = np.asarray(queries.counts[start : start + len(ids)]).any(axis=1)
            unknown = (rows < 0) & counted
            if unknown.any() and not skip_unknown:
                docid = ids[int(np.argmax(unknown))]
                what = f"queries for passage {docid!r}, which {passages.path} does not hold"
                what += alike(docid, passages.path, iterate_ids(passages.ids_path))
                raise UserError(f"{queries.path}: {what}; skip_unknown leaves such queries out", "skip_unknown")
            self.skipped += int(unknown.sum())
            known = rows >= 0
            self._rows[rows[known]] = np.arange(start, start + len(ids))[known]
            start += len(ids)

    def _places(self, rows: Rows) -> tuple[slice | np.ndarray, slice | np.ndarray]:
        """Return where the query store has some passages (any row for others), and which it does not know."""
        if self._rows is None:
            return _indices(rows), slice(0, 0)
        places = self._rows[_indices(rows)]
        return np.maximum(places, 0), places < 0

    def counts(self, rows: Rows, languages: Sequence[str]) -> np.ndarray:
        """Return the numbers of queries, (b, languages) int32, of some passages."""
        assert self.queries is not None
        columns = [self.queries.languages.index(language) for language in languages]
        places, unknown = self._places(rows)
        counts = self.queries.limited(self.queries.counts[places][:, columns])
        counts[unknown] = 0
        return counts

    def _sums(self, language: str, rows: Rows) -> np.ndarray:
        assert self.queries is not None
        places, unknown = self._places(rows)
        numbers = range(places.start, places.stop) if isinstance(places, slice) else places
        name = sum_file(language, self.queries.first)
        if self._rows is not None and isinstance(rows, range) and rows.start == 0:
            self.queries.verify(name)  # in the order of the passages it is not read in its own
        block = self.queries.checked(self.queries.sums[language][places], name, numbers)
        if isinstance(unknown, np.ndarray):  # a slice of the store itself cannot be written to
            block[unknown] = 0
        return block

    def totals(self) -> dict[str, int]:
        """Return how many queries of each language the passages have; languages with none apart."""
        assert self.queries is not None
        languages = self.queries.languages
        totals = np.zeros(len(languages), dtype=np.int64)
        for rows in self.count_blocks():
            totals += self.counts(rows, languages).sum(axis=0, dtype=np.int64)
        return {l: n for l, n in zip(languages, totals.tolist(), strict=True) if n}

    def count_blocks(self) -> Iterator[range]:
        """Yield all passages' rows in ranges of which the counts take little memory."""
        for start in range(0, self.passages.n, 1 << 20):
            yield range(start, min(start + (1 << 20), self.passages.n))

    def take(self, rows: Rows, languages: Sequence[str] = ()) -> Block:
        """Return some passages with the sums and counts of their queries in some languages.

        `rows` is a range, or ascending int64 numbers; of the latter `start` is 0.
        """
        numbers = _indices(rows)
        passages = self.passages.checked(self.passages.vectors[numbers], VECTORS, rows)
        counts = self.counts(rows, languages).T if languages else ()
        return Block(
            rows.start if isinstance(rows, range) else 0,
            passages,
            {language: self._sums(language, rows) for language in languages},
            dict(zip(languages, counts, strict=True)),
        )

    def blocks(self, languages: Sequence[str] = (), rows: range | None = None) -> Iterator[Block]:
        """Yield all passages, or those from start to stop, in blocks of bounded memory, with the sums of languages.

        What is read in part is read in full before, for its checksum.
        """
        size = block_rows(self.passages.d, 2 + len(languages))
        if rows is not None and len(rows) < self.passages.n:
            self.passages.verify()
            for language in languages:
                assert self.queries is not None
                self.queries.verify(sum_file(language, self.queries.first))
        rows = range(self.passages.n) if rows is None else rows
        for start in range(rows.start, rows.stop, size):
            yield self.take(range(start, min(start + size, rows.stop)), languages)


def _indices(rows: Rows) -> slice | np.ndarray:
    return slice(rows.start, rows.stop) if isinstance(rows, range) else rows
