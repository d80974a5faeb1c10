"""Stores → directories that Pyserini's own search commands read: `index`, `docid`, and ours.

Flat and quantised indexes are written as a stream: Faiss's own header, then the codes of block
after block, so that memory does not grow with the corpus.  An HNSW graph cannot be built so: it
is held in memory (4·d + about 272 bytes a passage).  A language-aware index is a folder of such
directories, one a language.
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import write_json, writing_folder
from xqg_pyserini.fusion.formula import Centers, Fusion, unit
from xqg_pyserini.fusion.fused import FusedPassages
from xqg_pyserini.stores import QueryStore, StorePair, VectorStore

INDEX, DOCID, META, CENTERS = "index", "docid", "xqg.json", "centers.npy"
ALL, LANGUAGE_AWARE = "all-languages", "language-aware"  # no language's code is like the former
TYPES = ("flat", "fp16", "sq8", "hnsw")
HNSW_LINKS, HNSW_BUILD, HNSW_SEARCH = 32, 200, 256
HNSW_BYTES = 272  # links of a passage
_NTOTAL_AT = 8  # in a Faiss file: after the type's four letters and the dimension

Blocks = Callable[[], Iterator[tuple[int, np.ndarray]]]


def build_index(
    passages: str | Path | VectorStore,
    output: str | Path,
    *,
    queries: str | Path | QueryStore | None = None,
    fusion: Fusion | None = None,
    kind: str = "flat",
    normalize: bool = False,
    skip_unknown: bool = False,
    allow_unequal: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write an inner-product index of the passages, augmented by `queries` as `fusion` says.

    Without `queries` it is the baseline: the passages' own vectors (scaled to length 1 with
    `normalize`).  `kind` is one of `TYPES`: float32, float16, 8-bit codes, or a graph over
    float32.  Returns what is written to `xqg.json`.

    Raises:
        UserError: see `FusedPassages`; for an output that holds something.
    """
    if kind not in TYPES:
        raise UserError(f"index type {kind!r}; expected {', '.join(TYPES)}")
    if (queries is None) != (fusion is None):
        raise UserError("an augmented index takes both queries and a fusion, the baseline neither")
    store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
    fused = None
    if queries is not None and fusion is not None:
        fused = FusedPassages(
            store, queries, fusion, skip_unknown=skip_unknown, allow_unequal=allow_unequal
        )
    inputs = [store.path, fused.queries.path if fused else None]
    with writing_folder(output, overwrite, inputs) as folder:
        if fused:
            _fill(folder, kind, fused, fused.languages)
        else:
            _write_faiss(folder / INDEX, kind, store, _plain_blocks(store, normalize))
            shutil.copyfile(store.ids_path, folder / DOCID)
            write_json(folder / META, _describe(store, None, kind, normalize))
        meta = json.loads((folder / META).read_text("utf-8"))
    if meta.get("without_queries"):
        warn(
            f"{meta['without_queries']} of {store.n} passages have no queries in "
            f"{' '.join(meta['fusion']['languages'])} and keep their own embedding"
        )
    return meta


