"""What decides the queries of a passage, and how a job is shared out.

Looks at a model's configuration, never at its weights.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from xqg_pyserini.cluster import CLUSTER_HELP, check_cluster
from xqg_pyserini.data import check_languages
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import write_json
from xqg_pyserini.generate.prompts import PromptTemplate, read_template, shipped_template
from xqg_pyserini.metadata import read_json
from xqg_pyserini.models.pretrained import load_tokenizer, read_config, torch_device
from xqg_pyserini.models.registry import ADAPTER_FILE
from xqg_pyserini.models.server import OPENAI, address_of, is_served
from xqg_pyserini.settings import check_values, option
from xqg_pyserini.stores import check_chosen

# kind → module and class in this folder; it is found by this name and by nothing else
BACKENDS = {
    "seq2seq": ("hugging_face", "Seq2Seq"),
    "causal": ("hugging_face", "Causal"),
    "ctranslate2": ("ctranslate", "CTranslate2"),
    "vllm": ("vllm", "VLLM"),
    OPENAI: ("served", "Served"),  # of models that a server runs, and of these alone
}
_BY_NAME = ("seq2seq", "causal", OPENAI)  # which the model says, not the user
# what else than (seed, passage, language, index) a query depends on, and by what it is fixed
DEPENDS = {
    "ctranslate2": ("seed", "shard", "batch_size"),
    "vllm": ("seed", "passage", "language", "index", "rounding"),
    OPENAI: ("seed", "passage", "language", "index", "server"),
}
PROMPT_FILE, PROMPT_FORMAT = "xqg_generator.json", 1  # beside a trained generator's weights
LONGEST_INPUT = 512  # tokens, where neither the user nor the model says it
SHARD_PASSAGES = 64  # of a shard by default, so that a kill costs minutes …
MOST_SHARDS = 4096  # … unless that would be too many files


@dataclass(frozen=True)
class GeneratorSettings:
    """Everything that decides what queries a passage gets; each field's help says what it is.

    What is left open (None, "auto", "transformers") depends on the model and the device: a job fills it in
    (`complete`).  `kind` is a key of `BACKENDS`, and None until then.

    Raises:
        UserError: for a value that the field does not take, a language that is not known.
    """

    model: str = option(help="Hugging Face name or folder; openai:MODEL@URL of a server", metavar="NAME")
    languages: tuple[str, ...] = option(help="codes (BCP 47, ISO 639), e.g. fi hau pt-BR", metavar="xx")
    prompt: str | PromptTemplate | None = option(  # noqa: RUF009 (a mutable default it is not)
        None, "prompt template (default: published)", metavar="FILE"
    )
    num_queries: int = option(5, "queries a passage and language", least=1, metavar="N")
    chat: bool | None = option(None, "put the prompt into the tokenizer's chat template (default: where it has one)")
    top_k: int = option(10, "sample from the N best tokens (default 10; 1: greedy, 0: all)", least=0, metavar="N")
    top_p: float = option(
        1.0, "of a served model: sample from the best tokens that together have this share", above=0, most=1
    )
    temperature: float = option(1.0, "", above=0, metavar="T")
    max_new_tokens: int = option(64, "longest query in tokens", least=1, metavar="N")
    max_input_tokens: int | None = option(
        None, f"longest prompt; longer passages are cut (default {LONGEST_INPUT})", least=8, metavar="N"
    )
    seed: int = option(42, "", least=0, metavar="N")
    precision: str = option(
        "auto",
        "auto: bf16 on a GPU, fp32 on the CPU, int8 there with ctranslate2",
        *("auto", "fp32", "fp16", "bf16", "int8"),
    )
    backend: str = option(
        "transformers",
        "faster: ctranslate2 (extra ct2) for encoder-decoders, converted once; vllm (extra vllm) for causal models",
        *("transformers", *(name for name in BACKENDS if name not in _BY_NAME)),
    )
    trust_remote_code: bool = option(False, "run Python code that comes with the model")
    kind: str | None = None

    def __post_init__(self) -> None:
        check_values(self)
        object.__setattr__(self, "languages", check_languages(self.languages))
        if not self.languages:
            raise UserError("no language to generate in: give some, e.g. ar bn fi", "languages")

    @property
    def template(self) -> PromptTemplate:
        """Return the prompt of complete settings."""
        assert isinstance(self.prompt, PromptTemplate)
        return self.prompt

    @property
    def longest_input(self) -> int:
        """Return the most tokens of a prompt, of complete settings."""
        assert self.max_input_tokens is not None
        return self.max_input_tokens

    def describe(self) -> dict[str, Any]:
        """Return complete settings as `meta.json` holds them."""
        values = {**asdict(self), "prompt": self.template.text, "backend": self.kind}
        del values["kind"], values["trust_remote_code"]
        if self.kind == OPENAI:
            values["precision"] = None  # the server's
        else:
            del values["top_p"]
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
        return {name: values.pop(name) for name in ("model", "backend")} | values

    def complete(self, device: str = "auto") -> "GeneratorSettings":
        """Return these settings with what is open filled in.

        The backend "transformers" runs the model as what it is, seq2seq or causal.  The prompt is the one that the
        model was trained on, where `xqg train generator` wrote that into its folder; else the published one for
        encoder-decoders, a few-shot prompt for causal models, an instruction where these have a chat template, which is
        then used.  The precision "auto" is bf16 on a GPU; on the CPU it is fp32, or int8 with CTranslate2.  A served
        model is taken for one with a chat template unless `chat` is False.

        Raises:
            UserError: for a model that is no generator, or settings that do not fit together.
        """
        if self.kind is not None:
            return self
        if is_served(self.model):
            return self._complete_served()
        if self.top_p != 1:
            raise UserError("top_p is for served models (openai:MODEL@URL); top_k is for all", "top_p")
        model, chat, prompt, precision = self.model, self.chat, self.prompt, self.precision
        kind, longest = self.backend, self.max_input_tokens
        if kind == "transformers":
            kind = model_backend(model, read_config(model, self.trust_remote_code))
        causal = kind in ("causal", "vllm")
        if chat and not causal:
            raise UserError(f"a chat template is for causal models, and {model!r} is none", "chat")
        trained = read_trained_prompt(model)
        if trained is not None and prompt is None and not chat:
            prompt, chat, longest = trained.template, False, longest or trained.longest
        if kind in DEPENDS and is_adapter(Path(model)):
            raise UserError(
                f"{model}: an adapter, which {kind} does not put on its base; use the backend "
                "transformers, or save it merged when it is trained",
                "backend",
            )
        if chat is None:
            chat = causal and bool(getattr(load_tokenizer(model, self.trust_remote_code), "chat_template", None))
        if prompt is None:
            prompt = shipped_template("chat" if chat else "few-shot" if causal else "question")
        if precision == "auto":
            cpu = device != "cuda" and torch_device(device) == "cpu"  # the GPUs may be a cluster's
            precision = ("int8" if kind == "ctranslate2" else "fp32") if cpu else "bf16"
        if precision == "int8" and kind != "ctranslate2":
            raise UserError("the precision int8 takes the backend ctranslate2", "backend")
        template = read_template(prompt) if isinstance(prompt, str) else prompt
        filled: dict[str, Any] = {"kind": kind, "prompt": template, "chat": chat, "precision": precision}
        return replace(self, **filled, max_input_tokens=longest or LONGEST_INPUT)

    def _complete_served(self) -> "GeneratorSettings":
        address = address_of(self.model)
        open_ = {"backend": "transformers", "precision": "auto", "max_input_tokens": None, "trust_remote_code": False}
        for name, value in open_.items():
            if getattr(self, name) != value:
                raise UserError(f"the server of {address.model} decides the {name}; leave it out", name)
        chat = self.chat is not False
        prompt = shipped_template("chat" if chat else "few-shot") if self.prompt is None else self.prompt
        template = read_template(prompt) if isinstance(prompt, str) else prompt
        return replace(self, model=address.name, kind=OPENAI, prompt=template, chat=chat)


@dataclass(frozen=True)
class JobSettings:
    """How a generation job is shared out: shards, devices, batches; each field's help says more.

    Raises:
        UserError: for a value that the field does not take, shards that are out of range.
    """

    devices: tuple[str, ...] = option(
        ("auto",), "auto (default), cpu, cuda; one worker a device, cuda: every GPU", flag="device"
    )
    batch_size: int = option(64, "queries at once", least=1, metavar="N")
    threads: int | None = option(None, "CPU threads (default: all cores)", least=1, metavar="N")
    num_shards: int | None = option(
        None,
        f"shards of the whole corpus (default: of {SHARD_PASSAGES} passages, at most {MOST_SHARDS})",
        least=1,
        metavar="N",
    )
    shards: tuple[int, ...] | None = option(
        None, "write only these, counted from 0: 7, or 0-31 (default: all)", flag="shard", metavar="I"
    )
    cluster: str | None = option(None, CLUSTER_HELP, metavar="ray[:ADDRESS]")

    def __post_init__(self) -> None:
        check_values(self)
        check_chosen(self.num_shards, self.shards)
        if self.cluster is not None:
            check_cluster(self.cluster)
            if len(self.devices) != 1:
                raise UserError("on a cluster a worker has one device: auto, cpu or cuda", "devices")


class TrainedPrompt(NamedTuple):
    """What a generator that `xqg train generator` made says of its prompt."""

    template: PromptTemplate
    longest: int  # in tokens


def write_trained_prompt(folder: Path, template: PromptTemplate, longest: int) -> None:
    """Write into a model's folder what its prompt was in training."""
    write_json(folder / PROMPT_FILE, {"format": PROMPT_FORMAT, "prompt": template.text, "max_input_tokens": longest})


