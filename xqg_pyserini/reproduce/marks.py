"""Scores as they should be, and as they are: the marks OK, close and FAIL, as Pyserini's pages give them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from xqg_pyserini.reproduce.matrix import LANGUAGE, Condition, Expected, Matrix
from xqg_pyserini.tables import Table

AVERAGE = "average"
Mark = Literal["OK", "close", "FAIL", ""]
Found = Mapping[tuple[str, str], Mapping[str, float]]  # (run, metric) → language → score


class Figure(Struct, frozen=True):
    """A score: expected, and got (None where there is none); the mark of a condition that was not run is empty."""

    run: str
    metric: str
    language: str
    expected: float
    got: float | None
    mark: Mark
    source: str


class Outcome(Struct, frozen=True):
    """What became of a condition: its figures; `failed`, the last line of the command that did not end well."""

    condition: str
    ran: bool
    figures: list[Figure]
    failed: str = ""


class Reproduced(Struct, frozen=True):
    """What became of a matrix, and where its page is."""

    matrix: str
    version: str
    outcomes: list[Outcome]
    page: str

    @property
    def fails(self) -> int:
        """Return the number of figures marked FAIL, and of conditions with a failed command and no figure."""
        marks = [f.mark for outcome in self.outcomes for f in outcome.figures]
        return marks.count("FAIL") + sum(bool(o.failed and not o.figures) for o in self.outcomes)

    def __str__(self) -> str:
        """Return the figures of what was run as a table, and which commands failed."""
        rows = [row for outcome in self.outcomes if outcome.ran for row in figure_rows(outcome)]
        lines = [Table(FIGURE_HEADERS, rows, texts=4).text()] if rows else []
        lines += [f"{o.condition}: {o.failed}" for o in self.outcomes if o.failed]
        counts = {mark: sum(row[-1] == mark for row in rows) for mark in ("OK", "close", "FAIL")}
        return "\n".join([*lines, ", ".join(f"{n} {mark}" for mark, n in counts.items())])


FIGURE_HEADERS = ["condition", "run", "metric", "language", "expected", "got", "mark"]


def figure_rows(outcome: Outcome) -> list[list[str]]:
    """Return the cells of a condition's figures, below `FIGURE_HEADERS`."""
    return [[outcome.condition, f.run, f.metric, f.language, *_shown(f), f.mark or "not run"] for f in outcome.figures]


def _shown(figure: Figure) -> tuple[str, str]:
    """Return what is expected and what was got, with the decimals of the first; at least two, of shares four."""
    places = max(4 if abs(figure.expected) <= 1 else 2, len(f"{figure.expected:g}".partition(".")[2]))
    return f"{figure.expected:.{places}f}", "-" if figure.got is None else f"{figure.got:.{places}f}"


def not_run(condition: Condition) -> Outcome:
    """Return the figures of a condition that was not run."""
    return Outcome(condition.name, False, [_figure(*each, None, "") for each in _wanted(condition)])


def outcome_of(matrix: Matrix, condition: Condition, found: Found, failed: str) -> Outcome:
    """Return a condition's figures with their marks; `failed`, why it ended early, if it did."""
    figures = []
    for expected, language, value in _wanted(condition):
        got = _got(expected, language, condition.languages, found)
        tolerance = expected.tolerance or matrix.tolerance
        mark: Mark = "FAIL"
        if got is not None:
            away = round(abs(got - value), 9)
            mark = "OK" if away <= tolerance.ok else "close" if away <= tolerance.close else "FAIL"
        figures.append(_figure(expected, language, value, got, mark))
    missing = next((f for f in figures if f.got is None), None)
    if missing and not failed:
        there = ", ".join(f"{run} {metric}" for run, metric in found) or "none"
        failed = f"no score of {missing.run}, {missing.metric}, {missing.language}; there are: {there}"
    return Outcome(condition.name, True, figures, failed)


def _wanted(condition: Condition) -> Iterator[tuple[Expected, str, float]]:
    for expected in condition.expected:
        for language, value in expected.values.items():
            yield expected, language, value


def _figure(expected: Expected, language: str, value: float, got: float | None, mark: Mark) -> Figure:
    own = expected.tolerance
    source = f"{expected.source} (OK within {own.ok:g}, close within {own.close:g})" if own else expected.source
    run = expected.run if language == AVERAGE else expected.run.replace(f"{{{LANGUAGE}}}", language)
    return Figure(run, expected.metric, language, value, got, mark, source)


def _got(expected: Expected, language: str, languages: Sequence[str], found: Found) -> float | None:
    """Return a score; where each language has a run of its own, the average is that of their averages."""
    placeholder = f"{{{LANGUAGE}}}"
    if placeholder not in expected.run:
        return found.get((expected.run, expected.metric), {}).get(language)
    of = languages if language == AVERAGE else [language]
    scores = [found.get((expected.run.replace(placeholder, l), expected.metric), {}).get(AVERAGE) for l in of]
    known = [score for score in scores if score is not None]
    return sum(known) / len(of) if len(known) == len(of) else None
