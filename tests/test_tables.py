"""One table, four notations."""

from xqg_pyserini.tables import Cell, Table, letter

TABLE = Table(
    ["run", "R@2kt"],
    [
        [Cell("a_b & c<i>", name=True), Cell("58.33", [1], [2], bold=True, detail="[1, 2]")],
        ["x", Cell("7.00", (), ())],
        ["y", 3],
    ],
    "Five & more",
)


def test_text_and_markdown_raise_the_letters_of_marks():
    assert str(TABLE).splitlines()[2:] == ["a_b & c<i>  58.33ᵇ", "x           7.00", "y           3"]
    assert TABLE.markdown().splitlines()[0] == "| run        | R@2kt   |"
    assert TABLE.markdown().splitlines()[2] == "| a_b & c<i> | 58.33ᵇ  |"


def test_html_escapes_all_and_shows_details():
    assert TABLE.html() == (
        '<div class="scroll"><table><caption>Five &amp; more</caption><thead><tr>'
        '<th scope="col" class="text">run</th><th scope="col">R@2kt</th></tr></thead><tbody>'
        '<tr><td class="text"><bdi>a_b &amp; c&lt;i&gt;</bdi></td>'
        "<td>58.33<sup>b</sup> <small>[1, 2]</small></td></tr>"
        '<tr><td class="text">x</td><td>7.00</td></tr><tr><td class="text">y</td><td>3</td></tr>'
        "</tbody></table></div>"
    )


def test_latex_keeps_figures_aligned_and_names_as_they_are():
    lines = TABLE.latex().splitlines()
    assert "\\textbf{run}" in lines
    assert lines[lines.index("\\midrule") + 1 :][:4] == [
        "a\\_b \\& c<i> &",
        "\\textbf{58.33}$^{b}$\\hphantom{$^{c}$} \\\\",
        "x &",
        "7.00\\hphantom{} \\\\",
    ]


def test_after_the_letters_come_numbers():
    assert [letter(0), letter(25), letter(26)] == ["a", "z", "(27)"]


def test_names_are_escaped_in_each_notation():
    table = Table(["run", "R"], [[Cell("a\\b^c~{d}", bold=True), 1], ["e\tf\ng|h\x7f", 2]])
    assert "\\textbf{a\\textbackslash{}b\\textasciicircum{}c\\textasciitilde{}\\{d\\}} &" in table.latex()
    assert "\ne\\textbackslash{}tf\\textbackslash{}ng|h\\textbackslash{}x7f &" in table.latex()
    assert str(table).splitlines()[2:] == ["a\\b^c~{d}      1", "e\\tf\\ng|h\\x7f  2"]
    assert table.markdown().splitlines()[3] == "| e\\tf\\ng\\|h\\x7f | 2   |"
