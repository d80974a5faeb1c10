"""Bi-encoders trained with InfoNCE: questions near their passages, far from all others in a batch.

Knows the loss, batches of questions and passages, and how a trained encoder is written so that `xqg encode`, Pyserini
and sentence-transformers read it.  What may change in a model is decided in `tuning`; the loop is the Trainer's.

With similarities s(q, p) = E(q)·E(p) and the temperature τ, the loss of a question q with its positive p⁺ among the
passages P of the batch is (van den Oord et al. 2018, arXiv 1807.03748; in batches: Karpukhin et al. 2020, arXiv
2004.04906)

    -log( exp(s(q, p⁺)/τ) / Σ_{p ∈ P} exp(s(q, p)/τ) ).

P leaves out what the data calls another positive of q, and copies of p⁺.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xqg_pyserini.data import CorpusFields, CorpusFile, fields_of
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import chunks, write_json
from xqg_pyserini.models import pretrained, registry as encoders, tuning
from xqg_pyserini.models.makers import MODULES
from xqg_pyserini.models.registry import EncoderSettings
from xqg_pyserini.models.tuning.robust import collect_statistics
from xqg_pyserini.stores import Job
from xqg_pyserini.train import job
from xqg_pyserini.train.data import Drawable, Drawn, Draws, Examples, read_examples
from xqg_pyserini.train.settings import RetrieverSettings
from xqg_pyserini.train.synthetic import Synthetic
from xqg_pyserini.train.trainer import WARM_UP_BATCHES, Trainer, sample_batches
from xqg_pyserini.train.validation import Validation

WELL_ANSWERED = 2048  # questions looked at for robust prefix-tuning
ROLES = ("query", "passage")


def contrastive_loss(
    queries: Tensor, passages: Tensor, targets: Tensor, left_out: Tensor, temperature: float
) -> Tensor:
    """Return InfoNCE, the mean over the questions (see above).

    Args:
        queries: (b, d).
        passages: (n, d), those of all questions of the batch.
        targets: (b,) int64, which passage is a question's positive.
        left_out: (b, n) bool, passages that are neither positive nor negative for a question.
        temperature: τ.
    """
    similarities = queries.float() @ passages.float().T / temperature
    return functional.cross_entropy(similarities.masked_fill(left_out, -torch.inf), targets)


def distillation_loss(
    queries: Tensor, passages: Tensor, own: Tensor, scores: Tensor, temperature: float, scores_temperature: float
) -> Tensor:
    """Return KL(softmax(scores) ‖ softmax(similarities)) over each question's own passages.

    The mean over the questions that have scores; 0 where none has.

    Args:
        queries: (b, d).
        passages: (n, d).
        own: (b, m) int64, a question's passages; -1 fills up.
        scores: (b, m) float32; NaN for a question without scores, and where `own` is -1.
        temperature: of the similarities.
        scores_temperature: of the given scores.
    """
    scored = ~scores[:, 0].isnan()
    if not scored.any():
        return queries.sum() * 0
    own, scores = own[scored], scores[scored]
    absent = own < 0
    candidates = passages.float()[own.clamp(min=0)]
    similarities = (queries.float()[scored, None] * candidates).sum(2) / temperature
    student = similarities.masked_fill(absent, -torch.inf).log_softmax(1)
    teacher = (scores.nan_to_num() / scores_temperature).masked_fill(absent, -torch.inf)
    terms = teacher.softmax(1) * (teacher.log_softmax(1) - student)
    return terms.masked_fill(absent, 0).sum(1).mean()


@dataclass
class RetrieverCollator:
    """Makes a batch: tokens of questions and passages, and what belongs to what."""

    tokenizer: Any
    encoder: EncoderSettings
    longest: int  # tokens that the model takes

    def tokens(self, texts: Sequence[str], role: Any) -> dict[str, Tensor]:
        """Return input ids and attention mask, (n, longest) int64, of texts with their prefix."""
        prefix = self.encoder.prefix_for(role)
        length = min(self.encoder.length_for(role), self.longest)
        how = {"truncation": True, "max_length": length, "padding": True, "return_tensors": "pt"}
        return dict(self.tokenizer([prefix + text for text in texts], **how))

    def __call__(self, drawn: Sequence[Drawn]) -> dict[str, Any]:
        """Return a batch; passages of all questions stand one after another."""
        texts = [text for one in drawn for text in one.passages]
        starts = np.cumsum([0, *(len(one.passages) for one in drawn)])
        left_out = np.zeros((len(drawn), len(texts)), bool)
        own = np.full((len(drawn), max(len(one.passages) for one in drawn)), -1)
        scores = np.full(own.shape, np.nan, np.float32)
        for row, one in enumerate(drawn):
            left_out[row] = [text in one.positives for text in texts]
            left_out[row, starts[row]] = False
            own[row, : len(one.passages)] = range(starts[row], starts[row + 1])
            if one.scores is not None:
                scores[row, : len(one.scores)] = one.scores
        return {
            "queries": self.tokens([one.query for one in drawn], "query"),
            "passages": self.tokens(texts, "passage"),
            "targets": torch.from_numpy(starts[:-1]),
            "left_out": torch.from_numpy(left_out),
            "own": torch.from_numpy(own),
            "scores": torch.from_numpy(scores),
        }


class BiEncoder(torch.nn.Module):
    """One model for questions and passages, or two; gives their vectors, (n, d)."""

    def __init__(self, query: torch.nn.Module, passage: torch.nn.Module, like: EncoderSettings) -> None:
        super().__init__()
        self.passage, self.query, self._like = passage, query, like

    def forward(self, tokens: dict[str, Tensor], role: str) -> Tensor:
        """Encode texts."""
        output = (self.query if role == "query" else self.passage)(**tokens)
        return pretrained.sentence_vectors(output, tokens["attention_mask"], self._like)


class RetrieverTrainer(Trainer):
    """The loop for bi-encoders, with gradient caching (Gao et al. 2021, arXiv 2101.06983).

    With `chunk_size`, all texts of a batch are encoded without gradients, chunk by chunk; the loss gives the gradient
    of each vector; each chunk is encoded again, with the same dropout, to carry that gradient on.  The step is that of
    the whole batch, in the memory of a chunk.
    """

    settings: RetrieverSettings

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """Return the loss of a batch; the Trainer divides it by `accumulation`."""
        return self._loss(model(inputs["queries"], "query"), model(inputs["passages"], "passage"), inputs)

    def _loss(self, queries: Tensor, passages: Tensor, inputs: Any) -> Tensor:
        s = self.settings
        loss = contrastive_loss(queries, passages, inputs["targets"], inputs["left_out"], s.temperature)
        if not s.distill:
            return loss
        temperatures = s.temperature, s.distill_temperature
        distilled = distillation_loss(queries, passages, inputs["own"], inputs["scores"], *temperatures)
        return (1 - s.distill) * loss + s.distill * distilled

    def step(self, model: Any, inputs: dict[str, Any], *args: Any) -> Tensor:
        """Add a batch's gradients to the parameters; return its loss."""
        if self.settings.chunk_size is None:
            return super().step(model, inputs, *args)
        model.train()
        inputs = self._prepare_inputs(inputs)
        size, named = self.settings.chunk_size, zip(ROLES, (inputs["queries"], inputs["passages"]), strict=True)
        parts = [(role, part) for role, tokens in named for part in token_chunks(tokens, size)]
        states, vectors = [], []
        with torch.no_grad():
            for role, part in parts:
                states.append(_random_state())
                vectors.append(model(part, role).float())
        leaves = [v.detach().requires_grad_() for v in vectors]
        by_role = {r: [v for v, (q, _) in zip(leaves, parts, strict=True) if q == r] for r in ROLES}
        loss = self._loss(torch.cat(by_role["query"]), torch.cat(by_role["passage"]), inputs)
        loss = loss / self.current_gradient_accumulation_steps
        loss.backward()
        after = _random_state()
        for (role, part), state, leaf in zip(parts, states, leaves, strict=True):
            _set_random_state(state)
            self.accelerator.backward((model(part, role).float() * leaf.grad).sum())
        _set_random_state(after)
        return loss.detach()


