"""The folder of an evaluation, file by file, and what the command prints."""

import csv
import json
import math
import re
import shutil
import subprocess

import pytest
from conftest import run_xqg
from made_results import (
    bits,  # noqa: F401 - a fixture
    evaluate,
    small,  # noqa: F401 - a fixture
)

from xqg_pyserini.evaluation.tables import macro_table


def no_constant(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture(scope="module")
def written(small, tmp_path_factory):
    """What the command writes and prints for both runs."""
    output = tmp_path_factory.mktemp("evaluated") / "report"
    done = run_xqg(
        "evaluate", "--questions", small / "questions.jsonl", "--corpus", small / "corpus.jsonl",
        "--runs", small / "one.trec", small / "two.trec",
        "--metrics", "R@0.005kt", "R@2kt", "ndcg@10",
        "--output", output, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return output, done


def test_scores_json_has_exactly_the_promised_form(written):
    text = (written[0] / "scores.json").read_text("utf-8")
    scores = json.loads(text, parse_constant=no_constant)
    assert set(scores) == {"runs", "tests"}
    assert list(scores["runs"]) == ["one", "two"]
    for by_metric in scores["runs"].values():
        assert list(by_metric) == ["R@0.005kt", "R@2kt", "ndcg@10"]
        for metric, entry in by_metric.items():
            assert set(entry) == {"macro", "languages", "questions"}
            assert type(entry["macro"]) is float
            assert 0 <= entry["macro"] <= 100
            assert list(entry["languages"]) == ["ar", "fi"]
            for language, score in entry["languages"].items():
                assert set(score) == {"count", "hit", "score"}
                assert type(score["count"]) is int
                assert type(score["score"]) is float
                if metric == "ndcg@10":
                    assert score["hit"] is None
                else:
                    assert type(score["hit"]) is int
                    assert score["score"] == 100 * score["hit"] / score["count"], language
            kind = float if metric == "ndcg@10" else int
            assert set(entry["questions"]) == {"a1", "a2", "a3", "007", "f1"}
            assert {type(value) for value in entry["questions"].values()} == {kind}
    two = scores["runs"]["two"]
    assert two["R@0.005kt"]["questions"] == {"a1": 1, "a2": 1, "a3": 0, "007": 1, "f1": 0}
    assert two["R@2kt"]["languages"]["ar"] == {"count": 4, "hit": 3, "score": 75.0}
    assert two["R@2kt"]["macro"] == 87.5
    kinds = {
        "a": str, "b": str, "metric": str, "test": str, "p": float, "p_corrected": float,
        "significant": bool, "win": int, "tie": int, "loss": int,
    }  # fmt: skip
    assert [test["metric"] for test in scores["tests"]] == ["R@0.005kt", "R@2kt", "ndcg@10"]
    for test in scores["tests"]:
        assert {key: type(value) for key, value in test.items()} == kinds
        assert (test["a"], test["b"], test["test"]) == ("one", "two", "student")
    assert [test["loss"] for test in scores["tests"]] == [2, 1, 2]


def test_json_output_is_the_file(written):
    output, done = written
    printed = json.loads(done.stdout, parse_constant=no_constant)
    assert printed == json.loads((output / "scores.json").read_text("utf-8"))


def test_json_output_leaves_nothing_unreported(written):
    assert "run one lacks 1 of 7 questions, counted as misses" in written[1].stderr
    assert "2 of 7 questions have no answer to look for" in written[1].stderr


def test_the_five_files_and_nothing_else_are_written(written):
    names = {path.name for path in written[0].iterdir()}
    assert names == {
        "table.md", "table.tex", "per-question.tsv", "scores.json", "evaluation.json"
    }  # fmt: skip


def test_per_question_tsv_has_a_row_a_question_and_a_column_a_run_and_metric(written):
    with open(written[0] / "per-question.tsv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    metrics = ["R@0.005kt", "R@2kt", "ndcg@10"]
    assert header == ["id", "language", *(f"{run} {m}" for run in ("one", "two") for m in metrics)]
    assert [row[:2] for row in rows] == [
        ["a1", "ar"], ["a2", "ar"], ["a3", "ar"], ["007", "ar"], ["f1", "fi"]
    ]  # fmt: skip
    assert [row[2:4] + row[5:7] for row in rows] == [
        ["0", "1", "1", "1"],
        ["1", "1", "1", "1"],
        ["0", "0", "0", "0"],
        ["0", "0", "1", "1"],
        ["0", "1", "0", "1"],
    ]
    assert float(rows[0][4]) == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)), abs=1e-5)


