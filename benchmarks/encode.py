"""Encode the demo's texts: our torch engine, the plain loop that pads every batch, and sentence-transformers.

    python benchmarks/encode.py [--passages 48] [--queries 400] [--batch 32] [--device cpu] [--precision fp32 bf16]
    python benchmarks/encode.py --ways ours --model E5

The model has multilingual-e5-small's shape (12 layers of 384) with random weights, which cost the
same as trained ones; or is --model, a folder.  Plain: batches in the order of the texts, padded to the
role's maximum length (as the original scripts do), or to the longest text of the batch (as Pyserini
does).  sentence-transformers is left out where it is not installed.  More texts than the demo has are
its own again, in the same order.  Tokens are those of the texts, without padding; memory is the GPU's.

On a CPU ours takes 8 of the longest texts a batch by itself, and once more as many as the others.  All ways, in all
precisions, take turns; the medians of --rounds count, on a CPU of the time of its cores, which other processes beside
these change less.  Ratios are to ours in the first precision.
"""

import argparse
import importlib.util
import json
import subprocess
import tempfile
import time
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging

from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.registry import EncoderSettings

DEMO = Path(__file__).resolve().parent.parent / "resources" / "demo"
LENGTHS = {"query": 32, "passage": 256}
WAYS = ("ours", "plain", "sentence-transformers")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def machine(device: str) -> str:
    """What the figures below were measured on."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    if not device.startswith("cuda"):
        return f"{device}, {torch.get_num_threads()} threads; {versions}"
    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    driver = subprocess.run(query, capture_output=True, text=True).stdout.split()
    return f"{torch.cuda.get_device_name(device)}, driver {' '.join(driver[:1])}; {versions}"


def demo_texts(passages: int, queries: int) -> dict[str, list[str]]:
    records = [json.loads(line) for line in (DEMO / "corpus.jsonl").open(encoding="utf-8")]
    generated = [json.loads(line) for line in (DEMO / "queries.jsonl").open(encoding="utf-8")]
    flat = [q for r in generated for chosen in r["generated_queries"].values() for q in chosen]
    of = {"passage": ([r["text"] for r in records], passages), "query": (flat, queries)}
    return {role: list(islice(cycle(texts), number)) for role, (texts, number) in of.items()}


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


def plain(model, tokenizer, texts: list[str], size: int, length: int, padding: str) -> np.ndarray:
    rows = []
    for start in range(0, len(texts), size):
        batch = tokenizer(
            texts[start : start + size], padding=padding, truncation=True, max_length=length,
            return_tensors="pt",
        ).to(model.device)  # fmt: skip
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        rows.append(((hidden * mask).sum(1) / mask.sum(1)).float().cpu().numpy())
    return np.concatenate(rows)


def sentence_transformer(folder: str, args: argparse.Namespace, precision: str):
    """How sentence-transformers encodes texts up to a length; None where it is not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device=args.device, model_kwargs={"dtype": DTYPES[precision]})

    def encode(texts: list[str], length: int) -> np.ndarray:
        model.max_seq_length = length
        return model.encode(texts, batch_size=args.batch, show_progress_bar=False).astype(np.float32)

    return encode


def measure(ways: dict, gpu: bool, rounds: int) -> tuple[dict, dict, dict]:
    """Take turns; return each way's vectors, its times in seconds, and the GPU's peak memory in MB."""
    vectors, seconds, peak = {}, {name: [] for name in ways}, {}
    clock = time.perf_counter if gpu else time.process_time
    for _ in range(rounds):
        for name, way in ways.items():
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            start = clock()
            vectors[name] = way()
            seconds[name].append(clock() - start)
            peak[name] = f"{torch.cuda.max_memory_allocated() / 2**20:,.0f}" if gpu else "-"
    return vectors, seconds, peak


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def all_ways(folder: str, args: argparse.Namespace, precision: str, texts: dict[str, list[str]]) -> dict:
    """Return role → the ways of encoding its texts in a precision, by name; models are loaded."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=DTYPES[precision]).eval().to(args.device)
    lengths = {"query_length": LENGTHS["query"], "passage_length": LENGTHS["passage"]}
    settings = EncoderSettings("measured", "torch", folder, pooling="mean", **lengths)
    sizes = (
        {"ours": args.batch} if args.device.startswith("cuda") else {"ours": None, f"ours, {args.batch}": args.batch}
    )
    found: dict[str, dict] = {role: {} for role in texts}
    for name, size in sizes.items():
        encoder = Encoder(settings, device=args.device, precision=precision, batch_size=size)
        encode = {"query": encoder.encode_queries, "passage": encoder.encode_passages}
        for role, chosen in texts.items():
            encode[role](chosen[:8])  # loads the model before the clock starts
            found[role][name] = partial(encode[role], chosen)
    other = sentence_transformer(folder, args, precision) if "sentence-transformers" in args.ways else None
    for role, chosen in texts.items():
        by_batch = partial(plain, model, tokenizer, chosen, args.batch, LENGTHS[role])
        found[role]["plain, longest of the batch"] = partial(by_batch, "longest")
        found[role]["plain, maximum length"] = partial(by_batch, "max_length")
        if other is not None:
            found[role]["sentence-transformers"] = partial(other, chosen, LENGTHS[role])
    return {role: {n: way for n, way in of.items() if n.split(",")[0] in args.ways} for role, of in found.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--passages", type=int, default=48)
    arguments.add_argument("--queries", type=int, default=400)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--precision", nargs="+", default=["fp32"], choices=DTYPES)
    arguments.add_argument("--model", help="a Hugging Face encoder with mean pooling (default: a random one)")
    arguments.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    arguments.add_argument("--rounds", type=int, default=5)
    args = arguments.parse_args()
    logging.disable_progress_bar()
    texts = demo_texts(args.passages, args.queries)
    print(f"{machine(args.device)}; batches of {args.batch}\n")
    print("| role | precision, way | texts/s | tokens/s | x ours | peak memory, MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as made:
        folder = args.model or made
        if args.model is None:
            make_model(folder, texts["passage"] + texts["query"])
        tokenizer = AutoTokenizer.from_pretrained(folder)
        made_ways = {precision: all_ways(folder, args, precision, texts) for precision in args.precision}
        for role, chosen in texts.items():
            ways = {(p, name): way for p, of in made_ways.items() for name, way in of[role].items()}
            vectors, seconds, peak = measure(ways, args.device.startswith("cuda"), args.rounds)
            tokens = sum(map(len, tokenizer(chosen, truncation=True, max_length=LENGTHS[role])["input_ids"]))
            first = next(iter(ways))
            for (precision, name), value in vectors.items():
                bound = 1 - 1e-4 if precision == first[0] == "fp32" else 0.99
                assert cosines(value, vectors[first]).min() > bound, (precision, name)
                times = seconds[precision, name]
                middle = median(times)
                rates = f"{len(chosen) / middle:,.1f} ({len(chosen) / max(times):,.1f}–{len(chosen) / min(times):,.1f})"
                said = f"{rates} | {tokens / middle:,.0f} | {middle / median(seconds[first]):.2f}"
                print(f"| {role} | {precision}, {name} | {said} | {peak[precision, name]} |", flush=True)


if __name__ == "__main__":
    main()
