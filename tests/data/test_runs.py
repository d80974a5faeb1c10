"""Runs and qrels that trec_eval and others read: read alike, said, or refused."""

import gzip
import warnings

import pytest
from conftest import message, put

from xqg_pyserini import data


def said(read, *arguments, **options):
    """What is read, and what is said of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = read(*arguments, **options)
    return value, [str(w.message).removeprefix(f"{arguments[0]}: ") for w in caught]


def ordered(run):
    return {qid: list(hits.items()) for qid, hits in run.items()}


BY_SCORE = "all ranks are equal; ordered by score, equal scores by docid from z to a"
RUNS = {
    "a tag with spaces": (
        "q Q0 a 1 2.5 my best run\nq Q0 b 2 1.5 my best run\n",
        {"q": [("a", 2.5), ("b", 1.5)]},
        [],
    ),
    "no tag": (
        "q Q0 a 1 2.5\nq Q0 b 2 1.5\n",
        {"q": [("a", 2.5), ("b", 1.5)]},
        ["5 columns, read as qid Q0 docid rank score"],
    ),
    "four columns (ColBERT)": (
        "q\tb\t2\t1.5\nq\ta\t1\t2.5\n",
        {"q": [("a", 2.5), ("b", 1.5)]},
        ["4 columns, read as qid docid rank score"],
    ),
    "Tevatron": (
        "q\tb\t1.5\nq\tc\t1.5\nq\ta\t2.5\n",
        {"q": [("a", 2.5), ("c", 1.5), ("b", 1.5)]},
        [
            "no ranks; the third column is read as the score (Tevatron's), ordered by it, equal "
            "scores by docid from z to a"
        ],
    ),
    "MS MARCO": (
        "q\ta\t1\nq\tb\t2\np\ta\t1\n",
        {"q": [("a", 1.0), ("b", 0.5)], "p": [("a", 1.0)]},
        ["three columns; the third is read as the rank (MS MARCO's), the score is 1/rank"],
    ),
    "whole scores that are no ranks": (
        "q a 35\nq b 28\n",
        {"q": [("a", 35.0), ("b", 28.0)]},
        [
            "no ranks; the third column is read as the score (Tevatron's), ordered by it, equal "
            "scores by docid from z to a"
        ],
    ),
    "all ranks 0 (BEIR)": (
        "q Q0 b 0 8.5 t\nq Q0 a 0 9.5 t\nq Q0 c 0 8.5 t\np Q0 a 0 1 t\n",
        {"q": [("a", 9.5), ("c", 8.5), ("b", 8.5)], "p": [("a", 1.0)]},
        [BY_SCORE],
    ),
    "all ranks 1": ("q Q0 a 1 9 t\nq Q0 c 1 9.5 t\n", {"q": [("c", 9.5), ("a", 9.0)]}, [BY_SCORE]),
    "one hit a question": ("q Q0 a 1 9 t\np Q0 c 1 9 t", {"q": [("a", 9)], "p": [("c", 9)]}, []),
    "a rank that is whole": ("q Q0 a 1.0 1.5e-03 t", {"q": [("a", 0.0015)]}, []),
    "a line twice": (
        "q Q0 a 1 2 t\nq Q0 b 2 1 t\nq Q0 a 1 2 t\n",
        {"q": [("a", 2.0), ("b", 1.0)]},
        ["lines that come twice, of which one is read: 1, the first line 3"],
    ),
    "comments": (
        "# pool depth 10\n#q Q0 b 1 1 t\nq Q0 a#1 1 2 t\n",
        {"q": [("a#1", 2.0)]},
        ["lines that begin with #, left out as comments: 2, the first line 1"],
    ),
    "a header": ("docid,qid,rank,score\na,q,1,2.5\n", {"q": [("a", 2.5)]}, []),
    "a header with scores alone": (
        "query_id\tdoc_id\tscore\nq\ta\t1\nq\tb\t2\n",
        {"q": [("b", 2.0), ("a", 1.0)]},
        [],
    ),
    "a header after #": ("# qid docid rank\nq a 2\nq b 1\n", {"q": [("b", 1.0), ("a", 0.5)]}, []),
    "PyTerrier's": (
        "qid,docid,docno,rank,score,query\nq,7,a,0,2.5,who\nq,8,b,1,1.5,\"who, then\"\n",
        {"q": [("a", 2.5), ("b", 1.5)]},
        ["columns that are left out: docid, query"],
    ),
    "cells in quotes": ('"qid","docid","score"\n"q","a","2"\n', {"q": [("a", 2.0)]}, []),
    "ranx": (
        '{"q": {"b": 1.5, "c": 1.5, "a": 2}, "p": {}}',
        {"q": [("a", 2.0), ("c", 1.5), ("b", 1.5)]},
        ["read as ranx's JSON, {qid: {docid: value}}; a run is ordered by its scores"],
    ),
    "ranx, over lines": (
        '{\n "q": {\n  "a": 2\n }\n}\n',
        {"q": [("a", 2.0)]},
        ["read as ranx's JSON, {qid: {docid: value}}; a run is ordered by its scores"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "expected", "notes"), RUNS.values(), ids=RUNS)
def test_runs_that_others_read_are_read_and_what_is_decided_is_said(tmp_path, content, expected, notes):
    for raw in (content.encode(), gzip.compress(content.encode())):
        run, lines = said(data.read_run, put(tmp_path / "r", raw))
        assert (ordered(run), lines) == (expected, notes)


RISING = "q Q0 a 1 0.3 t\nq Q0 c 2 0.4 t\nq Q0 b 3 0.4 t\n"


def test_scores_that_contradict_ranks_are_refused_and_can_be_read_by_score(tmp_path):
    path = put(tmp_path / "r", RISING)
    assert message(data.read_run, path) == (
        f"{path}, line 2: the score of question 'q' rises at rank 2; to go by scores, order by "
        "'score' (negate distances first)"
    )
    expected = {"q": [("c", 0.4), ("b", 0.4), ("a", 0.3)]}
    assert ordered(data.read_run(path, order="score")) == expected
    assert ordered(data.as_run(data.RunFile(path, order="score"))) == expected
    assert message(data.read_run, path, order="rang") == "order is 'rang'; expected rank, score"
    ranks = put(tmp_path / "m", "q a 1\nq b 2\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert message(data.read_run, ranks, "score") == f"{ranks}: has ranks alone, no scores"


def test_scores_that_trec_eval_cannot_tell_apart_are_equal(tmp_path):
    """It reads them into 32 bits: 16777216 and 16777217 are one there, and z goes before a."""
    path = put(tmp_path / "r", "q Q0 a 0 16777217 t\nq Q0 z 0 16777216 t\nq Q0 b 0 16777218 t\n")
    assert ordered(data.read_run(path, order="score")) == {"q": [("b", 16777218), ("z", 16777216), ("a", 16777217)]}


REFUSED_RUNS = [
    ("q Q0 a 1 3 t\nq Q0 a 2 2 t\n", "line 2: passage 'a' comes twice for question 'q'"),
    ("q Q0 a 1 3 t\nq Q0 b 1 3 t\nq Q0 c 2 1 t\n", "line 2: rank 1 of question 'q' comes twice"),
    ("q Q0 a 1 0,75 t\n", "line 1: rank '1' or score '0,75' is not a number"),
    ("q Q0 a 1 1_0 t\n", "line 1: rank '1' or score '1_0' is not a number"),
    ("q Q0 a 1_0 1 t\n", "line 1: rank '1_0' or score '1' is not a number"),
    ("q Q0 a 1.5 1 t\n", "line 1: rank '1.5' or score '1' is not a number"),
    ("q Q0 a 1 1e400 t\n", "line 1: score '1e400' is not a finite number"),
    ("q a 3\nq b 2\nq c 1\n", "line 1: three columns, and the third may be ranks or scores; write "
     "qid Q0 docid rank score tag"),
    ("q Q0 a 1 2 t\nq Q0 b 2 1\n", "line 2: 5 columns; expected six: qid Q0 docid rank score tag"),
    ("q Q0 a b 1 2.5 t\nq Q0 a c 2 1.5 t\n", "line 1: rank 'b' or score '1' is not a number"),
    ("q Q0 a 1 2 2.5 t\nq Q0 b 4 3 1.5 t\n", "line 2: 7 columns; expected six: qid Q0 docid rank "
     "score tag"),
    ("q Q0 a\n", "line 1: 3 columns; expected six: qid Q0 docid rank score tag"),
    ('{"q": {"a": 1, "a": 2}}', "line 1: the key 'a' stands twice in one object; its first value "
     "would be lost"),
    ('{"q": {"a": "x"}}', "line 1: 'q', 'a': 'x' is not a number"),
    ('{"q": [1]}', "line 1: 'q': expected {docid: value}, not [1]"),
    ('{"q q": {"a": 1}}', "line 1: qid 'q q' holds white space, which run files cannot carry"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), REFUSED_RUNS)
def test_runs_that_contradict_themselves_are_refused(tmp_path, content, expected):
    path = put(tmp_path / "r", content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert message(data.read_run, path) == f"{path}, {expected}"


QRELS = {
    "BEIR": ("query-id\tcorpus-id\tscore\nq\ta\t1\n", {"q": {"a": 1}}, []),
    "three columns": ("q\ta\t1\n", {"q": {"a": 1}}, ["three columns, read as qid docid relevance"]),
    "commas": ("q,0,a,1\nq,0,b,0\n", {"q": {"a": 1, "b": 0}}, []),
    "commas and a header": ("query-id,corpus-id,score\nq,a,2\n", {"q": {"a": 2}}, []),
    "whole numbers with a point": ("q 0 a 1.0\nq 0 b 0.0\n", {"q": {"a": 1, "b": 0}}, []),
    "comments": (
        "# pool depth 10\nq 0 a 1\n",
        {"q": {"a": 1}},
        ["lines that begin with #, left out as comments: 1, the first line 1"],
    ),
    "judged twice, alike": (
        "q 0 a 1\nq 0 b 0\nq 0 a 1\n",
        {"q": {"a": 1, "b": 0}},
        ["judgements that come twice, alike: 1, the first line 3"],
    ),
    "ranx": ('{"q": {"a": 1, "b": 0}}', {"q": {"a": 1, "b": 0}}, ["read as ranx's JSON, {qid: {docid: value}}"]),
    "commas and spaces": ("q, 0, a, 1\nq, 0, b, 0\n", {"q": {"a": 1, "b": 0}}, []),
}


@pytest.mark.parametrize(("content", "expected", "notes"), QRELS.values(), ids=QRELS)
def test_qrels_that_others_read_are_read(tmp_path, content, expected, notes):
    assert said(data.read_qrels, put(tmp_path / "qrels", content)) == (expected, notes)


def test_relevance_below_0_is_kept_where_it_is_asked_for(tmp_path):
    path = put(tmp_path / "qrels", "q 0 a -2\nq 0 b 1\nq 0 c 0\n")
    values = {"q": {"a": -2, "b": 1, "c": 0}}
    for read, source in ((data.read_qrels, path), (data.as_qrels, path), (data.as_qrels, values)):
        assert read(source) == {"q": {"a": 0, "b": 1, "c": 0}}
        assert read(source, negative=True) == values


REFUSED_QRELS = [
    ("q 0 a 1\nq 0 a 0\n", "line 2: passage 'a' is judged twice for question 'q': 1, then 0"),
    ("q 0 a -1\nq 0 a 0\n", "line 2: passage 'a' is judged twice for question 'q': -1, then 0"),
    ("q 0 a 0.5\n", "line 1: relevance '0.5' is not a whole number"),
    ('{"q": {"a": 0.5}}', "line 1: relevance 0.5 is not a whole number"),
    ("q 0 a 1_0\n", "line 1: relevance '1_0' is not a whole number"),
    (
        '{"query-id": "q", "corpus-id": "a", "score": 1}\n{"query-id": "q", "corpus-id": "b"}\n',
        "line 2: score is None, not a number; it has the keys query-id, corpus-id",
    ),
    ("q 0 a nan\n", "line 1: relevance 'nan' is not a whole number"),
    ("q Q0 a 1 2.5 t\n", "line 1: 6 columns; expected four: qid 0 docid relevance"),
    ("q 0 7\n", "line 1: 3 columns; expected four: qid 0 docid relevance"),
    ("qid docid rank\nq a 1\n", "line 2: a header without a column for the relevance"),
]


@pytest.mark.parametrize(("content", "expected"), REFUSED_QRELS)
def test_qrels_that_contradict_themselves_are_refused(tmp_path, content, expected):
    path = put(tmp_path / "qrels", content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert message(data.read_qrels, path) == f"{path}, {expected}"
