"""`xqg reproduce`: marks, what is run again and what is not, refusals, pages; in processes of their own."""

import json
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import put, run_xqg, write_jsonl
from made_matrix import make

from xqg_pyserini.reproduce.matrix import read_matrix
from xqg_pyserini.reproduce.running import reproduce


@pytest.fixture
def place(tmp_path):
    make(tmp_path)
    return tmp_path


@pytest.fixture
def again(tmp_path, serve):
    """Run the tiny matrix; return the exit code, and its figures by condition."""

    def run(*more):
        code, stdout, stderr = serve(["reproduce", "tiny.yaml", "--data", "data", "--json", *more], tmp_path)
        if code == 2:
            return code, stderr
        return code, {one["condition"]: one for one in json.loads(stdout)["outcomes"]}

    return run


def marks(outcomes):
    return {name: [f["mark"] for f in one["figures"]] for name, one in outcomes.items()}


def counted(place):
    return (place / "reproduce-tiny" / "count").read_text()


def test_marks_and_nothing_is_run_twice(place, again):
    code, outcomes = again()
    assert (code, marks(outcomes)) == (0, {"first": ["OK"], "second": ["close"], "far": [""]})
    assert outcomes["second"]["figures"][0]["got"] == 66.6
    assert counted(place) == "m12"  # what both conditions make is made once
    assert again()[0] == 0
    assert counted(place) == "m12"


def test_a_score_that_is_far_off_fails(place, again):
    (place / "tiny.yaml").write_text((place / "tiny.yaml").read_text().replace("average: 66.0", "average: 65.5"))
    code, outcomes = again()
    assert (code, marks(outcomes)["second"]) == (1, ["FAIL"])
    assert marks(outcomes)["first"] == ["OK"]


def test_a_changed_command_is_run_again_and_what_follows_it(place, again):
    again()
    code, outcomes = again("--set", "plus=0.5")
    assert (code, marks(outcomes)["first"], outcomes["first"]["figures"][0]["got"]) == (0, ["close"], 33.8)
    assert counted(place) == "m121"
    assert again()[1]["first"]["figures"][0]["got"] == 33.3  # and back: nothing stale is taken
    assert counted(place) == "m1211"


def test_a_changed_input_is_taken_only_with_its_checksum(place, again):
    again()
    (place / "data" / "number.txt").write_text("20")
    code, said = again()
    assert code == 2
    assert "data/number.txt: its SHA-256 is f5ca38f748a1…" in said and "get it anew from the other drawer" in said
    matrix = place / "tiny.yaml"
    old, new = (sha256(text.encode()).hexdigest() for text in ("33.3", "20"))
    matrix.write_text(matrix.read_text().replace(old, new))
    assert again()[1]["first"]["figures"][0]["got"] == 20
    assert counted(place) == "m1212"  # the first step reads no input


def test_a_command_that_was_cut_off_goes_on(place, again):
    again()
    folder = place / "reproduce-tiny"
    (stamp,) = [p for p in (folder / "commands").glob("*.json") if '"one.txt"' in p.read_text()]
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"seconds": None}))
    (folder / "one.txt").unlink()
    code, outcomes = again()
    assert (code, marks(outcomes)["first"], counted(place)) == (0, ["OK"], "m121")


