"""Generated queries → per-language sums and counts: streaming, resumable, in shards of the passages.

Query embeddings are never stored: for each passage and language only their sum and number are.
A passage's sum is assigned, not added to, so that a chunk done twice changes nothing.  A shard takes the queries of its
own passages; where records stand in the order of the passages it encodes chunks at its borders whole, as one job would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from msgspec import to_builtins
from msgspec.structs import fields
from tqdm import tqdm

from xqg_pyserini import stores
from xqg_pyserini.data import GeneratedQueries, describe_sources, find_language, pinned, read_generated
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import Line, chunks, file_sha256, write_json
from xqg_pyserini.metadata import checked
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve.merge import write_whole
from xqg_pyserini.retrieve.sharding import Replacing, WrittenShards, write_shards
from xqg_pyserini.settings import option
from xqg_pyserini.stores import IdIndex, Job, QueryStore, Shard, ShardSettings, VectorStore
from xqg_pyserini.stores.moments import MOMENTS, SAMPLE, DescribedMoments, Moments, Pair

_ASIDE = (f".{MOMENTS}-1.partial", f".{MOMENTS}-2.partial")
CHUNK = 128  # records whose queries are encoded together; a resumed job goes on at a chunk


class QuerySource:
    """Where records of generated queries come from: here, files; in `retrieve.through`, a generation job.

    Args:
        queries: a file, directory or pattern.
        languages: those to read; None for all.
        first: how many queries of a language are read of a record, blank ones not counted; None for all.

    Attributes:
        inputs: paths that the output must not destroy.
    """

    def __init__(self, queries: str | Path, languages: Sequence[str] | None = None, first: int | None = None) -> None:
        self._queries, self._sources = pinned(queries), describe_sources(queries)
        self._languages, self._first = languages, first
        stores.check_recorded(queries, self._sources)
        self.inputs: list[Any] = [queries]

    def identity(self) -> Any:
        """Return what tells these records from others, known before they are read (JSON)."""
        return self._sources

    def describe(self) -> list[dict[str, Any]]:
        """Return names, sizes and checksums of the files, asked for when all are read."""
        return self._sources

    def check(self, store: VectorStore, index: IdIndex, skip_unknown: bool) -> dict[str, Any]:
        """Return languages, numbers of queries and of skipped records, whether in the passages' order; or raise."""
        given = stores.GivenOnce(store.n)
        total = skipped = last = 0
        ordered = True
        bar = tqdm(self.records(), "checking", unit=" passages", disable=None)
        for row, line, record in stores.placed(bar, index):
            if row < 0:
                if not skip_unknown:
                    raise stores.unknown_passage(line, record, store.path, stores.iterate_ids(store.ids_path))
                skipped += 1
                continue
            given.add(row, line, record)
            last, ordered = row, ordered and row >= last
            for texts in record.queries.values():
                total += sum(1 for text in texts if text.strip())
        for wanted in self._languages or ():
            if find_language(wanted, given.languages) is None:
                raise UserError(f"{self._queries} has no queries in {wanted!r}", "languages")
        if not total:
            raise UserError(f"{self._queries}: no query for a passage of {store.path}")
        languages: list[str] = []  # one code a language, the first of several that are written
        for code in sorted(given.languages):
            if find_language(code, languages) is None:
                languages.append(code)
        return {"languages": languages, "queries": total, "skipped": skipped, "ordered": ordered}

    def records(self) -> Iterator[tuple[Line, GeneratedQueries]]:
        """Yield the records, the same and in the same order every time."""
        for line, record in read_generated(self._queries):
            if self._languages is not None:
                chosen = {l: texts for l, texts in record.queries.items() if find_language(l, self._languages)}
                record = record._replace(queries=chosen)
            if self._first is not None:
                full = {l: [text for text in texts if text.strip()] for l, texts in record.queries.items()}
                record = record._replace(queries={l: tuple(texts[: self._first]) for l, texts in full.items()})
            yield line, record


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
    moments: bool = option(False, "keep what xqg align learns from: d x d numbers a language, at no further encoding")

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
    repair: bool = False,
    cluster: str | None = None,
) -> QueryStore:
    """Encode the generated queries of a file, directory or pattern and sum them by language.

    Files are read twice: once to check every record against the passage store, once to encode.  A passage may have its
    languages in several records, but each language in one.  Queries are encoded as queries, by the passage store's own
    encoder unless one is given.  For each k of `keep_counts` the sums of the first k queries of a language (in the
    record's order, blank ones left out) are kept as well: `QueryStore(output, first=k)` reads them.  `repair` replaces
    what `output` holds of this same job if it is damaged.  A `cluster` ("ray" or "ray:ADDRESS") does the same in shards
    (`merge.write_whole`).

    Raises:
        UserError: for a record that cannot be read, a passage that the store does not hold (`skip_unknown` leaves it
            out and counts it), queries of one language given twice for a passage, an encoder that is not the passages'.
    """
    replacing = Replacing(overwrite, repair)
    if cluster is None:
        _Accumulating(queries, passages, settings, encoder).write(Path(output), replacing)
    else:
        if isinstance(queries, QuerySource):
            raise UserError("a cluster takes generated queries in files", "cluster")
        write = partial(accumulate_shards, queries, passages, settings=settings, encoder=encoder)
        store = passages.path if isinstance(passages, VectorStore) else passages
        write_whole(output, write, cluster, replacing, [queries, store])
    return QueryStore(output)


