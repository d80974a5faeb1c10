"""What a machine's queries are worth beside people's, on passages that the generator was not trained on.

python studies/generator/compare.py DATA OUT --encoder E5 --queries WRITTEN-A WRITTEN-B [--only PATTERN …]

WRITTEN-A and WRITTEN-B are what two generators wrote, each for the half of the passages that it was not trained on:
folders with xquad, mlqa and afriqa of `xqg generate`.  Cells that are done stay; OUT/tables.md has all of them.
"""

import argparse
import fnmatch
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from alignment import choosing
from alignment.data import Loader, Vectors
from alignment.figures import figures
from alignment.rivals import Array, Pairs, aligned, centred
from alignment.run import E5
from alignment.tables import tables
from alignment.trials import (
    RIDGES,
    StandIns,
    Trial,
    Tried,
    Try,
    hit_rate,
    on_centred_index,
    on_fused,
    picked,
    run,
    side,
    trial,
)

import xqg_pyserini as xqg
from generator.machine import Machine, load_machine, read_machine
from xqg_pyserini.files import write_json

COLLECTIONS = ("xquad", "mlqa", "afriqa")
WHO = ("machine", "people")
BETAS = (0.1, 0.2, 0.3)
NUMBERS = (1, 3)
WITHIN = 10  # consistency: fewer passages of the collection than this score above a query's own

Splits = list[list[Trial]]

QUESTIONS: dict[str, Try] = {
    "centred": side(centred),
    "aligned, λ = 5": side(aligned, 5.0),
    "aligned": picked(side, aligned, RIDGES),
}
LITTLE: dict[str, Try] = {name: QUESTIONS[name] for name in ("centred", "aligned, λ = 5")}
INDEX: dict[str, Try] = {
    f"centred index, {name}": lambda t, tried=QUESTIONS[name]: tried(on_centred_index(t)) for name in LITTLE
}


def splits(vectors: Vectors, machine: Machine, number: int, chosen: Array | None = None) -> Splits:
    """Return trials: of each half that one generator wrote for, each part by hash asked about, the other learnt from.

    What is learnt, and mixed into candidates, is the machine's queries that are `chosen` (N,) bool.  Neighbouring
    trials (places 2i and 2i + 1) are the two directions of one cut.
    """
    half_of = np.full(len(vectors.docids), -1)
    half_of[machine.rows] = machine.halves
    chosen = np.ones(len(machine.rows), bool) if chosen is None else chosen
    out: Splits = []
    for seed in range(number):
        part, trials = vectors.half(seed), []
        for half in np.unique(machine.halves):
            for held_out in (0, 1):
                candidates, known = ((half_of == half) & (part == of) for of in (held_out, 1 - held_out))
                people = trial(vectors, known[vectors.rows], candidates[vectors.rows], candidates)
                learn, mixed = chosen & known[machine.rows], chosen & candidates[machine.rows]
                rows = (np.cumsum(candidates) - 1)[machine.rows[mixed]]
                stand_ins = StandIns(rows, machine.queries[mixed], machine.languages[mixed])
                learnt = pairs_of(machine, vectors, learn), machine.rows[learn]
                trials.append(people._replace(pairs=learnt[0], known=learnt[1], stand_ins=stand_ins))
        out.append(trials)
    return out


def pairs_of(machine: Machine, vectors: Vectors, chosen: Array) -> Pairs:
    """Return some of the machine's queries with their passages; their translations are not known, and not looked at."""
    queries, rows = machine.queries[chosen], machine.rows[chosen]
    return Pairs(queries, vectors.passages[rows], machine.languages[chosen], queries)


def by_people(vectors: Vectors, trials: Splits) -> Splits:
    """Return the trials with people's questions about the same passages in place of the machine's queries."""

    def one(t: Trial) -> Trial:
        known = np.isin(vectors.rows, np.unique(t.known))
        pairs = Pairs(vectors.queries, vectors.passages[vectors.rows], vectors.languages, vectors.english)
        return t._replace(pairs=pairs.where(known), known=vectors.rows[known])

    return [[one(t) for t in each] for each in trials]


