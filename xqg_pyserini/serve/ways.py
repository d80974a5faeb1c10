"""Ways of searching one collection, each with a name: an index, the same aligned, stores that are mixed as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini.data import Question, find_language
from xqg_pyserini.errors import UserError
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.layout import LANGUAGE_AWARE
from xqg_pyserini.retrieve.search import Index

ALIGNED, STORES = "aligned", "stores"  # ends of names
PLAIN = "passages alone"


@dataclass(frozen=True)
class Way:
    """One way of searching.

    Attributes:
        name: by which it is asked for; no "/" in it.
        searched: what is searched.
        encoder: of the questions.
        align: puts questions right before they search.
    """

    name: str
    searched: Index | Fused
    encoder: Encoder
    align: Alignment | None = None

    def find(self, question: Question, hits: int, vectors: np.ndarray, threads: int | None) -> Mapping[str, float]:
        """Return the best passages of a question, whose embedding is `vectors` (1, d), with their scores, best first.

        Raises `UserError` where the question has no language and this way needs it.
        """
        found = self.searched.search([question], hits, vectors=vectors, align=self.align, threads=threads)
        return found[question.id]

    @property
    def languages(self) -> list[str] | None:
        """Return the languages by which questions are told apart; None where a question needs none."""
        if self.align is not None:
            return self.align.languages
        if isinstance(self.searched, Index):
            return self.searched.languages
        tells = self.searched.own or self.searched.fusion.center
        return list(self.searched.languages) if tells else None

    @property
    def vectors(self) -> int:
        """Return how many vectors are searched."""
        return self.searched.n if isinstance(self.searched, Index) else self.searched.passages.n

    @property
    def _meta(self) -> Mapping[str, Any]:
        """Return what is recorded of an index; of stores nothing is."""
        return (self.searched.meta or {}) if isinstance(self.searched, Index) else {}

    @property
    def plain(self) -> bool:
        """Tell whether passages are searched as they are, and questions are not put right."""
        return self.what == PLAIN

    @property
    def what(self) -> str:
        """Say in a few words what is searched."""
        own, fusion = self._meta.get("kind") == LANGUAGE_AWARE, self._meta.get("fusion")
        if isinstance(self.searched, Fused):
            own, fusion = self.searched.own, asdict(self.searched.fusion)
        said = PLAIN
        if fusion or own:
            said = "queries of the question's own language mixed in" if own else "queries mixed in"
        if fusion:
            weight = f"α = {fusion['alpha']:g}" if fusion["form"] == "sum" else f"β = {fusion['beta']:g}"
            said += f" ({fusion['form']}, {weight}{', centred' if fusion['center'] else ''})"
        if "delimiter" in self._meta:
            said = "the best of each passage's vectors"
        return said if self.align is None else f"{said}; questions aligned"


def named_folders(given: Sequence[str]) -> dict[str, Path]:
    """Return name → folder of `NAME=DIR` or `DIR`, which is named by its last part.

    Raises:
        UserError: for a name that comes twice, or that no address can hold.
    """
    folders: dict[str, Path] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or Path(text).exists():
            name, path = Path(text).resolve().name, text
        check_name(name, folders)
        folders[name] = Path(path)
    return folders


def check_name(name: str, taken: Mapping[str, Any] | Sequence[str]) -> None:
    """Raise `UserError` for a name that is taken, or that no address can hold."""
    if name in taken:
        raise UserError(f"two indexes are called {name!r}; give them names: NAME=DIR", "index")
    if not name.strip() or "/" in name or not name.isprintable() or name in (".", ".."):
        raise UserError(f"{name!r}: no name for an index; expected text without /", "index")


def first_pair(ways: Sequence[Way]) -> tuple[str, str]:
    """Return the names of the ways that are shown first: a plain one, and what promises most beside it.

    That is an aligned one, or else one that tells questions apart by their language, or any other.
    """
    left = next((way for way in ways if way.plain), ways[0])
    others = [way for way in ways if way is not left]
    if not others:
        return left.name, left.name
    right = min(others, key=lambda way: (way.align is None, way.languages is None))
    return left.name, right.name


def known_languages(ways: Sequence[Way], more: Sequence[str] = ()) -> list[str]:
    """Return the languages that any of the ways tells apart, and some more; each once."""
    known: list[str] = []
    for language in [*(l for way in ways for l in way.languages or ()), *more]:
        if find_language(language, known) is None:
            known.append(language)
    return known
