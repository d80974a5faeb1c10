"""An alignment is learnt from queries in one pass, from kept moments in none, and goes on where it was killed."""

import json
import os
import shutil
import warnings

import numpy as np
import pytest
from conftest import message, refusal, write_jsonl
from made_stores import (  # noqa: F401 - some are fixtures
    FAKE,
    GENERATED,
    FakeEncoder,
    corpus,
    edit_meta,
    encoded,
    engine,
    f32,
    fake,
    files,
    quietly,
    stopped,
    summed,
    write_passages,
)

import xqg_pyserini as xqg
from xqg_pyserini import Alignment, AlignSettings
from xqg_pyserini.fusion.alignment import align_moments
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.report.alignment import alignment_text
from xqg_pyserini.retrieve import held_out
from xqg_pyserini.retrieve.check import check_folder
from xqg_pyserini.stores.moments import Moments, Pair


def learnt(folder, name="A", queries="queries.jsonl", passages="passages", **options):
    given = [folder / each for each in ([queries] if isinstance(queries, str) else queries)]
    settings = AlignSettings(**{k: options.pop(k) for k in list(options) if k in AlignSettings.__dataclass_fields__})
    beside = None if passages is None else folder / passages
    return quietly(xqg.align, given, beside, folder / name, settings, **options)


def whole(folder) -> dict[str, bytes]:
    """All files of an alignment, those of its moments too."""
    return {**files_in(folder), **{f"moments/{name}": data for name, data in files_in(folder / "moments").items()}}


