"""An index in shards is searched as the merged one, ties included; shards that are none are refused."""

import json
import shutil

import numpy as np
import pytest
from conftest import message, run_xqg, write_jsonl
from made_stores import engine, f32, quietly, write_passages, write_sums  # noqa: F401 - engine is a fixture

import xqg_pyserini as xqg
from xqg_pyserini.retrieve.directories import FaissDirectory
from xqg_pyserini.retrieve.index import index_shards
from xqg_pyserini.stores import ShardSettings

N, D = 90, 12
RANDOM = np.random.default_rng(5)
WORDS = RANDOM.normal(size=(7, D)).astype(np.float32)
E = WORDS[np.arange(N) % 7]  # seven vectors: most hits tie, within shards and between them
E[::10] = RANDOM.normal(size=(9, D))
IDS = [f"p{i}" for i in range(N)]
SUMS = {l: RANDOM.normal(size=(N, D)).astype(np.float32) for l in ("ar", "ru")}
CUTS = [0, 40, 41, N]
QUESTIONS = [xqg.Question(f"q{i}", "?", ("ar", "ru", "fi")[i % 3]) for i in range(50)]
VECTORS = RANDOM.normal(size=(50, D)).astype(np.float32)
VECTORS[:7] = WORDS


def shard(folder, i, of=3):
    return folder / f"shard-{i:05}-of-{of:05}"


def write(folder, rows, output, kind="flat", fusion=None, own=False):
    """Write an index of some passages."""
    name = f"{rows.start}-{rows.stop}"
    if not (folder / "stores" / name).exists():
        ids = IDS[rows.start : rows.stop]
        part = {l: sums[rows.start : rows.stop] for l, sums in SUMS.items()}
        write_passages(folder / "stores" / name / "P", ids, E[rows.start : rows.stop])
        write_sums(folder / "stores" / name / "Q", ids, part, {l: [2] * len(ids) for l in SUMS})
    passages = folder / "stores" / name / "P"
    if fusion is None:
        return xqg.write_index(passages, output, kind)
    fused = xqg.Fused(passages, passages.parent / "Q", fusion)
    return (fused.own_language() if own else fused).write_index(output, kind)


def sharded(folder, **options):
    for i in range(3):
        write(folder, range(CUTS[i], CUTS[i + 1]), shard(folder / "S", i), **options)
    return folder / "S"


MEAN = xqg.Fusion("mean", beta=0.3)


@pytest.mark.parametrize(
    ("kind", "fusion", "own"),
    [("flat", None, False), ("fp16", None, False), ("flat", MEAN, False), ("flat", MEAN, True)],
)
def test_shards_give_the_run_of_the_merged_index(tmp_path, kind, fusion, own):
    options = {"kind": kind, "fusion": fusion, "own": own}
    merged = write(tmp_path, range(N), tmp_path / "merged", **options)
    index = xqg.Index(sharded(tmp_path, **options))
    for k in (1, 2, 13, 14, 45, 200):
        expected = quietly(merged.search, QUESTIONS, k, vectors=VECTORS)
        assert json.dumps(quietly(index.search, QUESTIONS, k, vectors=VECTORS)) == json.dumps(expected)
    assert index.d == D
    if not own:
        assert (index.n, index.meta["n"], index.meta["shards"]) == (N, N, 3)
    assert [file.problem for file in xqg.check_folder(tmp_path / "S") if file.problem] == []


def test_a_language_of_an_index_in_shards_is_searched_by_itself(tmp_path):
    folder = sharded(tmp_path, fusion=MEAN, own=True)
    merged = write(tmp_path, range(N), tmp_path / "ru", fusion=xqg.Fusion("mean", beta=0.3, languages=("ru",)))
    run = xqg.Index(folder / "ru").search(QUESTIONS, 9, vectors=VECTORS)
    assert json.dumps(run) == json.dumps(merged.search(QUESTIONS, 9, vectors=VECTORS))


