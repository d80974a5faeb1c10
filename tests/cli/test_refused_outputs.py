"""Outputs that exist, hold inputs, or do not fit on the disk."""

import os

import pytest
from spoil import line

FOLDER_COMMANDS = ["encode", "filter", "accumulate", "index", "merge", "evaluate", "report"]


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_a_folder_that_holds_something_is_kept_unless_overwritten(command, scene, refuse, accept):
    (scene / "out").mkdir()
    (scene / "out" / "precious.txt").write_text("mine")
    assert refuse(command) == (
        "out: the folder already holds something; give another name, or overwrite it (--overwrite)"
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
        ("merge", ["S"]),
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
    ("command", "output"), [("accumulate", "P"), ("index", "Q"), ("encode", "."), ("encode", "..")]
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
    assert refuse(command, swap={"out": output}) == (f"{output}: is one of the inputs; give the output another name")


def test_a_file_of_a_corpus_directory_is_never_replaced_by_an_output_file(scene, refuse):
    (scene / "C").mkdir()
    (scene / "corpus.jsonl").rename(scene / "C" / "corpus.jsonl")
    error = refuse("submit", swap={"corpus.jsonl": "C", "out": "C/corpus.jsonl"})
    assert error == "C/corpus.jsonl: is one of the inputs; give the output another name"


def test_nothing_is_made_for_an_output_in_a_new_folder_either(scene, refuse):
    line(3, "{")(scene / "corpus.jsonl")
    assert refuse("encode", swap={"out": "new/deep/out"}).startswith("corpus.jsonl, line 3: ")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], "2 names for 1 runs; give one for each (--names)"),
        (None, "run.trec is given twice; give each run once (--names)"),
        (["a", "a"], "a is given twice; give each run once (--names)"),
    ],
)
def test_runs_without_a_name_of_their_own_are_refused(names, expected, scene, refuse):
    runs = ["run.trec"] if names == ["a", "b"] else ["run.trec", "run.trec"]
    command = "evaluate --questions questions.jsonl --corpus corpus.jsonl --output out --runs"
    assert refuse(command, *runs, *(["--names", *names] if names else [])) == expected


@pytest.mark.parametrize(
    "command",
    [
        *("encode", "filter", "accumulate", "index", "search", "submit", "report", "mine", "perturb"),
        *("merge", "encode-shards", "accumulate-shards", "index-shards"),
    ],
)
def test_a_full_disk_is_an_error_that_says_where_and_leaves_nothing(command, scene, refuse):
    largest = {"encode": 4096, "accumulate": 4096, "index": 4096, "search": 100, "submit": 100}
    largest["filter"] = 700  # stderr is such a file too, and names one below the output
    largest["report"] = 4096
    largest |= {"mine": 100, "perturb": 100, "merge": 2048}
    largest |= {"encode-shards": 3000, "accumulate-shards": 3000, "index-shards": 1024}  # not even one shard
    error = refuse(command, largest_file=largest[command])
    assert "File too large" in error
    assert "out" in error
