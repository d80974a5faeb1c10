"""Runs, qrels and submissions, spoilt: exit 2, one line on stderr, nothing written."""

import json
from pathlib import Path

import pytest
from spoil import GZIP, change, content, line, zipped

RUN_FAULTS = {
    "missing": (Path.unlink, "run.trec: no such run file"),
    "empty": (content(b"\n"), "run.trec: no hit in it; expected a TREC run"),
    "five columns": (
        line(2, "01 Q0 d4 2 0.8"),
        "run.trec, line 2: 5 columns; expected six: qid Q0 docid rank score tag",
    ),
    "seven columns": (
        line(2, "01 Q0 d 4 2 0.8 t"),
        "run.trec, line 2: 7 columns; expected six: qid Q0 docid rank score tag",
    ),
    "rank twice": (
        line(2, "01 Q0 d4 1 0.8 t\n01 Q0 d5 2 0.7 t"),
        "run.trec, line 2: rank 1 of question '01' comes twice (--order)",
    ),
    "passage twice": (line(2, "01 Q0 007 2 0.8 t"), "run.trec, line 2: passage '007' comes twice for question '01'"),
    "score rises": (
        line(2, "01 Q0 d4 2 0.90001 t"),
        "run.trec, line 2: the score of question '01' rises at rank 2; to go by scores, order by "
        "'score' (negate distances first) (--order)",
    ),
    "score is NaN": (line(2, "01 Q0 d4 2 nan t"), "run.trec, line 2: score 'nan' is not a finite number"),
    "score is a word": (line(2, "01 Q0 d4 2 high t"), "run.trec, line 2: rank '2' or score 'high' is not a number"),
    "rank is a fraction": (
        line(2, "01 Q0 d4 1.5 0.8 t"),
        "run.trec, line 2: rank '1.5' or score '0.8' is not a number",
    ),
    "gzip without its last bytes": (zipped(4), "run.trec, after line 4: " + GZIP),
}


@pytest.mark.parametrize("fault", RUN_FAULTS)
@pytest.mark.parametrize("command", ["evaluate", "submit", "mine"])
def test_a_spoilt_run_is_named_with_its_line(command, fault, scene, refuse):
    spoil, message = RUN_FAULTS[fault]
    spoil(scene / "run.trec")
    assert refuse(command) == message


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate", "run run: passage 'zz' is not in corpus.jsonl"),
        ("submit", "the run: passage 'zz' is not in corpus.jsonl"),
        ("mine", "run.trec: passage 'zz' is not in corpus.jsonl"),
    ],
)
def test_a_passage_of_the_run_that_the_corpus_lacks_is_named(command, message, scene, refuse):
    line(4, "q3 Q0 zz 1 0.9 xqg-t")(scene / "run.trec")
    assert refuse(command) == message


@pytest.mark.parametrize(("command", "name"), [("evaluate", "run run"), ("submit", "the run"), ("mine", "run.trec")])
def test_a_run_for_other_questions_is_refused(command, name, scene, refuse):
    # 1 is not 01, and so on: ids are strings
    (scene / "run.trec").write_text("1 Q0 007 1 0.9 t\nQ3 Q0 d5 1 0.9 t\n")
    assert refuse(command) == (
        f"none of the 2 question ids of {name} are in the questions: 'Q3' in {name}, 'q3' in the questions; "
        "perhaps upper and lower case differ"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("01 0 007\n", "qrels, line 1: 3 columns; expected four: qid 0 docid relevance"),
        ("01 0 007 yes\n", "qrels, line 1: relevance 'yes' is not a whole number"),
        ("01 0 007 1\n01 0 007 0\n", "qrels, line 2: passage '007' is judged twice for question '01': 1, then 0"),
        ("", "qrels: no judgement in it; expected TREC qrels"),
        ("01 0 007 0\n", "no question has a relevant passage; nothing to score (--all-topics)"),
        (None, "qrels: No such file or directory"),
    ],
)
def test_spoilt_qrels_are_named_with_their_line(text, message, scene, refuse):
    if text is not None:
        (scene / "qrels").write_text(text)
    assert refuse("evaluate", "--qrels", "qrels", "--metrics", "ndcg@10") == message


