"""Measures of a ranking by relevance judgements, and the names they go by.

Question by question, values equal trec_eval's where it has the measure: relevance may be graded; what nobody judged,
and what is judged below 0, is not relevant, and to bpref as if it were not there.  ranx's names are the ones shown;
trec_eval's and ir_measures' are understood.  This module refuses to know runs, questions, languages and averages.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from xqg_pyserini.errors import UserError

_TYPED = re.ASCII | re.IGNORECASE
_TOKENS = re.compile(r"R@(\d{1,9}(?:\.\d{1,9})?)kt", _TYPED)
_NAME = re.compile(r"([a-z][a-z0-9_-]*?)(?:(?P<mark>[@._])(?P<cut>\d{1,9}))?(?:-l(?P<level>[1-9]\d{0,8}))?", _TYPED)
_GIVEN = re.compile(  # ir_measures': P(rel=2)@5
    r"(?P<kind>\w+)\((?:,? ?(?:rel=(?P<rel>[1-9]\d{0,8})|p=0?(?P<p>\.\d+)|dcg=[\"']?(?P<dcg>log2|exp-log2)[\"']?))+\)"
    r"(?P<cut>@\d+)?",
    _TYPED,
)
_ALIASES = {  # trec_eval's and ir_measures' names, in small letters → ranx's
    "p": "precision", "set_p": "precision", "setp": "precision", "r": "recall", "set_recall": "recall",
    "setr": "recall", "set_f": "f1", "setf": "f1", "success": "hit_rate", "recip_rank": "mrr", "rr": "mrr",
    "rprec": "r-precision", "ap": "map", "map_cut": "map", "ndcg_cut": "ndcg",
}  # fmt: skip
_OF_CUTS = ("p", "r", "success", "map_cut", "ndcg_cut")  # no measures without one
_MARKS = {"rbp": ".", **dict.fromkeys(("p", "recall", "success", "map_cut", "ndcg_cut"), "@_.")}  # P_5 and P.5
_SUMS = re.compile(r"(hits|s?dcg|dcg_burges|utility|num\w*)\b.*", _TYPED)


class Metric(NamedTuple):
    """A measure.

    Attributes:
        name: as tables show it: ranx's as typed, others' names as ranx's.
        kind: of `FORMULAS`, or `R@kt`.
        budget: of R@kt, in tokens; None for the others.
        cut: how many hits are looked at; None for all.
        level: the least relevance of a relevant passage.
        persistence: of rbp, 0-1.
    """

    name: str
    kind: str
    budget: int | None = None
    cut: int | None = None
    level: int = 1
    persistence: float = 0.0

    @property
    def binary(self) -> bool:
        """Tell whether its values are 0 or 1."""
        return self.kind in ("R@kt", "hit_rate")

    def value(self, ranking: "Judged") -> float:
        """Return the measure of a ranking, 0-1; 0 where no passage is relevant."""
        total = sum(relevance >= self.level for relevance in ranking.pool)
        cut = self.cut or math.inf
        ranks = [rank for rank, relevance in ranking.found if relevance >= self.level and rank <= cut]
        try:
            value = FORMULAS[self.kind](self, ranking, ranks, total) if total else 0.0
        except OverflowError:
            value = math.nan
        if math.isnan(value):
            raise UserError(f"{self.name}: a relevance is too large to be a gain; expected small whole numbers")
        return value


class Judged(NamedTuple):
    """One question's ranking as its judgements see it.

    Attributes:
        found: (rank, relevance) of the hits that are judged, ranks from 1.
        retrieved: how many hits there are.
        pool: the relevance of all passages that are judged, best first.
    """

    found: list[tuple[int, int]]
    retrieved: int
    pool: list[int]

    @classmethod
    def of(cls, hits: Collection[str], judgements: Mapping[str, int]) -> "Judged":
        """Return how docids, best first, are judged."""
        found = [(rank, judgements[docid]) for rank, docid in enumerate(hits, 1) if docid in judgements]
        return cls(found, len(hits), sorted(judgements.values(), reverse=True))


# ---------------------------------------------------------------- formulas

# of the ranks of relevant hits within the cut; `total`, of at least 1, is how many passages are relevant
Formula = Callable[[Metric, Judged, list[int], int], float]


def _precision(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    depth = metric.cut or ranking.retrieved
    return len(ranks) / depth if depth else 0.0


def _recall(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    return len(ranks) / total


def _f1(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    precision, recall = _precision(metric, ranking, ranks, total), _recall(metric, ranking, ranks, total)
    return 2 * (precision * recall / (precision + recall)) if ranks else 0.0


def _hit_rate(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    return float(bool(ranks))


def _r_precision(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    return sum(rank <= total for rank in ranks) / total


def _reciprocal_rank(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    return 1 / ranks[0] if ranks else 0.0


def _average_precision(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    return sum(i / rank for i, rank in enumerate(ranks, 1)) / total


def _ndcg(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    """Divide the discounted gains of the hits by those of the best ranking (Järvelin and Kekäläinen, 2002)."""
    best = _dcg(metric, enumerate(ranking.pool, 1))
    return _dcg(metric, ranking.found) / best if math.isfinite(best) else math.nan


def _dcg(metric: Metric, ranked: Iterable[tuple[int, int]]) -> float:
    burges = metric.kind == "ndcg_burges"  # gains of Burges et al. (2005): 2**relevance - 1
    cut = metric.cut or math.inf
    gains = ((rank, 2.0**rel - 1 if burges else rel) for rank, rel in ranked if rel > 0 and rank <= cut)
    return sum(gain / math.log2(rank + 1) for rank, gain in gains)


def _bpref(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    """Count the judged non-relevant hits above each relevant one (Buckley and Voorhees, 2004), as trec_eval does."""
    bound = min(total, sum(0 <= relevance < metric.level for relevance in ranking.pool))
    value, above = 0.0, 0
    for _, relevance in ranking.found:
        if relevance >= metric.level:
            value += 1 - min(above, total) / bound if above else 1.0
        elif relevance >= 0:
            above += 1
    return value / total


def _rbp(metric: Metric, ranking: Judged, ranks: list[int], total: int) -> float:
    """Weigh relevant hits by (1 - p)·p**(rank - 1) (Moffat and Zobel, 2008): relevance is binary."""
    return (1 - metric.persistence) * sum(metric.persistence ** (rank - 1) for rank in ranks)


FORMULAS: dict[str, Formula] = {
    "precision": _precision, "recall": _recall, "f1": _f1, "hit_rate": _hit_rate, "r-precision": _r_precision,
    "mrr": _reciprocal_rank, "map": _average_precision, "ndcg": _ndcg, "ndcg_burges": _ndcg, "bpref": _bpref,
    "rbp": _rbp,
}  # fmt: skip


# ---------------------------------------------------------------- names


def parse_metric(name: str) -> Metric:
    """Return the measure that a name stands for.

    `R@2kt`, ranx's (`ndcg@10`, `recall@100-l2`), trec_eval's (`ndcg_cut_10`, `P_5`) or ir_measures' (`nDCG@10`,
    `P(rel=2)@5`), in large or small letters.

    Raises:
        UserError: for another, and for one that has no definition, or no figure from 0 to 100.
    """
    if tokens := _TOKENS.fullmatch(name):
        budget = round(float(tokens[1]) * 1000)
        if budget < 1:
            raise UserError(f"metric {name!r}: a budget of no token; expected e.g. R@2kt or R@0.5kt")
        return Metric(name, "R@kt", budget)
    parts = _NAME.fullmatch(plain := _without_parameters(name))
    typed = parts[1].lower() if parts else ""
    kind = _ALIASES.get(typed, typed)
    mark, digits = (parts["mark"] or "", parts["cut"] or "") if parts else ("", "")
    if not parts or kind not in FORMULAS or mark not in _MARKS.get(typed, "@") or (kind != "rbp" and digits[:1] == "0"):
        if _SUMS.fullmatch(name):
            raise UserError(f"metric {name!r} is a count or a sum, no figure from 0 to 100; give recall@10, ndcg@10, …")
        raise UserError(
            f"unknown metric {name!r}: expected R@2kt, R@5kt, R@0.5kt …, or one of ranx's: ndcg@10, mrr@10, "
            "recall@100, map, precision@5, hit_rate@1, … (or what trec_eval and ir_measures call these)"
        )
    level = int(parts["level"] or 1)
    if kind == "rbp":
        metric = Metric(plain, kind, level=level, persistence=float(f"0.{digits or 0}"))
    else:
        metric = Metric(plain, kind, cut=int(digits) if digits else None, level=level)
        if typed != kind or mark not in "@":
            shown = kind + (f"@{digits}" if digits else "") + (f"-l{level}" if level > 1 else "")
            metric = metric._replace(name=shown)
    if why := _undefined(metric, typed):
        raise UserError(f"metric {name!r}: {why}")
    return metric


def _without_parameters(name: str) -> str:
    """Return one of ir_measures' names as ranx has it: nDCG(dcg='exp-log2')@10 is ndcg_burges@10."""
    given = _GIVEN.fullmatch(name)
    kind = given["kind"].lower() if given else ""
    if given is None or (given["dcg"] and kind != "ndcg"):
        return name
    kind = "ndcg_burges" if given["dcg"] == "exp-log2" else kind
    level = f"-l{given['rel']}" if given["rel"] not in (None, "1") else ""
    if kind == "rbp" and not given["rel"]:
        raise UserError(f"metric {name!r}: give the least relevance of a relevant passage: RBP(p=0.9,rel=1)")
    return kind + (given["p"] or "") + (given["cut"] or "") + level


