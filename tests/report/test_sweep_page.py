"""The page of a sweep: curves, tables, and what it says of figures that were tuned."""

import re
import shutil

import pytest
from conftest import message
from made_pages import (
    GRID,
    ONE,
    TWO,
    VALIDATION,
    data_of,
    made,  # noqa: F401 - a fixture
    undrawn,  # noqa: F401 - a fixture
    write_sweep,
)
from made_results import write_run

from xqg_pyserini.report import plots
from xqg_pyserini.report.page import write_page
from xqg_pyserini.report.results import read_results
from xqg_pyserini.report.tables import _chosen, number_of_points


def test_curves_over_the_weight_take_the_most_queries(tmp_path):
    results = read_results(write_sweep(tmp_path / "S"))
    assert list(results.points) == list(GRID)
    curves = plots.curves_over(results, "R@2kt", "weight")
    assert [(c.label, c.points) for c in curves] == [
        ("all languages", [(0.01, "s1"), (0.02, "s2")]),
        ("all languages", [(0.1, "b1"), (0.3, "b3")]),  # own has one weight: no curve
    ]


def test_curves_over_the_number_of_queries_take_the_weight_with_the_highest_peak(tmp_path):
    results = read_results(write_sweep(tmp_path / "S"))
    (curve,) = plots.curves_over(results, "R@2kt", "queries")
    # "all" stands one step after 2
    assert curve.points == [(1, "b3-1"), (2, "b3-2"), (3, "b3")]
    assert curve.label == "all languages, β = 0.3"


def test_a_sweep_without_held_out_questions_says_that_its_best_was_tuned(tmp_path):
    written = write_page(write_sweep(tmp_path / "S"))
    page = written.page.read_text("utf-8")
    assert "<h1>At best 56.0 by R@2kt, 6.0 points above passages alone</h1>" in page
    assert "Tuned, the best of 9 settings on these same questions: <bdi>own</bdi>, 56.0 (+6.0)." in page
    assert "Nothing was held out: this figure was tuned on the questions" in page
    assert "held-out" not in {p.stem for p in (tmp_path / "S" / "report" / "plots").iterdir()}
    assert written.plots == 8  # by metric: weights and numbers, on average and by language


def test_a_sweep_with_held_out_questions_puts_these_first(tmp_path):
    written = write_page(write_sweep(tmp_path / "S", VALIDATION))
    page = written.page.read_text("utf-8")
    assert "<h1>Held out: 54.5 by R@2kt, 4.5 points above passages alone</h1>" in page
    assert "95% confidence interval of the difference: +1.0 to +8.0 points. p = 0.0300." in page
    assert page.index("54.5") < page.index("56.0")
    assert "Tuned, the best of 9 settings on these same questions" in page
    assert "Nothing was held out" not in page
    assert "Its best point was tuned on the questions that it is shown for" in page
    assert (tmp_path / "S" / "report" / "plots" / "held-out.svg").exists()
    assert "<td>54.50</td><td>+4.50</td><td>+1.00 … +8.00</td><td>0.0300</td>" in page


def test_the_table_of_a_sweep_has_the_baseline_first_and_then_the_best(tmp_path, undrawn):
    page = write_page(write_sweep(tmp_path / "S")).page.read_text("utf-8")
    table = page[page.index("<caption>R@2kt: passages alone") :]
    names = re.findall(r'<tr><td class="text"><bdi>([^<]*)</bdi>', table[: table.index("</table>")])
    assert names[:3] == ["baseline", "own", "b3"]
    assert len(names) == 9
    assert "<td>56.00</td><td>+6.00 <small>[4.0, 8.0]</small></td><td>0.0400*</td><td>30/60/10</td>" in table


def test_a_sweep_s_runs_can_be_explored(tmp_path, made, undrawn):
    inputs = {"passages": None, "queries": None, "qrels": None}
    inputs |= {name: f"../{name}.jsonl" for name in ("questions", "corpus")}
    for name in ("questions", "corpus"):
        shutil.copy(made / f"{name}.jsonl", tmp_path)
    sweep = write_sweep(tmp_path / "S", inputs=inputs)
    assert "holds no runs of two points: give --runs A B" in write_page(sweep).explorer
    (sweep / "runs").mkdir()
    for name, run in (("s1", ONE), ("own", TWO), ("baseline", ONE)):
        write_run(sweep / "runs" / f"{name}.trec", run)
    written = write_page(sweep, overwrite=True)
    assert (written.explorer, written.questions) == (None, 5)
    data = data_of(written.page.read_text("utf-8"))
    assert data["pair"] == ["baseline", "own"]
    # no scores by question: the rankings decide; a1 and j1 are where they differ
    assert (data["questions"][0]["id"], data["questions"][3]["id"]) == ("a1", "j1")


