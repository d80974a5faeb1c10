"""Training a generator: its loss, what counts in it, its files, and that it says what it learnt."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import message, write_jsonl
from generators import complete, make

from xqg_pyserini.cli.main import main
from xqg_pyserini.data import read_generated
from xqg_pyserini.generate.hugging_face import auto_class
from xqg_pyserini.generate.prompts import shipped_template
from xqg_pyserini.models.pretrained import load_tokenizer
from xqg_pyserini.models.tuning.methods import TuningSettings
from xqg_pyserini.train import generator
from xqg_pyserini.train.settings import GeneratorTrainingSettings

LEARNT = [("ar", "النيل", "The Nile flows north."), ("fi", "mikä joki", "The Volga is long.")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {name: make(name, folder) for name in ("mt5", "gpt2", "nllb")}


def records(pairs=LEARNT):
    return [
        {"query": query, "language": language, "positive_passages": [{"title": "R", "text": text}]}
        for language, query, text in pairs
    ]


@pytest.fixture
def data(tmp_path) -> Path:
    return write_jsonl(tmp_path / "train.jsonl", records())


def settings(model, data, output, **more):
    quick = {"learning_rate": 1e-2, "batch_size": 2, "max_steps": 4, "device": "cpu", **more}
    return GeneratorTrainingSettings(model=model, data=data, output=output, **quick)


def parts(models, name, data, tmp_path):
    """A training's parts, made and not run; dropout is off."""
    made = settings(models[name], data, tmp_path / "unused")
    backend = "causal" if name == "gpt2" else "seq2seq"
    pairs = generator.PassageQuestions(made.data, None)
    prompt = shipped_template("question" if backend == "seq2seq" else "question-causal")
    training = generator._GeneratorTraining(made, backend, prompt, pairs, None, "base")
    training.model.eval()
    return training


# ---------------------------------------------------------------- the loss


def test_the_loss_of_an_encoder_decoder_is_its_own(models, data, tmp_path):
    training = parts(models, "mt5", data, tmp_path)
    loss, number = generator.token_losses(training.model, training.collate([training.pairs[0]]))
    text = "Generate a Arabic question for this passage: R The Nile flows north."
    tokenizer = load_tokenizer(str(models["mt5"]))
    labels = tokenizer("النيل", return_tensors="pt")["input_ids"]
    own = training.model(**tokenizer(text, return_tensors="pt"), labels=labels).loss
    assert number == labels.numel()
    torch.testing.assert_close(loss / number, own)


def test_only_the_question_counts_for_a_causal_model(models, data, tmp_path):
    training = parts(models, "gpt2", data, tmp_path)
    loss, number = generator.token_losses(training.model, training.collate([training.pairs[1]]))
    tokenizer = load_tokenizer(str(models["gpt2"]))
    prompt = "Generate a Finnish question for this passage: R The Volga is long.\nQuestion:"
    read = tokenizer(prompt)["input_ids"]
    written = [*tokenizer("mikä joki")["input_ids"], tokenizer.eos_token_id]
    logits = training.model(torch.tensor([read + written])).logits[0].log_softmax(-1)
    by_hand = -sum(logits[len(read) - 1 + i, token] for i, token in enumerate(written))
    assert number == len(written)
    torch.testing.assert_close(loss, by_hand)


@pytest.mark.parametrize("name", ["mt5", "gpt2", "nllb"])
def test_padding_changes_nothing(models, data, tmp_path, name):
    training = parts(models, name, data, tmp_path)
    alone = [generator.token_losses(training.model, training.collate([p])) for p in training.pairs]
    loss, number = generator.token_losses(training.model, training.collate(list(training.pairs)))
    assert number == sum(n for _, n in alone)
    torch.testing.assert_close(loss, sum(one for one, _ in alone), rtol=1e-4, atol=1e-4)


def test_a_language_token_is_given_and_not_learnt(models, data, tmp_path):
    training = parts(models, "nllb", data, tmp_path)
    batch = training.collate([training.pairs[1]])
    token = training.tokenizer.convert_tokens_to_ids("fin_Latn")
    assert batch["tokens"]["decoder_input_ids"][0, :2].tolist() == [2, token]
    assert batch["targets"][0, 0] == generator.IGNORED
    assert batch["targets"][0, -1] == training.tokenizer.eos_token_id
    assert token not in batch["targets"]


