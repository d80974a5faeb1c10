"""The one model of results: scores of runs, comparisons of them, and what a sweep adds.

`evaluate` and `run_sweep` return these values; the package `report` writes, reads and shows them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
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

    def check(self, metrics: Iterable[str]) -> None:
        """Raise `UserError` for a measure that the test is not for."""
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
    """

    by_question: Mapping[str, float]
    by_language: Mapping[str, LanguageScore]
    macro: float
    languages: Mapping[str, str] = field(default_factory=dict, repr=False)
    asked: int = 0
    stored: ByLanguage | None = field(default=None, repr=False)

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
        return _intervals(self.by_question, self.languages) if self.stored is None else self.stored

    def as_json(self) -> dict[str, Any]:
        """Return what `scores.json` holds of them (docs/evaluation.md)."""
        binary = any(entry.hit is not None for entry in self.by_language.values())
        return {
            "macro": self.macro,
            "languages": {l: vars(entry) for l, entry in self.by_language.items()},
            "questions": {q: int(v) if binary else v for q, v in self.by_question.items()},
        }


def _grouped(values: Mapping[str, float], languages: Mapping[str, str]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for qid, value in values.items():
        groups[languages[qid]].append(value)
    return groups


def _intervals(values: Mapping[str, float], languages: Mapping[str, str]) -> ByLanguage:
    """Return `macro`, then each language, → mean and its 95% confidence interval, 0-100."""
    groups = {l: [100 * value for value in group] for l, group in _grouped(values, languages).items()}
    pooled = [value for group in groups.values() for value in group]
    names = [language for language, group in groups.items() for _ in group]
    intervals = {MACRO: significance.macro_interval(pooled, names)}
    return intervals | {l: significance.mean_interval(group) for l, group in groups.items()}


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
        first, second = self.by_run[a][metric], self.by_run[b][metric].by_question
        both = [qid for qid in first.by_question if qid in second]
        if not both:
            raise UserError(f"runs {a} and {b} have no scored question in common")
        return [first.by_question[q] for q in both], [second[q] for q in both], [first.languages[q] for q in both]

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
        return _intervals(gains, first.languages)

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
        settings.check(self.metrics)
        if baseline is None:
            pairs = list(combinations(self.runs, 2))
        elif baseline in self.by_run:
            pairs = [(run, baseline) for run in self.runs if run != baseline]
        else:
            raise UserError(f"baseline {baseline!r}: expected one of {' '.join(self.runs)}")
        compared: list[Comparison] = []
        for metric in self.metrics if pairs else ():
            values = [self.paired(a, b, metric) for a, b in pairs]
            ps = [p_value(test, *three) for three in values]
            corrected = significance.correct(ps, correction)  # type: ignore[arg-type]
            for (a, b), (x, y, _), p, q in zip(pairs, values, ps, corrected, strict=True):
                counts = significance.win_tie_loss(x, y)
                compared.append(Comparison(a, b, metric, test, p, float(q), bool(q <= level), *counts))
        return Comparisons(self, tuple(compared), settings, baseline)


def p_value(test: str, x: Sequence[float], y: Sequence[float], languages: Sequence[str]) -> float:
    """Return the p-value of one of `TESTS` for two runs' values, question by question."""
    if test == "fisher":
        return significance.fisher(x, y, languages)
    return {"student": significance.student, "mcnemar": significance.mcnemar}[test](x, y)


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
