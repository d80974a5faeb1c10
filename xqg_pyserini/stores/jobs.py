"""Jobs that can be killed at any moment, and go on where they were."""

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import clear, held_folder, publish, write_json
from xqg_pyserini.metadata import difference

CHECKPOINT_SECONDS = 20.0


class Job:
    """A folder being filled step by step; see `resumable`."""

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self.path, self._description = path, description
        self._saved = time.monotonic()
        self.done = 0
        self.state: dict[str, Any] = {}

    def begin(self, encoder: dict[str, Any]) -> bool:
        """Tell whether to start at the first step: nothing is done, or by other weights."""
        if self.state.get("encoder") != encoder:
            self.done = 0
        self.state["encoder"] = encoder
        return not self.done

    @property
    def due(self) -> bool:
        """Tell whether the last checkpoint is long enough ago for another."""
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def save(self, done: int, matrices: Iterable[np.memmap] = ()) -> None:
        """Write the matrices through to disk, then note that `done` steps are finished."""
        for matrix in matrices:
            matrix.flush()
        progress = {"job": self._description, "done": done, "state": self.state}
        self.done, self._saved = done, time.monotonic()  # first: an interruption after the writing keeps the folder
        write_json(self.path / "progress.json", progress)


@contextmanager
def resumable(path: str | Path, description: dict[str, Any], overwrite: bool, inputs: Iterable[Any]) -> Iterator[Job]:
    """Give a folder beside `path` to fill, renamed to `path` when the block ends well.

    A job that was killed finds its folder again if its `description` (settings, checksums of the
    inputs) is the same: then `done` and `state` are as last saved.  Otherwise it starts afresh, and a warning says why.
    A `UserError` leaves nothing behind; any other end leaves what was saved.  Raises as
    `held_folder` does: one process at a time writes to `path`.
    """
    with held_folder(path, overwrite, inputs) as aside:
        job = Job(aside, description)
        try:
            progress = json.loads((aside / "progress.json").read_text("utf-8"))
            now = json.loads(json.dumps(description))
            if progress["job"] != now and progress["done"]:
                differ = difference("it", progress["job"], now).removeprefix("it.")
                warn(f"{path}: what was begun there is given up, since another job began it ({differ})")
            elif progress["job"] == now:
                done, state = progress["done"], progress["state"]
                if isinstance(done, int) and isinstance(state, dict):
                    job.done, job.state = done, state
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        if not job.done and not job.state:
            clear(aside)
        try:
            yield job
        except BaseException as error:
            if isinstance(error, UserError) or not job.done:
                clear(aside)
            raise
        (aside / "progress.json").unlink(missing_ok=True)
        for stray in aside.glob(".*.partial"):  # of a write that was killed, or put aside by a checkpoint
            shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
        publish(aside, path)
