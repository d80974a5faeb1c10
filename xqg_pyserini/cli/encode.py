"""`xqg encode`."""

import argparse

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.retrieve.encode import EncodeSettings, encode_passages, encode_shards
from xqg_pyserini.retrieve.query_vectors import QueryVectorSettings, encode_generated
from xqg_pyserini.settings import options
from xqg_pyserini.stores import VectorStore


def add_flags(parser: Parser) -> None:
    what = "JSON Lines, TSV or CSV: a file, a directory or a pattern, plain or compressed"
    shared.add_corpus(parser, help=what)
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="registered name, model, folder or openai:MODEL@URL (queries: default the store's)",
    )
    parser.add_argument("--output", required=True, metavar="STORE", help="the passage store to write")
    flags.add_settings(parser, EncodeSettings)
    flags.add_overwrite(parser)
    flags.add_repair(parser)
    shared.add_shards(parser.add_argument_group("shards"))
    group = parser.add_argument_group("generated queries, a vector each, in place of a corpus")
    shared.add_queries(group, required=False)
    group.add_argument("--passages", metavar="STORE", help="the passages that they are for")
    flags.add_settings(group, QueryVectorSettings, skip=("dtype",))
    shared.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    queries = flags.typed(args, options(QueryVectorSettings))
    if args.queries is not None:
        return _encode_queries(args, QueryVectorSettings(**queries))
    flags.need("(or --queries Q and --passages STORE)", corpus=args.corpus, encoder=args.encoder)
    queries.pop("dtype", None)
    flags.refuse("is about --queries: give these, in place of --corpus", passages=args.passages, **queries)
    settings = {**vars(flags.settings_of(args, EncodeSettings)), "overwrite": args.overwrite, "repair": args.repair}
    encoder = shared.encoder_of(args)
    corpus = shared.corpus_of(args)
    if (shards := shared.shards_of(args)) is not None:
        shared.show_shards(args, encode_shards(corpus, encoder, args.output, shards, **settings))
        return
    store = encode_passages(corpus, encoder, args.output, **settings, cluster=args.cluster)
    flags.show(args, store.meta, f"{args.output}: {store.n} passages, {store.d} dimensions")


def _encode_queries(args: argparse.Namespace, settings: QueryVectorSettings) -> None:
    why = "is about a corpus: give it without --queries"
    flags.refuse(why, corpus=args.corpus, num_shards=args.num_shards, shard=args.shards)
    flags.need("(whose queries these are)", passages=args.passages)
    passages = VectorStore(args.passages)
    how = {"encoder": shared.encoder_for(args, passages), "overwrite": args.overwrite, "repair": args.repair}
    store = encode_generated(args.queries, passages, args.output, settings, **how)
    text = f"{args.output}: {store.n} vectors, {store.d} dimensions: {store.meta['queries']} queries"
    text += f" for {store.meta['covered']} of {passages.n} passages"
    flags.show(args, store.meta, text + (", and the passages' own" if settings.with_passages else ""))
