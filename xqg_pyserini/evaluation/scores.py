"""Runs → scores by question, language and macro, and the tests between runs.

R@kt and ranx's metrics stand side by side as `Metric`s.  A question that a run lacks counts as a
miss; one that cannot be scored (no answer, no relevant passage) is left out and reported.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from xqg_pyserini.data import (
    NO_LANGUAGE,
    Question,
    Run,
    answer_finder,
    read_corpus,
    read_qrels,
    read_run,
    span_answers,
)
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.evaluation import significance
from xqg_pyserini.evaluation.r_at_kt import RecallAtTokens
from xqg_pyserini.evaluation.significance import Interval

TESTS = ("student", "fisher", "mcnemar")
CORRECTIONS = ("holm", "bonferroni", "bh", "none")
DEFAULT_METRICS = ("R@2kt", "R@5kt")
LEVEL = 0.05
MACRO = "macro"  # where a language's code would stand: the unweighted mean over languages
_TOKENS = re.compile(r"R@(\d+(?:\.\d+)?)kt", re.IGNORECASE)
_RANX = re.compile(
    r"((hit_rate|precision|recall|f1|r-precision|mrr|map|ndcg|ndcg_burges|bpref)(@[1-9]\d*)?"
    r"|rbp\.[1-9]\d?)(-l[1-9]\d*)?",
    re.IGNORECASE,
)


class Metric(NamedTuple):
    """A measure: R@kt with its budget in tokens, or one of ranx's (budget None)."""

    name: str
    budget: int | None

    @property
    def binary(self) -> bool:
        """Tell whether its values are 0 or 1."""
        return self.budget is not None or self.name.lower().startswith("hit_rate")


def parse_metric(name: str) -> Metric:
    """Return the metric that a name stands for: `R@2kt`, `R@0.5kt`, or ranx's (`ndcg@10`)."""
    tokens = _TOKENS.fullmatch(name)
    if tokens:
        budget = round(float(tokens[1]) * 1000)
        if budget < 1:
            raise UserError(
                f"metric {name!r}: a budget of no token; expected e.g. R@2kt or R@0.5kt"
            )
        return Metric(name, budget)
    if _RANX.fullmatch(name):
        return Metric(name, None)
    raise UserError(
        f"unknown metric {name!r}: expected R@2kt, R@5kt, R@0.5kt …, or one of ranx's: ndcg@10, "
        "mrr@10, recall@100, map, precision@5, hit_rate@1, …"
    )


@dataclass(frozen=True)
class Scores:
    """One run's scores by one metric: question → value, and the question's language."""

    values: dict[str, float]
    languages: Mapping[str, str]
    binary: bool

    def by_language(self) -> dict[str, dict[str, Any]]:
        """Return language → count, hit (None for measures that are not counts), score 0-100."""
        groups: dict[str, list[float]] = {}
        for qid, value in self.values.items():
            groups.setdefault(self.languages[qid], []).append(value)
        return {
            language: {
                "count": len(values),
                "hit": int(sum(values)) if self.binary else None,
                "score": 100 * sum(values) / len(values),
            }
            for language, values in groups.items()
        }

    @property
    def macro(self) -> float:
        """Return the unweighted mean over languages, 0-100."""
        scores = [entry["score"] for entry in self.by_language().values()]
        return sum(scores) / len(scores)

    def intervals(self, baseline: "Scores | None" = None) -> dict[str, Interval]:
        """Return language, and `macro` → mean and its 95% confidence interval, 0-100.

        With a `baseline`, they are those of the differences to it, over the questions that both
        have.  `macro` comes first.
        """
        if baseline is None:
            values = self.values
        else:
            theirs = baseline.values
            values = {q: v - theirs[q] for q, v in self.values.items() if q in theirs}
        groups: dict[str, list[float]] = {}
        for qid, value in values.items():
            groups.setdefault(self.languages[qid], []).append(100 * value)
        all_values = [value for some in groups.values() for value in some]
        names = [language for language, some in groups.items() for _ in some]
        macro = significance.macro_interval(all_values, names)
        return {
            MACRO: macro,
            **{l: significance.mean_interval(some) for l, some in groups.items()},
        }


