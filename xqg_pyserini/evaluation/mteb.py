"""Results as MTEB has them, a JSON file for each of its tasks (`mteb.TaskResult`).

Values are MTEB's: trec_eval's of each question, averaged over a language's, from 0 to 1 and rounded to five decimals.
This module refuses to know what MTEB's tasks are; what it also writes of confidences (nAUC) is left out.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xqg_pyserini.data.languages import NO_LANGUAGE, language_code3
from xqg_pyserini.data.readers import CorpusLike, QuestionsLike
from xqg_pyserini.data.runs import QrelsLike, RunLike
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.scores import evaluate
from xqg_pyserini.settings import check_values, option

CUTS = (1, 3, 5, 10, 20, 100, 1000)
MEASURES = ("ndcg", "map", "recall", "precision", "mrr", "hit_rate")
MAIN = "ndcg_at_10"
DEFAULT = "default"  # what MTEB calls the subset of a task that has no others
SPLIT = "test"


@dataclass(frozen=True, kw_only=True)
class MtebSettings:
    """Where results are written for MTEB, and as those of which split."""

    mteb: str | None = option(
        None, "write MTEB's results of one run: TASK.json, where TASK is the task", metavar="FILE"
    )
    mteb_split: str | None = option(
        None, "of the questions (default: that of hf: questions, else test)", metavar="NAME"
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.mteb is None and self.mteb_split is not None:
            raise UserError("a split is named in MTEB's results: give their file too", ("mteb_split", "mteb"))
        if self.mteb is not None and Path(self.mteb).suffix != ".json":
            raise UserError(f"{self.mteb}: expected a name such as MIRACLRetrieval.json, after MTEB's task", "mteb")


def mteb_results(
    run: RunLike,
    questions: QuestionsLike,
    task: str,
    *,
    corpus: CorpusLike | None = None,
    qrels: QrelsLike | None = None,
    split: str = SPLIT,
    revision: str = "",
) -> dict[str, Any]:
    """Return a run's scores as MTEB's `TaskResult` has them in JSON; each language is a subset.

    Questions that are judged and have no relevant passage count as 0, as they do there.

    Args:
        run: of at least 1,000 hits a question, for all figures to be what they are called.
        questions: as for `evaluate`.
        task: MTEB's name of the task ("BelebeleRetrieval").
        corpus: as for `evaluate`.
        qrels: as for `evaluate`.
        split: of the questions.
        revision: what tells the data from other versions of it; of the hub, the commit.

    Raises:
        UserError: as `evaluate`.
    """
    measures = [f"{measure}@{cut}" for measure in MEASURES for cut in CUTS]
    name = Path(run).stem if isinstance(run, str | os.PathLike) else "run"  # what is warned of names it
    scores = evaluate({name: run}, questions, measures, corpus=corpus, qrels=qrels, all_topics=True)[name]
    subsets = []
    for language in scores[measures[0]].by_language:
        values = {
            name.replace("@", "_at_"): round(of_run.by_language[language].score / 100, 5)
            for name, of_run in scores.items()
        }
        known = language != NO_LANGUAGE
        named = {"hf_subset": language if known else DEFAULT, "languages": [language_code3(language)] if known else []}
        subsets.append({**values, "main_score": values[MAIN], **named})
    return {
        "dataset_revision": revision,
        "task_name": task,
        "mteb_version": None,
        "scores": {split: subsets},
        "evaluation_time": None,
        "kg_co2_emissions": None,
    }


def revision_of(described: Sequence[dict[str, Any]]) -> str:
    """Return one text for what `data.describe_sources` says of an input: a commit, a checksum, or several."""
    each = [next(str(d[key]) for key in ("revision", "sha256", "ir_datasets") if key in d) for d in described]
    return " ".join(dict.fromkeys(each))
