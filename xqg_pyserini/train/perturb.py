"""Questions as people really type them: typing errors, careless writing, words of English.

`perturb` is a pure function: what it returns depends on its arguments alone, never on the order of questions or on
Python's hash seed.  What each kind does to which language, and what it leaves out, is in docs/perturb.md.  This module
knows no models.
"""

import hashlib
import importlib.resources
import json
import math
import os
import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import regex
from tqdm import tqdm

from xqg_pyserini.data import (
    LANGUAGE_CODE,
    Question,
    QuestionFiles,
    QuestionsLike,
    as_questions,
    base_language,
    check_languages,
    find_language,
    paths_of,
    question_key,
    question_records,
)
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import check_file, expand, read_lines, writing
from xqg_pyserini.settings import check_values, option

KINDS = ("typos", "script", "code-switch")
MIN_LINKS = 3  # how often two words must have been linked to make an entry of a lexicon
MIN_SHARE = 0.4  # of a word's occurrences, so many must have been linked with its translation
WITHOUT_SPACES = ("zh", "yue", "th", "lo", "km", "my", "bo", "dz")  # words cannot be found by a pattern

Lexicon = Mapping[str, str]  # a word (as `fold_word` has it) → an English word


@dataclass(frozen=True)
class PerturbationSettings:
    """How questions are perturbed; each field's help says what it is.

    Raises:
        UserError: for an unknown kind, a rate outside 0 to 1, lexicons that are not asked for.
    """

    kind: str = option(MISSING, "", *KINDS)
    rate: float = option(
        help="chance of each place (letter, mark, word) to be changed, from 0 to 1", least=0, most=1, metavar="R"
    )
    seed: int = option(42, "of the draws", least=0)
    parallel: tuple[str, ...] = option(
        (), "TSV (question, tab, its English) to learn words from; FILE alone for one language", metavar="xx=FILE"
    )
    dictionary: tuple[str, ...] = option((), "TSV (word, tab, English); goes before what is learnt", metavar="xx=FILE")

    def __post_init__(self) -> None:
        check_values(self)
        if self.kind != "code-switch" and (self.parallel or self.dictionary):
            raise UserError(
                f"parallel texts and dictionaries belong to code-switch, not to {self.kind}", ("parallel", "dictionary")
            )


class Place(NamedTuple):
    """A part of a text that can be changed, and what it becomes."""

    start: int
    end: int
    new: str


@cache
def _tables() -> dict[str, Any]:
    """Return the keyboards, habits and words of resources/perturb.yaml."""
    import yaml

    file = importlib.resources.files("xqg_pyserini.resources") / "perturb.yaml"
    return yaml.safe_load(file.read_text("utf-8"))


def perturb(
    text: str, language: str, kind: str, rate: float, seed: int, key: str, lexicon: Lexicon | None = None
) -> str:
    """Return a perturbed copy of a question.

    Every place that the kind could change (a letter, a mark, a word: docs/perturb.md) is changed with probability
    `rate`.  Where none would be and the rate is above 0, the place with the lowest draw is: a question with any place
    is never left as it was.

    Args:
        text: The question.
        language: Its code; it decides which keyboard, which habits of writing.
        kind: One of `KINDS`.
        rate: From 0 (nothing) to 1 (every place).
        seed: Of the draws, which depend on `seed`, `kind` and `key` only.
        key: What tells this question from the others: its id.
        lexicon: For code-switch: words of the language and their English ones.

    Raises:
        UserError: as `PerturbationSettings`; for code-switch without a lexicon.
    """
    PerturbationSettings(kind, rate, seed)  # raises for what is off
    if kind == "code-switch" and lexicon is None:
        raise UserError("code-switch takes a lexicon: words of the language and English ones")
    return _perturbed(Question(key, text, language), kind, rate, seed, lexicon or {})


def _perturbed(question: Question, kind: str, rate: float, seed: int, lexicon: Lexicon) -> str:
    draws = random.Random(_digest(str(seed), kind, question.id))
    base = base_language(str(question.language))
    rules = [_capitals, *_habits(base), _accents, _question_marks]
    if kind == "typos":
        rules = [lambda text: _typos(text, base, draws)]
    elif kind == "code-switch":
        rules = [lambda text: _switches(text, base, lexicon)]
    return _rewrite(question.text, rate, draws, rules) if rate else question.text


