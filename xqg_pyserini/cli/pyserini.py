"""`xqg pyserini`."""

import argparse

from xqg_pyserini.cli.flags import Parser


def add_flags(parser: Parser) -> None:
    parser.add_argument("module", metavar="MODULE", help="search.faiss, encode, index.lucene, …")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="its own flags")


def run(args: argparse.Namespace) -> None:
    from xqg_pyserini.bridge import run_module

    run_module(args.module, args.arguments, args.verbose)
