"""Runs → one run: what several rankings say of a question, put together.

Methods and norms bear ranx's names (Bassani and Romelli, ranx.fuse, CIKM 2022), and give its scores except where these
depart from a paper or depend on the order of a set (docs/baselines.md).  They are computed here, a question at a time:
ranx's are compiled at first use, for half a minute, hold all runs as objects, order hits by score anew, whatever their
ranks are, and take no run that lacks a question.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xqg_pyserini.data import Run, RunLike, opened_run, overlap_note, run_names
from xqg_pyserini.data.records import AnyRun
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.settings import check_values, option

Floats = NDArray[np.float64]


class Ranked(NamedTuple):
    """What r runs say of the c passages that any of them found for a question; NaN where one lacks a passage.

    Passages are in the order in which equal scores are to stand.
    """

    scores: Floats  # (r, c), normalised
    ranks: Floats  # (r, c), from 1
    weights: Floats  # (r,)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which run has which passage, (r, c)."""
        return ~np.isnan(self.ranks)


def _sum(values: Floats) -> Floats:
    """Return the sums (c,) of what runs give (r, c), NaN being nothing, whatever the order of the runs."""
    # sorted: what is equal on paper is equal to the last bit, and so a tie
    total: Floats = np.sort(np.where(np.isnan(values), 0.0, values), axis=0).sum(axis=0)
    return total


def _borda(of: Ranked) -> Floats:
    """Return points (r, c): c for the first of c passages, 1 less for each next; those a run lacks share the rest."""
    passages = of.ranks.shape[1]
    rest = (passages - of.found.sum(axis=1, keepdims=True) + 1) / 2
    return np.where(of.found, passages - of.ranks + 1, rest)


def _condorcet(of: Ranked) -> Floats:
    """Return c for the passage that is placed first, 1 less for each next.

    Of two passages that goes first which more runs (by their weights) rank higher; a run that lacks one ranks it below
    those that it has, and has no say between two that it lacks.  Sorted by such comparisons, each beats the next, also
    where majorities go round in a circle.
    """
    passages = of.ranks.shape[1]
    places: list[list[float]] = np.where(of.found, of.ranks, passages + 1).tolist()
    voters = list(zip(of.weights.tolist(), places, strict=True))

    def compare(one: int, other: int) -> float:
        ahead = sum([weight * ((row[one] < row[other]) - (row[one] > row[other])) for weight, row in voters])
        return one - other if abs(ahead) < 1e-12 else -ahead  # weights such as 0.1 + 0.2 - 0.3 cancel

    order = sorted(range(passages), key=cmp_to_key(compare))  # type: ignore[arg-type]
    points = np.empty(passages)
    points[order] = np.arange(passages, 0, -1)
    return points


def _mnz(of: Ranked, power: float) -> Floats:
    return _sum(of.scores) * of.found.sum(axis=0) ** power


def _isr(of: Ranked, factor: Callable[[Floats], Floats]) -> Floats:
    return _sum(1 / of.ranks**2) * factor(of.found.sum(axis=0).astype(np.float64))


def _weighted(of: Ranked) -> Floats:
    return of.scores * of.weights[:, None]


class _Method(NamedTuple):
    fuse: Callable[[Ranked, "FuseSettings"], Floats]
    by_rank: bool = False  # not by score
    weighted: bool = False


METHODS: dict[str, _Method] = {
    # Cormack, Clarke and Büttcher, SIGIR 2009
    "rrf": _Method(lambda of, s: _sum(1 / (s.number("rrf_k") + of.ranks)), by_rank=True),
    "wsum": _Method(lambda of, s: _sum(_weighted(of)), weighted=True),
    # Fox and Shaw, TREC-2, 1993; gmnz: Lee, SIGIR 1997
    "sum": _Method(lambda of, s: _sum(of.scores)),
    "anz": _Method(lambda of, s: _sum(of.scores) / of.found.sum(axis=0)),
    "mnz": _Method(lambda of, s: _mnz(of, 1.0)),
    "gmnz": _Method(lambda of, s: _mnz(of, s.number("gamma"))),
    "max": _Method(lambda of, s: np.nanmax(of.scores, axis=0)),
    "med": _Method(lambda of, s: np.nanmedian(of.scores, axis=0)),
    "min": _Method(lambda of, s: np.nanmin(of.scores, axis=0)),
    # Wu and Crestani, CIKM 2002
    "mixed": _Method(lambda of, s: _sum(_weighted(of)) * np.sqrt(of.found.sum(axis=0)), weighted=True),
    "wmnz": _Method(lambda of, s: _sum(of.scores) * _sum(of.found * of.weights[:, None]), weighted=True),
    # Mourão, Martins and Magalhães, Computerized Medical Imaging and Graphics 39, 2015
    "isr": _Method(lambda of, s: _isr(of, lambda n: n), by_rank=True),
    "log_isr": _Method(lambda of, s: _isr(of, np.log), by_rank=True),
    "logn_isr": _Method(lambda of, s: _isr(of, lambda n: np.log(n + s.number("sigma"))), by_rank=True),
    # Bailey, Moffat, Scholer and Thomas, SIGIR 2017
    "rbc": _Method(lambda of, s: _sum((1 - s.number("phi")) * s.number("phi") ** (of.ranks - 1)), by_rank=True),
    # Aslam and Montague, SIGIR 2001; Montague and Aslam, CIKM 2002
    "bordafuse": _Method(lambda of, s: _sum(_borda(of)), by_rank=True),
    "w_bordafuse": _Method(lambda of, s: _sum(_borda(of) * of.weights[:, None]), by_rank=True, weighted=True),
    "condorcet": _Method(lambda of, s: _condorcet(of._replace(weights=np.ones(len(of.ranks)))), by_rank=True),
    "w_condorcet": _Method(lambda of, s: _condorcet(of), by_rank=True, weighted=True),
}


