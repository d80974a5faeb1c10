"""Equal scores: one order by every path, whatever the number of hits, the batch and the threads."""

import json

import faiss
import numpy as np
import pytest
from conftest import write_jsonl
from threadpoolctl import threadpool_limits

import xqg_pyserini as xqg
from xqg_pyserini.retrieve import directories
from xqg_pyserini.retrieve.sweep_pass import Sweep
from xqg_pyserini.retrieve.topk import rounding, settle

D = 48


class Hashed:
    """Texts with one first word have one vector: a random direction by that word."""

    def encode(self, texts):
        vectors = []
        for text in texts:
            draws = np.random.default_rng([ord(c) for c in text.split()[0]])
            vectors.append(draws.normal(size=D))
        vectors = np.array(vectors, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(folder, words):
    """Stores of passages that begin with these words; each has a query in fi and ja."""
    corpus = [{"id": f"p{i}", "contents": f"{word} {i}"} for i, word in enumerate(words)]
    write_jsonl(folder / "corpus.jsonl", corpus)
    queries = [
        {"docid": f"p{i}", "generated_queries": {"fi": [f"{word} a"], "ja": [f"{word}x b"]}}
        for i, word in enumerate(words)
    ]
    write_jsonl(folder / "queries.jsonl", queries)
    encoder = xqg.Encoder(Hashed(), name="hashed")
    passages = xqg.encode_passages(folder / "corpus.jsonl", encoder, folder / "passages")
    sums = xqg.accumulate_queries(folder / "queries.jsonl", passages, folder / "sums", encoder=encoder)
    return encoder, passages, sums


WORDS = [f"w{i % 7}" for i in range(60)]  # seven vectors, eight or nine passages of each
QUESTIONS = [xqg.Question(f"q{i}", f"w{i % 9} ?", ("fi", "ja", "ko")[i % 3]) for i in range(40)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ties")
    encoder, passages, sums = build(folder, WORDS)
    fusion = xqg.Fusion("mean", beta=0.3, normalize=True)
    fused = xqg.Fused(passages, sums, fusion)
    paths = {kind: fused.write_index(folder / kind, kind) for kind in ("fp16", "sq8", "hnsw")}
    paths["flat"] = fused.write_index(folder / "flat")
    paths["stores"] = fused
    paths["own"] = fused.own_language()
    paths["own, index"] = fused.own_language().write_index(folder / "own")
    return encoder, paths


PATHS = ["flat", "fp16", "sq8", "hnsw", "stores", "own", "own, index"]


@pytest.mark.parametrize("path", PATHS)
def test_the_first_hits_of_many_are_the_few_hits(made, path):
    encoder, paths = made
    every = paths[path].search(QUESTIONS, len(WORDS), encoder=encoder)
    for k in (1, 2, 3, 8, 9, 17, 44):
        few = paths[path].search(QUESTIONS, k, encoder=encoder)
        for qid, hits in few.items():
            assert list(hits.items()) == list(every[qid].items())[:k]


def test_more_equals_than_a_graph_would_hand_over_come_in_one_order(tmp_path):
    words = [f"w{i * 7 % 30}" for i in range(900)]  # thirty passages of each vector
    encoder, passages, _ = build(tmp_path, words)
    index = xqg.write_index(passages, tmp_path / "hnsw", "hnsw")
    questions = [xqg.Question(f"q{i}", f"w{i} ?", "fi") for i in range(30)]
    every = index.search(questions, 200, encoder=encoder)
    for k in (1, 6, 17, 31, 100):
        for qid, hits in index.search(questions, k, encoder=encoder).items():
            assert list(hits.items()) == list(every[qid].items())[:k]


@pytest.mark.parametrize("path", PATHS)
def test_equal_scores_stand_in_the_order_of_the_corpus(made, path):
    encoder, paths = made
    for hits in paths[path].search(QUESTIONS, 60, encoder=encoder).values():
        order = [(-score, int(docid[1:])) for docid, score in hits.items()]
        assert order == sorted(order)
        # passages with one vector have one score, to the last bit
        scores = [{s for d, s in hits.items() if WORDS[int(d[1:])] == word} for word in set(WORDS)]
        assert all(len(one) == 1 for one in scores)


def test_index_and_stores_agree_to_the_last_bit(made):
    encoder, paths = made
    for a, b in (("flat", "stores"), ("own, index", "own")):
        first = paths[a].search(QUESTIONS, 13, encoder=encoder)
        second = paths[b].search(QUESTIONS, 13, encoder=encoder)
        assert json.dumps(first) == json.dumps(second)  # the order of the hits counts


@pytest.mark.parametrize("k", [1, 9, 13, 60])
def test_a_sweep_gives_the_runs_of_the_stores_to_the_last_bit(made, k):
    encoder, paths = made
    stores = paths["stores"]
    vectors = encoder.encode_queries([question.text for question in QUESTIONS])
    fusions = [
        xqg.Fusion("mean", beta=0.3, normalize=True),
        xqg.Fusion("mean", beta=0.3, normalize=True, center=True),
        xqg.Fusion("sum", alpha=0.1),
    ]
    points = [xqg.Point(fusion, scope) for fusion in fusions for scope in ("all", "own")]
    runs = Sweep(stores.passages, stores.queries.path, points, QUESTIONS).search(vectors, k)
    for point in points:
        fused = xqg.Fused(stores.passages, stores.queries, point.fusion)
        fused = fused.own_language() if point.scope == "own" else fused
        assert json.dumps(runs[point.name]) == json.dumps(fused.search(QUESTIONS, k, vectors=vectors))
    alone = xqg.write_index(stores.passages, stores.passages.path.parent / f"alone-{k}")
    assert json.dumps(runs["baseline"]) == json.dumps(alone.search(QUESTIONS, k, vectors=vectors))


@pytest.mark.parametrize("path", PATHS)
def test_a_question_alone_finds_what_it_finds_among_others(made, path, monkeypatch):
    encoder, paths = made
    together = paths[path].search(QUESTIONS, 5, encoder=encoder)
    with threadpool_limits(1):
        for question in QUESTIONS[:6]:
            alone = paths[path].search([question], 5, encoder=encoder)
            assert list(alone[question.id].items()) == list(together[question.id].items())
    monkeypatch.setattr(directories, "BATCH", 7)
    again = paths[path].search(QUESTIONS, 5, encoder=encoder)
    assert json.dumps(again) == json.dumps(together)


def test_more_equals_than_are_gathered_are_cut_in_order(tmp_path):
    encoder, passages, sums = build(tmp_path, ["far", *["same"] * 300])
    questions = [xqg.Question("q", "same", "fi"), xqg.Question("r", "far", "fi")]
    fused = xqg.Fused(passages, sums, xqg.Fusion("mean", beta=0.0))
    for searched in (xqg.write_index(passages, tmp_path / "index"), fused, fused.own_language()):
        for k in (1, 3, 150, 299):
            run = searched.search(questions, k, encoder=encoder)
            assert list(run["q"]) == [f"p{i}" for i in range(1, k + 1)]
            assert list(run["r"]) == [f"p{i}" for i in range(k)]
    point = xqg.Point(fused.fusion)
    vectors = encoder.encode_queries(["same", "far"])
    for k in (1, 3, 150, 299):
        run = Sweep(passages, sums.path, [point], questions).search(vectors, k)[point.name]
        assert list(run["q"]) == [f"p{i}" for i in range(1, k + 1)]
        assert list(run["r"]) == [f"p{i}" for i in range(k)]


def test_an_index_that_keeps_no_vectors_is_ordered_by_its_own_scores(tmp_path):
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    index = faiss.index_factory(4, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    (tmp_path / "ivf").mkdir()
    faiss.write_index(index, str(tmp_path / "ivf" / "index"))
    (tmp_path / "ivf" / "docid").write_text("".join(f"d{i}\n" for i in range(12)))
    asked = np.eye(4, dtype=np.float32)[:2] + np.float32(0.1)
    for k in (1, 2, 3, 7):
        run = xqg.Index(tmp_path / "ivf").search({"a": "a", "b": "b"}, k, vectors=asked)
        assert list(run["a"]) == ["d0", "d1", "d2", "d3", "d4", "d5", "d6"][:k]
        assert list(run["b"]) == ["d3", "d4", "d5", "d0", "d1", "d2", "d6"][:k]


def test_settled_by_hand():
    """Rows 7 and 2 tie, 5 is below; a decoy of 100s that is no candidate is not looked at."""
    vectors = {2: [1.0, 0.0], 5: [0.5, 0.5], 7: [1.0, 0.0], 9: [100.0, 100.0]}
    scores, rows = settle(
        np.array([[2.0, 0.0], [0.0, 4.0]], dtype=np.float32),
        np.array([[7, 5, 2], [5, -1, -1]]),
        2,
        lambda wanted: np.array([vectors[row] for row in wanted.tolist()], dtype=np.float32),
    )
    assert rows.tolist() == [[2, 7], [5, -1]]
    assert scores.tolist() == [[2.0, 2.0], [2.0, -np.inf]]


def test_the_bound_of_rounding_holds():
    draws = np.random.default_rng(3)
    queries = draws.normal(size=(50, 384)).astype(np.float32)
    passages = draws.normal(size=(2000, 384)).astype(np.float32)
    true = queries.astype(np.float64) @ passages.astype(np.float64).T
    longest = float(np.linalg.norm(passages, axis=1).max())
    off = np.abs(queries @ passages.T - true).max(axis=1)
    assert (off <= rounding(queries, longest)).all()
