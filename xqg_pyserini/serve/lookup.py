"""Records of files found by id, without their texts in memory."""

import json
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import GeneratedQueries, Passage, generated_again, passage_again, read_corpus, read_generated
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, Line
from xqg_pyserini.stores.ids import id_hash

Record = TypeVar("Record", bound=Passage | GeneratedQueries)
_AT = 48  # bits of a place that say where in its file a record begins


class Lookup(Generic[Record]):
    """Finds records by their first field, the passage's id; takes 16 bytes a record.

    What JSON Lines hold that are not compressed is read again where it stands; anything else is copied as it passes by,
    into a temporary file without a name.  For one thread at a time.

    Args:
        records: all of them, each with its line.
        again: what makes a record of such a line.
        kind: the class of the records.
    """

    def __init__(
        self, records: Iterable[tuple[Line, Record]], again: Callable[[Line], Record | None], kind: type[Record]
    ) -> None:
        self._again, self._kind = again, kind
        self._files: list[Path] = []
        self._copies = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed with this object
        hashes, places = array("Q"), array("Q")
        path, in_place = None, False
        for line, record in records:
            if line.path != path:
                path, in_place = line.path, self._stands(line, record)
                self._files += [path] if in_place else []
            hashes.append(id_hash(record[0]))
            places.append(len(self._files) << _AT | (line.at or 0) if in_place else self._copy(record))
        self._copies.flush()
        order = np.argsort(np.frombuffer(hashes, dtype=np.uint64), kind="stable")
        self._hashes = np.frombuffer(hashes, dtype=np.uint64)[order]
        self._places = np.frombuffer(places, dtype=np.uint64)[order]

    def __len__(self) -> int:
        return len(self._hashes)

    def __getitem__(self, docid: str) -> list[Record]:
        """Return the records of a passage in their order, none where there is none.

        Raises `UserError` for a file that has changed since it was looked through.
        """
        key = np.uint64(id_hash(docid))
        first, last = np.searchsorted(self._hashes, key), np.searchsorted(self._hashes, key, "right")
        found = map(self._read, self._places[first:last].tolist())
        return [record for record in found if record[0] == docid]

    def twice(self) -> str | None:
        """Return an id that several records have, None where each has one of its own."""
        for at in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]).tolist():
            first, second = (self._read(int(place))[0] for place in self._places[at : at + 2])
            if first == second:
                return first
        return None

    def _stands(self, line: Line, record: Record) -> bool:
        """Tell whether a file's records can be read where they stand, as its first one shows."""
        try:
            return line.at is not None and self._again(line._replace(at=None)) == record
        except UserError:  # no JSON Lines
            return False

    def _copy(self, record: Record) -> int:
        at = self._copies.tell()
        self._copies.write(json.dumps(record).encode() + b"\n")
        return at

    def _read(self, place: int) -> Record:
        number, at = place >> _AT, place & (1 << _AT) - 1
        if not number:
            self._copies.seek(at)
            return self._kind(*json.loads(self._copies.readline()))
        path = self._files[number - 1]
        try:
            with open(path, "rb") as file:
                file.seek(at)
                text = file.readline().decode("utf-8").strip().removeprefix("\ufeff")
            record = self._again(Line(path, at, text, "byte"))
        except (OSError, UnicodeDecodeError, UserError):
            record = None
        if record is None:
            raise UserError(f"{path}: changed since it was looked through; start again")
        return record


def corpus_lookup(corpus: FilePath) -> Lookup[Passage]:
    """Return the passages of a corpus by id; raises `UserError` as `read_corpus`, and for an id that comes twice."""
    texts = Lookup(_passing(read_corpus(corpus), "reading passages"), passage_again(corpus), Passage)
    if (docid := texts.twice()) is not None:
        raise UserError(f"{corpus}: passage id {docid!r} comes twice; ids must be unique")
    return texts


class GeneratedLookup:
    """Generated queries by their passages.

    Attributes:
        languages: those that there are queries in, in the order of the files.

    Raises:
        UserError: as `read_generated`.
    """

    def __init__(self, queries: FilePath) -> None:
        languages: dict[str, None] = {}

        def noted() -> Iterator[tuple[Line, GeneratedQueries]]:
            for line, record in _passing(read_generated(queries), "reading queries"):
                languages.update(dict.fromkeys(record.queries))
                yield line, record

        self._records = Lookup(noted(), generated_again, GeneratedQueries)
        self.languages = list(languages)

    def of(self, docid: str) -> dict[str, list[str]]:
        """Return the queries of a passage by language, those that are not blank."""
        found: dict[str, list[str]] = {}
        for record in self._records[docid]:
            for language, texts in record.queries.items():
                found.setdefault(language, []).extend(text for text in texts if text.strip())
        return found


def _passing(records: Iterable[Any], what: str) -> Iterator[Any]:
    return iter(tqdm(records, what, unit=" records", disable=None))
