"""The two tasks: their splits, neighbours and spoilt questions, made once and kept in a folder.

What is on the test side is on no other: see `overlaps`.  This module knows texts, and vectors only
to find neighbours with; it trains and scores nothing.

A task's folder holds train.jsonl (what `xqg train retriever` takes), test.json and validation.json
(`Questions`), report.json, and for `translations` pool.json and pool.npy (all English questions).
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from peft_unseen.matrix import Perturbation, Task, Translations, Xquad
from xqg_pyserini.errors import UserError
from xqg_pyserini.files import describe_sources, read_lines, write_json

CLEAN = "clean"
Encode = Callable[[Sequence[str]], np.ndarray]  # passages → (n, d) float32, by the untuned backbone


class Pair(NamedTuple):
    """A question and its English translation."""

    id: str
    language: str
    text: str
    english: str


@dataclass
class Questions:
    """Questions to score a model with, and all the texts that takes.

    Attributes:
        ids: of the questions; of one form in all languages.
        languages: of each question.
        units: what is drawn in a bootstrap: translations of one question share theirs.
        variants: clean and spoilt texts, in the order of the ids.
        candidates: passages to be found.
        relevant: for each question the place of the right one among the candidates.
        neighbours: for each question the places of the wrong ones it is scored against, those
            near by vectors first; empty where it is all others.
        near: how many of the neighbours are near by vectors.
        others: language → other questions in it, for centres and fusion.
        asked: language → the candidate each of these was asked about; -1: not to be mixed in.
        pool: for each question the place of its translation in the pool of all English ones.
    """

    ids: list[str]
    languages: list[str]
    units: list[str]
    variants: dict[str, list[str]]
    candidates: list[str]
    relevant: list[int]
    neighbours: list[list[int]] = field(default_factory=list)
    near: int = 0
    others: dict[str, list[str]] = field(default_factory=dict)
    asked: dict[str, list[int]] = field(default_factory=dict)
    pool: list[int] = field(default_factory=list)


def fold(text: str) -> str:
    """Return what makes two texts the same: their letters and digits, NFKC and case apart.

    Marks (Indic vowel signs, accents) belong to letters.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in plain if unicodedata.category(c)[0] in "LNM")


def groups(keys: Iterable[Iterable[Any]]) -> list[int]:
    """Number the items so that two have one number if a chain of shared keys joins them."""
    parent: list[int] = []
    owner: dict[Any, int] = {}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, mine in enumerate(keys):
        parent.append(i)
        for key in mine:
            first, second = sorted((root(owner.setdefault(key, i)), root(i)))
            parent[second] = first
    return [root(i) for i in range(len(parent))]


def prepare(
    task: Task,
    data: Path,
    folder: Path,
    perturbations: Mapping[str, Perturbation],
    encode: Encode,
) -> dict[str, Any]:
    """Write a task's folder; return its report.

    Raises:
        UserError: where the data is not there, damaged, or too small for the settings.
    """
    makers: dict[str, Any] = {"translations": _translations, "xquad": _xquad}
    made: _Made = makers[task.kind](task, data, encode, folder)
    _perturb(made, task, perturbations)
    found = overlaps(made.train, made.test, made.validation)
    if found:
        raise AssertionError(f"{task.name}: on both sides of the split: {found[:3]}")
    with open(folder / "train.jsonl", "w", encoding="utf-8") as file:
        for record in made.train:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    write_questions(folder / "test.json", made.test)
    write_questions(folder / "validation.json", made.validation)
    counts: dict[str, Any] = {"sources": made.sources, **made.report}
    counts["train"] = len(made.train)
    counts["test"] = {l: made.test.languages.count(l) for l in task.languages}
    counts["validation"] = {l: made.validation.languages.count(l) for l in task.seen}
    counts["candidates"] = len(made.test.candidates)
    write_json(folder / "report.json", counts)
    return counts


@dataclass
class _Made:
    train: list[dict[str, Any]]
    test: Questions
    validation: Questions
    parallel: dict[str, list[tuple[str, str]]]  # for lexicons: no test pair
    sources: list[dict[str, Any]]
    report: dict[str, Any]


def write_questions(path: Path, questions: Questions) -> None:
    """Write questions as JSON."""
    path.write_text(json.dumps(asdict(questions), ensure_ascii=False), encoding="utf-8")


def read_questions(path: Path) -> Questions:
    """Read what `write_questions` wrote."""
    return Questions(**json.loads(path.read_text("utf-8")))


