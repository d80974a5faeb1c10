"""What the outcomes add up to: figures, intervals, differences and tests.

Figures are R@1 and MRR@10, 0 to 100: the unweighted mean over languages, the mean over seeds.  An interval is a
percentile bootstrap of two levels, seeds and questions; a p-value is Fisher's randomisation test (see README.md).
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np

import xqg_pyserini as xqg
from peft_unseen.matrix import UNTUNED, Matrix, Tables, Task, Xquad
from peft_unseen.plan import Record
from peft_unseen.ranking import CUT, Array, Ranks
from peft_unseen.texts import CLEAN

METRICS = ("R@1", "MRR@10")
# compared with plain, seed by seed
ADDED = ("centred", "fused", "fused-centred")
ADDED += ("question-centred-own", "question-aligned-own", "question-centred", "question-aligned")
BESIDE = ADDED[-2:]  # of the untuned backbone, compared with tuned ones as they are
TAILS = (2.5, 97.5)  # of 95% intervals, in percent
Names, Outcomes = Sequence[str], dict[str, dict[int, Ranks]]  # method → seed → view → ranks


def scores_of(ranks: np.ndarray, metric: str) -> np.ndarray:
    """Return a metric's score of each question, 0 to 100, from the rank of the right candidate."""
    if metric == "R@1":
        return 100.0 * (ranks == 1)
    return 100.0 * np.where(ranks <= CUT, 1 / np.maximum(ranks, 1), 0)


class Design:
    """Which questions a figure is about, and how they are drawn.

    Questions that share one of the `units` are drawn together; figures average over the `chosen` languages.  Scores are
    arrays (seeds, questions) of all questions.
    """

    def __init__(self, languages: Names, units: Names, chosen: Names, settings: Tables) -> None:
        self.settings, self._by_seed = settings, dict[bytes, Array]()
        self.rows = np.flatnonzero(np.isin(languages, chosen))
        self._languages = np.array(languages)[self.rows]
        of_unit: dict[str, set[str]] = {}
        for i in self.rows:
            of_unit.setdefault(units[i], set()).add(languages[i])
        at = {unit: place for place, unit in enumerate(of_unit)}
        self._at = np.array([at[units[i]] for i in self.rows])  # (questions,) place of its unit
        alone = all(len(of) == 1 for of in of_unit.values())
        self._strata = np.array([min(of) if alone else "" for of in of_unit.values()])

    @cached_property
    def _drawn(self) -> np.ndarray:
        """The questions' shares in the macro mean for each draw of them, (draws, questions)."""
        generator = np.random.default_rng(self.settings.seed)
        times = np.zeros((self.settings.bootstrap, len(self._strata)))
        for stratum in dict.fromkeys(self._strata.tolist()):
            mine = np.flatnonzero(self._strata == stratum)
            even = np.full(len(mine), 1 / len(mine))
            times[:, mine] = generator.multinomial(len(mine), even, size=len(times))
        return self._shares(times[:, self._at])

    def _shares(self, times: np.ndarray) -> np.ndarray:
        """Scale how often questions are drawn so that each language's shares sum to 1 / L."""
        languages = np.unique(self._languages)
        for l in languages:
            mine = self._languages == l
            total = times[..., mine].sum(axis=-1, keepdims=True)
            times[..., mine] /= np.maximum(total, 1) * len(languages)
        return times

    def _resampled(self, scores: np.ndarray, stream: int) -> np.ndarray:
        """Return the macro mean of each draw of seeds and questions, (draws,)."""
        seeds, key = len(scores), scores.tobytes()
        if key not in self._by_seed:  # a method's scores are asked for in several comparisons
            self._by_seed[key] = self._drawn @ scores[:, self.rows].T
        by_seed = self._by_seed[key]
        if seeds == 1:
            return by_seed[:, 0]
        generator = np.random.default_rng([self.settings.seed, stream])
        times = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(by_seed))
        return (by_seed * times).sum(axis=1) / seeds

    def mean(self, scores: np.ndarray) -> float:
        """Return the macro mean."""
        return float(scores[:, self.rows].mean(axis=0) @ self._shares(np.ones(len(self.rows))))

    def figure(self, scores: np.ndarray) -> xqg.Interval:
        """Return the macro mean with its interval."""
        return xqg.Interval(self.mean(scores), *np.percentile(self._resampled(scores, 0), TAILS))

    def difference(self, first: Array, second: Array, paired: bool = False) -> xqg.Interval:
        """Return the first's mean less the second's; `paired`: the same seeds of one method."""
        if paired:
            return self.figure(first - second)
        draws = self._resampled(first, 1) - self._resampled(second, 2)
        return xqg.Interval(self.mean(first) - self.mean(second), *np.percentile(draws, TAILS))

    def p_value(self, first: Array, second: Array) -> float:
        """Return Fisher's p-value over units, the scores averaged over seeds."""
        sums = [np.bincount(self._at, s[:, self.rows].mean(axis=0)) for s in (first, second)]
        sides = [of_units / np.bincount(self._at) for of_units in sums]
        draws, seed = self.settings.draws, self.settings.seed
        return xqg.fisher(*sides, self._strata.tolist(), draws=draws, seed=seed)


