"""What is compared: pure functions of arrays.

Questions q are (m, d) in the languages `l` (m,); passages p are (n, d).  What is learnt comes from `Pairs`: a query of
each, its passage's vector and the language; where a language has no pairs, all together serve it.  Inner products rank.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Pairs(NamedTuple):
    """N queries (N, d) in languages (N,), the vectors of their passages (N, d), and their English translations."""

    queries: Array
    passages: Array
    languages: Array
    english: Array

    def of(self, language: str) -> "Pairs":
        """Return a language's pairs; all where it has none."""
        mine = self.languages == language
        return self.where(mine) if mine.any() else self

    def where(self, chosen: Array) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(*(each[chosen] for each in self))


def unit(x: Array) -> Array:
    """Scale rows to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1)


def by_language(q: Array, l: Array, turn: Callable[[str, Array], Array]) -> Array:
    """Return the questions with turn(language, its questions) in place of each language's."""
    out = np.empty_like(q)
    for language in np.unique(l):
        out[l == language] = turn(str(language), q[l == language])
    return out


def centred(q: Array, l: Array, pairs: Pairs) -> Array:
    """Return q - μ_l, μ_l the mean of the language's queries (Libovický et al., arXiv 1911.03310, 2004.05160)."""
    return by_language(q, l, lambda language, own: own - pairs.of(language).queries.mean(axis=0))


def covariance(pairs: Pairs) -> Array:
    """Cov(q̂ - E(p)), (d, d) float64."""
    apart = (pairs.queries - pairs.passages).astype(np.float64)
    apart -= apart.mean(axis=0)
    return apart.T @ apart / len(apart)


def aligned(q: Array, l: Array, pairs: Pairs, ridge: float = 5.0, shrink: float = 300.0) -> Array:
    """M_l·(q - μ_l), M_l = (C̃_l + λ·t·I)⁻¹, C̃_l = (n_l·C_l + k·C̄) / (n_l + k), t = tr(C̃_l) / d.

    C_l = Cov(q̂ - E(p)) in the language, C̄ its mean over languages, weighted by their pairs.  WCCN (Hatch et al.,
    Interspeech 2006) with a passage and its queries as the class; this is what `xqg.align` learns from a stream.
    """
    languages, counts = np.unique(pairs.languages, return_counts=True)
    own = {str(each): covariance(pairs.of(each)) for each in languages}
    common = sum(n * own[str(each)] for each, n in zip(languages, counts, strict=True)) / counts.sum()
    numbers = dict(zip(languages.tolist(), counts.tolist(), strict=True))

    def turn(language: str, x: Array) -> Array:
        n = numbers.get(language, 0)
        c = (n * own.get(language, 0.0) + shrink * common) / (n + shrink) if n else common
        t = np.trace(c) / len(c)
        return (x @ np.linalg.inv(c / t + ridge * np.eye(len(c)))).astype(np.float32)

    return by_language(centred(q, l, pairs), l, turn)


def without_components(x: Array, own: Array, number: int) -> Array:
    """LIR: x - C·Cᵀ·x, C the first right singular vectors of one language's vectors `own` (Yang et al., 2109.04727)."""
    _, _, components = np.linalg.svd(own, full_matrices=False)
    return x - x @ components[:number].T @ components[:number]


def lir(q: Array, l: Array, p: Array, pairs: Pairs, number: int) -> tuple[Array, Array]:
    """LIR on both sides: questions lose their language's components, passages those of the paired passages."""
    turned = by_language(q, l, lambda language, x: without_components(x, pairs.of(language).queries, number))
    return turned, unit(without_components(p, pairs.passages, number))


def whitening(pairs: Pairs, ridge: float, power: float) -> Array:
    """(C/t + λI)^power, (d, d) float32: C that of queries and passages together, each less their mean; t = tr(C) / d.

    The mean is the language's for queries.
    """
    mean = pairs.passages.mean(axis=0)
    all_of = np.concatenate([centred(pairs.queries, pairs.languages, pairs), pairs.passages - mean]).astype(np.float64)
    c = all_of.T @ all_of / len(all_of)
    values, vectors = np.linalg.eigh(c / (np.trace(c) / len(c)))
    return ((vectors * (values.clip(0) + ridge) ** power) @ vectors.T).astype(np.float32)


