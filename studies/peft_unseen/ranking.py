"""The rank of each question's right candidate, by the vectors that a model makes of the texts.

A view is "variant/scoring": clean or spoilt questions, and how they are scored.

    plain, centred              among a question's neighbours (translations), or all candidates
    plain-lexical               among its lexical neighbours only (translations)
    fused, fused-centred        each language with its own stand-ins for generated queries (XQuAD)
    all-plain, all-centred      among all English questions (translations)

AfriQA's passages stay as they are, and its questions are put right by pairs of the training half:

    question-centred, question-aligned            by pairs of the languages that are trained on: one that is not
                                                  among them takes what all of them together say
    question-centred-own, question-aligned-own    by those of all languages
"""

from typing import Any, NamedTuple

import numpy as np
from alignment.rivals import Pairs, aligned, centred

import xqg_pyserini as xqg
from peft_unseen.matrix import Afriqa, Task, Translations, Xquad
from peft_unseen.texts import CLEAN, Questions

CUT = 10  # of MRR@10
Array = np.ndarray
Ranks = dict[str, Array]  # view → (questions,)


class Vectors(NamedTuple):
    """What a model makes of `Questions`: arrays (texts, d)."""

    variants: dict[str, Array]
    candidates: Array
    others: dict[str, Array]
    pool: Array | None = None
    learnt: Array | None = None

    @classmethod
    def of(cls, questions: Questions, encoder: xqg.Encoder, with_pool: bool = False) -> "Vectors":
        """Encode each distinct text once: many questions are not changed by a perturbation."""
        parts = questions.variants | questions.others
        distinct = list(dict.fromkeys(text for part in parts.values() for text in part))
        at = {text: i for i, text in enumerate(distinct)}
        encoded = encoder.encode_queries(distinct)
        vectors = {name: encoded[[at[text] for text in part]] for name, part in parts.items()}
        candidates = encoder.encode_passages(questions.candidates)
        pool = encoder.encode_passages(questions.pool) if with_pool else None
        variants = {name: vectors[name] for name in questions.variants}
        learnt = encoder.encode_passages(questions.learnt) if questions.learnt else None
        return cls(variants, candidates, {l: vectors[l] for l in questions.others}, pool, learnt)


def rank(queries: Array, candidates: Array, own: Any, wrong: Any = (), group: Any = None) -> Array:
    """Return the rank (n,) of each query's own candidate; one with the same score is before it.

    Of n queries (n, d) and m candidates (m, d), `own` (n,) is the place of the right candidate,
    `wrong` (n, k) of the wrong ones, where they are not all that are of another `group` (m,).
    """
    own, wrong = np.asarray(own), np.asarray(wrong)
    if wrong.size:
        scores = np.einsum("nd,nkd->nk", queries, candidates[np.column_stack([own, wrong])])
        return np.count_nonzero(scores >= scores[:, :1], axis=1)
    group = np.arange(len(candidates)) if group is None else np.asarray(group)
    ranks = np.ones(len(own), dtype=int)
    for start in range(0, len(own), 256):  # questions at a time
        part = slice(start, start + 256)
        scores = queries[part] @ candidates.T
        right = np.take_along_axis(scores, own[part, None], axis=1)
        above = (scores >= right) & (group != group[own[part], None])
        ranks[part] += np.count_nonzero(above, axis=1)
    return ranks


def rank_views(questions: Questions, vectors: Vectors, task: Task) -> Ranks:
    """Return the ranks in all views that the task has."""
    if isinstance(task, Afriqa):
        return _put_right(questions, vectors, task)
    languages, own = np.array(questions.languages), np.array(questions.relevant)
    neighbours = np.array(questions.neighbours, dtype=int).reshape(len(own), -1)
    means = {l: part.mean(axis=0) for l, part in vectors.others.items()}
    centers = xqg.Centers(vectors.candidates.mean(axis=0), means, np.zeros(0))
    ways = {"plain": (0.0, False), "centred": (0.0, True)}
    if isinstance(task, Xquad):
        ways |= {"fused": (task.beta, False), "fused-centred": (task.beta_centered, True)}
    normalize, ranks, among_all = task.encoding["normalize"], Ranks(), Ranks()
    for variant, queries in vectors.variants.items():
        moved = queries - np.stack([means[l] for l in questions.languages])
        for way, (beta, center) in ways.items():
            fusion = xqg.Fusion("mean", beta=beta, normalize=normalize, center=center)
            ranks[f"{variant}/{way}"] = np.zeros(len(own), dtype=int)
            asked = moved if center else queries
            for l in means:
                mine, candidates = languages == l, vectors.candidates
                if way != "plain":
                    candidates = _fused(fusion, questions, vectors, centers, l)
                placed = rank(asked[mine], candidates, own[mine], neighbours[mine])
                ranks[f"{variant}/{way}"][mine] = placed
            if vectors.pool is not None:
                pool = xqg.augment(fusion, vectors.pool, {}, {}, centers) if center else vectors.pool
                placed = rank(asked, pool, questions.own, group=questions.pool_groups)
                among_all[f"{variant}/all-{way}"] = placed
        if isinstance(task, Translations):
            lexical = neighbours[:, task.neighbours["backbone"] :]
            ranks[f"{variant}/plain-lexical"] = rank(queries, vectors.candidates, own, lexical)
    return ranks | among_all


def _put_right(questions: Questions, vectors: Vectors, task: Afriqa) -> Ranks:
    """Return the ranks of questions as they are, centred and aligned."""
    assert vectors.learnt is not None
    at = [(l, i, place) for l, of in questions.answered.items() for i, place in enumerate(of)]
    asked, passages = np.stack([vectors.others[l][i] for l, i, _ in at]), vectors.learnt[[place for *_, place in at]]
    every = Pairs(asked, passages, np.array([l for l, *_ in at]), english=asked)  # no translation is looked at
    pairs = {"": every.where(np.isin(every.languages, task.seen)), "-own": every}
    languages, ranks = np.array(questions.languages), Ranks()
    for variant, queries in vectors.variants.items():
        turned = {"plain": queries}
        for end, of in pairs.items():
            turned[f"question-centred{end}"] = centred(queries, languages, of)
            turned[f"question-aligned{end}"] = aligned(queries, languages, of, task.ridge, task.shrink)
        for scoring, moved in turned.items():
            ranks[f"{variant}/{scoring}"] = rank(moved, vectors.candidates, questions.relevant)
    return ranks


def _fused(fusion: xqg.Fusion, questions: Questions, vectors: Vectors, centers: xqg.Centers, l: str) -> Array:
    """Return the candidates as questions in l search them, fused with its stand-ins."""
    asked, sums = np.array(questions.asked[l]), np.zeros_like(vectors.candidates)
    mixed = asked >= 0
    np.add.at(sums, asked[mixed], vectors.others[l][mixed])
    counts = np.bincount(asked[mixed], minlength=len(sums))
    return xqg.augment(fusion, vectors.candidates, {l: sums}, {l: counts}, centers)


def mean_reciprocal_rank(questions: Questions, vectors: Vectors) -> float:
    """Return MRR@10 of the clean questions, 0 to 1, languages weighing alike."""
    of, candidates = np.array(questions.languages), vectors.candidates
    ranks = rank(vectors.variants[CLEAN], candidates, questions.relevant, questions.neighbours)
    scores = np.where(ranks <= CUT, 1 / ranks, 0)
    return float(np.mean([scores[of == l].mean() for l in np.unique(of)]))
