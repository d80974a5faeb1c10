"""Runs, qrels, questions and corpora: values are read like files, and as strictly."""

import collections
import math

import numpy as np
import pytest
from conftest import message, put, write_jsonl

from xqg_pyserini import data
from xqg_pyserini.data import Passage, Question

Scored = collections.namedtuple("Scored", "query_id doc_id score")  # as ir_measures has them
Judged = collections.namedtuple("Judged", "query_id doc_id relevance iteration")


class Table:
    """What is used of a pandas DataFrame."""

    def __init__(self, row, rows):
        self._rows = [row(*values) for values in rows]

    def itertuples(self, index=True):
        assert index is False
        return iter(self._rows)


def in_order(run):
    return [(qid, list(hits.items())) for qid, hits in run.items()]


# --- runs -----------------------------------------------------------------------------------------

RUN = {"q2": {"a": 2.0, "b": 1.5}, "007": {"قطة": 0.25}}
ROWS = [("q2", "b", 1.5), ("q2", "a", 2.0), ("007", "قطة", 0.25)]
EXPECTED = [("q2", [("a", 2.0), ("b", 1.5)]), ("007", [("قطة", 0.25)])]


@pytest.mark.parametrize(
    "given",
    [
        RUN,
        {qid: dict(reversed(hits.items())) for qid, hits in RUN.items()},  # not in order
        collections.OrderedDict(RUN),
        ROWS,
        tuple(ROWS),
        [list(row) for row in ROWS],
        [Scored(*row) for row in ROWS],
        Table(Scored, ROWS),
        {qid: {d: np.float32(s) for d, s in hits.items()} for qid, hits in RUN.items()},
    ],
    ids=["dicts", "out of order", "mapping", "rows", "tuple", "lists", "named", "table", "numpy"],
)
def test_a_run_of_any_kind_is_ranked_by_its_scores(given):
    run = data.as_run(given)
    assert in_order(run) == EXPECTED
    assert {type(score) for hits in run.values() for score in hits.values()} == {float}


def test_a_run_of_a_file_or_of_rows_that_come_once_is_the_same(tmp_path):
    data.write_run(tmp_path / "r.trec", RUN, "xqg-r")
    for given in (tmp_path / "r.trec", str(tmp_path / "r.trec"), iter(ROWS), (r for r in ROWS)):
        assert in_order(data.as_run(given)) == EXPECTED


def test_hits_of_one_score_stay_in_their_order_and_questions_without_hits_stay():
    run = data.as_run({"none": {}, "q": {"z": 1, "a": 1, "m": 2}})
    assert in_order(run) == [("none", []), ("q", [("m", 2.0), ("z", 1.0), ("a", 1.0)])]


def test_the_given_run_is_left_as_it_is():
    given = {"q": {"a": 1.0, "b": 2.0}}
    data.as_run(given)["q"]["c"] = 0.0
    assert in_order(given) == [("q", [("a", 1.0), ("b", 2.0)])]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"q": {"d": math.nan}}, "run: the score of 'd' for 'q' is not a finite number"),
        ({"q": {"d": -math.inf}}, "run: the score of 'd' for 'q' is not a finite number"),
        ([("q", "d", np.float32("inf"))], "run: the score of 'd' for 'q' is not a finite number"),
        ({"q": {"d": "0.5"}}, "run: the score of 'd' for question 'q' is '0.5'"),
        ({"q": {"d": None}}, "run: the score of 'd' for question 'q' is None"),
        ([("q", "d", 1.0), ("p", "d", 1.0), ("q", "d", 0.5)], "run: passage 'd' comes twice for question 'q'"),
        ({"q": [("d", 1.0)]}, "'q': expected {docid: score}, not [('d', 1.0)]"),
        ({"q": {7: 1.0}}, "id 7: expected text"),
        ({7: {"d": 1.0}}, "id 7: expected text"),
        ([(7, "d", 1.0)], "id 7: expected text"),
        ([("q", 7, 1.0)], "id 7: expected text"),
        ([("q", "d e", 1.0)], "id 'd e': expected text without white space, which run files cannot carry"),
        ({"": {"d": 1.0}}, "id '': expected text without white space, which run files cannot carry"),
    ],
)
def test_a_run_that_is_none_is_refused(given, expected):
    assert message(data.as_run, given) == expected


