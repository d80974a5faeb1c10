"""Results → figures: bars by language, differences, wins and losses, curves of a sweep.

Each function draws one figure of one metric and says in words what it shows.  Colours are told apart by the
colour-blind (Okabe & Ito, 2008, jfly.uni-koeln.de/color); the first is a grey for the baseline.  The same results give
the same bytes.
"""

import importlib.resources
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from xqg_pyserini.errors import missing_package
from xqg_pyserini.evaluation.results import MACRO, PointSettings, Results, Scores
from xqg_pyserini.evaluation.significance import Interval
from xqg_pyserini.report.results import ALL, interval_of

INK, MUTED, GRID = "#1d1f22", "#65696e", "#dcdee0"
SERIES = ("#7a7f85", "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
MOST = len(SERIES)  # runs or curves that one figure holds
WIDTH = 7.2  # inches
GREEK = {"sum": "α", "mean": "β"}  # what the weights are called
_BARS = 56  # in one row of bars


class Plot(NamedTuple):
    """A drawn figure: file name without ending, caption, alternative text, and its two forms."""

    name: str
    caption: str
    alternative: str
    svg: str
    png: bytes


class Kind(NamedTuple):
    """What a curve's colour stands for."""

    languages: str | None
    center: bool | None
    shrink_queries: float | None
    align: str | None


class Curve(NamedTuple):
    """Points of a sweep that differ in one respect, in its order: x and the point's name."""

    label: str
    kind: Kind
    points: list[tuple[float, str]]
    best: str  # the highest point
    peak: float  # its score


def shown(scores: Scores, metric: str, names: Sequence[str] = (), most: int = MOST) -> list[str]:
    """Return the runs (or those of `names`) that one figure can hold: the first and the best others, in their order."""
    names = names or scores.runs
    best = sorted(names[1:], key=lambda run: scores.macro(run, metric), reverse=True)[: most - 1]
    return [name for name in names if name == names[0] or name in best]


# ---------------------------------------------------------------- an evaluation


def score_bars(results: Results, metric: str) -> Plot:
    """Draw the scores by language and on average, with their confidence intervals."""
    runs = shown(results.scores, metric)
    languages = list(results.scores[runs[0]][metric].intervals)
    per_row = max(1, _BARS // len(runs))
    rows = [languages[i : i + per_row] for i in range(0, len(languages), per_row)]

    def draw(figure: Any) -> None:
        grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axes, row in zip(grid, rows, strict=True):
            for i, run in enumerate(runs):
                width = 0.8 / len(runs)
                at = [x + (i - (len(runs) - 1) / 2) * width for x in range(len(row))]
                scores = [results.scores[run][metric].intervals[l] for l in row]
                means = [s.mean for s in scores]
                axes.bar(at, means, width * 0.92, color=SERIES[i], label=run)
                for x, score in zip(at, scores, strict=True):  # as far as the measure goes
                    if not math.isnan(score.low):
                        ends = [max(0, score.low), min(100, score.high)]
                        axes.plot([x, x], ends, color=INK, linewidth=0.9, solid_capstyle="butt")
                if row[0] == MACRO and len(runs) <= 4:
                    top = means[0] if math.isnan(scores[0].high) else min(scores[0].high, 100)
                    above = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5}
                    axes.annotate(f"{means[0]:.1f}", (at[0], top), (0, 3), **above)
            axes.set_xticks(range(len(row)), [_average(l) for l in row])
            axes.set_xlim(-0.6, max(len(row), min(per_row, len(languages))) - 0.4)
            axes.set_ylim(0, 108)
            axes.set_yticks(range(0, 101, 20))
            axes.set_ylabel(f"{metric} (0-100)")
            axes.grid(axis="y")
        _legend(figure, grid[0], len(runs))

    told = "; ".join(f"{run} {_words(results.scores[run][metric].intervals[MACRO])}" for run in runs)
    left_out = len(results.scores) - len(runs)
    more = f" The first run and the {MOST - 1} best others are drawn." if left_out else ""
    return _plot(
        f"scores-{_slug(metric)}",
        f"{metric} on average and by language. Whiskers: 95% confidence intervals over questions.{more}",
        f"Bar chart of {metric} by language and run. Average over languages: {told}.",
        (WIDTH, 0.5 + 2.4 * len(rows)),
        draw,
    )


def difference_dots(results: Results, metric: str) -> Plot:
    """Draw each run's difference to the first run, by language, with confidence intervals."""
    baseline, *others = shown(results.scores, metric)
    differences = {run: results.scores.difference(run, baseline, metric) for run in others}
    languages = list(results.scores[baseline][metric].intervals)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for i, run in enumerate(others):
            beside = (i - (len(others) - 1) / 2) * 0.62 / len(others)
            intervals = {y + beside: differences[run][l] for y, l in enumerate(languages) if l in differences[run]}
            for y, interval in intervals.items():
                if not math.isnan(interval.low):
                    axes.plot([interval.low, interval.high], [y, y], color=SERIES[i + 1], linewidth=1.4)
            means = [interval.mean for interval in intervals.values()]
            axes.plot(means, list(intervals), "o", color=SERIES[i + 1], markersize=4.2, label=run)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        _rows(axes, [_average(l) for l in languages], f"{metric}: difference to {baseline}, in points")
        _legend(figure, axes, len(others))

    told = "; ".join(f"{run} {_words(differences[run][MACRO], signed=True)}" for run in others)
    return _plot(
        f"differences-{_slug(metric)}",
        f"{metric}: what each run gains over {baseline}. Lines: 95% confidence intervals of the "
        "difference over questions; where one crosses 0, the difference may be chance.",
        f"Dot chart of differences in {metric} to {baseline}. Average over languages: {told}.",
        (WIDTH, 0.9 + len(languages) * (0.16 + 0.13 * len(others))),
        draw,
    )


def win_bars(results: Results, metric: str) -> Plot:
    """Draw for each pair of runs on how many questions one is better than the other."""
    runs = shown(results.scores, metric)
    tests = [t for t in results.compared if t.metric == metric and {t.a, t.b} <= set(runs)]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        # the later run of a pair stands against the earlier: its wins are the other's losses
        for y, test in enumerate(tests):
            axes.barh(y, test.loss, 0.62, color=SERIES[1])
            axes.barh(y, -test.win, 0.62, color=SERIES[4])
            for x, side, align in ((test.loss, 1, "left"), (-test.win, -1, "right")):
                beside = {"textcoords": "offset points", "va": "center", "ha": align, "fontsize": 8}
                axes.annotate(str(abs(x)), (x, y), (4 * side, 0), **beside)
        most = max([1, *(max(test.win, test.loss) for test in tests)])
        axes.set_xlim(-1.15 * most, 1.15 * most)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        _rows(axes, [f"{test.b} vs {test.a}" for test in tests], "questions lost  ←   → questions won")
        ticks = [tick for tick in axes.get_xticks() if tick == int(tick)]
        axes.set_xticks(ticks, [f"{abs(tick):.0f}" for tick in ticks])
        axes.set_xlim(-1.15 * most, 1.15 * most)

    told = "; ".join(f"{test.b} against {test.a}: {test.loss} won, {test.tie} tied, {test.win} lost" for test in tests)
    return _plot(
        f"wins-{_slug(metric)}",
        f"{metric}: questions on which the run named first scores above (right) and below (left) "
        "the other. Ties are not drawn.",
        f"Bar chart of wins and losses by {metric}. {told}.",
        (WIDTH, 0.8 + 0.36 * len(tests)),
        draw,
    )


# ---------------------------------------------------------------- a sweep


def curves_over(results: Results, metric: str, over: str) -> list[Curve]:
    """Return the curves over the `weight` or the number of `queries`, of two points at least.

    There is one for each other setting: of settings that differ in the number of queries alone the one with most, of
    those that differ in the weight alone the one with the highest peak.  Sums come first; at most `MOST` - 1 of each
    form, those with the highest peaks, and of an aligned highest one the same without alignment.
    """
    weights = over == "weight"
    beyond = max(_numbers(results), default=0) + 1  # "all" stands one step after the largest number

    def x_of(point: PointSettings) -> float:
        return float(point.weight or 0) if weights else min(_queries(point), beyond)

    def score(point: PointSettings) -> float:
        return results.scores.macro(point.point, metric)

    groups: dict[tuple, dict[Any, list[PointSettings]]] = {}
    for point in results.points.values():
        if point.weight is not None:
            setting = point.form, point.normalize, _kind(point)
            other = point.num_queries if weights else point.weight
            groups.setdefault(setting, {}).setdefault(other, []).append(point)
    whole: dict[tuple, list[PointSettings]] = {}
    for setting, by_other in groups.items():
        chosen = max(by_other.values(), key=lambda points: _queries(points[0]))
        if not weights:
            several = (points for points in by_other.values() if len({*map(x_of, points)}) > 1)
            chosen = max(several, key=lambda points: max(map(score, points)), default=[])
        if len({*map(x_of, chosen)}) > 1:
            whole[setting] = sorted(chosen, key=x_of)
    best = sorted(whole, key=lambda setting: max(map(score, whole[setting])), reverse=True)
    curves = []
    for form in ("sum", "mean"):
        ranked = [setting for setting in best if setting[0] == form]
        kept, rest = ranked[: MOST - 1], ranked[MOST - 1 :]
        if rest and (plain := (*kept[0][:2], kept[0][2]._replace(align=None))) in rest:
            kept[-1] = plain
        for setting in kept:
            points = whole[setting]
            label = _label(points, [whole[other][0] for other in kept])
            top = max(points, key=score)
            at = [(x_of(point), point.point) for point in points]
            curves.append(Curve(label, setting[2], at, top.point, score(top)))
    return curves


def _highest(curves: Iterable[Curve]) -> Curve:
    return max(curves, key=lambda curve: curve.peak)


def _gains(results: Results, point: str, metric: str) -> dict[str, Interval]:
    """Return a point's differences to the baseline, by language."""
    return results.scores.difference(point, str(results.compared.baseline), metric)


def _numbers(results: Results) -> set[int]:
    return {point.num_queries for point in results.points.values() if isinstance(point.num_queries, int)}


def _kind(point: PointSettings) -> Kind:
    return Kind(point.languages, point.center, point.shrink_queries, point.align)


def _queries(point: PointSettings) -> float:
    return point.num_queries if isinstance(point.num_queries, int) else math.inf


def _label(points: list[PointSettings], beside: list[PointSettings]) -> str:
    """Name a curve by what its points share, as far as it tells it from those beside it."""
    first = points[0]
    names = {ALL: "all languages", "own": "own language", "others": "other languages"}
    parts = [names.get(first.languages or ALL, first.languages or ALL)]
    if first.center:
        parts.append("centred")
    if first.shrink_queries:
        parts.append(f"κ = {first.shrink_queries:g}")
    if first.align:
        parts.append(first.align)
    if len({point.normalize for point in beside}) > 1:
        parts.append("renormalised" if first.normalize else "as it is")
    if len({point.weight for point in points}) == 1:
        parts.append(f"{GREEK[first.form]} = {first.weight:g}")
    elif first.num_queries != ALL:
        parts.append(f"{first.num_queries} queries")
    return ", ".join(parts)


def sweep_curves(results: Results, metric: str, over: str, by_language: bool) -> Plot | None:
    """Draw the curves over the `weight` or the `queries` of a sweep; None where it has none.

    On average over languages with confidence intervals of the difference to the baseline, or small, one panel a
    language.
    """
    curves = curves_over(results, metric, over)
    by_form: dict[str, list[Curve]] = {}
    for curve in curves:
        by_form.setdefault(results.points[curve.best].form, []).append(curve)
    if not by_form:
        return None
    top = _highest(curves)
    baseline = results.scores[str(results.compared.baseline)][metric]
    panels = [(form, MACRO) for form in by_form]
    if by_language:  # one form alone: that of the highest curve
        panels = [(results.points[top.best].form, language) for language in baseline.by_language]
    colors = _colors({form: by_form[form] for form in dict(panels)})

    def draw(figure: Any) -> None:
        columns = min(4, len(panels)) if by_language else len(panels)
        rows = math.ceil(len(panels) / columns)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=by_language)
        for (form, language), axes in zip(panels, grid.flat, strict=False):
            _panel(axes, results, metric, language, by_form[form], colors[form])
        y = "difference, in points" if by_language else f"{metric} (0-100)"
        _label_axes(list(grid.flat), panels, columns, y, over)
        if over == "queries":
            _all_tick(results, grid.flat)
        if by_language or len(panels) == 1:
            _legend(figure, grid.flat[0], 2)
        else:
            for axes in grid.flat:
                axes.legend(loc="lower left", bbox_to_anchor=(-0.03, 1.0), fontsize=8, borderpad=0)

    what = "weight of the queries" if over == "weight" else "number of queries a language"
    where = "by language" if by_language else "on average over languages"
    band = ""
    if by_language:
        band = " Drawn is the difference to passages alone"
        if len(by_form) > 1:
            form = panels[0][0]
            band += f" of the {form} form ({GREEK[form]}), that of the highest curve"
        band += "."
    elif any(_has_band(results, metric, curves) for curves in by_form.values()):
        band = " Band: of the highest curve, the 95% confidence interval of the difference to passages alone "
        band += "at each point, not corrected for having chosen."
    return _plot(
        f"{over}{'-by-language' if by_language else ''}-{_slug(metric)}",
        f"{metric} over the {what}, {where}. Dashed: passages alone.{band}",
        f"Line chart of {metric} over the {what}, {where}. Passages alone: {baseline.macro:.1f}; the "
        f"highest point is {top.best} with {top.peak:.1f} on average.",
        (WIDTH, 0.6 + 1.7 * math.ceil(len(panels) / 4) if by_language else 3.4),
        draw,
    )


