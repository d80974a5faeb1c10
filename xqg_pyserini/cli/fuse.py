"""`xqg fuse`."""

import argparse
from collections.abc import Iterator

from xqg_pyserini import data, files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.fusion.runs import FuseSettings, fusing


def add_flags(parser: Parser) -> None:
    what = "two runs or more: TREC's, and what else evaluate reads"
    parser.add_argument("--runs", required=True, nargs="+", action="extend", metavar="RUN", help=what)
    flags.add_settings(parser, data.RunSettings)
    flags.add_settings(parser, FuseSettings)
    parser.add_argument("--output", required=True, metavar="RUN", help="the TREC run to write")
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    files.check_file(args.output, args.runs)
    settings = flags.settings_of(args, FuseSettings)
    runs = dict(zip(data.run_names(args.runs), shared.run_files(args, args.runs), strict=True))
    tag, counts = shared.tag_of(args.output), [0, 0]

    def counted() -> Iterator[tuple[str, dict[str, float]]]:
        for qid, hits in fusing(runs, settings):
            counts[0] += 1
            counts[1] += len(hits)
            yield qid, hits

    data.write_run(args.output, counted(), tag, exact=True)
    summary = {"run": args.output, "questions": counts[0], "hits": counts[1], "tag": tag, "method": settings.method}
    text = f"{args.output}: {counts[0]} questions, {counts[1]} hits of {len(runs)} runs by {settings.method}"
    flags.show(args, summary, text)
