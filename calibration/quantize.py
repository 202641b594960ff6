"""INT8 graphs, one recipe a target.

One Q/DQ graph does not serve all: ONNX Runtime on x86 is fastest with asymmetric UInt8 activations and quantised
biases; TensorRT takes only symmetric INT8 with zero point 0 and float biases, around Conv, MatMul and Gemm; OpenVINO is
quantised by NNCF in its own representation. Which pictures set the ranges, and how, is tried on val.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from multilabel.errors import InputError

log = logging.getLogger("edgepress")

Target = Literal["onnxruntime", "tensorrt", "openvino"]
Method = Literal["minmax", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "percentile")
PERCENTILE = 99.99
"""Share of activations inside the range, in percent; the rest saturates."""
CHUNK = 16
"""Pictures whose activations are held at once."""
TENSORRT_OPERATORS = ("Conv", "MatMul", "Gemm")
MOST_FLOAT = 0.10
"""Largest share of convolutions that may be left in float."""
MOST_FLOAT_WEIGHTS = 0.05
"""Largest share of the weights that may be left in float for it, so that the file stays a third of fp32's."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """An INT8 model and how it came to be."""

    method: Method
    kept_float: tuple[str, ...]
    convolutions: int
    val_mAP: float


def quantize(
    model: Path,
    out: Path,
    images: np.ndarray,
    *,
    target: Target,
    evaluate: Callable[[Path], float],
    float_map: float,
    tolerance: float = 0.005,
) -> Quantized:
    """Write the INT8 model with the best val mAP that this search finds.

    Min-max and percentile ranges are tried with every convolution quantised. Where the better still loses more than
    `tolerance`, its noisiest convolutions are left in float, at most `MOST_FLOAT` of them, if that helps on val.

    Args:
        model: the fp32 ONNX file.
        out: file to write, .onnx, or .xml for OpenVINO.
        images: uint8 calibration pictures `[N, size, size, 3]`.
        target: the runtime that will execute it.
        evaluate: a model file to its mAP in [0, 1] on val.
        float_map: the fp32 model's mAP in [0, 1] on val.
        tolerance: loss of val mAP that needs no further search.

    Raises:
        InputError: the graph has nothing to quantise, or holds zero points that the target misreads.
    """
    with tempfile.TemporaryDirectory(prefix="edgepress-quantize-") as name:
        folder = Path(name)
        write: _OnnxWriter | _OpenVinoWriter
        if target == "openvino":
            write = _OpenVinoWriter(model, folder, images)
        else:
            write = _OnnxWriter(model, folder, images, target)
        tried: dict[tuple[Method, tuple[str, ...]], tuple[float, Path]] = {}

        def attempt(method: Method, kept: tuple[str, ...]) -> None:
            file = folder / str(len(tried)) / out.name
            file.parent.mkdir()
            with contextlib.redirect_stdout(io.StringIO()):  # both quantisers print as they go
                write.quantize(file, method, kept)
            tried[method, kept] = (evaluate(file), file)
            log.info(
                "  int8 for %s, %s ranges, %d of %d convolutions in float: val mAP %.2f (fp32 %.2f)",
                target,
                method,
                len(kept),
                len(write.convolutions),
                100 * tried[method, kept][0],
                100 * float_map,
            )

        for method in METHODS:
            attempt(method, ())
        best = max(tried, key=lambda key: tried[key][0])
        most = int(MOST_FLOAT * len(write.convolutions))
        if float_map - tried[best][0] > tolerance and most:
            kept = write.noisiest(tried[best][1], most)
            if kept:
                attempt(best[0], kept)
            best = max(tried, key=lambda key: tried[key][0])
        value, file = tried[best]
        for suffix in (out.suffix, ".bin") if target == "openvino" else (out.suffix,):
            shutil.copyfile(file.with_suffix(suffix), out.with_suffix(suffix))
    if target != "openvino":
        check_qdq(out, target)
    return Quantized(method=best[0], kept_float=best[1], convolutions=len(write.convolutions), val_mAP=value)


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


