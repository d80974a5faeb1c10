"""Matrix files: those that are shipped, and what is refused of others."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from made_matrix import make

from xqg_pyserini.cli.main import parser
from xqg_pyserini.errors import UserError
from xqg_pyserini.reproduce.matrix import read_matrix, shipped_matrices
from xqg_pyserini.reproduce.running import reproduce

SHIPPED = shipped_matrices()


def test_the_shipped_ones():
    assert SHIPPED == ["afriqa", "belebele", "ciral", "demo", "miracl", "mlqa", "mrtydi", "xor-tydi", "xquad"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_lines_are_commands_that_can_be_typed(name):
    """Nothing is run; what is printed for a shell splits into the same words."""
    matrix = read_matrix(name)
    assert matrix.name == name
    known, top = pyserini_flags(), parser()
    for command in matrix.commands:
        assert shlex.split(str(command)) == list(command.words)
        if command.words[0] == "xqg":
            top.parse_args(command.words[1:])
        else:
            compile(command.words[2], name, "exec")  # python -c
        if command.words[1] == "pyserini" and command.words[2] != "eval.trec_eval":
            assert {w for w in command.words[3:] if w.startswith("--")} <= known[command.words[2]]


def test_the_page_s_example_is_one(tmp_path):
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "reproduce.md").read_text("utf-8"), re.M | re.S)
    (tmp_path / "small.yaml").write_text(text, "utf-8")
    matrix = read_matrix(tmp_path / "small.yaml", {"encoder": "--encoder 'an other'"})
    assert [command.words[1] for command in matrix.commands] == ["encode", "index", "search", "evaluate"]
    assert matrix.commands[0].words[4:6] == ("--encoder", "an other")


def pyserini_flags() -> dict[str, set[str]]:
    """Flags as Pyserini's sources spell them: to import them starts Java."""
    folder = Path(find_spec("pyserini").origin).parent / "search"
    return {f"search.{kind}": set(re.findall(r"['\"](--[\w-]+)['\"]", (folder / kind / "__main__.py").read_text()))
            for kind in ("faiss", "lucene")}  # fmt: skip


@pytest.mark.parametrize("name", ["mrtydi", "miracl", "ciral"])
def test_topics_and_indexes_are_those_of_pyserini_s_pages(name):
    page = (Path(find_spec("pyserini").origin).parent / "2cr" / f"{name}.yaml").read_text("utf-8")
    for command in read_matrix(name).commands:
        words = dict(zip(command.words, command.words[1:], strict=False))
        if command.words[2] != "eval.trec_eval":
            topics = re.sub(r"-(test|dev|test-a)(-native)?$", r"-${split}\2", words["--topics"])
            assert f"--topics {topics} --index {words['--index']} " in page


