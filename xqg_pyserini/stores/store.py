"""Passage and query stores on disk: how they are laid out, opened and checked.

The layout of both kinds, declared once:

    passages        vectors.npy (n, d)           ids.txt  meta.json
    query sums      sum-ar.npy (n, d), …, counts.npy (n, languages) int32   ids.txt  meta.json
                    and, where asked for, sum-ar-first-2.npy (n, d), …: of the first 2 queries alone

`ids.txt` has one id a line in the order of the rows; `meta.json` is written last, so that its
presence means that the rest is whole.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import file_sha256, read_json
from xqg_pyserini.stores.ids import ids_at, iterate_ids

FORMAT = 1
VECTORS, IDS, COUNTS, META = "vectors.npy", "ids.txt", "counts.npy", "meta.json"
PASSAGES, QUERY_SUMS = "passages", "query-sums"
DTYPES = ("float32", "float16")
BLOCK_BYTES = 64 << 20


def sum_file(language: str, first: int | None = None) -> str:
    """Return the name of the matrix of a language's sums, of all queries or the first few."""
    return f"sum-{language}.npy" if first is None else f"sum-{language}-first-{first}.npy"


def create_matrix(path: Path, shape: tuple[int, int], dtype: str) -> np.memmap:
    """Create a zeroed memory-mapped `.npy` matrix, its disk space taken at once.

    Taking the space first turns a full disk into an `OSError` here, not a crash on a later write.
    """
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return matrix


def reopen_matrix(path: Path) -> np.memmap:
    """Open a matrix of an interrupted job for writing."""
    return np.lib.format.open_memmap(path, mode="r+")


def _open_matrix(path: Path, shape: tuple[int, int], dtypes: Sequence[str]) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"{path}: missing; make the store again")
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: truncated or no NumPy matrix ({error}); make the store again") from None
    if matrix.shape != shape or matrix.dtype.name not in dtypes:
        what = f"holds {matrix.shape} of {matrix.dtype}, expected {shape} of {' or '.join(dtypes)}"
        raise UserError(f"{path}: {what}; make the store again")
    return matrix


