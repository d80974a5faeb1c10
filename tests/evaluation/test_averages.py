"""What an average rests on: questions left out and counted, languages that are none, or one under two codes."""

import json
import warnings

import pytest
from conftest import write_jsonl

from xqg_pyserini.cli import main
from xqg_pyserini.data import Question
from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.evaluation.scores import evaluate
from xqg_pyserini.report.results import read_results

# q1 is hit at rank 2, q2 at rank 1, q3 has no relevant passage, q4 only passages below 0, nobody judged q5; q6 is
# judged and missing from the run, q7 no question
QRELS = {
    "q1": {"a": 0, "b": 1}, "q2": {"a": 2}, "q3": {"a": 0}, "q4": {"a": -1}, "q6": {"a": 1}, "q7": {"a": 1},
}  # fmt: skip
RUN = {q: {"a": 2.0, "b": 1.0} for q in ("q1", "q2", "q3", "q4", "q5")}
CORPUS = {"a": "gold", "b": "lead"}


def questions(languages="fi fi fi fi fi fi"):
    answers = (("lead",), ("gold",), ("tin",), ("zinc",), (), ("gold",))
    codes = [None if code == "-" else code for code in languages.split()]
    return [
        Question(f"q{i}", "?", code, answer) for i, (code, answer) in enumerate(zip(codes, answers, strict=True), 1)
    ]


def scored(languages="fi fi fi fi fi fi", metrics=("mrr", "P_1"), **options):
    return evaluate(RUN, questions(languages), metrics, **{"qrels": QRELS, **options})


# ---------------------------------------------------------------- topics


def test_topics_with_nothing_relevant_are_left_out_and_counted_off():
    scores = scored()
    mrr = scores["run"]["mrr"]
    assert mrr.by_question == {"q1": 0.5, "q2": 1.0, "q6": 0.0}
    assert mrr.macro == pytest.approx(100 * 1.5 / 3)
    assert (mrr.count, mrr.asked, mrr.questions) == (3, 6, "3 of 6")
    assert scores.notes == [
        "run run lacks 1 of 6 questions, counted as misses",
        "mrr, precision@1: 3 of 6 questions are counted, without 1 that nobody judged and 2 with no relevant passage "
        "(all_topics counts them as 0)",
    ]
    assert scores.relevance == "qrels (3 of 6 questions have a relevant passage)"


def test_all_topics_are_those_of_trec_eval_with_c():
    scores = scored(all_topics=True)
    mrr = scores["run"]["mrr"]
    assert mrr.by_question == {"q1": 0.5, "q2": 1.0, "q3": 0.0, "q4": 0.0, "q6": 0.0}
    assert mrr.macro == pytest.approx(100 * 1.5 / 5)
    assert scores.notes[1:] == [
        "mrr, precision@1: 2 of 5 questions have no relevant passage and count as 0",
        "mrr, precision@1: 5 of 6 questions are counted, without 1 that nobody judged",
        "mrr, precision@1: 1 topics of the qrels are not among the questions and not counted",
    ]


def test_all_topics_of_the_official_count_are_those_of_trec_eval_without_c():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    for run in (RUN, {**RUN, "q6": {"x": 1.0}}):
        values = pytrec_eval.RelevanceEvaluator(QRELS, {"recip_rank"}).evaluate(run)
        mean = sum(of["recip_rank"] for of in values.values()) / len(values)
        scores = evaluate(run, questions(), ["recip_rank"], qrels=QRELS, official=True, all_topics=True)
        assert scores["run"]["mrr"].by_question.keys() == values.keys()
        assert scores.macro("run", "mrr") == pytest.approx(100 * mean)


def test_measures_that_ask_for_more_rest_on_the_questions_that_have_as_much():
    metrics = ["map-l2", "mrr", "P(rel=2)@1", "P(rel=3)@1"]
    scores = scored(metrics=metrics[:3])
    assert scores["run"]["mrr"].by_question == {"q1": 0.5, "q2": 1.0, "q6": 0.0}
    assert scores["run"]["map-l2"].by_question == scores["run"]["P(rel=2)@1"].by_question == {"q2": 1.0}
    assert scores.notes[1:] == [
        "mrr: 3 of 6 questions are counted, without 1 that nobody judged and 2 with no relevant passage "
        "(all_topics counts them as 0)",
        "map-l2, precision@1-l2: 1 of 6 questions are counted, without 1 that nobody judged and 4 with no passage of "
        "relevance 2 or more (all_topics counts them as 0)",
    ]
    with pytest.raises(UserError, match="run run: no question can be scored by precision@1-l3"):
        scored(metrics=metrics)
    every = scored(metrics=metrics, all_topics=True)
    assert every.macro("run", "map-l2") == pytest.approx(100 / 5) and every.macro("run", "precision@1-l3") == 0
    said = "map-l2, precision@1-l2: 4 of 5 questions have no passage of relevance 2 or more and count as 0"
    assert said in every.notes


def test_nothing_is_said_where_all_questions_count():
    some = [question for question in questions() if question.id in ("q1", "q2")]
    for all_topics in (False, True):
        judged, run = ({q: of[q] for q in ("q1", "q2")} for of in (QRELS, RUN))
        scores = evaluate(run, some, ["mrr"], qrels=judged, all_topics=all_topics)
        assert scores.notes == []
        assert scores["run"]["mrr"].questions == "2"


