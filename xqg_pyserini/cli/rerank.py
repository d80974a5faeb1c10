"""`xqg rerank`."""

import argparse
from pathlib import Path

from xqg_pyserini import data, files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.models.engines import Computing
from xqg_pyserini.retrieve.rerank import Reranking, RerankSettings, write_reranked


def add_flags(parser: Parser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="TREC's, or what else evaluate reads")
    flags.add_settings(parser, data.RunSettings)
    shared.add_questions(parser, "--topics")
    shared.add_corpus(parser, True, "where the texts come from")
    what = "a cross-encoder, or a multi-vector model (ColBERT): a folder, or a name of the hub (extra st)"
    parser.add_argument("--model", required=True, metavar="NAME", help=what)
    flags.add_settings(parser, RerankSettings)
    parser.add_argument("--output", required=True, metavar="RUN", help="the TREC run to write")
    flags.add_settings(parser.add_argument_group("model"), Computing, skip=("engine", "requests"))
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    from xqg_pyserini.models.reranker import Reranker

    corpus, run = shared.corpus_of(args), shared.run_files(args, [args.run])[0]
    files.check_file(args.output, [args.run, *args.questions, args.corpus, args.model])
    job = Reranking(run, shared.questions_of(args), corpus, flags.settings_of(args, RerankSettings))
    model = Reranker(args.model, flags.settings_of(args, Computing))
    tag = shared.tag_of(args.output)
    reranked = write_reranked(job, model, Path(args.output), tag=tag)
    total = sum(map(len, reranked.values()))
    summary = {"run": args.output, "questions": len(reranked), "hits": total, "tag": tag, "kind": model.kind}
    flags.show(args, summary, f"{args.output}: {len(reranked)} questions, {total} hits by a {model.kind} model")
