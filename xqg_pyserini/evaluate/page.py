"""A folder of results → one HTML page that needs nothing else, and its plots as files.

The page holds its style, its script and its data; its content security policy lets no other
script run and nothing be fetched.  Whatever comes from files is escaped here, for HTML and for
the JSON in it, and put in as text by the script (`resources/report/`).
"""

import base64
import hashlib
import importlib.resources
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from xqg_pyserini.data import Question, Run, read_qrels, read_questions, read_run
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluate import plots
from xqg_pyserini.evaluate.explorer import Material, Similarities, explore
from xqg_pyserini.evaluate.plots import Plot
from xqg_pyserini.evaluate.results import RUNS, Evaluated, Swept, interval_of, read_results
from xqg_pyserini.evaluate.scoring import MACRO, run_name
from xqg_pyserini.evaluate.significance import Interval
from xqg_pyserini.files import file_sha256, find_input, writing, writing_folder

PAGE, PLOTS = "index.html", "plots"
MOST_RUNS = 4  # in the explorer
MOST_POINTS = 25  # in a table
TESTS = {
    "student": "paired t-test",
    "fisher": "randomisation test",
    "mcnemar": "McNemar's exact test",
}


@dataclass(frozen=True)
class Explore:
    """What the explorer is asked to show; None stands for what the folder of results names.

    `per_language` questions are shown, drawn by `seed` where runs differ on them equally, with
    the first `hits` passages of each run.
    """

    questions: str | None = None
    language: str | None = None
    corpus: str | None = None
    runs: Sequence[str] | None = None
    per_language: int = 20
    hits: int = 10
    seed: int = 42


class Written(NamedTuple):
    """What `write_page` wrote; `explorer` says why there is none, or is None."""

    page: Path
    bytes: int
    plots: int
    questions: int
    explorer: str | None


class _NoExplorer(Exception):
    """Something that the explorer needs is not where the results say it was."""


def write_page(
    folder: str | Path,
    output: str | Path | None = None,
    asked: Explore | None = None,
    *,
    similarities: Similarities | None = None,
    overwrite: bool = False,
) -> Written:
    """Write the report of a folder of results: `index.html`, and `plots/*.svg` and `*.png`.

    Args:
        folder: what `xqg evaluate` or `xqg sweep` wrote with `--output`.
        output: the folder to write; `report` in that folder by default.
        asked: what the explorer is to show.
        similarities: what compares generated queries with the questions; None leaves that out.
        overwrite: replace what `output` holds.

    Raises:
        UserError: for results that are damaged, an input given that does not exist or does not
            fit.  An input that the results name and that is gone only leaves the explorer out.
    """
    found = read_results(folder)
    asked = asked or Explore()
    output = found.folder / "report" if output is None else Path(output)
    inputs = [found.folder, *_inputs(found, asked, similarities)]
    with writing_folder(output, overwrite, inputs) as partial:
        explored, why = _explored(found, asked, similarities)
        if isinstance(found, Evaluated):
            parts, drawn = _evaluation_parts(found)
        else:
            parts, drawn = _sweep_parts(found)
        page = _page(parts, explored, why)
        (partial / PLOTS).mkdir()
        for plot in drawn:
            (partial / PLOTS / f"{plot.name}.png").write_bytes(plot.png)
            with writing(partial / PLOTS / f"{plot.name}.svg") as file:
                file.write(plot.svg)
        with writing(partial / PAGE) as file:
            file.write(page)
    size = len(page.encode("utf-8"))
    return Written(output / PAGE, size, len(drawn), len(explored.get("questions", ())), why)


# ---------------------------------------------------------------- the explorer's inputs


def recorded_input(found: Evaluated | Swept, name: str) -> Any:
    """Return an input as the results name it, or None."""
    return (found.about.get("inputs") or {}).get(name)


