"""An index → what engines on many machines take: OpenSearch's bulk requests, Parquet files, a Lance dataset.

Vectors, ids and texts pass by in blocks; nothing of the whole corpus is held, but for what Lance does to train IVF-PQ
(a sample).  `xqg.json`, as in an index, says what the vectors are, and `centers.npy` is beside it where they are
centred.

    opensearch   index.json (settings and mapping), bulk-00000.ndjson, …
    parquet      vectors/part-00000.parquet, …: a row group for each block
    lance        the folder is the dataset; `xqg search` reads it
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from itertools import chain, islice
from math import gcd
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import CorpusLike, as_corpus
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import file_sums, write_json, writing_folder
from xqg_pyserini.locks import LOCK
from xqg_pyserini.retrieve.directories import FaissDirectory
from xqg_pyserini.retrieve.lance import import_lance, index_vectors
from xqg_pyserini.retrieve.layout import CENTERS, DOCID, EXPORT, INDEX, META, check_sum, sums_meta
from xqg_pyserini.settings import check_values, option
from xqg_pyserini.stores import DTYPES, block_rows, iterate_ids

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("opensearch", "parquet", "lance")
EXACT = ("flat", "fp16", "hnsw")  # types of index that give their vectors back as they were put in
BULK_BYTES = 10_000_000  # of a bulk request: hosted services take 10 MiB, others 100 MB
PART_BLOCKS = 16  # in a Parquet file: about 1 GB of float32
LANCE_ROWS = 1 << 20  # in a file of Lance
TEXT_ROWS = 2048  # written out as text together
LONGEST_ID = 512  # bytes, in OpenSearch
LEAST_FOR_PQ = 256  # passages that Lance's product quantiser is trained on
SEARCHED_WHOLE = 10_000  # passages up to which a Lance dataset gets no index


@dataclass(frozen=True)
class ExportSettings:
    """What is written; the last three are of Lance alone."""

    format: str = option(MISSING, "what to write", *FORMATS)
    dtype: str = option("float32", "of the vectors; Anserini and Spark read float32 alone", *DTYPES)
    partitions: int | None = option(
        None,
        f"lance: of the IVF-PQ index, 0 for none and exact search (default √passages, none up to {SEARCHED_WHOLE})",
        metavar="N",
        least=0,
    )
    probes: int | None = option(
        None, "lance: partitions that a question searches (default a 16th, at least 16)", metavar="N", least=1
    )
    refine: int | None = option(
        None, "lance: times the hits wanted that are found by codes, then scored by vectors (default 10)",
        metavar="N", least=1,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_values(self)
        for name in ("partitions", "probes", "refine"):
            if self.format != "lance" and getattr(self, name) is not None:
                raise UserError(f"{name} is for lance, not for {self.format}", name)

    def lance(self, n: int) -> dict[str, int]:
        """Return what is recorded of a Lance dataset of n passages: partitions, probes, refine."""
        partitions = self.partitions
        if partitions is None:
            partitions = 0 if n <= SEARCHED_WHOLE else round(n**0.5)
        if partitions and n < max(LEAST_FOR_PQ, partitions):
            least = max(LEAST_FOR_PQ, partitions)
            raise UserError(f"{n} passages; IVF-PQ of {partitions} partitions takes {least} or more", "partitions")
        probes = max(16, partitions // 16) if self.probes is None else self.probes
        return {"partitions": partitions, "probes": min(probes, partitions), "refine": self.refine or 10}


def export_index(
    index: str | Path,
    output: str | Path,
    settings: ExportSettings,
    *,
    corpus: CorpusLike | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the vectors and ids of an index for another engine; return what `xqg.json` says of it.

    Args:
        index: a folder of `xqg index`, of type flat, fp16 or hnsw; of a language-aware one, one of its folders.
        output: the folder to write; it appears when it is whole.
        settings: the format and its settings.
        corpus: the corpus that was encoded, for titles and texts beside the vectors.
        overwrite: replace what `output` holds.

    Raises:
        UserError: for an index of codes, one that xqg did not write or that was changed; for a corpus with other ids
            or in another order; for vectors that do not fit into float16; without the package that a format needs.
    """
    source = FaissDirectory(Path(index))
    kind = (source.meta or {}).get("type")
    if source.meta is None or kind not in EXACT:
        what = "an index that xqg did not write" if source.meta is None else f"an index of type {kind}"
        raise UserError(f"{index}: {what}; export takes one of type {', '.join(EXACT)}")
    if corpus is not None and source.meta.get("delimiter") is not None:
        what = "has several vectors a passage, which have no texts of their own; leave the corpus out"
        raise UserError(f"{index}: {what}", "corpus")
    how = {"lance": settings.lance(source.n)} if settings.format == "lance" else {}
    if settings.format == "lance":
        import_lance()
    write = {"opensearch": _opensearch, "parquet": _parquet, "lance": _lance}[settings.format]
    batches = _Batches(source, settings.dtype, corpus)
    inputs = [index, corpus] if isinstance(corpus, str | os.PathLike) else [index]
    with writing_folder(output, overwrite, inputs) as folder:
        check_sum(source.path, INDEX, source.meta)
        write(folder, batches, settings)
        if source.centers is not None:
            shutil.copyfile(source.path / CENTERS, folder / CENTERS)
        meta = {**source.meta, "kind": EXPORT, "type": settings.format, "dtype": settings.dtype, **how}
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
        meta |= sums_meta({path.relative_to(folder).as_posix(): file_sums(path) for path in files})
        write_json(folder / META, meta)
    return meta


