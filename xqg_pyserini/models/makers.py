"""What a model's makers say of it: its pooling, prompts, lengths, in the files that sentence-transformers writes.

Such a model has a `modules.json`.  Where its modules are a transformer, one pooling of `POOLINGS_HERE` and, at most, a
scaling to length 1, our own engine makes the same vectors of a text; anything else (Dense layers, other poolings, two
towers, code of its own) is run by sentence-transformers itself, the backend of that name.  Files are a folder's, or the
hub's; nothing but JSON is read.
"""

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from xqg_pyserini.errors import UserError
from xqg_pyserini.metadata import read_json

MODULES = "sentence-transformers"  # the backend
POOLINGS_HERE = {"cls": "cls", "mean": "mean", "lasttoken": "last"}  # sentence-transformers' names, and ours
UNLIMITED = 1 << 20  # tokens: a model that says no longest text
_REMEDY = ("give a pooling to do without", "pooling")
_OURS = "sentence_transformers."  # begins the type of a module that is no code of the model's own
_LIMITS = [f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert")]
_LIMITS += ["sentence_xlm-roberta_config.json", "sentence_xlnet_config.json"]
# what a transformer module may say without being more than tokens in, last hidden states out
_PLAIN = {
    "do_lower_case": False,
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
_HARMLESS = ("max_seq_length", "query_length", "document_length", "unpad_inputs")


class _Module(Struct):
    type: str
    path: str

    def __post_init__(self) -> None:
        if self.path.startswith("/") or ".." in Path(self.path).parts:
            raise UserError(f"the path {self.path!r} leads out of the model")

    @property
    def kind(self) -> str:
        """Return the class's name, and of code of the model's own the whole."""
        return self.type.rsplit(".", 1)[-1] if self.type.startswith(_OURS) else self.type


class _Config(Struct):
    prompts: dict[str, str | None] | None = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None
    model_type: str = "SentenceTransformer"


class _Pooling(Struct):
    pooling_mode: str | list[str] | None = None
    include_prompt: bool = True
    # as files before sentence-transformers 6 say it
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False

    @property
    def modes(self) -> list[str]:
        """Return what is pooled, in sentence-transformers' names."""
        if self.pooling_mode is not None:
            return [self.pooling_mode] if isinstance(self.pooling_mode, str) else self.pooling_mode
        old = [name for name in self.__struct_fields__ if name.startswith("pooling_mode_") and getattr(self, name)]
        return [name.removeprefix("pooling_mode_").split("_token")[0] for name in old] or ["mean"]


class _Router(Struct):
    types: dict[str, str]  # folder → class
    structure: dict[str, list[str]]  # route → its folders


class _Limits(Struct):
    max_seq_length: int | None = None
    query_length: int | None = None
    document_length: int | None = None


class Files:
    """The small files of a model: of a folder, of the hub, or of its cache here where the hub is not reached."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(name) if Path(name).is_dir() else None
        self.commit: str | None = None  # of the hub
        self._there: set[str] | None = None  # of the hub; None: not reached
        if self.folder is None:
            self._ask()

    def _ask(self) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

        try:
            info = HfApi().model_info(self.name, timeout=10)
        except (HFValidationError, RepositoryNotFoundError):
            self._there = set()
        except Exception:  # what clients raise that do not reach a server; the cache may have it
            self._there = None
        else:
            self.commit = info.sha
            self._there = {file.rfilename for file in info.siblings or ()}

    def find(self, *parts: str) -> Path | None:
        """Return where a file lies, None where the model has none.

        Raises:
            UserError: for a file of the hub that is not given out, such as one behind a licence.
        """
        if self.folder is not None:
            path = self.folder.joinpath(*parts)
            return path if os.path.isfile(path) else None  # of names that are too long too
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        file = "/".join(part.strip("/") for part in parts if part)
        if self._there is None:
            cached = try_to_load_from_cache(self.name, file)
            if not isinstance(cached, str):
                return None
            self.commit = Path(cached).parents[file.count("/")].name
            return Path(cached)
        if file not in self._there:
            return None
        try:
            return Path(hf_hub_download(self.name, file, revision=self.commit))
        except Exception as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise UserError(f"the model {self.name!r}: its {file} is not to be had ({reason})") from None

    def read(self, kind: Any, *parts: str) -> Any:
        """Return what a JSON file holds, as `read_json`; None where there is no such file."""
        path = self.find(*parts)
        return None if path is None else read_json(path, kind, *_REMEDY)


@dataclass(frozen=True)
class Modules:
    """A model of sentence-transformers, as its files describe it."""

    files: Files
    parts: list[_Module]

    def all(self) -> Iterator[tuple[_Module, bool]]:
        """Yield the modules, those of a router's routes among them, and whether vectors leave the model by each."""
        for part in self.parts:
            routes = self.files.read(_Router, part.path, "router_config.json") if part.kind == "Router" else None
            yield part, routes is None and part is self.parts[-1]
            last = {names[-1] for names in routes.structure.values() if names} if routes else set()
            for name, kind in (routes.types if routes else {}).items():
                yield _Module(kind, f"{part.path}/{name}".lstrip("/")), part is self.parts[-1] and name in last

    def normalizes(self) -> bool:
        """Tell whether all vectors leave the model with length 1."""
        return all(part.kind == "Normalize" for part, last in self.all() if last)

    def own_code(self) -> Iterator[str]:
        """Yield what would have to be imported that is neither sentence-transformers nor torch."""
        for part, _ in self.all():
            if not part.type.startswith(_OURS):
                yield part.type
            elif part.kind == "Dense":
                activation = (self.files.read(dict[str, Any], part.path, "config.json") or {}).get(
                    "activation_function", "torch."
                )
                if not str(activation).startswith("torch."):
                    yield str(activation)

    def pooling(self) -> str | None:
        """Return the pooling by which our own engine does the same; None where sentence-transformers is needed."""
        kinds = [part.kind for part in self.parts]
        if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]) or self.parts[0].path:
            return None
        said = self.files.read(_Pooling, self.parts[1].path, "config.json")
        if said is None:
            what = f"its modules.json names a Pooling, and there is no {self.parts[1].path}/config.json"
            raise UserError(f"{self.files.name}: {what}; {_REMEDY[0]}", _REMEDY[1])
        pooling = POOLINGS_HERE.get(said.modes[0]) if len(said.modes) == 1 else None
        return pooling if pooling and said.include_prompt and self._plain(pooling) else None

    def _plain(self, pooling: str) -> bool:
        """Tell whether the transformer is no more than AutoModel's hidden states for the tokenizer's tokens."""
        said = self.limits(dict[str, Any])
        odd = {key for key, value in said.items() if value and key not in _HARMLESS and value != _PLAIN.get(key)}
        config = self.files.read(dict[str, Any], "config.json")
        if odd or config is None or config.get("is_encoder_decoder") or self.files.find("adapter_config.json"):
            return False
        # the first token of all is the first of the text where padding stands behind it
        return pooling != "cls" or self.tokenizer().get("padding_side", "right") == "right"

    def limits(self, kind: Any) -> Any:
        """Return what the transformer's own settings file holds, empty where there is none."""
        found = (self.files.read(kind, self.parts[0].path, name) for name in _LIMITS)
        return next((said for said in found if said is not None), kind())

    def tokenizer(self) -> Mapping[str, Any]:
        """Return the tokenizer's settings."""
        said: dict[str, Any] = self.files.read(dict[str, Any], self.parts[0].path, "tokenizer_config.json") or {}
        return said

    def lengths(self) -> dict[str, int]:
        """Return the longest query and passage in tokens, as sentence-transformers cuts them."""
        if self.parts[0].kind != "Transformer":
            return {"query_length": UNLIMITED, "passage_length": UNLIMITED}
        said = self.limits(_Limits)
        config = self.files.read(dict[str, Any], self.parts[0].path, "config.json") or {}
        known = [self.tokenizer().get("model_max_length"), config.get("max_position_embeddings")]
        longest = said.max_seq_length or min([n for n in known if isinstance(n, int | float) and n > 0] or [UNLIMITED])
        longest = int(min(longest, UNLIMITED))  # JSON has numbers that are too large for int
        return {"query_length": said.query_length or longest, "passage_length": said.document_length or longest}