def of_themselves(trials: Splits) -> Splits:
    """Return the trials with what the machine wrote for the candidates as pairs: the index's own queries."""

    def one(t: Trial) -> Trial:
        assert t.stand_ins is not None
        rows, queries, languages = t.stand_ins
        return t._replace(pairs=Pairs(queries, t.p[rows], languages, queries), known=rows)

    return [[one(t) for t in each] for each in trials]


def best_weight(vectors: Vectors, trials: Splits, tries: Mapping[float, Try]) -> Tried:
    """Return ranks by the weight that finds most of the other direction's questions: those of the learning part."""
    of = run(vectors, trials, {str(weight): tried for weight, tried in tries.items()})
    ranks, seconds = np.zeros_like(next(iter(of.values())).ranks), sum(each.seconds for each in of.values())
    for split, several in enumerate(trials):
        for i, t in enumerate(several):
            other = several[i ^ 1].asked
            found = {w: hit_rate(each.ranks[split, other] == 1, vectors.languages[other]) for w, each in of.items()}
            ranks[split, t.asked] = of[max(found, key=lambda w: found[w])].ranks[split, t.asked]
    return Tried(ranks, seconds)


def fusions(vectors: Vectors, trials: Splits, kinds: Sequence[tuple[bool, bool, str]]) -> dict[str, Tried]:
    """Return the mean form's ranks; `kinds` are (centred, own language, what is done to the question)."""
    out = {}
    for center, own, turn in kinds:
        tries = {b: on_fused(xqg.Fusion("mean", beta=b, normalize=True, center=center), own, turn) for b in BETAS}
        name = f"{'centred ' if center else ''}mean {'own' if own else 'all'}: {turn}"
        out[name] = best_weight(vectors, trials, tries)
    return out


def named(prefix: str, tried: Mapping[str, Tried]) -> dict[str, Tried]:
    """Put who wrote the queries before the conditions' names."""
    return {f"{prefix}: {name}": of for name, of in tried.items()}


