"""Corpus → passage store: streaming, resumable, the same bytes however often it was killed, and in however many shards.

Passages are encoded in chunks of the whole corpus, also where a shard begins or ends within one: it encodes all of that
chunk, and keeps its own.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import to_builtins
from tqdm import tqdm

from xqg_pyserini import stores
from xqg_pyserini.data import Passage, describe_sources, pinned, read_corpus
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, chunks, file_sha256, file_sums, write_json
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve.merge import write_whole
from xqg_pyserini.retrieve.sharding import Replacing, WrittenShards, write_shards
from xqg_pyserini.settings import option
from xqg_pyserini.stores import Job, Shard, ShardSettings, VectorStore

CHUNK = 512  # passages sorted by length and encoded together; a resumed job goes on at a chunk


@dataclass(frozen=True)
class EncodeSettings:
    """How passages are stored."""

    dtype: str = option("float32", "of the store", *stores.DTYPES)


def encode_passages(
    corpus: FilePath,
    encoder: Encoder | str,
    output: str | Path,
    *,
    dtype: str = EncodeSettings.dtype,
    overwrite: bool = False,
    repair: bool = False,
    cluster: str | None = None,
) -> VectorStore:
    """Encode every passage of a corpus into a store at `output`.

    The corpus is read twice: once to check every record and its id before a model is loaded, once to encode.

    Args:
        corpus: a file, a directory or a pattern.
        encoder: an `Encoder`, or what one is made of.
        output: the folder to write.
        dtype: of the vectors: "float32" or "float16".
        overwrite: replace what `output` holds.
        repair: replace what `output` holds of this same job if it is damaged, and say what is; whole, it stays.
        cluster: "ray" or "ray:ADDRESS": have a cluster encode (`merge.write_whole`); the bytes are the same.

    Raises:
        UserError: for a record that cannot be read, two passages with one id, an encoder that
            cannot be loaded, an output that holds something.
    """
    replacing = Replacing(overwrite, repair)
    if cluster is None:
        _Encoding(corpus, encoder, dtype).write(Path(output), replacing)
    else:
        write = partial(encode_shards, corpus, encoder, dtype=dtype)
        write_whole(output, write, cluster, replacing, [corpus])
    return VectorStore(output)


def encode_shards(
    corpus: FilePath,
    encoder: Encoder | str,
    output: str | Path,
    shards: ShardSettings,
    *,
    dtype: str = EncodeSettings.dtype,
    overwrite: bool = False,
    repair: bool = False,
) -> WrittenShards:
    """Encode some shards of a corpus, or all, each into a store of its own in the folder `output`.

    A shard that stands there whole stays; `retrieve.merge` joins all to the bytes of `encode_passages`.

    Raises:
        UserError: as `encode_passages`; for a shard of another job, or a damaged one without `repair`.
    """
    encoding, replacing = _Encoding(corpus, encoder, dtype), Replacing(overwrite, repair, shards.on_the_way)
    with TemporaryDirectory() as folder:
        encoding.ids = Path(folder) / stores.IDS
        n = stores.write_ids(corpus, encoding.ids)
        return write_shards(output, shards, n, file_sha256(encoding.ids), encoding, replacing)


class _Encoding:
    """What is encoded, and how."""

    def __init__(self, corpus: FilePath, encoder: Encoder | str, dtype: str) -> None:
        stores.check_dtype(dtype)
        self.corpus, self.dtype = pinned(corpus), dtype
        self.encoder = encoder if isinstance(encoder, Encoder) else Encoder(encoder)
        self.sources = describe_sources(corpus)
        self.ids: Path | None = None  # those of the corpus, where it is cut into shards
        self._reading: tuple[int, list[Passage], Iterator[list[Passage]]] | None = None

    @property
    def computing(self) -> Computing:
        return self.encoder.computing

    def prepare(self, device: str, folder: Path) -> None:
        """Put the ids where all see them."""
        assert self.ids is not None
        self.encoder = self.encoder.for_cluster(device)
        self.ids = Path(shutil.copy(self.ids, folder / stores.IDS))

    def write(self, output: Path, replacing: Replacing, shard: Shard | None = None) -> bool:
        """Write the store of all passages, or of a shard; tell whether it had to be."""
        said = to_builtins(shard)
        expected = {"kind": stores.PASSAGES, "sources": self.sources, "dtype": self.dtype, "shard": said}
        expected |= {"encoder": self.encoder.expected}
        if replacing.stands(output, stores.META, lambda: expected, shard):
            return False
        job = {"stage": "encode", "encoder": repr(self.encoder.settings), "sources": self.sources, "dtype": self.dtype}
        job |= {"how": self.encoder.how, "shard": said}
        with stores.resumable(output, job, replacing.allowed, [self.corpus]) as part:
            if "n" not in part.state:
                if shard is None or self.ids is None:
                    part.state["n"] = stores.write_ids(self.corpus, part.path / stores.IDS)
                else:
                    stores.copy_ids(self.ids, part.path / stores.IDS, shard.rows)
                    part.state["n"] = len(shard.rows)
                part.save(0)
            self._encode(part, shard)
        return True

    def _encode(self, part: Job, shard: Shard | None) -> None:
        encoder, dtype, path = self.encoder.going_on(part.state), self.dtype, part.path / stores.VECTORS
        rows = range(part.state["n"]) if shard is None else shard.rows
        description = encoder.describe("passage")
        shape = (len(rows), encoder.dimension)
        fresh = part.begin(description)
        matrix = stores.create_matrix(path, shape, dtype) if fresh else stores.reopen_matrix(path)
        start = part.done or rows.start // CHUNK * CHUNK  # of a chunk, in the corpus
        with tqdm(total=rows.stop - start, desc="encoding", unit=" passages", disable=None) as bar:
            for chunk in self._chunks(start, rows.stop):
                vectors = encoder.encode_passages([passage.full for passage in chunk], bar.update)
                first, last = max(start, rows.start), min(start + len(chunk), rows.stop)
                own = matrix[first - rows.start : last - rows.start]
                own[:] = vectors[first - start : last - start]
                if dtype == "float16" and not (abs(own) < float("inf")).all():
                    what = f"the vectors of {encoder.settings.name} do not fit into float16; use float32"
                    raise UserError(what, "dtype")
                start += len(chunk)
                if part.due:
                    part.save(start, [matrix])
        matrix.flush()
        meta = stores.store_meta(stores.PASSAGES, *shape, dtype, description)
        sums = file_sums(path)
        meta |= {"ids_sha256": file_sha256(part.path / stores.IDS), "vectors_sha256": sums["sha256"]}
        meta["xxh3"] = {path.name: sums["xxh3"]}
        meta |= {"sources": self.sources} | ({} if shard is None else {"shard": to_builtins(shard)})
        write_json(part.path / stores.META, meta)

    def _chunks(self, start: int, stop: int) -> Iterator[list[Passage]]:
        """Yield the chunks of the corpus that begin in start … stop-1, reading on where the last shard ended."""
        if start >= stop:
            return
        at, chunk, rest = self._reading or (start + 1, [], iter(()))
        if at > start:
            passages = (passage for _, passage in islice(read_corpus(self.corpus), start, None))
            at, rest = start, chunks(passages, CHUNK)
            chunk = next(rest, [])
        while chunk:
            self._reading = at, chunk, rest
            if at >= start:
                yield chunk
            if at + CHUNK >= stop:
                return  # the next shard may begin in this chunk
            at, chunk = at + CHUNK, next(rest, [])
