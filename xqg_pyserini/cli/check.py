"""`xqg check`."""

import argparse

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError
from xqg_pyserini.retrieve.check import check_folder


def add_flags(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="what to verify")
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    checked = list(check_folder(args.folder))
    lines = [file.problem or f"{file.path}: as it was written" for file in checked]
    flags.show(args, [file._asdict() for file in checked], "\n".join(lines))
    damaged = sum(1 for file in checked if file.problem)
    if damaged:
        raise UserError(f"{args.folder}: {damaged} of {len(checked)} files are damaged")
