"""Corpora, questions and generated queries: lazy, strict readers.

What a reader cannot take it names by file and line.  Whether a file is JSON Lines or TSV is seen
from its first character, never from its name.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xqg_pyserini.data.languages import LANGUAGE_CODE, check_languages
from xqg_pyserini.data.records import GeneratedQueries, Passage, Question
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import Line, expand, read_lines

QuestionsLike = str | Path | Mapping[str, str] | Iterable[Any]
CorpusLike = str | Path | Mapping[str, str] | Iterable[Any]
FromJson = Callable[[Line, dict[str, Any]], Any]
FromTsv = Callable[[Line, int], Any]  # a line, and its number in the file from 0
SHARD = re.compile(r"-(\d+)-of-(\d+)(?=\.)")  # queries-00007-of-00128.jsonl.gz


def _read_json(line: Line) -> dict[str, Any]:
    """Parse a line that must be a JSON object without half surrogate pairs."""
    try:
        record = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        raise line.error(f"broken JSON ({error}); expected one object a line") from None
    if not isinstance(record, dict):
        raise line.error(f"expected a JSON object, found {type(record).__name__}")
    if "\\u" in line.text:
        try:
            json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise line.error("holds half a surrogate pair (\\ud800-\\udfff), not text") from None
    return record


def _id(line: Line, value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise line.error(f"{name} is missing or not a string")
    text = str(value)
    if not text:
        raise line.error(f"{name} is empty")
    if any(c.isspace() for c in text):
        raise line.error(f"{name} {text!r} holds white space, which run files cannot carry")
    return text


def _json_id(line: Line, record: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if name in record:
            return _id(line, record[name], name)
    raise line.error(f"a record without id (expected one of {', '.join(names)})")


def _text(line: Line, record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise line.error(f"{name} is not a string")
    return value


def _records(
    source: str | Path, from_json: FromJson, from_tsv: FromTsv | None, what: str
) -> Iterator[tuple[Line, Any]]:
    """Yield the records of all files of `source`; raise `UserError` if there is none."""
    empty = True
    for path in expand(source):
        as_json: bool | None = None
        for position, line in enumerate(read_lines(path)):
            if as_json is None:
                as_json = line.text.lstrip()[0] in "{["
                if not as_json and from_tsv is None:
                    raise line.error(f"expected JSON Lines, found {line.text[:40]!r}")
            record = from_json(line, _read_json(line)) if as_json else from_tsv(line, position)  # type: ignore[misc]
            if record is not None:
                empty = False
                yield line, record
    if empty:
        raise UserError(f"{source}: no {what} in it; expected at least one")


class _PassageRow:
    """Rows of DPR's TSV (`id, text, title`, with a header or not), quoted as DPR does or not."""

    def __init__(self) -> None:
        self.columns = ["id", "text", "title"]

    def __call__(self, line: Line, position: int) -> Passage | None:
        if position == 0:
            self.columns = ["id", "text", "title"]
        cells = [_unquote(cell) for cell in line.text.split("\t")]
        if position == 0 and {"id", "text"} <= {c.lower() for c in cells} <= set(self.columns):
            self.columns = [c.lower() for c in cells]
            return None
        if not 2 <= len(cells) <= len(self.columns):
            raise line.error(f"{len(cells)} columns; expected id, text, title")
        row = dict(zip(self.columns, cells, strict=False))
        return _passage(line, _id(line, row["id"], "id"), row.get("title", ""), row["text"])


def _unquote(cell: str) -> str:
    """Undo CSV quoting cell by cell, so that one stray quote cannot swallow the lines after it."""
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _passage(line: Line, docid: str, title: str, text: str) -> Passage:
    if not (title.strip() or text.strip()):
        raise line.error(f"passage {docid!r} has no text (expected contents, or title and text)")
    return Passage(docid, title, text)


