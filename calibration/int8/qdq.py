"""Q/DQ graphs of an ONNX model, made by ONNX Runtime's quantiser for ONNX Runtime and TensorRT."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgepress.calibration.int8.graphs import copy_of
from edgepress.calibration.int8.pixels import CENTRED, fold_normalisation, read_pixels
from edgepress.calibration.int8.products import (
    PRODUCTS,
    float_anyway,
    multiplications,
    softmax_positions,
    weight_elements,
)
from edgepress.calibration.int8.ranges import Method, Ranges
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.manifest import Target
from edgepress.multilabel.softmax_range import softmax_range

_ENDINGS = ("Clip", "Relu")
"""Activations that a runtime fuses with the preceding convolution."""


def check_qdq(model: Path, target: Literal["onnxruntime", "tensorrt"]) -> Counter[str]:
    """Count a Q/DQ graph's operators and check that the target reads it as intended.

    Raises:
        InputError: no tensor is quantised, or for TensorRT a zero point is not INT8 0 (TensorRT would read it as INT8
            with only a warning, and answers would be wrong).
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(model)).graph
    operators = Counter(node.op_type for node in graph.node)
    if not operators["DequantizeLinear"]:
        raise InputError(f"{model}: no DequantizeLinear in the graph; it is not an INT8 model")
    if target == "tensorrt":
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
                zero = numpy_helper.to_array(constants[node.input[2]])
                if zero.dtype != np.int8 or np.any(zero):
                    raise InputError(f"{model}: {node.name} has a {zero.dtype} zero point; TensorRT takes INT8, 0")
    return operators


def float_products(model: Path) -> tuple[str, ...]:
    """Convolutions and matrix products of a Q/DQ graph that do not read two dequantised tensors."""
    import onnx

    graph = onnx.load(str(model)).graph
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return tuple(n.name for n in graph.node if n.op_type in PRODUCTS and not dequantised.issuperset(n.input[:2]))


def convolutions_in_int8(model: Path) -> tuple[int, int]:
    """The convolutions of a Q/DQ graph that read two dequantised tensors, and all convolutions."""
    import onnx

    names = {node.name for node in onnx.load(str(model)).graph.node if node.op_type == "Conv"}
    return len(names - set(float_products(model))), len(names)


class OnnxQuantizer:
    """Q/DQ graphs of one fp32 ONNX model, made by ONNX Runtime's quantiser.

    Args:
        model: the float ONNX file.
        folder: an empty folder to work in.
        images: uint8 calibration pictures `[N, size, size, 3]`.
        target: the runtime that reads the graphs; those that are quantised in a form of their own get ONNX Runtime's.
        weight_bits: 8, or 7 for x86 processors whose INT8 products saturate; see `multilabel.saturation`.
    """

    def __init__(self, model: Path, folder: Path, images: np.ndarray, target: Target, weight_bits: int = 8) -> None:
        import onnx
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self.images, self.target, self.prepared = images, target, folder / "prepared.onnx"
        self.reduce_range = weight_bits == 7
        # The runtime computes a norm in float, so quantising its weights would only warn.
        every = {**QLinearOpsRegistry, **QDQRegistry}.keys() - {"LayerNormalization"}
        self.operators = list(PRODUCTS) if target == "tensorrt" else sorted(every)
        quant_pre_process(str(model), str(self.prepared), skip_symbolic_shape=True)
        prepared = onnx.load(str(self.prepared))
        # TensorRT needs the pixels cast, shifted and scaled, and symmetric.
        self.zero = None if target == "tensorrt" else fold_normalisation(prepared)
        onnx.save(prepared, str(self.prepared))
        self.float_model, graph = prepared, prepared.graph
        self.always_float = float_anyway(graph)
        self.products = [n.name for n in graph.node if n.op_type in PRODUCTS and n.name not in self.always_float]
        if not self.products:
            raise InputError(f"{model}: no convolution or matrix product to quantise")
        self.weights = weight_elements(graph)
        with contextlib.redirect_stdout(io.StringIO()):  # ONNX Runtime's calibrators print while they run
            self.ranges = Ranges.of_onnx(self.prepared, self.operators, folder, images)
        self.macs = multiplications(graph, self.ranges.shapes)
        self._by: dict[Method, dict[str, tuple[np.ndarray, np.ndarray]]] = {}

    def write(self, out: Path, method: Method, kept: tuple[str, ...] = ()) -> None:
        """Write the graph with the nodes `kept` in float."""
        import onnx

        onnx.save(self.quantized(method, kept), str(out))

    def quantized(self, method: Method, kept: tuple[str, ...] = ()) -> Any:
        """The graph that `write` writes, as a ModelProto."""
        return self._quantized(self._tensors(method), excluded=[*kept, *self.always_float])

    def only(self, node: str, method: Method) -> Any:
        """The graph (a ModelProto) in which one node and the activation after it are quantised; all else is float."""
        graph = self.float_model.graph
        (one,) = (other for other in graph.node if other.name == node)
        ends = [other for other in graph.node if other.op_type in _ENDINGS and other.input[0] == one.output[0]]
        around = {*one.input, *one.output, *(name for other in ends for name in other.output)}
        ranges = {name: value for name, value in self._tensors(method).items() if name in around}
        return self._quantized(ranges, nodes=[node, *(other.name for other in ends)])

    def _quantized(
        self,
        ranges: dict[str, tuple[np.ndarray, np.ndarray]],
        nodes: Sequence[str] = (),
        excluded: Sequence[str] = (),
    ) -> Any:
        """The Q/DQ graph, as a ModelProto, of some nodes (all if none are named) without others."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        tensorrt = self.target == "tensorrt"
        with contextlib.redirect_stdout(io.StringIO()):
            quantizer = QDQQuantizer(
                copy_of(self.float_model),
                per_channel=True,
                reduce_range=self.reduce_range,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QInt8 if tensorrt else QuantType.QUInt8,
                tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
                nodes_to_quantize=list(nodes),
                nodes_to_exclude=list(excluded),
                op_types_to_quantize=self.operators,
                extra_options={
                    "ActivationSymmetric": tensorrt,
                    "WeightSymmetric": True,
                    "AddQDQPairToWeight": False,
                    "QuantizeBias": not tensorrt,
                    # TensorRT fuses a product with the activation after it: if the tensor between them were quantised,
                    # its range would cover what the activation cuts off.
                    "OpTypesToExcludeOutputQuantization": list(PRODUCTS) if tensorrt else [],
                },
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        model = quantizer.model.model
        read_pixels(model.graph)
        return model

    def _tensors(self, method: Method) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Every tensor's range, in the form that the quantiser takes."""
        if method not in self._by:
            ranges = self.ranges.by(method)
            if self.zero is not None:  # a picture's bytes minus the whole number in their middle: nothing to measure
                ranges[CENTRED] = (-self.zero, 255 - self.zero)
            for name, positions in softmax_positions(self.float_model.graph, self.ranges.shapes).items():
                ranges[name] = softmax_range(ranges[name][1], positions)
            self._by[method] = {
                name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()
            }
        return dict(self._by[method])

    @staticmethod
    def float_nodes(quantized: Path, products: list[str]) -> tuple[str, ...]:
        """The products that are in float in a graph written here."""
        return tuple(name for name in float_products(quantized) if name in set(products))

    @staticmethod
    def structure(quantized: Path) -> tuple:
        """What latency depends on: the operators, and which of them are in float."""
        import onnx

        graph = onnx.load(str(quantized)).graph
        return tuple(sorted(Counter(n.op_type for n in graph.node).items())), float_products(quantized)
