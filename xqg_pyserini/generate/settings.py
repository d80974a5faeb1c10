"""What decides the queries of a passage: `GeneratorSettings`, and how the open ones are filled in.

Looks at a model's configuration, never at its weights.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.data import check_languages
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import write_json
from xqg_pyserini.generate.prompts import PromptTemplate, shipped_template
from xqg_pyserini.models.pretrained import load_tokenizer, read_config, torch_device

# name → module and class in this folder; a backend is found by this name and by nothing else
BACKENDS = {
    "seq2seq": ("hugging_face", "Seq2Seq"),
    "causal": ("hugging_face", "Causal"),
    "ctranslate2": ("ctranslate", "CTranslate2"),
}
RECORDED, FORMAT = "xqg_generator.json", 1  # beside a trained generator's weights: its prompt
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class GeneratorSettings:
    """Everything that decides what queries a passage gets.

    Attributes:
        model: Hugging Face name or folder.
        backend: a key of `BACKENDS`.
        languages: codes of the languages to write in.
        num_queries: queries a passage and language.
        prompt: see `PromptTemplate`.
        chat: put the prompt into the tokenizer's chat template (causal models).
        top_k: sample from so many most probable tokens; 1 is greedy, 0 takes all tokens.
        temperature: divides the logits before sampling.
        max_new_tokens: longest query in tokens.
        max_input_tokens: longest prompt in tokens; of a longer one the passage is cut.
        seed: of the sampling.
        precision: fp32, bf16, fp16, or int8 (CTranslate2).
    """

    model: str
    backend: str
    languages: tuple[str, ...]
    prompt: PromptTemplate
    num_queries: int = 5
    chat: bool = False
    top_k: int = 10
    temperature: float = 1.0
    max_new_tokens: int = 64
    max_input_tokens: int = 512
    seed: int = 42
    precision: str = "fp32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", check_languages(self.languages))
        if not self.languages:
            raise UserError("no language to generate in: give --languages, e.g. ar bn fi")
        if self.backend not in BACKENDS:
            raise UserError(f"backend {self.backend!r}; expected {', '.join(BACKENDS)}")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r}; expected {', '.join(PRECISIONS)}")
        for name, least in (
            ("num_queries", 1),
            ("top_k", 0),
            ("max_new_tokens", 1),
            ("max_input_tokens", 8),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(
                    f"--{name.replace('_', '-')} is {value!r}; expected a whole number, "
                    f"{least} or more"
                )
        if not 0 < self.temperature < float("inf"):
            raise UserError(
                f"--temperature is {self.temperature!r}; expected a number above 0 "
                "(--top-k 1 is greedy)"
            )

    def describe(self) -> dict[str, Any]:
        """Return the settings as `meta.json` holds them."""
        values = {**asdict(self), "prompt": self.prompt.text}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def choose_settings(
    model: str,
    languages: Sequence[str],
    *,
    backend: str = "transformers",
    prompt: PromptTemplate | None = None,
    chat: bool | None = None,
    precision: str = "auto",
    device: str = "auto",
    **sampling: Any,
) -> GeneratorSettings:
    """Fill in what the user left open and return the `GeneratorSettings`.

    "transformers" is the backend seq2seq or causal, as the model is.  The prompt is the one that
    the model was trained on, where `xqg train generator` wrote that into its folder; else the
    published one for encoder-decoders, a few-shot prompt for causal models, an instruction where
    these have a chat template, which is then used.  The precision "auto" is bf16 on a GPU; on the
    CPU it is fp32, or int8 with CTranslate2.
    Raises `UserError` for a model that is no generator, or settings that do not fit together.
    """
    if backend not in ("transformers", *BACKENDS):
        raise UserError(f"backend {backend!r}; expected transformers or ctranslate2")
    kind = model_backend(model, read_config(model)) if backend == "transformers" else backend
    if chat and kind != "causal":
        raise UserError(f"--chat is for causal models, and {model!r} is none; leave it out")
    trained = read_recorded(model)
    if trained is not None and prompt is None and not chat:
        prompt, chat = trained.prompt, False
        if sampling.get("max_input_tokens") is None:
            sampling["max_input_tokens"] = trained.max_input_tokens
    if kind == "ctranslate2" and is_adapter(Path(model)):
        raise UserError(
            f"{model}: an adapter, which CTranslate2 cannot put on its base; leave --backend out, "
            "or train with --save merged"
        )
    if chat is None:
        chat = kind == "causal" and bool(getattr(load_tokenizer(model), "chat_template", None))
    if prompt is None:
        name = "chat" if chat else "few-shot" if kind == "causal" else "question"
        prompt = shipped_template(name)
    if precision == "auto":
        cpu = torch_device(device) == "cpu"
        precision = ("int8" if kind == "ctranslate2" else "fp32") if cpu else "bf16"
    if precision == "int8" and kind != "ctranslate2":
        raise UserError("--precision int8 takes --backend ctranslate2")
    return GeneratorSettings(
        model=model,
        backend=kind,
        languages=tuple(languages),
        prompt=prompt,
        chat=chat,
        precision=precision,
        **{name: value for name, value in sampling.items() if value is not None},
    )


class Recorded(NamedTuple):
    """What a generator that `xqg train generator` made says of its prompt."""

    prompt: PromptTemplate
    max_input_tokens: int


def record_prompt(folder: Path, prompt: PromptTemplate, max_input_tokens: int) -> None:
    """Write into a model's folder what its prompt was in training."""
    record = {"format": FORMAT, "prompt": prompt.text, "max_input_tokens": max_input_tokens}
    write_json(folder / RECORDED, record)


