"""The fusion arithmetic against sums done by hand, and the defaults that DESIGN.md fixes."""

import math
from itertools import permutations

import numpy as np
import pytest
from conftest import refusal

from xqg_pyserini.fusion.formula import Centers, Fusion, FusionSettings, augment, pooled, unit


def f32(rows) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def i32(values) -> np.ndarray:
    return np.array(values, dtype=np.int32)


# Three passages; the last has no queries, and the middle one has them in one language only.
E = f32([[4, 0, 8], [0, 8, -4], [12, 4, 0]])
SUMS = {"ar": f32([[8, 4, 0], [0, 0, 0], [0, 0, 0]]), "ru": f32([[0, 4, 8], [4, 4, 4], [0, 0, 0]])}
COUNTS = {"ar": i32([3, 0, 0]), "ru": i32([1, 2, 0])}

# (fusion, languages, rows by hand)
BY_HAND = {
    # E + S, with α = ½: half of the total; the third row is not halved
    "sum of all": (Fusion("sum", alpha=0.5), ("ar", "ru"), [[6, 4, 8], [2, 6, 0], [12, 4, 0]]),
    "sum of one": (Fusion("sum", alpha=0.5), ("ru",), [[2, 2, 8], [2, 6, 0], [12, 4, 0]]),
    "sum of one that few have": (Fusion("sum", alpha=0.25), ("ar",), [[5, 1, 6], [0, 8, -4], [12, 4, 0]]),
    # pooled: (8, 8, 8) / 4 = (2, 2, 2), where the mean of the languages' means is (4/3, 8/3, 4)
    "mean of all": (Fusion("mean", beta=0.5), ("ar", "ru"), [[3, 1, 5], [1, 5, -1], [12, 4, 0]]),
    "mean of one": (Fusion("mean", beta=0.25), ("ru",), [[3, 1, 8], [0.5, 6.5, -2.5], [12, 4, 0]]),
    # ¼ · (4, 0, 8) + ¾ · (8, 4, 0) / 3
    "mean of one that few have": (Fusion("mean", beta=0.75), ("ar",), [[3, 1, 2], [0, 8, -4], [12, 4, 0]]),
    "no weight for the queries, sum": (Fusion("sum", alpha=0), ("ar", "ru"), E.tolist()),
    "no weight for the queries, mean": (Fusion("mean", beta=0), ("ar", "ru"), E.tolist()),
    "queries alone, sum": (Fusion("sum", alpha=1), ("ar", "ru"), [[8, 8, 8], [4, 4, 4], [12, 4, 0]]),
    "queries alone, mean": (Fusion("mean", beta=1), ("ar", "ru"), [[2, 2, 2], [2, 2, 2], [12, 4, 0]]),
    "no language": (Fusion("mean", beta=0.5), (), E.tolist()),
}


def run(fusion, languages, centers=None, rows=slice(None)):
    return augment(
        fusion, E[rows], {l: SUMS[l][rows] for l in languages}, {l: COUNTS[l][rows] for l in languages}, centers
    )


@pytest.mark.parametrize(("fusion", "languages", "rows"), BY_HAND.values(), ids=BY_HAND)
def test_fusion_is_what_it_is_by_hand(fusion, languages, rows):
    out = run(fusion, languages)
    assert out.dtype == np.float32
    assert out.tolist() == rows


@pytest.mark.parametrize(("fusion", "languages", "rows"), BY_HAND.values(), ids=BY_HAND)
def test_renormalised_fusion_is_the_fusion_at_length_1(fusion, languages, rows):
    from dataclasses import replace

    out = run(replace(fusion, normalize=True), languages)
    expected = [[x / math.hypot(*row) for x in row] for row in rows]
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    assert out.dtype == np.float32


def test_unit_has_length_1_and_leaves_zeros():
    out = unit(f32([[3, 4], [0, 0], [-0.3, 0.4]]))
    np.testing.assert_allclose(out, [[0.6, 0.8], [0, 0], [-0.6, 0.8]], rtol=1e-6)
    assert out.dtype == np.float32
    assert not np.isnan(out).any()