def test_a_run_whose_file_could_not_be_read_again_is_not_written(tmp_path):
    assert "'d e'" in message(data.write_run, tmp_path / "r.trec", {"q": {"c": 2.0, "d e": 1.0}}, "xqg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [[("q", "d")], [("q", "d", 1.0, 2)], [7], ["qds"], 7, None])
@pytest.mark.parametrize("read", [data.as_run, data.as_qrels])
def test_rows_of_a_wrong_shape_are_refused(read, given):
    assert "expected" in message(read, given)


# --- qrels ----------------------------------------------------------------------------------------

QRELS = {"q1": {"a": 2, "b": 0}, "007": {"a": 0, "c": 1}}
JUDGED = [("q1", "a", 2), ("q1", "b", 0), ("007", "a", -1), ("007", "c", 1)]


@pytest.mark.parametrize(
    "given",
    [
        QRELS,
        JUDGED,
        [Judged(*row, "0") for row in JUDGED],
        Table(Judged, [(*row, "0") for row in JUDGED]),
        {"q1": {"a": 2.0, "b": False}, "007": {"a": np.int64(-3), "c": True}},
        iter(JUDGED),
    ],
    ids=["dicts", "rows", "named", "table", "whole numbers", "iterator"],
)
def test_qrels_of_any_kind_are_the_same(given, tmp_path):
    assert data.as_qrels(given) == QRELS
    lines = "".join(f"{q} 0 {d} {r}\n" for q, d, r in JUDGED)
    assert data.as_qrels(put(tmp_path / "qrels", lines)) == QRELS


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"q": {"d": 0.5}}, "qrels: relevance 0.5 of 'd' is not a whole number"),
        ({"q": {"d": math.nan}}, "qrels: relevance nan of 'd' is not a whole number"),
        ({"q": {"d": math.inf}}, "qrels: relevance inf of 'd' is not a whole number"),
        ({"q": {"d": "1"}}, "qrels: relevance '1' of 'd' is not a whole number"),
        ({"q": {"d": None}}, "qrels: relevance None of 'd' is not a whole number"),
        ({"q": {7: 1}}, "id 7: expected text"),
        ({"q": {}}, "qrels: no judgement; expected {qid: {docid: relevance}} or such rows"),
        ([], "qrels: no judgement; expected {qid: {docid: relevance}} or such rows"),
        ({"q": ["d"]}, "'q': expected {docid: relevance}, not ['d']"),
        ([("q", "d", 1), ("q", "d", 0)], "qrels: passage 'd' is judged twice for question 'q'"),
    ],
)
def test_qrels_that_are_none_are_refused(given, expected):
    assert message(data.as_qrels, given) == expected


# --- questions ------------------------------------------------------------------------------------

ASKED = [Question("007", "Q?", "ja", ("a", "b")), Question("-1", "R?", None, ())]
RECORDS = [{"id": "007", "question": "Q?", "lang": "ja", "answers": ["a", "b"]}, {"id": -1, "title": "R?"}]


def test_questions_of_a_file_or_of_values_are_the_same(tmp_path):
    path = write_jsonl(tmp_path / "q.jsonl", RECORDS)
    for given in (path, str(path), ASKED, iter(ASKED), tuple(ASKED), RECORDS, [ASKED[0], RECORDS[1]]):
        assert data.as_questions(given) == ASKED
    short = [Question("007", "Q?"), Question("-1", "R?")]
    pairs = [("007", "Q?"), ("-1", "R?")]
    for given in (dict(pairs), pairs, [list(pair) for pair in pairs], short):
        assert data.as_questions(given) == short
    assert data.as_questions([]) == []
    assert data.as_questions([Question("1", "Q?", None, None)]) == [Question("1", "Q?")]
    assert data.as_questions([Question("1", "Q?", None, "one")])[0].answers == ("one",)


