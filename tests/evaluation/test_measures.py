"""Measures: by hand, as trec_eval has them, and the names that they go by."""

import json
import math

import pytest
from made_judgements import FIGURES, KINDS, MEASURES, OF_LEVELS, SEED, figures, made

from xqg_pyserini.data import Question
from xqg_pyserini.errors import UserError
from xqg_pyserini.evaluation.measures import FORMULAS, Judged, parse_metric, parse_metrics
from xqg_pyserini.evaluation.results import ComparingSettings
from xqg_pyserini.evaluation.scores import evaluate


def value(name, ranking, judgements):
    """Score a ranking, given as one string of one-letter docids."""
    return parse_metric(name).value(Judged.of(ranking, judgements))


def scored(qrels, run, names):
    """Score a run through the front door; return {name: values, in the order of the topics}."""
    scores = evaluate(run, [Question(t, "?", "ja") for t in qrels], names, qrels=qrels, all_topics=True)["run"]
    return {name: [scores[name].by_question[t] for t in qrels] for name in names}


# ---------------------------------------------------------------- trec_eval


def test_values_are_trec_evals_on_graded_negative_and_unjudged_relevance():
    recorded = json.loads(FIGURES.read_text())
    assert set(recorded) == {*MEASURES, *(f"{name}-l2" for name in OF_LEVELS)}
    found = scored(*made(SEED), list(recorded))
    for name, values in recorded.items():
        assert found[name] == pytest.approx(values, abs=1e-6), name
        assert len(set(values)) > 1, name


def test_what_was_compared_holds_what_is_hard():
    qrels, run = made(SEED)
    grades = [set(judged.values()) for judged in qrels.values()]
    assert {grade for of in grades for grade in of} >= {-2, -1, 0, 1, 2, 3, 4, 10}
    assert any(of == {0} for of in grades) and any(of == {-1} for of in grades)
    assert any(min(of) > 0 for of in grades)  # nothing is judged not relevant
    assert any(hits.keys() - qrels[t].keys() for t, hits in run.items())
    assert any(len(hits) < 5 for hits in run.values()) and any(len(hits) > 20 for hits in run.values())
    assert len(qrels) > 3 * len(KINDS)


@pytest.mark.parametrize("seed", range(100, 108))
def test_values_are_those_of_the_trec_eval_that_is_installed(seed):
    pytest.importorskip("pytrec_eval")
    expected = figures(seed, 3 * len(KINDS))
    found = scored(*made(seed, 3 * len(KINDS)), list(expected))
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-6), name


@pytest.mark.parametrize("seed", range(20))
def test_every_measure_stays_between_0_and_1(seed):
    names = [f"{kind}{mark}" for kind in FORMULAS for mark in ("", "@1", "@7", "-l2", "@3-l3")]
    names = [name.replace("rbp", "rbp.95") for name in names]
    known = []
    for name in names:
        try:
            known.append(parse_metric(name))
        except UserError:
            continue
    assert {metric.kind for metric in known} == set(FORMULAS)
    qrels, run = made(seed)
    for topic, judgements in qrels.items():
        ranking = Judged.of(run[topic], judgements)
        assert all(0 <= metric.value(ranking) <= 1 for metric in known)
        assert all(metric.value(Judged.of((), judgements)) == 0 for metric in known)


# ---------------------------------------------------------------- by hand

GRADED = {"a": 3, "b": 0, "c": 1, "d": -1, "e": 2, "f": 0}  # e is never retrieved; x, y are not judged


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("precision@2", 1 / 2),
        ("precision", 2 / 6),
        ("precision@10", 2 / 10),  # of ten, though six are retrieved
        ("recall@2", 1 / 3),
        ("recall", 2 / 3),
        ("recall-l2", 1 / 2),  # a and e are of 2 or more
        ("f1", 2 * (1 / 3) * (2 / 3) / (1 / 3 + 2 / 3)),
        ("hit_rate@1", 0.0),
        ("hit_rate@2", 1.0),
        ("r-precision", 1 / 3),  # three are relevant; of the first three, a
        ("mrr", 1 / 2),
        ("mrr@1", 0.0),
        ("map", (1 / 2 + 2 / 5) / 3),
        ("map@4", (1 / 2) / 3),
        ("ndcg", (3 / math.log2(3) + 1 / math.log2(6)) / (3 + 2 / math.log2(3) + 1 / 2)),
        ("ndcg@2", (3 / math.log2(3)) / (3 + 2 / math.log2(3))),
        ("ndcg_burges@2", (7 / math.log2(3)) / (7 + 3 / math.log2(3))),
        # judged not relevant are b and f, d is not judged: above a is b, above c are b and f
        ("bpref", ((1 - 1 / 2) + (1 - 2 / 2)) / 3),
        # relevant are a and e, not relevant b, c, f: above a is b
        ("bpref-l2", (1 - 1 / 2) / 2),
        ("rbp.50", 0.5 * (0.5 + 0.5**4)),
        ("rbp.50-l2", 0.5 * 0.5),
    ],
)
def test_a_ranking_worked_out_by_hand(name, expected):
    assert value(name, "baxfcd", GRADED) == pytest.approx(expected)