ALIGNED = {
    "baseline": (("none", "", "", "", ""), (0, 0)),
    "align": (("none", "", "", "", ""), (3, 3)),
    "b1": (("mean", "0.1", "all", "all", "0"), (1, 1)),
    "b3": (("mean", "0.3", "all", "all", "0"), (2, 2)),
    "b1-align": (("mean", "0.1", "all", "all", "0"), (8, 8)),
    "b3-align": (("mean", "0.3", "all", "all", "0"), (9, 9)),
    "b1-align-r5-k10": (("mean", "0.1", "all", "all", "0"), (4, 4)),
    "b3-align-r5-k10": (("mean", "0.3", "all", "all", "0"), (6, 6)),
}


def test_aligned_points_have_curves_and_rows_of_their_own(tmp_path, undrawn):
    folder = write_sweep(tmp_path / "S", grid=ALIGNED)
    curves = plots.curves_over(read_results(folder), "R@2kt", "weight")
    assert [(c.label, c.points) for c in curves] == [
        ("all languages, align", [(0.1, "b1-align"), (0.3, "b3-align")]),
        ("all languages, align-r5-k10", [(0.1, "b1-align-r5-k10"), (0.3, "b3-align-r5-k10")]),
        ("all languages", [(0.1, "b1"), (0.3, "b3")]),
    ]
    assert len({c.kind for c in curves}) == 3
    page = write_page(folder).page.read_text("utf-8")
    cells = re.search(r"<tr><td[^>]*><bdi>align</bdi></td>(.*?)</tr>", page)[1]
    assert re.findall(r"<td[^>]*>([^<]*)", cells)[:5] == ["", "", "", "", "53.00"]  # no weight, no languages


def test_the_best_aligned_curve_has_the_same_without_alignment_beside_it(tmp_path):
    grid = {"baseline": ALIGNED["baseline"]}
    for name, gain in [("", 1), *((f"-align-r{r}", 20 - r) for r in range(1, 9))]:
        grid |= {f"b{b}{name}": (("mean", f"0.{b}", "all", "all", "0"), (gain, gain)) for b in (1, 3)}
    grid |= {f"own{b}": (("mean", f"0.{b}", "own", "all", "0"), (5, 5)) for b in (1, 3)}  # a decoy
    curves = plots.curves_over(read_results(write_sweep(tmp_path / "S", grid=grid)), "R@2kt", "weight")
    assert [c.kind.align for c in curves] == [*(f"align-r{r}" for r in range(1, 6)), None]
    assert curves[-1].points == [(0.1, "b1"), (0.3, "b3")]


def test_points_that_differ_in_shrinkage_alone_share_no_curve(tmp_path):
    points = {f"b{b}{k}": (("mean", f"0.{b}", "all", "all", "0"), (b, b)) for b in (1, 3) for k in ("-k2", "")}
    curves = plots.curves_over(read_results(write_sweep(tmp_path / "S", grid=GRID | points)), "R@2kt", "weight")
    assert [(c.label, c.points) for c in curves[1:]] == [
        ("all languages", [(0.1, "b1"), (0.3, "b3")]),
        ("all languages, κ = 2", [(0.1, "b1-k2"), (0.3, "b3-k2")]),
    ]
    assert len({c.kind for c in curves[1:]}) == 2


