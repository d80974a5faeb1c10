"""What is wrong with a folder of generated queries: counts by language, and coverage of a corpus.

Reads any query files, published shards included, and changes nothing.  Files that cannot be used at all (a broken
record, a missing shard, a passage's language given twice) are a `UserError`; bad queries and passages without queries
are a report.
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import GeneratedQueries, find_language, read_generated
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import FilePath
from xqg_pyserini.generate.identify import identification
from xqg_pyserini.generate.rules import RULES, TextRules
from xqg_pyserini.generate.texts import PassageTexts
from xqg_pyserini.stores import IDS, GivenOnce, IdIndex, ids_at, placed, write_distinct_ids

NAMED = 5  # ids that a report names


class LanguageCheck(NamedTuple):
    """The queries of one language."""

    passages: int  # with at least one query that is not blank
    queries: int  # that are not blank
    least: int  # queries of a passage for which the language is given (0: all of them blank)
    mean: float
    most: int
    dropped: dict[str, int]  # rule → queries that `xqg filter` would drop for it, and blank ones
    short: int | None  # passages with fewer queries than were asked for, None: not asked


class Coverage(NamedTuple):
    """What of a corpus has queries."""

    passages: int
    covered: int  # with at least one query that is not blank, in any language
    without: tuple[str, ...]  # the first ids that have none
    unknown: int  # records for passages that the corpus does not hold; counted nowhere else
    unknown_ids: tuple[str, ...]  # the first of these


class QueryCheck(NamedTuple):
    """What `check_queries` found."""

    source: str
    records: int
    passages: int  # distinct ones that have a record
    num_queries: int | None
    languages: dict[str, LanguageCheck]
    coverage: Coverage | None  # None without a corpus

    def as_json(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            **self._asdict(),
            "languages": {l: counts._asdict() for l, counts in self.languages.items()},
            "coverage": self.coverage and self.coverage._asdict(),
        }


def check_queries(
    queries: str | Path,
    corpus: FilePath | None = None,
    num_queries: int | None = None,
    *,
    min_length: int = TextRules.min_length,
    max_length: int = TextRules.max_length,
) -> QueryCheck:
    """Look through generated queries: a file, a directory of shards or a pattern.

    Every query is put to all of `TextRules` ("copies" only with a corpus) and counted under the first that it breaks,
    as `xqg filter` would do; a warning says where "language" is left out, since its package is not installed.  With
    `num_queries`, passages with fewer queries in a language are counted: of the corpus, or without one of those that
    have a record.

    What is held is some 32 bytes a passage and a bit for each language; the corpus's texts are copied to the folder for
    temporary files (`TMPDIR`) while this runs.

    Raises:
        UserError: for files that cannot be used: a record that cannot be read, missing shards, a passage's language
            given twice, two passages of the corpus with one id.
    """
    if num_queries is not None and num_queries < 1:
        raise UserError(f"{num_queries} queries a passage; expected 1 or more", "num_queries")
    names = [rule for rule in RULES if rule != "copies" or corpus is not None]
    try:
        identification()
    except UserError as error:
        warn(f"languages of queries are not identified: {error}")
        names.remove("language")
    rules = TextRules(tuple(names), min_length, max_length)
    with tempfile.TemporaryDirectory(prefix="xqg-check-") as scratch:
        folder = Path(scratch)
        if corpus is None:
            bar = tqdm(read_generated(queries), "reading ids", unit=" passages", disable=None)
            n = write_distinct_ids((record.docid for _, record in bar), folder / IDS)
            return _Check(n, IdIndex(folder / IDS), rules, num_queries).run(queries, None)
        texts = PassageTexts.write(corpus, folder)
        try:
            return _Check(texts.n, texts.index, rules, num_queries).run(queries, texts)
        finally:
            texts.close()


class _Check:
    """One pass over the records; `n` passages, their rows in `index`."""

    def __init__(self, n: int, index: IdIndex, rules: TextRules, num_queries: int | None) -> None:
        self.n, self.index, self.rules, self.num_queries = n, index, rules, num_queries
        self.with_record, self.covered = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        # language → queries of each passage for which it is given, as number of queries → passages
        self.sizes: dict[str, Counter[int]] = {}
        self.dropped: Counter[tuple[str, str]] = Counter()

    def run(self, source: str | Path, texts: PassageTexts | None) -> QueryCheck:
        given, records, unknown = GivenOnce(self.n), 0, 0
        unknown_ids: dict[str, None] = {}
        bar = tqdm(read_generated(source), "checking", unit=" passages", disable=None)
        for row, line, record in placed(bar, self.index):
            records += 1
            if row < 0:
                unknown += 1
                if len(unknown_ids) < NAMED:
                    unknown_ids[record.docid] = None
                continue
            given.add(row, line, record)
            self._add(row, record, None if texts is None else texts.at(row))
        coverage = None
        if texts is not None:
            bare = np.flatnonzero(~self.covered)[:NAMED].tolist()
            ids = tuple(ids_at(texts.ids_path, bare).values())
            coverage = Coverage(self.n, int(self.covered.sum()), ids, unknown, tuple(unknown_ids))
        languages = {language: self._language(language) for language in sorted(self.sizes)}
        self.rules.warn_unknown(languages)
        passages = int(self.with_record.sum())
        return QueryCheck(str(source), records, passages, self.num_queries, languages, coverage)

    def _add(self, row: int, record: GeneratedQueries, text: str | None) -> None:
        self.with_record[row] = True
        # ha and hau are one language, called as it was first
        queries = {find_language(code, self.sizes) or code: texts for code, texts in record.queries.items()}
        for language, texts in queries.items():
            full = sum(1 for query in texts if query.strip())
            self.sizes.setdefault(language, Counter())[full] += 1
            self.covered[row] |= full > 0
        self.dropped.update(self.rules.apply(text, queries).dropped)

    def _language(self, language: str) -> LanguageCheck:
        sizes, asked = self.sizes[language], self.num_queries
        queries = sum(size * passages for size, passages in sizes.items())
        enough = sum(passages for size, passages in sizes.items() if size >= (asked or 0))
        return LanguageCheck(
            sizes.total() - sizes[0],
            queries,
            min(sizes),
            queries / sizes.total(),
            max(sizes),
            {reason: self.dropped[language, reason] for reason in self.rules.reasons},
            None if asked is None else self.n - enough,
        )
