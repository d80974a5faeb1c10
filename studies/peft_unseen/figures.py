"""What the outcomes add up to: figures, intervals, differences and tests.

Figures are R@1 and MRR@10, 0 to 100.  A figure for several languages is the unweighted mean of
theirs; for several seeds, the mean of theirs.

An interval is a percentile bootstrap of two levels: seeds are drawn with replacement, and so are
questions within each language; questions that are translations of one another (XQuAD) are drawn
together.  Two methods are drawn the same questions, and seeds of their own.  Three seeds say little
about seeds: such an interval is mostly about questions.

A p-value is Fisher's randomisation test on the macro difference over questions, the scores averaged
over seeds; it takes the seeds as given.  For each figure, the methods against one other, or those
with a control against theirs, are one family, corrected by Holm.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from peft_unseen.matrix import UNTUNED, Matrix, Tables, Task, Xquad
from peft_unseen.ranking import CUT, Ranks
from peft_unseen.texts import CLEAN
from xqg_pyserini.evaluation.significance import correct, fisher

METRICS = ("R@1", "MRR@10")
ADDED = ("centred", "fused", "fused-centred")  # compared with plain, seed by seed
Record = dict[str, Any]


def scores_of(ranks: np.ndarray, metric: str) -> np.ndarray:
    """Return a metric's score of each question, 0 to 100, from the rank of the right candidate."""
    if metric == "R@1":
        return 100.0 * (ranks == 1)
    return 100.0 * np.where(ranks <= CUT, 1 / np.maximum(ranks, 1), 0)


class Figure(NamedTuple):
    """A mean, or a difference of means, and its 95% bootstrap interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, mean: float, draws: np.ndarray) -> "Figure":
        """Take the interval from draws of the mean."""
        return cls(mean, *map(float, np.percentile(draws, [2.5, 97.5])))

    def rounded(self) -> Record:
        """Return what is recorded."""
        return {name: round(value, 3) + 0.0 for name, value in self._asdict().items()}  # no -0.0


class Design:
    """Which questions a figure is about, and how they are drawn.

    Scores are arrays (seeds, questions) of all questions.

    Args:
        languages: of each question.
        units: of each question; those that share one are drawn together.
        chosen: languages to average over.
        settings: numbers of draws and their seed.
    """

    def __init__(
        self,
        languages: Sequence[str],
        units: Sequence[str],
        chosen: Sequence[str],
        settings: Tables,
    ) -> None:
        self.settings = settings
        self.rows = np.flatnonzero(np.isin(languages, chosen))
        self._languages = np.array(languages)[self.rows]
        mine = [units[i] for i in self.rows]
        of_unit: dict[str, set[str]] = {}
        for unit, l in zip(mine, self._languages.tolist(), strict=True):
            of_unit.setdefault(unit, set()).add(l)
        at = {unit: i for i, unit in enumerate(of_unit)}
        self._at = np.array([at[unit] for unit in mine])  # (questions,) place among the units
        alone = all(len(of) == 1 for of in of_unit.values())
        self._strata = [min(of) if alone else "" for of in of_unit.values()]

    @cached_property
    def weights(self) -> np.ndarray:
        """Each question's share in the macro mean, (questions,)."""
        return self._shares(np.ones(len(self.rows)))

    @cached_property
    def drawn(self) -> np.ndarray:
        """The shares for each draw of the questions, (draws, questions)."""
        generator = np.random.default_rng(self.settings.seed)
        times = np.zeros((self.settings.bootstrap, len(self._strata)))
        for stratum in dict.fromkeys(self._strata):
            mine = np.flatnonzero(np.array(self._strata) == stratum)
            even = np.full(len(mine), 1 / len(mine))
            times[:, mine] = generator.multinomial(len(mine), even, size=len(times))
        return self._shares(times[:, self._at])

    def _shares(self, times: np.ndarray) -> np.ndarray:
        """Scale how often questions are drawn so that each language's shares sum to 1 / L."""
        names = list(dict.fromkeys(self._languages.tolist()))
        for l in names:
            mine = self._languages == l
            total = times[..., mine].sum(axis=-1, keepdims=True)
            times[..., mine] /= np.maximum(total, 1) * len(names)
        return times

    def _resampled(self, scores: np.ndarray, stream: int) -> np.ndarray:
        """Return the macro mean of each draw of seeds and questions, (draws,)."""
        seeds = len(scores)
        by_seed = self.drawn @ scores[:, self.rows].T
        if seeds == 1:
            return by_seed[:, 0]
        generator = np.random.default_rng([self.settings.seed, stream])
        times = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(by_seed))
        return (by_seed * times).sum(axis=1) / seeds

    def mean(self, scores: np.ndarray) -> float:
        """Return the macro mean."""
        return float(scores[:, self.rows].mean(axis=0) @ self.weights)

    def figure(self, scores: np.ndarray) -> Figure:
        """Return the macro mean with its interval."""
        return Figure.of(self.mean(scores), self._resampled(scores, 0))

    def difference(self, first: np.ndarray, second: np.ndarray, paired: bool = False) -> Figure:
        """Return the first's mean less the second's; `paired`: the same seeds of one method."""
        if paired:
            return self.figure(first - second)
        draws = self._resampled(first, 1) - self._resampled(second, 2)
        return Figure.of(self.mean(first) - self.mean(second), draws)

    def p_value(self, first: np.ndarray, second: np.ndarray) -> float:
        """Return Fisher's p-value over units, the scores averaged over seeds."""
        number = np.bincount(self._at)
        sides = [
            np.bincount(self._at, scores[:, self.rows].mean(axis=0)) / number
            for scores in (first, second)
        ]
        draws, seed = self.settings.draws, self.settings.seed
        return fisher(*sides, self._strata, draws=draws, seed=seed)


