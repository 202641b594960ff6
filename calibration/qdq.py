"""Q/DQ graphs of an ONNX model by ONNX Runtime's quantiser, for ONNX Runtime and for TensorRT."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from multilabel.errors import InputError

Target = Literal["onnxruntime", "tensorrt", "openvino"]
Method = Literal["minmax", "percentile"]
PERCENTILE = 99.99
"""Share of activations inside the range, in percent; the rest saturates."""
CHUNK = 16
"""Pictures whose activations are held at once."""
TENSORRT_OPERATORS = ("Conv", "MatMul", "Gemm")
MOST_FLOAT_WEIGHTS = 0.05
"""Largest share of the weights that may be left in float for it, so that the file stays a third of fp32's."""


def check_qdq(model: Path, target: Literal["onnxruntime", "tensorrt"]) -> Counter[str]:
    """Count a Q/DQ graph's operators and check that the target reads it as it was meant.

    Raises:
        InputError: no quantised tensor at all, or for TensorRT a zero point that is not INT8 0 (it would be read as
            INT8 with only a warning, and answers would be wrong).
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


class OnnxQuantizer:
    """Q/DQ graphs of one fp32 ONNX model by ONNX Runtime's quantiser."""

    def __init__(self, model: Path, folder: Path, images: np.ndarray, target: Target) -> None:
        import onnx
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self.images, self.target, self.folder, self.prepared = images, target, folder, folder / "prepared.onnx"
        # The runtime computes a norm in float; quantising its weights would only warn.
        every = {**QLinearOpsRegistry, **QDQRegistry}.keys() - {"LayerNormalization"}
        self.operators = list(TENSORRT_OPERATORS) if target == "tensorrt" else sorted(every)
        self.ranges: dict[Method, Any] = {}
        quant_pre_process(str(model), str(self.prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(self.prepared)).graph
        self.convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
        # Behind the last convolution only products are worth it: INT8 sums and norms there win no time, and cost
        # precision.
        last = max((place for place, node in enumerate(graph.node) if node.op_type == "Conv"), default=-1)
        cheap = [node.name for node in graph.node[last + 1 :] if node.op_type not in ("MatMul", "Gemm", "Clip")]
        self.always_float = [*label_products(graph), *cheap]
        self.input = onnx.load(str(model), load_external_data=False).graph.input[0].name

    def quantize(self, out: Path, method: Method, kept: tuple[str, ...]) -> None:
        import onnx
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        tensorrt = self.target == "tensorrt"
        quantizer = QDQQuantizer(
            onnx.load(str(self.prepared)),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if tensorrt else QuantType.QUInt8,
            tensors_range=self._ranges(method),
            nodes_to_quantize=[],
            nodes_to_exclude=[*kept, *self.always_float],
            op_types_to_quantize=self.operators,
            extra_options={
                "ActivationSymmetric": tensorrt,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": False,
                "QuantizeBias": not tensorrt,
            },
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(out))

    def _ranges(self, method: Method):
        """Every tensor's range; measured once a method, in chunks, so that memory does not grow with the pictures."""
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        if method not in self.ranges:
            calibrator = create_calibrator(
                self.prepared,
                self.operators,
                augmented_model_path=str(self.folder / f"{method}.onnx"),
                calibrate_method=CalibrationMethod.MinMax if method == "minmax" else CalibrationMethod.Percentile,
                extra_options={} if method == "minmax" else {"percentile": PERCENTILE},
            )
            for start in range(0, len(self.images), CHUNK):
                calibrator.collect_data(_reader(self.input, self.images[start : start + CHUNK]))
            self.ranges[method] = calibrator.compute_data()
        return self.ranges[method]

    def float_convolutions(self, quantized: Path) -> tuple[str, ...]:
        """Convolutions whose weights are not dequantised from INT8."""
        import onnx

        graph = onnx.load(str(quantized)).graph
        dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        return tuple(n.name for n in graph.node if n.op_type == "Conv" and n.input[1] not in dequantised)

    def noisiest(self, quantized: Path, count: int) -> tuple[str, ...]:
        """The convolutions whose outputs lose most when they are quantised and dequantised, by SQNR."""
        import onnx
        from onnxruntime.quantization.qdq_loss_debug import (
            collect_activations,
            compute_activation_error,
            create_activation_matching,
            modify_model_output_intermediate_tensors,
        )

        few = self.images[:8]
        activations = []
        for model in (self.prepared, quantized):
            augmented = quantized.with_name(f"outputs-of-{model.name}")
            modify_model_output_intermediate_tensors(str(model), str(augmented))
            activations.append(collect_activations(str(augmented), _reader(self.input, few)))
        errors = compute_activation_error(create_activation_matching(activations[1], activations[0]))
        graph = onnx.load(str(self.prepared)).graph
        elements = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
        weights = {node.name: elements.get(node.input[1], 0) for node in graph.node if node.op_type == "Conv"}
        outputs = {node.name: node.output[0] for node in graph.node}
        sqnr = {name: errors[outputs[name]]["qdq_err"] for name in self.convolutions if outputs[name] in errors}
        chosen: list[str] = []
        room = MOST_FLOAT_WEIGHTS * sum(elements.values())
        for name in sorted(sqnr, key=lambda name: sqnr[name]):
            if len(chosen) < count and weights[name] <= room:
                chosen.append(name)
                room -= weights[name]
        return tuple(sorted(chosen))


def label_products(graph: Any) -> list[str]:
    """The products of each label with a vector of its own, in an ML-Decoder's last step: they stay in float.

    They are a few thousand multiplications right before the logits; INT8 would win no time and cost precision, and
    OpenVINO's CPU plugin refuses to compile them.
    """
    batched = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 3}
    return [node.name for node in graph.node if node.op_type == "MatMul" and batched & set(node.input)]


def _reader(name: str, images: np.ndarray):
    """Feeds the calibration pictures one at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{name: image[None]} for image in images])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    return Reader()
