"""A sweep tries each point with the question put right too: the runs of a search with that alignment."""

import json
import math
import warnings

import numpy as np
import pytest
from conftest import message, refusal
from made_search import (
    IDS,
    QUESTIONS,
    VECTORS,
    D,
    E,
    passages,  # noqa: F401 - a fixture
    queries,  # noqa: F401 - a fixture
)
from made_stores import (
    describe,
    engine,  # noqa: F401 - a fixture
    f32,
    quietly,
    write_passages,
    write_sums,
)
from test_search_aligned import write_alignment

import xqg_pyserini as xqg
from xqg_pyserini import Aligned, Alignment, AlignSettings, Fused, Fusion, Point, Question, SweepSettings
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.retrieve import sweep_pass
from xqg_pyserini.retrieve.grid import grid
from xqg_pyserini.retrieve.sweep import run_sweep
from xqg_pyserini.retrieve.sweep_pass import Sweep
from xqg_pyserini.stores.moments import Moments, Pair

FUSIONS = [
    Fusion("mean", beta=0.25),
    Fusion("sum", alpha=0.125, normalize=True),
    Fusion("mean", beta=0.2, normalize=True, center=True),
    Fusion("mean", beta=0.0, normalize=True, center=True),  # the passages alone, centred
    Fusion("mean", beta=0.25, shrink_queries=1.5),
]
UNEQUAL = Tolerances(allow_unequal=True, allow_uneven=True)
MADE = Aligned()


@pytest.fixture
def alignment(tmp_path):
    """One with a matrix by hand, and with moments of ar and ru that make others."""
    write_alignment(tmp_path / "A")
    random = np.random.default_rng(8)
    moments = Moments(["ar", "ru"], D)
    for i, row in enumerate(E):
        for language, n in (("ar", 1), ("ru", 2)):
            moments.add([Pair(IDS[i], language, row, (row + random.normal(size=(n, D))).astype(np.float32))])
    file = tmp_path / "A" / "alignment.json"
    said = json.loads(file.read_text("utf-8")) | {"moments": moments.save(tmp_path / "A" / "moments")}
    file.write_text(json.dumps(said), "utf-8")
    return Alignment(tmp_path / "A")


def swept(folder, points, alignment, hits=10, questions=QUESTIONS, vectors=VECTORS):
    return quietly(Sweep(folder / "P", folder / "Q", points, questions, UNEQUAL, alignment).search, vectors, hits)


def same(ours, theirs):
    assert json.dumps(ours) == json.dumps(theirs)  # to the last bit, and the order of the hits counts


def test_points_are_named_by_how_the_question_is_put_right():
    settings = SweepSettings(beta=(0.2,), center=(True,), languages=("own",), align="A", ridge=(5, math.inf))
    points = grid(settings.fusions(True), settings.languages, [None], (), settings.turns())
    own = "mean-b0.2-own-norm-cent"
    assert [point.name for point in points] == [
        "align-r5", "align-rinf", own, f"{own}-align-r5", f"{own}-align-rinf"
    ]  # fmt: skip
    assert SweepSettings(align="A").turns() == [None, MADE]
    assert SweepSettings(align="A", shrink=(0, 300)).turns() == [None, Aligned(None, 0), Aligned(None, 300)]
    both = SweepSettings(align="A", ridge=(0.5, math.inf), shrink=(100, 300)).turns()
    assert both == [None, Aligned(0.5, 100), Aligned(0.5, 300), Aligned(math.inf)]
    assert Point(FUSIONS[4], align=both[2]).name == "mean-b0.25-all-k1.5-align-r0.5-k300"
    assert Point(align=Aligned(5.0, 100.0)).settings() == (
        "align-r5-k100", "none", None, None, None, None, None, None, "align-r5-k100"
    )  # fmt: skip
    assert Point(FUSIONS[4], align=MADE).settings()[-2:] == (1.5, "align")


@pytest.mark.parametrize("hits", [3, 10, 99])
def test_the_runs_are_those_of_a_search_with_the_alignment_to_the_last_bit(
    passages, queries, alignment, tmp_path, hits
):
    points = grid(FUSIONS, ["all", "own", "te+ru"], [None], (), [None, MADE])
    runs = swept(tmp_path, points, alignment, hits)
    plain = xqg.write_index(passages, tmp_path / "plain")
    same(runs["baseline"], quietly(plain.search, QUESTIONS, hits, vectors=VECTORS))
    same(runs["align"], quietly(plain.search, QUESTIONS, hits, vectors=VECTORS, align=alignment))
    for point in points[1:]:
        fused = quietly(Fused, passages, queries, point.fusion, UNEQUAL, own=point.scope == "own")
        align = alignment if point.align else None
        same(runs[point.name], quietly(fused.search, QUESTIONS, hits, vectors=VECTORS, align=align))
    index = quietly(Fused(passages, queries, FUSIONS[2], UNEQUAL, own=True).write_index, tmp_path / "own")
    theirs = quietly(index.search, QUESTIONS, hits, vectors=VECTORS, align=alignment)
    same(runs["mean-b0.2-own-norm-cent-align"], theirs)


