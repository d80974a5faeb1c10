"""Corpus and generated queries → passages with their queries behind their text, for BM25.

Document expansion: doc2query (Nogueira et al., arXiv 1904.08375).  With queries in other languages, BM25 finds the
passages of questions in these too.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from xqg_pyserini import stores
from xqg_pyserini.data import check_languages, find_language, read_corpus, read_generated
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, check_file, parents, writing
from xqg_pyserini.settings import check_values, option


@dataclass(frozen=True)
class ExpandSettings:
    """Which queries a passage is expanded with; each field's help says what it is.

    Raises:
        UserError: for a value that the field does not take.
    """

    languages: tuple[str, ...] | None = option(None, "of the queries (default: all)", metavar="xx")
    num_queries: int | None = option(None, "the first N a language (default: all)", least=1, metavar="N")
    skip_unknown: bool = option(False, "leave out queries for passages that are not there")

    def __post_init__(self) -> None:
        check_values(self)
        if self.languages is not None:
            check_languages(self.languages)


class Expanded(NamedTuple):
    """What was written: passages, the queries behind them, passages without any, and records that were skipped."""

    output: str
    passages: int
    queries: int
    without: int
    skipped: int


def expand_passages(
    corpus: FilePath, queries: FilePath, output: str | Path, settings: ExpandSettings | None = None
) -> Expanded:
    """Write each passage as `{"id": …, "contents": …}`, in the corpus's order: title and text, then a line a query.

    This is what Pyserini's `JsonCollection` reads.  Queries may be in any order, and a passage's languages in several
    records: until they are written they lie in a database beside the output, not in memory.

    Args:
        corpus: a file, a directory or a pattern.
        queries: generated queries, likewise.
        output: the JSON Lines file to write; gzip where its name ends in `.gz`.
        settings: which queries.

    Raises:
        UserError: for what cannot be read, two passages with one id, a passage that is given a language twice or that
            the corpus does not hold (without `skip_unknown`), a language without queries.
    """
    settings, output = settings or ExpandSettings(), Path(output)
    check_file(output, [corpus, queries])
    with parents(output), tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        ids = Path(folder) / stores.IDS
        n = stores.write_ids(corpus, ids)
        with closing(sqlite3.connect(Path(folder) / "queries.sqlite")) as database:
            skipped = _collect(database, queries, corpus, ids, settings)
            found = _by_row(database)
            row, texts = next(found, (n, []))
            total = without = 0
            with writing(output, zipped=output.suffix == ".gz") as file:
                bar = tqdm(read_corpus(corpus), "expanding", n, unit=" passages", disable=None)
                for number, (_, passage) in enumerate(bar):
                    own: list[str] = []
                    if number == row:
                        own, (row, texts) = texts, next(found, (n, []))
                    total += len(own)
                    without += not own
                    record = {"id": passage.id, "contents": "\n".join([passage.full, *own])}
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return Expanded(str(output), n, total, without, skipped)


def _collect(
    database: sqlite3.Connection, queries: FilePath, corpus: FilePath, ids: Path, settings: ExpandSettings
) -> int:
    """Put the queries into the database, by the rows of their passages; return the number of records skipped."""
    database.execute("PRAGMA journal_mode = OFF")  # it is gone with the job, whole or not
    database.execute("PRAGMA synchronous = OFF")
    database.execute("CREATE TABLE queries (row INTEGER, place INTEGER, text TEXT)")
    index = stores.IdIndex(ids)
    given, skipped, place = stores.GivenOnce(len(index)), 0, 0
    bar = tqdm(read_generated(queries), "reading", unit=" passages", disable=None)
    for row, line, record in stores.placed(bar, index):
        if row < 0:
            if not settings.skip_unknown:
                raise stores.unknown_passage(line, record, Path(str(corpus)), stores.iterate_ids(ids))
            skipped += 1
            continue
        wanted = settings.languages
        chosen = {l: texts for l, texts in record.queries.items() if wanted is None or find_language(l, wanted)}
        given.add(row, line, record._replace(queries=chosen))
        for written in chosen.values():
            texts = [text for text in written if text.strip()][: settings.num_queries]
            database.executemany(
                "INSERT INTO queries VALUES (?, ?, ?)", ((row, place + i, t) for i, t in enumerate(texts))
            )
            place += len(texts)
    for language in settings.languages or ():
        if find_language(language, given.languages) is None:
            raise UserError(f"{queries} has no queries in {language!r}", "languages")
    database.execute("CREATE INDEX by_row ON queries (row, place)")
    return skipped


def _by_row(database: sqlite3.Connection) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that have queries, in order, with these."""
    found = database.execute("SELECT row, text FROM queries ORDER BY row, place")
    for row, pairs in groupby(found, itemgetter(0)):
        yield row, [text for _, text in pairs]
