"""Rewrites for ncnn: the same answers, in forms that pnnx converts rightly."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.ncnn_graph import for_ncnn
from edgepress.multilabel.onnx_session import cpu_session

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SIZE = 8
RNG = np.random.default_rng(0)


def model(*nodes, last: str = "logits", **constants: np.ndarray):
    """A graph of pictures with these nodes behind it, which read "planes" `[batch, 3, 8, 8]`."""
    first = [
        helper.make_node("Cast", ["images"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
    ]
    return graph_of([*first, *nodes], last, **constants)


def graph_of(nodes, last: str, **constants: np.ndarray):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def answers(graph, images: np.ndarray) -> np.ndarray:
    return cpu_session(graph.SerializeToString()).run(None, {"images": images})[0]


def same(before, after) -> None:
    images = RNG.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    expected, found = answers(before, images), answers(after, images.astype(np.float32))
    assert expected.shape == found.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_pictures_are_floats(tmp_path):
    before = model(helper.make_node("GlobalAveragePool", ["planes"], ["logits"], "pool"))
    given = before.SerializeToString()
    after = for_ncnn(before)
    same(before, after)
    assert [node.op_type for node in after.graph.node] == ["Transpose", "GlobalAveragePool"]
    assert before.SerializeToString() == given


def test_bytes_may_be_moved_before_they_are_cast():
    """As where the search for an INT8 graph has moved the normalisation into the first convolution."""
    nodes = [
        helper.make_node("Transpose", ["images"], ["bytes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["bytes"], ["planes"], "cast", to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["planes"], ["logits"], "pool"),
    ]
    before = graph_of(nodes, "logits")
    same(before, for_ncnn(before))


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (helper.make_node("Cast", ["images"], ["logits"], "cast", to=TensorProto.DOUBLE), "are not cast to float32"),
        (
            helper.make_node("Max", ["images", "zero"], ["logits"], "max"),
            "are read by Max; expected one Cast",
        ),
    ],
)
def test_pictures_that_are_not_cast_to_float32_are_refused(node, told):
    with pytest.raises(InputError, match=told):
        for_ncnn(graph_of([node], "logits", zero=np.zeros(1, np.uint8)))


def test_what_depends_on_no_picture_is_computed_once():
    nodes = [
        helper.make_node("Exp", ["value"], ["grown"], "exp"),
        helper.make_node("Mul", ["planes", "grown"], ["logits"], "mul"),
    ]
    before = model(*nodes, value=np.ones(1, np.float32))
    after = for_ncnn(before)
    same(before, after)
    assert [node.op_type for node in after.graph.node] == ["Transpose", "Mul"]


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def axes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def reduction(kind: str, reads: list[str], gives: str, **attributes):
    return helper.make_node(kind, reads, [gives], "reduction", **attributes)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("over", [(1,), (2,), (-1,), (1, 2), (1, 3), (1, 2, 3), (3, 2)])
@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceSum", "ReduceL2", "ReduceMax"])
def test_a_reduction_becomes_a_pooling(kind, over, keepdims):
    before = model(reduction(kind, ["planes", "over"], "logits", keepdims=keepdims), over=axes(*over))
    after = for_ncnn(before)
    same(before, after)
    left = (kind, set(over)) == ("ReduceMean", {2, 3})  # pnnx converts that one rightly
    assert any(node.op_type == kind for node in after.graph.node) is left


def test_axes_that_are_an_attribute_are_read_as_well():
    before = model(reduction("ReduceMean", ["planes"], "logits", axes=[1], keepdims=0))
    before.opset_import[0].version = 17
    after = for_ncnn(before)
    same(before, after)
    assert all(node.op_type != "ReduceMean" for node in after.graph.node)


def test_what_reduces_nothing_or_the_batch_is_left_as_it_is():
    nothing = model(reduction("ReduceMean", ["planes"], "logits", noop_with_empty_axes=1))
    batch = model(reduction("ReduceMean", ["planes", "over"], "logits"), over=axes(0, 1))
    for before in (nothing, batch):
        assert [node.op_type for node in for_ncnn(before).graph.node] == ["Transpose", "ReduceMean"]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [(), (5,), (1, 5)])
def test_the_product_of_a_vector_becomes_a_convolution_with_its_name(transposed, bias):
    head = helper.make_node("Gemm", ["mean", "w", *(["b"] if bias else [])], ["logits"], "head", transB=int(transposed))
    mean = reduction("ReduceMean", ["planes", "over"], "mean", keepdims=0)
    constants = {"w": floats(5, 3) if transposed else floats(3, 5), **({"b": floats(*bias)} if bias else {})}
    before = model(mean, head, over=axes(2, 3), **constants)
    after = for_ncnn(before)
    same(before, after)
    assert [node.name for node in after.graph.node if node.op_type == "Conv"] == ["head"]


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}])
def test_a_product_that_is_scaled_is_left_as_it_is(attributes):
    head = helper.make_node("Gemm", ["mean", "w", "b"], ["logits"], "head", **attributes)
    mean = reduction("ReduceMean", ["planes", "over"], "mean", keepdims=0)
    before = model(mean, head, over=axes(2, 3), w=floats(3, 5), b=floats(5))
    after = for_ncnn(before)
    same(before, after)
    assert any(node.op_type == "Gemm" for node in after.graph.node)


def test_a_product_of_rows_is_left_as_it_is():
    nodes = [
        helper.make_node("Reshape", ["planes", "shape"], ["rows"], "rows"),
        helper.make_node("MatMul", ["rows", "w"], ["logits"], "head"),
    ]
    before = model(*nodes, shape=np.array([0, 24, 8], np.int64), w=floats(8, 5))
    same(before, for_ncnn(before))
    assert [node.op_type for node in for_ncnn(before).graph.node] == ["Transpose", "Reshape", "MatMul"]


def test_what_is_computed_of_shapes_is_computed_once():
    """As in edgenext, which reads the size of its pictures."""
    nodes = [
        helper.make_node("Shape", ["images"], ["sizes"], "shape", start=1, end=3),
        helper.make_node("ReduceProd", ["sizes"], ["count"], "count", keepdims=1),
        helper.make_node("Concat", ["first", "count"], ["whole"], "whole", axis=0),
        helper.make_node("Reshape", ["planes", "whole"], ["logits"], "flat"),
    ]
    before = model(*nodes, first=np.array([0, 3], np.int64))
    after = for_ncnn(before)
    same(before, after)
    assert [node.op_type for node in after.graph.node] == ["Transpose", "Reshape"]


def test_shapes_that_follow_from_others_are_known_as_well():
    """As in convnext's norms by the root mean square, of which pnnx would leave out the axes from the second on."""
    nodes = []
    for number, tensor in enumerate(("planes", "wide0")):
        nodes += [
            helper.make_node("Shape", [tensor], [f"sizes{number}"], f"shape{number}"),
            helper.make_node("Reshape", [f"sizes{number}", "flat"], [f"whole{number}"], f"reshape{number}"),
            helper.make_node("Expand", [tensor, f"whole{number}"], [f"wide{number}"], f"expand{number}"),
        ]
    nodes.append(helper.make_node("ReduceMean", ["wide1", "axes"], ["logits"], "mean", keepdims=1))
    before = model(*nodes, flat=np.array([-1], np.int64), axes=np.array([1], np.int64))
    after = for_ncnn(before)
    same(before, after)
    assert {"Shape", "ReduceMean"}.isdisjoint(node.op_type for node in after.graph.node)


def test_a_norm_of_rows_becomes_one_of_maps():
    """As exporters write a GroupNorm."""
    nodes = [
        helper.make_node("Reshape", ["planes", "rows"], ["grouped"], "rows"),
        helper.make_node("InstanceNormalization", ["grouped", "ones", "zeros"], ["normal"], "norm", epsilon=1e-3),
        helper.make_node("Reshape", ["normal", "back"], ["logits"], "back"),
    ]
    sizes = {"rows": np.array([0, 1, -1], np.int64), "back": np.array([0, 3, SIZE, SIZE], np.int64)}
    before = model(*nodes, **sizes, ones=np.full(1, 2, np.float32), zeros=np.ones(1, np.float32))
    after = for_ncnn(before)
    same(before, after)
    assert [node.op_type for node in after.graph.node].count("Reshape") == 4
