"""Ways to spoil a file, for tests of what is refused: each takes a path."""

import gzip
import json
from pathlib import Path

import numpy as np
from conftest import write_jsonl

GZIP = "the gzip stream is damaged or ends early; make or download the file again"


def line(number, text):
    """Replace a line (from 1) of a file; text may be bytes."""

    def spoil(path: Path):
        lines = path.read_bytes().splitlines(keepends=True)
        lines[number - 1] = (text if isinstance(text, bytes) else text.encode()) + b"\n"
        path.write_bytes(b"".join(lines))

    return spoil


def change(number, drop=(), **fields):
    """Change fields of the record in a line (from 1)."""

    def spoil(path: Path):
        records = [json.loads(text) for text in path.read_text().splitlines()]
        records[number - 1] |= fields
        for name in drop:
            records[number - 1].pop(name, None)
        write_jsonl(path, records)

    return spoil


def content(data):
    return lambda path: path.write_bytes(data)


def zipped(cut):
    """Compress a file and leave out its last bytes: 4 is a part of the trailer alone."""

    def spoil(path: Path):
        path.write_bytes(gzip.compress(path.read_bytes())[:-cut])

    return spoil


def again(path: Path):
    """Append the first record once more, with another text."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")


def edit_json(**fields):
    def spoil(path: Path):
        meta = json.loads(path.read_text())
        meta = {k: v for k, v in (meta | fields).items() if v is not ...}
        path.write_text(json.dumps(meta))

    return spoil


def cut(n):
    return lambda path: path.write_bytes(path.read_bytes()[:-n])


def put(row, column, value):
    """Set one number of a .npy matrix."""

    def spoil(path: Path):
        matrix = np.load(path)
        matrix[row, column] = value
        np.save(path, matrix)

    return spoil


def replace_text(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new))
