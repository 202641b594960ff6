"""The student itself in torch: the reference that every other engine is measured against."""

from __future__ import annotations

import re

import numpy as np

from deploy.engines.base import Engine, Proof, by_precision, require, summary
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

        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise InputError(f"device {device!r}: torch takes cpu, cuda or cuda:N")
        if device.startswith("cuda"):
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if count == 0:
                raise EngineUnavailableError("torch sees no CUDA device here")
            if int(device.partition(":")[2] or 0) >= count:
                raise EngineUnavailableError(f"device {device!r}: torch sees cuda:0 to cuda:{count - 1} here")
        self._torch, self._device = torch, device
        self._model = load_model(bundle.path).to(device)

    def proof(self) -> Proof:
        owners = [
            module for module in self._model.modules() if next(module.parameters(recurse=False), None) is not None
        ]
        types = [str(next(module.parameters(recurse=False)).dtype).removeprefix("torch.") for module in owners]
        products = by_precision(
            name for module, name in zip(owners, types, strict=True) if next(module.parameters(recurse=False)).ndim > 1
        )
        return Proof(
            runtime="torch",
            version=self._torch.__version__,
            provider=str(next(self._model.parameters()).device),
            precision=summary(products),
            products=products,
            layers=by_precision(types),
            source="types of the parameters",
            settings={"threads": str(self._torch.get_num_threads())},
        )

    def _run(self, images: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            return self._model.logits(self._torch.from_numpy(images).to(self._device)).cpu().numpy()

    def _release(self) -> None:
        del self._model
