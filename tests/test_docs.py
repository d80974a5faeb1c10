"""The documentation says what the code does."""

import re
import runpy

import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_page_of_commands_is_the_parser_s():
    page = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text("utf-8") == page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_can_be_typed(page):
    from xqg_pyserini.cli.main import parser

    text = page.read_text("utf-8").replace("\\\n", " ")
    typed = re.findall(r"^    (xqg (?!pyserini|COMMAND)[^\n#]*)", text, flags=re.MULTILINE)
    for command in typed:
        words = command.replace("'", "").replace('"query: "', "q").replace('"passage: "', "p")
        if "…" not in words and "$" not in words:
            parser().parse_args(words.split()[1:])
    assert typed or page.name not in ("README.md", "quickstart.md", "evaluation.md")
