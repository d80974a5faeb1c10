"""Files and folders are there when they are whole, and nothing of the user's is ever replaced."""

import hashlib
import os
import stat
from pathlib import Path

import pytest
from conftest import message, put, refusal

from xqg_pyserini import data, files
from xqg_pyserini.errors import UserError


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder, hidden files too: path → content, None for a folder."""
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in folder.rglob("*")}


class Stop(BaseException):
    """Stands for Ctrl-C, which no `except Exception` sees."""


@pytest.mark.parametrize("stop", [RuntimeError, UserError, KeyboardInterrupt, Stop])
def test_a_file_is_there_when_all_of_it_is_written_and_not_before(tmp_path, stop):
    path = tmp_path / "new" / "out.txt"

    def fail():
        with files.writing(path) as file:
            file.write("half" * 100_000)
            file.flush()
            assert not path.exists() or path.read_bytes() == b"old\r\n\xc3\xa9"
            raise stop("stopped")

    with pytest.raises(stop):
        fail()
    assert tree(tmp_path) == {}
    with files.writing(path) as file:
        file.write("old\r\né")
    assert path.read_bytes() == b"old\r\n\xc3\xa9"  # no line end is translated
    with pytest.raises(stop):
        fail()
    assert tree(tmp_path) == {"new": None, "new/out.txt": b"old\r\n\xc3\xa9"}


def test_a_reader_of_the_old_file_is_not_disturbed_by_the_new_one(tmp_path):
    files.write_json(tmp_path / "f", "old")
    with open(tmp_path / "f", encoding="utf-8") as reader:
        files.write_json(tmp_path / "f", "new")
        assert reader.read() == '"old"\n'
    assert (tmp_path / "f").read_text() == '"new"\n'


def test_what_is_written_has_the_modes_that_the_user_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_json(tmp_path / "f", 1)
        with files.writing_folder(tmp_path / "d", False) as folder:
            put(folder / "x", "1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750


def test_writing_onto_a_folder_is_refused(tmp_path):
    text = message(files.write_json, tmp_path, {})
    assert text == f"{tmp_path}: is a directory; give the name of a file"


def test_a_pipe_or_device_is_never_replaced_by_a_file(tmp_path):
    """`--output /dev/null`, run as root, must not turn /dev/null into a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        try:
            data.write_run(pipe, {"q": {"d": 1}}, "t")
        except UserError as refused:
            assert str(pipe) in str(refused)
        else:
            assert os.read(reader, 100) == b"q Q0 d 1 1.000000 t\n"
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    finally:
        os.close(reader)


def test_json_is_written_without_nan_and_without_a_trace_of_the_try(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"score": float("nan")})
    assert tree(tmp_path) == {}
    files.write_json(tmp_path / "x.json", {"b": "é🐈", "a": 1})
    assert (tmp_path / "x.json").read_text("utf-8") == '{\n  "b": "é🐈",\n  "a": 1\n}\n'


def fill(path, overwrite, inputs=(), stop=None):
    with files.writing_folder(path, overwrite, inputs) as folder:
        put(folder / "new", "new")
        (folder / "sub").mkdir()
        if stop:
            raise stop


def test_a_folder_is_there_when_it_is_whole_and_replaces_all_of_the_old_one(tmp_path):
    path = tmp_path / "made" / "out"
    with pytest.raises(KeyboardInterrupt):
        fill(path, False, stop=KeyboardInterrupt())
    assert tree(tmp_path) == {}
    fill(path, False)
    whole = {"made": None, "made/out": None, "made/out/new": b"new", "made/out/sub": None}
    assert tree(tmp_path) == whole
    put(path / "old", "old")
    for stop in (RuntimeError(), UserError("x"), Stop()):
        with pytest.raises(type(stop)):
            fill(path, True, stop=stop)
        assert tree(tmp_path) == {**whole, "made/out/old": b"old"}
    fill(path, True)
    assert tree(tmp_path) == whole


def test_a_folder_that_holds_something_is_replaced_only_on_demand(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", False)  # it was empty
    assert refusal(fill, tmp_path / "out", False) == (
        f"{tmp_path / 'out'}: the folder already holds something; give another name, or overwrite it",
        ("overwrite",),
    )
    put(tmp_path / "file", "x")
    for overwrite in (False, True):
        text = message(fill, tmp_path / "file", overwrite)
        assert text == f"{tmp_path / 'file'}: is a file; give the name of a folder"
    (tmp_path / "hidden").mkdir()
    put(tmp_path / "hidden" / ".only", "x")
    assert "already holds something" in message(fill, tmp_path / "hidden", False)
    assert (tmp_path / "file").read_bytes() == b"x"


def test_what_a_killed_job_left_is_cleared_away(tmp_path):
    left = files.aside_of(tmp_path / "out")
    left.mkdir()
    put(left / "half", "x")
    fill(tmp_path / "out", False)
    assert set(tree(tmp_path)) == {"out", "out/new", "out/sub"}


def test_a_folder_that_holds_an_input_is_never_replaced(tmp_path):
    out = tmp_path / "out"
    (out / "deep").mkdir(parents=True)
    corpus = put(out / "deep" / "c.jsonl", '{"id": "1", "text": "x"}\n')
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "c.jsonl").symlink_to(corpus)
    before = tree(tmp_path)
    for output, given, named in [
        (out, corpus, corpus),
        (out, str(corpus), corpus),
        (out, out, out),
        (out, out / "deep", out / "deep"),
        (out, f"{out}/deep/*.jsonl", corpus),
        (out / "deep" / "..", corpus, corpus),
        (tmp_path / "link", corpus, corpus),
        (out, tmp_path / "c.jsonl", tmp_path / "c.jsonl"),
        (tmp_path, corpus, corpus),
    ]:
        text = message(fill, output, True, [None, "gone", given])
        assert text == f"{output}: will not be replaced, since it holds {named}"
        assert tree(tmp_path) == before
    sibling = tmp_path / "out-2"  # a name that begins alike is no folder inside
    sibling.mkdir()
    put(sibling / "x", "x")
    fill(sibling, True, [corpus])
    assert set(tree(sibling)) == {"new", "sub"}


