"""Perturbed questions: what each kind changes, by hand; seeds; lexicons; the command."""

import json
import os
import random
import subprocess
import sys

import pytest
import regex
from conftest import QUESTIONS, message, run_xqg, write_jsonl

from xqg_pyserini.data import Question
from xqg_pyserini.train.perturb import (
    KINDS,
    PerturbationSettings,
    fold_word,
    learn_lexicon,
    near_keys,
    perturb,
    perturb_questions,
    words_of,
)

TEXTS = {
    "ar": "متى تأسست جامعة القاهرة في مصر؟",
    "bn": "বিশ্ববিদ্যালয়ের প্রথম উপাচার্য কে ছিলেন ?",
    "fi": "Missä Väinämöinen syntyi 1912?",
    "ja": "2018年アメリカで一番治安の悪い州はどこですか？",
    "ko": "헤이안 시대는 몇 년간 지속되었는가?",
    "ru": "Сколько врачей живёт в Королёве?",
    "te": "గుంటూరు జిల్లాలో మొక్కజొన్న పంట ఏది ?",
}
LEXICON = {"jussi": "john", "uusi": "new", "kirja": "book"}


def script(text: str, language: str) -> str:
    """Every place of a text rewritten."""
    return perturb(text, language, "script", 1.0, 1, "q")


# ---------------------------------------------------------------- script, at every place


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("ar", "أإآٱ ىة مُحَمَّد ـكتابـ 2018 ؟", "اااا يه محمد كتاب 2018"),
        ("fi", "Missä Åbo, Öljy ja ßø?", "missa abo, oljy ja sso"),
        ("fi", "a\u0308iti", "aiti"),  # the accent as a mark of its own
        ("ru", "Всё ли Ёж йод Атбаса\u0301ра?", "все ли еж йод атбасара"),
        ("ja", "2018年アメリカでは２０？", "２０１８年あめりかデハ20"),
        ("ja", "カ猫", "カ猫"),  # a single kana is no run
        ("ko", "몇 년간 NASA 2 일?", "몇년간 nasa 2 일"),
        ("bn", "নদী ক্\u200dষ চাঁদ শ ষ ?", "ণদি ক্শ চাদ স শ"),
        ("te", "కి క్\u200cష ణళ శొ?", "కీ క్శ నల సో"),
        ("el", "Πού; ζούσε;", "που; ζουσε"),
        ("es", "¿Quién, o qué?", "quien, o que"),
        ("de", "Wer  kam? Und ging?", "wer  kam? und ging"),  # only the last question mark
        ("zh", "谁写的？", "谁写的"),
    ],
)
def test_script_rewrites_what_the_table_says_and_nothing_else(language, text, expected):
    assert script(text, language) == expected


def test_a_language_with_a_region_has_the_habits_of_the_language():
    assert script("أين", "ar-EG") == "اين"


# ---------------------------------------------------------------- typos


def test_near_keys_lie_around_a_key():
    # left, right, above, above to the right, below to the left, below
    latin = near_keys("en")
    assert latin["g"] == "fhtyvb"
    assert latin["a"] == "sqwz"
    assert latin["q"] == "wa"
    assert "ö" not in latin
    assert near_keys("fi")["l"] == "köop"
    assert near_keys("ru")["а"] == "впкесм"
    assert near_keys("ar")["ب"] == "يلقفؤر"
    assert "а" not in near_keys("ar")
    assert "ب" not in near_keys("ru")


@pytest.mark.parametrize("language", ["ru", "uk", "ar", "fi", "de", "es", "fr", "te"])
def test_near_keys_are_mutual_and_never_the_key_itself(language):
    near = near_keys(language)
    assert " " not in near
    for key, others in near.items():
        assert key not in others
        assert len(set(others)) == len(others)
        for other in others:
            assert key in near[other]


