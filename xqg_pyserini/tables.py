"""Tables as values: built once, written as text, Markdown, LaTeX or HTML.

Knows cells, marks and the four notations; it refuses to know scores and files.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

LETTERS = "abcdefghijklmnopqrstuvwxyz"
RAISED = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ"


class Cell(NamedTuple):
    """A cell: its text, and what some notations can show beside it.

    A place is 0 for the letter a, 1 for b …
    """

    text: str  # what all notations show
    raised: Sequence[int] = ()  # places whose letters are raised after the text
    blank: Sequence[int] | None = None  # places that LaTeX leaves space for, to align; None: takes no letters
    bold: bool = False  # LaTeX sets the text in bold
    detail: str = ""  # HTML shows it, small, after the text
    name: bool = False  # the text is a user's; HTML keeps its direction from spoiling the line


def letter(place: int, letters: str = LETTERS) -> str:
    """Return the letter of a place; its number in brackets where the letters end."""
    return letters[place] if place < len(letters) else f"({place + 1})"


Row = Sequence[str | int | Cell]


@dataclass(frozen=True)
class Table:
    """Headers and rows; `print` shows it as text."""

    headers: Sequence[str | Cell]  # one for each column
    rows: Sequence[Row]  # cells, or what becomes the text of one
    caption: str = ""  # shown by LaTeX and HTML
    texts: int = 1  # how many columns, from the left, hold text and not figures
    latex_headers: Sequence[str] | None = None  # where LaTeX calls the columns something else

    def cells(self) -> Iterator[list[Cell]]:
        """Yield the rows, every cell a `Cell`."""
        return (list(map(_cell, row)) for row in self.rows)

    def text(self, style: str = "simple") -> str:
        """Return the table for a terminal (`simple`), or as Markdown (`github`)."""
        from tabulate import tabulate

        bar = "\\|" if style == "github" else "|"
        rows = [
            [one_line(cell.text).replace("|", bar) + _letters(cell.raised, RAISED) for cell in row]
            for row in self.cells()
        ]
        headers = [one_line(_cell(header).text).replace("|", bar) for header in self.headers]
        return tabulate(rows, headers, tablefmt=style, disable_numparse=True)

    __str__ = text

    def markdown(self) -> str:
        """Return the table as Markdown."""
        return self.text("github")

    def latex(self) -> str:
        """Return the table in the layout of ranx's reports; it needs booktabs and graphicx."""
        headers = self.latex_headers or [_latex(_cell(header).text) for header in self.headers]
        columns = "c|l" + "|c" * (len(headers) - 2)
        head = "\n& ".join(f"\\textbf{{{header}}}" for header in headers)
        body = "\n".join(" &\n".join(map(_latex_cell, row)) + " \\\\" for row in self.cells())
        return (
            "% To change the table size, act on the resizebox argument `0.8`.\n"
            f"\\begin{{table*}}[ht]\n\\centering\n\\caption{{\n{self.caption}\n}}\n"
            f"\\resizebox{{0.8\\textwidth}}{{!}}{{\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
            f"{head} \\\\ \n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n}}\n"
            "\\label{tab:results}\n\\end{table*}"
        )

    def html(self) -> str:
        """Return the table as HTML, in a box that scrolls; whatever it holds is escaped."""

        def cells(tag: str, row: Sequence[Cell]) -> str:
            scope = ' scope="col"' if tag == "th" else ""
            kinds = [' class="text"' if i < self.texts else "" for i in range(len(row))]
            return "".join(f"<{tag}{scope}{kind}>{_html(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.cells())
        head = cells("th", [_cell(header) for header in self.headers])
        head = f"<caption>{escape(self.caption)}</caption><thead><tr>{head}</tr></thead>"
        return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _letters(places: Sequence[int], letters: str = LETTERS) -> str:
    return "".join(letter(place, letters) for place in places)


def _cell(value: str | int | Cell) -> Cell:
    return value if isinstance(value, Cell) else Cell(str(value))


def one_line(text: str) -> str:
    """Return a text with what would end its line or its column written out, a tab as a backslash and t."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], text)


_LATEX = {"\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}"}


def _latex(text: str) -> str:
    return re.sub(r"[%&#$_{}\\^~]", lambda found: _LATEX.get(found[0], "\\" + found[0]), one_line(text))


def _latex_cell(cell: Cell) -> str:
    text = f"\\textbf{{{_latex(cell.text)}}}" if cell.bold else _latex(cell.text)
    if cell.raised:
        text += f"$^{{{_letters(cell.raised)}}}$"
    if cell.blank is not None:
        text += f"\\hphantom{{$^{{{_letters(cell.blank)}}}$}}" if cell.blank else "\\hphantom{}"
    return text


def _html(cell: Cell) -> str:
    text = f"<bdi>{escape(cell.text)}</bdi>" if cell.name else escape(cell.text)
    if cell.raised:
        text += f"<sup>{_letters(cell.raised)}</sup>"
    return f"{text} <small>{escape(cell.detail)}</small>" if cell.detail else text
