"""`xqg serve`."""

import argparse
import json
import warnings
from typing import Any

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.data import check_source
from xqg_pyserini.errors import UserError, XqgWarning, warn
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.models.encoder import Encoded, Encoder
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.serve.collection import Collection
from xqg_pyserini.serve.listening import ServeSettings, address_of, is_open, listen
from xqg_pyserini.serve.lookup import GeneratedLookup, corpus_lookup
from xqg_pyserini.serve.ways import ALIGNED, STORES, Way, check_name, named_folders
from xqg_pyserini.stores import VectorStore


def add_flags(parser: Parser) -> None:
    what = "indexes, whatever xqg search takes; called by their folders' names, or NAME=DIR"
    parser.add_argument("--index", nargs="+", action="extend", metavar="DIR", help=what)
    what = "search each index a second time, with questions put right by their language (xqg align makes it)"
    parser.add_argument("--align", metavar="ALIGNMENT", help=what)
    what = "passage store: passages' own similarity beside that of their queries; with --sums, searched language-aware"
    parser.add_argument("--passages", metavar="STORE", help=what)
    parser.add_argument("--sums", metavar="STORE", help="the query store that xqg accumulate wrote")
    parser.add_argument("--encoder", metavar="NAME", help="default: what the index or store was made with")
    shared.add_corpus(parser, help="the passages' texts; without it, ids alone are shown")
    what = "generated queries, shown below the passages that they are of; as xqg accumulate takes them"
    parser.add_argument("--queries", metavar="PATH", help=what)
    flags.add_settings(parser.add_argument_group("server"), ServeSettings)
    shared.add_encoder(parser)
    shared.add_fusion(parser)
    parser.epilog = flags.help_text("serve")


def run(args: argparse.Namespace) -> None:
    from xqg_pyserini.serve.server import serve

    settings = flags.settings_of(args, ServeSettings)
    with warnings.catch_warnings(record=True) as caught:  # to be read now, not when the server ends
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", XqgWarning)
        if args.index is None and args.sums is None:
            raise UserError("give --index DIR, or --passages STORE --sums STORE")
        for path in (args.corpus, args.queries):
            if path is not None:
                check_source(path)
        with listen(settings) as listening:
            ways = _ways(args)
            texts = None if args.corpus is None else corpus_lookup(shared.corpus_of(args))
            generated = None if args.queries is None else GeneratedLookup(args.queries)
            store = None if args.passages is None else VectorStore(args.passages)
            collection = Collection(ways, texts, generated, store, args.threads)
            collection.warm_up()
            if texts is None:
                warn("no corpus is given: passages are shown by their ids")
            if is_open(listening):
                warn(f"{settings.host} is open to other machines, and nobody is asked who they are")
            flags.show_warnings(args, caught)
            names = ", ".join(collection.ways)
            print(f"{names}: open {address_of(listening)} (Ctrl-C ends it)", flush=True)
            serve(collection, listening, settings)


def _ways(args: argparse.Namespace) -> list[Way]:
    """Return the ways of searching that were typed."""
    ways: list[Way] = []
    encoders: dict[str, Encoder] = {}  # by what is recorded of them: alike, one is loaded

    def add(name: str, searched: Any, says: Encoded, align: Alignment | None = None) -> None:
        check_name(name, [way.name for way in ways])
        key = json.dumps(says.encoder, sort_keys=True)
        if key not in encoders:
            encoders[key] = shared.encoder_for(args, says).for_questions()
        ways.append(Way(name, searched, encoders[key], align))

    alignment = None if args.align is None else Alignment(args.align)
    for name, folder in named_folders(args.index or ()).items():
        index = Index(folder)
        index.open_all()
        says: Encoded = index if index.encoder is not None or alignment is None else alignment
        add(name, index, says)
        if alignment is not None:
            add(f"{name}-{ALIGNED}", index, says, alignment)
    if args.sums is not None:
        if args.passages is None:
            raise UserError("--sums takes --passages STORE beside it")
        args.language_aware = True
        fused = shared.fused_of(args, args.sums)
        add(STORES, fused, fused.passages)
    else:
        args.language_aware = False
        shared.refuse_fusion(args, "takes --sums beside --passages; an index is fused already")
    return ways
