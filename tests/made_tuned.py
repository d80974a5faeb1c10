"""Small models of every kind, without dropout, and a batch for them."""

import torch
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    MT5Config,
    MT5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaModel,
)

WIDTH, LAYERS, INNER = 16, 2, 32


def bert(**changes) -> BertModel:
    torch.manual_seed(1)
    config = BertConfig(
        **{
            "vocab_size": 40,
            "hidden_size": WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "intermediate_size": INNER,
            "max_position_embeddings": 24,
            "initializer_range": 0.3,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            **changes,
        }
    )
    return BertModel(config)


def xlmr() -> XLMRobertaModel:
    torch.manual_seed(1)
    config = XLMRobertaConfig(
        vocab_size=40, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2,
        intermediate_size=INNER, max_position_embeddings=24, initializer_range=0.3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=1,
    )  # fmt: skip
    return XLMRobertaModel(config)


def mt5() -> MT5ForConditionalGeneration:
    torch.manual_seed(1)
    config = MT5Config(
        vocab_size=40, d_model=WIDTH, d_kv=8, d_ff=INNER, num_layers=LAYERS, num_heads=2,
        decoder_start_token_id=0, dropout_rate=0.0,
    )  # fmt: skip
    return MT5ForConditionalGeneration(config)


def gpt2(tied=True) -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=40, n_positions=24, n_embd=WIDTH, n_layer=LAYERS, n_head=2, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.3,
        tie_word_embeddings=tied,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def batch(seed=0, n=6, length=7):
    """Texts of different lengths, padded on the right."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 40, (n, length), generator=draw)
    lengths = torch.tensor([length - i % 4 for i in range(n)])
    mask = (torch.arange(length) < lengths[:, None]).long()
    return {"input_ids": ids * mask + (1 - mask), "attention_mask": mask}
