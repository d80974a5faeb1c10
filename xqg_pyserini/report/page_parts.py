"""Results → the parts of a page, as HTML: headline, figures, tables, and how they were made.

Whatever comes from files is escaped here.  This room knows results and plots; it knows no files.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from xqg_pyserini.data import NO_LANGUAGE
from xqg_pyserini.evaluation.scores import MACRO
from xqg_pyserini.evaluation.significance import Interval
from xqg_pyserini.report import plots
from xqg_pyserini.report.plots import Plot
from xqg_pyserini.report.results import Evaluated, Swept, interval_of

MOST_POINTS = 25  # in a table
TESTS = {
    "student": "paired t-test",
    "fisher": "randomisation test",
    "mcnemar": "McNemar's exact test",
}


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
    return (
        f'<figure><h3>{heading}</h3><div class="scroll" role="img" tabindex="0" '
        f'aria-label="{escape(plot.alternative)}">'
        f"{plots.inline(plot)}</div><figcaption>{escape(plot.caption)}</figcaption></figure>"
    )


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    """Return a table; the first `texts` columns are text, all cells are HTML already."""

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = [' scope="col"' if tag == "th" else "", ' class="text"']
        start = [f"<{tag}{kinds[0]}{kinds[1] if i < texts else ''}>" for i in range(len(row))]
        return "".join(f"{s}{cell}</{tag}>" for s, cell in zip(start, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{caption}</caption><thead><tr>{cells("th", head)}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>"


def _by_metric(metrics: Sequence[str], content: Mapping[str, str]) -> str:
    """Return a switch and the content of each metric; without the script, all of it."""
    choices = "".join(
        f'<label><input type="radio" name="metric" value="{escape(metric)}"'
        f"{' checked' if i == 0 else ''}><span>{escape(metric)}</span></label>"
        for i, metric in enumerate(metrics)
    )
    blocks = "".join(
        f'<section data-metric="{escape(metric)}" aria-label="{escape(metric)}">'
        f"{content[metric]}</section>"
        for metric in metrics
    )
    if len(metrics) == 1:
        return blocks
    return (
        '<fieldset class="metrics" id="metrics" hidden><legend>Metric</legend>'
        f"{choices}</fieldset>{blocks}"
    )


def _footer(pairs: Iterable[tuple[str, str]]) -> str:
    entries = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in pairs if value)
    return f"<h2>How it was made</h2><dl>{entries}</dl>"


def _about(found: Evaluated | Swept) -> list[tuple[str, str]]:
    about, inputs = found.about, found.about.get("inputs") or {}
    pairs = [
        ("Results", named(found.folder.resolve().name)),
        ("Test", f"{TESTS.get(about['test'], escape(str(about['test'])))}, two-sided"),
        ("Correction", f"{escape(str(about['correction']))}, level {about['level']:g}"),
        ("Relevance", escape(about.get("relevance") or "")),
    ]
    for name in ("questions", "corpus", "qrels", "passages", "queries"):
        pairs.append((name.capitalize(), named(str(inputs[name])) if inputs.get(name) else ""))
    pairs += [("Note", escape(note)) for note in about.get("notes") or ()]
    pairs.append(
        (
            "Intervals",
            "95% confidence intervals by Student's t over questions; the average over languages "
            "adds up the languages' variances (too narrow where one language's questions are "
            "translations of another's). They say what other questions of this kind would do, "
            "not other collections.",
        )
    )
    return pairs


# ---------------------------------------------------------------- numbers in words


def _score(interval: Interval, signed: bool = False) -> str:
    """Return a score with its interval, as HTML."""
    mean = f"{interval.mean:+.2f}" if signed else f"{interval.mean:.2f}"
    if math.isnan(interval.low):
        return mean
    return f"{mean} <small>[{interval.low:.1f}, {interval.high:.1f}]</small>"


def _p(p: float, name: str = "") -> str:
    """Return a p-value as HTML, `p = 0.0300` where it is given its name."""
    small = p < 0.0001
    sign = "&lt; " if small else "= " if name else ""
    return f"{name} {sign}{0.0001 if small else p:.4f}".lstrip()


def _between(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "There are too few questions for a confidence interval."
    return (
        "95% confidence interval of the difference: "
        f"{interval.low:+.1f} to {interval.high:+.1f} points."
    )


# ---------------------------------------------------------------- an evaluation


def evaluation_parts(found: Evaluated) -> tuple[Parts, list[Plot]]:
    """Return the parts of an evaluation's page, and all plots in them."""
    drawn: list[Plot] = []
    content = {}
    for metric in found.metrics:
        some = {"By language": plots.score_bars(found, metric)}
        if len(found.runs) > 1:
            against = f"Against {named(found.runs[0])}"
            some[against] = plots.difference_dots(found, metric)
            some["Questions won and lost"] = plots.win_bars(found, metric)
        drawn += some.values()
        content[metric] = "".join(map(_figure, some, some.values())) + _details(
            "The numbers", _score_table(found, metric) + _test_table(found, metric)
        )
    title, headline, lead = _evaluation_headline(found)
    figures = f"<h2>Scores</h2>{_by_metric(found.metrics, content)}"
    parts = Parts("Evaluation", title, headline, lead, figures, _footer(_about(found)))
    return parts, drawn


