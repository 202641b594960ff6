"""What machine this is, and which backends work on it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgepress.deploy.machine.cuda import cuda_compute_capability, cuda_driver_version
from edgepress.deploy.machine.processor import board_model, processor
from edgepress.deploy.machine.state import governors
from edgepress.multilabel.cores import cores
from edgepress.multilabel.litert_model import INSTALL_CONVERTER
from edgepress.multilabel.openvino_model import own_signal_stack
from edgepress.multilabel.plural import plural
from edgepress.multilabel.versions import install_command, package_version

_JETSON = " (on a Jetson it comes with JetPack: sudo apt install nvidia-jetpack)"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a measurement was made on."""

    processor: str
    """Its usual name; see `processor`."""
    cores: int
    """Number of cores that this process may use."""
    architecture: str
    system: str
    python: str
    governor: str
    """The governors of the cores' clocks, usually one; `unknown` where the system does not show them."""
    model: str | None
    """The board's name; see `board_model`."""
    gpu: str | None
    """Compute capability of the first NVIDIA GPU, such as `SM87`; None if there is none."""


@dataclass(frozen=True)
class Backend:
    """One runtime or tool, and whether it works here."""

    name: str
    works: bool
    detail: str
    """Version and devices, or why it does not work and the command that fixes it."""


def describe_machine(root: Path = Path("/")) -> Machine:
    """This machine, for the record of a measurement.

    Args:
        root: the folder that holds /proc and /sys.
    """
    capability = cuda_compute_capability()
    return Machine(
        processor=processor(root),
        cores=cores(root),
        architecture=platform.machine(),
        system=platform.platform(),
        python=platform.python_version(),
        governor=", ".join(governors(root)) or "unknown",
        model=board_model(root),
        gpu=f"SM{capability[0]}{capability[1]}" if capability else None,
    )


def check_backends() -> list[Backend]:
    """Try every backend the way an engine would."""
    return [
        _check("torch", "train", "torch", _torch),
        _check("timm", "train", "timm", lambda: ""),
        _check("onnx", "train", "onnx", lambda: ""),
        _check("onnxruntime", "onnxruntime", "onnxruntime", _onnxruntime),
        _check("openvino", "openvino", "openvino", _openvino),
        _check("ai_edge_litert", "litert", "ai-edge-litert", lambda: "CPU"),
        _converter(),
        _check("litert_quantizer", "litert-build", "litert-quantizer", lambda: ""),
        _check("ncnn", "ncnn", "ncnn", lambda: "CPU"),
        _pnnx(),
        _check("nncf", "quantize", "nncf", lambda: ""),
        _check("sympy", "quantize", "sympy", lambda: ""),
        _check("tensorrt", "gpu", "tensorrt", lambda: _tensorrt("no GPU here, and it needs one"), _JETSON),
        _check(
            "tensorrt_rtx", "tensorrt-rtx", "tensorrt-rtx", lambda: _tensorrt("builds engines; no GPU here to run them")
        ),
        _check("cuda.bindings", "gpu", "cuda-bindings", _cuda),
    ]


def installed() -> list[str]:
    """The runtimes that are installed and their versions, without importing them."""
    found = []
    from edgepress.deploy.engines.table import RUNTIMES  # that package's engines import this module

    for name in (name for runtime in RUNTIMES.values() for name in runtime.packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def _check(module: str, extra: str, distribution: str, detail: Callable[[], str], elsewhere: str = "") -> Backend:
    # For `cuda.bindings` the parent package is looked up first, because find_spec raises if it is missing.
    names = module.split(".")
    if any(importlib.util.find_spec(".".join(names[: end + 1])) is None for end in range(len(names))):
        return Backend(module, False, f"not installed: {install_command(extra)}{elsewhere}")
    try:
        importlib.import_module(module)
        devices = detail()
    except Exception as error:  # a broken installation may raise anything, and that is the answer
        if "temporary directory" in str(error):  # torch and timm look for one when they are imported
            return Backend(module, False, "no folder for temporary files can be written: TMPDIR=FOLDER names one")
        return Backend(module, False, f"is installed and fails: {' '.join(str(error).split())[:160] or repr(error)}")
    try:
        version = package_version(distribution)
    except importlib.metadata.PackageNotFoundError:
        version = "version unknown"  # a device's own package, such as JetPack's TensorRT
    return Backend(module, True, f"{version}{'; ' if devices else ''}{devices}")


def _converter() -> Backend:
    """onnx2tf is found and not imported: an import seeds random numbers, silences warnings and takes seconds."""
    if importlib.util.find_spec("onnx2tf") is None:
        told = f"not installed: {install_command('litert-build')}, then {INSTALL_CONVERTER}"
        return Backend("onnx2tf", False, told)
    return Backend("onnx2tf", True, importlib.metadata.version("onnx2tf"))


def _pnnx() -> Backend:
    """pnnx is found and not imported: its program is what converts, and an import of the package needs torch."""
    if importlib.util.find_spec("pnnx") is None:
        return Backend("pnnx", False, f"not installed: {install_command('ncnn-build')}")
    return Backend("pnnx", True, importlib.metadata.version("pnnx"))


def _torch() -> str:
    import torch

    return "cuda: " + (torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU here")


def _onnxruntime() -> str:
    import onnxruntime

    return ", ".join(onnxruntime.get_available_providers())


def _openvino() -> str:
    import openvino

    with own_signal_stack():
        return ", ".join(openvino.Core().available_devices)


def _tensorrt(without_gpu: str) -> str:
    capability = cuda_compute_capability()
    if capability is None:
        return without_gpu
    if importlib.util.find_spec("cuda") is None:
        return f"builds engines; to run them {install_command('gpu')} (on a Jetson 'edgepress[jetson]')"
    return f"GPU SM{capability[0]}{capability[1]}"


def _cuda() -> str:
    """Call the CUDA runtime, because bindings for a newer CUDA than the driver's import and then fail at every call."""
    from cuda.bindings import runtime

    code, count = runtime.cudaGetDeviceCount()
    if code == runtime.cudaError_t.cudaErrorInsufficientDriver:
        found = cuda_driver_version()
        return "no CUDA driver here" if found is None else f"newer than the driver's CUDA, {found[0]}.{found[1]}"
    if code != runtime.cudaError_t.cudaSuccess:
        return f"runs nothing here: {code.name}"
    return f"runs TensorRT engines on {plural(count, 'GPU')}"
