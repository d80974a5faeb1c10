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
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from xqg_pyserini.data import check_languages
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import RunningSums, file_sha256, file_sums
from xqg_pyserini.metadata import checked, open_matrix, read_json
from xqg_pyserini.stores.ids import ids_at, iterate_ids
from xqg_pyserini.stores.shards import Shard, shard_folders

FORMAT = 1
VECTORS, IDS, COUNTS, META = "vectors.npy", "ids.txt", "counts.npy", "meta.json"
PASSAGES, QUERY_SUMS = "passages", "query-sums"
DTYPES = ("float32", "float16")
BLOCK_BYTES = 64 << 20
_AGAIN = "make the store again"


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


def _open_matrix(path: Path, shape: tuple[int, int], dtypes: Sequence[str]) -> np.memmap:
    if not path.is_file():
        raise UserError(f"{path}: missing; {_AGAIN}")
    matrix = open_matrix(path, _AGAIN)
    if matrix.shape != shape or matrix.dtype.name not in dtypes or not matrix.flags.c_contiguous:
        raise UserError(
            f"{path}: holds {matrix.shape} of {matrix.dtype}, expected {shape} of {' or '.join(dtypes)}; {_AGAIN}"
        )
    if path.stat().st_size != matrix.offset + matrix.nbytes:
        raise UserError(f"{path}: holds more than its matrix; {_AGAIN}")
    return matrix


