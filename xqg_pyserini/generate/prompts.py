"""Prompt templates: text with the fields {language}, {code}, {title} and {passage}.

A template is filled in one pass, so that braces in a passage are text.  Knows no model.
"""

import importlib.resources
import re
from dataclasses import dataclass
from pathlib import Path

from xqg_pyserini.data import Passage, languages
from xqg_pyserini.errors import UserError

FIELDS = ("language", "code", "title", "passage")
_FIELD = re.compile(r"\{([a-z_]+)\}")
_MEANT = re.compile(r"\{\s*(" + "|".join(FIELDS) + r")\s*\}", re.IGNORECASE)
_UNTITLED = re.compile(r"\{title\}[ \t]*")


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt for one passage and one language, checked when it is made.

    `{language}` is the language's English name, `{code}` its code; `{title}` and the blanks after
    it vanish where a passage has no title.
    Raises `UserError` where {passage} or a language field is missing, or a field is unknown.
    """

    text: str
    where: str = "the prompt"

    def __post_init__(self) -> None:
        found = _FIELD.findall(self.text)
        for field in found:
            if field not in FIELDS:
                raise UserError(
                    f"{self.where}: unknown field {{{field}}}; expected "
                    + ", ".join(f"{{{name}}}" for name in FIELDS)
                )
        for meant in _MEANT.finditer(self.text):
            if not _FIELD.fullmatch(meant[0]):
                raise UserError(f"{self.where}: {meant[0]}; write {{{meant[1].lower()}}}")
        if found.count("passage") != 1:
            raise UserError(
                f"{self.where}: holds {{passage}} {found.count('passage')} times; "
                "expected once, where the passage's text goes"
            )
        if "language" not in found and "code" not in found:
            raise UserError(
                f"{self.where}: lacks {{language}} (the language's English name; or {{code}})"
            )

    def fill(self, passage: Passage, language: str, text: str | None = None) -> str:
        """Return the prompt; `text` stands for the passage's own where it had to be cut."""
        values = {
            "language": languages()[language]["name"],
            "code": language,
            "title": passage.title,
            "passage": passage.text if text is None else text,
        }
        template = self.text if passage.title.strip() else _UNTITLED.sub("", self.text)
        return _FIELD.sub(lambda match: values[match[1]], template)


def read_template(path: str | Path) -> PromptTemplate:
    """Read a template from a file of the user's; line ends at its end are left out."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error} (expected a prompt file)") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; convert it") from None
    return PromptTemplate(text.rstrip("\r\n"), str(path))


def shipped_template(name: str) -> PromptTemplate:
    """Return a template of resources/prompts: question (published), few-shot, chat."""
    file = importlib.resources.files("xqg_pyserini.resources") / "prompts" / f"{name}.txt"
    return PromptTemplate(file.read_text("utf-8").rstrip("\n"), f"prompts/{name}.txt")
