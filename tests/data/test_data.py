"""Readers take every format of every kind of file."""

import gzip
import json

import pytest
from conftest import message, put, write_jsonl
from made_records import BOM, generated, passages

from xqg_pyserini import data, files
from xqg_pyserini.data import Passage, Question
from xqg_pyserini.errors import UserError

IDS = ["007", "-1234567890123456789", "0", "قطة", "🐈‍⬛", "a/b:c", "1e5", "NaN"]


# --- the corpus -----------------------------------------------------------------------------------

CORPORA = {
    "contents": ('{"id": "1", "contents": "Text."}', ("1", "", "Text.", "Text.")),
    "title and text": ('{"id": "1", "title": "T", "text": "Text."}', ("1", "T", "Text.", "T Text.")),
    "no title": ('{"id": "1", "text": "Text."}', ("1", "", "Text.", "Text.")),
    "null title": ('{"id": "1", "title": null, "text": "x"}', ("1", "", "x", "x")),
    "text before contents": ('{"id": "1", "contents": "decoy", "title": "T", "text": "x"}', ("1", "T", "x", "T x")),
    "contents without text leave the title out": (
        '{"id": "1", "title": "decoy", "contents": "x"}',
        ("1", "", "x", "x"),
    ),
    "docid": ('{"docid": "1", "contents": "x"}', ("1", "", "x", "x")),
    "_id (BEIR)": ('{"_id": "1", "title": "T", "text": "x"}', ("1", "T", "x", "T x")),
    "id before docid": ('{"_id": "b", "docid": "a", "id": "1", "text": "x"}', ("1", "", "x", "x")),
    "number as id": ('{"id": -1234567890123456789, "text": "x"}', (IDS[1], "", "x", "x")),
    "extra keys": ('{"id": "1", "url": ["u"], "text": "x", "n": 3}', ("1", "", "x", "x")),
    "published shard": (
        '{"docid": "1", "title": "T", "text": "x", "generated_queries": {"ar": ["س"]}}',
        ("1", "T", "x", "T x"),
    ),
    "TSV": ("1\tText.\tT", ("1", "T", "Text.", "T Text.")),
    "TSV of two columns": ("1\tText.", ("1", "", "Text.", "Text.")),
    "TSV with an empty title": ("1\tText.\t", ("1", "", "Text.", "Text.")),
    "TSV with a header": ("id\ttext\ttitle\n1\tText.\tT", ("1", "T", "Text.", "T Text.")),
    "TSV, header in capitals": ("ID\tText\tTitle\n1\tText.\tT", ("1", "T", "Text.", "T Text.")),
    "TSV quoted": ('1\t"He said ""no"", twice."\tT', ("1", "T", 'He said "no", twice.', None)),
    "TSV, a stray quote stays": ('1\t"Unclosed\tT', ("1", "T", '"Unclosed', None)),
    "TSV, two quoted words are no quoting": ('1\t"a" or "b"\tT', ("1", "T", '"a" or "b"', None)),
    "TSV, white space around the text stays": ("1\t x \tT ", ("1", "T ", " x ", "T x")),
}


@pytest.mark.parametrize(("content", "expected"), CORPORA.values(), ids=CORPORA)
@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"\n\n \r\n"])
@pytest.mark.parametrize("start", [b"", BOM, BOM + b"\n\n"])
def test_one_passage_is_read_alike_whatever_stands_around_it(tmp_path, content, expected, ending, start):
    """Byte-order mark, Windows line ends and blank lines change nothing, gzip neither."""
    text = content.replace("\n", "\r\n") if ending.startswith(b"\r") else content
    raw = start + text.encode() + ending
    docid, title, body, full = expected
    for name, bytes_ in [("a.bin", raw), ("plain.gz", raw), ("zipped.jsonl", gzip.compress(raw))]:
        assert passages(put(tmp_path / name, bytes_)) == [Passage(docid, title, body)]
    assert full is None or Passage(docid, title, body).full == full


def test_each_file_of_a_directory_has_its_own_header_and_mark(tmp_path):
    put(tmp_path / "a.tsv", BOM + b"id\ttext\ttitle\n1\tone\tA\n2\ttwo\tB\n")
    put(tmp_path / "b.tsv", "3\tthree\tC\n")
    put(tmp_path / "c.jsonl", BOM + b'{"id": "4", "text": "four"}')
    put(tmp_path / "d.tsv.gz", gzip.compress(BOM + b"id\ttext\n5\tfive"))
    read = [(p.id, p.title, p.text) for p in passages(tmp_path)]
    assert read == [
        ("1", "A", "one"), ("2", "B", "two"), ("3", "C", "three"), ("4", "", "four"),
        ("5", "", "five"),
    ]  # fmt: skip


