"""JSON Lines and their like, spoilt: exit 2, one line on stderr, nothing written."""

import shutil
from pathlib import Path

import pytest
from command_server import COMMANDS
from conftest import write_jsonl
from spoil import GZIP, again, change, content, line, zipped


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_succeeds_on_the_scene_before_it_is_spoilt(command, accept, scene):
    accept(command)
    assert command in ("check", "inspect") or (scene / "out").exists()
    assert not list(scene.glob(".*"))


ANY_JSON_LINES = {
    "missing": (Path.unlink, "{file}: no such file or directory"),
    "empty": (content(b""), "{file}: no {what} in it; expected at least one"),
    "nothing but a BOM": (content(b"\xef\xbb\xbf"), "{file}: no {what} in it; expected at least one"),
    "blank lines": (content(b"\n \r\n\t\n"), "{file}: no {what} in it; expected at least one"),
    "broken JSON": (line(3, '{"id": "x", '), "{file}, line 3: broken JSON ("),
    "NUL bytes": (line(3, b"{\x00\x00}"), "{file}, line 3: broken JSON ("),
    "no object": (line(2, '["id", "x"]'), "{file}, line 2: expected a JSON object, found list"),
    "no id": (change(2, drop=("id", "docid")), "{file}, line 2: a record without id (expected one of "),
    "id is null": (change(2, drop=("id", "docid"), _id=None), "{file}, line 2: _id is None, not a string"),
    "id is empty": (change(2, drop=("id", "docid"), _id=""), "{file}, line 2: _id is empty"),
    "id is a fraction": (change(2, drop=("id", "docid"), _id=7.0), "{file}, line 2: _id is 7.0, not a string"),
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
    "not UTF-8": (line(2, b'{"id": "\xff"}'), "{file}, line 2: not UTF-8 (byte 9 of the line); convert it"),
    "gzip without its last bytes": (zipped(4), "{file}, after line {last}: " + GZIP),
    "gzip cut in half": (zipped(90), GZIP),
    "half a surrogate pair": (
        line(2, '{"id": "x\\ud83d", "text": "t", "question": "t", "generated_queries": {}}'),
        "{file}, line 2: holds half a surrogate pair",
    ),
}
KINDS = {
    "corpus": ("corpus.jsonl", "passage", 5, ("encode", "filter", "evaluate", "submit", "check", "mine")),
    "questions": (
        "questions.jsonl",
        "question",
        3,
        ("search", "aware", "evaluate", "submit", "check", "mine", "perturb"),
    ),
    "queries": ("queries.jsonl", "generated queries", 5, ("accumulate", "filter")),
}


@pytest.mark.parametrize("fault", ANY_JSON_LINES)
@pytest.mark.parametrize(("kind", "command"), [(kind, command) for kind in KINDS for command in KINDS[kind][3]])
def test_a_spoilt_file_is_named_with_its_line(kind, command, fault, scene, refuse):
    name, what, last, _ = KINDS[kind]
    spoil, message = ANY_JSON_LINES[fault]
    spoil(scene / name)
    expected = message.format(file=name, what=what, last=last)
    error = refuse(command)
    assert expected in error
    assert error.startswith(name)


PARTICULAR = {
    "passage twice": ("corpus", again, "corpus.jsonl, line 6: passage id '007' again"),
    "passage without text": (
        "corpus",
        change(2, text="  ", title=""),
        "corpus.jsonl, line 2: passage '-1234567890123456789' has no text (expected contents, or title and text)",
    ),
    "text is a number": ("corpus", change(3, text=3), "corpus.jsonl, line 3: text is 3, not a string"),
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
        "questions.jsonl, line 2: question '-9223372036854775807' has no text (expected question or title)",
    ),
    "language by name": (
        "questions",
        change(2, lang="Russian"),
        "questions.jsonl, line 2: unknown language code 'Russian' (do you mean ru?): expected BCP 47 or ISO 639, "
        "e.g. fi hau pt-BR",
    ),
    "answers are numbers": (
        "questions",
        change(2, answers=[1]),
        "questions.jsonl, line 2: the answers of question '-9223372036854775807' are not a list of strings",
    ),
    "topics with three columns": (
        "questions",
        content(b"1\tone\n2\ttwo\tmore\n"),
        "questions.jsonl, line 2: 3 columns; expected an id, a tab and the question; "
        "a first line with their names says what others hold",
    ),
    "topic without text": ("questions", content(b"1\tone\n2\t \n"), "line 2: question '2' is empty"),
    "topic without id": ("questions", content(b"1\tone\n\ttwo\n"), "line 2: id is empty"),
    "topic id with a space": (
        "questions",
        content(b"1\tone\n2 3\ttwo\n"),
        "line 2: '2 3' stands where an id is expected: an id, a tab and the question, or DPR's",
    ),
    "queries for a passage that is nowhere": (
        "queries",
        change(2, docid="d4x"),
        "queries.jsonl, line 2: passage 'd4x' is not in P; skip_unknown leaves such queries out (--skip-unknown)",
    ),
    "queries for a passage twice": ("queries", again, "queries.jsonl, line 6: passage '007' has ar queries twice"),
    "no generated_queries": (
        "queries",
        change(2, drop=("generated_queries",)),
        "queries.jsonl, line 2: passage '-1234567890123456789' has no generated_queries "
        '(expected {"docid": …, "generated_queries": {"ar": ["…", …], …}}); it has the keys docid',
    ),
    "queries are a string": (
        "queries",
        change(2, generated_queries={"ar": "ما"}),
        "queries.jsonl, line 2: the ar queries of '-1234567890123456789' are not a list of strings",
    ),
    "queries by a language's name": (
        "queries",
        change(2, generated_queries={"Arabic": ["ما"]}),
        "queries.jsonl, line 2: unknown language code 'Arabic' (do you mean ar?): expected BCP 47 or ISO 639, "
        "e.g. fi hau pt-BR",
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
    assert error == ("C/c.jsonl, line 2: passage id '8' again (first in C/a.jsonl, line 2); ids must be unique")


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
        "C: no file in this directory ends in .jsonl, .json, .tsv, .csv, or these with "
        ".gz, .bz2, .xz, .zst; it holds .hidden.jsonl (hidden), readme.txt"
    )
