"""Memory and time of the main job at 10,000, 100,000 and 1,000,000 passages.

    python benchmarks/growth.py [--sizes 10000 100000 1000000] [--dimension 64] [--folder DIR] [--pyserini]

Synthetic passages with a generated query each in two languages; the encoder is a stub that makes vectors of numbers in
the text, so that what is measured is everything else.  Each step runs once a size, in a process of its own: seconds of
CPU, and the peak of anonymous memory (what was allocated, not files that are mapped).  The corpus that `evaluate` reads
is the whole one, its run has 500 questions of 100 hits.  --pyserini: `pyserini.encode` with the same stub beside.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Cost, cost

LANGUAGES = ("fi", "ru")
QUESTIONS, HITS, TABLE = 500, 100, 4096


class Stub:
    """The vector of the number that a text begins with, or of the length of its first word."""

    def __init__(self, d: int) -> None:
        rows = np.random.default_rng(0).standard_normal((TABLE, d), dtype=np.float32)
        self._rows = rows

    def encode(self, texts: list[str], **_: Any) -> np.ndarray:
        """Return unit vectors (n, d)."""
        first = (text.split(maxsplit=1)[0] for text in texts)
        numbers = np.array([int(word) if word.isdecimal() else len(word) for word in first])
        vectors = self._rows[numbers % TABLE] + self._rows[numbers // TABLE % TABLE]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(folder: Path, n: int) -> None:
    """Write corpus, generated queries and questions."""
    filling = "about a city by the river, its bridges, its markets, and the people who built them " * 5
    with open(folder / "corpus.jsonl", "w") as corpus, open(folder / "queries.jsonl", "w") as queries:
        for i in range(n):
            corpus.write(json.dumps({"docid": f"p{i}", "text": f"{i} {filling}"}) + "\n")
            generated = {language: [f"{i} {language}"] for language in LANGUAGES}
            queries.write(json.dumps({"docid": f"p{i}", "generated_queries": generated}) + "\n")
    with open(folder / "questions.jsonl", "w") as questions:
        for i in range(QUESTIONS):
            of = i * (n // QUESTIONS)
            lang = LANGUAGES[i % len(LANGUAGES)]
            line = {"id": f"q{i}", "question": f"{of} ?", "lang": lang, "answers": [f"{of} about a city"]}
            questions.write(json.dumps(line) + "\n")


def step(name: str, folder: Path, d: int) -> None:
    """Do one step of the job."""
    import xqg_pyserini as xqg

    corpus, queries, questions = (folder / f"{name}.jsonl" for name in ("corpus", "queries", "questions"))
    passages, sums, index, run = (folder / name for name in ("passages", "sums", "index", "run.trec"))
    if name == "evaluate":
        xqg.evaluate([run], questions, ["R@2kt", "mrr@10"], corpus=corpus)
        return
    encoder = xqg.Encoder(Stub(d), name="stub")
    if name == "encode":
        xqg.encode_passages(corpus, encoder, passages, overwrite=True)
    elif name == "accumulate":
        xqg.accumulate_queries(queries, passages, sums, encoder=encoder, overwrite=True)
    elif name == "align":
        xqg.align(queries, passages, folder / "alignment", encoder=encoder, overwrite=True)
    elif name == "index":
        xqg.Fused(passages, sums, xqg.Fusion("mean", beta=0.3, normalize=True)).write_index(index, overwrite=True)
    elif name == "search":
        xqg.write_run(run, xqg.Index(index).search(questions, HITS, encoder=encoder), "stub")
    elif name == "pyserini":
        _pyserini(corpus, folder / "pyserini", d)


def _pyserini(corpus: Path, output: Path, d: int) -> None:
    """Run `pyserini.encode` with the stub as one of its encoders."""
    import runpy

    from xqg_pyserini.bridge.java import prepare

    prepare(False)
    import pyserini.encode
    import pyserini.encode.__main__ as theirs

    class Encoder(pyserini.encode.DocumentEncoder):
        def __init__(self, *_: Any, **__: Any) -> None:
            self._stub = Stub(d)

        def encode(self, texts: list[str], **_: Any) -> np.ndarray:
            return self._stub.encode(texts)

    del theirs
    sys.modules.pop("pyserini.encode.__main__")
    pyserini.encode.document_encoder_class_map["auto"] = Encoder
    arguments = ["input", "--corpus", str(corpus), "--fields", "text"]
    arguments += ["output", "--embeddings", str(output), "--to-faiss"]
    arguments += ["encoder", "--encoder", "stub", "--encoder-class", "auto", "--fields", "text", "--dimension", str(d)]
    sys.argv = ["pyserini.encode", *arguments, "--batch-size", "256", "--device", "cpu"]
    runpy.run_module("pyserini.encode", run_name="__main__", alter_sys=True)


def table(costs: dict[str, dict[int, Cost]]) -> str:
    """Return the figures in Markdown; each size beside the one before."""
    sizes = list(next(iter(costs.values())))
    lines = ["| | " + " | ".join(f"{n:,}: CPU, s | MB" for n in sizes) + " |", "|---" * (1 + 2 * len(sizes)) + "|"]
    for name, of in costs.items():
        cells = [f"{of[n].cpu:,.1f} | {of[n].memory:,.0f}" for n in sizes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, make the inputs, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--folder", help="where the inputs go (default: a temporary folder)")
    parser.add_argument("--pyserini", action="store_true")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        return step(args.step[0], Path(args.step[1]), args.dimension)
    steps = ["encode", "accumulate", "align", "index", "search", "evaluate", *(["pyserini"] if args.pyserini else [])]
    costs: dict[str, dict[int, Cost]] = {name: {} for name in steps}
    for n in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            make(Path(name), n)
            for each in steps:
                command = [sys.executable, __file__, "--dimension", str(args.dimension), "--step", each, name]
                costs[each][n] = cost(command)
    print(table(costs))


if __name__ == "__main__":
    main()
