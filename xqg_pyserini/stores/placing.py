"""Records of generated queries beside the rows of the passages that they are for."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from xqg_pyserini.data import GeneratedQueries, find_language
from xqg_pyserini.data.ids import LOOKED_AT, examples
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, Line, chunks
from xqg_pyserini.stores.ids import IdIndex

CHUNK = 128  # records that are looked up together


def placed(
    records: Iterable[tuple[Line, GeneratedQueries]], index: IdIndex
) -> Iterator[tuple[int, Line, GeneratedQueries]]:
    """Yield each record with the row of its passage, -1 where the store does not hold it."""
    for chunk in chunks(records, CHUNK):
        rows = index.rows([record.docid for _, record in chunk]).tolist()
        yield from ((row, line, record) for row, (line, record) in zip(rows, chunk, strict=True))


def unknown_passage(line: Line, record: GeneratedQueries, where: FilePath, ids: Iterable[str] = ()) -> UserError:
    """Return the error for queries of a passage that `where` does not hold; `ids` are those that it does."""
    what = f"passage {record.docid!r} is not in {where}{alike(record.docid, where, ids)}"
    return line.error(f"{what}; skip_unknown leaves such queries out", "skip_unknown")


def alike(docid: str, where: FilePath, ids: Iterable[str]) -> str:
    """Return what may have happened to an id that is not among the `ids` of `where`, in brackets; "" for nothing."""
    some = list(islice(ids, LOOKED_AT))
    text, found = examples([docid], some, "the queries", str(where)) if some else ("", False)
    return f" ({text})" if found else ""


class GivenOnce:
    """Which passages were given queries in which languages: one bit a passage and language.

    Attributes: `languages`, all codes as they are written; those of one language (`ha`, `hau`) share their bits.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self.languages: dict[str, np.ndarray] = {}

    def add(self, row: int, line: Line, record: GeneratedQueries) -> bool:
        """Note a record of the passage at `row`; tell whether an earlier record had it already.

        Raises:
            UserError: for a language that an earlier record gave this passage, naming the line.
        """
        byte, bit = row >> 3, 1 << (row & 7)
        before = any(bits[byte] & bit for bits in self.languages.values())
        for language in record.queries:
            if language not in self.languages:
                same = find_language(language, self.languages)
                bits = np.zeros(self._n // 8 + 1, dtype=np.uint8) if same is None else self.languages[same]
                self.languages[language] = bits
            if self.languages[language][byte] & bit:
                one = [code for code, bits in self.languages.items() if bits is self.languages[language]]
                why = f": {' and '.join(one)} are one language" if len(one) > 1 else ""
                raise line.error(f"passage {record.docid!r} has {language} queries twice{why}")
            self.languages[language][byte] |= bit
        return before
