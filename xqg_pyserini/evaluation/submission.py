"""XOR-Retrieve leaderboard files: a list of `{"id", "lang", "ctxs": [text, …]}`, best first."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from xqg_pyserini.data.ids import check_overlap, check_run
from xqg_pyserini.data.languages import language_fault, same_language
from xqg_pyserini.data.readers import CorpusLike, QuestionsLike, as_corpus, as_questions, not_in_corpus
from xqg_pyserini.data.records import Question
from xqg_pyserini.data.rows import parse_json
from xqg_pyserini.data.runs import RunLike, as_run
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.evaluation.r_at_kt import RecallAtTokens
from xqg_pyserini.evaluation.scores import called, read_passages
from xqg_pyserini.files import read_lines, writing
from xqg_pyserini.settings import option

TOKENS = 5000  # what R@5kt looks at


@dataclass(frozen=True)
class SubmissionSettings:
    """How the leaderboard file is written."""

    with_title: bool = option(False, "write title and text, not text alone")


class Submission(NamedTuple):
    """What is in a file: entries, and how many have fewer than `TOKENS` tokens."""

    questions: int
    languages: dict[str, int]
    short: int


def write_submission(
    questions: QuestionsLike,
    run: RunLike,
    corpus: CorpusLike,
    output: str | Path,
    with_title: bool = SubmissionSettings.with_title,
) -> Submission:
    """Write a run as an XOR-Retrieve file, all questions in it, texts from the corpus.

    A question that the run lacks gets no text, so that it counts as a miss; a warning counts these, and those with
    fewer tokens than R@5kt looks at.

    Raises:
        UserError: for a question without language, a passage that the corpus does not hold.
    """
    questions, run = as_questions(questions), as_run(run)
    for question in questions:
        if question.language is None:
            lacks = f"question {question.id!r} has no language"
            raise UserError(f"{lacks}: give one for all, or questions with lang", about="language")
    rankings = {q.id: list(run.get(q.id, ())) for q in questions}
    wanted = {docid for ranking in rankings.values() for docid in ranking}
    check_run(run, rankings, "the run")
    if not wanted:
        raise UserError("the run has no hit for any of the questions")
    passages = (passage for passage, is_wanted in read_passages(corpus, wanted) if is_wanted)
    texts = {passage.id: passage.full if with_title else passage.text for passage in passages}
    if missing := sorted(wanted - texts.keys()):
        raise not_in_corpus(missing, "the run", corpus)
    with writing(output) as file:
        for i, q in enumerate(questions):
            entry = {"id": q.id, "lang": q.language, "ctxs": [texts[docid] for docid in rankings[q.id]]}
            file.write(("[\n" if i == 0 else ",\n") + json.dumps(entry, ensure_ascii=False))
        file.write("\n]\n")
    if absent := sum(1 for question in questions if question.id not in run):
        warn(f"the run lacks {absent} of {len(questions)} questions: they are written without texts")
    return _summary([(str(q.language), rankings[q.id]) for q in questions], RecallAtTokens(texts))


def _summary(entries: Sequence[tuple[str, list[str]]], scorer: RecallAtTokens) -> Submission:
    short = sum(1 for _, ranking in entries if scorer.token_count(ranking, TOKENS) < TOKENS)
    if short:
        lack = f"{short} of {len(entries)} questions have fewer than {TOKENS} tokens of text"
        warn(f"{lack}; R@5kt looks at as many (search with more --hits)")
    return Submission(len(entries), dict(Counter(language for language, _ in entries)), short)


def check_submission(path: str | Path, questions: QuestionsLike, corpus: CorpusLike | None = None) -> Submission:
    """Validate an XOR-Retrieve file against the questions and, if given, the corpus.

    Every question must be there once with its language, and every text must be a passage's (its text, or title and
    text).  Too few tokens for R@5kt are a warning.

    Raises:
        UserError: for the first thing that is wrong.
    """
    entries = _read_entries(Path(path))
    known = {question.id: question for question in as_questions(questions)}
    ids = {entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)}
    check_overlap(ids, known, str(path), "the questions", "question ids")
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        _check_entry(f"{path}, entry {i + 1}", entry, known, seen)
    if missing := [qid for qid in known if qid not in seen]:
        raise UserError(f"{path}: {len(missing)} questions are missing, the first is {missing[0]!r}")
    if corpus is not None:
        _check_texts(Path(path), entries, corpus)
    texts = [(entry["lang"], entry["ctxs"]) for entry in entries]
    return _summary(texts, RecallAtTokens(lambda text: text))


def _read_entries(path: Path) -> list[Any]:
    lines, form = list(read_lines(path)), 'a list of {"id", "lang", "ctxs"}'
    text = "\n".join(line.text for line in lines)
    entries = parse_json(lines[0], text, object, form) if lines else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: expected {form}")
    return entries


def _check_entry(where: str, entry: Any, known: dict[str, Question], seen: set[str]) -> None:
    if not isinstance(entry, dict) or not {"id", "lang", "ctxs"} <= set(entry):
        raise UserError(f"{where}: expected an object with id, lang and ctxs")
    qid, texts = entry["id"], entry["ctxs"]
    if not isinstance(qid, str) or qid not in known:
        hint = "; ids are strings, in quotes" if str(qid) in known else ""
        raise UserError(f"{where}: {qid!r} is not an id of the questions file{hint}")
    if qid in seen:
        raise UserError(f"{where}: question {qid!r} again")
    seen.add(qid)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: the ctxs of {qid!r} are not a list of strings")
    expected, language = known[qid].language, entry["lang"]
    fault = language_fault(language)
    if expected is not None and (fault or not same_language(language, expected)):
        raise UserError(f"{where}: question {qid!r} is {expected!r}, not {language!r}")
    if fault:
        raise UserError(f"{where}: {fault}")


def _check_texts(path: Path, entries: Iterable[Any], corpus: CorpusLike) -> None:
    wanted = {_digest(text): entry["id"] for entry in entries for text in entry["ctxs"]}
    for _, passage in tqdm(as_corpus(corpus), "reading", unit=" passages", disable=None):
        wanted.pop(_digest(passage.text), None)
        wanted.pop(_digest(passage.full), None)
    if wanted:
        qid = next(iter(wanted.values()))
        raise UserError(f"{path}: a text of question {qid!r} is no passage of {called(corpus)}")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
