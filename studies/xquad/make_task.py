"""XQuAD as a retrieval task: even questions are searched for, odd ones stand for generated ones.

Into OUTPUT go corpus.jsonl, questions.jsonl, qrels.txt and queries.jsonl, in ar, de, el, es, ro, ru.  With --halves,
these are of the articles at odd places; those at even places are for training, so that no passage, question or
translation is on both sides: train.jsonl, and of every eighth of them validation.jsonl.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import xqg_pyserini as xqg
from xquad import read_xquad, training_records

LANGUAGES = ("ar", "de", "el", "es", "ro", "ru")


def write_task(data: Path, output: Path, halves: bool = False, languages: Sequence[str] = LANGUAGES) -> None:
    """Write the task's files into a folder; raises `UserError` for what is wrong in the data."""
    asked = read_xquad(data, languages)
    output.mkdir(parents=True, exist_ok=True)
    if halves:
        for name, places in (("train", range(2, 16, 2)), ("validation", [0])):
            part = asked[(asked.article % 16).isin(places)]
            records = [record for l in languages for record in training_records(part, l)]
            write_jsonl(output / f"{name}.jsonl", records)
        asked = asked[asked.article % 2 == 1]
    corpus = asked.drop_duplicates("docid").rename(columns={"id": "question_id", "docid": "id"})
    write_jsonl(output / "corpus.jsonl", corpus[["id", "title", "text"]].to_dict("records"))
    questions, qrels = [], ""
    generated: dict[str, dict[str, list[str]]] = {}
    for l in languages:
        for one in asked.rename(columns={l: "asked"}).itertuples():
            id_ = f"{l}-{one.id}"
            if one.place % 2:
                generated.setdefault(one.docid, {}).setdefault(l, []).append(one.asked)
            else:
                questions.append({"id": id_, "question": one.asked, "lang": l, "answers": one.answers})
                qrels += f"{id_} 0 {one.docid} 1\n"
    write_jsonl(output / "questions.jsonl", questions)
    (output / "qrels.txt").write_text(qrels, "utf-8")
    queries = ({"docid": docid, "generated_queries": of} for docid, of in generated.items())
    write_jsonl(output / "queries.jsonl", queries)


def write_jsonl(path: Path, records: Iterable[dict]) -> None:
    """Write JSON Lines."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with xquad.en.json, xquad.ar.json, …")
    parser.add_argument("output", type=Path, help="folder to write into")
    parser.add_argument("--halves", action="store_true", help="half of the articles is to train on")
    try:
        write_task(**vars(parser.parse_args()))
    except xqg.UserError as error:
        parser.exit(2, f"{error}\n")
