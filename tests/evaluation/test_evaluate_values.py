"""Scores of Python values are those of the files that hold them, and come out as values."""

import subprocess
import sys

import pytest
from conftest import message
from made_results import (
    CORPUS,
    ONE,
    QUESTIONS,
    TWO,
    bits,  # noqa: F401 - a fixture
    small,  # noqa: F401 - a fixture
)

from xqg_pyserini.data import read_run
from xqg_pyserini.evaluation.ir_measure import RAtKt
from xqg_pyserini.evaluation.scores import evaluate, r_at_kt

METRICS = ["R@0.005kt", "recall@10"]


def run(rankings):
    return {qid: {docid: -float(i) for i, docid in enumerate(docids)} for qid, docids in rankings.items()}


def rows(rankings):
    return [(q, docid, score) for q, hits in run(rankings).items() for docid, score in hits.items()]


TEXTS = {passage["id"]: passage["text"] for passage in CORPUS}


@pytest.fixture
def from_files(small):
    paths = [small / "one.trec", small / "two.trec"]
    return evaluate(paths, small / "questions.jsonl", METRICS, corpus=small / "corpus.jsonl")


def frame(rankings):
    import pandas

    return pandas.DataFrame(rows(rankings), columns=["query_id", "doc_id", "score"])


@pytest.mark.parametrize(
    ("make", "corpus"),
    [
        (run, lambda folder: TEXTS),
        (rows, lambda folder: iter(CORPUS)),
        (frame, lambda folder: folder / "corpus.jsonl"),
        (lambda rankings: iter(rows(rankings)), lambda folder: str(folder / "corpus.jsonl")),
    ],
    ids=["mappings", "rows", "frames", "iterators"],
)
def test_values_are_scored_as_files_are(small, from_files, make, corpus):
    runs = {"one": make(ONE), "two": make(TWO)}
    scores = evaluate(runs, QUESTIONS, METRICS, corpus=corpus(small))
    assert list(scores) == ["one", "two"]
    for name in scores:
        for metric in METRICS:
            assert scores[name][metric] == from_files[name][metric]
    assert scores.notes == from_files.notes
    assert scores.relevance == from_files.relevance


def test_one_run_needs_no_name(small):
    for value in (run(ONE), rows(ONE), frame(ONE)):
        scores = evaluate(value, QUESTIONS, ["R@2kt"], corpus=TEXTS)
        assert scores.runs == ["run"]
        assert scores.macro("run", "R@2kt") == 75.0
    assert evaluate(small / "one.trec", QUESTIONS, ["R@2kt"], corpus=TEXTS).runs == ["one"]
    mixed = {"a": small / "one.trec", "b": read_run(small / "two.trec")}
    assert evaluate(mixed, QUESTIONS, ["R@2kt"], corpus=TEXTS).runs == ["a", "b"]


def test_a_question_without_hits_does_not_hide_that_a_run_is_one():
    scores = evaluate({"n1": {}, **run(ONE)}, QUESTIONS, ["R@2kt"], corpus=TEXTS)
    assert scores.macro("run", "R@2kt") == 75.0
    assert "lacks 1 of 7" in scores.notes[0]  # n1 is there, 007 is not


def test_qrels_are_values_too(small, tmp_path):
    qrels = {"a1": {"d1": 1}, "f1": {"d2": 2, "d9": 0}}
    scores = evaluate(run(ONE), QUESTIONS, ["mrr", "ndcg@10"], qrels=qrels)
    assert scores["run"]["mrr"].by_question == {"a1": 0.5, "f1": 0.5}
    assert scores.relevance == "qrels (2 of 7 questions have a relevant passage)"
    (tmp_path / "qrels").write_text("a1 0 d1 1\nf1 0 d2 2\nf1 0 d9 0\n")
    again = evaluate(run(ONE), QUESTIONS, ["mrr", "ndcg@10"], qrels=tmp_path / "qrels")
    assert again["run"] == scores["run"]


def test_a_passage_that_a_corpus_of_values_lacks_is_named():
    assert message(evaluate, run({"a1": ["d9"]}), QUESTIONS, ["R@2kt"], corpus=TEXTS) == (
        "run run: passage 'd9' is not in the corpus"
    )
    assert message(evaluate, {}, QUESTIONS, ["R@2kt"], corpus=TEXTS) == "no run to evaluate"
    assert message(evaluate, [], QUESTIONS, ["R@2kt"], corpus=TEXTS) == "no run to evaluate"


def test_scores_are_numbers_a_table_and_a_frame(from_files):
    one = from_files["one"]["R@0.005kt"]
    assert (one.macro, one.by_language["ar"].hit, one.by_question["a2"]) == (12.5, 1, 1)
    assert one.by_language["fi"].count == 1
    text = str(from_files)
    assert text.splitlines()[0].split() == ["run", "R@0.005kt", "recall@10"]
    assert text.splitlines()[2].split()[:3] == ["a", "one", "12.50"]
    assert "Note: run one lacks 1 of 7 questions, counted as misses." in text
    assert repr(from_files) == "Scores(runs=['one', 'two'], metrics=['R@0.005kt', 'recall@10'])"
    table = from_files.to_pandas()
    assert list(table.columns) == ["run", "metric", "language", "question", "value"]
    assert len(table) == 2 * 2 * 5
    means = table.groupby(["run", "metric", "language"])["value"].mean()
    assert 100 * means["one", "R@0.005kt", "ar"] == one.by_language["ar"].score
    chosen = table[(table.run == "two") & (table.metric == "R@0.005kt")]
    assert dict(zip(chosen.question, chosen.value, strict=True)) == (from_files["two"]["R@0.005kt"].by_question)


