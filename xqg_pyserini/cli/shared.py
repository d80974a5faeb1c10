"""Flags that several commands have, and what is made of them: questions, encoders, fusions."""

import argparse
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xqg_pyserini import data
from xqg_pyserini.cli.flags import (
    Flags,
    Parser,
    add_settings,
    dest_of,
    help_text,
    numbers,
    positive,
    refuse,
    settings_of,
    show,
    typed,
)
from xqg_pyserini.errors import UserError
from xqg_pyserini.settings import options

if TYPE_CHECKING:  # commands that score runs import no encoders and no stores
    from xqg_pyserini.models.encoder import Encoded, Encoder
    from xqg_pyserini.retrieve.fused import Fused
    from xqg_pyserini.retrieve.sharding import WrittenShards
    from xqg_pyserini.stores import ShardSettings


def add_corpus(parser: Parser, required: bool = False, help: str | None = None) -> None:
    help = help or "file, directory, pattern, hf:NAME or irds:NAME"
    parser.add_argument("--corpus", required=required, metavar="PATH", help=help)
    add_settings(parser.add_argument_group("corpus"), data.CorpusFields)


def corpus_of(args: argparse.Namespace) -> Any:
    """Return the `CorpusFile` that was typed, None where none was."""
    fields = typed(args, options(data.CorpusFields))
    if args.corpus is None:
        refuse("says how the corpus is read: give --corpus too", **fields)
        return None
    return data.CorpusFile(args.corpus, **fields)


def add_questions(parser: Parser, flag: str = "--questions", required: bool = True) -> None:
    what = "JSON Lines (XOR-TyDi's, Pyserini's, …) or TSV (id, tab, question); of several files with a language "
    what += "each, ids begin with the language"
    parser.add_argument(flag, required=required, nargs="+", dest="questions", metavar="FILE", help=what)
    what = "language of questions that name none (TSV); or one for each file"
    parser.add_argument("--language", nargs="+", metavar="xx", help=what)
    add_settings(parser.add_argument_group("questions"), data.QuestionFields)


def question_files(args: argparse.Namespace) -> data.QuestionFiles:
    """Return the questions that were typed, in the language or languages that were typed."""
    paths, languages = args.questions, args.language or []
    fields = typed(args, options(data.QuestionFields))
    if len(languages) > 1:
        return data.QuestionFiles(dict(_by_language(languages, paths, "questions")), **fields)
    return data.QuestionFiles(paths[0] if len(paths) == 1 else paths, *languages, **fields)


def _by_language(languages: list[str], paths: list[str], what: str) -> Iterator[tuple[str, str]]:
    if len(languages) != len(paths):
        what = f"{len(languages)} languages and {len(paths)} files of {what}"
        raise UserError(f"{what}: give one language for each file", "language")
    return zip(data.check_languages(languages), paths, strict=True)


def questions_of(args: argparse.Namespace) -> list[data.Question]:
    return data.read_questions(question_files(args))


def run_files(args: argparse.Namespace, paths: Iterable[str]) -> list[data.RunFile]:
    """Return run files, to be read in the order that was typed."""
    return [data.RunFile(path, **typed(args, options(data.RunSettings))) for path in paths]


def tag_of(run: str) -> str:
    """Return the tag of a run that is written to a file."""
    return "xqg-" + re.sub(r"\s+", "-", Path(run).stem)


def add_qrels(parser: Parser, help: str) -> None:
    parser.add_argument("--qrels", nargs="+", metavar="FILE", help=f"{help}; several as --questions takes them")


def qrels_of(args: argparse.Namespace) -> Any:
    """Return the qrels that were typed: None, a file, or those of several files."""
    if args.qrels is None or len(args.qrels) == 1:
        return args.qrels and args.qrels[0]
    return data.read_qrels(dict(_by_language(args.language or [], args.qrels, "qrels")))


def add_queries(parser: Flags, required: bool = True) -> None:
    what = 'JSON Lines {"docid", "generated_queries": {"ar": […]}}: file, directory, pattern'
    parser.add_argument("--queries", required=required, metavar="PATH", help=what)


def add_shards(flags: Flags, settings: type | None = None) -> None:
    """Add --num-shards, as a settings class (default: `ShardSettings`) has it, --shard and --cluster."""
    from xqg_pyserini.stores import ShardSettings

    add_settings(flags, settings or ShardSettings, only=("num_shards",), optional=True)
    many: Any = {"nargs": "+", "action": "extend", "type": numbers, "metavar": "I"}
    what = "write only these, counted from 0: 7, or 0-31 (default: all)"
    flags.add_argument("--shard", dest="shards", help=what, **many)
    add_settings(flags, settings or ShardSettings, only=("cluster",))


