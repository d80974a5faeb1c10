"""Search an index: ours against raw Faiss and Pyserini's searcher; language-aware search of stores; every index type.

    python benchmarks/search.py [--passages 100000] [--dimension 384] [--questions 2000] [--types flat fp16 …]
                                [--aware] [--held] [--pyserini] [--million] [--times 5] [--folder DIR]

Synthetic vectors in topics, and questions near passages.  *faiss, mapped* maps the index, searches all questions at
once and makes the run, ids included; *search alone* leaves the run out; *held* has the index in memory, read
beforehand, as Pyserini's searchers have it.  All run in turn in one process on one thread, after one run of each that
is not counted; given are the medians of CPU seconds, and the lowest and highest.  The script stops where two runs
differ in more than passages whose scores are within rounding.  Last comes a line of a table for each type.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from stores import _anonymous
from synthetic import LANGUAGES, sizes, unit, write_stores

from xqg_pyserini.data import Question, Run
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import TYPES, write_index
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.stores import PASSAGES, QUERY_SUMS, VECTORS

HITS = 100
EXHAUSTIVE = ("flat", "fp16", "sq8")
MILLION = ("flat", "fp16", "sq8", "ivfpq", "ivfsq8")  # a graph of a million takes the better part of an hour


Ways = dict[str, Callable[[], Any]]


def make_stores(folder: Path, n: int, d: int, languages: tuple[str, ...]) -> None:
    """Write passages in topics of about a hundred, and for each language two queries near each passage."""
    rng = np.random.default_rng(0)
    topics = unit(rng.standard_normal((max(1, n // 100), d), dtype=np.float32))

    def noise(size: int) -> np.ndarray:
        return rng.standard_normal((size, d), dtype=np.float32) / np.float32(d**0.5)

    passages = (unit(topics[rng.integers(len(topics), size=size)] + noise(size)) for size in sizes(n))
    written = folder / PASSAGES / VECTORS  # whole before the queries are made

    def queries() -> Iterator[np.ndarray]:
        near, start = np.load(written, mmap_mode="r"), 0
        for size in sizes(n):
            yield 2 * unit(near[start : start + size] + noise(size))
            start += size

    write_stores(folder, (n, d), [(None, passages), *((language, queries()) for language in languages)], queries=2)


def make_questions(folder: Path, count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    passages = np.load(folder / PASSAGES / VECTORS, mmap_mode="r")
    near = passages[np.sort(rng.choice(len(passages), count, replace=len(passages) < count))]
    return unit(near + rng.standard_normal(near.shape, dtype=np.float32) / np.float32(near.shape[1] ** 0.5))


def opened(folder: Path, mapped: bool = True) -> Any:
    import faiss

    return faiss.read_index(str(folder / "index"), faiss.IO_FLAG_MMAP_IFC if mapped else 0)


def made(folder: Path, questions: list[Question], scores: np.ndarray, rows: np.ndarray) -> Run:
    ids = (folder / "docid").read_text().splitlines()
    return {
        question.id: {ids[row]: score for row, score in zip(of, ranking, strict=True) if row >= 0}
        for question, of, ranking in zip(questions, rows.tolist(), scores.tolist(), strict=True)
    }


def pyserini(kind: str, folder: Path, questions: list[Question], vectors: np.ndarray) -> Callable[[], Any]:
    """Return a search by Pyserini's searcher, opened beforehand; questions come as vectors."""
    from xqg_pyserini.bridge import prepare

    prepare()
    ids = [question.id for question in questions]
    if not kind.startswith("lucene"):
        from pyserini.search.faiss import FaissSearcher

        return partial(FaissSearcher(str(folder), None).batch_search, vectors, ids, HITS, 1)
    from pyserini.search.lucene import LuceneFlatDenseSearcher, LuceneHnswDenseSearcher

    graph = kind != "lucene-flat"
    ef = {"ef_search": int(Index(folder).meta["lucene"]["ef_search"])} if graph else {}
    searcher = (LuceneHnswDenseSearcher if graph else LuceneFlatDenseSearcher)(str(folder), **ef)
    return partial(searcher.batch_search, [str(vector.tolist()) for vector in vectors], ids, HITS, 1)


def searches(kind: str, folder: Path, asked: list[Question], vectors: np.ndarray, args: argparse.Namespace) -> Ways:
    """Return the ways to search an index that are measured."""
    ways: Ways = {"ours": partial(ours, folder, asked, vectors)}
    if not kind.startswith("lucene"):
        ways["faiss, mapped"] = lambda: made(folder, asked, *opened(folder).search(vectors, HITS))
        if args.held:
            held = opened(folder, mapped=False)
            ways["faiss, held"] = lambda: made(folder, asked, *held.search(vectors, HITS))
        else:
            ways["faiss, mapped, search alone"] = lambda: opened(folder).search(vectors, HITS)
    if args.pyserini:
        ways["Pyserini, held"] = pyserini(kind, folder, asked, vectors)
    return ways


