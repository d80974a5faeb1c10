"""Stores → directories that Pyserini's own search commands read.

Flat and quantised indexes are written as a stream: Faiss's own header, then the codes of block
after block, so that memory does not grow with the corpus.  What cannot be built so is held in
memory: an HNSW graph with its vectors (4·d + about 272 bytes a passage), the codes of inverted
lists (d / 4 + 8 bytes of `ivfpq`, d + 8 of `ivfsq8`).  Lucene's are Anserini's to write (`lucene`).
"""

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import to_builtins
from tqdm import tqdm

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import RunningSums, file_sums, write_json, writing_folder
from xqg_pyserini.fusion.formula import unit
from xqg_pyserini.fusion.fused import FusedStores, Languages
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve import inverted, lucene
from xqg_pyserini.retrieve.layout import (
    ALL_LANGUAGES,
    CENTERS,
    DOCID,
    INDEX,
    LANGUAGE_AWARE,
    LUCENE,
    META,
    NTOTAL_AT,
    sums_meta,
    write_centers,
)
from xqg_pyserini.retrieve.merge import check_joined, write_whole
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.retrieve.sharding import Replacing, WrittenShards, write_shards
from xqg_pyserini.settings import option
from xqg_pyserini.stores import Shard, ShardSettings, StorePair, VectorStore, copy_ids, sum_file

TYPES = ("flat", "fp16", "sq8", "hnsw", *inverted.KINDS, *LUCENE)
HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 32, 200, 256
HNSW_BYTES = 272  # links of a passage

Blocks = Callable[[], Iterator[tuple[int, np.ndarray]]]


@dataclass(frozen=True)
class IndexSettings:
    """What kind of index is written."""

    kind: str = option(
        "flat",
        "float32, float16, 8-bit codes, a graph (held in memory), inverted lists of short or 8-bit codes; or Lucene's, "
        "by Anserini (Java): float32, a graph, a graph of 8-bit codes",
        *TYPES,
        flag="type",
    )


def write_index(
    passages: str | Path | VectorStore,
    output: str | Path,
    kind: str = IndexSettings.kind,
    *,
    normalize: bool = False,
    overwrite: bool = False,
    repair: bool = False,
    cluster: str | None = None,
) -> Index:
    """Write an inner-product index of the passages alone, the baseline; see `Fused.write_index`.

    `kind` is one of `TYPES`: float32, float16, 8-bit codes, a graph over float32, inverted lists (`inverted`), or
    Lucene's of vectors of length 1 (`lucene`); `normalize` scales the vectors to length 1; `repair` replaces what
    `output` holds of this same job if it is damaged; a `cluster` ("ray" or "ray:ADDRESS") does the same in shards
    (`merge.write_whole`).

    Raises:
        UserError: for a kind that is none or takes more passages, an output that holds something (without
            `overwrite`).
    """
    store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
    replacing = Replacing(overwrite, repair)
    if cluster is None:
        _Indexing(store, None, kind, normalize).write(Path(output), replacing)
    else:
        write_whole(
            output, partial(index_shards, store, kind=kind, normalize=normalize), cluster, replacing, [store.path]
        )
    return Index(output)


def write_fused(
    fused: FusedStores,
    output: str | Path,
    kind: str,
    replacing: Replacing,
    announce: Callable[[str], Any] | None = None,
    cluster: str | None = None,
) -> Index:
    """Write the index of fused stores; see `Fused.write_index`."""
    indexing = _Indexing(fused.passages, fused, kind)
    if cluster is not None:
        write_whole(output, partial(index_shards, fused, kind=kind), cluster, replacing, indexing.inputs)
    elif not fused.own:
        indexing.write(Path(output), replacing)
    elif not replacing.stands(Path(output), META, partial(_describe_folder, kind, fused), None):
        with writing_folder(output, replacing.allowed, indexing.inputs) as folder:
            if announce is not None:
                announce(_cost(kind, fused))
            for name, mixed in {**{l: (l,) for l in fused.languages}, ALL_LANGUAGES: fused.languages}.items():
                (folder / name).mkdir()
                indexing.fill(folder / name, mixed)
            write_json(folder / META, _describe_folder(kind, fused))
    if fused.own:
        fused.warn_without(fused.mixes)
    return Index(output)


