"""`check_folder`: every file of a folder is read in full, and what is damaged is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import message, run_xqg, write_jsonl
from made_stores import describe, edit_meta, f32, write_passages, write_sums

from xqg_pyserini import Fusion
from xqg_pyserini.data import describe_sources
from xqg_pyserini.files import file_sha256, write_json
from xqg_pyserini.retrieve import layout
from xqg_pyserini.retrieve.check import check_folder
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.stores import record_files

IDS = ["a", "b", "c"]
E = f32([[1, 0], [0, 1], [1, 1]])
SHARD = "queries-00000-of-00001.jsonl"


@pytest.fixture
def folders(tmp_path) -> Path:
    """One of each kind of folder."""
    passages = write_passages(tmp_path / "P", IDS, E)
    sums = write_sums(tmp_path / "Q", IDS, {"ar": E, "ru": E + 1}, {"ar": [1] * 3, "ru": [2] * 3})
    np.save(sums / "sum-ar-first-1.npy", E)
    np.save(sums / "sum-ru-first-1.npy", E)
    kept = {l: file_sha256(sums / f"sum-{l}-first-1.npy") for l in ("ar", "ru")}
    edit_meta(sums, kept={"1": kept})
    for store in (passages, sums):
        edit_meta(store, encoder=describe(True) | {"backend": "object"})
    fused = Fused(passages, sums, Fusion("mean", beta=0.3, normalize=True, center=True))
    fused.own_language().write_index(tmp_path / "L")
    for kind in ("flat", "hnsw"):
        write_index(passages, tmp_path / kind, kind)
    for name, kind in (("G", "generated-queries"), ("F", "filtered-queries")):
        (tmp_path / name).mkdir()
        records = [{"docid": i, "generated_queries": {"ar": ["?"]}} for i in IDS]
        write_jsonl(tmp_path / name / SHARD, records)
        write_json(tmp_path / name / "meta.json", {"kind": kind, "num_shards": 1})
    record_files(tmp_path / "G", {SHARD: 3})
    described = describe_sources(tmp_path / "F")
    write_json(tmp_path / "F" / "meta.json", {"kind": "filtered-queries", "files": described})
    return tmp_path


def problems(folder: Path) -> dict[str, str]:
    """What is wrong, by the file's name within the folder."""
    return {str(Path(file.path).relative_to(folder)): file.problem for file in check_folder(folder) if file.problem}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("P", {"meta.json", "ids.txt", "vectors.npy"}),
        (
            "Q",
            {
                "meta.json", "ids.txt", "counts.npy", "sum-ar.npy", "sum-ru.npy",
                "sum-ar-first-1.npy", "sum-ru-first-1.npy",
            },
        ),
        ("flat", {"xqg.json", "index", "docid"}),
        ("hnsw", {"xqg.json", "index", "docid"}),
        (
            "L",
            {"xqg.json"}
            | {
                f"{l}/{file}"
                for l in ("ar", "ru", "all-languages")
                for file in ("xqg.json", "index", "docid", "centers.npy")
            },
        ),
        ("G", {SHARD, "."}),
        ("F", {SHARD}),
    ],
)  # fmt: skip
def test_what_is_whole_is_said_to_be_file_by_file(name, files, folders):
    checked = list(check_folder(folders / name))
    assert {str(Path(file.path).relative_to(folders / name)) for file in checked} == files
    assert [file.problem for file in checked if file.problem] == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "file",
    [
        "P/vectors.npy", "Q/sum-ru.npy", "Q/sum-ar-first-1.npy", "flat/index", "hnsw/index",
        "L/ru/index", "L/all-languages/centers.npy", f"G/{SHARD}", f"F/{SHARD}",
    ],
)  # fmt: skip
def test_a_bit_that_was_flipped_is_named(file, folders):
    flip(folders / file)
    folder, _, name = file.partition("/")
    wrong = problems(folders / folder)
    assert str(folders / file) in wrong[name]
    assert "changed since it was written" in wrong[name]
    # a damaged centre does not open, and the directory is named with it
    assert set(wrong) - {name} <= {"all-languages/docid", "xqg.json"}


