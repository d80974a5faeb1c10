"""The study with doit on a tiny grid, killed and gone on; its matrix file; its backbones."""

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import message
from peft_unseen.cells import reinitialise
from peft_unseen.matrix import read_matrix
from peft_unseen.outcomes import read_outcomes
from peft_unseen.plan import plan
from peft_unseen.tables import COST_TITLE
from study_data import SMOKE, STUDY, make_backbone, overlaps, write_afriqa, write_translations, write_xquad

CELLS = 29


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with data/ and model/."""
    folder = tmp_path_factory.mktemp("world")
    write_translations(folder / "data")
    write_xquad(folder / "data")
    write_afriqa(folder / "data")
    make_backbone(folder / "model")
    return folder


def command(world: Path, output: Path, *more, **variables) -> list[str]:
    given = {"matrix": SMOKE, "data": "data", "model": world / "model", "output": output}
    given = {k: v for k, v in (given | variables).items() if v}
    line = [sys.executable, "-m", "doit", "-f", STUDY / "dodo.py", *more]
    return [*map(str, line), *(f"{key}={value}" for key, value in given.items())]


def doit(world: Path, output: Path, *more, code=0, **variables) -> subprocess.CompletedProcess:
    line = command(world, output, *more, **variables)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=world)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def states(world: Path, output: Path, **variables) -> dict[str, str]:
    """Cell → U where it is done, R where it is to be run."""
    lines = doit(world, output, "list", "--all", "--status", **variables).stdout.splitlines()
    rows = [line.split() for line in lines]
    return {row[1]: row[0] for row in rows if "/" in row[1]}


def outcome(output: Path) -> tuple[str, bytes]:
    tables = (output / "tables.md").read_text("utf-8")
    assert COST_TITLE in tables
    return tables.split(COST_TITLE)[0], gzip.decompress((output / "outcomes.jsonl.gz").read_bytes())


def times(output: Path) -> dict[str, int]:
    cells = output / "cells"
    paths = cells.rglob("cell.json")
    return {str(path.parent.relative_to(cells)): path.stat().st_mtime_ns for path in paths}


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> Path:
    """The smoke grid: a part of it, then all of it, killed in the middle and gone on."""
    output = tmp_path_factory.mktemp("whole") / "study"
    doit(world, output, "run", "xquad/*/untuned")
    doit(world, output, "run", "tables")
    tables = (output / "tables.md").read_text("utf-8")
    assert f"**Not complete: {CELLS - 4} of {CELLS} cells are missing.**" in tables
    assert "### Untuned, and the headroom" in tables
    process = subprocess.Popen(command(world, output, "run"), stdout=subprocess.DEVNULL, cwd=world)
    wanted = output / "cells" / "translations" / "as-is" / "full" / "seed-1" / "cell.json"
    until = time.monotonic() + 120
    while not wanted.exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = times(output)
    assert wanted.exists() and len(before) < CELLS - 5, "one seed, method by method"
    assert (output / "tables.md").read_text("utf-8") == tables
    partial = output / "cells" / "xquad" / "as-is" / "lora" / ".seed-1.partial"
    (partial / "trained").mkdir(parents=True)  # as a kill may leave it
    assert list(states(world, output).values()).count("U") == len(before)
    doit(world, output, "run", "-n", "2")
    after = times(output)
    assert {name: after[name] for name in before} == before, "nothing is done twice"
    assert len(after) == CELLS
    assert not list(output.rglob("*.partial"))
    return output


# ---------------------------------------------------------------- the grid


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
        "### R@1, all-plain: difference to untuned",
        "### R@1, fused-centred: difference to untuned", "### MRR@10, centred: difference to full",
        "## afriqa, as-is", "### R@1: difference to untuned, question-aligned",
        "### MRR@10, question-aligned: difference to untuned",
        "## Learning rates",
    ):  # fmt: skip
        assert title in tables, title
    scores = {tuple(entry["place"]): entry["methods"] for entry in results["scores"]}
    assert "bitfit" in scores["translations/as-is", "code-switch", "plain", "R@1", "seen"]
    aligned = scores["afriqa/as-is", "clean", "plain", "R@1", "unseen"]["lora"]
    of = scores["afriqa/as-is", "clean", "question-aligned", "R@1", "unseen"]["untuned"]
    assert aligned["minus_question-aligned"]["mean"] == pytest.approx(aligned["mean"] - of["mean"], abs=2e-3)
    assert "lora" in scores["xquad/top-1-reinitialised", "script", "plain", "R@1", "unseen"]
    for place, methods in scores.items():
        controlled = {method for method, row in methods.items() if "minus_control" in row}
        assert controlled == ({"bitfit"} if "as-is" in place[0] else set())
        for method in controlled:
            difference = methods[method]["mean"] - methods["lora"]["mean"]
            assert methods[method]["minus_control"]["mean"] == pytest.approx(difference, abs=2e-3)
    for chosen in results["learning_rates"]:
        assert set(chosen["mrr"]) == {"0.001", "0.01"}
        best = max(chosen["mrr"], key=lambda rate: chosen["mrr"][rate])
        assert chosen["learning_rate"] == float(best)
    for cost in results["costs"]:
        assert min(cost[k] for k in ("trainable parameters", "stored, MB", "s/cell, least")) > 0
    assert not list(whole.rglob("trained")), "trained weights go once they are evaluated"


def test_no_question_passage_or_translation_is_on_both_sides(whole):
    for task in ("translations", "xquad", "afriqa"):
        assert overlaps(whole / "cells" / task / "prepare") == []


def test_a_cell_that_is_made_again_gives_the_same_outcomes(world, whole, tmp_path):
    output = tmp_path / "study"
    shutil.copytree(whole, output)
    shutil.rmtree(output / "cells" / "translations" / "as-is" / "lora")
    (output / "tables.md").unlink()
    doit(world, output)
    assert outcome(output) == outcome(whole)


def test_a_cell_whose_settings_changed_is_done_again_and_no_other(world, whole, tmp_path):
    output = tmp_path / "study"
    shutil.copytree(whole, output)
    matrix = edited(tmp_path, "max_steps: 4,", "max_steps: 3,")
    now = states(world, output, matrix=matrix)
    assert len(now) == CELLS
    assert {name for name, state in now.items() if state == "R"} == {
        f"translations/{rest}/seed-1"
        for rest in (
            "as-is/full", "as-is/lora", "as-is/bitfit", "top-1-reinitialised/full",
            "top-1-reinitialised/lora",
        )
    }  # fmt: skip
    before = times(output)
    one = "translations/as-is/bitfit/seed-1"
    doit(world, output, "run", one, matrix=matrix)
    after = times(output)
    assert [name for name in after if after[name] != before[name]] == [one]
    record = json.loads((output / "cells" / one / "cell.json").read_text("utf-8"))
    assert record["training"]["steps"] == 3
    doit(world, output, "run", "tables", matrix=matrix)
    tables = (output / "tables.md").read_text("utf-8")
    assert f"**Not complete: 4 of {CELLS} cells are missing.**" in tables  # the others are old


def test_a_task_too_large_for_its_data_is_a_failed_cell(world, tmp_path):
    matrix = edited(tmp_path, "train: 16", "train: 1000")
    only = ("translations/prepare", "backbones/*")
    done = doit(world, tmp_path / "out", "run", *only, matrix=matrix, code=1)
    assert "translations: 1000 train questions in ar are wanted, 3" in done.stderr + done.stdout
    assert (tmp_path / "out" / "cells" / "backbones" / "top-1-reinitialised" / "model").is_dir()


def test_bad_input_is_one_line(world, tmp_path):
    def refused(output=tmp_path / "out", **variables) -> str:
        done = doit(world, output, code=3, **variables)
        (line,) = done.stderr.splitlines()
        return line

    assert "No such file" in refused(matrix="peft-smok")
    assert "config.json: no such file" in refused(model=tmp_path / "none")
    assert "ar-en.ar.txt: no such file" in refused(data=tmp_path / "none")
    assert "output is missing: give output=FOLDER" in refused(output=None)
    assert "holds something, but no study" in refused(output=world / "data")
    edit = edited(tmp_path, "seeds:", "sead: 1\nseeds:")
    assert "matrix.yaml: sead: Extra inputs are not permitted (1)" in refused(matrix=edit)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- what was published


@pytest.mark.parity
@pytest.mark.parametrize(("name", "matrix"), [("peft-unseen", None), ("afriqa-tuning", STUDY / "afriqa.yaml")])
def test_the_published_tables_follow_from_the_published_outcomes(world, tmp_path, name, matrix):
    published = STUDY.parents[1] / "docs" / "studies" / name
    doit(world, tmp_path, "run", "published", matrix=matrix, data=None, model=None)
    assert (tmp_path / "tables.md").read_bytes() == (published / "tables.md").read_bytes()


# ---------------------------------------------------------------- the matrix and its cells


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = SMOKE.read_text("utf-8")
    assert old in text
    path = tmp_path / "matrix.yaml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("train: 16", "trian: 16", "tasks: 0: translations: train: Field required"),
        ("temperature: 0", "temprature: 0", "RetrieverSettings.__init__() got an unexpected keyword"),
        ("full: {}", "ful: {}", "expected one of ful, lora, bitfit"),
        ("lora: {rank: 2}", "lora: {method: lroa}", "lroa"),
        ("rank: 2", "rnak: 2", "TuningSettings.__init__() got an unexpected keyword"),
        ("kind: xquad", "kind: squad", "expected tags: 'translations', 'xquad', 'afriqa'"),
        ("test: 8", "test: eight", "translations: test: Input should be a valid integer"),
        ("[1e-3, 1e-2]", "[fast]", "search: learning_rates: 0: Input should be a valid number"),
        ("kind: typos", "kind: typo", "perturbations: typos: kind: Input should be 'typos', "),
        ("xquad/as-is: tr", "xquad/as-was: tr", "search: from: 'xquad/as-was'; expected one of "),
        ("[as-is]}", "[as-was]}", "bitfit: 'as-was'; expected one of as-is, top-1"),
        ("seeds: [1]\n", "", "seeds: Field required"),
        ("bootstrap: 200", "reference: fool", "reference: 'fool'; expected one of full, lora, "),
        ("fit: lora}", "fit: lore}", "tables: controls: 'lore'; expected one of full, lora, "),
        ("name: peft-smoke", "name: [", "expected ',' or ']'"),
    ],
)
def test_a_matrix_is_read_strictly(tmp_path, old, new, expected):
    path = edited(tmp_path, old, new)
    text = message(read_matrix, path)
    assert text.startswith(f"{path}: ")
    assert expected in text


def test_the_studys_matrix_names_what_was_published():
    matrix = read_matrix(STUDY / "peft-unseen.yaml")
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
    places = {name: i for i, name in enumerate(cells)}
    assert all(places[need] < places[cell.name] for cell in cells.values() for need in cell.needs)
    trained = [cell for cell in cells.values() if cell.kind == "train"]
    assert len(trained) == 3 * 8 * 3  # XQuAD is trained on one of the two backbones
    seeds = [cell.settings["seed"] for cell in trained]
    assert seeds == sorted(seeds)
    assert cells["xquad/as-is/lora/seed-2"].needs == (
        "xquad/prepare",
        *(f"xquad/as-is/search/lora/{rate}" for rate in ("5e-05", "0.0005", "0.005")),
    )
    published = STUDY.parents[1] / "docs" / "studies" / "peft-unseen"
    _, ranks = read_outcomes(matrix, published)
    assert {f"{place}/{method}/seed-{seed}"
            for place, methods in ranks.items() for method, seeds in methods.items()
            for seed in seeds if seed} == {cell.name for cell in trained}  # fmt: skip


def test_a_task_that_takes_its_rates_from_another_needs_that_ones_search():
    assert plan(read_matrix(SMOKE))["xquad/as-is/lora/seed-1"].needs == (
        "xquad/prepare",
        *(f"translations/as-is/search/lora/{rate}" for rate in ("0.001", "0.01")),
    )


def test_all_candidates_are_for_the_untuned_and_the_seeds_that_are_named(tmp_path):
    path = edited(tmp_path, "seeds: [1]\n", "seeds: [1, 2]\n")
    cells = [c for c in plan(read_matrix(path)).values() if c.kind in ("untuned", "train")]
    scored = {cell.name for cell in cells if cell.settings["all_candidates"]}
    assert scored == {
        cell.name for cell in cells if cell.task.name == "translations" and not cell.name.endswith("seed-2")
    }
    assert {"translations/as-is/untuned", "translations/top-1-reinitialised/lora/seed-1"} <= scored


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
    assert float(first.detach().std()) == pytest.approx(models["a"].config.initializer_range, rel=0.1)
    text = message(reinitialise, world / "model", tmp_path / "d", 3, 1)
    assert text.endswith("has 2 layers; 3 cannot be new")