def _files(name: str) -> Files:
    return Files(name) if Path(name).is_dir() else _of_hub(name)


@functools.lru_cache(8)
def _of_hub(name: str) -> Files:
    return Files(name)  # it asks the hub, which resolving and loading need not do twice


def modules_of(name: str) -> Modules | None:
    """Return the modules of a folder or a model of the hub, None where it has no modules.json."""
    files = _files(name)
    parts = files.read(list[_Module], "modules.json")
    if parts == []:
        raise UserError(f"{name}: its modules.json names no module; {_REMEDY[0]}", _REMEDY[1])
    return None if parts is None else Modules(files, parts)


def said_by_makers(name: str) -> dict[str, Any]:
    """Return the settings of an encoder that a model's own files state; {} where they state none.

    A DPR model is known by its type: it gives one vector a text.  Prompts are those called "query", and "document",
    "passage" or "corpus"; where a model has neither, the one that is its default.  Vectors are scaled to length 1 where
    the modules end so, or where the makers compare by cosine; cut ones are scaled after the cut.

    Raises:
        UserError: for files that are damaged, and for a model whose vectors inner products do not compare.
    """
    modules = modules_of(name)
    if modules is None:
        kind = (_files(name).read(dict[str, Any], "config.json") or {}).get("model_type")
        return {"pooling": "pooler"} if kind == "dpr" else {}
    config = modules.files.read(_Config, "config_sentence_transformers.json") or _Config()
    if config.model_type != "SentenceTransformer":
        raise UserError(f"the model {name!r} is a {config.model_type}; expected one that gives a vector for each text")
    normalize = modules.normalizes() or config.similarity_fn_name == "cosine"
    if not normalize and config.similarity_fn_name not in (None, "dot"):
        what = f"is compared by {config.similarity_fn_name} distance, and searches are by inner product"
        raise UserError(f"the model {name!r} {what}; {_REMEDY[0]}", _REMEDY[1])
    pooling = modules.pooling()
    runs = {"backend": "torch", "pooling": pooling} if pooling else {"backend": MODULES, "pooling": "modules"}
    return {**runs, "normalize": normalize, **_prefixes(config), **modules.lengths(), "dimensions": config.truncate_dim}


def _prefixes(config: _Config) -> dict[str, str]:
    prompts = {name: text for name, text in (config.prompts or {}).items() if text is not None}
    roles = {"query_prefix": ("query",), "passage_prefix": ("document", "passage", "corpus")}
    default = prompts.get(config.default_prompt_name or "", "")
    if any(name in prompts for names in roles.values() for name in names):
        default = ""
    return {role: next((prompts[name] for name in names if name in prompts), default) for role, names in roles.items()}