def _passage_from_record(line: Line, record: dict[str, Any]) -> Passage:
    docid = _json_id(line, record, ("id", "docid", "_id"))
    if not _text(line, record, "text").strip() and record.get("contents") is not None:
        return _passage(line, docid, "", _text(line, record, "contents"))
    return _passage(line, docid, _text(line, record, "title"), _text(line, record, "text"))


def read_corpus(source: str | Path) -> Iterator[tuple[Line, Passage]]:
    """Yield the passages of a corpus in the order of its files, each with its line.

    Takes Pyserini's JSON Lines (`id`, `docid` or `_id`; `contents`, or `title` and `text`) and
    DPR's TSV.  Raises `UserError`, with file and line, for what is neither, an empty id or text, or no passage at all.
    Duplicate ids are not looked for here: that takes memory, see `stores.IdIndex`.
    """
    return _records(source, _passage_from_record, _PassageRow(), "passage")


def as_corpus(source: CorpusLike) -> Iterator[tuple[Line, Passage]]:
    """Yield the passages of a corpus, each with where it stands: a path's, or Python values.

    Values are `Passage`s, records as the files have them ({"docid", "title", "text"}), or a mapping of docids to texts.

    Raises:
        UserError: as `read_corpus`.
    """
    if isinstance(source, str | Path):
        yield from read_corpus(source)
        return
    for line, value in _values(source, Passage, "corpus", "passages"):
        if isinstance(value, Passage):
            yield line, _passage_from_record(line, value._asdict())
        elif isinstance(value, dict):
            yield line, _passage_from_record(line, value)
        elif isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], str):
            yield line, _passage(line, _id(line, value[0], "id"), "", value[1])
        else:
            raise line.error(f"expected a passage, a record or (id, text), not {value!r:.60}")


def _values(source: Any, kind: type, name: str, several: str) -> Iterator[tuple[Line, Any]]:
    """Yield Python values, each with where it stands; one of a `kind` is not several."""
    values = source.items() if isinstance(source, Mapping) else source
    if isinstance(values, kind) or not isinstance(values, Iterable):
        raise UserError(f"{name}: expected a file or several {several}, not {source!r:.60}")
    for number, value in enumerate(values, 1):
        yield Line(Path(name), number, ""), value


def _question(line: Line, qid: str, text: str, language: Any, answers: Any) -> Question:
    if not text.strip():
        raise line.error(f"question {qid!r} is empty")
    if language is not None and not (isinstance(language, str) and LANGUAGE_CODE.fullmatch(language)):
        raise line.error(f"{language!r} is not a language code such as ar or ja")
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        raise line.error(f"the answers of question {qid!r} are not a list of strings")
    return Question(qid, text, language, tuple(answers))


def _question_from_record(line: Line, record: dict[str, Any]) -> Question:
    qid = _json_id(line, record, ("id", "qid", "_id"))
    text = next((_text(line, record, n) for n in ("question", "title", "text") if n in record), None)
    if text is None:
        raise line.error(f"question {qid!r} has no text (expected question or title)")
    language = record.get("lang", record.get("language"))
    answers = record.get("answers")
    return _question(line, qid, text, language, [] if answers is None else answers)


def _question_from_tsv(line: Line, _: int) -> Question:
    cells = line.text.split("\t")
    if len(cells) != 2:
        raise line.error(f"{len(cells)} columns; expected an id, a tab and the question")
    return _question(line, _id(line, cells[0], "id"), cells[1], None, [])


def read_questions(source: str | Path, language: str | None = None) -> list[Question]:
    """Read topics: XOR-TyDi or Pyserini JSON Lines, or Pyserini TSV (`qid<TAB>text`).

    `language` is given to the questions that name none.  Ids stay strings as they are typed. Raises `UserError` for an
    id that comes twice, an empty question, a code of no known form in the file, a `language` that is not known.
    """
    return _distinct(_records(source, _question_from_record, _question_from_tsv, "question"), language)


