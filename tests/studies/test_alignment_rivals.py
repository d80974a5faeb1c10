"""The study of alignment: every rival by hand in two or three dimensions, ranks, and alignment beside xqg.align."""

import json

import numpy as np
import pytest
from alignment import rivals
from alignment.rivals import Pairs
from alignment.trials import NORMALISED, StandIns, Trial, best, fused_tries, maximum

import xqg_pyserini as xqg

LANGUAGES = np.array(["ar", "ar", "bn", "bn"])
QUERIES = np.array([[1, 0], [3, 0], [0, 2], [0, 4]], np.float32)
PASSAGES = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
PAIRS = Pairs(QUERIES, PASSAGES, LANGUAGES, QUERIES + np.array([1, 0]))


def some_pairs(seed=3, number=60, d=5):
    draw = np.random.default_rng(seed)
    passages = draw.normal(size=(number, d)).astype(np.float32)
    languages = np.array(["ar", "bn", "ko"])[np.arange(number) % 3]
    queries = passages + draw.normal(size=(number, d)).astype(np.float32) * np.arange(1, d + 1, dtype=np.float32)
    return Pairs(queries, passages, languages, queries)


def test_centring_takes_the_language_s_mean_and_of_an_unknown_language_that_of_all():
    q = np.array([[2, 1], [0, 3], [1, 1]], np.float32)
    found = rivals.centred(q, np.array(["ar", "bn", "fi"]), PAIRS)
    np.testing.assert_allclose(found, [[0, 1], [0, 0], [0, -0.5]])


def test_alignment_by_hand():
    # the differences of ar: (0, 0), (3, -1), so C = [[2.25, -0.75], [-0.75, 0.25]], t = 1.25
    found = rivals.aligned(np.array([[2.0, 1]], np.float32), np.array(["ar"]), PAIRS, ridge=1, shrink=0)
    expected = np.linalg.inv(np.array([[2.25, -0.75], [-0.75, 0.25]]) / 1.25 + np.eye(2)) @ [0, 1]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    great = rivals.aligned(np.array([[2.0, 1]], np.float32), np.array(["ar"]), PAIRS, ridge=1e6, shrink=0)
    np.testing.assert_allclose(1e6 * great[0], [0, 1], atol=1e-4)  # centring alone


@pytest.mark.parametrize(("ridge", "shrink"), [(5.0, 300.0), (2.0, 10.0)])
def test_alignment_is_what_xqg_learns_from_files(tmp_path, ridge, shrink):
    pairs = some_pairs()
    texts = {f"passage {i}": v for i, v in enumerate(pairs.passages)}
    texts |= {f"query {i}": v for i, v in enumerate(pairs.queries)}

    class Known:
        def encode(self, sentences):
            return np.stack([texts.get(text, np.full(5, len(text) % 7, np.float32)) for text in sentences])

    encoder = xqg.Encoder(Known(), normalize=False)
    corpus = [{"id": str(i), "contents": f"passage {i}"} for i in range(60)]
    queries = [{"docid": str(i), "generated_queries": {l: [f"query {i}"]}} for i, l in enumerate(pairs.languages)]
    for name, records in (("corpus", corpus), ("queries", queries)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    store = xqg.encode_passages(tmp_path / "corpus.jsonl", encoder, tmp_path / "passages")
    settings = xqg.AlignSettings(ridge=ridge, shrink=shrink)
    learnt = xqg.align(tmp_path / "queries.jsonl", store, settings=settings, encoder=encoder)
    q, l = np.random.default_rng(8).normal(size=(9, 5)).astype(np.float32), np.array(["ar", "bn", "fi"] * 3)
    with pytest.warns(xqg.XqgWarning, match="fi"):
        there = learnt.apply(q, l.tolist())
    here = rivals.aligned(q, l, pairs, ridge, shrink) * (1 + ridge)
    np.testing.assert_allclose(here, there, rtol=2e-4, atol=2e-5)


def test_lir_removes_what_a_language_has_most_of():
    q = np.array([[5.0, 2], [5, 2]])
    turned, p = rivals.lir(q, np.array(["ar", "bn"]), np.array([[3.0, 4]]), PAIRS, number=1)
    np.testing.assert_allclose(turned, [[0, 2], [5, 0]], atol=1e-6)  # ar lies along x, bn along y
    assert np.linalg.norm(p) == pytest.approx(1)


def test_whitening_takes_means_and_makes_directions_alike():
    pairs = some_pairs(number=900)
    q, p = rivals.whitened(pairs.queries, pairs.languages, pairs.passages, pairs, ridge=0.0)
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1, rtol=1e-5)
    both = np.concatenate(
        [rivals.centred(pairs.queries, pairs.languages, pairs), pairs.passages - pairs.passages.mean(0)]
    )
    c = both.T.astype(np.float64) @ both / len(both)
    values, vectors = np.linalg.eigh(c / (np.trace(c) / 5))
    w = vectors @ np.diag(values**-0.5) @ vectors.T
    np.testing.assert_allclose(p, rivals.unit((pairs.passages - pairs.passages.mean(0)) @ w), atol=1e-4)


