"""Encoding, generating, training, searching on a GPU, beside the CPU: `pytest -m gpu`, skipped where there is none."""

import gzip
import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import generators
import numpy as np
import pytest
import torch
from conftest import PASSAGES, QUERIES, QUESTIONS, record, run_xqg, write_jsonl
from made_models import POSITIONS, TEXTS, make_model

from xqg_pyserini.cli.main import main
from xqg_pyserini.data import Passage, read_corpus, read_run
from xqg_pyserini.generate.base import load_generator
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.tuning.methods import TuningSettings
from xqg_pyserini.train.generator import train_generator
from xqg_pyserini.train.retriever import train_retriever
from xqg_pyserini.train.settings import GeneratorTrainingSettings, RetrieverSettings

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
# the largest difference of a coordinate from fp32 on the CPU, of vectors of length 1
BOUNDS = {"fp32": 1e-5, "bf16": 0.03, "fp16": 0.004}
SMALL = {"languages": generators.LANGUAGES, "num_queries": 3, "max_new_tokens": 10}


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: generators.make(name, folder) for name in ("mt5", "gpt2", "nllb")}


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return [passage for _, passage in islice(read_corpus(generators.DEMO / "corpus.jsonl"), 12)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, passages) -> Path:
    records = [{"id": p.id, "title": p.title, "text": p.text} for p in passages]
    return write_jsonl(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", records)


def texts(number: int) -> list[str]:
    """Return texts of many lengths, so that batches are padded."""
    words = " ".join(TEXTS).split()
    return [" ".join(words[i % len(words)] for i in range(n, n + 1 + n % 20)) for n in range(number)]


def encoder(folder: Path, device: str, precision: str = "fp32", **more) -> Encoder:
    return Encoder(folder, device=device, precision=precision, pooling="mean", normalize=True, **more)


# ---------------------------------------------------------------- encoding


@pytest.mark.parametrize("precision", BOUNDS)
def test_vectors_are_the_cpu_s_within_the_precision_s_bounds(bert, precision):
    asked, told = texts(300), texts(100)
    here = encoder(bert, "cpu")
    there = encoder(bert, DEVICE, precision, batch_size=16)
    for expected, vectors in (
        (here.encode_queries(asked), there.encode_queries(asked)),
        (here.encode_passages(told), there.encode_passages(told)),
    ):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, atol=BOUNDS[precision], rtol=0)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_half_precision_is_computed_and_not_only_promised(bert):
    """The vectors of bf16 differ from those of fp32, by more than rounding in fp32."""
    exact, half = (encoder(bert, DEVICE, name).encode_queries(texts(50)) for name in ("fp32", "bf16"))
    assert np.abs(exact - half).max() > 10 * BOUNDS["fp32"]


def test_a_store_is_the_same_in_any_batches(bert):
    one, many = (encoder(bert, DEVICE, batch_size=n).encode_passages(texts(200)) for n in (1, 64))
    np.testing.assert_allclose(one, many, atol=BOUNDS["fp32"], rtol=0)


