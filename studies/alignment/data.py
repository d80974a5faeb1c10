"""The four collections, and their vectors: encoded once for each encoder, and kept.

A collection is English passages and the questions in other languages that were asked about them.  Questions have an
English translation, which SHIFT alone looks at.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from generator import make_collections
from xquad import read_xquad

import xqg_pyserini as xqg

COLLECTIONS = ("mlqa", "afriqa", "xquad", "belebele")
BELEBELE = ("de", "id", "jv", "ta", "th")
COLUMNS = ["id", "docid", "title", "text", "answers", "language", "question", "english"]


def read_collection(data: Path, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a collection's questions, with the columns of `COLUMNS`, and its passages: id, title, text.

    Questions in English are not among them, their passages are.  Raises `UserError` for a missing file.
    """
    asked = _READERS[name](data / name)
    passages = asked.drop_duplicates("docid")[["docid", "title", "text"]].rename(columns={"docid": "id"})
    return asked[asked.language != "en"].reset_index(drop=True)[COLUMNS], passages


def _xquad(folder: Path) -> pd.DataFrame:
    asked = make_collections.xquad(folder)
    english = read_xquad(folder, ("en",)).set_index("id").question
    return asked.assign(english=asked.id.str.split("-", n=1).str[1].map(english))


def _mlqa(folder: Path) -> pd.DataFrame:
    asked = make_collections.mlqa(folder)
    qids = asked.id.str.split("-", n=1).str[1]
    english = asked.question[asked.language == "en"].set_axis(qids[asked.language == "en"])
    return asked.assign(english=qids.map(english))


def _afriqa(folder: Path) -> pd.DataFrame:
    asked = make_collections.afriqa(folder)
    codes = {code: language for language, code in make_collections.AFRIQA.items()}
    english: dict[str, str] = {}
    for id_ in asked.id:
        language, split, _ = id_.split("-")
        path = folder / "gold_passages" / f"gold_span_passages.afriqa.{codes[language]}.en.{split}.json"
        if f"{language}-{split}" not in english:
            english[f"{language}-{split}"] = ""
            for entry in _json_lines(path):
                english[f"{language}-{split}-{entry['id']}"] = entry["question_translated"] or ""
    return asked.assign(english=asked.id.map(english))


def _belebele(folder: Path) -> pd.DataFrame:
    passages = {entry["id"]: entry["contents"] for entry in _json_lines(folder / "passages.en.jsonl")}
    english = {entry["id"]: entry["question"] for entry in _json_lines(folder / "questions.en.jsonl")}
    rows: list[tuple] = [
        (f"{l}-{e['id']}", e["passage"], "", passages[e["passage"]], [], l, e["question"], english.get(e["id"], ""))
        for l in BELEBELE
        for e in _json_lines(folder / f"questions.{l}.jsonl")
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


_READERS = {"xquad": _xquad, "mlqa": _mlqa, "afriqa": _afriqa, "belebele": _belebele}


def _json_lines(path: Path) -> list[dict]:
    if not path.is_file():
        raise xqg.UserError(f"{path}: no such file")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@dataclass
class Vectors:
    """A collection as one encoder sees it.

    Attributes:
        asked: the questions, a row each (m).
        docids, titles, texts: of the n passages; titles and texts by docid.
        passages: (n, d) float32.
        queries, english: the questions and their translations, (m, d) float32.
    """

    asked: pd.DataFrame
    docids: list[str]
    titles: dict[str, str]
    texts: dict[str, str]
    passages: np.ndarray
    queries: np.ndarray
    english: np.ndarray

    @cached_property
    def rows(self) -> np.ndarray:
        """Return the row of each question's passage, (m,)."""
        place = {docid: row for row, docid in enumerate(self.docids)}
        return self.asked.docid.map(place).to_numpy()

    @cached_property
    def languages(self) -> np.ndarray:
        """Return each question's language, (m,)."""
        return self.asked.language.to_numpy(str)

    @cached_property
    def place(self) -> np.ndarray:
        """Return the number of each question among its passage's in its language, (m,)."""
        return self.asked.groupby(["docid", "language"]).cumcount().to_numpy()

    def half(self, seed: int) -> np.ndarray:
        """Return 0 or 1 for each passage, (n,), by a hash of its id and the split's number."""
        digests = [hashlib.blake2b(f"{seed}:{docid}".encode(), digest_size=8).digest() for docid in self.docids]
        return np.array([digest[0] & 1 for digest in digests])


def encode(data: Path, name: str, encoder: xqg.Encoder, folder: Path) -> None:
    """Encode a collection into a folder: a passage store, and arrays of its questions; what is there stays."""
    asked, corpus = read_collection(data, name)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "passages").exists():
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in corpus.to_dict("records")]
        (folder / "corpus.jsonl").write_text("".join(lines), "utf-8")
        xqg.encode_passages(folder / "corpus.jsonl", encoder, folder / "passages")
    if not (folder / "queries.npy").exists():
        texts = pd.unique(pd.concat([asked.question, asked.english]))
        vectors = encoder.encode_queries(texts.tolist())
        at = {text: row for row, text in enumerate(texts)}
        np.save(folder / "english.npy", vectors[asked.english.map(at)])
        np.save(folder / "queries.npy", vectors[asked.question.map(at)])


def load(data: Path, name: str, folder: Path) -> Vectors:
    """Return what `encode` wrote; raises `UserError` where the data changed since."""
    asked, corpus = read_collection(data, name)
    store = xqg.VectorStore(folder / "passages")
    queries, english = (np.load(folder / f"{of}.npy") for of in ("queries", "english"))
    if list(store.ids()) != corpus.id.tolist() or len(queries) != len(asked):
        raise xqg.UserError(f"{folder} holds other vectors than {data / name} needs; delete it")
    titles, texts = (dict(zip(corpus.id, corpus[of], strict=True)) for of in ("title", "text"))
    return Vectors(asked, corpus.id.tolist(), titles, texts, np.array(store.block(0, store.n)), queries, english)


class Loader:
    """Collections as one encoder sees them, encoded where that is not done yet: `load(name)`.

    Attributes:
        data, output: folders of the collections, and of the study.
        name, source, encoder: what the encoder is called here, where it comes from, and itself.
    """

    def __init__(self, data: Path, output: Path, name: str, source: str, encoder: xqg.Encoder) -> None:
        self.data, self.output, self.name, self.source, self.encoder = data, output, name, source, encoder
        self._loaded: dict[str, Vectors] = {}

    def __call__(self, collection: str) -> Vectors:
        """Return a collection."""
        if collection not in self._loaded:
            folder = self.output / "vectors" / self.name / collection
            encode(self.data, collection, self.encoder, folder)
            self._loaded[collection] = load(self.data, collection, folder)
        return self._loaded[collection]
