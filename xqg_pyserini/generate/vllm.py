"""Causal models on vLLM (Kwon et al., arXiv 2309.06180), for GPUs: it keeps its batches full as queries end.

A query has a seed of its own, as in the other backends, but vLLM's rounding depends on what it computes at once, which
is not fixed: the same job may write a few other words.
"""

import os
from collections.abc import Iterator

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.generate.base import Prompt, QueryGenerator, first_query
from xqg_pyserini.generate.sampling import stream_seed
from xqg_pyserini.generate.settings import check_model, model_backend
from xqg_pyserini.models.pretrained import first_line, read_config

_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class VLLM(QueryGenerator):
    """Causal language models; one line is a query, as in the backend transformers.

    All prompts of a call go to the engine together, which computes up to `batch_size` queries at once.
    """

    def _load(self) -> None:
        settings = self.settings
        config = read_config(settings.model, settings.trust_remote_code)
        if model_backend(settings.model, config) != "causal":
            raise UserError(f"vLLM runs causal models, and {settings.model!r} is none: choose transformers", "backend")
        check_model(config, settings)
        kind, _, index = self.device.partition(":")
        if index:  # vLLM takes the first GPU that it sees
            seen = os.environ.get(_VISIBLE, "")
            os.environ[_VISIBLE] = seen.split(",")[int(index)] if seen else index
        try:
            import vllm
            from vllm.platforms import current_platform
        except ImportError:
            raise missing_package("vllm", "vllm") from None
        if current_platform.device_type != kind:
            what = f"this vLLM computes on {current_platform.device_type}, not on {kind}"
            raise UserError(f"{what}; choose that device, or install its build for {kind}", "device")
        self._library = vllm
        try:
            self._engine = vllm.LLM(
                model=settings.model,
                dtype=_TYPES[settings.precision],
                max_model_len=settings.longest_input + settings.max_new_tokens,
                max_num_seqs=self.batch_size,
                seed=settings.seed,
                trust_remote_code=settings.trust_remote_code,
            )
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"vLLM cannot load {settings.model!r}: {first_line(error)}") from None

    def _batches(self, prompts: list[Prompt]) -> Iterator[list[Prompt]]:
        return iter([prompts])

    def _sample(self, batch: list[Prompt]) -> list[list[str]]:
        number = self.settings.num_queries
        drawn = 1 if self.settings.top_k == 1 else number  # greedy ones are all alike
        texts = [[first_query(text) for text in each] for each in self._drawn(batch, drawn, stop=["\n"])]
        blank = [i for i, each in enumerate(texts) if not all(each)]
        if blank:  # a line end came first; drawn again by the same seed, they go on behind it
            for i, again in zip(blank, self._drawn([batch[i] for i in blank], drawn, stop=None), strict=True):
                texts[i] = [text or first_query(other) for text, other in zip(texts[i], again, strict=True)]
        return [each * (number // drawn) for each in texts]

    def _drawn(self, batch: list[Prompt], number: int, stop: list[str] | None) -> list[list[str]]:
        settings = self.settings
        parameters = [
            self._library.SamplingParams(
                n=number,
                temperature=settings.temperature,
                top_k=settings.top_k or -1,
                max_tokens=settings.max_new_tokens,
                seed=stream_seed(settings.seed, [prompt.docid, prompt.language]),
                stop=stop,
            )
            for prompt in batch
        ]
        prompts = [{"prompt_token_ids": prompt.tokens} for prompt in batch]
        done = self._engine.generate(prompts, parameters, use_tqdm=False)
        return [[each.text for each in sorted(one.outputs, key=lambda each: each.index)] for one in done]
