"""Bad generated queries are told from good ones by their text."""

from collections import Counter
from pathlib import Path

import pytest
from conftest import message

from xqg_pyserini.data import language_script
from xqg_pyserini.generate import rules as module
from xqg_pyserini.generate.rules import RULES, TextRules, fold, in_script, script_letters

# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  Wo  liegt\tdie\nSTRASSE? ", "wo liegt die strasse?"),
        ("Wo liegt die Straße?", "wo liegt die strasse?"),
        ("ＮＩＬＥ　２？", "nile 2?"),  # full width, and an ideographic space
        ("ｶﾞｽ", "ガス"),  # half-width katakana with its own voicing mark
        ("Cafe\u0301", "café"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("ﬁn", "fin"),
        ("가", "가"),
        (" \u00a0 ", ""),
    ],
)
def test_spelling_that_does_not_matter_is_folded_away(text, folded):
    assert fold(text) == folded
    assert fold(folded) == folded


SCRIPTS = [
    ("ar", "أين يصب النيل؟", True),
    ("ar", "Where is the Nile?", False),
    ("ar", "متى تأسست NASA؟", True),  # 8 of 12 letters
    ("ar", "ما NASA؟", False),  # 2 of 6
    ("ar", "مانا NASA", True),  # half is enough
    ("ar", "مان NASA", False),
    ("ar", "1234 ؟", False),  # no letters at all
    ("ar", "کتاب گچ پژ", True),  # Persian letters are Arabic script
    ("ar", "ـــ", True),  # a letter that several scripts share
    ("bn", "নীল নদ কোথায়?", True),
    ("bn", "नील नदी कहाँ है?", False),  # Devanagari
    ("fi", "Missä Niili sijaitsee?", True),
    ("fi", "Где Нил?", False),
    ("ja", "ナイル川はどこですか", True),
    ("ja", "エネルギー", True),
    ("ja", "ーーー", True),  # the mark of length belongs to both kana
    ("ja", "東京", True),
    ("ja", "나일강은 어디에?", False),
    ("ko", "나일강은 어디에 있나?", True),
    ("ko", "漢字", True),
    ("ko", "ナイル", False),
    ("ru", "Где течёт Нил?", True),
    ("ru", "Gde Nil?", False),
    ("te", "నైలు నది ఎక్కడ ఉంది?", True),
    ("te", "ನೈಲ್ ನದಿ ಎಲ್ಲಿದೆ?", False),  # Kannada
    ("zh", "尼罗河在哪里？", True),
    ("zh", "ナイルがわ", False),
    ("zh-Hant", "尼羅河在哪裡？", True),
    ("zh-Hans", "Nile", False),
    ("zh-Bopo", "ㄋㄧˊ", True),
    ("sr", "Где је Нил?", True),
    ("sr", "Gde je Nil?", False),
    ("sr-Latn", "Gde je Nil?", True),
    ("sr-Latn", "Где је Нил?", False),
    ("pt-BR", "Onde fica o Nilo?", True),
    ("pt-BR", "Где Нил?", False),
    ("xyz", "Где Нил?", True),  # a code that no table knows is not judged,
    ("xyz", "123", True),
    ("ar-Zzyx", "Где Нил?", True),  # nor is a script that Unicode does not know
    ("fi", "", False),
]


@pytest.mark.parametrize(("language", "text", "own"), SCRIPTS)
def test_a_query_is_in_its_script_with_half_of_its_letters(language, text, own):
    assert in_script(text, language) is own


def test_the_scripts_of_languages_have_letters():
    samples = {"Jpan": "あア漢", "Kore": "한漢", "Hani": "漢", "Latn": "aß", "Arab": "ع"}
    codes = [
        "am",
        "ar",
        "bg",
        "bn",
        "bo",
        "el",
        "fa",
        "fi",
        "gu",
        "hau",
        "he",
        "hi",
        "hy",
        "ja",
        "ka",
        "kk",
        "km",
        "ko",
        "lo",
        "mr",
        "my",
        "ne",
        "pa",
        "ru",
        "si",
        "sr",
        "ta",
        "te",
        "th",
        "ur",
        "yue",
        "zh",
    ]
    for script in map(language_script, codes):
        letters = script_letters(script)
        assert letters is not None, script
        for letter in samples.get(script, ""):
            assert letters.fullmatch(letter)
        assert not letters.search("12?! ")
        assert bool(letters.search("x")) is (script == "Latn")


PASSAGE = "Nile The Nile flows north through Egypt to the sea. Straße 5."
COPIES = [
    ("The Nile flows north", True),
    ("the NILE  flows\tnorth through Egypt?!", True),
    ("ｔｈｅ Nile flows north？", True),
    ("through egypt to the sea. STRASSE 5…", True),
    ("Nile The Nile", True),  # across title and text
    ("The Nile flows south", False),
    ("Does the Nile flow north?", False),
    ("¿The Nile flows north?", False),  # only the last punctuation is taken off
    ("The Nile, flows north", False),
    ("???", False),  # nothing is left, and nothing is in every text
]


