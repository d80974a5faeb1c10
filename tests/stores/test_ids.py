"""Ids: found by row with 16 bytes a passage, however many hashes collide."""

from pathlib import Path

import numpy as np
import pytest

from xqg_pyserini.stores import DuplicateId, IdIndex, ids, write_distinct_ids

IDS = ["007", "-1234567890123456789", "قطة"]


def ids_file(tmp_path, ids) -> Path:
    path = tmp_path / "ids.txt"
    path.write_bytes("".join(f"{i}\n" for i in ids).encode())
    return path


MANY = [*IDS, "7", "07", "🐈", "a\u2028b", "a\x85b", *map(str, range(1000, 1200))]


@pytest.mark.parametrize("mask", [-1, 0xF, 0x1, 0])
def test_ids_are_found_by_row_however_many_hashes_collide(tmp_path, monkeypatch, mask):
    """With 16, 2 or a single hash for all ids, those that are there are still told apart."""
    whole = ids.id_hash
    monkeypatch.setattr(ids, "id_hash", lambda docid: whole(docid) & mask & (2**64 - 1))
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
    whole = ids.id_hash
    monkeypatch.setattr(ids, "id_hash", lambda docid: whole(docid) & mask)
    with pytest.raises(DuplicateId) as caught:
        IdIndex(ids_file(tmp_path, ["a", "b", "c", "d", "b", "e"]))
    assert (caught.value.docid, caught.value.first, caught.value.second) == ("b", 1, 4)


def test_ids_are_looked_up_by_row_in_one_pass(tmp_path):
    path = ids_file(tmp_path, MANY)
    assert ids.ids_at(path, [7, 2, 6]) == {2: "قطة", 6: "a\u2028b", 7: "a\x85b"}


def test_the_index_of_ids_takes_16_bytes_a_passage(tmp_path):
    index = IdIndex(ids_file(tmp_path, range(5000)))
    held = [v for v in vars(index).values() if isinstance(v, np.ndarray)]
    assert sum(v.nbytes for v in held) == 16 * 5000
    assert index._collided == {}


def test_distinct_ids_are_written_in_the_order_they_first_appear(tmp_path):
    given = ["b", "007", "b", "قطة", "7", "007", "b", "a"]
    assert write_distinct_ids(iter(given), tmp_path / "ids.txt") == 5
    assert (tmp_path / "ids.txt").read_text("utf-8") == "b\n007\nقطة\n7\na\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ids.txt"]
    many = [str(i) for i in np.random.default_rng(1).integers(0, 300, 2000)]
    assert write_distinct_ids(many, tmp_path / "ids.txt") == len(set(many))
    assert (tmp_path / "ids.txt").read_text().split() == list(dict.fromkeys(many))
