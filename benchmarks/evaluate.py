"""Score runs: `xqg evaluate` against trec_eval, pytrec_eval, ir_measures and ranx, CPU time and memory.

    python benchmarks/evaluate.py [--questions 2000] [--hits 1000] [--repeat 5] [--ways ours trec_eval …]

Made by the script: three TREC runs of different quality, graded judgements of 30 passages a question, four of them
relevant on average.  Every way scores all runs by the same measures, question by question, in a process of its own
(trec_eval: one a run; time is their sum); ours is the whole command, written tables and tests included.  Time is that
of the CPU, imports included, the median of the repeats; memory is the most that was resident at once.  All figures of
all questions must agree; the script stops otherwise.

trec_eval is the program in Anserini's jar, which Pyserini brings.  pytrec_eval-terrier comes with ir_measures.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

RUNS = ("bm25", "dense", "fused")
JUDGED, RELEVANT = 30, 4
MEASURES = {  # ours → trec_eval's, as asked for and as printed; ir_measures'; ranx's
    "ndcg@10": ("ndcg_cut.10", "ndcg_cut_10", "nDCG@10", "ndcg@10"),
    "recall@100": ("recall.100", "recall_100", "R@100", "recall@100"),
    "mrr": ("recip_rank", "recip_rank", "RR", "mrr"),
    "map": ("map", "map", "AP", "map"),
}
Figures = dict[str, dict[str, dict[str, float]]]  # run → measure → question → value


def make_inputs(folder: Path, questions: int, hits: int) -> None:
    """Write questions, qrels and runs: docids as MIRACL has them, scores that differ within a question."""
    chance = random.Random(2026)
    with open(folder / "questions.jsonl", "w") as file:
        file.writelines(
            json.dumps({"id": f"{q}#0", "text": f"question {q}", "lang": "fi"}) + "\n" for q in range(questions)
        )
    pools = []
    with open(folder / "qrels.txt", "w") as file:
        for q in range(questions):
            pool = [f"{chance.randrange(10**7)}#{chance.randrange(100)}" for _ in range(JUDGED)]
            pools.append(pool := list(dict.fromkeys(pool)))
            for i, docid in enumerate(pool):
                file.write(f"{q}#0 Q0 {docid} {chance.choice((1, 1, 2, 3)) if i < RELEVANT else 0}\n")
    for number, name in enumerate(RUNS):
        with open(folder / f"{name}.trec", "w") as file:
            for q, pool in enumerate(pools):
                ranked = {docid: chance.random() ** (number + 1) for docid in pool if chance.random() < 0.9}
                while len(ranked) < hits:
                    ranked[f"{chance.randrange(10**7)}#{chance.randrange(100)}"] = chance.random()
                score = 20.0
                for rank, docid in enumerate(sorted(ranked, key=ranked.__getitem__)[:hits], 1):
                    score -= 0.00001 + chance.random() / 100
                    file.write(f"{q}#0 Q0 {docid} {rank} {score:.6f} {name}\n")


# ---------------------------------------------------------------- the ways


def ours(folder: Path) -> Iterator[list[str]]:
    runs = [str(folder / f"{name}.trec") for name in RUNS]
    command = [
        sys.executable,
        "-m",
        "xqg_pyserini",
        "evaluate",
        "--questions",
        str(folder / "questions.jsonl"),
        "--runs",
    ]
    command += [*runs, "--qrels", str(folder / "qrels.txt"), "--metrics", *MEASURES, "--output", str(folder / "ours")]
    yield [*command, "--overwrite"]


def ours_figures(folder: Path) -> Figures:
    runs = json.loads((folder / "ours" / "scores.json").read_text())["runs"]
    return {run: {m: one["questions"] for m, one in by_measure.items()} for run, by_measure in runs.items()}


def trec_eval(folder: Path) -> Iterator[list[str]]:
    program = folder / "trec_eval"
    if not program.exists():
        jar = next(Path(str(files("pyserini"))).glob("resources/jars/anserini-*-fatjar.jar"))
        machine = (
            "linux-amd64" if platform.system() == "Linux" else f"macosx-{platform.machine().replace('arm', 'aarch')}"
        )
        with zipfile.ZipFile(jar) as archive:
            program.write_bytes(archive.read(f"trec_eval/trec_eval-{machine}"))
        program.chmod(0o755)
    for name in RUNS:
        asked = [part for measure in MEASURES.values() for part in ("-m", measure[0])]
        yield [str(program), "-q", *asked, str(folder / "qrels.txt"), str(folder / f"{name}.trec")]


def trec_eval_figures(folder: Path) -> Figures:
    names = {measure[1]: ours for ours, measure in MEASURES.items()}
    figures: Figures = {run: {name: {} for name in MEASURES} for run in RUNS}
    for number, run in enumerate(RUNS):
        for line in (folder / f"trec_eval-{number}.out").read_text().splitlines():
            measure, qid, value = line.split()
            if qid != "all":
                figures[run][names[measure]][qid] = float(value)
    return figures


def in_python(way: str, folder: Path) -> Figures:
    """Score by a Python package in the way that its README has."""
    if way == "pytrec_eval":
        import pytrec_eval

        with open(folder / "qrels.txt") as file:
            qrels = pytrec_eval.parse_qrel(file)
        evaluator = pytrec_eval.RelevanceEvaluator(qrels, {measure[0] for measure in MEASURES.values()})
        figures: Figures = {}
        for name in RUNS:
            with open(folder / f"{name}.trec") as file:
                by_question = evaluator.evaluate(pytrec_eval.parse_run(file))
            figures[name] = {m: {q: v[MEASURES[m][1]] for q, v in by_question.items()} for m in MEASURES}
        return figures
    if way == "ir_measures":
        import ir_measures

        measures = {ir_measures.parse_measure(measure[2]): ours for ours, measure in MEASURES.items()}
        evaluator = ir_measures.evaluator(list(measures), ir_measures.read_trec_qrels(str(folder / "qrels.txt")))
        figures = {run: {name: {} for name in MEASURES} for run in RUNS}
        for name in RUNS:
            for metric in evaluator.iter_calc(ir_measures.read_trec_run(str(folder / f"{name}.trec"))):
                figures[name][measures[metric.measure]][metric.query_id] = metric.value
        return figures
    from ranx import Qrels, Run, evaluate

    qrels = Qrels.from_file(str(folder / "qrels.txt"), kind="trec")
    figures = {}
    for name in RUNS:
        run = Run.from_file(str(folder / f"{name}.trec"), kind="trec", name=name)
        evaluate(qrels, run, [measure[3] for measure in MEASURES.values()])
        figures[name] = {m: dict(run.scores[MEASURES[m][3]]) for m in MEASURES}
    return figures


WAYS = ("ours", "trec_eval", "pytrec_eval", "ir_measures", "ranx")


def commands(way: str, folder: Path) -> list[list[str]]:
    if way in ("ours", "trec_eval"):
        return list({"ours": ours, "trec_eval": trec_eval}[way](folder))
    return [[sys.executable, __file__, "--child", way, "--folder", str(folder)]]


def figures_of(way: str, folder: Path) -> Figures:
    if way in ("ours", "trec_eval"):
        return {"ours": ours_figures, "trec_eval": trec_eval_figures}[way](folder)
    figures: Figures = json.loads((folder / f"{way}.json").read_text())
    return figures


def measure(way: str, folder: Path) -> tuple[float, float]:
    """Run a way; return its seconds of CPU and its peak memory in MB."""
    seconds = peak = 0.0
    for number, command in enumerate(commands(way, folder)):
        with open(folder / f"{way}-{number}.out", "w") as out:
            process = subprocess.Popen(command, stdout=out)
            _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{way} failed: {' '.join(command)}")
        seconds += used.ru_utime + used.ru_stime
        peak = max(peak, used.ru_maxrss / 1024)
    return seconds, peak


def check(way: str, figures: Figures, expected: Figures) -> None:
    """Raise where a figure differs from ours; trec_eval prints four decimals, ranx has its own order of sums."""
    allowed = {"trec_eval": 0.5001e-4, "pytrec_eval": 1e-15, "ir_measures": 1e-15}.get(way, 1e-9)
    for run, by_measure in expected.items():
        for name, values in by_measure.items():
            for qid, value in values.items():
                if not abs(figures[run][name][qid] - value) <= allowed:
                    raise RuntimeError(f"{way}, {run}, {name}, {qid}: {figures[run][name][qid]}, ours {value}")


def compare(ways: Sequence[str], repeat: int, folder: Path) -> None:
    """Run all ways in turn, `repeat` times, and print a table in Markdown."""
    seen: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(repeat):
        for way in ways:
            seen[way].append(measure(way, folder))
            print(way, *(round(value, 2) for value in seen[way][-1]), file=sys.stderr, flush=True)
            check(way, figures_of(way, folder), figures_of("ours", folder))
    first = statistics.median(seconds for seconds, _ in seen["ours"])
    print("| | s of CPU | from – to | ours / theirs | memory, MB |\n|---|---|---|---|---|")
    for way, rows in seen.items():
        times = sorted(seconds for seconds, _ in rows)
        median = statistics.median(times)
        ratio = "" if way == "ours" else f"**{first / median:.2f}**"
        print(f"| {way} | {median:.2f} | {times[0]:.2f} – {times[-1]:.2f} | {ratio} | {max(p for _, p in rows):,.0f} |")


def main() -> None:
    """Make the inputs and compare the ways, or be one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--hits", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="always with ours")
    parser.add_argument("--folder", type=Path, help="keep the inputs here, and take them from here")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        (args.folder / f"{args.child}.json").write_text(json.dumps(in_python(args.child, args.folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or Path(made)
        folder.mkdir(exist_ok=True)
        if not (folder / f"{RUNS[-1]}.trec").exists():
            make_inputs(folder, args.questions, args.hits)
        compare(["ours", *(way for way in args.ways if way != "ours")], args.repeat, folder)


if __name__ == "__main__":
    main()
