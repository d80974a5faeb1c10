"""Files: their lines, read strictly, and outputs that appear only when they are whole.

What is read is UTF-8 (with or without a byte-order mark), plain or gzip whatever the file is
called, with Unix or Windows line ends.  What is written is written aside, hidden, and renamed.
"""

import errno
import glob
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from xqg_pyserini.errors import UserError
from xqg_pyserini.locks import LOCK, held, lock, stands

SUFFIXES = (".jsonl", ".json", ".tsv", ".jsonl.gz", ".json.gz", ".tsv.gz")
GZIP = b"\x1f\x8b"  # what a gzip file begins with
Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Line(NamedTuple):
    """A line of an input file, and where it stands."""

    path: Path
    number: int
    text: str

    def error(self, message: str, about: str | Sequence[str] = ()) -> UserError:
        """Return a `UserError` that says where this line stands."""
        return UserError(f"{self.path}, line {self.number}: {message}", about)


# ---------------------------------------------------------------- reading


def expand(source: str | Path) -> list[Path]:
    """Return the files that a path, a directory or a glob pattern stands for, sorted by name.

    In a directory only files with the endings of `SUFFIXES` are taken; hidden files and
    `meta.json` are not.  Raises `UserError` where nothing is found.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        taken = (p for p in path.glob("[!.]*") if p.is_file() and p.name.endswith(SUFFIXES))
        files = sorted(p for p in taken if p.name != "meta.json")
        if not files:
            raise UserError(f"{path}: no file in this directory ends in {', '.join(SUFFIXES)}")
        return files
    files = sorted(Path(p) for p in glob.glob(str(source)) if Path(p).is_file())
    if not files:
        raise UserError(f"{source}: no such file or directory")
    return files


def find_input(source: str | Path, folder: Path) -> Path | None:
    """Return where a recorded input is: as it stands, or else from `folder`; None for nowhere.

    Like `expand`, it takes patterns; what it returns can be handed to `expand`.
    """
    for path in (Path(source), folder / source):
        if path.exists() or glob.glob(str(path)):
            return path
    return None


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a text file that hold more than white space, without their ends."""
    number = 0
    try:
        with open(path, "rb") as raw:
            zipped = raw.peek(2)[:2] == GZIP
            stream: Iterable[bytes] = gzip.GzipFile(fileobj=raw) if zipped else raw
            for data in stream:
                number += 1
                if number == 1:
                    data = data.removeprefix(b"\xef\xbb\xbf")
                text = data.decode("utf-8").rstrip("\r\n")
                if text and not text.isspace():
                    yield Line(path, number, text)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line {number}: not UTF-8 (byte {error.start + 1} of the line); convert it") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        what = "the gzip stream is damaged or ends early; make or download the file again"
        raise UserError(f"{path}, after line {number}: {what}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def is_gzip(path: Path) -> bool:
    """Tell whether a file is compressed, whatever it is called."""
    with open(path, "rb") as file:
        return file.read(2) == GZIP


# ---------------------------------------------------------------- writing


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def real_path(path: str | Path) -> Path:
    """Return a path without symbolic links; as it stands where they lead in a circle."""
    return Path(os.path.realpath(path))


def aside_of(path: str | Path) -> Path:
    """Return where a file or folder is written before it takes its name: hidden, beside it."""
    path = real_path(path)
    return path.parent / f".{path.name}.partial"


@contextmanager
def writing(path: str | Path, zipped: bool = False) -> Iterator[IO[str]]:
    """Open a text file that appears under its name only when all of it is written.

    `zipped` writes gzip, without name and time: the same text gives the same bytes.
    Raises `UserError` where another process is writing the file now.
    """
    path = Path(path)
    check_file(path)
    if path.exists() and not path.is_file():  # a pipe or a device: nothing to rename
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            yield file
        return
    with parents(path):
        aside = aside_of(path)
        with _locked(aside, path) as raw:
            try:
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) if zipped else nullcontext(raw) as stream:
                    file = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
                    try:
                        yield file
                    finally:
                        file.detach()
                raw.flush()
                os.replace(aside, path)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise


@contextmanager
def _locked(aside: Path, path: Path) -> Iterator[IO[bytes]]:
    """Open an empty file that no other living process has open here; a killed one lets go of it."""
    while True:
        raw = open(os.open(aside, os.O_RDWR | os.O_CREAT, 0o666), "wb")  # noqa: SIM115
        with raw:
            lock(raw.fileno(), path)
            if not stands(raw.fileno(), aside):
                continue  # its writer finished and renamed it between our opening and our locking
            raw.truncate()
            yield raw
            return


def discard(path: str | Path) -> None:
    """Take away what an ended process left of a file that it was writing; what a living one writes stays."""
    aside = aside_of(path)
    if aside.exists():
        with suppress(UserError), _locked(aside, Path(path)):
            aside.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: str | Path, overwrite: bool, inputs: Iterable[Any] = ()) -> Iterator[Path]:
    """Give an empty folder to fill, which takes its name only when the block ends well.

    What a killed job left of an earlier try is cleared away.  Raises as `held_folder` does.
    """
    with held_folder(path, overwrite, inputs) as aside:
        clear(aside)
        try:
            yield aside
            publish(aside, path)
        except BaseException:
            clear(aside)
            raise