def _rounded(figure: xqg.Interval) -> Record:
    return {name: round(float(value), 3) + 0.0 for name, value in figure._asdict().items()}  # no -0.0


class Section:
    """The outcomes of one task, whose questions are `asked`, under one condition; what follows."""

    def __init__(self, matrix: Matrix, task: Task, asked: Record, ranks: Outcomes) -> None:
        self.ranks, self._settings, languages = ranks, matrix.tables, asked["languages"]
        self.sets = {"seen": task.seen} | ({"unseen": task.unseen} if task.unseen else {})
        self.places = list(product(self.sets, (CLEAN, *matrix.perturbations)))
        views = {v for seeds in ranks.values() for of_seed in seeds.values() for v in of_seed}
        self.scorings = {view.split("/")[1] for view in views}
        parallel = isinstance(task, Xquad)  # LANGUAGE-ID, the same id in every language
        units = [id_.split("-", 1)[1] if parallel else id_ for id_ in asked["ids"]]
        designs = {n: Design(languages, units, of, matrix.tables) for n, of in self.sets.items()}
        self._languages, self._designs = np.array(languages), designs
        self.known: dict[tuple[str, ...], dict[str, Record]] = {}

    def rows(self, variant: str, scoring: str, metric: str, name: str) -> dict[str, Record]:
        """Return each method's figure for a set of languages, and what it is compared with."""
        place = (variant, scoring, metric, name)
        if place not in self.known:
            self.known[place] = self._compare(*place)
        return self.known[place]

    def _scores(self, view: str, metric: str) -> dict[str, np.ndarray]:
        """Return method → (seeds, questions), of the seeds that have this view."""
        seeds = {m: [views for _, views in sorted(of.items()) if view in views] for m, of in self.ranks.items()}
        return {m: scores_of(np.stack([views[view] for views in of]), metric) for m, of in seeds.items() if of}

    def _compare(self, variant: str, scoring: str, metric: str, name: str) -> dict[str, Record]:
        design = self._designs[name]
        scores = self._scores(f"{variant}/{scoring}", metric)
        rows: dict[str, Record] = {}
        for method, mine in scores.items():
            means = mine.mean(axis=0)
            each = {l: round(float(means[self._languages == l].mean()), 3) for l in self.sets[name]}
            rows[method] = {"seeds": len(mine), **_rounded(design.figure(mine)), "each": each}
        reference, tuned = self._settings.reference, [m for m in scores if m != UNTUNED]
        families: dict[str, dict[str, np.ndarray | None]] = {
            "reference": {m: scores.get(reference) for m in tuned if m != reference},
            "untuned": {m: scores.get(UNTUNED) for m in tuned},
            "control": {m: scores.get(c) for m, c in self._settings.controls.items()},
            "plain": dict(self._scores(f"{variant}/plain", metric)) if scoring in ADDED else {},
        }
        for way in BESIDE if scoring == "plain" else ():
            families[way] = dict.fromkeys(tuned, self._scores(f"{variant}/{way}", metric).get(UNTUNED))
        for key, against in families.items():
            pairs = {m: (scores[m], b) for m, b in against.items() if m in scores and b is not None}
            p_values = [design.p_value(*pair) for pair in pairs.values()]
            for m, p, p_holm in zip(pairs, p_values, xqg.correct(p_values, "holm"), strict=True):
                tested = {"p": round(p, 5), "p_holm": round(float(p_holm), 5)}
                difference = design.difference(*pairs[m], paired=key == "plain")
                rows[m][f"minus_{key}"] = _rounded(difference) | tested
        return rows