def test_a_mixture_of_length_0_stays_zero_and_does_not_become_nan():
    out = augment(
        Fusion("mean", beta=0.5, normalize=True), f32([[1, -2]]), {"ar": f32([[-2, 4]])},
        {"ar": i32([2])},
    )  # fmt: skip
    assert out.tolist() == [[0, 0]]


def test_the_arguments_are_left_as_they_are():
    before = [E.copy(), *(s.copy() for s in SUMS.values())]
    centers = Centers(f32([1, 1, 1]), {"ar": f32([1, 0, 0])}, f32([0, 1, 0]))
    for center in (False, True):
        for form in (Fusion("mean", beta=0.5, normalize=True, center=center),
                     Fusion("sum", alpha=0.5, normalize=True, center=center)):  # fmt: skip
            run(form, ("ar", "ru"), centers)
    for now, then in zip([E, *SUMS.values()], before, strict=True):
        assert np.array_equal(now, then)


def test_sums_have_no_negative_zeros():
    minus = f32([[-0.0, 1], [-0.0, -0.0]])  # as float16 has them, of what is too small for it
    one, two = (pooled(E[:2, :2], dict.fromkeys(of, minus), dict.fromkeys(of, i32([1, 0]))) for of in ("a", "ab"))
    assert not np.signbit(one[0]).any()
    assert not np.signbit(two[0]).any()


# --- centring -------------------------------------------------------------------------------------

CENTERS = Centers(f32([4, 4, 0]), {"ar": f32([1, 0, 0]), "ru": f32([0, 2, 0])}, f32([99, 99, 99]))


def test_centred_mean_is_what_it_is_by_hand():
    # E - μ_P = (0, -4, 8), (-4, 4, -4), (8, 0, 0).
    # S - Σ n_l μ_l = (8, 8, 8) - 3 (1, 0, 0) - (0, 2, 0) = (5, 6, 8), over 4 queries;
    # (4, 4, 4) - 2 (0, 2, 0) = (4, 0, 4), over 2.
    out = run(Fusion("mean", beta=0.5, center=True), ("ar", "ru"), CENTERS)
    assert out.tolist() == [[0.625, -1.25, 5], [-1, 2, -1], [8, 0, 0]]
    own = run(Fusion("mean", beta=0.5, center=True), ("ru",), CENTERS)
    # (0, 4, 8) - (0, 2, 0) = (0, 2, 8), over 1 query
    assert own.tolist() == [[0, -1, 8], [-1, 2, -1], [8, 0, 0]]


def test_centred_sum_is_what_it_is_by_hand():
    out = run(Fusion("sum", alpha=0.5, center=True), ("ar", "ru"), CENTERS)
    assert out.tolist() == [[2.5, 1, 8], [0, 2, 0], [8, 0, 0]]


def test_centred_and_renormalised_mean_scales_both_parts_before_it_mixes_them():
    """N((1-β)·N(E - μ_P) + β·N(mean of the queries - μ_l)), DESIGN §2."""
    centers = Centers(f32([1, 1]), {"ar": f32([2, 0])}, f32([50, 50]))
    passages = f32([[4, 5], [1, 3], [1, 1]])  # minus μ_P: (3, 4), (0, 2), (0, 0)
    sums = {"ar": f32([[16, 0], [0, 0], [5, 0]])}  # means minus μ: (6, 0), none, (3, 0)
    out = augment(
        Fusion("mean", beta=0.2, normalize=True, center=True), passages, sums,
        {"ar": i32([2, 0, 1])}, centers,
    )  # fmt: skip
    # 0.8 · (0.6, 0.8) + 0.2 · (1, 0) = (0.68, 0.64); its length is √0.872
    length = math.sqrt(0.872)
    np.testing.assert_allclose(out, [[0.68 / length, 0.64 / length], [0, 1], [1, 0]], rtol=1e-6)


