"""The fusion arithmetic: how a passage's vector and those of its queries become one.

Pure functions of arrays, and the settings they take.  Sources: the sum is the published method (xQG, arXiv 2305.03950);
the mean, renormalisation and centring are this project's (docs/method.md has the derivation and what was measured).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from xqg_pyserini.data import check_languages, find_language
from xqg_pyserini.errors import UserError
from xqg_pyserini.settings import option

Array = np.ndarray


@dataclass(frozen=True)
class Fusion:
    """How generated queries are mixed into a passage: a value, equal and printed by its settings.

    `Fusion("sum", alpha=0.01)` is the published form, `Fusion("mean", beta=0.3)` the mean form;
    `languages=None` stands for all that the query store has.
    """

    form: Literal["sum", "mean"]
    alpha: float | None = None
    beta: float | None = None
    languages: tuple[str, ...] | None = None
    normalize: bool = False
    center: bool = False
    shrink_queries: float = 0.0

    def __post_init__(self) -> None:
        if self.languages is not None:
            if isinstance(self.languages, str) or not self.languages:
                raise UserError(f"languages {self.languages!r}: expected codes such as ('ar', 'bn')")
            check_languages(self.languages)
            object.__setattr__(self, "languages", tuple(self.languages))
        if self.form not in ("sum", "mean"):
            raise UserError(f"fusion {self.form!r}: expected sum or mean")
        name, other = ("alpha", self.beta) if self.form == "sum" else ("beta", self.alpha)
        if other is not None:
            what = f"the {self.form} takes {name} only (alpha implies the sum, beta the mean)"
            raise UserError(what, ("alpha", "beta"))
        if getattr(self, name) is None or not 0 <= self.weight <= 1:
            raise UserError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1")
        if not 0 <= self.shrink_queries < float("inf"):
            what = f"shrink_queries is {self.shrink_queries}; expected a number of queries from 0, such as 1"
            raise UserError(what, "shrink_queries")
        if self.shrink_queries and self.form == "sum":
            raise UserError(
                "shrink_queries shrinks the mean of a passage's queries; the sum has none", "shrink_queries"
            )

    def __repr__(self) -> str:
        given = [repr(self.form)]
        for name in ("alpha", "beta", "languages", "normalize", "center"):
            value = getattr(self, name)
            if value is not None and value is not False:
                given.append(f"{name}={value!r}")
        given += [f"shrink_queries={self.shrink_queries!r}"] if self.shrink_queries else []
        return f"Fusion({', '.join(given)})"

    @property
    def weight(self) -> float:
        """Return α or β, whichever this form has."""
        weight = self.alpha if self.form == "sum" else self.beta
        return float("nan") if weight is None else weight

    @property
    def depends_on_coverage(self) -> bool:
        """Return whether passages with queries are favoured over those without: centred, a little, else much."""
        return self.weight > 0 and not self.shrink_queries


@dataclass(frozen=True)
class FusionSettings:
    """A fusion as far as the user says it; None leaves open what `complete` fills in.

    Raises:
        UserError: when α and β are both given.
    """

    form: str | None = option(None, "how queries are mixed in", "sum", "mean", flag="fusion")
    alpha: float | None = option(None, "weight of the sum (published: 0.01)", metavar="A")
    beta: float | None = option(None, "weight of the mean", metavar="B")
    languages: tuple[str, ...] | None = option(None, "languages to mix in (default: all)", metavar="xx")
    normalize: bool | None = option(None, "scale the result to length 1")
    center: bool | None = option(None, "centre by the generated queries")
    shrink_queries: float | None = option(
        None, "add so many queries at their language's mean to each passage's (default: 0)", metavar="K"
    )

    def __post_init__(self) -> None:
        if self.alpha is not None and self.beta is not None:
            raise UserError("alpha (of the sum) and beta (of the mean) are both given; choose one", ("alpha", "beta"))

    def complete(self, normalized_encoder: bool, own_language: bool = False) -> Fusion:
        """Fill in what is open and return the `Fusion`.

        α implies the sum, β the mean; with neither: the mean with β = 0.3, or 0.2 when centring, or 0.4 when each
        question meets its own language's queries without centring; a sum without α takes 0.01.  The mean is
        renormalised where the encoder normalises, the sum only on demand.  Centring is off, but on for own languages
        with an encoder that normalises.

        Raises:
            UserError: for a weight that is not the form's.
        """
        alpha, beta = self.alpha, self.beta
        form = ("mean" if alpha is None else "sum") if self.form is None else self.form
        center = own_language and normalized_encoder if self.center is None else self.center
        normalize = form == "mean" and normalized_encoder if self.normalize is None else self.normalize
        if alpha is None and beta is None and form == "sum":
            alpha = 0.01
        elif alpha is None and beta is None:
            beta = 0.2 if center else 0.4 if own_language else 0.3
        shrink = self.shrink_queries or 0.0
        return Fusion(form, alpha, beta, self.languages, normalize, center, shrink)  # type: ignore[arg-type]


class Centers(NamedTuple):
    """Mean embeddings: of all passages, of each language's queries, of all queries together."""

    passages: Array  # (d,)
    queries: Mapping[str, Array]  # language → (d,)
    pooled: Array  # (d,)

    def of(self, language: str) -> Array:
        """Return the mean of a language's queries; of all queries where it has none."""
        found = find_language(language, self.queries)
        return self.pooled if found is None else self.queries[found]


