"""Models that sentence-transformers runs: what its modules do beyond a transformer, a pooling and a length of 1.

The package comes with the extra `st` and is imported when such a model is loaded.
"""

import hashlib
from typing import Any

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.models.engines import ENGINES, Batches, Engine, kept
from xqg_pyserini.models.makers import MODULES, UNLIMITED, modules_of
from xqg_pyserini.models.pretrained import AUTO, dtype_of, folder_fingerprint, not_loaded, torch_device, weights_needed
from xqg_pyserini.models.registry import Role


class SentenceTransformers(Engine):
    """A model with modules of its own: Dense layers, two towers, other poolings.  "auto" is fp32."""

    def _load(self) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise missing_package("sentence-transformers", "st") from None
        self._name, trust = self.settings.model_for(self.role), self.computing.trust_remote_code
        device = torch_device(self.computing.device)
        self.precision = "fp32" if self.computing.precision == AUTO else self.computing.precision
        modules = modules_of(self._name)
        if modules is None:
            raise UserError(f"the model {self._name!r} has no modules.json, and is none of sentence-transformers")
        own = next(modules.own_code(), None)
        if own is not None and not trust:
            what = f"needs Python code that comes with it ({own}), which is not run unless that is allowed"
            raise UserError(f"the model {self._name!r} {what}", "trust_remote_code")
        self._modules, self._longest = modules, modules.lengths()
        cut = min(self.settings.query_length, self.settings.passage_length) < UNLIMITED
        if cut and modules.parts[0].kind not in ("Transformer", "Router"):
            raise UserError(f"encoder {self.settings.name} reads texts of any length; leave the lengths out")
        options = {"dtype": dtype_of(self.precision, device)}
        try:
            with weights_needed(self._name, ("pooler",)):
                self._model = SentenceTransformer(
                    self._name,
                    device=device,
                    trust_remote_code=trust,
                    revision=modules.files.commit,
                    model_kwargs=options,
                ).eval()
        except UserError:
            raise
        except Exception as error:  # whatever a damaged folder makes the library raise
            raise not_loaded(self._name, error) from None
        self._model.truncate_dim = None
        self.dimension = kept(self.settings, len(self._vectors(["dimension"], self.role, None)[0]))

    def embed(self, texts: list[str], role: Role) -> Batches:
        """Yield batches of texts of like length, longest first."""
        start = len(self.settings.prefix_for(role))  # which the pooling may leave out: it is passed on by itself
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for at in range(0, len(order), self.batch_size):
            part = order[at : at + self.batch_size]
            yield part, self._vectors([texts[i][start:] for i in part], role, self.settings.dimensions)

    def _vectors(self, texts: list[str], role: Role, dimensions: int | None) -> Any:
        encode: Any = self._model.encode_query if role == "query" else self._model.encode_document
        length = min(self.settings.length_for(role), self._longest[f"{role}_length"])
        limit = {} if length >= UNLIMITED else {"processing_kwargs": {"text": {"max_length": length}}}
        vectors = encode(
            texts,
            prompt=self.settings.prefix_for(role),
            batch_size=len(texts),
            convert_to_tensor=True,
            normalize_embeddings=self.settings.normalize,
            truncate_dim=dimensions,
            show_progress_bar=False,
            **limit,
        )
        return vectors.float().cpu().numpy()

    def fingerprint(self) -> str:
        """Return a checksum of the folder, with those of its modules; of a model of the hub its commit."""
        files = self._modules.files
        if files.folder is None:
            return str(files.commit)
        digest = hashlib.sha256()
        for place in sorted({"", *(part.path for part, _ in self._modules.all())}):
            digest.update(f"{place} {folder_fingerprint(files.folder / place)}\n".encode())
        return digest.hexdigest()[:32]


ENGINES[MODULES] = SentenceTransformers