@pytest.mark.parametrize(("query", "copied"), COPIES)
def test_a_copy_stands_in_its_passage_word_for_word(query, copied):
    kept, dropped = TextRules(("copies",)).apply(PASSAGE, {"en": (query,)})
    assert kept == {"en": () if copied else (query,)}
    assert dropped == ({("en", "copies"): 1} if copied else {})


@pytest.mark.parametrize(
    ("text", "kept"),
    [("abc", False), ("abcd", True), ("abcdef", True), ("abcdefg", False), ("  abc  ", False),
     ("  abcdef  ", True), ("日本国は", True), ("日本国", False), ("🐈🐈🐈🐈", True)],
)  # fmt: skip
def test_length_is_counted_in_characters_without_white_space_at_the_ends(text, kept):
    rules = TextRules(("length",), min_length=4, max_length=6)
    assert rules.apply(None, {"en": (text,)}).kept == {"en": (text,) if kept else ()}


def test_lengths_are_4_to_250_unless_others_are_given():
    texts = tuple("x" * n for n in (3, 4, 250, 251))
    assert TextRules(("length",)).apply(None, {"en": texts}).kept == {"en": texts[1:3]}


def test_the_first_of_two_equal_queries_stays_whatever_their_languages_and_spelling():
    queries = {
        "de": ("Wo ist die Straße?", "WO IST  DIE STRASSE?", "Wo ist der Nil?"),
        "nl": ("wo ist der nil？", "Waar is de Nijl?", "waar is de nijl?"),
        "fi": ("Waar is de Nijl", "Missä?"),  # another query without its question mark
    }
    kept, dropped = TextRules(("duplicates",)).apply(None, queries)
    assert kept == {
        "de": ("Wo ist die Straße?", "Wo ist der Nil?"),
        "nl": ("Waar is de Nijl?",),
        "fi": ("Waar is de Nijl", "Missä?"),
    }
    assert dropped == {("de", "duplicates"): 1, ("nl", "duplicates"): 2}


def test_a_query_dropped_for_another_reason_hides_no_good_one():
    queries = {"ar": ("Missä on Niili?", "أين النيل؟"), "fi": ("missä on niili?", "Missä?")}
    both = TextRules(("duplicates", "script")).apply(None, queries)
    assert both.kept == {"ar": ("أين النيل؟",), "fi": ("missä on niili?", "Missä?")}
    assert both.dropped == {("ar", "script"): 1}
    alone = TextRules(("duplicates",)).apply(None, queries)
    assert alone.kept == {"ar": queries["ar"], "fi": ("Missä?",)}


def test_each_query_is_dropped_once_for_the_first_rule_it_breaks():
    queries = {
        "fi": ("", " \t", "Где?", "The Nile flows north", "ab", "ab", "Missä?", "MISSÄ?"),
        "ar": ("The Nile flows north",),
    }
    rules = TextRules(RULES)
    assert rules.reasons == ("blank", "script", "copies", "length", "language", "duplicates")
    kept, dropped = rules.apply(PASSAGE, queries)
    assert kept == {"fi": ("Missä?",), "ar": ()}
    assert dropped == {
        ("fi", "blank"): 2, ("fi", "script"): 1, ("fi", "copies"): 1, ("fi", "length"): 2,
        ("fi", "duplicates"): 1, ("ar", "script"): 1,
    }  # fmt: skip


def test_blank_queries_go_without_any_rule_and_nothing_else_does():
    queries = {"ar": ("x", "x", "\u3000"), "ru": ()}
    assert TextRules(()).apply(None, queries) == (
        {"ar": ("x", "x"), "ru": ()}, Counter({("ar", "blank"): 1})
    )  # fmt: skip


def test_rules_are_values():
    assert TextRules(("copies",)) == TextRules(("copies",), 4, 250)
    assert hash(TextRules()) == hash(TextRules())
    assert repr(TextRules(["script"])) == ("TextRules(rules=('script',), min_length=4, max_length=250)")


def test_rules_that_make_no_sense_are_refused():
    assert message(TextRules, ("script", "length", "shouting")) == (
        "rules is 'shouting'; expected duplicates, script, copies, length, language"
    )
    assert message(TextRules, ("script", "script")) == "rule 'script' is given twice"
    for least, most in ((0, 5), (6, 5), (-1, 250)):
        assert message(TextRules, ("length",), least, most) == (
            f"queries of {least} to {most} characters; expected a shortest length of 1 or more, "
            "and no more than the longest"
        )
    assert message(TextRules(("copies",)).apply, None, {"ar": ("x",)}) == (
        "the rule 'copies' needs the passages' texts: give the corpus"
    )


def test_rules_know_no_files_and_no_models():
    source = Path(module.__file__).read_text("utf-8")
    assert not [name for name in ("open(", "torch", "transformers", "numpy") if name in source]
