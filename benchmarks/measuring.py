"""What benchmarks share: commands run in turn, each in a process of its own, with what they cost."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# an installed package has its bytecode: a checkout must be let to keep it, or each command compiles all that it imports
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Cost(NamedTuple):
    """What a command cost: seconds of CPU and of the clock, and the peak of anonymous memory in MB.

    Anonymous memory is what a process allocated, not files that it mapped; it is looked at every 5 ms.
    """

    cpu: float
    wall: float
    memory: float


def cost(command: Sequence[str]) -> Cost:
    """Run a command to its end; raises `CalledProcessError` if it fails."""
    os.sync()  # what the command before left to be written is not this one's burden
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    peak, done = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
    watcher.start()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    watcher.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(used.ru_utime + used.ru_stime, wall, peak[0] / 2**20)


def _watch(pid: int, peak: list[int], done: threading.Event) -> None:
    while not done.wait(0.005):
        try:
            lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
        except OSError:
            return
        held = [int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")]
        peak[0] = max(peak[0], *held, 0)


def in_turn(
    ways: Mapping[str, Sequence[str]], times: int = 5, before: Callable[[str], None] = lambda name: None
) -> dict[str, list[Cost]]:
    """Run each command `times` times, one after the other and again, so that a busy minute meets them all.

    Before each run `before` is called with its name; that time does not count.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(times):
        for name, command in ways.items():
            before(name)
            costs[name].append(cost(command))
    return costs


def table(costs: Mapping[str, Sequence[Cost]], reference: str) -> str:
    """Return a table in Markdown: medians with least and most, and ratios to the reference (below 1: cheaper)."""
    base = Cost(*map(statistics.median, zip(*costs[reference], strict=True)))
    lines = ["| | CPU, s | ratio | wall, s | ratio | memory, MB | ratio |", "|---|---|---|---|---|---|---|"]
    for name, runs in costs.items():
        cells = [name]
        for values, than, digits in zip(zip(*runs, strict=True), base, (2, 2, 0), strict=True):
            middle = statistics.median(values)
            cells.append(f"{middle:,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})")
            cells.append(f"{middle / than:.2f}" if than else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
