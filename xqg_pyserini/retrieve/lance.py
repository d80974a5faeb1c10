"""Searching a Lance dataset that `xqg export` wrote: whole, or by its IVF-PQ index."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.directories import BATCH
from xqg_pyserini.retrieve.topk import Best, Group, Hits, gathered, settle, settled
from xqg_pyserini.stores import block_rows
from xqg_pyserini.stores.pair import Rows


def import_lance() -> Any:
    """Import Lance, its own log quiet; raises `UserError` where it is not installed."""
    os.environ.setdefault("LANCE_LOG", "error")
    try:
        import lance
    except ImportError:
        raise missing_package("pylance", "lance") from None
    return lance


def index_vectors(folder: Path, partitions: int, codes: int) -> None:
    """Make the IVF-PQ index of a dataset's vectors, with so many bytes a vector.

    A process of its own makes it: it takes minutes, in which Lance would not hear of a signal.
    """
    command = [sys.executable, "-P", "-c", _INDEXING, str(folder), str(partitions), str(codes)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"ended with {done.returncode}"]
        raise OSError(f"{folder}: Lance makes no index of it: {lines[-1]}")


_INDEXING = """
import os, signal, sys, threading, time

def watch(parent):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)

signal.signal(signal.SIGINT, signal.SIG_IGN)  # who began this ends it, and is not outlived
threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
import lance
path, partitions, codes = sys.argv[1:]
numbers = {"num_partitions": int(partitions), "num_sub_vectors": int(codes)}
lance.dataset(path).create_index("vector", "IVF_PQ", metric="dot", **numbers)
"""


class LanceDirectory:
    """A Lance dataset with its `xqg.json`, checked; as `FaissDirectory` to those who search."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta, self.centers = layout.read_centers(path)
        said = layout.described(path)
        assert said.lance is not None  # so says `open_directory`
        self.n, self.d, self._how, self._files = said.n, said.d, said.lance, said.sha256
        self.encoder: dict[str, Any] | None = said.encoder
        try:
            self._data = import_lance().dataset(str(path))
            parts = [fragment.count_rows() for fragment in self._data.get_fragments()]
            held, vector = sum(parts), self._data.schema.field("vector").type
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: Lance cannot read it ({str(error).splitlines()[0]}); export it again") from None
        if (held, getattr(vector, "list_size", 0)) != (self.n, self.d):
            what = f"{layout.META} says {self.n} x {self.d}, the dataset is {held} of {vector}"
            raise UserError(f"{path}: {what}; export it again")
        self._starts = np.cumsum([0, *parts])  # the first row of each fragment

    def names(self, rows: np.ndarray) -> dict[int, str]:
        """Return the ids of some rows; those of -1 have none."""
        wanted = np.unique(rows[rows >= 0]).tolist()
        ids = self._data.take(wanted, columns=["docid"])["docid"].to_pylist()
        return dict(zip(wanted, ids, strict=True))

    def best(self, vectors: np.ndarray, k: int) -> Hits:
        """Return scores (q, m) float32 and rows (q, m) int64 of the best m = min(k, n); -inf and -1 for none.

        Without an IVF-PQ index the hits are those of a flat index.  What an index finds is scored by the vectors;
        equal scores are in the order of the rows here too.

        Raises:
            UserError: for files that were changed, where all are read, or that hold NaN.
        """
        find = self._by_index if self._how.partitions else self._exact
        if not self._how.partitions:
            for name in self._files:
                layout.check_sum(self.path, name, {"sha256": self._files})
        parts = []
        with tqdm(total=len(vectors), desc="searching", unit=" questions", disable=None) as bar:
            for start in range(0, len(vectors), BATCH):
                parts.append(find(vectors[start : start + BATCH], min(k, self.n)))
                bar.update(len(parts[-1][0]))
        scores, rows = map(np.concatenate, zip(*parts, strict=True))
        return scores, rows

    def _by_index(self, vectors: np.ndarray, k: int) -> Hits:
        nearest = {"column": "vector", "k": gathered(k, self.n)}
        nearest |= {"nprobes": self._how.probes, "refine_factor": self._how.refine}
        columns = ["vector", "_distance"]
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        rows = np.full((len(vectors), k), -1, dtype=np.int64)
        for i, vector in enumerate(vectors):
            table = self._data.to_table(columns=columns, nearest={**nearest, "q": vector}, with_row_id=True)
            table = table.sort_by("_rowid")
            addresses = table["_rowid"].to_numpy().astype(np.int64)  # the number of a fragment, and of a row within it
            found = self._starts[addresses >> 32] + (addresses & 0xFFFFFFFF)
            held = _numbers(table["vector"].combine_chunks(), self.d)
            near, best = settle(vector[None], found[None], k, partial(_given, held))
            scores[i, : near.shape[1]], rows[i, : best.shape[1]] = near[0], best[0]
        return scores, rows

    def _exact(self, vectors: np.ndarray, k: int) -> Hits:
        best, longest, start = Best(len(vectors), gathered(k, self.n)), 0.0, 0
        for batch in self._data.to_batches(columns=["vector"], batch_size=block_rows(self.d), scan_in_order=True):
            block = _numbers(batch["vector"], self.d)
            if not np.isfinite(block).all():
                raise UserError(f"{self.path}: holds vectors with NaN; export it again")
            longest = max(longest, float(np.linalg.norm(block, axis=1).max()))
            best.offer(range(len(vectors)), vectors @ block.T, start)
            start += len(block)
        groups = [Group(np.arange(len(vectors)), vectors, self._vectors, longest)]
        return settled(best.ranked(), groups, k, self.n)

    def _vectors(self, rows: Rows) -> np.ndarray:
        return _numbers(self._data.take(list(rows), columns=["vector"])["vector"].combine_chunks(), self.d)


def _given(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return vectors  # those of just these rows, in their order


def _numbers(column: Any, d: int) -> np.ndarray:
    """Return a column of vectors as (n, d) float32."""
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, d).astype(np.float32, copy=False)
