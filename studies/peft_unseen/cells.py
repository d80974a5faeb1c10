"""One cell: make it, and keep of it what the tables need.

A cell that is done is a folder, put in place when it is whole, with cell.json: settings, outcome, time and machine.
"""

import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

import xqg_pyserini as xqg
from peft_unseen.plan import RECORD, Cell, Record, Study
from peft_unseen.ranking import Vectors, mean_reciprocal_rank, rank_views
from peft_unseen.texts import Questions, prepare


def work(study: Study, cell: Cell, log: Path) -> None:
    """Do a cell, whose needs are done, and put its folder in place.

    This process is its own, so that its peak memory is too; it ends where its parent is killed.
    """
    import torch

    parent = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: wait([parent]) and os._exit(1), daemon=True).start()
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    start, final = time.monotonic(), study.folder(cell.name)
    aside = final.with_name(f".{final.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    aside.mkdir(parents=True)
    try:
        record = {"settings": cell.settings, **_result(study, cell, aside)}
    except xqg.UserError as error:
        sys.exit(str(error))
    if not study.matrix.keep:
        shutil.rmtree(aside / "trained", ignore_errors=True)
    record["seconds"] = round(time.monotonic() - start, 2)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    record["host"] = {"gpu": gpu, "threads": torch.get_num_threads(), "torch": torch.__version__}
    (aside / RECORD).write_text(json.dumps(record, ensure_ascii=False), "utf-8")
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)


def _result(study: Study, cell: Cell, folder: Path) -> Record:
    """Return what is recorded of a cell; what else it makes goes into its folder."""
    task, condition, settings = cell.task, cell.condition, cell.settings
    made = [study.folder(need) / "model" for need in cell.needs if need.startswith("backbones/")]
    model, device = (made or [study.model])[0], study.matrix.device
    texts = study.folder(f"{task.name}/prepare") if task else None

    def train(rate: float) -> tuple[Record, xqg.Encoder]:
        tuned = xqg.RetrieverSettings(
            model=str(model.resolve()),
            data=(str(texts / "train.jsonl"),),
            output=str(folder / "trained"),
            tuning=xqg.TuningSettings(**settings["tuning"]),
            **settings["encoding"],
            **settings["training"],
            learning_rate=rate,
            seed=settings["seed"],
            negatives=0,
            device=device,
            save="auto",
        )
        precision = settings["encoding"].get("precision", "fp32")
        return xqg.train_retriever(tuned), xqg.Encoder(folder / "trained", device=device, precision=precision)

    def rank(encoder: xqg.Encoder) -> dict[str, list[int]]:
        questions = Questions.read(texts / "test.json")
        vectors = Vectors.of(questions, encoder, with_pool=settings["all_candidates"])
        return {view: of.tolist() for view, of in rank_views(questions, vectors, task).items()}

    match cell.kind:
        case "prepare":
            encoder = xqg.Encoder(model, device=device, **task.encoding)
            return prepare(task, study.data, folder, study.matrix.perturbations, encoder)
        case "backbone":
            layers, seed = condition.reinitialise, condition.seed
            return {"new": reinitialise(study.model, folder / "model", layers, seed)}
        case "untuned":
            return {"ranks": rank(xqg.Encoder(model, device=device, **task.encoding))}
        case "search":
            try:
                training, encoder = train(settings["learning_rate"])
                questions = Questions.read(texts / "validation.json")
                mrr = mean_reciprocal_rank(questions, Vectors.of(questions, encoder))
            except xqg.UserError as error:  # too high a rate gives NaN
                return {"mrr": 0.0, "failed": str(error)}
            return {"mrr": mrr, "training": training}
    rate, searches = study.learning_rate(cell), study.searches(cell)
    if "failed" in searches[rate]:  # the best of them
        raise xqg.UserError(f"no learning rate trains: {searches[rate]['failed']}")
    training, encoder = train(rate)
    return {"learning_rate": rate, "training": training, "ranks": rank(encoder)}


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
