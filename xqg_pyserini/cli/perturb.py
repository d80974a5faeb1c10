"""`xqg perturb`."""

import argparse
from collections.abc import Mapping
from typing import Any

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.train.perturb import PerturbationSettings, perturb_questions

LEXICON = ("parallel", "dictionary")


def add_flags(parser: Parser) -> None:
    shared.add_questions(parser)
    flags.add_settings(parser, PerturbationSettings, skip=LEXICON)
    parser.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    flags.add_settings(parser.add_argument_group("code-switch"), PerturbationSettings, only=LEXICON, extend=True)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    perturbation = flags.settings_of(args, PerturbationSettings)
    done = perturb_questions(shared.question_files(args), args.output, perturbation)
    flags.show(args, done, perturb_text(done))


def perturb_text(report: Mapping[str, Any]) -> str:
    """Return the summary line of `perturb_questions`."""
    each = " ".join(f"{l} {n['changed']}/{n['questions']}" for l, n in report["languages"].items())
    text = f"{report['output']}: {report['changed']} of {report['questions']} questions changed "
    text += f"({each}), {report['kind']}, rate {report['rate']}, seed {report['seed']}"
    if "lexicon" in report:
        sizes = " ".join(f"{language} {n}" for language, n in report["lexicon"].items())
        text += f"; words in the lexicon: {sizes}"
    return text
