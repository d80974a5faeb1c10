"""The passages' texts by id, out of files beside the job: never in memory.

A corpus may be compressed and in any order, so its texts are copied once, one after the other, to a file in which each
can be found.  What is held is 24 bytes a passage.
"""

from array import array
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import read_corpus
from xqg_pyserini.files import FilePath, writing
from xqg_pyserini.stores import IDS, IdIndex, index_ids

TEXTS, ENDS = "texts.bin", "ends.npy"


class PassageTexts:
    """Opens what `write` left in a folder.

    Attributes: `ids_path`, the ids in the order of the corpus; `index`, their rows.
    """

    def __init__(self, folder: Path, index: IdIndex | None = None) -> None:
        self.ids_path = folder / IDS
        self.index = IdIndex(self.ids_path) if index is None else index
        self._ends = np.load(folder / ENDS)  # (n + 1,) int64: where each text ends, from 0
        self._file = open(folder / TEXTS, "rb")  # noqa: SIM115 (open as long as this object is)
        self.n = len(self._ends) - 1

    @classmethod
    def write(cls, corpus: FilePath, folder: Path) -> "PassageTexts":
        """Copy the texts of a corpus into a folder: a file as large as the corpus unpacked.

        Raises:
            UserError: for a record that cannot be read, two passages with one id.
        """
        ends = array("q", [0])
        with writing(folder / IDS) as ids, open(folder / TEXTS, "wb") as texts:
            bar = tqdm(read_corpus(corpus), "reading the corpus", unit=" passages", disable=None)
            for _, passage in bar:
                ids.write(passage.id + "\n")
                ends.append(ends[-1] + texts.write(passage.full.encode()))
        np.save(folder / ENDS, np.frombuffer(ends, dtype=np.int64))
        return cls(folder, index_ids(folder / IDS, corpus))

    def at(self, row: int) -> str:
        """Return title and text of the passage at a row."""
        start, end = self._ends[row : row + 2].tolist()
        self._file.seek(start)
        return self._file.read(end - start).decode()

    def of(self, docid: str) -> str | None:
        """Return title and text of a passage, None for one that the corpus does not hold."""
        row = int(self.index.rows([docid])[0])
        return None if row < 0 else self.at(row)

    def close(self) -> None:
        """Close the file of texts."""
        self._file.close()
