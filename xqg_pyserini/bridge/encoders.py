"""Our encoders as Pyserini's classes; importing this imports Pyserini: `bridge.prepare()` first."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyserini.encode
import pyserini.encode.optional

from xqg_pyserini.data import check_languages
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import aside_of
from xqg_pyserini.models.engines import Encoder, load, same_space
from xqg_pyserini.models.registry import EncoderSettings, agree, choose, registry, resolve
from xqg_pyserini.retrieve.index import FaissIndex, read_centers

_FAISS_WRITER: Any = pyserini.encode.optional.FaissRepresentationWriter
CENTER_VARIABLE, LANGUAGE_VARIABLE = "XQG_CENTER", "XQG_LANGUAGE"


class DocumentEncoder(pyserini.encode.DocumentEncoder):
    """A registered encoder as Pyserini's document encoder.

    `encode(texts=[…], titles=[…])` returns (n, d) float32.  Pooling, prefixes, lengths and
    normalisation come from the registry; Pyserini's flags for them do not reach a custom class.
    """

    def __init__(self, model_name: str | EncoderSettings, device: str = "cpu", **_: Any) -> None:
        settings = _settings(model_name)
        self._encoder = load(settings, "passage", _device(settings, device))

    def encode(
        self, texts: Sequence[str], titles: Sequence[str | None] | None = None, **_: Any
    ) -> np.ndarray:
        """Encode n passages, each as title, space, text; returns (n, d) float32."""
        if titles is not None:
            pairs = zip(titles, texts, strict=True)
            texts = [f"{title} {text}" if title else text for title, text in pairs]
        return self._encoder.encode(list(texts))


class QueryEncoder(pyserini.encode.QueryEncoder):
    """A registered encoder as Pyserini's query encoder, centred for a language if asked.

    `encode(str)` returns (d,) float32, `encode_batch([str])` (n, d) float32.

    Args:
        encoder_dir: a name of the registry, a model folder, or `EncoderSettings`.
        device: as Pyserini has it.
        center: a centred index of ours; the mean of `language`'s generated queries, kept there,
            is taken from each embedding (docs/method.md).  Default: the registry entry's, then
            the variable XQG_CENTER.
        language: the language of all queries; default: the entry's, then XQG_LANGUAGE.
    """

    def __init__(
        self,
        encoder_dir: str | EncoderSettings,
        tokenizer_name: str | None = None,
        device: str = "cpu",
        prefix: str | None = None,
        fp16: bool = False,
        *,
        center: str | Path | None = None,
        language: str | None = None,
        **_: Any,
    ) -> None:
        super().__init__()
        self.has_model = True
        entry = registry().get(str(encoder_dir), {})
        center = center or entry.get("center") or os.environ.get(CENTER_VARIABLE)
        language = language or entry.get("language") or os.environ.get(LANGUAGE_VARIABLE)
        indexes = [Path(index) for index in (center, _searched) if index is not None]
        settings = _settings(encoder_dir, indexes)
        self._offset = None if center is None else _offset(Path(center), language)
        if center is None:
            _warn_uncentered(indexes)
        self._encoder = load(settings, "query", _device(settings, device))
        for index in indexes:
            _check_fit(self._encoder, index)

    def encode(self, query: str, **_: Any) -> np.ndarray:
        """Encode one query; returns (d,) float32."""
        return self.encode_batch([query])[0]

    def encode_batch(self, queries: Sequence[str], **_: Any) -> np.ndarray:
        """Encode n queries; returns (n, d) float32."""
        vectors = self._encoder.encode(list(queries))
        return vectors if self._offset is None else vectors - self._offset


_searched: Path | None = None  # the index of the command that is being run, if it is one of ours


def search_in(index: Path | None) -> None:
    """Name the index that query encoders made from now on must fit."""
    global _searched
    _searched = index


def _settings(name: str | EncoderSettings, indexes: Sequence[Path] = ()) -> EncoderSettings:
    """Return an encoder's settings: the registry's, or for a bare model those of its index."""
    for index in indexes:
        meta, _ = read_centers(index)
        if meta is not None:
            if isinstance(name, EncoderSettings):
                return agree(name, meta["encoder"], index)
            return choose(name, None, meta["encoder"], index)
    return name if isinstance(name, EncoderSettings) else resolve(name)


def _warn_uncentered(indexes: Sequence[Path]) -> None:
    for index in indexes:
        if read_centers(index)[1] is not None:
            warn(
                f"{index} is centred, and the questions were not: search again with "
                f"{CENTER_VARIABLE}={index} {LANGUAGE_VARIABLE}=xx (the questions' language)"
            )


def _device(settings: EncoderSettings, device: str) -> str:
    """Pyserini passes cuda:0 unless told otherwise; engines without a GPU take what they have."""
    return device if settings.backend == "torch" else "cpu"


def _offset(index: Path, language: str | None) -> np.ndarray:
    if language is None:
        raise UserError(f"centring by {index} needs the queries' language ({LANGUAGE_VARIABLE}=xx)")
    check_languages([language])
    _, centers = read_centers(index)
    if centers is None:
        raise UserError(f"{index}: not a centred index of ours (made by xqg index --center)")
    if language not in centers.queries:
        warn(f"{index} has no generated queries in {language}: the mean of all queries centres")
    return centers.of(language)


def _check_fit(encoder: Encoder, index: Path) -> None:
    """Raise `UserError` where an encoder's vectors do not belong into an index."""
    opened = FaissIndex(index)
    same_space(encoder, opened.d, opened.meta and opened.meta["encoder"], index)


def register() -> None:
    """Put our classes last in Pyserini's maps, under "xqg".

    Pyserini matches the keys as parts of model names, in order, unless --encoder-class is given;
    last, ours catches only what no other key does.
    """
    pyserini.encode.document_encoder_class_map["xqg"] = DocumentEncoder
    pyserini.encode.query_encoder_class_map["xqg"] = QueryEncoder


def guard_dimension(given: str | None) -> None:
    """Make Pyserini's Faiss writer take the dimension of what it is given, or refuse; write aside.

    Its own takes 768 unless told otherwise, and leaves a broken index when that is wrong.
    """

    class Writer(_FAISS_WRITER):
        dimension: int
        dir_path: str

        def __enter__(self) -> Any:
            self._final, self.dir_path = self.dir_path, str(aside_of(self.dir_path))
            shutil.rmtree(self.dir_path, ignore_errors=True)
            return super().__enter__()

        def write(self, batch_info: dict[str, Any], fields: Any = None) -> None:
            import faiss

            found = int(np.asarray(batch_info["vector"]).shape[1])
            if found != self.dimension and given is not None:
                raise UserError(f"--dimension is {given}, but the encoder gives {found} dimensions")
            if found != self.dimension:
                self.dimension, self.index = found, faiss.IndexFlatIP(found)
            super().write(batch_info, fields)

        def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
            if kind is None:
                super().__exit__(kind, error, trace)
                os.makedirs(self._final, exist_ok=True)
                for name in (self.index_name, self.id_file_name):
                    os.replace(os.path.join(self.dir_path, name), os.path.join(self._final, name))
            else:
                self.id_file.close()
            shutil.rmtree(self.dir_path)

    pyserini.encode.optional.FaissRepresentationWriter = Writer
