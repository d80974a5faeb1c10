"""The study's figures: means, intervals, tests and costs by hand."""

import numpy as np
import pytest
from peft_unseen.figures import Design, scores_of
from peft_unseen.matrix import Tables
from peft_unseen.outcomes import cost
from peft_unseen.tables import cost_row

from xqg_pyserini.evaluation.significance import fisher


def test_scores_of_ranks_by_hand():
    assert scores_of(np.array([1, 2, 10, 11]), "R@1").tolist() == [100, 0, 0, 0]
    assert scores_of(np.array([1, 2, 10, 11]), "MRR@10").tolist() == [100, 50, 10, 0]


def test_a_macro_mean_its_difference_and_its_test_by_hand():
    languages, units = ["ar", "ar", "ar", "bn", "ko"], list("abcde")
    design = Design(languages, units, ("ar", "bn"), Tables(bootstrap=500, draws=300, seed=3))
    first = np.array([[100, 0, 50, 100, 7], [0, 0, 50, 100, 7]], float)
    second = np.array([[0, 0, 50, 20, 9]], float)
    assert design.mean(first) == pytest.approx((100 / 3 + 100) / 2)  # ko is not asked for
    figure = design.figure(first)
    assert figure.low < figure.mean < figure.high
    difference = design.difference(first, second)
    assert difference.mean == pytest.approx((100 / 3 + 100) / 2 - (50 / 3 + 20) / 2)
    expected = fisher([50, 0, 50, 100], [0, 0, 50, 20], ["ar", "ar", "ar", "bn"], draws=300, seed=3)
    assert design.p_value(first, second) == expected
    constant = np.full((3, 5), 40.0)
    assert design.figure(constant) == pytest.approx((40, 40, 40))


def test_of_times_the_least_counts_and_of_memory_the_mean():
    place = {"task": "t", "condition": "c", "method": "m"}

    def record(seconds, step, memory):
        training = {"trainable_parameters": 30, "parameters": 4000, "stored_bytes": 2e6}
        training |= {"seconds_per_step": step, "peak_memory_bytes": memory}
        host = {"gpu": None, "threads": 1}
        return {"seconds": seconds, "host": host, "training": training}

    row = cost_row(place | cost([record(90.0, 0.5, 1e9), record(60.0, 0.7, 3e9)]))
    assert list(row.values()) == [
        *place.values(), "30", "0.75%", "2,000", "0.500", "2.00", "60", "CPU, threads: 1",
    ]  # fmt: skip
    row = cost_row(place | cost([record(60.0, 0.7, None)]))  # where memory cannot be measured
    assert list(row.values())[5:7] == ["–", "0.700"]


def test_the_interval_is_the_normal_one_for_many_questions():
    scores = 100.0 * (np.random.default_rng(1).random((1, 800)) < 0.7)
    languages = ["ar"] * 400 + ["bn"] * 400
    design = Design(languages, [str(i) for i in range(800)], ("ar", "bn"), Tables(bootstrap=4000))
    figure = design.figure(scores)
    half = 1.96 * np.sqrt(sum(part.var() / 400 for part in np.split(scores[0], 2))) / 2
    assert figure.high - figure.mean == pytest.approx(half, rel=0.1)
    assert figure.mean - figure.low == pytest.approx(half, rel=0.1)


def test_translations_of_one_question_are_drawn_together():
    one = 100.0 * (np.random.default_rng(2).random(200) < 0.5)
    scores = np.concatenate([one, one])[None]
    languages = ["ar"] * 200 + ["bn"] * 200
    ids = [str(i) for i in range(200)]
    settings = Tables(bootstrap=4000)
    parallel = Design(languages, ids + ids, ("ar", "bn"), settings).figure(scores)
    apart = Design(languages, [str(i) for i in range(400)], ("ar", "bn"), settings).figure(scores)
    width = (parallel.high - parallel.low) / (apart.high - apart.low)
    assert width == pytest.approx(np.sqrt(2), rel=0.1)  # two languages tell no more than one
    noisy = np.clip(scores + 10 * np.random.default_rng(3).standard_normal((1, 400)), 0, 100)
    # the test is over 200 questions, not 400
    groups_of = [""] * 200
    expected = fisher(one, noisy[0].reshape(2, 200).mean(axis=0), groups_of, draws=10_000, seed=42)
    assert Design(languages, ids + ids, ("ar", "bn"), Tables()).p_value(scores, noisy) == expected


def test_seeds_that_differ_widen_the_interval():
    settings = Tables(bootstrap=2000)
    rows = np.full((1, 100), 50.0)
    design = Design(["ar"] * 100, [str(i) for i in range(100)], ("ar",), settings)
    steady = design.figure(np.repeat(rows, 3, axis=0))
    moved = design.figure(np.concatenate([rows - 10, rows, rows + 10]))
    assert steady.high - steady.low == pytest.approx(0, abs=1e-9)
    assert moved.high - moved.low > 15
    assert moved.mean == pytest.approx(50)
