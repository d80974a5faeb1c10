"""Prompts: templates with the fields {language}, {code}, {title}, {passage}, filled and cut.

A template is filled in one pass, so that braces in a passage are text.  What a generator is trained on and what it is
asked later are both made here, so that they are alike.
"""

import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xqg_pyserini.data import Passage, language_name
from xqg_pyserini.errors import UserError

FIELDS = ("language", "code", "title", "passage")
_FIELD = re.compile(r"\{([a-z_]+)\}")
_MEANT = re.compile(r"\{\s*(" + "|".join(FIELDS) + r")\s*\}", re.IGNORECASE)
_UNTITLED = re.compile(r"\{title\}[ \t]*")


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt for one passage and one language, checked when it is made.

    `{language}` is the language's English name, `{code}` its code; `{title}` and the blanks after it vanish where a
    passage has no title.  Raises `UserError` where {passage} or a language field is missing, or a field is unknown.
    """

    text: str
    where: str = "the prompt"

    def __post_init__(self) -> None:
        fields = _FIELD.findall(self.text)
        for field in fields:
            if field not in FIELDS:
                expected = ", ".join(f"{{{name}}}" for name in FIELDS)
                raise UserError(f"{self.where}: unknown field {{{field}}}; expected {expected}")
        for meant in _MEANT.finditer(self.text):
            if not _FIELD.fullmatch(meant[0]):
                raise UserError(f"{self.where}: {meant[0]}; write {{{meant[1].lower()}}}")
        if fields.count("passage") != 1:
            times = fields.count("passage")
            raise UserError(
                f"{self.where}: holds {{passage}} {times} times; expected once, where the passage's text goes"
            )
        if "language" not in fields and "code" not in fields:
            raise UserError(f"{self.where}: lacks {{language}} (the language's English name; or {{code}})")

    def fill(self, passage: Passage, language: str, text: str | None = None) -> str:
        """Return the prompt; `text` stands for the passage's own where it had to be cut."""
        values = {
            "language": language_name(language),
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


@dataclass
class PromptMaker:
    """Makes the prompts of passages; of a prompt that is too long the passage is cut at its end."""

    tokenizer: Any  # of the model
    template: PromptTemplate
    longest: int  # most tokens of a prompt
    chat: bool = False  # put the prompt into the tokenizer's chat template
    setting: str = "max_input_tokens"  # the one that `longest` comes from, for errors

    def make(self, asked: Sequence[tuple[Passage, str]]) -> list[tuple[str, list[int], bool]]:
        """Return text, tokens and whether it was cut for each passage and language."""
        texts = [self._text(passage, language) for passage, language in asked]
        made = []
        for one, text, tokens in zip(asked, texts, self._tokens(texts), strict=True):
            cut = len(tokens) > self.longest
            if cut:
                text, tokens = self._shortened(*one)
            made.append((text, tokens, cut))
        return made

    def _text(self, passage: Passage, language: str, text: str | None = None) -> str:
        filled = self.template.fill(passage, language, text)
        if not self.chat:
            return filled
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": filled}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # of models that think before they answer; others ignore it
        )

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # a chat template writes the special tokens itself
        return self.tokenizer(texts, add_special_tokens=not self.chat)["input_ids"]

    def _shortened(self, passage: Passage, language: str) -> tuple[str, list[int]]:
        """Return a prompt whose passage is cut at its end until the whole of it fits."""
        text = self._text(passage, language)
        (tokens,) = self._tokens([text])
        pieces = self.tokenizer(passage.text, add_special_tokens=False)["input_ids"]
        keep = len(pieces)
        while len(tokens) > self.longest:
            keep -= len(tokens) - self.longest
            if keep < 1 and passage.title:  # a title as long as a passage: do without
                return self._shortened(passage._replace(title=""), language)
            if keep < 1:
                raise UserError(
                    f"{self.setting} {self.longest} leaves no space for passage {passage.id!r} "
                    "beside the rest of its prompt; expected more",
                    self.setting,
                )
            kept = self.tokenizer.decode(pieces[:keep], skip_special_tokens=True).strip()
            text = self._text(passage, language, kept)
            (tokens,) = self._tokens([text])
        return text, tokens
