"""Corpora, questions and generated queries: lazy, strict readers.

What a reader cannot take it names by file and line; what it decides by itself it says, once.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.data.ids import check_id, shown
from xqg_pyserini.data.languages import LANGUAGE_CODE, check_languages
from xqg_pyserini.data.records import GeneratedQueries, Passage, Question
from xqg_pyserini.data.rows import (
    Columns,
    Kind,
    Notes,
    keys_of,
    parse_json,
    plain_rows,
    quoted_rows,
    read_records,
    text_of,
)
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import Line, expand, is_folder
from xqg_pyserini.settings import option

QuestionsLike = str | Path | Mapping[str, str] | Iterable[Any]
CorpusLike = str | Path | Mapping[str, str] | Iterable[Any]
SHARD = re.compile(r"-(\d+)-of-(\d+)(?=\.)")  # queries-00007-of-00128.jsonl.gz


class Shape(NamedTuple):
    """Records of one known kind: by which keys they are known, and what holds what."""

    name: str
    keys: frozenset[str]
    text: str
    ids: tuple[str, ...] = ()  # before the usual ones
    language: str = ""
    answers: str = ""
    left: str = ""  # what a reader might miss


def _shape(name: str, keys: str, text: str, **more: Any) -> Shape:
    return Shape(name, frozenset(keys.split()), text, **more)


def _id_of(line: Line, record: dict[str, Any], names: Sequence[str]) -> str:
    for name in names:
        if name in record:
            return check_id(line, record[name], name)
    raise line.error(f"a record without id (expected one of {', '.join(names)}); {keys_of(record)}")


# ---------------------------------------------------------------- passages


@dataclass(frozen=True)
class CorpusSettings:
    """Which keys or columns of a corpus hold what, and what is done with empty passages."""

    id_field: str | None = option(None, "key or column of the passages' ids, where it is not id, docid, _id or pid")
    title_field: str | None = option(None, "key or column of the passages' titles, where it is not title")
    text_field: str | None = option(None, "key or column of the passages' texts, where it is not text or contents")
    skip_empty: bool = option(False, "leave out passages without any text, and count them")


PASSAGE_IDS = ("id", "docid", "_id", "pid")
PASSAGES = (  # besides `text` and `contents`
    _shape("MS MARCO v2.1 segments", "docid segment", "segment", left="headings and url are left out"),
    _shape("MS MARCO v2 passages", "pid passage", "passage", ids=("pid",)),
    _shape("MS MARCO v2 documents", "docid url body", "body", left="headings and url are left out"),
    _shape("AfriQA's passages", "context", "context"),
)
PASSAGE_COLUMNS = Columns(
    {
        "id": (*PASSAGE_IDS, "doc_id", "docno", "passage_id"),
        "text": ("text", "contents", "passage", "body", "context"),
        "title": ("title", "wikipedia_title"),
    },
    ("text",),
    "id, text, title",
)


class _Passages:
    """Makes passages of one corpus's records."""

    def __init__(self, source: Any, settings: CorpusSettings) -> None:
        self.settings, self.notes = settings, Notes(source)
        self.ids = (settings.id_field,) if settings.id_field else PASSAGE_IDS
        self.columns = ["id", "text", "title"]
        self.header: list[str] | None = None
        self.fresh = True  # before the first record
        self.kind = Kind("passage", self.from_json, quoted_rows, self.from_row)

    def from_json(self, line: Line) -> Passage | None:
        return self.from_record(line, parse_json(line))

    def from_record(self, line: Line, record: dict[str, Any]) -> Passage | None:
        settings, notes = self.settings, self.notes
        if self.fresh:
            self.fresh = False
            several = [name for name in self.ids if name in record]
            if len(several) > 1 and not {"pid", "passage"} <= record.keys():
                notes.once(f"records have {' and '.join(several)}; {several[0]} is the id")
        text = record.get("text") if settings.text_field is None else None
        if isinstance(text, str) and text and not text.isspace():
            docid, titled = _id_of(line, record, self.ids), True
            if "contents" in record:
                notes.once("records have text and contents; text, with title, is read")
        else:
            docid, text, titled = self._slow(line, record)
        title = ""
        if titled:
            title = text_of(line, record, settings.title_field or "title")
            if settings.title_field is not None and settings.title_field not in record:
                notes.count(f"passages without the key {settings.title_field}", repr(docid))
        elif record.get("title"):
            notes.once(
                "records have title and contents; contents alone is read, and their titles are "
                "left out (name contents as text_field to have both)"
            )
        return self.passage(line, docid, title, text)

    def _slow(self, line: Line, record: dict[str, Any]) -> tuple[str, str, bool]:
        """Return id, text, and whether a title belongs to it, where the text is not in `text`."""
        field = self.settings.text_field
        if field is not None:
            docid = _id_of(line, record, self.ids)
            if field not in record:
                raise line.error(f"no key {field!r}; {keys_of(record)}", "text_field")
            return docid, text_of(line, record, field), True
        if record.get("contents") is not None:
            return _id_of(line, record, self.ids), text_of(line, record, "contents"), False
        if record.get("text") is not None:
            return _id_of(line, record, self.ids), text_of(line, record, "text"), True
        shape = next((s for s in PASSAGES if s.keys <= record.keys()), None)
        ids = self.ids
        if shape is not None and not self.settings.id_field:
            ids = (*shape.ids, *ids)
        docid = _id_of(line, record, ids)
        key = "text" if shape is None else shape.text
        if shape is not None and record.get(key) is not None:
            left = f" ({shape.left})" if shape.left else ""
            name = next(name for name in ids if name in record)
            self.notes.once(f"read as {shape.name}: {name}, title, {key}{left}")
            return docid, text_of(line, record, key), True
        title = record.get(self.settings.title_field or "title")
        if key in record and not (isinstance(title, str) and title.strip()):
            return docid, "", True  # null, and nothing else to be lost
        raise line.error(
            f"passage {docid!r} has no text (expected contents, or title and text); {keys_of(record)}", "text_field"
        )

    def from_row(self, line: Line, cells: list[str], first: bool) -> Passage | None:
        if first:
            fields = {"id": self.settings.id_field, "title": self.settings.title_field}
            fields["text"] = self.settings.text_field
            given = {what: name for what, name in fields.items() if name}
            columns = PASSAGE_COLUMNS.header(line, cells, given)
            self.header, self.columns = None, ["id", "text", "title"]
            if columns is not None:
                self.header, self.columns = cells, columns
                unused = [c for c, what in zip(cells, columns, strict=True) if not what]
                if unused:
                    self.notes.once(f"columns that are left out: {', '.join(unused)[:200]}")
                return None
            if given:
                raise line.error(
                    f"no header with the column {next(iter(given.values()))!r}", [f"{what}_field" for what in given]
                )
        elif cells == self.header:
            self.notes.once(f"the header again, in line {line.number}: files joined into one?")
            return None
        if not 2 <= len(cells) <= len(self.columns):
            raise line.error(f"{len(cells)} columns; expected {', '.join(self.columns)}")
        row = dict(zip(self.columns, cells, strict=False))
        if "text" not in row or "id" not in row:
            raise line.error(f"{len(cells)} columns; expected {', '.join(self.columns)}")
        docid = check_id(line, row["id"], "id")
        return self.passage(line, docid, row.get("title", ""), row["text"])

    def passage(self, line: Line, docid: str, title: str, text: str) -> Passage | None:
        if not text.strip():
            if title.strip():
                self.notes.count("passages with a title alone, which is encoded", repr(docid))
            elif self.settings.skip_empty:
                self.notes.count("passages without text, left out", repr(docid))
                return None
            else:
                raise line.error(f"passage {docid!r} has no text (expected contents, or title and text)", "skip_empty")
        return Passage(docid, title, text)


