"""`xqg evaluate`."""

import argparse

from xqg_pyserini import files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import warn
from xqg_pyserini.evaluation.results import ComparingSettings, Results
from xqg_pyserini.evaluation.scores import ScoringSettings, evaluate
from xqg_pyserini.report.results import record_inputs, results_json, write_results
from xqg_pyserini.report.tables import results_text


def add_flags(parser: Parser) -> None:
    shared.add_questions(parser)
    parser.add_argument("--runs", required=True, nargs="+", action="extend", metavar="RUN", help="TREC runs")
    add_scoring(parser)
    flags.add_settings(parser, ScoringSettings)
    flags.add_settings(parser, ComparingSettings)
    parser.add_argument("--per-language", action="store_true", help="print scores by language as well")
    parser.add_argument("--output", metavar="DIR", help="write table.md, table.tex, scores.json, …")
    flags.add_overwrite(parser)
    flags.add_json(parser)


def add_scoring(parser: Parser) -> None:
    parser.add_argument("--corpus", metavar="PATH", help="texts, for R@kt and relevance from answers")
    parser.add_argument("--qrels", metavar="FILE", help="TREC qrels, for all metrics but R@kt")


def run(args: argparse.Namespace) -> None:
    scoring = flags.settings_of(args, ScoringSettings)
    comparing = flags.settings_of(args, ComparingSettings)
    texts = {"corpus": args.corpus, "qrels": args.qrels}
    if args.output is not None:
        files.check_output(args.output, args.overwrite, [args.questions, *texts.values(), *args.runs])
    comparing.check(scoring.metrics)
    recorded = None
    if args.output is not None:
        inputs = {"questions": args.questions, "runs": args.runs, **texts, "language": args.language}
        how = {name: getattr(scoring, name) for name in ("official", "all_topics", "with_title")}
        recorded = record_inputs(args.output, **inputs, **how)
    scores = evaluate(args.runs, shared.questions_of(args), **texts, **vars(scoring))
    results = Results(scores.compare(**vars(comparing)), inputs=recorded)
    if args.output is not None:
        write_results(results, args.output, overwrite=args.overwrite)
    show_results(args, results, results_text(results, args.per_language))


def show_results(args: argparse.Namespace, results: Results, text: str) -> None:
    """Print results; beside JSON, their notes are warnings."""
    if args.json:
        for note in results.scores.notes:
            warn(note)
    flags.show(args, results_json(results), text)