def test_relevance_from_answers_counts_off_what_no_passage_answers():
    scores = scored(qrels=None, corpus=CORPUS)
    assert scores["run"]["mrr"].by_question == {"q1": 0.5, "q2": 1.0, "q6": 0.0}
    assert scores.notes[1:] == [
        "1 of 6 questions have no answer to look for and are not counted",
        "mrr, precision@1: 3 of 6 questions are counted, without 1 that have no answer to look for and 2 with no "
        "relevant passage (all_topics counts them as 0)",
    ]
    every = scored(qrels=None, corpus=CORPUS, all_topics=True, metrics=["mrr", "R@2kt"])["run"]
    assert every["mrr"].by_question == {"q1": 0.5, "q2": 1.0, "q3": 0.0, "q4": 0.0, "q6": 0.0}
    assert every["R@2kt"].by_question == {"q1": 1, "q2": 1, "q3": 0, "q4": 0, "q6": 0}


def test_qrels_with_nothing_relevant_are_refused_or_give_0():
    nothing = {"q1": {"a": 0}, "q2": {"a": -1}}
    with pytest.raises(UserError) as refusal:
        scored(qrels=nothing)
    assert str(refusal.value) == "no question has a relevant passage; nothing to score"
    assert refusal.value.about == ("all_topics",)
    assert scored(qrels=nothing, all_topics=True).macro("run", "mrr") == 0


def test_files_and_tables_say_how_many_questions_count(tmp_path, capsys):
    write_jsonl(tmp_path / "q.jsonl", [{"id": q.id, "question": "?", "lang": "fi"} for q in questions()])
    lines = [f"{t} 0 {d} {r}\n" for t, judged in QRELS.items() for d, r in judged.items()]
    (tmp_path / "qrels").write_text("".join(lines))
    lines = [f"{t} Q0 {d} {i} {score} x\n" for t, hits in RUN.items() for i, (d, score) in enumerate(hits.items(), 1)]
    (tmp_path / "run.trec").write_text("".join(lines))
    typed = f"evaluate --questions {tmp_path}/q.jsonl --qrels {tmp_path}/qrels --runs {tmp_path}/run.trec".split()
    typed += ["--metrics", "recip_rank"]
    assert main.main([*typed, "--per-language", "--output", f"{tmp_path}/out"]) == 0
    said = "mrr: 3 of 6 questions are counted, without 1 that nobody judged and 2 with no relevant passage"
    assert f"Note: {said}" in capsys.readouterr().out
    row = next(line for line in (tmp_path / "out" / "table.md").read_text().splitlines() if line.startswith("| mrr"))
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["mrr", "a", "run", "50.0", "50.00", "3"]
    assert said in (tmp_path / "out" / "table.tex").read_text()
    about = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [(row["language"], row["questions"], row["asked"]) for row in about["scores"]] == [
        ("macro", 3, 6),
        ("fi", 3, 6),
    ]
    assert about["inputs"]["all_topics"] is False
    assert read_results(tmp_path / "out").scores["run"]["mrr"].questions == "3 of 6"
    assert main.main(["report", f"{tmp_path}/out", "--json"]) == 0
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "3 of 6 questions, 1 language" in page and said in page
    capsys.readouterr()
    assert main.main([*typed, "--all-topics", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["runs"]["run"]["mrr"]["macro"] == pytest.approx(30)
    assert "warning: mrr: 2 of 5 questions have no relevant passage and count as 0\n" in err


# ---------------------------------------------------------------- languages


@pytest.mark.parametrize(
    ("languages", "notes"),
    [
        ("fi fi-FI fi fi fi fi", ["fi and fi-FI look like one language, and count as 2 in the average"]),
        ("fi fin fi fi fi sv", ["fi and fin look like one language, and count as 2 in the average"]),
        ("ha hau fi fi fi ha-Latn", ["ha and hau and ha-Latn look like one language, and count as 3 in the average"]),
        ("pt-BR pt-PT fi fi fi fi", ["pt-BR and pt-PT look like one language, and count as 2 in the average"]),
        (
            "- fi fi fi fi fi",
            ["1 of 3 questions have no language: together they weigh as much in the average as any language"],
        ),
        (
            "- fi und fi fi fin",
            [
                "1 of 3 questions have no language: together they weigh as much in the average as any language",
                "fi and fin look like one language, and count as 2 in the average",
            ],
        ),
        ("fi sv fi fi fi et", []),
        ("fi fil fi fi fi fj", []),  # three languages that begin alike
        ("- - - - - -", []),  # nobody has one
        ("fi fi sv fi-FI - fi", []),  # those that are not scored weigh nothing
    ],
)
def test_an_average_over_what_are_no_languages_is_said(languages, notes):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = scored(languages)
    assert [str(warning.message) for warning in caught if warning.category is XqgWarning] == notes
    assert [note for note in scores.notes[2:] if "no question in" not in note] == notes


def test_languages_that_drop_out_of_an_average_are_named():
    scores = scored("fi fi ja ko ko sv", metrics=["mrr", "map-l2", "R@2kt"], corpus=CORPUS)
    assert scores["run"]["R@2kt"].by_language.keys() == {"fi", "ja", "ko", "sv"}
    assert scores.notes[-2:] == [
        "mrr: no question in ja ko is counted; the average is over the other languages",
        "map-l2: no question in ja ko sv is counted; the average is over the other languages",
    ]
    official = scored("fi fi fi fi fi sv", metrics=["mrr", "P_1"], official=True)
    assert official.notes[-1] == "run run: no question in sv is counted; the average is over the other languages"


def test_languages_stay_as_they_are_typed():
    with pytest.warns(XqgWarning, match="fi and fi-FI look like one language"):
        scores = scored("fi fi-FI fi fi fi fi")
    assert scores["run"]["mrr"].by_language.keys() == {"fi", "fi-FI"}
    assert scores.macro("run", "mrr") == pytest.approx((25 + 100) / 2)
