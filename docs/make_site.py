"""Builds the documentation site, strictly: python docs/make_site.py [FOLDER], by default site/ (`make docs`).

The pages are written for the repository's browser, and links lead from file to file there. Here they are
laid out as a site in build/site: README and the pages beside the code move in, links follow, each
command and each package of the public interface gets a page, and Zensical makes HTML of them. A warning
is an error.
"""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
STAGE = ROOT / "build" / "site"
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
NOT_RUN = re.compile(r'^```(\w+) \{\.not-run reason="([^"]+)"\}$', re.MULTILINE)
SLOW = re.compile(r"^```(\w+) \{\.slow\}$", re.MULTILINE)


def sources() -> dict[str, str]:
    """Return the pages' paths in the repository, each with its path in the site."""
    found = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    found["benchmarks/README.md"] = "benchmarks.md"
    for path in sorted(ROOT.glob("studies/*/README.md")):
        found[str(path.relative_to(ROOT))] = f"studies/run/{path.parent.name}.md"
    for path in sorted((ROOT / "docs").rglob("*.md")):
        found[str(path.relative_to(ROOT))] = str(path.relative_to(ROOT / "docs"))
    return found | {"docs/commands.md": "commands/index.md"}


def stage() -> None:
    """Write the pages, the files that they link to, and the configuration into STAGE."""
    shutil.rmtree(STAGE, ignore_errors=True)
    places = sources()
    config = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text("utf-8"))
    if lost := set(places.values()) - set(re.findall(r"[\w/-]+\.md", str(config["nav"]))):
        sys.exit(f"docs/mkdocs.yml: no place in nav for {', '.join(sorted(lost))}")
    for source, place in places.items():
        _write(place, _moved((ROOT / source).read_text("utf-8"), source, places))
    python = config["plugins"][-1]["mkdocstrings"]["handlers"]["python"]
    python["paths"] = [str(ROOT)]
    python["options"]["extensions"] = [str(ROOT / "docs" / "griffe_options.py")]
    for section in config["nav"]:
        for title, pages in section.items():
            if title == "Commands":
                pages += _write_commands(places)
            if title == "Python":
                pages += _write_api()
    (STAGE / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "utf-8")


def _write(place: str, text: str) -> None:
    path = STAGE / "pages" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _moved(text: str, source: str, places: dict[str, str]) -> str:
    """Return a page as it stands in the site: links lead to where their files are there."""

    def follow(found: re.Match) -> str:
        opening, link, anchor, closing = found.groups(default="")
        if ":" in link:
            return found[0]
        target = os.path.normpath(Path(source).parent / link)
        if target == "docs/commands.md" and anchor.startswith("#xqg-"):
            place, anchor = f"commands/{anchor.removeprefix('#xqg-')}.md", ""
        elif target in places:
            place = places[target]
        else:
            place = target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target}"
            copy = STAGE / "pages" / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / target, copy)
        return opening + os.path.relpath(place, Path(places[source]).parent) + anchor + closing

    parts = FENCE.split(text)  # every second one is a fenced block
    parts[::2] = [LINK.sub(follow, part) for part in parts[::2]]
    parts[1::2] = [SLOW.sub(r"```\1", NOT_RUN.sub(r'```\1 title="not run by the tests: \2"', p)) for p in parts[1::2]]
    return "".join(parts)


def _write_commands(places: dict[str, str]) -> list[dict[str, str]]:
    """Write a page for each command, and a list of them; return them as entries of the navigation."""
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))
    rows, entries = [], []
    for name, section in made["sections"]().items():
        file = f"{name.replace(' ', '-')}.md"
        table = section.replace("## xqg", "# xqg", 1).replace("| | |", "| flag | what it says |", 1)
        _write(f"commands/{file}", _moved(table.lstrip(), "docs/commands.md", places))
        what = section.splitlines()[3]  # below its heading
        rows.append(f"| [`xqg {name}`]({file}) | {what} |\n")
        entries.append({f"xqg {name}": f"commands/{file}"})
    head = _moved(made["HEAD"], "docs/commands.md", places)
    _write("commands/index.md", head + "\n| command | what it does |\n|---|---|\n" + "".join(rows))
    return entries


def _write_api() -> list[dict[str, str]]:
    """Write a page for each package that gives public names; return them as entries of the navigation."""
    names: dict[str, list[str]] = {}
    package = ROOT / "xqg_pyserini"
    for node in ast.parse((package / "__init__.pyi").read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names.setdefault(str(node.module).split(".")[0], []).extend(alias.name for alias in node.names)
    rows, entries = [], []
    for group, public in sorted(names.items()):
        code = package / group / "__init__.py" if (package / group).is_dir() else package / f"{group}.py"
        says = (ast.get_docstring(ast.parse(code.read_text("utf-8"))) or "").split("\n\n")[0].replace("\n", " ")
        blocks = "".join(f"\n::: xqg_pyserini.{name}\n" for name in public)
        _write(f"api/{group}.md", f"# {group}\n\n{says}\n{blocks}")
        links = ", ".join(f"[`{name}`]({group}.md#xqg_pyserini.{name})" for name in public)
        rows.append(f"| [{group}]({group}.md) | {links} |\n")
        entries.append({group: f"api/{group}.md"})
    head = "# Reference\n\nThe names of `import xqg_pyserini as xqg`, by the package that each comes from.\n\n"
    _write("api/index.md", head + "| package | names |\n|---|---|\n" + "".join(rows))
    return [{"Reference": ["api/index.md", *entries]}]


def build(site: Path) -> None:
    """Build the site into a folder; exit with 1 where there is a warning."""
    stage()
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=STAGE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, end="")
    if done.returncode or re.search("^(griffe|mkdocstrings): ", done.stdout, re.MULTILINE):  # which are no errors to it
        sys.exit("the site has not been built: see the warnings above")
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(STAGE / "site", site)


if __name__ == "__main__":
    build(Path(sys.argv[1] if sys.argv[1:] else ROOT / "site"))
