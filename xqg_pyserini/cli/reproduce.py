"""`xqg reproduce`."""

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError

if TYPE_CHECKING:
    from xqg_pyserini.reproduce.matrix import Command, Condition, Matrix


def add_flags(parser: Parser) -> None:
    parser.add_argument("matrix", nargs="?", metavar="FILE", help="a matrix file, or the name of a shipped one")
    parser.add_argument("--list", action="store_true", help="list the shipped matrices, or the conditions of FILE")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, for a shell in an empty folder")
    what = "run these (default: all that need no hub, GPU or the like)"
    parser.add_argument("--condition", nargs="+", action="extend", default=None, metavar="NAME", help=what)
    what = "the folder to run in, which is gone on with (default: reproduce-NAME)"
    parser.add_argument("--output", metavar="DIR", help=what)
    what = "the root of all inputs (default: data in $XQG_SHARED, or in ../shared)"
    parser.add_argument("--data", metavar="DIR", help=what)
    what = "other values of the file's variables"
    parser.add_argument("--set", dest="variables", nargs="+", action="extend", metavar="NAME=VALUE", help=what)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from xqg_pyserini.reproduce.matrix import read_matrix, shipped_matrices

    if args.matrix is None:
        if not args.list:
            raise UserError("give a matrix file, or the name of a shipped one; --list lists these")
        matrices = [read_matrix(name) for name in shipped_matrices()]
        value = [{"name": m.name, "description": m.description} for m in matrices]
        flags.show(args, value, "\n".join(f"{m.name:<12}{m.description}" for m in matrices))
        return 0
    matrix = read_matrix(args.matrix, _variables(args.variables or ()))
    _check(args.matrix, matrix)
    if args.list:
        _list(args, matrix)
        return 0
    if args.dry_run:
        _print_commands(args, matrix)
        return 0
    return _reproduce(args, matrix)


def _variables(typed: Sequence[str]) -> dict[str, str]:
    for word in typed:
        if "=" not in word:
            raise UserError(f"{word!r} sets no variable; expected NAME=VALUE", "variables")
    return dict(word.split("=", 1) for word in typed)


def _check(where: str, matrix: "Matrix") -> None:
    """Raise `UserError` for an `xqg` line that its command would not take."""
    parser, said = importlib.import_module("xqg_pyserini.cli.main").parser(), io.StringIO()
    for condition in matrix.conditions:
        for command in condition.commands:
            try:
                with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                    if command.words[0] == "xqg":
                        parser.parse_args(command.words[1:])
            except SystemExit:
                what = said.getvalue().partition("error: ")[2].strip() or "it does nothing"
                name = " ".join(command.words[:2])
                raise UserError(f"{where}: {condition.name}: {name}: {what}") from None


def _list(args: argparse.Namespace, matrix: "Matrix") -> None:
    lines = [matrix.description, ""]
    for one in matrix.conditions:
        figures = sum(len(expected.values) for expected in one.expected)
        lines.append(f"{one.name}: {one.description} ({figures} figures){_needs(one)}")
    value = [{"name": c.name, "needs": list(c.needs), "description": c.description} for c in matrix.conditions]
    flags.show(args, value, "\n".join(lines))


def _needs(condition: "Condition") -> str:
    return f"; needs {', '.join(condition.needs)}" if condition.needs else ""


def _print_commands(args: argparse.Namespace, matrix: "Matrix") -> None:
    import shlex

    from xqg_pyserini.reproduce.running import check_inputs, data_root

    chosen, root = matrix.chosen(tuple(args.condition or ())), data_root(args.data)
    print(f"# {matrix.name}: {matrix.description}")
    if any(command.inputs for condition in chosen for command in condition.commands):
        print(f"DATA={shlex.quote(os.fspath(root))}")
    seen: set[Command] = set()
    for condition in matrix.conditions:
        print(f"\n# {condition.name}{_needs(condition)}")
        if condition not in chosen:
            print(f"# only with --condition {condition.name}")
            continue
        try:
            check_inputs([condition], root)
        except UserError as error:  # the lines are worth seeing all the same
            print(f"# {error}")
        for command in condition.commands:
            if command not in seen:
                print(command)
            seen.add(command)


def _reproduce(args: argparse.Namespace, matrix: "Matrix") -> int:
    from msgspec import to_builtins

    from xqg_pyserini.reproduce.running import reproduce

    output = f"reproduce-{matrix.name}" if args.output is None else args.output
    names = tuple(args.condition or ())
    done = reproduce(matrix, output, data=args.data, conditions=names, say=_say)
    left = [c for c, outcome in zip(matrix.conditions, done.outcomes, strict=True) if not outcome.ran]
    lines = [str(done)]
    lines += [f"not run: {one.name}{_needs(one)} (--condition {one.name})" for one in left]
    flags.show(args, to_builtins(done), "\n".join([*lines, done.page]))
    return 1 if done.fails else 0


def _say(text: str) -> None:
    first, more, _ = text.partition("\n")
    print(f"{first}{' …' if more else ''}", file=sys.stderr, flush=True)
