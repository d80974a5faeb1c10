"""Runs → runs whose best hits a model has put in a new order."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from xqg_pyserini.data import (
    CorpusLike,
    QuestionsLike,
    Run,
    RunLike,
    as_questions,
    check_run,
    not_in_corpus,
    opened_run,
    write_run,
)
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.evaluation.scores import read_passages
from xqg_pyserini.files import check_file, parents
from xqg_pyserini.locks import held
from xqg_pyserini.metadata import difference
from xqg_pyserini.models.reranker import Reranker
from xqg_pyserini.settings import check_values, option

Scored = dict[str, list[float]]  # question → scores of its hits, in the run's order


@dataclass(frozen=True)
class RerankSettings:
    """How far down a run is put in a new order."""

    depth: int = option(100, "hits of each question that are scored, and are the new run's", least=1, metavar="N")

    def __post_init__(self) -> None:
        check_values(self)


class Reranking:
    """A run's best hits with the texts that a model is to score; texts of no other passages are held in memory.

    Args:
        run: whose hits are scored; questions stay in its order.
        questions: their texts; a run's questions that are none of these are left out, which a warning says.
        corpus: the passages' texts, read as they are encoded: title and text.
        settings: how many hits.

    Raises:
        UserError: as `read_run` and `read_questions`; for a passage that the corpus lacks, a run of other questions.
    """

    def __init__(
        self, run: RunLike, questions: QuestionsLike, corpus: CorpusLike, settings: RerankSettings | None = None
    ) -> None:
        asked = {question.id: question.text for question in as_questions(questions)}
        depth, read = (settings or RerankSettings()).depth, opened_run(run)
        check_run(read, asked, "the run")
        self.hits = {qid: list(hits)[:depth] for qid, hits in read.items() if qid in asked}
        self.questions = {qid: asked[qid] for qid in self.hits}
        wanted = {docid for docids in self.hits.values() for docid in docids}
        self.texts = {passage.id: passage.full for passage, is_wanted in read_passages(corpus, wanted) if is_wanted}
        if missing := sorted(wanted - self.texts.keys()):
            raise not_in_corpus(missing, "the run", corpus)

    def digest(self) -> str:
        """Return a checksum of all that a model is to score."""
        digest = hashlib.sha256()
        for qid, docids in self.hits.items():
            read = [self.questions[qid], *(self.texts[docid] for docid in docids)]
            digest.update(json.dumps([qid, docids, read]).encode())
        return digest.hexdigest()

    def scored(self, model: Reranker, known: Mapping[str, list[float]]) -> Iterator[tuple[str, list[float]]]:
        """Yield each question that is not `known` yet, with the scores of its hits."""
        with tqdm(total=len(self.hits), desc="re-ranking", unit=" questions", disable=None) as bar:
            for qid, docids in self.hits.items():
                if qid not in known:
                    yield qid, model.scores(self.questions[qid], [self.texts[docid] for docid in docids])
                bar.update()

    def ranked(self, scores: Mapping[str, list[float]]) -> Run:
        """Return the run by its new scores, equal ones in the order of the old run."""
        run: Run = {}
        for qid, docids in self.hits.items():
            pairs = zip(docids, scores[qid], strict=True)
            run[qid] = dict(sorted(pairs, key=lambda pair: -pair[1]))
        return run


def rerank(
    run: RunLike,
    questions: QuestionsLike,
    corpus: CorpusLike,
    model: Reranker | str | Path,
    settings: RerankSettings | None = None,
) -> Run:
    """Score a run's best hits by a model, and put them in the order of these scores; see `Reranking` and `Reranker`."""
    job = Reranking(run, questions, corpus, settings)
    return job.ranked(dict(job.scored(model if isinstance(model, Reranker) else Reranker(model), {})))


def write_reranked(job: Reranking, model: Reranker, output: Path, *, tag: str) -> Run:
    """Write what `rerank` returns to a file, all digits of its scores; killed, it goes on where it was."""
    check_file(output)
    description = {"model": model.fingerprint(), "computing": asdict(model.computing), "inputs": job.digest()}
    with _scores_beside(output, description) as (known, keep):
        for qid, scores in job.scored(model, known):
            keep(qid, scores)
        reranked = job.ranked(known)
        write_run(output, reranked, tag, exact=True)
    return reranked


@contextmanager
def _scores_beside(output: Path, description: dict[str, Any]) -> Iterator[tuple[Scored, Any]]:
    """Give the scores that a killed job of the same description left beside its output, and what keeps one more.

    They are taken away when the block ends well, or in a `UserError`.
    """
    folder = output.with_name(f".{output.name}.scores")
    with parents(output), held(folder, output):
        file = folder / "scores.jsonl"
        before, known, size = _read_scores(file)
        if before is not None and before != description:
            warn(f"{output}: what was begun there is given up ({difference('the job', before, description)})")
        fresh = before != description
        known = {} if fresh else known
        with open(file, "wb" if fresh else "r+b") as out:
            if fresh:
                out.write(json.dumps(description).encode() + b"\n")
            else:
                out.seek(size)
                out.truncate()

            def keep(qid: str, scores: list[float]) -> None:
                known[qid] = scores
                out.write(json.dumps([qid, scores]).encode() + b"\n")
                out.flush()

            try:
                yield known, keep
            except UserError:
                file.unlink()
                raise
        file.unlink()


def _read_scores(file: Path) -> tuple[dict[str, Any] | None, Scored, int]:
    """Return the description and scores of a killed job, and where the last whole line ends."""
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    try:
        description, *scored = map(json.loads, whole)
        return description, {qid: list(map(float, scores)) for qid, scores in scored}, sum(map(len, whole))
    except (ValueError, TypeError):  # nothing there, or damaged
        return None, {}, 0
