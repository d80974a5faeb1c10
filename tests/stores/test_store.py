"""Stores open whole or not at all, are aligned by id, and come out alike however often killed."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from conftest import message, write_jsonl

from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.files import describe_sources, file_sha256, write_json
from xqg_pyserini.models import engines
from xqg_pyserini.models import registry as encoders
from xqg_pyserini.models.engines import Encoder
from xqg_pyserini.models.registry import EncoderSettings
from xqg_pyserini.retrieve import accumulate, encode
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.stores import DuplicateId, IdIndex, QueryStore, StorePair, VectorStore, store

# --- a fake encoder, and stores made by hand ------------------------------------------------------


class FakeEncoder(Encoder):
    """Reads a vector off a text: the numbers in it, then -1 for a query or +1 for a passage.

    `stop_after` counts down with every batch, and calls `stop` when it is used up; `seen` holds
    every text that was encoded; `weights` is what the fingerprint says.
    """

    width, weights, stop_after, seen = 3, "w1", None, []

    @staticmethod
    def stop():
        raise KeyboardInterrupt

    def _load(self) -> None:
        pass

    @property
    def dimension(self) -> int:
        return self.width + 1

    def _embed(self, texts: list[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        for part in ([i] for i in reversed(range(len(texts)))):  # batches come in any order
            if FakeEncoder.stop_after is not None:
                FakeEncoder.stop_after -= 1
                if FakeEncoder.stop_after < 0:
                    FakeEncoder.stop()
            yield part, np.array([self.vector(texts[i]) for i in part], dtype=np.float32)

    def vector(self, text: str) -> list[float]:
        FakeEncoder.seen.append(text)
        mark, *numbers = text.split()
        return [*map(float, numbers), {"q:": -1.0, "p:": 1.0}[mark]]

    def _fingerprint(self) -> str:
        return FakeEncoder.weights


BACKENDS = (*encoders.BACKENDS, "fake")
with patch.object(encoders, "BACKENDS", BACKENDS):
    FAKE = EncoderSettings("fake", "fake", "none", query_prefix="q: ", passage_prefix="p: ")


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """The fake engine is known while a test of these modules runs, and to no other."""
    monkeypatch.setitem(engines.ENGINES, "fake", FakeEncoder)
    monkeypatch.setattr(encoders, "BACKENDS", BACKENDS)


@pytest.fixture
def fake(monkeypatch):
    """The fake encoder's settings; chunks of two, a checkpoint after each."""
    monkeypatch.setattr(FakeEncoder, "stop_after", None)
    monkeypatch.setattr(FakeEncoder, "weights", "w1")
    monkeypatch.setattr(FakeEncoder, "width", 3)
    monkeypatch.setattr(FakeEncoder, "seen", [])
    monkeypatch.setattr(encode, "CHUNK", 2)
    monkeypatch.setattr(accumulate, "CHUNK", 2)
    monkeypatch.setattr(store, "CHECKPOINT_SECONDS", -1)
    # a busy disk makes each of a hundred flushes slow; what is mapped is read back without them
    monkeypatch.setattr(np.memmap, "flush", lambda matrix: None)
    return FAKE


def describe(normalize=False) -> dict:
    from dataclasses import asdict

    return {**asdict(FAKE), "normalize": normalize, "precision": "fp32", "fingerprint": "w1"}


