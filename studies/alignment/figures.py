"""From ranks to figures: measures, intervals and tests.

A question's score is its mean over splits, a figure the unweighted mean over languages, 0 to 100.  What is drawn is
passages, each with all its questions in all languages: parallel questions, and those of one passage, are no
independent observations.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import xqg_pyserini as xqg
from alignment.trials import Array, Tried

DRAWS, SEED = 2000, 42
CUT = 10


def measures(ranks: Array) -> dict[str, Array]:
    """Return measure → scores, 0 to 100, of ranks of the one right passage (from 1)."""
    near, r = ranks <= CUT, np.maximum(ranks, 1)
    scores = {"R@1": ranks == 1, "MRR@10": near / r, "nDCG@10": near / np.log2(1 + r)}
    return {name: 100.0 * values for name, values in scores.items()}


class Design:
    """Questions in languages (m,), of passages (m,), those asked (m,) bool: how they are averaged and drawn."""

    def __init__(self, languages: Array, passages: Array, asked: Any) -> None:
        self.asked = asked
        self.languages, self.passages = languages[asked], np.unique(passages[asked], return_inverse=True)[1]
        self.codes = np.unique(self.languages).tolist()
        generator, n = np.random.default_rng(SEED), self.passages.max() + 1
        self._weights = self._shares(generator.multinomial(n, np.full(n, 1 / n), size=DRAWS)[:, self.passages])
        self._even = self._shares(np.ones(len(self.passages)))

    def _shares(self, times: Array) -> Array:
        """Scale (…, questions) so that each language's sum to 1 / L."""
        times = times.astype(float)
        for l in self.codes:
            mine = self.languages == l
            times[..., mine] /= np.maximum(times[..., mine].sum(axis=-1, keepdims=True), 1) * len(self.codes)
        return times

    def interval(self, scores: Array) -> dict[str, float]:
        """Return the mean of scores (asked,) and its 95% interval (percentile bootstrap)."""
        low, high = np.percentile(self._weights @ scores, (2.5, 97.5))
        figure = {"mean": float(self._even @ scores), "low": float(low), "high": float(high)}
        return {name: round(value, 3) + 0.0 for name, value in figure.items()}

    def p_value(self, first: Array, second: Array) -> float:
        """Return Fisher's p-value (randomisation of passages' signs) for the macro difference."""
        sums = np.bincount(self.passages, self._even * (first - second))
        return xqg.fisher(sums, np.zeros_like(sums), ["all"] * len(sums), seed=SEED)


def figures(
    tried: Mapping[str, Tried], languages: Array, passages: Array, references: Sequence[str] = ("none", "centred")
) -> dict[str, Any]:
    """Return condition → measures with intervals, R@1 by language, and differences from the references by R@1.

    p-values are Holm's over the conditions that are compared with one reference.
    """
    first = next(iter(tried.values())).ranks
    design = Design(languages, passages, (first > 0).any(axis=0))
    scored = {name: _scored(of.ranks[:, design.asked]) for name, of in tried.items()}
    out: dict[str, Any] = {}
    for name, of_measure in scored.items():
        out[name] = {measure: design.interval(scores) for measure, scores in of_measure.items()}
        by_language = {l: of_measure["R@1"][design.languages == l].mean() for l in design.codes}
        out[name]["languages"] = {l: round(float(value), 2) for l, value in by_language.items()}
        out[name]["seconds"] = round(tried[name].seconds, 2)
    for reference in references:
        if reference not in scored:
            continue
        others = [name for name in scored if name != reference]
        base = scored[reference]["R@1"]
        ps = xqg.correct([design.p_value(scored[name]["R@1"], base) for name in others], "holm")
        for name, p in zip(others, ps, strict=True):
            less = design.interval(scored[name]["R@1"] - base) | {"p": round(float(p), 5)}
            out[name].setdefault("less", {})[reference] = less
    return {"questions": int(design.asked.sum()), "conditions": out}


def _scored(ranks: Array) -> dict[str, Array]:
    """Return measure → scores (questions,), their mean over the splits in which each was asked."""
    times = (ranks > 0).sum(axis=0)
    each = measures(np.where(ranks > 0, ranks, np.iinfo(np.int64).max))
    return {name: values.sum(axis=0) / times for name, values in each.items()}
