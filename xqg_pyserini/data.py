"""Records and their files: passages, questions, generated queries, runs, qrels.

Readers are lazy and strict: what they cannot take they name by file and line.  Whether a file is
JSON Lines or TSV is seen from its first character, never from its name.  This room knows no
vectors and no models.
"""

import functools
import importlib.resources
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from xqg_pyserini.errors import UserError
from xqg_pyserini.files import Line, expand, read_lines, writing

LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
NO_LANGUAGE = "und"  # ISO 639: undetermined
SHARD = re.compile(r"-(\d+)-of-(\d+)(?=\.)")  # queries-00007-of-00128.jsonl.gz


class Passage(NamedTuple):
    """A passage of the corpus; `text` is `contents` where the record has no `text`."""

    id: str
    title: str
    text: str

    @property
    def full(self) -> str:
        """Return what is encoded: title, a space, text (the text alone where there is no title)."""
        return f"{self.title} {self.text}" if self.title else self.text


class Question(NamedTuple):
    """A topic; `language` is None and `answers` is empty where the file has none."""

    id: str
    text: str
    language: str | None
    answers: tuple[str, ...]


class GeneratedQueries(NamedTuple):
    """The queries generated for one passage, by language."""

    docid: str
    queries: dict[str, tuple[str, ...]]


class Hit(NamedTuple):
    """A retrieved passage."""

    docid: str
    score: float


Run = dict[str, list[Hit]]


# ---------------------------------------------------------------- the kinds of record


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
    source: str | Path,
    from_json: Callable[[Line], Any] | None,
    from_tsv: Callable[[Line, int], Any] | None,
    what: str,
) -> Iterator[tuple[Line, Any]]:
    """Yield the records of all files of `source`; raise `UserError` if there is none."""
    found = False
    for path in expand(source):
        as_json: bool | None = None
        for position, line in enumerate(read_lines(path)):
            if as_json is None:
                as_json = line.text.lstrip()[0] in "{["
                if (from_json if as_json else from_tsv) is None:
                    raise line.error(
                        f"expected {'TSV' if as_json else 'JSON Lines'}, "
                        f"found {'JSON' if as_json else repr(line.text[:40])}"
                    )
            record = from_json(line) if as_json else from_tsv(line, position)  # type: ignore[misc]
            if record is not None:
                found = True
                yield line, record
    if not found:
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


def _passage_from_json(line: Line) -> Passage:
    record = _read_json(line)
    docid = _json_id(line, record, ("id", "docid", "_id"))
    if not _text(line, record, "text").strip() and record.get("contents") is not None:
        return _passage(line, docid, "", _text(line, record, "contents"))
    return _passage(line, docid, _text(line, record, "title"), _text(line, record, "text"))


def read_corpus(source: str | Path) -> Iterator[tuple[Line, Passage]]:
    """Yield the passages of a corpus in the order of its files, each with its line.

    Takes Pyserini's JSON Lines (`id`, `docid` or `_id`; `contents`, or `title` and `text`) and
    DPR's TSV.  Duplicate ids are not looked for here: that takes memory, see `store.IdIndex`.
    """
    return _records(source, _passage_from_json, _PassageRow(), "passage")


def _question(line: Line, qid: str, text: str, language: Any, answers: Any) -> Question:
    if not text.strip():
        raise line.error(f"question {qid!r} is empty")
    if language is not None and not (
        isinstance(language, str) and LANGUAGE_CODE.fullmatch(language)
    ):
        raise line.error(f"{language!r} is not a language code such as ar or ja")
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        raise line.error(f"the answers of question {qid!r} are not a list of strings")
    return Question(qid, text, language, tuple(answers))