def write_passages(path: Path, ids, vectors, normalize=False) -> Path:
    """Make a passage store by hand, file by file."""
    path.mkdir(parents=True)
    vectors = np.asarray(vectors)
    np.save(path / "vectors.npy", vectors)
    (path / "ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    n, d = vectors.shape
    meta = {
        "format": 1, "kind": "passages", "n": n, "d": d, "dtype": vectors.dtype.name,
        "encoder": describe(normalize), "normalized": normalize,
        "ids_sha256": file_sha256(path / "ids.txt"),
        "vectors_sha256": file_sha256(path / "vectors.npy"), "sources": [],
    }  # fmt: skip
    (path / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return path


def write_sums(path: Path, ids, sums: dict, counts: dict, normalize=False) -> Path:
    """Make a store of query sums by hand: language → (n, d) sums, and (n,) counts."""
    path.mkdir(parents=True)
    for language, matrix in sums.items():
        np.save(path / f"sum-{language}.npy", np.asarray(matrix))
    np.save(path / "counts.npy", np.array([counts[l] for l in sums], dtype=np.int32).T.copy())
    (path / "ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    n, d = np.asarray(next(iter(sums.values()))).shape
    meta = {
        "format": 1, "kind": "query-sums", "n": n, "d": d, "dtype": "float32",
        "encoder": describe(normalize), "normalized": normalize,
        "ids_sha256": file_sha256(path / "ids.txt"), "languages": list(sums),
        "queries": int(sum(np.sum(c) for c in counts.values())), "blank": 0, "skipped": 0,
        "sums_sha256": {l: file_sha256(path / f"sum-{l}.npy") for l in sums},
        "counts_sha256": file_sha256(path / "counts.npy"), "sources": [],
    }  # fmt: skip
    (path / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return path


def f32(rows) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


IDS = ["007", "-1234567890123456789", "قطة"]
E = f32([[1, 2], [3, 4], [5, 6]])
SUMS = {"ar": f32([[10, 20], [30, 40], [50, 60]]), "ru": f32([[7, 0], [0, 0], [0, 7]])}
COUNTS = {"ar": [1, 2, 3], "ru": [4, 0, 5]}


@pytest.fixture
def passages(tmp_path):
    return write_passages(tmp_path / "P", IDS, E)


@pytest.fixture
def queries(tmp_path):
    return write_sums(tmp_path / "Q", IDS, SUMS, COUNTS)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- ids ------------------------------------------------------------------------------------------


def ids_file(tmp_path, ids) -> Path:
    path = tmp_path / "ids.txt"
    path.write_bytes("".join(f"{i}\n" for i in ids).encode())
    return path


MANY = [*IDS, "7", "07", "🐈", "a\u2028b", "a\x85b", *map(str, range(1000, 1200))]


@pytest.mark.parametrize("mask", [-1, 0xF, 0x1, 0])
def test_ids_are_found_by_row_however_many_hashes_collide(tmp_path, monkeypatch, mask):
    """With 16, 2 or a single hash for all ids, those that are there are still told apart."""
    whole = store._hash
    monkeypatch.setattr(store, "_hash", lambda docid: whole(docid) & mask & (2**64 - 1))
    index = IdIndex(ids_file(tmp_path, MANY))
    order = list(reversed(range(len(MANY))))
    rows = index.rows([MANY[i] for i in order])
    assert rows.dtype == np.int64
    assert rows.tolist() == order
    assert index.rows([]).tolist() == []


def test_an_unknown_id_has_no_row(tmp_path):
    index = IdIndex(ids_file(tmp_path, MANY))
    assert index.rows(["0007", MANY[3], "", "قط", "-1234567890123456788"]).tolist() == [
        -1, 3, -1, -1, -1,
    ]  # fmt: skip


def test_an_index_of_no_ids_finds_none(tmp_path):
    assert IdIndex(ids_file(tmp_path, [])).rows(["a", "b"]).tolist() == [-1, -1]


@pytest.mark.parametrize("mask", [2**64 - 1, 0x3])
def test_an_id_that_comes_twice_is_told_with_both_rows(tmp_path, monkeypatch, mask):
    whole = store._hash
    monkeypatch.setattr(store, "_hash", lambda docid: whole(docid) & mask)
    with pytest.raises(DuplicateId) as caught:
        IdIndex(ids_file(tmp_path, ["a", "b", "c", "d", "b", "e"]))
    assert (caught.value.docid, caught.value.first, caught.value.second) == ("b", 1, 4)


def test_ids_are_looked_up_by_row_in_one_pass(tmp_path):
    path = ids_file(tmp_path, MANY)
    assert store.ids_at(path, [7, 2, 6]) == {2: "قطة", 6: "a\u2028b", 7: "a\x85b"}


def test_the_index_of_ids_takes_16_bytes_a_passage(tmp_path):
    index = IdIndex(ids_file(tmp_path, range(5000)))
    held = [v for v in vars(index).values() if isinstance(v, np.ndarray)]
    assert sum(v.nbytes for v in held) == 16 * 5000
    assert index._collided == {}


# --- opening --------------------------------------------------------------------------------------


def test_a_store_opens_with_what_was_written(passages, queries):
    opened = VectorStore(str(passages))
    assert (opened.n, opened.d, opened.normalized, list(opened.ids())) == (3, 2, False, IDS)
    assert isinstance(opened.vectors, np.memmap)
    assert opened.block(1, 3).tolist() == [[3, 4], [5, 6]]
    sums = QueryStore(queries)
    assert (sums.n, sums.d, sums.languages) == (3, 2, ("ar", "ru"))
    assert sums.counts.tolist() == [[1, 4], [2, 0], [3, 5]]
    assert sums.totals() == {"ar": 6, "ru": 9}
    assert all(isinstance(matrix, np.memmap) for matrix in [sums.counts, *sums.sums.values()])


def test_halves_are_read_as_floats(tmp_path):
    opened = VectorStore(write_passages(tmp_path / "P", IDS, E.astype(np.float16)))
    assert opened.vectors.dtype == np.float16
    assert opened.block(0, 3).dtype == np.float32
    assert opened.block(0, 3).tolist() == E.tolist()


def edit_meta(folder: Path, **changes) -> None:
    file = folder / "meta.json"
    meta = {**json.loads(file.read_text("utf-8")), **changes}
    kept = {key: value for key, value in meta.items() if value is not ...}
    file.write_text(json.dumps(kept), encoding="utf-8")


def cut(file: str, size: int):
    return lambda folder: os.truncate(folder / file, os.path.getsize(folder / file) - size)


def write(file: str, content: bytes):
    return lambda folder: (folder / file).write_bytes(content)


def save(file: str, matrix):
    return lambda folder: np.save(folder / file, matrix)


def meta(**changes):
    return lambda folder: edit_meta(folder, **changes)


def remove(file: str):
    return lambda folder: (folder / file).unlink()


# damage, the file or folder named, what the message says after it
DAMAGED = {
    "one byte short": (cut("vectors.npy", 1), "vectors.npy", ": truncated or no NumPy matrix ("),
    "one row short": (cut("vectors.npy", 8), "vectors.npy", ": truncated or no NumPy matrix ("),
    "nothing but a header": (
        cut("vectors.npy", 24),
        "vectors.npy",
        ": truncated or no NumPy matrix (",
    ),
    "half a header": (cut("vectors.npy", 100), "vectors.npy", ": truncated or no NumPy matrix ("),
    "empty matrix file": (write("vectors.npy", b""), "vectors.npy", ": truncated or no NumPy "),
    "no matrix": (write("vectors.npy", b"PK no"), "vectors.npy", ": truncated or no NumPy matrix "),
    "matrix gone": (remove("vectors.npy"), "vectors.npy", ": missing; make the store again"),
    "too few rows": (
        save("vectors.npy", E[:2]),
        "vectors.npy",
        ": holds (2, 2) of float32, expected (3, 2) of float32 or float16; make the store again",
    ),
    "transposed": (
        save("vectors.npy", E.T.copy()),
        "vectors.npy",
        ": holds (2, 3) of float32, expected (3, 2) of float32 or float16; make the store again",
    ),
    "flat": (save("vectors.npy", E.ravel()), "vectors.npy", ": holds (6,) of float32, expected "),
    "doubles": (
        save("vectors.npy", E.astype(float)),
        "vectors.npy",
        ": holds (3, 2) of float64, expected (3, 2) of float32 or float16; make the store again",
    ),
    "ids gone": (
        remove("ids.txt"),
        "ids.txt",
        ": missing or changed since the store was written",
    ),
    "ids swapped": (
        write("ids.txt", "-1234567890123456789\n007\nقطة\n".encode()),
        "ids.txt",
        ": missing or changed since the store was written",
    ),
    "ids cut": (cut("ids.txt", 1), "ids.txt", ": missing or changed since the store was written"),
    "meta gone": (
        remove("meta.json"),
        "",
        ": not a store, or not a whole one (meta.json is missing)",
    ),
    "meta broken": (write("meta.json", b'{"n": 3'), "meta.json", ": broken JSON ("),
    "meta not UTF-8": (write("meta.json", b'{"n": "\xff"}'), "meta.json", ": broken JSON ("),
    "meta a list": (write("meta.json", b"[]"), "meta.json", ": not the description of a store"),
    "meta of others": (
        write("meta.json", b'{"format": 1}'),
        "meta.json",
        ": not the description of a store",
    ),
    "older format": (meta(format=0), "meta.json", ": format 0, this version reads 1"),
    "newer format": (meta(format=2), "meta.json", ": format 2, this version reads 1"),
    "no format": (meta(format=...), "meta.json", ": format None, this version reads 1"),
    "other kind": (
        meta(kind="query-sums"),
        "",
        ": a store of query-sums, expected one of passages",
    ),
    "n without a value": (meta(n=...), "meta.json", ""),
    "d is null": (meta(d=None), "meta.json", ""),
    "no encoder": (meta(encoder=...), "meta.json", ""),
    "no checksum": (meta(ids_sha256=...), "meta.json", ""),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "file", "expected"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_passage_store_does_not_open_and_the_file_is_named(
    passages, damage, file, expected
):
    damage(passages)
    text = message(VectorStore, passages)
    where = passages / file if file else passages
    assert text.startswith(f"{where}{expected or ': '}")


@pytest.mark.parametrize(
    ("damage", "file", "expected"),
    [
        (cut("sum-ru.npy", 1), "sum-ru.npy", ": truncated or no NumPy matrix ("),
        (remove("sum-ar.npy"), "sum-ar.npy", ": missing; make the store again"),
        (
            save("counts.npy", np.zeros((3, 1), np.int32)),
            "counts.npy",
            ": holds (3, 1) of int32, expected (3, 2) of int32; make the store again",
        ),
        (
            save("counts.npy", np.zeros((3, 2))),
            "counts.npy",
            ": holds (3, 2) of float64, expected (3, 2) of int32; make the store again",
        ),
        (remove("counts.npy"), "counts.npy", ": missing; make the store again"),
        (write("ids.txt", b"x\n"), "ids.txt", ": missing or changed since the store was written"),
        (meta(kind="passages"), "", ": a store of passages, expected one of query-sums"),
        (meta(languages=...), "meta.json", ": "),
    ],
)
def test_a_damaged_query_store_does_not_open_and_the_file_is_named(queries, damage, file, expected):
    damage(queries)
    where = queries / file if file else queries
    assert message(QueryStore, queries).startswith(f"{where}{expected}")


def test_what_is_no_folder_is_no_store(tmp_path):
    for path in (tmp_path / "gone", ids_file(tmp_path, [])):
        expected = f"{path}: no such store (expected a folder made by xqg)"
        assert message(VectorStore, path) == expected
    (tmp_path / "empty").mkdir()
    expected = f"{tmp_path / 'empty'}: not a store, or not a whole one (meta.json is missing)"
    assert message(QueryStore, tmp_path / "empty") == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 2])
def test_a_vector_that_is_not_finite_is_named_by_its_passage(tmp_path, monkeypatch, bad, row):
    monkeypatch.setattr(store, "BLOCK_BYTES", 1)  # blocks of one passage
    vectors, sums = E.copy(), {l: s.copy() for l, s in SUMS.items()}
    vectors[row, 1] = sums["ru"][row, 0] = bad
    path = write_passages(tmp_path / "P", IDS, vectors)
    expected = f"row {row} (passage {IDS[row]!r}) holds NaN or infinity; encode it again"
    assert message(VectorStore(path).block, 0, 3) == f"{path / 'vectors.npy'}: {expected}"
    assert message(list, StorePair(VectorStore(path), None).blocks()) == (
        f"{path / 'vectors.npy'}: {expected}"
    )
    good = VectorStore(write_passages(tmp_path / "good", IDS, E))
    bad_sums = write_sums(tmp_path / "Q", IDS, sums, COUNTS)
    pair = StorePair(good, QueryStore(bad_sums))
    assert message(list, pair.blocks(("ar", "ru"))) == f"{bad_sums / 'sum-ru.npy'}: {expected}"
    assert len(list(pair.blocks(("ar",)))) == 3  # a language that is not asked for is not read


def test_a_vector_that_is_not_finite_is_named_by_its_passage_in_another_order_too(tmp_path):
    sums = {"ar": f32([[1, 1], [1, np.nan], [1, 1]])}
    path = write_sums(tmp_path / "Q", ["c", "b", "a"], sums, {"ar": [1, 1, 1]})
    pair = StorePair(
        VectorStore(write_passages(tmp_path / "P", ["a", "c", "b"], E)), QueryStore(path)
    )
    assert message(list, pair.blocks(("ar",))) == (
        f"{path / 'sum-ar.npy'}: row 1 (passage 'b') holds NaN or infinity; encode it again"
    )


# --- two stores side by side ----------------------------------------------------------------------


def gathered(pair: StorePair, languages) -> dict:
    """All blocks of a pair put together, after a look at how they follow each other."""
    blocks = list(pair.blocks(languages))
    starts = np.cumsum([0, *(len(block.passages) for block in blocks)])
    assert [block.start for block in blocks] == starts[:-1].tolist()
    return {
        "passages": np.concatenate([block.passages for block in blocks]).tolist(),
        "sums": {l: np.concatenate([b.sums[l] for b in blocks]).tolist() for l in languages},
        "counts": {l: np.concatenate([b.counts[l] for b in blocks]).tolist() for l in languages},
    }


BOTH = {
    "passages": E.tolist(), "sums": {l: s.tolist() for l, s in SUMS.items()}, "counts": COUNTS,
}  # fmt: skip


@pytest.mark.parametrize("block_bytes", [1, 64, 1 << 20])
def test_stores_in_one_order_are_read_side_by_side(passages, queries, monkeypatch, block_bytes):
    monkeypatch.setattr(store, "BLOCK_BYTES", block_bytes)
    pair = StorePair(VectorStore(passages), QueryStore(queries))
    assert gathered(pair, ("ar", "ru")) == BOTH
    alone = {"passages": BOTH["passages"], "sums": {}, "counts": {}}
    assert gathered(pair, ()) == alone
    assert gathered(StorePair(VectorStore(passages), None), ()) == alone
    assert gathered(pair, ("ru",)) == {
        "passages": BOTH["passages"], "sums": {"ru": BOTH["sums"]["ru"]},
        "counts": {"ru": COUNTS["ru"]},
    }  # fmt: skip
    assert pair.counts(1, 3, ("ru", "ar")).tolist() == [[0, 2], [5, 3]]


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0], [0, 2, 1]])
def test_stores_are_aligned_by_id_whatever_their_order(
    passages, tmp_path, monkeypatch, order, block_bytes
):
    monkeypatch.setattr(store, "BLOCK_BYTES", block_bytes)
    shuffled = write_sums(
        tmp_path / "Q", [IDS[i] for i in order], {l: s[order] for l, s in SUMS.items()},
        {l: [c[i] for i in order] for l, c in COUNTS.items()},
    )  # fmt: skip
    pair = StorePair(VectorStore(passages), QueryStore(shuffled))
    assert gathered(pair, ("ar", "ru")) == BOTH
    assert pair.skipped == 0


