#!/usr/bin/env bash
# A 1x1 convolution with a stride and padding, behind another layer, takes the wrong pixels on OpenVINO's CPU device.
#
# Versions: openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6.
# Expected: the padding is around the input of the convolution, so with a stride of 2 and a padding of 1 the first row
#   and column of the result are padding, and then come the pixels 1, 3, ... (PyTorch's Conv2d(1, stride=2, padding=1)).
# Seen: alone, the convolution is right. Behind a Relu or a convolution, compiling moves the stride to the layer before
#   and leaves the padding where it was: the result has the pixels 0, 2, ... of the input inside the padding, and where
#   both sides are padded even another shape than the model declares. No message. A Pad in front of the convolution has
#   the same effect, because it is merged first. A kernel of 2x2 whose other weights are 0 gives the right answer.
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
from onnx import TensorProto, helper, numpy_helper

x = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)


def answer(pads: list[int], kernel: int = 1, before: bool = True) -> np.ndarray:
    """What OpenVINO computes for [Relu,] Conv with a stride of 2 and the weight 1."""
    weights = np.zeros((1, 1, kernel, kernel), np.float32)
    weights[..., 0, 0] = 1
    begin, end = pads[:2], [side + kernel - 1 for side in pads[2:]]
    conv = helper.make_node("Conv", ["r" if before else "x", "w"], ["y"], pads=[*begin, *end], strides=[2, 2])
    nodes = [helper.make_node("Relu", ["x"], ["r"]), conv] if before else [conv]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, side, side]) for name, side in sides.items()]
    graph = helper.make_graph(nodes, "graph", shapes[:1], shapes[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)([x])[0][0, 0]


sides = {"x": 4, "y": 3}
for pads, what in (([1, 1, 0, 0], "padded at the top and left"), ([1, 1, 1, 1], "padded all around")):
    padded = np.pad(x[0, 0], [(pads[0], pads[2]), (pads[1], pads[3])])
    right = padded[::2, ::2]
    found = answer(pads)
    print(f"{what}: expected {right.tolist()}, found {found.tolist()}")
    np.testing.assert_array_equal(answer(pads, before=False), right)
    np.testing.assert_array_equal(answer(pads, kernel=2), right)
    assert found.shape != right.shape or (found != right).any(), "it is right now"
PY
