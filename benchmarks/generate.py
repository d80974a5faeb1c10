"""Generate queries: the published loop, ours on transformers, ours on CTranslate2 in 8 bits.

    python benchmarks/generate.py [--passages 8] [--batch 8] [--device cpu] [--precision fp32] [--shape base]
    python benchmarks/generate.py --shape gemma --passages 2 --languages bn fi --ways plain transformers

The model has mT5-base's shape (582 million weights), or with --shape gemma that of gemma-3-270m (a causal model, 268
million, of which 168 are a vocabulary of 262,144), with random weights, which cost the same as trained ones; every
query has exactly 16 tokens, since random weights (almost) never end a text.
Passages are the demo's, their tokens from a SentencePiece model of 4,000 pieces trained on them; more
than the demo has are its own again.  --model is a folder in its place: ours then ends a query where it ends, plain
after 16 tokens, as published.

*plain* is the published way: one language after the other, batches in the order of the passages,
prompts padded to the maximum length, `model.generate` with top-k sampling and the same number of
samples.  Each way runs in a process of its own, and they take turns.  The medians of --rounds count; memory is the
process's peak, or the GPU's, with the model in it.  On the CPU ratios are of the time of its cores, which other
processes beside these change less.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from statistics import median

DEMO = Path(__file__).resolve().parent.parent / "resources" / "demo"
SHAPES = {  # d_model, d_ff, layers, heads, vocabulary; of mT5 and of Gemma 3
    "base": (768, 2048, 12, 12, 250112),
    "tiny": (64, 128, 2, 4, 8192),
    "gemma": (640, 2048, 18, 4, 262144),
    "gemma-tiny": (64, 128, 2, 4, 8192),
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
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig, MT5Config, MT5ForConditionalGeneration

    (folder / "texts.txt").write_text("\n".join(texts()), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"), model_prefix=str(folder / "spiece"), vocab_size=4000,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    wide, inner, layers, heads, words = SHAPES[shape]
    torch.manual_seed(0)
    if shape.startswith("gemma"):
        config = Gemma3TextConfig(
            vocab_size=words, hidden_size=wide, intermediate_size=inner, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=1, head_dim=256, sliding_window=512,
            bos_token_id=None, eos_token_id=1, pad_token_id=0,
        )  # fmt: skip
        model = Gemma3ForCausalLM(config)
    else:
        config = MT5Config(
            vocab_size=words, d_model=wide, d_kv=64, d_ff=inner, num_layers=layers, num_heads=heads,
            decoder_start_token_id=0,
        )  # fmt: skip
        model = MT5ForConditionalGeneration(config)
    model.save_pretrained(folder)
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


def plain(folder: str, languages: list[str], number: int, batch: int, device: str, precision: str):
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
        for language in languages:
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


def ours(folder: str, languages: list[str], number: int, batch: int, device: str, precision: str, backend: str):
    from xqg_pyserini.generate.base import load_generator
    from xqg_pyserini.generate.prompts import shipped_template
    from xqg_pyserini.generate.settings import GeneratorSettings

    prompt = shipped_template("question-causal" if is_causal(folder) else "question")
    settings = GeneratorSettings(
        folder, tuple(languages), prompt=prompt, chat=False, backend=backend, precision=precision,
        num_queries=SAMPLES, max_new_tokens=TOKENS, max_input_tokens=LONGEST,
    )  # fmt: skip
    generator = load_generator(settings, device, batch * SAMPLES)
    corpus = passages(number)
    return lambda: generator.generate(corpus)


def measure(way: str, folder: str, args: argparse.Namespace, connection) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    how = (folder, args.languages, args.passages, args.batch, args.device)
    small = "int8" if args.device == "cpu" else args.precision
    run = {
        "plain": lambda: plain(*how, args.precision),
        "ours, transformers": lambda: ours(*how, args.precision, "transformers"),
        "ours, CTranslate2": lambda: ours(*how, small, "ctranslate2"),
    }[way]()
    while connection.recv():
        start, cores = time.perf_counter(), time.process_time()
        run()
        connection.send((time.perf_counter() - start, time.process_time() - cores))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if args.device.startswith("cuda"):
        import torch

        peak = torch.cuda.max_memory_allocated() / 2**20
    connection.send(peak)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--passages", type=int, default=8)
    arguments.add_argument("--batch", type=int, default=8, help="prompts at once, for all ways")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    arguments.add_argument("--model", help="a folder (default: a random one of --shape)")
    arguments.add_argument("--shape", default="base", choices=SHAPES)
    arguments.add_argument("--languages", nargs="+", default=LANGUAGES)
    arguments.add_argument("--rounds", type=int, default=5)
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
        workers = {}
        for way in ("plain", "ours, transformers", "ours, CTranslate2"):
            if way.split()[-1] in args.ways and not ("CTranslate2" in way and is_causal(str(model))):
                ours_end, its_end = context.Pipe()
                worker = context.Process(target=measure, args=(way, str(model), args, its_end))
                worker.start()
                its_end.close()
                workers[way] = (worker, ours_end)
        times = {way: [] for way in workers}
        for _ in range(args.rounds):
            for way, (_, connection) in workers.items():
                connection.send(True)
                times[way].append(connection.recv())
        queries = args.passages * len(args.languages) * SAMPLES
        unit = 0 if args.device.startswith("cuda") else 1
        reference = None
        print("| | queries/s | of a core | tokens/s | ratio | peak memory, MB |\n|---|---|---|---|---|---|")
        for way, (worker, connection) in workers.items():
            connection.send(False)
            peak = connection.recv()
            worker.join()
            by_clock, by_cores = ([run[i] for run in times[way]] for i in (0, 1))
            clock, cores = median(by_clock), median(by_cores)
            reference = reference or (clock, cores)[unit]
            print(
                f"| {way} | {queries / clock:.2f} ({queries / max(by_clock):.2f}–{queries / min(by_clock):.2f}) "
                f"| {queries / cores:.2f} ({queries / max(by_cores):.2f}–{queries / min(by_cores):.2f}) "
                f"| {queries * TOKENS / clock:.1f} | {reference / (clock, cores)[unit]:.2f}x | {peak:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
