"""`xqg report`."""

import argparse
from pathlib import Path
from typing import Any

from xqg_pyserini import files
from xqg_pyserini.cli import flags
from xqg_pyserini.errors import UserError, warn

EPILOG = """\
The page is one file that opens from disk.  Its explorer shows, question by question, what two runs
found; it takes the questions, the corpus and the runs, which are looked up where the folder says
they were.  With --queries, and --passages or --encoder, it also shows which generated queries lie
nearest to the question."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg report`."""
    parser.add_argument("folder", metavar="DIR", help="what evaluate or sweep wrote with --output")
    parser.add_argument("--output", metavar="FOLDER", help="default: DIR/report")
    group = parser.add_argument_group("explorer")
    group.add_argument("--questions", metavar="FILE", help="default: those that DIR names")
    group.add_argument("--language", metavar="xx", help="language of questions that name none")
    group.add_argument("--corpus", metavar="PATH", help="default: the one that DIR names")
    group.add_argument(
        "--runs", nargs="+", action="extend", metavar="RUN", help="default: those that DIR names"
    )
    group.add_argument("--queries", metavar="PATH", help="generated queries, JSON Lines")
    group.add_argument(
        "--passages", metavar="STORE", help="passage store: its vectors and its encoder"
    )
    group.add_argument(
        "--encoder", metavar="NAME", help="without a store: encodes the shown passages as well"
    )
    group.add_argument(
        "--explore",
        type=flags.count,
        default=20,
        metavar="N",
        help="questions a language, those on which two runs differ most (default 20, 0: none)",
    )
    group.add_argument(
        "--hits",
        type=flags.positive,
        default=10,
        metavar="N",
        help="passages a question (default 10)",
    )
    group.add_argument("--seed", type=flags.count, default=42, help="of the choice among equals")
    flags.add_overwrite(parser)
    flags.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg report`."""
    from xqg_pyserini.report.page import write_page
    from xqg_pyserini.report.page_inputs import Explore

    output = Path(args.folder) / "report" if args.output is None else args.output
    files.check_output(output, args.overwrite)
    written = write_page(
        args.folder,
        output,
        Explore(
            args.questions,
            args.language,
            args.corpus,
            args.runs,
            args.explore,
            args.hits,
            args.seed,
        ),
        similarities=_similarities(args),
        overwrite=args.overwrite,
    )
    if written.explorer is not None and args.explore:
        warn(f"no explorer: {written.explorer}")
    text = f"{written.page}: {written.bytes / 1e6:.1f} MB, {written.plots} plots, "
    text += f"{written.questions} questions to explore"
    flags.show(args, {**written._asdict(), "page": str(written.page)}, text)


def _similarities(args: argparse.Namespace) -> Any:
    """Return what compares generated queries with questions; None without --queries."""
    from xqg_pyserini.models.engines import load, same_space
    from xqg_pyserini.models.registry import choose, resolve
    from xqg_pyserini.report.explorer import Similarities
    from xqg_pyserini.stores import VectorStore

    typed, engine = flags.encoder_flags(args), flags.engine(args)
    if args.queries is None:
        why = "compares generated queries: give --queries too"
        flags.refuse(why, passages=args.passages, encoder=args.encoder)
        return None
    files.expand(args.queries)
    if args.passages is not None:
        store = VectorStore(args.passages)
        settings = choose(args.encoder, typed, store.encoder, store.path)
        model = load(settings, "query", **engine)
        same_space(model, store.d, store.encoder, store.path)
        return Similarities(args.queries, model, store)
    if args.encoder is None:
        raise UserError("--queries are compared by an encoder: give --passages STORE or --encoder")
    settings = resolve(args.encoder, typed)
    models = [load(settings, role, **engine) for role in ("query", "passage")]
    return Similarities(args.queries, models[0], passage_encoder=models[1])
