"""What comes from outside does not run, and does not write where it was not asked to.

Models' own code and weights: tests/models/test_remote_code.py.  Pages: tests/report/test_page.py.
"""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import PASSAGES, ROOT, message, write_jsonl
from made_search import fused, passages, queries  # noqa: F401 - fixtures
from made_stores import edit_meta, engine, fake, quietly, summed  # noqa: F401 - some are fixtures
from test_search_aligned import alignment, write_alignment  # noqa: F401 - a fixture

from xqg_pyserini import (
    Alignment,
    Encoder,
    ExportSettings,
    Fusion,
    GeneratorSettings,
    Index,
    MiningSettings,
    QueryStore,
    Results,
    VectorStore,
    encode_passages,
    evaluate,
    export_index,
    mine_negatives,
    read_questions,
    write_index,
    write_page,
    write_results,
    write_submission,
)
from xqg_pyserini.data import read_generated, write_run
from xqg_pyserini.files import file_sha256
from xqg_pyserini.fusion.alignment import described
from xqg_pyserini.stores.moments import MOMENTS, Moments

# ---------------------------------------------------------------- nothing is unpickled, nothing evaluated

UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "yaml.unsafe_load", "yaml.full_load"}

UNSAFE_FLAGS = ("allow_pickle", "trust_remote_code", "shell")


