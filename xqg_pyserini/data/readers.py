"""Corpora, questions and generated queries: lazy, strict readers.

What a reader cannot take it names by file and line; what it decides by itself it says, once.
"""

import ast
import functools
import io
import os
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.data.ids import LOOKED_AT, check_id, examples, shown
from xqg_pyserini.data.languages import check_languages, language_fault, same_language
from xqg_pyserini.data.records import GeneratedQueries, Passage, Question
from xqg_pyserini.data.rows import (
    BELEBELE,
    Kind,
    Notes,
    Table,
    belebele_question,
    keys_of,
    parse_json,
    read_records,
    text_of,
    unquoted,
)
from xqg_pyserini.data.sources import check_shards
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import FilePath, Line, expand
from xqg_pyserini.settings import check_values, option, options


@dataclass(frozen=True, kw_only=True)
class CorpusFields:
    """Which keys or columns of a corpus hold what, and what is done with empty passages."""

    id_field: str | None = option(
        None, "key or column of the passages' ids, where it is not id, docid, _id or pid", metavar="KEY"
    )
    title_field: str | None = option(
        None, "key or column of the passages' titles, where it is not title", metavar="KEY"
    )
    text_field: str | None = option(
        None, "key or column of the passages' texts, where it is not text or contents", metavar="KEY"
    )
    skip_empty: bool = option(False, "leave out passages without any text, and count them")

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True)
class CorpusFile(CorpusFields, os.PathLike[str]):
    """A corpus, wherever one is taken, whose keys are not the usual ones: CorpusFile("c.jsonl", text_field="body")."""

    path: FilePath

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def fields(self) -> dict[str, Any]:
        """Return the settings that were given, which results depend on."""
        return fields_of(self, CorpusFields)


@dataclass(frozen=True, kw_only=True)
class QuestionFields:
    """Which keys or columns of a file of questions hold what."""

    question_id_field: str | None = option(
        None, "key or column of the questions' ids, where it is not id, qid, …", metavar="KEY"
    )
    question_field: str | None = option(
        None, "key or column of their texts, where it is not question, query, …", metavar="KEY"
    )
    answers_field: str | None = option(
        None, "key or column of the answers, where it is not answers or answer", metavar="KEY"
    )

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True)
class QuestionFiles(QuestionFields):
    """Questions, wherever some are taken: of several files, or whose keys are not the usual ones.

    Attributes:
        paths: a file, directory or pattern, or several, which are read as one; or language → file: the questions of
            each get its language, and ids that begin with it (`ko-2`), since such files number alike.
        language: of the questions that name none.
    """

    paths: FilePath | Sequence[FilePath] | Mapping[str, FilePath]
    language: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.paths, Mapping) and self.language is not None:
            raise UserError("a language is given beside a file for each language", "language")

    @property
    def files(self) -> list[FilePath]:
        """Return the paths alone."""
        if isinstance(self.paths, str | os.PathLike):
            return [self.paths]
        return list(self.paths.values() if isinstance(self.paths, Mapping) else self.paths)

    def __str__(self) -> str:
        return " ".join(map(str, self.files))


def fields_of(source: Any, cls: type) -> dict[str, Any]:
    """Return the settings of a class that were given to a source (or to anything that has them)."""
    return {o.name: value for o in options(cls) if (value := getattr(source, o.name, None))}


def _columns(settings: Any, **columns: str) -> dict[str, str]:
    return {what: getattr(settings, name) for what, name in columns.items() if getattr(settings, name)}


CorpusLike = FilePath | Mapping[str, str] | Iterable[Any]
QuestionsLike = FilePath | QuestionFiles | Mapping[str, str] | Iterable[Any]


def paths_of(*sources: Any) -> list[FilePath]:
    """Return the paths among sources, which may be values: what an output must not destroy."""
    several = (source.files if isinstance(source, QuestionFiles) else [source] for source in sources)
    return [path for paths in several for path in paths if isinstance(path, str | os.PathLike)]


