"""Encode the demo's texts: our torch engine, and the plain loop that pads every batch.

    python benchmarks/encode.py [--passages 48] [--queries 400]

The model has multilingual-e5-small's shape (12 layers of 384) with random weights, which cost the
same as trained ones.  Plain: batches in the order of the texts, padded to the role's maximum
length (as the original scripts do), or to the longest text of the batch (as Pyserini does).
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging

from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.registry import EncoderSettings

DEMO = Path(__file__).resolve().parent.parent / "resources" / "demo"
LENGTHS = {"query": 32, "passage": 256}
BATCH = 32


def demo_texts(passages: int, queries: int) -> dict[str, list[str]]:
    records = [json.loads(line) for line in (DEMO / "corpus.jsonl").open(encoding="utf-8")]
    generated = [json.loads(line) for line in (DEMO / "queries.jsonl").open(encoding="utf-8")]
    flat = [q for r in generated for chosen in r["generated_queries"].values() for q in chosen]
    return {"passage": [r["text"] for r in records][:passages], "query": flat[:queries]}


def make_model(folder: str, texts: list[str], words: int | None = None) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=8000, special_tokens=special)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{f"{k}_token": v for k, v in names.items()}).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=words or tokenizer.get_vocab_size(), hidden_size=384, num_hidden_layers=12,
        num_attention_heads=12, intermediate_size=1536,
    )  # fmt: skip
    BertModel(shape).save_pretrained(folder)


def plain(model, tokenizer, texts: list[str], length: int, padding: str) -> np.ndarray:
    rows = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(
            texts[start : start + BATCH], padding=padding, truncation=True, max_length=length,
            return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        rows.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(rows)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--passages", type=int, default=48)
    arguments.add_argument("--queries", type=int, default=400)
    args = arguments.parse_args()
    logging.disable_progress_bar()
    texts = demo_texts(args.passages, args.queries)
    with tempfile.TemporaryDirectory() as folder:
        make_model(folder, texts["passage"] + texts["query"])
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder).eval()
        encoder = Encoder(
            EncoderSettings(
                "random",
                "torch",
                folder,
                pooling="mean",
                query_length=LENGTHS["query"],
                passage_length=LENGTHS["passage"],
            ),
            device="cpu",
            batch_size=BATCH,
        )
        encode = {"query": encoder.encode_queries, "passage": encoder.encode_passages}
        for role, chosen in texts.items():
            by_batch = partial(plain, model, tokenizer, chosen, LENGTHS[role])
            ways = {
                "ours": partial(encode[role], chosen),
                "plain, longest of the batch": partial(by_batch, "longest"),
                "plain, maximum length": partial(by_batch, "max_length"),
            }
            encode[role](chosen[:1])  # loads the model before the clock starts
            seconds, vectors = {}, {}
            for _ in range(2):
                for name, way in ways.items():
                    start = time.perf_counter()
                    vectors[name] = way()
                    seconds[name] = min(seconds.get(name, 1e9), time.perf_counter() - start)
            for name, value in vectors.items():
                assert np.abs(value - vectors["ours"]).max() < 1e-4, name
                rate = len(chosen) / seconds[name]
                ratio = seconds[name] / seconds["ours"]
                print(f"{role:8} {name:28} {rate:7.1f} texts/s   {ratio:.2f} x ours")


if __name__ == "__main__":
    main()
