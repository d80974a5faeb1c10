"""Files: their lines, read strictly, and outputs that appear only when they are whole.

What is read is UTF-8 (with or without a byte-order mark), plain or compressed (gzip, bz2, xz, zstd)
whatever the file is called, with Unix or Windows line ends.  What is written is written aside,
hidden, and renamed.  This module knows no records.
"""

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
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from xqg_pyserini.errors import UserError, warn

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

ENDINGS = (".jsonl", ".json", ".tsv")
PACKED = (".gz", ".bz2", ".xz", ".zst")
SUFFIXES = tuple(ending + packed for packed in ("", *PACKED) for ending in ENDINGS)
BOM = b"\xef\xbb\xbf"
NAMED = 5  # of the files of a directory that are left out, how many a warning names
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
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
    """A line of an input file, and where it stands."""

    path: Path
    number: int
    text: str

    def error(self, message: str, about: str | Sequence[str] = ()) -> UserError:
        """Return a `UserError` that says where this line stands."""
        return UserError(shown_name(f"{self.path}, line {self.number}: {message}"), about)


# ---------------------------------------------------------------- reading


def expand(source: str | Path, say_left_out: bool = False) -> list[Path]:
    """Return the files that a path, a directory or a glob pattern stands for, sorted by name.

    In a directory the files are taken whose names end in `ENDINGS`, upper or lower case, perhaps
    with one of `PACKED`; `meta.json` and hidden files are none of them.  With `say_left_out` one
    warning names what else is there: other files, folders, empty files.

    Raises:
        UserError: where nothing is found; for a link to nothing or to itself, a name that is not
            UTF-8.
    """
    path = Path(source)
    try:
        if path.is_dir():
            return _in_directory(path, say_left_out)
        matched = [path] if path.exists() or path.is_symlink() else _matched(str(source))
        files = [p for p in matched if _is_data(p)]
    except OSError as error:
        raise UserError(f"{shown_name(path)}: {error.strerror or error}") from None
    if not files and matched:
        raise UserError(f"{shown_name(source)}: no file, but {_first([str(p) for p in matched])}")
    if not files:
        raise UserError(f"{shown_name(source)}: no such file or directory")
    if say_left_out and len(files) < len(matched):
        _say_left_out(str(source), [f"{p.name}/" for p in matched if p not in files], len(matched))
    return files


def _matched(pattern: str) -> list[Path]:
    try:
        return sorted(map(Path, glob.glob(pattern)))
    except (ValueError, re.error, RecursionError):  # a null character, a class that ends early
        return []


def _in_directory(folder: Path, say_left_out: bool) -> list[Path]:
    files, left_out, total = [], [], 0
    for p in sorted(folder.iterdir()):
        wanted = p.name.lower().endswith(SUFFIXES)
        if p.name == "meta.json" or (p.name.startswith(".") and not wanted):
            continue
        total += 1
        if p.name.startswith("."):
            left_out.append(f"{p.name} (hidden)")
        elif p.is_dir():
            left_out.append(f"{p.name}/")
        elif not wanted or not _is_data(p):
            left_out.append(shown_name(p.name))
        else:
            files.append(p)
            if p.stat().st_size == 0:
                left_out.append(f"{p.name} (empty)")
    if not files:
        holds = f"; it holds {_first(left_out)}" if left_out else ""
        raise UserError(
            f"{shown_name(folder)}: no file in this directory ends in {', '.join(ENDINGS)}, or "
            f"these with {', '.join(PACKED)}{holds}"
        )
    if left_out and say_left_out:
        _say_left_out(str(folder), left_out, total)
    return files


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is there; no for a name that none can have."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Tell whether something that is no folder is there, under a name that is UTF-8."""
    check_name(path)
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return False


def _is_data(path: Path) -> bool:
    """Tell whether there is a file to read; a link that leads nowhere is an error."""
    if path.is_symlink() and not path.exists():
        raise UserError(
            f"{shown_name(path)}: a link that leads nowhere ({shown_name(os.readlink(path))}); mend or remove it"
        )
    if path.is_file():
        check_name(path)
        return True
    return False


