"""Leaderboard files: what is written, and everything that the check finds wrong."""

import gzip
import json
import warnings

import pytest
from conftest import run_xqg, write_jsonl

from xqg_pyserini.data import read_questions, read_run
from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.evaluation.submission import Submission, check_submission, write_submission

CORPUS = [
    {"id": "007", "title": "Nile", "text": "It flows north."},
    {"id": "d2", "title": "", "text": "A cat 🐈 sleeps."},
    {"id": "d3", "contents": "Volga is\nlong."},
    {"id": "d4", "title": "Moon", "text": "27 days", "body": "not this"},
]
QUESTIONS = [
    {"id": "q2", "question": "؟", "lang": "ar"},
    {"id": "-9223372036854775807", "question": "?", "lang": "ru"},
    {"id": "007", "question": "?", "lang": "ar"},
]
RUN = """\
007 Q0 d4 2 1.0 t
007 Q0 d3 1 2.0 t
q2 Q0 d2 1 3.0 t
q2 Q0 007 3 1.0 t
q2 Q0 d3 2 1.0 t
-9223372036854775807 Q0 007 1 1.0 t
"""
WRITTEN = [  # questions in the order of their file, texts by rank
    {"id": "q2", "lang": "ar", "ctxs": ["A cat 🐈 sleeps.", "Volga is\nlong.", "It flows north."]},
    {"id": "-9223372036854775807", "lang": "ru", "ctxs": ["It flows north."]},
    {"id": "007", "lang": "ar", "ctxs": ["Volga is\nlong.", "27 days"]},
]
SHORT = "{} of {} questions have fewer than 5000 tokens of text; R@5kt looks at as many (search with more --hits)"


