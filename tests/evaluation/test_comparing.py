"""Comparisons of runs: the tests, their corrections, and the marks that they leave in tables."""

import shutil
from itertools import combinations

import pytest
from made_results import (
    BITS,
    bits,  # noqa: F401 - a fixture
    evaluate,
    write_bits,
)

from xqg_pyserini.evaluation import significance
from xqg_pyserini.evaluation.tables import comparison_table, language_table, macro_table, results_tables
from xqg_pyserini.tables import LETTERS, RAISED


def test_win_tie_loss_are_those_of_the_run_given_first(bits):
    for order in (["a", "b"], ["b", "a"]):
        (test,) = evaluate(bits, order, ["R@2kt"]).tests
        assert (test.a, test.b) == tuple(order)
        assert (test.win, test.tie, test.loss) == ((8, 20, 0) if order[0] == "a" else (0, 20, 8))
    (test,) = evaluate(bits, ["c", "b"], ["R@2kt"]).tests
    assert (test.win, test.tie, test.loss) == (4, 22, 2)


@pytest.mark.parametrize("name", ["student", "fisher", "mcnemar"])
def test_p_values_are_those_of_the_significance_functions(bits, name):
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
        evaluation = evaluate(bits, list(BITS), ["R@2kt", "R@5kt"], test="mcnemar", correction=correction)
        assert [(t.metric, t.a, t.b) for t in evaluation.tests] == [
            (metric, a, b) for metric in ("R@2kt", "R@5kt") for a, b in combinations("abc", 2)
        ]
        for test in evaluation.tests:
            pair = test.a, test.b
            assert test.p == pytest.approx(by_hand[pair], rel=1e-12)
            assert test.p_corrected == pytest.approx(dict(zip(by_hand, expected, strict=True))[pair], rel=1e-12), (
                correction,
                pair,
            )
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
        evaluation = evaluate(bits, list(BITS), ["R@2kt"], test="mcnemar", correction=correction, level=level)
        assert evaluation.tests[0].significant is expected, (level, correction)


def test_equal_runs_have_p_1_and_no_mark(bits, tmp_path):
    for name in ("corpus.jsonl", "questions.jsonl", "a.trec"):
        shutil.copy(bits / name, tmp_path)
    shutil.copy(bits / "a.trec", tmp_path / "again.trec")
    for test in ("student", "fisher", "mcnemar"):
        evaluation = evaluate(tmp_path, ["a", "again"], ["R@2kt"], test=test)
        (found,) = evaluation.tests
        assert (found.p, found.p_corrected, found.significant) == (1.0, 1.0, False)
        assert "ᵃ" not in results_tables(evaluation, True)


def test_marks_stand_at_the_better_run_and_name_the_beaten_one(bits):
    evaluation = evaluate(bits, list(BITS), ["R@2kt", "R@5kt"], test="mcnemar")
    # macro: a (16/24 + 2/4) / 2, b (8/24 + 2/4) / 2, c (10/24 + 2/4) / 2
    rows = [line.split() for line in macro_table(evaluation.scores, evaluation).text().splitlines()[2:]]
    assert rows == [["a", "a", "58.33ᵇ", "58.33ᵇ"], ["b", "b", "41.67", "41.67"], ["c", "c", "45.83", "45.83"]]
    marked = [line for line in comparison_table(evaluation).text().splitlines() if "*" in line]
    assert len(marked) == 2
    assert marked[0].split() == [
        "R@2kt", "a", "b", "+16.67", "0.0078", "0.0234*", "8/20/0", "+8"
    ]  # fmt: skip
    languages = language_table(evaluation.scores, evaluation).text().splitlines()
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
    row = macro_table(evaluation.scores, evaluation).text().splitlines()[3]
    assert row.split()[1:] == ["b", "50.00"]


def test_every_run_of_26_has_a_raised_letter_of_the_latin_alphabet():
    import unicodedata

    for letter, raised in zip(LETTERS, RAISED, strict=True):
        assert unicodedata.normalize("NFKC", raised) == letter, letter
