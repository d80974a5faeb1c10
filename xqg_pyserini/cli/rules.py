"""Flags of the rules for generated queries, in `xqg generate` and `xqg filter`."""

import argparse
from typing import Any

from xqg_pyserini.cli import flags


def add_rules(parser: argparse.ArgumentParser, flag: str) -> None:
    """Add the rules, and what they take."""
    group = parser.add_argument_group("text rules")
    group.add_argument(
        flag,
        dest="rules",
        nargs="+",
        choices=["duplicates", "script", "copies", "length"],
        help="rules that queries must pass to be kept (default: none)",
    )
    group.add_argument(
        "--min-length", type=int, metavar="N", help="shortest query in characters, for length (4)"
    )
    group.add_argument(
        "--max-length", type=int, metavar="N", help="longest query in characters, for length (250)"
    )


def lengths_of(args: argparse.Namespace) -> dict[str, int]:
    """Return the lengths that were typed."""
    lengths = {"min_length": args.min_length, "max_length": args.max_length}
    return {name: value for name, value in lengths.items() if value is not None}


def rules_of(args: argparse.Namespace) -> Any:
    """Return the `TextRules` that were asked for; None without any."""
    from xqg_pyserini.generate.rules import TextRules

    lengths = lengths_of(args)
    if "length" not in (args.rules or ()):
        flags.refuse("belongs to the rule length", **lengths)
    return None if args.rules is None else TextRules(tuple(args.rules), **lengths)
