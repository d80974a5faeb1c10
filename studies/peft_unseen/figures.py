"""What the cells add up to: figures, intervals, differences and tests.

Figures are R@1 and MRR@10, 0 to 100.  A figure for several languages is the unweighted mean of
theirs; for several seeds, the mean of theirs.

An interval is a percentile bootstrap of two levels: seeds are drawn with replacement, and so are
questions within each language; questions that are translations of one another (XQuAD) are drawn
together.  Two methods are drawn the same questions, and seeds of their own.  Three seeds say little
about seeds: such an interval is mostly about questions.

A p-value is Fisher's randomisation test on the macro difference over questions, the scores averaged
over seeds (see `evaluate.significance`); it takes the seeds as given.  For each figure, the methods
against one other, or those with a control against theirs, are one family, corrected by Holm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from peft_unseen.cells import CUT, Place, Ranks, read_ranks
from peft_unseen.matrix import UNTUNED, Tables, Task
from peft_unseen.runner import Study
from peft_unseen.tasks import Questions, read_questions
from xqg_pyserini.evaluation.significance import correct, fisher

METRICS = ("R@1", "MRR@10")


def scores_of(ranks: np.ndarray, metric: str) -> np.ndarray:
    """Return a metric's score of each question, 0 to 100, from the rank of the right candidate."""
    if metric == "R@1":
        return 100.0 * (ranks == 1)
    return 100.0 * np.where(ranks <= CUT, 1 / np.maximum(ranks, 1), 0)


class Figure(NamedTuple):
    """A mean, or a difference of means, and its bootstrap interval."""

    mean: float
    low: float
    high: float


class Design:
    """Which questions a figure is about, and how they are drawn.

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
        self.rows = np.array([i for i, l in enumerate(languages) if l in chosen], dtype=int)
        self._languages = [languages[i] for i in self.rows]
        self._units = [units[i] for i in self.rows]
        spoken: dict[str, set[str]] = defaultdict(set)
        for unit, l in zip(self._units, self._languages, strict=True):
            spoken[unit].add(l)
        alone = all(len(some) == 1 for some in spoken.values())
        self._stratum = {u: next(iter(some)) if alone else "" for u, some in spoken.items()}

    @cached_property
    def weights(self) -> np.ndarray:
        """Return each question's share in the macro mean, (questions,)."""
        return self._shares(np.ones(len(self.rows)))

    @cached_property
    def drawn(self) -> np.ndarray:
        """Return the shares for each draw of the questions, (draws, questions)."""
        generator = np.random.default_rng(self.settings.seed)
        units = list(dict.fromkeys(self._units))
        at = {unit: i for i, unit in enumerate(units)}
        times = np.zeros((self.settings.bootstrap, len(units)))
        for stratum in dict.fromkeys(self._stratum.values()):
            some = [at[unit] for unit in units if self._stratum[unit] == stratum]
            even = np.full(len(some), 1 / len(some))
            times[:, some] = generator.multinomial(len(some), even, size=len(times))
        return self._shares(times[:, [at[unit] for unit in self._units]])

    def _shares(self, times: np.ndarray) -> np.ndarray:
        """Scale how often questions are drawn so that each language's shares sum to 1 / L."""
        shares = np.array(times, dtype=np.float64)
        of = np.array(self._languages)
        for l in dict.fromkeys(self._languages):
            mine = of == l
            total = shares[..., mine].sum(axis=-1, keepdims=True)
            shares[..., mine] /= np.maximum(total, 1) * len(set(self._languages))
        return shares

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
        """Return the macro mean of scores (seeds, questions)."""
        return float(scores[:, self.rows].mean(axis=0) @ self.weights)

    def figure(self, scores: np.ndarray) -> Figure:
        """Return the macro mean of scores (seeds, questions), with its interval."""
        low, high = np.percentile(self._resampled(scores, 0), [2.5, 97.5])
        return Figure(self.mean(scores), float(low), float(high))

    def difference(self, first: np.ndarray, second: np.ndarray, paired: bool = False) -> Figure:
        """Return the first's mean less the second's; `paired`: the same seeds of one method."""
        if paired:
            return self.figure(first - second)
        draws = self._resampled(first, 1) - self._resampled(second, 2)
        low, high = np.percentile(draws, [2.5, 97.5])
        return Figure(self.mean(first) - self.mean(second), float(low), float(high))

    def p_value(self, first: np.ndarray, second: np.ndarray) -> float:
        """Return Fisher's p-value over units, the scores averaged over seeds."""
        sides = [scores[:, self.rows].mean(axis=0) for scores in (first, second)]
        units = list(dict.fromkeys(self._units))
        at = {unit: i for i, unit in enumerate(units)}
        places = [at[unit] for unit in self._units]
        number = np.bincount(places)
        first_means, second_means = (np.bincount(places, side) / number for side in sides)
        groups = [self._stratum[unit] for unit in units]
        draws, seed = self.settings.draws, self.settings.seed
        return fisher(first_means, second_means, groups, draws=draws, seed=seed)


# ---------------------------------------------------------------- what is there


