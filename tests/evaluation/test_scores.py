"""Scores of runs: every figure by hand, and what cannot be scored."""

import math
import shutil

import pytest
from conftest import write_jsonl
from made_results import (
    CORPUS,
    ONE,
    QUESTIONS,
    evaluate,
    small,  # noqa: F401 - a fixture
    write_run,
)

from xqg_pyserini.data import run_names
from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.evaluation.results import LanguageScore
from xqg_pyserini.evaluation.scores import evaluate as score
from xqg_pyserini.evaluation.tables import explanation, macro_table, results_tables


def ranx_scores(qrels, rankings, metric):
    """Ask ranx itself, with scores that fall with the rank."""
    import ranx

    # a question without hits is a miss for ranx too if nothing relevant is retrieved
    run = {q: {d: 1.0 / i for i, d in enumerate(rankings.get(q, ["nothing"]), 1)} for q in sorted(qrels)}
    values = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), metric, return_mean=False)
    return dict(zip(sorted(qrels), values.tolist(), strict=True))


# ---------------------------------------------------------------- R@kt


@pytest.mark.parametrize(
    ("metric", "hits"),
    [
        ("R@0.001kt", {"ar": 0, "fi": 0}),
        ("R@0.002kt", {"ar": 1, "fi": 0}),  # a2 at token 2
        ("R@0.005kt", {"ar": 1, "fi": 0}),
        ("R@0.006kt", {"ar": 1, "fi": 0}),
        ("R@0.007kt", {"ar": 1, "fi": 1}),  # f1 at token 7, inside its second passage
        ("R@0.009kt", {"ar": 1, "fi": 1}),
        ("R@0.01kt", {"ar": 2, "fi": 1}),  # a1 at token 10
        ("R@0.010kt", {"ar": 2, "fi": 1}),  # the same budget under another name
        ("R@2kt", {"ar": 2, "fi": 1}),
    ],
)
def test_r_at_kt_by_language_and_the_macro_mean_of_languages(small, metric, hits):
    scores = evaluate(small, ["one"], [metric]).scores["one"][metric]
    assert scores.by_language == {
        "ar": LanguageScore(4, hits["ar"], 25.0 * hits["ar"]),
        "fi": LanguageScore(1, hits["fi"], 100.0 * hits["fi"]),
    }
    assert scores.macro == (25 * hits["ar"] + 100 * hits["fi"]) / 2
    micro = 100 * (hits["ar"] + hits["fi"]) / 5
    assert hits["fi"] == 0 or scores.macro != micro


def test_one_budget_under_two_names_is_two_metrics_as_typed(small):
    evaluation = evaluate(small, ["one"], ["R@0.01kt", "R@0.010kt"])
    assert evaluation.scores.metrics == ["R@0.01kt", "R@0.010kt"]
    first, second = evaluation.scores["one"].values()
    assert first.by_question == second.by_question == {"a1": 1, "a2": 1, "a3": 0, "007": 0, "f1": 1}


def test_a_question_missing_from_a_run_is_a_miss_and_is_reported(small):
    evaluation = evaluate(small, ["one", "two"], ["R@2kt"])
    assert evaluation.scores["one"]["R@2kt"].by_question["007"] == 0
    assert evaluation.scores["two"]["R@2kt"].by_question["007"] == 1
    assert "run one lacks 1 of 7 questions, counted as misses" in evaluation.scores.notes
    assert not any("run two" in note for note in evaluation.scores.notes)
    assert "Note: run one lacks 1 of 7 questions, counted as misses." in results_tables(evaluation, False)


def test_official_leaves_out_what_a_run_lacks(small):
    evaluation = evaluate(small, ["one", "two"], ["R@2kt", "recall@10"], official=True)
    one, two = (evaluation.scores[run]["R@2kt"] for run in ("one", "two"))
    assert one.by_question == {"a1": 1, "a2": 1, "a3": 0, "f1": 1}
    assert one.by_language["ar"] == LanguageScore(3, 2, pytest.approx(200 / 3))
    assert one.macro == pytest.approx((200 / 3 + 100) / 2)
    assert two.by_language["ar"].count == 4  # what the other lacks, this one still has
    assert set(evaluation.scores["one"]["recall@10"].by_question) == {"a1", "a2", "a3", "f1"}
    assert "run one lacks 1 of 7 questions, left out" in evaluation.scores.notes
    (test, _) = evaluation.tests
    assert test.win + test.tie + test.loss == 4  # compared where both have a score