def test_a_run_that_is_terminated_takes_its_command_with_it_and_goes_on(place, again):
    """The command sleeps where it is run first; what it had written by then is there when it is run again."""
    long = 'import os, time; there = os.path.exists("begun"); open("begun", "w").write(str(os.getpid())); '
    long += 'there or time.sleep(60); open("one.txt", "w").write("33.3")'
    matrix = place / "tiny.yaml"
    text = matrix.read_text()
    begin, end = text.index("      - python -c", text.index("--output made")), text.index("      - python $DATA")
    matrix.write_text(f"{text[:begin]}      - python -c '{long}' --output one.txt\n{text[end:]}")
    words = [sys.executable, "-m", "xqg_pyserini", "reproduce", "tiny.yaml", "--data", "data"]
    process = subprocess.Popen(words, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    begun = place / "reproduce-tiny" / "begun"
    while not (begun.exists() and begun.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + 15 and "interrupted (SIGTERM)" in stderr.splitlines()[-1]
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
    assert marks(again()[1])["first"] == ["OK"]


@pytest.mark.parametrize(("said", "ends"), [("the folder already holds something", 0), ("out of luck", 1)])
def test_what_ended_unrecorded_and_is_refused_now_starts_afresh(place, again, said, ends):
    """As `xqg encode` refuses what it has written already; other refusals leave the output alone."""
    once = f'import os, sys; os.path.exists("one.txt") and [print("{said}", file=sys.stderr), sys.exit(2)]; '
    once += 'open("one.txt", "w").write("33.3")'
    matrix = place / "tiny.yaml"
    text = matrix.read_text()
    begin, end = text.index("      - python -c", text.index("--output made")), text.index("      - python $DATA")
    matrix.write_text(f"{text[:begin]}      - python -c '{once}' --output one.txt\n{text[end:]}")
    assert again()[0] == 0
    (stamp,) = [p for p in (place / "reproduce-tiny" / "commands").glob("*.json") if "sys.exit(2)" in p.read_text()]
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"seconds": None}))
    assert again()[0] == ends
    assert (place / "reproduce-tiny" / "one.txt").exists()


def test_what_needs_a_hub_runs_when_asked_and_fails_in_one_line(place, serve):
    words = ["reproduce", "tiny.yaml", "--data", "data", "--condition", "first", "far", "--output", "out"]
    code, stdout, stderr = serve(words, place)
    assert code == 1
    (failed,) = [p for p in (place / "out" / "commands").glob("*.err") if "no network" in p.read_text()]
    (line,) = [line for line in stdout.splitlines() if line.startswith("far:")]
    assert line == f"far: OSError: no network here ({failed.relative_to(place)})"
    assert "not run: second (--condition second)" in stdout.splitlines()
    assert stderr.splitlines()[-1].startswith("far: python -c 'raise OSError")
    assert stdout.splitlines()[2].split() == ["first", "one.txt", "recip_rank", "average", "33.30", "33.30", "OK"]


def test_the_page_has_marks_sources_and_commands(place, again):
    (place / "tiny.yaml").write_text((place / "tiny.yaml").read_text().replace("as it is", "as <it> is"))
    again()
    page = (place / "reproduce-tiny" / "tiny.html").read_text("utf-8")
    assert "as &lt;it&gt; is" in page and "<it>" not in page
    assert "1 OK, 1 close, 0 FAIL" in page
    assert "Not run: it needs a hub." in page
    assert "python &quot;$DATA&quot;/scorer/eval.trec_eval one.txt" in page
    assert page.count("<details>") == 3 and "by hand" in page


def test_a_missing_input_says_where_it_comes_from(place, again):
    (place / "data" / "number.txt").unlink()
    code, said = again()
    assert (code, len(said.splitlines())) == (2, 1)
    assert said.endswith(
        "number.txt: no such input; get it from the other drawer, or name the folder that holds it (--data)\n"
    )
    assert not (place / "reproduce-tiny").exists()


def test_a_score_that_nobody_wrote_is_named(place, again):
    (place / "tiny.yaml").write_text((place / "tiny.yaml").read_text().replace("run: two.txt", "run: three.txt"))
    code, outcomes = again("--condition", "second")
    assert code == 1
    assert outcomes["second"]["failed"] == "no score of three.txt, recip_rank, average; there are: two.txt recip_rank"


def test_a_score_that_nobody_wrote_fails_whatever_is_tolerated(place, again):
    text = (place / "tiny.yaml").read_text().replace("run: two.txt", "run: three.txt")
    (place / "tiny.yaml").write_text(text.replace("{ok: 0.05, close: 1}", "{ok: .inf, close: .inf}"))
    code, outcomes = again("--condition", "second")
    assert (code, marks(outcomes)["second"]) == (1, ["FAIL"])