def test_an_aligned_run_is_explored_beside_its_own_without_alignment(tmp_path, made, undrawn):
    inputs = {"passages": None, "queries": None, "qrels": str(tmp_path / "qrels")}
    inputs |= {name: str(made / f"{name}.jsonl") for name in ("questions", "corpus")}
    (tmp_path / "qrels").write_text("a1 0 d1 1\n")
    sweep = write_sweep(tmp_path / "S", inputs=inputs, grid=ALIGNED)
    (sweep / "runs").mkdir()
    for name in ALIGNED:
        write_run(sweep / "runs" / f"{name}.trec", TWO if name == "b3-align" else ONE)
    data = data_of(write_page(sweep).page.read_text("utf-8"))
    # by scores alone b1-align, b3-align and b3-align-r5-k10 would be shown
    assert data["runs"] == ["baseline", "b1-align", "b3-align", "b3"] and data["pair"] == ["b3", "b3-align"]
    first = data["questions"][0]
    (relevant,) = [int(i) for i, mark in first["marks"].items() if mark.get("relevant")]
    assert data["passages"][relevant][0] == "d1"
    ranks = [first["hits"][data["runs"].index(run)].index(relevant) + 1 for run in data["pair"]]
    assert (first["id"], ranks) == ("a1", [3, 1])  # what alignment moved comes first
    for name in ("b1-align", "b3-align", "b1-align-r5-k10", "b3-align-r5-k10"):
        (sweep / "runs" / f"{name}.trec").unlink()
    assert data_of(write_page(sweep, overwrite=True).page.read_text("utf-8"))["pair"] == ["baseline", "align"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("x,mean,heavy" + "," * 18 + "\n", "sweep.csv, line 56: ValueError"),
        ("x,mean,0.1,all,all,,maybe" + "," * 14 + "\n", "sweep.csv, line 56: KeyError"),
        ("x,mean\n", "sweep.csv, line 56: "),
    ],
)
def test_a_damaged_sweep_names_its_line(tmp_path, rows, expected):
    assert expected in message(write_page, write_sweep(tmp_path / "S", rows=rows))


POWER = {
    "power": 0.8,
    "level": 0.00625,
    "tests": 8,
    "wanted": 2,
    "rows": [
        {"metric": "R@2kt", "point": "b1", "questions": 100, "difference": 2, "smallest": 9.9,
         "needed": 999},
        {"metric": "R@2kt", "point": "own", "questions": 100, "difference": 6, "smallest": 3.25,
         "needed": 264},
        {"metric": "mrr@10", "point": "own", "questions": 100, "difference": 6, "smallest": None,
         "needed": None},
    ],
}  # fmt: skip


def test_power_is_told_of_the_best_points(tmp_path, undrawn):
    page = write_page(write_sweep(tmp_path / "S", power=POWER)).page.read_text("utf-8")
    row = '<tr><td class="text">{}</td><td class="text"><bdi>own</bdi></td><td>100</td>'
    assert row.format("R@2kt") + "<td>+6.00</td><td>3.25</td><td>264</td></tr>" in page
    assert row.format("mrr@10") + "<td>+6.00</td><td>-</td><td>-</td></tr>" in page
    assert "a test at 0.0063 (8 tests) sees with a probability of 80%" in page
    assert "questions for 2" in page
    assert "9.9" not in page


WORSE = {name: (setting, (-abs(a), -abs(b))) for name, (setting, (a, b)) in GRID.items()}


@pytest.mark.parametrize("level", [False, True], ids=["below", "the same"])
def test_a_sweep_in_which_no_setting_beats_passages_alone_says_so(tmp_path, undrawn, level):
    grid = dict(WORSE)
    if level:
        grid["s2"] = (GRID["s2"][0], (0, 0))
    page = write_page(write_sweep(tmp_path / "S", grid=grid)).page.read_text("utf-8")
    assert "<h1>No setting beats passages alone: 50.0 by R@2kt</h1>" in page
    best = "<bdi>s2</bdi>, 50.0 (+0.0)." if level else "<bdi>b1-1</bdi>, 49.5 (-0.5)."
    assert "The best of the settings (8) on these same questions is no better than passages alone: " + best in page
    assert "At best" not in page
    assert "<bdi>baseline</bdi> (+0.0)" not in page


def test_a_held_out_score_of_passages_alone_is_not_said_to_be_above(tmp_path, undrawn):
    row = {**VALIDATION["held_out"][0], "score": 50.0, "difference": 0.0}
    sweep = write_sweep(tmp_path / "S", {**VALIDATION, "held_out": [row]}, grid=WORSE)
    page = write_page(sweep).page.read_text("utf-8")
    assert "<h1>Held out: 50.0 by R@2kt, 0.0 points from passages alone</h1>" in page
    assert "(8) on these same questions is no better than passages alone: <bdi>b1-1</bdi>" in page


