"""Results for MTEB: its keys, its values, a subset a language; and what it itself makes of the file."""

import json

import pytest
from conftest import message, put, refusal, write_jsonl

from xqg_pyserini import mteb_results
from xqg_pyserini.cli.main import main
from xqg_pyserini.data import Question
from xqg_pyserini.evaluation.mteb import CUTS, MEASURES, MtebSettings, revision_of

QUESTIONS = [Question("a", "?", "ar"), Question("b", "?", "ar"), Question("c", "?", "zh"), Question("d", "?", "zh")]
QRELS = {"a": {"p1": 1}, "b": {"p2": 2, "p3": 1, "p4": 0}, "c": {"p1": 1}, "d": {"p9": 0}}  # d: nothing is relevant
RUN = {"a": {"x": 3.0, "p1": 2.0}, "b": {"p2": 3.0, "y": 2.0, "p4": 1.0}, "c": {"p1": 1.0}, "d": {"p9": 1.0}}
ARABIC = {  # by hand: means of a (p1 at rank 2) and b (p2 at rank 1, p3 not found)
    "ndcg_at_1": 0.5,
    "ndcg_at_10": 0.69556,  # (1/log2 3 + 2/(2 + 1/log2 3)) / 2
    "map_at_1": 0.25,
    "map_at_100": 0.5,
    "recall_at_1": 0.25,
    "recall_at_3": 0.75,
    "precision_at_3": 0.33333,
    "precision_at_1000": 0.001,
    "mrr_at_1": 0.5,
    "mrr_at_10": 0.75,
    "hit_rate_at_1": 0.5,
    "hit_rate_at_3": 1.0,
    "main_score": 0.69556,
}


def test_each_language_is_a_subset_with_the_measures_of_mteb():
    results = mteb_results(RUN, QUESTIONS, "MIRACLRetrieval", qrels=QRELS, split="dev", revision="abc")
    about = {key: value for key, value in results.items() if key != "scores"}
    assert about == {
        "dataset_revision": "abc",
        "task_name": "MIRACLRetrieval",
        "mteb_version": None,
        "evaluation_time": None,
        "kg_co2_emissions": None,
    }
    assert list(results["scores"]) == ["dev"]
    arabic, chinese = results["scores"]["dev"]
    assert (arabic["hf_subset"], arabic["languages"]) == ("ar", ["ara-Arab"])
    assert (chinese["hf_subset"], chinese["languages"]) == ("zh", ["zho-Hans"])
    assert {key: arabic[key] for key in ARABIC} == ARABIC
    assert chinese["main_score"] == 0.5  # what has nothing relevant counts as 0
    names = [f"{measure}_at_{cut}" for measure in MEASURES for cut in CUTS]
    assert list(arabic) == [*names, "main_score", "hf_subset", "languages"]


def test_questions_without_a_language_are_the_default_subset():
    (subset,) = mteb_results({"q": {"p": 1.0}}, {"q": "?"}, "T", qrels={"q": {"p": 1}})["scores"]["test"]
    assert (subset["hf_subset"], subset["languages"], subset["main_score"]) == ("default", [], 1.0)


def write_task(folder) -> list[str]:
    records = [{"id": question.id, "question": question.text, "lang": question.language} for question in QUESTIONS]
    write_jsonl(folder / "q.jsonl", records)
    put(folder / "qrels", "".join(f"{q} 0 {d} {r}\n" for q, judged in QRELS.items() for d, r in judged.items()))
    lines = (f"{q} Q0 {d} {i} {s} t\n" for q, hits in RUN.items() for i, (d, s) in enumerate(hits.items(), 1))
    put(folder / "run.trec", "".join(lines))
    return ["evaluate", "--questions", "q.jsonl", "--qrels", "qrels", "--runs", "run.trec", "--metrics", "mrr@10"]


def test_evaluate_writes_the_file(tmp_path, monkeypatch, capsys):
    import hashlib

    monkeypatch.chdir(tmp_path)
    words = write_task(tmp_path)
    assert main([*words, "--mteb", "to/MIRACLRetrieval.json", "--mteb-split", "dev"]) == 0
    written = json.loads((tmp_path / "to" / "MIRACLRetrieval.json").read_text())
    revision = hashlib.sha256((tmp_path / "q.jsonl").read_bytes()).hexdigest()
    assert written == mteb_results(RUN, QUESTIONS, "MIRACLRetrieval", qrels=QRELS, split="dev", revision=revision)
    capsys.readouterr()
    for more, error in {
        ("--mteb", "q.jsonl"): "q.jsonl: expected a name such as MIRACLRetrieval.json, after MTEB's task (--mteb)",
        ("--mteb-split", "dev"): "a split is named in MTEB's results: give their file too (--mteb-split, --mteb)",
        ("--mteb", "a.json", "--runs", "q"): "MTEB's results are of one run: give one (--runs, --mteb)",
    }.items():
        assert main([*words, *more]) == 2
        assert capsys.readouterr().err == f"xqg evaluate: error: {error}\n"


def test_values_are_those_of_trec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    import random

    dice = random.Random(7)
    docids = [f"d{i}" for i in range(40)]
    qrels = {f"q{i}": {d: dice.choice([0, 1, 2]) for d in dice.sample(docids, 6)} for i in range(12)}
    run = {qid: {d: 1.0 / (i + 1) for i, d in enumerate(dice.sample(docids, 30))} for qid in qrels}
    names = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}
    cuts = ",".join(map(str, CUTS))
    judged = pytrec_eval.RelevanceEvaluator(qrels, {f"{name}.{cuts}" for name in names.values()}).evaluate(run)
    questions = [Question(qid, "?", "fi") for qid in qrels]
    (subset,) = mteb_results(run, questions, "T", qrels=qrels)["scores"]["test"]
    for ours, theirs in names.items():
        for cut in CUTS:
            mean = sum(values[f"{theirs}_{cut}"] for values in judged.values()) / len(judged)
            assert subset[f"{ours}_at_{cut}"] == pytest.approx(mean, abs=5.1e-6), (ours, cut)


def test_mteb_reads_it_back(tmp_path):
    mteb = pytest.importorskip("mteb")
    path = tmp_path / "BelebeleRetrieval.json"
    path.write_text(json.dumps(mteb_results(RUN, QUESTIONS, path.stem, qrels=QRELS)))
    result = mteb.TaskResult.from_disk(path)
    assert result.task_name == "BelebeleRetrieval"
    assert result.get_score(languages=["ara"]) == ARABIC["main_score"]


def test_a_revision_is_a_commit_or_checksums():
    assert revision_of([{"name": "hf:a", "revision": "c0ffee", "files": 2}] * 2) == "c0ffee"
    assert revision_of([{"sha256": "1"}, {"sha256": "2"}]) == "1 2"
    assert revision_of([{"name": "irds:a", "ir_datasets": "0.6.3", "count": 1}]) == "0.6.3"


def test_settings_are_checked_together():
    assert refusal(MtebSettings, mteb_split="dev")[1] == ("mteb_split", "mteb")
    assert message(MtebSettings, mteb="a.txt").startswith("a.txt: expected a name such as")
