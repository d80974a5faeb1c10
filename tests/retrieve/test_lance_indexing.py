"""The process that makes a Lance index: its failure is one line, and Ctrl-C does not wait for it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from xqg_pyserini.retrieve import lance


def test_what_lance_cannot_index_is_an_error_that_names_it(tmp_path):
    pytest.importorskip("lance")
    with pytest.raises(OSError, match="Lance makes no index of it: ") as caught:
        lance.index_vectors(tmp_path / "none", 2, 2)
    assert str(caught.value).startswith(f"{tmp_path / 'none'}: ")
    assert "\n" not in str(caught.value)


def test_an_interrupt_ends_it_at_once(tmp_path, monkeypatch):
    begun = tmp_path / "begun"
    monkeypatch.setattr(lance, "_INDEXING", f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(60)")
    made = []

    class Kept(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)

    def interrupt():
        while not begun.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        lance.index_vectors(tmp_path, 2, 2)
    assert time.monotonic() - start < 20
    assert [process.poll() for process in made] == [-9]


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
