r"""Robust prefix-tuning's part at test time: an extra prefix for each question.

Yang and Liu, arXiv 2203.10378, tune a prefix as ever.  At test time they add a second one, tuned on the test batch
itself so that the activations of the lower layers come close to those of training texts that were classified well.
Here, for question q with pooled activations h_j(q) of layer j,

    loss(q) = Σ_{j <= J} ‖(I - V_j V_jᵀ)(h_j(q) - μ_j)‖² / s_j

with μ_j the mean of the well-answered training questions' activations, V_j (d, k) their first k right singular vectors
around it, and s_j the mean of ‖h_j - μ_j‖² among them.  The extra prefix starts at 0 and takes a fixed number of steps
down the gradient.

Changed against the paper, and why:

- One extra prefix a question, in place of one a batch.  Retrieval answers question by question: a prefix that a batch
  shares would make a question's vector depend on which others are encoded with it.  The loss is a sum over questions,
  so that one backward pass gives each its own gradient.
- "Well answered" means that the positive passage was ranked first; questions only: passages are encoded once, with the
  trained prefix.
- Activations are pooled as the encoder pools (first token, or the mean of the real ones), in place of those at the
  answer's position, which an encoder does not have.
- The training questions' mean centres, in place of the test batch's.
- Steps go down the gradient and scale with the loss, in place of Adam's: Adam divides each number by its own size and
  so blows the rounding that differs between batches up to a whole step.  A step has the length r·min(loss/‖g‖, ‖trained
  prefix‖), r = robust_lr: loss/‖g‖ ends at a loss of zero if it were linear; the second bound holds where the gradient
  vanishes.
- Everything is computed in float32, with a fixed number of steps and no early stop.
"""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from xqg_pyserini.errors import UserError
from xqg_pyserini.models.pretrained import layers_of, pooled_tokens
from xqg_pyserini.models.tuning.methods import tuned
from xqg_pyserini.models.tuning.prefix import extras, prefixes


class _Enough(Exception):
    """Ends a forward pass whose upper layers are not needed."""


