"""What a training says when it is done."""

from typing import Any

from tabulate import tabulate


def training_text(record: dict[str, Any], output: str) -> str:
    """Return the summary of a training's record (`training.json`), with hybrid-lora's modules."""
    lines = []
    if record.get("modules"):
        lines += ["What the best approximation of rank r loses of each module's gradient:", ""]
        lines += [_modules(record["modules"]), ""]
    n, of = record["trainable_parameters"], record["parameters"]
    lines += [
        f"{record['method']}: {n:,} of {of:,} parameters trained ({n / of:.2%})",
        f"{record['steps']} steps, loss {record['loss']:.4f}; "
        f"{_seconds(record['seconds_per_step'])}; "
        f"peak memory {record['peak_memory_bytes'] / 1e9:.2f} GB",
    ]
    if record.get("best_metric") is not None:
        metric = next(key for key in record["validation"][0] if key != "step")
        lines.append(f"best {metric} {record['best_metric']:.2f} at step {record['best_step']}")
    lines.append(f"{output}: {record['stored_bytes'] / 1e6:.2f} MB of weights, training.json, logs")
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "no step was taken here" if value is None else f"{value:.3f} seconds a step"


def _modules(rows: list[dict[str, Any]]) -> str:
    return tabulate(
        [{**row, "chosen": "full" if row["chosen"] else "lora"} for row in rows], "keys"
    )
