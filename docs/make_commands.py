"""Writes docs/commands.md from the parser: python docs/make_commands.py (a test compares them).

The site has a page for each of its sections (docs/make_site.py).
"""

import argparse
from pathlib import Path

from xqg_pyserini.cli.main import parser

HEAD = """\
# Commands

`xqg COMMAND` is `python -m xqg_pyserini COMMAND`. This page is made from the command line itself by
`python docs/make_commands.py`.

Results go to stdout, as JSON with `--json`; progress bars to stderr, where it is a terminal. What
you can mend is an error of one line on stderr and exit code 2; nothing half-written is left behind.
Warnings stand on stderr after a success. Folders that hold something are replaced only with
`--overwrite`; runs and submissions are replaced in one step. A killed `generate`, `filter`,
`encode`, `accumulate`, `align`, `merge`, `rerank`, `reproduce` or `train` goes on when the same command is run again,
and `index` with `--num-shards`.

Wherever a corpus, questions, qrels or generated queries are read, `hf:NAME[:CONFIG[:SPLIT]][@REVISION]` and
`irds:NAME` stand for data sets ([bring your files](bring-your-files.md#data-sets-by-name)).
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(sections().values())


def sections() -> dict[str, str]:
    """Return each command's section by its name; a command of several kinds has one for each."""
    (commands,) = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    subs: dict[str, argparse.ArgumentParser] = {}
    for name, sub in commands.choices.items():
        kinds = [a for a in sub.filled()._actions if isinstance(a, argparse._SubParsersAction)]
        subs |= {f"{name} {kind}": one for a in kinds for kind, one in a.choices.items()} or {name: sub.filled()}
    return {name: _section(name, sub) for name, sub in subs.items()}


def _section(name: str, sub: argparse.ArgumentParser) -> str:
    lines = [f"\n## xqg {name}\n", f"{sub.description}\n", "| | |", "|---|---|"]
    for action in sub._actions:
        if action.dest not in ("help", "verbose"):
            lines.append(f"| {_flag(action)} | {_help(action)} |")
    if sub.epilog:
        lines += ["", "```text", sub.epilog, "```"]
    return "\n".join(lines) + "\n"


def _flag(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar}`"
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    if action.choices:
        value = "\\|".join(map(str, action.choices))
    names = " / ".join(f"`{flag}`" for flag in action.option_strings)
    return f"{names} {value}".strip()


def _help(action: argparse.Action) -> str:
    help = (action.help or "").replace("|", "\\|")
    return f"{help} **(required)**" if action.required and action.option_strings else help


if __name__ == "__main__":
    Path(__file__).with_name("commands.md").write_text(page(), "utf-8")