def activations(module: Any, batch: Mapping[str, Tensor], pooling: str, layers: int) -> list[Tensor]:
    """Return the pooled activations of the lowest layers, (b, d) float32 each, lowest first.

    The forward pass ends there: the layers above do not run.  A model with fewer layers gives all.
    """
    pooled: list[Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        pooled.append(pooled_tokens(hidden, batch["attention_mask"], pooling).float())
        if len(pooled) == layers:
            raise _Enough

    hooks = [layer.register_forward_hook(keep) for layer in layers_of(module)[:layers]]
    try:
        with contextlib.suppress(_Enough):
            module(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return pooled


def collect_statistics(module: Any, batches: Iterable[Mapping[str, Tensor]], pooling: str) -> dict[str, Tensor]:
    """Measure the activations of well-answered training questions; `save_adapter` keeps them.

    Args:
        module: what `tune` returned for robust-prefix, trained.
        batches: `input_ids`, `attention_mask`, … of training questions (with their prefix) whose positive passage the
            trained encoder ranks first.  Read once.
        pooling: the encoder's: cls, mean or pooler (the latter: of the first token).

    Returns:
        For each layer j from 0: `mean.j` (d,), `vectors.j` (d, k) and `scale.j` (); and `count`.

    Raises:
        UserError: for fewer than two questions: training answered none well.
    """
    settings = tuned(module).settings
    training = module.training
    module.eval()
    count = 0
    sums: list[Tensor] = []
    products: list[Tensor] = []
    with torch.no_grad():
        for batch in batches:
            rows = [h.double().cpu() for h in activations(module, batch, pooling, settings.robust_layers)]
            count += len(rows[0])
            if not sums:
                sums = [torch.zeros_like(h[0]) for h in rows]
                products = [h.new_zeros(h.shape[1], h.shape[1]) for h in rows]
            for j, h in enumerate(rows):
                sums[j] += h.sum(0)
                products[j] += h.T @ h
    module.train(training)
    if count < 2:
        raise UserError(
            f"robust-prefix: {count} training questions have their positive passage ranked first; "
            "2 are needed at least: train longer, or use the method prefix"
        )
    statistics = {"count": torch.tensor(count)}
    for j, (total, product) in enumerate(zip(sums, products, strict=True)):
        statistics |= _layer(j, total / count, product / count, count, settings.robust_rank)
    tuned(module).statistics = statistics
    return statistics


def _layer(j: int, mean: Tensor, product: Tensor, count: int, rank: int) -> dict[str, Tensor]:
    # the right singular vectors of the centred rows are their covariance's eigenvectors
    values, vectors = torch.linalg.eigh(product - torch.outer(mean, mean))
    kept = min(rank, count - 1, len(mean) - 1)
    return {
        f"mean.{j}": mean.float(),
        f"vectors.{j}": vectors[:, -kept:].flip(1).float().contiguous(),
        f"scale.{j}": values.clamp(min=0).sum().float(),
    }


class RobustPrefix:
    """An encoder for questions whose prefix is completed question by question.

    `module` has a trained prefix and statistics, and is on its device, in float32; `pooling` is the encoder's.
    """

    def __init__(self, module: Any, pooling: str) -> None:
        known = tuned(module)
        if not known.statistics:
            raise UserError("robust-prefix: the adapter has no activations of training questions (collect_statistics)")
        if any(p.dtype != torch.float32 for p in module.parameters()):
            raise UserError("robust-prefix tunes questions in fp32; choose that precision", "precision")
        self._module, self._pooling, self._settings = module, pooling, known.settings
        self._prefixes = prefixes(module)
        device = next(module.parameters()).device
        self._layers = [
            tuple(known.statistics[f"{name}.{j}"].to(device) for name in ("mean", "vectors", "scale"))
            for j in range(sum(name.startswith("mean.") for name in known.statistics))
        ]
        module.requires_grad_(False).eval()

    def __call__(self, **batch: Tensor) -> Any:
        """Return the model's output for a batch of questions, each with its own extra prefix."""
        with torch.enable_grad():
            extra = self._tune(batch)
        with torch.no_grad(), extras(self._prefixes, extra):
            return self._module(**batch)

    def losses(self, pooled: list[Tensor]) -> Tensor:
        """Return each question's loss (b,) for the pooled activations of each layer, (b, d)."""
        total = pooled[0].new_zeros(len(pooled[0]))
        for h, (mean, vectors, scale) in zip(pooled, self._layers, strict=True):
            off = h - mean
            off = off - (off @ vectors) @ vectors.T
            total = total + (off**2).sum(1) / scale.clamp(min=1e-12)
        return total

    def _tune(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Return what is added to each prefix, (b, 2, heads, tokens, head size)."""
        n, rate = len(batch["input_ids"]), self._settings.robust_lr
        extra = [p.keys.new_zeros((n, 2, *p.keys.shape), requires_grad=True) for p in self._prefixes]
        length = _lengths([t[None] for p in self._prefixes for t in (p.keys, p.values)])
        for _ in range(self._settings.robust_steps):
            with extras(self._prefixes, extra):
                pooled = activations(self._module, batch, self._pooling, len(self._layers))
                loss = self.losses(pooled)
                # layers above the highest that is looked at have no gradient
                gradients = torch.autograd.grad(loss.sum(), extra, allow_unused=True)
            pairs = [(e.detach(), g) for e, g in zip(extra, gradients, strict=True)]
            steepness = _lengths([g for _, g in pairs if g is not None]).clamp(min=1e-12)
            step = rate * torch.minimum(loss.detach() / steepness, length) / steepness
            scale = step.view(-1, 1, 1, 1, 1)
            extra = [(e if g is None else e - scale * g).requires_grad_() for e, g in pairs]
        return [e.detach() for e in extra]


def _lengths(parts: list[Tensor]) -> Tensor:
    """Return the length of each row, (b,), of tensors that belong together."""
    return torch.stack([(part**2).flatten(1).sum(1) for part in parts]).sum(0).sqrt()
