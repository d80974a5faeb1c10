"""Shards of stores and indexes: together they are the whole, byte for byte; what does not fit together is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import message, write_jsonl
from made_stores import FAKE, FakeEncoder, edit_meta, engine, f32, fake, quietly, write_passages, write_sums  # noqa: F401

from xqg_pyserini import Fusion
from xqg_pyserini.data import read_corpus
from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.files import held_folder
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.retrieve import encode as encoding
from xqg_pyserini.retrieve.accumulate import AccumulateSettings, QuerySource, accumulate_queries, accumulate_shards
from xqg_pyserini.retrieve.align import align, align_shards
from xqg_pyserini.retrieve.check import check_folder
from xqg_pyserini.retrieve.encode import encode_passages, encode_shards
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import index_shards, write_index
from xqg_pyserini.retrieve.merge import merge_shards
from xqg_pyserini.stores import QueryStore, ShardSettings, VectorStore, jobs, store

N = 11
CORPUS = [{"id": f"p{i}", "text": f"{i} {i * i} -1"} for i in range(N)]
# in the passages' order; some have no query in a language, one has none at all, one has two records, one a blank query
QUERIES = [
    {"docid": f"p{i}", "generated_queries": {"ru": [f"{i} 1 2"] * (1 + i % 2), "ar": [f"{i} 0 7"]}}
    for i in range(N) if i not in (4, 6)
]  # fmt: skip
QUERIES.insert(4, {"docid": "p4", "generated_queries": {"ar": ["1 1 1", " ", "2 2 2"]}})
QUERIES.insert(5, {"docid": "p4", "generated_queries": {"ru": ["3 3 3"]}})


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * 4 * 6)


@pytest.fixture
def by_batch(fake, monkeypatch):
    """The fake encoder, whose vectors depend on what else is encoded with a text, as a real one's last bits do."""
    plain = FakeEncoder.embed

    def embed(self, texts, role):
        for part, vectors in plain(self, texts, role):
            yield part, vectors + np.float32(sum(map(len, texts)) / 64)

    monkeypatch.setattr(FakeEncoder, "embed", embed)
    return fake


@pytest.fixture
def place(by_batch, tmp_path) -> Path:
    write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    write_jsonl(tmp_path / "queries.jsonl", QUERIES)
    encode_passages(tmp_path / "corpus.jsonl", by_batch, tmp_path / "P")
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SETTINGS = AccumulateSettings(keep_counts=(1,))


def encode(place, output, number, *chosen, **how):
    return encode_shards(place / "corpus.jsonl", FAKE, place / output, cut(number, *chosen), **how)


def cut(number, *chosen) -> ShardSettings:
    return ShardSettings(number, chosen or None)


