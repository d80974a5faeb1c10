"""How sure a difference of macro figures is, and how small a one could have been seen.

The figure that is reported is the unweighted mean over languages of the languages' means.  So its
difference between two runs has the standard error of a stratified mean (Cochran, Sampling
Techniques, 3rd ed. 1977, sections 5.3-5.4), the languages being strata of equal weight:

    D = 1/L · Σ_l mean_l(d)        SE² = 1/L² · Σ_l s_l² / n_l

with d the differences by question, s_l² their variance (n_l - 1 in the denominator) in language l.
Its degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2(6)):
(Σ_l v_l)² / Σ_l v_l² / (n_l - 1), v_l = s_l² / n_l.  With one language this is the paired t-test.

This module knows arrays; it refuses to know runs, metrics, files and tables.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from xqg_pyserini.evaluate.significance import aligned

POWER = 0.8  # the chance to find a difference that is there: the usual choice (Cohen, 1988)
CONFIDENCE = 0.95


class Difference(NamedTuple):
    """The difference of two macro figures, in the unit of the scores.

    `error` and `freedom` are its standard error and degrees of freedom: NaN and 0 where a
    language has a single question, and nothing can be said of the spread.
    """

    mean: float
    error: float
    freedom: float


def macro_difference(a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable]) -> Difference:
    """Return how far run a's macro figure is above run b's.

    Args:
        a: Scores of one run, shape (questions,).
        b: Scores of the other, same shape and order.
        groups: The language of each question.

    Raises:
        ValueError: Shapes differ, are empty or not 1-D, or a score is not finite.

    """
    first, second = aligned(a, b)
    if len(groups) != len(first):
        raise ValueError(f"{len(first)} scores, but {len(groups)} groups; give one a question")
    by_group: dict[Hashable, list[float]] = {}
    for group, difference in zip(groups, (first - second).tolist(), strict=True):
        by_group.setdefault(group, []).append(difference)
    strata = [np.array(some) for some in by_group.values()]
    mean = float(np.mean([some.mean() for some in strata]))
    if min(map(len, strata)) < 2:
        return Difference(mean, math.nan, 0.0)
    spread = [float(some.var(ddof=1)) / len(some) for some in strata]
    total = sum(spread)
    if not total:
        return Difference(mean, 0.0, float(len(first) - len(strata)))
    freedom = total**2 / sum(v**2 / (len(s) - 1) for v, s in zip(spread, strata, strict=True))
    return Difference(mean, math.sqrt(total) / len(strata), freedom)


def interval(difference: Difference, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return the bounds D ± t · SE of a difference; None where its spread is not known."""
    if math.isnan(difference.error):
        return None
    half = _t(1 - (1 - confidence) / 2, difference.freedom) * difference.error
    return difference.mean - half, difference.mean + half


def smallest_difference(
    difference: Difference, level: float, power: float = POWER, times: float = 1.0
) -> float:
    """Return the smallest true difference that a two-sided paired t-test finds with this power.

        (t_{1 - level/2} + t_{power}) · SE

    (Cohen, Statistical Power Analysis, 2nd ed. 1988, chapter 2; Card et al., 2020, arXiv
    2010.06595, on doing so for language data).  The spread of the differences is taken from the
    two runs at hand; `times` as many questions of the same kind would make SE smaller by √times.
    NaN where the spread is not known.
    """
    if math.isnan(difference.error):
        return math.nan
    freedom = difference.freedom * times
    return (_t(1 - level / 2, freedom) + _t(power, freedom)) * difference.error / math.sqrt(times)


def questions_needed(
    difference: Difference, questions: int, wanted: float, level: float, power: float = POWER
) -> int | None:
    """Return how many questions it takes to find a true difference of `wanted` with this power.

    The least number, in the same shares of languages and with the same spread as the `questions`
    at hand, for which `smallest_difference` is at most `wanted`.  None where the spread is not
    known; 2 where there is none.
    """
    if wanted <= 0:
        raise ValueError(f"a difference of {wanted} needs no finding; give one above 0")
    if math.isnan(difference.error):
        return None

    def enough(number: int) -> bool:
        return smallest_difference(difference, level, power, number / questions) <= wanted

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _t(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution."""
    from scipy.stats import t

    return float(t.ppf(probability, freedom))
