#!/usr/bin/env bash
# OpenCV's dnn pads a convolution or pooling with auto_pad on the wrong side, or by another amount.
#
# Versions: opencv-python-headless 5.0.0.93, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: with auto_pad an odd number of padded rows has the extra one at the end for SAME_UPPER and at the start for
#   SAME_LOWER (ONNX Operators.md, Conv, MaxPool, AveragePool: "auto_pad"). Models that come from TensorFlow have it.
# Seen: a 3x3 kernel with stride 2 on an even size, which is the first layer of most mobile nets, needs one row. With
#   SAME_UPPER OpenCV pads before the picture instead of behind it, so the answer is that of SAME_LOWER. With SAME_LOWER
#   a 2x2 kernel is padded behind, as for SAME_UPPER. Conv, MaxPool and AveragePool alike, with no message. The same
#   layer with its pads written out is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import cv2
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

generator = np.random.default_rng(0)
CASES = [("SAME_UPPER", 3, 2, [0, 0, 1, 1]), ("SAME_LOWER", 2, 1, [1, 1, 0, 0])]


def answers(operator, kernel, stride, weights, picture, **padding):
    """What ONNX Runtime and OpenCV answer."""
    shape = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])]
    inputs = ["x", "w"] if operator == "Conv" else ["x"]
    about = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], **padding}
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], **about)],
        "padded",
        shape,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 6 // stride, 6 // stride])],
        [numpy_helper.from_array(weights, "w")] if operator == "Conv" else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    net.setInput(picture)
    return session.run(None, {"x": picture})[0], net.forward()


for auto_pad, kernel, stride, pads in CASES:
    for operator in ("Conv", "MaxPool", "AveragePool"):
        weights = generator.standard_normal((3, 3, kernel, kernel)).astype(np.float32)
        about = operator, kernel, stride, weights, generator.standard_normal((1, 3, 6, 6)).astype(np.float32)
        right, found = answers(*about, auto_pad=auto_pad)
        for written in answers(*about, pads=pads):
            np.testing.assert_allclose(written, right, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found, answers(*about, pads=pads[2:] + pads[:2])[0], rtol=1e-4, atol=1e-5)
        share = float(np.isclose(found, right, rtol=1e-4, atol=1e-5).mean())
        print(f"{operator} {kernel}x{kernel}, stride {stride}, {auto_pad}: right share {share:.2f}; other side: all")
        assert share < 0.6
PY