@pytest.mark.parametrize("number", [1, 2, 3, 4, N])
def test_shards_of_passages_are_joined_to_the_bytes_of_one_job(number, place):
    written = encode(place, "S", number)
    assert written.shards == written.written == [f"shard-{i:05d}-of-{number:05d}" for i in range(number)]
    each = [VectorStore(place / "S" / name) for name in written.shards]
    assert [s.n for s in each] == [(i + 1) * N // number - i * N // number for i in range(number)]
    merged = merge_shards(place / "S", place / "M")
    assert tree(place / "M") == tree(place / "P")
    assert merged.shard is None
    assert sorted(os.listdir(place)) == ["M", "P", "S", "corpus.jsonl", "queries.jsonl"]


@pytest.mark.parametrize("number", [1, 2, 3, 5, N])
def test_shards_of_sums_are_joined_to_the_bytes_of_one_job(number, place):
    quietly(accumulate_queries, place / "queries.jsonl", place / "P", place / "Q", SETTINGS)
    quietly(accumulate_shards, place / "queries.jsonl", place / "P", place / "S", cut(number), SETTINGS)
    merge_shards(place / "S", place / "M")
    assert tree(place / "M") == tree(place / "Q")


def test_records_in_another_order_give_the_same_sums_where_batches_do_not_matter(fake, tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    write_jsonl(tmp_path / "queries.jsonl", QUERIES[::-1])
    encode_passages(tmp_path / "corpus.jsonl", fake, tmp_path / "P")
    quietly(accumulate_queries, tmp_path / "queries.jsonl", tmp_path / "P", tmp_path / "Q", SETTINGS)
    FakeEncoder.seen = []
    quietly(accumulate_shards, tmp_path / "queries.jsonl", tmp_path / "P", tmp_path / "S", cut(3), SETTINGS)
    assert len(FakeEncoder.seen) == QueryStore(tmp_path / "Q").meta["queries"]  # each query once
    merge_shards(tmp_path / "S", tmp_path / "M")
    assert tree(tmp_path / "M") == tree(tmp_path / "Q")


@pytest.mark.parametrize("number", [2, 5, N])
def test_shards_are_read_on_where_the_last_one_ended(number, place, monkeypatch):
    read, plain = [], QuerySource.records

    def records(self):
        for line, record in plain(self):
            read.append(record.docid)
            yield line, record

    monkeypatch.setattr(QuerySource, "records", records)
    quietly(accumulate_shards, place / "queries.jsonl", place / "P", place / "S", cut(number), SETTINGS)
    assert len(read) == 2 * len(QUERIES)  # once to check them, once to encode
    read.clear()
    shutil.rmtree(place / "S")
    for shard in (1, 0):  # backwards it begins anew
        quietly(accumulate_shards, place / "queries.jsonl", place / "P", place / "S", cut(number, shard), SETTINGS)
    assert len(read) > 2 * len(QUERIES)


def test_moments_add_up_within_their_rounding(place):
    settings = AccumulateSettings(moments=True)
    quietly(accumulate_queries, place / "queries.jsonl", place / "P", place / "Q", settings)
    quietly(accumulate_shards, place / "queries.jsonl", place / "P", place / "S", cut(3), settings)
    merge_shards(place / "S", place / "M")
    one, other = tree(place / "Q"), tree(place / "M")
    assert set(one) == set(other)
    different = {name for name in one if one[name] != other[name]}
    assert different <= {"meta.json", "moments/differences.npy", "moments/sums.npy"}
    for name in ("moments/differences.npy", "moments/sums.npy"):
        a, b = np.load(place / "Q" / name), np.load(place / "M" / name)
        np.testing.assert_allclose(a, b, rtol=0, atol=N * 2 * 2.0**-53 * np.abs(a).max())


def test_an_alignment_of_shards_is_that_of_the_whole(place):
    settings = AccumulateSettings(moments=True)
    quietly(accumulate_queries, place / "queries.jsonl", place / "P", place / "Q", settings)
    quietly(accumulate_shards, place / "queries.jsonl", place / "P", place / "S", cut(3), settings)
    one, other = align(place / "Q", output=place / "A"), align(place / "S", output=place / "B")
    np.testing.assert_allclose(one.centers, other.centers, rtol=1e-6)
    np.testing.assert_allclose(one.matrices, other.matrices, atol=1e-6)
    assert {k: v for k, v in one.meta.items() if k in ("pairs", "sources", "languages", "encoder")}.items() <= (
        other.meta.items()
    )
    align_shards(place / "queries.jsonl", place / "P", place / "T", cut(3))
    align(place / "T", output=place / "C")
    assert tree(place / "B").keys() == tree(place / "C").keys()
    assert {name for name, data in tree(place / "C").items() if tree(place / "B")[name] != data} == set()
    assert "xqg align adds several up" in message(merge_shards, place / "T", place / "M")
    first = place / "S" / "shard-00000-of-00003"
    for given in ([place / "Q", first], [place / "S", first]):
        assert "hold the same queries (queries.jsonl); give one of them" in message(align, given)


E = f32(np.random.default_rng(3).normal(size=(N, 4)))
SUMS = {l: f32(np.random.default_rng(i).normal(size=(N, 4))) for i, l in enumerate(("ar", "ru"))}
COUNTS = {"ar": [1] * N, "ru": [2] * (N - 2) + [0, 0]}


def made(tmp_path, fusion=None):
    """Stores by hand, the passages alone or fused."""
    ids = [f"d{i}" for i in range(N)]
    passages = write_passages(tmp_path / "P", ids, E)
    if fusion is None:
        return passages
    queries = write_sums(tmp_path / "Q", ids[::-1], SUMS, COUNTS)
    return Fused(passages, queries, fusion, Tolerances(allow_uneven=True))


FUSIONS = {
    "alone": None,
    "mean": Fusion("mean", beta=0.3),
    "centred": Fusion("mean", beta=0.3, normalize=True, center=True),
}


@pytest.mark.parametrize("kind", ["flat", "fp16", "sq8"])
@pytest.mark.parametrize("how", FUSIONS)
def test_shards_of_an_index_are_joined_to_the_bytes_of_one_job(how, kind, tmp_path):
    source = made(tmp_path, FUSIONS[how])
    if isinstance(source, Fused):
        quietly(source.write_index, tmp_path / "I", kind)
    else:
        write_index(source, tmp_path / "I", kind)
    index_shards(source, tmp_path / "S", cut(3), kind)
    assert merge_shards(tmp_path / "S", tmp_path / "M").n == N
    assert tree(tmp_path / "M") == tree(tmp_path / "I")


def test_graphs_are_written_in_shards_and_not_joined(tmp_path):
    index_shards(made(tmp_path), tmp_path / "S", cut(2), "hnsw")
    assert message(merge_shards, tmp_path / "S", tmp_path / "M") == (
        f"{tmp_path / 'S'}: hnsw of all passages is another than its parts together; search the folder of "
        "shards as it is, or write the index in one"
    )
    assert not (tmp_path / "M").exists()


def test_an_index_a_language_is_not_cut(tmp_path):
    aware = made(tmp_path, FUSIONS["mean"]).own_language()
    assert message(index_shards, aware, tmp_path / "S", cut(2)) == "shards are of one index, not of one a language"


# --- many machines --------------------------------------------------------------------------------


def test_chosen_shards_are_written_and_those_that_stand_stay(place):
    assert encode(place, "S", 4, 2, 0).written == ["shard-00000-of-00004", "shard-00002-of-00004"]
    times = {p: p.stat().st_mtime_ns for p in (place / "S").rglob("*")}
    FakeEncoder.seen = []
    rest = encode(place, "S", 4)
    assert rest.written == ["shard-00001-of-00004", "shard-00003-of-00004"]
    assert len(rest.shards) == 4
    assert {p: p.stat().st_mtime_ns for p in times if p.is_file()} == {p: t for p, t in times.items() if p.is_file()}


def test_many_shards_are_read_in_one_pass(place, monkeypatch):
    read = []
    monkeypatch.setattr(encoding, "read_corpus", lambda path: (read.append(path), read_corpus(path))[1])
    encode(place, "S", 4)
    assert len(read) == 1  # beside the check
    encode(place, "T", 4, 3, 0, 1)
    merge_shards([encode(place, "T", 4).output], place / "M")
    assert tree(place / "M") == tree(place / "P")


def test_shards_of_several_folders_in_any_order_are_joined(place):
    encode(place, "A", 3, 1)
    encode(place, "B", 3, 2, 0)
    merge_shards([place / "B", place / "A" / "shard-00001-of-00003"], place / "M")
    assert tree(place / "M") == tree(place / "P")


def test_a_shard_is_a_store_to_work_with(place):
    encode(place, "S", 2)
    half = place / "S" / "shard-00001-of-00002"
    assert list(VectorStore(half).ids()) == [f"p{i}" for i in range(5, N)]
    assert write_index(half, place / "I").n == 6


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: shutil.rmtree(s / "shard-00001-of-00003"),
         "of 3 shards some are missing: 1; write or give these too"),
        (lambda s: shutil.copytree(s / "shard-00000-of-00003", s / "shard-9-of-3"),
         "{s}/shard-00000-of-00003 and {s}/shard-9-of-3 are both shard 0 of 3; give one"),
        (lambda s: edit_meta(s / "shard-00002-of-00003", dtype="float16"),
         '{s}/shard-00002-of-00003 and {s}/shard-00000-of-00003 are not of one whole: dtype is "float16" there and '
         '"float32" here'),
        (lambda s: edit_meta(s / "shard-00002-of-00003", shard=...),
         "{s}/shard-00002-of-00003: not one of several shards; what is whole needs no joining"),
        (lambda s: edit_meta(s / "shard-00001-of-00003",
                             shard={"number": 1, "of": 3, "passages": 30, "ids_sha256": "x"}),
         "{s}/shard-00001-of-00003/meta.json: 4 passages, expected 10 in shard 1 of 3; write the shard again"),
        (lambda s: edit_meta(s / "shard-00001-of-00003",
                             shard={"number": 3, "of": 3, "passages": 11, "ids_sha256": "x"}),
         "{s}/shard-00001-of-00003/meta.json: damaged (shard: shard 3 of 3 of 11 passages); make the store again"),
    ],
)  # fmt: skip
def test_shards_that_do_not_make_a_whole_are_refused(spoil, said, place):
    encode(place, "S", 3)
    spoil(place / "S")
    assert message(merge_shards, place / "S", place / "M") == said.format(s=place / "S")
    assert not (place / "M").exists()


