"""Work items that a Ray cluster does, on machines that share a file system; this module knows no stores and no shards.

A worker is an actor of Ray: a process that keeps what it loads (a model, an open corpus) from item to item, and takes
the lowest item that is left.  Ray Data's pools of actors would do with fewer lines; but there the items of a node that
died wait for the others' to be done, and one that kills its worker is tried for ever, or by an option that Ray 2.60
announces to take away.
"""

import heapq
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from xqg_pyserini import __version__
from xqg_pyserini.errors import BusyOutput, UserError, XqgWarning, missing_package, warn

SYSTEM = "ray"
CLUSTER_HELP = "have a Ray cluster write it: that of ADDRESS, or of RAY_ADDRESS, or else one of this machine alone"
MOST_CPUS = 8  # of a worker, where the user does not say
TRIES = 3  # of an item whose worker was killed over it
POLL_SECONDS = 5.0
GONE_SECONDS = 60.0  # without a node before a job gives up
ANSWER_SECONDS = 10.0  # that the head of a cluster may take
BUSY_SECONDS = 120.0  # until the lock of a machine that died is let go
_ENVIRONMENT = (
    "XQG_",
    "HF_",
    "TRANSFORMERS_",
    "TOKENIZERS_",
    "ONEDNN_",
)  # what workers must have as the command has it


class LostWorkersError(OSError):
    """The cluster could not go on; what is finished is kept, and the same command goes on from there."""


def check_cluster(cluster: str) -> str | None:
    """Return the address in "ray" or "ray:ADDRESS"; None for none.

    Raises `UserError` for anything else, and where Ray is not installed.
    """
    system, colon, address = cluster.partition(":")
    if system != SYSTEM or bool(colon) != bool(address):
        raise UserError(f"cluster {cluster!r}; expected {SYSTEM}, or {SYSTEM}:ADDRESS", "cluster")
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        raise missing_package("ray", "cluster") from None
    return address or os.environ.get("RAY_ADDRESS") or None


@dataclass(frozen=True)
class Place:
    """What a worker takes of a node."""

    cpus: int
    gpus: int

    def on(self, node: dict[str, float]) -> int:
        """Return how many workers a node with these resources has room for."""
        by_cpus = int(node.get("CPU", 0)) // self.cpus if self.cpus else sys.maxsize
        return min(by_cpus, int(node.get("GPU", 0)) if self.gpus else by_cpus)


