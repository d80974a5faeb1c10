"""Confidence intervals of macro figures, and the differences that can be seen."""

import math

import numpy as np
import pytest

from xqg_pyserini.evaluation import power
from xqg_pyserini.evaluation.significance import macro_interval


def test_the_interval_of_one_language_is_that_of_the_paired_t_test():
    from scipy import stats

    random = np.random.default_rng(0)
    x, y = random.random(40), random.random(40)
    interval = macro_interval(x - y, ["ar"] * 40)
    assert interval[1:] == pytest.approx(tuple(stats.ttest_rel(x, y).confidence_interval(0.95)))


def test_the_interval_of_two_languages_by_hand():
    """d = 1, 0 in ar and 0, 0, 3 in ru: means 1/2 and 1, variances 1/2 and 3."""
    from scipy import stats

    difference = power.macro_difference([1, 0, 0, 0, 3], [0, 0, 0, 0, 0], ["ar", "ar", "ru", "ru", "ru"])
    assert difference.mean == pytest.approx(0.75)
    v = 0.5 / 2, 3 / 3
    assert difference.error == pytest.approx(math.sqrt(sum(v)) / 2)
    assert difference.freedom == pytest.approx(sum(v) ** 2 / (v[0] ** 2 / 1 + v[1] ** 2 / 2))
    half = stats.t.ppf(0.975, difference.freedom) * difference.error
    interval = macro_interval([1, 0, 0, 0, 3], ["ar", "ar", "ru", "ru", "ru"])
    assert interval == pytest.approx((0.75, 0.75 - half, 0.75 + half))


def test_a_language_with_one_question_leaves_the_spread_unknown():
    difference = power.macro_difference([1, 0, 1], [0, 0, 0], ["ar", "ar", "ru"])
    assert difference.mean == pytest.approx(0.75)
    assert math.isnan(macro_interval([1, 0, 1], ["ar", "ar", "ru"]).low)
    assert math.isnan(power.smallest_difference(difference, 0.05))
    assert power.questions_needed(difference, 3, 1, 0.05) is None


def test_equal_runs_have_no_spread():
    difference = power.macro_difference([1, 0, 1, 1], [1, 0, 1, 1], ["ar", "ar", "ru", "ru"])
    assert macro_interval([0, 0, 0, 0], ["ar", "ar", "ru", "ru"]) == (0, 0, 0)
    assert power.smallest_difference(difference, 0.05) == 0
    with pytest.raises(ValueError, match="needs no finding"):
        power.questions_needed(difference, 4, 0, 0.05)


def test_what_is_called_findable_is_found_as_often_as_is_said():
    """Simulated: at the smallest difference, four tests of five are significant."""
    from scipy import stats

    random = np.random.default_rng(1)
    n, sd = 200, 3.0
    sample = random.normal(0, sd, n)
    difference = power.macro_difference(sample, np.zeros(n), ["ar"] * n)
    smallest = power.smallest_difference(difference, 0.05)
    assert smallest == pytest.approx((1.972 + 0.845) * sample.std(ddof=1) / math.sqrt(n), rel=1e-3)
    true = smallest * sd / sample.std(ddof=1)
    draws = random.normal(true, sd, (4000, n))
    significant = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert significant.mean() == pytest.approx(0.8, abs=0.02)


def test_the_questions_needed_are_the_least_that_suffice():
    random = np.random.default_rng(2)
    difference = power.macro_difference(random.normal(size=100), np.zeros(100), ["ar", "ru"] * 50)
    here = power.smallest_difference(difference, 0.05)
    assert power.questions_needed(difference, 100, here * 1.0001, 0.05) == 100
    for wanted in (here / 3, here * 2):
        n = power.questions_needed(difference, 100, wanted, 0.05)
        assert power.smallest_difference(difference, 0.05, times=n / 100) <= wanted
        assert power.smallest_difference(difference, 0.05, times=(n - 1) / 100) > wanted
    assert power.questions_needed(difference, 100, here / 2, 0.05) == pytest.approx(400, rel=0.02)
