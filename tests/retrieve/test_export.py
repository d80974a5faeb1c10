"""What `xqg export` writes is what the index holds, read back by its readers; Lance is searched as the index is."""

import json
import sys
from unittest.mock import patch

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
from conftest import message, refusal, write_jsonl
from made_search import IDS, QUESTIONS, VECTORS, D, E, N, fused, in_order, passages, queries  # noqa: F401 - some are fixtures
from made_stores import describe, engine, write_passages  # noqa: F401 - some are fixtures
from test_search_aligned import alignment, write_alignment  # noqa: F401 - a fixture

from xqg_pyserini import ExportSettings, Fusion, Index, Question, export_index
from xqg_pyserini.retrieve import export
from xqg_pyserini.retrieve.check import check_folder
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.layout import META

TEXTS = [{"id": docid, "title": f'"{i}"', "text": f"\\ سطر {i}"} for i, docid in enumerate(IDS)]
TENTHS = E / np.float32(10)  # of which none is exact in float16


@pytest.fixture
def flat(passages, tmp_path):
    return write_index(passages, tmp_path / "I").path


@pytest.fixture
def small(monkeypatch):
    """Blocks of 5 passages, 2 blocks a file, bulk requests of 600 bytes."""
    monkeypatch.setattr(export, "block_rows", lambda d: 5)
    monkeypatch.setattr(export, "LANCE_ROWS", 10)
    monkeypatch.setattr(export, "PART_BLOCKS", 2)
    monkeypatch.setattr(export, "TEXT_ROWS", 3)
    monkeypatch.setattr(export, "BULK_BYTES", 600)


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- Parquet


@pytest.mark.parametrize(("kind", "dtype"), [("flat", "float32"), ("flat", "float16"), ("fp16", "float16")])
def test_parquet_holds_ids_and_vectors_in_row_groups_of_a_block(kind, dtype, small, tmp_path):
    index = write_index(write_passages(tmp_path / "P", IDS, TENTHS), tmp_path / "I", kind)
    meta = export_index(index.path, tmp_path / "X", ExportSettings("parquet", dtype))
    files = sorted((tmp_path / "X" / "vectors").iterdir())
    assert [path.name for path in files] == [f"part-0000{i}.parquet" for i in range(4)]
    groups = [pyarrow.parquet.ParquetFile(path).metadata for path in files]
    assert [[g.row_group(i).num_rows for i in range(g.num_row_groups)] for g in groups] == [[5, 5]] * 3 + [[2]]
    table = pyarrow.dataset.dataset(tmp_path / "X" / "vectors").to_table()
    assert table.column_names == ["docid", "vector"]
    assert table["docid"].to_pylist() == IDS
    numbers = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(N, D)
    assert numbers.dtype == dtype and np.array_equal(numbers, TENTHS.astype(dtype))
    assert json.loads((tmp_path / "X" / META).read_text("utf-8")) == meta
    sums = {of: meta[of] for of in ("sha256", "xxh3")}
    assert meta == {**index.meta, "kind": "export", "type": "parquet", "dtype": dtype, **sums}
    assert set(sums["xxh3"]) == set(sums["sha256"]) >= {f"vectors/{path.name}" for path in files}
    assert [file.problem for file in check_folder(tmp_path / "X")] == [None] * 5
    assert sum(path.stat().st_size for path in files) > 0


def test_texts_stand_beside_the_vectors(flat, small, tmp_path):
    corpus = write_jsonl(tmp_path / "corpus.jsonl", TEXTS)
    export_index(flat, tmp_path / "X", ExportSettings("parquet"), corpus=corpus)
    table = pyarrow.dataset.dataset(tmp_path / "X" / "vectors").to_table(columns=["docid", "title", "text"])
    assert table.to_pylist() == [{"docid": t["id"], "title": t["title"], "text": t["text"]} for t in TEXTS]


# ---------------------------------------------------------------- OpenSearch