def read_corpus(source: str | Path, settings: CorpusSettings | None = None) -> Iterator[tuple[Line, Passage]]:
    """Yield the passages of a corpus in the order of its files, each with its line.

    Takes Pyserini's JSON Lines (`id`, `docid`, `_id` or `pid`; `contents`, or `title` and `text`),
    those of BEIR, MIRACL, Tevatron, SWIM-IR, HC4 and patapsco, MS MARCO v2 and v2.1, and AfriQA,
    and DPR's TSV; `settings` name other keys.  What is decided is said in `XqgWarning`s.
    Duplicate ids are not looked for here: that takes memory, see `store.IdIndex`.

    Raises:
        UserError: for a passage without text (unless `skip_empty`), and whatever is none.
    """
    passages = _Passages(source, settings or CorpusSettings())
    return read_records(source, passages.kind, passages.notes)


def as_corpus(source: CorpusLike, settings: CorpusSettings | None = None) -> Iterator[tuple[Line, Passage]]:
    """Yield the passages of a corpus, each with where it stands: a path's, or Python values.

    Values are `Passage`s, records as the files have them ({"docid", "title", "text"}), or a
    mapping of docids to texts.

    Raises:
        UserError: as `read_corpus`.
    """
    if isinstance(source, str | Path):
        yield from read_corpus(source, settings)
        return
    if isinstance(source, Passage) or not isinstance(source, Iterable):
        raise UserError(f"corpus: expected a file or several passages, not {shown(source)}")
    passages = _Passages("corpus", settings or CorpusSettings())
    values = source.items() if isinstance(source, Mapping) else source
    for number, value in enumerate(values, 1):
        line = Line(Path("corpus"), number, "")
        if isinstance(value, Passage):
            passage = passages.from_record(line, value._asdict())
        elif isinstance(value, dict):
            passage = passages.from_record(line, value)
        elif isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], str):
            passage = passages.passage(line, check_id(line, value[0], "id"), "", value[1])
        else:
            raise line.error(f"expected a passage, a record or (id, text), not {shown(value)}")
        if passage is not None:
            yield line, passage
    passages.notes.close()


