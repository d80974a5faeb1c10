"""Training data: how examples are read, drawn and ordered, and how validation scores them."""

import gzip
import json

import numpy as np
import pytest
from conftest import parse_json, record

from xqg_pyserini.errors import UserError
from xqg_pyserini.train.data import Example, Examples, draw
from xqg_pyserini.train.trainer import EpochOrder, sample_batches
from xqg_pyserini.train.validation import Validation, best_rank

# ---------------------------------------------------------------- data


def test_examples_are_found_by_number(tmp_path):
    first = tmp_path / "a.jsonl"
    first.write_bytes("\ufeff".encode() + json.dumps(record("ä?", "p0")).encode() + b"\r\n\n")
    with open(first, "ab") as file:
        file.write(json.dumps(record("b", "p1", lang="fi", scores=[2]), ensure_ascii=False).encode())
    second = tmp_path / "b.tsv"
    second.write_text("質問\tp2\tja\nd\tp3\n", "utf-8")
    examples = Examples([str(first), str(second)])
    assert [examples[i].query for i in range(len(examples))] == ["ä?", "b", "質問", "d"]
    assert [examples[i].language for i in range(4)] == [None, "fi", "ja", None]
    assert examples[1].scores == (2.0,)
    assert examples[2].positives[0].full == "p2"
    assert examples.lengths.tolist() == [2, 1, 2, 1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"query": "q", "negative_passages": []}, "has no positive_passages, but query, negative_passages;"),
        ({"query": "q", "positive_passages": []}, "has an empty positive_passages;"),
        ({"query": " ", "positive_passages": [{"text": "p"}]}, "the query is empty"),
        ({"positive_passages": [{"text": "p"}]}, "the query is missing"),
        ({"query": 7, "positive_passages": [{"text": "p"}]}, "the query is not text"),
        ({"query": "q", "positive_passages": [{"title": "t", "text": " "}]}, "has no text"),
        ({"query": "q", "positive_passages": "p"}, "is not a list"),
        ({"query": "q", "positive_passages": [7]}, "a passage of positive_passages is '7'"),
        (record("q", "p", lang="??"), "unknown language code '??'"),
        (record("q", "p", answers="x"), "answers is not a list"),
        (record("q", "p", scores=[1, 2]), "expected 1 numbers"),
        (record("q", "p", scores=["x"]), "expected 1 numbers"),
        ("only a question", "1 columns"),
        ("\tp", "the question is empty"),
        ("q\t \n", "the passage is empty"),
        ('{"query": ', "broken JSON"),
    ],
)
def test_what_is_no_example_is_named_by_its_line(tmp_path, line, expected):
    path = tmp_path / "x.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_text(json.dumps(record("fine", "fine")) + "\n\n" + text + "\n")
    with pytest.raises(UserError) as error:
        Examples([str(path)])
    assert f"{path}, line 3: " in str(error.value)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_compressed_data_is_refused(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(record("q", "p")).encode()))
    with pytest.raises(UserError, match="unpack it first"):
        Examples([str(path)])


def test_negatives_are_drawn_anew_each_epoch_and_the_same_again():
    example = parse_json(record("q", "p") | {"negative_passages": [{"text": f"n{i}"} for i in range(9)]})
    drawn = [draw(example, 3, (1, epoch, 0)).passages for epoch in range(20)]
    assert all(d[0] == "p" and len(set(d)) == 4 for d in drawn)
    assert len(set(drawn)) > 10
    assert drawn == [draw(example, 3, (1, epoch, 0)).passages for epoch in range(20)]
    assert draw(example, 0, (1, 0, 0)).passages == ("p",)
    scored = parse_json(
        record("q", "p", scores=[50, *range(9)]) | {"negative_passages": [{"text": f"n{i}"} for i in range(9)]}
    )
    one = draw(scored, 3, (1, 4, 0))
    assert one.scores == (50.0, *(float(text[1:]) for text in one.passages[1:]))


@pytest.mark.parametrize("n", [1, 16, 100, 1000])
def test_an_epochs_order_has_every_example_once(n):
    lengths = np.random.default_rng(0).integers(1, 90, n)
    order = EpochOrder(n, 8, 5, lengths)
    first, again = list(order), list(EpochOrder(n, 8, 5, lengths))
    assert sorted(first) == list(range(n))
    assert first == again
    order.set_epoch(1)
    assert n < 3 or list(order) != first
    plain = list(EpochOrder(n, 8, 5))
    assert sorted(plain) == list(range(n))
    if n == 1000:  # of like length within a batch: what the sorting is for

        def spread(one):
            return np.mean([np.ptp(lengths[one[i : i + 8]]) for i in range(0, n, 8)])

        assert spread(first) < spread(plain) / 4


def test_a_few_batches_come_from_all_over_the_data():
    """hybrid-lora looks at a few: in a file of one language after another they must not be one."""
    batches = list(sample_batches(range(1000), 16, 1, 8))
    drawn = [i for batch in batches for i in batch]
    assert [len(batch) for batch in batches] == [16] * 8
    assert len(set(drawn)) == 128
    assert all(15 < sum(250 * k <= i < 250 * (k + 1) for i in drawn) < 50 for k in range(4))
    assert sorted(i for b in sample_batches(range(10), 4, 1, 8) for i in b) == list(range(10))


# ---------------------------------------------------------------- validation


def test_rank_counts_equals_before_the_relevant_one():
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.9])
    assert best_rank(scores, [1]) == 2  # an equal stands before it
    assert best_rank(scores, [0, 3]) == 4
    assert best_rank(np.zeros(4), [2]) == 4


def test_validation_by_mrr_and_by_tokens():
    examples = [
        Example("a", parse_json(record("a", "one two")).positives, (), None, ("two",)),
        Example("b", parse_json(record("b", "three")).positives, (), None, ("three",)),
        Example("c", parse_json(record("c", "four")).positives, (), None, ("yes",)),
    ]
    # passages in the order one two, three, four: ranks of the positives are 1, 2 and 3
    queries = {"a": [3, 2, 1], "b": [3, 2, 1], "c": [3, 2, 1]}

    def encode(texts, role):
        return np.eye(3) if role == "passage" else np.array([queries[t] for t in texts], float)

    assert Validation(examples, "mrr@10")(encode) == {"mrr@10": pytest.approx(100 * (1 + 1 / 2 + 1 / 3) / 3)}
    assert Validation(examples, "mrr@2")(encode) == {"mrr@2": pytest.approx(50)}
    # "three" is the third token retrieved; the question whose answer is yes is not counted
    assert Validation(examples, "R@0.002kt")(encode) == {"R@0.002kt": pytest.approx(50)}
    assert Validation(examples, "R@0.003kt")(encode) == {"R@0.003kt": pytest.approx(100)}
    with pytest.raises(UserError, match="expected mrr@10"):
        Validation(examples, "ndcg@10")
    with pytest.raises(UserError, match="no example of the validation data has answers"):
        Validation(examples[2:], "R@2kt")
