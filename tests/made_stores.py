"""What tests need of stores: an engine that reads vectors off texts, and stores made by hand."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from conftest import write_jsonl

from xqg_pyserini.errors import XqgWarning
from xqg_pyserini.files import file_sha256
from xqg_pyserini.models import engines, registry
from xqg_pyserini.models.engines import Batches, Engine
from xqg_pyserini.models.registry import EncoderSettings, Role
from xqg_pyserini.retrieve import accumulate, encode
from xqg_pyserini.retrieve.accumulate import AccumulateSettings, accumulate_queries
from xqg_pyserini.retrieve.encode import encode_passages
from xqg_pyserini.stores import QueryStore, jobs

# --- an engine ------------------------------------------------------------------------------------


class FakeEncoder(Engine):
    """Reads a vector off a text: the numbers in it, then -1 for a query or +1 for a passage.

    `stop_after` counts down with every batch, and calls `stop` when it is used up; `seen` holds
    every text that was encoded; `weights` is what the fingerprint says; `loaded` counts models.
    """

    width, weights, stop_after, seen, loaded = 3, "w1", None, [], 0

    @staticmethod
    def stop():
        raise KeyboardInterrupt

    def _load(self) -> None:
        FakeEncoder.loaded += 1

    @property
    def dimension(self) -> int:
        return self.width + 1

    def embed(self, texts: list[str], role: Role) -> Batches:
        for part in ([i] for i in reversed(range(len(texts)))):  # batches come in any order
            if FakeEncoder.stop_after is not None:
                FakeEncoder.stop_after -= 1
                if FakeEncoder.stop_after < 0:
                    FakeEncoder.stop()
            yield part, np.array([self.vector(texts[i]) for i in part], dtype=np.float32)

    def vector(self, text: str) -> list[float]:
        FakeEncoder.seen.append(text)
        mark, *numbers = text.split()
        return [*map(float, numbers), {"q:": -1.0, "p:": 1.0}[mark]]

    def fingerprint(self) -> str:
        return FakeEncoder.weights


BACKENDS = (*registry.BACKENDS, "fake")
with patch.object(registry, "BACKENDS", BACKENDS):
    FAKE = EncoderSettings("fake", "fake", "none", query_prefix="q: ", passage_prefix="p: ")


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """The fake engine is known while a test of these modules runs, and to no other."""
    monkeypatch.setitem(engines.ENGINES, "fake", FakeEncoder)
    monkeypatch.setattr(registry, "BACKENDS", BACKENDS)


@pytest.fixture
def fake(monkeypatch):
    """The fake encoder's settings; chunks of two, a checkpoint after each."""
    monkeypatch.setattr(FakeEncoder, "stop_after", None)
    monkeypatch.setattr(FakeEncoder, "weights", "w1")
    monkeypatch.setattr(FakeEncoder, "width", 3)
    monkeypatch.setattr(FakeEncoder, "seen", [])
    monkeypatch.setattr(FakeEncoder, "loaded", 0)
    monkeypatch.setattr(encode, "CHUNK", 2)
    monkeypatch.setattr(accumulate, "CHUNK", 2)
    monkeypatch.setattr(jobs, "CHECKPOINT_SECONDS", -1)
    # a busy disk makes each of a hundred flushes slow; what is mapped is read back without them
    monkeypatch.setattr(np.memmap, "flush", lambda matrix: None)
    return FAKE


# --- stores made by hand --------------------------------------------------------------------------


def describe(normalize=False) -> dict:
    return {**FAKE.record(), "normalize": normalize, "precision": "fp32", "fingerprint": "w1"}


