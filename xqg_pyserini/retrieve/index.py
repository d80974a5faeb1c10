"""Stores → directories that Pyserini's own search commands read.

Flat and quantised indexes are written as a stream: Faiss's own header, then the codes of block
after block, so that memory does not grow with the corpus.  What cannot be built so is held in
memory: an HNSW graph with its vectors (4·d + about 272 bytes a passage), the codes of inverted
lists (d / 4 + 8 bytes of `ivfpq`, d + 8 of `ivfsq8`).
"""

import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import RunningSha256, file_sha256, write_json, writing_folder
from xqg_pyserini.fusion.formula import unit
from xqg_pyserini.fusion.fused import FusedStores, Languages
from xqg_pyserini.retrieve import inverted
from xqg_pyserini.retrieve.layout import ALL_LANGUAGES, CENTERS, DOCID, INDEX, LANGUAGE_AWARE, META, write_centers
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.settings import option
from xqg_pyserini.stores import StorePair, VectorStore

TYPES = ("flat", "fp16", "sq8", "hnsw", *inverted.KINDS)
HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 32, 200, 256
HNSW_BYTES = 272  # links of a passage
_NTOTAL_AT = 8  # in a Faiss file: after the type's four letters and the dimension

Blocks = Callable[[], Iterator[tuple[int, np.ndarray]]]


@dataclass(frozen=True)
class IndexSettings:
    """What kind of index is written."""

    kind: str = option(
        "flat",
        "float32, float16, 8-bit codes, a graph (held in memory), or inverted lists of short or 8-bit codes",
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
) -> Index:
    """Write an inner-product index of the passages alone, the baseline; see `Fused.write_index`.

    `kind` is one of `TYPES`: float32, float16, 8-bit codes, a graph over float32, or inverted
    lists (`inverted`); `normalize` scales the vectors to length 1.

    Raises:
        UserError: for a kind that is none or takes more passages, an output that holds something (without
            `overwrite`).
    """
    store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
    _check_kind(kind, store)

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        for block in StorePair(store, None).blocks():
            yield block.start, unit(block.passages) if normalize else block.passages

    with writing_folder(output, overwrite, [store.path]) as folder:
        sha256 = {INDEX: _write_faiss(folder / INDEX, kind, store, blocks)}
        shutil.copyfile(store.ids_path, folder / DOCID)
        sha256[DOCID] = file_sha256(folder / DOCID)
        write_json(folder / META, {**_describe(store, None, kind, normalize), "sha256": sha256})
    return Index(output)


def write_fused(
    fused: FusedStores, output: str | Path, kind: str, overwrite: bool, announce: Callable[[str], Any] | None = None
) -> Index:
    """Write the index of fused stores; see `Fused.write_index`."""
    store = fused.passages
    _check_kind(kind, store)
    with writing_folder(output, overwrite, [store.path, fused.queries.path]) as folder:
        if fused.own:
            if announce is not None:
                announce(_cost(kind, fused))
            _fill_languages(folder, kind, fused)
        else:
            _fill(folder, kind, fused, fused.languages)
    index = Index(output)
    if fused.own:
        fused.warn_without(fused.mixes)
    elif index.meta and not fused.fusion.shrink_queries and (without := index.meta["without_queries"]):
        languages = " ".join(fused.languages)
        warn(f"{without} of {store.n} passages have no queries in {languages} and keep their own embedding")
    return index


def _check_kind(kind: str, store: VectorStore) -> None:
    if kind not in TYPES:
        raise UserError(f"index type {kind!r}; expected {', '.join(TYPES)}", "kind")
    if kind in inverted.KINDS:
        inverted.planned(kind, store.n, store.d)


def _fill_languages(folder: Path, kind: str, fused: FusedStores) -> None:
    """Write an index for each language's own queries, and one with those of all."""
    for name, languages in {**{l: (l,) for l in fused.languages}, ALL_LANGUAGES: fused.languages}.items():
        (folder / name).mkdir()
        _fill(folder / name, kind, fused, languages)
    store = fused.passages
    meta = {"format": 1, "kind": LANGUAGE_AWARE, "type": kind, "n": store.n, "d": store.d, "encoder": store.encoder}
    write_json(folder / META, {**meta, "languages": list(fused.languages), "fallback": ALL_LANGUAGES})