def whitened(q: Array, l: Array, p: Array, pairs: Pairs, ridge: float) -> tuple[Array, Array]:
    """(x - μ)·W on both sides, of length 1, W = (C/t + λI)^(-1/2) (Su et al., arXiv 2103.15316)."""
    w = whitening(pairs, ridge, -0.5)
    return unit(centred(q, l, pairs) @ w), unit((p - pairs.passages.mean(axis=0)) @ w)


def whitened_questions(q: Array, l: Array, pairs: Pairs, ridge: float) -> Array:
    """(q - μ_l)·W², W as `whitened`: alignment with the covariance of all texts in place of that within pairs."""
    return centred(q, l, pairs) @ whitening(pairs, ridge, -1.0)


def procrustes(q: Array, l: Array, pairs: Pairs) -> Array:
    """(q - μ_l)·R_l, R_l = UVᵀ of the SVD of Aᵀ·B, A queries and B passages, centred (Schönemann 1966)."""

    def turn(language: str, x: Array) -> Array:
        own = pairs.of(language)
        a, b = own.queries - own.queries.mean(axis=0), own.passages - own.passages.mean(axis=0)
        u, _, v = np.linalg.svd(a.T @ b)
        return x @ u @ v

    return by_language(centred(q, l, pairs), l, turn)


def regressed(q: Array, l: Array, pairs: Pairs, ridge: float) -> Array:
    """(q - μ_l)·B_l, B_l = (AᵀA + λ·tr(AᵀA)/d·I)⁻¹·AᵀB: ridge regression of passages on queries (Hoerl 1970)."""

    def turn(language: str, x: Array) -> Array:
        own = pairs.of(language)
        a, b = own.queries - own.queries.mean(axis=0), own.passages - own.passages.mean(axis=0)
        gram = (a.T @ a).astype(np.float64)
        gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
        return (x @ np.linalg.solve(gram, a.T @ b)).astype(np.float32)

    return by_language(centred(q, l, pairs), l, turn)


def csls(q: Array, l: Array, p: Array, pairs: Pairs, neighbours: int = 10, center: bool = False) -> Array:
    """Scores 2·cos(q, p) - r(p), (m, n): r(p) the mean cosine of p's nearest queries of the language (1710.04087).

    r(q) is left out: it moves all scores of a question alike.
    """
    known = centred(pairs.queries, pairs.languages, pairs) if center else pairs.queries
    asked, p = unit(centred(q, l, pairs) if center else q), unit(p)
    scores = 2 * asked @ p.T
    for language in np.unique(l):
        mine = pairs.languages == language
        near = unit(known[mine] if mine.any() else known) @ p.T
        k = min(neighbours, len(near))
        scores[l == language] -= np.partition(near, len(near) - k, axis=0)[-k:].mean(axis=0)
    return scores


def shifted(q: Array, l: Array, p: Array, pairs: Pairs) -> Array:
    """SHIFT's scores (m, n): ⟨q, N(p - v_l)⟩, v_l = mean of E(translation) - E(query) (arXiv 2606.18801).

    There, the passages of each target language lose its vector relative to the source, that of the question.  Here all
    passages are English, and the questions' language is the source; without N the order would stay as it is.
    """
    scores = np.empty((len(q), len(p)), np.float32)
    for language in np.unique(l):
        own = pairs.of(language)
        scores[l == language] = q[l == language] @ unit(p - (own.english - own.queries).mean(axis=0)).T
    return scores


def best_query(q: Array, l: Array, p: Array, rows: Array, queries: Array, languages: Array) -> Array:
    """HyPE's scores (m, n): the highest of a passage's own vector and one vector for each of its queries.

    `rows` (N,) are the passages of the queries (N, d); a question is compared with those in its language alone.
    """
    scores = q @ p.T
    for language in np.unique(l):
        own = languages == language
        each = q[l == language] @ queries[own].T
        part = scores[l == language]
        for place, row in enumerate(rows[own]):
            np.maximum(part[:, row], each[:, place], out=part[:, row])
        scores[l == language] = part
    return scores


def ranks(scores: Array, right: Array) -> Array:
    """Return the rank of each question's right passage, (m,), from 1; a wrong one with its score stands before it."""
    own = scores[np.arange(len(right)), right]
    return (scores >= own[:, None]).sum(axis=1)