def test_centred_and_renormalised_sum_scales_the_passage_alone_before_it_mixes():
    centers = Centers(f32([1, 1]), {"ar": f32([2, 0])}, f32([50, 50]))
    out = augment(
        Fusion("sum", alpha=0.5, normalize=True, center=True), f32([[4, 5], [1, 3]]),
        {"ar": f32([[7, 0.6], [0, 0]])}, {"ar": i32([2, 0])}, centers,
    )  # fmt: skip
    # ½ · (0.6, 0.8) + ½ · (7 - 4, 0.6) = (1.8, 0.7); no queries: (0, 1)
    length = math.hypot(1.8, 0.7)
    np.testing.assert_allclose(out, [[1.8 / length, 0.7 / length], [0, 1]], rtol=1e-6)


def test_a_language_without_a_mean_is_centred_by_that_of_all_queries():
    centers = Centers(f32([0, 0, 0]), {"ar": f32([1, 0, 0])}, f32([0, 0, 3]))
    assert centers.of("ar").tolist() == [1, 0, 0]
    assert centers.of("ru").tolist() == [0, 0, 3]
    out = run(Fusion("mean", beta=1, center=True), ("ru",), centers)
    assert out.tolist()[:2] == [[0, 4, 5], [2, 2, -1]]


@pytest.mark.parametrize("normalize", [False, True])
def test_centring_takes_a_shift_of_each_language_out(normalize):
    """What is added to all passages, or to all queries of a language, changes nothing."""
    fusion = Fusion("mean", beta=0.25, normalize=normalize, center=True)
    before = run(fusion, ("ar", "ru"), CENTERS)
    move = {"passages": f32([8, -8, 16]), "ar": f32([4, 4, 4]), "ru": f32([-2, 0, 8])}
    after = augment(
        fusion, E + move["passages"],
        {l: SUMS[l] + COUNTS[l][:, None] * move[l] for l in SUMS}, COUNTS,
        Centers(
            CENTERS.passages + move["passages"],
            {l: CENTERS.queries[l] + move[l] for l in SUMS}, f32([0, 0, 0]),
        ),
    )  # fmt: skip
    np.testing.assert_allclose(after, before, rtol=1e-6)


# --- invariances ----------------------------------------------------------------------------------

ALL_FUSIONS = [
    Fusion(form, normalize=normalize, center=center, **{weight: 0.25})
    for form, weight in (("sum", "alpha"), ("mean", "beta"))
    for normalize in (False, True)
    for center in (False, True)
]


@pytest.mark.parametrize("fusion", ALL_FUSIONS, ids=repr)
def test_rows_do_not_see_each_other_and_languages_have_no_order(fusion):
    whole = run(fusion, ("ar", "ru"), CENTERS)
    assert run(fusion, ("ru", "ar"), CENTERS).tolist() == whole.tolist()
    for order in permutations(range(3)):
        assert run(fusion, ("ar", "ru"), CENTERS, list(order)).tolist() == whole[list(order)].tolist()
    parts = [run(fusion, ("ar", "ru"), CENTERS, slice(i, i + 1))[0] for i in range(3)]
    assert np.array(parts).tolist() == whole.tolist()


@pytest.mark.parametrize("alpha", [0.01, 0.02, 0.3, 0.99])
@pytest.mark.parametrize("m", [1, 10, 35])
def test_for_equal_counts_the_sum_points_where_the_mean_with_beta_points(alpha, m):
    """β = α·m / (1 - α + α·m): the sum is the mean, longer by 1 - α + α·m (DESIGN §2)."""
    random = np.random.default_rng(m)
    passages = random.normal(size=(20, 8)).astype(np.float32)
    sums = {l: random.normal(size=(20, 8)).astype(np.float32) for l in ("ar", "ru")}
    counts = {"ar": np.full(20, m), "ru": np.full(20, 2 * m)}
    scale = 1 - alpha + alpha * 3 * m
    beta = alpha * 3 * m / scale
    summed = augment(Fusion("sum", alpha=alpha), passages, sums, counts)
    meant = augment(Fusion("mean", beta=beta), passages, sums, counts)
    np.testing.assert_allclose(summed, scale * meant, rtol=2e-4, atol=1e-4)


