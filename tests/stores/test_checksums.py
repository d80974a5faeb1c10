"""Recorded checksums are checked: by whatever reads a file whole, at open, and by `verify`."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import message
from made_stores import edit_meta, f32, write_passages, write_sums

from xqg_pyserini import Fusion
from xqg_pyserini.data import Question
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import RunningSums, file_sha256, file_sums
from xqg_pyserini.retrieve.check import check_folder
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.retrieve.sweep import SweepSettings, run_sweep
from xqg_pyserini.stores import QueryStore, StorePair, VectorStore, store

N, D = 40, 8
DICE = np.random.default_rng(5)
E = f32(DICE.normal(size=(N, D)))
SUMS = {language: f32(DICE.normal(size=(N, D))) for language in ("ar", "ru")}
COUNTS = {language: [2] * N for language in SUMS}
IDS = [f"d{i}" for i in range(N)]
QUESTIONS = [Question(f"q{i}", "text", ("ar", "ru")[i % 2]) for i in range(4)]
VECTORS = f32(DICE.normal(size=(4, D)))
QRELS = {question.id: {"d0": 1} for question in QUESTIONS}
MEAN = Fusion("mean", beta=0.3)


@pytest.fixture(params=[IDS, IDS[::-1]], ids=["in order", "in another order"])
def stores(tmp_path, monkeypatch, request) -> tuple[Path, Path]:
    """A passage store and a query store, read in blocks of a few rows."""
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * D * 20)
    passages = write_passages(tmp_path / "P", IDS, E)
    return passages, write_sums(tmp_path / "Q", request.param, SUMS, COUNTS)


def on_disk(file: Path, change) -> Path:
    """Change the bytes of a matrix's numbers; its header stays."""
    matrix = np.load(file, mmap_mode="r+")
    change(matrix)
    matrix.flush()
    return file