@dataclass(frozen=True)
class Test:
    """The comparison of run `a` with run `b` by one metric; win, tie, loss are a's."""

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


@dataclass
class Evaluation:
    """What `evaluate_runs` found: `scores[run][metric]`, the tests, and what to know about them."""

    scores: dict[str, dict[str, Scores]]
    tests: list[Test]
    test: str
    correction: str
    level: float
    relevance: str | None
    notes: list[str] = field(default_factory=list)
    relevant: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def runs(self) -> list[str]:
        """Return the names of the runs in the order given."""
        return list(self.scores)

    @property
    def metrics(self) -> list[str]:
        """Return the names of the metrics in the order given."""
        return list(next(iter(self.scores.values())))

    def as_json(self) -> dict[str, Any]:
        """Return what `scores.json` holds (docs/evaluation.md)."""
        runs = {
            run: {
                metric: {
                    "macro": scores.macro,
                    "languages": scores.by_language(),
                    "questions": {
                        q: int(v) if scores.binary else v for q, v in scores.values.items()
                    },
                }
                for metric, scores in by_metric.items()
            }
            for run, by_metric in self.scores.items()
        }
        return {"runs": runs, "tests": [vars(test) for test in self.tests]}


def evaluate_runs(
    questions: Sequence[Question],
    runs: Sequence[str | Path],
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    corpus: str | Path | None = None,
    qrels: str | Path | None = None,
    test: str = "student",
    correction: str = "holm",
    level: float = LEVEL,
    official: bool = False,
    with_title: bool = False,
) -> Evaluation:
    """Score run files by R@kt and ranx's metrics, and test every pair of them.

    `corpus` is needed for R@kt and, without `qrels`, for relevance derived from the answers: then
    a passage of the corpus is relevant if its text holds an answer string as it stands.  R@kt and
    that relevance look at the text alone, or at title and text with `with_title`.  `official`
    leaves questions that a run lacks out of its count, as the official script does.

    Raises:
        UserError: for files that cannot be read, a metric or test that does not exist or does not
            fit, two runs with one name, questions of which none can be scored.
    """
    check_choices(metrics, test, correction, level)
    return score_runs(
        questions,
        _read_runs(runs),
        metrics,
        corpus=corpus,
        qrels=qrels,
        test=test,
        correction=correction,
        level=level,
        official=official,
        with_title=with_title,
    )


