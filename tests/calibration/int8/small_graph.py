"""A net of four products as the exporter writes one, small enough to quantise in a tenth of a second."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PRODUCTS = ["stem", "deep", "wide", "head"]
PICTURES = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), np.uint8)
MEANS = (120.0, 110.0, 112.0)


def small_graph() -> onnx.ModelProto:
    """Pixels, a convolution and ReLU, one a channel and Clip, a sum, one of 1 x 1 without bias, mean, linear, a sum."""
    rng = np.random.default_rng(0)
    constants = {
        "mean": np.array(MEANS),
        "scale": np.array([0.017, 0.018, 0.0175]),
        "stem.w": rng.normal(size=(8, 3, 3, 3)) * np.geomspace(0.1, 10, 8)[:, None, None, None],
        "stem.b": rng.normal(size=8),
        "deep.w": rng.normal(size=(8, 1, 3, 3)),
        "deep.b": rng.normal(size=8),
        "low": np.array(0.0),
        "high": np.array(6.0),
        "offset": rng.normal(size=(8, 1, 1)),
        "wide.w": rng.normal(size=(12, 8, 1, 1)),
        "head.w": rng.normal(size=(12, 5)),
        "head.b": rng.normal(size=5),
        "shift": rng.normal(size=5),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["shifted"], "sub"),
        helper.make_node("Mul", ["shifted", "scale"], ["scaled"], "mul"),
        helper.make_node("Transpose", ["scaled"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "stem.w", "stem.b"], ["a"], "stem", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["ra"], "relu"),
        helper.make_node("Conv", ["ra", "deep.w", "deep.b"], ["b"], "deep", group=8, pads=[1] * 4),
        helper.make_node("Clip", ["b", "low", "high"], ["cb"], "clip"),
        helper.make_node("Add", ["cb", "offset"], ["sum"], "sum"),
        helper.make_node("Conv", ["sum", "wide.w"], ["c"], "wide"),
        helper.make_node("ReduceMean", ["c", "places"], ["pooled"], "pool", keepdims=0),
        helper.make_node("Gemm", ["pooled", "head.w", "head.b"], ["answers"], "head"),
        helper.make_node("Add", ["answers", "shift"], ["logits"], "add"),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [*tensors, numpy_helper.from_array(np.array([2, 3]), "places")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def attending_graph() -> onnx.ModelProto:
    """Pixels, a convolution, and five queries that look at all 64 places almost alike, as an untrained head does."""
    rng = np.random.default_rng(2)
    constants = {
        "stem.w": rng.normal(size=(8, 3, 3, 3)) / 255,
        "keys.w": rng.normal(size=(8, 8)) / 1000,
        "queries": rng.normal(size=(5, 8)),
        "last": rng.normal(size=(8, 1)),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "stem.w"], ["a"], "stem", pads=[1] * 4),
        helper.make_node("Reshape", ["a", "flat"], ["values"], "reshape"),
        helper.make_node("Transpose", ["values"], ["places"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["places", "keys.w"], ["keys"], "keys"),
        helper.make_node("Transpose", ["keys"], ["keys.t"], "turn_keys", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["queries", "keys.t"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["attention"], "softmax", axis=-1),
        helper.make_node("MatMul", ["attention", "places"], ["seen"], "seen"),
        helper.make_node("MatMul", ["seen", "last"], ["columns"], "last"),
        helper.make_node("Reshape", ["columns", "row"], ["logits"], "row"),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    shapes = {"flat": [-1, 8, 64], "row": [-1, 5]}
    graph = helper.make_graph(
        nodes,
        "attending",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [*tensors, *(numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items())],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
