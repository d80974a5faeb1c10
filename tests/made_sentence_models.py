"""Tiny random models as sentence-transformers saves them, one of each kind that is in use."""

import json
from pathlib import Path

import torch
from made_models import POSITIONS, SPECIAL, WORDS
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

D = 16
PROMPTS = {"query": "q : ", "document": "p : "}
_SIZE = {"vocab_size": len(SPECIAL) + len(WORDS), "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2}
_SIZE |= {"intermediate_size": 32, "initializer_range": 0.5}
_CAUSAL = {**_SIZE, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": POSITIONS, "pad_token_id": 0}


def _backbone(folder: Path, model, ends="[CLS] $A [SEP]", padding="right") -> Transformer:
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single=ends, special_tokens=special)
    names = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, padding_side=padding, model_max_length=POSITIONS, **names
    ).save_pretrained(folder)
    model.save_pretrained(folder)
    return Transformer(str(folder))


def bert(folder: Path) -> Transformer:
    return _backbone(folder, BertModel(BertConfig(**_SIZE, max_position_embeddings=POSITIONS)))


def roberta(folder: Path) -> Transformer:
    positions = {"max_position_embeddings": POSITIONS + 2, "pad_token_id": 0}
    return _backbone(folder, XLMRobertaModel(XLMRobertaConfig(**_SIZE, **positions)))


def qwen3(folder: Path) -> Transformer:
    return _backbone(folder, Qwen3Model(Qwen3Config(**_CAUSAL)), ends="$A [SEP]", padding="left")


def gemma(folder: Path) -> Transformer:
    config = Gemma3TextConfig(**_CAUSAL, use_bidirectional_attention=True)
    return _backbone(folder, Gemma3TextModel(config))


def _dense(rows: int, columns: int, activation) -> Dense:
    return Dense(rows, columns, bias=activation is not None, activation_function=activation)


# name → modules on a folder, and what is said of the whole
KINDS = {
    "qwen3-embedding": (
        lambda at: [qwen3(at), Pooling(D, "lasttoken"), Normalize()],
        {"prompts": {"query": "c : a b\nq :", "document": ""}, "similarity_fn_name": "cosine"},
    ),
    "embedding-gemma": (
        lambda at: [gemma(at), Pooling(D, "mean"), _dense(D, 24, None), _dense(24, 12, None), Normalize()],
        {"prompts": {**PROMPTS, "STS": "a : "}, "similarity_fn_name": "cosine"},
    ),
    "labse": (lambda at: [bert(at), Pooling(D, "cls"), _dense(D, D, torch.nn.Tanh()), Normalize()], {}),
    "bge-m3": (lambda at: [roberta(at), Pooling(D, "cls"), Normalize()], {}),
    "multilingual-e5": (lambda at: [roberta(at), Pooling(D, "mean"), Normalize()], {}),
    "arctic": (
        lambda at: [roberta(at), Pooling(D, "cls"), Normalize()],
        {"prompts": {"query": "q : "}, "truncate_dim": 10, "similarity_fn_name": "cosine"},
    ),
    "mcontriever": (lambda at: [bert(at), Pooling(D, "mean")], {"similarity_fn_name": "dot"}),
    "weighted": (lambda at: [qwen3(at), Pooling(D, "weightedmean")], {"prompts": PROMPTS, "similarity_fn_name": "dot"}),
    "without-prompt": (
        lambda at: [bert(at), Pooling(D, "mean", include_prompt=False), Normalize()],
        {"prompts": PROMPTS, "similarity_fn_name": "cosine"},
    ),
    "two-towers": (
        lambda at: [
            Router.for_query_document(
                [bert(at / "q"), Pooling(D, "cls"), Normalize()], [bert(at / "p"), Pooling(D, "cls"), Normalize()]
            )
        ],
        {"similarity_fn_name": "dot"},
    ),
    "static": (lambda at: [StaticEmbedding(qwen3(at).tokenizer, embedding_dim=D)], {"similarity_fn_name": "dot"}),
}


def make_sentence_model(folder: Path, kind: str, seed: int = 3) -> Path:
    """Save a model of `KINDS` as sentence-transformers does; return the folder."""
    torch.manual_seed(seed)
    modules, said = KINDS[kind]
    model = SentenceTransformer(modules=modules(folder.parent / f"{folder.name}-parts"), device="cpu", **said)
    model.save(str(folder), create_model_card=False)
    return folder


def edit(path: Path, **changes) -> None:
    """Change keys of a JSON file, None takes one away."""
    said = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))
