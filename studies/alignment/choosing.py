"""How λ is chosen: what `xqg align` takes by its estimate of a trial's pairs, beside what other rules would take."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alignment.rivals import aligned, centred
from alignment.trials import Trial, Try, side
from xqg_pyserini import AlignSettings
from xqg_pyserini.retrieve.held_out import RIDGE, RIDGES, chosen_ridge, estimated
from xqg_pyserini.stores.moments import Moments, Pair

Estimate = dict[str, Any]
Ridge = float | None  # None: centring alone

DEFAULT = "λ = 5"


def estimate(t: Trial) -> Estimate | None:
    """Return what `xqg align` finds of a trial's pairs; a passage's number is its id.  None for too few passages."""
    moments = Moments(sorted(np.unique(t.pairs.languages).tolist()), t.q.shape[1])
    order = np.lexsort((t.pairs.languages, t.known))
    keys = np.stack([t.known.astype(str), t.pairs.languages])[:, order]
    starts = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
    for rows in np.split(order, starts):
        docid, language = str(t.known[rows[0]]), str(t.pairs.languages[rows[0]])
        moments.add([Pair(docid, language, t.pairs.passages[rows[0]], t.pairs.queries[rows])])
    return estimated(moments, AlignSettings().shrink, RIDGES)


def best(found: Estimate) -> Ridge:
    """Return the ridge that finds most; centring, where that finds as many."""
    means = {float(ridge): scores["mean"] for ridge, scores in found["aligned"].items()}
    ridge = max(means, key=lambda one: (means[one], one))
    return ridge if means[ridge] > found["centred"]["mean"] else None


def largest(found: Estimate, errors: float) -> Ridge:
    """Return the largest ridge from 5 up within so many standard errors of the best; centring, where none is."""
    near = {float(r): of["beside_best"] for r, of in found["aligned"].items() if float(r) >= RIDGE}
    return max((r for r, less in near.items() if less["mean"] + errors * less["error"] >= 0), default=None)


def chosen(found: Estimate) -> Ridge:
    """Return what `xqg align` chooses."""
    return chosen_ridge(found)[0]


RULES: dict[str, Callable[[Estimate], Ridge]] = {
    "the best": best,
    "largest within 1 SE": lambda found: largest(found, 1.0),
    "xqg align": chosen,
}


def tries(splits: Sequence[Sequence[Trial]]) -> tuple[dict[str, Try], dict[str, str]]:
    """Return the rules as conditions of these trials, beside centring and λ = 5, and how often each chose what.

    Where there are too few passages for an estimate, all of them choose 5.
    """
    taken = {}
    for t in (t for several in splits for t in several):
        found = estimate(t)
        taken[id(t)] = {name: RIDGE if found is None else rule(found) for name, rule in RULES.items()}

    def ruled(name: str) -> Try:
        def scores(t: Trial) -> np.ndarray:
            ridge = taken[id(t)][name]
            return (side(centred) if ridge is None else side(aligned, ridge))(t)

        return scores

    out = {"centred": side(centred), DEFAULT: side(aligned, RIDGE)}
    counts = {name: Counter(of[name] for of in taken.values()) for name in RULES}
    return out | {name: ruled(name) for name in RULES}, {name: _listed(of) for name, of in counts.items()}


def _listed(counts: Mapping[Ridge, int]) -> str:
    order = sorted(counts, key=lambda ridge: np.inf if ridge is None else ridge)
    return ", ".join(f"{'centring' if ridge is None else f'{ridge:g}'} ({counts[ridge]})" for ridge in order)
