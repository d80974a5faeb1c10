"""`xqg reproduce`: where the study lives that it used to run."""

import argparse

from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError


def add_flags(parser: Parser) -> None:
    parser.add_argument("arguments", nargs="*", metavar="…", help="not looked at")
    parser.ignores_unknown = True


def run(args: argparse.Namespace) -> None:
    raise UserError(
        "the study of fine-tuning for unseen languages is no part of the package: in the repository, run "
        "doit -f studies/peft_unseen/dodo.py"
    )