# ---------------------------------------------------------------- questions


@dataclass(frozen=True)
class QuestionSettings:
    """Which keys or columns of a file of questions hold what."""

    question_id_field: str | None = option(
        None, "key or column of the questions' ids, where it is not id, qid, _id or query_id"
    )
    question_field: str | None = option(
        None, "key or column of the questions' texts, where it is not question, query or title"
    )
    answers_field: str | None = option(None, "key or column of the answers, where it is not answers or answer")


QUESTION_IDS = ("id", "qid", "_id", "query_id")
QUESTIONS = (  # the first of which a record has the keys
    _shape(
        "AfriQA's gold passages",
        "question_lang answer_pivot",
        "question_lang",
        answers="answer_pivot",
        left="answers are those in the passages' language",
    ),
    _shape(
        "AfriQA's queries",
        "question translated_answer",
        "question",
        answers="translated_answer",
        left="answers are those in the passages' language; answers_field names others",
    ),
    _shape("XOR-TyDi's", "question", "question"),
    _shape("SWIM-IR's", "query code text", "query", language="code"),
    _shape("Tevatron's", "query_id query", "query"),
    _shape("Pyserini's", "title", "title"),
    _shape("BEIR's", "text", "text"),
    _shape("records with query", "query", "query"),
)
SAID = ("AfriQA's gold passages", "AfriQA's queries", "SWIM-IR's")
QUESTION_COLUMNS = Columns(
    {
        "id": (*QUESTION_IDS, "query-id", "topic_id", "question_id"),
        "question": ("question", "query", "text", "title"),
        "language": ("lang", "language"),
        "answers": ("answers", "answer"),
    },
    ("question",),
    "an id, a tab and the question",
)


