"""Locks: one process at a time writes an output, whatever becomes of it.

The kernel lets go of a lock when its process ends, however that ends: there are no stale ones.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xqg_pyserini.errors import BusyOutput, warn

LOCK = ".lock"  # in the folder that an output is written in, while a process writes there


def lock(descriptor: int, path: str | Path) -> bool:
    """Lock an open file, with which `path` is written, for this process; tell whether the file system has locks.

    Raises `BusyOutput` where another process has locked it.
    """
    from filelock import lock_descriptor

    try:
        if lock_descriptor(descriptor, blocking=False):
            return True
    except OSError:
        return False
    raise BusyOutput(f"{path}: another process is writing it; wait for that, or give another output", "output")


def stands(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def held(aside: Path, path: str | Path) -> Iterator[None]:
    """Hold a folder, in which `path` is written; it is made where it is not, and taken away if nothing is in it.

    Raises as `lock` does.  Where the file system has no locks, a warning says so.
    """
    descriptor = _hold(aside, path)
    try:
        yield
    finally:
        if stands(descriptor, aside / LOCK) and os.listdir(aside) == [LOCK]:
            (aside / LOCK).unlink()
            with suppress(OSError):  # another process has made it its own
                aside.rmdir()
        os.close(descriptor)


def _hold(aside: Path, path: str | Path) -> int:
    while True:
        try:
            aside.mkdir()
        except FileExistsError:
            with suppress(FileNotFoundError):  # gone since; the opening below says so too
                if not stat.S_ISDIR(aside.lstat().st_mode):
                    raise
        try:
            descriptor = os.open(aside / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # its holder has just taken it away
            continue
        try:
            if not lock(descriptor, path):
                warn(f"{path}: this file system has no locks; let no other job write there")
            if stands(descriptor, aside / LOCK):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
