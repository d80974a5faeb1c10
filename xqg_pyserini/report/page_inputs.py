"""What the explorer of a report needs, found again where the results say they were made from.

An input that was given must be there; one that the results name and that is gone or has changed
only leaves the explorer out, with a reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from xqg_pyserini.data import Question, Run, read_qrels, read_questions, read_run
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.scores import MACRO, run_name
from xqg_pyserini.evaluation.significance import Interval
from xqg_pyserini.files import file_sha256, find_input
from xqg_pyserini.report import plots
from xqg_pyserini.report.explorer import Material, Similarities, explore
from xqg_pyserini.report.results import RUNS, Evaluated, Swept

MOST_RUNS = 4  # in the explorer


@dataclass(frozen=True)
class Explore:
    """What the explorer is asked to show; None stands for what the folder of results names.

    `per_language` questions are shown, drawn by `seed` where runs differ on them equally, with
    the first `hits` passages of each run.
    """

    questions: str | None = None
    language: str | None = None
    corpus: str | None = None
    runs: Sequence[str] | None = None
    per_language: int = 20
    hits: int = 10
    seed: int = 42


class NoExplorer(Exception):
    """Something that the explorer needs is not where the results say it was."""


def recorded_input(found: Evaluated | Swept, name: str) -> Any:
    """Return an input as the results name it, or None."""
    return (found.about.get("inputs") or {}).get(name)


def all_inputs(
    found: Evaluated | Swept, asked: Explore, similarities: Similarities | None
) -> list[Any]:
    """Return all that was given, and all that the results name and is there."""
    given: list[Any] = [asked.questions, asked.corpus, *(asked.runs or ())]
    if similarities is not None:
        given += [similarities.queries, similarities.store and similarities.store.path]
    names = ("questions", "corpus", "qrels", "passages", "queries")
    recorded = [recorded_input(found, name) for name in names]
    recorded += recorded_input(found, "runs") or []
    return given + [_find(found, path) for path in recorded]


def explored_data(
    found: Evaluated | Swept, asked: Explore, similarities: Similarities | None
) -> tuple[dict[str, Any], str | None]:
    """Return the explorer's data, or none and why."""
    if not asked.per_language:
        return {}, "it was not asked for (--explore 0)"
    try:
        questions = _questions(found, asked)
        runs = _runs(found, asked)
        corpus = _corpus(found, asked)
    except NoExplorer as why:
        return {}, str(why)
    evaluated = isinstance(found, Evaluated)
    qrels = _find(found, recorded_input(found, "qrels"))
    names = list(runs)
    material = Material(
        questions,
        runs,
        corpus,
        found.values if isinstance(found, Evaluated) else {},
        found.metrics if evaluated else (),
        read_qrels(qrels) if qrels is not None and qrels.is_file() else {},
        bool(recorded_input(found, "with_title")),
    )
    pair = _pair(found, names)
    data = explore(material, pair, asked.per_language, asked.seed, similarities)
    return {**data, "depth": asked.hits, "colors": _colors(found, names)}, None


def _find(found: Evaluated | Swept, path: str | None) -> Path | None:
    return None if path is None else find_input(path, found.folder)


def _recorded_file(found: Evaluated | Swept, path: str | None, flag: str) -> Path:
    """Return a file that the results name, if it is there and is still the same."""
    if path is None:
        raise NoExplorer(f"the results do not say what they were made from: give {flag}")
    file = _find(found, path)
    if file is None:
        raise NoExplorer(f"{path} is not where the results found it: give {flag}")
    return _unchanged(found, path, file, flag)


def _unchanged(found: Evaluated | Swept, path: str, file: Path, flag: str = "--runs") -> Path:
    """Return the file if the results' checksum of `path` is its own, or they have none."""
    checksum = (recorded_input(found, "sha256") or {}).get(path)
    if checksum is not None and file.is_file() and file_sha256(file) != checksum:
        raise NoExplorer(f"{path} has changed since it was scored: score it again, or give {flag}")
    return file


def _questions(found: Evaluated | Swept, asked: Explore) -> list[Question]:
    language = asked.language or recorded_input(found, "language")
    path: str | Path
    if asked.questions is not None:
        path = asked.questions
    else:
        path = _recorded_file(found, recorded_input(found, "questions"), "--questions")
    questions = read_questions(path, language)
    if isinstance(found, Evaluated):
        ids = {question.id for question in questions}
        scored = (q for run in found.values.values() for some in run.values() for q in some)
        lacking = next((qid for qid in scored if qid not in ids), None)
        if lacking is not None:
            raise UserError(
                f"{path}: lacks question {lacking!r}, which {found.folder} has a score of; give "
                "the --questions that were scored"
            )
    return questions


def _corpus(found: Evaluated | Swept, asked: Explore) -> Path:
    if asked.corpus is not None:
        return Path(asked.corpus)
    return _recorded_file(found, recorded_input(found, "corpus"), "--corpus")


def _runs(found: Evaluated | Swept, asked: Explore) -> dict[str, Run]:
    if asked.runs is not None:
        names = [run_name(path) for path in asked.runs]
        for a, b in combinations(range(len(names)), 2):
            if names[a] == names[b]:
                raise UserError(
                    f"{asked.runs[a]} and {asked.runs[b]} are both the run {names[a]!r}; rename one"
                )
        paths = dict(zip(names, map(Path, asked.runs), strict=True))
    elif isinstance(found, Evaluated):
        recorded = {run_name(path): path for path in recorded_input(found, "runs") or ()}
        paths = {
            name: _recorded_file(found, recorded.get(name), "--runs")
            for name in _few(
                found.runs, lambda run: found.scores[run, found.metrics[0]][MACRO].mean
            )
        }
    else:
        paths = _sweep_runs(found)
    runs = {}
    for name, path in paths.items():
        read = read_run(path)
        runs[name] = {qid: dict(islice(hits.items(), asked.hits)) for qid, hits in read.items()}
    return runs


def _sweep_runs(found: Swept) -> dict[str, Path]:
    metric = found.metrics[0]
    files = {name: f"{RUNS}/{name}.trec" for name in found.points}
    there = {name: file for name, file in files.items() if (found.folder / file).is_file()}
    if len(there) < 2:
        raise NoExplorer(
            f"{found.folder / RUNS} holds no runs of two points: give --runs A B, or sweep again "
            "with its runs written"
        )
    names = sorted(there, key=lambda name: name != found.baseline)  # the baseline first
    shown = _few(names, lambda name: found.scores[name, metric][MACRO])
    return {name: _unchanged(found, there[name], found.folder / there[name]) for name in shown}


def _few(names: Sequence[str], score: Any) -> list[str]:
    best = sorted(names[1:], key=score, reverse=True)[: MOST_RUNS - 1]
    return [name for name in names if name == names[0] or name in best]


def _pair(found: Evaluated | Swept, names: list[str]) -> tuple[str, str]:
    """Return the runs that are shown first: the first, and the best of the others."""

    def score(name: str) -> float:
        score = found.scores.get((name, found.metrics[0]), {}).get(MACRO)
        return -1.0 if score is None else score.mean if isinstance(score, Interval) else score

    return names[0], max(names[1:], key=score, default=names[0])


def _colors(found: Evaluated | Swept, names: list[str]) -> list[int]:
    """Return the colour of each run: that of its bars, where it has some."""
    if isinstance(found, Swept):
        return list(range(len(names)))
    metric = found.metrics[0]
    drawn = plots.shown(found.runs, lambda run: found.scores[run, metric][MACRO].mean)
    return [drawn.index(name) if name in drawn else 0 for name in names]
