"""Published fusion over pickles, then an index, against `xqg index` from two stores: time, memory and disk.

    python benchmarks/fuse.py [--passages 100000] [--dimension 768] [--times 5] [--folder DIR]

Synthetic vectors: passages, and five queries in each of seven languages.  *pickles* reads the passages' pickle and one
of each of the 35 queries after the other, adds, and writes a pickle of the sum, as the method's publication has it;
then it fills a flat Faiss index from that and writes what Pyserini searches.  *stores* is `xqg index` on a passage
store and a store of the languages' sums, which never were as many files; *float16* has both in half precision.  The
vectors of the indexes are compared.  Some 15 GB of disk are needed for 100,000 x 768.
"""

import argparse
import pickle
import shutil
import sys
import tempfile
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from measuring import in_turn, table
from synthetic import LANGUAGES, random_blocks, write_stores

from xqg_pyserini.stores import PASSAGES, QUERY_SUMS

QUERIES, ALPHA = 5, 0.01
PICKLES = "pickles"
STORES = {"float32": "stores", "float16": "stores, float16"}
XQG = [sys.executable, "-m", "xqg_pyserini"]


def make(folder: Path, n: int, d: int) -> None:
    """Write the pickles, and both stores in float32 and float16."""
    ids = [f"p{i}" for i in range(n)]
    passages = np.concatenate(list(random_blocks(np.random.default_rng(0), n, d)))

    def queries(language: str) -> list[np.ndarray]:
        """Return n vectors for each query: those of other passages are as good as drawn anew, and quicker."""
        first = 1 + QUERIES * LANGUAGES.index(language)
        return [np.roll(passages, first + i, axis=0) for i in range(QUERIES)]

    (folder / PICKLES).mkdir()
    _dump(folder / PICKLES / "passages.pkl", passages, ids)
    for language in LANGUAGES:
        for i, vectors in enumerate(queries(language)):
            _dump(folder / PICKLES / f"queries-{language}-{i}.pkl", vectors, ids)
    for dtype in STORES:
        sums = ((language, [sum(queries(language))]) for language in LANGUAGES)
        write_stores(folder / dtype, (n, d), chain([(None, [passages])], sums), QUERIES, dtype)


def _dump(path: Path, vectors: np.ndarray, ids: list[str]) -> None:
    with open(path, "wb") as file:
        pickle.dump((vectors, ids), file, protocol=4)


def published(folder: Path) -> None:
    """Fuse pickle by pickle, write a pickle; read it, and write a flat index and its ids."""
    import faiss

    with open(folder / PICKLES / "passages.pkl", "rb") as file:
        passages, ids = pickle.load(file)
    added = np.zeros_like(passages)
    for path in sorted((folder / PICKLES).glob("queries-*.pkl")):
        with open(path, "rb") as file:
            queries, of = pickle.load(file)
        if of != ids:
            raise SystemExit(f"{path}: other passages")
        added += queries
    with open(folder / "fused.pkl", "wb") as file:
        pickle.dump(((1 - ALPHA) * passages + ALPHA * added, ids), file, protocol=4)
    del passages, added, queries
    with open(folder / "fused.pkl", "rb") as file:
        vectors, ids = pickle.load(file)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    output = folder / f"index-{PICKLES}"
    output.mkdir()
    faiss.write_index(index, str(output / "index"))
    (output / "docid").write_text("".join(f"{docid}\n" for docid in ids), "utf-8")


def commands(folder: Path) -> dict[str, list[str]]:
    """Return what is run of each way."""
    ways = {PICKLES: [sys.executable, __file__, "--fuse", str(folder)]}
    for dtype, name in STORES.items():
        stores = ["--passages", str(folder / dtype / PASSAGES), "--queries", str(folder / dtype / QUERY_SUMS)]
        output = ["--alpha", str(ALPHA), "--output", str(folder / f"index-{dtype}")]
        kind = ["--type", "fp16" if dtype == "float16" else "flat"]
        ways[name] = [*XQG, "index", *stores, *output, *kind]
    return ways


def written(folder: Path) -> dict[str, list[Path]]:
    """Return what each way writes."""
    paths = {PICKLES: [folder / "fused.pkl", folder / f"index-{PICKLES}"]}
    return paths | {name: [folder / f"index-{dtype}"] for dtype, name in STORES.items()}


def clear(folder: Path, way: str) -> None:
    """Take away what this way wrote before: none is timed with the removal of what it replaces."""
    for path in written(folder)[way]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def size(*paths: Path) -> int:
    """Return how many bytes files and folders hold."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file())


def compare(folder: Path) -> str:
    """Return how far the indexes' vectors are apart."""
    import faiss

    mapped = [folder / f"index-{name}" / "index" for name in (PICKLES, *STORES)]
    theirs, ours, half = (faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC) for path in mapped)
    rows = range(0, theirs.ntotal, max(1, theirs.ntotal // 1000))
    of = [np.array([index.reconstruct(row) for row in rows]) for index in (theirs, ours, half)]
    apart = [float(np.abs(of[0] - each).max()) for each in of[1:]]
    if apart[0] > 1e-5 or apart[1] > 1e-3:
        raise SystemExit(f"the vectors differ, by {apart[0]:g} (float32) and {apart[1]:g} (float16)")
    return f"vectors differ by at most {apart[0]:.1g} (float32) and {apart[1]:.1g} (float16)"


def main() -> None:
    """Read the command line, make the inputs, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--folder", help="where the inputs go (default: a temporary folder)")
    parser.add_argument("--fuse", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fuse:
        return published(args.fuse)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        make(folder, args.passages, args.dimension)
        print(table(in_turn(commands(folder), args.times, partial(clear, folder)), PICKLES))
        inputs = {PICKLES: folder / PICKLES, **{name: folder / dtype for dtype, name in STORES.items()}}
        bytes_of = {way: size(inputs[way], *paths) for way, paths in written(folder).items()}
        for way, total in bytes_of.items():
            print(f"disk, {way}: {total / 1e9:.2f} GB, {total / bytes_of[PICKLES]:.2f}")
        print(compare(folder))


if __name__ == "__main__":
    main()
