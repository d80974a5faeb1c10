"""Evaluation: every figure by hand, the tests between runs, and the files that are written."""

import csv
import json
import math
import re
import shutil
import subprocess
from itertools import combinations

import pytest
from conftest import run_xqg, write_jsonl

from xqg_pyserini.data import read_questions
from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.evaluation import significance
from xqg_pyserini.evaluation.scores import evaluate_runs, parse_metric, run_name
from xqg_pyserini.report import tables as report

# Each text is five tokens, so the budget at which an answer is found can be counted off.
CORPUS = [
    {"id": "d1", "title": "", "text": "w1 w2 w3 w4 apple"},
    {"id": "d2", "title": "", "text": "x1 pear x3 x4 x5"},
    {"id": "d3", "title": "", "text": "y1 y2 y3 y4 y5"},
    {"id": "d4", "title": "", "text": "z1 z2 apple z4 z5"},  # retrieved by no run
    {"id": "d5", "title": "fig", "text": "plum v2 v3 v4 v5"},
]
QUESTIONS = [
    {"id": "a1", "question": "?", "lang": "ar", "answers": ["apple"]},
    {"id": "a2", "question": "?", "lang": "ar", "answers": ["pear", "no"]},
    {"id": "n1", "question": "?", "lang": "ar", "answers": ["yes"]},
    {"id": "a3", "question": "?", "lang": "ar", "answers": ["apple"]},
    {"id": "007", "question": "?", "lang": "ar", "answers": ["plum"]},
    {"id": "f1", "question": "?", "lang": "fi", "answers": ["pear"]},
    {"id": "n2", "question": "?", "lang": "fi", "answers": []},
]
ONE = {
    "a1": ["d3", "d1"],  # the answer is token 10
    "a2": ["d2"],  # token 2
    "a3": ["d3", "d2"],  # not there
    # 007 is missing: a miss
    "f1": ["d1", "d2"],  # token 7
    "n1": ["d1"],  # cannot be scored, so this hit counts for nothing
    "n2": ["d1"],
}
TWO = {**ONE, "007": ["d5"], "a1": ["d1", "d3"]}  # token 1; token 5


