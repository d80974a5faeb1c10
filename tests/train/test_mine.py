"""Hard negatives: who is positive, who is negative, by hand; draws; margins; scores; bad input."""

import json
import os
import random
import tracemalloc

import pytest
from conftest import message, run_xqg, write_jsonl

from xqg_pyserini.data import Question
from xqg_pyserini.train.mine import MiningSettings, mine_negatives

CORPUS = [
    {"id": f"p{i}", "title": f"T{i}", "text": text}
    for i, text in enumerate(
        [
            "The Nile flows north.",  # p0 holds an answer of 01
            "The Volga flows south.",
            "Northern lights are green.",  # p2: "north" is not in it as it stands, "North" is
            "A compass points north.",  # p3 holds an answer of 01 too: never its negative
            "Bread rises by gas.",  # p4 holds an answer of ru
            "Dough needs salt.",
            "The Moon is far.",
            "Bees dance.",
            "Decoy: nobody retrieves me, north gas.",
        ]
    )
]
QUESTIONS = [
    {"id": "01", "question": "أين يجري النيل؟", "lang": "ar", "answers": ["north"]},
    {"id": "-5", "question": "Что делают дрожжи?", "lang": "ru", "answers": ["gas"]},
]
RANKINGS = {"01": "p1 p3 p2 p0 p5 p6 p7", "-5": "p5 p4 p6 p7 p1"}
TEXTS = {record["id"]: record["text"] for record in CORPUS}


def write_run(path, rankings):
    """A run: the hit at rank r scores 10 - r."""
    rows = [
        f"{qid} Q0 {docid} {rank} {10 - rank} t\n"
        for qid, docids in rankings.items()
        for rank, docid in enumerate(docids.split(), 1)
    ]
    path.write_text("".join(rows), "utf-8")


