"""A sweep from stores to figures: what it returns and writes, and what it refuses."""

import csv
import json
import warnings

import numpy as np
import pytest
from conftest import message, write_jsonl
from made_search import (
    IDS,
    D,
    passages,  # noqa: F401 - a fixture
    queries,  # noqa: F401 - a fixture
)
from made_stores import engine, quietly  # noqa: F401 - a fixture
from made_sweeps import assert_same_lists

from xqg_pyserini.data import Question, read_run
from xqg_pyserini.evaluation.scores import evaluate
from xqg_pyserini.files import file_sha256
from xqg_pyserini.report import page
from xqg_pyserini.report.results import COLUMNS, record_inputs, results_json, write_results
from xqg_pyserini.retrieve.sweep import SweepSettings, run_sweep
from xqg_pyserini.stores import QueryStore, VectorStore

HELD = ("ar", "ru", "te")
GRID = {  # four fusions, two sets of languages
    "fusion": ("mean", "sum"), "alpha": (0.125,), "beta": (0.25,), "normalize": (False, True),
    "languages": ("all", "own"), "allow_unequal": True, "allow_uneven": True, "metrics": ("mrr@10", "hit_rate@5"),
}  # fmt: skip


@pytest.fixture
def judged(tmp_path, passages, queries):
    """Questions of three languages, each with one relevant passage: what `run_sweep` takes."""
    questions = [Question(f"q{i}", "?", HELD[i % 3], ()) for i in range(18)]
    qrels = {f"q{i}": {IDS[i // 2]: 1} for i in range(18)}
    vectors = np.random.default_rng(4).normal(size=(18, D)).astype(np.float32)
    return {
        "passages": passages, "queries": queries, "questions": questions, "qrels": qrels,
        "vectors": vectors,
    }  # fmt: skip


def swept(judged, **changes):
    return quietly(run_sweep, **judged, settings=SweepSettings(**{**GRID, **changes}))


def test_stores_may_be_given_open(judged):
    stores = {"passages": VectorStore(judged["passages"]), "queries": QueryStore(judged["queries"])}
    assert results_json(swept({**judged, **stores})) == results_json(swept(judged))


def written(results, folder, inputs=None, **options):
    """The results, and the text of what they are written as."""
    results.inputs = inputs
    write_results(results, folder, **options)
    return (folder / "table.md").read_text("utf-8")


def test_the_figures_are_those_of_evaluate_on_the_runs(tmp_path, judged):
    results = swept(judged, power=True)
    written(results, tmp_path / "out", keep_runs=True)
    with open(tmp_path / "out" / "sweep.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 9 * 2 * 4
    paths = [tmp_path / "out" / "runs" / f"{name}.trec" for name in results.points]
    expected = evaluate(paths, judged["questions"], GRID["metrics"], qrels=judged["qrels"])
    tests = {(t.b, t.metric): t for t in expected.compare(correction="none") if t.a == "baseline"}
    for row in rows:
        scores = expected[row["point"]][row["metric"]]
        base = expected["baseline"][row["metric"]]
        if row["language"] != "macro":
            score = scores.by_language[row["language"]].score
            gain = score - base.by_language[row["language"]].score
            assert float(row["score"]) == pytest.approx(score)
            assert float(row["difference"]) == pytest.approx(gain)
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
        tested = [r for r in rows if r["metric"] == metric and r["p"]]
        smallest = min(tested, key=lambda r: float(r["p"]))
        assert float(smallest["p_corrected"]) == pytest.approx(min(1, 8 * float(smallest["p"])))


def test_sweep_json_has_exactly_the_promised_form(tmp_path, judged):
    inputs = {"passages": "P", "queries": "Q", "questions": "T", "corpus": None, "qrels": "R"}
    read = {"language": None, "with_title": False, "hits": 100, "allow_unequal": True}
    inputs |= {**read, "skip_unknown": False}
    results = swept(judged, cross_validate=3, group_by="relevant", power=2.0)
    written(results, tmp_path / "out", record_inputs(tmp_path / "out", **inputs))
    recorded = json.loads((tmp_path / "out" / "sweep.json").read_text("utf-8"))
    assert recorded == json.loads(json.dumps(results_json(results)))
    assert set(recorded) == {
        "format", "kind", "metrics", "baseline", "points", "questions", "test", "correction",
        "level", "relevance", "notes", "inputs", "cross_validation", "power",
    }  # fmt: skip
    assert (recorded["format"], recorded["kind"], recorded["questions"]) == (1, "sweep", 18)
    assert recorded["inputs"] == {**inputs, "sha256": {}}
    assert recorded["points"][0] == {
        "point": "baseline", "form": "none", "weight": None, "languages": None,
        "num_queries": None, "normalize": None, "center": None, "shrink_queries": None, "align": None,
    }  # fmt: skip
    assert recorded["points"][2] == {
        "point": "mean-b0.25-own", "form": "mean", "weight": 0.25, "languages": "own",
        "num_queries": "all", "normalize": False, "center": False, "shrink_queries": 0.0, "align": None,
    }  # fmt: skip
    crossed = recorded["cross_validation"]
    assert (crossed["folds"], crossed["per_language"], crossed["select_by"]) == (3, False, "mrr@10")
    assert [choice["fold"] for choice in crossed["chosen"]] == [1, 2, 3]
    assert [set(entry) for entry in crossed["held_out"]] == [
        {"metric", "score", "difference", "ci_low", "ci_high", "p"}
    ] * 2
    assert crossed["tuned"][0]["score"] >= crossed["held_out"][0]["score"]
    assert recorded["notes"][-1] == ("folds: 9 groups of questions that share a relevant passage, the largest of 2")
    assert recorded["power"]["level"] == pytest.approx(0.05 / 8)
    assert len(recorded["power"]["rows"]) == 16


def test_the_text_says_which_figures_were_tuned(tmp_path, judged):
    results = swept(judged)
    text = written(results, tmp_path / "out")
    assert "† TUNED: the best of 9 is chosen by the very questions it is shown for" in text
    assert "--cross-validate 5 gives the figure" in text and "HELD OUT" not in text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "sweep.csv", "sweep.json", "table.md"
    ]  # fmt: skip
    assert "the folder already holds something" in message(write_results, results, tmp_path / "out")
    results = swept(judged, cross_validate=2, group_by="none", per_language_choice=True)
    text = written(results, tmp_path / "out", overwrite=True)
    assert "HELD OUT: a point is chosen for each language by mrr@10 on 1 of 2 folds" in text


FORCED = "sums over unequal numbers of queries were forced (--allow-unequal): passages with more queries are favoured"
UNEVEN = "uncentred mixing where many passages have no query was forced (--allow-uneven): passages that have queries "
UNEVEN += "are favoured"


def test_a_forced_sum_is_noted_wherever_figures_are_read(tmp_path, judged):
    results = swept(judged)
    assert FORCED in results_json(results)["notes"]
    assert f"Note: {FORCED}." in written(results, tmp_path / "out")
    assert UNEVEN in results_json(results)["notes"]
    assert f"Note: {UNEVEN}." in written(results, tmp_path / "again")
    assert FORCED not in swept(judged, fusion=("mean",), alpha=()).scores.notes
    assert UNEVEN not in swept(judged, languages=("all",), num_queries=("all",)).scores.notes
    assert UNEVEN not in swept(judged, center=(True,)).scores.notes


def test_all_topics_count_where_a_sweep_is_asked_for_them(judged):
    judged["qrels"]["q0"] = {IDS[0]: 0}  # nothing is relevant to q0 any more
    for all_topics, count in ((False, 17), (True, 18)):
        results = swept(judged, all_topics=all_topics, metrics=("recip_rank",), select_by="RR", cross_validate=2)
        assert {scores["mrr"].count for scores in results.scores.values()} == {count}
        assert results.scores["baseline"]["mrr"].by_question.get("q0") == (0.0 if all_topics else None)
        assert results.cross_validation["held_out"][0]["metric"] == "mrr"
        assert any("q0" not in note and "mrr: " in note for note in results.scores.notes)


def test_too_many_folds_for_the_groups_are_refused_before_anything_is_encoded(judged):
    judged["vectors"] = object()  # would be refused first if it were looked at
    assert message(swept, judged, cross_validate=10, group_by="relevant") == (
        "cross_validate 10, group_by relevant: 10 folds of 9 groups; expected from 2 to that many"
    )
    # of the questions that the measure can score
    judged["qrels"]["q0"] = dict.fromkeys(judged["qrels"]["q0"], 2)
    assert message(swept, judged, metrics=("P(rel=2)@1",), cross_validate=2, group_by="none") == (
        "cross_validate 2, group_by none: 2 folds of 1 groups; expected from 2 to that many"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cross_validate": 1}, "cross_validate 1: expected from 2 folds"),
        ({"cross_validate": 19}, "cross_validate 19: expected from 2 folds"),
        ({"cross_validate": 10}, "cross_validate 10, group_by relevant"),
        ({"cross_validate": 2, "select_by": "map"}, "select_by 'map': expected one of the metrics mrr@10 hit_rate@5"),
        ({"select_by": "mrr@10"}, "select_by says how a point is chosen: give cross_validate"),
        ({"hits": 0}, "hits is 0"),
        ({"metrics": ("R@2kt",)}, "no question has an answer to look for"),
        ({"test": "mcnemar"}, "mcnemar takes measures of hit"),
        ({"metrics": ("best",)}, "unknown metric 'best'"),
        ({"num_queries": (0,)}, "num_queries 0: expected all, or a number from 1"),
        ({"languages": ("xx",)}, "unknown language code 'xx'"),
        ({"fusion": ("sum",)}, "beta is the weight of the mean, which fusion leaves out"),
    ],
)
def test_what_cannot_be_chosen_or_scored_is_refused(judged, changes, expected):
    judged["vectors"] = object()  # nothing is encoded for it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert message(swept, judged, **changes).startswith(expected)


def test_a_sweep_s_runs_are_values_and_its_scores_can_be_compared_again(judged):
    results = swept(judged)
    assert list(results.runs) == list(results.points) == results.scores.runs
    again = evaluate(dict(results.runs), judged["questions"], ["mrr@10"], qrels=judged["qrels"])
    for name in results.points:
        assert again.macro(name, "mrr@10") == results.scores.macro(name, "mrr@10")
    assert results.compared.baseline == "baseline"
    pairs = results.scores.compare(test="fisher", correction="bh")
    assert len(pairs) == 2 * 9 * 8 / 2
    assert len(results.scores.to_pandas()) == 9 * 2 * 18


# --- the command ----------------------------------------------------------------------------------


def test_the_command_sweeps_and_its_runs_are_those_of_index_and_search(task, xqg, tmp_path):
    records = [json.loads(line) for line in (task / "queries.jsonl").read_text("utf-8").splitlines()]
    for record in records:
        for language, texts in record["generated_queries"].items():
            texts.append(f"{language} {record['docid']}")
    generated = write_jsonl(tmp_path / "queries.jsonl", records)
    queries = ["--queries", generated, "--passages", task / "passages", "--keep-counts", "1"]
    xqg("accumulate", *queries, "--output", tmp_path / "queries")
    stores = ["--passages", task / "passages", "--queries", tmp_path / "queries"]
    printed = xqg(
        "sweep", *stores, "--questions", task / "questions.jsonl", "--corpus",
        task / "corpus.jsonl", "--metrics", "R@0.01kt", "mrr@10", "--beta", "0.3", "0.5", "--num-queries", "1", "all",
        "--languages", "all", "own", "--center", "--no-center", "--runs", "--output",
        tmp_path / "sweep", "--cross-validate", "2", "--power", "1",
    )  # fmt: skip
    assert "† TUNED: the best of 17" in printed and "HELD OUT" in printed and "POWER" in printed
    topics = ["--topics", task / "questions.jsonl"]
    xqg("index", *stores, "--beta", "0.3", "--center", "--output", tmp_path / "index")
    xqg("search", "--index", tmp_path / "index", *topics, "--output", tmp_path / "all.trec")
    xqg(
        "search", *stores, "--language-aware", "--no-center", "--beta", "0.5", "--num-queries", "1", *topics,
        "--output", tmp_path / "own.trec",
    )  # fmt: skip
    for name, ours in (("all", "mean-b0.3-all-norm-cent"), ("own", "mean-b0.5-own-n1-norm")):
        run = read_run(tmp_path / "sweep" / "runs" / f"{ours}.trec")
        assert_same_lists(run, read_run(tmp_path / f"{name}.trec"))


def test_a_report_reads_the_questions_as_the_sweep_did_and_sees_that_they_changed(task, xqg, tmp_path):
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
        (["--fusion", "sum", "--beta", "0.1"], "beta is the weight of the mean, which fusion"),
        (["--beta", "0.3", "0.3"], "the grid holds the point mean-b0.3-all-norm twice"),
        (["--beta", "2"], "beta is 2.0; expected a number from 0 to 1"),
        (["--languages", "fi"], "has no queries in 'fi'; it has ar ru"),
        (["--languages", "xx"], "unknown language code 'xx'"),
        (["--languages", "ar+"], "unknown language code ''"),
        (["--num-queries", "4"], "has no sums of the first 4 queries a language"),
        (["--num-queries", "0"], "num_queries 0: expected all, or a number from 1"),
        (["--select-by", "R@2kt"], "select_by says how a point is chosen: give cross_validate"),
        (["--group-by", "none"], "group_by says how a point is chosen"),
        (["--power", "0"], "argument --power: 0: expected a number from 0.001 to 100"),
        (["--power", "inf"], "argument --power: inf: expected a number from 0.001 to 100"),
        (["--power", "101"], "argument --power: 101: expected a number from 0.001 to 100"),
        (["--power", "1e-7"], "argument --power: 1e-7: expected a number from 0.001 to 100"),
        (["--seed", "-1"], "seed is -1; expected 0 or more"),
        (["--metrics", "map"], "relevance derived from the answers needs the passages"),
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
