"""The study's command on a tiny grid, killed and gone on; its matrix file; its backbones."""

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, message
from peft_unseen.cells import reinitialise
from peft_unseen.matrix import read_matrix
from peft_unseen.plan import choose_cells, plan
from peft_unseen.tables import COST_TITLE
from peft_unseen.tasks import fold, overlaps, read_questions, read_train
from study_data import make_backbone, write_translations, write_xquad

SMOKE = ROOT / "resources" / "matrix" / "peft-smoke.yaml"


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
        "### R@1, all-plain: difference to untuned",
        "### R@1, fused-centred: difference to untuned", "### MRR@10, centred: difference to full",
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
    process = subprocess.Popen(command(world, output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
    assert [str(p.parent.relative_to(output / "cells")) for p in after if after[p] != before[p]] == [one]
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
    assert "no such file; --data names a folder with xor-tydi/ and xquad/" in call(data=tmp_path / "empty")
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
    assert "cell translations/prepare failed: translations: 1000 train questions in ar" in done.stderr
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
        "xquad/prepare",
        *(f"xquad/as-is/search/lora/{rate}" for rate in ("5e-05", "0.0005", "0.005")),
        "xquad/as-is/lora/seed-2",
    ]  # fmt: skip


def test_a_task_that_takes_its_rates_from_another_needs_that_ones_search():
    chosen = choose_cells(plan(read_matrix("peft-smoke")), ["xquad/as-is/lora/seed-1"])
    assert [cell.name for cell in chosen] == [
        "translations/prepare", "xquad/prepare",
        *(f"translations/as-is/search/lora/{rate}" for rate in ("0.001", "0.01")),
        "xquad/as-is/lora/seed-1",
    ]  # fmt: skip


def test_all_candidates_are_for_the_untuned_and_the_seeds_that_are_named(tmp_path):
    path = edited(tmp_path, "seeds: [1]\n", "seeds: [1, 2]\n")
    cells = [c for c in plan(read_matrix(str(path))) if c.kind in ("untuned", "train")]
    assert all(cell.settings["all_candidates"] == cell.all_candidates for cell in cells)
    scored = {cell.name for cell in cells if cell.all_candidates}
    assert scored == {cell.name for cell in cells if cell.task == "translations" and cell.seed in (0, 1)}
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
    assert text.endswith("has 2 layers; 3 cannot be initialised anew")