def build_language_indexes(
    passages: str | Path | VectorStore,
    output: str | Path,
    *,
    queries: str | Path | QueryStore,
    fusion: Fusion,
    kind: str = "flat",
    skip_unknown: bool = False,
    allow_unequal: bool = False,
    overwrite: bool = False,
    announce: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write one index for each language, with that language's queries alone, and one with all.

    `output` holds a folder a language (`ar`, …) and `all-languages`, each of them an index that
    Pyserini reads, and `xqg.json`, which says so and is returned.  Searching it is searching the
    stores language-aware.  `announce` is told what it will take of disk and memory before anything
    is written.

    Raises:
        UserError: as `build_index` does; a sum must be over equal numbers in every language.
    """
    if kind not in TYPES:
        raise UserError(f"index type {kind!r}; expected {', '.join(TYPES)}")
    fused = FusedPassages(
        passages,
        queries,
        fusion,
        skip_unknown=skip_unknown,
        allow_unequal=allow_unequal,
        language_aware=True,
    )
    store = fused.passages
    with writing_folder(output, overwrite, [store.path, fused.queries.path]) as folder:
        sets = {**{l: (l,) for l in fused.languages}, ALL: fused.languages}
        announce(_cost(kind, fused, len(sets)))
        for name, languages in sets.items():
            (folder / name).mkdir()
            _fill(folder / name, kind, fused, languages)
        meta = {
            "format": 1,
            "kind": LANGUAGE_AWARE,
            "type": kind,
            "n": store.n,
            "d": store.d,
            "encoder": store.encoder,
            "languages": list(fused.languages),
            "fallback": ALL,
        }
        write_json(folder / META, meta)
    without = {l: fused.without_queries((l,)) for l in fused.languages}
    some = [f"{language} {n}" for language, n in without.items() if n]
    if some:
        warn(f"passages without queries, of {store.n}, keep their own embedding: {', '.join(some)}")
    return meta


def _cost(kind: str, fused: FusedPassages, indexes: int) -> str:
    """Say what so many indexes of each type take, the chosen one marked, and what else there is."""
    store = fused.passages
    rows = 2 + len(fused.pair.totals())  # of centers.npy
    beside = store.ids_path.stat().st_size + (4 * store.d * rows if fused.fusion.center else 0)
    lines = [f"{indexes} indexes of {store.n} passages take"]
    for name, width in (("flat", 4), ("fp16", 2), ("sq8", 1), ("hnsw", 4)):
        one = store.n * (width * store.d + (HNSW_BYTES if name == "hnsw" else 0))
        build = f"{_size(one)} of memory to build" if name == "hnsw" else "a block to build"
        lines.append(
            f"{'*' if name == kind else ' '} {name}: {_size(indexes * (one + beside))} of disk, "
            f"{build}, {_size(one)} to search (page cache where mapped, as xqg search does; held "
            "by Pyserini)"
        )
    lines.append("  or none: xqg search --language-aware reads the stores, and takes no more disk")
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _fill(folder: Path, kind: str, fused: FusedPassages, languages: tuple[str, ...]) -> None:
    """Write the index with the queries of some of the chosen languages."""

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        for block in fused.raw_blocks(languages):
            yield block.start, fused.fuse(block, languages)

    _write_faiss(folder / INDEX, kind, fused.passages, blocks)
    shutil.copyfile(fused.passages.ids_path, folder / DOCID)
    if fused.fusion.center:
        _write_centers(folder, fused.centers)
    write_json(folder / META, _describe(fused.passages, fused, kind, False, languages))


def _plain_blocks(store: VectorStore, normalize: bool) -> Blocks:
    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        for block in StorePair(store, None).blocks():
            yield block.start, unit(block.passages) if normalize else block.passages

    return blocks


def _describe(
    store: VectorStore,
    fused: FusedPassages | None,
    kind: str,
    normalize: bool,
    languages: tuple[str, ...] = (),
) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "format": 1,
        "type": kind,
        "n": store.n,
        "d": store.d,
        "encoder": store.encoder,
        "normalized": normalize or store.normalized,
        "passages": {k: store.meta[k] for k in ("ids_sha256", "vectors_sha256")},
        "fusion": None,
        "queries": None,
    }
    if fused:
        meta["normalized"] = fused.fusion.normalize
        meta["fusion"] = {**asdict(fused.fusion), "languages": list(languages)}
        meta["queries"] = fused.queries.checksums
        meta["without_queries"] = fused.without_queries(languages)
        if fused.fusion.center:
            meta["centers"] = list(fused.centers.queries)
    return meta


# ---------------------------------------------------------------- Faiss


def _write_faiss(path: Path, kind: str, store: VectorStore, blocks: Blocks) -> None:
    import faiss

    bar = tqdm(total=store.n, desc=f"indexing ({kind})", unit=" passages", disable=None)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(store.d, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = HNSW_BUILD, HNSW_SEARCH
        with bar:
            for _, block in blocks():
                index.add(np.ascontiguousarray(block))
                bar.update(len(block))
        faiss.write_index(index, str(path))
        return
    header, code = _empty_index(kind, store.d, blocks)
    with bar, open(path, "wb") as file:
        file.write(_with_count(header, store.n))
        for _, block in blocks():
            file.write(code(np.ascontiguousarray(block)))
            bar.update(len(block))
    written = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    if (written.ntotal, written.d) != (store.n, store.d):
        raise RuntimeError("this version of Faiss writes another format than the one known here")


class _Header(NamedTuple):
    """The file of an empty index, and what one vector adds to its last field."""

    data: bytes
    per_vector: int


def _empty_index(
    kind: str, d: int, blocks: Blocks
) -> tuple[_Header, Callable[[np.ndarray], bytes]]:
    """Return the file of a trained index without vectors, and what turns a block into codes."""
    import faiss

    if kind == "flat":
        index: Any = faiss.IndexFlatIP(d)
    else:
        bits = faiss.ScalarQuantizer.QT_fp16 if kind == "fp16" else faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexScalarQuantizer(d, bits, faiss.METRIC_INNER_PRODUCT)
        # the range of each dimension is all that training learns: two vectors carry it exactly
        index.train(_range(d, blocks) if kind == "sq8" else np.zeros((2, d), dtype=np.float32))
    empty = faiss.serialize_index(index).tobytes()
    index.add(np.zeros((1, d), dtype=np.float32))
    one = faiss.serialize_index(index).tobytes()
    (per_vector,) = struct.unpack_from("<q", one, len(empty) - 8)
    return _Header(empty, per_vector), lambda block: index.sa_encode(block).tobytes()


def _range(d: int, blocks: Blocks) -> np.ndarray:
    low, high = np.full(d, np.inf, dtype=np.float32), np.full(d, -np.inf, dtype=np.float32)
    for _, block in blocks():
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    return np.stack([low, high])


def _with_count(header: _Header, n: int) -> bytes:
    data = bytearray(header.data)
    struct.pack_into("<q", data, _NTOTAL_AT, n)
    struct.pack_into("<q", data, len(data) - 8, n * header.per_vector)
    return bytes(data)


# ---------------------------------------------------------------- reading it back


def _write_centers(folder: Path, centers: Centers) -> None:
    rows = [centers.passages, centers.pooled, *centers.queries.values()]
    np.save(folder / CENTERS, np.stack(rows), allow_pickle=False)


class FaissIndex:
    """A Faiss directory opened for search: Pyserini's, or ours with what `xqg.json` says.

    Attributes: `n`, `d`; `meta` (None for an index that xqg did not write); `centers` (None
    where it is not centred).  The index is memory-mapped.
    Raises `UserError` where a file is missing or they do not belong together.
    """

    def __init__(self, path: str | Path) -> None:
        import faiss

        self.path = Path(path)
        refuse_language_aware(self.path)
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such index (expected a folder with {INDEX}, {DOCID})")
        for name in (INDEX, DOCID):
            if not (self.path / name).is_file():
                raise UserError(
                    f"{self.path / name}: missing; this is no Faiss index of Pyserini's"
                )
        try:
            self._index = faiss.read_index(str(self.path / INDEX), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{self.path / INDEX}: Faiss cannot read it ({reason})") from None
        self.n, self.d = int(self._index.ntotal), int(self._index.d)
        with open(self.path / DOCID, "rb") as file:
            lines = sum(1 for _ in file)
        if lines != self.n:
            raise UserError(
                f"{self.path / DOCID}: {lines} ids for {self.n} vectors; build it again"
            )
        if self._index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise UserError(f"{self.path / INDEX}: not an inner-product index")
        self.meta, self.centers = read_centers(self.path)
        if self.meta is not None and (self.meta["n"], self.meta["d"]) != (self.n, self.d):
            raise UserError(
                f"{self.path}: {INDEX} has {self.n} x {self.d} vectors, {META} says "
                f"{self.meta['n']} x {self.meta['d']}; build the index again"
            )

    def search(self, vectors: np.ndarray, hits: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (q, k) float32 and rows (q, k) int64 of the best k = min(hits, n)."""
        import faiss

        scores, rows = self._index.search(np.ascontiguousarray(vectors), min(hits, self.n))
        exhaustive = isinstance(self._index, faiss.IndexFlat | faiss.IndexScalarQuantizer)
        if exhaustive and (rows < 0).any():  # what has no score is not found
            raise UserError(f"{self.path / INDEX}: holds vectors with NaN; build it again")
        return scores, rows


def read_centers(folder: Path) -> tuple[dict[str, Any] | None, Centers | None]:
    """Return what `xqg.json` says of an index, and its centres where it is centred."""
    file = folder / META
    if not file.is_file():
        return None, None
    try:
        meta = json.loads(file.read_text("utf-8"))
        if not {"n", "d", "encoder"} <= set(meta):
            raise ValueError("n, d or encoder is missing")
        languages = meta.get("centers")
        if languages is None:
            return meta, None
        rows = np.load(folder / CENTERS, allow_pickle=False)
        if rows.shape != (len(languages) + 2, meta["d"]):
            raise ValueError(f"{CENTERS} has the shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError(f"{CENTERS} holds NaN or infinity")
    except (ValueError, OSError, KeyError, AttributeError, TypeError, EOFError) as error:
        raise UserError(f"{file}: damaged ({error}); build the index again") from None
    return meta, Centers(rows[0], dict(zip(languages, rows[2:], strict=True)), rows[1])


class LanguageIndexes:
    """Indexes of which each question's language has its own; see `build_language_indexes`.

    `paths` maps languages to folders; None to that of all languages, which serves questions in
    any other language.  Given is a language-aware folder, or some of the folders in it.
    Raises `UserError` where one is no such folder, or two are for one language.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = [Path(folder) for folder in folders]
        self.paths: dict[str | None, Path] = {}
        for folder in self.folders:
            inner = language_aware(folder)
            if inner is not None and len(self.folders) == 1:
                self.paths = {**{l: folder / l for l in inner}, None: folder / ALL}
                break
            if inner is not None:
                raise UserError(
                    f"{folder}: give the language-aware folder alone, or some of the folders in it"
                )
            languages = self._languages(folder)
            one = languages[0] if len(languages) == 1 and folder.name != ALL else None
            if one in self.paths:
                raise UserError(
                    f"{self.paths[one]} and {folder} are both for {one or 'all languages'}; "
                    "give one index a language"
                )
            self.paths[one] = folder

    @staticmethod
    def _languages(folder: Path) -> list[str]:
        meta, _ = read_centers(folder)
        fusion = (meta or {}).get("fusion")
        if not fusion:
            raise UserError(
                f"{folder}: does not say the languages mixed into it; several indexes are those "
                "of xqg index --language-aware"
            )
        return list(fusion["languages"])

    def of(self, language: str | None) -> Path:
        """Return the index for questions in a language."""
        path = self.paths.get(language, self.paths.get(None))
        if path is None:
            held = " ".join(sorted(filter(None, self.paths)))
            raise UserError(
                f"no index for questions in {language!r}: there are {held}; "
                f"give that of all languages as well ({ALL})"
            )
        return path


def refuse_language_aware(folder: str | Path) -> None:
    """Raise `UserError` for a language-aware folder where one index is wanted."""
    inner = language_aware(folder)
    if inner is not None:
        some = " ".join(str(Path(folder) / name) for name in (*inner, ALL))
        raise UserError(f"{folder} is a folder of one index a language: give one of {some}")


def language_aware(folder: str | Path) -> list[str] | None:
    """Return the languages of a language-aware folder; None for any other."""
    try:
        meta = json.loads((Path(folder) / META).read_text("utf-8"))
        if meta.get("kind") != LANGUAGE_AWARE:
            return None
        if not meta["languages"]:
            raise TypeError("it names no languages")
        return [str(language) for language in meta["languages"]]
    except (OSError, ValueError, AttributeError):
        return None
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{Path(folder) / META}: damaged ({error}); build the index again"
        ) from None
