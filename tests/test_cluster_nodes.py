"""`--cluster ray` on two node processes: the bytes of one machine, whatever becomes of the nodes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_server import Server
from conftest import write_jsonl
from generators import DEMO, make_mt5
from made_models import WORDS, make_model
from ray_machines import Machines

import xqg_pyserini as xqg
from xqg_pyserini.cluster import Place, connected
from xqg_pyserini.errors import UserError, XqgWarning, warn
from xqg_pyserini.files import aside_of

pytest.importorskip("ray", reason="ray is not installed (extra cluster)")
pytestmark = pytest.mark.cluster
N = 1100  # more than twice the least of a shard


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def machines():
    made = Machines()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("logs"), "import torch\nfrom transformers import AutoModel, BertModel\n")
    yield made
    made.stop()


MODEL = ("--encoder", "model", "--pooling", "mean", "--device", "cpu")
COMMANDS = {
    "P": ("encode", "--corpus", "corpus.jsonl", *MODEL),
    "Q": ("accumulate", "--queries", "queries.jsonl", "--passages", "P", "--keep-counts", "1", "--device", "cpu"),
    "A": ("align", "--queries", "queries.jsonl", "--passages", "P", "--device", "cpu"),
    "I": ("index", "--passages", "P", "--queries", "Q", "--beta", "0.3", "--center", "--type", "sq8"),
}
GENERATE = ("generate", "--corpus", "few.jsonl", "--model", "mt5", "--languages", "ar", "fi", "--num-queries", "2",
            "--max-new-tokens", "8", "--num-shards", "12", "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, server) -> Path:
    """What the commands take, and what they write on one machine."""
    folder = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(3)

    def text(length):
        return " ".join(random.choice(WORDS, length))

    write_jsonl(folder / "corpus.jsonl", [{"id": f"p{i}", "text": text(6)} for i in range(N)])
    records = [{"docid": f"p{i}", "generated_queries": {l: [text(3), text(2)] for l in ("ar", "fi")}} for i in range(N)]
    write_jsonl(folder / "queries.jsonl", records)
    make_model(folder / "model")
    make_mt5(folder / "mt5")
    lines = (DEMO / "corpus.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "few.jsonl").write_text("".join(lines[:36]), "utf-8")
    for name, words in {**COMMANDS, "G": GENERATE}.items():
        code, _, stderr = server([*words, "--output", name], folder)
        assert (code, stderr) == (0, "")
    return folder


@pytest.fixture
def on_cluster(machines, place, server):
    """Run a command on the cluster; return its exit code, stdout and stderr."""

    def run(words, output, *more):
        return server([*words, "--output", output, *more, "--cluster", f"ray:{machines.address}"], place)

    return run


@pytest.mark.parametrize("name", ["P", "Q", "I"])
def test_what_a_cluster_writes_is_what_one_machine_writes(name, on_cluster, place):
    code, stdout, stderr = on_cluster(COMMANDS[name], f"{name}-cluster")
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"{name}-cluster: ")
    assert tree(place / f"{name}-cluster") == tree(place / name)
    assert not list(place.glob(".*"))


def test_shards_of_a_cluster_are_those_of_one_machine(on_cluster, place, server):
    words = [*COMMANDS["A"], "--num-shards", "3"]
    assert server([*words, "--output", "T"], place)[0] == 0
    assert on_cluster(words, "T-cluster") == (0, "T-cluster: 3 of 3 shards, 3 written now\n", "")
    assert tree(place / "T-cluster") == tree(place / "T")
    shutil.rmtree(place / "T-cluster" / "shard-00001-of-00003")
    assert on_cluster(words, "T-cluster") == (0, "T-cluster: 3 of 3 shards, 1 written now\n", "")
    assert tree(place / "T-cluster") == tree(place / "T")


def test_an_alignment_of_a_cluster_is_that_of_one_machine_within_rounding(on_cluster, place):
    """The last third of the passages has no query, and so the last shard none."""
    records = (place / "queries.jsonl").read_text("utf-8").splitlines(keepends=True)
    (place / "first.jsonl").write_text("".join(records[: N // 3]), "utf-8")
    words = ["align", "--queries", "first.jsonl", *COMMANDS["A"][3:]]
    code, _, stderr = on_cluster(words, "B-cluster")
    assert (code, stderr) == (0, "")
    one, other = xqg.align(place / "first.jsonl", place / "P"), xqg.Alignment(place / "B-cluster")
    np.testing.assert_allclose(other.centers, one.centers, rtol=1e-6)
    np.testing.assert_allclose(other.matrices, one.matrices, atol=1e-6)
    assert other.meta["pairs"] == one.meta["pairs"]
    assert "shard" not in other.meta
    assert not list(place.glob(".*"))


def test_what_is_wrong_on_a_node_is_one_line_here_and_leaves_nothing(on_cluster, place):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(place / "model", place / "broken")
    weights = load_file(place / "broken" / "model.safetensors")
    rare = 4 + WORDS.index("gas")
    weights["embeddings.word_embeddings.weight"][rare] = np.nan
    save_file(weights, place / "broken" / "model.safetensors", {"format": "pt"})
    corpus = [{"id": str(i), "text": "gas" if i == 40 else "moon"} for i in range(60)]
    write_jsonl(place / "gas.jsonl", corpus)
    words = ["encode", "--corpus", "gas.jsonl", "--encoder", "broken", "--pooling", "mean", "--device", "cpu"]
    for more in ([], ["--num-shards", "3"]):
        code, stdout, stderr = on_cluster(words, "broken-out", *more)
        expected = "xqg encode: error: encoder broken gives NaN or infinity for 'gas' (fp32; try fp32) (--precision)\n"
        assert (code, stdout, stderr) == (2, "", expected)
        left = {path.name for path in place.glob("broken-out/*")}
        assert left <= {"shard-00000-of-00003", "shard-00001-of-00003"}  # whole ones stay
        assert not list(place.rglob(".*"))


def test_a_gpu_is_asked_for_where_one_is_there(on_cluster):
    """One node says that it has a GPU, and its worker finds that torch sees none."""
    code, _, stderr = on_cluster([*COMMANDS["P"][:-1], "cuda"], "gpu-out")
    expected = "xqg encode: error: device 'cuda': this torch sees no CUDA device; choose cpu (--device)\n"
    assert (code, stderr) == (2, expected)


def start(words, place, address) -> subprocess.Popen:
    command = [sys.executable, "-m", "xqg_pyserini", *words, "--cluster", f"ray:{address}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=place, **pipes)


def wait_for(what, process):
    until = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_signal_ends_the_command_and_its_workers_and_it_goes_on(machines, place):
    words = [*GENERATE, "--output", "H"]
    process = start(words, place, machines.address)
    wait_for(lambda: list(place.glob("H/*.gz")), process)
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    took = time.monotonic() - told
    assert (process.returncode, stdout) == (128 + signal.SIGTERM, "")
    assert stderr.startswith("xqg generate: error: interrupted (SIGTERM); long jobs")
    assert len(stderr.splitlines()) == 1
    while machines.workers() and time.monotonic() < told + 10:
        time.sleep(0.05)
    assert machines.workers() == []
    assert not list(place.glob("H/.*"))
    assert took < 10
    written = len(list(place.glob("H/*.gz")))
    assert 0 < written < 12
    process = start(words, place, machines.address)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.startswith(f"H: 12 of 12 shards, {12 - written} written now: ")
    assert tree(place / "H") == tree(place / "G")


@pytest.fixture
def here(machines):
    """The cluster, with this process as its driver."""
    with connected(f"ray:{machines.address}") as made:
        yield made


def test_items_come_back_with_their_warnings_and_errors(here):
    def work(number, text):
        if number == 2:
            raise UserError(f"{text} is wrong", "setting")
        warn(f"{text} was seen")
        return number * 10

    items, names = [(0, "a"), (1, "b")], ["a", "b"]
    with pytest.warns(XqgWarning) as caught:
        assert sorted(here.run(work, items, names, Place(1, 0))) == [(0, 0), (1, 10)]
    assert {str(one.message) for one in caught} == {"a was seen", "b was seen"}
    with pytest.raises(UserError, match="c is wrong") as error:
        list(here.run(work, [(2, "c")], ["c"], Place(1, 0)))
    assert error.value.about == ("setting",)
    with pytest.raises(RuntimeError, match="a worker ended with ZeroDivisionError: division by zero"):
        list(here.run(lambda: 1 / 0, [()], ["c"], Place(1, 0)))


def test_a_worker_that_dies_loses_its_item_to_another_and_one_that_always_does_ends_the_job(here, tmp_path):
    def work(number, mark):
        if number and not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    mark = str(tmp_path / "mark")
    assert sorted(here.run(work, [(0, mark), (1, mark)], ["a", "b"], Place(1, 0))) == [(0, 0), (1, 1)]
    with pytest.raises(xqg.LostWorkersError) as error:
        list(here.run(lambda: os.kill(os.getpid(), signal.SIGKILL), [()], ["b"], Place(1, 0)))
    assert str(error.value) == (
        "3 workers ended over b (out of memory? smaller batches take less); "
        "what is finished is kept, and goes on when it is run again"
    )


def test_a_node_that_is_killed_costs_time_alone(machines, place):
    """Last: the cluster has a node less after it."""
    process = start([*GENERATE, "--output", "K"], place, machines.address)
    wait_for(lambda: len(machines.workers()) == 2 and list(place.glob("K/*.gz")), process)
    machines.nodes.pop().kill()
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.startswith("K: 12 of 12 shards, 12 written now: 36 passages, 144 queries ")
    assert tree(place / "K") == tree(place / "G")


def test_without_an_address_it_is_this_machine(place):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    words = [*COMMANDS["I"], "--output", "local", "--num-shards", "2", "--cluster", "ray"]
    command = [sys.executable, "-m", "xqg_pyserini", *words]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((place / "local" / "shard-00001-of-00002" / "xqg.json").read_text("utf-8"))["shard"]["of"] == 2
    assert not aside_of(place / "local").exists()