def write_run(path, rankings, scores=lambda i: 100 - i):
    lines = [
        f"{qid} Q0 {docid} {rank} {scores(rank)} t\n"
        for qid, docids in rankings.items()
        for rank, docid in enumerate(docids, 1)
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_jsonl(folder / "corpus.jsonl", CORPUS)
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    write_run(folder / "one.trec", ONE)
    write_run(folder / "two.trec", TWO)
    return folder


def evaluate(folder, runs, metrics, corpus="corpus.jsonl", **options):
    """Evaluate files of a folder; a name stands for the run file of that name."""
    return evaluate_runs(
        read_questions(folder / "questions.jsonl"),
        [folder / f"{run}.trec" for run in runs],
        metrics,
        corpus=None if corpus is None else folder / corpus,
        **options,
    )


def ranx_scores(qrels, rankings, metric):
    """Ask ranx itself, with scores that fall with the rank."""
    import ranx

    # a question without hits is a miss for ranx too if nothing relevant is retrieved
    run = {
        q: {d: 1.0 / i for i, d in enumerate(rankings.get(q, ["nothing"]), 1)}
        for q in sorted(qrels)
    }
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
    assert scores.by_language() == {
        "ar": {"count": 4, "hit": hits["ar"], "score": 25.0 * hits["ar"]},
        "fi": {"count": 1, "hit": hits["fi"], "score": 100.0 * hits["fi"]},
    }
    assert scores.macro == (25 * hits["ar"] + 100 * hits["fi"]) / 2
    micro = 100 * (hits["ar"] + hits["fi"]) / 5
    assert hits["fi"] == 0 or scores.macro != micro


def test_one_budget_under_two_names_is_two_metrics_as_typed(small):
    evaluation = evaluate(small, ["one"], ["R@0.01kt", "R@0.010kt"])
    assert evaluation.metrics == ["R@0.01kt", "R@0.010kt"]
    first, second = evaluation.scores["one"].values()
    assert first.values == second.values == {"a1": 1, "a2": 1, "a3": 0, "007": 0, "f1": 1}


def test_a_question_missing_from_a_run_is_a_miss_and_is_reported(small):
    evaluation = evaluate(small, ["one", "two"], ["R@2kt"])
    assert evaluation.scores["one"]["R@2kt"].values["007"] == 0
    assert evaluation.scores["two"]["R@2kt"].values["007"] == 1
    assert "run one lacks 1 of 7 questions, counted as misses" in evaluation.notes
    assert not any("run two" in note for note in evaluation.notes)
    assert "Note: run one lacks 1 of 7 questions, counted as misses." in report.tables(
        evaluation, False
    )


def test_official_leaves_out_what_a_run_lacks(small):
    evaluation = evaluate(small, ["one", "two"], ["R@2kt", "recall@10"], official=True)
    one, two = (evaluation.scores[run]["R@2kt"] for run in ("one", "two"))
    assert one.values == {"a1": 1, "a2": 1, "a3": 0, "f1": 1}
    assert one.by_language()["ar"] == {"count": 3, "hit": 2, "score": pytest.approx(200 / 3)}
    assert one.macro == pytest.approx((200 / 3 + 100) / 2)
    assert two.by_language()["ar"]["count"] == 4  # what the other lacks, this one still has
    assert set(evaluation.scores["one"]["recall@10"].values) == {"a1", "a2", "a3", "f1"}
    assert "run one lacks 1 of 7 questions, left out" in evaluation.notes
    (test, _) = evaluation.tests
    assert test.win + test.tie + test.loss == 4  # compared where both have a score


def test_official_still_counts_all_questions_that_have_a_relevant_passage(small):
    evaluation = evaluate(small, ["one", "two"], ["recall@10"], official=True)
    assert "(5 of 7 questions have a relevant passage)" in evaluation.relevance


def test_questions_without_answers_or_with_yes_alone_are_left_out_and_reported(small):
    evaluation = evaluate(small, ["one"], ["R@2kt", "mrr"])
    for scores in evaluation.scores["one"].values():
        assert set(scores.values) == {"a1", "a2", "a3", "007", "f1"}
    assert (
        "2 of 7 questions have no answer to look for and are not counted" in evaluation.notes
    )  # a2's "no" goes, its "pear" stays


def test_answers_are_looked_for_in_titles_only_when_asked(small, tmp_path):
    questions = [{"id": "q", "question": "?", "lang": "ar", "answers": ["fig"]}]
    questions.append({"id": "p", "question": "?", "lang": "ar", "answers": ["plum"]})
    write_jsonl(tmp_path / "questions.jsonl", questions)
    shutil.copy(small / "corpus.jsonl", tmp_path)
    write_run(tmp_path / "run.trec", {"q": ["d5"], "p": ["d5"]})
    plain = evaluate(tmp_path, ["run"], ["R@2kt", "R@0.001kt", "recall@10"]).scores["run"]
    titled = evaluate(
        tmp_path, ["run"], ["R@2kt", "R@0.001kt", "recall@10"], with_title=True
    ).scores["run"]
    assert plain["R@2kt"].values == {"q": 0, "p": 1}
    assert plain["R@0.001kt"].values == {"q": 0, "p": 1}
    assert plain["recall@10"].values == {"p": 1.0}  # nothing is relevant for q
    assert titled["R@2kt"].values == {"q": 1, "p": 1}
    assert titled["R@0.001kt"].values == {"q": 1, "p": 0}  # the title is the first token
    assert titled["recall@10"].values == {"q": 1.0, "p": 1.0}


# ---------------------------------------------------------------- relevance and ranx


def test_relevance_from_answers_takes_in_passages_that_no_run_retrieved(small):
    evaluation = evaluate(small, ["one", "two"], ["recall@10", "ndcg@10", "mrr@10"])
    one, two = evaluation.scores["one"], evaluation.scores["two"]
    # d1 and d4 hold "apple"; d4 is retrieved by nobody and lowers recall and ndcg all the same
    assert one["recall@10"].values == {"a1": 0.5, "a2": 1.0, "a3": 0.0, "007": 0.0, "f1": 1.0}
    ideal = 1 + 1 / math.log2(3)
    assert one["ndcg@10"].values["a1"] == pytest.approx((1 / math.log2(3)) / ideal)
    assert two["ndcg@10"].values["a1"] == pytest.approx(1 / ideal)
    assert one["mrr@10"].values["a1"] == 0.5
    assert one["recall@10"].macro == pytest.approx(100 * ((0.5 + 1 + 0 + 0) / 4 + 1) / 2)
    assert one["recall@10"].by_language()["ar"]["hit"] is None
    assert evaluation.relevance == (
        "derived from the answers in the corpus (5 of 7 questions have a relevant passage)"
    )


def test_qrels_take_the_place_of_answers(small, tmp_path):
    qrels = tmp_path / "qrels.txt"
    # n1 has no answer but is judged; a2 is judged to have nothing; "x" is no question here
    qrels.write_text("a1 0 d1 1\nn1 0 d1 2\na2 0 d2 0\nx 0 d1 1\n007 0 d5 1\n")
    evaluation = evaluate(small, ["one"], ["recall@10"], corpus=None, qrels=qrels)
    assert evaluation.scores["one"]["recall@10"].values == {"a1": 1.0, "n1": 1.0, "007": 0.0}
    assert evaluation.relevance == f"qrels {qrels} (3 of 7 questions have a relevant passage)"
    assert "Relevance: qrels " in report.explanation(evaluation)


def test_r_at_kt_beside_qrels_keeps_its_own_questions(small, tmp_path):
    (tmp_path / "qrels.txt").write_text("n1 0 d1 1\n")
    scores = evaluate(
        small, ["one"], ["mrr", "R@2kt"], qrels=tmp_path / "qrels.txt"
    ).scores["one"]  # fmt: skip
    assert scores["mrr"].values == {"n1": 1.0}
    assert scores["R@2kt"].values == {"a1": 1, "a2": 1, "a3": 0, "007": 0, "f1": 1}


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
     "rbp.95", "recall@5-l2", "ndcg_burges@5", "bpref"],
)  # fmt: skip
def test_ranx_values_are_ranxs_own_by_rank_where_scores_tie(graded, metric):
    judged = {q: {d: r for d, r in of.items()} for q, of in QRELS.items()}
    expected = ranx_scores(judged, RANKINGS, metric)
    evaluation = evaluate(graded, ["tied"], [metric], corpus=None, qrels=graded / "qrels.txt")
    found = evaluation.scores["tied"][metric]
    assert found.values == expected
    assert expected["q9"] == 0
    assert 0 < found.macro < 100
    assert found.macro == pytest.approx(100 * sum(expected.values()) / 9)