@dataclass
class Results:
    """The outcomes of one task under one condition: method → seed → ranks."""

    task: Task
    condition: str
    questions: Questions
    ranks: dict[str, dict[int, Ranks]]
    settings: Tables
    wanted: dict[str, int]  # how many seeds the matrix asks for
    _designs: dict[tuple[str, ...], Design] = field(default_factory=dict)

    def sets(self) -> dict[str, tuple[str, ...]]:
        """Return the groups of languages: seen and unseen in our tuning."""
        both = {"seen": self.task.seen, "unseen": self.task.unseen}
        return {name: some for name, some in both.items() if some}

    def design(self, languages: tuple[str, ...]) -> Design:
        """Return how figures for these languages are made."""
        if languages not in self._designs:
            q = self.questions
            self._designs[languages] = Design(q.languages, q.units, languages, self.settings)
        return self._designs[languages]

    def scores(self, method: str, view: str, metric: str) -> np.ndarray | None:
        """Return (seeds, questions), of the seeds that have this view; None where none has."""
        found = [ranks[view] for _, ranks in sorted(self.ranks[method].items()) if view in ranks]
        return np.stack([scores_of(ranks, metric) for ranks in found]) if found else None

    def views(self) -> list[str]:
        """Return all "variant/scoring" that some cell has."""
        every = (v for seeds in self.ranks.values() for ranks in seeds.values() for v in ranks)
        return list(dict.fromkeys(every))

    def variants(self) -> list[str]:
        """Return clean and the perturbations, in order."""
        return list(self.questions.variants)


def collect(study: Study) -> list[Results]:
    """Read what is done of a study: cells that are not what the matrix asks for are left out."""
    place = Place(study.matrix, study.data, study.model, study.output)
    found = []
    for task in study.matrix.tasks:
        if study.state(study.by_name[f"{task.name}/prepare"]) != "done":
            continue
        questions = read_questions(place.of(f"{task.name}/prepare") / "test.json")
        for condition in study.matrix.conditions:
            methods = [UNTUNED, *(method.name for method in study.matrix.methods)]
            ranks: dict[str, dict[int, Ranks]] = {method: {} for method in methods}
            wanted = dict.fromkeys(methods, 0)
            for cell in study.cells:
                here = (cell.task, cell.condition) == (task.name, condition.name)
                if cell.kind in ("untuned", "train") and here:
                    wanted[cell.method] += 1
                    if study.state(cell) == "done":
                        ranks[cell.method][cell.seed] = read_ranks(place.of(cell.name))
            settings = study.matrix.tables
            found.append(Results(task, condition.name, questions, ranks, settings, wanted))
    return found


# ---------------------------------------------------------------- figures


def compute(results: Results) -> list[dict[str, Any]]:
    """Return a record for each method, view and metric: means, intervals, differences, tests."""
    records = []
    for view in results.views():
        for metric in METRICS:
            rows = {m: results.scores(m, view, metric) for m in results.ranks}
            present = {m: scores for m, scores in rows.items() if scores is not None}
            for name, languages in results.sets().items():
                design = results.design(languages)
                records += _compare(results, design, present, view, metric, name)
    return records


def _compare(
    results: Results,
    design: Design,
    present: Mapping[str, np.ndarray],
    view: str,
    metric: str,
    name: str,
) -> list[dict[str, Any]]:
    variant, scoring = view.split("/")
    reference = results.settings.reference
    records: dict[str, dict[str, Any]] = {}
    for method, scores in present.items():
        records[method] = {
            "task": results.task.name,
            "condition": results.condition,
            "method": method,
            "variant": variant,
            "scoring": scoring,
            "metric": metric,
            "languages": name,
            "seeds": len(scores),
            **_rounded(design.figure(scores)),
        }
        of = np.array(results.questions.languages)
        each = scores.mean(axis=0)
        records[method]["each"] = {
            l: round(float(each[of == l].mean()), 3) for l in results.sets()[name]
        }
    for other in (reference, UNTUNED):
        tested = [m for m in present if m != other and not (other == reference and m == UNTUNED)]
        if other in present:
            against = dict.fromkeys(tested, other)
            _against(records, against, f"minus_{other}", design, present)
    controls = results.settings.controls.items()
    against = {m: control for m, control in controls if {m, control} <= set(present)}
    _against(records, against, "minus_control", design, present)
    if scoring != "plain":
        plain = {m: results.scores(m, f"{variant}/plain", metric) for m in present}
        for method, scores in present.items():
            base = plain[method]
            # the same seeds: not every seed is scored among all candidates
            if base is not None and scoring in ("centred", "fused", "fused-centred"):
                _add(records[method], "minus_plain", design.difference(scores, base, paired=True))
                records[method]["minus_plain"]["p"] = design.p_value(scores, base)
        _holm(records, [m for m in records if "minus_plain" in records[m]], "minus_plain")
    return list(records.values())


def _against(
    records: dict[str, dict[str, Any]],
    others: Mapping[str, str],
    key: str,
    design: Design,
    present: Mapping[str, np.ndarray],
) -> None:
    """Compare methods with others, `others[method]` each: one family of tests."""
    for method, other in others.items():
        _add(records[method], key, design.difference(present[method], present[other]))
        records[method][key]["p"] = design.p_value(present[method], present[other])
    _holm(records, list(others), key)


def _add(record: dict[str, Any], key: str, difference: Figure) -> None:
    record[key] = _rounded(difference)


def _holm(records: Mapping[str, dict[str, Any]], methods: Sequence[str], key: str) -> None:
    """Correct a family of tests: one figure of all methods."""
    corrected = correct([records[m][key]["p"] for m in methods], "holm")
    for method, p in zip(methods, corrected, strict=True):
        records[method][key]["p"] = round(records[method][key]["p"], 5)
        records[method][key]["p_holm"] = round(float(p), 5)


def _rounded(figure: Figure) -> dict[str, float]:
    return {name: round(value, 3) + 0.0 for name, value in figure._asdict().items()}  # no -0.0
