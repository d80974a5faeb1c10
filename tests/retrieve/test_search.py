"""Search of an index is Faiss's own, and that of the stores, with the encoder of both."""

from dataclasses import replace

import faiss
import numpy as np
import pytest
from conftest import message, refusal, write_jsonl
from made_search import (  # noqa: F401 - some are fixtures, some for test_sweep
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
    passages,
    queries,
    search_stores,
    told,
)
from made_stores import CORPUS, FAKE, GENERATED, FakeEncoder, engine, f32, fake, quietly  # noqa: F401 - some are fixtures
from threadpoolctl import threadpool_info, threadpool_limits

from xqg_pyserini import data
from xqg_pyserini.data import Question
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.models import registry
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve import directories
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.search import Index

# --- indexes --------------------------------------------------------------------------------------


def built(passages, queries, tmp_path, fusion, kind="flat") -> Index:
    fused = Fused(passages, queries, fusion, Tolerances(allow_unequal=True, allow_uneven=True))
    return quietly(fused.write_index, tmp_path / "I", kind, overwrite=True)


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_search_of_an_index_is_faiss_own_search(passages, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(directories, "BATCH", batch)
    write_index(passages, tmp_path / "I")
    run = in_order(Index(tmp_path / "I").search(QUESTIONS, 10, vectors=VECTORS))
    index = faiss.IndexFlatIP(D)
    index.add(E)
    scores, _ = index.search(VECTORS, 10)
    for i, question in enumerate(QUESTIONS):
        truth = sorted(zip(-(E @ VECTORS[i]), range(N), strict=True))[:10]  # of equals the first
        assert run[question.id] == [(IDS[row], -score) for score, row in truth]
        assert [score for _, score in run[question.id]] == scores[i].tolist()


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)
def test_an_index_and_the_stores_give_one_run(passages, queries, fused, tmp_path, fusion, normalize, kind):
    """Hits may change places only among scores within 1e-6 of each other (and of rounding)."""
    fusion = replace(fusion, normalize=normalize)
    index = built(passages, queries, tmp_path, fusion, kind)
    by_index = quietly(index.search, QUESTIONS, N, vectors=VECTORS)
    by_stores = quietly(fused(fusion).search, QUESTIONS, N, vectors=VECTORS)
    assert list(by_index) == list(by_stores)
    for qid, hits in by_index.items():
        assert hits == pytest.approx(by_stores[qid], abs=2e-5)
        assert list(hits.values()) == sorted(hits.values(), reverse=True)


def test_more_hits_than_passages_give_all_of_them(passages, tmp_path):
    for kind in ("flat", "fp16", "sq8", "hnsw"):
        index = write_index(passages, tmp_path / kind, kind)
        run = index.search(QUESTIONS, 1000, vectors=VECTORS)
        assert all(set(hits) == set(IDS) for hits in run.values())


def most_threads() -> int:
    return max(pool["num_threads"] for pool in threadpool_info())