def block_rows(d: int, matrices: int = 1) -> int:
    """Return how many rows of `matrices` float32 matrices of width d make a block of memory."""
    return max(1, BLOCK_BYTES // (4 * d * max(1, matrices)))


def changed(path: Path, remedy: str) -> UserError:
    """Return the error for a file that does not have its recorded checksum."""
    return UserError(f"{path}: changed since it was written (its checksum differs); {remedy}")


class _Checksum:
    """The checksum of a matrix, taken the first time that all its rows are read in order."""

    def __init__(self, path: Path, matrix: np.memmap, name: str, expected: str) -> None:
        self._path, self._matrix, self._name, self._expected = path, matrix, name, expected
        self._next, self._right = 0, False
        self._running = RunningSums(name)

    def pass_by(self, rows: range) -> None:
        """Take rows that are being read; raises `UserError` after the last if the sum is wrong."""
        if self._right or rows.start not in (0, self._next):
            return
        if rows.start == 0:
            self._running = RunningSums(self._name)
            with open(self._path, "rb") as file:
                self._running.update(file.read(self._matrix.offset))
        self._running.update(self._matrix[rows.start : rows.stop])
        self._next = rows.stop
        if self._next == len(self._matrix):
            if self._running.hexdigests()[self._name] != self._expected:
                raise changed(self._path, f"copy it again, or {_AGAIN}")
            self._right = True

    def verify(self) -> None:
        """Read all rows, if they have not been; raises `UserError` if the sum is wrong."""
        step = block_rows(self._matrix.shape[1])
        for start in range(0, len(self._matrix), step):
            self.pass_by(range(start, min(start + step, len(self._matrix))))


class _Described(Struct):
    """What `meta.json` says of both kinds of store, as far as it is read."""

    n: Annotated[int, Meta(ge=0)]
    d: Annotated[int, Meta(ge=1)]
    encoder: dict[str, Any]
    normalized: bool
    ids_sha256: str


class _DescribedVectors(_Described):
    vectors_sha256: str
    xxh3: dict[str, str] = {}  # of matrices, by their files; none where they were written before there was it
    shard: Shard | None = None
    delimiter: str | None = None


_Number = Annotated[str, Meta(pattern="^[1-9][0-9]{0,8}$")]


_Pairs = Annotated[int, Meta(ge=0)]


class DescribedMoments(Struct):
    """What is recorded of moments (`stores.moments`), in a query store or an alignment."""

    languages: list[str]
    pairs: dict[str, tuple[_Pairs, _Pairs]]  # of each fold
    squares: dict[str, tuple[float, float]]  # Σ ‖q̂‖² of each fold
    sha256: dict[str, str]


class _DescribedSums(_Described):
    languages: list[str]
    sums_sha256: dict[str, str]
    counts_sha256: str
    xxh3: dict[str, str] = {}
    kept: dict[_Number, dict[str, str]] = {}
    moments: DescribedMoments | None = None
    shard: Shard | None = None


class _Store:
    """What both kinds of store share: a folder with `meta.json`, `ids.txt` and `matrices`."""

    kind = ""
    _Description: Any = _Described  # what `meta.json` must have

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.meta = self._read_meta()
        self._described: Any = checked(self.meta, self._Description, self.path / META, _AGAIN)
        self.n: int = self._described.n
        self.d: int = self._described.d
        self.encoder: dict[str, Any] = self._described.encoder
        self.normalized: bool = self._described.normalized
        self.shard: Shard | None = self._described.shard
        self.matrices: dict[str, np.memmap] = {}
        self._checksums: dict[str, _Checksum] = {}
        self._sha256: dict[str, str] = {}
        self.ids_path = self.path / IDS
        if not self.ids_path.is_file() or file_sha256(self.ids_path) != self._described.ids_sha256:
            raise UserError(f"{self.ids_path}: missing or changed since the store was written")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process of a cluster as a path, opened there; what was read in full is not read again."""
        right = [name for name, checksum in self._checksums.items() if checksum._right]
        return _opened, (type(self), self._arguments, right)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return (self.path,)

    def _read_meta(self) -> dict[str, Any]:
        file = self.path / META
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such store (expected a folder made by xqg)")
        if not file.exists() and shard_folders(self.path):
            raise UserError(f"{self.path}: a folder of shards; join them with xqg merge, or give one of them")
        if not file.exists():
            raise UserError(f"{self.path}: not a store, or not a whole one ({META} is missing)")
        meta: Any = read_json(file, object, _AGAIN)
        if not isinstance(meta, dict) or meta.get("kind") not in (PASSAGES, QUERY_SUMS):
            raise UserError(f"{file}: not the description of a store")
        if meta.get("format") != FORMAT:
            raise UserError(f"{file}: format {meta.get('format')}, this version reads {FORMAT}")
        if meta["kind"] != self.kind:
            raise UserError(f"{self.path}: a store of {meta['kind']}, expected one of {self.kind}")
        return meta

    def _open(self, file: str, width: int, dtypes: Sequence[str], sha256: str) -> np.memmap:
        matrix = _open_matrix(self.path / file, (self.n, width), dtypes)
        self.matrices[file] = matrix
        self._sha256[file] = sha256
        fast = self._described.xxh3.get(file)
        name, expected = ("sha256", sha256) if fast is None else ("xxh3", fast)
        self._checksums[file] = _Checksum(self.path / file, matrix, name, expected)
        return matrix

    def by_sha256(self) -> None:
        """Check what is read from now on by its SHA-256, which takes longer than its XXH3."""
        for file, sha256 in self._sha256.items():
            self._checksums[file] = _Checksum(self.path / file, self.matrices[file], "sha256", sha256)

    def ids(self) -> Iterator[str]:
        """Yield the ids in the order of the rows."""
        return iterate_ids(self.ids_path)

    def checked(self, block: np.ndarray, file: str, rows: np.ndarray | range) -> np.ndarray:
        """Return a block of a matrix as float32.

        Raises:
            UserError: for a value that is not finite; with the last of all rows, which were read
                in ranges one after the other, for a file that was changed since it was written.
        """
        block = np.asarray(block, dtype=np.float32)
        with np.errstate(all="ignore"):  # a row's sum is finite only where its numbers are; and it is quicker to have
            suspect = not np.isfinite(np.einsum("ij->i", block)).all()
        if suspect and not (finite := np.isfinite(block).all(axis=1)).all():
            row = int(rows[int(np.argmin(finite))])
            docid = ids_at(self.ids_path, [row])[row]
            raise UserError(f"{self.path / file}: row {row} (passage {docid!r}) holds NaN or infinity; encode it again")
        if isinstance(rows, range):
            self._checksums[file].pass_by(rows)
        return block

    def verify(self, file: str | None = None) -> None:
        """Read a matrix in full, or all; raises `UserError` for one that has changed."""
        for name in self._checksums if file is None else [file]:
            self._checksums[name].verify()


def _opened(kind: type[_Store], arguments: tuple[Any, ...], right: Sequence[str]) -> _Store:
    store = kind(*arguments)
    for name in right:
        store._checksums[name]._right = True
    return store


class VectorStore(_Store):
    """A store of passage embeddings, opened for reading and checked.

    Attributes: `n`, `d`; `vectors` (n, d) float32 or float16, memory-mapped; `encoder`, the settings it was encoded
    with; `normalized`; `meta`; `shard`, what it is of a whole, or None; `delimiter`, what stands in ids behind those of
    passages that have several rows (`retrieve.query_vectors`), or None.  Raises `UserError` where a file is missing,
    truncated or changed; that the vectors have not changed is checked when all of them are read in order, and by
    `verify`.
    """

    kind = PASSAGES
    _Description = _DescribedVectors

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.delimiter: str | None = self._described.delimiter
        self.vectors = self._open(VECTORS, self.d, DTYPES, self._described.vectors_sha256)

    def refuse_parts(self) -> None:
        """Raise `UserError` where rows are not passages, but several are one's."""
        if self.delimiter is not None:
            what = "holds single queries' vectors, several a passage"
            raise UserError(f"{self.path}: {what}; give the store of the passages themselves", "passages")

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return rows start … stop-1 as float32 (stop - start, d), checked for NaN."""
        return self.checked(self.vectors[start:stop], VECTORS, range(start, stop))


class QueryStore(_Store):
    """A store of per-language sums of query embeddings, opened for reading and checked.

    Attributes: `languages`; `sums[language]` (n, d) and `counts` (n, languages) int32,
    memory-mapped: sum and number of the queries of each passage; `kept`, the numbers k for which
    the sums of the first k queries of a language are there as well; `moments`, what is recorded of
    those that it keeps for an alignment, or None.

    With `first=k` the store is read as if each passage had no more than its first k queries in
    each language: `sums` are those, and `limited` cuts what is read of `counts`.
    Raises `UserError` where a file is missing, truncated or changed, or k was not kept; that sums
    have not changed is checked when all of them are read in order, and by `verify`.
    """

    kind = QUERY_SUMS
    _Description = _DescribedSums

    def __init__(self, path: str | Path, first: int | None = None) -> None:
        super().__init__(path)
        try:
            self.languages: tuple[str, ...] = check_languages(self._described.languages)
        except UserError as error:
            raise UserError(f"{self.path / META}: {error}; {_AGAIN}") from None
        self.kept: tuple[int, ...] = tuple(sorted(map(int, self._described.kept)))
        self.moments: DescribedMoments | None = self._described.moments
        self.first = first
        if first is not None and first not in self.kept:
            held = " ".join(map(str, self.kept))
            those = f"of the first {held} and of all" if held else "of all queries alone"
            what = f"has no sums of the first {first} queries a language (it has those {those})"
            about = ("num_queries", "keep_counts")
            raise UserError(f"{self.path} {what}; accumulate again and keep {first} too", about)
        sha256 = self._described.sums_sha256 if first is None else self._described.kept[str(first)]
        if set(sha256) != set(self.languages):
            raise UserError(f"{self.path / META}: has not a checksum for each language; {_AGAIN}")
        self.counts = self._open(COUNTS, len(self.languages), ("int32",), self._described.counts_sha256)
        self._check_counts()
        self.sums = {
            language: self._open(sum_file(language, first), self.d, DTYPES, sha256[language])
            for language in self.languages
        }

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return (self.path, self.first)

    def _check_counts(self) -> None:
        """Raise `UserError` for counts that were changed, or that are no counts."""
        self._checksums[COUNTS].verify()
        if self.counts.size and self.counts.min() < 0:
            raise UserError(f"{self.path / COUNTS}: holds numbers below 0; {_AGAIN}")

    def checksums(self, languages: Sequence[str]) -> dict[str, Any]:
        """Return what `xqg.json` records of the store: the checksums of what was read of it."""
        described = self._described
        sums = described.sums_sha256 if self.first is None else described.kept[str(self.first)]
        return {
            **({} if self.first is None else {"first": self.first}),
            "sums_sha256": {language: sums[language] for language in languages},
            "counts_sha256": described.counts_sha256,
        }

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


def sums_meta(folder: Path, languages: Sequence[str], kept: Sequence[int] = ()) -> dict[str, Any]:
    """Return what `meta.json` says of the matrices of a query store that are written: checksums by their roles."""
    sums = {k: {l: file_sums(folder / sum_file(l, k)) for l in languages} for k in (None, *kept)}
    counts = file_sums(folder / COUNTS)
    fast = {sum_file(l, k): of["xxh3"] for k, files in sums.items() for l, of in files.items()}
    sha256 = {k: {l: of["sha256"] for l, of in files.items()} for k, files in sums.items()}
    meta: dict[str, Any] = {"sums_sha256": sha256.pop(None)}
    if sha256:
        meta["kept"] = {str(k): of for k, of in sha256.items()}
    return {**meta, "counts_sha256": counts["sha256"], "xxh3": {**fast, COUNTS: counts["xxh3"]}}


def check_dtype(dtype: str) -> None:
    """Raise `UserError` for a type of number that no store has."""
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}; expected {' or '.join(DTYPES)}")


def store_meta(kind: str, n: int, d: int, dtype: str, encoder: dict[str, Any]) -> dict[str, Any]:
    """Return the first fields of `meta.json`, which both kinds of store share."""
    meta = {"format": FORMAT, "kind": kind, "n": n, "d": d, "dtype": dtype}
    return meta | {"encoder": encoder, "normalized": encoder["normalize"]}