def test_tied_scores_rank_by_rank_whatever_the_order_of_lines(small, tmp_path):
    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(small / name, tmp_path)
    (tmp_path / "up.trec").write_text("a1 Q0 d3 2 1.0 t\na1 Q0 d1 1 1.0 t\na1 Q0 d2 3 1.0 t\n")
    (tmp_path / "down.trec").write_text("a1 Q0 d1 9 1.0 t\na1 Q0 d3 7 1.0 t\na1 Q0 d2 8 1.0 t\n")
    scores = evaluate(tmp_path, ["up", "down"], ["mrr", "R@0.005kt"]).scores
    assert scores["up"]["mrr"].values["a1"] == 1.0
    assert scores["down"]["mrr"].values["a1"] == pytest.approx(1 / 3)
    assert scores["up"]["R@0.005kt"].values["a1"] == 1
    assert scores["down"]["R@0.005kt"].values["a1"] == 0


@pytest.mark.parametrize("metric", ["hits@10", "dcg@10", "bpref", "rbp.95@10", "rbp.0", "rbp.05"])
def test_a_metric_is_a_figure_of_0_to_100_in_every_table_or_is_refused(graded, metric):
    try:
        evaluation = evaluate(graded, ["tied"], [metric], corpus=None, qrels=graded / "qrels.txt")
    except UserError:
        return
    assert 0 <= evaluation.scores["tied"][metric].macro <= 100  # NaN is not
    json.dumps(evaluation.as_json(), allow_nan=False)
    assert report.latex(evaluation)


def test_a_metric_that_ranx_cannot_tell_is_refused_not_nan(small):
    # bpref needs passages judged not relevant, and answers judge none
    try:
        values = evaluate(small, ["one"], ["bpref"]).scores["one"]["bpref"].values.values()
    except UserError:
        return
    assert all(math.isfinite(value) for value in values)


def test_hit_rate_is_a_count_of_hits(small):
    evaluation = evaluate(small, ["two"], ["hit_rate@1"])
    found = evaluation.as_json()["runs"]["two"]["hit_rate@1"]
    assert found["languages"]["ar"] == {"count": 4, "hit": 3, "score": 75.0}
    assert found["questions"] == {"a1": 1, "a2": 1, "a3": 0, "007": 1, "f1": 0}


def test_a_metric_in_capitals_is_the_same_and_stays_as_typed(small):
    typed = ["r@0.01KT", "nDCG@10", "Hit_Rate@1"]
    evaluation = evaluate(small, ["one", "two"], typed)
    assert evaluation.metrics == typed
    plain = evaluate(small, ["one", "two"], ["R@0.01kt", "ndcg@10", "hit_rate@1"])
    assert list(evaluation.as_json()["runs"]["one"]) == typed
    for run in ("one", "two"):
        found, expected = (list(e.as_json()["runs"][run].values()) for e in (evaluation, plain))
        assert found == expected
    assert "NDCG@10" in report.latex(evaluation)


# ---------------------------------------------------------------- languages, coverage


