"""Choosing one of many runs on held-out questions, and which differences could have been detected.

`selection` and `power` have the arithmetic; what is returned is JSON, as `sweep.json` has it (docs/formats.md).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation import selection
from xqg_pyserini.evaluation.measures import find_metric
from xqg_pyserini.evaluation.power import POWER, macro_difference, questions_needed, smallest_difference
from xqg_pyserini.evaluation.results import Comparisons, Scores, p_value
from xqg_pyserini.evaluation.significance import Interval, macro_interval
from xqg_pyserini.settings import option


@dataclass(frozen=True)
class ChoosingSettings:
    """How the best of many runs is chosen and judged."""

    cross_validate: int | None = option(
        None, "choose a point by K-1 of K folds of the questions, and score it on the other", metavar="K"
    )
    select_by: str | None = option(None, "the metric to choose by (default: first)", metavar="M")
    per_language_choice: bool = option(False, "choose a point for each language")
    group_by: str | None = option(
        None,
        "relevant: questions that share a relevant passage stay in one fold (default with "
        "qrels); none: every question by itself (default without)",
        "none",
        "relevant",
    )
    seed: int = option(42, "of the folds")
    power: float | bool = option(
        False,
        "say the smallest difference that so many questions can show and, for a difference of D "
        "(0-100), how many questions it needs",
        metavar="D",
    )

    def check_choosing(self, metrics: Sequence[str], questions: int) -> None:
        """Raise `UserError` for what does not fit together, the metrics or the questions."""
        if self.cross_validate is None:
            for name in ("select_by", "per_language_choice", "group_by"):
                if getattr(self, name):
                    needs = f"{name} says how a point is chosen: give cross_validate, the number of folds"
                    raise UserError(needs, about=(name, "cross_validate"))
            return
        if self.select_by is not None and find_metric(self.select_by, metrics) is None:
            expected = f"select_by {self.select_by!r}: expected one of the metrics {' '.join(metrics)}"
            raise UserError(expected, about=("select_by", "metrics"))
        if not 2 <= self.cross_validate <= questions:
            expected = f"expected from 2 folds to one for each of the {questions} questions"
            raise UserError(f"cross_validate {self.cross_validate}: {expected}", about="cross_validate")

    def grouping(self, judged: bool) -> str:
        """Return how questions stay together; `judged` says whether there are qrels."""
        return self.group_by or ("relevant" if judged else "none")


def fold_questions(
    settings: ChoosingSettings, group_by: str, languages: Mapping[str, str], relevant: Mapping[str, Mapping[str, int]]
) -> tuple[dict[str, int], list[int]]:
    """Return question → fold, and the groups' sizes; raise `UserError` where there are fewer groups than folds."""
    assert settings.cross_validate is not None
    groups: dict[str, Any] = {qid: qid for qid in languages}
    if group_by == "relevant":
        groups = dict(selection.group_by_relevance(list(languages), relevant))
    try:
        folds = selection.deal(groups, languages, settings.cross_validate, settings.seed)
    except ValueError as error:
        raise _no_folds(settings, group_by, error) from None
    return folds, list(Counter(groups.values()).values())


def _no_folds(settings: ChoosingSettings, group_by: str, error: ValueError) -> UserError:
    message = f"cross_validate {settings.cross_validate}, group_by {group_by}: {error}"
    return UserError(message, about=("cross_validate", "group_by"))


def cross_validate(compared: Comparisons, settings: ChoosingSettings, group_by: str) -> dict[str, Any]:
    """Choose a run for each fold of the questions by the others, and score it on the fold.

    Every run must have been compared with a baseline.  A note on the scores tells the groups.

    Raises:
        UserError: fewer groups than folds, or a language whose questions are all in one fold.
    """
    scores, baseline = compared.scores, compared.baseline
    assert baseline is not None
    select_by = find_metric(settings.select_by or scores.metrics[0], scores.metrics)
    assert select_by is not None
    chooser = scores[baseline][select_by]
    languages = {qid: chooser.languages[qid] for qid in chooser.by_question}
    folds, sizes = fold_questions(settings, group_by, languages, scores.relevant)
    if group_by == "relevant":
        scores.notes.append(
            f"folds: {len(sizes)} groups of questions that share a relevant passage, the largest of {max(sizes)}"
        )
    try:
        choices = selection.choose(_values(scores, select_by), languages, folds, settings.per_language_choice)
    except ValueError as error:
        raise _no_folds(settings, group_by, error) from None
    held = []
    for metric in scores.metrics:
        base = scores[baseline][metric].by_question
        both = {qid: fold for qid, fold in folds.items() if qid in base}
        held_out = selection.held_out(_values(scores, metric), languages, both, choices)
        x, y = [held_out[qid] for qid in both], [base[qid] for qid in both]
        names = [languages[qid] for qid in both]
        gain = macro_interval([100 * (a - b) for a, b in zip(x, y, strict=True)], names)
        macro = 100 * selection.macro(held_out, languages, list(both))
        p = p_value(compared.settings.test, x, y, names)
        held.append({"metric": metric, "score": macro, **interval_json("difference", gain), "p": p})
    best = {metric: scores.best(metric) for metric in scores.metrics}
    return {
        "folds": settings.cross_validate,
        "per_language": settings.per_language_choice,
        "select_by": select_by,
        "group_by": group_by,
        "seed": settings.seed,
        "chosen": [{"fold": choice.fold + 1, "language": choice.language, "point": choice.run} for choice in choices],
        "held_out": held,
        "tuned": [{"metric": metric, "point": run, "score": scores.macro(run, metric)} for metric, run in best.items()],
    }


def _values(scores: Scores, metric: str) -> dict[str, Mapping[str, float]]:
    return {run: by_metric[metric].by_question for run, by_metric in scores.items()}


def interval_json(name: str, interval: Interval) -> dict[str, float | None]:
    """Return an interval as files have it, under its name, `ci_low` and `ci_high`; NaN is None."""
    mean, low, high = (None if math.isnan(value) else value for value in interval)
    return {name: mean, "ci_low": low, "ci_high": high}


def power_of(compared: Comparisons, wanted: float | None = None) -> dict[str, Any]:
    """Return, for each run, the smallest difference to the baseline that could have been seen.

    With `wanted`, a difference (0-100), also how many questions it needs.  A correction makes the first of m tests one
    at level / m (Bonferroni's and Holm's; the strictest that Benjamini-Hochberg's can be): that is the level here.
    """
    scores, baseline, settings = compared.scores, compared.baseline, compared.settings
    assert baseline is not None
    others = [run for run in scores if run != baseline]
    level = settings.level if settings.correction == "none" else settings.level / len(others)
    rows = []
    for metric in scores.metrics:
        for run in others:
            x, y, languages = scores.paired(run, baseline, metric)
            difference = macro_difference([100 * v for v in x], [100 * v for v in y], languages)
            smallest = smallest_difference(difference, level)
            needed = None if wanted is None else questions_needed(difference, len(x), wanted, level)
            row = {"metric": metric, "point": run, "questions": len(x), "difference": difference.mean}
            rows.append({**row, "smallest": None if math.isnan(smallest) else smallest, "needed": needed})
    return {"power": POWER, "level": level, "tests": len(others), "wanted": wanted, "rows": rows}
