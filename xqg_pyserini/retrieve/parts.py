"""Passages with several vectors, a row each: searched so that a passage scores as the best of them.

The docid of a row is the passage's, a delimiter, and what tells the row from others (`doc#fi-2`), as Pyserini's
`--max-passage` reads it; a row of the passage's own has its docid alone.
"""

from collections.abc import Mapping

import numpy as np

from xqg_pyserini.errors import UserError
from xqg_pyserini.retrieve.directories import Directory
from xqg_pyserini.retrieve.topk import Hits

DELIMITER = "#"  # Pyserini's
FIRST, MORE = 4, 4  # rows that are looked at for each hit, and how many times as many where these are too few
TOGETHER = 1 << 24  # rows of all questions that are looked at together: 12 bytes each


def check_delimiter(delimiter: str) -> None:
    """Raise `UserError` for what no docid can hold."""
    if delimiter.split() != [delimiter]:
        raise UserError(f"delimiter {delimiter!r}: expected text without white space", "delimiter")


def best_passages(
    directory: Directory, vectors: np.ndarray, k: int, delimiter: str
) -> tuple[np.ndarray, np.ndarray, Mapping[int, str]]:
    """Return scores (q, k) float32 and rows (q, k) int64 of the best k passages, and the passages' ids by row.

    The row is a passage's best, the first of equals; -inf and -1 stand where there are fewer passages.  What an index
    finds of k' rows is the beginning of one order of all its rows, whatever k' is (`topk`): a passage that is not among
    them has no row before the last.  So where they hold k passages, these are the best; else more rows are looked at,
    until there are no more.
    """
    scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
    rows = np.full((len(vectors), k), -1, dtype=np.int64)
    names: dict[int, str] = {}
    members, wanted = np.arange(len(vectors)), min(directory.n, FIRST * k)
    while len(members):
        size = max(1, TOGETHER // wanted)
        open_ = []
        for start in range(0, len(members), size):
            batch = members[start : start + size]
            near = directory.best(vectors[batch], wanted)
            docids = directory.names(near[1])
            for i, member in enumerate(batch.tolist()):
                found = _first_of_each((near[0][i], near[1][i]), docids, k, delimiter)
                if len(found) < k and wanted < directory.n and near[1][i, -1] >= 0:
                    open_.append(member)
                    continue
                for place, (passage, (score, row)) in enumerate(found.items()):
                    scores[member, place], rows[member, place], names[row] = score, row, passage
        members, wanted = np.array(open_, dtype=np.int64), min(directory.n, MORE * wanted)
    return scores, rows, names


def _first_of_each(near: Hits, docids: Mapping[int, str], k: int, delimiter: str) -> dict[str, tuple[float, int]]:
    """Return passage → score and row of its first row, of the first k passages of a question's rows."""
    found: dict[str, tuple[float, int]] = {}
    for score, row in zip(near[0].tolist(), near[1].tolist(), strict=True):
        if row < 0 or len(found) == k:
            break
        found.setdefault(docids[row].split(delimiter, 1)[0], (score, row))
    return found
