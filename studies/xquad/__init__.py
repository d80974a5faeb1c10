"""XQuAD, read for the studies: the same English passages and questions in every language."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import xqg_pyserini as xqg


def read_xquad(folder: Path, languages: Sequence[str]) -> pd.DataFrame:
    """Read the questions, in the files' order; raises `UserError` for a file that is not right.

    Columns: id; article, its number from 0; place, the question's number among its passage's; docid (ARTICLE-PASSAGE),
    title and text of the English passage; answers, in English; and the question in each language, by its code.
    """
    asked = _read(folder, "en")
    for l in languages:
        texts = _read(folder, l).set_index("id").question
        asked[l] = asked.id.map(texts)
        lacking = asked.id[asked[l].isna()]
        if len(lacking):
            raise xqg.UserError(f"{folder}/xquad.{l}.json: no question {lacking.iloc[0]}")
    return asked


def _read(folder: Path, language: str) -> pd.DataFrame:
    path, rows = folder / f"xquad.{language}.json", []
    if not path.is_file():
        raise xqg.UserError(f"{path}: no such file; expected the folder that XQuAD's files lie in")
    try:
        for a, article in enumerate(json.loads(path.read_text("utf-8"))["data"]):
            title = article["title"].replace("_", " ")  # as a person writes it
            for p, paragraph in enumerate(article["paragraphs"]):
                passage = (f"{a}-{p}", title, paragraph["context"])
                for place, entry in enumerate(paragraph["qas"]):
                    answers = [answer["text"] for answer in entry["answers"]]
                    rows.append((entry["id"], a, place, *passage, answers, entry["question"]))
    except (ValueError, KeyError, TypeError) as error:
        raise xqg.UserError(f"{path}: not a file in SQuAD's format ({error!r})") from None
    columns = ["id", "article", "place", "docid", "title", "text", "answers", "question"]
    return pd.DataFrame(rows, columns=columns)


def training_records(asked: pd.DataFrame, language: str) -> list[dict[str, Any]]:
    """Return questions with their passages as training data, without negative passages."""
    passages = asked[["docid", "title", "text"]].to_dict("records")
    return [
        {"query_id": f"{language}-{id_}", "query": text, "language": language,
         "positive_passages": [passage], "negative_passages": []}
        for id_, text, passage in zip(asked.id, asked[language], passages, strict=True)
    ]  # fmt: skip
