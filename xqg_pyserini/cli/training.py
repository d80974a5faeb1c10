"""Flags of the commands around training: mine, perturb, train, reproduce."""

import argparse
from typing import Any

from xqg_pyserini.cli.common import (
    count,
    json_flag,
    overwrite_flag,
    positive,
    questions_flag,
    raw,
)

MINING = """\
A line a question: {"query_id", "query", "language", "answers", "positive_passages",
"negative_passages"}, passages as {"docid", "title", "text"}: what xqg train retriever and Tevatron
read.  Positives are the relevant passages of --qrels, wherever they are in the corpus; without
--qrels, the hits within --depth that hold an answer string as it stands.  Negatives are the other
hits within --depth; where answers are known, hits that hold one are none.  See docs/mining.md."""
PERTURB = """\
typos: letters swapped, dropped, doubled, hit beside the right key.  script: careless writing (no
accents, hamza, capitals, spaces, question mark, …), language by language.  code-switch: words in
English, from a lexicon that is learnt from --parallel or given as --dictionary; learn it from
training questions only, lest translations of test questions leak.  A rate above 0 changes at least
one place of a question that has any.  See docs/perturb.md."""
TRAIN = """\
  xqg train retriever --model M --data train.jsonl --output DIR      a bi-encoder
  xqg train generator --model M --data train.jsonl --output DIR      what xqg generate uses
Each has its own --help.  See docs/training.md."""
TRAIN_KIND = """\
Every flag is also a key of the YAML file that --config takes (with _ for -); flags win.  A training
that was killed goes on when the same command is run again, and ends with the same weights.
Data, a question a line: JSON Lines as Tevatron's (query, positive_passages, negative_passages,
optionally language, answers, scores), as xqg mine writes them, or TSV question<TAB>passage."""
TRAIN_OWN = {
    "retriever": """
With --synthetic QUERIES --corpus CORPUS, alone or beside --data, generated queries are questions
whose positive is the passage that they were written for: one query a passage and language an epoch,
each once before any comes again.""",
    "generator": """
Each positive passage of a question makes a pair; negatives are not looked at.  The question's
language is the data's "language", else --language.  xqg generate --model DIR takes the result, with
the prompt that it was trained on.""",
}
REPRODUCE = """\
MATRIX is a study that is shipped (peft-unseen; peft-smoke is for tests) or a YAML file of that
form.  Every cell is a folder that appears when it is whole: kill the command at any moment, start
it again, and it goes on.  A cell whose settings changed in the file is done again.
OUTPUT gets tables.md, results.json, outcomes.jsonl.gz (every question's rank) and progress.log.
Example:
  xqg reproduce peft-unseen --data DATA --model E5 --output study --only 'translations/*/untuned'
See docs/reproduce.md."""


