"""`xqg encode`."""

import argparse

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.retrieve.encode import EncodeSettings, encode_passages, encode_shards


def add_flags(parser: Parser) -> None:
    what = "JSON Lines, TSV or CSV: a file, a directory or a pattern, plain or compressed"
    shared.add_corpus(parser, True, what)
    parser.add_argument("--encoder", required=True, metavar="NAME", help="registered name, model or folder")
    parser.add_argument("--output", required=True, metavar="STORE", help="the passage store to write")
    flags.add_settings(parser, EncodeSettings)
    flags.add_overwrite(parser)
    flags.add_repair(parser)
    shared.add_shards(parser.add_argument_group("shards"))
    shared.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    settings = {**vars(flags.settings_of(args, EncodeSettings)), "overwrite": args.overwrite, "repair": args.repair}
    encoder = shared.encoder_of(args)
    corpus = shared.corpus_of(args)
    if (shards := shared.shards_of(args)) is not None:
        shared.show_shards(args, encode_shards(corpus, encoder, args.output, shards, **settings))
        return
    store = encode_passages(corpus, encoder, args.output, **settings, cluster=args.cluster)
    flags.show(args, store.meta, f"{args.output}: {store.n} passages, {store.d} dimensions")