def read_train(folder: Path) -> list[dict[str, Any]]:
    """Read a task's training records."""
    return [json.loads(line.text) for line in read_lines(folder / "train.jsonl")]


def overlaps(
    train: Sequence[Mapping[str, Any]], test: Questions, validation: Questions
) -> list[str]:
    """Return folded texts that are on two sides: questions, right passages, translations.

    What the test side searches for or draws centres and stand-ins from counts; wrong candidates
    do as well, except the pool of all English questions, which has everything.
    """

    def texts(questions: Questions) -> set[str]:
        others = [text for some in questions.others.values() for text in some]
        clean = questions.variants[CLEAN]
        return {fold(text) for text in (*clean, *questions.candidates, *others)}

    passages = [p for record in train for p in record["positive_passages"]]
    trained = {fold(record["query"]) for record in train}
    trained |= {fold(passage_text(p)) for p in passages}
    asked = {fold(text) for text in validation.variants[CLEAN]}
    asked |= {fold(validation.candidates[i]) for i in validation.relevant}
    tested = texts(test)
    return sorted(trained & (tested | texts(validation)) | tested & asked)


def passage_text(passage: Mapping[str, Any]) -> str:
    """Return what is encoded of a passage."""
    title, text = passage.get("title") or "", passage["text"]
    return f"{title} {text}" if title else text


def _perturb(made: _Made, task: Task, perturbations: Mapping[str, Perturbation]) -> None:
    from xqg_pyserini.train.perturb import learn_lexicon, perturb

    test = made.test
    changed: dict[str, dict[str, int]] = {}
    lexicons: dict[str, dict[str, str]] = {}
    for name, spoilt in perturbations.items():
        if spoilt.kind == "code-switch" and not lexicons:
            lexicons = {l: learn_lexicon(made.parallel[l], l) for l in task.languages}
            made.report["lexicon"] = {l: len(lexicon) for l, lexicon in lexicons.items()}
        clean = test.variants[CLEAN]
        asked = zip(test.ids, test.languages, clean, strict=True)
        test.variants[name] = [
            perturb(text, l, spoilt.kind, spoilt.rate, task.seed, id_, lexicons.get(l, {}))
            for id_, l, text in asked
        ]
        pairs = zip(test.languages, clean, test.variants[name], strict=True)
        differ = [l for l, before, after in pairs if before != after]
        changed[name] = {l: differ.count(l) for l in task.languages}
    made.report["changed"] = changed


# ---------------------------------------------------------------- XOR-TyDi's translations


def read_pairs(data: Path, languages: Iterable[str]) -> tuple[list[Pair], list[dict[str, Any]]]:
    """Read the parallel files line by line; pairs without a letter on one side are left out."""
    folder = data / "xor-tydi" / "question-translations"
    pairs, sources = [], []
    for l in languages:
        sides, lengths = [], []
        for side in (l, "en"):
            path = folder / f"{l}-en.{side}.txt"
            if not path.is_file():
                raise UserError(
                    f"{path}: no such file; --data names a folder with "
                    "xor-tydi/question-translations/xx-en.xx.txt and xx-en.en.txt"
                )
            sides.append({line.number: line.text.strip() for line in read_lines(path)})
            lengths.append(len(path.read_bytes().splitlines()))
            sources += describe_sources(path)
        if lengths[0] != lengths[1]:
            raise UserError(
                f"{folder}: {l}-en.{l}.txt has {lengths[0]} lines and {l}-en.en.txt {lengths[1]}; "
                "expected translations line by line"
            )
        for n, text in sides[0].items():
            english = sides[1].get(n, "")  # a few translations are blank
            if fold(text) and fold(english):
                pairs.append(Pair(f"{l}-{n}", l, text, english))
    return pairs, sources


