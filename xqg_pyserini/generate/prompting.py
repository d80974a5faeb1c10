"""A model's prompts: templates filled, tokenised, and cut where a passage is too long.

What a generator is trained on and what it is asked later are made here, so that both are alike.
Knows a tokenizer; knows no model.
"""

from collections.abc import Sequence
from typing import Any

from xqg_pyserini.data import Passage
from xqg_pyserini.errors import UserError
from xqg_pyserini.generate.prompts import PromptTemplate


class PromptMaker:
    """Makes the prompts of passages.

    Args:
        tokenizer: of the model.
        template: the prompt.
        longest: most tokens of a prompt; of a longer one the passage is cut at its end.
        chat: put the prompt into the tokenizer's chat template.
        flag: the setting that `longest` comes from, for errors.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: PromptTemplate,
        longest: int,
        chat: bool = False,
        flag: str = "--max-input-tokens",
    ) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._longest, self._chat, self._flag = longest, chat, flag

    def make(self, places: Sequence[tuple[Passage, str]]) -> list[tuple[str, list[int], bool]]:
        """Return text, tokens and whether it was cut for each passage and language."""
        texts = [self._text(passage, language) for passage, language in places]
        made = []
        for place, text, tokens in zip(places, texts, self._tokens(texts), strict=True):
            cut = len(tokens) > self._longest
            if cut:
                text, tokens = self._shortened(*place)
            made.append((text, tokens, cut))
        return made

    def _text(self, passage: Passage, language: str, text: str | None = None) -> str:
        filled = self._template.fill(passage, language, text)
        if not self._chat:
            return filled
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": filled}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # of models that think before they answer; others ignore it
        )

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # a chat template writes the special tokens itself
        return self._tokenizer(texts, add_special_tokens=not self._chat)["input_ids"]

    def _shortened(self, passage: Passage, language: str) -> tuple[str, list[int]]:
        """Return a prompt whose passage is cut at its end until the whole of it fits."""
        text = self._text(passage, language)
        (tokens,) = self._tokens([text])
        pieces = self._tokenizer(passage.text, add_special_tokens=False)["input_ids"]
        keep = len(pieces)
        while len(tokens) > self._longest:
            keep -= len(tokens) - self._longest
            if keep < 1 and passage.title:  # a title as long as a passage: do without
                return self._shortened(passage._replace(title=""), language)
            if keep < 1:
                raise UserError(
                    f"{self._flag} {self._longest} leaves no room for passage {passage.id!r} "
                    "beside the rest of its prompt; expected more"
                )
            kept = self._tokenizer.decode(pieces[:keep], skip_special_tokens=True).strip()
            text = self._text(passage, language, kept)
            (tokens,) = self._tokens([text])
        return text, tokens