def edits(letters: list[str], language: str) -> set[str]:
    """All texts that one typing error makes of a word, written down a second time."""
    drawn = set()
    near = near_keys(language)
    for i, letter in enumerate(letters):
        before, after = "".join(letters[:i]), "".join(letters[i + 1 :])
        marked = regex.search(r"\p{M}$", letter) and len(letter) > 1
        drawn.add(before + (letter[:-1] if marked else letter * 2) + after)
        drawn.add(before + after)
        drawn.update(before + key + after for key in near.get(letter, ""))
        if i + 1 < len(letters) and letters[i + 1] != letter:
            drawn.add(before + letters[i + 1] + letter + "".join(letters[i + 2 :]))
    return drawn


@pytest.mark.parametrize(
    ("word", "letters", "language"),
    [
        ("kala", list("kala"), "fi"),
        ("река", list("река"), "ru"),
        ("كتاب", list("كتاب"), "ar"),
        ("సంస్కృతి", ["సం", "స్కృ", "తి"], "te"),
        ("রাষ্ট্র", ["রা", "ষ্ট্র"], "bn"),
        ("지속", ["지", "속"], "ko"),
        ("ツシマ", ["ツ", "シ", "マ"], "ja"),
    ],
)
def test_one_typo_is_one_of_four_and_all_of_them_come(word, letters, language):
    expected = edits(letters, language)
    # a rate so low that nothing but the place with the lowest draw is changed
    seen = {perturb(word, language, "typos", 1e-12, seed, "q") for seed in range(1000)}
    assert seen == expected
    assert word not in seen


def test_typos_keep_digits_spaces_and_capitals_in_front():
    for seed in range(300):
        text = perturb("Kuka 1912, 2018?", "fi", "typos", 0.5, seed, "q")
        assert regex.sub(r"\p{L}", "", text) == " 1912, 2018?"
        assert not text[:1].isspace()
        assert perturb("2018 + 7?", "fi", "typos", 1.0, seed, "q") == "2018 + 7?"
    swapped = {perturb("Kuka", "fi", "typos", 1e-12, seed, "q") for seed in range(300)}
    assert "Ukka" in swapped
    assert "uKka" not in swapped


def test_the_rate_is_the_share_of_letters_with_an_error():
    text = "o" * 2000  # equal letters: an error is a double, a drop or a near key
    low, high = (perturb(text, "und", "typos", rate, 3, "q") for rate in (0.1, 0.4))
    wrong = [sum(c != "o" for c in outcomes) for outcomes in (low, high)]
    # a third of the errors hits a key beside o
    assert wrong[0] == pytest.approx(2000 * 0.1 / 3, rel=0.3)
    assert wrong[1] == pytest.approx(2000 * 0.4 / 3, rel=0.2)


def test_marks_are_never_torn_from_their_letters():
    for language in ("bn", "te"):
        for seed in range(200):
            text = perturb(TEXTS[language], language, "typos", 0.5, seed, "q")
            # no mark at the beginning of a word
            assert not regex.search(r"(?:^|[^\p{L}\p{M}])\p{M}", text), text


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_of_0_changes_nothing_and_any_other_at_least_one_place(kind):
    lexicon = {fold_word(text.split()[0]): "word" for text in TEXTS.values()} | {"年": "year"}
    for language, text in TEXTS.items():
        assert perturb(text, language, kind, 0, 1, "q", lexicon) == text
        for seed in range(50):
            assert perturb(text, language, kind, 1e-9, seed, "q", lexicon) != text


def test_errors_that_undo_each_other_are_not_left_so():
    # of aab, dropping an a and doubling the other gives aab
    for seed in range(2000):
        assert perturb("aab", "en", "typos", 0.7, seed, "q") != "aab"


@pytest.mark.parametrize("kind", KINDS)
def test_seed_key_and_kind_decide_and_nothing_else_does(kind):
    text, lexicon = TEXTS["fi"] * 3, {"missä": "where", "syntyi": "born"}

    def once(seed, key):
        return perturb(text, "fi", kind, 0.5, seed, key, lexicon)

    first = once(1, "q")
    random.seed(99)
    once(7, "other")
    assert once(1, "q") == first
    if kind != "code-switch":  # that has six places only
        assert once(2, "q") != first
        assert once(1, "p") != first
    assert len({once(seed, "q") for seed in range(20)}) > 5


