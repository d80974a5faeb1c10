"""Writes docs/commands.md from the parser: python docs/make_commands.py (a test compares them)."""

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
"""


def page() -> str:
    """Return the page."""
    top = parser()
    (commands,) = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    return HEAD + "".join(_sections(name, sub.filled()) for name, sub in commands.choices.items())


def _sections(name: str, sub: argparse.ArgumentParser) -> str:
    """Return a command's section, or, for a command of several kinds, one for each."""
    for action in sub._actions:
        if isinstance(action, argparse._SubParsersAction):
            return "".join(_section(f"{name} {kind}", one) for kind, one in action.choices.items())
    return _section(name, sub)


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
