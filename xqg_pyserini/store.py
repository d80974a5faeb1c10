"""The on-disk matrices that every stage reads and writes, and jobs that can be killed.

This room declares the layout of both kinds of store once:

    passages        vectors.npy (n, d)           ids.txt  meta.json
    query sums      sum-ar.npy (n, d), …, counts.npy (n, languages) int32   ids.txt  meta.json
                    and, where asked for, sum-ar-first-2.npy (n, d), …: of the first 2 queries alone

`ids.txt` has one id a line in the order of the rows; `meta.json` is written last, so that its
presence means that the rest is whole.  Nothing here holds a corpus's ids, texts or vectors:
matrices are memory-mapped, ids are hashed (16 bytes a passage) or read past.
It knows no encoder and no fusion.
"""

import hashlib
import json
import os
import shutil
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import (
    aside_of,
    check_output,
    chunks,
    file_sha256,
    named,
    parents,
    publish,
    write_json,
)

FORMAT = 1
VECTORS, IDS, COUNTS, META = "vectors.npy", "ids.txt", "counts.npy", "meta.json"
PASSAGES, QUERY_SUMS = "passages", "query-sums"
DTYPES = ("float32", "float16")
BLOCK_BYTES = 64 << 20
CHECKPOINT_SECONDS = 20.0


def sum_file(language: str, first: int | None = None) -> str:
    """Return the name of the matrix of a language's sums, of all queries or the first few."""
    return f"sum-{language}.npy" if first is None else f"sum-{language}-first-{first}.npy"


# ---------------------------------------------------------------- matrices


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
        raise UserError(
            f"{path}: truncated or no NumPy matrix ({error}); make the store again"
        ) from None
    if matrix.shape != shape or matrix.dtype.name not in dtypes:
        raise UserError(
            f"{path}: holds {matrix.shape} of {matrix.dtype}, expected {shape} of "
            f"{' or '.join(dtypes)}; make the store again"
        )
    return matrix


def block_rows(d: int, matrices: int = 1) -> int:
    """Return how many rows of `matrices` float32 matrices of width d make a block of memory."""
    return max(1, BLOCK_BYTES // (4 * d * max(1, matrices)))


# ---------------------------------------------------------------- ids


class DuplicateId(Exception):
    """Two rows carry one id."""

    def __init__(self, docid: str, first: int, second: int) -> None:
        super().__init__(docid)
        self.docid, self.first, self.second = docid, first, second


def _hash(docid: str) -> int:
    return int.from_bytes(hashlib.blake2b(docid.encode(), digest_size=8).digest(), "little")


def iterate_ids(path: Path) -> Iterator[str]:
    """Yield the ids of an ids file (`ids.txt`, Pyserini's `docid`) in order."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n")


def ids_at(path: Path, rows: Iterable[int]) -> dict[int, str]:
    """Return the ids of some rows, in one pass over the file."""
    wanted = set(rows)
    return {row: docid for row, docid in enumerate(iterate_ids(path)) if row in wanted}


def write_distinct_ids(ids: Iterable[str], path: Path) -> int:
    """Write an ids file of the distinct ids, in the order they first appear; return their number.

    Takes 32 bytes an id while it runs.  Ids are told apart by 128-bit hashes.
    """
    every = path.with_name(f"{path.name}.all")
    words = array("Q")
    with open(every, "w", encoding="utf-8", newline="\n") as file:
        for docid in ids:
            words.frombytes(hashlib.blake2b(docid.encode(), digest_size=16).digest())
            file.write(docid + "\n")
    hashes = np.frombuffer(words, dtype=np.uint64).reshape(-1, 2)
    order = np.lexsort((hashes[:, 0], hashes[:, 1]))  # stable: equal ids stay in their order
    new = np.ones(len(order), dtype=bool)
    new[1:] = (hashes[order[1:]] != hashes[order[:-1]]).any(axis=1)
    first = np.zeros(len(order), dtype=bool)
    first[order[new]] = True
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for docid, is_first in zip(iterate_ids(every), first, strict=True):
            if is_first:
                file.write(docid + "\n")
    every.unlink()
    return int(new.sum())


class IdIndex:
    """Finds rows by id with 16 bytes a passage: sorted 64-bit hashes, and the row of each.

    Ids whose hashes collide are kept as they are.  An id that was never put in is taken for
    another's with probability n / 2⁶⁴ (10⁻¹² for 18 million passages).
    Raises `DuplicateId` where two rows carry one id.
    """

    def __init__(self, path: Path) -> None:
        hashes = np.frombuffer(array("Q", map(_hash, iterate_ids(path))), dtype=np.uint64)
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]
        self._collided: dict[str, int] = {}
        equal = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        if len(equal):
            suspects = np.unique(self._rows[np.concatenate([equal, equal + 1])])
            for row, docid in sorted(ids_at(path, suspects.tolist()).items()):
                if docid in self._collided:
                    raise DuplicateId(docid, self._collided[docid], row)
                self._collided[docid] = row

    def __len__(self) -> int:
        return len(self._hashes)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Return the rows of some ids, int64 of their number; -1 for an id that is not here."""
        if not len(self._hashes):
            return np.full(len(ids), -1, dtype=np.int64)
        hashes = np.fromiter((_hash(i) for i in ids), dtype=np.uint64, count=len(ids))
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        rows = np.where(self._hashes[at] == hashes, self._rows[at], -1).astype(np.int64)
        if self._collided:
            for i, docid in enumerate(ids):
                rows[i] = self._collided.get(docid, rows[i])
        return rows


# ---------------------------------------------------------------- stores


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
            raise UserError(
                f"{self.path / META}: damaged ({error} is missing or wrong); make the store again"
            ) from None
        self.ids_path = self.path / IDS
        if not self.ids_path.is_file() or file_sha256(self.ids_path) != ids_sha256:
            raise UserError(f"{self.ids_path}: missing or changed since the store was written")

    def _read_more(self) -> None:
        """Read what a kind of store has in `meta.json` besides."""

    def _read_meta(self) -> dict[str, Any]:
        file = self.path / META
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such store (expected a folder made by xqg)")
        try:
            meta = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{self.path}: not a store, or not a whole one ({META} is missing)"
            ) from None
        except ValueError as error:
            raise UserError(f"{file}: broken JSON ({error}); make the store again") from None
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
            raise UserError(
                f"{self.path / file}: row {row} (passage {docid!r}) holds NaN or infinity; "
                "encode it again"
            )
        return block


