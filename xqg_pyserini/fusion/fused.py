"""Two stores and a fusion → augmented vectors, block by block, for building an index and searching alike."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from xqg_pyserini.data import find_language
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.fusion.formula import Centers, Fusion, augment, mix, own_part
from xqg_pyserini.models.encoder import same_encoder
from xqg_pyserini.settings import option
from xqg_pyserini.stores import Block, QueryStore, StorePair, VectorStore

Languages = tuple[str, ...]

UNEVEN = 0.05  # share of passages without queries above which uncentred mixing is refused (docs/method.md, "Coverage")


@dataclass(frozen=True)
class Tolerances:
    """What is tolerated where two stores do not quite fit."""

    allow_unequal: bool = option(False, "let a sum pass over unequal numbers of queries")
    allow_uneven: bool = option(False, "mix in without centring though many passages have no query")
    skip_unknown: bool = option(False, "leave out queries for passages that are not there")


class FusedStores:
    """The passages of a store with their generated queries mixed in.

    Args:
        passages: the store of passages, or its folder.
        queries: the store of queries, or its folder; aligned with the passages by id.
        fusion: how; `languages=None` stands for all that the query store has.
        tolerances: what is tolerated.
        own: each language is fused by itself, with its own queries alone, and not all together.

    Attributes: `passages`, `queries`, `pair` (both, aligned), `fusion`, `own`; `languages`, those that are mixed in.

    Raises:
        UserError: where the stores do not fit, a language has no query, a sum is over unequal numbers of queries, or
            queries are mixed in uncentred though more than `UNEVEN` of the passages have none: in all languages
            together, or with `own` in one of them.
    """

    def __init__(
        self,
        passages: str | Path | VectorStore,
        queries: str | Path | QueryStore,
        fusion: Fusion,
        tolerances: Tolerances | None = None,
        *,
        own: bool = False,
    ) -> None:
        self.passages = passages if isinstance(passages, VectorStore) else VectorStore(passages)
        self.queries = queries if isinstance(queries, QueryStore) else QueryStore(queries)
        self.fusion, self.own, self.tolerances = fusion, own, tolerances or Tolerances()
        self._counted: dict[Languages, tuple[int, int, int]] = {}
        if self.queries.d == self.passages.d:  # else StorePair says so, and better
            same_encoder(self.passages, self.queries)
        self.pair = StorePair(self.passages, self.queries, self.tolerances.skip_unknown)
        if self.pair.skipped:
            skipped = f"{self.pair.skipped} passages with queries in {self.queries.path}"
            warn(f"{skipped} are not in {self.passages.path} and were skipped")
        self.languages = self.choose_languages(fusion.languages)
        self._check_counts()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.passages}, {self.queries}, {self.fusion}{', own=True' * self.own})"

    @property
    def mixes(self) -> list[Languages]:
        """Return the sets of languages that are mixed in: all, or with `own` each by itself."""
        return [(language,) for language in self.languages] if self.own else [self.languages]

    def mix_for(self, language: str | None) -> Languages:
        """Return what a question in `language` meets: with `own` its own alone if that has queries, else all."""
        own = find_language(language, self.languages) if self.own else None
        return self.languages if own is None else (own,)

    def choose_languages(self, languages: Languages | None) -> Languages:
        """Return the languages as the store writes them, or for None all that have queries.

        Raises `UserError` for one without queries.
        """
        held = self.pair.totals()
        if not held:
            raise UserError(f"{self.queries.path} has no query for a passage of {self.passages.path}")
        if languages is None:
            return tuple(held)
        chosen = []
        for language in languages:
            found = find_language(language, held)
            if found is None:
                raise UserError(f"{self.queries.path} has no queries in {language!r}; it has {' '.join(held)}")
            chosen.append(found)
        return tuple(chosen)

    def _count(self, languages: Languages) -> tuple[int, int, int]:
        """Return the lowest and the highest number of queries a passage, and how many have none; counted once."""
        if languages in self._counted:
            return self._counted[languages]
        low, high, without = 1 << 62, 0, 0
        for rows in self.pair.count_blocks():
            totals = self.pair.counts(rows, languages).sum(axis=1, dtype=np.int64)
            low, high = min(low, int(totals.min())), max(high, int(totals.max()))
            without += int((totals == 0).sum())
        self._counted[languages] = low, high, without
        return self._counted[languages]

    def without_queries(self, languages: Languages, rows: range | None = None) -> int:
        """Return how many passages, or of some, have no query in these languages, and keep their embedding."""
        if rows is not None:
            return int((self.pair.counts(rows, languages).sum(axis=1, dtype=np.int64) == 0).sum())
        return self._count(languages)[2]

    def warn_without(self, mixes: list[Languages]) -> None:
        """Warn of the passages that keep their own embedding in each of these mixes."""
        if self.fusion.shrink_queries:
            return  # none does
        without = {languages: self.without_queries(languages) for languages in mixes}
        counted = [f"{' '.join(languages)} {n}" for languages, n in without.items() if n]
        if counted:
            warn(f"passages without queries, of {self.passages.n}, keep their own embedding: {', '.join(counted)}")

    def _check_counts(self) -> None:
        if self.fusion.form == "sum" and not self.tolerances.allow_unequal:
            self.refuse_unequal(self.mixes)
        if self.tolerances.allow_uneven or not self.fusion.depends_on_coverage:
            return
        if not self.fusion.center:
            self.refuse_uneven(self.mixes)
        elif shares := self._uneven(self.mixes):
            what = f"many passages have no queries ({shares}): those that have some are favoured, if less than"
            warn(f"{what} without centring; shrinking the queries (shrink_queries) puts that right")

    def refuse_unequal(self, mixes: Iterable[Languages]) -> None:
        """Raise `UserError` unless all passages have one number of queries in each of these mixes."""
        for languages in mixes:
            low, high, _ = self._count(languages)
            if low != high:
                numbers = f"{low} to {high} a passage in {' '.join(languages)}"
                what = f"a sum over unequal numbers of queries ({numbers}) favours the passages that have more"
                use = "use the mean (beta), or force it with allow_unequal"
                raise UserError(f"{what}; {use}", ("beta", "allow_unequal"))

    def _uneven(self, mixes: Iterable[Languages]) -> str:
        """Return the share of passages without queries in those of these mixes where it is above `UNEVEN`."""
        n = self.passages.n
        without = {languages: self.without_queries(languages) for languages in mixes}
        return ", ".join(f"{' '.join(mix)} {percent(lack, n)}" for mix, lack in without.items() if uneven(lack, n))

    def refuse_uneven(self, mixes: Iterable[Languages]) -> None:
        """Raise `UserError` if in one of these mixes more than `UNEVEN` of the passages have no query."""
        if shares := self._uneven(mixes):
            what = "mixed in uncentred, queries favour the passages that have some over those that have none"
            instead = (
                "centre, shrink the queries (shrink_queries), align the questions instead, which takes no coverage"
            )
            instead += ", make queries for all, or force it with allow_uneven"
            about = ("center", "shrink_queries", "align", "allow_uneven")
            raise UserError(f"{what} ({shares}); {instead}", about)

    @cached_property
    def centers(self) -> Centers:
        """The mean embeddings of the passages, of each language's queries, and of all queries (docs/method.md)."""
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
        means = {l: (sums[l] / counts[l]).astype(np.float32) for l in languages if counts[l]}
        return Centers((passages / self.passages.n).astype(np.float32), means, pooled.astype(np.float32))

    def fuse(self, block: Block, languages: Languages, fusion: Fusion | None = None) -> np.ndarray:
        """Return the augmented vectors (b, d) float32 of a block that has these languages (`fusion`: if another)."""
        fusion = fusion or self.fusion
        return augment(fusion, block.passages, *block.queries(languages), self._centers_of(fusion))

    def mixes_of(
        self, block: Block, mixes: Iterable[Languages]
    ) -> Iterator[tuple[Languages, np.ndarray, np.ndarray | None]]:
        """Yield each of these sets of languages with what `formula.mix` makes of a block that has them."""
        centers = self._centers_of(self.fusion)
        own = own_part(self.fusion, block.passages, centers)
        for languages in mixes:
            yield languages, *mix(self.fusion, own, *block.queries(languages), centers)

    def _centers_of(self, fusion: Fusion) -> Centers | None:
        return self.centers if fusion.center or fusion.shrink_queries else None

    def blocks(self, languages: Languages | None = None, rows: range | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, augmented vectors (b, d) float32) with the queries of these languages (default: all).

        `rows` are those wanted, from start to stop; None for all.
        """
        languages = self.languages if languages is None else languages
        for block in self.pair.blocks(languages, rows):
            yield block.start, self.fuse(block, languages)


def uneven(without: int, passages: int) -> bool:
    """Return whether so many passages without queries, of all, are too many to mix queries in uncentred."""
    return without > UNEVEN * passages


def percent(part: int, whole: int) -> str:
    """Return a share in percent, with as many decimals as show that it is neither nothing nor all."""
    for decimals in (0, 1, 2):
        text = f"{part / whole:.{decimals}%}"
        if part in (0, whole) or float(text[:-1]) not in (0, 100):
            break
    return text
