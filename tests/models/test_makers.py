"""What a model's makers say of it: modules.json and its like, in a folder, on the hub, in its cache."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import message, refusal
from made_models import TEXTS, make_model, near, plain, tiny  # noqa: F401

from xqg_pyserini.models import makers
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.registry import EncoderSettings, resolve, write_settings
from xqg_pyserini.train.retriever import _write_sentence_transformers


def put(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def modules(folder: Path, kinds: str, before="sentence_transformers.models.", **files) -> Path:
    """Write modules.json, and the files beside it: `pooling` the Pooling's, `said` the whole's, `limits` the text's."""
    parts = []
    for i, kind in enumerate(kinds.split()):
        path = "" if kind == "Transformer" else f"{i}_{kind}"
        parts.append({"idx": i, "name": str(i), "path": path, "type": kind if "." in kind else f"{before}{kind}"})
        if kind == "Pooling":
            put(folder / path / "config.json", {"word_embedding_dimension": 16, **files.get("pooling", CLS)})
    put(folder / "modules.json", parts)
    put(folder / "config.json", {"model_type": "bert", "max_position_embeddings": 24, **files.get("config", {})})
    for name, key in (
        ("config_sentence_transformers.json", "said"),
        ("sentence_bert_config.json", "limits"),
        ("tokenizer_config.json", "tokenizer"),
    ):
        if key in files:
            put(folder / name, files[key])
    return folder


CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
LAST = {"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}


@pytest.mark.parametrize(
    ("kinds", "pooling", "expected"),
    [
        ("Transformer Pooling", MEAN, ("mean", False)),
        ("Transformer Pooling", CLS, ("cls", False)),
        ("Transformer Pooling Normalize", {**CLS, "pooling_mode_max_tokens": False}, ("cls", True)),
        ("Transformer Pooling Normalize", LAST, ("last", True)),
        ("Transformer Pooling", {"pooling_mode": "lasttoken", "include_prompt": True}, ("last", False)),
        ("Transformer Pooling", {"pooling_mode": ["mean"]}, ("mean", False)),
        ("Transformer Pooling", {}, ("mean", False)),  # as sentence-transformers takes it
    ],
)
def test_modules_that_our_engine_has_are_its_pooling_and_normalisation(tmp_path, kinds, pooling, expected):
    folder = modules(tmp_path / "m", kinds, pooling=pooling)
    settings = resolve(str(folder))
    assert (settings.backend, settings.pooling, settings.normalize) == ("torch", *expected)
    given = resolve(str(folder), {"pooling": "pooler", "normalize": not expected[1]})
    assert (given.pooling, given.normalize) == ("pooler", not expected[1])


@pytest.mark.parametrize(
    ("kinds", "files"),
    [
        ("Transformer Pooling Dense", {}),
        ("Transformer Pooling Normalize Dense", {}),
        ("Transformer Pooling custom.Normalize", {}),
        ("custom.Transformer Pooling", {}),
        ("Transformer custom.Pooling", {}),
        ("Router", {}),
        ("StaticEmbedding", {}),
        ("Transformer Pooling", {"pooling": {"pooling_mode_max_tokens": True}}),
        ("Transformer Pooling", {"pooling": {**CLS, "pooling_mode_mean_tokens": True}}),
        ("Transformer Pooling", {"pooling": {"pooling_mode": ["cls", "mean"]}}),
        ("Transformer Pooling", {"pooling": {**MEAN, "include_prompt": False}}),
        ("Transformer Pooling", {"limits": {"max_seq_length": 9, "do_lower_case": True}}),
        ("Transformer Pooling", {"limits": {"processing_kwargs": {"text": {"padding": "max_length"}}}}),
        ("Transformer Pooling", {"config": {"is_encoder_decoder": True}}),
        ("Transformer Pooling", {"tokenizer": {"padding_side": "left"}}),  # where is the first token?
    ],
)
def test_all_else_is_run_by_sentence_transformers(tmp_path, kinds, files):
    folder = modules(tmp_path / "m", kinds, **files)
    if kinds == "Router":
        put(folder / "0_Router" / "router_config.json", {"types": {}, "structure": {}})
    settings = resolve(str(folder))
    assert (settings.backend, settings.pooling, settings.model) == ("sentence-transformers", "modules", str(folder))
    left_out = resolve(str(folder), {"pooling": "cls"})  # the modules are not read
    assert (left_out.backend, left_out.pooling, left_out.query_length) == ("torch", "cls", 64)


def test_last_tokens_may_be_padded_on_the_left(tmp_path):
    folder = modules(tmp_path / "m", "Transformer Pooling", pooling=LAST, tokenizer={"padding_side": "left"})
    assert resolve(str(folder)).pooling == "last"


PROMPTS = {
    "none": ({}, ("", "")),
    "no prompts": ({"prompts": None}, ("", "")),
    "both": ({"prompts": {"query": "q: ", "document": "d: ", "passage": "p: ", "STS": "s: "}}, ("q: ", "d: ")),
    "passage": ({"prompts": {"query": "q: ", "passage": "p: ", "corpus": "c: "}}, ("q: ", "p: ")),
    "corpus": ({"prompts": {"corpus": "c: "}}, ("", "c: ")),
    "query alone": ({"prompts": {"query": "q: "}}, ("q: ", "")),
    "a default beside a role": ({"prompts": {"query": "q: ", "x": "x: "}, "default_prompt_name": "x"}, ("q: ", "")),
    "a default": ({"prompts": {"x": "x: ", "y": "y: "}, "default_prompt_name": "x"}, ("x: ", "x: ")),
    "no default": ({"prompts": {"x": "x: "}, "default_prompt_name": None}, ("", "")),
    "null": ({"prompts": {"query": None, "document": "d: "}}, ("", "d: ")),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_prompts_are_prefixes(case, tmp_path):
    said, expected = PROMPTS[case]
    settings = resolve(str(modules(tmp_path / "m", "Transformer Pooling", said=said)))
    assert (settings.query_prefix, settings.passage_prefix) == expected


def test_what_is_given_goes_before_what_the_makers_say(tmp_path):
    said = {"prompts": {"query": "q: ", "document": "d: "}, "similarity_fn_name": "cosine", "truncate_dim": 12}
    folder = modules(tmp_path / "m", "Transformer Pooling", said=said)
    settings = resolve(str(folder))
    assert (settings.normalize, settings.dimensions) == (True, 12)
    given = {"query_prefix": "", "normalize": False, "dimensions": 3, "passage_length": 7}
    assert resolve(str(folder), given) == type(settings)(
        str(folder), "torch", str(folder), None, "cls", False, "", "d: ", 24, 7, None, 3
    )
    write_settings(folder, resolve("facebook/mcontriever"))  # and so does what was written at the end of a training
    assert resolve(str(folder)).pooling == "mean"


@pytest.mark.parametrize(
    ("similarity", "kinds", "normalize"),
    [
        (None, "Transformer Pooling", False),
        ("dot", "Transformer Pooling", False),
        ("cosine", "Transformer Pooling", True),
        ("dot", "Transformer Pooling Normalize", True),
        ("euclidean", "Transformer Pooling Normalize", True),  # the same order
        ("cosine", "Transformer Pooling Dense", True),
    ],
)
def test_compared_by_cosine_is_of_length_1(similarity, kinds, normalize, tmp_path):
    folder = modules(tmp_path / "m", kinds, said={"similarity_fn_name": similarity})
    assert resolve(str(folder)).normalize is normalize


LENGTHS = {  # limits, tokenizer, config → query, passage
    "said": ({"max_seq_length": 9}, {"model_max_length": 5}, {"max_position_embeddings": 7}, (9, 9)),
    "by role": ({"max_seq_length": 9, "query_length": 4}, {}, {}, (4, 9)),
    "the tokenizer's": ({}, {"model_max_length": 5}, {"max_position_embeddings": 7}, (5, 5)),
    "the model's": ({}, {"model_max_length": 1000000000000000019884624838656}, {}, (24, 24)),
    "none": ({}, {}, {"max_position_embeddings": -1}, (makers.UNLIMITED, makers.UNLIMITED)),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_lengths_are_the_models(case, tmp_path):
    limits, tokenizer, config, expected = LENGTHS[case]
    folder = modules(tmp_path / "m", "Transformer Pooling", limits=limits, tokenizer=tokenizer, config=config)
    settings = resolve(str(folder))
    assert (settings.query_length, settings.passage_length) == expected


REFUSED = {
    "another kind": (
        {"said": {"model_type": "SparseEncoder"}},
        "the model {name!r} is a SparseEncoder; expected one that gives a vector for each text",
    ),
    "distances": (
        {"said": {"similarity_fn_name": "euclidean"}},
        "the model {name!r} is compared by euclidean distance, and searches are by inner product; give a pooling to do "
        "without",
    ),
    "a path that leads out": (
        {"kinds": "Transformer Pooling ../../x.y"},
        "{name}/modules.json: the path '2_../../x.y' leads out of the model; give a pooling to do without",
    ),
    "no modules": ({"kinds": ""}, "{name}: its modules.json names no module; give a pooling to do without"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused(case, tmp_path):
    files, text = REFUSED[case]
    folder = modules(tmp_path / "m", files.pop("kinds", "Transformer Pooling"), **files)
    assert message(resolve, str(folder)) == text.format(name=str(folder))


def test_a_pooling_without_its_file_is_refused(tmp_path):
    folder = modules(tmp_path / "m", "Transformer Pooling")
    (folder / "1_Pooling" / "config.json").unlink()
    text, about = refusal(resolve, str(folder))
    what = "its modules.json names a Pooling, and there is no 1_Pooling/config.json; give a pooling to do without"
    assert (text, about) == (f"{folder}: {what}", ("pooling",))


@pytest.mark.parametrize("text", ["[{", '{"type": 1}', "[1]", '[{"path": ""}]'])
def test_a_broken_modules_file_is_refused(tmp_path, text):
    (tmp_path / "modules.json").write_text(text)
    assert "modules.json: " in message(resolve, str(tmp_path))


def test_a_plain_folder_of_dpr_gives_one_vector_a_text(tmp_path):
    put(tmp_path / "config.json", {"model_type": "dpr"})
    assert resolve(str(tmp_path)).pooling == "pooler"


def test_a_folder_with_modules_encodes_without_flags_and_without_the_package(tiny, plain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # an import fails
    folder = Path(shutil.copytree(tiny, tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    modules(folder, "Transformer Pooling Normalize", pooling=MEAN, config=config)
    expected = plain(TEXTS, "mean")
    vectors = Encoder(folder, device="cpu").encode_passages(TEXTS)
    near(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    modules(folder, "Transformer Pooling Dense", config=config)
    assert message(Encoder(folder, device="cpu").encode_queries, ["a"]) == (
        "the package sentence-transformers is not installed: run pip install 'xqg_pyserini[st]'"
    )


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_what_a_training_writes_is_read_back(pooling, tmp_path):
    put(tmp_path / "config.json", {"model_type": "bert", "hidden_size": 16})
    name = str(tmp_path)
    settings = EncoderSettings(name, "torch", name, None, pooling, True, "q: ", "p: ", 9, 9, None, 5)
    _write_sentence_transformers(tmp_path, settings)
    assert resolve(name) == settings


# ---------------------------------------------------------------- the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one model, at one commit; what is asked of it is written down."""
    import huggingface_hub

    folder = modules(tmp_path / "m", "Transformer Pooling", said={"prompts": {"query": "q: "}})
    files = [str(path.relative_to(folder)) for path in folder.rglob("*.json")]
    asked = []

    def model_info(self, name, timeout):
        if name != "some/model":
            asked.append(name)
            raise huggingface_hub.errors.HFValidationError("no such name")
        return SimpleNamespace(sha="c0ffee", siblings=[SimpleNamespace(rfilename=file) for file in files])

    def download(name, file, revision):
        asked.append((name, file, revision))
        if (folder / file).read_text() == "gated":
            raise ConnectionError("Access to it is restricted.\nAsk for it.")
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    makers._of_hub.cache_clear()
    yield folder, asked
    makers._of_hub.cache_clear()


def test_a_name_is_asked_of_the_hub_at_one_commit(hub):
    settings = resolve("some/model")
    assert (settings.pooling, settings.query_prefix, settings.model) == ("cls", "q: ", "some/model")
    assert set(hub[1]) == {
        ("some/model", file, "c0ffee")
        for file in ("modules.json", "config.json", "1_Pooling/config.json", "config_sentence_transformers.json")
    }


def test_registered_names_and_given_poolings_ask_nothing(hub):
    resolve("BAAI/bge-m3")
    resolve("some/model", {"pooling": "mean"})
    assert hub[1] == []
    assert "nor has it a modules.json in reach" in message(resolve, "some/typo")
    assert hub[1] == ["some/typo"]


def test_a_file_that_the_hub_does_not_give_out_is_said(hub):
    (hub[0] / "modules.json").write_text("gated")
    assert message(resolve, "some/model") == (
        "the model 'some/model': its modules.json is not to be had (Access to it is restricted.)"
    )
