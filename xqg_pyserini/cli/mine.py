"""`xqg mine`."""

import argparse

from xqg_pyserini import data
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.train.mine import Mined, MiningSettings, mine_negatives


def add_flags(parser: Parser) -> None:
    shared.add_questions(parser)
    shared.add_corpus(parser, True, "where the texts come from")
    parser.add_argument("--run", required=True, metavar="RUN", help="a TREC run for these questions")
    flags.add_settings(parser, data.RunSettings)
    shared.add_qrels(parser, "TREC qrels: their relevant passages")
    parser.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    flags.add_settings(parser.add_argument_group("choosing"), MiningSettings)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    corpus, run = shared.corpus_of(args), shared.run_files(args, [args.run])[0]
    inputs = shared.question_files(args), corpus, run, args.output
    mined = mine_negatives(*inputs, flags.settings_of(args, MiningSettings), qrels=shared.qrels_of(args))
    flags.show(args, mined.as_json(), mining_text(mined))


def mining_text(mined: Mined) -> str:
    """Return the summary for people."""
    each = " ".join(f"{language} {n}" for language, n in mined.languages.items())
    text = f"{mined.output}: {mined.written} of {mined.questions} questions ({each}), "
    text += f"{mined.positives} positive and {mined.negatives} negative passages"
    short = "kept" if mined.settings.keep_short else "left out (--keep-short keeps them)"
    reasons = (
        (mined.not_in_run, "not in the run, left out"),
        (mined.without_positive, "without a positive passage, left out"),
        (mined.without_score, "without a positive passage in the run, left out"),
        (mined.short, f"with fewer than {mined.settings.negatives} negatives, {short}"),
    )
    lines = [f"questions {what}: {number}" for number, what in reasons if number]
    return "\n".join([text, *lines])