def _evaluation_headline(found: Evaluated) -> tuple[str, str, str]:
    metric = found.metrics[0]
    score = {run: found.scores[run, metric][MACRO] for run in found.runs}
    counts = found.counts[found.runs[0], metric]
    size = (
        f"{counts[MACRO]} questions, {len(counts) - 1} language{'s' if len(counts) > 2 else ''}; "
        "scores are 0-100, averaged over languages without weights."
    )
    baseline = found.runs[0]
    if len(found.runs) == 1:
        headline = f"{named(baseline)} scores {score[baseline].mean:.1f} by {escape(metric)}"
        return f"{baseline} · {metric}", headline, f'<p class="lead">{size}</p>'
    best = max(found.runs[1:], key=lambda run: score[run].mean)
    difference = found.difference(best, baseline, metric)[MACRO]
    gain = difference.mean
    where = "above" if gain > 0 else "below" if gain < 0 else "from"
    headline = (
        f"{named(best)} scores {score[best].mean:.1f} by {escape(metric)}, "
        f"{abs(gain):.1f} points {where} {named(baseline)}"
    )
    test = next(t for t in found.tests if t.metric == metric and {t.a, t.b} == {best, baseline})
    significant = "significant" if test.significant else "not significant"
    verdict = (
        f"{_between(difference)} {_p(test.p_corrected, 'p')} "
        f"({TESTS.get(test.test, escape(test.test))}, correction: "
        f"{escape(str(found.about['correction']))}): {significant} at {found.about['level']:g}."
    )
    if len(found.runs) > 2:
        others = len(found.runs) - 1
        size = f"The best of {others} runs beside {named(baseline)} by this metric. {size}"
    lead = f'<p class="lead">{verdict}</p><p class="quiet">{size}</p>'
    return f"{best} and {baseline} · {metric}", headline, lead


def _score_table(found: Evaluated, metric: str) -> str:
    languages = list(dict.fromkeys(l for run in found.runs for l in found.scores[run, metric]))
    rows = []
    for run in found.runs:
        scores = found.scores[run, metric]
        cells = [_score(scores[l]) if l in scores else "-" for l in languages]
        rows.append([named(run), *cells, str(found.counts[run, metric][MACRO])])
    head = ["run", *("average" if l == MACRO else escape(l) for l in languages), "questions"]
    caption = f"{escape(metric)}, with 95% confidence intervals"
    return _table(caption, head, rows, 1)


