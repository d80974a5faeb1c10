"""What the explorer of a report needs: what was given, or else the files that the results name.

An input that was given must be there; one that the results name and that is gone or has changed only leaves the
explorer out, with a reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from xqg_pyserini.data import (
    CorpusFile,
    Qrels,
    Question,
    QuestionFiles,
    Run,
    RunFile,
    open_run,
    read_qrels,
    read_questions,
    run_names,
)
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.results import Results
from xqg_pyserini.files import file_sha256, find_input, is_named
from xqg_pyserini.report import plots
from xqg_pyserini.report.explorer import Material, Similarities, explore
from xqg_pyserini.report.results import RUNS, input_paths, several
from xqg_pyserini.settings import check_values, option

MOST_RUNS = 4  # in the explorer


@dataclass(frozen=True)
class ExploreSettings:
    """What the explorer shows; what is not given is what the folder of results names."""

    questions: str | None = option(None, "default: those that DIR names", metavar="FILE")
    language: str | None = option(None, "language of questions that name none", metavar="xx")
    corpus: str | None = option(None, "default: the one that DIR names", metavar="PATH")
    runs: tuple[str, ...] | None = option(None, "default: those that DIR names", metavar="RUN")
    per_language: int = option(
        20, "questions a language, those on which two runs differ most (0: none)", metavar="N", flag="explore", least=0
    )
    hits: int = option(10, "passages a question", metavar="N", least=1)
    seed: int = option(42, "of the choice among equals", least=0)

    def __post_init__(self) -> None:
        check_values(self)


class NoExplorer(Exception):
    """Something that the explorer needs is not where the results say it was."""


def _recorded(results: Results, name: str) -> Any:
    return (results.inputs or {}).get(name)


def all_inputs(results: Results, asked: ExploreSettings, similarities: Similarities | None) -> list[Any]:
    """Return all that was given, and all that the results name and is there."""
    given: list[Any] = [asked.questions, asked.corpus, *(asked.runs or ())]
    if similarities is not None:
        given += [similarities.queries, similarities.store and similarities.store.path]
    return given + [_find(results, path) for path in input_paths(results)]


def explored_data(
    results: Results, asked: ExploreSettings, similarities: Similarities | None
) -> tuple[dict[str, Any], str | None]:
    """Return the explorer's data, or none and why."""
    if not asked.per_language:
        return {}, "it was not asked for (--explore 0)"
    try:
        questions = _questions(results, asked)
        runs = _runs(results, asked)
        (path,) = _given_or_recorded(results, asked.corpus, "corpus")
        corpus = CorpusFile(path, **(_recorded(results, "corpus_fields") or {}))
    except NoExplorer as why:
        return {}, str(why)
    names, with_title = list(runs), bool(_recorded(results, "with_title"))
    material = Material(questions, runs, corpus, relevant=_qrels(results), with_title=with_title)
    if not results.points:
        values = {run: {m: s.by_question for m, s in each.items()} for run, each in results.scores.items()}
        material = replace(material, values=values, metrics=results.scores.metrics)
    data = explore(material, _pair(results, names), asked.per_language, asked.seed, similarities)
    return {**data, "depth": asked.hits, "colors": _colors(results, names)}, None


def _find(results: Results, path: str | None) -> Path | None:
    return None if path is None else find_input(path, results.folder or Path())


def _recorded_file(results: Results, path: str | None, flag: str) -> Path:
    """Return a file that the results name, if it is there and is still the same."""
    if path is None:
        raise NoExplorer(f"the results do not say what they were made from: give {flag}")
    if (file := _find(results, path)) is None:
        raise NoExplorer(f"{path} is not where the results found it: give {flag}")
    return _unchanged(results, path, file, flag)


def _unchanged(results: Results, path: str, file: Path, flag: str = "--runs") -> Path:
    """Return the file if the results' checksum of `path` is its own, or they have none."""
    checksum = (_recorded(results, "sha256") or {}).get(path)
    if checksum is not None and file.is_file() and file_sha256(file) != checksum:
        raise NoExplorer(f"{path} has changed since it was scored: score it again, or give {flag}")
    return file


def _questions(results: Results, asked: ExploreSettings) -> list[Question]:
    paths = _given_or_recorded(results, asked.questions, "questions")
    fields = _recorded(results, "question_fields") or {}
    questions = read_questions(QuestionFiles(*_by_language(results, asked.language, paths), **fields))
    ids = {question.id for question in questions}
    scored = (qid for run in results.scores.values() for scores in run.values() for qid in scores.by_question)
    if (lacking := next((qid for qid in scored if qid not in ids), None)) is not None:
        lacks = f"{' '.join(map(str, paths))}: lacks question {lacking!r}, which {results.folder} has a score of"
        raise UserError(f"{lacks}; give the questions that were scored", about="questions")
    return questions