def test_official_still_counts_all_questions_that_have_a_relevant_passage(small):
    evaluation = evaluate(small, ["one", "two"], ["recall@10"], official=True)
    assert "(5 of 7 questions have a relevant passage)" in evaluation.scores.relevance


def test_questions_without_answers_or_with_yes_alone_are_left_out_and_reported(small):
    evaluation = evaluate(small, ["one"], ["R@2kt", "mrr"])
    for scores in evaluation.scores["one"].values():
        assert set(scores.by_question) == {"a1", "a2", "a3", "007", "f1"}
    assert (
        "2 of 7 questions have no answer to look for and are not counted" in evaluation.scores.notes
    )  # a2's "no" goes, its "pear" stays


def test_answers_are_looked_for_in_titles_only_when_asked(small, tmp_path):
    questions = [{"id": "q", "question": "?", "lang": "ar", "answers": ["fig"]}]
    questions.append({"id": "p", "question": "?", "lang": "ar", "answers": ["plum"]})
    write_jsonl(tmp_path / "questions.jsonl", questions)
    shutil.copy(small / "corpus.jsonl", tmp_path)
    write_run(tmp_path / "run.trec", {"q": ["d5"], "p": ["d5"]})
    plain = evaluate(tmp_path, ["run"], ["R@2kt", "R@0.001kt", "recall@10"]).scores["run"]
    titled = evaluate(tmp_path, ["run"], ["R@2kt", "R@0.001kt", "recall@10"], with_title=True).scores["run"]
    assert plain["R@2kt"].by_question == {"q": 0, "p": 1}
    assert plain["R@0.001kt"].by_question == {"q": 0, "p": 1}
    assert plain["recall@10"].by_question == {"p": 1.0}  # nothing is relevant for q
    assert titled["R@2kt"].by_question == {"q": 1, "p": 1}
    assert titled["R@0.001kt"].by_question == {"q": 1, "p": 0}  # the title is the first token
    assert titled["recall@10"].by_question == {"q": 1.0, "p": 1.0}


# ---------------------------------------------------------------- relevance and ranx


def test_relevance_from_answers_takes_in_passages_that_no_run_retrieved(small):
    evaluation = evaluate(small, ["one", "two"], ["recall@10", "ndcg@10", "mrr@10"])
    one, two = evaluation.scores["one"], evaluation.scores["two"]
    # d1 and d4 hold "apple"; d4 is retrieved by nobody and lowers recall and ndcg all the same
    assert one["recall@10"].by_question == {"a1": 0.5, "a2": 1.0, "a3": 0.0, "007": 0.0, "f1": 1.0}
    ideal = 1 + 1 / math.log2(3)
    assert one["ndcg@10"].by_question["a1"] == pytest.approx((1 / math.log2(3)) / ideal)
    assert two["ndcg@10"].by_question["a1"] == pytest.approx(1 / ideal)
    assert one["mrr@10"].by_question["a1"] == 0.5
    assert one["recall@10"].macro == pytest.approx(100 * ((0.5 + 1 + 0 + 0) / 4 + 1) / 2)
    assert one["recall@10"].by_language["ar"].hit is None
    assert evaluation.scores.relevance == (
        "derived from the answers in the corpus (5 of 7 questions have a relevant passage)"
    )


