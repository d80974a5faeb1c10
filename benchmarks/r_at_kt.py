"""R@kt: our scorer against a plain one that does as the official script does.

    python benchmarks/r_at_kt.py            # plain scorer on samples of the questions
    python benchmarks/r_at_kt.py --whole    # plain scorer on every golden question

Three loads, five budgets (0.2, 0.5, 1, 2 and 5 kt) each:

* golden: 1,200 questions over the same 240 passages, from $XQG_SHARED/data/xor-golden;
* dev: as many questions as XOR-TyDi's dev set has, 2,110, each with 100 of the real English passages of MLQA, AfriQA
  and XQuAD in $XQG_SHARED/data, drawn at random; half of the questions have their own passage among them;
* distinct: synthetic English-like text, no passage seen twice, so a cache cannot help. Half of the
  questions have no answer; where the others first have theirs is uniform over the ranks.

Times are CPU times of one process, compared as seconds a question. Both scorers must agree on
every question that both have scored.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from xqg_pyserini.data import span_answers
from xqg_pyserini.evaluation.r_at_kt import RecallAtTokens, tokenize

BUDGETS = (200, 500, 1000, 2000, 5000)
PASSAGES = 100
WORDS = 100
DEV = 2110


class Case(NamedTuple):
    """One question: its passages' texts, best first, and its answers."""

    docids: list[str]
    texts: list[str]
    answers: list[str]


class Outcome(NamedTuple):
    """What one scorer made of some questions."""

    seconds: float
    hits: dict[int, list[bool]]

    @property
    def milliseconds_a_question(self) -> float:
        """CPU time over questions."""
        return 1000 * self.seconds / len(self.hits)


def plain_hits(texts: Sequence[str], answers: Sequence[str]) -> list[bool]:
    """Do it the official way: for each budget, tokenise passages until it is full, join, look."""
    hits = []
    for budget in BUDGETS:
        tokens: list[str] = []
        for text in texts:
            tokens += tokenize(text)
            if len(tokens) >= budget:
                break
        chained = " ".join(tokens[:budget])
        hits.append(any(answer in chained for answer in answers))
    return hits