def test_with_35_queries_and_the_published_alpha_the_queries_hold_26_percent():
    out = augment(Fusion("sum", alpha=0.01), f32([[1, 0]]), {"ar": f32([[0, 35]])}, {"ar": i32([35])})
    assert out[0, 1] / out.sum() == pytest.approx(0.261, abs=5e-4)


# --- the settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fusion", "text"),
    [
        (Fusion("sum", alpha=0.01), "Fusion('sum', alpha=0.01)"),
        (Fusion("sum", alpha=0.0, normalize=False), "Fusion('sum', alpha=0.0)"),
        (Fusion("mean", beta=0.3, normalize=True), "Fusion('mean', beta=0.3, normalize=True)"),
        (
            Fusion("mean", beta=1, languages=("ar",), center=True),
            "Fusion('mean', beta=1, languages=('ar',), center=True)",
        ),
    ],
)
def test_a_fusion_is_printed_by_its_settings_and_is_equal_to_what_it_prints(fusion, text):
    assert repr(fusion) == text
    assert eval(text) == fusion
    assert hash(eval(text)) == hash(fusion)


def test_fusions_with_other_settings_differ():
    base = {"beta": 0.3, "languages": ("ar", "ru"), "normalize": True, "center": True}
    changed = [
        {**base, "beta": 0.4}, {**base, "languages": ("ru", "ar")}, {**base, "languages": None},
        {**base, "normalize": False}, {**base, "center": False},
    ]  # fmt: skip
    assert len({Fusion("mean", **settings) for settings in [base, *changed]}) == 6


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"form": "max", "alpha": 0.1}, "fusion 'max': expected sum or mean"),
        ({"form": "sum"}, "alpha is None; expected a number from 0 to 1"),
        ({"form": "mean"}, "beta is None; expected a number from 0 to 1"),
        ({"form": "sum", "beta": 0.3}, "the sum takes alpha only (alpha implies the sum, beta the mean)"),
        (
            {"form": "mean", "alpha": 0.3, "beta": 0.3},
            "the mean takes beta only (alpha implies the sum, beta the mean)",
        ),
        ({"form": "sum", "alpha": -0.01}, "alpha is -0.01; expected a number from 0 to 1"),
        ({"form": "sum", "alpha": 1.01}, "alpha is 1.01; expected a number from 0 to 1"),
        ({"form": "mean", "beta": math.inf}, "beta is inf; expected a number from 0 to 1"),
        ({"form": "mean", "beta": math.nan}, "beta is nan; expected a number from 0 to 1"),
    ],
)
def test_settings_that_make_no_fusion_are_refused(settings, expected):
    text, about = refusal(Fusion, **settings)
    assert text == expected
    assert about == (("alpha", "beta") if "implies" in text else ())


def test_a_fusion_given_its_languages_as_a_list_is_a_value_all_the_same():
    listed = Fusion("mean", beta=0.3, languages=["ar", "ru"])
    assert listed == Fusion("mean", beta=0.3, languages=("ar", "ru"))
    assert {listed: 1}[Fusion("mean", beta=0.3, languages=("ar", "ru"))] == 1


