"""Files that a folder records: whole, or damaged in any way."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, message, write_jsonl

from xqg_pyserini.data import describe_sources
from xqg_pyserini.files import file_sha256, write_json
from xqg_pyserini.stores import check_recorded, is_whole, record_files, recorded_files

NAMES = ["queries-00000-of-00002.jsonl.gz", "queries-00001-of-00002.jsonl.gz"]
RECORDS = [{"docid": str(i), "generated_queries": {"fi": [f"{i}?"]}} for i in range(5)]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two shards with 3 and 2 records, the first of them recorded."""
    write_json(tmp_path / "meta.json", {"format": 1, "kind": "generated-queries"})
    for name, records in zip(NAMES, (RECORDS[:3], RECORDS[3:]), strict=True):
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    record_files(tmp_path, {NAMES[0]: 3})
    return tmp_path


def whole(folder: Path, shard: int, records: int) -> bool:
    path = folder / NAMES[shard]
    return is_whole(path, records, recorded_files(folder).get(path.name))


def test_a_file_that_is_recorded_has_its_bytes_and_its_records(folder):
    meta = json.loads((folder / "meta.json").read_text())
    path = folder / NAMES[0]
    assert meta == {
        "format": 1,
        "kind": "generated-queries",
        "files": [
            {
                "name": NAMES[0], "bytes": path.stat().st_size, "sha256": file_sha256(path),
                "records": 3,
            }
        ],
    }  # fmt: skip
    assert whole(folder, 0, 3)
    assert not whole(folder, 0, 2)


@pytest.mark.parametrize("shard", [0, 1])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(path.read_bytes()[:-7] + b"x" + path.read_bytes()[-6:]),
        lambda path: write_jsonl(path, RECORDS[:1]),
    ],
    ids=["missing", "empty", "cut", "changed", "fewer"],
)
def test_a_damaged_file_is_not_whole(damage, shard, folder):
    damage(folder / NAMES[shard])
    assert not whole(folder, shard, (3, 2)[shard])


def test_a_file_that_is_not_recorded_is_read_through(folder):
    assert whole(folder, 1, 2)
    assert not whole(folder, 1, 3)
    before = (folder / "meta.json").read_bytes()
    record_files(folder, {})
    assert (folder / "meta.json").read_bytes() == before


def test_the_order_in_which_files_are_recorded_does_not_show(folder):
    record_files(folder, {NAMES[1]: 2})
    first = (folder / "meta.json").read_bytes()
    record_files(folder, {NAMES[0]: 3})
    assert (folder / "meta.json").read_bytes() == first
    assert list(recorded_files(folder)) == NAMES


def test_what_reads_a_folder_names_a_file_that_was_changed(folder):
    check_recorded(folder, describe_sources(folder))
    write_jsonl(folder / NAMES[0], RECORDS[:3])
    assert message(check_recorded, folder, describe_sources(folder)) == (
        f"{folder / NAMES[0]}: changed since it was written (its checksum differs); make it again"
    )


def test_several_processes_record_in_one_folder(tmp_path):
    write_json(tmp_path / "meta.json", {"format": 1})
    code = """
import sys
from pathlib import Path
from xqg_pyserini.stores import record_files
folder = Path(sys.argv[1])
for i in range(15):
    name = f"{sys.argv[2]}-{i}"
    (folder / name).write_text(name)
    record_files(folder, {name: 1})
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(i)], cwd=ROOT) for i in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len(recorded_files(tmp_path)) == 45