def test_more_ids_than_are_looked_up_at_once_are_aligned_too(tmp_path):
    n = 70_000
    numbers = np.arange(n)
    passages = write_passages(tmp_path / "P", numbers, f32(numbers[:, None]))
    backwards = {"ar": f32(numbers[::-1, None])}
    queries = write_sums(tmp_path / "Q", numbers[::-1], backwards, {"ar": numbers[::-1]})
    (block,) = StorePair(VectorStore(passages), QueryStore(queries)).blocks(("ar",))
    assert np.array_equal(block.sums["ar"], block.passages)
    assert np.array_equal(block.counts["ar"], numbers)


def test_a_passage_that_the_query_store_does_not_know_has_no_queries(passages, tmp_path):
    """Row 0 of the queries is a decoy: a passage without a row must not read it."""
    few = write_sums(tmp_path / "Q", [IDS[2]], {"ar": f32([[50, 60]])}, {"ar": [3]})
    pair = StorePair(VectorStore(passages), QueryStore(few))
    assert gathered(pair, ("ar",)) == {
        "passages": E.tolist(), "sums": {"ar": [[0, 0], [0, 0], [50, 60]]},
        "counts": {"ar": [0, 0, 3]},
    }  # fmt: skip
    assert pair.counts(0, 3, ("ar",)).tolist() == [[0], [0], [3]]
    assert QueryStore(few).counts.tolist() == [[3]]  # the store itself is untouched


