"""Cross-lingual dense retrieval with generated queries (xQG), on top of Pyserini.

The public names are imported when they are first used, so that `import xqg_pyserini` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xqg_pyserini.data import read_questions, write_run
    from xqg_pyserini.errors import UserError, XqgWarning
    from xqg_pyserini.evaluation.scores import evaluate_runs
    from xqg_pyserini.evaluation.submission import write_submission
    from xqg_pyserini.fusion.formula import Fusion
    from xqg_pyserini.fusion.fused import FusedPassages
    from xqg_pyserini.generate.filter import filter_queries
    from xqg_pyserini.generate.job import generate_queries
    from xqg_pyserini.models.tuning.methods import TuningSettings
    from xqg_pyserini.retrieve.accumulate import accumulate_queries
    from xqg_pyserini.retrieve.encode import encode_passages
    from xqg_pyserini.retrieve.index import build_index
    from xqg_pyserini.retrieve.search import search_index, search_stores
    from xqg_pyserini.stores import QueryStore, VectorStore
    from xqg_pyserini.train.mine import mine_negatives
    from xqg_pyserini.train.perturb import perturb_questions
    from xqg_pyserini.train.retriever import train_retriever
    from xqg_pyserini.train.settings import RetrieverSettings

__version__ = "0.1.0"

_HOMES = {
    "perturb_questions": "train.perturb",
    "mine_negatives": "train.mine",
    "train_retriever": "train.retriever",
    "TuningSettings": "models.tuning.methods",
    "RetrieverSettings": "train.settings",
    "Fusion": "fusion.formula",
    "FusedPassages": "fusion.fused",
    "QueryStore": "stores",
    "UserError": "errors",
    "VectorStore": "stores",
    "XqgWarning": "errors",
    "accumulate_queries": "retrieve.accumulate",
    "build_index": "retrieve.index",
    "encode_passages": "retrieve.encode",
    "evaluate_runs": "evaluation.scores",
    "filter_queries": "generate.filter",
    "generate_queries": "generate.job",
    "read_questions": "data",
    "search_index": "retrieve.search",
    "search_stores": "retrieve.search",
    "write_run": "data",
    "write_submission": "evaluation.submission",
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