def accumulate_shards(
    queries: str | Path,
    passages: str | Path | VectorStore,
    output: str | Path,
    shards: ShardSettings,
    settings: AccumulateSettings | None = None,
    *,
    encoder: Encoder | str | None = None,
    overwrite: bool = False,
    repair: bool = False,
) -> WrittenShards:
    """Sum the queries of some shards of the passages, or of all, each into a store of its own in the folder `output`.

    Each shard reads all records, and encodes those of its passages.  A shard that stands there whole stays.
    `retrieve.merge` joins all: to the bytes of `accumulate_queries` where the records stand in the order of the
    passages, else to vectors that were encoded in other batches; moments to within their rounding
    (`stores.moments.Moments`).

    Raises:
        UserError: as `accumulate_queries`; for a shard of another job, or a damaged one without `repair`.
    """
    job = _Accumulating(queries, passages, settings, encoder)
    replacing = Replacing(overwrite, repair, shards.on_the_way)
    return write_shards(output, shards, job.store.n, job.store.meta["ids_sha256"], job, replacing)


Record = tuple[int, Line, GeneratedQueries]  # with the row of its passage, -1 for none


class _Reading(NamedTuple):
    """Where the records of the last shard ended: at its last chunk, which may have records of the next."""

    at: int  # records before it
    behind: int  # the highest row among these
    ahead: Iterator[list[Record]]


class Placing:
    """Records of queries beside the passage store that they are for, checked once."""

    def __init__(self, source: QuerySource, store: VectorStore, skip_unknown: bool) -> None:
        store.refuse_parts()
        self.source, self.store, self._skip_unknown = source, store, skip_unknown
        self._reading: _Reading | None = None

    @cached_property
    def index(self) -> IdIndex:
        """Where the store has its passages."""
        return IdIndex(self.store.ids_path)

    @cached_property
    def checked(self) -> dict[str, Any]:
        """What the check of all records found."""
        return self.source.check(self.store, self.index, self._skip_unknown)

    def __getstate__(self) -> dict[str, Any]:
        """Go to another process of a cluster with what was found, and without the index, which is large."""
        return {name: value for name, value in vars(self).items() if name != "index"} | {"_reading": None}

    def begin(self, part: Job) -> None:
        """Check all records, unless that is done, and note what was found in the job's state."""
        if not part.state:
            part.state = dict(self.checked)
            part.save(0)

    def chunks(self, start: int, rows: range, ordered: bool) -> Iterator[tuple[int, list[Record]]]:
        """Yield the records from number `start` on in chunks, each with the number of those before it.

        Where they are in the passages' order, chunks before the passages `rows` may be left out, and those behind are:
        the next shard is read on where the last one ended.
        """
        reading, self._reading = self._reading, None
        if reading is None or not ordered or reading.at < start or reading.behind >= rows.start:
            records = stores.placed(islice(self.source.records(), start, None), self.index)
            reading = _Reading(start, -1, chunks(records, CHUNK))
        at, behind, ahead = reading
        before: tuple[int, list[Record]] | None = None
        for chunk in ahead:
            if ordered and chunk[0][0] >= rows.stop:
                if before is not None:
                    self._reading = _Reading(before[0], behind, chain([before[1], chunk], ahead))
                return
            if before is not None:
                behind = max(behind, *(row for row, _, _ in before[1]))
            before = at, chunk
            yield at, chunk
            at += len(chunk)