def halve(matrix) -> None:
    matrix[N // 2 :] = 0


def flip(matrix) -> None:
    """Flip the lowest bit of one exponent: a number is twice or half of what it was."""
    matrix.view(np.uint32)[7, 3] ^= 1 << 23


def swap(matrix) -> None:
    matrix[[3, 11]] = matrix[[11, 3]]


def exchange(first: Path, second: Path) -> None:
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


CHANGED = "{}: changed since it was written (its checksum differs); copy it again, or "
STORE = CHANGED + "make the store again"
INDEX = CHANGED + "build the index again"

# what reads the stores whole
READERS = {
    "blocks": lambda p, q, out: list(StorePair(VectorStore(p), QueryStore(q)).blocks(["ar", "ru"])),
    "index": lambda p, q, out: Fused(p, q, MEAN).write_index(out),
    "centred": lambda p, q, out: Fused(p, q, Fusion("mean", beta=0.3, normalize=True, center=True)).centers,
    "search": lambda p, q, out: Fused(p, q, MEAN).search(QUESTIONS, 3, vectors=VECTORS),
    "own": lambda p, q, out: Fused(p, q, MEAN).own_language().search(QUESTIONS, 3, vectors=VECTORS),
    "sweep": lambda p, q, out: run_sweep(
        p, q, QUESTIONS, SweepSettings(metrics=("mrr@10",)), qrels=QRELS, vectors=VECTORS
    ),
    "verify": lambda p, q, out: (VectorStore(p).verify(), QueryStore(q).verify()),
}


@pytest.mark.parametrize("change", [halve, flip, swap])
@pytest.mark.parametrize("file", ["P/vectors.npy", "Q/sum-ar.npy", "Q/sum-ru.npy"])
@pytest.mark.parametrize("reader", READERS)
def test_a_matrix_that_was_changed_is_named_where_it_is_read_whole(reader, file, change, stores, tmp_path):
    damaged = on_disk(tmp_path / file, change)
    assert message(READERS[reader], *stores, tmp_path / "out") == STORE.format(damaged)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reader", READERS)
def test_what_is_whole_is_read(reader, stores, tmp_path):
    READERS[reader](*stores, tmp_path / "out")


@pytest.mark.parametrize("reader", READERS)
def test_sums_of_two_languages_exchanged_are_noticed(reader, stores, tmp_path):
    exchange(tmp_path / "Q/sum-ar.npy", tmp_path / "Q/sum-ru.npy")
    text = message(READERS[reader], *stores, tmp_path / "out")
    assert text == STORE.format(tmp_path / "Q/sum-ar.npy")


@pytest.mark.parametrize("kind", ["flat", "fp16", "sq8", "hnsw"])
def test_the_baseline_reads_the_passages_whole(kind, stores, tmp_path):
    damaged = on_disk(stores[0] / "vectors.npy", flip)
    assert message(write_index, stores[0], tmp_path / "out", kind) == STORE.format(damaged)
    assert not (tmp_path / "out").exists()


def test_counts_that_were_changed_do_not_open(stores):
    damaged = on_disk(stores[1] / "counts.npy", lambda counts: counts.__setitem__((3, 1), 9))
    assert message(QueryStore, stores[1]) == STORE.format(damaged)


def test_counts_below_zero_do_not_open(stores):
    path = on_disk(stores[1] / "counts.npy", lambda counts: counts.__setitem__((3, 1), -1))
    edit_meta(stores[1], counts_sha256=file_sha256(path))
    assert message(QueryStore, stores[1]) == f"{path}: holds numbers below 0; make the store again"


def test_a_matrix_is_checked_once(stores, monkeypatch):
    opened = VectorStore(stores[0])
    taken = []
    monkeypatch.setattr(
        RunningSums, "update", lambda self, data, real=RunningSums.update: (
            taken.append(len(data)), real(self, data)
        ),
    )  # fmt: skip
    for _ in range(3):
        list(StorePair(opened, None).blocks())
    opened.verify()
    assert sum(taken[1:]) == N  # the first is the header


@pytest.mark.parametrize("file", ["P/vectors.npy", "Q/sum-ru.npy"])
def test_a_recorded_xxh3_is_what_a_reader_takes_and_the_sha256_what_a_check_does(file, stores, tmp_path):
    folder, name = (tmp_path / file).parent, (tmp_path / file).name
    edit_meta(folder, xxh3={name: file_sums(tmp_path / file, "xxh3")["xxh3"]})
    READERS["blocks"](*stores, None)
    on_disk(tmp_path / file, flip)
    changed = {"sha256": file_sums(tmp_path / file)["sha256"]}  # as if nothing had happened, for a check
    edit_meta(folder, **({"vectors_sha256": changed["sha256"]} if name == "vectors.npy" else sums(folder, changed)))
    assert message(READERS["blocks"], *stores, None) == STORE.format(tmp_path / file)
    assert problems(tmp_path / file) == []
    on_disk(tmp_path / file, flip)  # whole again, but not by the SHA-256
    READERS["blocks"](*stores, None)
    assert problems(tmp_path / file) == [STORE.format(tmp_path / file)]


def problems(file: Path) -> list[str]:
    return [said for name, said in check_folder(file.parent) if said and name == str(file)]


def sums(folder: Path, changed: dict[str, str]) -> dict[str, dict[str, str]]:
    before = json.loads((folder / "meta.json").read_text("utf-8"))["sums_sha256"]
    return {"sums_sha256": {**before, "ru": changed["sha256"]}}


def test_reading_that_starts_again_or_leaps_gives_no_wrong_alarm(stores):
    opened = VectorStore(stores[0])
    opened.block(0, 7)
    opened.block(0, 9)
    opened.block(30, 40)
    opened.block(9, 20)
    opened.block(9, 20)
    opened.block(0, 3)
    opened.block(20, 40)
    opened.block(3, 40)
    opened.verify()


def test_a_file_with_more_than_its_matrix_does_not_open(stores):
    with open(stores[0] / "vectors.npy", "ab") as file:
        file.write(b"\0")
    assert message(VectorStore, stores[0]) == (
        f"{stores[0] / 'vectors.npy'}: holds more than its matrix; make the store again"
    )


def test_a_matrix_in_columns_does_not_open(stores):
    np.save(stores[0] / "vectors.npy", np.asfortranarray(E))
    assert "vectors.npy: holds (40, 8) of float32, expected" in message(VectorStore, stores[0])


# --- indexes --------------------------------------------------------------------------------------


def search(path: Path):
    return Index(path).search(QUESTIONS, 3, vectors=VECTORS)


@pytest.fixture
def folder(stores, tmp_path) -> Path:
    """A language-aware folder, centred."""
    fusion = Fusion("mean", beta=0.3, normalize=True, center=True)
    Fused(*stores, fusion).own_language().write_index(tmp_path / "L")
    search(tmp_path / "L")
    return tmp_path / "L"


@pytest.mark.parametrize("name", ["index", "docid", "xqg.json", "."])
def test_one_index_in_the_place_of_another_languages_is_noticed(name, folder):
    ar, ru = folder / "ar" / name, folder / "ru" / name
    if name == "docid":  # all have the same
        return
    if name == ".":
        ar.rename(folder / "x"), ru.rename(folder / "ar"), (folder / "x").rename(folder / "ru")
    else:
        exchange(ar, ru)
    text = message(search, folder)
    if name == "index":
        assert text == INDEX.format(ar)
    else:
        assert text == f"{folder / 'ar'}: holds the queries of ru, not of ar; build the index again"


@pytest.mark.parametrize("kind", ["flat", "fp16", "sq8"])
def test_a_bit_of_an_index_that_is_searched_whole_is_noticed(kind, stores, tmp_path):
    write_index(stores[0], tmp_path / "I", kind)
    search(tmp_path / "I")
    data = bytearray((tmp_path / "I/index").read_bytes())
    data[-70] ^= 4
    (tmp_path / "I/index").write_bytes(data)
    assert message(search, tmp_path / "I") == INDEX.format(tmp_path / "I/index")


def test_ids_in_another_order_do_not_open(folder):
    docid = folder / "ar" / "docid"
    docid.write_text("".join(f"{i}\n" for i in reversed(docid.read_text().split())))
    assert message(search, folder) == INDEX.format(docid)


def test_centres_that_were_changed_do_not_open(folder):
    path = on_disk(folder / "ar" / "centers.npy", lambda rows: rows.__setitem__((0, 0), 0.5))
    assert message(search, folder) == INDEX.format(path)


def test_an_index_without_recorded_checksums_is_read(folder):
    for file in folder.glob("*/xqg.json"):
        meta = json.loads(file.read_text())
        meta.pop("sha256")
        file.write_text(json.dumps(meta))
    search(folder)


def test_only_checksums_of_what_was_read_are_copied(stores, tmp_path):
    """The sums of a language that is not mixed in were not read."""
    on_disk(tmp_path / "Q/sum-ru.npy", flip)
    fusion = Fusion("mean", beta=0.3, languages=("ar",))
    meta = Fused(*stores, fusion).write_index(tmp_path / "I").meta
    assert set(meta["queries"]["sums_sha256"]) == {"ar"}
    assert meta["sha256"] == {name: file_sha256(tmp_path / "I" / name) for name in ("index", "docid")}


# --- what is not a checksum -----------------------------------------------------------------------


def test_a_vector_of_a_question_that_is_not_finite_is_named_by_the_question(stores, tmp_path):
    write_index(stores[0], tmp_path / "I")
    vectors = VECTORS.copy()
    vectors[2, 1] = np.nan
    for index in (Index(tmp_path / "I"), Fused(*stores, MEAN)):
        with pytest.raises(UserError) as refused:
            index.search(QUESTIONS, 3, vectors=vectors)
        assert str(refused.value) == "the vector of question 'q2' holds NaN or infinity"


def test_a_file_that_may_not_be_read_is_not_called_truncated(stores, monkeypatch):
    def forbidden(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(np.lib.format, "open_memmap", forbidden)
    path = stores[0] / "vectors.npy"
    assert message(VectorStore, stores[0]) == f"{path}: Permission denied"
