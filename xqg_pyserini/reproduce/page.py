"""A matrix as a page: every condition's scores with their marks, and the command lines behind them, as HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from xqg_pyserini import __version__
from xqg_pyserini.files import writing
from xqg_pyserini.report.page import filled
from xqg_pyserini.report.page_parts import Parts, named
from xqg_pyserini.reproduce.marks import FIGURE_HEADERS, Outcome, figure_rows
from xqg_pyserini.reproduce.matrix import Condition, Matrix
from xqg_pyserini.tables import Cell, Row, Table


def write_matrix_page(
    matrix: Matrix, outcomes: Sequence[Outcome], seconds: Mapping[str, float | None], path: Path
) -> Path:
    """Write the page of a matrix, which needs nothing else; `seconds`: command line → how long it took, if done."""
    sections = [_section(*each, seconds) for each in zip(matrix.conditions, outcomes, strict=True)]
    marks = [f.mark for outcome in outcomes for f in outcome.figures]
    counts = ", ".join(f"{marks.count(mark)} {mark}" for mark in ("OK", "close", "FAIL"))
    left = len([outcome for outcome in outcomes if not outcome.ran])
    lead = f'<p class="lead">{escape(matrix.description)}</p>'
    lead += f'<p class="quiet">{len(outcomes) - left} of {len(outcomes)} conditions were run. OK is within '
    lead += f"{matrix.tolerance.ok:g} of the expected score, close within {matrix.tolerance.close:g}, unless a row's "
    lead += "source says otherwise.</p>"
    footer = f"<h2>How it was made</h2><p>xqg_pyserini {escape(__version__)}, xqg reproduce.</p>"
    parts = Parts("Reproduction", matrix.name, f"{named(matrix.name)}: {counts}", lead, "".join(sections), footer)
    with writing(path) as file:
        file.write(filled(parts, parts.figures, {}))
    return path


def _section(condition: Condition, outcome: Outcome, seconds: Mapping[str, float | None]) -> str:
    text = f"<h2>{named(condition.name)}</h2><p>{escape(condition.description)}</p>"
    if not outcome.ran:
        needs = f": it needs {escape(', '.join(condition.needs))}" if condition.needs else ""
        text += f'<p class="quiet">Not run{needs}.</p>'
    if outcome.failed:
        text += f'<p class="warn">{escape(outcome.failed)}</p>'
    rows: list[Row] = []
    for row, figure in zip(figure_rows(outcome), outcome.figures, strict=True):
        rows.append([Cell(row[1], name=True), *row[2:], figure.source])
    if rows:
        text += Table([*FIGURE_HEADERS[1:], "source of what is expected"], rows, texts=3).html()
    lines = [f"{escape(str(command))}{_took(seconds.get(str(command)))}" for command in condition.commands]
    if not lines:
        return f'{text}<p class="quiet">No command here makes it.</p>'
    shown = f'<pre class="scroll">{chr(10).join(lines)}</pre>'
    return f"{text}<details><summary>The commands ({len(lines)})</summary>{shown}</details>"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f'  <span class="quiet"># {seconds:.0f} s</span>'