def check_name(path: Path) -> None:
    """Raise `UserError` for a file name that is not UTF-8: no record could hold it."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{shown_name(path)}: the name is not UTF-8; rename it") from None


def shown_name(name: str | Path) -> str:
    """Return a name (or a message with one) as one line that can be printed, whatever it holds."""
    text = str(name)
    if text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(shown_name, names[:NAMED])) + more


def _say_left_out(source: str, names: Sequence[str], total: int) -> None:
    warn(f"{shown_name(source)}: {len(names)} of {total} are left out: {_first(names)}")


def find_input(source: str | Path, folder: Path) -> Path | None:
    """Return where a recorded input is: as it stands, or else from `folder`; None for nowhere.

    Like `expand`, it takes patterns; what it returns can be handed to `expand`.
    """
    for path in (Path(source), folder / source):
        if path.exists() or _matched(str(path)):
            return path
    return None


def read_lines(path: Path, blank: bool = False) -> Iterator[Line]:
    """Yield the lines of a text file without their ends.

    Lines of white space alone are left out, unless `blank`.  A byte-order mark at the start of
    any line is dropped: files that were joined carry one where the next began.

    Raises:
        UserError: for a file that cannot be read, is damaged, or is not UTF-8 text.
    """
    check_name(path)
    number, kind = 0, None
    try:
        with open(path, "rb") as raw:
            kind = _kind(raw.peek(8)[:8])
            for data in _unpacked(raw, kind):
                number += 1
                if data[0] == 0xEF:
                    data = data.removeprefix(BOM)
                elif number == 1:
                    _check_lines(path, data)
                text = data.decode("utf-8").rstrip("\r\n")
                if blank or (text and not text.isspace()):
                    yield Line(path, number, text)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line {number}: not UTF-8 (byte {error.start + 1} of the line); convert it") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, _Damaged):
        raise _damaged(path, number, kind) from None
    except OSError as error:
        if error.errno is None and kind is not None:  # what the bz2 module says of bad data
            raise _damaged(path, number, kind) from None
        raise UserError(f"{shown_name(path)}: {error.strerror or error}") from None
    except ValueError:  # a name that no file can have
        raise UserError(f"{shown_name(path)}: no such file or directory") from None


class _Damaged(Exception):
    """What a library says of a compressed stream that ends early or cannot be."""


def _damaged(path: Path, number: int, kind: str | None) -> UserError:
    return UserError(
        f"{path}, after line {number}: the {kind} stream is damaged or ends early; make or download the file again"
    )


def _kind(start: bytes) -> str | None:
    return next((name for magic, name in COMPRESSED.items() if start.startswith(magic)), None)


def _check_lines(path: Path, data: bytes) -> None:
    """Raise `UserError` where the first line shows a file of some other kind."""
    named = [what for magic, what in NOT_LINES.items() if data.startswith(magic)]
    if data[257:262] == b"ustar":
        named = ["a tar archive; unpack it"]
    if named:
        raise UserError(f"{path}: expected lines of text, found {named[0]}")


def _unpacked(raw: IO[bytes], kind: str | None) -> Iterable[bytes]:
    """Yield the lines of a file, unpacked."""
    if kind is None:
        return raw
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if kind == "bz2":
        import bz2

        return bz2.BZ2File(raw)
    if kind == "xz":
        return _xz_lines(raw)
    return _zstd_lines(raw)


def _xz_lines(raw: IO[bytes]) -> Iterator[bytes]:
    import lzma

    with lzma.LZMAFile(raw) as lines:
        try:
            yield from lines
        except lzma.LZMAError:
            raise _Damaged from None


def _zstd_lines(raw: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of zstd frames; the library's own reader takes a cut file for a whole one."""
    import zstandard

    def blocks() -> Iterator[bytes]:
        frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
        while chunk := raw.read(1 << 16):
            while chunk:
                begun = True
                yield frame.decompress(chunk)
                chunk = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
        if begun:
            raise _Damaged

    try:
        parts: list[bytes] = []  # of a line that has not ended
        for block in blocks():
            *ended, rest = block.split(b"\n")
            for end in ended:
                yield b"".join([*parts, end, b"\n"])
                parts = []
            parts.append(rest)
        if any(parts):
            yield b"".join(parts)
    except zstandard.ZstdError:
        raise _Damaged from None


