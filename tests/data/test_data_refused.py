"""What readers cannot take is named by file and line."""

import gzip

import pytest
from conftest import message, put
from made_records import BOM, generated, passages

from xqg_pyserini import data
from xqg_pyserini.data import read_corpus

OK_P, OK_Q = '{"id": "1", "text": "x"}\n', '{"id": "1", "question": "x", "lang": "ar"}\n'
OK_G = '{"docid": "1", "generated_queries": {"ar": ["x"]}}\n'
READERS = {
    "corpus": passages, "questions": data.read_questions, "generated": generated,
    "run": data.read_run, "qrels": data.read_qrels,
}  # fmt: skip

# reader, what the file holds, the whole message after the file's name
TABS = "; cells stand between tabs (or commas, below a first line with their names)"
BAD = [
    ("corpus", "", ": no passage in it; expected at least one"),
    ("corpus", BOM, ": no passage in it; expected at least one"),
    ("corpus", " \r\n\n", ": no passage in it; expected at least one"),
    ("corpus", gzip.compress(b"", mtime=0), ": no passage in it; expected at least one"),
    ("corpus", "id\ttext\ttitle\n", ": no passage in it; expected at least one"),
    ("questions", "", ": no question in it; expected at least one"),
    ("generated", "", ": no generated queries in it; expected at least one"),
    ("run", "", ": no hit in it; expected a TREC run"),
    ("qrels", "\n", ": no judgement in it; expected TREC qrels"),
    ("corpus", OK_P + "\n[1]", ", line 3: expected a JSON object, found list"),
    ("corpus", OK_P + '"id"', ", line 2: expected a JSON object, found str"),
    (
        "corpus",
        OK_P + '{"text": "x"}',
        ", line 2: a record without id (expected one of id, docid, _id, pid, doc_id); it has the keys text",
    ),
    (
        "questions",
        '{"question": "x"}',
        ", line 1: a record without id (expected one of id, qid, _id, query_id); it has the keys question",
    ),
    (
        "generated",
        OK_G + '{"generated_queries": {}}',
        ", line 2: a record without id (expected one of docid, id, _id); it has the keys generated_queries",
    ),
    ("corpus", '{"id": null, "text": "x"}', ", line 1: id is None, not a string"),
    ("corpus", '{"docid": 1.5, "text": "x"}', ", line 1: docid is 1.5, not a string"),
    ("corpus", '{"id": true, "text": "x"}', ", line 1: id is True, not a string"),
    ("corpus", '{"id": ["1"], "text": "x"}', ", line 1: id is ['1'], not a string"),
    ("corpus", '{"id": "", "text": "x"}', ", line 1: id is empty"),
    ("corpus", "1\tx\tT\n\tx\tT", ", line 2: id is empty"),
    ("corpus", '{"id": "a b", "text": "x"}', ", line 1: id 'a b' holds white space, which run files cannot carry"),
    ("questions", "1\tx\n\u00a02\ty", ", line 2: id '\\xa02' holds white space, which run files cannot carry"),
    (
        "generated",
        '{"docid": "a\\n", "generated_queries": {}}',
        ", line 1: docid 'a\\n' holds white space, which run files cannot carry",
    ),
    (
        "corpus",
        '{"id": "1", "text": " \\t"}',
        ", line 1: passage '1' has no text (expected contents, or title and text)",
    ),
    (
        "corpus",
        '{"id": "1"}',
        ", line 1: passage '1' has no text (expected contents, or title and text); it has the keys id",
    ),
    ("corpus", '{"id": "1", "contents": ["x"]}', ", line 1: contents is ['x'], not a string"),
    ("corpus", '{"id": "1", "title": 3, "text": "x"}', ", line 1: title is 3, not a string"),
    ("corpus", "1\n", f", line 1: 1 columns; expected id, text, title{TABS}"),
    (
        "corpus",
        "1\tx\tT\n2\tx\tT\tU",
        ", line 2: 4 columns; expected id, text, title; a first line with their names says what others hold",
    ),
    ("corpus", '{"id": "1", "text": "\\ud83d"}', ", line 1: holds half a surrogate pair (\\ud800-\\udfff), not text"),
    (
        "corpus",
        OK_P.encode() + b'{"id": "2", "text": "caf\xe9"}',
        ", line 2: not UTF-8 (byte 25 of the line); convert it",
    ),
    ("questions", "q\n", f", line 1: 1 columns; expected an id, a tab and the question{TABS}"),
    (
        "questions",
        "q\ta\tb",
        ", line 1: 3 columns; expected an id, a tab and the question; "
        "a first line with their names says what others hold",
    ),
    ("questions", "1\t \u2003", ", line 1: question '1' is empty"),
    ("questions", OK_Q + '{"id": "2", "question": ""}', ", line 2: question '2' is empty"),
    (
        "questions",
        '{"id": "1", "lang": "ar"}',
        ", line 1: question '1' has no text (expected question or title); it has the keys id, lang",
    ),
    (
        "questions",
        '{"id": "1", "question": "x", "lang": "Arabic"}',
        ", line 1: unknown language code 'Arabic' (do you mean ar?): expected BCP 47 or ISO 639, e.g. fi hau pt-BR",
    ),
    (
        "questions",
        '{"id": "1", "question": "x", "lang": 5}',
        ", line 1: unknown language code 5: expected BCP 47 or ISO 639, e.g. fi hau pt-BR",
    ),
    (
        "questions",
        '{"id": "1", "question": "x", "answers": ["a", 5]}',
        ", line 1: the answers of question '1' are not a list of strings",
    ),
    ("generated", "1\tx", ", line 1: expected JSON Lines, found '1\\tx'"),
    (
        "generated",
        '{"docid": "1", "queries": {}}',
        ", line 1: passage '1' has no generated_queries "
        '(expected {"docid": …, "generated_queries": {"ar": ["…", …], …}}); '
        "it has the keys docid, queries",
    ),
    (
        "generated",
        '{"docid": "1", "generated_queries": {"ar": "x"}}',
        ", line 1: the ar queries of '1' are not a list of strings",
    ),
    (
        "generated",
        '{"docid": "1", "generated_queries": {"ar": ["x", null]}}',
        ", line 1: the ar queries of '1' are not a list of strings",
    ),
    (
        "generated",
        '{"docid": "1", "generated_queries": {"../x": ["x"]}}',
        ", line 1: unknown language code '../x': expected BCP 47 or ISO 639, e.g. fi hau pt-BR",
    ),
    ("run", "q Q0 d 1 0.5 t\nq Q0 e 2 0.5", ", line 2: 5 columns; expected six: qid Q0 docid rank score tag"),
    ("run", "q Q0 d one 0.5 t", ", line 1: rank 'one' or score '0.5' is not a number"),
    ("run", "q Q0 d 1 high t", ", line 1: rank '1' or score 'high' is not a number"),
    ("run", "q Q0 d 1 nan t", ", line 1: score 'nan' is not a finite number"),
    ("run", "q Q0 d 1 -inf t", ", line 1: score '-inf' is not a finite number"),
    (
        "run",
        "q Q0 d 1 0.5 t\np Q0 d 1 9 t\nq Q0 e 1 0.5 t\nq Q0 f 2 0.4 t",
        ", line 3: rank 1 of question 'q' comes twice",
    ),
    (
        "run",
        "q Q0 d 2 0.6 t\nq Q0 e 1 0.5 t",
        ", line 1: the score of question 'q' rises at rank 2; to go by scores, order by 'score' "
        "(negate distances first)",
    ),
    ("run", "q Q0 d 1 0.5 t\nq Q0 e 2 0.5 t\nq Q0 d 3 0.4 t", ", line 3: passage 'd' comes twice for question 'q'"),
    ("qrels", "q d", ", line 1: 2 columns; expected four: qid 0 docid relevance"),
    ("qrels", "q 0 d 1\nq 0 e 0.5", ", line 2: relevance '0.5' is not a whole number"),
    ("qrels", "q 0 d 1\nq 0 d 0", ", line 2: passage 'd' is judged twice for question 'q': 1, then 0"),
]


