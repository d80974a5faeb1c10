"""What is read and written: passages, questions, generated queries, runs."""

from collections.abc import Mapping
from typing import NamedTuple


class Passage(NamedTuple):
    """A passage of the corpus; `text` is `contents` where the record has no `text`."""

    id: str
    title: str
    text: str

    @property
    def full(self) -> str:
        """Return what is encoded: title, a space, text, without white space around either.

        The text alone where there is no title.  R@kt and submissions take `text` as it is.
        """
        title = self.title.strip()
        return f"{title} {self.text.strip()}".rstrip() if title else self.text.strip()


class Question(NamedTuple):
    """A topic; `language` is None and `answers` is empty where the file has none.

    Readers drop white space around `text`.
    """

    id: str
    text: str
    language: str | None = None
    answers: tuple[str, ...] = ()


class GeneratedQueries(NamedTuple):
    """The queries generated for one passage, by language."""

    docid: str
    queries: dict[str, tuple[str, ...]]


Run = dict[str, dict[str, float]]
"""Question id → docid → score; the order of the docids is the ranking, best first."""

AnyRun = Mapping[str, Mapping[str, float]]
"""A run that is only looked into: a `Run`, or one that is read as it is asked."""

Qrels = dict[str, dict[str, int]]
"""Question id → docid → relevance; 0 is judged and not relevant."""
