"""The question's side: what is taken from a question, and how it is turned, before it searches any index.

Arithmetic of moments (`stores.moments`), and the folder that holds its result:

    centers.npy      the mean of each language's queries, and of all together, (languages + 1, d) float32
    matrices.npy     the M_l of each language, and that of all together, (languages + 1, d, d) float32; not there
                     where centring alone is what pays
    moments/         what it was learnt from, so that alignments can be merged, and made with another ridge
    alignment.json   written last
"""

import copy
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from xqg_pyserini.data import check_languages, find_language
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import writing_folder
from xqg_pyserini.metadata import checked, read_json
from xqg_pyserini.stores import Shard, moments as stored
from xqg_pyserini.stores.moments import MOMENTS, DescribedMoments, Moments, Sums

ALIGNMENT, CENTERS, MATRICES = "alignment.json", "centers.npy", "matrices.npy"
FORMAT = 1
_AGAIN = "make the alignment again"


def covariances(sums: Sums) -> np.ndarray:
    """Return C_l = Σδδᵀ/n - δ̄δ̄ᵀ, (L, d, d): what is left between a query and its passage, both centred."""
    n = np.maximum(sums.pairs, 1)[:, None]
    mean = (sums.queries - sums.passages) / n
    return sums.differences / n[:, :, None] - mean[:, :, None] * mean[:, None, :]


