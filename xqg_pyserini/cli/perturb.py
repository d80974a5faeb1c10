"""`xqg perturb`."""

import argparse

from xqg_pyserini.cli import flags

EPILOG = """\
typos: letters swapped, dropped, doubled, hit beside the right key.  script: careless writing (no
accents, hamza, capitals, spaces, question mark, …), language by language.  code-switch: words in
English, from a lexicon that is learnt from --parallel or given as --dictionary; learn it from
training questions only, lest translations of test questions leak.  A rate above 0 changes at least
one place of a question that has any.  See docs/perturb.md."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg perturb`."""
    flags.add_questions(parser)
    parser.add_argument("--kind", required=True, choices=["typos", "script", "code-switch"])
    parser.add_argument(
        "--rate",
        required=True,
        type=float,
        metavar="R",
        help="chance of each place (letter, mark, word) to be changed, from 0 to 1",
    )
    parser.add_argument("--seed", type=flags.count, default=42, help="of the draws (default 42)")
    parser.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    group = parser.add_argument_group("code-switch")
    group.add_argument(
        "--parallel",
        nargs="+",
        action="extend",
        default=[],
        metavar="xx=FILE",
        help="TSV (question, tab, its English) to learn words from; FILE alone for one language",
    )
    group.add_argument(
        "--dictionary",
        nargs="+",
        action="extend",
        default=[],
        metavar="xx=FILE",
        help="TSV (word, tab, English); goes before what is learnt",
    )
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg perturb`."""
    from xqg_pyserini.train.perturb import perturb_questions, perturb_text

    done = perturb_questions(
        args.questions,
        args.output,
        args.kind,
        args.rate,
        args.seed,
        language=args.language,
        parallel=args.parallel,
        dictionary=args.dictionary,
    )
    flags.show(args, done, perturb_text(done))
