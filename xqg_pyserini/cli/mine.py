"""`xqg mine`."""

import argparse

from xqg_pyserini.cli import flags

EPILOG = """\
A line a question: {"query_id", "query", "language", "answers", "positive_passages",
"negative_passages"}, passages as {"docid", "title", "text"}: what xqg train retriever and Tevatron
read.  Positives are the relevant passages of --qrels, wherever they are in the corpus; without
--qrels, the hits within --depth that hold an answer string as it stands.  Negatives are the other
hits within --depth; where answers are known, hits that hold one are none.  See docs/mining.md."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg mine`."""
    flags.add_questions(parser)
    parser.add_argument("--corpus", required=True, metavar="PATH", help="where the texts come from")
    parser.add_argument(
        "--run", required=True, metavar="RUN", help="a TREC run for these questions"
    )
    parser.add_argument("--qrels", metavar="FILE", help="TREC qrels: their relevant passages")
    parser.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    group = parser.add_argument_group("choosing")
    group.add_argument(
        "--negatives", type=flags.count, default=7, metavar="N", help="of a question (default 7)"
    )
    group.add_argument(
        "--positives",
        type=flags.positive,
        metavar="N",
        help="at most so many of a question: those that the run ranks highest (default: all)",
    )
    group.add_argument(
        "--depth",
        type=flags.positive,
        default=100,
        metavar="K",
        help="hits to look at (default 100)",
    )
    group.add_argument(
        "--skip",
        type=flags.count,
        default=0,
        metavar="K",
        help="no negative from the first K hits",
    )
    group.add_argument(
        "--margin",
        type=float,
        metavar="D",
        help="no negative whose score is not at least D below that of the best positive in the run",
    )
    group.add_argument(
        "--sample",
        choices=["top", "random"],
        default="random",
        help="the highest negatives, or some at random (default random)",
    )
    group.add_argument(
        "--seed", type=flags.count, default=42, help="of random negatives (default 42)"
    )
    group.add_argument(
        "--keep-short",
        action="store_true",
        help="keep questions with fewer negatives than asked for (default: left out)",
    )
    group.add_argument("--with-title", action="store_true", help="look for answers in titles too")
    group.add_argument(
        "--scores",
        action="store_true",
        help="write the run's scores, positives first, then negatives, for distillation; "
        "positives that the run lacks are left out",
    )
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg mine`."""
    from xqg_pyserini.train.mine import Mining, mine_negatives, mining_text

    mined = mine_negatives(
        args.questions,
        args.corpus,
        args.run,
        args.output,
        Mining(
            negatives=args.negatives,
            positives=args.positives,
            depth=args.depth,
            skip=args.skip,
            margin=args.margin,
            sample=args.sample,
            seed=args.seed,
            keep_short=args.keep_short,
            with_title=args.with_title,
            scores=args.scores,
        ),
        qrels=args.qrels,
        language=args.language,
    )
    flags.show(args, mined.as_json(), mining_text(mined))
