"""`xqg generate`."""

import argparse
import json
from pathlib import Path
from typing import Any

from xqg_pyserini import files
from xqg_pyserini.cli import flags
from xqg_pyserini.cli.rules import add_rules, lengths_of, rules_of
from xqg_pyserini.errors import UserError, warn

EPILOG = """\
A model is a Hugging Face name (where its hub or cache has it) or a folder: an encoder-decoder (mT5,
T5, ByT5, NLLB, …; published: ielabgroup/xor-tydi-docTquery-mt5-base) or a causal language model.
A prompt file is text with {passage}, {language} (its English name) or {code}, and {title}.

--output gets shards, each whole or absent; the same command goes on after a kill, and ends with the
same bytes.  Many machines: the same --num-shards for all, to each its own --shard numbers.
Straight through: --passages STORE --accumulate STORE encodes and sums the queries as they come.

  xqg generate --corpus C --model M --languages ar bn --output D --estimate   what it would cost
  xqg generate --check D --corpus C                                           what is in a folder"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg generate`."""
    parser.add_argument("--corpus", metavar="PATH", help="JSON Lines or TSV, as for encode")
    parser.add_argument("--model", metavar="NAME", help="Hugging Face name or folder")
    parser.add_argument(
        "--languages", nargs="+", metavar="xx", help="ISO 639-1 codes, e.g. ar bn fi"
    )
    parser.add_argument(
        "--num-queries", type=int, metavar="N", help="queries a passage and language (default 5)"
    )
    parser.add_argument("--output", metavar="DIR", help="the folder of query shards to write")
    flags.add_overwrite(parser)
    _add_sampling(parser)
    _add_machine(parser)
    _add_shards(parser)
    add_rules(parser, "--filter")
    group = parser.add_argument_group("more than generating, or other than that")
    group.add_argument("--passages", metavar="STORE", help="passage store, for --accumulate")
    group.add_argument(
        "--accumulate", metavar="STORE", help="also write this query store, straight through"
    )
    group.add_argument(
        "--check", metavar="DIR", help="report what is in a folder of queries instead"
    )
    flags.add_json(parser)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument("--prompt", metavar="FILE", help="prompt template (default: published)")
    group.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        help="put the prompt into the tokenizer's chat template (default: where it has one)",
    )
    group.add_argument(
        "--top-k",
        type=int,
        metavar="N",
        help="sample from the N best tokens (default 10; 1: greedy, 0: all)",
    )
    group.add_argument("--temperature", type=float, metavar="T", help="default 1")
    group.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="longest query in tokens (default 64)"
    )
    group.add_argument(
        "--max-input-tokens",
        type=int,
        metavar="N",
        help="longest prompt; longer passages are cut (default 512)",
    )
    group.add_argument("--seed", type=flags.count, metavar="N", help="default 42")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--backend",
        choices=["transformers", "ctranslate2"],
        default="transformers",
        help="ctranslate2 (extra ct2) converts an encoder-decoder once, and is faster",
    )
    group.add_argument(
        "--device",
        nargs="+",
        default=["auto"],
        help="auto (default), cpu, cuda; one worker a device, cuda: every GPU",
    )
    group.add_argument(
        "--precision",
        choices=["auto", "fp32", "fp16", "bf16", "int8"],
        default="auto",
        help="auto: bf16 on a GPU, fp32 on the CPU, int8 there with ctranslate2",
    )
    group.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="queries at once (default 64)"
    )
    flags.add_threads(group)


