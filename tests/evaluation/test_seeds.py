"""Systems of several seeds: pooled, with what seeds add to intervals and tests, by hand and by simulation."""

import json
import math

import numpy as np
import pytest
from conftest import message, refusal, write_jsonl
from scipy import stats

from xqg_pyserini import Question, evaluate, write_run
from xqg_pyserini.evaluation.results import ComparingSettings
from xqg_pyserini.evaluation.significance import macro_interval, macro_mean, mean_interval, student

# means of the runs 4 and 7, of the questions 4, 6 and 6.5, of all 5.5; mean squares of runs 13.5, of questions 3.5, of
# the rest 1.5: Var = (13.5 + 3.5 - 1.5) / 6
RUNS = [[2.0, 4.0, 6.0], [6.0, 8.0, 7.0]]
MEANS = [4.0, 6.0, 6.5]


def test_by_hand():
    of = macro_mean(MEANS, "xxx", [RUNS])
    questions, whole, rest = 1.75 / 3, 9 / 4, 1.5 / 6
    assert of.mean == 5.5 and of.error**2 == pytest.approx(15.5 / 6, rel=1e-12)
    assert of.freedom == pytest.approx((15.5 / 6) ** 2 / (questions**2 / 2 + whole**2 / 1 + rest**2 / 2), rel=1e-12)
    half = stats.t.ppf(0.975, of.freedom) * of.error
    assert mean_interval(MEANS, seeds=[RUNS]) == pytest.approx((5.5, 5.5 - half, 5.5 + half))
    p = 2 * stats.t.sf(5.5 / of.error, of.freedom)
    assert student(MEANS, [0.0] * 3, [RUNS]) == pytest.approx(p, rel=1e-9)


def test_two_languages_by_hand():
    """A run's effect is common to its languages: it is the runs' averages that vary."""
    runs = np.array([RUNS[0] + [1.0, 3.0], RUNS[1] + [3.0, 3.0]])
    sums = [4 + 2, 7 + 3]  # of the languages' means
    rest = runs[:, 3:] - runs[:, 3:].mean(0) - runs[:, 3:].mean(1, keepdims=True) + 2.5
    assert (rest**2).sum() == 1.0
    own = np.var(sums, ddof=1) / 2 - 1.5 / 6 - 1.0 / 4
    of = macro_mean(runs.mean(axis=0), "xxxyy", [runs])
    assert of.error**2 == pytest.approx((1.75 / 3 + 0.25 + own) / 4, rel=1e-12)


def test_seeds_that_say_nothing_add_nothing():
    once = macro_mean(MEANS, "xxx")
    assert macro_mean(MEANS, "xxx", [[MEANS, MEANS]]) == once
    up_and_down = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])  # runs differ, their averages do not
    assert macro_mean(MEANS, "xxx", [up_and_down + MEANS]) == once
    assert macro_mean([2.0, 2.0], "xx", [[[2, 2], [2, 2]]]).error == 0
    assert student([1.0, 0.0], [0.0, 1.0], [[[1, 0], [1, 0]]]) == 1.0
    assert student([1.0, 1.0], [0.0, 0.0], [[[1, 1], [1, 1]]]) == 0.0
    for wrong in ([MEANS], [MEANS, [1.0, 2.0, math.nan]], [[1.0, 2.0], [3.0, 4.0]]):
        with pytest.raises(ValueError, match="seeds must be finite"):
            macro_mean(MEANS, "xxx", [wrong])


def drawn(generator, number, effect=0.0):
    """Runs × questions of two languages, 30 and 15: each run, question and both together have an effect."""
    questions = generator.normal(0, 0.3, 45)
    sides = []
    for gain in (effect, 0.0):
        runs = generator.normal(0, 0.08, (number, 1)) + generator.normal(0, 0.3, (number, 45))
        sides.append(gain + questions + runs)
    return sides