def test_shards_of_two_encoders_are_not_of_one_whole(place, monkeypatch):
    encode(place, "S", 2, 0)
    monkeypatch.setattr(FakeEncoder, "weights", "w2")
    encode(place, "S", 2, 1)
    text = message(merge_shards, place / "S", place / "M")
    assert text.endswith('are not of one whole: encoder.fingerprint is "w2" there and "w1" here')


def test_shards_of_other_texts_are_not_of_one_whole(place):
    encode(place, "S", 2, 0)
    write_jsonl(place / "corpus.jsonl", [*CORPUS[:-1], {"id": "p10", "text": "0 0 0"}])
    encode(place, "S", 2, 1)
    assert "are not of one whole: sources[0].bytes is" in message(merge_shards, place / "S", place / "M")


def test_a_folder_of_another_number_of_shards_is_not_added_to(place):
    encode(place, "S", 2, 0)
    assert message(encode, place, "S", 3) == (
        f"{place / 'S'}: holds shard-00000-of-00002, which is none of 3 shards; give another output"
    )


def test_a_shard_of_another_job_is_not_taken_for_this_ones(place):
    encode(place, "S", 2, 0)
    meta = place / "S" / "shard-00000-of-00002" / "meta.json"
    assert message(encode, place, "S", 2, dtype="float16") == (
        f'{meta}: dtype is "float32" there and "float16" here; give another output, or overwrite this one'
    )
    encode(place, "S", 2, dtype="float16", overwrite=True)
    assert {VectorStore(p).vectors.dtype.name for p in (place / "S").iterdir()} == {"float16"}