class Shape(NamedTuple):
    """Records of one known kind: by which keys they are known, and what holds what."""

    keys: frozenset[str]
    text: str
    said: str = ""  # that such are read, where somebody might miss something
    id: str = ""  # before the usual ones
    language: str = ""
    answers: str = ""


def _shape(keys: str, text: str, said: str = "", **more: str) -> Shape:
    return Shape(frozenset(keys.split()), text, said, **more)


def _id_of(
    line: Line, record: Mapping[str, Any], names: Sequence[str], about: str = "", notes: Notes | None = None
) -> str:
    there = [name for name in names if name in record]
    if len(there) > 1 and notes:
        notes.say(f"records have {' and '.join(there)}; {there[0]} is the id")
    if there:
        return check_id(line, record[there[0]], there[0])
    lacks = f"a record without id (expected one of {', '.join(names)})"
    raise line.error(f"{lacks}; {keys_of(record)}", about)


def _values(source: Any, kind: type, name: str, several: str) -> Iterator[tuple[Line, Any]]:
    """Yield Python values, each with where it stands; one of a `kind` is not several."""
    values = source.items() if isinstance(source, Mapping) else source
    if isinstance(values, kind) or not isinstance(values, Iterable):
        raise UserError(f"{name}: expected a file or several {several}, not {shown(source)}")
    for number, value in enumerate(values, 1):
        yield Line(Path(name), number, ""), value


# ---------------------------------------------------------------- passages

PASSAGE_IDS = ("id", "docid", "_id", "pid", "doc_id")
PASSAGES = (  # besides `text` and `contents`
    _shape(
        "docid segment",
        "segment",
        "read as MS MARCO v2.1 segments: docid, title, segment (headings and url are left out)",
    ),
    _shape("pid passage", "passage", "read as MS MARCO v2 passages: pid, title, passage", id="pid"),
    _shape(
        "docid url body", "body", "read as MS MARCO v2 documents: docid, title, body (headings and url are left out)"
    ),
    _shape("context", "context", "read as AfriQA's passages: id, title, context"),
    _shape(
        " ".join(BELEBELE),
        "flores_passage",
        "read as Belebele's passages: link is the id; a passage is read once, and stands beside each of its questions",
        id="link",
    ),
)
PASSAGE_TABLE = Table(
    {
        "id": (*PASSAGE_IDS, "docno", "passage_id"),
        "text": ("text", "contents", "passage", "body", "context"),
        "title": ("title", "wikipedia_title"),
    },
    "text",
    "id, text, title",
    lambda cells: ["id", "text", "title"],
    quoted=True,
)
TEXT_KEYS = {*PASSAGE_TABLE.names["text"], "content", "segment", "paragraph"}  # perhaps, whatever their case
TITLE_KEYS = ("title", "heading", "headline")  # parts of keys that perhaps hold one
NO_TEXT = "has no text (expected contents, or title and text)"
TITLE_LEFT = (
    "records have title and contents; contents alone is read, and their titles are left out "
    "(name contents as text_field to have both)"
)


@functools.lru_cache
def _may_be_title(key: str) -> bool:
    return any(name in key.lower() for name in TITLE_KEYS)


