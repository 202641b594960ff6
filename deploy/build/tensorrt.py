"""Build a TensorRT engine from ONNX, with `tensorrt` where it is installed, otherwise with `tensorrt_rtx`.

Precision is in the graph's types and Q/DQ nodes and the network is strongly typed, so one path serves TensorRT 10, 11
and TensorRT-RTX. `tensorrt` builds for the GPU that is present, `tensorrt_rtx` for a named compute capability without
one.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepress.deploy.build import timing_cache
from edgepress.deploy.build.compile import decisions_of, derived_bundle, kept_engine
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import by_precision
from edgepress.deploy.engines.passport import driver_cuda, platform_here
from edgepress.deploy.engines.table import GpuTarget
from edgepress.deploy.engines.tensorrt_runtime import collecting_logger, first_line, one_line, runtime_module
from edgepress.deploy.machine.cuda import cuda_compute_capability, sm_name
from edgepress.multilabel.bundle import Bundle, inputs_hash
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.manifest import BuiltForTensorRt

MODEL = "model.plan"
TYPICAL_BATCH = 8
"""The batch that kernels are chosen for."""
log = logging.getLogger("edgepress")


@dataclass(frozen=True)
class ParsedNetwork:
    """A network that TensorRT read from an ONNX file, with the objects that own its memory."""

    trt: ModuleType
    builder: Any
    parser: Any  # owns the weights: the network is empty without it
    network: Any
    warnings: tuple[str, ...]
    """The parser's warnings."""

    @property
    def facts(self) -> Facts:
        """The number of layers and convolutions, and by precision the layers without constants (`types`) and the
        convolutions and matrix products (`products`).

        A product is int8 where its input and its weights both come from a dequantize layer; otherwise it has the type
        of its output. The network is strongly typed: the builder may fuse layers, but it computes in these types.
        """
        kinds = self.trt.LayerType
        layers = self.layers
        producers = {layer.get_output(i).name: layer.type for layer in layers for i in range(layer.num_outputs)}
        executed = [layer for layer in layers if layer.type != kinds.CONSTANT]

        def computed(layer: Any) -> str:
            # One input where the weights are constant; a third is the bias.
            tensors = [layer.get_input(i) for i in range(min(2, layer.num_inputs))]
            sources = [producers.get(tensor.name) for tensor in tensors if tensor is not None]
            return "int8" if sources == [kinds.DEQUANTIZE] * 2 else layer.get_output(0).dtype.name

        convolutions = [layer for layer in layers if layer.type == kinds.CONVOLUTION]
        products = [*convolutions, *(layer for layer in layers if layer.type == kinds.MATRIX_MULTIPLY)]
        return Facts(
            convolutions=len(convolutions),
            quantized_convolutions=[computed(layer) for layer in convolutions].count("int8"),
            layers=len(layers),
            products=by_precision(map(computed, products)),
            types=by_precision(layer.get_output(0).dtype.name for layer in executed),
        )

    @property
    def layers(self) -> list[Any]:
        return [self.network.get_layer(i) for i in range(self.network.num_layers)]

    def profile(self, max_batch: int) -> Any:
        """An IOptimizationProfile: batches of 1 to `max_batch`, fastest at the typical one."""
        images = self.network.get_input(0)
        picture = tuple(images.shape)[1:]
        profile = self.builder.create_optimization_profile()
        typical = min(TYPICAL_BATCH, max_batch)
        profile.set_shape(images.name, (1, *picture), (typical, *picture), (max_batch, *picture))
        return profile


def parse_network(model: Path) -> ParsedNetwork:
    """Read an ONNX file into a strongly typed network.

    Raises:
        EngineUnavailableError: no TensorRT is installed.
        InputError: TensorRT cannot read the graph; shows the parser's first message.
    """
    trt = runtime_module()
    logger = collecting_logger(trt)
    logger.forget()
    # Newer versions have only such networks and may drop the flag.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    builder = trt.Builder(logger)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        reason = "no reason given"
        if parser.num_errors:
            error = parser.get_error(0)
            # An error without a node, as for a file that is not ONNX, has the node number -1.
            where = f"node {error.node()}: " if error.node() >= 0 else ""
            reason = where + one_line(error.desc())
        raise InputError(f"{model}: TensorRT cannot read the graph: {reason}")
    return ParsedNetwork(trt, builder, parser, network, tuple(logger.warnings))


