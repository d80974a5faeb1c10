"""Shards that are damaged are made again; two jobs do not write one folder."""

import json
import os
import shutil

import pytest
from conftest import message
from made_jobs import contents, place, run_xqg, shards, words  # noqa: F401 - fixtures

from xqg_pyserini.files import LOCK, file_sha256, held_folder
from xqg_pyserini.generate.job import GenerationJob
from xqg_pyserini.generate.settings import GeneratorSettings, JobSettings
from xqg_pyserini.retrieve.accumulate import QuerySource


@pytest.fixture
def whole(place, tmp_path):
    """A copy of the finished folder, beside links to what it was made of."""
    for name in ("mt5", "corpus.jsonl"):
        os.symlink(place / name, tmp_path / name)
    shutil.copytree(place / "whole", tmp_path / "whole")
    return tmp_path


def job(folder, **options):
    settings = GeneratorSettings("mt5", ["ar", "fi"], num_queries=2, max_new_tokens=8)
    how = JobSettings(num_shards=4, devices="cpu", threads=1, **options)
    return GenerationJob("corpus.jsonl", settings, folder, how)


def test_each_shard_is_recorded(place):
    meta = json.loads((place / "whole" / "meta.json").read_text())
    assert meta["files"] == [
        {
            "name": f"queries-0000{i}-of-00004.jsonl.gz",
            "bytes": (place / "whole" / f"queries-0000{i}-of-00004.jsonl.gz").stat().st_size,
            "sha256": file_sha256(place / "whole" / f"queries-0000{i}-of-00004.jsonl.gz"),
            "records": 5,
        }
        for i in range(4)
    ]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("kind", ["cut", "a bit", "another shard", "empty"])
def test_a_damaged_shard_is_made_again(kind, recorded, whole, place, monkeypatch):
    monkeypatch.chdir(whole)
    if not recorded:
        meta = json.loads((whole / "whole" / "meta.json").read_text())
        del meta["files"]
        (whole / "whole" / "meta.json").write_text(json.dumps(meta, indent=2))
    path = whole / "whole" / "queries-00002-of-00004.jsonl.gz"
    data = bytearray(path.read_bytes())
    if kind == "a bit":
        data[-5] ^= 1
    elif kind == "cut":
        del data[-20:]
    elif kind == "empty":
        data.clear()
    else:
        if not recorded:  # as many records of other passages: nothing tells
            return
        data = bytearray((whole / "whole" / "queries-00001-of-00004.jsonl.gz").read_bytes())
    path.write_bytes(data)
    if recorded:
        assert f"{path}: changed since it was written" in message(QuerySource, whole / "whole")
    todo = job(whole / "whole")
    assert todo.pending() == [2]
    list(todo.run())
    assert todo.written == 1
    assert shards(whole / "whole") == shards(place / "whole")
    assert contents(whole / "whole")["meta.json"] == contents(place / "whole")["meta.json"]
    assert job(whole / "whole").pending() == []


def test_a_second_job_on_a_folder_is_refused_and_touches_nothing(whole, monkeypatch):
    monkeypatch.chdir(whole)
    (whole / "whole" / "queries-00002-of-00004.jsonl.gz").unlink()
    before = contents(whole / "whole")
    with held_folder(whole / "whole", True):
        text = message(list, job(whole / "whole").run())
        assert text.startswith(f"{whole / 'whole'}: another process is writing it")
        assert contents(whole / "whole") == before
        assert os.listdir(whole / ".whole.partial") == [LOCK]
        list(job(whole / "whole", shards=[2]).run())  # of one shard: others may write as well
    assert sorted(contents(whole / "whole")) == sorted({*before, "queries-00002-of-00004.jsonl.gz"})
    assert not (whole / ".whole.partial").exists()


def test_a_damaged_description_is_refused(whole, monkeypatch):
    monkeypatch.chdir(whole)
    (whole / "whole" / "meta.json").write_text('{"a": ' * 100_000)
    assert "meta.json: broken JSON (" in message(job, whole / "whole")
