"""Lucene's indexes, written by Anserini: what they find, what they refuse, and what a killed one leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from conftest import message, refusal, run_xqg
from made_stores import engine, quietly, write_passages, write_sums  # noqa: F401 - engine is a fixture
from test_search_aligned import write_alignment

import xqg_pyserini as xqg
from xqg_pyserini.retrieve import lucene
from xqg_pyserini.retrieve.directories import FaissDirectory
from xqg_pyserini.retrieve.layout import LUCENE

N, D = 400, 8
RANDOM = np.random.default_rng(17)
TOPICS = RANDOM.normal(size=(20, D))


def unit(rows) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


E = unit(TOPICS[np.arange(N) % 20] + 0.4 * RANDOM.normal(size=(N, D)))
E[200:220] = E[0]  # more equals than are gathered for one hit
IDS = ["007", "-1234567890123456789", "قطة 🐈", *(f"p{i}" for i in range(3, N))]
QUESTIONS = [xqg.Question(f"q{i}", "?", ("ar", "ru", "fi")[i % 3]) for i in range(30)]
VECTORS = (3 * unit(E[:30] + 0.1 * RANDOM.normal(size=(30, D)))).astype(np.float32)  # of any length


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lucene")
    write_passages(folder / "P", IDS, E)
    for kind in ("flat", *LUCENE):
        xqg.write_index(folder / "P", folder / kind, kind)
    return folder


def same_hits(run, exact) -> None:
    """Lucene's numbers are rounded before they are compared: within that, passages and scores are the exact ones."""
    assert list(run) == list(exact)
    for qid, hits in exact.items():
        assert list(run[qid].values()) == pytest.approx(list(hits.values()), abs=2e-6)
        near = min(hits.values()) + 2e-6
        assert {docid for docid, score in hits.items() if score > near} <= run[qid].keys()


def test_a_flat_index_finds_what_faiss_finds(made):
    exact = xqg.Index(made / "flat").search(QUESTIONS, 50, vectors=VECTORS)
    same_hits(xqg.Index(made / "lucene-flat").search(QUESTIONS, 50, vectors=VECTORS), exact)


@pytest.mark.parametrize("kind", LUCENE[1:])
def test_a_graph_finds_most_of_the_best(made, kind):
    exact = xqg.Index(made / "flat").search(QUESTIONS, 20, vectors=VECTORS)
    found = xqg.Index(made / kind).search(QUESTIONS, 20, vectors=VECTORS)
    share = np.mean([len(found[qid].keys() & hits.keys()) / 20 for qid, hits in exact.items()])
    assert (
        share > {"lucene-hnsw": 0.98, "lucene-hnsw-int8": 0.7}[kind]
    )  # 8 dimensions of 8 bits; by chance it were 0.05


@pytest.mark.parametrize("kind", LUCENE)
def test_hits_depend_on_neither_their_number_nor_the_threads(made, kind):
    index = xqg.Index(made / kind)
    most = N if kind == "lucene-flat" else 100  # for more a graph is searched wider, and finds what it had missed
    every = index.search(QUESTIONS, most, vectors=VECTORS, threads=3)
    assert all(len(hits) == most for hits in every.values())
    for k in (1, 3, 12, 30):
        for qid, hits in index.search(QUESTIONS, k, vectors=VECTORS, threads=1).items():
            assert list(hits.items()) == list(every[qid].items())[:k]
    equals = [docid for docid, score in every["q0"].items() if score == every["q0"]["p200"]]
    assert equals == ["007", *(f"p{i}" for i in range(200, 220))]  # in the order of the corpus


def test_aligned_and_centred_questions_find_what_they_find_in_a_flat_index(made, tmp_path):
    matrices = np.stack([np.diag(RANDOM.uniform(0.5, 2, D)) for _ in range(3)]).astype(np.float32)
    centers = RANDOM.normal(size=(3, D)).astype(np.float32) / 9
    alignment = write_alignment(tmp_path / "A", matrices=matrices, centers=centers)
    flat, lucene = (
        quietly(xqg.Index(made / kind).search, QUESTIONS, 50, vectors=VECTORS, align=alignment)
        for kind in ("flat", "lucene-flat")
    )
    same_hits(lucene, flat)
    sums = {l: 2 * E + RANDOM.normal(size=(N, D)).astype(np.float32) for l in ("ar", "ru")}
    write_sums(tmp_path / "Q", IDS, sums, {l: [2] * N for l in sums})
    fused = xqg.Fused(made / "P", tmp_path / "Q", xqg.Fusion("mean", beta=0.3, center=True, normalize=True))
    flat, lucene = (
        quietly(quietly(fused.write_index, tmp_path / kind, kind).search, QUESTIONS, 50, vectors=VECTORS)
        for kind in ("flat", "lucene-flat")
    )
    same_hits(lucene, flat)


def test_a_graph_that_many_equals_part_finds_all_or_is_said_to_find_few(tmp_path):
    vectors = E.copy()
    vectors[100:300] = E[50]  # they have links to one another alone, in the Lucene of Pyserini 1
    index = xqg.write_index(write_passages(tmp_path / "P", IDS, vectors), tmp_path / "I", "lucene-hnsw")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = len(index.search({"q": "?"}, 100, vectors=E[50:51])["q"])
    said = [str(w.message) for w in caught if "1 of 1 questions found fewer than 100 passages: " in str(w.message)]
    assert (found < 100) == bool(said)
    assert found == 100 or version("pyserini").startswith("1.")


