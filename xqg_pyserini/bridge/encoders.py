"""Our encoders as Pyserini's classes; importing this imports Pyserini: `bridge.prepare()` first."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyserini.encode
import pyserini.encode.optional

from xqg_pyserini.data import Passage, check_languages, find_language
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import aside_of, clear
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.fusion.formula import unit
from xqg_pyserini.locks import held
from xqg_pyserini.models.encoder import Encoded, Encoder
from xqg_pyserini.models.registry import HUB_BACKENDS, EncoderSettings, registry, resolve
from xqg_pyserini.retrieve.directories import open_one
from xqg_pyserini.retrieve.layout import read_centers

_FAISS_WRITER: Any = pyserini.encode.optional.FaissRepresentationWriter
CENTER_VARIABLE, ALIGN_VARIABLE, LANGUAGE_VARIABLE = "XQG_CENTER", "XQG_ALIGN", "XQG_LANGUAGE"


class DocumentEncoder(pyserini.encode.DocumentEncoder):
    """A registered encoder as Pyserini's document encoder.

    `encode(texts=[…], titles=[…])` returns (n, d) float32.  Pooling, prefixes, lengths and
    normalisation come from the registry; Pyserini's flags for them do not reach a custom class.
    """

    def __init__(self, model_name: str | EncoderSettings, device: str = "cpu", **_: Any) -> None:
        self._encoder = _encoder(model_name, device)

    def encode(self, texts: Sequence[str], titles: Sequence[str | None] | None = None, **_: Any) -> np.ndarray:
        """Encode n passages, each as title, space, text; returns (n, d) float32."""
        if titles is not None:
            texts = [Passage("", title or "", text).full for title, text in zip(titles, texts, strict=True)]
        return self._encoder.encode_passages(list(texts))


class QueryEncoder(pyserini.encode.QueryEncoder):
    """A registered encoder as Pyserini's query encoder, centred or aligned for a language if asked.

    `encode(str)` returns (d,) float32, `encode_batch([str])` (n, d) float32.

    Args:
        encoder_dir: a name of the registry, a model folder, or `EncoderSettings`.
        device: as Pyserini has it.
        center: a centred index of ours; the mean of `language`'s generated queries, kept there, is taken from each
            embedding (docs/method.md).  Default: the registry entry's, then the variable XQG_CENTER.
        align: an `Alignment`, or its folder, for any index, in place of centring.  Default: the registry entry's, then
            the variable XQG_ALIGN.
        language: the language of all queries; default: the entry's, then XQG_LANGUAGE.

    Attributes: `searched`, the index that the queries are for, where it is known: queries that do
    not fit it are refused.  `register` sets it in a class of its own.
    """

    searched: Path | None = None

    def __init__(
        self,
        encoder_dir: str | EncoderSettings,
        tokenizer_name: str | None = None,
        device: str = "cpu",
        prefix: str | None = None,
        fp16: bool = False,
        *,
        center: str | Path | None = None,
        align: Alignment | str | Path | None = None,
        language: str | None = None,
        **_: Any,
    ) -> None:
        super().__init__()
        self.has_model = True
        entry = registry().get(str(encoder_dir), {})
        center = center or entry.get("center") or os.environ.get(CENTER_VARIABLE)
        align = align or entry.get("align") or os.environ.get(ALIGN_VARIABLE)
        language = language or entry.get("language") or os.environ.get(LANGUAGE_VARIABLE)
        if center and align:
            raise UserError(f"center ({center}) and align ({align}): an alignment centres by itself; give one of them")
        indexes = [open_one(Path(index)) for index in (center, self.searched) if index is not None]
        self._offset = None if center is None else _offset(Path(center), language)
        self._alignment = _alignment(align, language) if align else None
        self._language = language
        for index in indexes if center is None and self._alignment is None else ():
            if index.centers is not None:
                again = f"{CENTER_VARIABLE}={index.path} {LANGUAGE_VARIABLE}=xx (the questions' language)"
                warn(f"{index.path} is centred, and the questions were not: search again with {again}")
        beside: list[Encoded] = [*indexes, *([self._alignment] if self._alignment else [])]
        self._encoder = _query_encoder(encoder_dir, beside, device)

    def encode(self, query: str, **_: Any) -> np.ndarray:
        """Encode one query; returns (d,) float32."""
        return self.encode_batch([query])[0]

    def encode_batch(self, queries: Sequence[str], **_: Any) -> np.ndarray:
        """Encode n queries; returns (n, d) float32."""
        vectors = self._encoder.encode_queries(list(queries))
        if self._alignment is not None:
            return self._alignment.turned(vectors, [self._language] * len(vectors))
        return vectors if self._offset is None else vectors - self._offset


def _encoder(name: str | EncoderSettings, device: str) -> Encoder:
    settings = name if isinstance(name, EncoderSettings) else resolve(name)
    return Encoder(settings, device=_device(settings.backend, device))


def _device(backend: str, device: str) -> str:
    """Return the device for a backend: Pyserini passes cuda:0 by default, which only torch can use."""
    return device if backend in HUB_BACKENDS else "cpu"


def _query_encoder(name: str | EncoderSettings, indexes: Sequence[Encoded], device: str) -> Encoder:
    """Return the encoder of a name, or of a bare model with its index's settings; refuse one of another index."""
    known = next((index for index in indexes if index.encoder is not None), None)
    if known is not None and isinstance(name, str):
        backend = str((known.encoder or {}).get("backend"))
        encoder = Encoder.for_store(known, name, device=_device(backend, device)).for_questions()
    else:
        encoder = _encoder(name, device).for_questions()
    for index in indexes:
        Encoder.for_store(index, encoder)
    return encoder