def _digest(*parts: str) -> int:
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())


Rule = Callable[[str], Sequence[Place]]


def _rewrite(text: str, rate: float, draws: random.Random, rules: Sequence[Rule]) -> str:
    """Apply rules one after the other, each at the places whose draw is below the rate."""
    new = text
    lowest: tuple[float, Place] | None = None
    for rule in rules:
        drawn = [(draws.random(), place) for place in rule(new)]
        if new == text and drawn:
            lowest = min([*([lowest] if lowest else []), min(drawn)])
        new = _apply(new, [place for draw, place in drawn if draw < rate])
    # edits may also undo each other: of aab, one a dropped and the other doubled
    return new if new != text or lowest is None else _apply(text, [lowest[1]])


def _apply(text: str, places: Iterable[Place]) -> str:
    """Put the new texts in, from left to right; of two that overlap, the first."""
    parts, end = [], 0
    for place in places:
        if place.start >= end:
            parts += [text[end : place.start], place.new]
            end = place.end
    return "".join([*parts, text[end:]])


# ---------------------------------------------------------------- typos

_WORDS = regex.compile(r"(?:(?=\p{L})\X)+")
_CLUSTER = regex.compile(r"\X")


@cache
def near_keys(language: str) -> dict[str, str]:
    """Return the letters of a language's keyboard (small ones), each with those of the keys around.

    Every language has the Latin rows, since Latin names stand in questions of all of them; other scripts only where
    resources/perturb.yaml has rows.
    """
    near: dict[str, str] = {}
    latin, other = _tables()["latin_rows"], _tables()["other_rows"]
    for rows in (latin.get(language, latin["default"]), other.get(language, ())):
        keys = {(r, c): key for r, row in enumerate(rows) for c, key in enumerate(row)}
        for (r, c), key in keys.items():
            # a row stands half a key to the right of the row above it
            around = [(0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0)]
            letters = [keys.get((r + down, c + right), " ") for down, right in around]
            near[key] = "".join(letters).replace(" ", "")
    near.pop(" ", None)
    return near


def _typos(text: str, language: str, draws: random.Random) -> list[Place]:
    """Return one typing error for each letter (a grapheme cluster) of a text."""
    places = []
    for word in _WORDS.finditer(text):
        letters = [(m.start() + word.start(), m.group()) for m in _CLUSTER.finditer(word.group())]
        for i, (start, letter) in enumerate(letters):
            follower = letters[i + 1][1] if i + 1 < len(letters) else ""
            # of a letter with marks, a mark is left out: nobody types a whole syllable twice
            marked = len(letter) > 1 and unicodedata.category(letter[-1]).startswith("M")
            choices = [Place(start, start + len(letter), letter[:-1] if marked else letter * 2)]
            if len(letters) > 1:
                choices.append(Place(start, start + len(letter), ""))
            if follower and follower != letter:
                end = start + len(letter) + len(follower)
                choices.append(Place(start, end, _swapped(letter, follower)))
            near = near_keys(language).get(letter.lower(), "")
            if near:
                key = near[int(draws.random() * len(near))]
                new = key.upper() if letter.isupper() else key
                choices.append(Place(start, start + len(letter), new))
            places.append(choices[int(draws.random() * len(choices))])
    return places


def _swapped(first: str, second: str) -> str:
    """Swap two letters; the capital stays in front: Kuka is typed Ukka."""
    if first.isupper() and second.islower() and len(first) == len(second) == 1:
        swapped = second.upper(), first.lower()
        if [len(c) for c in swapped] == [1, 1] and "".join(swapped) != first + second:
            return "".join(swapped)
    return second + first


# ---------------------------------------------------------------- script


def _letters(table: Mapping[str, str]) -> Rule:
    """Return the rule that replaces single characters; a key of the table may be several of them."""
    new = {letter: written for letters, written in table.items() for letter in letters}
    return lambda text: [Place(i, i + 1, new[c]) for i, c in enumerate(text) if c in new]


def _replacing(pattern: str, new: Callable[[str], str]) -> Rule:
    """Return the rule that replaces what a pattern finds."""
    compiled = regex.compile(pattern)

    def rule(text: str) -> list[Place]:
        places = (Place(m.start(), m.end(), new(m.group())) for m in compiled.finditer(text))
        return [place for place in places if text[place.start : place.end] != place.new]

    return rule


