"""`xqg mine`."""

import argparse

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.train.mine import Mining, mine_negatives, mining_text

EPILOG = """\
A line a question: {"query_id", "query", "language", "answers", "positive_passages",
"negative_passages"}, passages as {"docid", "title", "text"}: what xqg train retriever and Tevatron
read.  Positives are the relevant passages of --qrels, wherever they are in the corpus; without
--qrels, the hits within --depth that hold an answer string as it stands.  Negatives are the other
hits within --depth; where answers are known, hits that hold one are none.  See docs/mining.md."""


def add_flags(parser: Parser) -> None:
    """Add the flags of `xqg mine`."""
    shared.add_questions(parser)
    parser.add_argument("--corpus", required=True, metavar="PATH", help="where the texts come from")
    parser.add_argument(
        "--run", required=True, metavar="RUN", help="a TREC run for these questions"
    )
    parser.add_argument("--qrels", metavar="FILE", help="TREC qrels: their relevant passages")
    parser.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    group = parser.add_argument_group("choosing")
    flags.add_settings(group, Mining)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg mine`."""
    mined = mine_negatives(
        args.questions,
        args.corpus,
        args.run,
        args.output,
        flags.settings_of(args, Mining),
        qrels=args.qrels,
        language=args.language,
    )
    flags.show(args, mined.as_json(), mining_text(mined))
