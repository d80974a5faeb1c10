"""Shards of a store or an index → the whole, with the bytes that one job would have written."""

import os
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct
from tqdm import tqdm

from xqg_pyserini import stores
from xqg_pyserini.errors import BusyOutput, UserError
from xqg_pyserini.files import RunningSums, file_sha256, file_sums, held_folder, is_ours, real_path, write_json
from xqg_pyserini.fusion.alignment import ALIGNMENT
from xqg_pyserini.metadata import checked, difference, read_json
from xqg_pyserini.models.engines import are_one
from xqg_pyserini.models.registry import PROBED
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.directories import FaissDirectory, open_one
from xqg_pyserini.retrieve.layout import NTOTAL_AT
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.retrieve.sharding import Replacing, WrittenShards
from xqg_pyserini.stores import Job, QueryStore, Shard, ShardSettings, VectorStore, shard_folders
from xqg_pyserini.stores.moments import MOMENTS, DescribedMoments, Moments
from xqg_pyserini.stores.shards import missing
from xqg_pyserini.stores.store import BLOCK_BYTES, changed

JOINED = ("flat", "fp16", "sq8")  # index types whose codes stand one after the other
_AGAIN = "write the shard again"


class _Kind(Struct):
    kind: str | None = None


@dataclass(frozen=True)
class _Part:
    """A shard that was opened and looked at; of thousands not all can be open at a time."""

    path: Path
    file: str  # that describes it
    kind: type[VectorStore] | type[QueryStore] | type[FaissDirectory]
    n: int
    d: int
    meta: dict[str, Any]
    shard: Shard | None


def merge_shards(
    parts: str | Path | Sequence[str | Path], output: str | Path, *, overwrite: bool = False
) -> VectorStore | QueryStore | Index:
    """Join all shards of a passage store, a query store or an index; killed, it goes on at a shard.

    Args:
        parts: the shards, or folders of them, in any order.
        output: the folder to write.
        overwrite: replace what `output` holds.

    Raises:
        UserError: for a shard that is missing, given twice, damaged, or of another job; for graphs, which cannot be
            joined, and for alignments, which `retrieve.align.align` adds up.
    """
    given = [parts] if isinstance(parts, str | Path) else list(parts)
    if any(real_path(output).parent == real_path(one) for one in given):
        raise UserError(f"{output}: in a folder of the shards; give the output another place")
    ordered, whole = _ordered([_part(path) for path in _folders(given)])
    job = {"stage": "merge", "shards": [file_sha256(part.path / part.file) for part in ordered]}
    first = ordered[0]
    if first.kind is FaissDirectory:
        check_joined(first.meta["type"], first.path.parent)
    with stores.resumable(output, job, overwrite, [*given, *(part.path for part in ordered)]) as part:
        join = _join_indexes if first.kind is FaissDirectory else _join_stores
        join(ordered, whole, part)
    if first.kind is FaissDirectory:
        return Index(output)
    return QueryStore(output) if first.kind is QueryStore else VectorStore(output)


def check_joined(kind: str, folder: Path | None = None) -> None:
    """Raise `UserError` for a type of index whose shards, in a folder, cannot be joined to the whole."""
    if kind in JOINED:
        return
    what = f"{kind} of all passages is another than its parts together"
    if folder is not None:
        remedy = "search the folder of shards as it is, or write the index in one"
        raise UserError(f"{folder}: {what}; {remedy}")
    remedy = "say how many shards, whose folder is searched as it is, or write it without a cluster"
    raise UserError(f"{what}; {remedy}", ("num_shards", "cluster"))


def write_whole(
    output: str | Path,
    write: Callable[..., WrittenShards],
    cluster: str,
    replacing: Replacing,
    inputs: Sequence[Any],
    join: Callable[[list[Path], str | Path, bool], Any] | None = None,
) -> Any:
    """Have a cluster write an output that is whole: in shards, in a hidden folder beside it, which are then joined.

    Killed, it goes on with the shards that are not there; these take the output's space again until they are joined.

    Args:
        output: the folder to write.
        write: writes shards: `encode_shards` or its like, with all but the output and the shards given.
        cluster: "ray" or "ray:ADDRESS".
        replacing: what may be replaced.
        inputs: paths that the output must not destroy.
        join: makes the whole of the folders of shards; default: `merge_shards`.

    Raises:
        UserError: for a repair, which is of an output that stands; and as what writes and joins does.
    """
    if replacing.repair:
        what = "a cluster writes what is not there; repair without it, or overwrite"
        raise UserError(what, ("cluster", "repair", "overwrite"))
    whole = real_path(output)
    folder = whole.parent / f".{whole.name}.shards"
    with held_folder(output, replacing.overwrite, inputs):
        try:
            written = write(output=folder, shards=ShardSettings(cluster=cluster))
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    parts = [folder / name for name in written.shards if (folder / name).is_dir()]
    try:
        made = (join or _merged)(parts, output, replacing.overwrite)
    except BusyOutput:
        raise
    except UserError:  # they do not fit together, and would not another time
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)
    return made


