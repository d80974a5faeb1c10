"""Generated queries as training data: each is a question whose positive is its passage.

This is the other published use of a cross-lingual query generator, besides fusion: Ren et al. 2022, "Empowering
Dual-Encoder with Query Generator for Cross-Lingual Dense Retrieval", arXiv 2303.14991.  They also distil the
generator's likelihoods, which takes passages to compare; here a query has its own passage alone, and the others of the
batch are its negatives.

An item is a passage and a language.  An epoch takes one query of each item; which one follows from seed, epoch and
item, and each query comes once before any comes again.

Queries and corpus may be compressed and in any order, so they are copied into a folder in which each can be found; held
are 24 bytes a passage while they are copied, after that 8 a passage, 24 a record of queries and 4 an item.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xqg_pyserini.data import read_generated
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath
from xqg_pyserini.generate.texts import PassageTexts
from xqg_pyserini.train.data import Drawn

QUERIES = "queries.txt"


class Synthetic:
    """Generated queries with their passages, found by the number of their item.

    Args:
        sources: files or folders, as `xqg generate` writes them.
        corpus: the passages that they were written for.
        folder: an empty one, for the copies.

    Raises `UserError` for queries of a passage that the corpus does not hold, and where there is none.
    """

    def __init__(self, sources: Sequence[str], corpus: FilePath, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._texts = PassageTexts.write(corpus, folder)
        rows, starts, firsts, lengths = array("q"), array("q"), array("q"), array("i")
        with open(folder / QUERIES, "wb") as copy:
            for source in sources:
                for line, record in read_generated(source):
                    row = int(self._texts.index.rows([record.docid])[0])
                    if row < 0:
                        raise line.error(
                            f"passage {record.docid!r} is not in {corpus}; expected the corpus "
                            "that the queries were generated for"
                        )
                    # one line each, without tabs, blank ones left out
                    lines = [[" ".join(t.split()) for t in texts if t.strip()] for texts in record.queries.values()]
                    items = list(filter(None, lines))
                    if not items:
                        continue
                    rows.append(row)
                    starts.append(copy.tell())
                    firsts.append(len(lengths))
                    lengths.extend(len(texts[0]) for texts in items)
                    copy.write(("\n".join("\t".join(texts) for texts in items) + "\n\n").encode())
        if not rows:
            raise UserError(f"{sources[0]}: no generated query in it that is not blank")
        self._texts.index = None  # type: ignore[assignment]  # 16 bytes a passage
        self._rows, self._starts, self._firsts = (np.frombuffer(column, np.int64) for column in (rows, starts, firsts))
        self.lengths = np.frombuffer(lengths, np.int32)  # of the items, in characters
        self._file = open(folder / QUERIES, "rb")  # noqa: SIM115 (open as long as this object is)

    def __len__(self) -> int:
        return len(self.lengths)

    def queries(self, number: int) -> tuple[int, list[str]]:
        """Return the passage's row and the queries of an item."""
        record = int(np.searchsorted(self._firsts, number, side="right")) - 1
        self._file.seek(int(self._starts[record]))
        for _ in range(number - int(self._firsts[record])):
            self._file.readline()
        texts = self._file.readline().decode().rstrip("\n").split("\t")
        return int(self._rows[record]), texts

    def draw(self, number: int, negatives: int, seed: int, epoch: int) -> Drawn:
        """Draw a query; it has no negatives but the passages of the others in its batch."""
        row, texts = self.queries(number)
        order = np.random.default_rng([seed, number]).permutation(len(texts))
        passage = self._texts.at(row)
        query = texts[int(order[epoch % len(texts)])]
        return Drawn(query, (passage,), frozenset([passage]), None)

    def close(self) -> None:
        """Close the copies."""
        self._texts.close()
        self._file.close()
