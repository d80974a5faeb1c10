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
from multiprocessing.connection import wait
from pathlib import Path

import xqg_pyserini as xqg
from peft_unseen.plan import RECORD, Cell, Record, Study
from peft_unseen.ranking import Vectors, mean_reciprocal_rank, rank_views
from peft_unseen.texts import Questions, prepare


def work(study: Study, cell: Cell, log: Path) -> None:
    """Do a cell in this process, which is its own, so that its peak memory is its own too.

    A process whose parent is killed ends: a cell half done leaves nothing that counts.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        make(study, cell)
    except xqg.UserError as error:
        sys.exit(str(error))


def _die_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def make(study: Study, cell: Cell) -> None:
    """Do a cell, whose needs are done, and put its folder in place; raises `UserError`."""
    import torch

    start = time.monotonic()
    final = study.folder(cell.name)
    aside = final.with_name(f".{final.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    aside.mkdir(parents=True)
    record = {"settings": cell.settings, **_Making(study, cell, aside).result()}
    if not study.matrix.keep:
        shutil.rmtree(aside / "trained", ignore_errors=True)
    record["seconds"] = round(time.monotonic() - start, 2)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    record["host"] = {"gpu": gpu, "threads": torch.get_num_threads(), "torch": torch.__version__}
    (aside / RECORD).write_text(json.dumps(record, ensure_ascii=False), "utf-8")
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)


class _Making:
    """A cell that is being made, in a folder of its own."""

    def __init__(self, study: Study, cell: Cell, folder: Path) -> None:
        self.study, self.cell, self.task, self.folder = study, cell, cell.task, folder
        self.trained, self.device = folder / "trained", study.matrix.device
        new = cell.condition is not None and cell.condition.reinitialise
        backbone = study.folder(f"backbones/{cell.condition.name}") / "model" if new else None
        self.model = backbone or study.model

    def result(self) -> Record:
        """Return what is recorded; what else is made goes into the folder."""
        match self.cell.kind:
            case "prepare":
                perturbations = self.study.matrix.perturbations
                data, encoder = self.study.data, self._backbone()
                return prepare(self.task, data, self.folder, perturbations, encoder)
            case "backbone":
                layers, seed = self.cell.condition.reinitialise, self.cell.condition.seed
                return {"new": reinitialise(self.study.model, self.folder / "model", layers, seed)}
            case "untuned":
                return self._score(self._backbone())
            case "search":
                return self._search(self.cell.settings["learning_rate"])
        rate, searches = self.study.learning_rate(self.cell), self.study.searches(self.cell)
        if "failed" in searches[rate]:  # the best of them
            raise xqg.UserError(f"no learning rate trains: {searches[rate]['failed']}")
        training = self._train(rate)
        scored = self._score(xqg.Encoder(self.trained, device=self.device))
        return {"learning_rate": rate, "training": training, **scored}

    def _search(self, rate: float) -> Record:
        """Train shortly, and score validation questions; a training that breaks off scores 0."""
        try:
            training = self._train(rate)
            questions = self._questions("validation")
            vectors = Vectors.of(questions, xqg.Encoder(self.trained, device=self.device))
            return {"mrr": mean_reciprocal_rank(questions, vectors), "training": training}
        except xqg.UserError as error:  # too high a rate gives NaN
            return {"mrr": 0.0, "failed": str(error)}

    def _backbone(self) -> xqg.Encoder:
        return xqg.Encoder(self.model, device=self.device, **self.task.encoding)

    def _questions(self, side: str) -> Questions:
        return Questions.read(self.study.folder(f"{self.task.name}/prepare") / f"{side}.json")

    def _train(self, rate: float) -> Record:
        """Train a retriever as the cell says; return its figures."""
        settings = self.cell.settings
        data = self.study.folder(f"{self.task.name}/prepare") / "train.jsonl"
        return xqg.train_retriever(
            xqg.RetrieverSettings(
                model=str(self.model.resolve()),
                data=(str(data),),
                output=str(self.trained),
                tuning=xqg.TuningSettings(**settings["tuning"]),
                **settings["encoding"],
                **settings["training"],
                learning_rate=rate,
                seed=settings["seed"],
                negatives=0,
                device=self.device,
                save="auto",
            )
        )

    def _score(self, encoder: xqg.Encoder) -> Record:
        """Return the ranks of the right candidates, for each view."""
        questions = self._questions("test")
        vectors = Vectors.of(questions, encoder, with_pool=self.cell.settings["all_candidates"])
        ranks = rank_views(questions, vectors, self.task)
        return {"ranks": {view: of_view.tolist() for view, of_view in ranks.items()}}


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
