"""Grids of fusions: which points a sweep searches, each a value that is named by its settings."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from xqg_pyserini.data import check_languages, find_language
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.results import PointSettings
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.fusion.formula import Fusion, FusionSettings
from xqg_pyserini.fusion.fused import Languages
from xqg_pyserini.settings import option

BASELINE = "baseline"
WEIGHTS = {"sum": (0.005, 0.01, 0.02, 0.05), "mean": (0.1, 0.2, 0.3, 0.4, 0.5)}  # the default

Scope = Literal["all", "own", "others"]


class Aligned(NamedTuple):
    """How questions are put right: by an alignment as it was made, or as its moments make it again.

    `ridge` is λ (infinity: centring alone) and `shrink` k, as `align_moments` has them; None is the alignment's own.
    """

    ridge: float | None = None
    shrink: float | None = None

    @property
    def name(self) -> str:
        """Return what it is called in a point's name."""
        given = (("r", self.ridge), ("k", self.shrink))
        return "align" + "".join(f"-{letter}{_short(value)}" for letter, value in given if value is not None)


def _short(number: float) -> str:
    return str(float(number)).removesuffix(".0")


@dataclass(frozen=True)
class GridSettings:
    """A grid: every form and weight × languages × numbers of queries × norms × centrings × alignment.

    What is empty is left open: the forms whose weights are given, or else the mean; `WEIGHTS`; as the encoder
    normalises; no centring; no alignment, or the one given as it was made.
    """

    fusion: tuple[str, ...] = option((), "how queries are mixed in", "sum", "mean")
    alpha: tuple[float, ...] = option((), "weights of the sum", metavar="A")
    beta: tuple[float, ...] = option((), "weights of the mean", metavar="B")
    languages: tuple[str, ...] = option(
        ("all",),
        "all, own (the question's), others (all but its own), each (one point a language), or "
        "codes joined by +, as ar+ru",
        metavar="SET",
    )
    num_queries: tuple[str | int, ...] = option(
        ("all",), "queries a language: all, or numbers that accumulate kept", metavar="K"
    )
    normalize: tuple[bool, ...] = option((), "scale to length 1")
    center: tuple[bool, ...] = option((), "centre")
    shrink_queries: tuple[float, ...] = option(
        (), "add so many queries at their language's mean to each passage's (the mean form; default: 0)", metavar="K"
    )
    align: str | Path | Alignment | None = option(  # noqa: RUF009 (a mutable default it is not)
        None,
        "try every point, and the passages alone, also with each question put right by this alignment in place of its "
        "centring (xqg align makes it)",
        metavar="ALIGNMENT",
    )
    ridge: tuple[float, ...] = option(
        (), "how near the alignment is to centring alone, inf: centring alone (default: its own)", metavar="LAMBDA"
    )
    shrink: tuple[float, ...] = option(
        (), "pairs that the covariance of all languages counts as in the alignment (default: its own)", metavar="K"
    )

    def fusions(self, normalized_encoder: bool) -> list[Fusion]:
        """Return the forms, weights, norms and centrings, in the order given.

        Raises:
            UserError: a weight that is none, or of a form that is left out.
        """
        weights = {"sum": self.alpha, "mean": self.beta}
        forms = self.fusion or [form for form, given in weights.items() if given] or ["mean"]
        for form, name in (("sum", "alpha"), ("mean", "beta")):
            if weights[form] and form not in forms:
                raise UserError(f"{name} is the weight of the {form}, which fusion leaves out", about=(name, "fusion"))
        if self.shrink_queries and "mean" not in forms:
            raise UserError("shrink_queries shrinks the mean, which fusion leaves out", ("shrink_queries", "fusion"))
        return [
            FusionSettings(
                form,
                alpha=weight if form == "sum" else None,
                beta=weight if form == "mean" else None,
                normalize=normalize,
                center=center,
                shrink_queries=shrink,
            ).complete(normalized_encoder)
            for form in dict.fromkeys(forms)
            for weight in weights[form] or WEIGHTS[form]
            for normalize in dict.fromkeys(self.normalize or (None,))
            for center in dict.fromkeys(self.center or (False,))
            for shrink in dict.fromkeys((form == "mean" and self.shrink_queries) or (0.0,))
        ]

    def numbers(self) -> list[int | None]:
        """Return the numbers of queries, None for all."""
        return [None if number == "all" else _number(number) for number in self.num_queries]

    def turns(self) -> list[Aligned | None]:
        """Return how questions are put right, None for not at all, which comes first.

        Raises:
            UserError: for a ridge or a shrinkage that is none, or without an alignment.
        """
        for name, least in (("ridge", "above 0, or inf for centring alone"), ("shrink", "from 0")):
            for value in getattr(self, name):
                if self.align is None:
                    raise UserError(f"{name} says how an alignment is made again: give align", (name, "align"))
                if not (value > 0 if name == "ridge" else 0 <= value < math.inf):
                    raise UserError(f"{name} is {value:g}; expected a number {least}", name)
        if self.align is None:
            return [None]
        own: tuple[None, ...] = (None,)
        return [None] + [
            Aligned(ridge, shrink)
            for ridge in self.ridge or own
            for shrink in (ridge != math.inf and self.shrink) or own  # centring alone takes no shrinkage
        ]

    def check_languages(self) -> None:
        """Raise `UserError` for a code of no known language."""
        for name in self.languages:
            if name not in ("all", "own", "others", "each"):
                check_languages(name.split("+"))


