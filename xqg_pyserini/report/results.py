"""Results and their folders: what `evaluate` and `run_sweep` return, written and read back.

Knows the two layouts (docs/evaluation.md, docs/formats.md) and refuses what does not fit them.
"""

import csv
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from xqg_pyserini.data import (
    CorpusFields,
    QuestionFields,
    QuestionFiles,
    RunFile,
    describe_sources,
    fields_of,
    write_run,
)
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.choosing import interval_json
from xqg_pyserini.evaluation.results import (
    MACRO,
    ByLanguage,
    ComparingSettings,
    Comparison,
    Comparisons,
    LanguageScore,
    PointSettings,
    Results,
    RunScores,
    Scores,
)
from xqg_pyserini.evaluation.significance import CONFIDENCE, Interval
from xqg_pyserini.evaluation.tables import macro_table
from xqg_pyserini.files import file_sha256, is_named, write_json, writing, writing_folder
from xqg_pyserini.metadata import checked, read_json
from xqg_pyserini.report.tables import results_text
from xqg_pyserini.tables import LETTERS, one_line

Differences = dict[tuple[str, str, str], ByLanguage]  # as `Scores.stored`
FORMAT = 1
AGAIN = "make the results again"
EVALUATION, SWEEP = "evaluation.json", "sweep.json"
SCORES, POINTS, RUNS = "scores.json", "sweep.csv", "runs"
ALL = "all"
VERDICT = ("p", "p_corrected", "significant", "win", "tie", "loss")
COLUMNS = (
    *PointSettings._fields,
    *("metric", "language", "questions", "score", "difference", "ci_low", "ci_high", *VERDICT),
)
PATHS = ("passages", "queries", "align", "questions", "corpus", "qrels", "runs")


def record_inputs(output: str | Path, **inputs: Any) -> dict[str, Any]:
    """Return what is recorded of what results were made from (`Results.inputs`).

    Paths stay as they are given; relative ones hold from here, or else from the folder `output`. Call it before the
    inputs are read: the checksums of questions and runs are taken now.

    Args:
        output: the folder that the results will be written to.
        inputs: paths (`questions`, `corpus`, `qrels`, `passages`, `queries`, a list of `runs`), which may be
            `QuestionFiles`, `CorpusFile` and `RunFile`s, and how they are read (`language`, `names`, `with_title`, …),
            in the order in which they are written.
    """
    recorded = {name: _plain(value) if name in (*PATHS, "language") else value for name, value in inputs.items()}
    questions, runs = inputs.get("questions"), inputs.get("runs") or ()
    how = {"question_fields": fields_of(questions, QuestionFields), "names": inputs.get("names")}
    how |= {"corpus_fields": fields_of(inputs.get("corpus"), CorpusFields)}
    how["order"] = next((run.order for run in runs if isinstance(run, RunFile) and run.order != "rank"), None)
    recorded |= {"runs": list(map(str, runs))} if "runs" in inputs else {}
    recorded = {name: value for name, value in recorded.items() if name not in how}
    recorded |= {name: value for name, value in how.items() if value}
    sums = {}
    for path in [*several(recorded.get("questions")), *recorded.get("runs", ())]:
        for file in (path, os.path.normpath(os.path.join(output, path))):
            if path not in sums and os.path.isfile(file):
                sums[path] = file_sha256(file)
    read = {"questions": "question", "corpus": "passage", "qrels": "judgement"}
    given = [(each, what) for name, what in read.items() for each in several(recorded.get(name))]
    if sets := {each: describe_sources(each, what) for each, what in given if is_named(each)}:
        recorded["data_sets"] = sets
    return {**recorded, "sha256": sums}


def _plain(value: Any) -> Any:
    """Return paths or codes as JSON has them: one alone, None, or a list of several."""
    values = value.files if isinstance(value, QuestionFiles) else value
    if isinstance(values, str | os.PathLike) or not values:
        return None if values is None else str(values)
    return str(values[0]) if len(values) == 1 else list(map(str, values))


