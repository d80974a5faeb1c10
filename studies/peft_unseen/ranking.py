"""The rank of each question's right candidate, by the vectors that a model makes of the texts.

A view is "variant/scoring": clean or spoilt questions, and how they are scored.

    plain, centred              among a question's neighbours (translations), or all candidates
    plain-lexical               among its lexical neighbours only (translations)
    fused, fused-centred        each language with its own stand-ins for generated queries (XQuAD)
    all-plain, all-centred      among all English questions (translations)

A wrong candidate with the same score comes first: a model for which all texts are one knows
nothing.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import xqg_pyserini as xqg
from peft_unseen.matrix import Task, Translations, Xquad
from peft_unseen.texts import CLEAN, Questions
from xqg_pyserini.fusion.formula import Centers, augment

CUT = 10  # of MRR@10
Ranks = dict[str, np.ndarray]  # view → (questions,)


@dataclass
class Vectors:
    """What a model makes of `Questions`: arrays (texts, d), and the means that centring takes."""

    variants: dict[str, np.ndarray]
    candidates: np.ndarray
    others: dict[str, np.ndarray]
    pool: np.ndarray | None = None
    centers: Centers = field(init=False)

    def __post_init__(self) -> None:
        means = {l: part.mean(axis=0) for l, part in self.others.items()}
        pooled = np.mean([*means.values()] or [self.candidates.mean(axis=0)], axis=0)
        self.centers = Centers(self.candidates.mean(axis=0), means, pooled)

    @classmethod
    def of(cls, questions: Questions, encoder: xqg.Encoder, with_pool: bool = False) -> "Vectors":
        """Encode each distinct text once: many questions are not changed by a perturbation."""
        parts = questions.variants | questions.others
        distinct = list(dict.fromkeys(text for part in parts.values() for text in part))
        at = {text: i for i, text in enumerate(distinct)}
        encoded = encoder.encode_queries(distinct)
        vectors = {name: encoded[[at[text] for text in part]] for name, part in parts.items()}
        return cls(
            {name: vectors[name] for name in questions.variants},
            encoder.encode_passages(questions.candidates),
            {l: vectors[l] for l in questions.others},
            encoder.encode_passages(questions.pool) if with_pool else None,
        )


def rank(
    queries: np.ndarray, candidates: np.ndarray, own: Any, wrong: Any = (), group: Any = None
) -> np.ndarray:
    """Return the rank of each query's own candidate, (n,).

    Args:
        queries: (n, d).
        candidates: (m, d).
        own: (n,), the place of the right one among them.
        wrong: (n, k), the places of the wrong ones; empty where they are all others.
        group: (m,), of each candidate; others of its own candidate's do not count.
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
    languages, own = np.array(questions.languages), np.array(questions.relevant)
    neighbours = np.array(questions.neighbours, dtype=int).reshape(len(own), -1)
    plain = {l: vectors.candidates for l in vectors.others}
    searched = {"plain": plain, "centred": _fused(questions, vectors, task, 0.0, True)}
    if isinstance(task, Xquad):
        searched["fused"] = _fused(questions, vectors, task, task.beta, False)
        searched["fused-centred"] = _fused(questions, vectors, task, task.beta_centered, True)
    of_question = np.stack([vectors.centers.of(l) for l in questions.languages])
    ranks: Ranks = {}
    for variant, queries in vectors.variants.items():
        moved = queries - of_question
        for scoring, candidates in searched.items():
            asked = moved if "centred" in scoring else queries
            placed = np.zeros(len(own), dtype=int)
            for l in candidates:
                mine = languages == l
                placed[mine] = rank(asked[mine], candidates[l], own[mine], neighbours[mine])
            ranks[f"{variant}/{scoring}"] = placed
        if isinstance(task, Translations):
            lexical = neighbours[:, task.neighbours["backbone"] :]
            ranks[f"{variant}/plain-lexical"] = rank(queries, vectors.candidates, own, lexical)
    if vectors.pool is not None:
        centred = augment(_fusion(task, 0.0, True), vectors.pool, {}, {}, vectors.centers)
        for variant, queries in vectors.variants.items():
            for scoring, asked, pool in (
                ("all-plain", queries, vectors.pool),
                ("all-centred", queries - of_question, centred),
            ):
                placed = rank(asked, pool, questions.own, group=questions.pool_groups)
                ranks[f"{variant}/{scoring}"] = placed
    return ranks


def _fusion(task: Task, beta: float, center: bool) -> xqg.Fusion:
    return xqg.Fusion("mean", beta=beta, normalize=task.encoding["normalize"], center=center)


def _fused(
    questions: Questions, vectors: Vectors, task: Task, beta: float, center: bool
) -> dict[str, np.ndarray]:
    """Return the candidates as each language's questions search them, fused with its stand-ins."""
    fused = {}
    for l, others in vectors.others.items():
        asked = np.array(questions.asked[l])
        sums = np.zeros_like(vectors.candidates)
        np.add.at(sums, asked[asked >= 0], others[asked >= 0])
        counts = np.bincount(asked[asked >= 0], minlength=len(sums))
        fusion, centers = _fusion(task, beta, center), vectors.centers
        fused[l] = augment(fusion, vectors.candidates, {l: sums}, {l: counts}, centers)
    return fused


def mean_reciprocal_rank(questions: Questions, vectors: Vectors) -> float:
    """Return MRR@10 of the clean questions, 0 to 1, languages weighing alike."""
    of, candidates = np.array(questions.languages), vectors.candidates
    ranks = rank(vectors.variants[CLEAN], candidates, questions.relevant, questions.neighbours)
    scores = np.where(ranks <= CUT, 1 / ranks, 0)
    return float(np.mean([scores[of == l].mean() for l in dict.fromkeys(questions.languages)]))
