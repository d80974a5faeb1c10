"""Training a retriever: loss, loop, settings, files; through the command where a user would."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import parse_json, record, write_jsonl
from safetensors.numpy import load_file

from xqg_pyserini.cli.main import main
from xqg_pyserini.errors import UserError
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.registry import resolve
from xqg_pyserini.models.tuning.methods import METHODS, UNMERGED, WHOLE, TuningSettings
from xqg_pyserini.train.data import draw
from xqg_pyserini.train.retriever import (
    RetrieverCollator,
    contrastive_loss,
    distillation_loss,
    token_chunks,
    train_retriever,
)
from xqg_pyserini.train.settings import RetrieverSettings, read_settings
from xqg_pyserini.train.validation import best_rank

WORDS = 24  # of each of the two toy languages


# ---------------------------------------------------------------- a toy task


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small untrained BERT over words f0 … f23 and their translations e0 … e23."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model") / "bert"
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    words += [f"{side}{i}" for side in "fe" for i in range(WORDS)]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_max_length=16,
    ).save_pretrained(folder)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def pairs(n: int, seed: int) -> list[tuple[str, str]]:
    """Questions of three foreign words, and the same words in the other language and order."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        words = random.choice(WORDS, 3, replace=False)
        again = random.permutation(words)
        made.append((" ".join(f"f{w}" for w in words), " ".join(f"e{w}" for w in again)))
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    seen = pairs(400, seed=1)
    new = [p for p in pairs(60, seed=2) if set(p[0].split()) not in [set(q.split()) for q, _ in seen]]
    (folder / "train.tsv").write_text("".join(f"{q}\t{p}\n" for q, p in seen))
    write_jsonl(folder / "validation.jsonl", [record(q, p, answers=[p.split()[0]]) for q, p in new])
    return folder


def settings(model: Path, data: Path, output: Path, **changes) -> RetrieverSettings:
    return RetrieverSettings(
        **{
            "model": model,
            "data": data / "train.tsv",
            "output": output,
            "pooling": "mean",
            "normalize": True,
            "learning_rate": 3e-3,
            "batch_size": 16,
            "max_steps": 6,
            "device": "cpu",
            **changes,
        }
    )


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {
        f"{path.relative_to(folder)}:{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


# ---------------------------------------------------------------- the loss, by hand


def test_loss_is_the_hand_computed_one():
    queries = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    # the third passage is a decoy of 100s, left out for the first question only
    passages = torch.tensor([[3.0, 1.0], [1.0, 1.0], [100.0, -100.0]])
    left_out = torch.tensor([[False, False, True], [False, False, False]])
    loss = contrastive_loss(queries, passages, torch.tensor([0, 1]), left_out, temperature=2.0)
    first = -math.log(math.exp(3 / 2) / (math.exp(3 / 2) + math.exp(1 / 2)))
    second = -math.log(math.exp(1) / (math.exp(1) + math.exp(1) + math.exp(-100)))
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_distillation_is_the_hand_computed_divergence():
    queries = torch.tensor([[1.0, 0.0], [5.0, 5.0]])
    passages = torch.tensor([[2.0, 9.0], [1.0, 9.0], [7.0, 7.0]])
    own = torch.tensor([[0, 1], [2, -1]])
    scores = torch.tensor([[4.0, 0.0], [float("nan"), float("nan")]])  # the second has none
    loss = distillation_loss(queries, passages, own, scores, 1.0, 2.0)
    teacher = [math.exp(2) / (math.exp(2) + 1), 1 / (math.exp(2) + 1)]
    student = [math.exp(2) / (math.exp(2) + math.exp(1)), math.exp(1) / (math.exp(2) + math.exp(1))]
    expected = sum(t * math.log(t / s) for t, s in zip(teacher, student, strict=True))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_distillation_of_ragged_candidates_has_finite_gradients():
    queries = torch.randn(2, 3, requires_grad=True)
    own = torch.tensor([[0, 1, 2], [3, -1, -1]])
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, float("nan"), float("nan")]])
    distillation_loss(queries, torch.randn(4, 3), own, scores, 0.1, 1.0).backward()
    assert torch.isfinite(queries.grad).all()
    assert (queries.grad[1] == 0).all()  # one candidate: nothing to learn


