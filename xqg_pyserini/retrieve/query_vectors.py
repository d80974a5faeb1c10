"""Generated queries → a store of their vectors, a row each, named after their passages (`doc#fi-2`).

Searched through an index, a passage scores as the best of its queries (`retrieve.parts`): a question meets questions,
as HyPE has it (Vake, Vičič and Tošić, Bridging the Question-Answer Gap in Retrieval-Augmented Generation, 2025).  Rows
are in the order of the records; where wanted, the passages' own vectors stand before all queries'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini import stores
from xqg_pyserini.data import find_language
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import file_sha256, file_sums, write_json
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve.accumulate import Placing, QuerySource, Taken, encode_records, warn_left_out
from xqg_pyserini.retrieve.expand import ExpandSettings
from xqg_pyserini.retrieve.parts import DELIMITER, check_delimiter
from xqg_pyserini.retrieve.sharding import Replacing
from xqg_pyserini.settings import option
from xqg_pyserini.stores import Job, VectorStore


@dataclass(frozen=True)
class QueryVectorSettings(ExpandSettings):
    """Which queries' vectors are stored, and how; each field's help says what it is."""

    with_passages: bool = option(False, "the passages' own vectors as well, before the queries'")
    delimiter: str = option(DELIMITER, "between a docid and what tells its vectors apart", metavar="TEXT")
    dtype: str = option("float32", "of the store", *stores.DTYPES)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_delimiter(self.delimiter)


def encode_generated(
    queries: str | Path,
    passages: str | Path | VectorStore,
    output: str | Path,
    settings: QueryVectorSettings | None = None,
    *,
    encoder: Encoder | str | None = None,
    overwrite: bool = False,
    repair: bool = False,
) -> VectorStore:
    """Encode each generated query into a row of a store of its own, which `write_index` takes as it takes passages.

    Arguments and errors are those of `accumulate_queries`; the rows' ids are docid, delimiter, language and number
    (`doc#fi-2`), the number counting a record's queries that are not blank.  `Index.search` finds passages by them.

    Raises:
        UserError: besides, for a docid of the passages that holds the delimiter.
    """
    _EncodingQueries(queries, passages, settings, encoder).write(Path(output), Replacing(overwrite, repair))
    return VectorStore(output)


class _EncodingQueries:
    """What is encoded, and how."""

    def __init__(
        self,
        queries: str | Path,
        passages: str | Path | VectorStore,
        settings: QueryVectorSettings | None,
        encoder: Encoder | str | None,
    ) -> None:
        self.settings = settings or QueryVectorSettings()
        self.store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
        self.encoder = Encoder.for_store(self.store, encoder)
        self.source = QuerySource(queries, self.settings.languages, self.settings.num_queries)
        self.placing = Placing(self.source, self.store, self.settings.skip_unknown)

    def write(self, output: Path, replacing: Replacing) -> None:
        """Write the store, unless it stands."""
        settings, store, encoder = self.settings, self.store, self.encoder
        how = {"delimiter": settings.delimiter, "with_passages": settings.with_passages}
        how |= {"only": [settings.languages, settings.num_queries], "passages": store.meta["ids_sha256"]}
        expected = {"kind": stores.PASSAGES, "sources": self.source.identity(), "dtype": settings.dtype, **how}
        expected |= {"encoder": encoder.expected}
        if replacing.stands(output, stores.META, lambda: expected, None):
            return
        job = {"stage": "encode queries", "encoder": repr(encoder.settings), "sources": self.source.identity(), **how}
        job |= {"dtype": settings.dtype, "how": [*encoder.how, settings.skip_unknown]}
        job |= {"vectors": store.meta["vectors_sha256"] if settings.with_passages else None}
        with stores.resumable(output, job, replacing.allowed, [*self.source.inputs, store.path]) as part:
            self.placing.begin(part)
            if "covered" not in part.state:
                part.state["covered"] = self._write_ids(part)
                part.save(0)
            encoder = encoder.going_on(part.state)
            description = encoder.describe("query")
            keeping = _Keeping(part, store, settings, part.begin(description))
            encode_records(self.placing, range(store.n), encoder, part, [keeping])
            self._finish(part, description, how)
            state = part.state
        warn_left_out(state, store, None)
        if (without := store.n - state["covered"]) and not settings.with_passages:
            warn(f"{without} of {store.n} passages have no queries: no question can find them here")

    def _write_ids(self, part: Job) -> int:
        """Write the ids of all rows; return how many passages have queries."""
        covered = np.zeros(self.store.n, dtype=bool)
        with open(part.path / stores.IDS, "w", encoding="utf-8", newline="\n") as file:
            for docid in self.store.ids():
                # behind a# the delimiter ## would begin too early: a###fi-2 would be one of a
                if (docid + self.settings.delimiter).index(self.settings.delimiter) < len(docid):
                    holds = "holds" if self.settings.delimiter in docid else "ends in the beginning of"
                    what = f"{self.store.path}: passage id {docid!r} {holds} {self.settings.delimiter!r}"
                    raise UserError(f"{what}, which is to stand behind ids; give another delimiter", "delimiter")
                if self.settings.with_passages:
                    file.write(docid + "\n")
            for row, _, record in stores.placed(self.source.records(), self.placing.index):
                if row < 0:
                    continue
                for language, texts in record.queries.items():
                    name = find_language(language, part.state["languages"])
                    for number in range(1, 1 + sum(1 for text in texts if text.strip())):
                        file.write(f"{record.docid}{self.settings.delimiter}{name}-{number}\n")
                        covered[row] = True
        return int(covered.sum())

    def _finish(self, part: Job, encoder: dict[str, Any], how: dict[str, Any]) -> None:
        state = part.state
        n = state["queries"] + (self.store.n if self.settings.with_passages else 0)
        meta = stores.store_meta(stores.PASSAGES, n, self.store.d, self.settings.dtype, encoder)
        sums = file_sums(part.path / stores.VECTORS)
        meta |= {"ids_sha256": file_sha256(part.path / stores.IDS), "vectors_sha256": sums["sha256"]}
        meta |= {"xxh3": {stores.VECTORS: sums["xxh3"]}, "sources": self.source.describe(), **how}
        meta |= {"languages": state["languages"], "queries": state["encoded"], "covered": state["covered"]}
        meta |= {"blank": state["blank"], "skipped": state["skipped"]}
        write_json(part.path / stores.META, meta)


class _Keeping:
    """The matrix being filled, row by row in the order of the records (`accumulate.Taking`)."""

    def __init__(self, part: Job, store: VectorStore, settings: QueryVectorSettings, fresh: bool) -> None:
        path, own = part.path / stores.VECTORS, store.n if settings.with_passages else 0
        self._row = own + (0 if fresh else part.state["encoded"])
        if not fresh:
            self._matrix = stores.reopen_matrix(path)
            return
        self._matrix = stores.create_matrix(path, (own + part.state["queries"], store.d), settings.dtype)
        step = stores.block_rows(store.d)
        for start in range(0, own, step):
            self._put(start, store.block(start, min(start + step, own)))

    def _put(self, row: int, vectors: np.ndarray) -> None:
        rows = self._matrix[row : row + len(vectors)]
        rows[:] = vectors
        if not np.isfinite(rows).all():
            raise UserError("a vector does not fit into float16; use float32", "dtype")

    def take(self, chunk: Sequence[Taken]) -> None:
        """Set the rows of the queries that come next."""
        for taken in chunk:
            self._put(self._row, taken.vectors)
            self._row += len(taken.vectors)

    def checkpoint(self) -> Sequence[np.memmap]:
        """Return the matrix."""
        return [self._matrix]
