"""Files: their lines, read strictly, and outputs that appear only when they are whole.

What is read is UTF-8 (with or without a byte-order mark), plain or compressed (gzip, bz2, xz, zstd) whatever the file
is called, with Unix or Windows line ends.  What is written is written aside, hidden, and renamed.
"""

import errno
import glob
import gzip
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import xxhash

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.locks import LOCK, held, lock, stands

FilePath = str | os.PathLike[str]
SCHEMES = ("hf:", "irds:")  # what begins so names a data set: see `data.sources`
SHARD = re.compile(r"-(\d+)-of-(\d+)(?=\.)")  # queries-00007-of-00128.jsonl.gz
ENDINGS = (".jsonl", ".json", ".tsv", ".csv")
PACKED = (".gz", ".bz2", ".xz", ".zst")
SUFFIXES = tuple(ending + packed for packed in ("", *PACKED) for ending in ENDINGS)
BOM = b"\xef\xbb\xbf"
NAMED = 5  # of the files that are left out, how many a warning names
ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
UNPACK = {  # what files begin with → how that is called, and what module opens them
    b"\x1f\x8b": ("gzip", "gzip"),
    b"BZh": ("bz2", "bz2"),
    b"\xfd7zXZ\x00": ("xz", "lzma"),
    b"\x28\xb5\x2f\xfd": ("zstd", ZSTD),
}
NOT_LINES = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"PAR1": "a Parquet file; write it as JSON Lines",
    b"\xff\xfe": "UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Line(NamedTuple):
    """A line of an input file, or an entry of its JSON array, and where it stands.

    `at`: of a line of a file here that is not compressed, its first byte, from where it can be read again.
    """

    path: Path
    number: int
    text: str
    unit: str = "line"
    at: int | None = None

    def error(self, message: str, about: str | Sequence[str] = ()) -> UserError:
        """Return a `UserError` that says where this line stands."""
        return UserError(shown_name(f"{self.path}, {self.unit} {self.number}: {message}"), about)


# ---------------------------------------------------------------- reading


def expand(source: FilePath, say_left_out: bool = False) -> list[Path]:
    """Return the files that a path, a directory or a glob pattern stands for, sorted by name.

    In a directory the files are taken whose names end in `ENDINGS`, upper or lower case, perhaps with one of `PACKED`;
    `meta.json` and hidden files are none of them.  With `say_left_out` one warning names what else is there: other
    files, folders, empty files.

    Raises:
        UserError: where nothing is found; for a link to nothing or to itself, a name that is not UTF-8.
    """
    path = Path(source)
    if not os.fspath(source):
        raise UserError("an empty name; expected a file, a directory or a pattern")
    try:
        if os.path.isdir(path):
            return _in_directory(path, say_left_out)
        matched = [path] if os.path.lexists(path) else _matched(str(source))
        files = [p for p in matched if _is_data(p)]
    except OSError as error:
        raise UserError(f"{shown_name(path)}: {error.strerror or error}") from None
    if not files:
        found = f"no file, but {_first([str(p) for p in matched])}" if matched else "no such file or directory"
        raise UserError(f"{shown_name(source)}: {found}")
    if say_left_out:
        _say_left_out(source, [f"{p.name}/" for p in matched if p not in files], len(matched))
    return files


def _matched(pattern: str) -> list[Path]:
    try:
        return sorted(map(Path, glob.glob(pattern)))
    except (ValueError, re.error, RecursionError):  # a null character, a class that ends early
        return []


def _in_directory(folder: Path, say_left_out: bool) -> list[Path]:
    files, left_out, total = [], [], 0
    for p in sorted(folder.iterdir()):
        wanted, hidden = p.name.lower().endswith(SUFFIXES), p.name.startswith(".")
        if p.name == "meta.json" or (hidden and not wanted):
            continue
        total += 1
        why = " (hidden)" if hidden else "/" if p.is_dir() else ""
        if not why and wanted and _is_data(p):
            files.append(p)
            if p.stat().st_size:
                continue
            why = " (empty)"
        left_out.append(p.name + why)
    if not files:
        packed, holds = ", ".join(PACKED), f"; it holds {_first(left_out)}" if left_out else ""
        what = f"no file in this directory ends in {', '.join(ENDINGS)}, or these with {packed}"
        raise UserError(f"{shown_name(folder)}: {what}{holds}")
    if {"corpus", "queries"} <= {p.name.split(".")[0] for p in files}:
        what = "a corpus and queries, as in BEIR's folders: give the file that is meant"
        raise UserError(f"{shown_name(folder)}: {what}")
    if say_left_out:
        _say_left_out(folder, left_out, total)
    return files