def _test_table(found: Evaluated, metric: str) -> str:
    rows = []
    for test in found.tests:
        if test.metric == metric:
            difference = found.difference(test.b, test.a, metric)[MACRO]
            corrected = _p(test.p_corrected) + ("*" if test.significant else "")
            wins = f"{test.loss}/{test.tie}/{test.win}"  # b's: the table is of b over a
            row = [f"{named(test.b)} over {named(test.a)}", _score(difference, signed=True)]
            rows.append([*row, _p(test.p), corrected, wins])
    if not rows:
        return ""
    correction = escape(str(found.about["correction"]))
    head = ["pair", "difference", "p", f"p ({correction})", "win/tie/loss"]
    return _table(f"{escape(metric)}: differences and tests", head, rows, 1)


# ---------------------------------------------------------------- a sweep


def sweep_parts(found: Swept) -> tuple[Parts, list[Plot]]:
    """Return the parts of a sweep's page, and all plots in them."""
    drawn: list[Plot] = []
    content = {}
    for metric in found.metrics:
        some = {
            f"{heading}{', by language' if by_language else ''}": plots.sweep_curves(
                found, metric, over, by_language
            )
            for over, heading in (("weight", "Weight"), ("queries", "Number of queries"))
            for by_language in (False, True)
        }
        drawn += [plot for plot in some.values() if plot is not None]
        figures = "".join(map(_figure, some, some.values()))
        content[metric] = figures + _points_table(found, metric)
    validation = found.about.get("cross_validation")
    held_out = plots.held_out_dots(found)
    before = ""
    if held_out is not None and validation:
        drawn.insert(0, held_out)
        before = f"<h2>On new questions</h2>{_figure('Held out, and tuned', held_out)}" + _details(
            "The numbers", _held_out_table(validation) + _chosen_table(validation)
        )
    title, headline, lead = _sweep_headline(found, validation)
    figures = (
        f'{before}<h2>The grid</h2><p class="warn">{_TUNED}</p>'
        f"{_by_metric(found.metrics, content)}{_power(found)}"
    )
    return Parts("Sweep", title, headline, lead, figures, _footer(_about(found))), drawn


_TUNED = (
    "Figures of the grid are of the same questions for every setting. Its best point was tuned on "
    "the questions that it is shown for: on new questions, expect less."
)


def _sweep_headline(found: Swept, validation: Any) -> tuple[str, str, str]:
    metric = found.metrics[0]
    best = found.challenger(metric)
    score, base = found.scores[best, metric][MACRO], found.scores[found.baseline, metric][MACRO]
    beaten = score > base
    if beaten:
        tuned = (
            f"Tuned, the best of {len(found.points)} settings on these same questions: "
            f"{named(best)}, {score:.1f} ({score - base:+.1f})."
        )
    else:
        tuned = (
            f"The best of the settings ({len(found.points) - 1}) on these same questions is no "
            f"better than passages alone: {named(best)}, {score:.1f} ({score - base:+.1f})."
        )
    row = None
    if validation:
        row = next((r for r in validation["held_out"] if r["metric"] == metric), None)
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
    interval = interval_of(row, "difference")
    folds = (
        f"{validation['folds']} folds: settings were chosen by {escape(validation['select_by'])} "
        "on the others, and scored on questions that had no part in the choice."
    )
    lead = f'<p class="lead">{_between(interval)} {_p(row["p"], "p")}.</p>'
    return title, headline, f'{lead}<p class="quiet">{folds} {tuned}</p>'


def _gain(difference: float) -> str:
    shown = round(difference, 1)
    where = "below" if shown < 0 else "above" if shown > 0 else "from"
    return f"{abs(difference):.1f} points {where} passages alone"


