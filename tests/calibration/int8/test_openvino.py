"""INT8 for OpenVINO: what its CPU plugin computes wrongly in INT8 is left in float."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ov = pytest.importorskip("openvino", reason="openvino is not installed (pip install 'edgepress[openvino]')")
pytest.importorskip("nncf", reason="nncf is not installed (pip install 'edgepress[quantize]')")

from edgepress.calibration.int8.openvino import OpenVinoQuantizer  # noqa: E402
from edgepress.multilabel.saturation import weight_bits_here  # noqa: E402


def pooling_net(path: Path, counts_padding: int) -> Path:
    """uint8 pictures `[B, 8, 8, 3]` to logits `[B, 4]`; the padded pooling reads values on both sides of 0."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first", "bias"], ["seen"], name="first"),
        helper.make_node("HardSwish", ["seen"], ["active"]),
        helper.make_node(
            "AveragePool", ["active"], ["pooled"], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=counts_padding
        ),
        helper.make_node("Conv", ["pooled", "second"], ["found"], name="second"),
        helper.make_node("GlobalAveragePool", ["found"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    constants = {
        "scale": np.float32(1 / 64),
        "first": rng.normal(size=(8, 3, 1, 1)).astype(np.float32),
        "bias": (rng.normal(size=8) - 1).astype(np.float32),
        "second": rng.normal(size=(4, 8, 1, 1)).astype(np.float32),
    }
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", [images], [logits], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@pytest.mark.parametrize("counts_padding", [0, 1])
def test_a_pooling_that_counts_its_padding_keeps_its_zeros(tmp_path, counts_padding):
    model = pooling_net(tmp_path / "model.onnx", counts_padding)
    images = np.random.default_rng(1).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    OpenVinoQuantizer(model, images, weight_bits_here()).write(tmp_path / "int8.xml", "min-max")
    core, settings = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    fp32, int8 = (
        core.compile_model(core.read_model(tmp_path / name), "CPU", settings)([images])[0]
        for name in ("model.onnx", "int8.xml")
    )
    assert np.abs(int8 - fp32).max() < 0.015 * np.abs(fp32).max()  # 0.09 with the padding in INT8


def test_handlers_that_others_gave_to_nncf_s_logger_keep_their_level(tmp_path):
    handler = logging.StreamHandler()
    logging.getLogger("nncf").addHandler(handler)
    try:
        images = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        OpenVinoQuantizer(pooling_net(tmp_path / "model.onnx", 0), images).write(tmp_path / "int8.xml", "min-max")
        assert handler.level == logging.NOTSET
    finally:
        logging.getLogger("nncf").removeHandler(handler)


def test_a_recurrent_layer_stays_in_float_because_openvino_compiles_no_other(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 32, 3), "r": (1, 32, 8), "b": (1, 64)}
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["rows"], axes=[2], keepdims=0),
        helper.make_node("Transpose", ["rows"], ["sequence"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["sequence", "w", "r", "b"], ["all", "last"], hidden_size=8),
        helper.make_node("Squeeze", ["last", "first"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(rng.normal(0, 0.1, shape).astype(np.float32), n) for n, shape in shapes.items()
    ]
    constants.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])
    graph = helper.make_graph(nodes, "lstm", [images], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx")
    pictures = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    OpenVinoQuantizer(tmp_path / "model.onnx", pictures).write(tmp_path / "int8.xml", "min-max")
    core, settings = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    fp32, int8 = (
        core.compile_model(core.read_model(tmp_path / name), "CPU", settings)([pictures])[0]
        for name in ("model.onnx", "int8.xml")
    )
    assert np.abs(int8 - fp32).max() < 1e-3
