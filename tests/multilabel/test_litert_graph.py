"""Rewrites for LiteRT: the same answers, in the operators that LiteRT quantises well."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[onnxruntime]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgepress.multilabel.litert_graph import for_litert  # noqa: E402


def model(nodes: list, inputs: dict[str, list], outputs: list[str], **constants: np.ndarray):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


def run(graph, **feeds: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def rewritten(graph, **feeds: np.ndarray):
    """The rewritten graph, checked, proven to be a copy and to answer alike."""
    before = graph.SerializeToString()
    found = for_litert(graph)
    assert graph.SerializeToString() == before
    onnx.checker.check_model(found, full_check=True)
    for was, now in zip(run(graph, **feeds), run(found, **feeds), strict=True):
        assert was.shape == now.shape
        np.testing.assert_allclose(now, was, rtol=1e-5, atol=1e-5)
    return found.graph


def operators(graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.node)


RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_padding_called_same_is_inside_the_convolution_and_no_other_is(size, kernel, stride):
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    same = [total // 2] * 2 + [total - total // 2] * 2
    given = {"same": same, "shifted": [*same[2:], *same[:2]], "more": [pad + 1 for pad in same]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], [name], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)
        for name, pads in given.items()
    ]
    graph = model(nodes, {"x": ["batch", 3, size, size]}, list(given), w=normal(4, 3, kernel, kernel))
    found = {
        node.name: [one.s for one in node.attribute if one.name == "auto_pad"]
        for node in rewritten(graph, x=normal(2, 3, size, size)).node
    }
    assert found == {name: [b"SAME_UPPER"] if pads == same and any(pads) else [] for name, pads in given.items()}


def test_a_dilated_convolution_keeps_its_padding():
    """TensorFlow's padding is the same there, and ONNX Runtime takes none that it must compute."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], dilations=[2, 2], pads=[2, 2, 2, 2])
    graph = rewritten(model([node], {"x": ["batch", 3, 8, 8]}, ["y"], w=normal(4, 3, 3, 3)), x=normal(1, 3, 8, 8))
    assert list(graph.node[0].attribute) == list(node.attribute)


def test_padding_of_a_picture_of_any_size_stays_as_it_is():
    given = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}
    node = helper.make_node("Conv", ["x", "w"], ["y"], **given)
    graph = rewritten(model([node], {"x": ["b", 3, "h", "w"]}, ["y"], w=normal(4, 3, 3, 3)), x=normal(1, 3, 8, 8))
    assert list(graph.node[0].attribute) == list(node.attribute)


@pytest.mark.parametrize("rows", [(), (7,), (2, 7)])
@pytest.mark.parametrize("bias_first", [False, True])
def test_a_product_of_tokens_and_its_bias_become_one_gemm_of_rows(rows, bias_first):
    terms = ["b", "p"] if bias_first else ["p", "b"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"], "product"), helper.make_node("Add", terms, ["y"], "add")]
    graph = model(nodes, {"x": ["batch", *rows, 5]}, ["y"], w=normal(5, 4), b=normal(4))
    found = rewritten(graph, x=normal(3, *rows, 5))
    assert operators(found) == Counter(Gemm=1, Reshape=2 if rows else 0)
    (gemm,) = (node for node in found.node if node.op_type == "Gemm")
    assert (gemm.name, list(gemm.input[1:])) == ("product", ["w", "b"])


def test_what_is_added_to_each_token_is_no_bias():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"], "product"), helper.make_node("Add", ["p", "b"], ["y"])]
    graph = model(nodes, {"x": ["batch", 7, 5]}, ["y"], w=normal(5, 4), b=normal(7, 4))
    assert operators(rewritten(graph, x=normal(2, 7, 5))) == Counter(Gemm=1, Reshape=2, Add=1)


def test_a_product_that_others_read_keeps_its_add():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"], "product"), helper.make_node("Add", ["p", "b"], ["y"])]
    graph = model(nodes, {"x": ["batch", 7, 5]}, ["y", "p"], w=normal(5, 4), b=normal(4))
    assert operators(rewritten(graph, x=normal(2, 7, 5))) == Counter(Gemm=1, Reshape=2, Add=1)


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        (["batch", 7, 5], (7, 5, 4)),  # a matrix for each token
        (["batch", "tokens", 5], (5, 4)),  # the tokens cannot be restored
    ],
)
def test_other_products_stay_as_they_are(shape, weights):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x = normal(2, 7, 1, 5) if len(weights) == 3 else normal(2, 7, 5)
    shape = ["batch", 7, 1, 5] if len(weights) == 3 else shape
    assert operators(rewritten(model([node], {"x": shape}, ["y"], w=normal(*weights)), x=x)) == Counter(MatMul=1)


