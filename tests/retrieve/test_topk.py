"""The best passages of each question while scores come in."""

import numpy as np
import pytest

from xqg_pyserini.retrieve.topk import Best


@pytest.mark.parametrize("k", [1, 3, 40, 200])
@pytest.mark.parametrize("width", [1, 7, 100, 500])
def test_the_best_are_those_of_sorting_all_and_of_equals_the_first(k, width):
    """Scores of few values, so that most tie; rising ones, so that every block brings new best."""
    random = np.random.default_rng(k * width)
    few = random.integers(0, 9, (5, 500)).astype(np.float32)
    rising = np.tile(np.arange(500, dtype=np.float32) // 3, (5, 1))
    for scores in (few, rising, -rising, np.zeros_like(few)):
        best = Best(7, k)
        for start in range(0, 500, width):
            block = scores[:, start : start + width]
            best.offer([6, 0, 2], block[:3], start)
            best.offer(np.array([4, 5]), block[3:], start)
        best_scores, rows = best.ranked()
        for place, question in enumerate([6, 0, 2, 4, 5]):
            expected = np.lexsort((np.arange(500), -scores[place]))[:k]
            assert rows[question].tolist() == expected.tolist()
            assert best_scores[question].tolist() == scores[place, expected].tolist()
        assert (rows[[1, 3]] == -1).all() and np.isneginf(best_scores[[1, 3]]).all()
