#!/usr/bin/env bash
# In INT8, OpenVINO's average pooling pads with the byte 0, which is a large negative number wherever the zero point is
#   not 0.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6; x86-64.
# Expected: the padding of a pooling that counts it (ONNX's count_include_pad=1, the default of PyTorch's AvgPool2d) is
#   0.0, so its byte is the zero point, as in ONNX Runtime with and without optimisations.
# Seen: the CPU plugin runs the pooling on the bytes and pads with 0, which stands for -scale x zero point: 0.1 x 128 =
#   12.8 below zero. Every window at the border is wrong by up to its share of padding (nearly the whole range at the
#   corner). It is right with a zero point of 0, with count_include_pad=0, and with LP_TRANSFORMS_MODE=NO. Q/DQ graphs
#   and NNCF's models are both affected, wherever values on both sides of 0 (SiLU, HardSwish, GELU, sums) are pooled.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
CI=true ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper


def pooling(zero_point: int, counts: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["values"]),
        helper.make_node("AveragePool", ["values"], ["y"], kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=counts),
    ]
    grid = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(zero_point), "zero")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 5, 5])
    graph = helper.make_graph(nodes, "graph", [x], [y], grid)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


x = np.ones((1, 1, 4, 4), np.float32)
for zero_point, counts, mode in ((128, 1, "yes"), (0, 1, "yes"), (128, 0, "yes"), (128, 1, "NO")):
    data = pooling(zero_point, counts).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    right = session.run(None, {"x": x})[0][0, 0]
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"} | ({"LP_TRANSFORMS_MODE": "NO"} if mode == "NO" else {})
    found = core.compile_model(core.read_model(data), "CPU", settings)([x])[0][0, 0]
    print(f"zero point {zero_point}, count_include_pad {counts}, INT8 {mode}: corner {found[0, 0]:.2f}, right {right[0, 0]:.2f}")
    wrong = (zero_point, counts, mode) == (128, 1, "yes")
    assert np.isclose(right[0, 0], 0.25 if counts else 1.0)
    assert np.isclose(found[0, 0], 0.25 - 0.75 * 12.8 if wrong else right[0, 0]), found
    assert np.allclose(found, right, atol=1e-4) != wrong
PY