def write_passages(path: Path, ids, vectors, normalize=False) -> Path:
    """Make a passage store by hand, file by file."""
    path.mkdir(parents=True)
    vectors = np.asarray(vectors)
    np.save(path / "vectors.npy", vectors)
    (path / "ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    n, d = vectors.shape
    meta = {
        "format": 1, "kind": "passages", "n": n, "d": d, "dtype": vectors.dtype.name,
        "encoder": describe(normalize), "normalized": normalize,
        "ids_sha256": file_sha256(path / "ids.txt"),
        "vectors_sha256": file_sha256(path / "vectors.npy"), "sources": [],
    }  # fmt: skip
    (path / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return path


def write_sums(path: Path, ids, sums: dict, counts: dict, normalize=False) -> Path:
    """Make a store of query sums by hand: language → (n, d) sums, and (n,) counts."""
    path.mkdir(parents=True)
    for language, matrix in sums.items():
        np.save(path / f"sum-{language}.npy", np.asarray(matrix))
    np.save(path / "counts.npy", np.array([counts[l] for l in sums], dtype=np.int32).T.copy())
    (path / "ids.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    n, d = np.asarray(next(iter(sums.values()))).shape
    meta = {
        "format": 1, "kind": "query-sums", "n": n, "d": d, "dtype": "float32",
        "encoder": describe(normalize), "normalized": normalize,
        "ids_sha256": file_sha256(path / "ids.txt"), "languages": list(sums),
        "queries": int(sum(np.sum(c) for c in counts.values())), "blank": 0, "skipped": 0,
        "sums_sha256": {l: file_sha256(path / f"sum-{l}.npy") for l in sums},
        "counts_sha256": file_sha256(path / "counts.npy"), "sources": [],
    }  # fmt: skip
    (path / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return path


def f32(rows) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_meta(folder: Path, **changes) -> None:
    file = folder / "meta.json"
    meta = {**json.loads(file.read_text("utf-8")), **changes}
    kept = {key: value for key, value in meta.items() if value is not ...}
    file.write_text(json.dumps(kept), encoding="utf-8")


def quietly(call, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XqgWarning)
        return call(*arguments, **options)


# --- a corpus and queries that the fake encoder reads ---------------------------------------------

CORPUS = [
    {"id": "007", "title": "1", "text": "2 3"},
    {"id": "-1234567890123456789", "text": "4 5 6"},
    {"id": "قطة", "contents": "7 8 9"},
    {"id": "d", "title": "0", "text": "0 0"},
    {"id": "e", "title": "-1 -2", "text": "-3.5"},
]
GENERATED = [
    {"docid": "e", "title": "x", "generated_queries": {"ru": ["1 0 0", "0 2 0"], "ar": []}},
    {"docid": "007", "generated_queries": {"ar": ["1 2 3", "10 20 30", "1 2 3"]}},
    {"docid": "قطة", "generated_queries": {"ru": ["5 5 5"], "ar": ["1 1 1", " ", ""]}},
    {"docid": "e", "generated_queries": {"fi": ["9 9 9"]}},
    {"docid": "007", "generated_queries": {"ru": ["-1 0 0.5"], "fi": ["\t"]}},
]


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", CORPUS)


@pytest.fixture
def encoded(fake, corpus, tmp_path):
    """The corpus encoded, and queries for it in a file."""
    write_jsonl(tmp_path / "queries.jsonl", GENERATED)
    path = encode_passages(corpus, fake, tmp_path / "passages").path
    FakeEncoder.seen = []
    return path


def summed(folder: Path, name="out", encoder=None, overwrite=False, **settings) -> QueryStore:
    return quietly(
        accumulate_queries,
        folder / "queries.jsonl",
        folder / "passages",
        folder / name,
        AccumulateSettings(**settings),
        encoder=encoder,
        overwrite=overwrite,
    )


# --- stages that die ------------------------------------------------------------------------------

CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import made_stores
from xqg_pyserini.models import engines, registry
from xqg_pyserini.retrieve import accumulate, encode
from xqg_pyserini.stores import jobs
engines.ENGINES["fake"], registry.BACKENDS = made_stores.FakeEncoder, made_stores.BACKENDS
encode.CHUNK = accumulate.CHUNK = 2
jobs.CHECKPOINT_SECONDS = -1
made_stores.FakeEncoder.stop_after = int(sys.argv[4])
made_stores.FakeEncoder.stop = staticmethod(lambda: os._exit(9))
folder = Path(sys.argv[2])
if sys.argv[3] == "encode":
    encode.encode_passages(folder / "corpus.jsonl", made_stores.FAKE, folder / "out")
else:
    accumulate.accumulate_queries(folder / "queries.jsonl", folder / "passages", folder / "out")
"""


def killed(folder: Path, stage: str, stop_after: int) -> None:
    """Run a stage in a process that dies at once, with no clean-up, after some texts."""
    child = [sys.executable, "-c", CHILD, Path(__file__).parent, folder, stage, str(stop_after)]
    done = subprocess.run(child, capture_output=True, text=True, timeout=60)
    assert done.returncode == 9, done.stderr


def stopped(call, *arguments, after, **options):
    FakeEncoder.stop_after = after
    with pytest.raises(KeyboardInterrupt):
        call(*arguments, **options)
    FakeEncoder.stop_after, FakeEncoder.seen = None, []
