"""A filter that is killed goes on where it was, and ends in the same bytes."""

import contextlib
import gzip
import os
import shutil
import signal
import traceback
from pathlib import Path

import pytest
from conftest import write_jsonl
from made_queries import SCORED, axes, filtered  # noqa: F401 (fixtures)
from made_stores import FakeEncoder, engine, fake, files  # noqa: F401 (fixtures)

from xqg_pyserini.data import readers
from xqg_pyserini.generate import filter
from xqg_pyserini.generate.rules import TextRules
from xqg_pyserini.stores import jobs


@pytest.fixture
def sharded(tmp_path):
    """The scored queries in three files, one of them compressed, and the corpus of their texts."""
    folder = tmp_path / "Q"
    folder.mkdir()
    shards = (SCORED[:2], SCORED[2:3], SCORED[3:])
    for i, shard in enumerate(shards):
        path = write_jsonl(folder / f"q-{i:05d}-of-00003.jsonl", shard)
        if i == 1:
            path.write_bytes(gzip.compress(path.read_bytes()))
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": i, "text": "x 9 5 5"} for i in "abcd"])
    return folder


def counting(monkeypatch, at, stop):
    """Call `stop` before the event number `at`: an encoded text, a written file, a rename, …"""
    left = [at]

    def before(owner, name):
        real = getattr(owner, name)

        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                stop()
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    before(FakeEncoder, "vector")
    before(filter, "writing")
    before(filter, "write_json")
    before(filter, "compression")
    before(filter, "own_scores")
    before(filter.ScoreFiles, "append")
    before(filter.ScoreFiles, "flush")
    before(filter.ScoreFiles, "take")
    before(filter.ScoreFiles, "quantile")
    before(jobs, "write_json")
    before(jobs, "publish")
    before(filter.shutil, "rmtree")
    before(readers, "_queries_from_record")


def killed(at, call) -> bool:
    """Run a call in a process that is killed (kill -9) at an event; tell whether it got there."""
    child = os.fork()
    if not child:
        try:
            with pytest.MonkeyPatch.context() as patch:
                counting(patch, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
                call()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize("consistent", [True, False], ids=["consistency", "text rules alone"])
def test_a_filter_that_is_killed_anywhere_ends_in_the_same_bytes(axes, sharded, tmp_path, consistent):
    options = dict(corpus=tmp_path / "corpus.jsonl")
    if consistent:
        options |= dict(passages=axes, min_quantile=0.4, within=2)
    rules = TextRules(("duplicates", "copies"))

    def call():
        return filtered(sharded, tmp_path / "out", rules, **options)

    report = call()
    assert report.languages["ar"]["copies"] == 2 and report.languages["ar"]["kept"] > 0
    whole = files(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    before = sorted(os.listdir(tmp_path))
    at = 0
    while killed(at, call):
        assert not (tmp_path / "out").exists()
        assert call() == report
        assert files(tmp_path / "out") == whole, at
        shutil.rmtree(tmp_path / "out")
        assert sorted(os.listdir(tmp_path)) == before
        at += 1
    assert at > (60 if consistent else 20)
    assert files(tmp_path / "out") == whole


def test_a_filter_that_is_killed_again_and_again_comes_to_its_end(axes, sharded, tmp_path):
    def call():
        filtered(sharded, tmp_path / "out", passages=axes, min_quantile=0.4, within=2)

    call()
    whole = files(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    kills = 0
    while killed(22, call):  # some way beyond the start, which reads what there is
        kills += 1
        assert kills < 30
    assert kills > 2
    assert files(tmp_path / "out") == whole


def test_finished_scores_and_files_are_not_made_again(axes, sharded, tmp_path, monkeypatch):
    def call(stop_at=None):
        with pytest.MonkeyPatch.context() as patch:
            names: list[str] = []
            real = filter.writing

            def writing(path, zipped=False):
                names.append(Path(path).name)
                if len(names) == stop_at:
                    raise KeyboardInterrupt
                return real(path, zipped)

            patch.setattr(filter, "writing", writing)
            with contextlib.suppress(KeyboardInterrupt):
                filtered(sharded, tmp_path / "out", passages=axes, min_quantile=0.4)
            return names

    assert call(stop_at=2) == ["q-00000-of-00003.jsonl", "q-00001-of-00003.jsonl"]
    FakeEncoder.seen.clear()
    assert call() == ["q-00001-of-00003.jsonl", "q-00002-of-00003.jsonl"]
    assert not FakeEncoder.seen


def test_other_settings_or_inputs_start_afresh(axes, sharded, tmp_path, monkeypatch):
    def call(**options):
        return filtered(sharded, tmp_path / "out", passages=axes, **options)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filter, "compression", stop)
        with pytest.raises(KeyboardInterrupt):
            call(min_quantile=0.4)
    assert (tmp_path / ".out.partial").is_dir()
    FakeEncoder.seen.clear()
    report = call(min_quantile=0.5)
    assert len(FakeEncoder.seen) == 11
    assert report.thresholds == {"ar": 7.0, "ru": 4.0, "te": 0.0}
