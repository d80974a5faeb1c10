"""`xqg index`."""

import argparse
import sys
from typing import Any

from xqg_pyserini.cli import flags

EPILOG = flags.FUSION


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg index`."""
    parser.add_argument("--passages", required=True, metavar="STORE")
    parser.add_argument(
        "--queries", metavar="STORE", help="without it: the baseline, passages alone"
    )
    parser.add_argument(
        "--type",
        choices=["flat", "fp16", "sq8", "hnsw"],
        default="flat",
        help="float32, float16, 8-bit codes, or a graph (the only one held in memory)",
    )
    parser.add_argument(
        "--language-aware",
        action="store_true",
        help="write an index for each language's own queries, and one for all languages",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the index to write")
    flags.add_overwrite(parser)
    flags.add_fusion(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg index`."""
    from xqg_pyserini.retrieve.index import build_index, build_language_indexes
    from xqg_pyserini.stores import QueryStore, VectorStore

    passages = VectorStore(args.passages)
    queries, fusion = None, None
    if args.queries is not None:
        fusion = flags.fusion_of(args, passages.normalized)
        queries = QueryStore(args.queries, args.num_queries)
    else:
        flags.refuse(
            "mixes in --queries",
            alpha=args.alpha,
            beta=args.beta,
            fusion=args.fusion,
            languages=args.languages,
            center=args.center,
            num_queries=args.num_queries,
            language_aware=args.language_aware,
        )
    options: dict[str, Any] = {
        "queries": queries,
        "fusion": fusion,
        "kind": args.type,
        "skip_unknown": args.skip_unknown,
        "allow_unequal": args.allow_unequal,
        "overwrite": args.overwrite,
    }
    if args.language_aware:
        meta = build_language_indexes(passages, args.output, announce=_announce, **options)
        what = f"{fusion}, one index each for {' '.join(meta['languages'])} and one for all"
    else:
        meta = build_index(passages, args.output, normalize=bool(args.normalize), **options)
        what = "passages alone"
        if fusion:
            what = f"{fusion} over {' '.join(meta['fusion']['languages'])}"
    text = f"{args.output}: {meta['n']} passages ({args.type}), {what}"
    if fusion and fusion.center:
        index = f"{args.output}/xx" if args.language_aware else args.output
        text += (
            "\nIt is centred: xqg search centres the questions too; in Pyserini, search each "
            f"language by itself with XQG_CENTER={index} XQG_LANGUAGE=xx"
        )
    flags.show(args, meta, text)


def _announce(text: str) -> None:
    print(f"xqg index: {text}", file=sys.stderr)
