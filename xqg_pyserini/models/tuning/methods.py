"""The tuning methods: what of a transformers model each one trains.

`attach` freezes a model, adds what the method adds, and lets exactly the method's parameters require a gradient.  A new
method is a function here, a line in `_ATTACH`, and a name in METHODS.  docs/training-methods.md has a section on each.

Knows models; knows no files.  torch, transformers and peft are imported when a function is called.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.settings import check_values, option

METHODS = (
    *("full", "full-frozen-embeddings", "bitfit", "lora", "adapter", "prefix"),
    *("hybrid-lora", "hybrid-lora-random", "robust-prefix"),
)
WHOLE = ("full", "full-frozen-embeddings")  # these have no adapter: the whole model is saved
UNMERGED = ("adapter", "prefix", "robust-prefix")  # a model's weights cannot hold these
HYBRID = ("hybrid-lora", "hybrid-lora-random")
UNUSED = ("pooler",)


@dataclass(frozen=True)
class TuningSettings:
    """A tuning method and what it takes; a setting of another method is not looked at.

    Each field's help says what it is.  A step of robust prefix-tuning is `robust_lr` times the shorter of two lengths:
    of the step that would end at a loss of zero if the loss were linear, and of the trained prefix.

    Raises:
        UserError: for a value that the field does not take.
    """

    method: str = option("full", "how the model is tuned", *METHODS, flag="tuning")
    rank: int = option(8, "rank of LoRA's matrices (lora, hybrid-lora, hybrid-lora-random)", least=1)
    lora_alpha: float = option(16.0, "LoRA's update is scaled by this / rank", above=0)
    lora_dropout: float = option(0.0, "of LoRA's input", least=0, below=1)
    bottleneck: int = option(64, "width of an adapter", least=1)
    virtual_tokens: int = option(16, "length of a prefix (prefix, robust-prefix)", least=1)
    full_share: float = option(0.1, "share of the linear modules tuned in full (hybrid-*)", above=0, below=1)
    robust_steps: int = option(5, "steps of tuning a question's extra prefix", least=1)
    robust_lr: float = option(0.1, "length of such a step, as docs/training-methods.md says", above=0, most=1)
    robust_layers: int = option(3, "the lowest layers, whose activations are to match", least=1)
    robust_rank: int = option(32, "directions that are kept of training questions' activations", least=1)

    def __post_init__(self) -> None:
        check_values(self)


@dataclass
class Tuned:
    """What is known of a tuned module; it hangs on the module as `xqg_tuned`."""

    settings: TuningSettings
    names: tuple[str, ...]  # of what the method trains, frozen or not afterwards
    unused: tuple[str, ...] = UNUSED
    chosen: tuple[str, ...] = ()  # hybrid: the modules tuned in full
    table: list[dict[str, Any]] | None = None  # hybrid: every module's share
    statistics: dict[str, Any] = field(default_factory=dict)  # robust-prefix: see robust.py


def tuned(module: Any) -> Tuned:
    """Return what is known of a module that `attach` made."""
    return module.xqg_tuned


def kind(model: Any) -> str:
    """Return "seq2seq", "causal" or "encoder"."""
    if model.config.is_encoder_decoder:
        return "seq2seq"
    return "causal" if model.can_generate() else "encoder"


def block_linears(model: Any) -> dict[str, Any]:
    """Return the linear layers of the transformer blocks by name, in the model's order.

    A block is what a list of modules holds: its parts have a number in their names; heads, poolers, embeddings do not.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    linear = nn.Linear | Conv1D
    return {n: m for n, m in model.named_modules() if isinstance(m, linear) and re.search(r"\.\d+\.", n)}


def last_linears(model: Any) -> dict[str, Any]:
    """Return the last linear layer of each block: the one that ends its feed-forward part."""
    linears = block_linears(model)
    # of the names that begin with one block, the last stays
    last = {re.sub(r"(\.\d+\.).*", r"\1", name): name for name in linears}
    return {name: linears[name] for name in last.values()}


def biases(model: Any, unused: Sequence[str] = UNUSED) -> dict[str, Any]:
    """Return a model's biases by name, those of layer norms among them."""
    named = model.named_parameters()
    return {name: p for name, p in named if name.split(".")[-1] == "bias" and not _is_unused(name, unused)}


def _is_unused(name: str, unused: Sequence[str]) -> bool:
    return any(part in name.split(".") for part in unused)


