"""Runs fused: by hand, as ranx and Pyserini have it, in one order whatever the order of the runs."""

import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import message, refusal

import xqg_pyserini as xqg
from xqg_pyserini.fusion.runs import METHODS, NORMS

# c: last of one run, first of the other; b and d: in one run each; e: a decoy for which a missing passage may be taken
ONE = {"q": {"a": 9.0, "b": 5.0, "c": 1.0}}
OTHER = {"q": {"c": 0.9, "d": 0.6, "a": 0.1, "e": 0.1}}


def fused(*runs, **settings):
    return xqg.fuse_runs(runs, xqg.FuseSettings(**settings))


def close(hits):
    return {docid: pytest.approx(score, abs=1e-12) for docid, score in hits.items()}


# min-max: a 1, b 1/2, c 0; c 1, d 5/8, a 0, e 0.  Ranks: a 1, b 2, c 3; c 1, d 2, a 3, e 4.
BY_HAND = {
    "rrf": {"c": 1 / 63 + 1 / 61, "a": 1 / 61 + 1 / 63, "d": 1 / 62, "b": 1 / 62, "e": 1 / 64},
    "wsum": {"c": 0.5, "a": 0.5, "d": 5 / 16, "b": 0.25, "e": 0},
    "sum": {"c": 1, "a": 1, "d": 5 / 8, "b": 0.5, "e": 0},
    "anz": {"d": 5 / 8, "c": 0.5, "b": 0.5, "a": 0.5, "e": 0},
    "mnz": {"c": 2, "a": 2, "d": 5 / 8, "b": 0.5, "e": 0},
    "max": {"c": 1, "a": 1, "d": 5 / 8, "b": 0.5, "e": 0},
    "med": {"d": 5 / 8, "c": 0.5, "b": 0.5, "a": 0.5, "e": 0},
    "min": {"d": 5 / 8, "b": 0.5, "e": 0, "c": 0, "a": 0},
    "mixed": {"c": 0.5 * math.sqrt(2), "a": 0.5 * math.sqrt(2), "d": 5 / 16, "b": 0.25, "e": 0},
    "wmnz": {"c": 1, "a": 1, "d": 5 / 16, "b": 0.25, "e": 0},
    "isr": {"c": 2 * 10 / 9, "a": 2 * 10 / 9, "d": 0.25, "b": 0.25, "e": 1 / 16},
    "log_isr": {"c": math.log(2) * 10 / 9, "a": math.log(2) * 10 / 9, "e": 0, "d": 0, "b": 0},
    "logn_isr": {
        **dict.fromkeys("ca", math.log(2.01) * 10 / 9),
        **dict.fromkeys("db", math.log(1.01) / 4),
        "e": math.log(1.01) / 16,
    },
    # of 5 passages the one run gives 5 4 3 and shares 2 + 1 among d and e, the other gives 5 4 3 2 and b the last 1
    "bordafuse": {"c": 8, "a": 8, "d": 5.5, "b": 5, "e": 3.5},
    "w_bordafuse": {"c": 4, "a": 4, "d": 2.75, "b": 2.5, "e": 1.75},
}


@pytest.mark.parametrize("method", BY_HAND)
def test_by_hand(method):
    hits = fused(ONE, OTHER, method=method)["q"]
    assert list(hits.items()) == list(close(BY_HAND[method]).items())


def test_numbers_that_methods_take():
    assert fused(ONE, OTHER, method="rrf", rrf_k=0)["q"]["d"] == 1 / 2
    assert fused(ONE, OTHER, method="gmnz", gamma=2.0)["q"] == close({"c": 4, "a": 4, "d": 5 / 8, "b": 0.5, "e": 0})
    rbc = fused(ONE, OTHER, method="rbc", phi=0.5)["q"]
    assert rbc == close({"c": 1 / 8 + 1 / 2, "a": 1 / 2 + 1 / 8, "d": 1 / 4, "b": 1 / 4, "e": 1 / 16})
    weighted = fused(ONE, OTHER, method="wsum", weights=(0.25, 0.75))["q"]
    assert list(weighted.items()) == list(close({"c": 0.75, "d": 15 / 32, "a": 0.25, "b": 1 / 8, "e": 0}).items())
    assert fused(ONE, OTHER, method="wmnz", weights=(1, 3))["q"] == close(
        {"c": 4, "d": 15 / 8, "a": 4, "b": 1 / 2, "e": 0}
    )


