"""Models that score a question and a passage together, run by sentence-transformers (extra `st`).

Cross-encoders read both at once (Nogueira and Cho, arXiv 1901.04085).  Multi-vector models have a vector a token, and
add up each question token's best match (ColBERT: Khattab and Zaharia, SIGIR 2020).  Which a model is, its files say;
what is neither is refused, since the library would put a random layer on it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.models.engines import CPU_BATCH, Computing
from xqg_pyserini.models.pretrained import (
    AUTO,
    dtype_of,
    fingerprint,
    folder_fingerprint,
    not_loaded,
    read_config,
    torch_device,
    weights_needed,
)

BATCH = 32
CROSS_ENCODER, MULTI_VECTOR = "cross-encoder", "multi-vector"
_TYPES = {"CrossEncoder": CROSS_ENCODER, "MultiVectorEncoder": MULTI_VECTOR, "ColBERT": MULTI_VECTOR}


class Reranker:
    """A model that scores passages for a question.

    Args:
        name: a folder or a name of the hub: a cross-encoder with one score (`…ForSequenceClassification`, or as
            sentence-transformers saves it), a multi-vector model of sentence-transformers, PyLate or Stanford's
            ColBERT.
        computing: where and how, on the engine torch; the precision "auto" is fp32, the batch size 32 pairs (8 on a
            CPU).

    Attributes:
        kind: "cross-encoder" or "multi-vector".

    Raises:
        UserError: where sentence-transformers is not installed, or the model is neither or cannot be loaded.
    """

    def __init__(self, name: str | Path, computing: Computing | None = None) -> None:
        try:
            import sentence_transformers
        except ImportError:
            raise missing_package("sentence-transformers", "st") from None
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.name, self.computing = str(name), computing or Computing()
        if self.computing.engine != Computing.engine:
            raise UserError(f"models that re-rank run on torch, not on {self.computing.engine}", "engine")
        trust = self.computing.trust_remote_code
        config = read_config(self.name, trust)
        self.kind = _kind_of(self.name, config)
        device = torch_device(self.computing.device)
        precision = "fp32" if self.computing.precision == AUTO else self.computing.precision
        self._batch = self.computing.batch_size or (CPU_BATCH if device == "cpu" else BATCH)
        cross = self.kind == CROSS_ENCODER
        kind = sentence_transformers.CrossEncoder if cross else sentence_transformers.MultiVectorEncoder
        options = {"dtype": dtype_of(precision, device), "weights_only": True}
        optional = () if cross else ("pooler",)  # which no multi-vector model reads
        try:
            with weights_needed(self.name, optional):
                self._model: Any = kind(self.name, device=device, trust_remote_code=trust, model_kwargs=options)
        except UserError:
            raise
        except Exception as error:  # whatever a damaged folder makes the library raise
            raise not_loaded(self.name, error) from None
        if cross and self._model.num_labels != 1:
            raise UserError(f"the model {self.name!r} gives {self._model.num_labels} scores a pair; expected one")
        self._model.eval()
        self._config = config

    def __repr__(self) -> str:
        return f"Reranker({self.name!r})"

    def fingerprint(self) -> str:
        """Return what tells this model's weights from others: of a folder a checksum, else its commit."""
        modules = sorted(path for path in Path(self.name).glob("*") if path.is_dir())
        return "+".join([fingerprint(self.name, self._config), *map(folder_fingerprint, modules)])

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """Return how well each passage answers a question, higher being better, whatever other questions there are.

        Of a cross-encoder they are its logits: the sigmoid that many put on top keeps their order, and makes ties of
        high ones.  Raises `UserError` for a score that is not finite.
        """
        if not passages:
            return []
        quiet = {"batch_size": self._batch, "show_progress_bar": False}
        with self.computing.limited():
            if self.kind == CROSS_ENCODER:
                import torch

                pairs = [[question, passage] for passage in passages]
                scored = self._model.predict(pairs, activation_fn=torch.nn.Identity(), **quiet)
            else:
                asked = self._model.encode_query([question], **quiet)
                scored = self._model.similarity(asked, self._model.encode_document(list(passages), **quiet))
                scored = scored.float().cpu().numpy()
        found = np.asarray(scored, dtype=np.float64).reshape(-1)
        if len(found) != len(passages) or not np.isfinite(found).all():
            what = f"gave {len(found)} scores, NaN or infinity among them perhaps, for {len(passages)} passages"
            raise UserError(f"the model {self.name!r} {what} and {question[:60]!r}", "precision")
        return found.tolist()


def _kind_of(name: str, config: Any) -> str:
    from sentence_transformers.util import load_file_path

    try:
        file = load_file_path(name, "config_sentence_transformers.json")
        said = json.loads(Path(file).read_text("utf-8")).get("model_type") if file else None
    except (OSError, ValueError, AttributeError) as error:
        raise not_loaded(name, error) from None
    architectures = config.architectures or []
    if said in _TYPES:
        return _TYPES[said]
    if said is None and "HF_ColBERT" in architectures:
        return MULTI_VECTOR
    if said is None and any(each.endswith("ForSequenceClassification") for each in architectures):
        return CROSS_ENCODER
    what = said or " ".join(architectures) or "of no known architecture"
    raise UserError(
        f"the model {name!r} is {what}; expected a cross-encoder or a multi-vector model (ColBERT)", "model"
    )
