"""Ids: what they may hold, what to think when two files share few of them, names for runs."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.files import PACKED, FilePath, Line, shown_name

ENDINGS = (".trec", ".txt", ".run", ".tsv", ".json", ".jsonl", ".res", ".results", *PACKED)
LARGEST = 10**100  # of ids that are numbers
LOOKED_AT = 100_000  # ids of each side that are compared when too few agree


def check_id(line: Line, value: Any, name: str) -> str:
    """Return an id as text, or raise `UserError` for what a run file could not carry."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise line.error(f"{name} is {shown(value)}, not a string")
    if isinstance(value, int):
        if abs(value) >= LARGEST:
            raise line.error(f"{name} is a number of too many digits; write it as a string")
        return str(value)
    if not value:
        raise line.error(f"{name} is empty")
    if value.split() != [value]:
        raise line.error(f"{name} {value!r} holds white space, which run files cannot carry")
    if not value.isprintable() and any(unwritable(c) for c in value):
        raise line.error(f"{name} {value!r} holds a character that text files cannot carry")
    return value


def shown(value: Any) -> str:
    """Return any value as a message can hold it: what Python writes, cut."""
    try:
        return f"{value!r:.60}".encode("utf-8", "backslashreplace").decode("utf-8")
    except (ValueError, RecursionError):  # too many digits, too deep
        return f"a value of type {type(value).__name__} too large to show"


def unwritable(character: str) -> bool:
    """Tell whether a character is lost or an end of something in a text file."""
    return character == "\ufeff" or unicodedata.category(character) in ("Cc", "Cs")


# ---------------------------------------------------------------- two sides


def _number(text: str) -> str:
    whole = re.fullmatch(r"([+-]?)0*(\d+)(?:\.0*)?", text)
    return "" if whole is None else f"{whole[1].strip('+')}{whole[2]}"


def _visible(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text) if c.isprintable() and c != " ")


ALIKE: dict[str, Callable[[str], str]] = {  # both sides, changed so, agree
    "upper and lower case differ": str.casefold,
    "numbers are padded with zeros or have a decimal point on one side": _number,
    "white space, invisible characters or accents are written otherwise": _visible,
}
LONGER: dict[str, Callable[[str], str]] = {  # one side, changed so, is the other
    "one side's have an ending more, such as -0 or #chunk": (
        lambda text: re.sub(r"(?<=.)[-_#.:/@][^-_#.:/@]*$", "", text)
    ),
    "one side's have a beginning more, such as a language or a folder": (
        lambda text: re.sub(r"^[^-_#.:/@]*[-_#.:/@](?=.)", "", text)
    ),
}


def overlap_note(
    left: Collection[str], right: Collection[str], left_name: str, right_name: str, what: str = "ids"
) -> str | None:
    """Return a line that says that two sides share few ids and what may have happened; None for half or more.

    Args:
        left: the ids that are looked for, each once; a set or the keys of a mapping.
        right: the ids that they are looked for among; a set or the keys of a mapping.
        left_name: what the ids of `left` are those of ("run.trec").
        right_name: the same for `right`.
        what: which ids ("question ids", "docids").
    """
    shared = sum(1 for each in left if each in right)
    if not left or not right or shared >= 0.5 * len(left):
        return None
    lone = islice((each for each in left if each not in right), LOOKED_AT)
    others = list(islice((each for each in right if each not in left), LOOKED_AT)) or list(islice(right, 1))
    text = f"{shared:,}" if shared else "none"
    text += f" of the {len(left):,} {what} of {left_name} are in {right_name}"
    return f"{text}: {examples(lone, others, left_name, right_name)[0]}"


def examples(lone: Iterable[str], others: Iterable[str], left_name: str, right_name: str) -> tuple[str, bool]:
    """Return an id of each side and what may have happened, and whether anything is thought of."""
    lone, others = sorted(lone), sorted(others)
    best: tuple[int, str, str, str] = (0, "", lone[0], others[0])
    as_is = {other: other for other in others}
    for words, change in (ALIKE | LONGER).items():
        changed = {change(other): other for other in reversed(others)}
        changed.pop("", None)
        if words in ALIKE:
            pairs = [(each, changed.get(change(each))) for each in lone]
        else:
            pairs = [(each, changed.get(each) or as_is.get(change(each))) for each in lone]
        agree = [(each, other) for each, other in pairs if other is not None]
        if len(agree) > best[0]:
            best = (len(agree), words, *agree[0])
    number, words, one, other = best
    text = f"{one!r} in {left_name}, {other!r} in {right_name}"
    return (f"{text}; perhaps {words}" if number else text), number > 0


def check_run(run: Collection[str], asked: Collection[str], name: str) -> None:
    """Warn of a run's questions that are none of those that are asked; `UserError` where none of them is."""
    foreign, missing = [qid for qid in run if qid not in asked], [qid for qid in asked if qid not in run]
    if foreign and len(foreign) == len(run):
        raise UserError(str(overlap_note(run, asked, name, "the questions", "question ids")))
    if foreign:
        text, found = examples(foreign, missing, name, "the questions") if missing else ("", False)
        note = f"{name} has {len(foreign)} questions that the questions file does not; left out"
        warn(f"{note} ({text})" if found else note)


def check_overlap(
    left: Collection[str], right: Collection[str], left_name: str, right_name: str, what: str = "ids"
) -> None:
    """Warn where two sides share few ids, and raise `UserError` where they share none; see `overlap_note`."""
    note = overlap_note(left, right, left_name, right_name, what)
    if note is None:
        return
    if note.startswith("none "):
        raise UserError(note)
    warn(note)


# ---------------------------------------------------------------- runs


def run_names(paths: Sequence[FilePath], given: Sequence[str] | None = None) -> list[str]:
    """Return a name for each run: those that are given, or its file's, without known endings; all distinct.

    Dots that are no known ending stay (`run.miracl-ko.bm25`, `run.b0.1`).  Files of one name get as much of their
    folders' names as tells them apart.

    >>> run_names(["run.b0.1", "bm25.trec.gz", "a/x.trec", "b/x.trec"])
    ['run.b0.1', 'bm25', 'a-x', 'b-x']
    """
    parts = [Path(path).parts or ("",) for path in paths]
    names = list(given or [_stem(part[-1]) for part in parts])
    if len(names) != len(parts):
        raise UserError(f"{len(names)} names for {len(parts)} runs; give one for each", "names")
    depth = 1
    while given is None and len(set(names)) < len(names) and depth < max(map(len, parts)):
        depth += 1
        twice = {name for name in names if names.count(name) > 1}
        names = [
            "-".join([*part[-depth:-1], _stem(part[-1])]) if name in twice else name
            for part, name in zip(parts, names, strict=True)
        ]
    if given is None and len(set(names)) < len(names):  # endings tell them apart, or they are one file
        whole = ["-".join(part).lstrip("-/") for part in parts]
        names = [w if names.count(n) > 1 else n for n, w in zip(names, whole, strict=True)]
    names = [shown_name(name) for name in names]
    if given and not all(map(str.strip, names)):
        raise UserError("an empty name for a run", "names")
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{min(twice)} is given twice; give each run once", "names")
    return names


def _stem(name: str) -> str:
    while name.lower().endswith(ENDINGS):
        stem = name[: name.rindex(".")]
        if not stem.strip("."):
            break
        name = stem
    return name
