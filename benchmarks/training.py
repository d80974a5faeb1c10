"""Train a retriever for some steps by each tuning method, and in chunks; encode questions with it.

    python benchmarks/training.py [--steps 10] [--rounds 1]

The model has multilingual-e5-small's shape and number of words, with random weights, which cost
the same as trained ones.  Every training is a process of its own: `xqg train retriever`, whose
training.json gives seconds a step (median), peak memory and bytes; the best of the rounds counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from encode import demo_texts, make_model
from transformers.utils import logging

from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.tuning.methods import METHODS

WORDS = 250_037  # of multilingual-e5-small
BATCH, LARGE = 16, 64
WAYS = {"the whole batch at once": (), "8 texts at a time": ("--chunk-size", "8")}
KEYS = ("trainable_parameters", "seconds_per_step", "peak_memory_bytes", "stored_bytes")
SHAPE = ("--pooling", "mean", "--query-length", "32", "--passage-length", "64")


def write_pairs(path: Path, passages: list[str], queries: list[str]) -> None:
    pairs = [(q, passages[i % len(passages)]) for i, q in enumerate(queries)]
    path.write_text("".join(f"{q}\t{p}\n" for q, p in pairs), "utf-8")


def train(folder: Path, data: Path, steps: int, *flags: str) -> dict[str, Any]:
    output = folder / "trained"
    command = [sys.executable, "-m", "xqg_pyserini", "train", "retriever", "--overwrite"]
    command += ["--model", str(folder / "model"), "--data", str(data), "--output", str(output)]
    command += ["--max-steps", str(steps), "--learning-rate", "1e-5", *SHAPE, *flags]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads((output / "training.json").read_text("utf-8"))


def encoding_seconds(folder: Path, queries: list[str]) -> float:
    encoder = Encoder(folder / "trained", device="cpu")
    encoder.encode_queries(queries[:32])
    start = time.perf_counter()
    encoder.encode_queries(queries)
    return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--steps", type=int, default=10)
    arguments.add_argument("--rounds", type=int, default=1)
    args = arguments.parse_args()
    logging.disable_progress_bar()
    texts = demo_texts(48, 800)
    best: dict[str, dict[str, float]] = {}

    def measure(name: str, *flags: str, encode: bool) -> None:
        report = train(folder, data, args.steps, *flags)
        cost = {key: report[key] for key in KEYS}
        if encode:
            cost["encoding"] = encoding_seconds(folder, texts["query"][:200])
        known = best.setdefault(name, cost)
        best[name] = {key: min(known[key], value) for key, value in cost.items()}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(str(folder / "model"), texts["passage"] + texts["query"], WORDS)
        data = folder / "pairs.tsv"
        write_pairs(data, texts["passage"], texts["query"])
        for _ in range(args.rounds):
            for method in METHODS:
                measure(method, "--tuning", method, "--batch-size", str(BATCH), encode=True)
            for way, more in WAYS.items():
                flags = ("--tuning", "lora", "--batch-size", str(LARGE), *more)
                measure(way, *flags, encode=False)
    print("| method | trained | s/step | ratio | memory, MB | stored, MB | questions/s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    full = best["full"]
    for method in METHODS:
        b = best[method]
        print(
            f"| {method} | {b['trainable_parameters']:,.0f} | {b['seconds_per_step']:.2f} "
            f"| {b['seconds_per_step'] / full['seconds_per_step']:.2f} "
            f"| {b['peak_memory_bytes'] / 1e6:,.0f} | {b['stored_bytes'] / 1e6:,.2f} "
            f"| {200 / b['encoding']:.0f} | {full['encoding'] / b['encoding']:.2f} |"
        )
    print(f"\n| LoRA, {LARGE} questions a step | s/step | memory, MB |\n|---|---|---|")
    for way in WAYS:
        b = best[way]
        print(f"| {way} | {b['seconds_per_step']:.2f} | {b['peak_memory_bytes'] / 1e6:,.0f} |")


if __name__ == "__main__":
    main()
