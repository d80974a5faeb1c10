"""`xqg submit`."""

import argparse

from xqg_pyserini import data, files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.evaluation.submission import SubmissionSettings, check_submission, write_submission


def add_flags(parser: Parser) -> None:
    shared.add_questions(parser)
    parser.add_argument("--run", metavar="RUN", help="the TREC run to write as a submission")
    shared.add_corpus(parser, help="where the texts come from")
    parser.add_argument("--output", metavar="FILE", help="the JSON file to write")
    parser.add_argument("--check", metavar="FILE", help="validate this file instead")
    flags.add_settings(parser, data.RunSettings)
    flags.add_settings(parser, SubmissionSettings)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    questions, corpus = shared.questions_of(args), shared.corpus_of(args)
    if args.check is not None:
        flags.refuse("writes a file; --check reads one", run=args.run, output=args.output)
        summary = check_submission(args.check, questions, corpus)
        verdict = f"{args.check}: valid"
    else:
        flags.need("(or --check FILE to validate one)", run=args.run, corpus=args.corpus, output=args.output)
        files.check_file(args.output, [args.run, corpus, *args.questions])
        settings = flags.settings_of(args, SubmissionSettings)
        run = shared.run_files(args, [args.run])[0]
        summary = write_submission(questions, run, corpus, args.output, settings.with_title)
        verdict = f"{args.output}: written"
    languages = " ".join(f"{language} {n}" for language, n in summary.languages.items())
    flags.show(args, summary._asdict(), f"{verdict}, {summary.questions} questions ({languages})")
