"""`xqg filter`."""

import argparse

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.rules import add_rules, rules_of

EPILOG = """\
Rules: duplicates (within a passage, over its languages; NFKC, case and white space apart), script
(fewer than half of the letters are in the language's script), copies (the query stands verbatim in
the passage), length (characters).  Blank queries are always dropped.  --min-quantile encodes the
queries that pass and drops the share Q of each language that its own passage scores lowest
(Doc2Query--).  --within compares every query with every passage: N queries and n passages of d
dimensions cost 2·N·n·d operations.  See docs/quality.md."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg filter`."""
    flags.add_queries(parser)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="the folder to write, of the same file names"
    )
    add_rules(parser, "--rules")
    parser.add_argument("--corpus", metavar="PATH", help="the passages' texts, for the rule copies")
    parser.add_argument(
        "--passages", metavar="STORE", help="the passage store, for --min-quantile and --within"
    )
    parser.add_argument(
        "--min-quantile",
        type=float,
        metavar="Q",
        help="keep queries whose score with their own passage is at or above the language's "
        "Q-quantile, e.g. 0.3",
    )
    parser.add_argument(
        "--within",
        type=int,
        metavar="K",
        help="keep queries for which fewer than K passages of the store score above their own",
    )
    parser.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    flags.add_skip_unknown(parser, "drop")
    flags.add_overwrite(parser)
    flags.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg filter`."""
    from xqg_pyserini.generate.filter import filter_queries, filter_text

    report = filter_queries(
        args.queries,
        args.output,
        rules_of(args),
        corpus=args.corpus,
        passages=args.passages,
        min_quantile=args.min_quantile,
        within=args.within,
        encoder=args.encoder,
        encoder_flags=flags.encoder_flags(args),
        skip_unknown=args.skip_unknown,
        overwrite=args.overwrite,
        **flags.engine(args),
    )
    flags.show(args, report.as_json(), filter_text(report, args.output))
