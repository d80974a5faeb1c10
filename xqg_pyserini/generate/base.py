"""What every generator shares: prompts, cutting, batches, the order of results.

A backend implements `_load` and `_sample`, and is named in `settings.BACKENDS`.  This module knows passages and texts;
it knows no files of queries, no shards and no job.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from xqg_pyserini.data import Passage
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import chunks
from xqg_pyserini.generate.prompts import PromptMaker
from xqg_pyserini.generate.sampling import sample_keys
from xqg_pyserini.generate.settings import BACKENDS, GeneratorSettings, JobSettings
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.models.pretrained import load_tokenizer, torch_device

Queries = dict[str, tuple[str, ...]]


class Prompt(NamedTuple):
    """What the model reads to write the queries of one passage in one language."""

    text: str
    tokens: list[int]
    passage: int  # its place among the passages
    docid: str
    language: str


class QueryGenerator:
    """Writes queries for passages in several languages, as its settings, which are complete, say.

    A subclass implements `_load` and `_sample`, and sets `tokenizer` in the former.  A batch has
    batch_size / num_queries prompts; `threads` is None for what the libraries choose.

    Attributes:
        cut: passages that were cut to fit `max_input_tokens`, so far.
    """

    tokenizer: Any

    def __init__(self, settings: GeneratorSettings, device: str, batch_size: int, threads: int | None) -> None:
        self.settings, self.batch_size, self.threads = settings, batch_size, threads
        self.cut = 0
        self._maker = self._prompt_maker(device)
        self._load()

    def _prompt_maker(self, device: str) -> Any:
        """Return what has the `make` of a `PromptMaker`; set `device` and `tokenizer`."""
        settings, self.device = self.settings, torch_device(device)
        self.tokenizer = load_tokenizer(settings.model, settings.trust_remote_code)
        if settings.chat and not getattr(self.tokenizer, "chat_template", None):
            raise UserError(f"the tokenizer of {settings.model!r} has no chat template", "chat")
        return PromptMaker(self.tokenizer, settings.template, settings.longest_input, bool(settings.chat))

    def _load(self) -> None:
        """Load the model."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, settings: GeneratorSettings) -> None:
        """Do once what several workers would each have to do first."""

    def start_shard(self, number: int) -> None:
        """Prepare for a shard; for samplers that cannot be seeded query by query."""

    def _sample(self, batch: list[Prompt]) -> list[list[str]]:
        """Return `num_queries` texts for each prompt, in order."""
        raise NotImplementedError

    def generate(self, passages: Sequence[Passage], progress: Callable[[int], Any] = lambda n: None) -> list[Queries]:
        """Write the queries of some passages; `progress` is called with the number of each finished batch.

        Returns:
            For each passage, in order: language → `num_queries` texts on one line each, blank where the model wrote
            nothing.
        """
        rows: list[Queries] = [{} for _ in passages]
        with Computing(threads=self.threads).limited():
            for batch in self._written(self._prompts(passages)):
                for prompt, texts in batch:
                    rows[prompt.passage][prompt.language] = tuple(" ".join(text.split()) for text in texts)
                progress(len(batch) * self.settings.num_queries)
        return [{l: row[l] for l in self.settings.languages} for row in rows]

    def _written(self, prompts: list[Prompt]) -> Iterator[list[tuple[Prompt, list[str]]]]:
        """Yield prompts with their texts, in any order, a batch at a time."""
        for batch in self._batches(prompts):
            yield list(zip(batch, self._sample(batch), strict=True))

    def _prompts(self, passages: Sequence[Passage]) -> list[Prompt]:
        places = [(i, l) for i in range(len(passages)) for l in self.settings.languages]
        made = self._maker.make([(passages[i], l) for i, l in places])
        self.cut += len({i for (i, _), (_, _, cut) in zip(places, made, strict=True) if cut})
        asked = zip(places, made, strict=True)
        return [Prompt(text, tokens, i, passages[i].id, l) for (i, l), (text, tokens, _) in asked]

    def _batches(self, prompts: list[Prompt]) -> Iterator[list[Prompt]]:
        """Return batches of prompts of about one length, longest first: memory fails early."""
        size = max(1, self.batch_size // self.settings.num_queries)
        return chunks(sorted(prompts, key=lambda p: (-len(p.tokens), p.passage)), size)

    def _keys(self, prompt: Prompt) -> Any:
        s = self.settings
        return sample_keys(s.seed, prompt.docid, prompt.language, s.num_queries)


def first_query(text: str) -> str:
    """Return the first line that holds something: what a causal model writes behind it is not the query."""
    return next(filter(str.strip, text.splitlines()), "")


def load_generator(
    settings: GeneratorSettings,
    device: str = "auto",
    batch_size: int = JobSettings.batch_size,
    threads: int | None = JobSettings.threads,
) -> QueryGenerator:
    """Load the generator that the settings name.

    Raises `UserError` for a model that cannot be loaded, is no generator, or cannot be run so.
    """
    settings = settings.complete(device)
    return _backend(settings)(settings, device, batch_size, threads)


def prepare_generator(settings: GeneratorSettings) -> None:
    """Do once what several workers would each have to do first, such as converting a model."""
    _backend(settings).prepare(settings)


def _backend(settings: GeneratorSettings) -> type[QueryGenerator]:
    module, name = BACKENDS[str(settings.kind)]
    return getattr(importlib.import_module(f"xqg_pyserini.generate.{module}"), name)
