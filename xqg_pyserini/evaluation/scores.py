"""Runs → scores by question: R@kt and ranx's measures, side by side.

A question that a run lacks counts as a miss; one that cannot be scored (no answer, no relevant passage) is left out and
reported.  Values come in, `results.Scores` come out; nothing is written.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from xqg_pyserini.data.answers import answer_finder, span_answers
from xqg_pyserini.data.languages import NO_LANGUAGE
from xqg_pyserini.data.readers import CorpusLike, QuestionsLike, as_corpus, as_questions
from xqg_pyserini.data.records import Passage, Question, Run
from xqg_pyserini.data.runs import QrelsLike, RunLike, as_qrels, as_run
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.evaluation.r_at_kt import RecallAtTokens
from xqg_pyserini.evaluation.results import RunScores, Scores, is_binary
from xqg_pyserini.settings import option

_TOKENS = re.compile(r"R@(\d+(?:\.\d+)?)kt", re.IGNORECASE)
_RANX = re.compile(
    r"((hit_rate|precision|recall|f1|r-precision|mrr|map|ndcg|ndcg_burges|bpref)(@[1-9]\d*)?"
    r"|rbp\.[1-9]\d?)(-l[1-9]\d*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ScoringSettings:
    """What runs are scored by."""

    metrics: tuple[str, ...] = option(
        ("R@2kt", "R@5kt"), "R@kt for any budget, and ranx's: ndcg@10, mrr@10, …", metavar="M"
    )
    official: bool = option(False, "leave out questions that a run lacks, as the official script does")
    with_title: bool = option(False, "look for answers in titles as well")


class Metric(NamedTuple):
    """A measure: R@kt with its budget in tokens, or one of ranx's (budget None)."""

    name: str
    budget: int | None


def parse_metric(name: str) -> Metric:
    """Return the metric that a name stands for: `R@2kt`, `R@0.5kt`, or ranx's (`ndcg@10`)."""
    if tokens := _TOKENS.fullmatch(name):
        budget = round(float(tokens[1]) * 1000)
        if budget < 1:
            raise UserError(f"metric {name!r}: a budget of no token; expected e.g. R@2kt or R@0.5kt")
        return Metric(name, budget)
    if _RANX.fullmatch(name):
        return Metric(name, None)
    raise UserError(
        f"unknown metric {name!r}: expected R@2kt, R@5kt, R@0.5kt …, or one of ranx's: ndcg@10, "
        "mrr@10, recall@100, map, precision@5, hit_rate@1, …"
    )


def evaluate(
    runs: Mapping[str, RunLike] | Sequence[str | Path] | RunLike,
    questions: QuestionsLike,
    metrics: str | Sequence[str] = ScoringSettings.metrics,
    *,
    corpus: CorpusLike | None = None,
    qrels: QrelsLike | None = None,
    official: bool = ScoringSettings.official,
    with_title: bool = ScoringSettings.with_title,
) -> Scores:
    """Score runs by R@kt and ranx's measures.

    Args:
        runs: name → run, run files (called as their files without the ending), or one run.  A run is {question: {docid:
            score}}, a TREC file, rows, or a DataFrame (`data.as_run`).
        questions: a file, or values (`data.as_questions`); R@kt and relevance derived from answers need their answers.
        metrics: `R@2kt`, `R@0.5kt`, … and ranx's names: `ndcg@10`, `mrr@10`, `recall@100`, …
        corpus: a path, docid → text, or passages (`data.as_corpus`).  Needed for R@kt and, without `qrels`, for
            relevance: then a passage is relevant if its text holds an answer string as it stands.
        qrels: a TREC file, or {question: {docid: relevance}} (`data.as_qrels`).
        official: leave questions that a run lacks out of its count, as the official script does.
        with_title: look for answers in title and text, not the text alone.

    Returns:
        The scores; `print` shows a table, `compare` tests the runs against each other.

    Raises:
        UserError: for what cannot be read, a measure that does not exist, two runs with one name, questions of which
            none can be scored, a passage that the corpus lacks.
    """
    metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    settings = ScoringSettings(metrics, official, with_title)
    parse_metrics(metrics)  # before anything is read
    return score_runs(_named_runs(runs), as_questions(questions), settings, corpus, qrels)


