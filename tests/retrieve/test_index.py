"""Indexes are Faiss's own, byte for byte where that can be, and made without holding a matrix."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from conftest import message, refusal
from made_stores import describe, edit_meta, f32, files, write_passages, write_sums

from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.files import file_sums
from xqg_pyserini.fusion.formula import Fusion
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.retrieve.directories import FaissDirectory
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.layout import read_centers
from xqg_pyserini.retrieve.search import Index
from xqg_pyserini.stores import VectorStore, store

TYPES = ("flat", "fp16", "sq8", "hnsw")  # that take any number of passages; test_inverted has the others
N, D = 40, 8
IDS = ["007", "-1234567890123456789", "قطة", "🐈", *(f"d{i}" for i in range(4, N))]
RANDOM = np.random.default_rng(7)
E = RANDOM.normal(size=(N, D)).astype(np.float32)
SUMS = {l: RANDOM.normal(size=(N, D)).astype(np.float32) for l in ("ar", "ru")}
COUNTS = {"ar": [2] * N, "ru": [3] * N}
MEAN = Fusion("mean", beta=0.3)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few passages, the last one shorter."""
    monkeypatch.setattr(store, "BLOCK_BYTES", 4 * D * 4 * 7)


@pytest.fixture
def passages(tmp_path):
    return write_passages(tmp_path / "P", IDS, E)


@pytest.fixture
def queries(tmp_path):
    return write_sums(tmp_path / "Q", IDS, SUMS, COUNTS)


FORCED = Tolerances(allow_unequal=True, allow_uneven=True)


def build(passages, output, queries=None, fusion=None, tolerances=None, **options) -> dict:
    """Write an index of passages alone, or fused with queries; return what it says of itself."""
    if queries is None:
        return write_index(passages, output, **options).meta
    return Fused(passages, queries, fusion, tolerances).write_index(output, **options).meta


def quiet(*arguments, **options) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's
        return build(*arguments, **options)


def stored(folder: Path) -> np.ndarray:
    """The vectors of a flat index."""
    index = faiss.read_index(str(folder / "index"))
    return index.reconstruct_n(0, index.ntotal)


def faiss_bytes(index, tmp_path) -> bytes:
    faiss.write_index(index, str(tmp_path / "faiss"))
    return (tmp_path / "faiss").read_bytes()