def build_tensorrt(parent: Bundle, out: Path, target: GpuTarget, *, replaces: Bundle | None = None) -> Bundle:
    """Build the engine of an ONNX bundle; its precision is the parent's.

    `tensorrt` keeps the timings of kernels in a cache beside the bundle, so that the next build is shorter (not run on
    a GPU; in TensorRT-RTX such a cache has no effect, so none is used there).

    Args:
        parent: fp32, an fp16 typed graph, or an int8 Q/DQ graph made for TensorRT (symmetric INT8, float bias).
        out: the bundle to write; a bundle that was made from the same inputs is kept.
        replaces: an engine that this one replaces, keeping its decisions, even if it was made from the same inputs.

    Raises:
        InputError: the parent is none of these, TensorRT refuses the graph, or DLA with more than one picture per call.
        EngineUnavailableError: no TensorRT here, or none that builds for this compute capability here, no such DLA
            core, or fp32 for DLA.
    """
    _require_buildable(parent, target.max_batch, target.dla)
    trt, sm, precision = runtime_module(), target.sm, parent.manifest.precision
    built_for = BuiltForTensorRt(
        runtime=trt.__name__,  # type: ignore[arg-type] # one of the two
        version=trt.__version__,
        onnx_sha256=parent.model_sha256,
        platform=platform_here(),
        compute_capability=f"SM{sm}",
        max_batch=target.max_batch,
        cuda_graph=target.cuda_graph,
        dla=target.dla,
        driver_cuda=driver_cuda(),
    )
    decisions = decisions_of(replaces, parent)
    asked = built_for.model_dump(exclude={"driver_cuda", "flags", "platform"})
    inputs = inputs_hash({"parent": parent.model_digest, **asked, **decisions})
    if replaces is None and (made := kept_engine(parent, out, inputs)) is not None:
        return made
    _require_target(trt, sm, precision)
    log.info("building a TensorRT engine for SM%d from %s", sm, parent.path)
    parsed = parse_network(parent.model_path)
    _require_contract(parsed, parent)
    facts = parsed.facts
    config = builder_config(parsed, precision=precision, sm=sm, max_batch=target.max_batch)
    if target.dla is not None:
        facts = facts.model_copy(update={"dla_layers": _prefer_dla(parsed, config, target.dla)})
    flags = ", ".join(name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag)) or "none"
    timings = out.parent / f"timing-{trt.__name__}-{trt.__version__}-SM{sm}.cache"
    plan = _build(parsed, config, parent, sm, timings if timing_cache.is_kept(trt) else None)
    with derived_bundle(
        parent,
        out,
        kind="tensorrt",
        precision=precision,
        model=MODEL,
        calibration=parent.manifest.calibration,
        built_for=built_for.model_copy(update={"flags": flags}),
        facts=facts,
        tools={trt.__name__: trt.__version__, "edgepress": version("edgepress")},
        inputs=inputs,
        **decisions,
    ) as folder:
        (folder / MODEL).write_bytes(plan)
    return Bundle.open(out)


def _require_buildable(parent: Bundle, max_batch: int, dla: int | None) -> None:
    """Stop if no machine could build what was asked for."""
    if parent.manifest.kind != "onnx":
        raise InputError(f"{parent.path}: a bundle of kind {parent.manifest.kind}; expected onnx")
    require_logits_alone(parent)
    if max_batch < 1:
        raise InputError(f"max_batch {max_batch}: expected at least 1")
    if dla is not None and max_batch != 1:  # TensorRT requires one fixed shape on DLA
        raise InputError(
            f"dla {dla} with max_batch {max_batch}: an engine for DLA takes one picture a call (max_batch 1)"
        )
    if dla is not None and parent.manifest.precision == "fp32":
        raise EngineUnavailableError(f"dla {dla}: {parent.path} is fp32; DLA computes in fp16 and int8")


def _require_target(trt: ModuleType, sm: int, precision: str) -> None:
    """Stop if no engine can be built here for this compute capability."""
    if trt.__name__ == "tensorrt":
        present = cuda_compute_capability()
        if present is None:
            raise EngineUnavailableError(f"tensorrt builds on the GPU that it builds for; SM{sm} asked, no GPU here")
        if sm_name(present) != f"SM{sm}":
            raise EngineUnavailableError(
                f"SM{sm}: tensorrt builds for the GPU present, {sm_name(present)}; build on an SM{sm} GPU"
            )
        return
    known = [int(name[2:]) for name in trt.ComputeCapability.__members__ if re.fullmatch(r"SM\d+", name)]
    # Turing has no FP32 matrix product in TensorRT-RTX, and a Q/DQ graph keeps some in float.
    usable = [f"SM{number}" for number in sorted(known) if precision == "fp16" or number >= 80]
    if f"SM{sm}" not in usable:
        raise EngineUnavailableError(
            f"SM{sm}: {trt.__name__} {trt.__version__} builds {precision} for {', '.join(usable)}; "
            "for another GPU build on it with tensorrt"
        )


