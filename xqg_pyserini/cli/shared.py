"""Flags that several commands have, and what is made of them: questions, encoders, fusions."""

import argparse
from collections.abc import Collection
from typing import Any

from xqg_pyserini import data
from xqg_pyserini.cli.flags import Parser, add_settings, dest_of, help_text, positive, refuse, settings_of, typed
from xqg_pyserini.fusion.formula import FusionSettings
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.models.encoder import Encoded, Encoder
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.models.registry import EncoderOptions
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.settings import options
from xqg_pyserini.stores import QueryStore, VectorStore


def add_questions(parser: Parser, flag: str = "--questions") -> None:
    what = "XOR-TyDi or Pyserini JSON Lines, or TSV (id, tab, question)"
    parser.add_argument(flag, required=True, dest="questions", metavar="FILE", help=what)
    parser.add_argument("--language", metavar="xx", help="language of questions that name none (TSV)")


def questions_of(args: argparse.Namespace) -> list[data.Question]:
    """Read the questions, in the language that was typed where they name none."""
    return data.read_questions(args.questions, args.language)


def add_queries(parser: Parser) -> None:
    what = 'JSON Lines {"docid", "generated_queries": {"ar": […]}}: file, directory, pattern'
    parser.add_argument("--queries", required=True, metavar="PATH", help=what)


def add_encoder(parser: Parser) -> None:
    group = parser.add_argument_group("encoder")
    add_settings(group, EncoderOptions)
    add_settings(group, Computing)


def encoder_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what was typed about the encoder beside its name, as `Encoder` takes it."""
    return typed(args, [*options(EncoderOptions), *options(Computing)])


def encoder_of(args: argparse.Namespace) -> Encoder:
    return Encoder(args.encoder, **encoder_options(args))


def encoder_for(args: argparse.Namespace, store: Encoded) -> Encoder:
    """Return the `Encoder` of a store or an index, which what was typed must not contradict."""
    return Encoder.for_store(store, args.encoder, **encoder_options(args))


def add_fusion(parser: Parser) -> None:
    """Add what decides how queries are mixed in, and below the help what it means."""
    parser.epilog = help_text("fusion")
    group = parser.add_argument_group("fusion")
    add_settings(group, FusionSettings)
    what = "mix in the first K queries a language, where accumulate kept them (default: all)"
    group.add_argument("--num-queries", type=positive, metavar="K", help=what)
    add_settings(group, Tolerances)


def fused_of(args: argparse.Namespace) -> Fused:
    """Return the stores of --passages and --queries, `Fused` as was typed."""
    passages = VectorStore(args.passages)
    settings = settings_of(args, FusionSettings)
    if settings.languages is not None:
        data.check_languages(settings.languages)
    queries = QueryStore(args.queries, args.num_queries)
    fusion = settings.complete(passages.normalized, args.language_aware)
    return Fused(passages, queries, fusion, settings_of(args, Tolerances), own=args.language_aware)


def refuse_fusion(args: argparse.Namespace, why: str, but: Collection[str] = ()) -> None:
    """Raise the error of the first flag of the fusion that was given where nothing is fused."""
    given = {option.flag: vars(args)[dest_of(option)] for option in options(FusionSettings)}
    given |= {"num_queries": args.num_queries, "language_aware": args.language_aware}
    refuse(why, **{flag: value for flag, value in given.items() if flag not in but})
