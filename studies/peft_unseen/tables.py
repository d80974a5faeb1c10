"""tables.md, and the same figures as JSON: made of the matrix and the two files of `outcomes`."""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from tabulate import tabulate

from peft_unseen.figures import ADDED, BESIDE, METRICS, Section
from peft_unseen.matrix import UNTUNED, Matrix
from peft_unseen.outcomes import TRAINING, read_outcomes
from peft_unseen.plan import Record, plan
from peft_unseen.texts import CLEAN

COST_TITLE = "## Cost, measured where it ran"
FORMATS = {"trainable parameters": ",", "share": ".2%", "peak memory, MB": ",.0f"}
FORMATS |= {"s/step, least": ".3f", "stored, MB": ",.2f", "s/cell, least": ".0f"}
AMONG_ALL = ("all-plain", "all-centred")


def write_tables(matrix: Matrix, source: Path, output: Path) -> None:
    """Read a study's two files in `source`; write tables.md and results.json into `output`."""
    training: Record = json.loads((source / TRAINING).read_text("utf-8"))
    asked, ranks = read_outcomes(matrix, source)
    text = f"# {matrix.name}\n\nUnseen means: unseen in our tuning. R@1 and MRR@10, 0 to 100. [95% intervals] are over "
    text += (
        "seeds and questions, p-values (Fisher's randomisation test over questions, scores averaged over seeds) are "
    )
    text += f"corrected by Holm over the methods; \\* marks p < {matrix.tables.level:g}."
    if training["missing"]:
        text += f"\n\n**Not complete: {len(training['missing'])} of {len(plan(matrix))} cells are missing.** "
        text += "Figures rest on the seeds that are there."
    parts, scores = [text], []
    for place, (task, condition) in matrix.places.items():
        if task.name in asked:
            section = Section(matrix, task, asked[task.name], ranks[place])
            parts += [f"## {task.name}, {condition.name}", *_Tables(matrix, section).all()]
            scores += [{"place": [place, *of], "methods": rows} for of, rows in section.known.items() if rows]
    rates = list(map(_rate, training["learning_rates"]))
    parts += _grid("## Learning rates, chosen on held-out questions of trained languages", rates)
    parts += _grid(COST_TITLE, list(map(cost_row, training["costs"])))
    output.mkdir(parents=True, exist_ok=True)
    (output / "tables.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    (output / "results.json").write_text(json.dumps(training | {"scores": scores}), "utf-8")


def _grid(title: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a title and a table of rows, column → text; nothing without rows."""
    table = tabulate(rows, "keys", tablefmt="pipe", disable_numparse=True)
    return [title, table] if rows else []


class _Tables:
    """The tables of one task under one condition; each method makes one or more, with titles."""

    def __init__(self, matrix: Matrix, section: Section) -> None:
        self._of, self._settings, wanted = section, matrix.tables, len(matrix.seeds)
        self._names = {}  # with how many seeds are there, where some are missing
        for method, seeds in section.ranks.items():
            lacks = method != UNTUNED and len(seeds) < wanted
            missing = f" ({len(seeds)} of {wanted} seeds)" if lacks else ""
            self._names |= {method: method + missing} if seeds else {}
        self._added = [way for way in ADDED if way in section.scorings]

    def all(self) -> list[str]:
        """Return all tables, in order."""
        return [
            *self._headroom(),
            *(part for metric in METRICS for part in self._main(metric, "plain")),
            *(part for metric in METRICS for part in self._each(metric)),
            *(part for metric in METRICS for part in self._what_is_added(metric)),
            *(part for m in METRICS for way in self._added[-1:] for part in self._main(m, way)),
            *self._other_candidates(),
            *(part for m, way in product(METRICS, AMONG_ALL) for part in self._main(m, way)),
        ]

    def _table(self, title: str, columns: Mapping, names: Mapping | None = None) -> list[str]:
        """Make a table of the columns' texts (arguments of `_text`), a row for each method."""
        rows = []
        for method, label in (self._names if names is None else names).items():
            row = {column: self._text(method, *asked) for column, asked in columns.items()}
            rows += [{"method": label, **row}] if set(row.values()) != {"–"} else []
        return _grid(title, rows if columns else [])

    def _text(self, method: str, part: str, *place: str) -> str:
        """Return a figure's interval, mean, number of seeds, a language's, or a difference."""
        figure = self._of.rows(*place).get(method, {})
        if part == "seeds":
            return str(figure.get("seeds", 0))
        if not figure:
            return "–"
        if part == "interval":
            return f"{figure['mean']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"
        if part == "headroom":
            return f"{100 - figure['mean']:.1f}"
        if not part.startswith("minus"):
            return f"{figure['mean'] if part == 'mean' else figure['each'][part]:.1f}"
        if part not in figure:
            return "–"
        mean, low, high, p = (figure[part][key] for key in ("mean", "low", "high", "p_holm"))
        star = " \\*" if p < self._settings.level else ""
        return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}] p={p:.3g}{star}"

    def _headroom(self) -> list[str]:
        rows = []
        for name, variant in self._of.places if UNTUNED in self._names else ():
            row = {"languages": name, "questions": variant}
            for part, title in (("interval", ""), ("headroom", "headroom ")):
                for metric in METRICS:
                    row[title + metric] = self._text(UNTUNED, part, variant, "plain", metric, name)
            rows.append(row)
        return _grid("### Untuned, and the headroom", rows)

    def _main(self, metric: str, scoring: str) -> list[str]:
        """Make the tables of all variants of the questions: figures, and differences of methods."""
        title = f"### {metric}" if scoring == "plain" else f"### {metric}, {scoring}"
        controls = {m: self._names.get(c) for m, c in self._settings.controls.items()}
        pairs = {m: f"{label} − {controls[m]}" for m, label in self._names.items() if m in controls}
        parts = []
        for text, key, names in (
            (title, "interval", self._names),
            (f"{title}: difference to {self._settings.reference}", "minus_reference", self._names),
            (f"{title}: difference to untuned", "minus_untuned", self._names),
            (f"{title}: difference to its control", "minus_control", pairs),
            *((f"{title}: difference to untuned, {way}", f"minus_{way}", self._names) for way in BESIDE),
        ):
            of = {f"{name}, {v}": (key, v, scoring, metric, name) for name, v in self._of.places}
            parts += self._table(text, of, names)
        return parts

    def _each(self, metric: str) -> list[str]:
        place = (CLEAN, "plain", metric)
        columns = {l: (l, *place, name) for name, of in self._of.sets.items() for l in of}
        return self._table(f"### {metric} by language, clean", columns)

    def _what_is_added(self, metric: str) -> list[str]:
        """Make the table of what centring and fusion add to each method, on clean questions."""
        parts = {"plain": "mean"} | dict.fromkeys(self._added, "minus_plain")
        places = product(self._of.sets, parts.items() if self._added else ())
        columns = {f"{name}, {way}": (part, CLEAN, way, metric, name) for name, (way, part) in places}
        return self._table(f"### {metric}: what {', '.join(self._added)} add, clean", columns)

    def _other_candidates(self) -> list[str]:
        """Make the table of lexical neighbours only, and of all English questions."""
        ways = [way for way in ("plain-lexical", *AMONG_ALL) if way in self._of.scorings]
        columns = {"seeds among all": ("seeds", CLEAN, "all-plain", "R@1", "seen")}
        for name, way, metric in product(self._of.sets, ways, METRICS):
            columns[f"{name}, {way}, {metric}"] = ("interval", CLEAN, way, metric, name)
        return self._table("### Other candidates, clean", columns if ways else {})


def _rate(of: Record) -> dict[str, str]:
    rates = [float(rate) for rate in of["mrr"]]
    edge = " (edge of the grid)" if of["learning_rate"] in (min(rates), max(rates)) else ""
    row = {key: of[key] for key in ("task", "condition", "method")}
    row["learning rate"] = f"{of['learning_rate']:g}{edge}"
    row["validation MRR@10"] = ", ".join(f"{rate}: {value}" for rate, value in of["mrr"].items())
    return row | {"searched on": of["from"]}


def cost_row(of: Record) -> dict[str, str]:
    """Return what a method's cells took as a row of the table of costs."""
    return {c: "–" if v is None else f"{v:{FORMATS.get(c, '')}}" for c, v in of.items()}
