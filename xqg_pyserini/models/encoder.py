"""The encoder: one object that is made once and passed to whatever turns texts into vectors."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.models import served, st  # noqa: F401 - they add their engines to ENGINES
from xqg_pyserini.models.converted import OpenVINO
from xqg_pyserini.models.engines import ENGINES, Computing, Engine, Probed, Wrapped
from xqg_pyserini.models.pretrained import AUTO, UNKNOWN, fast_precision
from xqg_pyserini.models.registry import (
    EncoderOptions,
    EncoderSettings,
    Role,
    agree,
    recorded_settings,
    resolve,
    settings_beside,
)

OPTIONS = tuple(f.name for f in fields(EncoderOptions))
Progress = Callable[[int], Any]


class Encodes(Protocol):
    """What `Encoder` can be wrapped around: n texts in, (n, d) numbers out."""

    def encode(self, sentences: list[str], /) -> Any:
        """Return a row for each text: an array, a tensor on the CPU, or lists."""


class Encoded(Protocol):
    """What holds vectors and says of which encoder: a passage store, a query store, an index."""

    path: Path
    d: int

    @property
    def encoder(self) -> dict[str, Any] | None:
        """Return what is recorded of the encoder; None where nothing is."""


def same_encoder(passages: Encoded, queries: Encoded) -> None:
    """Raise `UserError` where two records of one dimension are of two encoders; an untied one has two models."""
    of_passages, of_queries = passages.encoder or {}, queries.encoder or {}
    for key in ("backend", "pooling", "normalize", "query_model", "dimensions", "fingerprint"):
        untied = key == "fingerprint" and of_queries.get("query_model")
        if of_passages.get(key) != of_queries.get(key) and not untied:
            what = f"{queries.path} was made with another encoder than {passages.path}"
            differ = f"{key}: {of_queries.get(key)!r}, not {of_passages.get(key)!r}"
            raise UserError(f"{what} ({differ}); encode both with one")


class Encoder:
    """Turns queries and passages into vectors, as its settings say.

    The model is loaded when it is first needed; queries and passages share it where the encoder is tied.

    Args:
        source: a name of the registry, a Hugging Face model, a folder, `openai:MODEL@URL` (a model that a server
            runs), `EncoderSettings`, or an object with a method `encode` (a sentence-transformers model, say).
        device: "auto" (cuda where there is one), "cpu", "cuda", "cuda:1", …
        engine: what runs Hugging Face models, "torch" or "openvino" (CPUs; needs the extra openvino).  Their vectors
            may meet in one search.
        precision: "fp32", or "fp16" / "bf16" for Hugging Face models; "auto" is bf16 for these on a CPU with
            instructions for it, which a warning says, and else fp32, as for what sentence-transformers runs.
        batch_size: longest texts a batch; shorter texts go in larger batches.  None is 32, and 8 for Hugging Face
            models on a CPU, with OpenVINO 4.
        threads: CPU threads; None for what the libraries choose.
        trust_remote_code: run Python code that comes with a Hugging Face model.
        requests: how many are on their way at once to the server of a served model, with `batch_size` texts each.
        settings: what decides the vectors, where the source does not say it or is to be overruled:
            `pooling`, `normalize`, `query_prefix`, `passage_prefix`, `query_length`,
            `passage_length`, `dimensions`, `adapter` (a folder); None stands for not given.  A wrapped object
            may be given a `name`; it counts as normalising if it gives vectors of length 1.

    Raises:
        UserError: for an encoder that is not known, or settings that it does not take.
    """

    def __init__(
        self,
        source: str | Path | EncoderSettings | Encodes,
        *,
        device: str = Computing.device,
        engine: str = Computing.engine,
        precision: str = Computing.precision,
        batch_size: int | None = Computing.batch_size,
        threads: int | None = Computing.threads,
        trust_remote_code: bool = Computing.trust_remote_code,
        requests: int = Computing.requests,
        **settings: Any,
    ) -> None:
        self.computing = Computing(device, engine, precision, batch_size, threads, trust_remote_code, requests)
        self._engines: dict[Any, Engine] = {}
        self._others: dict[str, Encoder] = {}  # the same in a precision that was left open
        self._origin: Encoded | None = None  # whose weights the model must have
        self._before: str | None = None  # the fingerprint that a job which goes on has recorded
        known = {name: settings.pop(name) for name in OPTIONS if name in settings}
        if isinstance(source, EncoderSettings):
            self.settings = replace(source, **{name: value for name, value in known.items() if value is not None})
        elif isinstance(source, str | Path):
            self.settings = resolve(str(source), known)
        elif callable(getattr(source, "encode", None)):
            self._wrap(source, settings.pop("name", None), known)
        else:
            raise UserError(f"encoder {source!r:.60}: expected a name, a folder, or an object with encode()")
        if settings:
            raise UserError(f"an encoder has no setting {next(iter(settings))!r}; it has {', '.join(OPTIONS)}")
        if engine != Computing.engine and self.settings.backend != "torch":
            raise UserError(f"encoder {self.settings.name} has an engine of its own; leave the engine out", "engine")
        if self.settings.normalize is None:  # of a served model, whose vectors say it
            self.settings = self._engine("passage").settings

    def _wrap(self, source: Any, name: str | None, known: dict[str, Any]) -> None:
        given = {key: value for key, value in known.items() if value is not None}
        beside = [key for key in given if "prefix" not in key and key != "normalize"]
        if beside:
            raise UserError(f"a wrapped encoder has its own {beside[0]}; leave that out", beside[0])
        name = name or f"{type(source).__module__}.{type(source).__qualname__}"
        settings = EncoderSettings(**{"name": name, "backend": "object", "model": name, **given})
        engine = Wrapped(settings, self.computing, source)
        if "normalize" not in given:
            lengths = np.linalg.norm(engine.probes, axis=1)
            engine.settings = replace(settings, normalize=bool(np.allclose(lengths, 1, atol=1e-3)))
        self.settings = engine.settings
        self._engines[self._key("passage")] = engine

    @classmethod
    def for_store(cls, store: Encoded, source: "str | Path | Encoder | None" = None, **options: Any) -> "Encoder":
        """Return the encoder that a store or an index was made with, and refuse another.

        Args:
            store: a `VectorStore`, a `QueryStore` or an `Index`.
            source: None for the one that the store records; a name or a folder that must stand for
                it; or an `Encoder`, which is returned if its vectors belong beside the store's.
            options: as for `Encoder`, where that one is made here.

        Raises:
            UserError: for an encoder whose settings differ from those recorded; for weights that
                differ, when they are loaded (at once for an `Encoder` that is given).
        """
        if isinstance(source, Encoder):
            if options:
                first = next(iter(options))
                raise UserError(f"{source!r} is made already; leave {first} out", first)
            if source._origin is not store:
                if store.encoder is not None:
                    agree(source.settings, store.encoder, store.path)
                source._check(store)
            return source
        known = {name: options.pop(name) for name in OPTIONS if name in options}
        name = None if source is None else str(source)
        if store.encoder is None:
            if name is None:
                raise UserError(f"{store.path} does not say its encoder (no xqg.json): name it", "encoder")
            settings = resolve(name, known)
        else:
            before = recorded_settings(store.encoder, store.path)
            if before.backend == "object" and name is None:
                what = f"{store.path} was made with {before.name}, an object that was wrapped"
                raise UserError(f"{what}: give Encoder(that object)", "encoder")
            settings = settings_beside(name, known, store.encoder, store.path)
        encoder = cls(settings, **options)
        encoder._origin = store
        return encoder

    # ---------------------------------------------------------------- the model

    def _key(self, role: Role) -> tuple[str, str | None]:
        return self.settings.model_for(role), self.settings.adapter_for(role)

    def _engine(self, role: Role) -> Engine:
        key = self._key(role)
        if key not in self._engines:
            if self.settings.backend not in ENGINES:
                what = f"encoder {self.settings.name} is an object that was wrapped: give Encoder(that object)"
                raise UserError(what, "encoder")
            kind = OpenVINO if self.computing.engine == "openvino" else ENGINES[self.settings.backend]
            engine = kind(self.settings, role, self.computing)
            if not self._engines and self.computing.precision == AUTO and engine.precision == "bf16":
                self._say_chosen(engine.precision)
            self._engines[key] = engine
            if self._origin is not None:
                try:
                    self._check(self._origin)
                except UserError:  # what was refused is refused again
                    self._engines.clear()
                    raise
        return self._engines[key]

    @property
    def dimension(self) -> int:
        """Return the length of a vector; loads the model."""
        loaded = next(iter(self._engines.values()), None)
        return (loaded or self._engine("query")).dimension

    @property
    def how(self) -> list[Any]:
        """Return device, engine, precision and batch size as asked for, which a killed job must find as they were."""
        computing = self.computing
        return [computing.device, computing.engine, computing.precision, computing.batch_size]

    @property
    def expected(self) -> dict[str, Any]:
        """Return what `describe` will say, as far as it is known before a model is loaded; None: it will not say it."""
        computing = self.computing
        known = {} if computing.precision == AUTO else {"precision": computing.precision}
        return asdict(self.settings) | {"engine": None} | known | self._recorded_engine

    def describe(self, role: Role = "passage") -> dict[str, Any]:
        """Return what is recorded beside vectors: settings, precision, the engine if it is not torch, and weights."""
        engine = self._engine(role)
        if isinstance(self._before, str) and isinstance(engine, Probed):
            engine.is_one(self._before)
        how = {"precision": engine.precision} | self._recorded_engine
        return {**self.settings.record(), **how, "fingerprint": engine.fingerprint()}

    @property
    def _recorded_engine(self) -> dict[str, str]:
        """Return what is recorded of the engine: of torch nothing, as before there was another."""
        engine = self.computing.engine
        return {} if engine == Computing.engine else {"engine": engine}

    def going_on(self, state: dict[str, Any]) -> "Encoder":
        """Return the encoder with which a killed job goes on: "auto" is what it was where the job began.

        Args:
            state: the job's, which has an encoder's description as `encoder` once something was encoded.
        """
        described = state.get("encoder") or {}
        self._before, precision = described.get("fingerprint"), described.get("precision")
        return self if precision is None else self._settled(precision)

    def for_questions(self) -> "Encoder":
        """Return the encoder of what is searched with: "auto" is fp32.

        In bf16 a question's vector depends, in its third digit, on what it is encoded together with, and so would runs.
        """
        return self._settled("fp32")

    def for_cluster(self, device: str) -> "Encoder":
        """Return the encoder for machines that are to encode alike on a device: "auto" is what it would be here."""
        if self.settings.backend != "torch" or self.computing.precision != AUTO:
            return self
        same, precision = copy.copy(self), fast_precision(device)
        same.computing = replace(self.computing, precision=precision)
        if precision != "fp32":
            self._say_chosen(precision)
        return same

    def _say_chosen(self, precision: str) -> None:
        chosen = f"computes in {precision}, for which this CPU has instructions"
        warn(f"encoder {self.settings.name} {chosen}; the precision fp32 is exact and slower")

    def _settled(self, precision: str) -> "Encoder":
        """Return the same with a precision in place of "auto", and a model of its own if it has another."""
        open_ = self.settings.backend == "torch" and self.computing.precision == AUTO
        if not open_ or precision in {engine.precision for engine in self._engines.values()}:
            return self
        if precision not in self._others:
            same = copy.copy(self)
            same.computing, same._engines = replace(self.computing, precision=precision), {}
            self._others[precision] = same
        self._others[precision]._origin = self._origin
        return self._others[precision]

    def _check(self, store: Encoded) -> None:
        """Raise `UserError` if a query's vector does not belong beside those of a store."""
        settings, origin, self._origin = self.settings, self._origin, None
        try:
            engine = self._engine("query")
        finally:
            self._origin = origin
        if engine.dimension != store.d:
            dimensions = f"{engine.dimension} dimensions, but {store.path} has {store.d}"
            raise UserError(f"encoder {settings.name} gives {dimensions}; use the encoder that it was made with")
        if store.encoder is None or self._key("query") != self._key("passage"):
            return  # nothing to compare; an untied query model has weights of its own
        ours, expected = engine.fingerprint(), store.encoder.get("fingerprint")
        same = ours == expected or expected == UNKNOWN  # stores of hub models said so for a time
        if isinstance(engine, Probed) and isinstance(expected, str):
            same = engine.is_one(expected)
        if not same:
            other = f"the one that {store.path} was made with ({store.encoder.get('name')}, {expected})"
            raise UserError(f"encoder {settings.name} ({ours}) is not {other}; use that, or encode again")

    # ---------------------------------------------------------------- encoding

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Encode n queries, without white space around them; `progress` gets the number of each batch.

        Returns:
            (n, d) float32, in the order of the texts, of length 1 where the settings normalise.

        Raises:
            UserError: for a vector that is not finite, naming the text.
        """
        return self._encode(texts, "query", progress)

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Encode n passages, title and text each; otherwise as `encode_queries`."""
        return self._encode(texts, "passage", progress)

    def _encode(self, texts: Sequence[str], role: Role, progress: Progress | None) -> np.ndarray:
        engine, prefix = self._engine(role), self.settings.prefix_for(role)
        vectors = np.empty((len(texts), engine.dimension), dtype=np.float32)
        with self.computing.limited():
            for part, batch in engine.embed([prefix + text.strip() for text in texts], role):
                vectors[part] = batch
                if progress is not None:
                    progress(len(part))
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            text = texts[int(np.argmin(finite))]
            what = f"encoder {self.settings.name} gives NaN or infinity for {text[:60]!r}"
            raise UserError(f"{what} ({engine.precision}; try fp32)", "precision")
        return vectors

    def __getstate__(self) -> dict[str, Any]:
        """Go to another process of a cluster without its models, which are loaded there."""
        engines = self._engines if self.settings.backend == "object" else {}
        return {**vars(self), "_engines": engines, "_others": {}}

    def __repr__(self) -> str:
        return f"Encoder({self.settings.name!r})"