def unsafe(code: str) -> list[str]:
    """What in some Python could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.Call):
            call, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            found += [call] if call in UNSAFE_CALLS else []
            found += [
                f"{call}({k}=True)" for k in ("allow_pickle", "trust_remote_code", "shell") if given.get(k) == "True"
            ]
            found += [call] if call == "torch.load" and given.get("weights_only") != "True" else []
            loader = ast.unparse(node.args[1]) if len(node.args) > 1 else given.get("Loader", "")
            found += [f"{call} without a safe loader"] if call == "yaml.load" and loader != "Loader" else []
    return found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os, pickle", ["pickle"]),
        ("from joblib.externals import x", ["joblib.externals"]),
        ("np.load(f, allow_pickle=True)", ["np.load(allow_pickle=True)"]),
        ("torch.load(f); torch.load(f, weights_only=True)", ["torch.load"]),
        ("yaml.load(t, yaml.Loader)", ["yaml.load without a safe loader"]),
        ("AutoModel.from_pretrained(m, trust_remote_code=True)", ["AutoModel.from_pretrained(trust_remote_code=True)"]),
        ("eval(x); model.eval(); re.compile(x)", ["eval"]),
        ("subprocess.run(x, shell=True)", ["subprocess.run(shell=True)"]),
        ("f(trust_remote_code=given); np.load(f, allow_pickle=False)", []),
    ],
)
def test_what_is_unsafe_is_seen(code, expected):
    assert unsafe(code) == expected


def test_the_package_unpickles_and_evaluates_nothing():
    found = {str(path): unsafe(path.read_text("utf-8")) for path in (ROOT / "xqg_pyserini").rglob("*.py")}
    assert len(found) > 100
    assert {path: what for path, what in found.items() if what} == {}


class Malice:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def folders(tmp_path, passages, queries, fused):
    """A folder of each kind that holds matrices."""
    fused(Fusion("mean", beta=0.5, center=True)).write_index(tmp_path / "I")
    write_alignment(tmp_path / "A")
    return tmp_path


def open_moments(path: Path) -> Moments:
    return Moments.open(path / MOMENTS, described(path)[1].moments, 4)


@pytest.mark.parametrize(
    ("name", "file", "opened"),
    [
        ("P", "vectors.npy", VectorStore),
        ("Q", "sum-ar.npy", QueryStore),
        ("Q", "counts.npy", QueryStore),
        ("I", "centers.npy", Index),
        ("A", "centers.npy", Alignment),
        ("A", "matrices.npy", Alignment),
        ("A", "moments/sums.npy", open_moments),
        ("A", "moments/differences.npy", open_moments),
        ("A", "moments/sample.npy", open_moments),
    ],
)
def test_a_matrix_of_objects_is_not_opened_even_with_its_checksum(name, file, opened, folders):
    path, ran = folders / name / file, folders / "ran"
    before = file_sha256(path)
    np.save(path, np.array([Malice(ran)], dtype=object), allow_pickle=True)
    for record in (folders / name).glob("*.json"):
        record.write_text(record.read_text("utf-8").replace(before, file_sha256(path)), "utf-8")
    assert str(path) in message(opened, folders / name)
    assert not ran.exists()
    np.load(path, allow_pickle=True)
    assert ran.exists()


# ---------------------------------------------------------------- names do not lead out of the output's folder


@pytest.fixture
def jail(tmp_path, passages, queries, alignment):
    """A folder deep in another; nothing comes into being beside it."""
    inside = tmp_path / "a" / "b" / "c"
    inside.mkdir(parents=True)
    (tmp_path / "x").write_text("untouched")
    before = beside(inside, tmp_path)
    yield inside
    assert beside(inside, tmp_path) == before
    assert (tmp_path / "x").read_text() == "untouched"


def beside(inside: Path, folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(inside)}


def ways_out(jail: Path) -> list[str]:
    return ["../../../x", "..", str(jail.parents[2] / "y"), "./../y", "a/../../../y", "ar/../../y", "..\\y"]


def test_a_language_is_a_code_and_no_path(jail, passages, queries, fused, alignment):
    index = quietly(fused(Fusion("mean", beta=0.5)).own_language().write_index, jail / "L").path
    for language in [*ways_out(jail), "<script>alert(1)</script>"]:
        said = "unknown language code "
        generated = write_jsonl(jail / "g.jsonl", [{"docid": "007", "generated_queries": {language: ["?"]}}])
        assert said in message(lambda path=str(generated): list(read_generated(path)))
        asked = write_jsonl(jail / "q.jsonl", [{"id": "1", "question": "?", "lang": language}])
        assert said in message(read_questions, asked)
        assert said in message(GeneratorSettings, "m", languages=(language,))
        edit_meta(queries, languages=[language, "ja", "ru", "te"])
        assert said in message(QueryStore, queries)
        for record, opened in ((index / "xqg.json", Index), (alignment.path / "alignment.json", Alignment)):
            text = record.read_text("utf-8")
            record.write_text(json.dumps({**json.loads(text), "languages": [language]}), "utf-8")
            assert said in message(opened, record.parent)
            record.write_text(text, "utf-8")


def test_ids_name_no_files(fake, jail):
    ids = ways_out(jail)
    corpus = write_jsonl(jail / "corpus.jsonl", [{"id": i, "text": f"{n} 1 1"} for n, i in enumerate(ids)])
    write_jsonl(jail / "queries.jsonl", [{"docid": i, "generated_queries": {"ar": ["1 1 1", "1 1 2"]}} for i in ids])
    asked = [{"id": i, "question": f"{n} 1 1", "lang": "ar", "answers": [f"{n} 1 1"]} for n, i in enumerate(ids)]
    questions = read_questions(write_jsonl(jail / "questions.jsonl", asked))
    encode_passages(corpus, Encoder(fake), jail / "passages")
    assert list(summed(jail, keep_counts=(1,)).ids()) == ids
    index = write_index(jail / "passages", jail / "I")
    run = index.search(questions, encoder=Encoder(fake))
    assert set(run) == set(run["../../../x"]) == set(ids)
    for kind in ("parquet", "opensearch", "lance"):
        export_index(jail / "I", jail / "exported" / kind, ExportSettings(kind), corpus=corpus)
    write_run(jail / "run.trec", run, "tag")
    mine_negatives(questions, corpus, run, jail / "mined.jsonl", MiningSettings(negatives=3))
    write_submission(questions, run, corpus, jail / "submission.jsonl")


def test_a_run_s_name_names_no_file(jail):
    corpus = write_jsonl(jail / "corpus.jsonl", PASSAGES)
    asked = [{"id": "1", "question": "?", "lang": "ar", "answers": ["Nile"]}]
    questions = write_jsonl(jail / "questions.jsonl", asked)
    runs = {name: {"1": {"007": 1.0}} for name in ways_out(jail)}
    scores = evaluate(runs, questions, ["R@2kt"], corpus=corpus)
    assert set(scores.runs) == set(runs)
    write_results(Results(scores.compare()), jail / "evaluation")
    write_page(jail / "evaluation", jail / "page")
    assert (jail / "page" / "index.html").is_file()
