"""`xqg encoders`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xqg_pyserini.cli import flags, shared
from xqg_pyserini.cli.flags import Parser
from xqg_pyserini.tables import Table

if TYPE_CHECKING:
    from xqg_pyserini.models.encoder import Encoded
    from xqg_pyserini.models.known import KnownEncoder

HEADERS = ("encoder", "runs by", "here", "pooling", "length 1", "tokens", "dimensions", "prefixes")


def add_flags(parser: Parser) -> None:
    what = "load this encoder, and compare it with the fingerprints that are stored of it"
    parser.add_argument("--check", dest="encoder", metavar="NAME", help=what)
    what = "a store or an index that --check's encoder must be the encoder of"
    parser.add_argument("--against", metavar="DIR", help=what)
    shared.add_encoder(parser)
    flags.add_json(parser)


def run(args: argparse.Namespace) -> None:
    if args.encoder is None:
        shared.refuse_encoder(args, "says what is checked: give --check too", against=args.against)
        _list(args)
        return
    from xqg_pyserini.models.known import check_encoder

    checked = check_encoder(shared.encoder_of(args), None if args.against is None else _opened(Path(args.against)))
    described = checked.description
    lines = [
        f"{described['name']}: {checked.dimension} dimensions, {described['precision']}, {described['fingerprint']}",
        f"the one of {' and '.join(checked.agrees_with)}",
    ]
    flags.show(args, checked._asdict(), "\n".join(lines))


def _opened(path: Path) -> "Encoded":
    from xqg_pyserini.retrieve.search import Index
    from xqg_pyserini.stores import COUNTS, META, QueryStore, VectorStore

    if not (path / META).is_file():
        return Index(path)
    return QueryStore(path) if (path / COUNTS).is_file() else VectorStore(path)


def _list(args: argparse.Namespace) -> None:
    from xqg_pyserini.models.known import known_encoders, packages

    known, versions = known_encoders(), packages()
    rows = [_row(encoder) for encoder in known]
    installed = [f"{name} {version}" if version else f"no {name}" for name, version in versions.items()]
    lines = [Table(HEADERS, rows, texts=len(HEADERS)).text(), "", f"Packages: {', '.join(installed)}"]
    value = {
        "encoders": [
            {**one.settings.record(), "registered": one.registered, "here": one.here, "where": one.where}
            for one in known
        ],
        "packages": versions,
    }
    flags.show(args, value, "\n".join(lines))


def _row(encoder: "KnownEncoder") -> list[str]:
    said = encoder.settings
    lengths = [str(length) if length < 1 << 20 else "all" for length in (said.query_length, said.passage_length)]
    tokens = " / ".join(dict.fromkeys(lengths))
    prefixes = ", ".join(role for role in ("query", "passage") if said.prefix_for(role))
    pooling = "its own" if said.pooling in ("modules", "served") else said.pooling
    length_1 = {True: "yes", False: "no", None: "as it comes"}[said.normalize]
    kept = "all" if said.dimensions is None else str(said.dimensions)
    return [said.name, said.backend, encoder.where, pooling, length_1, tokens, kept, prefixes or "none"]