@pytest.mark.parametrize("key", ["dimensions", "engine"])
def test_a_shard_of_which_more_is_said_than_now_is_not_taken_for_this_ones(place, key):
    encode(place, "S", 2, 0)
    folder = place / "S" / "shard-00000-of-00002"
    edit_meta(folder, encoder={**VectorStore(folder).meta["encoder"], key: 2})
    assert f"encoder.{key} is 2 there and null here; " in message(encode, place, "S", 2)


def test_more_shards_than_passages_are_refused(place):
    assert message(encode, place, "S", N + 1) == f"{N + 1} shards of {N} passages; expected {N} at most"
    assert not (place / "S").exists()


def test_what_is_no_shard_is_not_joined(place):
    assert message(merge_shards, place / "P", place / "M") == (
        f"{place / 'P'}: not one of several shards; what is whole needs no joining"
    )
    (place / "empty").mkdir()
    assert message(merge_shards, place / "empty", place / "M") == (
        f"{place / 'empty'}: neither a shard nor a folder of shards"
    )


def test_a_folder_of_shards_is_no_store(place):
    encode(place, "S", 2)
    assert message(VectorStore, place / "S") == (
        f"{place / 'S'}: a folder of shards; join them with xqg merge, or give one of them"
    )


# --- damage ---------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


MAKERS = {
    "encode": ("vectors.npy", lambda place, out, **how: encode_passages(place / "corpus.jsonl", FAKE, out,
                                                                       **how)),
    "accumulate": ("sum-ru.npy", lambda place, out, **how: accumulate_queries(
        place / "queries.jsonl", place / "P", out, SETTINGS, **how)),
    "index": ("index", lambda place, out, **how: write_index(place / "P", out, **how)),
    "align": ("centers.npy", lambda place, out, **how: align(place / "queries.jsonl", place / "P", out, **how)),
    "align shards": ("shard-00001-of-00003/moments/sums.npy", lambda place, out, **how: align_shards(
        place / "queries.jsonl", place / "P", out, cut(3), **how)),
    "encode shards": ("shard-00001-of-00003/vectors.npy", lambda place, out, **how: encode(
        place, out.name, 3, **how)),
    "accumulate shards": ("shard-00002-of-00003/sum-ar-first-1.npy", lambda place, out, **how: accumulate_shards(
        place / "queries.jsonl", place / "P", out, cut(3), SETTINGS, **how)),
    "index shards": ("shard-00000-of-00003/index", lambda place, out, **how: index_shards(
        place / "P", out, cut(3), **how)),
}  # fmt: skip