def chosen_shards(args: argparse.Namespace) -> tuple[int, ...] | None:
    """Return the shards that were typed, None where none was."""
    return None if args.shards is None else tuple(i for span in args.shards for i in span)


def shards_of(args: argparse.Namespace) -> "ShardSettings | None":
    """Return into what shards the output is to be cut; None for none."""
    from xqg_pyserini.stores import ShardSettings, check_chosen

    chosen = chosen_shards(args)
    check_chosen(args.num_shards, chosen)
    return None if args.num_shards is None else ShardSettings(args.num_shards, chosen, args.cluster)


def show_shards(args: argparse.Namespace, written: "WrittenShards") -> None:
    """Print what became of the shards that were asked for."""
    asked, new = len(written.shards), len(written.written)
    show(args, written._asdict(), f"{written.output}: {asked} of {written.num_shards} shards, {new} written now")


def add_encoder(parser: Parser) -> None:
    from xqg_pyserini.models.engines import Computing
    from xqg_pyserini.models.registry import EncoderOptions

    group = parser.add_argument_group("encoder")
    add_settings(group, EncoderOptions)
    add_settings(group, Computing)


def encoder_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what was typed about the encoder beside its name, as `Encoder` takes it."""
    from xqg_pyserini.models.engines import Computing
    from xqg_pyserini.models.registry import EncoderOptions

    return typed(args, [*options(EncoderOptions), *options(Computing)])


def refuse_encoder(args: argparse.Namespace, why: str, **given: Any) -> None:
    """Raise the error of the first flag about an encoder, or of `given`, that was typed where no encoder is loaded."""
    from xqg_pyserini.models.engines import Computing
    from xqg_pyserini.models.registry import EncoderOptions

    either = [*options(EncoderOptions), *options(Computing)]
    refuse(why, **given, **{option.flag: vars(args)[dest_of(option)] for option in either})


def encoder_of(args: argparse.Namespace) -> "Encoder":
    from xqg_pyserini.models.encoder import Encoder

    return Encoder(args.encoder, **encoder_options(args))


def encoder_for(args: argparse.Namespace, store: "Encoded") -> "Encoder":
    """Return the `Encoder` of a store or an index, which what was typed must not contradict."""
    from xqg_pyserini.models.encoder import Encoder

    return Encoder.for_store(store, args.encoder, **encoder_options(args))


def add_fusion(parser: Parser) -> None:
    """Add what decides how queries are mixed in, and below the help what it means."""
    from xqg_pyserini.fusion.formula import FusionSettings
    from xqg_pyserini.fusion.fused import Tolerances

    parser.epilog = help_text("fusion")
    group = parser.add_argument_group("fusion")
    add_settings(group, FusionSettings)
    what = "mix in the first K queries a language, where accumulate kept them (default: all)"
    group.add_argument("--num-queries", type=positive, metavar="K", help=what)
    add_settings(group, Tolerances)


def fused_of(args: argparse.Namespace, sums: str | None = None) -> "Fused":
    """Return the stores of --passages and of --queries, or of `sums`, `Fused` as was typed."""
    from xqg_pyserini.fusion.formula import FusionSettings
    from xqg_pyserini.fusion.fused import Tolerances
    from xqg_pyserini.retrieve.fused import Fused
    from xqg_pyserini.stores import QueryStore, VectorStore

    passages = VectorStore(args.passages)
    settings = settings_of(args, FusionSettings)
    if settings.languages is not None:
        data.check_languages(settings.languages)
    queries = QueryStore(sums or args.queries, args.num_queries)
    fusion = settings.complete(passages.normalized, args.language_aware)
    return Fused(passages, queries, fusion, settings_of(args, Tolerances), own=args.language_aware)


def refuse_fusion(args: argparse.Namespace, why: str, but: Collection[str] = ()) -> None:
    """Raise the error of the first flag of the fusion that was given where nothing is fused."""
    from xqg_pyserini.fusion.formula import FusionSettings

    given = {option.flag: vars(args)[dest_of(option)] for option in options(FusionSettings)}
    given |= {"num_queries": args.num_queries, "language_aware": args.language_aware}
    refuse(why, **{flag: value for flag, value in given.items() if flag not in but})
