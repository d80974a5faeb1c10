"""What can be set for a training: one dataclass for each kind, read from flags and a YAML file.

Flags, YAML keys and the record in `training.json` are the same fields.  Imports nothing heavy: the command line's help
is made from here.
"""

import importlib.resources
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from xqg_pyserini.data import CorpusFields
from xqg_pyserini.errors import UserError
from xqg_pyserini.models.tuning.methods import UNMERGED, WHOLE, TuningSettings
from xqg_pyserini.settings import Option, check_values, option, options, read_yaml

# ours → what transformers calls it
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every training has; each field's help says what it is.

    Raises:
        UserError: for a value that no training can have.
    """

    model: str = option(help="the model to begin with: a Hugging Face name or folder")
    data: tuple[str, ...] = option((), "training data: JSON Lines as Tevatron's, or TSV question<TAB>passage")
    output: str = option(help="folder of the trained model")
    validation: str | None = option(None, "validation data, of the same forms")
    tuning: TuningSettings = field(default_factory=TuningSettings)
    learning_rate: float = option(1e-5, "peak learning rate of AdamW", above=0)
    batch_size: int = option(32, "questions a batch", least=1)
    accumulation: int = option(1, "batches whose gradients make one step", least=1)
    epochs: float = option(3.0, "passes over the data, where max_steps does not say it", above=0)
    max_steps: int | None = option(None, "steps of the optimiser", least=1)
    warmup: float = option(0.1, "share of the steps in which the learning rate rises", least=0, below=1)
    schedule: str = option("linear", "how the learning rate falls after that", *SCHEDULES)
    weight_decay: float = option(0.0, "decay of the weights that are no biases and no norms", least=0)
    max_grad_norm: float = option(1.0, "longer gradients are cut to this norm; 0: never", least=0)
    eval_steps: int | None = option(None, "steps between validations (default: ten in all)", least=1)
    patience: int | None = option(None, "stop after so many validations without a better one", least=1)
    save_steps: int = option(500, "steps between checkpoints, where there is no validation", least=1)
    log_steps: int = option(10, "steps between records for TensorBoard", least=1)
    group_by_length: bool = option(True, "put questions of like length into one batch")
    save: str = option(
        "auto",
        "write the adapter alone or the whole model (auto: the adapter, where there is one)",
        *("auto", "adapter", "merged"),
    )
    precision: str = option("fp32", "bf16 and fp16 are mixed: weights stay fp32", "fp32", "bf16", "fp16")
    device: str = option("auto", "auto: cuda where there is one, else cpu", "auto", "cuda", "cpu")
    seed: int = option(1, "of all that is drawn", least=0, below=1 << 32)

    def __post_init__(self) -> None:
        check_values(self)
        if not self.trains_on:
            raise UserError("no training data: give some", "data")
        method = self.tuning.method
        if self.save == "adapter" and method in WHOLE:
            raise UserError(f"tuning {method} has no adapter; save it merged", "save")
        if self.save == "merged" and method in UNMERGED:
            raise UserError(f"tuning {method} cannot be merged; save the adapter", "save")
        if self.validation is None and (self.patience or self.eval_steps):
            raise UserError("patience and eval_steps need validation data", "validation")

    @property
    def trains_on(self) -> tuple[str, ...]:
        """Return all files, folders and patterns that hold training data."""
        return self.data

    def record(self) -> dict[str, Any]:
        """Return all settings but the output's place, as JSON takes them."""
        values = {key: value for key, value in asdict(self).items() if key != "output"}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