def test_opensearch_takes_bulk_requests_and_a_mapping(passages, small, tmp_path):
    index = write_index(write_passages(tmp_path / "T", IDS, TENTHS), tmp_path / "I")
    export_index(index.path, tmp_path / "X", ExportSettings("opensearch"), corpus=TEXTS)
    bulks = sorted((tmp_path / "X").glob("bulk-*.ndjson"))
    assert len(bulks) > 3
    assert all(path.stat().st_size <= 600 for path in bulks)
    data = b"".join(path.read_bytes() for path in bulks)
    assert all(path.read_bytes().endswith(b"]}\n") or path.read_bytes().endswith(b'"}\n') for path in bulks)
    lines = [json.loads(line) for line in data.decode().splitlines()]
    assert lines[::2] == [{"index": {"_id": docid}} for docid in IDS]
    for document, vector, text in zip(lines[1::2], TENTHS, TEXTS, strict=True):
        assert np.array_equal(np.array(document.pop("vector"), dtype=np.float32), vector)
        assert document == {"title": text["title"], "text": text["text"]}
    method = {"name": "hnsw", "engine": "faiss", "space_type": "innerproduct"}
    vector = {"type": "knn_vector", "dimension": D, "method": method}
    assert json.loads((tmp_path / "X" / "index.json").read_text("utf-8")) == {
        "settings": {"index": {"knn": True}},
        "mappings": {"properties": {"vector": vector, "title": {"type": "text"}, "text": {"type": "text"}}},
    }


def test_a_passage_longer_than_a_request_is_one_by_itself(flat, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "BULK_BYTES", 10)
    export_index(flat, tmp_path / "X", ExportSettings("opensearch"))
    bulks = sorted((tmp_path / "X").glob("bulk-*.ndjson"))
    assert [path.read_bytes().count(b"\n") for path in bulks] == [2] * N
    assert "title" not in (tmp_path / "X" / "index.json").read_text("utf-8")


# ---------------------------------------------------------------- Lance


@pytest.mark.parametrize("fusion", [None, Fusion("mean", beta=0.25, center=True)], ids=["plain", "centred"])
@pytest.mark.parametrize("hits", [3, 100])
def test_lance_without_an_index_gives_the_hits_of_the_flat_index(fusion, hits, passages, fused, small, tmp_path):
    index = write_index(passages, tmp_path / "I") if fusion is None else fused(fusion).write_index(tmp_path / "I")
    meta = export_index(index.path, tmp_path / "X.lance", ExportSettings("lance"))
    assert meta["lance"] == {"partitions": 0, "probes": 0, "refine": 10}
    of_lance = Index(tmp_path / "X.lance")
    assert (of_lance.n, of_lance.d, of_lance.encoder) == (N, D, describe())
    run = in_order(of_lance.search(QUESTIONS, hits, vectors=VECTORS))
    assert run == in_order(index.search(QUESTIONS, hits, vectors=VECTORS))
    if fusion is None:  # rows 4, 12 and 28 are the same passage, the first question's best
        assert [docid for docid, _ in run["00"][:3]] == ["d4", "d12", "d28"]
    assert {file.problem for file in check_folder(tmp_path / "X.lance")} == {None}


def test_aligned_questions_search_lance_and_another_encoder_s_alignment_is_refused(flat, alignment, tmp_path):
    export_index(flat, tmp_path / "X", ExportSettings("lance"))
    run = Index(tmp_path / "X").search(QUESTIONS[:2], vectors=VECTORS[:2], align=alignment)
    assert in_order(run) == in_order(Index(flat).search(QUESTIONS[:2], vectors=VECTORS[:2], align=alignment))
    assert in_order(run) != in_order(Index(flat).search(QUESTIONS[:2], vectors=VECTORS[:2]))
    other = write_alignment(tmp_path / "B", encoder={**describe(), "fingerprint": "w2"})
    said = message(Index(tmp_path / "X").search, QUESTIONS[:2], vectors=VECTORS[:2], align=other)
    assert "w2" in said and str(tmp_path / "X") in said


