"""What the cells add up to: tables.md, results.json and outcomes.jsonl.gz.

Figures are R@1 and MRR@10, 0 to 100.  A figure for several languages is the unweighted mean of
theirs; for several seeds, the mean of theirs.

An interval is a percentile bootstrap of two levels: seeds are drawn with replacement, and so are
questions within each language; questions that are translations of one another (XQuAD) are drawn
together.  Two methods are drawn the same questions, and seeds of their own.  Three seeds say little
about seeds: such an interval is mostly about questions.

A p-value is Fisher's randomisation test on the macro difference over questions, the scores averaged
over seeds (see `evaluate.significance`); it takes the seeds as given.  For each figure, the methods
are one family, corrected by Holm.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from xqg_pyserini.evaluate.significance import correct, fisher
from xqg_pyserini.files import writing
from xqg_pyserini.study.cells import CUT, Place, Ranks, read_ranks
from xqg_pyserini.study.matrix import UNTUNED, Tables, Task
from xqg_pyserini.study.runner import Study
from xqg_pyserini.study.tasks import CLEAN, Questions, read_questions

METRICS = ("R@1", "MRR@10")
COST_TITLE = "## Cost, measured where it ran"


def scores_of(ranks: np.ndarray, metric: str) -> np.ndarray:
    """Return a metric's score of each question, 0 to 100, from the rank of the right candidate."""
    if metric == "R@1":
        return 100.0 * (ranks == 1)
    return 100.0 * np.where(ranks <= CUT, 1 / np.maximum(ranks, 1), 0)


class Figure(NamedTuple):
    """A mean, or a difference of means, and its bootstrap interval."""

    mean: float
    low: float
    high: float


class Design:
    """Which questions a figure is about, and how they are drawn.

    Args:
        languages: of each question.
        units: of each question; those that share one are drawn together.
        chosen: languages to average over.
        settings: numbers of draws and their seed.
    """

    def __init__(
        self,
        languages: Sequence[str],
        units: Sequence[str],
        chosen: Sequence[str],
        settings: Tables,
    ) -> None:
        self.settings = settings
        self.rows = np.array([i for i, l in enumerate(languages) if l in chosen], dtype=int)
        self._languages = [languages[i] for i in self.rows]
        self._units = [units[i] for i in self.rows]
        spoken: dict[str, set[str]] = defaultdict(set)
        for unit, l in zip(self._units, self._languages, strict=True):
            spoken[unit].add(l)
        alone = all(len(some) == 1 for some in spoken.values())
        self._stratum = {u: next(iter(some)) if alone else "" for u, some in spoken.items()}

    @cached_property
    def weights(self) -> np.ndarray:
        """Return each question's share in the macro mean, (questions,)."""
        return self._shares(np.ones(len(self.rows)))

    @cached_property
    def drawn(self) -> np.ndarray:
        """Return the shares for each draw of the questions, (draws, questions)."""
        generator = np.random.default_rng(self.settings.seed)
        units = list(dict.fromkeys(self._units))
        at = {unit: i for i, unit in enumerate(units)}
        times = np.zeros((self.settings.bootstrap, len(units)))
        for stratum in dict.fromkeys(self._stratum.values()):
            some = [at[unit] for unit in units if self._stratum[unit] == stratum]
            even = np.full(len(some), 1 / len(some))
            times[:, some] = generator.multinomial(len(some), even, size=len(times))
        return self._shares(times[:, [at[unit] for unit in self._units]])

    def _shares(self, times: np.ndarray) -> np.ndarray:
        """Scale how often questions are drawn so that each language's shares sum to 1 / L."""
        shares = np.array(times, dtype=np.float64)
        of = np.array(self._languages)
        for l in dict.fromkeys(self._languages):
            mine = of == l
            total = shares[..., mine].sum(axis=-1, keepdims=True)
            shares[..., mine] /= np.maximum(total, 1) * len(set(self._languages))
        return shares

    def _resampled(self, scores: np.ndarray, stream: int) -> np.ndarray:
        """Return the macro mean of each draw of seeds and questions, (draws,)."""
        seeds = len(scores)
        by_seed = self.drawn @ scores[:, self.rows].T
        if seeds == 1:
            return by_seed[:, 0]
        generator = np.random.default_rng([self.settings.seed, stream])
        times = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(by_seed))
        return (by_seed * times).sum(axis=1) / seeds

    def mean(self, scores: np.ndarray) -> float:
        """Return the macro mean of scores (seeds, questions)."""
        return float(scores[:, self.rows].mean(axis=0) @ self.weights)

    def figure(self, scores: np.ndarray) -> Figure:
        """Return the macro mean of scores (seeds, questions), with its interval."""
        low, high = np.percentile(self._resampled(scores, 0), [2.5, 97.5])
        return Figure(self.mean(scores), float(low), float(high))

    def difference(self, first: np.ndarray, second: np.ndarray, paired: bool = False) -> Figure:
        """Return the first's mean less the second's; `paired`: the same seeds of one method."""
        if paired:
            return self.figure(first - second)
        draws = self._resampled(first, 1) - self._resampled(second, 2)
        low, high = np.percentile(draws, [2.5, 97.5])
        return Figure(self.mean(first) - self.mean(second), float(low), float(high))

    def p_value(self, first: np.ndarray, second: np.ndarray) -> float:
        """Return Fisher's p-value over units, the scores averaged over seeds."""
        sides = [scores[:, self.rows].mean(axis=0) for scores in (first, second)]
        units = list(dict.fromkeys(self._units))
        at = {unit: i for i, unit in enumerate(units)}
        places = [at[unit] for unit in self._units]
        number = np.bincount(places)
        first_means, second_means = (np.bincount(places, side) / number for side in sides)
        groups = [self._stratum[unit] for unit in units]
        draws, seed = self.settings.draws, self.settings.seed
        return fisher(first_means, second_means, groups, draws=draws, seed=seed)