def test_pythons_hash_seed_does_not_matter():
    code = "from xqg_pyserini.train.perturb import perturb, learn_lexicon\n"
    code += "lexicon = learn_lexicon([('a b c', 'x y z'), ('a b', 'x y'), ('b c', 'y z')] * 3, 'fi')\n"
    code += f"texts = {TEXTS!r}\n"
    code += "print(ascii([perturb(t, l, k, 0.3, 5, 'q', lexicon) for l, t in texts.items() "
    code += f"for k in {KINDS!r}]), lexicon)"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (0, 1, 2)
    }
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("fi", ["Missä Väinnmöinne syntyi 1912?", "Missä Vainamöinen syntyi 1912?", "where Väinämöinen syntyi 1912?"]),
        ("te", ["గుంటూర జల్లాలో మొక్కజొన్న పంట దిఏ ?", "గుంటూరు జీల్లాలొ మొక్కజొన్న పంట ఏది", "గుంటూరు జిల్లాలో మొక్కజొన్న crop ఏది ?"]),
    ],
)
def test_what_is_written_today_is_written_tomorrow(language, expected):
    lexicon = {"missä": "where", "పంట": "crop"}
    perturbed = [perturb(TEXTS[language], language, kind, 0.3, 1, "q1", lexicon) for kind in KINDS]
    assert perturbed == expected


# ---------------------------------------------------------------- code-switch


def test_words_are_switched_where_they_stand():
    text = "Jussi, uusi-kirja ja UUSI kirja?"
    switched = perturb(text, "fi", "code-switch", 1.0, 1, "q", LEXICON)
    assert switched == "john, uusi-kirja ja new book?"


def test_japanese_words_are_runs_of_kanji_and_of_katakana():
    words = [place.new for place in words_of("東京タワーはNASAの2倍です", "ja")]
    assert words == ["東京", "タワー", "nasa", "2", "倍"]
    lexicon = {"東京": "tokyo", "タワー": "tower"}
    # words of Latin letters run together neither with each other nor with digits
    switched = perturb("東京タワーは2倍？", "ja", "code-switch", 1.0, 1, "q", lexicon | {"倍": "times"})
    assert switched == "tokyo towerは2 times？"


def test_a_language_without_words_is_left_alone():
    assert words_of("谁写了这本书", "zh") == []
    assert learn_lexicon([("谁写了", "who wrote")] * 9, "zh") == {}
    assert perturb("谁", "zh", "code-switch", 1.0, 1, "q", {"谁": "who"}) == "谁"


PAIRS = [
    ("kuka on kuningas", "who is the king"),
    ("kuka on lääkäri", "who is the doctor"),
    ("kuka on seppä", "who is the smith"),
    ("missä kuningas asuu", "where does the king live"),
    ("missä lääkäri asuu", "where does the doctor live"),
    ("missä seppä asuu", "where does the smith live"),
    ("kuningas", "king"),
    ("lääkäri", "doctor"),
    ("seppä 1912", "smith 1912"),
]


def test_a_lexicon_is_learnt_from_what_stands_together():
    learnt = learn_lexicon(PAIRS, "fi")
    assert {w: learnt[w] for w in ("kuningas", "lääkäri", "seppä")} == {
        "kuningas": "king",
        "lääkäri": "doctor",
        "seppä": "smith",
    }
    # who stands with kuka as often as with on, and is given to one: by the alphabet
    assert (learnt["kuka"], learnt["missä"], learnt["asuu"]) == ("who", "where", "live")
    assert "on" not in learnt
    assert "1912" not in learnt
    assert not {"the", "is", "does"} & set(learnt.values())


def test_a_lexicon_does_not_depend_on_the_order_of_pairs():
    shuffled = PAIRS * 2
    random.Random(1).shuffle(shuffled)
    assert learn_lexicon(shuffled, "fi") == learn_lexicon(PAIRS * 2, "fi")
    assert list(learn_lexicon(shuffled, "fi")) == sorted(learn_lexicon(PAIRS, "fi"))


def test_words_that_were_seen_together_twice_only_are_not_learnt():
    pairs = [("kissa", "cat"), ("kissa", "cat"), ("koira", "dog"), ("koira", "dog"), ("koira", "dog")]
    assert learn_lexicon(pairs, "fi") == {"koira": "dog"}


