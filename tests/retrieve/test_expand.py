"""Passages with their queries behind their text: by hand, in any order of the queries, and for BM25."""

import gzip
import json

import pytest
from conftest import message, write_jsonl

import xqg_pyserini as xqg

CORPUS = [
    {"docid": "a", "title": "A", "text": "first"},
    {"docid": "b", "text": "second"},
    {"docid": "c", "title": "C", "text": "third"},
]
QUERIES = [
    {"docid": "c", "generated_queries": {"fi": ["c1", " ", "c2", "c3"]}},
    {"docid": "a", "generated_queries": {"fi": ["a1"], "ar": ["a2", "a3"]}},
    {"docid": "c", "generated_queries": {"ar": ["c4"]}},
]


@pytest.fixture
def place(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    write_jsonl(tmp_path / "queries.jsonl", QUERIES)
    return tmp_path


def expand(place, **settings):
    output = place / "out" / "expanded.jsonl"
    done = xqg.expand_passages(place / "corpus.jsonl", place / "queries.jsonl", output, xqg.ExpandSettings(**settings))
    assert [path.name for path in output.parent.iterdir()] == [output.name]  # nothing else stays
    return done, {r["id"]: r["contents"] for r in map(json.loads, output.open(encoding="utf-8"))}


def test_queries_stand_behind_their_passage_in_the_corpus_s_order(place):
    done, contents = expand(place)
    expected = {"a": "A first\na1\na2\na3", "b": "second", "c": "C third\nc1\nc2\nc3\nc4"}
    assert contents == expected and list(contents) == ["a", "b", "c"]
    assert done[1:] == (3, 7, 1, 0)


def test_some_languages_and_the_first_of_each(place):
    assert expand(place, languages=("fin",))[1] == {"a": "A first\na1", "b": "second", "c": "C third\nc1\nc2\nc3"}
    done, contents = expand(place, num_queries=1)
    assert contents == {"a": "A first\na1\na2", "b": "second", "c": "C third\nc1\nc4"}
    assert done.queries == 4


def test_what_does_not_fit_is_refused_and_nothing_is_left(place):
    def refused(**settings):
        return message(expand, place, **settings)

    assert "has no queries in 'ko'" in refused(languages=("ko",))
    write_jsonl(place / "queries.jsonl", [*QUERIES, {"docid": "x", "generated_queries": {"fi": ["x"]}}])
    assert "line 4: passage 'x' is not in" in refused()
    assert expand(place, skip_unknown=True)[0].skipped == 1
    write_jsonl(place / "queries.jsonl", [*QUERIES, {"docid": "a", "generated_queries": {"fin": ["again"]}}])
    assert "line 4: " in refused()
    write_jsonl(place / "corpus.jsonl", [*CORPUS, CORPUS[0]])
    (place / "out" / "expanded.jsonl").unlink()
    assert "passage id 'a' again" in refused()
    assert list((place / "out").iterdir()) == []


def test_the_command_writes_gzip(place, xqg):
    said = xqg("expand", "--corpus", place / "corpus.jsonl", "--queries", place / "queries.jsonl",
               "--output", place / "expanded.jsonl.gz")  # fmt: skip
    assert said == f"{place / 'expanded.jsonl.gz'}: 3 passages, 7 queries; 1 passages have none\n"
    with gzip.open(place / "expanded.jsonl.gz", "rt", encoding="utf-8") as lines:
        assert [json.loads(line)["id"] for line in lines] == ["a", "b", "c"]


def test_bm25_finds_by_a_generated_query_what_it_cannot_find_by_the_text(place, xqg):
    write_jsonl(place / "queries.jsonl", [{"docid": "b", "generated_queries": {"fi": ["missä on jokisuisto"]}}])
    (place / "topics.tsv").write_text("q\tjokisuisto\n", encoding="utf-8")
    (place / "plain").mkdir()
    write_jsonl(place / "plain" / "docs.jsonl", [{"id": p["docid"], "contents": p["text"]} for p in CORPUS])
    paths = {"--corpus": "corpus.jsonl", "--queries": "queries.jsonl", "--output": "expanded/docs.jsonl"}
    xqg("expand", *(part for flag, name in paths.items() for part in (flag, place / name)))
    found = {}
    for name in ("plain", "expanded"):
        index, run = place / f"{name}-index", place / f"{name}.trec"
        kind = ["--collection", "JsonCollection", "--generator", "DefaultLuceneDocumentGenerator", "--threads", 1]
        xqg("pyserini", "index.lucene", *kind, "--input", place / name, "--index", index)
        asked = ["--index", index, "--topics", place / "topics.tsv", "--output", run, "--bm25"]
        xqg("pyserini", "search.lucene", *asked)
        found[name] = [line.split()[2] for line in run.open(encoding="utf-8")]
    assert found == {"plain": [], "expanded": ["b"]}
