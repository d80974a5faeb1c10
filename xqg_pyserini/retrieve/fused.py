"""Passages with their generated queries mixed in: searched as they are, or written as an index.

Searching the stores mixes the queries in block by block; no augmented vector is stored.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xqg_pyserini.data import QuestionsLike, Run, as_questions
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.fusion.fused import FusedStores, Languages
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve import search as searching
from xqg_pyserini.retrieve.index import IndexSettings, write_fused
from xqg_pyserini.retrieve.search import Index, SearchSettings
from xqg_pyserini.retrieve.sharding import Replacing
from xqg_pyserini.retrieve.topk import Best, Group, gathered, settled
from xqg_pyserini.stores import ids_at
from xqg_pyserini.stores.pair import Rows

UNIT = 1 + 1e-5  # no vector of length 1 is longer, rounded as it may be
PIECE = 1024


class Fused(FusedStores):
    """The passages of a store with their generated queries mixed in, to search or to index."""

    def own_language(self) -> "Fused":
        """Return the same, but each question meets its own language's queries alone.

        Raises:
            UserError: for a sum over unequal numbers of queries in a language.
        """
        own = copy.copy(self)  # the stores stay open and aligned
        own.own = True
        own._check_counts()
        return own

    def write_index(
        self,
        output: str | Path,
        kind: str = IndexSettings.kind,
        *,
        overwrite: bool = False,
        repair: bool = False,
        announce: Callable[[str], Any] | None = None,
        cluster: str | None = None,
    ) -> Index:
        """Write an inner-product index that Pyserini's own commands read.

        With own languages it is a folder of one such index a language, and `all-languages` for questions in others:
        searching it is searching the stores.

        Args:
            output: the folder to write.
            kind: "flat", "fp16", "sq8" (8-bit codes), "hnsw" (a graph over float32), "ivfpq" or "ivfsq8"
                (inverted lists of short or 8-bit codes), or "lucene-flat", "lucene-hnsw" or "lucene-hnsw-int8".
            overwrite: replace what the folder holds.
            repair: replace what it holds of this same job if that is damaged, and say what is; whole, it stays.
            announce: called, before anything is written, with what one index a language takes of disk and memory.
            cluster: "ray" or "ray:ADDRESS": have a cluster write it in shards (`merge.write_whole`); the bytes are the
                same.

        Raises:
            UserError: for a kind that is none, an output that holds something; on a cluster, for a kind that cannot be
                joined, or own languages.
        """
        return write_fused(self, output, kind, Replacing(overwrite, repair), announce, cluster)

    def search(
        self,
        questions: QuestionsLike,
        k: int = SearchSettings.hits,
        *,
        encoder: Encoder | str | None = None,
        vectors: np.ndarray | None = None,
        align: Alignment | str | Path | None = None,
        threads: int | None = None,
    ) -> Run:
        """Search the stores themselves; the run is that of the index with the same fusion.

        With own languages, a question whose language has no query in the whole store (or is not
        among the chosen ones) meets all chosen languages; a warning counts such questions.

        Args:
            questions: a file, or values; see `as_questions`.
            k: hits a question.
            encoder: of the stores, where it is at hand; another is refused.
            vectors: the questions' embeddings (q, d) float32, where they are at hand; before they are aligned.
            align: puts each question right by its language, in place of its centring by the stores.
            threads: CPU threads of the search; None for what NumPy chooses.

        Raises:
            UserError: for a question without language where the search depends on it, an encoder that is not the
                stores', or an alignment of another encoder.
        """
        store = self.passages
        searching.check_hits(k)
        questions = as_questions(questions)
        if not questions:
            return {}
        if self.own or self.fusion.center:
            searching.check_question_languages(questions, "the search depends on the language")
        vectors = searching.question_vectors(store, questions, encoder, vectors, align)
        if self.fusion.center and align is None:
            vectors = searching.centered(vectors, questions, self.centers)
        asked: dict[Languages, list[int]] = {}
        for i, question in enumerate(questions):
            asked.setdefault(self.mix_for(question.language), []).append(i)
        groups = {languages: np.array(members) for languages, members in asked.items()}
        if self.own:
            searching.warn_fallback(questions, self.languages, f"{' '.join(self.languages)} are mixed in")
        self.warn_without(list(groups))
        needed = tuple(l for l in self.languages if any(l in languages for languages in groups))
        k = min(k, store.n)
        best = Best(len(questions), gathered(k, store.n))
        longest = dict.fromkeys(groups, UNIT if self.fusion.normalize else 0.0)
        asked_of = {languages: vectors[members] for languages, members in groups.items()}
        bar = tqdm(total=store.n, desc="searching", unit=" passages", disable=None)
        with bar, Computing(threads=threads).limited():
            for block in self.pair.blocks(needed):
                for piece in block.pieces(PIECE):
                    for languages, passages, lengths in self.mixes_of(piece, groups):
                        scores = asked_of[languages] @ passages.T
                        if lengths is not None:
                            scores /= lengths.T
                        else:
                            longest[languages] = max(longest[languages], float(np.linalg.norm(passages, axis=1).max()))
                        best.offer(groups[languages], scores, piece.start)
                bar.update(len(block.passages))
            asking = [Group(m, vectors[m], partial(self._rows, l), longest[l]) for l, m in groups.items()]
            scores, rows = settled(best.ranked(), asking, k, store.n)
        return searching.make_run(questions, scores, rows, ids_at(store.ids_path, np.unique(rows).tolist()))

    def _rows(self, languages: Languages, rows: Rows) -> np.ndarray:
        return self.fuse(self.pair.take(rows, languages), languages)
