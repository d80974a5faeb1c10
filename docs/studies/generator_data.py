"""XQuAD for docs/studies/generator.md: half of its articles to train on, half to be searched.

    python docs/studies/generator_data.py --data DIR --output DIR

DIR holds xquad.en.json, xquad.ar.json, …  Articles at even places are for training, so that no
passage, question or translation is on both sides; every eighth of these is for validation.  Writes

    train.jsonl, validation.jsonl   question, language, its English passage
    corpus.jsonl                    the passages of the other articles
    questions.jsonl, qrels.txt      their questions at even places
    queries.jsonl                   those at odd places: human stand-ins for generated queries
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LANGUAGES = ("ar", "de", "el", "es", "ro", "ru")


def articles(data: Path, language: str) -> list[dict[str, Any]]:
    """Return XQuAD's articles in a language."""
    path = data / f"xquad.{language}.json"
    if not path.is_file():
        raise SystemExit(f"{path}: no such file; --data names the folder that XQuAD's files lie in")
    return json.loads(path.read_text("utf-8"))["data"]


def passages(data: Path) -> Iterator[tuple[int, int, dict[str, str]]]:
    """Yield article, paragraph and passage, all in English."""
    for a, article in enumerate(articles(data, "en")):
        for p, paragraph in enumerate(article["paragraphs"]):
            title = article["title"].replace("_", " ")
            yield a, p, {"docid": f"{a}-{p}", "title": title, "text": paragraph["context"]}


def questions(data: Path, language: str) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """Yield article, paragraph, place among the paragraph's questions, question."""
    for a, article in enumerate(articles(data, language)):
        for p, paragraph in enumerate(article["paragraphs"]):
            for q, question in enumerate(paragraph["qas"]):
                yield a, p, q, question


def write(path: Path, records: list[dict[str, Any]]) -> None:
    """Write JSON Lines."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")


def write_training(data: Path, output: Path) -> None:
    """Write train.jsonl and validation.jsonl."""
    texts = {(a, p): passage for a, p, passage in passages(data)}
    train, validation = [], []
    for language in LANGUAGES:
        for a, p, _, question in questions(data, language):
            if a % 2 == 0:
                record = {"query_id": f"{language}-{question['id']}"}
                record |= {"query": question["question"], "language": language}
                record |= {"positive_passages": [texts[a, p]], "negative_passages": []}
                (validation if a % 16 == 0 else train).append(record)
    write(output / "train.jsonl", train)
    write(output / "validation.jsonl", validation)


def write_task(data: Path, output: Path) -> None:
    """Write the corpus, the questions that are searched for, and the human stand-ins."""
    corpus = [
        {"id": passage["docid"], "title": passage["title"], "text": passage["text"]}
        for a, _, passage in passages(data)
        if a % 2
    ]
    write(output / "corpus.jsonl", corpus)
    answers = {
        question["id"]: [answer["text"] for answer in question["answers"]]
        for _, _, _, question in questions(data, "en")
    }
    asked, qrels = [], []
    human: dict[str, dict[str, list[str]]] = {}
    for language in LANGUAGES:
        for a, p, q, question in questions(data, language):
            if a % 2 == 0:
                continue
            if q % 2:
                of_passage = human.setdefault(f"{a}-{p}", {})
                of_passage.setdefault(language, []).append(question["question"])
                continue
            qid = f"{language}-{question['id']}"
            record = {"id": qid, "question": question["question"], "lang": language}
            asked.append({**record, "answers": answers[question["id"]]})
            qrels.append(f"{qid} 0 {a}-{p} 1\n")
    write(output / "questions.jsonl", asked)
    (output / "qrels.txt").write_text("".join(qrels), encoding="utf-8")
    write(
        output / "queries.jsonl",
        [{"docid": docid, "generated_queries": some} for docid, some in human.items()],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of XQuAD's JSON files")
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_training(arguments.data, arguments.output)
    write_task(arguments.data, arguments.output)
