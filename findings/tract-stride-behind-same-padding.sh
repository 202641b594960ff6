#!/usr/bin/env bash
# tract moves the stride of a 1x1 convolution to a padded convolution before it, whose padding then becomes another.
#
# Versions: tract 0.23.9, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Expected: a 3x3 convolution with auto_pad SAME_UPPER and stride 1 is padded by one row on either side, whatever
#   follows (ONNX Operators.md, Conv: "auto_pad"). A 1x1 convolution with stride 2 behind it, as in a ResNet's shortcut,
#   takes every other place of what it answers.
# Seen: with and without a Relu between, the answer is that of a 3x3 convolution with stride 2 and SAME_UPPER, which on
#   an even size is padded at the end alone: every place lies one row and one column further. The shape is right, and
#   nothing is printed. With the pads written out, or with a 3x3 convolution behind, tract is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
import tract
from onnx import TensorProto, helper, numpy_helper

generator = np.random.default_rng(0)
picture = generator.standard_normal((1, 3, 8, 8)).astype(np.float32)


def answers(padding, relu, kernel, strides):
    """What ONNX Runtime and tract answer for two convolutions with these strides."""
    weights = [np.random.default_rng(1).standard_normal(shape) for shape in ((4, 3, 3, 3), (2, 4, kernel, kernel))]
    tensors = [numpy_helper.from_array(one.astype(np.float32), name) for one, name in zip(weights, "ab", strict=True)]
    first = helper.make_node("Conv", ["x", "a"], ["c"], strides=[strides[0]] * 2, **padding)
    between = [helper.make_node("Relu", ["c"], ["r"])] if relu else []
    last = helper.make_node("Conv", ["r" if relu else "c", "b"], ["y"], strides=[strides[1]] * 2)
    side = 4 if kernel == 1 else 3
    graph = helper.make_graph(
        [first, *between, last],
        "shortcut",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, side, side])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    runnable = tract.onnx().load("model.onnx").into_model().into_runnable()
    return session.run(None, {"x": picture})[0], runnable.run([picture])[0].to_numpy()


same, written = {"auto_pad": "SAME_UPPER"}, {"pads": [1, 1, 1, 1]}
for relu in (False, True):
    for title, padding, kernel in (("SAME_UPPER", same, 1), ("pads", written, 1), ("SAME_UPPER", same, 3)):
        right, found = answers(padding, relu, kernel, (1, 2))
        wrong = padding is same and kernel == 1
        share = float(np.isclose(found, right, rtol=1e-3, atol=1e-4).mean())
        print(f"{title}, {'Relu, ' if relu else ''}{kernel}x{kernel} with stride 2 behind: right share {share}")
        assert (share < 0.2) == wrong
        moved = answers(padding, relu, kernel, (2, 1))[0] if wrong else right
        np.testing.assert_allclose(found, moved, rtol=1e-3, atol=1e-4)
PY