def test_expected_averages_are_those_of_their_languages():
    for name in SHIPPED:
        for condition in read_matrix(name).conditions:
            for expected in condition.expected:
                by_language = [value for language, value in expected.values.items() if language != "average"]
                if "average" in expected.values and len(by_language) > 1:
                    mean = sum(by_language) / len(by_language)
                    away = 0.1 if expected.metric == "R@2kt" or max(by_language) > 1 else 0.00006
                    assert abs(mean - expected.values["average"]) < away, (name, condition.name, expected.metric)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: tiny", "name: tiny\nname: other", "broken YAML (line 3: the key 'name' stands twice in one object)"),
        ("name: tiny", "name: tiny\nbogus: 1", "Object contains unknown field `bogus`"),
        ("needs: [a hub]", "need: [a hub]", "conditions[2]: Object contains unknown field `need`"),
        ("average: 66.0", "average: high", "conditions[1].expected[0].values"),
        ("{ok: 0.05, close: 1}", "{ok: 0.05}", "tolerance: Object missing required field `close`"),
        ("get: the drawer, sha256: ", "get: the drawer, sha256: z", "inputs[0].sha256: Expected `str` matching"),
        ("number.txt --output one", "numbers.txt --output one", "conditions[0].commands[1]: $DATA/numbers.txt is none"),
        ("{plus}", "{minus}", "conditions[0].commands[1]: no variable {minus}; there are: plus"),
        (
            "- python $DATA/scorer/eval.trec_eval one.txt",
            "- rm one.txt",
            "conditions[0].commands[2]: expected a command",
        ),
        (
            "- python $DATA/scorer/eval.trec_eval one.txt",
            "- python 'one",
            "conditions[0].commands[2]: No closing quotation",
        ),
        ("--output two.txt", "--output ../two.txt", "the output '../two.txt' is no path of its own below"),
        ("--output two.txt", "--output commands/two", "the output 'commands/two' is no path of its own below"),
        ("--output two.txt", "--output one.txt", "the output 'one.txt' stands twice"),
        ("name: second", "name: first", "the condition 'first' stands twice"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, old, new, message):
    path = make(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_matrix(path)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_wrong_flags_of_the_command_line(tmp_path, serve):
    make(tmp_path)

    def said(*words):
        code, stdout, stderr = serve(["reproduce", *words], tmp_path)
        assert (code, stdout) == (2, "")
        return stderr.removeprefix("xqg reproduce: error: ").rstrip("\n")

    assert said() == "give a matrix file, or the name of a shipped one; --list lists these"
    assert said("peft-unseen").startswith("peft-unseen: no such file, and no matrix that is shipped: afriqa, belebele,")
    assert said("tiny.yaml", "--data", "data", "--condition", "third") == (
        "tiny has no condition 'third'; it has first, second, far (--condition)"
    )
    assert said("tiny.yaml", "--set", "minus=1") == "tiny.yaml: no variable 'minus'; there are: plus (--set)"
    assert said("tiny.yaml", "--set", "plus") == "'plus' sets no variable; expected NAME=VALUE (--set)"
    text = (tmp_path / "tiny.yaml").read_text()
    (tmp_path / "tiny.yaml").write_text(
        text.replace("python -c 'raise OSError(\"no network here\")'", "xqg serch --index i")
    )
    assert said("tiny.yaml").startswith("tiny.yaml: far: xqg serch: argument COMMAND: invalid choice: 'serch'")


def test_lists(tmp_path, serve):
    make(tmp_path)
    code, stdout, _ = serve(["reproduce", "--list"], tmp_path)
    assert code == 0 and [line.split()[0] for line in stdout.splitlines()] == SHIPPED
    code, stdout, _ = serve(["reproduce", "tiny.yaml", "--list"], tmp_path)
    assert code == 0 and stdout.splitlines()[2:] == [
        "first: the number as it is (1 figures)",
        "second: twice the number (1 figures)",
        "far: what nobody has (1 figures); needs a hub",
    ]


def test_languages_repeat_a_line_and_average_their_runs(tmp_path):
    path = make(
        tmp_path,
        """
name: loop
description: one run a language
tolerance: {ok: 0.0, close: 0.1}
inputs: [{path: scorer/eval.trec_eval, get: the drawer}]
conditions:
  - name: all
    languages: {ar: "10", fi: "20"}
    commands:
      - python -c 'open("{language}.txt", "w").write("{name}")' --output {language}.txt
      - python $DATA/scorer/eval.trec_eval {language}.txt
    expected:
      - {run: "{language}.txt", metric: recip_rank, values: {ar: 10, fi: 20.5, average: 15}, source: by hand}
""",
    )
    matrix = read_matrix(path)
    assert [command.words[-1] for command in matrix.commands] == ["ar.txt", "fi.txt", "ar.txt", "fi.txt"]
    (outcome,) = reproduce(matrix, tmp_path / "out", data=tmp_path / "data").outcomes
    assert [(f.language, f.got, f.mark) for f in outcome.figures] == [
        *(("ar", 10, "OK"), ("fi", 20, "FAIL"), ("average", 15, "OK"))
    ]