def test_a_product_of_two_activations_stays():
    graph = model([helper.make_node("MatMul", ["x", "z"], ["y"])], {"x": ["b", 3, 4], "z": ["b", 4, 2]}, ["y"])
    assert operators(rewritten(graph, x=normal(2, 3, 4), z=normal(2, 4, 2))) == Counter(MatMul=1)


def test_what_depends_on_no_picture_is_computed_once():
    nodes = [
        helper.make_node("Relu", ["queries"], ["positive"], "relu"),
        helper.make_node("Transpose", ["positive"], ["keys"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "keys"], ["scores"], "score"),
        helper.make_node("Add", ["scores", "bias"], ["y"], "add"),
    ]
    queries, bias = normal(3, 4), normal(3)
    found = rewritten(model(nodes, {"x": ["batch", 5, 4]}, ["y"], queries=queries, bias=bias), x=normal(2, 5, 4))
    assert operators(found) == Counter(Gemm=1, Reshape=2)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.initializer}
    np.testing.assert_array_equal(constants["keys"], queries.clip(0).T)
    assert "queries" not in constants


def test_a_graph_without_such_nodes_is_as_it_was():
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    graph = rewritten(model([node], {"x": ["batch", 4]}, ["y"], w=normal(4)), x=normal(2, 4))
    assert list(graph.node) == [node]


def test_dimensions_of_one_are_added_and_removed_by_a_constant_shape():
    axes = np.array([2], np.int64)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["u"], "add"),
        helper.make_node("Relu", ["u"], ["r"]),
        helper.make_node("Squeeze", ["r", "axes"], ["y"], "remove"),
    ]
    found = rewritten(model(nodes, {"x": ["batch", 3, 4]}, ["y"], axes=axes), x=normal(2, 3, 4))
    assert operators(found) == Counter(Reshape=2, Relu=1)
    assert "axes" not in {tensor.name for tensor in found.initializer}
    free = rewritten(model(nodes[:2], {"x": ["batch", "any", 4]}, ["r"], axes=axes), x=normal(2, 3, 4))
    assert operators(free) == Counter(Unsqueeze=1, Relu=1)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_alpha_of_an_elu_is_a_factor(alpha):
    graph = model([helper.make_node("Elu", ["x"], ["y"], "elu", alpha=alpha)], {"x": ["batch", 6]}, ["y"])
    found = rewritten(graph, x=4 * normal(3, 6))
    assert all(not node.attribute for node in found.node if node.op_type == "Elu" and alpha != 1.0)
    assert operators(found)["Elu"] == 1


NEAREST = [
    {},
    {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"coordinate_transformation_mode": "align_corners", "nearest_mode": "ceil"},
]


@pytest.mark.parametrize("attributes", NEAREST, ids=["default", "asymmetric", "align corners"])
@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_a_nearest_resize_gathers_the_pixels_that_onnx_takes(attributes, scale):
    graph = model(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], "resize", mode="nearest", **attributes)],
        {"x": ["batch", 3, 8, 6]},
        ["y"],
        scales=np.array([1, 1, scale, 2], np.float32),
    )
    found = rewritten(graph, x=normal(2, 3, 8, 6))
    assert operators(found) == {"Gather": 2}


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_another_resize_stays_as_it_is(mode):
    """A nearest one that crops also gives values that are no pixels."""
    crop = {"coordinate_transformation_mode": "tf_crop_and_resize"} if mode == "nearest" else {}
    graph = model(
        [helper.make_node("Resize", ["x", "roi", "scales"], ["y"], "resize", mode=mode, **crop)],
        {"x": ["batch", 3, 8, 6]},
        ["y"],
        scales=np.array([1, 1, 2, 2], np.float32),
        roi=np.array([0, 0, 0, 0, 1, 1, 2, 2], np.float32),
    )
    assert operators(rewritten(graph, x=normal(2, 3, 8, 6))) == {"Resize": 1}