@pytest.mark.parametrize("damage", [flip, truncate])
@pytest.mark.parametrize("maker", MAKERS)
def test_what_is_damaged_is_named_and_made_again_when_asked(maker, damage, place):
    name, make = MAKERS[maker]
    make(place, place / "out")
    before = tree(place / "out")
    make(place, place / "out", repair=True)  # whole: nothing to do
    times = {p: p.stat().st_mtime_ns for p in (place / "out").rglob("*")}
    damage(place / "out" / name)
    assert any(checked.problem for checked in check_folder(place / "out"))
    if "shards" in maker:
        text = message(make, place, place / "out")
        assert text.startswith(f"{place / 'out' / name}: ") or "meta.json" in text
    else:
        assert message(make, place, place / "out").endswith("; give another name, or overwrite it")
    with pytest.warns(XqgWarning, match="repaired: "):
        make(place, place / "out", repair=True)
    assert tree(place / "out") == before
    if "shards" in maker:  # the others were not touched
        same = [p for p, t in times.items() if p.exists() and p.is_file() and p.stat().st_mtime_ns == t]
        assert len({p.relative_to(place / "out").parts[0] for p in same}) == 2


def test_a_shard_without_queries_is_nothing_to_learn_from(place):
    assert message(align_shards, place / "queries.jsonl", place / "P", place / "T", cut(N)) == (
        f"shard 6 of {N} has no query to learn from; take fewer shards"
    )


@pytest.mark.parametrize("maker", ["encode", "accumulate", "index"])
def test_a_description_that_is_damaged_is_made_again_too(maker, place):
    _, make = MAKERS[maker]
    make(place, place / "out")
    before = tree(place / "out")
    meta = place / "out" / ("xqg.json" if maker == "index" else "meta.json")
    meta.write_text("{")
    quietly(make, place, place / "out", repair=True)
    assert tree(place / "out") == before


def test_repair_replaces_nothing_of_another_job(place):
    _, make = MAKERS["accumulate"]
    make(place, place / "out")
    flip(place / "out" / "sum-ru.npy")
    before = tree(place / "out")
    other = AccumulateSettings(keep_counts=(1, 2))
    text = message(accumulate_queries, place / "queries.jsonl", place / "P", place / "out", other, repair=True)
    assert 'meta.json: kept is {"1": ' in text
    shutil.rmtree(place / "out")
    (place / "out").mkdir()
    (place / "out" / "mine").write_text("precious")
    with pytest.raises(UserError, match="already holds something"):
        make(place, place / "out", repair=True)
    assert before and os.listdir(place / "out") == ["mine"]


def test_the_second_of_two_processes_on_one_output_is_refused(place):
    encode(place, "S", 2, 0)
    said = "another process is writing it; wait for that, or give another output"
    with held_folder(place / "S" / "shard-00001-of-00002", False):
        assert message(encode, place, "S", 2) == f"{place}/S/shard-00001-of-00002: {said}"
    encode(place, "S", 2)
    with held_folder(place / "M", False):
        assert message(merge_shards, place / "S", place / "M") == f"{place / 'M'}: {said}"
    merge_shards(place / "S", place / "M")


@pytest.mark.parametrize("kind", ["passages", "sums", "flat"])
def test_a_merge_that_was_stopped_goes_on_at_a_shard(kind, place, monkeypatch):
    if kind == "passages":
        encode(place, "S", 3)
    elif kind == "sums":
        accumulate_shards(place / "queries.jsonl", place / "P", place / "S", cut(3), SETTINGS)
    else:
        index_shards(place / "P", place / "S", cut(3), kind)
    merge_shards(place / "S", place / "whole")
    save, done = jobs.Job.save, []

    def stopped(self, number, *matrices):
        save(self, number, *matrices)
        done.append(number)
        if len(done) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs.Job, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        merge_shards(place / "S", place / "M")
    assert not (place / "M").exists()
    merge_shards(place / "S", place / "M")
    assert done == [1, 2, 3]
    assert tree(place / "M") == tree(place / "whole")


