"""An `Evaluation` → tables: for the terminal, Markdown, LaTeX (ranx's) and TSV files.

Beside them stands `evaluation.json`: what the scores were made from and how sure they are, which
is what `page` makes its report of.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from xqg_pyserini.evaluation.scores import MACRO, Evaluation
from xqg_pyserini.evaluation.significance import CONFIDENCE, Interval
from xqg_pyserini.files import file_sha256, find_input, write_json, writing, writing_folder

LETTERS = "abcdefghijklmnopqrstuvwxyz"
RAISED = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ"


def _letter(i: int, letters: str = LETTERS) -> str:
    return letters[i] if i < len(letters) else f"({i + 1})"


def _beaten(evaluation: Evaluation, run: str, metric: str) -> list[int]:
    """Return the places of the runs that a run is significantly better than."""
    ours = evaluation.scores[run][metric]
    places = []
    for test in evaluation.tests:
        if test.metric == metric and test.significant and run in (test.a, test.b):
            other = test.b if run == test.a else test.a
            theirs = evaluation.scores[other][metric]
            both = theirs.values.keys() & ours.values.keys()
            gain = sum(ours.values[q] - theirs.values[q] for q in both)
            # a test over questions can point against the mean over languages: then no mark
            if ours.macro > theirs.macro and gain > 0:
                places.append(evaluation.runs.index(other))
    return sorted(places)


def tabulated(rows: Iterable[list[Any]], headers: list[str], style: str) -> str:
    """Return a table as text, cells as they are: `simple` for a terminal, `github` for Markdown."""
    from tabulate import tabulate

    return tabulate(list(rows), headers, tablefmt=style, disable_numparse=True)


def macro_table(evaluation: Evaluation, style: str = "simple") -> str:
    """Return runs × metrics, macro over languages, with marks for significant differences."""
    rows = []
    for i, run in enumerate(evaluation.runs):
        cells = [_marked(evaluation, run, metric) for metric in evaluation.metrics]
        rows.append([_letter(i), run, *cells])
    return tabulated(rows, ["", "run", *evaluation.metrics], style)


def language_table(evaluation: Evaluation, style: str = "simple") -> str:
    """Return metrics and runs × languages, with the average, its marks and question counts."""
    languages = list(
        dict.fromkeys(
            language
            for by_metric in evaluation.scores.values()
            for scores in by_metric.values()
            for language in scores.by_language()
        )
    )
    rows = []
    for metric in evaluation.metrics:
        for i, run in enumerate(evaluation.runs):
            groups = evaluation.scores[run][metric].by_language()
            cells = [f"{groups[l]['score']:.1f}" if l in groups else "-" for l in languages]
            average = _marked(evaluation, run, metric)
            counted = sum(group["count"] for group in groups.values())
            rows.append([metric if i == 0 else "", _letter(i), run, *cells, average, counted])
    return tabulated(rows, ["metric", "", "run", *languages, "average", "questions"], style)


def _marked(evaluation: Evaluation, run: str, metric: str) -> str:
    marks = "".join(_letter(j, RAISED) for j in _beaten(evaluation, run, metric))
    return f"{evaluation.scores[run][metric].macro:.2f}{marks}"


def test_table(evaluation: Evaluation, style: str = "simple") -> str:
    """Return the tests: difference, p-values, win/tie/loss and net questions of a over b."""
    rows = []
    for test in evaluation.tests:
        a, b = (evaluation.scores[run][test.metric].macro for run in (test.a, test.b))
        rows.append(
            [
                test.metric,
                test.a,
                test.b,
                f"{a - b:+.2f}",
                p_text(test.p),
                p_text(test.p_corrected) + ("*" if test.significant else ""),
                f"{test.win}/{test.tie}/{test.loss}",
                f"{test.win - test.loss:+d}",
            ]
        )
    corrected = f"p ({evaluation.correction})"
    headers = ["metric", "a", "b", "a - b", "p", corrected, "win/tie/loss", "net"]
    return tabulated(rows, headers, style)


def p_text(p: float) -> str:
    """Return a p-value as tables show it."""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.0e}"


def explanation(evaluation: Evaluation) -> str:
    """Return what one must know to read the tables."""
    lines = ["Scores are 0-100, averaged over languages without weights."]
    if evaluation.tests:
        name = {
            "student": "the paired t-test",
            "fisher": "the randomisation test",
            "mcnemar": "McNemar's test",
        }
        lines.append(
            f"Raised letters and * mark differences that are significant by "
            f"{name[evaluation.test]} at {evaluation.level:g}, correction: {evaluation.correction} "
            "over all pairs of runs."
        )
    if evaluation.relevance:
        lines.append(f"Relevance: {evaluation.relevance}.")
    lines += [f"Note: {note}." for note in evaluation.notes]
    return "\n".join(lines)


def tables(evaluation: Evaluation, per_language: bool, style: str = "simple") -> str:
    """Return all tables, for a terminal (`simple`) or Markdown (`github`)."""
    parts = [macro_table(evaluation, style)]
    if per_language:
        parts.append(language_table(evaluation, style))
    if evaluation.tests:
        parts.append(test_table(evaluation, style))
    return "\n\n".join([*parts, explanation(evaluation)])


def latex(evaluation: Evaluation) -> str:
    """Return ranx's LaTeX table of the macro scores."""
    from ranx.data_structures import FrozensetDict, Report
    from ranx.data_structures import report as ranx_report

    ranx_report.metric_labels["R"] = "R"  # R@2kt is its own label
    ranx_report.stat_test_labels["mcnemar"] = "McNemar's exact test"
    names = {run: re.sub(r"([%&#$])", r"\\\1", run) for run in evaluation.runs}
    comparisons: Any = FrozensetDict()
    for a in evaluation.runs:
        for b in evaluation.runs:
            if a != b:
                comparisons[frozenset([names[a], names[b]])] = {
                    _ranx_name(test.metric): {
                        "p_value": test.p_corrected,
                        "significant": test.significant,
                    }
                    for test in evaluation.tests
                    if {test.a, test.b} == {a, b}
                }
    report = Report(
        model_names=list(names.values()),
        results={
            names[run]: {_ranx_name(m): s.macro / 100 for m, s in by_metric.items()}
            for run, by_metric in evaluation.scores.items()
        },
        comparisons=comparisons,
        metrics=[_ranx_name(metric) for metric in evaluation.metrics],
        max_p=evaluation.level,
        win_tie_loss={},
        rounding_digits=4,
        show_percentages=True,
        stat_test=evaluation.test,
    )
    # ranx frames its preamble with lines of "=", which LaTeX cannot read
    lines = report.to_latex().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("% To change"))
    wanted = ["% Needs in the preamble: \\usepackage{booktabs} \\usepackage{graphicx}"]
    correction = f"% p-values corrected over all pairs of runs: {evaluation.correction}"
    return "\n".join([*wanted, correction, *lines[start:]]) + "\n"


