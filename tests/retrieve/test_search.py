"""Search equals brute force in exact numbers: groups of languages, ties, blocks, centring."""

import json
import warnings

import faiss
import numpy as np
import pytest
from conftest import message, write_jsonl
from test_store import (
    CORPUS,
    GENERATED,
    FakeEncoder,
    engine,  # noqa: F401 - a fixture, used by every test
    f32,
    fake,  # noqa: F401 - a fixture
    write_passages,
    write_sums,
)

from xqg_pyserini import data
from xqg_pyserini.bridge import run_module
from xqg_pyserini.data import Question
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.fusion.fused import FusedPassages
from xqg_pyserini.retrieve import search
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.retrieve.index import FaissIndex, build_index, build_language_indexes
from xqg_pyserini.retrieve.search import search_index, search_stores
from xqg_pyserini.stores import store

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
SUMS = {
    l: (RANDOM.integers(-4, 5, (N, D)) * np.array(n)[:, None]).astype(np.float32)
    for l, n in COUNTS.items()
}
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
                SUMS[l][i].astype(float) - (COUNTS[l][i] * query_means[l] if fusion.center else 0)
                for l in languages
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
        assert run == ranked(scores, hits)
        return
    for (qid, found), truth in zip(run.items(), scores, strict=True):
        assert len({hit.docid for hit in found}) == len(found) == min(hits, N), qid
        of = {hit.docid: hit.score for hit in found}
        expected = dict(zip(IDS, truth.tolist(), strict=True))
        for docid, score in of.items():
            assert score == pytest.approx(expected[docid], abs=tolerance), (qid, docid)
        best = sorted(truth.tolist(), reverse=True)[: len(found)]
        assert [hit.score for hit in found] == pytest.approx(best, abs=tolerance), qid


@pytest.fixture
def passages(tmp_path):
    return write_passages(tmp_path / "P", IDS, E)


@pytest.fixture
def queries(tmp_path):
    return write_sums(tmp_path / "Q", IDS, SUMS, COUNTS)


@pytest.fixture
def fused(passages, queries):
    def make(fusion, **options):
        return FusedPassages(passages, queries, fusion, allow_unequal=True, **options)

    return make


def quietly(call, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XqgWarning)
        return call(*arguments, **options)


