"""Bottleneck adapters: a narrow detour behind the feed-forward part of each block.

Houlsby et al., arXiv 1902.00751; one adapter a block, behind the feed-forward part, is the form of Pfeiffer et al.,
arXiv 2005.00247; for retrieval: arXiv 2208.09847 and 2212.10448.
"""

from typing import Any

from torch import Tensor, nn

NAME = "xqg_adapter"


class Bottleneck(nn.Module):
    r"""`y + W_up·gelu(W_down·y + b_down) + b_up`; W_up and b_up start at 0: y passes unchanged."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, output: Tensor) -> Tensor:
        """Return (…, width) for (…, width)."""
        return output + self.up(nn.functional.gelu(self.down(output)))


def add_adapter(linear: Any, bottleneck: int) -> None:
    """Send a linear layer's output through a new adapter; its own weights keep their names."""
    width = getattr(linear, "out_features", None) or linear.nf  # Conv1D calls it nf
    adapter = Bottleneck(width, bottleneck)
    linear.add_module(NAME, adapter.to(linear.weight.device, linear.weight.dtype))
    linear.register_forward_hook(_through)


def _through(linear: Any, inputs: Any, output: Tensor) -> Tensor:
    return getattr(linear, NAME)(output)
