"""Hugging Face encoders on OpenVINO (extra `openvino`): `engines.Torch`'s batches and pooling, another forward pass."""

import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from xqg_pyserini.errors import UserError, missing_package
from xqg_pyserini.models.engines import OPENVINO_BATCH, PROBES, Torch
from xqg_pyserini.models.pretrained import AUTO, sentence_vectors

_OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16"}


class OpenVINO(Torch):
    """A Hugging Face encoder on OpenVINO, on CPUs: `Torch`'s batches and pooling, another forward pass.

    The model is converted in memory whenever it is loaded, from weights in float32, which the arithmetic rounds if it
    is bfloat16; torch's is let go then.  A vector depends in its last digits on the batch that it is computed in.
    """

    cpu_batch, weights = OPENVINO_BATCH, "fp32"

    def _load(self) -> None:
        device, precision = self.computing.device, self.computing.precision
        if device not in ("auto", "cpu"):
            raise UserError(f"the engine openvino is for the CPU, not for {device}", "engine")
        if precision not in (AUTO, *_OPENVINO_TYPES):
            expected = " or ".join(_OPENVINO_TYPES)
            raise UserError(f"the engine openvino computes in {expected}, not in {precision}", "precision")
        if self._robust():
            raise UserError("robust prefix-tuning takes gradients, which the engine torch alone has", "engine")
        self._library = _openvino()
        self.computing = replace(self.computing, device="cpu")
        super()._load()
        self._output = "pooler_output" if self.settings.pooling == "pooler" else "last_hidden_state"
        probes = [text for text, _ in PROBES]
        # of other numbers of texts and tokens than it is compared on, and padded, so that neither is taken for fixed
        self._request = self._converted(self._padded([probes[0], probes[0][:5]]))
        self._compare(self._padded(probes))
        self._model = None

    def _adapt(self) -> None:
        # OpenVINO has attention of its own; what it makes of torch's is NaN where all that a token sees is padding
        self._model.set_attn_implementation("eager")
        super()._adapt()

    def _padded(self, texts: list[str]) -> Any:
        tokens = self._tokenizer(texts, truncation=True, max_length=self._longest, padding=True, return_tensors="pt")
        return dict(tokens)

    def _converted(self, example: dict[str, Any]) -> Any:
        """Return what infers, given the model's inputs in the order of an example batch."""
        import torch
        from transformers.utils import logging

        model, names, output, library = self._model, tuple(example), self._output, self._library
        self._inputs = names
        sentence_vectors(super()._infer(**example), example["attention_mask"], self.settings)  # refuses what torch does

        class Positional(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *tensors: Any) -> Any:
                return getattr(self.model(**dict(zip(names, tensors, strict=True))), output)

        said, kind = logging.get_verbosity(), _OPENVINO_TYPES[self.precision]
        try:
            logging.set_verbosity_error()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a trace's, of what `_compare` finds out
                converted = library.convert_model(Positional(), example_input=tuple(example.values()))
            # one batch at a time on all threads, which stay where the system puts them: other processes compute too
            threads = self.computing.threads or torch.get_num_threads()
            how = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": threads}
            how |= {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
            compiled = library.Core().compile_model(converted, "CPU", how)
        except Exception as error:  # whatever a kind of model that it does not know makes it raise
            reason = (str(error).strip() or repr(error)).splitlines()[-1].removeprefix("-- ")  # its first says where
            what = f"OpenVINO cannot convert the model {self._name!r}: {reason}"
            raise UserError(f"{what}; the engine torch runs it", "engine") from None
        finally:
            logging.set_verbosity(said)
        if compiled.get_property("INFERENCE_PRECISION_HINT").to_string() != kind:
            raise UserError(f"OpenVINO does not compute in {self.precision} on this CPU; choose fp32", "precision")
        return compiled.create_infer_request()

    def _compare(self, batch: dict[str, Any]) -> None:
        """Raise `UserError` if the converted model is not the model: what a trace leaves out may decide."""
        from torch.nn.functional import cosine_similarity

        expected = sentence_vectors(super()._infer(**batch), batch["attention_mask"], self.settings)
        try:
            found = sentence_vectors(self._infer(**batch), batch["attention_mask"], self.settings)
            least = float(cosine_similarity(expected, found).min())
        except RuntimeError:  # not even of the shape
            least = float("nan")
        if not least > (0.9 if self.precision == "bf16" else 0.9999):
            what = f"OpenVINO converts the model {self._name!r} to another (a cosine of {least:.4f} to torch's vector)"
            raise UserError(f"{what}; the engine torch runs it", "engine")

    def _infer(self, **batch: Any) -> Any:
        import torch

        inputs = {i: batch[name].numpy() for i, name in enumerate(self._inputs)}
        result = self._request.infer(inputs, share_inputs=True)[0]
        return SimpleNamespace(**{self._output: torch.from_numpy(result)})


def _openvino() -> Any:
    """Import OpenVINO, without the package that reports to its makers over the network what it is used for."""
    telemetry = "openvino_telemetry"  # imported where it is there, by both of these
    sys.modules.setdefault(telemetry, None)  # type: ignore[arg-type]
    try:
        import openvino
        import openvino.tools.ovc.convert_impl
    except ImportError:
        raise missing_package("openvino", "openvino") from None
    finally:
        if sys.modules[telemetry] is None:
            del sys.modules[telemetry]
    return openvino
