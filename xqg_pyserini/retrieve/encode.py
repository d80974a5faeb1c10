"""Corpus → passage store: streaming, resumable, the same bytes however often it was killed."""

from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xqg_pyserini.data import read_corpus
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import chunks, describe_sources, file_sha256, write_json
from xqg_pyserini.models.engines import load
from xqg_pyserini.models.registry import EncoderSettings, resolve
from xqg_pyserini.stores import (
    IDS,
    META,
    PASSAGES,
    VECTORS,
    Job,
    VectorStore,
    check_dtype,
    create_matrix,
    reopen_matrix,
    resumable,
    store_meta,
    write_ids,
)

CHUNK = 512  # passages sorted by length and encoded together; a resumed job goes on at a chunk


def encode_passages(
    corpus: str | Path,
    encoder: str | EncoderSettings,
    output: str | Path,
    *,
    dtype: str = "float32",
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 32,
    overwrite: bool = False,
) -> VectorStore:
    """Encode every passage of a corpus into a store at `output`.

    The corpus is read twice: once to check every record and its id before a model is loaded, once
    to encode.  Vectors are written as `dtype` ("float32" or "float16").

    Raises:
        UserError: for a record that cannot be read, two passages with one id, an encoder that
            cannot be loaded, an output that holds something (without `overwrite`).
    """
    check_dtype(dtype)
    settings = resolve(encoder) if isinstance(encoder, str) else encoder
    sources = describe_sources(corpus)
    job = {
        "stage": "encode",
        "encoder": repr(settings),
        "sources": sources,
        "dtype": dtype,
        "how": [device, precision, batch_size],
    }
    with resumable(output, job, overwrite, [corpus]) as part:
        if "n" not in part.state:
            part.state["n"] = write_ids(corpus, part.path / IDS)
            part.save(0)
        _encode(corpus, settings, part, dtype, (device, precision, batch_size), sources)
    return VectorStore(output)


def _encode(
    corpus: str | Path,
    settings: EncoderSettings,
    part: Job,
    dtype: str,
    how: tuple[str, str, int],
    sources: list[dict[str, Any]],
) -> None:
    encoder = load(settings, "passage", *how)
    n, path = part.state["n"], part.path / VECTORS
    fresh = part.begin(encoder.describe())
    matrix = create_matrix(path, (n, encoder.dimension), dtype) if fresh else reopen_matrix(path)
    passages = islice(read_corpus(corpus), part.done, None)
    bar = tqdm(total=n, initial=part.done, desc="encoding", unit=" passages", disable=None)
    with bar:
        start = part.done
        for chunk in chunks(passages, CHUNK):
            vectors = encoder.encode([passage.full for _, passage in chunk], bar.update)
            rows = matrix[start : start + len(chunk)]
            rows[:] = vectors
            if dtype == "float16" and not (abs(rows) < float("inf")).all():
                raise UserError(
                    f"the vectors of {settings.name} do not fit into float16; use --dtype float32"
                )
            start += len(chunk)
            if part.due:
                part.save(start, [matrix])
    matrix.flush()
    meta = store_meta(PASSAGES, n, encoder.dimension, dtype, encoder.describe())
    meta["ids_sha256"] = file_sha256(part.path / IDS)
    meta["vectors_sha256"] = file_sha256(path)
    meta["sources"] = sources
    write_json(part.path / META, meta)
