"""Questions, runs and texts → what the page's explorer shows, as JSON.

Of the corpus only the passages that are shown are kept.  Knows no HTML.
"""

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data.answers import span_answers
from xqg_pyserini.data.languages import NO_LANGUAGE, language_name, same_language
from xqg_pyserini.data.readers import CorpusLike, read_generated
from xqg_pyserini.data.records import Passage, Question, Run
from xqg_pyserini.data.sources import check_source
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.scores import read_passages
from xqg_pyserini.files import chunks
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.stores import IdIndex, VectorStore

RunValues = Mapping[str, Mapping[str, Mapping[str, float]]]  # run → metric → question → 0-1
NEAREST = 3  # queries of the question's language, and of the others, shown for a passage
_TEXTS = 2048  # generated queries encoded at a time


@dataclass(frozen=True)
class Material:
    """What the explorer is made from; `runs` hold their first hits alone, and at least one."""

    questions: Sequence[Question]
    runs: Mapping[str, Run]
    corpus: CorpusLike
    values: RunValues = field(default_factory=dict)
    metrics: Sequence[str] = ()
    relevant: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    with_title: bool = False


@dataclass(frozen=True)
class Similarities:
    """What compares generated queries with questions: their files, the encoder, and the passage store, if any."""

    queries: str | Path
    encoder: Encoder
    store: VectorStore | None = None


def similarities(
    queries: str | Path, passages: str | Path | VectorStore | None = None, encoder: Encoder | None = None
) -> Similarities:
    """Return what compares generated queries, with a passage store's encoder or the one given.

    Raises:
        UserError: for no encoder and no store, an encoder that is not the store's, queries that do not exist.
    """
    check_source(queries)
    if passages is not None:
        store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
        return Similarities(queries, Encoder.for_store(store, encoder), store)
    if encoder is None:
        needs = "generated queries are compared by an encoder: give a passage store or an encoder"
        raise UserError(needs, about=("passages", "encoder"))
    return Similarities(queries, encoder)


def explore(
    material: Material, pair: tuple[str, str], per_language: int, seed: int, using: Similarities | None = None
) -> dict[str, Any]:
    """Return what the explorer shows, as JSON (`resources/report/page.js` reads it).

    Args:
        material: questions, runs and where the texts are.
        pair: the runs shown first; questions on which they differ most are chosen.
        per_language: how many questions of each language.
        seed: of the choice among questions on which the runs differ equally.
        using: what compares generated queries with the questions; None leaves them out.

    Raises:
        UserError: where no question is in a run, or the corpus lacks a passage of one.
    """
    chosen = choose_questions(material, pair, per_language, seed)
    shown = {
        question.id: list(dict.fromkeys(docid for run in material.runs.values() for docid in run.get(question.id, ())))
        for question in chosen
    }
    passages = _read_passages(material, {docid for docids in shown.values() for docid in docids})
    near = {} if using is None else _compare(chosen, shown, passages, using)
    places = {docid: i for i, docid in enumerate(passages)}
    codes = dict.fromkeys(q.language or NO_LANGUAGE for q in chosen)
    codes |= dict.fromkeys(l for marks in near.values() for _, l, _ in marks["nearest"])
    return {
        "runs": list(material.runs),
        "pair": list(pair),
        "metrics": list(material.metrics),
        "languages": {l: l if l == NO_LANGUAGE else language_name(l) for l in codes},
        "passages": [[p.id, "", p.full] if material.with_title else [p.id, p.title, p.text] for p in passages.values()],
        "questions": [_question(material, question, places, passages, shown[question.id], near) for question in chosen],
    }


