"""Moments become centres and matrices: by hand, beside a direct computation, and what must change nothing."""

import numpy as np
import pytest

from xqg_pyserini.fusion.alignment import align_moments, covariances
from xqg_pyserini.stores.moments import Moments, Pair, Sums

D = 4
LANGUAGES = ("ar", "ru", "sw")


def moments_of(pairs, languages=LANGUAGES, d=D) -> Moments:
    moments = Moments(languages, d)
    moments.add(pairs)
    return moments


def sums_of(pairs, **options) -> Sums:
    return moments_of(pairs, **options).sums()


@pytest.fixture
def pairs():
    """Pairs in three languages that lie apart, of unequal number and spread, one to three queries a passage."""
    dice = np.random.default_rng(7)
    passages = dice.normal(size=(40, D)) @ dice.normal(size=(D, D))
    made = []
    for i, language in enumerate(LANGUAGES):
        for row in range(0, 40, i + 1):
            apart = dice.normal(size=(1 + row % 3, D)) * [1, 2, 0.5, 0.1] * (i + 1)
            made.append(Pair(f"p{row}", language, passages[row], passages[row] + apart + 3 * i))
    return made


def direct(pairs, shrink, ridge):
    """The formulas of docs/method.md from the vectors themselves: language → (centre, matrix); None for all."""
    queries = {l: np.concatenate([p.queries for p in pairs if p.language == l]) for l in LANGUAGES}
    beside = {
        l: np.concatenate([np.tile(p.passage, (len(p.queries), 1)) for p in pairs if p.language == l])
        for l in LANGUAGES
    }
    own = {}
    for l in LANGUAGES:
        a, b = queries[l] - queries[l].mean(axis=0), beside[l] - beside[l].mean(axis=0)
        own[l] = np.mean([np.outer(x - y, x - y) for x, y in zip(a, b, strict=True)], axis=0)
    total = sum(len(q) for q in queries.values())
    pooled = sum(len(queries[l]) / total * own[l] for l in LANGUAGES)

    def matrix(c):
        t = np.trace(c) / D
        return (1 + ridge) * t * np.linalg.inv(c + ridge * t * np.eye(D))

    out = {None: (np.concatenate(list(queries.values())).mean(axis=0), matrix(pooled))}
    for l in LANGUAGES:
        n = len(queries[l])
        out[l] = (queries[l].mean(axis=0), matrix((n * own[l] + shrink * pooled) / (n + shrink)))
    return out


def test_two_dimensions_by_hand():
    # δ is (2, 0), (-2, 0), (0, 1), (0, -1) around a shift of (5, 5): C = diag(8, 2) / 4 = diag(2, 0.5), t = 1.25
    apart = [[7.0, 5.0], [3.0, 5.0], [5.0, 6.0], [5.0, 4.0]]
    pairs = [Pair(f"p{i}", "ar", np.array([1.0, -1.0]) * i, np.array([[i, -i]]) + a) for i, a in enumerate(apart)]
    sums = sums_of(pairs, languages=["ar"], d=2)
    assert sums.pairs.tolist() == [4]
    assert covariances(sums)[0] == pytest.approx(np.diag([2, 0.5]))
    centers, matrices = align_moments(sums, 300, 1.0)
    # the mean query is that of the passages, (1.5, -1.5), and the shift
    assert centers == pytest.approx(np.array([[6.5, 3.5]] * 2))
    # 2·1.25 / (2 + 1.25) and 2·1.25 / (0.5 + 1.25): what differs within pairs counts for less
    assert matrices == pytest.approx(np.array([np.diag([2.5 / 3.25, 2.5 / 1.75])] * 2))


def test_two_languages_are_shrunk_towards_both_by_hand():
    # one direction; C_ar = 4 of 2 pairs, C_ru = 1 of 6: C̄ = (2·4 + 6·1) / 8 = 1.75
    def pair(i, language, apart):
        return Pair(f"{language}{i}", language, np.zeros(1), np.array([[apart]]))

    pairs = [pair(0, "ar", 2.0), pair(1, "ar", -2.0)]
    pairs += [pair(i, "ru", (-1.0) ** i) for i in range(6)]
    sums = sums_of(pairs, languages=["ar", "ru"], d=1)
    assert covariances(sums).ravel() == pytest.approx([4, 1])
    # in one dimension C̃ = t, and M is 1 whatever C̃ is; in two, with another direction of 0, M shows it
    flat = Sums(
        sums.pairs,
        np.pad(sums.queries, ((0, 0), (0, 1))),
        np.pad(sums.passages, ((0, 0), (0, 1))),
        np.pad(sums.differences, ((0, 0), (0, 1), (0, 1))),
    )
    assert align_moments(sums, 4, 2.0)[1].ravel() == pytest.approx([1, 1, 1])
    for first in align_moments(flat, 4, 2.0)[1]:
        assert first == pytest.approx(np.diag([3 * 0.5 / (1 + 2 * 0.5), 3 * 0.5 / (2 * 0.5)]))  # t is half of C̃
    mixed = flat._replace(differences=flat.differences + np.array([np.zeros((2, 2)), np.diag([0, 6.0])]))
    _, matrices = align_moments(mixed, 4, 2.0)
    # the second direction: 0 of ar, 1 of ru, 0.75 of both; shrunk (2·4 + 4·1.75) / 6 = 2.5, (0 + 4·0.75) / 6 = 0.5
    assert matrices[0] == pytest.approx(np.diag([3 * 1.5 / (2.5 + 3), 3 * 1.5 / (0.5 + 3)]))
    # ru: (6·1 + 4·1.75) / 10 = 1.3 and (6·1 + 4·0.75) / 10 = 0.9
    assert matrices[1] == pytest.approx(np.diag([3 * 1.1 / (1.3 + 2.2), 3 * 1.1 / (0.9 + 2.2)]))
    assert matrices[2] == pytest.approx(np.diag([3 * 1.25 / (1.75 + 2.5), 3 * 1.25 / (0.75 + 2.5)]))


