"""The tasks: their splits, neighbours and spoilt questions, made once and kept in a folder.

No question, right passage or translation is on two sides: train.jsonl, test.json, validation.json.
"""

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from generator import make_collections
from xquad import read_xquad, training_records

import xqg_pyserini as xqg
from peft_unseen.matrix import Afriqa, Perturbation, Task, Translations, Xquad

CLEAN = "clean"
# train, test, validation, and by language pairs to learn a lexicon from, of which none is tested
Sides = tuple[list[dict[str, Any]], "Questions", "Questions", dict[str, list[tuple[str, str]]]]


@dataclass
class Questions:
    """Questions to score a model with, and all the texts that takes.

    A language's `others` are more questions in it, for centres and fusion; `asked` has for each the candidate that it
    was asked about, or -1 where it is not to be mixed in.
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
    learnt: list[str] = field(default_factory=list)  # passages of pairs to learn an alignment from, no candidates
    answered: dict[str, list[int]] = field(default_factory=dict)  # the place of each of the others' own among them

    @classmethod
    def read(cls, path: Path) -> "Questions":
        """Read what `prepare` wrote."""
        return cls(**json.loads(path.read_text("utf-8")))


def prepare(task: Task, data: Path, folder: Path, spoil: Mapping[str, Perturbation], encoder: Any) -> dict[str, int]:
    """Write a task's folder, return how many texts there are; raises `UserError` for bad data."""
    match task:
        case Xquad():
            texts = _xquad(task, data)
        case Afriqa():
            texts = _afriqa(task, data)
        case Translations():
            texts = _translations(task, data, encoder)
    train, test, validation, parallel = texts
    lexicons: dict[str, Any] = defaultdict(dict)
    if any(part.kind == "code-switch" for part in spoil.values()):
        lexicons |= {l: xqg.learn_lexicon(pairs, l) for l, pairs in parallel.items()}
    for name, part in spoil.items():
        test.variants[name] = [
            xqg.perturb(text, l, part.kind, part.rate, task.seed, id_, lexicons[l])
            for id_, l, text in zip(test.ids, test.languages, test.variants[CLEAN], strict=True)
        ]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in train)
    (folder / "train.jsonl").write_text(lines, "utf-8")
    for name, questions in (("test", test), ("validation", validation)):
        text = json.dumps(asdict(questions), ensure_ascii=False)
        (folder / f"{name}.json").write_text(text, "utf-8")
    return {"train": len(train), "test": len(test.ids), "validation": len(validation.ids)}


def fold(text: str) -> str:
    """Return what makes two texts the same: letters, marks and digits, NFKC and case apart."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in plain if unicodedata.category(c)[0] in "LNM")


def groups(keys: Sequence[Iterable[Any]]) -> list[int]:
    """Number the items so that two have one number if a chain of shared keys joins them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    owner: dict[Any, int] = {}
    links = [(i, owner.setdefault(key, i)) for i, mine in enumerate(keys) for key in mine]
    graph = coo_array((np.ones(len(links)), np.transpose(links)), shape=(len(keys), len(keys)))
    return connected_components(graph, directed=False)[1].tolist()


def _read_pairs(task: Translations, data: Path) -> pd.DataFrame:
    """Read id, language, text and English; a pair without a letter on one side is left out."""
    pairs = []
    for l, *names in zip(task.languages, task.files[::2], task.files[1::2], strict=True):
        sides = [(data / name).read_bytes().decode().split("\n") for name in names]
        if len(sides[0]) != len(sides[1]):
            raise xqg.UserError(f"{data / names[0]}: not as many lines as {names[1]}")
        for n, (text, english) in enumerate(zip(*sides, strict=True), 1):
            if fold(text) and fold(english):
                pairs.append((f"{l}-{n}", l, text.strip(), english.strip()))
    return pd.DataFrame(pairs, columns=["id", "language", "text", "english"])


