"""What held-out queries say of an alignment before it is used: what it will bring, and which λ is taken."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from xqg_pyserini.fusion.alignment import matrices, spectra
from xqg_pyserini.stores.moments import Moments

RIDGES = (1.0, 2.0, 5.0, 10.0, 20.0)  # that are tried
RIDGE = 5.0  # the least that is chosen; see `chosen_ridge`
CLEARLY = 3.0  # standard errors
FEWEST = 30  # sampled passages of a fold that make an estimate
DEFAULT = "default: held-out passages find nothing clearly better"


def estimated(moments: Moments, shrink: float, ridges: Sequence[float]) -> dict[str, Any] | None:
    """Return what share of held-out queries finds its passage first, as they are, centred, and aligned by each ridge.

    What is learnt from all pairs of one fold is tried on the sample's passages of the other: its queries, one a passage
    and language, against its passages alone.  Passages whose pairs were learnt from would be easier to tell from the
    right one than they are, and the alignment look better than it is.  Both directions are counted together; `mean` is
    that of the languages; intervals are of 95%, and know nothing of the ridge's choice.  `beside_best` is the
    difference, with its standard error, to the best of centring and the ridges from `RIDGE` up.  None where a fold has
    fewer than `FEWEST` passages.
    """
    folds = [moments.sampled(fold) for fold in (0, 1)]
    if min(len(fold.passages) for fold in folds) < FEWEST or not moments.pairs.any(axis=0).all():
        return None
    learnt = [spectra(moments.sums(1 - fold), shrink) for fold in (0, 1)]
    asked: dict[str, list[np.ndarray]] = {}
    for i, fold in enumerate(folds):
        for language, (_, rows) in fold.queries.items():
            asked.setdefault(language, []).append(2 * rows + i)
    passages = {language: np.concatenate(each) for language, each in asked.items()}

    def tried(ridge: float | None, center: bool = True) -> dict[str, np.ndarray]:
        found: dict[str, list[np.ndarray]] = {}
        for held_out, (centers, values, directions) in zip(folds, learnt, strict=True):
            turns = None if ridge is None else matrices(values, directions, ridge)
            for language, (queries, rows) in held_out.queries.items():
                i = moments.languages.index(language)
                queries = queries - centers[i].astype(np.float32) if center else queries
                if turns is not None:
                    queries = queries @ turns[i].astype(np.float32)
                found.setdefault(language, []).append(_found(queries @ held_out.passages.T, rows))
        return {language: np.concatenate(found[language]) for language in sorted(found)}

    def gain(hits: dict[str, np.ndarray], less: dict[str, np.ndarray]) -> dict[str, Any]:
        mean, error = _difference(hits, less, passages)
        return {"mean": mean, "interval": [mean - 1.96 * error, mean + 1.96 * error]}

    def beside(hits: dict[str, np.ndarray]) -> dict[str, float]:
        return dict(zip(("mean", "error"), _difference(hits, best, passages), strict=True))

    before, centred = tried(None, center=False), tried(None)
    aligned = {f"{ridge:g}": tried(ridge) for ridge in ridges}
    best = max([centred, *(aligned[ridge] for ridge in filter(careful, aligned))], key=lambda of: _scores(of)["mean"])
    return {
        "measure": "hit_rate@1",
        "passages": [len(fold.passages) for fold in folds],
        "queries": {language: len(hits) for language, hits in before.items()},
        "before": _scores(before),
        "centred": _scores(centred) | {"gain": gain(centred, before)},
        "aligned": {
            ridge: _scores(hits)
            | {"gain": gain(hits, before), "beyond_centring": gain(hits, centred), "beside_best": beside(hits)}
            for ridge, hits in aligned.items()
        },
    }


def chosen_ridge(estimate: dict[str, Any] | None) -> tuple[float | None, str]:
    """Return the ridge, None for centring alone, and how it was chosen.

    It is the smallest from `RIDGE` up that held-out queries do not find worse than the best of these and centring, by
    `CLEARLY` standard errors; centring alone, where they find all of them worse.  Not simply the best: held-out queries
    share the generator's ways with those that were learnt from, and what they like best is not what people's questions
    do (docs/method.md says what was measured).
    """
    if estimate is None:
        return RIDGE, f"default: too few sampled passages for an estimate (fewer than {FEWEST} in a fold)"
    for ridge in filter(careful, RIDGES):
        less = estimate["aligned"][f"{ridge:g}"]["beside_best"]
        if less["mean"] + CLEARLY * less["error"] >= 0:
            return ridge, DEFAULT if ridge == RIDGE else "by the estimate: less finds clearly fewer held-out passages"
    return None, "each ridge finds clearly fewer held-out passages"


def careful(ridge: float | str) -> bool:
    """Tell whether a ridge is one of those that are chosen without being asked for."""
    return float(ridge) >= RIDGE


def _found(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return for which rows of (m, p) scores the right passage stands above all others."""
    each = np.arange(len(rows))
    own = scores[each, rows]
    scores[each, rows] = -np.inf
    return own > scores.max(axis=1)


def _scores(hits: dict[str, np.ndarray]) -> dict[str, Any]:
    shares = {language: float(each.mean()) for language, each in hits.items()}
    return {"languages": shares, "mean": sum(shares.values()) / len(shares)}


def _difference(
    hits: dict[str, np.ndarray], less: dict[str, np.ndarray], passages: dict[str, np.ndarray]
) -> tuple[float, float]:
    """Return the mean difference over languages and its standard error, a passage's queries taken together.

    With d the differences of the n_l queries of each of L languages, that is √Σ_p (Σ (d - d̄_l) / n_l)² / L, the inner
    sum over the queries of passage p.
    """
    differences = {language: each.astype(np.float64) - less[language] for language, each in hits.items()}
    mean = float(np.mean([each.mean() for each in differences.values()]))
    apart = np.zeros(1 + max(int(passages[language].max()) for language in differences))
    for language, each in differences.items():
        np.add.at(apart, passages[language], (each - each.mean()) / len(each))
    return mean, float(np.linalg.norm(apart)) / len(differences)