def _number(value: str | int) -> int:
    text = str(value)
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"num_queries {text}: expected all, or a number from 1", about="num_queries")
    return int(text)


@dataclass(frozen=True)
class Point:
    """One fusion of the grid: a value, named by its settings.

    Attributes:
        fusion: how queries are mixed in; None for the passages alone.
        scope: which of the fusion's languages a question meets: all, its own (as in language-aware search), or the
            others.  A question whose own language is not among them meets all.
        first: only the first so many queries of each language; None for all.
        align: how the question is put right, in place of its centring; None for not at all.
    """

    fusion: Fusion | None = None
    scope: Scope = "all"
    first: int | None = None
    align: Aligned | None = None

    @property
    def languages(self) -> str:
        """Return `all`, `own`, `others`, or codes joined by `+`; nothing for the passages alone."""
        if self.fusion is None:
            return ""
        named = self.fusion.languages
        return self.scope if named is None else "+".join(named)

    @property
    def name(self) -> str:
        """Return what the point is called: unique in a grid, and fit for a file."""
        if self.fusion is None:
            return BASELINE if self.align is None else self.align.name
        letter = "a" if self.fusion.form == "sum" else "b"
        parts = [self.fusion.form, letter + _short(self.fusion.weight), self.languages]
        parts += [f"n{self.first}"] if self.first is not None else []
        parts += ["norm"] if self.fusion.normalize else []
        parts += ["cent"] if self.fusion.center else []
        parts += [f"k{self.fusion.shrink_queries:g}"] if self.fusion.shrink_queries else []
        parts += [self.align.name] if self.align else []
        return "-".join(parts)

    def settings(self) -> PointSettings:
        """Return the settings as `sweep.csv` and `sweep.json` name them (docs/formats.md)."""
        one, align = self.fusion, self.align and self.align.name
        if one is None:
            return PointSettings(self.name, "none", None, None, None, None, None, align=align)
        which = self.languages, self.first or "all"
        how = one.normalize, one.center
        return PointSettings(self.name, one.form, one.weight, *which, *how, one.shrink_queries, align)

    def meets(self, language: str | None, chosen: Languages) -> Languages:
        """Return which of the chosen languages a question in `language` meets."""
        own = find_language(language, chosen)
        if self.scope == "all" or own is None:
            return chosen
        return (own,) if self.scope == "own" else tuple(l for l in chosen if l != own)


def grid(
    fusions: Iterable[Fusion],
    languages: Sequence[str],
    num_queries: Sequence[int | None],
    held: Languages,
    turns: Sequence[Aligned | None] = (None,),
) -> list[Point]:
    """Return the points of all fusions × sets of languages × numbers of queries × ways to put the question right.

    `languages` are `all`, `own`, `others`, `each` (one set for each language of `held`), or codes joined by `+`;
    `num_queries` numbers of queries a language, None for all.  The passages alone come first, for each of the `turns`
    but None.  Raises `UserError` where a point comes twice or there is none.
    """
    scopes: list[tuple[Scope, Languages | None]] = []
    for name in languages:
        if name == "each":
            scopes += [("all", (language,)) for language in held]
        elif name in ("all", "own", "others"):
            scopes.append((name, None))  # type: ignore[arg-type]
        else:
            scopes.append(("all", tuple(name.split("+"))))
    each = product(fusions, scopes, num_queries, turns)
    points = [Point(align=turn) for turn in turns if turn is not None]
    points += [
        Point(replace(fusion, languages=named), scope, first, turn) for fusion, (scope, named), first, turn in each
    ]
    check_points(points)
    return points


def check_points(points: Sequence[Point], chosen: Mapping[Point, Languages] | None = None) -> None:
    """Raise `UserError` for a grid without points, or one that holds a point twice.

    Points are compared by value; `chosen` are the languages of each where the stores are known.
    """
    if not any(point.fusion for point in points):
        raise UserError("the grid is empty: give at least one weight, set of languages and number")
    names: dict[Point, str] = {}
    for point in points:
        same = point
        if point.fusion:
            languages = (chosen or {}).get(point, point.fusion.languages)
            if languages:  # the sum of their queries has no order
                same = replace(point, fusion=replace(point.fusion, languages=tuple(sorted(languages))))
        if same in names:
            again = "" if names[same] == point.name else f", again as {point.name}"
            raise UserError(f"the grid holds the point {names[same]} twice{again}; give each value once")
        names[same] = point.name