def _shifted(scores: Floats, spread: float, equal: float) -> Floats:
    return (scores - scores.min()) / spread if spread > 0 else np.full(len(scores), equal)


def _by_maximum(scores: Floats) -> Floats:
    if scores.max() <= 0:
        raise UserError("norm 'max' divides by the best score, which is not above 0; take another", "norm")
    return scores / scores.max()


def _standardised(scores: Floats) -> Floats:
    spread = scores.std() if np.ptp(scores) else 0.0  # of equal scores it can be a rounding error above 0
    return (scores - scores.mean()) / spread if spread else np.zeros(len(scores))


NORMS: dict[str, Callable[[Floats], Floats]] = {  # scores (n,), best first → (n,)
    "none": lambda scores: scores,
    # Lee, SIGIR 1997; sum, zmuv: Montague and Aslam, CIKM 2001; rank, borda: Renda and Straccia, SAC 2003
    "min-max": lambda scores: _shifted(scores, float(np.ptp(scores)), 1.0),
    "max": _by_maximum,
    "sum": lambda scores: _shifted(scores, float((scores - scores.min()).sum()), 1 / len(scores)),
    "zmuv": _standardised,
    "rank": lambda scores: 1 - np.arange(len(scores)) / len(scores),
    "borda": lambda scores: scores,  # it takes all runs: see `_normalised`
}


# which method a number is of, and its default; None: there is none
_NUMBERS: dict[str, tuple[str, Any]] = {
    **{"rrf_k": ("rrf", 60), "sigma": ("logn_isr", 0.01)},
    **{"gamma": ("gmnz", None), "phi": ("rbc", None)},
}


@dataclass(frozen=True)
class FuseSettings:
    """How runs are fused; each field's help says what it is.

    Raises:
        UserError: for a value that its field does not take, one that the method does not look at, or one that it lacks.
    """

    method: str = option("rrf", "one of ranx's that need no training; wsum is interpolation", *METHODS)
    norm: str | None = option(
        None, "of each question's scores in a run (default min-max; none for methods that go by ranks)", *NORMS
    )
    weights: tuple[float, ...] | None = option(
        None,
        "one a run, of wsum, mixed, wmnz, w_bordafuse, w_condorcet (default: equal, 1 in all)",
        least=0,
        metavar="W",
    )
    depth: int = option(1000, "hits of each run that are looked at", least=1, metavar="N")
    hits: int = option(1000, "passages a question that are written", least=1, metavar="N")
    rrf_k: int | None = option(None, "of rrf: Σ 1 / (k + rank) (default 60)", least=0, metavar="K")
    gamma: float | None = option(None, "of gmnz: Σ scores · (runs that have the passage)^γ")
    phi: float | None = option(None, "of rbc: Σ (1 - φ) φ^(rank - 1)", above=0, below=1)
    sigma: float | None = option(
        None, "of logn_isr: Σ 1 / rank² · log(runs that have the passage + σ) (default 0.01)", least=0, most=1
    )

    def __post_init__(self) -> None:
        check_values(self)
        chosen = METHODS[self.method]
        if chosen.by_rank and self.norm not in (None, "none"):
            raise UserError(f"{self.method} goes by ranks, to which a norm of the scores is nothing", "norm")
        if self.weights is not None and not chosen.weighted:
            weighted = ", ".join(name for name, method in METHODS.items() if method.weighted)
            raise UserError(f"{self.method} has no weights; those that have are {weighted}", "weights")
        if self.weights is not None and not sum(self.weights):
            raise UserError("all weights are 0; give a run one above", "weights")
        for name, (method, default) in _NUMBERS.items():
            given = getattr(self, name) is not None
            if given and self.method != method:
                raise UserError(f"{name} is {method}'s alone", (name, "method"))
            if self.method == method and not given and default is None:
                raise UserError(f"{method} takes {name}", (name, "method"))

    def number(self, name: str) -> float:
        """Return a number of the method, given or by default."""
        value = getattr(self, name)
        return float(_NUMBERS[name][1] if value is None else value)


