"""R@kt: hand-made chains, parity with the official way, and the official outcomes on real data."""

import json
import random
import subprocess
import sys
from collections import defaultdict

import pytest
from conftest import ROOT, SHARED

from xqg_pyserini.data import span_answers
from xqg_pyserini.evaluation import r_at_kt
from xqg_pyserini.evaluation.r_at_kt import RecallAtTokens, tokenize

GOLDEN = SHARED / "data/xor-golden"

# White space of every kind, quotes of every kind, what NLTK cuts at, what looks like it, scripts,
# marks, controls, half a surrogate pair; and spaces and words, so that it looks a bit like text.
SPACES = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u3000"
NASTY = [
    *SPACES,
    *"\u200b\u180e\ufeff\u200e\u0301\x00\x07\ud800",
    *"\"'`\"'`«»“”„‘’‚‛‹›″′＂＇´",
    *"....,,,::;;---…!?*@#$%&€£()[]{}<>/\\|_~^+=‐‑‒–—―−。！،؟।",
    *["..", "...", "--", "``", "''", "'s", "'S", "n't", "N'T", "n'T", "'ll", "'re", "'d", "'m"],
    *["cannot", "can", "not", "d'ye", "gİmme", "gonna", "gotta", "more'n", "'tiſ", "'Twas"],
    *["Mr.", "U.S.", "e.g.", "ال", "من", "漢", "字", "কি", "😀", "👩\u200d👩", "é", "e\u0301", "ß"],
    *"abtnsdmIİıſK0139½²٣४",
    *[" "] * 40,
    *["word", "The", "In", "He"] * 4,
]


def nasty_texts(count, longest, seed):
    chance = random.Random(seed)
    for _ in range(count):
        yield "".join(chance.choices(NASTY, k=chance.randint(1, chance.choice([4, 12, longest]))))


def official_hits(texts, answers, budgets):
    """Do what the official script does, for each budget from scratch."""
    hits = []
    for budget in budgets:
        tokens = []
        for text in texts:
            tokens += tokenize(text)
            if len(tokens) >= budget:
                break
        chained = " ".join(tokens[:budget])
        hits.append(any(answer in chained for answer in answers))
    return hits


def hits(texts, answers, budgets):
    docids = [str(place) for place in range(len(texts))]
    return RecallAtTokens(dict(zip(docids, texts, strict=True))).hits(docids, answers, budgets)


def smallest_hit(texts, *answers):
    """The smallest budget that hits, found by asking for each."""
    return next((b for b in range(60) if hits(texts, answers, [b]) == [True]), None)


# --- tokenize -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \u2028\x1c", []),
        ("Mr. Smith can't pay $5,000.", ["Mr.", "Smith", "ca", "n't", "pay", "$", "5,000", "."]),
        ('"No", he said.', ["``", "No", "''", ",", "he", "said", "."]),
        ("One. Two.", ["One", ".", "Two", "."]),
        ("i.e. one (1) cannot--no", ["i.e", ".", "one", "(", "1", ")", "can", "not", "--", "no"]),
        ("كم من كرة؟", ["كم", "من", "كرة؟"]),
        ("a\xa0b\u3000c\x1dd", ["a", "b", "c", "d"]),
    ],
)
def test_tokenize(text, tokens):
    assert tokenize(text) == tokens


def test_tokenize_is_word_tokenize(tmp_path, monkeypatch):
    """NLTK's own entry point, given the same parameters as the files it would download."""
    nltk = pytest.importorskip("nltk")
    from nltk.tokenize import punkt

    folder = tmp_path / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    parameters = r_at_kt._nltk_tokenizers()[0]._params
    punkt.save_punkt_params(parameters, str(folder))
    nltk.tokenize._get_punkt_tokenizer.cache_clear()
    try:
        for text in nasty_texts(300, longest=60, seed=3):
            assert tokenize(text) == nltk.word_tokenize(text), ascii(text)
    finally:
        nltk.tokenize._get_punkt_tokenizer.cache_clear()


