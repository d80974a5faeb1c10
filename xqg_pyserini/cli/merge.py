"""`xqg merge`."""

import argparse

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.retrieve.merge import merge_shards


def add_flags(parser: Parser) -> None:
    what = "shards, or folders of them: of passage stores, query stores or indexes (flat, fp16, sq8)"
    parser.add_argument("shards", nargs="+", metavar="PATH", help=what)
    parser.add_argument("--output", required=True, metavar="DIR", help="the store or index to write")
    flags.add_overwrite(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    whole = merge_shards(args.shards, args.output, overwrite=args.overwrite)
    flags.show(args, whole.meta, f"{args.output}: {whole.n} passages, {whole.d} dimensions")