def index_shards(
    passages: str | Path | VectorStore | FusedStores,
    output: str | Path,
    shards: ShardSettings,
    kind: str = IndexSettings.kind,
    *,
    normalize: bool = False,
    overwrite: bool = False,
    repair: bool = False,
) -> WrittenShards:
    """Write the indexes of some shards of the passages, or of all, each in a folder of its own in the folder `output`.

    Each is an index as `write_index` (or `Fused.write_index`, of stores that are fused) writes it, of its own passages;
    what is learnt of the passages (means, the range of 8-bit codes) is that of all of them.  A shard that stands there
    whole stays.  `retrieve.merge` joins flat, fp16 and sq8 indexes to the bytes of the whole.

    Raises:
        UserError: as `write_index`; for an index a language; for a shard of another job, or a damaged one without
            `repair`.
    """
    fused = passages if isinstance(passages, FusedStores) else None
    if fused is not None and fused.own:
        about = "cluster" if shards.on_the_way else "num_shards"
        raise UserError("shards are of one index, not of one a language", (about, "language_aware"))
    given = passages.passages if isinstance(passages, FusedStores) else passages
    store = given if isinstance(given, VectorStore) else VectorStore(given)
    if shards.on_the_way:
        check_joined(kind)
    indexing, replacing = _Indexing(store, fused, kind, normalize), Replacing(overwrite, repair, shards.on_the_way)
    return write_shards(output, shards, store.n, store.meta["ids_sha256"], indexing, replacing)


