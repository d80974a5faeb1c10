"""Significance tests: p-values worked out by hand, by enumeration, and by ranx and SciPy."""

import itertools
import math

import numpy as np
import pytest

from xqg_pyserini.evaluation import significance
from xqg_pyserini.evaluation.significance import (
    correct,
    fisher,
    macro_interval,
    mcnemar,
    mean_interval,
    student,
    win_tie_loss,
)


def discordant(wins, losses, ties=0):
    """Two runs' hits with so many questions won, lost, and hit by both."""
    a = [1] * wins + [0] * losses + [1] * ties
    b = [0] * wins + [1] * losses + [1] * ties
    return a, b


def enumerate_signs(a, b, groups):
    """The exact p-value: the share of all sign vectors that go as far as the observed one."""
    names = sorted(set(groups))

    def macro(differences):
        return abs(np.mean([differences[groups == name].mean() for name in names]))

    differences = np.subtract(a, b)
    groups = np.array(list(groups))
    vectors = list(itertools.product([-1, 1], repeat=len(differences)))
    observed = macro(differences) - 1e-9
    return sum(macro(differences * np.array(v)) >= observed for v in vectors) / len(vectors)


# --- student --------------------------------------------------------------------------------------


def test_student_by_hand():
    # d = 1, 2, 3: mean 2, deviation 1, t = 2 * sqrt(3) with 2 degrees of freedom, for which
    # p = 1 - t / sqrt(2 + t^2) = 1 - sqrt(12 / 14).
    assert student([1, 2, 3], [0, 0, 0]) == pytest.approx(1 - math.sqrt(12 / 14), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 50, 999])
def test_student_is_that_of_scipy_to_the_last_bit(n):
    from scipy.stats import ttest_rel

    chance = np.random.default_rng(n)
    a, b = chance.random((2, n))
    hits, misses = chance.integers(0, 2, (2, n)).astype(float)
    hits[:2], misses[:2] = (1, 0), (0, 0)
    for first, second in ((a, b), (b, a), (a, a * 0.99), (hits, misses), (a, hits)):
        assert student(first, second) == ttest_rel(first, second).pvalue


def test_student_is_that_of_ranx():
    from ranx.statistical_tests import paired_student_t_test

    chance = np.random.default_rng(0)
    a, b = chance.random(50), chance.random(50)
    assert student(a, b) == paired_student_t_test(a, b)[0]


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([1, 0, 1], [1, 0, 1], 1.0),  # equal runs
        ([1], [0], 1.0),  # one question: no deviation
        ([1, 1], [0, 0], 0.0),  # the same difference throughout: t is infinite
    ],
)
@pytest.mark.filterwarnings("error")
def test_student_at_its_limits(a, b, p):
    assert student(a, b) == p


# --- mcnemar --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 * 1/2
        (1, 1, 1.0),  # 2 * 3/4, at most 1
        (5, 0, 0.0625),  # 2 * 1/32
        (5, 1, 0.21875),  # 2 * (1 + 6)/64
        (1, 5, 0.21875),
        (10, 2, 2 * (1 + 12 + 66) / 4096),
    ],
)
def test_mcnemar(wins, losses, p):
    assert mcnemar(*discordant(wins, losses, ties=7)) == pytest.approx(p, rel=1e-12)


def test_mcnemar_is_the_binomial_test():
    from scipy.stats import binomtest

    for wins, losses in [(3, 9), (130, 88), (900, 1028)]:
        expected = binomtest(wins, wins + losses).pvalue
        assert mcnemar(*discordant(wins, losses)) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_takes_bools_and_refuses_grades():
    assert mcnemar([True, False], [True, True]) == 1.0
    with pytest.raises(ValueError) as graded:
        mcnemar([1, 0, 0.5], [1, 0, 1])
    assert str(graded.value) == (
        "McNemar's test compares hits and misses, 1 or 0, but a score is 0.5; use student or fisher for graded measures"
    )


