"""One contract over torch, ONNX Runtime, OpenVINO and TensorRT; `open_engine` is the one place that chooses."""

from __future__ import annotations

from pathlib import Path

from deploy.engines.base import Engine
from multilabel.bundle import Bundle

__all__ = ["Engine", "open_engine"]


def open_engine(bundle_dir: str | Path | Bundle, device: str = "cpu") -> Engine:
    """Open a bundle's model, ready to run; a context manager.

    Args:
        bundle_dir: a bundle of any kind; every byte of it is checked first.
        device: `cpu`, or `cuda` (torch, ONNX Runtime), or an OpenVINO device (`gpu`, `npu`). A TensorRT engine runs on
            the CUDA device it was built for, whatever is said here.

    Raises:
        InputError: no bundle there, a changed byte, a model that its runtime refuses, or an unknown device.
        EngineUnavailableError: this machine cannot run it; says why.
    """
    bundle = bundle_dir if isinstance(bundle_dir, Bundle) else Bundle.open(bundle_dir)
    # Imported here: each runtime is large, and only one of them need be installed.
    if bundle.manifest.kind == "onnx":
        from deploy.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(bundle, device)
    if bundle.manifest.kind == "openvino":
        from deploy.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(bundle, device)
    if bundle.manifest.kind == "tensorrt":
        from deploy.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(bundle)
    from deploy.engines.torch import TorchEngine

    return TorchEngine(bundle, device)