class _Indexing:
    """What is indexed, and how."""

    def __init__(self, store: VectorStore, fused: FusedStores | None, kind: str, normalize: bool = False) -> None:
        _check_kind(kind, store)
        self.store, self.fused, self.kind, self.normalize = store, fused, kind, normalize
        self.inputs = [store.path, *([fused.queries.path] if fused else [])]
        self._learnt: np.ndarray | None = None

    @property
    def computing(self) -> Computing:
        return Computing(device="cpu")

    def prepare(self, device: str, folder: Path) -> None:
        """Read both stores once for their checksums, and learn what is learnt of all passages."""
        fused = self.fused
        if fused and (fused.fusion.center or fused.fusion.shrink_queries):
            _ = fused.centers  # is kept
        if self.kind == "sq8":
            next(self._learn(fused.languages if fused else ()))
        self.store.verify()
        if fused:
            for language in fused.languages:
                fused.queries.verify(sum_file(language, fused.queries.first))

    def write(self, output: Path, replacing: Replacing, shard: Shard | None = None) -> bool:
        """Write the index of all passages, or of a shard; tell whether it had to be."""
        languages = self.fused.languages if self.fused else ()
        if replacing.stands(output, META, partial(self._describe, languages, shard), shard):
            return False
        with writing_folder(output, replacing.allowed, self.inputs) as folder:
            without = self.fill(folder, languages, shard)
        if self.fused and without and not self.fused.fusion.shrink_queries:
            of, n = ("", self.store.n) if shard is None else (f"{shard}: ", len(shard.rows))
            what = f"{without} of {n} passages have no queries in {' '.join(languages)}"
            warn(f"{of}{what} and keep their own embedding")
        return True

    def fill(self, folder: Path, languages: Languages, shard: Shard | None = None) -> int:
        """Write the index with the queries of some of the chosen languages; return how many passages have none."""
        rows = shard.rows if shard else range(self.store.n)
        meta, fused = self._describe(languages, shard), self.fused
        blocks = partial(self._blocks, languages, rows)
        learn = partial(self._learn, languages) if shard else blocks
        copy_ids(self.store.ids_path, folder / DOCID, rows)
        shape = _Shape(len(rows), self.store.d)
        if self.kind in LUCENE:
            sums = lucene.write_lucene(folder, self.kind, shape, blocks)
        else:
            sums = {INDEX: _write_faiss(folder / INDEX, self.kind, shape, blocks, learn)}
        sums[DOCID] = file_sums(folder / DOCID)
        if fused is not None and fused.fusion.center:
            write_centers(folder, fused.centers)
            sums[CENTERS] = file_sums(folder / CENTERS)
            meta["centers"] = list(fused.centers.queries)
        meta |= {"shard": to_builtins(shard)} if shard else {}
        write_json(folder / META, meta | sums_meta(sums))
        return meta.get("without_queries", 0)

    def _blocks(self, languages: Languages, rows: range) -> Iterator[tuple[int, np.ndarray]]:
        if self.fused is not None:
            yield from ((start - rows.start, block) for start, block in self.fused.blocks(languages, rows))
            return
        for block in StorePair(self.store, None).blocks((), rows):
            yield block.start - rows.start, unit(block.passages) if self.normalize else block.passages

    def _learn(self, languages: Languages) -> Iterator[tuple[int, np.ndarray]]:
        """Yield two vectors with the range of all, found once for all shards."""
        if self._learnt is None:
            self._learnt = _range(self.store.d, partial(self._blocks, languages, range(self.store.n)))
        yield 0, self._learnt

    def _describe(self, languages: Languages, shard: Shard | None) -> dict[str, Any]:
        store, fused = self.store, self.fused
        rows = shard.rows if shard else None
        meta: dict[str, Any] = {"format": 1, "type": self.kind, "n": len(rows) if rows else store.n, "d": store.d}
        meta["encoder"] = store.encoder
        if self.kind in inverted.KINDS:
            meta["inverted"] = inverted.planned(self.kind, meta["n"], store.d)._asdict()
        if self.kind in LUCENE and (graph := lucene.planned(self.kind)):
            meta["lucene"] = graph
        meta["normalized"] = self.normalize or store.normalized
        meta["passages"] = {k: store.meta[k] for k in ("ids_sha256", "vectors_sha256")}
        meta |= {"fusion": None, "queries": None}
        meta |= {} if store.delimiter is None else {"delimiter": store.delimiter}
        if fused:
            meta["normalized"] = fused.fusion.normalize
            how = asdict(fused.fusion)
            if not fused.fusion.shrink_queries:  # as indexes were described before there was any
                del how["shrink_queries"]
            meta["fusion"] = {**how, "languages": list(languages)}
            read = dict.fromkeys([*languages, *(fused.centers.queries if fused.fusion.center else ())])
            meta["queries"] = fused.queries.checksums(list(read))
            meta["without_queries"] = fused.without_queries(languages, rows)
        return meta


class _Shape(NamedTuple):
    n: int
    d: int


def _check_kind(kind: str, store: VectorStore) -> None:
    if kind not in TYPES:
        raise UserError(f"index type {kind!r}; expected {', '.join(TYPES)}", "kind")
    if kind in inverted.KINDS:
        inverted.planned(kind, store.n, store.d)


def _describe_folder(kind: str, fused: FusedStores) -> dict[str, Any]:
    store = fused.passages
    meta = {"format": 1, "kind": LANGUAGE_AWARE, "type": kind, "n": store.n, "d": store.d, "encoder": store.encoder}
    return {**meta, "languages": list(fused.languages), "fallback": ALL_LANGUAGES}


