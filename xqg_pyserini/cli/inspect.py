"""`xqg inspect`."""

import argparse
from pathlib import Path

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.align import show_alignment
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError
from xqg_pyserini.fusion.alignment import ALIGNMENT, Alignment
from xqg_pyserini.fusion.geometry import ExaminingSettings, examine_stores, table


def add_flags(parser: Parser) -> None:
    parser.add_argument(
        "stores", nargs="+", metavar="STORE", help="a passage store, and its query store or none; or an alignment"
    )
    flags.add_settings(parser, ExaminingSettings)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    if len(args.stores) == 1 and (Path(args.stores[0]) / ALIGNMENT).is_file():
        show_alignment(args, Alignment(args.stores[0]))
        return
    if len(args.stores) > 2:
        raise UserError(f"{len(args.stores)} stores; expected a passage store and, with it, its query store")
    geometry = examine_stores(*args.stores, **vars(flags.settings_of(args, ExaminingSettings)))
    flags.show(args, geometry.as_json(), table(geometry))