def _given_or_recorded(results: Results, given: str | None, name: str) -> list[Path]:
    recorded: list[Any] = several(_recorded(results, name)) or [None]
    return [_recorded_file(results, path, f"--{name}") for path in recorded] if given is None else [Path(given)]


def _by_language(results: Results, given: str | None, paths: Sequence[Path]) -> tuple[Any, str | None]:
    """Return language → file and None, where there was a language a file; else the files and the language of all."""
    languages = several(given or _recorded(results, "language"))
    if len(languages) > 1:
        if len(languages) != len(paths):
            raise NoExplorer(f"the results are of {len(languages)} files of questions: put these back")
        return dict(zip(languages, paths, strict=True)), None
    return list(paths), languages[0] if languages else None


def _qrels(results: Results) -> Qrels:
    """Return the qrels, where all of them are still there."""
    recorded = several(_recorded(results, "qrels"))
    files = [
        path for path in (_find(results, name) for name in recorded) if path and (path.is_file() or is_named(path))
    ]
    if not files or len(files) < len(recorded):
        return {}
    return read_qrels(files[0] if len(files) == 1 else _by_language(results, None, files)[0])


def _runs(results: Results, asked: ExploreSettings) -> dict[str, Run]:
    if asked.runs is not None:
        paths = dict(zip(run_names(asked.runs), map(Path, asked.runs), strict=True))
    elif results.points:
        paths = _sweep_runs(results)
    else:
        files = _recorded(results, "runs") or ()
        recorded = dict(zip(run_names(files, _recorded(results, "names")), files, strict=True)) if files else {}
        names = _few(results, results.scores.runs)
        paths = {name: _recorded_file(results, recorded.get(name), "--runs") for name in names}
    order = _recorded(results, "order") or "rank"
    return {
        name: {qid: dict(islice(h.items(), asked.hits)) for qid, h in open_run(RunFile(path, order=order)).items()}
        for name, path in paths.items()
    }


def _sweep_runs(results: Results) -> dict[str, Path]:
    assert results.folder is not None
    every = {name: f"{RUNS}/{name}.trec" for name in results.points}
    files = {name: file for name, file in every.items() if (results.folder / file).is_file()}
    if len(files) < 2:
        lacks = f"{results.folder / RUNS} holds no runs of two points"
        raise NoExplorer(f"{lacks}: give --runs A B, or sweep again with its runs written")
    baseline = results.compared.baseline
    names = _few(results, sorted(files, key=lambda name: name != baseline))  # the baseline first
    best = _pair(results, names)[1]
    if (base := _unaligned(results, best)) in files and base not in names:  # it shows what alignment moved
        others = [name for name in names[1:] if name != best]
        least = min(others, key=lambda name: results.scores.macro(name, results.scores.metrics[0]))
        names[names.index(least)] = base
    return {name: _unchanged(results, files[name], results.folder / files[name]) for name in names}


def _few(results: Results, names: Sequence[str]) -> list[str]:
    """Return the first run, and the best of the others, in their order."""
    return plots.shown(results.scores, results.scores.metrics[0], names, MOST_RUNS)


def _pair(results: Results, names: list[str]) -> tuple[str, str]:
    """Return the runs that are shown first: the best but for the first, beside the first, or its own if aligned."""
    scores = results.scores
    known = {name: scores.macro(name, scores.metrics[0]) if name in scores else -1.0 for name in names}
    best = max(names[1:], key=lambda name: known[name], default=names[0])
    base = _unaligned(results, best)
    return base if base in names else names[0], best


def _unaligned(results: Results, name: str) -> str | None:
    """Return the point that an aligned point of a sweep is without alignment; None for other runs."""
    point = results.points.get(name)
    if point is None or point.align is None:
        return None
    return results.compared.baseline if name == point.align else name.removesuffix(f"-{point.align}")


def _colors(results: Results, names: list[str]) -> list[int]:
    """Return the colour of each run: that of its bars, where it has some."""
    if results.points:
        return list(range(len(names)))
    drawn = plots.shown(results.scores, results.scores.metrics[0])
    return [drawn.index(name) if name in drawn else 0 for name in names]
