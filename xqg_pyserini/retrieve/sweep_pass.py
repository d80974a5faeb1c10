"""One pass over the stores that gives every point of a grid its run.

Scores are inner products, so that ⟨q, E(p)⟩ and ⟨q, Σ S_l(p)⟩ serve every weight, form and norm
(`formula.mixing_weights`).  Block by block, each of these products is computed once for every set of languages, and
each point of the grid keeps its questions' best passages.  No augmented vector is made, no index is written, and memory
is that of a block and of the hits.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import Question, Run
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.fusion.formula import Fusion, Gram, added, gram, mixing_weights, pooled
from xqg_pyserini.fusion.fused import FusedStores, Languages, Tolerances
from xqg_pyserini.retrieve import search as searching
from xqg_pyserini.retrieve.grid import Aligned, Point, check_points
from xqg_pyserini.retrieve.topk import Best, Group, Hits, decide, gathered, settle
from xqg_pyserini.stores import Block, QueryStore, StorePair, VectorStore, block_rows, ids_at
from xqg_pyserini.stores.pair import Rows

BATCH = 512  # questions scored together
ROWS = 1024  # passages scored together, at most: what a batch makes of them stays near the cores
PIECE = 128  # questions that one thread multiplies at a time
SETTLED = 8  # questions whose hits are settled together: their passages stay near a core


class _Mix(NamedTuple):
    """What is added up of a passage's queries: T, as `mixing_weights` calls it."""

    first: int | None
    languages: Languages
    center: bool
    shrink: float


class _Part(NamedTuple):
    """Questions start … stop-1 of a batch that meet one mix at a point."""

    start: int
    stop: int
    mix: _Mix | None


class _Space(NamedTuple):
    """Whether passages are centred, and by the means of which queries the questions are: none if put right else."""

    center: bool
    first: int | None


_Spaces = Mapping[Aligned | None, Mapping[_Space, np.ndarray]]  # → the questions' vectors (q, d) float32


class _Tile(NamedTuple):
    """Passages start … stop-1 with all that the points need of them."""

    start: int
    stop: int
    passages: dict[bool, np.ndarray]  # centred or not → (b, d) float32
    sums: dict[_Mix, np.ndarray]  # → (b, d) float32
    weights: dict[tuple[Fusion, _Mix], tuple[np.ndarray, np.ndarray]]  # → (b,) float32 each


class _Batch:
    """Some questions, sorted by language, and which mixes each point makes them meet."""

    def __init__(self, start: int, questions: Sequence[Question], chosen: Mapping[Point, Languages]) -> None:
        self.members = np.arange(start, start + len(questions))
        self.parts: dict[Point, list[_Part]] = {}
        self.spans: dict[Aligned | None, dict[_Mix, tuple[int, int]]] = {}  # the questions that a mix is wanted for
        for point, languages in chosen.items():
            parts: list[_Part] = []
            spans = self.spans.setdefault(point.align, {})
            for i, question in enumerate(questions):
                mix = None
                if point.fusion:
                    met = point.meets(question.language, languages)
                    mix = _Mix(point.first, met, point.fusion.center, point.fusion.shrink_queries)
                    low, high = spans.get(mix, (i, i))
                    spans[mix] = min(low, i), max(high, i + 1)
                if parts and parts[-1].mix == mix:
                    parts[-1] = parts[-1]._replace(stop=i + 1)
                else:
                    parts.append(_Part(i, i + 1, mix))
            self.parts[point] = parts

    def offer(self, tile: _Tile, spaces: _Spaces, best: Mapping[Point, Best], threads: "_Threads") -> None:
        """Score the passages of a tile at all points."""
        rows = slice(self.members[0], self.members[-1] + 1)

        def score(point: Point, products: Mapping[Any, np.ndarray]) -> None:
            for start, stop, mix in self.parts[point]:
                scores = products[_space(mix, point.align)][start:stop]
                if mix is not None and point.fusion is not None:
                    low = self.spans[point.align][mix][0]
                    queries = products[mix][start - low : stop - low]
                    a, b = tile.weights[point.fusion, mix]
                    scores = np.multiply(scores, a, out=threads.array("passages", scores.shape))
                    scores += np.multiply(queries, b, out=threads.array("queries", scores.shape))
                best[point].offer(self.members[start:stop], scores, tile.start)

        for align, spans in self.spans.items():  # one after the other: they share the memory of their products
            factors: dict[Any, tuple[np.ndarray, np.ndarray]] = {
                space: (vectors[rows], tile.passages[space.center]) for space, vectors in spaces[align].items()
            }
            for mix, (low, high) in spans.items():
                factors[mix] = spaces[align][_space(mix, align)][rows][low:high], tile.sums[mix]
            one = partial(score, products=threads.products(factors))
            list(threads.pool.map(one, [point for point in self.parts if point.align == align]))


