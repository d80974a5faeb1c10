"""What a generation job would cost, told from a sample before it is begun."""

import gzip
import json
import time
from typing import NamedTuple

from tqdm import tqdm

from xqg_pyserini.data import read_corpus
from xqg_pyserini.files import chunks
from xqg_pyserini.generate.base import load_generator
from xqg_pyserini.generate.job import GenerationJob
from xqg_pyserini.generate.workers import write_queries

SAMPLE = 16  # passages that are timed, spread over the corpus
SECONDS = 60.0  # after which no more are


class Estimate(NamedTuple):
    """The cost of the shards that are missing, from a sample that was generated and timed."""

    passages: int
    queries: int
    sample: int  # passages timed
    passages_per_second: float  # of all workers
    queries_per_second: float
    hours: float
    gigabytes: float  # on disk, compressed


def estimate(job: GenerationJob) -> Estimate:
    """Generate a sample spread over the corpus, and scale its time and size to the whole job.

    Nothing is written.  The first passage is a warm-up and is not timed.
    """
    total = job.plan.passages
    places = sorted({total * i // SAMPLE for i in range(SAMPLE)})
    wanted = set(places)
    sample = [p for i, (_, p) in enumerate(read_corpus(job.corpus)) if i in wanted]
    how = job.job_settings
    generator = load_generator(job.settings, job.devices[0], how.batch_size, how.threads)
    generator.generate(sample[:1])
    lines: list[str] = []
    start = time.perf_counter()
    bar = tqdm(total=len(sample), desc="timing a sample", unit=" passages", disable=None)
    with bar:
        for part in chunks(sample, max(1, how.batch_size // job.settings.num_queries)):
            for record, _ in write_queries(generator, iter(part), job.rules, lambda n: None):
                lines.append(json.dumps(record, ensure_ascii=False) + "\n")
            bar.update(len(part))
            if time.perf_counter() - start > SECONDS:
                break
    # workers on one CPU share the cores that the sample had to itself
    gpus = sum(1 for device in job.devices[: max(1, len(job.pending()))] if device != "cpu")
    rate = len(lines) / (time.perf_counter() - start) * max(1, gpus)
    left = sum(stop - start for start, stop in map(job.plan.bounds, job.pending()))
    each = len(job.settings.languages) * job.settings.num_queries
    size = len(gzip.compress("".join(lines).encode())) / len(lines)
    return Estimate(left, left * each, len(lines), rate, rate * each, left / rate / 3600, left * size / 1e9)
