"""What can be set for a training: one dataclass for each kind, read from flags and a YAML file.

Flags, YAML keys and the record in `training.json` are the same fields.  Imports nothing heavy: the
command line's help is made from here.
"""

import importlib.resources
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.errors import UserError
from xqg_pyserini.models.tuning.methods import METHODS, UNMERGED, WHOLE, TuningSettings

SCHEDULES = ("linear", "cosine", "constant")


def _option(default: Any, help: str, *choices: str) -> Any:
    """Declare a field with the text and the choices that its flag shows."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every training has; each field's help says what it is.

    Raises:
        UserError: for a value that no training can have.
    """

    model: str = field(metadata={"help": "the model to begin with: a Hugging Face name or folder"})
    data: tuple[str, ...] = _option(
        (), "training data: JSON Lines as Tevatron's, or TSV question<TAB>passage"
    )
    output: str = field(metadata={"help": "folder of the trained model"})
    validation: str | None = _option(None, "validation data, of the same forms")
    tuning: TuningSettings = field(default_factory=TuningSettings)
    learning_rate: float = _option(1e-5, "peak learning rate of AdamW")
    batch_size: int = _option(32, "questions a batch")
    accumulation: int = _option(1, "batches whose gradients make one step")
    epochs: float = _option(3.0, "passes over the data, where max_steps does not say it")
    max_steps: int | None = _option(None, "steps of the optimiser")
    warmup: float = _option(0.1, "share of the steps in which the learning rate rises")
    schedule: str = _option("linear", "how the learning rate falls after that", *SCHEDULES)
    weight_decay: float = _option(0.0, "decay of the weights that are no biases and no norms")
    max_grad_norm: float = _option(1.0, "longer gradients are cut to this norm; 0: never")
    eval_steps: int | None = _option(None, "steps between validations (default: ten in all)")
    patience: int | None = _option(None, "stop after so many validations without a better one")
    save_steps: int = _option(500, "steps between checkpoints, where there is no validation")
    log_steps: int = _option(10, "steps between records for TensorBoard")
    group_by_length: bool = _option(True, "put questions of like length into one batch")
    save: str = _option(
        "auto",
        "write the adapter alone or the whole model (auto: the adapter, where there is one)",
        *("auto", "adapter", "merged"),
    )
    precision: str = _option(
        "fp32", "bf16 and fp16 are mixed: weights stay fp32", "fp32", "bf16", "fp16"
    )
    device: str = _option("auto", "auto: cuda where there is one, else cpu", "auto", "cuda", "cpu")
    seed: int = _option(1, "of all that is drawn")

    def __post_init__(self) -> None:
        for f in fields(self):
            value, choices = getattr(self, f.name), f.metadata.get("choices")
            if choices and value is not None:
                self._check(f.name, value in choices, ", ".join(choices))
        for name in (
            "learning_rate",
            "batch_size",
            "accumulation",
            "epochs",
            "save_steps",
            "log_steps",
        ):
            self._check(name, getattr(self, name) > 0, "more than 0")
        for name in ("max_steps", "eval_steps", "patience"):
            self._check(name, getattr(self, name) is None or getattr(self, name) > 0, "1 or more")
        for name in ("weight_decay", "max_grad_norm"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        self._check("warmup", 0 <= self.warmup < 1, "a share from 0, below 1")
        self._check("seed", 0 <= self.seed < 1 << 32, "0 to 4294967295")
        if not self.trains_on:
            raise UserError("no training data: give --data FILE")
        method = self.tuning.method
        if self.save == "adapter" and method in WHOLE:
            raise UserError(f"tuning {method} has no adapter; use --save merged")
        if self.save == "merged" and method in UNMERGED:
            raise UserError(f"tuning {method} cannot be merged; use --save adapter")
        if self.validation is None and (self.patience or self.eval_steps):
            raise UserError("patience and eval_steps need validation data: give --validation FILE")

    @property
    def trains_on(self) -> tuple[str, ...]:
        """Return all files, folders and patterns that hold training data."""
        return self.data

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise UserError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    def record(self) -> dict[str, Any]:
        """Return all settings but the output's place, as JSON takes them."""
        record = {key: value for key, value in asdict(self).items() if key != "output"}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}


@dataclass(frozen=True, kw_only=True)
class RetrieverSettings(TrainingSettings):
    """What the training of a bi-encoder has besides."""

    synthetic: tuple[str, ...] = _option(
        (), "generated queries, as xqg generate writes them: questions whose positive is --corpus's"
    )
    corpus: str | None = _option(None, "the passages that --synthetic's queries were written for")
    untied: bool = _option(False, "train a second model, for queries, from the same beginning")
    pooling: str | None = _option(
        None, "how tokens become one vector (default: as the model says)", "cls", "mean", "pooler"
    )
    normalize: bool | None = _option(
        None,
        "compare by cosine, vectors scaled to length 1 (--l2-norm elsewhere); else by dot product",
    )
    query_prefix: str | None = _option(None, 'put before queries, e.g. "query: "')
    passage_prefix: str | None = _option(None, "put before passages")
    query_length: int | None = _option(None, "longest query in tokens")
    passage_length: int | None = _option(None, "longest passage in tokens")
    temperature: float = _option(0.05, "similarities are divided by it")
    negatives: int = _option(7, "hard negatives a question, drawn anew each epoch; 0: none")
    chunk_size: int | None = _option(
        None, "texts in memory at once (gradient caching): the same step in less memory"
    )
    distill: float = _option(0.0, "weight, 0 to 1, of the data's scores (KL divergence)")
    distill_temperature: float = _option(1.0, "the data's scores are divided by it")
    metric: str = _option("mrr@10", "what validation measures: mrr@10, or R@2kt (by answers)")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "distill_temperature"):
            self._check(name, getattr(self, name) > 0, "more than 0")
        for name in ("query_length", "passage_length"):
            value = getattr(self, name)
            self._check(name, value is None or value >= 3, "3 or more tokens")
        self._check("negatives", self.negatives >= 0, "0 or more")
        self._check("distill", 0 <= self.distill <= 1, "0 to 1")
        self._check("chunk_size", self.chunk_size is None or self.chunk_size > 0, "1 or more")
        if bool(self.synthetic) != (self.corpus is not None):
            raise UserError("--synthetic QUERIES and --corpus CORPUS go together: give both")
        if self.distill and not self.data:
            raise UserError(
                "--distill compares a question's passages, and generated queries have one each; "
                "give --data with negative passages and scores"
            )

    @property
    def trains_on(self) -> tuple[str, ...]:
        """Return all files, folders and patterns that hold training data."""
        return (*self.data, *self.synthetic)