# --- fisher ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "groups"),
    [
        ([1, 1, 1, 1, 0], [0, 0, 0, 1, 0], "aaaaa"),  # 2 of 8: all three one way
        ([0.9, 0.5, 0.7, 0.1], [0.2, 0.6, 0.1, 0.0], "aaaa"),
        # One question in "b" weighs as much as five in "a", and goes the other way.
        ([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1], "aaaaab"),
        ([1, 1, 0, 0, 1, 0, 1, 1, 0], [0, 0, 1, 0, 0, 1, 0, 0, 0], "abcabcabb"),
        # Thirds and tenths: sums equal on paper differ in floating point.
        ([0.1, 0.3, 0.2, 0.4, 0.1, 0.3], [0.0] * 6, "aaabbc"),
    ],
)
def test_fisher_against_all_sign_vectors(a, b, groups):
    exact = enumerate_signs(a, b, groups)
    draws = 20_000
    tolerance = 5 * math.sqrt(exact * (1 - exact) / draws) + 2 / draws
    assert fisher(a, b, groups, draws=draws) == pytest.approx(exact, abs=tolerance)


def test_fisher_by_hand():
    # Only (+ + +) and (- - -) of 8 go as far as three wins.
    assert enumerate_signs([1, 1, 1, 1], [0, 0, 0, 1], "aaaa") == 0.25
    # In the macro mean the five wins of "a" and the loss of "b" cancel: nothing is closer to 0.
    assert fisher([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1], "aaaaab") == 1.0
    # Pooled, the same five wins and a loss are 4/6 in favour: 14 of 64 go as far.
    pooled = fisher([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1], "aaaaaa", draws=20_000)
    assert pooled == pytest.approx(14 / 64, abs=0.015)


def test_fisher_is_never_0_and_has_the_published_correction():
    assert fisher([1] * 60, [0] * 60, "a" * 60, draws=999) == 1 / 1000
    assert fisher([1, 0], [1, 0], "ab") == 1.0
    # With one draw of one question every statistic is as far as the observed one.
    assert fisher([1], [0], "a", draws=1) == 1.0


def test_fisher_is_reproducible_and_symmetric():
    chance = np.random.default_rng(1)
    a, b = chance.random(200), chance.random(200)
    groups = list(chance.choice(["ar", "fi", "ja"], 200))
    first = fisher(a, b, groups, seed=3)
    assert fisher(b, a, groups, seed=3) == first
    fisher(a, a + 0.1, groups, seed=9)
    np.random.seed(5)
    assert fisher(a, b, groups, seed=3) == first
    assert fisher(a, b, groups, seed=4) != first
    renamed = [("language", group) for group in groups]
    assert fisher(a, b, renamed, seed=3) == first


def test_fisher_counts_every_draw_of_every_chunk(monkeypatch):
    monkeypatch.setattr(significance, "_SIGNS_AT_A_TIME", 7)
    assert fisher([1] * 3, [0] * 3, "aaa", draws=5_001) == pytest.approx(0.25, abs=0.04)
    assert fisher([1], [0], "a", draws=10) == 1.0
    assert fisher([1] * 60, [0] * 60, "a" * 60, draws=99) == 1 / 100  # more questions than fit


@pytest.mark.parametrize(
    ("groups", "draws", "message"),
    [("aa", 10, "3 scores, but 2 groups; give one a question"), ("aaa", 0, "draws must be at least 1, got 0")],
)
def test_fisher_refuses(groups, draws, message):
    with pytest.raises(ValueError, match=message):
        fisher([1, 0, 1], [0, 0, 0], groups, draws=draws)


