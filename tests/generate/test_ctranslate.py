"""Generation with CTranslate2: converted once, the same for each shard, no float16 for a T5."""

import json
import os
from types import SimpleNamespace

import generators
import pytest
from conftest import message

from xqg_pyserini.data import read_corpus, read_generated
from xqg_pyserini.generate.base import load_generator
from xqg_pyserini.generate.job import generate_queries
from xqg_pyserini.generate.settings import JobSettings

ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra ct2 is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with tiny models and a corpus of 12 passages."""
    folder = tmp_path_factory.mktemp("ct2")
    for name in ("mt5", "nllb", "gpt2"):
        generators.make(name, folder)
    lines = (generators.DEMO / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "corpus.jsonl").write_text("".join(lines[:12]), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "ct2-cache"
    monkeypatch.setenv("XQG_CACHE", str(folder))
    return folder / "ctranslate2"


def settings(place, name="mt5", **options):
    options = {"num_queries": 3, "max_new_tokens": 8, "backend": "ctranslate2"} | options
    return generators.complete(place / name, **options)


def passages(place):
    return [passage for _, passage in read_corpus(place / "corpus.jsonl")]


def generate(place, output, **options):
    model = settings(place, **options.pop("settings", {}))
    job = JobSettings(devices="cpu", **{"num_shards": 3} | options)
    summary = generate_queries(place / "corpus.jsonl", model, output, job)
    return {p.name: p.read_bytes() for p in output.glob("queries*")}, summary


@pytest.mark.parametrize("name", ["mt5", "nllb"])
def test_greedy_in_float32_is_what_the_transformers_backend_writes(name, place):
    greedy = {"top_k": 1, "num_queries": 1, "precision": "fp32"}
    fast, plain = (
        load_generator(settings(place, name, **greedy, backend=backend)).generate(passages(place))
        for backend in ("ctranslate2", "transformers")
    )
    assert fast == plain
    assert len({row["fi"] for row in plain}) > 1


def test_the_default_on_the_cpu_is_int8_with_as_many_queries_as_asked(place):
    assert settings(place).precision == "int8"
    rows = load_generator(settings(place), "cpu").generate(passages(place))
    assert all(len(texts) == 3 for row in rows for texts in row.values())
    assert len({q for row in rows for texts in row.values() for q in texts}) > 12


def test_a_shard_is_the_same_whichever_were_written_before_it(place, tmp_path):
    whole, summary = generate(place, tmp_path / "whole")
    assert summary.queries == 12 * 2 * 3
    assert generate(place, tmp_path / "again")[0] == whole
    last, _ = generate(place, tmp_path / "last", shards=[2])
    assert last == {"queries-00002-of-00003.jsonl.gz": whole["queries-00002-of-00003.jsonl.gz"]}
    (tmp_path / "again" / "queries-00001-of-00003.jsonl.gz").unlink()
    assert generate(place, tmp_path / "again")[0] == whole  # as after a kill
    other, _ = generate(place, tmp_path / "seed", settings={"seed": 7})
    assert other.keys() == whole.keys() and other != whole
    texts = [record.queries["fi"] for _, record in read_generated(tmp_path / "whole")]
    assert len(set(texts)) == 12  # shards do not repeat one another


def test_meta_says_what_a_query_depends_on_and_the_batch_size_is_part_of_it(place, tmp_path):
    generate(place, tmp_path / "out")
    meta = json.loads((tmp_path / "out" / "meta.json").read_text("utf-8"))
    assert meta["each_query_depends_on"] == ["seed", "shard", "batch_size"]
    assert (meta["batch_size"], meta["precision"]) == (64, "int8")
    assert meta["versions"]["ctranslate2"] == ctranslate2.__version__
    text = message(generate, place, tmp_path / "out", batch_size=8)
    assert "meta.json: batch_size is 64 there and 8 here" in text


def test_a_model_is_converted_once_and_again_when_its_weights_differ(place, cache, monkeypatch):
    from ctranslate2.converters import TransformersConverter

    made = []
    real = TransformersConverter.convert

    def convert(self, *args, **options):
        made.append(options["quantization"])
        return real(self, *args, **options)

    monkeypatch.setattr(TransformersConverter, "convert", convert)
    monkeypatch.setenv("XQG_CACHE", str(cache / "own"))
    for precision in ("int8", "int8", "fp32"):
        load_generator(settings(place, precision=precision), "cpu")
    assert made == ["int8", "float32"]
    generators.make_mt5(place / "wide" / "mt5", width=48)
    load_generator(settings(place / "wide"), "cpu")
    assert made == ["int8", "float32", "int8"]
    folders = sorted(os.listdir(cache / "own" / "ctranslate2"))
    assert len(folders) == 3 and not any(name.startswith(".") for name in folders)


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("mt5", {"precision": "fp16"}, "mt5 overflows in float16 (its activations exceed 65504)"),
        ("nllb", {"precision": "fp16"}, "CTranslate2 does not compute in fp16 on this cpu; choose"),
        ("gpt2", {"precision": "int8"}, "the model "),
        ("none", {"precision": "int8"}, "cannot load the model "),
    ],
)
def test_what_is_refused(name, options, why, place):
    text = message(lambda: load_generator(settings(place, name, **options), "cpu"))
    assert text.startswith(why)


def test_a_missing_package_names_its_extra(place, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    text = message(lambda: load_generator(settings(place), "cpu"))
    assert text == ("the package ctranslate2 is not installed: run pip install 'xqg_pyserini[ct2]'")


def test_a_conversion_that_fails_leaves_nothing(place, cache, monkeypatch):
    from ctranslate2.converters import TransformersConverter

    def convert(self, output, **options):
        os.mkdir(output)
        raise ValueError("No conversion is registered\nfor this")

    monkeypatch.setattr(TransformersConverter, "convert", convert)
    monkeypatch.setenv("XQG_CACHE", str(cache / "failed"))
    text = message(lambda: load_generator(settings(place), "cpu"))
    assert text.endswith("No conversion is registered") and "cannot convert" in text
    assert not (cache / "failed").exists()


def test_every_top_k_of_the_help(place):
    greedy = load_generator(settings(place, top_k=1), "cpu").generate(passages(place))
    assert all(len(texts) == 3 and len(set(texts)) == 1 for row in greedy for texts in row.values())
    every = load_generator(settings(place, top_k=0), "cpu").generate(passages(place))
    assert all(len(texts) == 3 for row in every for texts in row.values())
    assert every != greedy


def test_a_conversion_that_another_process_finished_first_is_used(place, cache, monkeypatch):
    from ctranslate2.converters import TransformersConverter

    real = TransformersConverter.convert

    def convert(self, output, **options):
        real(self, output, **options)
        other = cache / "race" / "ctranslate2" / os.path.basename(output)
        real(self, str(other), **options)  # another process, at the same time

    monkeypatch.setattr(TransformersConverter, "convert", convert)
    monkeypatch.setenv("XQG_CACHE", str(cache / "race"))
    load_generator(settings(place), "cpu").generate(passages(place)[:1])
    assert len(os.listdir(cache / "race" / "ctranslate2")) == 1


def test_a_damaged_conversion_is_named(place, cache, monkeypatch):
    monkeypatch.setenv("XQG_CACHE", str(cache / "damaged"))
    load_generator(settings(place), "cpu")
    (folder,) = (cache / "damaged" / "ctranslate2").iterdir()
    (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:1000])
    text = message(lambda: load_generator(settings(place), "cpu"))
    assert text.startswith(f"{folder}: CTranslate2 cannot read it (")
    assert text.endswith("; delete this folder, and the model is converted again")


def test_where_conversions_are_kept(monkeypatch, tmp_path):
    from xqg_pyserini.generate.ctranslate import cache_folder

    monkeypatch.setenv("XQG_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("XQG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "xqg_pyserini"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "xqg_pyserini"


def test_a_gpu_that_does_not_compute_in_bfloat16_is_told(place, monkeypatch):
    from xqg_pyserini.generate import ctranslate

    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda kind: {"float32"})
    stub = SimpleNamespace(settings=settings(place, precision="bf16"), device="cuda:1")
    text = message(ctranslate.CTranslate2._load, stub)
    assert text == "CTranslate2 does not compute in bf16 on this cuda; choose bf16"