class _Batches:
    """The columns of an index, in blocks: `docid`, `vector` and, with a corpus, `title` and `text`."""

    def __init__(self, source: FaissDirectory, dtype: str, corpus: CorpusLike | None) -> None:
        import pyarrow as pa

        self.n, self.d = source.n, source.d
        self._source, self._dtype, self._corpus = source, dtype, corpus
        number = pa.float16() if dtype == "float16" else pa.float32()
        fields = {"docid": pa.string(), "vector": pa.list_(number, self.d)}
        if corpus is not None:
            fields |= {"title": pa.string(), "text": pa.string()}
        self.schema = pa.schema(fields)

    def __iter__(self) -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa

        ids = iterate_ids(self._source.path / DOCID)
        passages = None if self._corpus is None else as_corpus(self._corpus)
        with tqdm(total=self.n, desc="exporting", unit=" passages", disable=None) as bar:
            for _, block in self._source.blocks(block_rows(self.d)):
                docids = list(islice(ids, len(block)))
                columns: list[Any] = [docids, pa.FixedSizeListArray.from_arrays(pa.array(self._numbers(block)), self.d)]
                if passages is not None:
                    columns += self._texts(docids, passages)
                yield pa.record_batch(columns, self.schema)
                bar.update(len(block))
        if passages is not None and (more := next(passages, None)) is not None:
            raise more[0].error(f"passage {more[1].id!r} is not in {self._source.path}: {_SAME}", "corpus")

    def _numbers(self, block: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            numbers = np.require(block, self._dtype, ["C", "ALIGNED"])  # as Arrow wants it, and files are not
        if not np.isfinite(numbers).all():
            if np.isfinite(block).all():
                raise UserError(f"the vectors of {self._source.path} do not fit into float16; use float32", "dtype")
            raise UserError(f"{self._source.path / INDEX}: holds vectors with NaN; build it again")
        return numbers.reshape(-1)

    def _texts(self, docids: list[str], passages: Iterator[Any]) -> list[list[str]]:
        rows = list(islice(passages, len(docids)))
        for docid, (line, passage) in zip(docids, rows, strict=False):
            if passage.id != docid:
                raise line.error(f"passage {passage.id!r}, where {self._source.path} has {docid!r}: {_SAME}", "corpus")
        if len(rows) < len(docids):
            raise UserError(f"the corpus ends before passage {docids[len(rows)]!r}: {_SAME}", "corpus")
        return [[passage.title for _, passage in rows], [passage.text for _, passage in rows]]


_SAME = "give the corpus that the index was made of"


def _opensearch(folder: Path, batches: _Batches, settings: ExportSettings) -> None:
    method = {"name": "hnsw", "engine": "faiss", "space_type": "innerproduct"}
    properties: dict[str, Any] = {"vector": {"type": "knn_vector", "dimension": batches.d, "method": method}}
    properties |= {name: {"type": "text"} for name in batches.schema.names if name in ("title", "text")}
    write_json(folder / "index.json", {"settings": {"index": {"knn": True}}, "mappings": {"properties": properties}})
    for part, data in enumerate(_bulks(actions for batch in batches for actions in _actions(batch))):
        (folder / f"bulk-{part:05}.ndjson").write_bytes(data)


def _actions(batch: "pa.RecordBatch") -> Iterator[bytes]:
    """Yield of each passage the two lines that have it indexed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for start in range(0, len(batch), TEXT_ROWS):
        rows = batch.slice(start, TEXT_ROWS)
        vectors = rows["vector"]
        offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * np.int32(vectors.type.list_size))
        numbers = vectors.flatten().cast(pa.float32()).cast(pa.string())  # the shortest that read as the same
        texts = pc.binary_join(pa.ListArray.from_arrays(offsets, numbers), ",").to_pylist()
        for vector, record in zip(texts, rows.drop_columns("vector").to_pylist(), strict=True):
            docid = record.pop("docid")
            if len(docid.encode()) > LONGEST_ID:
                raise UserError(f"passage id {docid!r:.60} …: OpenSearch takes ids of {LONGEST_ID} bytes at most")
            action = json.dumps({"index": {"_id": docid}}, ensure_ascii=False)
            beside = "".join(f', "{name}": {json.dumps(text, ensure_ascii=False)}' for name, text in record.items())
            yield f'{action}\n{{"vector": [{vector}]{beside}}}\n'.encode()


def _bulks(actions: Iterator[bytes]) -> Iterator[bytes]:
    """Yield requests of at most `BULK_BYTES`; a longer passage is one by itself."""
    request = bytearray()
    for lines in actions:
        if request and len(request) + len(lines) > BULK_BYTES:
            yield bytes(request)
            request.clear()
        request += lines
    if request:
        yield bytes(request)


def _parquet(folder: Path, batches: _Batches, settings: ExportSettings) -> None:
    import pyarrow.parquet as pq

    (folder / "vectors").mkdir()
    rest = iter(batches)
    for part, first in enumerate(rest):
        path = folder / "vectors" / f"part-{part:05}.parquet"
        with pq.ParquetWriter(path, batches.schema, use_dictionary=False) as file:
            for batch in chain([first], islice(rest, PART_BLOCKS - 1)):
                file.write_batch(batch, row_group_size=len(batch))


def _lance(folder: Path, batches: _Batches, settings: ExportSettings) -> None:
    import pyarrow as pa

    lance = import_lance()
    failed: list[Exception] = []
    stop, idle = Event(), Event()
    idle.set()

    def passing() -> "Iterator[pa.RecordBatch]":
        idle.clear()
        try:
            for batch in batches:
                idle.set()
                yield batch
                idle.clear()
                if stop.is_set():
                    return
        except Exception as error:  # Lance would make it one of its own
            failed.append(error)
            raise
        finally:
            idle.set()

    reader = pa.RecordBatchReader.from_batches(batches.schema, passing())
    try:
        lance.write_dataset(reader, folder, max_rows_per_file=LANCE_ROWS)
    except BaseException:
        stop.set()  # a thread of Lance's may be reading on: a process that ends beside it would be aborted
        idle.wait(10)
        if failed:
            raise failed[0] from None
        raise
    partitions = settings.lance(batches.n)["partitions"]
    if partitions:
        codes = batches.d // gcd(batches.d, 8)  # a byte for 8 numbers, where d can be parted so
        index_vectors(folder, partitions, codes)
