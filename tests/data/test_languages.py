"""Languages: which codes are known, which of them are one, their names and scripts."""

import subprocess
import sys

import pytest
from conftest import message, write_jsonl

from xqg_pyserini import data
from xqg_pyserini.errors import XqgWarning

EXPECTED = "expected BCP 47 or ISO 639, e.g. fi hau pt-BR"


@pytest.mark.parametrize(
    "code",
    [
        "fi",
        "fin",
        "hau",
        "ha",
        "bem",
        "fon",
        "yue",
        "zh-Hant",
        "zh-hant",
        "pt-BR",
        "es-419",
        "sr-Latn-RS",
        "no",
        "ger",
        "de-CH-1996",
        "en-x-mine",
        "und",
    ],
)
def test_codes_of_bcp_47_and_iso_639_are_known(code):
    assert data.language_fault(code) is None
    assert data.check_languages([code]) == (code,), "as it was typed"


@pytest.mark.parametrize(
    ("code", "near"),
    {
        "xx": None, "qq": None, "": None, "\0hzbF'": None, "??": None, "zz": None, None: None, 7: None,
        "FI": "fi", "EN": "en", "pt_BR": "pt-BR", "zh_hant": "zh-Hant", " fi": "fi", "fi-": "fi",
        "Finnish": "fi", "arabic": "ar", "suomi": "fi", "Traditional Chinese": "zh-Hant", "Kinyarwanda": "rw",
        "jp": "ja", "cz": "cs", "gr": "el",
        "fii": "fi", "Finish": "fi", "hua": "hu",
        "fi-Finland": "fi", "ar-first-12": "ar", "fi-12": "fi",
    }.items(),
)  # fmt: skip
def test_a_code_that_is_none_is_refused_with_the_one_that_may_be_meant(code, near):
    hint = f" (do you mean {near}?)" if near else ""
    assert data.language_fault(code) == f"unknown language code {code!r}{hint}: {EXPECTED}"
    assert near is None or data.language_fault(near) is None
    assert message(data.check_languages, ["ru", code]) == data.language_fault(code)


def test_a_long_code_is_shown_in_part():
    assert data.language_fault("x" * 3000) == f"unknown language code 'x{'x' * 58}: {EXPECTED}"


def test_codes_that_a_user_types_differ():
    assert data.check_languages(iter(["ru", "ar"])) == ("ru", "ar")
    assert message(data.check_languages, ["ar", "ru", "ar"]) == "language 'ar' is given twice"
    assert message(data.check_languages, ["ha", "hau"]) == "language 'hau' is given twice: 'ha' and 'hau' are one"
    assert data.check_languages(["zh-Hant", "zh-Hans", "yue"]) == ("zh-Hant", "zh-Hans", "yue")


@pytest.mark.parametrize(
    ("first", "second", "same", "variants"),
    [
        ("ha", "hau", True, True),
        ("fi", "fin", True, True),
        ("de", "ger", True, True),
        ("iw", "he", True, True),
        ("arb", "ar", True, True),
        ("swa", "swh", True, True),
        ("zh-hant", "zh-Hant", True, True),
        ("en-Latn", "en", True, True),
        ("fi-FI", "fi", False, True),
        ("pt-BR", "pt-PT", False, True),
        ("zh-Hant", "zh-Hans", False, True),
        ("sr-Latn", "sr", False, True),
        ("zh", "yue", False, False),
        ("no", "nob", False, True),
        ("no", "nn", False, False),
        ("nb", "nn", False, False),
        ("und", "mul", False, False),
        ("ha", "haw", False, False),
        ("id", "ind-x-old", False, True),
        ("xx", "xx", True, True),  # as an old file may have it
        ("xx", "xxx", False, False),
    ],
)
def test_which_codes_are_one_language(first, second, same, variants):
    for a, b in ((first, second), (second, first)):
        assert data.same_language(a, b) is same
        assert data.are_variants(a, b) is variants
        assert data.find_language(a, ["ru", b]) == (b if same else None)