NONE, AR = None, ("ar",)
# given: form, alpha, beta, languages, normalize, center | the encoder normalises, language-aware
DEFAULTS = [
    # with neither: mean, β = 0.3; the mean follows the encoder
    ((NONE, NONE, NONE, NONE, NONE, NONE), (1, 0), Fusion("mean", beta=0.3, normalize=True)),
    ((NONE, NONE, NONE, NONE, NONE, NONE), (0, 0), Fusion("mean", beta=0.3)),
    ((NONE, NONE, NONE, NONE, False, NONE), (1, 0), Fusion("mean", beta=0.3)),
    ((NONE, NONE, NONE, NONE, True, NONE), (0, 0), Fusion("mean", beta=0.3, normalize=True)),
    # 0.2 with centring, which is off unless asked for
    (
        (NONE, NONE, NONE, NONE, NONE, True),
        (1, 0),
        Fusion("mean", beta=0.2, normalize=True, center=True),
    ),
    ((NONE, NONE, NONE, NONE, NONE, True), (0, 0), Fusion("mean", beta=0.2, center=True)),
    ((NONE, NONE, NONE, NONE, NONE, False), (1, 0), Fusion("mean", beta=0.3, normalize=True)),
    # language-aware: centred where the encoder normalises, 0.4 without centring
    (
        (NONE, NONE, NONE, NONE, NONE, NONE),
        (1, 1),
        Fusion("mean", beta=0.2, normalize=True, center=True),
    ),
    ((NONE, NONE, NONE, NONE, NONE, False), (1, 1), Fusion("mean", beta=0.4, normalize=True)),
    ((NONE, NONE, NONE, NONE, NONE, NONE), (0, 1), Fusion("mean", beta=0.4)),
    ((NONE, NONE, NONE, NONE, NONE, True), (0, 1), Fusion("mean", beta=0.2, center=True)),
    # α implies the sum, renormalised on demand only
    ((NONE, 0.02, NONE, NONE, NONE, NONE), (1, 0), Fusion("sum", alpha=0.02)),
    (
        (NONE, 0.02, NONE, NONE, True, NONE),
        (1, 0),
        Fusion("sum", alpha=0.02, normalize=True),
    ),
    (("sum", NONE, NONE, NONE, NONE, NONE), (0, 0), Fusion("sum", alpha=0.01)),
    (("sum", 0.0, NONE, NONE, NONE, NONE), (0, 0), Fusion("sum", alpha=0.0)),
    ((NONE, 0.02, NONE, NONE, NONE, NONE), (1, 1), Fusion("sum", alpha=0.02, center=True)),
    ((NONE, 0.02, NONE, NONE, NONE, NONE), (0, 1), Fusion("sum", alpha=0.02)),
    # β implies the mean, and is taken as it is
    ((NONE, NONE, 0.7, NONE, NONE, True), (0, 0), Fusion("mean", beta=0.7, center=True)),
    ((NONE, NONE, 0.0, NONE, NONE, NONE), (0, 0), Fusion("mean", beta=0.0)),
    (("mean", NONE, 0.7, NONE, NONE, False), (0, 1), Fusion("mean", beta=0.7)),
    (("mean", NONE, NONE, ["ar"], NONE, NONE), (0, 0), Fusion("mean", beta=0.3, languages=AR)),
]  # fmt: skip


@pytest.mark.parametrize(("given", "where", "expected"), DEFAULTS)
def test_what_the_user_leaves_open_is_filled_in(given, where, expected):
    normalized, aware = map(bool, where)
    chosen = FusionSettings(*given).complete(normalized, own_language=aware)
    assert chosen == expected
    assert repr(chosen) == repr(expected)


@pytest.mark.parametrize("aware", [False, True])
@pytest.mark.parametrize(
    ("form", "alpha", "beta", "expected"),
    [
        (None, 0.01, 0.3, "alpha (of the sum) and beta (of the mean) are both given; choose one"),
        ("sum", 0.0, 0.0, "alpha (of the sum) and beta (of the mean) are both given; choose one"),
        ("sum", None, 0.3, "the sum takes alpha only (alpha implies the sum, beta the mean)"),
        ("mean", 0.01, None, "the mean takes beta only (alpha implies the sum, beta the mean)"),
        ("median", None, None, "fusion 'median': expected sum or mean"),
        (None, 2.0, None, "alpha is 2.0; expected a number from 0 to 1"),
        (None, None, -0.1, "beta is -0.1; expected a number from 0 to 1"),
    ],
)
def test_contradictions_are_refused(form, alpha, beta, expected, aware):
    text, about = refusal(lambda: FusionSettings(form, alpha, beta).complete(True, aware))
    assert text == expected
    assert about == (("alpha", "beta") if "alpha" in text and "beta" in text else ())