def test_other_positives_are_no_negatives(model):
    encoder = resolve(str(model), {"pooling": "mean"})
    from xqg_pyserini.models.pretrained import load_tokenizer

    collate = RetrieverCollator(load_tokenizer(str(model)), encoder, 16)
    batch = [
        draw(parse_json(record("f0", "e0") | {"negative_passages": [{"text": "e5"}]}), 1, (1, 0, 0)),
        draw(parse_json(record("f1", "e0")), 1, (1, 0, 1)),
        draw(parse_json(record("f2", "e2")), 1, (1, 0, 2)),
    ]
    made = collate(batch)
    assert made["targets"].tolist() == [0, 2, 3]
    assert made["own"].tolist() == [[0, 1], [2, -1], [3, -1]]
    assert made["left_out"].tolist() == [
        [False, False, True, False],
        [True, False, False, False],
        [False, False, False, False],
    ]


# ---------------------------------------------------------------- training


def mrr(folder: Path, data: Path, **flags) -> float:
    lines = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    encoder = Encoder(folder, **flags)
    queries = encoder.encode_queries([line["query"] for line in lines])
    passages = encoder.encode_passages([line["positive_passages"][0]["text"] for line in lines])
    scores = queries @ passages.T
    return 100 * float(np.mean([1 / best_rank(row, [i]) for i, row in enumerate(scores)]))


def test_a_retriever_learns_what_the_untrained_one_does_not_know(model, data, tmp_path):
    """Word for word translation, on questions whose words never stood together in training."""
    untrained = mrr(model, data, pooling="mean", normalize=True)
    done = train_retriever(
        settings(model, data, tmp_path / "out", max_steps=150, validation=str(data / "validation.jsonl"), eval_steps=50)
    )
    trained = mrr(tmp_path / "out", data)
    assert untrained < 35
    assert trained > 85
    best = max(v["mrr@10"] for v in done["validation"])
    assert done["best_metric"] == best
    # the folder holds the best step's weights: what validation saw is what the registry gives
    assert trained == pytest.approx(best, abs=1.5)


@pytest.fixture(scope="module")
def still(model, tmp_path_factory) -> Path:
    """The same model without dropout."""
    copy = tmp_path_factory.mktemp("still") / "bert"
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_chunks_leave_out_what_is_padding_in_all_rows():
    tokens = {
        "input_ids": torch.arange(12).reshape(3, 4),
        "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]),
    }
    first, second = token_chunks(tokens, 2)
    assert first["input_ids"].tolist() == [[0, 1], [4, 5]]
    assert second["input_ids"].tolist() == [[8, 9, 10, 11]]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_caching_is_one_big_batch(model, still, data, tmp_path, dropout):
    """The same weights after some steps; with dropout the loss falls all the same."""
    model = still if dropout == 0 else model
    steps = 6 if dropout == 0 else 60
    whole = train_retriever(settings(model, data, tmp_path / "whole", max_steps=steps))
    parts = train_retriever(settings(model, data, tmp_path / "parts", chunk_size=3, max_steps=steps))
    if dropout == 0:
        assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        expected, resumed = weights(tmp_path / "whole"), weights(tmp_path / "parts")
        assert expected.keys() == resumed.keys()
        for name in expected:
            np.testing.assert_allclose(resumed[name], expected[name], atol=2e-4)
    else:
        assert parts["loss"] < 2.3  # ln 16 = 2.77: nothing learned
        assert whole["loss"] == pytest.approx(parts["loss"], abs=0.5)


