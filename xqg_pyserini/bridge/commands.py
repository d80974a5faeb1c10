"""Pyserini's own commands, run as they are with our encoders in them."""

import argparse
import importlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xqg_pyserini.bridge.java import prepare
from xqg_pyserini.errors import UserError
from xqg_pyserini.models.registry import resolve
from xqg_pyserini.retrieve.layout import refuse_language_aware

KEY = "xqg"  # what --encoder-class takes


def run_module(module: str, arguments: Sequence[str], verbose: bool = False) -> None:
    """Run `python -m pyserini.MODULE ARGUMENTS…` in this process, with `--encoder-class xqg`.

    All of Pyserini's flags work.  With `--encoder-class xqg`, `--encoder` is a name of the
    registry and brings its own settings.  `pyserini.encode … --to-faiss` gets the encoder's real
    dimension; a `--dimension` that differs is an error, and no index is left behind.

    Raises:
        UserError: for a module that Pyserini does not have, or a wrong dimension.
    """
    name = module if module.startswith("pyserini.") else f"pyserini.{module}"
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when Pyserini imports its bars
    prepare(verbose)
    if not all(part.isidentifier() for part in name.split(".")) or not _runnable(name):
        known = "encode, search.faiss, search.lucene, search.hybrid, index.lucene, fusion, eval.trec_eval"
        raise UserError(f"pyserini has no module {module!r} to run: expected e.g. {known}")
    arguments = list(arguments)
    if index := _value(arguments, "--index"):
        refuse_language_aware(index)
    with _our_encoders(name, arguments):
        sys.argv = [name, *arguments]
        runpy.run_module(name, run_name="__main__", alter_sys=True)


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
    """While it lasts, argparse takes `--encoder-class xqg`; the maps and the writer are ours."""
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

    argparse._ActionsContainer.add_argument = add_argument  # type: ignore
    try:
        yield
    finally:
        argparse._ActionsContainer.add_argument = original  # type: ignore


def _value(arguments: Sequence[str], flag: str) -> str | None:
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None