class _Threads(threading.local):
    """A pool, and arrays that are used again, of each thread its own; fresh ones cost more than a product."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self._arrays: dict[Any, np.ndarray] = {}

    def array(self, key: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of this shape, whatever it holds: what was last taken by the key."""
        size = shape[0] * shape[1]
        if key not in self._arrays or self._arrays[key].size < size:
            self._arrays[key] = np.empty(size, dtype=np.float32)
        return self._arrays[key][:size].reshape(shape)

    def products(self, factors: Mapping[Any, tuple[np.ndarray, np.ndarray]]) -> dict[Any, np.ndarray]:
        """Return questions · passagesᵀ for pairs of both, cut into pieces for the threads."""
        products = {}
        pieces = []
        for key, (questions, passages) in factors.items():
            products[key] = self.array(key, (len(questions), len(passages)))
            for low in range(0, len(questions), PIECE):
                piece = slice(low, low + PIECE)
                pieces.append((questions[piece], passages.T, products[key][piece]))
        list(self.pool.map(lambda piece: np.matmul(piece[0], piece[1], out=piece[2]), pieces))
        return products


def _space(mix: _Mix | None, align: Aligned | None) -> _Space:
    center = mix is not None and mix.center
    return _Space(center, mix.first if mix is not None and center and align is None else None)


class SweepRuns(Mapping[str, Run]):
    """The runs of a sweep, point by point; each is made when it is asked for."""

    def __init__(
        self, questions: Sequence[Question], places: np.ndarray, hits: Mapping[str, Hits], ids_path: Path
    ) -> None:
        self._questions = questions
        self._hits = {name: (scores[places], rows[places]) for name, (scores, rows) in hits.items()}
        named: set[int] = set().union(*(np.unique(rows).tolist() for _, rows in hits.values()))
        self._names = ids_at(ids_path, named)

    def __getitem__(self, point: str) -> Run:
        return searching.make_run(self._questions, *self._hits[point], self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hits)

    def __len__(self) -> int:
        return len(self._hits)