def block_rows(d: int, matrices: int = 1) -> int:
    """Return how many rows of `matrices` float32 matrices of width d make a block of memory."""
    return max(1, BLOCK_BYTES // (4 * d * max(1, matrices)))


class _Store:
    """What both kinds of store share: a folder with `meta.json` and `ids.txt`."""

    kind = ""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.meta = self._read_meta()
        try:
            self.n, self.d = int(self.meta["n"]), int(self.meta["d"])
            self.encoder: dict[str, Any] = dict(self.meta["encoder"])
            self.normalized = bool(self.meta["normalized"])
            ids_sha256 = self.meta["ids_sha256"]
            self._read_more()
        except (KeyError, TypeError, ValueError) as error:
            what = f"damaged ({error} is missing or wrong); make the store again"
            raise UserError(f"{self.path / META}: {what}") from None
        self.ids_path = self.path / IDS
        if not self.ids_path.is_file() or file_sha256(self.ids_path) != ids_sha256:
            raise UserError(f"{self.ids_path}: missing or changed since the store was written")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def _read_more(self) -> None:
        """Read what a kind of store has in `meta.json` besides."""

    def _read_meta(self) -> dict[str, Any]:
        file = self.path / META
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such store (expected a folder made by xqg)")
        try:
            meta = read_json(file, "make the store again")
        except FileNotFoundError:
            raise UserError(f"{self.path}: not a store, or not a whole one ({META} is missing)") from None
        if not isinstance(meta, dict) or meta.get("kind") not in (PASSAGES, QUERY_SUMS):
            raise UserError(f"{file}: not the description of a store")
        if meta.get("format") != FORMAT:
            raise UserError(f"{file}: format {meta.get('format')}, this version reads {FORMAT}")
        if meta["kind"] != self.kind:
            raise UserError(f"{self.path}: a store of {meta['kind']}, expected one of {self.kind}")
        return meta

    def ids(self) -> Iterator[str]:
        """Yield the ids in the order of the rows."""
        return iterate_ids(self.ids_path)

    def checked(self, block: np.ndarray, file: str, rows: np.ndarray | range) -> np.ndarray:
        """Return a block as float32, or raise `UserError` for a value that is not finite."""
        block = np.asarray(block, dtype=np.float32)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = int(rows[int(np.argmin(finite))])
            docid = ids_at(self.ids_path, [row])[row]
            raise UserError(f"{self.path / file}: row {row} (passage {docid!r}) holds NaN or infinity; encode it again")
        return block


class VectorStore(_Store):
    """A store of passage embeddings, opened for reading and checked.

    Attributes: `n`, `d`; `vectors` (n, d) float32 or float16, memory-mapped; `encoder`, the settings it was encoded
    with; `normalized`; `meta`. Raises `UserError` where a file is missing, truncated or changed.
    """

    kind = PASSAGES

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.vectors = _open_matrix(self.path / VECTORS, (self.n, self.d), DTYPES)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return rows start … stop-1 as float32 (stop - start, d), checked for NaN."""
        return self.checked(self.vectors[start:stop], VECTORS, range(start, stop))


class QueryStore(_Store):
    """A store of per-language sums of query embeddings, opened for reading and checked.

    Attributes: `languages`; `sums[language]` (n, d) and `counts` (n, languages) int32,
    memory-mapped: sum and number of the queries of each passage; `kept`, the numbers k for which
    the sums of the first k queries of a language are there as well.

    With `first=k` the store is read as if each passage had no more than its first k queries in
    each language: `sums` are those, and `limited` cuts what is read of `counts`.
    Raises `UserError` where a file is missing, truncated or changed, or k was not kept.
    """

    kind = QUERY_SUMS

    def _read_more(self) -> None:
        self.languages: tuple[str, ...] = tuple(self.meta["languages"])
        self.kept: tuple[int, ...] = tuple(sorted(map(int, self.meta.get("kept", ()))))

    def __init__(self, path: str | Path, first: int | None = None) -> None:
        super().__init__(path)
        self.first = first
        if first is not None and first not in self.kept:
            held = " ".join(map(str, self.kept))
            those = f"of the first {held} and of all" if held else "of all queries alone"
            what = f"has no sums of the first {first} queries a language (it has those {those})"
            about = ("num_queries", "keep_counts")
            raise UserError(f"{self.path} {what}; accumulate again and keep {first} too", about)
        self.counts = _open_matrix(self.path / COUNTS, (self.n, len(self.languages)), ("int32",))
        self.sums = {
            language: _open_matrix(self.path / sum_file(language, first), (self.n, self.d), DTYPES)
            for language in self.languages
        }

    @property
    def checksums(self) -> dict[str, Any]:
        """Return what `xqg.json` records of the store: the checksums of what is read of it."""
        if self.first is None:
            return {key: self.meta[key] for key in ("sums_sha256", "counts_sha256")}
        sums, counts = self.meta["kept"][str(self.first)], self.meta["counts_sha256"]
        return {"first": self.first, "sums_sha256": sums, "counts_sha256": counts}

    def limited(self, counts: np.ndarray) -> np.ndarray:
        """Return some of `counts` as they are for the queries that are read."""
        return counts if self.first is None else np.minimum(counts, np.int32(self.first))

    def totals(self) -> dict[str, int]:
        """Return the number of queries of each language in the whole store."""
        totals = np.zeros(len(self.languages), dtype=np.int64)
        for start in range(0, self.n, 1 << 20):
            part = np.asarray(self.counts[start : start + (1 << 20)])
            totals += self.limited(part).sum(axis=0, dtype=np.int64)
        return dict(zip(self.languages, totals.tolist(), strict=True))


def check_dtype(dtype: str) -> None:
    """Raise `UserError` for a type of number that no store has."""
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}; expected {' or '.join(DTYPES)}")


def store_meta(kind: str, n: int, d: int, dtype: str, encoder: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `meta.json` that both kinds of store share."""
    meta = {"format": FORMAT, "kind": kind, "n": n, "d": d, "dtype": dtype}
    return meta | {"encoder": encoder, "normalized": encoder["normalize"]}
