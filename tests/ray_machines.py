"""A Ray cluster of three nodes on this machine, started as docs/scaling.md says: a head that computes nothing, and two.

One of the two says that it has a GPU, which is not true.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

NODES = 2
os.environ["RAY_AUTH_MODE"] = "disabled"  # it listens on this machine alone; and no token is left in the home folder


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def of_session(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(after_name[3]) == session and after_name[0] != "Z":
            found.append(int(path.parent.name))
    return found


class Node:
    """One `ray start --block`, with all that it starts in a session of its own."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *words]
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(command, start_new_session=True, **how)
        for line in self.process.stdout:
            if "Ray runtime started" in line:
                break
        else:
            raise RuntimeError("a node did not start")

    def kill(self) -> None:
        """End it as a power cut would."""
        for pid in of_session(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Machines:
    """The cluster; `address` is that of its head."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="ray-")  # short: there are sockets in it
        self.address = f"127.0.0.1:{_free_port()}"
        port = self.address.partition(":")[2]
        head = ["--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        self.nodes: list[Node] = []
        self.head = Node(*head, *self._same)
        for i in range(NODES):
            self.add(*["--num-gpus=1"] * i)

    _same = ("--node-ip-address=127.0.0.1", "--object-store-memory=80000000")

    def add(self, *words: str) -> Node:
        """Start one more node, of one CPU."""
        node = Node(f"--address={self.address}", "--num-cpus=1", *self._same, *words)
        self.nodes.append(node)
        return node

    def workers(self) -> list[int]:
        """The processes that are at work, or wait for some."""
        found = []
        for node in self.nodes:
            for pid in of_session(node.process.pid):
                try:
                    name = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                if name.startswith(b"ray::_Worker"):
                    found.append(pid)
        return found

    def stop(self) -> None:
        for node in [*self.nodes, self.head]:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
