"""Corpus → passage store: streaming, resumable, the same bytes however often it was killed."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xqg_pyserini import stores
from xqg_pyserini.data import read_corpus
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, chunks, describe_sources, file_sha256, write_json
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.settings import option
from xqg_pyserini.stores import Job, VectorStore

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
) -> VectorStore:
    """Encode every passage of a corpus into a store at `output`.

    The corpus is read twice: once to check every record and its id before a model is loaded, once to encode.

    Args:
        corpus: a file, a directory or a pattern.
        encoder: an `Encoder`, or what one is made of.
        output: the folder to write.
        dtype: of the vectors: "float32" or "float16".
        overwrite: replace what `output` holds.

    Raises:
        UserError: for a record that cannot be read, two passages with one id, an encoder that
            cannot be loaded, an output that holds something.
    """
    stores.check_dtype(dtype)
    encoder = encoder if isinstance(encoder, Encoder) else Encoder(encoder)
    sources = describe_sources(corpus)
    job = {"stage": "encode", "encoder": repr(encoder.settings), "sources": sources, "dtype": dtype, "how": encoder.how}
    with stores.resumable(output, job, overwrite, [corpus]) as part:
        if "n" not in part.state:
            part.state["n"] = stores.write_ids(corpus, part.path / stores.IDS)
            part.save(0)
        _encode(corpus, encoder, part, dtype, sources)
    return VectorStore(output)


def _encode(corpus: FilePath, encoder: Encoder, part: Job, dtype: str, sources: list[dict[str, Any]]) -> None:
    encoder = encoder.going_on(part.state)
    n, path, description = part.state["n"], part.path / stores.VECTORS, encoder.describe("passage")
    fresh = part.begin(description)
    matrix = stores.create_matrix(path, (n, encoder.dimension), dtype) if fresh else stores.reopen_matrix(path)
    passages = islice(read_corpus(corpus), part.done, None)
    start = part.done
    with tqdm(total=n, initial=start, desc="encoding", unit=" passages", disable=None) as bar:
        for chunk in chunks(passages, CHUNK):
            vectors = encoder.encode_passages([passage.full for _, passage in chunk], bar.update)
            rows = matrix[start : start + len(chunk)]
            rows[:] = vectors
            if dtype == "float16" and not (abs(rows) < float("inf")).all():
                raise UserError(f"the vectors of {encoder.settings.name} do not fit into float16; use float32", "dtype")
            start += len(chunk)
            if part.due:
                part.save(start, [matrix])
    matrix.flush()
    meta = stores.store_meta(stores.PASSAGES, n, encoder.dimension, dtype, description)
    meta |= {"ids_sha256": file_sha256(part.path / stores.IDS), "vectors_sha256": file_sha256(path), "sources": sources}
    write_json(part.path / stores.META, meta)
