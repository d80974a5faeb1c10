"""Errors: the library names settings, the command line adds their flags."""

import ast
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from conftest import ROOT

from xqg_pyserini.cli import flags, main
from xqg_pyserini.errors import UserError
from xqg_pyserini.settings import option

PACKAGE = ROOT / "xqg_pyserini"
LIBRARY = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if not path.is_relative_to(PACKAGE / "cli") and path != PACKAGE / "bridge" / "commands.py"
)


def flags_in_errors(code: str) -> list[str]:
    """The strings that name a flag, within calls that make a `UserError`."""
    strings = []
    for call in ast.walk(ast.parse(code)):
        if isinstance(call, ast.Call):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func
            name = name.id if isinstance(name, ast.Name) else name
            if name in ("UserError", "error"):  # a Line's `error` makes one
                texts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant)]
                strings += [t for t in texts if isinstance(t, str) and re.search("--[a-z]", t)]
    return strings


def test_a_flag_in_an_error_is_seen():
    assert flags_in_errors("raise UserError(f'give {x} or --alpha')") == [" or --alpha"]
    assert flags_in_errors("raise errors.UserError('a' if b else '--beta')") == ["--beta"]
    assert flags_in_errors("raise line.error('--skip-unknown leaves it out')") != []
    assert flags_in_errors("raise UserError('a -- b', about='alpha'); print('--alpha')") == []


def test_no_error_of_the_library_names_a_flag():
    named = {str(path): flags_in_errors(path.read_text("utf-8")) for path in LIBRARY}
    assert {path: texts for path, texts in named.items() if texts} == {}


# ---------------------------------------------------------------- flags added by the command line


@dataclass(frozen=True)
class Weights:
    alpha: float | None = option(None, "weight of the sum")
    kind: str = option("flat", "what is written", "flat", "sq8", flag="type")
    normalize: bool | None = option(None, "scale", flag="l2_norm")
    secret: int = 3  # no option


def failing(error: Exception):
    """A command that has flags and ends in an error."""
    parser = flags.Parser(prog="xqg try")
    parser.add_argument("--topics", dest="questions")
    parser.add_argument("folder", nargs="?")
    flags.add_settings(parser, Weights)

    def run(args):
        raise error

    return parser.parse_args([], SimpleNamespace(command="try", verbose=False)), run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("no"), "no"),
        (UserError("a is 2", "alpha"), "a is 2 (--alpha)"),
        (UserError("a and b", about=("alpha", "questions")), "a and b (--alpha, --topics)"),
        (UserError("unknown type", "kind"), "unknown type (--type)"),
        (UserError("as it was made", "normalize"), "as it was made (--l2-norm)"),
        (UserError("give --alpha A", "alpha"), "give --alpha A"),
        (UserError("twice", ("alpha", "alpha")), "twice (--alpha)"),
        (UserError("not here", ("threads", "folder", "secret", "alpha")), "not here (--alpha)"),
        (UserError("two\nlines", "alpha"), "two lines (--alpha)"),
        (MemoryError(), "out of memory; use smaller batches"),
        (RuntimeError("CUDA out of memory: 3 GiB"), "out of memory; use smaller batches"),
        (FileNotFoundError(2, "No such file", "x.jsonl"), "x.jsonl: No such file"),
    ],
)
def test_the_flags_of_what_an_error_is_about_stand_behind_it(error, line, monkeypatch, capsys):
    args, run = failing(error)
    monkeypatch.setattr(main, "_command", lambda name: SimpleNamespace(run=run))
    assert main._run(args) == 2
    assert capsys.readouterr() == ("", f"xqg try: error: {line}\n")


def test_an_unexpected_error_is_a_bug_and_exit_code_1(monkeypatch, capsys):
    args, run = failing(KeyError("x"))
    monkeypatch.setattr(main, "_command", lambda name: SimpleNamespace(run=run))
    assert main._run(args) == 1
    assert capsys.readouterr().err == ("xqg try: error: unexpected KeyError: 'x' (a bug: --verbose shows where)\n")


OWN = """
import os, signal
from contextlib import suppress
from types import SimpleNamespace
from xqg_pyserini.cli import main

def run(args):
    with suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    raise KeyboardInterrupt

real = main._command
main._command = lambda name: SimpleNamespace(run=run, add_flags=real(name).add_flags)
raise SystemExit(main.main(["doctor"]))
"""


def test_a_signal_is_named_where_a_library_raises_its_own_interrupt_in_place_of_ours():
    """As Ray does while it waits; in a process of its own, since Java or Ray in this one may have the signal."""
    done = subprocess.run([sys.executable, "-c", OWN], capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.startswith("xqg doctor: error: interrupted (SIGTERM); long jobs")
