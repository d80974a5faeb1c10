"""The study of how λ is chosen: the pairs that the product's estimate sees, and the rules beside its own."""

import numpy as np
from alignment import choosing
from alignment.rivals import Pairs, aligned, centred
from alignment.trials import Trial, side


def trial(passages):
    """Each passage has two queries in ar, and every other one in ru; noise lies in the first direction."""
    dice = np.random.default_rng(3)
    each = [(row, l) for l in ("ru", "ar") for row in range(passages) for _ in range(2) if l == "ar" or row % 2]
    known, languages = (np.array(column) for column in zip(*each, strict=True))
    p = dice.normal(size=(passages, 4)).astype(np.float32)
    queries = (p[known] + dice.normal(size=(len(known), 4)) * [2, 0.1, 0.1, 0.1]).astype(np.float32)
    pairs = Pairs(queries, p[known], languages, queries)
    q = p[:5] + 1
    return Trial(np.arange(5), q, np.array(["ar", "ru", "ar", "ar", "ru"]), p, np.arange(5), pairs, known)


def test_the_estimate_is_of_one_query_a_passage_and_language():
    found = choosing.estimate(trial(100))
    assert sum(found["passages"]) == 100 and found["queries"] == {"ar": 100, "ru": 50}
    assert list(found["aligned"]) == ["1", "2", "5", "10", "20"]


def test_with_too_few_passages_all_rules_take_five():
    t = trial(20)
    assert choosing.estimate(t) is None
    sides, counts = choosing.tries([[t]])
    assert set(counts) == set(choosing.RULES) and set(counts.values()) == {"5 (1)"}
    for name in choosing.RULES:
        np.testing.assert_array_equal(sides[name](t), side(aligned, 5.0)(t))
    np.testing.assert_array_equal(sides["centred"](t), side(centred)(t))


def test_rules_by_hand():
    def found(centring, **of):
        top = max(centring, *(mean for ridge, mean in of.items() if float(ridge) >= 5))
        beside = {r: {"mean": mean - top, "error": 0.02} for r, mean in of.items()}
        return {"centred": {"mean": centring}, "aligned": {r: {"mean": of[r], "beside_best": beside[r]} for r in of}}

    def ruled(one):
        return [rule(one) for rule in choosing.RULES.values()]  # the best, the largest within an error, xqg align's

    assert ruled(found(0.5, **{"1": 0.6, "2": 0.6, "5": 0.59, "10": 0.58, "20": 0.56})) == [2.0, 10.0, 5.0]
    assert ruled(found(0.6, **{"1": 0.6, "5": 0.53, "10": 0.55, "20": 0.57})) == [None, None, 10.0]