def test_a_flipped_shard_is_not_joined(place):
    encode(place, "S", 3)
    flip(place / "S" / "shard-00001-of-00003" / "vectors.npy")
    assert "vectors.npy: changed since it was written" in message(merge_shards, place / "S", place / "M")
    index_shards(place / "P", place / "T", cut(3))
    flip(place / "T" / "shard-00002-of-00003" / "index")
    assert message(merge_shards, place / "T", place / "M") == (
        f"{place / 'T'}/shard-00002-of-00003/index: changed since it was written (its checksum differs); "
        "copy it again, or write the shard again"
    )
    assert not (place / "M").exists()


def test_a_damaged_store_gives_no_shard_of_an_index(place):
    flip(place / "P" / "vectors.npy")  # in the last passage
    text = message(index_shards, place / "P", place / "S", cut(3, 0))
    assert text.startswith(f"{place / 'P' / 'vectors.npy'}: changed since it was written")
    assert not (place / "S").exists()


def test_check_reads_each_shard_and_names_those_that_are_not_there(place):
    encode(place, "S", 3)
    assert not any(checked.problem for checked in check_folder(place / "S"))
    shutil.rmtree(place / "S" / "shard-00001-of-00003")
    problems = [checked.problem for checked in check_folder(place / "S") if checked.problem]
    assert problems == [f"{place / 'S'}: of 3 shards some are missing: 1"]


def test_a_merge_writes_over_none_of_its_shards_and_not_among_them(place):
    encode(place, "S", 3)
    before = tree(place / "S")
    first = place / "S" / "shard-00000-of-00003"
    for output in (first, place / "S" / "new"):
        assert str(output) in message(merge_shards, place / "S", output, overwrite=True)
    assert tree(place / "S") == before


def test_check_names_shards_in_the_place_of_others_and_of_other_passages(place):
    def problems() -> list[str]:
        return [checked.problem for checked in check_folder(place / "S") if checked.problem]

    encode(place, "S", 3)
    shards = [place / "S" / f"shard-0000{i}-of-00003" for i in range(3)]
    shards[0].rename(place / "aside")
    shards[1].rename(shards[0])
    (place / "aside").rename(shards[1])
    assert problems() == [f"{shards[0]}: it is shard 1 of 3, and not 0 of 3; give it its own name"]
    shutil.rmtree(place / "S")
    encode(place, "S", 3)
    write_jsonl(place / "corpus.jsonl", CORPUS[:-1])
    encode(place, "T", 3)
    shutil.rmtree(shards[1])
    (place / "T" / shards[1].name).rename(shards[1])
    assert problems() == [f"{shards[1]}: a shard of other passages than the others; make it again"]


def test_an_alignment_is_not_learnt_from_a_part_of_the_shards(place):
    accumulate_shards(place / "queries.jsonl", place / "P", place / "S", cut(2), AccumulateSettings(moments=True))
    shutil.rmtree(place / "S" / "shard-00001-of-00002")
    assert message(align, place / "S") == f"{place / 'S'}: of 2 shards some are missing: 1"


def test_each_shard_says_what_it_left_out_and_what_has_no_queries(place, tmp_path):
    def said(call, *arguments) -> list[str]:
        with pytest.warns(XqgWarning) as warned:
            call(*arguments)
        return [str(warning.message) for warning in warned]

    write_jsonl(place / "queries.jsonl", [
        {"docid": f"p{i}", "generated_queries": {"fi": [" ", "1 1 1"]}} for i in (0, 1, 9)
    ])  # fmt: skip
    blank = "generated queries are blank and were left out"
    job = (place / "queries.jsonl", place / "P", place / "S", cut(2))
    assert said(accumulate_shards, *job) == [f"shard 0 of 2: 2 {blank}", f"shard 1 of 2: 1 {blank}"]
    ids = [f"p{i}" for i in range(N)]
    counts = [0 if i in (0, 1, 9) else 1 for i in range(N)]
    sums = {language: np.where(np.array(counts)[:, None], E, 0) for language in SUMS}
    write_sums(tmp_path / "none", ids, sums, {"ar": counts, "ru": counts})
    passages = write_passages(tmp_path / "vectors", ids, E)
    fused = Fused(passages, tmp_path / "none", Fusion("mean", beta=0.3), Tolerances(allow_uneven=True))
    without = "passages have no queries in ar ru and keep their own embedding"
    assert said(index_shards, fused, tmp_path / "I", cut(2)) == [
        f"shard 0 of 2: 2 of 5 {without}",
        f"shard 1 of 2: 1 of 6 {without}",
    ]
