"""What the explorer shows, by hand."""

import json

import numpy as np
import pytest
from conftest import message, write_jsonl
from made_pages import CORPUS, ONE, TWO, made  # noqa: F401 - a fixture
from made_stores import write_passages

from xqg_pyserini.data import Question, read_questions
from xqg_pyserini.report.explorer import (
    Material,
    Similarities,
    answer_spans,
    choose_questions,
    explore,
    ranking_difference,
)
from xqg_pyserini.stores import VectorStore


def question(qid, language="ar", answers=()):
    return Question(qid, "?", language, tuple(answers))


def runs_of(**rankings):
    return {
        name: {qid: {docid: -i for i, docid in enumerate(docids)} for qid, docids in run.items()}
        for name, run in rankings.items()
    }


def test_ranking_difference_by_hand():
    assert ranking_difference("abc", "abc") == 0
    assert ranking_difference("ab", "ba") == pytest.approx(2 * (1 - 1 / 2))
    assert ranking_difference("ab", "ac") == pytest.approx(1 / 2 + 1 / 2)
    assert ranking_difference("", "ab") == pytest.approx(1.5)
    assert ranking_difference("ab", "ca") == ranking_difference("ca", "ab")


def test_questions_are_chosen_by_scores_then_rankings_then_the_seed():
    ids = ["same", "ranks", "score", "both", "other"]
    left = {qid: ["x", "y"] for qid in ids}
    right = {**left, "ranks": ["y", "x"], "both": ["z", "x"]}
    third = {qid: ["q"] for qid in ids}  # differs from both everywhere, and is not asked
    values = {
        "left": {"m": {"score": 0.0, "both": 0.5, "ranks": 1.0, "same": 1.0}, "n": {"both": 1.0}},
        "right": {"m": {"score": 1.0, "both": 0.8, "ranks": 1.0, "same": 1.0}, "n": {"both": 0.1}},
        "third": {"m": dict.fromkeys(ids, 0.25), "n": {}},
    }
    material = Material(
        [question(qid) for qid in ids] + [question("fi", "fi"), question("absent", "fi")],
        runs_of(left={**left, "fi": ["x"]}, right={**right, "fi": ["x"]}, third=third),
        "corpus",
        values,
        ["m", "n"],
    )
    chosen = choose_questions(material, ("left", "right"), 3, 42)
    # both: 0.3 + 0.9; score: 1; ranks: 0, but the rankings differ
    assert [q.id for q in chosen] == ["both", "score", "ranks", "fi"]
    rest = {tuple(q.id for q in choose_questions(material, ("left", "right"), 4, seed))[3] for seed in range(20)}
    assert rest == {"same", "other"}  # equal in both ways: the seed decides
    again = [choose_questions(material, ("left", "right"), 4, 5) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("text", "answers", "spans"),
    [
        ("1912 and 1912", ["1912"], [(0, 4), (9, 13)]),
        ("abcde", ["bc", "cd"], [(1, 4)]),  # they overlap
        ("abcd", ["ab", "cd"], [(0, 4)]),  # they meet
        ("aaa", ["aa"], [(0, 3)]),  # it overlaps itself
        ("Egypt", ["egypt"], []),  # case counts, as in R@kt
        ("a.b", ["a?b", "a.b"], [(0, 3)]),  # no patterns
        ("x", [], []),
    ],
)
def test_answers_are_found_exactly(text, answers, spans):
    assert answer_spans(text, answers) == spans


def explored(made, **options):
    material = Material(
        read_questions(made / "questions.jsonl"), runs_of(one=ONE, two=TWO), made / "corpus.jsonl", **options
    )
    return explore(material, ("one", "two"), 5, 42)


def test_only_passages_that_are_shown_are_kept(made):
    shown = explored(made)
    assert [docid for docid, _, _ in shown["passages"]] == ["d1", "d2", "d3", "d4"]
    assert "SECRET-DECOY" not in json.dumps(shown)
    by_id = {q["id"]: q for q in shown["questions"]}
    # rows of the passages, by run
    assert by_id["a1"]["hits"] == [[3, 1, 0], [0, 3]]
    assert by_id["j1"]["hits"] == [[3, 0, 2], [2, 1]]
    assert shown["languages"] == {"ar": "Arabic", "ja": "Japanese"}


def test_spans_are_counted_as_javascript_counts(made):
    by_id = {q["id"]: q for q in explored(made)["questions"]}
    # the cat is one character of Python's and two of JavaScript's
    text = CORPUS[0]["text"]
    assert (text.index("1912"), text.rindex("1912")) == (5, 22)
    # "1912" and "2 it" overlap
    assert by_id["a1"]["marks"][0]["answers"] == [[6, 13], [23, 27]]
    assert 3 not in by_id["a1"]["marks"]


