#!/usr/bin/env bash
# onnxslim folds a multiplication along the width of a feature map into the convolution's output channels.
#
# Versions: onnxslim 0.1.98, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: the answer is kept. A constant of shape [4] that multiplies [batch, 4, 4, 4] is aligned with the last axis
#   (ONNX Broadcasting.md, "Multidirectional Broadcasting"): it scales the columns, as a window over the width does.
# Seen: the fusion of Conv and Mul squeezes the constant, compares its length with the number of output channels alone,
#   and scales the channels instead. Shapes [4], [1, 4] and [1, 1, 1, 4] all go wrong where the width equals the
#   channels; the graph is one Conv shorter, it is valid, and nothing is printed. A constant of [4, 1, 1] is right.
#   onnxslim's own comparison with ONNX Runtime (model_check=True) is off by default.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
import onnxslim
from onnx import TensorProto, helper, numpy_helper

generator = np.random.default_rng(0)
weights = generator.standard_normal((4, 3, 3, 3)).astype(np.float32)
picture = generator.standard_normal((2, 3, 6, 6)).astype(np.float32)
window = np.array([1, 2, 3, 4], np.float32)


def answer(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": picture})[0]


def model_with(scale):
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Mul", ["c", "scale"], ["y"])],
        "windowed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 4, 4])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(scale, "scale")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


for shape, kept in (((4, 1, 1), True), ((4,), False), ((1, 4), False), ((1, 1, 1, 4), False)):
    before = model_with(window.reshape(shape))
    after = onnxslim.slim(onnx.ModelProto.FromString(before.SerializeToString()))
    difference = float(np.abs(answer(before) - answer(after)).max())
    print(f"scale {shape}: {[node.op_type for node in after.graph.node]}, largest difference {difference:.3f}")
    assert (difference < 1e-4) == kept
    if not kept:
        unscaled = answer(before) / window
        np.testing.assert_allclose(answer(after), unscaled * window.reshape(4, 1, 1), rtol=1e-4, atol=1e-4)
PY
