"""The study's tasks: splits, neighbours, ranks by hand; the real data's splits."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import message
from peft_unseen.matrix import Afriqa, Perturbation, Translations, Xquad, read_matrix
from peft_unseen.ranking import Vectors, rank, rank_views
from peft_unseen.texts import Questions, fold, groups, letter_vectors, prepare
from study_data import ASKED, KINDS, STUDY, foreign, overlaps, write_afriqa, write_translations, write_xquad

ENCODING = {"normalize": False}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with xor-tydi/, xquad/ and afriqa/."""
    folder = tmp_path_factory.mktemp("texts")
    write_translations(folder)
    write_xquad(folder)
    write_afriqa(folder)
    return folder


def vectors_of(texts):
    """Letters counted: enough to have neighbours."""
    rows = np.array([[1 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


COUNTING = SimpleNamespace(encode_passages=vectors_of)


def translations(**settings) -> Translations:
    given = {"test": 8, "validation": 4, "train": 16, "unlabelled": 4}
    given |= {"seen": ("ar", "fi"), "unseen": ("bn",), "encoding": ENCODING, "training": {}}
    given |= {"neighbours": {"backbone": 2, "lexical": 2}}
    return Translations(name="t", kind="translations", **{**given, **settings})


def xquad(**settings) -> Xquad:
    given = {"seen": ("ar",), "unseen": ("el",), "test": 7, "validation": 4, "encoding": ENCODING}
    return Xquad(name="x", kind="xquad", training={}, **{**given, **settings})


def afriqa(**settings) -> Afriqa:
    given = {"seen": ("ha", "rw"), "unseen": ("sw",), "test": 9, "validation": 3, "encoding": ENCODING}
    return Afriqa(name="a", kind="afriqa", training={}, **{**given, **settings})


SCRIPTS = {"ha": "fi", "rw": "el", "sw": "bn"}  # what `write_afriqa` writes them in


def question_of(passage: str, language: str) -> str:
    """The question that `write_afriqa` asks about a passage."""
    number = int(passage.split(" number ")[1].split()[0])
    return foreign(f"{ASKED[number % 4]} the {KINDS[number % 8]} number {number}?", SCRIPTS[language])


def read_train(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]


# ---------------------------------------------------------------- splits


def test_groups_are_joined_by_chains_of_shared_texts():
    a, b, c, d, e = groups([("a", "x"), ("b", "y"), ("c", "x"), ("c", "z"), ("d", "w")])
    assert a == c == d
    assert len({a, b, e}) == 3
    assert fold("What IS “ﬁve”, 5?") == fold("what is five 5") == "whatisfive5"
    assert fold("கி") != fold("க")  # a vowel sign is no punctuation
    assert fold("?!…") == ""


@pytest.mark.parametrize("seed", range(8))
def test_translations_are_split_by_groups(texts, tmp_path, seed):
    task = translations(seed=seed)
    spoilt = {"mixed": Perturbation(kind="code-switch", rate=1.0)}
    spoilt["typos"] = Perturbation(kind="typos", rate=0.2)
    report = prepare(task, texts, tmp_path, spoilt, COUNTING)
    test = Questions.read(tmp_path / "test.json")
    assert overlaps(tmp_path) == []
    assert report == {"train": 32, "test": 24, "validation": 8}
    assert [test.languages.count(language) for language in ("ar", "fi", "bn")] == [8, 8, 8]
    assert Questions.read(tmp_path / "validation.json").languages == ["ar"] * 4 + ["fi"] * 4
    assert {record["language"] for record in read_train(tmp_path)} == {"ar", "fi"}
    # a blank and a letterless pair are left out; the first three questions are in all languages
    assert len(test.pool) == len({fold(text) for text in test.pool}) == 3 + 3 * 45 + 1
    for i, language in enumerate(test.languages):
        right, near = test.relevant[i], test.neighbours[i]
        assert len(set(near)) == 4
        english = test.candidates[right]
        assert english == test.pool[test.own[i]]
        question = fold(test.variants["clean"][i])
        if not english.startswith("What do") and question != fold(foreign("another one", language)):
            assert question == fold(foreign(english, language))
        assert fold(english) not in {fold(test.candidates[p]) for p in near}
    assert test.variants["typos"] != test.variants["clean"]
    again = tmp_path / "again"
    again.mkdir()
    prepare(task, texts, again, spoilt, COUNTING)
    for name in ("test.json", "validation.json", "train.jsonl"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_an_overlap_is_found(texts, tmp_path):
    prepare(translations(), texts, tmp_path, {}, COUNTING)
    test = Questions.read(tmp_path / "test.json")
    validation = Questions.read(tmp_path / "validation.json")
    train = (tmp_path / "train.jsonl").read_text("utf-8")
    for text, where in (
        (test.variants["clean"][0].upper() + " !", "query"),
        (test.candidates[test.relevant[3]].replace(" ", "  "), "passage"),
        (test.candidates[test.neighbours[0][0]], "passage"),
        (validation.variants["clean"][0], "query"),
    ):
        planted = {"query": "x1", "positive_passages": [{"docid": "d", "text": "x2"}]}
        if where == "query":
            planted["query"] = text
        else:
            planted["positive_passages"][0]["text"] = text
        (tmp_path / "train.jsonl").write_text(train + json.dumps(planted) + "\n", "utf-8")
        assert overlaps(tmp_path) == [fold(text)]


@pytest.mark.parametrize("seed", range(4))
def test_xquad_is_split_by_articles_and_fuses_no_asked_question(texts, tmp_path, seed):
    report = prepare(xquad(seed=seed), texts, tmp_path, {}, None)
    test = Questions.read(tmp_path / "test.json")
    validation = Questions.read(tmp_path / "validation.json")
    train = read_train(tmp_path)
    assert overlaps(tmp_path) == []
    # ten articles of two passages: five to be searched, one for validation, four to train on
    assert [len(test.candidates), len(validation.candidates)] == [10, 2]
    trained = {p["title"] for record in train for p in record["positive_passages"]}
    tested = {" ".join(text.split()[:2]) for text in (*test.candidates, *validation.candidates)}
    assert (len(trained), len(tested)) == (4, 6)
    assert not trained & tested
    assert report["test"] == 14
    assert test.languages == ["ar"] * 7 + ["el"] * 7
    assert [i.split("-", 1)[1] for i in test.ids[:7]] == [i.split("-", 1)[1] for i in test.ids[7:]]
    for language in ("ar", "el"):
        asked = {fold(text) for text, l in zip(test.variants["clean"], test.languages, strict=True) if l == language}
        assert not asked & {fold(text) for text in test.others[language]}
        assert len(test.others[language]) == len(test.asked[language]) > 0
    for i, id_ in enumerate(test.ids):
        _, number, place = id_.split("-")
        assert f"number {number} was made" in test.candidates[test.relevant[i]]
        assert int(place) % 2 == 0


@pytest.mark.parametrize("seed", range(4))
def test_afriqa_is_split_by_articles_and_swahili_is_not_trained_on(texts, tmp_path, seed):
    report = prepare(afriqa(seed=seed), texts, tmp_path, {}, None)
    test = Questions.read(tmp_path / "test.json")
    train = read_train(tmp_path)
    assert overlaps(tmp_path) == []
    assert {record["language"] for record in train} == {"ha", "rw"} and report["train"] == len(train)
    assert set(test.languages) == {"ha", "rw", "sw"} and set(test.others) == {"ha", "rw", "sw"}
    assert max(test.languages.count(l) for l in test.others) <= 9
    sides = {name: Questions.read(tmp_path / f"{name}.json").candidates for name in ("test", "validation")}
    articles = [{text.split(" The ")[0] for text in part} for part in (*sides.values(), test.learnt)]
    assert not articles[0] & articles[1] and not articles[0] & articles[2] and not articles[1] & articles[2]
    # every question's own passage says its number, but of those that two articles share
    for text, l, place in zip(test.variants["clean"], test.languages, test.relevant, strict=True):
        assert test.candidates[place].count(" number ") == 1
        same = [p for p in test.candidates if fold(question_of(p, l)) == fold(text)]
        assert same == [test.candidates[place]] or fold(text) == fold(foreign("Who was it?", SCRIPTS[l]))
    trained = {(r["language"], r["query"], r["positive_passages"][0]["text"]) for r in train}
    for l, asked in test.others.items():
        pairs = {(l, text, test.learnt[p].split(" ", 2)[2]) for text, p in zip(asked, test.answered[l], strict=True)}
        assert pairs == {record for record in trained if record[0] == l} or l == "sw"


def test_too_few_articles_are_refused(texts, tmp_path):
    text = message(prepare, afriqa(validation_share=1.0), texts, tmp_path, {}, None)
    assert "too few for three sides" in text


def test_letter_vectors_by_hand():
    vectors = letter_vectors(["abcd", "ABCD ", "wxyz"])
    # of " abcd ": " abc", "abcd", "bcd ", each once; the same text has cosine 1, no run shared 0
    similar = (vectors @ vectors.T).toarray()
    np.testing.assert_allclose(similar[[0, 2]], [[1, 1, 0], [0, 0, 1]], atol=1e-12)
    vectors = letter_vectors(["aaaa", "aaaab"])
    # " aaa" and "aaaa" are in both (idf 1), "aaa " in one, "aaab", "aab " in the other
    rare = np.log(3 / 2) + 1
    cosine = 2 / np.sqrt((2 + rare**2) * (2 + 2 * rare**2))
    np.testing.assert_allclose((vectors @ vectors.T).toarray()[0, 1], cosine)
    vectors = letter_vectors(["aaaaaa", "aaaa"])
    tf = 1 + np.log(3)  # "aaaa" is three times in the first
    cosine = (tf + 2) / np.sqrt((tf**2 + 2) * 3)
    np.testing.assert_allclose((vectors @ vectors.T).toarray()[0, 1], cosine)


# ---------------------------------------------------------------- ranks


def made(neighbours=True) -> tuple[Questions, dict[str, np.ndarray], np.ndarray]:
    questions = Questions(
        ids=["a", "b"], languages=["ar", "fi"],
        variants={"clean": ["x", "y"]}, candidates=["1", "2", "3", "4"], relevant=[0, 2],
        neighbours=[[1, 2], [0, 3]] if neighbours else [],
        others={"ar": ["o"], "fi": ["p"]}, asked={"ar": [-1], "fi": [-1]},
        pool=["1", "2", "3", "4"], pool_groups=[0, 1, 2, 3], own=[0, 2],
    )  # fmt: skip
    candidates = np.array([[1, 0], [0, 1], [0.6, 0.8], [100, 100]], np.float32)
    return questions, {"clean": np.array([[1, 0], [0, 1]], np.float32)}, candidates


def test_ranks_by_hand_and_ties_go_against_the_right_one():
    questions, queries, candidates = made()
    own = questions.relevant
    # a: 1 against 0 and 0.6; b: 0.8 against 0 and the decoy's 100
    assert rank(queries["clean"], candidates, own, questions.neighbours).tolist() == [1, 2]
    # among all, the decoy beats both; for b also candidate 2, with 1
    assert rank(queries["clean"], candidates, own).tolist() == [2, 3]
    assert rank(queries["clean"], np.ones_like(candidates), own).tolist() == [4, 4]


def test_centred_ranks_take_away_the_means():
    questions, queries, candidates = made()
    others = {"ar": np.array([[1, 0.5]], np.float32), "fi": np.array([[0, 0.5]], np.float32)}
    vectors = Vectors(queries, candidates, others, candidates)
    task = translations(neighbours={"backbone": 1, "lexical": 1})
    ranks = rank_views(questions, vectors, task)
    assert list(ranks) == [f"clean/{way}" for way in ("plain", "centred", "plain-lexical", "all-plain", "all-centred")]
    moved = candidates - candidates.mean(axis=0)
    for i, language in enumerate(questions.languages):
        query = queries["clean"][i] - others[language][0]
        right, wrong = questions.relevant[i], questions.neighbours[i]
        for view, among in (("centred", wrong), ("all-centred", {0, 1, 2, 3} - {right})):
            expected = 1 + sum(query @ moved[w] >= query @ moved[right] for w in among)
            assert ranks[f"clean/{view}"][i] == expected
    # lexical: without the first neighbour, which is near by vectors
    assert ranks["clean/plain-lexical"].tolist() == [1, 2]
    assert ranks["clean/all-plain"].tolist() == [2, 3]
    # the decoy as another translation of the same question counts no more
    questions.pool_groups = [0, 1, 2, 0]
    assert rank_views(questions, vectors, task)["clean/all-plain"].tolist() == [1, 3]


def test_fused_ranks_mix_in_the_own_languages_stand_ins():
    questions, queries, candidates = made(neighbours=False)
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    questions.asked = {"ar": [0], "fi": [2]}
    others = {"ar": np.array([[1, 0]], np.float32), "fi": np.array([[0, 1]], np.float32)}
    task = xquad(unseen=("fi",), beta=0.5, encoding={"normalize": True})
    ranks = rank_views(questions, Vectors(queries, candidates, others), task)
    assert ranks["clean/plain"].tolist() == [1, 2]
    # b's passage becomes N(0.5·(0.6, 0.8) + 0.5·(0, 1)): 0.949, still below candidate 2's 1
    assert ranks["clean/fused"].tolist() == [1, 2]
    questions.asked["fi"] = [1]
    others["fi"] = np.array([[1, -1]], np.float32)
    ranks = rank_views(questions, Vectors(queries, candidates, others), task)
    assert ranks["clean/fused"].tolist() == [1, 1]  # candidate 2 was drawn away


def test_questions_are_put_right_by_the_pairs_of_the_languages_that_are_trained_on():
    questions, queries, candidates = made(neighbours=False)
    questions.learnt, questions.answered = ["5", "6"], {"ar": [0, 1], "fi": [1]}
    others = {"ar": np.array([[2, 0], [0, 0]], np.float32), "fi": np.array([[0, -9]], np.float32)}
    learnt = np.array([[1, 5], [1, 5]], np.float32)
    task = afriqa(seen=("ar",), unseen=("fi",), ridge=1.0, shrink=1.0)
    candidates = np.array([[1, 0], [0, 1], [0.6, 0.8], [-2, 0.5]], np.float32)
    ranks = rank_views(questions, Vectors(queries, candidates, others, learnt=learnt), task)
    # plain, a: (1, 0) gives 1, 0, .6, -2; b: (0, 1) gives 0, 1, .8, .5
    assert ranks["clean/plain"].tolist() == [1, 2]
    # less the mean of Arabic (1, 0), which Finnish takes over: a (0, 0), all alike; b (-1, 1): -1, 1, .2, 2.5
    assert ranks["clean/question-centred"].tolist() == [4, 3]
    # Finnish by its own mean (0, -9): (0, 10), as plain
    assert ranks["clean/question-centred-own"].tolist() == [4, 2]
    # Arabic's pairs are (1, -5) and (-1, -5) apart: C = diag(1, 0), t = 1/2, M = diag(1/3, 1); b becomes (-1/3, 1):
    # -.33, 1, .6, 1.17
    assert ranks["clean/question-aligned"].tolist() == [4, 3]
    # b (-.6, 1) would still find -2 … first; with little ridge the first number hardly counts: (-1/201, 1)
    task = afriqa(seen=("ar",), unseen=("fi",), ridge=0.01, shrink=1.0)
    ranks = rank_views(questions, Vectors(queries, candidates, others, learnt=learnt), task)
    assert ranks["clean/question-aligned"].tolist() == [4, 2]


# ---------------------------------------------------------------- real data


@pytest.mark.parity
@pytest.mark.parametrize(("matrix", "name"), [("peft-unseen", "peft-unseen"), ("afriqa", "afriqa-tuning")])
def test_the_real_splits_are_those_that_were_published_with_nothing_on_both_sides(shared, tmp_path, matrix, name):
    generator = np.random.default_rng(0)
    encoder = SimpleNamespace(encode_passages=lambda texts: generator.random((len(texts), 4)))
    path = STUDY.parents[1] / "docs" / "studies" / name / "outcomes.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        published = {line["task"]: line["ids"] for line in map(json.loads, file) if "ids" in line}
    for task in read_matrix(STUDY / f"{matrix}.yaml").tasks:
        folder = tmp_path / task.name
        folder.mkdir()
        prepare(task, shared / "data", folder, {}, encoder)
        assert overlaps(folder) == []
        assert Questions.read(folder / "test.json").ids == published[task.name]