def _question(
    material: Material,
    question: Question,
    places: Mapping[str, int],
    passages: Mapping[str, Passage],
    shown: Sequence[str],
    near: Mapping[tuple[str, str], Any],
) -> dict[str, Any]:
    answers = span_answers(question.answers)
    relevant = material.relevant.get(question.id, {})
    marks = {}
    for docid in shown:
        text = passages[docid].full if material.with_title else passages[docid].text
        spans = _utf16(text, answer_spans(text, answers))
        mark = {"answers": spans, "relevant": bool(relevant.get(docid)), "near": near.get((question.id, docid))}
        if mark := {name: value for name, value in mark.items() if value}:
            marks[places[docid]] = mark
    return {
        "id": question.id,
        "text": question.text,
        "language": question.language or NO_LANGUAGE,
        "answers": answers,
        "scores": [
            [material.values.get(run, {}).get(m, {}).get(question.id) for m in material.metrics]
            for run in material.runs
        ],
        "hits": [[places[docid] for docid in run.get(question.id, ())] for run in material.runs.values()],
        "marks": marks,
    }


# ---------------------------------------------------------------- which questions


def choose_questions(material: Material, pair: tuple[str, str], per_language: int, seed: int) -> list[Question]:
    """Return the questions on which two runs differ most, by language, in the files' order of both.

    The difference is that of the scores, added up over the metrics; where it is equal (or there are no scores), that of
    the rankings: Σ |1/rank - 1/rank'| over the passages of either.  What is equal in both is drawn by the seed.
    """
    first, second = (material.runs[name] for name in pair)
    groups: dict[str, list[Question]] = {}
    for question in material.questions:
        if any(question.id in run for run in material.runs.values()):
            groups.setdefault(question.language or NO_LANGUAGE, []).append(question)
    if not groups:
        lack = f"runs {', '.join(material.runs)} hold none of the questions"
        raise UserError(f"{lack}; give the questions that they were searched with", about="questions")

    def rank(question: Question) -> tuple[float, float, bytes]:
        by_rank = ranking_difference(*(list(run.get(question.id, ())) for run in (first, second)))
        draw = hashlib.sha256(f"{seed} {question.id}".encode()).digest()
        return -_score_difference(material, pair, question.id), -by_rank, draw

    return [q for group in groups.values() for q in heapq.nsmallest(per_language, group, key=rank)]


def _score_difference(material: Material, pair: tuple[str, str], qid: str) -> float:
    a, b = (material.values.get(run, {}) for run in pair)
    both = [metric for metric in material.metrics if qid in a.get(metric, {}) and qid in b.get(metric, {})]
    # a sum's rounding is no difference
    return round(sum(abs(a[metric][qid] - b[metric][qid]) for metric in both), 9)


def ranking_difference(first: Sequence[str], second: Sequence[str]) -> float:
    """Return Σ |1/rank - 1/rank'| over the passages of two rankings; 1/rank' = 0 where absent."""
    a, b = ({docid: 1 / rank for rank, docid in enumerate(ranking, 1)} for ranking in (first, second))
    # in an order of its own, since sums depend on it
    return round(sum(abs(a.get(docid, 0) - b.get(docid, 0)) for docid in dict.fromkeys([*first, *second])), 9)


# ---------------------------------------------------------------- texts and answers


def _read_passages(material: Material, wanted: set[str]) -> dict[str, Passage]:
    """Read the corpus once, keeping the passages that are shown, in its order."""
    passages = {passage.id: passage for passage, is_wanted in read_passages(material.corpus, wanted) if is_wanted}
    retrieved = ((name, docid) for name, run in material.runs.items() for hits in run.values() for docid in hits)
    for name, docid in retrieved:
        if docid in wanted and docid not in passages:
            raise UserError(f"run {name}: passage {docid!r} is not in {material.corpus}")
    return passages


