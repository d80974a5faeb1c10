"""Aligned questions search any index: plain, centred, language-aware, the stores, and Pyserini's own."""

import faiss
import numpy as np
import pytest
from conftest import message, refusal
from made_search import (  # noqa: F401 - some are fixtures
    IDS,
    LANGUAGES,
    QUESTIONS,
    VECTORS,
    D,
    E,
    N,
    assert_same_run,
    brute,
    fused,
    passages,
    queries,
    told,
)
from made_stores import describe, engine, f32, fake, quietly  # noqa: F401 - some are fixtures

from xqg_pyserini import Alignment, Encoder, EncoderSettings, Fusion, Index
from xqg_pyserini.files import file_sha256, write_json
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.stores.moments import Moments

# by hand, exact in float32: a centre and a matrix for ar and ru, and of all together
CENTERS = f32([[1, 0, -1, 0.5], [0, 2, 0, -1], [0.5, 1, -0.5, 0]])
MATRICES = f32([np.diag([1, 2, 0.5, 1]), np.diag([2, 1, 1, 0.25]), np.diag([0.5, 0.5, 2, 1])])
MATRICES[0, 0, 1] = MATRICES[0, 1, 0] = 0.5


def write_alignment(path, languages=("ar", "ru"), matrices=MATRICES, centers=CENTERS, **changes) -> Alignment:
    """Make an alignment by hand, file by file."""
    path.mkdir()
    np.save(path / "centers.npy", centers)
    names = ["centers.npy"]
    if matrices is not None:
        np.save(path / "matrices.npy", matrices)
        names.append("matrices.npy")
    moments = Moments(languages, centers.shape[1]).save(path / "moments")
    meta = {
        "format": 1, "kind": "alignment", "d": centers.shape[1], "encoder": describe(), "languages": list(languages),
        "pairs": dict.fromkeys(languages, 9), "shrink": 300.0, "ridge": None if matrices is None else 5.0,
        "moments": moments,
        "sha256": {name: file_sha256(path / name) for name in names},
    }  # fmt: skip
    write_json(path / "alignment.json", meta | changes)
    return Alignment(path)


@pytest.fixture
def alignment(tmp_path):
    return write_alignment(tmp_path / "A")


def put_right(matrices=MATRICES) -> np.ndarray:
    """The questions' vectors as they should search, in float64."""
    rows = [{"ar": 0, "ru": 1}.get(language, 2) for language in LANGUAGES]
    centered = [v.astype(float) - CENTERS[row] for v, row in zip(VECTORS, rows, strict=True)]
    return np.array([c if matrices is None else matrices[row] @ c for c, row in zip(centered, rows, strict=True)])


SAID = (
    "2 questions are in a language that {path} was not learnt for (ja (1), te (1)): "
    "they are put right by what all of its languages have in common"
)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("matrices", [MATRICES, None], ids=["aligned", "centred"])
def test_a_plain_index_is_searched_by_what_is_put_right(kind, matrices, passages, tmp_path):
    alignment = write_alignment(tmp_path / "A", matrices=matrices)
    index = write_index(passages, tmp_path / "I", kind)
    run = quietly(index.search, QUESTIONS, N, vectors=VECTORS, align=tmp_path / "A")
    assert_same_run(run, list(put_right(matrices) @ E.astype(float).T), N)
    assert told(index.search, QUESTIONS, vectors=VECTORS, align=alignment) == [SAID.format(path=alignment.path)]


def test_an_index_of_pyserini_takes_the_alignments_encoder(alignment, fake, tmp_path):
    (tmp_path / "I").mkdir()
    index = faiss.IndexFlatIP(D)
    index.add(E)
    faiss.write_index(index, str(tmp_path / "I" / "index"))
    (tmp_path / "I" / "docid").write_text("".join(f"{i}\n" for i in IDS))
    stock = Index(tmp_path / "I")
    run = quietly(stock.search, QUESTIONS, N, vectors=VECTORS, align=alignment)
    assert_same_run(run, list(put_right() @ E.astype(float).T), N)
    # with texts: the encoder that the alignment names, and no other
    asked = [q._replace(text="1 0 2") for q in QUESTIONS[:2]]
    by_text = quietly(stock.search, asked, 5, align=alignment)
    vectors = f32([[1, 0, 2, -1]] * 2)
    assert by_text == quietly(stock.search, asked, 5, vectors=vectors, align=alignment)
    other = EncoderSettings("fake", "fake", "none", query_prefix="query: ", passage_prefix="p: ")
    assert message(stock.search, asked, 5, align=alignment, encoder=Encoder(other)) == (
        f"encoder fake: query_prefix is 'query: ', but {alignment.path} was made with 'q: '; use one encoder for both"
    )
    fake_again = Encoder(EncoderSettings("fake", "fake", "none", query_prefix="q: ", passage_prefix="p: "))
    type(fake_again._engine("query")).weights = "w2"
    assert message(stock.search, asked, 5, align=alignment, encoder=fake_again) == (
        f"encoder fake (w2) is not the one that {alignment.path} was made with (fake, w1); use that, or encode again"
    )


