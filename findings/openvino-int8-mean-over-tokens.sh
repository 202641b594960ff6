#!/usr/bin/env bash
# In INT8, OpenVINO's mean over the tokens of a transformer is right for the first picture of a batch only.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6; x86-64 with AVX-512.
# Expected: ReduceMean over axis 1 of quantised tokens `[B, S, C]`, the pooling of a transformer, is the mean of each
#   picture, as in ONNX Runtime.
# Seen: the CPU plugin computes it on bytes (its executed graph names the kernel jit_avx512_I8) where the result stays
#   in float, and only the first row is right: the others are zeros or what memory held. A batch of one is right, so is
#   the same mean over two axes of `[B, C, H, W]`, over the last axis, and with LP_TRANSFORMS_MODE=NO. ReduceL1 is wrong
#   in the same way. Where the result is quantised again, it is right.
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


def wrong_rows(shape: list[int], axes: list[int], int8: str = "on") -> list[int]:
    """The pictures of a batch for which the two runtimes differ in a mean over quantised values."""
    left = [side for axis, side in enumerate(shape) if axis not in axes]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["values"]),
        helper.make_node("ReduceMean", ["values"], ["y"], axes=axes, keepdims=0),
    ]
    grid = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(0), "zero")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, left)
    graph = helper.make_graph(nodes, "graph", [x], [y], grid)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    given = np.random.default_rng(0).uniform(1, 5, shape).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    right = session.run(None, {"x": given})[0]
    settings = {"INFERENCE_PRECISION_HINT": "f32"} | ({"LP_TRANSFORMS_MODE": "NO"} if int8 == "off" else {})
    core = openvino.Core()
    found = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)([given])[0]
    rows = [row for row in range(shape[0]) if np.abs(found[row] - right[row]).max() > 1e-3]
    print(f"mean of {shape} over {axes}, INT8 {int8}: wrong pictures {rows}")
    return rows


assert wrong_rows([4, 49, 16], [1]) == [1, 2, 3]
assert wrong_rows([1, 49, 16], [1]) == []
assert wrong_rows([4, 49, 16], [1], int8="off") == []
assert wrong_rows([4, 49, 16], [2]) == []
assert wrong_rows([4, 16, 7, 7], [2, 3]) == []
PY