def test_queries_for_an_unknown_passage_are_refused_or_left_out_and_counted(passages, tmp_path):
    ids = ["new", IDS[1], "empty", "newer"]
    sums = {"ar": f32([[9, 9], [30, 40], [0, 0], [9, 9]])}
    sums["ru"] = f32([[0, 0], [0, 0], [0, 0], [9, 9]])
    counts = {"ar": [1, 2, 0, 1], "ru": [0, 0, 0, 2]}
    queries = QueryStore(write_sums(tmp_path / "Q", ids, sums, counts))
    opened = VectorStore(passages)
    assert message(StorePair, opened, queries) == (
        f"{queries.path}: queries for passage 'new', which {passages} does not hold; "
        "--skip-unknown leaves such queries out"
    )
    pair = StorePair(opened, queries, skip_unknown=True)
    assert pair.skipped == 2  # the one without queries loses nothing
    assert gathered(pair, ("ar", "ru")) == {
        "passages": E.tolist(),
        "sums": {"ar": [[0, 0], [30, 40], [0, 0]], "ru": [[0, 0]] * 3},
        "counts": {"ar": [0, 2, 0], "ru": [0, 0, 0]},
    }


def test_unknown_passages_without_queries_disturb_nobody(passages, tmp_path):
    path = write_sums(tmp_path / "Q", ["empty"], {"ar": f32([[0, 0]])}, {"ar": [0]})
    assert StorePair(VectorStore(passages), QueryStore(path)).skipped == 0


def test_stores_of_different_width_do_not_go_together(passages, tmp_path):
    path = write_sums(tmp_path / "Q", IDS, {"ar": np.zeros((3, 5), np.float32)}, {"ar": [0] * 3})
    assert message(StorePair, VectorStore(passages), QueryStore(path)) == (
        f"{path} has 5 dimensions, {passages} has 2; encode both with one encoder"
    )


@pytest.mark.parametrize(
    ("d", "matrices", "rows"),
    [(4, 1, 62), (4, 0, 62), (4, 3, 20), (1000, 1, 1), (250, 1, 1), (125, 1, 2)],
)
def test_a_block_takes_the_memory_that_it_may(monkeypatch, d, matrices, rows):
    monkeypatch.setattr(store, "BLOCK_BYTES", 1000)
    assert store.block_rows(d, matrices) == rows


# --- jobs that can be killed ----------------------------------------------------------------------


def steps(path, total=5, stop_at=None, error=KeyboardInterrupt, overwrite=False, **settings):
    """A job of some steps, each saved, which adds a line a step; returns where it began."""
    with store.resumable(path, {"stage": "test", **settings}, overwrite, []) as job:
        began = job.done
        log = job.path / "log"
        kept = log.read_text().splitlines()[:began] if began else []
        for step in range(began, total):
            if step == stop_at:
                raise error
            kept.append(f"step {step}")
            log.write_text("\n".join(kept))
            job.state["last"] = step
            job.save(step + 1)
    return began


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError, SystemExit])
def test_a_job_goes_on_where_it_was_stopped(tmp_path, error):
    path = tmp_path / "new" / "out"
    for stop in (1, 2, 2, 4):
        with pytest.raises(error):
            steps(path, stop_at=stop, error=error)
        assert os.listdir(tmp_path / "new") == [".out.partial"]
    assert steps(path) == 4
    assert os.listdir(tmp_path / "new") == ["out"]
    steps(tmp_path / "whole")
    assert files(path) == files(tmp_path / "whole")
    assert list(files(path)) == ["log"]