def test_a_directory_is_read_in_order_of_names_and_without_what_is_not_a_shard(tmp_path):
    names = ["10.jsonl", "9.jsonl", "B.json", "a.jsonl.gz", "a.jsonl", "z.tsv"]
    for name in names:
        raw = f'{{"id": "{name}", "text": "x"}}'.encode()
        put(tmp_path / name, gzip.compress(raw) if name.endswith("gz") else raw)
    for decoy in [".hidden.jsonl", "meta.json", "README.md", "z.txt", "y.gz", "x.jsonl.partial"]:
        put(tmp_path / decoy, '{"id": "decoy", "text": "x"}')
    (tmp_path / "folder.jsonl").mkdir()
    order = ["10.jsonl", "9.jsonl", "B.json", "a.jsonl", "a.jsonl.gz", "z.tsv"]
    assert [p.id for p in passages(tmp_path)] == order
    assert [path.name for path in files.expand(str(tmp_path))] == order


def test_a_glob_takes_what_it_matches_by_name_but_a_file_of_that_name_comes_first(tmp_path):
    for name in ["queries-2.jsonl", "queries-10.jsonl", "decoy.jsonl", "x[1].jsonl", "x1.jsonl"]:
        put(tmp_path / name, f'{{"id": "{name}", "text": "x"}}')
    (tmp_path / "queries-folder").mkdir()
    ids = [p.id for p in passages(f"{tmp_path}/queries-*")]
    assert ids == ["queries-10.jsonl", "queries-2.jsonl"]
    assert [p.id for p in passages(tmp_path / "x[1].jsonl")] == ["x[1].jsonl"]


def test_the_corpus_is_read_lazily_and_each_passage_knows_its_line(tmp_path):
    path = put(tmp_path / "c.jsonl", '\n{"id": "1", "text": "x"}\n\n{"id": "2", "text": "y"}\n{')
    reader = data.read_corpus(path)
    first_two = [next(reader), next(reader)]
    assert [(line.number, passage.id) for line, passage in first_two] == [(2, "1"), (4, "2")]
    assert {line.path for line, _ in first_two} == {path}
    assert message(next, reader).startswith(f"{path}, line 5: broken JSON (")


@pytest.mark.parametrize("header", ["id\ttitle\ttext", "title\tid\ttext", "text\ttitle\tid"])
def test_a_header_in_another_order_is_honoured_or_refused_but_never_a_passage(tmp_path, header):
    cells = {"id": "1", "text": "Text.", "title": "T"}
    path = put(tmp_path / "c.tsv", f"{header}\n" + "\t".join(cells[c] for c in header.split("\t")))
    try:
        assert passages(path) == [Passage("1", "T", "Text.")]
    except UserError as refused:
        assert str(refused).startswith(f"{path}, line 1: ")


@pytest.mark.parametrize("docid", IDS)
def test_ids_and_text_of_every_script_pass_unchanged(tmp_path, docid):
    """Line separators of Unicode do not end a line, and no form of a letter is normalised."""
    text = "مرحبا\u2028\u200fשלום\u0085 👩‍👩‍👧 e\u0301 \x0b\x1c\ufeff\u00a0"
    corpus = write_jsonl(tmp_path / "c.jsonl", [{"id": docid, "text": text}])
    assert passages(corpus) == [Passage(docid, "", text)]
    escaped = put(tmp_path / "e.jsonl", json.dumps({"id": docid, "text": text}))
    assert passages(escaped) == [Passage(docid, "", text)]
    tsv = put(tmp_path / "t.tsv", f"{docid}\t{text}\tT\n")
    assert passages(tsv) == [Passage(docid, "T", text)]
    questions = write_jsonl(tmp_path / "q.jsonl", [{"id": docid, "question": text, "lang": "ar"}])
    assert data.read_questions(questions) == [Question(docid, text.strip(), "ar", ())]
    queries = write_jsonl(tmp_path / "g.jsonl", [{"docid": docid, "generated_queries": {"he": [text]}}])
    assert generated(queries) == [(docid, {"he": (text,)})]
    run = {docid: {docid: 1.0}}
    data.write_run(tmp_path / "r.trec", run, "xqg-t")
    assert data.read_run(tmp_path / "r.trec") == run
    qrels = put(tmp_path / "qrels", f"{docid} 0 {docid} 1\n")
    assert data.read_qrels(qrels) == {docid: {docid: 1}}


