"""What is tried: conditions over one split of a collection, and the parameters that held-out pairs choose."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import xqg_pyserini as xqg
from alignment import rivals
from alignment.data import Vectors
from alignment.rivals import Array, Pairs, aligned, centred, ranks, unit

RIDGES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
COMPONENTS = (1, 2, 5, 10, 20)
SMOOTH = (0.1, 1.0, 10.0, 100.0)  # ridges of whitening and of regression


class StandIns(NamedTuple):
    """Queries that are mixed into candidates: their rows (N,), vectors (N, d) and languages (N,)."""

    rows: Array
    queries: Array
    languages: Array


class Trial(NamedTuple):
    """Questions q (m, d) in languages l (m,) for candidates p (n, d), `right` (m,) the row of each one's own.

    `pairs` is what may be learnt from, of the passages `known` (N,): never of candidates, but where a cell says so.
    `asked` are the questions' places in the collection.
    """

    asked: Array
    q: Array
    l: Array
    p: Array
    right: Array
    pairs: Pairs
    known: Array
    stand_ins: StandIns | None = None


Try = Callable[[Trial], Array]  # → scores (m, n)


def pairs_of(vectors: Vectors, chosen: Array) -> Pairs:
    """Return pairs of some questions."""
    return Pairs(vectors.queries, vectors.passages[vectors.rows], vectors.languages, vectors.english).where(chosen)


def trial(vectors: Vectors, learn: Array, asked: Array, candidates: Array, stand_ins: Array | None = None) -> Trial:
    """Return a trial; `learn`, `asked` and `stand_ins` are masks of questions (m,), `candidates` of passages (n,)."""
    place = np.cumsum(candidates) - 1
    rows, mixed = vectors.rows, None
    if stand_ins is not None:
        mixed = StandIns(place[rows[stand_ins]], vectors.queries[stand_ins], vectors.languages[stand_ins])
    at, q, l = np.flatnonzero(asked), vectors.queries[asked], vectors.languages[asked]
    right = place[rows[asked]]
    return Trial(at, q, l, vectors.passages[candidates], right, pairs_of(vectors, learn), rows[learn], mixed)


def halves(vectors: Vectors, seed: int, mix: bool = False) -> Iterator[Trial]:
    """Learn from one half of the passages; ask about, and search, the other; both directions.

    With `mix`, questions at odd places of the searched half are stand-ins for generated queries, and not asked.
    """
    half = vectors.half(seed)
    odd = vectors.place % 2 == 1
    for held_out in (0, 1):
        there = half[vectors.rows] == held_out
        yield trial(vectors, ~there, there & ~odd if mix else there, half == held_out, there & odd if mix else None)


def hit_rate(hits: Array, languages: Array) -> float:
    """Return the unweighted mean over languages, 0-100."""
    return float(np.mean([100 * hits[languages == l].mean() for l in np.unique(languages)]))


def best(t: Trial, tried: Callable[[float], Try], grid: Sequence[float]) -> float:
    """Return the parameter that finds most of held-out pairs; of equals, the last.

    Learnt from the pairs of every other passage, and tried on those between, with their passages as candidates.
    """
    place = np.unique(t.known, return_inverse=True)[1]
    found = []
    for value in grid:
        hits = np.zeros(len(place), bool)
        for held_out in (0, 1):
            there = place % 2 == held_out
            first = np.unique(place[there], return_index=True)[1]
            inner = Trial(
                t.asked, t.pairs.queries[there], t.pairs.languages[there], t.pairs.passages[there][first],
                place[there] // 2, t.pairs.where(~there), t.known[~there],
            )  # fmt: skip
            hits[there] = ranks(tried(value)(inner), inner.right) == 1
        found.append(hit_rate(hits, t.pairs.languages))
    return grid[max(range(len(grid)), key=lambda i: (found[i], i))]


# ---------------------------------------------------------------- conditions


def side(turn: Callable[..., Array], *given: float) -> Try:
    """Return a try that changes the questions alone."""
    return lambda t: turn(t.q, t.l, t.pairs, *given) @ t.p.T


def both(turn: Callable[..., tuple[Array, Array]], *given: float) -> Try:
    """Return a try that changes questions and passages."""

    def scores(t: Trial) -> Array:
        q, p = turn(t.q, t.l, t.p, t.pairs, *given)
        return q @ p.T

    return scores


def picked(kind: Callable[..., Try], turn: Callable[..., Any], grid: Sequence[float]) -> Try:
    """Return a try by the parameter that `best` finds."""
    return lambda t: kind(turn, best(t, lambda value: kind(turn, value), grid))(t)


def on_centred_index(t: Trial) -> Trial:
    """Return the trial with candidates N(p - μ_P)."""
    return t._replace(p=unit(t.p - t.p.mean(axis=0)))


def normalised(t: Trial) -> Trial:
    """Return the trial as if the encoder scaled its vectors to length 1."""
    pairs = t.pairs._replace(queries=unit(t.pairs.queries), passages=unit(t.pairs.passages))
    return t._replace(q=unit(t.q), p=unit(t.p), pairs=pairs)


def aligned_questions(t: Trial) -> Array:
    """Return the questions aligned, λ chosen by held-out pairs."""
    return aligned(t.q, t.l, t.pairs, best(t, lambda ridge: side(aligned, ridge), RIDGES))


PLAIN: dict[str, Try] = {
    "none": lambda t: t.q @ t.p.T,
    "centred": side(centred),
    "aligned, λ = 5": side(aligned, 5.0),
    "aligned": picked(side, aligned, RIDGES),
}
RIVALS: dict[str, Try] = {
    "whitened questions": picked(side, rivals.whitened_questions, SMOOTH),
    "Procrustes": side(rivals.procrustes),
    "ridge regression": picked(side, rivals.regressed, SMOOTH),
    "CSLS": lambda t: rivals.csls(t.q, t.l, t.p, t.pairs),
    "CSLS, centred": lambda t: rivals.csls(t.q, t.l, t.p, t.pairs, center=True),
    "SHIFT": lambda t: rivals.shifted(t.q, t.l, t.p, t.pairs),
    "LIR": picked(both, rivals.lir, COMPONENTS),
    "whitening": picked(both, rivals.whitened, SMOOTH),
    "centred index: none": lambda t: PLAIN["none"](on_centred_index(t)),
    "centred index: centred": lambda t: PLAIN["centred"](on_centred_index(t)),
    "centred index: aligned": lambda t: PLAIN["aligned"](on_centred_index(t)),
}
# for an encoder that does not normalise; those of RIVALS that scale to length 1 are beside these
NORMALISED: dict[str, Try] = {
    f"normalised: {turn}": lambda t, turn=turn: PLAIN[turn](normalised(t)) for turn in ("none", "centred", "aligned")
}


def fused(t: Trial, fusion: xqg.Fusion, own: bool) -> dict[str, Array]:
    """Return the candidates of each language's search, (n, d); one for all where the language is not looked at."""
    mixed = t.stand_ins
    assert mixed is not None
    languages = np.unique(mixed.languages).tolist()
    sums = {l: np.zeros_like(t.p) for l in languages}
    counts = {l: np.zeros(len(t.p), np.int64) for l in languages}
    for l in languages:
        mine = mixed.languages == l
        np.add.at(sums[l], mixed.rows[mine], mixed.queries[mine])
        np.add.at(counts[l], mixed.rows[mine], 1)
    means = {l: mixed.queries[mixed.languages == l].mean(axis=0) for l in languages}
    centers = xqg.Centers(t.p.mean(axis=0), means, mixed.queries.mean(axis=0))
    every = xqg.augment(fusion, t.p, sums, counts, centers)
    if not own:
        return dict.fromkeys(np.unique(t.l).tolist(), every)
    own_of = {l: xqg.augment(fusion, t.p, {l: sums[l]}, {l: counts[l]}, centers) for l in languages}
    return {str(l): own_of.get(str(l), every) for l in np.unique(t.l)}


