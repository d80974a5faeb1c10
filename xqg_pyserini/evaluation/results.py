"""The one model of results: scores of runs, comparisons of them, and what a sweep adds.

`evaluate` and `run_sweep` return these values; the package `report` writes, reads and shows them.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from xqg_pyserini.data import Run
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation import significance
from xqg_pyserini.evaluation.measures import find_metric, parse_metric
from xqg_pyserini.evaluation.significance import Interval
from xqg_pyserini.settings import option

if TYPE_CHECKING:
    import pandas

MACRO = "macro"  # where a language's code would stand: the unweighted mean over languages
TESTS = ("student", "fisher", "mcnemar")
CORRECTIONS = ("holm", "bonferroni", "bh", "none")
Runs = tuple[Mapping[str, float], ...]  # of a system's seeds: question → value of each
ByLanguage = dict[str, Interval]  # `macro` and languages → score or difference, 0-100


@dataclass(frozen=True)
class ComparingSettings:
    """How runs are tested against each other; a choice that there is not is a `UserError`."""

    test: str = option("student", "significance test", *TESTS)
    correction: str = option("holm", "of the p-values of one metric", *CORRECTIONS)
    level: float = option(0.05, "significance level")

    def __post_init__(self) -> None:
        for name, value, known in (("test", self.test, TESTS), ("correction", self.correction, CORRECTIONS)):
            if value not in known:
                raise UserError(f"{name} {value!r}; expected {', '.join(known)}", about=name)
        if not 0 < self.level < 1:
            raise UserError(f"level {self.level}; expected a number between 0 and 1", about="level")

    def check(self, metrics: Iterable[str], seeds: bool = False) -> None:
        """Raise `UserError` for a measure that the test is not for, or one that cannot take `seeds` into account."""
        if seeds and self.test != "student":
            raise UserError(f"{self.test} takes the questions alone as drawn; with several seeds take student", "test")
        for metric in metrics:
            if self.test == "mcnemar" and not parse_metric(metric).binary:
                raise UserError(
                    f"mcnemar takes measures of hit or miss (R@kt, hit_rate@k), not {metric}; choose student or fisher",
                    about="test",
                )


# ---------------------------------------------------------------- scores


@dataclass(frozen=True)
class LanguageScore:
    """The questions of one language: their number, how many hit (None: no such measure), 0-100."""

    count: int
    hit: int | None
    score: float


@dataclass(frozen=True)
class RunScores:
    """One run's scores by one measure.

    Attributes:
        by_question: question → value, 0-1; empty for a sweep that was read from its folder.
        by_language: language → `LanguageScore`.
        macro: the unweighted mean over languages, 0-100.
        intervals: `macro` and languages → mean and its 95% confidence interval, 0-100.
        languages: question → language, of all that were asked; empty where it was read from a folder.
        asked: how many questions were asked; more than `count` where some are left out.
        seeds: of a system whose runs are pooled, each run's question → value; their means are `by_question`.
    """

    by_question: Mapping[str, float]
    by_language: Mapping[str, LanguageScore]
    macro: float
    languages: Mapping[str, str] = field(default_factory=dict, repr=False)
    asked: int = 0
    stored: ByLanguage | None = field(default=None, repr=False)
    seeds: tuple[Mapping[str, float], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, by_question: Mapping[str, float], languages: Mapping[str, str], binary: bool = False) -> "RunScores":
        """Return the scores that follow from the questions'; `binary` ones are 0 or 1."""
        by_language = {
            language: LanguageScore(len(values), int(sum(values)) if binary else None, 100 * sum(values) / len(values))
            for language, values in _grouped(by_question, languages).items()
        }
        macro = sum(entry.score for entry in by_language.values()) / len(by_language)
        return cls(by_question, by_language, macro, languages, len(languages))

    @property
    def count(self) -> int:
        """Return how many questions are scored."""
        return sum(entry.count for entry in self.by_language.values())

    @property
    def questions(self) -> str:
        """Say how many questions are scored: `7`, or `5 of 7`."""
        return f"{self.count} of {self.asked}" if self.count < self.asked else str(self.count)

    @property
    def intervals(self) -> ByLanguage:
        """Return `macro` and languages → mean and its 95% confidence interval, 0-100."""
        return _intervals(self.by_question, self.languages, self.seeds) if self.stored is None else self.stored

    def as_json(self) -> dict[str, Any]:
        """Return what `scores.json` holds of them (docs/evaluation.md)."""
        binary = any(entry.hit is not None for entry in self.by_language.values())
        seeds = [RunScores.of(values, self.languages).macro for values in self.seeds]
        return {
            "macro": self.macro,
            **({"seeds": seeds} if seeds else {}),
            "languages": {l: vars(entry) for l, entry in self.by_language.items()},
            "questions": {q: int(v) if binary else v for q, v in self.by_question.items()},
        }


