"""Languages: their codes (BCP 47, ISO 639), which of them are one, their names and scripts.

What is known of them is langcodes' (the registry of IANA, and CLDR).  A code stays as it was typed; whether two are one
language is asked here alone, so that `hau` finds what is stored as `ha`.
"""

import difflib
import functools
import re
from collections.abc import Iterable
from typing import Any

from xqg_pyserini.errors import UserError

LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8})*")  # the form of a code, known or not
NO_LANGUAGE = "und"  # ISO 639: undetermined
_NAMES = {"bn": "Bengali"}  # as the published generator was asked; CLDR says Bangla


def language_fault(code: Any) -> str | None:
    """Say in a line what is wrong with a language code, and which one may be meant; None where nothing is wrong."""
    if isinstance(code, str) and _known(code):
        return None
    near = _nearest(code) if isinstance(code, str) and "\0" not in code else None  # which marisa-trie does not stand
    hint = f" (do you mean {near}?)" if near else ""
    return f"unknown language code {code!r:.60}{hint}: expected BCP 47 or ISO 639, e.g. fi hau pt-BR"


def check_languages(codes: Iterable[str]) -> tuple[str, ...]:
    """Return codes as they are, each known and no two of one language, or raise `UserError`."""
    out: list[str] = []
    for code in codes:
        if fault := language_fault(code):
            raise UserError(fault)
        if (same := find_language(code, out)) is not None:
            again = f"language {code!r} is given twice"
            raise UserError(again if same == code else f"{again}: {same!r} and {code!r} are one")
        out.append(code)
    return tuple(out)


@functools.cache
def _known(code: str) -> bool:
    import langcodes

    return LANGUAGE_CODE.fullmatch(code) is not None and langcodes.tag_is_valid(code)


def _nearest(code: str) -> str | None:
    """Return the code that another spelling, a name, a country or a slip of the pen was meant for."""
    import langcodes
    from langcodes.language_lists import CLDR_LANGUAGES

    def of_country() -> str:
        language = str(langcodes.Language.get(f"und-{code}").maximize().language)
        return "" if language == "en" else language  # which langcodes says of what it does not know

    guesses = [
        lambda: langcodes.standardize_tag(code.strip()),  # pt_br, FI
        lambda: langcodes.find(code).to_tag() if len(code) > 3 else "",  # Finnish, suomi
        of_country,  # jp, cz
        lambda: code.split("-")[0],  # fi-Finland
    ]
    for guess in guesses:
        try:
            found = guess()
        except (LookupError, ValueError):  # no such name, no tag
            continue
        if _known(found):
            return found
    names = {language_name(l).lower(): l for l in CLDR_LANGUAGES}
    close = difflib.get_close_matches(code.lower(), [*sorted(names.values()), *sorted(names)], 1, 0.75)
    return names.get(close[0], close[0]) if close else None


@functools.cache
def _parts(code: str) -> Any:
    """Return a code's parts; those of the macrolanguage for its main language (arb: ar), as CLDR has it."""
    import langcodes

    return langcodes.Language.get(code).prefer_macrolanguage()


@functools.cache
def _key(code: str) -> str:
    """Return what codes of one language share; a code that is none (of an old file) is one by itself."""
    return _parts(code).simplify_script().to_tag() if _known(code) else code


def base_language(code: str) -> str:
    """Return a code's language without script, region and the like: ar for `ar-EG`, `ara` and `arb`."""
    return _parts(code).language or NO_LANGUAGE if _known(code) else code


def macrolanguage(code: str) -> str:
    """Return the macrolanguage that a code belongs to, or its base language: `no` for nb and nn, `ms` for id."""
    from langcodes.data_dicts import MACROLANGUAGES

    base = base_language(code)
    return MACROLANGUAGES.get(base, base)


def find_language(code: str | None, among: Iterable[str]) -> str | None:
    """Return which of some codes is the same language as `code`, as it is written there; None where none is.

    Codes of ISO 639-1, 639-2 and 639-3 are one (`ha`, `hau`), and old ones with new ones (`iw`, `he`).  Scripts and
    regions tell languages apart: a question in `pt-BR` is in none of `pt` and `pt-PT`.
    """
    if code is None:
        return None
    among = list(among)
    return code if code in among else next((one for one in among if _key(one) == _key(code)), None)


def same_language(first: str, second: str) -> bool:
    """Tell whether two codes are one language, as `find_language` does."""
    return _key(first) == _key(second)


def are_variants(first: str, second: str) -> bool:
    """Tell whether two codes are one language or kinds of one: `fi` and `fi-FI`; `zh-Hant`, `zh-Hans`; `no`, `nb`."""
    bases = {base_language(first), base_language(second)}
    return len(bases) == 1 or bases == {"no", "nb"}  # Norwegian is Bokmål where it is not said to be Nynorsk


def nearest_language(code: str, among: Iterable[str]) -> str | None:
    """Return the code of `among` that a model serves a language by, None where there is none.

    That is one of the same language, or else of a member of its macrolanguage (`nob` for `no`), nearest in script and
    region; never one in another script than the code names.
    """
    import langcodes
    from langcodes.data_dicts import MACROLANGUAGES

    wanted = langcodes.Language.get(code)

    def serves(other: str) -> bool:
        base = str(langcodes.Language.get(other).language)
        one = are_variants(code, other) or MACROLANGUAGES.get(base) == wanted.language
        return one and wanted.script in (None, language_script(other))

    def distance(other: str) -> tuple[int, bool]:
        exact = langcodes.Language.get(other, normalize=False).to_alpha3() == wanted.to_alpha3()
        return langcodes.tag_distance(wanted, other), not exact

    return min(filter(serves, among), key=distance, default=None)


def language_name(code: str) -> str:
    """Return a language's English name, as prompts use it: Finnish, Portuguese (Brazil)."""
    import langcodes

    name = _NAMES.get(base_language(code)) or langcodes.Language.get(code).display_name()
    return name.replace(" (individual language)", "")  # swh, beside swa


def language_code3(code: str) -> str:
    """Return a language as its code of ISO 639-3 and its script: fin-Latn; without a script that is not known."""
    return "-".join(filter(None, (_parts(code).to_alpha3(), language_script(code))))


def language_script(code: str) -> str | None:
    """Return the script that a language is mostly written in (ISO 15924), None where that is not known.

    The script that the code itself names (`sr-Latn`, `zh-Hant`) goes first.
    """
    from langcodes.data_dicts import LIKELY_SUBTAGS

    parts = _parts(code)
    return parts.script or (parts.maximize().script if parts.language in LIKELY_SUBTAGS else None)
