"""What stands already of an output: shards that another call or machine wrote, and what is damaged of them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import check_output
from xqg_pyserini.metadata import difference, read_json
from xqg_pyserini.retrieve.check import check_folder
from xqg_pyserini.stores import Shard, ShardSettings, planned

_AGAIN = "make it again"


@dataclass(frozen=True)
class Replacing:
    """What may be replaced: anything, or what the same command wrote and was damaged since."""

    overwrite: bool = False
    repair: bool = False

    @property
    def allowed(self) -> bool:
        """Tell whether an output that does not `stand` may be replaced."""
        return self.overwrite or self.repair

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
        if problems and not self.repair:
            raise UserError(problems[0], "repair")
        for problem in problems:
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


def write_shards(
    output: str | Path, settings: ShardSettings, passages: int, ids_sha256: str, write: Callable[[Path, Shard], bool]
) -> WrittenShards:
    """Write the chosen shards, one after the other; `write` tells whether it had to.

    Raises:
        UserError: for a folder that holds something other than shards of this number.
    """
    folder, plan = Path(output), planned(settings, passages, ids_sha256)
    if folder.is_dir():
        every = {shard.folder for shard in planned(ShardSettings(settings.num_shards), passages, ids_sha256)}
        other = sorted(p.name for p in folder.iterdir() if p.name not in every and not p.name.startswith("."))
        if other:
            what = f"holds {other[0]}, which is none of {settings.num_shards} shards"
            raise UserError(f"{folder}: {what}; give another output", ("output", "num_shards"))
    written = [shard.folder for shard in plan if write(folder / shard.folder, shard)]
    return WrittenShards(str(output), settings.num_shards, [shard.folder for shard in plan], written)