class _Passages:
    """Makes passages of one corpus's records."""

    def __init__(self, source: Any) -> None:
        self.file = source if isinstance(source, CorpusFile) else CorpusFile("")
        self.notes = Notes(source)
        self.ids = (self.file.id_field,) if self.file.id_field else PASSAGE_IDS
        self.seen: set[str] | None = set()  # of Belebele, where each is wanted once
        fields = _columns(self.file, id="id_field", text="text_field", title="title_field")
        self.kind = Kind("passage", self.from_record, PASSAGE_TABLE, self.from_row, fields)

    def from_record(self, line: Line, record: Mapping[str, Any]) -> Passage | None:
        file, notes, ids = self.file, self.notes, self.ids
        shape, key = self._text_key(line, record)
        if shape is not None:
            ids = (shape.id,) if shape.id and not file.id_field else ids
            if record[key] is not None:
                notes.say(shape.said)
        docid, title = _id_of(line, record, ids, "id_field", notes), ""
        if shape is not None and shape.id == "link" and self.seen is not None:
            if docid in self.seen:
                return None
            self.seen.add(docid)
        if key != "contents" or file.text_field is not None:
            title = text_of(line, record, file.title_field or "title")
            if file.title_field is None and "title" not in record and shape is None:
                self._say_title(record)
        elif record.get("title"):
            notes.say(TITLE_LEFT)
        text = text_of(line, record, key)
        elsewhere = not text.strip() and shape is None and self._elsewhere(record)
        if key not in record or (record[key] is None and title.strip()) or elsewhere:
            raise line.error(f"passage {docid!r} {NO_TEXT}; {keys_of(record)}", "text_field")
        if file.title_field is not None and file.title_field not in record:
            notes.say(f"passages without the key {file.title_field}", repr(docid))
        return self.passage(line, docid, title, text)

    def _say_title(self, record: Mapping[str, Any]) -> None:
        for key, value in record.items():
            if _may_be_title(key) and value and isinstance(value, str):
                what = f"records have {key} and no title; texts alone are read"
                self.notes.say(f"{what} (title_field names another key)")

    def _elsewhere(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a record in which no text was found may hold some under a key that is not known."""
        title = self.file.title_field or "title"
        others = [(key, value) for key, value in record.items() if key != title and isinstance(value, str)]
        return self.file.text_field is None and any(
            len(value.split()) > (0 if key.lower() in TEXT_KEYS else 3) for key, value in others
        )

    def _text_key(self, line: Line, record: Mapping[str, Any]) -> tuple[Shape | None, str]:
        """Return the key of the text, and what shape it is known by where that is not `text` or `contents`."""
        named, text = self.file.text_field, record.get("text")
        if named is not None:
            if named not in record:
                raise line.error(f"no key {named!r}; {keys_of(record)}", "text_field")
            return None, named
        if isinstance(text, str) and text and not text.isspace():
            if "contents" in record:
                self.notes.say("records have text and contents; text, with title, is read")
        elif record.get("contents") is not None:
            return None, "contents"
        elif text is None:
            shape = next((shape for shape in PASSAGES if shape.keys <= record.keys()), None)
            return shape, shape.text if shape else "text"
        return None, "text"

    def from_row(self, line: Line, row: Mapping[str, str]) -> Passage | None:
        docid, title = check_id(line, row["id"], "id"), row.get("title", "")
        if title in ("None", "nan", "NaN", "null"):
            self.notes.say("titles that are None or nan, as where there was none, encoded as they are", repr(docid))
        return self.passage(line, docid, title, row["text"])

    def passage(self, line: Line, docid: str, title: str, text: str) -> Passage | None:
        if not text.strip():
            if title.strip():
                self.notes.say("passages with a title alone, which is encoded", repr(docid))
            elif self.file.skip_empty:
                self.notes.say("passages without text, left out", repr(docid))
                return None
            else:
                raise line.error(f"passage {docid!r} {NO_TEXT}", "skip_empty")
        return Passage(docid, title, text)


def read_corpus(source: FilePath) -> Iterator[tuple[Line, Passage]]:
    """Yield the passages of a corpus in the order of its files, each with its line.

    Takes Pyserini's JSON Lines (`id`, `docid`, `_id` or `pid`; `contents`, or `title` and `text`), those of BEIR,
    MIRACL, Tevatron, SWIM-IR, HC4 and patapsco, MS MARCO v2 and v2.1, AfriQA and Belebele, the same as a JSON array,
    DPR's TSV, and CSV with a header; a `CorpusFile` names other keys.  `hf:NAME` and `irds:NAME` stand for data sets of
    the Hugging Face hub and of ir_datasets (`data.sources`), here and for questions, qrels and generated queries.  What
    is decided is said in `XqgWarning`s.  Duplicate ids are not looked for here: that takes memory, see
    `stores.IdIndex`.

    Raises:
        UserError: for a passage without text (unless `skip_empty`), and whatever is none.
    """
    passages = _Passages(source)
    return read_records(source, passages.kind, passages.notes)


def passage_again(source: FilePath) -> Callable[[Line], Passage | None]:
    """Return what makes the passage of a line of a corpus's JSON Lines, as `read_corpus` does."""
    passages = _Passages(source)
    passages.seen = None
    return lambda line: passages.from_record(line, parse_json(line))


def as_corpus(source: CorpusLike) -> Iterator[tuple[Line, Passage]]:
    """Yield the passages of a corpus, each with where it stands: a path's, or Python values.

    Values are `Passage`s, records as the files have them ({"docid", "title", "text"}), or a mapping of docids to texts.

    Raises:
        UserError: as `read_corpus`.
    """
    if isinstance(source, str | os.PathLike):
        yield from read_corpus(source)
        return
    passages = _Passages("corpus")
    for line, value in _values(source, Passage, "corpus", "passages"):
        if isinstance(value, Passage | dict):
            record = value if isinstance(value, dict) else value._asdict()
            passage = passages.from_record(line, record)
        elif isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], str):
            passage = passages.passage(line, check_id(line, value[0], "id"), "", value[1])
        else:
            raise line.error(f"expected a passage, a record or (id, text), not {shown(value)}")
        if passage is not None:
            yield line, passage
    passages.notes.close()


