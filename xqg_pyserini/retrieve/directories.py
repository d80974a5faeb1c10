"""Directories with Faiss's file and its ids, opened and checked: one, or the shards of an index, searched by vectors.

They give the best rows of vectors; whose vectors those are, and what is made of the rows, is `search`'s.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm import tqdm

from xqg_pyserini.errors import UserError
from xqg_pyserini.fusion.formula import Centers
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.layout import DOCID, INDEX, META
from xqg_pyserini.retrieve.topk import Group, Hits, cut_among_equals, gathered, nearest, settle_scores, settled
from xqg_pyserini.stores import check_one_whole, ids_at, repeated_id
from xqg_pyserini.stores.pair import Rows

if TYPE_CHECKING:
    from xqg_pyserini.retrieve.lucene import LuceneDirectory

BATCH = 512  # questions searched together
FEW = 3  # questions that Faiss multiplies one by one: more are sooner done by a product of matrices
DECODED = 40, 2048  # questions for which codes are decoded, block by block, from so many on; and at most at once
BLOCK = 4096  # passages decoded at once


class Directory(Protocol):
    """One index of those that are searched: Faiss's or Lucene's, in shards or not, or a Lance dataset."""

    path: Path
    n: int
    d: int
    meta: dict[str, Any] | None
    encoder: dict[str, Any] | None
    centers: Centers | None

    def best(self, vectors: np.ndarray, k: int) -> Hits:
        """Return scores (q, m) float32 and rows (q, m) int64 of the best m = min(k, n); -1 for none."""

    def names(self, rows: np.ndarray) -> dict[int, str]:
        """Return the ids of some rows; those of -1 have none."""


def open_directory(path: Path) -> Directory:
    """Return the index in a directory.

    Raises `UserError` where it is none, its shards are not whole, or it was exported for another engine.
    """
    parts = layout.parts(path)
    if parts != [path]:
        return Shards(path, parts)
    if (path / META).is_file() and layout.language_aware(path) is None:
        said = layout.described(path)
        if said.lance is not None:
            from xqg_pyserini.retrieve.lance import LanceDirectory

            return LanceDirectory(path)
        if said.kind == layout.EXPORT:
            raise UserError(f"{path}: exported for another engine; search the index that it was exported from")
    return open_one(path)


def open_one(path: Path) -> "FaissDirectory | LuceneDirectory":
    """Return the index in a directory that is no folder of shards, Faiss's or Lucene's."""
    if _type(path) in layout.LUCENE:
        from xqg_pyserini.retrieve.lucene import LuceneDirectory

        return LuceneDirectory(path)
    return FaissDirectory(path)


def _type(path: Path) -> str | None:
    known = (path / META).is_file() and layout.language_aware(path) is None
    return layout.described(path).type if known else None


class FaissDirectory:
    """One directory with Faiss's file and its ids, checked; the index is memory-mapped."""

    def __init__(self, path: Path) -> None:
        import faiss

        self.path = path
        layout.refuse_language_aware(self.path)
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such index (expected a folder with {INDEX}, {DOCID})")
        if shards := layout.shards(self.path):
            raise UserError(f"{self.path} holds {len(shards)} shards of an index: merge them, or give one of them")
        if (kind := _type(self.path)) in layout.LUCENE:
            raise UserError(f"{self.path}: an index of type {kind}, which is Lucene's; this takes one of Faiss's")
        for name in (INDEX, DOCID):
            if not (self.path / name).is_file():
                raise UserError(f"{self.path / name}: missing; this is no Faiss index of Pyserini's")
        try:
            self._index = faiss.read_index(str(self.path / INDEX), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            reason = re.sub(r"^.* at \S+:\d+: (Error: .* failed: )?", "", str(error).strip().splitlines()[-1])
            raise UserError(f"{self.path / INDEX}: Faiss cannot read it ({reason}); copy or build it again") from None
        self.n, self.d = int(self._index.ntotal), int(self._index.d)
        self._right: Future[None] | None = None  # whether the file of vectors is as it was written
        if (lines := _count_lines(self.path / DOCID)) != self.n:
            raise UserError(f"{self.path / DOCID}: {lines} ids for {self.n} vectors; build it again")
        if self._index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise UserError(f"{self.path / INDEX}: not an inner-product index")
        self.meta, self.centers = layout.read_centers(self.path)
        layout.check_sum(self.path, DOCID, self.meta)
        if self.meta is not None and (self.meta["n"], self.meta["d"]) != (self.n, self.d):
            what = f"{META} says {self.meta['n']} x {self.meta['d']}; build the index again"
            raise UserError(f"{self.path}: {INDEX} has {self.n} x {self.d} vectors, {what}")
        self.encoder: dict[str, Any] | None = self.meta and self.meta["encoder"]

    def names(self, rows: np.ndarray) -> dict[int, str]:
        """Return the ids of some rows; those of -1 have none."""
        return ids_at(self.path / DOCID, np.unique(rows).tolist())

    def best(self, vectors: np.ndarray, k: int) -> Hits:
        """Return scores (q, m) float32 and rows (q, m) int64 of the best m = min(k, n).

        Equal scores are in the order of the rows, whatever k and the batch (`topk`).  A graph is searched as wide as
        its efSearch, and all that it finds is gathered; for more hits than that it is searched wider.

        Raises:
            UserError: for a file of vectors that was changed, where it is searched whole, or holds NaN.
        """
        if self._right is None:
            self._right = ThreadPoolExecutor(1).submit(self._check_vectors)
        width = self._index.hnsw.efSearch if hasattr(self._index, "hnsw") else 0
        wanted = min(self.n, max(gathered(k, self.n), width))  # a graph cuts equal scores anyhow
        near, rows = self._near(vectors, wanted)
        while not self._stored and wanted < self.n and cut_among_equals(near, k).any():
            wanted = min(self.n, 4 * wanted)
            near, rows = self._near(vectors, wanted)
        self._right.result()
        if self._exhaustive and (rows < 0).any():  # what has no score is not found
            raise UserError(f"{self.path / INDEX}: holds vectors with NaN; build it again")
        if not self._stored:
            return settle_scores(near, rows, min(k, self.n))
        # of a graph no more can be had than it finds
        longest = 0.0
        if self._exhaustive:
            longest = 2 * float(np.linalg.norm(self._vectors(np.unique(rows[:, 0])), axis=1).max())
        groups = [Group(np.arange(len(vectors)), vectors, self._vectors, longest)]
        return settled((near, rows), groups, min(k, self.n), self.n)

    def _near(self, vectors: np.ndarray, wanted: int) -> Hits:
        """Return scores and rows of the best `wanted` by products in float32, or of what an index that prunes finds."""
        few, many = DECODED
        decode = self._quantised and len(vectors) >= few
        batches, size = [], many if decode else BATCH
        with (
            _products_from(FEW * self.d if self._exhaustive else 1 << 30),
            tqdm(total=len(vectors), desc="searching", unit=" questions", disable=None) as bar,
        ):
            for start in range(0, len(vectors), size):
                batch = np.ascontiguousarray(vectors[start : start + size])
                found = nearest(batch, wanted, self.blocks()) if decode else self._index.search(batch, wanted)
                batches.append(found)
                bar.update(len(batch))
        near, rows = map(np.concatenate, zip(*batches, strict=True))
        return near, rows

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all vectors in the order of the rows, as the index decodes them: the first row, (b, d) float32."""
        for start in range(0, self.n, size):
            yield start, self._vectors(range(start, min(start + size, self.n)))

    def _check_vectors(self) -> None:
        if self._exhaustive:  # of other indexes a small part is read
            layout.check_sum(self.path, INDEX, self.meta)

    @property
    def _exhaustive(self) -> bool:
        import faiss

        return isinstance(self._index, faiss.IndexFlat | faiss.IndexScalarQuantizer)

    @property
    def _quantised(self) -> bool:
        import faiss

        return isinstance(self._index, faiss.IndexScalarQuantizer)

    @cached_property
    def _stored(self) -> bool:
        """Tell whether the index gives back its vectors, as decoded."""
        try:
            self._index.reconstruct_batch(np.zeros(1, dtype=np.int64))
        except RuntimeError:
            return False
        return True

    @cached_property
    def _matrix(self) -> np.ndarray | None:
        """The vectors (n, d) themselves, as they are mapped, of a flat index."""
        import faiss

        if not isinstance(self._index, faiss.IndexFlat):
            return None
        return faiss.rev_swig_ptr(self._index.get_xb(), self.n * self.d).reshape(self.n, self.d)

    def _vectors(self, rows: Rows) -> np.ndarray:
        if self._matrix is not None:
            return self._matrix[rows.start : rows.stop] if isinstance(rows, range) else self._matrix[rows]
        return self._index.reconstruct_batch(np.ascontiguousarray(rows, dtype=np.int64))


class Shards:
    """Directories that hold parts of one index, in the order of its passages; searched one after the other.

    The hits are those of the merged index: each shard's best are exact where its type is, and are laid beside the best
    so far; of equal scores the passage comes first that stands in the earlier shard.

    Raises:
        UserError: for shards of different encoders, fusions or types, and for an id that comes twice.
    """

    def __init__(self, path: Path, parts: Sequence[Path]) -> None:
        self.path = path
        self.parts = [open_one(part) for part in parts]
        first = self.parts[0]
        check_one_whole(parts, [layout.described(part.path).shard if part.meta else None for part in self.parts])
        for part in self.parts[1:]:
            self._check_alike(first, part)
        if repeated := repeated_id([part.path / DOCID for part in self.parts]):
            docid, one, other = repeated
            raise UserError(f"{other}: passage id {docid!r} again (first in {one}); ids must be unique")
        self.d, self.encoder, self.centers = first.d, first.encoder, first.centers
        self._starts = np.cumsum([0, *(part.n for part in self.parts)]).tolist()
        self.n: int = self._starts[-1]
        self.meta: dict[str, Any] | None = None
        if first.meta is not None:
            own = ("sha256", "xxh3", "passages", "queries", "shard")
            common = {key: value for key, value in first.meta.items() if key not in own}
            self.meta = {**common, "n": self.n, "shards": len(self.parts)}

    @staticmethod
    def _check_alike(first: Directory, part: Directory) -> None:
        for key in ("encoder", "fusion", "type", "normalized"):
            one, other = ((directory.meta or {}).get(key) for directory in (first, part))
            if one != other:
                raise UserError(f"{part.path}: its {key} is not that of {first.path}; shards are of one index")
        same = first.d == part.d and (first.centers is None) == (part.centers is None)
        if first.centers is not None and part.centers is not None:
            one, other = ([c.passages, c.pooled, *c.queries.values()] for c in (first.centers, part.centers))
            same = same and list(first.centers.queries) == list(part.centers.queries) and np.array_equal(one, other)
        if not same:
            what = "its dimensions or its centres are"
            raise UserError(f"{part.path}: {what} not those of {first.path}; shards are of one index")

    def names(self, rows: np.ndarray) -> dict[int, str]:
        """Return the ids of some rows; those of -1 have none."""
        found: dict[int, str] = {}
        wanted = np.unique(rows)
        for start, part in zip(self._starts, self.parts, strict=False):
            here = wanted[slice(*np.searchsorted(wanted, [start, start + part.n]))] - start
            found |= {row + start: docid for row, docid in part.names(here).items()}
        return found

    def best(self, vectors: np.ndarray, k: int) -> Hits:
        """Return scores (q, m) float32 and rows (q, m) int64 of the best m = min(k, n); raises as one directory's."""
        scores = np.empty((len(vectors), 0), dtype=np.float32)
        rows = np.empty((len(vectors), 0), dtype=np.int64)
        for start, part in zip(self._starts, self.parts, strict=False):
            near, found = part.best(vectors, k)
            found = np.where(found < 0, -1, found + start)
            scores, rows = settle_scores(np.hstack([scores, near]), np.hstack([rows, found]), k)
        return scores, rows


@contextmanager
def _products_from(numbers: int) -> Iterator[None]:
    """Let Faiss multiply matrices where questions × dimensions reach `numbers`, and below that one by one.

    Its own bound suits other shapes than ours, and an index that prunes has to compare a question with its centroids
    in one way whatever batch it is in: near ties would decide where it looks.
    """
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = numbers
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def _count_lines(path: Path) -> int:
    lines, last = 0, b"\n"
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
            last = block
    return lines + (not last.endswith(b"\n"))