def told(call, *arguments, **options) -> list[str]:
    """The warnings that a call ends with, but for those of passages without queries."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments, **options)
    messages = [str(w.message) for w in caught if w.category is XqgWarning]
    return [m for m in messages if not m.startswith("passages without queries")]


# --- the stores -----------------------------------------------------------------------------------


def test_the_numbers_of_these_tests_are_exact():
    assert [sum(COUNTS[l]) for l in COUNTS] == [32, 0, 32, 32]
    assert (E[4] == E[12]).all() and (E[4] == E[28]).all()
    for name in ("mean", "sum"):
        scores = brute(FUSIONS[name], True)
        assert all(np.array_equal(s, s.astype(np.float32)) for s in scores)
    top = ranked(brute(FUSIONS["mean"], True), 3)["00"]
    assert [docid for docid, _ in top] == ["d4", "d12", "d28"]
    assert len({score for _, score in top}) == 1


@pytest.mark.parametrize("block_bytes", [1, 4 * D * 5 * 5, 1 << 20])
@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)
def test_search_of_stores_is_brute_force(fused, monkeypatch, fusion, aware, block_bytes):
    """Blocks of 1 passage, of 5, and one for all; languages mixed in the questions."""
    monkeypatch.setattr(store, "BLOCK_BYTES", block_bytes)
    options = {"vectors": VECTORS, "hits": N, "language_aware": aware}
    run = quietly(search_stores, fused(fusion), QUESTIONS, **options)
    exact = fusion in (FUSIONS["mean"], FUSIONS["sum"])
    assert_same_run(run, brute(fusion, aware), N, 0.0 if exact else 1e-4)


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("form", [{"form": "mean", "beta": 0.25}, {"form": "sum", "alpha": 0.25}])
def test_search_of_renormalised_stores_is_brute_force(fused, monkeypatch, form, center, aware):
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * D * 5 * 5)
    fusion = Fusion(**form, normalize=True, center=center)
    options = {"vectors": VECTORS, "hits": 10, "language_aware": aware}
    run = quietly(search_stores, fused(fusion), QUESTIONS, **options)
    assert_same_run(run, brute(fusion, aware, normalize=True), 10, 1e-4)


@pytest.mark.parametrize("block_bytes", [1, 4 * D * 5 * 5, 1 << 20])
@pytest.mark.parametrize("hits", [1, 2, 3, 5, N - 1, N, N + 1, 1000])
def test_of_passages_that_tie_the_first_comes_first_however_few_hits(
    fused, monkeypatch, hits, block_bytes
):
    monkeypatch.setattr(store, "BLOCK_BYTES", block_bytes)
    run = quietly(search_stores, fused(FUSIONS["mean"]), QUESTIONS, vectors=VECTORS, hits=hits)
    assert_same_run(run, brute(FUSIONS["mean"], True), hits)
    assert len(run["00"]) == min(hits, N)


def test_where_all_passages_tie_they_come_in_their_order(tmp_path, queries, monkeypatch):
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * D * 5 * 5)
    zeros = write_passages(tmp_path / "Z", IDS, np.zeros((N, D), np.float32))
    pair = FusedPassages(zeros, queries, Fusion("mean", beta=0))
    run = quietly(search_stores, pair, QUESTIONS, vectors=VECTORS, hits=7)
    assert all([hit.docid for hit in found] == IDS[:7] for found in run.values())


def test_each_question_sees_its_own_languages_queries_and_no_other(tmp_path):
    """Passage 1 answers in ar, 2 in ru; each has the other language's as a decoy of 100s."""
    passages = write_passages(tmp_path / "P", ["p0", "p1", "p2"], f32([[1, 0]] * 3))
    sums = {"ar": f32([[0, 0], [0, 2], [0, -100]]), "ru": f32([[0, 0], [0, -100], [0, 2]])}
    queries = write_sums(tmp_path / "Q", ["p0", "p1", "p2"], sums, {l: [0, 1, 1] for l in sums})
    pair = FusedPassages(passages, queries, Fusion("mean", beta=0.5))
    questions = [Question("a", "?", "ar", ()), Question("r", "?", "ru", ())]
    run = search_stores(pair, questions, vectors=f32([[1, 1], [1, 1]]), hits=3)
    # p0 has no queries in either: 1 unscaled; the best has ½ · 1 + ½ · 2, the decoy ½ - 50
    assert run == {
        "a": [("p1", 1.5), ("p0", 1.0), ("p2", -49.5)],
        "r": [("p2", 1.5), ("p0", 1.0), ("p1", -49.5)],
    }
    both = search_stores(
        pair, questions, vectors=f32([[1, 1], [1, 1]]), hits=3, language_aware=False
    )
    assert both["a"] == both["r"] == [("p0", 1.0), ("p1", -24.0), ("p2", -24.0)]


def test_questions_in_any_order_or_alone_get_the_same_hits(fused):
    whole = quietly(search_stores, fused(FUSIONS["centred mean"]), QUESTIONS, vectors=VECTORS)
    order = [6, 2, 0, 5, 1, 4, 3]
    shuffled = quietly(
        search_stores, fused(FUSIONS["centred mean"]), [QUESTIONS[i] for i in order],
        vectors=VECTORS[order],
    )  # fmt: skip
    assert list(shuffled) == [QUESTIONS[i].id for i in order]
    for i, question in enumerate(QUESTIONS):
        alone = quietly(
            search_stores, fused(FUSIONS["centred mean"]), [question], vectors=VECTORS[i : i + 1]
        )
        for other in (shuffled[question.id], alone[question.id]):
            assert [hit.score for hit in other] == pytest.approx(
                [hit.score for hit in whole[question.id]], abs=1e-5
            )


# --- languages without queries, questions without language ----------------------------------------


def unknown(*languages):
    return [Question(f"q{i}", "?", l, ()) for i, l in enumerate(languages)]


def test_questions_in_languages_without_queries_fall_back_to_all_and_are_counted(fused):
    questions = unknown("ar", "ko", "fi", "ja", "ko")
    vectors = np.tile(VECTORS[1], (5, 1))
    pair = fused(FUSIONS["mean"])
    said = told(search_stores, pair, questions, vectors=vectors)
    assert said == [
        "4 questions are in a language without generated queries to use (fi (1), ja (1), ko (2)): "
        "ar ru te are mixed in"
    ]
    run = quietly(search_stores, pair, questions, vectors=vectors)
    everything = search_stores(pair, questions, vectors=vectors, language_aware=False)
    assert run["q0"] != run["q1"] == run["q2"] == run["q3"] == everything["q1"]
    assert told(search_stores, pair, questions, vectors=vectors, language_aware=False) == []
    assert told(search_stores, pair, questions[:1], vectors=vectors[:1]) == []