class Section:
    """The outcomes of one task under one condition.

    Args:
        matrix: the study.
        task: one of its tasks.
        asked: ids and languages of the task's questions.
        ranks: method → seed → view → rank of each question's right candidate.
    """

    def __init__(
        self, matrix: Matrix, task: Task, asked: Record, ranks: dict[str, dict[int, Ranks]]
    ) -> None:
        self.ranks, self._settings = ranks, matrix.tables
        self.sets = {"seen": task.seen} | ({"unseen": task.unseen} if task.unseen else {})
        self.places = list(product(self.sets, (CLEAN, *matrix.perturbations)))
        every = (v for seeds in ranks.values() for views in seeds.values() for v in views)
        self.views = list(dict.fromkeys(every))
        self._languages = np.array(asked["languages"])
        parallel = isinstance(task, Xquad)  # LANGUAGE-ID, the same id in every language
        units = [id_.split("-", 1)[1] if parallel else id_ for id_ in asked["ids"]]
        self._designs = {
            name: Design(asked["languages"], units, of, matrix.tables)
            for name, of in self.sets.items()
        }
        self._rows: dict[tuple[str, ...], dict[str, Record]] = {}

    def rows(self, variant: str, scoring: str, metric: str, name: str) -> dict[str, Record]:
        """Return each method's figure for a set of languages, and what it is compared with."""
        place = (variant, scoring, metric, name)
        if place not in self._rows:
            self._rows[place] = self._compare(*place)
        return self._rows[place]

    def records(self) -> list[Record]:
        """Return all that was asked for, in records."""
        keys = ("variant", "scoring", "metric", "languages")
        return [
            {"method": method, **dict(zip(keys, place, strict=True)), **row}
            for place, rows in self._rows.items()
            for method, row in rows.items()
        ]

    def _scores(self, view: str, metric: str) -> dict[str, np.ndarray]:
        """Return method → (seeds, questions), of the seeds that have this view."""
        scores = {}
        for method, seeds in self.ranks.items():
            of = [views[view] for _, views in sorted(seeds.items()) if view in views]
            if of:
                scores[method] = scores_of(np.stack(of), metric)
        return scores

    def _compare(self, variant: str, scoring: str, metric: str, name: str) -> dict[str, Record]:
        design = self._designs[name]
        scores = self._scores(f"{variant}/{scoring}", metric)
        plain = self._scores(f"{variant}/plain", metric) if scoring in ADDED else {}
        rows: dict[str, Record] = {}
        for method, mine in scores.items():
            means = mine.mean(axis=0)
            each = {l: round(float(means[self._languages == l].mean()), 3) for l in self.sets[name]}
            rows[method] = {"seeds": len(mine), **design.figure(mine).rounded(), "each": each}
        reference, tuned = self._settings.reference, [m for m in scores if m != UNTUNED]
        families = {
            "reference": {m: scores.get(reference) for m in tuned if m != reference},
            "untuned": {m: scores.get(UNTUNED) for m in tuned},
            "control": {m: scores.get(c) for m, c in self._settings.controls.items()},
            "plain": plain,
        }
        for key, against in families.items():
            pairs = {m: (scores[m], b) for m, b in against.items() if m in scores and b is not None}
            p_values = [design.p_value(*pair) for pair in pairs.values()]
            corrected = correct(p_values, "holm")
            for method, p, p_holm in zip(pairs, p_values, corrected, strict=True):
                difference = design.difference(*pairs[method], paired=key == "plain").rounded()
                tested = {"p": round(p, 5), "p_holm": round(float(p_holm), 5)}
                rows[method][f"minus_{key}"] = difference | tested
        return rows
