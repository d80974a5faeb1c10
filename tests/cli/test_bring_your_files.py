"""Every command of docs/bring-your-files.md runs, on small files of the names and shapes that it is about."""

import gzip
import os
import shlex
from pathlib import Path

from conftest import write_jsonl
from doc_pages import blocks

PAGE = Path(__file__).parents[2] / "docs" / "bring-your-files.md"
TEXTS = {"0": "Webuye is a town in Kenya.", "1": "Odinga led the party.", "2": "The Nile flows north."}
ASKED = {"0": "Kombo ni mbunge wa wapi?", "1": "Nani aliongoza chama?", "2": "Nile inaenda wapi?"}
ANSWERS = {"0": "Kenya", "1": "Odinga", "2": "north"}


def write_files(folder: Path) -> None:
    """Write what the page reads: three passages and three questions in each form."""
    for name in ("gold_passages", "queries", "scifact/qrels", "miracl-corpus-v1.0-fi"):
        (folder / name).mkdir(parents=True)
    gold = [
        {
            "answer_pivot": {"answer_start": [1], "text": [ANSWERS[i]]}, "context": text, "id": i,
            "question_lang": ASKED[i], "question_translated": "?", "title": "T", "answer_lang": "x",
        }
        for i, text in TEXTS.items()
    ]  # fmt: skip
    afriqa = "gold_passages/gold_span_passages.afriqa.{}.json"
    write_jsonl(folder / afriqa.format("swa.en.test"), gold)
    write_jsonl(folder / afriqa.format("hau.en.dev"), [*gold, {**gold[0], "id": "9", "title": "", "context": ""}])
    queries = [
        {"id": int(i), "question": text, "answers": "['x']", "lang": "swa", "translated_answer": f"['{ANSWERS[i]}']"}
        for i, text in ASKED.items()
    ]
    write_jsonl(folder / "queries" / "queries.afriqa.swa.en.test.json", queries)
    with gzip.open(folder / "miracl-corpus-v1.0-fi" / "docs-0.jsonl.gz", "wt") as file:
        file.writelines(f'{{"docid": "{i}#0", "title": "T", "text": "{text}"}}\n' for i, text in TEXTS.items())
    for code in ("fi", "ko"):
        topics = "".join(f"{i}\t{text}\n" for i, text in ASKED.items())
        (folder / f"topics.miracl-v1.0-{code}-dev.tsv").write_text(topics)
        (folder / f"qrels.miracl-v1.0-{code}-dev.tsv").write_text("".join(f"{i}\t0\t{i}#0\t1\n" for i in TEXTS))
    with gzip.open(folder / "psgs_w100.tsv.gz", "wt") as file:
        file.write("id\ttext\ttitle\n" + "".join(f'{i}\t"{text}"\tT\n' for i, text in TEXTS.items()))
    (folder / "nq-test.qa.csv").write_text("".join(f"{ASKED[i]}\t['{ANSWERS[i]}']\n" for i in TEXTS))
    write_jsonl(folder / "scifact/corpus.jsonl", [{"_id": i, "title": "T", "text": text} for i, text in TEXTS.items()])
    write_jsonl(folder / "scifact/queries.jsonl", [{"_id": i, "text": text} for i, text in ASKED.items()])
    (folder / "scifact/qrels/test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{i}\t{i}\t1\n" for i in TEXTS)
    )
    (folder / "my-data").mkdir()
    write_jsonl(folder / "my-data" / "c.jsonl", [{"id": i, "text": text} for i, text in TEXTS.items()])
    (folder / "my-data" / "README.md").write_text("---\nconfigs:\n- config_name: corpus\n  data_files: c.jsonl\n---\n")
    write_jsonl(folder / "mine.jsonl", [{"nr": i, "heading": "T", "body": text} for i, text in TEXTS.items()])


def test_every_command_of_the_page_runs(tmp_path, type_pages):
    write_files(tmp_path)
    said = type_pages.run_page(PAGE, tmp_path)
    code = "".join(block.code for block in blocks(PAGE) if block.language == "bash")
    commands = [shlex.split(line) for line in code.replace("\\\n", "").splitlines() if line.startswith("xqg ")]
    assert len(commands) >= 22
    for words in commands:  # at most one flag that a plain collection would not take
        mine = {"--skip-empty", "--language", "--answers-field", "--order"} & set(words)
        assert len(mine) <= 1 or "--id-field" in words
    assert {"run.trec", "aware.trec", "hausa", "mine", "my-passages"} <= set(os.listdir(tmp_path))
    assert "fi-0 Q0 " in (tmp_path / "run.miracl.dense").read_text()
    assert any("left out: 1, the first '9'" in line for line in said.splitlines() if "afriqa" in line)
