"""What tuning the encoder brings, on the pairs that alignment learns from: LoRA, one split, one direction."""

import json
from pathlib import Path
from typing import Any

import xqg_pyserini as xqg
from alignment.data import Loader, Vectors
from alignment.figures import figures
from alignment.trials import PLAIN, halves, run

LORA = xqg.TuningSettings(method="lora", rank=16, lora_alpha=32.0)
TRAINING: dict[str, Any] = {"learning_rate": 5e-4, "batch_size": 16, "epochs": 1.0, "negatives": 0, "save_steps": 8}
LENGTHS: dict[str, Any] = {
    "query_length": 48,
    "passage_length": 192,
}  # in training; searched are the lengths of the encoder


def tuned(name: str, load: Loader, splits: int) -> dict[str, Any]:
    """Train on one half's pairs as `xqg train retriever --synthetic` does, and search the other half.

    The rate is not searched.  Killed, it goes on at its last checkpoint.
    """
    vectors, folder = load(name), load.output / "tuned" / f"{load.name}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    _write_pairs(vectors, folder)
    settings = load.encoder.settings
    known = {key: getattr(settings, key) for key in ("pooling", "normalize", "query_prefix", "passage_prefix")}
    report = xqg.train_retriever(
        xqg.RetrieverSettings(
            model=load.source, synthetic=(str(folder / "queries.jsonl"),), corpus=str(folder / "corpus.jsonl"),
            output=str(folder / "trained"), tuning=LORA, **known, **TRAINING, **LENGTHS,
        )
    )  # fmt: skip
    lengths = {key: getattr(settings, key) for key in LENGTHS}
    encoder = xqg.Encoder(folder / "trained", threads=load.encoder.computing.threads, **lengths)
    first = next(iter(halves(vectors, 0)))
    there, asked = vectors.half(0) == 0, vectors.asked.iloc[first.asked]
    texts = [f"{vectors.titles[d]} {vectors.texts[d]}" for d, mine in zip(vectors.docids, there, strict=True) if mine]
    after = first._replace(q=encoder.encode_queries(asked.question.tolist()), p=encoder.encode_passages(texts))
    of = run(vectors, [[first]], PLAIN) | {"tuned": run(vectors, [[after]], {"none": PLAIN["none"]})["none"]}
    out = figures(of, vectors.languages, vectors.rows)
    seconds = round(report["steps"] * report["seconds_per_step"])
    return out | {"training": {"steps": report["steps"], "seconds": seconds, "loss": round(report["loss"], 3)}}


def _write_pairs(vectors: Vectors, folder: Path) -> None:
    """Write the learning half of the first direction: passages, and questions as generated queries."""
    there = vectors.half(0) == 1  # `halves` asks about half 0 first
    asked = vectors.asked[there[vectors.rows]]
    passages, queries = [], []
    for docid, of in asked.groupby("docid", sort=False):
        passages.append({"id": docid, "title": vectors.titles[docid], "text": vectors.texts[docid]})
        grouped = {l: texts.tolist() for l, texts in of.groupby("language").question}
        queries.append({"docid": docid, "generated_queries": grouped})
    for name, records in (("corpus", passages), ("queries", queries)):
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
