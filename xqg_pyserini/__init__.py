"""Cross-lingual dense retrieval with generated queries (xQG), on top of Pyserini.

The public names are imported when they are first used, so that `import xqg_pyserini` is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xqg_pyserini.data import (
        Passage,
        Question,
        as_qrels,
        as_questions,
        as_run,
        read_qrels,
        read_questions,
        read_run,
        write_run,
    )
    from xqg_pyserini.errors import UserError, XqgWarning
    from xqg_pyserini.evaluation.scores import evaluate
    from xqg_pyserini.evaluation.submission import write_submission
    from xqg_pyserini.fusion.formula import Fusion, FusionSettings
    from xqg_pyserini.fusion.fused import Liberties
    from xqg_pyserini.generate.filter import filter_queries
    from xqg_pyserini.generate.job import generate_queries
    from xqg_pyserini.models.encoder import Encoder
    from xqg_pyserini.models.registry import EncoderSettings
    from xqg_pyserini.models.tuning.methods import TuningSettings
    from xqg_pyserini.retrieve.accumulate import AccumulateSettings, accumulate_queries
    from xqg_pyserini.retrieve.encode import encode_passages
    from xqg_pyserini.retrieve.fused import Fused
    from xqg_pyserini.retrieve.index import write_index
    from xqg_pyserini.retrieve.search import Index
    from xqg_pyserini.stores import QueryStore, VectorStore
    from xqg_pyserini.train.mine import mine_negatives
    from xqg_pyserini.train.perturb import perturb_questions
    from xqg_pyserini.train.retriever import train_retriever
    from xqg_pyserini.train.settings import RetrieverSettings

__version__ = "0.1.0"

_MODULES = {
    "data": (
        *("Passage", "Question", "as_qrels", "as_questions", "as_run", "read_qrels"),
        *("read_questions", "read_run", "write_run"),
    ),
    "errors": ("UserError", "XqgWarning"),
    "evaluation.scores": ("evaluate",),
    "evaluation.submission": ("write_submission",),
    "fusion.formula": ("Fusion", "FusionSettings"),
    "fusion.fused": ("Liberties",),
    "generate.filter": ("filter_queries",),
    "generate.job": ("generate_queries",),
    "models.encoder": ("Encoder",),
    "models.registry": ("EncoderSettings",),
    "models.tuning.methods": ("TuningSettings",),
    "retrieve.accumulate": ("AccumulateSettings", "accumulate_queries"),
    "retrieve.encode": ("encode_passages",),
    "retrieve.fused": ("Fused",),
    "retrieve.index": ("write_index",),
    "retrieve.search": ("Index",),
    "stores": ("QueryStore", "VectorStore"),
    "train.mine": ("mine_negatives",),
    "train.perturb": ("perturb_questions",),
    "train.retriever": ("train_retriever",),
    "train.settings": ("RetrieverSettings",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