def files_in(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# the pairs of GENERATED, with the passages of CORPUS; the last number is -1 for a query and 1 for a passage
BY_HAND = [
    Pair("007", "ar", f32([1, 2, 3, 1]), f32([[1, 2, 3, -1], [10, 20, 30, -1], [1, 2, 3, -1]])),
    Pair("007", "ru", f32([1, 2, 3, 1]), f32([[-1, 0, 0.5, -1]])),
    Pair("قطة", "ar", f32([7, 8, 9, 1]), f32([[1, 1, 1, -1]])),
    Pair("قطة", "ru", f32([7, 8, 9, 1]), f32([[5, 5, 5, -1]])),
    Pair("e", "ru", f32([-1, -2, -3.5, 1]), f32([[1, 0, 0, -1], [0, 2, 0, -1]])),
    Pair("e", "fi", f32([-1, -2, -3.5, 1]), f32([[9, 9, 9, -1]])),
]


def by_hand(shrink, ridge):
    moments = Moments(["ar", "fi", "ru"], 4)
    moments.add(BY_HAND)
    return align_moments(moments.sums(), shrink, ridge)


def test_what_is_learnt_is_learnt_from_each_query_beside_its_passage(encoded, tmp_path):
    made = learnt(tmp_path, ridge=2.0, shrink=10)
    assert (made.languages, made.d, made.ridge) == (["ar", "fi", "ru"], 4, 2.0)
    assert made.meta["pairs"] == {"ar": 4, "fi": 1, "ru": 4}
    centers, matrices = by_hand(10, 2.0)
    assert np.array_equal(made.centers, centers.astype(np.float32))
    assert np.array_equal(made.matrices, matrices.astype(np.float32))
    assert made.centers[0].tolist() == [13 / 4, 25 / 4, 37 / 4, -1]
    assert made.encoder == Encoder(FAKE).describe("query")
    assert len(FakeEncoder.seen) == 9 and all(text.startswith("q: ") for text in FakeEncoder.seen)
    assert [file for file in check_folder(tmp_path / "A") if file.problem] == []


def test_warnings_are_those_of_accumulation(encoded, tmp_path):
    with pytest.warns(xqg.XqgWarning, match="^3 generated queries are blank and were left out$"):
        xqg.align(tmp_path / "queries.jsonl", encoded, tmp_path / "A")
    write_jsonl(tmp_path / "more.jsonl", [*GENERATED, {"docid": "zzz", "generated_queries": {"ar": ["1 1 1"]}}])
    settings = AlignSettings(skip_unknown=True)
    with pytest.warns(xqg.XqgWarning) as caught:
        xqg.align(tmp_path / "more.jsonl", encoded, tmp_path / "B", settings)
    assert f"1 records are for passages not in {encoded} and were skipped" in {str(w.message) for w in caught}
    assert message(learnt, tmp_path, "C", "more.jsonl").startswith(
        f"{tmp_path / 'more.jsonl'}, line 6: passage 'zzz' is not in {encoded}"
    )
    assert not (tmp_path / "C").exists() and not (tmp_path / ".C.partial").exists()


def test_moments_kept_by_accumulation_give_the_same_with_nothing_encoded(encoded, tmp_path):
    straight = learnt(tmp_path, ridge=2.0)
    store = summed(tmp_path, "S", moments=True)
    plain = summed(tmp_path, "T")
    for name in ("sum-ar.npy", "sum-ru.npy", "counts.npy"):
        assert (store.path / name).read_bytes() == (plain.path / name).read_bytes()
    FakeEncoder.seen = []
    kept = learnt(tmp_path, "B", ["S"], passages=None, ridge=2.0)
    assert FakeEncoder.seen == []
    assert whole(kept.path) == whole(straight.path)
    assert [file for file in check_folder(tmp_path / "S") if file.problem] == []


def test_an_alignment_makes_another_with_another_ridge(encoded, tmp_path):
    first = learnt(tmp_path, ridge=2.0)
    again = learnt(tmp_path, "B", ["A"], passages=None, ridge=9.0, shrink=1)
    expected = learnt(tmp_path, "C", ridge=9.0, shrink=1)
    assert whole(again.path) == whole(expected.path)
    assert not np.array_equal(first.matrices, again.matrices)


def test_parts_of_the_queries_together_are_the_whole(encoded, tmp_path):
    expected = learnt(tmp_path, ridge=2.0)
    write_jsonl(tmp_path / "one.jsonl", GENERATED[:2])
    write_jsonl(tmp_path / "two.jsonl", GENERATED[2:4])
    write_jsonl(tmp_path / "three.jsonl", GENERATED[4:])
    learnt(tmp_path, "one", "one.jsonl")
    quietly(
        xqg.accumulate_queries, tmp_path / "two.jsonl", encoded, tmp_path / "two", xqg.AccumulateSettings(moments=True)
    )
    for i, order in enumerate((["one", "two", "three.jsonl"], ["three.jsonl", "two", "one"])):
        merged = learnt(tmp_path, f"M{i}", order, ridge=2.0)
        assert merged.meta["pairs"] == expected.meta["pairs"]
        assert merged.centers == pytest.approx(expected.centers, rel=1e-6)
        assert merged.matrices == pytest.approx(expected.matrices, rel=1e-5, abs=1e-6)
        assert {s["name"] for s in merged.meta["sources"]} == {"one.jsonl", "two.jsonl", "three.jsonl"}
        for name in ("sample-ids.txt", "sample-pairs.npy", "sample.npy"):
            assert (merged.path / "moments" / name).read_bytes() == (expected.path / "moments" / name).read_bytes()


def test_parts_in_two_precisions_are_learnt_from_and_said(encoded, tmp_path):
    for name, records, precision in (("one", GENERATED[:2], "bf16"), ("two", GENERATED[2:], "fp32")):
        write_jsonl(tmp_path / f"{name}.jsonl", records)
        quietly(
            xqg.align, tmp_path / f"{name}.jsonl", encoded, tmp_path / name, encoder=Encoder(FAKE, precision=precision)
        )
    with pytest.warns(xqg.XqgWarning, match="^queries encoded in bf16 and in fp32 are learnt from together$"):
        xqg.align([tmp_path / "one", tmp_path / "two"], None, tmp_path / "both", AlignSettings(ridge=2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xqg.align([tmp_path / "one"], None, tmp_path / "alone", AlignSettings(ridge=2.0))


def test_centring_alone_has_no_matrices(encoded, tmp_path):
    made = learnt(tmp_path, center_only=True)
    assert (made.ridge, made.matrices, made.meta["chosen"]) == (None, None, "centring alone, as asked for")
    assert not (tmp_path / "A" / "matrices.npy").exists()
    assert made.apply(f32([[1, 2, 3, 4]]), ["ru"]).tolist() == [(f32([1, 2, 3, 4]) - made.centers[2]).tolist()]
    assert refusal(AlignSettings, center_only=True, ridge=2.0) == (
        "a ridge serves what is turned, and centring alone turns nothing",
        ("ridge", "center_only"),
    )


def test_languages_that_are_chosen_are_encoded_alone(encoded, tmp_path):
    made = learnt(tmp_path, languages=("fi", "rus"), ridge=2.0)
    assert (made.languages, len(FakeEncoder.seen)) == (["fi", "ru"], 5)
    learnt(tmp_path, "all")
    FakeEncoder.seen = []
    of_kept = learnt(tmp_path, "B", ["all"], passages=None, languages=("fi", "rus"), ridge=2.0)
    assert np.array_equal(of_kept.matrices, made.matrices)
    assert message(learnt, tmp_path, "C", languages=("ja",)) == f"{tmp_path / 'queries.jsonl'} has no queries in 'ja'"
    assert message(learnt, tmp_path, "C", ["all"], languages=("ja",)) == (
        "no queries in 'ja'; there are ar fi ru"
    )  # fmt: skip


def test_without_an_output_it_goes_with_the_object(encoded, tmp_path):
    before = set(os.listdir(tmp_path))
    made = quietly(xqg.align, tmp_path / "queries.jsonl", encoded)
    assert set(os.listdir(tmp_path)) == before
    made.save(tmp_path / "kept")
    path = made.path
    del made
    assert not path.exists()
    assert Alignment(tmp_path / "kept").languages == ["ar", "fi", "ru"]
    assert "already holds something" in message(Alignment(tmp_path / "kept").save, tmp_path / "passages")


# --- killed ---------------------------------------------------------------------------------------


def test_learning_that_is_killed_at_any_query_ends_in_the_same_bytes(encoded, tmp_path):
    expected = whole(learnt(tmp_path, "whole").path)
    summed(tmp_path, "S whole", moments=True)
    kept = whole(tmp_path / "S whole")
    sizes = [5, 3, 1]  # queries of each chunk of two records
    for at in range(9):
        done = sum(size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= at)
        stopped(learnt, tmp_path, after=at)
        assert whole(learnt(tmp_path).path) == expected
        assert len(FakeEncoder.seen) == 9 - done
        stopped(summed, tmp_path, "S", moments=True, after=at)
        assert whole(summed(tmp_path, "S", moments=True).path) == kept
        shutil.rmtree(tmp_path / "A")
        shutil.rmtree(tmp_path / "S")
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]


def test_a_checkpoint_half_written_is_not_counted_twice(encoded, tmp_path, monkeypatch):
    """The moments are put aside, and the process dies before that is noted: it goes on from the one before."""
    expected = whole(learnt(tmp_path, "whole").path)
    save, left = Moments.save, [2]

    def dies(moments, folder):
        said = save(moments, folder)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return said

    with monkeypatch.context() as patched:
        patched.setattr(Moments, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            learnt(tmp_path)
    FakeEncoder.seen = []
    assert whole(learnt(tmp_path).path) == expected
    assert len(FakeEncoder.seen) == 4


def test_other_weights_begin_afresh(encoded, tmp_path):
    stopped(learnt, tmp_path, after=6)
    FakeEncoder.weights = "w2"
    assert "is not the one that" in message(learnt, tmp_path)


# --- what is refused ------------------------------------------------------------------------------


def test_what_does_not_fit_together_is_refused(encoded, tmp_path):
    summed(tmp_path, "bare")
    learnt(tmp_path)
    assert refusal(learnt, tmp_path, "B", ["bare"]) == (
        f"{tmp_path / 'bare'} keeps no moments; accumulate again with moments",
        ("moments",),
    )
    queries = tmp_path / "queries.jsonl"
    assert message(learnt, tmp_path, "B", ["A", "queries.jsonl"]) == (
        f"{tmp_path / 'A'} and {queries} hold the same queries (queries.jsonl); give one of them"
    )
    assert "hold the same queries" in message(learnt, tmp_path, "B", ["A", "A"])
    assert refusal(learnt, tmp_path, "B", passages=None) == (
        f"{queries}: queries are encoded beside their passages; give the passage store",
        ("passages",),
    )
    assert message(learnt, tmp_path, "B", ["queries.jsonl", "corpus.jsonl"]) == (
        f"{queries} and {tmp_path / 'corpus.jsonl'}: generated queries are one file, directory or pattern; align each, "
        "and then both alignments together"
    )
    assert message(learnt, tmp_path, "B", []) == "no queries to learn from"
    shutil.copytree(tmp_path / "A", tmp_path / "other")
    file = tmp_path / "other" / "alignment.json"
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, "encoder": {**meta["encoder"], "fingerprint": "w9"}, "sources": []}))
    assert message(learnt, tmp_path, "B", ["A", "other"]) == (
        f"{tmp_path / 'other'} was made with another encoder than {encoded} (fingerprint: 'w9', not 'w1'); "
        "encode both with one"
    )
    assert not (tmp_path / "B").exists()