# --- questions and generated queries --------------------------------------------------------------

QUESTIONS = {
    "XOR": (
        '{"id": "007", "question": "Q?", "lang": "ja", "answers": ["a", "b"], "split": "dev"}',
        Question("007", "Q?", "ja", ("a", "b")),
    ),
    "XOR without answers": ('{"id": "1", "question": "Q?", "lang": "ja"}', Question("1", "Q?", "ja", ())),
    "answers null": ('{"id": "1", "question": "Q?", "lang": "ja", "answers": null}', Question("1", "Q?", "ja", ())),
    "Pyserini JSONL": ('{"id": "1", "title": "Q?"}', Question("1", "Q?", None, ())),
    "number as id": ('{"id": 7, "title": "Q?"}', Question("7", "Q?", None, ())),
    "question before title": ('{"qid": "1", "title": "decoy", "question": "Q?"}', Question("1", "Q?", None, ())),
    "Pyserini TSV": ("007\tQ  ", Question("007", "Q", None, ())),
    "language": ('{"_id": "1", "text": "Q?", "language": "zh-Hans"}', Question("1", "Q?", "zh-Hans", ())),
}


@pytest.mark.parametrize(("content", "expected"), QUESTIONS.values(), ids=QUESTIONS)
def test_every_kind_of_topics_is_read(tmp_path, content, expected):
    raw = content.encode()
    for bytes_ in (raw, BOM + raw + b"\r\n\r\n", gzip.compress(raw)):
        assert data.read_questions(put(tmp_path / "topics", bytes_)) == [expected]


def test_a_language_is_given_to_the_questions_that_name_none(tmp_path):
    topics = put(tmp_path / "t.jsonl", '{"id":"1","title":"a","lang":"ru"}\n{"id":"2","title":"b"}')
    assert [q.language for q in data.read_questions(topics, "fi")] == ["ru", "fi"]
    assert [q.language for q in data.read_questions(topics)] == ["ru", None]


def test_generated_queries_keep_order_and_number_and_leave_other_keys(tmp_path):
    record = {
        "docid": "007", "title": "T", "text": "x", "model": {"ar": ["decoy"]},
        "generated_queries": {"ru": ["б", "а", "б"], "ar": [], "zh-Hans": [" "]},
    }  # fmt: skip
    path = write_jsonl(tmp_path / "queries-00000-of-00001.jsonl", [record, {**record, "docid": 8}])
    first, second = generated(path)
    assert first == ("007", {"ru": ("б", "а", "б"), "ar": (), "zh-Hans": (" ",)})
    assert second.docid == "8"


# --- shards ---------------------------------------------------------------------------------------


