"""Hybrid-LoRA: which linear modules are tuned in full, and which get LoRA.

After arXiv 2605.18822: full tuning for the share of the modules that a low rank hurts most.  A module's score here is
the share of the squared Frobenius norm of its warm-up gradient G that G's best rank-r approximation loses,

    1 - Σ_{i<=r} s_i² / Σ_i s_i²,        s_i: the singular values of G, largest first

(Eckart and Young: no matrix of rank r comes nearer to G than the one of the r largest).  A gradient of zero loses
nothing: 0.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import torch

from xqg_pyserini.models.tuning.methods import TuningSettings, block_linears


def lost_share(gradient: torch.Tensor, rank: int) -> float:
    """Return the share of the squared norm that the best rank-`rank` approximation loses."""
    squares = torch.linalg.svdvals(gradient.detach().double().cpu()) ** 2
    total = float(squares.sum())
    return float(squares[rank:].sum()) / total if total > 0 else 0.0


def module_shares(model: Any, rank: int, warm_up: Callable[[Any], None]) -> list[dict[str, Any]]:
    """Run the warm-up and score every linear module of the blocks, in the model's order.

    All weights of these modules require a gradient meanwhile; no gradient is left behind.
    """
    linears = block_linears(model)
    for linear in linears.values():
        linear.weight.requires_grad_(True)
    model.zero_grad(set_to_none=True)
    warm_up(model)
    missing = [name for name, linear in linears.items() if linear.weight.grad is None]
    if missing:
        raise ValueError(f"the warm-up left no gradient on {missing[0]}")
    table = [
        {
            "name": name,
            "shape": list(linear.weight.shape),
            "parameters": sum(p.numel() for p in linear.parameters()),
            "share": lost_share(linear.weight.grad, rank),
        }
        for name, linear in linears.items()
    ]
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    return table


def choose_modules(table: list[dict[str, Any]], settings: TuningSettings, seed: int) -> list[str]:
    """Mark the modules that are tuned in full in the table ("chosen"); return their names.

    The score's choice: the highest shares, ties by name; `full_share` of the modules, rounded, at least one and not
    all.  The control draws, among the modules of each shape, as many as the score's choice has of that shape (any of
    them, those that the score chose too): the same number of modules, and of parameters.
    """
    number = min(max(1, math.floor(settings.full_share * len(table) + 0.5)), len(table) - 1)
    ranked = sorted(table, key=lambda row: (-row["share"], row["name"]))
    names = {row["name"] for row in ranked[:number]}
    if settings.method == "hybrid-lora-random":
        names = _same_budget(table, names, seed)
    for row in table:
        row["chosen"] = row["name"] in names
    return [row["name"] for row in table if row["chosen"]]


def _same_budget(table: list[dict[str, Any]], names: set[str], seed: int) -> set[str]:
    groups: dict[tuple[Any, ...], list[str]] = {}
    for row in table:
        groups.setdefault((*row["shape"], row["parameters"]), []).append(row["name"])
    draw = random.Random(seed)
    return {name for group in groups.values() for name in draw.sample(group, sum(each in names for each in group))}
