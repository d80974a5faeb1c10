"""Two stores side by side are aligned by id, in blocks of any size."""

import numpy as np
import pytest
from conftest import message, refusal
from made_stores import edit_meta, f32, write_passages, write_sums

from xqg_pyserini.files import file_sha256
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
    assert pair.counts(range(1, 3), ("ru", "ar")).tolist() == [[0, 2], [5, 3]]


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0], [0, 2, 1]])
def test_stores_are_aligned_by_id_whatever_their_order(passages, tmp_path, monkeypatch, order, block_bytes):
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
    assert pair.counts(range(3), ("ar",)).tolist() == [[0], [0], [3]]
    assert QueryStore(few).counts.tolist() == [[3]]  # the store itself is untouched


def test_queries_for_an_unknown_passage_are_refused_or_left_out_and_counted(passages, tmp_path):
    ids = ["new", IDS[1], "empty", "newer"]
    sums = {"ar": f32([[9, 9], [30, 40], [0, 0], [9, 9]])}
    sums["ru"] = f32([[0, 0], [0, 0], [0, 0], [9, 9]])
    counts = {"ar": [1, 2, 0, 1], "ru": [0, 0, 0, 2]}
    queries = QueryStore(write_sums(tmp_path / "Q", ids, sums, counts))
    opened = VectorStore(passages)
    assert refusal(StorePair, opened, queries) == (
        f"{queries.path}: queries for passage 'new', which {passages} does not hold; "
        "skip_unknown leaves such queries out",
        ("skip_unknown",),
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


# passage → its queries in ar, of which the first two are kept apart
ASKED = {"a": [[1, 0]] * 5, "b": [[0, 1]], "c": [[2, 0], [0, 2], [4, 4]]}


@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "a", "b"]])
def test_the_first_two_queries_are_read_as_if_there_were_no_more(tmp_path, order):
    """Counts and sums agree, however the passages are taken and wherever the rows stand."""
    passages = write_passages(tmp_path / "P", list(ASKED), E)
    sums = {k: f32([np.sum(ASKED[i][:k], axis=0) for i in order]) for k in (2, 9)}
    counts = {"ar": [len(ASKED[i]) for i in order]}
    path = write_sums(tmp_path / "Q", order, {"ar": sums[9]}, counts)
    np.save(path / "sum-ar-first-2.npy", sums[2])
    edit_meta(path, kept={"2": {"ar": file_sha256(path / "sum-ar-first-2.npy")}})
    pair = StorePair(VectorStore(passages), QueryStore(path, first=2))
    for rows in (range(3), np.arange(3)):
        block = pair.take(rows, ["ar"])
        assert block.counts["ar"].tolist() == [2, 1, 2]
        assert block.sums["ar"].tolist() == [[2, 0], [0, 1], [2, 2]]
    assert pair.take(range(1, 3), ["ar"]).counts["ar"].tolist() == [1, 2]
    assert pair.take(np.array([0, 2]), ["ar"]).counts["ar"].tolist() == [2, 2]
    assert pair.take(np.array([0, 2]), ["ar"]).sums["ar"].tolist() == [[2, 0], [2, 2]]
    assert pair.counts(np.array([0]), ["ar"]).tolist() == [[2]]
    assert pair.totals() == {"ar": 5}
    whole = StorePair(VectorStore(passages), QueryStore(path))
    for rows in (range(3), np.arange(3)):
        assert whole.take(rows, ["ar"]).counts["ar"].tolist() == [5, 1, 3]
        assert whole.take(rows, ["ar"]).sums["ar"].tolist() == [[5, 0], [0, 1], [6, 6]]


@pytest.mark.parametrize("known", [True, False])
def test_rows_that_are_taken_are_those_of_the_blocks(passages, queries, tmp_path, known):
    """With the query store in the passages' order, and without one passage in another order."""
    if not known:
        few = [2, 0]
        queries = write_sums(
            tmp_path / "few", [IDS[i] for i in few], {l: s[few] for l, s in SUMS.items()},
            {l: [c[i] for i in few] for l, c in COUNTS.items()},
        )  # fmt: skip
    pair = StorePair(VectorStore(passages), QueryStore(queries))
    for rows in ([0], [1], [0, 2], [0, 1, 2], []):
        block = pair.take(np.array(rows, dtype=np.int64), ("ru", "ar"))
        assert (block.start, list(block.sums), list(block.counts)) == (0, ["ru", "ar"], ["ru", "ar"])
        assert block.passages.tolist() == E[rows].tolist()
        for language in ("ar", "ru"):
            held = [known or row != 1 for row in rows]
            sums = [SUMS[language][r].tolist() if h else [0, 0] for r, h in zip(rows, held, strict=True)]
            counts = [COUNTS[language][r] if h else 0 for r, h in zip(rows, held, strict=True)]
            assert block.sums[language].tolist() == sums
            assert block.counts[language].tolist() == counts
    assert pair.take(range(1, 3), ("ar",)).start == 1


@pytest.mark.parametrize(
    ("d", "matrices", "rows"), [(4, 1, 62), (4, 0, 62), (4, 3, 20), (1000, 1, 1), (250, 1, 1), (125, 1, 2)]
)
def test_a_block_takes_the_memory_that_it_may(monkeypatch, d, matrices, rows):
    monkeypatch.setattr(store, "BLOCK_BYTES", 1000)
    assert store.block_rows(d, matrices) == rows
