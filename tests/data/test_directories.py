"""Files and folders: every packing is read, what is left out is named, nothing is skipped."""

import bz2
import gzip
import lzma
import os
import warnings
from pathlib import Path

import pytest
from backports import zstd
from conftest import message, put

from xqg_pyserini import data, files
from xqg_pyserini.errors import UserError

PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: zstd.compress(raw, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def line(docid) -> bytes:
    return f'{{"id": "{docid}", "text": "x"}}\n'.encode()


def read(source):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids = [passage.id for _, passage in data.read_corpus(source)]
    return ids, [str(w.message) for w in caught]


@pytest.mark.parametrize("ending", PACK)
def test_every_packing_is_read_whatever_the_file_is_called(tmp_path, ending):
    raw = b"".join(map(line, range(5000)))
    packed = PACK[ending](raw)
    for name in (f"c.jsonl{ending}", f"C.JSONL{ending.upper()}", "plain"):
        assert read(put(tmp_path / name, packed)) == ([str(i) for i in range(5000)], [])
    joined = put(tmp_path / "joined", PACK[ending](line("a")) + PACK[ending](b"\xef\xbb\xbf" + line("b")))
    assert read(joined) == (["a", "b"], [])
    assert files.compression(joined) == {".gz": "gzip", ".zst": "zstd"}.get(ending, ending[1:])


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("damage", ["cut", "flipped", "cut at its end"])
def test_a_packed_file_that_is_damaged_is_an_error(tmp_path, ending, damage):
    whole = PACK[ending](b"".join(line(i * 7919 % 10007) for i in range(9000)))
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 9]) + whole[middle + 9 :]
    content = {"cut": whole[:middle], "flipped": flipped, "cut at its end": whole[:-3]}[damage]
    path = put(tmp_path / "c", content)
    kind = {".gz": "gzip", ".zst": "zstd"}.get(ending, ending[1:])
    text = message(read, path)
    assert text.startswith(f"{path}, after line ") or "broken JSON" in text or "UTF-8" in text
    if text.startswith(f"{path}, after line "):
        assert text.endswith(f": the {kind} stream is damaged or ends early; make or download the file again")


def test_what_a_directory_holds_is_read_or_named(tmp_path):
    for name in ("a.jsonl", "b.JSONL", "c.Json"):
        put(tmp_path / name, line(name))
    for ending, pack in PACK.items():
        put(tmp_path / f"d.jsonl{ending}", pack(line(ending)))
    put(tmp_path / "e.tsv", "e.tsv\tx\n")
    os.symlink(tmp_path / "e.tsv", tmp_path / "f.txt")
    os.symlink(tmp_path / "nowhere", tmp_path / "notes")  # a link to nothing, but no data
    for name in ("meta.json", ".DS_Store", "README.md", ".g.jsonl"):
        put(tmp_path / name, line("decoy"))
    put(tmp_path / "h.jsonl", "")
    (tmp_path / "sub.jsonl").mkdir()
    put(tmp_path / "sub.jsonl" / "i.jsonl", line("decoy"))
    ids, notes = read(tmp_path)
    assert ids == ["a.jsonl", "b.JSONL", "c.Json", ".bz2", ".gz", ".xz", ".zst", "e.tsv"]
    assert notes == [
        f"{tmp_path}: 6 of 14 are left out: .g.jsonl (hidden), README.md, f.txt, h.jsonl (empty), notes and 1 more"
    ]
    put(tmp_path / "h.jsonl", "\n\n")  # no bytes but blank lines
    assert read(tmp_path)[1][1] == f"{tmp_path}: files without a passage: 1, the first h.jsonl"


