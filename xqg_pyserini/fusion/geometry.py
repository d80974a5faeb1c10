"""What the vectors of two stores look like, and what follows for mixing them: `xqg inspect`.

Numbers first (`Geometry`), then words (`advice`).  Stores are read in blocks; of the vectors only a seeded sample of
passages is held.  No labels and no questions are used: generated queries stand for the questions that will be asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xqg_pyserini.errors import UserError
from xqg_pyserini.fusion.formula import Centers, Fusion, unit
from xqg_pyserini.fusion.fused import FusedStores, Tolerances, percent, uneven
from xqg_pyserini.settings import check_values, option
from xqg_pyserini.stores import Block, QueryStore, StorePair, VectorStore

# from where on words are said; the numbers stand beside them
SPREAD = 0.02  # of lengths: standard deviation by mean
COMMON = 0.25  # share of the squared length that all passages have in common
POINT = 0.01  # of the mean queries: less than this is no change
NEAR_ONE = {"float32": 1e-3, "float16": 5e-3}  # how far from 1 a normalised vector's length may be


@dataclass(frozen=True)
class ExaminingSettings:
    """Which passages are compared, and what becomes of queries for others."""

    sample: int = option(1000, "passages to compare", metavar="N")
    seed: int = option(42, "of the sample", least=0)
    skip_unknown: bool = option(False, "leave out queries for passages that are not there")

    def __post_init__(self) -> None:
        check_values(self)


class VectorLengths(NamedTuple):
    """Lengths (L2 norms) of vectors."""

    mean: float
    deviation: float
    least: float
    most: float


class QueryCounts(NamedTuple):
    """How many queries a passage has."""

    total: int
    least: int
    mean: float
    most: int
    without: int  # passages that have none


class Separation(NamedTuple):
    """How well sampled passages are told apart by their own queries, in one language.

    With c(p, r) the cosine of passage p and the mean query of passage r: `own` is the mean of c(p, p), `others` that of
    c(p, r) for r ≠ p and `gap` their difference; `deviations` is the gap in standard deviations of the c(p, r); `first`
    is the share of the mean queries that are nearer to their own passage than to any other of the sample.
    """

    own: float
    others: float
    gap: float
    deviations: float | None  # None where the others are all alike
    first: float


@dataclass(frozen=True)
class LanguageGeometry:
    """The queries of one language: where they lie, and what centring would do."""

    queries: QueryCounts
    center: float  # length of μ_l
    distance: float  # ‖μ_l - μ_P‖
    cosine: float  # of μ_l and μ_P
    share: float  # ‖μ_l‖² by the mean squared length of the sample's mean queries
    sample: int  # passages of the sample that have queries
    plain: Separation | None  # None where fewer than two have
    centered: Separation | None


@dataclass(frozen=True)
class Geometry:
    """What `examine_stores` found; similarities are cosines, over a sample of passages."""

    passages: int
    dimensions: int
    encoder: str
    dtype: str
    normalized: bool  # as recorded
    lengths: VectorLengths
    center: float  # length of μ_P
    share: float  # ‖μ_P‖² / mean ‖E‖²: what all passages have in common (0 … 1)
    sample: int
    similarity: float | None  # mean cosine of two passages of the sample; None for one passage
    queries: QueryCounts | None
    languages: dict[str, LanguageGeometry]

    def as_json(self) -> dict[str, Any]:
        """Return the numbers by name, and the words."""
        return {**asdict(self, dict_factory=_by_name), "advice": advice(self)}


def _by_name(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in items}


def examine_stores(
    passages: str | Path | VectorStore,
    queries: str | Path | QueryStore | None = None,
    *,
    sample: int = ExaminingSettings.sample,
    seed: int = ExaminingSettings.seed,
    skip_unknown: bool = ExaminingSettings.skip_unknown,
) -> Geometry:
    """Measure a passage store and, where given, the query store beside it.

    Args:
        passages: a passage store, or its folder.
        queries: the query store, or its folder; aligned by id.
        sample: how many passages to compare with queries, drawn without replacement.
        seed: of the draw.
        skip_unknown: leave out queries for passages that are not there.

    Raises:
        UserError: where a store is damaged, the two do not fit, or the sample is below 2.
    """
    if sample < 2:
        raise UserError(f"sample is {sample}; expected 2 or more passages to compare", "sample")
    store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
    centers: Centers | None = None
    pair = StorePair(store, None)
    if queries is not None:  # its centres are those that searching and indexing would use
        fused = FusedStores(store, queries, Fusion("mean", beta=0.0), Tolerances(skip_unknown=skip_unknown))
        pair, centers = fused.pair, fused.centers
    lengths, mean, squared = _lengths(store)
    rows = np.random.default_rng(seed).choice(store.n, min(sample, store.n), replace=False)
    taken = pair.take(np.sort(rows), list(centers.queries) if centers else [])
    counts = dict(_counts(pair)) if centers else {}
    languages = {l: _language(l, counts[l], taken, centers) for l in centers.queries} if centers else {}
    stored = (store.n, store.d, str(store.encoder.get("name")), store.vectors.dtype.name, store.normalized)
    center = (float(np.linalg.norm(mean)), float(mean @ mean) / squared if squared else 0.0)
    sampled = (len(rows), _similarity(taken.passages))
    return Geometry(*stored, lengths, *center, *sampled, counts.get(None), languages)


def _lengths(store: VectorStore) -> tuple[VectorLengths, np.ndarray, float]:
    """Return the lengths, the mean vector (d,) float64 and the mean squared length."""
    mean, total, squared = np.zeros(store.d), 0.0, 0.0
    least, most = np.inf, 0.0
    for block in StorePair(store, None).blocks():
        norms = np.linalg.norm(block.passages, axis=1).astype(np.float64)
        mean += block.passages.sum(axis=0, dtype=np.float64)
        total, squared = total + norms.sum(), squared + norms @ norms
        least, most = min(least, float(norms.min())), max(most, float(norms.max()))
    average, squared = total / store.n, squared / store.n
    deviation = np.sqrt(max(0.0, squared - average**2))
    return VectorLengths(float(average), float(deviation), least, most), mean / store.n, float(squared)


def _counts(pair: StorePair) -> Iterator[tuple[str | None, QueryCounts]]:
    """Yield the counts over all languages (under None) and of each language."""
    assert pair.queries is not None
    names, n = pair.queries.languages, pair.passages.n
    total, without, most = np.zeros((3, len(names) + 1), np.int64)
    least = np.full(len(names) + 1, 1 << 62)
    for rows in pair.count_blocks():
        counts = pair.counts(rows, names).astype(np.int64)
        counts = np.column_stack([counts.sum(axis=1), counts])
        total, without = total + counts.sum(axis=0), without + (counts == 0).sum(axis=0)
        least, most = np.minimum(least, counts.min(axis=0)), np.maximum(most, counts.max(axis=0))
    for i, name in enumerate([None, *names]):
        yield (name, QueryCounts(int(total[i]), int(least[i]), total[i] / n, int(most[i]), int(without[i])))


def _similarity(vectors: np.ndarray) -> float | None:
    """Return the mean cosine of two different rows of (n, d); None where there is one row."""
    n = len(vectors)
    if n < 2:
        return None
    units = unit(vectors.astype(np.float64))
    total = units.sum(axis=0)  # ‖Σ u‖² = Σ ‖u‖² + the sum over all pairs
    return float((total @ total - (units * units).sum()) / (n * (n - 1)))


def _language(language: str, counts: QueryCounts, taken: Block, centers: Centers) -> LanguageGeometry:
    center, of_passages = centers.queries[language], centers.passages
    n = taken.counts[language]
    has = n > 0
    means = taken.sums[language][has] / n[has, None].astype(np.float32)
    squared = float((means * means).sum(axis=1, dtype=np.float64).mean()) if has.any() else 0.0
    share = min(1.0, float(center @ center) / squared) if squared else 0.0
    length, distance = float(np.linalg.norm(center)), float(np.linalg.norm(center - of_passages))
    cosine = float(unit(center) @ unit(of_passages))
    plain = centered = None
    if len(means) > 1:
        passages = taken.passages[has]
        plain, centered = separation(passages, means), separation(passages - of_passages, means - center)
    return LanguageGeometry(counts, length, distance, cosine, share, len(means), plain, centered)


def separation(passages: np.ndarray, queries: np.ndarray) -> Separation:
    """Return how well n ≥ 2 passages (n, d) are told apart by their mean queries (n, d)."""
    cosines = unit(passages) @ unit(queries).T
    n = len(cosines)
    own = np.diagonal(cosines).astype(np.float64)
    others = cosines[~np.eye(n, dtype=bool)].astype(np.float64)
    rivals = np.where(np.eye(n, dtype=bool), -np.inf, cosines).max(axis=0)
    gap, deviation = float(own.mean() - others.mean()), float(others.std())
    deviations = gap / deviation if deviation > 1e-6 else None
    first = float((np.diagonal(cosines) > rivals).mean())
    return Separation(float(own.mean()), float(others.mean()), gap, deviations, first)


# ---------------------------------------------------------------- words


def advice(measured: Geometry) -> list[str]:
    """Say in words what follows from the numbers; each a sentence without its full stop."""
    counted = _of_counts(measured.queries) if measured.queries else []
    return [*_of_lengths(measured), *_of_center(measured), *counted, *_of_coverage(measured), *_of_centering(measured)]


def _of_lengths(measured: Geometry) -> Iterator[str]:
    lengths = measured.lengths
    off = max(abs(lengths.least - 1), abs(lengths.most - 1))
    if measured.normalized and off > NEAR_ONE[measured.dtype]:
        lie = f"but their lengths are {lengths.least:.3f} to {lengths.most:.3f}"
        yield f"the store says that its embeddings are normalised, {lie}: encode the passages again"
    elif measured.normalized:
        yield "embeddings are normalised: renormalise after mixing (the mean form does by default)"
    elif lengths.deviation > SPREAD * lengths.mean:
        spread = f"{lengths.deviation / lengths.mean:.0%} (standard deviation by mean)"
        yield f"lengths differ by {spread}: the inner product favours longer vectors whatever the question"
    if not lengths.least:
        yield "a passage's vector is all zeros: it is found by no question; look at its text"


def _of_center(measured: Geometry) -> Iterator[str]:
    if measured.share >= COMMON:
        up, down, _, _ = _moves(measured.languages)
        follows = "and centring (--center) takes it away"
        if down and len(down) >= len(up):
            follows = "yet taking it away does not help here (see below)"
        share = f"the mean passage holds {measured.share:.0%} of the squared length"
        yield f"{share}: so much of every similarity is common to all passages, {follows}"


def _of_counts(counts: QueryCounts) -> Iterator[str]:
    if counts.least != counts.most:
        differ = f"the numbers of queries differ ({counts.least} to {counts.most} a passage)"
        yield f"{differ}: a sum (--alpha) would favour passages with many queries; use the mean (--beta)"
    else:
        m = counts.most
        same = 0.01 * m / (1 - 0.01 + 0.01 * m)  # docs/method.md, the two forms
        yield f"every passage has {m} queries: a sum is fair, and α = 0.01 weighs them as β = {same:.2f} does"
    if counts.without:
        yield f"{counts.without} passages have no query and keep their own embedding"


def _of_coverage(measured: Geometry) -> Iterator[str]:
    """Say what fusion would refuse (`FusedStores.refuse_uneven`), and what else there is."""

    def shares(counted: Mapping[str, QueryCounts]) -> str:
        lack = {name: c.without for name, c in counted.items() if c.total and uneven(c.without, measured.passages)}
        return ", ".join(f"{name} {percent(n, measured.passages)}" for name, n in lack.items())

    together = shares({"all together": measured.queries} if measured.queries else {})
    alone = shares({name: language.queries for name, language in measured.languages.items()})
    if together or alone:
        what = f"passages without queries: {', '.join(filter(None, (together, alone)))}"
        refused = "mixing such in without centring is refused, since passages that have queries are favoured"
        instead = "use --center, --shrink-queries, xqg align (which takes no coverage) or queries for all"
        yield f"{what}: {refused}: {instead}; --allow-uneven forces it"


def _moves(languages: Mapping[str, LanguageGeometry]) -> tuple[list[str], ...]:
    """Return the languages that centring moves up, down, and not, with figures; and those with nothing to compare."""
    moves: tuple[list[str], ...] = ([], [], [], [])
    up, down, same, none = moves
    for language, measured in languages.items():
        if measured.plain is None or measured.centered is None:
            none.append(language)
            continue
        before, after = measured.plain.first, measured.centered.first
        group = up if after - before >= POINT else down if after - before <= -POINT else same
        group.append(f"{language} {100 * before:.0f} → {100 * after:.0f}")
    return moves


def _of_centering(measured: Geometry) -> Iterator[str]:
    up, down, same, none = _moves(measured.languages)
    unit = "(% of mean queries that are nearest to their own passage)"
    if none:
        whole = measured.sample == measured.passages
        part, larger = ("", "") if whole else ("of the sample ", " (a larger --sample may find some)")
        yield f"{', '.join(none)}: fewer than two passages {part}have queries; nothing to compare{larger}"
    # one conclusion: that of the side with more languages
    if up:
        follows = ": use --center" if len(up) > len(down) else ""
        yield f"centring tells passages apart better in {', '.join(up)} {unit}{follows}"
    if down:
        follows = ": do not centre" if len(down) > len(up) else ""
        yield f"centring tells passages apart worse in {', '.join(down)} {unit}{follows}"
    if up and len(up) == len(down):
        yield "centring helps as many languages as it harms: compare both on questions"
    if same:
        yield "centring changes little in " + ", ".join(same) + " (% nearest to their own passage)"


def table(measured: Geometry) -> str:
    """Return the numbers and the words for a terminal."""
    lengths, counts = measured.lengths, measured.queries
    recorded = f"encoder {measured.encoder} ({'normalised' if measured.normalized else 'not normalised'})"
    spread = f"standard deviation {lengths.deviation:.4f}, {lengths.least:.4f} to {lengths.most:.4f}"
    lines = [
        f"{measured.passages} passages, {measured.dimensions} dimensions ({measured.dtype}), {recorded}",
        f"lengths: mean {lengths.mean:.4f}, {spread}",
        f"mean passage: length {measured.center:.4f}, {measured.share:.1%} of the mean squared length",
    ]
    if measured.similarity is not None:
        lines.append(f"two passages at random: cosine {measured.similarity:.3f}")
    if counts is not None:
        each = f"{counts.least} to {counts.most} a passage (mean {counts.mean:.2f})"
        lines.append(f"queries: {counts.total}, {each}; {counts.without} passages have none")
        lines += ["", _languages(measured.languages), "", _LEGEND]
    lines += ["", *(f"→ {sentence}." for sentence in advice(measured))]
    return "\n".join(lines)


_LEGEND = """\
centre: length of the mean query; distance and cosine: from the mean passage; own, others:
cosine of a passage with its own and with other passages' mean query; gap: own - others; sd:
the gap in standard deviations of the others; first: % of mean queries that are nearest to
their own passage. Arrows lead from the vectors as they are to the centred ones."""


def _languages(languages: Mapping[str, LanguageGeometry]) -> str:
    from tabulate import tabulate

    rows = []
    for name, language in languages.items():
        counts = language.queries
        figures = [f"{figure:.3f}" for figure in (language.center, language.distance, language.cosine)]
        row = [name, counts.total, f"{counts.least}-{counts.most}", counts.without, *figures]
        rows.append(row + _cells(language.plain, language.centered))
    header = ["", "queries", "each", "none", "centre", "distance", "cosine", "own", "others", "gap", "sd", "first"]
    return tabulate(rows, header, disable_numparse=True)


def _cells(plain: Separation | None, centered: Separation | None) -> list[str]:
    if plain is None or centered is None:
        return ["-"] * 5
    gap = f"{plain.gap:.3f} → {centered.gap:.3f}"
    deviations = ["-" if part.deviations is None else f"{part.deviations:.1f}" for part in (plain, centered)]
    first = f"{100 * plain.first:.0f} → {100 * centered.first:.0f}"
    return [f"{plain.own:.3f}", f"{plain.others:.3f}", gap, " → ".join(deviations), first]
