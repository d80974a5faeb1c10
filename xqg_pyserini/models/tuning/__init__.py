"""Tuning: a model in, the module to train out; saved as a small adapter, merged, or whole.

`methods` knows what each method trains, `prefix`, `bottleneck` and `hybrid` how; `robust` is robust prefix-tuning's
part at test time; `adapters` knows the files.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from xqg_pyserini.errors import UserError
from xqg_pyserini.models.tuning import methods
from xqg_pyserini.models.tuning.adapters import load_adapter, save_adapter
from xqg_pyserini.models.tuning.methods import METHODS, UNMERGED, WHOLE, TuningSettings, tuned

if TYPE_CHECKING:
    from torch.nn import Parameter

__all__ = ["METHODS", "UNMERGED", "WHOLE", "TuningSettings", "load_adapter", "merged"]
__all__ += ["module_table", "save_adapter", "trainable", "tune"]


def tune(
    model: Any,
    settings: TuningSettings,
    seed: int,
    warm_up: Callable[[Any], None] | None = None,
    unused: Sequence[str] = methods.UNUSED,
) -> Any:
    """Freeze and extend a transformers model in place; return the module to train.

    Its forward takes what the model takes and returns what the model returns: `last_hidden_state` has the real tokens
    only.  Exactly the method's parameters require a gradient.

    Args:
        model: an encoder (AutoModel), an encoder-decoder or a causal model.
        settings: the method and what it takes.
        seed: of new weights, and of the draw of hybrid-lora-random.
        warm_up: for hybrid-lora and its control: runs a few batches' `loss.backward()` on the model that it is given,
            and leaves the gradients there.
        unused: parts of names of parameters that the loss never reaches; full tuning and BitFit leave these out.  Pass
            () where the pooling is "pooler".

    Raises:
        UserError: where the model cannot take the method.
    """
    methods.check_method(model, settings.method)
    chosen, table = [], None
    if settings.method in methods.HYBRID:
        from xqg_pyserini.models.tuning import hybrid

        if warm_up is None:
            raise ValueError(f"{settings.method} takes a warm_up")
        model.requires_grad_(False)
        table = hybrid.module_shares(model, settings.rank, warm_up)
        chosen = hybrid.choose_modules(table, settings, seed)
    return methods.attach(model, settings, seed, unused, chosen, table)


def trainable(module: Any) -> dict[str, "Parameter"]:
    """Return the parameters that are trained, by name, in the module's order."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def module_table(module: Any) -> list[dict[str, Any]] | None:
    """Return a row for each linear module: name, shape, parameters, share lost, chosen or not.

    None for methods that choose no modules.
    """
    return tuned(module).table


def merged(module: Any) -> Any:
    """Return a model of the base's class with the tuning in its weights.

    LoRA's wrapper is taken apart: do not train `module` any further.  Raises `UserError` for methods that add to the
    model what its weights cannot hold.
    """
    method = tuned(module).settings.method
    if method in UNMERGED:
        raise UserError(f"{method} cannot be merged into a model's weights; save the adapter")
    return module.merge_and_unload() if methods.is_peft(module) else module
