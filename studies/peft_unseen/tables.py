"""What a study writes: tables.md, results.json and outcomes.jsonl.gz.

The figures are `study.figures`'; this module lays them out, and adds learning rates and costs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peft_unseen.cells import CUT
from peft_unseen.figures import METRICS, Results, collect, compute
from peft_unseen.matrix import UNTUNED
from peft_unseen.runner import Study
from peft_unseen.tasks import CLEAN
from xqg_pyserini.files import writing

COST_TITLE = "## Cost, measured where it ran"


def write_tables(study: Study) -> dict[str, Any]:
    """Write tables.md, results.json and outcomes.jsonl.gz; return a summary."""
    found = collect(study)
    records = [record for results in found for record in compute(results)]
    states = {cell.name: study.state(cell) for cell in study.cells}
    missing = [name for name, state in states.items() if state != "done"]
    by_key = _index(records)
    parts = [_head(study, missing)]
    for results in found:
        parts += _tables(results, by_key)
    parts += _rates(study)
    parts += _costs(study)
    with writing(study.output / "tables.md") as file:
        file.write("\n\n".join(parts) + "\n")
    value = {
        "matrix": study.matrix.name,
        "facts": study.facts,
        "missing": missing,
        "scores": records,
        "learning_rates": _chosen(study),
        "cells": {
            name: {k: record[k] for k in ("seconds", "host", "result")}
            for name, record in study.records.items()
        },
    }
    with writing(study.output / "results.json") as file:
        file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    with writing(study.output / "outcomes.jsonl.gz", zipped=True) as file:
        for line in _outcomes(found):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    done = len(states) - len(missing)
    return {"output": str(study.output), "cells": len(states), "done": done, "missing": missing}


def _outcomes(found: Sequence[Results]) -> Iterator[dict[str, Any]]:
    """Yield each task's questions once, then each cell's ranks: a digit, 0 for 10, . for more."""
    seen = set()
    for results in found:
        if results.task.name not in seen:
            seen.add(results.task.name)
            q = results.questions
            yield {"task": results.task.name, "ids": q.ids, "languages": q.languages}
        for method, seeds in results.ranks.items():
            for seed, ranks in seeds.items():
                for view, some in ranks.items():
                    text = "".join(str(r % 10) if r <= CUT else "." for r in some)
                    where = {"task": results.task.name, "condition": results.condition}
                    yield {**where, "method": method, "seed": seed, "view": view, "ranks": text}


Index = Mapping[tuple[str, ...], dict[str, Any]]
_KEYS = ("task", "condition", "method", "variant", "scoring", "metric", "languages")


def _index(records: Sequence[dict[str, Any]]) -> Index:
    return {tuple(record[key] for key in _KEYS): record for record in records}


def _head(study: Study, missing: Sequence[str]) -> str:
    text = f"# {study.matrix.name}\n\nUnseen means: unseen in our tuning. R@1 and MRR@10, 0 to 100."
    text += " [95% intervals] are over seeds and questions, p-values (Fisher's randomisation test"
    text += " over questions, scores averaged over seeds) are corrected by Holm over the methods;"
    text += f" \\* marks p < {study.matrix.tables.level:g}."
    if missing:
        text += f"\n\n**Not complete: {len(missing)} of {len(study.cells)} cells are missing.**"
        text += " Figures rest on the seeds that are there."
    return text


def _grid(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    from tabulate import tabulate

    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True)


def _tables(results: Results, index: Index) -> list[str]:
    parts = [f"## {results.task.name}, {results.condition}"]
    parts += _headroom(results, index)
    for metric in METRICS:
        parts += _main(results, index, metric, "plain")
    parts += _each(results, index)
    parts += _added(results, index)
    for metric in METRICS:
        for scoring in _scorings(results)[-1:]:  # the one with most in it
            parts += _main(results, index, metric, scoring)
    parts += _other_candidates(results, index)
    for metric in METRICS:
        for scoring in _among_all(results):
            parts += _main(results, index, metric, scoring)
    return parts


def _get(results: Results, index: Index, *rest: str) -> dict[str, Any] | None:
    return index.get((results.task.name, results.condition, *rest))


def _name(results: Results, method: str) -> str:
    """Return a method's name, with how many seeds are there where some are missing."""
    there, wanted = len(results.ranks[method]), results.wanted[method]
    return method if there == wanted else f"{method} ({there} of {wanted} seeds)"