# --- correct --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "given", "adjusted"),
    [
        ("none", [0.04, 0.01, 0.03], [0.04, 0.01, 0.03]),
        ("bonferroni", [0.04, 0.01, 0.5], [0.12, 0.03, 1.0]),
        # 4 * 0.005, 3 * 0.01, 2 * 0.03, and 1 * 0.04 raised to the one before.
        ("holm", [0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ("holm", [0.6, 0.5], [1.0, 1.0]),
        # 4/1 * 0.005, 4/2 * 0.01, 4/4 * 0.04, and 4/3 * 0.039 lowered to the one after.
        ("bh", [0.01, 0.04, 0.039, 0.005], [0.02, 0.04, 0.04, 0.02]),
        ("bh", [0.9, 0.8, 0.7], [0.9, 0.9, 0.9]),
        ("bh", [0.02, 0.02], [0.02, 0.02]),
        ("holm", [0.02, 0.02], [0.04, 0.04]),
        *[(method, [0.03], [0.03]) for method in ("none", "bonferroni", "holm", "bh")],
        *[(method, [], []) for method in ("none", "bonferroni", "holm", "bh")],
    ],
)
def test_correct(method, given, adjusted):
    assert correct(given, method).tolist() == pytest.approx(adjusted, rel=1e-12)


def test_benjamini_and_hochberg_1995():
    """Their example, section 3.1: at 0.05 four are rejected, by Bonferroni three."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert (correct(p, "bh") <= 0.05).sum() == 4
    assert (correct(p, "bonferroni") <= 0.05).sum() == 3
    assert (correct(p, "holm") <= 0.05).sum() == 3


def test_bh_is_that_of_scipy():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(2).random(40) ** 3
    np.testing.assert_allclose(correct(p, "bh"), false_discovery_control(p), rtol=1e-12)


def test_correct_leaves_its_input_alone_and_refuses():
    given = np.array([0.9, 0.1])
    for method in ("none", "bonferroni", "holm", "bh"):
        correct(given, method)[:] = 7
    assert given.tolist() == [0.9, 0.1]
    with pytest.raises(ValueError, match="unknown correction 'fdr'; there are none, bonferroni, holm, bh"):
        correct(given, "fdr")
    for wrong in ([-0.1], [1.1], [float("nan")], [[0.1]]):
        with pytest.raises(ValueError, match="p-values must"):
            correct(wrong, "holm")


# --- win_tie_loss, and what all share -------------------------------------------------------------


def test_win_tie_loss():
    assert win_tie_loss([1, 0, 0.5, 0.2, 1], [0, 1, 0.5, 0.1, 1]) == (2, 2, 1)
    assert win_tie_loss([0, 0], [1, 1]) == (0, 0, 2)


EVERY_TEST = [
    pytest.param(student, id="student"),
    pytest.param(mcnemar, id="mcnemar"),
    pytest.param(lambda a, b: fisher(a, b, ["x"] * len(a)), id="fisher"),
    pytest.param(win_tie_loss, id="win_tie_loss"),
]


@pytest.mark.parametrize("compare", EVERY_TEST)
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1, 0], [1], r"got shapes \(2,\) and \(1,\)"),
        ([1], [1, 0], r"line up question by question; got shapes \(1,\) and \(2,\)"),
        ([], [], r"not empty, .* got shapes \(0,\) and \(0,\)"),
        ([[1, 0]], [[1, 0]], r"must be 1-D, .* got shapes \(1, 2\) and \(1, 2\)"),
        ([1, float("nan")], [1, 0], "a score is not finite; give every question a number"),
        ([1, 0], [1, float("inf")], "a score is not finite; give every question a number"),
    ],
)
def test_runs_must_line_up(compare, a, b, message):
    with pytest.raises(ValueError, match=message):
        compare(a, b)


@pytest.mark.parametrize("compare", EVERY_TEST[:3])
def test_swapping_the_runs_changes_nothing(compare):
    chance = np.random.default_rng(4)
    for _ in range(5):
        a, b = chance.integers(0, 2, (2, 80))
        assert compare(a, b) == compare(b, a)


# --- intervals ------------------------------------------------------------------------------------

# of Student's t: the quantile 0.975 by degrees of freedom, as tables print it
T = {1: 12.706204736, 2: 4.302652730, 4: 2.776445105}


def test_the_interval_of_a_mean_by_hand():
    # mean 2, deviation 1, n = 3
    interval = mean_interval([1, 2, 3])
    assert interval.mean == 2
    assert interval.high == pytest.approx(2 + T[2] / math.sqrt(3), rel=1e-9)
    assert interval.low == pytest.approx(2 - T[2] / math.sqrt(3), rel=1e-9)


def test_the_interval_of_a_mean_is_that_of_scipy():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).random(40)
    for confidence in (0.5, 0.9, 0.99):
        low, high = ttest_1samp(values, 0).confidence_interval(confidence)
        interval = mean_interval(values, confidence)
        assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)


def test_an_interval_of_differences_holds_0_where_student_does_not_reject():
    chance = np.random.default_rng(3)
    for _ in range(50):
        a, b = chance.random(12), chance.random(12) + 0.25
        interval = mean_interval(a - b)
        assert (interval.low <= 0 <= interval.high) == (student(a, b) >= 0.05)


def test_the_interval_of_a_macro_mean_by_hand():
    # means 2 and 20, unweighted: 11; variances of the means 1/3 and 100 / 2
    values, groups = [1, 2, 3, 10, 30], ["ar", "ar", "ar", "fi", "fi"]
    interval = macro_interval(values, groups)
    assert interval.mean == 11
    parts = 1 / 3, 200 / 2
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 1)
    from scipy.stats import t

    half = t.ppf(0.975, freedom) * math.sqrt(sum(parts)) / 2
    assert interval.high - 11 == pytest.approx(half, rel=1e-9)
    assert 11 - interval.low == pytest.approx(half, rel=1e-9)


def test_groups_of_equal_size_and_variance_add_up_their_degrees_of_freedom():
    # variances of the means 1/3 each, 2 + 2 degrees of freedom
    interval = macro_interval([1, 2, 3, 11, 12, 13], [0, 0, 0, 1, 1, 1])
    assert interval.high - interval.mean == pytest.approx(T[4] * math.sqrt(2 / 3) / 2, rel=1e-9)


def test_the_order_of_questions_and_groups_does_not_matter():
    values, groups = [1, 2, 3, 10, 30, 15], list("aaabbb")
    order = [4, 0, 3, 2, 5, 1]
    turned = macro_interval([values[i] for i in order], [groups[i] for i in order])
    assert turned == pytest.approx(macro_interval(values, groups), rel=1e-12)


def test_a_single_question_has_a_mean_and_no_interval():
    for interval in (mean_interval([0.5]), macro_interval([0.5, 1, 0], ["ar", "fi", "fi"])):
        assert interval.mean == 0.5
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval([0.1] * 7) == pytest.approx((0.1, 0.1, 0.1))
    interval = macro_interval([0.1] * 7 + [0.3] * 3, [0] * 7 + [1] * 3)
    assert interval.low == interval.mean == interval.high


def test_an_interval_holds_the_true_macro_mean_as_often_as_it_says():
    chance = np.random.default_rng(11)
    groups = [0] * 8 + [1] * 30  # of unequal size and variance
    held = 0
    for _ in range(2000):
        values = np.concatenate([chance.normal(1, 3, 8), chance.normal(5, 1, 30)])
        interval = macro_interval(values, groups)
        held += interval.low <= 3 <= interval.high
    assert 0.935 <= held / 2000 <= 0.965  # three standard errors around 0.95


@pytest.mark.parametrize(
    ("values", "groups", "confidence", "error"),
    [
        ([], [], 0.95, "values must be 1-D, finite and not empty"),
        ([[1, 2]], [0], 0.95, "values must be 1-D, finite and not empty"),
        ([1, math.nan], [0, 0], 0.95, "values must be 1-D, finite and not empty"),
        ([1, 2], [0], 0.95, "2 values, but 1 groups; give one a question"),
        ([1, 2], [0, 0], 1.0, "confidence must lie between 0 and 1, got 1.0"),
        ([1, 2], [0, 0], 95, "confidence must lie between 0 and 1, got 95"),
    ],
)
def test_what_has_no_interval_is_refused(values, groups, confidence, error):
    with pytest.raises(ValueError, match=error):
        macro_interval(values, groups, confidence)
