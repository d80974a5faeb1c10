"""Results → the parts of a page, as HTML: headline, figures, tables, and how they were made.

Whatever comes from files is escaped here, or by `Table.html`.  This module knows no files.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from xqg_pyserini.evaluation.results import MACRO, Comparison, Results
from xqg_pyserini.evaluation.significance import Interval
from xqg_pyserini.evaluation.tables import TEST_NAMES
from xqg_pyserini.report import plots
from xqg_pyserini.report.plots import Plot
from xqg_pyserini.report.results import ALL, interval_of
from xqg_pyserini.report.tables import chosen_language, held_out_table, power_table
from xqg_pyserini.tables import Cell, Row, Table

MOST_POINTS = 25  # in a table


class Parts(NamedTuple):
    """The page's parts, as HTML but for the title."""

    kind: str
    title: str
    headline: str
    lead: str
    figures: str
    footer: str


def named(text: str) -> str:
    """Return a name that users gave, set apart so that its direction spoils no sentence."""
    return f"<bdi>{escape(text)}</bdi>"


def _figure(heading: str, plot: Plot | None) -> str:
    if plot is None:
        return ""
    box = f'<div class="scroll" role="img" tabindex="0" aria-label="{escape(plot.alternative)}">'
    caption = f"<figcaption>{escape(plot.caption)}</figcaption>"
    return f"<figure><h3>{heading}</h3>{box}{plots.inline(plot)}</div>{caption}</figure>"


def _numbers(*tables: str) -> str:
    return f"<details><summary>The numbers</summary>{''.join(tables)}</details>"


def _by_metric(metrics: Sequence[str], content: Mapping[str, str]) -> str:
    """Return a switch and the content of each metric; without the script, all of it."""
    choices = blocks = ""
    for i, metric in enumerate(metrics):
        name, checked = escape(metric), " checked" if i == 0 else ""
        choices += f'<label><input type="radio" name="metric" value="{name}"{checked}><span>{name}</span></label>'
        blocks += f'<section data-metric="{name}" aria-label="{name}">{content[metric]}</section>'
    if len(metrics) == 1:
        return blocks
    return f'<fieldset class="metrics" id="metrics" hidden><legend>Metric</legend>{choices}</fieldset>{blocks}'


def _footer(results: Results) -> str:
    settings, inputs = results.compared.settings, results.inputs or {}
    pairs = [
        ("Results", named(results.folder.resolve().name if results.folder else "")),
        ("Test", f"{TEST_NAMES[settings.test][2]}, two-sided"),
        ("Correction", f"{settings.correction}, level {settings.level:g}"),
        ("Relevance", escape(results.scores.relevance or "")),
    ]
    for name in ("questions", "corpus", "qrels", "passages", "queries"):
        pairs.append((name.capitalize(), named(str(inputs[name])) if inputs.get(name) else ""))
    pairs += [*(("Note", escape(note)) for note in results.scores.notes), ("Intervals", _INTERVALS)]
    entries = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in pairs if value)
    return f"<h2>How it was made</h2><dl>{entries}</dl>"


_INTERVALS = (
    "95% confidence intervals by Student's t over questions; the average over languages adds up the languages' "
    "variances (too narrow where one language's questions are translations of another's). They say what other "
    "questions of this kind would do, not other collections."
)


# ---------------------------------------------------------------- numbers in words


def _score(interval: Interval, signed: bool = False) -> Cell:
    """Return a score with its interval beside it."""
    mean = f"{interval.mean:+.2f}" if signed else f"{interval.mean:.2f}"
    known = not math.isnan(interval.low)
    return Cell(mean, detail=f"[{interval.low:.1f}, {interval.high:.1f}]" if known else "")


def _p(p: float, name: str = "") -> str:
    """Return a p-value, `p = 0.0300` where it is given its name."""
    small = p < 0.0001
    sign = "< " if small else "= " if name else ""
    return f"{name} {sign}{0.0001 if small else p:.4f}".lstrip()