class Cluster:
    """A Ray cluster that this process is connected to; see `connected`."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def device(self, asked: str) -> str:
        """Return "cuda" or "cpu" for a device as asked for: "auto" is cuda where the cluster has GPUs.

        Raises `UserError` for cuda without GPUs, and for one GPU of several: which a worker gets, Ray says.
        """
        gpus = any(node.get("GPU", 0) >= 1 for node in self._nodes())
        if asked not in ("auto", "cpu", "cuda"):
            raise UserError(f"device {asked!r}: on a cluster expected auto, cpu, cuda", "device")
        if asked == "cuda" and not gpus:
            raise UserError("device 'cuda': no node of the cluster has a GPU, or says so", "device")
        return "cuda" if gpus and asked != "cpu" else "cpu"

    def place(self, device: str, threads: int | None) -> Place:
        """Return what a worker takes: a GPU and its share of the CPUs, or some CPUs.

        These are `threads`, or as many as the smallest node has, 8 at most.  Raises `UserError` where no node has them.
        """
        gpus = 1 if self.device(device) == "cuda" else 0
        nodes = [node for node in self._nodes() if (node.get("GPU", 0) >= 1 if gpus else node.get("CPU", 0) >= 1)]
        shares = [int(node.get("CPU", 0) // node["GPU"] if gpus else node["CPU"]) for node in nodes]
        place = Place(threads or min([MOST_CPUS, *shares]), gpus)
        if not any(map(place.on, nodes)):
            what = f"{threads} CPUs" if threads else "a CPU"
            raise UserError(f"no node of the cluster has {what} for a worker", ("threads", "cluster"))
        return place

    def workers(self, place: Place) -> int:
        """Return how many workers there is room for now."""
        return sum(map(place.on, self._nodes()))

    def run(self, work: Callable[..., Any], items: Sequence[Any], names: Sequence[str], place: Place) -> Iterator[Any]:
        """Call `work(*item)` for each item, and yield its number and what came of it, in any order.

        `work` is sent to each worker once.  What it warns of is warned of here, what it raises is raised here; then,
        and where the caller stops, the workers are ended.  A worker whose process or node dies loses nothing but its
        item, which another takes; nodes that join are used.

        Raises:
            LostWorkersError: for an item whose worker died `TRIES` times, or no node for `GONE_SECONDS`.
        """
        job = _Run(self, work, list(items), list(names), place)
        try:
            yield from job.results()
        finally:
            job.end()


class _Doing(NamedTuple):
    worker: Any  # an actor
    item: int | None  # None: it begins


class _Run:
    """Items being handed out."""

    def __init__(
        self, cluster: Cluster, work: Callable[..., Any], items: list[Any], names: list[str], place: Place
    ) -> None:
        self._cluster, self._ray, self._place = cluster, cluster._ray, place
        self._items, self._names = items, names
        self._left = list(range(len(items)))  # a heap
        self._doing: dict[Any, _Doing] = {}  # what was asked of a worker → who was asked for what
        self._died: Counter[int | None] = Counter()
        self._room, self._looked, self._seen = 0, 0.0, time.monotonic()
        self._start = os.getcwd(), {k: v for k, v in os.environ.items() if k.startswith(_ENVIRONMENT)}, __version__
        try:
            self._work = self._ray.put(work)
        except (TypeError, AttributeError) as error:  # such as an encoder that was wrapped
            what = f"what is to be done cannot be sent to a cluster ({error})"
            raise UserError(f"{what}; name an encoder in place of an object", ("cluster", "encoder")) from None
        options = {"num_cpus": place.cpus, "num_gpus": place.gpus, "max_restarts": 0, "max_task_retries": 0}
        self._actor = self._ray.remote(**options)(_Worker)

    def results(self) -> Iterator[tuple[int, Any]]:
        while self._left or any(doing.item is not None for doing in self._doing.values()):
            self._hire()
            done, _ = self._ray.wait(list(self._doing), timeout=POLL_SECONDS) if self._doing else ([], [])
            if not self._doing:
                time.sleep(min(1.0, POLL_SECONDS))
            for asked in done:
                worker, item = self._doing.pop(asked)
                if (answer := self._answer(asked, worker, item)) is None:
                    continue
                for text in answer.warnings:
                    warn(text)
                if answer.error is not None:
                    raise answer.error
                if self._left:
                    number = heapq.heappop(self._left)
                    self._doing[worker.work.remote(self._items[number])] = _Doing(worker, number)
                else:
                    self._ray.kill(worker)
                if item is not None:
                    yield item, answer.value

    def _hire(self) -> None:
        """Begin as many workers as there is room for, and items."""
        now = time.monotonic()
        if now - self._looked > POLL_SECONDS or not self._looked:
            self._room, self._looked = self._cluster.workers(self._place), now
            self._seen = now if self._room else self._seen
            if now - self._seen > GONE_SECONDS:
                raise LostWorkersError("the cluster has no node left; run again when it has: what is finished is kept")
        beginning = sum(doing.item is None for doing in self._doing.values())
        for _ in range(min(len(self._left) - beginning, self._room - len(self._doing))):
            worker = self._actor.remote()
            self._doing[worker.begin.remote(*self._start, [self._work])] = _Doing(worker, None)

    def _answer(self, asked: Any, worker: Any, item: int | None) -> "_Answer | None":
        """Return what a worker answers; None where it died, and what it did is left for another."""
        try:
            answer: _Answer = self._ray.get(asked)
        except self._ray.exceptions.RayActorError as error:  # its node or its process died, or cannot be reached
            self._ray.kill(worker)
            self._died[item] += 1
            self._looked = 0.0
            if self._died[item] >= TRIES:
                raise self._lost(item, error) from None
            if item is not None:
                heapq.heappush(self._left, item)
            return None
        self._died[item] = 0
        return answer

    def _lost(self, item: int | None, error: Exception) -> LostWorkersError:
        kept = "what is finished is kept, and goes on when it is run again"
        if item is None:
            lines = str(error).strip().splitlines() or [repr(error)]
            return LostWorkersError(f"workers end before they begin ({lines[-1].strip()}); {kept}")
        what = f"{TRIES} workers ended over {self._names[item]} (out of memory? smaller batches take less)"
        return LostWorkersError(f"{what}; {kept}")

    def end(self) -> None:
        """End the workers."""
        for worker, _ in self._doing.values():
            self._ray.kill(worker)


# ---------------------------------------------------------------- on a node


class _Answer(NamedTuple):
    value: Any
    warnings: list[str]
    error: Exception | None


class _Worker:
    """What runs in a process of a node."""

    _work: Callable[..., Any]

    def begin(self, folder: str, environment: dict[str, str], version: str, work: list[Any]) -> _Answer:
        """Make this process like the one that gave the command; `work` is what `Cluster.run` was given, put away."""
        import ray

        def load() -> None:
            where = f"node {ray.util.get_node_ip_address()}"
            if version != __version__:
                raise UserError(f"{where} has xqg_pyserini {__version__}, and not {version}; install one everywhere")
            try:
                os.chdir(folder)
            except OSError:
                what = f"{folder} is not there on {where}"
                raise UserError(f"{what}; a cluster's machines need one file system, under the same paths") from None
            self._work = ray.get(work[0])

        os.environ.update(environment)  # before what reads it is imported
        return _answered(load)

    def work(self, item: Sequence[Any]) -> _Answer:
        """Do an item, and keep what was loaded for it."""

        def do() -> Any:
            until = time.monotonic() + BUSY_SECONDS
            while True:
                try:
                    return self._work(*item)
                except BusyOutput:  # by a worker whose node was given up: its lock ends with it
                    if time.monotonic() > until:
                        raise
                time.sleep(1)

        return _answered(do)


def _answered(do: Callable[[], Any]) -> _Answer:
    """Return what comes of a call, with its warnings, and its error as something that can be sent."""
    value = None
    error: Exception | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", XqgWarning)
        try:
            value = do()
        except UserError as raised:
            error = raised
        except OSError as raised:
            error = OSError(raised.errno, raised.strerror, raised.filename)
        except Exception as raised:
            error = RuntimeError(f"a worker ended with {type(raised).__name__}: {raised}")
    return _Answer(value, list(dict.fromkeys(str(warning.message) for warning in caught)), error)


# ---------------------------------------------------------------- the connection


@contextmanager
def connected(cluster: str) -> Iterator[Cluster]:
    """Connect to a cluster, or start one of this machine alone, which ends with the block.

    "ray:ADDRESS" names one, and so does RAY_ADDRESS for "ray"; without either "ray" is this machine.

    Raises:
        UserError: as `check_cluster`; where there is no cluster at the address, or one of another version.
    """
    address = check_cluster(cluster)
    _check_answer(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    said = sys.stderr if logging.getLogger(__name__).isEnabledFor(logging.WARNING) else None
    begin = partial(ray.init, address or "local", include_dashboard=None if address else False, log_to_driver=False)
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(said or nowhere),  # Ray prints what befalls its nodes
        # a signal that broke off Ray's beginning would crash it, and is heard in this thread alone; what the other
        # begins ends with it, so that it stays
        _own_signals(),
        ThreadPoolExecutor(1) as beside,
    ):
        try:
            try:
                with _own_signals():
                    beside.submit(begin).result()
            except Exception as error:
                reason = (str(error).strip().splitlines() or [repr(error)])[0]
                raise UserError(f"no Ray cluster at {address or 'this machine'}: {reason}", "cluster") from None
            yield Cluster(ray)
        finally:
            beside.submit(_disconnect, ray, address is None).result()


def _disconnect(ray: Any, is_own: bool) -> None:
    """Leave a cluster; one of this process's own ends."""
    import psutil

    for process in psutil.Process().children() if is_own else ():
        with suppress(psutil.Error):  # what only watches has nothing to save, and Ray would wait a second for it
            is_rays = any(f"{os.sep}ray{os.sep}" in word for word in process.cmdline())
            if is_rays and process.name() not in ("gcs_server", "raylet"):
                process.kill()
    ray.shutdown()


def _check_answer(address: str | None) -> None:
    """Raise `UserError` where nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"no Ray cluster at {address}: {reason}", "cluster") from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what a SIGTERM does here: Ray has it print a trace, and when it ends, kill unheard."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
