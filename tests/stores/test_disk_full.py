"""A disk that is full or read-only: whatever library meets it, the error names the output."""

import errno
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import parents, writing, writing_folder
from xqg_pyserini.stores import resumable

WRITERS = {
    "numpy": "np.save(folder / 'x.npy', np.zeros(50_000))",
    "a matrix": "create_matrix(folder / 'x.npy', (500, 100), 'float32')",
    "text": "(folder / 'x').write_text('x' * 200_000)",
    "faiss": "index = faiss.IndexFlatIP(100); index.add(np.zeros((500, 100), np.float32)); "
    "faiss.write_index(index, str(folder / 'index'))",
    "safetensors": "safetensors.numpy.save_file({'a': np.zeros(50_000)}, folder / 'x')",
    "torch": "torch.save({'a': torch.zeros(50_000)}, folder / 'x')",
}
CODE = """
import os, resource, sys
from pathlib import Path
import numpy as np
{imports}
from xqg_pyserini.files import writing_folder
from xqg_pyserini.stores import create_matrix
if len(sys.argv) == 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with writing_folder(sys.argv[1], False) as folder:
        {write}
except OSError as error:
    print(error.filename, error.strerror)
"""
IMPORTS = {"faiss": "import faiss", "safetensors": "import safetensors.numpy", "torch": "import torch"}


def write(writer, output, *more) -> str:
    """Write in a process of its own; return what it said of its error."""
    code = CODE.format(imports=IMPORTS.get(writer, ""), write=WRITERS[writer])
    done = subprocess.run(
        [sys.executable, "-c", code, str(output), *more],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("writer", [writer for writer in WRITERS if writer != "torch"])
def test_the_output_is_named_whatever_wrote(writer, tmp_path):
    """Files may have 20,000 bytes."""
    number = errno.ENOSPC if writer == "numpy" else errno.EFBIG
    assert write(writer, tmp_path / "out") == f"{tmp_path / 'out'} {os.strerror(number)}\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_named_by_the_output(writer, tmp_path):
    """The disk has 40,000 bytes."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        output = tmp_path / "out"
        assert write(writer, output, "all") == f"{output} {os.strerror(errno.ENOSPC)}\n"
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_cannot_be_written_to_is_named_by_the_output(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        output = tmp_path / "out"
        for context in (writing_folder(output, True), resumable(output, {}, True, []), writing(output)):
            with pytest.raises(OSError, match="Read-only") as raised, context:
                pass
            assert raised.value.filename == str(output)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_errors_that_are_not_of_space_stay_as_they_are(tmp_path):
    for error in (
        UserError("No space left on device"),
        KeyError("x"),
        PermissionError(13, "Permission denied", "a/file"),
    ):
        with pytest.raises(type(error)) as raised, parents(tmp_path / "out"):
            raise error
        assert raised.value is error


def test_an_error_of_space_names_the_output_and_not_the_file_within_it(tmp_path):
    with pytest.raises(OSError, match="No space") as raised, parents(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / ".out.partial" / "x"))
    assert raised.value.filename == str(tmp_path / "out")
