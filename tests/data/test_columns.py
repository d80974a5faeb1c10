"""The quick reader of plain runs: it reads what the strict one reads, alike to the last bit, or leaves it to that."""

import gzip
import os
import tempfile
import warnings
from pathlib import Path

import pytest
from conftest import put
from hypothesis import HealthCheck, given, settings, strategies as st

from xqg_pyserini import data
from xqg_pyserini.data import columns, runs
from xqg_pyserini.errors import UserError

fuzz = settings(
    max_examples=int(os.environ.get("XQG_FUZZ_EXAMPLES", "300")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NUMBERS = [
    *("3", "2.5", "2.50", "-0.0", "0", "-1", "007", "1e-3", "1E2", "+4", ".5", "5.", "-.5", "0.1234567890123456789"),
    *("123456789012345", "1234567890123456", "0.000000000000001", "9007199254740993", "16777217", "5e-324", "1e400"),
    *("-", ".", "-.", "", "1.2.3", "1-2", "--1", "e", "1e", "nan", "inf", "1_0", "0x1", "٣", "1,5", "9" * 400),
]
CELLS = [*NUMBERS, "d1", "d2", "q1", "#", "#q", "qid", "docid", "score", "rank", "{", "[", "a,", "é", "x" * 300, "\0"]
ODD = [" ", "  ", "\t", "\n", "\n\n", "\r", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\ufeff", "#", ",", "\0", "é"]


def lines(qids, hits, by):
    """A plain run: scores fall, and some are equal."""
    return [
        [*by.join([qid, "Q0", f"d{(7 * rank) % 11}-{rank}", str(rank), f"{9 - rank // 2}.50", "t"]).split(by)]
        for qid in qids
        for rank in range(1, hits + 1)
    ]


@st.composite
def contents(draw):
    """A plain run, spoilt in up to three ways."""
    by = draw(st.sampled_from([" ", "\t"]))
    rows = lines(draw(st.sampled_from([["q1"], ["q1", "q2"], ["é", "a", "é2"]])), draw(st.integers(1, 5)), by)
    for _ in range(draw(st.integers(0, 2))):
        row = draw(st.integers(0, len(rows) - 1))
        kind = draw(st.sampled_from(["cell", "number", "again", "move", "drop"]))
        if kind == "cell":
            rows[row][draw(st.integers(0, len(rows[row]) - 1))] = draw(st.sampled_from(CELLS))
        elif kind == "number":
            rows[row][min(draw(st.sampled_from([3, 4])), len(rows[row]) - 1)] = draw(st.sampled_from(NUMBERS))
        elif kind == "again":
            rows.append(list(rows[row]))
        elif kind == "move":
            rows.insert(draw(st.integers(0, len(rows))), rows.pop(row))
        else:
            del rows[row][draw(st.integers(0, len(rows[row]) - 1))]
    text = "\n".join(by.join(row) for row in rows) + draw(st.sampled_from(["\n", ""]))
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(ODD)) + text[place + draw(st.integers(0, 1)) :]
    raw = text.encode()
    return raw[:-1] if draw(st.integers(0, 19)) == 0 else raw  # perhaps within a character


def hits_of(run):
    return [(qid, [(docid, repr(score)) for docid, score in hits.items()]) for qid, hits in run.items()]


def quickly(path, order):
    """What the quick reader makes of a file, the error that it raises, or None."""
    try:
        return columns.read_columns(path, order, runs._is_plain)
    except UserError as error:
        return str(error)


def strictly(path, order):
    """What the strict reader makes of it, and what it says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return runs._read_strictly(Path(path), order), caught
        except UserError as error:
            return str(error), caught


@given(content=contents(), order=st.sampled_from(["rank", "score"]), block=st.sampled_from([1, 16, 40, 4096]))
@fuzz
def test_both_readers_agree_or_the_quick_one_passes(content, order, block):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK", block)
        path = put(Path(folder) / "run", content)
        quick, (strict, said) = quickly(path, order), strictly(path, order)
    if quick is not None:
        assert said == []
        assert (quick if isinstance(quick, str) else hits_of(quick)) == (
            strict if isinstance(strict, str) else hits_of(strict)
        )


PLAIN = b"\n".join(b" ".join(cell.encode() for cell in row) for row in lines(["q1", "\u00e9", "q3"], 6, " "))


@pytest.mark.parametrize("block", [1, 30, 100, 1 << 22])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_plain_files_are_read_quickly(tmp_path, monkeypatch, block, pack, end):
    monkeypatch.setattr(columns, "BLOCK", block)
    path = put(tmp_path / "run", pack(PLAIN + end))
    for order in ("rank", "score"):
        run = runs.open_run(path, order)
        assert isinstance(run, columns.ColumnRun)
        assert hits_of(run) == hits_of(strictly(path, order)[0]) == hits_of(data.read_run(path, order))
    assert (list(run), len(run), "q1" in run, "q2" in run) == (["q1", "é", "q3"], 3, True, False)
    tabs = put(tmp_path / "tabs", pack(PLAIN.replace(b" ", b"\t") + end))
    assert hits_of(quickly(tabs, "rank")) == hits_of(strictly(path, "rank")[0])


@pytest.mark.parametrize("number", NUMBERS[:20])
def test_numbers_are_those_that_python_reads(tmp_path, number):
    path = put(tmp_path / "run", f"q Q0 a 1 {number} t\n")
    assert repr(quickly(path, "rank")["q"]["a"]) == repr(float(number))


HITS = "q Q0 b 1 2 t\nq Q0 a 2 1 t\n"
LEFT = {
    "a header named in the tag": "qid Q0 docid 1 2 score\nq Q0 a 1 2 t\n",
    "a comment": HITS + "# end of 1 2 t\n",
    "questions apart": HITS + "p Q0 a 1 1 t\nq Q0 c 3 0 t\n",
    "a line that comes twice": HITS + "q Q0 a 2 1 t\n",
    "ranks that are not in their order": "q Q0 a 2 1 t\nq Q0 b 1 2 t\n",
    "scores that rise": "q Q0 a 1 1 t\nq Q0 b 2 2 t\n",
    "two spaces": HITS.replace(" 1 ", "  1 ", 1),
    "white space of another kind": HITS + "q Q0 c\u2003d 3 0 t\n",
    "a byte-order mark": HITS + "\ufeffp Q0 a 1 2 t\n",
    "Windows line ends": HITS.replace("\n", "\r\n"),
    "a rank that is no whole number": HITS + "q Q0 c 2.5 0 t\n",
    "a score that is infinite": "q Q0 a 1 1e400 t\n",
    "no line": "",
}


@pytest.mark.parametrize("content", LEFT.values(), ids=LEFT)
def test_other_files_are_left_to_the_strict_reader(tmp_path, content):
    path = put(tmp_path / "run", content)
    assert quickly(path, "rank") is None
    strict = strictly(path, "rank")[0]
    if isinstance(strict, str):
        with pytest.raises(UserError) as caught:
            data.read_run(path)
        assert str(caught.value) == strict
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert hits_of(data.read_run(path)) == hits_of(strict)


def test_what_can_be_read_once_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = os.fork()
    if not writer:
        (tmp_path / "pipe").write_text(HITS)
        os._exit(0)
    run = data.read_run(tmp_path / "pipe")
    os.waitpid(writer, 0)
    assert run == {"q": {"b": 2.0, "a": 1.0}}


def test_scores_that_32_bits_cannot_tell_apart_go_by_docid(tmp_path):
    """Infinities in 32 bits among them; z goes before a, as text: U+FF5A before the cat, which is beyond 16 bits."""
    docids = ["a", "z", "\uff5a", "🐈", "b", "c"]
    scores = ["1e300", "2e300", "16777217", "16777216", "3", "4"]
    text = "".join(f"q Q0 {d} 0 {s} t\n" for d, s in zip(docids, scores, strict=True))
    path = put(tmp_path / "run", text)
    run = quickly(path, "score")
    assert list(run["q"]) == ["z", "a", "🐈", "\uff5a", "c", "b"]
    assert hits_of(run) == hits_of(strictly(path, "score")[0])


def test_questions_with_equal_scores(tmp_path):
    path = put(tmp_path / "run", "q Q0 a 1 2 t\nq Q0 b 2 2.0 t\np Q0 a 1 2 t\np Q0 b 2 1 t\n")
    assert list(quickly(path, "rank").with_ties()) == [{"a": 2.0, "b": 2.0}]


def test_a_mark_at_the_start_is_the_strict_reader_s(tmp_path):
    path = tmp_path / "run"
    path.write_bytes(b"\xef\xbb\xbfq Q0 d 1 2 " + b"x" * 243 + b"ustar\n")  # as a tar archive has it
    assert columns.read_columns(path, "rank", runs._is_plain) is None
    assert runs.read_run(path) == {"q": {"d": 2.0}}