def _inputs(
    found: Evaluated | Swept, asked: Explore, similarities: Similarities | None
) -> list[Any]:
    """Return all that was given, and all that the results name and is there."""
    given: list[Any] = [asked.questions, asked.corpus, *(asked.runs or ())]
    if similarities is not None:
        given += [similarities.queries, similarities.store and similarities.store.path]
    names = ("questions", "corpus", "qrels", "passages", "queries")
    recorded = [recorded_input(found, name) for name in names]
    recorded += recorded_input(found, "runs") or []
    return given + [_find(found, path) for path in recorded]


def _explored(
    found: Evaluated | Swept, asked: Explore, similarities: Similarities | None
) -> tuple[dict[str, Any], str | None]:
    """Return the explorer's data, or none and why."""
    if not asked.per_language:
        return {}, "it was not asked for (--explore 0)"
    try:
        questions = _questions(found, asked)
        runs = _runs(found, asked)
        corpus = _corpus(found, asked)
    except _NoExplorer as why:
        return {}, str(why)
    evaluated = isinstance(found, Evaluated)
    qrels = _find(found, recorded_input(found, "qrels"))
    names = list(runs)
    material = Material(
        questions,
        runs,
        corpus,
        found.values if isinstance(found, Evaluated) else {},
        found.metrics if evaluated else (),
        read_qrels(qrels) if qrels is not None and qrels.is_file() else {},
        bool(recorded_input(found, "with_title")),
    )
    pair = _pair(found, names)
    data = explore(material, pair, asked.per_language, asked.seed, similarities)
    return {**data, "depth": asked.hits, "colors": _colors(found, names)}, None


def _find(found: Evaluated | Swept, path: str | None) -> Path | None:
    return None if path is None else find_input(path, found.folder)


def _recorded_file(found: Evaluated | Swept, path: str | None, flag: str) -> Path:
    """Return a file that the results name, if it is there and is still the same."""
    if path is None:
        raise _NoExplorer(f"the results do not say what they were made from: give {flag}")
    file = _find(found, path)
    if file is None:
        raise _NoExplorer(f"{path} is not where the results found it: give {flag}")
    checksum = (recorded_input(found, "sha256") or {}).get(path)
    if checksum is not None and file.is_file() and file_sha256(file) != checksum:
        raise _NoExplorer(f"{path} has changed since it was scored: score it again, or give {flag}")
    return file


def _questions(found: Evaluated | Swept, asked: Explore) -> list[Question]:
    language = asked.language or recorded_input(found, "language")
    path: str | Path
    if asked.questions is not None:
        path = asked.questions
    else:
        path = _recorded_file(found, recorded_input(found, "questions"), "--questions")
    questions = read_questions(path, language)
    if isinstance(found, Evaluated):
        ids = {question.id for question in questions}
        scored = (q for run in found.values.values() for some in run.values() for q in some)
        lacking = next((qid for qid in scored if qid not in ids), None)
        if lacking is not None:
            raise UserError(
                f"{path}: lacks question {lacking!r}, which {found.folder} has a score of; give "
                "the --questions that were scored"
            )
    return questions


def _corpus(found: Evaluated | Swept, asked: Explore) -> Path:
    if asked.corpus is not None:
        return Path(asked.corpus)
    return _recorded_file(found, recorded_input(found, "corpus"), "--corpus")


def _runs(found: Evaluated | Swept, asked: Explore) -> dict[str, Run]:
    if asked.runs is not None:
        names = [run_name(path) for path in asked.runs]
        for a, b in combinations(range(len(names)), 2):
            if names[a] == names[b]:
                raise UserError(
                    f"{asked.runs[a]} and {asked.runs[b]} are both the run {names[a]!r}; rename one"
                )
        paths = dict(zip(names, map(Path, asked.runs), strict=True))
    elif isinstance(found, Evaluated):
        recorded = {run_name(path): path for path in recorded_input(found, "runs") or ()}
        paths = {
            name: _recorded_file(found, recorded.get(name), "--runs")
            for name in _few(
                found.runs, lambda run: found.scores[run, found.metrics[0]][MACRO].mean
            )
        }
    else:
        paths = _sweep_runs(found)
    runs = {}
    for name, path in paths.items():
        read = read_run(path)
        runs[name] = {qid: hits[: asked.hits] for qid, hits in read.items()}
    return runs


