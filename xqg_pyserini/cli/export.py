"""`xqg export`."""

import argparse

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.retrieve.export import ExportSettings, export_index


def add_flags(parser: Parser) -> None:
    what = "an index of xqg's with its vectors (flat, fp16, hnsw); of a language-aware one, one of its folders"
    parser.add_argument("--index", required=True, metavar="DIR", help=what)
    flags.add_settings(parser, ExportSettings)
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to write")
    shared.add_corpus(parser, help="put title and text beside: the corpus that was encoded")
    flags.add_overwrite(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    settings, corpus = flags.settings_of(args, ExportSettings), shared.corpus_of(args)
    meta = export_index(args.index, args.output, settings, corpus=corpus, overwrite=args.overwrite)
    text = f"{args.output}: {meta['n']} passages, {meta['d']} dimensions ({meta['dtype']}) for {meta['type']}"
    if settings.format == "lance":
        how = "IVF-PQ of {partitions} partitions, {probes} searched, {refine} times the hits scored by vectors"
        text += f"; {how.format(**meta['lance'])}" if meta["lance"]["partitions"] else "; no index, searched whole"
    if meta.get("centers"):
        text += (
            "\nIt is centred: xqg search (lance) centres the questions too; elsewhere take from each the row of its "
        )
        text += "language in centers.npy"
    flags.show(args, meta, text)