def score_runs(
    runs: Mapping[str, Run],
    questions: Sequence[Question],
    settings: ScoringSettings,
    corpus: CorpusLike | None = None,
    qrels: QrelsLike | None = None,
    *,
    relate: bool = False,
) -> Scores:
    """Score runs as `evaluate` does; each is looked up by its name when it is needed.

    `relate` derives from the answers which passages are relevant (`Scores.relevant`) though no metric looks at it.
    """
    parsed = parse_metrics(settings.metrics)
    budgets = [metric.budget for metric in parsed if metric.budget is not None]
    others = [metric.name for metric in parsed if metric.budget is None]
    scores = Scores({run: {} for run in runs})
    wanted = _look_through(scores.notes, questions, runs, settings.official)
    derive = qrels is None and (bool(others) or relate)
    answerable = _answerable(questions, bool(budgets) or derive, scores.notes)
    relevant = {} if qrels is None else as_qrels(qrels)
    check_inputs(questions, parsed, corpus, qrels, relate)
    texts: dict[str, str] = {}
    if corpus is not None and (budgets or derive):
        texts, derived = _read_texts(corpus, wanted, answerable if derive else {}, settings.with_title, _enough(parsed))
        relevant = derived if derive else relevant
    scores.relevant = relevant
    languages = {q.id: q.language or NO_LANGUAGE for q in questions}
    scorer = RecallAtTokens(texts)
    ranx = _Ranx(questions, relevant) if others else None
    for name, run in runs.items():
        by_name: dict[Any, dict[str, float]] = {}
        if budgets:
            by_name |= _r_at_kt(run, answerable, scorer, budgets)
        if ranx is not None:
            by_name |= ranx.scores(run, others)
        for metric in parsed:
            values = by_name[metric.budget or metric.name]
            if settings.official:
                values = {q: v for q, v in values.items() if q in run}
            if not values:
                raise UserError(f"run {name}: no question can be scored by {metric.name}")
            scores.by_run[name][metric.name] = RunScores.of(values, languages, is_binary(metric.name))
    if others:
        source = "derived from the answers in the corpus" if qrels is None else called(qrels, "qrels", "qrels ")
        scored = sum(1 for q in questions if any(relevant.get(q.id, {}).values()))
        scores.relevance = f"{source} ({scored} of {len(questions)} questions have a relevant passage)"
    return scores


def r_at_kt(
    run: RunLike,
    questions: QuestionsLike,
    corpus: CorpusLike,
    budgets: Sequence[int] = (2000, 5000),
    *,
    with_title: bool = False,
) -> dict[int, RunScores]:
    """Score one run by R@kt: whether an answer is within the first tokens retrieved.

    A question that the run lacks is a miss; one without an answer to look for is not counted.

    Args:
        run: one run, as for `evaluate`.
        questions: with their answers.
        corpus: where the passages' texts are.
        budgets: numbers of tokens; R@2kt is 2000.
        with_title: look for answers in title and text, not the text alone.

    Returns:
        budget → scores: `.macro` (0-100), `.by_language`, `.by_question` (0 or 1).

    Raises:
        UserError: as `evaluate`.
    """
    names = {budget: f"R@{budget / 1000:g}kt" for budget in budgets}
    scores = evaluate({"run": run}, questions, tuple(names.values()), corpus=corpus, with_title=with_title)
    return {budget: scores["run"][name] for budget, name in names.items()}


def parse_metrics(names: Sequence[str]) -> list[Metric]:
    """Return the metrics, or raise `UserError` where one is unknown or comes twice."""
    metrics = [parse_metric(name) for name in names]
    if not metrics or len({metric.name.lower() for metric in metrics}) < len(metrics):
        raise UserError("give each metric once, and at least one", about="metrics")
    return metrics