def answer_spans(text: str, answers: Sequence[str]) -> list[tuple[int, int]]:
    """Return where a text holds an answer as it stands: (start, end), joined where they meet.

    >>> answer_spans("1912, in 1912 AD", ["1912", "1912 AD"])
    [(0, 4), (9, 16)]
    """
    spans = []
    for answer in answers:
        start = text.find(answer)
        while start >= 0:
            spans.append((start, start + len(answer)))
            start = text.find(answer, start + 1)
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _utf16(text: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return spans as JavaScript counts: in UTF-16, where a character beyond the BMP is two."""
    return [[len(text[:at].encode("utf-16-le")) // 2 for at in span] for span in spans]


# ---------------------------------------------------------------- generated queries


def _compare(
    chosen: Sequence[Question], shown: Mapping[str, Sequence[str]], passages: Mapping[str, Passage], using: Similarities
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return (question, passage) → its similarity and its queries': inner products, without fusion and centring."""
    vectors = using.encoder.encode_queries([question.text for question in chosen])
    asked_by: dict[str, list[int]] = {}
    for i, question in enumerate(chosen):
        for docid in shown[question.id]:
            asked_by.setdefault(docid, []).append(i)
    tallies: dict[tuple[int, str], _Tally] = {}
    for docid, vector in _own_vectors(passages, using):
        for i in asked_by[docid]:
            tallies[i, docid] = _Tally(float(vectors[i] @ vector))
    for docid, language, texts, embedded in _encoded_queries(set(asked_by), using):
        for i in asked_by[docid]:
            own = same_language(language, chosen[i].language or NO_LANGUAGE)
            tallies[i, docid].take(embedded @ vectors[i], language, texts, own)
    return {(chosen[i].id, docid): tally.as_json() for (i, docid), tally in tallies.items()}


def _nearest_first(query: tuple[float, str, str]) -> tuple[float, str, str]:
    return -round(query[0], 4), *query[1:]


class _Tally:
    """The similarities of one passage's queries to one question."""

    def __init__(self, own: float) -> None:
        self.own = own
        self.count, self.total = [0, 0], [0.0, 0.0]  # of other languages, of the question's
        self.best: list[list[tuple[float, str, str]]] = [[], []]

    def take(self, scores: np.ndarray, language: str, texts: list[str], own: bool) -> None:
        self.count[own] += len(texts)
        self.total[own] += float(scores.sum(dtype=np.float64))
        queries = zip(scores.tolist(), [language] * len(texts), texts, strict=True)
        self.best[own] = heapq.nsmallest(NEAREST, [*self.best[own], *queries], key=_nearest_first)

    def as_json(self) -> dict[str, Any]:
        """Return the passage's own similarity, means and numbers of queries, and the nearest."""
        n = sum(self.count)
        nearest = sorted(self.best[0] + self.best[1], key=_nearest_first)
        return {
            "own": round(self.own, 4),
            "queries": n,
            "mean": round(sum(self.total) / n, 4) if n else None,
            "same": self.count[1],
            "same_mean": round(self.total[1] / self.count[1], 4) if self.count[1] else None,
            "nearest": [[round(score, 4), language, text] for score, language, text in nearest],
        }


def _own_vectors(passages: Mapping[str, Passage], using: Similarities) -> Iterator[tuple[str, np.ndarray]]:
    ids = list(passages)
    if using.store is None:
        for batch in chunks(ids, 256):
            vectors = using.encoder.encode_passages([passages[docid].full for docid in batch])
            yield from zip(batch, vectors, strict=True)
        return
    rows = IdIndex(using.store.ids_path).rows(ids)
    for docid, row in zip(ids, rows.tolist(), strict=True):
        if row < 0:
            raise UserError(f"{using.store.path}: does not hold passage {docid!r} of the runs")
        yield docid, using.store.block(row, row + 1)[0]


def _encoded_queries(wanted: set[str], using: Similarities) -> Iterator[tuple[str, str, list[str], np.ndarray]]:
    """Yield passage, language, its queries and their embeddings (m, d), for some passages."""
    batch: list[tuple[str, str, list[str]]] = []
    size = 0
    for _, record in tqdm(read_generated(using.queries), "queries", unit=" passages", disable=None):
        if record.docid not in wanted:
            continue
        for language, texts in record.queries.items():
            if full := [text for text in texts if text.strip()]:
                batch.append((record.docid, language, full))
                size += len(full)
            if size >= _TEXTS:
                yield from _embed(batch, using)
                batch, size = [], 0
    yield from _embed(batch, using)


def _embed(
    batch: list[tuple[str, str, list[str]]], using: Similarities
) -> Iterator[tuple[str, str, list[str], np.ndarray]]:
    vectors = using.encoder.encode_queries([text for *_, texts in batch for text in texts])
    start = 0
    for docid, language, texts in batch:
        yield docid, language, texts, vectors[start : start + len(texts)]
        start += len(texts)
