"""`xqg search`."""

import argparse
from typing import Any

from xqg_pyserini import data, files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.errors import UserError
from xqg_pyserini.fusion.alignment import Alignment
from xqg_pyserini.retrieve.search import Index, SearchSettings


def add_flags(parser: Parser) -> None:
    what = "an index of ours, in shards or not, or any Faiss index of Pyserini's; or a language-aware one, whole or "
    what += "some of its folders: then each question goes to its own language's"
    parser.add_argument("--index", nargs="+", action="extend", metavar="DIR", help=what)
    parser.add_argument("--passages", metavar="STORE", help="search the stores instead of an index")
    parser.add_argument("--queries", metavar="STORE")
    what = "mix in only the queries of each question's own language (takes the stores)"
    parser.add_argument("--language-aware", action="store_true", help=what)
    shared.add_questions(parser, "--topics")
    parser.add_argument("--encoder", metavar="NAME", help="default: what the index or store was made with")
    what = "put each question right by its language (xqg align makes it); on any index, in place of its own centring"
    parser.add_argument("--align", metavar="ALIGNMENT", help=what)
    flags.add_settings(parser, SearchSettings)
    what = "docids are those of passages up to this (doc#3), and a passage scores as its best (default: as xqg encode "
    what += "--queries made it; else whole)"
    parser.add_argument("--delimiter", metavar="TEXT", help=what)
    parser.add_argument("--output", required=True, metavar="RUN", help="the TREC run to write")
    shared.add_encoder(parser)
    shared.add_fusion(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    if (args.index is None) == (args.passages is None):
        raise UserError("give --index DIR, or --passages STORE --queries STORE")
    inputs = [*args.questions, *(args.index or ()), args.passages, args.queries, args.align]
    files.check_file(args.output, inputs)
    hits = flags.settings_of(args, SearchSettings).hits
    questions = shared.questions_of(args)
    alignment = None if args.align is None else Alignment(args.align)
    if args.index is not None:
        why = "takes --passages and --queries; an index is fused already"
        shared.refuse_fusion(args, why)
        flags.refuse(why, queries=args.queries)
        index = Index(args.index)
        says = index if index.encoder is not None or alignment is None else alignment
        encoder = shared.encoder_for(args, says)
        how: Any = {"encoder": encoder, "align": alignment, "threads": args.threads, "delimiter": args.delimiter}
        run = index.search(questions, hits, **how)
    else:
        flags.refuse("takes --index: stores have a vector a passage", delimiter=args.delimiter)
        if args.queries is None:
            raise UserError("searching the stores takes --queries STORE beside --passages")
        fused = shared.fused_of(args)
        encoder = shared.encoder_for(args, fused.passages)
        run = fused.search(questions, hits, encoder=encoder, align=alignment, threads=args.threads)
    tag = shared.tag_of(args.output)
    data.write_run(args.output, run, tag)
    total = sum(map(len, run.values()))
    summary = {"run": str(args.output), "questions": len(run), "hits": total, "tag": tag}
    flags.show(args, summary, f"{args.output}: {len(run)} questions, {total} hits")