CENTRED = Fusion("mean", beta=0.25, center=True)


@pytest.mark.parametrize("own", [False, True], ids=["all", "own"])
@pytest.mark.parametrize("fusion", [Fusion("mean", beta=0.25), CENTRED], ids=["mean", "centred"])
def test_fused_passages_are_searched_aligned_and_never_centred_twice(own, fusion, fused, alignment, tmp_path):
    stores = fused(fusion)
    stores = stores.own_language() if own else stores
    zeros = fused(fusion)  # the same passages; a question of zeros less nothing scores each at 0
    index = quietly(stores.write_index, tmp_path / "I")
    by_stores = quietly(stores.search, QUESTIONS, N, vectors=VECTORS, align=alignment)
    by_index = quietly(index.search, QUESTIONS, N, vectors=VECTORS, align=alignment)
    ready = put_right()
    for question, vector in zip(QUESTIONS, ready, strict=True):
        languages = stores.mix_for(question.language)
        vectors = np.concatenate([block for _, block in zeros.blocks(languages)]).astype(float)
        expected = dict(zip(IDS, (vectors @ vector).tolist(), strict=True))
        for run in (by_stores, by_index):
            assert run[question.id] == pytest.approx(expected, abs=1e-4)


def test_a_centred_index_counts_the_languages_of_the_alignment_alone(fused, alignment, tmp_path):
    index = quietly(fused(CENTRED).own_language().write_index, tmp_path / "I")
    said = told(index.search, QUESTIONS, vectors=VECTORS, align=alignment)
    assert SAID.format(path=alignment.path) in said
    assert not [line for line in said if "they are centred" in line]


def test_a_question_without_language_is_refused(passages, alignment, tmp_path):
    index = write_index(passages, tmp_path / "I")
    questions = [q._replace(language=None) for q in QUESTIONS]
    assert refusal(index.search, questions, vectors=VECTORS, align=alignment) == (
        "question '00' has no language, and an alignment goes by the language: "
        "give one for all, or questions with lang",
        ("language",),
    )


def test_another_codes_language_is_the_same(passages, alignment, tmp_path):
    index = write_index(passages, tmp_path / "I")
    questions = [q._replace(language={"ar": "ara", "ru": "rus"}.get(q.language, q.language)) for q in QUESTIONS]
    expected = quietly(index.search, QUESTIONS, N, vectors=VECTORS, align=alignment)
    assert quietly(index.search, questions, N, vectors=VECTORS, align=alignment) == expected


def test_the_given_vectors_stay_as_they_are(passages, alignment, tmp_path):
    vectors = VECTORS.copy()
    quietly(write_index(passages, tmp_path / "I").search, QUESTIONS, vectors=vectors, align=alignment)
    assert np.array_equal(vectors, VECTORS)


def test_an_alignment_of_another_encoder_is_refused(passages, queries, fused, tmp_path):
    index = write_index(passages, tmp_path / "I")
    other = write_alignment(tmp_path / "B", encoder={**describe(), "fingerprint": "w2"})
    for searched, where in ((index, index.path), (fused(CENTRED), passages)):
        assert message(searched.search, QUESTIONS, vectors=VECTORS, align=other) == (
            f"{other.path} was made with another encoder than {where} (fingerprint: 'w2', not 'w1'); "
            "encode both with one"
        )
    wide = write_alignment(tmp_path / "W", centers=np.zeros((3, 5), np.float32), matrices=None)
    assert message(index.search, QUESTIONS, vectors=VECTORS, align=wide) == (
        f"{wide.path} is for 5 dimensions, {index.path} has 4; an alignment serves the encoder that it was learnt with"
    )
