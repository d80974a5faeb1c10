"""The best passages of each question so far, while scores come in block by block.

This module knows numbers of questions and rows; it knows no vectors, no ids and no fusion.
"""

from collections.abc import Sequence

import numpy as np


class Best:
    """The best k passages of each question so far; of equals, the passage that comes first.

    Scores above a question's floor (its k-th best when it was last sorted) are laid beside its
    best ones, and sorted in when there is no room left: most scores cost one comparison.
    Blocks must be offered in the order of their rows.
    """

    def __init__(self, questions: int, k: int) -> None:
        self._k = k
        self._slack = max(k, 32)
        self._scores = np.full((questions, k + self._slack), -np.inf, dtype=np.float32)
        self._rows = np.full((questions, k + self._slack), -1, dtype=np.int64)
        self._filled = np.zeros(questions, dtype=np.int64)
        self._floor = np.full(questions, -np.inf, dtype=np.float32)

    def offer(self, members: Sequence[int] | np.ndarray, scores: np.ndarray, start: int) -> None:
        """Take in the scores (m, b) of some questions for the passages from row `start` on."""
        members = np.asarray(members)
        # a tie with the floor loses: it comes later
        found = np.flatnonzero(scores > self._floor[members][:, None])
        if not len(found):
            return
        place, column = np.divmod(found, scores.shape[1])
        counts = np.bincount(place, minlength=len(members))
        if (counts > self._scores.shape[1] - self._filled[members]).any():
            self._sort(members)
            cut = scores.shape[1]
            cut = cut if cut <= self._slack else cut // 2  # at most so many fit for certain
            for left in range(0, scores.shape[1], cut):
                self.offer(members, scores[:, left : left + cut], start + left)
            return
        nth = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
        question = members[place]
        at = self._filled[question] + nth
        self._scores[question, at] = scores[place, column]
        self._rows[question, at] = column + start
        self._filled[members] += counts

    def _sort(self, members: np.ndarray) -> None:
        """Keep the best k of some questions, in their order, and raise their floors."""
        k = self._k
        # stable: what lies further left was offered earlier, and is the earlier row
        order = np.argsort(-self._scores[members], axis=1, kind="stable")[:, :k]
        for matrix, nothing in ((self._scores, -np.inf), (self._rows, -1)):
            matrix[members, :k] = np.take_along_axis(matrix[members], order, axis=1)
            matrix[members, k:] = nothing
        self._filled[members] = np.minimum(self._filled[members], k)
        self._floor[members] = self._scores[members, k - 1]

    @property
    def scores(self) -> np.ndarray:
        """Scores (questions, k) float32, best first; -inf where there are fewer passages."""
        self._sort(np.arange(len(self._scores)))
        return self._scores[:, : self._k]

    @property
    def rows(self) -> np.ndarray:
        """Rows (questions, k) int64 in the same order; -1 where there are fewer passages."""
        self._sort(np.arange(len(self._scores)))
        return self._rows[:, : self._k]
