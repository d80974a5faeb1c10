"""What tests need of runs and results: a tiny task counted off by hand, and hits and misses."""

import pytest
from conftest import write_jsonl

from xqg_pyserini.evaluation.results import ComparingSettings
from xqg_pyserini.evaluation.scores import evaluate as score

# Each text is five tokens, so the budget at which an answer is found can be counted off.
CORPUS = [
    {"id": "d1", "title": "", "text": "w1 w2 w3 w4 apple"},
    {"id": "d2", "title": "", "text": "x1 pear x3 x4 x5"},
    {"id": "d3", "title": "", "text": "y1 y2 y3 y4 y5"},
    {"id": "d4", "title": "", "text": "z1 z2 apple z4 z5"},  # retrieved by no run
    {"id": "d5", "title": "fig", "text": "plum v2 v3 v4 v5"},
]
QUESTIONS = [
    {"id": "a1", "question": "?", "lang": "ar", "answers": ["apple"]},
    {"id": "a2", "question": "?", "lang": "ar", "answers": ["pear", "no"]},
    {"id": "n1", "question": "?", "lang": "ar", "answers": ["yes"]},
    {"id": "a3", "question": "?", "lang": "ar", "answers": ["apple"]},
    {"id": "007", "question": "?", "lang": "ar", "answers": ["plum"]},
    {"id": "f1", "question": "?", "lang": "fi", "answers": ["pear"]},
    {"id": "n2", "question": "?", "lang": "fi", "answers": []},
]
ONE = {
    "a1": ["d3", "d1"],  # the answer is token 10
    "a2": ["d2"],  # token 2
    "a3": ["d3", "d2"],  # not there
    # 007 is missing: a miss
    "f1": ["d1", "d2"],  # token 7
    "n1": ["d1"],  # cannot be scored, so this hit counts for nothing
    "n2": ["d1"],
}
TWO = {**ONE, "007": ["d5"], "a1": ["d1", "d3"]}  # token 1; token 5


def write_run(path, rankings, scores=lambda i: 100 - i):
    lines = [
        f"{qid} Q0 {docid} {rank} {scores(rank)} t\n"
        for qid, docids in rankings.items()
        for rank, docid in enumerate(docids, 1)
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_jsonl(folder / "corpus.jsonl", CORPUS)
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    write_run(folder / "one.trec", ONE)
    write_run(folder / "two.trec", TWO)
    return folder


def evaluate(folder, runs, metrics, corpus="corpus.jsonl", **options):
    """Evaluate and compare files of a folder; a name stands for the run file of that name."""
    tested = {name: options.pop(name) for name in ("test", "correction", "level") if name in options}
    ComparingSettings(**tested).check(metrics)
    scores = score(
        [folder / f"{run}.trec" for run in runs],
        folder / "questions.jsonl",
        metrics,
        corpus=None if corpus is None else folder / corpus,
        **options,
    )
    return scores.compare(**tested)


# ---------------------------------------------------------------- hits and misses


BITS = {  # 24 questions in ar, 4 in fi; 1 = the run's only passage holds the answer
    "a": "111111111111111100000000" + "1100",
    "b": "111111110000000000000000" + "1100",  # a wins 8 and loses none
    "c": "111111110000000011000000" + "0011",  # over b: 2 + 2 to 2
}


def write_bits(folder, bits, languages):
    """Write a task in which run r hits the question at i where bits[r][i] is 1."""
    corpus = [{"id": "yes", "text": "the answer"}, {"id": "no", "text": "nothing here"}]
    write_jsonl(folder / "corpus.jsonl", corpus)
    questions = [
        {"id": f"q{i:02}", "question": "?", "lang": language, "answers": ["answer"]}
        for i, language in enumerate(languages)
    ]
    write_jsonl(folder / "questions.jsonl", questions)
    for name, row in bits.items():
        rankings = {f"q{i:02}": ["yes" if b == "1" else "no"] for i, b in enumerate(row)}
        write_run(folder / f"{name}.trec", rankings)
    return folder


@pytest.fixture(scope="module")
def bits(tmp_path_factory):
    return write_bits(tmp_path_factory.mktemp("bits"), BITS, ["ar"] * 24 + ["fi"] * 4)