def test_passages_without_queries_are_counted_for_each_language_that_is_searched(fused):
    pair = fused(FUSIONS["mean"])
    with pytest.warns(XqgWarning) as caught:
        search_stores(pair, unknown("ar", "te", "ja"), vectors=VECTORS[:3])
    without = {l: sum(1 for n in COUNTS[l] if n == 0) for l in ("ar", "te")}
    assert without["ar"] == 10
    said = [f"{l} {n}" for l, n in without.items() if n]
    everywhere = sum(1 for each in zip(*COUNTS.values(), strict=True) if not any(each))
    said += [f"ar ru te {everywhere}"] if everywhere else []
    (message,) = [str(w.message) for w in caught if "without queries" in str(w.message)]
    assert message == (
        f"passages without queries, of {N}, keep their own embedding: {', '.join(said)}"
    )


def test_a_centred_search_says_so_too_and_uses_the_mean_of_all_queries(fused):
    questions = unknown("ko")
    pair = fused(FUSIONS["centred mean"])
    assert told(search_stores, pair, questions, vectors=VECTORS[:1]) == [
        "1 questions are in a language without generated queries to use (ko (1)): "
        "they are centred by the mean of all queries",
        "1 questions are in a language without generated queries to use (ko (1)): "
        "ar ru te are mixed in",
    ]
    run = quietly(search_stores, pair, questions, vectors=VECTORS[:1], hits=N)
    pooled = means()[2]
    as_russian = means()[1]["ru"]
    plain = quietly(
        search_stores, pair, [Question("q0", "?", "ru", ())], hits=N, language_aware=False,
        vectors=(VECTORS[:1] - pooled + as_russian).astype(np.float32),
    )  # fmt: skip
    assert [h.score for h in run["q0"]] == pytest.approx([h.score for h in plain["q0"]], abs=1e-4)


def test_a_language_that_is_not_chosen_falls_back_to_the_chosen_ones(fused):
    pair = fused(Fusion("mean", beta=0.25, languages=("ar",)))
    questions = unknown("ru", "ar")
    vectors = np.tile(VECTORS[1], (2, 1))
    run = quietly(search_stores, pair, questions, vectors=vectors)
    assert run["q0"] == run["q1"]
    assert told(search_stores, pair, questions, vectors=vectors)[0].endswith(
        "(ru (1)): ar are mixed in"
    )


@pytest.mark.parametrize(
    ("fusion", "aware"),
    [("mean", True), ("centred mean", True), ("centred mean", False), ("centred sum", False)],
)
def test_a_question_without_language_is_refused_where_its_language_matters(fused, fusion, aware):
    questions = [*QUESTIONS[:2], Question("007", "?", None, ())]
    options = {"vectors": VECTORS[:3], "language_aware": aware}
    assert message(search_stores, fused(FUSIONS[fusion]), questions, **options) == (
        "question '007' has no language, and the search depends on the language: "
        "give --language xx, or topics with lang"
    )


def test_a_question_without_language_is_searched_where_it_does_not_matter(fused):
    questions = [q._replace(language=None) for q in QUESTIONS]
    options = {"vectors": VECTORS, "language_aware": False, "hits": N}
    run = search_stores(fused(FUSIONS["mean"]), questions, **options)
    assert run == search_stores(fused(FUSIONS["mean"]), QUESTIONS, **options)


def test_a_language_aware_sum_takes_equal_counts_in_each_language(passages, tmp_path):
    counts = {"ar": [1, 2] * 16, "ru": [2, 1] * 16}
    queries = write_sums(tmp_path / "Q", IDS, {l: SUMS[l] for l in counts}, counts)
    fusion = Fusion("sum", alpha=0.01)
    FusedPassages(passages, queries, fusion)  # 3 in total
    assert message(FusedPassages, passages, queries, fusion, language_aware=True) == (
        "a sum over unequal numbers of queries (1 to 2 a passage in ar) favours the passages that "
        "have more; use the mean (--beta), or force it with --allow-unequal"
    )
    FusedPassages(passages, queries, fusion, language_aware=True, allow_unequal=True)
    FusedPassages(passages, queries, Fusion("mean", beta=0.1), language_aware=True)


