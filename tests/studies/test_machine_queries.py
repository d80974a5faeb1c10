"""The study of generators: what is read, learnt and mixed in; the weight that is chosen."""

import json

import numpy as np
import pandas as pd
import pytest
from alignment.data import COLUMNS, Vectors
from alignment.trials import Trial
from generator.compare import best_weight, by_people, of_themselves, splits
from generator.machine import Machine, encode_machine, read_machine

import xqg_pyserini as xqg

DOCIDS = [f"p{i}" for i in range(40)]


def collection():
    """40 passages, one question of each in ar or bn, and two queries of each passage in each: half 0 has the first 20.

    A vector says which passage it is of, who wrote it (people 1, machine 2), and in which language.
    """
    asked = pd.DataFrame(
        [(f"q{i}", d, "", "", [], "ab"[i % 2], "?", "") for i, d in enumerate(DOCIDS)], columns=COLUMNS
    )
    passages = np.array([[i, 0, 0] for i in range(40)], np.float32)
    queries = np.array([[i, 1, i % 2] for i in range(40)], np.float32)
    vectors = Vectors(asked, DOCIDS, {}, {}, passages, queries, queries)
    each = [(row, int(row >= 20), place, l) for row in range(40) for l in "ab" for place in (0, 1)]
    rows, halves, place, languages = (np.array(column) for column in zip(*each, strict=True))
    written = np.array([[row, 2, "ab".index(l)] for row, _, _, l in each], np.float32)
    return vectors, Machine(rows, halves, place, languages, [f"{each}"] * len(each), written)


def test_what_is_learnt_is_of_the_same_generator_s_other_passages():
    vectors, machine = collection()
    trials = splits(vectors, machine, 2)
    assert [len(each) for each in trials] == [4, 4]
    for several in trials:
        assert sorted(q for t in several for q in t.asked) == list(range(40))  # each question is asked once
        for t, other in zip(several, several[1::-1] + several[:1:-1], strict=True):
            searched, half = set(t.p[:, 0]), t.p[0, 0] >= 20
            assert all((row >= 20) == half for row in searched | set(t.known))
            assert searched | set(t.known) == set(range(20, 40) if half else range(20))
            assert not searched & set(t.known) and set(other.p[:, 0]) == set(t.known)
            assert (t.pairs.queries[:, 1] == 2).all() and len(t.known) == 4 * len(set(t.known))
            np.testing.assert_array_equal(t.pairs.passages[:, 0], t.known)
            np.testing.assert_array_equal(t.p[t.right][:, 0], t.asked)
            np.testing.assert_array_equal(t.p[t.stand_ins.rows][:, 0], t.stand_ins.queries[:, 0])
    chosen = splits(vectors, machine, 1, machine.place < 1)[0][0]
    assert len(chosen.known) == 2 * len(set(chosen.known))


def test_people_s_pairs_are_of_the_same_passages_and_an_index_s_own_of_the_candidates():
    vectors, machine = collection()
    trials = splits(vectors, machine, 1)
    for t, people, own in zip(trials[0], by_people(vectors, trials)[0], of_themselves(trials)[0], strict=True):
        assert (people.pairs.queries[:, 1] == 1).all() and set(people.known) == set(t.known)
        np.testing.assert_array_equal(own.pairs.passages[:, 0], own.pairs.queries[:, 0])
        assert set(own.pairs.queries[:, 0]) == set(t.p[:, 0])


def test_the_weight_is_that_of_the_other_direction():
    """0.1 is right where even passages are searched, 0.2 where odd ones are: each direction takes the other's."""
    vectors, _ = collection()
    part = [np.arange(0, 40, 2), np.arange(1, 40, 2)]
    trials = [[Trial(a, vectors.queries[a], vectors.languages[a], np.eye(20), np.arange(20), None, None) for a in part]]

    def right_where(even):
        return lambda t: np.eye(20) if (t.asked[0] == 0) == even else -np.eye(20)

    found = best_weight(vectors, trials, {0.1: right_where(True), 0.2: right_where(False)})
    assert (found.ranks[0] == 20).all()  # the wrong one for both
    found = best_weight(vectors, trials, {0.1: lambda t: -np.eye(20), 0.2: lambda t: np.eye(20)})
    assert (found.ranks[0] == 1).all()


def write(folder, docid, texts):
    folder.mkdir(exist_ok=True)
    line = json.dumps({"docid": docid, "generated_queries": texts}, ensure_ascii=False)
    (folder / "queries.jsonl").write_text(line + "\n", "utf-8")


def test_queries_are_read_with_their_passage_generator_and_place(tmp_path):
    write(tmp_path / "a", "p2", {"ar": ["x", "y"], "en": ["no"]})
    write(tmp_path / "b", "p1", {"bn": ["z"]})
    table = read_machine([tmp_path / "a", tmp_path / "b"], DOCIDS, ["ar", "bn"])
    assert table.to_numpy().tolist() == [[2, 0, 0, "ar", "x"], [2, 0, 1, "ar", "y"], [1, 1, 0, "bn", "z"]]
    write(tmp_path / "b", "p2", {"bn": ["z"]})
    with pytest.raises(xqg.UserError, match="two generators"):
        read_machine([tmp_path / "a", tmp_path / "b"], DOCIDS, ["ar"])
    write(tmp_path / "b", "p99", {"bn": ["z"]})
    with pytest.raises(xqg.UserError, match="'p99' is not in the collection"):
        read_machine([tmp_path / "b"], DOCIDS, ["ar"])


def test_vectors_are_kept_and_those_of_other_texts_are_not_taken(tmp_path):
    class Lengths:
        encoded = 0

        def encode_queries(self, texts):
            self.encoded += len(texts)
            return np.array([[len(text), 1] for text in texts], np.float32)

    table = pd.DataFrame({"place": [0, 1, 0, 0], "text": ["a", "bb", "ccc", "a"]})
    encoder = Lengths()
    for _ in range(2):
        np.testing.assert_array_equal(encode_machine(table, encoder, tmp_path)[:, 0], [1, 2, 3, 1])
    assert encoder.encoded == 3
    other = table.assign(text=["a", "bbbb", "ccc", "a"])
    np.testing.assert_array_equal(encode_machine(other, encoder, tmp_path)[:, 0], [1, 4, 3, 1])
    assert encoder.encoded == 4
