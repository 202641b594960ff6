"""The table of engines: what a run can build, verify and time.

A new runtime is one entry in `RUNTIMES`, its engines in `ENGINES`, a class in this folder, and a builder in
`deploy/build` where it does not open ONNX itself; ARCHITECTURE.md lists every file that it touches.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.manifest import Kind, Precision, Target

Setting = Literal["hint", "threads"]


@dataclass(frozen=True, kw_only=True)
class GpuTarget:
    """What an engine that runs on one kind of GPU is built for."""

    sm: int
    """Compute capability, 86 for 8.6."""
    max_batch: int = 64
    """Most pictures per call."""
    cuda_graph: bool = False
    """Replay a CUDA graph wherever the engine is opened (`deploy.engines.cuda_graph`)."""
    dla: int | None = None
    """Core of a Jetson's deep learning accelerator that takes the layers it can; the GPU takes the rest."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How to open the bundles of one kind. Modules are named, not imported: each runtime is large, and only one of them
    needs to be installed."""

    name: str
    kind: Kind
    """Kind of the bundles that it opens."""
    extra: str
    """The extra that installs it: pip install 'edgepress[EXTRA]'."""
    engine: str
    """`module:class`; the class takes a bundle, a device and `settings`."""
    settings: tuple[Setting, ...] = ()
    """Settings of `open_engine` that the runtime has."""
    builder: str | None = None
    """`module:function` that compiles an ONNX bundle into its own format; None where it opens the graph itself."""
    shares_threads: bool = False
    """Whether its engines share the process's threads: a fork of a process with an open engine cannot open any."""
    saturates: bool = False
    """Whether its INT8 products of 8-bit weights saturate on an x86 processor without VNNI; see
    `multilabel.saturation`."""
    needs_sm: bool = False
    """Whether its engines are built for one compute capability, by a `GpuTarget`."""
    packages: tuple[str, ...]
    """Names in the package index that the runtime is installed by, any one of them."""
    building: str | None = None
    """`module:function` that stops where what the builder needs is not installed."""

    def require_buildable(self) -> None:
        """Stop if what builds its engines is not installed here.

        Raises:
            EngineUnavailableError: it is not; says how to install it.
        """
        if self.building is not None:
            _found(self.building)()

    def engine_class(self) -> Callable[..., Any]:
        return _found(self.engine)

    def build(
        self, graph: Bundle, out: Path, target: GpuTarget | Precision, *, replaces: Bundle | None = None
    ) -> Bundle:
        """Compile an ONNX bundle; see its builder.

        Args:
            target: what to build for if the runtime `needs_sm`, otherwise the precision.
            replaces: an engine that the new one replaces, keeping its decisions.
        """
        assert self.builder is not None, f"{self.name} opens ONNX itself"
        return _found(self.builder)(graph, out, target, replaces=replaces)


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """One engine that a run can build from the fp32 ONNX bundle."""

    name: str
    """Its name in `--engines`."""
    runtime: Runtime
    precision: Precision
    graph: str | None = None
    """The bundle that its runtime's builder compiles, `onnx-fp32` or one made from it; None where the exported,
    converted or quantised bundle is the engine already."""
    target: Target | None = None
    """What it is quantised for; None for a float engine."""
    weight_bits: Literal[7] | None = None
    """7 for an INT8 engine that opens on x86 processors without VNNI as well; it is only built when it is named. None
    where the recipe and the processor decide."""

    @property
    def quantized_kind(self) -> Kind:
        """Kind of the bundle that `quantize` makes for its target: its own, or the graph's that it is built from."""
        return self.runtime.kind if self.graph is None else "onnx"

    @property
    def held_to(self) -> tuple[str, ...]:
        """Engines that an INT8 engine must not be slower than: those of the same runtime in fp16 and fp32."""
        if self.precision != "int8":
            return ()
        others = [one for one in ENGINES.values() if one.runtime is self.runtime and one.precision != "int8"]
        return tuple(one.name for one in sorted(others, key=lambda one: one.precision))

    def folder(self, sm: int) -> str:
        """The folder of its bundle in a run: its name, plus the compute capability if it is built for one."""
        return f"{self.name}-sm{sm}" if self.runtime.needs_sm else self.name


