"""A transposed convolution whose padding is written out gives every runtime's answer to auto_pad, in any batch."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgepress.deploy.build.transposed import with_written_pads  # noqa: E402

MAPS = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)


def grown(kernel: list[int], **attributes: object) -> onnx.ModelProto:
    weights = np.random.default_rng(1).standard_normal((3, 2, *kernel)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attributes)],
        "grown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, "height", "width"])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_answer(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": MAPS})[0]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(
    ("kernel", "strides", "more"),
    [([3, 3], [2, 1], {}), ([4, 4], [2, 2], {}), ([3, 2], [1, 1], {"dilations": [2, 1]})],
)
def test_every_runtime_answers_what_auto_pad_means(auto_pad, kernel, strides, more):
    model = grown(kernel, strides=strides, auto_pad=auto_pad, **more)
    right = onnx_answer(model)
    assert right.shape == (2, 2, 4 * strides[0], 5 * strides[1])
    assert with_written_pads(model.graph) == 1
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(onnx_answer(model), right, atol=1e-5)
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([MAPS])[0], right, atol=1e-4)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2], "pads": [0, 0, 1, 1]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER", "output_shape": [9, 10]},
        {"strides": [5, 5], "auto_pad": "SAME_UPPER"},
    ],
    ids=["pads", "a size of its own", "a kernel below its stride"],
)
def test_others_stay_as_they_are(attributes):
    model = grown([3, 3], **attributes)
    before = model.SerializeToString()
    assert with_written_pads(model.graph) == 0
    assert model.SerializeToString() == before