def test_encode_accumulate_index_and_search_by_command(bert, tmp_path):
    """The whole way with vectors from the GPU finds what it finds with those of the CPU."""
    write_jsonl(tmp_path / "corpus.jsonl", PASSAGES)
    records = [{"docid": docid, "generated_queries": of} for docid, of in QUERIES.items()]
    write_jsonl(tmp_path / "queries.jsonl", records)
    write_jsonl(tmp_path / "questions.jsonl", QUESTIONS)
    runs = {}
    for name, device in (("gpu", DEVICE), ("cpu", "cpu")):
        how = ("--encoder", bert, "--pooling", "mean", "--device", device)
        on = ("--device", device)
        for command in (
            ("encode", "--corpus", "corpus.jsonl", *how, "--output", f"P-{name}"),
            ("accumulate", "--queries", "queries.jsonl", "--passages", f"P-{name}", *on, "--output", f"Q-{name}"),
            ("index", "--passages", f"P-{name}", "--queries", f"Q-{name}", "--output", f"I-{name}"),
            ("search", "--index", f"I-{name}", "--topics", "questions.jsonl", *on, "--output", f"{name}.trec"),
        ):
            done = run_xqg(*command, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        runs[name] = read_run(tmp_path / f"{name}.trec")
    assert runs["gpu"].keys() == runs["cpu"].keys()
    for qid, hits in runs["cpu"].items():
        assert runs["gpu"][qid] == pytest.approx(hits, abs=1e-3)


# ---------------------------------------------------------------- generating


@pytest.mark.parametrize("name", ["mt5", "gpt2", "nllb"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_queries_are_as_many_and_the_same_again(models, passages, name, precision):
    more = {"max_input_tokens": 1000} if name == "gpt2" else {}
    settings = generators.complete(models[name], precision=precision, **SMALL, **more)
    one, two = (load_generator(settings, DEVICE, batch_size=12).generate(passages) for _ in range(2))
    assert one == two
    assert len(one) == len(passages)
    assert all(list(row) == list(generators.LANGUAGES) for row in one)
    assert {len(queries) for row in one for queries in row.values()} == {3}
    assert len({queries for row in one for queries in row.values()}) > len(passages)


@pytest.mark.parametrize("name", ["mt5", "gpt2", "nllb"])
def test_queries_in_fp32_are_mostly_the_cpu_s(models, passages, name):
    """The noise is the same; a token differs only where two are nearly as probable."""
    more = {"max_input_tokens": 1000} if name == "gpt2" else {}
    settings = generators.complete(models[name], precision="fp32", **SMALL, **more)
    here, there = (load_generator(settings, device, batch_size=12).generate(passages) for device in ("cpu", DEVICE))
    pairs = [(a, b) for x, y in zip(here, there, strict=True) for l in x for a, b in zip(x[l], y[l], strict=True)]
    assert sum(a == b for a, b in pairs) >= 0.95 * len(pairs)


def test_padding_of_long_beside_short_gives_no_nan(models):
    """A causal model pads on the left: rows of padding alone must not spoil the others."""
    for name in ("gpt2", "mt5"):
        settings = generators.complete(models[name], precision="bf16", max_input_tokens=900, **SMALL)
        odd = [Passage("short", "", "Hi."), Passage("long", "T", "The Nile flows north. " * 60)]
        assert [len(row["ar"]) for row in load_generator(settings, DEVICE, batch_size=64).generate(odd)] == [3, 3]


def shards(folder: Path) -> list[str]:
    """Return the records of a job, whatever shards they are in."""
    files = sorted(folder.glob("queries-*.jsonl.gz"))
    return [line for file in files for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


@pytest.mark.parametrize("name", ["mt5", "gpt2"])
def test_several_workers_on_one_device_write_what_one_writes(models, corpus, tmp_path, name):
    """Also resumed: shards that are there are kept."""
    common = ("generate", "--model", models[name], "--corpus", corpus, "--languages", "ar", "fi", "--num-queries", 2)
    common += ("--max-new-tokens", 8, "--batch-size", 8, "--num-shards", 3, "--precision", "fp32")
    for output, device in (("one", (DEVICE,)), ("two", (f"{DEVICE}:0",) * 2)):
        done = run_xqg(*common, "--output", tmp_path / output, "--device", *device)
        assert done.returncode == 0, done.stderr
    written = shards(tmp_path / "one")
    assert len(written) == 12
    assert shards(tmp_path / "two") == written
    files = sorted((tmp_path / "two").glob("queries-*.jsonl.gz"))
    kept, lost = files[0].stat().st_mtime_ns, files[1].read_bytes()
    files[1].unlink()
    done = run_xqg(*common, "--output", tmp_path / "two", "--device", f"{DEVICE}:0", f"{DEVICE}:0")
    assert done.returncode == 0, done.stderr
    assert files[0].stat().st_mtime_ns == kept
    assert gzip.decompress(files[1].read_bytes()) == gzip.decompress(lost)


# ---------------------------------------------------------------- training

TRAINED = [record(f"{a} {b}", f"the {b} {a} river", language="fi") for a in "abcdefgh" for b in ("nile", "moon")]


def last_loss(trained: dict) -> float:
    assert trained["steps"] == 6
    assert trained["peak_memory_bytes"] > 0
    return trained["loss"]


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_retriever_is_trained_and_loads_on_the_cpu(bert, tmp_path, method, precision):
    data, output = write_jsonl(tmp_path / "train.jsonl", TRAINED), tmp_path / "out"
    settings = RetrieverSettings(
        model=str(bert), data=str(data), output=str(output), pooling="mean", normalize=True, max_steps=6,
        batch_size=4, learning_rate=1e-2, tuning=TuningSettings(method), precision=precision, device=DEVICE,
        query_length=POSITIONS, passage_length=POSITIONS,
    )  # fmt: skip
    assert np.isfinite(last_loss(train_retriever(settings)))
    before = encoder(bert, "cpu").encode_queries(TEXTS)
    here, there = (Encoder(output, device=device).encode_queries(TEXTS) for device in ("cpu", DEVICE))
    np.testing.assert_allclose(there, here, atol=BOUNDS["fp32"], rtol=0)
    assert np.abs(here - before).max() > 1e-3


@pytest.mark.parametrize("name", ["mt5", "gpt2"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_generator_is_trained_and_writes_on_the_cpu(models, passages, tmp_path, name, method, precision):
    data, output = write_jsonl(tmp_path / "train.jsonl", TRAINED), tmp_path / "out"
    settings = GeneratorTrainingSettings(
        model=str(models[name]), data=str(data), output=str(output), max_steps=6, batch_size=4, learning_rate=1e-2,
        tuning=TuningSettings(method), precision=precision, device=DEVICE, source_length=200,
    )  # fmt: skip
    assert np.isfinite(last_loss(train_generator(settings)))
    for device in ("cpu", DEVICE):
        written = load_generator(generators.complete(output, **SMALL), device).generate(passages[:2])
        assert [len(queries) for row in written for queries in row.values()] == [3] * 4


def test_fp32_trains_as_on_the_cpu(bert, tmp_path):
    """Without dropout's draws the losses agree: dropout is 0 here."""
    config = json.loads((bert / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    losses = []
    for device in ("cpu", DEVICE):
        base = make_model(tmp_path / f"base-{len(losses)}")
        (base / "config.json").write_text(json.dumps(config))
        data = write_jsonl(tmp_path / "train.jsonl", TRAINED)
        settings = RetrieverSettings(
            model=str(base), data=str(data), output=str(tmp_path / f"out-{len(losses)}"), pooling="mean",
            normalize=True, max_steps=6, batch_size=4, learning_rate=1e-3, device=device,
        )  # fmt: skip
        losses.append(last_loss(train_retriever(settings)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def little_memory():
    """Let torch have so little of the GPU's memory that no tensor over 1 MB can be made."""
    torch.cuda.empty_cache()
    torch.cuda.init()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(12e6 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def one_line(capsys, *arguments) -> str:
    """The one line of an error with exit code 2."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not re.match(r"(encoding|training|\d+%)", line)]
    assert len(lines) == 1, lines
    return lines[0]


def test_too_little_memory_to_encode_is_one_line(bert, tmp_path, capsys, little_memory):
    long = [{"id": str(i), "text": " ".join(TEXTS)} for i in range(5000)]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", long)
    how = ("--encoder", bert, "--pooling", "mean", "--device", DEVICE, "--batch-size", 100000)
    line = one_line(capsys, "encode", "--corpus", corpus, *how, "--output", tmp_path / "P")
    assert line == "xqg encode: error: out of memory; use smaller batches (--batch-size)"
    assert not (tmp_path / "P").exists()


def test_too_little_memory_to_generate_is_one_line(models, corpus, tmp_path, capsys, little_memory):
    how = ("--languages", "ar", "fi", "--num-queries", 50, "--batch-size", 100000, "--device", DEVICE)
    line = one_line(capsys, "generate", "--model", models["mt5"], "--corpus", corpus, *how, "--output", tmp_path / "Q")
    assert line == "xqg generate: error: out of memory; use smaller batches (--batch-size)"


def test_too_little_memory_to_train_is_one_line(models, tmp_path, capsys, little_memory):
    data = write_jsonl(tmp_path / "train.jsonl", [record("nile", "The Nile flows. " * 200, language="fi")] * 64)
    how = ("--device", DEVICE, "--batch-size", 64, "--max-steps", 2, "--output", tmp_path / "out")
    line = one_line(capsys, "train", "generator", "--model", models["mt5"], "--data", data, *how)
    assert line == "xqg train generator: error: out of memory; use smaller batches (--batch-size)"


def test_a_gpu_that_is_not_there_is_one_line(bert, models, corpus, tmp_path):
    for command in (
        ("encode", "--encoder", bert, "--pooling", "mean"),
        ("generate", "--model", models["mt5"], "--languages", "fi"),
    ):
        done = run_xqg(*command, "--corpus", corpus, "--device", "cuda:77", "--output", tmp_path / "out")
        assert done.returncode == 2
        assert re.fullmatch(
            r"xqg \w+: error: device 'cuda:77': this machine has \d+ CUDA devices, numbered from 0.*\n", done.stderr
        )
    assert not (tmp_path / "out").exists()


def test_the_doctor_names_the_gpu():
    done = subprocess.run([sys.executable, "-m", "xqg_pyserini", "doctor"], capture_output=True, text=True)
    assert torch.cuda.get_device_name(0) in done.stdout