def _translations(task: Translations, data: Path, encode: Encode, folder: Path) -> _Made:
    pairs, sources = read_pairs(data, task.languages)
    group = groups((fold(pair.english), fold(pair.text)) for pair in pairs)
    sides = _split(task, pairs, group)
    pool, places = _pool(pairs)
    pool_group = {places[i]: group[i] for i in range(len(pairs))}
    vectors = encode(pool)
    np.save(folder / "pool.npy", vectors)
    pool_groups = [pool_group[p] for p in range(len(pool))]
    table = {"texts": pool, "groups": pool_groups}
    (folder / "pool.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")

    def chosen(name: str, barred: Iterable[str]) -> Questions:
        out = {pool_group[places[i]] for side in barred for i in sides[side]}
        allowed = np.array([pool_group[p] not in out for p in range(len(pool))])
        places_of = [places[i] for i in sides[name]]
        near = _neighbours(task, pool, vectors, pool_groups, allowed, places_of)
        return _with_neighbours([pairs[i] for i in sides[name]], places_of, near, pool, task)

    test = chosen("test", ("train", "validation"))
    validation = chosen("validation", ("train", "test"))
    for l in task.languages:
        test.others[l] = [pairs[i].text for i in sides["unlabelled"] if pairs[i].language == l]
        test.asked[l] = [-1] * len(test.others[l])
    train = [
        {
            "query_id": pairs[i].id,
            "query": pairs[i].text,
            "language": pairs[i].language,
            "positive_passages": [{"docid": f"en-{pairs[i].id}", "text": pairs[i].english}],
            "negative_passages": [],
        }
        for i in sides["train"]
    ]
    free = (*sides["train"], *sides["unlabelled"], *sides["rest"])
    parallel: dict[str, list[tuple[str, str]]] = {l: [] for l in task.languages}
    for i in sorted(free):
        parallel[pairs[i].language].append((pairs[i].text, pairs[i].english))
    report = {"pairs": len(pairs), "groups": len(set(group)), "pool": len(pool)}
    return _Made(train, test, validation, parallel, sources, report)


def _split(task: Translations, pairs: Sequence[Pair], group: Sequence[int]) -> dict[str, list[int]]:
    """Give each group to one side; of a test or validation group one pair is asked.

    Sides: test, validation, train, unlabelled, rest (neither trained on nor asked), and the rest
    of the test and validation groups, which is dropped.
    """
    generator = np.random.default_rng(task.seed)
    taken: dict[int, str] = {}
    sides: dict[str, list[int]] = defaultdict(list)
    of_language = {
        l: [i for i, pair in enumerate(pairs) if pair.language == l] for l in task.languages
    }
    shuffled = {
        l: [some[k] for k in generator.permutation(len(some))] for l, some in of_language.items()
    }
    wanted = [("test", task.test, task.languages, True)]
    wanted += [("validation", task.validation, task.seen, True)]
    wanted += [("train", task.train, task.seen, False)]
    wanted += [("unlabelled", task.unlabelled, task.languages, False)]
    for side, number, languages, alone in wanted:
        for l in languages:
            found: list[int] = []
            for i in shuffled[l]:
                if len(found) == number:
                    break
                if taken.get(group[i]) in ((None,) if alone else (None, side)):
                    taken[group[i]] = side
                    found.append(i)
            if len(found) < number:
                raise UserError(
                    f"{task.name}: {number} {side} questions in {l} are wanted, {len(found)} are "
                    "left; set lower numbers in the matrix file"
                )
            sides[side] += found
    sides["rest"] = [i for i in range(len(pairs)) if group[i] not in taken]
    return sides


def _pool(pairs: Sequence[Pair]) -> tuple[list[str], list[int]]:
    """Return the English questions that differ after folding, and each pair's place there."""
    place: dict[str, int] = {}
    texts: list[str] = []
    places = []
    for pair in pairs:
        key = fold(pair.english)
        if key not in place:
            place[key] = len(texts)
            texts.append(pair.english)
        places.append(place[key])
    return texts, places


def _neighbours(
    task: Translations,
    pool: Sequence[str],
    vectors: np.ndarray,
    group: Sequence[int],
    allowed: np.ndarray,
    places: Sequence[int],
) -> list[list[int]]:
    """Return for each place in the pool its neighbours there, first by vectors, then by letters.

    None is in the place's own group, so none is a translation of the same question.
    """
    number = task.neighbours
    groups_of = np.asarray(group)
    by_letters = LetterVectors(pool)
    found = []
    for start in range(0, len(places), 256):
        part = list(places[start : start + 256])
        scores = vectors[part] @ vectors.T
        letters = by_letters.similarities(part)
        for row, place in enumerate(part):
            free = allowed & (groups_of != groups_of[place])
            near = _top(scores[row], free, number.backbone)
            free[near] = False
            lexical = _top(letters[row], free, number.lexical)
            if len(near) + len(lexical) < number.backbone + number.lexical:
                raise UserError(
                    f"{task.name}: {number.backbone + number.lexical} neighbours are wanted, but "
                    f"only {int(free.sum())} other questions are free; set lower numbers"
                )
            found.append([*near, *lexical])
    return found


