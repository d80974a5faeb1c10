"""The embedded collection keeps what the demo promises: sizes, scripts, answers, no leaks."""

import importlib.resources
import json
import unicodedata
from collections import Counter

import pytest

from xqg_pyserini.data import read_corpus, read_generated, read_qrels, read_questions
from xqg_pyserini.evaluation.r_at_kt import RecallAtTokens

DEMO = importlib.resources.files("xqg_pyserini.resources") / "demo"
LANGUAGES = ("ar", "bn", "fi", "ja", "ko", "ru", "te")
SCRIPTS = {
    "ar": ("ARABIC",),
    "bn": ("BENGALI",),
    "fi": ("LATIN",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL",),
    "ru": ("CYRILLIC",),
    "te": ("TELUGU",),
}


@pytest.fixture(scope="module")
def passages():
    return {passage.id: passage for _, passage in read_corpus(str(DEMO / "corpus.jsonl"))}


@pytest.fixture(scope="module")
def generated():
    records = [record for _, record in read_generated(str(DEMO / "queries.jsonl"))]
    return {record.docid: record.queries for record in records}


@pytest.fixture(scope="module")
def questions():
    return read_questions(str(DEMO / "questions.jsonl"))


@pytest.fixture(scope="module")
def qrels():
    return read_qrels(str(DEMO / "qrels.txt"))


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (DEMO / name).read_text("utf-8").splitlines()]


def letters(text: str) -> str:
    """The letters of a text, with the marks that belong to them, in one case and form."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LM")


def script_share(text: str, language: str) -> float:
    """How much of a text's letters is in the scripts of a language."""
    marks = [c for c in text if unicodedata.category(c)[0] in "LM"]
    names = [unicodedata.name(c, "") for c in marks]
    return sum(name.startswith(SCRIPTS[language]) for name in names) / max(1, len(names))


def test_letters_drops_what_is_none_and_keeps_vowel_signs():
    assert letters("ＡＢ c-1? ") == "abc"
    assert letters("কি") != letters("কী")


def test_script_share_tells_scripts_apart():
    assert script_share("何キロ?", "ja") == 1
    assert script_share("abcд", "ru") == 0.25
    assert script_share("কত", "te") == 0


def test_there_are_at_least_120_passages_of_about_100_words(passages):
    assert len(passages) >= 120
    lengths = {docid: len(passage.text.split()) for docid, passage in passages.items()}
    assert {docid: n for docid, n in lengths.items() if not 85 <= n <= 125} == {}


def test_passages_are_titled_english_and_all_different(passages):
    assert all(passage.title.strip() for passage in passages.values())
    assert len({letters(passage.title) for passage in passages.values()}) == len(passages)
    assert len({letters(passage.text) for passage in passages.values()}) == len(passages)
    foreign = {
        docid: passage.text
        for docid, passage in passages.items()
        if sum(unicodedata.name(c, "").startswith("LATIN") for c in passage.text if c.isalpha())
        < 0.99 * sum(c.isalpha() for c in passage.text)
    }
    assert foreign == {}


def test_passages_come_in_groups_of_near_neighbours(passages):
    groups = Counter(docid.split("-")[0] for docid in passages)
    assert len(groups) >= 10
    assert sum(n for n in groups.values() if n >= 3) >= 0.8 * len(passages)


def test_ids_are_unique(passages, generated, questions):
    for name, key, read in (
        ("corpus.jsonl", "id", passages),
        ("queries.jsonl", "docid", generated),
        ("questions.jsonl", "id", questions),
    ):
        ids = [record[key] for record in lines(name)]
        assert len(ids) == len(set(ids)) == len(read)


def test_every_passage_has_two_different_queries_in_each_language(passages, generated):
    assert set(generated) == set(passages)
    for docid, queries in generated.items():
        assert sorted(queries) == sorted(LANGUAGES), docid
        for language, texts in queries.items():
            assert len(texts) == 2, (docid, language)
            assert len({letters(text) for text in texts}) == 2, (docid, language)


