"""A sweep from stores to figures: search, score, choose, and say which figures were tuned.

`run_sweep` is the whole job; `SweepReport` is what it found, as rows (`sweep.csv`), JSON
(`sweep.json`) and text (`table.md`).  docs/sweep.md says how to read them.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.data import NO_LANGUAGE, Question, Run, read_qrels, write_run
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation import selection
from xqg_pyserini.evaluation.power import (
    POWER,
    macro_difference,
    questions_needed,
    smallest_difference,
)
from xqg_pyserini.evaluation.scores import (
    LEVEL,
    Evaluation,
    Test,
    check_choices,
    check_inputs,
    p_value,
    paired,
    score_runs,
)
from xqg_pyserini.evaluation.significance import macro_interval
from xqg_pyserini.files import (
    check_output,
    expand,
    file_sha256,
    write_json,
    writing,
    writing_folder,
)
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.fusion.fused import FusedPassages
from xqg_pyserini.report.results import RUNS
from xqg_pyserini.report.tables import checksums, p_text, tabulated
from xqg_pyserini.retrieve.search import check_hits, encode_for_store
from xqg_pyserini.retrieve.sweep import BASELINE, Point, Sweep, grid
from xqg_pyserini.stores import VectorStore

COLUMNS = (
    "point", "form", "weight", "languages", "num_queries", "normalize", "center",
    "metric", "language", "questions", "score", "difference", "ci_low", "ci_high",
    "p", "p_corrected", "significant", "win", "tie", "loss",
)  # fmt: skip
MACRO = "macro"


class Choosing(NamedTuple):
    """How a point is chosen by cross-validation.

    `group_by` is `relevant` (questions that share a relevant passage stay in one fold) or `none`.
    """

    folds: int
    select_by: str
    per_language: bool = False
    group_by: str = "none"
    seed: int = 42


@dataclass
class SweepReport:
    """What a sweep found: the scores of all points, and what may be concluded from them."""

    points: list[Point]
    evaluation: Evaluation
    inputs: dict[str, Any]
    cross_validation: dict[str, Any] | None = None
    power: dict[str, Any] | None = None
    tests: dict[tuple[str, str], Test] = field(init=False)

    def __post_init__(self) -> None:
        self.tests = {(test.a, test.metric): test for test in self.evaluation.tests}

    def best(self, metric: str) -> str:
        """Return the point with the highest macro score; of equals the first, baseline first."""
        scores = self.evaluation.scores
        return max(scores, key=lambda point: scores[point][metric].macro)

    def rows(self) -> Iterable[dict[str, Any]]:
        """Yield what `sweep.csv` holds: a row for each point, metric and language, then macro."""
        for point in self.points:
            for metric in self.evaluation.metrics:
                settings = {**point.settings(), "metric": metric}
                for row in self._rows(point.name, metric):
                    yield {**settings, **row}

    def _rows(self, point: str, metric: str) -> Iterable[dict[str, Any]]:
        scores = self.evaluation.scores[point][metric]
        x, y, spoken = paired(self.evaluation, metric, point, BASELINE)
        for language, group in scores.by_language().items():
            of = [i for i, l in enumerate(spoken) if l == language]
            found = _compared([x[i] for i in of], [y[i] for i in of], [language] * len(of))
            yield {
                "language": language,
                "questions": group["count"],
                "score": group["score"],
                **found,
            }
        row = {"language": MACRO, "questions": len(x), "score": scores.macro}
        row |= _compared(x, y, spoken)
        test = self.tests.get((point, metric))
        if test is not None:
            names = ("p", "p_corrected", "significant", "win", "tie", "loss")
            row |= {name: getattr(test, name) for name in names}
        yield row

    def as_json(self) -> dict[str, Any]:
        """Return what `sweep.json` holds (docs/formats.md)."""
        evaluation = self.evaluation
        some = next(iter(evaluation.scores[BASELINE].values()))
        return {
            "format": 1,
            "kind": "sweep",
            "metrics": evaluation.metrics,
            "baseline": BASELINE,
            "points": [point.settings() for point in self.points],
            "questions": len(some.languages),
            "test": evaluation.test,
            "correction": evaluation.correction,
            "level": evaluation.level,
            "relevance": evaluation.relevance,
            "notes": evaluation.notes,
            "inputs": self.inputs,
            "cross_validation": self.cross_validation,
            "power": self.power,
        }


def _compared(
    x: Sequence[float], y: Sequence[float], languages: Sequence[str]
) -> dict[str, float | None]:
    """Return a difference of macro figures, 0-100, and its 95% confidence interval."""
    differences = [100 * (a - b) for a, b in zip(x, y, strict=True)]
    mean, low, high = macro_interval(differences, languages)
    known = not math.isnan(low)
    return {
        "difference": mean,
        "ci_low": low if known else None,
        "ci_high": high if known else None,
    }


# ---------------------------------------------------------------- the job


def run_sweep(
    passages: str | Path,
    queries: str | Path,
    questions: Sequence[Question],
    fusions: Sequence[Fusion],
    output: str | Path,
    *,
    languages: Sequence[str] = ("all",),
    num_queries: Sequence[int | None] = (None,),
    hits: int = 100,
    choosing: Choosing | None = None,
    power: float | bool = False,
    keep_runs: bool = False,
    scoring: Mapping[str, Any],
    engine: Mapping[str, Any] | None = None,
    skip_unknown: bool = False,
    allow_unequal: bool = False,
    overwrite: bool = False,
    inputs: Mapping[str, str | Path | None] | None = None,
    language: str | None = None,
) -> SweepReport:
    """Search, score and compare every point of a grid, and write the folder `output`.

    `fusions`, `languages` and `num_queries` span the grid (`sweep.grid`).  `choosing` validates
    a choice.  `power` says the smallest difference that could have been seen and, for a number
    (0-100), how many questions that takes.  `keep_runs` writes one TREC run a point.  `scoring` is
    what `evaluate.scoring.score_runs` takes (metrics, corpus, qrels, test, …), `engine` what
    `search.encode_for_store` takes, or `vectors`, the questions' embeddings (q, d) float32.
    `inputs` are paths as the user gave them, for `sweep.json`; none is replaced by the output.
    `language` is what the questions were read with, noted there as well.

    Raises:
        UserError: before anything is encoded for what can be told by then: see `sweep.Sweep`,
            `scoring.score_runs`; for an output that holds something.
    """
    scoring = {"test": "student", "correction": "holm", "level": LEVEL, **scoring}
    given = {name: None if path is None else str(path) for name, path in (inputs or {}).items()}
    check_output(output, overwrite, [passages, queries, *given.values()])
    recorded: dict[str, Any] = {
        **given,
        "language": language,
        "with_title": bool(scoring.get("with_title")),
        "hits": hits,
        "allow_unequal": allow_unequal,
        "skip_unknown": skip_unknown,
        # taken before the pass: it is these questions that were read
        "sha256": checksums(filter(None, [given.get("questions")]), Path(output)),
    }
    relate = choosing is not None and choosing.group_by == "relevant"
    _check(questions, scoring, choosing, relate, hits)
    store = VectorStore(passages)
    held: tuple[str, ...] = ()
    if "each" in languages:
        anything = Fusion("mean", beta=0.0)
        held = FusedPassages(store, queries, anything, skip_unknown=skip_unknown).languages
    points = grid(fusions, languages, num_queries, held)
    sweep = Sweep(
        store,
        queries,
        points,
        questions,
        skip_unknown=skip_unknown,
        allow_unequal=allow_unequal,
    )
    engine = dict(engine or {})
    vectors = engine.pop("vectors", None)
    if vectors is None:
        vectors = encode_for_store(store, questions, **engine)
    runs = sweep.search(vectors, hits)
    evaluation = score_runs(questions, runs, baseline=BASELINE, relate=relate, **scoring)
    if sweep.unequal:
        evaluation.notes.append(
            "sums over unequal numbers of queries were forced (--allow-unequal): passages with "
            "more queries are favoured"
        )
    report = SweepReport(sweep.points, evaluation, recorded)
    if choosing is not None:
        report.cross_validation = _cross_validate(report, choosing)
    if power:
        report.power = _power(report, None if power is True else float(power))
    with writing_folder(output, overwrite, [passages, queries, *given.values()]) as folder:
        write_sweep(report, folder, runs if keep_runs else {})
    return report


def _check(
    questions: Sequence[Question],
    scoring: Mapping[str, Any],
    choosing: Choosing | None,
    relate: bool,
    hits: int,
) -> None:
    """Raise `UserError` for what can be told before anything is encoded."""
    check_hits(hits)
    metrics = check_choices(
        scoring["metrics"], scoring["test"], scoring["correction"], scoring["level"]
    )
    corpus, qrels = scoring.get("corpus"), scoring.get("qrels")
    check_inputs(questions, metrics, corpus, qrels, relate)
    if corpus is not None:
        expand(corpus)
    relevant = {} if qrels is None else read_qrels(qrels)
    if choosing is not None:
        names = [metric.name for metric in metrics]
        if choosing.select_by not in names:
            raise UserError(
                f"--select-by {choosing.select_by}: expected one of --metrics {' '.join(names)}"
            )
        if not 2 <= choosing.folds <= len(questions):
            raise UserError(
                f"--cross-validate {choosing.folds}: expected from 2 folds to one for each of "
                f"the {len(questions)} questions"
            )
        if qrels is not None:  # relevance that is derived from answers is known after the pass
            budget = metrics[names.index(choosing.select_by)].budget
            scored = [
                q.id
                for q in questions
                if (q.answers if budget else any(relevant.get(q.id, {}).values()))
            ]
            languages = {q.id: q.language or NO_LANGUAGE for q in questions}
            _deal(choosing, _groups(choosing, scored, relevant), languages)


def _groups(
    choosing: Choosing, scored: Sequence[str], relevant: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """Return question → its group, which stays in one fold."""
    if choosing.group_by == "relevant":
        return dict(selection.group_by_relevance(scored, relevant))
    return {qid: qid for qid in scored}


def _deal(
    choosing: Choosing, groups: Mapping[str, Any], languages: Mapping[str, str]
) -> dict[str, int]:
    """Return question → fold, or raise `UserError` where there are fewer groups than folds."""
    try:
        return selection.deal(groups, languages, choosing.folds, choosing.seed)
    except ValueError as error:
        raise _no_folds(choosing, error) from None


def _no_folds(choosing: Choosing, error: ValueError) -> UserError:
    return UserError(f"--cross-validate {choosing.folds} --group-by {choosing.group_by}: {error}")


def _cross_validate(report: SweepReport, choosing: Choosing) -> dict[str, Any]:
    evaluation = report.evaluation

    def values(metric: str) -> dict[str, dict[str, float]]:
        return {point: by[metric].values for point, by in evaluation.scores.items()}

    chooser = evaluation.scores[BASELINE][choosing.select_by]
    languages = chooser.languages
    groups = _groups(choosing, list(chooser.values), evaluation.relevant)
    if choosing.group_by == "relevant":
        largest = max(list(groups.values()).count(group) for group in set(groups.values()))
        evaluation.notes.append(
            f"folds: {len(set(groups.values()))} groups of questions that share a relevant "
            f"passage, the largest of {largest}"
        )
    folds = _deal(choosing, groups, languages)
    try:
        choices = selection.choose(
            values(choosing.select_by), languages, folds, choosing.per_language
        )
    except ValueError as error:
        raise _no_folds(choosing, error) from None
    held = []
    for metric in evaluation.metrics:
        both = {q: f for q, f in folds.items() if q in evaluation.scores[BASELINE][metric].values}
        scores = selection.held_out(values(metric), languages, both, choices)
        base = evaluation.scores[BASELINE][metric].values
        spoken = [languages[qid] for qid in both]
        x, y = [scores[qid] for qid in both], [base[qid] for qid in both]
        macro = 100 * selection.macro(scores, languages, list(both))
        p = p_value(evaluation.test, x, y, spoken)
        held.append({"metric": metric, "score": macro, **_compared(x, y, spoken), "p": p})
    return {
        "folds": choosing.folds,
        "per_language": choosing.per_language,
        "select_by": choosing.select_by,
        "group_by": choosing.group_by,
        "seed": choosing.seed,
        "chosen": [
            {"fold": choice.fold + 1, "language": choice.language, "point": choice.run}
            for choice in choices
        ],
        "held_out": held,
        "tuned": [
            {
                "metric": m,
                "point": report.best(m),
                "score": evaluation.scores[report.best(m)][m].macro,
            }
            for m in evaluation.metrics
        ],
    }


def _power(report: SweepReport, wanted: float | None) -> dict[str, Any]:
    """Return the smallest difference of each point that could have been seen, and questions needed.

    A correction makes the first of m tests one at level / m (Bonferroni's and Holm's; the
    strictest that Benjamini-Hochberg's can be): that is the level here.
    """
    evaluation = report.evaluation
    tests = len(report.points) - 1
    level = evaluation.level if evaluation.correction == "none" else evaluation.level / tests
    rows = []
    for metric in evaluation.metrics:
        for point in report.points:
            if point.fusion is None:
                continue
            x, y, spoken = paired(evaluation, metric, point.name, BASELINE)
            difference = macro_difference([100 * v for v in x], [100 * v for v in y], spoken)
            smallest = smallest_difference(difference, level)
            needed = None
            if wanted is not None:
                needed = questions_needed(difference, len(x), wanted, level)
            rows.append(
                {
                    "metric": metric,
                    "point": point.name,
                    "questions": len(x),
                    "difference": difference.mean,
                    "smallest": smallest if smallest == smallest else None,
                    "needed": needed,
                }
            )
    return {"power": POWER, "level": level, "tests": tests, "wanted": wanted, "rows": rows}


# ---------------------------------------------------------------- what is shown and written


def write_sweep(report: SweepReport, folder: Path, runs: Mapping[str, Run]) -> None:
    """Write `sweep.csv`, `sweep.json`, `table.md` and the runs into a folder."""
    with writing(folder / "sweep.csv") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in report.rows():
            writer.writerow({name: _cell(value) for name, value in row.items()})
    with writing(folder / "table.md") as file:
        file.write(sweep_text(report, "github") + "\n")
    for point, run in runs.items():
        path = f"{RUNS}/{point}.trec"
        write_run(folder / path, run, f"xqg-{point}")
        report.inputs["sha256"][path] = file_sha256(folder / path)
    write_json(folder / "sweep.json", report.as_json())


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    return format(value, ".10g") if isinstance(value, float) else value


def sweep_text(report: SweepReport, style: str = "simple") -> str:
    """Return the tables and what one must know to read them."""
    parts = [_table(report, style), _explanation(report)]
    if report.cross_validation:
        parts.append(_held_out_text(report.cross_validation, style))
    if report.power:
        parts.append(_power_text(report, report.power, style))
    return "\n\n".join(parts)


def _table(report: SweepReport, style: str) -> str:
    """Return points × metrics, best first by the first metric."""
    metrics = report.evaluation.metrics
    scores = report.evaluation.scores
    order = sorted(scores, key=lambda point: -scores[point][metrics[0]].macro)
    best = {metric: report.best(metric) for metric in metrics}
    rows = []
    for point in order:
        cells = []
        for metric in metrics:
            mark = "†" if best[metric] == point else ""
            cells.append(f"{scores[point][metric].macro:.2f}{mark}{_star(report, point, metric)}")
        rows.append([point, *cells])
    return tabulated(rows, ["point", *metrics], style)


def _star(report: SweepReport, point: str, metric: str) -> str:
    test = report.tests.get((point, metric))
    if test is None or not test.significant:
        return ""
    scores = report.evaluation.scores
    gain = scores[point][metric].macro - scores[BASELINE][metric].macro
    x, y, _ = paired(report.evaluation, metric, point, BASELINE)
    net = sum(x) - sum(y)
    # a test over questions can point against the mean over languages: then no mark
    return "*" if gain > 0 and net > 0 else "°" if gain < 0 and net < 0 else ""


def _explanation(report: SweepReport) -> str:
    evaluation = report.evaluation
    count = len(report.points) - 1
    lines = [
        "Scores are 0-100, averaged over languages without weights.",
        f"* significantly above the baseline, ° below ({evaluation.test}, level "
        f"{evaluation.level:g}, correction over {_points(count)}: {evaluation.correction}).",
        f"† TUNED: the best of {count + 1} is chosen by the very questions it is shown for, so "
        "its figure flatters.",
    ]
    if report.cross_validation is None:
        lines[-1] += "  --cross-validate 5 gives the figure that such a choice deserves."
    if evaluation.relevance:
        lines.append(f"Relevance: {evaluation.relevance}.")
    return "\n".join([*lines, *(f"Note: {note}." for note in evaluation.notes)])


def _points(count: int) -> str:
    return "the one point" if count == 1 else f"the {count} points"


def _held_out_text(found: Mapping[str, Any], style: str) -> str:
    what = "for each language" if found["per_language"] else "for all languages"
    title = (
        f"HELD OUT: a point is chosen {what} by {found['select_by']} on {found['folds'] - 1} of "
        f"{found['folds']} folds (--group-by {found['group_by']}, --seed {found['seed']}) and "
        "scored on the other."
    )
    tuned = {entry["metric"]: entry for entry in found["tuned"]}
    rows = [
        [
            entry["metric"],
            f"{entry['score']:.2f}",
            f"{entry['difference']:+.2f}",
            _bounds(entry),
            p_text(entry["p"]),
            f"{tuned[entry['metric']]['score']:.2f}",
        ]
        for entry in found["held_out"]
    ]
    headers = ["metric", "held out", "- baseline", "95% interval", "p", "tuned†"]
    counts: dict[tuple[str, str], int] = {}
    for choice in found["chosen"]:
        spoken = "no language" if choice["language"] == NO_LANGUAGE else choice["language"]
        key = spoken or "", choice["point"]
        counts[key] = counts.get(key, 0) + 1
    chosen = ", ".join(f"{l} {point} ({n})".strip() for (l, point), n in sorted(counts.items()))
    return "\n\n".join([title, tabulated(rows, headers, style), f"Chosen (folds): {chosen}."])


def _bounds(entry: Mapping[str, Any]) -> str:
    if entry["ci_low"] is None:
        return "-"
    return f"{entry['ci_low']:+.2f} … {entry['ci_high']:+.2f}"


def _power_text(report: SweepReport, found: Mapping[str, Any], style: str) -> str:
    title = (
        f"POWER: what a paired t-test at level {found['level']:.2g} finds with probability "
        f"{found['power']:g}, by the spread of each metric's best point against the baseline."
    )
    headers = ["metric", "point", "questions", "difference", "smallest that shows"]
    if found["wanted"] is not None:
        headers.append(f"questions for {found['wanted']:g}")
    rows = []
    for metric in report.evaluation.metrics:
        some = [row for row in found["rows"] if row["metric"] == metric]
        row = max(some, key=lambda row: row["difference"])
        cells = [metric, row["point"], row["questions"], f"{row['difference']:+.2f}"]
        cells.append("-" if row["smallest"] is None else f"{row['smallest']:.2f}")
        if found["wanted"] is not None:
            cells.append("-" if row["needed"] is None else row["needed"])
        rows.append(cells)
    return "\n\n".join([title, tabulated(rows, headers, style)])