def score_runs(
    questions: Sequence[Question],
    runs: Mapping[str, Run],
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    corpus: str | Path | None = None,
    qrels: str | Path | None = None,
    test: str = "student",
    correction: str = "holm",
    level: float = LEVEL,
    official: bool = False,
    with_title: bool = False,
    baseline: str | None = None,
    relate: bool = False,
) -> Evaluation:
    """Score runs as `evaluate_runs` scores run files; they are looked up by name, one at a time.

    With `baseline`, the name of one of them, every other run is tested against that one alone.
    `relate` derives from the answers which passages are relevant though no metric looks at it
    (`Evaluation.relevant`); `qrels` have it anyway.

    Raises:
        UserError: as `evaluate_runs` does, but for the reading of runs.
    """
    parsed = check_choices(metrics, test, correction, level)
    evaluation = Evaluation({run: {} for run in runs}, [], test, correction, level, None)
    budgets = [metric.budget for metric in parsed if metric.budget is not None]
    others = [metric.name for metric in parsed if metric.budget is None]
    wanted = _look_through(evaluation, questions, runs, official)
    derive = qrels is None and (bool(others) or relate)
    answerable = _answerable(questions, bool(budgets) or derive, evaluation.notes)
    texts: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = read_qrels(qrels) if qrels is not None else {}
    check_inputs(questions, parsed, corpus, qrels, relate)
    if corpus is not None and (budgets or derive):
        texts, found = _read_texts(
            corpus, wanted, answerable if derive else {}, with_title, _enough(parsed)
        )
        relevant = found if derive else relevant
    languages = {q.id: q.language or NO_LANGUAGE for q in questions}
    evaluation.relevant = relevant
    scorer = RecallAtTokens(texts)
    ranx = _Ranx(questions, relevant) if others else None
    for name, run in runs.items():
        by_name: dict[Any, dict[str, float]] = {}
        if budgets:
            by_name |= _r_at_kt(questions, run, answerable, scorer, budgets)
        if ranx is not None:
            by_name |= ranx.scores(run, others)
        for metric in parsed:
            values = by_name[metric.budget or metric.name]
            if official:
                values = {q: v for q, v in values.items() if q in run}
            if not values:
                raise UserError(f"run {name}: no question can be scored by {metric.name}")
            evaluation.scores[name][metric.name] = Scores(values, languages, metric.binary)
    if others:
        source = f"qrels {qrels}" if qrels is not None else "derived from the answers in the corpus"
        scored = sum(1 for q in questions if any(relevant.get(q.id, {}).values()))
        evaluation.relevance = (
            f"{source} ({scored} of {len(questions)} questions have a relevant passage)"
        )
    for metric in parsed:
        evaluation.tests += _compare(evaluation, metric, baseline)
    return evaluation


def check_choices(names: Sequence[str], test: str, correction: str, level: float) -> list[Metric]:
    """Return the metrics, or raise `UserError` where a choice is none or they do not fit."""
    metrics = [parse_metric(name) for name in names]
    if not metrics or len({metric.name.lower() for metric in metrics}) < len(metrics):
        raise UserError("give each metric once, and at least one")
    if test not in TESTS:
        raise UserError(f"test {test!r}; expected {', '.join(TESTS)}")
    if correction not in CORRECTIONS:
        raise UserError(f"correction {correction!r}; expected {', '.join(CORRECTIONS)}")
    if not 0 < level < 1:
        raise UserError(f"level {level}; expected a number between 0 and 1")
    for metric in metrics:
        if test == "mcnemar" and not metric.binary:
            raise UserError(
                f"mcnemar takes measures of hit or miss (R@kt, hit_rate@k), not {metric.name}; "
                "choose --test student or fisher"
            )
    return metrics


def check_inputs(
    questions: Sequence[Question],
    metrics: Sequence[Metric],
    corpus: str | Path | None,
    qrels: str | Path | None,
    relate: bool = False,
) -> None:
    """Raise `UserError` where the metrics look for answers and there are none, or no texts."""
    budgets = any(metric.budget is not None for metric in metrics)
    derive = qrels is None and (relate or any(metric.budget is None for metric in metrics))
    if budgets or derive:
        _answerable(questions, True, [])
        if corpus is None:
            why = "R@kt" if budgets else "relevance derived from the answers (or give --qrels)"
            raise UserError(f"{why} needs the passages' texts: give --corpus")


def run_name(path: str | Path) -> str:
    """Return a run's name: its file's name without its ending."""
    name = Path(path).name.removesuffix(".gz")
    return Path(name).stem


def _read_runs(paths: Sequence[str | Path]) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    names: dict[str, str | Path] = {}
    for path in paths:
        name = run_name(path)
        if name in names:
            raise UserError(f"{names[name]} and {path} are both the run {name!r}; rename one")
        names[name] = path
    for name, path in names.items():
        runs[name] = read_run(path)
    if not runs:
        raise UserError("no run to evaluate")
    return runs