def _merged(parts: list[Path], output: str | Path, overwrite: bool) -> Any:
    return merge_shards(parts, output, overwrite=overwrite)


def _folders(parts: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, parts):
        if is_ours(path):
            found.append(path)
        elif folders := shard_folders(path):
            found += folders
        else:
            raise UserError(f"{path}: neither a shard nor a folder of shards")
    return found


def _part(path: Path) -> _Part:
    if (path / ALIGNMENT).is_file():
        raise UserError(f"{path}: an alignment; xqg align adds several up")
    if (path / layout.META).is_file():
        index = open_one(path)
        return _Part(
            path, layout.META, FaissDirectory, index.n, index.d, index.meta or {}, layout.described(path).shard
        )
    kind = QueryStore if read_json(path / stores.META, _Kind, _AGAIN).kind == stores.QUERY_SUMS else VectorStore
    store = kind(path)
    return _Part(path, stores.META, kind, store.n, store.d, store.meta, store.shard)


def _ordered(parts: Sequence[_Part]) -> tuple[list[_Part], Shard]:
    """Return the parts in their order, and a shard, which says of what; or raise `UserError` where they do not fit."""
    first, by_number = parts[0], dict[int, _Part]()
    for part in parts:
        shard = part.shard
        if shard is None:
            raise UserError(f"{part.path}: not one of several shards; what is whole needs no joining")
        if (before := by_number.setdefault(shard.number, part)) is not part:
            raise UserError(f"{before.path} and {part.path} are both {shard}; give one")
        if part.n != len(shard.rows):
            what = f"{part.n} passages, expected {len(shard.rows)}"
            raise UserError(f"{part.path / part.file}: {what} in {shard}; {_AGAIN}")
        if (one := _common(first)) != (other := _common(part, first)):
            differ = difference("it", other, one).removeprefix("it.")
            raise UserError(f"{part.path} and {first.path} are not of one whole: {differ}")
    whole = first.shard
    assert whole is not None
    if lost := missing(by_number, whole.of):
        raise UserError(f"of {whole.of} shards some are missing: {lost}; write or give these too")
    return [by_number[i] for i in range(whole.of)], whole


def _common(part: _Part, first: _Part | None = None) -> dict[str, Any]:
    """Return what all shards of a whole must say alike; as the first one says it, where only rounding differs."""
    own = {"n", "ids_sha256", "vectors_sha256", "sums_sha256", "counts_sha256", "sha256", "xxh3", "queries", "blank"}
    own |= {MOMENTS, "without_queries"}
    if part.kind is FaissDirectory:
        own -= {"queries"}  # of an index, the checksums of the query store
    said = {key: value for key, value in part.meta.items() if key not in own}
    ours, theirs = (each.meta.get("encoder") or {} for each in (part, first or part))
    if ours.get("backend") in PROBED and are_one(ours.get("fingerprint"), theirs.get("fingerprint")):
        said["encoder"] = {**ours, "fingerprint": theirs["fingerprint"]}
    shard = {key: value for key, value in part.meta["shard"].items() if key != "number"} if part.shard else None
    return said | {"shard": shard, "kept": list(said.get("kept", ())), MOMENTS: MOMENTS in part.meta}


def _write_ids(parts: Sequence[_Part], whole: Shard, path: Path, name: str) -> None:
    with open(path, "wb") as out:
        for part in parts:
            out.write((part.path / name).read_bytes())
    if file_sha256(path) != whole.ids_sha256:
        raise UserError(f"{parts[0].path.parent}: the shards' ids together are not those of the whole; {_AGAIN}")


# ---------------------------------------------------------------- stores


def _join_stores(parts: Sequence[_Part], whole: Shard, job: Job) -> None:
    first = _views(parts[0])
    files = {name: job.path / name for name in first}
    if job.done:
        matrices = {name: stores.reopen_matrix(path) for name, path in files.items()}
    else:
        shapes = {name: view.matrices[name] for name, view in first.items()}
        matrices = {
            name: stores.create_matrix(files[name], (whole.passages, like.shape[1]), like.dtype.name)
            for name, like in shapes.items()
        }
    for i in tqdm(range(job.done, whole.of), desc="joining", unit=" shards", disable=None):
        start = Shard(i, whole.of, whole.passages, whole.ids_sha256).rows.start
        for name, view in _views(parts[i]).items():
            matrix, step = view.matrices[name], stores.block_rows(view.d)
            for row in range(0, view.n, step):
                rows = range(row, min(row + step, view.n))
                view.checked(matrix[rows.start : rows.stop], name, rows)
                matrices[name][start + rows.start : start + rows.stop] = matrix[rows.start : rows.stop]
        if job.due:
            job.save(i + 1, matrices.values())
    for matrix in matrices.values():
        matrix.flush()
    _write_ids(parts, whole, job.path / stores.IDS, stores.IDS)
    meta: dict[str, Any] = {**parts[0].meta, "n": whole.passages, "ids_sha256": whole.ids_sha256}
    del meta["shard"]
    if stores.VECTORS in files:
        sums = file_sums(files[stores.VECTORS])
        meta |= {"vectors_sha256": sums["sha256"], "xxh3": {stores.VECTORS: sums["xxh3"]}}
    else:
        meta |= _described_sums(parts, files, job)
    write_json(job.path / stores.META, meta)