def test_folders_of_a_language_aware_index_are_searched_as_lance(fused, tmp_path):
    index = fused(Fusion("mean", beta=0.25)).own_language().write_index(tmp_path / "I")
    folders = ["ar", "ru", "te", "all-languages"]
    for name in folders:
        export_index(tmp_path / "I" / name, tmp_path / "X" / name, ExportSettings("lance"))
    run = Index([tmp_path / "X" / name for name in folders]).search(QUESTIONS[:5], 7, vectors=VECTORS[:5])
    assert in_order(run) == in_order(index.search(QUESTIONS[:5], 7, vectors=VECTORS[:5]))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """300 passages of 8 numbers, three of them the same, as an index and as Lance with IVF-PQ."""
    folder = tmp_path_factory.mktemp("many")
    vectors = np.random.default_rng(0).integers(-8, 9, (300, 8)).astype(np.float32)
    vectors[250] = vectors[80] = vectors[7] = 9
    write_passages(folder / "P", [f"p{300 - i}" for i in range(300)], vectors)
    write_index(folder / "P", folder / "I", "fp16")
    how = ExportSettings("lance", "float16", partitions=3, probes=3, refine=20)
    with patch.object(export, "LANCE_ROWS", 100):
        export_index(folder / "I", folder / "X", how)
    assert len(list((folder / "X" / "data").iterdir())) == 3
    return folder, [Question(str(i), "?") for i in range(4)], vectors[[7, 1, 2, 3]]


def test_what_ivf_pq_finds_is_scored_by_vectors_and_ordered_by_rows(many):
    folder, questions, vectors = many
    index = Index(folder / "X")
    assert index.meta["lance"] == {"partitions": 3, "probes": 3, "refine": 20}
    run = in_order(index.search(questions, 10, vectors=vectors))
    assert run == in_order(Index(folder / "I").search(questions, 10, vectors=vectors))  # all are looked at
    assert run["0"][:3] == [("p293", 648.0), ("p220", 648.0), ("p50", 648.0)]


def test_what_few_probes_find_is_scored_exactly(many, tmp_path):
    folder, questions, vectors = many
    export_index(folder / "I", tmp_path / "X", ExportSettings("lance", partitions=20, probes=1, refine=1))
    run = Index(tmp_path / "X").search(questions, 10, vectors=vectors)
    whole = Index(folder / "I").search(questions, 300, vectors=vectors)
    assert [len(hits) for hits in run.values()] == [10] * 4
    for qid, hits in run.items():
        assert hits == {docid: whole[qid][docid] for docid in hits}
        assert list(hits.values()) == sorted(hits.values(), reverse=True)


@pytest.mark.parametrize(
    ("n", "typed", "expected"),
    [
        (10_000, {}, (0, 0, 10)),
        (10_001, {}, (100, 16, 10)),
        (18_000_000, {}, (4243, 265, 10)),
        (10_001, {"partitions": 8, "refine": 2}, (8, 8, 2)),
        (10_001, {"probes": 3}, (100, 3, 10)),
    ],
)
def test_partitions_and_probes_that_are_not_given(n, typed, expected):
    assert tuple(ExportSettings("lance", **typed).lance(n).values()) == expected


# ---------------------------------------------------------------- what is refused


def test_indexes_that_do_not_hold_their_vectors_are_refused(passages, flat, fused, tmp_path):
    write_index(passages, tmp_path / "S", "sq8")
    said = message(export_index, tmp_path / "S", tmp_path / "X", ExportSettings("parquet"))
    assert said == f"{tmp_path / 'S'}: an index of type sq8; export takes one of type flat, fp16, hnsw"
    (flat / META).unlink()
    said = message(export_index, flat, tmp_path / "X", ExportSettings("parquet"))
    assert said == f"{flat}: an index that xqg did not write; export takes one of type flat, fp16, hnsw"
    fused(Fusion("mean", beta=0.25)).own_language().write_index(tmp_path / "L")
    said = message(export_index, tmp_path / "L", tmp_path / "X", ExportSettings("parquet"))
    assert said.startswith(f"{tmp_path / 'L'} is a folder of one index a language: give one of {tmp_path / 'L' / 'ar'}")
    assert left(tmp_path) == ["I", "L", "P", "Q", "S"]


def test_an_index_that_was_changed_is_refused(flat, tmp_path):
    data = bytearray((flat / "index").read_bytes())
    data[-3] ^= 1
    (flat / "index").write_bytes(data)
    said = message(export_index, flat, tmp_path / "X", ExportSettings("parquet"))
    assert said.startswith(f"{flat / 'index'}: changed since it was written")
    assert left(tmp_path) == ["I", "P"]