def _is_data(path: Path) -> bool:
    """Tell whether there is a file to read; a link that leads nowhere is an error."""
    if os.path.islink(path) and not os.path.exists(path):
        where = f"{path}: a link that leads nowhere ({os.readlink(path)})"
        raise UserError(f"{shown_name(where)}; mend or remove it")
    if not os.path.isfile(path):
        return False
    check_name(path)
    return True


def check_name(path: FilePath) -> None:
    """Raise `UserError` for a file name that is not UTF-8, which no record could hold, or that none can have."""
    try:
        if b"\0" in str(path).encode("utf-8"):
            raise UserError(f"{shown_name(path)}: no such file or directory")
    except UnicodeEncodeError:
        raise UserError(f"{shown_name(path)}: the name is not UTF-8; rename it") from None


def shown_name(name: Any) -> str:
    """Return a name (or a message with one) as one line that can be printed, whatever it holds."""
    text = str(name)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(shown_name, names[:NAMED])) + more


def _say_left_out(source: FilePath, names: Sequence[str], total: int) -> None:
    if names:
        warn(f"{shown_name(source)}: {len(names)} of {total} are left out: {_first(names)}")


def is_named(source: Any) -> bool:
    """Tell whether an input is given by a data set's name, and not by a path."""
    return isinstance(source, str | os.PathLike) and os.fspath(source).startswith(SCHEMES)


def find_input(source: FilePath, folder: Path) -> Path | None:
    """Return where a recorded input is: as it stands, or else from `folder`; None for nowhere.

    It takes patterns; what it returns can be given as an input.
    """
    if is_named(source):
        return Path(source)
    for path in (Path(source), folder / source):
        if path.exists() or _matched(str(path)):
            return path
    return None


def read_lines(path: Path, blank: bool = False, opened: Callable[[], IO[bytes]] | None = None) -> Iterator[Line]:
    """Yield the lines of a text file without their ends.

    Lines of white space alone are left out, unless `blank`.  A byte-order mark at the start of any line is dropped:
    files that were joined carry one where the next began.  `opened` opens what is no file of this machine.

    Raises:
        UserError: for a file that cannot be read, is damaged, or is not UTF-8 text.
    """
    check_name(path)
    number, kind, at, end = 0, None, 0, 0
    try:
        with unpacked(path, opened) as (file, kind):
            for data in file:
                number += 1
                at, end = end, end + len(data)
                if data[0] == BOM[0]:
                    while data.startswith(BOM):
                        data = data.removeprefix(BOM)
                elif number == 1:
                    check_lines(path, data)
                text = data.decode("utf-8").rstrip("\r\n")
                if blank or (text and not text.isspace()):
                    yield Line(path, number, text, "line", at if kind is None and opened is None else None)
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line {number}: not UTF-8 (byte {error.start + 1} of the line); convert it") from None
    except Exception as error:
        if kind is not None and getattr(error, "errno", None) is None:  # each library has an error of its own for it
            what = f"the {kind} stream is damaged or ends early; make or download the file again"
            raise UserError(f"{path}, after line {number}: {what}") from None
        if isinstance(error, OSError):
            raise UserError(f"{shown_name(path)}: {error.strerror or error}") from None
        raise


@contextmanager
def unpacked(path: Path, opened: Callable[[], IO[bytes]] | None = None) -> Iterator[tuple[IO[bytes], str | None]]:
    """Open a file, compressed or not, for what it holds; the second is how it is compressed, as `compression` has it.

    What a compressed one raises while it is read is its library's own.
    """
    with open(path, "rb") if opened is None else opened() as raw:
        kind, module = _packing(raw.peek(8)[:8])  # type: ignore[attr-defined]
        yield (raw if module is None else importlib.import_module(module).open(raw)), kind


def _packing(start: bytes) -> tuple[str | None, str | None]:
    return next((how for magic, how in UNPACK.items() if start.startswith(magic)), (None, None))


def check_lines(path: Path, data: bytes) -> None:
    """Raise `UserError` where the first line shows a file of some other kind."""
    found = next((what for magic, what in NOT_LINES.items() if data.startswith(magic)), None)
    if data[257:262] == b"ustar":
        found = "a tar archive; unpack it"
    elif b"\r" in data.rstrip(b"\r") and not data.endswith(b"\n"):
        found = "lines that end in a carriage return alone; convert them (tr '\\r' '\\n')"
    if found:
        raise UserError(f"{path}: expected lines of text, found {found}")


