"""The two tasks: their splits, neighbours and spoilt questions, made once and kept in a folder.

What is on the test side is on no other: no question, right passage or translation, folded, of the
test or validation side is on another one.  A task's folder holds train.jsonl (what `xqg train
retriever` takes), test.json and validation.json (`Questions`).
"""

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from xquad import Asked, read_xquad, training_record

import xqg_pyserini as xqg
from peft_unseen.matrix import Perturbation, Task, Translations, Xquad
from xqg_pyserini.train.perturb import learn_lexicon, perturb

CLEAN = "clean"
Parallel = dict[str, list[tuple[str, str]]]  # language → pairs to learn a lexicon from, none tested


@dataclass
class Questions:
    """Questions to score a model with, and all the texts that takes.

    A language's `others` are more questions in it, for centres and fusion; `asked` has for each the
    candidate that it was asked about, or -1 where it is not to be mixed in.
    """

    ids: list[str]
    languages: list[str]
    variants: dict[str, list[str]]  # clean and spoilt texts, in the order of the ids
    candidates: list[str]  # passages to be found
    relevant: list[int]  # the place of each question's right one among them
    neighbours: list[list[int]] = field(default_factory=list)  # its wrong ones; []: all others
    others: dict[str, list[str]] = field(default_factory=dict)
    asked: dict[str, list[int]] = field(default_factory=dict)
    pool: list[str] = field(default_factory=list)  # all English questions
    pool_groups: list[int] = field(default_factory=list)  # equal for translations of one question
    own: list[int] = field(default_factory=list)  # the place of each question's own in the pool

    @classmethod
    def read(cls, path: Path) -> "Questions":
        """Read what `prepare` wrote."""
        return cls(**json.loads(path.read_text("utf-8")))


Sides = tuple[list[dict[str, Any]], Questions, Questions, Parallel]  # train, test, validation


def prepare(task: Task, data: Path, folder: Path, spoil: Mapping[str, Perturbation], encoder: Any) -> dict[str, int]:
    """Write a task's folder; return how many texts there are.

    Raises `UserError` where the data is damaged, or too small for the settings.
    """
    texts = _xquad(task, data) if isinstance(task, Xquad) else _translations(task, data, encoder)
    train, test, validation, parallel = texts
    lexicons: dict[str, Any] = defaultdict(dict)
    if any(part.kind == "code-switch" for part in spoil.values()):
        lexicons |= {l: learn_lexicon(pairs, l) for l, pairs in parallel.items()}
    for name, part in spoil.items():
        test.variants[name] = [
            perturb(text, l, part.kind, part.rate, task.seed, id_, lexicons[l])
            for id_, l, text in zip(test.ids, test.languages, test.variants[CLEAN], strict=True)
        ]
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in train]
    (folder / "train.jsonl").write_text("".join(lines), "utf-8")
    for name, questions in (("test", test), ("validation", validation)):
        text = json.dumps(asdict(questions), ensure_ascii=False)
        (folder / f"{name}.json").write_text(text, "utf-8")
    return {"train": len(train), "test": len(test.ids), "validation": len(validation.ids)}


def fold(text: str) -> str:
    """Return what makes two texts the same: letters, marks and digits, NFKC and case apart."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in plain if unicodedata.category(c)[0] in "LNM")


def passage_text(passage: Mapping[str, str]) -> str:
    """Return what is encoded of a passage."""
    return f"{passage.get('title') or ''} {passage['text']}".lstrip()


# ---------------------------------------------------------------- XOR-TyDi's translations


class Pair(NamedTuple):
    """A question and its English translation."""

    id: str
    language: str
    text: str
    english: str


def groups(keys: Sequence[Iterable[Any]]) -> list[int]:
    """Number the items so that two have one number if a chain of shared keys joins them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    owner: dict[Any, int] = {}
    links = [(i, owner.setdefault(key, i)) for i, mine in enumerate(keys) for key in mine]
    graph = coo_array((np.ones(len(links)), np.transpose(links)), shape=(len(keys), len(keys)))
    return connected_components(graph, directed=False)[1].tolist()


