"""Folds, choices, and scores on what did not choose."""

import itertools

import pytest

from xqg_pyserini.evaluation import selection


def test_questions_that_share_a_relevant_passage_are_one_group_and_pass_it_on():
    relevant = {
        "q1": {"p1": 1, "p9": 0}, "q2": {"p1": 1, "p2": 2}, "q3": {"p2": 1}, "q4": {"p9": 1},
        "q6": {"unseen 0": 1}, "q7": {"unseen 0": 1},
    }  # fmt: skip
    groups = selection.group_by_relevance(["q1", "q2", "q3", "q4", "q5", "q6", "q7"], relevant)
    assert groups["q1"] == groups["q2"] == groups["q3"]
    assert len(set(groups.values())) == 5


def test_folds_divide_no_group_and_spread_the_languages():
    languages = {f"{l}{i}": l for l in ("ar", "ru") for i in range(30)}
    together = {qid: int(qid[2:]) // 3 for qid in languages}  # 10 groups of 6
    folds = selection.deal(together, languages, 5)
    assert all(
        folds[a] == folds[b] for a, b in itertools.combinations(languages, 2)
        if together[a] == together[b]
    )  # fmt: skip
    assert sorted(list(folds.values()).count(f) for f in range(5)) == [12] * 5
    alone = selection.deal({qid: qid for qid in languages}, languages, 4)
    for language in ("ar", "ru"):
        sizes = [sum(alone[q] == f for q in languages if languages[q] == language) for f in range(4)]
        assert sorted(sizes) == [7, 7, 8, 8]
    assert alone == selection.deal({qid: qid for qid in languages}, languages, 4)
    assert alone != selection.deal({qid: qid for qid in languages}, languages, 4, seed=1)
    for count in (1, 11):
        with pytest.raises(ValueError, match=f"{count} folds of 10 groups"):
            selection.deal(together, languages, count)


def test_a_run_is_chosen_by_the_other_folds_and_scores_on_its_own():
    """By hand: what is best outside a fold is worst in it, so that tuning flatters."""
    languages = {"a": "ar", "b": "ar", "c": "ar", "d": "ar"}
    folds = {"a": 0, "b": 0, "c": 1, "d": 1}
    scores = {
        "base": {"a": 0, "b": 0, "c": 0, "d": 0},
        "left": {"a": 1, "b": 1, "c": 0, "d": 0},
        "right": {"a": 0, "b": 0, "c": 1, "d": 1},
    }
    choices = selection.choose(scores, languages, folds, per_language=False)
    assert choices == [(0, None, "right"), (1, None, "left")]
    assert selection.held_out(scores, languages, folds, choices) == dict.fromkeys("abcd", 0)
    assert max(selection.macro(s, languages, "abcd") for s in scores.values()) == 0.5
    same = {"base": scores["base"], "other": scores["base"]}
    assert {c.run for c in selection.choose(same, languages, folds, False)} == {"base"}


def test_a_run_is_chosen_for_each_language_by_its_own_questions():
    languages = {"a1": "ar", "a2": "ar", "r1": "ru", "r2": "ru"}
    folds = {"a1": 0, "a2": 1, "r1": 0, "r2": 1}
    scores = {"for ar": {"a1": 1, "a2": 1, "r1": 0, "r2": 0}, "for ru": {"a1": 0, "a2": 0, "r1": 1, "r2": 1}}
    choices = selection.choose(scores, languages, folds, per_language=True)
    assert choices == [(f, l, f"for {l}") for f in (0, 1) for l in ("ar", "ru")]
    assert set(selection.held_out(scores, languages, folds, choices).values()) == {1}
    with pytest.raises(ValueError, match="the questions in ru are all in one fold"):
        selection.choose(scores, languages, {**folds, "r2": 0}, per_language=True)