def _label_axes(grid: list[Any], panels: list[tuple[str, str]], columns: int, y: str, over: str) -> None:
    """Name each panel's language, and the axes at the left and the bottom; hide the rest."""
    for i, axes in enumerate(grid):
        if i >= len(panels):
            axes.set_visible(False)
            continue
        form, language = panels[i]
        if language != MACRO:
            axes.set_title(language, loc="left", fontweight="bold")
        if i % columns == 0:
            axes.set_ylabel(y)
        if i + columns >= len(panels):
            axes.set_xlabel("queries a language" if over == "queries" else f"{GREEK[form]} ({form})")
            axes.tick_params(labelbottom=True)


def _has_band(results: Results, metric: str, curves: Iterable[Curve]) -> bool:
    """Return whether the highest curve has two neighbours with an interval that can be seen."""
    gains = [_gains(results, name, metric).get(MACRO) for _, name in _highest(curves).points]
    widths = [gain.high - gain.low for gain in gains if gain]
    # NaN, where there is no interval, compares as false
    return any(a >= 0 and b >= 0 and a + b > 0 for a, b in pairwise(widths))


def _colors(by_form: Mapping[str, list[Curve]]) -> dict[str, list[str]]:
    """Return the colours of each form's curves: one kind has one colour, where they suffice."""
    kinds = list(dict.fromkeys(c.kind for form in reversed(list(by_form)) for c in by_form[form]))
    alone = all(len({c.kind for c in curves}) == len(curves) for curves in by_form.values())
    if alone and len(kinds) < MOST:
        return {f: [SERIES[1 + kinds.index(c.kind)] for c in cs] for f, cs in by_form.items()}
    return {form: list(SERIES[1 : 1 + len(curves)]) for form, curves in by_form.items()}


