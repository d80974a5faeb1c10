"""Generated queries as a retriever's training data."""

import gzip
import json

import numpy as np
import pytest
from conftest import PASSAGES, QUERIES, message, write_jsonl
from made_models import make_model

from xqg_pyserini.train.data import Draws, Examples
from xqg_pyserini.train.retriever import train_retriever
from xqg_pyserini.train.settings import RetrieverSettings
from xqg_pyserini.train.synthetic import Synthetic

TEXTS = {p["id"]: f"{p['title']} {p['text']}" if p["title"] else p["text"] for p in PASSAGES}


@pytest.fixture
def corpus(tmp_path):
    return str(write_jsonl(tmp_path / "corpus.jsonl", PASSAGES))


def queries(path, records):
    write_jsonl(path, [{"docid": d, "generated_queries": q} for d, q in records])
    return str(path)


def test_an_item_is_a_passage_and_a_language(tmp_path, corpus):
    source = queries(tmp_path / "queries.jsonl", reversed(QUERIES.items()))
    made = Synthetic([source], corpus, tmp_path / "copies")
    assert len(made) == 10
    drawn = [made.draw(i, 7, 1, 0) for i in range(len(made))]
    expected = [(text, (TEXTS[docid],)) for docid, texts in reversed(QUERIES.items()) for (text,) in texts.values()]
    assert [(one.query, one.passages) for one in drawn] == expected
    assert all(one.positives == {one.passages[0]} and one.scores is None for one in drawn)
    assert made.lengths.tolist() == [len(text) for text, _ in expected]


def test_each_query_comes_once_before_any_comes_again(tmp_path, corpus):
    texts = ["a\tb", " ", "c", "d\ne", "f"]
    source = queries(tmp_path / "q.jsonl", [("d4", {"ar": ["x"], "fi": texts, "ru": [""]})])
    made = Synthetic([source], corpus, tmp_path / "copies")
    assert len(made) == 2  # ru says nothing
    epochs = [made.draw(1, 0, 5, epoch).query for epoch in range(8)]
    assert sorted(epochs[:4]) == ["a b", "c", "d e", "f"]
    assert epochs[4:] == epochs[:4]
    orders = {tuple(made.draw(1, 0, seed, e).query for e in range(4)) for seed in range(9)}
    assert len(orders) > 3


def test_compressed_shards_and_several_records_of_a_passage(tmp_path, corpus):
    plain = queries(tmp_path / "q.jsonl", [("d4", {"ar": ["one"]}), ("d4", {"fi": ["two"]})])
    zipped = tmp_path / "q.jsonl.gz"
    with open(plain, "rb") as file:
        zipped.write_bytes(gzip.compress(file.read()))
    made = Synthetic([plain, str(zipped)], corpus, tmp_path / "copies")
    assert [made.draw(i, 0, 1, 3).query for i in range(4)] == ["one", "two", "one", "two"]


def test_beside_examples_each_part_draws_as_if_alone(tmp_path, corpus):
    data = tmp_path / "train.tsv"
    data.write_text("q1\tp1\nq2\tp2\n", encoding="utf-8")
    source = queries(tmp_path / "q.jsonl", QUERIES.items())
    examples, made = Examples([str(data)]), Synthetic([source], corpus, tmp_path / "copies")
    draws = Draws([examples, made], negatives=0, seed=3)
    draws.set_epoch(2)
    assert len(draws) == 12
    assert draws.lengths.tolist() == [*examples.lengths, *made.lengths]
    assert draws[1] == examples.draw(1, 0, 3, 2)
    assert draws[11] == made.draw(9, 0, 3, 2)


def test_a_retriever_learns_from_generated_queries(tmp_path, corpus, xqg):
    model = make_model(tmp_path / "model")
    # words that the tiny model's vocabulary has
    asked = {"007": "a b", "-1234567890123456789": "c d", "قطة": "e f", "d4": "g h", "d5": "i j"}
    source = queries(tmp_path / "q.jsonl", [(d, {"fi": [q]}) for d, q in asked.items()])
    told = ["nile egypt", "river", "cat sleeps", "bread yeast gas", "moon earth"]
    told = [{"id": d, "title": "", "body": t} for d, t in zip(asked, told, strict=True)]
    corpus = str(write_jsonl(tmp_path / "told.jsonl", told))
    common = ("train", "retriever", "--model", model, "--synthetic", source, "--corpus", corpus, "--text-field", "body")
    common += ("--pooling", "mean", "--max-steps", 60, "--batch-size", 5, "--device", "cpu")
    xqg(*common, "--normalize", "--temperature", 0.1, "--learning-rate", "1e-2", "--output", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "training.json").read_text("utf-8"))
    assert record["loss"] < np.log(5) - 0.5
    assert set(record["sources"]) == {source, corpus}
    assert not (tmp_path / "out" / "synthetic").exists()


@pytest.mark.parametrize(
    ("some", "expected"),
    [
        ({"synthetic": ("q",)}, "generated queries and their corpus go together"),
        ({"corpus": "c", "data": ("d",)}, "generated queries and their corpus go together"),
        ({"synthetic": ("q",), "corpus": "c", "distill": 0.5}, "distillation compares"),
        ({}, "no training data"),
    ],
)
def test_settings_that_do_not_go_together(some, expected):
    assert expected in message(RetrieverSettings, model="m", output="o", **some)


def test_queries_of_an_unknown_passage_leave_nothing(tmp_path, corpus):
    model = make_model(tmp_path / "model")
    source = queries(tmp_path / "q.jsonl", [("d4", {"ar": ["x"]}), ("d9", {"ar": ["x"]})])
    settings = RetrieverSettings(
        model=str(model), output=str(tmp_path / "out"), synthetic=(source,), corpus=corpus, pooling="mean"
    )
    assert "line 2: passage 'd9' is not in" in message(train_retriever, settings)
    assert not any(path.name.startswith((".out", "out")) for path in tmp_path.iterdir())
