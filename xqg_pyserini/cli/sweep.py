"""`xqg sweep`."""

import argparse
from typing import Any

from xqg_pyserini import data, files
from xqg_pyserini.cli import flags
from xqg_pyserini.cli.evaluate import add_scoring
from xqg_pyserini.errors import UserError, warn

EPILOG = """\
The grid is every form and weight × --languages × --num-queries × normalised or not × centred or
not; the flags mean what they mean in xqg index and xqg search, and take several values.  With no
weight: the mean with B = 0.1 0.2 0.3 0.4 0.5 (--fusion sum: A = 0.005 0.01 0.02 0.05).  --normalize
--no-normalize together try both, and so do --center --no-center.  The passages alone are the
baseline that every point is tested against.
The best point of a grid is chosen by the questions it is shown for and flatters itself:
--cross-validate gives the figure that the choice deserves.  See docs/sweep.md.
Example:
  xqg sweep --passages passages --queries queries --questions questions.jsonl --qrels qrels.txt \\
      --metrics mrr@10 --beta 0.1 0.2 0.3 --languages all own each --center --no-center \\
      --cross-validate 5 --power 2 --output sweep"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg sweep`."""
    parser.add_argument("--passages", required=True, metavar="STORE")
    parser.add_argument("--queries", required=True, metavar="STORE")
    flags.add_questions(parser)
    add_scoring(parser)
    parser.add_argument(
        "--with-title", action="store_true", help="look for answers in titles as well"
    )
    parser.add_argument(
        "--hits", type=int, default=100, metavar="N", help="passages a question (100)"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="where sweep.csv, … are written"
    )
    parser.add_argument(
        "--runs", action="store_true", help="write a TREC run for each point as well"
    )
    parser.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    _add_grid(parser)
    _add_choosing(parser)
    flags.add_overwrite(parser)
    flags.add_encoder(parser)
    flags.add_json(parser)


def _add_grid(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("grid")
    group.add_argument(
        "--fusion", nargs="+", choices=["sum", "mean"], default=[], help="how queries are mixed in"
    )
    group.add_argument(
        "--alpha", nargs="+", type=float, default=[], metavar="A", help="weights of the sum"
    )
    group.add_argument(
        "--beta", nargs="+", type=float, default=[], metavar="B", help="weights of the mean"
    )
    group.add_argument(
        "--languages",
        nargs="+",
        default=["all"],
        metavar="SET",
        help="all (default), own (the question's), others (all but its own), each (one point a "
        "language), or codes joined by +, as ar+ru",
    )
    group.add_argument(
        "--num-queries",
        nargs="+",
        default=["all"],
        metavar="K",
        help="queries a language: all (default), or numbers that accumulate kept",
    )
    for name, what in (("normalize", "scale to length 1"), ("center", "centre")):
        group.add_argument(f"--{name}", action="append_const", const=True, help=what)
        group.add_argument(
            f"--no-{name}",
            action="append_const",
            const=False,
            dest=name,
            help="do not; or try both",
        )
    flags.add_liberties(group)


def _add_choosing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("choosing")
    group.add_argument(
        "--cross-validate",
        type=int,
        metavar="K",
        help="choose a point by K-1 of K folds of the questions, and score it on the other",
    )
    group.add_argument("--select-by", metavar="M", help="the metric to choose by (default: first)")
    group.add_argument(
        "--per-language-choice", action="store_true", help="choose a point for each language"
    )
    group.add_argument(
        "--group-by",
        choices=["none", "relevant"],
        help="relevant: questions that share a relevant passage stay in one fold (default with "
        "--qrels); none: every question by itself (default without)",
    )
    group.add_argument("--seed", type=flags.count, default=42, help="of the folds (default 42)")
    group.add_argument(
        "--power",
        nargs="?",
        type=flags.points,
        const=True,
        metavar="D",
        help="say the smallest difference that so many questions can show and, for a difference "
        "of D (0-100), how many questions it needs",
    )


def run(args: argparse.Namespace) -> None:
    """Run `xqg sweep`."""
    from xqg_pyserini.retrieve.sweep_report import run_sweep, sweep_text
    from xqg_pyserini.stores import VectorStore

    inputs = {
        "passages": args.passages,
        "queries": args.queries,
        "questions": args.questions,
        "corpus": args.corpus,
        "qrels": args.qrels,
    }
    files.check_output(args.output, args.overwrite, inputs.values())
    for name in args.languages:
        if name not in ("all", "own", "others", "each"):
            data.check_languages(name.split("+"))
    report = run_sweep(
        args.passages,
        args.queries,
        flags.questions_of(args),
        _fusions(args, VectorStore(args.passages).normalized),
        args.output,
        languages=args.languages,
        num_queries=[_number(text) for text in args.num_queries],
        hits=args.hits,
        choosing=_choosing(args),
        power=args.power or False,
        keep_runs=args.runs,
        scoring={
            "metrics": args.metrics,
            "corpus": args.corpus,
            "qrels": args.qrels,
            "test": args.test,
            "correction": args.correction,
            "level": args.level,
            "with_title": args.with_title,
        },
        engine={
            "encoder": args.encoder,
            "encoder_flags": flags.encoder_flags(args),
            **flags.engine(args),
        },
        skip_unknown=args.skip_unknown,
        allow_unequal=args.allow_unequal,
        overwrite=args.overwrite,
        inputs=inputs,
        language=args.language,
    )
    if args.json:
        for note in report.evaluation.notes:
            warn(note)
    text = f"{sweep_text(report)}\n\nAll figures are in {args.output}"
    flags.show(args, report.as_json(), text)


def _fusions(args: argparse.Namespace, normalized: bool) -> list[Any]:
    """Return the forms, weights, norms and centrings of a grid, in the order of the flags."""
    from xqg_pyserini.fusion.formula import choose_fusion

    forms = args.fusion or [f for f, w in (("sum", args.alpha), ("mean", args.beta)) if w]
    forms = list(dict.fromkeys(forms)) or ["mean"]
    for form, flag, weight in (("sum", "alpha", args.alpha), ("mean", "beta", args.beta)):
        if weight and form not in forms:
            raise UserError(f"--{flag} is the weight of the {form}, which --fusion leaves out")
    weights: dict[str, list[tuple[float | None, float | None]]] = {
        "sum": [(alpha, None) for alpha in args.alpha or (0.005, 0.01, 0.02, 0.05)],
        "mean": [(None, beta) for beta in args.beta or (0.1, 0.2, 0.3, 0.4, 0.5)],
    }
    return [
        choose_fusion(form, alpha, beta, None, normalize, center, normalized_encoder=normalized)
        for form in forms
        for alpha, beta in weights[form]
        for normalize in dict.fromkeys(args.normalize or [None])
        for center in dict.fromkeys(args.center or [False])
    ]


def _number(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--num-queries {text}: expected all, or a number from 1")
    return int(text)


def _choosing(args: argparse.Namespace) -> Any:
    from xqg_pyserini.retrieve.sweep_report import Choosing

    if args.cross_validate is None:
        flags.refuse(
            "says how a point is chosen: give --cross-validate K",
            select_by=args.select_by,
            per_language_choice=args.per_language_choice,
            group_by=args.group_by,
        )
        return None
    return Choosing(
        args.cross_validate,
        args.select_by or args.metrics[0],
        args.per_language_choice,
        args.group_by or ("none" if args.qrels is None else "relevant"),
        args.seed,
    )