def test_accumulation_is_the_mean_of_batches(still, tmp_path):
    """All examples are one: any two batches of two have the gradient of one of them."""
    row = record("f1 f2", "e1 e2") | {"negative_passages": [{"text": "e3 e4"}]}
    write_jsonl(tmp_path / "train.tsv", [row] * 12)
    options = {"batch_size": 2, "max_steps": 3, "max_grad_norm": 0.0}
    once = train_retriever(settings(still, tmp_path, tmp_path / "once", **options))
    twice = train_retriever(settings(still, tmp_path, tmp_path / "twice", accumulation=2, **options))
    assert twice["loss"] == pytest.approx(once["loss"], rel=1e-5)
    expected, accumulated = weights(tmp_path / "once"), weights(tmp_path / "twice")
    for name in expected:
        np.testing.assert_allclose(accumulated[name], expected[name], atol=1e-5)


def test_a_loss_that_is_not_finite_is_no_result(model, data, tmp_path):
    """Also where it becomes so between two records of the loss."""
    for change in ({"temperature": 1e-45}, {"learning_rate": 1e38, "warmup": 0.0}):
        with pytest.raises(UserError, match=r"the loss is (nan|inf)"):
            train_retriever(settings(model, data, tmp_path / "out", log_steps=1000, **change))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["full", "lora", "prefix"])
def test_a_resumed_training_ends_with_the_same_bytes(model, data, tmp_path, method):
    """The first try is stopped by an error in the middle of a later step."""
    from xqg_pyserini.train import retriever

    options = {"tuning": TuningSettings(method=method, virtual_tokens=3), "save_steps": 4, "max_steps": 10}
    train_retriever(settings(model, data, tmp_path / "whole", **options))
    original, calls = retriever.contrastive_loss, []

    def stopping(*args):
        calls.append(1)
        if len(calls) == 7:
            raise RuntimeError("power cut")
        return original(*args)

    retriever.contrastive_loss = stopping
    try:
        with pytest.raises(RuntimeError, match="power cut"):
            train_retriever(settings(model, data, tmp_path / "again", **options))
        assert not (tmp_path / "again").exists()
        calls.clear()
        calls.extend([1] * 100)
        done = train_retriever(settings(model, data, tmp_path / "again", **options))
    finally:
        retriever.contrastive_loss = original
    assert len(calls) == 106  # four steps were not taken again
    assert done["steps"] == 10
    for path in sorted((tmp_path / "whole").rglob("*.safetensors")):
        twin = tmp_path / "again" / path.relative_to(tmp_path / "whole")
        assert twin.read_bytes() == path.read_bytes()


def test_untied_models_differ_and_are_both_used(model, data, tmp_path):
    done = train_retriever(settings(model, data, tmp_path / "out", untied=True))
    chosen = resolve(str(tmp_path / "out"))
    assert chosen.query_model and chosen.query_model != chosen.model
    encoder = Encoder(chosen)
    query, passage = encoder.encode_queries(["f1 f2 f3"]), encoder.encode_passages(["f1 f2 f3"])
    assert np.abs(query - passage).max() > 1e-3
    tied = train_retriever(settings(model, data, tmp_path / "tied"))
    assert done["trainable_parameters"] == 2 * tied["trainable_parameters"]


def test_early_stopping_keeps_the_best(model, data, tmp_path):
    """At a learning rate that destroys the model, the first validation stays the best."""
    done = train_retriever(
        settings(
            model,
            data,
            tmp_path / "out",
            learning_rate=30.0,
            warmup=0.0,
            max_grad_norm=0.0,
            max_steps=100,
            validation=str(data / "validation.jsonl"),
            eval_steps=2,
            patience=2,
            metric="R@0.003kt",
        )
    )
    assert done["steps"] < 100
    assert done["best_metric"] == max(v["R@0.003kt"] for v in done["validation"])
    assert done["steps"] == done["best_step"] + 2 * 2


