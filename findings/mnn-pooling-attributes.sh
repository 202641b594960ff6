#!/usr/bin/env bash
# MNN's pooling ignores dilations, and takes SAME_LOWER for SAME_UPPER, as its convolution does.
#
# Versions: mnn 3.6.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: a MaxPool with dilations of 2 looks at every other pixel, and with SAME_LOWER the odd row of padding is at
#   the start (ONNX Operators.md, MaxPool: "dilations", "auto_pad").
# Seen: the answer with dilations is that of the kernel without them: other values, and a larger map. With SAME_LOWER a
#   3x3 kernel with stride 2 on 6x6 answers as with SAME_UPPER, which pads the other side, in MaxPool and in Conv. The
#   conversion ends with success.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  mnn==3.6.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import _tools  # what MNN's command mnnconvert calls
import MNN
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

picture = np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype(np.float32)
weights = np.random.default_rng(1).standard_normal((2, 2, 3, 3)).astype(np.float32)


def answers(operator, kernel, **attributes):
    """What ONNX Runtime and MNN make of the picture."""
    conv = operator == "Conv"
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"] if conv else ["x"], ["y"], kernel_shape=[kernel] * 2, **attributes)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "height", "width"])],
        [numpy_helper.from_array(weights, "w")] if conv else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    files = ["--modelFile", "model.onnx", "--MNNModel", "model.mnn"]
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "x"])
    given = MNN.expr.placeholder([1, 2, 6, 6], MNN.expr.NCHW)
    given.write(picture)
    answer = MNN.nn.load_module_from_file("model.mnn", ["x"], ["y"]).forward([given])[0]
    answer = MNN.expr.convert(answer, MNN.expr.NCHW)
    found = np.array(answer.read()).reshape(answer.shape)  # a copy, because it lies in the answer's memory
    session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": picture})[0], found


right, found = answers("MaxPool", 2, dilations=[2, 2], strides=[1, 1])
plain, _ = answers("MaxPool", 2, strides=[1, 1])
print(f"dilations of 2: {right.shape}, MNN's {found.shape}, without dilations: {plain.shape}")
assert right.shape == (1, 2, 4, 4)
np.testing.assert_allclose(found, plain, atol=1e-5)

for operator in ("MaxPool", "Conv"):
    upper, found_upper = answers(operator, 3, strides=[2, 2], auto_pad="SAME_UPPER")
    lower, found_lower = answers(operator, 3, strides=[2, 2], auto_pad="SAME_LOWER")
    share = float(np.isclose(found_lower, lower, atol=1e-4).mean())
    np.testing.assert_allclose(found_upper, upper, atol=1e-4)
    np.testing.assert_allclose(found_lower, upper, atol=1e-4)
    print(f"{operator}, SAME_LOWER: right share {share:.2f}; all as with SAME_UPPER")
    assert share < 0.7
PY
