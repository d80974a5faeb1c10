"""Lucene's indexes of vectors, written by Anserini: `lucene-flat`, `lucene-hnsw` and `lucene-hnsw-int8`.

The folder is the Lucene index itself, which Pyserini's dense search opens, with `docid` (ids in the order of the
passages), `rows.npy` (which row each of Lucene's documents is: its threads write them in any order) and `xqg.json`.

Lucene compares vectors of length 1 and gives (1 + their inner product) / 2 in float32, of `lucene-hnsw-int8` by codes.
A question is scaled to length 1 and its score put back: ‖q‖·(2s - 1), within 2·10⁻⁷·‖q‖ of the inner product.  Passages
with one vector have one score; equal scores are in the order of the rows.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import file_sums
from xqg_pyserini.fusion.formula import unit
from xqg_pyserini.java import has_option, in_process, run_anserini
from xqg_pyserini.metadata import open_matrix
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.layout import DOCID, ROWS
from xqg_pyserini.retrieve.topk import Hits, cut_among_equals, gathered, settle_scores
from xqg_pyserini.stores import IdIndex, block_rows, ids_at, iterate_ids

LINKS, BUILD, SEARCH = 16, 100, 256  # of a graph: M, efConstruction (both Anserini 1's own), efSearch
LINK_BYTES = 68  # of a passage, on disk
BESIDE_BYTES = 21  # of a passage: its id in three files, its row
UNIT = 1e-3  # what a length may differ from 1 by: float16 does
MOST_THREADS = 8
BUFFERED = 1024  # MB of vectors that become a segment, at most
GRAPH_BYTES = 600  # of a passage, while segments are joined
LONGEST_ID = 32766  # bytes, of one of Lucene's terms
FIELD = "vector"

Blocks = Callable[[], Iterator[tuple[int, np.ndarray]]]


def planned(kind: str) -> dict[str, int] | None:
    """Return what `xqg.json` records of a graph; None where there is none."""
    graph = {"links": LINKS, "ef_construction": BUILD, "ef_search": SEARCH}
    return None if kind == "lucene-flat" else graph


def heap(kind: str, n: int, d: int) -> int:
    """Return the MB that Java may take for its objects while an index is written."""
    graph = 0 if planned(kind) is None else n * GRAPH_BYTES // 1_000_000
    # a thread holds a file of vectors, and its objects; what is buffered is copied when it is written
    return 256 + 2 * _buffer(n, d) + 160 * _threads() + graph


def _buffer(n: int, d: int) -> int:
    return min(BUFFERED, 16 + 5 * n * d // 1_000_000)


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, cores)


def write_lucene(folder: Path, kind: str, shape: tuple[int, int], blocks: Blocks) -> dict[str, dict[str, str]]:
    """Write an index of the blocks' vectors into a folder that holds their ids; return the checksums of its files.

    The vectors lie beside, as Parquet, until Anserini is done.

    Raises:
        UserError: for a vector that is not of length 1, and where Anserini fails.
    """
    n, d = shape
    # a folder of its own: a Java that outlives us by a moment writes into what the next try has cleared away
    with tempfile.TemporaryDirectory(prefix="anserini-", dir=folder, ignore_cleanup_errors=True) as name:
        vectors, made = Path(name) / "vectors", Path(name) / "index"
        vectors.mkdir()
        with tqdm(total=n, desc=f"indexing ({kind})", unit=" passages", disable=None) as bar:
            _write_vectors(vectors, folder / DOCID, blocks(), bar)
        graph = planned(kind)
        command = "index.IndexFlatDenseVectors" if graph is None else "index.IndexHnswDenseVectors"
        arguments: list[str | Path] = ["-collection", "ParquetDenseVectorCollection", "-input", vectors]
        arguments += ["-index", made, "-threads", str(_threads()), "-memoryBuffer", str(_buffer(n, d))]
        arguments += ["-M", str(LINKS), "-efC", str(BUILD)] if graph else []
        if kind.endswith("int8"):
            arguments.append("-quantize.int8" if has_option(command, "-quantize.int8") else "-quantize.sqv")
        with tqdm(desc="Anserini", unit=" s", disable=None) as bar:
            said = run_anserini(command, arguments, heap(kind, n, d), bar.update)
        rows = _rows_of(made, folder / DOCID, n, said)
        files = sorted(file.name for file in made.iterdir() if file.name != "write.lock")
        for file in files:
            os.replace(made / file, folder / file)
    np.save(folder / ROWS, rows, allow_pickle=False)
    return {file: file_sums(folder / file) for file in [*files, ROWS]}


def _write_vectors(folder: Path, ids_path: Path, blocks: Iterator[tuple[int, np.ndarray]], bar: Any) -> None:
    """Write a file a block: Anserini holds all vectors of those that it is reading."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids, part = iterate_ids(ids_path), 0
    for start, block in blocks:
        lengths = np.linalg.norm(block, axis=1)
        wrong = np.flatnonzero((np.abs(lengths - 1) > UNIT) & (lengths > 0))
        if len(wrong):
            row = start + int(wrong[0])
            what = f"passage {ids_at(ids_path, [row])[row]!r} has a vector of length {lengths[wrong[0]]:.4g}"
            raise UserError(f"{what}, and Lucene takes length 1: have them normalized, or use flat", "normalize")
        size = block_rows(4 * block.shape[1])
        for low in range(0, len(block), size):
            piece = np.ascontiguousarray(block[low : low + size], dtype=np.float32)
            docids = list(islice(ids, len(piece)))
            if longest := next((docid for docid in docids if len(docid.encode()) > LONGEST_ID), None):
                raise UserError(f"passage id {longest!r:.60} …: Lucene takes ids of {LONGEST_ID} bytes at most")
            column = pa.FixedSizeListArray.from_arrays(pa.array(piece.reshape(-1)), piece.shape[1])
            table = pa.table({"docid": docids, FIELD: column})
            pq.write_table(table, folder / f"part-{part:06}.parquet", use_dictionary=False, compression="none")
            part += 1
            bar.update(len(piece))


