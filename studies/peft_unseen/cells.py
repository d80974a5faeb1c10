"""One cell: make it, and keep of it what the tables need.

A cell that is done is a folder with cell.json (its key, its figures, what it took, on what) and,
where it scored something, ranks.npz.  It appears under its name only when it is whole.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peft_unseen.matrix import Encoding, Matrix, Task, Translations, Xquad
from peft_unseen.plan import Cell
from peft_unseen.tasks import CLEAN, Questions, prepare, read_questions
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import publish, write_json
from xqg_pyserini.fusion.formula import Centers, Fusion, augment, unit
from xqg_pyserini.models.engines import load
from xqg_pyserini.models.registry import EncoderSettings, resolve

RANKS = "ranks.npz"
RECORD = "cell.json"
CUT = 10  # of MRR@10
# figures of training.json that are kept
COSTS = (
    *("trainable_parameters", "parameters", "peak_memory_bytes", "seconds_per_step"),
    *("stored_bytes", "steps", "loss"),
)
Ranks = dict[str, np.ndarray]  # "variant/scoring" → rank of the right one, (questions,) int32


@dataclass(frozen=True)
class Place:
    """Where a study reads and writes."""

    matrix: Matrix
    data: Path
    model: Path
    output: Path

    def of(self, name: str) -> Path:
        """Return the folder of a cell."""
        return self.output / "cells" / name

    def backbone(self, condition: str) -> Path:
        """Return the model folder of a condition."""
        if not self.matrix.condition(condition).reinitialise:
            return self.model
        return self.of(f"backbones/{condition}") / "model"


def make(cell: Cell, key: str, place: Place, learning_rate: float | None = None) -> None:
    """Do a cell and put its folder in place.

    Args:
        cell: what to do; the cells that it needs are done.
        key: kept with it, to tell whether it is still what the matrix asks for.
        place: folders.
        learning_rate: what the search chose, for a training.

    Raises:
        UserError: whatever stands in the way.
    """
    start = time.monotonic()
    final = place.of(cell.name)
    aside = final.parent / f".{final.name}.{os.getpid()}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        result = _MAKERS[cell.kind](cell, place, aside, learning_rate)
        seconds = round(time.monotonic() - start, 2)
        record: dict[str, Any] = {"cell": cell.name, "key": key, "result": result}
        record |= {"seconds": seconds, "host": host()}
        write_json(aside / RECORD, record)
        publish(aside, final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def host() -> dict[str, Any]:
    """Return what the time a cell took depends on."""
    import torch
    import transformers

    cuda = torch.cuda.is_available()
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return a cell's record; None where the cell is not done."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: broken JSON ({error}); remove the folder of this cell") from None
    return dict(record)


def read_ranks(folder: Path) -> Ranks:
    """Return a cell's ranks."""
    with np.load(folder / RANKS) as arrays:
        return {name: arrays[name] for name in arrays.files}


# ---------------------------------------------------------------- what each kind of cell does


def _prepare(cell: Cell, place: Place, folder: Path, _: float | None) -> dict[str, Any]:
    task = place.matrix.task(cell.task)
    settings = encoder_settings(place.model, task.encoding)

    def encode(texts: Any) -> np.ndarray:
        return load(settings, "passage", place.matrix.device).encode(list(texts))

    return prepare(task, place.data, folder, place.matrix.perturbations, encode)


def _backbone(cell: Cell, place: Place, folder: Path, _: float | None) -> dict[str, Any]:
    condition = place.matrix.condition(cell.condition)
    fresh = reinitialise(place.model, folder / "model", condition.reinitialise, condition.seed)
    return {"reinitialised": fresh}