@pytest.mark.parametrize("hits", [0, -1])
def test_fewer_than_one_hit_is_refused(fused, passages, tmp_path, hits):
    text = message(search_stores, fused(FUSIONS["mean"]), QUESTIONS, vectors=VECTORS, hits=hits)
    assert text == f"--hits is {hits}; expected 1 or more"
    build_index(passages, tmp_path / "I")
    assert message(search_index, tmp_path / "I", QUESTIONS, vectors=VECTORS, hits=hits) == text


def test_no_questions_give_an_empty_run(fused, passages, tmp_path):
    build_index(passages, tmp_path / "I")
    none = np.zeros((0, D), np.float32)
    assert search_stores(fused(FUSIONS["mean"]), [], vectors=none) == {}
    assert search_stores(fused(FUSIONS["centred mean"]), [], vectors=none) == {}
    assert search_index(tmp_path / "I", [], vectors=none) == {}


# --- indexes --------------------------------------------------------------------------------------


def built(passages, queries, tmp_path, fusion, kind="flat"):
    quietly(
        build_index, passages, tmp_path / "I", queries=queries, fusion=fusion, kind=kind,
        allow_unequal=True, overwrite=True,
    )  # fmt: skip
    return tmp_path / "I"


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_search_of_an_index_is_faiss_own_search(passages, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(search, "BATCH", batch)
    build_index(passages, tmp_path / "I")
    run = search_index(tmp_path / "I", QUESTIONS, vectors=VECTORS, hits=10)
    index = faiss.IndexFlatIP(D)
    index.add(E)
    scores, rows = index.search(VECTORS, 10)
    truth = np.sort(VECTORS @ E.T, axis=1)[:, ::-1][:, :10]
    for i, question in enumerate(QUESTIONS):
        assert run[question.id] == [
            (IDS[row], score) for row, score in zip(rows[i], scores[i].tolist(), strict=True)
        ]
        assert [hit.score for hit in run[question.id]] == truth[i].tolist()


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)
def test_an_index_and_the_stores_give_one_run(
    passages, queries, fused, tmp_path, fusion, normalize, kind
):
    """Hits may change places only among scores within 1e-6 of each other (and of rounding)."""
    from dataclasses import replace

    fusion = replace(fusion, normalize=normalize)
    index = built(passages, queries, tmp_path, fusion, kind)
    by_index = quietly(search_index, index, QUESTIONS, vectors=VECTORS, hits=N)
    options = {"vectors": VECTORS, "hits": N, "language_aware": False}
    by_stores = quietly(search_stores, fused(fusion), QUESTIONS, **options)
    assert list(by_index) == list(by_stores)
    for qid, hits in by_index.items():
        expected = {hit.docid: hit.score for hit in by_stores[qid]}
        assert {hit.docid: pytest.approx(hit.score, abs=2e-5) for hit in hits} == expected
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_more_hits_than_passages_give_all_of_them(passages, tmp_path):
    for kind in ("flat", "fp16", "sq8", "hnsw"):
        build_index(passages, tmp_path / kind, kind=kind)
        run = search_index(tmp_path / kind, QUESTIONS, vectors=VECTORS, hits=1000)
        assert all({hit.docid for hit in hits} == set(IDS) for hits in run.values())


def test_a_centred_index_centres_each_question_by_its_language(passages, queries, tmp_path):
    index = built(passages, queries, tmp_path, FUSIONS["centred mean"])
    run = quietly(search_index, index, QUESTIONS, vectors=VECTORS, hits=N)
    assert_same_run(run, brute(FUSIONS["centred mean"], aware=False), N, 1e-4)
    assert told(search_index, index, QUESTIONS, vectors=VECTORS) == [
        "1 questions are in a language without generated queries to use (ja (1)): "
        "they are centred by the mean of all queries"
    ]
    questions = [q._replace(language=None) for q in QUESTIONS]
    assert message(search_index, index, questions, vectors=VECTORS) == (
        f"question '00' has no language, and {index} is centred: "
        "give --language xx, or topics with lang"
    )
    plain = built(passages, queries, tmp_path, FUSIONS["mean"])
    assert len(search_index(plain, questions, vectors=VECTORS)) == len(QUESTIONS)


