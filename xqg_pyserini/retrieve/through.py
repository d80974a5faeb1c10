"""Generation and accumulation in one process: queries are encoded as soon as their shard is whole.

Both outputs are those of `xqg generate` and `xqg accumulate` one after the other, byte for byte,
and both go on where they were killed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xqg_pyserini.data import GeneratedQueries, describe_sources, read_generated
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import Line
from xqg_pyserini.generate.job import GenerationJob
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve.accumulate import AccumulateSettings, QuerySource, accumulate_queries
from xqg_pyserini.stores import IdIndex, QueryStore, VectorStore


class _JobSource(QuerySource):
    """The records that a job writes, each shard as soon as it is whole."""

    def __init__(self, job: GenerationJob) -> None:
        self._job = job
        self.inputs: list[Any] = [job.corpus, job.path]

    def identity(self) -> Any:
        # a model may have moved; its weights are told by their fingerprint
        unequal = ("versions", "model")
        return {key: value for key, value in self._job.meta.items() if key not in unequal}

    def describe(self) -> list[dict[str, Any]]:
        return describe_sources(self._job.path)

    def check(self, store: VectorStore, index: IdIndex, skip_unknown: bool) -> dict[str, Any]:
        self._job.check_passages(store)
        settings = self._job.settings
        most = self._job.plan.passages * len(settings.languages) * settings.num_queries
        return {"languages": sorted(settings.languages), "queries": most, "skipped": 0}

    def records(self) -> Iterator[tuple[Line, GeneratedQueries]]:
        for shard in self._job.run():
            yield from read_generated(shard)


def generate_and_accumulate(
    job: GenerationJob,
    passages: str | Path | VectorStore,
    output: str | Path,
    settings: AccumulateSettings | None = None,
    *,
    encoder: Encoder | None = None,
    overwrite: bool = False,
) -> QueryStore:
    """Run a job and sum its queries' embeddings by language into a query store at `output`.

    The encoder is the passage store's, on the job's first device unless one is given; otherwise as
    `accumulate_queries`.

    Raises:
        UserError: for a job of some shards only, a passage that the store does not hold, and as
            `GenerationJob` and `accumulate_queries` do.
    """
    if len(job.chosen) < job.plan.number:
        remedy = "choose none, or run xqg accumulate when the other machines are done"
        raise UserError(f"adding up takes all shards: {remedy}", "shards")
    queries, sums = job.path.resolve(), Path(output).resolve()
    if queries.is_relative_to(sums) or sums.is_relative_to(queries):
        raise UserError(f"{job.path} and {output} are in one another; give each a folder", ("output", "accumulate"))
    store = passages if isinstance(passages, VectorStore) else VectorStore(passages)
    if encoder is None:
        encoder = Encoder.for_store(store, device=job.devices[0])
    return accumulate_queries(_JobSource(job), store, output, settings, encoder=encoder, overwrite=overwrite)
