"""Search of fused stores is brute force: groups of languages, ties, blocks, centring."""

import numpy as np
import pytest
from conftest import message, refusal
from made_search import (  # noqa: F401 - some are fixtures
    COUNTS,
    FUSIONS,
    IDS,
    QUESTIONS,
    SUMS,
    VECTORS,
    D,
    E,
    N,
    assert_same_run,
    brute,
    fused,
    in_order,
    means,
    passages,
    queries,
    ranked,
    search_stores,
    told,
)
from made_stores import f32, quietly, write_passages, write_sums

from xqg_pyserini.data import Question
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.search import SearchSettings
from xqg_pyserini.stores import store

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
    options = {"vectors": VECTORS, "hits": N, "aware": aware}
    run = quietly(search_stores, fused(fusion), QUESTIONS, **options)
    exact = fusion in (FUSIONS["mean"], FUSIONS["sum"])
    assert_same_run(run, brute(fusion, aware), N, 0.0 if exact else 1e-4)


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("form", [{"form": "mean", "beta": 0.25}, {"form": "sum", "alpha": 0.25}])
def test_search_of_renormalised_stores_is_brute_force(fused, monkeypatch, form, center, aware):
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * D * 5 * 5)
    fusion = Fusion(**form, normalize=True, center=center)
    options = {"vectors": VECTORS, "hits": 10, "aware": aware}
    run = quietly(search_stores, fused(fusion), QUESTIONS, **options)
    assert_same_run(run, brute(fusion, aware, normalize=True), 10, 1e-4)


@pytest.mark.parametrize("block_bytes", [1, 4 * D * 5 * 5, 1 << 20])
@pytest.mark.parametrize("hits", [1, 2, 3, 5, N - 1, N, N + 1, 1000])
def test_of_passages_that_tie_the_first_comes_first_however_few_hits(fused, monkeypatch, hits, block_bytes):
    monkeypatch.setattr(store, "BLOCK_BYTES", block_bytes)
    run = quietly(search_stores, fused(FUSIONS["mean"]), QUESTIONS, vectors=VECTORS, hits=hits)
    assert_same_run(run, brute(FUSIONS["mean"], True), hits)
    assert len(run["00"]) == min(hits, N)


def test_where_all_passages_tie_they_come_in_their_order(tmp_path, queries, monkeypatch):
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * D * 5 * 5)
    zeros = write_passages(tmp_path / "Z", IDS, np.zeros((N, D), np.float32))
    pair = Fused(zeros, queries, Fusion("mean", beta=0))
    run = quietly(search_stores, pair, QUESTIONS, vectors=VECTORS, hits=7)
    assert all(list(hits) == IDS[:7] for hits in run.values())


def test_each_question_sees_its_own_languages_queries_and_no_other(tmp_path):
    """Passage 1 answers in ar, 2 in ru; each has the other language's as a decoy of 100s."""
    passages = write_passages(tmp_path / "P", ["p0", "p1", "p2"], f32([[1, 0]] * 3))
    sums = {"ar": f32([[0, 0], [0, 2], [0, -100]]), "ru": f32([[0, 0], [0, -100], [0, 2]])}
    queries = write_sums(tmp_path / "Q", ["p0", "p1", "p2"], sums, {l: [0, 1, 1] for l in sums})
    pair = Fused(passages, queries, Fusion("mean", beta=0.5), Tolerances(allow_uneven=True))
    questions = [Question("a", "?", "ar", ()), Question("r", "?", "ru", ())]
    run = search_stores(pair, questions, vectors=f32([[1, 1], [1, 1]]), hits=3)
    # p0 has no queries in either: 1 unscaled; the best has ½ · 1 + ½ · 2, the decoy ½ - 50
    assert in_order(run) == {
        "a": [("p1", 1.5), ("p0", 1.0), ("p2", -49.5)],
        "r": [("p2", 1.5), ("p0", 1.0), ("p1", -49.5)],
    }
    both = search_stores(pair, questions, vectors=f32([[1, 1], [1, 1]]), hits=3, aware=False)
    assert set(both) == {"a", "r"}
    for ranking in in_order(both).values():
        assert ranking == [("p0", 1.0), ("p1", -24.0), ("p2", -24.0)]