class _Questions:
    """Makes questions of one source's records."""

    def __init__(self, source: Any, settings: QuestionSettings) -> None:
        self.settings, self.notes = settings, Notes(source)
        named = settings.question_id_field
        self.ids = (named,) if named else QUESTION_IDS
        self.numbers: bool | None = None  # whether records have no ids, as DPR's
        self.numbered = 0  # of these
        self.columns: list[str] = []
        self.kind = Kind("question", self.from_json, plain_rows, self.from_row)

    def from_json(self, line: Line) -> Question:
        return self.from_record(line, parse_json(line))

    def from_record(self, line: Line, record: dict[str, Any]) -> Question:
        settings = self.settings
        if self.numbers is None:  # the first record decides for all
            answered = "question" in record and ("answer" in record or "answers" in record)
            named = self.settings.question_id_field or any(name in record for name in self.ids)
            self.numbers = answered and not named
        if self.numbers and any(name in record for name in self.ids):
            raise line.error(f"a record with id after records without; {keys_of(record)}")
        qid = self._number() if self.numbers else _id_of(line, record, self.ids)
        shape = next((s for s in QUESTIONS if s.keys <= record.keys()), None)
        language, answers = record.get("lang", record.get("language")), None
        if shape is not None and settings.question_field is None:
            text = self._text(line, record, shape)
            language = record[shape.language] if shape.language else language
        elif settings.question_field in record:
            text = text_of(line, record, str(settings.question_field))
        else:
            expected = settings.question_field or "question or title"
            raise line.error(f"question {qid!r} has no text (expected {expected}); {keys_of(record)}", "question_field")
        if settings.answers_field is not None:
            if settings.answers_field not in record:
                raise line.error(f"no key {settings.answers_field!r}; {keys_of(record)}", "answers_field")
            answers = record[settings.answers_field]
        else:
            key = shape.answers if shape is not None else ""
            answers = record[key] if key else record.get("answers", record.get("answer"))
            if shape is not None and shape.name in SAID:
                left = f" ({shape.left})" if shape.left else ""
                self.notes.once(f"read as {shape.name}: {shape.text}, {key or 'code'}{left}")
        return self.question(line, qid, text, language, answers)

    def _text(self, line: Line, record: dict[str, Any], shape: Shape) -> str:
        text = text_of(line, record, shape.text)
        if record[shape.text] is None:  # null: another key may have it
            others = (s.text for s in QUESTIONS if isinstance(record.get(s.text), str))
            text = record[next(others, shape.text)] or ""
        if shape.text == "title" and ("desc" in record or "description" in record):
            self.notes.once("topics have a title and a description; the title is the question")
        return text

    def from_row(self, line: Line, cells: list[str], first: bool) -> Question | None:
        settings = self.settings
        if first:
            fields = {
                "id": settings.question_id_field,
                "question": settings.question_field,
                "answers": settings.answers_field,
            }
            given = {what: name for what, name in fields.items() if name}
            columns = QUESTION_COLUMNS.header(line, cells, given)
            if columns is not None:
                self.columns = columns
                return None
            self.columns = ["id", "question"]
            if len(cells) == 2 and _listed(_unquoted(cells[1])) is not None:
                self.columns = ["question", "answers"]
        if len(cells) != len(self.columns):
            expected = "an id, a tab and the question"
            if "answers" in self.columns or len(self.columns) > 2:
                expected = ", ".join(self.columns)
            raise line.error(f"{len(cells)} columns; expected {expected}")
        row = dict(zip(self.columns, cells, strict=True))
        if "id" in row:
            if len(row["id"].split()) > 1:
                raise line.error(
                    f"{row['id'][:60]!r} stands where an id is expected: an id, a tab and the "
                    "question, or DPR's question, tab and list of answers"
                )
            qid, answers = check_id(line, row["id"], "id"), row.get("answers")
            if row["question"][:1] == '"' == row["question"][-1:]:
                self.notes.once("questions in quotes, which are kept, as Pyserini keeps them")
        else:
            qid, answers = self._number(), _unquoted(row["answers"])
            if _listed(answers) is None:
                raise line.error(f"{answers[:60]!r} is no list of answers, as the lines above have")
            row["question"] = _unquoted(row["question"])
        return self.question(line, qid, row["question"], row.get("language") or None, answers)

    def _number(self) -> str:
        """Return the next number as an id, as Pyserini gives it to DPR's questions."""
        self.notes.once("read as DPR's: question and answers, no ids; numbered from 0, as Pyserini does")
        self.numbered += 1
        return str(self.numbered - 1)

    def question(self, line: Line, qid: str, text: str, language: Any, answers: Any) -> Question:
        text = text.strip()
        if not text:
            raise line.error(f"question {qid!r} is empty")
        if language is not None and not (isinstance(language, str) and LANGUAGE_CODE.fullmatch(language)):
            raise line.error(f"{shown(language)} is not a language code such as ar or ja")
        return Question(qid, text, language, self._answers(line, qid, answers))

    def _answers(self, line: Line, qid: str, answers: Any) -> tuple[str, ...]:
        if answers is None:
            return ()
        if isinstance(answers, dict) and "text" in answers:  # SQuAD's, with answer_start
            self.notes.once("answers are objects, as SQuAD has them; their text is read")
            answers = answers["text"]
        if isinstance(answers, str):
            exact = True
            listed: list[str] | None = _listed(answers)
            if listed is None and answers[:2] in ("['", '["') and answers[-2:] in ("']", '"]'):
                listed, exact = re.split(r"""['"], ['"]""", answers[2:-2]), False
            if listed is not None and line.text[:1] in ("{", ""):
                self.notes.once("answers are lists written as text (\"['1912']\"); read as lists")
            if not exact:
                self.notes.count("such lists with quotes that nothing escapes", repr(qid))
            answers = [answers] if listed is None else listed
        if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
            raise line.error(f"the answers of question {qid!r} are not a list of strings")
        return tuple(answers)


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _listed(text: str) -> list[str] | None:
    """Return the strings of a list that was written as Python or JSON writes it, else None."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        value = ast.literal_eval(text)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        strings = sum(token.type == tokenize.STRING for token in tokens)
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return value if strings == len(value) else None  # 'a' 'b' would be one string


def read_questions(
    source: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    language: str | None = None,
    settings: QuestionSettings | None = None,
) -> list[Question]:
    """Read topics: JSON Lines of XOR-TyDi, Pyserini, BEIR, Tevatron, SWIM-IR, AfriQA, or TSV.

    TSV is Pyserini's (`qid<TAB>text`), with a header or not, or DPR's (`question<TAB>answers`).
    `source` may be several files, which are read as one, or language → file: the questions of each
    get its language, and ids that begin with it (`ko-2`), since such files number alike.
    `language` is given to the questions that name none.  Ids stay strings as they are typed; white
    space around a question is dropped.  What is decided is said in `XqgWarning`s.

    Raises:
        UserError: for an id that comes twice, an empty question, a code of no known form in
            the file, a `language` that is not known.
    """
    if isinstance(source, Mapping):
        if language is not None:
            raise UserError("a language is given beside a file for each language", "language")
        check_languages(source)
        return [
            question._replace(id=f"{code}-{question.id}", language=code)
            for code, path in source.items()
            for question in read_questions(path, None, settings)
        ]
    paths = [source] if isinstance(source, str | Path) else list(source)
    return _distinct((pair for path in paths for pair in question_lines(path, settings)), language)


def question_lines(source: str | Path, settings: QuestionSettings | None = None) -> Iterator[tuple[Line, Question]]:
    """Yield the questions of a file, each with its line; see `read_questions`."""
    questions = _Questions(source, settings or QuestionSettings())
    return read_records(source, questions.kind, questions.notes)


def question_key(record: Mapping[str, Any]) -> str | None:
    """Return the key of a JSON record that `read_questions` takes for the question's text."""
    return next((s.text for s in QUESTIONS if s.keys <= record.keys()), None)