def test_each_positive_passage_is_a_pair_and_long_texts_are_cut(models, tmp_path):
    long = {"title": "", "text": "word " * 900}
    record = {**records()[0], "query": "النيل " * 90}
    record["positive_passages"] = [*record["positive_passages"], long]
    data = write_jsonl(tmp_path / "train.jsonl", [record, records()[1]])
    training = parts(models, "mt5", data, tmp_path)
    assert [pair.language for pair in training.pairs] == ["ar", "ar", "fi"]
    batch = training.collate([training.pairs[1]])
    assert batch["tokens"]["input_ids"].shape[1] <= 256
    assert batch["targets"].shape[1] == 32
    assert batch["targets"][0, -1] == training.tokenizer.eos_token_id


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("name", "tuning", "steps"), [("mt5", "full", 80), ("gpt2", "full", 60), ("gpt2", "adapter", 150)]
)
def test_what_was_learnt_is_generated(models, data, tmp_path, xqg, name, tuning, steps):
    """Two pairs by heart; `xqg generate` takes the folder, and the prompt that is in it."""
    template = tmp_path / "prompt.txt"
    template.write_text("{passage} => {code}:", encoding="utf-8")
    output = tmp_path / "out"
    xqg(
        *("train", "generator", "--model", models[name], "--data", data, "--output", output),
        *("--prompt", template, "--max-steps", steps, "--batch-size", 2, "--tuning", tuning),
        *("--learning-rate", "1e-2", "--warmup", 0, "--device", "cpu"),
    )
    said = json.loads((output / "xqg_generator.json").read_text("utf-8"))
    assert said == {"format": 1, "prompt": "{passage} => {code}:", "max_input_tokens": 256}
    assert (output / "xqg_adapter.json").exists() == (tuning == "adapter")
    corpus = [{"id": str(i), "title": "", "text": text} for i, (_, _, text) in enumerate(LEARNT)]
    xqg(
        *("generate", "--model", output, "--languages", "ar", "fi", "--top-k", 1),
        *("--corpus", write_jsonl(tmp_path / "corpus.jsonl", corpus), "--num-queries", 1),
        *("--output", tmp_path / "queries", "--device", "cpu"),
    )
    written = [record.queries for _, record in read_generated(tmp_path / "queries")]
    for number, (language, query, _) in enumerate(LEARNT):
        assert written[number][language] == (query,)


@pytest.mark.parametrize("tuning", ["full-frozen-embeddings", "lora", "hybrid-lora"])
def test_methods_train_their_part_and_a_whole_model_is_written(models, data, tmp_path, tuning):
    output = tmp_path / "out"
    method = TuningSettings(method=tuning, rank=2)
    done = generator.train_generator(
        settings(models["mt5"], data, output, tuning=method, validation=str(data), max_steps=20)
    )
    assert done["validation"][-1]["loss"] < done["validation"][0]["loss"]
    assert done["best_metric"] == min(v["loss"] for v in done["validation"])
    assert 0 < done["trainable_parameters"] < done["parameters"]
    assert (done["modules"] is not None) == (tuning == "hybrid-lora")
    auto_class("seq2seq").from_pretrained(output)
    before = load_state(models["mt5"])["shared.weight"]
    assert torch.equal(load_state(output)["shared.weight"], before)


def load_state(folder):
    return auto_class("seq2seq").from_pretrained(folder).state_dict()


def test_a_resumed_training_ends_with_the_same_bytes(models, data, tmp_path, monkeypatch):
    options = {"save_steps": 3, "max_steps": 8, "batch_size": 1}
    generator.train_generator(settings(models["mt5"], data, tmp_path / "whole", **options))
    original, calls = generator.token_losses, []

    def stopping(*args):
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("power cut")
        return original(*args)

    monkeypatch.setattr(generator, "token_losses", stopping)
    with pytest.raises(RuntimeError, match="power cut"):
        generator.train_generator(settings(models["mt5"], data, tmp_path / "again", **options))
    calls[:] = [1] * 100
    generator.train_generator(settings(models["mt5"], data, tmp_path / "again", **options))
    assert len(calls) == 105  # three steps were not taken again
    for name in ("whole", "again"):
        assert (tmp_path / name / "model.safetensors").is_file()
    one, two = (tmp_path / name / "model.safetensors" for name in ("whole", "again"))
    assert one.read_bytes() == two.read_bytes()
    assert generator.train_generator(settings(models["mt5"], data, tmp_path / "again", **options)) == json.loads(
        (tmp_path / "again" / "training.json").read_text("utf-8")
    )


def test_a_recorded_prompt_gives_way_to_a_flag_and_is_checked(models, data, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models["mt5"], folder)
    record = {"format": 1, "prompt": "{passage} {code}", "max_input_tokens": 99}
    (folder / "xqg_generator.json").write_text(json.dumps(record), encoding="utf-8")
    chosen = complete(folder)
    assert (chosen.prompt.text, chosen.max_input_tokens) == ("{passage} {code}", 99)
    given = complete(folder, prompt=shipped_template("question"))
    assert given.prompt.text.startswith("Generate a {language}")
    (folder / "xqg_generator.json").write_text('{"format": 1}', encoding="utf-8")
    assert "damaged" in message(complete, folder)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "flags", "expected"),
    [
        ({"language": None}, (), "line 2: the question 'mikä joki' has no language"),
        ({"language": "zz"}, (), "line 2: unknown language code 'zz'"),
        ({"query": " "}, (), "line 2: the query is empty"),
        ({"positive_passages": [{"text": ""}]}, (), "line 2: a passage of positive_passages has"),
        ({}, ("--prompt", "prompt.txt"), "prompt.txt: holds {passage} 0 times"),
        ({}, ("--language", "xx"), "unknown language code 'xx'"),
        ({}, ("--synthetic", "q"), "--synthetic is for xqg train retriever"),
        ({}, ("--tuning", "prefix"), "tuning prefix is not for generators"),
        ({}, ("--source-length", "1020"), "the model"),
    ],
)
def test_bad_input_is_one_line(models, tmp_path, monkeypatch, capsys, change, flags, expected):
    (tmp_path / "prompt.txt").write_text("{language}", encoding="utf-8")
    first, second = records()
    data = write_jsonl(tmp_path / "train.jsonl", [first, {**second, **change}])
    command = ("train", "generator", "--model", models["gpt2"], "--data", data, *flags)
    monkeypatch.chdir(tmp_path)
    try:
        code = main([*map(str, command), "--output", "out"])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err.splitlines()
    assert (code, len(said)) == (2, 1)
    assert "error: " in said[0]
    assert expected in said[0]
    assert not (tmp_path / "out").exists()
