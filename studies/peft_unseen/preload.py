"""What every cell's process imports, once: the fork server loads this module."""

import peft  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
from transformers import AutoConfig, AutoModel, AutoTokenizer, Trainer  # noqa: F401

import xqg_pyserini.train.retriever  # noqa: F401