@pytest.mark.parametrize(
    "name",
    ["centers.npy", "matrices.npy", "moments/differences.npy", "moments/sums.npy", "moments/sample-ids.txt",
     "moments/sample.npy", "moments/sample-pairs.npy"],
)  # fmt: skip
def test_a_damaged_file_is_named(name, encoded, tmp_path):
    path = learnt(tmp_path, ridge=2.0).path
    data = bytearray((path / name).read_bytes())
    data[-1] ^= 1
    (path / name).write_bytes(data)
    call = (learnt, tmp_path, "B", ["A"]) if "/" in name else (Alignment, path)
    assert message(*call).startswith(f"{path / name}: changed since it was written (its checksum differs); ")
    problems = {file.path: file.problem for file in check_folder(path) if file.problem}
    assert set(problems) == {str(path / name)}
    (path / name).unlink()
    assert message(*call).startswith(f"{path / name}: missing; ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 2}, "{file}: format 2, this version reads 1"),
        ({"languages": ["ar", "ara", "ru"]}, "{file}: language 'ara' is given twice: 'ar' and 'ara' are one"),
        ({"d": "4"}, "{file}: damaged (d: Expected `int`, got `str`)"),
        ({"ridge": ...}, "{file}: damaged (Object missing required field `ridge`)"),
        ({"languages": ["ar"]}, "{folder}/centers.npy: holds (4, 4) of float32, or NaN or infinity; expected (2, 4)"),
    ],
)
def test_a_description_that_does_not_fit_is_named(change, expected, encoded, tmp_path):
    path = learnt(tmp_path).path
    file = path / "alignment.json"
    meta = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({k: v for k, v in meta.items() if v is not ...}))
    assert message(Alignment, path).startswith(expected.format(file=file, folder=path))
    assert message(Alignment, tmp_path / "passages") == (
        f"{tmp_path / 'passages'}: no alignment, or not a whole one (expected a folder with alignment.json)"
    )