@pytest.fixture
def folder(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    write_jsonl(tmp_path / "questions.jsonl", QUESTIONS)
    (tmp_path / "run.trec").write_text(RUN)
    return tmp_path


def write(folder, **options):
    """Write the folder's run; give back what is said of it and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", XqgWarning)
        summary = write_submission(
            read_questions(folder / "questions.jsonl"),
            read_run(folder / "run.trec"),
            folder / "corpus.jsonl",
            folder / "out.json",
            **options,
        )
    return summary, [str(warning.message) for warning in caught]


def check(folder, entries, corpus=None, questions="questions.jsonl"):
    """Check entries (or, a string, the file's text)."""
    text = entries if isinstance(entries, str) else json.dumps(entries)
    (folder / "file.json").write_text(text, encoding="utf-8")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", XqgWarning)
        summary = check_submission(folder / "file.json", read_questions(folder / questions), corpus and folder / corpus)
    return summary, [str(warning.message) for warning in caught]


# ---------------------------------------------------------------- writing


def test_the_file_is_a_list_of_id_lang_ctxs_in_the_questions_order(folder):
    summary, said = write(folder)
    text = (folder / "out.json").read_text("utf-8")
    assert json.loads(text) == WRITTEN
    assert [list(entry) for entry in json.loads(text)] == [["id", "lang", "ctxs"]] * 3
    assert "🐈" in text  # not escaped
    assert summary == Submission(3, {"ar": 2, "ru": 1}, 3)
    assert said == [SHORT.format(3, 3)]


def test_with_title_puts_the_title_before_the_text_where_there_is_one(folder):
    write(folder, with_title=True)
    assert [entry["ctxs"] for entry in json.loads((folder / "out.json").read_text("utf-8"))] == [
        ["A cat 🐈 sleeps.", "Volga is\nlong.", "Nile It flows north."],
        ["Nile It flows north."],
        ["Volga is\nlong.", "Moon 27 days"],
    ]


def test_a_question_that_the_run_lacks_is_written_without_texts_and_counted(folder):
    (folder / "run.trec").write_text("q2 Q0 d2 1 3.0 t\n")
    summary, said = write(folder)
    assert [entry["ctxs"] for entry in json.loads((folder / "out.json").read_text("utf-8"))] == [
        ["A cat 🐈 sleeps."],
        [],
        [],
    ]
    assert said[0] == "the run lacks 2 of 3 questions: they are written without texts"
    assert summary.questions == 3


@pytest.mark.parametrize(("words", "short"), [(4999, 1), (5000, 0), (5001, 0)])
def test_questions_with_fewer_than_5000_tokens_are_counted(folder, words, short):
    corpus = [{"id": "a", "text": "w " * 3000}, {"id": "b", "text": "w " * (words - 3000)}]
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "questions.jsonl", QUESTIONS[:1])
    (folder / "run.trec").write_text("q2 Q0 a 1 2 t\nq2 Q0 b 2 1 t\n")
    summary, said = write(folder)
    assert summary.short == short
    assert said == [SHORT.format(1, 1)] * short
    entries = json.loads((folder / "out.json").read_text("utf-8"))
    summary, said = check(folder, entries, "corpus.jsonl")
    assert summary.short == short
    assert said == [SHORT.format(1, 1)] * short


def test_tokens_are_counted_not_words(folder):
    # 2,500 words, and each comma is a token of its own: 5,000
    write_jsonl(folder / "corpus.jsonl", [{"id": "a", "text": "w, " * 2500}])
    write_jsonl(folder / "questions.jsonl", QUESTIONS[:1])
    (folder / "run.trec").write_text("q2 Q0 a 1 2 t\n")
    assert write(folder)[0].short == 0


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.trec", "q2 Q0 d99 1 1 t\n", "the run: passage 'd99' is not in {}/corpus.jsonl"),
        (
            "run.trec",
            "zz Q0 d2 1 1 t\n",
            "none of the 1 question ids of the run are in the questions: 'zz' in the run, "
            "'-9223372036854775807' in the questions",
        ),
        (
            "questions.jsonl",
            '{"id": "q2", "question": "?"}\n',
            "question 'q2' has no language: give one for all, or questions with lang",
        ),
        (
            "corpus.jsonl",
            "".join(json.dumps(r) + "\n" for r in [*CORPUS, {"id": "d2", "text": "other"}]),
            "{}/corpus.jsonl, line 5: passage id 'd2' again; ids must be unique",
        ),
    ],
    ids=["unknown passage", "no hit", "no language", "passage twice"],
)
def test_what_cannot_be_written_is_refused_and_an_old_file_stays(folder, file, text, message):
    (folder / "out.json").write_text("old")
    (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        write(folder)
    assert str(refusal.value) == message.format(folder)
    assert (folder / "out.json").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == [
        "corpus.jsonl", "out.json", "questions.jsonl", "run.trec"
    ]  # fmt: skip


# ---------------------------------------------------------------- checking


@pytest.mark.parametrize("with_title", [False, True])
def test_a_written_file_is_valid_with_its_corpus(folder, with_title):
    written, _ = write(folder, with_title=with_title)
    summary, said = check(folder, (folder / "out.json").read_text("utf-8"), "corpus.jsonl")
    assert summary == written
    assert said == [SHORT.format(3, 3)]


def test_entries_may_stand_in_any_order_and_hold_more_keys(folder):
    entries = [{**entry, "note": 1} for entry in reversed(WRITTEN)]
    summary, _ = check(folder, "\ufeff" + json.dumps(entries), "corpus.jsonl")
    assert summary == Submission(3, {"ar": 2, "ru": 1}, 3)


def changed(place, **values):
    return [{**entry, **values} if i == place else entry for i, entry in enumerate(WRITTEN)]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("", ': expected a list of {"id", "lang", "ctxs"}'),
        ("[{]", ", line 1: broken JSON (Expecting property name"),
        ('{"id": "q2"}\n{"id": "007"}\n', ", line 1: broken JSON (Extra data: line 2 column 1"),
        ({}, ': expected a list of {"id", "lang", "ctxs"}'),
        ([], ': expected a list of {"id", "lang", "ctxs"}'),
        ({"q2": ["text"]}, ': expected a list of {"id", "lang", "ctxs"}'),
        ([*WRITTEN[:2], "007"], ", entry 3: expected an object with id, lang and ctxs"),
        ([WRITTEN[0], {"id": "007", "lang": "ar"}], ", entry 2: expected an object with id, lang and ctxs"),
        (changed(1, id="q9"), ", entry 2: 'q9' is not an id of the questions file"),
        (changed(2, id=7), ", entry 3: 7 is not an id of the questions file"),
        (changed(2, id="7"), ", entry 3: '7' is not an id of the questions file"),
        (changed(2, id=["007"]), ", entry 3: ['007'] is not an id of the questions file"),
        (changed(2, id="q2"), ", entry 3: question 'q2' again"),
        (WRITTEN[:1], ": 2 questions are missing, the first is '-9223372036854775807'"),
        (changed(0, ctxs="text"), ", entry 1: the ctxs of 'q2' are not a list of strings"),
        (changed(0, ctxs=None), ", entry 1: the ctxs of 'q2' are not a list of strings"),
        (changed(0, ctxs=["a", 1]), ", entry 1: the ctxs of 'q2' are not a list of strings"),
        (changed(0, ctxs=[["a"]]), ", entry 1: the ctxs of 'q2' are not a list of strings"),
        (changed(0, lang="ru"), ", entry 1: question 'q2' is 'ar', not 'ru'"),
        (changed(0, lang="AR"), ", entry 1: question 'q2' is 'ar', not 'AR'"),
        (changed(0, lang=None), ", entry 1: question 'q2' is 'ar', not None"),
        (changed(0, lang=["ar"]), ", entry 1: question 'q2' is 'ar', not ['ar']"),
    ],
)
def test_the_first_thing_wrong_is_named_with_its_place(folder, entries, message):
    with pytest.raises(UserError) as refusal:
        check(folder, entries)
    assert str(refusal.value).startswith(f"{folder / 'file.json'}{message}")