def check_inputs(
    questions: Sequence[Question],
    metrics: Sequence[Metric],
    corpus: CorpusLike | None,
    qrels: QrelsLike | None,
    relate: bool = False,
) -> None:
    """Raise `UserError` where the metrics look for answers and there are none, or no texts."""
    budgets = any(metric.budget is not None for metric in metrics)
    derive = qrels is None and (relate or any(metric.budget is None for metric in metrics))
    if budgets or derive:
        _answerable(questions, True, [])
        if corpus is None and budgets:
            raise UserError("R@kt needs the passages' texts: give the corpus", about="corpus")
        if corpus is None:
            needs = "relevance derived from the answers needs the passages' texts: give the corpus, or qrels"
            raise UserError(needs, about=("corpus", "qrels"))


def run_name(path: str | Path) -> str:
    """Return a run's name: its file's name without its ending."""
    return Path(Path(path).name.removesuffix(".gz")).stem


def named_paths(paths: Iterable[str | Path]) -> dict[str, str | Path]:
    """Return run files by their runs' names; raise `UserError` where two have one name."""
    named: dict[str, str | Path] = {}
    for path in paths:
        name = run_name(path)
        if name in named:
            raise UserError(f"{named[name]} and {path} are both the run {name!r}; rename one")
        named[name] = path
    return named


def _named_runs(runs: Any) -> dict[str, Run]:
    """Return name → run of all that `evaluate` takes for runs."""
    if isinstance(runs, str | Path):
        return {run_name(runs): as_run(runs)}
    if isinstance(runs, Mapping) and runs:
        # a run's values are {docid: score}; what names runs has anything else
        hits: Any = next((hits for hits in runs.values() if not isinstance(hits, Mapping) or hits), {})
        if isinstance(hits, Mapping) and all(_is_number(score) for score in hits.values()):
            return {"run": as_run(runs)}
        return {str(name): as_run(run) for name, run in runs.items()}
    if hasattr(runs, "itertuples"):
        return {"run": as_run(runs)}
    values = list(runs)
    if not values:
        raise UserError("no run to evaluate", about="runs")
    if not all(isinstance(value, str | Path) for value in values):
        return {"run": as_run(values)}
    return {name: as_run(path) for name, path in named_paths(values).items()}


def _is_number(value: Any) -> bool:
    return not isinstance(value, str | Mapping) and hasattr(value, "__float__")


def called(source: Any, otherwise: str = "the corpus", before: str = "") -> str:
    """Return what to call an input: its path, or what it is."""
    return f"{before}{source}" if isinstance(source, str | Path) else otherwise


