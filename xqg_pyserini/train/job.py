"""What every training does around its loop: its settings, its folder, its record.

This module knows settings and files; the caller passes in what is trained, and how it is written.
"""

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xqg_pyserini import __version__
from xqg_pyserini.data import describe_sources
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import write_json
from xqg_pyserini.metadata import read_json
from xqg_pyserini.models import tuning
from xqg_pyserini.stores import Job, resumable
from xqg_pyserini.train.settings import TrainingSettings

if TYPE_CHECKING:
    from xqg_pyserini.train.trainer import Trainer

RECORD = "training.json"


def run_training(
    settings: TrainingSettings,
    parts: dict[str, Any],
    sources: Iterable[str | None],
    protected: Iterable[str],
    overwrite: bool,
    train: Callable[[Job], dict[str, Any]],
) -> dict[str, Any]:
    """Train into `settings.output`; return what `training.json` holds.

    A training that was killed goes on at its last checkpoint; one that is done is not done again.  `train` fills the
    job's folder, and returns what it measured.  `parts` are what else decides the result: the base's fingerprint, a
    prompt, …; `sources` what is read (None: unused), whose checksums are kept; the output must replace neither these
    nor what is `protected`.
    """
    read = [source for source in sources if source is not None]
    description: dict[str, Any] = {
        "xqg_pyserini": __version__,
        "settings": settings.record(),
        **parts,
        "sources": {source: describe_sources(source) for source in read},
    }
    with contextlib.suppress(UserError):
        record = read_json(Path(settings.output) / RECORD, dict[str, Any], "")
        if {key: record.get(key) for key in description} == json.loads(json.dumps(description)):
            return record  # of this very training, which is done
    with resumable(settings.output, description, overwrite, [*read, *protected]) as job:
        record = {**description, **train(job)}
        write_json(job.path / RECORD, record)
    return record


def fit(trainer: "Trainer", tuned: Any, folder: Job, write: Callable[[Path], None], **known: Any) -> dict[str, Any]:
    """Train a model and write it into the job's folder; return what is recorded: what was trained, and at what cost.

    `tuned` is what `tuning.tune` returned, or one of the two where they are trained alike; `known` is recorded too.
    """
    measured = trainer.fit()
    trained = tuning.trainable(trainer.tuned.eval())
    modules = tuning.module_table(tuned)
    write(folder.path)
    trainer.clear()
    return {
        "method": trainer.settings.tuning.method,
        "trainable_parameters": sum(p.numel() for p in trained.values()),
        "parameters": sum(p.numel() for p in trainer.tuned.parameters()),
        **measured,
        "modules": modules,
        **known,
        "stored_bytes": sum(p.stat().st_size for p in folder.path.rglob("*.safetensors")),
    }


def merges(settings: TrainingSettings, where_it_can: bool = False) -> bool:
    """Tell whether the whole model is written, not the adapter alone.

    With `where_it_can`, "auto" means the whole model for methods that can be merged into it.
    """
    method = settings.tuning.method
    whole = where_it_can and settings.save == "auto" and method not in tuning.UNMERGED
    return whole or settings.save == "merged" or method in tuning.WHOLE


def to_device(batch: dict[str, Any], device: str) -> dict[str, Any]:
    """Return a batch, with the batches in it, on a device."""
    return {
        key: to_device(value, device) if isinstance(value, dict) else value.to(device) for key, value in batch.items()
    }
