"""Folders of results, read back: what `xqg evaluate` and `xqg sweep` wrote with `--output`.

Knows the two layouts (docs/evaluation.md) and refuses what does not fit them; it computes nothing.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.scores import MACRO, Test
from xqg_pyserini.evaluation.significance import Interval

FORMAT = 1
EVALUATION, SWEEP = "evaluation.json", "sweep.json"
SCORES, POINTS, RUNS = "scores.json", "sweep.csv", "runs"
ALL = "all"

Key = tuple[str, str]  # run and metric, or point and metric
ByLanguage = dict[str, Interval]  # language, and `macro` → score or difference, 0-100


@dataclass(frozen=True)
class Evaluated:
    """A folder of `xqg evaluate`."""

    folder: Path
    about: dict[str, Any]  # evaluation.json
    scores: dict[Key, ByLanguage]
    counts: dict[Key, dict[str, int]]  # questions of each language, and of all
    differences: dict[tuple[str, str, str], ByLanguage]  # a, b, metric → score of a - that of b
    tests: list[Test]
    values: dict[str, dict[str, dict[str, float]]]  # run → metric → question → 0-1

    @property
    def runs(self) -> list[str]:
        """Return the names of the runs, in the order given."""
        return self.about["runs"]

    @property
    def metrics(self) -> list[str]:
        """Return the names of the metrics, in the order given."""
        return self.about["metrics"]

    def difference(self, run: str, other: str, metric: str) -> ByLanguage:
        """Return the score of a run minus that of another."""
        if (run, other, metric) in self.differences:
            return self.differences[run, other, metric]
        turned = self.differences[other, run, metric]
        return {l: Interval(-i.mean, -i.high, -i.low) for l, i in turned.items()}


class Point(NamedTuple):
    """One setting of a sweep; `num_queries` is None for all, and for passages alone."""

    name: str
    form: str
    weight: float | None
    languages: str
    num_queries: int | None
    normalize: bool | None
    center: bool | None


class Verdict(NamedTuple):
    """The test of a point against the baseline."""

    p: float
    p_corrected: float
    significant: bool
    win: int
    tie: int
    loss: int


@dataclass(frozen=True)
class Swept:
    """A folder of `xqg sweep`."""

    folder: Path
    about: dict[str, Any]  # sweep.json
    points: dict[str, Point]
    scores: dict[Key, dict[str, float]]
    counts: dict[Key, dict[str, int]]
    differences: dict[Key, ByLanguage]  # to the baseline
    verdicts: dict[Key, Verdict] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        """Return the names of the metrics, in the order given."""
        return self.about["metrics"]

    @property
    def baseline(self) -> str:
        """Return the point that stands for passages alone."""
        return self.about["baseline"]

    def best(self, metric: str) -> str:
        """Return the point with the highest macro score; the first of equals."""
        return max(self.points, key=lambda name: self.scores[name, metric][MACRO])

    def challenger(self, metric: str) -> str:
        """Return the best point beside the baseline, which it may not beat."""
        others = (name for name in self.points if name != self.baseline)
        return max(others, key=lambda name: self.scores[name, metric][MACRO], default=self.baseline)


def read_results(folder: str | Path) -> Evaluated | Swept:
    """Read a folder of results of either kind; raise `UserError` for another, or a damaged one."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder (expected one that xqg evaluate or xqg sweep wrote with "
            "--output)"
        )
    for name, read in ((EVALUATION, _evaluated), (SWEEP, _swept)):
        if (folder / name).is_file():
            return _whole(folder / name, read)
    hint = "; evaluate again: this one is of an older version" if (folder / SCORES).exists() else ""
    raise UserError(f"{folder}: holds neither {EVALUATION} nor {SWEEP}{hint}")


def _whole(file: Path, read: Callable[[Path, dict[str, Any]], Any]) -> Any:
    try:
        return read(file.parent, _json(file))
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise UserError(
            f"{file.parent}: damaged ({type(error).__name__}: {error}); make the results again"
        ) from None


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: missing; make the results again") from None
    except ValueError as error:
        raise UserError(f"{file}: broken JSON ({error}); make the results again") from None
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected a JSON object; make the results again")
    if value.get("format", FORMAT) != FORMAT:
        raise UserError(f"{file}: format {value['format']}, this version reads {FORMAT}")
    return value