def _look_through(
    notes: list[str], questions: Sequence[Question], runs: Mapping[str, Run], official: bool
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
            notes.append(f"run {name} lacks {missing} of {len(ids)} questions, {what}")
        if foreign:
            warn(f"run {name} has {foreign} questions that the questions file does not; left out")
    return wanted


def _answerable(questions: Sequence[Question], needed: bool, notes: list[str]) -> dict[str, list[str]]:
    """Return the questions that have answers to look for, with these."""
    if not needed:
        return {}
    answers = {question.id: span_answers(question.answers) for question in questions}
    answerable = {qid: strings for qid, strings in answers.items() if strings}
    if not answerable:
        lacks = "no question has an answer to look for (answers, other than yes and no)"
        raise UserError(f"{lacks}: R@kt and relevance derived from answers need them")
    if without := len(answers) - len(answerable):
        notes.append(f"{without} of {len(answers)} questions have no answer to look for and are not counted")
    return answerable


def read_passages(corpus: CorpusLike, wanted: Container[str]) -> Iterator[tuple[Passage, bool]]:
    """Yield all passages of a corpus, and whether each is wanted; `UserError` where one of these comes twice."""
    seen = set()
    for line, passage in tqdm(as_corpus(corpus), "reading", unit=" passages", disable=None):
        is_wanted = passage.id in wanted
        if is_wanted and passage.id in seen:
            raise line.error(f"passage id {passage.id!r} again; ids must be unique")
        if is_wanted:
            seen.add(passage.id)
        yield passage, is_wanted


def _read_texts(
    corpus: CorpusLike,
    wanted: Mapping[str, str],
    answers: Mapping[str, list[str]],
    with_title: bool,
    enough: int | None,
) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Read the corpus once: the wanted texts, and which passages hold which questions' answers.

    Relevant passages that no run retrieved are only counted: at most `enough` of a question's.
    """
    texts: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    counts: Counter[str] = Counter()
    find = answer_finder(answers)
    for passage, is_wanted in read_passages(corpus, wanted):
        text = passage.full if with_title else passage.text
        if is_wanted:
            texts[passage.id] = text
        for qid in find(text):
            counts[qid] += 1
            if is_wanted:
                relevant.setdefault(qid, {})[passage.id] = 1
    for docid, run in wanted.items():
        if docid not in texts:
            raise UserError(f"run {run}: passage {docid!r} is not in {called(corpus)}")
    for qid, count in counts.items():
        # those that no run retrieved count, but by their number alone: it bounds the ideal ranking
        known = relevant.setdefault(qid, {})
        unseen = count if enough is None else min(count, enough)
        known |= {f"unseen {i}": 1 for i in range(unseen - len(known))}
    return texts, relevant


def _enough(metrics: Sequence[Metric]) -> int | None:
    """Return how many relevant passages can matter to all the metrics; None where all can."""
    enough = 1
    for name in (metric.name.lower() for metric in metrics if metric.budget is None):
        shallow = re.fullmatch(r"(?:ndcg|ndcg_burges|precision|hit_rate)@(\d+)", name)
        if not shallow and not name.startswith("mrr"):
            return None
        enough = max(enough, int(shallow[1]) if shallow else 1)
    return enough


def _r_at_kt(
    run: Run, answerable: Mapping[str, list[str]], scorer: RecallAtTokens, budgets: Sequence[int]
) -> dict[Any, dict[str, float]]:
    values: dict[Any, dict[str, float]] = {budget: {} for budget in budgets}
    for qid, answers in tqdm(answerable.items(), "R@kt", unit=" questions", disable=None):
        hits = scorer.hits(list(run.get(qid, ())), answers, budgets)
        for budget, hit in zip(budgets, hits, strict=True):
            values[budget][qid] = int(hit)
    return values


class _Ranx:
    """ranx without its `Qrels` and `Run`, which sort typed dictionaries: that takes longer than all scoring."""

    def __init__(self, questions: Sequence[Question], relevant: Mapping[str, dict[str, int]]) -> None:
        judged = {q.id: relevant[q.id] for q in questions if any(relevant.get(q.id, {}).values())}
        if not judged:
            raise UserError("no question has a relevant passage; nothing for ranx to score")
        from ranx.utils import python_dict_to_typed_list

        self._judged = list(judged)
        self._arrays = python_dict_to_typed_list
        best_first = {qid: dict(sorted(docids.items(), key=lambda item: -item[1])) for qid, docids in judged.items()}
        self._relevant = self._arrays(best_first, sort=False)

    def scores(self, run: Run, metrics: Sequence[str]) -> dict[Any, dict[str, float]]:
        """Score a run: by the run's ranks, over all questions with a relevant passage."""
        import ranx

        # by rank, since scores may tie; no docid holds white space, so " " is never relevant
        ranked = {
            qid: {docid: -float(i) for i, docid in enumerate(run.get(qid, ()))} or {" ": 0.0} for qid in self._judged
        }
        hits = self._arrays(ranked, sort=False)
        names = [metric.lower() for metric in metrics]  # nDCG@10 is ranx's ndcg@10
        # a metric alone, of arrays, ranx looks up by a wrong name: one is given twice
        by_name = ranx.evaluate(self._relevant, hits, [*names, names[0]], return_mean=False)
        values = {}
        for metric, name in zip(metrics, names, strict=True):
            values[metric] = dict(zip(self._judged, map(float, by_name[name]), strict=True))
            if any(value != value for value in values[metric].values()):
                raise UserError(f"{metric} is not defined here: it needs passages judged not relevant")
        return values
