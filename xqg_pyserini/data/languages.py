"""Languages: their codes, names and scripts."""

import functools
import importlib.resources
import re
from collections.abc import Iterable

from xqg_pyserini.errors import UserError

LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
NO_LANGUAGE = "und"  # ISO 639: undetermined


@functools.cache
def languages() -> dict[str, dict[str, str]]:
    """Return the known languages: ISO 639-1 code → `name` (English) and `script` (ISO 15924)."""
    import yaml

    text = importlib.resources.files("xqg_pyserini.resources").joinpath("languages.yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text.read_text("utf-8"), loader)


def check_languages(codes: Iterable[str]) -> tuple[str, ...]:
    """Return the codes that a user typed, each known and none twice, or raise `UserError`."""
    out: list[str] = []
    for code in codes:
        if code not in languages():
            close = [c for c, entry in languages().items() if entry["name"].lower() == code.lower()]
            hint = f" (do you mean {close[0]}?)" if close else ""
            raise UserError(f"unknown language code {code!r}{hint}: expected ISO 639-1, e.g. ar bn fi")
        if code in out:
            raise UserError(f"language {code!r} is given twice")
        out.append(code)
    return tuple(out)
