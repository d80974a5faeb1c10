"""Encoders of a server, `openai:MODEL@URL`: POST /embeddings of the OpenAI protocol."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from xqg_pyserini.errors import UserError
from xqg_pyserini.models.engines import ENGINES, PROBES, Batches, Probed, kept, scaled, slices
from xqg_pyserini.models.makers import UNLIMITED
from xqg_pyserini.models.pretrained import AUTO
from xqg_pyserini.models.registry import Role
from xqg_pyserini.models.server import OPENAI, Nonsense, Refused, Server, address_of, decoded


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float] | str  # numbers, or the bytes of little-endian float32 in base64


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


class Served(Probed):
    """A model behind a URL; what tells it from others is what it makes of three short texts.

    `batch_size` texts go in a request, and fewer once the server has called so many too large.  Lengths are sent as
    `truncate_prompt_tokens`, where they are given.  Its `precision` is the server's, and is not known.
    """

    def _load(self) -> None:
        name = self.settings.name
        if self.computing.device not in (AUTO, "cpu"):
            raise UserError(f"encoder {name} computes where its server does; leave the device out", "device")
        if self.computing.precision != AUTO:
            raise UserError(f"encoder {name} has its server's precision; leave the precision out", "precision")
        self.precision, self._most = "served", max(self.batch_size, len(PROBES))
        self._server = Server(address_of(self.settings.model_for(self.role)), self.computing.requests)
        self._full: int | None = None  # numbers of a vector, as it comes
        vectors = self._vectors([text for text, _ in PROBES], UNLIMITED)
        self._full = vectors.shape[1]
        self.dimension = kept(self.settings, self._full)
        self.probes = vectors[:, : self.dimension]
        if self.settings.normalize is None:
            lengths = np.linalg.norm(vectors, axis=1)
            self.settings = replace(self.settings, normalize=bool(np.allclose(lengths, 1, atol=1e-3)))

    def embed(self, texts: list[str], role: Role) -> Batches:
        """Yield batches of the texts as the server answers."""
        parts, length = list(slices(range(len(texts)), self.batch_size)), self.settings.length_for(role)
        for i, vectors in self._server.each(lambda part: self._vectors([texts[j] for j in part], length), parts):
            vectors = vectors[:, : self.dimension]
            yield parts[i], scaled(vectors) if self.settings.normalize else vectors

    def _vectors(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Return (n, d) float32; of what the server calls too large, half and half."""
        if len(texts) > self._most:
            parts = [texts[i : i + self._most] for i in range(0, len(texts), self._most)]
            return np.concatenate([self._vectors(part, length) for part in parts])
        # float32 as it is; what knows no base64 sends numbers
        body: dict[str, Any] = {"input": texts, "encoding_format": "base64"}
        body |= {} if length >= UNLIMITED else {"truncate_prompt_tokens": length, "truncation_side": "right"}
        try:
            return self._server.ask("embeddings", body, partial(self._read, len(texts), length))
        except Refused as error:
            if not error.too_large:
                raise
            if len(texts) == 1:
                about = ("query_length", "passage_length")
                raise UserError(f"{error} (for {texts[0][:60]!r}, {len(texts[0])} characters)", about) from None
            self._most = min(self._most, (len(texts) + 1) // 2)
        return self._vectors(texts, length)

    def _read(self, number: int, length: int, body: bytes) -> np.ndarray:
        answer = decoded(body, _Vectors)
        if sorted(vector.index for vector in answer.data) != list(range(number)):
            numbers = [vector.index for vector in answer.data]
            what = f"{len(numbers)} vectors with the indices {numbers}"
            raise Nonsense(f"{what}; expected one for each of {number} texts")
        rows = [_numbers(vector) for vector in sorted(answer.data, key=lambda vector: vector.index)]
        found = {len(row) for row in rows}
        if found != {self._full or len(rows[0])} or found == {0}:
            expected = f"{self._full} each" if self._full else "as many each, and some"
            raise Nonsense(f"vectors of {' and '.join(map(str, sorted(found)))} numbers; expected {expected}")
        with np.errstate(over="ignore"):
            vectors = np.array(rows, dtype=np.float32)
        if not np.isfinite(vectors).all():
            raise Nonsense("a vector holds NaN or infinity; expected finite numbers")
        if not vectors.any(axis=1).all():
            raise Nonsense("a vector is all zeros, near to nothing; expected one for each text")
        if length < UNLIMITED and answer.usage is not None and answer.usage.prompt_tokens > length * number:
            what = f"reads {answer.usage.prompt_tokens} tokens of {number} texts, which were to be cut at {length}"
            about = ("query_length", "passage_length")
            raise UserError(f"{self._server.address.name} {what}: it does not cut; leave the lengths out", about)
        return vectors


def _numbers(vector: _Vector) -> np.ndarray | list[float]:
    if not isinstance(vector.embedding, str):
        return vector.embedding
    try:
        return np.frombuffer(base64.b64decode(vector.embedding, validate=True), dtype="<f4")
    except (binascii.Error, ValueError):
        raise Nonsense("an embedding is text that is no base64 of float32; expected numbers, or that") from None


ENGINES[OPENAI] = Served
