"""Models that sentence-transformers saves: our vectors are its own, whichever engine runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import message, put, write_jsonl
from made_models import TEXTS, beside, registry_file  # noqa: F401

from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.pretrained import folder_fingerprint
from xqg_pyserini.models.registry import resolve

pytest.importorskip("sentence_transformers")

from made_sentence_models import KINDS, D, edit, make_sentence_model
from safetensors.numpy import load_file, save_file
from sentence_transformers import SentenceTransformer

NATIVE = {"qwen3-embedding": "last", "bge-m3": "cls", "multilingual-e5": "mean", "arctic": "cls", "mcontriever": "mean"}
LONG = [*TEXTS, "nile " * 40]  # longer than any of them reads


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a model of a kind once; those that change it copy it."""
    folder, known = tmp_path_factory.mktemp("made"), {}

    def make(kind: str) -> Path:
        if kind not in known:
            known[kind] = make_sentence_model(folder / kind, kind)
        return known[kind]

    return make


def theirs(folder: Path, normalize: bool, texts=LONG) -> tuple[np.ndarray, np.ndarray]:
    """Queries and passages as sentence-transformers itself encodes them."""
    model = SentenceTransformer(str(folder), device="cpu")
    how = {"normalize_embeddings": normalize, "batch_size": 3}
    return model.encode_query(texts, **how), model.encode_document(texts, **how)


def same(encoder: Encoder, expected, texts=LONG) -> None:
    for vectors, other in zip((encoder.encode_queries(texts), encoder.encode_passages(texts)), expected, strict=True):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_sentence_transformers(kind, made):
    encoder = Encoder(made(kind), device="cpu", batch_size=2)
    settings = encoder.settings
    backend = "torch" if kind in NATIVE else "sentence-transformers"
    assert (settings.backend, settings.pooling) == (backend, NATIVE.get(kind, "modules"))
    said = KINDS[kind][1]
    assert settings.normalize is (said.get("similarity_fn_name") != "dot" or kind == "two-towers")
    assert settings.query_prefix == said.get("prompts", {}).get("query", "")
    same(encoder, theirs(made(kind), settings.normalize))
    assert encoder.dimension == encoder.encode_queries(["nile"]).shape[1]


def test_prompts_and_towers_make_a_difference(made):
    for kind in ("qwen3-embedding", "embedding-gemma", "arctic", "without-prompt", "two-towers"):
        encoder = Encoder(made(kind), device="cpu")
        assert np.abs(encoder.encode_queries(TEXTS) - encoder.encode_passages(TEXTS)).max() > 0.01, kind


def test_the_last_token_is_found_on_either_side_of_the_padding(made, tmp_path):
    left = made("qwen3-embedding")
    right = Path(shutil.copytree(left, tmp_path / "right"))
    edit(right / "tokenizer_config.json", padding_side="right")
    expected = Encoder(left, device="cpu", batch_size=1).encode_queries(LONG)
    for folder in (left, right):
        vectors = Encoder(folder, device="cpu", batch_size=32).encode_queries(LONG)
        np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)


def test_a_prompt_for_passages_by_another_name_and_a_default_one_hold(made, tmp_path):
    """Where sentence-transformers' encode_document and encode_query would put nothing before a text."""
    folder = Path(shutil.copytree(made("bge-m3"), tmp_path / "m"))
    said = folder / "config_sentence_transformers.json"
    edit(said, prompts={"query": "q : ", "passage": "p : "})
    model = SentenceTransformer(str(folder), device="cpu")
    same(Encoder(folder, device="cpu"), [model.encode(LONG, prompt_name=name) for name in ("query", "passage")])
    edit(said, prompts={"x": "c : "}, default_prompt_name="x")
    same(Encoder(folder, device="cpu"), [SentenceTransformer(str(folder), device="cpu").encode(LONG)] * 2)


@pytest.mark.parametrize("kind", ["qwen3-embedding", "embedding-gemma"])
def test_dimensions_that_are_kept_are_the_first_scaled_to_length_1(kind, made):
    whole = Encoder(made(kind), device="cpu").encode_queries(TEXTS)
    encoder = Encoder(made(kind), device="cpu", dimensions=5)
    cut = whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), cut, atol=1e-6, rtol=0)
    assert (encoder.dimension, encoder.describe()["dimensions"]) == (5, 5)
    model = SentenceTransformer(str(made(kind)), device="cpu", truncate_dim=5)
    same(
        encoder,
        [model.encode_query(LONG, normalize_embeddings=True), model.encode_document(LONG, normalize_embeddings=True)],
    )
    many = Encoder(made(kind), device="cpu", dimensions=99)
    assert message(many.encode_queries, ["a"]) == f"encoder {made(kind)}: dimensions is 99; it has {whole.shape[1]}"


