"""Pyserini's own commands, run as they are with our encoders in them."""

import argparse
import glob
import importlib
import importlib.util
import json
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xqg_pyserini.bridge.java import prepare
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import read_lines
from xqg_pyserini.models.registry import registry, resolve
from xqg_pyserini.retrieve.directories import FaissDirectory
from xqg_pyserini.retrieve.layout import INDEX, META, refuse_language_aware

KEY = "xqg"  # what --encoder-class takes


def run_module(module: str, arguments: Sequence[str], verbose: bool = False) -> None:
    """Run `python -m pyserini.MODULE ARGUMENTS…` in this process, with `--encoder-class xqg`.

    All of Pyserini's flags work.  With `--encoder-class xqg`, `--encoder` is a name of the
    registry and brings its own settings; `search.lucene --dense` takes it too.  `pyserini.encode … --to-faiss` gets the
    encoder's real dimension; a `--dimension` that differs is an error, and no index is left behind.

    Raises:
        UserError: for a module that Pyserini does not have, or a wrong dimension.
    """
    name = module if module.startswith("pyserini.") else f"pyserini.{module}"
    prepare(verbose)
    if not all(part.isidentifier() for part in name.split(".")) or not _runnable(name):
        known = "encode, search.faiss, search.lucene, search.hybrid, index.lucene, fusion, eval.trec_eval"
        raise UserError(f"pyserini has no module {module!r} to run: expected e.g. {known}")
    arguments = _with_dimension(name, list(arguments))
    if index := _value(arguments, "--index"):
        refuse_language_aware(index)
    if name == "pyserini.search.lucene":
        arguments = _our_dense_queries(arguments)
    with _our_encoders(name, arguments):
        sys.argv = [name, *arguments]
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except (UserError, OSError, MemoryError):
            raise
        except Exception as error:
            if verbose:
                raise
            raise UserError(
                f"pyserini's {module} ended with {type(error).__name__}: {error} (--verbose shows where)"
            ) from None


# module → its flag for the dimension (768 unless given), and the one that names what is read
_DIMENSIONS = {
    "pyserini.index.faiss": ("--dim", "--input"),
    "pyserini.index.merge_faiss_indexes": ("--dimension", "--prefix"),
    "pyserini.encode.merge_faiss_index": ("--dimension", "--input"),
}


def _with_dimension(name: str, arguments: list[str]) -> list[str]:
    """Return the arguments with the real dimension of what a module reads.

    Raises `UserError` where another is given, or where the vectors cannot be found.
    """
    flag, source = _DIMENSIONS.get(name, ("", ""))
    given, path = _value(arguments, flag), _value(arguments, source)
    if not flag or path is None or "--help" in arguments:
        return arguments
    if source == "--prefix":
        folders = [Path(f"{path}{i}") for i in range(int(_value(arguments, "--shard-num") or 1))]
    else:
        folders = [Path(found) for found in sorted(glob.glob(path))] or [Path(path)]
    real = {folder: _dimension(folder) for folder in folders}
    first = real[folders[0]]
    for folder, dimension in real.items():
        if dimension != first:
            raise UserError(
                f"{folder} has {dimension} dimensions, {folders[0]} has {first}; merge what one encoder made"
            )
    if given is None:
        return [*arguments, flag, str(first)]
    if given != str(first):
        raise UserError(f"{flag} is {given}, but {folders[0]} has {first} dimensions")
    return arguments


def _dimension(folder: Path) -> int:
    """Return the dimension of an index's vectors, or of those in a folder of JSON Lines."""
    refuse_language_aware(folder)
    if (folder / INDEX).is_file():
        return FaissDirectory(folder).d
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of an index or of embeddings")
    for path in sorted(folder.iterdir()):
        for line in read_lines(path):
            try:
                return len(json.loads(line.text)["vector"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise line.error('expected Pyserini\'s embeddings: {"id", "vector"}') from None
    raise UserError(f"{folder}: holds no index and no embeddings")


def _our_dense_queries(arguments: list[str]) -> list[str]:
    """Let `search.lucene --dense --encoder-class xqg` encode with our encoder; return what is left for Pyserini."""
    if "--dense" not in arguments:
        return arguments
    encoder, index = _value(arguments, "--encoder"), _value(arguments, "--index")
    if _value(arguments, "--encoder-class") != KEY:
        if encoder in registry():  # Anserini would look for a model of that name, and may never end
            raise UserError(f"the encoder {encoder!r} is not Anserini's; it takes --encoder-class {KEY}")
        return arguments
    if encoder is None or index is None:
        raise UserError("--encoder-class xqg needs --encoder NAME and --index DIR")
    module = importlib.import_module("xqg_pyserini.bridge.encoders")
    ours = Path(index) if (Path(index) / META).is_file() else None
    if ours is None:
        resolve(encoder)
    module.encode_dense_queries(module.bound(ours)(encoder))
    at = next(i for i, word in enumerate(arguments) if word.startswith("--encoder-class"))
    return arguments[:at] + arguments[at + (1 if "=" in arguments[at] else 2) :]


def _runnable(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
        if spec and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError:
        return False
    return spec is not None


@contextmanager
def _our_encoders(name: str, arguments: Sequence[str]) -> Iterator[None]:
    """While it lasts, argparse takes `--encoder-class xqg`; the maps and the writer are ours; bars need a terminal."""
    if _value(arguments, "--encoder-class") == KEY:
        encoder, index = _value(arguments, "--encoder"), _value(arguments, "--index")
        if encoder is None:
            raise UserError("--encoder-class xqg needs --encoder NAME")
        ours = Path(index) if index and (Path(index) / "docid").is_file() else None
        if ours is None:
            resolve(encoder)  # an unknown name is an error before anything is loaded
        importlib.import_module("xqg_pyserini.bridge.encoders").register(ours)
    if name == "pyserini.encode":
        module = importlib.import_module("xqg_pyserini.bridge.encoders")
        module.guard_dimension(_value(arguments, "--dimension"))
    original = argparse._ActionsContainer.add_argument

    def add_argument(container: Any, *names: Any, **options: Any) -> Any:
        if "--encoder-class" in names and options.get("choices"):
            options["choices"] = [*options["choices"], KEY]
        return original(container, *names, **options)

    bar = tqdm.__init__
    argparse._ActionsContainer.add_argument = add_argument  # type: ignore
    tqdm.__init__ = partialmethod(bar, disable=None)  # type: ignore  # None: shown where stderr is a terminal
    try:
        yield
    finally:
        argparse._ActionsContainer.add_argument = original  # type: ignore
        tqdm.__init__ = bar  # type: ignore


def _value(arguments: Sequence[str], flag: str) -> str | None:
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None
