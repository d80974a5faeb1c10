"""Significance and confidence: of two runs' difference, and of a mean, question by question.

`a` and `b` are two runs' scores, shape (questions,), in one order; `values` are scores or differences, same shape;
`groups` has the group of each question, e.g. its language.  `seeds` are the scores of each run of each system that was
trained several times, (runs, questions) a system; what is given besides are their means.  All raise ValueError where
shapes differ, are empty or not 1-D, or a number is not finite.  Every test is two-sided and symmetric: swapping the
runs gives the same p-value, to the last bit.  This module refuses to know runs, metrics, files and tables.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Correction = Literal["none", "bonferroni", "holm", "bh"]
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and its confidence interval; `low` and `high` are NaN where there is none."""

    mean: float
    low: float
    high: float


# Signs drawn at a time by `fisher`: 8 MB as float64. The draws of a seed depend on this number.
_SIGNS_AT_A_TIME = 1_000_000


def student(a: ArrayLike, b: ArrayLike, seeds: Sequence[ArrayLike] = ()) -> float:
    """Compute the p-value of the paired t-test (Student, 1908), that of SciPy's `ttest_rel` to the last bit.

    t = mean(d) / (sd(d) / sqrt(n)) with d = a - b, against n - 1 degrees of freedom.  It is 1.0 where
    t is undefined (equal runs, or a single question).  With `seeds` the standard error and the degrees of freedom are
    those of `macro_mean`, all questions being one group.
    """
    first, second = aligned(a, b)
    difference = first - second
    n = len(difference)
    if n < 2 or not difference.any():
        return 1.0
    if seeds:
        return _two_sided(macro_mean(difference, [0] * n, seeds))
    from scipy.special import stdtr  # scipy.stats takes a second to import

    mean = difference.mean()
    variance = np.mean((difference - mean) ** 2) * (n / (n - 1))
    with np.errstate(divide="ignore"):  # the same difference throughout
        t = mean / np.sqrt(variance / n)
    return float(2 * stdtr(n - 1, -abs(t)))


def _two_sided(of: "MacroMean") -> float:
    """Return the p-value of a mean, of the t-test against 0."""
    from scipy.special import stdtr

    if not of.mean:
        return 1.0
    return float(2 * stdtr(of.freedom, -abs(of.mean) / of.error)) if of.error else 0.0


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """Compute the p-value of the exact McNemar test (1947), for scores that are hit or miss.

    Of the n questions that exactly one run hits, let k be those of the run that has fewer:

        p = min(1, 2 * sum(C(n, i) for i in 0..k) / 2**n)

    which is 1.0 where the runs hit the same questions.  A score that is neither 0 nor 1 is a ValueError.
    """
    first, second = aligned(a, b)
    scores = np.concatenate([first, second])
    if (graded := scores[(scores != 0) & (scores != 1)]).size:
        raise ValueError(
            f"McNemar's test compares hits and misses, 1 or 0, but a score is {graded[0]:g}; "
            "use student or fisher for graded measures"
        )
    wins, _, losses = win_tie_loss(first, second)
    discordant = wins + losses
    tail = sum(math.comb(discordant, i) for i in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / (1 << discordant))  # exact: Python's integers have no bound


