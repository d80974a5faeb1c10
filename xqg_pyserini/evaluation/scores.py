"""Runs → scores by question: R@kt and measures of relevance, side by side.

A question that a run lacks counts as a miss; one that cannot be scored (no answer, no relevant passage) is left out and
reported.  Values come in, `results.Scores` come out; nothing is written.
"""

import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xqg_pyserini.data.answers import answer_finder, span_answers
from xqg_pyserini.data.columns import ColumnRun
from xqg_pyserini.data.ids import check_overlap, check_run, overlap_note, run_names
from xqg_pyserini.data.languages import NO_LANGUAGE, are_variants
from xqg_pyserini.data.readers import CorpusLike, QuestionsLike, as_corpus, as_questions, not_in_corpus
from xqg_pyserini.data.records import AnyRun, Passage, Qrels, Question
from xqg_pyserini.data.runs import QrelsLike, RunLike, as_qrels, as_run, opened_run
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.evaluation.measures import Judged, Metric, parse_metrics
from xqg_pyserini.evaluation.r_at_kt import RecallAtTokens
from xqg_pyserini.evaluation.results import ByMetric, RunScores, Scores
from xqg_pyserini.settings import option


@dataclass(frozen=True)
class ScoringSettings:
    """What runs are scored by."""

    metrics: tuple[str, ...] = option(
        ("R@2kt", "R@5kt"), "R@kt for any budget, and ranx's: ndcg@10, mrr@10, … (or trec_eval's names)", metavar="M"
    )
    official: bool = option(False, "leave out questions that a run lacks, as the official script does")
    all_topics: bool = option(
        False, "count questions that are judged and have no relevant passage, as 0 (trec_eval with -c)"
    )
    with_title: bool = option(False, "look for answers in titles as well")


def evaluate(
    runs: Mapping[str, RunLike] | Sequence[str | Path] | RunLike,
    questions: QuestionsLike,
    metrics: str | Sequence[str] = ScoringSettings.metrics,
    *,
    corpus: CorpusLike | None = None,
    qrels: QrelsLike | None = None,
    official: bool = ScoringSettings.official,
    all_topics: bool = ScoringSettings.all_topics,
    with_title: bool = ScoringSettings.with_title,
) -> Scores:
    """Score runs by R@kt and measures of relevance.

    Args:
        runs: name → run, run files (called as their files without the ending), or one run.  A run is {question: {docid:
            score}}, a TREC file, rows, or a DataFrame (`data.as_run`).
        questions: a file, or values (`data.as_questions`); R@kt and relevance derived from answers need their answers.
        metrics: `R@2kt`, `R@0.5kt`, … and ranx's: `ndcg@10`, `mrr@10`, `recall@100`, …; trec_eval's and ir_measures'
            names (`ndcg_cut_10`, `RR@10`) stand for these.
        corpus: a path, docid → text, or passages (`data.as_corpus`).  Needed for R@kt and, without `qrels`, for
            relevance: then a passage is relevant if its text holds an answer string as it stands.
        qrels: a TREC file, or {question: {docid: relevance}} (`data.as_qrels`).
        official: leave questions that a run lacks out of its count, as the official script does.
        all_topics: count a question that is judged and has no relevant passage as 0; else it is left out, and noted.
            So trec_eval's averages with -c are those of all topics, and without -c those of `official` besides.
        with_title: look for answers in title and text, not the text alone.

    Returns:
        The scores; `print` shows a table, `compare` tests the runs against each other.

    Raises:
        UserError: for what cannot be read, a measure that does not exist, two runs with one name, questions of which
            none can be scored, a passage that the corpus lacks.
    """
    metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    settings = ScoringSettings(metrics, official, all_topics, with_title)
    parse_metrics(metrics)  # before anything is read
    named = _named_runs(runs)
    for name, run in named.items():
        if tied := sum(map(_tied, run.with_ties() if isinstance(run, ColumnRun) else run.values())):
            stay = "stay as they are ranked; by score they would stand by docid, z to a, as trec_eval has them"
            warn(f"run {name}: equal scores of {tied} questions {stay}")
    return score_runs(named, as_questions(questions), settings, corpus, qrels)