def _add_shards(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("shards")
    group.add_argument(
        "--num-shards",
        type=int,
        metavar="N",
        help="shards of the whole corpus (default: of 64 passages, at most 4096)",
    )
    group.add_argument(
        "--shard",
        nargs="+",
        action="extend",
        type=flags.numbers,
        metavar="I",
        help="write only these, counted from 0: 7, or 0-31 (default: all)",
    )
    group.add_argument(
        "--estimate", action="store_true", help="time a sample, print hours and GB, write nothing"
    )


def run(args: argparse.Namespace) -> None:
    """Run `xqg generate`."""
    from xqg_pyserini.generate.job import GenerationJob
    from xqg_pyserini.generate.prompts import read_template
    from xqg_pyserini.generate.settings import choose_settings

    if args.check is not None:
        _check(args)
        return
    flags.need(
        "(or --check DIR to look at a folder of queries)",
        corpus=args.corpus,
        model=args.model,
        languages=args.languages,
        output=args.output,
    )
    if (args.accumulate is None) != (args.passages is None):
        raise UserError("--accumulate STORE and --passages STORE go together: give both")
    if args.accumulate is not None:
        files.check_output(args.accumulate, args.overwrite, [args.corpus, args.passages])
    settings = choose_settings(
        args.model,
        args.languages,
        backend=args.backend,
        prompt=None if args.prompt is None else read_template(args.prompt),
        chat=args.chat,
        precision=args.precision,
        device=args.device[0],
        num_queries=args.num_queries,
        **_sampling(args),
    )
    job = GenerationJob(
        args.corpus,
        settings,
        args.output,
        num_shards=args.num_shards,
        shards=None if args.shard is None else [i for span in args.shard for i in span],
        devices=args.device,
        batch_size=args.batch_size,
        rules=rules_of(args),
        overwrite=args.overwrite,
        protected=[args.passages, args.accumulate],
    )
    if args.estimate:
        _estimate(args, job)
    else:
        _write(args, job)


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "top_k": args.top_k,
        "temperature": args.temperature,
        "max_new_tokens": args.max_new_tokens,
        "max_input_tokens": args.max_input_tokens,
        "seed": args.seed,
    }


def _check(args: argparse.Namespace) -> None:
    from xqg_pyserini.generate.check import check_queries, check_text

    flags.refuse(
        "is for writing; --check DIR reads",
        model=args.model,
        output=args.output,
        estimate=args.estimate,
        accumulate=args.accumulate,
        prompt=args.prompt,
        shard=args.shard,
        num_shards=args.num_shards,
        **_sampling(args),
        filter=args.rules,
    )
    num_queries, asked = _expected(args)
    check = check_queries(args.check, args.corpus, num_queries, **lengths_of(args))
    absent = [language for language in asked if language not in check.languages]
    if absent:
        warn(f"{args.check} has no queries in {' '.join(absent)}, which were asked for")
    flags.show(args, check.as_json(), check_text(check))


def _expected(args: argparse.Namespace) -> tuple[int | None, list[str]]:
    """Return how many queries in which languages there should be: as given, or as meta.json says.

    A folder that xqg did not write says nothing.
    """
    path = Path(args.check) / "meta.json"
    meta: dict[str, Any] = {}
    if path.is_file():
        try:
            meta = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: broken JSON ({error})") from None
    number = meta.get("num_queries") if args.num_queries is None else args.num_queries
    return number, list(args.languages or meta.get("languages", ()))


def _estimate(args: argparse.Namespace, job: Any) -> None:
    from xqg_pyserini.generate.cost import estimate

    cost = estimate(job)
    text = (
        f"{cost.passages:,} passages, {cost.queries:,} queries to write "
        f"({len(job.pending())} of {job.plan.number} shards)\n"
        f"{cost.passages_per_second:,.2f} passages/s, {cost.queries_per_second:,.1f} queries/s "
        f"with {len(job.devices)} x {job.devices[0]}, from {cost.sample} passages\n"
        f"about {cost.duration} and {cost.size} on disk; nothing was written"
    )
    flags.show(args, cost._asdict(), text)


def _write(args: argparse.Namespace, job: Any) -> None:
    if args.accumulate is None:
        for _ in job.run():
            pass
        store = None
    else:
        from xqg_pyserini.retrieve.through import generate_and_accumulate

        store = generate_and_accumulate(
            job, args.passages, args.accumulate, device=job.devices[0], overwrite=args.overwrite
        )
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
        warn(
            f"{done.cut} passages were cut to fit --max-input-tokens "
            f"{job.settings.max_input_tokens}"
        )
    flags.show(args, done._asdict(), "\n".join(lines))