def _top(scores: np.ndarray, free: np.ndarray, number: int) -> list[int]:
    masked = np.where(free, scores, -np.inf)
    first = np.argpartition(-masked, min(number, len(masked) - 1))[:number]
    return [int(i) for i in sorted(first, key=lambda i: (-masked[i], i)) if free[i]]


class LetterVectors:
    """Texts as TF-IDF of their runs of four characters: similarity that no neural model decides.

    tf is 1 + ln(count), idf is ln((1 + n) / (1 + texts with the run)) + 1, rows of length 1.
    """

    def __init__(self, texts: Sequence[str], size: int = 4) -> None:
        from scipy.sparse import csr_matrix

        vocabulary: dict[str, int] = {}
        counts, columns, ends = [], [], [0]
        for text in texts:
            plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
            padded = f" {plain} "
            mine: dict[int, int] = defaultdict(int)
            for i in range(max(1, len(padded) - size + 1)):
                mine[vocabulary.setdefault(padded[i : i + size], len(vocabulary))] += 1
            columns += list(mine)
            counts += list(mine.values())
            ends.append(len(columns))
        weights = 1 + np.log(np.asarray(counts, dtype=np.float64))
        shape = (len(texts), len(vocabulary))
        seen = np.bincount(columns, minlength=len(vocabulary))
        idf = np.log((1 + len(texts)) / (1 + seen)) + 1
        weights *= idf[columns]
        rows = np.repeat(np.arange(len(texts)), np.diff(ends))
        norms = np.sqrt(np.bincount(rows, weights**2, minlength=len(texts)))
        self._matrix = csr_matrix((weights / norms[rows], columns, ends), shape=shape)

    def similarities(self, places: Sequence[int]) -> np.ndarray:
        """Return the cosines of some texts with all, (len(places), n)."""
        return (self._matrix[list(places)] @ self._matrix.T).toarray()


def _with_neighbours(
    asked: Sequence[Pair],
    places: Sequence[int],
    near: Sequence[Sequence[int]],
    pool: Sequence[str],
    task: Translations,
) -> Questions:
    used = sorted({*places, *(p for some in near for p in some)})
    at = {p: i for i, p in enumerate(used)}
    return Questions(
        ids=[pair.id for pair in asked],
        languages=[pair.language for pair in asked],
        units=[pair.id for pair in asked],
        variants={CLEAN: [pair.text for pair in asked]},
        candidates=[pool[p] for p in used],
        relevant=[at[p] for p in places],
        neighbours=[[at[p] for p in some] for some in near],
        near=task.neighbours.backbone,
        pool=list(places),
    )


# ---------------------------------------------------------------- XQuAD


