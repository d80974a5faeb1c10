"""Generated queries → per-language sums and counts: streaming, resumable.

Query embeddings are never stored: for each passage and language only their sum and number are.
A passage's sum is assigned, not added to, so that a chunk done twice changes nothing.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini import stores
from xqg_pyserini.data import GeneratedQueries, find_language, read_generated
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import Line, chunks, describe_sources, file_sha256, write_json
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.settings import option
from xqg_pyserini.stores import IdIndex, Job, QueryStore, VectorStore

CHUNK = 128  # records whose queries are encoded together; a resumed job goes on at a chunk


class QuerySource:
    """Where records of generated queries come from: here, files; in `retrieve.through`, a generation job.

    Attributes:
        inputs: paths that the output must not destroy.
    """

    def __init__(self, queries: str | Path) -> None:
        self._queries, self._sources = queries, describe_sources(queries)
        stores.check_recorded(queries, self._sources)
        self.inputs: list[Any] = [queries]

    def identity(self) -> Any:
        """Return what tells these records from others, known before they are read (JSON)."""
        return self._sources

    def describe(self) -> list[dict[str, Any]]:
        """Return names, sizes and checksums of the files, asked for when all are read."""
        return self._sources

    def check(self, store: VectorStore, index: IdIndex, skip_unknown: bool) -> dict[str, Any]:
        """Return the languages, the number of queries and of skipped records, or raise."""
        given = stores.GivenOnce(store.n)
        total = skipped = 0
        bar = tqdm(read_generated(self._queries), "checking", unit=" passages", disable=None)
        for row, line, record in stores.placed(bar, index):
            if row < 0:
                if not skip_unknown:
                    raise stores.unknown_passage(line, record, store.path, stores.iterate_ids(store.ids_path))
                skipped += 1
                continue
            given.add(row, line, record)
            for texts in record.queries.values():
                total += sum(1 for text in texts if text.strip())
        if not total:
            raise UserError(f"{self._queries}: no query for a passage of {store.path}")
        languages: list[str] = []  # one code a language, the first of several that are written
        for code in sorted(given.languages):
            if find_language(code, languages) is None:
                languages.append(code)
        return {"languages": languages, "queries": total, "skipped": skipped}

    def records(self) -> Iterator[tuple[Line, GeneratedQueries]]:
        """Yield the records, the same and in the same order every time."""
        return read_generated(self._queries)


@dataclass(frozen=True)
class AccumulateSettings:
    """How queries are added up; each field's help says what it is.

    Raises:
        UserError: for a number of queries to keep that is below 1 or comes twice.
    """

    dtype: str = option("float32", "of the sums", *stores.DTYPES)
    skip_unknown: bool = option(False, "leave out queries for passages that are not there")
    keep_counts: tuple[int, ...] = option(
        (), "keep the sums of the first K queries a language as well (for --num-queries)", metavar="K"
    )

    def __post_init__(self) -> None:
        stores.check_dtype(self.dtype)
        counts = self.keep_counts
        if len(set(counts)) < len(counts) or any(k < 1 for k in counts):
            typed = " ".join(map(str, counts))
            raise UserError(f"keep_counts {typed}: expected numbers from 1, each once", "keep_counts")
        object.__setattr__(self, "keep_counts", tuple(sorted(counts)))


def accumulate_queries(
    queries: str | Path | QuerySource,
    passages: str | Path | VectorStore,
    output: str | Path,
    settings: AccumulateSettings | None = None,
    *,
    encoder: Encoder | str | None = None,
    overwrite: bool = False,
) -> QueryStore:
    """Encode the generated queries of a file, directory or pattern and sum them by language.

    Files are read twice: once to check every record against the passage store, once to encode.  A passage may have its
    languages in several records, but each language in one.  Queries are encoded as queries, by the passage store's own
    encoder unless one is given.  For each k of `keep_counts` the sums of the first k queries of a language (in the
    record's order, blank ones left out) are kept as well: `QueryStore(output, first=k)` reads them.

    Raises:
        UserError: for a record that cannot be read, a passage that the store does not hold (`skip_unknown` leaves it
            out and counts it), queries of one language given twice for a passage, an encoder that is not the passages'.
    """
    settings = settings or AccumulateSettings()
    store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
    encoder = Encoder.for_store(store, encoder)
    source = queries if isinstance(queries, QuerySource) else QuerySource(queries)
    kept = list(settings.keep_counts)
    job = {"stage": "accumulate", "encoder": repr(encoder.settings), "passages": store.meta["ids_sha256"]}
    job |= {"sources": source.identity(), "dtype": settings.dtype, "kept": kept}
    job |= {"how": [*encoder.how, settings.skip_unknown]}
    with stores.resumable(output, job, overwrite, [*source.inputs, store.path]) as part:
        index = IdIndex(store.ids_path)
        if not part.state:
            part.state = source.check(store, index, settings.skip_unknown)
            part.save(0)
        description = encoder.describe("query")
        summing = _Summing(part, store, settings.dtype, kept, part.begin(description))
        _accumulate(source, index, encoder, part, summing)
        _finish(part, store, settings, description, source.describe())
        state = part.state
    if state["skipped"]:
        warn(f"{state['skipped']} records are for passages not in {store.path} and were skipped")
    if state["blank"]:
        warn(f"{state['blank']} generated queries are blank and were left out")
    return QueryStore(output)


class _Summing:
    """The matrices being filled: sums by language, of all queries and of the first few; counts."""

    def __init__(self, part: Job, store: VectorStore, dtype: str, kept: Sequence[int], fresh: bool) -> None:
        self.languages: list[str] = part.state["languages"]
        self.dtype = dtype
        shape = (store.n, store.d)
        names = {(l, k): part.path / stores.sum_file(l, k) for k in (None, *kept) for l in self.languages}
        if fresh:
            part.state |= {"encoded": 0, "blank": 0}
            self.counts = stores.create_matrix(part.path / stores.COUNTS, (store.n, len(self.languages)), "int32")
            self.sums = {key: stores.create_matrix(path, shape, dtype) for key, path in names.items()}
        else:
            self.counts = stores.reopen_matrix(part.path / stores.COUNTS)
            self.sums = {key: stores.reopen_matrix(path) for key, path in names.items()}
        self.matrices = [self.counts, *self.sums.values()]

    def assign(self, row: int, language: str, vectors: np.ndarray) -> None:
        """Set the sum and number of one passage's queries in one language."""
        language = str(find_language(language, self.languages))
        for (of, first), matrix in self.sums.items():
            if of == language:
                total = vectors[:first].sum(axis=0, dtype=np.float64)
                if self.dtype == "float16" and np.abs(total).max(initial=0) > 65504:
                    raise UserError("a sum of query vectors does not fit into float16; use float32", "dtype")
                matrix[row] = total
        self.counts[row, self.languages.index(language)] = len(vectors)


def _accumulate(source: QuerySource, index: IdIndex, encoder: Encoder, part: Job, summing: _Summing) -> None:
    records = stores.placed(islice(source.records(), part.done, None), index)
    done = part.done
    with tqdm(total=part.state["queries"], desc="encoding", unit=" queries", disable=None) as bar:
        bar.update(part.state["encoded"])
        for chunk in chunks(records, CHUNK):
            done += len(chunk)
            blank = 0
            texts: list[str] = []
            places: list[tuple[int, str, int, int]] = []
            for row, _, record in chunk:
                if row < 0:
                    continue
                for language, written in record.queries.items():
                    full = [text for text in written if text.strip()]
                    blank += len(written) - len(full)
                    places.append((row, language, len(texts), len(texts) + len(full)))
                    texts += full
            vectors = encoder.encode_queries(texts, bar.update)
            for row, language, start, stop in places:
                summing.assign(row, language, vectors[start:stop])
            part.state["encoded"] += len(texts)
            part.state["blank"] += blank
            if part.due:
                part.save(done, summing.matrices)
    for matrix in summing.matrices:
        matrix.flush()


def _finish(
    part: Job, store: VectorStore, settings: AccumulateSettings, encoder: dict[str, Any], sources: list[dict[str, Any]]
) -> None:
    languages, kept = part.state["languages"], settings.keep_counts
    shutil.copyfile(store.ids_path, part.path / stores.IDS)
    meta = stores.store_meta(stores.QUERY_SUMS, store.n, store.d, settings.dtype, encoder)
    meta |= {"ids_sha256": store.meta["ids_sha256"], "languages": languages}
    meta |= {"queries": part.state["encoded"], "blank": part.state["blank"], "skipped": part.state["skipped"]}
    meta["sums_sha256"] = {l: file_sha256(part.path / stores.sum_file(l)) for l in languages}
    if kept:
        meta["kept"] = {str(k): {l: file_sha256(part.path / stores.sum_file(l, k)) for l in languages} for k in kept}
    meta |= {"counts_sha256": file_sha256(part.path / stores.COUNTS), "sources": sources}
    write_json(part.path / stores.META, meta)
