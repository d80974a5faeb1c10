"""Java for Pyserini: found, set to start with the options that it needs, and quiet."""

import importlib.util
import logging
import os
import sys

from xqg_pyserini.bridge.offline import serve_offline
from xqg_pyserini.errors import UserError
from xqg_pyserini.java import Java, configure
from xqg_pyserini.models.server import KEY_VARIABLE, NO_KEY


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
    java = configure(verbose)
    # trec_eval is spawned as `java`
    os.environ["PATH"] = f"{java.home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    # Pyserini imports a client that looks for a key, even where it is never used
    os.environ.setdefault(KEY_VARIABLE, NO_KEY)
    serve_offline()
    if not verbose:
        # Pyserini calls basicConfig on import, which does nothing once logging is configured
        logging.basicConfig(level=logging.ERROR)
    _prepared.append(java)
    return java


_prepared: list[Java] = []