def test_what_anserini_does_not_understand_is_said(tmp_path, monkeypatch):
    right = lucene.has_option
    monkeypatch.setattr(lucene, "has_option", lambda command, option: not right(command, option))
    write_passages(tmp_path / "P", IDS, E)
    said = message(xqg.write_index, tmp_path / "P", tmp_path / "I", "lucene-hnsw-int8")
    assert re.match(r'Anserini wrote no index \(Error: "-quantize.(int8|sqv)" is not a valid option', said)
    assert [path.name for path in tmp_path.iterdir()] == ["P"]


def test_shards_are_searched_as_the_whole_and_not_merged(made, tmp_path):
    xqg.index_shards(made / "P", tmp_path / "S", xqg.ShardSettings(2), "lucene-flat")
    whole = xqg.Index(made / "lucene-flat").search(QUESTIONS, 50, vectors=VECTORS)
    assert json.dumps(xqg.Index(tmp_path / "S").search(QUESTIONS, 50, vectors=VECTORS)) == json.dumps(whole)
    assert message(xqg.merge_shards, tmp_path / "S", tmp_path / "M") == (
        f"{tmp_path / 'S'}: lucene-flat of all passages is another than its parts together; "
        "search the folder of shards as it is, or write the index in one"
    )


def test_vectors_of_another_length_are_refused(tmp_path):
    vectors = E[:9].copy()
    vectors[5] *= 1.5
    write_passages(tmp_path / "P", IDS[:9], vectors)
    assert refusal(xqg.write_index, tmp_path / "P", tmp_path / "I", "lucene-hnsw") == (
        "passage 'p5' has a vector of length 1.5, and Lucene takes length 1: have them normalized, or use flat",
        ("normalize",),
    )
    assert os.listdir(tmp_path) == ["P"]
    write_passages(tmp_path / "L", [*IDS[:8], "x" * 32767], E[:9])
    said = message(xqg.write_index, tmp_path / "L", tmp_path / "I", "lucene-flat")
    assert said.endswith("…: Lucene takes ids of 32766 bytes at most")


def test_what_takes_faiss_alone_says_so(made, tmp_path):
    index = made / "lucene-hnsw"
    assert message(FaissDirectory, index) == (
        f"{index}: an index of type lucene-hnsw, which is Lucene's; this takes one of Faiss's"
    )
    said = message(xqg.export_index, index, tmp_path / "X", xqg.ExportSettings("parquet"))
    assert said == message(FaissDirectory, index)


def test_a_damaged_index_is_refused_and_repaired(made, tmp_path):
    for kind in LUCENE:
        assert [file.problem for file in xqg.check_folder(made / kind) if file.problem] == []
    index = Path(shutil.copytree(made / "lucene-flat", tmp_path / "I"))
    (vectors,) = index.glob("*.vec")
    data = bytearray(vectors.read_bytes())
    data[100] ^= 1
    vectors.write_bytes(data)
    changed = f"{vectors}: changed since it was written (its checksum differs); copy it again, or build the index again"
    assert message(xqg.Index(index).search, QUESTIONS, vectors=VECTORS) == changed
    assert [file.problem for file in xqg.check_folder(index) if file.problem] == [changed]
    with pytest.warns(xqg.XqgWarning, match="repaired: "):
        xqg.write_index(made / "P", index, "lucene-flat", repair=True)
    assert [file.problem for file in xqg.check_folder(index) if file.problem] == []
    graph = Path(shutil.copytree(made / "lucene-hnsw", tmp_path / "G"))
    (graph / "segments_1").unlink()
    said = message(xqg.Index(graph).search, QUESTIONS, vectors=VECTORS)
    assert said.startswith(f"{graph}: Lucene cannot read it (no segments* file found in ")
    np.save(graph / "rows.npy", np.arange(N, dtype=np.int32)[::-1])
    said = message(xqg.Index, graph)
    assert said.startswith(f"{graph / 'rows.npy'}: changed since it was written")


def javas(folder: Path) -> list[str]:
    """The Java processes that have this folder in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode("utf-8", "replace") if entry.name.isdigit() else ""
        except OSError:
            continue
        if "io.anserini" in words and str(folder) in words:
            found.append(entry.name)
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_killed_index_is_absent_leaves_no_java_and_is_written_again(tmp_path):
    write_passages(tmp_path / "P", [f"d{i}" for i in range(4000)], unit(RANDOM.normal(size=(4000, 32))))
    words = ["index", "--passages", "P", "--type", "lucene-hnsw", "--output", "I"]
    for number in (signal.SIGKILL, signal.SIGTERM):
        command = [sys.executable, "-m", "xqg_pyserini", *words]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        until, left = time.monotonic() + 100, set((tmp_path / ".I.partial").glob("anserini-*/index"))
        while not set((tmp_path / ".I.partial").glob("anserini-*/index")) - left:  # Anserini writes
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(20) != 0
        while javas(tmp_path) and time.monotonic() < until:
            time.sleep(0.01)
        assert javas(tmp_path) == []
        assert sorted(os.listdir(tmp_path)) == ([".I.partial", "P"] if number == signal.SIGKILL else ["P"])
    done = run_xqg(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(tmp_path)) == ["I", "P"]
    assert not [name for name in os.listdir(tmp_path / "I") if "anserini" in name or name.endswith("lock")]
    assert [file.problem for file in xqg.check_folder(tmp_path / "I") if file.problem] == []