def test_qrels_take_the_place_of_answers(small, tmp_path):
    qrels = tmp_path / "qrels.txt"
    # n1 has no answer but is judged; a2 is judged to have nothing; "x" is no question here
    qrels.write_text("a1 0 d1 1\nn1 0 d1 2\na2 0 d2 0\nx 0 d1 1\n007 0 d5 1\n")
    evaluation = evaluate(small, ["one"], ["recall@10"], corpus=None, qrels=qrels)
    assert evaluation.scores["one"]["recall@10"].by_question == {"a1": 1.0, "n1": 1.0, "007": 0.0}
    assert evaluation.scores.relevance == f"qrels {qrels} (3 of 7 questions have a relevant passage)"
    assert "Relevance: qrels " in explanation(evaluation.scores)


def test_r_at_kt_beside_qrels_keeps_its_own_questions(small, tmp_path):
    (tmp_path / "qrels.txt").write_text("n1 0 d1 1\n")
    scores = evaluate(
        small, ["one"], ["mrr", "R@2kt"], qrels=tmp_path / "qrels.txt"
    ).scores["one"]  # fmt: skip
    assert scores["mrr"].by_question == {"n1": 1.0}
    assert scores["R@2kt"].by_question == {"a1": 1, "a2": 1, "a3": 0, "007": 0, "f1": 1}