def test_a_language_is_given_to_the_values_that_name_none():
    assert [q.language for q in data.as_questions(ASKED, "fi")] == ["ja", "fi"]
    assert [q.language for q in data.as_questions({"1": "Q?"}, "fi")] == ["fi"]
    assert message(data.as_questions, ASKED, "finnish").startswith("unknown language code")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"1": ""}, "questions, line 1: question '1' is empty"),
        ({"": "Q?"}, "questions, line 1: id is empty"),
        ({"a b": "Q?"}, "questions, line 1: id 'a b' holds white space, which run files cannot"),
        ([("1", "Q?"), ("1", "R?")], "questions, line 2: question id '1' again (first in questions"),
        ([*ASKED, ASKED[0]], "questions, line 3: question id '007' again (first in questions, line 1)"),
        ([("1", "Q?", "ar", (), 5)], "questions, line 1: expected a question, a record or (id, text)"),
        ([("1", 5)], "questions, line 1: expected a question, a record or (id, text), not ('1', 5)"),
        (["1"], "questions, line 1: expected a question, a record or (id, text), not '1'"),
        ([{"id": "1"}], "questions, line 1: question '1' has no text"),
        ([Question("1", "Q?", "Arabic")], "questions, line 1: unknown language code 'Arabic' (do you mean ar?)"),
        ([Question("1", "Q?", None, (5,))], "questions, line 1: the answers of question '1' are"),
        ([Question("1", "Q?", None, 7)], "questions, line 1: the answers of question '1' are"),
        ([Question("1", None)], "questions, line 1: question '1' is empty"),
        ([Question("1", 7)], "questions, line 1: text is 7, not a string"),
        (ASKED[0], "questions: expected a file or several questions, not Question("),
        (7, "questions: expected a file or several questions, not 7"),
        ({1.5: "Q?"}, "questions, line 1: id is 1.5, not a string"),
    ],
)
def test_questions_that_are_none_are_refused(given, expected):
    assert message(data.as_questions, given).startswith(expected)


# --- corpora --------------------------------------------------------------------------------------

PASSAGES = [Passage("007", "T", "Text."), Passage("-1", "", "x")]


def passages(source):
    return [passage for _, passage in data.as_corpus(source)]


def test_passages_of_a_file_or_of_values_are_the_same(tmp_path):
    records = [{"docid": "007", "title": "T", "text": "Text."}, {"id": -1, "contents": "x"}]
    path = write_jsonl(tmp_path / "c.jsonl", records)
    for given in (path, str(path), PASSAGES, iter(PASSAGES), records, [PASSAGES[0], records[1]]):
        assert passages(given) == PASSAGES
    untitled = [Passage("007", "", "Text."), Passage("-1", "", "x")]
    pairs = [("007", "Text."), ("-1", "x")]
    for given in (dict(pairs), pairs, [list(pair) for pair in pairs]):
        assert passages(given) == untitled


def test_values_of_a_corpus_are_read_lazily_and_know_their_place():
    def endless():
        number = 0
        while True:
            yield Passage(str(number), "", "x")
            number += 1

    reader = data.as_corpus(endless())
    first, second = next(reader), next(reader)
    assert [(line.number, passage.id) for line, passage in (first, second)] == [(1, "0"), (2, "1")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([Passage("1", "", " ")], "corpus, line 1: passage '1' has no text"),
        ({"1": ""}, "corpus, line 1: passage '1' has no text"),
        ([Passage("a b", "", "x")], "corpus, line 1: id 'a b' holds white space"),
        ([{"text": "x"}], "corpus, line 1: a record without id"),
        ([PASSAGES[0], 7], "corpus, line 2: expected a passage, a record or (id, text), not 7"),
        ([("1", "T", "x")], "corpus, line 1: expected a passage, a record or (id, text), not ('1'"),
        (["text"], "corpus, line 1: expected a passage, a record or (id, text), not 'text'"),
        ({"1": 5}, "corpus, line 1: expected a passage, a record or (id, text), not ('1', 5)"),
        ({None: "x"}, "corpus, line 1: id is None, not a string"),
        ([Passage("1", 5, "x")], "corpus, line 1: title is 5, not a string"),
        (7, "corpus: expected a file or several passages, not 7"),
        (PASSAGES[0], "corpus: expected a file or several passages, not Passage("),
    ],
)
def test_a_corpus_that_is_none_is_refused(given, expected):
    assert message(passages, given).startswith(expected)
