"""Flags of the commands that judge runs: evaluate, report, submit."""

import argparse

from xqg_pyserini.cli.common import (
    count,
    encoder_flags,
    json_flag,
    overwrite_flag,
    positive,
    questions_flag,
    scoring_flags,
)

METRICS = """\
Metrics: R@2kt, R@5kt, R@0.5kt … (an answer within the first 2,000 … tokens retrieved), and ranx's:
ndcg@10, mrr@10, recall@100, map, precision@5, hit_rate@1, …  The latter use --qrels, or else take
a passage as relevant if it holds an answer string."""
REPORT = """\
The page is one file that opens from disk.  Its explorer shows, question by question, what two runs
found; it takes the questions, the corpus and the runs, which are looked up where the folder says
they were.  With --queries, and --passages or --encoder, it also shows which generated queries lie
nearest to the question."""


def add_evaluate(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg evaluate`."""
    questions_flag(sub, "--questions")
    sub.add_argument(
        "--runs", required=True, nargs="+", action="extend", metavar="RUN", help="TREC runs"
    )
    scoring_flags(sub)
    sub.add_argument("--per-language", action="store_true", help="print scores by language as well")
    sub.add_argument(
        "--official",
        action="store_true",
        help="leave out questions that a run lacks, as the official script does",
    )
    sub.add_argument("--with-title", action="store_true", help="look for answers in titles as well")
    sub.add_argument("--output", metavar="DIR", help="write table.md, table.tex, scores.json, …")
    overwrite_flag(sub)
    json_flag(sub)


def add_report(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg report`."""
    sub.add_argument("folder", metavar="DIR", help="what evaluate or sweep wrote with --output")
    sub.add_argument("--output", metavar="FOLDER", help="default: DIR/report")
    group = sub.add_argument_group("explorer")
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
        type=count,
        default=20,
        metavar="N",
        help="questions a language, those on which two runs differ most (default 20, 0: none)",
    )
    group.add_argument(
        "--hits", type=positive, default=10, metavar="N", help="passages a question (default 10)"
    )
    group.add_argument("--seed", type=count, default=42, help="of the choice among equals")
    overwrite_flag(sub)
    encoder_flags(sub)
    json_flag(sub)


def add_submit(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg submit`."""
    questions_flag(sub, "--questions")
    sub.add_argument("--run", metavar="RUN", help="the TREC run to write as a submission")
    sub.add_argument("--corpus", metavar="PATH", help="where the texts come from")
    sub.add_argument("--output", metavar="FILE", help="the JSON file to write")
    sub.add_argument("--check", metavar="FILE", help="validate this file instead")
    sub.add_argument(
        "--with-title", action="store_true", help="write title and text, not text alone"
    )
    json_flag(sub)
