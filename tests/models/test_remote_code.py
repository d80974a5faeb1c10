"""A model's own code does not run, and pickles are not opened; errors name our own setting."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, message, write_jsonl

from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.models import pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RAN = "ran.txt"
CODE = f"""
import pathlib
pathlib.Path(__file__).parent.parent.joinpath("{RAN}").touch()
open(r"%s", "w").close()
from transformers import BertConfig, BertModel


class Config(BertConfig):
    model_type = "strange"


class Model(BertModel):
    config_class = Config
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A tiny BERT with a tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(1)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def strange(plain, tmp_path) -> Path:
    """The same as a folder whose code must run: the code leaves `ran.txt`."""
    folder = tmp_path / "model"
    shutil.copytree(plain, folder)
    (folder / "code.py").write_text(CODE % (tmp_path / RAN))
    edit(folder / "config.json", model_type="strange", auto_map={
        "AutoConfig": "code.Config", "AutoModel": "code.Model",
    })  # fmt: skip
    return folder


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def encode(folder: Path, *more, typed="") -> subprocess.CompletedProcess:
    write_jsonl(folder.parent / "corpus.jsonl", [{"id": "1", "text": "a b c"}])
    words = [
        "encode", "--corpus", "corpus.jsonl", "--encoder", str(folder), "--pooling", "mean",
        "--device", "cpu", "--output", "out", *more,
    ]  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "xqg_pyserini", *words],
        cwd=folder.parent, input=typed, capture_output=True, text=True, timeout=170,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_MODULES_CACHE": str(folder.parent / "m")},
    )  # fmt: skip


def test_a_models_own_code_does_not_run_whatever_is_typed(strange, tmp_path):
    done = encode(strange, typed="y\n" * 1000)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    said = f"the model '{strange}' needs Python code that comes with it, which is not run unless"
    assert said in done.stderr
    assert "(--trust-remote-code)" in done.stderr
    assert "trust_remote_code=True" not in done.stderr
    assert not (tmp_path / RAN).exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("load", ["read_config", "load_model"])
def test_no_way_of_loading_runs_it(load, strange, tmp_path):
    arguments = [str(strange)]
    if load == "load_model":
        arguments = [transformers.AutoModel, str(strange), "fp32", "cpu"]
    text = message(getattr(pretrained, load), *arguments)
    assert "needs Python code that comes with it" in text
    assert not (tmp_path / RAN).exists()


def test_a_tokenizers_own_code_does_not_run(plain, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(plain, folder)
    (folder / "code.py").write_text(CODE % (tmp_path / RAN))
    edit(folder / "tokenizer_config.json", tokenizer_class="Strange", auto_map={"AutoTokenizer": ["code.Config", None]})
    try:
        pretrained.load_tokenizer(str(folder))
    except Exception as error:
        assert type(error).__name__ == "UserError"
    assert not (tmp_path / RAN).exists()


def test_it_runs_where_that_is_allowed(strange, tmp_path):
    code = """
import sys
from xqg_pyserini.models.encoder import Encoder
encoder = Encoder(sys.argv[1], pooling="mean", device="cpu", trust_remote_code=True)
print(encoder.encode_queries(["a b"]).shape)
"""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code, str(strange)],
        capture_output=True, text=True, timeout=170,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_MODULES_CACHE": str(tmp_path / "m")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 8)\n"
    assert f"the model '{strange}' comes with Python code, which was run" in done.stderr
    assert (tmp_path / RAN).exists()


def test_a_model_that_transformers_knows_is_loaded_without_its_code(plain, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(plain, folder)
    (folder / "code.py").write_text(CODE % (tmp_path / RAN))
    edit(folder / "config.json", auto_map={"AutoModel": "code.Model"})
    with pytest.warns(XqgWarning, match="comes with Python code, which was not run"):
        pretrained.load_model(transformers.AutoModel, str(folder), "fp32", "cpu", ("pooler",))
    assert not (tmp_path / RAN).exists()


class Malice:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def as_bin(plain: Path, folder: Path, more: dict) -> Path:
    shutil.copytree(plain, folder)
    weights = transformers.BertModel.from_pretrained(plain).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save({**weights, **more}, folder / "pytorch_model.bin")
    return folder


def test_a_pickle_of_more_than_tensors_is_not_opened(plain, tmp_path):
    folder = as_bin(plain, tmp_path / "model", {"malice": Malice(tmp_path / RAN)})
    text = message(pretrained.load_model, transformers.AutoModel, str(folder), "fp32", "cpu")
    said = "its weights are in a pickle that holds more than tensors, which is not opened"
    assert said in text
    assert "weights_only" not in text
    assert not (tmp_path / RAN).exists()


def test_a_plain_pickle_in_the_old_form_is_not_opened(plain, tmp_path):
    folder = as_bin(plain, tmp_path / "model", {})
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Malice(tmp_path / RAN)}))
    text = message(pretrained.load_model, transformers.AutoModel, str(folder), "fp32", "cpu")
    assert text.startswith(f"cannot load the model '{folder}': ")
    assert "weights_only" not in text
    assert not (tmp_path / RAN).exists()


def test_a_pickle_of_tensors_is_loaded_and_safetensors_go_before_it(plain, tmp_path):
    folder = as_bin(plain, tmp_path / "model", {})
    model = pretrained.load_model(transformers.AutoModel, str(folder), "fp32", "cpu")
    first = [one.detach().clone() for one in model.parameters()]  # it may be the file, mapped
    shutil.copy(plain / "model.safetensors", folder)
    torch.save({"malice": Malice(tmp_path / RAN)}, folder / "pytorch_model.bin")
    second = pretrained.load_model(transformers.AutoModel, str(folder), "fp32", "cpu")
    assert all(map(torch.equal, first, second.parameters()))
    assert not (tmp_path / RAN).exists()
