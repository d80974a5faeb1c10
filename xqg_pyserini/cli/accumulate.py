"""`xqg accumulate`."""

import argparse

from xqg_pyserini.cli import flags

EPILOG = ""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg accumulate`."""
    flags.add_queries(parser)
    parser.add_argument("--passages", required=True, metavar="STORE", help="the passage store")
    parser.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    parser.add_argument("--output", required=True, metavar="STORE", help="the query store to write")
    parser.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32", help="of the sums"
    )
    flags.add_skip_unknown(parser)
    parser.add_argument(
        "--keep-counts",
        type=flags.positive,
        nargs="+",
        default=[],
        metavar="K",
        help="keep the sums of the first K queries a language as well (for --num-queries)",
    )
    flags.add_overwrite(parser)
    flags.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg accumulate`."""
    from xqg_pyserini.retrieve.accumulate import accumulate_queries

    store = accumulate_queries(
        args.queries,
        args.passages,
        args.output,
        encoder=args.encoder,
        encoder_flags=flags.encoder_flags(args),
        dtype=args.dtype,
        skip_unknown=args.skip_unknown,
        keep_counts=args.keep_counts,
        overwrite=args.overwrite,
        **flags.engine(args),
    )
    totals = " ".join(f"{language} {n}" for language, n in store.totals().items())
    without = int((store.counts.sum(axis=1) == 0).sum())
    text = f"{args.output}: {store.meta['queries']} queries ({totals})"
    text += f"; {without} of {store.n} passages have none"
    flags.show(args, {**store.meta, "totals": store.totals(), "without_queries": without}, text)