def fisher(a: ArrayLike, b: ArrayLike, groups: Sequence[Hashable], *, draws: int = 10_000, seed: int = 42) -> float:
    """Compute the p-value of Fisher's randomisation test (1935) on the macro difference.

    The statistic is the unweighted mean over groups (languages) of the groups' mean differences.  Signs of the
    questions' differences are drawn `draws` times, and c counts the statistics at least as far from 0 as the observed:

        p = (1 + c) / (1 + draws)           (Phipson & Smyth, 2010, doi:10.2202/1544-6115.1585)

    One group for all gives the plain test on the mean; the same seed and scores give the same p-value.
    """
    first, second = aligned(a, b)
    if len(groups) != len(first):
        raise ValueError(f"{len(first)} scores, but {len(groups)} groups; give one a question")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")

    sizes = Counter(groups)
    weights = np.array([1 / (len(sizes) * sizes[group]) for group in groups])
    terms = weights * (first - second)
    terms = terms[terms != 0]  # a tie is a tie with either sign
    if not terms.size:
        return 1.0

    # Statistics that are equal on paper differ by rounding, by the order of their sum.
    observed = abs(terms.sum()) - 1e-12 * np.abs(terms).sum()
    generator = np.random.default_rng(seed)
    chunk = max(1, _SIGNS_AT_A_TIME // terms.size)
    as_far = 0
    for start in range(0, draws, chunk):
        shape = (min(chunk, draws - start), terms.size)
        signs = 2.0 * generator.integers(0, 2, size=shape, dtype=np.int8) - 1.0
        as_far += int(np.count_nonzero(np.abs(signs @ terms) >= observed))
    return (1 + as_far) / (1 + draws)


def correct(p_values: ArrayLike, method: Correction) -> NDArray[np.float64]:
    """Adjust p-values for being a family of m tests, p_(1) <= ... <= p_(m); at most 1, in the order given.

    * ``none``: as they are.
    * ``bonferroni``: m * p. Bounds the chance of any false discovery.
    * ``holm``: max over j <= i of (m - j + 1) * p_(j) (Holm, 1979). The same bound, more power.
    * ``bh``: min over j >= i of m / j * p_(j) (Benjamini & Hochberg, 1995). Bounds the share of false discoveries.

    Both are of shape (tests,), which may be empty.  A p-value outside 0..1 or an unknown method is a ValueError.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"p-values must be 1-D, got shape {given.shape}")
    if not np.all((given >= 0) & (given <= 1)):
        raise ValueError(f"p-values must lie between 0 and 1, got {given.tolist()}")
    tests = len(given)
    order = np.argsort(given, kind="stable")
    ranks = np.arange(1, tests + 1)
    if method == "none":
        adjusted = given[order]
    elif method == "bonferroni":
        adjusted = tests * given[order]
    elif method == "holm":
        adjusted = np.maximum.accumulate((tests - ranks + 1) * given[order])
    elif method == "bh":
        adjusted = np.minimum.accumulate((tests / ranks * given[order])[::-1])[::-1]
    else:
        raise ValueError(f"unknown correction {method!r}; there are {', '.join(get_args(Correction))}")
    corrected = np.empty(tests)
    corrected[order] = np.minimum(adjusted, 1.0)
    return corrected


def win_tie_loss(a: ArrayLike, b: ArrayLike) -> tuple[int, int, int]:
    """Count the questions on which run a scores above, the same as, and below run b."""
    first, second = aligned(a, b)
    wins = int(np.count_nonzero(first > second))
    losses = int(np.count_nonzero(first < second))
    return wins, len(first) - wins - losses, losses


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE, seeds: Sequence[ArrayLike] = ()) -> Interval:
    """Compute the confidence interval of a mean over questions, by Student's t (1908).

        mean ± t(n - 1) · s / sqrt(n)

    with s the sample's standard deviation; see `macro_interval`.  One question has no interval.
    """
    return macro_interval(values, np.zeros(np.shape(values)[:1], dtype=int).tolist(), confidence, seeds)


class MacroMean(NamedTuple):
    """A mean of the means of groups, in the unit of the values.

    `error` and `freedom` are its standard error and degrees of freedom: NaN and 0 where a group has a single question.
    """

    mean: float
    error: float
    freedom: float


def macro_mean(values: ArrayLike, groups: Sequence[Hashable], seeds: Sequence[ArrayLike] = ()) -> MacroMean:
    """Compute the unweighted mean of the means of groups (languages), and how sure it is.

    Questions are drawn, languages are given: strata of equal weight (Cochran, Sampling Techniques, 3rd ed. 1977,
    sections 5.3-5.4).  With L groups of n_l values, means x_l, sample variances s_l² and v_l = s_l² / n_l, the
    variances of independent means add:

        mean = Σ x_l / L,   error = sqrt(Σ v_l) / L,   freedom = (Σ v_l)² / Σ (v_l² / (n_l - 1))

    the last by Welch (1947) and Satterthwaite (1946).  With one group this is Student's.  Where the questions of one
    language are translations of another's, the means are not independent, and the error is too small.

    With `seeds`, runs are drawn too: what each system's runs add to the variance (`_over_seeds`) is added, and to the
    sum of squares that the degrees of freedom rest on.
    """
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1 or not given.size or not np.isfinite(given).all():
        raise ValueError(f"values must be 1-D, finite and not empty; got shape {given.shape}")
    if len(groups) != len(given):
        raise ValueError(f"{len(given)} values, but {len(groups)} groups; give one a question")
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    parts = [given[places] for places in members.values()]
    mean = float(np.mean([part.mean() for part in parts]))
    if any(len(part) < 2 for part in parts):
        return MacroMean(mean, math.nan, 0.0)
    # equal values have no variance; their computed one can be a rounding error above 0
    variances = [part.var(ddof=1) / len(part) if np.ptp(part) else 0.0 for part in parts]
    over_seeds = [_over_seeds(runs, list(members.values())) for runs in seeds]
    total = float(sum(variances)) + math.fsum(variance for variance, _ in over_seeds)
    squares = sum(v * v / (len(part) - 1) for v, part in zip(variances, parts, strict=True))
    squares += math.fsum(square for _, square in over_seeds)
    if not total:
        return MacroMean(mean, 0.0, float(len(given) - len(parts)))
    return MacroMean(mean, math.sqrt(total) / len(parts), float(total**2 / squares))


def _over_seeds(runs: ArrayLike, groups: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return what m runs of a system add to the variance of Σ x_l, and Σ v² / freedom of its parts.

    Runs and questions are crossed, both drawn: score = mean + run + question + rest (Searle, Casella and McCulloch,
    Variance Components, 1992).  With V the sample variance of the runs' Σ x_l, and e_l the mean square of the rest in
    language l, on (m - 1) (n_l - 1) degrees of freedom, the runs' own part is

        V / m - Σ e_l / (m · n_l),        0 where that is below 0:

    the rest is in the variance over questions already.
    """
    scores = np.asarray(runs, dtype=np.float64)
    number = len(scores)
    if scores.ndim != 2 or number < 2 or scores.shape[1] != sum(map(len, groups)) or not np.isfinite(scores).all():
        raise ValueError(f"seeds must be finite, (2 or more runs, questions); got shape {scores.shape}")
    sums, rest = np.zeros(number), []
    for places in groups:
        of = scores[:, places]
        sums += of.mean(axis=1)
        residual = of - of.mean(axis=0) - of.mean(axis=1, keepdims=True) + of.mean()
        freedom = (number - 1) * (len(places) - 1)
        rest.append((float((residual**2).sum()) / freedom / number / len(places), freedom))
    whole = float(sums.var(ddof=1)) / number if np.ptp(sums) else 0.0
    own = whole - sum(part for part, _ in rest)
    if own <= 0:
        return 0.0, 0.0
    return own, whole**2 / (number - 1) + sum(part**2 / freedom for part, freedom in rest)


def macro_interval(
    values: ArrayLike, groups: Sequence[Hashable], confidence: float = CONFIDENCE, seeds: Sequence[ArrayLike] = ()
) -> Interval:
    """Compute the confidence interval of an unweighted mean of the means of groups (languages).

        mean ± t(freedom) · error

    with t(f) the quantile of (1 + confidence) / 2 of Student's distribution; see `macro_mean`.  It is in the unit of
    the values, not cut at a measure's bounds.  There is none where a group has a single question.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    mean, error, freedom = macro_mean(values, groups, seeds)
    if not error or math.isnan(error):
        return Interval(mean, mean - error, mean + error)
    from scipy.special import stdtrit  # SciPy takes a moment to import

    half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return Interval(mean, mean - half, mean + half)


def aligned(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two runs' scores as arrays, or raise ValueError where they do not line up."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(
            "two runs' scores must be 1-D, not empty, and line up question by question; "
            f"got shapes {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a score is not finite; give every question a number, 0 for a miss")
    return first, second