def _read_pairs(task: Translations, data: Path) -> list[Pair]:
    """Read the parallel files; pairs without a letter on one side are left out."""
    pairs = []
    for l, *names in zip(task.languages, task.files[::2], task.files[1::2], strict=True):
        sides = [(data / name).read_bytes().decode().split("\n") for name in names]
        if len(sides[0]) != len(sides[1]):
            raise xqg.UserError(f"{data / names[0]}: not as many lines as {names[1]}")
        for n, (text, english) in enumerate(zip(*sides, strict=True), 1):
            if fold(text) and fold(english):
                pairs.append(Pair(f"{l}-{n}", l, text.strip(), english.strip()))
    return pairs


def _translations(task: Translations, data: Path, encoder: Any) -> Sides:
    pairs = _read_pairs(task, data)
    group = groups([(fold(pair.english), fold(pair.text)) for pair in pairs])
    sides = _split(task, pairs, group)
    places: dict[str, int] = {}  # in the pool of English questions that differ after folding
    place = [places.setdefault(fold(pair.english), len(places)) for pair in pairs]
    first = np.unique(place, return_index=True)[1]  # of a question's spellings
    pool, pool_groups = [pairs[i].english for i in first], np.array(group)[first]
    vectors, letters = encoder.encode_passages(pool), letter_vectors(pool)

    def neighbours(own: int, free: np.ndarray) -> list[int]:
        """The nearest free questions by vectors, then by letters, where no model has a say."""
        near = _top(vectors @ vectors[own], free, task.neighbours["backbone"])
        free[near] = False
        similar = (letters @ letters[[own]].T).toarray()[:, 0]
        near += _top(similar, free, task.neighbours["lexical"])
        if len(near) < sum(task.neighbours.values()):
            raise xqg.UserError(f"{task.name}: {len(near)} free neighbours; set lower numbers")
        return near

    def questions(side: str, other: str) -> Questions:
        asked = [pairs[i] for i in sides[side]]
        own = [place[i] for i in sides[side]]
        free = ~np.isin(pool_groups, [group[i] for i in (*sides["train"], *sides[other])])
        wrong = [neighbours(p, free & (pool_groups != pool_groups[p])) for p in own]
        used = sorted({*own, *(p for row in wrong for p in row)})
        at = {p: i for i, p in enumerate(used)}
        return Questions(
            ids=[pair.id for pair in asked],
            languages=[pair.language for pair in asked],
            variants={CLEAN: [pair.text for pair in asked]},
            candidates=[pool[p] for p in used],
            relevant=[at[p] for p in own],
            neighbours=[[at[p] for p in row] for row in wrong],
            own=own,
        )

    test, validation = questions("test", "validation"), questions("validation", "test")
    test.pool, test.pool_groups = pool, pool_groups.tolist()
    parallel: Parallel = {l: [] for l in task.languages}
    for i in sorted((*sides["train"], *sides["unlabelled"], *sides["rest"])):
        parallel[pairs[i].language].append((pairs[i].text, pairs[i].english))
    for l in task.languages:
        others = [pairs[i].text for i in sides["unlabelled"] if pairs[i].language == l]
        test.others[l], test.asked[l] = others, [-1] * len(others)
    train = [
        training_record(p.id, p.language, p.text, {"docid": f"en-{p.id}", "text": p.english})
        for p in (pairs[i] for i in sides["train"])
    ]
    return train, test, validation, parallel


def _split(task: Translations, pairs: Sequence[Pair], group: list[int]) -> dict[str, list[int]]:
    """Give each group of pairs to one side; of a test or validation group one pair is asked.

    Sides: test, validation, train, unlabelled, and the rest, neither trained on nor asked; the
    other pairs of the test and validation groups are dropped.
    """
    generator = np.random.default_rng(task.seed)
    languages = np.array([pair.language for pair in pairs])
    of = {l: np.flatnonzero(languages == l) for l in task.languages}
    shuffled = {l: generator.permutation(mine).tolist() for l, mine in of.items()}
    taken: dict[int, str] = {}
    sides: dict[str, list[int]] = defaultdict(list)
    for side, number, wanted in (
        ("test", task.test, task.languages),
        ("validation", task.validation, task.seen),
        ("train", task.train, task.seen),
        ("unlabelled", task.unlabelled, task.languages),
    ):
        free = (None,) if side in ("test", "validation") else (None, side)
        for l in wanted:
            chosen: list[int] = []
            for i in shuffled[l]:
                if len(chosen) < number and taken.get(group[i]) in free:
                    taken[group[i]] = side
                    chosen.append(i)
            if len(chosen) < number:
                raise xqg.UserError(
                    f"{task.name}: {number} {side} questions in {l} are wanted, {len(chosen)} are "
                    "left; set lower numbers in the matrix file"
                )
            sides[side] += chosen
    sides["rest"] = [i for i, mine in enumerate(group) if mine not in taken]
    return sides


