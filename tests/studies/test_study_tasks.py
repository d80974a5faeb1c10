"""The study's tasks: splits, neighbours, ranks by hand; the real data's splits."""

import numpy as np
import pytest
from peft_unseen.cells import rank, rank_in_pool, rank_variants
from peft_unseen.matrix import Neighbours, Perturbation, Translations, Xquad, read_matrix
from peft_unseen.tasks import LetterVectors, Questions, fold, groups, overlaps, prepare, read_questions, read_train
from study_data import foreign, write_translations, write_xquad


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with xor-tydi/ and xquad/."""
    folder = tmp_path_factory.mktemp("texts")
    write_translations(folder)
    write_xquad(folder)
    return folder


def vectors_of(texts):
    """Letters counted: enough to have neighbours."""
    rows = np.array([[1 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# ---------------------------------------------------------------- splits


def test_groups_are_joined_by_chains_of_shared_texts():
    assert groups([("a", "x"), ("b", "y"), ("c", "x"), ("c", "z"), ("d", "w")]) == [0, 1, 0, 0, 4]
    assert fold("What IS “ﬁve”, 5?") == fold("what is five 5") == "whatisfive5"
    assert fold("கி") != fold("க")  # a vowel sign is no punctuation
    assert fold("?!…") == ""


def translations(**settings) -> Translations:
    given = {"test": 8, "validation": 4, "train": 16, "unlabelled": 4}
    return Translations(
        name="t", kind="translations", seen=("ar", "fi"), unseen=("bn",),
        neighbours=Neighbours(2, 2), **{**given, **settings},
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_translations_are_split_by_groups(texts, tmp_path, seed):
    task = translations(seed=seed)
    spoilt = {"mixed": Perturbation("code-switch", 1.0), "typos": Perturbation("typos", 0.2)}
    report = prepare(task, texts, tmp_path, spoilt, vectors_of)
    test = read_questions(tmp_path / "test.json")
    validation = read_questions(tmp_path / "validation.json")
    train = read_train(tmp_path)
    assert overlaps(train, test, validation) == []
    assert report["train"] == 32
    assert report["test"] == {"ar": 8, "fi": 8, "bn": 8}
    assert report["validation"] == {"ar": 4, "fi": 4}
    assert {record["language"] for record in train} == {"ar", "fi"}
    assert report["pairs"] == 3 * 50  # a blank and a letterless pair are left out
    for i, language in enumerate(test.languages):
        right, near = test.relevant[i], test.neighbours[i]
        assert len(set(near)) == 4
        english = test.candidates[right]
        question = fold(test.variants["clean"][i])
        if not english.startswith("What do") and question != fold(foreign("another one", language)):
            assert question == fold(foreign(english, language))
        assert fold(english) not in {fold(test.candidates[p]) for p in near}
    assert test.variants["typos"] != test.variants["clean"]
    again = tmp_path / "again"
    again.mkdir()
    prepare(task, texts, again, spoilt, vectors_of)
    for name in ("test.json", "validation.json", "train.jsonl"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_an_overlap_is_found(texts, tmp_path):
    prepare(translations(), texts, tmp_path, {}, vectors_of)
    test = read_questions(tmp_path / "test.json")
    validation = read_questions(tmp_path / "validation.json")
    train = read_train(tmp_path)
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
        assert overlaps([*train, planted], test, validation) == [fold(text)]


@pytest.mark.parametrize("seed", range(4))
def test_xquad_is_split_by_articles_and_fuses_no_asked_question(texts, tmp_path, seed):
    task = Xquad(name="x", kind="xquad", seen=("ar",), unseen=("el",), test=7, validation=4, seed=seed)
    report = prepare(task, texts, tmp_path, {}, vectors_of)
    test = read_questions(tmp_path / "test.json")
    validation = read_questions(tmp_path / "validation.json")
    train = read_train(tmp_path)
    assert overlaps(train, test, validation) == []
    sides = report["articles"]
    assert [len(sides[side]) for side in ("test", "train", "validation")] == [5, 4, 1]
    assert len({title for some in sides.values() for title in some}) == 10
    assert {p["title"] for r in train for p in r["positive_passages"]} == set(sides["train"])
    assert len(test.candidates) == 10  # all of the test half, asked about or not
    assert report["test"] == {"ar": 7, "el": 7}
    assert test.units[:7] == test.units[7:]
    for language in ("ar", "el"):
        asked = {fold(text) for text, l in zip(test.variants["clean"], test.languages, strict=True) if l == language}
        assert not asked & {fold(text) for text in test.others[language]}
        assert len(test.others[language]) == len(test.asked[language]) > 0
    for i, unit in enumerate(test.units):
        number = int(unit.split("-")[0])
        assert f"number {number} was made" in test.candidates[test.relevant[i]]
        assert int(unit.split("-")[1]) % 2 == 0


def test_letter_vectors_by_hand():
    vectors = LetterVectors(["abcd", "abcd", "wxyz"], size=4)
    # of " abcd ": " abc", "abcd", "bcd ", each once; the same text has cosine 1, no run shared 0
    np.testing.assert_allclose(vectors.similarities([0, 2]), [[1, 1, 0], [0, 0, 1]], atol=1e-12)
    some = LetterVectors(["aaaa", "aaaab"], size=4)
    # " aaa" and "aaaa" are in both (idf 1), "aaa " in one, "aaab", "aab " in the other
    rare = np.log(3 / 2) + 1
    cosine = 2 / np.sqrt((2 + rare**2) * (2 + 2 * rare**2))
    np.testing.assert_allclose(some.similarities([0])[0, 1], cosine)


# ---------------------------------------------------------------- ranks


def made(neighbours=True) -> tuple[Questions, dict[str, np.ndarray], np.ndarray]:
    questions = Questions(
        ids=["a", "b"], languages=["ar", "fi"], units=["a", "b"],
        variants={"clean": ["x", "y"]}, candidates=["1", "2", "3", "4"], relevant=[0, 2],
        neighbours=[[1, 2], [0, 3]] if neighbours else [], near=1,
        others={"ar": ["o"], "fi": ["p"]}, asked={"ar": [-1], "fi": [-1]}, pool=[0, 2],
    )  # fmt: skip
    candidates = np.array([[1, 0], [0, 1], [0.6, 0.8], [100, 100]], np.float32)
    return questions, {"clean": np.array([[1, 0], [0, 1]], np.float32)}, candidates


def test_ranks_by_hand_and_ties_go_against_the_right_one():
    questions, queries, candidates = made()
    # a: 1 against 0 and 0.6; b: 0.8 against 0 and the decoy's 100
    assert rank(queries["clean"], candidates, questions).tolist() == [1, 2]
    questions, queries, candidates = made(neighbours=False)
    # among all, the decoy beats both; for b also candidate 2, with 1
    assert rank(queries["clean"], candidates, questions).tolist() == [2, 3]
    same = np.ones_like(candidates)
    assert rank(queries["clean"], same, questions).tolist() == [4, 4]


def test_centred_ranks_take_away_the_means():
    from peft_unseen.cells import _Vectors

    questions, queries, candidates = made()
    others = {"ar": np.array([[1, 0.5]], np.float32), "fi": np.array([[0, 0.5]], np.float32)}
    ranks = rank_variants(questions, _Vectors(queries, candidates, others), translations(), False)
    assert set(ranks) == {"clean/plain", "clean/centred", "clean/plain-lexical"}
    moved = candidates - candidates.mean(axis=0)
    for i, language in enumerate(questions.languages):
        query = queries["clean"][i] - others[language][0]
        right, wrong = questions.relevant[i], questions.neighbours[i]
        expected = 1 + sum(query @ moved[w] >= query @ moved[right] for w in wrong)
        assert ranks["clean/centred"][i] == expected
    # lexical: without the first neighbour, which is near by vectors
    assert ranks["clean/plain-lexical"].tolist() == [1, 2]
    found = rank_in_pool(questions, _Vectors(queries, candidates, others), candidates, [0, 1, 2, 3], False)
    assert found["clean/all-plain"].tolist() == [2, 3]
    # the decoy as another translation of the same question counts no more
    found = rank_in_pool(questions, _Vectors(queries, candidates, others), candidates, [0, 1, 2, 0], False)
    assert found["clean/all-plain"].tolist() == [1, 3]


def test_fused_ranks_mix_in_the_own_languages_stand_ins():
    from peft_unseen.cells import _Vectors

    from xqg_pyserini.fusion.formula import unit

    questions, queries, candidates = made(neighbours=False)
    candidates = unit(candidates)
    questions.asked = {"ar": [0], "fi": [2]}
    others = {"ar": np.array([[1, 0]], np.float32), "fi": np.array([[0, 1]], np.float32)}
    task = Xquad(name="x", kind="xquad", seen=("ar",), unseen=("fi",), beta=0.5)
    ranks = rank_variants(questions, _Vectors(queries, candidates, others), task, True)
    assert ranks["clean/plain"].tolist() == [1, 2]
    # b's passage becomes N(0.5·(0.6, 0.8) + 0.5·(0, 1)): 0.949, still below candidate 2's 1
    assert ranks["clean/fused"].tolist() == [1, 2]
    questions.asked["fi"] = [1]
    others["fi"] = np.array([[1, -1]], np.float32)
    ranks = rank_variants(questions, _Vectors(queries, candidates, others), task, True)
    assert ranks["clean/fused"].tolist() == [1, 1]  # candidate 2 was drawn away


# ---------------------------------------------------------------- real data


@pytest.mark.parity
def test_the_real_splits_have_nothing_on_both_sides(shared, tmp_path):
    matrix = read_matrix("peft-unseen")
    generator = np.random.default_rng(0)
    for task in matrix.tasks:
        folder = tmp_path / task.name
        folder.mkdir()
        prepare(task, shared / "data", folder, {}, lambda texts: generator.random((len(texts), 4)))
        found = (read_questions(folder / f"{side}.json") for side in ("test", "validation"))
        assert overlaps(read_train(folder), *found) == []
