"""What the tests of TensorRT engines are built from: ONNX bundles of one small random model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepress.deploy.build.reference import REFERENCE
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.manifest import Quantization

SIZE = 64
LABELS = LabelSpace(("cat", "dog", "snow"))
DECISIONS = Decisions.plain(LABELS.names, (0.25, 0.5, 0.75))
QUANTIZATION = Quantization(pictures=4, sha256="ab", split="train", method="min-max")
TEST_CONVOLUTIONS = 17  # of timm's test_efficientnet


def wrap(path: Path, model: bytes, like: Bundle, **fields) -> Bundle:
    """Any bytes as an ONNX bundle with another's labels, preprocessing and reference."""
    given = {"labels": LABELS.names, "preprocess": like.preprocess, "parent": like.as_parent, "opset": 20} | fields
    with write_bundle(path, kind="onnx", model="model.onnx", **given) as folder:
        (folder / "model.onnx").write_bytes(model)
        (folder / REFERENCE).write_bytes((like.path / REFERENCE).read_bytes())
    return Bundle.open(path)


def half(parent: Bundle) -> bytes:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    float16 = pytest.importorskip("onnxruntime.transformers.float16", reason="onnxruntime is not installed")
    return float16.convert_float_to_float16(onnx.load(parent.model_path), keep_io_types=True).SerializeToString()


def quantized(parent: Bundle, images: np.ndarray, root: Path) -> bytes:
    """The Q/DQ graph that TensorRT takes: symmetric INT8, weights stored as INT8, float bias."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")
    shape_inference = pytest.importorskip("onnxruntime.quantization.shape_inference", reason="sympy is not installed")

    class Pictures(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{"images": images}])

        def get_next(self):
            return next(self.left, None)

    shape_inference.quant_pre_process(str(parent.model_path), str(root / "prepared.onnx"))
    quantization.quantize_static(
        str(root / "prepared.onnx"),
        str(root / "quantized.onnx"),
        Pictures(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": False,
            "QuantizeBias": False,
        },
    )
    return (root / "quantized.onnx").read_bytes()
