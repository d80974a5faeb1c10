"""Which encoders are known by name, which of them are here, and whether one is the model that it was.

Nothing is downloaded to say what is here.
"""

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.errors import UserError
from xqg_pyserini.models.encoder import Encoded, Encoder
from xqg_pyserini.models.engines import ENGINES, PROBES, Packaged, probes_text, same_probes
from xqg_pyserini.models.makers import MODULES
from xqg_pyserini.models.registry import EncoderSettings, registry, resolve
from xqg_pyserini.models.server import OPENAI, address_of

_NEEDED = {"torch": "torch", "transformers": "transformers", "sentence-transformers": "sentence_transformers"}


class KnownEncoder(NamedTuple):
    """An encoder that a name stands for."""

    settings: EncoderSettings
    registered: bool  # else it is a model of sentence-transformers in the hub's cache
    here: bool  # it can be loaded without the network
    where: str  # "installed", "in the cache", "a folder", "not here", or what to install


def known_encoders() -> list[KnownEncoder]:
    """Return the encoders of the registry, then those in the hub's cache that say themselves what they are."""
    names = {name: resolve(name) for name in registry() if not _needs_hub(name)}
    known = [KnownEncoder(settings, True, *_where(settings)) for settings in names.values()]
    return [*known, *_cached(set(names))]


def _needs_hub(name: str) -> bool:
    """Tell whether an entry leaves its settings to a model of the hub, which listing does not ask."""
    entry = registry()[name]
    return entry.get("backend") == MODULES and not Path(str(entry.get("model"))).is_dir()


def _where(settings: EncoderSettings) -> tuple[bool, str]:
    engine = ENGINES[settings.backend]
    if issubclass(engine, Packaged):
        installed = _version(engine.package) is not None
        return installed, "installed" if installed else f"pip install 'xqg_pyserini[{engine.extra}]'"
    if settings.backend == OPENAI:  # which is not asked
        return False, f"served at {address_of(settings.model).url}"
    models = {settings.model_for("query"), settings.model_for("passage")}
    places = [_place(model) for model in sorted(models)]
    if None in places:
        return False, "not here"
    if settings.backend == MODULES and _version(MODULES) is None:
        return False, "pip install 'xqg_pyserini[st]'"
    return True, "a folder" if all(Path(model).is_dir() for model in models) else "in the cache"


def _place(model: str) -> Path | None:
    """Return the folder that holds a model's weights here, if one does."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    folder = Path(model)
    if not folder.is_dir():
        try:
            cached = [try_to_load_from_cache(model, file) for file in ("config.json", "modules.json")]
        except HFValidationError:
            return None
        folder = next((Path(file).parent for file in cached if isinstance(file, str)), folder)
    weights = (path for kind in ("safetensors", "bin") for path in folder.glob(f"**/*.{kind}"))
    return folder if next(weights, None) else None


def _cached(registered: set[str]) -> Iterator[KnownEncoder]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return
    for name in sorted(repo.repo_id for repo in repos if repo.repo_type == "model"):
        folder = _place(name)
        if name in registered or folder is None or not (folder / "modules.json").is_file():
            continue
        try:
            settings = resolve(str(folder))
        except UserError:  # a sparse encoder, a damaged file: no encoder that could be used
            continue
        settings = EncoderSettings(**{**settings.record(), "name": name, "model": name})
        yield KnownEncoder(settings, False, *_where(settings))


def packages() -> dict[str, str | None]:
    """Return the packages that run encoders, each with its version; None for one that is not installed."""
    packaged = [engine.package for engine in ENGINES.values() if issubclass(engine, Packaged)]
    return {name: _version(name) for name in (*packaged, *_NEEDED)}


def _version(package: str) -> str | None:
    if package in _NEEDED and importlib.util.find_spec(_NEEDED[package]) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class CheckedEncoder(NamedTuple):
    """What an encoder was found to be."""

    description: dict[str, Any]  # as stores record it
    dimension: int
    probes: str  # the first four numbers of three short texts
    agrees_with: list[str]  # where the fingerprints are stored that it has


def check_encoder(encoder: Encoder, against: Encoded | None = None) -> CheckedEncoder:
    """Load an encoder, and compare it with the fingerprints that are stored of it.

    Args:
        encoder: one that is registered is compared with the `probes` of its entry, where it has any.
        against: a store or an index: the encoder must be the one that it was made with.

    Raises:
        UserError: where it is another, cannot be loaded, or nothing is stored to compare it with.
    """
    name = encoder.settings.name
    described, probes = encoder.describe(), _probes(encoder)
    agrees = []
    stored = registry().get(name, {}).get("probes")
    if stored is not None:
        try:
            same = same_probes(probes, str(stored))
        except ValueError:
            raise UserError(f"encoder {name}: its entry's probes, {stored!r:.80}, are no numbers") from None
        if not same:
            what = f"makes {probes} of the texts of which {stored} is stored in its entry"
            raise UserError(f"encoder {name} {what}: it is another model, or set otherwise")
        agrees.append("its entry")
    if against is not None:
        if against.encoder is None:
            raise UserError(f"{against.path} does not say its encoder, so none can be compared with it", "against")
        Encoder.for_store(against, encoder)
        agrees.append(str(against.path))
    if not agrees:
        what = "nothing is stored to compare it with: name a store or an index, or give its entry"
        raise UserError(f"encoder {name}: {what}  probes: {probes!r}", "against")
    return CheckedEncoder(described, encoder.dimension, probes, agrees)


def _probes(encoder: Encoder) -> str:
    encode = {"query": encoder.encode_queries, "passage": encoder.encode_passages}
    return probes_text([encode[role]([text])[0] for text, role in PROBES])