def test_questions_without_language_form_one_group(small, tmp_path):
    records = [{k: v for k, v in q.items() if k != "lang"} for q in QUESTIONS]
    write_jsonl(tmp_path / "questions.jsonl", records)
    shutil.copy(small / "corpus.jsonl", tmp_path)
    shutil.copy(small / "one.trec", tmp_path)
    scores = evaluate(tmp_path, ["one"], ["R@2kt"]).scores["one"]["R@2kt"]
    assert scores.by_language() == {"und": {"count": 5, "hit": 3, "score": 60.0}}
    assert scores.macro == 60.0


def test_questions_that_the_file_lacks_are_left_out_with_a_warning(small, tmp_path):
    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(small / name, tmp_path)
    write_run(tmp_path / "more.trec", {**ONE, "zz": ["d1"], "yy": ["d2"]})
    with pytest.warns(
        XqgWarning, match="^run more has 2 questions that the questions file does not; left out$"
    ):
        more = evaluate(tmp_path, ["more"], ["R@2kt", "mrr"])
    plain = evaluate(small, ["one"], ["R@2kt", "mrr"])
    for metric in ("R@2kt", "mrr"):
        assert more.scores["more"][metric].values == plain.scores["one"][metric].values


# ---------------------------------------------------------------- tests between runs


BITS = {  # 24 questions in ar, 4 in fi; 1 = the run's only passage holds the answer
    "a": "111111111111111100000000" + "1100",
    "b": "111111110000000000000000" + "1100",  # a wins 8 and loses none
    "c": "111111110000000011000000" + "0011",  # over b: 2 + 2 to 2
}


def write_bits(folder, bits, languages):
    """Write a task in which run r hits the question at i where bits[r][i] is 1."""
    corpus = [{"id": "yes", "text": "the answer"}, {"id": "no", "text": "nothing here"}]
    write_jsonl(folder / "corpus.jsonl", corpus)
    questions = [
        {"id": f"q{i:02}", "question": "?", "lang": language, "answers": ["answer"]}
        for i, language in enumerate(languages)
    ]
    write_jsonl(folder / "questions.jsonl", questions)
    for name, row in bits.items():
        rankings = {f"q{i:02}": ["yes" if b == "1" else "no"] for i, b in enumerate(row)}
        write_run(folder / f"{name}.trec", rankings)
    return folder


@pytest.fixture(scope="module")
def bits(tmp_path_factory):
    return write_bits(tmp_path_factory.mktemp("bits"), BITS, ["ar"] * 24 + ["fi"] * 4)


def test_win_tie_loss_are_those_of_the_run_given_first(bits):
    for order in (["a", "b"], ["b", "a"]):
        (test,) = evaluate(bits, order, ["R@2kt"]).tests
        assert (test.a, test.b) == tuple(order)
        assert (test.win, test.tie, test.loss) == ((8, 20, 0) if order[0] == "a" else (0, 20, 8))
    (test,) = evaluate(bits, ["c", "b"], ["R@2kt"]).tests
    assert (test.win, test.tie, test.loss) == (4, 22, 2)


@pytest.mark.parametrize("name", ["student", "fisher", "mcnemar"])
def test_p_values_are_those_of_the_significance_room(bits, name):
    evaluation = evaluate(bits, list(BITS), ["R@2kt"], test=name, correction="none")
    rows = {run: [int(b) for b in row] for run, row in BITS.items()}
    expected = {}
    for a, b in combinations(BITS, 2):
        more = {"groups": ["ar"] * 24 + ["fi"] * 4} if name == "fisher" else {}
        expected[a, b] = getattr(significance, name)(rows[a], rows[b], **more)
    assert {(t.a, t.b): t.p for t in evaluation.tests} == expected
    assert all(t.test == name and t.p_corrected == t.p for t in evaluation.tests)


def test_mcnemar_by_hand_and_one_family_for_each_metric(bits):
    by_hand = {
        ("a", "b"): 2 / 2**8,  # 8 to 0
        ("a", "c"): 2 * (1 + 14 + 91 + 364 + 1001) / 2**14,  # a wins 8 + 2, c wins 2 + 2
        ("b", "c"): 2 * (1 + 6 + 15) / 2**6,  # 2 to 4
    }
    # a second metric with the same outcome must not join the family: 3 pairs, not 6
    ab, ac, bc = by_hand.values()
    corrected = {
        "none": [ab, ac, bc],
        "bonferroni": [3 * ab, 3 * ac, 1],
        "holm": [3 * ab, 2 * ac, bc],
        "bh": [3 * ab, 3 / 2 * ac, bc],
    }
    for correction, expected in corrected.items():
        evaluation = evaluate(
            bits, list(BITS), ["R@2kt", "R@5kt"], test="mcnemar", correction=correction
        )
        assert [(t.metric, t.a, t.b) for t in evaluation.tests] == [
            (metric, a, b) for metric in ("R@2kt", "R@5kt") for a, b in combinations("abc", 2)
        ]
        for test in evaluation.tests:
            pair = test.a, test.b
            assert test.p == pytest.approx(by_hand[pair], rel=1e-12)
            assert test.p_corrected == pytest.approx(
                dict(zip(by_hand, expected, strict=True))[pair], rel=1e-12
            ), (correction, pair)
            assert test.significant == (pair == ("a", "b"))


