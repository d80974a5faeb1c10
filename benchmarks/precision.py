"""What bf16 on a CPU saves, and what it does to a ranking: XQuAD's English passages, questions in other languages.

    python benchmarks/precision.py E5 [--languages ar de] [--threads 1]

E5 is a folder of multilingual-e5-small, XQuAD is in `$XQG_SHARED/data` (default ../shared).  R@1 of questions and
passages in each precision, crossed; seconds of CPU.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from xqg_pyserini import Encoder

ENCODER = {"pooling": "mean", "normalize": True, "query_prefix": "query: ", "passage_prefix": "passage: "}
PRECISIONS = ("fp32", "bf16")


def read(folder: Path, language: str) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the passages in a language, and its questions with the numbers of their passages."""
    articles = json.loads((folder / f"xquad.{language}.json").read_text("utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    asked = [(qa["question"], i) for i, paragraph in enumerate(paragraphs) for qa in paragraph["qas"]]
    return [paragraph["context"] for paragraph in paragraphs], asked


def main() -> None:
    """Read the command line, encode, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="E5")
    parser.add_argument("--languages", nargs="+", default=["ar", "de"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    folder = Path(os.environ.get("XQG_SHARED", "../shared")) / "data" / "xquad"
    passages, _ = read(folder, "en")
    questions = {language: read(folder, language)[1] for language in args.languages}
    vectors: dict[tuple[str, str], np.ndarray] = {}
    print("| | texts | " + " | ".join(f"{p}, s of CPU" for p in PRECISIONS) + " | ratio |\n|---|---|---|---|---|")
    encoders = {p: Encoder(args.model, precision=p, device="cpu", threads=args.threads, **ENCODER) for p in PRECISIONS}
    for encoder in encoders.values():
        encoder.encode_queries(["loads the model"])
    for name, texts in {"passages": passages, **{l: [text for text, _ in of] for l, of in questions.items()}}.items():
        seconds = []
        for precision, encoder in encoders.items():
            encode = encoder.encode_passages if name == "passages" else encoder.encode_queries
            start = time.process_time()
            vectors[precision, name] = encode(texts)
            seconds.append(time.process_time() - start)
        print(f"| {name} | {len(texts)} | {seconds[0]:.1f} | {seconds[1]:.1f} | {seconds[1] / seconds[0]:.2f} |")
    print("\n| R@1: questions, passages | " + " | ".join(questions) + " |\n|---|" + "---|" * len(questions))
    for of_questions in PRECISIONS:
        for of_passages in PRECISIONS:
            cells = []
            for language, asked in questions.items():
                scores = vectors[of_questions, language] @ vectors[of_passages, "passages"].T
                hits = scores.argmax(axis=1) == np.array([row for _, row in asked])
                cells.append(f"{100 * hits.mean():.2f}")
            print(f"| {of_questions}, {of_passages} | {' | '.join(cells)} |")
    apart = [float(np.abs(vectors["fp32", name] - vectors["bf16", name]).max()) for name in ("passages", *questions)]
    print(f"\nlargest difference of a coordinate: {max(apart):.1g}")


if __name__ == "__main__":
    main()
