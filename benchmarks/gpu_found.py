"""What `benchmarks/gpu.py` finds here: the GPUs, the driver, versions, and what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Any

from edgepress.deploy.engines.passport import driver_cuda
from edgepress.deploy.machine.device import Machine, describe_machine
from edgepress.deploy.machine.state import read_state

PACKAGES = (
    *("torch", "torchvision", "timm", "accelerate", "triton", "onnx", "onnxruntime", "onnxruntime-gpu"),
    *("tensorrt", "tensorrt-rtx", "cuda-bindings", "cuda-python", "nvidia-ml-py", "numpy"),
)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU, as torch sees it."""

    name: str
    compute_capability: str
    memory_mb: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is here, and what is not."""

    machine: Machine
    gpus: tuple[Gpu, ...]
    driver: dict[str, str]
    """The driver's version, and the newest CUDA that it supports."""
    versions: dict[str, str]
    lacks: dict[str, str]
    """Why something is missing, by the names that steps need it by."""


def find() -> Found:
    """Look at the machine and at what is installed; starts nothing on a GPU but its enumeration."""
    import torch

    gpus = tuple(_gpu(torch.cuda.get_device_properties(number)) for number in range(torch.cuda.device_count()))
    versions = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    versions["torch's CUDA"] = str(torch.version.cuda)
    return Found(
        machine=describe_machine(),
        gpus=gpus,
        driver={"version": read_state().driver or "none", "cuda": driver_cuda()},
        versions=versions,
        lacks=lacks(len(gpus), _providers()),
    )


def lacks(gpus: int, providers: tuple[str, ...]) -> dict[str, str]:
    """What is missing, and what brings it.

    Args:
        gpus: the GPUs that torch sees.
        providers: the execution providers of the installed ONNX Runtime.
    """
    found: dict[str, str] = {}
    if gpus == 0:
        found["gpu"] = "no GPU that torch sees"
    if gpus < 2:
        found["two gpus"] = f"two GPUs for NCCL, and torch sees {gpus}"
    if "CUDAExecutionProvider" not in providers:
        found["onnxruntime-gpu"] = "onnxruntime-gpu (pip install 'edgepress[gpu]')"
    if not any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx")):
        found["tensorrt"] = "tensorrt or tensorrt-rtx (pip install 'edgepress[tensorrt-rtx]')"
    if _version("cuda-bindings") is None:
        found["cuda-bindings"] = "cuda-bindings (pip install 'edgepress[tensorrt-rtx]')"
    return found


def _gpu(properties: Any) -> Gpu:
    return Gpu(
        name=properties.name,
        compute_capability=f"SM{properties.major}{properties.minor}",
        memory_mb=properties.total_memory // 2**20,
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _providers() -> tuple[str, ...]:
    if importlib.util.find_spec("onnxruntime") is None:
        return ()
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())
