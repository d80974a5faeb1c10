"""The study: splits, neighbours, figures, and the command on a tiny grid, killed and gone on."""

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, message
from study_data import foreign, make_backbone, write_translations, write_xquad

from xqg_pyserini.evaluate.significance import fisher
from xqg_pyserini.study.cells import rank, rank_in_pool, rank_variants, reinitialise
from xqg_pyserini.study.matrix import (
    Neighbours,
    Perturbation,
    Tables,
    Translations,
    Xquad,
    choose_cells,
    plan,
    read_matrix,
)
from xqg_pyserini.study.tables import COST_TITLE, Design, _cost, scores_of
from xqg_pyserini.study.tasks import (
    LetterVectors,
    Questions,
    fold,
    groups,
    overlaps,
    prepare,
    read_questions,
    read_train,
)

SMOKE = ROOT / "resources" / "matrix" / "peft-smoke.yaml"


def vectors_of(texts):
    """Letters counted: enough to have neighbours."""
    rows = np.array([[1 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with data/ and model/."""
    folder = tmp_path_factory.mktemp("world")
    write_translations(folder / "data")
    write_xquad(folder / "data")
    make_backbone(folder / "model")
    return folder


def command(world: Path, output: Path, *more, matrix="peft-smoke") -> list[str]:
    start = [sys.executable, "-m", "xqg_pyserini", "reproduce", str(matrix)]
    return [*start, "--data", str(world / "data"), "--model", str(world / "model"),
            "--output", str(output), *more]  # fmt: skip


def reproduce(world: Path, output: Path, *more, **options) -> subprocess.CompletedProcess:
    line = command(world, output, *more, **options)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def outcome(output: Path) -> tuple[str, bytes]:
    tables = (output / "tables.md").read_text("utf-8")
    assert COST_TITLE in tables
    return tables.split(COST_TITLE)[0], gzip.decompress((output / "outcomes.jsonl.gz").read_bytes())


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> Path:
    """The smoke grid, done without a break."""
    output = tmp_path_factory.mktemp("whole") / "study"
    reproduce(world, output)
    return output


# ---------------------------------------------------------------- the command


SCORED = ("task", "condition", "method", "variant", "scoring", "metric", "languages")


def test_all_cells_are_done_and_every_table_is_there(whole):
    tables, _ = outcome(whole)
    results = json.loads((whole / "results.json").read_text("utf-8"))
    assert results["missing"] == []
    assert "Not complete" not in tables
    for title in (
        "## translations, as-is", "## translations, top-1-reinitialised", "## xquad, as-is",
        "### Untuned, and the headroom", "### R@1: difference to full",
        "### MRR@10: difference to untuned", "### R@1: difference to its control",
        "| bitfit − lora ", "### R@1 by language, clean",
        "### MRR@10: what centred, fused, fused-centred add, clean", "### Other candidates, clean",
        "## Learning rates",
    ):  # fmt: skip
        assert title in tables, title
    found = {(r["task"], r["condition"], r["method"], r["variant"]) for r in results["scores"]}
    assert ("translations", "as-is", "bitfit", "code-switch") in found
    assert ("xquad", "top-1-reinitialised", "lora", "script") in found
    means = {tuple(r[k] for k in SCORED): r["mean"] for r in results["scores"]}
    controlled = [r for r in results["scores"] if "minus_control" in r]
    assert {(r["method"], r["condition"]) for r in controlled} == {("bitfit", "as-is")}
    for record in controlled:
        control = means[tuple({**record, "method": "lora"}[k] for k in SCORED)]
        difference = record["mean"] - control
        assert record["minus_control"]["mean"] == pytest.approx(difference, abs=2e-3)
    assert {tuple(r["mrr"]) for r in results["learning_rates"]} == {("0.001", "0.01")}
    for chosen in results["learning_rates"]:
        best = max(chosen["mrr"], key=lambda rate: chosen["mrr"][rate])
        assert chosen["learning_rate"] == float(best)
    for name, cell in results["cells"].items():
        if "/seed-" in name:
            assert cell["result"]["training"]["trainable_parameters"] > 0
            assert cell["result"]["training"]["stored_bytes"] > 0
            assert cell["seconds"] > 0
    assert not list(whole.rglob("trained")), "trained weights go once they are evaluated"


def test_no_question_passage_or_translation_is_on_both_sides(whole):
    for task in ("translations", "xquad"):
        folder = whole / "cells" / task / "prepare"
        test = read_questions(folder / "test.json")
        validation = read_questions(folder / "validation.json")
        train = read_train(folder)
        assert train
        assert overlaps(train, test, validation) == []
        mine = {fold(text) for text in test.variants["clean"]}
        assert not mine & {fold(record["query"]) for record in train}
        assert not mine & {fold(text) for some in test.others.values() for text in some}


def test_killed_in_the_middle_it_goes_on_to_the_same_tables(world, whole, tmp_path):
    output = tmp_path / "study"
    reproduce(world, output, "--only", "xquad/*/untuned")
    tables = (output / "tables.md").read_text("utf-8")
    assert "**Not complete: 19 of 23 cells are missing.**" in tables
    assert "### Untuned, and the headroom" in tables
    process = subprocess.Popen(
        command(world, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wanted = output / "cells" / "translations" / "as-is" / "full" / "seed-1" / "cell.json"
    until = time.monotonic() + 120
    while not wanted.exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert wanted.exists()
    assert (output / "tables.md").read_text("utf-8") == tables
    done = {path: path.stat().st_mtime_ns for path in output.rglob("cell.json")}
    (output / "cells" / "xquad" / ".prepare.1.partial").mkdir()  # as a kill may leave it
    listing = reproduce(world, output, "--list").stdout
    assert f"{len(done)} of 23 cells are done" in listing
    assert "waiting" in listing
    reproduce(world, output)
    assert outcome(output) == outcome(whole)
    assert all(path.stat().st_mtime_ns == at for path, at in done.items()), "nothing is done twice"
    assert not list(output.rglob("*.partial"))


def test_a_cell_whose_settings_changed_is_done_again_and_no_other(world, whole, tmp_path):
    import shutil

    output = tmp_path / "study"
    shutil.copytree(whole, output)
    matrix = tmp_path / "mine.yaml"
    text = SMOKE.read_text("utf-8")
    assert "bitfit: {conditions: [as-is]}" in text
    matrix.write_text(text.replace("max_steps: 4,", "max_steps: 3,"), "utf-8")
    states = json.loads(reproduce(world, output, "--list", "--json", matrix=matrix).stdout)
    changed = {cell["cell"] for cell in states if cell["state"] == "changed"}
    assert changed == {
        f"translations/{rest}/seed-1"
        for rest in (
            "as-is/full", "as-is/lora", "as-is/bitfit", "top-1-reinitialised/full",
            "top-1-reinitialised/lora",
        )
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in output.rglob("cell.json")}
    one = "translations/as-is/bitfit/seed-1"
    done = reproduce(world, output, "--only", one, matrix=matrix)
    assert done.stderr == f"xqg reproduce: {one}: its settings changed; done again\n"
    after = {path: path.stat().st_mtime_ns for path in output.rglob("cell.json")}
    assert [
        str(p.parent.relative_to(output / "cells")) for p in after if after[p] != before[p]
    ] == [one]
    record = json.loads((output / "cells" / one / "cell.json").read_text("utf-8"))
    assert record["result"]["training"]["steps"] == 3
    tables = (output / "tables.md").read_text("utf-8")
    assert "**Not complete: 4 of 23 cells are missing.**" in tables  # the others are still old


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = SMOKE.read_text("utf-8")
    assert old in text
    path = tmp_path / "matrix.yaml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("train: 16", "trian: 16", "translations: unknown key trian; expected some of "),
        ("bitfit: {", "bitfti: {", "methods: bitfti: "),
        ("rank: 2", "rnak: 2", "methods: lora: unknown key rnak; expected some of "),
        ("kind: xquad", "kind: squad", "kind is 'squad'; expected translations or xquad"),
        ("test: 8", "test: eight", "translations: test is 'eight'; expected a whole number"),
        ("[1e-3, 1e-2]", "[fast]", "learning_rates is 'fast'; expected a number"),
        ("kind: typos", "kind: typo", "perturbations: typos: expected kind typos, script, code-"),
        ("xquad/as-is: tr", "xquad/as-was: tr", "search: from: 'xquad/as-was'; expected "),
        ("seeds: [1]\n", "", "seeds is missing"),
        ("bootstrap: 200", "reference: fool", "reference is 'fool'; expected one of the methods"),
        ("fit: lora}", "fit: lore}", "tables: controls: 'lore' is none of the methods: full, "),
        ("name: peft-smoke", "name: [", "broken YAML"),
    ],
)
def test_a_matrix_is_read_strictly(tmp_path, old, new, expected):
    path = edited(tmp_path, old, new)
    text = message(read_matrix, str(path))
    assert text.startswith(f"{path}: ")
    assert expected in text


def test_bad_input_is_one_line(world, tmp_path, refused):
    data, model = world / "data", world / "model"

    def call(matrix="peft-smoke", data=data, model=model, output=tmp_path / "out", more=()):
        flags = ("--data", data, "--model", model, "--output", output, *more)
        return refused("reproduce", matrix, *flags)

    assert "neither a file nor a shipped matrix (peft-smoke, peft-unseen)" in call("peft-smok")
    assert "no such folder; expected xor-tydi/ and xquad/" in call(data=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "no such file; --data names a folder with xor-tydi/ and xquad/" in call(
        data=tmp_path / "empty"
    )
    assert "no such folder; expected a Hugging Face model" in call(model=tmp_path / "none")
    assert "no cell has such a name; see --list" in call(more=("--only", "transaltions/*"))
    assert "holds something, but no study" in call(output=data)
    assert "unknown key trian" in call(edited(tmp_path, "train: 16", "trian: 16"))
    assert not (tmp_path / "out").exists()


def test_a_task_too_large_for_its_data_is_a_failed_cell(world, tmp_path):
    matrix = edited(tmp_path, "train: 16", "train: 1000")
    line = command(world, tmp_path / "out", "--only", "translations/prepare", matrix=matrix)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert (
        "cell translations/prepare failed: translations: 1000 train questions in ar" in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1


def test_the_shipped_matrix_names_what_the_issue_asks_for():
    matrix = read_matrix("peft-unseen")
    assert [m.name for m in matrix.methods] == [
        "full", "full-frozen-embeddings", "lora", "hybrid-lora", "hybrid-lora-random", "bitfit",
        "prefix", "robust-prefix",
    ]  # fmt: skip
    assert matrix.seeds == (1, 2, 3)
    assert matrix.search.learning_rates == (5e-5, 5e-4, 5e-3)
    assert [(t.seen, t.unseen) for t in matrix.tasks] == [
        (("ar", "fi", "ja", "ru"), ("bn", "ko", "te")), (("ar", "ru", "de"), ("el", "es", "ro")),
    ]  # fmt: skip
    cells = plan(matrix)
    assert len({cell.name for cell in cells}) == len(cells)
    places = {cell.name: i for i, cell in enumerate(cells)}
    assert all(places[need] < places[cell.name] for cell in cells for need in cell.needs)
    trained = [cell for cell in cells if cell.kind == "train"]
    assert len(trained) == 3 * 8 * 3  # XQuAD is trained on one of the two backbones
    assert [cell.seed for cell in trained] == sorted(cell.seed for cell in trained)
    chosen = choose_cells(cells, ["xquad/as-is/lora/seed-2"])
    assert [cell.name for cell in chosen] == [
        "translations/prepare", "xquad/prepare",
        *(f"translations/as-is/search/lora/{rate}" for rate in ("5e-05", "0.0005", "0.005")),
        "xquad/as-is/lora/seed-2",
    ]  # fmt: skip


# ---------------------------------------------------------------- splits


def test_groups_are_joined_by_chains_of_shared_texts():
    assert groups([("a", "x"), ("b", "y"), ("c", "x"), ("c", "z"), ("d", "w")]) == [0, 1, 0, 0, 4]
    assert fold("What IS “ﬁve”, 5?") == fold("what is five 5") == "whatisfive5"
    assert fold("கி") != fold("க")  # a vowel sign is no punctuation
    assert fold("?!…") == ""


def translations(**settings) -> Translations:
    given = {"test": 8, "validation": 4, "train": 16, "unlabelled": 4}
    return Translations(
        name="t", kind="translations", seen=("ar", "fi"), unseen=("bn",),
        neighbours=Neighbours(2, 2), **{**given, **settings},
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_translations_are_split_by_groups(world, tmp_path, seed):
    task = translations(seed=seed)
    spoilt = {"mixed": Perturbation("code-switch", 1.0), "typos": Perturbation("typos", 0.2)}
    report = prepare(task, world / "data", tmp_path, spoilt, vectors_of)
    test = read_questions(tmp_path / "test.json")
    validation = read_questions(tmp_path / "validation.json")
    train = read_train(tmp_path)
    assert overlaps(train, test, validation) == []
    assert report["train"] == 32
    assert report["test"] == {"ar": 8, "fi": 8, "bn": 8}
    assert report["validation"] == {"ar": 4, "fi": 4}
    assert {record["language"] for record in train} == {"ar", "fi"}
    assert report["pairs"] == 3 * 50  # a blank and a letterless pair are left out
    for i, language in enumerate(test.languages):
        right, near = test.relevant[i], test.neighbours[i]
        assert len(set(near)) == 4
        english = test.candidates[right]
        question = fold(test.variants["clean"][i])
        if not english.startswith("What do") and question != fold(foreign("another one", language)):
            assert question == fold(foreign(english, language))
        assert fold(english) not in {fold(test.candidates[p]) for p in near}
    assert test.variants["typos"] != test.variants["clean"]
    again = tmp_path / "again"
    again.mkdir()
    prepare(task, world / "data", again, spoilt, vectors_of)
    for name in ("test.json", "validation.json", "train.jsonl"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_an_overlap_is_found(world, tmp_path):
    prepare(translations(), world / "data", tmp_path, {}, vectors_of)
    test = read_questions(tmp_path / "test.json")
    validation = read_questions(tmp_path / "validation.json")
    train = read_train(tmp_path)
    for text, where in (
        (test.variants["clean"][0].upper() + " !", "query"),
        (test.candidates[test.relevant[3]].replace(" ", "  "), "passage"),
        (test.candidates[test.neighbours[0][0]], "passage"),
        (validation.variants["clean"][0], "query"),
    ):
        planted = {"query": "x1", "positive_passages": [{"docid": "d", "text": "x2"}]}
        if where == "query":
            planted["query"] = text
        else:
            planted["positive_passages"][0]["text"] = text
        assert overlaps([*train, planted], test, validation) == [fold(text)]


@pytest.mark.parametrize("seed", range(4))
def test_xquad_is_split_by_articles_and_fuses_no_asked_question(world, tmp_path, seed):
    task = Xquad(
        name="x", kind="xquad", seen=("ar",), unseen=("el",), test=7, validation=4, seed=seed
    )
    report = prepare(task, world / "data", tmp_path, {}, vectors_of)
    test = read_questions(tmp_path / "test.json")
    validation = read_questions(tmp_path / "validation.json")
    train = read_train(tmp_path)
    assert overlaps(train, test, validation) == []
    sides = report["articles"]
    assert [len(sides[side]) for side in ("test", "train", "validation")] == [5, 4, 1]
    assert len({title for some in sides.values() for title in some}) == 10
    assert {p["title"] for r in train for p in r["positive_passages"]} == set(sides["train"])
    assert len(test.candidates) == 10  # all of the test half, asked about or not
    assert report["test"] == {"ar": 7, "el": 7}
    assert test.units[:7] == test.units[7:]
    for language in ("ar", "el"):
        asked = {
            fold(text)
            for text, l in zip(test.variants["clean"], test.languages, strict=True)
            if l == language
        }
        assert not asked & {fold(text) for text in test.others[language]}
        assert len(test.others[language]) == len(test.asked[language]) > 0
    for i, unit in enumerate(test.units):
        number = int(unit.split("-")[0])
        assert f"number {number} was made" in test.candidates[test.relevant[i]]
        assert int(unit.split("-")[1]) % 2 == 0


def test_letter_vectors_by_hand():
    vectors = LetterVectors(["abcd", "abcd", "wxyz"], size=4)
    # of " abcd ": " abc", "abcd", "bcd ", each once; the same text has cosine 1, no run shared 0
    np.testing.assert_allclose(vectors.similarities([0, 2]), [[1, 1, 0], [0, 0, 1]], atol=1e-12)
    some = LetterVectors(["aaaa", "aaaab"], size=4)
    # " aaa" and "aaaa" are in both (idf 1), "aaa " in one, "aaab", "aab " in the other
    rare = np.log(3 / 2) + 1
    cosine = 2 / np.sqrt((2 + rare**2) * (2 + 2 * rare**2))
    np.testing.assert_allclose(some.similarities([0])[0, 1], cosine)


# ---------------------------------------------------------------- ranks


def made(neighbours=True) -> tuple[Questions, dict[str, np.ndarray], np.ndarray]:
    questions = Questions(
        ids=["a", "b"], languages=["ar", "fi"], units=["a", "b"],
        variants={"clean": ["x", "y"]}, candidates=["1", "2", "3", "4"], relevant=[0, 2],
        neighbours=[[1, 2], [0, 3]] if neighbours else [], near=1,
        others={"ar": ["o"], "fi": ["p"]}, asked={"ar": [-1], "fi": [-1]}, pool=[0, 2],
    )  # fmt: skip
    candidates = np.array([[1, 0], [0, 1], [0.6, 0.8], [100, 100]], np.float32)
    return questions, {"clean": np.array([[1, 0], [0, 1]], np.float32)}, candidates


def test_ranks_by_hand_and_ties_go_against_the_right_one():
    questions, queries, candidates = made()
    # a: 1 against 0 and 0.6; b: 0.8 against 0 and the decoy's 100
    assert rank(queries["clean"], candidates, questions).tolist() == [1, 2]
    questions, queries, candidates = made(neighbours=False)
    # among all, the decoy beats both; for b also candidate 2, with 1
    assert rank(queries["clean"], candidates, questions).tolist() == [2, 3]
    same = np.ones_like(candidates)
    assert rank(queries["clean"], same, questions).tolist() == [4, 4]
    assert scores_of(np.array([1, 2, 10, 11]), "R@1").tolist() == [100, 0, 0, 0]
    assert scores_of(np.array([1, 2, 10, 11]), "MRR@10").tolist() == [100, 50, 10, 0]


def test_centred_ranks_take_away_the_means():
    from xqg_pyserini.study.cells import _Vectors

    questions, queries, candidates = made()
    others = {"ar": np.array([[1, 0.5]], np.float32), "fi": np.array([[0, 0.5]], np.float32)}
    ranks = rank_variants(questions, _Vectors(queries, candidates, others), translations(), False)
    assert set(ranks) == {"clean/plain", "clean/centred", "clean/plain-lexical"}
    moved = candidates - candidates.mean(axis=0)
    for i, language in enumerate(questions.languages):
        query = queries["clean"][i] - others[language][0]
        right, wrong = questions.relevant[i], questions.neighbours[i]
        expected = 1 + sum(query @ moved[w] >= query @ moved[right] for w in wrong)
        assert ranks["clean/centred"][i] == expected
    # lexical: without the first neighbour, which is near by vectors
    assert ranks["clean/plain-lexical"].tolist() == [1, 2]
    found = rank_in_pool(
        questions, _Vectors(queries, candidates, others), candidates, [0, 1, 2, 3], False
    )
    assert found["clean/all-plain"].tolist() == [2, 3]
    # the decoy as another translation of the same question counts no more
    found = rank_in_pool(
        questions, _Vectors(queries, candidates, others), candidates, [0, 1, 2, 0], False
    )
    assert found["clean/all-plain"].tolist() == [1, 3]


def test_fused_ranks_mix_in_the_own_languages_stand_ins():
    from xqg_pyserini.augment import unit
    from xqg_pyserini.study.cells import _Vectors

    questions, queries, candidates = made(neighbours=False)
    candidates = unit(candidates)
    questions.asked = {"ar": [0], "fi": [2]}
    others = {"ar": np.array([[1, 0]], np.float32), "fi": np.array([[0, 1]], np.float32)}
    task = Xquad(name="x", kind="xquad", seen=("ar",), unseen=("fi",), beta=0.5)
    ranks = rank_variants(questions, _Vectors(queries, candidates, others), task, True)
    assert ranks["clean/plain"].tolist() == [1, 2]
    # b's passage becomes N(0.5·(0.6, 0.8) + 0.5·(0, 1)): 0.949, still below candidate 2's 1
    assert ranks["clean/fused"].tolist() == [1, 2]
    questions.asked["fi"] = [1]
    others["fi"] = np.array([[1, -1]], np.float32)
    ranks = rank_variants(questions, _Vectors(queries, candidates, others), task, True)
    assert ranks["clean/fused"].tolist() == [1, 1]  # candidate 2 was drawn away


# ---------------------------------------------------------------- figures


def test_a_macro_mean_its_difference_and_its_test_by_hand():
    languages, units = ["ar", "ar", "ar", "bn", "ko"], list("abcde")
    design = Design(languages, units, ("ar", "bn"), Tables(bootstrap=500, draws=300, seed=3))
    first = np.array([[100, 0, 50, 100, 7], [0, 0, 50, 100, 7]], float)
    second = np.array([[0, 0, 50, 20, 9]], float)
    assert design.mean(first) == pytest.approx((100 / 3 + 100) / 2)  # ko is not asked for
    figure = design.figure(first)
    assert figure.low < figure.mean < figure.high
    difference = design.difference(first, second)
    assert difference.mean == pytest.approx((100 / 3 + 100) / 2 - (50 / 3 + 20) / 2)
    expected = fisher([50, 0, 50, 100], [0, 0, 50, 20], ["ar", "ar", "ar", "bn"], draws=300, seed=3)
    assert design.p_value(first, second) == expected
    constant = np.full((3, 5), 40.0)
    assert design.figure(constant) == pytest.approx((40, 40, 40))


def test_of_times_the_least_counts_and_of_memory_the_mean():
    def record(seconds, step, memory):
        training = {"trainable_parameters": 30, "parameters": 4000, "stored_bytes": 2e6}
        training |= {"seconds_per_step": step, "peak_memory_bytes": memory}
        host = {"gpu": None, "threads": 1}
        return {"seconds": seconds, "host": host, "result": {"training": training}}

    found = _cost([record(90.0, 0.5, 1e9), record(60.0, 0.7, 3e9)])
    assert found == ["30", "0.75%", "2,000", "0.500", "2.00", "60", "CPU, threads: 1"]
    found = _cost([record(60.0, 0.7, None)])  # where memory cannot be measured
    assert found[2:4] == ["–", "0.700"]


def test_the_interval_is_the_normal_one_for_many_questions():
    scores = 100.0 * (np.random.default_rng(1).random((1, 800)) < 0.7)
    languages = ["ar"] * 400 + ["bn"] * 400
    design = Design(languages, [str(i) for i in range(800)], ("ar", "bn"), Tables(bootstrap=4000))
    figure = design.figure(scores)
    half = 1.96 * np.sqrt(sum(part.var() / 400 for part in np.split(scores[0], 2))) / 2
    assert figure.high - figure.mean == pytest.approx(half, rel=0.1)
    assert figure.mean - figure.low == pytest.approx(half, rel=0.1)


def test_translations_of_one_question_are_drawn_together():
    one = 100.0 * (np.random.default_rng(2).random(200) < 0.5)
    scores = np.concatenate([one, one])[None]
    languages = ["ar"] * 200 + ["bn"] * 200
    ids = [str(i) for i in range(200)]
    settings = Tables(bootstrap=4000)
    parallel = Design(languages, ids + ids, ("ar", "bn"), settings).figure(scores)
    apart = Design(languages, [str(i) for i in range(400)], ("ar", "bn"), settings).figure(scores)
    width = (parallel.high - parallel.low) / (apart.high - apart.low)
    assert width == pytest.approx(np.sqrt(2), rel=0.1)  # two languages tell no more than one
    noisy = np.clip(scores + 10 * np.random.default_rng(3).standard_normal((1, 400)), 0, 100)
    # the test is over 200 questions, not 400
    groups_of = [""] * 200
    expected = fisher(one, noisy[0].reshape(2, 200).mean(axis=0), groups_of, draws=10_000, seed=42)
    assert Design(languages, ids + ids, ("ar", "bn"), Tables()).p_value(scores, noisy) == expected


def test_seeds_that_differ_widen_the_interval():
    settings = Tables(bootstrap=2000)
    rows = np.full((1, 100), 50.0)
    design = Design(["ar"] * 100, [str(i) for i in range(100)], ("ar",), settings)
    steady = design.figure(np.repeat(rows, 3, axis=0))
    moved = design.figure(np.concatenate([rows - 10, rows, rows + 10]))
    assert steady.high - steady.low == pytest.approx(0, abs=1e-9)
    assert moved.high - moved.low > 15
    assert moved.mean == pytest.approx(50)


# ---------------------------------------------------------------- the re-initialised backbone


def test_only_the_last_layers_are_initialised_anew_by_the_models_own_rule(world, tmp_path):
    from transformers import AutoModel

    changed = reinitialise(world / "model", tmp_path / "a", 1, seed=3)
    assert changed and all(name.startswith("encoder.layer.1.") for name in changed)
    reinitialise(world / "model", tmp_path / "b", 1, seed=3)
    reinitialise(world / "model", tmp_path / "c", 1, seed=4)
    models = {name: AutoModel.from_pretrained(tmp_path / name) for name in "abc"}
    old = dict(AutoModel.from_pretrained(world / "model").named_parameters())
    for name, weight in models["a"].named_parameters():
        assert (name in changed) == (not weight.equal(old[name])), name
        assert weight.equal(dict(models["b"].named_parameters())[name])
    weight = "encoder.layer.1.intermediate.dense.weight"
    first, third = (dict(models[name].named_parameters())[weight] for name in "ac")
    assert not first.equal(third)
    assert float(first.detach().std()) == pytest.approx(
        models["a"].config.initializer_range, rel=0.1
    )
    text = message(reinitialise, world / "model", tmp_path / "d", 3, 1)
    assert text.endswith("has 2 layers; 3 cannot be initialised anew")


# ---------------------------------------------------------------- real data


@pytest.mark.parity
def test_the_real_splits_have_nothing_on_both_sides(shared, tmp_path):
    matrix = read_matrix("peft-unseen")
    generator = np.random.default_rng(0)
    for task in matrix.tasks:
        folder = tmp_path / task.name
        folder.mkdir()
        prepare(task, shared / "data", folder, {}, lambda texts: generator.random((len(texts), 4)))
        found = (read_questions(folder / f"{side}.json") for side in ("test", "validation"))
        assert overlaps(read_train(folder), *found) == []