def compression(path: Path) -> str | None:
    """Return how a file is compressed, whatever it is called: gzip, bz2, xz, zstd or None."""
    with open(path, "rb") as file:
        return _kind(file.read(8))


def is_gzip(path: Path) -> bool:
    """Tell whether a file is gzip, whatever it is called."""
    return compression(path) == "gzip"


# ---------------------------------------------------------------- writing


def aside_of(path: str | Path) -> Path:
    """Return where a file or folder is written before it takes its name: hidden, beside it."""
    path = Path(path).resolve()
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
    with parents(path), named(path):
        aside = aside_of(path)
        with _locked(aside, path) as raw:
            try:
                with _text_writer(raw, zipped) as file:
                    yield file
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
            if fcntl is not None:
                try:
                    fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UserError(
                        f"{path}: another process is writing it; wait for that, or give another output"
                    ) from None
                except OSError:  # a file system without locks
                    pass
            if not aside.exists() or not os.path.samestat(os.fstat(raw.fileno()), aside.stat()):
                continue  # its writer finished and renamed it between our opening and our locking
            raw.truncate()
            yield raw
            return


@contextmanager
def _text_writer(raw: IO[bytes], zipped: bool) -> Iterator[IO[str]]:
    stream: Any = raw
    if zipped:
        stream = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
    try:
        yield text
    finally:
        text.detach()
        if zipped:
            stream.close()


@contextmanager
def writing_folder(path: str | Path, overwrite: bool, inputs: Iterable[Any] = ()) -> Iterator[Path]:
    """Give an empty folder to fill, which takes its name only when the block ends well.

    What a killed job left of an earlier try is cleared away.  Raises as `check_output` does.
    """
    check_output(path, overwrite, inputs)
    with parents(path), named(path):
        aside = aside_of(path)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
            publish(aside, path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


@contextmanager
def parents(path: str | Path) -> Iterator[None]:
    """Make the folders above an output; take away those that were made if nothing comes of it."""
    made = [parent for parent in Path(path).resolve().parents if not parent.exists()]
    Path(path).resolve().parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Say which output was being written when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_output(path: str | Path, overwrite: bool, inputs: Iterable[Any] = ()) -> None:
    """Raise `UserError` unless a folder can be written at `path`.

    A folder that holds something is replaced only with `overwrite`, and never one that holds the
    working directory, the home directory or one of the `inputs` (paths or patterns).
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file; give the name of a folder")
    if path.is_dir():
        if any(path.iterdir()) and not overwrite:
            raise UserError(
                f"{path}: the folder already holds something; give another name, or overwrite it", "overwrite"
            )
        for other in [Path.cwd(), Path.home(), *_existing(inputs)]:
            if other.resolve().is_relative_to(path.resolve()):
                raise UserError(f"{path}: will not be replaced, since it holds {other}")


def check_file(path: str | Path, inputs: Iterable[Any] = ()) -> None:
    """Raise `UserError` if writing a file at `path` would destroy a folder or an input."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a directory; give the name of a file")
    for other in _existing(inputs):
        inside = other.is_dir() and path.resolve().is_relative_to(other.resolve())
        if inside or (path.exists() and other.samefile(path)):
            raise UserError(f"{path}: is one of the inputs; give the output another name")


def _existing(inputs: Iterable[Any]) -> Iterator[Path]:
    for name in inputs:
        if name is not None:
            found = [str(name)] if Path(name).exists() else glob.glob(str(name))
            yield from map(Path, found)


def publish(aside: Path, path: str | Path) -> None:
    """Rename a finished folder to its name; what stood there goes only after that."""
    path = Path(path).resolve()
    old = path.parent / f".{path.name}.old"
    shutil.rmtree(old, ignore_errors=True)  # of a job that was killed while it did this
    if path.is_dir() and any(path.iterdir()):
        os.rename(path, old)
        try:
            os.rename(aside, path)
        except BaseException:
            os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(aside, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people: indented, in the order given, all in one rename."""
    with writing(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_sources(source: str | Path) -> list[dict[str, Any]]:
    """Return name, size and checksum of each file of an input, for `meta.json`."""
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in expand(source)]