def test_questions_in_any_order_or_alone_get_the_same_hits(fused):
    whole = quietly(search_stores, fused(FUSIONS["centred mean"]), QUESTIONS, vectors=VECTORS)
    order = [6, 2, 0, 5, 1, 4, 3]
    shuffled = quietly(
        search_stores, fused(FUSIONS["centred mean"]), [QUESTIONS[i] for i in order],
        vectors=VECTORS[order],
    )  # fmt: skip
    assert list(shuffled) == [QUESTIONS[i].id for i in order]
    for i, question in enumerate(QUESTIONS):
        alone = quietly(search_stores, fused(FUSIONS["centred mean"]), [question], vectors=VECTORS[i : i + 1])
        for other in (shuffled[question.id], alone[question.id]):
            expected = list(whole[question.id].values())
            assert list(other.values()) == pytest.approx(expected, abs=1e-5)


# --- languages without queries, questions without language ----------------------------------------


def unknown(*languages):
    return [Question(f"q{i}", "?", l, ()) for i, l in enumerate(languages)]


def test_questions_in_languages_without_queries_fall_back_to_all_and_are_counted(fused):
    questions = unknown("ar", "ko", "fi", "ja", "ko")
    vectors = np.tile(VECTORS[1], (5, 1))
    pair = fused(FUSIONS["mean"])
    said = told(search_stores, pair, questions, vectors=vectors)
    assert said == [
        "4 questions are in a language without generated queries to use (fi (1), ja (1), ko (2)): ar ru te are mixed in"
    ]
    run = quietly(search_stores, pair, questions, vectors=vectors)
    everything = search_stores(pair, questions, vectors=vectors, aware=False)
    run, everything = in_order(run), in_order(everything)
    assert run["q0"] != run["q1"] == run["q2"] == run["q3"] == everything["q1"]
    assert told(search_stores, pair, questions, vectors=vectors, aware=False) == []
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
    assert message == (f"passages without queries, of {N}, keep their own embedding: {', '.join(said)}")


def test_a_centred_search_says_so_too_and_uses_the_mean_of_all_queries(fused):
    questions = unknown("ko")
    pair = fused(FUSIONS["centred mean"])
    assert told(search_stores, pair, questions, vectors=VECTORS[:1]) == [
        "1 questions are in a language without generated queries to use (ko (1)): "
        "they are centred by the mean of all queries",
        "1 questions are in a language without generated queries to use (ko (1)): ar ru te are mixed in",
    ]
    run = quietly(search_stores, pair, questions, vectors=VECTORS[:1], hits=N)
    pooled = means()[2]
    as_russian = means()[1]["ru"]
    plain = quietly(
        search_stores, pair, [Question("q0", "?", "ru", ())], hits=N, aware=False,
        vectors=(VECTORS[:1] - pooled + as_russian).astype(np.float32),
    )  # fmt: skip
    expected = list(plain["q0"].values())
    assert list(run["q0"].values()) == pytest.approx(expected, abs=1e-4)


def test_a_language_that_is_not_chosen_falls_back_to_the_chosen_ones(fused):
    pair = fused(Fusion("mean", beta=0.25, languages=("ar",)))
    questions = unknown("ru", "ar")
    vectors = np.tile(VECTORS[1], (2, 1))
    run = quietly(search_stores, pair, questions, vectors=vectors)
    assert list(run["q0"].items()) == list(run["q1"].items())
    assert told(search_stores, pair, questions, vectors=vectors)[0].endswith("(ru (1)): ar are mixed in")


@pytest.mark.parametrize(
    ("fusion", "aware"), [("mean", True), ("centred mean", True), ("centred mean", False), ("centred sum", False)]
)
def test_a_question_without_language_is_refused_where_its_language_matters(fused, fusion, aware):
    questions = [*QUESTIONS[:2], Question("007", "?", None, ())]
    options = {"vectors": VECTORS[:3], "aware": aware}
    assert refusal(search_stores, fused(FUSIONS[fusion]), questions, **options) == (
        "question '007' has no language, and the search depends on the language: "
        "give one for all, or questions with lang",
        ("language",),
    )