def _views(part: _Part) -> dict[str, Any]:
    """Return by what object each matrix of a store is read."""
    store: Any = part.kind(part.path)
    kept = [QueryStore(store.path, k) for k in store.kept] if isinstance(store, QueryStore) else []
    return {name: view for view in (store, *kept) for name in view.matrices}


def _described_sums(parts: Sequence[_Part], files: dict[str, Path], job: Job) -> dict[str, Any]:
    """Return what `meta.json` says of all sums, and write the moments, where the shards keep some."""
    first = parts[0].meta
    meta: dict[str, Any] = {key: sum(part.meta[key] for part in parts) for key in ("queries", "blank")}
    meta |= stores.sums_meta(job.path, first["languages"], [int(k) for k in first.get("kept", ())])
    if MOMENTS in first:
        moments = Moments(first["languages"], parts[0].d)
        for part in parts:
            said = checked(part.meta[MOMENTS], DescribedMoments, part.path / part.file, _AGAIN)
            moments.merge(Moments.open(part.path / MOMENTS, said, moments.d))
        meta[MOMENTS] = moments.save(job.path / MOMENTS)
    return meta


# ---------------------------------------------------------------- indexes


def _join_indexes(parts: Sequence[_Part], whole: Shard, job: Job) -> None:
    headers = [_header(part) for part in parts]
    for part, (own, _) in zip(parts, headers, strict=True):
        if _blank(own) != _blank(headers[0][0]):
            raise UserError(f"{part.path / layout.INDEX}: its codes mean other numbers than its neighbours'; {_AGAIN}")
    header, size = bytearray(headers[0][0]), headers[0][1]
    (count,) = struct.unpack_from("<q", header, len(header) - 8)
    struct.pack_into("<q", header, NTOTAL_AT, whole.passages)
    struct.pack_into("<q", header, len(header) - 8, count // parts[0].n * whole.passages)
    path = job.path / layout.INDEX
    with open(path, "r+b" if job.done else "wb") as file:
        file.write(header)
        for i in tqdm(range(job.done, whole.of), desc="joining", unit=" shards", disable=None):
            file.seek(len(header) + size * sum(part.n for part in parts[:i]))
            _append(parts[i], len(header), file)
            if job.due:
                file.flush()
                os.fsync(file.fileno())
                job.save(i + 1)
    _write_ids(parts, whole, job.path / layout.DOCID, layout.DOCID)
    meta: dict[str, Any] = {**parts[0].meta, "n": whole.passages}
    del meta["shard"]
    if "without_queries" in meta:
        meta["without_queries"] = sum(part.meta["without_queries"] for part in parts)
    if layout.CENTERS in meta["sha256"]:
        (job.path / layout.CENTERS).write_bytes((parts[0].path / layout.CENTERS).read_bytes())
    meta |= layout.sums_meta({name: file_sums(job.path / name) for name in meta["sha256"]})
    write_json(job.path / layout.META, meta)


def _header(part: _Part) -> tuple[bytes, int]:
    """Return what stands before the codes of an index file, and the bytes of a code."""
    import faiss

    file = part.path / layout.INDEX
    index: Any = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    with open(file, "rb") as stream:
        return stream.read(file.stat().st_size - part.n * index.code_size), index.code_size


def _blank(header: bytes) -> bytes:
    """Return a header without its numbers of vectors."""
    blank = bytearray(header)
    struct.pack_into("<q", blank, NTOTAL_AT, 0)
    struct.pack_into("<q", blank, len(header) - 8, 0)
    return bytes(blank)


def _append(part: _Part, skip: int, out: Any) -> None:
    """Copy the codes of a shard, and compare the file with its checksum."""
    digest, left = RunningSums("sha256"), skip
    with open(part.path / layout.INDEX, "rb") as file:
        while block := file.read(left or BLOCK_BYTES):
            digest.update(block)
            if not left:
                out.write(block)
            left = 0
    if digest.hexdigests()["sha256"] != part.meta["sha256"].get(layout.INDEX):
        raise changed(part.path / layout.INDEX, f"copy it again, or {_AGAIN}")
