"""Query generators: encoder-decoders and causal models that learn to ask about a passage.

Knows pairs of a passage and a question, their loss, and how a trained generator is written so that `xqg generate` reads
it.  Prompts are made as `xqg generate` makes them; what may change in a model is decided in `tuning`; the loop is the
Trainer's.

The loss is the mean of -log p(token | prompt, the question's tokens before it) over the question's tokens and the one
that ends it.  A token that is given at generation and not drawn (the decoder's start, the language token of NLLB and
its kin) has no part in it, nor has the prompt.
"""

import inspect
from array import array
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from xqg_pyserini.data import Passage, check_languages
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import Line, chunks
from xqg_pyserini.generate.hugging_face import auto_class, end_tokens, language_token, start_token
from xqg_pyserini.generate.prompts import PromptMaker, PromptTemplate, read_template, shipped_template
from xqg_pyserini.generate.settings import check_positions, model_backend, write_trained_prompt
from xqg_pyserini.models import tuning
from xqg_pyserini.models.pretrained import fingerprint, load_model, load_tokenizer, read_config, torch_device
from xqg_pyserini.stores import Job
from xqg_pyserini.train import job
from xqg_pyserini.train.data import Example, Examples, locate
from xqg_pyserini.train.settings import GeneratorTrainingSettings
from xqg_pyserini.train.trainer import WARM_UP_BATCHES, Trainer, sample_batches

IGNORED = -100  # cross_entropy leaves such targets out
Tokens = list[list[int]]


class PassageQuestion(NamedTuple):
    """What a generator learns from: it reads the passage and writes the question."""

    passage: Passage
    question: str
    language: str


class PassageQuestions(torch.utils.data.Dataset[PassageQuestion]):
    """Each positive passage of each example, with its question, read as it is asked for.

    Holds 8 bytes an example besides what `Examples` holds, and 4 a pair.  `language` is for questions that name none.
    Raises `UserError` for a question without a language, or in one that has no name here.
    """

    def __init__(self, sources: Sequence[str], language: str | None) -> None:
        self._language, self.languages = language, set[str]()
        self._positives, lengths = array("q", [0]), array("i")

        def check(line: Line, example: Example) -> None:
            self.languages.add(self._language_of(line, example))
            self._positives.append(self._positives[-1] + len(example.positives))
            lengths.extend(len(passage.full) for passage in example.positives)

        self.examples = Examples(sources, check)
        self._ends = np.frombuffer(self._positives, np.int64)[1:]
        self.lengths = np.frombuffer(lengths, np.int32)

    def _language_of(self, line: Line, example: Example) -> str:
        language = example.language or self._language
        if language is None:
            raise line.error(
                f"the question {example.query[:40]!r} has no language; expected "
                '"language": "fi" (or give the language of all that have none)'
            )
        return language

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: Any) -> PassageQuestion:
        which, within = locate(self._ends, number)
        example = self.examples[which]
        language = example.language or self._language
        assert language is not None
        return PassageQuestion(example.positives[within], example.query, language)