def add_mine(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg mine`."""
    questions_flag(sub, "--questions")
    sub.add_argument("--corpus", required=True, metavar="PATH", help="where the texts come from")
    sub.add_argument("--run", required=True, metavar="RUN", help="a TREC run for these questions")
    sub.add_argument("--qrels", metavar="FILE", help="TREC qrels: their relevant passages")
    sub.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    group = sub.add_argument_group("choosing")
    group.add_argument(
        "--negatives", type=count, default=7, metavar="N", help="of a question (default 7)"
    )
    group.add_argument(
        "--positives",
        type=positive,
        metavar="N",
        help="at most so many of a question: those that the run ranks highest (default: all)",
    )
    group.add_argument(
        "--depth", type=positive, default=100, metavar="K", help="hits to look at (default 100)"
    )
    group.add_argument(
        "--skip", type=count, default=0, metavar="K", help="no negative from the first K hits"
    )
    group.add_argument(
        "--margin",
        type=float,
        metavar="D",
        help="no negative whose score is not at least D below that of the best positive in the run",
    )
    group.add_argument(
        "--sample",
        choices=["top", "random"],
        default="random",
        help="the highest negatives, or some at random (default random)",
    )
    group.add_argument("--seed", type=count, default=42, help="of random negatives (default 42)")
    group.add_argument(
        "--keep-short",
        action="store_true",
        help="keep questions with fewer negatives than asked for (default: left out)",
    )
    group.add_argument("--with-title", action="store_true", help="look for answers in titles too")
    group.add_argument(
        "--scores",
        action="store_true",
        help="write the run's scores, positives first, then negatives, for distillation; "
        "positives that the run lacks are left out",
    )
    json_flag(sub)


def add_perturb(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg perturb`."""
    questions_flag(sub, "--questions")
    sub.add_argument("--kind", required=True, choices=["typos", "script", "code-switch"])
    sub.add_argument(
        "--rate",
        required=True,
        type=float,
        metavar="R",
        help="chance of each place (letter, mark, word) to be changed, from 0 to 1",
    )
    sub.add_argument("--seed", type=count, default=42, help="of the draws (default 42)")
    sub.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    group = sub.add_argument_group("code-switch")
    group.add_argument(
        "--parallel",
        nargs="+",
        action="extend",
        default=[],
        metavar="xx=FILE",
        help="TSV (question, tab, its English) to learn words from; FILE alone for one language",
    )
    group.add_argument(
        "--dictionary",
        nargs="+",
        action="extend",
        default=[],
        metavar="xx=FILE",
        help="TSV (word, tab, English); goes before what is learnt",
    )
    json_flag(sub)


def add_train(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg train`."""
    from xqg_pyserini.train.settings import TRAININGS, training_options

    kinds = sub.add_subparsers(dest="kind", metavar="KIND", required=True)
    helps = {"retriever": "a bi-encoder", "generator": "what xqg generate writes queries with"}
    for name, help in helps.items():
        kind = kinds.add_parser(
            name,
            help=help,
            description=f"Train a {name}.",
            **raw(TRAIN_KIND + TRAIN_OWN[name]),
        )
        kind.add_argument(
            "--config",
            metavar="FILE",
            help="YAML with any of the settings below, or a shipped recipe: xdr",
        )
        for option in training_options(TRAININGS[name]):
            _setting(kind, option)
        if name == "generator":  # known, so that it can be refused with a reason
            kind.add_argument("--synthetic", nargs="+", help=argparse.SUPPRESS)
        overwrite_flag(kind)
        json_flag(kind)
        kind.add_argument(
            "--verbose", action="store_true", help="show third-party logs, tracebacks"
        )


def _setting(sub: argparse.ArgumentParser, option: Any) -> None:
    """Add the flag of a training's setting; None stands for not given."""
    default = "" if option.default in (None, ()) else f" (default {option.default})"
    keywords: dict[str, Any] = {"help": option.help + default, "dest": option.name}
    if option.kind is bool:
        keywords["action"] = argparse.BooleanOptionalAction
    else:
        names = {int: "N", float: "X", str: "TEXT"}
        keywords |= {"type": option.kind, "metavar": names[option.kind]}
        if option.choices:
            keywords |= {"choices": option.choices, "metavar": None}
        if option.many:
            keywords |= {"nargs": "+", "action": "extend"}
    sub.add_argument(f"--{option.name.replace('_', '-')}", **keywords)


def add_reproduce(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg reproduce`."""
    sub.add_argument("matrix", metavar="MATRIX", help="a shipped study's name, or a YAML file")
    sub.add_argument("--data", required=True, metavar="DIR", help="has xor-tydi/ and xquad/")
    sub.add_argument(
        "--model", required=True, metavar="FOLDER", help="the backbone, a Hugging Face folder"
    )
    sub.add_argument("--output", required=True, metavar="DIR", help="cells and tables")
    sub.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="cells at a time, each with its share of the cores (default 1)",
    )
    sub.add_argument(
        "--only",
        nargs="+",
        action="extend",
        metavar="PATTERN",
        help="cells by name, as *; and what these need",
    )
    sub.add_argument("--list", action="store_true", help="print the cells, their state and time")
    json_flag(sub)
