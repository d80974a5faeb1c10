"""Topics as their makers publish them: ids, answers and languages are read right or refused."""

import json
import warnings

import pytest
from conftest import message, put, write_jsonl

from xqg_pyserini import data
from xqg_pyserini.data import Question, QuestionFiles


def read(source, language=None, **fields):
    """The questions of a source, and what is said of them, without its name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        questions = data.read_questions(QuestionFiles(source, language, **fields))
    return questions, [str(w.message).removeprefix(f"{source}: ") for w in caught]


AFRIQA = {
    "id": 7, "question": "Q?", "translated_question": "decoy", "answers": "['uku']", "lang": "hau",
    "split": "dev", "translated_answer": "['three']", "translation_type": "human_translation",
}  # fmt: skip
GOLD = {
    "answer_pivot": {"answer_start": [5], "text": ["three"]}, "context": "decoy", "id": "7",
    "question_lang": "Q?", "question_translated": "decoy", "title": "decoy", "answer_lang": "uku",
}  # fmt: skip
LISTS = "answers are lists written as text (\"['1912']\"); read as lists"
SHAPES = {
    "Tevatron": ({"query_id": "1", "query": "Q?", "positive_passages": []}, Question("1", "Q?"), []),
    "qid and query": ({"qid": 1, "query": "Q?"}, Question("1", "Q?"), []),
    "BEIR": ({"_id": "1", "text": "Q?", "metadata": {}}, Question("1", "Q?"), []),
    "SWIM-IR": (
        {"_id": "1", "lang": "Finnish", "code": "fi", "query": "Q?", "title": "d", "text": "d"},
        Question("1", "Q?", "fi"),
        ["read as SWIM-IR's: query, code"],
    ),
    "patapsco": (
        {"id": "1", "lang": "fas", "title": "Q?", "desc": "decoy"},
        Question("1", "Q?", "fas"),
        ["topics have a title and a description; the title is the question"],
    ),
    "AfriQA": (
        AFRIQA,
        Question("7", "Q?", "hau", ("three",)),
        [
            "read as AfriQA's queries: question, translated_answer (answers are those in the "
            "passages' language; answers_field names others)",
            LISTS,
        ],
    ),
    "AfriQA's gold passages": (
        GOLD,
        Question("7", "Q?", None, ("three",)),
        [
            "read as AfriQA's gold passages: question_lang, answer_pivot (answers are those in the passages' language)",
            "answers are objects, as SQuAD has them; their text is read",
        ],
    ),
    "DPR's JSON": (
        {"question": "Q?", "answer": ["a"]},
        Question("0", "Q?", None, ("a",)),
        ["read as DPR's: question and answers, no ids; numbered from 0, as Pyserini does"],
    ),
    "null before a text": (
        {"id": "1", "question": None, "text": "Q?"},
        Question("1", "Q?"),
        ["records whose question is empty; text is read"],
    ),
    "white space around it": ({"id": "1", "question": " Q?\u00a0\n"}, Question("1", "Q?"), []),
}


@pytest.mark.parametrize(("record", "expected", "said"), SHAPES.values(), ids=SHAPES)
def test_known_topics_are_read_and_what_is_decided_is_said_once(tmp_path, record, expected, said):
    other = {key: "8" for key in ("id", "qid", "_id", "query_id") if key in record}
    questions, notes = read(write_jsonl(tmp_path / "t", [record, {**record, **other}]))
    assert questions == [expected, expected._replace(id="8" if other else "1")]
    assert notes == said


CUT = "such lists that are not as Python writes them, cut at their quotes: 1, the first '1'"
ANSWERS = {
    "a list": (["a", "b"], ("a", "b"), []),
    "a string": ("1912", ("1912",), []),
    "none": (None, (), []),
    "a list as Python writes it": ("['1912', \"it's\"]", ("1912", "it's"), [LISTS]),
    "a list as JSON writes it": ('["1912", "a \\"b\\""]', ("1912", 'a "b"'), [LISTS]),
    "an empty list": ("[]", (), [LISTS]),
    "quotes that nothing escapes": (
        "['Jami'ar Ibadan', 'b']",
        ("Jami'ar Ibadan", "b"),
        [LISTS, CUT],
    ),
    "NumPy's list": (
        "['a' 'b']",
        ("a", "b"),
        [LISTS, CUT],
    ),
    "brackets that are no list": (
        "[1912]",
        ("[1912]",),
        ["answers in brackets that are no list of strings, read as they are: 1, the first '1'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("value", "expected", "said"), ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("key", ["answers", "answer"])
def test_answers_in_every_form(tmp_path, value, expected, said, key):
    path = write_jsonl(tmp_path / "t", [{"id": "1", "question": "Q?", key: value}])
    assert read(path) == ([Question("1", "Q?", None, expected)], said)


def test_fields_can_be_named(tmp_path):
    path = write_jsonl(tmp_path / "t", [AFRIQA])
    assert read(path, answers_field="answers")[0] == [Question("7", "Q?", "hau", ("uku",))]
    assert read(path, question_field="translated_question", answers_field="answers")[0] == [
        Question("7", "decoy", "hau", ("uku",))
    ]
    keys = "it has the keys " + ", ".join(AFRIQA)
    assert message(lambda p: read(p, question_field="q"), path) == (
        f"{path}, line 1: question '7' has no text (expected q); {keys}"
    )
    assert message(lambda p: read(p, answers_field="gold"), path) == (f"{path}, line 1: no key 'gold'; {keys}")
    assert message(lambda p: read(p, question_id_field="nr"), path) == (
        f"{path}, line 1: a record without id (expected one of nr); {keys}"
    )
    tsv = put(tmp_path / "t.tsv", "nr\twords\n1\tQ?\n")
    assert read(tsv, question_id_field="nr", question_field="words") == ([Question("1", "Q?")], [])


TSV = {
    "a header": ("qid\tquery\n1\twhere\n", [Question("1", "where")], []),
    "a header after #": ("#id\tquestion\n1\twhere\n", [Question("1", "where")], []),
    "a header in another order": (
        "Question\tLang\tID\nwhere\tfi\t1\n",
        [Question("1", "where", "fi")],
        [],
    ),
    "DPR": (
        "where does it end\t['sea', \"it's\"]\nriver\t['a']\n",
        [
            Question("0", "where does it end", None, ("sea", "it's")),
            Question("1", "river", None, ("a",)),
        ],
        ["read as DPR's: question and answers, no ids; numbered from 0, as Pyserini does"],
    ),
    "DPR, quoted": (
        'who "is" it\t"[""Aaron\'s""]"\n',
        [Question("0", 'who "is" it', None, ("Aaron's",))],
        ["read as DPR's: question and answers, no ids; numbered from 0, as Pyserini does"],
    ),
    "CSV": (
        'qid,question,answers\n1,"where, then","[""a, b""]"\n',
        [Question("1", "where, then", None, ("a, b",))],
        [LISTS],
    ),
    "a mark in the middle": ("1\ta\n\ufeff2\tb\n", [Question("1", "a"), Question("2", "b")], []),
    "quotes": (
        '1\t"what is ice"\n',
        [Question("1", '"what is ice"')],
        ["questions in quotes, which are kept, as Pyserini keeps them"],
    ),
    "ids of every kind": ("x/1:2#3\ta\n-5\tb", [Question("x/1:2#3", "a"), Question("-5", "b")], []),
}  # fmt: skip


@pytest.mark.parametrize(("content", "expected", "said"), TSV.values(), ids=TSV)
def test_tsv_is_read_with_a_header_or_as_dpr_writes_it(tmp_path, content, expected, said):
    assert read(put(tmp_path / "t.tsv", content)) == (expected, said)


NO_ID = "a record without id (expected one of id, qid, _id, query_id); it has the keys"
REFUSED = [
    (
        "where does it end\twhat\n",
        "'where does it end' stands where an id is expected: an id, a tab and the question, or "
        "DPR's question, tab and list of answers",
    ),
    ("qid\twords\n1\tx\n", "a header (qid, words) without question; expected an id, a tab and the question"),
    (
        '{"id": "1", "question": "Q?", "question": "R?"}',
        "the key 'question' stands twice in one object; its first value would be lost",
    ),
    ('{"id": "\\ufeffq", "question": "Q?"}', r"id '\ufeffq' holds a character that text files cannot carry"),
    ('{"id": -0, "question": "Q?"}', "id is -0.0, not a string"),
    ('{"1": "Q?", "2": "R?"}', f"{NO_ID} 1, 2"),
    (
        '{"topic_id": "1", "topics": [{"lang": "eng"}]}',
        "a topic in several languages, as HC4 has them: give the one that is wanted",
    ),
    ('{"id": "1", "question": "Q?", "answers": [1912]}', "the answers of question '1' are not a list of strings"),
]


@pytest.mark.parametrize(("content", "expected"), REFUSED)
def test_what_would_be_read_wrong_is_refused(tmp_path, content, expected):
    path = put(tmp_path / "t", content)
    assert message(read, path) == f"{path}, line 1: {expected}"


HC4 = {
    "topic_id": "101",
    "topics": [
        {"lang": "eng", "source": "original", "topic_title": "decoy", "topic_description": "decoy"},
        {"lang": "fas", "source": "human", "topic_title": "Q?", "topic_description": "decoy"},
        {"lang": "fas", "source": "machine", "topic_title": "decoy"},
    ],
}


def test_of_topics_in_several_languages_the_one_that_is_given_is_taken(tmp_path):
    path = write_jsonl(tmp_path / "t", [HC4])
    expected = "read as HC4's: topic_id, topic_title in the language given; descriptions are left out"
    several = "topics that have several texts in that language; the first is read: 1, the first '101'"
    assert read(path, "fa") == ([Question("101", "Q?", "fa")], [expected, several])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [q.id for q in data.read_questions({"fa": path, "en": path})] == ["fa-101", "en-101"]
    assert message(read, path, "ru") == f"{path}, line 1: topic '101' is not there in ru"


def test_a_row_has_no_record_though_the_file_before_it_had_some(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"id": "1", "question": "Q?", "more": 1}])
    put(tmp_path / "b.tsv", "2\tR?\n")
    records = [record for _, _, record in data.question_records(QuestionFiles(tmp_path))]
    assert records == [{"id": "1", "question": "Q?", "more": 1}, {}]


def test_every_row_of_dprs_questions_has_its_answers(tmp_path):
    path = put(tmp_path / "t", "a b\t['x']\nc\tno list\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert message(data.read_questions, path) == (
            f"{path}, line 2: 'no list' is no list of answers, as the lines above have"
        )


def test_records_with_and_without_ids_are_not_mixed(tmp_path):
    with_id, without = {"id": "1", "question": "Q?", "answers": []}, {"question": "R?", "answers": []}
    path = write_jsonl(tmp_path / "t", [with_id, without])
    assert message(read, path) == f"{path}, line 2: {NO_ID} question, answers"
    write_jsonl(path, [without, with_id])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert message(data.read_questions, path) == (
            f"{path}, line 2: a record with id after records without; it has the keys id, question, answers"
        )


def test_generated_queries_under_one_language_twice_are_refused(tmp_path):
    content = '{"docid": "1", "generated_queries": {"ar": ["one"], "ar": ["two"]}}'
    path = put(tmp_path / "g", content)
    assert message(lambda p: list(data.read_generated(p)), path) == (
        f"{path}, line 1: the key 'ar' stands twice in one object; its first value would be lost"
    )


# --- topics of several languages ------------------------------------------------------------------


def test_topics_that_number_alike_are_read_by_language_and_their_ids_prefixed(tmp_path):
    ko, te = put(tmp_path / "ko.tsv", "2\tfirst\n"), put(tmp_path / "te.tsv", "2\tsecond\n3\tx\n")
    assert message(data.read_questions, tmp_path) == (
        f"{te}, line 1: question id '2' again (first in {ko}, line 1); give each file its language"
    )
    questions = data.read_questions({"ko": ko, "te": te})
    assert questions == [
        Question("ko-2", "first", "ko"), Question("te-2", "second", "te"),
        Question("te-3", "x", "te"),
    ]  # fmt: skip
    qrels = put(tmp_path / "qrels", "2 0 10#0 1\n")
    assert data.read_qrels({"ko": qrels, "te": qrels}) == {"ko-2": {"10#0": 1}, "te-2": {"10#0": 1}}
    run = put(tmp_path / "run", "2 Q0 10#0 1 1.5 r\n")
    assert data.read_run({"ko": run}) == {"ko-2": {"10#0": 1.5}}
    other = put(tmp_path / "q.jsonl", json.dumps({"id": "9", "question": "y", "lang": "fi"}))
    assert [q.id for q in data.read_questions([ko, other])] == ["2", "9"]
    assert message(data.read_questions, {"ko": ko}, "ko") == ("a language is given beside a file for each language")
    assert "unknown language code" in message(data.read_questions, {"korean": ko})


@pytest.mark.parametrize(
    ("record", "question", "notes"),
    [
        (
            {"_id": "1", "title": "decoy", "text": "decoy", "query": "Q?"},
            Question("1", "Q?"),
            ["records have query, title and text; query is read"],
        ),
        (
            {"_id": "1", "title": "", "text": "Q?"},  # BEIR's queries as data sets hold them
            Question("1", "Q?"),
            ["records whose title is empty; text is read"],
        ),
        ({"id": "1", "qid": "2", "text": "Q?"}, Question("1", "Q?"), ["records have id and qid; id is the id"]),
        ({"id": "1", "text": "Q?", "lang": None, "language": "fi"}, Question("1", "Q?", "fi"), []),
        (
            {"id": "1", "text": "Q?", "lang": "fi", "language": "fr"},
            Question("1", "Q?", "fi"),
            ["records have lang and language; lang is read"],
        ),
        ({"id": "1", "text": "Q?", "answers": None, "answer": "a"}, Question("1", "Q?", None, ("a",)), []),
        (
            {"id": "1", "text": "Q?", "answers": ["a"], "answer": ["b"]},
            Question("1", "Q?", None, ("a",)),
            ["records have answers and answer; answers is read"],
        ),
        (
            {"id": "1", "text": "Q?", "answers": ["['a', 'b']", "c"]},
            Question("1", "Q?", None, ("a", "b", "c")),
            [LISTS],
        ),
    ],
)
def test_keys_that_say_the_same_twice_are_not_chosen_in_silence(tmp_path, record, question, notes):
    assert read(write_jsonl(tmp_path / "t.jsonl", [record])) == ([question], notes)


def test_a_header_of_questions_and_answers_is_one(tmp_path):
    questions, notes = read(put(tmp_path / "t.tsv", "question\tanswer\nwho is it\t['a']\n"))
    assert questions == [Question("0", "who is it", None, ("a",))]
    assert notes == ["read as DPR's: question and answers, no ids; numbered from 0, as Pyserini does"]


def test_a_header_with_an_unknown_name_for_the_id_is_no_question(tmp_path):
    path = put(tmp_path / "t.tsv", "number\ttitle\n301\tQ?\n")
    assert message(data.read_questions, path) == (
        f"{path}, line 1: a header (number, title) without id; expected an id, a tab and the question"
    )
    assert read(path, question_id_field="number") == ([Question("301", "Q?")], [])
    assert read(put(path, "301\ttitle\n")) == ([Question("301", "title")], [])