_capitals = _replacing(r"\p{L}[\p{L}\p{M}]*", str.lower)


def _plain(letter: str) -> str:
    """Return a letter without its accents."""
    parts = unicodedata.normalize("NFD", _tables()["strokes"].get(letter, letter))
    return "".join(c for c in parts if not unicodedata.combining(c))


_accents = _replacing(r"(?:(?=[\p{Latin}\p{Greek}])\X)", _plain)
_question_marks = _replacing(r"\s*[?？؟]+\s*$", lambda _: "")
_HIRAGANA_TO_KATAKANA = {c: c + 0x60 for c in range(0x3041, 0x3097)}
_KATAKANA_TO_HIRAGANA = {to: c for c, to in _HIRAGANA_TO_KATAKANA.items()}
_WIDE = {c: c + 0xFEE0 for c in range(0x21, 0x7F)}
_NARROW = {wide: c for c, wide in _WIDE.items()}
_WIDTHS = r"[0-9A-Za-z]+|[\uFF10-\uFF19\uFF21-\uFF3A\uFF41-\uFF5A]+"


def _other_kana(run: str) -> str:
    return run.translate(_HIRAGANA_TO_KATAKANA if "ぁ" <= run[0] <= "ゖ" else _KATAKANA_TO_HIRAGANA)


_JAPANESE = (
    _replacing(_WIDTHS, lambda run: run.translate(_NARROW if ord(run[0]) > 0x7F else _WIDE)),
    _replacing(r"[ァ-ヺー]{2,}|[ぁ-ゖ][ぁ-ゖー]+", _other_kana),
)


@cache
def _habits(language: str) -> Sequence[Rule]:
    """Return what people do when they write a language carelessly: docs/perturb.md has the table."""
    if language == "ja":
        return _JAPANESE
    rules = _tables()["habits"].get(language, ())
    return [_letters(r["letters"]) if "letters" in r else _replacing(r["drop"], lambda _: "") for r in rules]


