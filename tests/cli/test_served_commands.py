"""Served models through the commands, as processes: the same bytes, killed, interrupted, and no key in any of them."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import run_xqg, write_jsonl
from loopback_server import Stub, serving
from test_killed import contents, killed, small_steps

from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve.encode import encode_passages

KEY = "sk-5ecret"
NUMBER = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_jsonl(folder / "corpus.jsonl", [{"id": str(i), "text": f"passage {i}"} for i in range(NUMBER)])
    encode_passages(folder / "corpus.jsonl", Encoder(Stub(), query_prefix="q: "), folder / "ordinary")
    return folder


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as server:
        yield server


def encode(server, output):
    return f"encode --corpus corpus.jsonl --encoder openai:m@{server.url} --output {output}".split()


def generate(server, output):
    words = f"generate --corpus corpus.jsonl --model openai:m@{server.url} --languages fi --output {output}"
    return [*words.split(), "--num-shards", "10", "--num-queries", "2", "--batch-size", "8"]


def vectors(folder):
    return [(folder / name).read_bytes() for name in ("vectors.npy", "ids.txt")]


def test_a_store_of_a_faulty_server_is_that_of_the_same_vectors(server, folder):
    server.order, server.largest = -1, 16
    server.faults = ["cut", 500, 0.5, (429, {"error": KEY}, {"Retry-After": "0"}), lambda _: b"<html>"]
    done = run_xqg(*encode(server, "store"), "--query-prefix", "q: ", "--batch-size", 20, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert vectors(folder / "store") == vectors(folder / "ordinary")
    assert not any(KEY.encode() in data for data in contents(folder / "store").values())
    assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"
    server.always = (401, {"error": {"message": f"no such key: {KEY}"}})
    done = run_xqg(*encode(server, "other"), "--verbose", cwd=folder)
    what = "answers 401: no such key: … (the key is that of the variable OPENAI_API_KEY)"
    assert done.stderr == f"xqg encode: error: openai:m@{server.url} {what}\n"
    assert not (folder / "other").exists()


def test_a_killed_encode_goes_on_to_the_same_bytes(server, folder):
    server.slow = 0.2
    name, *arguments = encode(server, "again")[:-2]
    command = small_steps(name, " ".join(arguments), "again")
    assert killed(command, folder, folder / ".again.partial" / "progress.json", 1.0)
    begun = sum(len(body["input"]) for body in server.bodies)
    server.slow, server.asked = 0, []
    subprocess.run(command, cwd=folder, check=True)
    assert begun > 3 and sum(len(body["input"]) for body in server.bodies) < NUMBER
    assert vectors(folder / "again") == vectors(folder / "ordinary")


def test_generating_twice_and_after_a_kill_gives_the_same_bytes(server, folder):
    done = run_xqg(*generate(server, "queries"), cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.asked) == NUMBER
    server.slow, server.order, server.choices, server.asked = 0.2, -1, 2, []
    command = [sys.executable, "-m", "xqg_pyserini", *generate(server, "twice")]
    assert killed(command, folder, folder / "twice" / "queries-00001-of-00010.jsonl.gz", 0)
    server.slow, server.asked = 0, []
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    assert 0 < len(server.asked) < NUMBER
    assert contents(folder / "twice") == contents(folder / "queries")
    assert not any(KEY.encode() in data for data in contents(folder / "twice").values())


@pytest.mark.parametrize(("command", "sign"), [(encode, signal.SIGTERM), (generate, signal.SIGINT)])
def test_an_interruption_ends_it_at_once(command, sign, server, folder):
    server.faults, server.always = [0.0], 30.0  # an encoder is first asked what it is
    words = [sys.executable, "-m", "xqg_pyserini", *command(server, "never")]
    process = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True, env={**os.environ})
    while len(server.asked) < 4:
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(sign)
    said = process.communicate(timeout=20)[1]
    assert time.monotonic() - start < 3  # not the 30 that the answers take
    assert process.returncode == 128 + sign
    assert f"error: interrupted ({sign.name})" in said and KEY not in said
    assert not (folder / "never").exists()


@pytest.mark.parametrize(("command", "flag"), [("encode", "--encoder"), ("generate", "--model")])
def test_a_wrong_name_is_one_line(command, flag, folder, refused):
    more = ["--languages", "fi"] if command == "generate" else []
    said = refused(command, "--corpus", "corpus.jsonl", flag, "openai:m@h:80/v1", "--output", "no", *more, cwd=folder)
    form = "openai:MODEL@URL, as openai:BAAI/bge-m3@http://localhost:8000/v1"
    assert said == f"xqg {command}: error: openai:…: expected {form}"
