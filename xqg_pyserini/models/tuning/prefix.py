"""Prefix-tuning of encoders: virtual keys and values before those of every self-attention.

Li and Liang, arXiv 2101.00190; P-tuning v2, arXiv 2110.07602.  `peft` hands a prefix to a model as a cache of earlier
keys and values.  transformers' encoders of today take no such cache: their attention mask does not grow with it, and
their position ids would move.  So encoders have a small one here: an attention function, registered with transformers,
puts the prefix of the module that calls it before the keys and values and lets every token see it.  Positions stay as
they are, and the output has the real tokens only.

Knows attention; knows no settings and no files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from xqg_pyserini.errors import UserError

ATTENTION = "xqg_prefix"  # the name that transformers knows the attention function by
Recording = dict[nn.Module, tuple[Tensor, Tensor]]
_RECORDING: ContextVar[Recording | None] = ContextVar("recording", default=None)


class Prefix(nn.Module):
    """The virtual tokens of one attention module: keys and values, (heads, tokens, head size).

    `extra` is added to them, where it is set: (b, heads, tokens, head size) each, so that every text of a batch has a
    prefix of its own.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)
        self.extra: tuple[Tensor, Tensor] | None = None

    def extend(self, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return keys and values (b, heads, tokens + n, head size) and the mask for them."""
        keys, values = self.keys.unsqueeze(0), self.values.unsqueeze(0)
        if self.extra is not None:
            keys, values = keys + self.extra[0], values + self.extra[1]
        size = (key.shape[0], -1, -1, -1)  # len() would be fixed where the model is traced
        key = torch.cat([keys.to(key.dtype).expand(size), key], dim=2)
        value = torch.cat([values.to(value.dtype).expand(size), value], dim=2)
        if mask is not None:  # None: all tokens see all tokens
            seen = 1.0 if mask.dtype == torch.bool else 0.0
            mask = nn.functional.pad(mask, (self.keys.shape[1], 0), value=seen)
        return key, value, mask


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> Any:
    recording = _RECORDING.get()
    if recording is not None:
        if getattr(module, "is_causal", False) or options.get("position_bias") is not None:
            raise UserError("its attention looks back only, or adds a bias for positions")
        recording[module] = (key.detach()[0].clone(), value.detach()[0].clone())
    prefix = getattr(module, "xqg_prefix", None)
    if prefix is not None:
        key, value, attention_mask = prefix.extend(key, value, attention_mask)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def lacks(model: Any) -> str | None:
    """Return why an encoder cannot take a prefix, or None where it can."""
    try:
        with _using(model):
            _record(model, torch.tensor([[0, 0]]))
    except UserError as error:
        return str(error)
    return None


def add_prefixes(model: Any, tokens: int, seed: int) -> None:
    """Give every self-attention of an encoder a prefix.

    The keys start as those that the model itself computes for random words of its vocabulary, the values at 0: the
    prefix takes a part of the attention and adds nothing.  With multilingual-e5-small and 16 tokens, embeddings then
    keep a cosine of 0.98 to the base's (0.87 with the words' values, which also draw all texts together), and both keys
    and values get gradients.

    Raises:
        UserError: for more tokens than the model has positions, or an attention that takes none.
    """
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and tokens > longest - 2:
        raise UserError(f"virtual_tokens is {tokens}; this model takes 1 to {longest - 2}")
    with _using(model, keep=True):
        recorded = _record(model, _random_words(model, tokens, seed))
    for module, (key, value) in recorded.items():
        module.xqg_prefix = Prefix(key, torch.zeros_like(value))


def prefixes(model: nn.Module) -> list[Prefix]:
    """Return a model's prefixes in the order of its modules."""
    return [module for module in model.modules() if isinstance(module, Prefix)]


@contextmanager
def extras(extended: Sequence[Prefix], more: Sequence[Tensor]) -> Iterator[None]:
    """Add to prefixes, within the block: for each one (b, 2, heads, tokens, head size)."""
    try:
        for prefix, extra in zip(extended, more, strict=True):
            prefix.extra = (extra[:, 0], extra[:, 1])
        yield
    finally:
        for prefix in extended:
            prefix.extra = None


def _random_words(model: Any, tokens: int, seed: int) -> Tensor:
    """Return the ids of random words, (1, tokens), without the special ones that are known."""
    names = (f"{name}_token_id" for name in ("pad", "bos", "eos", "sep", "cls"))
    special = {getattr(model.config, name, None) for name in names}
    usable = [i for i in range(model.config.vocab_size) if i not in special]
    drawn = torch.randint(len(usable), (tokens,), generator=torch.Generator().manual_seed(seed))
    return torch.tensor([[usable[i] for i in drawn.tolist()]])


@contextmanager
def _using(model: Any, keep: bool = False) -> Iterator[None]:
    """Switch a model to our attention; back again afterwards, unless all went well and `keep`."""
    before, training = model.config._attn_implementation, model.training
    try:
        if not type(model)._can_set_attn_implementation():
            raise UserError("its attention takes no virtual tokens")
        model.set_attn_implementation(ATTENTION)
        model.eval()
        yield
    except BaseException:
        keep = False
        raise
    finally:
        model.train(training)
        if not keep and model.config._attn_implementation != before:
            model.set_attn_implementation(before)


def _record(model: Any, ids: Tensor) -> Recording:
    """Return the keys and values of every attention for one text, (heads, tokens, head size)."""
    ids = ids.to(next(model.parameters()).device)
    recorded: Recording = {}
    token = _RECORDING.set(recorded)
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        _RECORDING.reset(token)
    if not recorded:
        raise UserError("its attention takes no virtual tokens")
    return recorded
