"""The tables of what is done, in Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

MEASURES = ("R@1", "MRR@10", "nDCG@10")


def tables(results: Mapping[str, Mapping[str, Any]], of: str = "alignment") -> str:
    """Return tables.md of a study: one table a cell, `results` being cell → its record."""
    lines = [f"# Tables of the study of {of}", "", _LEGEND]
    for name, cell in results.items():
        parts = cell["figures"].get("parts", {"": cell["figures"]})
        for part, figures in parts.items():
            lines += ["", f"## {name} {part}".rstrip(), "", f"{figures['questions']} questions.", ""]
            lines += _table(figures["conditions"])
        for key, value in cell["figures"].items():
            if key not in ("conditions", "questions", "parts", "notes"):
                lines += ["", f"{key}: {value if not isinstance(value, dict) else _listed(value)}"]
    return "\n".join(lines) + "\n"


def _listed(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {of}" for key, of in value.items())


def _table(conditions: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    first = next(iter(conditions.values()))
    shown = [m for m in (*MEASURES, "R@0.5kt", "R@2kt") if m in first]
    codes = list(first.get("languages", ()))
    references = [r for r in conditions if any(r in of.get("less", ()) for of in conditions.values())]
    yield "| " + " | ".join(["", *shown, *(f"− {r}" for r in references), *codes]) + " |"
    yield "|---" * (1 + len(shown) + len(references) + len(codes)) + "|"
    for name, of in conditions.items():
        row = [name, *(f"{of[m]['mean']:.1f}" for m in shown)]
        row += [_less(of.get("less", {}).get(r)) for r in references]
        yield "| " + " | ".join([*row, *(f"{of['languages'][l]:.1f}" for l in codes)]) + " |"


def _less(less: Mapping[str, float] | None) -> str:
    if less is None:
        return ""
    star = "*" if less["p"] <= 0.05 else ""
    return f"{less['mean']:+.1f}{star} ({less['low']:+.1f} … {less['high']:+.1f})"


_LEGEND = """\
0 to 100, the unweighted mean over languages; by language: R@1. − none, − centred, …: difference in R@1 (in R@2kt where
answers are looked for), in brackets its 95% interval (bootstrap of passages); \\*: p ≤ 0.05 (randomisation, Holm over a
cell's conditions)."""