@pytest.mark.parametrize("shrink", [0, 10, 300])
@pytest.mark.parametrize("ridge", [0.5, 5.0])
def test_moments_give_what_the_vectors_give(pairs, shrink, ridge):
    centers, matrices = align_moments(sums_of(pairs), shrink, ridge)
    expected = direct(pairs, shrink, ridge)
    for i, language in enumerate([*LANGUAGES, None]):
        assert centers[i] == pytest.approx(expected[language][0], rel=1e-10)
        assert matrices[i] == pytest.approx(expected[language][1], rel=1e-9, abs=1e-12)


def test_rotation_turns_and_scaling_keeps(pairs):
    dice = np.random.default_rng(1)
    turn, _ = np.linalg.qr(dice.normal(size=(D, D)))
    centers, matrices = align_moments(sums_of(pairs), 50, 2.0)
    turned = [p._replace(passage=p.passage @ turn.T, queries=p.queries @ turn.T) for p in pairs]
    of_turned = align_moments(sums_of(turned), 50, 2.0)
    assert of_turned[0] == pytest.approx(centers @ turn.T)
    assert of_turned[1] == pytest.approx(turn @ matrices @ turn.T)
    scaled = [p._replace(passage=p.passage * 1000, queries=p.queries * 1000) for p in pairs]
    of_scaled = align_moments(sums_of(scaled), 50, 2.0)
    assert of_scaled[0] == pytest.approx(centers * 1000)
    assert of_scaled[1] == pytest.approx(matrices)


def test_order_changes_the_last_bits_only(pairs):
    there, back = sums_of(pairs), sums_of(pairs[::-1])
    assert there.pairs.tolist() == back.pairs.tolist()
    n = there.pairs.sum()
    # by Cauchy and Schwarz, |Σ δᵢδⱼ| is at most the trace
    largest = np.trace(there.differences, axis1=1, axis2=2).max()
    assert np.abs(there.differences - back.differences).max() <= 2 * n * 2**-53 * largest


def test_parts_add_up_to_the_whole_in_any_order(pairs):
    whole = moments_of(pairs)
    # parts know their own languages, in their own order, and by other codes of the same
    first = moments_of([p for p in pairs[:30] if p.language != "sw"], languages=["ru", "ar"])
    other = [p._replace(language="swa") for p in pairs if p.language == "sw"]
    second = moments_of([*pairs[30:40], *other], languages=["swa", "ar", "ja"])
    assert {p.language for p in pairs[30:40]} == {"ar"}
    rest = moments_of([p for p in pairs[40:] if p.language != "sw"])
    for parts in ([first, second, rest], [rest, second, first]):
        merged = Moments.holding([part.numbers for part in parts], None, whole.d, 4000)
        for part in parts:
            merged.merge(part)
        assert len(merged.languages) == 3
        order = [merged.languages.index(l) for l in ("ar", "ru")]
        order.append(next(i for i, l in enumerate(merged.languages) if l in ("sw", "swa")))
        for of, expected in zip(merged.sums(), whole.sums(), strict=True):
            assert of[order] == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_pairs_given_twice_change_nothing_but_what_shrinkage_weighs(pairs):
    once, twice = sums_of(pairs), sums_of([*pairs, *pairs])
    for shrink, doubled in ((0, 0), (50, 100)):
        expected, found = align_moments(once, shrink, 3.0), align_moments(twice, doubled, 3.0)
        assert found[0] == pytest.approx(expected[0])
        assert found[1] == pytest.approx(expected[1])


def test_a_ridge_without_end_is_centring(pairs):
    sums = sums_of(pairs)
    centers, matrices = align_moments(sums, 300, 1e9)
    assert matrices == pytest.approx(np.array([np.eye(D)] * 4), abs=1e-7)
    alone, nothing = align_moments(sums, 300, None)
    assert np.array_equal(alone, centers)
    assert nothing is None


def test_no_factor_is_needed_to_rank(pairs):
    """(1 + λ)·t changes no order: the plain inverse ranks alike."""
    sums = sums_of(pairs)
    own = covariances(sums)[0]
    _, matrices = align_moments(sums, 0, 2.0)
    plain = np.linalg.inv(own + 2 * np.trace(own) / D * np.eye(D))
    assert matrices[0] / plain == pytest.approx(np.full((D, D), matrices[0, 0, 0] / plain[0, 0]))


def test_a_language_without_pairs_takes_what_serves_all(pairs):
    some = [p for p in pairs if p.language != "ru"]
    centers, matrices = align_moments(sums_of(some), 0, 5.0)
    assert np.array_equal(centers[1], centers[3])
    assert np.array_equal(matrices[1], matrices[3])
    assert not np.array_equal(matrices[0], matrices[3])


def test_queries_that_are_their_passages_are_not_turned():
    passages = np.eye(3)
    pairs = [Pair(f"p{i}", "ar", p, p[None]) for i, p in enumerate(passages)]
    _, matrices = align_moments(sums_of(pairs, languages=["ar"], d=3), 300, 5.0)
    assert matrices == pytest.approx(np.array([np.eye(3)] * 2))
