"""The best passages of each question so far, while scores come in block by block.

This module knows numbers of questions and rows; it knows no vectors, no ids and no fusion.
"""

from collections.abc import Sequence

import numpy as np


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

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (questions, k) float32 and rows (questions, k) int64, best first.

        Where there are fewer passages, scores are -inf and rows -1.
        """
        self._cut(np.arange(len(self._scores)))
        scores, rows = self._scores[:, : self._k], self._rows[:, : self._k]
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