def several(value: Any) -> list[str]:
    """Return what was recorded as one, several or None, as a list."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


# ---------------------------------------------------------------- writing


def write_results(results: Results, output: str | Path, *, overwrite: bool = False, keep_runs: bool = False) -> None:
    """Write the folder of an evaluation or a sweep (docs/evaluation.md, docs/formats.md).

    Args:
        results: what is written; `record_inputs` says what they were made from.
        output: the folder.
        overwrite: replace what it holds; never one of the inputs.
        keep_runs: write a TREC run for each point of a sweep as well.

    Raises:
        UserError: for an output that holds something, or an input.
    """
    with writing_folder(output, overwrite, input_paths(results)) as folder:
        if results.points:
            _write_sweep(results, folder, keep_runs)
        else:
            _write_evaluation(results, folder)
        with writing(folder / "table.md") as file:
            file.write(results_text(results, per_language=True, style="github") + "\n")


def input_paths(results: Results) -> list[str]:
    """Return the paths that the results were made from, as they were given."""
    inputs = results.inputs or {}
    return [path for name in PATHS for path in several(inputs.get(name))]


def results_json(results: Results) -> dict[str, Any]:
    """Return what `scores.json` holds of an evaluation, `sweep.json` of a sweep."""
    return _sweep_json(results) if results.points else results.compared.as_json()


def _write_evaluation(results: Results, folder: Path) -> None:
    write_json(folder / SCORES, results.compared.as_json())
    write_json(folder / EVALUATION, _evaluation_json(results))
    scores = results.scores
    if len(scores) <= len(LETTERS):
        with writing(folder / "table.tex") as file:
            file.write("% Needs in the preamble: \\usepackage{booktabs} \\usepackage{graphicx}\n")
            file.write(f"% p-values corrected over all pairs of runs: {results.compared.settings.correction}\n")
            file.writelines(f"% {' '.join(note.split())}\n" for note in scores.notes)
            file.write(macro_table(scores, results.compared).latex() + "\n")
    tables = {f"{run} {metric}": scores[run][metric] for run in scores.runs for metric in scores.metrics}
    languages = {qid: table.languages[qid] for table in tables.values() for qid in table.by_question}
    with writing(folder / "per-question.tsv") as file:
        file.write("\t".join(["id", "language", *map(one_line, tables)]) + "\n")
        for qid, language in languages.items():
            values = [table.by_question.get(qid) for table in tables.values()]
            cells = ["" if value is None else format(value, "g") for value in values]
            file.write("\t".join([qid, language, *cells]) + "\n")


def _write_sweep(results: Results, folder: Path, keep_runs: bool) -> None:
    with writing(folder / POINTS) as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in sweep_rows(results):
            writer.writerow({name: _csv_cell(value) for name, value in row.items()})
    if keep_runs:
        inputs = results.inputs or {}
        results.inputs = {**inputs, "sha256": dict(inputs.get("sha256", {}))}
        for point, run in results.runs.items():
            path = f"{RUNS}/{point}.trec"
            write_run(folder / path, run, f"xqg-{point}")
            results.inputs["sha256"][path] = file_sha256(folder / path)
    write_json(folder / SWEEP, _sweep_json(results))


def _about(results: Results) -> dict[str, Any]:
    """Return what both kinds have to say of themselves."""
    return {
        **vars(results.compared.settings),
        "relevance": results.scores.relevance,
        "notes": results.scores.notes,
        "inputs": results.inputs,
    }


def _evaluation_json(results: Results) -> dict[str, Any]:
    """Return what `evaluation.json` holds: what the scores were made from, how sure they are."""
    scores = results.scores
    rows: list[dict[str, Any]] = []
    for run in scores:
        for metric, of_run in scores[run].items():
            counts = {l: group.count for l, group in of_run.by_language.items()} | {MACRO: of_run.count}
            asked = Counter(of_run.languages.values()) | {MACRO: of_run.asked}
            for language, interval in of_run.intervals.items():
                row = {"run": run, "metric": metric, "language": language, "questions": counts[language]}
                if counts[language] < asked[language]:
                    row["asked"] = asked[language]
                rows.append(row | interval_json("score", interval))
    differences = [
        {"a": a, "b": b, "metric": metric, "language": language, **interval_json("difference", interval)}
        for a, b in combinations(scores.runs, 2)
        for metric in scores.metrics
        for language, interval in scores.difference(a, b, metric).items()
    ]
    return {
        "format": FORMAT,
        "kind": "evaluation",
        "runs": scores.runs,
        "metrics": scores.metrics,
        **_about(results),
        "confidence": CONFIDENCE,
        "scores": rows,
        "differences": differences,
    }


def _sweep_json(results: Results) -> dict[str, Any]:
    """Return what `sweep.json` holds (docs/formats.md)."""
    scores, baseline = results.scores, results.compared.baseline
    assert baseline is not None
    return {
        "format": FORMAT,
        "kind": "sweep",
        "metrics": scores.metrics,
        "baseline": baseline,
        "points": [point._asdict() for point in results.points.values()],
        "questions": len(scores[baseline][scores.metrics[0]].languages),
        **_about(results),
        "cross_validation": results.cross_validation,
        "power": results.power,
    }


def sweep_rows(results: Results) -> Iterator[dict[str, Any]]:
    """Yield what `sweep.csv` holds: a row for each point, metric and language, then macro."""
    compared, scores = results.compared, results.scores
    assert compared.baseline is not None
    for name, point in results.points.items():
        for metric, of_point in scores[name].items():
            gains = scores.difference(name, compared.baseline, metric)
            settings = {**point._asdict(), "metric": metric}
            for language, group in of_point.by_language.items():
                row = {"language": language, "questions": group.count, "score": group.score}
                yield settings | row | interval_json("difference", gains[language])
            row = {"language": MACRO, "questions": of_point.count, "score": of_point.macro}
            test = compared.of(name, compared.baseline, metric)
            verdict = {} if test is None else {key: getattr(test, key) for key in VERDICT}
            yield settings | row | interval_json("difference", gains[MACRO]) | verdict


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    return format(value, ".10g") if isinstance(value, float) else value


# ---------------------------------------------------------------- reading


_Files = str | list[str] | None


class _Inputs(Struct):
    """What results say that they were made from, as far as it is read."""

    questions: _Files = None
    corpus: _Files = None
    qrels: _Files = None
    passages: _Files = None
    queries: _Files = None
    runs: list[str] | None = None
    language: _Files = None
    names: list[str] | None = None
    order: str | None = None
    question_fields: dict[str, str | bool] | None = None
    corpus_fields: dict[str, str | bool] | None = None
    sha256: dict[str, str] | None = None


class _Row(Struct):
    questions: int
    asked: int | None = None


class _HeldOut(Struct):
    metric: str
    score: float
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float


class _Tuned(Struct):
    metric: str
    point: str
    score: float


class _Choice(Struct):
    fold: int
    language: str | None
    point: str


class _Validation(Struct):
    folds: int
    select_by: str
    held_out: list[_HeldOut]
    tuned: list[_Tuned]
    chosen: list[_Choice]


class _Seen(Struct):
    metric: str
    point: str
    questions: int
    difference: float
    smallest: float | None
    needed: float | None


class _Power(Struct):
    power: float
    level: float
    tests: int
    rows: list[_Seen]


class _Scored(Struct):
    """What `scores.json` says of a run by a measure."""

    questions: dict[str, float]
    languages: dict[str, LanguageScore]


class _About(Struct):
    """What `evaluation.json` and `sweep.json` say, as far as both have it."""

    metrics: Annotated[list[str], Meta(min_length=1)]
    notes: list[str]
    runs: Annotated[list[str], Meta(min_length=1)] | None = None
    relevance: str | None = None
    baseline: str | None = None
    inputs: _Inputs | None = None
    scores: list[_Row] = []
    cross_validation: _Validation | None = None
    power: _Power | None = None


def read_results(folder: str | Path) -> Results:
    """Read a folder of results of either kind; raise `UserError` for another, or a damaged one."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder (expected one that xqg evaluate or xqg sweep wrote)")
    for name, read in ((EVALUATION, _read_evaluation), (SWEEP, _read_sweep)):
        if (folder / name).is_file():
            about = _json(folder / name)
            checked(about, _About, folder / name, AGAIN)
            try:
                return read(folder, about)
            except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
                why = f"{type(error).__name__}: {error}"
                raise UserError(f"{folder}: damaged ({why}); make the results again") from None
    hint = "; evaluate again: this one is of an older version" if (folder / SCORES).exists() else ""
    raise UserError(f"{folder}: holds neither {EVALUATION} nor {SWEEP}{hint}")