class _Accumulating:
    """What is summed, and how."""

    def __init__(
        self,
        queries: str | Path | QuerySource,
        passages: str | Path | VectorStore,
        settings: AccumulateSettings | None,
        encoder: Encoder | str | None,
    ) -> None:
        self.settings = settings or AccumulateSettings()
        self.store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
        self.encoder = Encoder.for_store(self.store, encoder)
        self.source = queries if isinstance(queries, QuerySource) else QuerySource(queries)
        self.placing = Placing(self.source, self.store, self.settings.skip_unknown)

    @property
    def computing(self) -> Computing:
        return self.encoder.computing

    def prepare(self, device: str, folder: Path) -> None:
        """Check all records."""
        self.encoder = self.encoder.for_cluster(device)
        _ = self.placing.checked  # is kept

    def write(self, output: Path, replacing: Replacing, shard: Shard | None = None) -> bool:
        """Write the store of all passages, or of a shard; tell whether it had to be."""
        settings, store, encoder = self.settings, self.store, self.encoder
        kept, said = list(settings.keep_counts), to_builtins(shard)
        expected: dict[str, Any] = {"kind": stores.QUERY_SUMS, "sources": self.source.identity(), "shard": said}
        expected |= {"encoder": encoder.expected, "dtype": settings.dtype}
        expected |= {"kept": [str(k) for k in kept] or None}
        expected |= {MOMENTS: [f.name for f in fields(DescribedMoments)] if settings.moments else None}
        expected |= {} if shard else {"ids_sha256": store.meta["ids_sha256"]}
        if replacing.stands(output, stores.META, lambda: expected, shard):
            return False
        job = {"stage": "accumulate", "encoder": repr(encoder.settings), "passages": store.meta["ids_sha256"]}
        job |= {"sources": self.source.identity(), "dtype": settings.dtype, "kept": kept}
        job |= {"moments": store.meta["vectors_sha256"] if settings.moments else None, "shard": said}
        job |= {"how": [*encoder.how, settings.skip_unknown]}
        with stores.resumable(output, job, replacing.allowed, [*self.source.inputs, store.path]) as part:
            self.placing.begin(part)
            encoder = encoder.going_on(part.state)
            description = encoder.describe("query")
            fresh = part.begin(description)
            rows = range(store.n) if shard is None else shard.rows
            summing = _Summing(part, rows, store.d, settings, fresh)
            learning = Learning(part, store, fresh) if settings.moments else None
            encode_records(self.placing, rows, encoder, part, [summing, learning] if learning else [summing])
            described: dict[str, Any] = {MOMENTS: learning.finish()} if learning else {}
            described |= {"sources": self.source.describe()} | ({} if shard is None else {"shard": said})
            self._finish(part, rows, description, described)
            state = part.state
        warn_left_out(state, store, shard)
        return True

    def _finish(self, part: Job, rows: range, encoder: dict[str, Any], described: dict[str, Any]) -> None:
        languages, kept = part.state["languages"], self.settings.keep_counts
        stores.copy_ids(self.store.ids_path, part.path / stores.IDS, rows)
        meta = stores.store_meta(stores.QUERY_SUMS, len(rows), self.store.d, self.settings.dtype, encoder)
        meta |= {"ids_sha256": file_sha256(part.path / stores.IDS), "languages": languages}
        meta |= {"queries": part.state["encoded"], "blank": part.state["blank"], "skipped": part.state["skipped"]}
        meta |= stores.sums_meta(part.path, languages, kept) | described
        write_json(part.path / stores.META, meta)


def warn_left_out(state: dict[str, Any], store: VectorStore, shard: Shard | None) -> None:
    """Warn of records and queries that a job, or a shard of it, left out."""
    of = "" if shard is None else f"{shard}: "
    if state["skipped"]:  # of the whole, whatever the shard: said once
        warn(f"{state['skipped']} records are for passages not in {store.path} and were skipped")
    if state["blank"]:
        warn(f"{of}{state['blank']} generated queries are blank and were left out")


class Taken(NamedTuple):
    """The vectors of a passage's queries in a language."""

    row: int  # of the passage
    docid: str
    language: str  # as the job writes it
    vectors: np.ndarray  # (m, d) float32


class Taking(Protocol):
    """What takes the vectors of queries, chunk by chunk, and can go on where it was killed."""

    def take(self, chunk: Sequence[Taken]) -> None:
        """Take a chunk's vectors."""

    def checkpoint(self) -> Sequence[np.memmap]:
        """Put aside what was taken so far; return the matrices that are to be written through to disk."""


