"""Records found by id: where they stand, or copied as they passed by."""

import bz2
import gzip
import json
import os
import subprocess
import sys

import pytest
from conftest import message, put, write_jsonl
from fake_hub import served as hub

from xqg_pyserini.data import CorpusFile, Passage, read_corpus
from xqg_pyserini.serve.lookup import GeneratedLookup, corpus_lookup

RECORDS = [
    {"id": "007", "title": "Nile", "text": "flows north 🐈"},
    {"id": "قطة", "title": "", "text": 'a "cat", and\ta tab'},
    {"id": "a/b?c#1", "title": "", "text": "{not JSON"},
]
PASSAGES = [Passage(r["id"], r["title"], r["text"]) for r in RECORDS]
LINES = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS)
TABLE = 'id,text,title\n007,flows north 🐈,Nile\nقطة,"a ""cat"", and\ta tab",\na/b?c#1,{not JSON,\n'


@pytest.mark.parametrize(
    ("content", "copied"),
    [
        (LINES, False),
        ("\ufeff" + LINES.replace("\n", "\r\n\n"), False),
        (gzip.compress(LINES.encode()), True),
        (bz2.compress(LINES.encode()), True),
        (json.dumps(RECORDS, indent=1), True),
        (TABLE, True),
    ],
    ids=["lines", "marked", "gzip", "bz2", "array", "table"],
)
def test_passages_of_every_kind_of_file(content, copied, tmp_path):
    path = put(tmp_path / "corpus", content)
    texts = corpus_lookup(path)
    assert len(texts) == 3
    for passage in reversed(PASSAGES):
        assert texts[passage.id] == [passage]
    assert texts["nobody"] == []
    assert bool(texts._copies.tell()) == copied


def test_several_files_are_one_and_fields_are_those_that_were_named(tmp_path):
    for i, record in enumerate(RECORDS):
        line = json.dumps({"key": record["id"], "body": record["text"]}) + "\n"
        put(tmp_path / f"{i}.jsonl", gzip.compress(line.encode()) if i == 1 else line)
    source = CorpusFile(tmp_path, id_field="key", text_field="body")
    texts = corpus_lookup(source)
    for _, passage in read_corpus(source):
        assert texts[passage.id] == [passage]
    assert texts["قطة"][0].text == RECORDS[1]["text"]


def test_an_id_that_comes_twice_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "c.jsonl", [*RECORDS, {"id": "007", "text": "again"}])
    assert message(corpus_lookup, path) == f"{path}: passage id '007' comes twice; ids must be unique"


def test_a_file_that_changes_under_it_is_said(tmp_path):
    path = put(tmp_path / "c.jsonl", LINES)
    texts = corpus_lookup(path)
    put(path, "x" + LINES)
    assert message(texts.__getitem__, "قطة") == f"{path}: changed since it was looked through; start again"
    path.unlink()
    assert "changed since" in message(texts.__getitem__, "007")


def test_generated_queries_of_several_records_are_put_together(tmp_path):
    records = [
        {"docid": "a", "generated_queries": {"ar": ["أ", " "], "fi": ["yksi"]}},
        {"docid": "b", "generated_queries": {"fi": ["muu"]}},
        {"docid": "a", "generated_queries": {"ru": ["раз"]}},
    ]
    generated = GeneratedLookup(write_jsonl(tmp_path / "q.jsonl", records))
    assert generated.languages == ["ar", "fi", "ru"]
    assert generated.of("a") == {"ar": ["أ"], "fi": ["yksi"], "ru": ["раз"]}
    assert generated.of("b") == {"fi": ["muu"]}
    assert generated.of("c") == {}


def test_belebele_is_read_again_as_often_as_it_is_asked_for(tmp_path):
    """Its passages stand beside each of their questions; of a corpus the first of these counts."""
    row = {"link": "a", "flores_passage": "the moon", "question": "what?", "dialect": "fin_Latn"}
    rows = [{**row, "question_number": 1}, {**row, "question_number": 2}, {**row, "link": "b", "question_number": 1}]
    texts = corpus_lookup(write_jsonl(tmp_path / "b.jsonl", rows))
    assert (len(texts), texts._copies.tell()) == (2, 0)
    for _ in range(2):
        assert [texts[docid][0].text for docid in ("a", "b")] == ["the moon", "the moon"]


def test_what_is_read_of_the_hub_is_copied(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", RECORDS)
    local = corpus_lookup(f"hf:{folder}")
    with hub("me/set", folder) as server:
        code = f"""
from xqg_pyserini.serve.lookup import corpus_lookup
texts = corpus_lookup("hf:me/set")
print([texts[docid][0].text for docid in {[record["id"] for record in RECORDS]!r}] * 2)
"""
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
        }
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    texts = [record["text"] for record in RECORDS]
    assert (done.returncode, done.stdout) == (0, f"{texts * 2}\n"), done.stderr
    assert [local[record["id"]][0].text for record in RECORDS] == texts