def _grouped(values: Mapping[str, float], languages: Mapping[str, str]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for qid, value in values.items():
        groups[languages[qid]].append(value)
    return groups


def _intervals(values: Mapping[str, float], languages: Mapping[str, str], *seeds: Runs) -> ByLanguage:
    """Return `macro`, then each language, → mean and its 95% confidence interval, 0-100.

    `seeds` are those of each system that the values are of.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for qid in values:
        members[languages[qid]].append(qid)
    every = [qid for qids in members.values() for qid in qids]
    names = [language for language, qids in members.items() for _ in qids]
    of_all = [100 * values[qid] for qid in every]
    intervals = {MACRO: significance.macro_interval(of_all, names, seeds=_by_run(seeds, every, 100))}
    for language, qids in members.items():
        of = [100 * values[qid] for qid in qids]
        intervals[language] = significance.mean_interval(of, seeds=_by_run(seeds, qids, 100))
    return intervals


def _by_run(seeds: Iterable[Runs], qids: Sequence[str], times: float = 1) -> list[list[list[float]]]:
    """Return, of each system with several runs, the values (runs, questions)."""
    return [[[times * run[qid] for qid in qids] for run in runs] for runs in seeds if runs]


class ByMetric(dict[str, RunScores]):
    """Measure → scores; a measure is found under all of its names."""

    def __missing__(self, name: str) -> RunScores:
        known = find_metric(name, self)
        if known is None:
            raise KeyError(name)
        return self[known]


@dataclass
class Scores(Mapping[str, Mapping[str, RunScores]]):
    """Scores of runs: `scores["mean"]["R@2kt"].macro`; printed, they are a table.

    Attributes:
        by_run: run → measure → `RunScores`.
        relevance: where relevance comes from, in words; None where no measure looks at it.
        notes: what to know about them: questions that a run lacks, or that cannot be scored.
        relevant: question → docid → relevance, as far as it was needed.
        stored: (a, b, measure) → differences, where they were read from a folder.
    """

    by_run: dict[str, dict[str, RunScores]]
    relevance: str | None = None
    notes: list[str] = field(default_factory=list)
    relevant: Mapping[str, Mapping[str, int]] = field(default_factory=dict, repr=False)
    stored: dict[tuple[str, str, str], ByLanguage] = field(default_factory=dict, repr=False)

    def __getitem__(self, run: str) -> dict[str, RunScores]:
        return self.by_run[run]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_run)

    def __len__(self) -> int:
        return len(self.by_run)

    def __repr__(self) -> str:
        return f"Scores(runs={self.runs}, metrics={self.metrics})"

    def __str__(self) -> str:
        from xqg_pyserini.evaluation.tables import explanation, macro_table

        return f"{macro_table(self)}\n\n{explanation(self)}"

    @property
    def runs(self) -> list[str]:
        """Return the names of the runs in the order given."""
        return list(self.by_run)

    @property
    def metrics(self) -> list[str]:
        """Return the names of the measures in the order given."""
        return list(next(iter(self.by_run.values())))

    def macro(self, run: str, metric: str) -> float:
        """Return the score of a run, 0-100, averaged over languages without weights."""
        return self.by_run[run][metric].macro

    def best(self, metric: str) -> str:
        """Return the run with the highest macro score; the first of equals."""
        return max(self.by_run, key=lambda run: self.macro(run, metric))

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a DataFrame with the columns run, metric, language, question and value (0-1).

        The scores of languages are means over run, metric and language.
        """
        import pandas

        rows = [
            (run, metric, scores.languages.get(qid), qid, value)
            for run, by_metric in self.by_run.items()
            for metric, scores in by_metric.items()
            for qid, value in scores.by_question.items()
        ]
        return pandas.DataFrame(rows, columns=["run", "metric", "language", "question", "value"])

    def paired(self, a: str, b: str, metric: str) -> tuple[list[float], list[float], list[str]]:
        """Return two runs' values for the questions that both are scored on, and their languages.

        Raises:
            UserError: there is no such question.
        """
        first, second, both = self.by_run[a][metric], self.by_run[b][metric].by_question, self._both(a, b, metric)
        return [first.by_question[q] for q in both], [second[q] for q in both], [first.languages[q] for q in both]

    def _both(self, a: str, b: str, metric: str) -> list[str]:
        second = self.by_run[b][metric].by_question
        both = [qid for qid in self.by_run[a][metric].by_question if qid in second]
        if not both:
            raise UserError(f"runs {a} and {b} have no scored question in common")
        return both

    def difference(self, a: str, b: str, metric: str) -> ByLanguage:
        """Return the score of run a minus that of b, with 95% confidence intervals, 0-100.

        It is of the questions that both are scored on; `macro` comes first.
        """
        if (a, b, metric) in self.stored:
            return self.stored[a, b, metric]
        if (b, a, metric) in self.stored:
            turned = self.stored[b, a, metric]
            return {l: Interval(-i.mean, -i.high, -i.low) for l, i in turned.items()}
        first, other = self.by_run[a][metric], self.by_run[b][metric].by_question
        gains = {q: v - other[q] for q, v in first.by_question.items() if q in other}
        return _intervals(gains, first.languages, first.seeds, self.by_run[b][metric].seeds)

    def pooled(self, seeds: Mapping[str, Sequence[str]]) -> "Scores":
        """Return the scores with some runs made one: those of a system that was trained with several seeds.

        A question's value is the mean over the runs.  Intervals and the t-test then take both as drawn, runs and
        questions (`significance.macro_mean`); a system of a single run says nothing of its seeds.

        Args:
            seeds: system → names of its runs, two or more; it stands where the first of them stood.

        Raises:
            UserError: for a run that is not there, or is given twice; runs of a system that are scored on different
                questions.
        """
        given = [run for runs in seeds.values() for run in runs]
        if strange := [run for run in given if run not in self.by_run or given.count(run) > 1]:
            raise UserError(f"seeds: run {strange[0]} is given twice, or is none of {' '.join(self.runs)}", "seeds")
        if taken := [name for name in seeds if name in self.by_run and name not in given]:
            raise UserError(f"seeds: there is a run {taken[0]}; give the system another name", "seeds")
        system_of = {run: name for name, runs in seeds.items() for run in runs}
        by_run: dict[str, dict[str, RunScores]] = {}
        notes = list(self.notes)
        for run, by_metric in self.by_run.items():
            name = system_of.get(run, run)
            if run not in system_of:
                by_run[run] = by_metric
            elif name not in by_run:
                by_run[name] = self._pool(name, seeds[name])
                notes += _seed_notes(name, by_run[name])
        if alone := [run for run in by_run if run not in seeds]:
            notes.append(f"{', '.join(alone)}: a single run; what another seed would give is in no interval or test")
        return Scores(by_run, self.relevance, notes, self.relevant)

    def _pool(self, name: str, runs: Sequence[str]) -> dict[str, RunScores]:
        if len(runs) < 2:
            raise UserError(f"seeds: {name} has a single run; give two or more", "seeds")
        pooled = ByMetric()
        for metric, first in self.by_run[runs[0]].items():
            values = tuple(self.by_run[run][metric].by_question for run in runs)
            if any(other.keys() != values[0].keys() for other in values):
                what = f"the runs of {name} are scored on different questions"
                raise UserError(f"{what}; count questions that a run lacks as misses", ("seeds", "official"))
            mean = {qid: math.fsum(run[qid] for run in values) / len(values) for qid in values[0]}
            pooled[metric] = replace(RunScores.of(mean, first.languages), seeds=values)
        return pooled

    def compare(
        self,
        test: str = ComparingSettings.test,
        correction: str = ComparingSettings.correction,
        level: float = ComparingSettings.level,
        baseline: str | None = None,
    ) -> "Comparisons":
        """Test every pair of runs by every measure; with `baseline`, every run against that one.

        The p-values of one measure are a family, corrected together.

        Args:
            test: `student` (paired t-test over questions), `fisher` (randomisation within languages, on the macro
                figure) or `mcnemar` (exact, for measures of hit or miss).
            correction: `holm`, `bonferroni`, `bh` (Benjamini-Hochberg) or `none`.
            level: of significance, 0-1.
            baseline: the name of a run.

        Raises:
            UserError: a choice that there is not, or a test that does not fit a measure.
        """
        settings = ComparingSettings(test, correction, level)
        settings.check(self.metrics, any(one.seeds for each in self.by_run.values() for one in each.values()))
        if baseline is None:
            pairs = list(combinations(self.runs, 2))
        elif baseline in self.by_run:
            pairs = [(run, baseline) for run in self.runs if run != baseline]
        else:
            raise UserError(f"baseline {baseline!r}: expected one of {' '.join(self.runs)}")
        compared: list[Comparison] = []
        for metric in self.metrics if pairs else ():
            values = [self.paired(a, b, metric) for a, b in pairs]
            runs = [[self.by_run[name][metric].seeds for name in pair] for pair in pairs]
            seeds = [_by_run(each, self._both(*pair, metric)) for pair, each in zip(pairs, runs, strict=True)]
            ps = [p_value(test, *three, of) for three, of in zip(values, seeds, strict=True)]
            corrected = significance.correct(ps, correction)  # type: ignore[arg-type]
            for (a, b), (x, y, _), p, q in zip(pairs, values, ps, corrected, strict=True):
                counts = significance.win_tie_loss(x, y)
                compared.append(Comparison(a, b, metric, test, p, float(q), bool(q <= level), *counts))
        return Comparisons(self, tuple(compared), settings, baseline)


def _seed_notes(name: str, by_metric: Mapping[str, RunScores]) -> Iterator[str]:
    """Yield what a system's runs have by themselves."""
    for metric, scores in by_metric.items():
        macros = [RunScores.of(values, scores.languages).macro for values in scores.seeds]
        each = ", ".join(f"{macro:.2f}" for macro in macros)
        yield f"{name} is the mean of {len(macros)} runs, by {metric} {each} (standard deviation {stdev(macros):.2f})"


def p_value(
    test: str, x: Sequence[float], y: Sequence[float], languages: Sequence[str], seeds: Sequence[Any] = ()
) -> float:
    """Return the p-value of one of `TESTS` for two runs' values, question by question.

    `seeds`, for `student` alone, are the values (runs, questions) of each of both that has several runs.
    """
    if test == "fisher":
        return significance.fisher(x, y, languages)
    return significance.mcnemar(x, y) if test == "mcnemar" else significance.student(x, y, seeds)


@dataclass(frozen=True)
class Comparison:
    """The test of run `a` against run `b` by one metric; win, tie and loss are a's questions."""

    a: str
    b: str
    metric: str
    test: str
    p: float
    p_corrected: float
    significant: bool
    win: int
    tie: int
    loss: int


@dataclass(frozen=True)
class Comparisons(Sequence[Comparison]):
    """Tests of runs against each other, or against a `baseline`; printed, they are a table."""

    scores: Scores
    tests: tuple[Comparison, ...]
    settings: ComparingSettings
    baseline: str | None = None

    def __getitem__(self, place: Any) -> Any:
        return self.tests[place]

    def __len__(self) -> int:
        return len(self.tests)

    def __repr__(self) -> str:
        return f"Comparisons({self.settings}, {len(self)} tests)"

    def __str__(self) -> str:
        from xqg_pyserini.evaluation.tables import results_tables

        return results_tables(self)

    def of(self, a: str, b: str, metric: str) -> Comparison | None:
        """Return the test of two runs, in the order it was made; None where there is none."""
        return next((test for test in self if test.metric == metric and {test.a, test.b} == {a, b}), None)

    def sign(self, test: Comparison) -> int:
        """Return 1 where a is significantly better, -1 where b is, or else 0.

        A test over questions can point against the mean over languages: then it is 0, too.
        """
        if not test.significant:
            return 0
        scores = self.scores
        gain = scores.macro(test.a, test.metric) - scores.macro(test.b, test.metric)
        x, y, _ = scores.paired(test.a, test.b, test.metric)
        net = sum(first - second for first, second in zip(x, y, strict=True))
        return 1 if gain > 0 and net > 0 else -1 if gain < 0 and net < 0 else 0

    def as_json(self) -> dict[str, Any]:
        """Return what `scores.json` holds (docs/evaluation.md)."""
        runs = {run: {metric: one.as_json() for metric, one in each.items()} for run, each in self.scores.items()}
        return {"runs": runs, "tests": [vars(test) for test in self.tests]}


# ---------------------------------------------------------------- an evaluation, or a sweep


class PointSettings(NamedTuple):
    """One setting of a sweep, as files name it; None where it does not apply.

    `num_queries` is a number of queries a language, or `all`; `form` is `none` for the passages alone;
    `shrink_queries` is what is added at the language's mean; `align` is how the question is put right, as the point's
    name has it.
    """

    point: str
    form: str
    weight: float | None
    languages: str | None
    num_queries: int | str | None
    normalize: bool | None
    center: bool | None
    shrink_queries: float | None = None
    align: str | None = None


@dataclass
class Results:
    """What is written, read and shown: scores, compared; of a sweep, what its runs are.

    Attributes:
        compared: the scores and the tests; of a sweep, each point against the baseline.
        inputs: what they were made from, as recorded (docs/formats.md).
        points: name → settings of a sweep's points; empty for an evaluation.
        cross_validation: what was chosen and held out, as `sweep.json` has it.
        power: what differences could have been seen, as `sweep.json` has it.
        runs: the runs themselves, where they are at hand; a sweep's are made when asked for.
        folder: where they were read from.
    """

    compared: Comparisons
    inputs: dict[str, Any] | None = None
    points: dict[str, PointSettings] = field(default_factory=dict)
    cross_validation: dict[str, Any] | None = None
    power: dict[str, Any] | None = None
    runs: Mapping[str, Run] = field(default_factory=dict, repr=False)
    folder: Path | None = None

    @property
    def scores(self) -> Scores:
        """Return the scores."""
        return self.compared.scores