def test_the_given_vectors_are_left_as_they_are(passages, queries, fused, tmp_path):
    vectors = VECTORS.copy()
    index = built(passages, queries, tmp_path, FUSIONS["centred mean"])
    quietly(search_index, index, QUESTIONS, vectors=vectors)
    quietly(search_stores, fused(FUSIONS["centred mean"]), QUESTIONS, vectors=vectors)
    assert np.array_equal(vectors, VECTORS)


# --- an index for each language -------------------------------------------------------------------


def languages_index(fused, tmp_path, fusion, **options):
    return quietly(
        build_language_indexes, tmp_path / "P", tmp_path / "L", queries=tmp_path / "Q",
        fusion=fusion, allow_unequal=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)
def test_a_language_aware_index_gives_the_run_of_language_aware_search(
    fused, tmp_path, fusion, normalize
):
    from dataclasses import replace

    fusion = replace(fusion, normalize=normalize)
    meta = languages_index(fused, tmp_path, fusion)
    chosen = fusion.languages or ("ar", "ru", "te")
    assert meta["languages"] == list(chosen)
    names = {*chosen, "all-languages", "xqg.json"}
    assert {path.name for path in (tmp_path / "L").iterdir()} == names
    by_index = quietly(search_index, tmp_path / "L", QUESTIONS, vectors=VECTORS, hits=N)
    by_stores = quietly(search_stores, fused(fusion), QUESTIONS, vectors=VECTORS, hits=N)
    assert list(by_index) == list(by_stores)
    for qid, hits in by_index.items():
        expected = {hit.docid: hit.score for hit in by_stores[qid]}
        assert {hit.docid: pytest.approx(hit.score, abs=2e-5) for hit in hits} == expected
    given = [tmp_path / "L" / name for name in (*chosen, "all-languages")]
    assert quietly(search_index, given, QUESTIONS, vectors=VECTORS, hits=N) == by_index


def test_questions_in_a_language_without_an_index_go_to_that_of_all_or_are_refused(fused, tmp_path):
    languages_index(fused, tmp_path, FUSIONS["mean"])
    said = told(search_index, tmp_path / "L", QUESTIONS, vectors=VECTORS)
    assert said == [
        "1 questions are in a language without generated queries to use (ja (1)): "
        "they are searched in the index of all languages"
    ]
    some = [tmp_path / "L" / l for l in ("ar", "ru", "te")]
    assert message(search_index, some, QUESTIONS, vectors=VECTORS) == (
        "no index for questions in 'ja': there are ar ru te; give that of all languages as well "
        "(all-languages)"
    )
    known = [i for i, question in enumerate(QUESTIONS) if question.language != "ja"]
    run = search_index(some, [QUESTIONS[i] for i in known], vectors=VECTORS[known])
    assert len(run) == len(known)
    nameless = [QUESTIONS[0]._replace(language=None)]
    assert message(search_index, tmp_path / "L", nameless, vectors=VECTORS[:1]) == (
        "question '00' has no language, and each language has an index of its own: "
        "give --language xx, or topics with lang"
    )


def test_indexes_that_are_not_one_a_language_are_refused(fused, passages, tmp_path):
    languages_index(fused, tmp_path, FUSIONS["mean"])
    build_index(passages, tmp_path / "base")
    ar = tmp_path / "L" / "ar"
    options = {"vectors": VECTORS}
    assert message(search_index, [ar, ar], QUESTIONS, **options) == (
        f"{ar} and {ar} are both for ar; give one index a language"
    )
    assert message(search_index, [ar, tmp_path / "base"], QUESTIONS, **options) == (
        f"{tmp_path / 'base'}: does not say the languages mixed into it; several indexes are those "
        "of xqg index --language-aware"
    )