def test_negatives_and_scores_are_used(model, tmp_path):
    """A hard negative that the batch lacks is pushed away; scores pull it near again."""
    rows = [
        record(q, p, scores=[1.0, 1.0]) | {"negative_passages": [{"text": p.replace("e", "f")}]}
        for q, p in pairs(64, seed=5)
    ]
    folder = tmp_path / "d"
    folder.mkdir()
    write_jsonl(folder / "train.tsv", rows)
    gaps = {}
    for name, more in {
        "without": {"negatives": 0},
        "with": {"negatives": 1},
        "distilled": {"negatives": 1, "distill": 1.0},
    }.items():
        train_retriever(settings(model, folder, tmp_path / name, max_steps=150, **more))
        encoder = Encoder(tmp_path / name)
        query = encoder.encode_passages([row["query"] for row in rows])
        positive = encoder.encode_passages([row["positive_passages"][0]["text"] for row in rows])
        negative = encoder.encode_passages([row["negative_passages"][0]["text"] for row in rows])
        gaps[name] = float((query * (positive - negative)).sum(1).mean())
    assert gaps["with"] > gaps["without"] + 0.1
    assert abs(gaps["distilled"]) < gaps["with"] / 2  # equal scores: equal similarities


# ---------------------------------------------------------------- settings


def test_settings_of_yaml_and_flags(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "model: m\ndata: d.jsonl\noutput: o\nlearning-rate: 1e-4\n"
        "tuning: {method: lora, rank: 4}\nuntied: true\nmax_steps: 5\n"
    )
    read = read_settings(RetrieverSettings, path, {"output": "p", "rank": None, "max_steps": 7})
    assert (read.model, read.data, read.output) == ("m", ("d.jsonl",), "p")
    assert (read.learning_rate, read.max_steps, read.untied) == (1e-4, 7, True)
    assert read.tuning == TuningSettings(method="lora", rank=4)
    assert json.loads(json.dumps(read.record()))["tuning"]["rank"] == 4


def test_the_published_recipe():
    """arXiv 2305.03950: batch 128, 7 hard negatives, 40 epochs, first token, dot product."""
    given = {"model": "m", "data": ["d"], "output": "o"}
    read = read_settings(RetrieverSettings, "xdr", given)
    assert (read.batch_size, read.negatives, read.learning_rate) == (128, 7, 1e-5)
    assert (read.epochs, read.pooling, read.normalize) == (40, "cls", False)
    assert (read.query_length, read.passage_length, read.temperature) == (32, 128, 1.0)
    assert read.tuning.method == "full"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modle: m", "'modle' is unknown; expected model"),
        ("model: m\ndata: d\noutput: o\nepochs: many", "epochs is 'many'; expected a number"),
        ("model: m\ndata: d\noutput: o\nbatch_size: 1.5", "batch_size is 1.5; expected a whole"),
        ("model: m\ndata: d\noutput: o\nbatch_size: 0", "batch_size is 0; expected a whole number, 1 or more"),
        ("model: m\ndata: d\noutput: o\nuntied: 3", "untied is 3; expected true or false"),
        ("model: m\ndata: d\noutput: o\ntuning: lorra", "lorra"),
        ("model: m\ndata: d\noutput: o\nsave: x", "save is 'x'; expected auto, adapter, merged"),
        ("model: m\ndata: d\noutput: o\npatience: 2", "need validation data"),
        ("model: m\ndata: d\noutput: o\ntemperature: 0", "temperature is 0.0; expected a number, above 0"),
        ("model: m\ndata: d", "output is missing: give it, here or in the configuration file"),
        ("- a", "expected a mapping"),
        ("a: [", "broken YAML"),
    ],
)
def test_settings_that_are_none(tmp_path, text, expected):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_settings(RetrieverSettings, path, {})
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- the command


FLAGS = ("--pooling", "mean", "--normalize", "--batch-size", 16, "--learning-rate", "3e-3")