def _require_contract(parsed: ParsedNetwork, parent: Bundle) -> None:
    """Stop unless the network takes uint8 pictures and gives float32 logits, in the precision that the parent names."""
    trt, network, path = parsed.trt, parsed.network, parent.model_path
    if (network.num_inputs, network.num_outputs) != (1, 1):
        raise InputError(f"{path}: {network.num_inputs} inputs and {network.num_outputs} outputs; expected one of each")
    size = parent.preprocess.size
    for tensor, dtype, shape in (
        (network.get_input(0), trt.DataType.UINT8, (-1, size, size, 3)),
        (network.get_output(0), trt.DataType.FLOAT, (-1, len(parent.labels))),
    ):
        if (tensor.dtype, tuple(tensor.shape)) != (dtype, shape):
            raise InputError(
                f"{path}: {tensor.name} is {tensor.dtype.name} {list(tensor.shape)}; "
                f"expected {dtype.name} {list(shape)} (-1: a batch of any size)"
            )
    precision = parent.manifest.precision
    types = {layer.get_output(i).dtype for layer in parsed.layers for i in range(layer.num_outputs)}
    if precision == "fp16" and trt.DataType.HALF not in types:
        raise InputError(f"{path}: not an fp16 graph: no layer gives float16")
    if precision == "int8":
        facts = parsed.facts
        quantized, convolutions = facts.quantized_convolutions, facts.convolutions
        said = "with dequantized input and weights"
        if quantized == 0:
            raise InputError(f"{path}: not a Q/DQ graph for TensorRT: no convolution {said}")
        log.info("  the parsed network: %d of %d convolutions %s", quantized, convolutions, said)
    # TensorRT reads such a tensor as INT8, and the engine answers wrongly.
    if any("UINT8 zero_point" in message for message in parsed.warnings):
        raise InputError(f"{path}: not a Q/DQ graph for TensorRT: UINT8 zero points; expected symmetric INT8")


def builder_config(parsed: ParsedNetwork, *, precision: str, sm: int, max_batch: int) -> Any:
    """An IBuilderConfig with one optimisation profile, the target where the runtime takes one, and no TF32 for fp32.

    Raises:
        InputError: the runtime refuses the compute capability.
    """
    trt = parsed.trt
    config = parsed.builder.create_builder_config()
    if precision == "fp32" and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: products of 10-bit mantissas
    if trt.__name__ == "tensorrt_rtx":
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), 0):
            raise InputError(f"SM{sm}: {trt.__name__} {trt.__version__} refuses this compute capability")
    config.add_optimization_profile(parsed.profile(max_batch))
    return config


def _prefer_dla(parsed: ParsedNetwork, config: Any, core: int) -> int:
    """Give a DLA core the layers that it can run; returns the builder's count of them, without constants."""
    trt, cores = parsed.trt, parsed.builder.num_DLA_cores
    if core >= cores:
        raise EngineUnavailableError(
            f"dla {core}: {trt.__name__} finds {cores} DLA cores here; they are numbered from 0"
        )
    config.default_device_type, config.DLA_core = trt.DeviceType.DLA, core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)  # DLA cannot run the preprocessing and the head
    able = sum(config.can_run_on_DLA(layer) for layer in parsed.layers if layer.type != trt.LayerType.CONSTANT)
    if not able:  # the engine would run on the GPU alone under another name
        raise EngineUnavailableError(f"dla {core}: the builder finds no layer of this network that DLA can run")
    return able


def _build(parsed: ParsedNetwork, config: Any, parent: Bundle, sm: int, timings: Path | None) -> Any:
    """The serialised engine, an object with the buffer protocol."""
    if timings is not None:
        timing_cache.read(config, timings)
    logger = collecting_logger(parsed.trt)
    logger.forget()
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if plan is None:
        raise InputError(f"{parent.model_path}: TensorRT cannot build it for SM{sm}: {first_line(logger.errors)}")
    if timings is not None:
        timing_cache.write(config, timings)
    return plan