def score(cases: Iterator[Case], sample: int) -> tuple[Outcome, Outcome, float]:
    """Score every case with ours and each `sample`-th with the plain scorer.

    Returns:
        Ours, plain, and by how many MB the process grew while ours ran alone, its cache and
        the reading or making of the data included.

    """
    current: dict[str, str] = {}
    recall = RecallAtTokens(lambda docid: current[docid])
    ours: dict[int, list[bool]] = {}
    sampled: dict[int, Case] = {}
    seconds = 0.0
    tokenize("Loads NLTK before anything is measured.")
    before = _peak_megabytes()
    for number, case in enumerate(cases):
        current = dict(zip(case.docids, case.texts, strict=True))
        start = time.process_time()
        ours[number] = recall.hits(case.docids, case.answers, BUDGETS)
        seconds += time.process_time() - start
        if number % sample == 0:
            sampled[number] = case
    grown = _peak_megabytes() - before

    start = time.process_time()
    plain = {number: plain_hits(case.texts, case.answers) for number, case in sampled.items()}
    plain_seconds = time.process_time() - start
    for number, hits in plain.items():
        if hits != ours[number]:
            raise RuntimeError(f"question {number}: plain {hits}, ours {ours[number]}")
    return Outcome(seconds, ours), Outcome(plain_seconds, plain), grown


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def golden_cases(folder: Path) -> Iterator[Case]:
    """Read the scored questions of the golden data, in file order."""
    with open(folder / "passages.jsonl", encoding="utf-8") as lines:
        texts = {record["id"]: record["contents"] for record in map(json.loads, lines)}
    run = defaultdict(list)
    with open(folder / "run.trec", encoding="utf-8") as lines:
        for question, _, docid, rank, *_ in map(str.split, lines):
            run[question].append((int(rank), docid))
    with open(folder / "questions.jsonl", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            answers = span_answers(record["answers"])
            if answers:
                docids = [docid for _, docid in sorted(run[record["id"]])]
                yield Case(docids, [texts[docid] for docid in docids], answers)


def dev_cases(root: Path) -> Iterator[Case]:
    """Draw passages for DEV real questions; their own is among them every other time, at any rank."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "studies"))
    from alignment.data import read_collection

    texts: dict[str, str] = {}
    asked: list[tuple[str, list[str]]] = []
    for name in ("mlqa", "afriqa", "xquad"):
        questions, passages = read_collection(root, name)
        texts |= {f"{name}-{docid}": text for docid, text in zip(passages.id, passages.text, strict=True)}
        asked += [(f"{name}-{q.docid}", list(q.answers)) for q in questions.itertuples()]
    chance = random.Random(2023)
    docids = sorted(texts)
    for number, (own, answers) in enumerate(chance.sample(asked, DEV)):
        hits = [docid for docid in chance.sample(docids, PASSAGES + 1) if docid != own][:PASSAGES]
        if number % 2:
            hits[chance.randrange(PASSAGES)] = own
        yield Case(hits, [texts[docid] for docid in hits], answers)


def distinct_cases(questions: int) -> Iterator[Case]:
    """Make questions, each with its own passages; every other one cannot be answered."""
    chance = random.Random(2023)
    vocabulary = ["".join(chance.choices(_LETTERS, k=chance.randint(2, 10))) for _ in range(5000)]
    popularity = list(accumulate(1 / (rank + 3) for rank in range(len(vocabulary))))
    for question in range(questions):
        texts = [_passage(chance.choices(vocabulary, cum_weights=popularity, k=WORDS), chance) for _ in range(PASSAGES)]
        answer = f"Zx{question} Qj"
        if question % 2:
            rank = chance.randrange(PASSAGES)
            words = texts[rank].split()
            words.insert(chance.randrange(len(words)), answer)
            texts[rank] = " ".join(words)
        yield Case([f"{question}-{rank}" for rank in range(PASSAGES)], texts, [answer])


_LETTERS = "eeetttaaooiinnsshhrrdlucmfwypvbgk"
# How often a word of English prose comes with each kind of punctuation, roughly.
_DRESSES = {
    "{}": 80,
    "{},": 6,
    "{}.": 5,
    "19{}": 2,
    "({})": 1,
    '"{}"': 1,
    "{}'s": 1,
    "{}-old": 1,
    "{};": 0.5,
    "U.S. {}": 0.5,
    "can't {}": 0.3,
    "3,000 {}": 0.7,
    "– {}": 0.5,
}


def _passage(words: list[str], chance: random.Random) -> str:
    dresses = chance.choices(list(_DRESSES), weights=list(_DRESSES.values()), k=len(words))
    dressed = [dress.format(word) for dress, word in zip(dresses, words, strict=True)]
    for place in range(len(dressed)):
        if place == 0 or dressed[place - 1].endswith("."):
            dressed[place] = dressed[place].capitalize()
    return " ".join(dressed)


def golden_row(folder: Path, sample: int) -> str:
    """Measure the golden load."""
    return _row("golden", *score(golden_cases(folder), sample))


def dev_row(root: Path) -> str:
    """Measure the real texts."""
    return _row("dev", *score(dev_cases(root), 51))


def distinct_row(questions: int) -> str:
    """Measure the distinct load; an odd step samples both kinds of question, which alternate."""
    return _row("distinct", *score(distinct_cases(questions), 51))


def _row(load: str, ours: Outcome, plain: Outcome, grown: float) -> str:
    ratio = plain.milliseconds_a_question / ours.milliseconds_a_question
    return (
        f"| {load} | {len(ours.hits)} | {len(plain.hits)} | {ours.milliseconds_a_question:.2f} | "
        f"{plain.milliseconds_a_question:.1f} | **{ratio:.0f}×** | {grown:.0f} |"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run all loads, each in a fresh process, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--questions", type=int, default=2000, help="synthetic questions")
    parser.add_argument("--whole", action="store_true", help="plain scorer on all golden questions")
    arguments = parser.parse_args(argv)

    print("| load | questions | of these plain | ours, ms/q | plain, ms/q | ratio | memory, MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    data = Path(os.environ.get("XQG_SHARED", "../shared")) / "data"
    golden = data / "xor-golden"
    # Peak memory is that of a process: a fresh one each, or the second would hide in the first.
    with get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        if golden.is_dir():
            sample = 1 if arguments.whole else 11
            print(processes.apply(golden_row, (golden, sample)), flush=True)
        else:
            print(f"golden: skipped, {golden} is not here (set XQG_SHARED)", file=sys.stderr)
        if all((data / name).is_dir() for name in ("mlqa", "afriqa", "xquad")):
            print(processes.apply(dev_row, (data,)), flush=True)
        else:
            print(f"dev: skipped, {data} has not mlqa, afriqa and xquad (set XQG_SHARED)", file=sys.stderr)
        print(processes.apply(distinct_row, (arguments.questions,)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