def test_relevant_passages_and_titles(made):
    shown = explored(made, relevant={"a1": {"d2": 1, "d4": 0}}, with_title=True)
    by_id = {q["id"]: q for q in shown["questions"]}
    assert by_id["a1"]["marks"][1] == {"relevant": True}
    assert 3 not in by_id["a1"]["marks"]
    assert shown["passages"][1] == ["d2", "", "النيل يجري نهر النيل شمالا عبر مصر."]


def test_a_passage_that_the_corpus_lacks_is_named(made):
    material = Material(
        read_questions(made / "questions.jsonl"), runs_of(one={**ONE, "a1": ["d9"]}), made / "corpus.jsonl"
    )
    assert "run one: passage 'd9' is not in" in message(explore, material, ("one", "one"), 5, 42)


class Letters:
    """An encoder whose vectors count a, b and c."""

    def encode_queries(self, texts, progress=None):
        vectors = [[text.count(letter) for letter in "abc"] for text in texts]
        return np.array(vectors, dtype=np.float32).reshape(len(texts), 3)

    encode_passages = encode_queries


@pytest.fixture
def lettered(tmp_path):
    """Two passages with queries in three languages; the question is "aab"."""
    write_jsonl(
        tmp_path / "corpus.jsonl",
        [{"id": "p", "contents": "ac"}, {"id": "r", "contents": "bb"}, {"id": "s", "contents": "c"}],
    )
    write_jsonl(
        tmp_path / "queries.jsonl",
        [
            {"docid": "p", "generated_queries": {"ar": ["a", "b", "ab", "aaa", " "], "fi": ["c"]}},
            {"docid": "decoy", "generated_queries": {"ar": ["a" * 100]}},
            {"docid": "r", "generated_queries": {"ru": ["aa"]}},
            {"docid": "p", "generated_queries": {"ru": ["bbbbbbb", "b", "a", "cc"]}},
        ],
    )
    material = Material(
        [Question("q", "aab", "ar", ())],
        runs_of(one={"q": ["p", "r"]}, two={"q": ["r", "s"]}),
        tmp_path / "corpus.jsonl",
    )
    return material, tmp_path


def test_similarities_by_hand(lettered):
    material, folder = lettered
    using = Similarities(folder / "queries.jsonl", Letters())
    shown = explore(material, ("one", "two"), 5, 42, using)
    marks = shown["questions"][0]["marks"]
    # the question is (2, 1, 0): p's own similarity is 2; a 2, b 1, ab 3, aaa 6; c 0;
    # bbbbbbb 7, b 1, a 2, cc 0
    assert marks[0]["near"] == {
        "own": 2.0,
        "queries": 9,
        "mean": round(22 / 9, 4),
        "same": 4,
        "same_mean": 3.0,
        # three of the question's language and three of others, the nearest first
        "nearest": [
            [7.0, "ru", "bbbbbbb"],
            [6.0, "ar", "aaa"],
            [3.0, "ar", "ab"],
            [2.0, "ar", "a"],
            [2.0, "ru", "a"],
            [1.0, "ru", "b"],
        ],
    }
    assert marks[1]["near"]["nearest"] == [[4.0, "ru", "aa"]]
    assert (marks[1]["near"]["own"], marks[1]["near"]["same_mean"]) == (2.0, None)
    assert marks[2]["near"] == {
        "own": 0.0, "queries": 0, "mean": None, "same": 0, "same_mean": None, "nearest": [],
    }  # fmt: skip
    assert set(shown["languages"]) == {"ar", "ru"}


def test_a_passage_s_own_vector_is_the_store_s(lettered):
    material, folder = lettered
    store = write_passages(folder / "P", ["s", "decoy", "r", "p"], np.diag([1, 9, 3]).astype(np.float32)[[0, 1, 1, 2]])
    using = Similarities(folder / "queries.jsonl", Letters(), VectorStore(store))
    marks = explore(material, ("one", "two"), 5, 42, using)["questions"][0]["marks"]
    assert [marks[i]["near"]["own"] for i in range(3)] == [0, 9, 2]  # p, r, s
    less = write_passages(folder / "less", ["s", "p"], np.eye(3, dtype=np.float32)[:2])
    using = Similarities(folder / "queries.jsonl", Letters(), VectorStore(less))
    error = message(explore, material, ("one", "two"), 5, 42, using)
    assert error == f"{less}: does not hold passage 'r' of the runs"


def test_queries_are_encoded_in_batches_with_the_same_outcome(lettered, monkeypatch):
    material, folder = lettered
    using = Similarities(folder / "queries.jsonl", Letters())
    whole = explore(material, ("one", "two"), 5, 42, using)
    monkeypatch.setattr("xqg_pyserini.report.explorer._TEXTS", 1)
    assert explore(material, ("one", "two"), 5, 42, using) == whole