NORMED = {  # of ONE and OTHER, added up
    "none": {"a": 9.1, "b": 5, "c": 1.9, "d": 0.6, "e": 0.1},
    "min-max": {"c": 1, "a": 1, "d": 5 / 8, "b": 0.5, "e": 0},
    "max": {"a": 1 + 1 / 9, "c": 1 / 9 + 1, "d": 2 / 3, "b": 5 / 9, "e": 1 / 9},
    "sum": {"c": 0.8 / 1.3, "a": 8 / 12, "d": 0.5 / 1.3, "b": 4 / 12, "e": 0},
    "rank": {"a": 1 + 2 / 4, "c": 1 / 3 + 1, "d": 3 / 4, "b": 2 / 3, "e": 1 / 4},
    "borda": {"a": 1 + 3 / 5, "c": 3 / 5 + 1, "d": 0.3 + 4 / 5, "b": 4 / 5 + 0.2, "e": 0.3 + 2 / 5},
}


@pytest.mark.parametrize("norm", NORMED)
def test_norms_by_hand(norm):
    assert fused(ONE, OTHER, method="sum", norm=norm)["q"] == close(NORMED[norm])


def test_zmuv_takes_a_missing_passage_for_the_mean():
    one, spread = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, math.sqrt(2 / 3)
    hits = fused(one, {"q": {"d": 5.0, "a": 4.0}}, method="sum", norm="zmuv")["q"]
    assert list(hits.items()) == list(close({"d": 1, "a": 1 / spread - 1, "b": 0, "c": -1 / spread}).items())


def test_equal_scores_say_that_a_passage_was_found():
    """Where ranx has 0 for each: a question's single hit would count for nothing."""
    single, equal = {"q": {"a": 7.0}}, {"q": {"b": 2.0, "c": 2.0}}
    assert fused(single, equal, method="sum")["q"] == {"c": 1, "b": 1, "a": 1}
    assert fused(single, equal, method="sum", norm="sum")["q"] == {"a": 1, "c": 0.5, "b": 0.5}
    assert fused(single, equal, method="sum", norm="zmuv")["q"] == dict.fromkeys("cba", 0)
    third = {"q": {d: 1 / 3 for d in "abc"}}  # their mean is not 1/3 in binary
    assert set(fused(third, third, method="sum", norm="zmuv")["q"].values()) == {0.0}


# ---------------------------------------------------------------- order


def test_a_majority_goes_first_and_who_lacks_both_has_no_say():
    # in two runs of three a stands before b, by sum of ranks b before a
    runs = [{"q": {"a": 3.0, "b": 2.0}}, {"q": {"a": 3.0, "b": 2.0}}, {"q": {"b": 9.0, "x": 8.0, "y": 7.0, "a": 6.0}}]
    assert list(fused(*runs, method="condorcet")["q"].items()) == [("a", 4), ("b", 3), ("x", 2), ("y", 1)]
    assert next(iter(fused(*runs, method="w_condorcet", weights=(1, 1, 3))["q"])) == "b"
    # ranx lets the two that lack both decide against x, whichever that is
    runs = [{"q": {"x": 2.0, "y": 1.0}}, {"q": {"z": 1.0}}, {"q": {"z": 1.0}}]
    assert list(fused(*runs, method="condorcet")["q"]) == ["z", "x", "y"]


def test_in_a_circle_of_majorities_each_beats_the_next():
    generator = np.random.default_rng(7)
    for _ in range(50):
        runs = [{"q": {str(d): -float(i) for i, d in enumerate(generator.permutation(9))}} for _ in range(3)]
        order = list(fused(*runs, method="condorcet")["q"])
        for one, other in itertools.pairwise(order):
            assert sum(run["q"][one] > run["q"][other] for run in runs) >= 2


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("gmnz", "rbc")])
def test_the_order_of_the_runs_does_not_matter(method):
    generator = np.random.default_rng(1)
    runs = [{"q": {f"d{d}": 0.1 * -i for i, d in enumerate(generator.permutation(30)[:20])}} for _ in range(3)]
    one = fused(*runs, method=method)["q"]
    assert [list(fused(*other, method=method)["q"].items()) for other in itertools.permutations(runs)] == 6 * [
        list(one.items())
    ]


def test_equals_on_paper_are_ties_and_stand_from_z_to_a():
    assert 1 + 1 / 2 + 1 / 6 > 1 / 2 + 1 / 6 + 1  # as they are added from one run to the next
    runs = [{"q": dict.fromkeys(one.split(), 1.0)} for one in ("a z 1 2 3 4", "5 a 6 7 8 z", "z 9 x y w a")]
    hits = fused(*runs, rrf_k=0)["q"]
    assert list(hits)[:2] == ["z", "a"] and hits["z"] == hits["a"]


