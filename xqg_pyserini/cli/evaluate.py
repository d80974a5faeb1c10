"""`xqg evaluate`."""

import argparse

from xqg_pyserini import files
from xqg_pyserini.cli import flags
from xqg_pyserini.errors import warn

EPILOG = """\
Metrics: R@2kt, R@5kt, R@0.5kt … (an answer within the first 2,000 … tokens retrieved), and ranx's:
ndcg@10, mrr@10, recall@100, map, precision@5, hit_rate@1, …  The latter use --qrels, or else take
a passage as relevant if it holds an answer string."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg evaluate`."""
    flags.add_questions(parser)
    parser.add_argument(
        "--runs", required=True, nargs="+", action="extend", metavar="RUN", help="TREC runs"
    )
    add_scoring(parser)
    parser.add_argument(
        "--per-language", action="store_true", help="print scores by language as well"
    )
    parser.add_argument(
        "--official",
        action="store_true",
        help="leave out questions that a run lacks, as the official script does",
    )
    parser.add_argument(
        "--with-title", action="store_true", help="look for answers in titles as well"
    )
    parser.add_argument("--output", metavar="DIR", help="write table.md, table.tex, scores.json, …")
    flags.add_overwrite(parser)
    flags.add_json(parser)


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add what runs are scored by, and tested."""
    add = parser.add_argument
    add("--corpus", metavar="PATH", help="texts, for R@kt and relevance from answers")
    add("--metrics", nargs="+", default=["R@2kt", "R@5kt"], metavar="M")
    add("--qrels", metavar="FILE", help="TREC qrels for ranx's metrics")
    add("--test", choices=["student", "fisher", "mcnemar"], default="student")
    add("--correction", choices=["holm", "bonferroni", "bh", "none"], default="holm")
    add("--level", type=float, default=0.05, help="significance level (default 0.05)")


def run(args: argparse.Namespace) -> None:
    """Run `xqg evaluate`."""
    from xqg_pyserini.evaluation.scores import evaluate_runs
    from xqg_pyserini.report import tables

    inputs = [args.questions, args.corpus, args.qrels, *args.runs]
    if args.output is not None:
        files.check_output(args.output, args.overwrite, inputs)
    evaluation = evaluate_runs(
        flags.questions_of(args),
        args.runs,
        args.metrics,
        corpus=args.corpus,
        qrels=args.qrels,
        test=args.test,
        correction=args.correction,
        level=args.level,
        official=args.official,
        with_title=args.with_title,
    )
    if args.output is not None:
        sources = tables.Sources(
            args.questions,
            tuple(args.runs),
            args.corpus,
            args.qrels,
            args.language,
            args.official,
            args.with_title,
        )
        tables.write_report(evaluation, args.output, args.overwrite, inputs, sources)
    if args.json:
        for note in evaluation.notes:
            warn(note)
    flags.show(args, evaluation.as_json(), tables.tables(evaluation, args.per_language))
