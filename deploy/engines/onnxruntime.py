"""ONNX Runtime on the CPU or a CUDA device."""

from __future__ import annotations

import numpy as np

from deploy.engines.base import Engine, require
from multilabel.bundle import Bundle
from multilabel.errors import EngineUnavailableError, InputError

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeEngine(Engine):
    """An ONNX bundle in an ONNX Runtime session."""

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        super().__init__(bundle)
        if device not in _PROVIDERS:
            raise InputError(f"device {device!r}: ONNX Runtime takes {', '.join(_PROVIDERS)}")
        require("onnxruntime", "onnxruntime" if device == "cpu" else "gpu")
        import onnxruntime as ort

        provider = _PROVIDERS[device]
        if provider not in ort.get_available_providers():
            raise EngineUnavailableError(f"this onnxruntime has no {provider} (pip install 'edgepress[gpu]')")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        try:
            # Without this it quantises the weights of convolutions that were left in float on purpose.
            self._session = ort.InferenceSession(
                str(bundle.model_path),
                options,
                providers=[provider],
                disabled_optimizers=["WeightBiasQuantization"],
            )
        except Exception as error:  # its own exception types share no base class
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{bundle.model_path}: ONNX Runtime cannot load it: {reason}") from error
        # A listed provider may still hand everything to the CPU.
        if self._session.get_providers()[0] != provider:
            raise EngineUnavailableError(f"ONNX Runtime fell back to {self._session.get_providers()[0]}")
        self._input = self._session.get_inputs()[0].name
        self._version = ort.__version__

    @property
    def ran(self) -> dict[str, str]:
        return {
            "runtime": "onnxruntime",
            "version": self._version,
            "provider": self._session.get_providers()[0],
            "precision": self.bundle.manifest.precision,
        }

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: images})[0]

    def close(self) -> None:
        del self._session