# --- the estimate ---------------------------------------------------------------------------------


@pytest.fixture
def lying_apart(tmp_path, fake):
    """200 passages; queries of two languages lie beside theirs, shifted, and far off in one direction."""
    dice = np.random.default_rng(5)
    passages = dice.normal(size=(200, 4)).round(3)
    passages[:, 3] = 1
    write_passages(tmp_path / "passages", [f"p{i}" for i in range(200)], f32(passages))

    def query(vector, shift):
        noise = dice.normal(size=3) * [3, 0.15, 0.15]
        return " ".join(f"{x:.3f}" for x in vector[:3] + noise + shift)

    records = [
        {
            "docid": f"p{i}",
            "generated_queries": {l: [query(p, s) for _ in range(2)] for l, s in (("ar", 4), ("ru", -4))},
        }
        for i, p in enumerate(passages)
    ]
    write_jsonl(tmp_path / "queries.jsonl", records)
    return tmp_path


def test_the_estimate_finds_what_pays(lying_apart):
    made = learnt(lying_apart)
    estimate = made.meta["estimate"]
    before, centred = estimate["before"]["mean"], estimate["centred"]["mean"]
    means = {ridge: scores["mean"] for ridge, scores in estimate["aligned"].items()}
    assert list(means) == ["1", "2", "5", "10", "20"]
    assert before < centred < means["5"] < means["1"]  # which is the best, and what the generator's own queries like
    assert made.ridge == 5.0
    assert made.meta["chosen"] == "default: held-out passages find nothing clearly better"
    best = max(centred, means["5"], means["10"], means["20"])
    for ridge, scores in estimate["aligned"].items():
        assert scores["beside_best"]["mean"] == pytest.approx(means[ridge] - best)
    gain = estimate["centred"]["gain"]
    assert gain["mean"] == pytest.approx(centred - before)
    assert gain["interval"][0] < gain["mean"] < gain["interval"][1]
    assert sum(estimate["passages"]) == 200
    assert estimate["queries"] == {"ar": 200, "ru": 200}  # the first of each passage


def test_the_estimate_by_hand(lying_apart):
    """Learnt from one fold's pairs, the other's first queries against the other's passages alone."""
    from xqg_pyserini.stores.ids import id_hash

    estimate = learnt(lying_apart, ridge=5.0, shrink=7).meta["estimate"]
    passages = np.load(lying_apart / "passages" / "vectors.npy")
    fold = np.array([id_hash(f"p{i}") & 1 for i in range(200)])
    records = [json.loads(line) for line in (lying_apart / "queries.jsonl").read_text().splitlines()]

    def vector(text):
        return np.array([*map(float, text.split()), -1.0], dtype=np.float32)

    hits = {"before": 0, "centred": 0, "aligned": 0}
    for tried in (0, 1):
        moments = Moments(["ar", "ru"], 4)
        moments.add(
            Pair(f"p{i}", l, passages[i], np.stack([*map(vector, texts)]))
            for i, record in enumerate(records) if fold[i] != tried
            for l, texts in record["generated_queries"].items()
        )  # fmt: skip
        centers, matrices = align_moments(moments.sums(), 7, 5.0)
        among = np.flatnonzero(fold == tried)
        for row in among:
            q = vector(records[row]["generated_queries"]["ar"][0])
            for name, turned in (
                ("before", q),
                ("centred", q - centers[0]),
                ("aligned", matrices[0] @ (q - centers[0])),
            ):
                hits[name] += among[np.argmax(passages[among] @ turned)] == row
    assert estimate["before"]["languages"]["ar"] == hits["before"] / 200
    assert estimate["centred"]["languages"]["ar"] == hits["centred"] / 200
    assert estimate["aligned"]["5"]["languages"]["ar"] == hits["aligned"] / 200


