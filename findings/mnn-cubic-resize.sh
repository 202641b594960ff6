#!/usr/bin/env bash
# MNN's cubic Resize gives the first row and column the value of another place where a map grows, and ignores
#   cubic_coeff_a.
#
# Versions: mnn 3.6.1, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: with half_pixel, which is the default, the first of 12 pixels made of 6 lies at -0.25, between a repeated
#   edge and pixel 0, and cubic_coeff_a is the filter's coefficient (ONNX Operators.md, Resize: "cubic_coeff_a").
# Seen: the first pixel is computed at 0.75 (-0.25 seems to be cut to 0 instead of rounded down to -1), so it is the
#   third one. A map of 6x6 that becomes 12x12 is wrong in its first row and column; where it shrinks, all places are
#   above 0 and right. With cubic_coeff_a = -0.5, as Pillow and TensorFlow have it, the numbers are those of -0.75.
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

picture = np.random.default_rng(0).standard_normal((1, 1, 6, 6)).astype(np.float32)


def answers(side, coefficient):
    """What ONNX Runtime and MNN make of the picture."""
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="cubic", cubic_coeff_a=coefficient)],
        "resized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, side, side])],
        [numpy_helper.from_array(np.array([1, 1, side, side]), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    files = ["--modelFile", "model.onnx", "--MNNModel", "model.mnn"]
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "x"])
    net = MNN.nn.load_module_from_file("model.mnn", ["x"], ["y"])
    given = MNN.expr.placeholder([1, 1, 6, 6], MNN.expr.NCHW)
    given.write(picture)
    answer = MNN.expr.convert(net.forward([given])[0], MNN.expr.NCHW)
    found = np.array(answer.read()).reshape(side, side)  # a copy, because it lies in the answer's memory
    session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": picture})[0][0, 0], found


right, found = answers(12, -0.75)
print("row 5, first places:", right[5, :3].round(3).tolist(), "MNN's:", found[5, :3].round(3).tolist())
np.testing.assert_allclose(found[1:, 1:], right[1:, 1:], atol=1e-4)
for wrong, third, expected in ((found[0], found[2], right[0]), (found[:, 0], found[:, 2], right[:, 0])):
    np.testing.assert_allclose(wrong, third, atol=1e-4)
    assert np.abs(wrong - expected).max() > 0.5

usual, other = answers(4, -0.75), answers(4, -0.5)
apart = np.abs(other[0] - usual[0]).max()
print(f"-0.5 and -0.75 differ by {apart:.3f} in ONNX Runtime, by {np.abs(other[1] - usual[1]).max():.3f} in MNN")
assert apart > 0.02
np.testing.assert_allclose(usual[1], usual[0], atol=1e-4)
np.testing.assert_array_equal(other[1], usual[1])
PY
