"""`xqg`: the parser of all commands, the run of one, and what becomes of its errors.

A command is a module of this package with three names: `EPILOG`, the text below its help;
`add_flags`, which gives a parser its flags; and `run`, which calls the library and prints.  It is
imported when it is typed, so that `xqg --help` answers at once.
"""

import argparse
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Protocol, cast

from xqg_pyserini import __version__
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError, XqgWarning

COMMANDS = {
    "demo": "run the whole main job on the embedded collection, offline",
    "generate": "write queries in other languages for every passage",
    "filter": "drop generated queries that are no good",
    "encode": "encode a corpus into a passage store",
    "accumulate": "encode generated queries and sum them by language",
    "index": "write an index for Pyserini, with the queries mixed in",
    "search": "search an index, or the stores language-aware",
    "sweep": "compare many fusions in one pass over the stores",
    "evaluate": "score runs by R@kt and ranx's metrics, with tests",
    "mine": "write training data with hard negatives out of a run",
    "perturb": "write a perturbed copy of a questions file",
    "report": "make a page and plots of an evaluation or a sweep",
    "submit": "write or check an XOR-Retrieve leaderboard file",
    "check": "verify a store, an index or a folder of queries in full",
    "inspect": "measure stores: lengths, centres, counts, and what follows",
    "train": "train a retriever or a generator, in full or in part",
    "reproduce": "say where the study of fine-tuning for unseen languages lives",
    "pyserini": "run a Pyserini module with our encoders in it",
    "doctor": "say what this machine has and what would not work",
}
FLOW = """\
A real job, six commands:
  xqg generate   --corpus corpus.jsonl --model M --languages ar bn fi --output queries
  xqg encode     --corpus corpus.jsonl --encoder NAME --output passages
  xqg accumulate --queries queries --passages passages --output sums
  xqg index      --passages passages --queries sums --output index
  xqg search     --index index --topics questions.jsonl --output run.trec
  xqg evaluate   --questions questions.jsonl --corpus corpus.jsonl --runs run.trec
Begin with: xqg demo"""


class Command(Protocol):
    """What the module of a command has."""

    EPILOG: str

    def add_flags(self, parser: Parser) -> None:
        """Add the command's flags."""

    def run(self, args: argparse.Namespace) -> int | None:
        """Do what was typed; return the exit code, None for 0."""


def parser() -> Parser:
    """Build the parser of all commands; a command's flags are added when it is parsed."""
    top = Parser(
        prog="xqg", description="Cross-lingual dense retrieval with generated queries, on top of Pyserini.", epilog=FLOW
    )
    top.add_argument("--version", action="version", version=f"xqg_pyserini {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", fill=partial(_fill, name)
        )
        command.add_argument("--verbose", action="store_true", help="show third-party logs, tracebacks")
    return top


def _command(name: str) -> Command:
    return cast(Command, importlib.import_module(f"xqg_pyserini.cli.{name}"))


def _fill(name: str, parser: Parser) -> None:
    command = _command(name)
    parser.epilog = command.EPILOG
    command.add_flags(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code (0, 2 for what the user can mend, 1 for a bug)."""
    _limit_threads(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(argv)
    _set_up(args)
    with warnings.catch_warnings(record=True) as caught:
        if not args.verbose:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", XqgWarning)
        code = _run(args)
    if code == 0 or args.verbose:
        for warning in caught:
            print(f"{args.parser.prog}: warning: {warning.message}", file=sys.stderr)
    return code


def _limit_threads(argv: Sequence[str]) -> None:
    """Tell OpenMP and BLAS what --threads says: they read it when NumPy is loaded, with a command.

    Encoders and searches are given the number as an argument.
    """
    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("--threads", nargs="?")
    threads = early.parse_known_args(argv)[0].threads
    if threads and threads.isdecimal() and int(threads) and argv[0] != "pyserini":
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = threads


def _set_up(args: argparse.Namespace) -> None:
    """Keep third-party libraries quiet: they read the environment when they are loaded."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not args.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        logging.disable(logging.WARNING)


def _run(args: argparse.Namespace) -> int:
    try:
        code = _command(args.command).run(args) or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        return _fail(args, error, 2)
    except KeyboardInterrupt:
        what = "interrupted; long jobs (generate, encode, train, …) go on when run again"
        return _fail(args, UserError(what), 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(args, UserError(f"{where}{error.strerror or error}"), 2)
    except Exception as error:
        texts = ("out of memory", "can't allocate memory")
        if isinstance(error, MemoryError) or any(text in str(error) for text in texts):
            return _fail(args, UserError("out of memory; use smaller batches", "batch_size"), 2)
        if args.verbose:
            raise
        what = f"unexpected {type(error).__name__}: {error} (a bug: --verbose shows where)"
        return _fail(args, UserError(what), 1)


def _fail(args: argparse.Namespace, error: UserError, code: int) -> int:
    """Print an error in one line, with the flags of the settings that it is about."""
    message = " ".join(str(error).split())
    flags = [flag for name in error.about if (flag := args.parser.flag(name))]
    missing = [flag for flag in dict.fromkeys(flags) if flag not in message.split()]
    if missing:
        message += f" ({', '.join(missing)})"
    print(f"{args.parser.prog}: error: {message}", file=sys.stderr)
    return code
