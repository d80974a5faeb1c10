"""`xqg`: the parser of all commands, the run of one, and what becomes of its errors.

A command is a module of this package with two functions: `add_flags`, which gives a parser its flags, and `run`, which
takes what was parsed, calls the library, prints, and returns the exit code (None for 0).  What stands below its help is
in resources/help.  It is imported when it is typed, so that `xqg --help` answers at once.
"""

import argparse
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from xqg_pyserini import __version__
from xqg_pyserini.cli.flags import Parser, help_text, show_warnings
from xqg_pyserini.errors import UserError, XqgWarning

COMMANDS = {
    "demo": "run the whole main job on the embedded collection, offline",
    "generate": "write queries in other languages for every passage",
    "filter": "drop generated queries that are no good",
    "encode": "encode a corpus into a passage store",
    "accumulate": "encode generated queries and sum them by language",
    "align": "learn from generated queries what puts questions right",
    "index": "write an index for Pyserini, with the queries mixed in",
    "merge": "join the shards of a store or an index",
    "expand": "write passages with their queries behind their text, for BM25",
    "export": "write an index for OpenSearch, as Parquet, or as Lance",
    "search": "search an index, or the stores language-aware",
    "fuse": "fuse runs: RRF, interpolation and others",
    "rerank": "put a run's best hits in the order of a cross-encoder or ColBERT",
    "serve": "a page and an API to try a collection: two ways side by side",
    "sweep": "compare many fusions in one pass over the stores",
    "evaluate": "score runs by R@kt, nDCG, MRR, … with tests",
    "mine": "write training data with hard negatives out of a run",
    "perturb": "write a perturbed copy of a questions file",
    "report": "make a page and plots of an evaluation or a sweep",
    "submit": "write or check an XOR-Retrieve leaderboard file",
    "check": "verify a store, an index, an alignment or queries in full",
    "inspect": "measure stores or an alignment, and say what follows",
    "train": "train a retriever or a generator, in full or in part",
    "reproduce": "run a published table, command by command, and mark its scores",
    "pyserini": "run a Pyserini module with our encoders in it",
    "encoders": "list what encoders are known and here, or check one",
    "doctor": "say what this machine has and what would not work",
}


def parser() -> Parser:
    """Build the parser of all commands; a command's flags are added when it is parsed."""
    what = "Cross-lingual dense retrieval with generated queries, on top of Pyserini."
    top = Parser(prog="xqg", description=what, epilog=help_text("xqg"))
    top.add_argument("--version", action="version", version=f"xqg_pyserini {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        sentence = text[0].upper() + text[1:] + "."
        command = commands.add_parser(name, help=text, description=sentence, fill=partial(_fill, name))
        command.add_argument("--verbose", action="store_true", help="show third-party logs, tracebacks")
    return top


def _command(name: str) -> ModuleType:
    return importlib.import_module(f"xqg_pyserini.cli.{name}")


def _fill(name: str, parser: Parser) -> None:
    parser.epilog = help_text(name)
    _command(name).add_flags(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code (0, 2 for what the user can mend, 1 for a bug)."""
    if argv is None and sys.argv[1:2] == ["train"]:
        _keep_freed_memory()
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv)
    _set_up(args)
    with warnings.catch_warnings(record=True) as caught:
        if not args.verbose:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", XqgWarning)
        with _ending() as came:
            code = _run(args, came, argv)
    if code == 0 or args.verbose:
        show_warnings(args, caught)
    return code


def _keep_freed_memory() -> None:
    """Start this process anew with variables that glibc reads at its start, unless the user has set one.

    A step of full tuning frees gradients of hundreds of MB; handed back to the system, they return page by page.
    """
    keep = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
    if sys.platform == "linux" and sys.executable and not keep.keys() & os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | keep)


def _set_up(args: argparse.Namespace) -> None:
    """Keep third-party libraries quiet: they read the environment when they are loaded."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not args.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        logging.disable(logging.WARNING)


class _Ended(KeyboardInterrupt):
    """A signal asked the process to end; at a plain KeyboardInterrupt subprocess waits for nothing that it killed."""


@contextmanager
def _ending() -> Iterator[list[int]]:
    """Let signals that ask a process to end do so as Ctrl-C does, where nobody else has a say in them.

    Gives the numbers of those that came: the exception cannot carry one, since Ray raises another in its place.
    """
    came: list[int] = []

    def end(number: int, frame: Any) -> None:
        came.append(number)
        raise _Ended

    taken = []
    if threading.current_thread() is threading.main_thread():
        asked = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        taken = [number for number in asked if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield came
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _check_text(words: Sequence[str]) -> None:
    """Raise `UserError` for a word that is no text: records, tables and libraries could not take it."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"{word!a} is not UTF-8; give the file another name") from None


def _run(args: argparse.Namespace, came: Sequence[int] = (), argv: Sequence[str] = ()) -> int:
    try:
        _check_text(argv)
        code = _command(args.command).run(args) or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        return _fail(args, error, 2)
    except KeyboardInterrupt:
        number = int(came[-1] if came else signal.SIGINT)
        what = (
            f"interrupted ({signal.Signals(number).name}); long jobs (generate, encode, train, …) go on when run again"
        )
        return _fail(args, UserError(what), 128 + number)
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
        return _fail(args, UserError(f"unexpected {type(error).__name__}: {error} (a bug: --verbose shows where)"), 1)


def _fail(args: argparse.Namespace, error: UserError, code: int) -> int:
    """Print an error in one line, with the flags of the settings that it is about."""
    message = " ".join(str(error).split())
    flags = [flag for name in error.about if (flag := args.parser.flag(name))]
    missing = [flag for flag in dict.fromkeys(flags) if flag not in message.split()]
    if missing:
        message += f" ({', '.join(missing)})"
    print(f"{args.parser.prog}: error: {message}", file=sys.stderr)
    return code
