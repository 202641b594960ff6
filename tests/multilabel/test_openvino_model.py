"""OpenVINO leaves logging and the signal stack of the program as they were, and computes what the ONNX says."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepress.multilabel.errors import InputError
from edgepress.multilabel.openvino_model import openvino_model

pytest.importorskip("openvino", reason="openvino is not installed (pip install 'edgepress[openvino]')")


def test_a_model_that_it_cannot_read_leaves_the_programs_logging_as_it_was(tmp_path):
    root, broken = logging.getLogger(), tmp_path / "model.onnx"
    broken.write_bytes(b"no graph")
    root.setLevel(logging.INFO)
    try:
        before = root.filters[:], root.handlers[:]
        with pytest.raises(InputError, match=r"model\.onnx: OpenVINO cannot read it: "):
            openvino_model(broken)
        assert (root.level, (root.filters, root.handlers)) == (logging.INFO, before)
    finally:
        root.setLevel(logging.WARNING)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_the_thread_that_loads_the_cpu_plugin_keeps_its_signal_stack():
    program = """
import openvino as ov
from edgepress.multilabel.openvino_model import SignalStack, own_signal_stack
before = SignalStack.of_this_thread()
with own_signal_stack():
    ov.Core().get_property("CPU", "FULL_DEVICE_NAME")
after = SignalStack.of_this_thread()
print((before.address, before.size, before.flags) == (after.address, after.size, after.flags))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def graph_of(*nodes: onnx.NodeProto, groups: int = 1) -> onnx.ModelProto:
    """A graph from x `[1, 2, 4, 4]` to y, with a 1x1 kernel named kernel and a whole picture of padding named pads."""
    shapes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims) for name, dims in SHAPES.items()]
    kernel = numpy_helper.from_array(np.full((2, 2 // groups, 1, 1), 0.5, np.float32), "kernel")
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    graph = helper.make_graph(nodes, "graph", shapes[:1], shapes[1:], [kernel, pads])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SHAPES = {"x": [1, 2, 4, 4], "y": [1, 2, 3, 3]}
RELU = helper.make_node("Relu", ["x"], ["r"])


@pytest.mark.parametrize(
    "model",
    [
        graph_of(RELU, helper.make_node("Conv", ["r", "kernel"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])),
        graph_of(RELU, helper.make_node("Conv", ["r", "kernel"], ["y"], pads=[1, 0, 0, 1], strides=[2, 2])),
        graph_of(
            RELU, helper.make_node("Conv", ["r", "kernel"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2], group=2), groups=2
        ),
        graph_of(
            RELU,
            helper.make_node("Pad", ["r", "pads"], ["p"]),
            helper.make_node("Conv", ["p", "kernel"], ["y"], strides=[2, 2]),
        ),
        graph_of(RELU, helper.make_node("Conv", ["r", "kernel"], ["y"], pads=[1, 1, 0, 0], strides=[2, 2])),
    ],
    ids=["padded", "begin and end", "depthwise", "pad apart", "begin"],
)
def test_a_padded_1x1_convolution_with_a_stride_answers_as_onnx_runtime_does(model, tmp_path):
    import onnxruntime as ort
    import openvino as ov

    onnx.save(model, tmp_path / "model.onnx")
    x = np.arange(1, 33, dtype=np.float32).reshape(SHAPES["x"])
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    compiled = ov.compile_model(openvino_model(tmp_path / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([x])[0], expected)


@pytest.mark.parametrize(
    ("op", "kernel", "stride", "begin", "end", "size", "options"),
    [
        ("AveragePool", 3, 3, 1, 1, (6, 8), {"count_include_pad": 1}),  # on the other axis a last window is dropped
        ("MaxPool", 2, 2, 1, 1, 5, {}),  # the last window starts in the padding
        ("MaxPool", 3, 3, 1, 1, 8, {}),
        ("MaxPool", 3, 2, 1, 1, 8, {}),
        ("AveragePool", 3, 2, 1, 1, 8, {"count_include_pad": 1}),  # it ends beyond the padding
        ("AveragePool", 3, 2, 1, 0, 7, {"count_include_pad": 1}),
        ("AveragePool", 3, 3, 1, 1, 6, {"count_include_pad": 1}),
        ("AveragePool", 2, 2, 1, 1, 5, {"count_include_pad": 1}),
        ("AveragePool", 3, 2, 1, 1, 8, {"count_include_pad": 0}),
    ],
)
def test_pooling_that_rounds_up_has_the_windows_of_onnx(tmp_path, op, kernel, stride, begin, end, size, options):
    """Torch's, ONNX Runtime's and the standard's; one axis rounds up, on the other the windows end with the picture."""
    import onnxruntime as ort
    import openvino as ov

    height, width = size if isinstance(size, tuple) else (size, 3 * stride + kernel)
    sides = (begin, end) if isinstance(size, tuple) else (0, 0)
    x = np.random.default_rng(0).normal(size=(2, 3, height, width)).astype(np.float32)
    pool = helper.make_node(
        op,
        ["x"],
        ["y"],
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[begin, sides[0], end, sides[1]],
        ceil_mode=1,
        **options,
    )
    shapes = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in (("x", ["batch", *x.shape[1:]]), ("y", ["batch", 3, "height", "width"]))
    ]
    graph = helper.make_graph([pool], "graph", shapes[:1], shapes[1:])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    expected = ort.InferenceSession(path).run(None, {"x": x})[0]
    found = ov.Core().compile_model(openvino_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("antialias", "told"), [(1, True), (0, False)])
def test_an_attribute_that_openvino_ignores_is_told(tmp_path, caplog, antialias, told):
    sizes = numpy_helper.from_array(np.array([1, 2, 3, 3]), "sizes")
    resize = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], "shrink", mode="linear", antialias=antialias)
    shapes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims) for name, dims in SHAPES.items()]
    graph = helper.make_graph([resize], "graph", shapes[:1], shapes[1:], [sizes])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "model.onnx"
    )
    openvino_model(tmp_path / "model.onnx")
    assert ("OpenVINO ignores antialias=1 of the Resize 'shrink'" in caplog.text) == told