def not_in_corpus(docids: Iterable[str], of: str, corpus: CorpusLike) -> UserError:
    """Return the error for passages that a corpus does not hold, with what may have happened to their ids.

    Args:
        docids: those that are not there.
        of: what names them ("run a").
        corpus: its beginning is read again.
    """
    name = str(corpus) if isinstance(corpus, str | os.PathLike) else "the corpus"
    missing = list(docids)
    there = [passage.id for _, passage in islice(as_corpus(corpus), LOOKED_AT)]
    text, found = examples(missing[:LOOKED_AT], there, of, name) if there else ("", False)
    return UserError(f"{of}: passage {missing[0]!r} is not in {name}" + (f": {text}" if found else ""))


# ---------------------------------------------------------------- questions

QUESTION_IDS = ("id", "qid", "_id", "query_id")
IN_PASSAGES_LANGUAGE = "answers are those in the passages' language"
QUESTIONS = (
    _shape(
        "question_lang answer_pivot",
        "question_lang",
        f"read as AfriQA's gold passages: question_lang, answer_pivot ({IN_PASSAGES_LANGUAGE})",
        answers="answer_pivot",
    ),
    _shape(
        "question translated_answer",
        "question",
        f"read as AfriQA's queries: question, translated_answer ({IN_PASSAGES_LANGUAGE}; answers_field names others)",
        answers="translated_answer",
    ),
    _shape("query code text", "query", "read as SWIM-IR's: query, code", language="code"),
)
QUESTION_KEYS = ("question", "query", "title", "text")  # of other records
LISTS = "answers are lists written as text (\"['1912']\"); read as lists"


def _topic_columns(cells: list[str]) -> list[str]:
    answered = len(cells) == 2 and _listed(unquoted(cells[1])) is not None
    return ["question", "answers"] if answered else ["id", "question"]


QUESTION_TABLE = Table(
    {
        "id": (*QUESTION_IDS, "query-id", "topic_id", "question_id"),
        "question": ("question", "query", "text", "title"),
        "language": ("lang", "language"),
        "answers": ("answers", "answer"),
    },
    "question",
    "an id, a tab and the question",
    _topic_columns,
    quoted=False,
)


