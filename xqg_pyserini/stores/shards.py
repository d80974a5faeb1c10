"""Outputs in shards: which passages each holds, what its folder is called, what it says of the whole.

    OUTPUT/shard-00003-of-00008    a whole store or index, of a run of the passages in their order

Whatever is cut (generated queries, stores, indexes) is cut alike: shard 3 of 8 has the same passages everywhere.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from xqg_pyserini.cluster import CLUSTER_HELP, check_cluster
from xqg_pyserini.errors import UserError
from xqg_pyserini.settings import check_values, option


@dataclass(frozen=True)
class ShardSettings:
    """Into how many shards an output is cut, which of them are written, and where.

    On a cluster `num_shards` may be None: as many as suit it, which are joined afterwards (`retrieve.merge`).

    Raises:
        UserError: for shards that are out of range, a cluster of a kind that is not known, or without its package.
    """

    num_shards: int | None = option(
        None, "cut into N shards, and write a folder of them (default: no shards)", least=1, metavar="N"
    )
    shards: tuple[int, ...] | None = option(
        None, "write only these, counted from 0: 7, or 0-31 (default: all)", flag="shard", metavar="I"
    )
    cluster: str | None = option(None, CLUSTER_HELP, metavar="ray[:ADDRESS]")

    def __post_init__(self) -> None:
        check_values(self)
        check_chosen(self.num_shards, self.shards)
        if self.cluster is not None:
            check_cluster(self.cluster)
        elif self.num_shards is None:
            raise UserError("into how many shards?", "num_shards")

    @property
    def on_the_way(self) -> bool:
        """Tell whether the shards are on the way to a whole, and not what was asked for."""
        return self.num_shards is None


def check_chosen(number: int | None, shards: tuple[int, ...] | None) -> None:
    """Raise `UserError` for shards that are chosen of no number of shards, or out of range."""
    if shards is not None and number is None:
        raise UserError("some shards are chosen: of how many?", ("num_shards", "shards"))
    for shard in shards or ():
        if not 0 <= shard < (number or 0):
            raise UserError(f"shard {shard} of {number} shards; expected 0 to {(number or 0) - 1}", "shards")


@dataclass(frozen=True)
class Shards:
    """How `passages` are cut into `number` runs, whose sizes differ by one at most; `UserError` for more than these."""

    passages: int
    number: int

    def __post_init__(self) -> None:
        if self.number > max(1, self.passages):
            what = f"{self.number} shards of {self.passages} passages; expected {self.passages} at most"
            raise UserError(what, "num_shards")

    def bounds(self, shard: int) -> tuple[int, int]:
        """Return the first passage of a shard and the one after its last."""
        return (shard * self.passages // self.number, (shard + 1) * self.passages // self.number)

    def label(self, shard: int) -> str:
        """Return what names of a shard's files and folders end in."""
        width = max(5, len(str(self.number)))
        return f"{shard:0{width}d}-of-{self.number:0{width}d}"


class Shard(Struct, frozen=True):
    """What a store or an index that is one of several shards records of the whole."""

    number: Annotated[int, Meta(ge=0)]
    of: Annotated[int, Meta(ge=1)]
    passages: Annotated[int, Meta(ge=1)]  # of all shards
    ids_sha256: str  # of the ids of all, in their order

    def __post_init__(self) -> None:
        if not self.number < self.of <= self.passages:
            raise ValueError(f"shard {self.number} of {self.of} of {self.passages} passages")

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"shard {self.number} of {self.of}"

    @property
    def rows(self) -> range:
        """Return its passages' numbers in the whole."""
        return range(*Shards(self.passages, self.of).bounds(self.number))

    @property
    def folder(self) -> str:
        """Return the name of its folder."""
        return f"shard-{Shards(self.passages, self.of).label(self.number)}"


def planned(settings: ShardSettings, passages: int, ids_sha256: str) -> list[Shard]:
    """Return the chosen shards; raises `UserError` as `Shards`."""
    assert settings.num_shards is not None
    number = Shards(passages, settings.num_shards).number
    chosen = range(number) if settings.shards is None else sorted(set(settings.shards))
    return [Shard(i, number, passages, ids_sha256) for i in chosen]


def missing(found: Collection[int], number: int) -> str:
    """Name the shards that are not among those found; "" where all are there."""
    lost = [str(i) for i in range(number) if i not in found]
    return ", ".join(lost[:10]) + (f" and {len(lost) - 10} more" if len(lost) > 10 else "")


def check_complete(folder: Path) -> None:
    """Raise `UserError` unless a folder holds all shards of one number, by their names."""
    names = [path.name.removeprefix("shard-").split("-of-") for path in shard_folders(folder)]
    if not all(part.isdecimal() for name in names for part in name) or len({of for _, of in names}) != 1:
        raise UserError(f"{folder}: holds shards of more than one whole; give each whole a folder")
    number = int(names[0][1])
    if int(names[-1][0]) >= number:
        raise UserError(f"{shard_folders(folder)[-1]}: there is no such shard of {number}; remove it")
    if lost := missing({int(i) for i, _ in names}, number):
        raise UserError(f"{folder}: of {number} shards some are missing: {lost}")


def check_one_whole(folders: Sequence[Path], shards: Sequence[Shard | None]) -> None:
    """Raise `UserError` where a folder records that it is another shard than its place says, or of another whole.

    `shards` are what the folders, in their order, record; None for one that records nothing.
    """
    first = next((shard for shard in shards if shard is not None), None)
    for place, (folder, shard) in enumerate(zip(folders, shards, strict=True)):
        if shard is None or first is None:
            continue
        if (shard.number, shard.of) != (place, len(folders)):
            what = f"it is {shard}, and not {place} of {len(folders)}"
            raise UserError(f"{folder}: {what}; give it its own name")
        if (shard.passages, shard.ids_sha256) != (first.passages, first.ids_sha256):
            raise UserError(f"{folder}: a shard of other passages than the others; make it again")


def shard_folders(folder: Path) -> list[Path]:
    """Return the shards that a folder holds, by their names."""
    return sorted(path for path in folder.glob("shard-*-of-*") if path.is_dir())