def _interval(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    return f"{figure['mean']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"


def _difference(results: Results, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    star = " \\*" if figure["p_holm"] < results.settings.level else ""
    values = f"{figure['mean']:+.1f} [{figure['low']:+.1f}, {figure['high']:+.1f}]"
    return f"{values} p={figure['p_holm']:.3g}{star}"


def _headroom(results: Results, index: Index) -> list[str]:
    rows = []
    for name in results.sets():
        for variant in results.variants():
            cells = [_get(results, index, UNTUNED, variant, "plain", m, name) for m in METRICS]
            if cells[0] is not None:
                headroom = [f"{100 - c['mean']:.1f}" if c else "–" for c in cells]
                rows.append([name, variant, *map(_interval, cells), *headroom])
    header = ["languages", "questions", *METRICS, *(f"headroom {m}" for m in METRICS)]
    return ["### Untuned, and the headroom", _grid(rows, header)] if rows else []


def _methods(results: Results) -> list[str]:
    return [method for method, seeds in results.ranks.items() if seeds]


def _there(results: Results, *ways: str) -> list[str]:
    there = {view.split("/")[1] for view in results.views()}
    return [way for way in ways if way in there]


def _scorings(results: Results) -> list[str]:
    return _there(results, "centred", "fused", "fused-centred")


def _among_all(results: Results) -> list[str]:
    return _there(results, "all-plain", "all-centred")


def _main(results: Results, index: Index, metric: str, scoring: str) -> list[str]:
    """Make the tables of all variants of the questions: figures, and differences of methods."""
    measure = metric if scoring == "plain" else f"{metric}, {scoring}"
    places = [(name, v) for name in results.sets() for v in results.variants()]
    header = ["method", *(f"{name}, {variant}" for name, variant in places)]
    parts = []
    reference = results.settings.reference
    for title, key in (
        (f"### {measure}", None),
        (f"### {measure}: difference to {reference}", f"minus_{reference}"),
        (f"### {measure}: difference to untuned", f"minus_{UNTUNED}"),
        (f"### {measure}: difference to its control", "minus_control"),
    ):
        rows = []
        for method in _methods(results):
            found = [_get(results, index, method, v, scoring, metric, n) for n, v in places]
            if key is None:
                cells = [_interval(record) for record in found]
            else:
                cells = [_difference(results, (record or {}).get(key)) for record in found]
            if any(cell != "–" for cell in cells):
                label = _name(results, method)
                if key == "minus_control":
                    label += f" − {_name(results, results.settings.controls[method])}"
                rows.append([label, *cells])
        if rows:
            parts += [title, _grid(rows, header)]
    return parts


def _each(results: Results, index: Index) -> list[str]:
    languages = [l for some in results.sets().values() for l in some]
    parts = []
    for metric in METRICS:
        rows = []
        for method in _methods(results):
            each: dict[str, float] = {}
            for name in results.sets():
                record = _get(results, index, method, CLEAN, "plain", metric, name)
                each |= record["each"] if record else {}
            rows.append([_name(results, method), *(f"{each[l]:.1f}" for l in languages)])
        if rows:
            parts += [f"### {metric} by language, clean", _grid(rows, ["method", *languages])]
    return parts


def _added(results: Results, index: Index) -> list[str]:
    """Make the table of what centring and fusion add to each method, on clean questions."""
    ways = _scorings(results)
    parts = []
    for metric in METRICS:
        rows = []
        for method in _methods(results):
            cells = []
            for name in results.sets():
                plain = _get(results, index, method, CLEAN, "plain", metric, name)
                cells.append(f"{plain['mean']:.1f}" if plain else "–")
                for way in ways:
                    record = _get(results, index, method, CLEAN, way, metric, name)
                    cells.append(_difference(results, (record or {}).get("minus_plain")))
            rows.append([_name(results, method), *cells])
        header = [f"{name}, {way}" for name in results.sets() for way in ("plain", *ways)]
        if rows and ways:
            title = f"### {metric}: what {', '.join(ways)} add, clean"
            parts += [title, _grid(rows, ["method", *header])]
    return parts


def _other_candidates(results: Results, index: Index) -> list[str]:
    """Make the table of other candidates: lexical neighbours only, and all English questions."""
    ways = _there(results, "plain-lexical") + _among_all(results)
    places = [(name, way, m) for name in results.sets() for way in ways for m in METRICS]
    rows = []
    for method in _methods(results):
        found = [_get(results, index, method, CLEAN, way, m, name) for name, way, m in places]
        seeds = max((r["seeds"] for r in found if r and r["scoring"].startswith("all")), default=0)
        rows.append([_name(results, method), str(seeds), *map(_interval, found)])
    header = ["method", "seeds among all", *(f"{n}, {way}, {m}" for n, way, m in places)]
    if not rows or not ways:
        return []
    return ["### Other candidates, clean", _grid(rows, header)]


# ---------------------------------------------------------------- learning rates and costs


def _chosen(study: Study) -> list[dict[str, Any]]:
    """Return what each search found, method by method."""
    found = []
    for task in study.matrix.tasks:
        for condition in study.matrix.conditions:
            for method in study.matrix.methods:
                some = [
                    cell
                    for cell in study.cells
                    if (cell.kind, cell.task, cell.condition, cell.method)
                    == ("train", task.name, condition.name, method.name)
                ]
                if not some or (chosen := study.learning_rate(some[0])) is None:
                    continue
                rates = {
                    f"{s.learning_rate:g}": study.records[s.name]["result"]
                    for s in study.searches(some[0])
                }
                found.append(
                    {
                        "task": task.name,
                        "condition": condition.name,
                        "method": method.name,
                        "from": "/".join(study.matrix.chooser(task.name, condition.name)),
                        "learning_rate": chosen,
                        "edge": chosen in (min(map(float, rates)), max(map(float, rates))),
                        "mrr": {r: round(100 * x["mrr"], 2) for r, x in rates.items()},
                        "failed": {r: x["failed"] for r, x in rates.items() if "failed" in x},
                    }
                )
    return found


def _rates(study: Study) -> list[str]:
    rows = []
    for some in _chosen(study):
        mrr = ", ".join(
            f"{rate}: {'failed' if rate in some['failed'] else value}"
            for rate, value in some["mrr"].items()
        )
        edge = " (edge of the grid)" if some["edge"] else ""
        where = [some[key] for key in ("task", "condition", "method")]
        rows.append([*where, f"{some['learning_rate']:g}{edge}", mrr, some["from"]])
    header = ["task", "condition", "method", "learning rate", "validation MRR@10", "searched on"]
    if not rows:
        return []
    return [
        "## Learning rates, chosen on held-out questions of trained languages",
        _grid(rows, header),
    ]


def _costs(study: Study) -> list[str]:
    rows = []
    for task in study.matrix.tasks:
        for condition in study.matrix.conditions:
            for method in study.matrix.methods:
                mine = [
                    study.records[cell.name]
                    for cell in study.cells
                    if (cell.kind, cell.task, cell.condition, cell.method)
                    == ("train", task.name, condition.name, method.name)
                    and study.state(cell) == "done"
                ]
                if mine:
                    rows.append([task.name, condition.name, method.name, *_cost(mine)])
    header = ["task", "condition", "method", "trainable parameters", "share", "peak memory, MB"]
    header += ["s/step, least", "stored, MB", "s/cell, least", "ran on"]
    if not rows:
        return []
    return [COST_TITLE, _grid(rows, header)]


def _cost(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a method's figures; of times the seed's with the least: other work only adds."""
    training = records[0]["result"]["training"]
    share = 100 * training["trainable_parameters"] / training["parameters"]
    hosts = {
        record["host"]["gpu"] or f"CPU, threads: {record['host']['threads']}" for record in records
    }
    known: dict[str, list[float]] = {"seconds": [record["seconds"] for record in records]}
    for key in ("peak_memory_bytes", "seconds_per_step", "stored_bytes"):
        found = [record["result"]["training"].get(key) for record in records]
        known[key] = [value for value in found if value is not None]
    memory, stored = known["peak_memory_bytes"], known["stored_bytes"]
    return [
        f"{training['trainable_parameters']:,}",
        f"{share:.2f}%",
        f"{sum(memory) / len(memory) / 1e6:,.0f}" if memory else "–",
        f"{min(known['seconds_per_step']):.3f}" if known["seconds_per_step"] else "–",
        f"{sum(stored) / len(stored) / 1e6:,.2f}" if stored else "–",
        f"{min(known['seconds']):.0f}",
        ", ".join(sorted(hosts)),
    ]
