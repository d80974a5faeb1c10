"""How small a difference of macro figures (`significance.macro_mean`) could have been seen, and what it takes."""

import math
from bisect import bisect_left
from collections.abc import Hashable, Sequence

from numpy.typing import ArrayLike

from xqg_pyserini.evaluation.significance import MacroMean, aligned, macro_mean

POWER = 0.8  # the chance to find a difference that is there: the usual choice (Cohen, 1988)


def macro_difference(a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable]) -> MacroMean:
    """Return how far run a's macro figure is above run b's; arguments and errors as in `significance`."""
    first, second = aligned(a, b)
    return macro_mean(first - second, groups)


def smallest_difference(difference: MacroMean, level: float, power: float = POWER, times: float = 1.0) -> float:
    """Return the smallest true difference that a two-sided paired t-test finds with this power.

        (t_{1 - level/2} + t_{power}) · SE

    (Cohen, Statistical Power Analysis, 2nd ed. 1988, chapter 2; Card et al., 2020, arXiv 2010.06595, on doing so for
    language data).  The spread of the differences is taken from the two runs at hand; `times` as many questions of the
    same kind would make SE smaller by √times.  NaN where the spread is not known.
    """
    if math.isnan(difference.error):
        return math.nan
    freedom = difference.freedom * times
    return (_t(1 - level / 2, freedom) + _t(power, freedom)) * difference.error / math.sqrt(times)


def questions_needed(
    difference: MacroMean, questions: int, wanted: float, level: float, power: float = POWER
) -> int | None:
    """Return how many questions it takes to find a true difference of `wanted` with this power.

    The least number, in the same shares of languages and with the same spread as the `questions` at hand, for which
    `smallest_difference` is at most `wanted`.  None where the spread is not known; 2 where there is none.
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
    return bisect_left(range(high), True, lo=high // 2 + 1, key=enough)


def _t(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution."""
    from scipy.stats import t

    return float(t.ppf(probability, freedom))
