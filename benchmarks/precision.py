"""What bf16 and OpenVINO on a CPU save, and what they do to a ranking: XQuAD's passages, questions in other languages.

    python benchmarks/precision.py E5 [--languages ar de] [--threads 1] [--sample 64 256] [--rounds 3]

E5 is a folder of multilingual-e5-small, XQuAD is in `$XQG_SHARED/data` (default ../shared).  Seconds of CPU for the
first passages and the first questions in each language, of both engines and, where it is installed, of
sentence-transformers, in each precision; all take turns, and medians of the rounds count.  *products alone* are the
model's products with its weights for as many tokens, without attention and all else: no engine can take less on this
core, whose products are those of torch's library.  Then R@1 of all questions
and passages: passages by torch in fp32 with questions by each, the other way, and both by each.
"""

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from xqg_pyserini import Encoder
from xqg_pyserini.models.engines import HUGGING_FACE

ENCODER = {"pooling": "mean", "normalize": True, "query_prefix": "query: ", "passage_prefix": "passage: "}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
OTHERS, PRODUCTS = "sentence-transformers", "products alone"
LONGEST = {"query": 64, "passage": 256}  # in tokens
ROWS = 1024  # of a product: a batch of the longest passages
Encode = Callable[[list[str], str], np.ndarray]


def read(folder: Path, language: str) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the passages in a language, and its questions with the numbers of their passages."""
    articles = json.loads((folder / f"xquad.{language}.json").read_text("utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    asked = [(qa["question"], i) for i, paragraph in enumerate(paragraphs) for qa in paragraph["qas"]]
    return [paragraph["context"] for paragraph in paragraphs], asked


def ours(model: str, engine: str, precision: str, threads: int) -> Encode:
    """Return what encodes texts of a role by one of our engines, which is loaded; says what that took."""
    encoder = Encoder(model, engine=engine, precision=precision, device="cpu", threads=threads, **ENCODER)
    start = time.process_time()
    encoder.encode_queries(["loads the model"])
    print(f"{engine} {precision}: {time.process_time() - start:.1f} s of CPU to load", flush=True)
    encode = {"query": encoder.encode_queries, "passage": encoder.encode_passages}
    return lambda texts, role: encode[role](texts)


def theirs(model: str, precision: str) -> Encode:
    """Return the same of sentence-transformers, with the same prefixes, lengths, pooling and normalisation."""
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": PRECISIONS[precision]})

    def encode(texts: list[str], role: str) -> np.ndarray:
        loaded.max_seq_length = LONGEST[role]
        texts = [f"{role}: {text}" for text in texts]
        return loaded.encode(texts, normalize_embeddings=True, show_progress_bar=False).astype(np.float32)

    return encode


def products(model: str, precision: str) -> Encode:
    """Return what multiplies matrices of the model's shapes for the tokens of texts, and does nothing else."""
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    d, wide, dtype = config.hidden_size, config.intermediate_size, PRECISIONS[precision]
    weights = [torch.rand(shape).to(dtype) for shape in ((d, 3 * d), (d, d), (d, wide), (wide, d))]

    def multiply(texts: list[str], role: str) -> np.ndarray:
        tokens = tokenizer([f"{role}: {text}" for text in texts], truncation=True, max_length=LONGEST[role])
        rows = sum(map(len, tokens["input_ids"]))
        for at in range(0, rows, ROWS):
            inputs = [torch.rand(min(ROWS, rows - at), len(weight)).to(dtype) for weight in weights]
            for _ in range(config.num_hidden_layers):
                for vectors, weight in zip(inputs, weights, strict=True):
                    vectors @ weight
        return np.zeros(0)

    return multiply


def timed(call: Callable[[], np.ndarray]) -> float:
    """Return the seconds of CPU of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Read the command line, encode, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="E5")
    parser.add_argument("--languages", nargs="+", default=["ar", "de"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sample", type=int, nargs=2, default=(64, 256), help="passages and questions that are timed")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = Path(os.environ.get("XQG_SHARED", "../shared")) / "data" / "xquad"
    passages, _ = read(folder, "en")
    questions = {language: read(folder, language)[1] for language in args.languages}
    texts = {"passages": passages, **{l: [text for text, _ in of] for l, of in questions.items()}}
    roles = {name: "passage" if name == "passages" else "query" for name in texts}
    ways = {(e, p): ours(args.model, e, p, args.threads) for e in HUGGING_FACE for p in PRECISIONS}
    scored = list(ways)
    if importlib.util.find_spec("sentence_transformers") is not None:
        ways |= {(OTHERS, p): theirs(args.model, p) for p in PRECISIONS}
    ways |= {(PRODUCTS, p): products(args.model, p) for p in PRECISIONS}
    seconds: dict = {(name, way): [] for name in texts for way in ways}
    for _ in range(args.rounds):
        for name, role in roles.items():
            for way, encode in ways.items():
                sample = texts[name][: args.sample[role == "query"]]
                seconds[name, way].append(timed(partial(encode, sample, role)))
    print("\n| engine, precision | " + " | ".join(texts) + " |\n|---|" + "---|" * len(texts))
    for way in ways:
        cells = []
        for name in texts:
            base, own = median(seconds[name, scored[0]]), seconds[name, way]
            cells.append(f"{median(own):.2f} ({min(own):.2f}–{max(own):.2f}), {median(own) / base:.2f}")
        print(f"| {', '.join(way)} | {' | '.join(cells)} |", flush=True)
    vectors = {(way, name): ways[way](of, roles[name]) for way in scored for name, of in texts.items()}
    print("\n| R@1: questions, passages | " + " | ".join(questions) + " |\n|---|" + "---|" * len(questions))
    pairs = [(scored[0], way) for way in scored] + [(way, scored[0]) for way in scored[1:]]
    for of_questions, of_passages in [*pairs, *((way, way) for way in scored[1:])]:
        cells = []
        for language, asked in questions.items():
            scores = vectors[of_questions, language] @ vectors[of_passages, "passages"].T
            hits = scores.argmax(axis=1) == np.array([row for _, row in asked])
            cells.append(f"{100 * hits.mean():.2f}")
        print(f"| {' '.join(of_questions)}, {' '.join(of_passages)} | {' | '.join(cells)} |")
    print("\nlargest difference of a coordinate to torch in fp32 (and in bf16):")
    for way in scored:
        apart = [
            max(float(np.abs(vectors[way, name] - vectors[(scored[0][0], p), name]).max()) for name in texts)
            for p in PRECISIONS
        ]
        print(f"{' '.join(way)}: {apart[0]:.1g} ({apart[1]:.1g})")


if __name__ == "__main__":
    main()
