"""Training data: questions with their passages, read strictly, at random, a line at a time.

A file is looked through once before anything else, so that what is wrong is said at once with its line; after that only
the lines' places are held (8 bytes each), never their texts.  This module knows no models.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import Passage, language_fault
from xqg_pyserini.data.rows import parse_json
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import Line, compression, expand, read_lines

FORM = (
    '{"query": TEXT, "positive_passages": [{"title": …, "text": …}], "negative_passages": […]} or question<TAB>passage'
)


class Example(NamedTuple):
    """A question and its passages; `scores` are of the positives, then the negatives."""

    query: str
    positives: tuple[Passage, ...]
    negatives: tuple[Passage, ...] = ()
    language: str | None = None
    answers: tuple[str, ...] = ()
    scores: tuple[float, ...] | None = None


class Drawn(NamedTuple):
    """What of an example one epoch uses: a positive first, then negatives, and their scores."""

    query: str
    passages: tuple[str, ...]
    positives: frozenset[str]
    scores: tuple[float, ...] | None


def locate(ends: np.ndarray, number: Any) -> tuple[int, int]:
    """Return the part that holds an item, and its place there; `ends` are the parts' ends."""
    part = int(np.searchsorted(ends, number, side="right"))
    return part, int(number) - (int(ends[part - 1]) if part else 0)


def draw(example: Example, negatives: int, seed: Sequence[int]) -> Drawn:
    """Draw one positive and at most so many negatives, by a seed of (seed, epoch, number)."""
    random = np.random.default_rng(list(seed))
    positive = int(random.integers(len(example.positives)))
    chosen = random.permutation(len(example.negatives))[:negatives]
    scores = example.scores
    if scores is not None:
        scores = (scores[positive], *(scores[len(example.positives) + int(i)] for i in chosen))
    passages = (example.positives[positive].full, *(example.negatives[int(i)].full for i in chosen))
    return Drawn(example.query, passages, frozenset(passage.full for passage in example.positives), scores)


class Examples:
    """The examples of one or more files, folders or patterns, found by their number.

    `check` is shown each example, and its line to complain of; `lengths` (n,) int32 of the questions, in characters.
    Raises `UserError` where a file is compressed, or a line is not an example.
    """

    def __init__(self, sources: Sequence[str], check: Callable[[Line, Example], None] | None = None) -> None:
        self.files = [path for source in sources for path in expand(source)]
        looked = [_look_through(path, check) for path in self.files]
        self._starts = [starts for starts, _ in looked]  # of each file's examples, in bytes
        self.lengths = np.concatenate([lengths for _, lengths in looked])  # of the questions
        self._ends = np.cumsum([len(starts) for starts in self._starts])
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: Any) -> Example:
        if not 0 <= number < len(self):
            raise IndexError(number)
        which, within = locate(self._ends, number)
        key = os.getpid() << 32 | which  # a handle is not shared with a forked process
        if key not in self._open:
            self._open[key] = open(self.files[which], "rb")  # noqa: SIM115
        self._open[key].seek(int(self._starts[which][within]))
        text = self._open[key].readline().decode("utf-8").rstrip("\r\n").removeprefix("\ufeff")
        return parse(Line(self.files[which], within + 1, text))

    def draw(self, number: int, negatives: int, seed: int, epoch: int) -> Drawn:
        """Draw what an epoch uses of an example; see `draw`."""
        return draw(self[number], negatives, (seed, epoch, number))

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()


class Drawable(Protocol):
    """Questions of which each epoch draws what it uses: `Examples`, `synthetic.Synthetic`."""

    lengths: np.ndarray

    def __len__(self) -> int: ...

    def draw(self, number: int, negatives: int, seed: int, epoch: int) -> Drawn:
        """Draw what an epoch uses of a question."""

    def close(self) -> None:
        """Close the files."""


