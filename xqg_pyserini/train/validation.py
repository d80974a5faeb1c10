"""How good a retriever is on validation data: its questions against all of its passages.

Knows rankings and metrics; what encodes is handed in.
"""

from collections.abc import Callable, Sequence

import numpy as np

from xqg_pyserini.data import span_answers
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.measures import parse_metric
from xqg_pyserini.evaluation.r_at_kt import RecallAtTokens
from xqg_pyserini.train.data import Example

Encode = Callable[[Sequence[str], str], np.ndarray]  # texts, "query" or "passage" → (n, d)
_BLOCK = 256


class Validation:
    """Ranks all passages of some examples for each of their questions, by mrr, mrr@K, or R@Nkt, which takes answers.

    Held in memory are the examples, and the vectors of their passages while one validation lasts.
    Raises `UserError` for another metric, or where it has nothing to measure.
    """

    def __init__(self, examples: Sequence[Example], metric: str) -> None:
        self.metric, self.examples = metric, list(examples)
        texts = dict.fromkeys(passage.full for e in examples for passage in (*e.positives, *e.negatives))
        self.passages = list(texts)
        place = {text: i for i, text in enumerate(self.passages)}
        self.relevant = [[place[p.full] for p in e.positives] for e in examples]
        parsed = parse_metric(metric)
        self._cutoff, self._budget = parsed.cut, parsed.budget
        if parsed.kind not in ("mrr", "R@kt") or parsed.level > 1:
            raise UserError(f"metric {metric!r}: expected mrr@10, or R@2kt, R@5kt, …")
        if self._budget is not None:
            answerable = [i for i, e in enumerate(self.examples) if span_answers(e.answers)]
            if not answerable:
                raise UserError(f"metric {metric}: no example of the validation data has answers")
            self.examples = [self.examples[i] for i in answerable]
            self.relevant = [self.relevant[i] for i in answerable]
            self._recall = RecallAtTokens({str(i): text for i, text in enumerate(self.passages)})

    def __call__(self, encode: Encode) -> dict[str, float]:
        """Return the metric, 0 to 100: the mean over the questions."""
        passages = encode(self.passages, "passage")
        queries = encode([e.query for e in self.examples], "query")
        values = [
            self._value(start + row, scores)
            for start in range(0, len(queries), _BLOCK)
            for row, scores in enumerate(queries[start : start + _BLOCK] @ passages.T)
        ]
        return {self.metric: 100 * float(np.mean(values))}

    def _value(self, number: int, scores: np.ndarray) -> float:
        if self._budget is None:
            rank = best_rank(scores, self.relevant[number])
            return 1 / rank if self._cutoff is None or rank <= self._cutoff else 0.0
        ranking = [str(i) for i in np.argsort(-scores, kind="stable")]
        answers = span_answers(self.examples[number].answers)
        return float(self._recall.hits(ranking, answers, [self._budget])[0])


def best_rank(scores: np.ndarray, relevant: Sequence[int]) -> int:
    """Return the rank, from 1, of the best relevant passage; equals stand before it.

    A model that gives all passages one score thus finds nothing.
    """
    best = scores[relevant].max()
    others = np.delete(scores, relevant)
    return 1 + int((others >= best).sum())
