"""Encoding a corpus: streamed, resumed to the same bytes however often it is killed."""

import os
import shutil
import warnings
from dataclasses import replace

import pytest
from conftest import message, refusal, write_jsonl
from made_stores import (
    CORPUS,
    FakeEncoder,
    corpus,  # noqa: F401 - a fixture
    describe,
    engine,  # noqa: F401 - a fixture, used by every test
    fake,  # noqa: F401 - a fixture
    files,
    killed,
    stopped,
)

from xqg_pyserini.data import describe_sources
from xqg_pyserini.files import file_sha256
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve import encode
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.stores import VectorStore

ENCODED = [[1, 2, 3, 1], [4, 5, 6, 1], [7, 8, 9, 1], [0, 0, 0, 1], [-1, -2, -3.5, 1]]


def test_passages_are_encoded_as_passages_in_their_order(fake, corpus, tmp_path):
    opened = encode_passages(corpus, fake, tmp_path / "out")
    assert opened.vectors.tolist() == ENCODED
    assert list(opened.ids()) == [record["id"] for record in CORPUS]
    assert set(files(opened.path)) == {"vectors.npy", "ids.txt", "meta.json"}
    meta = opened.meta
    described = {key: meta[key] for key in ("format", "kind", "n", "d", "dtype", "normalized")}
    assert described == {
        "format": 1, "kind": "passages", "n": 5, "d": 4, "dtype": "float32", "normalized": False,
    }  # fmt: skip
    assert meta["encoder"] == describe()
    assert meta["vectors_sha256"] == file_sha256(opened.path / "vectors.npy")
    assert meta["sources"] == describe_sources(corpus)
    assert sorted(os.listdir(tmp_path)) == ["corpus.jsonl", "out"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_encoding_in_chunks_is_encoding_at_once(fake, corpus, tmp_path, monkeypatch, dtype):
    stores = []
    for chunk in (1, 2, 3, 1000):
        monkeypatch.setattr(encode, "CHUNK", chunk)
        stores.append(files(encode_passages(corpus, fake, tmp_path / str(chunk), dtype=dtype).path))
    assert all(other == stores[0] for other in stores)
    assert VectorStore(tmp_path / "3").vectors.dtype == dtype


def test_encoding_that_is_killed_at_any_passage_ends_in_the_same_bytes(fake, corpus, tmp_path):
    whole = files(encode_passages(corpus, fake, tmp_path / "whole").path)
    for at in range(5):
        FakeEncoder.stop_after, FakeEncoder.seen = at, []
        with pytest.raises(KeyboardInterrupt):
            encode_passages(corpus, fake, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        FakeEncoder.stop_after, FakeEncoder.seen = None, []
        assert files(encode_passages(corpus, fake, tmp_path / "out").path) == whole
        assert len(FakeEncoder.seen) == 5 - at // 2 * 2  # finished chunks of two are not redone
        shutil.rmtree(tmp_path / "out")


def test_a_process_killed_while_encoding_is_resumed_to_the_same_bytes(fake, corpus, tmp_path):
    whole = files(encode_passages(corpus, fake, tmp_path / "whole").path)
    killed(tmp_path, "encode", 3)
    assert not (tmp_path / "out").exists()
    FakeEncoder.seen = []
    assert files(encode_passages(corpus, fake, tmp_path / "out").path) == whole
    assert len(FakeEncoder.seen) == 3
    assert sorted(os.listdir(tmp_path)) == ["corpus.jsonl", "out", "whole"]


def test_encoding_starts_afresh_when_the_corpus_or_the_settings_changed(fake, corpus, tmp_path):
    for change in (
        {"dtype": "float16"},
        {"encoder": Encoder(fake, batch_size=7)},
        {"encoder": replace(fake, pooling="mean")},
    ):
        stopped(encode_passages, corpus, fake, tmp_path / "out", after=4)
        encode_passages(corpus, **{"encoder": fake, "output": tmp_path / "out", **change})
        assert len(FakeEncoder.seen) == 5
        shutil.rmtree(tmp_path / "out")
    stopped(encode_passages, corpus, fake, tmp_path / "out", after=4)
    write_jsonl(corpus, [{**record, "id": record["id"] + "x"} for record in CORPUS])
    again = encode_passages(corpus, fake, tmp_path / "out")
    assert list(again.ids()) == [record["id"] + "x" for record in CORPUS]
    assert len(FakeEncoder.seen) == 5


def test_weights_that_changed_meanwhile_do_not_mix_in_one_store(fake, corpus, tmp_path):
    """A model folder overwritten, or a package updated, between the two halves of a job."""
    stopped(encode_passages, corpus, fake, tmp_path / "out", after=4)
    FakeEncoder.weights = "w2"
    opened = encode_passages(corpus, fake, tmp_path / "out")
    assert opened.encoder["fingerprint"] == "w2"
    assert len(FakeEncoder.seen) == 5


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            [*CORPUS, {"id": "007", "text": "1 1 1"}],
            "{corpus}, line 6: passage id '007' again (first in {corpus}, line 1); "
            "ids must be unique",
        ),
        (
            [*CORPUS, {"id": "f", "text": "nan 0 0"}],
            "encoder fake gives NaN or infinity for 'nan 0 0' (fp32; try fp32)",
        ),
        ([*CORPUS, {"id": "f"}], "{corpus}, line 6: passage 'f' has no text "
         "(expected contents, or title and text); it has the keys id"),
        ([], "{corpus}: no passage in it; expected at least one"),
    ],
)  # fmt: skip
def test_a_corpus_that_cannot_be_encoded_leaves_nothing(fake, corpus, tmp_path, records, expected):
    write_jsonl(corpus, records)
    text = message(encode_passages, corpus, fake, tmp_path / "out")
    assert text == expected.format(corpus=corpus)
    assert os.listdir(tmp_path) == ["corpus.jsonl"]