class Draws:
    """What an epoch uses of several kinds of training data, one after the other.

    A part draws what it would draw alone.
    """

    def __init__(self, parts: Sequence[Drawable], negatives: int, seed: int) -> None:
        self._parts, self._negatives, self._seed = parts, negatives, seed
        self._ends = np.cumsum([len(part) for part in parts])
        self.lengths = np.concatenate([part.lengths for part in parts])
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, by which positives and negatives are drawn."""
        self._epoch = epoch

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Drawn:
        part, within = locate(self._ends, number)
        return self._parts[part].draw(within, self._negatives, self._seed, self._epoch)

    def close(self) -> None:
        """Close the files."""
        for part in self._parts:
            part.close()


def _look_through(path: Path, check: Callable[[Line, Example], None] | None) -> tuple[np.ndarray, np.ndarray]:
    if compression(path) is not None:
        raise UserError(f"{path}: training data is read at random; unpack it first")
    starts = _line_starts(path)
    numbers, lengths = [], []
    for line in tqdm(read_lines(path), f"checking {path.name}", unit=" examples", disable=None):
        example = parse(line)
        if check is not None:
            check(line, example)
        numbers.append(line.number - 1)
        lengths.append(len(example.query))
    if not numbers:
        raise UserError(f"{path}: no example in it; expected {FORM}")
    return starts[numbers], np.array(lengths, np.int32)


def _line_starts(path: Path) -> np.ndarray:
    ends, position = [0], 0
    with open(path, "rb") as file:
        if file.peek(3)[:3] == b"\xef\xbb\xbf":
            ends[0] = 3
        for line in file:
            position += len(line)
            ends.append(position)
    return np.array(ends[:-1], np.int64)


def read_examples(source: str) -> Iterator[tuple[Line, Example]]:
    """Yield the examples of a file in its order."""
    for path in expand(source):
        for line in read_lines(path):
            yield line, parse(line)


def parse(line: Line) -> Example:
    """Return the example of a line: a JSON object, or question, passage and perhaps a language.

    Raises:
        UserError: for any other line, an empty text, a question without a positive passage.
    """
    if line.text.lstrip()[:1] == "[" and "\t" not in line.text:
        raise line.error("a JSON array; expected one object a line (jq -c '.[]' makes them of it)")
    if line.text.lstrip()[:1] != "{":
        cells = line.text.split("\t")
        if len(cells) not in (2, 3):
            raise line.error(f"{len(cells)} columns; expected {FORM}")
        query, passage = _filled(line, cells[0], "question"), _filled(line, cells[1], "passage")
        return Example(query, (Passage("", "", passage),), language=_language(line, *cells[2:]))
    record = parse_json(line)
    query = _filled(line, record.get("query", record.get("question")), "query")
    positives = _passages(line, record, "positive_passages")
    if not positives:
        keys = ", ".join(map(str, record))
        what = "an empty positive_passages" if "positive_passages" in record else f"no positive_passages, but {keys}"
        raise line.error(f"the question {query[:40]!r} has {what}; expected {FORM}")
    negatives = _passages(line, record, "negative_passages")
    return Example(
        query,
        positives,
        negatives,
        _language(line, record.get("language", record.get("lang"))),
        _answers(line, record.get("answers")),
        _scores(line, record.get("scores"), len(positives) + len(negatives)),
    )


def _filled(line: Line, value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        state = "missing" if value is None else "empty" if isinstance(value, str) else "not text"
        raise line.error(f"the {what} is {state}; expected {FORM}")
    return value.strip()


def _passages(line: Line, record: dict[str, Any], name: str) -> tuple[Passage, ...]:
    value = record.get(name)
    if value is not None and not isinstance(value, list):
        raise line.error(f"{name} is not a list; expected {FORM}")
    return tuple(_passage(line, item, name) for item in value or ())


def _passage(line: Line, item: Any, name: str) -> Passage:
    if isinstance(item, str):
        item = {"text": item}
    if not isinstance(item, dict):
        raise line.error(f'a passage of {name} is {str(item)[:40]!r}; expected {{"text": …}}')
    title, text = item.get("title") or "", item.get("text") or item.get("contents") or ""
    if not isinstance(title, str) or not isinstance(text, str):
        raise line.error(f"a passage of {name} has a title or text that is not text")
    if not text.strip():
        raise line.error(f"a passage of {name} has no text ({str(item)[:40]})")
    return Passage(str(item.get("docid", "")), title, text)


def _language(line: Line, code: Any = None) -> str | None:
    if code is not None and (fault := language_fault(code)):
        raise line.error(fault)
    return code


def _answers(line: Line, value: Any) -> tuple[str, ...]:
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(answer, str) for answer in value):
        raise line.error("answers is not a list of texts")
    return tuple(value)


def _scores(line: Line, value: Any, expected: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if len(numbers) != expected or not all(isinstance(x, int | float) and np.isfinite(x) for x in numbers):
        raise line.error(f"scores: expected {expected} numbers, of the positive passages, then the negative ones")
    return tuple(map(float, numbers))