# ---------------------------------------------------------------- code-switch

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}\u200c\u200d]+(?:['’-][\p{L}\p{M}\p{N}]+)*")
# Kanji runs and katakana runs are mostly content words; hiragana is mostly endings and particles
_JAPANESE_WORD = regex.compile(r"[\p{Han}々]+|[ァ-ヺー]+|[\p{Latin}\p{N}]+")


def fold_word(word: str) -> str:
    """Return the form in which words are looked up: NFC, lower case, no joiners or stress marks."""
    plain = unicodedata.normalize("NFC", word).lower()
    return regex.sub(r"[\u200c\u200d\u0301]", "", plain)


def words_of(text: str, language: str) -> list[Place]:
    """Return the words of a text, each where it stands and folded; none where it cannot be done.

    Japanese has no spaces: its words are the runs of kanji and the runs of katakana.  Chinese, Thai, Lao, Khmer,
    Burmese, Tibetan and Dzongkha have none, and no runs either.
    """
    if language in WITHOUT_SPACES:
        return []
    pattern = _JAPANESE_WORD if language == "ja" else _WORD
    return [Place(m.start(), m.end(), fold_word(m.group())) for m in pattern.finditer(text)]


def _switches(text: str, language: str, lexicon: Lexicon) -> list[Place]:
    """Return the words that the lexicon has, and their English ones."""
    known = [place for place in words_of(text, language) if place.new in lexicon]
    if language == "ja":
        starts, ends = {place.start for place in known}, {place.end for place in known}
        return [
            # Latin words do not run together with others, nor with digits
            place._replace(
                new=" " * (_is_latin(text[place.start - 1 : place.start]) or place.start in ends)
                + lexicon[place.new]
                + " " * (_is_latin(text[place.end : place.end + 1]) and place.end not in starts)
            )
            for place in known
        ]
    return [place._replace(new=lexicon[place.new]) for place in known]


def _is_latin(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def learn_lexicon(pairs: Iterable[tuple[str, str]], language: str) -> dict[str, str]:
    """Learn an English word for each word of a language from (text, English translation) pairs.

    1. For words s and t that stand together in n_st of n pairs, the association is Dunning's log-likelihood ratio of
       the 2×2 table of n_st, n_s and n_t, where n_st > n_s·n_t / n.
    2. In each pair words are linked one to one, the strongest association first.
    3. s is translated by the t it was linked with most often, if that was at least `MIN_LINKS` times and in `MIN_SHARE`
       of the pairs with s.

    Counts are of pairs, not of occurrences.  Numbers and words of English grammar are left out.  Ties are broken by the
    words themselves, so that the order of pairs does not matter.  A language whose words cannot be found has no entry.
    """
    base = base_language(language)
    grammar = set(_tables()["grammar_words"])
    sentences = [
        (_vocabulary(text, base), [w for w in _vocabulary(to, "en") if w not in grammar]) for text, to in pairs
    ]
    sources = Counter(s for words, _ in sentences for s in words)
    targets = Counter(t for _, english in sentences for t in english)
    together = Counter((s, t) for words, english in sentences for s in words for t in english)
    strength = {
        (s, t): _likelihood_ratio(n, sources[s], targets[t], len(sentences))
        for (s, t), n in together.items()
        if n * len(sentences) > sources[s] * targets[t] and n >= MIN_LINKS
    }
    links: Counter[tuple[str, str]] = Counter()
    for words, english in sentences:
        links.update(_linked(words, english, strength))
    lexicon: dict[str, str] = {}
    for (s, t), n in sorted(links.items(), key=lambda item: (-item[1], item[0])):
        if n >= MIN_LINKS and n >= MIN_SHARE * sources[s] and s not in lexicon:
            lexicon[s] = t
    return dict(sorted((s, t) for s, t in lexicon.items() if s != t))


def _vocabulary(text: str, language: str) -> list[str]:
    """Return the words of a text that have a letter, each once."""
    return sorted({place.new for place in words_of(text, language) if not place.new.isdecimal()})


def _linked(
    words: Iterable[str], english: Sequence[str], strength: Mapping[tuple[str, str], float]
) -> Iterator[tuple[str, str]]:
    pairs = [(s, t) for s in words for t in english if (s, t) in strength]
    done: tuple[set[str], set[str]] = set(), set()
    for s, t in sorted(pairs, key=lambda pair: (-strength[pair], pair)):
        if s not in done[0] and t not in done[1]:
            done[0].add(s)
            done[1].add(t)
            yield s, t


def _likelihood_ratio(both: int, first: int, second: int, n: int) -> float:
    """Return -2 log λ of independence, from how many of n pairs hold both words, each word."""
    table = (
        (both, first * second),
        (first - both, first * (n - second)),
        (second - both, (n - first) * second),
        (n - first - second + both, (n - first) * (n - second)),
    )
    return 2 * sum(seen * math.log(seen * n / product) for seen, product in table if seen)


# ---------------------------------------------------------------- files


def read_pairs(source: str | Path) -> Iterator[tuple[str, str]]:
    """Yield the two cells of each line of a TSV file, or raise `UserError`."""
    empty = True
    for line in (line for path in expand(source) for line in read_lines(path)):
        cells = line.text.split("\t")
        if len(cells) != 2 or not all(cell.strip() for cell in cells):
            raise line.error("expected a text, a tab and its English")
        empty = False
        yield cells[0], cells[1]
    if empty:
        raise UserError(f"{source}: nothing in it; expected lines of a text, a tab, its English")


def read_dictionary(source: str | Path) -> dict[str, str]:
    """Read TSV `word<TAB>english`; of several lines for one word the first holds."""
    words: dict[str, str] = {}
    for word, english in read_pairs(source):
        words.setdefault(fold_word(word.strip()), english.strip())
    return words


def lexicon_files(given: Sequence[str], languages: Sequence[str], setting: str) -> dict[str, str]:
    """Return language → file from arguments such as ar=FILE, or FILE for the only language."""
    files: dict[str, str] = {}
    for text in given:
        language, equals, path = text.partition("=")
        if not (equals and LANGUAGE_CODE.fullmatch(language)):
            if len(languages) != 1:
                raise UserError(
                    f"{setting} {text}: the questions are in {' '.join(languages)}; "
                    f"say which this is for, as {languages[0]}={text}",
                    setting,
                )
            language, path = languages[0], text
        else:
            check_languages([language])
            language = find_language(language, languages) or language
        if language in files:
            raise UserError(f"{setting} is given twice for {language}", setting)
        files[language] = path
    return files


def perturb_questions(
    questions: QuestionsLike, output: str | Path, perturbation: PerturbationSettings, *, language: str | None = None
) -> dict[str, Any]:
    """Write a perturbed copy of questions; return what was done, as `--json` prints it.

    The copy is JSON Lines with the fields of the original (id, question, lang where there are no others); `language` is
    given to questions that name none.

    Raises:
        UserError: for a question without language, a kind without its lexicon, any bad file.
    """
    source: Any = questions
    if isinstance(questions, str | os.PathLike):
        source = QuestionFiles(questions, language)
    elif not isinstance(questions, QuestionFiles | Mapping):
        source = list(questions)
    how = perturbation
    lexica = [text.partition("=")[2] or text for text in (*how.parallel, *how.dictionary)]
    check_file(output, [*paths_of(source), *lexica])
    asked = as_questions(source, language)
    for question in asked:
        if question.language is None:
            raise UserError(f"question {question.id!r} has no language: give it", "language")
    languages = sorted({str(question.language) for question in asked})
    lexicons = _lexicons(how, languages, asked)
    named = source.question_field if isinstance(source, QuestionFiles) else None
    changed: Counter[str] = Counter()
    with writing(output) as file:
        bar = tqdm(asked, "perturbing", unit=" questions", disable=None)
        for question, record in zip(bar, _records(source), strict=True):
            lexicon = lexicons.get(str(question.language), {})
            text = _perturbed(question, how.kind, how.rate, how.seed, lexicon)
            changed[str(question.language)] += text != question.text
            file.write(json.dumps(_with(record, text, question, named), ensure_ascii=False) + "\n")
    counts = Counter(str(question.language) for question in asked)
    report = {"output": str(output), "kind": how.kind, "rate": how.rate, "seed": how.seed}
    report |= {"questions": len(asked), "changed": changed.total()}
    report["languages"] = {l: {"questions": counts[l], "changed": changed[l]} for l in languages}
    if how.kind == "code-switch":
        report["lexicon"] = {l: len(lexicons.get(l, {})) for l in languages}
    return report


def _records(source: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the records of questions that have been read before; empty for those that are none."""
    if isinstance(source, QuestionFiles):
        yield from (record for _, _, record in question_records(source))
        return
    for value in source:
        answers = {"answers": list(value.answers)} if isinstance(value, Question) else {}
        yield value if isinstance(value, dict) else answers


def _with(record: Mapping[str, Any], text: str, question: Question, named: str | None) -> dict[str, Any]:
    """Return a record with another text, and with the question's id and language."""
    name = named or question_key(record)
    if name is None or not record:
        return {"id": question.id, "question": text, "lang": question.language, **record}
    new = {**record, name: text}
    if question.id not in map(str, record.values()):  # it begins with the file's language, or is its number
        new = {**new, "id": question.id}
    if record.get("lang", record.get("language")) is None:
        new["lang"] = question.language
    return new


def _lexicons(
    how: PerturbationSettings, languages: Sequence[str], questions: Sequence[Question]
) -> dict[str, dict[str, str]]:
    """Return language → lexicon, and warn about what cannot be switched or would leak."""
    if how.kind != "code-switch":
        return {}
    if not (how.parallel or how.dictionary):
        raise UserError(
            "code-switch takes parallel texts (text, tab, English) or a dictionary (word, tab, English)",
            ("parallel", "dictionary"),
        )
    lexicons: dict[str, dict[str, str]] = {}
    asked = {question.text.strip() for question in questions}
    for language, path in lexicon_files(how.parallel, languages, "parallel").items():
        pairs = list(read_pairs(path))
        leaks = len(asked & {text.strip() for text, _ in pairs})
        if leaks:
            warn(
                f"{leaks} of the questions stand in {path}: words are learnt from their own "
                "translations; learn from other questions"
            )
        lexicons[language] = learn_lexicon(pairs, language)
    for language, path in lexicon_files(how.dictionary, languages, "dictionary").items():
        # a dictionary takes precedence over what was learnt
        lexicons[language] = lexicons.get(language, {}) | read_dictionary(path)
    for language in languages:
        if base_language(language) in WITHOUT_SPACES:
            warn(f"{language} is written without spaces: its questions are left as they are")
        elif not lexicons.get(language):
            warn(f"no word of {language} is in a lexicon: its questions are left as they are")
    return lexicons