def test_power_is_told_where_passages_alone_are_best(tmp_path, undrawn):
    rows = [{**row, "difference": -row["difference"]} for row in POWER["rows"]]
    power = {**POWER, "rows": rows, "wanted": None, "tests": 1}
    page = write_page(write_sweep(tmp_path / "S", power=power, grid=WORSE)).page.read_text("utf-8")
    assert (
        '<tr><td class="text">R@2kt</td><td class="text"><bdi>b1</bdi></td><td>100</td>'
        "<td>-2.00</td><td>9.90</td></tr>" in page
    )
    assert "smallest that shows" in page
    assert ">questions for " not in page  # without --power D
    assert "(1 test) sees" in page


def captions(folder):
    page = write_page(folder).page.read_text("utf-8")
    return re.findall("<figcaption>(.*?)</figcaption>", page)


def test_captions_tell_of_a_band_where_there_is_one(tmp_path):
    assert sum("Band: of the highest curve" in c for c in captions(write_sweep(tmp_path / "S"))) > 0
    assert not any("Band" in caption for caption in captions(write_sweep(tmp_path / "T", half=0)))


def test_captions_by_language_tell_which_form_they_draw(tmp_path):
    results = read_results(write_sweep(tmp_path / "S"))
    form = " Drawn is the difference to passages alone of the mean form (β), that of the highest"
    assert form in plots.sweep_curves(results, "R@2kt", "weight", True).caption
    # over the number of queries there are curves of one form alone
    alone = plots.sweep_curves(results, "R@2kt", "queries", True).caption
    assert alone.endswith(" Drawn is the difference to passages alone.")


def test_what_was_chosen_for_questions_without_language_is_said_so(tmp_path, undrawn):
    chosen = [{"fold": 1, "language": "und", "point": "own"}]
    sweep = write_sweep(tmp_path / "S", {**VALIDATION, "per_language": True, "chosen": chosen})
    page = write_page(sweep).page.read_text("utf-8")
    assert '<td class="text">no language</td><td class="text"><bdi>own</bdi></td>' in page
    validation = {**VALIDATION, "chosen": chosen, "seed": 42}
    assert "Chosen (folds): no language own (1)." in _chosen(validation["chosen"])


def test_one_point_is_not_points():
    assert (number_of_points(1), number_of_points(2)) == ("the one point", "the 2 points")


def test_a_held_out_difference_without_interval_is_drawn_without(tmp_path):
    row = {**VALIDATION["held_out"][0], "ci_low": None, "ci_high": None}
    sweep = write_sweep(tmp_path / "S", {**VALIDATION, "held_out": [row]})
    page = write_page(sweep).page.read_text("utf-8")
    assert "There are too few questions for a confidence interval." in page
    assert "<td>54.50</td><td>+4.50</td><td>-</td>" in page


@pytest.mark.parametrize("name", ["held_out", "tuned", "chosen"])
def test_a_sweep_whose_cross_validation_is_not_whole_is_refused(tmp_path, name):
    first = dict(VALIDATION[name][0])
    lacking = list(first)[-1]
    del first[lacking]
    sweep = write_sweep(tmp_path / "S", {**VALIDATION, name: [first]})
    assert message(write_page, sweep) == (
        f"{sweep / 'sweep.json'}: damaged (cross_validation.{name}[0]: Object missing required field `{lacking}`); "
        "make the results again"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"tuned": [{"metric": [], "point": "p", "score": 1}]},
        {"chosen": [{"fold": 1, "language": None, "point": 1.5}]},
        {"held_out": [{**VALIDATION["held_out"][0], "p": "x"}]},
    ],
)
def test_a_sweep_with_values_of_another_type_is_refused(tmp_path, wrong):
    sweep = write_sweep(tmp_path / "S", {**VALIDATION, **wrong})
    assert message(write_page, sweep).startswith(
        f"{sweep / 'sweep.json'}: damaged (cross_validation.{next(iter(wrong))}"
    )


def test_a_sweep_without_its_table_is_refused(tmp_path):
    sweep = write_sweep(tmp_path / "S")
    (sweep / "sweep.csv").unlink()
    assert "sweep.csv: missing" in message(write_page, sweep)
