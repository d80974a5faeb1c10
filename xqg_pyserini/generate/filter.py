"""Generated queries → the good ones among them: file by file, streaming, resumable.

Text rules come first (`rules`), then the consistency of what is left with its own passage (`consistency`).  Every other
key of a record stays as it is.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from xqg_pyserini import stores
from xqg_pyserini.data import GeneratedQueries, describe_sources, read_generated
from xqg_pyserini.data.sources import parts_of
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import ENDINGS, SUFFIXES, FilePath, Line, compression, write_json, writing
from xqg_pyserini.generate.consistency import QUANTILE, WITHIN, ScoreFiles, better_passages, own_scores
from xqg_pyserini.generate.rules import TextRules
from xqg_pyserini.generate.texts import PassageTexts
from xqg_pyserini.metadata import read_json
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.settings import check_values, option

KIND = "filtered-queries"
STEP = 4096  # queries that are encoded, and compared with the store, together
SCRATCH = "scratch"


@dataclass(frozen=True)
class FilterSettings:
    """What a query must do beside its own passage, and what becomes of unknown passages.

    Raises:
        UserError: for a value that the field does not take.
    """

    min_quantile: float | None = option(
        None,
        "keep queries whose score with their own passage is at or above the language's Q-quantile, e.g. 0.3",
        above=0,
        below=1,
        metavar="Q",
    )
    within: int | None = option(
        None, "keep queries for which fewer than K passages of the store score above their own", least=1, metavar="K"
    )
    skip_unknown: bool = option(False, "drop queries for passages that are not there")

    def __post_init__(self) -> None:
        check_values(self)

    @property
    def consistency(self) -> list[str]:
        """Return what of consistency a query can be dropped for."""
        asked = {QUANTILE: self.min_quantile, WITHIN: self.within}
        return [reason for reason, value in asked.items() if value is not None]


class FilterReport(NamedTuple):
    """What `filter_queries` kept and dropped."""

    records: int  # that were written
    skipped: int  # for passages that the store or the corpus does not hold
    languages: dict[str, dict[str, int]]  # language → queries, each reason's dropped, kept
    thresholds: dict[str, float]  # language → the lowest score that was kept (`min_quantile`)

    def as_json(self) -> dict[str, Any]:
        """Return the report for `--json` and `meta.json`."""
        return self._asdict()


class Consistency(NamedTuple):
    """What judges whether a query belongs to its passage."""

    store: stores.VectorStore
    encoder: Encoder


def filter_queries(
    queries: str | Path,
    output: str | Path,
    rules: TextRules | None = None,
    settings: FilterSettings | None = None,
    *,
    corpus: FilePath | None = None,
    passages: str | Path | stores.VectorStore | None = None,
    encoder: Encoder | str | None = None,
    overwrite: bool = False,
) -> FilterReport:
    """Write the good queries of a file, directory or pattern into a folder of the same file names.

    Blank queries and those that break one of the `rules` are dropped.  Of what is left, a query is kept only if the
    inner product of its embedding and its passage's is at or above the `min_quantile`-quantile of all such scores in
    its language (over the whole input), and if fewer than `within` passages of the store score strictly above its own.
    `within` costs a product of every query with every passage; `min_quantile` costs encoding the queries.

    The rule "copies" takes the passages' texts from `corpus`; consistency takes `passages`, the passage store, and the
    encoder that it was made with (None makes one).

    A language whose queries are all dropped keeps its key, with an empty list.  A killed job goes on where it was, and
    ends in the same bytes.

    Raises:
        UserError: for nothing to do, a record that cannot be read, a missing shard, a passage's language given twice,
            a passage that the store or the corpus does not hold (`skip_unknown` drops such records), two input files
            of one name, an encoder that is not the store's.
    """
    rules, settings = rules or TextRules(), settings or FilterSettings()
    _check_task(rules, settings, corpus, passages, encoder)
    consistency = judge = None
    if passages is not None:
        store = passages if isinstance(passages, stores.VectorStore) else stores.VectorStore(passages)
        encoder = Encoder.for_store(store, encoder)
        consistency = Consistency(store, encoder)
        judge = [repr(encoder.settings), encoder.how, store.meta["vectors_sha256"], store.meta["ids_sha256"]]
    files = _output_names(queries)
    inputs = [queries, corpus, consistency and consistency.store.path]
    job = {
        "stage": "filter",
        "rules": [*rules.reasons, rules.min_length, rules.max_length, rules.identification],
        "consistency": judge,
        "settings": repr(settings),
        "sources": describe_sources(queries),
        "generated_from": _generated_from(queries),
        "corpus": None if corpus is None else describe_sources(corpus),
    }
    with stores.resumable(output, job, overwrite, inputs) as part:
        filtering = _Filtering(part, queries, files, rules, settings, corpus, consistency)
        filtering.run()
        report = filtering.finish(job)
        several = part.state["several"]
    rules.warn_unknown(report.languages)
    if report.skipped:
        warn(f"{report.skipped} records are for passages that are not there and were dropped")
    if several and "duplicates" in rules.rules:
        warn(
            f"{several} records continue a passage of an earlier one; duplicates were looked for "
            "within each record only"
        )
    return report


def _check_task(rules: TextRules, settings: FilterSettings, corpus: Any, passages: Any, encoder: Any) -> None:
    """Raise `UserError` for a task that makes no sense."""
    shares = ("min_quantile", "within")
    if not rules.rules and not settings.consistency:
        raise UserError("nothing to filter by: give rules, a quantile or a rank", ("rules", *shares))
    if settings.consistency and passages is None:
        raise UserError("a quantile and a rank need the passage store", ("passages", *shares))
    if not settings.consistency and (passages is not None or encoder is not None):
        raise UserError("passages and an encoder serve a quantile or a rank: give one of these", shares)
    if "copies" in rules.rules and corpus is None:
        raise UserError("the rule 'copies' needs the passages' texts: give the corpus", "corpus")
    if corpus is not None and "copies" not in rules.rules:
        raise UserError("the corpus serves the rule 'copies' alone; give that, or leave it out", ("corpus", "rules"))


def _output_names(queries: str | Path) -> list[Path]:
    """Return the input files, each with a name that a folder of query files can have."""
    paths = [part.path for part in parts_of(queries, "generated queries")]
    seen: dict[str, Path] = {}
    for path in paths:
        name = _written_as(path)
        if name in seen:
            raise UserError(
                f"{seen[name]} and {path} have one name, which the output can hold only "
                "once; filter them into folders of their own"
            )
        seen[name] = path
        reserved = name.startswith(".") or name in (stores.META, "progress.json")
        if reserved or not name.lower().endswith(SUFFIXES):
            raise UserError(
                f"{path}: the output keeps the names of its inputs, and this would not be read "
                f"there; rename it so that it ends in {', '.join(ENDINGS)}"
            )
    return paths


def _written_as(path: Path) -> str:
    """Return the name of an input file's output."""
    return f"{path.name}.jsonl" if path.suffix.lower() == ".parquet" else path.name


