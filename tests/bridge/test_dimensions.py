"""Pyserini's modules that take a dimension get the real one, or refuse in one line."""

import json

import faiss
import numpy as np
import pytest
from conftest import run_xqg


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two indexes of 3 and 2 vectors of 6 dimensions, part0 and part1; part2 has 4 dimensions."""
    folder = tmp_path_factory.mktemp("shards")
    draws = np.random.default_rng(1)
    for i, (n, d) in enumerate([(3, 6), (2, 6), (2, 4)]):
        index = faiss.IndexFlatIP(d)
        index.add(draws.normal(size=(n, d)).astype(np.float32))
        (folder / f"part{i}").mkdir()
        faiss.write_index(index, str(folder / f"part{i}" / "index"))
        (folder / f"part{i}" / "docid").write_text("".join(f"{i}-{j}\n" for j in range(n)))
    return folder


def test_an_index_is_turned_into_a_graph_without_its_dimension(xqg, shards, tmp_path):
    xqg("pyserini", "index.faiss", "--input", shards / "part0", "--output", tmp_path / "out",
        "--hnsw", "--M", "4")  # fmt: skip
    made = faiss.read_index(str(tmp_path / "out" / "index"))
    assert (made.d, made.ntotal, type(made).__name__) == (6, 3, "IndexHNSWFlat")


def test_embeddings_in_json_lines_tell_their_dimension(xqg, tmp_path):
    (tmp_path / "in").mkdir()
    rows = [{"id": f"d{i}", "contents": "", "vector": [0.1 * i, 1.0, 2.0]} for i in range(4)]
    (tmp_path / "in" / "embeddings.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    xqg("pyserini", "index.faiss", "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert faiss.read_index(str(tmp_path / "out" / "index")).d == 3


def test_shards_are_merged_without_their_dimension(xqg, shards):
    xqg("pyserini", "index.merge_faiss_indexes", "--prefix", shards / "part", "--shard-num", "2")
    merged = faiss.read_index(str(shards / "partfull" / "index"))
    assert (merged.d, merged.ntotal) == (6, 5)
    assert (shards / "partfull" / "docid").read_text().split() == ["0-0", "0-1", "0-2", "1-0", "1-1"]


def test_a_wrong_dimension_is_one_line_and_leaves_nothing(refused, shards, tmp_path):
    base = ("pyserini", "index.faiss", "--input", shards / "part0", "--output", tmp_path / "out")
    line = refused(*base, "--dim", "768")
    assert line.endswith(f"--dim is 768, but {shards / 'part0'} has 6 dimensions")
    assert not (tmp_path / "out").exists()


def test_shards_of_two_encoders_are_one_line(refused, shards):
    merge = ("pyserini", "index.merge_faiss_indexes", "--prefix", shards / "part")
    line = refused(*merge, "--shard-num", "3")
    assert f"{shards / 'part2'} has 4 dimensions, {shards / 'part0'} has 6" in line
    assert "part3" in refused(*merge, "--shard-num", "4")


def test_what_a_module_of_pyserini_raises_is_no_bug_of_ours(shards, tmp_path):
    done = run_xqg("pyserini", "index.faiss", "--input", shards / "part0",
                   "--output", tmp_path / "out", "--metric", "nonsense")  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("xqg pyserini: error: pyserini's index.faiss ended with NameError")


def test_a_pattern_of_indexes_is_merged(xqg, refused, shards, tmp_path):
    command = ("pyserini", "encode.merge_faiss_index", "--output", tmp_path / "out", "--input")
    xqg(*command, f"{shards}/part[01]")
    assert faiss.read_index(str(tmp_path / "out" / "index")).ntotal == 5
    assert "part2 has 4 dimensions" in refused(*command, f"{shards}/part[0-2]")
