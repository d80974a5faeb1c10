"""The command line: what can be typed is in `cli`, what it does in `commands`.

Nothing heavy is imported here: `xqg --help` answers at once.
"""

import argparse
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from xqg_pyserini import __version__
from xqg_pyserini.cli.common import Parser, json_flag, raw
from xqg_pyserini.cli.evaluation import METRICS, REPORT, add_evaluate, add_report, add_submit
from xqg_pyserini.cli.passages import (
    ENCODERS,
    FILTER,
    MODELS,
    add_accumulate,
    add_demo,
    add_encode,
    add_filter,
    add_generate,
)
from xqg_pyserini.cli.retrieval import (
    FUSION,
    PYSERINI,
    SWEEP,
    add_index,
    add_inspect,
    add_pyserini,
    add_search,
    add_sweep,
)
from xqg_pyserini.cli.training import (
    MINING,
    PERTURB,
    REPRODUCE,
    TRAIN,
    add_mine,
    add_perturb,
    add_reproduce,
    add_train,
)
from xqg_pyserini.errors import UserError, XqgWarning

FLOW = """\
A real job, six commands:
  xqg generate   --corpus corpus.jsonl --model M --languages ar bn fi --output queries
  xqg encode     --corpus corpus.jsonl --encoder NAME --output passages
  xqg accumulate --queries queries --passages passages --output sums
  xqg index      --passages passages --queries sums --output index
  xqg search     --index index --topics questions.jsonl --output run.trec
  xqg evaluate   --questions questions.jsonl --corpus corpus.jsonl --runs run.trec
Begin with: xqg demo"""


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = Parser(
        prog="xqg",
        description="Cross-lingual dense retrieval with generated queries, on top of Pyserini.",
        **raw(FLOW),
    )
    top.add_argument("--version", action="version", version=f"xqg_pyserini {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, epilog: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            **raw(epilog),
        )
        sub.add_argument("--verbose", action="store_true", help="show third-party logs, tracebacks")
        return sub

    add_demo(command("demo", "run the whole main job on the embedded collection, offline"))
    add_generate(command("generate", "write queries in other languages for every passage", MODELS))
    add_filter(command("filter", "drop generated queries that are no good", FILTER))
    add_encode(command("encode", "encode a corpus into a passage store", ENCODERS))
    add_accumulate(command("accumulate", "encode generated queries and sum them by language"))
    add_index(command("index", "write an index for Pyserini, with the queries mixed in", FUSION))
    add_search(command("search", "search an index, or the stores language-aware", FUSION))
    add_sweep(command("sweep", "compare many fusions in one pass over the stores", SWEEP))
    add_evaluate(command("evaluate", "score runs by R@kt and ranx's metrics, with tests", METRICS))
    add_mine(command("mine", "write training data with hard negatives out of a run", MINING))
    add_perturb(command("perturb", "write a perturbed copy of a questions file", PERTURB))
    add_report(command("report", "make a page and plots of an evaluation or a sweep", REPORT))
    add_submit(command("submit", "write or check an XOR-Retrieve leaderboard file"))
    add_inspect(command("inspect", "measure stores: lengths, centres, counts, and what follows"))
    add_train(command("train", "train a retriever or a generator, in full or in part", TRAIN))
    add_reproduce(command("reproduce", "run a study, cell by cell, and make its tables", REPRODUCE))
    add_pyserini(command("pyserini", "run a Pyserini module with our encoders in it", PYSERINI))
    doctor = command("doctor", "say what this machine has and what would not work")
    json_flag(doctor)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code (0, 2 for what the user can mend, 1 for a bug)."""
    arguments = parser().parse_args(argv)
    _quiet(arguments)
    with warnings.catch_warnings(record=True) as caught:
        if not arguments.verbose:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", XqgWarning)
        code = _run(arguments)
    if code == 0 or arguments.verbose:
        for warning in caught:
            print(f"{arguments.prog}: warning: {warning.message}", file=sys.stderr)
    return code


def _quiet(arguments: argparse.Namespace) -> None:
    threads = getattr(arguments, "threads", None)
    if threads is not None:
        # read when NumPy, Faiss, torch and the engines are loaded, which is later
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not arguments.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        logging.disable(logging.WARNING)


def _run(arguments: argparse.Namespace) -> int:
    try:
        commands = importlib.import_module("xqg_pyserini.cli.commands")
        code = int(getattr(commands, arguments.command)(arguments) or 0)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _fail(arguments, str(error), 2)
    except KeyboardInterrupt:
        return _fail(
            arguments,
            "interrupted; long jobs (generate, encode, train, …) go on when run again",
            130,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(arguments, f"{where}{error.strerror or error}", 2)
    except MemoryError:
        return _fail(arguments, "out of memory; try a smaller --batch-size", 2)
    except Exception as error:
        if any(words in str(error) for words in ("out of memory", "can't allocate memory")):
            return _fail(arguments, "out of memory; try a smaller --batch-size", 2)
        if arguments.verbose:
            raise
        what = f"{type(error).__name__}: {error}"
        return _fail(arguments, f"unexpected {what} (a bug: --verbose shows where)", 1)


def _fail(arguments: argparse.Namespace, message: str, code: int) -> int:
    print(f"{arguments.prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
