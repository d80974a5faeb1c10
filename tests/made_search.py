"""Stores whose scores are exact, questions for them, and searching them by brute force."""

import warnings

import numpy as np
import pytest
from made_stores import write_passages, write_sums

from xqg_pyserini.data import Question
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.retrieve.fused import Fused

# All numbers are small multiples of powers of two, and so are the counts (of a passage in each
# language and in all, of a language in all), so that scores are exact in float32 and what ties by
# hand ties in any order of adding up.  Rows 4, 12 and 28 are the same.
N, D = 32, 4
IDS = ["007", "-1234567890123456789", "قطة", *(f"d{i}" for i in range(3, N))]
RANDOM = np.random.default_rng(3)
PAIRS = [(1, 2)] * 7 + [(2, 1)] * 10 + [(1, 0)] * 2 + [(0, 1)] * 2 + [(0, 0)] * 8
PAIRS = [PAIRS[i] for i in RANDOM.permutation(29)]
for row in (4, 12, 28):
    PAIRS.insert(row, (1, 2))
COUNTS = {
    "ar": [ar for ar, _ in PAIRS], "ja": [0] * N, "ru": [1] * N, "te": [te for _, te in PAIRS],
}  # fmt: skip
E = RANDOM.integers(-4, 5, (N, D)).astype(np.float32)
SUMS = {l: (RANDOM.integers(-4, 5, (N, D)) * np.array(n)[:, None]).astype(np.float32) for l, n in COUNTS.items()}
E[4] = [8, 8, -8, 8]
for matrix in [E, *SUMS.values()]:
    matrix[12] = matrix[28] = matrix[4]

LANGUAGES = ["ru", "ar", "te", "ar", "ru", "ja", "ar"]
QUESTIONS = [Question(f"0{i}", f"question {i}", l, ()) for i, l in enumerate(LANGUAGES)]
VECTORS = RANDOM.integers(-3, 4, (len(QUESTIONS), D)).astype(np.float32)
VECTORS[0] = np.sign(E[4])  # its best passages are the three that tie

FUSIONS = {
    "mean": Fusion("mean", beta=0.25),
    "sum": Fusion("sum", alpha=0.125),
    "mean of two": Fusion("mean", beta=0.5, languages=("te", "ru")),
    "centred mean": Fusion("mean", beta=0.25, center=True),
    "centred sum": Fusion("sum", alpha=0.5, center=True),
}


def means():
    """μ_P, and μ_l for the languages that have queries, and the mean of all queries."""
    held = [l for l in SUMS if sum(COUNTS[l])]
    of = {l: SUMS[l].astype(float).sum(axis=0) / sum(COUNTS[l]) for l in held}
    pooled = sum(SUMS[l].astype(float).sum(axis=0) for l in held)
    return E.astype(float).mean(axis=0), of, pooled / sum(sum(COUNTS[l]) for l in held)


def brute(fusion: Fusion, aware: bool, normalize=False) -> list[np.ndarray]:
    """The scores of all passages for each question, from the formulas of DESIGN §2 in float64."""
    passage_mean, query_means, pooled = means()
    chosen = fusion.languages or [l for l in SUMS if sum(COUNTS[l])]

    def scaled(rows):
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)

    scores = []
    for question, vector in zip(QUESTIONS, VECTORS.astype(float), strict=True):
        languages = [question.language] if aware and question.language in chosen else chosen
        passages = E.astype(float) - (passage_mean if fusion.center else 0)
        if fusion.center:
            vector = vector - query_means.get(question.language, pooled)
            passages = scaled(passages) if normalize else passages
        mixed = passages.copy()
        for i in range(N):
            m = sum(COUNTS[l][i] for l in languages)
            total = sum(
                SUMS[l][i].astype(float) - (COUNTS[l][i] * query_means[l] if fusion.center else 0) for l in languages
            )
            if m and fusion.form == "sum":
                mixed[i] = (1 - fusion.alpha) * passages[i] + fusion.alpha * total
            elif m:
                mean = scaled(total[None] / m)[0] if fusion.center and normalize else total / m
                mixed[i] = (1 - fusion.beta) * passages[i] + fusion.beta * mean
        scores.append((scaled(mixed) if normalize else mixed) @ vector)
    return scores


def ranked(scores: list[np.ndarray], hits: int) -> dict:
    """The run that these scores make: of equals, the passage that comes first."""
    return {
        question.id: [(IDS[i], float(s[i])) for i in np.lexsort((range(N), -s))[:hits]]
        for question, s in zip(QUESTIONS, scores, strict=True)
    }


def assert_same_run(run, scores, hits, tolerance=0.0):
    """Equal to the last bit, or, with a tolerance, but for the order of near ties."""
    assert list(run) == [question.id for question in QUESTIONS]
    if not tolerance:
        assert in_order(run) == ranked(scores, hits)
        return
    for (qid, ranking), truth in zip(run.items(), scores, strict=True):
        assert len(ranking) == min(hits, N), qid
        expected = dict(zip(IDS, truth.tolist(), strict=True))
        for docid, score in ranking.items():
            assert score == pytest.approx(expected[docid], abs=tolerance), (qid, docid)
        best = sorted(truth.tolist(), reverse=True)[: len(ranking)]
        assert list(ranking.values()) == pytest.approx(best, abs=tolerance), qid


@pytest.fixture
def passages(tmp_path):
    return write_passages(tmp_path / "P", IDS, E)


@pytest.fixture
def queries(tmp_path):
    return write_sums(tmp_path / "Q", IDS, SUMS, COUNTS)


@pytest.fixture
def fused(passages, queries):
    def make(fusion, **options):
        return Fused(passages, queries, fusion, Tolerances(allow_unequal=True, allow_uneven=True), **options)

    return make


def search_stores(fused, questions, hits=100, aware=True, **options):
    """Search fused stores, each question with its own language's queries unless told otherwise."""
    return (fused.own_language() if aware else fused).search(questions, hits, **options)


def in_order(run) -> dict:
    """A run whose rankings are lists: dictionaries are equal in any order."""
    return {qid: list(hits.items()) for qid, hits in run.items()}


def told(call, *arguments, **options) -> list[str]:
    """The warnings that a call ends with, but for those of passages without queries."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments, **options)
    messages = [str(w.message) for w in caught if w.category is XqgWarning]
    return [m for m in messages if not m.startswith("passages without queries")]