def test_learnt_words_are_good_on_real_translations(shared):
    folder = shared / "data/xor-tydi/question-translations"
    ours, english = ((folder / f"fi-en.{code}.txt").read_text("utf-8").splitlines() for code in ("fi", "en"))
    learnt = learn_lexicon(list(zip(ours, english, strict=True))[:3000], "fi")
    expected = {"kaupunki": "city", "kirjan": "book", "pienin": "smallest", "toinen": "second"}
    assert {word: learnt.get(word) for word in expected} == expected


# ---------------------------------------------------------------- the command


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path):
    write_jsonl(tmp_path / "questions.jsonl", [{**q, "split": "dev"} for q in QUESTIONS])
    return tmp_path


def test_fields_ids_and_answers_are_kept(folder, xqg):
    out = xqg(
        *("perturb", "--questions", "questions.jsonl", "--kind", "typos", "--rate", "0.2"),
        *("--seed", "3", "--output", "out.jsonl"),
        cwd=folder,
    )
    assert out == "out.jsonl: 3 of 3 questions changed (ar 2/2 ru 1/1), typos, rate 0.2, seed 3\n"
    for old, new in zip(QUESTIONS, lines(folder / "out.jsonl"), strict=True):
        assert list(new) == ["id", "question", "lang", "answers", "split"]
        text = perturb(old["question"], old["lang"], "typos", 0.2, 3, old["id"])
        assert new == {**old, "question": text, "split": "dev"}


def test_the_same_bytes_again_and_the_same_questions_in_another_order(folder):
    write_jsonl(folder / "back.jsonl", [{**q, "split": "dev"} for q in reversed(QUESTIONS)])
    for source, output in (("questions", "a"), ("questions", "b"), ("back", "c")):
        perturb_questions(folder / f"{source}.jsonl", folder / output, PerturbationSettings("script", 0.5, 1))
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    assert lines(folder / "c") == lines(folder / "a")[::-1]


def test_values_are_perturbed_as_files_are(folder):
    how = PerturbationSettings("typos", 0.3, seed=4)
    perturb_questions(folder / "questions.jsonl", folder / "a", how)
    expected = lines(folder / "a")
    perturb_questions(iter([{**q, "split": "dev"} for q in QUESTIONS]), folder / "b", how)
    assert lines(folder / "b") == expected
    made = [Question(q["id"], q["question"], q["lang"], (*q["answers"],)) for q in QUESTIONS]
    perturb_questions(made, folder / "c", how)
    for line in expected:
        del line["split"]
    assert lines(folder / "c") == expected
    perturb_questions({"007": "Väinö"}, folder / "d", PerturbationSettings("script", 1.0), language="fi")
    assert lines(folder / "d") == [{"id": "007", "question": "vaino", "lang": "fi"}]


def test_tsv_with_a_language_and_other_names_of_fields(folder):
    everywhere = PerturbationSettings("script", 1.0)
    (folder / "q.tsv").write_text("007\tMissä Väinö on?\n", "utf-8")
    perturb_questions(folder / "q.tsv", folder / "a", everywhere, language="fi")
    assert lines(folder / "a") == [{"id": "007", "question": "missa vaino on", "lang": "fi"}]
    write_jsonl(folder / "t.jsonl", [{"qid": 7, "title": "Väinö", "n": [1]}])
    perturb_questions(folder / "t.jsonl", folder / "a", everywhere, language="fi")
    assert lines(folder / "a") == [{"qid": 7, "title": "vaino", "n": [1], "lang": "fi"}]


