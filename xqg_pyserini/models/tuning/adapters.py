"""Adapter folders: what was tuned, alone, to be put on its base again.

    xqg_adapter.json            method, settings, base and its fingerprint; written last
    adapter_config.json,        LoRA, Hybrid-LoRA, and prefixes of generators: peft's own files,
    adapter_model.safetensors   which peft loads too
    xqg_adapter.safetensors     what peft has no format for: biases, bottlenecks, encoders' prefixes
    xqg_statistics.safetensors  robust-prefix: the activations of well-answered questions
    xqg_encoder.json            where it is an encoder's: pooling, prefixes, lengths

An untied encoder has such a folder for each role, in `query/` and `passage/`.
"""

import hashlib
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import write_json
from xqg_pyserini.metadata import read_json
from xqg_pyserini.models.pretrained import first_line
from xqg_pyserini.models.registry import ADAPTER_FILE, SETTINGS_FILE
from xqg_pyserini.models.tuning.methods import WHOLE, TuningSettings, attach, is_peft, tuned

FORMAT = 1
WEIGHTS, STATISTICS = "xqg_adapter.safetensors", "xqg_statistics.safetensors"
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def _weights(module: Any) -> dict[str, Any]:
    if is_peft(module):
        from peft import get_peft_model_state_dict

        return get_peft_model_state_dict(module, save_embedding_layers=False)
    return {name: module.get_parameter(name).detach() for name in tuned(module).names}


def save_adapter(module: Any, folder: Path, base: str, base_fingerprint: str, encoder: dict[str, Any] | None) -> None:
    """Write what was tuned into a folder, which is made where it is not there.

    `module` is what `tune` returned; `base` the base's name, or its folder's absolute path; `base_fingerprint` what
    tells its weights (`pretrained.fingerprint`); `encoder`, of one, fields of EncoderSettings for xqg_encoder.json.
    """
    from safetensors.torch import save_file

    known = tuned(module)
    method = known.settings.method
    if method in WHOLE:
        raise UserError(f"{method} tuning has no adapter; save the whole model")
    base = str(Path(base).resolve()) if Path(base).is_dir() else base
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous().cpu() for name, tensor in _weights(module).items()}
    if is_peft(module):
        config = copy(module.peft_config["default"])
        config.base_model_name_or_path, config.inference_mode = base, True
        modules = getattr(config, "target_modules", None)  # LoRA has some
        config.target_modules = None if modules is None else sorted(modules)
        config.save_pretrained(str(folder))
        save_file(weights, folder / PEFT_WEIGHTS, metadata={"format": "pt"})
    else:
        save_file(weights, folder / WEIGHTS)
    if known.statistics:
        save_file(known.statistics, folder / STATISTICS)
    if encoder is not None:
        write_json(folder / SETTINGS_FILE, {"backend": "torch", "model": base, **encoder, "adapter": "."})
    meta = {
        "format": FORMAT,
        "method": method,
        "settings": asdict(known.settings),
        "base": base,
        "base_fingerprint": base_fingerprint,
        "unused": list(known.unused),
        "full_modules": list(known.chosen),
        "modules": known.table,
        "statistics": sorted(known.statistics),
        "parameters": sum(module.get_parameter(name).numel() for name in known.names),
    }
    write_json(folder / ADAPTER_FILE, meta)


def read_meta(folder: Path) -> dict[str, Any]:
    """Return what xqg_adapter.json says; raises `UserError` where it is not there, or damaged."""
    path = Path(folder) / ADAPTER_FILE
    if not path.is_file():
        raise UserError(f"{folder}: not an adapter folder (it has no {ADAPTER_FILE})")
    meta = read_json(path, dict[str, Any], "train or copy it again")
    try:
        settings = TuningSettings(**meta["settings"])
        for name in ("base", "base_fingerprint"):
            if not isinstance(meta[name], str):
                raise TypeError(f"{name} is no text")
    except (UserError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: damaged ({first_line(error)})") from None
    if meta.get("format") != FORMAT:
        raise UserError(f"{path}: format {meta.get('format')!r}; this version reads {FORMAT}")
    if settings.method in WHOLE:
        raise UserError(f"{path}: damaged ({settings.method} has no adapter)")
    return meta


def load_adapter(model: Any, folder: Path, base_fingerprint: str) -> Any:
    """Put an adapter on its base, in place; return the module, whose tuned weights can be trained.

    Raises:
        UserError: for an adapter of another base, and for a folder that is damaged or lacks weights.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    if meta["base_fingerprint"] != base_fingerprint:
        raise UserError(
            f"{folder}: an adapter for another base ({meta['base']}, {meta['base_fingerprint']}), "
            f"not for this one ({base_fingerprint}); use the base that it was trained on"
        )
    settings = TuningSettings(**meta["settings"])
    dtype = next(model.parameters()).dtype
    try:
        module = attach(model, settings, 0, meta["unused"], meta["full_modules"], meta.get("modules"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / ADAPTER_FILE}: damaged ({first_line(error)})") from None
    _fill(module, folder)
    if meta.get("statistics"):
        tuned(module).statistics = statistics = _read(folder / STATISTICS)
        if sorted(statistics) != meta["statistics"]:
            raise UserError(f"{folder / STATISTICS}: damaged (it has not what {ADAPTER_FILE} says)")
    return module.to(dtype)


def _fill(module: Any, folder: Path) -> None:
    path = folder / (PEFT_WEIGHTS if is_peft(module) else WEIGHTS)
    weights, expected = _read(path), _weights(module)
    missing, foreign = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing:
        raise UserError(f"{path}: lacks {len(missing)} weights, the first is {missing[0]}")
    if foreign:
        raise UserError(f"{path}: has {len(foreign)} weights too many, the first is {foreign[0]}")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise UserError(f"{path}: {name} has the shape {list(weights[name].shape)}; expected {list(tensor.shape)}")
    if is_peft(module):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(module, weights)
        return
    for name, tensor in expected.items():
        tensor.copy_(weights[name])  # `tensor` is detached, and shares the parameter's memory


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"{path}: missing; the adapter is not whole")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({first_line(error)})") from None


def adapter_fingerprint(folder: Path) -> str:
    """Return a checksum of an adapter folder's weights and settings."""
    digest = hashlib.sha256()
    for name in (ADAPTER_FILE, PEFT_CONFIG, PEFT_WEIGHTS, WEIGHTS, STATISTICS):
        path = Path(folder) / name
        if path.is_file():
            digest.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]
