"""The cells of the study, the most important first; each is a function of its collections, as one encoder sees them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import xqg_pyserini as xqg
from alignment import choosing
from alignment.data import Loader, Vectors
from alignment.figures import figures, measures
from alignment.rivals import Array, aligned
from alignment.trials import (
    NORMALISED,
    PLAIN,
    RIDGES,
    RIVALS,
    Trial,
    Tried,
    Try,
    fused_tries,
    halves,
    pairs_of,
    run,
    side,
    trial,
)
from alignment.tuned import tuned

SOURCES = ("mlqa", "afriqa", "xquad")
SHRINKS = (0.0, 100.0, 300.0, 1000.0, 10_000.0)
GRID = (0.5, *RIDGES)
NUMBERS = (30, 60, 120, 250, 500)
RELATIVES = {"es": ("ro",), "ro": ("es",), "sw": ("rw",), "rw": ("sw",), "ig": ("rw", "sw")}
BUDGETS, DEPTH = ("R@0.5kt", "R@2kt"), 40
PUBLISHED = {"de": 86.6, "id": 82.1, "jv": 62.7, "ta": 65.7, "th": 74.2}  # nDCG@10, MTEB, multilingual-e5-small

Figures = dict[str, Any]


class Cell(NamedTuple):
    """One cell: its name, KIND/COLLECTIONS, the collections that it needs, and what makes its figures."""

    name: str
    make: Callable[[Loader, int], Figures]


def cells() -> Iterator[Cell]:
    """Yield all cells of one encoder, in the order in which they are run."""
    for name in SOURCES:
        yield Cell(f"halves/{name}", partial(_halves, name))
    yield Cell("fused/xquad", partial(_fused, "xquad"))
    for name in ("belebele", *SOURCES):
        yield Cell(f"transfer/{name}", partial(_transfer, name))
    for name in SOURCES:
        yield Cell(f"answers/{name}", partial(_answers, name))
    for kind, make in (("pairs", _pairs), ("unseen", _unseen), ("ridge", _ridge), ("choice", _choice)):
        for name in SOURCES:
            yield Cell(f"{kind}/{name}", partial(make, name))
    yield Cell("stand-ins/afriqa", _stand_ins)
    for name in ("mlqa", "afriqa"):
        yield Cell(f"lora/{name}", partial(tuned, name))


def _figures(vectors: Vectors, tried: Mapping[str, Tried], references: Sequence[str] = ("none", "centred")) -> Figures:
    return figures(tried, vectors.languages, vectors.rows, references)


def _halved(vectors: Vectors, splits: int, mix: bool = False) -> tuple[Vectors, list[list[Trial]]]:
    return vectors, [list(halves(vectors, seed, mix)) for seed in range(splits)]


def _normal(vectors: Vectors) -> bool:
    return bool(np.allclose(np.linalg.norm(vectors.passages, axis=1), 1, atol=1e-3))


def _halves(name: str, load: Loader, splits: int) -> Figures:
    """Everything that needs no queries of the candidates, learnt from one half, tried on the other."""
    vectors, trials = _halved(load(name), splits)
    return _figures(vectors, run(vectors, trials, PLAIN | ({} if _normal(vectors) else NORMALISED) | RIVALS))


def _fused(name: str, load: Loader, splits: int) -> Figures:
    """The same with fused indexes: questions at odd places of the searched half stand for generated queries."""
    vectors, trials = _halved(load(name), splits, mix=True)
    out = _figures(vectors, run(vectors, trials, PLAIN | fused_tries(_normal(vectors))))
    mixed = [t.stand_ins for t in trials[0] if t.stand_ins is not None]
    per_passage = sum(len(each.rows) for each in mixed) / len(vectors.docids)
    languages = len(np.unique(vectors.languages))
    return out | {"vectors a passage": {"mean all": 1, "mean own": languages, "maximum": round(1 + per_passage, 1)}}


def _stand_ins(load: Loader, splits: int) -> Figures:
    """AfriQA as it would be used: train and dev questions are the queries, test questions search all passages.

    Here candidates include passages whose pairs were learnt from, and right ones without any: unlike in halves.
    """
    vectors = load("afriqa")
    test = vectors.asked.id.str.contains("-test-").to_numpy()
    t = trial(vectors, ~test, test, np.ones(len(vectors.docids), bool), ~test)
    out = _figures(vectors, run(vectors, [[t]], PLAIN | RIVALS | fused_tries(_normal(vectors))))
    covered = float(np.mean(np.isin(np.arange(len(vectors.docids)), vectors.rows[~test])))
    return out | {"share of passages with queries": round(covered, 3)}


def _ridge(name: str, load: Loader, splits: int) -> Figures:
    """λ and k."""
    vectors, trials = _halved(load(name), splits)
    grid = {f"λ = {ridge:g}, k = {k:g}": side(aligned, ridge, k) for ridge in GRID for k in SHRINKS}
    return _figures(vectors, run(vectors, trials, {name: PLAIN[name] for name in ("none", "centred")} | grid))


def _choice(name: str, load: Loader, splits: int) -> Figures:
    """How λ is chosen."""
    vectors, trials = _halved(load(name), splits)
    sides, chosen = choosing.tries(trials)
    tried = run(vectors, trials, {"none": PLAIN["none"]} | sides)
    return _figures(vectors, tried, (choosing.DEFAULT,)) | {"chosen": chosen}


def _some(t: Trial, number: int, seed: int) -> Trial:
    """Return the trial with a number of pairs of each language, drawn at random; fewer are among more."""
    order = np.random.default_rng(seed).permutation(len(t.known))
    drawn = t.pairs.languages[order]
    kept = np.sort(np.concatenate([order[drawn == l][:number] for l in np.unique(drawn)]))
    return t._replace(pairs=t.pairs.where(kept), known=t.known[kept])


def _pairs(name: str, load: Loader, splits: int) -> Figures:
    """The number of pairs a language, from 30 to all; a language with fewer gives all that it has."""
    vectors, trials = _halved(load(name), splits)
    tried = run(vectors, trials, {"none": PLAIN["none"]})
    sides = {"centred": PLAIN["centred"], "aligned, λ = 5": side(aligned, 5.0), "aligned, λ = 20": side(aligned, 20.0)}
    sides["aligned"] = PLAIN["aligned"]
    most = max(np.unique(t.pairs.languages, return_counts=True)[1].max() for two in trials for t in two)
    for number in [*(n for n in NUMBERS if n < most), most]:
        cut = [[_some(t, number, 10 * s + i) for i, t in enumerate(two)] for s, two in enumerate(trials)]
        label = "all" if number == most else f"{number}"
        tried |= {f"{label}: {side}": of for side, of in run(vectors, cut, sides).items()}
    return _figures(vectors, tried, ("none",))


def _without(trials: Sequence[Sequence[Trial]], left: Mapping[str, Sequence[str]]) -> list[list[Trial]]:
    """Return trials of each language alone, its pairs those of the languages that are left to it."""

    def one(t: Trial, mine: Array, kept: Array) -> Trial:
        part = t._replace(asked=t.asked[mine], q=t.q[mine], l=t.l[mine], right=t.right[mine])
        return part._replace(pairs=t.pairs.where(kept), known=t.known[kept])

    return [
        [one(t, t.l == l, np.isin(t.pairs.languages, others)) for t in two for l, others in left.items()]
        for two in trials
    ]


def _unseen(name: str, load: Loader, splits: int) -> Figures:
    """Each language put right by the others' pairs, or by its relatives' alone."""
    vectors, trials = _halved(load(name), splits)
    languages = np.unique(vectors.languages).tolist()
    sides: dict[str, Try] = {"centred": PLAIN["centred"], "aligned": PLAIN["aligned"]}
    out = {}
    near = {l: [o for o in RELATIVES.get(l, ()) if o in languages] for l in languages}
    for part, left in (("all", {l: [l] for l in languages}), ("relatives", {l: o for l, o in near.items() if o})):
        if not left:
            continue
        own = _without(trials, {l: languages for l in left})
        tried = run(vectors, own, {"none": PLAIN["none"]} | sides)
        others = _without(trials, {l: [o for o in languages if o != l] for l in left})
        tried |= {f"{side}, without it": of for side, of in run(vectors, others, sides).items()}
        if part == "relatives":
            of_near = run(vectors, _without(trials, left), sides)
            tried |= {f"{side}, relatives alone": of for side, of in of_near.items()}
        out[part] = _figures(vectors, tried, ("none",))
    return {"parts": out}


def _transfer(name: str, load: Loader, splits: int) -> Figures:
    """A collection with what is learnt from others; one question's language that they lack takes the pooled."""
    vectors = load(name)
    everything = np.ones(len(vectors.rows), bool)
    t = trial(vectors, everything, everything, np.ones(len(vectors.docids), bool))
    tried = run(vectors, [[t]], {"none": PLAIN["none"]})
    sources = [source for source in SOURCES if source != name]
    learnt = {}
    for source in sources:
        other = load(source)
        learnt[source] = pairs_of(other, np.ones(len(other.rows), bool)), other.rows
    offsets = np.cumsum([0, *(known.max() + 1 for _, known in learnt.values())])
    together = [np.concatenate(each) for each in zip(*(pairs for pairs, _ in learnt.values()), strict=True)]
    known = np.concatenate([rows + start for (_, rows), start in zip(learnt.values(), offsets, strict=False)])
    learnt["all"] = t.pairs._replace(**dict(zip(t.pairs._fields, together, strict=True))), known
    sides = {"centred": PLAIN["centred"], "aligned, λ = 2": side(aligned, 2.0), "aligned, λ = 5": side(aligned, 5.0)}
    sides |= {"aligned": PLAIN["aligned"], "centred index: aligned": RIVALS["centred index: aligned"]}
    for source, (pairs, known) in learnt.items():
        there = t._replace(pairs=pairs, known=known)
        tried |= {f"{source}: {side}": of for side, of in run(vectors, [[there]], sides).items()}
    out = _figures(vectors, tried, ("none",))
    if name == "belebele":
        gains = measures(tried["none"].ranks[0])["nDCG@10"]
        of = {l: round(float(gains[vectors.languages == l].mean()), 1) for l in PUBLISHED}
        out |= {"nDCG@10, untouched": of, "nDCG@10, published": PUBLISHED}
    return out