CHAIN = """
name: tiny
description: a folder is read, and what is made of it read by the folder, by a pattern and by itself
tolerance: {ok: 0.05, close: 1}
inputs:
  - {path: texts, get: the drawer}
conditions:
  - name: first
    description: numbers of letters
    commands:
      - python -c 'import glob, os, sys; os.makedirs("made", exist_ok=True); open("made/a", "w").write(str(sum(len(open(p).read()) for p in glob.glob(sys.argv[1] + "/*/*"))))' $DATA/texts --output=made/a
      - python -c 'open("by-folder", "w").write(open("made/a").read())' made --output by-folder
      - python -c 'open("by-pattern", "w").write(open("made/a").read())' made/* --output by-pattern
      - python -c 'open("by-itself", "w").write(open("made/a").read())' made/a --output by-itself
    expected:
      - {run: x, metric: y, values: {average: 1}, source: nowhere}
"""  # noqa: E501


def test_a_changed_file_in_a_folder_is_seen_and_all_that_reads_what_is_made_of_it_follows(tmp_path, again):
    texts = tmp_path / "data" / "texts" / "deep"
    texts.mkdir(parents=True)
    put(texts / "a.txt", "abc")
    put(tmp_path / "tiny.yaml", CHAIN)
    names = ("made/a", "by-folder", "by-pattern", "by-itself")
    for more, expected in (("", "3"), ("de", "5")):
        with open(texts / "a.txt", "a") as file:  # in place: the folders' own times stay
            file.write(more)
        again()
        written = {name: (tmp_path / "reproduce-tiny" / name).read_text() for name in names}
        assert written == dict.fromkeys(names, expected)


def test_other_folders_are_left_alone(place, refused):
    (place / "mine").mkdir()
    put(place / "mine" / "file", "x")
    words = ["reproduce", "tiny.yaml", "--data", "data", "--output", "mine"]
    assert refused(*words, cwd=place).endswith("mine: holds other things; give a new folder (--output)")


def test_the_dry_run_pasted_into_bash_gives_the_same_scores(tmp_path):
    """Real commands: `xqg evaluate` writes scores, and an input's name holds a space."""
    data = tmp_path / "da ta"
    data.mkdir()
    questions = [{"id": f"q{i}", "question": "?", "lang": "fi", "answers": ["x"]} for i in range(4)]
    write_jsonl(data / "questions.jsonl", questions)
    put(data / "qrels.txt", "".join(f"q{i} 0 d 1\n" for i in range(4)))
    put(data / "run.trec", "".join(f"q{i} Q0 {'d' if i else 'e'} 1 1 t\n" for i in range(4)))
    inputs = "".join(f"  - {{path: {p.name}, get: here}}\n" for p in sorted(data.iterdir()))
    matrix = put(
        tmp_path / "small.yaml",
        f"""name: small
description: three of four
tolerance: {{ok: 0.01, close: 1}}
inputs:
{inputs}conditions:
  - name: only
    commands:
      - python -c 'import shutil, sys; shutil.copy(sys.argv[1], sys.argv[3])' $DATA/run.trec --output mine.trec
      - >-
        xqg evaluate --questions $DATA/questions.jsonl --qrels $DATA/qrels.txt --runs mine.trec
        --metrics hit_rate@1 --output scores
    expected:
      - {{run: mine, metric: hit_rate@1, values: {{fi: 75, average: 75}}, source: by hand}}
""",
    )
    done = run_xqg("reproduce", matrix, "--data", data, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 OK, 0 close, 0 FAIL" in done.stdout
    script = run_xqg("reproduce", matrix, "--data", data, "--dry-run").stdout
    empty = tmp_path / "empty"
    empty.mkdir()
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-e"], input=script, text=True, cwd=empty, check=True, capture_output=True, env=env)
    same = [json.loads((folder / "scores" / "scores.json").read_text()) for folder in (tmp_path / "out", empty)]
    assert same[0] == same[1]


def test_the_dry_run_runs_nothing(place, serve):
    code, stdout, _ = serve(["reproduce", "tiny.yaml", "--data", "data", "--dry-run", "--condition", "far"], place)
    assert code == 0 and not (place / "reproduce-tiny").exists()
    assert "python -c 'raise OSError(\"no network here\")'" in stdout.splitlines()
    assert "# only with --condition first" in stdout.splitlines()


def test_python_does_the_same(place):
    done = reproduce(read_matrix(place / "tiny.yaml"), place / "out", data=place / "data", conditions=["first"])
    assert [f.mark for f in done.outcomes[0].figures] == ["OK"]
    assert done.fails == 0 and str(done).endswith("1 OK, 0 close, 0 FAIL")
