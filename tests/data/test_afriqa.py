"""AfriQA's files, as its authors publish them, through the readers.

They lie in the folder of real data; without it the tests are skipped, and say so.
"""

import warnings

import pytest

from xqg_pyserini import data
from xqg_pyserini.data import CorpusFile

EMPTY = {  # passages without text, of all
    "hau.en.dev": (3, 225), "hau.en.test": (0, 300), "hau.en.train": (2, 225),
    "ibo.en.dev": (0, 307), "ibo.en.test": (0, 409), "ibo.en.train": (1, 306),
    "kin.en.dev": (30, 260), "kin.en.test": (2, 347), "kin.en.train": (45, 259),
    "swa.en.test": (0, 295),
}  # fmt: skip


@pytest.fixture(scope="module")
def afriqa(shared):
    folder = shared / "data" / "afriqa"
    if not folder.is_dir():
        pytest.skip(f"no AfriQA: {folder} does not exist (set XQG_SHARED)")
    return folder


def said(read):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return read(), [str(w.message).split(": ", 1)[1] for w in caught]


@pytest.mark.parametrize("part", EMPTY)
def test_its_passages_are_read_with_at_most_one_setting(afriqa, part):
    empty, total = EMPTY[part]
    path = afriqa / "gold_passages" / f"gold_span_passages.afriqa.{part}.json"
    corpus = CorpusFile(path, skip_empty=empty > 0)
    passages, notes = said(lambda: [p for _, p in data.read_corpus(corpus)])
    assert len(passages) == total - empty
    assert all(passage.text.strip() for passage in passages)
    assert notes[0] == "read as AfriQA's passages: id, title, context" or empty
    assert any(note.startswith("passages without text, left out") for note in notes) == (empty > 0)
    questions, notes = said(lambda: data.read_questions(path, "sw"))
    assert len(questions) == total
    assert sum(bool(question.answers) for question in questions) >= total - 2
    answered = {q.id: q.answers for q in questions}
    held = sum(any(a in p.text for a in answered[p.id]) for p in passages)
    assert held > 0.85 * len(passages)  # answers in the passages' language


@pytest.mark.parametrize("language", ["hau", "ibo", "kin", "swa"])
@pytest.mark.parametrize("part", ["dev", "test", "train"])
def test_its_questions_are_read_as_they_are(afriqa, language, part):
    path = afriqa / "queries" / f"queries.afriqa.{language}.en.{part}.json"
    questions, notes = said(lambda: data.read_questions(path))
    assert {q.language for q in questions} == {language}
    assert len({q.id for q in questions}) == len(questions)
    assert notes[0].startswith("read as AfriQA's queries: question, translated_answer (")
    assert notes[1] == "answers are lists written as text (\"['1912']\"); read as lists"
    for question in questions:
        for answer in question.answers:
            assert answer and not answer.startswith("[")
            assert answer.strip("'\"[]") == answer or "'" in answer or '"' in answer, answer


def test_languages_that_number_alike_are_told_apart(afriqa):
    paths = {
        code: afriqa / "queries" / f"queries.afriqa.{name}.en.test.json"
        for code, name in (("ha", "hau"), ("sw", "swa"))
    }
    questions, _ = said(lambda: data.read_questions(paths))
    assert [q.id for q in questions][::601] == ["ha-0", "sw-301"]
    assert {q.language for q in questions} == {"ha", "sw"}