class VectorStore(_Store):
    """A store of passage embeddings, opened for reading and checked.

    Attributes: `n`, `d`; `vectors` (n, d) float32 or float16, memory-mapped; `encoder`, the
    settings it was encoded with; `normalized`; `meta`.
    Raises `UserError` where a file is missing, truncated or changed.
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
            what = f"of the first {held} and of all" if held else "of all queries alone"
            raise UserError(
                f"{self.path} has no sums of the first {first} queries a language (it has those "
                f"{what}); accumulate again with --keep-counts {held} {first}".replace("  ", " ")
            )
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
        sums = self.meta["kept"][str(self.first)]
        counts = self.meta["counts_sha256"]
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


class Block(NamedTuple):
    """Some passages with the sums and counts of their queries, aligned."""

    start: int
    passages: np.ndarray  # (b, d) float32
    sums: dict[str, np.ndarray]  # language → (b, d) float32
    counts: dict[str, np.ndarray]  # language → (b,) int32


class StorePair:
    """A passage store and a query store read side by side, aligned by id and never by position.

    A passage that the query store does not know has no queries.  A query store that has queries
    for a passage that is not in the passage store is an error that names it, unless
    `skip_unknown`: then `skipped` counts such passages.  `queries=None` reads passages alone.
    """

    def __init__(
        self, passages: VectorStore, queries: QueryStore | None, skip_unknown: bool = False
    ) -> None:
        self.passages, self.queries, self.skipped = passages, queries, 0
        self._rows: np.ndarray | None = None  # row of the query store for each passage, or -1
        if queries is None:
            return
        if queries.d != passages.d:
            raise UserError(
                f"{queries.path} has {queries.d} dimensions, {passages.path} has {passages.d}; "
                "encode both with one encoder"
            )
        if queries.meta["ids_sha256"] != passages.meta["ids_sha256"]:
            self._align(passages, queries, skip_unknown)

    def _align(self, passages: VectorStore, queries: QueryStore, skip_unknown: bool) -> None:
        index = IdIndex(passages.ids_path)
        self._rows = np.full(passages.n, -1, dtype=np.int64)
        start = 0
        for ids in chunks(queries.ids(), 65536):
            rows = index.rows(ids)
            counted = np.asarray(queries.counts[start : start + len(ids)]).any(axis=1)
            unknown = (rows < 0) & counted
            if unknown.any() and not skip_unknown:
                docid = ids[int(np.argmax(unknown))]
                raise UserError(
                    f"{queries.path}: queries for passage {docid!r}, which {passages.path} does "
                    "not hold; --skip-unknown leaves such queries out"
                )
            self.skipped += int(unknown.sum())
            known = rows >= 0
            self._rows[rows[known]] = np.arange(start, start + len(ids))[known]
            start += len(ids)

    def _query_rows(self, start: int, stop: int) -> np.ndarray | slice:
        return slice(start, stop) if self._rows is None else self._rows[start:stop]

    def counts(self, start: int, stop: int, languages: Sequence[str]) -> np.ndarray:
        """Return the query counts (stop - start, languages) int32 of some passages."""
        assert self.queries is not None
        columns = [self.queries.languages.index(language) for language in languages]
        rows = self._query_rows(start, stop)
        if isinstance(rows, slice):
            return self.queries.limited(np.asarray(self.queries.counts[rows])[:, columns])
        counts = self.queries.counts[np.maximum(rows, 0)][:, columns]
        counts[rows < 0] = 0
        return self.queries.limited(counts)

    def totals(self) -> dict[str, int]:
        """Return how many queries of each language the passages have; languages with none apart."""
        assert self.queries is not None
        languages = self.queries.languages
        totals = np.zeros(len(languages), dtype=np.int64)
        for start in range(0, self.passages.n, 1 << 20):
            stop = min(start + (1 << 20), self.passages.n)
            totals += self.counts(start, stop, languages).sum(axis=0, dtype=np.int64)
        return {l: n for l, n in zip(languages, totals.tolist(), strict=True) if n}

    def take(self, rows: np.ndarray, languages: Sequence[str]) -> Block:
        """Return some passages (ascending rows, int64) with their sums and counts; `start` is 0."""
        passages = self.passages.checked(self.passages.vectors[rows], VECTORS, rows)
        if self.queries is None:
            return Block(0, passages, {}, {})
        theirs = rows if self._rows is None else self._rows[rows]
        known, at = theirs >= 0, np.maximum(theirs, 0)
        sums, counts = {}, {}
        for language in languages:
            matrix = self.queries.sums[language]
            sums[language] = self.queries.checked(matrix[at], sum_file(language), at)
            sums[language][~known] = 0
            column = self.queries.languages.index(language)
            counts[language] = np.where(known, self.queries.counts[at, column], 0)
        return Block(0, passages, sums, counts)

    def _sums(self, language: str, start: int, stop: int) -> np.ndarray:
        assert self.queries is not None
        rows = self._query_rows(start, stop)
        matrix = self.queries.sums[language]
        name = sum_file(language, self.queries.first)
        if isinstance(rows, slice):
            return self.queries.checked(matrix[rows], name, range(start, stop))
        block = self.queries.checked(matrix[np.maximum(rows, 0)], name, np.maximum(rows, 0))
        block[rows < 0] = 0
        return block

    def block(self, start: int, stop: int, languages: Sequence[str] = ()) -> Block:
        """Return passages start … stop-1 with the sums and counts of some languages."""
        counts: Iterable[np.ndarray] = ()
        if languages:
            counts = self.counts(start, stop, languages).T
        return Block(
            start,
            self.passages.block(start, stop),
            {language: self._sums(language, start, stop) for language in languages},
            dict(zip(languages, counts, strict=True)),
        )

    def blocks(self, languages: Sequence[str] = ()) -> Iterator[Block]:
        """Yield all passages in blocks of bounded memory, with the sums of some languages."""
        size = block_rows(self.passages.d, 2 + len(languages))
        for start in range(0, self.passages.n, size):
            yield self.block(start, min(start + size, self.passages.n), languages)


def check_dtype(dtype: str) -> None:
    """Raise `UserError` for a type of number that no store has."""
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r}; expected {' or '.join(DTYPES)}")


def store_meta(kind: str, n: int, d: int, dtype: str, encoder: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `meta.json` that both kinds of store share."""
    return {
        "format": FORMAT,
        "kind": kind,
        "n": n,
        "d": d,
        "dtype": dtype,
        "encoder": encoder,
        "normalized": encoder["normalize"],
    }


