"""What tests need of generated queries: some to look at, a filter called in one line."""

import pytest
from conftest import write_jsonl
from made_stores import f32, fake, write_passages  # noqa: F401 (fake is a fixture)

from xqg_pyserini.data import read_generated
from xqg_pyserini.generate import filter
from xqg_pyserini.generate.filter import FilterSettings, filter_queries

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
    queries: dict = {}
    for _, record in read_generated(folder):
        queries.setdefault(record.docid, {}).update(record.queries)
    return queries


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", CORPUS)


@pytest.fixture
def records(tmp_path):
    return write_jsonl(tmp_path / "queries.jsonl", RECORDS)


def filtered(queries, output, rules=None, **options):
    """Filter; of the options, those of `FilterSettings` make these."""
    names = ("min_quantile", "within", "skip_unknown")
    settings = FilterSettings(**{n: options.pop(n) for n in names if n in options})
    return filter_queries(queries, output, rules, settings, **options)


# --- consistency ----------------------------------------------------------------------------------

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
def axes(tmp_path, fake, monkeypatch):
    monkeypatch.setattr(filter, "STEP", 2)
    return write_passages(tmp_path / "P", ["a", "b", "c", "d"], f32(AXES))


@pytest.fixture
def scored(tmp_path):
    return write_jsonl(tmp_path / "queries.jsonl", SCORED)
