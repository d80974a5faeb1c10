"""Inverted lists: learnt from a sample, the same bytes every time, and found as whatever batch asks."""

import json
import os
import subprocess
import sys
import warnings

import faiss
import numpy as np
import pytest
from conftest import message, refusal
from made_stores import engine, quietly, write_passages  # noqa: F401 - engine is a fixture

import xqg_pyserini as xqg
from xqg_pyserini.retrieve import directories, inverted
from xqg_pyserini.retrieve.inverted import planned

N, D = 1200, 8
RANDOM = np.random.default_rng(11)
TOPICS = RANDOM.normal(size=(30, D))
E = (TOPICS[np.arange(N) % 30] + 0.3 * RANDOM.normal(size=(N, D))).astype(np.float32)
E /= np.linalg.norm(E, axis=1, keepdims=True)
E[600:640] = E[0]  # more equals than are gathered for few hits
IDS = [f"p{i}" for i in range(N)]
QUESTIONS = {f"q{i}": "?" for i in range(40)}
VECTORS = (E[:40] + 0.05 * RANDOM.normal(size=(40, D))).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inverted")
    write_passages(folder / "P", IDS, E)
    for kind in inverted.KINDS:
        quietly(xqg.write_index, folder / "P", folder / kind, kind)
    return folder


def test_plans_by_number_of_passages():
    assert planned("ivfpq", 100_000, 384) == (1024, 64, 96, 40_960, 1234)
    assert planned("ivfsq8", 1_000_000, 384) == (2048, 128, 384, 81_920, 1234)
    assert planned("ivfpq", 18_000_000, 768) == (16384, 256, 192, 655_360, 1234)
    assert planned("ivfpq", 256, 50) == (4, 4, 10, 256, 1234)  # 12 does not divide 50
    assert planned("ivfsq8", 1, 3) == (1, 1, 3, 1, 1234)


@pytest.mark.parametrize("kind", inverted.KINDS)
def test_an_index_says_how_it_was_made_and_keeps_its_probes_in_the_file(made, kind):
    index = faiss.read_index(str(made / kind / "index"))
    plan = planned(kind, N, D)
    assert plan.lists == 16 and (index.ntotal, index.d, index.nlist, index.nprobe) == (N, D, 16, 8)
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT and index.code_size == plan.code_bytes
    meta = json.loads((made / kind / "xqg.json").read_text("utf-8"))
    assert meta["type"] == kind and meta["inverted"] == plan._asdict()
    assert [file.problem for file in xqg.check_folder(made / kind) if file.problem] == []


MAKE = """
import sys, warnings
warnings.simplefilter("ignore")
import xqg_pyserini as xqg
xqg.write_index(sys.argv[1], sys.argv[2], sys.argv[3])
"""


@pytest.mark.parametrize("kind", inverted.KINDS)
def test_an_index_made_again_has_the_same_bytes_whatever_the_threads(made, tmp_path, kind):
    arguments = [sys.executable, "-c", MAKE, str(made / "P"), str(tmp_path / "again"), kind]
    subprocess.run(arguments, check=True, env={**os.environ, "OMP_NUM_THREADS": "3"})
    assert (tmp_path / "again" / "index").read_bytes() == (made / kind / "index").read_bytes()


@pytest.mark.parametrize("kind", inverted.KINDS)
def test_hits_depend_on_neither_their_number_nor_the_batch(made, monkeypatch, kind):
    index = xqg.Index(made / kind)
    every = index.search(QUESTIONS, N, vectors=VECTORS)
    for k in (1, 3, 12, 30):
        for qid, hits in index.search(QUESTIONS, k, vectors=VECTORS).items():
            assert list(hits.items()) == list(every[qid].items())[:k]
    equals = [docid for docid, score in every["q0"].items() if score == every["q0"]["p600"]]
    assert equals == ["p0", *(f"p{i}" for i in range(600, 640))]  # cut in the order of the rows
    monkeypatch.setattr(directories, "BATCH", 7)
    assert json.dumps(index.search(QUESTIONS, N, vectors=VECTORS)) == json.dumps(every)
    for i in range(3):
        alone = index.search({f"q{i}": "?"}, N, vectors=VECTORS[i : i + 1])
        assert list(alone[f"q{i}"].items()) == list(every[f"q{i}"].items())


@pytest.mark.parametrize("kind", inverted.KINDS)
def test_most_of_the_best_are_found(made, kind):
    exact = xqg.write_index(made / "P", made / "flat", overwrite=True).search(QUESTIONS, 10, vectors=VECTORS)
    found = xqg.Index(made / kind).search(QUESTIONS, 10, vectors=VECTORS)
    share = np.mean([len(found[qid].keys() & hits.keys()) / 10 for qid, hits in exact.items()])
    assert share > {"ivfpq": 0.4, "ivfsq8": 0.8}[kind]  # codes of two bytes lose much; by chance it were 0.01


@pytest.mark.parametrize("kind", inverted.KINDS)
def test_questions_whose_lists_hold_too_few_are_counted(made, kind):
    index = xqg.Index(made / kind)
    with pytest.warns(xqg.XqgWarning) as caught:
        run = index.search(QUESTIONS, N + 1, vectors=VECTORS)
    few = sum(len(hits) < N for hits in run.values())
    assert few > 0
    assert [str(w.message) for w in caught] == [
        f"{made / kind}: {few} of 40 questions found fewer than {N} passages: the lists that are probed hold no more; "
        "use a flat index, or ask for fewer hits"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {len(hits) for hits in index.search(QUESTIONS, 30, vectors=VECTORS).values()} == {30}


def test_too_few_passages_are_refused_or_said(tmp_path):
    few = write_passages(tmp_path / "few", IDS[:200], E[:200])
    assert refusal(xqg.write_index, few, tmp_path / "out", "ivfpq") == (
        "200 passages are too few for ivfpq, which takes 256; use another type",
        ("kind",),
    )
    assert not (tmp_path / "out").exists()
    said = "200 passages are few for ivfsq8: 4 lists; searching them all"
    with pytest.warns(xqg.XqgWarning, match=said):
        xqg.write_index(few, tmp_path / "out", "ivfsq8")
    assert len(xqg.Index(tmp_path / "out").search({"q": "?"}, 3, vectors=VECTORS[:1])["q"]) == 3
    vectors = E[:300].copy()
    vectors[7, 1] = np.nan
    spoilt = write_passages(tmp_path / "spoilt", IDS[:300], vectors)
    assert "row 7 (passage 'p7') holds NaN" in message(quietly, xqg.write_index, spoilt, tmp_path / "no", "ivfpq")
    assert not (tmp_path / "no").exists()