def unit(vectors: Array) -> Array:
    """Scale the rows of (n, d) to length 1; rows of zeros stay."""
    return vectors / _lengths(vectors)


def _lengths(vectors: Array) -> Array:
    """Return the lengths of rows (n, 1), and 1 for rows of zeros."""
    norms = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return np.where(norms > 0, norms, 1).astype(vectors.dtype, copy=False)


def pooled(
    passages: Array, sums: Mapping[str, Array], counts: Mapping[str, Array], centers: Centers | None = None
) -> tuple[Array, Array]:
    """Return Σ_l S_l, or Σ_l (S_l - n_l·μ_l) with `centers`, (n, d); and Σ_l n_l (n,) int64.

    Of `passages` (n, d) only the shape matters: a passage without any sum has zeros.
    """
    parts = (part if centers is None else _centred(part, counts[l], centers.of(l)) for l, part in sums.items())
    # added to 0, and not copied: -0 becomes 0, as where parts are added up
    queries = np.add(next(parts, np.float32(0)), 0, out=np.empty_like(passages))
    for part in parts:
        queries += part
    total = np.zeros(len(passages), dtype=np.int64)
    for language in sums:
        total += counts[language]
    return queries, total


def _centred(part: Array, count: Array, center: Array) -> Array:
    """Return S_l - n_l·μ_l, (n, d)."""
    alike = count[:1] if (count == count[:1]).all() else count  # one row is made, and not one a passage
    return part - alike.astype(np.float32)[:, None] * center


def added(fusion: Fusion, languages: Iterable[str], centers: Centers | None) -> Array:
    """Return what `shrink_queries` adds to the sum of any passage's queries in these languages, (d,) float32."""
    assert centers is not None, "shrinking takes centers"
    mean = np.mean([centers.of(language) for language in languages], axis=0)
    return np.asarray(0 * mean if fusion.center else fusion.shrink_queries * mean, dtype=np.float32)


class OwnPart(NamedTuple):
    """What of a mixture is the passages' own, whatever queries are mixed in."""

    vectors: Array  # E, or where the fusion centres E - μ_P, scaled to length 1 where it is to be, (n, d)
    weighted: Array  # (1 - α or β) times it


def own_part(fusion: Fusion, passages: Array, centers: Centers | None = None) -> OwnPart:
    """Return the part of passages (n, d) in `augment`."""
    if fusion.center:
        assert centers is not None, "centring takes centers"
        passages = passages - centers.passages
        if fusion.normalize:
            passages /= _lengths(passages)
    return OwnPart(passages, (1 - np.float32(fusion.weight)) * passages)


def mix(
    fusion: Fusion, own: OwnPart, sums: Mapping[str, Array], counts: Mapping[str, Array], centers: Centers | None = None
) -> tuple[Array, Array | None]:
    """Return vectors (n, d) float32, and what their rows are still to be divided by to be `augment`'s: (n, 1) or None.

    A search divides its scores instead: they are fewer, and rounded no worse.
    """
    if len(sums) == 1 and not fusion.center and not fusion.shrink_queries:  # scaled as it is read: one pass less
        [language] = sums
        queries, total, made = sums[language], counts[language], None
    else:
        queries, total = pooled(own.vectors, sums, counts, centers if fusion.center else None)
        made = queries
    factor: Any = np.float32(fusion.weight)
    if fusion.shrink_queries:
        queries += added(fusion, sums, centers)
        factor = factor / (total + fusion.shrink_queries).astype(np.float32)[:, None]
    elif fusion.form == "mean" and fusion.center and fusion.normalize:
        factor = factor / _lengths(queries)
    elif fusion.form == "mean":
        factor = factor / np.maximum(total, 1).astype(np.float32)[:, None]
    queries = np.multiply(queries, factor, out=made)
    queries += own.weighted
    if not fusion.shrink_queries and (without := total == 0).any():
        queries[without] = own.vectors[without]
    return queries.astype(np.float32, copy=False), _lengths(queries) if fusion.normalize else None