def reinitialise(model: Path, folder: Path, layers: int, seed: int) -> list[str]:
    """Write a copy of a model whose last layers have new weights, by the model's own rule.

    Returns:
        The names of the weights that changed.

    Raises:
        UserError: where the model does not have so many layers.
    """
    import torch
    from transformers import AutoModel

    from xqg_pyserini.models.pretrained import layers_of, load_model, load_tokenizer

    base = load_model(AutoModel, str(model), "fp32", "cpu", ("pooler",))
    stack = layers_of(base)
    if not 0 < layers <= len(stack):
        raise UserError(f"{model}: has {len(stack)} layers; {layers} cannot be initialised anew")
    before = {name: weight.detach().clone() for name, weight in base.named_parameters()}
    torch.manual_seed(seed)
    for layer in stack[-layers:]:
        for weight in layer.parameters():
            setattr(weight, "_is_hf_initialized", False)  # noqa: B010 - or transformers leaves it as it is
        layer.apply(base._init_weights)
    after = dict(base.named_parameters())
    base.save_pretrained(folder)
    load_tokenizer(str(model)).save_pretrained(folder)
    return [name for name, weight in before.items() if not torch.equal(weight, after[name])]


def _untuned(cell: Cell, place: Place, folder: Path, _: float | None) -> dict[str, Any]:
    task = place.matrix.task(cell.task)
    settings = encoder_settings(place.backbone(cell.condition), task.encoding)
    pool = None
    if not place.matrix.condition(cell.condition).reinitialise and cell.all_candidates:
        pool = np.load(place.of(f"{cell.task}/prepare") / "pool.npy")
    return _score(cell, task, settings, place, folder, pool)


def _search(cell: Cell, place: Place, folder: Path, _: float | None) -> dict[str, Any]:
    """Train shortly, and score validation questions; a run that blows up scores 0."""
    task = place.matrix.task(cell.task)
    try:
        report, settings = _train(cell, place, folder / "trained", cell.learning_rate)
        score = _validate(settings, task, place)
    except UserError as error:
        # too high a rate gives NaN; why, is kept, and all rates of a method failing is an error
        return {"mrr": 0.0, "failed": str(error)}
    finally:
        shutil.rmtree(folder / "trained", ignore_errors=True)
    return {"mrr": score, "training": report}


def _training(cell: Cell, place: Place, folder: Path, rate: float | None) -> dict[str, Any]:
    report, settings = _train(cell, place, folder / "trained", rate)
    result = _score(cell, place.matrix.task(cell.task), settings, place, folder)
    if not place.matrix.keep:
        shutil.rmtree(folder / "trained")
    return {**result, "learning_rate": rate, "training": report}


_MAKERS: dict[str, Callable[[Cell, Place, Path, float | None], dict[str, Any]]] = {
    "prepare": _prepare,
    "backbone": _backbone,
    "untuned": _untuned,
    "search": _search,
    "train": _training,
}


def encoder_settings(model: Path, encoding: Encoding) -> EncoderSettings:
    """Return the settings of a backbone as it is."""
    return EncoderSettings(
        name=model.name, backend="torch", model=str(model.resolve()), **asdict(encoding)
    )


def _train(
    cell: Cell, place: Place, output: Path, rate: float | None
) -> tuple[dict[str, Any], EncoderSettings]:
    """Train a retriever as the cell says; return its figures and how to load it."""
    from xqg_pyserini.models.tuning import TuningSettings
    from xqg_pyserini.train.retriever import RetrieverSettings, train_retriever

    assert rate is not None, "the search comes first"
    task = place.matrix.task(cell.task)
    settings = RetrieverSettings(
        model=str(place.backbone(cell.condition).resolve()),
        data=(str(place.of(f"{cell.task}/prepare") / "train.jsonl"),),
        output=str(output),
        tuning=TuningSettings(**cell.settings["tuning"]),
        **asdict(task.encoding),
        **cell.settings["training"],
        learning_rate=rate,
        seed=cell.seed,
        negatives=0,
        validation=None,
        device=place.matrix.device,
        save="auto",
    )
    report = train_retriever(settings)
    return {name: report[name] for name in COSTS if name in report}, resolve(str(output))