class Study:
    """One encoder, the collections and what machines wrote for them; cells are its methods.

    Attributes:
        written: the generators' folders.
        number: cuts of the passages.
        most: queries of a passage and language that are looked at.
    """

    def __init__(self, load: Loader, written: Sequence[Path], number: int, most: int) -> None:
        self.load, self.written, self.number, self.most = load, written, number, most
        self._machines: dict[str, Machine] = {}

    def machine(self, name: str) -> tuple[Vectors, Machine]:
        """Return a collection, and the machine's queries."""
        vectors = self.load(name)
        if name not in self._machines:
            kept = self.load.output / "vectors" / self.load.name / name / "machine"
            folders = [folder / name for folder in self.written]
            self._machines[name] = load_machine(folders, vectors, self.load.encoder, kept, self.most)
        return vectors, self._machines[name]

    def cells(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """Yield names and what makes their figures."""
        for kind in (self.halves, self.number_of_queries, self.filtered, self.choice):
            for name in COLLECTIONS:
                yield f"{kind.__name__}/{name}", partial(kind, name)
        yield "people/xquad", partial(self.people, "xquad")

    def halves(self, name: str) -> dict[str, Any]:
        """The machine's queries beside people's, on the question's side and in fused indexes."""
        vectors, machine = self.machine(name)
        trials = splits(vectors, machine, self.number)
        tried = run(vectors, trials, {"none": lambda t: t.q @ t.p.T})
        tried |= named("machine", run(vectors, trials, QUESTIONS | INDEX))
        tried |= named("people", run(vectors, by_people(vectors, trials), QUESTIONS | INDEX))
        tried |= named("the index's", run(vectors, of_themselves(trials), LITTLE))
        kinds = [(False, False, "none"), (False, True, "none"), (True, False, "centred"), (True, True, "centred")]
        tried |= named("machine", fusions(vectors, trials, [*kinds, (True, True, "aligned, λ = 5")]))
        return _figures(vectors, tried)

    def number_of_queries(self, name: str) -> dict[str, Any]:
        """The same with fewer of the machine's queries, and with as many, of the same passages, as people asked."""
        vectors, machine = self.machine(name)
        asked = vectors.asked.groupby(["docid", "language"]).size().to_dict()
        wanted = [asked.get((vectors.docids[r], l), 0) for r, l in zip(machine.rows, machine.languages, strict=True)]
        of = {f"first {n}": machine.place < n for n in NUMBERS if n < self.most}
        tried = self._chosen(vectors, machine, of)
        # the question's side alone: which passages people asked about must not reach the index
        alike = run(vectors, splits(vectors, machine, self.number, machine.place < wanted), LITTLE)
        return _figures(vectors, tried | named("as many as people's", alike))

    def filtered(self, name: str) -> dict[str, Any]:
        """The same with what rules and consistency keep."""
        vectors, machine = self.machine(name)
        ruled, dropped = self._ruled(name, machine)
        scores = machine.queries @ vectors.passages.T
        own = scores[np.arange(len(scores)), machine.rows]
        above = (scores > own[:, None]).sum(axis=1)
        of = {"rules": ruled, "consistent": above < WITHIN, "both": ruled & (above < WITHIN), "first": above < 1}
        kept = {f"{kind}, {l}": round(100 * float(mask[machine.languages == l].mean()), 1) for kind, mask in of.items()
                for l in np.unique(machine.languages).tolist()}  # fmt: skip
        return _figures(vectors, self._chosen(vectors, machine, of)) | {"kept, %": kept, "dropped by rules": dropped}

    def choice(self, name: str) -> dict[str, Any]:
        """How λ is chosen, by the machine's queries and by people's."""
        vectors, machine = self.machine(name)
        trials = splits(vectors, machine, self.number)
        tried, chosen = run(vectors, trials, {"none": lambda t: t.q @ t.p.T}), {}
        for who, of in zip(WHO, (trials, by_people(vectors, trials)), strict=True):
            sides, ridges = choosing.tries(of)
            tried |= named(who, run(vectors, of, sides))
            chosen |= {f"{who}: {rule}": each for rule, each in ridges.items()}
        references = [f"{who}: {choosing.DEFAULT}" for who in WHO]
        return figures(tried, vectors.languages, vectors.rows, references) | {"chosen": chosen}

    def _chosen(self, vectors: Vectors, machine: Machine, of: Mapping[str, Array]) -> dict[str, Tried]:
        all_of = {"all": np.ones(len(machine.rows), bool)} | dict(of)
        tried = run(vectors, splits(vectors, machine, self.number), {"none": lambda t: t.q @ t.p.T})
        for name, chosen in all_of.items():
            trials = splits(vectors, machine, self.number, chosen)
            tried |= named(name, run(vectors, trials, LITTLE))
            tried |= named(name, fusions(vectors, trials, [(False, True, "none"), (True, True, "centred")]))
        return tried

    def _ruled(self, name: str, machine: Machine) -> tuple[Array, dict[str, int]]:
        """Return which queries all rules of `xqg filter` keep, (N,) bool, and rule → queries dropped."""
        kept, dropped = set[tuple[int, str, str]](), dict[str, int]()
        rules = xqg.TextRules(("duplicates", "script", "copies", "length", "language"))
        docids = self.load(name).docids
        for half, folder in enumerate(self.written):
            output = self.load.output / "ruled" / f"{name}-{half}"
            corpus = self.load.output / "vectors" / self.load.name / name / "corpus.jsonl"
            report = xqg.filter_queries(folder / name, output, rules, corpus=corpus, overwrite=True)
            for counts in report.languages.values():
                for rule in rules.reasons:
                    dropped[rule] = dropped.get(rule, 0) + counts.get(rule, 0)
            table = read_machine([output], docids, self.load(name).asked.language.unique())
            kept.update(zip(table.row, table.language, table.text, strict=True))
        each = zip(machine.rows.tolist(), machine.languages.tolist(), machine.texts, strict=True)
        return np.array([one in kept for one in each]), dropped

    def people(self, name: str) -> dict[str, Any]:
        """Fusion with people's questions, those at odd places, beside the machine's; the others are asked."""
        vectors, machine = self.machine(name)
        odd = vectors.place % 2 == 1
        theirs: Splits = []
        trials = splits(vectors, machine, self.number, machine.place < NUMBERS[-1])
        for several in trials:
            theirs.append([])
            for place, t in enumerate(several):
                mixed, kept = odd[t.asked], ~odd[t.asked]
                stand_ins = StandIns(t.right[mixed], t.q[mixed], t.l[mixed])
                several[place] = t._replace(asked=t.asked[kept], q=t.q[kept], l=t.l[kept], right=t.right[kept])
                theirs[-1].append(several[place]._replace(stand_ins=stand_ins))
        theirs = by_people(vectors, theirs)
        kinds = [(False, False, "none"), (False, True, "none"), (True, False, "centred"), (True, True, "centred")]
        tried = run(vectors, trials, {"none": lambda t: t.q @ t.p.T})
        for who, of in zip(WHO, (trials, theirs), strict=True):
            tried |= named(who, run(vectors, of, QUESTIONS | INDEX) | fusions(vectors, of, kinds))
        return _figures(vectors, tried)


REFERENCES = ("none", "machine: centred", "machine: aligned, λ = 5", "machine: centred index, centred", "all: centred")


def _figures(vectors: Vectors, tried: Mapping[str, Tried]) -> dict[str, Any]:
    return figures(tried, vectors.languages, vectors.rows, REFERENCES)


def study(work: Study, only: Sequence[str]) -> None:
    """Run the cells that match a pattern and are not done with these settings; write the tables of all that are."""
    output = work.load.output
    for name, make in work.cells():
        path = output / "cells" / f"{name.replace('/', '.')}.json"
        settings = {"splits": work.number, "queries": work.most}
        if not any(fnmatch.fnmatch(name, pattern) for pattern in only):
            continue
        if path.exists() and settings.items() <= json.loads(path.read_text("utf-8")).items():
            continue
        begun = time.perf_counter()
        record = {"cell": name, **settings, "figures": make()}
        record["seconds"] = round(time.perf_counter() - begun, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
        print(f"{name}: {record['seconds']} s", flush=True)
    paths = [output / "cells" / f"{name.replace('/', '.')}.json" for name, _ in work.cells()]
    done = [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]
    write_json(output / "results.json", {"cells": {record["cell"]: record for record in done}})
    (output / "tables.md").write_text(tables({record["cell"]: record for record in done}, "generators"), "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="has xquad, mlqa, afriqa; read in place")
    parser.add_argument("output", type=Path, metavar="OUT", help="vectors, cells, results.json and tables.md")
    parser.add_argument("--encoder", required=True, metavar="E5", help="multilingual-e5-small's folder")
    parser.add_argument("--queries", type=Path, nargs="+", required=True, metavar="WRITTEN", help="one a generator")
    parser.add_argument("--most", type=int, default=5, help="queries of a passage and language that are looked at")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="KIND/COLLECTION")
    parser.add_argument("--splits", type=int, default=3, help="cuts of the passages into parts")
    parser.add_argument("--threads", type=int, default=1, help="of the encoder")
    args = parser.parse_args(arguments)
    try:
        encoder = xqg.Encoder(args.encoder, threads=args.threads, **E5)
        load = Loader(args.data, args.output, "e5", args.encoder, encoder)
        study(Study(load, args.queries, args.splits, args.most), args.only)
    except xqg.UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