@pytest.mark.parametrize("kind", ["qwen3-embedding", "embedding-gemma", "two-towers"])
def test_lengths_and_prefixes_may_be_given(kind, made):
    encoder = Encoder(made(kind), device="cpu", query_prefix="e : ", query_length=5)
    texts = ["a b c d e f", "a b c d e f g h"]
    model = SentenceTransformer(str(made(kind)), device="cpu")
    how = {"prompt": "e : ", "processing_kwargs": {"text": {"max_length": 5}}, "normalize_embeddings": True}
    expected = model.encode_query(texts, **how)
    np.testing.assert_allclose(encoder.encode_queries(texts), expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(expected[0], expected[1], atol=1e-6)  # cut before they differ


def test_a_store_of_another_encoder_is_refused(made, tmp_path):
    folder = made("labse")
    description = json.loads(json.dumps(Encoder(folder, device="cpu").describe()))
    assert description["backend"] == "sentence-transformers"
    assert "dimensions" not in description  # none is left out
    store = beside(description, d=D)
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    again = Encoder.for_store(store, moved, device="cpu")
    assert again.encode_queries(["nile"]).shape == (1, D)
    weights = load_file(moved / "2_Dense" / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, moved / "2_Dense" / "model.safetensors")
    assert folder_fingerprint(moved) == folder_fingerprint(folder)  # the transformer is the same
    other = Encoder.for_store(store, moved, device="cpu")
    assert "is not the one that store was made with" in message(other.encode_queries, ["nile"])
    cut = message(Encoder.for_store, store, folder, dimensions=4)
    assert cut == f"encoder {folder}: dimensions is 4, but store was made with None; use one encoder for both"


def test_an_entry_may_name_the_backend_and_take_the_rest_from_the_model(made, registry_file):
    folder = made("qwen3-embedding")
    registry_file(f"mine: {{backend: sentence-transformers, model: {folder}, passage_prefix: 'p : '}}")
    settings = resolve("mine")
    assert (settings.pooling, settings.normalize, settings.passage_prefix) == ("modules", True, "p : ")
    assert settings.query_prefix == KINDS["qwen3-embedding"][1]["prompts"]["query"]
    queries, _ = theirs(folder, True)
    np.testing.assert_allclose(Encoder("mine", device="cpu").encode_queries(LONG), queries, atol=1e-6, rtol=0)


# ---------------------------------------------------------------- refused


def lacks_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, path, metadata={"format": "pt"})