@pytest.mark.parametrize("output", [".", "..", "../here", ""])
def test_the_working_directory_is_never_replaced(tmp_path, monkeypatch, output):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for kept in ({"here": None}, {"here": None, "here/x": b"1"}):
        text = message(fill, output, True)
        assert text.endswith(f": will not be replaced, since it holds {here}")
        assert tree(tmp_path) == kept
        put(here / "x", "1")


def test_the_home_directory_is_never_replaced(tmp_path, monkeypatch):
    home = tmp_path / "homes" / "me"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for output in (home, home.parent):
        text = message(fill, output, True)
        assert text == f"{output}: will not be replaced, since it holds {home}"
    fill(home / "out", False)
    assert set(tree(home)) == {"out", "out/new", "out/sub"}


def test_a_link_to_a_folder_stays_a_link_and_its_target_is_replaced(tmp_path):
    (tmp_path / "disk" / "real").mkdir(parents=True)
    put(tmp_path / "disk" / "real" / "old", "old")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "real")
    fill(tmp_path / "out", True)
    assert (tmp_path / "out").is_symlink()
    assert set(tree(tmp_path / "disk")) == {"real", "real/new", "real/sub"}


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one_in_place(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    put(out / "old", "old")
    rename = os.rename

    def fail_on_new(source, target):
        if Path(source).name.endswith(".partial"):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_on_new)
    with pytest.raises(OSError, match="no"):
        fill(out, True)
    assert tree(tmp_path) == {"out": None, "out/old": b"old"}


def test_an_output_file_must_not_be_an_input(tmp_path):
    path = put(tmp_path / "in.jsonl", "x")
    os.link(path, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(path)
    for output in (path, tmp_path / "hard", tmp_path / "soft", tmp_path / "." / "in.jsonl"):
        for given in (path, str(tmp_path / "*.jsonl")):
            text = message(files.check_file, output, [None, given])
            assert text == f"{output}: is one of the inputs; give the output another name"
    files.check_file(tmp_path / "other", [path, "gone*"])


def test_sources_are_described_by_name_size_and_checksum_in_order(tmp_path):
    put(tmp_path / "b.jsonl", "bb")
    put(tmp_path / "a.jsonl", "")
    assert data.describe_sources(tmp_path) == [
        {"name": "a.jsonl", "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()},
        {"name": "b.jsonl", "bytes": 2, "sha256": hashlib.sha256(b"bb").hexdigest()},
    ]


def test_chunks_hold_every_item_once_and_are_lazy():
    assert list(files.chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(files.chunks([], 2)) == []
    endless = files.chunks(iter(int, 1), 3)
    assert next(endless) == [0, 0, 0]


def test_a_part_of_an_input_that_xqg_wrote_is_not_replaced(tmp_path):
    part = tmp_path / "alignment" / "moments"
    part.mkdir(parents=True)
    (part / "sums.npy").write_bytes(b"1")
    files.check_output(part, True, [tmp_path / "alignment"])  # a folder of the user's own
    (tmp_path / "alignment" / "alignment.json").write_text("{}")
    text = f"{part}: will not be replaced, since it is a part of {tmp_path / 'alignment'}"
    assert message(files.check_output, part, True, [tmp_path / "alignment"]) == text
    files.check_output(tmp_path / "alignment" / "new", True, [tmp_path / "alignment"])


def test_the_checksums_of_a_file_are_those_that_the_algorithms_have(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    xxh3 = "99aa06d3014798d86001c324468d497f"  # of nothing, by the algorithm's own test vectors
    assert files.file_sums(path) == {"sha256": hashlib.sha256(b"").hexdigest(), "xxh3": xxh3}
    path.write_bytes(b"some bytes" * 1_000_000)  # more than are read at once
    running = files.RunningSums()
    for _ in range(10):
        running.update(b"some bytes" * 100_000)
    assert running.hexdigests() == files.file_sums(path)
    assert files.file_sums(path, "sha256") == {"sha256": files.file_sha256(path)}