@dataclass(frozen=True, kw_only=True)
class RetrieverSettings(CorpusFields, TrainingSettings):
    """What the training of a bi-encoder has besides."""

    synthetic: tuple[str, ...] = option(
        (), "generated queries, as xqg generate writes them: questions whose positive is --corpus's"
    )
    corpus: str | None = option(None, "the passages that --synthetic's queries were written for")
    untied: bool = option(False, "train a second model, for queries, from the same beginning")
    pooling: str | None = option(
        None, "how tokens become one vector (default: as the model says)", "cls", "mean", "pooler"
    )
    normalize: bool | None = option(
        None, "compare by cosine, vectors scaled to length 1 (--l2-norm elsewhere); else by dot product"
    )
    query_prefix: str | None = option(None, 'put before queries, e.g. "query: "')
    passage_prefix: str | None = option(None, "put before passages")
    query_length: int | None = option(None, "longest query in tokens", least=3)
    passage_length: int | None = option(None, "longest passage in tokens", least=3)
    temperature: float = option(0.05, "similarities are divided by it", above=0)
    negatives: int = option(7, "hard negatives a question, drawn anew each epoch; 0: none", least=0)
    chunk_size: int | None = option(
        None, "texts in memory at once (gradient caching): the same step in less memory", least=1
    )
    distill: float = option(0.0, "weight, 0 to 1, of the data's scores (KL divergence)", least=0, most=1)
    distill_temperature: float = option(1.0, "the data's scores are divided by it", above=0)
    metric: str = option("mrr@10", "what validation measures: mrr@10, or R@2kt (by answers)")

    def __post_init__(self) -> None:
        TrainingSettings.__post_init__(self)
        if bool(self.synthetic) != (self.corpus is not None):
            raise UserError("generated queries and their corpus go together: give both", ("synthetic", "corpus"))
        if self.distill and not self.data:
            raise UserError(
                "distillation compares a question's passages, and generated queries have one each; "
                "give data with negative passages and scores",
                ("distill", "data"),
            )

    @property
    def trains_on(self) -> tuple[str, ...]:
        """Return all files, folders and patterns that hold training data."""
        return (*self.data, *self.synthetic)


@dataclass(frozen=True, kw_only=True)
class GeneratorTrainingSettings(TrainingSettings):
    """What the training of a query generator has besides."""

    learning_rate: float = option(1e-4, "peak learning rate of AdamW", above=0)
    batch_size: int = option(32, "pairs of a passage and a question a batch", least=1)
    prompt: str | None = option(None, "file with a prompt: {language}, {title}, {passage} (default: the published one)")
    language: str | None = option(None, "language of the questions that name none, e.g. fi")
    source_length: int = option(256, "longest prompt in tokens; of a longer one the passage is cut", least=8)
    target_length: int = option(32, "longest question in tokens, its end included", least=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tuning.method in ("prefix", "robust-prefix"):
            raise UserError(
                f"tuning {self.tuning.method} is not for generators: virtual tokens cannot be put "
                "before what is written; choose lora or adapter",
                "tuning",
            )


TRAININGS: dict[str, type[TrainingSettings]] = {"retriever": RetrieverSettings, "generator": GeneratorTrainingSettings}

Settings = TypeVar("Settings", bound=TrainingSettings)


def training_options(cls: type[TrainingSettings]) -> Iterator[Option]:
    """Yield what can be set for a kind of training, and then its tuning's settings.

    The method is called `tuning`, as a flag and in YAML.
    """
    yield from options(cls)
    for setting in options(TuningSettings):
        yield setting._replace(name="tuning") if setting.name == "method" else setting


def read_settings(cls: type[Settings], config: str | Path | None, typed: Mapping[str, Any]) -> Settings:
    """Return the settings of a YAML file and of what was typed (None: it was not), which wins.

    `config` is the file, or the name of a shipped recipe; `typed` has the value of each option.
    Raises `UserError` for a file that is none, an unknown key, a value of a wrong type, or one missing.
    """
    known = {setting.name: setting for setting in training_options(cls)}
    values = {}
    for key, value in ({} if config is None else _read_config(Path(config))).items():
        if key not in known:
            raise UserError(f"{config}: {key!r} is unknown; expected {', '.join(known)}")
        values[key] = known[key].read(value, str(config))
    values |= {key: value for key, value in typed.items() if value is not None}
    for name, setting in known.items():
        if setting.required and values.get(name) is None:
            raise UserError(f"{name} is missing: give it, here or in the configuration file", name)
    names = {f.name for f in fields(TuningSettings)}
    chosen = {key: values.pop(key) for key in names & set(values)}
    if "tuning" in values:
        chosen["method"] = values.pop("tuning")
    return cls(**values, tuning=TuningSettings(**chosen))


def _read_config(path: Path) -> dict[str, Any]:
    """Read a file or a shipped recipe; tuning: {method: lora, rank: 16} is its parts, flat."""
    shipped = importlib.resources.files("xqg_pyserini.resources") / "recipes" / f"{path}.yaml"
    values = read_yaml(Path(str(shipped)) if not path.exists() and shipped.is_file() else path)
    if isinstance(values.get("tuning"), dict):
        parts = {str(key).replace("-", "_"): value for key, value in values.pop("tuning").items()}
        values |= {"tuning": parts.pop("method", "full"), **parts}
    return values