@pytest.mark.parametrize("kind", export.FORMATS)
@pytest.mark.parametrize(
    ("records", "said"),
    [
        (TEXTS[:20], f"the corpus ends before passage 'd20': {export._SAME}"),
        ([*TEXTS, {"id": "more", "text": "x"}], f"passage 'more' is not in {{index}}: {export._SAME}"),
        ([*TEXTS[:9], TEXTS[10], TEXTS[9], *TEXTS[11:]], f"passage 'd10', where {{index}} has 'd9': {export._SAME}"),
    ],
    ids=["short", "long", "another order"],
)
def test_another_corpus_is_refused(kind, records, said, flat, small, tmp_path):
    corpus = write_jsonl(tmp_path / "c.jsonl", records)
    text, about = refusal(export_index, flat, tmp_path / "X", ExportSettings(kind), corpus=corpus)
    assert text.endswith(said.format(index=flat))
    assert about == ("corpus",)
    assert left(tmp_path) == ["I", "P", "c.jsonl"]


@pytest.mark.parametrize("kind", export.FORMATS)
def test_vectors_that_float16_cannot_hold_are_refused(kind, tmp_path):
    index = write_index(write_passages(tmp_path / "P", ["a", "b"], np.float32([[1, 2], [70000, 1]])), tmp_path / "I")
    said = refusal(export_index, index.path, tmp_path / "X", ExportSettings(kind, "float16"))
    assert said == (f"the vectors of {index.path} do not fit into float16; use float32", ("dtype",))
    assert left(tmp_path) == ["I", "P"]


def test_settings_that_do_not_belong_together_are_refused(flat, tmp_path):
    assert refusal(ExportSettings, "parquet", refine=3) == ("refine is for lance, not for parquet", ("refine",))
    assert refusal(ExportSettings, "csv")[1] == ("format",)
    said = refusal(export_index, flat, tmp_path / "X", ExportSettings("lance", partitions=3))
    assert said == ("32 passages; IVF-PQ of 3 partitions takes 256 or more", ("partitions",))
    docid = "x" * 513
    index = write_index(write_passages(tmp_path / "T", [docid], E[:1]), tmp_path / "J")
    said = message(export_index, index.path, tmp_path / "X", ExportSettings("opensearch"))
    assert said == f"passage id {docid!r:.60} …: OpenSearch takes ids of 512 bytes at most"
    assert not (tmp_path / "X").exists()


def test_what_was_exported_elsewhere_is_not_searched_and_a_changed_dataset_is_named(flat, tmp_path):
    export_index(flat, tmp_path / "X", ExportSettings("parquet"))
    said = f"{tmp_path / 'X'}: exported for another engine; search the index that it was exported from"
    assert message(Index, tmp_path / "X") == said
    export_index(flat, tmp_path / "Y", ExportSettings("lance"))
    (data,) = (tmp_path / "Y" / "data").iterdir()
    whole = data.read_bytes()
    data.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    said = message(Index(tmp_path / "Y").search, QUESTIONS, vectors=VECTORS, align=None)
    assert said.startswith(f"{data}: changed since it was written")
    assert [file.path for file in check_folder(tmp_path / "Y") if file.problem] == [str(data)]
    for manifest in (tmp_path / "Y" / "_versions").iterdir():
        manifest.unlink()
    assert message(Index, tmp_path / "Y").startswith(f"{tmp_path / 'Y'}: Lance cannot read it (")


def test_without_lance_the_extra_is_named(flat, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lance", None)
    said = message(export_index, flat, tmp_path / "X", ExportSettings("lance"))
    assert said == "the package pylance is not installed: run pip install 'xqg_pyserini[lance]'"
    assert left(tmp_path) == ["I", "P"]


# ---------------------------------------------------------------- the command


def test_the_command_exports_and_searches(task, xqg, tmp_path):
    index, lance, corpus = tmp_path / "I", tmp_path / "I.lance", task / "corpus.jsonl"
    xqg("index", "--passages", task / "passages", "--output", index)
    said = xqg("export", "--index", index, "--format", "lance", "--corpus", corpus, "--output", lance)
    assert said == f"{lance}: 5 passages, 384 dimensions (float32) for lance; no index, searched whole\n"
    for name in (index, lance):
        xqg("search", "--index", name, "--topics", task / "questions.jsonl", "--output", name.with_suffix(".trec"))
    assert (tmp_path / "I.trec").read_text("utf-8").count("\n") == 15
    run = name.with_suffix(".trec")
    assert run.read_text("utf-8") == (tmp_path / "I.trec").read_text("utf-8")
