"""Stores open whole or not at all, and a vector that is no number is named by its passage."""

import os

import numpy as np
import pytest
from conftest import message, put
from made_stores import FakeEncoder, edit_meta, engine, f32, fake, files, write_passages, write_sums  # noqa: F401 - some for test_sweep, test_report and test_quality

from xqg_pyserini.stores import QueryStore, StorePair, VectorStore, store

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
    "meta not UTF-8": (write("meta.json", b'{"n": "\xff"}'), "meta.json", ": not UTF-8 (byte 8)"),
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
def test_a_damaged_passage_store_does_not_open_and_the_file_is_named(passages, damage, file, expected):
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
    for path in (tmp_path / "gone", put(tmp_path / "file", "")):
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
    assert message(list, StorePair(VectorStore(path), None).blocks()) == (f"{path / 'vectors.npy'}: {expected}")
    good = VectorStore(write_passages(tmp_path / "good", IDS, E))
    bad_sums = write_sums(tmp_path / "Q", IDS, sums, COUNTS)
    pair = StorePair(good, QueryStore(bad_sums))
    assert message(list, pair.blocks(("ar", "ru"))) == f"{bad_sums / 'sum-ru.npy'}: {expected}"
    assert len(list(pair.blocks(("ar",)))) == 3  # a language that is not asked for is not read


def test_a_vector_that_is_not_finite_is_named_by_its_passage_in_another_order_too(tmp_path):
    sums = {"ar": f32([[1, 1], [1, np.nan], [1, 1]])}
    path = write_sums(tmp_path / "Q", ["c", "b", "a"], sums, {"ar": [1, 1, 1]})
    pair = StorePair(VectorStore(write_passages(tmp_path / "P", ["a", "c", "b"], E)), QueryStore(path))
    assert message(list, pair.blocks(("ar",))) == (
        f"{path / 'sum-ar.npy'}: row 1 (passage 'b') holds NaN or infinity; encode it again"
    )