SIDES: dict[str, Try] = {
    "none": lambda t: t.q,
    "centred": lambda t: centred(t.q, t.l, t.pairs),
    "aligned, λ = 5": lambda t: aligned(t.q, t.l, t.pairs, 5.0),
    "aligned": aligned_questions,
}


def on_fused(fusion: xqg.Fusion, own: bool, asked: str) -> Try:
    """Return a try over a fused index, or one for each language."""

    def scores(t: Trial) -> Array:
        q, out = SIDES[asked](t), np.empty((len(t.q), len(t.p)), np.float32)
        for language, p in fused(t, fusion, own).items():
            mine = t.l == language
            out[mine] = q[mine] @ p.T
        return out

    return scores


def maximum(t: Trial, center: bool = False) -> Array:
    """Return HyPE's scores; centred: questions and queries both, by what is learnt."""
    mixed = t.stand_ins
    assert mixed is not None
    q, queries, p = t.q, mixed.queries, t.p
    if center:
        q, queries = centred(q, t.l, t.pairs), centred(queries, mixed.languages, t.pairs)
        q, queries, p = unit(q), unit(queries), unit(p - p.mean(axis=0))
    return rivals.best_query(q, t.l, p, mixed.rows, queries, mixed.languages)


def fused_tries(normalize: bool) -> dict[str, Try]:
    """Return what mixes stand-ins into the candidates."""
    published = xqg.Fusion("sum", alpha=0.01)
    mean = xqg.Fusion("mean", beta=0.3, normalize=normalize)
    both = xqg.Fusion("mean", beta=0.2, normalize=normalize, center=True)
    tries = {"sum, α = 0.01": on_fused(published, False, "none")}
    for name, own in (("all", False), ("own", True)):
        for turn in ("none", "centred", "aligned"):
            tries[f"mean {name}, β = 0.3: {turn}"] = on_fused(mean, own, turn)
    for name, own in (("all", False), ("own", True)):
        for turn in ("centred", "aligned"):
            tries[f"centred mean {name}, β = 0.2: {turn}"] = on_fused(both, own, turn)
    return tries | {"maximum": maximum, "maximum, centred": lambda t: maximum(t, True)}


class Tried(NamedTuple):
    """Ranks (splits, questions), 0 where not asked, and the seconds of all trials."""

    ranks: Array
    seconds: float


def run(vectors: Vectors, splits: Sequence[Sequence[Trial]], tries: dict[str, Try]) -> dict[str, Tried]:
    """Return name → the ranks of all questions in each split."""
    out = {}
    for name, scores in tries.items():
        found, begun = np.zeros((len(splits), len(vectors.rows)), np.int64), time.perf_counter()
        for split, trials in enumerate(splits):
            for t in trials:
                found[split, t.asked] = ranks(scores(t), t.right)
        out[name] = Tried(found, time.perf_counter() - begun)
    return out