@pytest.mark.parametrize(
    "text", ["Not of this corpus.", "It flows north", " It flows north.", "not this", "Volga is long.", ""]
)
def test_a_text_that_is_no_passage_is_named_by_its_question(folder, text):
    entries = changed(1, ctxs=["It flows north.", text])
    with pytest.raises(UserError) as refusal:
        check(folder, entries, "corpus.jsonl")
    assert str(refusal.value) == (
        f"{folder / 'file.json'}: a text of question '-9223372036854775807' is no passage of {folder / 'corpus.jsonl'}"
    )
    check(folder, entries)  # without a corpus nobody can tell


def test_half_a_surrogate_pair_is_no_passage(folder):
    with pytest.raises(UserError):
        check(folder, changed(1, ctxs=["\ud800"]), "corpus.jsonl")


@pytest.mark.parametrize("lang", [["ar"], {"ar": 1}, 5, None, ""])
def test_a_lang_that_is_no_language_is_refused_where_the_questions_name_none(folder, lang):
    (folder / "topics.tsv").write_text("q2\t?\n")
    entry = {"id": "q2", "lang": "ar", "ctxs": []}
    assert check(folder, [entry], questions="topics.tsv")[0].languages == {"ar": 1}
    with pytest.raises(UserError):
        check(folder, [{**entry, "lang": lang}], questions="topics.tsv")


def test_a_missing_file_is_named(folder):
    with pytest.raises(UserError) as refusal:
        check_submission(folder / "none.json", read_questions(folder / "questions.jsonl"))
    assert str(refusal.value) == f"{folder / 'none.json'}: No such file or directory"
    with pytest.raises(UserError) as refusal:
        check_submission(folder, read_questions(folder / "questions.jsonl"))
    assert str(refusal.value) == f"{folder}: Is a directory"


# ---------------------------------------------------------------- the command


def test_the_command_writes_and_checks(folder, xqg):
    questions, corpus = folder / "questions.jsonl", folder / "corpus.jsonl"
    out = folder / "new" / "out.json"
    base = ["submit", "--questions", questions, "--corpus", corpus]
    done = run_xqg(*base, "--run", folder / "run.trec", "--output", out)
    assert (done.returncode, done.stdout) == (0, f"{out}: written, 3 questions (ar 2 ru 1)\n")
    assert done.stderr == f"xqg submit: warning: {SHORT.format(3, 3)}\n"
    assert json.loads(out.read_text("utf-8")) == WRITTEN
    done = run_xqg(*base, "--check", out, "--json")
    assert json.loads(done.stdout) == {"questions": 3, "languages": {"ar": 2, "ru": 1}, "short": 3}
    assert done.stderr == f"xqg submit: warning: {SHORT.format(3, 3)}\n"
    assert xqg(*base, "--check", out) == f"{out}: valid, 3 questions (ar 2 ru 1)\n"


def test_the_command_gives_topics_without_language_theirs(folder, xqg):
    (folder / "topics.tsv").write_text("q2\tأين؟\n007\tمن؟\n")
    xqg(
        "submit", "--questions", folder / "topics.tsv", "--language", "ar",
        "--corpus", folder / "corpus.jsonl", "--run", folder / "run.trec",
        "--output", folder / "out.json",
    )  # fmt: skip
    entries = json.loads((folder / "out.json").read_text("utf-8"))
    assert entries == [WRITTEN[0], WRITTEN[2]]


def test_the_command_refuses_half_a_request(folder, refused):
    base = ["submit", "--questions", folder / "questions.jsonl"]
    run, out = folder / "run.trec", folder / "out.json"
    for arguments, message in [
        ([], "give --run (or --check FILE to validate one)"),
        (["--run", run], "give --corpus (or --check FILE to validate one)"),
        (["--run", run, "--corpus", folder / "corpus.jsonl"], "give --output (or --check FILE to validate one)"),
        (["--check", out, "--run", run], "--run writes a file; --check reads one"),
        (["--check", out], f"{out}: No such file or directory"),
    ]:
        assert refused(*base, *arguments) == f"xqg submit: error: {message}"
    assert not out.exists()


def test_a_compressed_submission_is_checked(folder):
    (folder / "topics.tsv").write_text("q2\t?\n")
    entries = [{"id": "q2", "lang": "ar", "ctxs": []}]
    path = folder / "file.json.gz"
    path.write_bytes(gzip.compress(json.dumps(entries).encode()))
    with pytest.warns(XqgWarning):
        done = check_submission(path, read_questions(folder / "topics.tsv"))
    assert done.languages == {"ar": 1}


def test_a_bottomless_submission_is_broken_json(folder, refused):
    deep, questions = folder / "deep.json", folder / "questions.jsonl"
    deep.write_text("[" * 200_000)
    base = ["submit", "--questions", questions, "--corpus", folder / "corpus.jsonl"]
    assert "broken JSON" in refused(*base, "--check", deep)
