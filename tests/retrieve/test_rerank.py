"""Runs re-ranked: by hand, by tiny models of both kinds, and going on where a job was killed."""

import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from conftest import message, refusal, write_jsonl
from made_models import make_model

import xqg_pyserini as xqg
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.models.reranker import Reranker
from xqg_pyserini.retrieve.rerank import Reranking, RerankSettings, write_reranked

TEXTS = {"a": "1", "b": "7", "c": "3", "d": "7", "x": "9", "never": "99"}
QUESTIONS = [xqg.Question("q1", "1", None, ()), xqg.Question("q2", "-1", None, ()), xqg.Question("q3", "1", None, ())]
RUN = {"q2": {"a": 4.0, "b": 3.0, "c": 2.0}, "q1": {"d": 9.0, "a": 8.0, "b": 7.0, "x": 6.0}}


class Multiplying(Reranker):
    """A question's number times the passage's; stops after some questions."""

    def __init__(self, stop_after=100, weights="w"):
        self.stop_after, self.weights, self.asked, self.computing = stop_after, weights, [], Computing()

    def scores(self, question, passages):
        if len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        self.asked.append((question, list(passages)))
        return [float(question) * float(text) for text in passages]

    def fingerprint(self):
        return self.weights


def in_order(run):
    return {qid: list(hits.items()) for qid, hits in run.items()}


def test_hits_are_put_in_the_order_of_their_new_scores():
    model = Multiplying()
    run = xqg.rerank(RUN, QUESTIONS, TEXTS, model)
    expected = {"q2": [("a", -1.0), ("c", -3.0), ("b", -7.0)], "q1": [("x", 9.0), ("d", 7.0), ("b", 7.0), ("a", 1.0)]}
    assert in_order(run) == expected and list(run) == ["q2", "q1"]  # d and b, equal, stay as they were
    assert model.asked == [("-1", ["1", "7", "3"]), ("1", ["7", "1", "7", "9"])]
    cut = xqg.rerank(RUN, QUESTIONS, TEXTS, model, RerankSettings(depth=2))
    assert in_order(cut) == {"q2": [("a", -1.0), ("b", -7.0)], "q1": [("d", 7.0), ("a", 1.0)]}


def test_texts_are_held_of_no_other_passages_and_titles_are_read():
    job = Reranking(RUN, QUESTIONS, TEXTS, RerankSettings(depth=3))
    assert job.texts == {docid: TEXTS[docid] for docid in "abcd"}
    titled = [xqg.Passage("a", "title", "text")]
    assert Reranking({"q1": {"a": 1.0}}, QUESTIONS, titled).texts == {"a": "title text"}


def test_runs_of_other_questions_and_passages():
    assert message(Reranking, RUN, QUESTIONS[2:], TEXTS) == (
        "none of the 2 question ids of the run are in the questions: 'q1' in the run, 'q3' in the questions"
    )
    with pytest.warns(xqg.XqgWarning, match="the run has 1 questions that the questions file does not; left out"):
        assert list(Reranking(RUN, QUESTIONS[:1], TEXTS).hits) == ["q1"]
    assert message(Reranking, {"q1": {"nowhere": 1.0}}, QUESTIONS, TEXTS) == (
        "the run: passage 'nowhere' is not in the corpus"
    )
    assert refusal(RerankSettings, 0) == ("depth is 0; expected a whole number, 1 or more", ("depth",))


# ---------------------------------------------------------------- killed