def why_not(model: Any, method: str) -> str | None:
    """Return why a model cannot take a method, or None where it can."""
    if method == "bitfit" and not biases(model):
        return "it has no biases"
    if method in ("lora", "adapter", *HYBRID) and len(block_linears(model)) < 2:
        return "it has no blocks of linear layers"
    if method == "robust-prefix" and kind(model) != "encoder":
        return "it is no encoder, and has no questions to fit"
    if method in ("prefix", "robust-prefix") and kind(model) == "encoder":
        from xqg_pyserini.models.tuning import prefix

        return prefix.lacks(model)
    return None


def check_method(model: Any, method: str) -> None:
    """Raise `UserError` where a model cannot take a method; it names those that it can take."""
    reason = why_not(model, method)
    if reason is not None:
        others = [other for other in METHODS if why_not(model, other) is None]
        raise UserError(
            f"{type(model).__name__} cannot take the tuning method {method}: {reason}; it takes {', '.join(others)}"
        )


def attach(
    model: Any,
    settings: TuningSettings,
    seed: int,
    unused: Sequence[str] = UNUSED,
    chosen: Sequence[str] = (),
    table: list[dict[str, Any]] | None = None,
) -> Any:
    """Return the module to train: `model` itself, or peft's wrapper around it.

    New weights are drawn with `seed`, and torch's random state stays what it was.
    """
    import torch

    model.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = _ATTACH[settings.method](model, settings, seed, tuple(unused), tuple(chosen))
    names = tuple(name for name, p in module.named_parameters() if p.requires_grad)
    module.xqg_tuned = Tuned(settings, names, tuple(unused), tuple(chosen), table)
    return module


def _full(model: Any, settings: TuningSettings, seed: int, unused: Any, chosen: Any) -> Any:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not _is_unused(name, unused))
    return model


def _frozen_embeddings(model: Any, settings: Any, seed: int, unused: Any, chosen: Any) -> Any:
    from torch import nn

    _full(model, settings, seed, unused, chosen)
    for name, module in model.named_modules():
        # T5's relative position biases are embeddings in a block, and part of its attention
        if isinstance(module, nn.Embedding) and not re.search(r"\.\d+\.", name):
            module.requires_grad_(False)
    return model


def _bitfit(model: Any, settings: TuningSettings, seed: int, unused: Any, chosen: Any) -> Any:
    for parameter in biases(model, unused).values():
        parameter.requires_grad_(True)
    return model


def _lora(model: Any, settings: TuningSettings, seed: int, unused: Any, chosen: Any) -> Any:
    peft = import_peft()
    config = peft.LoraConfig(
        task_type=_task(model),
        r=settings.rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=[name for name in block_linears(model) if name not in chosen],
        modules_to_save=list(chosen) or None,
        bias="none",
    )
    return peft.get_peft_model(model, config)


def _adapter(model: Any, settings: TuningSettings, seed: int, unused: Any, chosen: Any) -> Any:
    from xqg_pyserini.models.tuning import bottleneck

    for linear in last_linears(model).values():
        bottleneck.add_adapter(linear, settings.bottleneck)
    return model


def _prefix(model: Any, settings: TuningSettings, seed: int, unused: Any, chosen: Any) -> Any:
    if kind(model) == "encoder":
        from xqg_pyserini.models.tuning import prefix

        prefix.add_prefixes(model, settings.virtual_tokens, seed)
        return model
    peft = import_peft()
    config = peft.PrefixTuningConfig(task_type=_task(model), num_virtual_tokens=settings.virtual_tokens)
    return peft.get_peft_model(model, config)


_ATTACH: dict[str, Callable[..., Any]] = {
    **{"full": _full, "full-frozen-embeddings": _frozen_embeddings, "bitfit": _bitfit, "adapter": _adapter},
    **dict.fromkeys(("lora", *HYBRID), _lora),
    **dict.fromkeys(("prefix", "robust-prefix"), _prefix),
}


def import_peft() -> Any:
    """Import peft, or raise the error that names the extra it comes with."""
    try:
        import peft
    except ModuleNotFoundError:
        raise missing_package("peft", "train") from None
    return peft


def _task(model: Any) -> str:
    tasks = {"seq2seq": "SEQ_2_SEQ_LM", "causal": "CAUSAL_LM"}
    return tasks[kind(model)] if model.can_generate() else "FEATURE_EXTRACTION"


def is_peft(module: Any) -> bool:
    """Tell whether a tuned module is peft's wrapper."""
    return type(module).__module__.startswith("peft.")