def test_questions_keep_their_order_and_a_run_without_one_has_no_say():
    one, other = {"q2": {"a": 1.0}, "q1": {"a": 2.0}}, {"q3": {"x": 1.0}, "q1": {"b": 2.0, "a": 1.0}, "q0": {"y": 1.0}}
    with pytest.warns(xqg.XqgWarning) as said:
        run = fused(one, other)
    assert list(run) == ["q2", "q1", "q3", "q0"]
    assert run["q2"] == {"a": 1 / 61} and run["q1"] == close({"a": 1 / 61 + 1 / 62, "b": 1 / 61})
    assert [str(w.message) for w in said] == [
        "run 1 lacks 2 of 4 questions; the other runs decide those",
        "run 2 lacks 1 of 4 questions; the other runs decide those",
    ]
    assert fused({"q": {}}, {"q": {}, }) == {"q": {}}  # fmt: skip


def test_no_more_than_depth_hits_count_and_no_more_than_hits_are_returned():
    assert fused(ONE, OTHER, depth=2)["q"] == close({"c": 1 / 61, "a": 1 / 61, "d": 1 / 62, "b": 1 / 62})
    assert list(fused(ONE, OTHER, hits=2)["q"]) == ["c", "a"]
    # scores are normalised as far down as is looked
    assert fused(ONE, OTHER, depth=2, method="sum")["q"] == {"c": 1, "a": 1, "d": 0, "b": 0}


# ---------------------------------------------------------------- others

RANX = """
import json, sys
import ranx
runs, jobs = json.load(sys.stdin)
out = []
for method, norm, params in jobs:
    fused = ranx.fuse([ranx.Run(run) for run in runs], norm=norm, method=method, params=params)
    out.append(fused.to_dict())
json.dump(out, sys.stdout)
"""
PARAMETERS = {"gmnz": ("gamma", 1.7), "rbc": ("phi", 0.8), "logn_isr": ("sigma", 0.2), "rrf": ("rrf_k", 20)}


def test_ranx_has_the_same_scores():
    """Its own code, run as plain Python: compiled, each method takes seconds the first time."""
    generator = np.random.default_rng(3)
    runs = []
    for _ in range(3):
        chosen = {f"q{i}": generator.permutation(25)[: 12 + i] for i in range(4)}
        scores = {qid: -np.sort(-generator.normal(size=len(docs))) for qid, docs in chosen.items()}
        runs.append({qid: dict(zip(map(str, chosen[qid]), scores[qid].tolist(), strict=True)) for qid in chosen})
    jobs, ours = [], []
    for name, method in METHODS.items():
        if "condorcet" in name:  # its order is that of a set
            continue
        for norm in ["none"] if method.by_rank else NORMS:
            settings = {"method": name, **dict([PARAMETERS[name]] if name in PARAMETERS else [])}
            params = {"k" if key == "rrf_k" else key: v for key, v in settings.items() if key != "method"}
            if method.weighted:
                params["weights"] = settings["weights"] = (0.2, 0.5, 0.3)
            jobs.append([name, None if norm == "none" else norm, params])
            ours.append(fused(*runs, **settings, **({} if method.by_rank else {"norm": norm})))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RANX], input=json.dumps([runs, jobs]), capture_output=True, text=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert len(jobs) == 7 + 10 * len(NORMS) == len(theirs)
    for job, mine, other in zip(jobs, ours, theirs, strict=True):
        assert mine == {qid: close(hits) for qid, hits in other.items()}, job


PYSERINI = """
import sys
from pyserini.fusion import average, interpolation, normalize, reciprocal_rank_fusion
from pyserini.trectools import TrecRun
runs = [TrecRun(path) for path in sys.argv[1:3]]
reciprocal_rank_fusion(runs, depth=15, k=20).save_to_txt("rrf.theirs", "t")
interpolation(runs, 0.3, depth=15, k=20).save_to_txt("interpolation.theirs", "t")
average(runs, depth=15, k=20).save_to_txt("average.theirs", "t")
normalize(runs, k=20).save_to_txt("normalize.theirs", "t")
"""


def test_pyserini_fuses_the_same_files_alike(tmp_path, xqg):
    from xqg_pyserini import read_run

    generator = np.random.default_rng(5)
    for name, questions in (("a", "q0 q1 q2"), ("b", "q0 q2 q3")):  # each lacks one
        with open(tmp_path / f"{name}.trec", "w") as file:
            for qid in questions.split():
                scores = np.sort(generator.normal(size=20))[::-1]
                for rank, (d, s) in enumerate(zip(generator.permutation(30), scores, strict=False), 1):
                    file.write(f"{qid} Q0 d{d} {rank} {s:.6f} t\n")
    code = "from xqg_pyserini import bridge; bridge.prepare()\n" + PYSERINI
    paths = [tmp_path / "a.trec", tmp_path / "b.trec"]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cut = ["--depth", 15, "--hits", 20]
    for name, how in {
        "rrf": cut,
        "interpolation": ["--method", "wsum", "--norm", "none", "--weights", 0.3, 0.7, *cut],
        "average": ["--method", "wsum", "--norm", "none", *cut],
        "normalize": ["--method", "sum", "--hits", 20],
    }.items():
        xqg("fuse", "--runs", *paths, *how, "--output", tmp_path / "ours.trec")
        ours, theirs = read_run(tmp_path / "ours.trec"), read_run(tmp_path / f"{name}.theirs", order="score")
        assert list(ours) == ["q0", "q1", "q2", "q3"] and len(ours) == len(theirs)
        for qid, hits in ours.items():
            assert list(hits.values()) == pytest.approx(list(theirs[qid].values()), abs=1e-12)
            last = min(hits.values()) + 1e-12  # among equals at the end either may be cut
            assert {d for d, s in hits.items() if s > last} == {d for d, s in theirs[qid].items() if s > last}


