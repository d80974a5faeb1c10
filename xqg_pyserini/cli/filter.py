"""`xqg filter`."""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.generate.filter import FilterReport, FilterSettings, filter_queries
from xqg_pyserini.generate.rules import TextRules
from xqg_pyserini.settings import options
from xqg_pyserini.stores import VectorStore


def add_flags(parser: Parser) -> None:
    shared.add_queries(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to write, of the same file names")
    add_rules(parser, "rules")
    shared.add_corpus(parser, help="the passages' texts, for the rule copies")
    parser.add_argument("--passages", metavar="STORE", help="the passage store, for --min-quantile and --within")
    flags.add_settings(parser, FilterSettings)
    parser.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    flags.add_overwrite(parser)
    shared.add_encoder(parser)
    flags.add_json(parser)


def add_rules(parser: Parser, flag: str) -> None:
    """Add the rules, whose flag is `flag`, and what they take."""
    group = parser.add_argument_group("text rules")
    for option in options(TextRules):
        flags.add_setting(group, option, flag if option.name == "rules" else None)


def rules_of(args: argparse.Namespace) -> TextRules:
    """Return the rules that were typed."""
    if "length" not in (args.rules or ()):
        flags.refuse("belongs to the rule length", min_length=args.min_length, max_length=args.max_length)
    return flags.settings_of(args, TextRules)


def run(args: argparse.Namespace) -> None:
    rules, store, encoder = rules_of(args), None, None
    if args.passages is None:
        flags.refuse("encodes queries beside --passages: give that too", encoder=args.encoder)
    else:
        store = VectorStore(args.passages)
        encoder = shared.encoder_for(args, store)
    settings = flags.settings_of(args, FilterSettings)
    inputs: Any = {"corpus": shared.corpus_of(args), "passages": store, "encoder": encoder}
    report = filter_queries(args.queries, args.output, rules, settings, **inputs, overwrite=args.overwrite)
    flags.show(args, report.as_json(), filter_text(report, args.output))


def filter_text(report: FilterReport, output: str | Path) -> str:
    """Return the report for people: by language, how many queries each rule dropped of how many."""
    rows: list[dict[str, Any]] = [{"language": l, **titled(n)} for l, n in report.languages.items()]
    totals = Counter[str]()
    for counts in report.languages.values():
        totals.update(counts)
    if len(rows) > 1:
        rows.append({"language": "all", **titled(totals)})
    if report.thresholds:
        for row in rows:
            score = report.thresholds.get(row["language"])
            row["lowest score"] = "" if score is None else f"{score:.4f}"
    skipped = f" ({report.skipped} dropped)" if report.skipped else ""
    head = f"{output}: {totals['kept']} of {totals['queries']} queries kept, "
    return f"{head}{report.records} records{skipped}\n\n{table_of(rows)}"


def titled(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts by reason as columns: that of the rule "language" stands beside the languages' codes."""
    return {"other language" if reason == "language" else reason: n for reason, n in counts.items()}


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return a table for people, all of its columns right-aligned."""
    from tabulate import tabulate

    return tabulate(rows, "keys", disable_numparse=True, stralign="right", numalign="right")