def measured(ways: Ways, times: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each way, sorted; each is run once beforehand."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name].append(time.process_time() - start)
    return {name: sorted(of) for name, of in seconds.items()}


def middle(seconds: list[float]) -> float:
    return seconds[len(seconds) // 2]


def shown(name: str, seconds: list[float], beside: float | None = None) -> str:
    ratio = "" if beside is None else f", ours / this {beside / middle(seconds):.2f}"
    return f"  {name}: {middle(seconds):.3f} s ({seconds[0]:.3f} to {seconds[-1]:.3f}){ratio}"


def check_equal(one: Run, other: Run) -> None:
    """Stop where two runs differ in more than the order, or the last hits, of scores within rounding."""
    for qid, hits in one.items():
        if not np.allclose(list(hits.values()), list(other[qid].values()), rtol=0, atol=2e-5):
            raise SystemExit(f"{qid}: scores differ")
        last = min(hits.values()) + 2e-5
        if {docid for docid, score in hits.items() if score > last} - other[qid].keys():
            raise SystemExit(f"{qid}: passages differ")


def recall(run: Run, exact: Run) -> float:
    return float(np.mean([len(run[qid].keys() & hits.keys()) / len(hits) for qid, hits in exact.items()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--types", nargs="+", choices=TYPES, help="default: flat, or those of --million")
    parser.add_argument("--aware", action="store_true", help="language-aware search of stores beside a flat index")
    parser.add_argument("--held", action="store_true", help="Faiss with the index in memory beside the mapped one")
    parser.add_argument("--pyserini", action="store_true", help="Pyserini's searchers beside ours")
    what = f"1,000,000 passages, 500 questions, --held, {' '.join(MILLION)}"
    parser.add_argument("--million", action="store_true", help=what)
    parser.add_argument("--times", type=int, default=5, help="times that each search is measured")
    parser.add_argument("--folder", help="where stores and indexes go (default: a temporary folder)")
    args = parser.parse_args()
    if args.million:
        args.passages, args.questions, args.held = 1_000_000, 500, True
    args.types = args.types or (list(MILLION) if args.million else ["flat"])
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        measure(Path(name), args)


def measure(folder: Path, args: argparse.Namespace) -> None:
    import faiss

    faiss.omp_set_num_threads(1)
    make_stores(folder, args.passages, args.dimension, LANGUAGES if args.aware else ())
    vectors = make_questions(folder, args.questions)
    asked = [Question(f"q{i}", "?", LANGUAGES[i % len(LANGUAGES)], ()) for i in range(args.questions)]
    print(f"{args.passages} x {args.dimension}, {args.questions} questions, {HITS} hits")
    exact: Run = {}
    lines: list[str] = []
    for kind in dict.fromkeys(["flat", *args.types]):
        output = folder / kind
        start = cpu()
        write_index(folder / PASSAGES, output, kind)
        built = cpu() - start
        size = sum(file.stat().st_size for file in output.iterdir())
        run = ours(output, asked, vectors)
        exact = exact or run
        found = recall(run, exact)
        print(f"{kind}: built in {built:.1f} s, {size / 1e9:.3f} GB, recall@{HITS} {found:.3f}", flush=True)
        if kind not in args.types:
            continue
        ways = searches(kind, output, asked, vectors, args)
        if kind in EXHAUSTIVE:
            check_equal(run, ways["faiss, mapped"]())
        seconds = measured(ways, args.times)
        for way, of in seconds.items():
            print(shown(way, of, None if way == "ours" else middle(seconds["ours"])), flush=True)
        print(f"  anonymous memory now {_anonymous() >> 20} MB", flush=True)
        each = [f"{1000 * middle(of) / args.questions:.2f}" for of in seconds.values()]
        cells = [f"{size / 1e9:.3f}", f"{built:.0f}", *each, f"{found:.3f}"]
        head = f"| type | GB | built in, s | {' | '.join(f'{way}, ms' for way in seconds)} | recall@{HITS} |"
        lines += ([head] if head not in lines else []) + [" | ".join(["", kind, *cells, ""]).strip()]
        del ways  # with what they hold in memory
    print("\n".join(lines))
    if args.aware:
        fused = Fused(folder / PASSAGES, folder / QUERY_SUMS, Fusion("mean", beta=0.3, normalize=True))
        seconds = measured(
            {
                "language-aware, stores": lambda: (
                    Fused(fused.passages.path, fused.queries.path, fused.fusion)
                    .own_language()
                    .search(asked, HITS, vectors=vectors, threads=1)
                ),
                "flat index": lambda: ours(folder / "flat", asked, vectors),
            },
            args.times,
        )
        for way, of in seconds.items():
            print(shown(way, of, middle(seconds["language-aware, stores"]) if way == "flat index" else None))


def cpu() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def ours(output: Path, questions: list[Question], vectors: np.ndarray) -> Run:
    return Index(output).search(questions, HITS, vectors=vectors, threads=1)


if __name__ == "__main__":
    main()
