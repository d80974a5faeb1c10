"""Twenty fusions: in one pass (ours), and one index after the other (plain); time and memory.

    python benchmarks/sweep.py [--passages 100000] [--dimension 384] [--folder DIR]

Synthetic stores (those of stores.py), 500 questions in seven languages, 100 hits.  Plain loads the
matrices once, and for each fusion fuses, fills a Faiss flat index and searches; both ways' lists
are compared when the clock has stopped.  Each way runs in a process of its own; memory is the peak
of what it allocated (RssAnon), not of files that it mapped.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from stores import _anonymous, make_stores
from synthetic import LANGUAGES

from xqg_pyserini.data import Question
from xqg_pyserini.fusion.formula import Centers, Fusion, augment
from xqg_pyserini.retrieve.grid import grid
from xqg_pyserini.retrieve.sweep_pass import Sweep
from xqg_pyserini.stores import COUNTS, PASSAGES, QUERY_SUMS, VECTORS, sum_file

HITS, QUESTIONS, TOLERANCE = 100, 500, 1e-5
BETAS = (0.1, 0.2, 0.3, 0.4, 0.5)


def points():
    fusions = [
        Fusion("mean", beta=beta, normalize=normalize, center=center)
        for beta in BETAS
        for normalize in (False, True)
        for center in (False, True)
    ]
    return grid(fusions, ["all"], [None], LANGUAGES)


def asked(d: int):
    questions = [Question(f"q{i}", "?", LANGUAGES[i % 7], ()) for i in range(QUESTIONS)]
    vectors = np.random.default_rng(1).standard_normal((QUESTIONS, d), dtype=np.float32)
    return questions, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ours(folder: Path, d: int):
    questions, vectors = asked(d)
    sweep = Sweep(folder / PASSAGES, folder / QUERY_SUMS, points(), questions)
    return sweep.search(vectors, HITS)


def plain(folder: Path, d: int):
    """Load everything, then fuse, add and search for each fusion: what a script would do."""
    import faiss

    questions, vectors = asked(d)
    passages = np.load(folder / PASSAGES / VECTORS)
    sums = {l: np.load(folder / QUERY_SUMS / sum_file(l)) for l in LANGUAGES}
    counts = dict(zip(LANGUAGES, np.load(folder / QUERY_SUMS / COUNTS).T, strict=True))
    means = {l: (sums[l].sum(axis=0, dtype=float) / counts[l].sum()) for l in LANGUAGES}
    means = {l: mean.astype(np.float32) for l, mean in means.items()}
    centers = Centers(passages.mean(axis=0, dtype=float).astype(np.float32), means, means["ar"])
    centred = vectors - np.stack([centers.of(question.language) for question in questions])
    hits = {}
    for point in points():
        fused = augment(point.fusion, passages, sums, counts, centers)
        index = faiss.IndexFlatIP(d)
        index.add(fused)
        hits[point.name] = index.search(centred if point.fusion.center else vectors, HITS)
    return hits


def as_lists(hits):
    """Return point → question → (id, score), best first, of either way's result."""
    if not isinstance(hits, dict):
        return {name: [list(of.items()) for of in run.values()] for name, run in hits.items()}
    return {
        name: [
            [(f"p{row}", score) for row, score in zip(*both, strict=True)]
            for both in zip(rows.tolist(), scores.tolist(), strict=True)
        ]
        for name, (scores, rows) in hits.items()
    }


def _measured(way, folder, d, results) -> None:
    import faiss  # noqa: F401  (imported before the clock starts, by both ways)

    base, done = _anonymous(), threading.Event()
    peak = [base]

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, cpu = time.perf_counter(), time.process_time()
    hits = way(folder, d)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    done.set()
    watcher.join()
    results.put((seconds, cpu, (peak[0] - base) / 2**20, as_lists(hits)))


def same(ours, expected) -> bool:
    """Tell whether two lists agree but for hits whose scores are within the tolerance."""
    if not np.allclose([s for _, s in ours], [s for _, s in expected], rtol=0, atol=TOLERANCE):
        return False
    first, second = dict(ours), dict(expected)
    both = first.keys() & second.keys()
    last = ours[-1][1]
    alone = [(first | second)[docid] for docid in first.keys() ^ second.keys()]
    return all(abs(first[i] - second[i]) < TOLERANCE for i in both) and all(
        abs(score - last) < TOLERANCE for score in alone
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--passages", type=int, default=100_000)
    arguments.add_argument("--dimension", type=int, default=384)
    arguments.add_argument("--folder", help="where the stores go (default: a temporary folder)")
    args = arguments.parse_args()
    spawn = multiprocessing.get_context("spawn")
    best: dict[str, tuple[float, ...]] = {}
    lists: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        make_stores(Path(name), args.passages, args.dimension)
        for way in (ours, plain, ours, plain):
            results = spawn.Queue()
            process = spawn.Process(target=_measured, args=(way, Path(name), args.dimension, results))
            process.start()
            seconds, cpu, memory, lists[way.__name__] = results.get()
            process.join()
            print(f"{way.__name__:<6} {seconds:6.2f} s, {cpu:6.2f} s of CPU, {memory:7.0f} MB", flush=True)
            before = best.get(way.__name__, (seconds, cpu, memory))
            best[way.__name__] = (
                min(before[0], seconds), min(before[1], cpu), max(before[2], memory)
            )  # fmt: skip
    compared = sum(
        same(ours, expected)
        for point, lists_of_plain in lists["plain"].items()
        for ours, expected in zip(lists["ours"][point], lists_of_plain, strict=True)
    )
    total = sum(map(len, lists["plain"].values()))
    seconds, cpu, memory = (best["plain"][i] / best["ours"][i] for i in (0, 1, 2))
    print(f"plain/ours: time {seconds:.1f}, CPU {cpu:.1f}, memory {memory:.1f}")
    print(f"{compared} of {total} lists agree")
    if compared < total:
        raise SystemExit("the lists differ")


if __name__ == "__main__":
    main()
