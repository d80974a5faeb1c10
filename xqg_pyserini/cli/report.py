"""`xqg report`."""

import argparse
from pathlib import Path

from xqg_pyserini import files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.data import check_source
from xqg_pyserini.errors import warn
from xqg_pyserini.report.explorer import Similarities, similarities
from xqg_pyserini.report.page import ExploreSettings, write_page
from xqg_pyserini.stores import VectorStore


def add_flags(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="what evaluate or sweep wrote with --output")
    parser.add_argument("--output", metavar="FOLDER", help="default: DIR/report")
    group = parser.add_argument_group("explorer")
    flags.add_settings(group, ExploreSettings, extend=True)
    group.add_argument("--queries", metavar="PATH", help="generated queries, JSON Lines")
    group.add_argument("--passages", metavar="STORE", help="passage store: its vectors and its encoder")
    group.add_argument("--encoder", metavar="NAME", help="without a store: encodes the shown passages as well")
    flags.add_overwrite(parser)
    shared.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    output = Path(args.folder) / "report" if args.output is None else args.output
    files.check_output(output, args.overwrite)
    explore = flags.settings_of(args, ExploreSettings)
    written = write_page(args.folder, output, explore, similarities=_similarities(args), overwrite=args.overwrite)
    if written.explorer is not None and explore.per_language:
        warn(f"no explorer: {written.explorer}")
    text = f"{written.page}: {written.bytes / 1e6:.1f} MB, {written.plots} plots, "
    text += f"{written.questions} questions to explore"
    flags.show(args, {**written._asdict(), "page": str(written.page)}, text)


def _similarities(args: argparse.Namespace) -> Similarities | None:
    """Return what compares generated queries with questions; None without --queries."""
    if args.queries is None:
        flags.refuse("compares generated queries: give --queries too", passages=args.passages, encoder=args.encoder)
        return None
    check_source(args.queries)
    store = encoder = None
    if args.passages is not None:
        store = VectorStore(args.passages)
        encoder = shared.encoder_for(args, store)
    elif args.encoder is not None:
        encoder = shared.encoder_of(args)
    return similarities(args.queries, store, encoder)