def _sweep_runs(found: Swept) -> dict[str, Path]:
    metric = found.metrics[0]
    there = {
        name: found.folder / RUNS / f"{name}.trec"
        for name in found.points
        if (found.folder / RUNS / f"{name}.trec").is_file()
    }
    if len(there) < 2:
        raise _NoExplorer(
            f"{found.folder / RUNS} holds no runs of two points: give --runs A B, or sweep again "
            "with its runs written"
        )
    names = sorted(there, key=lambda name: name != found.baseline)  # the baseline first
    return {name: there[name] for name in _few(names, lambda n: found.scores[n, metric][MACRO])}


def _few(names: Sequence[str], score: Any) -> list[str]:
    best = sorted(names[1:], key=score, reverse=True)[: MOST_RUNS - 1]
    return [name for name in names if name == names[0] or name in best]


def _pair(found: Evaluated | Swept, names: list[str]) -> tuple[str, str]:
    """Return the runs that are shown first: the first, and the best of the others."""

    def score(name: str) -> float:
        score = found.scores.get((name, found.metrics[0]), {}).get(MACRO)
        return -1.0 if score is None else score.mean if isinstance(score, Interval) else score

    return names[0], max(names[1:], key=score, default=names[0])


def _colors(found: Evaluated | Swept, names: list[str]) -> list[int]:
    """Return the colour of each run: that of its bars, where it has some."""
    if isinstance(found, Swept):
        return list(range(len(names)))
    metric = found.metrics[0]
    drawn = plots.shown(found.runs, lambda run: found.scores[run, metric][MACRO].mean)
    return [drawn.index(name) if name in drawn else 0 for name in names]


# ---------------------------------------------------------------- putting it together


class _Parts(NamedTuple):
    """The page's parts, as HTML but for the title."""

    kind: str
    title: str
    headline: str
    lead: str
    figures: str
    footer: str


def _resource(name: str) -> str:
    folder = importlib.resources.files("xqg_pyserini.resources").joinpath("report")
    return folder.joinpath(name).read_text("utf-8")


def embedded(value: Any) -> str:
    r"""Return JSON that can stand in a script element: no character of it is HTML's.

    >>> print(embedded("</script>&"))
    "\u003c/script\u003e\u0026"
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _page(parts: _Parts, explored: Mapping[str, Any], why: str | None) -> str:
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    if explored:
        explorer = _explorer(explored)
    else:
        explorer = f'<p class="quiet">Without the explorer of questions: {escape(str(why))}.</p>'
    return Template(_resource("page.html")).substitute(
        title=escape(parts.title),
        kind=parts.kind,
        headline=parts.headline,
        lead=parts.lead,
        body=f"{parts.figures}\n{explorer}",
        footer=parts.footer,
        script_hash=f"sha256-{digest}",
        style=_resource("page.css"),
        script=script,
        data=embedded(explored),
    )


def _explorer(explored: Mapping[str, Any]) -> str:
    single = len(explored["runs"]) == 1
    near = any("near" in mark for q in explored["questions"] for mark in q["marks"].values())
    first, second = (_name(name) for name in explored["pair"])
    about = (
        f"{len(explored['questions'])} questions"
        + ("" if single else f", those first on which {first} and {second} differ most")
        + f", with the first {explored['depth']} passages of each run. Marked are the answers, "
        "where a text holds one as it stands."
    )
    if near:
        about += (
            " Bars show how near the nearest generated queries of a passage are to the question, "
            "on one scale for all passages shown; the upright line is the passage itself. A query "
            "beyond it is nearer to the question than the passage is, and pulls it up when it is "
            "mixed in (before centring); whether the passage rises depends on what the queries of "
            "other passages do. Those in the question's language are bold, their bars blue."
        )
    columns = "".join(
        f'<section class="run" aria-label="{side} run"><label>Run <select></select></label>'
        '<p class="first"></p><p class="quiet score"></p><ol class="hits"></ol></section>'
        for side in ("First", "Second")[: 1 if single else 2]
    )
    return f"""<section id="explorer" hidden aria-labelledby="explorer-title">