def test_rbp_of_ten_relevant_hits_is_that_of_binary_relevance():
    ten = {f"d{i}": 3 for i in range(10)}
    for name in ("rbp.90", "rbp.90-l2", "rbp.90-l3", "rbp.9"):
        assert parse_metric(name).value(Judged.of(ten, ten)) == pytest.approx(1 - 0.9**10)
    assert parse_metric("rbp.80").value(Judged.of(ten, ten)) == pytest.approx(1 - 0.8**10)


def test_bpref_of_one_topic_without_judged_misses_refuses_nobody():
    qrels = {"1": {"a": 1, "b": 0}, "2": {"c": 1}}
    found = scored(qrels, {"1": {"b": 3.0, "a": 2.0}, "2": {"x": 4.0, "c": 3.0}}, ["map", "bpref"])
    assert found == {"map": [0.5, 0.5], "bpref": [0.0, 1.0]}


def test_negative_relevance_is_as_if_it_were_not_judged():
    assert value("bpref", "ab", {"a": -2, "b": 1, "c": 0}) == 1.0
    assert value("bpref", "ab", {"a": 0, "b": 1, "c": 0}) == 0.0
    assert value("ndcg", "ab", {"a": -2, "b": 1}) == value("ndcg", "ab", {"b": 1}) == pytest.approx(1 / math.log2(3))


@pytest.mark.parametrize("relevance", [10**308, 10**400], ids=["sum", "each"])
def test_a_relevance_that_no_float_holds_is_an_error_of_ndcg_alone(relevance):
    judgements = dict.fromkeys("abcd", relevance)
    assert value("map", "ab", judgements) == 0.5
    for name in ("ndcg", "ndcg_burges@10"):
        with pytest.raises(UserError) as refusal:
            value(name, "ab", judgements)
        assert str(refusal.value) == f"{name}: a relevance is too large to be a gain; expected small whole numbers"


@pytest.mark.parametrize("metric", ["rbp.95", "rbp.5", "f1@3", "map@7", "hit_rate@2"])
def test_ranx_agrees_where_relevance_is_binary(metric):
    import ranx

    qrels, run = made(SEED)
    qrels = {topic: judged for topic, judged in qrels.items() if set(judged.values()) == {0, 1}}
    run = {topic: run[topic] for topic in qrels}
    values = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), metric, return_mean=False)
    assert scored(qrels, run, [metric])[metric] == pytest.approx(list(values))
    assert len(set(values)) > 1


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("P_5", "precision@5"), ("P.5", "precision@5"), ("P@5", "precision@5"), ("P(rel=2)@5", "precision@5-l2"),
        ("recall_100", "recall@100"), ("R@100", "recall@100"), ("set_P", "precision"), ("SetP", "precision"),
        ("set_recall", "recall"), ("SetR", "recall"), ("set_F", "f1"), ("SetF", "f1"), ("success_1", "hit_rate@1"),
        ("Success@1", "hit_rate@1"), ("recip_rank", "mrr"), ("RR", "mrr"), ("RR@10", "mrr@10"),
        ("RR(rel=2)@10", "mrr@10-l2"), ("Rprec", "r-precision"), ("map_cut_10", "map@10"), ("AP", "map"),
        ("AP@10", "map@10"), ("AP(rel=2)", "map-l2"), ("ndcg_cut_10", "ndcg@10"), ("ndcg_cut.10", "ndcg@10"),
        ("nDCG(dcg='log2')@10", "ndcg@10"), ("nDCG(dcg='exp-log2')@10", "ndcg_burges@10"),
        ("RBP(p=0.8,rel=1)", "rbp.8"), ("RBP(rel=2, p=0.85)", "rbp.85-l2"), ("RBP(p=0.855,rel=1)", "rbp.855"),
        ("ndcg@10", "ndcg@10"), ("nDCG@10", "nDCG@10"), ("MRR@10", "MRR@10"), ("Recall@5-l2", "Recall@5-l2"),
        ("MAP", "MAP"), ("bpref", "bpref"), ("Bpref", "Bpref"), ("rbp.90", "rbp.90"), ("R@2kt", "R@2kt"),
        ("r@0.5KT", "r@0.5KT"),
    ],
)  # fmt: skip
def test_names_of_trec_eval_and_ir_measures_are_ranxs(typed, shown):
    metric = parse_metric(typed)
    assert metric.name == shown
    assert parse_metric(shown) == metric