def test_code_switching_with_json_says_how_many_words_it_knew(folder):
    records = [
        {"id": "1", "question": "Missä kuningas asuu?", "lang": "fi"},
        {"id": "2", "question": "Кто это?", "lang": "ru"},
    ]
    write_jsonl(folder / "q.jsonl", records)
    text = "".join(f"{a}\t{b}\n" for a, b in PAIRS)
    (folder / "fi.tsv").write_text(text, "utf-8")
    (folder / "words.tsv").write_text("Missä\twhereabouts\nmissä\tnot this\n", "utf-8")
    done = run_xqg(
        *("perturb", "--questions", "q.jsonl", "--kind", "code-switch", "--rate", "1"),
        *("--parallel", "fi=fi.tsv", "--dictionary", "fi=words.tsv", "--output", "out", "--json"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    learnt = learn_lexicon(PAIRS, "fi")
    assert json.loads(done.stdout) == {
        "output": "out",
        "kind": "code-switch",
        "rate": 1.0,
        "seed": 42,
        "questions": 2,
        "changed": 1,
        "languages": {"fi": {"questions": 1, "changed": 1}, "ru": {"questions": 1, "changed": 0}},
        "lexicon": {"fi": len(learnt), "ru": 0},
    }
    assert done.stderr == ("xqg perturb: warning: no word of ru is in a lexicon: its questions are left as they are\n")
    new = [record["question"] for record in lines(folder / "out")]
    assert new == [f"whereabouts king {learnt['asuu']}?", "Кто это?"]


def test_questions_that_the_lexicon_was_learnt_from_are_counted(folder, xqg):
    write_jsonl(folder / "q.jsonl", [{"id": "1", "question": PAIRS[0][0], "lang": "fi"}])
    (folder / "fi.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS), "utf-8")
    done = run_xqg(
        *("perturb", "--questions", "q.jsonl", "--kind", "code-switch", "--rate", "1"),
        *("--parallel", "fi.tsv", "--output", "out"),
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (
        0,
        "xqg perturb: warning: 1 of the questions stand in fi.tsv: words are learnt from their own "
        "translations; learn from other questions\n",
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--kind typos --rate 1.5", "rate is 1.5; expected a number, 0 or more, at most 1"),
        ("--kind typos --rate nan", "rate is nan; expected a number, 0 or more, at most 1"),
        (
            "--kind code-switch --rate 0.5",
            "code-switch takes parallel texts (text, tab, English) or a dictionary (word, tab, English)",
        ),
        (
            "--kind typos --rate 0.5 --dictionary ar=bad.tsv",
            "parallel texts and dictionaries belong to code-switch, not to typos",
        ),
        (
            "--kind code-switch --rate 0.5 --parallel bad.tsv",
            "parallel bad.tsv: the questions are in ar ru; say which this is for, as ar=bad.tsv",
        ),
        (
            "--kind code-switch --rate 0.5 --parallel ar=bad.tsv",
            "bad.tsv, line 2: expected a text, a tab and its English",
        ),
        ("--kind code-switch --rate 0.5 --dictionary ar=bad.tsv ar=bad.tsv", "dictionary is given twice for ar"),
        (
            "--kind code-switch --rate 0.5 --dictionary qq=bad.tsv",
            "unknown language code 'qq': expected BCP 47 or ISO 639, e.g. fi hau pt-BR",
        ),
        ("--kind code-switch --rate 0.5 --dictionary ar=none.tsv", "none.tsv: no such file or directory"),
        (
            "--kind code-switch --rate 0.5 --dictionary ar=empty.tsv",
            "empty.tsv: nothing in it; expected lines of a text, a tab, its English",
        ),
        ("--kind typos --rate 0.5 --questions q.tsv", "question '007' has no language: give it"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, expected, folder, refused):
    (folder / "bad.tsv").write_text("كم\thow many\nمتى\n", "utf-8")
    (folder / "empty.tsv").write_text("\n")
    (folder / "q.tsv").write_text("007\tMissä?\n", "utf-8")
    before = sorted(os.listdir(folder))
    error = refused("perturb", "--questions", "questions.jsonl", "--output", "out", *arguments.split(), cwd=folder)
    assert error.startswith(f"xqg perturb: error: {expected}")
    assert sorted(os.listdir(folder)) == before


def test_the_function_refuses_what_it_cannot_do():
    assert message(perturb, "a", "fi", "noise", 0.5, 1, "q") == ("kind is 'noise'; expected typos, script, code-switch")
    assert message(perturb, "a", "fi", "code-switch", 0.5, 1, "q") == (
        "code-switch takes a lexicon: words of the language and English ones"
    )
