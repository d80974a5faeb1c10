"""Tiny generators with real tokenizers, made in a second: random weights, every kind of model."""

import json
import os
from pathlib import Path

from conftest import ROOT

DEMO = ROOT / "resources" / "demo"
LANGUAGES = ("ar", "fi")


def complete(model, languages=LANGUAGES, **options):
    """The settings with which a model writes on the CPU."""
    from xqg_pyserini.generate.settings import GeneratorSettings

    return GeneratorSettings(str(model), languages, **options).complete("cpu")


def demo_texts() -> list[str]:
    passages = [json.loads(line) for line in (DEMO / "corpus.jsonl").open(encoding="utf-8")]
    records = [json.loads(line) for line in (DEMO / "queries.jsonl").open(encoding="utf-8")]
    queries = [q for r in records for texts in r["generated_queries"].values() for q in texts]
    return [f"{p['title']} {p['text']}" for p in passages] + queries


def _seeded():
    import torch

    torch.manual_seed(3)


def make_mt5(folder: Path, width: int = 32) -> Path:
    """An mT5 with a SentencePiece model trained on the demo's texts."""
    import sentencepiece
    from transformers import AutoTokenizer, MT5Config, MT5ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    texts = folder.parent / "texts.txt"
    texts.write_text("\n".join(demo_texts()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(folder / "spiece"), vocab_size=2000, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, character_coverage=0.9995, minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.vocab").unlink()
    _seeded()
    config = MT5Config(
        vocab_size=2000, d_model=width, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
        decoder_start_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model = MT5ForConditionalGeneration(config)
    # so that the next token is neither certain nor anything, and queries end at different lengths
    model.lm_head.weight.data.normal_(std=2 / width**0.5)
    model.lm_head.weight.data[1] *= 2.5
    model.save_pretrained(folder)
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def _byte_level(folder: Path, special: list[str], **names):
    """A byte-level BPE tokenizer trained on the demo's texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(demo_texts(), trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    wrapped.save_pretrained(folder)
    return wrapped


def make_gpt2(folder: Path, chat: bool = False) -> Path:
    """A GPT-2, with a chat template if asked for."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder.mkdir(parents=True)
    tokenizer = _byte_level(folder, ["<end>"], eos_token="<end>")
    if chat:
        tokenizer.chat_template = (
            "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}[assistant] {% endif %}"
        )
        tokenizer.save_pretrained(folder)
        assert AutoTokenizer.from_pretrained(folder).chat_template
    _seeded()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=1024, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def make_nllb(folder: Path) -> Path:
    """An M2M-100 whose tokenizer has NLLB's language tokens."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    folder.mkdir(parents=True)
    codes = ["eng_Latn", "arb_Arab", "fin_Latn"]
    tokenizer = _byte_level(
        folder, ["<s>", "<pad>", "</s>", "<unk>", *codes], bos_token="<s>", pad_token="<pad>",
        eos_token="</s>", unk_token="<unk>", additional_special_tokens=codes,
    )  # fmt: skip
    _seeded()
    config = M2M100Config(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, max_position_embeddings=512, init_std=0.4,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def make_byt5(folder: Path) -> Path:
    """A ByT5, whose tokens are bytes."""
    from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

    folder.mkdir(parents=True)
    ByT5Tokenizer(extra_ids=0).save_pretrained(folder)
    _seeded()
    config = T5Config(
        vocab_size=259, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
        decoder_start_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight.data.normal_(std=2 / 32**0.5)
    model.save_pretrained(folder)
    return folder


def make_bert(folder: Path) -> Path:
    """An encoder, which writes nothing."""
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    tokenizer = _byte_level(folder, ["<pad>"], pad_token="<pad>")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


MAKERS = {
    "mt5": make_mt5,
    "gpt2": make_gpt2,
    "chat": lambda folder: make_gpt2(folder, chat=True),
    "nllb": make_nllb,
    "byt5": make_byt5,
    "bert": make_bert,
}


def make(name: str, folder: Path) -> Path:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return MAKERS[name](folder / name)
