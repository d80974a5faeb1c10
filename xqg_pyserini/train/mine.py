"""Hard negatives: what a run ranks high and is not relevant, written as training data.

Which passages hold an answer is decided as `xqg evaluate` decides it.  What is held in memory is the run and where each
retrieved passage's text lies; the texts themselves lie on disk, in a file without a name that goes when the command
ends, however it ends.
"""

import hashlib
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from tqdm import tqdm

from xqg_pyserini import data
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import check_file, writing
from xqg_pyserini.settings import check_values, option

Ranking = Mapping[str, float]  # docid → score, best first


@dataclass(frozen=True)
class MiningSettings:
    """What is taken from a run; each field's help says what it is.

    Raises:
        UserError: for a value that the field does not take, a depth that leaves no negatives.
    """

    negatives: int = option(7, "of a question", least=0, metavar="N")
    positives: int | None = option(
        None, "at most so many of a question: those that the run ranks highest (default: all)", least=1, metavar="N"
    )
    depth: int = option(100, "hits to look at", least=1, metavar="K")
    skip: int = option(0, "no negative from the first K hits", least=0, metavar="K")
    margin: float | None = option(
        None,
        "no negative whose score is not at least D below that of the best positive in the run",
        least=0,
        metavar="D",
    )
    sample: str = option("random", "the highest negatives, or some at random", *("top", "random"))
    seed: int = option(42, "of random negatives", least=0)
    keep_short: bool = option(False, "keep questions with fewer negatives than asked for (default: left out)")
    with_title: bool = option(False, "look for answers in titles too")
    scores: bool = option(
        False,
        "write the run's scores, positives first, then negatives, for distillation; "
        "positives that the run lacks are left out",
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.skip >= self.depth and self.negatives:
            raise UserError(
                f"skipping {self.skip} leaves no hit of a depth of {self.depth} for negatives; "
                "look deeper or skip fewer",
                ("skip", "depth"),
            )


@dataclass
class Mined:
    """What was written, and which questions were not."""

    output: str
    questions: int
    run: str
    settings: MiningSettings
    written: int = 0
    positives: int = 0
    negatives: int = 0
    not_in_run: int = 0  # left out
    without_positive: int = 0  # left out
    without_score: int = 0  # no positive is in the run, which scores and a margin take; left out
    short: int = 0  # fewer negatives than asked for; left out unless keep_short
    languages: dict[str, int] = field(default_factory=dict)  # written ones

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self)


class _Texts:
    """The texts of some passages, on disk; in memory, where each one's lies."""

    def __init__(self, file: IO[bytes], corpus: data.CorpusLike, wanted: Mapping[str, str]) -> None:
        self._file = file
        self._places: dict[str, int] = {}
        end = 0
        for line, passage in tqdm(data.as_corpus(corpus), "reading", unit=" passages", disable=None):
            if passage.id in wanted:
                if passage.id in self._places:
                    raise line.error(f"passage id {passage.id!r} again; ids must be unique")
                self._places[passage.id] = end
                record = json.dumps([passage.title, passage.text], ensure_ascii=False)
                end += file.write(record.encode() + b"\n")
        if missing := [docid for docid in wanted if docid not in self._places]:
            raise data.not_in_corpus(missing, wanted[missing[0]], corpus)

    def __getitem__(self, docid: str) -> tuple[str, str]:
        """Return title and text."""
        self._file.seek(self._places[docid])
        title, text = json.loads(self._file.readline())
        return title, text


class _Chosen(NamedTuple):
    """A question's passages, and the counter of `Mined` that it belongs to, if any."""

    positives: list[str]
    negatives: list[str]
    reason: str | None


def mine_negatives(
    questions: data.QuestionsLike,
    corpus: data.CorpusLike,
    run: data.RunLike,
    output: str | Path,
    settings: MiningSettings | None = None,
    *,
    qrels: data.QrelsLike | None = None,
    language: str | None = None,
) -> Mined:
    """Write training data: for each question its positives and negatives, texts included.

    Positives are the relevant passages of `qrels`, those in the run first, by rank; without `qrels` the hits within the
    depth that hold an answer.  Negatives are hits within the depth, beyond the first `skip`, that are no positive of
    the qrels and hold no answer, by rank.  Questions are written in their order; random negatives depend on the seed
    and the question's id only.  `language` is given to questions that name none.

    Raises:
        UserError: for a passage that the corpus lacks, a run for other questions, questions none of which can be
            written, any bad file.
    """
    settings = settings or MiningSettings()
    inputs = data.paths_of(questions, corpus, run, qrels)
    check_file(output, inputs)
    asked = data.as_questions(questions, language)
    relevant = None if qrels is None else data.as_qrels(qrels)
    name = _name(run, "the run")
    hits = _of_questions(data.as_run(run), asked, name)
    wanted = _wanted(asked, hits, relevant, settings.depth, (name, _name(qrels, "the qrels")))
    mined = Mined(str(output), len(asked), name, settings)
    counts: Counter[str] = Counter()
    with writing(output) as file, _spool(output) as spool:
        texts = _Texts(spool, corpus, wanted)
        for question in tqdm(asked, "mining", unit=" questions", disable=None):
            ranking = hits.get(question.id, {})
            positives = None if relevant is None else relevant.get(question.id, {})
            chosen = _choose(question, ranking, positives, texts, settings)
            if chosen.reason is not None:
                setattr(mined, chosen.reason, getattr(mined, chosen.reason) + 1)
            if chosen.reason is None or (chosen.reason == "short" and settings.keep_short):
                record = _record(question, chosen, ranking, texts, settings)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                counts[question.language or data.NO_LANGUAGE] += 1
                mined.positives += len(chosen.positives)
                mined.negatives += len(chosen.negatives)
        mined.written, mined.languages = counts.total(), dict(sorted(counts.items()))
        if not mined.written:
            raise UserError(
                f"none of the {mined.questions} questions can be written: {mined.not_in_run} are not in the run, "
                f"{mined.without_positive} have no positive passage, {mined.without_score} none in the run, "
                f"{mined.short} fewer than {settings.negatives} negatives "
                "(look deeper, ask for fewer, or keep short ones)",
                ("depth", "negatives", "keep_short"),
            )
    return mined