def read_recorded(model: str) -> Recorded | None:
    """Return what a model's folder says of its prompt, or None where it says nothing."""
    path = Path(model) / RECORDED
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["format"] != FORMAT:
            raise UserError(f"{path}: format {record['format']!r}; this version reads {FORMAT}")
        text, longest = record["prompt"], record["max_input_tokens"]
        if not isinstance(text, str) or not isinstance(longest, int):
            raise TypeError("prompt is no text, or max_input_tokens no number")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); train again, or give --prompt") from None
    return Recorded(PromptTemplate(text, str(path)), longest)


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds an adapter, not a whole model."""
    return (folder / "xqg_adapter.json").is_file()


def model_backend(name: str, config: Any) -> str:
    """Return which of our backends runs a model: "seq2seq" or "causal".

    Raises `UserError` for a model that writes no text, such as an encoder.
    """
    written = [str(a) for a in config.architectures or ()]
    if config.is_encoder_decoder and any(
        "ConditionalGeneration" in a or a == "EncoderDecoderModel" for a in written
    ):
        return "seq2seq"
    if any(a.endswith(("ForCausalLM", "LMHeadModel")) for a in written):
        return "causal"
    raise UserError(
        f"the model {name!r} is no generator ({', '.join(written) or 'it names no architecture'}): "
        "expected an encoder-decoder such as mT5, or a causal language model"
    )


def model_positions(config: Any) -> int | None:
    """Return how many positions a model has, the fewer of its two parts; None: without bound."""
    parts = [config, getattr(config, "encoder", None), getattr(config, "decoder", None)]
    found = [getattr(part, "max_position_embeddings", None) for part in parts]
    return min((n for n in found if isinstance(n, int) and n > 0), default=None)


def check_positions(config: Any, settings: GeneratorSettings, prefix: int = 1) -> None:
    """Raise `UserError` for lengths that a model has no positions for.

    `prefix` is the number of tokens that a decoder is given to begin with.
    """
    positions = model_positions(config)
    if positions is None:
        return
    reads, writes = settings.max_input_tokens, settings.max_new_tokens
    longest = max(reads, writes + prefix) if config.is_encoder_decoder else reads + writes
    if longest > positions:
        raise UserError(
            f"the model {settings.model!r} has {positions} positions; --max-input-tokens {reads} "
            f"and --max-new-tokens {writes} take {longest}: choose less"
        )


def refuse_overflow(config: Any, settings: GeneratorSettings) -> None:
    """Raise `UserError` for a T5 in float16: its activations pass 65,504, and queries are noise."""
    if settings.precision == "fp16" and "t5" in config.model_type:
        raise UserError(
            f"{config.model_type} overflows in float16 (its activations exceed 65504); "
            "choose --precision bf16, or fp32"
        )
