"""Scores, ranks and quantiles: is a query answered by its own passage?"""

import os

import numpy as np
import pytest
from conftest import message
from made_stores import f32, write_passages

from xqg_pyserini.generate import consistency
from xqg_pyserini.generate.consistency import QUANTILE, WITHIN, ScoreFiles, better_passages, own_scores
from xqg_pyserini.stores import VectorStore, store


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_better_passages_are_counted_as_by_brute_force(tmp_path, monkeypatch, rows):
    random = np.random.default_rng(0)
    passages = random.integers(-3, 4, (50, 5)).astype(np.float32)  # many exact ties
    vectors = random.integers(-3, 4, (20, 5)).astype(np.float32)
    opened = VectorStore(write_passages(tmp_path / "P", [str(i) for i in range(50)], passages))
    own_rows = random.integers(0, 50, 20)
    own_rows[0] = np.argmax(passages @ vectors[0])
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * 20 * rows)
    own = own_scores(vectors, own_rows, opened)
    scores = vectors.astype(int) @ passages.astype(int).T
    assert own.tolist() == scores[np.arange(20), own_rows].tolist()
    expected = (scores > scores[np.arange(20), own_rows][:, None]).sum(axis=1)
    assert better_passages(vectors, own, opened).tolist() == expected.tolist()
    assert expected.min() == 0 and expected.max() > 20


def test_equal_passages_tie_though_float32_products_differ_by_place(tmp_path, monkeypatch):
    # products in float32 depend on their place in the matrix: what ties must be found to tie
    random = np.random.default_rng(0)
    one = random.normal(size=384).astype(np.float32)
    passages = np.tile(one, (1001, 1))
    passages[500] *= np.float32(1 + 2**-20)  # better by less than the error of float32 products
    opened = VectorStore(write_passages(tmp_path / "P", [str(i) for i in range(1001)], passages))
    vectors = np.stack([one, random.normal(size=384).astype(np.float32)])
    vectors[1] *= np.sign(vectors[1] @ one)
    monkeypatch.setattr(consistency, "_PAIRS", 64)
    own = own_scores(vectors, np.array([7, 1000]), opened)
    assert better_passages(vectors, own, opened).tolist() == [1, 1]
    best = own_scores(vectors, np.array([500, 500]), opened)
    assert better_passages(vectors, best, opened).tolist() == [0, 0]


def test_a_passage_that_is_not_a_number_is_named(tmp_path):
    vectors = f32([[1, 2], [np.nan, 0]])
    opened = VectorStore(write_passages(tmp_path / "P", ["a", "b"], vectors))
    text = message(own_scores, f32([[1, 0]]), np.array([1]), opened)
    assert "row 1 (passage 'b') holds NaN or infinity" in text


@pytest.mark.parametrize("share", [0.01, 0.07, 0.25, 0.5, 0.9, 0.999, 1e-05])
@pytest.mark.parametrize("n", [1, 2, 10, 101, 1000])
def test_quantiles_are_exact(tmp_path, share, n):
    scores = ScoreFiles(tmp_path)
    values = np.random.default_rng(n).permutation(np.arange(n, dtype=np.float32) / 7)
    scores.append(QUANTILE, "zh-Hant", values[: n // 2])
    scores.append(QUANTILE, "zh-Hant", values[n // 2 :])
    scores.append(QUANTILE, "ar", np.full(3, -9.0))
    scores.flush()
    hundredth = round(share * 1e5)
    place = -(-hundredth * (n - 1) // 100_000)  # in whole numbers
    assert scores.quantile("zh-Hant", share) == np.float32(place / 7)
    assert scores.take(QUANTILE, "zh-Hant", 0, n).tolist() == values.tolist()
    assert sorted(os.listdir(tmp_path)) == ["quantile.ar.scores", "quantile.zh-Hant.scores"]


def test_scores_after_a_checkpoint_are_forgotten(tmp_path):
    scores = ScoreFiles(tmp_path)
    for language, n in (("ar", 5), ("ru", 2)):
        scores.append(QUANTILE, language, np.arange(n))
        scores.append(WITHIN, language, np.arange(n) % 2 == 0)
    scores = ScoreFiles(tmp_path)
    scores.resume({"ar": 3})
    scores.append(QUANTILE, "ar", f32([9]))
    scores.append(QUANTILE, "ru", f32([8]))
    assert scores.take(QUANTILE, "ar", 0, 9).tolist() == [0, 1, 2, 9]
    assert scores.take(WITHIN, "ar", 1, 9).tolist() == [0, 1]
    assert scores.take(QUANTILE, "ru", 0, 9).tolist() == [8]
    assert scores.take(WITHIN, "te", 0, 0).tolist() == []