def test_scores_are_found_under_every_name_and_shown_under_one():
    scores = evaluate({"q": {"a": 2.0, "b": 1.0}}, [Question("q", "?", "fi")], ["P_2", "RR"], qrels={"q": {"b": 1}})
    assert scores.metrics == ["precision@2", "mrr"]
    assert scores["run"]["P@2"] is scores["run"]["P_2"] is scores["run"]["precision@2"]
    assert scores.macro("run", "recip_rank") == 50
    assert "precision@2    mrr" in str(scores)
    for name in ("P_3", "nonsense"):
        with pytest.raises(KeyError):
            scores["run"][name]


def test_mcnemar_takes_hits_and_misses_under_every_name():
    settings = ComparingSettings("mcnemar")
    settings.check(["R@2kt", "hit_rate@1", "success_5", "Success@1"])
    with pytest.raises(UserError, match="not P_1; choose student or fisher"):
        settings.check(["success_5", "P_1"])


@pytest.mark.parametrize("names", [["map", "AP"], ["P_5", "Precision@5"], ["nDCG@10", "ndcg@10"], ["R@2kt", "r@2kt"]])
def test_one_measure_under_two_names_is_refused(names):
    with pytest.raises(UserError, match="give each metric once, and at least one"):
        parse_metrics(names)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("R@0kt", "a budget of no token; expected e.g. R@2kt or R@0.5kt"),
        ("bpref@5", "bpref has no cut: how far it looks follows from the judgements"),
        ("r-precision@5", "r-precision has no cut: how far it looks follows from the judgements"),
        ("ndcg@10-l2", "ndcg has no least relevance: all that is above 0 is a gain"),
        ("ndcg_burges-l3", "ndcg has no least relevance: all that is above 0 is a gain"),
        ("P(rel=2)", "how many hits are looked at? Give e.g. precision@10"),
        ("P", "how many hits are looked at? Give e.g. precision@10"),
        ("ndcg_cut", "how many hits are looked at? Give e.g. ndcg@10"),
        ("rbp.0", "expected a persistence between 0 and 1: rbp.80, rbp.95"),
        ("RBP(p=0.9)", "give the least relevance of a relevant passage: RBP(p=0.9,rel=1)"),
    ],
)
def test_a_measure_without_a_definition_is_refused_with_the_reason(name, reason):
    with pytest.raises(UserError) as refusal:
        parse_metric(name)
    assert str(refusal.value) == f"metric {name!r}: {reason}"


@pytest.mark.parametrize("name", ["hits@10", "dcg@10", "num_ret", "num_q", "NumRet", "utility"])
def test_counts_and_sums_are_refused(name):
    with pytest.raises(UserError) as refusal:
        parse_metric(name)
    assert str(refusal.value) == (
        f"metric {name!r} is a count or a sum, no figure from 0 to 100; give recall@10, ndcg@10, …"
    )


@pytest.mark.parametrize(
    "name",
    ["R@" + 400 * "9" + "kt", "ndcg@" + 5000 * "9", "map-l" + 5000 * "9", "P(dcg='log2')@5", "P(p=0.5)@5",
     "R@kt", "R@-1kt", "R@2t", "R@0", "ndcg@0", "ndcg@", "ndgc@10", "ndcg@10 ", "", "precision_5", "rbp.95@10",
     "gm_map", "ndcg@０", "P_٥", "R@２kt", "R@2\u212at", "P(rel=0)@5", "P(judged_only=True)@5", "map-l0", "ndcg@05"],
)  # fmt: skip
def test_an_unknown_metric_is_named_with_those_there_are(name):
    with pytest.raises(UserError) as refusal:
        parse_metric(name)
    assert str(refusal.value) == (
        f"unknown metric {name!r}: expected R@2kt, R@5kt, R@0.5kt …, or one of ranx's: ndcg@10, mrr@10, recall@100, "
        "map, precision@5, hit_rate@1, … (or what trec_eval and ir_measures call these)"
    )