class _Questions:
    """Makes questions of one source's records."""

    def __init__(self, source: Any, files: QuestionFiles) -> None:
        self.files, self.notes = files, Notes(source)
        self.ids = (files.question_id_field,) if files.question_id_field else QUESTION_IDS
        self.numbered: int | None = None  # of records without ids, as DPR's are; None where they have some
        self.fresh = True
        self.record: Mapping[str, Any] = {}  # of the question that was made last
        fields = _columns(files, id="question_id_field", question="question_field", answers="answers_field")
        self.kind = Kind("question", self.from_record, QUESTION_TABLE, self.from_row, fields)

    def from_record(self, line: Line, record: Mapping[str, Any]) -> Question:
        if "topic_id" in record and isinstance(record.get("topics"), list):
            record = self._in_language(line, record)
        elif record.keys() >= BELEBELE:
            record = self._of_belebele(line, record)
        files, self.record = self.files, record
        identified = files.question_id_field or any(name in record for name in self.ids)
        if self.fresh and not identified and "question" in record and ("answer" in record or "answers" in record):
            self.numbered = 0  # the first record decides for all
        self.fresh = False
        if self.numbered is not None and identified:
            raise line.error(f"a record with id after records without; {keys_of(record)}")
        about = "question_id_field"
        qid = self._number() if self.numbered is not None else _id_of(line, record, self.ids, about, self.notes)
        shape, key = _shape_of(record), files.question_field or question_key(record)
        if key is None or key not in record:
            lacks = f"question {qid!r} has no text (expected {key or 'question or title'})"
            raise line.error(f"{lacks}; {keys_of(record)}", "question_field")
        if files.question_field is None and shape is None:
            self._say_others(record, key)
        if shape is not None and shape.language and files.question_field is None:
            language = record[shape.language]
        else:
            language = self._first_of(record, "lang", "language")
        if files.answers_field is not None:
            if files.answers_field not in record:
                raise line.error(f"no key {files.answers_field!r}; {keys_of(record)}", "answers_field")
            answers = record[files.answers_field]
        else:
            if shape is not None:
                self.notes.say(shape.said)
            answers = record[shape.answers] if shape and shape.answers else self._first_of(record, "answers", "answer")
        return self.question(line, qid, text_of(line, record, key), language, answers)

    def _say_others(self, record: Mapping[str, Any], key: str) -> None:
        """Say what else might have been the question."""
        there = [other for other in QUESTION_KEYS if other in record]
        several = [other for other in there if not _is_blank(record[other])]
        if several and there[0] != key:
            self.notes.say(f"records whose {there[0]} is empty; {key} is read")
        elif len(several) > 1:
            self.notes.say(f"records have {', '.join(several[:-1])} and {several[-1]}; {key} is read")
        elif key == "title" and ("desc" in record or "description" in record):
            self.notes.say("topics have a title and a description; the title is the question")

    def _first_of(self, record: Mapping[str, Any], *names: str) -> Any:
        there = [name for name in names if record.get(name) is not None]
        if len(there) > 1 and record[there[0]] != record[there[1]]:
            self.notes.say(f"records have {' and '.join(there)}; {there[0]} is read")
        return record[there[0]] if there else None

    def _in_language(self, line: Line, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a topic that HC4 has in several languages in the one that was asked for."""
        wanted = self.files.language
        if wanted is None:
            raise line.error("a topic in several languages, as HC4 has them: give the one that is wanted", "language")
        topics = [t for t in record["topics"] if isinstance(t, dict) and same_language(str(t.get("lang")), wanted)]
        if not topics:
            raise line.error(f"topic {shown(record['topic_id'])} is not there in {wanted}", "language")
        self.notes.say("read as HC4's: topic_id, topic_title in the language given; descriptions are left out")
        if len(topics) > 1:
            several = "topics that have several texts in that language; the first is read"
            self.notes.say(several, shown(record["topic_id"]))
        return {"id": record["topic_id"], "question": topics[0].get("topic_title"), "lang": wanted}

    def _of_belebele(self, line: Line, record: Mapping[str, Any]) -> dict[str, Any]:
        self.notes.say("read as Belebele's: link and question_number are the id, dialect is the language")
        language = str(record.get("dialect", "")).replace("_", "-") or None
        return {"id": belebele_question(line, record), "question": record["question"], "lang": language}

    def from_row(self, line: Line, row: Mapping[str, str]) -> Question:
        text, answers, self.record = row["question"], row.get("answers"), {}
        if "id" not in row:
            self.numbered = self.numbered or 0
            answers, text = unquoted(row["answers"]), unquoted(text)
            if _listed(answers) is None:
                raise line.error(f"{answers[:60]!r} is no list of answers, as the lines above have")
            return self.question(line, self._number(), text, row.get("language") or None, answers)
        if len(row["id"].split()) > 1:
            expected = "an id, a tab and the question, or DPR's question, tab and list of answers"
            raise line.error(f"{row['id'][:60]!r} stands where an id is expected: {expected}")
        if text[:1] == '"' == text[-1:]:
            self.notes.say("questions in quotes, which are kept, as Pyserini keeps them")
        return self.question(line, check_id(line, row["id"], "id"), text, row.get("language") or None, answers)

    def _number(self) -> str:
        """Return the next number as an id, as Pyserini gives it to DPR's questions."""
        self.notes.say("read as DPR's: question and answers, no ids; numbered from 0, as Pyserini does")
        number, self.numbered = self.numbered or 0, (self.numbered or 0) + 1
        return str(number)

    def question(self, line: Line, qid: str, text: str, language: Any, answers: Any) -> Question:
        text = text.strip()
        if not text:
            raise line.error(f"question {qid!r} is empty")
        if (
            isinstance(language, str) and language != language.strip()
        ):  # " ar", as XOR-TyDi's training questions have it
            self.notes.say("white space around language codes; left out", repr(language))
            language = language.strip()
        if language is not None and (fault := language_fault(language)):
            raise line.error(fault)
        return Question(qid, text, language, self._answers(line, qid, answers))

    def _answers(self, line: Line, qid: str, answers: Any) -> tuple[str, ...]:
        if answers is None:
            return ()
        if isinstance(answers, dict) and "text" in answers:  # SQuAD's, with answer_start
            self.notes.say("answers are objects, as SQuAD has them; their text is read")
            answers = answers["text"]
        answers = [answers] if isinstance(answers, str) else answers
        if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
            raise line.error(f"the answers of question {qid!r} are not a list of strings", "answers_field")
        return tuple(one for answer in answers for one in self._several(qid, answer))

    def _several(self, qid: str, answer: str) -> list[str]:
        """Return the items of a list that was written as text, else the text alone."""
        listed = _listed(answer)
        if listed is None and answer[:2] in ("['", '["') and answer[-2:] in ("']", '"]'):
            listed = re.split(r"""['"],?\s+['"]""", answer[2:-2])  # NumPy writes no commas
            self.notes.say("such lists that are not as Python writes them, cut at their quotes", repr(qid))
        if listed is None:
            if answer[:1] == "[" and answer[-1:] == "]":
                self.notes.say("answers in brackets that are no list of strings, read as they are", repr(qid))
            return [answer]
        if self.numbered is None:
            self.notes.say(LISTS)
        return listed


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
    source: FilePath | QuestionFiles | Sequence[FilePath] | Mapping[str, FilePath], language: str | None = None
) -> list[Question]:
    """Read topics: JSON Lines of XOR-TyDi, Pyserini, BEIR, Tevatron, SWIM-IR, AfriQA, or TSV.

    TSV is Pyserini's (`qid<TAB>text`), with a header or not, or DPR's (`question<TAB>answers`); CSV has a header, and
    JSON may be an array; of HC4's topics the given `language` is taken.  `source` may be several files, or language →
    file (see `QuestionFiles`, which also names other keys).  `language` is given to the questions that name none.  Ids
    stay strings as they are typed; white space around a question is dropped.  What is decided is said in `XqgWarning`s.

    Raises:
        UserError: for an id that comes twice, an empty question, a language that is not known, in the
            file or as `language`.
    """
    asked = source if isinstance(source, QuestionFiles) else QuestionFiles(source, language)
    return _distinct(((line, question) for line, question, _ in question_records(asked)), language or asked.language)


