"""`xqg train retriever` and `xqg train generator`."""

import argparse
from typing import Any

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.flags import Parser

EPILOG = """\
  xqg train retriever --model M --data train.jsonl --output DIR      a bi-encoder
  xqg train generator --model M --data train.jsonl --output DIR      what xqg generate uses
Each has its own --help.  See docs/training.md."""
BOTH = """\
Every flag is also a key of the YAML file that --config takes (with _ for -); flags win.  A training
that was killed goes on when the same command is run again, and ends with the same weights.
Data, a question a line: JSON Lines as Tevatron's (query, positive_passages, negative_passages,
optionally language, answers, scores), as xqg mine writes them, or TSV question<TAB>passage."""
RETRIEVER = """
With --synthetic QUERIES --corpus CORPUS, alone or beside --data, generated queries are questions
whose positive is the passage that they were written for: one query a passage and language an epoch,
each once before any comes again."""
GENERATOR = """
Each positive passage of a question makes a pair; negatives are not looked at.  The question's
language is the data's "language", else --language.  xqg generate --model DIR takes the result, with
the prompt that it was trained on."""


def add_flags(parser: Parser) -> None:
    """Add the commands `retriever` and `generator`, and their flags."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    retriever = kinds.add_parser(
        "retriever",
        help="a bi-encoder",
        description="Train a retriever.",
        epilog=BOTH + RETRIEVER,
    )
    generator = kinds.add_parser(
        "generator",
        help="what xqg generate writes queries with",
        description="Train a generator.",
        epilog=BOTH + GENERATOR,
    )
    _add_kind(retriever, "retriever")
    _add_kind(generator, "generator")


def _add_kind(parser: argparse.ArgumentParser, kind: str) -> None:
    from xqg_pyserini.train.settings import KINDS, options

    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML with any of the settings below, or a shipped recipe: xdr",
    )
    for option in options(KINDS[kind]):
        _add_setting(parser, option)
    if kind == "generator":  # known, so that it can be refused with a reason
        parser.add_argument("--synthetic", nargs="+", help=argparse.SUPPRESS)
    flags.add_overwrite(parser)
    flags.add_json(parser)
    parser.add_argument("--verbose", action="store_true", help="show third-party logs, tracebacks")


def _add_setting(parser: argparse.ArgumentParser, option: Any) -> None:
    """Add the flag of a training's setting; None stands for not given."""
    default = "" if option.default in (None, ()) else f" (default {option.default})"
    keywords: dict[str, Any] = {"help": option.help + default, "dest": option.name}
    if option.kind is bool:
        keywords["action"] = argparse.BooleanOptionalAction
    else:
        names = {int: "N", float: "X", str: "TEXT"}
        keywords |= {"type": option.kind, "metavar": names[option.kind]}
        if option.choices:
            keywords |= {"choices": option.choices, "metavar": None}
        if option.many:
            keywords |= {"nargs": "+", "action": "extend"}
    parser.add_argument(f"--{option.name.replace('_', '-')}", **keywords)


def run(args: argparse.Namespace) -> None:
    """Run `xqg train retriever` or `xqg train generator`."""
    from xqg_pyserini.train import settings as kinds

    if args.kind == "generator":
        why = "is for xqg train retriever; a generator writes such queries"
        flags.refuse(why, synthetic=args.synthetic)
    cls: Any = kinds.KINDS[args.kind]
    typed = {option.name: vars(args)[option.name] for option in kinds.options(cls)}
    settings = kinds.read_settings(cls, args.config, typed)
    from xqg_pyserini.train.report import training_text

    if args.kind == "generator":
        from xqg_pyserini.train.generator import train_generator

        record = train_generator(settings, args.overwrite)
    else:
        from xqg_pyserini.train.retriever import train_retriever

        record = train_retriever(settings, args.overwrite)
    flags.show(args, record, training_text(record, settings.output))
