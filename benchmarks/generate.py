"""Generate queries: the published loop, ours on transformers, ours on CTranslate2 in 8 bits.

    python benchmarks/generate.py [--passages 8] [--batch 8] [--device cpu] [--precision fp32] [--shape base]

The model has mT5-base's shape (582 million weights) with random weights, which cost the same as
trained ones; every query has exactly 16 tokens, since random weights (almost) never end a text.
Passages are the demo's, their tokens from a SentencePiece model of 4,000 pieces trained on them; more
than the demo has are its own again.  --model is a folder in its place, of an encoder-decoder or a causal
model such as gemma-3-270m: ours then ends a query where it ends, plain after 16 tokens, as published.

*plain* is the published way: one language after the other, batches in the order of the passages,
prompts padded to the maximum length, `model.generate` with top-k sampling and the same number of
samples.  Each way runs in a process of its own, twice; the better time counts, and the process's
peak memory, or the GPU's, with the model in it.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

DEMO = Path(__file__).resolve().parent.parent / "resources" / "demo"
SHAPES = {  # d_model, d_ff, layers, heads, vocabulary
    "base": (768, 2048, 12, 12, 250112),
    "tiny": (64, 128, 2, 4, 8192),
}
TOKENS = 16
LONGEST = 256
LANGUAGES = ("ar", "bn", "fi", "ja", "ko", "ru", "te")
SAMPLES = 5


def texts() -> list[str]:
    records = [json.loads(line) for line in (DEMO / "corpus.jsonl").open(encoding="utf-8")]
    generated = [json.loads(line) for line in (DEMO / "queries.jsonl").open(encoding="utf-8")]
    queries = [q for r in generated for texts in r["generated_queries"].values() for q in texts]
    return [r["text"] for r in records] + queries


def make_model(folder: Path, shape: str) -> None:
    import sentencepiece
    import torch
    from transformers import AutoTokenizer, MT5Config, MT5ForConditionalGeneration

    (folder / "texts.txt").write_text("\n".join(texts()), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"), model_prefix=str(folder / "spiece"), vocab_size=4000,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    wide, inner, layers, heads, words = SHAPES[shape]
    torch.manual_seed(0)
    config = MT5Config(
        vocab_size=words, d_model=wide, d_kv=64, d_ff=inner, num_layers=layers, num_heads=heads,
        decoder_start_token_id=0,
    )  # fmt: skip
    MT5ForConditionalGeneration(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}), "utf-8"
    )
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


def passages(number: int) -> list:
    from itertools import cycle, islice

    from xqg_pyserini.data import read_corpus

    told = cycle([passage for _, passage in read_corpus(DEMO / "corpus.jsonl")])
    return [passage._replace(id=str(i)) for i, passage in enumerate(islice(told, number))]


def is_causal(folder: str) -> bool:
    from transformers import AutoConfig

    return not AutoConfig.from_pretrained(folder).is_encoder_decoder


def plain(folder: str, number: int, batch: int, device: str, precision: str):
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    from xqg_pyserini.data import language_name

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    causal = is_causal(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left" if causal else "right")
    kind = AutoModelForCausalLM if causal else AutoModelForSeq2SeqLM
    model = kind.from_pretrained(folder, dtype=dtype).eval().to(device)
    sample, end = passages(number), "\nQuestion:" if causal else ""

    def run() -> None:
        for language in LANGUAGES:
            name = language_name(language)
            prompts = [f"Generate a {name} question for this passage: {p.title} {p.text}{end}" for p in sample]
            for start in range(0, len(prompts), batch):
                inputs = tokenizer(
                    prompts[start : start + batch], padding="max_length", truncation=True,
                    max_length=LONGEST, return_tensors="pt",
                ).to(device)  # fmt: skip
                with torch.no_grad():
                    output = model.generate(
                        **inputs, do_sample=True, top_k=10, num_return_sequences=SAMPLES,
                        max_new_tokens=TOKENS, min_new_tokens=TOKENS,
                    )  # fmt: skip
                tokenizer.batch_decode(output, skip_special_tokens=True)
            if device.startswith("cuda"):
                torch.cuda.synchronize()

    return run


def ours(folder: str, number: int, batch: int, device: str, precision: str, backend: str):
    from xqg_pyserini.generate.base import load_generator
    from xqg_pyserini.generate.prompts import shipped_template
    from xqg_pyserini.generate.settings import GeneratorSettings

    prompt = shipped_template("question-causal" if is_causal(folder) else "question")
    settings = GeneratorSettings(
        folder, LANGUAGES, prompt=prompt, chat=False, backend=backend, precision=precision,
        num_queries=SAMPLES, max_new_tokens=TOKENS, max_input_tokens=LONGEST,
    )  # fmt: skip
    generator = load_generator(settings, device, batch * SAMPLES)
    corpus = passages(number)
    return lambda: generator.generate(corpus)


def measure(way: str, folder: str, args: argparse.Namespace, connection) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    how = (folder, args.passages, args.batch, args.device)
    small = "int8" if args.device == "cpu" else args.precision
    run = {
        "plain": lambda: plain(*how, args.precision),
        "ours, transformers": lambda: ours(*how, args.precision, "transformers"),
        "ours, CTranslate2": lambda: ours(*how, small, "ctranslate2"),
    }[way]()
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if args.device.startswith("cuda"):
        import torch

        peak = torch.cuda.max_memory_allocated() / 2**20
    connection.send((best, peak))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--passages", type=int, default=8)
    arguments.add_argument("--batch", type=int, default=8, help="prompts at once, for all ways")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    arguments.add_argument("--model", help="a folder (default: a random mT5)")
    arguments.add_argument("--shape", default="base", choices=SHAPES)
    arguments.add_argument("--ways", nargs="+", default=["plain", "transformers", "CTranslate2"])
    args = arguments.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XQG_CACHE"] = str(Path(folder) / "cache")
        model = Path(args.model or Path(folder) / "model")
        if args.model is None:
            model.mkdir()
            maker = context.Process(target=make_model, args=(model, args.shape))
            maker.start()
            maker.join()
        queries = args.passages * len(LANGUAGES) * SAMPLES
        reference = None
        print("| | queries/s | tokens/s | ratio | peak memory, MB |\n|---|---|---|---|---|")
        for way in ("plain", "ours, transformers", "ours, CTranslate2"):
            if not any(way.endswith(name) for name in args.ways):
                continue
            receiver, sender = context.Pipe(duplex=False)
            worker = context.Process(target=measure, args=(way, str(model), args, sender))
            worker.start()
            sender.close()
            seconds, peak = receiver.recv()
            worker.join()
            reference = reference or seconds
            print(
                f"| {way} | {queries / seconds:.2f} | {queries * TOKENS / seconds:.1f} "
                f"| {reference / seconds:.2f}x | {peak:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