def test_records_are_checked_before_a_text_is_encoded(fake, corpus, tmp_path):
    write_jsonl(corpus, [*CORPUS, {"id": "e", "text": "9 9 9"}])
    message(encode_passages, corpus, fake, tmp_path / "out")
    assert FakeEncoder.seen == []


def test_vectors_too_large_for_halves_are_refused(fake, corpus, tmp_path):
    write_jsonl(corpus, [*CORPUS, {"id": "f", "text": "70000 0 0"}])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        refused = refusal(encode_passages, corpus, fake, tmp_path / "out", dtype="float16")
    assert refused == ("the vectors of fake do not fit into float16; use float32", ("dtype",))
    assert os.listdir(tmp_path) == ["corpus.jsonl"]


@pytest.mark.parametrize("dtype", ["float64", "int8", "half a float"])
def test_a_dtype_that_no_store_has_is_refused_before_anything_is_encoded(fake, corpus, tmp_path, dtype):
    assert repr(dtype) in message(encode_passages, corpus, fake, tmp_path / "out", dtype=dtype)
    assert FakeEncoder.seen == []
    assert os.listdir(tmp_path) == ["corpus.jsonl"]


def test_a_store_is_replaced_only_on_demand_and_never_with_its_own_corpus(fake, corpus, tmp_path):
    encode_passages(corpus, fake, tmp_path / "out")
    assert refusal(encode_passages, corpus, fake, tmp_path / "out") == (
        f"{tmp_path / 'out'}: the folder already holds something; give another name, or overwrite it",
        ("overwrite",),
    )
    write_jsonl(corpus, CORPUS[:2])
    assert encode_passages(corpus, fake, tmp_path / "out", overwrite=True).n == 2
    text = message(encode_passages, corpus, fake, tmp_path, overwrite=True)
    assert text == f"{tmp_path}: will not be replaced, since it holds {corpus}"