def faiss_own(kind: str, vectors: np.ndarray):
    """The index that Faiss itself makes of vectors that it holds all at once."""
    d = vectors.shape[1]
    if kind == "flat":
        index = faiss.IndexFlatIP(d)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 200, 256
    else:
        code = {"fp16": faiss.ScalarQuantizer.QT_fp16, "sq8": faiss.ScalarQuantizer.QT_8bit}[kind]
        index = faiss.IndexScalarQuantizer(d, code, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
    index.add(vectors)
    return index


# --- Faiss's files --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_index_of_any_type_opens_in_faiss_with_every_passage(tmp_path, kind, dtype):
    path = write_passages(tmp_path / "P", IDS, E.astype(dtype))
    quiet(path, tmp_path / "out", kind=kind)
    index = faiss.read_index(str(tmp_path / "out" / "index"))
    assert (index.ntotal, index.d, index.metric_type) == (N, D, faiss.METRIC_INNER_PRODUCT)
    assert index.is_trained
    assert (tmp_path / "out" / "docid").read_text("utf-8").splitlines() == IDS
    assert (tmp_path / "out" / "docid").read_bytes() == (path / "ids.txt").read_bytes()
    assert set(files(tmp_path / "out")) == {"index", "docid", "xqg.json"}
    assert sorted(os.listdir(tmp_path)) == ["P", "out"]


@pytest.mark.parametrize("kind", ["flat", "fp16", "sq8"])
def test_what_is_streamed_is_what_faiss_writes_byte_for_byte(passages, tmp_path, kind):
    quiet(passages, tmp_path / "out", kind=kind)
    assert (tmp_path / "out" / "index").read_bytes() == faiss_bytes(faiss_own(kind, E), tmp_path)


@pytest.mark.parametrize("kind", TYPES)
def test_scores_are_those_of_the_vectors_within_what_the_type_loses(passages, tmp_path, kind):
    """Faiss's own index of the same type loses the same."""
    quiet(passages, tmp_path / "out", kind=kind)
    questions = np.random.default_rng(1).normal(size=(20, D)).astype(np.float32)
    scores, rows = FaissDirectory(tmp_path / "out").best(questions, N)
    own, own_rows = faiss_own(kind, E).search(questions, N)
    np.testing.assert_allclose(scores, own, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rows, own_rows)
    truth = np.take_along_axis(questions @ E.T, rows, axis=1)
    steps = (E.max(axis=0) - E.min(axis=0)) / 255
    loss = {"flat": 1e-5, "hnsw": 1e-5, "fp16": 0.02, "sq8": np.abs(questions).sum(1).max() * steps.max()}
    assert np.abs(scores - truth).max() <= loss[kind]
    best = np.argmax(questions @ E.T, axis=1)
    assert kind in ("fp16", "sq8") or rows[:, 0].tolist() == best.tolist()


def test_an_hnsw_index_keeps_its_search_depth_in_the_file(passages, tmp_path):
    quiet(passages, tmp_path / "out", kind="hnsw")
    index = faiss.read_index(str(tmp_path / "out" / "index"))
    assert (index.hnsw.efSearch, index.hnsw.efConstruction) == (256, 200)


@pytest.mark.parametrize("kind", TYPES)
def test_one_passage_makes_an_index_too(tmp_path, kind):
    quiet(write_passages(tmp_path / "P", ["only"], E[:1]), tmp_path / "out", kind=kind)
    scores, rows = FaissDirectory(tmp_path / "out").best(E[:1], 10)
    assert rows.tolist() == [[0]]
    assert scores[0, 0] == pytest.approx(float(E[0] @ E[0]), rel=1e-2)


def test_a_dimension_in_which_all_passages_agree_survives_sq8(tmp_path):
    vectors = E.copy()
    vectors[:, 3] = 0.5
    quiet(write_passages(tmp_path / "P", IDS, vectors), tmp_path / "out", kind="sq8")
    assert stored(tmp_path / "out")[:, 3].tolist() == [0.5] * N


# --- what goes in ---------------------------------------------------------------------------------


def test_the_baseline_holds_the_passages_as_they_are_or_at_length_1(passages, tmp_path):
    quiet(passages, tmp_path / "raw")
    assert stored(tmp_path / "raw").tolist() == E.tolist()
    meta = quiet(VectorStore(passages), tmp_path / "unit", normalize=True)
    norms = np.sqrt((E.astype(float) ** 2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(stored(tmp_path / "unit"), E / norms, rtol=1e-5)
    assert meta["normalized"] is True


@pytest.mark.parametrize("kind", ["flat", "fp16", "sq8"])
def test_a_fused_index_is_faiss_own_of_the_fused_vectors(passages, queries, tmp_path, kind):
    quiet(passages, tmp_path / "out", queries=queries, fusion=MEAN, kind=kind)
    fused = 0.7 * E.astype(float) + 0.3 * (SUMS["ar"] + SUMS["ru"].astype(float)) / 5
    own = faiss_own(kind, fused.astype(np.float32))
    built = faiss.read_index(str(tmp_path / "out" / "index"))
    loss = {"flat": 1e-6, "fp16": 2e-3, "sq8": 0.02}[kind]
    np.testing.assert_allclose(built.reconstruct_n(0, N), own.reconstruct_n(0, N), rtol=0, atol=loss)


def test_chosen_languages_alone_are_mixed_in(passages, queries, tmp_path):
    fusion = Fusion("sum", alpha=0.5, languages=("ru",))
    meta = quiet(passages, tmp_path / "out", queries=queries, fusion=fusion)
    np.testing.assert_allclose(stored(tmp_path / "out"), (E + SUMS["ru"]) / 2, atol=1e-6)
    assert meta["fusion"]["languages"] == ["ru"]


def test_queries_in_another_order_are_mixed_in_by_id(passages, queries, tmp_path):
    order = RANDOM.permutation(N)
    shuffled = write_sums(tmp_path / "S", [IDS[i] for i in order], {l: s[order] for l, s in SUMS.items()}, COUNTS)
    quiet(passages, tmp_path / "a", queries=queries, fusion=MEAN)
    quiet(passages, tmp_path / "b", queries=shuffled, fusion=MEAN)
    assert (tmp_path / "a" / "index").read_bytes() == (tmp_path / "b" / "index").read_bytes()
    assert (tmp_path / "b" / "docid").read_text("utf-8").splitlines() == IDS


def test_passages_without_queries_keep_their_embedding_and_are_counted(passages, tmp_path):
    places = [0, 5, 39]
    few = write_sums(
        tmp_path / "Q", [IDS[i] for i in places], {l: s[places] for l, s in SUMS.items()},
        {"ar": [1, 0, 2], "ru": [0, 4, 2]},
    )  # fmt: skip
    for fusion, without in [(MEAN, 37), (Fusion("mean", beta=0.3, languages=("ru",)), 38)]:
        with pytest.warns(XqgWarning) as caught:
            meta = build(passages, tmp_path / "out", queries=few, fusion=fusion, tolerances=FORCED, overwrite=True)
        languages = "ar ru" if fusion.languages is None else "ru"
        assert [str(w.message) for w in caught if w.category is XqgWarning] == [
            f"{without} of 40 passages have no queries in {languages} and keep their own embedding"
        ]
        assert meta["without_queries"] == without
        changed = np.flatnonzero((stored(tmp_path / "out") != E).any(axis=1)).tolist()
        assert changed == ([0, 5, 39] if without == 37 else [5, 39])


def test_unknown_passages_are_refused_or_left_out_and_counted(passages, tmp_path):
    ids = [*IDS, "unknown"]
    grown = {l: np.concatenate([s, f32([[9] * D])]) for l, s in SUMS.items()}
    more = write_sums(tmp_path / "Q", ids, grown, {"ar": [1] * 41, "ru": [1] * 41})
    options = {"queries": more, "fusion": MEAN}
    assert refusal(build, passages, tmp_path / "out", **options) == (
        f"{more}: queries for passage 'unknown', which {passages} does not hold; skip_unknown leaves such queries out",
        ("skip_unknown",),
    )
    assert not (tmp_path / "out").exists()
    with pytest.warns(XqgWarning) as caught:
        build(passages, tmp_path / "out", tolerances=Tolerances(skip_unknown=True), **options)
    assert str(caught[0].message) == (f"1 passages with queries in {more} are not in {passages} and were skipped")
    exact = write_sums(tmp_path / "Q2", IDS, SUMS, {"ar": [1] * N, "ru": [1] * N})
    quiet(passages, tmp_path / "exact", queries=exact, fusion=MEAN)
    assert stored(tmp_path / "out").tolist() == stored(tmp_path / "exact").tolist()


# --- fair sums ------------------------------------------------------------------------------------

UNEQUAL = (
    "a sum over unequal numbers of queries ({} to {} a passage in {}) favours the passages that "
    "have more; use the mean (beta), or force it with allow_unequal"
)
AR_FEW = {"ar": [1] + [2] * 39, "ru": [3] * N}
EVEN_IN_TOTAL = {"ar": [1, 2] * 20, "ru": [3, 2] * 20}
ZERO = {"ar": [2] * 39 + [0], "ru": [3] * 39 + [0]}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("counts", "languages", "expected"),
    [
        (AR_FEW, None, (4, 5, "ar ru")),
        (AR_FEW, ("ar",), (1, 2, "ar")),
        (AR_FEW, ("ru",), None),
        (EVEN_IN_TOTAL, None, None),  # the totals over the chosen languages count
        (EVEN_IN_TOTAL, ("ru",), (2, 3, "ru")),
        (ZERO, None, (0, 5, "ar ru")),  # 0 counts as a number
        (COUNTS, ("ru", "ar"), None),
    ],
)
def test_a_sum_over_unequal_counts_is_refused_unless_forced(passages, tmp_path, counts, languages, expected, normalize):
    queries = write_sums(tmp_path / "Q", IDS, SUMS, counts)
    fusion = Fusion("sum", alpha=0.01, languages=languages, normalize=normalize)
    options = {"queries": queries, "fusion": fusion}
    if expected is None:
        quiet(passages, tmp_path / "out", **options)
        return
    assert message(build, passages, tmp_path / "out", **options) == UNEQUAL.format(*expected)
    assert sorted(os.listdir(tmp_path)) == ["P", "Q"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XqgWarning)
        build(passages, tmp_path / "out", tolerances=FORCED, **options)
    assert faiss.read_index(str(tmp_path / "out" / "index")).ntotal == N


def test_a_mean_over_unequal_counts_is_taken(passages, tmp_path):
    queries = write_sums(tmp_path / "Q", IDS, SUMS, AR_FEW)
    assert quiet(passages, tmp_path / "out", queries=queries, fusion=MEAN)["without_queries"] == 0


@pytest.mark.parametrize("fusion", [MEAN, Fusion("mean", beta=0.3, normalize=True), Fusion("sum", alpha=0.01)])
def test_uncentred_mixing_is_refused_above_a_share_of_passages_without_queries(passages, tmp_path, fusion):
    unequal = Tolerances(allow_unequal=True)  # which does not let uneven coverage pass
    for without in (0, 2, 3):  # of 40: 5 % are taken, 7.5 % are not
        counts = {"ar": [1] * (N - without) + [0] * without, "ru": [1] * (N - without) + [0] * without}
        queries = write_sums(tmp_path / f"Q{without}", IDS, SUMS, counts)
        options = {"queries": queries, "tolerances": unequal}
        if without < 3:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", XqgWarning)
                build(passages, tmp_path / f"out{without}", fusion=fusion, **options)
            continue
        text, about = refusal(build, passages, tmp_path / "out", fusion=fusion, **options)
        assert text.startswith("mixed in uncentred, queries favour the passages that have some over those that ")
        assert "have none (ar ru 8%); centre" in text
        assert about == ("center", "shrink_queries", "align", "allow_uneven")
        assert not (tmp_path / "out").exists()
        with pytest.warns(XqgWarning, match=r"many passages have no queries \(ar ru 8%\): those that have some"):
            build(passages, tmp_path / "centred", fusion=replace(fusion, center=True), **options)
        with pytest.warns(XqgWarning, match="3 of 40 passages have no queries in ar ru"):
            build(passages, tmp_path / "forced", queries=queries, fusion=fusion, tolerances=FORCED)


def test_shrunk_queries_need_no_coverage_and_move_the_passages_without(tmp_path):
    passages = write_passages(tmp_path / "P", ["a", "b"], f32([[2, 2], [0, 6]]))
    queries = write_sums(tmp_path / "Q", ["a", "b"], {"ar": f32([[6, 3], [0, 0]])}, {"ar": [3, 0]})
    quiet(passages, tmp_path / "out", queries=queries, fusion=Fusion("mean", beta=0.5, shrink_queries=1.0))
    # μ = (2, 1): ½ (2, 2) + ½ ((6, 3) + (2, 1)) / 4 and ½ (0, 6) + ½ (2, 1)
    assert stored(tmp_path / "out").tolist() == [[2, 1.5], [1, 3.5]]


def test_a_passage_that_the_query_store_lacks_makes_a_sum_unequal(passages, tmp_path):
    queries = write_sums(tmp_path / "Q", IDS[1:], {"ar": SUMS["ar"][1:]}, {"ar": [2] * 39})
    text = message(build, passages, tmp_path / "out", queries=queries, fusion=Fusion("sum", alpha=0.5))
    assert text == UNEQUAL.format(0, 2, "ar")


# --- languages and encoders -----------------------------------------------------------------------


def test_a_language_without_queries_is_refused_by_name_and_left_out_of_all(passages, tmp_path):
    sums = {"ar": SUMS["ar"], "fi": np.zeros((N, D), np.float32), "ru": SUMS["ru"]}
    counts = {"ar": [2] * N, "fi": [0] * N, "ru": [3] * N}
    queries = write_sums(tmp_path / "Q", IDS, sums, counts)
    meta = quiet(passages, tmp_path / "out", queries=queries, fusion=MEAN)
    assert meta["fusion"]["languages"] == ["ar", "ru"]
    for language in ("fi", "ja"):
        text = message(
            build, passages, tmp_path / "new", queries=queries,
            fusion=Fusion("mean", beta=0.3, languages=("ar", language)),
        )  # fmt: skip
        assert text == f"{queries} has no queries in {language!r}; it has ar ru"


@pytest.mark.parametrize(
    ("key", "value"), [("fingerprint", "w2"), ("backend", "torch"), ("pooling", "mean"), ("normalize", True)]
)
def test_stores_of_two_encoders_are_not_mixed(passages, queries, tmp_path, key, value):
    edit_meta(queries, encoder={**describe(), key: value})
    text = message(build, passages, tmp_path / "out", queries=queries, fusion=MEAN)
    assert text == (
        f"{queries} was made with another encoder than {passages} "
        f"({key}: {value!r}, not {describe()[key]!r}); encode both with one"
    )


def test_stores_of_different_width_are_not_mixed(passages, tmp_path):
    queries = write_sums(tmp_path / "Q", IDS, {"ar": np.zeros((N, 5), np.float32)}, {"ar": [1] * N})
    text = message(build, passages, tmp_path / "out", queries=queries, fusion=MEAN)
    assert text == f"{queries} has 5 dimensions, {passages} has 8; encode both with one encoder"


def test_an_unknown_type_is_refused(passages, queries, tmp_path):
    known = "flat, fp16, sq8, hnsw, ivfpq, ivfsq8, lucene-flat, lucene-hnsw, lucene-hnsw-int8"
    expected = (f"index type 'ivf'; expected {known}", ("kind",))
    assert refusal(build, passages, tmp_path / "out", kind="ivf") == expected
    assert refusal(build, passages, tmp_path / "out", queries, MEAN, kind="ivf") == expected
    assert sorted(os.listdir(tmp_path)) == ["P", "Q"]


# --- what stands beside the index -----------------------------------------------------------------


def test_the_index_says_what_it_was_made_of(passages, queries, tmp_path):
    fusion = Fusion("mean", beta=0.25, normalize=True)
    meta = quiet(passages, tmp_path / "out", queries=queries, fusion=fusion, kind="fp16")
    assert meta == json.loads((tmp_path / "out" / "xqg.json").read_text("utf-8"))
    sums = json.loads((queries / "meta.json").read_text("utf-8"))
    for name in ("sha256", "xxh3"):
        files = {file: file_sums(tmp_path / "out" / file)[name] for file in ("index", "docid")}
        assert meta.pop(name) == files
    assert meta == {
        "format": 1, "type": "fp16", "n": N, "d": D, "encoder": describe(), "normalized": True,
        "passages": {
            "ids_sha256": VectorStore(passages).meta["ids_sha256"],
            "vectors_sha256": VectorStore(passages).meta["vectors_sha256"],
        },
        "fusion": {
            "form": "mean", "alpha": None, "beta": 0.25, "languages": ["ar", "ru"],
            "normalize": True, "center": False,
        },
        "queries": {key: sums[key] for key in ("sums_sha256", "counts_sha256")},
        "without_queries": 0,
    }  # fmt: skip
    baseline = quiet(passages, tmp_path / "base")
    assert (baseline["fusion"], baseline["queries"], baseline["normalized"]) == (None, None, False)


def test_the_centres_are_kept_beside_a_centred_index(tmp_path):
    passages = write_passages(tmp_path / "P", ["a", "b"], f32([[1, 3], [3, 5]]))
    sums = {"ar": f32([[2, 0], [2, 8]]), "fi": f32([[0, 0], [0, 0]]), "ru": f32([[0, 0], [1, 1]])}
    counts = {"ar": [1, 3], "fi": [0, 0], "ru": [0, 1]}
    queries = write_sums(tmp_path / "Q", ["a", "b"], sums, counts)
    # the means of all queries of the store, not of the chosen languages alone
    fusion = Fusion("mean", beta=0.5, languages=("ar",), center=True)
    meta = quiet(passages, tmp_path / "out", queries=queries, fusion=fusion)
    assert meta["centers"] == ["ar", "ru"]
    read, centers = read_centers(tmp_path / "out")
    assert read == meta
    assert centers.passages.tolist() == [2, 4]
    assert {l: mean.tolist() for l, mean in centers.queries.items()} == {"ar": [1, 2], "ru": [1, 1]}
    np.testing.assert_allclose(centers.pooled, [1, 9 / 5], rtol=1e-6)
    assert np.load(tmp_path / "out" / "centers.npy").shape == (4, 2)
    # a: ½ (-1, -1) + ½ ((2, 0) - (1, 2)); b: ½ (1, 1) + ½ ((2, 8) - 3 (1, 2)) / 3
    np.testing.assert_allclose(stored(tmp_path / "out"), [[0, -1.5], [0.5 - 1 / 6, 0.5 + 1 / 3]], rtol=1e-6)
    assert Index(tmp_path / "out").centers.of("ru").tolist() == [1, 1]


def test_an_index_that_is_not_centred_has_no_centres(passages, queries, tmp_path):
    quiet(passages, tmp_path / "out", queries=queries, fusion=MEAN)
    assert read_centers(tmp_path / "out")[1] is None
    assert not (tmp_path / "out" / "centers.npy").exists()


# --- reading it back ------------------------------------------------------------------------------


@pytest.fixture
def centred(passages, queries, tmp_path):
    fusion = Fusion("mean", beta=0.2, center=True)
    quiet(passages, tmp_path / "I", queries=queries, fusion=fusion)
    return tmp_path / "I"


def test_a_folder_that_is_no_index_is_refused_and_the_file_named(centred, tmp_path):
    text = message(Index, tmp_path / "gone")
    assert text == f"{tmp_path / 'gone'}: no such index (expected a folder with index, docid)"
    for name in ("docid", "index"):
        (centred / name).unlink()
        text = message(Index, centred)
        assert text == f"{centred / name}: missing; this is no Faiss index of Pyserini's"


def test_an_index_of_pyserini_opens_without_what_we_write(passages, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    faiss.write_index(faiss.IndexFlatIP(D), str(folder / "index"))
    (folder / "docid").write_text("")
    assert Index(folder).n == 0
    faiss.write_index(faiss_own("flat", E), str(folder / "index"))
    (folder / "docid").write_text("\n".join(IDS), "utf-8")  # no line end after the last
    opened = Index(folder)
    assert (opened.n, opened.d, opened.meta, opened.centers) == (N, D, None, None)


def test_ids_that_are_fewer_than_vectors_are_refused(centred):
    (centred / "docid").write_text("a\nb\n")
    text = message(Index, centred)
    assert text == f"{centred / 'docid'}: 2 ids for 40 vectors; build it again"


@pytest.mark.parametrize("keep", [0, 3, 60, 500])
def test_a_truncated_index_is_refused(centred, keep):
    os.truncate(centred / "index", keep)
    text = message(Index, centred)
    assert text.startswith(f"{centred / 'index'}: Faiss cannot read it (")
    assert text.endswith("); copy or build it again") and "faiss::" not in text and ".cpp" not in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda i: (i / "xqg.json").write_text("{"),
        lambda i: (i / "xqg.json").write_text("[]"),
        lambda i: (i / "xqg.json").write_bytes(b'"\xff"'),
        lambda i: (i / "centers.npy").unlink(),
        lambda i: (i / "centers.npy").write_bytes(b""),
        lambda i: np.save(i / "centers.npy", np.zeros((3, D), np.float32)),
        lambda i: np.save(i / "centers.npy", np.zeros((4, D - 1), np.float32)),
    ],
)
def test_a_damaged_description_or_centre_is_refused(centred, damage):
    damage(centred)
    text = message(Index, centred)
    assert text.startswith((f"{centred / 'xqg.json'}: ", f"{centred / 'centers.npy'}: "))
    assert text.endswith("; build the index again") or text.endswith(", or build the index again")


def test_files_of_two_indexes_do_not_go_together(centred, tmp_path):
    """An `index` of another width beside our `xqg.json` and centres."""
    faiss.write_index(faiss_own("flat", E[:, :5].copy()), str(centred / "index"))
    assert str(centred) in message(Index, centred)


# --- nothing half-written -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_a_vector_that_is_not_finite_stops_the_index_and_leaves_nothing(tmp_path, kind):
    vectors = E.copy()
    vectors[33, 2] = np.nan
    path = write_passages(tmp_path / "P", IDS, vectors)
    assert message(build, path, tmp_path / "out", kind=kind) == (
        f"{path / 'vectors.npy'}: row 33 (passage 'd33') holds NaN or infinity; encode it again"
    )
    assert os.listdir(tmp_path) == ["P"]


def test_an_index_replaces_a_folder_only_on_demand_and_never_its_own_stores(passages, queries, tmp_path):
    quiet(passages, tmp_path / "out")
    assert message(build, passages, tmp_path / "out") == (
        f"{tmp_path / 'out'}: the folder already holds something; give another name, or overwrite it"
    )
    options = {"queries": queries, "fusion": MEAN, "overwrite": True}
    for output, named in [(passages, passages), (queries, queries), (tmp_path, passages)]:
        text = message(build, passages, output, **options)
        assert text == f"{output}: will not be replaced, since it holds {named}"
    assert quiet(passages, tmp_path / "out", **options)["fusion"]["beta"] == 0.3


# --- memory ---------------------------------------------------------------------------------------

CHILD = """
import sys, threading, time
import numpy as np
from xqg_pyserini.stores import store
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.stores import VectorStore

store.BLOCK_BYTES = 2 << 20

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

def growth(job):
    job_done, peak, before = threading.Event(), [0], anonymous()
    def watch():
        while not job_done.is_set():
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.001)
    watcher = threading.Thread(target=watch)
    watcher.start()
    kept = job()
    peak[0] = max(peak[0], anonymous())
    job_done.set()
    watcher.join()
    return peak[0] - before

folder = sys.argv[1]
for kind in ("flat", "sq8"):
    write_index(folder + "/small", folder + "/warm", kind=kind, overwrite=True)
for kind in ("flat", "sq8"):
    print(growth(lambda: write_index(folder + "/big", folder + "/out", kind=kind, overwrite=True)))
print(growth(lambda: np.array(VectorStore(folder + "/big").vectors)))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_an_index_is_made_in_far_less_memory_than_its_matrix_takes(tmp_path):
    """60,000 x 256 numbers are 59 MiB; the control, which holds them, shows that it is seen."""
    big = np.ones((60_000, 256), np.float32)
    big[:, 0] = np.arange(60_000)
    write_passages(tmp_path / "big", range(60_000), big)
    write_passages(tmp_path / "small", range(3000), big[:3000])
    child = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(child, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    flat, sq8, control = map(float, done.stdout.split())
    assert control > 50
    assert flat < 12
    assert sq8 < 12
    assert faiss.read_index(str(tmp_path / "out" / "index")).ntotal == 60_000
