"""The best passages of each question: gathered while scores come in, then put in their order.

A product in float32 depends on where in a matrix it is computed: two passages with one vector may seem to differ, and
their order would depend on the batch.  So a search gathers a few more passages than it was asked for (`Best`, or an
index), and `settle` orders them by products that are computed one way: higher scores first, equal scores in the order
of the rows.  The first k of k + n hits are therefore the k hits.  Where what was gathered may miss one (`undecided`:
more passages than those few are as close as rounding), the question is searched once more, by products in float64.

This module knows numbers of questions and rows, and vectors; it knows no ids and no fusion.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from xqg_pyserini.stores import block_rows
from xqg_pyserini.stores.pair import Rows

Hits = tuple[np.ndarray, np.ndarray]  # scores (q, k) float32 and rows (q, k) int64, best first; -inf and -1 for none


def gathered(k: int, n: int) -> int:
    """Return how many of n passages are gathered for k hits: so many more that rounding seldom leaves the cut open."""
    return min(n, k + 16 + k // 8)


def rounding(queries: np.ndarray, longest: float) -> np.ndarray:
    """Return (q,) float64: how far a product of d numbers in float32 is from the true one, at most.

    6·√d·2⁻²³·‖q‖·‖p‖, `longest` being the length of the longest passage: more with a probability below 10⁻⁷ (Higham
    and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019; their bound
    with λ = 6, doubled for the roundings of the vectors themselves).
    """
    norms = np.linalg.norm(queries.astype(np.float64), axis=1)
    return 6 * queries.shape[1] ** 0.5 * 2.0**-23 * norms * longest


def undecided(scores: np.ndarray, k: int, error: np.ndarray) -> np.ndarray:
    """Return (q,) bool: questions of which a passage that was not gathered may be among the best k.

    Args:
        scores: (q, m) float32, best first, of the m passages gathered; -inf where there is none.
        k: hits wanted, below m.
        error: (q,), by `rounding`.
    """
    last = scores[:, -1].astype(np.float64)
    return (last > -np.inf) & (last >= scores[:, k - 1] - 2 * error)


def cut_among_equals(scores: np.ndarray, k: int) -> np.ndarray:
    """Return (q,) bool: questions of which others than those gathered, (q, m), may have the k-th score too."""
    last = scores[:, -1]
    return (last > -np.inf) & (last == scores[:, k - 1])


class Group(NamedTuple):
    """Questions that meet the same passages."""

    members: np.ndarray  # (m,) int64, which questions of all
    queries: np.ndarray  # (m, d) float32
    passages: Callable[[Rows], np.ndarray]  # gives the vectors (r, d) float32 of a range, or of ascending rows (r,)
    longest: float  # the length of the longest passage; 0 where no others than were gathered can be had


def settled(hits: Hits, groups: Iterable[Group], k: int, n: int) -> Hits:
    """Return scores (q, k) float32 and rows (q, k) int64 of the best k of n passages, by `settle`.

    `hits` are the scores and rows that were `gathered`, (q, m) each, best first; all questions are in the `groups`.
    """
    groups = list(groups)
    scores = np.empty((len(hits[0]), k), dtype=np.float32)
    rows = np.empty((len(hits[0]), k), dtype=np.int64)
    for members, queries, passages, _ in groups:
        scores[members], rows[members] = settle(queries, hits[1][members], k, passages)
    decide((scores, rows), hits[0], groups, n)
    return scores, rows


def decide(best: Hits, near: np.ndarray, groups: Iterable[Group], n: int) -> None:
    """Put right what was settled of questions that are `undecided`, `near` being the scores that were gathered."""
    scores, rows = best
    k = scores.shape[1]
    for members, queries, passages, longest in groups:
        open_ = undecided(near[members], k, rounding(queries, longest)) & (near.shape[1] < n and longest > 0)
        if open_.any():
            asked, size = queries[open_], block_rows(queries.shape[1], 8)
            blocks = (range(start, min(start + size, n)) for start in range(0, n, size))
            whole = ((rows.start, passages(rows).astype(np.float64)) for rows in blocks)
            closest = nearest(asked.astype(np.float64), gathered(k, n), whole)[1]
            scores[members[open_]], rows[members[open_]] = settle(asked, closest, k, passages)


def settle(queries: np.ndarray, rows: np.ndarray, k: int, vectors_of: Callable[[np.ndarray], np.ndarray]) -> Hits:
    """Return scores (q, m) float32 and rows (q, m) int64 of the best m ≤ k of some candidates.

    Scores are products in float64, rounded to float32; equal ones are in the order of the rows.

    Args:
        queries: (q, d) float32.
        rows: (q, c) int64, the candidates; -1 for none.
        k: hits wanted.
        vectors_of: gives the passages' vectors (r, d) float32 for ascending rows (r,).
    """
    rows = np.sort(rows, axis=1)  # ascending, as a stable sort needs it; those that are none come first
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    step = max(1, block_rows(queries.shape[1], 32) // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        wanted = np.unique(part[part >= 0])
        vectors = vectors_of(wanted)
        for i, candidates in enumerate(part, start):
            at = np.searchsorted(wanted, candidates[candidates >= 0])
            # each row's sum by itself: the kernels of BLAS add up a row's numbers by where it stands
            exact = np.einsum("ij,j->i", vectors[at].astype(np.float64), queries[i].astype(np.float64))
            scores[i, rows.shape[1] - len(at) :] = exact
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def settle_scores(scores: np.ndarray, rows: np.ndarray, k: int) -> Hits:
    """Return the best k of candidates by their scores as they are, equal ones in row order.

    Both are (q, c); for indexes that do not give back the vectors that they compare.
    """
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


class Best:
    """The best k passages of each question so far; of equals, the passage that comes first.

    Scores above a question's floor (its k-th best when it was last cut) are laid beside those that
    it has, and all but the best k are cut when no more fit: most scores cost one
    comparison.  Blocks must be offered in the order of their rows.
    """

    def __init__(self, questions: int, k: int) -> None:
        self._k = k
        self._slack = max(2 * k, 32)
        # in the order in which they were offered, which is that of the rows
        self._scores = np.full((questions, k + self._slack), -np.inf, dtype=np.float32)
        self._rows = np.full((questions, k + self._slack), -1, dtype=np.int64)
        self._filled = np.zeros(questions, dtype=np.int64)
        self._floor = np.full(questions, -np.inf, dtype=np.float32)
        self._grown = np.zeros(questions, dtype=bool)  # since it was cut

    def offer(self, members: Sequence[int] | np.ndarray, scores: np.ndarray, start: int) -> None:
        """Take in the scores (m, b) of some questions for the passages from row `start` on."""
        members = np.asarray(members)
        width = scores.shape[1]
        floor = self._floor[members]
        if width > self._slack and self._filled[members].min() < self._k:
            # nothing is known yet, but what is below the k-th of this block is not wanted
            kth = np.partition(scores, -self._k, axis=1)[:, -self._k]
            floor = np.maximum(floor, np.nextafter(kth, np.float32(-np.inf)))
        # a tie with the floor loses: it comes later
        above = np.flatnonzero(scores > floor[:, None])
        if not len(above):
            return
        place = above // width
        counts = np.bincount(place, minlength=len(members))
        filled = self._filled[members]
        if (counts > self._scores.shape[1] - filled).any():
            if self._grown[members].any():
                self._cut(members)
                self.offer(members, scores, start)
                return
            for left in range(0, width, self._slack):  # so many fit for certain
                self.offer(members, scores[:, left : left + self._slack], start + left)
            return
        nth = np.arange(len(above)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = (members * self._scores.shape[1] + filled)[place] + nth
        self._scores.reshape(-1)[at] = scores.reshape(-1)[above]
        self._rows.reshape(-1)[at] = above - place * width + start
        self._filled[members] += counts
        self._grown[members] = True

    def _cut(self, members: np.ndarray) -> None:
        """Keep the best k of some questions, and raise their floors."""
        k = self._k
        scores = self._scores[members]
        floor = np.partition(scores, -k, axis=1)[:, -k]
        keep = scores >= floor[:, None]
        if np.count_nonzero(keep) > k * len(members):  # of those that tie with the k-th, the first
            above = scores > floor[:, None]
            ties = keep & ~above
            keep = above | ties & (np.cumsum(ties, axis=1) <= k - np.count_nonzero(above, axis=1)[:, None])
        for matrix, nothing in ((self._scores, -np.inf), (self._rows, -1)):
            kept = matrix[members][keep].reshape(-1, k)
            matrix[members] = nothing
            matrix[members, :k] = kept
        self._filled[members] = np.minimum(self._filled[members], k)
        self._floor[members] = floor
        self._grown[members] = False

    def ranked(self) -> Hits:
        """Return scores (questions, k) float32 and rows (questions, k) int64, best first.

        Where there are fewer passages, scores are -inf and rows -1.
        """
        self._cut(np.arange(len(self._scores)))
        scores, rows = self._scores[:, : self._k], self._rows[:, : self._k]
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def nearest(queries: np.ndarray, k: int, blocks: Iterable[tuple[int, np.ndarray]]) -> Hits:
    """Return scores (q, k) float32 and rows (q, k) int64 of the best k, by products with all vectors as they come.

    `blocks` are first rows, ascending, and vectors (b, d) of the queries' dtype.
    """
    best = Best(len(queries), k)
    for start, passages in blocks:
        best.offer(range(len(queries)), (queries @ passages.T).astype(np.float32, copy=False), start)
    return best.ranked()