def _ranx_name(metric: str) -> str:
    """Return a metric's name as ranx's report looks it up: R@2kt, or its own in lower case."""
    return f"R{metric[1:]}" if metric.lower().endswith("kt") else metric.lower()


@dataclass(frozen=True)
class Sources:
    """What an evaluation was made from: paths as they were given, and how they were read.

    Relative paths hold from where the command was run, or else from the evaluation's folder.
    """

    questions: str
    runs: tuple[str, ...]
    corpus: str | None = None
    qrels: str | None = None
    language: str | None = None
    official: bool = False
    with_title: bool = False


def write_report(
    evaluation: Evaluation,
    output: str | Path,
    overwrite: bool,
    inputs: Iterable[Any] = (),
    sources: Sources | None = None,
) -> None:
    """Write `table.md`, `table.tex`, `per-question.tsv` and the two JSON files into a new folder.

    `scores.json` has the scores, `evaluation.json` what they were made from (where `sources` says
    it) and their confidence intervals (docs/evaluation.md).
    """
    with writing_folder(output, overwrite, inputs) as folder:
        write_json(folder / "scores.json", evaluation.as_json())
        write_json(folder / "evaluation.json", description(evaluation, sources, folder))
        with writing(folder / "table.md") as file:
            file.write(tables(evaluation, per_language=True, style="github") + "\n")
        if len(evaluation.runs) <= len(LETTERS):
            with writing(folder / "table.tex") as file:
                file.write(latex(evaluation))
        _write_questions(evaluation, folder / "per-question.tsv")


def description(evaluation: Evaluation, sources: Sources | None, folder: Path) -> dict[str, Any]:
    """Return what `evaluation.json` holds (docs/evaluation.md); `folder` is where it will stand."""
    inputs = None
    if sources is not None:
        sums = checksums([sources.questions, *sources.runs], folder)
        inputs = {**asdict(sources), "runs": list(sources.runs), "sha256": sums}
    return {
        "format": 1,
        "kind": "evaluation",
        "runs": evaluation.runs,
        "metrics": evaluation.metrics,
        "test": evaluation.test,
        "correction": evaluation.correction,
        "level": evaluation.level,
        "relevance": evaluation.relevance,
        "notes": evaluation.notes,
        "inputs": inputs,
        "confidence": CONFIDENCE,
        "scores": _scores(evaluation),
        "differences": _differences(evaluation),
    }


def checksums(paths: Iterable[str], folder: Path) -> dict[str, str]:
    """Return the checksums of those recorded inputs that are files, by their paths as given."""
    found = {path: find_input(path, folder) for path in paths}
    return {path: file_sha256(file) for path, file in found.items() if file and file.is_file()}


def _scores(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for run, by_metric in evaluation.scores.items():
        for metric, scores in by_metric.items():
            counts = {l: entry["count"] for l, entry in scores.by_language().items()}
            counts[MACRO] = len(scores.values)
            for language, interval in scores.intervals().items():
                row = {"run": run, "metric": metric, "language": language}
                rows.append({**row, "questions": counts[language], **_row("score", interval)})
    return rows


def _differences(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for a, b in combinations(evaluation.runs, 2):
        for metric in evaluation.metrics:
            ours, theirs = evaluation.scores[a][metric], evaluation.scores[b][metric]
            for language, interval in ours.intervals(theirs).items():
                row = {"a": a, "b": b, "metric": metric, "language": language}
                rows.append({**row, **_row("difference", interval)})
    return rows


def _row(name: str, interval: Interval) -> Mapping[str, float | None]:
    mean, low, high = (None if math.isnan(value) else value for value in interval)
    return {name: mean, "ci_low": low, "ci_high": high}


def _write_questions(evaluation: Evaluation, path: Path) -> None:
    columns = [(run, metric) for run in evaluation.runs for metric in evaluation.metrics]
    tables = [evaluation.scores[run][metric] for run, metric in columns]
    ids = list(dict.fromkeys(qid for scores in tables for qid in scores.values))
    with writing(path) as file:
        names = "\t".join(f"{run} {metric}" for run, metric in columns)
        file.write(f"id\tlanguage\t{names}\n")
        for qid in ids:
            values = "\t".join(
                format(s.values[qid], "g") if qid in s.values else "" for s in tables
            )
            file.write(f"{qid}\t{tables[0].languages[qid]}\t{values}\n")
