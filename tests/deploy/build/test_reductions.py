"""Reductions whose axes OpenVINO ignores give, in other operators, the numbers that ONNX defines."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

from edgepress.deploy.build.reductions import with_read_axes  # noqa: E402

BY_HAND = {
    "ReduceL1": lambda x, axes, kept: np.abs(x).sum(axes, keepdims=kept),
    "ReduceLogSum": lambda x, axes, kept: np.log(x.sum(axes, keepdims=kept)),
    "ReduceLogSumExp": lambda x, axes, kept: (
        x.max(axes, keepdims=kept) + np.log(np.exp(x - x.max(axes, keepdims=True)).sum(axes, keepdims=kept))
    ),
}


def pooled(operator: str, axes: list[int], keepdims: int | None) -> onnx.ModelProto:
    kept = {} if keepdims is None else {"keepdims": keepdims}
    shapes = [("x", ["batch", 3, 4, 5]), ("y", ["batch", *["rest"] * (3 if keepdims != 0 else 3 - len(axes))])]
    given, answer = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], axes=axes, **kept)], "g", [given], [answer])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert with_read_axes(model.graph) == 1
    onnx.checker.check_model(model, full_check=True)
    return model


def positive(operator: str) -> np.ndarray:
    """Values whose exponents overflow float32 in part; positive for a logarithm of their sum."""
    x = np.random.default_rng(0).uniform(-120, 120, (2, 3, 4, 5)).astype(np.float32)
    return np.abs(x) if operator == "ReduceLogSum" else x


@pytest.mark.parametrize("keepdims", [None, 0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, 1]])
@pytest.mark.parametrize("operator", BY_HAND)
def test_every_runtime_answers_what_onnx_defines(operator, axes, keepdims):
    model, x = pooled(operator, axes, keepdims).SerializeToString(), positive(operator)
    right = BY_HAND[operator](x.astype(np.float64), tuple(axes), keepdims != 0)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], right, rtol=1e-4)
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([x])[0], right, rtol=1e-4)


def test_other_reductions_and_those_of_everything_stay():
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3]),
        helper.make_node("ReduceL1", ["x"], ["all"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    assert with_read_axes(graph) == 0
    assert [node.op_type for node in graph.node] == ["ReduceMean", "ReduceL1"]


def test_one_within_a_branch_is_changed_too():
    node = helper.make_node("ReduceL1", ["x"], ["y"], axes=[1])
    branch = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)], "g", [], []
    )
    assert with_read_axes(graph) == 2
    for one in graph.node[0].attribute:
        assert [inner.op_type for inner in one.g.node] == ["Abs", "ReduceSum"]
        assert one.g.node[-1].output[0] == "y"