def test_shards_that_are_missing_or_of_another_job_are_refused(tmp_path):
    folder = sharded(tmp_path)
    assert message(FaissDirectory, folder) == (f"{folder} holds 3 shards of an index: merge them, or give one of them")
    shutil.copytree(shard(folder, 0), shard(folder, 0, 2))
    assert message(xqg.Index, folder) == f"{folder}: holds shards of more than one whole; give each whole a folder"
    shutil.rmtree(shard(folder, 0, 2))
    shutil.copytree(shard(folder, 0), shard(folder, 3))
    assert message(xqg.Index, folder) == f"{shard(folder, 3)}: there is no such shard of 3; remove it"
    shutil.rmtree(shard(folder, 3))
    shutil.rmtree(shard(folder, 1))
    missing = f"{folder}: of 3 shards some are missing: 1"
    assert message(xqg.Index, folder) == missing
    assert [file.problem for file in xqg.check_folder(folder) if file.problem] == [missing]
    write_jsonl(tmp_path / "q.jsonl", [{"id": "q", "question": "?", "lang": "ar"}])
    done = run_xqg("search", "--index", folder, "--topics", tmp_path / "q.jsonl", "--output", tmp_path / "run")
    assert (done.returncode, done.stderr) == (2, f"xqg search: error: {missing}\n")


def test_shards_of_two_encoders_fusions_types_or_centres_are_refused(tmp_path):
    folder = sharded(tmp_path, fusion=MEAN)
    last = shard(folder, 2)
    kept = (last / "xqg.json").read_text("utf-8")
    for key, value in {"encoder": {"name": "other"}, "fusion": {"languages": ["ar"]}, "type": "fp16"}.items():
        (last / "xqg.json").write_text(json.dumps({**json.loads(kept), key: value}), "utf-8")
        expected = f"{last}: its {key} is not that of {shard(folder, 0)}; shards are of one index"
        assert message(xqg.Index, folder) == expected
    shutil.rmtree(folder)
    sharded(tmp_path, fusion=xqg.Fusion("mean", beta=0.3, center=True))  # each shard's own means
    assert message(xqg.Index, folder) == (
        f"{shard(folder, 1)}: its dimensions or its centres are not those of {shard(folder, 0)}; "
        "shards are of one index"
    )


def test_an_id_in_two_shards_is_refused(tmp_path):
    folder = sharded(tmp_path)
    shutil.rmtree(shard(folder, 2))
    write(tmp_path, range(39, N), shard(folder, 2))
    assert message(xqg.Index, folder) == (
        f"{shard(folder, 2) / 'docid'}: passage id 'p39' again (first in {shard(folder, 0) / 'docid'}); "
        "ids must be unique"
    )


def test_a_damaged_shard_is_named_by_search_and_check(tmp_path):
    folder = sharded(tmp_path)
    path = shard(folder, 2) / "index"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    changed = f"{path}: changed since it was written (its checksum differs); copy it again, or build the index again"
    assert message(xqg.Index(folder).search, QUESTIONS, vectors=VECTORS) == changed
    assert [file.problem for file in xqg.check_folder(folder) if file.problem] == [changed]


def test_a_shard_without_passages_near_a_question_changes_nothing(tmp_path):
    """By hand: the best of three shards of one passage each, the first two of them equal."""
    for i, vector in enumerate(([1, 0], [1, 0], [0, 1])):
        xqg.write_index(write_passages(tmp_path / f"P{i}", [f"d{i}"], f32([vector])), shard(tmp_path / "S", i))
    run = xqg.Index(tmp_path / "S").search({"a": "?", "b": "?"}, 2, vectors=f32([[2, 1], [0, 3]]))
    assert {qid: list(hits.items()) for qid, hits in run.items()} == {
        "a": [("d0", 2.0), ("d1", 2.0)],
        "b": [("d2", 3.0), ("d0", 0.0)],
    }


def test_shards_that_say_that_they_are_others_are_refused(tmp_path):
    write_passages(tmp_path / "P", IDS, E)
    index_shards(tmp_path / "P", tmp_path / "S", ShardSettings(3))
    assert xqg.Index(tmp_path / "S").n == N
    (tmp_path / "part").mkdir()
    for old, new in ((0, 0), (2, 1)):
        shutil.copytree(shard(tmp_path / "S", old), shard(tmp_path / "part", new, 2))
    first = shard(tmp_path / "part", 0, 2)
    assert message(xqg.Index, tmp_path / "part") == (
        f"{first}: it is shard 0 of 3, and not 0 of 2; give it its own name"
    )
    write_passages(tmp_path / "Q", IDS[::-1], E)
    index_shards(tmp_path / "Q", tmp_path / "T", ShardSettings(3))
    shutil.rmtree(shard(tmp_path / "S", 2))
    shutil.copytree(shard(tmp_path / "T", 2), shard(tmp_path / "S", 2))
    assert message(xqg.Index, tmp_path / "S") == (
        f"{shard(tmp_path / 'S', 2)}: a shard of other passages than the others; make it again"
    )