def test_one_measure_may_be_given_as_it_is(bits):
    runs, questions, corpus = [bits / "a.trec"], bits / "questions.jsonl", bits / "corpus.jsonl"
    assert evaluate(runs, questions, "R@2kt", corpus=corpus) == evaluate(runs, questions, ["R@2kt"], corpus=corpus)


def test_comparisons_are_values_and_a_table(bits):
    runs = [bits / f"{name}.trec" for name in "abc"]
    questions, corpus = bits / "questions.jsonl", bits / "corpus.jsonl"
    scores = evaluate(runs, questions, ["R@2kt"], corpus=corpus)
    pairs = scores.compare("mcnemar")
    assert [(test.a, test.b) for test in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs.of("b", "a", "R@2kt") == pairs[0]
    assert "0.0234*" in str(pairs) and "58.33ᵇ" in str(pairs)
    against = scores.compare("mcnemar", "bonferroni", baseline="b")
    assert [(test.a, test.b, test.win, test.loss) for test in against] == [
        ("a", "b", 8, 0), ("c", "b", 4, 2)
    ]  # fmt: skip
    assert against[0].p_corrected == pytest.approx(2 * 2 / 2**8)  # a family of two
    assert "over the runs compared." in str(against)
    assert scores.compare().settings.correction == "holm"
    difference = scores.difference("a", "b", "R@2kt")
    assert difference["macro"].mean == pytest.approx((8 / 24 + 0) / 2 * 100)
    with pytest.raises(KeyError):
        scores["d"]
    assert message(scores.compare, baseline="d") == "baseline 'd': expected one of a b c"
    assert message(scores.compare, "tukey") == "test 'tukey'; expected student, fisher, mcnemar"


# ---------------------------------------------------------------- R@kt alone


def test_r_at_kt_is_a_function_of_values(small):
    scores = r_at_kt(run(ONE), QUESTIONS, TEXTS, (5, 10))
    assert list(scores) == [5, 10]
    assert scores[5].by_question == {"a1": 0, "a2": 1, "a3": 0, "007": 0, "f1": 0}
    assert scores[10].by_question == {"a1": 1, "a2": 1, "a3": 0, "007": 0, "f1": 1}
    assert (scores[10].macro, scores[10].by_language["ar"].score) == (75.0, 50.0)
    assert list(r_at_kt(small / "one.trec", QUESTIONS, small / "corpus.jsonl")) == [2000, 5000]
    titled = r_at_kt({"007": {"d5": 1.0}}, QUESTIONS, iter(CORPUS), [1], with_title=True)
    assert titled[1].by_question["007"] == 0  # the title is the first token


def test_ir_measures_takes_r_at_kt_beside_its_own(small):
    import ir_measures

    qrels = [ir_measures.Qrel("a1", "d1", 1), ir_measures.Qrel("n1", "d1", 1)]
    hits = [ir_measures.ScoredDoc(*row) for row in rows(ONE)]
    measure = RAtKt(QUESTIONS, iter(CORPUS))
    wanted = [measure @ 5, measure @ 10, ir_measures.nDCG @ 10]
    scores = ir_measures.calc_aggregate(wanted, qrels, hits)
    expected = evaluate(run(ONE), QUESTIONS, ["R@0.005kt", "R@0.01kt"], corpus=TEXTS)
    assert scores[measure @ 5] == pytest.approx(expected.macro("run", "R@0.005kt") / 100)
    assert scores[measure @ 10] == pytest.approx(0.75)
    ndcg = evaluate(
        run(ONE), QUESTIONS, ["ndcg@10"], qrels={"a1": {"d1": 1}, "n1": {"d1": 1}}
    )["run"]["ndcg@10"].by_question  # fmt: skip
    assert scores[ir_measures.nDCG @ 10] == pytest.approx(sum(ndcg.values()) / 2)
    assert [str(one) for one in wanted] == ["R@0.005kt", "R@0.01kt", "nDCG@10"]
    by_query = {metric.query_id: metric.value for metric in ir_measures.iter_calc([measure @ 10], qrels, run(ONE))}
    assert by_query.pop("n1") != by_query.get("n1")  # NaN: judged, but without an answer
    assert by_query == {"a1": 1, "a2": 1, "a3": 0, "007": 0, "f1": 1}
    frame_of_it = frame(ONE)
    again = ir_measures.calc_aggregate([RAtKt(QUESTIONS, TEXTS) @ 10, ir_measures.nDCG @ 10], qrels, frame_of_it)
    assert again[measure @ 10] == 0.75


def test_without_ir_measures_its_extra_is_named():
    code = (
        "import sys; sys.modules['ir_measures'] = None\n"
        "from xqg_pyserini.evaluation.ir_measure import RAtKt\n"
        "try: RAtKt([], {})\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "UserError the package ir_measures is not installed: run pip install 'xqg_pyserini[ir-measures]'\n"
    )
