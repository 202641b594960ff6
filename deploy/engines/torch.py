"""The student itself in torch: the reference that every other engine is measured against."""

from __future__ import annotations

import numpy as np

from deploy.engines.base import Engine, require
from multilabel.bundle import Bundle
from multilabel.errors import EngineUnavailableError, InputError


class TorchEngine(Engine):
    """A torch bundle (teacher or student) in float32."""

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        super().__init__(bundle)
        for module in ("torch", "timm"):
            require(module, "train")
        import torch

        from compress.checkpoint import load_model

        if device.split(":")[0] not in ("cpu", "cuda"):
            raise InputError(f"device {device!r}: torch takes cpu or cuda")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineUnavailableError("torch sees no CUDA device here")
        self._torch, self._device = torch, device
        self._model = load_model(bundle.path).to(device)

    @property
    def ran(self) -> dict[str, str]:
        return {
            "runtime": "torch",
            "version": self._torch.__version__,
            "provider": self._device,
            "precision": "fp32",
        }

    def _run(self, images: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            return self._model.logits(self._torch.from_numpy(images).to(self._device)).cpu().numpy()

    def close(self) -> None:
        del self._model
