"""tables.md, and the same figures as JSON: made of the matrix and the two files of `outcomes`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from peft_unseen.figures import ADDED, METRICS, Section
from peft_unseen.matrix import UNTUNED, Matrix
from peft_unseen.outcomes import TRAINING, read_outcomes
from peft_unseen.plan import Record, plan
from peft_unseen.texts import CLEAN

COST_TITLE = "## Cost, measured where it ran"
AMONG_ALL = ("all-plain", "all-centred")


def write_tables(matrix: Matrix, source: Path, output: Path) -> Record:
    """Read a study's two files in `source`, write tables.md and results.json into `output`."""
    training: Record = json.loads((source / TRAINING).read_text("utf-8"))
    asked, ranks = read_outcomes(matrix, source)
    text = f"# {matrix.name}\n\nUnseen means: unseen in our tuning. R@1 and MRR@10, 0 to 100."
    text += " [95% intervals] are over seeds and questions, p-values (Fisher's randomisation test"
    text += " over questions, scores averaged over seeds) are corrected by Holm over the methods;"
    text += f" \\* marks p < {matrix.tables.level:g}."
    if training["missing"]:
        number = f"{len(training['missing'])} of {len(plan(matrix))}"
        text += f"\n\n**Not complete: {number} cells are missing.**"
        text += " Figures rest on the seeds that are there."
    parts, scores = [text], []
    for place, (task, condition) in matrix.places.items():
        if task.name in asked:
            section = Section(matrix, task, asked[task.name], ranks[place])
            parts += [f"## {task.name}, {condition.name}", *_Tables(matrix, section).all()]
            scores += [{"place": place, **record} for record in section.records()]
    parts += _rates(training["learning_rates"]) + _costs(training["costs"])
    (output / "tables.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    text = json.dumps(training | {"scores": scores}, ensure_ascii=False)
    (output / "results.json").write_text(text + "\n", "utf-8")
    return training


def _grid(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    table = tabulate(rows, header, tablefmt="pipe", disable_numparse=True)
    return [title, table] if rows else []


def _interval(figure: Record) -> str:
    return f"{figure['mean']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]" if figure else "–"


class _Tables:
    """The tables of one task under one condition; each method makes a few, with their titles."""

    def __init__(self, matrix: Matrix, section: Section) -> None:
        self._of, self._settings = section, matrix.tables
        self._names = {}  # with how many seeds are there, where some are missing
        for method, seeds in section.ranks.items():
            wanted = 1 if method == UNTUNED else len(matrix.seeds)
            missing = f" ({len(seeds)} of {wanted} seeds)" if len(seeds) < wanted else ""
            self._names |= {method: method + missing} if seeds else {}
        scorings = {view.split("/")[1] for view in section.views}
        self._added = [way for way in ADDED if way in scorings]
        self._among_all = [way for way in AMONG_ALL if way in scorings]
        self._other = [way for way in ("plain-lexical", *AMONG_ALL) if way in scorings]

    def all(self) -> list[str]:
        """Return all tables, in order."""
        return [
            *self._headroom(),
            *(part for metric in METRICS for part in self._main(metric, "plain")),
            *(part for metric in METRICS for part in self._each(metric)),
            *(part for metric in METRICS for part in self._what_is_added(metric)),
            *(part for m in METRICS for way in self._added[-1:] for part in self._main(m, way)),
            *self._other_candidates(),
            *(part for m in METRICS for way in self._among_all for part in self._main(m, way)),
        ]

    def _get(self, method: str, *place: str) -> Record:
        return self._of.rows(*place).get(method, {})

    def _difference(self, figure: Record | None) -> str:
        if not figure:
            return "–"
        star = " \\*" if figure["p_holm"] < self._settings.level else ""
        values = f"{figure['mean']:+.1f} [{figure['low']:+.1f}, {figure['high']:+.1f}]"
        return f"{values} p={figure['p_holm']:.3g}{star}"

    def _headroom(self) -> list[str]:
        rows = []
        for name, variant in self._of.places:
            of = [self._get(UNTUNED, variant, "plain", metric, name) for metric in METRICS]
            if of[0]:
                left = [f"{100 - figure['mean']:.1f}" for figure in of]
                rows.append([name, variant, *map(_interval, of), *left])
        header = ["languages", "questions", *METRICS, *(f"headroom {m}" for m in METRICS)]
        return _grid("### Untuned, and the headroom", header, rows)

    def _main(self, metric: str, scoring: str) -> list[str]:
        """Make the tables of all variants of the questions: figures, and differences of methods."""
        measure = metric if scoring == "plain" else f"{metric}, {scoring}"
        places = self._of.places
        header = ["method", *(f"{name}, {variant}" for name, variant in places)]
        parts = []
        for title, key in (
            (measure, ""),
            (f"{measure}: difference to {self._settings.reference}", "minus_reference"),
            (f"{measure}: difference to untuned", "minus_untuned"),
            (f"{measure}: difference to its control", "minus_control"),
        ):
            rows = []
            for method, label in self._names.items():
                of = [self._get(method, variant, scoring, metric, n) for n, variant in places]
                cells = [self._difference(f.get(key)) if key else _interval(f) for f in of]
                if key == "minus_control" and method in self._settings.controls:
                    label += f" − {self._names.get(self._settings.controls[method])}"
                if set(cells) != {"–"}:
                    rows.append([label, *cells])
            parts += _grid(f"### {title}", header, rows)
        return parts

    def _each(self, metric: str) -> list[str]:
        languages = [l for part in self._of.sets.values() for l in part]
        rows = []
        for method, label in self._names.items():
            of = [self._get(method, CLEAN, "plain", metric, name) for name in self._of.sets]
            rows.append([label, *(f"{value:.1f}" for part in of for value in part["each"].values())])
        return _grid(f"### {metric} by language, clean", ["method", *languages], rows)

    def _what_is_added(self, metric: str) -> list[str]:
        """Make the table of what centring and fusion add to each method, on clean questions."""
        rows = []
        for method, label in self._names.items():
            cells = []
            for name in self._of.sets:
                of = {w: self._get(method, CLEAN, w, metric, name) for w in ("plain", *self._added)}
                cells.append(f"{of.pop('plain')['mean']:.1f}")
                cells += [self._difference(figure.get("minus_plain")) for figure in of.values()]
            rows.append([label, *cells])
        header = [f"{name}, {way}" for name in self._of.sets for way in ("plain", *self._added)]
        title = f"### {metric}: what {', '.join(self._added)} add, clean"
        return _grid(title, ["method", *header], rows if self._added else [])

    def _other_candidates(self) -> list[str]:
        """Make the table of other candidates: lexical neighbours only, and all English questions."""
        places = [(name, way, m) for name in self._of.sets for way in self._other for m in METRICS]
        rows = []
        for method, label in self._names.items():
            of = {place: self._get(method, CLEAN, place[1], place[2], place[0]) for place in places}
            seeds = [f["seeds"] for (_, way, _), f in of.items() if way in AMONG_ALL and f]
            rows.append([label, str(max(seeds, default=0)), *map(_interval, of.values())])
        header = ["method", "seeds among all", *(", ".join(place) for place in places)]
        return _grid("### Other candidates, clean", header, rows if self._other else [])


def _rates(chosen: Sequence[Record]) -> list[str]:
    rows = []
    for of in chosen:
        rates = [float(rate) for rate in of["mrr"]]
        edge = " (edge of the grid)" if of["learning_rate"] in (min(rates), max(rates)) else ""
        mrr = ", ".join(f"{rate}: {value}" for rate, value in of["mrr"].items())
        where = [of[key] for key in ("task", "condition", "method")]
        rows.append([*where, f"{of['learning_rate']:g}{edge}", mrr, of["from"]])
    header = ["task", "condition", "method", "learning rate", "validation MRR@10", "searched on"]
    title = "## Learning rates, chosen on held-out questions of trained languages"
    return _grid(title, header, rows)


def _costs(costs: Sequence[Record]) -> list[str]:
    columns = {
        "task": ("task", ""),
        "condition": ("condition", ""),
        "method": ("method", ""),
        "trainable parameters": ("trainable_parameters", ","),
        "share": ("share", ".2f"),
        "peak memory, MB": ("peak_memory_mb", ",.0f"),
        "s/step, least": ("seconds_per_step", ".3f"),
        "stored, MB": ("stored_mb", ",.2f"),
        "s/cell, least": ("seconds_per_cell", ".0f"),
        "ran on": ("ran_on", ""),
    }
    rows = [
        ["–" if of[key] is None else f"{of[key]:{form}}" for key, form in columns.values()]
        for of in costs
    ]
    for row in rows:
        row[4] += "%"
    return _grid(COST_TITLE, list(columns), rows)