def as_questions(source: QuestionsLike, language: str | None = None) -> list[Question]:
    """Return questions: a file's, or those of Python values.

    Values are `Question`s, records as the files have them ({"id", "question", "lang", …}), pairs
    (id, text), or a mapping of ids to texts.

    Raises:
        UserError: as `read_questions`.
    """
    if isinstance(source, str | Path):
        return read_questions(source, language)
    values = _values(source, Question, "questions", "questions")
    return _distinct(((line, _as_question(line, value)) for line, value in values), language)


def _as_question(line: Line, value: Any) -> Question:
    if isinstance(value, Question):
        answers = list(value.answers) if isinstance(value.answers, tuple) else value.answers
        return _question_from_record(line, {**value._asdict(), "answers": answers})
    if isinstance(value, dict):
        return _question_from_record(line, value)
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], str):
        return _question(line, _id(line, value[0], "id"), value[1], None, [])
    raise line.error(f"expected a question, a record or (id, text), not {value!r:.60}")


def _distinct(records: Iterable[tuple[Line, Question]], language: str | None) -> list[Question]:
    if language is not None:
        check_languages([language])
    seen: dict[str, Line] = {}
    questions = []
    for line, question in records:
        if question.id in seen:
            first = seen[question.id]
            raise line.error(f"question id {question.id!r} again (first in {first.path}, line {first.number})")
        seen[question.id] = line
        if question.language is None and language is not None:
            question = question._replace(language=language)
        questions.append(question)
    return questions


def _queries_from_json(line: Line, record: dict[str, Any]) -> GeneratedQueries:
    docid = _json_id(line, record, ("docid", "id", "_id"))
    by_language = record.get("generated_queries")
    if not isinstance(by_language, dict):
        expected = '{"docid": …, "generated_queries": {"ar": ["…", …], …}}'
        raise line.error(f"passage {docid!r} has no generated_queries (expected {expected})")
    queries = {}
    for language, texts in by_language.items():
        if not LANGUAGE_CODE.fullmatch(language):
            raise line.error(f"{language!r} is not a language code such as ar or ja")
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise line.error(f"the {language} queries of {docid!r} are not a list of strings")
        queries[language] = tuple(texts)
    return GeneratedQueries(docid, queries)


def read_generated(source: str | Path) -> Iterator[tuple[Line, GeneratedQueries]]:
    """Yield records of generated queries; keys other than docid and generated_queries are left.

    Raises `UserError` at once for a directory of shards of which some are missing.
    """
    if Path(source).is_dir():
        _check_shards(Path(source))
    return _records(source, _queries_from_json, None, "generated queries")


def _check_shards(folder: Path) -> None:
    """Raise `UserError` unless the shards of each set (files with one prefix) are all there."""
    sets: dict[str, dict[int, tuple[int, str]]] = {}  # prefix → number → of how many, name
    for path in expand(folder):
        match = SHARD.search(path.name)
        if match is None:
            continue
        prefix, number, total = path.name[: match.start()], int(match[1]), int(match[2])
        shards = sets.setdefault(prefix, {})
        if number >= total:
            raise UserError(f"{path}: shard {number} of {total}; shards are counted from 0")
        if number in shards and shards[number][0] == total:
            raise UserError(f"{folder}: {shards[number][1]} and {path.name} are one shard; remove one of them")
        shards[number] = total, path.name
        first_total, first_name = next(iter(shards.values()))
        if total != first_total:
            what = f"{first_name} and {path.name} are shards of two sets"
            raise UserError(f"{folder}: {what}; put each into a folder of its own")
    for prefix, shards in sets.items():
        total, name = next(iter(shards.values()))
        missing = [number for number in range(total) if number not in shards]
        if missing:
            width = len(SHARD.search(name)[1])  # type: ignore[index]
            first = f"{prefix}-{missing[0]:0{width}}-of-{total:0{width}}"
            what = f"{len(missing)} of {total} shards are missing, the first is {first}"
            remedy = f"finish making them, or name those to read by a pattern such as '{folder}/*.jsonl'"
            raise UserError(f"{folder}: {what}; {remedy}")