def test_significance_is_decided_by_the_corrected_p_at_the_level_given(bits):
    # p(a, b) = 0.0078125; times 3 it is 0.0234375
    for level, correction, expected in [
        (0.05, "bonferroni", True),
        (0.01, "bonferroni", False),
        (0.01, "none", True),
        (0.0078125, "none", True),  # at the level is within it
        (0.0078, "none", False),
    ]:
        evaluation = evaluate(
            bits, list(BITS), ["R@2kt"], test="mcnemar", correction=correction, level=level
        )
        assert evaluation.tests[0].significant is expected, (level, correction)


def test_equal_runs_have_p_1_and_no_mark(bits, tmp_path):
    for name in ("corpus.jsonl", "questions.jsonl", "a.trec"):
        shutil.copy(bits / name, tmp_path)
    shutil.copy(bits / "a.trec", tmp_path / "again.trec")
    for test in ("student", "fisher", "mcnemar"):
        evaluation = evaluate(tmp_path, ["a", "again"], ["R@2kt"], test=test)
        (found,) = evaluation.tests
        assert (found.p, found.p_corrected, found.significant) == (1.0, 1.0, False)
        assert "ᵃ" not in report.tables(evaluation, True)


def test_marks_stand_at_the_better_run_and_name_the_beaten_one(bits):
    evaluation = evaluate(bits, list(BITS), ["R@2kt", "R@5kt"], test="mcnemar")
    # macro: a (16/24 + 2/4) / 2, b (8/24 + 2/4) / 2, c (10/24 + 2/4) / 2
    rows = [line.split() for line in report.macro_table(evaluation).splitlines()[2:]]
    assert rows == [
        ["a", "a", "58.33ᵇ", "58.33ᵇ"],
        ["b", "b", "41.67", "41.67"],
        ["c", "c", "45.83", "45.83"],
    ]
    marked = [line for line in report.test_table(evaluation).splitlines() if "*" in line]
    assert len(marked) == 2
    assert marked[0].split() == [
        "R@2kt", "a", "b", "+16.67", "0.0078", "0.0234*", "8/20/0", "+8"
    ]  # fmt: skip
    languages = report.language_table(evaluation).splitlines()
    assert languages[0].split() == ["metric", "run", "ar", "fi", "average", "questions"]
    assert languages[2].split() == ["R@2kt", "a", "a", "66.7", "50.0", "58.33ᵇ", "28"]
    assert languages[3].split() == ["b", "b", "33.3", "50.0", "41.67", "28"]


def test_no_mark_says_the_opposite_of_the_test(tmp_path):
    # a wins 20 questions of 40 in ar and loses the one in fi: pooled a is better (p < 0.001),
    # by the macro mean b is.  Nothing shows that b beats a, so b must carry no mark.
    rows = {"a": "1" * 20 + "0" * 20 + "0", "b": "0" * 40 + "1"}
    write_bits(tmp_path, rows, ["ar"] * 40 + ["fi"])
    evaluation = evaluate(tmp_path, ["a", "b"], ["R@2kt"], test="student")
    (test,) = evaluation.tests
    assert (test.win, test.loss) == (20, 1)
    assert test.p < 0.001
    scores = evaluation.scores
    assert scores["a"]["R@2kt"].macro == 25 < scores["b"]["R@2kt"].macro == 50
    row = report.macro_table(evaluation).splitlines()[3]
    assert row.split()[1:] == ["b", "50.00"]


def test_every_run_of_26_has_a_raised_letter_of_the_latin_alphabet():
    import unicodedata

    for letter, raised in zip(report.LETTERS, report.RAISED, strict=True):
        assert unicodedata.normalize("NFKC", raised) == letter, letter


# ---------------------------------------------------------------- files and output