def token_chunks(tokens: dict[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    """Yield the rows of tokenised texts in chunks, without the columns that are padding in all."""
    mask = tokens["attention_mask"]
    for start in range(0, len(mask), size):
        used = mask[start : start + size].any(0).nonzero()
        # padding may stand on either side
        columns = slice(int(used[0]), int(used[-1]) + 1)
        yield {key: value[start : start + size, columns] for key, value in tokens.items()}


def _random_state() -> tuple[Tensor, list[Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def train_retriever(settings: RetrieverSettings, overwrite: bool = False) -> dict[str, Any]:
    """Train a bi-encoder; return what `training.json` holds.

    A training that was killed goes on at its last checkpoint when it is called again, and ends with the same weights;
    one that is finished is not done again.

    Raises:
        UserError: for data, a model or settings that do not go together.
    """
    encoder = _encoder(settings)
    examples = Examples(settings.data) if settings.data else None
    validation = None
    if settings.validation is not None:
        held = [example for _, example in read_examples(settings.validation)]
        validation = Validation(held, settings.metric)
    if examples is not None and settings.distill:
        first = (examples[i].scores for i in range(min(len(examples), 1000)))
        if not any(first):
            raise UserError(f"{examples.files[0]}: no scores in its first examples; distillation needs them", "distill")
    base = pretrained.fingerprint(encoder.model, pretrained.read_config(encoder.model))

    def train(folder: Job) -> dict[str, Any]:
        parts: list[Drawable] = [] if examples is None else [examples]
        copies = folder.path / "synthetic"
        if settings.corpus is not None:
            corpus = CorpusFile(settings.corpus, **fields_of(settings, CorpusFields))
            parts.append(Synthetic(settings.synthetic, corpus, copies))
        draws = Draws(parts, settings.negatives, settings.seed)
        report = _RetrieverTraining(settings, encoder, draws, base).run(folder, validation)
        draws.close()
        shutil.rmtree(copies, ignore_errors=True)
        return report

    parts = {"encoder": encoder.record(), "base": base}
    sources = [*settings.trains_on, settings.corpus, settings.validation]
    return job.run_training(settings, parts, sources, [encoder.model], overwrite, train)


def _encoder(settings: RetrieverSettings) -> EncoderSettings:
    names = ["pooling", "normalize", *(f"{role}_{what}" for role in ROLES for what in ("prefix", "length"))]
    encoder = encoders.resolve(settings.model, {name: getattr(settings, name) for name in names})
    if encoder.backend == MODULES:
        what = "has modules that sentence-transformers runs; give a pooling to train its transformer alone"
        raise UserError(f"encoder {settings.model} {what}", "pooling")
    if encoder.backend != "torch":
        raise UserError(f"encoder {settings.model} cannot be trained; give a Hugging Face model or folder")
    if encoder.query_model is not None or encoder.adapter is not None:
        what = "untied" if encoder.query_model else "a base and an adapter"
        raise UserError(f"encoder {settings.model} is {what}; begin with one whole model")
    return encoder


class _RetrieverTraining:
    """A training's parts, made in one order so that all that is drawn is drawn the same."""

    def __init__(self, settings: RetrieverSettings, encoder: EncoderSettings, draws: Draws, base: str) -> None:
        import transformers

        self.settings, self.encoder, self.draws, self._base = settings, encoder, draws, base
        transformers.set_seed(settings.seed)
        self.device = pretrained.torch_device(settings.device)
        self.tokenizer = pretrained.load_tokenizer(encoder.model)
        positions = getattr(pretrained.read_config(encoder.model), "max_position_embeddings", None)
        longest = min(self.tokenizer.model_max_length, positions or 1 << 30)
        self.collate = RetrieverCollator(self.tokenizer, encoder, longest)
        roles = ROLES if settings.untied else ("passage",)
        self.tuned = {role: self._tuned() for role in roles}
        query = self.tuned.get("query", self.tuned["passage"])
        self.model = BiEncoder(query, self.tuned["passage"], encoder).to(self.device)

    def _tuned(self) -> torch.nn.Module:
        from transformers import AutoModel

        optional = () if self.encoder.pooling == "pooler" else ("pooler",)
        model = pretrained.load_model(AutoModel, self.encoder.model, "fp32", self.device, optional)
        return tuning.tune(model, self.settings.tuning, self.settings.seed, self._warm_up, optional)

    def _warm_up(self, model: torch.nn.Module) -> None:
        """Leave the gradients of a few batches on a model, for hybrid-lora's choice."""
        both = BiEncoder(model, model, self.encoder)
        for inputs in self._batches(WARM_UP_BATCHES):
            vectors = both(inputs["queries"], "query"), both(inputs["passages"], "passage")
            contrastive_loss(*vectors, inputs["targets"], inputs["left_out"], self.settings.temperature).backward()

    def _batches(self, n: int) -> Iterator[dict[str, Any]]:
        for drawn in sample_batches(self.draws, self.settings.batch_size, self.settings.seed, n):
            yield job.to_device(self.collate(drawn), self.device)

    def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
        """Encode texts with the model as it is now, (n, d) float32."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.empty((len(texts), 0), np.float32)
        for part in chunks(order, 64):
            tokens = self.collate.tokens([texts[i] for i in part], role)
            batch = self.model(job.to_device(tokens, self.device), role).float().cpu().numpy()
            if not vectors.size:
                vectors = np.empty((len(texts), batch.shape[1]), np.float32)
            vectors[part] = batch
        return vectors

    def run(self, folder: Job, validation: Validation | None) -> dict[str, Any]:
        """Train, write the encoder into the job's folder, return what was measured."""
        validate = None if validation is None else lambda: validation(self.encode)
        metric = self.settings.metric
        trainer = RetrieverTrainer(self.settings, self.model, self.draws, self.collate, folder, validate, metric, True)
        return job.fit(trainer, self.tuned["passage"], folder, self._write)

    def _well_answered(self) -> Iterator[dict[str, Tensor]]:
        """Yield tokens of training questions that rank their positive first in their batch."""
        for inputs in self._batches(-(-WELL_ANSWERED // self.settings.batch_size)):
            with torch.inference_mode():
                passages = self.model(inputs["passages"], "passage")
                similarities = self.model(inputs["queries"], "query") @ passages.T
                best = similarities.masked_fill(inputs["left_out"], -torch.inf).argmax(1)
            first = best == inputs["targets"]
            if first.any():
                yield {key: value[first] for key, value in inputs["queries"].items()}

    def _write(self, folder: Path) -> None:
        if self.settings.tuning.method == "robust-prefix":  # what new questions are brought close to
            query = self.tuned.get("query", self.tuned["passage"])
            collect_statistics(query, self._well_answered(), self.encoder.pooling)
        merged, untied, settings = job.merges(self.settings), self.settings.untied, self.encoder
        for role, module in self.tuned.items():
            place = folder / role if untied else folder
            if merged:
                tuning.merged(module).save_pretrained(place)
                self.tokenizer.save_pretrained(place)
            else:
                known = {k: v for k, v in settings.record().items() if k != "name"}
                tuning.save_adapter(module, place, settings.model, self._base, known)
        if not merged:
            settings = replace(settings, adapter=str(folder))
        elif untied:
            settings = replace(settings, model=str(folder / "passage"), query_model=str(folder / "query"))
        else:
            settings = replace(settings, model=str(folder))
            _write_sentence_transformers(folder, settings)
        encoders.write_settings(folder, settings)


def _write_sentence_transformers(folder: Path, settings: EncoderSettings) -> None:
    """Write what sentence-transformers needs to load the folder with pooling and prompts."""
    if settings.pooling == "pooler":
        return  # its Dense module would need the weights a second time
    parts = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    parts = parts if settings.normalize else parts[:2]
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    contents: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(parts)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": config["hidden_size"],
            "pooling_mode_cls_token": settings.pooling == "cls",
            "pooling_mode_mean_tokens": settings.pooling == "mean",
            "pooling_mode_lasttoken": settings.pooling == "last",
        },
        "sentence_bert_config.json": {
            "max_seq_length": max(settings.query_length, settings.passage_length),
            "do_lower_case": False,
        },
        "config_sentence_transformers.json": {
            "prompts": {"query": settings.query_prefix, "document": settings.passage_prefix},
            "default_prompt_name": None,
            "similarity_fn_name": None,
            "truncate_dim": settings.dimensions,
        },
    }
    for name, content in contents.items():
        write_json(folder / name, content)