def _cost(kind: str, fused: FusedStores) -> str:
    """Say what so many indexes of each type take, the chosen one marked, and what else there is."""
    store, indexes = fused.passages, len(fused.languages) + 1
    rows = 2 + len(fused.pair.totals())  # of centers.npy
    beside = store.ids_path.stat().st_size + (4 * store.d * rows if fused.fusion.center else 0)
    lines = [f"{indexes} indexes of {store.n} passages take"]
    d, short = store.d, inverted.planned("ivfpq", max(store.n, inverted.CODES), store.d).code_bytes
    links = lucene.LINK_BYTES + lucene.BESIDE_BYTES
    widths = {"flat": 4 * d, "fp16": 2 * d, "sq8": d, "hnsw": 4 * d + HNSW_BYTES}
    widths |= {"ivfpq": short + inverted.ID_BYTES, "ivfsq8": d + inverted.ID_BYTES}
    widths |= dict(zip(LUCENE, (4 * d + lucene.BESIDE_BYTES, 4 * d + links, 5 * d + links), strict=True))
    for name, width in widths.items():
        one = store.n * width
        build = "a block to build" if name in ("flat", "fp16", "sq8") else f"{_size(one)} of memory to build"
        if name in LUCENE:
            build = f"{_size(lucene.heap(name, store.n, d) * 1e6)} of memory and {_size(4 * store.n * d)} more to build"
        search = f"{_size(one)} to search (page cache where mapped, as xqg search does; held by Pyserini)"
        disk = _size(indexes * (one + beside))
        lines.append(f"{'*' if name == kind else ' '} {name}: {disk} of disk, {build}, {search}")
    lines.append("  or none: xqg search --language-aware reads the stores, and takes no more disk")
    return "\n".join(lines)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _write_faiss(path: Path, kind: str, store: _Shape, blocks: Blocks, learn: Blocks) -> dict[str, str]:
    """Write an index file of `blocks`, by what is learnt from `learn`; return its checksums."""
    import faiss
    from threadpoolctl import threadpool_limits

    bar = tqdm(total=store.n, desc=f"indexing ({kind})", unit=" passages", disable=None)
    if kind == "hnsw" or kind in inverted.KINDS:
        with bar, nullcontext() if kind == "hnsw" else threadpool_limits(1):
            index = _held(kind, store, blocks)
            for _, block in blocks():
                index.add(np.ascontiguousarray(block))
                bar.update(len(block))
        faiss.write_index(index, str(path))
        return file_sums(path)
    header, index = _header(kind, store, learn)
    digest = RunningSums()
    with bar, open(path, "wb") as file, ThreadPoolExecutor(1) as beside:

        def put(block: np.ndarray) -> None:
            data = index.sa_encode(np.ascontiguousarray(block))
            file.write(data)
            digest.update(data)
            bar.update(len(block))

        file.write(header)
        digest.update(header)
        last: Future[None] | None = None
        for _, block in blocks():  # while one is written, the next is made
            if last is not None:
                last.result()
            last = beside.submit(put, block)
        if last is not None:
            last.result()
    written = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    if (written.ntotal, written.d) != (store.n, store.d):
        raise RuntimeError("this version of Faiss writes another format than the one known here")
    return digest.hexdigests()


def _held(kind: str, store: _Shape, blocks: Blocks) -> Any:
    """Return an index to which passages are added in memory, none yet."""
    import faiss

    if kind in inverted.KINDS:
        return inverted.learnt(kind, inverted.planned(kind, store.n, store.d), store.d, store.n, blocks())
    index = faiss.IndexHNSWFlat(store.d, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD, HNSW_SEARCH
    return index


def _header(kind: str, store: _Shape, blocks: Blocks) -> tuple[bytes, Any]:
    """Return what stands before the codes of an index of all passages, and the trained index that makes the codes."""
    import faiss

    d = store.d
    if kind == "flat":
        index: Any = faiss.IndexFlatIP(d)
    else:
        bits = faiss.ScalarQuantizer.QT_fp16 if kind == "fp16" else faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexScalarQuantizer(d, bits, faiss.METRIC_INNER_PRODUCT)
        # the range of each dimension is all that training learns: two vectors carry it exactly
        index.train(_range(d, blocks) if kind == "sq8" else np.zeros((2, d), dtype=np.float32))
    header = bytearray(faiss.serialize_index(index).tobytes())
    size_at = len(header) - 8  # of the codes: the last field before them
    index.add(np.zeros((1, d), dtype=np.float32))
    (per_vector,) = struct.unpack_from("<q", faiss.serialize_index(index).tobytes(), size_at)
    struct.pack_into("<q", header, NTOTAL_AT, store.n)
    struct.pack_into("<q", header, size_at, store.n * per_vector)
    return bytes(header), index


def _range(d: int, blocks: Blocks) -> np.ndarray:
    low, high = np.full(d, np.inf, dtype=np.float32), np.full(d, -np.inf, dtype=np.float32)
    for _, block in blocks():
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    return np.stack([low, high])
