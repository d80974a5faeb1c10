"""`xqg sweep`."""

import argparse
from dataclasses import replace

from xqg_pyserini import data, files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.evaluate import add_scoring, show_results
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.evaluation.choosing import ChoosingSettings
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.report.results import record_inputs, write_results
from xqg_pyserini.report.tables import results_text
from xqg_pyserini.retrieve.grid import GridSettings
from xqg_pyserini.retrieve.sweep import SweepSettings, run_sweep
from xqg_pyserini.settings import options
from xqg_pyserini.stores import VectorStore

SCORING = ("metrics", "all_topics", "test", "correction", "level", "with_title", "hits")
TOLERANCES = tuple(option.name for option in options(Tolerances))


def add_flags(parser: Parser) -> None:
    parser.add_argument("--passages", required=True, metavar="STORE")
    parser.add_argument("--queries", required=True, metavar="STORE")
    shared.add_questions(parser)
    add_scoring(parser)
    flags.add_settings(parser, SweepSettings, only=SCORING)
    parser.add_argument("--output", required=True, metavar="DIR", help="where sweep.csv, … are written")
    parser.add_argument("--runs", action="store_true", help="write a TREC run for each point as well")
    parser.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    _add_grid(parser.add_argument_group("grid"))
    group = parser.add_argument_group("choosing")
    flags.add_settings(group, ChoosingSettings, skip=("power",))
    power = next(option for option in options(ChoosingSettings) if option.name == "power")
    group.add_argument("--power", nargs="?", type=flags.points, const=True, metavar="D", help=power.help)
    flags.add_overwrite(parser)
    shared.add_encoder(parser)
    flags.add_json(parser)


def _add_grid(group: flags.Flags) -> None:
    flags.add_settings(group, GridSettings, skip=("normalize", "center"))
    for name, what in (("normalize", "scale to length 1"), ("center", "centre")):
        group.add_argument(f"--{name}", action="append_const", const=True, help=what)
        group.add_argument(f"--no-{name}", action="append_const", const=False, dest=name, help="do not; or try both")
    flags.add_settings(group, SweepSettings, only=TOLERANCES)


def run(args: argparse.Namespace) -> None:
    questions, corpus = shared.question_files(args), shared.corpus_of(args)
    inputs = {"passages": args.passages, "queries": args.queries}
    inputs |= {} if args.align is None else {"align": args.align}
    inputs |= {"questions": questions, "corpus": corpus, "qrels": args.qrels}
    files.check_output(args.output, args.overwrite, data.paths_of(*inputs.values(), *(args.qrels or ())))
    settings = replace(flags.settings_of(args, SweepSettings), threads=args.threads)
    for name in settings.languages:
        if name not in ("all", "own", "others", "each"):
            data.check_languages(name.split("+"))
    how = {name: getattr(settings, name) for name in ("all_topics", "with_title", "hits", *TOLERANCES)}
    recorded = record_inputs(args.output, **inputs, language=args.language, **how)
    store = VectorStore(args.passages)
    asked, encoder = data.read_questions(questions), shared.encoder_for(args, store)
    texts = {"corpus": corpus, "qrels": shared.qrels_of(args)}
    results = run_sweep(store, args.queries, asked, settings, encoder=encoder, **texts)
    results.inputs = recorded
    write_results(results, args.output, overwrite=args.overwrite, keep_runs=args.runs)
    show_results(args, results, f"{results_text(results)}\n\nAll figures are in {args.output}")