def test_another_ridge_and_shrinkage_are_those_of_an_alignment_made_with_them(passages, queries, alignment, tmp_path):
    turns = SweepSettings(align="A", ridge=(0.5, 20, math.inf), shrink=(0, 40)).turns()
    runs = swept(tmp_path, grid(FUSIONS[:3], ["own"], [None], (), [*turns, Aligned(2.0)]), alignment)
    plain = xqg.write_index(passages, tmp_path / "plain")
    fused = {fusion: quietly(Fused, passages, queries, fusion, UNEQUAL, own=True) for fusion in FUSIONS[:3]}
    for i, turn in enumerate([*turns[1:], Aligned(2.0)]):
        centred = turn.ridge == math.inf
        how = {"center_only": True} if centred else {"ridge": turn.ridge, "shrink": turn.shrink}
        how = {name: value for name, value in how.items() if value is not None}  # the shrinkage was 300
        made = xqg.align([alignment], None, tmp_path / f"B{i}", AlignSettings(**how))
        same(runs[turn.name], quietly(plain.search, QUESTIONS, 10, vectors=VECTORS, align=made))
        for fusion, stores in fused.items():
            theirs = quietly(stores.search, QUESTIONS, 10, vectors=VECTORS, align=made)
            same(runs[Point(fusion, "own", None, turn).name], theirs)
    assert len({json.dumps(runs[turn.name]) for turn in turns[1:]}) == 5


@pytest.mark.parametrize(("rows", "batch"), [(1, 2), (5, 3)])
def test_blocks_and_batches_of_any_size_give_one_result(
    passages, queries, alignment, tmp_path, monkeypatch, rows, batch
):
    points = grid(FUSIONS[1:3], ["all", "own"], [None], (), [None, MADE, Aligned(3.0, 9.0)])
    whole = swept(tmp_path, points, alignment)
    monkeypatch.setattr(sweep_pass, "ROWS", rows)
    monkeypatch.setattr(sweep_pass, "BATCH", batch)
    parts = swept(tmp_path, points, alignment)
    for name in whole:
        same(parts[name], whole[name])


def test_by_hand(tmp_path):
    """The centre (1, 0) is taken from the question and what is left doubled in the first direction, not in the second;
    centring by the store's own queries, which are decoys of 100s, would turn the order round."""
    write_passages(tmp_path / "P", ["p0", "p1"], f32([[1, 0], [0, 1]]))
    write_sums(tmp_path / "Q", ["p0", "p1"], {"ar": f32([[100, 0], [100, 2]])}, {"ar": [1, 1]})
    turned = f32([np.diag([2, 1]), np.diag([50, 50])])
    made = write_alignment(tmp_path / "A", ["ar"], turned, f32([[1, 0], [50, 50]]))
    points = grid([Fusion("mean", beta=0.5, center=True)], ["all"], [None], (), [None, MADE])
    runs = swept(tmp_path, points, made, 2, [Question("q", "?", "ar", ())], f32([[2, 3]]))
    assert runs["baseline"]["q"] == {"p1": 3, "p0": 2}
    assert runs["align"]["q"] == {"p1": 3, "p0": 2 * (2 - 1)}
    # passages less (½, ½), queries less (100, 1): p0' = ½(½, -½) + ½(0, -1) and p1' = -p0'
    assert runs["mean-b0.5-all-cent"]["q"] == {"p0": 0.25 * -98 - 0.75 * 2, "p1": 0.25 * 98 + 0.75 * 2}
    assert list(runs["mean-b0.5-all-cent-align"]["q"].items()) == [("p1", -0.25 * 2 + 0.75 * 3), ("p0", -1.75)]