def test_command_killed_and_run_again(xqg, model, data, tmp_path):
    """SIGKILL in the middle, the same command again: the weights of an undisturbed one."""
    common = ("train", "retriever", "--model", model, "--data", data / "train.tsv", *FLAGS)
    common += ("--max-steps", 120, "--save-steps", 10, "--device", "cpu")
    whole = xqg(*common, "--output", tmp_path / "whole")
    assert re.search(r"full: [\d,]+ of [\d,]+ parameters trained", whole)
    killed = [*common, "--output", tmp_path / "killed"]
    process = subprocess.Popen([sys.executable, "-m", "xqg_pyserini", *map(str, killed)], stderr=subprocess.DEVNULL)
    progress = tmp_path / ".killed.partial" / "progress.json"
    deadline = time.monotonic() + 120
    while not progress.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    assert progress.exists()
    xqg(*killed)
    for name in ("model.safetensors", "config.json", "xqg_encoder.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not os.path.exists(tmp_path / ".killed.partial")
    assert any((tmp_path / "killed" / "logs").iterdir())  # TensorBoard's
    before = (tmp_path / "killed" / "training.json").stat().st_mtime_ns
    again = json.loads(xqg(*killed, "--json"))  # finished: not done again
    assert (tmp_path / "killed" / "training.json").stat().st_mtime_ns == before
    assert again["steps"] == 120


def test_trained_folder_goes_through_the_commands(xqg, model, data, tmp_path):
    out = tmp_path / "out"
    xqg(
        *("train", "retriever", "--model", model, "--data", data / "train.tsv", *FLAGS),
        *("--max-steps", 3, "--output", out, "--query-length", 8, "--passage-length", 9),
    )
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": f"p{i}", "contents": f"e{i}"} for i in range(4)])
    xqg("encode", "--corpus", tmp_path / "corpus.jsonl", "--encoder", out, "--output", tmp_path / "s")
    meta = json.loads((tmp_path / "s" / "meta.json").read_text())
    assert (meta["encoder"]["pooling"], meta["encoder"]["passage_length"]) == ("mean", 9)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_saves_and_loads(model, data, tmp_path, method):
    """Adapter and merged model, by their folders alone, are the encoder that was trained."""
    tuning = TuningSettings(method=method, virtual_tokens=3, rank=2, bottleneck=4)
    texts = ["e1 e2 e3", "e4"]
    plain = Encoder(model, pooling="mean", normalize=True).encode_passages(texts)
    vectors = {}
    for save in ("adapter", "merged"):
        if (save, method in WHOLE, method in UNMERGED) in (("adapter", True, False), ("merged", False, True)):
            with pytest.raises(UserError, match=r"has no adapter|cannot be merged"):
                train_retriever(settings(model, data, tmp_path / save, tuning=tuning, save=save))
            continue
        done = train_retriever(settings(model, data, tmp_path / save, tuning=tuning, save=save))
        assert done["method"] == method
        assert 0 < done["trainable_parameters"] <= done["parameters"]
        vectors[save] = Encoder(tmp_path / save).encode_passages(texts)
        assert np.abs(vectors[save] - plain).max() > 1e-4
        if save == "adapter":
            by_flag = Encoder(model, adapter=tmp_path / save)
            np.testing.assert_array_equal(by_flag.encode_passages(texts), vectors[save])
            assert done["stored_bytes"] < (model / "model.safetensors").stat().st_size
    if len(vectors) == 2:
        np.testing.assert_allclose(vectors["adapter"], vectors["merged"], atol=1e-5)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--tuning", "lora", "--rank", 0), "rank is 0"),
        (("--save", "adapter"), "full has no adapter"),
        (("--distill", 0.5), "distillation needs them"),
        (("--metric", "R@2kt", "--validation", "train.tsv"), "has answers"),
        (("--model", "nowhere/"), "nowhere/"),
        (("--data", "missing.tsv"), "missing.tsv: no such file"),
    ],
)
def test_bad_settings_end_with_one_line(model, data, tmp_path, monkeypatch, capsys, more, expected):
    shutil.copy(data / "train.tsv", tmp_path / "train.tsv")
    monkeypatch.chdir(tmp_path)
    argv = ("train", "retriever", "--model", model, "--data", "train.tsv", *FLAGS)
    assert main([str(a) for a in (*argv, "--max-steps", 2, "--output", "out", *more)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("xqg train retriever: error: ")
    assert expected in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.tsv"]


def test_bad_data_through_the_command(refused, model, tmp_path):
    write_jsonl(tmp_path / "x.jsonl", [record("q", "p"), {"query": "q"}])
    said = refused(
        *("train", "retriever", "--model", model, "--data", "x.jsonl", *FLAGS, "--output", "out"), cwd=tmp_path
    )
    assert "x.jsonl, line 2: the question 'q' has no positive_passages" in said
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