@dataclass
class GeneratorCollator:
    """Makes a batch: what the model reads, and the targets of its last positions."""

    tokenizer: Any
    prompts: PromptMaker
    longest: int  # most tokens of a question, its end included
    end: int  # the token that ends a question
    starts: dict[str, list[int]] | None = None  # of an encoder-decoder, by language: how its texts begin at generation
    accepted: Container[str] = ()  # what the forward of a causal model takes

    def __call__(self, pairs: Sequence[PassageQuestion]) -> dict[str, Any]:
        """Return `tokens`, what the model's forward takes, and `targets` (b, m) int64."""
        made = self.prompts.make([(pair.passage, pair.language) for pair in pairs])
        texts = [" ".join(pair.question.split()) for pair in pairs]
        questions = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        targets = [[*tokens[: self.longest - 1], self.end] for tokens in questions]
        prompts = [tokens for _, tokens, _ in made]
        if self.starts is None:
            return self._causal(prompts, targets)
        return self._seq2seq([self.starts[pair.language] for pair in pairs], prompts, targets)

    def _padded(self, rows: Tokens, left: bool = False, fill: int | None = None) -> Any:
        if fill is None:
            fill = self.end if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        width = max(map(len, rows))
        full = [[fill] * (width - len(row)) for row in rows]
        return torch.tensor([pad + row if left else row + pad for pad, row in zip(full, rows, strict=True)])

    def _seq2seq(self, starts: Tokens, prompts: Tokens, targets: Tokens) -> dict[str, Any]:
        given = [[*s, *t[:-1]] for s, t in zip(starts, targets, strict=True)]
        wanted = [[IGNORED] * (len(s) - 1) + t for s, t in zip(starts, targets, strict=True)]
        tokens = {
            "input_ids": self._padded(prompts),
            "attention_mask": self._padded([[1] * len(row) for row in prompts], fill=0),
            "decoder_input_ids": self._padded(given),  # padding comes after all that is wanted
        }
        return {"tokens": tokens, "targets": self._padded(wanted, fill=IGNORED)}

    def _causal(self, prompts: Tokens, targets: Tokens) -> dict[str, Any]:
        """Pad on the left, as at generation."""
        given = [[*p, *t[:-1]] for p, t in zip(prompts, targets, strict=True)]
        mask = self._padded([[1] * len(row) for row in given], left=True, fill=0)
        tokens = {"input_ids": self._padded(given, left=True), "attention_mask": mask}
        if "position_ids" in self.accepted:
            tokens["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        wanted = self._padded(targets, left=True, fill=IGNORED)
        batch: dict[str, Any] = {"tokens": tokens, "targets": wanted}
        if "logits_to_keep" in self.accepted:
            batch["keep"] = torch.tensor(wanted.shape[1])
        return batch


def token_losses(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of -log p of a batch's targets, and their number."""
    extra = {"logits_to_keep": int(batch["keep"])} if "keep" in batch else {}
    logits = model(**batch["tokens"], use_cache=False, **extra).logits
    targets = batch["targets"]
    logits = logits[:, -targets.shape[1] :].float()
    loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return loss, (targets != IGNORED).sum()


class GeneratorTrainer(Trainer):
    """The loop for generators."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """Return the loss of a batch; the Trainer divides it by `accumulation`."""
        loss, number = token_losses(model, inputs)
        return loss / number


def train_generator(settings: GeneratorTrainingSettings, overwrite: bool = False) -> dict[str, Any]:
    """Train a query generator; return what `training.json` holds.

    A training that was killed goes on at its last checkpoint when it is called again, and ends with the same weights;
    one that is finished is not done again.

    Raises:
        UserError: for data, a model or settings that do not go together.
    """
    config = read_config(settings.model)
    backend = model_backend(settings.model, config)
    shipped = "question" if backend == "seq2seq" else "question-causal"
    prompt = shipped_template(shipped) if settings.prompt is None else read_template(settings.prompt)
    if settings.language is not None:
        check_languages([settings.language])
    lengths = {"source_length": settings.source_length, "target_length": settings.target_length}
    check_positions(config, settings.model, lengths, start=1)
    pairs = PassageQuestions(settings.data, settings.language)
    held = PassageQuestions([settings.validation], settings.language) if settings.validation is not None else None
    base = fingerprint(settings.model, config)

    def train(folder: Job) -> dict[str, Any]:
        return _GeneratorTraining(settings, backend, prompt, pairs, held, base).run(folder)

    parts = {"backend": backend, "template": prompt.text, "base": base}
    sources = [*settings.trains_on, settings.validation, settings.prompt]
    record = job.run_training(settings, parts, sources, [settings.model], overwrite, train)
    for data in (pairs, held):
        if data is not None:
            data.examples.close()
    return record


@dataclass
class _GeneratorTraining:
    """A training's parts, made in one order so that all that is drawn is drawn the same."""

    settings: GeneratorTrainingSettings
    backend: str
    prompt: PromptTemplate
    pairs: PassageQuestions
    held: PassageQuestions | None
    base: str

    def __post_init__(self) -> None:
        import transformers

        transformers.set_seed(self.settings.seed)
        self.device = torch_device(self.settings.device)
        self.tokenizer = load_tokenizer(self.settings.model)
        model = load_model(auto_class(self.backend), self.settings.model, "fp32", self.device)
        self._config, self._generation = model.config, model.generation_config
        self.collate = self._collator(model)
        self.model = tuning.tune(model, self.settings.tuning, self.settings.seed, self._warm_up).to(self.device)

    def _collator(self, model: Any) -> GeneratorCollator:
        s = self.settings
        self.end = _end(s.model, self._generation, self.tokenizer)
        prompts = PromptMaker(self.tokenizer, self.prompt, s.source_length, setting="source_length")
        common = self.tokenizer, prompts, s.target_length, self.end
        if self.backend == "causal":
            return GeneratorCollator(*common, accepted=inspect.signature(model.forward).parameters)
        self.start = start_token(model, s.model)
        codes = self.pairs.languages | (self.held.languages if self.held else set())
        tokens = {code: language_token(self.tokenizer, code) for code in sorted(codes)}
        starts = {code: [self.start] if token is None else [self.start, token] for code, token in tokens.items()}
        return GeneratorCollator(*common, starts)

    def _warm_up(self, model: torch.nn.Module) -> None:
        """Leave the gradients of a few batches on a model, for hybrid-lora's choice."""
        size, seed = self.settings.batch_size, self.settings.seed
        for batch in sample_batches(self.pairs, size, seed, WARM_UP_BATCHES):
            loss, number = token_losses(model, job.to_device(self.collate(batch), self.device))
            (loss / number).backward()

    def validation_loss(self) -> dict[str, float]:
        """Return the mean loss of a token of the validation data's questions."""
        assert self.held is not None
        total, tokens = 0.0, 0
        pairs = (self.held[i] for i in range(len(self.held)))
        for batch in chunks(pairs, self.settings.batch_size):
            loss, number = token_losses(self.model, job.to_device(self.collate(batch), self.device))
            total, tokens = total + float(loss), tokens + int(number)
        return {"loss": total / tokens}

    def run(self, folder: Job) -> dict[str, Any]:
        """Train, write the generator into the job's folder, return what was measured."""
        validate = None if self.held is None else self.validation_loss
        trainer = GeneratorTrainer(self.settings, self.model, self.pairs, self.collate, folder, validate)
        return job.fit(trainer, self.model, folder, self._write, pairs=len(self.pairs))

    def _write(self, folder: Path) -> None:
        """Write what `xqg generate --model` takes: the model, or an adapter that names its base."""
        if self._generation.eos_token_id is None:
            self._generation.eos_token_id = self.end
        if self._config.is_encoder_decoder and self._generation.decoder_start_token_id is None:
            self._generation.decoder_start_token_id = self.start
        if job.merges(self.settings, where_it_can=True):
            tuning.merged(self.model).save_pretrained(folder)
        else:
            tuning.save_adapter(self.model, folder, self.settings.model, self.base, None)
            self._config.save_pretrained(folder)
            self._generation.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_trained_prompt(folder, self.prompt, self.settings.source_length)


def _end(name: str, generation: Any, tokenizer: Any) -> int:
    """Return the token that ends a question: the tokenizer's, else the model's first one."""
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    ends = end_tokens(generation, tokenizer)
    if not ends:
        raise UserError(
            f"the model {name!r} names no eos_token, by which a question could end; add it to its tokenizer_config.json"
        )
    return min(ends)
