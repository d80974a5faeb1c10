"""The process that makes a Lance index: its failure is one line, and Ctrl-C does not wait for it."""

import os
import signal
import subprocess
import sys

import pytest

from xqg_pyserini.retrieve import lance


def test_what_lance_cannot_index_is_an_error_that_names_it(tmp_path):
    pytest.importorskip("lance")
    with pytest.raises(OSError, match="Lance makes no index of it: ") as caught:
        lance.index_vectors(tmp_path / "none", 2, 2)
    assert str(caught.value).startswith(f"{tmp_path / 'none'}: ")
    assert "\n" not in str(caught.value)


def test_an_interrupt_ends_it_at_once(tmp_path):
    code = f"""
import os
from pathlib import Path
from xqg_pyserini.retrieve import lance
lance._INDEXING = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
lance.subprocess.DEVNULL = None  # so that its number is seen
try:
    lance.index_vectors(Path({str(tmp_path)!r}), 2, 2)
except KeyboardInterrupt:
    print("heard")
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGINT)
    assert parent.communicate(timeout=30)[0] == "heard\n"
    assert parent.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_it_does_not_outlive_who_began_it(tmp_path):
    watched = lance._INDEXING.split("import lance")[0] + "print('begun', flush=True)\ntime.sleep(60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {watched!r}]).stdout; import os\n"
    code += "sys.stdin.read(1); os._exit(0)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "begun\n"
    parent.stdin.close()
    parent.wait()
    assert parent.stdout.read() == ""  # which ends when the process that holds the other end does
    parent.stdout.close()
