"""`xqg search`."""

import argparse
import re
from pathlib import Path
from typing import Any

from xqg_pyserini import data, files
from xqg_pyserini.cli import flags
from xqg_pyserini.errors import UserError

EPILOG = flags.FUSION


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg search`."""
    parser.add_argument(
        "--index",
        nargs="+",
        action="extend",
        metavar="DIR",
        help="an index of ours or any Faiss index of Pyserini's; or a language-aware one, whole "
        "or some of its folders: then each question goes to its own language's",
    )
    parser.add_argument("--passages", metavar="STORE", help="search the stores instead of an index")
    parser.add_argument("--queries", metavar="STORE")
    parser.add_argument(
        "--language-aware",
        action="store_true",
        help="mix in only the queries of each question's own language (takes the stores)",
    )
    flags.add_questions(parser, "--topics")
    parser.add_argument(
        "--encoder", metavar="NAME", help="default: what the index or store was made with"
    )
    parser.add_argument(
        "--hits", type=int, default=100, metavar="N", help="passages a question (100)"
    )
    parser.add_argument("--output", required=True, metavar="RUN", help="the TREC run to write")
    flags.add_encoder(parser)
    flags.add_fusion(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run `xqg search`."""
    from xqg_pyserini.retrieve.search import search_index, search_stores

    if (args.index is None) == (args.passages is None):
        raise UserError("give --index DIR, or --passages STORE --queries STORE")
    inputs = [args.questions, *(args.index or ()), args.passages, args.queries]
    files.check_file(args.output, inputs)
    questions = flags.questions_of(args)
    engine = {"encoder": args.encoder, "encoder_flags": flags.encoder_flags(args)}
    engine |= {"hits": args.hits, **flags.engine(args)}
    if args.index is not None:
        flags.refuse(
            "takes --passages and --queries; an index is fused already",
            alpha=args.alpha,
            beta=args.beta,
            fusion=args.fusion,
            languages=args.languages,
            center=args.center,
            normalize=args.normalize,
            language_aware=args.language_aware,
            queries=args.queries,
            num_queries=args.num_queries,
        )
        index = args.index[0] if len(args.index) == 1 else args.index
        run = search_index(index, questions, **engine)
    else:
        run = search_stores(_fused(args), questions, language_aware=args.language_aware, **engine)
    tag = "xqg-" + re.sub(r"\s+", "-", Path(args.output).stem)
    data.write_run(args.output, run, tag)
    hits = sum(map(len, run.values()))
    summary = {"run": str(args.output), "questions": len(run), "hits": hits, "tag": tag}
    flags.show(args, summary, f"{args.output}: {len(run)} questions, {hits} hits")


def _fused(args: argparse.Namespace) -> Any:
    from xqg_pyserini.fusion.fused import FusedPassages
    from xqg_pyserini.stores import QueryStore, VectorStore

    if args.queries is None:
        raise UserError("searching the stores takes --queries STORE beside --passages")
    passages = VectorStore(args.passages)
    return FusedPassages(
        passages,
        QueryStore(args.queries, args.num_queries),
        flags.fusion_of(args, passages.normalized),
        skip_unknown=args.skip_unknown,
        allow_unequal=args.allow_unequal,
        language_aware=args.language_aware,
    )
