"""What every cell's process imports, once: the fork server loads this module."""

import torch  # noqa: F401
import transformers  # noqa: F401

import xqg_pyserini.engines
import xqg_pyserini.study.cells  # noqa: F401
