"""Anserini's failures, by a Java that only says what it is told to: one line each, and no process left."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import refusal

from xqg_pyserini.java import anserini_jar, run_anserini


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """Put a shell script in the place of Java."""

    def make(script: str) -> Path:
        (tmp_path / "bin").mkdir()
        java = tmp_path / "bin" / "java"
        java.write_text(f"#!/bin/sh\n{script}\n")
        java.chmod(0o755)
        (tmp_path / "release").write_text('JAVA_VERSION="21.0.1"\nMODULES="java.base"\n')
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        return tmp_path

    return make


def test_java_is_given_its_memory_the_jar_and_the_arguments(pretend):
    pretend('echo "$@"')
    said = run_anserini("index.IndexX", ["-input", "a b"], 77, lambda: None)
    assert said.startswith("-Xmx77m ")
    assert said.endswith(f" -cp {anserini_jar()} io.anserini.index.IndexX -input a b")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo one; echo two; exit 3", ("Anserini's index.X ended with code 3 (two)", ())),
        ("exit 1", ("Anserini's index.X ended with code 1 (it said nothing)", ())),
        (
            "echo 'Terminating due to java.lang.OutOfMemoryError: Java heap space'; exit 3",
            ("Anserini's index.X needs more than 9 MB of memory; index in shards", ("num_shards",)),
        ),
    ],
)
def test_what_fails_is_one_line(pretend, script, expected):
    pretend(script)
    assert refusal(run_anserini, "index.X", [], 9, lambda: None) == expected


def test_a_full_disk_is_the_systems_error(pretend):
    pretend("echo 'java.io.IOException: No space left on device'; exit 0")  # Anserini ends well all the same
    with pytest.raises(OSError, match="No space left") as caught:
        run_anserini("index.X", [], 9, lambda: None)
    assert caught.value.errno == errno.ENOSPC


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


RUN = "from xqg_pyserini.java import run_anserini; run_anserini('index.X', [], 9, lambda: None)"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a Java outlives a parent that was killed")
def test_java_ends_with_the_process_that_started_it(pretend, number):
    folder = pretend(
        'echo $$ > "$(dirname "$0")/pid.new"; mv "$(dirname "$0")/pid.new" "$(dirname "$0")/pid"\nsleep 60'
    )
    process = subprocess.Popen([sys.executable, "-c", RUN], stderr=subprocess.DEVNULL, env=dict(os.environ))
    until = time.monotonic() + 60
    while not (folder / "bin" / "pid").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    java = int((folder / "bin" / "pid").read_text())
    process.send_signal(number)
    process.wait(20)
    while lives(java) and time.monotonic() < until:
        time.sleep(0.01)
    assert not lives(java)