def _question_from_json(line: Line) -> Question:
    record = _read_json(line)
    qid = _json_id(line, record, ("id", "qid", "_id"))
    text = next(
        (_text(line, record, n) for n in ("question", "title", "text") if n in record), None
    )
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

    `language` is given to the questions that name none.  Ids stay strings as they are typed.
    Raises `UserError` for an id that comes twice, an empty question, a code of no known form in
    the file, a `language` that is not known.
    """
    if language is not None:
        check_languages([language])
    seen: dict[str, Line] = {}
    questions = []
    for line, question in _records(source, _question_from_json, _question_from_tsv, "question"):
        if question.id in seen:
            first = seen[question.id]
            raise line.error(
                f"question id {question.id!r} again (first in {first.path}, line {first.number})"
            )
        seen[question.id] = line
        if question.language is None and language is not None:
            question = question._replace(language=language)
        questions.append(question)
    return questions


def _queries_from_json(line: Line) -> GeneratedQueries:
    record = _read_json(line)
    docid = _json_id(line, record, ("docid", "id", "_id"))
    by_language = record.get("generated_queries")
    if not isinstance(by_language, dict):
        raise line.error(
            f"passage {docid!r} has no generated_queries "
            '(expected {"docid": …, "generated_queries": {"ar": ["…", …], …}})'
        )
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
            raise UserError(
                f"{folder}: {shards[number][1]} and {path.name} are one shard; remove one of them"
            )
        shards[number] = total, path.name
        first_total, first_name = next(iter(shards.values()))
        if total != first_total:
            raise UserError(
                f"{folder}: {first_name} and {path.name} are shards of two sets; "
                "put each into a folder of its own"
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


# ---------------------------------------------------------------- runs and qrels


def read_run(source: str | Path) -> Run:
    """Read a TREC run: hits by rank for each question, questions in the order they appear.

    Lines may stand in any order and ranks may start anywhere.  Raises `UserError` for a line
    without six columns, a docid or rank that comes twice, a score that is not a finite number or
    that rises with the rank.
    """
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such run file")
    rows: dict[str, list[tuple[int, Hit, int]]] = {}
    for line in read_lines(path):
        cells = line.text.split()
        if len(cells) != 6:
            raise line.error(f"{len(cells)} columns; expected six: qid Q0 docid rank score tag")
        qid, _, docid, rank, score, _ = cells
        try:
            entry = int(rank), Hit(docid, float(score)), line.number
        except ValueError:
            raise line.error(f"rank {rank!r} or score {score!r} is not a number") from None
        if not abs(entry[1].score) < float("inf"):
            raise line.error(f"score {score!r} is not a finite number")
        rows.setdefault(qid, []).append(entry)
    if not rows:
        raise UserError(f"{path}: no hit in it; expected a TREC run")
    return {qid: _ranked(path, qid, hits) for qid, hits in rows.items()}


def _ranked(path: Path, qid: str, rows: list[tuple[int, Hit, int]]) -> list[Hit]:
    rows.sort(key=lambda row: row[0])
    seen: set[str] = set()
    for i, (rank, hit, number) in enumerate(rows):
        line = Line(path, number, "")
        if i and rank == rows[i - 1][0]:
            raise line.error(f"rank {rank} of question {qid!r} comes twice")
        if i and hit.score > rows[i - 1][1].score:
            raise line.error(f"the score of question {qid!r} rises at rank {rank}")
        if hit.docid in seen:
            raise line.error(f"passage {hit.docid!r} comes twice for question {qid!r}")
        seen.add(hit.docid)
    return [hit for _, hit, _ in rows]


def write_run(path: str | Path, run: Run, tag: str) -> None:
    """Write a TREC run: ranks from 1, scores with six decimals, all in one rename."""
    with writing(path) as file:
        for qid, hits in run.items():
            for rank, hit in enumerate(hits, 1):
                file.write(f"{qid} Q0 {hit.docid} {rank} {hit.score:.6f} {tag}\n")


def read_qrels(source: str | Path) -> dict[str, dict[str, int]]:
    """Read TREC qrels (`qid 0 docid relevance`): 0 and below is judged and not relevant."""
    qrels: dict[str, dict[str, int]] = {}
    for line in read_lines(Path(source)):
        cells = line.text.split()
        if len(cells) != 4:
            raise line.error(f"{len(cells)} columns; expected four: qid 0 docid relevance")
        try:
            relevance = int(cells[3])
        except ValueError:
            raise line.error(f"relevance {cells[3]!r} is not a whole number") from None
        if cells[2] in qrels.setdefault(cells[0], {}):
            raise line.error(f"passage {cells[2]!r} is judged twice for question {cells[0]!r}")
        qrels[cells[0]][cells[2]] = max(0, relevance)
    if not qrels:
        raise UserError(f"{source}: no judgement in it; expected TREC qrels")
    return qrels


# ---------------------------------------------------------------- languages


@functools.cache
def languages() -> dict[str, dict[str, str]]:
    """Return the known languages: ISO 639-1 code → `name` (English) and `script` (ISO 15924)."""
    import yaml

    text = importlib.resources.files("xqg_pyserini.resources").joinpath("languages.yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text.read_text("utf-8"), loader)


def check_languages(codes: Iterable[str]) -> tuple[str, ...]:
    """Return the codes that a user typed, each known and none twice, or raise `UserError`."""
    out: list[str] = []
    for code in codes:
        if code not in languages():
            close = [c for c, entry in languages().items() if entry["name"].lower() == code.lower()]
            hint = f" (do you mean {close[0]}?)" if close else ""
            raise UserError(
                f"unknown language code {code!r}{hint}: expected ISO 639-1, e.g. ar bn fi"
            )
        if code in out:
            raise UserError(f"language {code!r} is given twice")
        out.append(code)
    return tuple(out)