# ---------------------------------------------------------------- what is there


@dataclass
class Results:
    """The outcomes of one task under one condition: method → seed → ranks."""

    task: Task
    condition: str
    questions: Questions
    ranks: dict[str, dict[int, Ranks]]
    settings: Tables
    wanted: dict[str, int]  # how many seeds the matrix asks for
    _designs: dict[tuple[str, ...], Design] = field(default_factory=dict)

    def sets(self) -> dict[str, tuple[str, ...]]:
        """Return the groups of languages: seen and unseen in our tuning."""
        both = {"seen": self.task.seen, "unseen": self.task.unseen}
        return {name: some for name, some in both.items() if some}

    def design(self, languages: tuple[str, ...]) -> Design:
        """Return how figures for these languages are made."""
        if languages not in self._designs:
            q = self.questions
            self._designs[languages] = Design(q.languages, q.units, languages, self.settings)
        return self._designs[languages]

    def scores(self, method: str, view: str, metric: str) -> np.ndarray | None:
        """Return (seeds, questions), of the seeds that have this view; None where none has."""
        found = [ranks[view] for _, ranks in sorted(self.ranks[method].items()) if view in ranks]
        return np.stack([scores_of(ranks, metric) for ranks in found]) if found else None

    def views(self) -> list[str]:
        """Return all "variant/scoring" that some cell has."""
        every = (v for seeds in self.ranks.values() for ranks in seeds.values() for v in ranks)
        return list(dict.fromkeys(every))

    def variants(self) -> list[str]:
        """Return clean and the perturbations, in order."""
        return list(self.questions.variants)


def collect(study: Study) -> list[Results]:
    """Read what is done of a study: cells that are not what the matrix asks for are left out."""
    place = Place(study.matrix, study.data, study.model, study.output)
    found = []
    for task in study.matrix.tasks:
        if study.state(study.by_name[f"{task.name}/prepare"]) != "done":
            continue
        questions = read_questions(place.of(f"{task.name}/prepare") / "test.json")
        for condition in study.matrix.conditions:
            methods = [UNTUNED, *(method.name for method in study.matrix.methods)]
            ranks: dict[str, dict[int, Ranks]] = {method: {} for method in methods}
            wanted = dict.fromkeys(methods, 0)
            for cell in study.cells:
                here = (cell.task, cell.condition) == (task.name, condition.name)
                if cell.kind in ("untuned", "train") and here:
                    wanted[cell.method] += 1
                    if study.state(cell) == "done":
                        ranks[cell.method][cell.seed] = read_ranks(place.of(cell.name))
            settings = study.matrix.tables
            found.append(Results(task, condition.name, questions, ranks, settings, wanted))
    return found


# ---------------------------------------------------------------- figures


def compute(results: Results) -> list[dict[str, Any]]:
    """Return a record for each method, view and metric: means, intervals, differences, tests."""
    records = []
    for view in results.views():
        for metric in METRICS:
            rows = {m: results.scores(m, view, metric) for m in results.ranks}
            present = {m: scores for m, scores in rows.items() if scores is not None}
            for name, languages in results.sets().items():
                design = results.design(languages)
                records += _compare(results, design, present, view, metric, name)
    return records


