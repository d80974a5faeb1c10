"""`xqg check`."""

import argparse

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError
from xqg_pyserini.retrieve.check import check_folder

EPILOG = """\
Reads a store, an index, a language-aware folder or a folder of queries in full and compares every
file with the checksum that was recorded when it was written; ends with 2 if one differs.
Example:
  xqg check passages"""


def add_flags(parser: Parser) -> None:
    """Add the flags of `xqg check`."""
    parser.add_argument("folder", metavar="DIR", help="what to verify")
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg check`."""
    checked = list(check_folder(args.folder))
    lines = [file.problem or f"{file.path}: as it was written" for file in checked]
    flags.show(args, [file._asdict() for file in checked], "\n".join(lines))
    damaged = [file for file in checked if file.problem]
    if damaged:
        raise UserError(f"{args.folder}: {len(damaged)} of {len(checked)} files are damaged")
