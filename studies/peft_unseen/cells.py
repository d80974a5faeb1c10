"""One cell: make it, and keep of it what the tables need.

A cell that is done is a folder with cell.json: its key, its result, what it took, on what; where it
scored something, with the rank of each question's right candidate.  The folder appears under its
name only when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import xqg_pyserini as xqg
from peft_unseen.plan import RECORD, Cell, Record, Study
from peft_unseen.ranking import Vectors, mean_reciprocal_rank, rank_in_pool, rank_variants
from peft_unseen.texts import prepare, read_questions
from xqg_pyserini.models.engines import load
from xqg_pyserini.models.registry import EncoderSettings, resolve

# figures of a training's report that are kept
COSTS = (
    *("trainable_parameters", "parameters", "peak_memory_bytes", "seconds_per_step"),
    *("stored_bytes", "steps", "loss"),
)


def make(study: Study, cell: Cell) -> None:
    """Do a cell, whose needs are done, and put its folder in place; raises `UserError`."""
    start = time.monotonic()
    final = study.folder(cell.name)
    aside, old = (final.parent / f".{final.name}.{end}" for end in ("partial", "old"))
    for folder in (aside, old):
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    aside.mkdir(parents=True)
    try:
        result = _MAKERS[cell.kind](study, cell, aside)
        record = {"cell": cell.name, "key": study.key(cell), "result": result}
        record |= {"seconds": round(time.monotonic() - start, 2), "host": _host()}
        (aside / RECORD).write_text(json.dumps(record, ensure_ascii=False), "utf-8")
        if final.exists():
            final.rename(old)
        aside.rename(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _host() -> Record:
    """Return what the time a cell took depends on."""
    import torch

    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }


# ---------------------------------------------------------------- what each kind of cell does


def _prepare(study: Study, cell: Cell, folder: Path) -> Record:
    assert cell.task
    passages = load(_settings(study.model, cell), "passage", study.matrix.device)
    perturbations = study.matrix.perturbations
    return prepare(cell.task, study.data, folder, perturbations, passages.encode)


def _backbone(study: Study, cell: Cell, folder: Path) -> Record:
    assert cell.condition
    layers, seed = cell.condition.reinitialise, cell.condition.seed
    return {"reinitialised": reinitialise(study.model, folder / "model", layers, seed)}


def reinitialise(model: Path, folder: Path, layers: int, seed: int) -> list[str]:
    """Write a copy of a model whose last layers have new weights, by the model's own rule.

    Returns:
        The names of the weights that changed.

    Raises:
        UserError: where the model does not have so many layers.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    base = AutoModel.from_pretrained(model, dtype=torch.float32)
    stack = base.encoder.layer
    if not 0 < layers <= len(stack):
        raise xqg.UserError(f"{model}: has {len(stack)} layers; {layers} cannot be new")
    before = {name: weight.detach().clone() for name, weight in base.named_parameters()}
    torch.manual_seed(seed)
    for layer in stack[-layers:]:
        for weight in layer.parameters():
            weight._is_hf_initialized = False  # or transformers leaves it as it is
        layer.apply(base._init_weights)
    after = dict(base.named_parameters())
    base.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return [name for name, weight in before.items() if not torch.equal(weight, after[name])]


def _untuned(study: Study, cell: Cell, folder: Path) -> Record:
    assert cell.condition
    pool = study.folder(f"{cell.of[0]}/prepare") / "pool.npy"
    known = np.load(pool) if pool.exists() and not cell.condition.reinitialise else None
    return _score(study, cell, _settings(study.backbone(cell.condition), cell), known)


def _search(study: Study, cell: Cell, folder: Path) -> Record:
    """Train shortly, and score validation questions; a training that breaks off scores 0."""
    assert cell.learning_rate
    try:
        report = _train(study, cell, folder / "trained", cell.learning_rate)
        settings = resolve(str(folder / "trained"))
        questions = read_questions(study.folder(f"{cell.of[0]}/prepare") / "validation.json")
        score = mean_reciprocal_rank(questions, _vectors(study, questions, settings))
    except xqg.UserError as error:  # too high a rate gives NaN
        return {"mrr": 0.0, "failed": str(error)}
    finally:
        shutil.rmtree(folder / "trained", ignore_errors=True)
    return {"mrr": score, "training": report}


def _training(study: Study, cell: Cell, folder: Path) -> Record:
    rate = study.learning_rate(cell)
    assert rate is not None
    report = _train(study, cell, folder / "trained", rate)
    result = _score(study, cell, resolve(str(folder / "trained")))
    if not study.matrix.keep:
        shutil.rmtree(folder / "trained")
    return {**result, "learning_rate": rate, "training": report}


_MAKERS: dict[str, Callable[[Study, Cell, Path], Record]] = {
    "prepare": _prepare,
    "backbone": _backbone,
    "untuned": _untuned,
    "search": _search,
    "train": _training,
}


def _train(study: Study, cell: Cell, output: Path, rate: float) -> Record:
    """Train a retriever as the cell says; return its figures."""
    assert cell.task and cell.condition
    settings = xqg.RetrieverSettings(
        model=str(study.backbone(cell.condition).resolve()),
        data=(str(study.folder(f"{cell.task.name}/prepare") / "train.jsonl"),),
        output=str(output),
        tuning=xqg.TuningSettings(**cell.settings["tuning"]),
        **cell.settings["encoding"],
        **cell.settings["training"],
        learning_rate=rate,
        seed=cell.seed,
        negatives=0,
        validation=None,
        device=study.matrix.device,
        save="auto",
    )
    report = xqg.train_retriever(settings)
    return {name: report[name] for name in COSTS if name in report}


# ---------------------------------------------------------------- scoring


def _settings(model: Path, cell: Cell) -> EncoderSettings:
    assert cell.task
    encoding = cell.task.encoding.model_dump()
    return EncoderSettings(
        name=model.name, backend="torch", model=str(model.resolve()), **encoding
    )


def _vectors(study: Study, questions: Any, settings: EncoderSettings) -> Vectors:
    queries = load(settings, "query", study.matrix.device)
    passages = load(settings, "passage", study.matrix.device)
    return Vectors.of(questions, queries.encode, passages.encode)


def _score(
    study: Study, cell: Cell, settings: EncoderSettings, pool: np.ndarray | None = None
) -> Record:
    """Return the ranks of the right candidates by a model's vectors, for each view."""
    assert cell.task
    folder = study.folder(f"{cell.task.name}/prepare")
    questions = read_questions(folder / "test.json")
    vectors = _vectors(study, questions, settings)
    ranks = rank_variants(questions, vectors, cell.task)
    if cell.settings["all_candidates"]:
        table = json.loads((folder / "pool.json").read_text("utf-8"))
        if pool is None:
            pool = load(settings, "passage", study.matrix.device).encode(table["texts"])
        ranks |= rank_in_pool(questions, vectors, pool, table["groups"], cell.task)
    return {"ranks": {view: of_view.tolist() for view, of_view in ranks.items()}}