def _undefined(metric: Metric, typed: str) -> str:
    """Say why there is no such measure; nothing where there is."""
    if metric.cut is None and typed in _OF_CUTS:
        return f"how many hits are looked at? Give e.g. {metric.kind}@10"
    if metric.cut is not None and metric.kind in ("bpref", "r-precision"):
        return f"{metric.kind} has no cut: how far it looks follows from the judgements"
    if metric.level > 1 and metric.kind.startswith("ndcg"):
        return "ndcg has no least relevance: all that is above 0 is a gain"
    if metric.kind == "rbp" and not metric.persistence:
        return "expected a persistence between 0 and 1: rbp.80, rbp.95"
    return ""


def parse_metrics(names: Sequence[str]) -> list[Metric]:
    """Return the measures, or raise `UserError` where one is unknown or comes twice, under whatever names."""
    metrics = [parse_metric(name) for name in names]
    # two names of one budget stay two: R@2kt, R@2.0kt
    distinct = {(metric.name.lower() if metric.budget else "", *metric[1:]) for metric in metrics}
    if not metrics or len(distinct) < len(metrics):
        raise UserError("give each metric once, and at least one", about="metrics")
    return metrics


def find_metric(name: str, among: Collection[str]) -> str | None:
    """Return the one of some measures that a name stands for; None where there is none."""
    try:
        asked = parse_metric(name)[1:]
    except UserError:
        return None
    return next((known for known in among if parse_metric(known)[1:] == asked), None)