def align_moments(sums: Sums, shrink: float, ridge: float | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the centres (L + 1, d) and matrices (L + 1, d, d) of L languages, the last of all together.

    Of n_l pairs of a query q̂ and its passage's embedding E(p), with δ = q̂ - E(p):

        μ_l = Σq̂ / n_l        C_l = Σδδᵀ/n_l - δ̄δ̄ᵀ        C̄ = Σ n_l·C_l / Σ n_l
        C̃_l = (n_l·C_l + k·C̄) / (n_l + k)        t_l = tr(C̃_l) / d
        M_l = (1 + λ)·t_l·(C̃_l + λ·t_l·I)⁻¹

    with k = `shrink` and λ = `ridge`, and a question q in l becomes M_l·(q - μ_l).  The factor (1 + λ)·t_l changes no
    order of passages; it makes λ → ∞ centring alone (M = I).  None for λ is centring alone.  A language without pairs
    gets what serves all.  Centring by language: Libovický et al., arXiv 1911.03310 and 2004.05160; C⁻¹ of what
    differs within a class (here: a passage and its queries): WCCN, Hatch et al., Interspeech 2006; shrinkage towards
    the pooled covariance: Friedman 1989.  New here: both from generated queries, on the question's side.
    """
    centers, values, directions = spectra(sums, shrink)
    return centers, None if ridge is None else matrices(values, directions, ridge)


def spectra(sums: Sums, shrink: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the centres, and eigenvalues (L + 1, d) and eigenvectors (L + 1, d, d) of the C̃_l and of C̄."""
    n = sums.pairs.astype(np.float64)
    centers = np.concatenate([sums.queries / np.maximum(n, 1)[:, None], [sums.queries.sum(axis=0) / n.sum()]])
    centers[:-1][n == 0] = centers[-1]
    own = covariances(sums)
    pooled = np.tensordot(n / n.sum(), own, 1)
    weights = n / np.where(n > 0, n + shrink, 1)
    return centers, *np.linalg.eigh(np.concatenate([pooled + weights[:, None, None] * (own - pooled), [pooled]]))


def matrices(values: np.ndarray, directions: np.ndarray, ridge: float) -> np.ndarray:
    """Return the M_l (L + 1, d, d) for a ridge; I for a C̃_l of zeros."""
    values = values.clip(min=0)
    mean = values.mean(axis=1, keepdims=True)
    values, mean = np.where(mean > 0, values, 1), np.where(mean > 0, mean, 1)
    # by eigenvectors: beside a Java machine, NumPy's inverse ends the process
    weights = (1 + ridge) * mean / (values + ridge * mean)
    return (directions * weights[:, None, :]) @ directions.swapaxes(1, 2)


class Described(Struct):
    """What `alignment.json` says, as far as it is read."""

    format: int
    d: Annotated[int, Meta(ge=1)]
    encoder: dict[str, Any]
    languages: list[str]
    pairs: dict[str, int]
    shrink: float
    ridge: float | None
    moments: DescribedMoments
    sha256: dict[str, str]
    shard: Shard | None = None


def described(folder: Path) -> tuple[dict[str, Any], Described]:
    """Return what `alignment.json` says, whole and as far as it is read.

    Raises `UserError` where there is none, or it is damaged.
    """
    file = folder / ALIGNMENT
    if not folder.is_dir() or not file.is_file():
        raise UserError(f"{folder}: no alignment, or not a whole one (expected a folder with {ALIGNMENT})")
    meta = read_json(file, dict[str, Any], _AGAIN)
    said = checked(meta, Described, file, _AGAIN)
    if said.format != FORMAT:
        raise UserError(f"{file}: format {said.format}, this version reads {FORMAT}")
    try:
        check_languages(said.languages)
    except UserError as error:
        raise UserError(f"{file}: {error}; {_AGAIN}") from None
    return meta, said


class Alignment:
    """An alignment opened: what puts questions right before they search an index.

    Attributes:
        path: its folder.
        meta: what `alignment.json` says (settings, pairs, the report).
        d: the dimension.
        encoder: as recorded.
        languages: their codes, as recorded.
        shrink: k.
        ridge: λ; None where centring is all.
        moments: what is recorded of those that it was learnt from.
        centers: (languages + 1, d) float32; the last row serves every other language.
        matrices: (languages + 1, d, d) float32, symmetric; None where centring is all.

    Raises:
        UserError: where a file is missing, damaged or changed since it was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.folder: TemporaryDirectory[str] | None = None  # one that goes with this object
        self.meta, said = described(self.path)
        self.d, self.encoder, self.languages = said.d, said.encoder, said.languages
        self.shrink, self.ridge = said.shrink, said.ridge
        self.moments = said.moments
        rows = len(self.languages) + 1
        stored.check_files(self.path, said.sha256, self.arrays)
        self.centers = stored.read_array(self.path / CENTERS, (rows, self.d), "float32")
        self.matrices: np.ndarray | None = None
        if self.ridge is not None:
            self.matrices = stored.read_array(self.path / MATRICES, (rows, self.d, self.d), "float32")

    def __repr__(self) -> str:
        return f"Alignment({str(self.path)!r})"

    @property
    def arrays(self) -> list[str]:
        """Return the names of the files of centres and, where there are any, matrices."""
        return [CENTERS] if self.ridge is None else [CENTERS, MATRICES]

    def save(self, output: str | Path, *, overwrite: bool = False) -> None:
        """Write a copy; raises `UserError` for an output that holds something (without `overwrite`)."""
        with writing_folder(output, overwrite, [self.path]) as folder:
            shutil.copytree(self.path, folder, dirs_exist_ok=True)

    def again(self, shrink: float | None, ridges: Sequence[float | None]) -> Iterator["Alignment"]:
        """Yield what `align` makes of the same moments with this k, and each of these λ in turn; nothing is written.

        None stands for the alignment's own, a λ of infinity for centring alone.
        """
        moments = Moments.open(self.path / MOMENTS, self.moments, self.d)
        centers, values, directions = spectra(moments.sums(), self.shrink if shrink is None else shrink)
        for ridge in ridges:
            made = copy.copy(self)
            made.ridge = self.ridge if ridge is None else ridge if math.isfinite(ridge) else None
            made.centers, made.matrices = centers.astype(np.float32), None
            if made.ridge is not None:
                made.matrices = matrices(values, directions, made.ridge).astype(np.float32)
            yield made

    def apply(self, vectors: np.ndarray, languages: Sequence[str | None]) -> np.ndarray:
        """Return M_l·(q - μ_l) for n questions' vectors (n, d) in their languages, (n, d) float32.

        A warning counts those in a language that it was not learnt for: they take what serves all together.
        """
        missing = Counter(str(language) for language in languages if find_language(language, self.languages) is None)
        if missing:
            counted = ", ".join(f"{language} ({n})" for language, n in sorted(missing.items()))
            what = f"{sum(missing.values())} questions are in a language that {self.path} was not learnt for"
            warn(f"{what} ({counted}): they are put right by what all of its languages have in common")
        return self.turned(vectors, languages)

    def turned(self, vectors: np.ndarray, languages: Sequence[str | None]) -> np.ndarray:
        """Return the same as `apply`, without a word."""
        found = [find_language(language, self.languages) for language in languages]
        rows = np.array([-1 if one is None else self.languages.index(one) for one in found], dtype=np.int64)
        centered = np.asarray(vectors, dtype=np.float32) - self.centers[rows]
        if self.matrices is None:
            return centered
        out = np.empty_like(centered)
        for row in np.unique(rows):
            members = rows == row
            out[members] = centered[members] @ self.matrices[row]
        return out