RANKINGS = {f"q{i}": [f"d{(i * 3 + j * j) % 17:02}" for j in range(6)] for i in range(1, 9)}
RANKINGS = {q: list(dict.fromkeys(docids)) for q, docids in RANKINGS.items()}
QRELS = {f"q{i}": {f"d{(i + j) % 17:02}": (i + j) % 3 for j in range(7)} for i in range(1, 10)}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Graded qrels with judged non-relevant passages, one run whose scores are tied throughout."""
    folder = tmp_path_factory.mktemp("graded")
    questions = [{"id": q, "question": "?", "lang": "ja"} for q in QRELS]
    write_jsonl(folder / "questions.jsonl", questions)
    lines = [f"{q} 0 {d} {r}\n" for q, judged in QRELS.items() for d, r in judged.items()]
    (folder / "qrels.txt").write_text("".join(lines))
    write_run(folder / "tied.trec", RANKINGS, scores=lambda i: 1.0)  # q9 is missing
    return folder


@pytest.mark.parametrize(
    "metric",
    ["ndcg@10", "mrr@10", "map", "recall@3", "precision@5", "hit_rate@3", "f1@3", "r-precision",
     "recall@5-l2", "ndcg_burges@5", "bpref"],
)  # fmt: skip
def test_ranx_values_are_ranxs_own_by_rank_where_scores_tie(graded, metric):
    judged = {q: {d: r for d, r in of.items()} for q, of in QRELS.items()}
    expected = ranx_scores(judged, RANKINGS, metric)
    evaluation = evaluate(graded, ["tied"], [metric], corpus=None, qrels=graded / "qrels.txt")
    scored = evaluation.scores["tied"][metric]
    assert scored.by_question == expected
    assert expected["q9"] == 0
    assert 0 < scored.macro < 100
    assert scored.macro == pytest.approx(100 * sum(expected.values()) / 9)


def test_tied_scores_rank_by_rank_whatever_the_order_of_lines(small, tmp_path):
    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(small / name, tmp_path)
    (tmp_path / "up.trec").write_text("a1 Q0 d3 2 1.0 t\na1 Q0 d1 1 1.0 t\na1 Q0 d2 3 1.0 t\n")
    (tmp_path / "down.trec").write_text("a1 Q0 d1 9 1.0 t\na1 Q0 d3 7 1.0 t\na1 Q0 d2 8 1.0 t\n")
    scores = evaluate(tmp_path, ["up", "down"], ["mrr", "R@0.005kt"]).scores
    assert scores["up"]["mrr"].by_question["a1"] == 1.0
    assert scores["down"]["mrr"].by_question["a1"] == pytest.approx(1 / 3)
    assert scores["up"]["R@0.005kt"].by_question["a1"] == 1
    assert scores["down"]["R@0.005kt"].by_question["a1"] == 0


def test_hit_rate_is_a_count_of_hits(small):
    evaluation = evaluate(small, ["two"], ["hit_rate@1"])
    scored = evaluation.as_json()["runs"]["two"]["hit_rate@1"]
    assert scored["languages"]["ar"] == {"count": 4, "hit": 3, "score": 75.0}
    assert scored["questions"] == {"a1": 1, "a2": 1, "a3": 0, "007": 1, "f1": 0}


def test_a_metric_in_capitals_is_the_same_and_stays_as_typed(small):
    typed = ["r@0.01KT", "nDCG@10", "Hit_Rate@1"]
    evaluation = evaluate(small, ["one", "two"], typed)
    assert evaluation.scores.metrics == typed
    plain = evaluate(small, ["one", "two"], ["R@0.01kt", "ndcg@10", "hit_rate@1"])
    assert list(evaluation.as_json()["runs"]["one"]) == typed
    for run in ("one", "two"):
        scored, expected = (list(e.as_json()["runs"][run].values()) for e in (evaluation, plain))
        assert scored == expected
    assert "NDCG@10" in macro_table(evaluation.scores, evaluation).latex()


# ---------------------------------------------------------------- languages, coverage


def test_questions_without_language_form_one_group(small, tmp_path):
    records = [{k: v for k, v in q.items() if k != "lang"} for q in QUESTIONS]
    write_jsonl(tmp_path / "questions.jsonl", records)
    shutil.copy(small / "corpus.jsonl", tmp_path)
    shutil.copy(small / "one.trec", tmp_path)
    scores = evaluate(tmp_path, ["one"], ["R@2kt"]).scores["one"]["R@2kt"]
    assert scores.by_language == {"und": LanguageScore(5, 3, 60.0)}
    assert scores.macro == 60.0


def test_questions_that_the_file_lacks_are_left_out_with_a_warning(small, tmp_path):
    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(small / name, tmp_path)
    write_run(tmp_path / "more.trec", {**ONE, "zz": ["d1"], "yy": ["d2"]})
    with pytest.warns(XqgWarning, match="^run more has 2 questions that the questions file does not; left out$"):
        more = evaluate(tmp_path, ["more"], ["R@2kt", "mrr"])
    plain = evaluate(small, ["one"], ["R@2kt", "mrr"])
    for metric in ("R@2kt", "mrr"):
        assert more.scores["more"][metric].by_question == plain.scores["one"][metric].by_question


# ---------------------------------------------------------------- names and refusals


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.b.trec", "a.b"),
        ("a.trec.gz", "a"),
        ("a.b.trec.gz", "a.b"),
        ("beta0.3.run", "beta0.3"),
        ("plain", "plain"),
        ("قطة.txt", "قطة"),
    ],
)
def test_a_run_is_called_as_its_file_without_the_ending(tmp_path, file, name):
    assert run_names([tmp_path / "x.y" / file]) == [name]


def test_a_zipped_run_reads_as_the_plain_one(small, tmp_path):
    import gzip

    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(small / name, tmp_path)
    with gzip.open(tmp_path / "z.trec.gz", "wb") as file:
        file.write((small / "one.trec").read_bytes())
    questions = tmp_path / "questions.jsonl"
    zipped = score([tmp_path / "z.trec.gz"], questions, ["R@2kt"], corpus=tmp_path / "corpus.jsonl")
    assert zipped.runs == ["z"]
    plain = evaluate(small, ["one"], ["R@2kt"])
    assert zipped["z"]["R@2kt"].by_question == plain.scores["one"]["R@2kt"].by_question


def test_runs_whose_files_have_one_name_are_told_apart(small, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(small / "one.trec", tmp_path / folder)
    runs = [tmp_path / "a" / "one.trec", tmp_path / "b" / "one.trec"]
    scores = score(runs, small / "questions.jsonl", ["R@2kt"], corpus=small / "corpus.jsonl")
    assert scores.runs == ["a-one", "b-one"]


@pytest.mark.parametrize(
    ("metrics", "options", "message"),
    [
        (["R@2kt"], {"corpus": None}, "R@kt needs the passages' texts: give the corpus"),
        (
            ["mrr"],
            {"corpus": None},
            "relevance derived from the answers needs the passages' texts: give the corpus, or qrels",
        ),
        (["R@2kt", "R@2kt"], {}, "give each metric once, and at least one"),
        ([], {}, "give each metric once, and at least one"),
        (
            ["R@2kt", "mrr"],
            {"test": "mcnemar"},
            "mcnemar takes measures of hit or miss (R@kt, hit_rate@k), not mrr; choose student or fisher",
        ),
        (["R@2kt"], {"level": 0}, "level 0; expected a number between 0 and 1"),
        (["R@2kt"], {"level": math.nan}, "level nan; expected a number between 0 and 1"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(small, metrics, options, message):
    with pytest.raises(UserError) as refusal:
        evaluate(small, ["one"], metrics, **options)
    assert str(refusal.value) == message


@pytest.mark.parametrize("metric", ["R@2kt", "mrr"])
def test_questions_of_which_none_has_an_answer_are_refused(small, tmp_path, metric):
    shutil.copy(small / "corpus.jsonl", tmp_path)
    shutil.copy(small / "one.trec", tmp_path)
    write_jsonl(tmp_path / "questions.jsonl", [QUESTIONS[2], QUESTIONS[6]])
    with pytest.warns(XqgWarning, match="run one has 4 questions"), pytest.raises(UserError) as refusal:
        evaluate(tmp_path, ["one"], [metric])
    assert str(refusal.value) == (
        "no question has an answer to look for (answers, other than yes and no): "
        "R@kt and relevance derived from answers need them"
    )


def test_a_run_of_other_questions_or_passages_is_refused(small, tmp_path):
    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(small / name, tmp_path)
    write_run(tmp_path / "other.trec", {"zz": ["d1"]})
    with pytest.raises(UserError) as refusal:
        evaluate(tmp_path, ["other"], ["R@2kt"])
    assert (
        str(refusal.value)
        == "none of the 1 question ids of run other are in the questions: 'zz' in run other, '007' in the questions"
    )
    write_run(tmp_path / "far.trec", {"a1": ["d1", "d99"]})
    with pytest.raises(UserError) as refusal:
        evaluate(tmp_path, ["far"], ["R@0.005kt"])
    assert str(refusal.value) == f"run far: passage 'd99' is not in {tmp_path / 'corpus.jsonl'}"


def test_a_passage_that_the_corpus_holds_twice_is_refused(small, tmp_path):
    shutil.copy(small / "questions.jsonl", tmp_path)
    shutil.copy(small / "one.trec", tmp_path)
    write_jsonl(tmp_path / "corpus.jsonl", [*CORPUS, {"id": "d2", "text": "other"}])
    with pytest.raises(UserError) as refusal:
        evaluate(tmp_path, ["one"], ["R@2kt"])
    assert str(refusal.value) == (f"{tmp_path / 'corpus.jsonl'}, line 6: passage id 'd2' again; ids must be unique")


def test_relevant_passages_that_no_run_retrieved_are_counted_and_no_more_than_matter(tmp_path):
    """Ten passages hold the answer, one is retrieved at rank 1: the ideal ranking has all ten."""
    passages = [{"id": f"d{i}", "text": f"gold {i}"} for i in range(10)]
    write_jsonl(tmp_path / "corpus.jsonl", [*passages, {"id": "x", "text": "lead"}])
    question = {"id": "q", "question": "?", "lang": "ja", "answers": ["gold"]}
    write_jsonl(tmp_path / "questions.jsonl", [question])
    (tmp_path / "run.trec").write_text("q Q0 d3 1 2 t\nq Q0 x 2 1 t\n")
    for metrics in (["ndcg@3"], ["ndcg@3", "recall@10"]):  # three matter to the one, all to both
        scored = evaluate(tmp_path, ["run"], metrics).scores["run"]
        ideal = 1 + 1 / math.log2(3) + 1 / 2
        assert scored["ndcg@3"].macro == pytest.approx(100 / ideal)
    assert scored["recall@10"].macro == pytest.approx(10)
