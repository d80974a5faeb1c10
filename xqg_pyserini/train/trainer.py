"""Training on transformers' Trainer: the same for every kind of model, resumable, measured.

Adds to the Trainer an order of examples that follows from seed and epoch alone, checkpoints that hold what is trained
and nothing else, and the cost of a step.  This module knows no losses and no texts.  It imports transformers and torch:
import it where a training runs.
"""

import contextlib
import json
import logging
import math
import os
import shutil
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers
from tqdm import tqdm
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.models.pretrained import torch_device
from xqg_pyserini.models.tuning import trainable
from xqg_pyserini.stores import Job
from xqg_pyserini.train.settings import SCHEDULES, TrainingSettings

WARM_UP_BATCHES = 8  # whose gradients decide what hybrid-lora tunes in full
RECENT = 10  # steps whose mean loss is reported
_BLOCK = 50  # batches that are sorted by length together


class EpochOrder(torch.utils.data.Sampler[int]):
    """An epoch's order of the examples, which follows from seed and epoch alone.

    With `lengths`, examples of like length stand together: each block of 50 shuffled batches is sorted by length and
    cut into batches, which are shuffled.
    """

    def __init__(self, n: int, batch: int, seed: int, lengths: np.ndarray | None = None) -> None:
        self.n, self.batch, self.seed, self.lengths = n, batch, seed, lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the Trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.n)
        if self.lengths is not None:
            size = self.batch * _BLOCK
            for start in range(0, self.n, size):
                block = order[start : start + size]
                block = block[np.argsort(self.lengths[block], kind="stable")]
                whole = len(block) // self.batch * self.batch  # a short last batch stays last
                batches = random.permutation(block[:whole].reshape(-1, self.batch))
                order[start : start + size] = np.concatenate([batches.ravel(), block[whole:]])
        return iter(order.tolist())


def sample_batches(data: Any, batch: int, seed: int, n: int) -> Iterator[list[Any]]:
    """Yield n batches from all over the data: a file may have its languages one after another."""
    order = list(EpochOrder(len(data), batch, seed))[: n * batch]
    for start in range(0, len(order), batch):
        yield [data[i] for i in order[start : start + batch]]


class StepCost(TrainerCallback):
    """Measures seconds a step (median; the first is left out) and peak memory.

    The memory is the GPU's where there is one, else this process's.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is the present again

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._began)

    def report(self) -> dict[str, Any]:
        """Return median seconds a step and peak memory in bytes."""
        usual = self.seconds[1:] or self.seconds
        pace = statistics.median(usual) if usual else None
        return {"seconds_per_step": pace, "peak_memory_bytes": _peak_memory()}


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class _Bar(TrainerCallback):
    """The progress bar, with the last loss and the last validation."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        steps, done = state.max_steps, state.global_step
        self._bar = tqdm(total=steps, initial=done, desc="training", unit=" steps", disable=None)
        self._shown: dict[str, str] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name, value in kwargs["logs"].items():
            if name == "loss" or name.startswith("eval_"):
                self._shown[name.replace("eval_", "validation ")] = f"{float(value):.4g}"
        self._bar.set_postfix(self._shown)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._bar.close()