@pytest.fixture
def place(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": docid, "text": text} for docid, text in TEXTS.items()])
    xqg.write_run(tmp_path / "run.trec", RUN, "t")
    return tmp_path


def written(place, model, depth=4):
    job = Reranking(place / "run.trec", QUESTIONS, place / "corpus.jsonl", RerankSettings(depth))
    return write_reranked(job, model, place / "out" / "new.trec", tag="t")


def test_a_killed_job_scores_no_question_twice_and_leaves_nothing_beside_its_output(place):
    whole = in_order(written(place, Multiplying()))
    output = place / "out" / "new.trec"
    expected = output.read_text()
    assert [path.name for path in output.parent.iterdir()] == ["new.trec"]
    output.unlink()
    with pytest.raises(KeyboardInterrupt):
        written(place, Multiplying(stop_after=1))
    assert not output.exists()
    scores = output.with_name(".new.trec.scores") / "scores.jsonl"
    scores.write_text(scores.read_text() + '["q1", [1.0, ')  # what was being written
    model = Multiplying()
    assert in_order(written(place, model)) == whole and output.read_text() == expected
    assert [question for question, _ in model.asked] == ["1"]
    assert [path.name for path in output.parent.iterdir()] == ["new.trec"]


@pytest.mark.parametrize("change", ["weights", "depth", "run", "text", "damaged"])
def test_scores_of_another_job_are_not_taken(place, change):
    with pytest.raises(KeyboardInterrupt):
        written(place, Multiplying(stop_after=1))
    model, depth, scores = Multiplying(), 4, place / "out" / ".new.trec.scores" / "scores.jsonl"
    if change == "weights":
        model.weights = "other"
    elif change == "depth":
        depth = 3
    elif change == "run":
        xqg.write_run(place / "run.trec", {qid: RUN[qid] for qid in ("q1", "q2")}, "t")
    elif change == "text":
        write_jsonl(place / "corpus.jsonl", [{"id": d, "text": t + "0"} for d, t in TEXTS.items()])
    else:
        scores.write_text(scores.read_text().replace("[", "{"))
    with pytest.warns(xqg.XqgWarning, match="begun there is given up") if change != "damaged" else nullcontext():
        written(place, model, depth)
    assert len(model.asked) == 2


# ---------------------------------------------------------------- models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A cross-encoder of one score, one of three, and a multi-vector model, all random; and a plain encoder."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("models")
    plain = make_model(folder / "plain")
    for name, labels in (("cross", 1), ("three", 3)):
        shutil.copytree(plain, folder / name)
        torch.manual_seed(labels)
        BertForSequenceClassification(BertConfig.from_pretrained(plain, num_labels=labels)).save_pretrained(
            folder / name
        )
    torch.manual_seed(5)
    sentence_transformers.MultiVectorEncoder(str(plain), device="cpu").save_pretrained(str(folder / "multi"))
    sentence_transformers.CrossEncoder(str(folder / "cross"), device="cpu").save_pretrained(str(folder / "saved"))
    return folder


PASSAGES = ["the nile river in egypt", "moon earth", "cat", "a b c d e f g h i j a b c d e f g h i j a b c d e f"]
ON_CPU = Computing("cpu")


def by_hand_cross(folder, question):
    """One pair at a time, no padding."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = [tokenizer(question, p, truncation=True, max_length=24, return_tensors="pt") for p in PASSAGES]
        return [float(model(**one).logits[0, 0]) for one in inputs]


@pytest.mark.parametrize("name", ["cross", "saved"])
def test_a_cross_encoder_s_scores_are_its_logits(models, name):
    model = Reranker(models / name, Computing("cpu", batch_size=2))
    assert model.kind == "cross-encoder"
    assert model.scores("nile river", PASSAGES) == pytest.approx(
        by_hand_cross(models / "cross", "nile river"), abs=1e-5
    )
    assert model.scores("nile river", []) == []


def test_a_multi_vector_model_adds_up_best_matches(models):
    from sentence_transformers import MultiVectorEncoder

    model = Reranker(models / "multi", ON_CPU)
    assert model.kind == "multi-vector"
    tokens = MultiVectorEncoder(str(models / "multi"), device="cpu")
    (asked,) = tokens.encode_query(["nile river"], convert_to_numpy=True)
    documents = [tokens.encode_document([text], convert_to_numpy=True)[0] for text in PASSAGES]
    expected = [float(np.max(asked @ document.T, axis=1).sum()) for document in documents]
    assert len({round(score, 4) for score in expected}) == len(PASSAGES)
    assert model.scores("nile river", PASSAGES) == pytest.approx(expected, abs=1e-5)


def test_weights_are_told_apart(models, tmp_path):
    kept = {name: Reranker(models / name, ON_CPU).fingerprint() for name in ("cross", "multi")}
    other = Path(shutil.copytree(models / "multi", tmp_path / "multi"))
    assert Reranker(other, ON_CPU).fingerprint() == kept["multi"] != kept["cross"]
    weights = other / "1_Dense" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")  # of the layer on top alone
    assert Reranker(other, ON_CPU).fingerprint() != kept["multi"]


def test_models_that_are_none(models, tmp_path, monkeypatch):
    assert refusal(Reranker, models / "plain", ON_CPU) == (
        f"the model {str(models / 'plain')!r} is BertModel; expected a cross-encoder or a multi-vector model (ColBERT)",
        ("model",),
    )
    assert message(Reranker, models / "three", ON_CPU) == (
        f"the model {str(models / 'three')!r} gives 3 scores a pair; expected one"
    )
    assert "no such folder" in message(Reranker, tmp_path / "none", ON_CPU)
    expected = ("models that re-rank run on torch, not on openvino", ("engine",))
    assert refusal(Reranker, models / "cross", Computing("cpu", "openvino")) == expected
    damaged = Path(shutil.copytree(models / "cross", tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"no")
    assert "cannot load the model" in message(Reranker, damaged, ON_CPU)
    headless = Path(shutil.copytree(models / "plain", tmp_path / "headless"))  # its head would be filled at random
    config = json.loads((headless / "config.json").read_text("utf-8"))
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    (headless / "config.json").write_text(json.dumps(config), "utf-8")
    assert message(Reranker, headless, ON_CPU) == (
        f"the model {str(headless)!r} lacks 2 weights, the first is classifier.bias"
    )
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert message(Reranker, models / "cross") == (
        "the package sentence-transformers is not installed: run pip install 'xqg_pyserini[st]'"
    )


def test_the_command(models, tmp_path, xqg, refused):
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": f"p{i}", "text": text} for i, text in enumerate(PASSAGES)])
    write_jsonl(tmp_path / "topics.jsonl", [{"id": "q", "question": "nile river", "lang": "en"}])
    (tmp_path / "run.trec").write_text("".join(f"q Q0 p{i} {i + 1} {9 - i} t\n" for i in range(4)))
    line = ["rerank", "--run", "run.trec", "--topics", "topics.jsonl", "--corpus", "corpus.jsonl", "--device", "cpu"]
    line += ["--output", "new.trec", "--model"]
    said = json.loads(xqg(*line, models / "cross", "--json", cwd=tmp_path))
    assert said == {"run": "new.trec", "questions": 1, "hits": 4, "tag": "xqg-new", "kind": "cross-encoder"}
    expected = dict(zip((f"p{i}" for i in range(4)), by_hand_cross(models / "cross", "nile river"), strict=True))
    from xqg_pyserini import read_run

    run = read_run(tmp_path / "new.trec")["q"]
    assert run == pytest.approx(expected, abs=1e-5) and list(run) == sorted(run, key=run.get, reverse=True)
    assert refused(*line, models / "plain", cwd=tmp_path).endswith("a multi-vector model (ColBERT) (--model)")
    assert refused(*line, models / "cross", "--depth", 0, cwd=tmp_path).endswith("1 or more (--depth)")
    copied, inside = shutil.copytree(models / "cross", tmp_path / "model"), ["--output", "model/config.json"]
    before = (copied / "config.json").read_bytes()
    assert "model/config.json: is one of the inputs" in refused(*line, "model", *inside, cwd=tmp_path)
    assert (copied / "config.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