def test_whitened_questions_score_as_whitening_does_before_lengths():
    pairs = some_pairs(number=300)
    asked, p = pairs.queries[:4], pairs.passages - pairs.passages.mean(0)
    w = rivals.whitening(pairs, 0.5, -0.5)
    expected = rivals.centred(asked, pairs.languages[:4], pairs) @ w @ (p @ w).T
    found = rivals.whitened_questions(asked, pairs.languages[:4], pairs, 0.5) @ p.T
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_procrustes_and_regression_find_a_rotation():
    draw, turn = np.random.default_rng(2), np.array([[0, -1], [1, 0]], np.float32)
    passages = draw.normal(size=(40, 2)).astype(np.float32)
    pairs = Pairs(passages @ turn.T + 7, passages, np.array(["ar"] * 40), passages)
    for found in (
        rivals.procrustes(pairs.queries, pairs.languages, pairs),
        rivals.regressed(pairs.queries, pairs.languages, pairs, ridge=1e-9),
    ):
        np.testing.assert_allclose(found, passages - passages.mean(0), atol=1e-4)


def test_csls_by_hand():
    q, p = np.array([[2.0, 0]]), np.array([[1.0, 0], [0, 5]])
    # the queries of ar both lie along x: the nearest to (1, 0) has cosine 1, to (0, 1) it has 0
    np.testing.assert_allclose(rivals.csls(q, np.array(["ar"]), p, PAIRS, neighbours=1), [[2 - 1, 0]])
    np.testing.assert_allclose(rivals.csls(q, np.array(["fi"]), p, PAIRS, neighbours=4), [[2 - 0.5, -0.5]])


def test_shift_subtracts_the_vector_of_the_documents_language():
    # a translation lies (1, 0) from its query: passages lose (1, 0), and are of length 1 again
    found = rivals.shifted(np.array([[1.0, 2]]), np.array(["ar"]), np.array([[4.0, 4], [1, 3]]), PAIRS)
    np.testing.assert_allclose(found, [[1 * 0.6 + 2 * 0.8, 2]], rtol=1e-6)


def test_the_maximum_is_of_a_passage_and_its_queries_in_the_language():
    q, p = np.array([[1.0, 0]]), np.array([[0.5, 0], [0.1, 0], [0.2, 0]])
    rows, queries = np.array([1, 1, 2]), np.array([[0.3, 0], [0.9, 0], [5.0, 0]])
    found = rivals.best_query(q, np.array(["ar"]), p, rows, queries, np.array(["ar", "ar", "bn"]))
    np.testing.assert_allclose(found, [[0.5, 0.9, 0.2]])


def test_ranks_count_equal_scores_before_the_right_one():
    scores = np.array([[1, 3, 2], [2, 2, 1], [5, 4, 6.0]])
    assert rivals.ranks(scores, np.array([1, 0, 1])).tolist() == [1, 2, 3]


def test_fused_conditions_by_hand():
    p = np.array([[1.0, 0], [0, 1]], np.float32)
    mixed = StandIns(np.array([0, 1]), np.array([[0, 1], [0, 1]], np.float32), np.array(["ar", "bn"]))
    q, l = np.array([[0, 1], [0, 1]], np.float32), np.array(["ar", "bn"])
    t = Trial(np.arange(2), q, l, p, np.array([0, 1]), PAIRS, np.arange(4), mixed)
    tries = fused_tries(normalize=False)
    np.testing.assert_allclose(tries["sum, α = 0.01"](t), [[0.01, 1], [0.01, 1]], rtol=1e-6)
    np.testing.assert_allclose(tries["mean all, β = 0.3: none"](t), [[0.3, 1], [0.3, 1]], rtol=1e-6)
    np.testing.assert_allclose(tries["mean own, β = 0.3: none"](t), [[0.3, 1], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(maximum(t), [[1, 1], [0, 1]])


def test_conditions_as_if_the_encoder_normalised_scale_pairs_too():
    q, l = np.array([[0, 5.0]], np.float32), np.array(["ar"])
    p = np.array([[0, 9], [3, 4]], np.float32)
    t = Trial(np.arange(1), q, l, p, np.array([1]), PAIRS, np.arange(4))
    np.testing.assert_allclose(NORMALISED["normalised: none"](t), [[1, 0.8]], rtol=1e-6)
    # the queries of ar, (1, 0) and (3, 0), are (1, 0) at length 1: less that, the question is (-1, 1)
    np.testing.assert_allclose(NORMALISED["normalised: centred"](t), [[1, 0.2]], rtol=1e-6)


def test_the_parameter_is_chosen_on_passages_that_were_not_learnt_from():
    pairs = some_pairs(number=90)
    t = Trial(np.arange(1), pairs.queries[:1], pairs.languages[:1], pairs.passages, np.array([0]), pairs, np.arange(90))
    seen = []

    def tried(value):
        def scores(inner):
            seen.append((set(inner.known.tolist()), len(inner.p)))
            own = np.arange(len(inner.q))
            np.testing.assert_array_equal(
                inner.p[inner.right], pairs.passages[sorted(set(range(90)) - set(inner.known))]
            )
            return np.eye(len(inner.p))[inner.right] if value == 2 else np.zeros((len(own), len(inner.p)))

        return scores

    assert best(t, tried, (1, 2, 3)) == 2
    assert all(len(known) == n == 45 for known, n in seen)
