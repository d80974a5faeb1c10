"""Questions → TREC runs: over an index, or language-aware from the stores.

Language-aware search mixes each question's own language's queries into the passages, so every
language sees vectors of its own; they are fused block by block and never stored.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import Question, Run
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.fusion.formula import Centers
from xqg_pyserini.fusion.fused import FusedPassages
from xqg_pyserini.models.engines import Encoder, load, same_space
from xqg_pyserini.models.registry import EncoderSettings, choose, resolve
from xqg_pyserini.retrieve.index import DOCID, FaissIndex, LanguageIndexes, language_aware
from xqg_pyserini.retrieve.topk import Best
from xqg_pyserini.stores import VectorStore, ids_at

BATCH = 256  # questions searched together

Languages = tuple[str, ...]


def search_index(
    index: str | Path | FaissIndex | Sequence[str | Path],
    questions: Sequence[Question],
    *,
    encoder: str | None = None,
    encoder_flags: Mapping[str, Any] | None = None,
    hits: int = 100,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 32,
    vectors: np.ndarray | None = None,
) -> Run:
    """Search a Faiss directory, ours or Pyserini's; a centred index centres each question.

    Of a language-aware folder (`index.build_language_indexes`), or of a list of folders from it,
    each question searches the index of its own language.  One whose language has none searches
    that of all languages, and a warning counts such questions; where that one is not given either,
    they are refused.

    `encoder` may be left out where the index says what it was made with (`xqg.json`).  `vectors`
    are the questions' embeddings (q, d) float32 where they are at hand (`encode_questions`).

    Raises:
        UserError: for an encoder that does not fit the index, a question without language and a
            centred index, an index without `xqg.json` and no encoder.
    """
    if not isinstance(index, FaissIndex):
        several = [index] if isinstance(index, str | Path) else list(index)
        if len(several) > 1 or language_aware(several[0]) is not None:
            engine = (encoder, encoder_flags, hits, device, precision, batch_size, vectors)
            return _search_languages(LanguageIndexes(several), questions, *engine)
        index = several[0]
    opened = index if isinstance(index, FaissIndex) else FaissIndex(index)
    check_hits(hits)
    if not questions:
        return {}
    if opened.centers is not None:
        check_question_languages(questions, f"{opened.path} is centred")
    settings = _index_settings(opened, encoder, encoder_flags)
    if vectors is None:
        vectors = _encode_for_index(opened, questions, settings, device, precision, batch_size)
    if opened.centers is not None:
        vectors = centered(vectors, questions, opened.centers)
    scores, rows = [], []
    bar = tqdm(total=len(questions), desc="searching", unit=" questions", disable=None)
    with bar:
        for start in range(0, len(questions), BATCH):
            found = opened.search(vectors[start : start + BATCH], hits)
            scores.append(found[0])
            rows.append(found[1])
            bar.update(len(found[0]))
    found_rows = np.concatenate(rows)
    names = ids_at(opened.path / DOCID, np.unique(found_rows).tolist())
    return make_run(questions, np.concatenate(scores), found_rows, names)


def _index_settings(
    opened: FaissIndex, encoder: str | None, flags: Mapping[str, Any] | None
) -> EncoderSettings:
    if opened.meta is not None:
        return choose(encoder, flags, opened.meta["encoder"], opened.path)
    if encoder is None:
        raise UserError(f"{opened.path} does not say its encoder (no xqg.json): give --encoder")
    return resolve(encoder, flags)


def _encode_for_index(
    opened: FaissIndex,
    questions: Sequence[Question],
    settings: EncoderSettings,
    device: str,
    precision: str,
    batch_size: int,
) -> np.ndarray:
    model = load(settings, "query", device, precision, batch_size)
    same_space(model, opened.d, opened.meta and opened.meta["encoder"], opened.path)
    return encode_questions(model, questions)


def _search_languages(
    indexes: LanguageIndexes,
    questions: Sequence[Question],
    encoder: str | None,
    encoder_flags: Mapping[str, Any] | None,
    hits: int,
    device: str,
    precision: str,
    batch_size: int,
    vectors: np.ndarray | None,
) -> Run:
    """Search each question in its own language's index, one index after the other."""
    check_hits(hits)
    check_question_languages(questions, "each language has an index of its own")
    groups: dict[Path, list[int]] = {}
    for i, question in enumerate(questions):
        groups.setdefault(indexes.of(question.language), []).append(i)
    known = [language for language in indexes.paths if language is not None]
    warn_fallback(questions, known, "they are searched in the index of all languages")
    found: Run = {}
    first: FaissIndex | None = None
    for path, members in groups.items():
        opened = FaissIndex(path)
        first = first or opened
        if vectors is None:
            vectors = _encode_for_index(
                opened,
                questions,
                _index_settings(opened, encoder, encoder_flags),
                device,
                precision,
                batch_size,
            )
        if (opened.d, opened.meta and opened.meta["encoder"]) != (
            first.d,
            first.meta and first.meta["encoder"],
        ):
            raise UserError(f"{path} was made with another encoder than {first.path}; use one")
        some = [questions[i] for i in members]
        found |= search_index(opened, some, hits=hits, vectors=vectors[members])
    return {question.id: found[question.id] for question in questions}


