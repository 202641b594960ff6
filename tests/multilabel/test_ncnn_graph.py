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
    images = RNG.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
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
