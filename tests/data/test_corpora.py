"""Corpora as their makers publish them: nothing is lost in silence, what is decided is said."""

import warnings

import pytest
from conftest import message, put, write_jsonl

from xqg_pyserini import data
from xqg_pyserini.data import CorpusFile, Passage
from xqg_pyserini.errors import XqgWarning


def read(source, **fields):
    """The passages of a corpus, and what is said of it, without its name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        passages = [passage for _, passage in data.read_corpus(CorpusFile(source, **fields))]
    assert all(issubclass(w.category, XqgWarning) for w in caught)
    return passages, [str(w.message).removeprefix(f"{source}: ") for w in caught]


SHAPES = {
    "MS MARCO v2.1 segments": (
        {"docid": "d#0", "url": "u", "title": "T", "headings": "H", "segment": "x"},
        Passage("d#0", "T", "x"),
        "read as MS MARCO v2.1 segments: docid, title, segment (headings and url are left out)",
    ),
    "MS MARCO v2 passages": (
        {"pid": "p_1", "passage": "x", "spans": "(0,5)", "docid": "D7"},
        Passage("p_1", "", "x"),
        "read as MS MARCO v2 passages: pid, title, passage",
    ),
    "MS MARCO v2 documents": (
        {"docid": "D7", "url": "u", "title": "T", "headings": "H", "body": "x"},
        Passage("D7", "T", "x"),
        "read as MS MARCO v2 documents: docid, title, body (headings and url are left out)",
    ),
    "AfriQA": (
        {"id": "3", "title": "T", "context": "x", "question_lang": "Q?"},
        Passage("3", "T", "x"),
        "read as AfriQA's passages: id, title, context",
    ),
    "BEIR": ({"_id": "1", "title": "T", "text": "x", "metadata": {}}, Passage("1", "T", "x"), None),
    "MIRACL": ({"docid": "7#0", "title": "T", "text": "x"}, Passage("7#0", "T", "x"), None),
    "SWIM-IR": (
        {"_id": "1", "lang": "Finnish", "code": "fi", "query": "Q?", "title": "T", "text": "x"},
        Passage("1", "T", "x"),
        None,
    ),
    "HC4": (
        {"id": "1", "cc_file": "f", "time": "t", "title": "T", "text": "x", "url": "u"},
        Passage("1", "T", "x"),
        None,
    ),
    "patapsco": ({"id": "1", "lang": "fas", "date": "", "text": "x"}, Passage("1", "", "x"), None),
    "MLQA": ({"pid": 0, "title": "T", "text": "x"}, Passage("0", "T", "x"), None),
    "title and contents": (
        {"id": "1", "title": "T", "contents": "x"},
        Passage("1", "", "x"),
        "records have title and contents; contents alone is read, and their titles are left out "
        "(name contents as text_field to have both)",
    ),
    "text and contents": (
        {"id": "1", "title": "T", "text": "x", "contents": "decoy"},
        Passage("1", "T", "x"),
        "records have text and contents; text, with title, is read",
    ),
    "two ids": (
        {"docid": "decoy", "id": "1", "text": "x"},
        Passage("1", "", "x"),
        "records have id and docid; id is the id",
    ),
}


@pytest.mark.parametrize(("record", "expected", "said"), SHAPES.values(), ids=SHAPES)
def test_known_records_are_read_and_what_is_decided_is_said_once(tmp_path, record, expected, said):
    again = {**record, next(k for k in ("pid", "id", "_id", "docid") if k in record): "other"}
    passages, notes = read(write_jsonl(tmp_path / "c.jsonl", [record, again]))
    assert passages == [expected, expected._replace(id="other")]
    assert notes == ([] if said is None else [said])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [p for _, p in data.as_corpus([record])] == [expected]


@pytest.mark.parametrize("key", ["Text", "body", "content", "passage", "segment", "txt"])
@pytest.mark.parametrize("more", [{}, {"text": None}])
def test_a_title_does_not_stand_for_a_text_under_another_key(tmp_path, key, more):
    path = write_jsonl(tmp_path / "c.jsonl", [{"id": "1", "title": "River", **more, key: "Long."}])
    keys = ", ".join(["id", "title", *more, key])
    assert message(read, path) == (
        f"{path}, line 1: passage '1' has no text (expected contents, or title and text); it has the keys {keys}"
    )
    passages, notes = read(path, text_field=key)
    assert (passages, notes) == ([Passage("1", "River", "Long.")], [])


@pytest.mark.parametrize("title", ["", "The river of that country"])
def test_an_empty_text_beside_a_long_one_under_another_key_is_not_left_out(tmp_path, title):
    record = {"id": "1", "title": title, "text": "", "body": "It is 1,200 km long."}
    path = write_jsonl(tmp_path / "c.jsonl", [record, {"id": "2", "text": "x"}])
    assert message(lambda p: read(p, skip_empty=True), path) == (
        f"{path}, line 1: passage '1' has no text (expected contents, or title and text); "
        "it has the keys id, title, text, body"
    )
    of_title = [Passage("1", title, "")] if title else []
    assert read(path, skip_empty=True, text_field="text")[0] == [*of_title, Passage("2", "", "x")]


def test_any_keys_can_be_named_and_one_that_is_not_there_is_an_error(tmp_path):
    records = [{"did": "8:2", "heading": "T", "txt": "x", "id": "d", "title": "d", "text": "d"}]
    path = write_jsonl(tmp_path / "c.jsonl", records)
    assert read(path, id_field="did", title_field="heading", text_field="txt")[0] == [Passage("8:2", "T", "x")]
    keys = "it has the keys did, heading, txt, id, title, text"
    assert message(lambda p: read(p, text_field="body"), path) == (f"{path}, line 1: no key 'body'; {keys}")
    assert message(lambda p: read(p, id_field="pid"), path) == (
        f"{path}, line 1: a record without id (expected one of pid); {keys}"
    )
    _, notes = read(path, title_field="Heading")
    assert notes == ["passages without the key Heading: 1, the first 'd'"]
    contents = write_jsonl(tmp_path / "k.jsonl", [{"id": "1", "title": "T", "contents": "x"}])
    assert read(contents, text_field="contents") == ([Passage("1", "T", "x")], [])


EMPTY = [
    {"id": "1", "title": "", "text": ""}, {"id": "2", "title": None, "context": None},
    {"id": "3", "contents": " "}, {"id": "4", "text": "x"},
]  # fmt: skip


NO_HEADER = "three columns without a header, read as id, text, title"
OPEN_QUOTES = "rows with a quote that nothing closes, read as a character like any other"


def test_passages_that_are_truly_empty_are_refused_or_skipped_and_counted(tmp_path):
    path = write_jsonl(tmp_path / "c.jsonl", EMPTY)
    assert message(read, path).startswith(f"{path}, line 1: passage '1' has no text (")
    passages, notes = read(path, skip_empty=True)
    assert passages == [Passage("4", "", "x")]
    assert notes == ["passages without text, left out: 3, the first '1'"]
    tsv = put(tmp_path / "c.tsv", "1\t\t\n2\t \tT\n3\tx\t\n")
    passages, notes = read(tsv, skip_empty=True)
    assert passages == [Passage("2", "T", " "), Passage("3", "", "x")]
    assert notes == [
        NO_HEADER,
        "passages without text, left out: 1, the first '1'",
        "passages with a title alone, which is encoded: 1, the first '2'",
    ]


# --- TSV ------------------------------------------------------------------------------------------

TSV = {
    "a quoted line end": (
        'id\ttext\ttitle\n1\t"first half\nsecond half"\tRiver\n2\tplain\tB\n',
        [Passage("1", "River", "first half\nsecond half"), Passage("2", "B", "plain")],
    ),
    "a second line that looks like an id": (
        '1\t"first\nsecond"\tRiver\n',
        [Passage("1", "River", "first\nsecond")],
    ),
    "blank lines and doubled quotes within quotes": (
        '1\t"one ""1""\n\nthree"\tT\r\n2\tx\tU\r\n',
        [Passage("1", "T", 'one "1"\n\nthree'), Passage("2", "U", "x")],
    ),
    "a tab within quotes": ('1\t"It is\tlong"\tRiver', [Passage("1", "River", "It is\tlong")]),
    "stray quotes": (
        '1\t"It is long.\tRiver\n2\tsix " seven\tB\n3\t"\tC\n4\t"a" b\tD\n',
        [
            Passage("1", "River", '"It is long.'), Passage("2", "B", 'six " seven'),
            Passage("3", "C", '"'), Passage("4", "D", '"a" b'),
        ],
    ),
    "a stray quote in a row of two columns": (
        '1\t"It is long.\n2\tHe said "no"\n',
        [Passage("1", "", '"It is long.'), Passage("2", "", 'He said "no"')],
    ),
    "columns in another order, capitals": (
        "Title\tID\tText\nRiver\t1\tIt is long.\n",
        [Passage("1", "River", "It is long.")],
    ),
    "other names": ("pid\tpassage\n1\tx\n", [Passage("1", "", "x")]),
    "a header after #": ("#id\ttext\ttitle\n1\tx\tT\n", [Passage("1", "T", "x")]),
    "CSV": (
        'id,title,text\n1,"River, the","long,\nand ""wide"""\n2,B,plain\n',
        [Passage("1", "River, the", 'long,\nand "wide"'), Passage("2", "B", "plain")],
    ),
    "CSV, all of it quoted": ('"id","text"\n"1","a, b"\n', [Passage("1", "", "a, b")]),
    "TSV, all of it quoted": ('"id"\t"text"\n"1"\t"a, b"\n', [Passage("1", "", "a, b")]),
    "commas that are no CSV": ("1\tx, y\n", [Passage("1", "", "x, y")]),
    "a mark in the middle": (
        "1\tx\tT\n\ufeff2\ty\t\n", [Passage("1", "T", "x"), Passage("2", "", "y")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TSV)
def test_rows_are_read_as_the_csv_module_writes_them_and_headers_known(tmp_path, name):
    content, expected = TSV[name]
    passages, notes = read(put(tmp_path / "c.tsv", content))
    assert passages == expected
    number = {"stray quotes": 2, "a stray quote in a row of two columns": 1}.get(name)
    said = [f"{OPEN_QUOTES}: {number}, the first line 1"] if number else []
    assert [note for note in notes if note != NO_HEADER] == said
    assert (NO_HEADER in notes) == (content[0] == "1" and expected[0].title != "")


ARRAYS = [
    '[{"id": "1", "text": "x"}, {"id": "2", "text": "y"}]',
    '\n[\n {"id": "1",\n "text": "x"},\n {"id": "2", "text": "y"}\n]\n',
]


@pytest.mark.parametrize("content", ARRAYS)
def test_an_array_over_the_whole_file_is_read(tmp_path, content):
    path = put(tmp_path / "c.json", content)
    assert read(path) == ([Passage("1", "", "x"), Passage("2", "", "y")], [])
    put(path, content.replace('"y"', "7"))
    assert message(read, path) == f"{path}, entry 2: text is 7, not a string"
    put(path, content.replace('"text": "y"', '"id": "3"'))
    assert message(read, path).endswith("the key 'id' stands twice in one object; its first value would be lost")
    put(path, "[1]")
    assert message(read, path) == f"{path}, entry 1: expected a JSON object, found int"
    put(path, content + "{}")
    assert message(read, path).endswith("; expected an array over the whole file")


def test_what_a_header_decides_is_said(tmp_path):
    path = put(tmp_path / "c.tsv", "id\turl\ttext\n1\tu\tx\n")
    assert read(path) == ([Passage("1", "", "x")], ["columns that are left out: url"])
    put(path, "id\ttext\n1\tx\n\ufeffid\ttext\n2\ty\n")
    passages, notes = read(path)
    assert [p.id for p in passages] == ["1", "2"]
    assert notes == ["the header again, in line 3: files joined into one?"]
    put(path, "nr\twords\n1\tx\n")
    named = {"id_field": "NR", "text_field": "words"}
    assert read(path, **named)[0] == [Passage("1", "", "x")]
    put(path, "1\tx\n")
    assert message(lambda p: read(p, **named), path) == f"{path}, line 1: no header with the column 'NR'"


LOST = "stands twice in one object; its first value would be lost"
UNCARRIED = "holds a character that text files cannot carry"
REFUSED = [
    ("id\turl\n1\tu\n", "a header (id, url) without text; expected id, text, title"),
    ("id\ttext\ttext\n", "a header with two columns for text; expected id, text, title"),
    ('{"id": "1", "id": "2", "text": "x"}', f"the key 'id' {LOST}"),
    ('{"id": "1", "text": "x", "a": {"b": 1, "b": 1}}', f"the key 'b' {LOST}"),
    ('{"id": "\\ufeff1", "text": "x"}', rf"id '\ufeff1' {UNCARRIED}"),
    ('{"id": "a\\u0000", "text": "x"}', rf"id 'a\x00' {UNCARRIED}"),
    ('[{"id": -0, "text": "x"}]', "id is -0.0, not a string"),
    ('{"id": -0, "text": "x"}', "id is -0.0, not a string"),
    ('{"id": ' + "9" * 200 + ', "text": "x"}', "id is a number of too many digits; write it as a string"),
]


@pytest.mark.parametrize(("content", "expected"), REFUSED)
def test_what_would_be_read_wrong_is_refused(tmp_path, content, expected):
    path = put(tmp_path / "c", content)
    assert message(read, path) == f"{path}, {'entry' if content[0] == '[' else 'line'} 1: {expected}"


def test_a_quoted_text_that_is_cut_by_a_tab_is_refused_where_its_row_lacks_a_column(tmp_path):
    path = put(tmp_path / "c", 'id\ttext\ttitle\n1\t"first\nsec\tond"\tT\n')
    assert message(read, path) == (
        f"{path}, line 2: a quote that nothing closes, and 2 of 3 columns; close it, or write the row in one line"
    )


def test_no_number_of_digits_is_more_than_broken_json(tmp_path):
    path = put(tmp_path / "c", '{"id": "1", "text": "x", "n": ' + "9" * 5000 + "}")
    assert message(read, path).startswith(f"{path}, line 1: broken JSON (Exceeds the limit")


@pytest.mark.parametrize("title", ["T", " T\t", "\u00a0T"])
@pytest.mark.parametrize("text", ["x", " x\n", "x\u3000"])
def test_white_space_around_a_text_is_not_encoded_but_stays_in_the_text(title, text):
    assert Passage("1", title, text).full == "T x"
    assert Passage("1", " ", text).full == "x"
    assert Passage("1", title, " ").full == "T"
    assert Passage("1", "A  b", "c \n d").full == "A  b c \n d"
    (passage,) = [p for _, p in data.as_corpus([Passage("1", title, text)])]
    assert (passage.title, passage.text) == (title, text)


@pytest.mark.parametrize("key", ["Title", "wikipedia_title", "headline"])
def test_a_title_under_another_key_is_not_lost_in_silence(tmp_path, key):
    path = write_jsonl(tmp_path / "c.jsonl", [{"id": "1", key: "T", "text": "x"}, {"id": "2", "text": "y"}])
    said = f"records have {key} and no title; texts alone are read (title_field names another key)"
    assert read(path) == ([Passage("1", "", "x"), Passage("2", "", "y")], [said])
    assert read(path, title_field=key)[0][0] == Passage("1", "T", "x")


@pytest.mark.parametrize("key", ["segment", "body", "content", "context", "passage", "Text", "paragraph"])
def test_a_short_text_under_another_key_is_not_an_empty_one_either(tmp_path, key):
    path = write_jsonl(tmp_path / "c.jsonl", [{"docid": "1", "title": "T", "text": " ", key: "short"}])
    assert message(read, path).endswith(f"it has the keys docid, title, text, {key}")


def test_rows_that_do_not_look_like_the_others_are_said(tmp_path):
    path = put(tmp_path / "c.tsv", "id\ttext\ttitle\n1\tx\tT\n2\tfirst\nhalf\tU\n")  # a line end without quotes
    passages, notes = read(path)
    assert [p.id for p in passages] == ["1", "2", "half"]
    assert notes == ["rows with fewer columns than others, of which what they lack is empty: 2, the first line 3"]
    passages, notes = read(put(path, '1\t"a\nb\tc\nd"\tT\n2\ty\tU\n'))
    assert [p.id for p in passages] == ["1", "b", 'd"', "2"]
    assert f"{OPEN_QUOTES}: 1, the first line 1" in notes
    assert read(put(path, "1\tx\n2\ty\n"))[1] == []


def test_three_columns_without_a_header_are_said(tmp_path):
    passages, notes = read(put(tmp_path / "c.tsv", "1\tx\tT\n2\ty\tU\n"))
    assert passages == [Passage("1", "T", "x"), Passage("2", "U", "y")]
    assert notes == [NO_HEADER]