def put_shards(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        content = f'{{"docid": "{name}", "generated_queries": {{}}}}\n'.encode()
        put(folder / name, gzip.compress(content) if name.endswith(".gz") else content)
    return folder


COMPLETE = [
    [f"queries-{i:05d}-of-00003.jsonl.gz" for i in range(3)],
    [f"train-{i:05d}-of-00010.jsonl" for i in range(10)],
    ["q-00000-of-00002.jsonl", "q-00001-of-00002.jsonl.gz"],  # plain and packed
    ["ar-00000-of-00002.jsonl", "ar-00001-of-00002.jsonl", "ru-00000-of-00001.jsonl"],
    ["queries-00000-of-00001.jsonl", "more.jsonl"],
    ["xqg-2-of-3-best.jsonl", "a-1-of-7"],  # no shards: one says so before its end, one is no file
]


@pytest.mark.parametrize("names", COMPLETE, ids=lambda names: names[0])
def test_a_directory_with_all_its_shards_is_read_in_their_order(tmp_path, names):
    put_shards(tmp_path, *names)
    ids = [record.docid for record in generated(tmp_path)]
    assert ids == sorted(name for name in names if "." in name)


ADVICE = "; finish making them, or name those to read by a pattern such as '{0}/*.jsonl'"
INCOMPLETE = [
    (
        [f"queries-{i:05d}-of-00008.jsonl.gz" for i in (0, 1, 3, 5, 7)],
        "{0}: 3 of 8 shards are missing, the first is queries-00002-of-00008" + ADVICE,
    ),
    (
        [f"train-{i:05d}-of-00010.jsonl" for i in range(9)],
        "{0}: 1 of 10 shards are missing, the first is train-00009-of-00010" + ADVICE,
    ),
    (
        ["ar-0-of-2.jsonl", "ar-1-of-2.jsonl", "ru-1-of-2.json"],
        "{0}: 1 of 2 shards are missing, the first is ru-0-of-2" + ADVICE,
    ),
    (
        ["more.jsonl", "q-00001-of-00002.jsonl", "q-00000-of-00002.jsonl.tmp"],
        "{0}: 1 of 2 shards are missing, the first is q-00000-of-00002" + ADVICE,
    ),
    (
        ["q-00000-of-00002.jsonl", "q-00001-of-00003.jsonl", "q-00002-of-00003.jsonl"],
        "{0}: q-00000-of-00002.jsonl and q-00001-of-00003.jsonl are shards of two sets; "
        "put each into a folder of its own",
    ),
    (
        ["q-00000-of-00001.jsonl", "q-00000-of-00001.jsonl.gz"],
        "{0}: q-00000-of-00001.jsonl and q-00000-of-00001.jsonl.gz are one shard; remove one of them",
    ),
    (
        ["q-00001-of-00002.jsonl", "q-00002-of-00002.jsonl"],
        "{0}/q-00002-of-00002.jsonl: shard 2 of 2; shards are counted from 0",
    ),
]


@pytest.mark.parametrize(("names", "expected"), INCOMPLETE, ids=[e[1][:40] for e in INCOMPLETE])
def test_a_directory_that_lacks_shards_is_refused(tmp_path, names, expected):
    put_shards(tmp_path, *names)
    assert message(data.read_generated, tmp_path) == expected.format(tmp_path)


def test_shards_that_are_named_by_a_pattern_or_one_by_one_are_read_as_they_are(tmp_path):
    names = [f"q-{i:05d}-of-00004.jsonl" for i in (1, 3)]
    put_shards(tmp_path, *names)
    assert [record.docid for record in generated(f"{tmp_path}/*.jsonl")] == names
    assert [record.docid for record in generated(tmp_path / names[1])] == names[1:]


# --- runs and qrels -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1, -3, 100])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_a_run_is_ordered_by_rank_whatever_the_order_of_its_lines_and_first_rank(tmp_path, first, order):
    lines = [
        f"q1 Q0 d9 {first} 3.5 t", f"q1 Q0 d1 {first + 1} 3.5 t", f"q1 Q0 d5 {first + 9} -1e-3 t",
        f"q2\tQ0\td1\t{first}\t7\tt",
    ]  # fmt: skip
    path = put(tmp_path / "r", "\r\n".join(lines[i] for i in order) + "\n\n")
    run = data.read_run(path)
    assert run == {"q1": {"d9": 3.5, "d1": 3.5, "d5": -0.001}, "q2": {"d1": 7.0}}
    assert list(run["q1"]) == ["d9", "d1", "d5"]
    assert list(run) == (["q2", "q1"] if order[0] == 3 else ["q1", "q2"])
    assert data.read_run(put(tmp_path / "r.zip", gzip.compress(path.read_bytes()))) == run


def test_a_run_is_written_with_ranks_from_1_and_six_decimals(tmp_path):
    run = {"007": {"b": 1.23456789, "a": 0.1}, "none": {}, "q": {"b": -2e-7}}
    data.write_run(tmp_path / "new" / "r.trec", run, "xqg-x")
    assert (tmp_path / "new" / "r.trec").read_bytes() == (
        b"007 Q0 b 1 1.234568 xqg-x\n007 Q0 a 2 0.100000 xqg-x\nq Q0 b 1 -0.000000 xqg-x\n"
    )


def test_qrels_hold_what_was_judged_and_nothing_is_less_than_not_relevant(tmp_path):
    path = put(tmp_path / "qrels", "q1 0 a 2\nq1\t0\tb\t0\nq2 0 a -1\r\nq1 0 c 1")
    assert data.read_qrels(path) == {"q1": {"a": 2, "b": 0, "c": 1}, "q2": {"a": 0}}
    assert data.read_qrels(path, negative=True)["q2"] == {"a": -1}
    assert data.as_qrels({"q": {"a": -2, "b": 1}}, negative=True) == {"q": {"a": -2, "b": 1}}
