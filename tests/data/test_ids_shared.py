"""Ids of two sides that share few of them, and names of runs."""

import warnings

import pytest
from conftest import message

from xqg_pyserini import data
from xqg_pyserini.errors import XqgWarning

FEW = {
    "case": ({"q1", "q2"}, {"Q1", "Q2"}, "q1", "Q1", "upper and lower case differ"),
    "zeros": (
        {"001", "012"}, {"1", "12"}, "001", "1",
        "numbers are padded with zeros or have a decimal point on one side",
    ),
    "a number for a string": (
        {"1.0", "2.0"}, {"1", "2"}, "1.0", "1",
        "numbers are padded with zeros or have a decimal point on one side",
    ),
    "an ending": (
        {"q1", "q2"}, {"q1.X", "q2.X"}, "q1", "q1.X",
        "one side's have an ending more, such as -0 or #chunk",
    ),
    "a chunk": (
        {"D1#0", "D2#3"}, {"D1", "D2"}, "D1#0", "D1",
        "one side's have an ending more, such as -0 or #chunk",
    ),
    "a language": (
        {"10", "11"}, {"ar-10", "ar-11", "fi-12"}, "10", "ar-10",
        "one side's have a beginning more, such as a language or a folder",
    ),
    "an invisible character": (
        {"1\u200b"}, {"1"}, "1\u200b", "1",
        "white space, invisible characters or accents are written otherwise",
    ),
    "composed and decomposed": (
        {"caf\u00e9"}, {"cafe\u0301"}, "caf\u00e9", "cafe\u0301",
        "white space, invisible characters or accents are written otherwise",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("left", "right", "one", "other", "why"), FEW.values(), ids=FEW)
def test_sides_without_an_id_in_common_are_refused_with_examples(left, right, one, other, why):
    expected = (
        f"none of the {len(left)} question ids of run.trec are in qrels.txt: {one!r} in run.trec, "
        f"{other!r} in qrels.txt; perhaps {why}"
    )
    sides = left, right, "run.trec", "qrels.txt", "question ids"
    assert data.overlap_note(*sides) == expected
    assert message(data.check_overlap, *sides) == expected


def test_sides_that_share_few_ids_are_warned_of_and_most_are_fine():
    left = {"q1", "Q2", "Q3"}
    right = dict.fromkeys(["q1", "q2", "q3", "q4"])
    with pytest.warns(XqgWarning, match="^1 of the 3 ids of a are in b: 'Q2' in a, 'q2' in b"):
        data.check_overlap(left, right, "a", "b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.check_overlap({"q1", "q2", "x"}, right, "a", "b")
        data.check_overlap(set(), right, "a", "b")
    assert data.overlap_note({"d7"}, {"x1", "x2"}, "a", "b") == (
        "none of the 1 ids of a are in b: 'd7' in a, 'x1' in b"
    )


NAMES = [
    (["run.miracl-ko.bm25", "run.miracl-ko.mdpr"], ["run.miracl-ko.bm25", "run.miracl-ko.mdpr"]),
    (["run.b0.1", "d/run.b0.3"], ["run.b0.1", "run.b0.3"]),
    (["bm25.trec", "mdpr.txt.gz", "x.run", "y.TSV", "z.json"], ["bm25", "mdpr", "x", "y", "z"]),
    (["a/run.trec", "b/run.trec", "c.trec"], ["a-run", "b-run", "c"]),
    (["a/x/run.trec", "b/x/run.trec"], ["a-x-run", "b-x-run"]),
    (["run.trec", "run.txt"], ["run.trec", "run.txt"]),
    ([".trec", "a.trec"], [".trec", "a"]),
]


@pytest.mark.parametrize(("paths", "expected"), NAMES)
def test_runs_are_named_by_their_files_and_told_apart(paths, expected):
    assert data.run_names(paths) == expected


def test_one_run_given_twice_is_refused():
    assert message(data.run_names, ["a.trec", "b", "a.trec"]) == ("a.trec is given twice; give each run once")


def test_names_of_runs_are_one_line_that_can_be_seen():
    assert data.run_names(["a", "b"], ["x\ny", "t\tz"]) == ["x\\ny", "t\\tz"]
    assert data.run_names(["a\n.trec", "d\t/b.trec", "e/b.trec"]) == ["a\\n", "d\\t-b", "e-b"]
    assert message(data.run_names, ["a"], [" "]) == "an empty name for a run"