def _need(rows: Iterable[Mapping[str, Any]], *names: str) -> None:
    """Raise `KeyError` where a row lacks a name: a page is made of all of them, or not at all."""
    for row in rows:
        for name in names:
            row[name]


_ABOUT = ("metrics", "test", "correction", "level", "notes")


def interval_of(row: Mapping[str, Any], name: str) -> Interval:
    """Return the interval of a row: `name`, `ci_low`, `ci_high`; what is empty or null is NaN."""
    values = [row[column] for column in (name, "ci_low", "ci_high")]
    return Interval(*(math.nan if value in (None, "") else float(value) for value in values))


def _evaluated(folder: Path, about: dict[str, Any]) -> Evaluated:
    _need([about], "runs", *_ABOUT)
    scores: dict[Key, ByLanguage] = {}
    counts: dict[Key, dict[str, int]] = {}
    for row in about["scores"]:
        key = row["run"], row["metric"]
        scores.setdefault(key, {})[row["language"]] = interval_of(row, "score")
        counts.setdefault(key, {})[row["language"]] = int(row["questions"])
    differences: dict[tuple[str, str, str], ByLanguage] = {}
    for row in about["differences"]:
        three = row["a"], row["b"], row["metric"]
        differences.setdefault(three, {})[row["language"]] = interval_of(row, "difference")
    saved = _json(folder / SCORES)
    values = {
        run: {metric: entry["questions"] for metric, entry in by_metric.items()}
        for run, by_metric in saved["runs"].items()
    }
    tests = [Test(**test) for test in saved["tests"]]
    found = Evaluated(folder, about, scores, counts, differences, tests, values)
    for run in found.runs:
        for metric in found.metrics:
            if MACRO not in found.scores[run, metric] or metric not in values[run]:
                raise KeyError(f"{run} {metric}")
    return found


def _swept(folder: Path, about: dict[str, Any]) -> Swept:
    _need([about], "baseline", *_ABOUT)
    if validation := about.get("cross_validation"):
        _need([validation], "folds", "select_by")
        _need(validation["held_out"], "metric", "score", "difference", "ci_low", "ci_high", "p")
        _need(validation["tuned"], "metric", "point", "score")
        _need(validation["chosen"], "fold", "language", "point")
    if power := about.get("power"):
        _need([power], "power", "level", "tests")
        _need(power["rows"], "metric", "point", "questions", "difference", "smallest", "needed")
    found = Swept(folder, about, {}, {}, {}, {})
    file = folder / POINTS
    if not file.is_file():
        raise UserError(f"{file}: missing; make the results again")
    with open(file, encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), 2):
            try:
                _take_row(found, row)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{file}, line {number}: {type(error).__name__} ({error}); make the sweep again"
                ) from None
    for metric in found.metrics:
        for point in [found.baseline, *found.points]:
            if MACRO not in found.scores[point, metric]:
                raise KeyError(f"{point} {metric} {MACRO}")
    return found


def _flag(cell: str) -> bool | None:
    return {"1": True, "0": False, "": None}[cell]


def _take_row(found: Swept, row: dict[str, str]) -> None:
    name, metric, language = row["point"], row["metric"], row["language"]
    found.points[name] = Point(
        name,
        row["form"],
        float(row["weight"]) if row["weight"] else None,
        row["languages"],
        int(row["num_queries"]) if row["num_queries"] not in (ALL, "") else None,
        _flag(row["normalize"]),
        _flag(row["center"]),
    )
    key = name, metric
    found.scores.setdefault(key, {})[language] = float(row["score"])
    found.counts.setdefault(key, {})[language] = int(row["questions"])
    if row["difference"]:
        found.differences.setdefault(key, {})[language] = interval_of(row, "difference")
    if language == MACRO and row["p"]:
        found.verdicts[key] = Verdict(
            float(row["p"]),
            float(row["p_corrected"]),
            bool(_flag(row["significant"])),
            *(int(row[column]) for column in ("win", "tie", "loss")),
        )
