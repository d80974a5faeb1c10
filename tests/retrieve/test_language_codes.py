"""A language is one however its code is written: ISO 639-1 in the stores, 639-3 in the questions."""

import json
import shutil

import pytest
from conftest import message, write_jsonl
from made_search import COUNTS, FUSIONS, IDS, QUESTIONS, SUMS, VECTORS, D, fused, in_order, passages, queries, told  # noqa: F401 - some are fixtures
from made_stores import corpus, encoded, engine, f32, fake, quietly, write_passages, write_sums  # noqa: F401 - some are fixtures

from xqg_pyserini.fusion.formula import Centers, Fusion
from xqg_pyserini.fusion.fused import Tolerances
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.grid import grid
from xqg_pyserini.retrieve.layout import LanguageIndexes
from xqg_pyserini.retrieve.sweep_pass import Sweep
from xqg_pyserini.stores import QueryStore

LONG = {"ar": "ara", "ru": "rus", "te": "tel", "ja": "jpn"}
ASKED = [question._replace(language=LONG[question.language]) for question in QUESTIONS]


@pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)
def test_questions_find_their_languages_queries(fused, passages, queries, tmp_path, fusion):
    own = fused(fusion).own_language()
    expected = quietly(own.search, QUESTIONS, vectors=VECTORS)
    assert in_order(quietly(own.search, ASKED, vectors=VECTORS)) == in_order(expected)
    said = told(own.search, ASKED, vectors=VECTORS)
    assert all("jpn (1)" in warning for warning in said), "ja has no queries, and is named as it was typed"
    index = quietly(own.write_index, tmp_path / "L")
    assert set(quietly(index.search, ASKED, vectors=VECTORS)["01"]) == set(expected["01"])
    points = [point for point in grid([fusion], ["own", "others"], [None], ()) if fusion.languages is None]
    if points:
        one, other = (
            quietly(
                Sweep(passages, queries, points, asked, Tolerances(allow_unequal=True, allow_uneven=True)).search,
                VECTORS,
            )
            for asked in (QUESTIONS, ASKED)
        )
        for point in points:
            assert in_order(one[point.name]) == in_order(other[point.name])


def test_languages_are_chosen_by_any_of_their_codes_and_written_as_the_store_has_them(passages, queries, tmp_path):
    beta = Fusion("mean", beta=0.25, languages=("rus", "ar"))
    stores = Fused(passages, queries, beta, Tolerances(allow_unequal=True, allow_uneven=True))
    assert stores.languages == ("ru", "ar")
    assert message(Fusion, "mean", beta=0.25, languages=("ar", "ara")).endswith("'ar' and 'ara' are one")
    quietly(stores.own_language().write_index, tmp_path / "L")
    folders = [tmp_path / "L" / name for name in ("ru", "rus", "all-languages")]
    shutil.copytree(folders[0], folders[1])
    meta = (folders[1] / "xqg.json").read_text("utf-8")
    (folders[1] / "xqg.json").write_text(meta.replace('"ru"', '"rus"'), "utf-8")
    assert LanguageIndexes(folders[1:]).of("ru") == folders[1]
    assert LanguageIndexes(folders[::2]).of("rus") == folders[0]
    both = f"{folders[0]} and {folders[1]} are both for rus; give one index a language"
    assert message(LanguageIndexes, folders) == both


def test_a_center_is_that_of_the_language(tmp_path):
    centers = Centers(f32([0, 0]), {"ha": f32([1, 2])}, f32([9, 9]))
    assert [centers.of(code).tolist() for code in ("hau", "ha", "haw", "ha-NE")] == [[1, 2], [1, 2], [9, 9], [9, 9]]


def test_queries_of_one_language_are_added_up_under_one_code(encoded, tmp_path):
    path = write_jsonl(
        tmp_path / "two.jsonl",
        [
            {"docid": "e", "generated_queries": {"hau": ["1 2 3"]}},
            {"docid": "007", "generated_queries": {"ha": ["4 0 0"], "ha-NE": ["5 0 0"]}},
        ],
    )
    store = accumulate_queries(path, encoded, tmp_path / "out")
    assert (store.languages, store.totals()) == (("ha", "ha-NE"), {"ha": 2, "ha-NE": 1})
    rows = {docid: row for row, docid in enumerate(store.ids())}
    assert store.sums["ha"][[rows["e"], rows["007"]], :3].tolist() == [[1, 2, 3], [4, 0, 0]]
    again = {"docid": "e", "generated_queries": {"ha": ["1 1 1"]}}
    write_jsonl(path, [*map(json.loads, path.read_text("utf-8").splitlines()), again])
    refused = message(accumulate_queries, path, encoded, tmp_path / "o")
    assert refused == f"{path}, line 3: passage 'e' has ha queries twice: hau and ha are one language"


def test_a_store_names_languages_that_there_are(tmp_path):
    path = write_sums(tmp_path / "Q", IDS, SUMS, COUNTS)
    meta = json.loads((path / "meta.json").read_text("utf-8"))
    for code, near in (("ar-first-12", "ar"), ("../x", None)):
        changed = json.dumps({**meta, "languages": [code, *meta["languages"][1:]]})
        (path / "meta.json").write_text(changed, "utf-8")
        hint = f" (do you mean {near}?)" if near else ""
        assert message(QueryStore, path).startswith(f"{path / 'meta.json'}: unknown language code {code!r}{hint}")