def _articles(data: Path, language: str) -> list[dict[str, Any]]:
    path = data / "xquad" / f"xquad.{language}.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; --data names a folder with xquad/xquad.xx.json")
    try:
        return list(json.loads(path.read_text("utf-8"))["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file in SQuAD's format ({error})") from None


class _Xquad(NamedTuple):
    """All of XQuAD that is used: passages, question id → place of its passage, texts."""

    passages: list[dict[str, str]]
    asked: dict[str, int]
    texts: dict[str, dict[str, str]]  # language → question id → text

    @classmethod
    def read(cls, data: Path, languages: Sequence[str]) -> _Xquad:
        passages: list[dict[str, str]] = []
        asked: dict[str, int] = {}
        for article in _articles(data, "en"):
            title = article["title"].replace("_", " ")  # as a person writes it
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    asked[question["id"]] = len(passages)
                record = {"docid": f"p{len(passages)}", "title": title}
                passages.append(record | {"text": paragraph["context"]})
        texts = {l: _questions_of(_articles(data, l)) for l in ("en", *languages)}
        for l in languages:
            lacking = sorted(asked.keys() - texts[l].keys())
            if lacking:
                raise UserError(f"{data}/xquad/xquad.{l}.json: lacks the question {lacking[0]}")
        return cls(passages, asked, texts)


def _questions_of(articles: Sequence[Any]) -> dict[str, str]:
    return {
        question["id"]: question["question"].strip()
        for article in articles
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    }


def _xquad(task: Xquad, data: Path, encode: Encode, folder: Path) -> _Made:
    source = _Xquad.read(data, task.languages)
    side = _sides(task, source)
    ids: dict[str, list[str]] = defaultdict(list)
    for id_, place in source.asked.items():
        ids[side[source.passages[place]["title"]]].append(id_)
    even, odd = _even_odd(ids["test"], source.asked)
    test = _xquad_questions(task.languages, _some(even, task.test, task), ids["test"], source)
    _stand_ins(test, odd, ids["test"], source)
    barred = {fold(text) for some in test.others.values() for text in some}
    barred |= {fold(text) for text in test.variants[CLEAN]}

    def free(id_: str) -> bool:
        return not any(fold(source.texts[l][id_]) in barred for l in task.seen)

    asked = _some([i for i in ids["validation"] if free(i)], task.validation, task)
    validation = _xquad_questions(task.seen, asked, ids["validation"], source)
    barred |= {fold(text) for text in validation.variants[CLEAN]}
    train = [_record(l, id_, source) for l in task.seen for id_ in ids["train"] if free(id_)]
    parallel = {
        l: [(source.texts[l][id_], source.texts["en"][id_]) for id_ in ids["train"]]
        for l in task.languages
    }
    names = [f"xquad.{l}.json" for l in ("en", *task.languages)]
    sources = [found for name in names for found in describe_sources(data / "xquad" / name)]
    report = {"articles": {s: sorted(t for t in side if side[t] == s) for s in sorted(ids)}}
    return _Made(train, test, validation, parallel, sources, report)


def _sides(task: Xquad, source: _Xquad) -> dict[str, str]:
    """Give half of the articles to the test, by title; part of the other half to validation."""
    titles = sorted({passage["title"] for passage in source.passages})
    order = np.random.default_rng(task.seed).permutation(len(titles))
    half = len(titles) // 2
    held_out = max(1, round(task.validation_share * half))
    if len(titles) < 3 or held_out >= half:
        raise UserError(f"{task.name}: {len(titles)} articles are too few for three sides")
    names = ["validation"] * held_out + ["train"] * (half - held_out)
    names += ["test"] * (len(titles) - half)
    return {titles[i]: name for i, name in zip(order, names, strict=True)}


def _even_odd(ids: Sequence[str], asked: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Split a passage's questions: even places are searched for, odd ones stand for generated."""
    seen: dict[int, int] = defaultdict(int)
    sides: tuple[list[str], list[str]] = ([], [])
    for id_ in ids:
        sides[seen[asked[id_]] % 2].append(id_)
        seen[asked[id_]] += 1
    return sides


def _some(ids: Sequence[str], number: int, task: Task) -> list[str]:
    """Draw at most `number` questions; they stay in order."""
    drawn = np.random.default_rng(task.seed).permutation(len(ids))[:number]
    return [ids[i] for i in sorted(drawn)]


def _places(ids: Sequence[str], source: _Xquad) -> dict[int, int]:
    """Return the place among a side's candidates of each of its passages."""
    return {p: i for i, p in enumerate(sorted({source.asked[id_] for id_ in ids}))}


def _xquad_questions(
    languages: Sequence[str], chosen: Sequence[str], side: Sequence[str], source: _Xquad
) -> Questions:
    """Make the questions of a side, the same ids in every language, among the side's passages."""
    at = _places(side, source)
    return Questions(
        ids=[f"{l}-{id_}" for l in languages for id_ in chosen],
        languages=[l for l in languages for _ in chosen],
        units=[id_ for _ in languages for id_ in chosen],
        variants={CLEAN: [source.texts[l][id_] for l in languages for id_ in chosen]},
        candidates=[passage_text(source.passages[p]) for p in at],
        relevant=[at[source.asked[id_]] for _ in languages for id_ in chosen],
    )


def _stand_ins(test: Questions, ids: Sequence[str], side: Sequence[str], source: _Xquad) -> None:
    """Add the human questions at odd places: no translation, and no twin, of one that is asked."""
    assert not set(ids) & set(test.units)
    at = _places(side, source)
    asked = {fold(text) for text in test.variants[CLEAN]}
    for l in dict.fromkeys(test.languages):
        kept = [id_ for id_ in ids if fold(source.texts[l][id_]) not in asked]
        test.others[l] = [source.texts[l][id_] for id_ in kept]
        test.asked[l] = [at[source.asked[id_]] for id_ in kept]


def _record(language: str, id_: str, source: _Xquad) -> dict[str, Any]:
    return {
        "query_id": f"{language}-{id_}",
        "query": source.texts[language][id_],
        "language": language,
        "positive_passages": [source.passages[source.asked[id_]]],
        "negative_passages": [],
    }
