"""What tests need of encoders: a tiny model, and what it makes of a text without us."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast

from xqg_pyserini.models import registry
from xqg_pyserini.models.encoder import Encoder

WORDS = ["nile", "river", "egypt", "moon", "earth", "cat", "sleeps", "bread", "yeast", "gas"]
WORDS += ["q", ":", "p", *"abcdefghij"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
POSITIONS = 24
TEXTS = [
    "nile",
    "the river nile in egypt",  # two words that the vocabulary lacks
    "a b c d e f g h i j a b c d e f g h",
    "moon earth",
    "nile",
    "cat sleeps bread yeast gas moon",
]


def make_model(folder: Path, seed: int = 7) -> Path:
    """Save a random BERT of 16 dimensions and a tokenizer of single words."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def plain(tiny):
    """One text at a time through the model, no padding, no batches; pooled by hand."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny)
    model = AutoModel.from_pretrained(tiny).eval()

    def encode(texts, pooling, length=POSITIONS):
        rows = []
        for text in texts:
            tokens = tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
            with torch.no_grad():
                output = model(**tokens)
            hidden = output.last_hidden_state[0].numpy()
            pooled = {"cls": hidden[0], "mean": hidden.mean(axis=0), "pooler": output.pooler_output[0].numpy()}
            rows.append(pooled[pooling])
        return np.stack(rows)

    return encode


def encoder(folder: Path, **options) -> Encoder:
    return Encoder(folder, device="cpu", **{"pooling": "mean", **options})


def beside(description: dict | None, d: int = 16, path: str = "store") -> SimpleNamespace:
    """What stands for a store of d dimensions that was made with an encoder."""
    return SimpleNamespace(path=Path(path), d=d, encoder=description)


def near(vectors, expected, tolerance=1e-5):
    assert vectors.shape == expected.shape
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=tolerance, rtol=0)


@pytest.fixture
def registry_file(tmp_path, monkeypatch):
    """Write a registry of the user's, and make it the one that is read."""

    def write(text) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setenv("XQG_ENCODERS", str(path))
        registry.registry.cache_clear()
        return path

    yield write
    registry.registry.cache_clear()