@pytest.mark.parametrize("reader", [data.read_corpus, data.read_questions, data.read_generated])
@pytest.mark.parametrize("target", ["nowhere.jsonl", "z.jsonl"])  # the second is the link itself
def test_a_link_that_leads_nowhere_is_an_error(tmp_path, reader, target):
    put(tmp_path / "a.jsonl", line("1"))
    os.symlink(target, tmp_path / "z.jsonl")
    expected = f"{tmp_path}/z.jsonl: a link that leads nowhere ({target}); mend or remove it"
    for source in (tmp_path, tmp_path / "z.jsonl", f"{tmp_path}/*.jsonl"):
        assert message(lambda s: list(reader(s)), source) == expected


def test_a_pattern_names_the_folders_that_it_matches(tmp_path):
    put(tmp_path / "a-1", line("1"))
    (tmp_path / "a-2").mkdir()
    assert read(f"{tmp_path}/a-*") == (["1"], [f"{tmp_path}/a-*: 1 of 2 are left out: a-2/"])
    assert message(read, f"{tmp_path}/a-2*") == f"{tmp_path}/a-2*: no file, but {tmp_path}/a-2"


def test_a_directory_of_folders_alone_says_so(tmp_path):
    (tmp_path / "part1").mkdir()
    assert message(read, tmp_path).endswith("with .gz, .bz2, .xz, .zst; it holds part1/")


NOT_LINES = {
    "zip": (b"PK\x03\x04....", "a zip archive; unpack it"),
    "parquet": (b"PAR1....", "a Parquet file; write it as JSON Lines"),
    "UTF-16": ('{"id": 1}'.encode("utf-16"), "UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
    "old Macs": (b"1\tx\r2\ty\r", "lines that end in a carriage return alone; convert them (tr '\\r' '\\n')"),
    "tar": (b"c.jsonl".ljust(257, b"\0") + b"ustar  \0\n", "a tar archive; unpack it"),
}


@pytest.mark.parametrize(("content", "expected"), NOT_LINES.values(), ids=NOT_LINES)
def test_files_that_are_no_lines_are_named_for_what_they_are(tmp_path, content, expected):
    for raw in (content, gzip.compress(content)):
        path = put(tmp_path / "c", raw)
        assert message(read, path) == f"{path}: expected lines of text, found {expected}"


def test_names_that_no_file_has_or_no_record_holds_are_user_errors(tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    with open(odd, "wb") as file:
        file.write(line("1"))
    expected = f"{tmp_path}/caf\\udce9.jsonl: the name is not UTF-8; rename it"
    assert message(read, tmp_path) == expected
    assert message(read, os.fsdecode(odd)) == expected
    assert message(data.read_run, Path(os.fsdecode(odd))) == expected
    for name in ("x" * 5000, "a\0b", str(tmp_path / "[")):
        for reader in (read, data.read_run, data.read_qrels, data.read_generated):
            with pytest.raises(UserError):
                list(reader(name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_shard_that_may_not_be_read_is_an_error(tmp_path):
    put(tmp_path / "a.jsonl", line("1"))
    put(tmp_path / "b.jsonl", line("2")).chmod(0)
    assert message(read, tmp_path) == f"{tmp_path}/b.jsonl: Permission denied"


@pytest.mark.parametrize("reader", [data.read_corpus, data.read_questions])
def test_a_folder_of_beirs_is_not_one_input(tmp_path, reader):
    put(tmp_path / "corpus.jsonl.gz", line("1"))
    put(tmp_path / "queries.jsonl", line("2"))
    assert message(lambda s: list(reader(s)), tmp_path) == (
        f"{tmp_path}: a corpus and queries, as in BEIR's folders: give the file that is meant"
    )


def test_no_name_is_not_the_working_directory(tmp_path, monkeypatch):
    put(tmp_path / "c.jsonl", line("1"))
    monkeypatch.chdir(tmp_path)
    assert message(read, "") == "an empty name; expected a file, a directory or a pattern"


def test_several_byte_order_marks_are_none(tmp_path):
    assert read(put(tmp_path / "c.jsonl", b"\xef\xbb\xbf" * 2 + line("1")))[0] == ["1"]
