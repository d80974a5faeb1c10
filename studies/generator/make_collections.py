"""XQuAD, MLQA and AfriQA as collections of English passages, each cut into two halves by the passages' titles.

    python studies/generator/make_collections.py DATA OUTPUT

DATA has the folders xquad (SQuAD's format), mlqa (passages.en.jsonl, queries.{en,ar,de,es}.jsonl) and afriqa
(gold_passages).  Into OUTPUT/COLLECTION go corpus.jsonl, corpus-a.jsonl and corpus-b.jsonl (its halves), qrels.txt,
questions.LANGUAGE.jsonl, and the pairs of each half to train a generator on, train-a.jsonl and train-b.jsonl.  What has
one title is in one half, so that no article, passage, question or translation is on both sides.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd
from xquad import read_xquad, training_records

import xqg_pyserini as xqg

XQUAD = ("ar", "de", "el", "es", "ro", "ru")
MLQA = ("en", "ar", "de", "es")
AFRIQA = {"hau": "ha", "ibo": "ig", "kin": "rw", "swa": "sw"}
COLUMNS = ["id", "docid", "title", "text", "answers", "language", "question"]


def halves(titles: Iterable[str]) -> dict[str, str]:
    """Return the half, "a" or "b", of each title: in the order of their checksums, every other one."""
    ordered = sorted(set(titles), key=lambda title: hashlib.blake2b(title.encode(), digest_size=8).digest())
    return {title: "ab"[place % 2] for place, title in enumerate(ordered)}


def xquad(folder: Path) -> pd.DataFrame:
    """Read XQuAD: a row for each question and language, with the columns of `COLUMNS`."""
    asked = read_xquad(folder, XQUAD)
    kept = ["id", "docid", "title", "text", "answers"]
    parts = [asked[kept].assign(language=l, question=asked[l], id=f"{l}-" + asked.id) for l in XQUAD]
    return pd.concat(parts, ignore_index=True)


def mlqa(folder: Path) -> pd.DataFrame:
    """Read MLQA's questions in four languages about English passages, as `xquad` returns them."""
    passages = {str(p["pid"]): p for p in _json_lines(folder / "passages.en.jsonl")}
    rows = []
    for l in MLQA:
        for entry in _json_lines(folder / f"queries.{l}.jsonl"):
            passage = passages[str(entry["pid"])]
            known = (f"mlqa-{entry['pid']}", passage["title"], passage["text"], entry["answers_en"])
            rows.append((f"{l}-{entry['qid']}", *known, l, entry["question"]))
    return pd.DataFrame(rows, columns=COLUMNS)


def afriqa(folder: Path) -> pd.DataFrame:
    """Read AfriQA's questions of all splits whose passage is given, as `xquad` returns them."""
    rows = []
    for path in sorted((folder / "gold_passages").glob("*.json")):
        _, _, code, _, split, _ = path.name.split(".")
        for entry in _json_lines(path):
            title, text, question = ((entry[key] or "").strip() for key in ("title", "context", "question_lang"))
            if text and question:
                docid = "afriqa-" + hashlib.blake2b(f"{title}\n{text}".encode(), digest_size=6).hexdigest()
                answers, id_ = entry["answer_pivot"]["text"], f"{AFRIQA[code]}-{split}-{entry['id']}"
                rows.append((id_, docid, title, text, answers, AFRIQA[code], question))
    return pd.DataFrame(rows, columns=COLUMNS)


def _json_lines(path: Path) -> Iterator[dict]:
    if not path.is_file():
        raise xqg.UserError(f"{path}: no such file")
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def write_collection(asked: pd.DataFrame, output: Path) -> str:
    """Write a collection's files; returns a line that says what it holds."""
    output.mkdir(parents=True, exist_ok=True)
    articles = asked.title.where(asked.title != "", asked.text)
    asked = asked.assign(half=articles.map(halves(articles)))
    passages = asked.drop_duplicates("docid")
    _write(output / "corpus.jsonl", _passages(passages))
    said = [f"{len(passages)} passages"]
    for half, part in passages.groupby("half"):
        _write(output / f"corpus-{half}.jsonl", _passages(part))
        pairs = asked[asked.half == half].rename(columns={"question": "asked"})
        of = pairs.groupby("language")
        records = [record for l, some in of for record in training_records(some.assign(**{str(l): some.asked}), str(l))]
        _write(output / f"train-{half}.jsonl", records)
        said.append(f"half {half}: {len(part)} passages, {len(records)} pairs")
    for l, some in asked.groupby("language"):
        renamed = some.rename(columns={"language": "lang"})
        _write(output / f"questions.{l}.jsonl", renamed[["id", "question", "lang", "answers"]].to_dict("records"))
        said.append(f"{l} {len(some)}")
    lines = [f"{id_} 0 {docid} 1\n" for id_, docid in zip(asked.id, asked.docid, strict=True)]
    (output / "qrels.txt").write_text("".join(lines), "utf-8")
    return f"{output}: {'; '.join(said)}"


def _passages(rows: pd.DataFrame) -> list[dict]:
    return rows[["docid", "title", "text"]].rename(columns={"docid": "id"}).to_dict("records")


def _write(path: Path, records: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    args = parser.parse_args()
    try:
        for read in (xquad, mlqa, afriqa):
            print(write_collection(read(args.data / read.__name__), args.output / read.__name__))
    except xqg.UserError as error:
        parser.exit(2, f"{error}\n")
