"""Learning an alignment from vectors, beyond encoding them, and putting questions right: time and memory.

    python benchmarks/alignment.py [--pairs 100000] [--dimension 768] [--questions 2000] [--times 5]

Synthetic pairs of a passage and its query, in seven languages.  *ours* adds them up as they come (`stores.moments`),
chooses the ridge by held-out passages of its sample, writes the alignment and opens it.  *plain* holds all pairs,
takes NumPy's covariance of each language, and solves for λ = 5; it chooses nothing and keeps nothing.  Both have the
same matrices at λ = 5; the script stops otherwise.  *questions* opens what was written and puts the questions right.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring import in_turn, table
from synthetic import ENCODER, LANGUAGES

BATCH, SHRINK, RIDGE = 1024, 300.0, 5.0


def pairs(n: int, d: int) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
    """Yield batches: number of the first pair, language, passages (m, d) and queries (m, d), float32."""
    rng = np.random.default_rng(0)
    turn = rng.standard_normal((len(LANGUAGES), d, 8), dtype=np.float32) / 8  # directions of language alone
    for start in range(0, n, BATCH):
        l = start // BATCH % len(LANGUAGES)
        passages = rng.standard_normal((min(BATCH, n - start), d), dtype=np.float32)
        noise = rng.standard_normal((len(passages), 8), dtype=np.float32) @ turn[l].T
        queries = passages + noise + turn[l, :, 0]
        yield start, LANGUAGES[l], passages, queries


def ours(n: int, d: int, folder: Path) -> None:
    """Add up, estimate, write."""
    from xqg_pyserini.fusion.alignment import Alignment
    from xqg_pyserini.retrieve.align import AlignSettings, _write
    from xqg_pyserini.stores.moments import Moments, Pair

    moments = Moments(LANGUAGES, d)
    for start, language, passages, queries in pairs(n, d):
        each = zip(passages, queries[:, None], strict=True)
        moments.add(Pair(f"p{start + i}", language, p, q) for i, (p, q) in enumerate(each))
    target = folder / "alignment"
    target.mkdir(exist_ok=True)
    _write(target, moments, AlignSettings(shrink=SHRINK), ENCODER, [], None)
    Alignment(target)


def plain(n: int, d: int, folder: Path) -> None:
    """Hold all pairs, then compute."""
    held: dict[str, Any] = {language: ([], []) for language in LANGUAGES}
    for _, language, passages, queries in pairs(n, d):
        held[language][0].append(passages)
        held[language][1].append(queries)
    held = {language: [np.concatenate(x) for x in both] for language, both in held.items()}
    numbers = np.array([len(queries) for _, queries in held.values()], dtype=np.float64)
    own = [np.cov((queries - passages).T, bias=True, dtype=np.float64) for passages, queries in held.values()]
    pooled = sum(m * c for m, c in zip(numbers, own, strict=True)) / numbers.sum()
    out = []
    for m, c in zip(numbers, own, strict=True):
        shrunk = (m * c + SHRINK * pooled) / (m + SHRINK)
        t = np.trace(shrunk) / d
        out.append((1 + RIDGE) * t * np.linalg.solve(shrunk + RIDGE * t * np.eye(d), np.eye(d)))
    centers = [queries.mean(axis=0, dtype=np.float64) for _, queries in held.values()]
    np.savez(folder / "plain.npz", matrices=np.array(out), centers=np.array(centers))


def nothing(n: int, d: int, folder: Path) -> None:
    """Make the pairs, which is in the figures of both."""
    for _ in pairs(n, d):
        pass


def asked(n: int, d: int, folder: Path) -> None:
    """Put n questions right by what was written."""
    from xqg_pyserini.fusion.alignment import Alignment

    vectors = np.random.default_rng(1).standard_normal((n, d), dtype=np.float32)
    Alignment(folder / "alignment").turned(vectors, [LANGUAGES[i % len(LANGUAGES)] for i in range(n)])


def compare(folder: Path) -> str:
    """Return how far the matrices at λ = 5 are apart."""
    from xqg_pyserini.fusion.alignment import Alignment, align_moments
    from xqg_pyserini.stores.moments import MOMENTS, Moments

    alignment, theirs = Alignment(folder / "alignment"), np.load(folder / "plain.npz")
    moments = Moments.open(folder / "alignment" / MOMENTS, alignment.moments, alignment.d)
    _, mine = align_moments(moments.sums(), SHRINK, RIDGE)
    assert mine is not None
    apart = float(np.abs(mine[:-1] - theirs["matrices"]).max())
    if apart > 1e-4:
        raise SystemExit(f"the matrices differ by {apart:g}")
    return f"matrices differ by at most {apart:.1g}"


def main() -> None:
    """Read the command line, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--way", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    ways = {"plain": plain, "ours": ours, "making the pairs": nothing, "questions": asked}
    if args.way:
        n = args.questions if args.way[0] == "questions" else args.pairs
        return ways[args.way[0]](n, args.dimension, Path(args.way[1]))
    with tempfile.TemporaryDirectory() as name:
        sizes = ["--pairs", str(args.pairs), "--dimension", str(args.dimension), "--questions", str(args.questions)]
        run = [sys.executable, __file__, *sizes, "--way"]
        print(table(in_turn({way: [*run, way, name] for way in ways}, args.times), "plain"))
        print(compare(Path(name)))


if __name__ == "__main__":
    main()