def _points_table(found: Swept, metric: str) -> str:
    order = sorted(found.points, key=lambda n: -found.scores[n, metric][MACRO])
    kept = [found.baseline, *[n for n in order if n != found.baseline][:MOST_POINTS]]
    rows = []
    for name in kept:
        point = found.points[name]
        difference = found.differences.get((name, metric), {}).get(MACRO)
        verdict = found.verdicts.get((name, metric))
        base = name == found.baseline
        weight = "" if point.weight is None else f"{point.weight:g}"
        sign = {"sum": "α = ", "mean": "β = "}.get(point.form, "")
        queries = "all" if point.num_queries is None else str(point.num_queries)
        rows.append(
            [
                named(name),
                f"{sign}{weight}",
                escape(point.languages),
                "" if base else queries,
                "yes" if point.center else "",
                f"{found.scores[name, metric][MACRO]:.2f}",
                "" if difference is None or base else _score(difference, signed=True),
                "" if verdict is None or base else _mark(verdict),
                "" if verdict is None or base else f"{verdict.win}/{verdict.tie}/{verdict.loss}",
            ]
        )
    head = ["point", "weight", "languages", "queries", "centred"]
    correction = escape(str(found.about["correction"]))
    head += ["score", "difference", f"p ({correction})", "win/tie/loss"]
    left = len(found.points) - len(kept)
    more = f"; {left} more are in sweep.csv" if left > 0 else ""
    caption = (
        f"{escape(metric)}: passages alone, and the best settings{more}. In brackets: 95% "
        "confidence intervals, not corrected for having chosen."
    )
    return _details("The numbers", _table(caption, head, rows, 3))


def _mark(verdict: Any) -> str:
    return f"{_p(verdict.p_corrected)}{'*' if verdict.significant else ''}"


def _held_out_table(validation: Mapping[str, Any]) -> str:
    tuned = {row["metric"]: row for row in validation["tuned"]}
    rows = []
    for row in validation["held_out"]:
        interval = interval_of(row, "difference")
        best = tuned.get(row["metric"])
        cells = [escape(row["metric"]), f"{row['score']:.2f}", _score(interval, signed=True)]
        cells.append(_p(row["p"]))
        cells.append(f"{best['score']:.2f} <small>{named(best['point'])}</small>" if best else "")
        rows.append(cells)
    head = ["metric", "held out", "difference", "p", "tuned on these questions"]
    return _table("Held out, and tuned", head, rows, 1)


def _chosen_table(validation: Mapping[str, Any]) -> str:
    rows = [
        [str(row["fold"]), _language(row.get("language")), named(row["point"])]
        for row in validation["chosen"]
    ]
    return _table("What was chosen in each fold", ["fold", "language", "point"], rows, 3)


def _language(code: str | None) -> str:
    return "no language" if code == NO_LANGUAGE else escape(code or "all")


def _power(found: Swept) -> str:
    """Return what differences could have been seen at the best setting of each metric."""
    power = found.about.get("power")
    if not power:
        return ""
    wanted = power.get("wanted")
    rows = []
    for metric in found.metrics:
        some = [row for row in power["rows"] if row["metric"] == metric]
        if not some:
            continue
        # as in table.md: the best of those that are compared with the baseline
        row = max(some, key=lambda row: row["difference"])
        cells = [escape(metric), named(row["point"]), str(row["questions"])]
        cells.append(f"{row['difference']:+.2f}")
        cells.append("-" if row["smallest"] is None else f"{row['smallest']:.2f}")
        if wanted is not None:
            cells.append("-" if row["needed"] is None else str(row["needed"]))
        rows.append(cells)
    head = ["metric", "best setting", "questions", "difference", "smallest that shows"]
    if wanted is not None:
        head.append(f"questions needed for {wanted:g}")
    tests = f"{power['tests']} test{'' if power['tests'] == 1 else 's'}"
    caption = (
        f"The smallest difference that a test at {power['level']:.2g} ({tests}) "
        f"sees with a probability of {power['power']:.0%}"
    )
    return f"<h2>Power</h2>{_table(caption, head, rows, 2)}" if rows else ""