# --- What makes it cheap must be true -------------------------------------------------------------


def test_what_nltk_does_to_characters():
    """The fold, the words and both estimates hold on whatever text."""
    for text in nasty_texts(6000, longest=60, seed=1):
        tokens = tokenize(text)
        passage = r_at_kt._Passage(text)
        least, most = passage.token_bounds()
        assert r_at_kt._fold(" ".join(tokens)) == passage.folded, ascii(text)
        assert passage.words <= least <= len(tokens) <= most, ascii(text)
        assert all(len(token.split()) == 1 for token in tokens), ascii(text)
        assert passage.token_count == len(tokens), ascii(text)
        assert passage.token_bounds() == (len(tokens), len(tokens))


# --- hits, by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "answers", "smallest"),
    [
        # It sank in 1912 .
        (["It sank in 1912."], ["1912"], 4),
        (["It sank in 1912."], ["191"], 4),  # a part of a token
        (["It sank in 1912."], ["sank in 1912"], 4),
        (["It sank in 1912."], ["1912."], None),  # the period is a token of its own
        (["It sank in 1912."], ["1912 ."], 5),
        (["It sank in 1912."], ["It", "1912"], 1),
        (["It sank in 1912."], ["1912", "It"], 1),
        (["It sank in 1912."], ["it"], None),  # case counts
        (["It sank in 1912."], ["1913"], None),
        (["It sank in 1912."], ["sankin"], None),  # only there without white space
        (["It sank in 1912."], ["sank "], 3),  # the space comes with the next token
        (["It sank in 1912."], [" sank"], 2),
        (["It sank in 1912."], [" It"], None),
        (["It sank in 1912."], [". "], None),
        # Answers are not tokenised: He ca n't pay $ 5 `` now '' .
        (['He can\'t pay $5 "now".'], ["can't"], None),
        (['He can\'t pay $5 "now".'], ["ca n't"], 3),
        (['He can\'t pay $5 "now".'], ["$5"], None),
        (['He can\'t pay $5 "now".'], ["$ 5"], 6),
        (['He can\'t pay $5 "now".'], ['"now"'], None),
        (['He can\'t pay $5 "now".'], ["`` now ''"], 9),
        (['He can\'t pay $5 "now".'], ["''"], 9),
        (['He can\'t pay $5 "now".'], ["'"], 3),
        # Across passages, whatever stands between them.
        (["in New", "York City"], ["New York"], 3),
        (["in New", " \n", "", "York City"], ["New York"], 3),
        (["in Ne", "w York"], ["New York"], None),
        (["in Ne", "w York", "a New", "", "York"], ["New York"], 7),
        (["a b", "c", "d e"], ["b c d"], 4),
        (['he said "so"', "now"], ["'' now"], 6),  # the quotes are in the passage before
        (["a", '"', "b"], ["a `` b"], 3),
        (["a", '"', "b"], ["`` b"], 3),
        (["a", '"', "b"], ["a ``"], 2),
        # The first of several places that fold alike but do not match.
        (["ab a", "b"], ["a b"], 3),
        (["a signific ant can't", "a cant"], ["cant"], 7),
        (["aC-an't Can't", "we Cant", "Cant"], ["Cant"], 6),
        # An empty answer is in any string, even of no tokens.
        (["a"], [""], 0),
        ([], [""], 0),
        ([], ["a"], None),
        (["a"], [], None),
    ],
)
def test_smallest_budget_that_hits(texts, answers, smallest):
    assert smallest_hit(texts, *answers) == smallest
    assert official_hits(texts, answers, range(60)) == hits(texts, answers, range(60))


def test_budgets_in_any_order_and_repeated():
    assert hits(["one two three"], ["two"], [3, 1, 2, 1]) == [True, False, True, False]
    assert hits(["one two three"], ["two"], []) == []