def letter_vectors(pool: Sequence[str]) -> Any:
    """Return TF-IDF vectors of runs of four characters, sparse, rows of length 1.

    tf is 1 + ln(count), idf ln((1 + n) / (1 + texts with the run)) + 1.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    runs = {"analyzer": "char", "ngram_range": (4, 4), "preprocessor": _spaced}
    return TfidfVectorizer(**runs, sublinear_tf=True).fit_transform(pool)


def _spaced(text: str) -> str:
    return f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} "


def _top(scores: np.ndarray, free: np.ndarray, number: int) -> list[int]:
    """Return the places of the highest scores that are free; of equals the first."""
    order = np.argsort(-np.where(free, scores, -np.inf).round(9), kind="stable")[:number]
    return [int(i) for i in order if free[i]]


# ---------------------------------------------------------------- XQuAD


def _xquad(task: Xquad, data: Path) -> Sides:
    asked = [
        one._replace(texts={l: text.strip() for l, text in one.texts.items()})
        for one in read_xquad(data / "xquad", (*task.languages, "en"))
    ]
    side = _sides(task, sorted({one.passage["title"] for one in asked}))
    of: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        of[side[one.passage["title"]]].append(one)
    even = [one for one in of["test"] if one.place % 2 == 0]
    test = _questions(task.languages, _drawn(even, task.test, task), of["test"])
    # at odd places stand-ins for generated queries: no translation, no twin, of one that is asked
    folded = {fold(text) for text in test.variants[CLEAN]}
    for l in task.languages:
        odd = [one for one in of["test"] if one.place % 2 and fold(one.texts[l]) not in folded]
        test.others[l] = [one.texts[l] for one in odd]
        test.asked[l] = [test.candidates.index(passage_text(one.passage)) for one in odd]
    folded |= {fold(text) for part in test.others.values() for text in part}

    def free(side: str) -> list[Asked]:
        return [one for one in of[side] if not any(fold(one.texts[l]) in folded for l in task.seen)]

    chosen = _drawn(free("validation"), task.validation, task)
    validation = _questions(task.seen, chosen, of["validation"])
    folded |= {fold(text) for text in validation.variants[CLEAN]}
    train, learnt = free("train"), of["train"]
    parallel = {l: [(one.texts[l], one.texts["en"]) for one in learnt] for l in task.languages}
    rows = [(l, one) for l in task.seen for one in train]
    records = [training_record(f"{l}-{q.id}", l, q.texts[l], q.passage) for l, q in rows]
    return records, test, validation, parallel


def _sides(task: Xquad, titles: Sequence[str]) -> dict[str, str]:
    """Give half of the articles to the test, by title; part of the other half to validation."""
    half = len(titles) // 2
    held_out = max(1, round(task.validation_share * half))
    if len(titles) < 3 or held_out >= half:
        raise xqg.UserError(f"{task.name}: {len(titles)} articles are too few for three sides")
    names = ["validation"] * held_out + ["train"] * (half - held_out)
    names += ["test"] * (len(titles) - half)
    order = np.random.default_rng(task.seed).permutation(len(titles))
    return {titles[i]: name for i, name in zip(order, names, strict=True)}


def _drawn(asked: Sequence[Asked], number: int, task: Task) -> list[Asked]:
    """Draw at most `number` questions; they stay in order."""
    drawn = np.random.default_rng(task.seed).permutation(len(asked))[:number]
    return [asked[i] for i in sorted(drawn)]


def _questions(languages: Sequence[str], chosen: list[Asked], side: list[Asked]) -> Questions:
    """Make questions, the same ones in every language, among the passages of their side."""
    candidates = list(dict.fromkeys(passage_text(one.passage) for one in side))
    rows = [(l, one) for l in languages for one in chosen]
    return Questions(
        ids=[f"{l}-{one.id}" for l, one in rows],
        languages=[l for l, _ in rows],
        variants={CLEAN: [one.texts[l] for l, one in rows]},
        candidates=candidates,
        relevant=[candidates.index(passage_text(one.passage)) for _, one in rows],
    )