def test_table_md_holds_scores_tests_relevance_and_notes(written):
    text = (written[0] / "table.md").read_text("utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["", "run", "R@0.005kt", "R@2kt", "ndcg@10"] in lines
    assert ["a", "one", "12.50", "75.00"] in [line[:4] for line in lines]
    assert ["b", "two", "37.50", "87.50"] in [line[:4] for line in lines]
    assert ["R@2kt", "a", "one", "50.0", "100.0", "75.00", "5"] in lines  # per language
    assert ["metric", "a", "b", "a - b", "p", "p (holm)", "win/tie/loss", "net"] in lines
    assert ["R@2kt", "one", "two", "-12.50"] in [line[:4] for line in lines]
    for sentence in (
        "Scores are 0-100, averaged over languages without weights.",
        "Relevance: derived from the answers in the corpus (5 of 7 questions have a relevant passage).",
        "Note: run one lacks 1 of 7 questions, counted as misses.",
        "Note: 2 of 7 questions have no answer to look for and are not counted.",
    ):
        assert sentence in text


def balanced(latex):
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", latex):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    return depth == 0


def test_table_tex_is_latex_with_our_metrics_and_figures(written):
    text = (written[0] / "table.tex").read_text("utf-8")
    assert "====" not in text
    assert balanced(re.sub(r"(?m)^%.*$", "", text))
    for begin in re.findall(r"\\begin\{(\w+\*?)\}", text):
        assert f"\\end{{{begin}}}" in text
    for label in ("R@0.005kt", "R@2kt", "NDCG@10"):
        assert f"\\textbf{{{label}}}" in text
    assert re.search(r"(?m)^a &\none &\n12\.50", text)
    assert re.search(r"(?m)^b &\ntwo &\n\\textbf\{37\.50\}.*\n\\textbf\{87\.50\}", text)


LATEX_NAMES = ["a_b", "50%", "r&d", "c#1"]


@pytest.fixture(scope="module")
def named(bits, tmp_path_factory):
    """Runs whose names hold what LaTeX reads as commands."""
    folder = tmp_path_factory.mktemp("named")
    for name in ("corpus.jsonl", "questions.jsonl"):
        shutil.copy(bits / name, folder)
    for name, run in zip(LATEX_NAMES, ["a", "b", "c", "a"], strict=True):
        shutil.copy(bits / f"{run}.trec", folder / f"{name}.trec")
    compared = evaluate(folder, LATEX_NAMES, ["R@2kt", "hit_rate@1"], test="mcnemar")
    return macro_table(compared.scores, compared).latex()


@pytest.mark.parametrize("name", LATEX_NAMES)
def test_run_names_are_escaped_in_latex(named, name):
    escaped = re.sub("([_%&#])", r"\\\1", name)
    assert f"\n{escaped} &" in named


def test_latex_marks_are_the_tests(named):
    # run a beats b (50%) alone; the last run equals a
    cells = re.search(r"(?m)^a &\n.*&\n(.*)&\n(.*)\\\\$", named).groups()
    for cell in cells:
        assert re.match(r"(\\textbf\{58\.33\}|58\.33)\$\^\{b\}\$", cell), cells
    b = re.search(r"(?m)^b &\n.*&\n(.*)&\n(.*)\\\\$", named).groups()
    assert all(re.match(r"41\.67\\hphantom", cell) for cell in b), b


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_table_tex_compiles(written, named, tmp_path):
    for name, table in [("one", (written[0] / "table.tex").read_text("utf-8")), ("two", named)]:
        document = "\\documentclass{article}\\usepackage{booktabs}\\usepackage{graphicx}"
        document += f"\\begin{{document}}\n{table}\n\\end{{document}}\n"
        (tmp_path / f"{name}.tex").write_text(document, "utf-8")
        done = subprocess.run(
            ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", f"{name}.tex"],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]


def test_the_command_prints_tables_and_keeps_an_old_report(small, tmp_path):
    output = tmp_path / "report"
    output.mkdir()
    (output / "mine.txt").write_text("kept")
    base = [
        "evaluate", "--questions", small / "questions.jsonl", "--corpus", small / "corpus.jsonl",
        "--runs", small / "one.trec", "--metrics", "R@2kt", "--per-language",
    ]  # fmt: skip
    done = run_xqg(*base, "--output", output)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"xqg evaluate: error: {output}: the folder already holds something; give another name"
    )
    assert [path.name for path in output.iterdir()] == ["mine.txt"]
    done = run_xqg(*base)
    assert (done.returncode, done.stderr) == (0, "")
    assert ["a", "one", "75.00"] in [line.split() for line in done.stdout.splitlines()]
    assert ["R@2kt", "a", "one", "50.0", "100.0", "75.00", "5"] in [line.split() for line in done.stdout.splitlines()]
    assert "win/tie/loss" not in done.stdout  # one run has no rival
