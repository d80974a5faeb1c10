"""The benchmarks still run, and find both sides equal, on as little as they take."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize(
    ("script", "arguments", "ends"),
    [
        ("alignment", "--pairs 7168 --dimension 8 --questions 20 --times 1", "matrices differ by at most "),
        ("fuse", "--passages 50 --dimension 8 --times 1", "vectors differ by at most "),
        ("growth", "--sizes 600 --dimension 8", "| evaluate | "),
        ("search", "--passages 600 --dimension 8 --questions 9 --types flat ivfsq8 --aware", "  flat index: "),
        ("stores", "--passages 300 --dimension 8", "300 x 8: "),
        ("sweep", "--passages 300 --dimension 8", "10000 of 10000 lists agree"),
    ],
)
def test_a_benchmark_runs(script, arguments, ends, tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / f"{script}.py", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=250)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(ends), done.stdout
