"""Results → all tables and what one must know to read them; of a sweep, the tables themselves.

Those of an evaluation are `evaluation.tables`.  What is a table here is shown in the terminal, in Markdown and on the
page alike.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from xqg_pyserini.data import NO_LANGUAGE
from xqg_pyserini.evaluation.results import Results
from xqg_pyserini.evaluation.tables import p_text, results_tables
from xqg_pyserini.tables import Cell, Row, Table


def results_text(results: Results, per_language: bool = False, style: str = "simple") -> str:
    """Return all tables of an evaluation or a sweep, with what one must know to read them.

    `style` is `simple` for a terminal, `github` for Markdown; `per_language` adds an evaluation's scores by language.
    """
    if not results.points:
        return results_tables(results.compared, per_language, style)
    parts = [points_table(results).text(style), _explanation(results)]
    if validation := results.cross_validation:
        table = held_out_table(validation).text(style)
        parts += [_held_out_title(validation), table, _chosen(validation["chosen"])]
    if power := results.power:
        title = (
            f"POWER: what a paired t-test at level {power['level']:.2g} finds with probability "
            f"{power['power']:g}, by the spread of each metric's best point against the baseline."
        )
        parts += [title, power_table(power, results.scores.metrics).text(style)]
    return "\n\n".join(parts)


def points_table(results: Results) -> Table:
    """Return points × metrics, best first by the first metric, with marks for the tests."""
    scores = results.scores
    metrics = scores.metrics
    order = sorted(scores, key=lambda point: -scores.macro(point, metrics[0]))
    best = {metric: scores.best(metric) for metric in metrics}
    rows: list[Row] = []
    for point in order:
        marks = {m: ("†" if best[m] == point else "") + _star(results, point, m) for m in metrics}
        rows.append([point, *(f"{scores.macro(point, metric):.2f}{mark}" for metric, mark in marks.items())])
    return Table(["point", *metrics], rows)


def _star(results: Results, point: str, metric: str) -> str:
    baseline = str(results.compared.baseline)
    test = results.compared.of(point, baseline, metric)
    return ("", "*", "°")[results.compared.sign(test)] if test is not None else ""


def _explanation(results: Results) -> str:
    scores, settings = results.scores, results.compared.settings
    count = len(scores) - 1
    lines = [
        "Scores are 0-100, averaged over languages without weights.",
        f"* significantly above the baseline, ° below ({settings.test}, level {settings.level:g}, "
        f"correction over {number_of_points(count)}: {settings.correction}).",
        f"† TUNED: the best of {count + 1} is chosen by the very questions it is shown for, so its figure flatters.",
    ]
    if results.cross_validation is None:
        lines[-1] += "  --cross-validate 5 gives the figure that such a choice deserves."
    if scores.relevance:
        lines.append(f"Relevance: {scores.relevance}.")
    return "\n".join([*lines, *(f"Note: {note}." for note in scores.notes)])


def number_of_points(count: int) -> str:
    """Return how many points there are beside the baseline, in words."""
    return "the one point" if count == 1 else f"the {count} points"


def _held_out_title(validation: Mapping[str, Any]) -> str:
    what = "for each language" if validation["per_language"] else "for all languages"
    return (
        f"HELD OUT: a point is chosen {what} by {validation['select_by']} on "
        f"{validation['folds'] - 1} of {validation['folds']} folds (--group-by "
        f"{validation['group_by']}, --seed {validation['seed']}) and scored on the other."
    )


def held_out_table(validation: Mapping[str, Any]) -> Table:
    """Return what is to be expected on new questions, beside what was tuned on these."""
    tuned = {entry["metric"]: entry for entry in validation["tuned"]}
    rows: list[Row] = []
    for entry in validation["held_out"]:
        bounds = "-" if entry["ci_low"] is None else f"{entry['ci_low']:+.2f} … {entry['ci_high']:+.2f}"
        figures = [f"{entry['score']:.2f}", f"{entry['difference']:+.2f}", bounds, p_text(entry["p"])]
        best = tuned.get(entry["metric"])
        tuned_cell = Cell(f"{best['score']:.2f}", detail=best["point"]) if best else ""
        rows.append([entry["metric"], *figures, tuned_cell])
    headers = ["metric", "held out", "- baseline", "95% interval", "p", "tuned†"]
    return Table(headers, rows, "Held out, and tuned (†) on these questions")


def chosen_language(code: str | None) -> str:
    """Return for which questions a point was chosen: a language's, those without, or all."""
    return "no language" if code == NO_LANGUAGE else code or ""


def _chosen(choices: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter((chosen_language(choice["language"]), choice["point"]) for choice in choices)
    chosen = ", ".join(f"{l} {point} ({n})".strip() for (l, point), n in sorted(counts.items()))
    return f"Chosen (folds): {chosen}."


def power_table(power: Mapping[str, Any], metrics: Sequence[str]) -> Table:
    """Return what differences could have been seen at the best point of each metric.

    It is the best of those that are compared with the baseline, which it may not beat.
    """
    wanted = power.get("wanted")
    headers = ["metric", "point", "questions", "difference", "smallest that shows"]
    if wanted is not None:
        headers.append(f"questions for {wanted:g}")
    rows: list[Row] = []
    for metric in metrics:
        of_metric = [row for row in power["rows"] if row["metric"] == metric]
        if not of_metric:
            continue
        row = max(of_metric, key=lambda row: row["difference"])
        smallest = "-" if row["smallest"] is None else f"{row['smallest']:.2f}"
        needed = ["-" if row["needed"] is None else row["needed"]] if wanted is not None else []
        cells = [metric, Cell(row["point"], name=True), row["questions"], f"{row['difference']:+.2f}"]
        rows.append([*cells, smallest, *needed])
    tests = f"{power['tests']} test{'' if power['tests'] == 1 else 's'}"
    caption = (
        f"The smallest difference that a test at {power['level']:.2g} ({tests}) "
        f"sees with a probability of {power['power']:.0%}"
    )
    return Table(headers, rows, caption, 2)