def test_rank_order_decides_not_the_corpus():
    recall = RecallAtTokens({"decoy": "x " * 100, "good": "answer"})
    assert recall.hits(["good", "decoy"], ["answer"], [1, 100]) == [True, True]
    assert recall.hits(["decoy", "good"], ["answer"], [100, 101]) == [False, True]
    assert recall.hits(["decoy", "decoy", "good"], ["answer"], [101, 201]) == [False, True]


def test_passages_beyond_the_budget_are_left_alone():
    asked = []

    def text_of(docid):
        asked.append(docid)
        return "five words without an end"

    assert RecallAtTokens(text_of).hits(["a", "b", "c", "d"], ["answer"], [10]) == [False]
    assert asked == ["a", "b"]


def test_little_is_tokenised(monkeypatch):
    tokenised = []
    monkeypatch.setattr(r_at_kt, "tokenize", lambda text: tokenised.append(text) or tokenize(text))
    texts = {str(rank): f"passage {rank} has some six words" for rank in range(100)}
    recall = RecallAtTokens(texts)
    assert recall.hits(list(texts), ["nowhere"], [50, 500]) == [False, False]
    assert tokenised == []
    # 420 tokens stand before passage 70: 50 is too few and 500 enough, by words alone.
    assert recall.hits(list(texts), ["passage 70"], [50, 500]) == [False, True]
    assert tokenised == [texts["70"]]
    assert recall.hits(list(texts), ["passage 70"], [421, 422]) == [False, True]
    assert tokenised == [texts["70"]]


def test_mistakes_are_named():
    recall = RecallAtTokens({"a": "one"})
    with pytest.raises(LookupError) as missing:
        recall.hits(["a", "b"], ["two"], [5])
    assert str(missing.value) == (
        "passage 'b' is in the ranking but not in the corpus; score a run with the corpus it was retrieved from"
    )
    with pytest.raises(TypeError, match="answers must be a list of strings, got the string 'two'"):
        recall.hits(["a"], "two", [5])
    with pytest.raises(ValueError, match="budgets are numbers of tokens, 0 or more; got -1"):
        recall.hits(["a"], ["two"], [5, -1])
    with pytest.raises(ValueError, match="limit is a number of tokens, 0 or more; got -1"):
        recall.token_count(["a"], -1)


# --- Parity with the official way -----------------------------------------------------------------


def test_random_chains_as_the_official_way():
    """Answers cut out of the token string and of the raw text, at random, spaces and all."""
    chance = random.Random(7)
    texts = {str(number): text for number, text in enumerate(nasty_texts(80, 30, seed=5))}
    tiny = RecallAtTokens(texts, cache_characters=100)
    roomy = RecallAtTokens(texts.get)
    outcomes = defaultdict(int)
    for _ in range(700):
        ranking = chance.choices(list(texts), k=chance.randint(1, 6))
        chain = [texts[docid] for docid in ranking]
        tokens = " ".join(token for text in chain for token in tokenize(text))
        answers = []
        for source in chance.choices([tokens, " ".join(chain), "".join(chain)], k=2):
            start = chance.randrange(len(source) + 1)
            answers.append(source[start : start + chance.randint(1, 12)])
        answers = [answer for answer in answers if answer]
        budgets = chance.choices(range(len(tokens.split()) + 3), k=4)
        expected = official_hits(chain, answers, budgets)
        assert tiny.hits(ranking, answers, budgets) == expected, ascii((chain, answers, budgets))
        assert roomy.hits(ranking, answers, budgets) == expected, ascii((chain, answers, budgets))
        for hit in expected:
            outcomes[hit] += 1
    assert min(outcomes[True], outcomes[False]) > 500  # else little was tested


def test_cache_keeps_to_its_size():
    texts = {str(number): "x" * 40 for number in range(10)}
    recall = RecallAtTokens(texts, cache_characters=100)
    recall.token_count(list(texts), 1000)
    assert list(recall._cache) == ["8", "9"]
    assert recall._cached_characters == 80
    recall.token_count(["8", "0"], 1000)
    assert list(recall._cache) == ["8", "0"]  # the least recently used goes first
    assert RecallAtTokens(texts, cache_characters=0).token_count(["1", "1"], 1000) == 2


