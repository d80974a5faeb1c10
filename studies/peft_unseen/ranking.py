"""The rank of each question's right candidate, by the vectors that a model makes of the texts.

A view is "variant/scoring": clean or spoilt questions, and how they are scored.

    plain, centred              among a question's neighbours (translations), or all candidates
    plain-lexical               among its lexical neighbours only (translations)
    fused, fused-centred        each language with its own stand-ins for generated queries (XQuAD)
    all-plain, all-centred      among all English questions (translations)

A wrong candidate with the same score comes first: a model for which all texts are one knows
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import xqg_pyserini as xqg
from peft_unseen.matrix import Translations, Xquad
from peft_unseen.texts import CLEAN, Questions
from xqg_pyserini.fusion.formula import Centers, augment, unit

CUT = 10  # of MRR@10
AT_A_TIME = 256  # questions
Ranks = dict[str, np.ndarray]  # view → (questions,)
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass
class Vectors:
    """What a model makes of `Questions`: of each variant, of the candidates, of the `others`."""

    variants: dict[str, np.ndarray]
    candidates: np.ndarray
    others: dict[str, np.ndarray]

    @classmethod
    def of(cls, questions: Questions, queries: Encode, passages: Encode) -> Vectors:
        """Encode each distinct text once."""
        texts = [*questions.variants.values(), *questions.others.values()]
        distinct = list(dict.fromkeys(text for part in texts for text in part))
        vectors = queries(distinct)
        at = {text: i for i, text in enumerate(distinct)}

        def taken(parts: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
            return {name: vectors[[at[text] for text in part]] for name, part in parts.items()}

        candidates = passages(questions.candidates)
        return cls(taken(questions.variants), candidates, taken(questions.others))

    @property
    def centers(self) -> Centers:
        """The means of the candidates, and of each language's other questions."""
        queries = {l: part.mean(axis=0) for l, part in self.others.items()}
        pooled = np.mean([*queries.values()], axis=0) if queries else np.zeros(1)
        return Centers(self.candidates.mean(axis=0), queries, pooled)


def rank(
    queries: np.ndarray, candidates: np.ndarray, relevant: Any, neighbours: Any = ()
) -> np.ndarray:
    """Return the ranks (n,) of candidates (c, d) for queries (n, d).

    Args:
        queries: (n, d).
        candidates: (c, d).
        relevant: (n,), the place of the right one among the candidates.
        neighbours: (n, k), the places of the wrong ones; empty where they are all others.
    """
    relevant, neighbours = np.asarray(relevant), np.asarray(neighbours)
    if not neighbours.size:
        scores = queries @ candidates.T
        own = scores[np.arange(len(relevant)), relevant]
        return np.count_nonzero(scores >= own[:, None], axis=1)
    places = np.concatenate([relevant[:, None], neighbours], axis=1)
    scores = np.einsum("nd,nkd->nk", queries, candidates[places])
    return np.count_nonzero(scores >= scores[:, :1], axis=1)


def rank_variants(
    questions: Questions, vectors: Vectors, task: Translations | Xquad
) -> Ranks:
    """Return the ranks for each variant of the questions, scored as the task is."""
    ranks: Ranks = {}
    of = np.asarray(questions.languages)
    relevant, neighbours = np.asarray(questions.relevant), np.asarray(questions.neighbours)
    ways: dict[str, Any] = {"plain": None, "centred": _fusion(task, 0.0, True)}
    if isinstance(task, Xquad):
        ways["fused"] = _fusion(task, task.beta, False)
        ways["fused-centred"] = _fusion(task, task.beta_centered, True)
    searched = {
        way: {l: _searched(questions, vectors, fusion, l) for l in vectors.others}
        for way, fusion in ways.items()
    }
    for variant, queries in vectors.variants.items():
        for way, by_language in searched.items():
            placed = np.zeros(len(of), dtype=np.int32)
            for l, (candidates, center) in by_language.items():
                mine = np.flatnonzero(of == l)
                among = neighbours[mine] if neighbours.size else ()
                placed[mine] = rank(queries[mine] - center, candidates, relevant[mine], among)
            ranks[f"{variant}/{way}"] = placed
        if neighbours.size:
            lexical = neighbours[:, questions.near :]
            ranks[f"{variant}/plain-lexical"] = rank(queries, vectors.candidates, relevant, lexical)
    return ranks


def _fusion(task: Translations | Xquad, beta: float, center: bool) -> xqg.Fusion:
    return xqg.Fusion("mean", beta=beta, normalize=task.encoding.normalize, center=center)


def _searched(
    questions: Questions, vectors: Vectors, fusion: xqg.Fusion | None, language: str
) -> tuple[np.ndarray, Any]:
    """Return the candidates as a language's questions search them, and what these lose."""
    if fusion is None:
        return vectors.candidates, 0.0
    sums = np.zeros_like(vectors.candidates)
    counts = np.zeros(len(sums), dtype=np.int64)
    asked = np.asarray(questions.asked[language])
    kept = asked >= 0
    np.add.at(sums, asked[kept], vectors.others[language][kept])
    np.add.at(counts, asked[kept], 1)
    centers = vectors.centers
    mixed = augment(fusion, vectors.candidates, {language: sums}, {language: counts}, centers)
    return mixed, centers.of(language) if fusion.center else 0.0


def rank_in_pool(
    questions: Questions,
    vectors: Vectors,
    pool: np.ndarray,
    groups: Sequence[int],
    task: Translations | Xquad,
) -> Ranks:
    """Return the ranks among all English questions (the pool), plain and centred.

    Other translations of the same question (its group) count neither as right nor as wrong.
    """
    own, group = np.asarray(questions.pool), np.asarray(groups)
    centers = vectors.centers
    moved = pool - centers.passages
    moved = unit(moved) if task.encoding.normalize else moved
    shift = np.stack([centers.of(l) for l in questions.languages])
    ranks: Ranks = {}
    for variant, queries in vectors.variants.items():
        for way, asked, candidates in (
            ("all-plain", queries, pool),
            ("all-centred", queries - shift, moved),
        ):
            placed = np.zeros(len(own), dtype=np.int32)
            for start in range(0, len(own), AT_A_TIME):
                part = slice(start, start + AT_A_TIME)
                scores = asked[part] @ candidates.T
                right = scores[np.arange(len(scores)), own[part]]
                wrong = (scores >= right[:, None]) & (group != group[own[part]][:, None])
                placed[part] = 1 + np.count_nonzero(wrong, axis=1)
            ranks[f"{variant}/{way}"] = placed
    return ranks


def mean_reciprocal_rank(questions: Questions, vectors: Vectors) -> float:
    """Return MRR@10 of the clean questions, 0 to 1, languages weighing alike."""
    neighbours = questions.neighbours
    ranks = rank(vectors.variants[CLEAN], vectors.candidates, questions.relevant, neighbours)
    scores, of = np.where(ranks <= CUT, 1 / ranks, 0), np.asarray(questions.languages)
    return float(np.mean([scores[of == l].mean() for l in dict.fromkeys(questions.languages)]))
