"""Scores and comparisons → tables, which are values (`xqg_pyserini.tables`), and words to them."""

from xqg_pyserini.evaluation.results import Comparisons, Scores
from xqg_pyserini.tables import Cell, Row, Table, letter

TEST_NAMES = {  # in a sentence, in a caption, by itself
    "student": ("the paired t-test", "paired Student's t-test", "paired t-test"),
    "fisher": ("the randomisation test", "Fisher's randomization test", "randomisation test"),
    "mcnemar": ("McNemar's test", "McNemar's exact test", "McNemar's exact test"),
}
_LABELS = {  # of ranx's measures, where they are not their names in capitals
    "hit_rate": "Hit Rate", "precision": "P", "recall": "Recall", "r-precision": "R-Prec",
    "ndcg_burges": "NDCG Burges", "bpref": "BPref",
}  # fmt: skip


def macro_table(scores: Scores, compared: Comparisons | None = None) -> Table:
    """Return runs × metrics, macro over languages; marks name the runs that a run beats."""
    best = {metric: _best(scores, metric) for metric in scores.metrics}
    rows: list[Row] = []
    for i, run in enumerate(scores):
        figures = {metric: _figure(scores, compared, run, metric) for metric in scores.metrics}
        bold = [figure._replace(bold=best[metric] == run) for metric, figure in figures.items()]
        rows.append([letter(i), Cell(run, name=True), *bold])
    caption = "Overall effectiveness of the models.\nThe best results are highlighted in boldface."
    if compared is not None:
        test, level = TEST_NAMES[compared.settings.test][1], compared.settings.level
        caption += f"\nSuperscripts denote significant differences in {test} with $p \\le {level}$."
    labels = map(_label, scores.metrics)
    return Table(["", "run", *scores.metrics], rows, caption, 2, ["\\#", "Model", *labels])


def language_table(scores: Scores, compared: Comparisons | None = None) -> Table:
    """Return metrics and runs × languages, with the average, its marks and question counts."""
    every = (one for by_metric in scores.values() for one in by_metric.values())
    languages = list(dict.fromkeys(language for one in every for language in one.by_language))
    rows: list[Row] = []
    for metric in scores.metrics:
        for i, run in enumerate(scores):
            groups = scores[run][metric].by_language
            cells = [f"{groups[l].score:.1f}" if l in groups else "-" for l in languages]
            average = _figure(scores, compared, run, metric)
            rows.append([metric if i == 0 else "", letter(i), run, *cells, average, scores[run][metric].count])
    return Table(["metric", "", "run", *languages, "average", "questions"], rows, texts=3)


def comparison_table(compared: Comparisons) -> Table:
    """Return the tests: difference, p-values, win/tie/loss and net questions of a over b."""
    macro = compared.scores.macro
    rows: list[Row] = []
    for test in compared:
        gain = macro(test.a, test.metric) - macro(test.b, test.metric)
        ps = p_text(test.p), p_text(test.p_corrected) + ("*" if test.significant else "")
        counts = f"{test.win}/{test.tie}/{test.loss}", f"{test.win - test.loss:+d}"
        rows.append([test.metric, test.a, test.b, f"{gain:+.2f}", *ps, *counts])
    corrected = f"p ({compared.settings.correction})"
    return Table(["metric", "a", "b", "a - b", "p", corrected, "win/tie/loss", "net"], rows, "", 3)


def results_tables(compared: Comparisons, per_language: bool = False, style: str = "simple") -> str:
    """Return all tables of an evaluation, for a terminal (`simple`) or Markdown (`github`)."""
    tables = [macro_table(compared.scores, compared)]
    if per_language:
        tables.append(language_table(compared.scores, compared))
    if len(compared):
        tables.append(comparison_table(compared))
    texts = [table.text(style) for table in tables]
    return "\n\n".join([*texts, explanation(compared.scores, compared)])


def explanation(scores: Scores, compared: Comparisons | None = None) -> str:
    """Return what one must know to read the tables."""
    lines = ["Scores are 0-100, averaged over languages without weights."]
    if compared:
        settings = compared.settings
        over = "all pairs of runs" if compared.baseline is None else "the runs compared"
        lines.append(
            f"Raised letters and * mark differences that are significant by {TEST_NAMES[settings.test][0]} at "
            f"{settings.level:g}, correction: {settings.correction} over {over}."
        )
    if scores.relevance:
        lines.append(f"Relevance: {scores.relevance}.")
    lines += [f"Note: {note}." for note in scores.notes]
    return "\n".join(lines)


def p_text(p: float) -> str:
    """Return a p-value as tables show it."""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.0e}"


def _figure(scores: Scores, compared: Comparisons | None, run: str, metric: str) -> Cell:
    """Return a macro score, with the letters of the runs that this one is better than."""
    beaten = set()
    for test in compared or ():
        if test.metric == metric and run in (test.a, test.b):
            assert compared is not None
            sign = compared.sign(test)
            if sign and run == (test.a if sign > 0 else test.b):
                beaten.add(scores.runs.index(test.b if sign > 0 else test.a))
    others = [i for i, other in enumerate(scores) if other != run and i not in beaten]
    return Cell(f"{scores.macro(run, metric):.2f}", sorted(beaten), others)


def _best(scores: Scores, metric: str) -> str | None:
    """Return the first run with the highest score as it is shown; None where all are 0."""
    shown = {run: round(scores.macro(run, metric), 2) for run in scores}
    best = max(shown, key=lambda run: shown[run])
    return best if shown[best] else None


def _label(metric: str) -> str:
    """Return a measure's name as ranx's tables have it: R@2kt, NDCG@10, Recall@5-l2."""
    if metric.lower().endswith("kt"):
        return f"R{metric[1:]}"
    name, at, rest = metric.lower().partition("@")
    if not at:
        name, at, rest = name.partition("-l")
    return _LABELS.get(name, name.upper()) + at + rest
