"""One contract over torch, ONNX Runtime, OpenVINO and TensorRT; `open_engine` is the one place that chooses."""

from __future__ import annotations

from pathlib import Path

from edgepress.deploy.build.passport import fitted
from edgepress.deploy.engines.base import Engine, Hint, Proof, refuse_settings
from edgepress.multilabel.bundle import Bundle

__all__ = ["Engine", "Proof", "open_engine"]


def open_engine(
    bundle_dir: str | Path | Bundle,
    device: str = "cpu",
    *,
    hint: Hint = "latency",
    threads: int | None = None,
    rebuild: bool = False,
) -> Engine:
    """Open a bundle's model, ready to run; a context manager.

    Args:
        bundle_dir: a bundle of any kind; every byte of it is checked first.
        device: `cpu`, or `cuda` (torch, ONNX Runtime), or an OpenVINO device (`gpu`, `npu`). A TensorRT engine runs on
            the CUDA device it was built for, also where this says `cpu`.
        hint: what OpenVINO compiles for; with `throughput` it answers several threads at once.
        threads: of ONNX Runtime and of OpenVINO's CPU; by default the runtime chooses.
        rebuild: make a compiled engine that does not fit this machine again, in its place; see `deploy.build.passport`.

    Raises:
        InputError: no bundle there, a changed byte, a model that its runtime refuses, an unknown device, or a setting
            that the runtime does not have.
        EngineUnavailableError: this machine cannot run it; says why.
    """
    bundle = bundle_dir if isinstance(bundle_dir, Bundle) else Bundle.open(bundle_dir)
    bundle, kind = fitted(bundle, rebuild=rebuild), bundle.manifest.kind
    # Imported here: each runtime is large, and only one of them need be installed.
    if kind == "openvino":
        from edgepress.deploy.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(bundle, device, hint, threads)
    if kind == "onnx":
        from edgepress.deploy.engines.onnxruntime import OnnxRuntimeEngine

        refuse_settings("ONNX Runtime", hint, None)
        return OnnxRuntimeEngine(bundle, device, threads)
    if kind == "tensorrt":
        from edgepress.deploy.engines.tensorrt import TensorRtEngine

        refuse_settings("TensorRT", hint, threads)
        return TensorRtEngine(bundle, device)
    from edgepress.deploy.engines.torch import TorchEngine

    refuse_settings("torch", hint, threads)
    return TorchEngine(bundle, device)