def _translations(task: Translations, data: Path, encoder: Any) -> Sides:
    pairs = _read_pairs(task, data)
    folded = pairs.english.map(fold)
    pairs["group"] = groups([*zip(folded, pairs.text.map(fold), strict=True)])
    pairs["place"] = folded.factorize()[0]  # in the pool of English questions that differ folded
    sides = _split(task, pairs)
    pool = pairs.drop_duplicates("place")  # of several spellings the first
    texts, group = pool.english.tolist(), pool.group.to_numpy()
    vectors, letters = encoder.encode_passages(texts), letter_vectors(texts)

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
        asked = pairs.loc[sides[side]]
        own = asked.place.tolist()
        free = ~np.isin(group, pairs.group[sides["train"] + sides[other]])
        wrong = [neighbours(p, free & (group != group[p])) for p in own]
        used = sorted({*own, *(p for row in wrong for p in row)})
        at = {p: i for i, p in enumerate(used)}
        return Questions(
            ids=asked.id.tolist(),
            languages=asked.language.tolist(),
            variants={CLEAN: asked.text.tolist()},
            candidates=[texts[p] for p in used],
            relevant=[at[p] for p in own],
            neighbours=[[at[p] for p in row] for row in wrong],
            own=own,
        )

    test, validation = questions("test", "validation"), questions("validation", "test")
    test.pool, test.pool_groups = texts, group.tolist()
    free = pairs.loc[sorted(sides["train"] + sides["unlabelled"] + sides["rest"])]
    others, parallel = pairs.loc[sides["unlabelled"]], {}
    for l in task.languages:
        mine = free[free.language == l]
        parallel[l] = [*zip(mine.text, mine.english, strict=True)]
        test.others[l] = others.text[others.language == l].tolist()
        test.asked[l] = [-1] * len(test.others[l])
    train = pairs.loc[sides["train"]].rename(columns={"id": "query_id", "text": "query"})
    passages = [[{"docid": f"en-{id_}", "text": text}] for id_, text in zip(train.query_id, train.english, strict=True)]
    train = train[["query_id", "query", "language"]].assign(positive_passages=passages)
    return train.assign(negative_passages=[[] for _ in passages]).to_dict("records"), test, validation, parallel


def _split(task: Translations, pairs: pd.DataFrame) -> dict[str, list[int]]:
    """Give each group of pairs to one side; of a test or validation group one pair is asked.

    Sides: test, validation, train, unlabelled, and the rest, neither trained on nor asked; the other pairs of the test
    and validation groups are dropped.
    """
    generator, group = np.random.default_rng(task.seed), pairs.group.tolist()
    of = {l: np.flatnonzero(pairs.language == l) for l in task.languages}
    shuffled = {l: generator.permutation(mine).tolist() for l, mine in of.items()}
    taken: dict[int, str] = {}
    sides: dict[str, list[int]] = defaultdict(list)
    for side, number, languages in (
        ("test", task.test, task.languages),
        ("validation", task.validation, task.seen),
        ("train", task.train, task.seen),
        ("unlabelled", task.unlabelled, task.languages),
    ):
        free = (None,) if side in ("test", "validation") else (None, side)
        for l in languages:
            chosen: list[int] = []
            for i in shuffled[l]:
                if len(chosen) < number and taken.get(group[i]) in free:
                    taken[group[i]] = side
                    chosen.append(i)
            if len(chosen) < number:
                wanted = f"{number} {side} questions in {l} are wanted"
                raise xqg.UserError(f"{task.name}: {wanted}, {len(chosen)} are left")
            sides[side] += chosen
    sides["rest"] = [i for i, mine in enumerate(group) if mine not in taken]
    return sides