# --- token_count and span_answers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "limit", "count"),
    [
        ([], 10, 0),
        (["", " "], 10, 0),
        (["one two", "three"], 10, 3),
        (["one two", "three"], 3, 3),
        (["one two", "three"], 2, 2),
        (["one two", "three"], 0, 0),
        (["Stop. Go.", "can't"], 10, 6),
        (["Stop. Go.", "can't"], 5, 5),
    ],
)
def test_token_count(texts, limit, count):
    docids = [str(place) for place in range(len(texts))]
    assert RecallAtTokens(dict(zip(docids, texts, strict=True))).token_count(docids, limit) == count


def test_token_count_does_not_tokenise_where_words_suffice(monkeypatch):
    monkeypatch.setattr(r_at_kt, "tokenize", None)
    assert RecallAtTokens({"a": "word " * 50}).token_count(["a", "a"], 100) == 100
    assert RecallAtTokens({"a": "word, " * 50}).token_count(["a"], 100) == 100  # by sure cuts


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        ([], []),
        (["yes"], []),
        (["no", "yes"], []),
        (["Yes", "no ", "none"], ["Yes", "no ", "none"]),
        (["", " ", "\u3000\n", "a"], ["a"]),
        (["twice", "twice"], ["twice", "twice"]),
    ],
)
def test_span_answers(answers, kept):
    assert span_answers(answers) == kept


def test_importing_it_loads_no_tokeniser():
    code = (
        "import sys, xqg_pyserini.evaluation.r_at_kt, xqg_pyserini.evaluation.significance;"
        "print([m for m in ('nltk', 'punkt', 'ranx', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_nltk_is_whole_for_others_after_its_two_modules_were_taken():
    code = (
        "import sys; from xqg_pyserini.evaluation.r_at_kt import tokenize;"
        "tokens = tokenize('He said \"no\". It cost $5.');"
        "print([m for m in sys.modules if m.partition('.')[0] == 'nltk']);"
        "import nltk; print(nltk.NLTKWordTokenizer().tokenize('He said \"no\". It cost $5.') == tokens)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nTrue\n"


# --- The official outcomes ------------------------------------------------------------------------


def json_lines(name):
    with open(GOLDEN / name, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the official outcomes are not here: {GOLDEN} (set XQG_SHARED)")
def test_official_outcomes():
    passages = json_lines("passages.jsonl")
    recall = RecallAtTokens({passage["id"]: passage["contents"] for passage in passages})
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    budgets = [int(budget) for budget in expected]
    ranked = defaultdict(list)
    for line in (GOLDEN / "run.trec").read_text(encoding="utf-8").splitlines():
        question, _, docid, rank, *_ = line.split()
        ranked[question].append((int(rank), docid))

    outcomes = {budget: {} for budget in budgets}
    languages = defaultdict(list)
    for question in json_lines("questions.jsonl"):
        answers = span_answers(question["answers"])
        if not answers:
            continue
        languages[question["lang"]].append(question["id"])
        ranking = [docid for _, docid in sorted(ranked[question["id"]])]
        for budget, hit in zip(budgets, recall.hits(ranking, answers, budgets), strict=True):
            outcomes[budget][question["id"]] = int(hit)

    assert budgets == [200, 500, 1000, 2000, 5000]
    for budget in budgets:
        official = expected[str(budget)]
        assert outcomes[budget] == official["hits"]
        scores = []
        for language, ids in languages.items():
            hit = sum(outcomes[budget][question] for question in ids)
            scores.append(hit / len(ids) * 100)
            assert official["per_language"][language] == {
                "count": len(ids),
                "hit": hit,
                "score": pytest.approx(scores[-1], rel=1e-12),
            }
        assert len(scores) == len(official["per_language"])
        assert sum(scores) / len(scores) == pytest.approx(official["macro"], rel=1e-12)
