"""`xqg train retriever` and `xqg train generator`."""

import argparse
from typing import Any

from xqg_pyserini.cli import flags
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.train.settings import TRAININGS, read_settings, training_options


def add_flags(parser: Parser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, text in (("retriever", "a bi-encoder"), ("generator", "what xqg generate writes queries with")):
        below = flags.help_text(f"train-{name}")
        kind = kinds.add_parser(name, help=text, description=f"Train a {name}.", epilog=below)
        what = "YAML with any of the settings below, or a shipped recipe: xdr"
        kind.add_argument("--config", metavar="FILE", help=what)
        for option in training_options(TRAININGS[name]):
            option = option._replace(required=False)  # a YAML file may have it
            flags.add_setting(kind, option, extend=True, negatable=True)
        flags.add_overwrite(kind)
        flags.add_json(kind)
        kind.add_argument("--verbose", action="store_true", help="show third-party logs, tracebacks")
        if name == "generator":  # known, so that it can be refused with a reason
            kind.add_argument("--synthetic", nargs="+", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
    if args.kind == "generator":
        flags.refuse("is for xqg train retriever; a generator writes such queries", synthetic=args.synthetic)
    cls = TRAININGS[args.kind]
    settings: Any = read_settings(cls, args.config, flags.typed(args, training_options(cls)))
    # these import torch
    from xqg_pyserini.train.generator import train_generator
    from xqg_pyserini.train.retriever import train_retriever

    train = train_generator if args.kind == "generator" else train_retriever
    record = train(settings, args.overwrite)
    flags.show(args, record, training_text(record, settings.output))


def training_text(record: dict[str, Any], output: str) -> str:
    """Return the summary of a training's record, with hybrid-lora's modules."""
    from tabulate import tabulate

    lines = []
    if record.get("modules"):
        rows = [{**m, "chosen": "full" if m["chosen"] else "lora"} for m in record["modules"]]
        head = "What the best approximation of rank r loses of each module's gradient:"
        lines += [head, "", tabulate(rows, "keys"), ""]
    n, of, pace = (record[key] for key in ("trainable_parameters", "parameters", "seconds_per_step"))
    lines.append(f"{record['method']}: {n:,} of {of:,} parameters trained ({n / of:.2%})")
    steps = f"{record['steps']} steps, loss {record['loss']:.4f}"
    took = "no step was taken here" if pace is None else f"{pace:.3f} seconds a step"
    lines.append(f"{steps}; {took}; peak memory {record['peak_memory_bytes'] / 1e9:.2f} GB")
    if record.get("best_metric") is not None:
        metric = next(key for key in record["validation"][0] if key != "step")
        value = f"{record['best_metric']:.{4 if metric == 'loss' else 2}f}"
        lines.append(f"best validation {metric} {value} at step {record['best_step']}")
    lines.append(f"{output}: {record['stored_bytes'] / 1e6:.2f} MB of weights, training.json, logs")
    return "\n".join(lines)