def _rows_of(index: Path, ids_path: Path, n: int, said: str) -> np.ndarray:
    """Return (n,) int32: the row of each document of Lucene's; raises `UserError` where they are not the passages."""
    last = said.splitlines()[-1] if said else "it said nothing"
    if not any(index.glob("segments*")):  # of a command that it does not understand Anserini only says so
        raise UserError(f"Anserini wrote no index ({last})")
    reader, searcher = _opened(index)
    known, found, rows = IdIndex(ids_path), int(reader.numDocs()), np.empty(n, dtype=np.int32)
    if found == n == reader.maxDoc():
        stored = searcher.storedFields()
        for start in range(0, n, 10_000):
            documents = range(start, min(start + 10_000, n))
            rows[documents.start : documents.stop] = known.rows([stored.document(i).get("id") for i in documents])
    reader.close()
    if found != n or not np.array_equal(np.sort(rows), np.arange(n)):
        raise UserError(f"Anserini indexed {found} of {n} passages, or others ({last})")
    return rows


def _opened(path: Path) -> tuple[Any, Any]:
    """Return Lucene's reader and searcher of an index; raises `UserError` where it cannot read it."""
    java = in_process()
    try:
        directory = java.autoclass("org.apache.lucene.store.FSDirectory").open(
            java.autoclass("java.nio.file.Paths").get(str(path))
        )
        reader = java.autoclass("org.apache.lucene.index.DirectoryReader").open(directory)
    except java.JavaException as error:
        raise _unreadable(path, error) from None
    searcher = java.autoclass("org.apache.lucene.search.IndexSearcher")
    return reader, searcher(java.cast("org.apache.lucene.index.IndexReader", reader))


def _unreadable(path: Path, error: Any) -> UserError:
    reason = str(error.innermessage or error).strip().splitlines()[0]
    return UserError(f"{path}: Lucene cannot read it ({reason}); copy it again, or build the index again")


