"""Encoder-decoders on CTranslate2, faster: the checkpoint is converted once, into a cache.

Its sampler cannot be seeded query by query, so a query depends on its shard: content and batches of a shard are fixed,
and one worker samples it from a seed of its own.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.files import parents
from xqg_pyserini.generate.base import Prompt, QueryGenerator
from xqg_pyserini.generate.hugging_face import language_token
from xqg_pyserini.generate.sampling import stream_seed
from xqg_pyserini.generate.settings import GeneratorSettings, check_model, model_backend
from xqg_pyserini.models.pretrained import fingerprint, first_line, read_config

CACHE_VARIABLE = "XQG_CACHE"
_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


def cache_folder() -> Path:
    """Return where converted models are kept: XQG_CACHE, or the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "xqg_pyserini"


def _ctranslate2() -> Any:
    try:
        import ctranslate2
    except ImportError:
        raise missing_package("ctranslate2", "ct2") from None
    return ctranslate2


class CTranslate2(QueryGenerator):
    """T5, mT5, NLLB, M2M-100, mBART, … on CTranslate2 (Klein et al.)."""

    def _load(self) -> None:
        library, settings = _ctranslate2(), self.settings
        config = read_config(settings.model, settings.trust_remote_code)
        if model_backend(settings.model, config) != "seq2seq":
            raise UserError(
                f"the model {settings.model!r} is a causal one; CTranslate2 is used for "
                "encoder-decoders only: choose transformers",
                "backend",
            )
        check_model(config, settings)
        kind, _, index = self.device.partition(":")
        if _TYPES[settings.precision] not in library.get_supported_compute_types(kind):
            raise UserError(
                f"CTranslate2 does not compute in {settings.precision} on this {kind}; choose "
                f"{'int8' if kind == 'cpu' else 'bf16'}",
                "precision",
            )
        self._library = library
        self._where = {"device": kind, "device_index": int(index or 0)}
        self._folder = _converted(settings, config)
        tokens = {l: language_token(self.tokenizer, l) for l in settings.languages}
        names = self.tokenizer.convert_ids_to_tokens
        self._prefixes = {l: [] if token is None else names([token]) for l, token in tokens.items()}
        self.start_shard(0)

    @classmethod
    def prepare(cls, settings: GeneratorSettings) -> None:
        """Convert the model, if that was not done before."""
        _converted(settings, read_config(settings.model, settings.trust_remote_code))

    def start_shard(self, number: int) -> None:
        """Begin with a worker that samples from the shard's own seed."""
        # a worker takes its seed when it draws for the first time: each shard gets a new one
        self._library.set_random_seed(stream_seed(self.settings.seed, ["shard", number]))
        try:
            self._translator = self._library.Translator(
                str(self._folder),
                compute_type=_TYPES[self.settings.precision],
                inter_threads=1,
                intra_threads=self.threads or 0,
                **self._where,
            )
        except RuntimeError as error:
            raise UserError(
                f"{self._folder}: CTranslate2 cannot read it ({first_line(error)}); delete this "
                "folder, and the model is converted again"
            ) from None

    def _sample(self, batch: list[Prompt]) -> list[list[str]]:
        settings = self.settings
        drawn = 1 if settings.top_k == 1 else settings.num_queries  # greedy ones are all alike
        prefixes = [self._prefixes[prompt.language] for prompt in batch]
        results = self._translator.translate_batch(
            [self.tokenizer.convert_ids_to_tokens(prompt.tokens) for prompt in batch],
            target_prefix=prefixes if any(prefixes) else None,
            beam_size=1,
            num_hypotheses=drawn,
            sampling_topk=min(settings.top_k, len(self.tokenizer)),
            sampling_temperature=settings.temperature,
            max_decoding_length=settings.max_new_tokens + max(map(len, prefixes)),
            max_input_length=0,
            min_decoding_length=0,
        )
        texts = [[self._text(tokens) for tokens in result.hypotheses] for result in results]
        return [each * (settings.num_queries // drawn) for each in texts]

    def _text(self, tokens: list[str]) -> str:
        return self.tokenizer.decode(self.tokenizer.convert_tokens_to_ids(tokens), skip_special_tokens=True)


def _converted(settings: GeneratorSettings, config: Any) -> Path:
    """Return the folder of a converted model, converting it if that was not done before."""
    model, kind = settings.model, _TYPES[settings.precision]
    weights = fingerprint(model, config)[:16]
    name = f"{Path(model).name}-{weights}-{kind}-{_ctranslate2().__version__}"
    folder = cache_folder() / "ctranslate2" / name
    if (folder / "model.bin").is_file():
        return folder
    from ctranslate2.converters import TransformersConverter
    from transformers.utils import logging

    logging.disable_progress_bar()
    with parents(folder), tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as scratch:
        aside = Path(scratch) / name
        try:
            TransformersConverter(model).convert(str(aside), quantization=kind)
        except Exception as error:  # a kind of model that it does not know, among others
            raise UserError(f"CTranslate2 cannot convert {model!r}: {first_line(error)}") from None
        try:
            os.rename(aside, folder)
        except OSError:
            if not (folder / "model.bin").is_file():  # else another process was first
                raise
    return folder