def search_stores(
    fused: FusedPassages,
    questions: Sequence[Question],
    *,
    encoder: str | None = None,
    encoder_flags: Mapping[str, Any] | None = None,
    hits: int = 100,
    language_aware: bool = True,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 32,
    vectors: np.ndarray | None = None,
) -> Run:
    """Search the stores themselves: each question with its own language's queries mixed in.

    A question whose language has no query in the whole store (or is not among the chosen
    languages) is searched with all chosen languages; a warning counts such questions.  Without
    `language_aware` all questions are, and the run is that of the index with the same fusion.
    `vectors` are the questions' embeddings (q, d) float32 where they are at hand.

    Raises:
        UserError: for a question without language, or an encoder that is not the stores'.
    """
    store = fused.passages
    check_hits(hits)
    if not questions:
        return {}
    if language_aware or fused.fusion.center:
        check_question_languages(questions, "the search depends on the language")
    engine = (encoder, encoder_flags, device, precision, batch_size)
    if vectors is None:
        vectors = encode_for_store(store, questions, *engine)
    else:
        choose(encoder, encoder_flags, store.encoder, store.path)
    if fused.fusion.center:
        vectors = centered(vectors, questions, fused.centers)
    groups: dict[Languages, list[int]] = {}
    for i, question in enumerate(questions):
        own = language_aware and question.language in fused.languages
        chosen = (str(question.language),) if own else fused.languages
        groups.setdefault(chosen, []).append(i)
    if language_aware:
        warn_fallback(questions, fused.languages, f"{' '.join(fused.languages)} are mixed in")
    _warn_without(fused, groups)
    needed = tuple(l for l in fused.languages if any(l in languages for languages in groups))
    k = min(hits, store.n)
    best = Best(len(questions), k)
    bar = tqdm(total=store.n, desc="searching", unit=" passages", disable=None)
    with bar:
        for block in fused.raw_blocks(needed):
            for languages, members in groups.items():
                passages = fused.fuse(block, languages)
                best.offer(members, vectors[members] @ passages.T, block.start)
            bar.update(len(block.passages))
    scores, rows = best.ranked()
    return make_run(questions, scores, rows, ids_at(store.ids_path, np.unique(rows).tolist()))


def encode_questions(model: Encoder, questions: Sequence[Question]) -> np.ndarray:
    """Return the embeddings (q, d) float32 of the questions."""
    with tqdm(total=len(questions), desc="encoding", unit=" questions", disable=None) as bar:
        return model.encode([question.text for question in questions], bar.update)


def encode_for_store(
    store: VectorStore,
    questions: Sequence[Question],
    encoder: str | None = None,
    encoder_flags: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 32,
) -> np.ndarray:
    """Return the questions' embeddings (q, d) float32 by a store's encoder.

    Raises `UserError` for an encoder that is named and is not the store's.
    """
    settings = choose(encoder, encoder_flags, store.encoder, store.path)
    model = load(settings, "query", device, precision, batch_size)
    same_space(model, store.d, store.encoder, store.path)
    return encode_questions(model, questions)


def check_question_languages(questions: Sequence[Question], why: str) -> None:
    """Raise `UserError` for a question that names no language."""
    for question in questions:
        if question.language is None:
            raise UserError(
                f"question {question.id!r} has no language, and {why}: "
                "give --language xx, or topics with lang"
            )


def check_hits(hits: int) -> None:
    """Raise `UserError` for a number of hits below 1."""
    if hits < 1:
        raise UserError(f"--hits is {hits}; expected 1 or more")


def centered(vectors: np.ndarray, questions: Sequence[Question], centers: Centers) -> np.ndarray:
    """Return the questions' vectors (q, d) less the mean of their language's queries."""
    warn_fallback(questions, centers.queries, "they are centred by the mean of all queries")
    return vectors - np.stack([centers.of(str(question.language)) for question in questions])


def warn_fallback(questions: Sequence[Question], known: Any, what: str) -> None:
    """Warn of questions in languages that are not known, and say what becomes of them."""
    missing = Counter(str(q.language) for q in questions if q.language not in known)
    if missing:
        languages = ", ".join(f"{language} ({n})" for language, n in sorted(missing.items()))
        warn(
            f"{sum(missing.values())} questions are in a language without generated queries "
            f"to use ({languages}): {what}"
        )


def _warn_without(fused: FusedPassages, groups: Iterable[Languages]) -> None:
    without = {languages: fused.without_queries(languages) for languages in groups}
    some = [f"{' '.join(languages)} {n}" for languages, n in without.items() if n]
    if some:
        warn(
            f"passages without queries, of {fused.passages.n}, keep their own embedding: "
            f"{', '.join(some)}"
        )


def make_run(
    questions: Sequence[Question], scores: np.ndarray, rows: np.ndarray, names: Mapping[int, str]
) -> Run:
    """Return the run of scores (q, k) and rows (q, k), -1 for none; `names` are the rows' ids."""
    return {
        # rows of -1 stand last: the hits end with the rows that are
        question.id: {names[row]: score for row, score in zip(found, of, strict=True) if row >= 0}
        for question, found, of in zip(questions, rows.tolist(), scores.tolist(), strict=True)
    }