def _cost(kind: str, fused: FusedStores) -> str:
    """Say what so many indexes of each type take, the chosen one marked, and what else there is."""
    store, indexes = fused.passages, len(fused.languages) + 1
    rows = 2 + len(fused.pair.totals())  # of centers.npy
    beside = store.ids_path.stat().st_size + (4 * store.d * rows if fused.fusion.center else 0)
    lines = [f"{indexes} indexes of {store.n} passages take"]
    d, short = store.d, inverted.planned("ivfpq", max(store.n, inverted.CODES), store.d).code_bytes
    widths = {"flat": 4 * d, "fp16": 2 * d, "sq8": d, "hnsw": 4 * d + HNSW_BYTES}
    for name, width in {**widths, "ivfpq": short + inverted.ID_BYTES, "ivfsq8": d + inverted.ID_BYTES}.items():
        one = store.n * width
        build = "a block to build" if name in ("flat", "fp16", "sq8") else f"{_size(one)} of memory to build"
        search = f"{_size(one)} to search (page cache where mapped, as xqg search does; held by Pyserini)"
        disk = _size(indexes * (one + beside))
        lines.append(f"{'*' if name == kind else ' '} {name}: {disk} of disk, {build}, {search}")
    lines.append("  or none: xqg search --language-aware reads the stores, and takes no more disk")
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _fill(folder: Path, kind: str, fused: FusedStores, languages: Languages) -> None:
    """Write the index with the queries of some of the chosen languages."""
    blocks = partial(fused.blocks, languages)
    sha256 = {INDEX: _write_faiss(folder / INDEX, kind, fused.passages, blocks)}
    shutil.copyfile(fused.passages.ids_path, folder / DOCID)
    sha256[DOCID] = file_sha256(folder / DOCID)
    if fused.fusion.center:
        write_centers(folder, fused.centers)
        sha256[CENTERS] = file_sha256(folder / CENTERS)
    meta = _describe(fused.passages, fused, kind, False, languages)
    write_json(folder / META, {**meta, "sha256": sha256})


def _describe(
    store: VectorStore, fused: FusedStores | None, kind: str, normalize: bool, languages: Languages = ()
) -> dict[str, Any]:
    meta: dict[str, Any] = {"format": 1, "type": kind, "n": store.n, "d": store.d, "encoder": store.encoder}
    if kind in inverted.KINDS:
        meta["inverted"] = inverted.planned(kind, store.n, store.d)._asdict()
    meta["normalized"] = normalize or store.normalized
    meta["passages"] = {k: store.meta[k] for k in ("ids_sha256", "vectors_sha256")}
    meta |= {"fusion": None, "queries": None}
    if fused:
        meta["normalized"] = fused.fusion.normalize
        how = asdict(fused.fusion)
        if not fused.fusion.shrink_queries:  # as indexes were described before there was any
            del how["shrink_queries"]
        meta["fusion"] = {**how, "languages": list(languages)}
        read = dict.fromkeys([*languages, *(fused.centers.queries if fused.fusion.center else ())])
        meta["queries"] = fused.queries.checksums(list(read))
        meta["without_queries"] = fused.without_queries(languages)
        if fused.fusion.center:
            meta["centers"] = list(fused.centers.queries)
    return meta


def _write_faiss(path: Path, kind: str, store: VectorStore, blocks: Blocks) -> str:
    """Write an index file; return its checksum."""
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
        return file_sha256(path)
    header, index = _header(kind, store, blocks)
    digest = RunningSha256()
    with bar, open(path, "wb") as file:
        file.write(header)
        digest.update(header)
        for _, block in blocks():
            data = index.sa_encode(np.ascontiguousarray(block))
            file.write(data)
            digest.update(data)
            bar.update(len(block))
    written = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    if (written.ntotal, written.d) != (store.n, store.d):
        raise RuntimeError("this version of Faiss writes another format than the one known here")
    return digest.hexdigest()


def _held(kind: str, store: VectorStore, blocks: Blocks) -> Any:
    """Return an index to which passages are added in memory, none yet."""
    import faiss

    if kind in inverted.KINDS:
        return inverted.learnt(kind, inverted.planned(kind, store.n, store.d), store.d, store.n, blocks())
    index = faiss.IndexHNSWFlat(store.d, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD, HNSW_SEARCH
    return index


def _header(kind: str, store: VectorStore, blocks: Blocks) -> tuple[bytes, Any]:
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
    struct.pack_into("<q", header, _NTOTAL_AT, store.n)
    struct.pack_into("<q", header, size_at, store.n * per_vector)
    return bytes(header), index


def _range(d: int, blocks: Blocks) -> np.ndarray:
    low, high = np.full(d, np.inf, dtype=np.float32), np.full(d, -np.inf, dtype=np.float32)
    for _, block in blocks():
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    return np.stack([low, high])
