"""Workers that write shards: in this process, or one process for each of several devices.

A worker gets everything in one `Task` and answers shard by shard; it knows no `meta.json`.
"""

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

from xqg_pyserini import stores
from xqg_pyserini.cluster import connected
from xqg_pyserini.data import Passage, read_corpus
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, aside_of, chunks, discard, writing
from xqg_pyserini.generate.base import QueryGenerator, load_generator, prepare_generator
from xqg_pyserini.generate.rules import TextRules
from xqg_pyserini.generate.settings import GeneratorSettings
from xqg_pyserini.models.pretrained import torch_device

ENDING_SECONDS = 1.0  # that workers take to end
WINDOW = 128  # passages whose prompts are sorted by length together; batches are fixed by it

Dropped = Counter[tuple[str, str]]  # (language, rule) → number


def worker_devices(devices: Sequence[str]) -> list[str]:
    """Return a device for each worker: "auto" and "cuda" stand for all GPUs, one worker each."""
    import torch

    resolved = [torch_device(device) for device in devices]
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [name for device in resolved for name in (gpus if device == "cuda" else [device])]


class Shards(stores.Shards):
    """The shards of a corpus as files."""

    def name(self, shard: int) -> str:
        """Return the file name of a shard."""
        return f"queries-{self.label(shard)}.jsonl.gz"


class Task(NamedTuple):
    """What a worker gets: which shards of what, how, and where they go."""

    corpus: FilePath
    settings: GeneratorSettings
    path: Path
    plan: Shards
    shards: list[int]
    batch_size: int
    threads: int | None
    rules: TextRules | None


class FinishedShard(NamedTuple):
    """A shard that is whole."""

    shard: int
    counts: Counter[str]  # passages, queries, cut
    dropped: Dropped


def write_shards(task: Task, devices: Sequence[str], progress: Callable[[int], Any]) -> Iterator[FinishedShard]:
    """Write shards with one worker a device; yield each when it is whole, in any order.

    `progress` is called with the number of queries of each finished batch.  Raises what a worker raises; the others are
    ended then.
    """
    devices = devices[: max(1, len(task.shards))]
    if len(devices) == 1:
        return _write(task, devices[0], progress)
    return _write_parallel(task, devices, progress)