def _json(file: Path) -> dict[str, Any]:
    value = read_json(file, dict[str, Any], AGAIN)
    if value.get("format", FORMAT) != FORMAT:
        raise UserError(f"{file}: format {value['format']}, this version reads {FORMAT}")
    return value


def interval_of(row: Mapping[str, Any], name: str) -> Interval:
    """Return the interval of a row: `name`, `ci_low`, `ci_high`; what is empty or null is NaN."""
    values = [row[column] for column in (name, "ci_low", "ci_high")]
    return Interval(*(math.nan if value in (None, "") else float(value) for value in values))


def _results(
    folder: Path,
    about: dict[str, Any],
    by_run: dict[str, dict[str, RunScores]],
    differences: Differences,
    tests: Iterable[Comparison],
) -> Results:
    """Return what both kinds have in common."""
    scores = Scores(by_run, about.get("relevance"), list(about["notes"]), stored=differences)
    tests = list(tests)
    for test in tests:  # is of runs and measures that are there
        differences[test.a, test.b, test.metric], by_run[test.a][test.metric], by_run[test.b][test.metric]
    settings = ComparingSettings(about["test"], about["correction"], about["level"])
    compared = Comparisons(scores, tuple(tests), settings, about.get("baseline"))
    return Results(compared, about.get("inputs"), folder=folder)


