"""`xqg inspect`."""

import argparse

from xqg_pyserini.cli import flags
from xqg_pyserini.errors import UserError

EPILOG = ""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg inspect`."""
    parser.add_argument(
        "stores", nargs="+", metavar="STORE", help="a passage store, and its query store or none"
    )
    parser.add_argument(
        "--sample", type=int, default=1000, metavar="N", help="passages to compare (default 1000)"
    )
    parser.add_argument("--seed", type=flags.count, default=42, help="of the sample (default 42)")
    flags.add_skip_unknown(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg inspect`."""
    from xqg_pyserini.fusion.geometry import examine_stores, table

    if len(args.stores) > 2:
        raise UserError(
            f"{len(args.stores)} stores; expected a passage store and, with it, its query store"
        )
    geometry = examine_stores(
        *args.stores, sample=args.sample, seed=args.seed, skip_unknown=args.skip_unknown
    )
    flags.show(args, geometry.as_json(), table(geometry))
