"""Questions → runs over an index: ours, or any Faiss index of Pyserini's."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import Question, QuestionsLike, Run, as_questions, find_language
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.fusion.formula import Centers
from xqg_pyserini.models.encoder import Encoder, same_encoder
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.layout import DOCID, INDEX, META
from xqg_pyserini.retrieve.topk import Group, Hits, gathered, settle_scores, settled
from xqg_pyserini.settings import option
from xqg_pyserini.stores import block_rows, ids_at
from xqg_pyserini.stores.pair import Rows

BATCH = 512  # questions searched together: below 128,000 numbers Faiss multiplies one by one, and is slower


@dataclass(frozen=True)
class SearchSettings:
    """How far a search goes."""

    hits: int = option(100, "passages a question", metavar="N")

    def __post_init__(self) -> None:
        check_hits(self.hits)


class Index:
    """An index opened for search: a Faiss directory of ours or Pyserini's, or several.

    Of a language-aware folder, or of a list of folders from it, each question searches the index
    of its own language.  One whose language has none searches that of all languages, and a warning
    counts such questions; where that one is not given either, they are refused.

    Attributes:
        path: the directory, the first of several.
        n, d: numbers of passages and of dimensions.
        meta, encoder: what `xqg.json` says, and says of the encoder; None for an index that xqg did not write.
        centers: the means that a centred index takes from each question; else None.

    Raises:
        UserError: where a file is missing or they do not belong together.
    """

    def __init__(self, path: str | Path | Sequence[str | Path]) -> None:
        paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
        if not paths:
            raise UserError("no index to search", "index")
        self.path = paths[0]
        self._languages: layout.LanguageIndexes | None = None
        self._opened: dict[Path, Directory] = {}
        if len(paths) > 1 or layout.language_aware(paths[0]) is not None:
            self._languages = layout.LanguageIndexes(paths)
            self.path = self._languages.folders[0]
            self._first = self._open(next(iter(self._languages.paths.values())))
            self.meta = layout.read_centers(self.path)[0]
        else:
            self._first = open_directory(self.path)
            self.meta = self._first.meta
        self.n, self.d = self._first.n, self._first.d
        self.centers = self._first.centers
        self.encoder: dict[str, Any] | None = self.meta and self.meta["encoder"]

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r})"

    def search(
        self,
        questions: QuestionsLike,
        k: int = SearchSettings.hits,
        *,
        encoder: Encoder | str | None = None,
        vectors: np.ndarray | None = None,
        align: Alignment | str | Path | None = None,
        threads: int | None = None,
    ) -> Run:
        """Search; a centred index centres each question by its language.

        Args:
            questions: a file, or values; see `as_questions`.
            k: hits a question.
            encoder: may be left out where the index (or the alignment) says what it was made with.
            vectors: the questions' embeddings (q, d) float32, where they are at hand; before they are aligned.
            align: puts each question right by its language, in place of the index's own centring.
            threads: CPU threads of the search; None for what Faiss chooses.

        Raises:
            UserError: for an encoder that does not fit the index, an alignment of another encoder, a question
                without language where the search depends on it.
        """
        check_hits(k)
        questions = as_questions(questions)
        if not questions:
            return {}
        if self._languages is not None:
            check_question_languages(questions, "each language has an index of its own")
        elif self.centers is not None:
            check_question_languages(questions, f"{self.path} is centred")
        groups = self._groups(questions)
        vectors = question_vectors(self, questions, encoder, vectors, align)
        run: Run = {}
        for directory, members in groups.items():
            if (directory.d, directory.encoder) != (self.d, self._first.encoder):
                raise UserError(f"{directory.path} was made with another encoder than {self._first.path}; use one")
            asking, part = [questions[i] for i in members], vectors[members]
            if align is None and directory.centers is not None:
                part = centered(part, asking, directory.centers)
            with Computing(threads=threads).limited():
                run |= directory.search(asking, part, k)
        return {question.id: run[question.id] for question in questions}

    def _groups(self, questions: Sequence[Question]) -> "dict[Directory, list[int]]":
        """Return which questions search which directory."""
        if self._languages is None:
            return {self._first: list(range(len(questions)))}
        by_path: dict[Path, list[int]] = {}
        for i, question in enumerate(questions):
            by_path.setdefault(self._languages.of(question.language), []).append(i)
        warn_fallback(questions, self._languages.languages, "they are searched in the index of all languages")
        return {self._open(path): members for path, members in by_path.items()}

    def _open(self, path: Path) -> "Directory":
        if path not in self._opened:
            self._opened[path] = open_directory(path)
        return self._opened[path]


class Directory(Protocol):
    """One index of those that are searched."""

    path: Path
    n: int
    d: int
    meta: dict[str, Any] | None
    encoder: dict[str, Any] | None
    centers: Centers | None

    def search(self, questions: Sequence[Question], vectors: np.ndarray, k: int) -> Run:
        """Return the run of some questions, by their vectors (q, d) as they search."""


def open_directory(path: Path) -> Directory:
    """Open a directory with Faiss's file, or a Lance dataset; raises `UserError` for what was exported elsewhere."""
    if (path / META).is_file() and layout.language_aware(path) is None:
        said = layout.described(path)
        if said.lance is not None:
            from xqg_pyserini.retrieve.lance import LanceDirectory

            return LanceDirectory(path)
        if said.kind == layout.EXPORT:
            raise UserError(f"{path}: exported for another engine; search the index that it was exported from")
    return FaissDirectory(path)


