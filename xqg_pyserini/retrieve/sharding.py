"""Shards being written, here or on a cluster; what stands of them already, and what is damaged of that."""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tqdm import tqdm

from xqg_pyserini.cluster import BUSY_SECONDS, Cluster, Place, connected
from xqg_pyserini.errors import BusyOutput, UserError, warn
from xqg_pyserini.files import aside_of, check_output, clear, held_folder
from xqg_pyserini.locks import held
from xqg_pyserini.metadata import difference, read_json
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve.check import check_folder
from xqg_pyserini.stores import Shard, ShardSettings, planned, shard_folders

SHARDS_A_WORKER = (
    4  # on a cluster, where the user does not say: what a death costs, and how long the last one is waited for
)
LEAST_PASSAGES = 512  # of a shard then
_AGAIN = "make it again"


@dataclass(frozen=True)
class Replacing:
    """What may be replaced: anything, or what the same command wrote and was damaged since.

    Where shards are only on the way to a whole (`on_the_way`), those of another command are replaced too, without a
    word.
    """

    overwrite: bool = False
    repair: bool = False
    on_the_way: bool = False

    @property
    def allowed(self) -> bool:
        """Tell whether an output that does not `stand` may be replaced."""
        return self.overwrite or self.repair or self.on_the_way

    def stands(self, path: Path, file: str, expected: Callable[[], Mapping[str, Any]], shard: Shard | None) -> bool:
        """Tell whether an output is there and whole, so that nothing is to be done; False: it is to be written.

        Args:
            path: the folder.
            file: in it, the JSON that says what it is.
            expected: tells what that must say if the same command wrote it: of an object some of it, or a list of all
                of its keys.
            shard: what it is of a whole: what stands of that is gone on with, and not refused.

        Raises:
            UserError: for a folder of something else; for a damaged shard, without `repair`.
        """
        if self.overwrite or not (shard or self.repair) or not (path.is_dir() and any(path.iterdir())):
            return False  # what may not be replaced is refused by whoever writes it
        if not (path / file).is_file():
            check_output(path, overwrite=False)
        problems = self._problems(path, path / file, json.loads(json.dumps(expected())))
        if problems and not self.allowed:
            raise UserError(problems[0], "repair")
        for problem in problems if self.repair else ():
            warn(f"repaired: {problem}")
        return not problems

    def _problems(self, path: Path, file: Path, expected: dict[str, Any]) -> list[str]:
        try:
            before = read_json(file, dict[str, Any], _AGAIN)
        except UserError as error:
            return [str(error)]
        for key, now in expected.items():
            if not _covers(before.get(key), now):
                differ = difference(key, before.get(key), now)
                if self.on_the_way:
                    return [f"{file}: {differ}"]
                remedy = "give another output, or overwrite this one"
                raise UserError(f"{file}: {differ}; {remedy}", ("output", "overwrite"))
        return [checked.problem for checked in check_folder(path) if checked.problem]


def _covers(before: Any, now: Any) -> bool:
    if isinstance(before, dict) and isinstance(now, dict):
        return all(before.get(key) == value for key, value in now.items())
    if isinstance(before, dict) and isinstance(now, list):
        return list(before) == now
    return bool(before == now)


class WrittenShards(NamedTuple):
    """What became of the shards that were asked for."""

    output: str
    num_shards: int
    shards: list[str]  # the folders of those asked for
    written: list[str]  # of these, those that were written now; the others were there


class Job(Protocol):
    """What is cut into shards; on a cluster each worker has its own, sent there by pickling."""

    def write(self, output: Path, replacing: Replacing, shard: Shard | None = None) -> bool:
        """Write the whole, or a shard; tell whether it had to be."""

    @property
    def computing(self) -> Computing:
        """Return where and how it computes."""

    def prepare(self, device: str, folder: Path) -> None:
        """Find out once what every shard takes, before the job goes to workers on a device that all see a folder."""


def write_shards(
    output: str | Path, settings: ShardSettings, passages: int, ids_sha256: str, job: Job, replacing: Replacing
) -> WrittenShards:
    """Write the chosen shards, here one after the other, on a cluster many at a time.

    Raises:
        UserError: for a folder that holds something other than shards of this number; on a cluster also where another
            command has one write there.
        LostWorkersError: where a cluster could not go on.
    """
    folder = Path(output)
    if settings.cluster is None:
        plan = _planned(folder, settings, passages, ids_sha256)
        written = [shard.folder for shard in plan if job.write(folder / shard.folder, replacing, shard)]
    else:
        with held_folder(folder, True) as common, connected(settings.cluster) as cluster:
            place = cluster.place(job.computing.device, job.computing.threads)
            if settings.num_shards is None:
                settings = replace(settings, num_shards=_number(folder, passages, cluster.workers(place)))
            plan = _planned(folder, settings, passages, ids_sha256)
            try:
                job.prepare(cluster.device(job.computing.device), common)
                written = _write_on(cluster, place, folder, plan, partial(_write, job, replacing))
            finally:
                clear(common)
    assert settings.num_shards is not None
    return WrittenShards(str(output), settings.num_shards, [shard.folder for shard in plan], written)


def _planned(folder: Path, settings: ShardSettings, passages: int, ids_sha256: str) -> list[Shard]:
    """Return the chosen shards; raises as `write_shards`."""
    plan = planned(settings, passages, ids_sha256)
    if folder.is_dir():
        every = {shard.folder for shard in planned(replace(settings, shards=None), passages, ids_sha256)}
        other = sorted(p.name for p in folder.iterdir() if p.name not in every and not p.name.startswith("."))
        if other:
            what = f"holds {other[0]}, which is none of {settings.num_shards} shards"
            raise UserError(f"{folder}: {what}; give another output", ("output", "num_shards"))
    return plan


def _number(folder: Path, passages: int, workers: int) -> int:
    """Return into how many shards to cut for a cluster: as what is there already, or some for each worker."""
    before = {path.name.split("-of-")[-1] for path in shard_folders(folder)}
    if len(before) == 1 and (one := before.pop()).isdecimal() and 0 < int(one) <= passages:
        return int(one)
    for path in shard_folders(folder):
        shutil.rmtree(path)
    return max(1, min(SHARDS_A_WORKER * workers, passages // LEAST_PASSAGES))


def _write(job: Job, replacing: Replacing, path: Path, shard: Shard) -> bool:
    return job.write(path, replacing, shard)


def _write_on(
    cluster: Cluster, place: Place, folder: Path, plan: list[Shard], write: Callable[[Path, Shard], bool]
) -> list[str]:
    """Have a cluster write shards; return the names of those that had to be."""
    items = [(folder / shard.folder, shard) for shard in plan]
    left = {i: path for i, (path, _) in enumerate(items)}
    written = set()
    try:
        with tqdm(total=len(plan), desc="on the cluster", unit=" shards", disable=None) as bar:
            for number, had_to in cluster.run(write, items, [str(path) for path, _ in items], place):
                del left[number]
                written.update([plan[number].folder] if had_to else [])
                bar.update()
    except UserError:
        for path in left.values():  # a worker that is ended clears nothing away
            _give_up(path)
        with suppress(OSError):  # it holds something
            folder.rmdir()
        raise
    return [shard.folder for shard in plan if shard.folder in written]


def _give_up(path: Path) -> None:
    """Take away what was begun of a shard, once the worker that was ended lets go of it."""
    until = time.monotonic() + BUSY_SECONDS
    while aside_of(path).exists():
        try:
            with held(aside_of(path), path):
                clear(aside_of(path))
        except BusyOutput:
            if time.monotonic() > until:
                return
            time.sleep(0.1)
