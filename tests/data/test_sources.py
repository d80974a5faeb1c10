"""Inputs by name: `hf:` and `irds:` give what the same rows give from files, and say what there is and what to do."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import ir_datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PASSAGES, QUERIES, QUESTIONS, message, put, write_jsonl
from fake_hub import SHA, served
from ir_datasets.formats import GenericDoc, GenericQuery, TrecQrel

from xqg_pyserini import data

JUDGED = [{"query-id": "01", "corpus-id": "007", "score": 1}, {"query-id": "q3", "corpus-id": "d5", "score": 2}]
CONFIGS = {  # configuration → its splits
    "corpus": {"train": "data/train-*"},
    "queries": {"test": "questions.csv"},
    "generated": {"train": "generated.jsonl"},
    "default": {"dev": "dev.jsonl", "test": "test.parquet"},
    "other": {"train": "notes.txt"},
}


def write_parquet(path: Path, records: list[dict]) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """A folder as the hub has it: a corpus in two Parquet files, questions as CSV, the rest as JSON Lines."""
    folder = tmp_path_factory.mktemp("hub") / "set"
    folder.mkdir()
    rows = [{**passage, "embedding": [0.5, 0.25], "picture": b"\x00"} for passage in PASSAGES]
    write_parquet(folder / "data" / "train-00000-of-00002.parquet", rows[:3])
    write_parquet(folder / "data" / "train-00001-of-00002.parquet", rows[3:])
    lines = [f"{q['id']},{q['question']},{q['lang']}" for q in QUESTIONS]
    put(folder / "questions.csv", "\n".join(["id,question,lang", *lines, ""]))
    records = [{"docid": docid, "generated_queries": queries} for docid, queries in QUERIES.items()]
    write_jsonl(folder / "generated.jsonl", records)
    write_jsonl(folder / "dev.jsonl", JUDGED)
    write_parquet(folder / "test.parquet", JUDGED)
    put(folder / "notes.txt", "a\n")
    configs = []
    for name, splits in CONFIGS.items():
        files = "".join(f"\n  - split: {split}\n    path: {path}" for split, path in splits.items())
        configs.append(f"- config_name: {name}\n  data_files:{files}\n")
    put(folder / "README.md", "---\nconfigs:\n" + "".join(configs) + "---\n")
    return folder


def ids(source) -> list[str]:
    return [passage.id for _, passage in data.read_corpus(source)]


# ---------------------------------------------------------------- the hub, in a folder


def test_rows_and_text_files_of_a_folder_are_what_files_give(hub, tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", PASSAGES)
    of_files = [passage for _, passage in data.read_corpus(tmp_path / "corpus.jsonl")]
    read = list(data.read_corpus(f"hf:{hub}:corpus"))
    assert [passage for _, passage in read] == of_files
    # vectors and pictures are left out of what a line holds
    assert json.loads(read[3][0].text) == PASSAGES[3]
    assert (read[3][0].path, read[3][0].number, read[3][0].unit) == (
        hub / "data" / "train-00001-of-00002.parquet", 1, "row",
    )  # fmt: skip
    questions = data.read_questions(f"hf:{hub}:queries")
    assert questions == data.read_questions(hub / "questions.csv")
    assert [question.id for question in questions] == ["01", "-9223372036854775807", "q3"]
    generated = [record for _, record in data.read_generated(f"hf:{hub}:generated:train")]
    assert generated == [record for _, record in data.read_generated(hub / "generated.jsonl")]
    expected = {"01": {"007": 1}, "q3": {"d5": 2}}
    for qrels in (f"hf:{hub}:default:dev", f"hf:{hub}:default:test", hub / "dev.jsonl"):
        assert data.read_qrels(qrels) == expected


def test_a_folder_is_described_by_its_files_as_they_are_by_path(hub):
    assert data.describe_sources(f"hf:{hub}:generated") == data.describe_sources(hub / "generated.jsonl")
    names = [each["name"] for each in data.describe_sources(data.CorpusFile(f"hf:{hub}:corpus", text_field="text"))]
    assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]


def test_null_within_a_value_of_parquet_is_as_if_it_were_not_there(tmp_path):
    records = [{"docid": "1", "generated_queries": {"fi": ["a"], "ko": None}, "title": None}]
    write_parquet(tmp_path / "set" / "x.parquet", [*records, {"docid": "2", "generated_queries": {"ko": ["b"]}}])
    read = [record.queries for _, record in data.read_generated(f"hf:{tmp_path / 'set'}")]
    assert read == [{"fi": ("a",)}, {"ko": ("b",)}]


def test_a_folder_without_configurations_has_one_for_each_folder_in_it(tmp_path):
    for language in ("hau", "swa"):
        folder = tmp_path / language / "test"
        folder.mkdir(parents=True)
        write_jsonl(folder / "x.jsonl", [{"id": language, "text": "t"}])
    assert ids(f"hf:{tmp_path}:swa:test") == ["swa"]
    assert ids(f"hf:{tmp_path}") == ["hau", "swa"]
    assert message(ids, f"hf:{tmp_path}:yor") == f"hf:{tmp_path}:yor: has no configuration yor; there are default"


WRONG = {
    ":corpus:test": "has no split test; there are train",
    ":nope": "has no configuration nope; there are corpus, queries, generated, default, other",
    ":default": "has several splits; give one, such as hf:{hub}:default:dev; there are dev, test",
    "": "has several splits; give one, such as hf:{hub}:default:dev; there are dev, test",  # of that called default
    ":a:b:c": "expected hf:NAME, hf:NAME:CONFIG or hf:NAME:CONFIG:SPLIT, perhaps @REVISION",
    "::x": "expected hf:NAME, hf:NAME:CONFIG or hf:NAME:CONFIG:SPLIT, perhaps @REVISION",
}


@pytest.mark.parametrize("rest", WRONG)
def test_a_wrong_name_is_answered_by_those_that_there_are(rest, hub):
    assert message(ids, f"hf:{hub}{rest}") == f"hf:{hub}{rest}: {WRONG[rest].format(hub=hub)}"


def test_what_is_no_text_and_no_parquet_is_refused(hub, tmp_path):
    text = f"{hub / 'notes.txt'}: expected JSON Lines, TSV, CSV or Parquet; convert it, and give the file"
    assert message(ids, f"hf:{hub}:other") == text
    put(tmp_path / "x.parquet", b"PAR1 and no more")
    assert message(ids, f"hf:{tmp_path}").startswith(f"{tmp_path / 'x.parquet'}, after row 0: no whole Parquet file (")


def test_a_folder_of_text_that_is_to_be_read_in_a_way_of_its_own_is_refused(tmp_path):
    put(tmp_path / "x.csv", "id;text\n007;a\n")
    put(tmp_path / "README.md", "---\nconfigs:\n- config_name: a\n  data_files: x.csv\n  sep: ;\n---\n")
    text = f"hf:{tmp_path}: its files are to be loaded with sep ';', which is not done here; convert them"
    assert message(ids, f"hf:{tmp_path}") == text


def test_a_file_elsewhere_is_none_of_a_data_set(hub, tmp_path):
    readme = "---\nconfigs:\n- config_name: a\n  data_files: {}\n---\n"
    put(tmp_path / "README.md", readme.format(hub / "generated.jsonl"))
    text = f"names a file that is not its own, {hub / 'generated.jsonl'}; give it by its path"
    assert message(ids, f"hf:{tmp_path}") == f"hf:{tmp_path}: {text}"


def test_a_shard_that_is_missing_is_missed(tmp_path):
    write_jsonl(tmp_path / "train-00000-of-00002.jsonl", PASSAGES)
    text = f"{tmp_path}: 1 of 2 shards are missing, the first is train-00001-of-00002"
    assert message(ids, f"hf:{tmp_path}").startswith(text)


def test_an_error_within_names_file_and_row(tmp_path):
    write_parquet(tmp_path / "set" / "x.parquet", [{"docid": "1", "text": "a"}, {"docid": "2 3", "text": "b"}])
    where = tmp_path / "set" / "x.parquet"
    text = f"{where}, row 2: docid '2 3' holds white space, which run files cannot carry"
    assert message(ids, f"hf:{tmp_path / 'set'}") == text
    write_parquet(where, [{"nr": "1", "text": "a"}])
    lacks = "a record without id (expected one of id, docid, _id, pid, doc_id); it has the keys nr, text"
    assert message(ids, f"hf:{tmp_path / 'set'}") == f"{where}, row 1: {lacks}"
    assert ids(data.CorpusFile(f"hf:{tmp_path / 'set'}", id_field="nr")) == ["1"]


def test_an_output_does_not_replace_the_folder_of_an_input(hub):
    from xqg_pyserini.files import check_output

    text = f"{hub}: will not be replaced, since it holds {hub}"
    assert message(check_output, hub, True, [f"hf:{hub}:corpus"]) == text


def test_without_the_package_the_error_says_what_to_install(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    text = "the package datasets is not installed: run pip install 'datasets>=4'"
    assert message(ids, f"hf:{hub}:corpus") == text
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    text = "the package ir_datasets is not installed: run pip install 'ir_datasets'"
    assert message(ids, "irds:vaswani") == text


# ---------------------------------------------------------------- the hub, by HTTP

READ = """
import json, os, sys
from xqg_pyserini import UserError, data
for source in sys.argv[1:]:
    try:
        if source == "download":
            import huggingface_hub
            huggingface_hub.snapshot_download("me/set", repo_type="dataset")
        elif not source.startswith("hf:"):
            os.unlink(source)
        else:
            read = [[str(line.path), line.number, *passage] for line, passage in data.read_corpus(source)]
            print(json.dumps([read, data.describe_sources(source), str(data.pinned(data.CorpusFile(source)))]))
    except UserError as error:
        print(json.dumps(str(error)))
