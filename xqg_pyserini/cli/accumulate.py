"""`xqg accumulate`."""

import argparse
from typing import Any

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.retrieve.accumulate import AccumulateSettings, accumulate_queries, accumulate_shards
from xqg_pyserini.stores import VectorStore


def add_flags(parser: Parser) -> None:
    shared.add_queries(parser)
    parser.add_argument("--passages", required=True, metavar="STORE", help="the passage store")
    parser.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    parser.add_argument("--output", required=True, metavar="STORE", help="the query store to write")
    flags.add_settings(parser, AccumulateSettings)
    flags.add_overwrite(parser)
    flags.add_repair(parser)
    shared.add_shards(parser.add_argument_group("shards"))
    shared.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    passages = VectorStore(args.passages)
    settings, encoder = flags.settings_of(args, AccumulateSettings), shared.encoder_for(args, passages)
    how: dict[str, Any] = {"encoder": encoder, "overwrite": args.overwrite, "repair": args.repair}
    if (shards := shared.shards_of(args)) is not None:
        shared.show_shards(args, accumulate_shards(args.queries, passages, args.output, shards, settings, **how))
        return
    store = accumulate_queries(args.queries, passages, args.output, settings, **how, cluster=args.cluster)
    totals = " ".join(f"{language} {n}" for language, n in store.totals().items())
    without = int((store.counts.sum(axis=1) == 0).sum())
    text = f"{args.output}: {store.meta['queries']} queries ({totals}); {without} of {store.n} passages have none"
    flags.show(args, {**store.meta, "totals": store.totals(), "without_queries": without}, text)