class _Summing:
    """The matrices being filled: sums by language, of all queries and of the first few; counts."""

    def __init__(self, part: Job, rows: range, d: int, settings: AccumulateSettings, fresh: bool) -> None:
        self.languages: list[str] = part.state["languages"]
        self.dtype, self._start = settings.dtype, rows.start
        names = {
            (l, k): part.path / stores.sum_file(l, k) for k in (None, *settings.keep_counts) for l in self.languages
        }
        if fresh:
            shape = (len(rows), len(self.languages))
            self.counts = stores.create_matrix(part.path / stores.COUNTS, shape, "int32")
            self.sums = {key: stores.create_matrix(path, (len(rows), d), self.dtype) for key, path in names.items()}
        else:
            self.counts = stores.reopen_matrix(part.path / stores.COUNTS)
            self.sums = {key: stores.reopen_matrix(path) for key, path in names.items()}

    def take(self, chunk: Sequence[Taken]) -> None:
        """Set the sums and numbers of some passages' queries."""
        for row, _, language, vectors in chunk:
            row -= self._start
            for (of, first), matrix in self.sums.items():
                if of == language:
                    total = vectors[:first].sum(axis=0, dtype=np.float64)
                    if self.dtype == "float16" and np.abs(total).max(initial=0) > 65504:
                        raise UserError("a sum of query vectors does not fit into float16; use float32", "dtype")
                    matrix[row] = total
            self.counts[row, self.languages.index(language)] = len(vectors)

    def checkpoint(self) -> Sequence[np.memmap]:
        """Return the matrices."""
        return [self.counts, *self.sums.values()]


class Learning:
    """The moments being summed (`stores.moments`).

    They are added to, where sums of passages are assigned: what a checkpoint puts aside stands in one of two folders in
    turn, and the job's state, saved after it, says in which.
    """

    def __init__(self, part: Job, store: VectorStore, fresh: bool, sample: int = SAMPLE) -> None:
        self._part, self._store = part, store
        said = None if fresh else part.state.get(MOMENTS)
        if said is None:
            self.moments = Moments(part.state["languages"], store.d, sample)
        else:
            described = checked(said, DescribedMoments, part.path, "run the job with another output")
            self.moments = Moments.open(part.path / part.state["kept_in"], described, store.d, sample)

    def take(self, chunk: Sequence[Taken]) -> None:
        """Add the pairs of some passages and their queries."""
        rows = np.array([taken.row for taken in chunk], dtype=np.int64)
        passages = self._store.checked(self._store.vectors[rows], stores.VECTORS, rows)
        pairs = zip(chunk, passages, strict=True)
        self.moments.add(Pair(taken.docid, taken.language, passage, taken.vectors) for taken, passage in pairs)

    def checkpoint(self) -> Sequence[np.memmap]:
        """Put the moments aside."""
        folder = next(name for name in _ASIDE if name != self._part.state.get("kept_in"))
        said = self.moments.save(self._part.path / folder)
        self._part.state |= {MOMENTS: said, "kept_in": folder}
        return ()

    def finish(self) -> dict[str, Any]:
        """Write the moments to stay; return what is to be recorded of them."""
        return self.moments.save(self._part.path / MOMENTS)


def encode_records(placing: Placing, rows: range, encoder: Encoder, part: Job, takers: Sequence[Taking]) -> None:
    """Encode a job's records from where it was, and hand on the vectors of the passages in `rows`.

    `part.done` is the number of records at the end; where they are in the passages' order, up to the last of `rows`.
    """
    part.state |= {"encoded": 0, "blank": 0} if not part.done else {}
    ordered = bool(part.state.get("ordered"))
    every = range(placing.store.n) if ordered else rows  # of a chunk that has records of `rows`
    done = part.done
    total = part.state["queries"] if len(rows) == placing.store.n else None
    with tqdm(total=total, desc="encoding", unit=" queries", disable=None) as bar:
        bar.update(part.state["encoded"])
        for at, chunk in placing.chunks(part.done, rows, ordered):
            done = at + len(chunk)
            if any(row in rows for row, _, _ in chunk):
                together = [(row, record) for row, _, record in chunk if row in every]
                texts, places = _texts(together, rows, part.state)
                vectors = encoder.encode_queries(texts, bar.update)
                taken = [Taken(row, docid, language, vectors[at]) for row, docid, language, at in places]
                for taker in takers:
                    taker.take(taken)
            if part.due:
                part.save(done, [matrix for taker in takers for matrix in taker.checkpoint()])
    part.save(done, [matrix for taker in takers for matrix in taker.checkpoint()])


def _texts(
    records: Sequence[tuple[int, GeneratedQueries]], rows: range, state: dict[str, Any]
) -> tuple[list[str], list[tuple[int, str, str, slice]]]:
    """Return the queries of some records, and for the passages in `rows` where theirs stand, counting these."""
    texts: list[str] = []
    places: list[tuple[int, str, str, slice]] = []
    for row, record in records:
        for language, written in record.queries.items():
            full = [text for text in written if text.strip()]
            if row in rows:
                name = str(find_language(language, state["languages"]))
                places.append((row, record.docid, name, slice(len(texts), len(texts) + len(full))))
                state["encoded"] += len(full)
                state["blank"] += len(written) - len(full)
            texts += full
    return texts, places