def test_a_sample_of_the_smallest_hashes_whatever_the_order(lying_apart):
    from xqg_pyserini.stores.ids import id_hash

    first = learnt(lying_apart, sample=80, ridge=5.0)
    smallest = sorted((f"p{i}" for i in range(200)), key=id_hash)[:80]
    assert (first.path / "moments" / "sample-ids.txt").read_text().split() == smallest
    lines = (lying_apart / "queries.jsonl").read_text().splitlines(keepends=True)
    (lying_apart / "back.jsonl").write_text("".join(reversed(lines)))
    back = learnt(lying_apart, "B", "back.jsonl", sample=80, ridge=5.0)
    for name in ("sample-ids.txt", "sample-pairs.npy", "sample.npy"):
        assert (back.path / "moments" / name).read_bytes() == (first.path / "moments" / name).read_bytes()
    assert back.meta["estimate"]["queries"] == {"ar": 80, "ru": 80}


def test_the_ridge_is_the_smallest_from_five_that_is_not_clearly_worse(lying_apart, monkeypatch):
    clearly = "by the estimate: less finds clearly fewer held-out passages"
    for beside_best, *expected in (  # mean and standard error; below 5 nothing is looked at, however good
        ({"1": (9, 1), "5": (-2.9, 1), "10": (-1, 0.1), "20": (-0.5, 0.1)}, 5.0, held_out.DEFAULT),
        ({"1": (9, 1), "5": (-3.1, 1), "10": (-3.1, 1), "20": (-0.2, 0.1)}, 20.0, clearly),
        ({"1": (9, 1), "5": (-3.1, 1), "10": (-2.9, 1), "20": (0, 0)}, 10.0, clearly),
        ({"1": (9, 1), "5": (-3.1, 1), "10": (-3.1, 1), "20": (-3.1, 1)}, None,
         "each ridge finds clearly fewer held-out passages"),
    ):  # fmt: skip
        found = {
            "aligned": {
                r: {"beside_best": dict(zip(("mean", "error"), of, strict=True))} for r, of in beside_best.items()
            }
        }
        assert [*held_out.chosen_ridge(found)] == expected
    monkeypatch.setattr(held_out, "_difference", lambda *given: (-1.0, 0.3))
    made = learnt(lying_apart)
    assert (made.ridge, made.matrices) == (None, None)
    report = alignment_text(made)
    assert "centring alone (each ridge finds" in report
    assert "the ridge is the first of 5 10 20 that is not" in report


def test_differences_by_hand():
    """Two languages of 2 and 4 queries; passage 5 has one in each, so that its two are no two votes."""
    hits = {"ar": np.array([True, True]), "ru": np.array([True, False, True, True])}
    less = {"ar": np.array([False, True]), "ru": np.array([False, False, True, False])}
    mean, error = held_out._difference(hits, less, {"ar": np.array([5, 2]), "ru": np.array([5, 0, 3, 7])})
    assert mean == (0.5 + 0.5) / 2
    # d - mean(d): ar ±1/2 of 2, ru ±1/2 of 4; by passage 5: 1/4 + 1/8, 2: -1/4, 0 and 3: -1/8, 7: 1/8
    assert error == pytest.approx(np.sqrt((3 / 8) ** 2 + 1 / 16 + 3 / 64) / 2)
    assert held_out._difference(hits, hits, {"ar": np.array([5, 2]), "ru": np.array([5, 0, 3, 7])}) == (0, 0)


def test_too_few_passages_for_an_estimate(encoded, tmp_path):
    made = learnt(tmp_path)
    assert (made.ridge, made.meta["estimate"]) == (5.0, None)
    assert made.meta["chosen"] == "default: too few sampled passages for an estimate (fewer than 30 in a fold)"
    assert alignment_text(made).endswith("No estimate: fewer than 30 sampled passages in a fold.")