def letter_vectors(pool: Sequence[str]) -> Any:
    """Return TF-IDF vectors of runs of four characters, sparse, rows of length 1."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    plain = [unicodedata.normalize("NFKC", text).casefold().split() for text in pool]
    runs = TfidfVectorizer(analyzer="char", ngram_range=(4, 4), sublinear_tf=True, lowercase=False)
    return runs.fit_transform(f" {' '.join(words)} " for words in plain)


def _top(scores: np.ndarray, free: np.ndarray, number: int) -> list[int]:
    """Return the places of the highest scores that are free; of equals the first."""
    order = np.argsort(-np.where(free, scores, -np.inf).round(9), kind="stable")[:number]
    return [int(i) for i in order if free[i]]


def _xquad(task: Xquad, data: Path) -> Sides:
    asked = read_xquad(data / "xquad", ("en", *task.languages))
    asked["passage"] = asked.title + " " + asked.text
    for l in ("en", *task.languages):
        asked[l] = asked[l].str.strip()
    titles = sorted(set(asked.title))
    half = len(titles) // 2  # to be searched; the other half is to train on, a part held out
    held_out = max(1, round(task.validation_share * half))
    if len(titles) < 3 or held_out >= half:
        raise xqg.UserError(f"{task.name}: {len(titles)} articles are too few for three sides")
    names = ["validation"] * held_out + ["train"] * (half - held_out) + ["test"] * (len(titles) - half)
    order = np.random.default_rng(task.seed).permutation(len(titles))
    side = asked.title.map({titles[i]: name for i, name in zip(order, names, strict=True)})
    searched, learnt, held = (asked[side == name] for name in ("test", "train", "validation"))
    even = _drawn(searched[searched.place % 2 == 0], task.test, task)
    test = _questions(task.languages, even, searched)
    # at odd places stand-ins for generated queries: no translation, no twin, of one that is asked
    folded = {fold(text) for text in test.variants[CLEAN]}
    for l in task.languages:
        odd = searched[(searched.place % 2 == 1) & ~searched[l].map(fold).isin(folded)]
        test.others[l] = odd[l].tolist()
        test.asked[l] = [test.candidates.index(passage) for passage in odd.passage]
    folded |= {fold(text) for part in test.others.values() for text in part}

    def free(of: pd.DataFrame) -> pd.DataFrame:
        return of[~of[list(task.seen)].map(lambda text: fold(text) in folded).any(axis=1)]

    validation = _questions(task.seen, _drawn(free(held), task.validation, task), held)
    folded |= {fold(text) for text in validation.variants[CLEAN]}
    train = [record for l in task.seen for record in training_records(free(learnt), l)]
    parallel = {l: [*zip(learnt[l], learnt.en, strict=True)] for l in task.languages}
    return train, test, validation, parallel


def _drawn(asked: pd.DataFrame, number: int, task: Task) -> pd.DataFrame:
    """Draw at most `number` questions; they stay in order."""
    drawn = np.random.default_rng(task.seed).permutation(len(asked))[:number]
    return asked.iloc[np.sort(drawn)]


def _questions(languages: Sequence[str], asked: pd.DataFrame, side: pd.DataFrame) -> Questions:
    """Make questions, the same ones in every language, among the passages of their side."""
    candidates = side.passage.drop_duplicates().tolist()
    return Questions(
        ids=[f"{l}-{id_}" for l in languages for id_ in asked.id],
        languages=[l for l in languages for _ in asked.id],
        variants={CLEAN: [text for l in languages for text in asked[l]]},
        candidates=candidates,
        relevant=[candidates.index(passage) for passage in asked.passage] * len(languages),
    )


def _afriqa(task: Afriqa, data: Path) -> Sides:
    asked = make_collections.afriqa(data / "afriqa")
    asked = asked[asked.language.isin(task.languages)].reset_index(drop=True)
    asked["passage"] = (asked.title + " " + asked.text).str.strip()
    article = asked.title.where(asked.title != "", asked.text).map(fold)
    group = np.array(groups([*zip("article " + article, "asked " + asked.question.map(fold), strict=True)]))
    order = np.random.default_rng(task.seed).permutation(group.max() + 1)
    half = len(order) // 2  # to be searched; the other half is to train on, a part held out
    held_out = max(1, round(task.validation_share * half))
    if held_out >= half:
        raise xqg.UserError(f"{task.name}: {len(order)} groups of articles are too few for three sides")
    names = np.full(len(order), "test", dtype=object)
    names[order[:held_out]], names[order[held_out:half]] = "validation", "train"
    searched, held, learnt = (asked[names[group] == side] for side in ("test", "validation", "train"))

    def questions(side: pd.DataFrame, languages: Sequence[str], number: int) -> Questions:
        of = [_drawn(side[side.language == l], number, task) for l in languages]
        drawn, candidates = pd.concat(of), side.passage.drop_duplicates().tolist()
        at = {passage: i for i, passage in enumerate(candidates)}
        asked_in, text = drawn.language.tolist(), {CLEAN: drawn.question.tolist()}
        return Questions(drawn.id.tolist(), asked_in, text, candidates, drawn.passage.map(at).tolist())

    test, validation = questions(searched, task.languages, task.test), questions(held, task.seen, task.validation)
    test.learnt = learnt.passage.drop_duplicates().tolist()
    at = {passage: i for i, passage in enumerate(test.learnt)}
    for l, of in learnt.groupby("language"):
        test.others[l], test.answered[l] = of.question.tolist(), of.passage.map(at).tolist()
        test.asked[l] = [-1] * len(of)
    train = [
        record
        for l in task.seen
        for record in training_records(learnt[learnt.language == l].assign(**{l: learnt.question}), l)
    ]
    return train, test, validation, {}
