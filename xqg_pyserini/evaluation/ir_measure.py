"""R@kt as a measure of ir_measures, beside nDCG and all others that it has."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from xqg_pyserini.data import NO_LANGUAGE, CorpusLike, QuestionsLike, as_questions
from xqg_pyserini.errors import missing_package
from xqg_pyserini.evaluation.scores import r_at_kt


def RAtKt(questions: QuestionsLike, corpus: CorpusLike, *, with_title: bool = False) -> Any:
    """Return R@kt as a measure: `RAtKt(questions, corpus) @ 2000` is R@2kt.

    `ir_measures.calc_aggregate([RAtKt(questions, corpus) @ 2000, ir_measures.nDCG @ 10], qrels, run)` gives both.  The
    aggregate is the unweighted mean over languages, 0-1, of all questions that have an answer to look for, whatever the
    qrels judge; one that the run lacks is a miss.  By query, a question that cannot be scored is NaN.  Measures of one
    budget are equal, even if their questions or corpora are not.

    Args:
        questions: with their answers and languages, as for `evaluate`.
        corpus: where the passages' texts are; read for each run that is scored.
        with_title: look for answers in title and text, not the text alone.

    Raises:
        UserError: where ir_measures is not installed.
    """
    try:
        from ir_measures import Metric, measures, util
    except ImportError:
        raise missing_package("ir_measures", "ir-measures") from None
    asked = as_questions(questions)
    languages = {question.id: question.language or NO_LANGUAGE for question in asked}
    if isinstance(corpus, Iterator):  # it is read more than once
        corpus = list(corpus)

    class Measure(measures.Measure):
        __name__ = "RAtKt"
        NAME = "RAtKt"
        AT_PARAM = "budget"
        SUPPORTED_PARAMS = {"budget": measures.ParamInfo(dtype=int, required=True)}  # noqa: RUF012
        PRETTY_NAME = "R@kt"
        SHORT_DESC = "Whether an answer is within so many first tokens of the passages retrieved."
        DEFAULT = float("nan")  # of a judged question without an answer to look for

        def __repr__(self) -> str:
            return f"R@{self['budget'] / 1000:g}kt"

        def runtime_impl(self, _: Any, run: Any) -> Iterator[Any]:
            """Yield the outcome of every question that can be scored; ir_measures calls it."""
            rows = util.RunConverter(run).as_dict_of_dict()
            budget = self["budget"]
            scored = r_at_kt(rows, asked, corpus, [budget], with_title=with_title)[budget]
            for qid, hit in scored.by_question.items():
                value = _Hit(hit)
                value.language = languages[qid]
                yield Metric(query_id=qid, measure=self, value=value)

        def aggregator(self) -> Any:
            return _Macro()

    return Measure()


class _Hit(float):
    """0 or 1 of one question, with its language: aggregators are given values alone."""

    language: str


class _Macro:
    """The unweighted mean over languages of the questions that were scored."""

    def __init__(self) -> None:
        self._hits: dict[str, list[float]] = defaultdict(list)

    def add(self, value: float) -> None:
        """Take in a question's outcome; what is no `_Hit` stands for one that is not counted."""
        if isinstance(value, _Hit):
            self._hits[value.language].append(value)

    def result(self) -> float:
        """Return the mean, 0-1; NaN where no question was scored."""
        means = [sum(hits) / len(hits) for hits in self._hits.values()]
        return sum(means) / len(means) if means else float("nan")