# ---------------------------------------------------------------- jobs that can be killed


class Job:
    """A folder being filled step by step; see `resumable`."""

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self.path, self._description = path, description
        self._saved = time.monotonic()
        self.done = 0
        self.state: dict[str, Any] = {}

    def begin(self, encoder: dict[str, Any]) -> bool:
        """Tell whether to start at the first step: nothing is done, or by other weights."""
        if self.state.get("encoder") != encoder:
            self.done = 0
        self.state["encoder"] = encoder
        return not self.done

    @property
    def due(self) -> bool:
        """Tell whether the last checkpoint is long enough ago for another."""
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def save(self, done: int, matrices: Iterable[np.memmap] = ()) -> None:
        """Write the matrices through to disk, then note that `done` steps are finished."""
        for matrix in matrices:
            matrix.flush()
        progress = {"job": self._description, "done": done, "state": self.state}
        write_json(self.path / "progress.json", progress)
        self.done, self._saved = done, time.monotonic()


@contextmanager
def resumable(
    path: str | Path, description: dict[str, Any], overwrite: bool, inputs: Iterable[Any]
) -> Iterator[Job]:
    """Give a folder beside `path` to fill, renamed to `path` when the block ends well.

    A job that was killed finds its folder again if its `description` (settings, checksums of the
    inputs) is the same: then `done` and `state` are as last saved.  Otherwise it starts afresh.
    A `UserError` leaves nothing behind; any other end leaves what was saved.
    """
    check_output(path, overwrite, inputs)
    with parents(path), named(path):
        aside = aside_of(path)
        job = Job(aside, description)
        try:
            progress = json.loads((aside / "progress.json").read_text("utf-8"))
            if progress["job"] == json.loads(json.dumps(description)):
                job.done, job.state = progress["done"], progress["state"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if not job.done and not job.state:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
        try:
            yield job
        except BaseException as error:
            if isinstance(error, UserError) or not job.done:
                shutil.rmtree(aside, ignore_errors=True)
            raise
        (aside / "progress.json").unlink(missing_ok=True)
        for stray in aside.glob(".*.partial"):  # of a write that was killed
            stray.unlink()
        publish(aside, path)
