"""`xqg align`."""

import argparse
from typing import Any

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.report.alignment import alignment_text
from xqg_pyserini.retrieve.align import AlignSettings, align, align_shards
from xqg_pyserini.stores import VectorStore


def add_flags(parser: Parser) -> None:
    what = "generated queries (JSON Lines: file, directory, pattern), each encoded once; or query stores of accumulate "
    what += "--moments (or a folder of shards of one), or alignments: these are added up, and nothing is encoded"
    parser.add_argument("--queries", required=True, nargs="+", metavar="PATH", help=what)
    parser.add_argument("--passages", metavar="STORE", help="the passage store, where queries are encoded")
    parser.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    parser.add_argument("--output", required=True, metavar="ALIGNMENT", help="the folder to write")
    flags.add_settings(parser, AlignSettings)
    flags.add_overwrite(parser)
    flags.add_repair(parser)
    shared.add_shards(parser.add_argument_group("shards"))
    shared.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    settings = flags.settings_of(args, AlignSettings)
    passages = None if args.passages is None else VectorStore(args.passages)
    encoder = None if passages is None else shared.encoder_for(args, passages)
    how: dict[str, Any] = {"encoder": encoder, "overwrite": args.overwrite, "repair": args.repair}
    if (shards := shared.shards_of(args)) is not None:
        if len(args.queries) > 1 or passages is None:
            raise UserError("shards are of generated queries, given once, with --passages", "num_shards")
        shared.show_shards(args, align_shards(args.queries[0], passages, args.output, shards, settings, **how))
        return
    made = align(args.queries, passages, args.output, settings, **how, cluster=args.cluster)
    show_alignment(args, made)


def show_alignment(args: argparse.Namespace, made: Alignment) -> None:
    """Print what an alignment is."""
    flags.show(args, {key: value for key, value in made.meta.items() if key != "moments"}, alignment_text(made))