def _alignment(align: Alignment | str | Path, language: str | None) -> Alignment:
    alignment = align if isinstance(align, Alignment) else Alignment(align)
    if language is None:
        raise UserError(f"aligning by {alignment.path} needs the queries' language ({LANGUAGE_VARIABLE}=xx)")
    check_languages([language])
    if find_language(language, alignment.languages) is None:
        warn(f"{alignment.path} was not learnt for {language}: what all of its languages have in common aligns")
    return alignment


def _offset(index: Path, language: str | None) -> np.ndarray:
    if language is None:
        raise UserError(f"centring by {index} needs the queries' language ({LANGUAGE_VARIABLE}=xx)")
    check_languages([language])
    _, centers = read_centers(index)
    if centers is None:
        raise UserError(f"{index}: not a centred index of ours (written with center)")
    if find_language(language, centers.queries) is None:
        warn(f"{index} has no generated queries in {language}: the mean of all queries centres")
    return centers.of(language)


def register(searched: Path | None = None) -> None:
    """Put our classes last in Pyserini's maps, under "xqg".

    Pyserini matches the keys as parts of model names, in order, unless the encoder class is given;
    last, ours catches only what no other key does.  `searched` is the index that queries are for.
    """
    pyserini.encode.document_encoder_class_map["xqg"] = DocumentEncoder
    pyserini.encode.query_encoder_class_map["xqg"] = bound(searched)


def bound(searched: Path | None) -> type[QueryEncoder]:
    """Return our query encoder, for queries of an index where it is given."""
    return type("QueryEncoder", (QueryEncoder,), {"searched": searched}) if searched else QueryEncoder


def encode_dense_queries(encoder: QueryEncoder) -> None:
    """Make Pyserini's searchers of Lucene's vectors encode their queries with ours, scaled to length 1.

    Lucene's scores are of vectors of length 1, and its codes clip longer ones; the order of the hits stays.
    """
    from pyserini.search.lucene import LuceneFlatDenseSearcher, LuceneHnswDenseSearcher

    def written(queries: Sequence[str]) -> list[str]:
        return [str(vector.tolist()) for vector in unit(encoder.encode_batch(queries))]

    for searcher in (LuceneFlatDenseSearcher, LuceneHnswDenseSearcher):

        def search(self: Any, q: str, k: int = 10, of: Any = searcher.search) -> Any:
            return of(self, written([q])[0], k)

        def batch_search(
            self: Any, queries: Sequence[str], qids: Any, k: int = 10, threads: int = 4, of: Any = searcher.batch_search
        ) -> Any:
            return of(self, written(queries), qids, k, threads)

        searcher.search, searcher.batch_search = search, batch_search


def guard_dimension(given: str | None) -> None:
    """Make Pyserini's Faiss writer take the dimension of what it is given, or refuse; write aside.

    Its own takes 768 unless told otherwise, and leaves a broken index when that is wrong.
    """

    class Writer(_FAISS_WRITER):
        dimension: int
        dir_path: str

        def __enter__(self) -> Any:
            self._final, aside = self.dir_path, aside_of(self.dir_path)
            aside.parent.mkdir(parents=True, exist_ok=True)
            self._held = held(aside, self._final)
            self._held.__enter__()
            clear(aside)
            self.dir_path = str(aside)
            return super().__enter__()

        def write(self, batch_info: dict[str, Any], fields: Any = None) -> None:
            import faiss

            real = int(np.asarray(batch_info["vector"]).shape[1])
            if real != self.dimension and given is not None:
                raise UserError(f"dimension is {given}, but the encoder gives {real}", "dimension")
            if real != self.dimension:
                self.dimension, self.index = real, faiss.IndexFlatIP(real)
            super().write(batch_info, fields)

        def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
            if kind is None:
                super().__exit__(kind, error, trace)
                os.makedirs(self._final, exist_ok=True)
                for name in (self.index_name, self.id_file_name):
                    os.replace(os.path.join(self.dir_path, name), os.path.join(self._final, name))
            else:
                self.id_file.close()
            clear(Path(self.dir_path))
            self._held.__exit__(None, None, None)

    pyserini.encode.optional.FaissRepresentationWriter = Writer