def compression(path: Path) -> str | None:
    """Return how a file is compressed, whatever it is called: gzip, bz2, xz, zstd or None."""
    with open(path, "rb") as file:
        return _packing(file.read(8))[0]


# ---------------------------------------------------------------- writing


DESCRIPTIONS = ("meta.json", "xqg.json", "alignment.json")  # each is written last, into a folder of ours
FILLED = "the folder already holds something"  # what refuses to write there says
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


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

    An error that names no file, or tells of a disk that is full or not to be written to and names a hidden one, names
    the output.
    """
    made = [parent for parent in real_path(path).parents if not parent.exists()]
    real_path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException as error:
        for parent in made:
            with suppress(OSError):  # it holds something, or is gone
                parent.rmdir()
        if (number := _errno(error, path)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _errno(error: BaseException, path: str | Path) -> int | None:
    """Return the number of the system's error that one without its file's name is, or a library's own of space."""
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        hidden = error.errno in (*_FULL, *_FORBIDDEN) and str(error.filename).startswith(str(aside_of(path)))
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


def is_ours(folder: Path) -> bool:
    """Tell whether a path is a folder that xqg wrote: a store, an index, an alignment, query files."""
    return any((folder / name).is_file() for name in DESCRIPTIONS)


def check_output(path: str | Path, overwrite: bool, inputs: Iterable[Any] = ()) -> None:
    """Raise `UserError` unless a folder can be written at `path`.

    A folder that holds something is replaced only with `overwrite`, and never one that holds the working directory, the
    home directory or one of the `inputs` (paths or patterns), or is a part of one of these that xqg wrote.
    """
    path = Path(path)
    status = _status(path)  # asked once: another process may put its own in this place meanwhile
    if status and not stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: is a file; give the name of a folder")
    if status:
        if not overwrite and _holds_something(path):
            raise UserError(f"{path}: {FILLED}; give another name, or overwrite it", "overwrite")
        given = list(_existing(inputs))
        for other in [Path.cwd(), Path.home(), *given]:
            if real_path(other).is_relative_to(real_path(path)):
                raise UserError(f"{path}: will not be replaced, since it holds {other}")
        for other in filter(is_ours, given):
            if _holds_something(path) and real_path(path).is_relative_to(real_path(other)):
                raise UserError(f"{path}: will not be replaced, since it is a part of {other}")


def check_file(path: str | Path, inputs: Iterable[Any] = ()) -> None:
    """Raise `UserError` if writing a file at `path` would destroy a folder or an input."""
    path = Path(path)
    status = _status(path)
    if status and stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: is a directory; give the name of a file")
    for other in _existing(inputs):
        inside = other.is_dir() and real_path(path).is_relative_to(real_path(other))
        if inside or (status and os.path.samestat(status, other.stat())):
            raise UserError(f"{path}: is one of the inputs; give the output another name")


def _holds_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


def _status(path: Path) -> os.stat_result | None:
    """Return what a path is, None where it is not; raises `UserError` where links lead in a circle, or the like."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _existing(inputs: Iterable[Any]) -> Iterator[Path]:
    for name in inputs:
        if is_named(name):  # perhaps of a folder here
            name = os.fspath(name).partition(":")[2].split(":")[0] or None
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


# SHA-256 names a file's bytes to anyone, XXH3 (128 bits) finds damage as fast as the file is read
SUMS: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "xxh3": xxhash.xxh3_128}


class RunningSums:
    """Checksums of bytes that pass by, those named or all of `SUMS`, computed in a thread beside other work."""

    def __init__(self, *names: str) -> None:
        self._digests = {name: SUMS[name]() for name in names or SUMS}
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def update(self, data: Any) -> None:
        """Take some bytes (anything with a buffer, not to be changed after this)."""
        self._wait()
        self._last = self._thread.submit(self._update, data)

    def _update(self, data: Any) -> None:
        for digest in self._digests.values():
            digest.update(data)

    def hexdigests(self) -> dict[str, str]:
        """Return the checksums of all that was taken, as hexadecimal digits, by their names."""
        self._wait()
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()


def file_sums(path: str | Path, *names: str) -> dict[str, str]:
    """Return checksums of a file, read once: those named or all of `SUMS`, as hexadecimal digits by their names."""
    sums = RunningSums(*names)
    with open(path, "rb") as file:
        while block := file.read(8 << 20):
            sums.update(block)
    return sums.hexdigests()


def printable(name: str) -> str:
    """Return a file's name as text that can be written; bytes that are no UTF-8 by number."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