# --- shrinking ------------------------------------------------------------------------------------

SHRUNK_CENTERS = Centers(f32([1, 1]), {"ar": f32([2, 0]), "ru": f32([0, 4])}, f32([50, 50]))


def shrunk(kappa=1.0, languages=("ar",), **options):
    """Passages with three, one and no queries in ar (which is far from ru's and from all queries' mean)."""
    sums = {"ar": f32([[6, 3], [0, 4], [0, 0]]), "ru": f32([[0, 0], [0, 2], [0, 0]])}
    counts = {"ar": i32([3, 1, 0]), "ru": i32([0, 1, 0])}
    fusion = Fusion("mean", beta=0.5, shrink_queries=kappa, **options)
    chosen = {l: sums[l] for l in languages}, {l: counts[l] for l in languages}
    return augment(fusion, f32([[2, 2], [4, 0], [0, 6]]), *chosen, SHRUNK_CENTERS)


def test_shrinking_adds_queries_at_the_language_s_mean_to_every_passage():
    # ar: (6, 3) + (2, 0) over 4; (0, 4) + (2, 0) over 2; (2, 0) over 1
    np.testing.assert_allclose(shrunk(), [[2, 1.375], [2.5, 1], [1, 3]])
    # κ = 3: (6, 3) + (6, 0) over 6; (0, 4) + (6, 0) over 4; (2, 0)
    np.testing.assert_allclose(shrunk(3.0), [[2, 1.25], [2.75, 0.5], [1, 3]])
    # two languages: towards ((2, 0) + (0, 4)) / 2 = (1, 2): (7, 5) over 4; (1, 8) over 3; (1, 2)
    expected = [[1.875, 1.625], [4 / 2 + 1 / 6, 8 / 6], [0.5, 4]]
    np.testing.assert_allclose(shrunk(languages=("ar", "ru")), expected, rtol=1e-6)


def test_shrinking_with_centring_draws_towards_nothing():
    # E - μ_P: (1, 1), (3, -1), (-1, 5); S - n·μ: (0, 3) over 4; (-2, 4) over 2; nothing
    np.testing.assert_allclose(shrunk(center=True), [[0.5, 0.875], [1, 0.5], [-0.5, 2.5]])
    unit_sum = np.array([1, 1]) / 2**0.5 + [0, 0.75]  # the mean of queries keeps its length, 3/4
    np.testing.assert_allclose(shrunk(center=True, normalize=True)[0], unit_sum / np.linalg.norm(unit_sum), rtol=1e-6)
    np.testing.assert_allclose(shrunk(center=True, normalize=True)[2], np.array([-1, 5]) / 26**0.5, rtol=1e-6)


def test_no_shrinking_is_as_ever_and_needs_no_centres():
    passages, sums, counts = f32([[2, 2], [0, 6]]), {"ar": f32([[6, 3], [0, 0]])}, {"ar": i32([3, 0])}
    same = augment(Fusion("mean", beta=0.5, shrink_queries=0), passages, sums, counts)
    assert same.tolist() == augment(Fusion("mean", beta=0.5), passages, sums, counts).tolist() == [[2, 1.5], [0, 6]]
    assert repr(Fusion("mean", beta=0.5, shrink_queries=2.0)) == "Fusion('mean', beta=0.5, shrink_queries=2.0)"


@pytest.mark.parametrize("kappa", [-1.0, float("nan"), float("inf")])
def test_what_is_no_number_of_queries_to_shrink_by_is_refused(kappa):
    assert refusal(Fusion, "mean", beta=0.3, shrink_queries=kappa) == (
        f"shrink_queries is {kappa}; expected a number of queries from 0, such as 1",
        ("shrink_queries",),
    )


def test_the_sum_is_not_shrunk():
    assert refusal(Fusion, "sum", alpha=0.01, shrink_queries=1.0) == (
        "shrink_queries shrinks the mean of a passage's queries; the sum has none",
        ("shrink_queries",),
    )