def _panel(
    axes: Any, results: Results, metric: str, language: str, curves: Sequence[Curve], colors: Sequence[str]
) -> None:
    """Draw the scores of some curves on average, or a language's differences to passages alone."""
    small = language != MACRO
    baseline = 0.0 if small else results.scores.macro(str(results.compared.baseline), metric)
    axes.axhline(baseline, color=SERIES[0], linestyle=(0, (5, 3)), label="passages alone")
    highest = _highest(curves)
    for curve, color in zip(curves, colors, strict=True):
        values = [_gains(results, name, metric).get(language) for _, name in curve.points]
        drawn = [(x, value) for (x, _), value in zip(curve.points, values, strict=True) if value]
        xs, ys = [x for x, _ in drawn], [baseline + value.mean for _, value in drawn]
        size, width = (2.2, 1.1) if small else (3.6, 1.5)
        axes.plot(xs, ys, color=color, marker="o", markersize=size, linewidth=width, label=curve.label)
        if curve is highest and not small:
            lows = [baseline + value.low for _, value in drawn]
            highs = [baseline + value.high for _, value in drawn]
            axes.fill_between(xs, lows, highs, color=color, alpha=0.15, linewidth=0)
    axes.grid(axis="y")


def _all_tick(results: Results, grid: Iterable[Any]) -> None:
    ticks = {number: str(number) for number in sorted(_numbers(results))}
    if any(p.num_queries == ALL for p in results.points.values()):
        ticks[max(ticks) + 1] = ALL
    for axes in grid:
        axes.set_xticks(list(ticks), list(ticks.values()))


