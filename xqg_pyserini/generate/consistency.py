"""Is a query answered by its own passage?  Scores, ranks and thresholds.

A generated query that its own passage does not answer is noise (Doc2Query--: Gospodinov, MacAvaney and Macdonald 2023,
arXiv 2301.03266, who drop the lowest-scored share of all queries).  Here the retriever itself is the judge: the score
is the inner product of the query's and the passage's embeddings.  Scores of all queries do not fit into memory: they go
to files, four bytes each.
"""

import os
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from xqg_pyserini.stores import VECTORS, VectorStore, block_rows

_PAIRS = 16384  # near ties that are computed again together


def own_scores(vectors: np.ndarray, rows: np.ndarray, store: VectorStore) -> np.ndarray:
    """Return the inner products (m,) float64 of query embeddings (m, d) and passages `rows` (m,).

    Raises:
        UserError: for a passage vector that is not finite.
    """
    return _inner(vectors, store.checked(store.vectors[rows], VECTORS, rows))


def better_passages(vectors: np.ndarray, own: np.ndarray, store: VectorStore) -> np.ndarray:
    """Return how many passages of the store score strictly above `own`: (m,) int64.

    Args:
        vectors: embeddings of m queries, (m, d) float32.
        own: the score of each query's own passage, (m,) float64, by `own_scores`.
        store: the passages; those of `own` among them.

    One pass over the store, m products a passage.  A product in float32 depends on where in a matrix it is computed, so
    that two passages with one vector may seem to differ; those that are within the error of float32 (2·d·2⁻²⁴·‖q‖·‖p‖)
    of the own score are computed again as it was, which makes the number exact and ties ties.
    """
    above = np.zeros(len(vectors), dtype=np.int64)
    norms = np.sqrt(_inner(vectors, vectors))
    unit = 2.0**-24
    size = block_rows(max(store.d, len(vectors)))
    for start in range(0, store.n, size):
        block = store.block(start, min(start + size, store.n))
        longest = np.sqrt(np.einsum("ij,ij->i", block, block).max())
        error = unit * (2 * store.d * norms * longest + 4 * np.abs(own))
        scores = vectors @ block.T
        low, high = (own - error).astype(np.float32), (own + error).astype(np.float32)
        surely = scores > high[:, None]
        above += surely.sum(axis=1)
        queries, passages = np.nonzero((scores >= low[:, None]) & ~surely)
        for i in range(0, len(queries), _PAIRS):
            near, rivals = queries[i : i + _PAIRS], passages[i : i + _PAIRS]
            won = _inner(vectors[near], block[rivals]) > own[near]
            above += np.bincount(near[won], minlength=len(vectors))
    return above


def _inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the inner products of rows, (m, d) and (m, d) → (m,), each computed in one way."""
    return (a.astype(np.float64) * b.astype(np.float64)).sum(axis=1)


QUANTILE, WITHIN = "quantile", "within"  # what consistency drops a query for
_TYPES: dict[str, np.dtype] = {QUANTILE: np.dtype("<f4"), WITHIN: np.dtype("u1")}


class ScoreFiles:
    """Scores (float32) and verdicts on ranks (one byte) of queries, by language, in their order.

    Values of two kinds, called by what they decide, are appended, and read back from any place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mapped: dict[Path, np.ndarray] = {}  # those that are read

    def resume(self, sizes: Mapping[str, int]) -> None:
        """Forget what was appended after a checkpoint: language → queries that had been."""
        for path in self.folder.glob("*.scores"):
            kind, language, _ = path.name.split(".")
            os.truncate(path, sizes.get(language, 0) * _TYPES[kind].itemsize)

    def _path(self, kind: str, language: str) -> Path:
        return self.folder / f"{kind}.{language}.scores"

    def append(self, kind: str, language: str, values: np.ndarray) -> None:
        """Append the values of some queries of a language."""
        with open(self._path(kind, language), "ab") as file:
            file.write(values.astype(_TYPES[kind]).tobytes())

    def flush(self) -> None:
        """Write everything through to disk."""
        for path in self.folder.glob("*.scores"):
            with open(path, "rb") as file:
                os.fsync(file.fileno())

    def take(self, kind: str, language: str, start: int, number: int) -> np.ndarray:
        """Return the values of `number` queries of a language, from query `start` on."""
        path = self._path(kind, language)
        if not number:
            return np.empty(0, _TYPES[kind])  # a language of which no query came has no file
        if path not in self._mapped:
            self._mapped[path] = np.memmap(path, _TYPES[kind], "r")
        return self._mapped[path][start : start + number]

    def quantile(self, language: str, share: float) -> float:
        """Return the `share`-quantile of all scores of a language, exactly.

        It is the score at place ⌈share·(n-1)⌉ of the n sorted ones, counted from 0 (NumPy's quantile,
        `method="higher"`): a score that occurs, and the lowest that is kept.  The scores are sorted as far as needed in
        a mapped copy of their file, not in memory.
        """
        copy = self.folder / "sorted"
        shutil.copyfile(self._path(QUANTILE, language), copy)
        scores = np.memmap(copy, dtype=_TYPES[QUANTILE], mode="r+")
        # as typed: 0.07 of 101 scores is place 7, though 0.07 * 100 > 7 in floating point
        place = -(-Fraction(str(share)) * (len(scores) - 1) // 1)
        scores.partition(int(place))
        threshold = float(scores[int(place)])
        del scores
        copy.unlink()
        return threshold