def test_a_job_with_other_settings_starts_afresh(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=3, how=[1, "a"])
    write_json(tmp_path / ".out.partial" / "decoy", 1)
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=1, how=[1, "b"])
    assert steps(tmp_path / "out", how=[1, "b"]) == 1
    assert list(files(tmp_path / "out")) == ["log"]
    assert steps(tmp_path / "out", how=[1, "b"], overwrite=True) == 0  # what is done is done


def test_tuples_in_a_description_are_no_other_settings(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=3, how=("auto", 1))
    assert steps(tmp_path / "out", how=("auto", 1)) == 3


def test_a_user_error_leaves_nothing_and_neither_does_a_job_that_did_not_begin(tmp_path):
    for stop, error in [(3, UserError), (0, UserError), (0, KeyboardInterrupt)]:
        with pytest.raises(error):
            steps(tmp_path / "out", stop_at=stop, error=error)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_job_whose_progress_cannot_be_read_starts_afresh(tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=3)
    (tmp_path / ".out.partial" / "progress.json").write_bytes(damage)
    assert steps(tmp_path / "out") == 0
    assert (tmp_path / "out" / "log").read_text().count("step") == 5


def test_the_old_folder_stands_until_the_job_is_done(tmp_path):
    steps(tmp_path / "out", total=2)
    old = files(tmp_path / "out")
    assert "already holds something" in message(steps, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        steps(tmp_path / "out", stop_at=3, overwrite=True)
    assert files(tmp_path / "out") == old
    assert steps(tmp_path / "out", overwrite=True) == 3
    assert files(tmp_path / "out")["log"].count(b"step") == 5
    assert os.listdir(tmp_path) == ["out"]


def test_a_matrix_is_zero_and_takes_its_disk_space_at_once(tmp_path):
    matrix = store.create_matrix(tmp_path / "m.npy", (1000, 100), "float32")
    assert matrix.shape == (1000, 100) and not matrix.any()
    assert (tmp_path / "m.npy").stat().st_blocks * 512 >= 400_000
    matrix[7] = 3
    matrix.flush()
    assert store.reopen_matrix(tmp_path / "m.npy")[7].tolist() == [3] * 100
    assert np.load(tmp_path / "m.npy").sum() == 300


# --- encode ---------------------------------------------------------------------------------------

CORPUS = [
    {"id": "007", "title": "1", "text": "2 3"},
    {"id": "-1234567890123456789", "text": "4 5 6"},
    {"id": "قطة", "contents": "7 8 9"},
    {"id": "d", "title": "0", "text": "0 0"},
    {"id": "e", "title": "-1 -2", "text": "-3.5"},
]
ENCODED = [[1, 2, 3, 1], [4, 5, 6, 1], [7, 8, 9, 1], [0, 0, 0, 1], [-1, -2, -3.5, 1]]


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", CORPUS)


def test_passages_are_encoded_as_passages_in_their_order(fake, corpus, tmp_path):
    opened = encode_passages(corpus, fake, tmp_path / "out")
    assert opened.vectors.tolist() == ENCODED
    assert list(opened.ids()) == [record["id"] for record in CORPUS]
    assert set(files(opened.path)) == {"vectors.npy", "ids.txt", "meta.json"}
    meta = opened.meta
    described = {key: meta[key] for key in ("format", "kind", "n", "d", "dtype", "normalized")}
    assert described == {
        "format": 1, "kind": "passages", "n": 5, "d": 4, "dtype": "float32", "normalized": False,
    }  # fmt: skip
    assert meta["encoder"] == describe()
    assert meta["vectors_sha256"] == file_sha256(opened.path / "vectors.npy")
    assert meta["sources"] == describe_sources(corpus)
    assert sorted(os.listdir(tmp_path)) == ["corpus.jsonl", "out"]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_encoding_in_chunks_is_encoding_at_once(fake, corpus, tmp_path, monkeypatch, dtype):
    stores = []
    for chunk in (1, 2, 3, 1000):
        monkeypatch.setattr(encode, "CHUNK", chunk)
        stores.append(files(encode_passages(corpus, fake, tmp_path / str(chunk), dtype=dtype).path))
    assert all(other == stores[0] for other in stores)
    assert VectorStore(tmp_path / "3").vectors.dtype == dtype


def test_encoding_that_is_killed_at_any_passage_ends_in_the_same_bytes(fake, corpus, tmp_path):
    whole = files(encode_passages(corpus, fake, tmp_path / "whole").path)
    for at in range(5):
        FakeEncoder.stop_after, FakeEncoder.seen = at, []
        with pytest.raises(KeyboardInterrupt):
            encode_passages(corpus, fake, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        FakeEncoder.stop_after, FakeEncoder.seen = None, []
        assert files(encode_passages(corpus, fake, tmp_path / "out").path) == whole
        assert len(FakeEncoder.seen) == 5 - at // 2 * 2  # finished chunks of two are not redone
        shutil.rmtree(tmp_path / "out")


CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_store
from xqg_pyserini.retrieve import accumulate
from xqg_pyserini.retrieve import encode
from xqg_pyserini.models import registry as encoders
from xqg_pyserini.models import engines
from xqg_pyserini.stores import store
engines.ENGINES["fake"], encoders.BACKENDS = test_store.FakeEncoder, test_store.BACKENDS
encode.CHUNK = accumulate.CHUNK = 2
store.CHECKPOINT_SECONDS = -1
test_store.FakeEncoder.stop_after = int(sys.argv[4])
test_store.FakeEncoder.stop = staticmethod(lambda: os._exit(9))
folder = Path(sys.argv[2])
if sys.argv[3] == "encode":
    encode.encode_passages(folder / "corpus.jsonl", test_store.FAKE, folder / "out")
else:
    accumulate.accumulate_queries(folder / "queries.jsonl", folder / "passages", folder / "out")
"""


def killed(folder: Path, stage: str, stop_after: int) -> None:
    """Run a stage in a process that dies at once, with no clean-up, after some texts."""
    child = [sys.executable, "-c", CHILD, Path(__file__).parent, folder, stage, str(stop_after)]
    done = subprocess.run(child, capture_output=True, text=True, timeout=60)
    assert done.returncode == 9, done.stderr


def test_a_process_killed_while_encoding_is_resumed_to_the_same_bytes(fake, corpus, tmp_path):
    whole = files(encode_passages(corpus, fake, tmp_path / "whole").path)
    killed(tmp_path, "encode", 3)
    assert not (tmp_path / "out").exists()
    FakeEncoder.seen = []
    assert files(encode_passages(corpus, fake, tmp_path / "out").path) == whole
    assert len(FakeEncoder.seen) == 3
    assert sorted(os.listdir(tmp_path)) == ["corpus.jsonl", "out", "whole"]


def stopped(call, *arguments, after, **options):
    FakeEncoder.stop_after = after
    with pytest.raises(KeyboardInterrupt):
        call(*arguments, **options)
    FakeEncoder.stop_after, FakeEncoder.seen = None, []


def test_encoding_starts_afresh_when_the_corpus_or_the_settings_changed(fake, corpus, tmp_path):
    from dataclasses import replace

    for change in (
        {"dtype": "float16"},
        {"batch_size": 7},
        {"encoder": replace(fake, pooling="mean")},
    ):
        stopped(encode_passages, corpus, fake, tmp_path / "out", after=4)
        encode_passages(corpus, **{"encoder": fake, "output": tmp_path / "out", **change})
        assert len(FakeEncoder.seen) == 5
        shutil.rmtree(tmp_path / "out")
    stopped(encode_passages, corpus, fake, tmp_path / "out", after=4)
    write_jsonl(corpus, [{**record, "id": record["id"] + "x"} for record in CORPUS])
    again = encode_passages(corpus, fake, tmp_path / "out")
    assert list(again.ids()) == [record["id"] + "x" for record in CORPUS]
    assert len(FakeEncoder.seen) == 5


def test_weights_that_changed_meanwhile_do_not_mix_in_one_store(fake, corpus, tmp_path):
    """A model folder overwritten, or a package updated, between the two halves of a job."""
    stopped(encode_passages, corpus, fake, tmp_path / "out", after=4)
    FakeEncoder.weights = "w2"
    opened = encode_passages(corpus, fake, tmp_path / "out")
    assert opened.encoder["fingerprint"] == "w2"
    assert len(FakeEncoder.seen) == 5


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            [*CORPUS, {"id": "007", "text": "1 1 1"}],
            "{corpus}, line 6: passage id '007' again (first in {corpus}, line 1); "
            "ids must be unique",
        ),
        (
            [*CORPUS, {"id": "f", "text": "nan 0 0"}],
            "encoder fake gives NaN or infinity for 'nan 0 0' (fp32; try --precision fp32)",
        ),
        ([*CORPUS, {"id": "f"}], "{corpus}, line 6: passage 'f' has no text "
         "(expected contents, or title and text)"),
        ([], "{corpus}: no passage in it; expected at least one"),
    ],
)  # fmt: skip
def test_a_corpus_that_cannot_be_encoded_leaves_nothing(fake, corpus, tmp_path, records, expected):
    write_jsonl(corpus, records)
    text = message(encode_passages, corpus, fake, tmp_path / "out")
    assert text == expected.format(corpus=corpus)
    assert os.listdir(tmp_path) == ["corpus.jsonl"]


def test_records_are_checked_before_a_text_is_encoded(fake, corpus, tmp_path):
    write_jsonl(corpus, [*CORPUS, {"id": "e", "text": "9 9 9"}])
    message(encode_passages, corpus, fake, tmp_path / "out")
    assert FakeEncoder.seen == []


def test_vectors_too_large_for_halves_are_refused(fake, corpus, tmp_path):
    write_jsonl(corpus, [*CORPUS, {"id": "f", "text": "70000 0 0"}])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        text = message(encode_passages, corpus, fake, tmp_path / "out", dtype="float16")
    assert text == "the vectors of fake do not fit into float16; use --dtype float32"
    assert os.listdir(tmp_path) == ["corpus.jsonl"]


@pytest.mark.parametrize("dtype", ["float64", "int8", "half a float"])
def test_a_dtype_that_no_store_has_is_refused_before_anything_is_encoded(
    fake, corpus, tmp_path, dtype
):
    assert repr(dtype) in message(encode_passages, corpus, fake, tmp_path / "out", dtype=dtype)
    assert FakeEncoder.seen == []
    assert os.listdir(tmp_path) == ["corpus.jsonl"]


def test_a_store_is_replaced_only_on_demand_and_never_with_its_own_corpus(fake, corpus, tmp_path):
    encode_passages(corpus, fake, tmp_path / "out")
    assert message(encode_passages, corpus, fake, tmp_path / "out") == (
        f"{tmp_path / 'out'}: the folder already holds something; "
        "give another name, or --overwrite to replace it"
    )
    write_jsonl(corpus, CORPUS[:2])
    assert encode_passages(corpus, fake, tmp_path / "out", overwrite=True).n == 2
    text = message(encode_passages, corpus, fake, tmp_path, overwrite=True)
    assert text == f"{tmp_path}: will not be replaced, since it holds {corpus}"


# --- accumulate -----------------------------------------------------------------------------------

GENERATED = [
    {"docid": "e", "title": "x", "generated_queries": {"ru": ["1 0 0", "0 2 0"], "ar": []}},
    {"docid": "007", "generated_queries": {"ar": ["1 2 3", "10 20 30", "1 2 3"]}},
    {"docid": "قطة", "generated_queries": {"ru": ["5 5 5"], "ar": ["1 1 1", " ", ""]}},
    {"docid": "e", "generated_queries": {"fi": ["9 9 9"]}},
    {"docid": "007", "generated_queries": {"ru": ["-1 0 0.5"], "fi": ["\t"]}},
]
# by hand, in the order of the corpus; the last number is -1 a query
SUMS_BY_HAND = {
    "ar": [[12, 24, 36, -3], [0] * 4, [1, 1, 1, -1], [0] * 4, [0] * 4],
    "fi": [[0] * 4, [0] * 4, [0] * 4, [0] * 4, [9, 9, 9, -1]],
    "ru": [[-1, 0, 0.5, -1], [0] * 4, [5, 5, 5, -1], [0] * 4, [1, 2, 0, -2]],
}
COUNTS_BY_HAND = [[3, 0, 1], [0, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 2]]


@pytest.fixture
def encoded(fake, corpus, tmp_path):
    """The corpus encoded, and queries for it in a file."""
    write_jsonl(tmp_path / "queries.jsonl", GENERATED)
    path = encode_passages(corpus, fake, tmp_path / "passages").path
    FakeEncoder.seen = []
    return path


def summed(folder: Path, name="out", **options) -> QueryStore:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XqgWarning)
        return accumulate_queries(
            folder / "queries.jsonl", folder / "passages", folder / name, **options
        )


def test_queries_are_summed_by_passage_and_language(encoded, tmp_path):
    with pytest.warns(XqgWarning) as caught:
        sums = accumulate_queries(tmp_path / "queries.jsonl", str(encoded), tmp_path / "out")
    assert [str(w.message) for w in caught] == ["3 generated queries are blank and were left out"]
    assert sums.languages == ("ar", "fi", "ru")
    assert {l: matrix.tolist() for l, matrix in sums.sums.items()} == SUMS_BY_HAND
    assert sums.counts.tolist() == COUNTS_BY_HAND
    assert sums.totals() == {"ar": 4, "fi": 1, "ru": 4}
    assert list(sums.ids()) == [record["id"] for record in CORPUS]
    assert (sums.meta["queries"], sums.meta["blank"], sums.meta["skipped"]) == (9, 3, 0)
    assert sums.meta["encoder"] == describe()
    assert sums.meta["sources"] == describe_sources(tmp_path / "queries.jsonl")
    names = {"counts.npy", "ids.txt", "meta.json", "sum-ar.npy", "sum-fi.npy", "sum-ru.npy"}
    assert set(files(sums.path)) == names
    assert len(FakeEncoder.seen) == 9 and all(t.startswith("q: ") for t in FakeEncoder.seen)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_summing_in_chunks_is_summing_at_once(encoded, tmp_path, monkeypatch, dtype):
    stores = []
    for chunk in (1, 2, 3, 1000):
        monkeypatch.setattr(accumulate, "CHUNK", chunk)
        stores.append(files(summed(tmp_path, str(chunk), dtype=dtype).path))
    assert all(other == stores[0] for other in stores)
    assert QueryStore(tmp_path / "3").sums["ru"].dtype == dtype


def test_shards_in_another_order_give_the_same_sums(encoded, tmp_path):
    summed(tmp_path)
    (tmp_path / "shards").mkdir()
    for i, record in enumerate(reversed(GENERATED)):
        write_jsonl(tmp_path / "shards" / f"queries-{i:05}-of-00005.jsonl", [record])
    with pytest.warns(XqgWarning, match="^3 generated queries are blank"):
        shards = accumulate_queries(tmp_path / "shards", encoded, tmp_path / "again")
    for name in ("sums_sha256", "counts_sha256", "queries", "blank", "languages"):
        assert shards.meta[name] == QueryStore(tmp_path / "out").meta[name]


def test_summing_that_is_killed_at_any_query_ends_in_the_same_bytes(encoded, tmp_path):
    whole = files(summed(tmp_path, "whole").path)
    sizes = [5, 3, 1]  # queries of each chunk of two records
    for at in range(9):
        stopped(summed, tmp_path, after=at)
        assert files(summed(tmp_path).path) == whole
        done = sum(size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= at)
        assert len(FakeEncoder.seen) == 9 - done
        shutil.rmtree(tmp_path / "out")


def test_a_process_killed_while_summing_is_resumed_to_the_same_bytes(encoded, tmp_path):
    whole = files(summed(tmp_path, "whole").path)
    killed(tmp_path, "accumulate", 7)
    FakeEncoder.seen = []
    assert files(summed(tmp_path).path) == whole
    assert len(FakeEncoder.seen) == 4
    assert not (tmp_path / ".out.partial").exists()


def test_weights_that_changed_are_refused_beside_the_passages(encoded, tmp_path):
    FakeEncoder.weights = "w2"
    assert message(summed, tmp_path) == (
        f"encoder fake (w2) is not the one that {encoded} was made with (fake, w1); "
        "use that, or encode again"
    )
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()


def test_an_encoder_of_another_width_is_refused(encoded, tmp_path):
    FakeEncoder.width = 5
    assert message(summed, tmp_path) == (
        f"encoder fake gives 6 dimensions, but {encoded} has 4; "
        "use the encoder that it was made with"
    )


def test_an_encoder_with_other_settings_is_refused(encoded, tmp_path):
    text = message(summed, tmp_path, encoder_flags={"query_prefix": "query: "})
    assert text == (
        f"encoder fake: query_prefix is 'query: ', but {encoded} was made with 'q: '; "
        "use one encoder for both"
    )
    assert FakeEncoder.seen == []


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            [*GENERATED, {"docid": "7", "generated_queries": {"ar": ["1 1 1"]}}],
            "{queries}, line 6: passage '7' is not in {passages}; "
            "--skip-unknown leaves such queries out",
        ),
        (
            [*GENERATED, {"docid": "e", "generated_queries": {"ja": ["1 1 1"], "ru": ["1 1 1"]}}],
            "{queries}, line 6: passage 'e' has ru queries twice",
        ),
        (
            [{"docid": "e", "generated_queries": {"ja": [], "ru": [" "]}}],
            "{queries}: no query for a passage of {passages}",
        ),
        ([], "{queries}: no generated queries in it; expected at least one"),
    ],
)
def test_queries_that_cannot_be_summed_leave_nothing(encoded, tmp_path, records, expected):
    queries = write_jsonl(tmp_path / "queries.jsonl", records)
    assert message(summed, tmp_path) == expected.format(queries=queries, passages=encoded)
    assert FakeEncoder.seen == []
    assert sorted(os.listdir(tmp_path)) == ["corpus.jsonl", "passages", "queries.jsonl"]


def test_queries_for_unknown_passages_are_left_out_on_demand_and_counted(encoded, tmp_path):
    summed(tmp_path, "whole")
    decoy = {"docid": "unknown", "generated_queries": {"ar": ["9 9 9", " "], "ja": ["9 9 9"]}}
    write_jsonl(tmp_path / "queries.jsonl", [decoy, *GENERATED, {**decoy, "docid": "7"}])
    with pytest.warns(XqgWarning) as caught:
        accumulate_queries(tmp_path / "queries.jsonl", encoded, tmp_path / "out", skip_unknown=True)
    assert [str(w.message) for w in caught] == [
        f"2 records are for passages not in {encoded} and were skipped",
        "3 generated queries are blank and were left out",
    ]
    for name in ("sums_sha256", "counts_sha256", "queries", "languages"):  # ja is not among them
        assert QueryStore(tmp_path / "out").meta[name] == QueryStore(tmp_path / "whole").meta[name]
    assert QueryStore(tmp_path / "out").meta["skipped"] == 2


def test_an_unknown_passage_in_two_records_is_not_counted_as_two_passages(encoded, tmp_path):
    records = [{"docid": "7", "generated_queries": {l: ["9 9 9"]}} for l in ("ar", "ru")]
    write_jsonl(tmp_path / "queries.jsonl", [*records, *GENERATED])
    with pytest.warns(XqgWarning) as caught:
        accumulate_queries(tmp_path / "queries.jsonl", encoded, tmp_path / "out", skip_unknown=True)
    assert "2 passages" not in str(caught[0].message)


@pytest.mark.parametrize("dtype", ["float64", "int8"])
def test_a_dtype_that_no_store_has_is_refused_before_any_query_is_encoded(encoded, tmp_path, dtype):
    assert repr(dtype) in message(summed, tmp_path, dtype=dtype)
    assert FakeEncoder.seen == []
    assert not (tmp_path / "out").exists()


def test_sums_too_large_for_halves_are_refused_though_each_query_fits(encoded, tmp_path):
    record = {"docid": "e", "generated_queries": {"ru": ["40000 0 0", "-1 0 0", "40000 0 0"]}}
    write_jsonl(tmp_path / "queries.jsonl", [record])
    text = message(summed, tmp_path, dtype="float16")
    assert text == "a sum of query vectors does not fit into float16; use --dtype float32"
    assert not (tmp_path / "out").exists()
    assert summed(tmp_path).sums["ru"][4].tolist() == [79999, 0, 0, -3]


def test_the_store_of_sums_does_not_replace_the_passages_that_it_reads(encoded, tmp_path):
    text = message(summed, tmp_path, "passages", overwrite=True)
    assert text == f"{encoded}: will not be replaced, since it holds {encoded}"
    assert VectorStore(encoded).n == 5


# --- the first few queries ------------------------------------------------------------------------


def test_the_sums_of_the_first_few_queries_are_kept_beside_those_of_all(encoded, tmp_path):
    """Blank queries are not among the first; a passage with fewer has them all."""
    plain = files(summed(tmp_path, "plain").path)
    sums = summed(tmp_path, keep_counts=[2, 1])
    kept = {f"sum-{l}-first-{k}.npy" for l in ("ar", "fi", "ru") for k in (1, 2)}
    assert set(files(sums.path)) == set(plain) | kept
    assert all(files(sums.path)[name] == plain[name] for name in plain if name != "meta.json")
    assert sums.kept == (1, 2) and QueryStore(tmp_path / "plain").kept == ()
    assert sums.meta["kept"] == {
        k: {l: file_sha256(sums.path / f"sum-{l}-first-{k}.npy") for l in ("ar", "fi", "ru")}
        for k in ("1", "2")
    }
    assert {key: v for key, v in sums.meta.items() if key != "kept"} == json.loads(
        plain["meta.json"]
    )
    queries: dict = {}  # docid → language → the vectors of its queries, blanks left out
    for record in GENERATED:
        for language, texts in record["generated_queries"].items():
            queries.setdefault(record["docid"], {})[language] = [
                [*map(float, text.split()), -1.0] for text in texts if text.strip()
            ]
    for k in (1, 2):
        first = QueryStore(sums.path, first=k)
        for row, docid in enumerate(first.ids()):
            for language in first.languages:
                some = queries.get(docid, {}).get(language, [])[:k]
                expected = np.sum(some, axis=0) if some else np.zeros(4)
                assert first.sums[language][row].tolist() == expected.tolist(), (docid, language)
        counts = np.minimum(np.array(COUNTS_BY_HAND), k)
        pair = StorePair(VectorStore(encoded), first)
        assert pair.counts(0, 5, first.languages).tolist() == counts.tolist()
        assert list(first.totals().values()) == counts.sum(axis=0).tolist()


def test_summing_the_first_few_that_is_killed_ends_in_the_same_bytes(encoded, tmp_path):
    whole = files(summed(tmp_path, "whole", keep_counts=[1]).path)
    for at in (0, 4, 5, 8):
        stopped(summed, tmp_path, after=at, keep_counts=[1])
        assert files(summed(tmp_path, keep_counts=[1]).path) == whole
        shutil.rmtree(tmp_path / "out")


def test_a_job_that_keeps_others_starts_afresh(encoded, tmp_path):
    stopped(summed, tmp_path, after=5, keep_counts=[1])
    FakeEncoder.seen = []
    assert summed(tmp_path, keep_counts=[2]).kept == (2,)
    assert len(FakeEncoder.seen) == 9


@pytest.mark.parametrize("counts", [[0], [1, 1], [-1, 2]])
def test_numbers_that_cannot_be_kept_are_refused(encoded, tmp_path, counts):
    assert message(summed, tmp_path, keep_counts=counts) == (
        f"--keep-counts {' '.join(map(str, counts))}: expected numbers from 1, each once"
    )


def test_a_kept_sum_that_is_missing_is_named(encoded, tmp_path):
    path = summed(tmp_path, keep_counts=[1]).path
    (path / "sum-ar-first-1.npy").unlink()
    QueryStore(path)
    assert message(QueryStore, path, 1) == (
        f"{path / 'sum-ar-first-1.npy'}: missing; make the store again"
    )