def no_constant(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture(scope="module")
def written(small, tmp_path_factory):
    """What the command writes and prints for both runs."""
    output = tmp_path_factory.mktemp("evaluated") / "report"
    done = run_xqg(
        "evaluate", "--questions", small / "questions.jsonl", "--corpus", small / "corpus.jsonl",
        "--runs", small / "one.trec", small / "two.trec",
        "--metrics", "R@0.005kt", "R@2kt", "ndcg@10",
        "--output", output, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return output, done


def test_scores_json_has_exactly_the_promised_form(written):
    text = (written[0] / "scores.json").read_text("utf-8")
    scores = json.loads(text, parse_constant=no_constant)
    assert set(scores) == {"runs", "tests"}
    assert list(scores["runs"]) == ["one", "two"]
    for by_metric in scores["runs"].values():
        assert list(by_metric) == ["R@0.005kt", "R@2kt", "ndcg@10"]
        for metric, entry in by_metric.items():
            assert set(entry) == {"macro", "languages", "questions"}
            assert type(entry["macro"]) is float
            assert 0 <= entry["macro"] <= 100
            assert list(entry["languages"]) == ["ar", "fi"]
            for language, found in entry["languages"].items():
                assert set(found) == {"count", "hit", "score"}
                assert type(found["count"]) is int
                assert type(found["score"]) is float
                if metric == "ndcg@10":
                    assert found["hit"] is None
                else:
                    assert type(found["hit"]) is int
                    assert found["score"] == 100 * found["hit"] / found["count"], language
            kind = float if metric == "ndcg@10" else int
            assert set(entry["questions"]) == {"a1", "a2", "a3", "007", "f1"}
            assert {type(value) for value in entry["questions"].values()} == {kind}
    two = scores["runs"]["two"]
    assert two["R@0.005kt"]["questions"] == {"a1": 1, "a2": 1, "a3": 0, "007": 1, "f1": 0}
    assert two["R@2kt"]["languages"]["ar"] == {"count": 4, "hit": 3, "score": 75.0}
    assert two["R@2kt"]["macro"] == 87.5
    kinds = {
        "a": str, "b": str, "metric": str, "test": str, "p": float, "p_corrected": float,
        "significant": bool, "win": int, "tie": int, "loss": int,
    }  # fmt: skip
    assert [test["metric"] for test in scores["tests"]] == ["R@0.005kt", "R@2kt", "ndcg@10"]
    for test in scores["tests"]:
        assert {key: type(value) for key, value in test.items()} == kinds
        assert (test["a"], test["b"], test["test"]) == ("one", "two", "student")
    assert [test["loss"] for test in scores["tests"]] == [2, 1, 2]


def test_json_output_is_the_file(written):
    output, done = written
    printed = json.loads(done.stdout, parse_constant=no_constant)
    assert printed == json.loads((output / "scores.json").read_text("utf-8"))


def test_json_output_leaves_nothing_unreported(written):
    assert "run one lacks 1 of 7 questions, counted as misses" in written[1].stderr
    assert "2 of 7 questions have no answer to look for" in written[1].stderr


def test_the_five_files_and_nothing_else_are_written(written):
    names = {path.name for path in written[0].iterdir()}
    assert names == {
        "table.md", "table.tex", "per-question.tsv", "scores.json", "evaluation.json"
    }  # fmt: skip


def test_per_question_tsv_has_a_row_a_question_and_a_column_a_run_and_metric(written):
    with open(written[0] / "per-question.tsv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    metrics = ["R@0.005kt", "R@2kt", "ndcg@10"]
    assert header == ["id", "language", *(f"{run} {m}" for run in ("one", "two") for m in metrics)]
    assert [row[:2] for row in rows] == [
        ["a1", "ar"], ["a2", "ar"], ["a3", "ar"], ["007", "ar"], ["f1", "fi"]
    ]  # fmt: skip
    assert [row[2:4] + row[5:7] for row in rows] == [
        ["0", "1", "1", "1"],
        ["1", "1", "1", "1"],
        ["0", "0", "0", "0"],
        ["0", "0", "1", "1"],
        ["0", "1", "0", "1"],
    ]
    assert float(rows[0][4]) == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)), abs=1e-5)