def _between(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "There are too few questions for a confidence interval."
    return f"95% confidence interval of the difference: {interval.low:+.1f} to {interval.high:+.1f} points."


# ---------------------------------------------------------------- an evaluation


def evaluation_parts(results: Results) -> tuple[Parts, list[Plot]]:
    """Return the parts of an evaluation's page, and all plots in them."""
    drawn: list[Plot] = []
    content = {}
    runs = results.scores.runs
    for metric in results.scores.metrics:
        figures = {"By language": plots.score_bars(results, metric)}
        if len(runs) > 1:
            figures[f"Against {named(runs[0])}"] = plots.difference_dots(results, metric)
            figures["Questions won and lost"] = plots.win_bars(results, metric)
        drawn += figures.values()
        numbers = _numbers(_score_table(results, metric).html(), _pair_table(results, metric))
        content[metric] = "".join(map(_figure, figures, figures.values())) + numbers
    title, headline, lead = _evaluation_headline(results)
    body = f"<h2>Scores</h2>{_by_metric(results.scores.metrics, content)}"
    return Parts("Evaluation", title, headline, lead, body, _footer(results)), drawn


def _evaluation_headline(results: Results) -> tuple[str, str, str]:
    scores, settings = results.scores, results.compared.settings
    metric = scores.metrics[0]
    baseline, *others = scores.runs
    languages = len(scores[baseline][metric].by_language)
    size = f"{scores[baseline][metric].questions} questions, {languages} language{'s' if languages > 1 else ''}; "
    size += "scores are 0-100, averaged over languages without weights."
    if not others:
        score = scores.macro(baseline, metric)
        headline = f"{named(baseline)} scores {score:.1f} by {escape(metric)}"
        return f"{baseline} · {metric}", headline, f'<p class="lead">{size}</p>'
    best = max(others, key=lambda run: scores.macro(run, metric))
    difference = scores.difference(best, baseline, metric)[MACRO]
    gain = difference.mean
    where = "above" if gain > 0 else "below" if gain < 0 else "from"
    headline = f"{named(best)} scores {scores.macro(best, metric):.1f} by {escape(metric)}, "
    headline += f"{abs(gain):.1f} points {where} {named(baseline)}"
    test = results.compared.of(best, baseline, metric)
    if test is None:
        raise KeyError(f"the test of {best} and {baseline} by {metric}")
    significant = "significant" if test.significant else "not significant"
    by = TEST_NAMES[settings.test][2]
    verdict = f"{_between(difference)} {escape(_p(test.p_corrected, 'p'))} ({by}, correction: {settings.correction}): "
    verdict += f"{significant} at {settings.level:g}."
    if len(others) > 1:
        size = f"The best of {len(others)} runs beside {named(baseline)} by this metric. {size}"
    lead = f'<p class="lead">{verdict}</p><p class="quiet">{size}</p>'
    return f"{best} and {baseline} · {metric}", headline, lead


def _score_table(results: Results, metric: str) -> Table:
    by_run = {run: by_metric[metric] for run, by_metric in results.scores.items()}
    languages = list(dict.fromkeys(l for scores in by_run.values() for l in scores.intervals))
    rows: list[Row] = []
    for run, scores in by_run.items():
        cells = [_score(scores.intervals[l]) if l in scores.intervals else "-" for l in languages]
        rows.append([Cell(run, name=True), *cells, scores.questions])
    head = ["run", *("average" if l == MACRO else l for l in languages), "questions"]
    return Table(head, rows, f"{metric}, with 95% confidence intervals")


def _pair_table(results: Results, metric: str) -> str:
    """Return the tests, each of the later run over the earlier, as HTML."""
    rows: list[Row] = []
    for test in results.compared:
        if test.metric == metric:
            difference = results.scores.difference(test.b, test.a, metric)[MACRO]
            wins = f"{test.loss}/{test.tie}/{test.win}"  # b's: the table is of b over a
            pair = [Cell(test.b, name=True), Cell(test.a, name=True)]
            rows.append([*pair, _score(difference, signed=True), _p(test.p), _verdict(test), wins])
    head = ["run", "over", "difference", "p", f"p ({results.compared.settings.correction})"]
    table = Table([*head, "win/tie/loss"], rows, f"{metric}: differences and tests", 2)
    return table.html() if rows else ""


def _verdict(test: Comparison) -> str:
    return _p(test.p_corrected) + ("*" if test.significant else "")


# ---------------------------------------------------------------- a sweep


def sweep_parts(results: Results) -> tuple[Parts, list[Plot]]:
    """Return the parts of a sweep's page, and all plots in them."""
    drawn: list[Plot] = []
    content = {}
    metrics = results.scores.metrics
    for metric in metrics:
        figures = {
            f"{heading}{', by language' if by_language else ''}": plots.sweep_curves(results, metric, over, by_language)
            for over, heading in (("weight", "Weight"), ("queries", "Number of queries"))
            for by_language in (False, True)
        }
        drawn += [plot for plot in figures.values() if plot is not None]
        numbers = _numbers(_points_table(results, metric).html())
        content[metric] = "".join(map(_figure, figures, figures.values())) + numbers
    validation = results.cross_validation
    held_out = plots.held_out_dots(results)
    before = after = ""
    if held_out is not None and validation:
        drawn.insert(0, held_out)
        before = f"<h2>On new questions</h2>{_figure('Held out, and tuned', held_out)}"
        before += _numbers(held_out_table(validation).html(), _chosen_table(validation).html())
    if results.power:
        table = power_table(results.power, metrics)
        after = f"<h2>Power</h2>{table.html()}" if table.rows else ""
    title, headline, lead = _sweep_headline(results, validation)
    body = f'{before}<h2>The grid</h2><p class="warn">{_TUNED}</p>{_by_metric(metrics, content)}{after}'
    return Parts("Sweep", title, headline, lead, body, _footer(results)), drawn


_TUNED = (
    "Figures of the grid are of the same questions for every setting. Its best point was tuned on "
    "the questions that it is shown for: on new questions, expect less."
)


def _sweep_headline(results: Results, validation: Any) -> tuple[str, str, str]:
    scores, baseline = results.scores, str(results.compared.baseline)
    metric = scores.metrics[0]
    others = (name for name in scores if name != baseline)
    best = max(others, key=lambda name: scores.macro(name, metric), default=baseline)
    score, base = scores.macro(best, metric), scores.macro(baseline, metric)
    beaten = score > base
    tuned = f"Tuned, the best of {len(scores)} settings on these same questions"
    if not beaten:
        tuned = f"The best of the settings ({len(scores) - 1}) on these same questions is no better than passages alone"
    tuned += f": {named(best)}, {score:.1f} ({score - base:+.1f})."
    held_out = validation["held_out"] if validation else ()
    row = next((row for row in held_out if row["metric"] == metric), None)
    title = f"Sweep · {metric}"
    if row is None:
        if not beaten:
            headline = f"No setting beats passages alone: {base:.1f} by {escape(metric)}"
            return title, headline, f'<p class="lead">{tuned}</p>'
        headline = f"At best {score:.1f} by {escape(metric)}, {_gain(score - base)}"
        warning = (
            '<p class="warn">Nothing was held out: this figure was tuned on the questions that '
            "it is shown for. A sweep with cross-validation says what to expect on new ones.</p>"
        )
        return title, headline, f'<p class="lead">{tuned}</p>{warning}'
    headline = f"Held out: {row['score']:.1f} by {escape(metric)}, {_gain(row['difference'])}"
    folds = f"{validation['folds']} folds: settings were chosen by {escape(validation['select_by'])} on the others, "
    folds += "and scored on questions that had no part in the choice."
    lead = f'<p class="lead">{_between(interval_of(row, "difference"))} {escape(_p(row["p"], "p"))}.</p>'
    return title, headline, f'{lead}<p class="quiet">{folds} {tuned}</p>'


def _gain(difference: float) -> str:
    shown = round(difference, 1)
    where = "below" if shown < 0 else "above" if shown > 0 else "from"
    return f"{abs(difference):.1f} points {where} passages alone"


def _points_table(results: Results, metric: str) -> Table:
    scores, baseline = results.scores, str(results.compared.baseline)
    order = sorted(scores, key=lambda name: -scores.macro(name, metric))
    kept = [name for name in order if name != baseline][:MOST_POINTS]
    alone = f"{scores.macro(baseline, metric):.2f}"
    rows: list[Row] = [[Cell(baseline, name=True), "", "", "", "", alone, "", "", ""]]
    for name in kept:
        point, test = results.points[name], results.compared.of(name, baseline, metric)
        gain = scores.difference(name, baseline, metric).get(MACRO)
        weight = "" if point.weight is None else f"{plots.GREEK[point.form]} = {point.weight:g}"
        queries = "" if point.num_queries is None else point.num_queries
        settings = [weight, point.languages or "", queries, "yes" if point.center else ""]
        difference = "" if gain is None else _score(gain, signed=True)
        tested = ["", ""] if test is None else [_verdict(test), f"{test.win}/{test.tie}/{test.loss}"]
        rows.append([Cell(name, name=True), *settings, f"{scores.macro(name, metric):.2f}", difference, *tested])
    head = ["point", "weight", "languages", "queries", "centred", "score", "difference"]
    head += [f"p ({results.compared.settings.correction})", "win/tie/loss"]
    left = len(scores) - len(kept) - 1
    more = f"; {left} more are in sweep.csv" if left > 0 else ""
    caption = f"{metric}: passages alone, and the best settings{more}. In brackets: 95% confidence intervals"
    return Table(head, rows, f"{caption}, not corrected for having chosen.", 3)


def _chosen_table(validation: Mapping[str, Any]) -> Table:
    rows: list[Row] = [
        [choice["fold"], chosen_language(choice["language"]) or ALL, Cell(choice["point"], name=True)]
        for choice in validation["chosen"]
    ]
    return Table(["fold", "language", "point"], rows, "What was chosen in each fold", 3)
