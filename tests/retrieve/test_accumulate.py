"""Summing queries: by passage and language, resumed to the same bytes however often killed."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import message, refusal, write_jsonl
from made_stores import (
    CORPUS,
    FAKE,
    GENERATED,
    FakeEncoder,
    corpus,  # noqa: F401 - a fixture
    describe,
    encoded,  # noqa: F401 - a fixture
    engine,  # noqa: F401 - a fixture, used by every test
    fake,  # noqa: F401 - a fixture
    files,
    killed,
    stopped,
    summed,
)

from xqg_pyserini.data import describe_sources
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.files import file_sha256
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve import accumulate
from xqg_pyserini.retrieve.accumulate import AccumulateSettings, accumulate_queries
from xqg_pyserini.stores import QueryStore, StorePair, VectorStore

# by hand, in the order of the corpus; the last number is -1 a query
SUMS_BY_HAND = {
    "ar": [[12, 24, 36, -3], [0] * 4, [1, 1, 1, -1], [0] * 4, [0] * 4],
    "fi": [[0] * 4, [0] * 4, [0] * 4, [0] * 4, [9, 9, 9, -1]],
    "ru": [[-1, 0, 0.5, -1], [0] * 4, [5, 5, 5, -1], [0] * 4, [1, 2, 0, -2]],
}
SKIPPING = AccumulateSettings(skip_unknown=True)
COUNTS_BY_HAND = [[3, 0, 1], [0, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 2]]


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
        f"encoder fake (w2) is not the one that {encoded} was made with (fake, w1); use that, or encode again"
    )
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()


def test_an_encoder_of_another_width_is_refused(encoded, tmp_path):
    FakeEncoder.width = 5
    assert message(summed, tmp_path) == (
        f"encoder fake gives 6 dimensions, but {encoded} has 4; use the encoder that it was made with"
    )


def test_an_encoder_with_other_settings_is_refused(encoded, tmp_path):
    text = message(summed, tmp_path, encoder=Encoder(FAKE, query_prefix="query: "))
    assert text == (
        f"encoder fake: query_prefix is 'query: ', but {encoded} was made with 'q: '; use one encoder for both"
    )
    assert FakeEncoder.seen == []


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            [*GENERATED, {"docid": "7", "generated_queries": {"ar": ["1 1 1"]}}],
            "{queries}, line 6: passage '7' is not in {passages} ('7' in the queries, '007' in {passages}; perhaps "
            "numbers are padded with zeros or have a decimal point on one side); skip_unknown leaves such queries out",
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
    text, about = refusal(summed, tmp_path)
    assert text == expected.format(queries=queries, passages=encoded)
    assert about == (("skip_unknown",) if "skip_unknown" in expected else ())
    assert FakeEncoder.seen == []
    assert sorted(os.listdir(tmp_path)) == ["corpus.jsonl", "passages", "queries.jsonl"]


def test_queries_for_unknown_passages_are_left_out_on_demand_and_counted(encoded, tmp_path):
    summed(tmp_path, "whole")
    decoy = {"docid": "unknown", "generated_queries": {"ar": ["9 9 9", " "], "ja": ["9 9 9"]}}
    write_jsonl(tmp_path / "queries.jsonl", [decoy, *GENERATED, {**decoy, "docid": "7"}])
    with pytest.warns(XqgWarning) as caught:
        accumulate_queries(tmp_path / "queries.jsonl", encoded, tmp_path / "out", SKIPPING)
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
        accumulate_queries(tmp_path / "queries.jsonl", encoded, tmp_path / "out", SKIPPING)
    assert "2 passages" not in str(caught[0].message)


@pytest.mark.parametrize("dtype", ["float64", "int8"])
def test_a_dtype_that_no_store_has_is_refused_before_any_query_is_encoded(encoded, tmp_path, dtype):
    assert repr(dtype) in message(summed, tmp_path, dtype=dtype)
    assert FakeEncoder.seen == []
    assert not (tmp_path / "out").exists()


def test_sums_too_large_for_halves_are_refused_though_each_query_fits(encoded, tmp_path):
    record = {"docid": "e", "generated_queries": {"ru": ["40000 0 0", "-1 0 0", "40000 0 0"]}}
    write_jsonl(tmp_path / "queries.jsonl", [record])
    assert refusal(summed, tmp_path, dtype="float16") == (
        "a sum of query vectors does not fit into float16; use float32",
        ("dtype",),
    )
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
        k: {l: file_sha256(sums.path / f"sum-{l}-first-{k}.npy") for l in ("ar", "fi", "ru")} for k in ("1", "2")
    }
    said = {key: v for key, v in sums.meta.items() if key != "kept"}
    said["xxh3"] = {name: sum_ for name, sum_ in said["xxh3"].items() if name not in kept}
    assert said == json.loads(plain["meta.json"])
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
                first_few = queries.get(docid, {}).get(language, [])[:k]
                expected = np.sum(first_few, axis=0) if first_few else np.zeros(4)
                assert first.sums[language][row].tolist() == expected.tolist(), (docid, language)
        counts = np.minimum(np.array(COUNTS_BY_HAND), k)
        pair = StorePair(VectorStore(encoded), first)
        assert pair.counts(range(5), first.languages).tolist() == counts.tolist()
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
    assert refusal(summed, tmp_path, keep_counts=counts) == (
        f"keep_counts {' '.join(map(str, counts))}: expected numbers from 1, each once",
        ("keep_counts",),
    )


def test_a_kept_sum_that_is_missing_is_named(encoded, tmp_path):
    path = summed(tmp_path, keep_counts=[1]).path
    (path / "sum-ar-first-1.npy").unlink()
    QueryStore(path)
    assert message(QueryStore, path, 1) == (f"{path / 'sum-ar-first-1.npy'}: missing; make the store again")