class LuceneDirectory:
    """A Lucene index of ours, checked; as `FaissDirectory` to those who search.  Java starts with the first search."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.meta, self.centers = layout.read_centers(path)
        said = layout.described(path)
        self.n, self.d = said.n, said.d
        self.encoder: dict[str, Any] | None = said.encoder
        self._width = said.lucene.ef_search if said.lucene else 0  # of a graph
        self._files = said.sha256
        for name in (DOCID, ROWS):
            layout.check_sum(path, name, self.meta)
        self._rows = open_matrix(path / ROWS, "build the index again")
        if self._rows.shape != (self.n,):
            what = f"{self._rows.shape} rows for {self.n} passages"
            raise UserError(f"{path / ROWS}: {what}; build the index again")
        self._searcher: Any = None

    def names(self, rows: np.ndarray) -> dict[int, str]:
        """Return the ids of some rows; those of -1 have none."""
        return ids_at(self.path / DOCID, np.unique(rows).tolist())

    def best(self, vectors: np.ndarray, k: int) -> Hits:
        """Return scores (q, m) float32 and rows (q, m) int64 of the best m = min(k, n); -inf and -1 for none.

        A graph is searched as wide as `xqg.json` says, for more hits wider.  Where others may have the score of the
        last hit, more are asked for.

        Raises:
            UserError: for files that were changed, where all vectors are read, or that Lucene cannot read.
        """
        if self._searcher is None:
            self._check_files()
            reader, self._searcher = _opened(self.path)
            if reader.maxDoc() != self.n:
                what = f"Lucene has {reader.maxDoc()} passages, {layout.META} says {self.n}"
                raise UserError(f"{self.path}: {what}; build the index again")
        k = min(k, self.n)
        wanted = min(self.n, max(gathered(k, self.n), self._width))
        scores = np.empty((len(vectors), k), dtype=np.float32)
        rows = np.empty((len(vectors), k), dtype=np.int64)
        open_ = np.arange(len(vectors))
        with tqdm(total=len(vectors), desc="searching", unit=" questions", disable=None) as bar:
            while len(open_):
                near, found = self._near(vectors[open_], wanted, bar)
                scores[open_], rows[open_] = settle_scores(near, found, k)
                cut = cut_among_equals(near, k) if wanted < self.n else np.zeros(len(open_), dtype=bool)
                open_, wanted = open_[cut], min(self.n, 4 * wanted)
        return scores, rows

    def _check_files(self) -> None:
        if not self._width:  # of a graph a small part is read
            for name in self._files:
                layout.check_sum(self.path, name, self.meta)

    def _near(self, vectors: np.ndarray, wanted: int, bar: Any) -> Hits:
        """Return scores and rows of the best `wanted`, by as many threads as Faiss would take."""
        import faiss

        java, stop = in_process(), Event()
        query = java.autoclass("org.apache.lucene.search.KnnFloatVectorQuery")
        units, lengths = unit(vectors), np.linalg.norm(vectors.astype(np.float64), axis=1)
        near = np.full((len(vectors), wanted), -np.inf, dtype=np.float32)
        rows = np.full((len(vectors), wanted), -1, dtype=np.int64)

        def search(first: int, step: int) -> None:
            try:
                for i in range(first, len(vectors), step):
                    if stop.is_set():
                        return
                    found = self._searcher.search(query(FIELD, units[i].tolist(), wanted), wanted).scoreDocs
                    scores = np.array([hit.score for hit in found])
                    near[i, : len(found)] = lengths[i] * (2 * scores - 1)
                    rows[i, : len(found)] = self._rows[[hit.doc for hit in found]]
                    bar.update()
            except java.JavaException as error:
                raise _unreadable(self.path, error) from None
            finally:
                java.detach()

        threads = min(faiss.omp_get_max_threads(), len(vectors))
        with ThreadPoolExecutor(threads) as pool:
            try:
                for part in [pool.submit(search, first, threads) for first in range(threads)]:
                    part.result()
            except BaseException:
                stop.set()
                raise
        return near, rows
