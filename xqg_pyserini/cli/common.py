"""Flags that several commands share, and how their values are read."""

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Argparse, with errors of one line; what it parses names the command, in `prog`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_defaults(prog=self.prog)  # of parsers in parsers, the innermost one's counts

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and where help is."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def raw(text: str) -> dict[str, Any]:
    """Return the arguments that give a parser an epilog as it stands."""
    return {
        "epilog": text,
        "formatter_class": lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28
        ),
    }


def positive(text: str) -> int:
    """Read a whole number, 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: expected 1 or more")
    return number


def numbers(text: str) -> range:
    """Read a number, or a range such as 0-31."""
    first, dash, last = text.partition("-")
    try:
        found = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        found = range(0)
    if not found or found.stop > 10**7:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0, or a range as 0-31")
    return found


def count(text: str) -> int:
    """Read a whole number, 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number}: expected 0 or more")
    return number


def share(text: str) -> float:
    """Read a number of points, 0.001 to 100."""
    number = float(text)
    if not 0.001 <= number <= 100:  # less takes more questions than can be counted
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0.001 to 100")
    return number


def json_flag(sub: argparse.ArgumentParser) -> None:
    """Add --json."""
    sub.add_argument("--json", action="store_true", help="print the result as JSON")


def overwrite_flag(sub: argparse.ArgumentParser) -> None:
    """Add --overwrite."""
    sub.add_argument("--overwrite", action="store_true", help="replace what --output already holds")


def encoder_flags(sub: argparse.ArgumentParser) -> None:
    """Add what decides how texts are encoded."""
    group = sub.add_argument_group("encoder")
    group.add_argument(
        "--adapter",
        metavar="DIR",
        help="put this adapter (from xqg train) on --encoder; it brings its pooling, prefixes, …",
    )
    group.add_argument(
        "--pooling", choices=["cls", "mean", "pooler"], help="how tokens become one vector"
    )
    group.add_argument(
        "--l2-norm", action=argparse.BooleanOptionalAction, help="scale embeddings to length 1"
    )
    group.add_argument("--query-prefix", metavar="TEXT", help='put before queries, e.g. "query: "')
    group.add_argument("--passage-prefix", metavar="TEXT", help="put before passages")
    group.add_argument("--query-length", type=int, metavar="N", help="longest query in tokens")
    group.add_argument("--passage-length", type=int, metavar="N", help="longest passage in tokens")
    group.add_argument(
        "--device",
        default="auto",
        help="auto (default: cuda where there is one), cpu, cuda, cuda:1",
    )
    group.add_argument("--precision", choices=["fp32", "fp16", "bf16"], default="fp32")
    group.add_argument(
        "--batch-size",
        type=int,
        default=32,
        metavar="N",
        help="longest texts a batch; shorter ones go in larger batches (default 32)",
    )
    group.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: all cores)"
    )


def fusion_flags(sub: argparse.ArgumentParser) -> None:
    """Add what decides how queries are mixed in."""
    group = sub.add_argument_group("fusion")
    group.add_argument("--fusion", choices=["sum", "mean"], help="how queries are mixed in")
    group.add_argument(
        "--alpha", type=float, metavar="A", help="weight of the sum (published: 0.01)"
    )
    group.add_argument("--beta", type=float, metavar="B", help="weight of the mean")
    group.add_argument(
        "--languages", nargs="+", metavar="xx", help="languages to mix in (default: all)"
    )
    group.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction, help="scale the result to length 1"
    )
    group.add_argument(
        "--center", action=argparse.BooleanOptionalAction, help="centre by the generated queries"
    )
    group.add_argument(
        "--num-queries",
        type=positive,
        metavar="K",
        help="mix in the first K queries a language, where accumulate kept them (default: all)",
    )
    liberties_flags(group)


def liberties_flags(group: argparse._ArgumentGroup) -> None:
    """Add what lets stores differ."""
    group.add_argument(
        "--allow-unequal",
        action="store_true",
        help="let a sum pass over unequal numbers of queries",
    )
    group.add_argument(
        "--skip-unknown",
        action="store_true",
        help="leave out queries for passages that are not there",
    )


def questions_flag(sub: argparse.ArgumentParser, flag: str) -> None:
    """Add the questions, and --language."""
    sub.add_argument(
        flag,
        required=True,
        dest="questions",
        metavar="FILE",
        help="XOR-TyDi or Pyserini JSON Lines, or TSV (id, tab, question)",
    )
    sub.add_argument("--language", metavar="xx", help="language of questions that name none (TSV)")


def queries_flag(sub: argparse.ArgumentParser) -> None:
    """Add which of the queries are used."""
    sub.add_argument(
        "--queries",
        required=True,
        metavar="PATH",
        help='JSON Lines {"docid", "generated_queries": {"ar": […]}}: file, directory, pattern',
    )


def scoring_flags(sub: argparse.ArgumentParser) -> None:
    """Add what runs are scored by, and tested."""
    sub.add_argument("--corpus", metavar="PATH", help="texts, for R@kt and relevance from answers")
    sub.add_argument("--metrics", nargs="+", default=["R@2kt", "R@5kt"], metavar="M")
    sub.add_argument("--qrels", metavar="FILE", help="TREC qrels for ranx's metrics")
    sub.add_argument("--test", choices=["student", "fisher", "mcnemar"], default="student")
    sub.add_argument("--correction", choices=["holm", "bonferroni", "bh", "none"], default="holm")
    sub.add_argument("--level", type=float, default=0.05, help="significance level (default 0.05)")