def _generated_from(queries: str | Path) -> Any:
    """Return the description that a folder of generated queries carries, None where none is."""
    meta = Path(queries) / stores.META
    if not meta.is_file():
        return None
    return read_json(meta, dict[str, Any], "mend or remove it")


class _Item(NamedTuple):
    """A record on its way: `kept` and `dropped` are None where its passage is not there."""

    line: Line
    record: GeneratedQueries
    row: int
    kept: dict[str, tuple[str, ...]] | None
    dropped: Mapping[tuple[str, str], int]


@dataclass
class _Filtering:
    """The job: check, score, write file after file; `part.done` counts the records scored, then the files written."""

    part: stores.Job
    queries: str | Path
    files: list[Path]
    rules: TextRules
    settings: FilterSettings
    corpus: FilePath | None
    consistency: Consistency | None
    texts: PassageTexts | None = None
    index: stores.IdIndex | None = None

    def __post_init__(self) -> None:
        self.scratch = self.part.path / SCRATCH

    def run(self) -> None:
        """Do what is not done yet."""
        state = self.part.state
        fresh = not state
        if not fresh and self.part.done == self._scored() + len(self.files):
            return  # killed while it took its name
        self._open(fresh)
        if fresh:
            self.part.state = state = self._check()
            self.part.save(0)
        scores = ScoreFiles(self.scratch)
        try:
            if self.consistency is not None and self.part.done < self._scored():
                self._score(self.consistency, scores)
            share = self.settings.min_quantile
            if share is not None and not state["thresholds"]:
                state["thresholds"] = {l: scores.quantile(l, share) for l in sorted(state["sizes"])}
                self.part.save(self.part.done)
            self._write(scores)
        finally:
            if self.texts is not None:
                self.texts.close()

    def _scored(self) -> int:
        """Return how many steps come before the first file is written."""
        return 0 if self.consistency is None else sum(self.part.state["records"])

    def _open(self, fresh: bool) -> None:
        """Find passages by id: in the store, in the corpus, or among the queries' own."""
        if fresh:
            self.scratch.mkdir()
        if self.corpus is not None:
            self.texts = PassageTexts.write(self.corpus, self.scratch) if fresh else PassageTexts(self.scratch)
        if self.consistency is not None:
            self.index = stores.IdIndex(self.consistency.store.ids_path)
        elif self.texts is not None:
            self.index = self.texts.index
        else:
            if fresh:
                records = read_generated(self.queries)
                bar = tqdm(records, "reading ids", unit=" passages", disable=None)
                stores.write_distinct_ids((record.docid for _, record in bar), self.scratch / stores.IDS)
            self.index = stores.IdIndex(self.scratch / stores.IDS)

    def _check(self) -> dict[str, Any]:
        """Read every record once, for the errors that can be told by reading."""
        assert self.index is not None
        given = stores.GivenOnce(len(self.index))
        records = {path: 0 for path in self.files}
        several = skipped = 0
        bar = tqdm(read_generated(self.queries), "checking", unit=" passages", disable=None)
        for row, line, record in stores.placed(bar, self.index):
            records[line.path] += 1
            unknown = self._unknown(row, record)
            if unknown is None:
                several += given.add(row, line, record)
            elif self.settings.skip_unknown:
                skipped += 1
            else:
                raise stores.unknown_passage(line, record, unknown)
        if skipped == sum(records.values()):
            raise UserError(f"{self.queries}: no queries for a passage that is there")
        reasons = ("queries", *self.rules.reasons, *self.settings.consistency, "kept")
        return {
            "records": list(records.values()),
            "several": several,
            "skipped": skipped,
            "sizes": {},  # language → queries scored
            "thresholds": {},
            "read": {},  # language → scored queries whose records are written
            "counts": {l: dict.fromkeys(reasons, 0) for l in sorted(given.languages)},
        }

    def _unknown(self, row: int, record: GeneratedQueries) -> FilePath | None:
        """Return what lacks the record's passage, None where it is everywhere."""
        if row < 0:
            return self.corpus if self.consistency is None else self.consistency.store.path
        if self.texts is not None and self.consistency is not None:
            return None if self.texts.of(record.docid) is not None else self.corpus
        return None

    def _items(self, start: int) -> Iterator[_Item]:
        """Yield the records from number `start` on, the text rules applied."""
        assert self.index is not None
        records = islice(read_generated(self.queries), start, None)
        for row, line, record in stores.placed(records, self.index):
            if self._unknown(row, record) is not None:
                yield _Item(line, record, row, None, {})
            else:
                text = None if self.texts is None else self.texts.of(record.docid)
                yield _Item(line, record, row, *self.rules.apply(text, record.queries))

    def _score(self, consistency: Consistency, scores: ScoreFiles) -> None:
        """Score every query that the text rules keep."""
        part, state = self.part, self.part.state
        if part.begin(consistency.encoder.describe("query")):
            state["sizes"] = {}
        scores.resume(state["sizes"])
        done = part.done
        with tqdm(total=self._scored(), initial=done, desc="scoring", unit=" passages", disable=None) as bar:
            for items in _steps(self._items(done)):
                with consistency.encoder.computing.limited():
                    self._score_step(items, consistency, scores)
                done += len(items)
                bar.update(len(items))
                if part.due:
                    scores.flush()
                    part.save(done)
        scores.flush()
        part.save(done)

    def _score_step(self, items: list[_Item], consistency: Consistency, scores: ScoreFiles) -> None:
        asked = [
            (item.row, language, text)
            for item in items
            for language, texts in (item.kept or {}).items()
            for text in texts
        ]
        if not asked:
            return
        rows, languages, texts = zip(*asked, strict=True)
        vectors = consistency.encoder.encode_queries(list(texts))
        own = own_scores(vectors, np.array(rows, np.int64), consistency.store)
        values = {QUANTILE: own}
        if self.settings.within is not None:
            above = better_passages(vectors, own, consistency.store)
            values[WITHIN] = above < self.settings.within
        sizes = self.part.state["sizes"]
        for language in sorted(set(languages)):
            of_language = np.array(languages) == language
            sizes[language] = sizes.get(language, 0) + int(of_language.sum())
            for reason in self.settings.consistency:
                scores.append(reason, language, values[reason][of_language])

    def _write(self, scores: ScoreFiles) -> None:
        part, records = self.part, self.part.state["records"]
        written = part.done - self._scored()  # files
        done = sum(records[:written])
        items = self._items(done)
        with tqdm(total=sum(records), initial=done, desc="filtering", unit=" passages", disable=None) as bar:
            for path, number in list(zip(self.files, records, strict=True))[written:]:
                zipped = (compression(path) == "gzip") if path.is_file() else path.suffix == ".gz"
                with writing(part.path / _written_as(path), zipped=zipped) as file:
                    for item in islice(items, number):
                        bar.update(1)
                        if item.kept is not None:
                            record = json.loads(item.line.text) | {"generated_queries": self._judge(item, scores)}
                            file.write(json.dumps(record, ensure_ascii=False) + "\n")
                part.save(part.done + 1)

    def _judge(self, item: _Item, scores: ScoreFiles) -> dict[str, Sequence[str]]:
        """Return the queries of a record that stay, and count the others."""
        assert item.kept is not None
        all_counts = self.part.state["counts"]
        for (language, reason), number in item.dropped.items():
            all_counts[language][reason] += number
        kept: dict[str, Sequence[str]] = {}
        for language, texts in item.kept.items():
            counts = all_counts[language]
            counts["queries"] += len(item.record.queries[language])
            kept[language] = texts
            if self.consistency is not None:
                good = np.ones(len(texts), dtype=bool)
                for reason, passed in self._verdicts(language, len(texts), scores):
                    counts[reason] += int((good & ~passed).sum())
                    good &= passed
                kept[language] = list(compress(texts, good))
            counts["kept"] += len(kept[language])
        return kept

    def _verdicts(self, language: str, number: int, scores: ScoreFiles) -> Iterator[tuple[str, np.ndarray]]:
        """Yield what consistency says of the next queries of a language: reason, (n,) bool."""
        read, thresholds = self.part.state["read"], self.part.state["thresholds"]
        start = read.get(language, 0)
        read[language] = start + number
        for reason in self.settings.consistency:
            # a language without scores has no threshold; what is near its passage is written as 1
            least = thresholds.get(language, 0.0) if reason == QUANTILE else 1
            yield reason, scores.take(reason, language, start, number) >= least

    def finish(self, job: dict[str, Any]) -> FilterReport:
        """Write `meta.json` last, and return the report."""
        state, consistency = self.part.state, self.consistency
        shutil.rmtree(self.scratch, ignore_errors=True)
        records = sum(state["records"]) - state["skipped"]
        report = FilterReport(records, state["skipped"], state["counts"], state["thresholds"])
        lengths = self.rules if "length" in self.rules.rules else None
        meta = {
            "format": stores.FORMAT,
            "kind": KIND,
            "rules": list(self.rules.rules),
            "min_length": lengths and lengths.min_length,
            "max_length": lengths and lengths.max_length,
            "identification": self.rules.identification,
            "min_quantile": self.settings.min_quantile,
            "within": self.settings.within,
            "encoder": state.get("encoder"),
            "passages": consistency and {key: consistency.store.meta[key] for key in ("ids_sha256", "vectors_sha256")},
            "corpus": job["corpus"],
            "sources": job["sources"],
            "files": [f for path in self.files for f in describe_sources(self.part.path / _written_as(path))],
            "report": report.as_json(),
            "generated_from": job["generated_from"],
        }
        write_json(self.part.path / stores.META, meta)
        return report


def _steps(items: Iterator[_Item]) -> Iterator[list[_Item]]:
    """Yield the items in lists that together have `STEP` queries or a few more."""
    step: list[_Item] = []
    queries = 0
    for item in items:
        step.append(item)
        queries += sum(map(len, (item.kept or {}).values()))
        if queries >= STEP or len(step) == STEP:
            yield step
            step, queries = [], 0
    if step:
        yield step
