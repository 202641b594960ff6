"""OpenVINO on a CPU, an Intel GPU or an NPU."""

from __future__ import annotations

import queue
import re
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np

from edgepress.deploy.engines.base import (
    Engine,
    Hint,
    Proof,
    by_precision,
    require,
    require_memory,
    require_shape,
    require_threads,
    summary,
)
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.cores import thread_limit
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.manifest import BuiltForOpenVino
from edgepress.multilabel.openvino_model import own_signal_stack

_DEVICES = ("CPU", "GPU", "NPU")
_PRODUCTS = {"Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Gemm"}
_PRECISIONS = {"f32", "f16", "bf16", "i8", "u8"}


class OpenVinoEngine(Engine):
    """An OpenVINO bundle, compiled for low latency, or for throughput with as many requests as OpenVINO recommends.

    A call takes a free request and waits if there is none, so several threads must call to reach the throughput.

    On a CPU it executes in f32: by default OpenVINO runs a float model in bf16 where the processor can, and an engine
    called fp32 would not compute in fp32.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", hint: Hint = "latency", threads: int | None = None) -> None:
        super().__init__(bundle, device)
        threads = require_threads(threads)
        require("openvino", "openvino")
        import openvino as ov

        self._device, self._version = device.upper(), ov.__version__.split("-")[0]
        core = ov.Core()
        with own_signal_stack():
            _require_device(self._device, core.available_devices)
        options: dict[str, object] = {"PERFORMANCE_HINT": hint.upper()}
        if self._device == "CPU":
            options["INFERENCE_PRECISION_HINT"] = "f32"
            limit = threads or thread_limit()
            if limit is not None:
                options["INFERENCE_NUM_THREADS"] = limit
        elif threads is not None:
            raise InputError(f"threads {threads}: only OpenVINO's CPU takes them; {self._device} takes none")
        # Weights are read from memory: OpenVINO would map their file, and compute with whatever is copied over it.
        graph, weights = bundle.read(bundle.manifest.model), bundle.read(_weights_of(bundle))
        try:
            with own_signal_stack():
                self._compiled = core.compile_model(core.read_model(graph, weights), self._device, options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            require_memory(bundle.model_path, "OpenVINO", reason)
            reason = reason[:300]
            built = bundle.manifest.built_for
            if isinstance(built, BuiltForOpenVino) and is_older(self._version, built.version):
                raise EngineUnavailableError(
                    f"{bundle.model_path}: written by openvino {built.version}; openvino {self._version}, "
                    f"which is here, cannot read or compile it ({reason}); install openvino {built.version} or "
                    "newer, or compile the ONNX bundle here"
                ) from error
            raise InputError(f"{bundle.model_path}: OpenVINO cannot compile it: {reason}") from error
        dims = [None if dim.is_dynamic else dim.get_length() for dim in self._compiled.inputs[0].partial_shape]
        require_shape(bundle, dims, self._compiled.inputs[0].element_type.get_type_name())
        self._requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        for _ in range(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
            self._requests.put(_Request(self._compiled.create_infer_request(), ov))

    @property
    def runtime_version(self) -> str:
        return f"openvino {self._version}"

    def _proof(self) -> Proof:
        layers = [layer for layer in map(_executed, self._compiled.get_runtime_model().get_ordered_ops()) if layer]
        products = by_precision(precision for kind, precision in layers if kind in _PRODUCTS)
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        settings = {
            "hint": str(self._compiled.get_property("PERFORMANCE_HINT")).rpartition(".")[2].lower(),
            "requests": str(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")),
        }
        if self._device == "CPU":
            settings["threads"] = str(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        return Proof(
            runtime="openvino",
            version=self._version,
            provider=", ".join(devices),
            precision=summary(products),
            products=products,
            layers=by_precision(precision for _, precision in layers),
            source="OpenVINO's executed graph",
            settings=settings,
        )

    def _run(self, images: np.ndarray) -> np.ndarray:
        request = self._requests.get()
        try:
            return request(images)
        finally:
            self._requests.put(request)

    def _release(self) -> None:
        del self._requests, self._compiled


class _Request:
    """A request whose input stays the same tensor while batches have one size.

    Another tensor makes OpenVINO bind its memory anew, which takes longer than to copy the pixels of one picture.
    """

    def __init__(self, request: Any, ov: ModuleType) -> None:
        self._request, self._ov = request, ov
        self._pixels = np.empty(0, np.uint8)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Pictures `[N, H, W, 3]` uint8 to logits."""
        if self._pixels.shape != images.shape:
            tensor = self._ov.Tensor(self._ov.Type.u8, self._ov.Shape(images.shape))
            self._request.set_input_tensor(tensor)
            self._pixels = tensor.data
        np.copyto(self._pixels, images)
        # `infer` wraps these calls to accept any kind of input, which costs 30 us.
        self._request.start_async()
        self._request.wait()
        return self._request.get_output_tensor(0).data.copy()


def _weights_of(bundle: Bundle) -> str:
    """
    Raises:
        InputError: the bundle has no weights beside its graph.
    """
    name = str(PurePosixPath(bundle.manifest.model).with_suffix(".bin"))
    if name not in bundle.manifest.files:
        raise InputError(f"{bundle.path}: {name} is not among the bundle's files; make the bundle again")
    return name


def is_older(version: str, other: str) -> bool:
    """Whether a version of OpenVINO is older than another, as 2025.4.0 is older than 2026.1.0."""
    numbers = [[int(part) for part in re.findall(r"\d+", text)] for text in (version, other)]
    return numbers[0] < numbers[1]


def _require_device(name: str, present: list[str]) -> None:
    """
    Raises:
        InputError: OpenVINO has no such device.
        EngineUnavailableError: the device is not present; lists those that are.
    """
    kind = name.split(".")[0]
    if kind not in _DEVICES:
        raise InputError(f"device {name.lower()!r}: OpenVINO takes {', '.join(_DEVICES).lower()}, or one as gpu.1")
    # GPU means the first of GPU.0, GPU.1, ...
    if name not in present and not (name == kind and any(found.split(".")[0] == kind for found in present)):
        raise EngineUnavailableError(f"OpenVINO sees no {name} here; it sees {', '.join(present) or 'no device'}")


def _executed(node: Any) -> tuple[str, str] | None:
    """Kind and precision of a node of the executed graph; None for a constant, which executes nothing.

    The kernel's name ends in its precision (`brgconv_avx512_dw_f32`); the node's own `runtimePrecision` is that of the
    stored weights, which is f16 for a layer that computes in f32.
    """
    facts = node.get_rt_info()
    kind, precision = facts["layerType"].astype(str), facts["runtimePrecision"].astype(str)
    if kind == "Const":
        return None
    ending = facts["primitiveType"].astype(str).rpartition("_")[2].lower() if "primitiveType" in facts else ""
    return kind, ending if ending in _PRECISIONS else precision
