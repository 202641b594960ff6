"""The student itself in torch: the reference that every other engine is measured against."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from edgepress.deploy.engines.base import Engine, Proof, by_precision, require, summary
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError


class TorchEngine(Engine):
    """A torch bundle (teacher or student) in float32."""

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        super().__init__(bundle, device)
        for module in ("torch", "timm"):
            require(module, "train")
        import torch

        from edgepress.compress.checkpoint import load_model
        from edgepress.compress.threads import keep_to_cores

        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise InputError(f"device {device!r}: torch takes cpu, cuda or cuda:N")
        if device.startswith("cuda"):
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            if count == 0:
                raise EngineUnavailableError("torch sees no CUDA device here")
            if int(device.partition(":")[2] or 0) >= count:
                raise EngineUnavailableError(f"device {device!r}: torch sees cuda:0 to cuda:{count - 1} here")
        keep_to_cores()
        self._torch, self._device = torch, device
        self._model = load_model(bundle.path).to(device)

    @property
    def runtime_version(self) -> str:
        return f"torch {self._torch.__version__}"

    def _proof(self) -> Proof:
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
            settings={
                "threads": str(self._torch.get_num_threads()),
                **({} if self._device == "cpu" else {"tf32": "off"}),
            },
        )

    def _run(self, images: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode(), self._without_tf32():
            return self._model.logits(self._torch.from_numpy(images).to(self._device)).cpu().numpy()

    @contextlib.contextmanager
    def _without_tf32(self) -> Iterator[None]:
        """Convolve in float32: cuDNN's default in torch has mantissas of 10 bits. Not run on a GPU."""
        cudnn = self._torch.backends.cudnn
        if self._device == "cpu":
            yield
            return
        before, cudnn.allow_tf32 = cudnn.allow_tf32, False
        try:
            yield
        finally:
            cudnn.allow_tf32 = before

    def module_outputs(self, images: np.ndarray, names: Collection[str]) -> dict[str, np.ndarray]:
        """Outputs of the model's modules for pictures uint8 `[B, size, size, 3]`: float32, by module name.

        Modules that do not exist, run more than once or do not give a single float tensor are left out.
        """
        found: dict[str, list[np.ndarray | None]] = {}
        modules = dict(self._model.named_modules())

        def keep(name: str, output: Any) -> None:
            usable = isinstance(output, self._torch.Tensor) and output.is_floating_point()
            # Copied, because an activation that works in place changes it afterwards.
            value = output.detach().to("cpu", self._torch.float32, copy=True).numpy() if usable else None
            found.setdefault(name, []).append(value)

        with self._lifetime.call():
            hooks = [
                modules[name].register_forward_hook(lambda _, __, output, name=name: keep(name, output))
                for name in names
                if name in modules
            ]
            try:
                self._run(images)
            finally:
                for hook in hooks:
                    hook.remove()
        return {name: values[0] for name, values in found.items() if len(values) == 1 and values[0] is not None}

    def _release(self) -> None:
        del self._model