def _look_through(
    evaluation: Evaluation, questions: Sequence[Question], runs: Mapping[str, Run], official: bool
) -> dict[str, str]:
    """Note which questions runs lack; return the passages that are retrieved, each with a run."""
    ids = {question.id for question in questions}
    wanted: dict[str, str] = {}
    for name, run in runs.items():
        wanted |= {docid: name for hits in run.values() for docid in hits}
        missing, foreign = len(ids - run.keys()), len(run.keys() - ids)
        if foreign == len(run):
            raise UserError(f"run {name}: none of its questions is in the questions file")
        if missing:
            what = "left out" if official else "counted as misses"
            evaluation.notes.append(f"run {name} lacks {missing} of {len(ids)} questions, {what}")
        if foreign:
            warn(f"run {name} has {foreign} questions that the questions file does not; left out")
    return wanted


def _answerable(
    questions: Sequence[Question], needed: bool, notes: list[str]
) -> dict[str, list[str]]:
    """Return the questions that have answers to look for, with these."""
    if not needed:
        return {}
    answers = {question.id: span_answers(question.answers) for question in questions}
    found = {qid: some for qid, some in answers.items() if some}
    if not found:
        raise UserError(
            "no question has an answer to look for (answers, other than yes and no): "
            "R@kt and relevance derived from answers need them"
        )
    if len(found) < len(answers):
        notes.append(
            f"{len(answers) - len(found)} of {len(answers)} questions have no answer to look for "
            "and are not counted"
        )
    return found


def _read_texts(
    corpus: str | Path,
    wanted: Mapping[str, str],
    answers: Mapping[str, list[str]],
    with_title: bool,
    enough: int | None,
) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Read the corpus once: the wanted texts, and which passages hold which questions' answers.

    Relevant passages that no run retrieved are not named, only counted: at most `enough` of a
    question's, where the measures look no further.
    """
    texts: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    counts: Counter[str] = Counter()
    find = answer_finder(answers)
    for line, passage in tqdm(read_corpus(corpus), "reading", unit=" passages", disable=None):
        text = passage.full if with_title else passage.text
        if passage.id in wanted:
            if passage.id in texts:
                raise line.error(f"passage id {passage.id!r} again; ids must be unique")
            texts[passage.id] = text
        for qid in find(text):
            counts[qid] += 1
            if passage.id in wanted:
                relevant.setdefault(qid, {})[passage.id] = 1
    for docid, run in wanted.items():
        if docid not in texts:
            raise UserError(f"run {run}: passage {docid!r} is not in {corpus}")
    for qid, count in counts.items():
        # those that no run retrieved count, but by their number alone: it bounds the ideal ranking
        known = relevant.setdefault(qid, {})
        unseen = count if enough is None else min(count, enough)
        known |= {f"unseen {i}": 1 for i in range(unseen - len(known))}
    return texts, relevant


def _enough(metrics: Sequence[Metric]) -> int | None:
    """Return how many relevant passages can matter to all the metrics; None where all can."""
    cutoffs = []
    for metric in metrics:
        if metric.budget is None:
            shallow = re.fullmatch(
                r"(?:ndcg|ndcg_burges|precision|hit_rate)@(\d+)", metric.name.lower()
            )
            if not shallow and not metric.name.lower().startswith("mrr"):
                return None
            cutoffs.append(int(shallow[1]) if shallow else 1)
    return max(cutoffs, default=1)


def _r_at_kt(
    questions: Sequence[Question],
    run: Run,
    answerable: Mapping[str, list[str]],
    scorer: RecallAtTokens,
    budgets: Sequence[int],
) -> dict[Any, dict[str, float]]:
    values: dict[Any, dict[str, float]] = {budget: {} for budget in budgets}
    for question in tqdm(questions, "R@kt", unit=" questions", disable=None):
        if question.id in answerable:
            ranking = list(run.get(question.id, ()))
            hits = scorer.hits(ranking, answerable[question.id], budgets)
            for budget, hit in zip(budgets, hits, strict=True):
                values[budget][question.id] = int(hit)
    return values


class _Ranx:
    """ranx, with relevance turned into its arrays once for all runs.

    ranx's own `Qrels` and `Run` sort typed dictionaries, which takes longer than all scoring; what
    is sorted already can be handed over as the arrays that it makes of them.
    """

    def __init__(
        self, questions: Sequence[Question], relevant: Mapping[str, dict[str, int]]
    ) -> None:
        judged = {q.id: relevant[q.id] for q in questions if any(relevant.get(q.id, {}).values())}
        if not judged:
            raise UserError("no question has a relevant passage; nothing for ranx to score")
        from ranx.utils import python_dict_to_typed_list

        self._judged = list(judged)
        self._arrays = python_dict_to_typed_list
        best_first = {
            qid: dict(sorted(some.items(), key=lambda item: -item[1]))
            for qid, some in judged.items()
        }
        self._relevant = self._arrays(best_first, sort=False)

    def scores(self, run: Run, metrics: Sequence[str]) -> dict[Any, dict[str, float]]:
        """Score a run: by the run's ranks, over all questions with a relevant passage."""
        import ranx

        # by rank, since scores may tie; no docid holds white space, so " " is nobody's passage
        ranked = {
            qid: {docid: -float(i) for i, docid in enumerate(run.get(qid, ()))} or {" ": 0.0}
            for qid in self._judged
        }
        hits = self._arrays(ranked, sort=False)
        names = [metric.lower() for metric in metrics]  # nDCG@10 is ranx's ndcg@10
        # a metric alone, of arrays, ranx looks up by a wrong name: one is given twice
        by_name = ranx.evaluate(self._relevant, hits, [*names, names[0]], return_mean=False)
        found = {}
        for metric, name in zip(metrics, names, strict=True):
            found[metric] = dict(zip(self._judged, map(float, by_name[name]), strict=True))
            if any(value != value for value in found[metric].values()):
                raise UserError(
                    f"{metric} is not defined here: it needs passages judged not relevant"
                )
        return found


