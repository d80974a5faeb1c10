"""`xqg generate`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from xqg_pyserini import files
from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.filter import add_rules, rules_of, table_of, titled
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.data import check_languages, find_language
from xqg_pyserini.errors import UserError, warn
from xqg_pyserini.generate.check import QueryCheck, check_queries
from xqg_pyserini.generate.cost import estimate
from xqg_pyserini.generate.job import GenerationJob, JobSettings
from xqg_pyserini.generate.rules import TextRules
from xqg_pyserini.generate.settings import GeneratorSettings
from xqg_pyserini.metadata import read_json
from xqg_pyserini.models.encoder import Encoder
from xqg_pyserini.retrieve.through import generate_and_accumulate
from xqg_pyserini.settings import options
from xqg_pyserini.stores import VectorStore

SAMPLING = ("prompt", "chat", "top_k", "top_p", "temperature", "max_new_tokens", "max_input_tokens", "seed")


def add_flags(parser: Parser) -> None:
    shared.add_corpus(parser, help="JSON Lines, TSV or CSV, as for encode")
    flags.add_settings(parser, GeneratorSettings, only=("model", "languages", "num_queries"), optional=True)
    parser.add_argument("--output", metavar="DIR", help="the folder of query shards to write")
    flags.add_overwrite(parser)
    flags.add_settings(parser.add_argument_group("sampling"), GeneratorSettings, only=SAMPLING)
    group = parser.add_argument_group("machine")
    flags.add_settings(group, GeneratorSettings, only=("backend", "precision"))
    flags.add_settings(group, JobSettings, only=("devices", "batch_size", "threads"))
    group = parser.add_argument_group("shards")
    shared.add_shards(group, JobSettings)
    group.add_argument("--estimate", action="store_true", help="time a sample, print hours and GB, write nothing")
    add_rules(parser, "filter")
    group = parser.add_argument_group("more than generating, or other than that")
    group.add_argument("--passages", metavar="STORE", help="passage store, for --accumulate")
    group.add_argument("--accumulate", metavar="STORE", help="also write this query store, straight through")
    group.add_argument("--check", metavar="DIR", help="report what is in a folder of queries instead")
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    if args.check is not None:
        _check(args)
        return
    needed = {name: vars(args)[name] for name in ("corpus", "model", "languages", "output")}
    flags.need("(or --check DIR to look at a folder of queries)", **needed)
    if (args.accumulate is None) != (args.passages is None):
        raise UserError("--accumulate STORE and --passages STORE go together: give both")
    if args.accumulate is not None:
        files.check_output(args.accumulate, args.overwrite, [args.corpus, args.passages])
    if args.cluster is not None:
        flags.refuse("is of one machine, and --cluster of many", estimate=args.estimate, accumulate=args.accumulate)
    rules = rules_of(args)
    corpus = shared.corpus_of(args)
    job = GenerationJob(
        corpus,
        flags.settings_of(args, GeneratorSettings),
        args.output,
        replace(flags.settings_of(args, JobSettings), shards=shared.chosen_shards(args)),
        rules=None if args.rules is None else rules,
        overwrite=args.overwrite,
        protected=[args.passages, args.accumulate],
    )
    if args.estimate:
        _estimate(args, job)
    else:
        _write(args, job)


def _check(args: argparse.Namespace) -> None:
    sampling = [option for option in options(GeneratorSettings) if option.name in SAMPLING]
    idle = {name: vars(args)[name] for name in ("model", "output", "estimate", "accumulate")}
    idle |= {
        "cluster": args.cluster,
        "shard": args.shards,
        "num_shards": args.num_shards,
        **flags.typed(args, sampling),
        "filter": args.rules,
    }
    flags.refuse("is for writing; --check DIR reads", **idle)
    num_queries, asked = _expected(args)
    lengths = [option for option in options(TextRules) if option.name != "rules"]
    check = check_queries(args.check, shared.corpus_of(args), num_queries, **flags.typed(args, lengths))
    absent = [language for language in asked if find_language(language, check.languages) is None]
    if absent:
        warn(f"{args.check} has no queries in {' '.join(absent)}, which were asked for")
    flags.show(args, check.as_json(), check_text(check))


def _expected(args: argparse.Namespace) -> tuple[int | None, list[str]]:
    """Return how many queries in which languages there should be: as given, or as meta.json says, if it is there."""
    path = Path(args.check) / "meta.json"
    meta = read_json(path, dict[str, Any], "mend or remove it") if path.is_file() else {}
    number = meta.get("num_queries") if args.num_queries is None else args.num_queries
    return number, list(check_languages(args.languages or meta.get("languages", ())))


def _estimate(args: argparse.Namespace, job: GenerationJob) -> None:
    cost = estimate(job)
    minutes, megabytes = 60 * cost.hours, 1000 * cost.gigabytes
    if cost.hours >= 1:
        time = f"{cost.hours:,.1f} hours"
    else:
        time = f"{minutes:.1f} minutes" if minutes >= 1 else f"{60 * minutes:.0f} seconds"
    size = f"{cost.gigabytes:,.1f} GB" if cost.gigabytes >= 1 else f"{max(0.1, megabytes):.1f} MB"
    shards = f"{len(job.pending())} of {job.plan.number} shards"
    pace = f"{cost.passages_per_second:,.2f} passages/s, {cost.queries_per_second:,.1f} queries/s"
    text = (
        f"{cost.passages:,} passages, {cost.queries:,} queries to write ({shards})\n"
        f"{pace} with {len(job.devices)} x {job.devices[0]}, from {cost.sample} passages\n"
        f"about {time} and {size} on disk; nothing was written"
    )
    flags.show(args, cost._asdict(), text)


def _write(args: argparse.Namespace, job: GenerationJob) -> None:
    store = None
    if args.accumulate is None:
        for _ in job.run():
            pass
    else:
        passages = VectorStore(args.passages)
        encoder = Encoder.for_store(passages, device=job.devices[0], threads=args.threads)
        store = generate_and_accumulate(job, passages, args.accumulate, encoder=encoder, overwrite=args.overwrite)
    done = job.summary()
    lines = [
        f"{done.output}: {done.shards} of {job.plan.number} shards, {done.written} written now: "
        f"{done.passages} passages, {done.queries} queries in {done.seconds:.0f} s"
    ]
    for rule, languages in done.dropped.items():
        each = " ".join(f"{language} {n}" for language, n in languages.items())
        lines.append(f"dropped now, {rule}: {sum(languages.values())} ({each})")
    if store is not None:
        lines.append(f"{args.accumulate}: {store.meta['queries']} queries added up")
    if done.cut:
        warn(f"{done.cut} passages were cut to fit --max-input-tokens {job.settings.max_input_tokens}")
    flags.show(args, done._asdict(), "\n".join(lines))


def check_text(check: QueryCheck) -> str:
    """Return the report for people: a table by language, and what the corpus lacks."""
    lines = [f"{check.source}: {check.records} records, {check.passages} passages"]
    coverage = check.coverage
    rows = []
    for language, counts in check.languages.items():
        row: dict[str, Any] = {"language": language, "passages": counts.passages}
        if coverage is not None:
            row["of corpus"] = f"{counts.passages / coverage.passages:.1%}"
        row |= {"queries": counts.queries, "min": counts.least, "mean": f"{counts.mean:.2f}"}
        row |= {"max": counts.most, **titled(counts.dropped)}
        if check.num_queries is not None:
            row[f"under {check.num_queries}"] = counts.short
        rows.append(row)
    if rows:
        lines += ["", table_of(rows), ""]
    if coverage is not None:
        share = 100 * coverage.covered / coverage.passages
        lines.append(f"{coverage.covered} of {coverage.passages} passages of the corpus have queries ({share:.2f}%)")
        if bare := coverage.passages - coverage.covered:
            lines.append(f"{bare} have none: {_ids(coverage.without, bare)}")
        if coverage.unknown:
            what = f"{coverage.unknown} records are for passages that the corpus does not hold, and were not counted"
            lines.append(f"{what}: {_ids(coverage.unknown_ids, coverage.unknown)}")
    return "\n".join(lines)


def _ids(ids: tuple[str, ...], of: int) -> str:
    return ", ".join(ids) + (", …" if of > len(ids) else "")
