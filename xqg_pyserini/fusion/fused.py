"""Two stores and a fusion → augmented vectors, block by block.

Every stage that needs E'(p) reads it here: building an index and language-aware search alike.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.fusion.formula import Centers, Fusion, augment
from xqg_pyserini.stores import Block, QueryStore, StorePair, VectorStore


class FusedPassages:
    """The passages of a store with their generated queries mixed in.

    Args:
        passages, queries: the stores, or their folders; aligned by id.
        fusion: how; `languages=None` stands for all that the query store has.
        skip_unknown: leave out queries for passages that are not there (counted in `skipped`).
        allow_unequal: let a sum pass over passages with unequal numbers of queries.
        language_aware: the languages will be fused one at a time (see `block_for`), so that a
            sum must be over equal counts in each of them.

    Raises:
        UserError: where the stores do not fit, a language has no query, or a sum is unfair.
    """

    def __init__(
        self,
        passages: str | Path | VectorStore,
        queries: str | Path | QueryStore,
        fusion: Fusion,
        *,
        skip_unknown: bool = False,
        allow_unequal: bool = False,
        language_aware: bool = False,
    ) -> None:
        self.passages = passages if isinstance(passages, VectorStore) else VectorStore(passages)
        self.queries = queries if isinstance(queries, QueryStore) else QueryStore(queries)
        _same_encoder(self.passages, self.queries)
        self.pair = StorePair(self.passages, self.queries, skip_unknown)
        if self.pair.skipped:
            warn(
                f"{self.pair.skipped} passages with queries in {self.queries.path} are not in "
                f"{self.passages.path} and were skipped"
            )
        self.fusion = fusion
        self.languages = self.choose_languages(fusion.languages)
        if fusion.form == "sum" and not allow_unequal:
            for some in [(one,) for one in self.languages] if language_aware else [self.languages]:
                self.refuse_unequal(some)

    def choose_languages(self, languages: tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the languages, or all that passages have queries in for None.

        Raises `UserError` for one without a query.
        """
        held = self.pair.totals()
        if not held:
            raise UserError(
                f"{self.queries.path} has no query for a passage of {self.passages.path}"
            )
        if languages is None:
            return tuple(held)
        for language in languages:
            if language not in held:
                raise UserError(
                    f"{self.queries.path} has no queries in {language!r}; it has {' '.join(held)}"
                )
        return languages

    def _count(self, languages: tuple[str, ...]) -> tuple[int, int, int]:
        """Return the lowest and the highest number of queries a passage, and how many have none."""
        low, high, without = 1 << 62, 0, 0
        for start in range(0, self.passages.n, 1 << 20):
            stop = min(start + (1 << 20), self.passages.n)
            totals = self.pair.counts(start, stop, languages).sum(axis=1, dtype=np.int64)
            low, high = min(low, int(totals.min())), max(high, int(totals.max()))
            without += int((totals == 0).sum())
        return low, high, without

    def without_queries(self, languages: tuple[str, ...]) -> int:
        """Return how many passages have no query in some languages, and keep their embedding."""
        return self._count(languages)[2]

    def refuse_unequal(self, languages: tuple[str, ...]) -> None:
        """Raise `UserError` unless all passages have one number of queries in these languages."""
        low, high, _ = self._count(languages)
        if low != high:
            raise UserError(
                f"a sum over unequal numbers of queries ({low} to {high} a passage in "
                f"{' '.join(languages)}) favours the passages that have more; use the mean "
                "(--beta), or force it with --allow-unequal"
            )

    @cached_property
    def centers(self) -> Centers:
        """The mean embeddings of the passages, of each language's queries, and of all queries.

        They come from the stores alone: no labels, no questions (docs/method.md).
        """
        languages = tuple(self.pair.totals())
        passages = np.zeros(self.passages.d)
        sums = {l: np.zeros(self.passages.d) for l in languages}
        counts = dict.fromkeys(languages, 0)
        for block in self.pair.blocks(languages):
            passages += block.passages.sum(axis=0, dtype=np.float64)
            for language in languages:
                sums[language] += block.sums[language].sum(axis=0, dtype=np.float64)
                counts[language] += int(block.counts[language].sum(dtype=np.int64))
        pooled = np.sum(list(sums.values()), axis=0) / max(1, sum(counts.values()))
        return Centers(
            (passages / self.passages.n).astype(np.float32),
            {l: (sums[l] / counts[l]).astype(np.float32) for l in languages if counts[l]},
            pooled.astype(np.float32),
        )

    def raw_blocks(self, languages: tuple[str, ...] | None = None) -> Iterator[Block]:
        """Yield the passages with the sums and counts of some of the chosen languages, or all."""
        return self.pair.blocks(self.languages if languages is None else languages)

    def fuse(self, block: Block, languages: tuple[str, ...] | None = None) -> np.ndarray:
        """Return the augmented vectors (b, d) of a block, of some of the chosen languages."""
        chosen = self.languages if languages is None else languages
        return augment(
            self.fusion,
            block.passages,
            {l: block.sums[l] for l in chosen},
            {l: block.counts[l] for l in chosen},
            self.centers if self.fusion.center else None,
        )

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, augmented vectors (b, d) float32) for all passages."""
        for block in self.raw_blocks():
            yield block.start, self.fuse(block)


def _same_encoder(passages: VectorStore, queries: QueryStore) -> None:
    if queries.d != passages.d:
        return  # StorePair says so, and better
    for key in ("backend", "pooling", "normalize", "query_model", "fingerprint"):
        ours, theirs = passages.encoder.get(key), queries.encoder.get(key)
        if ours != theirs and not (key == "fingerprint" and queries.encoder.get("query_model")):
            raise UserError(
                f"{queries.path} was made with another encoder than {passages.path} "
                f"({key}: {theirs!r}, not {ours!r}); encode both with one"
            )
