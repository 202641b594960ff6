"""INT8 models in OpenVINO's representation, by NNCF."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from calibration.qdq import PERCENTILE, Method, OnnxQuantizer, label_products

_CONVOLUTIONS = ("Convolution", "GroupConvolution")


def _onnx_name(operation: Any) -> str:
    return operation.get_friendly_name().removesuffix("/WithoutBiases")


class OpenVinoQuantizer:
    """INT8 models of one fp32 ONNX model by NNCF on OpenVINO's representation."""

    def __init__(self, model: Path, folder: Path, images: np.ndarray) -> None:
        import onnx
        import openvino as ov

        self.source, self.folder, self.images, self.model = model, folder, images, ov.convert_model(str(model))
        operations = self.model.get_ordered_ops()
        # By their names in ONNX: a convolution with a bias becomes two operations, the first under a longer name.
        self.names = {
            _onnx_name(op): op.get_friendly_name() for op in operations if op.get_type_name() in _CONVOLUTIONS
        }
        self.convolutions = list(self.names)
        self.always_float = label_products(onnx.load(str(model)).graph)

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
            ignored_scope=nncf.IgnoredScope(names=[*(self.names[name] for name in kept), *self.always_float]),
            advanced_parameters=AdvancedQuantizationParameters(activations_range_estimator_params=ranges),
        )
        ov.save_model(quantized, str(out), compress_to_fp16=False)

    def float_convolutions(self, quantized: Path) -> tuple[str, ...]:
        """Convolutions without an INT8 constant behind their weights."""
        import openvino as ov

        kept = []
        for op in ov.Core().read_model(str(quantized)).get_ordered_ops():
            if op.get_type_name() in _CONVOLUTIONS:
                node, types = op.input_value(1).get_node(), set()
                while node.get_input_size():  # the chain of conversion, scaling and reshaping down to the constant
                    node = node.input_value(0).get_node()
                    types.add(node.get_output_element_type(0).get_type_name())
                if not types & {"i8", "u8"}:
                    kept.append(_onnx_name(op))
        return tuple(kept)

    def noisiest(self, quantized: Path, count: int) -> tuple[str, ...]:
        """As in ONNX Runtime's graph: OpenVINO keeps the names of ONNX's convolutions, and the noise is the model's."""
        folder = self.folder / "rank"
        folder.mkdir()
        onnx_quantizer = OnnxQuantizer(self.source, folder, self.images, "onnxruntime")
        onnx_quantizer.quantize(folder / "ranked.onnx", "minmax", ())
        return onnx_quantizer.noisiest(folder / "ranked.onnx", count)
