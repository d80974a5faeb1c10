"""Generators of a server, `openai:MODEL@URL`: POST /chat/completions or /completions of the OpenAI protocol.

Whether the same seed gives the same text is the server's affair; what it is asked depends on the run's seed, the
passage, the language and the query's number alone.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from xqg_pyserini.data import Passage
from xqg_pyserini.errors import UserError
from xqg_pyserini.generate.base import Prompt, QueryGenerator, first_query
from xqg_pyserini.generate.prompts import PromptTemplate
from xqg_pyserini.generate.sampling import stream_seed
from xqg_pyserini.models.server import Nonsense, Refused, Server, address_of, decoded

_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_ONE_ALONE = re.compile(r"\bn\b|choice|completion", re.IGNORECASE)  # of a server that writes no more than one text


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    index: int
    text: str | None = None  # of a completion
    message: _Message | None = None  # of a chat


class _Choices(msgspec.Struct):
    choices: list[_Choice]


class _Whole(NamedTuple):
    """Makes prompts of whole passages: which tokens they have, the server knows."""

    template: PromptTemplate

    def make(self, asked: Sequence[tuple[Passage, str]]) -> list[tuple[str, list[int], bool]]:
        return [(self.template.fill(passage, language), [], False) for passage, language in asked]


class Served(QueryGenerator):
    """A model behind a URL; the first line that holds something is a query.

    A request asks for all queries of a passage in a language, and, where the server gives fewer, another one for the
    rest.  So many are on their way as write `batch_size` queries.
    """

    def _prompt_maker(self, device: str) -> _Whole:
        return _Whole(self.settings.template)

    def _load(self) -> None:
        at_once = max(1, self.batch_size // self.settings.num_queries)
        self._server, self._one = Server(address_of(self.settings.model), at_once), False

    def _written(self, prompts: list[Prompt]) -> Iterator[list[tuple[Prompt, list[str]]]]:
        for i, texts in self._server.each(self._queries, prompts):
            yield [(prompts[i], texts)]

    def _queries(self, prompt: Prompt) -> list[str]:
        number, texts = self.settings.num_queries, list[str]()
        drawn = 1 if self.settings.top_k == 1 else number  # greedy ones are all alike
        while len(texts) < drawn:
            texts += self._drawn(prompt, len(texts), drawn - len(texts))
        return texts * (number // drawn)

    def _drawn(self, prompt: Prompt, first: int, number: int) -> list[str]:
        """Return at least one query of those from the `first` on, at most `number`."""
        settings, number = self.settings, 1 if self._one else number
        # 31 bits: some take it for an int32, and llama.cpp takes 2³² - 1 for none
        seed = stream_seed(settings.seed, [prompt.docid, prompt.language, first]) >> 1
        body: dict[str, Any] = {"n": number, "seed": seed}
        body |= {"temperature": settings.temperature, "top_p": settings.top_p, "max_tokens": settings.max_new_tokens}
        body |= {"top_k": settings.top_k} if settings.top_k else {}
        try:
            if settings.chat:
                return self._asked(prompt, body | {"messages": [{"role": "user", "content": prompt.text}]})
            texts = self._asked(prompt, body | {"prompt": prompt.text, "stop": ["\n"]})
            if not all(texts):  # a line end came first; drawn again by the same seed, they go on behind it
                again = self._asked(prompt, body | {"prompt": prompt.text})
                texts = [text or other for text, other in zip(texts, again, strict=False)]
            return texts
        except Refused as error:
            if "top_k" in body and "top_k" in error.said:  # which the protocol does not know
                raise UserError(f"{error}; a top_k of 0 is not sent", "top_k") from None
            if number == 1 or error.status not in (400, 422) or not _ONE_ALONE.search(error.said):
                raise UserError(f"{error} (passage {prompt.docid!r}, {len(prompt.text)} characters)") from None
            self._one = True
        return self._drawn(prompt, first, 1)

    def _asked(self, prompt: Prompt, body: dict[str, Any]) -> list[str]:
        path = "chat/completions" if self.settings.chat else "completions"
        texts = self._server.ask(path, body, partial(_read, body["n"]))
        return [first_query(self._spoken(text)) for text in texts]

    def _spoken(self, text: str) -> str:
        """Return a text without what a model thinks before it."""
        spoken = _THOUGHT.sub("", text, count=1) if text.lstrip().startswith("<think>") else text
        if spoken.lstrip().startswith("<think>"):
            what = f"thinks for more than {self.settings.max_new_tokens} tokens before it writes"
            remedy = "have its server leave the thinking out, or choose more"
            raise UserError(f"{self._server.address.name} {what}; {remedy}", "max_new_tokens")
        return spoken


def _read(number: int, body: bytes) -> list[str]:
    """Return the texts of an answer in the order of their indices."""
    choices = sorted(decoded(body, _Choices).choices, key=lambda choice: choice.index)
    indices = [choice.index for choice in choices]
    if not 0 < len(choices) <= number or indices != list(range(len(choices))):
        raise Nonsense(f"{len(choices)} texts with the indices {indices}; expected {number}, or some of these")
    texts = [choice.message.content if choice.message else choice.text for choice in choices]
    if None in texts:
        raise Nonsense("a choice without text; expected a text or a message with some")
    return [text for text in texts if text is not None]
