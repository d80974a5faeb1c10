"""`xqg expand`."""

import argparse

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.retrieve.expand import ExpandSettings, expand_passages


def add_flags(parser: Parser) -> None:
    shared.add_corpus(parser, required=True)
    shared.add_queries(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON Lines for BM25, perhaps .gz")
    flags.add_settings(parser, ExpandSettings)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    done = expand_passages(shared.corpus_of(args), args.queries, args.output, flags.settings_of(args, ExpandSettings))
    text = f"{done.output}: {done.passages} passages, {done.queries} queries; {done.without} passages have none"
    flags.show(args, done._asdict(), text + (f", {done.skipped} records skipped" if done.skipped else ""))