def _spool(output: str | Path) -> Any:
    """Open a file for the texts beside the output; elsewhere where that is a pipe or a device."""
    beside = not Path(output).exists() or Path(output).is_file()
    return tempfile.TemporaryFile(dir=Path(output).resolve().parent if beside else None)


def _name(source: Any, otherwise: str) -> str:
    """Return how errors call an input: by its path, where it has one."""
    return str(source) if isinstance(source, str | os.PathLike) else otherwise


def _of_questions(run: data.Run, asked: Sequence[data.Question], name: str) -> data.Run:
    """Return the part of a run that belongs to the questions; warn about the rest."""
    ids = {question.id for question in asked}
    hits = {qid: ranking for qid, ranking in run.items() if qid in ids}
    data.check_run(run, ids, name)
    return hits


def _wanted(
    asked: Iterable[data.Question], run: data.Run, relevant: data.Qrels | None, depth: int, names: tuple[str, str]
) -> dict[str, str]:
    """Return the passages whose texts are needed, each with what names it: the run, the qrels."""
    wanted: dict[str, str] = {}
    for question in asked:
        if question.id in run:
            judged = (relevant or {}).get(question.id, {})
            positives = (docid for docid, relevance in judged.items() if relevance)
            wanted |= dict.fromkeys(positives, names[1])
            wanted |= dict.fromkeys(islice(run[question.id], depth), names[0])
    return wanted


def _choose(
    question: data.Question, ranking: Ranking, judged: Mapping[str, int] | None, texts: _Texts, settings: MiningSettings
) -> _Chosen:
    """Return a question's positives and negatives; `judged` is None where there are no qrels."""
    within = list(islice(ranking, settings.depth))
    answered = _answered(question, within, texts, settings.with_title)
    if judged is None:
        positives = [docid for docid in within if docid in answered]
    else:
        ranks = {docid: rank for rank, docid in enumerate(ranking)}
        relevant = (docid for docid, relevance in judged.items() if relevance)
        # those that the run lacks come last, in the order of their ids
        positives = sorted(relevant, key=lambda docid: (ranks.get(docid, len(ranks)), docid))
    barred = answered.union(positives)
    candidates = [docid for docid in within[settings.skip :] if docid not in barred]
    best = max((ranking[docid] for docid in positives if docid in ranking), default=None)
    reason = _reason(ranking, positives, best, settings)
    if reason is not None:
        return _Chosen([], [], reason)
    if settings.scores:
        positives = [docid for docid in positives if docid in ranking]
    if settings.margin is not None and best is not None:
        candidates = [docid for docid in candidates if ranking[docid] <= best - settings.margin]
    short = "short" if len(candidates) < settings.negatives else None
    negatives = _drawn(question.id, candidates, settings)
    return _Chosen(positives[: settings.positives], negatives, short)


def _reason(ranking: Ranking, positives: Sequence[str], best: float | None, settings: MiningSettings) -> str | None:
    """Return why a question must be left out; None where it need not be."""
    if not ranking:
        return "not_in_run"
    if not positives:
        return "without_positive"
    needs_score = settings.scores or settings.margin is not None
    return "without_score" if needs_score and best is None else None


def _answered(question: data.Question, docids: Iterable[str], texts: _Texts, with_title: bool) -> set[str]:
    """Return the passages that hold an answer; none, where there is none to find."""
    answers = data.span_answers(question.answers)
    if not answers:
        return set()
    find = data.answer_finder({question.id: answers})
    read = ((docid, *texts[docid]) for docid in docids)  # one at a time: they may be long
    return {docid for docid, title, text in read if find(f"{title} {text}" if with_title and title else text)}


def _drawn(qid: str, candidates: list[str], settings: MiningSettings) -> list[str]:
    """Return the negatives among the candidates, in the order of these."""
    if settings.sample == "random":
        digest = hashlib.blake2b(f"{settings.seed}\0{qid}".encode(), digest_size=16).digest()
        draws = random.Random(int.from_bytes(digest))
        order = sorted((draws.random(), i) for i in range(len(candidates)))
        candidates = [candidates[i] for i in sorted(i for _, i in order[: settings.negatives])]
    return candidates[: settings.negatives]


def _record(
    question: data.Question, chosen: _Chosen, ranking: Ranking, texts: _Texts, settings: MiningSettings
) -> dict[str, Any]:
    record: dict[str, Any] = {"query_id": question.id, "query": question.text}
    if question.language is not None:
        record["language"] = question.language
    if question.answers:
        record["answers"] = list(question.answers)
    for name, docids in (("positive_passages", chosen.positives), ("negative_passages", chosen.negatives)):
        read = [(docid, *texts[docid]) for docid in docids]
        record[name] = [{"docid": docid, "title": title, "text": text} for docid, title, text in read]
    if settings.scores:
        record["scores"] = [ranking[docid] for docid in (*chosen.positives, *chosen.negatives)]
    return record
