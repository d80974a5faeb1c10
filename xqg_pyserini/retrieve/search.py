"""Questions → runs over an index: ours, or any Faiss index of Pyserini's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import Question, QuestionsLike, Run, as_questions, find_language
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.fusion.formula import Centers
from xqg_pyserini.models.encoder import Encoder, same_encoder
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.directories import Directory, open_directory
from xqg_pyserini.retrieve.parts import best_passages, check_delimiter
from xqg_pyserini.settings import option


@dataclass(frozen=True)
class SearchSettings:
    """How far a search goes."""

    hits: int = option(100, "passages a question", metavar="N")

    def __post_init__(self) -> None:
        check_hits(self.hits)


class Index:
    """An index opened for search: a Faiss directory of ours or Pyserini's, or several.

    A folder of shards (`shard-00000-of-00008` and so on) is searched as the index that they are parts of.

    Of a language-aware folder, or of a list of folders from it, each question searches the index
    of its own language.  One whose language has none searches that of all languages, and a warning
    counts such questions; where that one is not given either, they are refused.

    Attributes:
        path: the directory, the first of several.
        n: the number of passages.
        d: the number of dimensions.
        meta: what `xqg.json` says; None for an index that xqg did not write.
        encoder: what it says of the encoder, or None.
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
        if len(paths) > 1 or layout.language_aware(layout.parts(paths[0])[0]) is not None:
            self._languages = layout.LanguageIndexes(paths)
            self.path = self._languages.folders[0]
            self._first = self._open(next(iter(self._languages.paths.values())))
            self.meta = layout.read_centers(layout.parts(self.path)[0])[0]
        else:
            self._first = self._open(self.path)
            self.meta = self._first.meta
        self.n, self.d = self._first.n, self._first.d
        self.centers = self._first.centers
        self.encoder: dict[str, Any] | None = self.meta and self.meta["encoder"]

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r})"

    @property
    def languages(self) -> list[str] | None:
        """Return the languages by which it tells questions apart; None where a question needs none."""
        if self._languages is not None:
            return self._languages.languages
        return None if self.centers is None else list(self.centers.queries)

    def search(
        self,
        questions: QuestionsLike,
        k: int = SearchSettings.hits,
        *,
        encoder: Encoder | str | None = None,
        vectors: np.ndarray | None = None,
        align: Alignment | str | Path | None = None,
        threads: int | None = None,
        delimiter: str | None = None,
    ) -> Run:
        """Search; a centred index centres each question by its language.

        Args:
            questions: a file, or values; see `as_questions`.
            k: hits a question.
            encoder: may be left out where the index (or the alignment) says what it was made with.
            vectors: the questions' embeddings (q, d) float32, where they are at hand; before they are aligned.
            align: puts each question right by its language, in place of the index's own centring.
            threads: CPU threads of the search; None for what Faiss chooses.
            delimiter: docids are those of passages up to this (`doc#3`), and a passage scores as the best of its rows,
                exactly where the index is exact; None for what an index of ours says, of others no such thing.

        Raises:
            UserError: for an encoder that does not fit the index, an alignment of another encoder, a question
                without language where the search depends on it.
        """
        check_hits(k)
        if delimiter is not None:
            check_delimiter(delimiter)
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
                found = _found(directory, part, k, delimiter)
            run |= make_run(asking, *found)
        return {question.id: run[question.id] for question in questions}

    def _groups(self, questions: Sequence[Question]) -> dict[Directory, list[int]]:
        """Return which questions search which directory."""
        if self._languages is None:
            return {self._first: list(range(len(questions)))}
        by_path: dict[Path, list[int]] = {}
        for i, question in enumerate(questions):
            by_path.setdefault(self._languages.of(question.language), []).append(i)
        warn_fallback(questions, self._languages.languages, "they are searched in the index of all languages")
        return {self._open(path): members for path, members in by_path.items()}

    def open_all(self) -> None:
        """Open the index of every language, which else waits for its first question; raises as opening one does."""
        for path in self._languages.paths.values() if self._languages else ():
            self._open(path)

    def _open(self, path: Path) -> Directory:
        if path not in self._opened:
            self._opened[path] = open_directory(path)
        return self._opened[path]


def _found(
    directory: Directory, vectors: np.ndarray, k: int, delimiter: str | None
) -> tuple[np.ndarray, np.ndarray, Mapping[int, str]]:
    """Return scores (q, m) and rows (q, m) of the best m = min(k, n) passages, and the ids by row."""
    delimiter = delimiter or (directory.meta or {}).get("delimiter")
    if delimiter is not None:
        return best_passages(directory, vectors, k, delimiter)
    scores, rows = directory.best(vectors, k)
    if few := np.count_nonzero(rows[:, -1:] < 0):
        is_graph = "hnsw" in str((directory.meta or {}).get("type"))
        why = "many passages with one vector part a graph" if is_graph else "the lists that are probed hold no more"
        what = f"{few} of {len(rows)} questions found fewer than {rows.shape[1]} passages"
        warn(f"{directory.path}: {what}: {why}; use a flat index, or ask for fewer hits")
    return scores, rows, directory.names(rows)


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
        known = encoder.for_questions() if isinstance(encoder, Encoder) else encoder
        if alignment is not None:
            known = Encoder.for_store(alignment, known).for_questions()
        encoder = Encoder.for_store(store, known).for_questions()
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
    found = (rows >= 0).sum(axis=1).tolist()  # rows of -1 stand last
    return {
        question.id: dict(zip(map(names.__getitem__, ranking[:hits]), of, strict=False))
        for question, hits, ranking, of in zip(questions, found, rows.tolist(), scores.tolist(), strict=True)
    }