def augment(
    fusion: Fusion,
    passages: Array,
    sums: Mapping[str, Array],
    counts: Mapping[str, Array],
    centers: Centers | None = None,
) -> Array:
    """Return the augmented vectors (n, d) float32 of n passages.

    With E = `passages` (n, d), S_l = `sums[l]` (n, d) and n_l = `counts[l]` (n,), S = Σ_l S_l and m = Σ_l n_l:

        sum    E' = (1 - α) · E + α · S                (arXiv 2305.03950)
        mean   E' = (1 - β) · E + β · S / m            (pooled, not a mean of language means)

    A passage with m = 0 keeps E unscaled.  With `normalize`, the rows of E' are scaled to length 1 (N).  With `center`,
    E - μ_P stands for E and S_l - n_l·μ_l for S_l, where the μ are `centers`; where it is also normalised, the two
    parts of the mean are scaled to length 1 before they are mixed: E' = N((1 - β) · N(E - μ_P) + β · N(S / m)), and in
    the sum E alone is.

    With `shrink_queries` = κ > 0 the mean is drawn towards that of its L languages, with weight m / (m + κ), also where
    m = 0, and is not scaled by itself:

        S / m   becomes   (S + κ · Σ_l μ_l / L) / (m + κ)        (centred, μ_l stands for 0)
    """
    mixed, lengths = mix(fusion, own_part(fusion, passages, centers), sums, counts, centers)
    if lengths is not None:
        mixed /= lengths
    return mixed


class Gram(NamedTuple):
    """Inner products of n passages' vectors P with themselves and their queries' sums T."""

    passages: Array  # ⟨P, P⟩, (n,) float64
    mixed: Array  # ⟨P, T⟩, (n,) float64
    queries: Array  # ⟨T, T⟩, (n,) float64


def gram(passages: Array, queries: Array) -> Gram:
    """Return the inner products of the rows of P and T, both (n, d)."""
    pairs = ((passages, passages), (passages, queries), (queries, queries))
    return Gram(*(np.einsum("ij,ij->i", x, y).astype(np.float64) for x, y in pairs))


def mixing_weights(fusion: Fusion, total: Array, products: Gram) -> tuple[Array, Array]:
    """Return a and b, (n,) float32 each, with which E' = a·P + b·T is what `augment` returns.

    P and T are the passages and the sums of their queries, (n, d), centred where the fusion centres, and with what
    `added` returns where it shrinks; `total` (n,) are the numbers of queries.  So ⟨q, P⟩ and ⟨q, T⟩ serve all
    weights, forms and norms, by the Gram terms:

        ‖E'‖² = a²·⟨P, P⟩ + 2·a·b·⟨P, T⟩ + b²·⟨T, T⟩

    Where a·P and b·T cancel to a share r of their length, scores are off by about 10⁻⁷ / r.
    """
    mixed = total + fusion.shrink_queries > 0
    a = np.where(mixed, 1 - fusion.weight, 1.0)
    b = np.where(mixed, fusion.weight, 0.0)
    both = fusion.center and fusion.normalize
    if both:
        a *= _inverse(np.sqrt(products.passages))
    if fusion.form == "mean":
        scaled = both and not fusion.shrink_queries
        b *= _inverse(np.sqrt(products.queries)) if scaled else _inverse(total + fusion.shrink_queries)
    if fusion.normalize:
        parts = a * a * products.passages, b * b * products.queries
        square = parts[0] + 2 * a * b * products.mixed + parts[1]
        # what is left of two vectors that cancel is rounding: it has no direction
        norm = np.sqrt(np.where(square > 1e-12 * (parts[0] + parts[1]), square, 0))
        a, b = a * _inverse(norm), b * _inverse(norm)
    return a.astype(np.float32), b.astype(np.float32)


def _inverse(lengths: Array) -> Array:
    """Return 1 / x, and 0 for 0: rows of zeros stay."""
    return np.divide(1.0, lengths, out=np.zeros(len(lengths)), where=lengths > 0)
