"""Anserini indexes and searches the Parquet files that `xqg export` writes, and finds what xqg search finds."""

import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_stores import engine, write_passages  # noqa: F401 - a fixture
from test_pyserini import read_trec

from xqg_pyserini import ExportSettings, Question, UserError, export_index
from xqg_pyserini.java import find_java
from xqg_pyserini.retrieve.index import write_index

pytestmark = pytest.mark.parity


def anserini(name: str, *arguments) -> None:
    """Run a command of Anserini's, from the jar that Pyserini has."""
    try:
        java = find_java().home / "bin" / "java"
    except UserError as error:
        pytest.skip(str(error))
    (package,) = importlib.util.find_spec("pyserini").submodule_search_locations
    (jar,) = Path(package).glob("resources/jars/anserini-*-fatjar.jar")
    command = [java, "-XX:TieredStopAtLevel=1", "-cp", jar, f"io.anserini.{name}", *arguments, "-threads", "1"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
    if "PrebuiltIndex.loadEntries" in done.stderr:
        pytest.skip("this Anserini fetches lists of prebuilt indexes before it searches, and there is no network")
    assert done.returncode == 0, done.stderr


def test_anserini_finds_in_parquet_what_xqg_finds_in_the_index(tmp_path):
    random = np.random.default_rng(5)
    vectors = random.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = ["007", "-1234567890123456789", "قطة", *(f"d{i}" for i in range(57))]
    write_passages(tmp_path / "P", ids, vectors, normalize=True)
    index = write_index(tmp_path / "P", tmp_path / "I")
    export_index(tmp_path / "I", tmp_path / "X", ExportSettings("parquet"))
    asked = (vectors[:3] + random.normal(size=(3, 8)) / 9).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    topics = [{"qid": f"0{i}", "vector": vector.tolist()} for i, vector in enumerate(asked)]
    (tmp_path / "topics.jsonl").write_text("".join(json.dumps(topic) + "\n" for topic in topics))

    how = ["-collection", "ParquetDenseVectorCollection", "-generator", "DenseVectorDocumentGenerator"]
    lucene = tmp_path / "lucene"
    anserini("index.IndexFlatDenseVectors", "-input", tmp_path / "X" / "vectors", *how, "-index", lucene)
    how = ["-topics", tmp_path / "topics.jsonl", "-topicReader", "JsonStringVector", "-topicField", "vector"]
    how += ["-hits", "20", "-output", tmp_path / "run.trec"]
    anserini("search.SearchFlatDenseVectors", "-index", lucene, *how)
    theirs = read_trec(tmp_path / "run.trec")
    ours = index.search([Question(topic["qid"], "?") for topic in topics], 20, vectors=asked)
    assert list(theirs) == list(ours)
    for qid, hits in theirs.items():
        assert [docid for docid, _ in hits] == list(ours[qid])
        # Lucene's score of an inner product is (1 + it) / 2
        assert [2 * score - 1 for _, score in hits] == pytest.approx(list(ours[qid].values()), abs=3e-6)
