"""`xqg index`."""

import argparse
import sys
from functools import partial
from typing import Any

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.retrieve.index import IndexSettings, index_shards, write_index


def add_flags(parser: Parser) -> None:
    parser.add_argument("--passages", required=True, metavar="STORE")
    parser.add_argument("--queries", metavar="STORE", help="without it: the baseline, passages alone")
    flags.add_settings(parser, IndexSettings)
    what = "write an index for each language's own queries, and one for all languages"
    parser.add_argument("--language-aware", action="store_true", help=what)
    parser.add_argument("--output", required=True, metavar="DIR", help="the index to write")
    flags.add_overwrite(parser)
    flags.add_repair(parser)
    shared.add_shards(parser.add_argument_group("shards"))
    shared.add_fusion(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    kind, shards = flags.settings_of(args, IndexSettings).kind, shared.shards_of(args)
    how: dict[str, Any] = {"kind": kind, "overwrite": args.overwrite, "repair": args.repair}
    if args.queries is None:
        shared.refuse_fusion(args, "mixes in --queries", but=("normalize",))
        how["normalize"] = bool(args.normalize)
    if shards is not None:
        indexed = args.passages if args.queries is None else shared.fused_of(args)
        shared.show_shards(args, index_shards(indexed, args.output, shards, **how))
        return
    if args.queries is None:
        index = write_index(args.passages, args.output, **how, cluster=args.cluster)
        meta = index.meta or {}
        what = "passages ({}), passages alone" if meta.get("delimiter") is None else "vectors ({}), several a passage"
        flags.show(args, index.meta, f"{args.output}: {index.n} {what.format(kind)}")
        return
    fused = shared.fused_of(args)
    announce = partial(print, "xqg index:", file=sys.stderr)
    index = fused.write_index(args.output, announce=announce, **how, cluster=args.cluster)
    what = f"{fused.fusion} over {' '.join(fused.languages)}"
    if args.language_aware:
        what = f"{fused.fusion}, one index each for {' '.join(fused.languages)} and one for all"
    text = f"{args.output}: {index.n} passages ({kind}), {what}"
    if fused.fusion.center:
        where = f"{args.output}/xx" if args.language_aware else args.output
        text += "\nIt is centred: xqg search centres the questions too; in Pyserini, search each "
        text += f"language by itself with XQG_CENTER={where} XQG_LANGUAGE=xx"
    flags.show(args, index.meta, text)