FAULTS = {
    "a weight of the transformer": (lacks_a_weight, "the model {name!r} lacks 1 weights, the first is encoder.layer.1"),
    "weights of a module": (
        lambda folder: (folder / "2_Dense" / "model.safetensors").unlink(),
        "cannot load the model {name!r}: Could not find 'model.safetensors'",
    ),
    "a module of its own": (
        lambda folder: put(folder / "modules.json", (folder / "modules.json").read_text().replace(
            "sentence_transformers.base.modules.dense.Dense", "custom.Dense")),
        "the model {name!r} needs Python code that comes with it (custom.Dense), which is not run unless that is "
        "allowed",
    ),
    "an activation of its own": (
        lambda folder: edit(folder / "2_Dense" / "config.json", activation_function="custom.Tanh"),
        "the model {name!r} needs Python code that comes with it (custom.Tanh), which is not run unless that is "
        "allowed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_model_or_one_with_code_of_its_own_is_refused(fault, made, tmp_path):
    spoil, text = FAULTS[fault]
    folder = Path(shutil.copytree(made("labse"), tmp_path / "m"))
    spoil(folder)
    said = message(Encoder(folder, device="cpu").encode_queries, ["a"])
    assert said.startswith(text.format(name=str(folder)))
    from transformers import PreTrainedModel

    assert "from_pretrained" in PreTrainedModel.__dict__
    assert PreTrainedModel.from_pretrained.__name__ == "from_pretrained"  # as it was


def test_what_the_modules_decide_cannot_be_given(made, tmp_path):
    folder = made("labse")
    assert message(resolve, str(folder), {"normalize": False}) == (
        f"encoder {folder} has its own normalize; leave that out"
    )
    static = Encoder(made("static"), device="cpu", query_length=9)
    assert message(static.encode_queries, ["a"]) == (
        f"encoder {made('static')} reads texts of any length; leave the lengths out"
    )
    with_adapter = {"adapter": str(tmp_path)}
    put(tmp_path / "xqg_adapter.json", "{}")
    assert "takes no adapter" in message(resolve, str(folder), with_adapter)


# ---------------------------------------------------------------- pairs, and names


def test_a_pair_of_dpr_is_loaded_as_what_it_is(tmp_path, registry_file, made):
    import torch
    from transformers import DPRConfig, DPRContextEncoder, DPRQuestionEncoder

    size = {"vocab_size": 27, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = DPRConfig(**size, intermediate_size=16, max_position_embeddings=24, projection_dim=6)
    expected = {}
    for role, kind in (("query", DPRQuestionEncoder), ("passage", DPRContextEncoder)):
        torch.manual_seed(len(role))
        model = kind(config).eval()
        shutil.copytree(made("labse"), tmp_path / role, ignore=lambda *_: ["modules.json", "model.safetensors"])
        model.save_pretrained(tmp_path / role)
        tokens = torch.tensor([[2, 4, 3]])  # [CLS] nile [SEP]
        with torch.no_grad():
            expected[role] = model(tokens).pooler_output.numpy()
    registry_file(
        f"pair: {{backend: torch, model: {tmp_path}/passage, query_model: {tmp_path}/query, pooling: pooler}}\n"
        f"cls: {{backend: torch, model: {tmp_path}/passage, pooling: cls}}"
    )
    pair = Encoder("pair", device="cpu")
    np.testing.assert_allclose(pair.encode_queries(["nile"]), expected["query"], atol=1e-6)
    np.testing.assert_allclose(pair.encode_passages(["nile"]), expected["passage"], atol=1e-6)
    np.testing.assert_allclose(Encoder(tmp_path / "passage").encode_passages(["nile"]), expected["passage"], atol=1e-6)
    assert pair.dimension == 6
    assert message(Encoder("cls", device="cpu").encode_queries, ["nile"]) == (
        "the model of cls gives one vector a text; choose the pooling pooler"
    )


CHAIN = """
import shlex, sys
from xqg_pyserini.__main__ import main
for line in sys.stdin:
    code = main(shlex.split(line))
    if code:
        sys.exit(code)
"""


def test_names_of_the_hub_work_without_flags_from_its_cache(made, tmp_path):
    """Two models as the hub's client keeps them: encoded, searched, and refused at another commit, by name, offline."""
    commits = {"native": "0" * 39 + "1", "dense": "0" * 39 + "2"}
    kinds = {"native": "qwen3-embedding", "dense": "embedding-gemma"}
    for name, commit in commits.items():
        place = tmp_path / "hub" / f"models--some--{name}"
        shutil.copytree(made(kinds[name]), place / "snapshots" / commit)
        (place / "refs").mkdir()
        put(place / "refs" / "main", commit)
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": "1", "contents": "nile river"}, {"id": "2", "contents": "moon"}])
    write_jsonl(tmp_path / "questions.jsonl", [{"id": "1", "question": "moon earth", "lang": "en"}])

    def run(*lines):
        return subprocess.run(
            [sys.executable, "-c", CHAIN], input="\n".join(lines), cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")},
        )  # fmt: skip

    encode = "encode --corpus corpus.jsonl --encoder some/{0} --device cpu --output {0}"
    index = "index --passages {0} --output {0}-index"
    search = "search --index {0}-index --topics questions.jsonl --encoder some/{0} --device cpu --output {0}.trec"
    done = run(*(line.format(name) for name in commits for line in (encode, index, search)))
    assert (done.returncode, done.stderr) == (0, "")
    for name, commit in commits.items():
        meta = json.loads((tmp_path / name / "meta.json").read_text())["encoder"]
        assert (meta["name"], meta["fingerprint"]) == (f"some/{name}", commit)
        assert meta["query_prefix"] == KINDS[kinds[name]][1]["prompts"]["query"]
        queries, _ = theirs(made(kinds[name]), True, ["moon earth"])
        _, passages = theirs(made(kinds[name]), True, ["nile river", "moon"])
        np.testing.assert_allclose(np.load(tmp_path / name / "vectors.npy"), passages, atol=1e-6)
        hits = [line.split() for line in (tmp_path / f"{name}.trec").read_text().splitlines()]
        found = {cells[2]: float(cells[4]) for cells in hits}
        np.testing.assert_allclose([found["1"], found["2"]], (queries @ passages.T)[0], atol=1e-5)
    place = tmp_path / "hub" / "models--some--native"
    (place / "snapshots" / commits["native"]).rename(place / "snapshots" / ("f" * 40))
    put(place / "refs" / "main", "f" * 40)
    refused = run(search.format("native").replace(".trec", "-2.trec"))
    assert refused.returncode == 2
    assert f"encoder some/native ({'f' * 40}) is not the one that native-index was made with" in refused.stderr
    assert not (tmp_path / "native-2.trec").exists()