# ---------------------------------------------------------------- files and refusals


def test_any_files_that_are_read_are_fused_and_what_is_written_is_read_again_to_the_last_bit(tmp_path, xqg):
    from xqg_pyserini import fuse_runs, read_run

    (tmp_path / "a.json").write_text(json.dumps({"q": {"é": 2.5, "b": 1.0}}))
    (tmp_path / "b.tsv").write_text("q\tb\t0.75\nq\té\t0.5\nq\tc\t0.5\n")  # ties by docid from z to a: é, c
    out = tmp_path / "to be" / "f x.trec"
    said = json.loads(xqg("fuse", "--runs", tmp_path / "a.json", tmp_path / "b.tsv", "--output", out, "--json"))
    assert said == {"run": str(out), "questions": 1, "hits": 3, "tag": "xqg-f-x", "method": "rrf"}
    expected = fuse_runs([tmp_path / "a.json", tmp_path / "b.tsv"])
    assert read_run(out) == expected == {"q": close({"é": 1 / 61 + 1 / 62, "b": 1 / 62 + 1 / 61, "c": 1 / 63})}
    assert read_run(out)["q"] == expected["q"] and list(expected["q"]) == ["é", "b", "c"]
    assert out.read_text("utf-8").splitlines()[2] == f"q Q0 c 3 {1 / 63!r} xqg-f-x"


@pytest.mark.parametrize(
    ("settings", "text", "about"),
    [
        ({"method": "best"}, "method is 'best'; expected rrf, wsum, ", ("method",)),
        ({"norm": "max"}, "rrf goes by ranks, to which a norm of the scores is nothing", ("norm",)),
        ({"weights": (1, 2)}, "rrf has no weights; those that have are wsum, mixed, wmnz, ", ("weights",)),
        ({"method": "wsum", "weights": (0, 0)}, "all weights are 0; give a run one above", ("weights",)),
        ({"method": "wsum", "weights": (-1, 2)}, "weights is -1; expected a number, 0 or more", ("weights",)),
        ({"method": "wsum", "weights": (1,)}, "1 weights for 2 runs; give one for each", ("weights",)),
        ({"method": "rbc"}, "rbc takes phi", ("phi", "method")),
        ({"gamma": 1.0}, "gamma is gmnz's alone", ("gamma", "method")),
        ({"rrf_k": 10, "method": "wsum"}, "rrf_k is rrf's alone", ("rrf_k", "method")),
        ({"sigma": 0.5}, "sigma is logn_isr's alone", ("sigma", "method")),
        ({"depth": 0}, "depth is 0; expected a whole number, 1 or more", ("depth",)),
    ],
)
def test_settings_that_do_nothing_or_cannot_be(settings, text, about):
    said = refusal(fused, ONE, OTHER, **settings)
    assert said[0].startswith(text) and said[1] == about


def test_runs_that_cannot_be_fused():
    assert refusal(fused, ONE) == ("1 run to fuse; give two or more", ("runs",))
    assert message(fused, ONE, {"Q": {"a": 1.0}}) == (
        "none of the 1 question ids of run 1 are in the others: 'q' in run 1, 'Q' in the others; perhaps upper and "
        "lower case differ"
    )
    minus = {"q": {"a": -1.0, "b": -2.0}}
    assert message(fused, ONE, minus, method="sum", norm="max") == (
        "question 'q': norm 'max' divides by the best score, which is not above 0; take another"
    )
    assert message(fused, ONE, ONE, method="gmnz", gamma=1e6) == (
        "question 'q': gmnz gives scores that are no finite numbers; take other settings"
    )
    huge = {"q": {"a": 1e308, "b": 1.0}}
    assert "no finite numbers" in message(fused, huge, huge, method="sum", norm="none")
    with pytest.warns(xqg.XqgWarning, match="no passage is in two of the runs"):
        fused(ONE, {"q": {"x": 1.0}})
