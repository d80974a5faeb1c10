"""R@kt through the command: equal to the official script on every question of xor-golden."""

import json

import pytest
from conftest import run_xqg

pytestmark = pytest.mark.parity

BUDGETS = {"R@0.2kt": "200", "R@0.5kt": "500", "R@1kt": "1000", "R@2kt": "2000", "R@5kt": "5000"}


@pytest.fixture(scope="module")
def expected(shared):
    return json.loads((shared / "data" / "xor-golden" / "expected.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def cut(shared, expected):
    """Every tenth question of ar, ru and de; all of el keep theirs, so that the macro mean moves."""
    lines = (shared / "data" / "xor-golden" / "run.trec").read_text("utf-8").splitlines()
    ids = sorted({line.split()[0] for line in lines})
    cut = {q for q in ids[::10] if not q.startswith("el-")}
    assert any(expected["2000"]["hits"].get(q) for q in cut)
    return cut


@pytest.fixture(scope="module", params=[(), ("--official",)], ids=["misses", "official"])
def evaluated(request, shared, cut, tmp_path_factory):
    """The golden run, and the same in another order without some questions: flags, scores, and what is printed."""
    golden, folder = shared / "data" / "xor-golden", tmp_path_factory.mktemp("official")
    lines = (golden / "run.trec").read_text("utf-8").splitlines()
    kept = [line for line in lines if line.split()[0] not in cut]
    (folder / "cut.trec").write_text("\n".join(reversed(kept)) + "\n", "utf-8")
    done = run_xqg(
        "evaluate", "--questions", golden / "questions.jsonl", "--corpus", golden / "passages.jsonl",
        "--runs", golden / "run.trec", folder / "cut.trec", "--metrics", *BUDGETS, "--output", folder / "out",
        *request.param,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    scores = json.loads((folder / "out" / "scores.json").read_text("utf-8"))
    assert {test["metric"] for test in scores["tests"]} == set(BUDGETS)
    assert all(list(of_run) == list(BUDGETS) for of_run in scores["runs"].values())
    return request.param, scores["runs"], done.stdout


def check(scores, expected, dropped=frozenset(), missed=frozenset()):
    """Compare with the official outcome, some questions being dropped or missed."""
    for metric, budget in BUDGETS.items():
        official, ours = expected[budget], scores[metric]
        hits = {q: 0 if q in missed else h for q, h in official["hits"].items() if q not in dropped}
        assert ours["questions"] == hits
        languages = {}
        for language in official["per_language"]:
            of_language = [hit for q, hit in hits.items() if q.startswith(f"{language}-")]
            languages[language] = {
                "count": len(of_language),
                "hit": sum(of_language),
                "score": pytest.approx(100 * sum(of_language) / len(of_language), rel=1e-12),
            }
            if not dropped and not missed:
                assert languages[language] == official["per_language"][language]
        assert ours["languages"] == languages
        macro = sum(100 * e["hit"] / e["count"] for e in languages.values()) / len(languages)
        assert ours["macro"] == pytest.approx(macro, rel=1e-12)
        if not dropped and not missed:
            assert ours["macro"] == pytest.approx(official["macro"], rel=1e-12)


def test_a_full_run_scores_as_the_official_script_scores_it(evaluated, expected):
    _, runs, printed = evaluated
    check(runs["run"], expected)
    assert sum(len(ours["questions"]) for ours in runs["run"].values()) == 5 * 1133
    assert "67 of 1200 questions have no answer to look for and are not counted" in printed
    figures = [f"{expected[budget]['macro']:.2f}" for budget in BUDGETS.values()]
    assert ["a", "run", *figures] in [line.replace("ᵇ", "").split() for line in printed.splitlines()]


def test_questions_cut_from_the_run_are_misses_and_official_drops_them(evaluated, expected, cut):
    flags, runs, printed = evaluated
    check(runs["cut"], expected, **{"dropped" if flags else "missed": cut})
    fate = "left out" if flags else "counted as misses"
    assert f"Note: run cut lacks {len(cut)} of 1200 questions, {fate}." in printed