def question_records(files: QuestionFiles) -> Iterator[tuple[Line, Question, Mapping[str, Any]]]:
    """Yield the questions of files, each with its line and its record; a row of a table has none, {}."""
    codes = check_languages(files.paths) if isinstance(files.paths, Mapping) else [None] * len(files.files)
    for code, path in zip(codes, files.files, strict=True):
        questions = _Questions(path, files if code is None else replace(files, paths=path, language=code))
        for line, question in read_records(path, questions.kind, questions.notes):
            if code is not None:
                question = question._replace(id=f"{code}-{question.id}", language=code)
            yield line, question, questions.record


def question_key(record: Mapping[str, Any]) -> str | None:
    """Return the key of a record that `read_questions` takes for the question's text, where none is named."""
    if (shape := _shape_of(record)) is not None:
        return shape.text
    there = [key for key in QUESTION_KEYS if key in record]
    return next((key for key in there if not _is_blank(record[key])), there[0] if there else None)


def _shape_of(record: Mapping[str, Any]) -> Shape | None:
    return next((shape for shape in QUESTIONS if shape.keys <= record.keys()), None)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def as_questions(source: QuestionsLike, language: str | None = None) -> list[Question]:
    """Return questions: those of files, or those of Python values.

    Values are `Question`s, records as the files have them ({"id", "question", "lang", …}), pairs
    (id, text), or a mapping of ids to texts.

    Raises:
        UserError: as `read_questions`.
    """
    if isinstance(source, str | os.PathLike | QuestionFiles):
        return read_questions(source, language)
    maker = _Questions("questions", QuestionFiles(""))
    values = _values(source, Question, "questions", "questions")
    questions = _distinct(((line, _as_question(line, value, maker)) for line, value in values), language)
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
            text = f"question id {question.id!r} again (first in {first.path}, {first.unit} {first.number})"
            other = first.path != line.path
            raise line.error(text + ("; give each file its language" if other else ""), "language" if other else ())
        seen[question.id] = line
        if question.language is None and language is not None:
            question = question._replace(language=language)
        questions.append(question)
    return questions


