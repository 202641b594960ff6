"""OpenVINO on a CPU, an Intel GPU or an NPU."""

from __future__ import annotations

import numpy as np

from deploy.engines.base import Engine, require
from multilabel.bundle import Bundle
from multilabel.errors import EngineUnavailableError, InputError

_DEVICES = ("CPU", "GPU", "NPU")


class OpenVinoEngine(Engine):
    """An OpenVINO bundle, compiled for low latency.

    On a CPU it executes in f32: left to itself OpenVINO runs a float model in bf16 where the processor can, and an
    engine called fp32 would not be one.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        super().__init__(bundle)
        require("openvino", "openvino")
        import openvino as ov

        core = ov.Core()
        name = device.upper()
        if name.split(".")[0] not in _DEVICES:
            raise InputError(f"device {device!r}: OpenVINO takes {', '.join(_DEVICES).lower()}")
        if not any(found.split(".")[0] == name.split(".")[0] for found in core.available_devices):
            raise EngineUnavailableError(
                f"OpenVINO sees no {name} here; it sees {', '.join(core.available_devices) or 'no device'}"
            )
        options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
        if name == "CPU":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            self._compiled = core.compile_model(core.read_model(bundle.model_path), name, options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{bundle.model_path}: OpenVINO cannot compile it: {reason}") from error
        self._request = self._compiled.create_infer_request()
        self._device, self._version = name, ov.__version__.split("-")[0]

    @property
    def ran(self) -> dict[str, str]:
        executed = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        return {
            "runtime": "openvino",
            "version": self._version,
            "provider": self._device,
            "precision": f"int8 + {executed}" if self.bundle.manifest.precision == "int8" else executed,
        }

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._request.infer([images], share_inputs=True, share_outputs=True)[0].copy()

    def close(self) -> None:
        del self._request, self._compiled