def held_out_dots(results: Results) -> Plot | None:
    """Draw what was tuned against what was held out; None without cross-validation."""
    validation = results.cross_validation
    if not validation:
        return None
    rows = validation["held_out"]
    tuned = {row["metric"]: row["score"] for row in validation["tuned"]}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            baseline = row["score"] - row["difference"]
            _, low, high = interval_of(row, "difference")
            names = ("passages alone", "held out", "tuned on these questions")
            labels = names if y == 0 else (None, None, None)
            axes.plot([baseline + low, baseline + high], [y, y], color=SERIES[1], linewidth=1.4)
            axes.plot(baseline, y, "|", color=SERIES[0], markersize=13, mew=2, label=labels[0])
            axes.plot(row["score"], y, "o", color=SERIES[1], markersize=6, label=labels[1])
            if row["metric"] in tuned:
                ring = {"color": SERIES[4], "markersize": 6, "mfc": "none", "mew": 1.4}
                axes.plot(tuned[row["metric"]], y, "o", label=labels[2], **ring)
        _rows(axes, [row["metric"] for row in rows], "score (0-100)")
        _legend(figure, axes, 3)

    told = "; ".join(f"{row['metric']}: held out {row['score']:.1f} ({row['difference']:+.1f})" for row in rows)
    return _plot(
        "held-out",
        "What is to be expected on new questions (held out), and what the best point of the grid "
        "scored on the questions that it was chosen on. Lines: 95% confidence intervals of the "
        "difference to passages alone, around the held-out score.",
        f"Dot chart of held-out scores. {told}.",
        (WIDTH, 1.0 + 0.42 * len(rows)),
        draw,
    )