@pytest.mark.parametrize("metrics", [["R@2kt"], ["ndcg@10"]])
def test_questions_without_any_answer_are_refused_where_answers_are_looked_for(metrics, scene, refuse):
    path = scene / "questions.jsonl"
    change(1, drop=("answers",))(path)
    change(2, answers=["no"])(path)
    change(3, answers=[])(path)
    assert refuse("evaluate", "--metrics", *metrics) == (
        "no question has an answer to look for (answers, other than yes and no): "
        "R@kt and relevance derived from answers need them"
    )


def test_questions_of_which_some_lack_an_answer_are_counted_without_these(scene, accept):
    change(3, drop=("answers",))(scene / "questions.jsonl")
    stdout, stderr = accept("evaluate", "--json")
    result = json.loads(stdout)["runs"]["run"]["R@2kt"]
    assert result["questions"] == {"01": 1, "-9223372036854775807": 1}
    assert result["languages"]["ar"]["count"] == 1
    assert "1 of 3 questions have no answer to look for" in (scene / "out/table.md").read_text()
    assert stderr == ("xqg evaluate: warning: 1 of 3 questions have no answer to look for and are not counted\n")


SUBMISSIONS = {
    "broken": (lambda e: None, "submission.json, line 1: broken JSON (", '[{"id": '),
    "an object": (lambda e: {}, "submission.json: expected a list of "),
    "empty": (lambda e: [], "submission.json: expected a list of "),
    "no object": (lambda e: [e[0], 5], "submission.json, entry 2: expected an object with id, lang and ctxs"),
    "no lang": (
        lambda e: [{"id": "01", "ctxs": []}, *e[1:]],
        "submission.json, entry 1: expected an object with id, lang and ctxs",
    ),
    "id without its zero": (
        lambda e: [e[0] | {"id": "1"}, *e[1:]],
        "submission.json, entry 1: '1' is not an id of the questions file",
    ),
    "id as a number": (
        lambda e: [e[0], e[1] | {"id": -9223372036854775807}, e[2]],
        "submission.json, entry 2: -9223372036854775807 is not an id of the questions file",
    ),
    "question twice": (lambda e: [*e, e[0]], "submission.json, entry 4: question '01' again"),
    "question missing": (lambda e: e[:2], "submission.json: 1 questions are missing, the first is 'q3'"),
    "other language": (
        lambda e: [*e[:2], e[2] | {"lang": "fi"}],
        "submission.json, entry 3: question 'q3' is 'ar', not 'fi'",
    ),
    "text is no string": (
        lambda e: [e[0] | {"ctxs": [1]}, *e[1:]],
        "submission.json, entry 1: the ctxs of '01' are not a list of strings",
    ),
    "text of no passage": (
        lambda e: [e[0] | {"ctxs": [e[0]["ctxs"][0] + " "]}, *e[1:]],
        "submission.json: a text of question '01' is no passage of corpus.jsonl",
    ),
    "half a surrogate pair": (lambda e: [e[0] | {"ctxs": ["\ud83d"]}, *e[1:]], "submission.json"),
}


@pytest.mark.parametrize("fault", SUBMISSIONS)
def test_check_names_the_first_thing_that_is_wrong(fault, scene, refuse):
    make, message, *text = SUBMISSIONS[fault]
    path = scene / "submission.json"
    wrong = make(json.loads(path.read_text()))
    path.write_text(text[0] if text else json.dumps(wrong))
    assert message in refuse("check")


def test_check_refuses_a_language_that_is_no_string_where_the_questions_name_none(scene, refuse):
    (scene / "t.tsv").write_text("01\tone\n")
    path = scene / "submission.json"
    path.write_text(json.dumps([{"id": "01", "lang": ["ar"], "ctxs": []}]))
    refuse("check", swap={"questions.jsonl": "t.tsv"})