@pytest.mark.parametrize(("where", "name"), [(directories.FaissDirectory, "best"), (Fused, "fuse")])
def test_threads_are_limited_while_it_searches_and_not_after(passages, queries, tmp_path, monkeypatch, where, name):
    fused = Fused(passages, queries, Fusion("mean", beta=0.25))
    searched = fused if where is Fused else fused.write_index(tmp_path / "I")
    step, seen = getattr(where, name), []

    def watched(*arguments):
        seen.append(most_threads())
        return step(*arguments)

    monkeypatch.setattr(where, name, watched)
    with threadpool_limits(2):
        for threads in (1, None):
            searched.search(QUESTIONS, 3, vectors=VECTORS, threads=threads)
            assert most_threads() == 2
    assert set(seen[: len(seen) // 2]) == {1}
    assert set(seen[len(seen) // 2 :]) == {2}


def test_a_centred_index_centres_each_question_by_its_language(passages, queries, tmp_path):
    index = built(passages, queries, tmp_path, FUSIONS["centred mean"])
    run = quietly(index.search, QUESTIONS, N, vectors=VECTORS)
    assert_same_run(run, brute(FUSIONS["centred mean"], aware=False), N, 1e-4)
    assert told(index.search, QUESTIONS, vectors=VECTORS) == [
        "1 questions are in a language without generated queries to use (ja (1)): "
        "they are centred by the mean of all queries"
    ]
    questions = [q._replace(language=None) for q in QUESTIONS]
    assert refusal(index.search, questions, vectors=VECTORS) == (
        f"question '00' has no language, and {index.path} is centred: give one for all, or questions with lang",
        ("language",),
    )
    plain = built(passages, queries, tmp_path, FUSIONS["mean"])
    assert len(plain.search(questions, vectors=VECTORS)) == len(QUESTIONS)


def test_the_given_vectors_are_left_as_they_are(passages, queries, fused, tmp_path):
    vectors = VECTORS.copy()
    index = built(passages, queries, tmp_path, FUSIONS["centred mean"])
    quietly(index.search, QUESTIONS, vectors=vectors)
    quietly(search_stores, fused(FUSIONS["centred mean"]), QUESTIONS, vectors=vectors)
    assert np.array_equal(vectors, VECTORS)


# --- with an encoder ------------------------------------------------------------------------------


@pytest.fixture
def encoded(fake, tmp_path):
    """A corpus and its queries, encoded by the encoder that reads vectors off texts."""
    corpus = write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    queries = write_jsonl(tmp_path / "queries.jsonl", GENERATED)
    encode_passages(corpus, fake, tmp_path / "passages")
    quietly(accumulate_queries, queries, tmp_path / "passages", tmp_path / "sums")
    FakeEncoder.seen = []
    return tmp_path


ASKED = [Question("007", "1 0 2", "ar", ()), Question("-9", "0 -1 0.5", "ru", ())]


def test_questions_are_encoded_as_queries_by_the_encoder_of_the_stores(encoded):
    pair = Fused(encoded / "passages", encoded / "sums", Fusion("mean", beta=0.5), Tolerances(allow_uneven=True))
    run = in_order(search_stores(pair, ASKED, hits=2))
    assert FakeEncoder.seen == ["q: 0 -1 0.5", "q: 1 0 2"]
    # ar, q = (1, 0, 2, -1): 007 has ½ (1, 2, 3, 1) + ½ (12, 24, 36, -3) / 3 = (2.5, 5, 7.5, 0),
    # قطة ½ (7, 8, 9, 1) + ½ (1, 1, 1, -1) = (4, 4.5, 5, 0); -1234567890123456789 alone 15
    assert run["007"] == [("007", 17.5), ("-1234567890123456789", 15.0)]
    # ru, q = (0, -1, 0.5, -1): d alone (0, 0, 0, 1) has -1;
    # e ½ (-1, -2, -3.5, 1) + ½ (½, 1, 0, -1) = (-0.25, -0.5, -1.75, 0) has -0.375;
    # 007 ½ (1, 2, 3, 1) + ½ (-1, 0, 0.5, -1) = (0, 1, 1.75, 0) has -0.125
    assert run["-9"] == [("007", -0.125), ("e", -0.375)]
    vectors = f32([[1, 0, 2, -1], [0, -1, 0.5, -1]])
    assert in_order(search_stores(pair, ASKED, hits=2, vectors=vectors)) == run


def test_an_index_is_searched_by_the_encoder_that_it_names(encoded):
    write_index(encoded / "passages", encoded / "I")
    run = Index(encoded / "I").search(ASKED, 1)
    assert FakeEncoder.seen == ["q: 0 -1 0.5", "q: 1 0 2"]
    assert run == {"007": {"قطة": 24.0}, "-9": {"e": -0.75}}


def test_an_encoder_that_is_not_the_stores_is_refused(encoded):
    pair = Fused(encoded / "passages", encoded / "sums", Fusion("mean", beta=0.5), Tolerances(allow_uneven=True))
    index = write_index(encoded / "passages", encoded / "I")
    places = [
        (encoded / "passages", lambda **options: search_stores(pair, ASKED, **options)),
        (encoded / "I", lambda **options: index.search(ASKED, **options)),
    ]
    for where, call in places:
        assert message(call, encoder=Encoder(FAKE, query_prefix="p: ")) == (
            f"encoder fake: query_prefix is 'p: ', but {where} was made with 'q: '; use one encoder for both"
        )
        FakeEncoder.weights = "w2"
        for options in ({}, {"encoder": Encoder(FAKE)}):
            assert message(call, **options) == (
                f"encoder fake (w2) is not the one that {where} was made with (fake, w1); use that, or encode again"
            )
        FakeEncoder.width = 6
        assert message(call) == (
            f"encoder fake gives 7 dimensions, but {where} has 4; use the encoder that it was made with"
        )
        FakeEncoder.weights, FakeEncoder.width = "w1", 3
        assert len(call()) == 2


def test_an_index_that_names_no_encoder_is_searched_with_the_one_that_is_given(encoded, monkeypatch):
    expected = write_index(encoded / "passages", encoded / "I").search(ASKED)
    (encoded / "I" / "xqg.json").unlink()
    index = Index(encoded / "I")
    assert refusal(index.search, ASKED) == (
        f"{encoded / 'I'} does not say its encoder (no xqg.json): name it",
        ("encoder",),
    )
    entry = {"backend": "fake", "model": "none", "query_prefix": "q: "}
    monkeypatch.setattr(registry, "registry", lambda: {"mine": entry})
    run = index.search(ASKED, encoder=Encoder("mine"))
    assert in_order(run) == in_order(expected)
    named = index.search(ASKED, encoder=Encoder.for_store(index, "mine"))
    assert in_order(named) == in_order(expected)
    FakeEncoder.width = 5
    assert message(index.search, ASKED, encoder=Encoder("mine")) == (
        f"encoder mine gives 6 dimensions, but {encoded / 'I'} has 4; use the encoder that it was made with"
    )


def test_a_description_that_names_no_encoder_is_a_damaged_one(encoded):
    write_index(encoded / "passages", encoded / "I")
    (encoded / "I" / "xqg.json").write_text("{}")
    assert str(encoded / "I") in message(Index, encoded / "I")


def test_passages_encoded_in_another_order_give_the_same_run(encoded):
    """The whole way from files: sums of one order beside passages of the other."""
    write_jsonl(encoded / "reversed.jsonl", CORPUS[::-1])
    encode_passages(encoded / "reversed.jsonl", FAKE, encoded / "backwards")
    for fusion in (Fusion("mean", beta=0.5), Fusion("mean", beta=0.5, normalize=True, center=True)):
        runs = [
            search_stores(Fused(encoded / name, encoded / "sums", fusion, Tolerances(allow_uneven=True)), ASKED, hits=5)
            for name in ("passages", "backwards")
        ]
        for qid in runs[0]:
            assert runs[0][qid] == pytest.approx(runs[1][qid], abs=1e-5)


def test_a_run_is_written_and_read_back_as_it_was(fused, tmp_path):
    run = quietly(search_stores, fused(FUSIONS["mean"]), QUESTIONS, vectors=VECTORS)
    data.write_run(tmp_path / "r.trec", run, "xqg-r")
    assert in_order(data.read_run(tmp_path / "r.trec")) == in_order(run)


@pytest.mark.parametrize("shape", [(len(QUESTIONS), D + 1), (len(QUESTIONS) - 1, D), (D,)])
def test_vectors_of_a_wrong_shape_are_refused(passages, fused, tmp_path, shape):
    vectors = np.ones(shape, np.float32)
    index = write_index(passages, tmp_path / "I")
    for searched, path in ((index, tmp_path / "I"), (fused(FUSIONS["mean"]), passages)):
        assert message(searched.search, QUESTIONS, vectors=vectors) == (
            f"vectors of shape {shape} for {len(QUESTIONS)} questions and {path} with {D} dimensions"
        )


def test_questions_may_be_a_file_or_values_of_any_kind(passages, tmp_path):
    index = write_index(passages, tmp_path / "I")
    expected = in_order(index.search(QUESTIONS, vectors=VECTORS))
    records = [{"id": q.id, "question": q.text, "lang": q.language} for q in QUESTIONS]
    path = write_jsonl(tmp_path / "q.jsonl", records)
    pairs = [(q.id, q.text) for q in QUESTIONS]
    for questions in (path, str(path), records, dict(pairs), pairs, iter(QUESTIONS)):
        assert in_order(index.search(questions, vectors=VECTORS)) == expected