# ---------------------------------------------------------------- drawing


def _rows(axes: Any, labels: Sequence[str], x: str) -> None:
    """Name the rows, the first one on top, and what goes to the right."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(x)
    axes.grid(axis="x")


def _average(language: str) -> str:
    return "average" if language == MACRO else language


def _words(interval: Interval, signed: bool = False) -> str:
    mean = f"{interval.mean:+.1f}" if signed else f"{interval.mean:.1f}"
    return mean if math.isnan(interval.low) else f"{mean} ({interval.low:.1f} to {interval.high:.1f})"


def _legend(figure: Any, axes: Any, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    spaces = {"columnspacing": 1.4, "handletextpad": 0.5}
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, max(1, columns)), **spaces)


def _slug(metric: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", metric).strip("-").lower()


def import_matplotlib() -> Any:
    """Import matplotlib; raises `UserError` where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        raise missing_package("matplotlib", "plots") from None
    return matplotlib


def _plot(name: str, caption: str, alternative: str, size: tuple[float, float], draw: Callable[[Any], None]) -> Plot:
    matplotlib = import_matplotlib()
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        svg, png = io.BytesIO(), io.BytesIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=nothing)
        figure.set_layout_engine("none")  # laid out already
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    return Plot(name, caption, alternative, svg.getvalue().decode("utf-8"), png.getvalue())


@cache
def _style() -> Any:
    """Return matplotlib's own settings and the style's, whatever a user's matplotlibrc says."""
    matplotlib = import_matplotlib()
    left = ("backend", "interactive", "toolbar", "timezone")  # of screens, not of figures
    path = importlib.resources.files("xqg_pyserini.resources") / "report" / "plots.mplstyle"
    with importlib.resources.as_file(path) as file:
        ours = matplotlib.rc_params_from_file(file, use_default_template=False)
    settings = {**matplotlib.rcParamsDefault, **ours}
    return {name: value for name, value in settings.items() if not name.startswith(left)}


# ---------------------------------------------------------------- in the page

_ROLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"}
_ROLES |= {color: f"var(--series-{i})" for i, color in enumerate(SERIES)}


def inline(plot: Plot) -> str:
    """Return the SVG to put into a page: no references, ids of its own, the page's colours."""
    body = plot.svg[plot.svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    start = body.index(">") + 1
    box = re.search(r'viewBox="([^"]+)"', body[:start])
    assert box is not None, "matplotlib writes a viewBox"
    rest = re.sub(r"<style.*?</style>", "", body[start:], count=1, flags=re.DOTALL)
    rest = re.sub(r'(<g id="patch_1">.*?</g>)', "", rest, count=1, flags=re.DOTALL)  # the paper
    rest = re.sub(r'\bid="', f'id="{plot.name}-', rest)
    rest = re.sub(r'xlink:href="#', f'href="#{plot.name}-', rest)
    rest = re.sub(r"url\(#", f"url(#{plot.name}-", rest)
    rest = re.sub("|".join(map(re.escape, _ROLES)), lambda match: _ROLES[match[0]], rest)
    return f'<svg viewBox="{box[1]}" aria-hidden="true">{rest.strip()}'
