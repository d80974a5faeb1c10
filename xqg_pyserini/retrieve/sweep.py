"""A sweep from stores to figures: search every point of a grid, score, compare and choose.

What it returns is a value; `report` writes and shows it.  docs/sweep.md says how to read it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from xqg_pyserini.data import (
    NO_LANGUAGE,
    CorpusLike,
    QrelsLike,
    Question,
    QuestionsLike,
    as_qrels,
    as_questions,
    check_source,
)
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.choosing import ChoosingSettings, cross_validate, fold_questions, power_of
from xqg_pyserini.evaluation.measures import parse_metric, parse_metrics
from xqg_pyserini.evaluation.results import ComparingSettings, Results
from xqg_pyserini.evaluation.scores import ScoringSettings, check_inputs, counted, score_runs
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.fusion.fused import FusedStores, Tolerances
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve.grid import BASELINE, GridSettings, Point, grid
from xqg_pyserini.retrieve.search import SearchSettings, check_hits, open_alignment, question_vectors
from xqg_pyserini.retrieve.sweep_pass import Sweep
from xqg_pyserini.stores import QueryStore, VectorStore

FORCED = {
    "allow_unequal": "sums over unequal numbers of queries were forced (--allow-unequal): passages with more queries "
    "are favoured",
    "allow_uneven": "uncentred mixing where many passages have no query was forced (--allow-uneven): passages that "
    "have queries are favoured",
}


@dataclass(frozen=True)
class SweepSettings(ChoosingSettings, ComparingSettings, ScoringSettings, GridSettings, Tolerances, SearchSettings):
    """A sweep: its grid, and how its points are searched, scored, compared and chosen.

    `threads` share the search; as many as there are cores by default.
    """

    threads: int | None = None

    def __post_init__(self) -> None:
        ComparingSettings.__post_init__(self)
        check_hits(self.hits)
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}; expected 0 or more", "seed")


def run_sweep(
    passages: str | Path | VectorStore,
    queries: str | Path | QueryStore,
    questions: QuestionsLike,
    settings: SweepSettings | None = None,
    *,
    corpus: CorpusLike | None = None,
    qrels: QrelsLike | None = None,
    encoder: Encoder | str | None = None,
    vectors: np.ndarray | None = None,
) -> Results:
    """Search, score and compare every point of a grid with the passages alone.

    Args:
        passages: the passage store.
        queries: the query store, aligned by id; the grid says how many of its queries are mixed in.
        questions: a file, or values; with their languages, where a point depends on them.
        settings: the grid, and all that has a default.
        corpus: as for `evaluate`.
        qrels: as for `evaluate`.
        encoder: encodes the questions; that of the store by default; another is refused.
        vectors: the questions' embeddings (q, d) float32, where they are at hand.

    Returns:
        The scores of all points, their tests against the baseline, what was held out and what differences could have
        been seen, and the runs.

    Raises:
        UserError: before anything is encoded for what can be told by then: see `Sweep` and `evaluate`.
    """
    settings = settings or SweepSettings()
    queries = queries.path if isinstance(queries, QueryStore) else queries
    asked = as_questions(questions)
    judged = None if qrels is None else as_qrels(qrels)
    group_by = settings.grouping(qrels is not None)
    relate = settings.cross_validate is not None and group_by == "relevant"
    _check(settings, asked, corpus, judged, group_by)
    store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
    tolerances = Tolerances(*(getattr(settings, field.name) for field in fields(Tolerances)))
    points = _points(settings, store, queries, tolerances)
    align = None if settings.align is None else open_alignment(settings.align, store, asked)
    sweep = Sweep(store, queries, points, asked, tolerances, align)
    vectors = question_vectors(store, asked, encoder, vectors)
    runs = sweep.search(vectors, settings.hits, settings.threads)
    scoring = ScoringSettings(settings.metrics, all_topics=settings.all_topics, with_title=settings.with_title)
    scores = score_runs(runs, asked, scoring, corpus, qrels, relate=relate)
    scores.notes += [note for tolerance, note in FORCED.items() if tolerance in sweep.forced]
    compared = scores.compare(settings.test, settings.correction, settings.level, BASELINE)
    results = Results(compared, points={p.name: p.settings() for p in sweep.points}, runs=runs)
    if settings.cross_validate is not None:
        results.cross_validation = cross_validate(compared, settings, group_by)
    if settings.power:
        results.power = power_of(compared, None if settings.power is True else settings.power)
    return results


def _points(settings: SweepSettings, store: VectorStore, queries: str | Path, tolerances: Tolerances) -> list[Point]:
    held: tuple[str, ...] = ()
    if "each" in settings.languages:
        held = FusedStores(store, queries, Fusion("mean", beta=0.0), tolerances).languages
    return grid(settings.fusions(store.normalized), settings.languages, settings.numbers(), held, settings.turns())


def _check(
    settings: SweepSettings,
    questions: Sequence[Question],
    corpus: CorpusLike | None,
    qrels: QrelsLike | None,
    group_by: str,
) -> None:
    """Raise `UserError` for what can be told before anything is encoded."""
    settings.check_languages()
    settings.numbers()
    metrics = parse_metrics(settings.metrics)
    settings.check(settings.metrics)
    settings.check_choosing(settings.metrics, len(questions))
    folds = settings.cross_validate is not None
    check_inputs(questions, metrics, corpus, qrels, folds and group_by == "relevant")
    if isinstance(corpus, str | os.PathLike):
        check_source(corpus)
    if folds and qrels is not None:  # relevance that is derived from answers is known after it
        relevant = as_qrels(qrels)
        chooser = parse_metric(settings.select_by or settings.metrics[0])
        judged = set(counted(questions, relevant, settings.all_topics, chooser.level))
        scored = (q for q in questions if (q.answers if chooser.budget else q.id in judged))
        languages = {q.id: q.language or NO_LANGUAGE for q in scored}
        fold_questions(settings, group_by, languages, relevant)