# ---------------------------------------------------------------- generated queries


def _queries_from_record(line: Line, record: dict[str, Any]) -> GeneratedQueries:
    docid = _id_of(line, record, ("docid", "id", "_id"))
    by_language = record.get("generated_queries")
    if not isinstance(by_language, dict):
        expected = 'expected {"docid": …, "generated_queries": {"ar": ["…", …], …}}'
        if "generated_queries" in record:
            raise line.error(f"the generated_queries of {docid!r} are {shown(by_language)}; {expected}")
        raise line.error(f"passage {docid!r} has no generated_queries ({expected}); {keys_of(record)}")
    queries = {}
    for language, texts in by_language.items():
        if fault := language_fault(language):
            raise line.error(fault)
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise line.error(f"the {language} queries of {docid!r} are not a list of strings")
        queries[language] = tuple(texts)
    return GeneratedQueries(docid, queries)


def read_generated(source: FilePath) -> Iterator[tuple[Line, GeneratedQueries]]:
    """Yield records of generated queries; keys other than docid and generated_queries are left.

    Raises `UserError` at once for a directory of shards of which some are missing.
    """
    if os.path.isdir(source):
        check_shards(source, [path.name for path in expand(source)])
    return read_records(source, Kind("generated queries", _queries_from_record), Notes(source))


def generated_again(line: Line) -> GeneratedQueries:
    """Return the record of a line of generated queries, as `read_generated` does."""
    return _queries_from_record(line, parse_json(line))