@pytest.mark.parametrize(("reader", "content", "expected"), BAD)
def test_what_cannot_be_read_is_named_by_file_and_line(tmp_path, reader, content, expected):
    path = put(tmp_path / "in.put", content)
    assert message(READERS[reader], path) == f"{path}{expected}"


@pytest.mark.parametrize("reader", ["corpus", "questions", "generated"])
@pytest.mark.parametrize("broken", ['{"id": "2", "text": "x"', '{"id": "2"} {"id": "3"}', "{'id'}"])
def test_broken_json_is_named_by_its_line(tmp_path, reader, broken):
    good = {"corpus": OK_P, "questions": OK_Q, "generated": OK_G}[reader]
    path = put(tmp_path / "in.jsonl", BOM + f"\r\n{good}\r\n{broken}\r\n{good}".encode())
    text = message(READERS[reader], path)
    assert text.startswith(f"{path}, line 4: broken JSON (")
    assert text.endswith("); expected one object a line")


@pytest.mark.parametrize("opened", ["[" * 200, '[{"a": ' * 100, "[" * 200_000, '{"a":' * 100_000])
def test_json_nested_beyond_reason_is_refused(opened, tmp_path):
    path = put(tmp_path / "in.jsonl", OK_P + '{"id": "2", "text": ' + opened)
    said = message(READERS["corpus"], path)
    assert said == f"{path}, line 2: broken JSON (nested more than 200 deep); expected one object a line"