"""


def read_in_process(*arguments: str, **environment: str) -> list:
    """Read what is named in one process, download it, or take a file away, one after the other."""
    command = [sys.executable, "-c", READ, *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, text=True, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_data_set_of_the_hub_is_streamed_and_pinned_to_its_commit(hub, tmp_path):
    wrong = ("hf:me/set:corpus@v1", "hf:me/none", "hf:me/set:corpus@v1:train", "hf:a b")
    with served("me/set", hub) as server:
        online = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        sources = ("hf:me/set:corpus", f"hf:me/set:corpus:train@{SHA}", *wrong, "download")
        first, pinned, *refused = read_in_process(*sources, **online)
        files = [entry.split("/")[-1] for entry in server.asked if entry.startswith("GET") and "/resolve/" in entry]
    assert [row[2:] for row in first[0]] == [[p["id"], p["title"], p["text"]] for p in PASSAGES]
    assert first[0][3][:2] == ["hf:me/set/data/train-00001-of-00002.parquet", 1]
    assert first[1] == pinned[1] == [{"name": "hf:me/set:corpus:train", "revision": SHA, "files": 2}]
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"):
        assert files.count(name) == 3  # once for each reading, and to be kept
    assert first[2] == pinned[2] == f"hf:me/set:corpus:train@{SHA}"  # what other processes read
    absent = "the hub has no such data set (or it is private: run hf auth login), and there is no such folder"
    assert refused == [
        "hf:me/set:corpus@v1: the data set me/set has no revision v1",
        f"hf:me/none: {absent}",
        "hf:me/set:corpus@v1:train: the data set me/set has no revision v1:train",
        "hf:a b: no such folder, and no name of a data set (USER/NAME)",
    ]
    # what has been downloaded serves without a network, under the same commit
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    gone = next(tmp_path.rglob("snapshots/*/data/train-00001-*"))
    asked = ("hf:me/set:corpus", "hf:me/none", str(gone), "hf:me/set:corpus:train")
    again, unknown, part = read_in_process(*asked, **offline)
    assert again == first
    remedy = "where there is a network run hf download me/{} --repo-type dataset, and bring that folder here, or give "
    remedy = f"{remedy}files by their paths"
    unreached = "the hub cannot be reached (HF_HUB_OFFLINE is set), and the folder HF_HOME"
    assert unknown == f"hf:me/none: {unreached} does not hold it; {remedy.format('none')}"
    assert part == f"hf:me/set:corpus:train: {unreached} lacks a part of it; {remedy.format('set')}"


# ---------------------------------------------------------------- ir_datasets


class MadeDocs(ir_datasets.formats.BaseDocs):
    def __init__(self, path: Path | None, docs: list) -> None:
        self.path, self.docs = path, docs

    def docs_path(self, force=True):
        return self.path

    def docs_iter(self):
        return iter(self.docs)

    def docs_cls(self):
        return type(self.docs[0])


class MadeQueries(ir_datasets.formats.BaseQueries):
    def __init__(self, queries: list, language: str | None) -> None:
        self.queries, self.language = queries, language

    def queries_iter(self):
        return iter(self.queries)

    def queries_cls(self):
        return type(self.queries[0])

    def queries_lang(self):
        return self.language


class MadeQrels(ir_datasets.formats.BaseQrels):
    def qrels_iter(self):
        return iter([TrecQrel("01", "007", 1, "0"), TrecQrel("q3", "d5", 2, "0")])


@pytest.fixture
def registered(monkeypatch):
    """Register data sets of ir_datasets for a test."""
    known = dict(ir_datasets.registry._registered)
    monkeypatch.setattr(ir_datasets.registry, "_registered", known)

    def register(name: str, *parts) -> str:
        known.pop(name, None)
        ir_datasets.registry.register(name, ir_datasets.Dataset(*parts))
        return f"irds:{name}"

    return register


def titled(**fields: str):
    """A document whose text for ir_datasets is its title and its text."""
    from ir_datasets.datasets.beir import BeirTitleDoc

    return BeirTitleDoc(**fields)


def test_documents_are_passages_of_title_and_text(registered, tmp_path):
    docs = [titled(doc_id=p["id"], text=p["text"], title=p["title"]) for p in PASSAGES]
    source = registered("xqg-made", MadeDocs(put(tmp_path / "docs", "12345"), docs))
    write_jsonl(tmp_path / "corpus.jsonl", PASSAGES)
    of_files = [passage for _, passage in data.read_corpus(tmp_path / "corpus.jsonl")]
    assert [passage for _, passage in data.read_corpus(source)] == of_files
    plain = registered("xqg-plain", MadeDocs(None, [GenericDoc("1", " a b ")]))
    assert [passage for _, passage in data.read_corpus(plain)] == [data.Passage("1", "", " a b ")]
    (described,) = data.describe_sources(source)
    assert (described["name"], described["ir_datasets"], described["bytes"]) == (source, ir_datasets.__version__, 5)
    put(tmp_path / "docs", "54321")
    (changed,) = data.describe_sources(source)
    assert changed["sha256"] != described["sha256"]
    assert data.describe_sources(plain) == [{"name": plain, "ir_datasets": ir_datasets.__version__}]


def test_documents_of_other_fields_are_what_ir_datasets_takes_for_their_text(registered):
    from ir_datasets.datasets.cord19 import Cord19Doc
    from ir_datasets.formats import ExctractedCCDoc

    cord = Cord19Doc("c1", "A title", "doi:1", "2020", "The abstract.")
    source = registered("xqg-cord", MadeDocs(None, [cord]))
    ((_, passage),) = data.read_corpus(source)
    assert (passage.full.split(), passage.title) == (cord.default_text().split(), "A title")
    ((_, passage),) = data.read_corpus(data.CorpusFile(source, text_field="abstract", title_field="date"))
    assert passage == data.Passage("c1", "2020", "The abstract.")
    news = ExctractedCCDoc("n1", "عنوان", "متن خبر", "http://x", "2016", "f")  # as neuclir/1/fa has them
    ((_, passage),) = data.read_corpus(registered("xqg-news", MadeDocs(None, [news])))
    assert passage == data.Passage("n1", "عنوان", "متن خبر")


def test_queries_and_judgements_are_questions_and_qrels(registered):
    queries = MadeQueries([GenericQuery("01", "où ?"), GenericQuery("q3", "qui ?")], "fr")
    source = registered("xqg-asked", queries, MadeQrels())
    assert data.read_questions(source) == [data.Question("01", "où ?", "fr"), data.Question("q3", "qui ?", "fr")]
    assert data.read_qrels(source) == {"01": {"007": 1}, "q3": {"d5": 2}}
    silent = registered("xqg-silent", MadeQueries([GenericQuery("1", "x")], None))
    assert data.read_questions(silent, "fi") == [data.Question("1", "x", "fi")]


def test_another_text_of_a_query_has_no_language_of_its_own(registered):
    from ir_datasets.formats import ExctractedCCNoReportNoHtNarQuery as Query

    query = Query("9", "title", "what", "story", "عنوان", "چه", "مت", "چه", "داستان", "fa")
    source = registered("xqg-neuclir", MadeQueries([query], "en"))
    assert data.read_questions(source) == [data.Question("9", "title", "en")]
    translated = data.QuestionFiles(source, "fa", question_field="ht_title")
    assert data.read_questions(translated) == [data.Question("9", "عنوان", "fa")]
    described = data.QuestionFiles(source, "en", question_field="description")
    assert data.read_questions(described) == [data.Question("9", "what", "en")]


def test_what_ir_datasets_does_not_have_is_answered_by_what_it_has(registered, monkeypatch):
    registered("xqg-made", MadeQueries([GenericQuery("1", "x")], None))
    registered("xqg-made/dev", MadeDocs(None, [GenericDoc("1", "x")]))
    version = ir_datasets.__version__
    assert message(ids, "irds:xqg-mad") == (
        f"irds:xqg-mad: ir_datasets {version} has no such data set (do you mean irds:xqg-made?)"
    )
    assert message(ids, "irds:xqg-made") == "irds:xqg-made: has no docs, but queries; irds:xqg-made/dev have"

    def unreachable(name: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(ir_datasets, "load", unreachable)  # as for families whose list is downloaded
    assert message(ids, "irds:xqg-made").startswith(
        "irds:xqg-made: ir_datasets cannot read its docs (OSError: no route); where there is a network, ir_datasets "
    )
    text = "irds:xqg-made: ir_datasets has no generated queries; give a path, or hf:NAME"
    assert message(list, data.read_generated("irds:xqg-made")) == text


def test_terms_are_said_and_nobody_is_asked(registered, monkeypatch):
    from ir_datasets.util import download

    class Locked(MadeDocs):
        def docs_iter(self):
            download._logger.info("Agree to\nthe terms of X.")
            if self.docs[0].text == "locked":
                download.input("user name: ")
            return iter(self.docs)

    monkeypatch.setitem(vars(download), "_logger", type("Logger", (), {})())
    monkeypatch.setitem(vars(download), "input", input)
    source = registered("xqg-terms", Locked(None, [GenericDoc("1", "open")]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert ids(source) == ["1"]
    assert [str(warning.message) for warning in caught] == [f"{source}: Agree to the terms of X."]
    source = registered("xqg-terms", Locked(None, [GenericDoc("1", "locked")]))
    assert message(ids, source) == (
        f"{source}: ir_datasets cannot read its docs (PermissionError: a user name and a password are needed; Agree to "
        "the terms of X.); where there is a network, ir_datasets export xqg-terms docs --format jsonl --out FILE "
        "writes a file to give instead, or bring its folder here (~/.ir_datasets, or IR_DATASETS_HOME)"
    )


# ---------------------------------------------------------------- Belebele

BELEBELE = [("1", 1, "Der Nil.", "Wo?"), ("1", 2, "Der Nil.", "Wer?"), ("2", 1, "Der Mond.", "Wie?")]


def test_belebele_is_passages_questions_and_judgements(tmp_path):
    keys = ("link", "question_number", "flores_passage", "question")
    rows = [dict(zip(keys, (f"http://x/{link}", *rest), strict=True)) for link, *rest in BELEBELE]
    path = write_jsonl(tmp_path / "deu_Latn.jsonl", [{**row, "dialect": "deu_Latn", "ds": "2023"} for row in rows])
    for source in (path, f"hf:{tmp_path}"):
        passages = [passage for _, passage in data.read_corpus(source)]
        assert passages == [data.Passage("http://x/1", "", "Der Nil."), data.Passage("http://x/2", "", "Der Mond.")]
        questions = data.read_questions(source)
        assert questions[1] == data.Question("http://x/1#2", "Wer?", "deu-Latn")
        judged = {question.id: question.id.partition("#")[0] for question in questions}
        assert data.read_qrels(source) == {qid: {docid: 1} for qid, docid in judged.items()}
    assert data.languages.same_language("deu-Latn", "de")


def test_split_of_a_name(hub):
    assert data.split_of(f"hf:{hub}:queries") == "test"
    assert data.split_of(hub / "questions.csv") is None