class Sweep:
    """A grid over two stores, checked: every point can be searched.

    Args:
        passages, queries: the stores' folders; aligned by id.
        points: the grid; the baseline is added in front where it is missing.
        questions: those that will be searched for; which languages are needed depends on their languages.
        tolerances: as for `FusedStores`.
        align: the alignment of the points that put questions right; for these stores and questions.

    Raises:
        UserError: for a grid that is empty or holds a point twice, a language without queries, more queries than were
            kept, a sum over unequal numbers of queries, uncentred mixing where many passages have none, a question
            without language where a point depends on it.
    """

    def __init__(
        self,
        passages: str | Path | VectorStore,
        queries: str | Path,
        points: Sequence[Point],
        questions: Sequence[Question],
        tolerances: Tolerances | None = None,
        align: Alignment | None = None,
    ) -> None:
        check_points(points)
        self.points = list(points) if Point() in points else [Point(), *points]
        self.questions = questions
        self.align = align
        if align is not None and align.ridge is None and (point := next(filter(_only_shrunk, points), None)):
            needs = f"{align.path} is centring alone, which takes no shrinkage: give a ridge too"
            raise UserError(f"{point.name}: {needs}", ("shrink", "ridge"))
        self.passages = passages if isinstance(passages, VectorStore) else VectorStore(passages)
        anything = Fusion("mean", beta=0.0)
        self.fused = {
            first: FusedStores(self.passages, QueryStore(queries, first), anything, tolerances)
            for first in dict.fromkeys(point.first for point in points if point.fusion)
        }
        # of a·P and b·T together: scores are off by rounding in proportion to it
        self._longest: dict[tuple[Fusion | None, _Mix | None], float] = {}
        self.forced: set[str] = set()  # the tolerances without which a point would be refused
        self._chosen = {point: self._choose(point, tolerances or Tolerances()) for point in self.points}
        check_points(self.points, self._chosen)
        for point in self.points:
            if point.align or (point.fusion and (point.scope != "all" or point.fusion.center)):
                searching.check_question_languages(questions, f"{point.name} depends on the language")

    def _choose(self, point: Point, tolerances: Tolerances) -> Languages:
        if point.fusion is None:
            return ()
        fused = self.fused[point.first]
        chosen = fused.choose_languages(point.fusion.languages)
        met = {point.meets(question.language, chosen) for question in self.questions}
        if () in met:
            held = f"{fused.queries.path} has queries in {' '.join(chosen)} alone"
            raise UserError(f"{point.name}: {held}, so that there are no others")
        every = [(one,) for one in chosen] if point.scope == "own" else [chosen]
        mixes = dict.fromkeys([*every, *sorted(met)])
        guards = [("allow_unequal", fused.refuse_unequal)] if point.fusion.form == "sum" else []
        uncentred = point.fusion.depends_on_coverage and not point.fusion.center
        guards += [("allow_uneven", fused.refuse_uneven)] if uncentred else []
        for tolerance, refuse in guards:
            try:
                refuse(mixes)
            except UserError:
                if not getattr(tolerances, tolerance):
                    raise
                self.forced.add(tolerance)
        return chosen

    def search(
        self, vectors: np.ndarray, hits: int = searching.SearchSettings.hits, threads: int | None = None
    ) -> SweepRuns:
        """Search all points in one pass; `vectors` (q, d) float32 are the questions' embeddings.

        `threads` share the work; as many as there are cores by default.  A point's run is that of the index or
        language-aware search with its fusion.  Memory: the hits (40 bytes for each of points × questions × `hits`), a
        block, and the questions' vectors once for each way to take them (a centring, an alignment).
        """
        from threadpoolctl import threadpool_limits

        searching.check_hits(hits)
        self._warn_without()
        if any(point.scope != "all" for point in self.points):
            languages = next(iter(self.fused.values())).languages
            where = f"{' '.join(languages)} are mixed in for them at own and others"
            searching.warn_fallback(self.questions, languages, where)
        order = sorted(range(len(vectors)), key=lambda i: str(self.questions[i].language))
        k = min(hits, self.passages.n)
        best = {point: Best(len(order), gathered(k, self.passages.n)) for point in self.points}
        batches = [
            _Batch(start, [self.questions[i] for i in order[start : start + BATCH]], self._chosen)
            for start in range(0, len(order), BATCH)
        ]
        spaces = self._spaces(vectors, order)
        tiles = self._tiles(batches)
        with (
            tqdm(total=self.passages.n, desc="sweeping", unit=" passages", disable=None) as bar,
            # our threads share the products out; BLAS's own would wait beside them, spinning
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
        ):
            work = _Threads(pool)
            ahead = pool.submit(next, tiles, None)
            while (tile := ahead.result()) is not None:
                ahead = pool.submit(next, tiles, None)
                for batch in batches:
                    batch.offer(tile, spaces, best, work)
                bar.update(tile.stop - tile.start)
            near = {point: best[point].ranked() for point in self.points}
            settled = {
                point: (np.empty((len(order), k), np.float32), np.empty((len(order), k), np.int64)) for point in near
            }
            parts = [(batch, start) for batch in batches for start in range(0, len(batch.members), SETTLED)]
            list(pool.map(lambda part: self._settle(part[0], part[1], spaces, near, settled), parts))
            list(pool.map(lambda point: self._decide(point, batches, spaces, near[point][0], settled[point]), near))
        ranked = {point.name: settled[point] for point in self.points}
        return SweepRuns(self.questions, np.argsort(order), ranked, self.passages.ids_path)

    def _settle(
        self, batch: _Batch, begin: int, spaces: _Spaces, near: Mapping[Point, Hits], settled: Mapping[Point, Hits]
    ) -> None:
        """Settle the hits of some questions of a batch at all points; their passages are read once."""
        met: dict[Any, list[tuple[Point, _Mix | None, np.ndarray]]] = {}
        for point, parts in batch.parts.items():
            for start, stop, mix in parts:
                members = batch.members[max(start, begin) : min(stop, begin + SETTLED)]
                if len(members):
                    read = None if mix is None else (mix.first, mix.languages)
                    met.setdefault(read, []).append((point, mix, members))
        for asking in met.values():
            rows = np.unique(np.concatenate([near[point][1][members].reshape(-1) for point, _, members in asking]))
            rows = rows[rows >= 0]
            block = self._take(asking[0][1], rows)
            for point, mix, members in asking:
                scores, hits = settled[point]
                vectors_of = partial(self._some, block, rows, point.fusion, mix)
                queries = spaces[point.align][_space(mix, point.align)][members]
                scores[members], hits[members] = settle(queries, near[point][1][members], scores.shape[1], vectors_of)

    def _decide(self, point: Point, batches: Sequence[_Batch], spaces: _Spaces, near: np.ndarray, hits: Hits) -> None:
        """Put right what was settled of questions that are undecided at a point."""
        met: dict[_Mix | None, list[np.ndarray]] = {}
        for batch in batches:
            for start, stop, mix in batch.parts[point]:
                met.setdefault(mix, []).append(batch.members[start:stop])
        for mix, parts in met.items():
            members = np.concatenate(parts)
            vectors_of = partial(self._rows, point.fusion, mix)
            queries = spaces[point.align][_space(mix, point.align)][members]
            group = Group(members, queries, vectors_of, self._longest[point.fusion, mix])
            decide(hits, near, [group], self.passages.n)

    def _take(self, mix: _Mix | None, rows: Rows) -> Block:
        if mix is None:
            return StorePair(self.passages, None).take(rows)
        return self.fused[mix.first].pair.take(rows, mix.languages)

    def _fuse(self, block: Block, fusion: Fusion | None, mix: _Mix | None) -> np.ndarray:
        return block.passages if mix is None else self.fused[mix.first].fuse(block, mix.languages, fusion)

    def _rows(self, fusion: Fusion | None, mix: _Mix | None, rows: Rows) -> np.ndarray:
        """Return the augmented vectors (r, d) float32 of some passages."""
        return self._fuse(self._take(mix, rows), fusion, mix)

    def _some(
        self, block: Block, held: np.ndarray, fusion: Fusion | None, mix: _Mix | None, rows: np.ndarray
    ) -> np.ndarray:
        """Return the augmented vectors (r, d) float32 of some of the passages that a block holds."""
        at = np.searchsorted(held, rows)
        sums, counts = ({l: part[at] for l, part in parts.items()} for parts in (block.sums, block.counts))
        return self._fuse(Block(0, block.passages[at], sums, counts), fusion, mix)

    def _warn_without(self) -> None:
        """Count the passages that keep their own embedding, for each set of languages met."""
        without: dict[Languages, int] = {}
        asked = {question.language for question in self.questions}
        for point, chosen in self._chosen.items():
            if point.fusion and not point.fusion.shrink_queries:
                for met in dict.fromkeys(point.meets(l, chosen) for l in sorted(asked, key=str)):
                    if met not in without:  # the first k queries are none where all are none
                        without[met] = self.fused[point.first].without_queries(met)
        counts = [f"{' '.join(languages)} {n}" for languages, n in without.items() if n]
        if counts:
            warn(f"passages without queries, of {self.passages.n}, keep their own embedding: {', '.join(counts)}")

    def _spaces(self, vectors: np.ndarray, order: Sequence[int]) -> _Spaces:
        """Return the questions' vectors in this order, as they are, centred and put right where a point wants that."""
        spaces: dict[Aligned | None, dict[_Space, np.ndarray]] = {None: {_Space(False, None): vectors[order]}}
        centred = [point for point in self.points if point.fusion and point.fusion.center]
        for first in dict.fromkeys(point.first for point in centred if point.align is None):
            shifted = searching.centered(vectors, self.questions, self.fused[first].centers)
            spaces[None][_Space(True, first)] = shifted[order]
        languages = [question.language for question in self.questions]
        for turn, alignment in self._alignments():
            # all questions at once, as a search does: the kernels of BLAS add up by where a row stands
            put_right = (alignment.apply if len(spaces) == 1 else alignment.turned)(vectors, languages)[order]
            centers = {any(point.align == turn for point in centred), False}
            spaces[turn] = {_Space(center, None): put_right for center in centers}
        return spaces

    def _alignments(self) -> Iterator[tuple[Aligned, Alignment]]:
        """Yield what puts questions right, for each way that a point wants; one is held at a time."""
        turns = dict.fromkeys(point.align for point in self.points if point.align is not None)
        for shrink in dict.fromkeys(turn.shrink for turn in turns):
            some = [turn for turn in turns if turn.shrink == shrink and turn != Aligned()]
            assert self.align is not None
            if Aligned() in turns and shrink is None:
                yield Aligned(), self.align
            if some:
                yield from zip(some, self.align.again(shrink, [turn.ridge for turn in some]), strict=True)

    def _tiles(self, batches: Sequence[_Batch]) -> Iterator[_Tile]:
        """Yield the passages, block by block, with all that the batches ask of them."""
        wanted = dict.fromkeys(
            (point.fusion, part.mix) for batch in batches for point, parts in batch.parts.items() for part in parts
        )
        mixes = dict.fromkeys(mix for _, mix in wanted if mix is not None)
        needed: dict[int | None, dict[str, None]] = {}
        for mix in mixes:
            needed.setdefault(mix.first, {}).update(dict.fromkeys(mix.languages))
        matrices = 3 + len(mixes) + sum(map(len, needed.values()))
        size = min(ROWS, block_rows(self.passages.d + BATCH, matrices))
        for start in range(0, self.passages.n, size):
            stop = min(start + size, self.passages.n)
            blocks = {
                first: self.fused[first].pair.take(range(start, stop), tuple(languages))
                for first, languages in needed.items()
            }
            yield self._tile(blocks, wanted, mixes)

    def _tile(
        self,
        blocks: Mapping[int | None, Block],
        wanted: Iterable[tuple[Fusion | None, _Mix | None]],
        mixes: Iterable[_Mix],
    ) -> _Tile:
        block = next(iter(blocks.values()))
        passages = {False: block.passages}
        for mix in mixes:
            if mix.center and True not in passages:  # the passages' mean is the same for all
                passages[True] = block.passages - self.fused[mix.first].centers.passages
        tile = _Tile(block.start, block.start + len(block.passages), passages, {}, {})
        plain: dict[_Mix, tuple[np.ndarray, np.ndarray]] = {}
        products: dict[_Mix, tuple[np.ndarray, Gram]] = {}
        for mix in mixes:
            counts = {l: blocks[mix.first].counts[l] for l in mix.languages}
            uncentred = mix._replace(center=False, shrink=0.0)
            if uncentred not in plain:
                sums = {l: blocks[mix.first].sums[l] for l in mix.languages}
                plain[uncentred] = pooled(block.passages, sums, counts)
            tile.sums[mix], total = plain[uncentred]
            if mix.center:  # Σ (S_l - n_l·μ_l) = Σ S_l - Σ n_l·μ_l
                centers = self.fused[mix.first].centers
                means = np.stack([centers.of(l) for l in mix.languages])
                shift = np.stack(list(counts.values()), axis=1).astype(np.float32) @ means
                tile.sums[mix] = np.subtract(tile.sums[mix], shift, out=shift)
            elif mix.shrink:
                one = Fusion("mean", beta=0.0, shrink_queries=mix.shrink)
                tile.sums[mix] = tile.sums[mix] + added(one, mix.languages, self.fused[mix.first].centers)
            products[mix] = total, gram(passages[mix.center], tile.sums[mix])
        for fusion, met in wanted:
            if fusion is None or met is None:
                longest = np.linalg.norm(block.passages, axis=1)
            else:
                a, b = tile.weights[fusion, met] = mixing_weights(fusion, *products[met])
                longest = a * np.sqrt(products[met][1].passages) + b * np.sqrt(products[met][1].queries)
                longest += longest**2 / 2 if fusion.normalize else 0  # the norm is off by rounding too
            self._longest[fusion, met] = max(self._longest.get((fusion, met), 0.0), float(longest.max()))
        return tile


def _only_shrunk(point: Point) -> bool:
    return point.align is not None and point.align.ridge is None and point.align.shrink is not None
