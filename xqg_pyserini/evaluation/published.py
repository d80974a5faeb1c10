"""Published percentages, checked: a share of n questions is a whole number of hits over n.

The table of a paper, as text: a header, then a row for each system and measure, cells between tabs or commas.

    name            metric  ar    bn    …   average
    questions               309   304   …             (where they are not counted in a file of questions)
    mBERT + xQG     R@2kt   42.4  54.9  …   46.2
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from xqg_pyserini.data import Question, QuestionsLike, as_questions, check_languages, find_language
from xqg_pyserini.data.answers import span_answers
from xqg_pyserini.data.rows import csv_cells
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.measures import parse_metric
from xqg_pyserini.files import Line, check_name, read_lines
from xqg_pyserini.tables import Table

NAME, METRIC, QUESTIONS, AVERAGES = "name", "metric", "questions", ("average", "avg", "macro", "mean")
_NONE = ("", "-", "–", "—")
_PERCENTAGE = re.compile(r"(100|\d{1,2})(\.\d{1,6})?%?")


class PublishedFigure(NamedTuple):
    """One published percentage.

    Attributes:
        name: the row's.
        metric: the row's.
        column: the language, or `average`.
        published: as it is written there.
        questions: n; None for an average.
        nearest: the percentages that can be on both sides of it, as the table would round them; for an average, the
            least and greatest that the languages' figures allow.
        possible: whether the published one can be: some h / n, or mean of such, rounds to it.
    """

    name: str
    metric: str
    column: str
    published: str
    questions: int | None
    nearest: tuple[str, str]
    possible: bool


class Published(NamedTuple):
    """All percentages of a table that were checked, and what was not."""

    figures: list[PublishedFigure]
    notes: list[str]

    @property
    def impossible(self) -> list[PublishedFigure]:
        """Return those that cannot be."""
        return [figure for figure in self.figures if not figure.possible]

    def __str__(self) -> str:
        """Return what cannot be, as a table, and how many figures can."""
        rows = [
            [f.name, f.metric, f.column, f.published, "" if f.questions is None else f"{f.questions}", *f.nearest]
            for f in self.impossible
        ]
        headers = [NAME, METRIC, "language", "published", QUESTIONS, "below", "above"]
        said = f"{len(self.figures)} figures: {len(self.figures) - len(rows)} can be, {len(rows)} cannot"
        return "\n".join([said, *self.notes, *([f"\n{Table(headers, rows, texts=3)}"] if rows else [])])


def check_published(path: str | Path, questions: QuestionsLike | None = None) -> Published:
    """Say which percentages of a published table are no whole number of hits over the questions of their language.

    Args:
        path: the table, TSV or CSV.  Languages are columns; `average` (or `macro`, `avg`, `mean`) is their unweighted
            mean.  A row named `questions` has their numbers, and comes before what it counts.
        questions: where there is no such row: a file, or values, of which those with an answer to look for count.

    A figure of d decimals can be where some h / n rounds to it, halves either way.  Cells that are empty or a dash are
    passed over, and rows of measures that are no shares (nDCG, MRR) noted.

    Raises:
        UserError: for a table that cannot be read, a language without questions, a cell that is no percentage.
    """
    check_name(path)
    path, counts = Path(path), _counted(questions)
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path}: empty; expected a header with name, metric and languages")
    by = "\t" if "\t" in first.text else ","
    columns = _header(first, by)
    figures, notes = [], []
    for line in lines:
        cells = _cells(line, by)
        if len(cells) != len(columns):
            raise line.error(f"{len(cells)} cells, the header has {len(columns)}")
        row = dict(zip(columns, cells, strict=True))
        name, metric = row.pop(NAME), row.pop(METRIC)
        if name.lower() == QUESTIONS:
            counts = {column: _number(line, cell) for column, cell in row.items() if column not in AVERAGES}
        elif _is_share(line, metric):
            figures += _row(line, name, metric, row, counts)
        else:
            notes.append(f"not checked: line {line.number}, {metric} is no share of questions")
    if not figures:
        raise UserError(f"{path}: no percentage to check; {'; '.join(notes) or 'there are no rows'}")
    return Published(figures, notes)


def _counted(questions: QuestionsLike | None) -> Mapping[str, int]:
    asked: list[Question] = [] if questions is None else as_questions(questions)
    return Counter(q.language for q in asked if q.language is not None and span_answers(q.answers))


def _cells(line: Line, by: str) -> list[str]:
    return [cell.strip() for cell in csv_cells(line.text, by) or line.text.split(by)]


def _header(line: Line, by: str) -> list[str]:
    columns = [c.lower() if c.lower() in (NAME, METRIC, *AVERAGES) else c for c in _cells(line, by)]
    if columns[:2] != [NAME, METRIC] or len(columns) < 3 or len(set(columns)) < len(columns):
        raise line.error("no header; expected name, metric, then languages, each once")
    try:
        check_languages([column for column in columns[2:] if column not in AVERAGES])
    except UserError as error:
        raise line.error(f"{error}; expected languages, and perhaps average") from None
    return columns


def _is_share(line: Line, metric: str) -> bool:
    try:
        return parse_metric(metric).binary
    except UserError as error:
        raise line.error(f"{error}") from None


def _number(line: Line, cell: str) -> int:
    if not cell.isdecimal() or not 0 < len(cell) < 10:
        raise line.error(f"{cell!r} questions; expected a whole number")
    return int(cell)


def _row(
    line: Line, name: str, metric: str, row: Mapping[str, str], counts: Mapping[str, int]
) -> list[PublishedFigure]:
    out, least, greatest = [], [], []
    averages = {column: cell for column, cell in row.items() if column in AVERAGES}
    for column, cell in row.items():
        if cell in _NONE or column in averages:
            continue
        known = find_language(column, counts)
        if known is None or not counts[known]:
            raise line.error(f"no questions in {column} are known; give them, or a row named {QUESTIONS}", QUESTIONS)
        value, half = _percentage(line, column, cell)
        n, places = counts[known], _places(cell)
        below = math.floor((value + half) * n / 100)  # the most hits that do not exceed it
        above = math.ceil((value - half) * n / 100)
        possible = above <= below
        if possible:
            least.append(Fraction(100 * above, n))
            greatest.append(Fraction(100 * below, n))
        hits = (math.floor(value * n / 100), math.ceil(value * n / 100))
        nearest = (_shown(Fraction(100 * hits[0], n), places), _shown(Fraction(100 * hits[1], n), places))
        out.append(PublishedFigure(name, metric, column, cell, n, nearest, possible))
    for column, cell in averages.items():
        if cell not in _NONE and least and len(least) == len(row) - len(averages):
            value, half = _percentage(line, column, cell)
            means = [sum(each, Fraction(0)) / len(each) for each in (least, greatest)]
            possible = means[0] - half <= value <= means[1] + half
            shown = (_shown(means[0], _places(cell)), _shown(means[1], _places(cell)))
            out.append(PublishedFigure(name, metric, column, cell, None, shown, possible))
    return out


def _percentage(line: Line, column: str, cell: str) -> tuple[Fraction, Fraction]:
    """Return a cell's value, and half of its last place."""
    if not _PERCENTAGE.fullmatch(cell):
        raise line.error(f"{cell!r} in {column}; expected a percentage, 0 to 100, or a dash")
    return Fraction(Decimal(cell.rstrip("%"))), Fraction(1, 2 * 10 ** _places(cell))


def _places(cell: str) -> int:
    return len(cell.rstrip("%").partition(".")[2])


def _shown(value: Fraction, places: int) -> str:
    return f"{float(value):.{places}f}"