def test_a_language_aware_folder_is_no_single_index_and_stands_alone(fused, tmp_path):
    parent = tmp_path / "L"
    languages_index(fused, tmp_path, FUSIONS["mean"])
    some = " ".join(str(parent / name) for name in ("ar", "ru", "te", "all-languages"))
    expected = f"{parent} is a folder of one index a language: give one of {some}"
    assert message(FaissIndex, parent) == expected
    pytest.importorskip("pyserini")
    assert message(run_module, "search.faiss", ["--index", str(parent)]) == expected
    options = {"vectors": VECTORS, "hits": 3}
    assert message(search_index, [parent, parent / "ar"], QUESTIONS, **options) == (
        f"{parent}: give the language-aware folder alone, or some of the folders in it"
    )
    meta = json.loads((parent / "xqg.json").read_text("utf-8"))
    (parent / "xqg.json").write_text(json.dumps({**meta, "languages": []}), "utf-8")
    assert message(search_index, parent, QUESTIONS, **options) == (
        f"{parent / 'xqg.json'}: damaged (it names no languages); build the index again"
    )


def test_what_it_takes_is_said_before_anything_is_written(fused, tmp_path):
    said = []

    def announce(text):
        said.append((text, (tmp_path / "L").exists()))

    languages_index(fused, tmp_path, FUSIONS["mean"], announce=announce)
    ((text, there),) = said
    lines = text.splitlines()
    assert not there and len(lines) == 6
    assert [line[:7].strip() for line in lines[1:5]] == ["* flat:", "fp16:", "sq8:", "hnsw:"]
    assert "xqg search --language-aware reads the stores" in lines[-1]
    text = message(languages_index, fused, tmp_path, FUSIONS["mean"])
    assert text.endswith("give another name, or --overwrite to replace it")


# --- with an encoder ------------------------------------------------------------------------------


@pytest.fixture
def encoded(fake, tmp_path):  # noqa: F811 - the fixture imported above
    """A corpus and its queries, encoded by the encoder that reads vectors off texts."""
    corpus = write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    queries = write_jsonl(tmp_path / "queries.jsonl", GENERATED)
    encode_passages(corpus, fake, tmp_path / "passages")
    quietly(accumulate_queries, queries, tmp_path / "passages", tmp_path / "sums")
    FakeEncoder.seen = []
    return tmp_path


ASKED = [Question("007", "1 0 2", "ar", ()), Question("-9", "0 -1 0.5", "ru", ())]


def test_questions_are_encoded_as_queries_by_the_encoder_of_the_stores(encoded):
    pair = FusedPassages(encoded / "passages", encoded / "sums", Fusion("mean", beta=0.5))
    run = search_stores(pair, ASKED, hits=2)
    assert FakeEncoder.seen == ["q: 0 -1 0.5", "q: 1 0 2"]
    # ar, q = (1, 0, 2, -1): 007 has ½ (1, 2, 3, 1) + ½ (12, 24, 36, -3) / 3 = (2.5, 5, 7.5, 0),
    # قطة ½ (7, 8, 9, 1) + ½ (1, 1, 1, -1) = (4, 4.5, 5, 0); -1234567890123456789 alone 15
    assert run["007"] == [("007", 17.5), ("-1234567890123456789", 15.0)]
    # ru, q = (0, -1, 0.5, -1): d alone (0, 0, 0, 1) has -1;
    # e ½ (-1, -2, -3.5, 1) + ½ (½, 1, 0, -1) = (-0.25, -0.5, -1.75, 0) has -0.375;
    # 007 ½ (1, 2, 3, 1) + ½ (-1, 0, 0.5, -1) = (0, 1, 1.75, 0) has -0.125
    assert run["-9"] == [("007", -0.125), ("e", -0.375)]
    vectors = f32([[1, 0, 2, -1], [0, -1, 0.5, -1]])
    assert search_stores(pair, ASKED, hits=2, vectors=vectors) == run


def test_an_index_is_searched_by_the_encoder_that_it_names(encoded):
    build_index(encoded / "passages", encoded / "I")
    run = search_index(encoded / "I", ASKED, hits=1)
    assert FakeEncoder.seen == ["q: 0 -1 0.5", "q: 1 0 2"]
    assert run == {"007": [("قطة", 24.0)], "-9": [("e", -0.75)]}


