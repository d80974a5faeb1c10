"""A check of query files counts what a filter would drop, and what a corpus lacks."""

import json
import os

from conftest import message, write_jsonl
from made_queries import CORPUS, RECORDS, corpus, records  # noqa: F401 (fixtures)
from made_stores import quietly

from xqg_pyserini.cli.generate import check_text
from xqg_pyserini.generate.check import check_queries


def test_a_check_counts_by_language_what_a_filter_would_drop(corpus, records):
    report = check_queries(records, corpus, num_queries=2)
    assert (report.records, report.passages, report.num_queries) == (4, 3, 2)
    assert list(report.languages) == ["ar", "fi", "ru"]
    ar, fi, ru = report.languages.values()
    reasons = ("blank", "script", "copies", "length", "language", "duplicates")
    assert ar == (1, 2, 0, 1.0, 2, dict(zip(reasons, (2, 1, 0, 0, 0, 0), strict=True)), 3)
    assert fi == (2, 5, 0, 5 / 3, 4, dict(zip(reasons, (0, 0, 2, 1, 0, 1), strict=True)), 3)
    assert ru == (1, 1, 1, 1.0, 1, dict.fromkeys(reasons, 0), 4)
    assert report.coverage == (4, 3, ("d4",), 0, ())
    assert json.loads(json.dumps(report.as_json()))["languages"]["fi"]["most"] == 4


def test_a_check_without_a_corpus_looks_for_no_copies_and_no_coverage(records):
    report = check_queries(records, num_queries=4)
    assert report.coverage is None
    assert report.languages["fi"].dropped == {
        "blank": 0, "script": 0, "length": 1, "language": 1, "duplicates": 1
    }  # fmt: skip
    assert report.languages["fi"].short == 2  # of the three passages that have a record
    assert check_queries(records).languages["fi"].short is None


def test_a_check_s_lengths_can_be_given(records):
    report = check_queries(records, min_length=1, max_length=15)
    assert {l: n.dropped["length"] for l, n in report.languages.items()} == {
        "ar": 0, "fi": 3, "ru": 1
    }  # fmt: skip


def test_records_for_passages_that_the_corpus_lacks_are_counted_apart(corpus, tmp_path):
    strange = [{"docid": f"x{i}", "generated_queries": {"te": ["Где?"]}} for i in range(7)]
    path = write_jsonl(tmp_path / "queries.jsonl", [*strange, strange[0], *RECORDS])
    report = check_queries(path, corpus)
    assert report.records == 12
    assert report.coverage == (4, 3, ("d4",), 8, ("x0", "x1", "x2", "x3", "x4"))
    assert list(report.languages) == ["ar", "fi", "ru"]


def test_a_check_s_report_for_people(corpus, records, tmp_path):
    lines = check_text(check_queries(records, corpus, num_queries=2)).splitlines()
    assert lines[0] == f"{records}: 4 records, 3 passages"
    table = [line.split() for line in lines[2:7]]
    assert " ".join(table[0]) == (
        "language passages of corpus queries min mean max blank script copies length other language duplicates under 2"
    )
    assert " ".join(table[3]) == "fi 2 50.0% 5 0 1.67 4 0 0 2 1 0 1 3"
    assert lines[8:] == [
        "3 of 4 passages of the corpus have queries (75.00%)", "1 have none: d4",
    ]  # fmt: skip
    more = [{"docid": "x", "generated_queries": {"ar": ["س"]}}] * 2
    report = check_queries(write_jsonl(tmp_path / "more.jsonl", more), corpus)
    assert check_text(report).splitlines() == [
        f"{tmp_path / 'more.jsonl'}: 2 records, 0 passages",
        "0 of 4 passages of the corpus have queries (0.00%)",
        "4 have none: 007, 8, قطة, d4",
        "2 records are for passages that the corpus does not hold, and were not counted: x, …",
    ]


def test_what_makes_query_files_useless_is_an_error(corpus, tmp_path):
    twice = [*RECORDS, {"docid": "007", "generated_queries": {"ru": [], "fi": []}}]
    path = write_jsonl(tmp_path / "queries.jsonl", twice)
    expected = f"{path}, line 5: passage '007' has fi queries twice"
    assert message(check_queries, path) == expected
    assert message(check_queries, path, corpus) == expected
    path.write_text('{"docid": "1"}\n')
    assert message(check_queries, path).startswith(f"{path}, line 1: passage '1' has no generated_")
    assert message(check_queries, path, num_queries=0) == ("0 queries a passage; expected 1 or more")
    write_jsonl(tmp_path / "twice.jsonl", [CORPUS[0], CORPUS[0]])
    assert message(check_queries, path, tmp_path / "twice.jsonl").startswith(
        f"{tmp_path / 'twice.jsonl'}, line 2: passage id '007' again"
    )


def test_a_check_leaves_nothing_among_the_temporary_files(corpus, records, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    check_queries(records, corpus)
    check_queries(records)
    message(check_queries, write_jsonl(tmp_path / "q.jsonl", RECORDS[:1] * 2), corpus)
    assert not os.listdir(scratch)


def test_published_shards_are_their_own_corpus(tmp_path):
    records = [
        {"docid": str(i), "title": "T", "text": f"Text {i}.", "generated_queries": {"fi": [query]}}
        for i, query in enumerate(["Mikä?", "t text 1?", "text 1"])
    ]
    for i, record in enumerate(records):
        write_jsonl(tmp_path / f"train-{i:05d}-of-00003.jsonl", [record])
    report = check_queries(tmp_path, tmp_path)
    assert report.coverage is not None and report.coverage.covered == 3
    assert report.languages["fi"].dropped["copies"] == 1


def test_two_codes_of_one_language_are_counted_together(tmp_path):
    records = [("1", {"hau": ["wane gari?"] * 2}), ("2", {"ha": ["ina Kano?", ""], "ha-NE": ["ina Agadez?"]})]
    path = write_jsonl(tmp_path / "q.jsonl", [{"docid": i, "generated_queries": queries} for i, queries in records])
    languages = quietly(check_queries, path, num_queries=1).languages
    assert {code: (of.passages, of.queries, of.short) for code, of in languages.items()} == {
        "hau": (2, 3, 0),
        "ha-NE": (1, 1, 1),
    }
    assert languages["hau"].dropped["duplicates"] == languages["hau"].dropped["blank"] == 1
