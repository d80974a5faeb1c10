"""A collection and what is asked of it: hits, texts, the queries that pulled; as JSON values.  Knows no HTTP."""

import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from os import devnull
from typing import Any, NamedTuple

import numpy as np

from xqg_pyserini.data import Passage, Question, find_language, language_name, same_language
from xqg_pyserini.errors import UserError, XqgWarning
from xqg_pyserini.fusion.formula import unit
from xqg_pyserini.generate.identify import most_likely
from xqg_pyserini.generate.rules import in_script
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.serve.lookup import GeneratedLookup, Lookup
from xqg_pyserini.serve.ways import Way, first_pair, known_languages
from xqg_pyserini.stores import IdIndex, VectorStore

KEPT = 4096  # vectors of questions and generated queries


class Missing(UserError):
    """What was asked for by its id is not here."""


class Unclear(UserError):
    """What was asked leaves something open."""


class Asked(NamedTuple):
    """A question, in a language or none, and how that is known: "given", "model" or "script"."""

    text: str
    language: str | None
    by: str | None

    def as_json(self) -> dict[str, Any]:
        """Return what answers say of it."""
        name = self.language and language_name(self.language)
        return {"text": self.text, "language": self.language, "language_name": name, "language_by": self.by}


class Collection:
    """Ways of searching one collection, with the texts of its passages and their generated queries.

    For one thread at a time: what is loaded once is shared by all questions.

    Args:
        ways: one or more, with names of their own.
        texts: the passages by id; None shows ids alone.
        generated: the generated queries; None shows none.
        store: the passages' vectors, whose own similarity is shown beside their queries'; None leaves it out.
        threads: CPU threads of a search; None for what the libraries choose.
    """

    def __init__(
        self,
        ways: Sequence[Way],
        texts: Lookup[Passage] | None = None,
        generated: GeneratedLookup | None = None,
        store: VectorStore | None = None,
        threads: int | None = None,
    ) -> None:
        self.ways = {way.name: way for way in ways}
        self.texts, self.generated, self._threads = texts, generated, threads
        self._store, self._rows = store, None if store is None or generated is None else IdIndex(store.ids_path)
        self.languages = known_languages(ways, generated.languages if generated else ())
        self._vectors: OrderedDict[tuple[int, str], np.ndarray] = OrderedDict()
        self._model: bool | None = None  # whether a model tells languages; None until it is asked

    def warm_up(self) -> None:
        """Search each way once, so that what is wrong with it is said now, and nothing is loaded later."""
        self.asked("?")
        for way in self.ways.values():
            self.search(way.name, Asked("?", next(iter(way.languages or ()), None), None), 1)

    def describe(self) -> dict[str, Any]:
        """Return what there is to ask for."""
        return {
            "indexes": [
                {"name": name, "what": way.what, "vectors": way.vectors, "languages": way.languages}
                | {"encoder": way.encoder.settings.name}
                for name, way in self.ways.items()
            ],
            "pair": list(first_pair(list(self.ways.values()))),
            "languages": {code: language_name(code) for code in self.languages},
            "texts": self.texts is not None,
            "queries": self.generated is not None,
        }

    def asked(self, text: str, language: str | None = None) -> Asked:
        """Return a question with its language: as given, or else as a model or its script tells it, or none.

        The model is that of the extra langid; without it, a script that one of the collection's languages alone has.
        """
        if language is not None:
            return Asked(text, find_language(language, self.languages) or language, "given")
        if self._model is not False:
            try:
                found = most_likely(text, self.languages)
                self._model = True
                return Asked(text, found, found and "model")
            except UserError:  # it is not installed
                self._model = False
        written = [one for one in self.languages if in_script(text, one)]
        return Asked(text, written[0], "script") if len(written) == 1 else Asked(text, None, None)

    def search(self, name: str, asked: Asked, hits: int) -> dict[str, Any]:
        """Return the best passages of a way: rank, docid, score and, where there are texts, the passage.

        Raises:
            Unclear: where the way depends on a language that is not known.
        """
        way, start = self.ways[name], time.perf_counter()
        if way.languages is not None and asked.language is None:
            known = " ".join(way.languages)
            raise Unclear(f"the language of the question is not known, and {name} depends on it: name one ({known})")
        question = Question("asked", asked.text, asked.language)
        with _quietly() as notes:
            found = way.find(question, hits, self._encoded(way.encoder, [asked.text]), self._threads)
        milliseconds = 1000 * (time.perf_counter() - start)
        candidates: list[dict[str, Any]] = []
        for rank, (docid, score) in enumerate(found.items(), 1):
            candidates.append({"docid": docid, "score": score, "rank": rank, "doc": self._passage(docid, notes)})
        return {"candidates": candidates, "notes": notes, "milliseconds": round(milliseconds, 2)}

    def document(self, docid: str) -> Passage:
        """Return a passage; raises `Missing` where it is not there, or there are no texts."""
        if self.texts is None:
            raise Missing("there are no texts here: the server was started without a corpus")
        if not (found := self.texts[docid]):
            raise Missing(f"Document not found: {docid}")
        return found[0]

    def _passage(self, docid: str, notes: list[str]) -> Passage | None:
        if self.texts is None:
            return None
        try:
            return self.document(docid)
        except Missing:
            notes.append(f"passage {docid!r} is not in the corpus")
            return None

    def pulled(self, name: str, asked: Asked, docids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the generated queries of some passages, nearest to the question first.

        They are those in the question's language; where that is not known or there are none in it for any passage,
        those in all.  Each has its cosine to the question, as a way's encoder sees both, and beside them stands the
        passage's `own` where there is a store (else None).  Raises `Missing` where there are no queries.
        """
        if self.generated is None:
            raise Missing("there are no generated queries here: the server was started without them")
        encoder = self.ways[name].encoder
        language = find_language(asked.language, self.generated.languages)
        wanted = [self._queries(docid, language) for docid in docids]
        with _quietly():
            every = unit(self._encoded(encoder, [asked.text, *(text for queries in wanted for _, text in queries)]))
        cosines = iter((every[1:] @ every[0]).tolist())
        passages = []
        for docid, own, queries in zip(docids, self._own(docids, every[0]), wanted, strict=True):
            scored = [{"text": text, "language": l, "score": next(cosines)} for l, text in queries]
            scored.sort(key=lambda query: -query["score"])
            passages.append({"docid": docid, "own": own, "queries": scored})
        return passages

    def _queries(self, docid: str, language: str | None) -> list[tuple[str, str]]:
        """Return the generated queries of a passage in a language, or in all, each with its language."""
        held = self.generated.of(docid) if self.generated else {}
        chosen = {l: texts for l, texts in held.items() if language is None or same_language(l, language)}
        return [(l, text) for l, texts in chosen.items() for text in texts]

    def _own(self, docids: Sequence[str], question: np.ndarray) -> list[float | None]:
        if self._store is None or self._rows is None:
            return [None] * len(docids)
        rows = self._rows.rows(docids).tolist()
        vectors = [None if row < 0 else self._store.block(row, row + 1) for row in rows]
        return [None if vector is None else float(unit(vector)[0] @ question) for vector in vectors]

    def _encoded(self, encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings (n, d) of questions and queries; those asked for last are kept."""
        missing = [text for text in dict.fromkeys(texts) if (id(encoder), text) not in self._vectors]
        if missing:
            for text, vector in zip(missing, encoder.encode_queries(missing), strict=True):
                self._vectors[id(encoder), text] = vector
        found = []
        for text in texts:
            self._vectors.move_to_end((id(encoder), text))
            found.append(self._vectors[id(encoder), text])
        while len(self._vectors) > KEPT:
            self._vectors.popitem(last=False)
        return np.stack(found)


@contextmanager
def _quietly() -> Iterator[list[str]]:
    """Give what warnings say, and draw no bars: on a terminal each search would draw some."""
    notes: list[str] = []
    with open(devnull, "w") as nowhere, redirect_stderr(nowhere), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", XqgWarning)
        yield notes
        notes += dict.fromkeys(str(warning.message) for warning in caught)
