"""One cell: make it, and keep of it what the tables need.

A cell that is done is a folder with cell.json: its settings, what came out, what it took, on what.
It appears under its name only when it is whole.
"""

import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

import xqg_pyserini as xqg
from peft_unseen.plan import RECORD, Cell, Record, Study
from peft_unseen.ranking import Vectors, mean_reciprocal_rank, rank_views
from peft_unseen.texts import Questions, prepare

COSTS = (  # figures of a training's report that are kept
    *("trainable_parameters", "parameters", "peak_memory_bytes", "seconds_per_step"),
    *("stored_bytes", "steps", "loss"),
)


def work(study: Study, cell: Cell, threads: int, log: Path) -> None:
    """Do a cell in this process, which is its own, so that its peak memory is its own too.

    A process whose parent is killed ends: a cell half done leaves nothing that counts.
    """
    import threadpoolctl
    import torch

    threading.Thread(target=_die_with_parent, daemon=True).start()
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if threads:
        torch.set_num_threads(threads)
        threadpoolctl.threadpool_limits(threads)
    try:
        make(study, cell)
    except xqg.UserError as error:
        sys.exit(str(error))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def make(study: Study, cell: Cell) -> None:
    """Do a cell, whose needs are done, and put its folder in place; raises `UserError`."""
    import torch

    start = time.monotonic()
    final = study.folder(cell.name)
    aside = final.with_name(f".{final.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    aside.mkdir(parents=True)
    record = {"settings": cell.settings, **_MAKERS[cell.kind](study, cell, aside)}
    record["seconds"] = round(time.monotonic() - start, 2)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    record["host"] = {"gpu": gpu, "threads": torch.get_num_threads(), "torch": torch.__version__}
    (aside / RECORD).write_text(json.dumps(record, ensure_ascii=False), "utf-8")
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)


# ---------------------------------------------------------------- what each kind of cell does


def _prepare(study: Study, cell: Cell, folder: Path) -> Record:
    assert cell.task
    encoder = xqg.Encoder(study.model, device=study.matrix.device, **cell.task.encoding)
    spoil = study.matrix.perturbations
    return prepare(cell.task, study.data, folder, spoil, encoder.encode_passages)


def _backbone(study: Study, cell: Cell, folder: Path) -> Record:
    assert cell.condition
    layers, seed = cell.condition.reinitialise, cell.condition.seed
    return {"reinitialised": reinitialise(study.model, folder / "model", layers, seed)}


def reinitialise(model: Path, folder: Path, layers: int, seed: int) -> list[str]:
    """Write a copy of a model whose last layers have new weights, by the model's own rule.

    Returns the names of the weights that changed; raises `UserError` where there are fewer layers.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    base = AutoModel.from_pretrained(model, dtype=torch.float32)
    stack = base.encoder.layer
    if layers > len(stack):
        raise xqg.UserError(f"{model}: has {len(stack)} layers; {layers} cannot be new")
    before = {name: weight.detach().clone() for name, weight in base.named_parameters()}
    torch.manual_seed(seed)
    for layer in stack[-layers:]:
        for weight in layer.parameters():
            weight._is_hf_initialized = False  # or transformers leaves it as it is
        layer.apply(base._init_weights)
    base.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    after = dict(base.named_parameters())
    return [name for name, weight in before.items() if not torch.equal(weight, after[name])]


def _model(study: Study, cell: Cell) -> Path:
    assert cell.condition
    if not cell.condition.reinitialise:
        return study.model
    return study.folder(f"backbones/{cell.condition.name}") / "model"


def _untuned(study: Study, cell: Cell, folder: Path) -> Record:
    assert cell.task
    encoder = xqg.Encoder(_model(study, cell), device=study.matrix.device, **cell.task.encoding)
    return _score(study, cell, encoder)


def _search(study: Study, cell: Cell, folder: Path) -> Record:
    """Train shortly, and score validation questions; a training that breaks off scores 0."""
    assert cell.task
    try:
        report = _train(study, cell, folder / "trained", cell.settings["learning_rate"])
        encoder = xqg.Encoder(folder / "trained", device=study.matrix.device)
        questions = Questions.read(study.folder(f"{cell.task.name}/prepare") / "validation.json")
        mrr = mean_reciprocal_rank(questions, Vectors.of(questions, encoder))
    except xqg.UserError as error:  # too high a rate gives NaN
        return {"mrr": 0.0, "failed": str(error)}
    finally:
        shutil.rmtree(folder / "trained", ignore_errors=True)
    return {"mrr": mrr, "training": report}


def _training(study: Study, cell: Cell, folder: Path) -> Record:
    rate, searches = study.learning_rate(cell), study.searches(cell)
    assert rate is not None, "the searches come first"
    if "failed" in searches[rate]:  # the best of them
        raise xqg.UserError(f"no learning rate trains: {searches[rate]['failed']}")
    report = _train(study, cell, folder / "trained", rate)
    encoder = xqg.Encoder(folder / "trained", device=study.matrix.device)
    record = {"learning_rate": rate, "training": report, **_score(study, cell, encoder)}
    if not study.matrix.keep:
        shutil.rmtree(folder / "trained")
    return record


_MAKERS: dict[str, Callable[[Study, Cell, Path], Record]] = {
    "prepare": _prepare,
    "backbone": _backbone,
    "untuned": _untuned,
    "search": _search,
    "train": _training,
}


def _train(study: Study, cell: Cell, output: Path, rate: float) -> Record:
    """Train a retriever as the cell says; return its figures."""
    assert cell.task
    settings = xqg.RetrieverSettings(
        model=str(_model(study, cell).resolve()),
        data=(str(study.folder(f"{cell.task.name}/prepare") / "train.jsonl"),),
        output=str(output),
        tuning=xqg.TuningSettings(**cell.settings["tuning"]),
        **cell.settings["encoding"],
        **cell.settings["training"],
        learning_rate=rate,
        seed=cell.seed,
        negatives=0,
        device=study.matrix.device,
        save="auto",
    )
    report = xqg.train_retriever(settings)
    return {name: report[name] for name in COSTS if name in report}


def _score(study: Study, cell: Cell, encoder: xqg.Encoder) -> Record:
    """Return the ranks of the right candidates, for each view."""
    assert cell.task
    questions = Questions.read(study.folder(f"{cell.task.name}/prepare") / "test.json")
    vectors = Vectors.of(questions, encoder, with_pool=cell.settings["all_candidates"])
    ranks = rank_views(questions, vectors, cell.task)
    return {"ranks": {view: np.asarray(of_view).tolist() for view, of_view in ranks.items()}}