def _read_evaluation(folder: Path, about: dict[str, Any]) -> Results:
    intervals: dict[tuple[str, str], ByLanguage] = {}
    asked: dict[tuple[str, str], int] = {}
    for row in about["scores"]:
        if row["language"] == MACRO:
            asked[row["run"], row["metric"]] = row.get("asked", row["questions"])
        intervals.setdefault((row["run"], row["metric"]), {})[row["language"]] = interval_of(row, "score")
    differences: Differences = {}
    for row in about["differences"]:
        gains = differences.setdefault((row["a"], row["b"], row["metric"]), {})
        gains[row["language"]] = interval_of(row, "difference")
    saved = _json(folder / SCORES)
    by_run: dict[str, dict[str, RunScores]] = {run: {} for run in about["runs"]}
    for run, by_metric in by_run.items():
        for metric in about["metrics"]:
            stored = intervals[run, metric]
            if MACRO not in stored:
                raise KeyError(f"{run} {metric}")
            entry = checked(saved["runs"][run][metric], _Scored, folder / SCORES, AGAIN)
            macro, all_asked = stored[MACRO].mean, asked[run, metric]
            by_metric[metric] = RunScores(entry.questions, entry.languages, macro, asked=all_asked, stored=stored)
    tests = checked(saved["tests"], list[Comparison], folder / SCORES, AGAIN)
    return _results(folder, about, by_run, differences, tests)


def _read_sweep(folder: Path, about: dict[str, Any]) -> Results:
    validation, power = about.get("cross_validation"), about.get("power")
    file = folder / POINTS
    if not file.is_file():
        raise UserError(f"{file}: missing; make the results again")
    points: dict[str, PointSettings] = {}
    cells: dict[tuple[str, str], dict[str, LanguageScore]] = {}
    differences: Differences = {}
    tests = []
    with open(file, encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), 2):
            try:
                point = _point(row)
                points[point.point] = point
                score = LanguageScore(int(row["questions"]), None, float(row["score"]))
                cells.setdefault((point.point, row["metric"]), {})[row["language"]] = score
                gains = differences.setdefault((point.point, about["baseline"], row["metric"]), {})
                if row["difference"]:
                    gains[row["language"]] = interval_of(row, "difference")
                if row["language"] == MACRO and row["p"]:
                    tests.append(_verdict(row, about))
            except (KeyError, TypeError, ValueError) as error:
                why = f"{type(error).__name__} ({error})"
                raise UserError(f"{file}, line {number}: {why}; make the sweep again") from None
    by_run: dict[str, dict[str, RunScores]] = {}
    for name in [about["baseline"], *points]:
        for metric in about["metrics"]:
            by_language = dict(cells[name, metric])
            macro = by_language.pop(MACRO).score
            by_run.setdefault(name, {})[metric] = RunScores({}, by_language, macro, stored={})
    results = _results(folder, about, by_run, differences, tests)
    results.points, results.cross_validation, results.power = points, validation, power
    return results


def _flag(cell: str) -> bool | None:
    return {"1": True, "0": False, "": None}[cell]


def _point(row: Mapping[str, str]) -> PointSettings:
    weight = float(row["weight"]) if row["weight"] else None
    number = row["num_queries"]
    queries = number if number == ALL else int(number) if number else None
    flags = _flag(row["normalize"]), _flag(row["center"])
    added = row.get("shrink_queries")
    how = queries, *flags, float(added) if added else None, row.get("align") or None
    return PointSettings(row["point"], row["form"], weight, row["languages"] or None, *how)


def _verdict(row: Mapping[str, str], about: Mapping[str, Any]) -> Comparison:
    p, p_corrected = float(row["p"]), float(row["p_corrected"])
    counts = (int(row[column]) for column in ("win", "tie", "loss"))
    settings = row["point"], about["baseline"], row["metric"], about["test"]
    return Comparison(*settings, p, p_corrected, bool(_flag(row["significant"])), *counts)
