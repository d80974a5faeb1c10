"""The study of alignment, cell by cell: what is done stays, and the tables are of what is done.

python studies/alignment/run.py DATA OUT --encoder e5=E5 [--encoder use=use-multilingual] [--only PATTERN …]
"""

import argparse
import fnmatch
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import xqg_pyserini as xqg
from alignment.cells import cells
from alignment.data import Loader
from alignment.tables import tables

E5 = {"pooling": "mean", "normalize": True, "query_prefix": "query: ", "passage_prefix": "passage: "}
E5 |= {"query_length": 512, "passage_length": 512}
SETTINGS: dict[str, dict[str, Any]] = {"e5": E5}  # of folders that do not say how they encode


def study(
    data: Path, output: Path, encoders: dict[str, str], only: Sequence[str], splits: int, **computing: Any
) -> None:
    """Run the cells whose names (KIND/COLLECTION/ENCODER) match a pattern, then write the tables of all.

    `computing` are the encoders' threads and precision.
    """
    for name, source in encoders.items():
        encoder = xqg.Encoder(source, **computing, **SETTINGS.get(name, {}))
        loaded = Loader(data, output, name, source, encoder)
        for cell in cells():
            path = output / "cells" / f"{cell.name.replace('/', '.')}.{name}.json"
            if not any(fnmatch.fnmatch(f"{cell.name}/{name}", pattern) for pattern in only):
                continue
            if path.exists() and json.loads(path.read_text("utf-8"))["splits"] == splits:
                continue
            begun = time.perf_counter()
            figures = cell.make(loaded, splits)
            record = {"cell": f"{cell.name}/{name}", "splits": splits, "figures": figures}
            record["seconds"] = round(time.perf_counter() - begun, 1)
            _write(path, json.dumps(record, ensure_ascii=False, indent=1))
            print(f"{cell.name}/{name}: {record['seconds']} s", flush=True)
    collect(output, list(encoders))


def collect(output: Path, encoders: Sequence[str]) -> None:
    """Write results.json and tables.md of all cells that are done."""
    order = [f"{cell.name}/{name}" for name in encoders for cell in cells()]
    records = [json.loads(path.read_text("utf-8")) for path in sorted((output / "cells").glob("*.json"))]
    done = {record.pop("cell"): record for record in records}
    names = [*(name for name in order if name in done), *(name for name in done if name not in order)]
    results = {name: done[name] for name in names}
    missing = [name for name in order if name not in done]
    _write(output / "results.json", json.dumps({"cells": results, "missing": missing}, ensure_ascii=False))
    _write(output / "tables.md", tables(results) + (f"\nNot run: {', '.join(missing)}.\n" if missing else ""))


def _write(path: Path, text: str) -> None:
    """Write a file that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="has xquad, mlqa, afriqa, belebele; read in place")
    parser.add_argument("output", type=Path, metavar="OUT", help="vectors, cells, results.json and tables.md")
    parser.add_argument("--encoder", action="append", required=True, metavar="NAME=SOURCE", help="e5=FOLDER, …")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="KIND/COLLECTION/ENCODER")
    parser.add_argument("--splits", type=int, default=3, help="cuts of the passages into halves")
    parser.add_argument("--threads", type=int, default=1, help="of the encoder")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of the encoder")
    args = parser.parse_args(arguments)
    encoders = dict(each.split("=", 1) for each in args.encoder if "=" in each)
    if len(encoders) < len(args.encoder):
        parser.exit(2, "encoder: expected NAME=SOURCE, each name once\n")
    try:
        how = {"threads": args.threads, "precision": args.precision}
        study(args.data, args.output, encoders, args.only, args.splits, **how)
    except xqg.UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
