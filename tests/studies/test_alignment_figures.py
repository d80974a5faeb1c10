"""The study of alignment: halves that share nothing, and figures by hand."""

import numpy as np
import pandas as pd
import pytest
from alignment.data import Vectors
from alignment.figures import Design, figures, measures
from alignment.trials import Tried, halves


def test_nothing_of_the_searched_half_is_learnt_from():
    docids = [f"d{i}" for i in range(40)]
    asked = pd.DataFrame({"docid": docids * 3, "language": ["ar"] * 80 + ["bn"] * 40})
    draw = np.random.default_rng(1)
    queries = draw.normal(size=(120, 4)).astype(np.float32)
    passages = draw.normal(size=(40, 4)).astype(np.float32)
    vectors = Vectors(asked, docids, {}, {}, passages, queries, queries)
    both = list(halves(vectors, 0))
    assert sorted(np.concatenate([t.asked for t in both])) == list(range(120))
    for t in both:
        searched = set(vectors.rows[t.asked])
        assert len(searched) == len(t.p) and searched.isdisjoint(t.known)
        np.testing.assert_array_equal(t.p[t.right], passages[vectors.rows[t.asked]])
        np.testing.assert_array_equal(t.pairs.passages, passages[t.known])
    mixed = list(halves(vectors, 0, mix=True))
    for t in mixed:  # of the two questions in ar, the second is a stand-in
        assert set(t.asked).isdisjoint(range(40, 80)) and len(t.stand_ins.rows) == len(t.p)
    assert not np.array_equal(vectors.half(0), vectors.half(1))


def test_measures_of_ranks_by_hand():
    found = measures(np.array([1, 2, 10, 11]))
    assert found["R@1"].tolist() == [100, 0, 0, 0]
    assert found["MRR@10"].tolist() == [100, 50, 10, 0]
    np.testing.assert_allclose(found["nDCG@10"], [100, 100 / np.log2(3), 100 / np.log2(11), 0])


def test_figures_weigh_languages_alike_and_leave_out_who_was_not_asked():
    languages, passages = np.array(["ar", "ar", "ar", "bn", "ko"]), np.array([0, 1, 1, 2, 3])
    none = Tried(np.array([[1, 5, 2, 3, 0], [1, 1, 2, 3, 0]]), 0.0)
    better = Tried(np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]), 0.0)
    found = figures({"none": none, "centred": better}, languages, passages)
    assert found["questions"] == 4
    of = found["conditions"]
    assert of["none"]["R@1"]["mean"] == pytest.approx((50 + 0) / 2)  # ar: 100, 50 and 0
    assert of["none"]["languages"] == {"ar": 50.0, "bn": 0.0}
    assert of["centred"]["less"]["none"]["mean"] == pytest.approx(75)
    assert of["centred"]["R@1"]["mean"] == of["centred"]["R@1"]["high"] == 100


def test_the_test_of_no_difference_is_one_and_units_are_passages():
    languages, passages = np.array(["ar"] * 40), np.repeat(np.arange(4), 10)
    design = Design(languages, passages, np.ones(40, bool))
    scores = np.full(40, 50.0)
    assert design.p_value(scores, scores) == 1
    # four passages, all better: 2 of 16 assignments of signs are as far, however many questions they have
    assert design.p_value(scores + 1, scores) == pytest.approx(2 / 16, abs=0.02)