class _Recorded(Struct):
    """What a model's folder says of its prompt."""

    format: int
    prompt: str
    max_input_tokens: int


def read_trained_prompt(model: str) -> TrainedPrompt | None:
    """Return what a model's folder says of its prompt, or None where it says nothing."""
    path = Path(model) / PROMPT_FILE
    if not path.is_file():
        return None
    record = read_json(path, _Recorded, "train again, or give a prompt", "prompt")
    if record.format != PROMPT_FORMAT:
        raise UserError(f"{path}: format {record.format!r}; this version reads {PROMPT_FORMAT}")
    return TrainedPrompt(PromptTemplate(record.prompt, str(path)), record.max_input_tokens)


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter, not a whole model."""
    return (folder / ADAPTER_FILE).is_file()


def model_backend(name: str, config: Any) -> str:
    """Return which of our backends runs a model: "seq2seq" or "causal".

    Raises `UserError` for a model that writes no text, such as an encoder.
    """
    written = [str(a) for a in config.architectures or ()]
    if config.is_encoder_decoder and any("ConditionalGeneration" in a or a == "EncoderDecoderModel" for a in written):
        return "seq2seq"
    if any(a.endswith(("ForCausalLM", "LMHeadModel")) for a in written):
        return "causal"
    raise UserError(
        f"the model {name!r} is no generator ({', '.join(written) or 'it names no architecture'}): "
        "expected an encoder-decoder such as mT5, or a causal language model"
    )


def check_positions(config: Any, model: str, lengths: dict[str, int], start: int) -> None:
    """Raise `UserError` for lengths that a model has no positions for: the fewer of its two parts.

    `lengths` are most tokens that are read, then those that are written, by their settings' names; `start` is the
    number of tokens that a decoder is given to begin with.
    """
    parts = [config, getattr(config, "encoder", None), getattr(config, "decoder", None)]
    numbers = [getattr(part, "max_position_embeddings", None) for part in parts]
    positions = min((n for n in numbers if isinstance(n, int) and n > 0), default=None)  # None: without bound
    (reading, reads), (writing, writes) = lengths.items()
    longest = max(reads, writes + start) if config.is_encoder_decoder else reads + writes
    if positions is not None and longest > positions:
        raise UserError(
            f"the model {model!r} has {positions} positions; {reading} {reads} and {writing} "
            f"{writes} take {longest}: choose less",
            (reading, writing),
        )


def check_model(config: Any, settings: GeneratorSettings) -> None:
    """Raise `UserError` for lengths without positions, and for a T5 in float16.

    The latter's activations pass 65,504, and what it writes is noise.
    """
    lengths = {"max_input_tokens": settings.longest_input, "max_new_tokens": settings.max_new_tokens}
    check_positions(config, settings.model, lengths, start=2)
    if settings.precision == "fp16" and "t5" in config.model_type:
        raise UserError(
            f"{config.model_type} overflows in float16 (its activations exceed 65504); choose bf16, or fp32",
            "precision",
        )