LANGUAGES = ["x"] * 30 + ["y"] * 15


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of other seeds and other questions; those of the questions alone do not."""
    generator = np.random.default_rng(0)
    held = alone = 0
    for _ in range(1000):
        a, b = drawn(generator, 4, 0.5)
        gains = a.mean(axis=0) - b.mean(axis=0)
        _, low, high = macro_interval(gains, LANGUAGES, seeds=[a, b])
        held += low <= 0.5 <= high
        _, low, high = macro_interval(gains, LANGUAGES)
        alone += low <= 0.5 <= high
    assert 0.93 <= held / 1000 <= 0.985
    assert alone / 1000 < 0.85


def test_a_test_over_seeds_finds_nothing_where_nothing_is_and_is_symmetric():
    generator = np.random.default_rng(1)
    found = alone = 0
    for _ in range(1000):
        a, b = drawn(generator, 3)
        means = a.mean(axis=0), b.mean(axis=0)
        p = student(*means, [a, b])
        assert p == student(*reversed(means), [b, a])
        found, alone = found + (p <= 0.05), alone + (student(*means) <= 0.05)
    assert 0.015 <= found / 1000 <= 0.075
    assert alone / 1000 > 0.12


# ---------------------------------------------------------------- scores and files

ASKED = [Question(f"q{i}", "?", "fi" if i < 3 else "ko", ()) for i in range(5)]
QRELS = {question.id: {"right": 1} for question in ASKED}


def ranked(*ranks):
    """A run that finds the right passage at these ranks."""
    runs = {}
    for question, rank in zip(ASKED, ranks, strict=True):
        docids = [f"d{i}" for i in range(1, rank)] + ["right"]
        runs[question.id] = {docid: -float(i) for i, docid in enumerate(docids)}
    return runs


GIVEN = {
    "base": ranked(2, 2, 1, 4, 2),
    "s1": ranked(1, 2, 1, 1, 2),
    "s2": ranked(1, 1, 2, 2, 2),
    "other": ranked(2, 1, 1, 2, 4),
}


def test_runs_of_a_system_are_pooled():
    scores = evaluate(GIVEN, ASKED, ["mrr@10", "hit_rate@1"], qrels=QRELS)
    pooled = scores.pooled({"system": ["s1", "s2"]})
    assert pooled.runs == ["base", "system", "other"] and scores.runs == list(GIVEN)
    system = pooled["system"]["mrr@10"]
    assert system.by_question == {"q0": 1.0, "q1": 0.75, "q2": 0.75, "q3": 0.75, "q4": 0.5}
    assert system.macro == pytest.approx(100 * (2.5 / 3 + 0.625) / 2)
    assert system.by_language["fi"].score == pytest.approx(250 / 3) and system.by_language["fi"].hit is None
    assert pooled["base"]["hit_rate@1"].by_language["fi"].hit == 1
    assert pooled.notes == [
        "system is the mean of 2 runs, by mrr@10 79.17, 66.67 (standard deviation 8.84)",
        "system is the mean of 2 runs, by hit_rate@1 58.33, 33.33 (standard deviation 17.68)",
        "base, other: a single run; what another seed would give is in no interval or test",
    ]
    values = [[100 * v for v in run.values()] for run in system.seeds]
    languages = ["fi"] * 3 + ["ko"] * 2
    means = np.mean(values, axis=0)
    assert system.intervals["macro"] == pytest.approx(macro_interval(means, languages, seeds=[values]))
    assert system.intervals["ko"] == pytest.approx(mean_interval(means[3:], seeds=[[v[3:] for v in values]]))
    base = np.array([50, 50, 100, 25, 50])
    gain = pooled.difference("system", "base", "mrr@10")
    assert gain["macro"] == pytest.approx(macro_interval(means - base, languages, seeds=[values]))
    back = pooled.difference("base", "system", "mrr@10")
    assert back["macro"] == pytest.approx((-gain["macro"].mean, -gain["macro"].high, -gain["macro"].low))
    test = pooled.compare(correction="none").of("base", "system", "mrr@10")
    assert test.p == pytest.approx(student(means, base, [values]), rel=1e-9)
    assert (test.win, test.tie, test.loss) == (1, 1, 3)


def test_pools_that_cannot_be():
    scores = evaluate(GIVEN, ASKED, ["mrr@10"], qrels=QRELS)
    assert "run s9 is given twice, or is none of base s1" in message(scores.pooled, {"a": ["s1", "s9"]})
    assert "run s1 is given twice" in message(scores.pooled, {"a": ["s1", "s2"], "b": ["s1", "other"]})
    assert message(scores.pooled, {"base": ["s1", "s2"]}) == "seeds: there is a run base; give the system another name"
    assert message(scores.pooled, {"a": ["s1"]}) == "seeds: a has a single run; give two or more"
    lacking = {"s1": GIVEN["s1"], "s2": {qid: hits for qid, hits in GIVEN["s2"].items() if qid != "q1"}}
    official = evaluate(lacking, ASKED, ["mrr@10"], qrels=QRELS, official=True)
    assert refusal(official.pooled, {"a": ["s1", "s2"]}) == (
        "the runs of a are scored on different questions; count questions that a run lacks as misses",
        ("seeds", "official"),
    )
    pooled = scores.pooled({"a": ["s1", "s2"]})
    assert refusal(pooled.compare, "fisher") == (
        "fisher takes the questions alone as drawn; with several seeds take student",
        ("test",),
    )
    ComparingSettings("fisher").check(["mrr@10"])


@pytest.fixture
def place(tmp_path):
    for name, run in GIVEN.items():
        write_run(tmp_path / f"{name}.trec", run, "t")
    write_jsonl(tmp_path / "questions.jsonl", [{"id": q.id, "question": "?", "lang": q.language} for q in ASKED])
    (tmp_path / "qrels.txt").write_text("".join(f"{qid} 0 right 1\n" for qid in QRELS))
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": d, "text": d} for d in ("right", "d1", "d2", "d3")])
    return tmp_path


def test_the_command_and_the_report(place, xqg, refused):
    line = [
        "evaluate",
        "--questions",
        "questions.jsonl",
        "--qrels",
        "qrels.txt",
        "--corpus",
        "corpus.jsonl",
        "--metrics",
        "mrr@10",
    ]
    more = ["--runs", "base.trec", "--seeds", "system=s1.trec,s2.trec", "--output", "scores"]
    said = xqg(*line, *more, cwd=place)
    assert next(line for line in said.splitlines() if "system" in line).split() == ["b", "system", "72.92"]
    assert "Note: system is the mean of 2 runs, by mrr@10 79.17, 66.67 (standard deviation 8.84)." in said
    saved = json.loads((place / "scores" / "scores.json").read_text())
    assert list(saved["runs"]) == ["base", "system"]
    assert saved["runs"]["system"]["mrr@10"]["seeds"] == pytest.approx([79.1667, 66.6667], abs=1e-3)
    assert "seeds" not in saved["runs"]["base"]["mrr@10"]
    about = json.loads((place / "scores" / "evaluation.json").read_text())
    assert about["inputs"]["seeds"] == {"system": ["s1.trec", "s2.trec"]}
    assert about["inputs"]["runs"] == ["base.trec", "s1.trec"] and about["inputs"]["names"] == ["base", "system"]
    xqg("report", "scores", cwd=place)
    page = (place / "scores" / "report" / "index.html").read_text("utf-8")
    assert "system is the mean of 2 runs" in page
    assert refused(*line, "--seeds", "a=s1.trec", cwd=place) == (
        "xqg evaluate: error: 'a=s1.trec': expected NAME=RUN,RUN with two runs or more (--seeds)"
    )
    said = refused(*line, "--runs", "base.trec", "--seeds", "base=s1.trec,s2.trec", cwd=place)
    assert said == "xqg evaluate: error: base is given twice; give each run and each system once (--seeds)"
    assert refused(*line, "--seeds", "a=s1.trec,./s1.trec", cwd=place).endswith(": a run comes twice (--seeds)")
    said = refused(*line, "--seeds", "a=s1.trec,s2.trec", "--test", "mcnemar", cwd=place)
    assert said == (
        "xqg evaluate: error: mcnemar takes the questions alone as drawn; with several seeds take student (--test)"
    )
    assert refused(*line, cwd=place) == "xqg evaluate: error: no runs to score (--runs)"