def test_there_are_at_least_30_questions_in_each_language(questions):
    counts = Counter(question.language for question in questions)
    assert set(counts) == set(LANGUAGES)
    assert min(counts.values()) >= 30, counts


def test_qrels_name_a_passage_for_every_question_and_no_other(questions, passages, qrels):
    assert set(qrels) == {question.id for question in questions}
    assert all(qrels.values())
    assert {docid for judged in qrels.values() for docid in judged} <= set(passages)


def test_every_answer_occurs_verbatim_in_the_passage_that_qrels_name(questions, passages, qrels):
    wrong = [
        (question.id, answer)
        for question in questions
        for docid in qrels[question.id]
        for answer in question.answers
        if answer not in passages[docid].text
    ]
    assert wrong == []


def test_every_question_has_an_answer_that_the_scorer_finds_in_its_passage(questions, passages, qrels):
    # answers are not tokenised: "Sharp, Stewart" never equals the tokens "Sharp , Stewart"
    scorer = RecallAtTokens({docid: passage.text for docid, passage in passages.items()})
    lost = []
    for question in questions:
        for answer in question.answers:
            assert answer == answer.strip() != "", question.id
            assert answer.lower() not in ("yes", "no"), question.id
        for docid in qrels[question.id]:
            if not all(scorer.hits([docid], list(question.answers), [5000])):
                lost.append((question.id, question.answers))
    assert lost == []


def test_answers_tell_passages_apart(questions, passages):
    # an answer that stands in many passages makes a hit of anything
    crowd = {}
    for question in questions:
        holding = [d for d, p in passages.items() if any(a in p.text for a in question.answers)]
        if len(holding) > 0.1 * len(passages):
            crowd[question.id] = (question.answers, len(holding))
    assert crowd == {}


def test_no_question_repeats_a_query_or_another_question(questions, generated):
    queries = {
        letters(text): docid
        for docid, by_language in generated.items()
        for texts in by_language.values()
        for text in texts
    }
    seen = {}
    repeated = []
    for question in questions:
        key = letters(question.text)
        if key in queries:
            repeated.append((question.id, "query of", queries[key]))
        if key in seen:
            repeated.append((question.id, "question", seen[key]))
        seen[key] = question.id
    assert repeated == []


def test_no_query_stands_for_two_passages(generated):
    owners: dict[str, set[str]] = {}
    for docid, by_language in generated.items():
        for texts in by_language.values():
            for text in texts:
                owners.setdefault(letters(text), set()).add(docid)
    assert {text: docids for text, docids in owners.items() if len(docids) > 1} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_in_the_script_of_their_language(language, questions, generated):
    texts = [question.text for question in questions if question.language == language]
    texts += [text for queries in generated.values() for text in queries[language]]
    assert len(texts) >= 2 * 120 + 30
    # names and units may be in Latin letters
    assert [text for text in texts if script_share(text, language) < 0.5] == []
    assert sum(script_share(text, language) for text in texts) / len(texts) > 0.9
    assert [text for text in texts if text != unicodedata.normalize("NFC", text)] == []


def test_japanese_is_written_with_kana(questions, generated):
    texts = [question.text for question in questions if question.language == "ja"]
    texts += [text for queries in generated.values() for text in queries["ja"]]
    kana = ("HIRAGANA", "KATAKANA")
    assert [t for t in texts if not any(unicodedata.name(c, "").startswith(kana) for c in t)] == []


def test_finnish_is_not_english(questions, generated):
    texts = [question.text for question in questions if question.language == "fi"]
    texts += [text for queries in generated.values() for text in queries["fi"]]
    english = {"the", "what", "which", "who", "when", "where", "how", "is", "was", "of"}
    assert [text for text in texts if english & set(text.lower().rstrip("?").split())] == []