def _answers(name: str, load: Loader, splits: int) -> Figures:
    """R@kt of the main conditions, in the first split, by `xqg.evaluate`."""
    vectors = load(name)
    tries = PLAIN | {c: RIVALS[c] for c in ("centred index: centred", "centred index: aligned")}
    docids, ids = np.array(vectors.docids), vectors.asked.id.tolist()
    half, runs = vectors.half(0), {}
    for condition, tried in tries.items():
        hits: dict[str, dict[str, float]] = {}
        for held_out, t in enumerate(halves(vectors, 0)):
            there, found = docids[half == held_out], tried(t)
            best = np.argsort(-found, axis=1, kind="stable")[:, :DEPTH]
            for i, question in enumerate(t.asked):
                hits[ids[question]] = {str(there[row]): float(found[i, row]) for row in best[i]}
        runs[condition] = hits
    asked = vectors.asked[["id", "question", "language", "answers"]]
    questions = [xqg.Question(id_, text, l, tuple(answers)) for id_, text, l, answers in asked.itertuples(index=False)]
    qrels = {id_: {docid: 1} for id_, docid in zip(ids, vectors.asked.docid, strict=True)}
    scores = xqg.evaluate(runs, questions, (*BUDGETS, "hit_rate@1"), corpus=vectors.texts, qrels=qrels)
    out: Figures = {
        condition: {m: of[m].intervals["macro"]._asdict() for m in scores.metrics} for condition, of in scores.items()
    }
    for reference in ("none", "centred"):
        for test in scores.compare(test="fisher", baseline=reference):
            less = scores.difference(test.a, reference, test.metric)["macro"]._asdict()
            if test.metric == BUDGETS[-1]:
                out[test.a].setdefault("less", {})[reference] = less | {"p": round(test.p_corrected, 5)}
    return {"questions": len(ids), "conditions": out, "notes": scores.notes}