def test_all_that_is_damaged_is_named(folders):
    flip(folders / "Q" / "sum-ar.npy")
    flip(folders / "Q" / "sum-ru.npy")
    assert set(problems(folders / "Q")) == {"sum-ar.npy", "sum-ru.npy"}


def test_what_cannot_be_opened_is_named(folders):
    flip(folders / "P" / "ids.txt")
    (folders / "G" / SHARD).unlink()
    assert "ids.txt: missing or changed" in problems(folders / "P")["meta.json"]
    assert "no file in this directory" in problems(folders / "G")["."]


def test_a_missing_shard_is_named(folders):
    write_json(folders / "G" / "meta.json", {"kind": "generated-queries", "num_shards": 2})
    (folders / "G" / SHARD).rename(folders / "G" / "queries-00000-of-00002.jsonl")
    assert "queries-00001-of-00002" in problems(folders / "G")["."]


def test_what_is_not_recorded_is_said(folders):
    meta = json.loads((folders / "flat" / "xqg.json").read_text())
    meta.pop("sha256")
    (folders / "flat" / "xqg.json").write_text(json.dumps(meta))
    assert "no checksum is recorded" in problems(folders / "flat")["index"]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("flat/xqg.json", {"sha256": "x"}),
        ("flat/xqg.json", {"sha256": None}),
        ("flat/xqg.json", {"encoder": {}}),
        ("L/ar/xqg.json", {"centers": None}),
        ("L/ar/xqg.json", {"centers": ["ar", "ar"]}),
        ("L/xqg.json", {"encoder": {"name": 1}}),
        ("P/meta.json", {"encoder": {"name": "e", "backend": "b", "model": "m"}}),
        ("Q/meta.json", {"encoder": {}}),
    ],
)
def test_a_damaged_description_is_named(file, change, folders):
    path = folders / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    folder, _, name = file.partition("/")
    wrong = problems(folders / folder)
    assert str(path) in wrong[name]
    # where the languages have their indexes, the folder of all of them has to open each
    assert set(wrong) <= {name, "xqg.json"}


def test_each_checksum_must_be_recorded(folders):
    file = folders / "L" / "ar" / "xqg.json"
    meta = json.loads(file.read_text())
    meta["sha256"] = {}
    file.write_text(json.dumps(meta))
    assert {name for name, problem in problems(folders / "L").items() if "no checksum is recorded" in problem} == {
        "ar/index", "ar/docid", "ar/centers.npy",
    }  # fmt: skip


def test_a_file_is_said_once(folders):
    paths = [file.path for file in check_folder(folders / "Q")]
    assert len(set(paths)) == len(paths)


def test_a_kind_that_is_no_text_is_refused(folders):
    edit_meta(folders / "P", kind=["passages"])
    assert message(list, check_folder(folders / "P")).startswith(f"{folders / 'P' / 'meta.json'}: damaged (kind: ")


def test_another_folder_is_refused(folders):
    (folders / "empty").mkdir()
    assert message(list, check_folder(folders / "empty")).startswith(
        f"{folders / 'empty'}: has neither meta.json nor xqg.json"
    )
    edit_meta(folders / "P", kind="songs")
    assert message(list, check_folder(folders / "P")) == (
        f"{folders / 'P' / 'meta.json'}: kind is 'songs'; expected passages, query-sums, "
        "generated-queries, filtered-queries"
    )


def test_the_command_ends_with_2_where_something_is_damaged(folders):
    done = run_xqg("check", "P", cwd=folders)
    assert (done.returncode, done.stderr) == (0, "")
    flip(folders / "P" / "vectors.npy")
    done = run_xqg("check", "P", "--json", cwd=folders)
    assert done.returncode == 2
    assert done.stderr == "xqg check: error: P: 1 of 3 files are damaged\n"
    assert [file["problem"] is None for file in json.loads(done.stdout)] == [True, True, False]


def test_languages_that_are_none_are_refused_as_a_query_stores_are(folders):
    file = folders / "L" / "xqg.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"languages": ["ar", "../L/ru"]}))
    assert message(layout.language_aware, folders / "L").startswith(f"{file}: unknown language code '../L/ru'")
