#!/usr/bin/env bash
# Pooling with ceil_mode: OpenVINO keeps a window that ONNX drops, and divides a mean by zeros that do not exist.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: with ceil_mode=1 a last window that would start in the padding at the end is dropped, and an AveragePool with
#   count_include_pad=1 counts the padding and nothing beyond it: with a kernel of 3, a stride of 2, a padding of 1 and
#   ones of 6x6, the last window holds one pixel and three cells of padding, so its mean is 1/4. ONNX's reference
#   evaluator, PyTorch and ONNX Runtime do both.
# Seen: MaxPool gives a row and a column more, with the lowest float where no pixel is. AveragePool divides by the whole
#   kernel, 9, wherever the window ends beyond the padding. No message in either case.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cd "$work"
CI=true venv/bin/python - <<'PY'
import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def answers(op: str, kernel: int, size: int, **options: int) -> tuple[np.ndarray, np.ndarray]:
    """What the reference evaluator and OpenVINO answer for ones of size x size, a stride of 2 and a padding of 1."""
    pool = helper.make_node(
        op, ["x"], ["y"], kernel_shape=[kernel] * 2, strides=[2, 2], pads=[1] * 4, ceil_mode=1, **options
    )
    x = np.ones((1, 1, size, size), np.float32)
    shapes = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "height", "width"]),
    ]
    graph = helper.make_graph([pool], "graph", shapes[:1], shapes[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)([x])[0]
    return ReferenceEvaluator(model).run(None, {"x": x})[0][0, 0], found[0, 0]


expected, found = answers("MaxPool", 2, 5)
print(f"MaxPool: expected {expected.shape} of ones, found {found.shape} with {found[-1, -1]} in the last corner")
assert expected.shape == (3, 3)
assert found.shape == (4, 4)
assert found[-1, -1] == np.finfo(np.float32).min

expected, found = answers("AveragePool", 3, 6, count_include_pad=1)
print(f"AveragePool: expected {expected[-1].round(3).tolist()} in the last row, found {found[-1].round(3).tolist()}")
np.testing.assert_allclose(expected[-1], [1 / 3, 1 / 2, 1 / 2, 1 / 4], rtol=1e-6)
np.testing.assert_allclose(found[:-1, :-1], expected[:-1, :-1], rtol=1e-6)
np.testing.assert_allclose(found[-1, -1], 1 / 9, rtol=1e-6)
PY