class Trainer(transformers.Trainer):
    """transformers' Trainer over texts that are tokenised as they come; a subclass implements `compute_loss`.

    What requires no gradient in `model` is left as it is; `set_epoch` of the examples is called where there is one.
    `validate` gives metric → value on the validation data; `metric` decides which checkpoint is the best.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        model: torch.nn.Module,
        examples: Any,
        collate: Callable[[list[Any]], dict[str, Any]],
        job: Job,
        validate: Callable[[], dict[str, float]] | None = None,
        metric: str = "loss",
        greater_is_better: bool = False,
    ) -> None:
        logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
        self.settings, self.tuned, self._examples = settings, model, examples
        self._job, self._validate = job, validate
        on_gpu = torch_device(settings.device) == "cuda"
        self.cost = StepCost()
        self._losses: deque[torch.Tensor] = deque(maxlen=RECENT * settings.accumulation)
        steps = total_steps(settings, examples)
        every = settings.eval_steps or max(1, steps // 10)
        callbacks = [self.cost, _Bar(), _tensorboard(job.path / "logs")]
        if settings.patience is not None:
            callbacks.append(EarlyStoppingCallback(settings.patience))
        if on_gpu and settings.precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise UserError("bf16: this GPU does not compute in it; choose fp16", "precision")
        arguments = TrainingArguments(
            output_dir=str(job.path / "checkpoints"),
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.accumulation,
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps or -1,
            learning_rate=settings.learning_rate,
            warmup_steps=round(settings.warmup * steps),
            lr_scheduler_type=SCHEDULES[settings.schedule],
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            bf16=settings.precision == "bf16",
            fp16=settings.precision == "fp16",
            use_cpu=not on_gpu,
            seed=settings.seed,
            eval_strategy="no" if validate is None else "steps",
            eval_steps=every,
            # the Trainer writes a checkpoint at the end too, which is never read
            save_strategy="no" if validate is None and steps <= settings.save_steps else "steps",
            save_steps=settings.save_steps if validate is None else every,
            save_total_limit=2,
            load_best_model_at_end=validate is not None,
            metric_for_best_model=metric,
            greater_is_better=greater_is_better,
            logging_steps=settings.log_steps,
            logging_first_step=True,
            logging_nan_inf_filter=False,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # one process, one device
        # the second `examples` is asked for, and not used: `evaluate` is ours
        super().__init__(model, arguments, collate, examples, examples, callbacks=callbacks)
        self.remove_callback(transformers.PrinterCallback)

    def fit(self) -> dict[str, Any]:
        """Train, from the last whole checkpoint where there is one; return what was measured.

        Raises:
            UserError: where the loss is not finite.
        """
        self.train(resume_from_checkpoint=_last_checkpoint(self._job.path / "checkpoints"))
        validated = [
            {k.removeprefix("eval_"): v for k, v in entry.items() if k in ("step", "loss") or k.startswith("eval_")}
            for entry in self.state.log_history
            if any(key.startswith("eval_") for key in entry)
        ]
        losses = torch.stack(list(self._losses)) if self._losses else None
        if losses is not None:
            self._check_finite(float(losses.sum()))
        return {
            "steps": self.state.global_step,
            "loss": None if losses is None else losses.mean().item() * self.settings.accumulation,
            "best_step": self.state.best_global_step if self._validate else None,
            "best_metric": self.state.best_metric,
            "validation": validated,
            **self.cost.report(),
        }

    def clear(self) -> None:
        """Delete the checkpoints: the result is written."""
        shutil.rmtree(self._job.path / "checkpoints", ignore_errors=True)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        lengths = self._examples.lengths if self.settings.group_by_length else None
        return EpochOrder(len(self._examples), self.settings.batch_size, self.settings.seed, lengths)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Let gradients stay where they are: giving them back each step costs more."""
        self.tuned.zero_grad = self._zero_grad  # type: ignore[method-assign]
        return super().create_optimizer(*args, **kwargs)

    def _zero_grad(self, set_to_none: bool = False) -> None:
        for parameter in self.tuned.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Take a batch's part of a step, and remember its loss."""
        loss = self.step(*args, **kwargs)
        self._losses.append(loss)
        return loss

    def step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Add a batch's gradients; a subclass may do it in another way."""
        return super().training_step(*args, **kwargs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Validate; the Trainer keeps the best checkpoint by what this returns."""
        assert self._validate is not None
        self.tuned.eval()
        with torch.inference_mode():
            metrics = {f"eval_{name}": value for name, value in self._validate().items()}
        self.tuned.train()
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Refuse to go on with a loss that is not finite."""
        self._check_finite(logs.get("loss", 0.0))
        super().log(logs, *args, **kwargs)

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {self.state.global_step}: lower the learning rate, or compute in fp32",
                ("learning_rate", "precision"),
            )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().contiguous().clone() for name, p in trainable(self.tuned).items()}
        safetensors.torch.save_file(tensors, Path(output_dir) / "trained.safetensors")

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        self._job.save(self.state.global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        tensors = safetensors.torch.load_file(Path(resume_from_checkpoint) / "trained.safetensors")
        with torch.no_grad():
            for name, parameter in trainable(self.tuned).items():
                parameter.copy_(tensors[name])

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def total_steps(settings: TrainingSettings, examples: Sized) -> int:
    """Return the number of steps of the optimiser that a training takes."""
    if settings.max_steps is not None:
        return settings.max_steps
    batches = -(-len(examples) // settings.batch_size)
    return math.ceil(-(-batches // settings.accumulation) * settings.epochs)


def _last_checkpoint(folder: Path) -> str | None:
    """Return the last checkpoint that was written to its end: its state is written last."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[-1])):
        try:
            json.loads((path / "trainer_state.json").read_text("utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)  # of a job that was killed while it wrote this
            continue
        return str(path)
    return None


def _tensorboard(folder: Path) -> TrainerCallback:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_package("tensorboard", "train") from None
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(str(folder)))
