"""One pass gives every point the run that its own index or language-aware search gives."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import message
from made_search import (
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
)
from made_stores import (
    edit_meta,
    engine,  # noqa: F401 - a fixture
    f32,
    quietly,
    write_passages,
    write_sums,
)
from made_sweeps import assert_same_lists

from xqg_pyserini.data import Question
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.files import file_sha256
from xqg_pyserini.fusion.formula import Centers, Fusion, augment, gram, mixing_weights, pooled
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.retrieve import sweep_pass
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.grid import Point, grid
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.retrieve.sweep_pass import Sweep
from xqg_pyserini.stores import QueryStore, store

UNEQUAL = Tolerances(allow_unequal=True, allow_uneven=True)

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
    Fusion("mean", beta=0.25, shrink_queries=1.5),
    Fusion("mean", beta=0.25, normalize=True, shrink_queries=1.0),
    Fusion("mean", beta=0.2, normalize=True, center=True, shrink_queries=2.0),
    Fusion("sum", alpha=0.05, normalize=True, center=True),
]
SETS = ["all", "own", "others", "each", "te+ru"]
HELD = ("ar", "ru", "te")


def swept(folder, points, questions=QUESTIONS, vectors=VECTORS, hits=10):
    job = Sweep(folder / "P", folder / "Q", points, questions, UNEQUAL)
    return quietly(job.search, vectors, hits)


@pytest.fixture
def points(passages, queries):
    return grid(FUSIONS, SETS, [None], HELD)


def test_a_grid_holds_every_combination_under_a_name_of_its_own(points):
    names = [point.name for point in points]
    assert len(names) == len(set(names)) == 9 * (4 + 3)
    assert names[:7] == [f"mean-b0.25-{s}" for s in ("all", "own", "others", "ar", "ru", "te", "te+ru")]
    assert "mean-b0.25-own-k1.5" in names and "mean-b0.2-all-norm-cent-k2" in names
    assert "mean-b0.2-own-norm-cent" in names and "sum-a0.05-ar-norm-cent" in names
    assert Point(Fusion("mean", beta=0.3, normalize=True), first=5).name == "mean-b0.3-all-n5-norm"
    assert Point().name == "baseline"


@pytest.mark.parametrize("hits", [3, 10, N + 5])
def test_every_point_has_the_lists_of_its_index_or_language_aware_search(tmp_path, points, hits):
    runs = swept(tmp_path, points, hits=hits)
    assert list(runs) == ["baseline", *(point.name for point in points)]
    baseline = write_index(tmp_path / "P", tmp_path / "base")
    assert_same_lists(runs["baseline"], baseline.search(QUESTIONS, hits, vectors=VECTORS))
    for point in points:
        if point.scope == "own":
            fused = Fused(tmp_path / "P", tmp_path / "Q", point.fusion, UNEQUAL, own=True)
            expected = quietly(fused.search, QUESTIONS, hits, vectors=VECTORS)
        elif point.scope == "all":
            expected = indexed(tmp_path, point.fusion, QUESTIONS, VECTORS, hits)
        else:  # each question's in the index of all languages but its own
            expected = {}
            for i, question in enumerate(QUESTIONS):
                rest = tuple(l for l in HELD if l != question.language)
                fusion = replace(point.fusion, languages=rest)
                single = indexed(tmp_path, fusion, [question], VECTORS[i : i + 1], hits)
                expected |= single
        assert_same_lists(runs[point.name], expected)


def indexed(folder, fusion, questions, vectors, hits):
    fused = Fused(folder / "P", folder / "Q", fusion, UNEQUAL)
    index = quietly(fused.write_index, folder / "index", overwrite=True)
    return quietly(index.search, questions, hits, vectors=vectors)


def test_planted_ties_come_in_the_order_of_the_passages(tmp_path, points):
    runs = swept(tmp_path, points, hits=3)
    assert list(runs["mean-b0.25-all"]["00"]) == ["d4", "d12", "d28"]


@pytest.mark.parametrize(("rows", "batch", "block"), [(1, 2, 1 << 26), (5, 3, 1 << 26), (99, 1, 1)])
def test_blocks_and_batches_of_any_size_give_one_result(tmp_path, points, monkeypatch, rows, batch, block):
    whole = swept(tmp_path, points, hits=7)
    monkeypatch.setattr(sweep_pass, "ROWS", rows)
    monkeypatch.setattr(sweep_pass, "BATCH", batch)
    monkeypatch.setattr(store, "BLOCK_BYTES", block)
    parts = swept(tmp_path, points, hits=7)
    for point in whole:
        assert_same_lists(parts[point], whole[point])


def test_questions_in_another_order_and_without_language_where_it_does_not_matter(tmp_path, points):
    chosen = [point for point in points if point.scope == "all" and not point.fusion.center]
    order = [6, 2, 0, 5, 1, 4, 3]
    whole = swept(tmp_path, chosen)
    asked = [QUESTIONS[i]._replace(language=None) for i in order]
    shuffled = swept(tmp_path, chosen, asked, VECTORS[order])
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
    chosen = grid([Fusion("mean", beta=0.5)], ["own", "others", "all", "ar"], [None], ())
    runs = swept(tmp_path, chosen, questions, f32([[1, 1], [1, 1]]), hits=3)
    own = {"a": {"p1": 1.5, "p0": 1, "p2": -49.5}, "r": {"p2": 1.5, "p0": 1, "p1": -49.5}}
    assert runs["mean-b0.5-own"] == own
    assert list(runs["mean-b0.5-own"]["a"]) == ["p1", "p0", "p2"]
    assert runs["mean-b0.5-others"] == {"a": own["r"], "r": own["a"]}
    assert runs["mean-b0.5-ar"] == {"a": own["a"], "r": own["a"]}
    assert list(runs["mean-b0.5-all"]["a"].items()) == [("p0", 1), ("p1", -24), ("p2", -24)]
    assert list(runs["baseline"]["a"].items()) == [("p0", 1), ("p1", 1), ("p2", 1)]


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
    chosen = grid(FUSIONS, ["all", "own", "ar"], [1, None], HELD)
    runs = swept(tmp_path, chosen)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "P").symlink_to(tmp_path / "P")
    (tmp_path / "one" / "Q").symlink_to(tmp_path / "Q1")
    alone = swept(tmp_path / "one", grid(FUSIONS, ["all", "own", "ar"], [None], HELD))
    whole = swept(tmp_path, grid(FUSIONS, ["all", "own", "ar"], [None], HELD))
    for point in chosen:
        name = replace(point, first=None).name
        assert_same_lists(runs[point.name], (whole if point.first is None else alone)[name])
    assert runs["mean-b0.25-all-n1"] != runs["mean-b0.25-all"]


def test_an_index_takes_the_first_few_queries_too(tmp_path, points):
    keep(tmp_path, "Q1", 1)
    for fusion in FUSIONS:
        point = Point(fusion, first=1)
        ours = swept(tmp_path, [point])[point.name]
        fused = Fused(tmp_path / "P", QueryStore(tmp_path / "Q", 1), fusion, UNEQUAL)
        quietly(fused.write_index, tmp_path / "I", overwrite=True)
        searched = quietly(Index(tmp_path / "I").search, QUESTIONS, 10, vectors=VECTORS)
        assert_same_lists(ours, searched)
    said = json.loads((tmp_path / "I" / "xqg.json").read_text("utf-8"))["queries"]
    assert said["first"] == 1
    kept = QueryStore(tmp_path / "Q").meta["kept"]["1"]
    assert said["sums_sha256"] == {language: kept[language] for language in fused.languages}


def test_more_queries_than_were_kept_are_refused(tmp_path, points):
    one = [Point(Fusion("mean", beta=0.3), first=3)]
    path = tmp_path / "Q"
    assert message(Sweep, tmp_path / "P", path, one, QUESTIONS) == (
        f"{path} has no sums of the first 3 queries a language (it has those of all queries "
        "alone); accumulate again and keep 3 too"
    )
    keep(tmp_path, "Q1", 1)
    keep(tmp_path, "Q2", 2)
    assert message(Sweep, tmp_path / "P", path, one, QUESTIONS) == (
        f"{path} has no sums of the first 3 queries a language (it has those of the first 1 2 and "
        "of all); accumulate again and keep 3 too"
    )
    assert QueryStore(path, 2).totals() == {l: int(np.minimum(n, 2).sum()) for l, n in COUNTS.items()}


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
        (lambda: grid([B3], ["ar+ar"], [None], ()), "language 'ar' is given twice"),
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
        "the grid holds the point mean-b0.3-all twice, again as mean-b0.3-te+ru+ar; give each value once"
    )


def test_passages_without_queries_are_counted_once_for_all_points(tmp_path, points):
    job = Sweep(tmp_path / "P", tmp_path / "Q", points, QUESTIONS, UNEQUAL)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        job.search(VECTORS, 5)
    warned = [str(one.message) for one in told if "keep their own" in str(one.message)]
    without = {one: job.fused[None].without_queries((one,)) for one in HELD}
    assert len(warned) == 1
    assert warned[0].startswith(f"passages without queries, of {N}, keep their own embedding: ")
    listed = warned[0].split(": ")[1].split(", ")
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
    assert refusal(Point(B3, "own")) == (
        "mixed in uncentred, queries favour the passages that have some over those that have none (ar 31%, te 31%); "
        "centre, shrink the queries (shrink_queries), align the questions instead, which takes no coverage, make "
        "queries for all, or force it with allow_uneven"
    )
    Sweep(tmp_path / "P", tmp_path / "Q", [Point(replace(B3, center=True), "own")], QUESTIONS)
    nameless = [*QUESTIONS, Question("x", "?", None, ())]
    centred = Point(replace(B3, center=True), "own")
    assert refusal(centred, questions=nameless).startswith("question 'x' has no language")
    Sweep(tmp_path / "P", tmp_path / "Q", [Point(B3)], nameless)
    assert Sweep(tmp_path / "P", tmp_path / "Q", [Point(B3)], QUESTIONS, UNEQUAL).forced == set()
    assert Sweep(tmp_path / "P", tmp_path / "Q", [Point(A1)], QUESTIONS, UNEQUAL).forced == {"allow_unequal"}
    assert Sweep(tmp_path / "P", tmp_path / "Q", [Point(B3, "own")], QUESTIONS, UNEQUAL).forced == {"allow_uneven"}


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
