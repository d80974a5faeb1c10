"""Ids files, one id a line in the order of the rows, and finding rows by id."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import read_corpus
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, writing


class DuplicateId(Exception):
    """Two rows carry one id."""

    def __init__(self, docid: str, first: int, second: int) -> None:
        super().__init__(docid)
        self.docid, self.first, self.second = docid, first, second


def id_hash(docid: str) -> int:
    """Return 64 bits of an id, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(docid.encode(), digest_size=8).digest(), "little")


def iterate_ids(path: Path) -> Iterator[str]:
    """Yield the ids of an ids file (`ids.txt`, Pyserini's `docid`) in order."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for ids in _some(file, path):
            yield from ids


def _some(file: IO[str], path: Path) -> Iterator[list[str]]:
    """Yield the ids of a file, some thousands at once."""
    try:
        while text := file.read(1 << 17):
            yield (text + file.readline()).removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; make it again") from None


def ids_at(path: Path, rows: Iterable[int]) -> dict[int, str]:
    """Return the ids of some rows, in one pass over the file."""
    wanted = np.unique(np.fromiter(rows, dtype=np.int64))
    found: dict[int, str] = {}
    with open(path, encoding="utf-8", newline="\n") as file:
        start = 0
        for ids in _some(file, path):
            here = wanted[slice(*np.searchsorted(wanted, [start, start + len(ids)]))]
            found.update(zip(here.tolist(), map(ids.__getitem__, (here - start).tolist()), strict=True))
            start += len(ids)
    return found


def repeated_id(paths: Sequence[Path]) -> tuple[str, Path, Path] | None:
    """Return an id that comes twice in these ids files, and the files of both; None where there is none.

    Takes 8 bytes an id.
    """
    hashes = np.fromiter((hash(docid) for path in paths for docid in iterate_ids(path)), dtype=np.int64)
    hashes.sort()
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    met: dict[str, Path] = {}
    for path in paths if suspects else ():
        for docid in iterate_ids(path):
            if hash(docid) in suspects:
                if docid in met:
                    return docid, met[docid], path
                met[docid] = path
    return None


def copy_ids(source: Path, path: Path, rows: range) -> None:
    """Write an ids file of some rows of another."""
    with open(source, "rb") as file, open(path, "wb") as out:
        out.writelines(islice(file, rows.start, rows.stop))


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

    Ids whose hashes collide are kept as they are.  An id that was never put in is taken for another's with probability
    n / 2⁶⁴ (10⁻¹² for 18 million passages). Raises `DuplicateId` where two rows carry one id.
    """

    def __init__(self, path: Path) -> None:
        hashes = np.frombuffer(array("Q", map(id_hash, iterate_ids(path))), dtype=np.uint64)
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
        hashes = np.fromiter((id_hash(i) for i in ids), dtype=np.uint64, count=len(ids))
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        rows = np.where(self._hashes[at] == hashes, self._rows[at], -1).astype(np.int64)
        if self._collided:
            for i, docid in enumerate(ids):
                rows[i] = self._collided.get(docid, rows[i])
        return rows


def write_ids(corpus: FilePath, path: Path) -> int:
    """Check the whole corpus and write its ids, one a line; return their number.

    Raises `UserError` for a record that cannot be read, and for an id that comes twice.
    """
    n = 0
    with writing(path) as file:
        for _, passage in tqdm(read_corpus(corpus), "checking", unit=" passages", disable=None):
            file.write(passage.id + "\n")
            n += 1
    index_ids(path, corpus)
    return n


def index_ids(path: Path, corpus: FilePath) -> IdIndex:
    """Return the index of a corpus's ids file; `UserError` names the lines of an id given twice."""
    try:
        return IdIndex(path)
    except DuplicateId as twice:
        lines = {}
        for row, (line, _) in enumerate(read_corpus(corpus)):
            if row in (twice.first, twice.second):
                lines[row] = line
        first = lines[twice.first]
        raise lines[twice.second].error(
            f"passage id {twice.docid!r} again (first in {first.path}, line {first.number}); ids must be unique"
        ) from None
