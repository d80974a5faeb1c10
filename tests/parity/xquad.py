"""XQuAD as a retrieval task: even questions are searched for, odd ones stand for generated ones."""

import json
import sys
from pathlib import Path

LANGUAGES = ("ar", "de", "el", "es", "ro", "ru")


def write_task(xquad: Path, folder: Path, languages=LANGUAGES) -> None:
    """Write corpus.jsonl, queries.jsonl, questions.jsonl, qrels.txt into a folder."""
    english = {
        (a, p, q): question
        for a, p, q, question in _questions(
            json.loads((xquad / "xquad.en.json").read_text("utf-8"))
        )
    }
    data = json.loads((xquad / "xquad.en.json").read_text("utf-8"))["data"]
    with open(folder / "corpus.jsonl", "w", encoding="utf-8") as file:
        for a, article in enumerate(data):
            for p, paragraph in enumerate(article["paragraphs"]):
                title = article["title"].replace("_", " ")  # as a person writes it
                record = {"id": f"{a}-{p}", "title": title, "text": paragraph["context"]}
                file.write(json.dumps(record) + "\n")
    generated: dict = {}
    with (
        open(folder / "questions.jsonl", "w", encoding="utf-8") as questions,
        open(folder / "qrels.txt", "w", encoding="utf-8") as qrels,
    ):
        for language in languages:
            parsed = json.loads((xquad / f"xquad.{language}.json").read_text("utf-8"))
            for a, p, q, question in _questions(parsed):
                docid = f"{a}-{p}"
                if q % 2:
                    of_passage = generated.setdefault(docid, {})
                    of_passage.setdefault(language, []).append(question["question"])
                    continue
                answers = [answer["text"] for answer in english[a, p, q]["answers"]]
                qid = f"{language}-{question['id']}"
                record = {"id": qid, "question": question["question"]}
                record |= {"lang": language, "answers": answers}
                questions.write(json.dumps(record, ensure_ascii=False) + "\n")
                qrels.write(f"{qid} 0 {docid} 1\n")
    with open(folder / "queries.jsonl", "w", encoding="utf-8") as file:
        for docid, queries in generated.items():
            record = {"docid": docid, "generated_queries": queries}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _questions(parsed):
    for a, article in enumerate(parsed["data"]):
        for p, paragraph in enumerate(article["paragraphs"]):
            for q, question in enumerate(paragraph["qas"]):
                yield a, p, q, question


if __name__ == "__main__":
    write_task(Path(sys.argv[1]), Path(sys.argv[2]))