class FaissDirectory:
    """One directory with Faiss's file and its ids, checked; the index is memory-mapped."""

    def __init__(self, path: Path) -> None:
        import faiss

        self.path = path
        layout.refuse_language_aware(self.path)
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such index (expected a folder with {INDEX}, {DOCID})")
        for name in (INDEX, DOCID):
            if not (self.path / name).is_file():
                raise UserError(f"{self.path / name}: missing; this is no Faiss index of Pyserini's")
        try:
            self._index = faiss.read_index(str(self.path / INDEX), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{self.path / INDEX}: Faiss cannot read it ({reason})") from None
        self.n, self.d = int(self._index.ntotal), int(self._index.d)
        with open(self.path / DOCID, "rb") as file:
            lines = sum(1 for _ in file)
        self._right: Future[None] | None = None  # whether the file of vectors is as it was written
        if lines != self.n:
            raise UserError(f"{self.path / DOCID}: {lines} ids for {self.n} vectors; build it again")
        if self._index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise UserError(f"{self.path / INDEX}: not an inner-product index")
        self.meta, self.centers = layout.read_centers(self.path)
        layout.check_sum(self.path, DOCID, self.meta)
        if self.meta is not None and (self.meta["n"], self.meta["d"]) != (self.n, self.d):
            what = f"{META} says {self.meta['n']} x {self.meta['d']}; build the index again"
            raise UserError(f"{self.path}: {INDEX} has {self.n} x {self.d} vectors, {what}")
        self.encoder: dict[str, Any] | None = self.meta and self.meta["encoder"]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all vectors in the order of the rows, (b, d) float32, as the index decodes them."""
        size = block_rows(self.d)
        for start in range(0, self.n, size):
            yield self._index.reconstruct_n(start, min(size, self.n - start))

    def search(self, questions: Sequence[Question], vectors: np.ndarray, k: int) -> Run:
        """Return the run of some questions, by their vectors (q, d) as they search; raises as `best`."""
        scores, rows = self.best(vectors, k)
        return make_run(questions, scores, rows, ids_at(self.path / DOCID, np.unique(rows).tolist()))

    def best(self, vectors: np.ndarray, k: int) -> Hits:
        """Return scores (q, m) float32 and rows (q, m) int64 of the best m = min(k, n).

        Equal scores are in the order of the rows, whatever k and the batch (`topk`).  A graph is searched as wide as
        its efSearch, and all that it finds is gathered; for more hits than that it is searched wider.

        Raises:
            UserError: for a file of vectors that was changed, where it is searched whole, or holds NaN.
        """
        exhaustive = self._exhaustive
        if self._right is None:
            self._right = ThreadPoolExecutor(1).submit(self._check_vectors)
        width = self._index.hnsw.efSearch if hasattr(self._index, "hnsw") else 0
        wanted = min(self.n, max(gathered(k, self.n), width))  # a graph cuts equal scores anyhow
        batches = []
        with tqdm(total=len(vectors), desc="searching", unit=" questions", disable=None) as bar:
            for start in range(0, len(vectors), BATCH):
                batch = np.ascontiguousarray(vectors[start : start + BATCH])
                batches.append(self._index.search(batch, wanted))
                bar.update(len(batch))
        near, rows = map(np.concatenate, zip(*batches, strict=True))
        self._right.result()
        if exhaustive and (rows < 0).any():  # what has no score is not found
            raise UserError(f"{self.path / INDEX}: holds vectors with NaN; build it again")
        if not self._stored:
            return settle_scores(near, rows, k)
        # of a graph no more can be had than it finds
        longest = 2 * float(np.linalg.norm(self._vectors(np.unique(rows[:, 0])), axis=1).max()) if exhaustive else 0.0
        groups = [Group(np.arange(len(vectors)), vectors, self._vectors, longest)]
        return settled((near, rows), groups, min(k, self.n), self.n)

    def _check_vectors(self) -> None:
        if self._exhaustive:  # of a graph a small part is read
            layout.check_sum(self.path, INDEX, self.meta)

    @property
    def _exhaustive(self) -> bool:
        import faiss

        return isinstance(self._index, faiss.IndexFlat | faiss.IndexScalarQuantizer)

    @cached_property
    def _stored(self) -> bool:
        """Tell whether the index gives back its vectors, as decoded."""
        try:
            self._index.reconstruct_batch(np.zeros(1, dtype=np.int64))
        except RuntimeError:
            return False
        return True

    def _vectors(self, rows: Rows) -> np.ndarray:
        return self._index.reconstruct_batch(np.ascontiguousarray(rows, dtype=np.int64))


# ---------------------------------------------------------------- shared with searching stores


def question_vectors(
    store: Any,
    questions: Sequence[Question],
    encoder: Encoder | str | None,
    vectors: np.ndarray | None,
    align: Alignment | str | Path | None = None,
) -> np.ndarray:
    """Return the questions' embeddings (q, d) float32, by a store's or an index's own encoder, put right by `align`.

    `vectors` are taken where they are at hand.  Raises `UserError` for an encoder that is not the store's, or vectors
    of another shape or with NaN, naming the question; for an alignment of another encoder.
    """
    alignment = None if align is None else open_alignment(align, store, questions)
    if vectors is None:
        encoder = encoder if alignment is None else Encoder.for_store(alignment, encoder)
        encoder = Encoder.for_store(store, encoder)
        with tqdm(total=len(questions), desc="encoding", unit=" questions", disable=None) as bar:
            vectors = encoder.encode_queries([question.text for question in questions], bar.update)
    else:
        vectors = _checked_vectors(store, questions, vectors)
    return vectors if alignment is None else alignment.apply(vectors, [question.language for question in questions])


def open_alignment(align: Alignment | str | Path, store: Any, questions: Sequence[Question]) -> Alignment:
    """Return an alignment opened; raises `UserError` where it does not fit a store or index, or the questions."""
    alignment = Alignment(align) if isinstance(align, str | Path) else align
    check_question_languages(questions, "an alignment goes by the language")
    if alignment.d != store.d:
        what = f"{alignment.path} is for {alignment.d} dimensions, {store.path} has {store.d}"
        raise UserError(f"{what}; an alignment serves the encoder that it was learnt with")
    if store.encoder is not None:
        same_encoder(store, alignment)
    return alignment


def _checked_vectors(store: Any, questions: Sequence[Question], vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.shape != (len(questions), store.d):
        stored = f"{store.path} with {store.d} dimensions"
        raise UserError(f"vectors of shape {vectors.shape} for {len(questions)} questions and {stored}")
    vectors = vectors.astype(np.float32, copy=False)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        question = questions[int(np.argmin(finite))]
        raise UserError(f"the vector of question {question.id!r} holds NaN or infinity")
    return vectors


def check_question_languages(questions: Sequence[Question], why: str) -> None:
    """Raise `UserError` for a question that names no language."""
    for question in questions:
        if question.language is None:
            what = f"has no language, and {why}: give one for all, or questions with lang"
            raise UserError(f"question {question.id!r} {what}", "language")


def check_hits(hits: int) -> None:
    """Raise `UserError` for a number of hits below 1."""
    if hits < 1:
        raise UserError(f"hits is {hits}; expected 1 or more", "hits")


def centered(vectors: np.ndarray, questions: Sequence[Question], centers: Centers) -> np.ndarray:
    """Return the questions' vectors (q, d) less the mean of their language's queries."""
    warn_fallback(questions, centers.queries, "they are centred by the mean of all queries")
    return vectors - np.stack([centers.of(str(question.language)) for question in questions])


def warn_fallback(questions: Sequence[Question], known: Any, what: str) -> None:
    """Warn of questions in languages that are not known, and say what becomes of them."""
    missing = Counter(str(q.language) for q in questions if find_language(q.language, known) is None)
    if missing:
        languages = ", ".join(f"{language} ({n})" for language, n in sorted(missing.items()))
        asked = f"{sum(missing.values())} questions are in a language without generated queries to use ({languages})"
        warn(f"{asked}: {what}")


def make_run(questions: Sequence[Question], scores: np.ndarray, rows: np.ndarray, names: Mapping[int, str]) -> Run:
    """Return the run of scores (q, k) and rows (q, k), -1 for none; `names` are the rows' ids."""
    return {
        # rows of -1 stand last: the hits end with the rows that are
        question.id: {names[row]: score for row, score in zip(ranking, of, strict=True) if row >= 0}
        for question, ranking, of in zip(questions, rows.tolist(), scores.tolist(), strict=True)
    }