def _compare(
    results: Results,
    design: Design,
    present: Mapping[str, np.ndarray],
    view: str,
    metric: str,
    name: str,
) -> list[dict[str, Any]]:
    variant, scoring = view.split("/")
    reference = results.settings.reference
    records: dict[str, dict[str, Any]] = {}
    for method, scores in present.items():
        records[method] = {
            "task": results.task.name,
            "condition": results.condition,
            "method": method,
            "variant": variant,
            "scoring": scoring,
            "metric": metric,
            "languages": name,
            "seeds": len(scores),
            **_rounded(design.figure(scores)),
        }
        of = np.array(results.questions.languages)
        each = scores.mean(axis=0)
        records[method]["each"] = {
            l: round(float(each[of == l].mean()), 3) for l in results.sets()[name]
        }
    for other in (reference, UNTUNED):
        tested = [m for m in present if m != other and not (other == reference and m == UNTUNED)]
        if other in present:
            against = dict.fromkeys(tested, other)
            _against(records, against, f"minus_{other}", design, present)
    controls = results.settings.controls.items()
    against = {m: control for m, control in controls if {m, control} <= set(present)}
    _against(records, against, "minus_control", design, present)
    if scoring != "plain":
        plain = {m: results.scores(m, f"{variant}/plain", metric) for m in present}
        for method, scores in present.items():
            base = plain[method]
            # the same seeds: not every seed is scored among all candidates
            if base is not None and scoring in ("centred", "fused", "fused-centred"):
                _add(records[method], "minus_plain", design.difference(scores, base, paired=True))
                records[method]["minus_plain"]["p"] = design.p_value(scores, base)
        _holm(records, [m for m in records if "minus_plain" in records[m]], "minus_plain")
    return list(records.values())


def _against(
    records: dict[str, dict[str, Any]],
    others: Mapping[str, str],
    key: str,
    design: Design,
    present: Mapping[str, np.ndarray],
) -> None:
    """Compare methods with others, `others[method]` each: one family of tests."""
    for method, other in others.items():
        _add(records[method], key, design.difference(present[method], present[other]))
        records[method][key]["p"] = design.p_value(present[method], present[other])
    _holm(records, list(others), key)


def _add(record: dict[str, Any], key: str, difference: Figure) -> None:
    record[key] = _rounded(difference)


def _holm(records: Mapping[str, dict[str, Any]], methods: Sequence[str], key: str) -> None:
    """Correct a family of tests: one figure of all methods."""
    corrected = correct([records[m][key]["p"] for m in methods], "holm")
    for method, p in zip(methods, corrected, strict=True):
        records[method][key]["p"] = round(records[method][key]["p"], 5)
        records[method][key]["p_holm"] = round(float(p), 5)


def _rounded(figure: Figure) -> dict[str, float]:
    return {name: round(value, 3) + 0.0 for name, value in figure._asdict().items()}  # no -0.0


# ---------------------------------------------------------------- writing


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
        parts += _main(results, index, metric)
    parts += _each(results, index)
    parts += _scorings(results, index)
    parts += _all_candidates(results, index)
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


def _main(results: Results, index: Index, metric: str) -> list[str]:
    places = [(name, v) for name in results.sets() for v in results.variants()]
    header = ["method", *(f"{name}, {variant}" for name, variant in places)]
    parts = []
    reference = results.settings.reference
    for title, key in (
        (f"### {metric}", None),
        (f"### {metric}: difference to {reference}", f"minus_{reference}"),
        (f"### {metric}: difference to untuned", f"minus_{UNTUNED}"),
        (f"### {metric}: difference to its control", "minus_control"),
    ):
        rows = []
        for method in _methods(results):
            found = [_get(results, index, method, v, "plain", metric, n) for n, v in places]
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


def _scorings(results: Results, index: Index) -> list[str]:
    """Make the table of what centring and fusion add to each method, on clean questions."""
    there = {view.split("/")[1] for view in results.views()}
    ways = [way for way in ("centred", "fused", "fused-centred") if way in there]
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


def _all_candidates(results: Results, index: Index) -> list[str]:
    """Make the table of other candidates: lexical neighbours only, and all English questions."""
    there = {view.split("/")[1] for view in results.views()}
    names = {
        "plain-lexical": "lexical neighbours",
        "all-plain": "all",
        "all-centred": "all, centred",
    }
    ways = [way for way in names if way in there]
    places = [(name, way, m) for name in results.sets() for way in ways for m in METRICS]
    rows = []
    for method in _methods(results):
        found = [_get(results, index, method, CLEAN, way, m, name) for name, way, m in places]
        seeds = max((r["seeds"] for r in found if r and r["scoring"].startswith("all")), default=0)
        rows.append([_name(results, method), str(seeds), *map(_interval, found)])
    header = ["method", "seeds among all", *(f"{n}, {names[w]}, {m}" for n, w, m in places)]
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