_HERE, _BUILD = "edgepress.deploy.engines", "edgepress.deploy.build"
TORCH = Runtime(
    name="torch",
    kind="torch",
    extra="train",
    packages=("torch",),
    engine=f"{_HERE}.torch:TorchEngine",
    shares_threads=True,
)
ONNX_RUNTIME = Runtime(
    name="ONNX Runtime",
    kind="onnx",
    extra="onnxruntime",
    packages=("onnxruntime", "onnxruntime-gpu"),
    engine=f"{_HERE}.onnxruntime:OnnxRuntimeEngine",
    settings=("threads",),
    saturates=True,
)
OPENVINO = Runtime(
    name="OpenVINO",
    kind="openvino",
    extra="openvino",
    packages=("openvino",),
    engine=f"{_HERE}.openvino:OpenVinoEngine",
    settings=("hint", "threads"),
    builder=f"{_BUILD}.compile:compile_openvino",
    building=f"{_BUILD}.compile:require_openvino",
    shares_threads=True,
    saturates=True,
)
TENSORRT = Runtime(
    name="TensorRT",
    kind="tensorrt",
    extra="gpu",
    packages=("tensorrt", "tensorrt-rtx"),
    engine=f"{_HERE}.tensorrt:TensorRtEngine",
    builder=f"{_BUILD}.tensorrt:build_tensorrt",
    building=f"{_HERE}.tensorrt_runtime:runtime_module",
    needs_sm=True,
)
LITERT = Runtime(
    name="LiteRT",
    kind="litert",
    extra="litert",
    packages=("ai-edge-litert",),
    engine=f"{_HERE}.litert:LiteRtEngine",
    settings=("threads",),
    builder=f"{_BUILD}.litert:compile_litert",
    building="edgepress.multilabel.litert_model:require_converter",
)
NCNN = Runtime(
    name="ncnn",
    kind="ncnn",
    extra="ncnn",
    packages=("ncnn",),
    engine=f"{_HERE}.ncnn:NcnnEngine",
    settings=("threads",),
    builder=f"{_BUILD}.ncnn:compile_ncnn",
    building="edgepress.multilabel.ncnn_model:require_pnnx",
    shares_threads=True,
)
_ALL = (TORCH, ONNX_RUNTIME, OPENVINO, TENSORRT, LITERT, NCNN)
RUNTIMES: dict[Kind, Runtime] = {runtime.kind: runtime for runtime in _ALL}
"""Runtimes by the kind of bundle that they open."""
_ROWS = (
    EngineSpec(name="onnx-fp32", runtime=ONNX_RUNTIME, precision="fp32"),
    EngineSpec(name="onnx-fp16", runtime=ONNX_RUNTIME, precision="fp16"),
    EngineSpec(name="onnx-int8-onnxruntime", runtime=ONNX_RUNTIME, precision="int8", target="onnxruntime"),
    EngineSpec(
        name="onnx-int8-onnxruntime-7bit",
        runtime=ONNX_RUNTIME,
        precision="int8",
        target="onnxruntime",
        weight_bits=7,
    ),
    EngineSpec(name="openvino-fp32", runtime=OPENVINO, precision="fp32", graph="onnx-fp32"),
    EngineSpec(name="openvino-fp16", runtime=OPENVINO, precision="fp16", graph="onnx-fp32"),
    EngineSpec(name="openvino-int8", runtime=OPENVINO, precision="int8", target="openvino"),
    EngineSpec(name="openvino-int8-7bit", runtime=OPENVINO, precision="int8", target="openvino", weight_bits=7),
    EngineSpec(name="litert-fp32", runtime=LITERT, precision="fp32", graph="onnx-fp32"),
    EngineSpec(name="litert-fp16", runtime=LITERT, precision="fp16", graph="onnx-fp32"),
    EngineSpec(name="litert-int8", runtime=LITERT, precision="int8", target="litert"),
    EngineSpec(name="ncnn-fp32", runtime=NCNN, precision="fp32", graph="onnx-fp32"),
    EngineSpec(name="ncnn-fp16", runtime=NCNN, precision="fp16", graph="onnx-fp32"),
    EngineSpec(name="ncnn-int8", runtime=NCNN, precision="int8", target="ncnn"),
    EngineSpec(name="tensorrt-fp32", runtime=TENSORRT, precision="fp32", graph="onnx-fp32"),
    EngineSpec(name="tensorrt-fp16", runtime=TENSORRT, precision="fp16", graph="onnx-fp16"),
    EngineSpec(name="tensorrt-int8", runtime=TENSORRT, precision="int8", graph="onnx-int8-tensorrt", target="tensorrt"),
)
ENGINES: dict[str, EngineSpec] = {spec.name: spec for spec in _ROWS}
"""Engines by name, in the order in which a run builds them."""
DEFAULT_ENGINES = tuple(name for name, spec in ENGINES.items() if spec.weight_bits is None)
"""The engines of a run that names none."""


def quantized(weight_bits: int | None = None) -> dict[str, str]:
    """The targets that `edgepress quantize` takes, and the folder of the bundle that it makes for each.

    Args:
        weight_bits: those that were asked for; 7-bit engines have folders of their own.
    """
    asked = [spec for spec in ENGINES.values() if spec.target is not None and spec.weight_bits in (None, weight_bits)]
    return {str(spec.target): spec.graph or spec.name for spec in asked}  # of two the later, which is the 7-bit one


def compiled() -> tuple[str, ...]:
    """What `edgepress compile` makes: engines, and of those for one GPU the kind, as their graph has a precision."""
    made = [spec.name for spec in ENGINES.values() if spec.graph == "onnx-fp32" and not spec.runtime.needs_sm]
    return ("onnx-fp16", *made, *(runtime.kind for runtime in RUNTIMES.values() if runtime.needs_sm))


def _found(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
