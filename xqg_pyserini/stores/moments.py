"""What an alignment is learnt from: sums over pairs of a query and its passage, and a sample of them, on disk.

A pair (q̂, E(p)) goes by its language and by the fold of its passage, one bit of a hash of the id, so that what is
learnt from one fold can be tried on the other.  Everything adds up: over records, jobs and machines.

    differences.npy   Σ δδᵀ, δ = q̂ - E(p), (languages, 2, d, d) float64
    sums.npy          Σ q̂ and Σ E(p), (languages, 2, 2, d) float64
    sample-ids.txt    the passages with the smallest hashes, K at most, in that order
    sample.npy        their vectors, and then one query of each in each language, (K + m, d) float32
    sample-pairs.npy  for each of these m queries its passage (row of the ids) and its language, (m, 2) int32
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xqg_pyserini.data import find_language
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import file_sha256
from xqg_pyserini.metadata import open_matrix
from xqg_pyserini.stores.ids import id_hash, iterate_ids
from xqg_pyserini.stores.store import DescribedMoments, changed

MOMENTS = "moments"  # the folder in a query store or an alignment
SAMPLE = 4000  # passages kept to try what was learnt
_DIFFERENCES, _SUMS = "differences.npy", "sums.npy"
_VECTORS, _PAIRS, _IDS = "sample.npy", "sample-pairs.npy", "sample-ids.txt"
FILES = (_DIFFERENCES, _SUMS, _IDS, _VECTORS, _PAIRS)
_AGAIN = "copy the folder again, or make it again"


class Pair(NamedTuple):
    """The queries of a passage in a language."""

    docid: str
    language: str
    passage: np.ndarray  # (d,)
    queries: np.ndarray  # (m, d)


class Sums(NamedTuple):
    """Sums over the pairs of each of L languages, with δ = q̂ - E(p)."""

    pairs: np.ndarray  # n, (L,) int64
    queries: np.ndarray  # Σ q̂, (L, d) float64
    passages: np.ndarray  # Σ E(p), (L, d) float64
    differences: np.ndarray  # Σ δδᵀ, (L, d, d) float64


class Sampled(NamedTuple):
    """Passages of one fold, and one query of each in the languages that it has."""

    passages: np.ndarray  # (p, d) float32
    queries: dict[str, tuple[np.ndarray, np.ndarray]]  # language → (m, d) float32, and the row of each one's passage


class _Kept(NamedTuple):
    hash: int
    passage: np.ndarray
    queries: dict[str, np.ndarray]


class Moments:
    """Sums over the pairs of each language l and fold f, and a sample.

    Sums are float64: for n pairs their relative error is below n·2⁻⁵³ (of sums of positive terms; of the others, of
    the sum of their absolute values), and that is how far two orders, sets of shards or numbers of threads may differ.

    Attributes:
        languages, d: codes in order, and the dimension.
        pairs: n, (languages, 2) int64.
        squares: Σ ‖q̂‖², (languages, 2).
        queries, passages: Σ q̂ and Σ E(p), (languages, 2, d).
        differences: Σ δδᵀ with δ = q̂ - E(p), (languages, 2, d, d).
    """

    def __init__(self, languages: Sequence[str], d: int, sample: int = SAMPLE) -> None:
        self.languages, self.d, self.size = list(languages), d, sample
        each = (len(self.languages), 2)
        self.pairs, self.squares = np.zeros(each, np.int64), np.zeros(each)
        self.queries, self.passages = np.zeros((*each, d)), np.zeros((*each, d))
        self.differences = np.zeros((*each, d, d))
        self._kept: dict[str, _Kept] = {}
        self._highest = 1 << 64  # hash of a passage that may still be of the sample

    def add(self, pairs: Iterable[Pair]) -> None:
        """Add pairs; a query of a language's first in a passage may be sampled."""
        groups: dict[tuple[int, int], list[Pair]] = {}
        for pair in pairs:
            if len(pair.queries):
                number = id_hash(pair.docid)
                groups.setdefault((self.languages.index(pair.language), number & 1), []).append(pair)
                self._keep(pair.docid, _Kept(number, pair.passage, {pair.language: pair.queries[0]}))
        for at, group in groups.items():
            queries = np.concatenate([pair.queries for pair in group]).astype(np.float64)
            passages = np.repeat(
                np.stack([pair.passage for pair in group]).astype(np.float64), [len(p.queries) for p in group], axis=0
            )
            apart = queries - passages
            self.pairs[at] += len(queries)
            self.squares[at] += (queries * queries).sum()
            self.queries[at] += queries.sum(axis=0)
            self.passages[at] += passages.sum(axis=0)
            self.differences[at] += apart.T @ apart

    def _keep(self, docid: str, new: _Kept) -> None:
        if new.hash > self._highest:
            return
        known = self._kept.setdefault(docid, _Kept(new.hash, np.array(new.passage, dtype=np.float32), {}))
        if known.queries and not np.array_equal(known.passage, new.passage):
            return  # another collection's passage of that id
        for language, query in new.queries.items():
            known.queries.setdefault(language, np.array(query, dtype=np.float32))  # a view would hold its batch
        if len(self._kept) > 2 * self.size:
            self._cut()

    def _cut(self) -> None:
        order = sorted(self._kept, key=lambda docid: (self._kept[docid].hash, docid))
        self._kept = {docid: self._kept[docid] for docid in order[: self.size]}
        if len(self._kept) == self.size > 0:
            self._highest = next(reversed(self._kept.values())).hash

    @property
    def numbers(self) -> dict[str, int]:
        """Return the number of pairs of each language."""
        return dict(zip(self.languages, self.pairs.sum(axis=1).tolist(), strict=True))

    @classmethod
    def holding(
        cls, numbers: Iterable[dict[str, int]], languages: Sequence[str] | None, d: int, sample: int
    ) -> "Moments":
        """Return empty sums for all parts' languages that have pairs, by their `numbers`, or for some of these.

        The languages stand in the order of their codes.  Raises `UserError` for a language without pairs.
        """
        held: list[str] = []
        for part in numbers:
            new = [language for language, n in part.items() if n]
            held += [language for language in new if find_language(language, held) is None]
        for language in languages or ():
            if find_language(language, held) is None:
                raise UserError(f"no queries in {language!r}; there are {' '.join(sorted(held))}", "languages")
        if languages is not None:
            held = [language for language in held if find_language(language, languages) is not None]
        return cls(sorted(held), d, sample)

    def merge(self, part: "Moments") -> None:
        """Add another's pairs in the languages that are these too, and its sample."""
        names = {language: find_language(language, self.languages) for language in part.languages}
        for i, language in enumerate(part.languages):
            if (name := names[language]) is not None:
                j = self.languages.index(name)
                for of in ("pairs", "squares", "queries", "passages", "differences"):
                    getattr(self, of)[j] += getattr(part, of)[i]
        for docid, kept in part._kept.items():
            queries = {name: query for l, query in kept.queries.items() if (name := names[l]) is not None}
            if queries:
                self._keep(docid, kept._replace(queries=queries))

    def sums(self, fold: int | None = None) -> Sums:
        """Return the sums of both folds, or of one."""
        every = (self.pairs, self.queries, self.passages, self.differences)
        return Sums(*(x.sum(axis=1) if fold is None else x[:, fold] for x in every))

    def sampled(self, fold: int) -> Sampled:
        """Return the sample's passages of one fold, and their queries."""
        self._cut()
        kept = [one for one in self._kept.values() if one.hash & 1 == fold]
        queries = {}
        for language in self.languages:
            rows = [i for i, one in enumerate(kept) if language in one.queries]
            if rows:
                queries[language] = (np.stack([kept[i].queries[language] for i in rows]), np.array(rows))
        passages = np.stack([one.passage for one in kept]) if kept else np.zeros((0, self.d), np.float32)
        return Sampled(passages, queries)

    # ---------------------------------------------------------------- on disk

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the files into a folder, over those of an earlier time; return what is to be recorded of them."""
        self._cut()
        folder.mkdir(exist_ok=True)
        np.save(folder / _DIFFERENCES, self.differences)
        np.save(folder / _SUMS, np.stack([self.queries, self.passages], axis=2))
        kept = list(self._kept.values())
        pairs = [(i, j) for i, one in enumerate(kept) for j, l in enumerate(self.languages) if l in one.queries]
        rows = [one.passage for one in kept] + [kept[i].queries[self.languages[j]] for i, j in pairs]
        np.save(folder / _VECTORS, np.array(rows, dtype=np.float32).reshape(len(rows), self.d))
        np.save(folder / _PAIRS, np.array(pairs, dtype=np.int32).reshape(len(pairs), 2))
        (folder / _IDS).write_bytes("".join(f"{docid}\n" for docid in self._kept).encode())
        return {
            "languages": self.languages,
            "pairs": dict(zip(self.languages, self.pairs.tolist(), strict=True)),
            "squares": dict(zip(self.languages, self.squares.tolist(), strict=True)),
            "sha256": {name: file_sha256(folder / name) for name in FILES},
        }

    @classmethod
    def open(cls, folder: Path, said: DescribedMoments, d: int, sample: int = SAMPLE) -> "Moments":
        """Read what `save` wrote.

        Raises:
            UserError: for a file that is missing or changed, or that does not fit what was recorded.
        """
        check_files(folder, said.sha256, FILES)
        if set(said.pairs) != set(said.languages) or set(said.squares) != set(said.languages):
            raise UserError(f"{folder}: what is recorded of its languages contradicts itself; {_AGAIN}")
        out = cls(said.languages, d, sample)
        out.pairs[:] = np.array([said.pairs[l] for l in said.languages], np.int64).reshape(out.pairs.shape)
        out.squares[:] = np.array([said.squares[l] for l in said.languages]).reshape(out.squares.shape)
        out.differences[:] = read_array(folder / _DIFFERENCES, out.differences.shape, "float64")
        sums = read_array(folder / _SUMS, (len(out.languages), 2, 2, d), "float64")
        out.queries[:], out.passages[:] = sums[:, :, 0], sums[:, :, 1]
        ids = list(iterate_ids(folder / _IDS))
        pairs = np.array(open_matrix(folder / _PAIRS, _AGAIN))
        vectors = read_array(folder / _VECTORS, (len(ids) + len(pairs), d), "float32")
        queries: list[dict[str, np.ndarray]] = [{} for _ in ids]
        for (i, j), query in zip(pairs.tolist(), vectors[len(ids) :], strict=True):
            queries[i][out.languages[j]] = query
        for i, docid in enumerate(ids):
            out._keep(docid, _Kept(id_hash(docid), vectors[i], queries[i]))
        return out


def check_files(folder: Path, sha256: dict[str, str], names: Iterable[str]) -> None:
    """Raise `UserError` for a file of a folder that is missing or not as it was recorded."""
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing; {_AGAIN}")
        if file_sha256(folder / name) != sha256.get(name):
            raise changed(folder / name, _AGAIN)


def read_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Read an array of a shape and type, all of it finite, or raise `UserError`."""
    array = np.array(open_matrix(path, _AGAIN))
    if array.shape != shape or array.dtype.name != dtype or not np.isfinite(array).all():
        what = f"holds {array.shape} of {array.dtype}, or NaN or infinity; expected {shape} of {dtype}"
        raise UserError(f"{path}: {what}; {_AGAIN}")
    return array