def test_a_code_is_found_as_it_is_written_before_another_of_its_language():
    assert data.find_language("hau", ["ha", "hau"]) == "hau"
    assert data.find_language("hau", iter(["haw", "ha"])) == "ha"
    assert data.find_language(None, ["ha"]) is None
    assert data.base_language("ary-MA") == "ary"
    assert [data.base_language(code) for code in ("ar-EG", "ara", "arb")] == ["ar"] * 3
    assert data.base_language("und") == "und"


def test_white_space_around_a_code_is_left_out_and_said(tmp_path):
    """XOR-TyDi's training questions have " ar"."""
    records = [{"id": str(i), "question": "x", "lang": lang} for i, lang in enumerate([" ar", "ar", " ar"])]
    path = write_jsonl(tmp_path / "q.jsonl", records)
    with pytest.warns(XqgWarning) as caught:
        questions = data.read_questions(path)
    assert [question.language for question in questions] == ["ar"] * 3
    said = [str(w.message) for w in caught]
    assert said == [f"{path}: white space around language codes; left out: 2, the first ' ar'"]


def test_names_are_english_and_the_published_generators():
    names = {code: data.language_name(code) for code in ("ar", "bn", "ben", "fi", "ja", "ko", "no", "ru", "te", "hau")}
    assert list(names.values()) == [
        *("Arabic", "Bengali", "Bengali", "Finnish", "Japanese", "Korean", "Norwegian", "Russian", "Telugu", "Hausa")
    ]
    more = [data.language_name(code) for code in ("bem", "fon", "yue", "zh-Hant", "pt-BR")]
    assert more == ["Bemba", "Fon", "Cantonese", "Chinese (Traditional)", "Portuguese (Brazil)"]
    assert [data.language_name(code) for code in ("swh", "npi-NP", "arb")] == [
        "Swahili",
        "Nepali (Nepal)",
        "Standard Arabic",
    ]


@pytest.mark.parametrize(
    ("code", "script"),
    {
        "ar": "Arab", "arb": "Arab", "ar-x-Latn": "Arab", "hau": "Latn", "sr": "Cyrl", "sr-Latn": "Latn", "ja": "Jpan",
        "zh": "Hans", "yue": "Hant", "bem": "Latn", "tlh": None, "und": None,
    }.items(),
)  # fmt: skip
def test_scripts(code, script):
    assert data.language_script(code) == script


@pytest.mark.parametrize(
    ("code", "token"),
    {
        "ar": "arb_Arab", "arz": "arz_Arab", "no": "nob_Latn", "nn": "nno_Latn", "ko": "kor_Hang", "tw": "twi_Latn",
        "ak": "aka_Latn", "ps": "pbt_Arab", "qu": "quy_Latn", "ff": "fuv_Latn", "zh": "zho_Hans", "hau": "hau_Latn",
        "zh-Hant": "zho_Hant", "yue": "yue_Hant", "pt-BR": "por_Latn", "ks": "kas_Arab", "ks-Deva": "kas_Deva",
        "sr": "srp_Cyrl", "sr-Latn": None, "ms": "zsm_Latn", "id": "ind_Latn", "az": "azj_Latn", "et": "est_Latn",
        "fon": "fon_Latn", "bem": "bem_Latn", "tl": "tgl_Latn", "la": None, "gsw": None,
    }.items(),
)  # fmt: skip
def test_the_code_that_nllb_serves_a_language_by(code, token):
    nllb = pytest.importorskip("transformers.models.nllb.tokenization_nllb").FAIRSEQ_LANGUAGE_CODES
    tokens = {name.replace("_", "-"): name for name in nllb}
    assert tokens.get(data.nearest_language(code, tokens)) == token


def test_bokmal_is_served_by_a_model_that_calls_it_norwegian():
    assert data.nearest_language("nb", ["da", "no", "sv"]) == "no"
    assert data.nearest_language("nb", ["no", "nn", "nb"]) == "nb"
    assert data.nearest_language("nn", ["da", "no", "sv"]) is None


def test_the_library_of_languages_is_imported_where_it_is_used():
    code = "import sys; import xqg_pyserini.data.languages, xqg_pyserini.cli.main; print('langcodes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
