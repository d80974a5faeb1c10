"""R@kt through the command: equal to the official script on every question of xor-golden."""

import json

import pytest
from conftest import run_xqg

pytestmark = pytest.mark.parity

BUDGETS = {"R@0.2kt": "200", "R@0.5kt": "500", "R@1kt": "1000", "R@2kt": "2000", "R@5kt": "5000"}


def evaluate(shared, output, run, *more):
    golden = shared / "data" / "xor-golden"
    done = run_xqg(
        "evaluate", "--questions", golden / "questions.jsonl",
        "--corpus", golden / "passages.jsonl", "--runs", run,
        "--metrics", *BUDGETS, "--output", output, *more,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    scores = json.loads((output / "scores.json").read_text("utf-8"))
    assert scores["tests"] == []
    assert list(scores["runs"][run.stem]) == list(BUDGETS)
    return scores["runs"][run.stem], done.stdout


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


@pytest.fixture
def expected(shared):
    return json.loads((shared / "data" / "xor-golden" / "expected.json").read_text("utf-8"))


@pytest.mark.parametrize("more", [(), ("--official",)])
def test_a_full_run_scores_as_the_official_script_scores_it(shared, expected, tmp_path, more):
    run = shared / "data" / "xor-golden" / "run.trec"
    scores, printed = evaluate(shared, tmp_path / "out", run, *more)
    check(scores, expected)
    assert sum(len(ours["questions"]) for ours in scores.values()) == 5 * 1133
    assert "67 of 1200 questions have no answer to look for and are not counted" in printed
    figures = [f"{expected[budget]['macro']:.2f}" for budget in BUDGETS.values()]
    assert ["a", "run", *figures] in [line.split() for line in printed.splitlines()]


def test_questions_cut_from_the_run_are_misses_and_official_drops_them(shared, expected, tmp_path):
    lines = (shared / "data" / "xor-golden" / "run.trec").read_text("utf-8").splitlines()
    ids = sorted({line.split()[0] for line in lines})
    # every tenth question of ar, ru and de; all of el keep theirs, so that the macro mean moves
    cut = {q for q in ids[::10] if not q.startswith("el-")}
    assert any(expected["2000"]["hits"].get(q) for q in cut)
    run = tmp_path / "cut.trec"
    kept = [line for line in lines if line.split()[0] not in cut]
    run.write_text("\n".join(reversed(kept)) + "\n", "utf-8")  # and in another order
    scores, printed = evaluate(shared, tmp_path / "default", run)
    check(scores, expected, missed=cut)
    assert f"Note: run cut lacks {len(cut)} of 1200 questions, counted as misses." in printed
    scores, printed = evaluate(shared, tmp_path / "official", run, "--official")
    check(scores, expected, dropped=cut)
    assert f"Note: run cut lacks {len(cut)} of 1200 questions, left out." in printed
