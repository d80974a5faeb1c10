"""What every training does around its loop: what it is told by, its folder, its record.

This module knows settings and files; what is trained, and how it is written, is handed in.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xqg_pyserini import __version__
from xqg_pyserini.files import describe_sources, write_json
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

    A training that was killed goes on at its last checkpoint; one that is done is not done again.

    Args:
        settings: of the training.
        parts: what else decides the result: the base's fingerprint, a prompt, …
        sources: files, folders and patterns that are read, whose checksums are kept; None: unused.
        protected: further paths that the output must not replace.
        overwrite: replace what `settings.output` holds.
        train: fills the job's folder, and returns what it measured.
    """
    read = [source for source in sources if source is not None]
    description: dict[str, Any] = {
        "xqg_pyserini": __version__,
        "settings": settings.record(),
        **parts,
        "sources": {source: describe_sources(source) for source in read},
    }
    finished = _finished(Path(settings.output), description)
    if finished is not None:
        return finished
    with resumable(settings.output, description, overwrite, [*read, *protected]) as job:
        record = {**description, **train(job)}
        write_json(job.path / RECORD, record)
    return record


def _finished(output: Path, description: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of this very training, if it is done."""
    try:
        record = json.loads((output / RECORD).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    same = {key: record.get(key) for key in description} == json.loads(json.dumps(description))
    return record if same else None


def fit(trainer: "Trainer", tuned: Any, folder: Job, write: Callable[[Path], None], **known: Any) -> dict[str, Any]:
    """Train a model and write it into the job's folder.

    Args:
        trainer: the loop, around the model.
        tuned: what `tuning.tune` returned, or one of the two where they are trained alike.
        folder: the job's.
        write: writes the model into a folder.
        known: what else is recorded.

    Returns:
        What is recorded of the training: what was trained of the model, and at what cost.
    """
    measured = trainer.fit()
    model = trainer.tuned.eval()
    parameters = {
        "trainable_parameters": sum(p.numel() for p in tuning.trainable(model).values()),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    modules = tuning.module_table(tuned)
    write(folder.path)
    trainer.clear()
    return {
        "method": trainer.settings.tuning.method,
        **parameters,
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
    if settings.save == "auto" and where_it_can and method not in tuning.UNMERGED:
        return True
    return settings.save == "merged" or method in tuning.WHOLE


def to_device(batch: dict[str, Any], device: str) -> dict[str, Any]:
    """Return a batch, with the batches in it, on a device."""
    return {
        key: to_device(value, device) if isinstance(value, dict) else value.to(device) for key, value in batch.items()
    }