@dataclass(frozen=True, kw_only=True)
class GeneratorTrainingSettings(TrainingSettings):
    """What the training of a query generator has besides."""

    learning_rate: float = _option(1e-4, "peak learning rate of AdamW")
    batch_size: int = _option(32, "pairs of a passage and a question a batch")
    prompt: str | None = _option(
        None, "file with a prompt: {language}, {title}, {passage} (default: the published one)"
    )
    language: str | None = _option(None, "language of the questions that name none, e.g. fi")
    source_length: int = _option(
        256, "longest prompt in tokens; of a longer one the passage is cut"
    )
    target_length: int = _option(32, "longest question in tokens, its end included")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("source_length", self.source_length >= 8, "8 or more tokens")
        self._check("target_length", self.target_length >= 2, "2 or more tokens")
        if self.tuning.method in ("prefix", "robust-prefix"):
            raise UserError(
                f"--tuning {self.tuning.method} is not for generators: xqg generate cannot put "
                "virtual tokens before what it writes; choose lora or adapter"
            )


KINDS: dict[str, type[TrainingSettings]] = {
    "retriever": RetrieverSettings,
    "generator": GeneratorTrainingSettings,
}

Settings = typing.TypeVar("Settings", bound=TrainingSettings)


class Option(NamedTuple):
    """A flag, and the YAML key of the same name with _ for -."""

    name: str
    kind: type
    many: bool
    default: Any
    help: str
    choices: tuple[str, ...]


def options(cls: type[TrainingSettings]) -> Iterator[Option]:
    """Yield what can be set for a kind of training, the tuning's settings among them."""
    for f in fields(cls):
        if f.name == "tuning":
            yield Option("tuning", str, False, "full", "how the model is tuned", METHODS)
            for part in fields(TuningSettings):
                if part.name != "method":
                    yield _as_option(TuningSettings, part)
        else:
            yield _as_option(cls, f)


def _as_option(cls: type, f: Field[Any]) -> Option:
    hint = typing.get_type_hints(cls)[f.name]
    inner = [kind for kind in typing.get_args(hint) if kind not in (type(None), Ellipsis)]
    many = typing.get_origin(hint) is tuple
    default = None if f.default is MISSING else f.default
    text, choices = f.metadata.get("help", ""), f.metadata.get("choices", ())
    return Option(f.name, inner[0] if inner else hint, many, default, text, choices)


def read_settings(
    cls: type[Settings], config: str | Path | None, flags: Mapping[str, Any]
) -> Settings:
    """Return the settings of a YAML file and of flags (None: not given); flags win.

    Raises:
        UserError: for a file that is none, an unknown key, a value of a wrong type, or one missing.
    """
    known = {option.name: option for option in options(cls)}
    given = {} if config is None else _read_yaml(Path(config))
    for key in given:
        if key not in known:
            raise UserError(f"{config}: {key!r} is unknown; expected {', '.join(known)}")
    given |= {key: value for key, value in flags.items() if value is not None}
    values = {key: _typed(known[key], value, config) for key, value in given.items()}
    for f in fields(cls):
        if f.default is MISSING and f.default_factory is MISSING and values.get(f.name) is None:
            raise UserError(f"{f.name} is missing: give --{f.name} (or {f.name}: in --config)")
    names = {f.name for f in fields(TuningSettings)}
    chosen = {key: values.pop(key) for key in names & set(values)}
    if "tuning" in values:
        chosen["method"] = values.pop("tuning")
    return cls(**values, tuning=TuningSettings(**chosen))


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    recipes = importlib.resources.files("xqg_pyserini.resources").joinpath("recipes")
    shipped = recipes.joinpath(f"{path}.yaml")
    if not path.exists() and shipped.is_file():
        path = Path(str(shipped))
    try:
        record = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: broken YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(record, dict):
        raise UserError(f"{path}: expected a mapping of settings to values")
    values = {str(key).replace("-", "_"): value for key, value in record.items()}
    tuning = values.get("tuning")
    if isinstance(tuning, dict):  # tuning: {method: lora, rank: 16} for tuning: lora, rank: 16
        values |= {str(key).replace("-", "_"): value for key, value in tuning.items()}
        values["tuning"] = values.pop("method", "full")
    return values


def _typed(option: Option, value: Any, config: str | Path | None) -> Any:
    if option.many:
        many = value if isinstance(value, list | tuple) else [value]
        return tuple(_typed(option._replace(many=False), item, config) for item in many)
    if value is None:
        return None
    if option.kind is float and isinstance(value, str):
        try:  # YAML takes 1e-5, without a point, for text
            return float(value)
        except ValueError:
            pass
    if option.kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, option.kind) or (option.kind is int and isinstance(value, bool)):
        names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise UserError(f"{config}: {option.name} is {value!r}; expected {names[option.kind]}")
    return value