def _write_parallel(task: Task, devices: Sequence[str], progress: Callable[[int], Any]) -> Iterator[FinishedShard]:
    import torch

    prepare_generator(task.settings)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    threads = max(1, (task.threads or torch.get_num_threads()) // len(devices))
    parts = [task._replace(shards=task.shards[i :: len(devices)], threads=threads) for i in range(len(devices))]
    workers = [context.Process(target=_work, args=(*each, queue)) for each in zip(parts, devices, strict=True)]
    try:
        for worker in workers:
            worker.start()
        left = len(task.shards)
        while left:
            try:
                kind, value = queue.get(timeout=1)
            except Empty:
                _check_alive(workers)
                continue
            if kind == "error":
                raise value
            if kind == "queries":
                progress(value)
            else:
                left -= 1
                yield value
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()
        _discard(task.path / task.plan.name(shard) for shard in task.shards)  # who is ended clears nothing away


def write_shards_on(cluster: str, task: Task, device: str, progress: Callable[[int], Any]) -> Iterator[FinishedShard]:
    """Write shards on a cluster, whose workers have "cpu" or "cuda"; otherwise as `write_shards`."""
    if not task.shards:
        return
    prepare_generator(task.settings)
    left = set(task.shards)
    each = len(task.settings.languages) * task.settings.num_queries
    names = [str(task.path / task.plan.name(shard)) for shard in task.shards]
    try:
        with connected(cluster) as machines:
            place = machines.place(device, task.threads)
            work = _Writer(task, device).write
            for _, finished in machines.run(work, [(shard,) for shard in task.shards], names, place):
                left.remove(finished.shard)
                start, stop = task.plan.bounds(finished.shard)
                progress((stop - start) * each)
                yield finished
    finally:
        _discard(task.path / task.plan.name(shard) for shard in left)


def _discard(paths: Iterable[Path]) -> None:
    """Take away what ended workers left; one that was ended just now may take a moment."""
    until = time.monotonic() + ENDING_SECONDS
    for path in paths:
        while True:
            discard(path)
            if not aside_of(path).exists() or time.monotonic() > until:
                break
            time.sleep(0.05)


def _write(task: Task, device: str, progress: Callable[[int], Any]) -> Iterator[FinishedShard]:
    writer = _Writer(task, device)
    for shard in task.shards:
        yield writer.write(shard, progress)


class _Writer:
    """Writes shards one by one: with a generator that is loaded once, from a corpus that is read on where it was."""

    def __init__(self, task: Task, device: str) -> None:
        self._task, self._device = task, device
        self._corpus: Iterator[Passage] = iter(())
        self._position: int | None = None  # of the corpus; None: not open

    @cached_property
    def _generator(self) -> QueryGenerator:
        task = self._task
        return load_generator(task.settings, self._device, task.batch_size, task.threads)

    def _passages(self, start: int, stop: int) -> Iterator[Passage]:
        if self._position is None or start < self._position:
            self._corpus, self._position = (passage for _, passage in read_corpus(self._task.corpus)), 0
        skipped, self._position = self._position, None  # until all are read: an error may come between
        yield from islice(self._corpus, start - skipped, stop - skipped)
        self._position = stop

    def write(self, shard: int, progress: Callable[[int], Any] = lambda queries: None) -> FinishedShard:
        task, generator = self._task, self._generator
        passages = self._passages(*task.plan.bounds(shard))
        generator.start_shard(shard)
        cut = generator.cut
        counts: Counter[str] = Counter()
        dropped: Dropped = Counter()
        with writing(task.path / task.plan.name(shard), zipped=True) as file:
            for record, lost in write_queries(generator, passages, task.rules, progress):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                counts["passages"] += 1
                counts["queries"] += sum(map(len, record["generated_queries"].values()))
                dropped += lost
        counts["cut"] = generator.cut - cut
        return FinishedShard(shard, counts, dropped)


def write_queries(
    generator: QueryGenerator, passages: Iterator[Passage], rules: TextRules | None, progress: Callable[[int], Any]
) -> Iterator[tuple[dict[str, Any], Dropped]]:
    """Yield each passage's record of generated queries, and what the rules dropped of it."""
    for window in chunks(passages, WINDOW):
        for passage, queries in zip(window, generator.generate(window, progress), strict=True):
            dropped: Dropped = Counter()
            if rules is not None:
                queries, dropped = rules.apply(passage.full, queries)
            yield {"docid": passage.id, "generated_queries": queries}, dropped


def _work(task: Task, device: str, queue: Any) -> None:
    """Write shards in a process of its own, telling the parent how it goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends its workers
    parent = multiprocessing.parent_process()

    def progress(queries: int) -> None:
        if parent is not None and not parent.is_alive():
            os._exit(1)  # the parent was killed, and what is asked for may have changed
        queue.put(("queries", queries))

    try:
        for shard in _write(task, device, progress):
            queue.put(("shard", shard))
    except UserError as error:
        queue.put(("error", error))
    except OSError as error:
        queue.put(("error", OSError(error.errno, error.strerror, error.filename)))
    except Exception as error:
        queue.put(("error", RuntimeError(f"a worker ended with {type(error).__name__}: {error}")))


def _check_alive(workers: Sequence[Any]) -> None:
    for worker in workers:
        if worker.exitcode not in (None, 0):
            raise UserError(
                f"a worker was killed (exit code {worker.exitcode}; out of memory?): start again "
                "with a smaller batch size; finished shards are kept",
                "batch_size",
            )
