"""`xqg evaluate`."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from xqg_pyserini import data, files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.evaluation.mteb import SPLIT, MtebSettings, mteb_results, revision_of
from xqg_pyserini.evaluation.published import check_published
from xqg_pyserini.evaluation.results import ComparingSettings, Results
from xqg_pyserini.evaluation.scores import ScoringSettings, evaluate
from xqg_pyserini.report.results import record_inputs, results_json, write_results
from xqg_pyserini.report.tables import results_text


def add_flags(parser: Parser) -> None:
    shared.add_questions(parser, required=False)
    parser.add_argument("--runs", nargs="+", action="extend", metavar="RUN", help="TREC runs")
    what = "runs of a system trained with several seeds: one in the tables, its intervals and tests over seeds too"
    parser.add_argument("--seeds", nargs="+", action="extend", metavar="NAME=RUN,RUN", help=what)
    parser.add_argument("--names", nargs="+", metavar="NAME", help="of the runs (default: their files' names)")
    flags.add_settings(parser, data.RunSettings)
    add_scoring(parser)
    flags.add_settings(parser, ScoringSettings)
    flags.add_settings(parser, ComparingSettings)
    flags.add_settings(parser, MtebSettings)
    parser.add_argument("--per-language", action="store_true", help="print scores by language as well")
    parser.add_argument("--output", metavar="DIR", help="write table.md, table.tex, scores.json, …")
    flags.add_overwrite(parser)
    what = "no runs, but a published table: which percentages cannot be, over so many questions?"
    parser.add_argument("--check-published", metavar="FILE", help=what)
    flags.add_json(parser)


def add_scoring(parser: Parser) -> None:
    shared.add_corpus(parser, help="texts, for R@kt and relevance from answers")
    shared.add_qrels(parser, "TREC qrels, for all metrics but R@kt")


def run(args: argparse.Namespace) -> None:
    if args.check_published is not None:
        return _check_published(args)
    for name, given in (("questions", args.questions), ("runs", args.runs or args.seeds)):
        if given is None:
            raise UserError(f"no {name} to score", name)
    scoring = flags.settings_of(args, ScoringSettings)
    comparing = flags.settings_of(args, ComparingSettings)
    questions, corpus = shared.question_files(args), shared.corpus_of(args)
    named = dict(zip(data.run_names(args.runs or (), args.names), shared.run_files(args, args.runs or ()), strict=True))
    seeds = _seeds(args, named)
    shown = list(named.items()) + [(name, next(iter(runs.values()))) for name, runs in seeds.items()]
    if args.output is not None:
        every = [*named.values(), *(run for runs in seeds.values() for run in runs.values())]
        files.check_output(args.output, args.overwrite, [*args.questions, corpus, *(args.qrels or ()), *every])
    comparing.check(scoring.metrics, bool(seeds))
    mteb = flags.settings_of(args, MtebSettings)
    if mteb.mteb is not None:
        if seeds or len(named) != 1:
            raise UserError("MTEB's results are of one run: give one", ("runs", "mteb"))
        files.check_file(mteb.mteb, [*args.questions, corpus, *(args.qrels or ()), *named.values()])
    recorded = None
    if args.output is not None:
        inputs = {"questions": questions, "runs": [run for _, run in shown], "corpus": corpus, "qrels": args.qrels}
        how: dict[str, Any] = {name: getattr(scoring, name) for name in ("official", "all_topics", "with_title")}
        how |= {"seeds": {name: list(map(str, runs.values())) for name, runs in seeds.items()}} if seeds else {}
        names = [name for name, _ in shown] if seeds else args.names
        recorded = record_inputs(args.output, **inputs, language=args.language, names=names, **how)
    texts = {"corpus": corpus, "qrels": shared.qrels_of(args)}
    every_run = named | {key: run for runs in seeds.values() for key, run in runs.items()}
    scores = evaluate(every_run, data.read_questions(questions), **texts, **vars(scoring))
    if seeds:
        scores = scores.pooled({name: list(runs) for name, runs in seeds.items()})
    results = Results(scores.compare(**vars(comparing)), inputs=recorded)
    if mteb.mteb is not None:
        described = [each for path in args.questions for each in data.describe_sources(path, "question")]
        split = mteb.mteb_split or data.split_of(args.questions[0]) or SPLIT
        about = {"split": split, "revision": revision_of(described), **texts}
        task, run = Path(mteb.mteb).stem, next(iter(named.values()))
        files.write_json(Path(mteb.mteb), mteb_results(run, data.read_questions(questions), task, **about))
    if args.output is not None:
        write_results(results, args.output, overwrite=args.overwrite)
    show_results(args, results, results_text(results, args.per_language))


def _seeds(args: argparse.Namespace, named: Collection[str]) -> dict[str, dict[str, data.RunFile]]:
    """Return system → name → run file of what --seeds were typed; `named` are the other runs."""
    systems: dict[str, dict[str, data.RunFile]] = {}
    for typed in args.seeds or ():
        name, equals, paths = typed.partition("=")
        runs = [path for path in paths.split(",") if path]
        if not (name.strip() and equals) or len(runs) < 2:
            raise UserError(f"{typed!r}: expected NAME=RUN,RUN with two runs or more", "seeds")
        if name in systems or name in named:
            raise UserError(f"{name} is given twice; give each run and each system once", "seeds")
        if len(set(map(files.real_path, runs))) < len(runs):
            raise UserError(f"{typed!r}: a run comes twice", "seeds")
        systems[name] = dict(zip((f"{name} {path}" for path in runs), shared.run_files(args, runs), strict=True))
    return systems


def _check_published(args: argparse.Namespace) -> None:
    if args.runs is not None or args.output is not None:
        raise UserError("a published table is checked by itself", ("runs", "output"))
    checked = check_published(args.check_published, args.questions and shared.questions_of(args))
    shown = {"figures": [figure._asdict() for figure in checked.figures], "notes": checked.notes}
    flags.show(args, shown, f"{checked}")


def show_results(args: argparse.Namespace, results: Results, text: str) -> None:
    """Print results; beside JSON, their notes are warnings."""
    if args.json:
        for note in results.scores.notes:
            warn(note)
    flags.show(args, results_json(results), text)
