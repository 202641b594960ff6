"""INT8 models in OpenVINO's representation, by NNCF."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.calibration.int8.products import float_anyway
from edgepress.multilabel.openvino_model import openvino_model, own_signal_stack

_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
_RECURRENT = {"GRUSequence", "LSTMSequence", "RNNSequence", "GRUCell", "LSTMCell", "RNNCell"}
"""Operations that stay in float: OpenVINO's CPU plugin wants constants for their weights and finds NNCF's FakeQuantize
(openvino 2026.4.1, nncf 3.4.0)."""

_MOVES = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Broadcast", "Split", "VariadicSplit", "StridedSlice"}
_INT8 = {"i8", "u8"}


class OpenVinoQuantizer:
    """INT8 models of one fp32 ONNX model, made by NNCF in OpenVINO's representation.

    Args:
        model: the float ONNX file.
        images: uint8 calibration pictures `[N, size, size, 3]`.
        weight_bits: 8, or 7 for x86 processors whose INT8 products saturate.
    """

    def __init__(self, model: Path, images: np.ndarray, weight_bits: int = 8) -> None:
        import onnx

        self.images, self.weight_bits, self.model = images, weight_bits, openvino_model(model)
        # By their names in ONNX: a convolution with a bias becomes two operations, the first with a longer name.
        self.names = {
            _onnx_name(op): op.get_friendly_name()
            for op in self.model.get_ordered_ops()
            if op.get_type_name() in _PRODUCTS
        }
        # Some ONNX nodes are not operations of their own here.
        here = {op.get_friendly_name() for op in self.model.get_ops()}
        self.always_float = [name for name in float_anyway(onnx.load(str(model)).graph) if name in here]
        self.always_float += [
            op.get_friendly_name()
            for op in self.model.get_ops()
            if _averages_padding(op) or op.get_type_name() in _RECURRENT
        ]

    def write(self, out: Path, method: str, kept: tuple[str, ...] = ()) -> bool:
        """Write the model with the nodes `kept` in float; False where the method changes nothing about this model.

        Methods are `nncf` (its own ranges), `min-max`, `percentile-P`, and `smooth-quant` (for matrix products that
        read activations of a transformer); all of them use NNCF's fast bias correction.
        """
        # It warns of a missing GPU where a compiler for one is installed, and nothing here is compiled for one.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        import nncf
        import openvino as ov
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

        # Not by nncf.set_log_level, which also sets the level of every handler that others gave to this logger.
        logging.getLogger("nncf").setLevel(logging.ERROR)
        if method == "smooth-quant" and not any(op.get_type_name() == "MatMul" for op in self.model.get_ops()):
            return False
        ignored = [*(self.names[name] for name in kept), *self.always_float]
        ranges = {} if method in ("nncf", "smooth-quant") else {"activations_range_estimator_params": _ranges(method)}
        with contextlib.redirect_stdout(io.StringIO()), own_signal_stack():
            quantized = nncf.quantize(
                self.model.clone(),
                nncf.Dataset([image[None] for image in self.images]),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER if method == "smooth-quant" else None,
                subset_size=len(self.images),
                ignored_scope=nncf.IgnoredScope(names=ignored),
                advanced_parameters=AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if self.weight_bits == 7 else OverflowFix.DISABLE, **ranges
                ),
            )
        ov.save_model(quantized, str(out), compress_to_fp16=False)
        return True

    @staticmethod
    def float_nodes(quantized: Path, products: list[str]) -> tuple[str, ...]:
        """The products that have no INT8 constant behind their weights, or that read an activation in float."""
        import openvino as ov

        found = {
            _onnx_name(op): op
            for op in ov.Core().read_model(str(quantized)).get_ordered_ops()
            if op.get_type_name() in _PRODUCTS
        }
        return tuple(name for name in products if name in found and not _is_int8(found[name]))

    @staticmethod
    def structure(quantized: Path) -> tuple:
        """What latency depends on, which is the operations."""
        import openvino as ov

        operations = ov.Core().read_model(str(quantized)).get_ordered_ops()
        where = tuple(
            op.get_friendly_name() for op in operations if op.get_type_name() in _PRODUCTS and not _is_int8(op)
        )
        return tuple(sorted(Counter(op.get_type_name() for op in operations).items())), where


def _averages_padding(op: Any) -> bool:
    """Whether a pooling counts its padding: OpenVINO's CPU plugin pads INT8 with the byte 0, not with the zero point
    (openvino 2026.4.1, findings/openvino-int8-pool-padding.sh)."""
    if op.get_type_name() != "AvgPool":
        return False
    about = op.get_attributes()
    return not about["exclude-pad"] and any((*about["pads_begin"], *about["pads_end"]))


def _onnx_name(operation: Any) -> str:
    return operation.get_friendly_name().removesuffix("/WithoutBiases")


def _is_int8(operation: Any) -> bool:
    return all(_reads_int8(operation, place) for place in (0, 1))


def _reads_int8(operation: Any, place: int) -> bool:
    """Whether an input comes through a FakeQuantize or from an INT8 constant, with nothing computed in between."""
    node = _source(operation, place, _MOVES)
    if node.get_type_name() == "FakeQuantize":
        return True
    constant = _source(operation, place, _MOVES | {"Convert", "Subtract", "Multiply"})
    return constant.get_type_name() == "Constant" and constant.get_output_element_type(0).get_type_name() in _INT8


def _source(operation: Any, place: int, passed: set[str]) -> Any:
    node = operation.input_value(place).get_node()
    while node.get_type_name() in passed:
        node = node.input_value(0).get_node()
    return node


def _ranges(method: str) -> Any:
    """NNCF's estimators for one range over all pictures, from the extremes or quantiles of each picture."""
    from nncf.quantization.range_estimator import (
        AggregatorType,
        RangeEstimatorParameters,
        StatisticsCollectorParameters,
        StatisticsType,
    )

    if method == "min-max":
        low = StatisticsCollectorParameters(StatisticsType.MIN, AggregatorType.MIN)
        high = StatisticsCollectorParameters(StatisticsType.MAX, AggregatorType.MAX)
    else:
        tail = 1 - float(method.removeprefix("percentile-")) / 100
        low = StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MIN, quantile_outlier_prob=tail)
        high = StatisticsCollectorParameters(StatisticsType.QUANTILE, AggregatorType.MAX, quantile_outlier_prob=tail)
    return RangeEstimatorParameters(min=low, max=high)
