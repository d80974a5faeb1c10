"""What is wrong with a folder of generated queries: counts by language, and coverage of a corpus.

Reads any query files, published shards included, and changes nothing.  Files that cannot be used
at all (a broken record, a missing shard, a passage's language given twice) are a `UserError`;
bad queries and passages without queries are a report.
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import GeneratedQueries, read_generated
from xqg_pyserini.errors import UserError
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


class _LanguageTally:
    """The numbers of one language while the records go by."""

    def __init__(self) -> None:
        self.given = self.passages = self.queries = self.most = self.enough = 0
        self.least: int | None = None
        self.dropped: Counter[str] = Counter()

    def add(self, queries: int, num_queries: int | None) -> None:
        self.given += 1
        self.passages += queries > 0
        self.queries += queries
        self.least = queries if self.least is None else min(self.least, queries)
        self.most = max(self.most, queries)
        self.enough += num_queries is not None and queries >= num_queries

    def result(self, rules: TextRules, passages: int, num_queries: int | None) -> LanguageCheck:
        return LanguageCheck(
            self.passages,
            self.queries,
            self.least or 0,
            self.queries / self.given,
            self.most,
            {reason: self.dropped[reason] for reason in rules.reasons},
            None if num_queries is None else passages - self.enough,
        )


def check_queries(
    queries: str | Path,
    corpus: str | Path | None = None,
    num_queries: int | None = None,
    *,
    min_length: int = TextRules.min_length,
    max_length: int = TextRules.max_length,
) -> QueryCheck:
    """Look through generated queries: a file, a directory of shards or a pattern.

    Every query is put to all of `TextRules` ("copies" only with a corpus) and counted
    under the first that it breaks, as `xqg filter` would do.  With `num_queries`, passages with
    fewer queries in a language are counted: of the corpus, or without one of those that have a
    record.

    What is held is some 32 bytes a passage and a bit for each language; the corpus's texts are
    copied to the folder for temporary files (`TMPDIR`) while this runs.

    Raises:
        UserError: for files that cannot be used: a record that cannot be read, missing shards, a
            passage's language given twice, two passages of the corpus with one id.
    """
    if num_queries is not None and num_queries < 1:
        raise UserError(f"{num_queries} queries a passage; expected 1 or more", "num_queries")
    names = RULES if corpus is not None else tuple(rule for rule in RULES if rule != "copies")
    rules = TextRules(names, min_length, max_length)
    with tempfile.TemporaryDirectory(prefix="xqg-check-") as scratch:
        folder = Path(scratch)
        if corpus is None:
            bar = tqdm(read_generated(queries), "reading ids", unit=" passages", disable=None)
            n = write_distinct_ids((record.docid for _, record in bar), folder / IDS)
            return _Check(queries, n, IdIndex(folder / IDS), rules, num_queries).run(None)
        texts = PassageTexts.write(corpus, folder)
        try:
            return _Check(queries, texts.n, texts.index, rules, num_queries).run(texts)
        finally:
            texts.close()


class _Check:
    """One pass over the records; `n` passages, found by `index`."""

    def __init__(
        self,
        source: str | Path,
        n: int,
        index: IdIndex,
        rules: TextRules,
        num_queries: int | None,
    ) -> None:
        self.source, self.n, self.index = source, n, index
        self.rules, self.num_queries = rules, num_queries
        self.tallies: dict[str, _LanguageTally] = {}
        self.with_record = np.zeros(n, dtype=bool)
        self.covered = np.zeros(n, dtype=bool)

    def run(self, texts: PassageTexts | None) -> QueryCheck:
        given, records, unknown = GivenOnce(self.n), 0, 0
        unknown_ids: list[str] = []
        bar = tqdm(read_generated(self.source), "checking", unit=" passages", disable=None)
        for row, line, record in placed(bar, self.index):
            records += 1
            if row < 0:
                unknown += 1
                if len(unknown_ids) < NAMED and record.docid not in unknown_ids:
                    unknown_ids.append(record.docid)
                continue
            given.add(row, line, record)
            self._add(row, record, None if texts is None else texts.at(row))
        coverage = None
        if texts is not None:
            bare = np.flatnonzero(~self.covered)[:NAMED].tolist()
            ids = ids_at(texts.ids_path, bare)
            coverage = Coverage(
                self.n,
                int(self.covered.sum()),
                tuple(ids[row] for row in bare),
                unknown,
                tuple(unknown_ids),
            )
        return QueryCheck(
            str(self.source),
            records,
            int(self.with_record.sum()),
            self.num_queries,
            {
                language: self.tallies[language].result(self.rules, self.n, self.num_queries)
                for language in sorted(self.tallies)
            },
            coverage,
        )

    def _add(self, row: int, record: GeneratedQueries, text: str | None) -> None:
        self.with_record[row] = True
        for language, texts in record.queries.items():
            full = sum(1 for query in texts if query.strip())
            self.tallies.setdefault(language, _LanguageTally()).add(full, self.num_queries)
            self.covered[row] |= full > 0
        for (language, reason), number in self.rules.apply(text, record.queries).dropped.items():
            self.tallies[language].dropped[reason] += number


def check_text(check: QueryCheck) -> str:
    """Return the report for people: a table by language, and what the corpus lacks."""
    from tabulate import tabulate

    lines = [f"{check.source}: {check.records} records, {check.passages} passages"]
    coverage = check.coverage
    rows = []
    for language, counts in check.languages.items():
        row: dict[str, Any] = {"language": language, "passages": counts.passages}
        if coverage is not None:
            row["of corpus"] = f"{counts.passages / coverage.passages:.1%}"
        row |= {"queries": counts.queries, "min": counts.least, "mean": f"{counts.mean:.2f}"}
        row |= {"max": counts.most, **counts.dropped}
        if check.num_queries is not None:
            row[f"under {check.num_queries}"] = counts.short
        rows.append(row)
    if rows:
        table = tabulate(rows, "keys", disable_numparse=True, stralign="right", numalign="right")
        lines += ["", table, ""]
    if coverage is not None:
        share = 100 * coverage.covered / coverage.passages
        lines.append(
            f"{coverage.covered} of {coverage.passages} passages of the corpus have queries "
            f"({share:.2f}%)"
        )
        bare = coverage.passages - coverage.covered
        if bare:
            lines.append(f"{bare} have none: {_some(coverage.without, bare)}")
        if coverage.unknown:
            lines.append(
                f"{coverage.unknown} records are for passages that the corpus does not hold, and "
                f"were not counted: {_some(coverage.unknown_ids, coverage.unknown)}"
            )
    return "\n".join(lines)


def _some(ids: tuple[str, ...], of: int) -> str:
    return ", ".join(ids) + (", …" if of > len(ids) else "")
