"""XQuAD, read for the studies: the same English passages and questions in every language."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xqg_pyserini as xqg


class Asked(NamedTuple):
    """A question of a passage, in several languages."""

    id: str
    article: int  # its number, from 0
    place: int  # the question's number among its passage's, from 0
    passage: dict[str, str]  # docid (ARTICLE-PARAGRAPH), title and text, in English
    texts: dict[str, str]  # language → the question
    answers: list[str]  # in English


def training_record(id_: str, language: str, text: str, passage: dict[str, str]) -> dict[str, Any]:
    """Return a question with its passage as a line of training data, without negative passages."""
    record = {"query_id": id_, "query": text, "language": language}
    return record | {"positive_passages": [passage], "negative_passages": []}


def read_xquad(folder: Path, languages: Sequence[str]) -> list[Asked]:
    """Read the questions, in the files' order; raises `UserError` for a file that is not right."""
    texts = {l: {e["id"]: e["question"] for *_, e in _entries(folder, l)} for l in languages}
    asked = []
    for article, place, passage, entry in _entries(folder, "en"):
        lacking = [l for l in languages if entry["id"] not in texts[l]]
        if lacking:
            raise xqg.UserError(f"{folder}/xquad.{lacking[0]}.json: no question {entry['id']}")
        of_all = {l: texts[l][entry["id"]] for l in languages}
        answers = [answer["text"] for answer in entry["answers"]]
        asked.append(Asked(entry["id"], article, place, passage, of_all, answers))
    return asked


def _entries(folder: Path, language: str) -> Iterator[tuple[int, int, dict[str, str], Any]]:
    path = folder / f"xquad.{language}.json"
    if not path.is_file():
        raise xqg.UserError(f"{path}: no such file; expected the folder that XQuAD's files lie in")
    try:
        for a, article in enumerate(json.loads(path.read_text("utf-8"))["data"]):
            title = article["title"].replace("_", " ")  # as a person writes it
            for p, paragraph in enumerate(article["paragraphs"]):
                passage = {"docid": f"{a}-{p}", "title": title, "text": paragraph["context"]}
                for place, entry in enumerate(paragraph["qas"]):
                    yield a, place, passage, entry
    except (ValueError, KeyError, TypeError) as error:
        raise xqg.UserError(f"{path}: not a file in SQuAD's format ({error!r})") from None
