"""Cross-lingual dense retrieval with generated queries (xQG), on top of Pyserini.

The public names are imported when they are first used, so that `import xqg_pyserini` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xqg_pyserini.accumulate import accumulate_queries
    from xqg_pyserini.augment import Fusion
    from xqg_pyserini.data import read_questions, write_run
    from xqg_pyserini.encode import encode_passages
    from xqg_pyserini.errors import UserError, XqgWarning
    from xqg_pyserini.evaluate.scoring import evaluate_runs
    from xqg_pyserini.fused import FusedPassages
    from xqg_pyserini.generate.filter import filter_queries
    from xqg_pyserini.generate.job import generate_queries
    from xqg_pyserini.index import build_index
    from xqg_pyserini.leaderboard import write_submission
    from xqg_pyserini.mine import mine_negatives
    from xqg_pyserini.perturb import perturb_questions
    from xqg_pyserini.search import search_index, search_stores
    from xqg_pyserini.store import QueryStore, VectorStore
    from xqg_pyserini.train.methods import TuningSettings
    from xqg_pyserini.train.retriever import train_retriever
    from xqg_pyserini.train.settings import RetrieverSettings

__version__ = "0.1.0"

_HOMES = {
    "perturb_questions": "perturb",
    "mine_negatives": "mine",
    "train_retriever": "train.retriever",
    "TuningSettings": "train.methods",
    "RetrieverSettings": "train.settings",
    "Fusion": "augment",
    "FusedPassages": "fused",
    "QueryStore": "store",
    "UserError": "errors",
    "VectorStore": "store",
    "XqgWarning": "errors",
    "accumulate_queries": "accumulate",
    "build_index": "index",
    "encode_passages": "encode",
    "evaluate_runs": "evaluate.scoring",
    "filter_queries": "generate.filter",
    "generate_queries": "generate.job",
    "read_questions": "data",
    "search_index": "search",
    "search_stores": "search",
    "write_run": "data",
    "write_submission": "leaderboard",
}

__all__ = [
    "FusedPassages",
    "Fusion",
    "QueryStore",
    "RetrieverSettings",
    "TuningSettings",
    "UserError",
    "VectorStore",
    "XqgWarning",
    "accumulate_queries",
    "build_index",
    "encode_passages",
    "evaluate_runs",
    "filter_queries",
    "generate_queries",
    "mine_negatives",
    "perturb_questions",
    "read_questions",
    "search_index",
    "search_stores",
    "train_retriever",
    "write_run",
    "write_submission",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
