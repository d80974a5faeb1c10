"""What each command does: parse what is left to parse, call one library function, print."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from xqg_pyserini import data, files
from xqg_pyserini.errors import UserError, warn

SAMPLING = ("num_queries", "top_k", "temperature", "max_new_tokens", "max_input_tokens", "seed")


def demo(args: argparse.Namespace) -> None:
    """Run `xqg demo`."""
    from xqg_pyserini.cli.demo import run_demo

    print(run_demo(args.output, args.overwrite))


def generate(args: argparse.Namespace) -> None:
    """Run `xqg generate`."""
    from xqg_pyserini.generate.job import GenerationJob
    from xqg_pyserini.generate.prompts import read_template
    from xqg_pyserini.generate.settings import choose_settings

    if args.check is not None:
        _check_queries(args)
        return
    for flag in ("corpus", "model", "languages", "output"):
        if getattr(args, flag) is None:
            raise UserError(f"give --{flag} (or --check DIR to look at a folder of queries)")
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
        **{name: getattr(args, name) for name in SAMPLING},
    )
    job = GenerationJob(
        args.corpus,
        settings,
        args.output,
        num_shards=args.num_shards,
        shards=None if args.shard is None else [i for some in args.shard for i in some],
        devices=args.device,
        batch_size=args.batch_size,
        rules=_text_rules(args),
        overwrite=args.overwrite,
        protected=[args.passages, args.accumulate],
    )
    if args.estimate:
        _estimate(args, job)
    else:
        _run_generation(args, job)


def filter(args: argparse.Namespace) -> None:
    """Run `xqg filter`."""
    from xqg_pyserini.generate.filter import filter_queries, filter_text

    report = filter_queries(
        args.queries,
        args.output,
        _text_rules(args),
        corpus=args.corpus,
        passages=args.passages,
        min_quantile=args.min_quantile,
        within=args.within,
        encoder=args.encoder,
        encoder_flags=_encoder_flags(args),
        skip_unknown=args.skip_unknown,
        overwrite=args.overwrite,
        **_engine(args),
    )
    _print(args, report.as_json(), filter_text(report, args.output))


def _text_rules(args: argparse.Namespace) -> Any:
    from xqg_pyserini.generate.rules import TextRules

    if "length" not in (args.rules or ()):
        _refuse(args, "min_length", "max_length", why="belongs to the rule length")
    lengths = {n: getattr(args, n) for n in ("min_length", "max_length")}
    given = {name: value for name, value in lengths.items() if value is not None}
    return None if args.rules is None else TextRules(tuple(args.rules), **given)


def _check_queries(args: argparse.Namespace) -> None:
    from xqg_pyserini.generate.check import check_queries, check_text

    writing = ("model", "output", "estimate", "accumulate", "prompt", "shard", "num_shards")
    _refuse(args, *writing, *SAMPLING[1:], "rules", why="is for writing; --check DIR reads")
    num_queries, asked = _expected(args)
    lengths = {n: getattr(args, n) for n in ("min_length", "max_length")}
    check = check_queries(
        args.check,
        args.corpus,
        num_queries,
        **{name: value for name, value in lengths.items() if value is not None},
    )
    absent = [language for language in asked if language not in check.languages]
    if absent:
        warn(f"{args.check} has no queries in {' '.join(absent)}, which were asked for")
    _print(args, check.as_json(), check_text(check))


def _expected(args: argparse.Namespace) -> tuple[int | None, list[str]]:
    """Return how many queries in which languages there should be: as given, or as meta.json says.

    A folder that xqg did not write says nothing.
    """
    meta = Path(args.check) / "meta.json"
    said: dict[str, Any] = {}
    if meta.is_file():
        try:
            said = json.loads(meta.read_text("utf-8"))
        except ValueError as error:
            raise UserError(f"{meta}: broken JSON ({error})") from None
    number = said.get("num_queries") if args.num_queries is None else args.num_queries
    return number, list(args.languages or said.get("languages", ()))


def _estimate(args: argparse.Namespace, job: Any) -> None:
    from xqg_pyserini.generate.cost import estimate

    found = estimate(job)
    text = (
        f"{found.passages:,} passages, {found.queries:,} queries to write "
        f"({len(job.pending())} of {job.plan.number} shards)\n"
        f"{found.passages_per_second:,.2f} passages/s, {found.queries_per_second:,.1f} queries/s "
        f"with {len(job.devices)} x {job.devices[0]}, from {found.sample} passages\n"
        f"about {found.duration} and {found.size} on disk; nothing was written"
    )
    _print(args, found._asdict(), text)


def _run_generation(args: argparse.Namespace, job: Any) -> None:
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
    _print(args, done._asdict(), "\n".join(lines))


def encode(args: argparse.Namespace) -> None:
    """Run `xqg encode`."""
    from xqg_pyserini.models.encoder import Encoder
    from xqg_pyserini.retrieve.encode import encode_passages

    encoder = Encoder(args.encoder, **_encoder_flags(args), **_engine(args))
    store = encode_passages(
        args.corpus, encoder, args.output, dtype=args.dtype, overwrite=args.overwrite
    )
    _print(args, store.meta, f"{args.output}: {store.n} passages, {store.d} dimensions")


def accumulate(args: argparse.Namespace) -> None:
    """Run `xqg accumulate`."""
    from xqg_pyserini.models.encoder import Encoder
    from xqg_pyserini.retrieve.accumulate import AccumulateSettings, accumulate_queries
    from xqg_pyserini.stores import VectorStore

    passages = VectorStore(args.passages)
    store = accumulate_queries(
        args.queries,
        passages,
        args.output,
        AccumulateSettings(args.dtype, args.skip_unknown, tuple(args.keep_counts)),
        encoder=Encoder.for_store(passages, args.encoder, **_encoder_flags(args), **_engine(args)),
        overwrite=args.overwrite,
    )
    totals = " ".join(f"{language} {n}" for language, n in store.totals().items())
    without = int((store.counts.sum(axis=1) == 0).sum())
    text = f"{args.output}: {store.meta['queries']} queries ({totals})"
    text += f"; {without} of {store.n} passages have none"
    _print(args, {**store.meta, "totals": store.totals(), "without_queries": without}, text)


def index(args: argparse.Namespace) -> None:
    """Run `xqg index`."""
    from xqg_pyserini.retrieve.index import write_index

    fusion = None
    if args.queries is not None:
        fused = _fused(args)
        fusion = fused.fusion
        meta = fused.write_index(
            args.output, args.type, overwrite=args.overwrite, announce=_announce
        ).meta
        what = f"{fusion} over {' '.join(fused.languages)}"
        if args.language_aware:
            what = f"{fusion}, one index each for {' '.join(meta['languages'])} and one for all"
    else:
        names = ("alpha", "beta", "fusion", "languages", "center", "num_queries", "language_aware")
        _refuse(args, *names, why="mixes in --queries")
        what = "passages alone"
        meta = write_index(
            args.passages,
            args.output,
            args.type,
            normalize=bool(args.normalize),
            overwrite=args.overwrite,
        ).meta
    text = f"{args.output}: {meta['n']} passages ({args.type}), {what}"
    if fusion and fusion.center:
        index = f"{args.output}/xx" if args.language_aware else args.output
        text += (
            "\nIt is centred: xqg search centres the questions too; in Pyserini, search each "
            f"language by itself with XQG_CENTER={index} XQG_LANGUAGE=xx"
        )
    _print(args, meta, text)


def _announce(text: str) -> None:
    print(f"xqg index: {text}", file=sys.stderr)


def search(args: argparse.Namespace) -> None:
    """Run `xqg search`."""
    from xqg_pyserini.models.encoder import Encoder
    from xqg_pyserini.retrieve.search import Index

    if (args.index is None) == (args.passages is None):
        raise UserError("give --index DIR, or --passages STORE --queries STORE")
    inputs = [args.questions, *(args.index or ()), args.passages, args.queries]
    files.check_file(args.output, inputs)
    questions = _questions(args)
    if args.index is not None:
        _refuse(
            args,
            "alpha",
            "beta",
            "fusion",
            "languages",
            "center",
            "normalize",
            "language_aware",
            "queries",
            "num_queries",
            why="takes --passages and --queries; an index is fused already",
        )
        searched: Any = Index(args.index)
        store: Any = searched
    else:
        searched = _fused(args)
        store = searched.passages
    encoder = Encoder.for_store(store, args.encoder, **_encoder_flags(args), **_engine(args))
    run = searched.search(questions, args.hits, encoder=encoder)
    tag = "xqg-" + re.sub(r"\s+", "-", Path(args.output).stem)
    data.write_run(args.output, run, tag)
    hits = sum(len(ranking) for ranking in run.values())
    summary = {"run": str(args.output), "questions": len(run), "hits": hits, "tag": tag}
    _print(args, summary, f"{args.output}: {len(run)} questions, {hits} hits")


def _fused(args: argparse.Namespace) -> Any:
    from xqg_pyserini.fusion.formula import FusionSettings
    from xqg_pyserini.fusion.fused import Liberties
    from xqg_pyserini.retrieve.fused import Fused
    from xqg_pyserini.stores import QueryStore, VectorStore

    if args.queries is None:
        raise UserError("searching the stores takes --queries STORE beside --passages")
    passages = VectorStore(args.passages)
    languages = None if args.languages is None else data.check_languages(args.languages)
    settings = FusionSettings(
        args.fusion, args.alpha, args.beta, languages, args.normalize, args.center
    )
    return Fused(
        passages,
        QueryStore(args.queries, args.num_queries),
        settings.complete(passages.normalized, args.language_aware),
        Liberties(args.allow_unequal, args.skip_unknown),
        own=args.language_aware,
    )


def sweep(args: argparse.Namespace) -> None:
    """Run `xqg sweep`."""
    from xqg_pyserini.models.encoder import Encoder
    from xqg_pyserini.report.results import record_inputs, results_json, write_results
    from xqg_pyserini.report.tables import results_text
    from xqg_pyserini.retrieve.sweep import SweepSettings, run_sweep
    from xqg_pyserini.settings import options
    from xqg_pyserini.stores import VectorStore

    names = ("passages", "queries", "questions", "corpus", "qrels")
    inputs = {name: getattr(args, name) for name in names}
    files.check_output(args.output, args.overwrite, inputs.values())
    given = {o.name: getattr(args, o.name, o.default) for o in options(SweepSettings)}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    given |= {name: given[name] or () for name in ("normalize", "center")}
    given["power"] = given["power"] or False
    settings = SweepSettings(**given, threads=args.threads)
    read = ("language", "with_title", "hits", "allow_unequal", "skip_unknown")
    recorded = record_inputs(args.output, **inputs, **{name: getattr(args, name) for name in read})
    store = VectorStore(args.passages)
    results = run_sweep(
        store,
        args.queries,
        _questions(args),
        settings,
        corpus=args.corpus,
        qrels=args.qrels,
        encoder=Encoder.for_store(store, args.encoder, **_encoder_flags(args), **_engine(args)),
    )
    results.inputs = recorded
    write_results(results, args.output, overwrite=args.overwrite, keep_runs=args.runs)
    if args.json:
        for note in results.scores.notes:
            warn(note)
    text = f"{results_text(results)}\n\nAll figures are in {args.output}"
    _print(args, results_json(results), text)


def evaluate(args: argparse.Namespace) -> None:
    """Run `xqg evaluate`."""
    from xqg_pyserini.evaluation.results import ComparingSettings, Results
    from xqg_pyserini.evaluation.scores import evaluate as score
    from xqg_pyserini.report.results import record_inputs, results_json, write_results
    from xqg_pyserini.report.tables import results_text

    if args.output is not None:
        inputs = [args.questions, args.corpus, args.qrels, *args.runs]
        files.check_output(args.output, args.overwrite, inputs)
    ComparingSettings(args.test, args.correction, args.level).check(args.metrics)
    names = ("questions", "runs", "corpus", "qrels", "language", "official", "with_title")
    recorded = None
    if args.output is not None:
        recorded = record_inputs(args.output, **{name: getattr(args, name) for name in names})
    scores = score(
        args.runs,
        _questions(args),
        args.metrics,
        corpus=args.corpus,
        qrels=args.qrels,
        official=args.official,
        with_title=args.with_title,
    )
    results = Results(scores.compare(args.test, args.correction, args.level), recorded)
    if args.output is not None:
        write_results(results, args.output, overwrite=args.overwrite)
    if args.json:
        for note in scores.notes:
            warn(note)
    _print(args, results_json(results), results_text(results, args.per_language))


def mine(args: argparse.Namespace) -> None:
    """Run `xqg mine`."""
    from xqg_pyserini.train.mine import Mining, mine_negatives, mining_text

    names = ["negatives", "positives", "depth", "skip", "margin", "sample", "seed", "keep_short"]
    names += ["with_title", "scores"]
    found = mine_negatives(
        args.questions,
        args.corpus,
        args.run,
        args.output,
        Mining(**{name: getattr(args, name) for name in names}),
        qrels=args.qrels,
        language=args.language,
    )
    _print(args, found.as_json(), mining_text(found))


def perturb(args: argparse.Namespace) -> None:
    """Run `xqg perturb`."""
    from xqg_pyserini.train.perturb import perturb_questions, perturb_text

    done = perturb_questions(
        args.questions,
        args.output,
        args.kind,
        args.rate,
        args.seed,
        language=args.language,
        parallel=args.parallel,
        dictionary=args.dictionary,
    )
    _print(args, done, perturb_text(done))


def report(args: argparse.Namespace) -> None:
    """Run `xqg report`."""
    from xqg_pyserini.report.page import write_page
    from xqg_pyserini.report.page_inputs import ExploreSettings

    output = Path(args.folder) / "report" if args.output is None else args.output
    files.check_output(output, args.overwrite)
    written = write_page(
        args.folder,
        output,
        ExploreSettings(
            args.questions,
            args.language,
            args.corpus,
            args.runs,
            args.explore,
            args.hits,
            args.seed,
        ),
        similarities=_similarities(args),
        overwrite=args.overwrite,
    )
    if written.explorer is not None and args.explore:
        warn(f"no explorer: {written.explorer}")
    text = f"{written.page}: {written.bytes / 1e6:.1f} MB, {written.plots} plots, "
    text += f"{written.questions} questions to explore"
    _print(args, {**written._asdict(), "page": str(written.page)}, text)


def _similarities(args: argparse.Namespace) -> Any:
    """Return what compares generated queries with questions; None without --queries."""
    from xqg_pyserini.models.encoder import Encoder
    from xqg_pyserini.report.explorer import similarities
    from xqg_pyserini.stores import VectorStore

    flags, engine = _encoder_flags(args), _engine(args)
    if args.queries is None:
        _refuse(args, "passages", "encoder", why="compares generated queries: give --queries too")
        return None
    files.expand(args.queries)
    store = encoder = None
    if args.passages is not None:
        store = VectorStore(args.passages)
        encoder = Encoder.for_store(store, args.encoder, **flags, **engine)
    elif args.encoder is not None:
        encoder = Encoder(args.encoder, **flags, **engine)
    return similarities(args.queries, store, encoder)


def inspect(args: argparse.Namespace) -> None:
    """Run `xqg inspect`."""
    from xqg_pyserini.fusion.geometry import examine_stores, table

    if len(args.stores) > 2:
        raise UserError(
            f"{len(args.stores)} stores; expected a passage store and, with it, its query store"
        )
    found = examine_stores(
        *args.stores, sample=args.sample, seed=args.seed, skip_unknown=args.skip_unknown
    )
    _print(args, found.as_json(), table(found))


def submit(args: argparse.Namespace) -> None:
    """Run `xqg submit`."""
    from xqg_pyserini.evaluation.submission import check_submission, write_submission

    questions = _questions(args)
    if args.check is not None:
        _refuse(args, "run", "output", why="writes a file; --check reads one")
        found = check_submission(args.check, questions, args.corpus)
        verdict = f"{args.check}: valid"
    else:
        for flag in ("run", "corpus", "output"):
            if getattr(args, flag) is None:
                raise UserError(f"give --{flag} (or --check FILE to validate one)")
        files.check_file(args.output, [args.run, args.corpus, args.questions])
        run = data.read_run(args.run)
        found = write_submission(questions, run, args.corpus, args.output, args.with_title)
        verdict = f"{args.output}: written"
    languages = " ".join(f"{language} {n}" for language, n in found.languages.items())
    _print(args, found._asdict(), f"{verdict}, {found.questions} questions ({languages})")


def train(args: argparse.Namespace) -> None:
    """Run `xqg train retriever` or `xqg train generator`."""
    from xqg_pyserini.train import settings as kinds

    if args.kind == "generator":
        _refuse(
            args, "synthetic", why="is for xqg train retriever; a generator writes such queries"
        )
    cls: Any = kinds.KINDS[args.kind]
    flags = {option.name: getattr(args, option.name) for option in kinds.options(cls)}
    settings = kinds.read_settings(cls, args.config, flags)
    from xqg_pyserini.train.report import training_text

    if args.kind == "generator":
        from xqg_pyserini.train.generator import train_generator

        record = train_generator(settings, args.overwrite)
    else:
        from xqg_pyserini.train.retriever import train_retriever

        record = train_retriever(settings, args.overwrite)
    _print(args, record, training_text(record, settings.output))


def reproduce(args: argparse.Namespace) -> None:
    """Run `xqg reproduce`."""
    from peft_unseen.runner import list_study, list_text, run_study

    inputs = (args.matrix, args.data, args.model, args.output)
    if args.list:
        cells = list_study(*inputs, args.only)
        _print(args, cells, list_text(cells))
        return
    done = run_study(*inputs, workers=args.workers, only=args.only)
    text = f"{args.output}: {done['done']} of {done['cells']} cells are done; see tables.md there"
    _print(args, done, text)


def pyserini(args: argparse.Namespace) -> None:
    """Run `xqg pyserini`."""
    from xqg_pyserini.bridge import run_module

    run_module(args.module, args.arguments, args.verbose)


def doctor(args: argparse.Namespace) -> int:
    """Run `xqg doctor`."""
    from xqg_pyserini.cli.doctor import demo_could_run, examine

    findings = examine()
    ready = demo_could_run(findings)
    lines = [
        f"{f.what:<26}{f.found}" + (f"\n{'':<26}→ {f.remedy}" if f.remedy else "") for f in findings
    ]
    lines.append(
        "\nThe demo can run: xqg demo" if ready else "\nThe demo cannot run; see the arrows"
    )
    value = {"demo": ready, "findings": [f._asdict() for f in findings]}
    _print(args, value, "\n".join(lines))
    return 0 if ready else 1


# ---------------------------------------------------------------- shared


def _print(args: argparse.Namespace, value: Any, text: str) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) if args.json else text)


def _questions(args: argparse.Namespace) -> list[data.Question]:
    return data.read_questions(args.questions, args.language)


def _encoder_flags(args: argparse.Namespace) -> dict[str, Any]:
    prefixes, lengths = ("query_prefix", "passage_prefix"), ("query_length", "passage_length")
    names = ("adapter", "pooling", *prefixes, *lengths)
    return {"normalize": args.l2_norm, **{name: getattr(args, name) for name in names}}


def _engine(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("device", "precision", "batch_size")}


def _refuse(args: argparse.Namespace, *names: str, why: str) -> None:
    for name in names:
        if getattr(args, name) not in (None, False):
            raise UserError(f"--{name.replace('_', '-')} {why}")