def test_a_question_without_language_is_searched_where_it_does_not_matter(fused):
    questions = [q._replace(language=None) for q in QUESTIONS]
    options = {"vectors": VECTORS, "aware": False, "hits": N}
    run = search_stores(fused(FUSIONS["mean"]), questions, **options)
    named = search_stores(fused(FUSIONS["mean"]), QUESTIONS, **options)
    assert in_order(run) == in_order(named)


def test_a_language_aware_sum_takes_equal_counts_in_each_language(passages, tmp_path):
    counts = {"ar": [1, 2] * 16, "ru": [2, 1] * 16}
    queries = write_sums(tmp_path / "Q", IDS, {l: SUMS[l] for l in counts}, counts)
    fusion = Fusion("sum", alpha=0.01)
    together = Fused(passages, queries, fusion)  # 3 in total
    for refused in (refusal(together.own_language), refusal(Fused, passages, queries, fusion, own=True)):
        assert refused == (
            "a sum over unequal numbers of queries (1 to 2 a passage in ar) favours the passages "
            "that have more; use the mean (beta), or force it with allow_unequal",
            ("beta", "allow_unequal"),
        )
    assert not together.own
    allowed = Fused(passages, queries, fusion, Tolerances(allow_unequal=True)).own_language()
    assert allowed.own and allowed.mixes == [("ar",), ("ru",)]
    Fused(passages, queries, Fusion("mean", beta=0.1)).own_language()
    even = Fused(passages, queries, Fusion("sum", alpha=0.01, languages=("ar", "ru")))
    assert message(even.own_language).startswith("a sum over unequal numbers of queries (1 to 2")


def test_what_is_searched_is_printed_as_it_is_made(fused, passages, queries, tmp_path):
    one = fused(Fusion("mean", beta=0.5))
    stores = f"VectorStore({str(passages)!r}), QueryStore({str(queries)!r})"
    assert repr(one) == f"Fused({stores}, Fusion('mean', beta=0.5))"
    assert repr(one.own_language()) == f"Fused({stores}, Fusion('mean', beta=0.5), own=True)"
    assert repr(one.write_index(tmp_path / "I")) == f"Index({str(tmp_path / 'I')!r})"


def test_own_languages_are_the_same_stores_read_once(fused, monkeypatch):
    pair = fused(FUSIONS["centred mean"])
    own = pair.own_language()
    assert own is not pair and not pair.own
    assert own.pair is pair.pair and own.own_language().own
    whole = quietly(search_stores, pair, QUESTIONS, vectors=VECTORS, aware=False)
    apart = quietly(own.search, QUESTIONS, vectors=VECTORS)
    assert in_order(apart) != in_order(whole)
    again = quietly(pair.search, QUESTIONS, vectors=VECTORS)
    assert in_order(again) == in_order(whole)


@pytest.mark.parametrize("hits", [0, -1])
def test_fewer_than_one_hit_is_refused(fused, passages, tmp_path, hits):
    expected = (f"hits is {hits}; expected 1 or more", ("hits",))
    index = write_index(passages, tmp_path / "I")
    for searched in (fused(FUSIONS["mean"]), index):
        assert refusal(searched.search, QUESTIONS, hits, vectors=VECTORS) == expected
        assert refusal(searched.search, [], hits) == expected
    assert refusal(SearchSettings, hits) == expected


def test_no_questions_give_an_empty_run(fused, passages, tmp_path):
    index = write_index(passages, tmp_path / "I")
    none = np.zeros((0, D), np.float32)
    assert search_stores(fused(FUSIONS["mean"]), [], vectors=none) == {}
    assert search_stores(fused(FUSIONS["centred mean"]), [], vectors=none) == {}
    assert index.search([], vectors=none) == {}
    assert fused(FUSIONS["mean"]).search([]) == index.search([]) == {}


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
        pair = Fused(passages, queries, fusion, Tolerances(skip_unknown=True)).own_language()
    assert pair.languages == ("ar",)
    questions = unknown("ru", "ar")
    vectors = np.array([[1, 0], [1, 0]], dtype=np.float32)
    (message,) = told(search_stores, pair, questions, vectors=vectors)
    assert message.endswith("to use (ru (1)): ar are mixed in")
    run = quietly(search_stores, pair, questions, vectors=vectors)
    assert list(in_order(run).values()) == [[("a", 0.75), ("b", 0.25)]] * 2