def fuse_runs(runs: Sequence[RunLike] | Mapping[str, RunLike], settings: FuseSettings | None = None) -> Run:
    """Fuse runs; questions are in the order of the first run, those that it lacks behind, in that of the next.

    A run that lacks a question has no say in it, which a warning says.  Equal fused scores are in the order of their
    docids from z to a, as trec_eval has them; the order of the runs does not matter to any method.

    Args:
        runs: two or more: TREC files and others that `read_run` reads, or values (`as_run`); by name, if wanted.
        settings: how.

    Raises:
        UserError: as `read_run`; for a single run, weights that are not one a run, runs without a common question.
    """
    return dict(fusing(runs, settings))


def fusing(
    runs: Sequence[RunLike] | Mapping[str, RunLike], settings: FuseSettings | None = None
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield questions and their fused hits, as `fuse_runs` returns them; one question is in memory at a time."""
    settings = settings or FuseSettings()
    opened = _opened(runs)
    if settings.weights is not None and len(settings.weights) != len(opened):
        raise UserError(f"{len(settings.weights)} weights for {len(opened)} runs; give one for each", "weights")
    weights = np.array(settings.weights or [1 / len(opened)] * len(opened), dtype=np.float64)
    questions = list(dict.fromkeys(qid for run in opened.values() for qid in run))
    _look_at_questions(opened, len(questions))
    shared = False
    for qid in questions:
        rankings = [list(run.get(qid, {}).items())[: settings.depth] for run in opened.values()]
        docids = sorted({docid for ranking in rankings for docid, _ in ranking}, reverse=True)
        shared = shared or len(docids) < sum(map(len, rankings))
        try:
            yield qid, _fused(docids, rankings, weights, settings) if docids else {}
        except UserError as error:
            raise UserError(f"question {qid!r}: {error}", error.about) from None
    if not shared:
        warn("no passage is in two of the runs: they may be of different collections, or write docids differently")


def _opened(runs: Sequence[RunLike] | Mapping[str, RunLike]) -> dict[str, AnyRun]:
    if isinstance(runs, Mapping):
        names, sources = list(runs), list(runs.values())
    else:
        sources = list(runs)
        paths = [source for source in sources if isinstance(source, str | os.PathLike)]
        names = run_names(paths) if len(paths) == len(sources) else [f"{i}" for i in range(1, len(sources) + 1)]
    if len(sources) < 2:
        raise UserError(f"{len(sources)} run to fuse; give two or more", "runs")
    return dict(zip(names, map(opened_run, sources), strict=True))


def _look_at_questions(runs: Mapping[str, AnyRun], total: int) -> None:
    """Warn of questions that runs lack; raise `UserError` for a run that shares none with another."""
    for name, run in runs.items():
        others = {qid for other, those in runs.items() if other != name for qid in those}
        if others.isdisjoint(run):
            raise UserError(str(overlap_note(run, others, f"run {name}", "the others", "question ids")), "runs")
        if len(run) < total:
            warn(f"run {name} lacks {total - len(run)} of {total} questions; the other runs decide those")


def _fused(
    docids: Sequence[str], rankings: Sequence[Sequence[tuple[str, float]]], weights: Floats, settings: FuseSettings
) -> dict[str, float]:
    """Return the fused hits of a question, best first; `docids` in the order in which equals are to stand."""
    method, place = METHODS[settings.method], {docid: i for i, docid in enumerate(docids)}
    scores, ranks = np.full((2, len(rankings), len(docids)), np.nan)
    norm = settings.norm or "min-max"
    for row, ranking in enumerate(rankings):
        if not ranking:
            continue
        columns = [place[docid] for docid, _ in ranking]
        ranks[row, columns] = np.arange(1, len(ranking) + 1)
        if not method.by_rank:
            scores[row, columns] = NORMS[norm](np.array([score for _, score in ranking], dtype=np.float64))
    if norm == "borda":
        scores = _borda_norm(ranks)
        ranks = np.where(np.isnan(ranks), len(docids), ranks)  # this norm says something of every passage
    with np.errstate(over="ignore", invalid="ignore"):
        fused = method.fuse(Ranked(scores, ranks, weights), settings)
    if not np.isfinite(fused).all():
        raise UserError(f"{settings.method} gives scores that are no finite numbers; take other settings")
    order = np.argsort(-fused, kind="stable")[: settings.hits]
    return dict(zip([docids[i] for i in order], fused[order].tolist(), strict=True))


def _borda_norm(ranks: Floats) -> Floats:
    """Return 1 - (rank - 1) / c, and for passages that a run of n lacks 1/2 - (n - 1) / 2c."""
    passages, hits = ranks.shape[1], (~np.isnan(ranks)).sum(axis=1, keepdims=True)
    return np.where(np.isnan(ranks), 0.5 - (hits - 1) / (2 * passages), 1 - (ranks - 1) / passages)