def test_questions_in_a_language_without_pairs_are_counted_once(passages, queries, alignment, tmp_path):
    points = grid(FUSIONS[2:3], ["all"], [None], (), [None, MADE, Aligned(2.0), Aligned(2.0, 5.0)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Sweep(passages, queries, points, QUESTIONS, UNEQUAL, alignment).search(VECTORS, 3)
    said = [str(w.message) for w in caught if "was not learnt for" in str(w.message)]
    assert len(said) == 1 and said[0].startswith("2 questions are in a language that")


@pytest.fixture
def judged(passages, queries):
    """Questions of two languages, two for each of nine passages."""
    questions = [Question(f"q{i}", "?", ("ar", "ru")[i % 2], ()) for i in range(18)]
    vectors = np.random.default_rng(4).normal(size=(18, D)).astype(np.float32)
    return {
        "passages": passages, "queries": queries, "questions": questions, "vectors": vectors,
        "qrels": {f"q{i}": {IDS[i // 2]: 1} for i in range(18)},
    }  # fmt: skip


GRID = {"beta": (0.2,), "center": (True,), "metrics": ("mrr@10",)}


def test_a_sweep_chooses_with_all_questions_of_a_passage_in_one_fold(judged, alignment):
    settings = SweepSettings(**GRID, align=alignment, ridge=(1, 5), shrink=(10, 300), cross_validate=3)
    results = quietly(run_sweep, **judged, settings=settings)
    turns = [f"align-r{r}-k{k}" for r in (1, 5) for k in (10, 300)]
    fused = "mean-b0.2-all-cent"
    assert list(results.points) == ["baseline", *turns, fused, *(f"{fused}-{turn}" for turn in turns)]
    assert results.points[turns[0]].align == results.points[f"{fused}-{turns[0]}"].align == turns[0]
    assert len(results.cross_validation["chosen"]) == 3
    assert "folds: 9 groups of questions that share a relevant passage, the largest of 2" in results.scores.notes
    as_path = quietly(run_sweep, **judged, settings=SweepSettings(**GRID, align=alignment.path))
    assert list(as_path.points) == ["baseline", "align", fused, f"{fused}-align"]


def test_what_does_not_fit_is_refused_before_anything_is_encoded(judged, alignment, tmp_path):
    judged["vectors"] = object()  # would be refused if it were looked at

    def refused(**changes):
        return refusal(quietly, run_sweep, **judged, settings=SweepSettings(**GRID, **changes))

    assert refused(ridge=(5,)) == ("ridge says how an alignment is made again: give align", ("ridge", "align"))
    assert refused(shrink=(5,)) == ("shrink says how an alignment is made again: give align", ("shrink", "align"))
    path = str(alignment.path)
    assert refused(align=path, ridge=(0,))[0] == ("ridge is 0; expected a number above 0, or inf for centring alone")
    assert refused(align=path, ridge=(math.nan,))[0].startswith("ridge is nan")
    assert refused(align=path, shrink=(math.inf,))[0] == "shrink is inf; expected a number from 0"
    assert refused(align=path, ridge=(2, 2))[0] == "the grid holds the point align-r2 twice; give each value once"
    other = write_alignment(tmp_path / "other", encoder={**describe(), "fingerprint": "w2"})
    assert "was made with another encoder than" in refused(align=other)[0]
    alone = write_alignment(tmp_path / "alone", matrices=None)
    assert refused(align=alone, shrink=(2,)) == (
        f"align-k2: {alone.path} is centring alone, which takes no shrinkage: give a ridge too", ("shrink", "ridge")
    )  # fmt: skip
    judged["questions"] = [q._replace(language=None) for q in judged["questions"]]
    assert "'q0' has no language, and an alignment goes by the language" in refused(align=path)[0]
    assert "no alignment, or not a whole one" in message(
        quietly, run_sweep, **judged, settings=SweepSettings(**GRID, align="x")
    )


def test_the_command_s_runs_are_those_of_search_with_the_alignment(task, xqg, tmp_path):
    stores = ["--passages", task / "passages", "--queries", task / "queries"]
    asked = ["--questions", task / "questions.jsonl"]
    made = ["align", "--passages", task / "passages", "--queries"]
    xqg(*made, task / "queries.jsonl", "--ridge", "5", "--output", tmp_path / "A")
    printed = xqg(
        "sweep", *stores, *asked, "--corpus", task / "corpus.jsonl", "--metrics", "mrr@10", "--beta", "0.3",
        "--languages", "own", "--center", "--align", tmp_path / "A", "--ridge", "2", "inf", "--shrink", "100",
        "--runs", "--output", tmp_path / "sweep",
    )  # fmt: skip
    assert "mean-b0.3-own-norm-cent-align-r2-k100" in printed
    said = json.loads((tmp_path / "sweep" / "sweep.json").read_text("utf-8"))
    assert said["inputs"]["align"] == str(tmp_path / "A")
    assert said["points"][1]["align"] == "align-r2-k100" and said["points"][3]["align"] is None
    xqg("align", "--queries", tmp_path / "A", "--ridge", "2", "--shrink", "100", "--output", tmp_path / "B")
    xqg("align", "--queries", tmp_path / "A", "--center-only", "--output", tmp_path / "C")
    xqg("index", "--passages", task / "passages", "--output", tmp_path / "plain")
    own = [*stores, "--language-aware", "--beta", "0.3", "--center"]
    for searched, align, point in (
        (own, "B", "mean-b0.3-own-norm-cent-align-r2-k100"),
        (["--index", tmp_path / "plain"], "C", "align-rinf"),
    ):
        topics = ["--topics", task / "questions.jsonl", "--align", tmp_path / align]
        xqg("search", *searched, *topics, "--output", tmp_path / f"{align}.trec")
        assert untagged(tmp_path / "sweep" / "runs" / f"{point}.trec") == untagged(tmp_path / f"{align}.trec")


def untagged(run):
    return [line.split()[:5] for line in run.read_text("utf-8").splitlines()]
