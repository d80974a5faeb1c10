"""Filtering generated queries: what is kept, what is said of it, and what is refused."""

import gzip
import json
import os
import warnings

import pytest
from conftest import message, write_jsonl
from made_queries import RECORDS, SCORED, axes, corpus, filtered, queries_of, records, scored  # noqa: F401 (fixtures)
from made_stores import FakeEncoder, engine, fake, files  # noqa: F401 (fixtures)

from xqg_pyserini.cli.filter import filter_text
from xqg_pyserini.data import describe_sources
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.generate import filter
from xqg_pyserini.generate.check import check_queries
from xqg_pyserini.generate.rules import RULES, TextRules
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve import accumulate
from xqg_pyserini.stores import VectorStore

# --- filtering by text ----------------------------------------------------------------------------


def test_a_filter_writes_the_good_queries_under_the_same_names(corpus, tmp_path):
    folder = tmp_path / "Q"
    folder.mkdir()
    first = {
        "url": ["u", 1.5], "docid": "007", "title": "Nil — é", "generated_queries":
        {"fi": ["Nile The Nile", "Missä?", "MISSÄ？", "Miksi?"], "ar": ["Missä", ""]}, "n": None,
    }  # fmt: skip
    write_jsonl(folder / "a-00000-of-00002.jsonl", [first, *RECORDS[1:3]])
    with gzip.open(folder / "a-00001-of-00002.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(RECORDS[3]) + "\n")
    (folder / "meta.json").write_text('{"kind": "decoy", "model": "m"}')
    with pytest.warns(XqgWarning, match="1 records continue a passage of an earlier one"):
        report = filtered(folder, tmp_path / "out", TextRules(RULES), corpus=corpus)
    out = files(tmp_path / "out")
    assert list(sorted(out)) == [
        "a-00000-of-00002.jsonl", "a-00001-of-00002.jsonl.gz", "meta.json"
    ]  # fmt: skip
    kept = {**first, "generated_queries": {"fi": ["Missä?", "Miksi?"], "ar": []}}
    lines = out["a-00000-of-00002.jsonl"].decode().splitlines()
    assert lines[0] == json.dumps(kept, ensure_ascii=False)  # every key in its place
    assert "Nil — é" in lines[0]
    assert json.loads(lines[1]) == {"docid": "8", "generated_queries": {"fi": []}}
    assert json.loads(lines[2]) == {"docid": "8", "generated_queries": {"ar": []}}
    packed = out["a-00001-of-00002.jsonl.gz"]
    assert packed[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time
    assert json.loads(gzip.decompress(packed)) == RECORDS[3]
    assert report.languages == {
        "ar": dict(queries=3, blank=2, script=1, copies=0, length=0, language=0, duplicates=0, kept=0),
        "fi": dict(queries=5, blank=0, script=0, copies=2, length=0, language=0, duplicates=1, kept=2),
        "ru": dict(queries=1, blank=0, script=0, copies=0, length=0, language=0, duplicates=0, kept=1),
    }
    assert (report.records, report.skipped, report.thresholds) == (4, 0, {})
    meta = json.loads(out["meta.json"])
    assert meta == {
        "format": 1, "kind": "filtered-queries",
        "rules": list(RULES), "min_length": 4, "max_length": 250, "identification": TextRules(RULES).identification,
        "min_quantile": None, "within": None, "encoder": None, "passages": None,
        "corpus": describe_sources(corpus), "sources": describe_sources(folder),
        "files": describe_sources(tmp_path / "out"), "report": report.as_json(),
        "generated_from": {"kind": "decoy", "model": "m"},
    }  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["Q", "corpus.jsonl", "out"]


def test_an_array_of_records_is_filtered_like_lines(tmp_path):
    record = {"docid": "7", "n": 1.50, "generated_queries": {"fi": ["Missä é?", "MISSÄ é?"]}}
    (tmp_path / "q.json").write_text(json.dumps([record], indent=1), encoding="utf-8")
    filtered(tmp_path / "q.json", tmp_path / "out", TextRules(("duplicates",)))
    kept = json.loads(files(tmp_path / "out")["q.json"])
    assert kept == {**record, "generated_queries": {"fi": ["Missä é?"]}}


def test_what_is_filtered_twice_stays_and_says_where_it_comes_from(records, tmp_path):
    rules = TextRules(("script", "length"), min_length=5, max_length=17)
    filtered(records, tmp_path / "one", rules)
    again = filtered(tmp_path / "one", tmp_path / "two", rules)
    first = json.loads((tmp_path / "one" / "meta.json").read_text())
    second = json.loads((tmp_path / "two" / "meta.json").read_text())
    assert first["generated_from"] is None and second["generated_from"] == first
    assert first["rules"] == ["script", "length"]
    assert (first["min_length"], first["max_length"]) == (5, 17)
    assert queries_of(tmp_path / "two") == queries_of(tmp_path / "one")
    assert all(counts["kept"] == counts["queries"] for counts in again.languages.values())
    # the blank ones, the Finnish query in ar, "Ei" and what is longer than 17 are gone
    assert queries_of(tmp_path / "one") == {
        "007": {"fi": (), "ar": ("أين يصب النيل؟",)},
        "8": {"fi": ("Missä on Niili?",), "ar": ()},
        "قطة": {"fi": (), "ru": ()},
    }


def test_a_check_and_a_filter_count_alike(corpus, records, tmp_path):
    with pytest.warns(XqgWarning):
        report = filtered(records, tmp_path / "out", TextRules(RULES), corpus=corpus)
    checked = check_queries(records, corpus).languages
    assert list(report.languages) == list(checked)
    for language, checked_counts in checked.items():
        counts = report.languages[language]
        assert checked_counts.dropped == {reason: counts[reason] for reason in checked_counts.dropped}
        assert counts["queries"] == checked_counts.queries + checked_counts.dropped["blank"]
        assert counts["kept"] == counts["queries"] - sum(checked_counts.dropped.values())


def test_a_passage_in_several_records_is_warned_of_where_duplicates_are_looked_for(records, tmp_path):
    text = "1 records continue a passage of an earlier one; duplicates were looked for within each record only"
    with pytest.warns(XqgWarning) as caught:
        filtered(records, tmp_path / "out", TextRules(("duplicates",)))
    assert [str(warning.message) for warning in caught] == [text]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filtered(records, tmp_path / "out2", TextRules(("script",)))


def test_an_empty_shard_stays_an_empty_shard(tmp_path):
    folder = tmp_path / "Q"
    folder.mkdir()
    for i, shard in enumerate(([], RECORDS[:1], [])):
        write_jsonl(folder / f"q-{i:05d}-of-00003.jsonl", shard)
    filtered(folder, tmp_path / "out", TextRules(("length",)))
    assert [len(files(tmp_path / "out")[f"q-{i:05d}-of-00003.jsonl"]) > 0 for i in range(3)] == [
        False, True, False
    ]  # fmt: skip


def test_an_older_output_is_replaced_on_demand_alone(records, tmp_path):
    filtered(records, tmp_path / "out", TextRules(("length",)))
    (tmp_path / "out" / "decoy").write_text("x")
    text = message(filtered, records, tmp_path / "out", TextRules(("script",)))
    assert text == (f"{tmp_path / 'out'}: the folder already holds something; give another name, or overwrite it")
    filtered(records, tmp_path / "out", TextRules(("script",)), overwrite=True)
    assert set(files(tmp_path / "out")) == {"queries.jsonl", "meta.json"}


def test_the_report_for_people_has_every_rule_and_their_sum(corpus, records, tmp_path):
    with pytest.warns(XqgWarning):
        report = filtered(records, tmp_path / "out", TextRules(RULES), corpus=corpus)
    lines = filter_text(report, "out").splitlines()
    assert lines[0] == "out: 3 of 10 queries kept, 4 records"
    table = [" ".join(line.split()) for line in lines[2:]]
    assert table[0] == "language queries blank script copies length other language duplicates kept"
    assert table[2:] == ["ar 4 2 1 0 0 0 0 1", "fi 5 0 0 2 1 0 1 1", "ru 1 0 0 0 0 0 0 1", "all 10 2 1 2 1 0 1 3"]


# --- filtering by consistency ---------------------------------------------------------------------


def test_queries_below_the_quantile_of_their_language_are_dropped(axes, scored, tmp_path):
    report = filtered(scored, tmp_path / "out", passages=axes, min_quantile=0.4)
    # ar: 1 2 5 7 9 9 → place ⌈0.4·5⌉ = 2; ru: -1 3 4 5 → place ⌈0.4·3⌉ = 2; te: place 0
    assert report.thresholds == {"ar": 5.0, "ru": 4.0, "te": 0.0}
    assert queries_of(tmp_path / "out") == {
        "a": {"ar": ("9 5 5", "9 5 5"), "ru": ("4 0 0",)},
        "b": {"ar": ("0 5 9",), "te": ("0 0 0.5",)},
        "c": {"ar": ("7 7 7",), "ru": ("0 0 5",)},
        "d": {"ar": (), "ru": ()},
    }
    assert report.languages["ar"] == {"queries": 7, "blank": 1, "quantile": 2, "kept": 4}
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert (meta["min_quantile"], meta["within"]) == (0.4, None)
    assert meta["encoder"] == VectorStore(axes).meta["encoder"]
    assert meta["passages"] == {key: VectorStore(axes).meta[key] for key in ("ids_sha256", "vectors_sha256")}
    assert meta["report"]["thresholds"] == report.thresholds
    assert all(text.startswith("q: ") for text in FakeEncoder.seen)
    lines = filter_text(report, "out").splitlines()
    assert [line.split()[-1] for line in lines[4:]] == ["5.0000", "4.0000", "0.0000", "7"]


def test_queries_with_too_many_better_passages_are_dropped(axes, scored, tmp_path):
    report = filtered(scored, tmp_path / "out", passages=axes, within=1)
    assert queries_of(tmp_path / "out") == {
        "a": {"ar": ("9 5 5", "9 5 5"), "ru": ("4 0 0",)},
        "b": {"ar": ("0 2 0",), "te": ()},
        "c": {"ar": ("7 7 7",), "ru": ("0 0 5",)},
        "d": {"ar": (), "ru": ("-1 -1 -1",)},
    }
    assert report.thresholds == {}
    two = filtered(scored, tmp_path / "two", passages=axes, within=2)
    assert queries_of(tmp_path / "two")["b"] == {"ar": ("0 5 9", "0 2 0"), "te": ("0 0 0.5",)}
    assert queries_of(tmp_path / "two")["c"]["ru"] == ("8 0 3", "0 0 5")
    assert two.languages["ar"]["within"] == 1  # 1 5 2 for a: b, c and d are better


def test_text_rules_come_before_the_scores_they_leave(axes, scored, tmp_path):
    rules = TextRules(("duplicates", "length"), 1, 5)
    report = filtered(scored, tmp_path / "out", rules, passages=axes, min_quantile=0.5, within=1)
    # without the second 9 and "-1 -1 -1": ar 1 2 5 7 9 → 5; ru 3 4 5 → 4; "0 0 0.5" is too long
    assert report.thresholds == {"ar": 5.0, "ru": 4.0}
    assert report.languages == {
        "ar": dict(queries=7, blank=1, length=0, duplicates=1, quantile=2, within=1, kept=2),
        "ru": dict(queries=4, blank=0, length=1, duplicates=0, quantile=1, within=0, kept=2),
        "te": dict(queries=1, blank=0, length=1, duplicates=0, quantile=0, within=0, kept=0),
    }
    assert queries_of(tmp_path / "out")["b"] == {"ar": (), "te": ()}


def test_nothing_is_left_to_score_where_the_text_rules_drop_everything(axes, scored, tmp_path):
    rules = TextRules(("script",))  # numbers are no letters
    report = filtered(scored, tmp_path / "out", rules, passages=axes, min_quantile=0.5, within=1)
    assert report.thresholds == {} and not FakeEncoder.seen
    assert all(counts["kept"] == 0 for counts in report.languages.values())
    assert queries_of(tmp_path / "out")["b"] == {"ar": (), "te": ()}


@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_the_size_of_a_step_changes_nothing(axes, scored, tmp_path, monkeypatch, step):
    options = dict(passages=axes, min_quantile=0.4, within=2)
    filtered(scored, tmp_path / "two", **options)
    monkeypatch.setattr(filter, "STEP", step)
    monkeypatch.setattr(accumulate, "CHUNK", step)
    filtered(scored, tmp_path / "out", **options)
    assert files(tmp_path / "out") == files(tmp_path / "two")


def test_passages_that_are_not_there_are_refused_or_dropped(axes, scored, tmp_path):
    strange = {"docid": "zz", "generated_queries": {"yue": ["9 9 9"], "ar": ["1000 0 0"]}}
    path = write_jsonl(tmp_path / "strange.jsonl", [SCORED[0], strange, *SCORED[1:]])
    options = dict(passages=axes, min_quantile=0.4)
    assert message(filtered, path, tmp_path / "out", **options) == (
        f"{path}, line 2: passage 'zz' is not in {axes}; skip_unknown leaves such queries out"
    )
    assert not (tmp_path / "out").exists()
    with pytest.warns(XqgWarning, match="1 records are for passages that are not there and were"):
        report = filtered(path, tmp_path / "out", **options, skip_unknown=True)
    plain = filtered(scored, tmp_path / "plain", **options)
    assert report == plain._replace(skipped=1)
    assert queries_of(tmp_path / "out") == queries_of(tmp_path / "plain")
    assert "(1 dropped)" in filter_text(report, "out")
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"id": i, "text": "x"} for i in "acd"])
    rules = TextRules(("copies",))
    for settings in ({}, options):
        assert message(filtered, scored, tmp_path / "out2", rules, corpus=corpus, **settings).startswith(
            f"{scored}, line 2: passage 'b' is not in {corpus}; skip_unknown leaves"
        )
    write_jsonl(path, [strange])
    assert (
        message(filtered, path, tmp_path / "out2", **options, skip_unknown=True)
        == f"{path}: no queries for a passage that is there"
    )


