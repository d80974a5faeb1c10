"""Searching a Lance dataset that `xqg export` wrote: whole, or by its IVF-PQ index."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import Question, Run
from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.search import BATCH, make_run
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
            held, vector = self._data.count_rows(), self._data.schema.field("vector").type
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: Lance cannot read it ({str(error).splitlines()[0]}); export it again") from None
        if (held, getattr(vector, "list_size", 0)) != (self.n, self.d):
            what = f"{layout.META} says {self.n} x {self.d}, the dataset is {held} of {vector}"
            raise UserError(f"{path}: {what}; export it again")

    def search(self, questions: Sequence[Question], vectors: np.ndarray, k: int) -> Run:
        """Return the run of some questions, by their vectors (q, d) as they search.

        Without an IVF-PQ index the hits are those of a flat index.  What an index finds is scored by the vectors;
        equal scores are in the order of the rows here too.

        Raises:
            UserError: for files that were changed, where all are read, or that hold NaN.
        """
        if self._how.partitions:
            return self._by_index(questions, vectors, k)
        for name in self._files:
            layout.check_sum(self.path, name, {"sha256": self._files})
        run: Run = {}
        with tqdm(total=len(questions), desc="searching", unit=" questions", disable=None) as bar:
            for start in range(0, len(questions), BATCH):
                asking = questions[start : start + BATCH]
                scores, rows = self._exact(vectors[start : start + BATCH], k)
                found = np.unique(rows).tolist()
                names = self._data.take(found, columns=["docid"])["docid"].to_pylist()
                run |= make_run(asking, scores, rows, dict(zip(found, names, strict=True)))
                bar.update(len(asking))
        return run

    def _by_index(self, questions: Sequence[Question], vectors: np.ndarray, k: int) -> Run:
        how = {"column": "vector", "k": gathered(k, self.n)}
        how |= {"nprobes": self._how.probes, "refine_factor": self._how.refine}
        columns = ["docid", "vector", "_distance"]
        run: Run = {}
        for question, vector in zip(
            tqdm(questions, "searching", unit=" questions", disable=None), vectors, strict=True
        ):
            found = self._data.to_table(columns=columns, nearest={**how, "q": vector}, with_row_id=True)
            found = found.sort_by("_rowid")  # they go up as the rows do
            rows, held = found["_rowid"].to_numpy().astype(np.int64), _numbers(found["vector"].combine_chunks(), self.d)
            names = dict(zip(rows.tolist(), found["docid"].to_pylist(), strict=True))
            run |= make_run([question], *settle(vector[None], rows[None], k, partial(_given, held)), names)
        return run

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
        return settled(best.ranked(), groups, min(k, self.n), self.n)

    def _vectors(self, rows: Rows) -> np.ndarray:
        return _numbers(self._data.take(list(rows), columns=["vector"])["vector"].combine_chunks(), self.d)


def _given(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return vectors  # those of just these rows, in their order


def _numbers(column: Any, d: int) -> np.ndarray:
    """Return a column of vectors as (n, d) float32."""
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, d).astype(np.float32, copy=False)