@contextmanager
def held_folder(path: str | Path, overwrite: bool, inputs: Iterable[Any] = ()) -> Iterator[Path]:
    """Give the hidden folder in which the output `path` is written, to this process alone.

    The folder keeps what an earlier process left in it, and is taken away if nothing is in it at the end.
    Raises `UserError` as `check_output` does, and where another process is writing `path`.
    """
    inputs = list(inputs)
    check_output(path, overwrite, inputs)
    with parents(path), held(aside := aside_of(path), path):
        check_output(path, overwrite, inputs)  # another may have finished it in between
        yield aside


def clear(aside: Path) -> None:
    """Empty a held folder; its lock stays."""
    for entry in aside.iterdir() if aside.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK:
            entry.unlink(missing_ok=True)


@contextmanager
def parents(path: str | Path) -> Iterator[None]:
    """Make the folders above an output; take away those that were made if nothing comes of it.

    An error that names no file, or tells of a full disk and names a hidden one, names the output.
    """
    made = [parent for parent in real_path(path).parents if not parent.exists()]
    real_path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException as error:
        for parent in made:
            with suppress(OSError):  # it holds something, or is gone
                parent.rmdir()
        if (number := _full(error, path)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _full(error: BaseException, path: str | Path) -> int | None:
    """Return the number of the system's error that an error without its file's name is, or a library's own of space."""
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        hidden = error.errno in _FULL and str(error.filename).startswith(str(aside_of(path)))
        return error.errno if hidden or error.filename is None else None
    for number in _FULL:
        if os.strerror(number) in str(error):
            return number
    if re.search("requested and .* written$", str(error)):  # NumPy's
        return errno.ENOSPC
    with suppress(OSError):  # torch's says nothing of it
        if isinstance(error, RuntimeError | OSError) and shutil.disk_usage(real_path(path).parent).free < 1 << 16:
            return errno.ENOSPC
    return None


def check_output(path: str | Path, overwrite: bool, inputs: Iterable[Any] = ()) -> None:
    """Raise `UserError` unless a folder can be written at `path`.

    A folder that holds something is replaced only with `overwrite`, and never one that holds the
    working directory, the home directory or one of the `inputs` (paths or patterns).
    """
    path = Path(path)
    if _status(path) and not path.is_dir():
        raise UserError(f"{path}: is a file; give the name of a folder")
    if path.is_dir():
        if any(path.iterdir()) and not overwrite:
            what = "the folder already holds something; give another name, or overwrite it"
            raise UserError(f"{path}: {what}", "overwrite")
        for other in [Path.cwd(), Path.home(), *_existing(inputs)]:
            if real_path(other).is_relative_to(real_path(path)):
                raise UserError(f"{path}: will not be replaced, since it holds {other}")


def check_file(path: str | Path, inputs: Iterable[Any] = ()) -> None:
    """Raise `UserError` if writing a file at `path` would destroy a folder or an input."""
    path = Path(path)
    exists = _status(path)
    if path.is_dir():
        raise UserError(f"{path}: is a directory; give the name of a file")
    for other in _existing(inputs):
        inside = other.is_dir() and real_path(path).is_relative_to(real_path(other))
        if inside or (exists and other.samefile(path)):
            raise UserError(f"{path}: is one of the inputs; give the output another name")


def _status(path: Path) -> bool:
    """Tell whether a path exists; raises `UserError` where links lead in a circle, or the like."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return True


def _existing(inputs: Iterable[Any]) -> Iterator[Path]:
    for name in inputs:
        if name is not None:
            yield from map(Path, [str(name)] if Path(name).exists() else glob.glob(str(name)))


def publish(aside: Path, path: str | Path) -> None:
    """Rename a finished folder to its name; what stood there goes only after that."""
    path = real_path(path)
    old = path.parent / f".{path.name}.old"
    shutil.rmtree(old, ignore_errors=True)  # of a job that was killed while it did this
    replaces = path.is_dir() and any(path.iterdir())
    if replaces:
        os.rename(path, old)
        try:
            os.rename(aside, path)
        except BaseException:
            os.rename(old, path)
            raise
    else:
        os.rename(aside, path)
    # not before: until the folder has its name, the lock keeps others out of it
    (path / LOCK).unlink(missing_ok=True)
    if replaces:
        shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people: indented, in the order given, all in one rename."""
    with writing(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunningSha256:
    """The SHA-256 of bytes that pass by, computed in a thread of its own beside other work."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def update(self, data: Any) -> None:
        """Take some bytes (anything with a buffer, not to be changed after this)."""
        self._wait()
        self._last = self._thread.submit(self._digest.update, data)

    def hexdigest(self) -> str:
        """Return the checksum of all that was taken, as hexadecimal digits."""
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()


def describe_sources(source: str | Path) -> list[dict[str, Any]]:
    """Return name, size and checksum of each file of an input, for `meta.json`."""
    return [
        {"name": printable(path.name), "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in expand(source)
    ]


def printable(name: str) -> str:
    """Return a file's name as text that can be written; bytes that are no UTF-8 by number."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