@pytest.fixture
def folder(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", CORPUS)
    write_jsonl(tmp_path / "questions.jsonl", QUESTIONS)
    write_run(tmp_path / "run.trec", RANKINGS)
    return tmp_path


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def mine(folder, questions="questions.jsonl", qrels=None, **settings):
    """Mine; return the report, and question → (positives, negatives, scores)."""
    mined = mine_negatives(
        folder / questions,
        folder / "corpus.jsonl",
        folder / "run.trec",
        folder / "out.jsonl",
        MiningSettings(**settings),
        qrels=None if qrels is None else folder / qrels,
    )
    mined_of = {}
    for record in lines(folder / "out.jsonl"):
        ids = [
            " ".join(passage["docid"] for passage in record[f"{name}_passages"]) for name in ("positive", "negative")
        ]
        mined_of[record["query_id"]] = (*ids, record.get("scores"))
    return mined, mined_of


# ---------------------------------------------------------------- who is chosen


def test_answers_make_positives_and_bar_negatives(folder):
    mined, mined_of = mine(folder, negatives=3, sample="top")
    assert mined_of == {"01": ("p3 p0", "p1 p2 p5", None), "-5": ("p4", "p5 p6 p7", None)}
    assert mined.as_json() | {"output": "", "run": "", "settings": {}} == {
        "output": "",
        "run": "",
        "settings": {},
        "questions": 2,
        "written": 2,
        "positives": 3,
        "negatives": 6,
        "not_in_run": 0,
        "without_positive": 0,
        "without_score": 0,
        "short": 0,
        "languages": {"ar": 1, "ru": 1},
    }


def test_depth_bounds_positives_and_negatives(folder):
    _, mined_of = mine(folder, negatives=1, sample="top", depth=3)
    assert mined_of == {"01": ("p3", "p1", None), "-5": ("p4", "p5", None)}
    error = message(mine, folder, negatives=1, sample="top", depth=1, keep_short=True)
    assert error.startswith("none of the 2 questions can be written: 0 are not in the run, 2 have ")


def test_skip_leaves_out_the_first_hits_but_not_as_positives(folder):
    _, mined_of = mine(folder, negatives=2, sample="top", skip=3)
    assert mined_of == {"01": ("p3 p0", "p5 p6", None), "-5": ("p4", "p7 p1", None)}


def test_at_most_so_many_positives_and_the_others_are_no_negatives(folder):
    _, mined_of = mine(folder, negatives=9, sample="top", positives=1, keep_short=True)
    assert mined_of["01"] == ("p3", "p1 p2 p5 p6 p7", None)


def test_qrels_make_positives_wherever_they_are(folder):
    # p8 is in no ranking; p0 is judged and not relevant, but holds an answer; p6 is relevant
    (folder / "qrels").write_text("01 0 p8 1\n01 0 p6 2\n01 0 p0 0\n01 0 p5 0\n-5 0 p7 1\n")
    _, mined_of = mine(folder, qrels="qrels", negatives=3, sample="top")
    assert mined_of == {"01": ("p6 p8", "p1 p2 p5", None), "-5": ("p7", "p5 p6 p1", None)}


def test_without_answers_nothing_but_the_qrels_bars(folder):
    write_jsonl(folder / "bare.jsonl", [{"id": "01", "question": "Where?", "answers": ["yes"]}])
    write_run(folder / "run.trec", {"01": RANKINGS["01"]})
    (folder / "qrels").write_text("01 0 p0 1\n")
    _, mined_of = mine(folder, "bare.jsonl", "qrels", negatives=4, sample="top")
    assert mined_of == {"01": ("p0", "p1 p3 p2 p5", None)}
    (record,) = lines(folder / "out.jsonl")
    assert list(record) == [*("query_id", "query", "answers", "positive_passages", "negative_passages")]


def test_titles_are_looked_into_on_demand(folder):
    questions = [{"id": "01", "question": "?", "lang": "ar", "answers": ["T6 The Moon"]}]
    write_jsonl(folder / "titled.jsonl", questions)
    write_run(folder / "run.trec", {"01": RANKINGS["01"]})
    settings = {"negatives": 1, "sample": "top"}
    _, mined_of = mine(folder, "titled.jsonl", with_title=True, **settings)
    assert mined_of == {"01": ("p6", "p1", None)}
    assert "none of the 1 questions can be written: 0 are not in the run, 1 have no positive" in (
        message(mine, folder, "titled.jsonl", **settings)
    )


def test_values_give_the_same_bytes_as_files(folder):
    (folder / "qrels").write_text("01 0 p6 1\n-5 0 p7 1\n")
    mine(folder, qrels="qrels", negatives=2, scores=True)
    expected = (folder / "out.jsonl").read_bytes()
    run = {
        qid: {docid: 10.0 - rank for rank, docid in enumerate(docids.split(), 1)} for qid, docids in RANKINGS.items()
    }
    qrels = {"01": {"p6": 1}, "-5": {"p7": 1}}
    questions = (Question(q["id"], q["question"], q["lang"], (*q["answers"],)) for q in QUESTIONS)
    settings = MiningSettings(negatives=2, scores=True)
    mined = mine_negatives(questions, iter(CORPUS), run, folder / "values.jsonl", settings, qrels=qrels)
    assert (folder / "values.jsonl").read_bytes() == expected
    assert mined.run == "the run"
    lost = {"01": {"zz": 1.0}}
    text = message(mine_negatives, QUESTIONS, CORPUS, lost, folder / "x", settings, qrels=qrels)
    assert text == "the run: passage 'zz' is not in the corpus"


# ---------------------------------------------------------------- margins and scores


def test_a_margin_keeps_negatives_below_the_best_positive(folder):
    # scores are 10 - rank: of 01, p3 has 8; of -5, p4 has 8
    _, mined_of = mine(folder, negatives=9, sample="top", margin=3, keep_short=True)
    assert mined_of == {"01": ("p3 p0", "p5 p6 p7", None), "-5": ("p4", "p1", None)}
    _, mined_of = mine(folder, negatives=9, sample="top", margin=0, keep_short=True)
    assert mined_of["01"][1] == "p2 p5 p6 p7"


def test_scores_are_those_of_positives_then_negatives(folder):
    (folder / "qrels").write_text("01 0 p8 1\n01 0 p6 1\n-5 0 p8 1\n")
    mined, mined_of = mine(folder, qrels="qrels", negatives=2, sample="top", scores=True)
    assert mined_of == {"01": ("p6", "p1 p2", [4.0, 9.0, 7.0])}  # p8 is not in the run
    assert (mined.written, mined.without_score, mined.without_positive) == (1, 1, 0)
    # for a margin one positive in the run is enough: 4 - 0.5 is above p7's 3 alone
    mined, mined_of = mine(folder, qrels="qrels", negatives=1, sample="top", margin=0.5)
    assert mined_of == {"01": ("p6 p8", "p7", None)}
    assert (mined.written, mined.without_score, mined.without_positive) == (1, 1, 0)


def test_the_score_of_a_positive_beyond_the_depth_counts(folder):
    (folder / "qrels").write_text("-5 0 p1 1\n")
    write_jsonl(folder / "one.jsonl", QUESTIONS[1:])
    write_run(folder / "run.trec", {"-5": RANKINGS["-5"]})
    settings = {"qrels": "qrels", "negatives": 1, "sample": "top", "depth": 3}
    _, mined_of = mine(folder, "one.jsonl", scores=True, **settings)
    assert mined_of == {"-5": ("p1", "p5", [5.0, 9.0])}


# ---------------------------------------------------------------- what is left out


def test_questions_that_cannot_be_written_are_counted_by_reason(folder, capsys):
    questions = [
        *QUESTIONS,
        {"id": "absent", "question": "?", "lang": "ru", "answers": ["gas"]},
        {"id": "no answer", "question": "?", "lang": "ru", "answers": ["no"]},
        {"id": "not found", "question": "?", "lang": "ru", "answers": ["zebra"]},
        {"id": "short", "question": "?", "lang": "fi", "answers": ["gas"]},
    ]
    for question in questions:
        question["id"] = question["id"].replace(" ", "-")
    write_jsonl(folder / "more.jsonl", questions)
    more = {"no-answer": "p1 p2 p3 p4", "not-found": "p1 p2 p3 p4", "short": "p4 p1 p2"}
    write_run(folder / "run.trec", {**RANKINGS, **more})
    mined, mined_of = mine(folder, "more.jsonl", negatives=3)
    assert list(mined_of) == ["01", "-5"]
    assert (mined.not_in_run, mined.without_positive, mined.short) == (1, 2, 1)
    mined, mined_of = mine(folder, "more.jsonl", negatives=3, keep_short=True)
    assert list(mined_of) == ["01", "-5", "short"]
    assert mined_of["short"] == ("p4", "p1 p2", None)
    assert (mined.written, mined.short, mined.languages) == (3, 1, {"ar": 1, "fi": 1, "ru": 1})
    mined, mined_of = mine(folder, "more.jsonl", negatives=0)
    assert (mined.written, mined.short, mined.negatives) == (3, 0, 0)


# ---------------------------------------------------------------- draws and order


def test_random_negatives_depend_on_the_seed_and_the_question_alone(folder):
    hits = " ".join(f"n{i}" for i in range(60))
    corpus = [{"id": f"n{i}", "title": "", "text": f"text {i}"} for i in range(60)]
    write_jsonl(folder / "corpus.jsonl", [*CORPUS, *corpus])
    write_run(folder / "run.trec", {"01": f"p0 {hits}", "-5": f"p4 {hits}"})
    _, first = mine(folder, negatives=5, seed=1)
    first_bytes = (folder / "out.jsonl").read_bytes()
    for positive, negatives, _ in first.values():
        assert positive in ("p0", "p4")
        ranks = [int(docid[1:]) for docid in negatives.split()]
        assert ranks == sorted(set(ranks))
        assert len(ranks) == 5
    assert first["01"][1] != first["-5"][1]
    assert mine(folder, negatives=5, seed=2)[1]["01"] != first["01"]
    # lines of the run and of the corpus in another order: the same bytes
    for name in ("run.trec", "corpus.jsonl"):
        rows = (folder / name).read_text("utf-8").splitlines(keepends=True)
        random.Random(3).shuffle(rows)
        (folder / name).write_text("".join(rows), "utf-8")
    mine(folder, negatives=5, seed=1)
    assert (folder / "out.jsonl").read_bytes() == first_bytes
    # questions in another order, or fewer of them: the same lines
    write_jsonl(folder / "back.jsonl", QUESTIONS[::-1])
    assert mine(folder, "back.jsonl", negatives=5, seed=1)[1] == first
    write_jsonl(folder / "one.jsonl", QUESTIONS[1:])
    with pytest.warns(UserWarning, match="has 1 questions that the questions file does not"):
        _, one = mine(folder, "one.jsonl", negatives=5, seed=1)
    assert one == {"-5": first["-5"]}


def test_every_candidate_is_drawn_about_as_often(folder):
    write_jsonl(folder / "one.jsonl", QUESTIONS[:1])
    write_run(folder / "run.trec", {"01": RANKINGS["01"]})
    drawn = []
    for seed in range(200):
        drawn += mine(folder, "one.jsonl", negatives=2, seed=seed)[1]["01"][1].split()
    counts = {docid: drawn.count(docid) for docid in set(drawn)}
    assert set(counts) == {"p1", "p2", "p5", "p6", "p7"}
    assert all(50 < n < 110 for n in counts.values()), counts  # 80 expected of each


# ---------------------------------------------------------------- the command


def test_the_command_writes_texts_and_says_how_many(folder):
    write_run(folder / "run.trec", {**RANKINGS, "foreign": "p1"})
    done = run_xqg(
        *("mine", "--questions", "questions.jsonl", "--corpus", "corpus.jsonl"),
        *("--run", "run.trec", "--negatives", "5", "--sample", "top", "--output", "out.jsonl"),
        cwd=folder,
    )
    assert done.returncode == 0
    assert done.stdout == (
        "out.jsonl: 1 of 2 questions (ar 1), 2 positive and 5 negative passages\n"
        "questions with fewer than 5 negatives, left out (--keep-short keeps them): 1\n"
    )
    assert done.stderr == ("xqg mine: warning: run.trec has 1 questions that the questions file does not; left out\n")
    (first,) = lines(folder / "out.jsonl")
    assert first == {
        "query_id": "01",
        "query": "أين يجري النيل؟",
        "language": "ar",
        "answers": ["north"],
        "positive_passages": [
            {"docid": "p3", "title": "T3", "text": TEXTS["p3"]},
            {"docid": "p0", "title": "T0", "text": TEXTS["p0"]},
        ],
        "negative_passages": [
            {"docid": docid, "title": f"T{docid[1:]}", "text": TEXTS[docid]} for docid in ("p1", "p2", "p5", "p6", "p7")
        ],
    }
    assert sorted(os.listdir(folder)) == ["corpus.jsonl", "out.jsonl", "questions.jsonl", "run.trec"]


def test_with_json_the_report_and_the_settings_are_printed(folder, xqg):
    out = xqg(
        *("mine", "--questions", "questions.jsonl", "--corpus", "corpus.jsonl", "--run", "run.trec"),
        *("--negatives", "2", "--scores", "--seed", "7", "--output", "new/out.jsonl", "--json"),
        cwd=folder,
    )
    printed = json.loads(out)
    assert (printed["written"], printed["negatives"], printed["languages"]) == (2, 4, {"ar": 1, "ru": 1})
    assert (printed["settings"]["seed"], printed["settings"]["scores"]) == (7, True)
    for record in lines(folder / "new/out.jsonl"):
        passages = record["positive_passages"] + record["negative_passages"]
        ranking = RANKINGS[record["query_id"]].split()
        assert record["scores"] == [9.0 - ranking.index(p["docid"]) for p in passages]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--skip 9 --depth 9", "skipping 9 leaves no hit of a depth of 9 for negatives; "
         "look deeper or skip fewer"),
        ("--margin -1", "margin is -1.0; expected a number, 0 or more"),
        ("--margin nan", "margin is nan; expected a number, 0 or more"),
        ("--run lost.trec", "lost.trec: passage 'zz' is not in corpus.jsonl"),
        ("--qrels lost.qrels", "lost.qrels: passage 'zz' is not in corpus.jsonl"),
        ("--run other.trec", "none of the 1 question ids of other.trec are in the questions: '1' in other.trec, "),
        ("--corpus twice.jsonl", "twice.jsonl, line 10: passage id 'p1' again; ids must be unique"),
        (
            "--corpus empty.jsonl",
            "empty.jsonl, line 2: passage 'p1' has no text (expected contents, or title and text)",
        ),
        ("--output run.trec", "run.trec: is one of the inputs; give the output another name"),
        (
            "--negatives 50",
            "none of the 2 questions can be written: 0 are not in the run, 0 have no positive "
            "passage, 0 none in the run, 2 fewer than 50 negatives (look deeper, ask for fewer, or "
            "keep short ones)",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(arguments, expected, folder, refused):
    write_run(folder / "lost.trec", {"01": "p0 zz"})
    (folder / "lost.qrels").write_text("01 0 zz 1\n")
    write_run(folder / "other.trec", {"1": "p0"})
    write_jsonl(folder / "twice.jsonl", [*CORPUS, CORPUS[1]])
    write_jsonl(folder / "empty.jsonl", [CORPUS[0], {"id": "p1", "title": " ", "text": ""}])
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    error = refused(
        *("mine", "--questions", "questions.jsonl", "--corpus", "corpus.jsonl"),
        *("--run", "run.trec", "--output", "out", *arguments.split()),
        cwd=folder,
    )
    assert error.startswith(f"xqg mine: error: {expected}")
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before


def test_passages_of_foreign_questions_and_beyond_the_depth_are_not_needed(folder):
    write_run(folder / "run.trec", {"-5": RANKINGS["-5"] + " zz", "foreign": "yy"})
    with pytest.warns(UserWarning, match="foreign|questions file does not"):
        _, mined_of = mine(folder, negatives=2, sample="top", depth=5)
    assert mined_of == {"-5": ("p4", "p5 p6", None)}


def test_settings_are_checked(folder):
    assert message(MiningSettings, negatives=-1) == "negatives is -1; expected a whole number, 0 or more"
    assert message(MiningSettings, depth=0) == "depth is 0; expected a whole number, 1 or more"
    assert message(MiningSettings, sample="best") == "sample is 'best'; expected top, random"


def test_texts_are_not_held(folder):
    # 400 retrieved passages of 50,000 characters are 20 MB
    corpus = [{"id": f"b{i}", "title": "", "text": f"gas {i} " + "x" * 50_000} for i in range(400)]
    write_jsonl(folder / "corpus.jsonl", [*corpus, *CORPUS])
    write_run(folder / "run.trec", {"-5": "p1 " + " ".join(f"b{i}" for i in range(400))})
    mine(folder, negatives=1, positives=2, depth=401)  # what it imports is not measured
    tracemalloc.start()
    _, mined_of = mine(folder, negatives=1, positives=2, depth=401)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mined_of == {"-5": ("b0 b1", "p1", None)}
    assert peak < 3_000_000