<h2 id="explorer-title">Question by question</h2>
<p class="quiet prose">{about}</p>
<div class="explorer">
<div class="choose">
<label>Language <select id="language"><option value="">all</option></select></label>
<label>Search <input type="search" id="search" placeholder="question, answer or id"></label>
<p class="quiet" id="count" aria-live="polite"></p>
<ul class="questions" id="questions" role="listbox" tabindex="0"
 aria-label="Questions; arrow keys choose"></ul>
</div>
<div class="detail">
<p class="quiet" id="status" aria-live="polite"></p>
<p class="asked" id="asked" dir="auto"></p>
<p class="answers" id="answers"></p>
<div class="columns{" single" if single else ""}">{columns}</div>
</div>
</div>
</section>
<noscript><p class="quiet">The explorer of questions needs JavaScript.</p></noscript>"""


def _name(text: str) -> str:
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
        ("Results", _name(found.folder.resolve().name)),
        ("Test", f"{TESTS.get(about['test'], escape(str(about['test'])))}, two-sided"),
        ("Correction", f"{escape(str(about['correction']))}, level {about['level']:g}"),
        ("Relevance", escape(about.get("relevance") or "")),
    ]
    for name in ("questions", "corpus", "qrels", "passages", "queries"):
        pairs.append((name.capitalize(), _name(str(inputs[name])) if inputs.get(name) else ""))
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


def _evaluation_parts(found: Evaluated) -> tuple[_Parts, list[Plot]]:
    drawn: list[Plot] = []
    content = {}
    for metric in found.metrics:
        some = {"By language": plots.score_bars(found, metric)}
        if len(found.runs) > 1:
            against = f"Against {_name(found.runs[0])}"
            some[against] = plots.difference_dots(found, metric)
            some["Questions won and lost"] = plots.win_bars(found, metric)
        drawn += some.values()
        content[metric] = "".join(map(_figure, some, some.values())) + _details(
            "The numbers", _score_table(found, metric) + _test_table(found, metric)
        )
    title, headline, lead = _evaluation_headline(found)
    figures = f"<h2>Scores</h2>{_by_metric(found.metrics, content)}"
    parts = _Parts("Evaluation", title, headline, lead, figures, _footer(_about(found)))
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
        headline = f"{_name(baseline)} scores {score[baseline].mean:.1f} by {escape(metric)}"
        return f"{baseline} · {metric}", headline, f'<p class="lead">{size}</p>'
    best = max(found.runs[1:], key=lambda run: score[run].mean)
    difference = found.difference(best, baseline, metric)[MACRO]
    gain = difference.mean
    where = "above" if gain > 0 else "below" if gain < 0 else "from"
    headline = (
        f"{_name(best)} scores {score[best].mean:.1f} by {escape(metric)}, "
        f"{abs(gain):.1f} points {where} {_name(baseline)}"
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
        size = f"The best of {others} runs beside {_name(baseline)} by this metric. {size}"
    lead = f'<p class="lead">{verdict}</p><p class="quiet">{size}</p>'
    return f"{best} and {baseline} · {metric}", headline, lead


def _score_table(found: Evaluated, metric: str) -> str:
    languages = list(dict.fromkeys(l for run in found.runs for l in found.scores[run, metric]))
    rows = []
    for run in found.runs:
        scores = found.scores[run, metric]
        cells = [_score(scores[l]) if l in scores else "-" for l in languages]
        rows.append([_name(run), *cells, str(found.counts[run, metric][MACRO])])
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
            row = [f"{_name(test.b)} over {_name(test.a)}", _score(difference, signed=True)]
            rows.append([*row, _p(test.p), corrected, wins])
    if not rows:
        return ""
    correction = escape(str(found.about["correction"]))
    head = ["pair", "difference", "p", f"p ({correction})", "win/tie/loss"]
    return _table(f"{escape(metric)}: differences and tests", head, rows, 1)


# ---------------------------------------------------------------- a sweep


def _sweep_parts(found: Swept) -> tuple[_Parts, list[Plot]]:
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
    return _Parts("Sweep", title, headline, lead, figures, _footer(_about(found))), drawn


_TUNED = (
    "Figures of the grid are of the same questions for every setting. Its best point was tuned on "
    "the questions that it is shown for: on new questions, expect less."
)


def _sweep_headline(found: Swept, validation: Any) -> tuple[str, str, str]:
    metric = found.metrics[0]
    best = found.best(metric)
    score, base = found.scores[best, metric][MACRO], found.scores[found.baseline, metric][MACRO]
    tuned = (
        f"Tuned, the best of {len(found.points)} settings on these same questions: {_name(best)}, "
        f"{score:.1f} ({score - base:+.1f})."
    )
    row = None
    if validation:
        row = next((r for r in validation["held_out"] if r["metric"] == metric), None)
    title = f"Sweep · {metric}"
    if row is None:
        headline = f"At best {score:.1f} by {escape(metric)}, {_gain(score - base)}"
        return (
            title,
            headline,
            (
                f'<p class="lead">{tuned}</p><p class="warn">Nothing was held out: this figure '
                "was tuned on the questions that it is shown for. A sweep with cross-validation "
                "says what to expect on new ones.</p>"
            ),
        )
    headline = f"Held out: {row['score']:.1f} by {escape(metric)}, {_gain(row['difference'])}"
    interval = interval_of(row, "difference")
    folds = (
        f"{validation['folds']} folds: settings were chosen by {escape(validation['select_by'])} "
        "on the others, and scored on questions that had no part in the choice."
    )
    lead = f'<p class="lead">{_between(interval)} {_p(row["p"], "p")}.</p>'
    return title, headline, f'{lead}<p class="quiet">{folds} {tuned}</p>'


def _gain(difference: float) -> str:
    where = "below" if difference < 0 else "above"
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
                _name(name),
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
        cells.append(f"{best['score']:.2f} <small>{_name(best['point'])}</small>" if best else "")
        rows.append(cells)
    head = ["metric", "held out", "difference", "p", "tuned on these questions"]
    return _table("Held out, and tuned", head, rows, 1)


def _chosen_table(validation: Mapping[str, Any]) -> str:
    rows = [
        [str(row["fold"]), escape(row.get("language") or "all"), _name(row["point"])]
        for row in validation["chosen"]
    ]
    return _table("What was chosen in each fold", ["fold", "language", "point"], rows, 3)


def _power(found: Swept) -> str:
    """Return what differences could have been seen at the best point of each metric."""
    power = found.about.get("power")
    if not power:
        return ""
    best = {metric: found.best(metric) for metric in found.metrics}
    rows = []
    for row in power["rows"]:
        if best.get(row["metric"]) == row["point"]:
            smallest = "" if row["smallest"] is None else f"{row['smallest']:.2f}"
            needed = "" if row["needed"] is None else str(row["needed"])
            cells = [escape(row["metric"]), _name(row["point"]), str(row["questions"])]
            rows.append([*cells, f"{row['difference']:+.2f}", smallest, needed])
    wanted = power.get("wanted")
    head = ["metric", "best point", "questions", "difference", "smallest seen"]
    head.append("questions needed" if wanted is None else f"questions needed for {wanted:g}")
    caption = (
        f"The smallest difference that a test at {power['level']:.2g} ({power['tests']} tests) "
        f"sees with a probability of {power['power']:.0%}"
    )
    return f"<h2>Power</h2>{_table(caption, head, rows, 2)}"