def test_an_encoder_with_other_weights_is_refused(axes, scored, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "weights", "w2")
    text = message(filtered, scored, tmp_path / "out", passages=axes, within=1)
    assert text.startswith(f"encoder fake (w2) is not the one that {axes} was made with")
    assert sorted(os.listdir(tmp_path)) == ["P", "queries.jsonl"]


# --- refusals -------------------------------------------------------------------------------------


def test_a_task_that_makes_no_sense_is_refused(axes, scored, tmp_path):
    def text(rules=None, **options):
        return message(filtered, scored, tmp_path / "out", rules, **options)

    nothing = "nothing to filter by: give rules, a quantile or a rank"
    assert text() == nothing
    assert text(TextRules(())) == nothing
    for options in (dict(min_quantile=0.3), dict(within=3)):
        assert text(**options) == "a quantile and a rank need the passage store"
    for options in (dict(passages=axes), dict(encoder=Encoder.for_store(VectorStore(axes)))):
        assert text(TextRules(("script",)), **options) == (
            "passages and an encoder serve a quantile or a rank: give one of these"
        )
    for share in (0, 1, -0.1, 30, float("nan")):
        assert text(passages=axes, min_quantile=share) == (
            f"min_quantile is {share}; expected a number, above 0, below 1"
        )
    assert text(passages=axes, within=0) == "within is 0; expected a whole number, 1 or more"
    assert text(TextRules(("copies",))) == ("the rule 'copies' needs the passages' texts: give the corpus")
    assert text(TextRules(("script",)), corpus=scored) == (
        "the corpus serves the rule 'copies' alone; give that, or leave it out"
    )
    assert sorted(os.listdir(tmp_path)) == ["P", "queries.jsonl"]


def test_names_that_the_output_cannot_hold_are_refused(tmp_path):
    for folder, name in (("x", "q.jsonl"), ("y", "q.jsonl"), ("z", "queries.txt")):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / name, RECORDS)
    rules = TextRules(("script",))
    pattern = str(tmp_path / "[xy]" / "q.jsonl")
    assert message(filtered, pattern, tmp_path / "out", rules) == (
        f"{tmp_path}/x/q.jsonl and {tmp_path}/y/q.jsonl have one name, which the output can hold "
        "only once; filter them into folders of their own"
    )
    odd = tmp_path / "z" / "queries.txt"
    for name in ("queries.txt", "progress.json", "meta.json", ".q.jsonl"):
        path = odd.rename(tmp_path / "z" / name)
        assert message(filtered, path, tmp_path / "out", rules) == (
            f"{path}: the output keeps the names of its inputs, and this would not be read there; "
            "rename it so that it ends in .jsonl, .json, .tsv, .csv"
        )
        path.rename(odd)
    (tmp_path / "x" / "meta.json").write_text("{")
    assert message(filtered, tmp_path / "x", tmp_path / "out", rules).startswith(
        f"{tmp_path}/x/meta.json: broken JSON ("
    )
