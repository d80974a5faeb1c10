"""Choosing one of many runs, judged on questions that did not choose: folds, choices, held-out scores.

The best of many runs looks better than it is on the questions that it was chosen by (Stone, 1974, Journal of the Royal
Statistical Society B 36(2); Cawley and Talbot, 2010, JMLR 11).  So the questions are dealt into folds; for each fold a
run is chosen by the other folds' questions, and the fold's questions take their scores from it.  The scores of all
folds together are those of the *procedure* of choosing, on questions that did not choose.

This module refuses to know files, tables and fusions.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Values = Mapping[str, float]  # question → score


class Choice(NamedTuple):
    """What was chosen for a fold's questions: of one language, or of all (None)."""

    fold: int
    language: str | None
    run: str


def group_by_relevance(questions: Sequence[str], relevant: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Return question → number of its group: questions that share a relevant passage are one.

    Sharing is passed on: a question that shares one passage with a second and another with a third joins all three.
    Passages that are only known by number (`unseen 0`, …) join nothing.
    """
    parent = {qid: qid for qid in questions}

    def root(qid: str) -> str:
        while parent[qid] != qid:
            parent[qid] = qid = parent[parent[qid]]
        return qid

    first: dict[str, str] = {}
    for qid in questions:
        for docid, relevance in relevant.get(qid, {}).items():
            if relevance > 0 and " " not in docid:
                parent[root(qid)] = root(first.setdefault(docid, qid))
    numbers: dict[str, int] = {}
    return {qid: numbers.setdefault(root(qid), len(numbers)) for qid in questions}


def deal(groups: Mapping[str, Hashable], languages: Mapping[str, str], folds: int, seed: int = 42) -> dict[str, int]:
    """Return question → fold (0 … folds-1): no group is divided, languages are spread evenly.

    Groups come in an order drawn with `seed`, larger ones first; each goes to the fold that has the fewest questions of
    the group's languages, then the fewest in all, then the lowest number.

    Raises:
        ValueError: There are fewer than 2 folds, or fewer groups than folds.
    """
    members: dict[Hashable, list[str]] = {}
    for qid, group in groups.items():
        members.setdefault(group, []).append(qid)
    if not 2 <= folds <= len(members):
        raise ValueError(f"{folds} folds of {len(members)} groups; expected from 2 to that many")
    listed = list(members.values())
    drawn = [listed[i] for i in np.random.default_rng(seed).permutation(len(listed))]
    held: list[Counter[str]] = [Counter() for _ in range(folds)]  # language → questions, of each fold
    fold_of: dict[str, int] = {}
    for group_members in sorted(drawn, key=len, reverse=True):
        own = [languages[qid] for qid in group_members]
        *_, fold = min((sum(counts[l] for l in own), counts.total(), f) for f, counts in enumerate(held))
        held[fold].update(own)
        fold_of |= dict.fromkeys(group_members, fold)
    return fold_of


def macro(values: Values, languages: Mapping[str, str], of: Sequence[str]) -> float:
    """Return the unweighted mean over languages of some questions' mean scores."""
    groups: dict[str, list[float]] = {}
    for qid in of:
        groups.setdefault(languages[qid], []).append(values[qid])
    return sum(sum(group) / len(group) for group in groups.values()) / len(groups)


def choose(
    scores: Mapping[str, Values], languages: Mapping[str, str], fold_of: Mapping[str, int], per_language: bool
) -> list[Choice]:
    """Choose a run for each fold, by the macro score of the other folds' questions.

    With `per_language` one is chosen for each language, by that language's questions.  Of runs that score the same, the
    first is taken.

    Raises:
        ValueError: A language has all its questions in one fold, so that nothing can be chosen.
    """
    chosen_for = sorted({languages[qid] for qid in fold_of}) if per_language else [None]
    choices = []
    for fold in range(max(fold_of.values()) + 1):
        for language in chosen_for:
            others = [qid for qid, other in fold_of.items() if other != fold and language in (None, languages[qid])]
            if not others:
                raise ValueError(f"the questions in {language} are all in one fold")
            best = max(scores, key=lambda run: macro(scores[run], languages, others))
            choices.append(Choice(fold, language, best))
    return choices


def held_out(
    scores: Mapping[str, Values], languages: Mapping[str, str], fold_of: Mapping[str, int], choices: Sequence[Choice]
) -> dict[str, float]:
    """Return each question's score by the run that was chosen without its fold."""
    chosen = {(choice.fold, choice.language): choice.run for choice in choices}
    run_for = {qid: chosen.get((fold, None)) or chosen[fold, languages[qid]] for qid, fold in fold_of.items()}
    return {qid: scores[run][qid] for qid, run in run_for.items()}