def as_questions(
    source: QuestionsLike, language: str | None = None, settings: QuestionSettings | None = None
) -> list[Question]:
    """Return questions: a file's, or those of Python values.

    Values are `Question`s, records as the files have them ({"id", "question", "lang", …}), pairs
    (id, text), or a mapping of ids to texts.

    Raises:
        UserError: as `read_questions`.
    """
    if isinstance(source, str | Path):
        return read_questions(source, language, settings)
    values = source.items() if isinstance(source, Mapping) else source
    if isinstance(values, Question) or not isinstance(values, Iterable):
        raise UserError(f"questions: expected a file or several questions, not {shown(source)}")
    maker = _Questions("questions", settings or QuestionSettings())
    lines = ((Line(Path("questions"), n, ""), value) for n, value in enumerate(values, 1))
    questions = _distinct(((line, _as_question(line, v, maker)) for line, v in lines), language)
    maker.notes.close()
    return questions


def _as_question(line: Line, value: Any, maker: _Questions) -> Question:
    if isinstance(value, Question):
        answers = list(value.answers) if isinstance(value.answers, tuple) else value.answers
        return maker.from_record(line, {**value._asdict(), "answers": answers})
    if isinstance(value, dict):
        return maker.from_record(line, value)
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], str):
        return maker.question(line, check_id(line, value[0], "id"), value[1], None, None)
    raise line.error(f"expected a question, a record or (id, text), not {shown(value)}")