# ---------------------------------------------------------------- scoring


def _score(
    cell: Cell,
    task: Task,
    settings: EncoderSettings,
    place: Place,
    folder: Path,
    pool: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write the ranks of a model's right candidates; return nothing but how many there are."""
    questions = read_questions(place.of(f"{cell.task}/prepare") / "test.json")
    vectors = _Vectors.of(questions, settings, place.matrix.device)
    ranks = rank_variants(questions, vectors, task, settings.normalize)
    if cell.all_candidates:
        assert isinstance(task, Translations)
        table = json.loads((place.of(f"{cell.task}/prepare") / "pool.json").read_text("utf-8"))
        if pool is None:
            pool = load(settings, "passage", place.matrix.device).encode(table["texts"])
        ranks |= rank_in_pool(questions, vectors, pool, table["groups"], settings.normalize)
    np.savez_compressed(folder / RANKS, **{k: v.astype(np.int32) for k, v in ranks.items()})  # type: ignore[arg-type]
    return {"questions": len(questions.ids)}


def _validate(settings: EncoderSettings, task: Task, place: Place) -> float:
    """Return MRR@10 on validation questions, languages weighing alike."""
    questions = read_questions(place.of(f"{task.name}/prepare") / "validation.json")
    vectors = _Vectors.of(questions, settings, place.matrix.device)
    ranks = rank(vectors.variants[CLEAN], vectors.candidates, questions)
    scores = np.where(ranks <= CUT, 1 / ranks, 0)
    of = np.asarray(questions.languages)
    return float(np.mean([scores[of == l].mean() for l in dict.fromkeys(questions.languages)]))


@dataclass
class _Vectors:
    """What a model makes of `Questions`."""

    variants: dict[str, np.ndarray]
    candidates: np.ndarray
    others: dict[str, np.ndarray]

    @classmethod
    def of(cls, questions: Questions, settings: EncoderSettings, device: str) -> _Vectors:
        candidates = load(settings, "passage", device).encode(questions.candidates)
        encoder = load(settings, "query", device)
        # a question that a perturbation left as it was is encoded once
        texts = [*questions.variants.values(), *questions.others.values()]
        distinct = list(dict.fromkeys(text for some in texts for text in some))
        vectors = encoder.encode(distinct)
        at = {text: i for i, text in enumerate(distinct)}

        def taken(some: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
            return {name: vectors[[at[text] for text in some[name]]] for name in some}

        return cls(taken(questions.variants), candidates, taken(questions.others))


def rank(queries: np.ndarray, candidates: np.ndarray, questions: Questions) -> np.ndarray:
    """Return the rank of each question's right candidate among its neighbours, or among all.

    A wrong candidate with the same score comes first: a model for which all texts are one knows
    nothing.
    """
    relevant = np.asarray(questions.relevant)
    if not questions.neighbours:
        scores = queries @ candidates.T
        own = scores[np.arange(len(relevant)), relevant]
        return np.count_nonzero(scores >= own[:, None], axis=1)
    return _rank_among(queries, candidates, relevant, np.asarray(questions.neighbours))


def _rank_among(
    queries: np.ndarray, candidates: np.ndarray, relevant: np.ndarray, wrong: np.ndarray
) -> np.ndarray:
    places = np.concatenate([relevant[:, None], wrong], axis=1)
    scores = np.einsum("nd,nkd->nk", queries, candidates[places])
    return np.count_nonzero(scores >= scores[:, :1], axis=1)


def rank_variants(questions: Questions, vectors: _Vectors, task: Task, normalize: bool) -> Ranks:
    """Return the ranks for each variant of the questions × each way of scoring.

    plain and centred: as `xqg search` does it with weight 0; fused and fused-centred (XQuAD):
    each language with its own stand-ins; lexical (translations): among lexical neighbours only.
    """
    ranks: Ranks = {}
    languages = np.asarray(questions.languages)
    fused = _fused(questions, vectors, task, normalize)
    for variant, queries in vectors.variants.items():
        for scoring, passages in fused.items():
            found = np.zeros(len(languages), dtype=np.int32)
            for l, (candidates, center) in passages.items():
                mine = np.flatnonzero(languages == l)
                part = _part(questions, mine)
                found[mine] = rank(queries[mine] - center, candidates, part)
            ranks[f"{variant}/{scoring}"] = found
        if questions.neighbours:
            ranks[f"{variant}/plain-lexical"] = _rank_among(
                queries,
                vectors.candidates,
                np.asarray(questions.relevant),
                np.asarray(questions.neighbours)[:, questions.near :],
            )
    return ranks


def _part(questions: Questions, places: np.ndarray) -> Questions:
    return Questions(
        ids=[],
        languages=[],
        units=[],
        variants={},
        candidates=[],
        relevant=[questions.relevant[i] for i in places],
        neighbours=[questions.neighbours[i] for i in places] if questions.neighbours else [],
    )


def _fused(
    questions: Questions, vectors: _Vectors, task: Task, normalize: bool
) -> dict[str, dict[str, tuple[np.ndarray, Any]]]:
    """Return scoring → language → candidates as they are searched, and what questions lose."""
    plain = {l: (vectors.candidates, 0.0) for l in vectors.others}
    centers = {l: some.mean(axis=0) for l, some in vectors.others.items()}
    pooled = np.mean([*centers.values()], axis=0)
    means = Centers(vectors.candidates.mean(axis=0), centers, pooled)
    weights = {"centred": (0.0, True)}
    if isinstance(task, Xquad):
        weights |= {"fused": (task.beta, False), "fused-centred": (task.beta_centered, True)}
    ways: dict[str, dict[str, tuple[np.ndarray, Any]]] = {"plain": plain}
    for scoring, (beta, center) in weights.items():
        fusion = Fusion("mean", beta=beta, normalize=normalize, center=center)
        ways[scoring] = {}
        for l, some in vectors.others.items():
            sums = np.zeros_like(vectors.candidates)
            counts = np.zeros(len(sums), dtype=np.int64)
            asked = np.asarray(questions.asked[l])
            np.add.at(sums, asked[asked >= 0], some[asked >= 0])
            np.add.at(counts, asked[asked >= 0], 1)
            mixed = augment(fusion, vectors.candidates, {l: sums}, {l: counts}, means)
            ways[scoring][l] = (mixed, centers[l] if center else 0.0)
    return ways


def rank_in_pool(
    questions: Questions,
    vectors: _Vectors,
    pool: np.ndarray,
    groups: list[int],
    normalize: bool,
) -> Ranks:
    """Return the ranks among all English questions, plain and centred.

    Other translations of the same question (its group) count neither as right nor as wrong.
    """
    own = np.asarray(questions.pool)
    group = np.asarray(groups)
    languages = np.asarray(questions.languages)
    centers = {l: some.mean(axis=0) for l, some in vectors.others.items()}
    shift = np.stack([centers[l] for l in questions.languages])
    moved = pool - vectors.candidates.mean(axis=0)
    centred = unit(moved) if normalize else moved
    assert set(languages) <= set(centers)
    ranks: Ranks = {}
    for variant, queries in vectors.variants.items():
        for scoring, some, candidates in (
            ("all-plain", queries, pool),
            ("all-centred", queries - shift, centred),
        ):
            found = np.zeros(len(own), dtype=np.int32)
            for start in range(0, len(own), 256):
                part = slice(start, start + 256)
                scores = some[part] @ candidates.T
                right = scores[np.arange(len(scores)), own[part]]
                wrong = (scores >= right[:, None]) & (group != group[own[part]][:, None])
                found[part] = 1 + np.count_nonzero(wrong, axis=1)
            ranks[f"{variant}/{scoring}"] = found
    return ranks
