"""A machine's queries of passages, beside people's: read, checked, and encoded once.

`Machine` holds queries that a generator wrote for passages it was not trained on, as `xqg generate` writes them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from alignment.data import Vectors
from alignment.rivals import Array

import xqg_pyserini as xqg
from xqg_pyserini.data import read_generated

STEP = 2048  # queries that are encoded before they are kept


@dataclass
class Machine:
    """N generated queries.

    Attributes:
        rows, halves, place: the passage's row, the number of the folder that it came from (which generator wrote it),
            and the query's number among its passage's in its language, each (N,).
        languages: (N,).
        texts: their texts.
        queries: (N, d) float32.
    """

    rows: Array
    halves: Array
    place: Array
    languages: Array
    texts: list[str]
    queries: Array


def read_machine(folders: Sequence[Path], docids: Sequence[str], languages: Sequence[str]) -> pd.DataFrame:
    """Return columns row, half, place, language, text of the folders' queries in some languages.

    Raises `UserError` for a passage that is not there, or is in two folders.
    """
    at = {docid: row for row, docid in enumerate(docids)}
    found, halves = [], dict[str, int]()
    for half, folder in enumerate(folders):
        for line, record in read_generated(folder):
            if record.docid not in at:
                raise line.error(f"passage {record.docid!r} is not in the collection")
            if halves.setdefault(record.docid, half) != half:
                raise line.error(f"passage {record.docid!r} has queries of two generators; expected one for each half")
            for l in languages:
                texts = record.queries.get(l, ())
                found += [(at[record.docid], half, place, l, text) for place, text in enumerate(texts)]
    return pd.DataFrame(found, columns=["row", "half", "place", "language", "text"])


def encode_machine(table: pd.DataFrame, encoder: xqg.Encoder, folder: Path) -> Array:
    """Return vectors (N, d) of the queries, kept in the folder: what a killed run had encoded stays.

    Every passage's first queries come first, so that fewer a language (`most` of `load_machine`) are had sooner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.empty((len(table), 0), np.float32)
    for place, some in table.groupby("place"):
        texts = pd.unique(some.text)
        parts = []
        for start in range(0, len(texts), STEP):
            chunk = texts[start : start + STEP].tolist()
            digest = hashlib.blake2b("\n".join(chunk).encode(), digest_size=8).hexdigest()
            path = folder / f"{place}-{start:08d}-{digest}.npy"
            if not path.exists():
                partial = path.with_suffix(".partial")
                with partial.open("wb") as file:
                    np.save(file, encoder.encode_queries(chunk))
                partial.rename(path)
            parts.append(np.load(path))
        at = {text: row for row, text in enumerate(texts)}
        found = np.concatenate(parts)
        if not vectors.shape[1]:
            vectors = np.empty((len(table), found.shape[1]), np.float32)
        vectors[some.index] = found[some.text.map(at)]
    return vectors


def load_machine(folders: Sequence[Path], vectors: Vectors, encoder: xqg.Encoder, kept: Path, most: int) -> Machine:
    """Return the queries of a collection, the first `most` of each passage and language."""
    table = read_machine(folders, vectors.docids, np.unique(vectors.languages).tolist())
    table = table[table.place < most].reset_index(drop=True)
    queries = encode_machine(table, encoder, kept)
    columns = (table[name].to_numpy() for name in ("row", "half", "place"))
    return Machine(*columns, table.language.to_numpy(str), table.text.tolist(), queries)