def paired(
    evaluation: Evaluation, metric: str, a: str, b: str
) -> tuple[list[float], list[float], list[str]]:
    """Return two runs' values for the questions that both are scored on, and these' languages."""
    first, second = (evaluation.scores[run][metric] for run in (a, b))
    both = [qid for qid in first.values if qid in second.values]
    if not both:
        raise UserError(f"runs {a} and {b} have no scored question in common")
    values = ([one.values[qid] for qid in both] for one in (first, second))
    return *values, [first.languages[qid] for qid in both]  # type: ignore[return-value]


def p_value(test: str, x: Sequence[float], y: Sequence[float], languages: Sequence[str]) -> float:
    """Return the p-value of one of `TESTS` for two runs' values, question by question."""
    if test == "student":
        return significance.student(x, y)
    if test == "mcnemar":
        return significance.mcnemar(x, y)
    return significance.fisher(x, y, languages)


def _compare(evaluation: Evaluation, metric: Metric, baseline: str | None = None) -> list[Test]:
    """Test all pairs of runs, or all against one, by one metric: one family for the correction."""
    results = []
    pairs: Iterable[tuple[str, str]] = combinations(evaluation.runs, 2)
    if baseline is not None:
        pairs = ((run, baseline) for run in evaluation.runs if run != baseline)
    for a, b in pairs:
        x, y, languages = paired(evaluation, metric.name, a, b)
        p = p_value(evaluation.test, x, y, languages)
        results.append((a, b, p, significance.win_tie_loss(x, y)))
    if not results:
        return []
    ps = [p for _, _, p, _ in results]
    corrected = significance.correct(ps, evaluation.correction)  # type: ignore[arg-type]
    return [
        Test(a, b, metric.name, evaluation.test, p, float(q), bool(q <= evaluation.level), *wtl)
        for (a, b, p, wtl), q in zip(results, corrected, strict=True)
    ]
