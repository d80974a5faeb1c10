"""Generators that transformers runs: encoder-decoders (mT5, NLLB, …) and causal models.

The loop is our own, since `model.generate` keeps computing finished queries, pads their caches and samples from a
generator that all rows share: a prompt is read once for all of its queries (its caches are copied, not computed again),
finished queries leave the batch, and each token is drawn by noise of its own (`sampling`).
"""

import inspect
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput

from xqg_pyserini.data import nearest_language
from xqg_pyserini.errors import UserError
from xqg_pyserini.generate.base import Prompt, QueryGenerator
from xqg_pyserini.generate.sampling import choose_tokens
from xqg_pyserini.generate.settings import GeneratorSettings, check_model, is_adapter
from xqg_pyserini.models import tuning
from xqg_pyserini.models.pretrained import fingerprint, load_model, read_config
from xqg_pyserini.models.tuning.adapters import read_meta

# a token that such a tokenizer has for certain → the form of all of them, and their code in it
_LANGUAGE_TOKENS = {
    "eng_Latn": re.compile("([a-z]{3})_([A-Z][a-z]{3})"),
    "__en__": re.compile("__([a-z]{2,3})__"),
    "en_XX": re.compile("([a-z]{2})_[A-Z]{2}"),
}
_COMPACT = 0.8  # finished queries leave the batch when fewer than this share of it go on
_BLOCK = 128  # tokens of which the maximum is looked at first; divides the vocabularies of mT5, Gemma, Llama 3 and Qwen


def language_token(tokenizer: Any, language: str) -> int | None:
    """Return the token with which NLLB, M2M-100 or mBART-50 begin a text in a language.

    None where the tokenizer has no tokens of that kind.  Raises `UserError` where it has, but not for this language.
    """
    special = {str(t): i for i, t in tokenizer.added_tokens_decoder.items()}
    for known, form in _LANGUAGE_TOKENS.items():
        if known in special:
            codes = {"-".join(match.groups()): match[0] for match in map(form.fullmatch, special) if match}
            nearest = nearest_language(language, codes)
            if nearest is None:
                raise UserError(
                    f"the model has no language token for {language!r} (it has {known}); leave that language out"
                )
            return special[codes[nearest]]
    return None


def auto_class(kind: str | None) -> Any:
    """Return the class of transformers that loads models of a kind, "seq2seq" or "causal"."""
    return {"seq2seq": transformers.AutoModelForSeq2SeqLM, "causal": transformers.AutoModelForCausalLM}[str(kind)]


