"""Indexes of which each language has its own give the run of searching the stores so."""

import json
from dataclasses import replace

import pytest
from conftest import message, refusal
from made_search import FUSIONS, QUESTIONS, VECTORS, D, N, fused, in_order, passages, queries, search_stores, told  # noqa: F401 - some are fixtures
from made_stores import quietly

from xqg_pyserini.bridge import run_module
from xqg_pyserini.retrieve.directories import FaissDirectory
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.search import Index

# --- an index for each language -------------------------------------------------------------------


def languages_index(fused, tmp_path, fusion, **options) -> Index:
    return quietly(fused(fusion).own_language().write_index, tmp_path / "L", **options)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)
def test_a_language_aware_index_gives_the_run_of_language_aware_search(fused, tmp_path, fusion, normalize):
    fusion = replace(fusion, normalize=normalize)
    index = languages_index(fused, tmp_path, fusion)
    chosen = fusion.languages or ("ar", "ru", "te")
    assert index.meta == json.loads((tmp_path / "L" / "xqg.json").read_text("utf-8"))
    assert index.meta["languages"] == list(chosen)
    assert (index.path, index.n, index.d) == (tmp_path / "L", N, D)
    names = {*chosen, "all-languages", "xqg.json"}
    assert {path.name for path in (tmp_path / "L").iterdir()} == names
    by_index = quietly(index.search, QUESTIONS, N, vectors=VECTORS)
    by_stores = quietly(search_stores, fused(fusion), QUESTIONS, N, vectors=VECTORS)
    assert list(by_index) == list(by_stores)
    for qid, hits in by_index.items():
        assert hits == pytest.approx(by_stores[qid], abs=2e-5)
        assert list(hits.values()) == sorted(hits.values(), reverse=True)
    folders = [tmp_path / "L" / name for name in (*chosen, "all-languages")]
    for given in (tmp_path / "L", str(tmp_path / "L"), [tmp_path / "L"], folders, folders[::-1]):
        again = quietly(Index(given).search, QUESTIONS, N, vectors=VECTORS)
        assert in_order(again) == in_order(by_index)


def test_questions_in_a_language_without_an_index_go_to_that_of_all_or_are_refused(fused, tmp_path):
    index = languages_index(fused, tmp_path, FUSIONS["mean"])
    said = told(index.search, QUESTIONS, vectors=VECTORS)
    assert said == [
        "1 questions are in a language without generated queries to use (ja (1)): "
        "they are searched in the index of all languages"
    ]
    three = Index([tmp_path / "L" / l for l in ("ar", "ru", "te")])
    assert message(three.search, QUESTIONS, vectors=VECTORS) == (
        "no index for questions in 'ja': there are ar ru te; give that of all languages as well (all-languages)"
    )
    known = [i for i, question in enumerate(QUESTIONS) if question.language != "ja"]
    run = three.search([QUESTIONS[i] for i in known], vectors=VECTORS[known])
    assert len(run) == len(known)
    nameless = [QUESTIONS[0]._replace(language=None)]
    assert refusal(index.search, nameless, vectors=VECTORS[:1]) == (
        "question '00' has no language, and each language has an index of its own: "
        "give one for all, or questions with lang",
        ("language",),
    )


def test_indexes_that_are_not_one_a_language_are_refused(fused, passages, tmp_path):
    languages_index(fused, tmp_path, FUSIONS["mean"])
    write_index(passages, tmp_path / "base")
    ar = tmp_path / "L" / "ar"
    assert message(Index, [ar, ar]) == (f"{ar} and {ar} are both for ar; give one index a language")
    assert message(Index, [ar, tmp_path / "base"]) == (
        f"{tmp_path / 'base'}: does not say the languages mixed into it; several indexes are those "
        "of one language-aware index"
    )


def test_a_language_aware_folder_is_no_single_index_and_stands_alone(fused, tmp_path):
    parent = tmp_path / "L"
    languages_index(fused, tmp_path, FUSIONS["mean"])
    folders = " ".join(str(parent / name) for name in ("ar", "ru", "te", "all-languages"))
    expected = f"{parent} is a folder of one index a language: give one of {folders}"
    assert message(FaissDirectory, parent) == expected
    pytest.importorskip("pyserini")
    assert message(run_module, "search.faiss", ["--index", str(parent)]) == expected
    assert message(Index, [parent, parent / "ar"]) == (
        f"{parent}: give the language-aware folder alone, or some of the folders in it"
    )
    meta = json.loads((parent / "xqg.json").read_text("utf-8"))
    (parent / "xqg.json").write_text(json.dumps({**meta, "languages": []}), "utf-8")
    assert message(Index, parent) == (
        f"{parent / 'xqg.json'}: damaged (languages: Expected `array` of length >= 1); build the index again"
    )


def test_what_it_takes_is_said_before_anything_is_written(fused, tmp_path):
    said = []

    def announce(text):
        said.append((text, (tmp_path / "L").exists()))

    languages_index(fused, tmp_path, FUSIONS["mean"], announce=announce)
    ((text, written),) = said
    lines = text.splitlines()
    assert not written and len(lines) == 11
    kinds = [line.split(":")[0].strip() for line in lines[1:10]]
    assert kinds[:6] == ["* flat", "fp16", "sq8", "hnsw", "ivfpq", "ivfsq8"]
    assert kinds[6:] == ["lucene-flat", "lucene-hnsw", "lucene-hnsw-int8"]
    assert "xqg search --language-aware reads the stores" in lines[-1]
    text, about = refusal(languages_index, fused, tmp_path, FUSIONS["mean"])
    assert text.endswith("give another name, or overwrite it") and about == ("overwrite",)


def test_no_index_at_all_and_indexes_of_two_encoders_are_refused(fused, tmp_path):
    assert refusal(Index, []) == ("no index to search", ("index",))
    languages_index(fused, tmp_path, FUSIONS["mean"])
    file = tmp_path / "L" / "ru" / "xqg.json"
    meta = json.loads(file.read_text("utf-8"))
    meta["encoder"]["fingerprint"] = "w2"
    file.write_text(json.dumps(meta), "utf-8")
    for given in (tmp_path / "L", [tmp_path / "L" / "ar", tmp_path / "L" / "ru"]):
        questions = [q for q in QUESTIONS if q.language in ("ar", "ru")]
        text = message(Index(given).search, questions, vectors=VECTORS[: len(questions)])
        assert text == (f"{tmp_path / 'L' / 'ru'} was made with another encoder than {tmp_path / 'L' / 'ar'}; use one")