def test_an_encoder_that_is_not_the_stores_is_refused(encoded):
    pair = FusedPassages(encoded / "passages", encoded / "sums", Fusion("mean", beta=0.5))
    build_index(encoded / "passages", encoded / "I")
    places = [
        (encoded / "passages", lambda **options: search_stores(pair, ASKED, **options)),
        (encoded / "I", lambda **options: search_index(encoded / "I", ASKED, **options)),
    ]
    for where, call in places:
        flags = {"encoder_flags": {"query_prefix": "p: "}}
        assert message(call, **flags) == (
            f"encoder fake: query_prefix is 'p: ', but {where} was made with 'q: '; "
            "use one encoder for both"
        )
        FakeEncoder.weights = "w2"
        assert message(call) == (
            f"encoder fake (w2) is not the one that {where} was made with (fake, w1); "
            "use that, or encode again"
        )
        FakeEncoder.width = 6
        assert message(call) == (
            f"encoder fake gives 7 dimensions, but {where} has 4; "
            "use the encoder that it was made with"
        )
        FakeEncoder.weights, FakeEncoder.width = "w1", 3
        assert len(call()) == 2


def test_an_index_that_names_no_encoder_is_searched_with_the_one_that_is_given(
    encoded, monkeypatch
):
    from xqg_pyserini.models import registry as encoders

    build_index(encoded / "passages", encoded / "I")
    expected = search_index(encoded / "I", ASKED)
    (encoded / "I" / "xqg.json").unlink()
    assert message(search_index, encoded / "I", ASKED) == (
        f"{encoded / 'I'} does not say its encoder (no xqg.json): give --encoder"
    )
    entry = {"backend": "fake", "model": "none", "query_prefix": "q: "}
    monkeypatch.setattr(encoders, "registry", lambda: {"mine": entry})
    assert search_index(encoded / "I", ASKED, encoder="mine") == expected
    FakeEncoder.width = 5
    assert message(search_index, encoded / "I", ASKED, encoder="mine") == (
        f"encoder mine gives 6 dimensions, but {encoded / 'I'} has 4; "
        "use the encoder that it was made with"
    )


def test_a_description_that_names_no_encoder_is_a_damaged_one(encoded):
    build_index(encoded / "passages", encoded / "I")
    (encoded / "I" / "xqg.json").write_text("{}")
    assert str(encoded / "I") in message(search_index, encoded / "I", ASKED)


def test_passages_encoded_in_another_order_give_the_same_run(encoded):
    """The whole way from files: sums of one order beside passages of the other."""
    from test_store import FAKE

    write_jsonl(encoded / "reversed.jsonl", CORPUS[::-1])
    encode_passages(encoded / "reversed.jsonl", FAKE, encoded / "backwards")
    for fusion in (Fusion("mean", beta=0.5), Fusion("mean", beta=0.5, normalize=True, center=True)):
        runs = [
            search_stores(FusedPassages(encoded / name, encoded / "sums", fusion), ASKED, hits=5)
            for name in ("passages", "backwards")
        ]
        for qid in runs[0]:
            hits = {hit.docid: hit.score for hit in runs[1][qid]}
            assert {h.docid: pytest.approx(h.score, abs=1e-5) for h in runs[0][qid]} == hits


def test_a_run_is_written_and_read_back_as_it_was(fused, tmp_path):
    run = quietly(search_stores, fused(FUSIONS["mean"]), QUESTIONS, vectors=VECTORS)
    data.write_run(tmp_path / "r.trec", run, "xqg-r")
    assert data.read_run(tmp_path / "r.trec") == run


def test_a_language_with_queries_for_unknown_passages_alone_is_one_without_queries(tmp_path):
    passages = write_passages(tmp_path / "P", ["a", "b"], np.eye(2, dtype=np.float32))
    sums = {"ar": np.array([[0, 1], [1, 0], [0, 0]]), "ru": np.array([[0, 0], [0, 0], [5, 5]])}
    queries = write_sums(
        tmp_path / "Q",
        ["a", "b", "decoy"],
        {l: m.astype(np.float32) for l, m in sums.items()},
        {"ar": [1, 1, 0], "ru": [0, 0, 1]},
    )
    fusion = Fusion("mean", beta=0.25)
    with pytest.warns(XqgWarning, match="1 passages with queries"):
        pair = FusedPassages(passages, queries, fusion, skip_unknown=True, language_aware=True)
    assert pair.languages == ("ar",)
    questions = unknown("ru", "ar")
    vectors = np.array([[1, 0], [1, 0]], dtype=np.float32)
    (message,) = told(search_stores, pair, questions, vectors=vectors)
    assert message.endswith("to use (ru (1)): ar are mixed in")
    run = quietly(search_stores, pair, questions, vectors=vectors)
    assert run["q0"] == run["q1"] == {"a": 0.75, "b": 0.25}