def test_table_md_holds_scores_tests_relevance_and_notes(written):
    text = (written[0] / "table.md").read_text("utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["", "run", "R@0.005kt", "R@2kt", "ndcg@10"] in lines
    assert ["a", "one", "12.50", "75.00"] in [line[:4] for line in lines]
    assert ["b", "two", "37.50", "87.50"] in [line[:4] for line in lines]
    assert ["R@2kt", "a", "one", "50.0", "100.0", "75.00", "5"] in lines  # per language
    assert ["metric", "a", "b", "a - b", "p", "p (holm)", "win/tie/loss", "net"] in lines
    assert ["R@2kt", "one", "two", "-12.50"] in [line[:4] for line in lines]
    for sentence in (
        "Scores are 0-100, averaged over languages without weights.",
        "Relevance: derived from the answers in the corpus "
        "(5 of 7 questions have a relevant passage).",
        "Note: run one lacks 1 of 7 questions, counted as misses.",
        "Note: 2 of 7 questions have no answer to look for and are not counted.",
    ):
        assert sentence in text


def balanced(latex):
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", latex):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    return depth == 0


def test_table_tex_is_latex_with_our_metrics_and_figures(written):
    text = (written[0] / "table.tex").read_text("utf-8")
    assert "====" not in text
    assert balanced(re.sub(r"(?m)^%.*$", "", text))
    for begin in re.findall(r"\\begin\{(\w+\*?)\}", text):
        assert f"\\end{{{begin}}}" in text
    for label in ("R@0.005kt", "R@2kt", "NDCG@10"):
        assert f"\\textbf{{{label}}}" in text
    assert re.search(r"(?m)^a &\none &\n12\.50", text)
    assert re.search(r"(?m)^b &\ntwo &\n\\textbf\{37\.50\}.*\n\\textbf\{87\.50\}", text)


LATEX_NAMES = ["a_b", "50%", "r&d", "c#1"]


@pytest.fixture(scope="module")
def named(bits, tmp_path_factory):
    """Runs whose names hold what LaTeX reads as commands."""
    folder = tmp_path_factory.mktemp("named")
    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(bits / name, folder)
    for name, run in zip(LATEX_NAMES, ["a", "b", "c", "a"], strict=True):
        shutil.copy(bits / f"{run}.trec", folder / f"{name}.trec")
    return report.latex(evaluate(folder, LATEX_NAMES, ["R@2kt", "hit_rate@1"], test="mcnemar"))


@pytest.mark.parametrize("name", LATEX_NAMES)
def test_run_names_are_escaped_in_latex(named, name):
    escaped = re.sub("([_%&#])", r"\\\1", name)
    assert f"\n{escaped} &" in named


def test_latex_marks_are_the_tests(named):
    # run a beats b (50%) alone; the last run equals a
    cells = re.search(r"(?m)^a &\n.*&\n(.*)&\n(.*)\\\\$", named).groups()
    for cell in cells:
        assert re.match(r"(\\textbf\{58\.33\}|58\.33)\$\^\{b\}\$", cell), cells
    b = re.search(r"(?m)^b &\n.*&\n(.*)&\n(.*)\\\\$", named).groups()
    assert all(re.match(r"41\.67\\hphantom", cell) for cell in b), b


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_table_tex_compiles(written, named, tmp_path):
    for name, table in [("one", (written[0] / "table.tex").read_text("utf-8")), ("two", named)]:
        document = "\\documentclass{article}\\usepackage{booktabs}\\usepackage{graphicx}"
        document += f"\\begin{{document}}\n{table}\n\\end{{document}}\n"
        (tmp_path / f"{name}.tex").write_text(document, "utf-8")
        done = subprocess.run(
            ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", f"{name}.tex"],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]


def test_the_command_prints_tables_and_keeps_an_old_report(small, tmp_path):
    output = tmp_path / "report"
    output.mkdir()
    (output / "mine.txt").write_text("kept")
    base = [
        "evaluate", "--questions", small / "questions.jsonl", "--corpus", small / "corpus.jsonl",
        "--runs", small / "one.trec", "--metrics", "R@2kt", "--per-language",
    ]  # fmt: skip
    done = run_xqg(*base, "--output", output)
    assert done.returncode == 2
    assert done.stderr == (
        f"xqg evaluate: error: {output}: the folder already holds something; "
        "give another name, or --overwrite to replace it\n"
    )
    assert [path.name for path in output.iterdir()] == ["mine.txt"]
    done = run_xqg(*base)
    assert (done.returncode, done.stderr) == (0, "")
    assert ["a", "one", "75.00"] in [line.split() for line in done.stdout.splitlines()]
    assert ["R@2kt", "a", "one", "50.0", "100.0", "75.00", "5"] in [
        line.split() for line in done.stdout.splitlines()
    ]
    assert "win/tie/loss" not in done.stdout  # one run has no rival


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
    assert run_name(tmp_path / "x.y" / file) == name


def test_a_zipped_run_reads_as_the_plain_one(small, tmp_path):
    import gzip

    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(small / name, tmp_path)
    with gzip.open(tmp_path / "z.trec.gz", "wb") as file:
        file.write((small / "one.trec").read_bytes())
    questions = read_questions(tmp_path / "questions.jsonl")
    zipped = evaluate_runs(
        questions, [tmp_path / "z.trec.gz"], ["R@2kt"], corpus=tmp_path / "corpus.jsonl"
    )
    assert zipped.runs == ["z"]
    plain = evaluate(small, ["one"], ["R@2kt"])
    assert zipped.scores["z"]["R@2kt"].values == plain.scores["one"]["R@2kt"].values


def test_two_runs_of_one_name_are_refused(small, tmp_path):
    shutil.copy(small / "one.trec", tmp_path / "one.txt")
    with pytest.raises(UserError) as refusal:
        evaluate_runs(
            read_questions(small / "questions.jsonl"),
            [small / "one.trec", tmp_path / "one.txt"],
            ["R@2kt"],
            corpus=small / "corpus.jsonl",
        )
    expected = f"{small / 'one.trec'} and {tmp_path / 'one.txt'} are both the run 'one'; rename one"
    assert str(refusal.value) == expected


@pytest.mark.parametrize(
    ("metrics", "options", "message"),
    [
        (["R@2kt"], {"corpus": None}, "R@kt needs the passages' texts: give --corpus"),
        (
            ["mrr"],
            {"corpus": None},
            "relevance derived from the answers (or give --qrels) needs the passages' texts: "
            "give --corpus",
        ),
        (["R@2kt", "R@2kt"], {}, "give each metric once, and at least one"),
        ([], {}, "give each metric once, and at least one"),
        (
            ["R@2kt", "mrr"],
            {"test": "mcnemar"},
            "mcnemar takes measures of hit or miss (R@kt, hit_rate@k), not mrr; "
            "choose --test student or fisher",
        ),
        (["R@2kt"], {"level": 0}, "level 0; expected a number between 0 and 1"),
        (["R@2kt"], {"level": math.nan}, "level nan; expected a number between 0 and 1"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(small, metrics, options, message):
    with pytest.raises(UserError) as refusal:
        evaluate(small, ["one"], metrics, **options)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "name", ["R@0kt", "R@kt", "R@-1kt", "R@2", "R@2t", "ndcg@0", "ndcg@", "ndgc@10", "ndcg@10 ", ""]
)
def test_an_unknown_metric_is_named_with_those_there_are(name):
    with pytest.raises(UserError) as refusal:
        parse_metric(name)
    if name == "R@0kt":
        expected = "metric 'R@0kt': a budget of no token; expected e.g. R@2kt or R@0.5kt"
    else:
        expected = (
            f"unknown metric {name!r}: expected R@2kt, R@5kt, R@0.5kt …, or one of ranx's: "
            "ndcg@10, mrr@10, recall@100, map, precision@5, hit_rate@1, …"
        )
    assert str(refusal.value) == expected


@pytest.mark.parametrize("metric", ["R@2kt", "mrr"])
def test_questions_of_which_none_has_an_answer_are_refused(small, tmp_path, metric):
    shutil.copy(small / "corpus.jsonl", tmp_path)
    shutil.copy(small / "one.trec", tmp_path)
    write_jsonl(tmp_path / "questions.jsonl", [QUESTIONS[2], QUESTIONS[6]])
    with (
        pytest.warns(XqgWarning, match="run one has 4 questions"),
        pytest.raises(UserError) as refusal,
    ):
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
    assert str(refusal.value) == "run other: none of its questions is in the questions file"
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
    assert str(refusal.value) == (
        f"{tmp_path / 'corpus.jsonl'}, line 6: passage id 'd2' again; ids must be unique"
    )


def test_relevant_passages_that_no_run_retrieved_are_counted_and_no_more_than_matter(tmp_path):
    """Ten passages hold the answer, one is retrieved at rank 1: the ideal ranking has all ten."""
    passages = [{"id": f"d{i}", "text": f"gold {i}"} for i in range(10)]
    write_jsonl(tmp_path / "corpus.jsonl", [*passages, {"id": "x", "text": "lead"}])
    question = {"id": "q", "question": "?", "lang": "ja", "answers": ["gold"]}
    write_jsonl(tmp_path / "questions.jsonl", [question])
    (tmp_path / "run.trec").write_text("q Q0 d3 1 2 t\nq Q0 x 2 1 t\n")
    for metrics in (["ndcg@3"], ["ndcg@3", "recall@10"]):  # three matter to the one, all to both
        found = evaluate(tmp_path, ["run"], metrics).scores["run"]
        ideal = 1 + 1 / math.log2(3) + 1 / 2
        assert found["ndcg@3"].macro == pytest.approx(100 / ideal)
    assert found["recall@10"].macro == pytest.approx(10)
