"""Index and search a large store: the streaming way (ours) and the plain one, time and memory.

    python benchmarks/stores.py [--passages 100000] [--dimension 384] [--folder DIR]

Synthetic stores, seven languages, two queries each.  Each way runs in a process of its own; memory
is the peak of what it allocated (RssAnon), not of files that it mapped.
"""

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from synthetic import LANGUAGES, random_blocks, write_stores

from xqg_pyserini.stores import COUNTS, PASSAGES, QUERY_SUMS, VECTORS, QueryStore, VectorStore, sum_file

HITS, QUESTIONS = 100, 200


def make_stores(folder: Path, n: int, d: int) -> None:
    rng = np.random.default_rng(0)
    write_stores(folder, (n, d), ((name, random_blocks(rng, n, d)) for name in (None, *LANGUAGES)), queries=2)


def ours(folder: Path) -> None:
    from xqg_pyserini.fusion.formula import Fusion
    from xqg_pyserini.retrieve.directories import FaissDirectory
    from xqg_pyserini.retrieve.fused import Fused

    fusion = Fusion("mean", beta=0.3, normalize=True)
    fused = Fused(folder / PASSAGES, folder / QUERY_SUMS, fusion)
    fused.write_index(folder / "ours", overwrite=True)
    FaissDirectory(folder / "ours").best(questions(folder), HITS)


def plain(folder: Path) -> None:
    """Load everything, fuse, add, write, read, search: what a script would do."""
    import faiss

    passages = np.load(folder / PASSAGES / VECTORS)
    sums = [np.load(folder / QUERY_SUMS / sum_file(language)) for language in LANGUAGES]
    counts = np.load(folder / QUERY_SUMS / COUNTS).sum(axis=1, keepdims=True)
    fused = np.float32(0.7) * passages + np.float32(0.3) * np.sum(sums, axis=0) / counts
    fused = (fused / np.linalg.norm(fused, axis=1, keepdims=True)).astype(np.float32)
    index = faiss.IndexFlatIP(fused.shape[1])
    index.add(fused)
    faiss.write_index(index, str(folder / "plain.index"))
    faiss.read_index(str(folder / "plain.index")).search(questions(folder), HITS)


def questions(folder: Path) -> np.ndarray:
    d = VectorStore(folder / PASSAGES).d
    return np.random.default_rng(1).standard_normal((QUESTIONS, d), dtype=np.float32)


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    raise RuntimeError("RssAnon is told by Linux alone")


def _measured(way, folder, results) -> None:
    import faiss  # noqa: F401  (imported before the clock starts, by both ways)

    peak, done = [_anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _anonymous())

    watcher = threading.Thread(target=watch)
    base = peak[0]
    watcher.start()
    start = time.perf_counter()
    way(folder)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    results.put((way.__name__, seconds, (peak[0] - base) / 2**20))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--passages", type=int, default=100_000)
    arguments.add_argument("--dimension", type=int, default=384)
    arguments.add_argument("--folder", help="where the stores go (default: a temporary folder)")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        make_stores(folder, args.passages, args.dimension)
        QueryStore(folder / QUERY_SUMS)
        spawn = multiprocessing.get_context("spawn")
        found: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": []}
        for way in (plain, ours, plain, ours):
            results = spawn.Queue()
            process = spawn.Process(target=_measured, args=(way, folder, results))
            process.start()
            key, seconds, memory = results.get()
            process.join()
            found[key].append((seconds, memory))
    best = {key: (min(s for s, _ in runs), max(m for _, m in runs)) for key, runs in found.items()}
    print(json.dumps({key: {"s": round(s, 2), "MB": round(m)} for key, (s, m) in best.items()}))
    seconds, memory = (best["plain"][i] / best["ours"][i] for i in (0, 1))
    print(f"{args.passages} x {args.dimension}: time plain/ours {seconds:.2f}, memory {memory:.1f}")


if __name__ == "__main__":
    main()
