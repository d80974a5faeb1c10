"""Pyserini's own commands, run as they are with our encoders in them."""

import argparse
import importlib
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
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
        raise UserError(
            f"pyserini has no module {module!r} to run: expected e.g. encode, search.faiss, "
            "search.lucene, search.hybrid, index.lucene, fusion, eval.trec_eval"
        )
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


class _our_encoders:
    """While it lasts, argparse takes `--encoder-class xqg`; the maps and the writer are ours."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self._name, self._arguments = name, arguments

    def __enter__(self) -> None:
        if _value(self._arguments, "--encoder-class") == KEY:
            encoder = _value(self._arguments, "--encoder")
            if encoder is None:
                raise UserError("--encoder-class xqg needs --encoder NAME")
            index = _value(self._arguments, "--index")
            ours = Path(index) if index and (Path(index) / "docid").is_file() else None
            if ours is None:
                resolve(encoder)  # an unknown name is an error before anything is loaded
            module = importlib.import_module("xqg_pyserini.bridge.encoders")
            module.register(ours)
        if self._name == "pyserini.encode":
            module = importlib.import_module("xqg_pyserini.bridge.encoders")
            module.guard_dimension(_value(self._arguments, "--dimension"))
        self._add_argument = argparse._ActionsContainer.add_argument
        original = self._add_argument

        def add_argument(container: Any, *names: Any, **options: Any) -> Any:
            if "--encoder-class" in names and options.get("choices"):
                options["choices"] = [*options["choices"], KEY]
            return original(container, *names, **options)

        argparse._ActionsContainer.add_argument = add_argument  # type: ignore

    def __exit__(self, *_: Any) -> None:
        argparse._ActionsContainer.add_argument = self._add_argument  # type: ignore


def _value(arguments: Sequence[str], flag: str) -> str | None:
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None
