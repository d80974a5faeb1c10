"""A whole that a cluster writes in shards: joined, gone on with, given up; the cluster here is this process."""

import pickle
from contextlib import contextmanager

import pytest
from conftest import message
from made_stores import FAKE, engine, fake, quietly  # noqa: F401 - fixtures
from test_shards import SETTINGS, N, by_batch, place, small_blocks, tree  # noqa: F401 - fixtures

from xqg_pyserini import LostWorkersError
from xqg_pyserini.cluster import Place
from xqg_pyserini.files import held_folder
from xqg_pyserini.retrieve import sharding
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.stores import shards


class Here:
    """Three workers' room; `stop_after` so many items the cluster is lost."""

    stop_after, done = 99, []

    def device(self, asked):
        return "cpu"

    def place(self, device, threads):
        return Place(1, 0)

    def workers(self, place):
        return 3

    def run(self, work, items, names, place):
        sent = pickle.loads(pickle.dumps(work))
        for number, item in enumerate(items):
            if number == self.stop_after:
                raise LostWorkersError("lost")
            had_to = sent(*item)
            Here.done += [item[0].name] if had_to else []
            yield number, had_to


@pytest.fixture(autouse=True)
def here(monkeypatch):
    @contextmanager
    def connected(name):
        yield Here()

    monkeypatch.setattr(Here, "done", [])
    monkeypatch.setattr(sharding, "connected", connected)
    monkeypatch.setattr(shards, "check_cluster", lambda name: None)
    monkeypatch.setattr(sharding, "LEAST_PASSAGES", 3)  # three shards of N


def encode(place, output, **how):
    return encode_passages(place / "corpus.jsonl", FAKE, place / output, cluster="ray", **how)


def test_a_whole_is_joined_from_shards_and_they_go(place):
    encode(place, "M")
    assert Here.done == [f"shard-0000{i}-of-00003" for i in range(N // 3)]
    assert tree(place / "M") == tree(place / "P")
    quietly(accumulate_queries, place / "queries.jsonl", place / "P", place / "Q", SETTINGS)
    quietly(accumulate_queries, place / "queries.jsonl", place / "P", place / "R", SETTINGS, cluster="ray")
    assert tree(place / "R") == tree(place / "Q")
    for kind in ("flat", "fp16", "sq8"):
        write_index(place / "P", place / f"one-{kind}", kind)
        write_index(place / "P", place / kind, kind, cluster="ray")
        assert tree(place / kind) == tree(place / f"one-{kind}")
    assert not list(place.glob(".*"))


def test_a_cluster_that_is_lost_keeps_what_is_whole_and_other_settings_replace_it(place, monkeypatch):
    monkeypatch.setattr(Here, "stop_after", 2)
    with pytest.raises(LostWorkersError):
        encode(place, "M")
    assert not (place / "M").exists()
    monkeypatch.setattr(Here, "stop_after", 99)
    Here.done.clear()
    encode(place, "M")
    assert Here.done == ["shard-00002-of-00003"]
    assert tree(place / "M") == tree(place / "P")
    monkeypatch.setattr(Here, "stop_after", 2)
    with pytest.raises(LostWorkersError):
        encode(place, "H")
    monkeypatch.setattr(Here, "stop_after", 99)
    encode(place, "H", dtype="float16")
    encode_passages(place / "corpus.jsonl", FAKE, place / "half", dtype="float16")
    assert tree(place / "H") == tree(place / "half")
    assert not list(place.glob(".*"))


def test_what_is_not_to_be_replaced_stays(place):
    before = tree(place)
    assert message(encode, place, "P").startswith(f"{place / 'P'}: the folder already holds something")
    with held_folder(place / "M", True):
        assert message(encode, place, "M").startswith(f"{place / 'M'}: another process is writing it")
    assert Here.done == []
    assert tree(place) == before
    encode(place, "P", overwrite=True)
    assert tree(place) == before


def test_shards_that_do_not_fit_together_are_not_kept(place, monkeypatch):
    from made_stores import FakeEncoder

    monkeypatch.setattr(Here, "stop_after", 2)
    with pytest.raises(LostWorkersError):
        encode(place, "M")
    monkeypatch.setattr(Here, "stop_after", 99)
    monkeypatch.setattr(FakeEncoder, "weights", "w2")
    assert "are not of one whole: encoder.fingerprint" in message(encode, place, "M")
    encode(place, "M")
    assert not list(place.glob(".*"))
