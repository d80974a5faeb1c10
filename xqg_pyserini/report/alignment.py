"""An alignment for people: what it was learnt from, what was found, and what it will bring, for a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.retrieve.align import LEADING
from xqg_pyserini.retrieve.held_out import CLEARLY, FEWEST, RIDGES, careful


def alignment_text(alignment: Alignment) -> str:
    """Return what an alignment was learnt from, what was found, and what it will bring, for a terminal."""
    from tabulate import tabulate

    meta = alignment.meta
    geometry, estimate, ridge = meta["geometry"], meta["estimate"], meta["ridge"]
    aligned = {} if estimate is None or ridge is None else estimate["aligned"][f"{ridge:g}"]
    columns = [] if estimate is None else [estimate["before"], estimate["centred"], *([aligned] if aligned else [])]
    headers = ["", "pairs", "distance", "left", *(f"first {k}" for k in LEADING), "before", "centred", "aligned"]
    rows = []
    for language, of in geometry["languages"].items():
        figures = [f"{of['distance']:.3f}", f"{of['left']:.3f}", *(f"{share:.0%}" for share in of["leading"])]
        rows.append([language, meta["pairs"][language], *figures, *_shares(columns, language)])
    rows.append(["all", sum(meta["pairs"].values()), *[""] * (2 + len(LEADING)), *_shares(columns, None)])
    how = "centring alone" if ridge is None else f"ridge {ridge:g}, shrinkage {meta['shrink']:g}"
    name = meta["encoder"].get("name")
    lines = [
        f"{alignment.path}: {alignment.d} dimensions, encoder {name}; {how} ({meta['chosen']})",
        f"{geometry['language_share']:.1%} of the variance of the queries is their language",
        "",
        tabulate(rows, headers[: len(headers) - 3 + len(columns)], disable_numparse=True),
        "",
        _LEGEND,
    ]
    return "\n".join([*lines, *_words(meta, columns)])


def _shares(columns: Sequence[dict[str, Any]], language: str | None) -> list[str]:
    shares = [column["mean"] if language is None else column["languages"].get(language) for column in columns]
    return ["-" if share is None else f"{100 * share:.1f}" for share in shares]


_LEGEND = """\
distance: of the mean query from the mean of its passages; left: mean squared distance of a query
from its passage, both centred, and the share of it in the first direction and the first ten."""


def _words(meta: dict[str, Any], columns: Sequence[dict[str, Any]]) -> Iterator[str]:
    estimate = meta["estimate"]
    if estimate is None:
        yield f"No estimate: fewer than {FEWEST} sampled passages in a fold."
        return
    a, b = estimate["passages"]
    yield f"before, centred, aligned: % of held-out queries that find their own passage first, among {a} and {b}"
    yield "passages (two folds; what is learnt from one is tried on the other). A larger corpus is harder."
    if "clearly" in meta["chosen"]:
        larger = " ".join(f"{ridge:g}" for ridge in filter(careful, RIDGES))
        yield "What held-out queries like best need not be what people's questions do, since all of them share their"
        yield f"generator's ways. So the ridge is the first of {larger} that is not {CLEARLY:g} standard errors below"
        yield "the best of these and of centring alone."
    yield f"centred - before: {_points(columns[1]['gain'])}"
    if len(columns) > 2:
        yield f"aligned - centred: {_points(columns[2]['beyond_centring'])}"
    if columns[-1]["gain"]["interval"][0] <= 0:
        yield "So few queries do not say that it helps: compare both on questions."


def _points(gain: dict[str, Any]) -> str:
    low, high = gain["interval"]
    return f"{100 * gain['mean']:+.1f} points (95%: {100 * low:+.1f} to {100 * high:+.1f})"
