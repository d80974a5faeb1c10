"""Whatever bytes or values a reader is given, it reads them or raises `UserError`, nothing else.

`XQG_FUZZ_EXAMPLES` is the number of inputs each test makes: 150 in CI (about 20 seconds in all);
some 100,000 take an hour.
"""

import bz2
import gzip
import json
import lzma
import os
import tempfile
import warnings
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings, strategies as st

from xqg_pyserini import data, files
from xqg_pyserini.errors import UserError

pytestmark = pytest.mark.fuzz
fuzz = settings(
    max_examples=int(os.environ.get("XQG_FUZZ_EXAMPLES", "150")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

READERS = {
    "corpus": lambda path: list(data.read_corpus(path)),
    "corpus, fields named": lambda path: list(
        data.read_corpus(data.CorpusFile(path, title_field="heading", text_field="body", skip_empty=True))
    ),
    "questions": data.read_questions,
    "questions, fields named": lambda path: data.read_questions(
        data.QuestionFiles(path, "fi", question_id_field="id", question_field="body", answers_field="answers")
    ),
    "generated": lambda path: list(data.read_generated(path)),
    "run": data.read_run,
    "run by score": lambda path: data.read_run(path, "score"),
    "qrels": data.read_qrels,
    "qrels, negative kept": lambda path: data.read_qrels(path, negative=True),
    "runs by language": lambda path: data.read_run({"ar": path, "fi": path}),
    "lines": lambda path: list(files.read_lines(path, blank=True)),
}
KEYS = st.sampled_from(
    [
        *("id", "docid", "_id", "pid", "qid", "query_id", "title", "text", "contents", "segment"),
        *("context", "passage", "body", "url", "question", "query", "lang", "language", "code"),
        *("answers", "answer", "translated_answer", "question_lang", "answer_pivot", "heading"),
        *("generated_queries", "desc", "ar", "fi"),
    ]
)
ODD = ["1", "007", "['a']", "['it's']", "[" * 200, "-0", "1.0", "\ud83d", "\ufeff1", '"', ""]
TEXT = st.text(max_size=8) | st.sampled_from([*ODD, "9" * 5000])
LARGE = st.integers(4400, 4500).map(lambda digits: 10**digits)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | LARGE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXT, inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.dictionaries(KEYS, VALUES, max_size=6)


def as_json(value) -> str:
    try:
        return json.dumps(value)
    except ValueError:  # a whole number with too many digits to print
        return '{"id": ' + "9" * 5000 + "}"


TOKENS = st.sampled_from(
    [
        *("q1", "q2", "Q0", "d1", "d2", "0", "1", "2", "1.0", "-1", "nan", "inf", "1e400"),
        "9" * 5000,
        *("#", "id", "text", "title", "qid", "query", "docid", "score", "rank", "query-id"),
        *("corpus-id", '"', '""', '"a', 'b"', "['a']", "\ufeff", "\x00", "\x85", "é", "", " ", ","),
    ]
)  # fmt: skip
ROWS = st.builds(
    lambda tokens, by: by.join(tokens),
    st.lists(TOKENS, min_size=1, max_size=7),
    st.sampled_from(["\t", " ", ",", "\t\t"]),
)
LINES = st.one_of(
    st.builds(as_json, RECORDS),
    st.dictionaries(TEXT, st.dictionaries(TEXT, VALUES, max_size=3), max_size=3).map(as_json),
    ROWS,
    st.text(max_size=20),
    st.sampled_from(['{"id": 1, "id": 2}', "[" * 100_000, '{"a":' * 5000, "{", '{"id": -0}', "[]"]),
)  # fmt: skip
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\r"])
CONTENT = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda lines, end: end.join(lines).encode("utf-8", "surrogatepass"), st.lists(LINES, max_size=6), ENDS),
    st.builds(lambda rows, end: end.join(rows).encode("utf-8", "surrogatepass"), st.lists(ROWS, max_size=8), ENDS),
)
PACK = {
    "not": bytes, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
    "zstd": lambda raw: zstd.compress(raw),
}  # fmt: skip


def only_user_errors(read, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(*arguments)
        except UserError as error:
            assert "\n" not in str(error)
            str(error).encode("utf-8")


@pytest.mark.parametrize("reader", list(READERS))
@given(content=CONTENT, pack=st.sampled_from(list(PACK)), cut=st.integers(0, 30))
@fuzz
def test_any_file_is_read_or_refused(reader, content, pack, cut):
    raw = PACK[pack](content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        path.write_bytes(raw[: len(raw) - cut] if cut < 8 else raw)
        only_user_errors(READERS[reader], path)
        only_user_errors(READERS[reader], Path(folder))


@given(name=st.text(max_size=12) | st.sampled_from(["x" * 5000, "[", "**", "a\0b", "\udcff", "~"]))
@fuzz
def test_any_name_is_found_or_refused(name):
    for read in READERS.values():
        only_user_errors(read, name)
    only_user_errors(files.expand, name)


@given(values=VALUES | st.lists(RECORDS | st.tuples(VALUES, VALUES, VALUES), max_size=4))
@fuzz
def test_any_value_is_taken_or_refused(values):
    if isinstance(values, str):  # the name of a file
        return
    for read in (data.as_questions, data.as_run, data.as_qrels, lambda v: list(data.as_corpus(v))):
        only_user_errors(read, values)