def start_token(model: Any, name: str) -> int:
    """Return the token that an encoder-decoder's text begins with."""
    for config in (model.generation_config, model.config):
        start = getattr(config, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    raise UserError(f"the model {name!r} names no decoder_start_token_id; add it to its generation_config.json")


def _load(settings: GeneratorSettings, device: str) -> Any:
    """Load a model; of a folder that holds an adapter, the base that it names with it."""
    loader, folder, trust = auto_class(settings.kind), Path(settings.model), settings.trust_remote_code
    if not is_adapter(folder):
        return load_model(loader, settings.model, settings.precision, device, trust_remote_code=trust)
    meta = read_meta(folder)
    model = load_model(loader, meta["base"], settings.precision, device, trust_remote_code=trust)
    base = fingerprint(meta["base"], read_config(meta["base"], trust))
    module = tuning.load_adapter(model, folder, base)
    if meta["method"] not in tuning.UNMERGED:
        module = tuning.merged(module)
    return module.eval().to(device)


class _HuggingFace(QueryGenerator):
    """The loop that both kinds of model share; a kind says how a batch begins and goes on."""

    model: Any

    def _load(self) -> None:
        check_model(read_config(self.settings.model, self.settings.trust_remote_code), self.settings)
        self.model = _load(self.settings, self.device)
        self._accepts = inspect.signature(self.model.forward).parameters
        self._ends = end_tokens(self.model.generation_config, self.tokenizer)
        pad = self.tokenizer.pad_token_id
        self._pad = next(iter(self._ends), 0) if pad is None else pad

    def _begin(self, batch: list[Prompt]) -> tuple[Any, Any, dict[str, Any]]:
        """Read the prompts: logits (b, vocabulary) of the first tokens, cache, further inputs."""
        raise NotImplementedError

    def _go_on(self, tokens: Any, cache: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """Return logits (r, vocabulary) and cache after one more token (r,) of each query."""
        raise NotImplementedError

    def _finished(self, rows: list[list[int]]) -> np.ndarray:
        """Tell which queries (r,) have come to their end with their last token."""
        return np.array([row[-1] in self._ends for row in rows])

    def _text_of(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def _sample(self, batch: list[Prompt]) -> list[list[str]]:
        texts: list[list[str]] = [[] for _ in batch]
        keys = np.stack([self._keys(prompt) for prompt in batch])
        # more queries of one prompt than go together are written one part after the other
        for start in range(0, keys.shape[1], self.batch_size):
            part = keys[:, start : start + self.batch_size]
            with torch.inference_mode():
                written = iter(self._decode(batch, part.reshape(-1)))
            for of_prompt in texts:
                of_prompt += [self._text_of(tokens) for tokens in islice(written, part.shape[1])]
        return texts

    def _decode(self, batch: list[Prompt], keys: np.ndarray) -> list[list[int]]:
        """Return the tokens of every query, in the order of the keys: as many for each prompt."""
        n, longest = len(keys) // len(batch), self.settings.max_new_tokens
        written: list[list[int]] = [[] for _ in keys]
        logits, cache, inputs = self._begin(batch)
        logits, values = self._candidates(logits)
        logits, values = logits.repeat(n, axis=0), values.repeat(n, axis=0)
        if n > 1:
            cache.batch_repeat_interleave(n)
            inputs = {name: value.repeat_interleave(n, dim=0) for name, value in inputs.items()}
        rows = np.arange(len(keys))  # which query each row of the batch is
        going = np.ones(len(keys), dtype=bool)  # which rows are not finished
        for step in range(longest):
            chosen = choose_tokens(logits, values, keys[rows], step, self.settings.temperature)
            still = np.flatnonzero(going)
            for at in still:
                written[rows[at]].append(int(chosen[at]))
            going[still] = ~self._finished([written[rows[at]] for at in still])
            if step + 1 == longest or not going.any():
                break
            if going.mean() < _COMPACT:
                keep = np.flatnonzero(going)
                selected = torch.from_numpy(keep).to(self.device)
                cache.batch_select_indices(selected)
                inputs = {name: value[selected] for name, value in inputs.items()}
                rows, chosen, going = rows[keep], chosen[keep], going[keep]
            logits, cache = self._go_on(chosen, cache, inputs)
            logits, values = self._candidates(logits)
        return written

    def _candidates(self, logits: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (r, k) float32 and ids (r, k) int64 of the k most probable tokens, in any order."""
        best, tokens = best_tokens(logits, self.settings.top_k)
        values = best.float().cpu().numpy()
        if not np.isfinite(values.max(axis=1)).all():
            raise UserError(
                f"the model {self.settings.model!r} gives NaN or infinity in {self.settings.precision}; try fp32",
                "precision",
            )
        return values, tokens.cpu().numpy()

    def _padded(self, batch: list[Prompt], left: bool) -> tuple[Any, Any]:
        """Return the prompts' tokens and mask (b, longest) int64, padded on one side."""
        width = max(len(prompt.tokens) for prompt in batch)
        ids = np.full((len(batch), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for i, prompt in enumerate(batch):
            part = slice(width - len(prompt.tokens), width) if left else slice(len(prompt.tokens))
            ids[i, part], mask[i, part] = prompt.tokens, 1
        return (torch.from_numpy(array).to(self.device) for array in (ids, mask))  # type: ignore


class Seq2Seq(_HuggingFace):
    """Encoder-decoders: T5, mT5, ByT5, NLLB, M2M-100, mBART.

    Models that begin every text with the token of its language are made to begin with it.
    """

    def _load(self) -> None:
        super()._load()
        start = start_token(self.model, self.settings.model)
        tokens = {language: language_token(self.tokenizer, language) for language in self.settings.languages}
        self._starts = {l: [start] if token is None else [start, token] for l, token in tokens.items()}

    def _begin(self, batch: list[Prompt]) -> tuple[Any, Any, dict[str, Any]]:
        ids, mask = self._padded(batch, left=False)
        encoded = self.model.get_encoder()(input_ids=ids, attention_mask=mask)
        starts = torch.tensor([self._starts[p.language] for p in batch], device=self.device)
        output = self.model(encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=starts, use_cache=True)
        inputs = {"hidden": encoded.last_hidden_state, "attention_mask": mask}
        return output.logits[:, -1], _cache_of(output), inputs

    def _go_on(self, tokens: Any, cache: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        output = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=inputs["hidden"]),
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=torch.from_numpy(tokens)[:, None].to(self.device),
            past_key_values=cache,
            use_cache=True,
        )
        return output.logits[:, -1], _cache_of(output)


class Causal(_HuggingFace):
    """Causal language models, with a few-shot prompt or a chat template; one line is a query."""

    def _load(self) -> None:
        super()._load()
        self._pieces: dict[int, str] = {}

    def _begin(self, batch: list[Prompt]) -> tuple[Any, Any, dict[str, Any]]:
        ids, mask = self._padded(batch, left=True)
        extra = {"logits_to_keep": 1} if "logits_to_keep" in self._accepts else {}
        if "position_ids" in self._accepts:
            extra["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **extra)
        return output.logits[:, -1], _cache_of(output), {"attention_mask": mask}

    def _go_on(self, tokens: Any, cache: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        mask = inputs["attention_mask"]
        mask = inputs["attention_mask"] = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        extra = {"position_ids": mask.sum(-1, keepdim=True) - 1} if "position_ids" in self._accepts else {}
        ids = torch.from_numpy(tokens)[:, None].to(self.device)
        output = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
        return output.logits[:, -1], _cache_of(output)

    def _finished(self, rows: list[list[int]]) -> np.ndarray:
        # a line that holds something is the query: what follows it is not looked at
        ended = super()._finished(rows)
        for i, row in enumerate(rows):
            if not ended[i] and "\n" in self._piece(row[-1]):
                ended[i] = "\n" in self._text_of(row).lstrip()
        return ended

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self.tokenizer.decode([token])
        return self._pieces[token]

    def _sample(self, batch: list[Prompt]) -> list[list[str]]:
        lines = [[text.splitlines() for text in texts] for texts in super()._sample(batch)]
        return [[next(filter(str.strip, rows), "") for rows in texts] for texts in lines]


def best_tokens(logits: Any, k: int) -> tuple[Any, Any]:
    """Return values (r, k) and ids (r, k) int64 of the k largest of each row of logits (r, words); of all for k = 0.

    The k best are in the k blocks of the vocabulary with the largest maxima, and a maximum costs a tenth of what
    `torch.topk` takes for the same numbers.  Among equals at the k-th place either way may choose others.
    """
    rows, words = logits.shape
    if not 0 < k < words:
        return logits, torch.arange(words, device=logits.device).expand(rows, -1)
    if words % _BLOCK or k * _BLOCK * 4 > words:
        return torch.topk(logits, k)
    blocks = logits.unflatten(1, (-1, _BLOCK))
    chosen = blocks.amax(-1).topk(k).indices
    values, at = blocks.gather(1, chosen[..., None].expand(-1, -1, _BLOCK)).flatten(1).topk(k)
    return values, chosen.gather(1, at // _BLOCK) * _BLOCK + at % _BLOCK


def end_tokens(config: Any, tokenizer: Any) -> set[int]:
    """Return the tokens that end a text, of a generation configuration and a tokenizer."""
    named = config.eos_token_id
    ends: Iterable[Any] = named if isinstance(named, list) else [named]
    return {int(t) for t in [*ends, tokenizer.eos_token_id] if t is not None}


def _cache_of(output: Any) -> Any:
    """Return a model's cache, or raise `UserError` for one whose rows cannot be copied."""
    cache = getattr(output, "past_key_values", None)
    parts = [getattr(cache, f"{kind}_attention_cache", None) for kind in ("self", "cross")]
    layers = [layer for part in (cache, *parts) for layer in getattr(part, "layers", ())]
    needed = ("batch_repeat_interleave", "batch_select_indices")
    if not layers or not all(hasattr(layer, name) for layer in layers for name in needed):
        kind = type(layers[-1] if layers else cache).__name__
        raise UserError(
            f"the model keeps a {kind} of what it has read, which cannot be copied for several "
            "queries; choose a model with attention alone"
        )
    return cache