def test_brackets_side_by_side_and_in_texts_are_not_nested(tmp_path):
    closed, text = ", ".join(["[{}]"] * 300), '[{\\"' * 300  # the text has quotes in it, too
    path = put(tmp_path / "in.jsonl", f'{{"id": "1", "text": "{text}", "more": [{closed}]}}\n')
    ((_, passage),) = read_corpus(path)
    assert passage.text == '[{"' * 300
    deepest = "[" * 199 + "]" * 199
    path = put(tmp_path / "deep.jsonl", f'{{"id": "1", "text": "t", "more": {deepest}}}\n')
    assert len(list(read_corpus(path))) == 1


@pytest.mark.parametrize("reader", list(READERS))
def test_a_missing_file_is_named(tmp_path, reader):
    path = tmp_path / "gone"
    expected = {"run": "no such run file", "qrels": "No such file or directory"}
    expected = expected.get(reader, "no such file or directory")
    assert message(READERS[reader], path) == f"{path}: {expected}"


def test_a_directory_without_a_file_to_read_is_an_error_that_lists_the_endings(tmp_path):
    put(tmp_path / "corpus.txt", OK_P)
    assert message(passages, tmp_path) == (
        f"{tmp_path}: no file in this directory ends in .jsonl, .json, .tsv, .csv, or these with "
        ".gz, .bz2, .xz, .zst; it holds corpus.txt"
    )
    assert message(passages, f"{tmp_path}/*.jsonl") == f"{tmp_path}/*.jsonl: no such file or directory"
    assert message(passages, f"{tmp_path}/*.jsonl") == f"{tmp_path}/*.jsonl: no such file or directory"
    assert message(data.read_qrels, tmp_path) == f"{tmp_path}: Is a directory"


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize("damage", ["cut", "flipped", "header"])
def test_a_gzip_stream_that_ends_early_or_is_damaged_is_an_error(tmp_path, reader, damage):
    lines = {
        "corpus": lambda i: f'{{"id": "{i}", "text": "x"}}', "questions": lambda i: f"{i}\tx",
        "generated": lambda i: f'{{"docid": "{i}", "generated_queries": {{}}}}',
        "run": lambda i: f"{i} Q0 d 1 1 t", "qrels": lambda i: f"{i} 0 d 1",
    }[reader]  # fmt: skip
    whole = gzip.compress("\n".join(map(lines, range(2000))).encode(), mtime=0)
    flipped = whole[:-6] + bytes([whole[-6] ^ 255]) + whole[-5:]
    path = tmp_path / "in.gz"
    put(path, {"cut": whole[: len(whole) // 2], "flipped": flipped, "header": whole[:7]}[damage])
    text = message(READERS[reader], path)
    assert text.startswith(f"{path}, after line ")
    assert text.endswith(": the gzip stream is damaged or ends early; make or download the file again")


def test_a_question_id_that_comes_twice_is_named_with_both_places(tmp_path):
    first, second = put(tmp_path / "a.jsonl", "\n" + OK_Q), put(tmp_path / "b.tsv", "2\tx\n1\tx\n")
    assert message(data.read_questions, tmp_path) == (
        f"{second}, line 2: question id '1' again (first in {first}, line 2); give each file its language"
    )
    put(second, "01\tx\n1.0\tx\n")
    assert [q.id for q in data.read_questions(tmp_path)] == ["1", "01", "1.0"]