def _distinct(records: Iterable[tuple[Line, Question]], language: str | None) -> list[Question]:
    if language is not None:
        check_languages([language])
    seen: dict[str, Line] = {}
    questions = []
    for line, question in records:
        if question.id in seen:
            first = seen[question.id]
            raise line.error(
                f"question id {question.id!r} again (first in {first.path}, line {first.number})"
                + ("" if first.path == line.path else "; give each file its language"),
                () if first.path == line.path else "language",
            )
        seen[question.id] = line
        if question.language is None and language is not None:
            question = question._replace(language=language)
        questions.append(question)
    return questions


# ---------------------------------------------------------------- generated queries


def _queries_from_json(line: Line) -> GeneratedQueries:
    record = parse_json(line)
    docid = _id_of(line, record, ("docid", "id", "_id"))
    by_language = record.get("generated_queries")
    if not isinstance(by_language, dict):
        raise line.error(
            f"passage {docid!r} has no generated_queries "
            f'(expected {{"docid": …, "generated_queries": {{"ar": ["…", …], …}}}}); '
            f"{keys_of(record)}"
        )
    queries = {}
    for language, texts in by_language.items():
        if not LANGUAGE_CODE.fullmatch(language):
            raise line.error(f"{shown(language)} is not a language code such as ar or ja")
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise line.error(f"the {language} queries of {docid!r} are not a list of strings")
        queries[language] = tuple(texts)
    return GeneratedQueries(docid, queries)


GENERATED = Kind("generated queries", _queries_from_json)


def read_generated(source: str | Path) -> Iterator[tuple[Line, GeneratedQueries]]:
    """Yield records of generated queries; keys other than docid and generated_queries are left.

    Raises:
        UserError: at once for a directory of shards of which some are missing.
    """
    if is_folder(source):
        _check_shards(Path(source))
    return read_records(source, GENERATED, Notes(source))


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
            raise UserError(
                f"{folder}: {first_name} and {path.name} are shards of two sets; put each into a folder of its own"
            )
    for prefix, shards in sets.items():
        total, name = next(iter(shards.values()))
        missing = [number for number in range(total) if number not in shards]
        if missing:
            width = len(SHARD.search(name)[1])  # type: ignore[index]
            first = f"{prefix}-{missing[0]:0{width}}-of-{total:0{width}}"
            raise UserError(
                f"{folder}: {len(missing)} of {total} shards are missing, the first is {first}; "
                f"finish making them, or name those to read by a pattern such as '{folder}/*.jsonl'"
            )
