"""Flags that several commands have, and what is made of them: questions, encoders, fusions."""

import argparse
from collections.abc import Collection
from typing import Any

from xqg_pyserini import data
from xqg_pyserini.cli.flags import Parser, add_settings, dest_of, positive, refuse, settings_of, typed
from xqg_pyserini.fusion.formula import FusionSettings
from xqg_pyserini.fusion.fused import Liberties
from xqg_pyserini.models.encoder import Encoded, Encoder
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.models.registry import EncoderOptions
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.settings import options
from xqg_pyserini.stores import QueryStore, VectorStore

FUSION = """\
Fusion: --alpha A implies the published sum (1-A)·E + A·Σ, --beta B the mean (1-B)·E + B·mean.
With neither: the mean, B = 0.3 (0.2 with centring, 0.4 with --language-aware --no-center).  The
mean is renormalised where the encoder normalises; the sum only with --normalize.
--center takes away the mean of the passages and of each language's queries; language-aware
search does so by default where the encoder normalises.  See docs/method.md."""


def add_questions(parser: Parser, flag: str = "--questions") -> None:
    """Add the questions, and --language."""
    parser.add_argument(
        flag,
        required=True,
        dest="questions",
        metavar="FILE",
        help="XOR-TyDi or Pyserini JSON Lines, or TSV (id, tab, question)",
    )
    parser.add_argument("--language", metavar="xx", help="language of questions that name none (TSV)")


def questions_of(args: argparse.Namespace) -> list[data.Question]:
    """Read the questions, in the language that was typed where they name none."""
    return data.read_questions(args.questions, args.language)


def add_queries(parser: Parser) -> None:
    """Add where the generated queries are."""
    parser.add_argument(
        "--queries",
        required=True,
        metavar="PATH",
        help='JSON Lines {"docid", "generated_queries": {"ar": […]}}: file, directory, pattern',
    )


def add_encoder(parser: Parser) -> None:
    """Add what decides how texts are encoded."""
    group = parser.add_argument_group("encoder")
    add_settings(group, EncoderOptions)
    add_settings(group, Computing)


def encoder_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what was typed about the encoder beside its name, as `Encoder` takes it."""
    return typed(args, [*options(EncoderOptions), *options(Computing)])


def encoder_of(args: argparse.Namespace) -> Encoder:
    """Return the `Encoder` that was typed."""
    return Encoder(args.encoder, **encoder_options(args))


def encoder_for(args: argparse.Namespace, store: Encoded) -> Encoder:
    """Return the `Encoder` of a store or an index, which what was typed must not contradict."""
    return Encoder.for_store(store, args.encoder, **encoder_options(args))


def add_fusion(parser: Parser) -> None:
    """Add what decides how queries are mixed in."""
    group = parser.add_argument_group("fusion")
    add_settings(group, FusionSettings)
    group.add_argument(
        "--num-queries",
        type=positive,
        metavar="K",
        help="mix in the first K queries a language, where accumulate kept them (default: all)",
    )
    add_settings(group, Liberties)


def fused_of(args: argparse.Namespace) -> Fused:
    """Return the stores of --passages and --queries, `Fused` as was typed."""
    passages = VectorStore(args.passages)
    settings = settings_of(args, FusionSettings)
    if settings.languages is not None:
        data.check_languages(settings.languages)
    return Fused(
        passages,
        QueryStore(args.queries, args.num_queries),
        settings.complete(passages.normalized, args.language_aware),
        settings_of(args, Liberties),
        own=args.language_aware,
    )


def refuse_fusion(args: argparse.Namespace, why: str, but: Collection[str] = ()) -> None:
    """Raise the error of the first flag of the fusion that was given where nothing is fused."""
    given = {option.flag: vars(args)[dest_of(option)] for option in options(FusionSettings)}
    given |= {"num_queries": args.num_queries, "language_aware": args.language_aware}
    refuse(why, **{flag: value for flag, value in given.items() if flag not in but})
