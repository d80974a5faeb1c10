"""A passage store and a query store side by side, aligned by id."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import chunks
from xqg_pyserini.stores.ids import IdIndex
from xqg_pyserini.stores.store import VECTORS, QueryStore, VectorStore, block_rows, sum_file


class Block(NamedTuple):
    """Some passages with the sums and counts of their queries, aligned."""

    start: int
    passages: np.ndarray  # (b, d) float32
    sums: dict[str, np.ndarray]  # language → (b, d) float32
    counts: dict[str, np.ndarray]  # language → (b,) int32


class StorePair:
    """A passage store and a query store read side by side, aligned by id and never by position.

    A passage that the query store does not know has no queries.  A query store that has queries
    for a passage that is not in the passage store is an error that names it, unless
    `skip_unknown`: then `skipped` counts such passages.  `queries=None` reads passages alone.
    """

    def __init__(
        self, passages: VectorStore, queries: QueryStore | None, skip_unknown: bool = False
    ) -> None:
        self.passages, self.queries, self.skipped = passages, queries, 0
        self._rows: np.ndarray | None = None  # row of the query store for each passage, or -1
        if queries is None:
            return
        if queries.d != passages.d:
            raise UserError(
                f"{queries.path} has {queries.d} dimensions, {passages.path} has {passages.d}; "
                "encode both with one encoder"
            )
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
                raise UserError(
                    f"{queries.path}: queries for passage {docid!r}, which {passages.path} does "
                    "not hold; --skip-unknown leaves such queries out"
                )
            self.skipped += int(unknown.sum())
            known = rows >= 0
            self._rows[rows[known]] = np.arange(start, start + len(ids))[known]
            start += len(ids)

    def _query_rows(self, start: int, stop: int) -> np.ndarray | slice:
        return slice(start, stop) if self._rows is None else self._rows[start:stop]

    def counts(self, start: int, stop: int, languages: Sequence[str]) -> np.ndarray:
        """Return the query counts (stop - start, languages) int32 of some passages."""
        assert self.queries is not None
        columns = [self.queries.languages.index(language) for language in languages]
        rows = self._query_rows(start, stop)
        if isinstance(rows, slice):
            return self.queries.limited(np.asarray(self.queries.counts[rows])[:, columns])
        counts = self.queries.counts[np.maximum(rows, 0)][:, columns]
        counts[rows < 0] = 0
        return self.queries.limited(counts)

    def totals(self) -> dict[str, int]:
        """Return how many queries of each language the passages have; languages with none apart."""
        assert self.queries is not None
        languages = self.queries.languages
        totals = np.zeros(len(languages), dtype=np.int64)
        for start in range(0, self.passages.n, 1 << 20):
            stop = min(start + (1 << 20), self.passages.n)
            totals += self.counts(start, stop, languages).sum(axis=0, dtype=np.int64)
        return {l: n for l, n in zip(languages, totals.tolist(), strict=True) if n}

    def take(self, rows: np.ndarray, languages: Sequence[str]) -> Block:
        """Return some passages (ascending rows, int64) with their sums and counts; `start` is 0."""
        passages = self.passages.checked(self.passages.vectors[rows], VECTORS, rows)
        if self.queries is None:
            return Block(0, passages, {}, {})
        theirs = rows if self._rows is None else self._rows[rows]
        known, at = theirs >= 0, np.maximum(theirs, 0)
        sums, counts = {}, {}
        for language in languages:
            matrix = self.queries.sums[language]
            sums[language] = self.queries.checked(matrix[at], sum_file(language), at)
            sums[language][~known] = 0
            column = self.queries.languages.index(language)
            counts[language] = np.where(known, self.queries.counts[at, column], 0)
        return Block(0, passages, sums, counts)

    def _sums(self, language: str, start: int, stop: int) -> np.ndarray:
        assert self.queries is not None
        rows = self._query_rows(start, stop)
        matrix = self.queries.sums[language]
        name = sum_file(language, self.queries.first)
        if isinstance(rows, slice):
            return self.queries.checked(matrix[rows], name, range(start, stop))
        block = self.queries.checked(matrix[np.maximum(rows, 0)], name, np.maximum(rows, 0))
        block[rows < 0] = 0
        return block

    def block(self, start: int, stop: int, languages: Sequence[str] = ()) -> Block:
        """Return passages start … stop-1 with the sums and counts of some languages."""
        counts: Iterable[np.ndarray] = ()
        if languages:
            counts = self.counts(start, stop, languages).T
        return Block(
            start,
            self.passages.block(start, stop),
            {language: self._sums(language, start, stop) for language in languages},
            dict(zip(languages, counts, strict=True)),
        )

    def blocks(self, languages: Sequence[str] = ()) -> Iterator[Block]:
        """Yield all passages in blocks of bounded memory, with the sums of some languages."""
        size = block_rows(self.passages.d, 2 + len(languages))
        for start in range(0, self.passages.n, size):
            yield self.block(start, min(start + size, self.passages.n), languages)