def score_runs(
    runs: Mapping[str, AnyRun],
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
    others = [metric for metric in parsed if metric.budget is None]
    scores = Scores({run: ByMetric() for run in runs})
    derive = qrels is None and (bool(others) or relate)
    reading = corpus is not None and bool(budgets or derive)
    wanted = _look_through(scores.notes, questions, runs, settings.official, reading)
    answerable = _answerable(questions, bool(budgets) or derive, scores.notes)
    relevant = {} if qrels is None else _judged(as_qrels(qrels, negative=True), qrels, questions, runs)
    check_inputs(questions, parsed, corpus, qrels, relate)
    texts: dict[str, str] = {}
    if corpus is not None and reading:
        texts, derived = _read_texts(corpus, wanted, answerable if derive else {}, settings.with_title, _enough(parsed))
        relevant = {qid: derived.get(qid, {}) for qid in answerable} if derive else relevant
    scores.relevant = relevant
    languages = {q.id: q.language or NO_LANGUAGE for q in questions}
    scorer = RecallAtTokens(texts)
    levels = {metric.level for metric in others}
    judged = {level: counted(questions, relevant, settings.all_topics, level) for level in sorted(levels)}
    if others:
        if not any(judged.values()):
            raise UserError("no question has a relevant passage; nothing to score", about="all_topics")
        for level in judged:
            named = ", ".join(metric.name for metric in others if metric.level == level)
            notes = _left_out(questions, relevant, level, settings.all_topics, derive)
            scores.notes += [f"{named}: {note}" for note in notes]
        source = "derived from the answers in the corpus" if derive else called(qrels, "qrels", "qrels ")
        scored = len(counted(questions, relevant))
        scores.relevance = f"{source} ({scored} of {len(questions)} questions have a relevant passage)"
    any_judged = set().union(*judged.values())
    _look_at_languages(scores.notes, [q for q in questions if q.id in any_judged or (budgets and q.id in answerable)])
    for name, run in runs.items():
        by_name: dict[Any, dict[str, float]] = {}
        if budgets:
            by_name |= _r_at_kt(run, answerable, scorer, budgets)
        rankings = {qid: Judged.of(run.get(qid, ()), relevant[qid]) for qid in any_judged}
        for metric in others:
            by_name[metric.name] = {qid: metric.value(rankings[qid]) for qid in judged[metric.level]}
        for metric in parsed:
            values = by_name[metric.budget or metric.name]
            if settings.official:
                values = {q: v for q, v in values.items() if q in run}
            if not values:
                raise UserError(f"run {name}: no question can be scored by {metric.name}")
            scores.by_run[name][metric.name] = RunScores.of(values, languages, metric.binary)
    scores.notes += _languages_left_out(scores, settings.official)
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


def counted(questions: Sequence[Question], relevant: Qrels, all_topics: bool = False, level: int = 1) -> list[str]:
    """Return the ids of the questions with a passage of relevance `level`; with `all_topics`, of those judged."""
    judged = (question.id for question in questions if question.id in relevant)
    return [qid for qid in judged if all_topics or any(relevance >= level for relevance in relevant[qid].values())]


def _left_out(
    questions: Sequence[Question], relevant: Qrels, level: int, all_topics: bool, derived: bool
) -> Iterator[str]:
    """Yield how many questions measures of relevance rest on, where it is not all, or some can only be 0."""
    total = len(questions)
    judged = len(counted(questions, relevant, all_topics=True))
    empty = judged - len(counted(questions, relevant, level=level))
    lack = "that have no answer to look for" if derived else "that nobody judged"
    nothing = "no relevant passage" if level == 1 else f"no passage of relevance {level} or more"
    left_out = [f"{total - judged} {lack}"] if judged < total else []
    if all_topics and empty:
        yield f"{empty} of {judged} questions have {nothing} and count as 0"
    elif empty:
        left_out.append(f"{empty} with {nothing} (all_topics counts them as 0)")
    if left_out and (empty or not derived):  # those without answers have a note already
        rest = judged if all_topics else judged - empty
        yield f"{rest} of {total} questions are counted, without {' and '.join(left_out)}"
    if all_topics and (foreign := len(relevant.keys() - {question.id for question in questions})):
        yield f"{foreign} topics of the qrels are not among the questions and not counted"


def _languages_left_out(scores: Scores, official: bool) -> Iterator[str]:
    """Yield which languages have no part in an average, as none of their questions is scored."""
    absent: dict[str, dict[str, None]] = {}
    for run, by_metric in scores.by_run.items():
        for metric, of_run in by_metric.items():
            codes = [code for code in dict.fromkeys(of_run.languages.values()) if code not in of_run.by_language]
            if codes:
                absent.setdefault(" ".join(codes), {})[f"run {run}" if official else metric] = None
    for languages, names in absent.items():
        yield f"{', '.join(names)}: no question in {languages} is counted; the average is over the other languages"


def _look_at_languages(notes: list[str], questions: Sequence[Question]) -> None:
    """Note and warn where what counts as a language in the average is not what one would call one."""
    counts = Counter(question.language or NO_LANGUAGE for question in questions)
    if len(counts) == 1:
        return
    found = []
    if unknown := counts.pop(NO_LANGUAGE, 0):
        together = "together they weigh as much in the average as any language"
        found.append(f"{unknown} of {len(questions)} questions have no language: {together}")
    alike: list[list[str]] = []
    for code in counts:
        group = next((codes for codes in alike if are_variants(codes[0], code)), None)
        if group is None:
            alike.append([code])
        else:
            group.append(code)
    for codes in alike:
        if len(codes) > 1:
            found.append(f"{' and '.join(codes)} look like one language, and count as {len(codes)} in the average")
    for note in found:
        warn(note)
    notes += found


def _named_runs(runs: Any) -> dict[str, AnyRun]:
    """Return name → run of all that `evaluate` takes for runs."""
    if isinstance(runs, str | os.PathLike):
        runs = [runs]
    if isinstance(runs, Mapping) and runs:
        # a run's values are {docid: score}; what names runs has anything else
        hits: Any = next((hits for hits in runs.values() if not isinstance(hits, Mapping) or hits), {})
        if isinstance(hits, Mapping) and all(_is_number(score) for score in hits.values()):
            return {"run": as_run(runs)}
        return {str(name): opened_run(run) for name, run in runs.items()}
    if hasattr(runs, "itertuples"):
        return {"run": as_run(runs)}
    values = list(runs)
    if not values:
        raise UserError("no run to evaluate", about="runs")
    if not all(isinstance(value, str | os.PathLike) for value in values):
        return {"run": as_run(values)}
    return {name: opened_run(path) for name, path in zip(run_names(values), values, strict=True)}


def _tied(hits: Mapping[str, float]) -> bool:
    """Tell whether equal scores stand in another order than trec_eval's."""
    return any(a[1] == b[1] and a[0] < b[0] for a, b in pairwise(hits.items()))


def _is_number(value: Any) -> bool:
    return not isinstance(value, str | Mapping) and hasattr(value, "__float__")


def called(source: Any, otherwise: str = "the corpus", before: str = "") -> str:
    """Return what to call an input: its path, or what it is."""
    return f"{before}{source}" if isinstance(source, str | os.PathLike) else otherwise


def _look_through(
    notes: list[str], questions: Sequence[Question], runs: Mapping[str, AnyRun], official: bool, reading: bool
) -> dict[str, str]:
    """Note which questions runs lack; for `reading`, return the passages that are retrieved, each with a run."""
    ids = {question.id for question in questions}
    wanted: dict[str, str] = {}
    for name, run in runs.items():
        if reading:
            wanted |= {docid: name for hits in run.values() for docid in hits}
        missing = len(ids - run.keys())
        check_run(run, ids, f"run {name}")
        if missing:
            what = "left out" if official else "counted as misses"
            notes.append(f"run {name} lacks {missing} of {len(ids)} questions, {what}")
    return wanted


def _judged(judged: Qrels, source: QrelsLike, questions: Sequence[Question], runs: Mapping[str, AnyRun]) -> Qrels:
    """Return qrels that share ids with the questions and the runs; warn where they share few or no passages."""
    name = called(source, "the qrels")
    check_overlap({question.id for question in questions}, judged, "the questions", name, "question ids")
    docids = {docid for qid in judged for docid in judged[qid]}
    for run, of_run in runs.items():
        if any(docid in docids for qid in judged for docid in of_run.get(qid, ())):
            continue
        if hits := {docid for qid in judged for docid in of_run.get(qid, ())}:
            warn(str(overlap_note(docids, hits, name, f"run {run}", "docids")))
    return judged


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
    if missing := [docid for docid in wanted if docid not in texts]:
        raise not_in_corpus(missing, f"run {wanted[missing[0]]}", corpus)
    for qid, count in counts.items():
        # those that no run retrieved count, but by their number alone: it bounds the ideal ranking
        known = relevant.setdefault(qid, {})
        unseen = count if enough is None else min(count, enough)
        known |= {f"unseen {i}": 1 for i in range(unseen - len(known))}
    return texts, relevant


def _enough(metrics: Sequence[Metric]) -> int | None:
    """Return how many relevant passages can matter to all the metrics; None where all can."""
    others = [metric for metric in metrics if metric.budget is None and metric.kind != "mrr"]
    if not all(metric.cut and metric.kind in ("ndcg", "ndcg_burges", "precision", "hit_rate") for metric in others):
        return None
    return max([1, *(metric.cut or 1 for metric in others)])


def _r_at_kt(
    run: AnyRun, answerable: Mapping[str, list[str]], scorer: RecallAtTokens, budgets: Sequence[int]
) -> dict[Any, dict[str, float]]:
    values: dict[Any, dict[str, float]] = {budget: {} for budget in budgets}
    for qid, answers in tqdm(answerable.items(), "R@kt", unit=" questions", disable=None):
        hits = scorer.hits(list(run.get(qid, ())), answers, budgets)
        for budget, hit in zip(budgets, hits, strict=True):
            values[budget][qid] = int(hit)
    return values