def _reader(name: str, images: np.ndarray):
    """Feeds the calibration pictures one at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{name: image[None]} for image in images])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    return Reader()


def _scores(graph: Any) -> list[str]:
    """The products of each label with a vector of its own, in an ML-Decoder's last step: they stay in float.

    They are a few thousand multiplications right before the logits; INT8 would win no time and cost precision, and
    OpenVINO's CPU plugin refuses to compile them.
    """
    batched = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 3}
    return [node.name for node in graph.node if node.op_type == "MatMul" and batched & set(node.input)]


class _OnnxWriter:
    """Q/DQ graphs of one fp32 ONNX model by ONNX Runtime's quantiser."""

    def __init__(self, model: Path, folder: Path, images: np.ndarray, target: Target) -> None:
        import onnx
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self.images, self.target, self.folder, self.prepared = images, target, folder, folder / "prepared.onnx"
        every = {**QLinearOpsRegistry, **QDQRegistry}.keys() - {
            "LayerNormalization"
        }  # the runtime computes it in float
        self.operators = list(TENSORRT_OPERATORS) if target == "tensorrt" else sorted(every)
        self.ranges: dict[Method, Any] = {}
        quant_pre_process(str(model), str(self.prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(self.prepared)).graph
        self.convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
        self.scores = _scores(graph)
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
            nodes_to_exclude=[*kept, *self.scores],
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


class _OpenVinoWriter:
    """INT8 models of one fp32 ONNX model by NNCF on OpenVINO's representation."""

    def __init__(self, model: Path, folder: Path, images: np.ndarray) -> None:
        import onnx
        import openvino as ov

        self.source, self.folder, self.images, self.model = model, folder, images, ov.convert_model(str(model))
        operations = self.model.get_ordered_ops()
        kinds = ("Convolution", "GroupConvolution")
        self.convolutions = [op.get_friendly_name() for op in operations if op.get_type_name() in kinds]
        self.scores = _scores(onnx.load(str(model)).graph)

    def quantize(self, out: Path, method: Method, kept: tuple[str, ...]) -> None:
        import nncf
        import openvino as ov
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
        from nncf.quantization.range_estimator import (
            AggregatorType,
            RangeEstimatorParameters,
            StatisticsCollectorParameters,
            StatisticsType,
        )

        nncf.set_log_level(logging.ERROR)
        tail = {} if method == "minmax" else {"quantile_outlier_prob": 1 - PERCENTILE / 100}
        low_statistic = StatisticsType.MIN if method == "minmax" else StatisticsType.QUANTILE
        high_statistic = StatisticsType.MAX if method == "minmax" else StatisticsType.QUANTILE
        low = StatisticsCollectorParameters(low_statistic, AggregatorType.MIN, **tail)
        high = StatisticsCollectorParameters(high_statistic, AggregatorType.MAX, **tail)
        ranges = RangeEstimatorParameters(min=low, max=high)
        quantized = nncf.quantize(
            self.model.clone(),
            nncf.Dataset([image[None] for image in self.images]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(self.images),
            ignored_scope=nncf.IgnoredScope(names=[*kept, *self.scores]),
            advanced_parameters=AdvancedQuantizationParameters(activations_range_estimator_params=ranges),
        )
        ov.save_model(quantized, str(out), compress_to_fp16=False)

    def noisiest(self, quantized: Path, count: int) -> tuple[str, ...]:
        """As in ONNX Runtime's graph: OpenVINO keeps the names of ONNX's convolutions, and the noise is the model's."""
        folder = self.folder / "rank"
        folder.mkdir()
        onnx_writer = _OnnxWriter(self.source, folder, self.images, "onnxruntime")
        onnx_writer.quantize(folder / "ranked.onnx", "minmax", ())
        return onnx_writer.noisiest(folder / "ranked.onnx", count)
