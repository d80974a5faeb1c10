"""What tests of pages share: an evaluation with hostile texts, and folders of sweeps by hand."""

import csv
import json
import re
import shutil

import pytest
from conftest import write_jsonl
from made_results import write_run

from xqg_pyserini.evaluation.results import Results
from xqg_pyserini.evaluation.scores import evaluate as score
from xqg_pyserini.report import plots
from xqg_pyserini.report.page import write_page
from xqg_pyserini.report.results import record_inputs, write_results

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
CORPUS = [
    {"id": "d1", "title": f"One {EVIL}", "text": f"🐈 In 1912 it sank, in 1912. {EVIL} & <b>ice</b>"},
    {"id": "d2", "title": "النيل", "text": "يجري نهر النيل شمالا عبر مصر."},
    {"id": "d3", "title": "二", "text": "ナイル川は北へ流れる。"},
    {"id": "d4", "title": "", "text": "Nothing is asked of this passage."},
    {"id": "unseen", "title": "", "text": "No run has this: SECRET-DECOY."},
]
OVERRIDE = "\u202e"  # right-to-left override
QUESTIONS = [
    {"id": "a1", "question": "متى غرقت؟", "lang": "ar", "answers": ["1912", "2 it"]},
    {"id": "a2", "question": f"أين {EVIL}؟", "lang": "ar", "answers": ["مصر", EVIL]},
    {"id": "a3", "question": "لا أحد", "lang": "ar", "answers": ["nobody"]},
    {"id": "j1", "question": "ナイル川はどこへ流れますか？", "lang": "ja", "answers": ["北"]},
    {"id": "j2", "question": "何もない？", "lang": "ja", "answers": ["Nothing"]},
]
ONE = {"a1": ["d4", "d2", "d1"], "a2": ["d2", "d1"], "a3": ["d4", "d3"], "j1": ["d4", "d1", "d3"], "j2": ["d4"]}
TWO = {**ONE, "a1": ["d1", "d4"], "j1": ["d3", "d2"]}
EVIL_RUN = "<img src=x onerror=window.hacked=3>"
METRICS = ["R@0.005kt", "mrr@10"]  # five tokens: about one passage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with inputs and an evaluation of two runs; texts and a run's name are hostile."""
    folder = tmp_path_factory.mktemp("made")
    write_jsonl(folder / "corpus.jsonl", CORPUS)
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    write_run(folder / "one.trec", ONE)
    write_run(folder / f"{EVIL_RUN}.trec", TWO)
    evaluate(folder, [f"../{name}.trec" for name in ("one", EVIL_RUN)])
    return folder


def evaluate(folder, runs, metrics=METRICS, output="evaluation"):
    """Evaluate runs of a folder, whose paths are as seen from the evaluation."""
    inputs = record_inputs(
        folder / output,
        questions="../questions.jsonl",
        runs=runs,
        corpus="../corpus.jsonl",
        qrels=None,
        language=None,
        official=False,
        with_title=False,
    )
    scores = score(
        [folder / run.removeprefix("../") for run in runs],
        folder / "questions.jsonl",
        metrics,
        corpus=folder / "corpus.jsonl",
    )
    write_results(Results(scores.compare(), inputs), folder / output)


@pytest.fixture
def own(made, tmp_path):
    """A copy of that folder to spoil."""
    return shutil.copytree(made, tmp_path / "own")


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without figures, for what does not look at these: drawing takes its time."""
    drawing = plots.Plot("p", "", "", '<svg viewBox="0 0 1 1"></svg>', b"")
    monkeypatch.setattr(plots, "_plot", lambda name, *rest: drawing._replace(name=name))


def data_of(page: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found)


@pytest.fixture(scope="module")
def page(made):
    write_page(made / "evaluation", made / "page")
    return (made / "page" / "index.html").read_text("utf-8")


# ---------------------------------------------------------------- sweeps by hand

COLUMNS = [
    "point", "form", "weight", "languages", "num_queries", "normalize", "center", "metric",
    "language", "questions", "score", "difference", "ci_low", "ci_high", "p", "p_corrected",
    "significant", "win", "tie", "loss", "shrink_queries", "align",
]  # fmt: skip
# point → form, weight, languages, num_queries, centred; its gain in ar and in fi
GRID = {
    "baseline": (("none", "", "", "", ""), (0, 0)),
    "b1": (("mean", "0.1", "all", "all", "0"), (1, 3)),
    "b3": (("mean", "0.3", "all", "all", "0"), (2, 4)),
    "b3-1": (("mean", "0.3", "all", "1", "0"), (1, 1)),
    "b1-1": (("mean", "0.1", "all", "1", "0"), (0, 1)),
    "b3-2": (("mean", "0.3", "all", "2", "0"), (1, 2)),
    "own": (("mean", "0.2", "own", "all", "1"), (6, 6)),
    "s1": (("sum", "0.01", "all", "all", "0"), (1, 1)),
    "s2": (("sum", "0.02", "all", "all", "0"), (0, 1)),
}
BASE = {"ar": 40.0, "fi": 60.0}


def parts_of(name):
    """How a point's queries are shrunk and its questions aligned, by its name: `b1-k2-align-r5`."""
    said = re.fullmatch(r".*?(?:-k(\d+))?(?:-?(align.*))?", name)
    return {"shrink_queries": said[1] or "0", "align": said[2] or ""}


def write_sweep(folder, cross_validation=None, inputs=None, rows=None, power=None, grid=None, half=2):
    folder.mkdir()
    points = []
    with open(folder / "sweep.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for name, ((form, weight, languages, k, center), gains) in (grid or GRID).items():
            point = {"point": name, "form": form, "weight": weight, "languages": languages}
            point |= {"num_queries": k, "normalize": "", "center": center} | parts_of(name)
            points.append(point)
            for metric in ("R@2kt", "mrr@10"):
                for language, gain in [*zip(BASE, gains, strict=True), ("macro", sum(gains) / 2)]:
                    base = BASE.get(language, 50.0)
                    row = {**point, "metric": metric, "language": language, "questions": 100}
                    row |= {"score": base + gain, "difference": gain}
                    row |= {"ci_low": gain - half, "ci_high": gain + half} if half else {}
                    if language == "macro" and name != "baseline":
                        row |= {"p": 0.01, "p_corrected": 0.04, "significant": 1}
                        row |= {"win": 30, "tie": 60, "loss": 10}
                    writer.writerow(row)
        file.write(rows or "")
    about = {
        "format": 1, "kind": "sweep", "metrics": ["R@2kt", "mrr@10"], "baseline": "baseline",
        "points": points, "questions": 100, "test": "student", "correction": "holm",
        "level": 0.05, "relevance": None, "notes": ["sums are over equal counts"],
        "inputs": inputs, "cross_validation": cross_validation, "power": power,
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


VALIDATION = {
    "folds": 5,
    "per_language": False,
    "select_by": "R@2kt",
    "group_by": None,
    "chosen": [{"fold": 0, "language": None, "point": "own"}],
    "held_out": [{"metric": "R@2kt", "score": 54.5, "difference": 4.5, "ci_low": 1, "ci_high": 8, "p": 0.03}],
    "tuned": [{"metric": "R@2kt", "point": "own", "score": 56.0}],
}
