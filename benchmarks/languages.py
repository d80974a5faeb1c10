"""What the rule "language" drops: of people's questions in their own language, and of those put among another's.

    python benchmarks/languages.py [--django FOLDER]

reads the questions of `$XQG_SHARED/data` (default ../shared), and with --django the translations in Django's package,
where there are sentences in languages that are near each other.
"""

import argparse
import gettext
import json
import os
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from xqg_pyserini.data import language_name
from xqg_pyserini.generate.identify import identification, in_other_language, is_known, warn_unknown

PLANTED = 300  # questions of each other language
NEAR = (
    "nb", "nn", "da", "sv", "id", "ms", "hr", "bs", "sr", "sr_Latn", "cs", "sk", "sl", "es", "pt", "pt_BR", "gl", "ca",
    "nl", "af", "uk", "ru", "be", "bg", "mk", "hi", "ne", "mr", "tr", "az",
)  # fmt: skip


def questions(root: Path) -> dict[str, list[str]]:
    """Return language → its distinct questions; those of `en*` are XOR-TyDi's translations."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for path in sorted(root.rglob("*")):
        if path.name.startswith(("questions.", "queries.", "xor_")):
            _lines(path, found)
        elif path.name.startswith("xquad."):
            for article in json.loads(path.read_text("utf-8"))["data"]:
                for asked in (asked for paragraph in article["paragraphs"] for asked in paragraph["qas"]):
                    found[path.name.split(".")[1]][asked["question"]] = None
        elif path.name.endswith("-en.en.txt"):
            found["en*"].update(dict.fromkeys(filter(None, map(str.strip, path.read_text("utf-8").split("\n")))))
    return {language: list(texts) for language, texts in sorted(found.items())}


def _lines(path: Path, found: dict[str, dict[str, None]]) -> None:
    for line in path.read_text("utf-8").splitlines():
        record: dict[str, Any] = json.loads(line)
        language = str(record.get("lang") or path.name.split(".")[1]).strip()
        found[language][record["question"]] = None


def share(texts: list[str], language: str) -> str:
    dropped = sum(in_other_language(text, language) for text in texts)
    return f"{100 * dropped / len(texts):.2f}"


def translations(folder: Path, locale: str) -> list[str]:
    """Return the sentences of one of Django's languages: three words or more, without placeholders."""
    texts: dict[str, None] = {}
    for path in sorted(folder.glob(f"**/locale/{locale}/LC_MESSAGES/django.mo")):
        with open(path, "rb") as file:
            texts.update(dict.fromkeys(map(str, gettext.GNUTranslations(file)._catalog.values())))
    return [text for text in texts if 15 <= len(text) <= 120 and len(text.split()) > 2 and not set("%{") & set(text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--django", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    draws = random.Random(1)
    asked = questions(Path(os.environ.get("XQG_SHARED", "../shared")) / "data")
    print(identification())
    warn_unknown(asked.keys() - {"en*"})
    print("language | questions | own dropped, % | English found, % | others found, %")
    for language, own in asked.items():
        code = language.rstrip("*")
        others = {l: draws.sample(texts, min(PLANTED, len(texts))) for l, texts in asked.items() if l[:2] != code[:2]}
        english = share(others["en"], code) if code != "en" else "-"
        every = share([text for l, texts in others.items() if l[:2] != "en" and is_known(l) for text in texts], code)
        print(f"{language} {language_name(code)} | {len(own)} | {share(own, code)} | {english} | {every}")
    if args.django:
        print("language | sentences | own dropped, %")
        for locale in NEAR:
            texts = translations(args.django, locale)
            print(f"{locale} | {len(texts)} | {share(texts, locale.replace('_', '-'))}")


if __name__ == "__main__":
    main()
